//! Cases in which a rule cannot be applied. None of them passes
//! (docs/design/005-not-applied.md).

use expect_test::expect;
use karat_core::{
    Digest, Outcome, ScoredRows,
    metric::Metric,
    policy::{Bound, Change},
};

use super::{GateInput, check, decide, flights, gate, judged, verdict_of};
use crate::{decide::rule::compare, parallel::Serial, testing::binary};

/// Every bound a rule may have.
const BOUNDS: [&str; 6] = [
    "min = -1e9",
    "max = 1e9",
    "max_regression = { absolute = 1e9 }",
    "max_regression = { relative = 1e9 }",
    "min_improvement = { absolute = 0.0 }",
    "max_improvement = { absolute = 1e9 }, severity = \"error\"",
];

/// Bounds that any number would meet, so only what is no number can fail them.
#[track_caller]
fn never_passes(candidate: &ScoredRows, baseline: Option<&ScoredRows>, bounds: &[&str]) {
    for metric in Metric::ALL {
        for bound in bounds {
            let policy = format!(
                "without_baseline = \"absolute-rules-only\"\nrule = [{{ metric = \"{metric}\", {bound} }}]"
            );
            let verdict = verdict_of(&policy, candidate, baseline, &Serial);
            assert_eq!(verdict.outcome, Outcome::Fail, "{metric} {bound}: {verdict:?}");
            assert_eq!(verdict.findings[0].outcome, Outcome::NotApplied, "{metric} {bound}");
        }
    }
}

/// Other gates let NaN through. We do not, in either direction.
#[test]
fn nan_never_passes() {
    let good = flights(60, "old", 1.0);
    for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut bad = flights(60, "new", 1.0);
        bad.score[7] = wrong;
        never_passes(&bad, Some(&good), &BOUNDS);
        never_passes(&good, Some(&bad), &BOUNDS[2..]);
        let mut unlabelled = flights(60, "new", 1.0);
        unlabelled.label[7] = wrong;
        never_passes(&unlabelled, Some(&unlabelled.clone()), &BOUNDS);
    }
    let mut bad = flights(60, "new", 1.0);
    bad.score[7] = f32::NAN;
    check(
        r#"rule = [
            { name = "floor", metric = "auc", min = 0.0 },
            { name = "margin", metric = "auc", max_regression = { absolute = 1.0 } },
        ]"#,
        &bad,
        Some(&good),
        expect![[r#"
            fail against flights@1
            not applied: floor (auc): not measured: 1 of 60 scores are NaN or infinite
            not applied: margin (auc): not measured: 1 of 60 scores are NaN or infinite
        "#]],
    );
}

/// The last line of defence: an interval that is no interval meets no bound.
#[test]
fn an_interval_of_nan_passes_no_bound() {
    let change = Change::Absolute(1.0);
    for bound in [
        Bound::Min(f64::NEG_INFINITY),
        Bound::Max(f64::INFINITY),
        Bound::MaxRegression(change),
        Bound::MinImprovement(change),
        Bound::MaxImprovement(change),
    ] {
        assert_ne!(compare(bound, [f64::NAN; 2]), Outcome::Pass, "{bound}");
    }
}

