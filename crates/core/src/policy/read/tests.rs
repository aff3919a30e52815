//! What `gate.toml` may say and what is refused in it, each with its place.

use crate::{
    Document, Failure, Name,
    policy::{
        Adaptivity, BaselineRef, Bound, Budget, Change, Correction, Gate, Measure, Perturbation,
        Policy, Reveal, SliceRef,
    },
};

const GOOD: &str = r#"version = 1
[gate.release]
baseline = "@champion"
reliability = 0.9
without_baseline = "absolute-rules-only"
[[gate.release.rule]]
name = "ranks at all"
metric = "auc"
min = 0.64
[[gate.release.rule]]
name = "not worse anywhere"
metric = "roc_auc"
slices = ["all", "evening", "carrier=UA", "carrier=*"]
max_regression = { absolute = 0.005 }
n_rows_min = 2000
[[gate.release.rule]]
metric = "log_loss"
max_improvement = { relative = 0.5 }
[[gate.release.waiver]]
rule = "ranks at all"
until = 2026-12-31
by = "ana"
reason = "September labels arrive late"
"#;

fn read(text: &str) -> Result<Policy, Failure> {
    Policy::read(&Document::parse("gate.toml", text)?)
}

#[test]
fn a_good_file_fills_every_default() {
    let policy = read(GOOD).expect("valid");
    let gate = policy.gates.values().next().expect("one gate");
    assert_eq!(gate.baseline, BaselineRef::Alias("champion".parse().expect("a name")));
    assert!(gate.unbaselined_is_allowed && !gate.inconclusive_is_allowed);
    assert_eq!(gate.n_resamples, 9_999);
    assert_eq!(
        gate.rules[1].slices,
        [
            SliceRef::All,
            SliceRef::Named("evening".to_owned()),
            SliceRef::Named("carrier=UA".to_owned()),
            SliceRef::Every("carrier".to_owned())
        ]
    );
    assert_eq!(gate.rules[0].slices, [SliceRef::All]);
    assert_eq!(gate.rules[2].bound, Bound::MaxImprovement(Change::Relative(0.5)));
    assert_eq!(gate.rules[2].name, "log_loss not better by more than 0.5 of the baseline's value");
    assert!(gate.rules[2].warns_only && !gate.rules[0].warns_only);
    assert_eq!(gate.waivers[0].until, "2026-12-31");
}

#[test]
fn the_digest_is_of_the_meaning_not_the_text() {
    let digest = |text: &str| read(text).expect("valid").digest;
    assert_eq!(digest(GOOD), digest(&format!("# a comment\n{GOOD}\n")));
    assert_ne!(digest(GOOD), digest(&GOOD.replace("0.64", "0.65")));
    assert_ne!(digest(GOOD), digest(&GOOD.replace("2026-12-31", "2027-12-31")));
}

#[test]
fn baselines_are_read_in_all_forms() {
    for (text, expected) in [
        ("@7", BaselineRef::Version(7)),
        ("naive", BaselineRef::Naive),
        ("@stable", BaselineRef::Alias("stable".parse().expect("a name"))),
    ] {
        let policy = read(&GOOD.replace("@champion", text)).expect(text);
        assert_eq!(policy.gates.values().next().expect("one").baseline, expected);
    }
}

#[test]
fn messages_say_asked_allowed_and_where() {
    let failure = read(&GOOD.replace("n_rows_min = 2000", "min = 0.5")).expect_err("two bounds");
    assert_eq!(
        failure.message,
        "the rule has `min` and `max_regression`, must have one bound: write two rules"
    );
    assert_eq!(failure.details, ["--> gate.toml:14:18"]);
    let failure = read(&GOOD.replace("n_rows_min", "rows_min")).expect_err("unknown key");
    assert_eq!(failure.details, ["--> gate.toml:15:1"]);
    assert_eq!(failure.hints, ["the nearest known word is `n_rows_min`"]);
    let failure = read(&GOOD.replace("rule = \"ranks", "rule = \"rank")).expect_err("no rule");
    assert_eq!(
        failure.message,
        "no rule is called `rank at all`: the nearest are `ranks at all`, `not worse anywhere`, `log_loss not better by more than 0.5 of the baseline's value`"
    );
}

