//! A step is a function of (spec, input digests, seed, tool version, device class): what is known is not done again, what
//! has changed is, and nothing else.

use std::sync::atomic::Ordering;

use karat_core::{Exit, Schema, Step, policy::Gate, port::NeverStop};
use karat_pipeline::{AfterPass, pick_gate};

use crate::bench::{Bench, Pass, Seen, lasting, name, rot, version};

fn done_again(pass: &Pass) -> Vec<Step> {
    pass.cached().into_iter().filter(|(_, is_cached)| !is_cached).map(|(step, _)| step).collect()
}

#[test]
fn a_second_pass_does_nothing_again_and_says_the_same() {
    let bench = Bench::new();
    let store = bench.store();
    let first = bench.pass(&store, "").done();
    let mut n_rendered = 0;
    let mut keep = |summary| {
        let render = |_: &_| {
            n_rendered += 1;
            vec![("report.md", "a page".to_owned())]
        };
        bench.lab(&store, &NeverStop).keep_reports(summary, render)
    };
    let files = keep(&first.summary).expect("kept");
    let _ = bench.tables.calls.take();
    let _ = bench.engine.calls.take();

    let second = bench.pass(&store, "");
    assert_eq!(done_again(&second), []);
    assert_eq!(bench.tables.calls.take(), [""; 0], "rows were read again");
    assert_eq!(bench.engine.calls.take(), [""; 0], "numbers were computed again");
    let second = second.done();
    assert_eq!(second.exit, Exit::Pass);
    assert_eq!(second.summary, first.summary);
    assert_eq!(second.outputs, first.outputs);
    assert_eq!(keep(&second.summary).expect("kept"), files);
    assert_eq!(n_rendered, 1, "the same summary is not rendered twice");
}

#[test]
fn a_changed_hyperparameter_meets_the_champion_on_the_same_rows() {
    let bench = Bench::new();
    let store = bench.store();
    let first = bench.pass(&store, "").done();
    let _ = bench.tables.calls.take();
    let second = bench.pass(&store, "train.hidden=[8]");
    assert_eq!(
        done_again(&second),
        [Step::Train, Step::Register, Step::Score, Step::Gate, Step::Promote]
    );
    let calls = bench.tables.calls.take();
    assert!(!calls.contains(&"measure"), "{calls:?}");
    assert_eq!(calls.iter().filter(|it| **it == "score").count(), 1, "the champion's are known");
    let (old, new) =
        (first.summary.verdict.expect("judged"), second.done().summary.verdict.expect("judged"));
    assert_eq!(new.baseline, "fake@1");
    assert_eq!(new.judged.rows, old.judged.rows);
    assert_eq!(new.judged.baseline, Some(old.judged.candidate));
    assert_eq!(new.judged.baseline_predictions, Some(old.judged.predictions));
}

#[test]
fn on_changed_rows_the_champion_is_scored_again() {
    let bench = Bench::new();
    let store = bench.store();
    let first = bench.pass(&store, "").done().summary.verdict.expect("judged");
    bench.tables.content.store(1, Ordering::Relaxed);
    let _ = bench.tables.calls.take();
    let second = bench.pass(&store, "");
    assert!(second.cached().iter().all(|(_, is_cached)| !is_cached), "{:?}", second.cached());
    let calls = bench.tables.calls.take();
    assert_eq!(calls.iter().filter(|it| **it == "score").count(), 2, "candidate and champion");
    let second = second.done().summary.verdict.expect("judged");
    assert_ne!(second.judged.rows, first.judged.rows);
    assert_eq!(second.judged.baseline, Some(first.judged.candidate));
    assert_ne!(second.judged.baseline_predictions, Some(first.judged.predictions));
}

#[test]
fn another_seed_or_tool_trains_and_another_thread_count_or_checkpoint_policy_does_not() {
    let mut bench = Bench::new();
    let store = bench.store();
    let _ = bench.pass(&store, "").done();
    let set = "train.threads=3 train.checkpoint.every_updates=5 score.batch_size=7";
    assert_eq!(done_again(&bench.pass(&store, set)), []);
    assert!(done_again(&bench.pass(&store, "train.seed=2")).contains(&Step::Train));
    bench.tool = "karat test 2".to_owned();
    let other = bench.pass(&store, "");
    for step in [Step::Check, Step::Train, Step::Score, Step::Gate] {
        assert!(done_again(&other).contains(&step), "{} was not done again", step.word());
    }
}

#[test]
fn other_settings_of_a_check_are_judged_without_counting_again() {
    let bench = Bench::new();
    let store = bench.store();
    let first = bench.pass(&store, "").done();
    let _ = bench.tables.calls.take();
    let second = bench.pass(&store, "check={\"label.balance\"={level=\"off\"}}");
    assert!(!bench.tables.calls.take().contains(&"measure"));
    assert_ne!(second.done().summary.checks, first.summary.checks);
}

