//! Cases for `decide`. Each is a policy as text, two small models and the verdict as text, so the API may change without
//! touching them. `UPDATE_EXPECT=1 cargo test -p karat-gate` rewrites the right-hand sides.
//!
//! `tests/refused.rs` has the cases in which nothing can be compared.

use std::fmt::Write as _;

use expect_test::{Expect, expect};
use karat_core::{
    Digest, Document, ScoredRows, Task, Verdict,
    policy::{Gate, Policy},
    summary::CodeVersion,
    verdict::Judged,
};

use super::{GateInput, decide};
use crate::{
    parallel::{Parallel, Serial},
    testing::{flights, rows},
};

mod many;
mod refused;

/// The gate of a policy: its keys and rules as they would stand in gate.toml.
#[track_caller]
fn gate(text: &str) -> Gate {
    let text = format!("version = 1\n[gate.release]\nn_resamples = 999\n{text}\n");
    let policy = Document::parse("gate.toml", text).and_then(|it| Policy::read(&it));
    let policy = policy.unwrap_or_else(|failure| panic!("{failure:?}"));
    policy.gates.into_values().next().expect("one gate")
}

fn judged(candidate: &str, baseline: Option<&str>) -> Judged {
    let digest = |text: &str| Digest::of(text.as_bytes());
    Judged {
        candidate: digest(candidate),
        baseline: baseline.map(digest),
        snapshot: digest("snapshot"),
        rows: digest("rows"),
        predictions: digest("predictions"),
        baseline_predictions: baseline.map(|_| digest("baseline predictions")),
        anchor: None,
        anchor_predictions: None,
        policy: digest("policy"),
        tool: "test".to_owned(),
        binary: None,
        code: CodeVersion::default(),
    }
}

#[track_caller]
fn verdict_of(
    policy: &str,
    candidate: &ScoredRows,
    baseline: Option<&ScoredRows>,
    parallel: &dyn Parallel,
) -> Verdict {
    let input = GateInput {
        baseline,
        candidate_label: "flights@2".to_owned(),
        baseline_label: "flights@1".to_owned(),
        ..GateInput::new(
            candidate,
            judged("flights@2", baseline.map(|_| "flights@1")),
            "2026-06-15",
        )
    };
    decide(&gate(policy), &input, parallel)
}

fn shown(verdict: &Verdict) -> String {
    let mut text = format!("{} against {}", verdict.outcome.word(), verdict.baseline);
    if verdict.is_unbaselined {
        text += ", unbaselined";
    }
    text += "\n";
    for it in &verdict.findings {
        let _ =
            writeln!(text, "{}: {} ({}): {}", it.outcome.word(), it.rule, it.subject, it.message);
        if let Some(advice) = &it.advice {
            let _ = writeln!(text, "    {advice}");
        }
    }
    text
}

/// The only place that knows how `decide` is called.
#[track_caller]
fn check(policy: &str, candidate: &ScoredRows, baseline: Option<&ScoredRows>, expected: Expect) {
    expected.assert_eq(&shown(&verdict_of(policy, candidate, baseline, &Serial)));
}