#[test]
fn every_bad_value_is_refused_with_its_place() {
    for (from, to) in [
        ("version = 1", "version = 2"),
        ("reliability = 0.9", "reliability = 1"),
        ("reliability = 0.9", "reliability = nan"),
        ("reliability = 0.9", "power = 0.2"),
        ("reliability = 0.9", "n_resamples = 998"),
        ("reliability = 0.9", "reliability = 0.9995\nn_resamples = 1000"),
        ("reliability = 0.9", "budget = 3"),
        ("reliability = 0.9", "inconclusive = \"pass\""),
        ("\"@champion\"", "\"champion\""),
        ("\"@champion\"", "\"flights@7\""),
        ("\"@champion\"", "\"@0\""),
        ("\"@champion\"", "\"@\""),
        ("\"@champion\"", "\"none\""),
        ("metric = \"auc\"", "metric = \"aoc\""),
        ("metric = \"auc\"", ""),
        ("min = 0.64", ""),
        ("min = 0.64", "min = inf"),
        ("min = 0.64", "min = nan"),
        ("{ absolute = 0.005 }", "0.005"),
        ("{ absolute = 0.005 }", "{ absolute = -0.005 }"),
        ("{ absolute = 0.005 }", "{ absolute = 1, relative = 1 }"),
        ("{ absolute = 0.005 }", "{ margin = 1 }"),
        ("\"evening\"", "\"../x\""),
        ("\"carrier=*\"]", "\"=*\"]"),
        ("slices = [", "slice = \"all\"\nslices = ["),
        ("[\"all\", \"evening\", \"carrier=UA\", \"carrier=*\"]", "[]"),
        ("\"not worse anywhere\"", "\"ranks at all\""),
        ("\"not worse anywhere\"", "\" \""),
        ("until = 2026-12-31", "until = \"soon\""),
        ("until = 2026-12-31", "until = 2026-12-31T10:00:00Z"),
        ("by = \"ana\"", "by = \"\""),
    ] {
        assert!(GOOD.contains(from), "{from}");
        let failure = read(&GOOD.replacen(from, to, 1)).expect_err(to);
        assert!(
            failure.details.iter().any(|it| it.starts_with("--> gate.toml:")),
            "{to}: no place in {failure:?}"
        );
    }
}

const FULL: &str = r#"version = 1
[gate.release]
model = "flights"
split = "holdout"
anchor = "flights@3"
budget = { uses = 8, adaptivity = "none", reveal = "verdict" }
signatures = { keys = ["keys/release.pub"] }
[[gate.release.rule]]
name = "crossed"
metric = "accuracy"
slices = ["evening & carrier=*", "origin=JFK & carrier=*"]
min_improvement = { absolute = 0.01 }
correction = "none"
[[gate.release.rule]]
name = "alarm"
metric = "accuracy"
max_improvement = { absolute = 0.1 }
[[gate.release.rule]]
metric = "latency_p95_ms"
max = 40
[[gate.release.rule]]
metric = "clean_git"
severity = "warn"
[[gate.release.rule]]
metric = "robustness(noise=0.05)"
max = 0.01
[[gate.release.waiver]]
rule = "clean_git"
until = 2026-12-31
by = "ana"
reason = "first import"
"#;

fn gate(text: &str) -> Gate {
    read(text).expect("valid").gates.into_values().next().expect("one gate")
}

#[test]
fn every_key_of_a_gate_is_read() {
    let gate = gate(FULL);
    assert_eq!(gate.model.as_ref().map(Name::as_str), Some("flights"));
    assert_eq!(gate.split.as_ref().map(Name::as_str), Some("holdout"));
    assert_eq!(gate.anchor.as_ref().map(ToString::to_string).as_deref(), Some("flights@3"));
    assert_eq!(
        gate.budget,
        Some(Budget { uses: 8, adaptivity: Adaptivity::None, reveal: Reveal::Verdict })
    );
    assert!((gate.reliability_each() - (1.0 - 0.05 / 8.0)).abs() < 1e-12);
    assert_eq!(
        gate.signatures.as_ref().map(|it| it.keys.clone()),
        Some(vec!["keys/release.pub".to_owned()])
    );
    let crossed = |parts: [SliceRef; 2]| SliceRef::Crossed(parts.to_vec());
    let carriers = SliceRef::Every("carrier".to_owned());
    let named = |text: &str| SliceRef::Named(text.to_owned());
    // Parts stand in text order, so that a slice has one name.
    assert_eq!(
        gate.rules[0].slices,
        [crossed([carriers.clone(), named("evening")]), crossed([carriers, named("origin=JFK")])]
    );
    assert_eq!(gate.rules[0].slices[0].to_string(), "carrier=* & evening");
    assert!(gate.rules[0].slices[0].is_family());
    assert_eq!(gate.rules[0].correction, Correction::None);
    assert_eq!(gate.rules[1].correction, Correction::Holm);
    let operational: Vec<(&str, Measure, Bound, bool)> = gate
        .operational
        .iter()
        .map(|it| (it.name.as_str(), it.measure, it.bound, it.warns_only))
        .collect();
    assert_eq!(
        operational,
        [
            ("latency_p95_ms at most 40", Measure::LatencyP95Ms, Bound::Max(40.0), false),
            ("clean_git", Measure::CleanGit, Bound::Min(1.0), true),
            (
                "robustness(noise=0.05) at most 0.01",
                Measure::Robustness(Perturbation::Noise(50)),
                Bound::Max(0.01),
                false
            ),
        ]
    );
    assert_eq!(gate.n_rules(), 5);
    // α / 2¹⁰ asks for 20,480 draws; where nobody says how many, the interval's end rests on ten.
    let full = FULL.replace("uses = 8, adaptivity = \"none\"", "uses = 10, adaptivity = \"full\"");
    assert_eq!(self::gate(&full).n_resamples, 204_790);
    let few = full.replace("split = \"holdout\"", "n_resamples = 20_000");
    let failure = read(&few).expect_err("too few");
    assert_eq!(
        failure.message,
        "`gate.release.n_resamples` is 20,000, must be between 20,479 and 1,000,000"
    );
}