#[test]
fn a_metric_of_another_task_is_not_applied() {
    check(
        r#"
        baseline = "none"
        rule = [{ metric = "rmse", max = 1e9 }]"#,
        &flights(60, "new", 1.0),
        None,
        expect![[r#"
            fail against none, unbaselined
            not applied: rmse at most 1000000000 (rmse, slice all): not measured: `rmse` is not a metric of a binary task
        "#]],
    );
}

#[test]
fn a_missing_baseline_is_not_a_pass() {
    check(
        r#"rule = [
            { name = "floor", metric = "auc", min = 0.5 },
            { name = "margin", metric = "auc", max_regression = { absolute = 0.01 } },
        ]"#,
        &flights(300, "new", 1.0),
        None,
        expect![[r#"
            fail against none
            pass: floor (auc, slice all): auc 0.7536, 90 % interval 0.7017 to 0.7991 on 300 rows; needs to be at least 0.5
            not applied: margin (auc): not measured: there is no baseline to compare with
            not applied: baseline (baseline): there is no baseline yet, and the policy says `without_baseline = "fail"`
                `without_baseline = "absolute-rules-only"` lets a first version pass on absolute rules alone
        "#]],
    );
    check(
        r#"rule = [{ name = "floor", metric = "auc", min = 0.5 }]"#,
        &flights(300, "new", 1.0),
        None,
        expect![[r#"
            fail against none
            pass: floor (auc, slice all): auc 0.7536, 90 % interval 0.7017 to 0.7991 on 300 rows; needs to be at least 0.5
            not applied: baseline (baseline): there is no baseline yet, and the policy says `without_baseline = "fail"`
                `without_baseline = "absolute-rules-only"` lets a first version pass on absolute rules alone
        "#]],
    );
}

#[test]
fn a_first_version_passes_on_absolute_rules_alone_where_the_policy_says_so() {
    check(
        r#"
        without_baseline = "absolute-rules-only"
        rule = [
            { name = "floor", metric = "auc", min = 0.5 },
            { name = "margin", metric = "auc", max_regression = { absolute = 0.01 } },
        ]"#,
        &flights(300, "new", 1.0),
        None,
        expect![[r#"
            pass against none, unbaselined
            pass: floor (auc, slice all): auc 0.7536, 90 % interval 0.7017 to 0.7991 on 300 rows; needs to be at least 0.5
            warn: margin (auc): not asked: there is no baseline yet, and the policy lets absolute rules decide alone
        "#]],
    );
}

#[test]
fn a_first_version_does_not_pass_where_no_absolute_rule_decides() {
    check(
        r#"
        without_baseline = "absolute-rules-only"
        rule = [
            { name = "wish", metric = "auc", min = 0.5, severity = "warn" },
            { name = "margin", metric = "auc", max_regression = { absolute = 0.01 } },
        ]"#,
        &flights(300, "new", 1.0),
        None,
        expect![[r#"
            fail against none, unbaselined
            pass: wish (auc, slice all): auc 0.7536, 90 % interval 0.7017 to 0.7991 on 300 rows; needs to be at least 0.5
            warn: margin (auc): not asked: there is no baseline yet, and the policy lets absolute rules decide alone
            not applied: baseline (baseline): there is no baseline, and no rule with `min` or `max` that could decide alone
                a rule with `min` or `max` and without `severity = "warn"` can be judged without a baseline
        "#]],
    );
}

/// The finding about the missing baseline is no rule, so no waiver covers it, whatever a rule is called.
#[test]
fn a_waiver_does_not_stand_in_for_a_baseline() {
    check(
        r#"
        rule = [{ name = "baseline", metric = "auc", max_regression = { absolute = 0.01 } }]
        waiver = [{ rule = "baseline", until = 2026-12-31, by = "ana", reason = "none yet" }]"#,
        &flights(300, "new", 1.0),
        None,
        expect![[r#"
            fail against none
            waived: baseline (auc): not measured: there is no baseline to compare with (not applied); waived until 2026-12-31 by ana: none yet
            not applied: baseline (baseline): there is no baseline yet, and the policy says `without_baseline = "fail"`
                `without_baseline = "absolute-rules-only"` lets a first version pass on absolute rules alone
        "#]],
    );
}

/// The reader refuses such a policy; a gate made otherwise does not pass either.
#[test]
fn a_change_rule_in_a_gate_without_baseline_is_not_a_pass() {
    let mut gate = gate(
        r#"rule = [
        { name = "floor", metric = "auc", min = 0.5 },
        { name = "margin", metric = "auc", max_regression = { absolute = 1.0 } },
    ]"#,
    );
    gate.baseline = karat_core::policy::BaselineRef::None;
    let candidate = flights(300, "new", 1.0);
    let input = GateInput {
        candidate_label: "flights@2".to_owned(),
        ..GateInput::new(&candidate, judged("flights@2", None), "2026-06-15")
    };
    let verdict = decide(&gate, &input, &Serial);
    assert_eq!(verdict.outcome, Outcome::Fail);
    assert_eq!(verdict.findings[1].outcome, Outcome::NotApplied);
}

#[test]
fn an_empty_or_unknown_slice_is_not_applied() {
    check(
        r#"
        baseline = "none"
        rule = [
            { name = "empty", metric = "auc", slice = "night", min = 0.5 },
            { name = "misspelt", metric = "auc", slice = "evenin", min = 0.5 },
            { name = "no such value", metric = "auc", slice = "carrier=UB", min = 0.5 },
            { name = "no such family", metric = "auc", slice = "airline=*", min = 0.5 },
        ]"#,
        &flights(300, "new", 1.0),
        None,
        expect![[r#"
            fail against none, unbaselined
            not applied: empty (auc, slice night): not measured: slice `night` has no labelled row
            not applied: misspelt (auc, slice evenin): not measured: no slice `evenin`: the nearest are `evening`, `all`, `night`, `carrier=*`, `carrier=AA`
            not applied: no such value (auc, slice carrier=UB): not measured: no slice `carrier=UB`: the nearest are `carrier=UA`, `carrier=*`, `carrier=AA`, `carrier=HA`, `all`
            not applied: no such family (auc, slice airline=*): not measured: no slice `airline=*`: the nearest are `carrier=*`, `all`, `carrier=AA`, `carrier=HA`, `carrier=UA`
        "#]],
    );
}

#[test]
fn no_rows_and_no_rules_are_not_a_pass() {
    check(
        r#"
        baseline = "none"
        rule = [{ metric = "auc", min = 0.5 }]"#,
        &flights(0, "new", 1.0),
        None,
        expect![[r#"
            fail against none, unbaselined
            not applied: auc at least 0.5 (auc, slice all): not measured: slice `all` has no labelled row
        "#]],
    );
    let mut empty = gate(r#"rule = [{ metric = "auc", min = 0.5 }]"#);
    empty.rules.clear();
    let candidate = flights(60, "new", 1.0);
    let input = GateInput {
        candidate_label: "flights@2".to_owned(),
        ..GateInput::new(&candidate, judged("flights@2", None), "2026-06-15")
    };
    assert_eq!(decide(&empty, &input, &Serial).outcome, Outcome::NotApplied);
}

#[test]
fn one_class_only_has_no_ranking() {
    let candidate = binary(vec![1.0; 50], flights(50, "new", 1.0).score);
    check(
        r#"
        baseline = "none"
        rule = [
            { metric = "auc", min = 0.0 },
            { metric = "balanced_accuracy", min = 0.0 },
        ]"#,
        &candidate,
        None,
        expect![[r#"
            fail against none, unbaselined
            not applied: auc at least 0 (auc, slice all): not measured: all 50 rows are positive
            not applied: balanced_accuracy at least 0 (balanced_accuracy, slice all): not measured: all rows have the same label
        "#]],
    );
}

#[test]
fn a_model_is_not_compared_with_itself() {
    let rows = flights(300, "new", 1.0);
    let input = GateInput {
        baseline: Some(&rows),
        candidate_label: "flights@2".to_owned(),
        baseline_label: "flights@2".to_owned(),
        ..GateInput::new(&rows, judged("flights@2", Some("flights@2")), "2026-06-15")
    };
    let gate = gate(r#"rule = [{ metric = "auc", max_regression = { absolute = 0.5 } }]"#);
    expect![[r#"
        fail against flights@2
        not applied: auc not worse by more than 0.5 (auc, slice all): not measured: flights@2 and flights@2 are the same model: compared with itself, everything passes
    "#]].assert_eq(&super::shown(&decide(&gate, &input, &Serial)));
}

#[test]
fn models_scored_on_other_rows_are_not_compared() {
    let new = flights(300, "new", 1.0);
    let policy = r#"rule = [
        { name = "floor", metric = "auc", min = 0.5 },
        { name = "margin", metric = "auc", max_regression = { absolute = 0.5 } },
    ]"#;
    let mut other = flights(300, "old", 1.0);
    other.rows = Digest::of(b"other rows");
    check(
        policy,
        &new,
        Some(&other),
        expect![[r#"
        fail against flights@1
        pass: floor (auc, slice all): auc 0.7536, 90 % interval 0.7017 to 0.7991 on 300 rows; needs to be at least 0.5
        not applied: margin (auc, slice all): not measured: candidate and baseline were not scored on the same rows: the digests of keys and labels differ
    "#]],
    );
    let mut other = flights(300, "old", 1.0);
    other.label[0] = 1.0 - other.label[0];
    check(
        policy,
        &new,
        Some(&other),
        expect![[r#"
        fail against flights@1
        pass: floor (auc, slice all): auc 0.7536, 90 % interval 0.7017 to 0.7991 on 300 rows; needs to be at least 0.5
        not applied: margin (auc, slice all): not measured: candidate and baseline were not scored on the same rows: labels differ
    "#]],
    );
    let mut other = flights(300, "old", 1.0);
    other.classes[1] = "maybe".to_owned();
    check(
        policy,
        &new,
        Some(&other),
        expect![[r#"
        fail against flights@1
        pass: floor (auc, slice all): auc 0.7536, 90 % interval 0.7017 to 0.7991 on 300 rows; needs to be at least 0.5
        not applied: margin (auc, slice all): not measured: candidate and baseline were not scored on the same rows: task or classes differ
    "#]],
    );
    let mut other = flights(300, "old", 1.0);
    other.score.pop();
    check(
        policy,
        &new,
        Some(&other),
        expect![[r#"
        fail against flights@1
        pass: floor (auc, slice all): auc 0.7536, 90 % interval 0.7017 to 0.7991 on 300 rows; needs to be at least 0.5
        not applied: margin (auc, slice all): not measured: candidate and baseline were not scored on the same rows: numbers of scores differ
    "#]],
    );
}

/// A value without any spread looks certain. On few rows it is not.
#[test]
fn few_rows_without_spread_are_not_certain() {
    let policy = r#"
        baseline = "none"
        rule = [
            { metric = "f1", min = 0.9 },
            { metric = "brier", max = 0.1 },
        ]"#;
    let perfect = |n: usize| {
        let label: Vec<f32> = (0..n).map(|row| (row % 2) as f32).collect();
        let score = label.iter().map(|it| if *it < 0.5 { 0.0 } else { 1.0 }).collect();
        binary(label, score)
    };
    check(
        policy,
        &perfect(20),
        None,
        expect![[r#"
        fail against none, unbaselined
        not applied: f1 at least 0.9 (f1, slice all): not measured: nothing varies in 20 rows, and fewer than 30 say nothing about others
        not applied: brier at most 0.1 (brier, slice all): not measured: nothing varies in 20 rows, and fewer than 30 say nothing about others
    "#]],
    );
    check(
        policy,
        &perfect(40),
        None,
        expect![[r#"
            inconclusive against none, unbaselined
            inconclusive: f1 at least 0.9 (f1, slice all): f1 1.000, 90 % interval 0.8609 to 1.000 on 40 rows; needs to be at least 0.9
                about 16 more labelled rows would decide it, at power 0.8 if the value stays what it is
            inconclusive: brier at most 0.1 (brier, slice all): brier 0.0000, 90 % interval 0.0000 to 0.1391 on 40 rows; needs to be at most 0.1
                about 16 more labelled rows would decide it, at power 0.8 if the value stays what it is
        "#]],
    );
    check(
        policy,
        &perfect(400),
        None,
        expect![[r#"
        pass against none, unbaselined
        pass: f1 at least 0.9 (f1, slice all): f1 1.000, 90 % interval 0.9851 to 1.000 on 400 rows; needs to be at least 0.9
        pass: brier at most 0.1 (brier, slice all): brier 0.0000, 90 % interval 0.0000 to 0.01487 on 400 rows; needs to be at most 0.1
    "#]],
    );
}
