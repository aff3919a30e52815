//! Operational rules: what is measured, from where, and what is said where there is nothing to measure.

use std::sync::atomic::Ordering;

use karat_core::{
    Digest, Finding, Host, Outcome, Step, Verdict, port::NeverStop, summary::CodeVersion,
};
use karat_pipeline::AfterPass;
use karat_testkit::fake::{OTHER_DEVICE, SHIFT};

use crate::bench::{Bench, POLICY};

/// A bench whose gate also asks for these measures, each with its bound.
fn asking(rules: &[(&str, &str)]) -> Bench {
    let mut bench = Bench::new();
    bench.policy = POLICY.to_owned();
    for (measure, bound) in rules {
        let rule = format!("[[gate.release.rule]]\nmetric = \"{measure}\"\n{bound}\n");
        bench.policy.push_str(&rule);
    }
    bench
}

fn judged(bench: &Bench, set: &str) -> Verdict {
    let store = bench.store();
    let whole = bench.pass_with(&store, set, AfterPass::Leave, &NeverStop, |_| {}).done();
    whole.summary.verdict.expect("judged")
}

#[track_caller]
fn about<'a>(verdict: &'a Verdict, measure: &str) -> &'a Finding {
    verdict
        .findings
        .iter()
        .find(|it| it.subject.contains(measure))
        .unwrap_or_else(|| panic!("nothing about {measure} in {:?}", verdict.findings))
}

#[track_caller]
fn expect(verdict: &Verdict, measure: &str, value: f64) {
    let found = verdict.operational[measure];
    assert!((found - value).abs() < 1e-9, "{measure}: {found}, expected {value}");
}

#[test]
fn times_are_those_of_the_scoring_and_asking_again_gives_the_same() {
    let bench = asking(&[
        ("rows_per_second", "min = 1000"),
        ("latency_p50_ms", "max = 1000"),
        ("latency_p95_ms", "max = 100"),
        ("peak_memory_mib", "max = 64"),
        ("model_size_mib", "max = 1"),
    ]);
    // Four looks at a watch that goes on by a quarter of a second: begin, batch begins, batch ends, end.
    let first = judged(&bench, "");
    expect(&first, "rows_per_second", 2000.0 / 0.75);
    expect(&first, "latency_p50_ms", 250.0);
    expect(&first, "peak_memory_mib", 64.0);
    assert!((0.0..0.01).contains(&first.operational["model_size_mib"]));
    assert_eq!(about(&first, "latency_p50_ms").outcome, Outcome::Pass);
    assert_eq!(about(&first, "latency_p95_ms").outcome, Outcome::Fail);
    assert_eq!(about(&first, "peak_memory_mib").outcome, Outcome::Pass, "64 is at most 64");
    assert_eq!(first.outcome, Outcome::Fail);

    let _ = bench.tables.calls.take();
    assert_eq!(judged(&bench, ""), first);
    assert_eq!(bench.tables.calls.take(), [""; 0], "what was measured is not measured again");
    let _ = judged(&bench, "score.batch_size=7");
    let calls = bench.tables.calls.take();
    assert_eq!(calls.iter().filter(|it| **it == "score").count(), 1, "times of other batches");
}

#[test]
fn nothing_is_measured_that_no_rule_asks_for() {
    let bench = Bench::new();
    let _ = judged(&bench, "");
    assert!(judged(&bench, "train.seed=2").operational.is_empty());
    let calls = bench.tables.calls.take();
    assert_eq!(calls.iter().filter(|it| **it == "encode").count(), 2, "two trainings: {calls:?}");
}

#[test]
fn parity_compares_with_the_cpu_and_not_with_itself() {
    let rules = [
        ("parity_max", "max = 0.0005"),
        ("parity_p999", "max = 0.01"),
        ("parity_flips", "max = 0"),
    ];
    let bench = asking(&rules);
    let own = judged(&bench, "");
    let finding = about(&own, "parity_max");
    assert_eq!(finding.outcome, Outcome::NotApplied);
    assert!(finding.message.contains("scored on `cpu` in f32"), "{}", finding.message);
    assert_eq!(own.outcome, Outcome::Fail, "a rule that could not be applied is no pass");

    let bench = asking(&rules);
    let other = judged(&bench, &format!("train.device={OTHER_DEVICE:?}"));
    let max = other.operational["parity_max"];
    assert!((max - f64::from(SHIFT)).abs() < 1e-6, "{max}");
    assert_eq!(about(&other, "parity_max").outcome, Outcome::Fail);
    assert_eq!(about(&other, "parity_p999").outcome, Outcome::Pass);
    // The scores are spread over 0 to 1, so about one row in 1,024 is that close to one half.
    let flips = other.operational["parity_flips"];
    assert!(flips < 0.005, "{flips}");
}