#[test]
fn each_part_of_the_meaning_is_in_the_digest() {
    let digest = |text: &str| read(text).expect("valid").digest;
    for (from, to) in [
        ("model = \"flights\"", "model = \"trains\""),
        ("split = \"holdout\"", "split = \"eval\""),
        ("flights@3", "flights@4"),
        ("uses = 8", "uses = 9"),
        ("adaptivity = \"none\"", "adaptivity = \"first-change\""),
        ("reveal = \"verdict\"", "reveal = \"numbers\""),
        ("keys/release.pub", "keys/other.pub"),
        ("evening & carrier=*", "evening & carrier=UA"),
        ("correction = \"none\"", "correction = \"holm\""),
        ("max = 40", "max = 41"),
        ("noise=0.05", "noise=0.06"),
        ("severity = \"warn\"", "severity = \"error\""),
    ] {
        assert!(FULL.contains(from), "{from}");
        assert_ne!(digest(FULL), digest(&FULL.replacen(from, to, 1)), "{from}");
    }
}

#[test]
fn words_of_other_tools_are_mapped_and_echoed() {
    let absolute = Change::Absolute(0.005);
    for (metric, typed, bound, note) in [
        (
            "auc",
            "threshold = 0.8",
            Bound::Min(0.8),
            "MLflow's `threshold = 0.8` is read as `min = 0.8`",
        ),
        (
            "brier",
            "threshold = 0.2",
            Bound::Max(0.2),
            "MLflow's `threshold = 0.2` is read as `max = 0.2`",
        ),
        (
            "auc",
            "lower_bound = 0.8",
            Bound::Min(0.8),
            "TFMA's `lower_bound = 0.8` is read as `min = 0.8`",
        ),
        (
            "auc",
            "upper_bound = 0.9",
            Bound::Max(0.9),
            "TFMA's `upper_bound = 0.9` is read as `max = 0.9`",
        ),
        (
            "auc",
            "min_absolute_change = 0.005\ngreater_is_better = true",
            Bound::MinImprovement(absolute),
            "MLflow's `min_absolute_change = 0.005` is read as `min_improvement = { absolute = 0.005 }`",
        ),
        (
            "log_loss",
            "min_relative_change = 0.01\ngreater_is_better = false",
            Bound::MinImprovement(Change::Relative(0.01)),
            "MLflow's `min_relative_change = 0.01` is read as `min_improvement = { relative = 0.01 }`",
        ),
        (
            "auc",
            "absolute = -0.005\ndirection = \"HIGHER_IS_BETTER\"",
            Bound::MaxRegression(absolute),
            "TFMA's `absolute = -0.005` is read as `max_regression = { absolute = 0.005 }`",
        ),
        (
            "auc",
            "absolute = 0.005",
            Bound::MinImprovement(absolute),
            "TFMA's `absolute = 0.005` is read as `min_improvement = { absolute = 0.005 }`",
        ),
        // A loss may rise by that much.
        (
            "log_loss",
            "absolute = 0.005\ndirection = \"lower_is_better\"",
            Bound::MaxRegression(absolute),
            "TFMA's `absolute = 0.005` is read as `max_regression = { absolute = 0.005 }`",
        ),
        (
            "auc",
            "relative = 0.01",
            Bound::MinImprovement(Change::Relative(0.01)),
            "TFMA's `relative = 0.01` is read as `min_improvement = { relative = 0.01 }`",
        ),
        (
            "accuracy",
            "epsilon = 0.005",
            Bound::MaxRegression(absolute),
            "ease.ml/ci's `epsilon = 0.005` is read as `max_regression = { absolute = 0.005 }`",
        ),
    ] {
        let text = format!(
            "version = 1\n[gate.release]\n[[gate.release.rule]]\nmetric = \"{metric}\"\n{typed}\n"
        );
        let policy = read(&text).expect(typed);
        let gate = policy.gates.values().next().expect("one gate");
        assert_eq!(gate.rules[0].bound, bound, "{typed}");
        let key = typed.split(' ').next().unwrap_or_default();
        let place = format!("gate.toml:5:{}: ", key.len() + 4);
        assert_eq!(policy.notes, [format!("{place}{note}")]);
    }
    for (mode, allowed) in [("fp-free", false), ("fn-free", true)] {
        let text = FULL.replace("split = \"holdout\"", &format!("mode = \"{mode}\""));
        let policy = read(&text).expect(mode);
        assert_eq!(
            policy.gates.values().next().map(|it| it.inconclusive_is_allowed),
            Some(allowed)
        );
        assert_eq!(policy.notes.len(), 1);
        assert!(policy.notes[0].starts_with("gate.toml:4:8: ease.ml/ci's"), "{:?}", policy.notes);
    }
    assert!(read(FULL).expect("valid").notes.is_empty());
}