#[test]
fn a_floor_is_passed_failed_or_undecided_by_the_whole_interval() {
    check(
        r#"
        baseline = "none"
        rule = [
            { name = "low", metric = "auc", min = 0.70 },
            { name = "near", metric = "auc", min = 0.76 },
            { name = "high", metric = "auc", min = 0.85 },
            { name = "ceiling", metric = "brier", max = 0.30 },
            { name = "low ceiling", metric = "brier", max = 0.10 },
        ]"#,
        &flights(1_000, "new", 1.0),
        None,
        expect![[r#"
            fail against none, unbaselined
            pass: low (auc, slice all): auc 0.7695, 90 % interval 0.7437 to 0.7934 on 1,000 rows; needs to be at least 0.7
            inconclusive: near (auc, slice all): auc 0.7695, 90 % interval 0.7437 to 0.7934 on 1,000 rows; needs to be at least 0.76
                about 15,000 more labelled rows would decide it, at power 0.8 if the value stays what it is
            fail: high (auc, slice all): auc 0.7695, 90 % interval 0.7437 to 0.7934 on 1,000 rows; needs to be at least 0.85
            pass: ceiling (brier, slice all): brier 0.1962, 90 % interval 0.1875 to 0.2060 on 1,000 rows; needs to be at most 0.3
            fail: low ceiling (brier, slice all): brier 0.1962, 90 % interval 0.1875 to 0.2060 on 1,000 rows; needs to be at most 0.1
        "#]],
    );
}

#[test]
fn equal_predictions_are_not_worse_by_any_metric() {
    let model = flights(400, "same", 1.0);
    check(
        r#"
        rule = [
            { name = "1", metric = "auc", max_regression = { absolute = 0.001 } },
            { name = "2", metric = "log_loss", max_regression = { absolute = 0.001 } },
            { name = "3", metric = "accuracy", max_regression = { absolute = 0.01 } },
            { name = "4", metric = "f1", max_regression = { absolute = 0.001 } },
            { name = "5", metric = "average_precision", max_regression = { relative = 0.001 } },
            { name = "6", metric = "ece_debiased", max_regression = { absolute = 0.001 } },
        ]"#,
        &model,
        Some(&model),
        expect![[r#"
            pass against flights@1
            pass: 1 (auc, slice all): auc 0.7697 against 0.7697: no difference, 90 % interval +0.0000 to +0.0000 on 400 rows, 0 rows went from wrong to right and 0 from right to wrong, P 1.000; needs to be not worse by more than 0.001
            pass: 2 (log_loss, slice all): log_loss 0.5741 against 0.5741: no difference, 90 % interval +0.0000 to +0.0000 on 400 rows, 0 rows went from wrong to right and 0 from right to wrong, P 1.000; needs to be not worse by more than 0.001
            pass: 3 (accuracy, slice all): accuracy 0.7000 against 0.7000: no difference, 90 % interval -0.006718 to +0.006718 on 400 rows, 0 rows went from wrong to right and 0 from right to wrong, P 1.000, effects from 0.01016 on are seen; needs to be not worse by more than 0.01
            pass: 4 (f1, slice all): f1 0.6154 against 0.6154: no difference, 90 % interval +0.0000 to +0.0000 on 400 rows, 0 rows went from wrong to right and 0 from right to wrong, P 1.000; needs to be not worse by more than 0.001
            pass: 5 (average_precision, slice all): average_precision 0.6620 against 0.6620: no difference, 90 % interval +0.0000 to +0.0000 on 400 rows, 0 rows went from wrong to right and 0 from right to wrong, P 1.000; needs to be not worse by more than 0.001 of the baseline's value
            pass: 6 (ece_debiased, slice all): ece_debiased 0.01750 against 0.01750: no difference, 90 % interval +0.0000 to +0.0000 on 400 rows, 0 rows went from wrong to right and 0 from right to wrong, P 1.000; needs to be not worse by more than 0.001
        "#]],
    );
}

#[test]
fn a_regression_beyond_the_margin_fails() {
    check(
        r#"
        rule = [
            { metric = "auc", max_regression = { absolute = 0.02 } },
            { metric = "log_loss", max_regression = { absolute = 0.01 } },
            { metric = "accuracy", max_regression = { absolute = 0.02 } },
            { metric = "average_precision", max_regression = { relative = 0.02 } },
        ]"#,
        &flights(1_000, "new", 0.3),
        Some(&flights(1_000, "old", 1.2)),
        expect![[r#"
            fail against flights@1
            fail: auc not worse by more than 0.02 (auc, slice all): auc 0.5915 against 0.8112: worse by 0.2197, 90 % interval -0.2340 to -0.2054 on 1,000 rows, 3 rows went from wrong to right and 174 from right to wrong, P below 0.000001, effects from 0.02168 on are seen; needs to be not worse by more than 0.02
            fail: log_loss not worse by more than 0.01 (log_loss, slice all): log_loss 0.7265 against 0.5386: worse by 0.1879, 90 % interval -0.1961 to -0.1797 on 1,000 rows, 3 rows went from wrong to right and 174 from right to wrong, P 0.001000, effects from 0.01251 on are seen; needs to be not worse by more than 0.01
            fail: accuracy not worse by more than 0.02 (accuracy, slice all): accuracy 0.5610 against 0.7320: worse by 0.1710, 90 % interval -0.1918 to -0.1518 on 1,000 rows, 3 rows went from wrong to right and 174 from right to wrong, P below 0.000001, effects from 0.03305 on are seen; needs to be not worse by more than 0.02
            fail: average_precision not worse by more than 0.02 of the baseline's value (average_precision, slice all): average_precision 0.4634 against 0.7251: worse by 0.3608 of the baseline's value, 90 % interval -0.3900 to -0.3306 on 1,000 rows, 3 rows went from wrong to right and 174 from right to wrong, P 0.002569, effects from 0.04455 on are seen; needs to be not worse by more than 0.02 of the baseline's value
        "#]],
    );
}

#[test]
fn a_difference_that_could_be_either_is_inconclusive_and_says_how_many_rows_would_tell() {
    check(
        r#"
        rule = [
            { metric = "auc", max_regression = { absolute = 0.005 } },
            { metric = "accuracy", max_regression = { absolute = 0.005 } },
            { metric = "auc", min_improvement = { absolute = 0.0 } },
        ]"#,
        &flights(400, "new", 1.0),
        Some(&flights(400, "old", 1.0)),
        expect![[r#"
            inconclusive against flights@1
            inconclusive: auc not worse by more than 0.005 (auc, slice all): auc 0.7595 against 0.7591: better by 0.0004640, 90 % interval -0.01230 to +0.01323 on 400 rows, 17 rows went from wrong to right and 19 from right to wrong, P 0.9523, effects from 0.01929 on are seen; needs to be not worse by more than 0.005
                about 5,600 more labelled rows would decide it, at power 0.8 if the models are equally good
            inconclusive: accuracy not worse by more than 0.005 (accuracy, slice all): accuracy 0.6925 against 0.6975: worse by 0.005000, 90 % interval -0.03053 to +0.02028 on 400 rows, 17 rows went from wrong to right and 19 from right to wrong, P 0.7428, effects from 0.03720 on are seen; needs to be not worse by more than 0.005
                about 22,000 more labelled rows would decide it, at power 0.8 if the models are equally good
            inconclusive: auc better by more than 0 (auc, slice all): auc 0.7595 against 0.7591: better by 0.0004640, 90 % interval -0.01230 to +0.01323 on 400 rows, 17 rows went from wrong to right and 19 from right to wrong, P 0.9523, effects from 0.01929 on are seen; needs to be better by more than 0
                about 700,000 more labelled rows would decide it, at power 0.8 if the value stays what it is
        "#]],
    );
}

#[test]
fn inconclusive_can_be_allowed_and_stays_in_the_record() {
    let policy = r#"
        inconclusive = "allow"
        rule = [{ metric = "auc", max_regression = { absolute = 0.005 } }]"#;
    let (new, old) = (flights(400, "new", 1.0), flights(400, "old", 1.0));
    let verdict = verdict_of(policy, &new, Some(&old), &Serial);
    assert_eq!(verdict.outcome, karat_core::Outcome::Inconclusive);
    assert!(verdict.inconclusive_is_allowed);
}

#[test]
fn an_improvement_has_to_be_shown_and_too_much_of_it_is_an_alarm() {
    check(
        r#"
        rule = [
            { name = "better", metric = "auc", min_improvement = { absolute = 0.01 } },
            { name = "much better", metric = "auc", min_improvement = { relative = 0.6 } },
            { name = "not suspicious", metric = "auc", max_improvement = { absolute = 0.5 }, severity = "error" },
            { name = "suspicious", metric = "auc", max_improvement = { absolute = 0.05 }, severity = "error" },
            { name = "said only", metric = "auc", max_improvement = { absolute = 0.05 } },
        ]"#,
        &flights(1_000, "new", 2.0),
        Some(&flights(1_000, "old", 0.5)),
        expect![[r#"
            fail against flights@1
            pass: better (auc, slice all): auc 0.9273 against 0.6433: better by 0.2840, 90 % interval +0.2637 to +0.3043 on 1,000 rows, 255 rows went from wrong to right and 0 from right to wrong, P below 0.000001, effects from 0.03065 on are seen; needs to be better by more than 0.01
            fail: much better (auc, slice all): auc 0.9273 against 0.6433: better by 0.4415 of the baseline's value, 90 % interval +0.3926 to +0.4943 on 1,000 rows, 255 rows went from wrong to right and 0 from right to wrong, P 0.001727, effects from 0.07732 on are seen; needs to be better by more than 0.6 of the baseline's value
            pass: not suspicious (auc, slice all): auc 0.9273 against 0.6433: better by 0.2840, 90 % interval +0.2637 to +0.3043 on 1,000 rows, 255 rows went from wrong to right and 0 from right to wrong, P below 0.000001, effects from 0.03065 on are seen; needs to be not better by more than 0.5
            fail: suspicious (auc, slice all): auc 0.9273 against 0.6433: better by 0.2840, 90 % interval +0.2637 to +0.3043 on 1,000 rows, 255 rows went from wrong to right and 0 from right to wrong, P below 0.000001, effects from 0.03065 on are seen; needs to be not better by more than 0.05
            warn: said only (auc, slice all): auc 0.9273 against 0.6433: better by 0.2840, 90 % interval +0.2637 to +0.3043 on 1,000 rows, 255 rows went from wrong to right and 0 from right to wrong, P below 0.000001, effects from 0.03065 on are seen; needs to be not better by more than 0.05
        "#]],
    );
}

#[test]
fn positive_is_better_whichever_way_the_metric_points() {
    let (good, bad) = (flights(1_000, "new", 1.5), flights(1_000, "old", 0.2));
    let policy = r#"
        rule = [
            { metric = "brier", min_improvement = { absolute = 0.0 } },
            { metric = "balanced_accuracy", min_improvement = { absolute = 0.0 } },
        ]"#;
    check(
        policy,
        &good,
        Some(&bad),
        expect![[r#"
            pass against flights@1
            pass: brier better by more than 0 (brier, slice all): brier 0.1567 against 0.2717: better by 0.1149, 90 % interval +0.1107 to +0.1190 on 1,000 rows, 245 rows went from wrong to right and 0 from right to wrong, P 0.001000, effects from 0.006173 on are seen; needs to be better by more than 0
            pass: balanced_accuracy better by more than 0 (balanced_accuracy, slice all): balanced_accuracy 0.7783 against 0.5370: better by 0.2414, 90 % interval +0.2165 to +0.2649 on 1,000 rows, 245 rows went from wrong to right and 0 from right to wrong, P 0.001936, effects from 0.03571 on are seen; needs to be better by more than 0
        "#]],
    );
    check(
        policy,
        &bad,
        Some(&good),
        expect![[r#"
            fail against flights@1
            fail: brier better by more than 0 (brier, slice all): brier 0.2717 against 0.1567: worse by 0.1149, 90 % interval -0.1192 to -0.1109 on 1,000 rows, 0 rows went from wrong to right and 245 from right to wrong, P 0.001000, effects from 0.006182 on are seen; needs to be better by more than 0
            fail: balanced_accuracy better by more than 0 (balanced_accuracy, slice all): balanced_accuracy 0.5370 against 0.7783: worse by 0.2414, 90 % interval -0.2618 to -0.2160 on 1,000 rows, 0 rows went from wrong to right and 245 from right to wrong, P 0.002257, effects from 0.03518 on are seen; needs to be better by more than 0
        "#]],
    );
}

#[test]
fn a_slice_is_judged_by_its_own_rows() {
    check(
        r#"
        rule = [
            { name = "evening", metric = "auc", slice = "evening", min = 0.6 },
            { name = "one carrier", metric = "auc", slice = "carrier=AA", max_regression = { absolute = 0.1 } },
            { name = "carriers", metric = "auc", slice = "carrier=*", max_regression = { absolute = 0.1 }, n_rows_min = 100 },
        ]"#,
        &flights(1_000, "new", 1.0),
        Some(&flights(1_000, "old", 1.0)),
        expect![[r#"
            pass against flights@1
            pass: evening (auc, slice evening): auc 0.7527, 90 % interval 0.7065 to 0.7937 on 334 rows; needs to be at least 0.6
            pass: one carrier (auc, slice carrier=AA): auc 0.7760 against 0.7674: better by 0.008595, 90 % interval -0.004240 to +0.02143 on 400 rows, 24 rows went from wrong to right and 11 from right to wrong, P 0.2707, effects from 0.01940 on are seen; needs to be not worse by more than 0.1
            pass: carriers (auc, slice carrier=AA): auc 0.7760 against 0.7674: better by 0.008595, 90 % interval -0.004240 to +0.02143 on 400 rows, 24 rows went from wrong to right and 11 from right to wrong, P 0.2707, effects from 0.01940 on are seen; needs to be not worse by more than 0.1
            pass: carriers (auc, slice carrier=UA): auc 0.7611 against 0.7666: worse by 0.005469, 90 % interval -0.01618 to +0.005242 on 550 rows, 19 rows went from wrong to right and 25 from right to wrong, P 0.4010, effects from 0.01619 on are seen; needs to be not worse by more than 0.1
            warn: carriers (auc, slice carrier=*): 1 of 3 values are too small, not tested (the rule needs 100 rows): carrier=HA (50)
        "#]],
    );
}

#[test]
fn a_family_without_a_minimum_tests_what_is_large_enough_for_its_margin() {
    check(
        r#"rule = [{ metric = "accuracy", slice = "carrier=*", max_regression = { absolute = 0.03 } }]"#,
        &flights(1_000, "new", 1.0),
        Some(&flights(1_000, "old", 1.0)),
        expect![[r#"
            inconclusive against flights@1
            inconclusive: accuracy not worse by more than 0.03 (accuracy, slice carrier=UA): accuracy 0.6909 against 0.7018: worse by 0.01091, 90 % interval -0.03146 to +0.009172 on 550 rows, 19 rows went from wrong to right and 25 from right to wrong, P 0.3713, effects from 0.02993 on are seen; needs to be not worse by more than 0.03
                about 880 more labelled rows would decide it, at power 0.8 if the value stays what it is
            warn: accuracy not worse by more than 0.03 (accuracy, slice carrier=*): 2 of 3 values are too small, not tested: carrier=AA (400), carrier=HA (50)
        "#]],
    );
}

#[test]
fn a_small_named_slice_is_inconclusive_and_so_is_a_family_of_small_values() {
    check(
        r#"
        rule = [
            { name = "named", metric = "auc", slice = "carrier=HA", min = 0.5, n_rows_min = 2000 },
            { name = "all rows", metric = "auc", min = 0.5, n_rows_min = 2000 },
            { name = "family", metric = "auc", slice = "carrier=*", min = 0.5, n_rows_min = 2000 },
        ]"#,
        &flights(1_000, "new", 1.0),
        None,
        expect![[r#"
            fail against none
            inconclusive: named (auc, slice carrier=HA): 50 labelled rows, the rule needs 2,000
                1,950 more labelled rows would let it be judged
            inconclusive: all rows (auc, slice all): 1,000 labelled rows, the rule needs 2,000
                1,000 more labelled rows would let it be judged
            inconclusive: family (auc, slice carrier=*): all 3 values have too few rows (the rule needs 2,000 rows)
                more labelled rows, or a smaller `n_rows_min`, let it be judged
            not applied: baseline (baseline): there is no baseline yet, and the policy says `without_baseline = "fail"`
                `without_baseline = "absolute-rules-only"` lets a first version pass on absolute rules alone
        "#]],
    );
}

#[test]
fn a_warning_never_blocks_and_never_hides() {
    check(
        r#"
        baseline = "none"
        rule = [
            { name = "wish", metric = "auc", min = 0.99, severity = "warn" },
            { name = "need", metric = "auc", min = 0.6 },
        ]"#,
        &flights(500, "new", 1.0),
        None,
        expect![[r#"
            pass against none, unbaselined
            warn: wish (auc, slice all): auc 0.7733, 90 % interval 0.7353 to 0.8072 on 500 rows; needs to be at least 0.99
            pass: need (auc, slice all): auc 0.7733, 90 % interval 0.7353 to 0.8072 on 500 rows; needs to be at least 0.6
        "#]],
    );
}

#[test]
fn a_waiver_covers_its_rule_until_its_day_and_is_always_shown() {
    check(
        r#"
        baseline = "none"
        rule = [
            { name = "reach", metric = "auc", min = 0.99 },
            { name = "reach too", metric = "auc", min = 0.98 },
        ]
        waiver = [
            { rule = "reach", until = 2026-06-15, by = "ana", reason = "labels are late" },
            { rule = "reach too", until = 2026-06-14, by = "bo", reason = "old" },
        ]"#,
        &flights(500, "new", 1.0),
        None,
        expect![[r#"
            fail against none, unbaselined
            waived: reach (auc, slice all): auc 0.7733, 90 % interval 0.7353 to 0.8072 on 500 rows; needs to be at least 0.99 (fail); waived until 2026-06-15 by ana: labels are late
            fail: reach too (auc, slice all): auc 0.7733, 90 % interval 0.7353 to 0.8072 on 500 rows; needs to be at least 0.98
            warn: reach too (waiver): the waiver of bo ended on 2026-06-14 and covers nothing any more: old
                remove it from gate.toml, or renew it with a new reason
        "#]],
    );
}

#[test]
fn the_naive_baseline_is_what_has_to_be_beaten() {
    check(
        r#"
        baseline = "naive"
        rule = [
            { metric = "auc", min_improvement = { absolute = 0.1 } },
            { metric = "brier", min_improvement = { absolute = 0.0 } },
        ]"#,
        &flights(500, "new", 2.0),
        None,
        expect![[r#"
            pass against naive
            pass: auc better by more than 0.1 (auc, slice all): auc 0.9286 against 0.5000: better by 0.4286, 90 % interval +0.4094 to +0.4478 on 500 rows, 151 rows went from wrong to right and 46 from right to wrong, P below 0.000001, effects from 0.02899 on are seen; needs to be better by more than 0.1
            pass: brier better by more than 0 (brier, slice all): brier 0.1211 against 0.2310: better by 0.1099, 90 % interval +0.09595 to +0.1233 on 500 rows, 151 rows went from wrong to right and 46 from right to wrong, P 0.001000, effects from 0.02096 on are seen; needs to be better by more than 0
        "#]],
    );
}

#[test]
fn several_classes_and_numbers_are_judged_too() {
    let n = 300;
    let label: Vec<f32> = (0..n).map(|row| (row % 3) as f32).collect();
    let guess = |right: usize| -> Vec<f32> {
        let of_row = |row: usize| {
            let class = if row % 10 < right { row % 3 } else { (row + 1) % 3 };
            (0..3).map(move |it| if it == class { 0.8 } else { 0.1 })
        };
        (0..n).flat_map(of_row).collect()
    };
    let classes = |right| rows(Task::Multiclass, &["a", "b", "c"], label.clone(), guess(right));
    check(
        r#"
        rule = [
            { metric = "accuracy", max_regression = { absolute = 0.05 } },
            { metric = "f1", min_improvement = { absolute = 0.0 } },
            { metric = "log_loss", min_improvement = { absolute = 0.0 } },
        ]"#,
        &classes(9),
        Some(&classes(7)),
        expect![[r#"
            pass against flights@1
            pass: accuracy not worse by more than 0.05 (accuracy, slice all): accuracy 0.9000 against 0.7000: better by 0.2000, 90 % interval +0.1648 to +0.2406 on 300 rows, 60 rows went from wrong to right and 0 from right to wrong, P below 0.000001, effects from 0.06398 on are seen; needs to be not worse by more than 0.05
            pass: f1 better by more than 0 (f1, slice all): f1 0.9000 against 0.7000: better by 0.2000, 90 % interval +0.1632 to +0.2376 on 300 rows, 60 rows went from wrong to right and 0 from right to wrong, P 0.001202, effects from 0.05599 on are seen; needs to be better by more than 0
            pass: log_loss better by more than 0 (log_loss, slice all): log_loss 0.4311 against 0.8470: better by 0.4159, 90 % interval +0.3396 to +0.4921 on 300 rows, 60 rows went from wrong to right and 0 from right to wrong, P 0.001000, effects from 0.1162 on are seen; needs to be better by more than 0
        "#]],
    );
    let value: Vec<f32> = crate::testing::normals("value", n).iter().map(|it| *it as f32).collect();
    let noise = crate::testing::normals("error", n);
    let numbers = |size: f64| {
        let score = value.iter().zip(&noise).map(|(y, e)| y + (size * e) as f32).collect();
        rows(Task::Regression, &[], value.clone(), score)
    };
    check(
        r#"
        rule = [
            { metric = "rmse", max_regression = { relative = 0.05 } },
            { metric = "r2", min = 0.5 },
            { metric = "mae", min_improvement = { absolute = 0.05 } },
        ]"#,
        &numbers(0.3),
        Some(&numbers(0.5)),
        expect![[r#"
            pass against flights@1
            pass: rmse not worse by more than 0.05 of the baseline's value (rmse, slice all): rmse 0.2859 against 0.4764: better by 0.4000 of the baseline's value, 90 % interval +0.4000 to +0.4000 on 300 rows, P 0.002554, effects from 0.00000001 on are seen; needs to be not worse by more than 0.05 of the baseline's value
            pass: r2 at least 0.5 (r2, slice all): r2 0.9259, 90 % interval 0.9110 to 0.9387 on 300 rows; needs to be at least 0.5
            pass: mae better by more than 0.05 (mae, slice all): mae 0.2254 against 0.3757: better by 0.1503, 90 % interval +0.1394 to +0.1612 on 300 rows, P 0.001000, effects from 0.01636 on are seen; needs to be better by more than 0.05
        "#]],
    );
}

#[test]
fn rows_that_belong_together_are_resampled_together() {
    let mut rows = flights(600, "new", 1.0);
    let width = |rows: &ScoredRows| {
        let policy = r#"
            baseline = "none"
            rule = [{ metric = "brier", min = 0.0 }]"#;
        let verdict = verdict_of(policy, rows, None, &Serial);
        let [low, high] = verdict.findings[0].interval.unwrap_or_else(|| panic!("{verdict:?}"));
        high - low
    };
    let alone = width(&rows);
    // The same rows, sixty of each group alike: there are ten facts, not six hundred.
    rows.group = Some((0..600).map(|row| row / 60).collect());
    for row in 0..600 {
        (rows.label[row], rows.score[row]) = (rows.label[row / 60 * 60], rows.score[row / 60 * 60]);
    }
    let together = width(&rows);
    assert!(3.0 * alone < together, "{alone} {together}");
}

/// Does the work backwards, as threads might.
struct Backwards;

impl Parallel for Backwards {
    fn for_each(&self, n: usize, work: &(dyn Fn(usize) + Sync)) {
        (0..n).rev().for_each(work);
    }
}

#[test]
fn a_verdict_does_not_depend_on_threads_or_on_the_order_of_rules() {
    let one = r#"{ name = "a", metric = "log_loss", max_regression = { absolute = 0.01 } }"#;
    let two = r#"{ name = "b", metric = "f1", slice = "carrier=*", max_regression = { absolute = 0.1 } }"#;
    let (new, old) = (flights(500, "new", 1.0), flights(500, "old", 1.0));
    let of = |rules: [&str; 2], parallel: &dyn Parallel| {
        verdict_of(&format!("rule = [{}]", rules.join(",")), &new, Some(&old), parallel)
    };
    let verdict = of([one, two], &Serial);
    assert_eq!(verdict, of([one, two], &Backwards));
    let mut other = of([two, one], &Serial);
    other.findings.sort_by(|a, b| a.rule.cmp(&b.rule));
    assert_eq!(verdict, other);
}

#[test]
fn flipped_rows_are_shown_by_name_and_counted() {
    let policy = r#"rule = [{ metric = "accuracy", max_regression = { absolute = 0.1 } }]"#;
    let (new, old) = (flights(300, "new", 1.0), flights(300, "old", 1.0));
    let verdict = verdict_of(policy, &new, Some(&old), &Serial);
    let finding = &verdict.findings[0];
    expect![[r#"
        [
            "wrong to right: flight 8",
            "wrong to right: flight 27",
            "wrong to right: flight 61",
            "wrong to right: flight 79",
            "wrong to right: flight 87",
            "right to wrong: flight 1",
            "right to wrong: flight 31",
            "right to wrong: flight 43",
            "right to wrong: flight 75",
            "right to wrong: flight 107",
        ]
        {
            "baseline": 0.6933333333333334,
            "candidate": 0.6766666666666666,
            "disagreeing": 27.0,
            "effect_min_seen": 0.04291707248738877,
            "n": 300.0,
            "p": 0.3449284508824354,
            "right_to_wrong": 16.0,
            "standard_error": 0.017965346514814604,
            "wrong_to_right": 11.0,
        }
    "#]]
    .assert_eq(&format!("{:#?}\n{:#?}\n", finding.examples, finding.numbers));
}