#[test]
fn a_damaged_output_is_told_and_made_again() {
    let bench = Bench::new();
    let store = bench.store();
    let first = bench.pass(&store, "").done();
    for (file, step) in [
        ("model.safetensors", Step::Train),
        ("metrics.jsonl", Step::Train),
        ("predictions.parquet", Step::Score),
        ("verdict.json", Step::Gate),
    ] {
        rot(&store.path(&first.outputs[file]));
        let again = bench.pass(&store, "");
        assert_eq!(done_again(&again), [step], "{file}");
        let warnings = again.warnings();
        assert!(
            warnings.iter().any(|(code, message)| *code == "output-damaged"
                && message.contains(file)
                && message.contains("does not match its digest")),
            "{file}: {warnings:?}"
        );
        let again = again.done();
        assert_eq!(lasting(&again), lasting(&first), "{file}: other bytes");
        assert_eq!(again.summary.verdict, first.summary.verdict);
        let report = store.verify(true, &mut |_, _| {}).expect("readable");
        assert_eq!(report.problems, [""; 0], "{file}: not healed");
    }
}

#[test]
fn a_lost_record_of_times_does_not_spoil_the_version() {
    let bench = Bench::new();
    let store = bench.store();
    let first = bench.pass(&store, "").done();
    std::fs::remove_file(store.path(&first.outputs["throughput.jsonl"])).expect("removes");
    assert_eq!(bench.pass(&store, "").done().exit, Exit::Pass);
    let outputs = version(&store, 1).outputs;
    assert!(!outputs.contains_key("throughput.jsonl"), "{outputs:?}");
}

#[test]
fn a_damaged_record_of_an_old_snapshot_stops_nobody() {
    let bench = Bench::new();
    let store = bench.store();
    let first = bench.pass(&store, "").done();
    let known = serde_json::to_vec_pretty(&first.frozen.located.snapshot).expect("serialises");
    rot(&store.path(&karat_core::Digest::of(&known)));
    assert_eq!(bench.pass(&store, "").done().exit, Exit::Pass);
    let report = store.verify(true, &mut |_, _| {}).expect("readable");
    assert_eq!(report.problems, [""; 0], "kept again");
}

#[test]
fn what_cannot_work_is_refused_before_any_work() {
    let mut bench = Bench::new();
    let store = bench.store();
    let failure = bench.pass(&store, "score.split=\"holduot\"").failed();
    assert_eq!(failure.code.as_str(), "split-unknown");
    assert_eq!(failure.exit, Exit::Usage);
    bench.policy = "version = 1\n[gate.release]\nbaseline = \"none\"\n".to_owned();
    let failure = bench.pass(&store, "").failed();
    assert_eq!((failure.code.as_str(), failure.exit), ("gate-empty", Exit::Nothing));
    assert_eq!(bench.tables.calls.take(), [""; 0]);
}

/// A gate may name its model and a split of its own.
#[test]
fn a_gate_judges_the_model_and_the_split_that_it_names() {
    let bench = Bench::new();
    let store = bench.store();
    let (project, mut policy) = (Bench::project("score.split=train"), bench.policy());
    let lab = bench.lab(&store, &NeverStop);
    let mut pass = |set: &dyn Fn(&mut Gate)| {
        policy.gates.values_mut().for_each(set);
        let gate = pick_gate(&policy, None).expect("one gate");
        let after = AfterPass::Leave;
        lab.run(&mut Seen::default(), &project, Schema::default(), &policy, gate, after)
    };
    let failure = pass(&|gate| gate.model = Some(name("other"))).expect_err("of model fake");
    assert_eq!((failure.code.as_str(), failure.exit), ("gate-other-model", Exit::Usage));
    assert_eq!(bench.tables.calls.take(), [""; 0], "refused before any work");
    let failure = pass(&|gate| {
        gate.model = Some(name("fake"));
        gate.split = Some(name("holdoot"));
    });
    assert_eq!(failure.expect_err("no such split").code.as_str(), "split-unknown");
    pass(&|gate| gate.split = Some(name("holdout"))).expect("judged");
    let run = store.runs(100).expect("readable").into_iter().find(|it| it.step == Step::Score);
    let subject = run.expect("scored").subject;
    assert!(subject.starts_with("split `holdout`"), "{subject}");
}

#[test]
fn rows_that_fail_the_run_stay_where_the_message_says() {
    let bench = Bench::new();
    let store = bench.store();
    bench.tables.refuses_rows.store(true, Ordering::Relaxed);
    let failure = bench.pass(&store, "").failed();
    assert_eq!((failure.code.as_str(), failure.exit), ("quarantine-exceeded", Exit::Fail));
    let detail =
        failure.details.iter().find(|it| it.contains("all of them are in")).expect("where");
    let path = detail.rsplit(' ').next().expect("a path");
    assert!(std::fs::read_to_string(path).expect("kept").contains("not a number"));
    store.gc(std::time::Duration::ZERO, false, karat_core::Timestamp(i64::MAX)).expect("collects");
    assert!(std::path::Path::new(path).exists(), "the failed run names it");
}