#[test]
fn contradictions_and_wrong_words_are_refused_with_place_and_reason() {
    let release = "version = 1\n[gate.release]\n";
    for (rules, place, message) in [
        (
            "[[gate.release.rule]]\nmetric = \"auc\"\nslices = [\"all\", \"evening\"]\nmin = 0.8\n\
             [[gate.release.rule]]\nmetric = \"auc\"\nslice = \"evening\"\nmax = 0.7",
            "7:1",
            "rule `auc at most 0.7` wants `auc` on slice evening at most 0.7, and rule `auc at least 0.8` at least 0.8: \
             no model can meet both",
        ),
        (
            "[[gate.release.rule]]\nname = \"alarm\"\nmetric = \"auc\"\nmax_improvement = { absolute = 0.01 }\n\
             [[gate.release.rule]]\nname = \"better\"\nmetric = \"auc\"\nmin_improvement = { absolute = 0.02 }",
            "7:1",
            "rule `better` wants `auc` on slice all better by more than 0.02, and rule `alarm` not better by more than \
             0.01: no model can meet both",
        ),
        (
            "[[gate.release.rule]]\nmetric = \"latency_p50_ms\"\nmax = 4\n\
             [[gate.release.rule]]\nmetric = \"latency_p50_ms\"\nmin = 5",
            "6:1",
            "rule `latency_p50_ms at least 5` wants `latency_p50_ms` at least 5, and rule `latency_p50_ms at most 4` at \
             most 4: no model can meet both",
        ),
        (
            "[[gate.release.rule]]\nmetric = \"auc\"\nmin = 64",
            "5:7",
            "`min` is 64, and `auc` is never above 1",
        ),
        (
            "[[gate.release.rule]]\nmetric = \"auc\"\nmin_absolute_change = -0.01",
            "5:23",
            "`min_absolute_change` is -0.01, must be at least 0: the metric's own direction says what is better, never \
             a sign",
        ),
        (
            "[[gate.release.rule]]\nmetric = \"brier\"\nthreshold = 0.2\ngreater_is_better = true",
            "6:21",
            "`greater_is_better` says otherwise, but of `brier` lower is better",
        ),
        (
            "[[gate.release.rule]]\nmetric = \"auc\"\nabsolute = 0.2\ndirection = \"LOWER_IS_BETTER\"",
            "6:13",
            "`direction` says otherwise, but of `auc` higher is better",
        ),
        (
            "[[gate.release.rule]]\nmetric = \"auc\"\nthreshold = 0.2\nmin = 0.2",
            "5:13",
            "the rule has `min` and `threshold`, must have one bound: write two rules",
        ),
        (
            "[[gate.release.rule]]\nmetric = \"rows_per_second\"\nmax_regression = { relative = 0.1 }",
            "5:18",
            "`max_regression` compares with a baseline; `rows_per_second` is compared as a value, with `min` or `max`",
        ),
        (
            "[[gate.release.rule]]\nmetric = \"clean_git\"\nmax = 0",
            "5:7",
            "`clean_git` is answered by yes or no: leave the bound out, or write `min = 1`",
        ),
        (
            "[[gate.release.rule]]\nmetric = \"model_size_mib\"",
            "3:1",
            "the rule has no bound, must have `min` or `max`",
        ),
        (
            "[[gate.release.rule]]\nmetric = \"model_size_mib\"\nmax = 3\nslice = \"evening\"",
            "6:9",
            "`model_size_mib` is one value of the whole model, it has no `slice`",
        ),
    ] {
        let failure = read(&format!("{release}{rules}\n")).expect_err(message);
        assert_eq!(failure.message, message);
        assert_eq!(failure.details, [format!("--> gate.toml:{place}")], "{message}");
    }
    // What only warns is a wish, and different slices are different questions.
    for fine in [
        "[[gate.release.rule]]\nmetric = \"auc\"\nmin = 0.8\n\
         [[gate.release.rule]]\nmetric = \"auc\"\nmax = 0.7\nseverity = \"warn\"",
        "[[gate.release.rule]]\nmetric = \"auc\"\nmin = 0.8\n\
         [[gate.release.rule]]\nmetric = \"auc\"\nslice = \"evening\"\nmax = 0.7",
        "[[gate.release.rule]]\nmetric = \"auc\"\nmax_improvement = { relative = 0.01 }\n\
         [[gate.release.rule]]\nmetric = \"auc\"\nmin_improvement = { absolute = 0.02 }",
    ] {
        assert!(read(&format!("{release}{fine}\n")).is_ok(), "{fine}");
    }
    let failure = read(&GOOD.replace("\"roc_auc\"", "\"latency_p95\"")).expect_err("no metric");
    assert!(failure.message.contains("the nearest are `latency_p95_ms`"), "{}", failure.message);
    assert_eq!(failure.details, ["--> gate.toml:12:10"]);
}