#[test]
fn robustness_is_the_share_of_answers_that_a_disturbance_changes() {
    let none = "max = 1";
    let bench = asking(&[
        ("robustness(noise=0.001)", none),
        ("robustness(noise=0.2)", none),
        ("robustness(missing=1)", none),
    ]);
    let found = judged(&bench, "").operational;
    let [little, much] = ["noise=0.001", "noise=0.2"].map(|it| found[&format!("robustness({it})")]);
    assert!(little < 0.01 && 0.05 < much && much < 0.5, "{little} {much}");
    // Without its feature the fake says "no" to everybody: those who were "yes" change.
    let all = found["robustness(missing=1)"];
    assert!((0.4..0.6).contains(&all), "{all}");
}

#[test]
fn a_replay_is_done_when_a_rule_asks_and_its_difference_fails() {
    let rules = [("replay_identical", ""), ("checks_passed", "")];
    let bench = asking(&rules);
    let same = judged(&bench, "");
    expect(&same, "replay_identical", 1.0);
    expect(&same, "checks_passed", 1.0);
    assert_eq!(same.outcome, Outcome::Pass);
    let n_trained =
        |bench: &Bench| bench.engine.calls.take().iter().filter(|it| **it == "train").count();
    assert_eq!(n_trained(&bench), 2, "once, and once again");
    assert_eq!(judged(&bench, ""), same);
    assert_eq!(n_trained(&bench), 0);

    let bench = asking(&rules);
    let store = bench.store();
    let fickle = bench
        .pass_with(&store, "", AfterPass::Leave, &NeverStop, |event| {
            if let karat_core::Event::StepStarted { step: Step::Replay, .. } = event {
                bench.engine.slips_at.store(4, Ordering::SeqCst);
            }
        })
        .done();
    let verdict = fickle.summary.verdict.expect("judged");
    expect(&verdict, "replay_identical", 0.0);
    assert_eq!(about(&verdict, "replay_identical").outcome, Outcome::Fail);
}

#[test]
fn a_lineage_with_a_gap_names_it() {
    let rules = [("lineage_complete", ""), ("clean_git", "")];
    let mut bench = asking(&rules);
    let bare = judged(&bench, "");
    for measure in ["lineage_complete", "clean_git"] {
        let finding = about(&bare, measure);
        assert_eq!(finding.outcome, Outcome::NotApplied);
        assert!(finding.message.contains("records no commit"), "{}", finding.message);
    }

    let of = |is_dirty: bool| CodeVersion {
        commit: Some("0123456789abcdef0123456789abcdef01234567".to_owned()),
        is_dirty: Some(is_dirty),
        dvc: None,
    };
    bench.code = of(true);
    let dirty = judged(&bench, "train.seed=2");
    assert!(about(&dirty, "lineage_complete").message.contains("no digest of the executable"));
    assert_eq!(about(&dirty, "clean_git").outcome, Outcome::Fail);

    bench.code = of(false);
    bench.host = Box::new(|| Host { binary: Some(Digest::of(b"karat")), ..Host::default() });
    let whole = judged(&bench, "train.seed=3");
    assert_eq!(whole.outcome, Outcome::Pass, "{:?}", whole.findings);
    assert_eq!(whole.judged.binary, Some(Digest::of(b"karat")));
    assert_eq!(whole.judged.code, of(false));

    // A record that is gone, after the verdict: no cached pass hides it.
    let store = bench.store();
    let third = store.version(&"fake".parse().expect("a name"), 3).expect("registered");
    std::fs::remove_file(store.path(&third.outputs["metrics.jsonl"])).expect("removes");
    let again = bench.judge(&store, 3);
    assert_eq!(about(&again, "lineage_complete").outcome, Outcome::NotApplied);
}
