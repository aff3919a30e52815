//! Rules about cost and behaviour, an anchor, and a rule explained, through the binary.

use karat_testkit::Sandbox;
use serde_json::Value;

const KARAT: &str = env!("CARGO_BIN_EXE_karat");

/// A trained project whose gate also has these rules.
fn with_rules(rules: &[(&str, &str)]) -> Sandbox {
    let sandbox = Sandbox::churn(KARAT);
    let mut policy = sandbox.read("gate.toml");
    for (measure, bound) in rules {
        policy.push_str(&format!("\n[[gate.release.rule]]\nmetric = \"{measure}\"\n{bound}\n"));
    }
    sandbox.write("gate.toml", policy);
    sandbox
}

#[track_caller]
fn verdict(lines: &[Value]) -> Value {
    lines.last().expect("a line")["summary"]["verdict"].clone()
}

#[test]
fn cost_and_behaviour_are_measured_when_a_rule_asks() {
    let sandbox = with_rules(&[
        ("rows_per_second", "min = 1"),
        ("latency_p95_ms", "max = 60000"),
        ("peak_memory_mib", "max = 100000"),
        ("model_size_mib", "max = 100"),
        ("robustness(noise=0.1)", "max = 0.5"),
        ("replay_identical", ""),
        ("checks_passed", ""),
    ]);
    let ran = sandbox.karat("run --json").expect_code(0).json();
    let measured = verdict(&ran)["operational"].clone();
    for word in ["rows_per_second", "latency_p95_ms", "peak_memory_mib", "model_size_mib"] {
        assert!(measured[word].as_f64().is_some_and(|it| 0.0 < it), "{word}: {measured}");
    }
    let flips = measured["robustness(noise=0.1)"].as_f64().expect("measured");
    assert!(0.0 < flips && flips < 0.2, "{flips}");
    assert_eq!(measured["replay_identical"].as_f64(), Some(1.0));
    let again = sandbox.karat("gate churn@1 --json").expect_code(0).json();
    assert_eq!(verdict(&again)["operational"], measured, "what was measured is not measured again");
}

#[test]
fn what_cannot_be_measured_is_no_pass() {
    let sandbox = with_rules(&[("parity_max", "max = 0.001"), ("clean_git", "")]);
    let ran = sandbox.karat("run --json --device cpu").expect_code(1).json();
    let findings = verdict(&ran)["findings"].clone();
    for (measure, reason) in [("parity_max", "scored on `cpu` in f32"), ("clean_git", "no commit")]
    {
        let is_told = |it: &Value| {
            it["subject"].as_str().is_some_and(|it| it.contains(measure))
                && it["outcome"] == "not-applied"
                && it["message"].as_str().is_some_and(|it| it.contains(reason))
        };
        let findings = findings.as_array().expect("a list");
        assert!(findings.iter().any(is_told), "{measure}: {findings:?}");
    }
    assert_eq!(sandbox.alias("churn@champion"), None);
}

#[test]
fn an_anchor_is_judged_against_whatever_the_champion_is() {
    let sandbox = Sandbox::trained(KARAT);
    sandbox.edit(
        "gate.toml",
        "baseline = \"@champion\"",
        "anchor = \"churn@1\"\nbaseline = \"@champion\"",
    );
    let _ = sandbox.karat("run --set train.seed=5");
    let _ = sandbox.karat("promote churn@2 --force --reason 'another champion'");
    assert_eq!(sandbox.alias("churn@champion"), Some(2));
    let third = sandbox.karat("run --dry-run --json --set train.seed=6");
    let found = verdict(&third.json());
    assert_eq!((&found["anchor"], &found["baseline"]), (&"churn@1".into(), &"churn@2".into()));
    assert!(found["judged"]["anchor_predictions"].is_string(), "{}", found["judged"]);
    let of_anchor = |it: &Value| {
        ["message", "subject", "rule"]
            .iter()
            .any(|key| it[*key].as_str().is_some_and(|it| it.contains("churn@1")))
    };
    let findings = &found["findings"];
    assert!(findings.as_array().is_some_and(|it| it.iter().any(of_anchor)), "{findings}");
    sandbox.edit("gate.toml", "anchor = \"churn@1\"", "anchor = \"churn@9\"");
    let _ = sandbox
        .karat("gate churn@1")
        .expect_code(2)
        .expect_error("version-unknown", &["anchor = \"churn@9\""]);
}

#[test]
fn a_rule_is_explained_from_its_counts_to_its_outcome() {
    let sandbox = Sandbox::trained(KARAT);
    let shown = sandbox.karat("gate churn@1 --explain 'good enough'").expect_code(0).stdout;
    for part in ["rule `good enough` of gate `release`", "metric", "bound", "outcome"] {
        assert!(shown.contains(part), "no `{part}` in\n{shown}");
    }
    let lines = sandbox.karat("gate churn@1 --explain 'good enough' --json").expect_code(0).json();
    let explained = &lines.last().expect("a line")["explanation"];
    assert_eq!(explained["rule"], "good enough");
    assert!(explained["parts"].as_array().is_some_and(|it| 2 < it.len()), "{explained}");
    // Said before anything is judged: a verdict is a use of the rows.
    let misspelt = sandbox
        .karat("gate churn@1 --explain 'good enuf'")
        .expect_code(2)
        .expect_error("rule-unknown", &["good enuf", "`good enough`"]);
    assert!(!misspelt.stderr.contains("snapshot"), "{}", misspelt.stderr);
}