#[test]
fn every_bad_value_of_a_full_gate_is_refused_with_its_place() {
    for (from, to) in [
        ("model = \"flights\"", "model = \"../flights\""),
        ("split = \"holdout\"", "split = \"\""),
        ("\"flights@3\"", "\"flights@champion\""),
        ("\"flights@3\"", "\"@3\""),
        ("\"flights@3\"", "3"),
        ("uses = 8", "uses = 0"),
        ("uses = 8", "uses = -1"),
        ("uses = 8", "uses = 1001"),
        ("uses = 8", "use = 8"),
        ("uses = 8, ", ""),
        ("uses = 8, adaptivity = \"none\"", "uses = 33, adaptivity = \"full\""),
        // α / 2³⁰ asks for more resamples than are drawn.
        ("uses = 8, adaptivity = \"none\"", "uses = 30, adaptivity = \"full\""),
        ("adaptivity = \"none\"", "adaptivity = \"some\""),
        ("reveal = \"verdict\"", "reveal = \"all\""),
        ("[\"keys/release.pub\"]", "[]"),
        ("keys/release.pub", "/etc/release.pub"),
        ("keys/release.pub", "keys/../../release.pub"),
        ("keys/release.pub", "c:\\\\release.pub"),
        ("evening & carrier=*", "carrier=UA & carrier=*"),
        ("evening & carrier=*", "evening & evening"),
        ("evening & carrier=*", "evening & "),
        ("evening & carrier=*", "evening & all"),
        ("evening & carrier=*", "a & b & c & d"),
        ("evening & carrier=*", "carrier=* & origin=JFK"),
        ("correction = \"none\"", "correction = \"bonferroni\""),
        ("split = \"holdout\"", "mode = \"fp-free\"\ninconclusive = \"block\""),
        ("split = \"holdout\"", "mode = \"free\""),
        ("name = \"alarm\"", "name = \"a\\nb\""),
        ("name = \"alarm\"", "name = \"clean_git\""),
        ("max = 40", "max = -1"),
        ("noise=0.05", "noise=50"),
        ("metric = \"clean_git\"", "metric = \"clean_gti\""),
        ("rule = \"clean_git\"", "rule = \"clean_gti\""),
    ] {
        assert!(FULL.contains(from), "{from}");
        let failure = read(&FULL.replacen(from, to, 1)).expect_err(to);
        assert!(
            failure.details.iter().any(|it| it.starts_with("--> gate.toml:")),
            "{to}: no place in {failure:?}"
        );
    }
}
