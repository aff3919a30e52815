//! Cases with many slices, several opponents, and rows that have been asked before.

use std::collections::BTreeMap;

use expect_test::{Expect, expect};
use karat_core::{
    Digest, Outcome, ScoredRows, Verdict, policy::Measure, scored::Votes, verdict::FamilyTest,
};

use super::{GateInput, check, decide, flights, gate, judged, shown};
use crate::{
    correction::{benjamini_hochberg, holm},
    parallel::Serial,
    testing::family,
};

/// Twenty origins of equal size beside the carriers.
fn with_origins(mut rows: ScoredRows) -> ScoredRows {
    let names: Vec<String> = (0..20).map(|at| format!("{at:02}")).collect();
    let of_row: Vec<&str> = (0..rows.n_rows()).map(|row| names[row * 7 % 20].as_str()).collect();
    rows.slices.push(family("origin", &of_row));
    rows
}

/// One verdict with whatever `change` adds to the candidate and the baseline.
#[track_caller]
fn verdict(
    policy: &str,
    candidate: &ScoredRows,
    baseline: &ScoredRows,
    change: impl for<'a> FnOnce(&mut GateInput<'a>),
) -> Verdict {
    let mut input = GateInput {
        baseline: Some(baseline),
        candidate_label: "flights@5".to_owned(),
        baseline_label: "flights@4".to_owned(),
        ..GateInput::new(candidate, judged("flights@5", Some("flights@4")), "2026-06-15")
    };
    change(&mut input);
    decide(&gate(policy), &input, &Serial)
}

fn outcomes(verdict: &Verdict) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for finding in &verdict.findings {
        *counts.entry(finding.outcome.word()).or_default() += 1;
    }
    counts
}

#[test]
fn crossed_slices_are_judged_and_small_cells_are_counted() {
    check(
        r#"
        rule = [
            { name = "cells", metric = "auc", slice = "carrier=* & evening", max_regression = { absolute = 0.1 }, n_rows_min = 100 },
            { name = "one cell", metric = "auc", slice = "carrier=UA & evening", min = 0.6 },
            { name = "no cell", metric = "auc", slice = "carrier=UA & night", min = 0.6 },
        ]"#,
        &flights(1_000, "new", 1.0),
        Some(&flights(1_000, "old", 1.0)),
        expect![[r#"
            fail against flights@1
            pass: cells (auc, slice carrier=AA & evening): auc 0.7498 against 0.7441: better by 0.005708, 90 % interval -0.01955 to +0.03097 on 133 rows, 13 rows went from wrong to right and 5 from right to wrong, P 0.7102, effects from 0.03819 on are seen; needs to be not worse by more than 0.1
            pass: cells (auc, slice carrier=UA & evening): auc 0.7616 against 0.7770: worse by 0.01546, 90 % interval -0.03382 to +0.002913 on 184 rows, 4 rows went from wrong to right and 12 from right to wrong, P 0.1664, effects from 0.02777 on are seen; needs to be not worse by more than 0.1
            warn: cells (auc, slice carrier=* & evening): 1 of 3 values are too small, not tested (the rule needs 100 rows): carrier=HA & evening (17)
            pass: one cell (auc, slice carrier=UA & evening): auc 0.7616, 90 % interval 0.6982 to 0.8151 on 184 rows; needs to be at least 0.6
            not applied: no cell (auc, slice carrier=UA & night): not measured: slice `night` has no labelled row
        "#]],
    );
}

/// A floor where the truth is: each of twenty slices is as good as the others, and one looks worse.
#[test]
fn one_of_many_slices_fails_by_chance_and_holm_takes_it_back() {
    let policy = |correction: &str| {
        format!(
            r#"rule = [{{ name = "origins", metric = "accuracy", slice = "origin=*", min = 0.69, n_rows_min = 50, correction = "{correction}" }}]"#
        )
    };
    let (new, old) =
        (with_origins(flights(2_000, "new", 1.0)), with_origins(flights(2_000, "old", 1.0)));
    let alone = verdict(&policy("none"), &new, &old, |_| ());
    let together = verdict(&policy("holm"), &new, &old, |_| ());
    expect![[r#"
        {"fail": 1, "inconclusive": 19}
        {"inconclusive": 20}
    "#]]
    .assert_eq(&format!("{:?}\n{:?}\n", outcomes(&alone), outcomes(&together)));
    let taken_back = together
        .findings
        .iter()
        .find(|it| it.message.contains("broken when looked at alone"))
        .expect("one slice");
    expect!["accuracy 0.6000, 90 % interval 0.5178 to 0.6769 on 100 rows; needs to be at least 0.69; broken when looked at alone, not among 20 slices (P of the breach 0.02583, by Holm 0.5166)"].assert_eq(&taken_back.message);
    let numbers = &taken_back.numbers;
    // The corrected P is that of Holm over all twenty.
    let p: Vec<f64> = together.findings.iter().map(|it| it.numbers["p_breach"]).collect();
    let place = together.findings.iter().position(|it| it.subject == taken_back.subject);
    assert_eq!(numbers.get("p_breach_holm"), place.map(|at| holm(&p)[at]).as_ref());
    assert!(numbers["p_breach"] < 0.05 && 0.05 <= numbers["p_breach_holm"]);
}

#[test]
fn a_slice_that_is_clearly_worse_fails_among_many() {
    let (mut new, old) =
        (with_origins(flights(2_000, "new", 1.0)), with_origins(flights(2_000, "old", 1.0)));
    for row in 0..2_000 {
        if row * 7 % 20 == 3 {
            new.score[row] = 1.0 - new.score[row];
        }
    }
    let policy = r#"rule = [{ name = "origins", metric = "accuracy", slice = "origin=*", max_regression = { absolute = 0.01 }, n_rows_min = 50 }]"#;
    let found = verdict(policy, &new, &old, |_| ());
    let failed: Vec<&str> = found
        .findings
        .iter()
        .filter(|it| it.outcome == Outcome::Fail)
        .map(|it| it.subject.as_str())
        .collect();
    assert_eq!(failed, ["accuracy, slice origin=03"]);
    assert_eq!(found.outcome, Outcome::Fail);
}

#[test]
fn every_declared_slice_is_in_the_tables_with_both_corrections() {
    let (new, old) =
        (with_origins(flights(2_000, "new", 1.2)), with_origins(flights(2_000, "old", 1.0)));
    let policy = r#"rule = [{ metric = "auc", max_regression = { absolute = 0.01 } }]"#;
    let found = verdict(policy, &new, &old, |_| ());
    // `carrier=HA` has 100 rows; `night` has none and is not tested.
    let of = |name: &str| -> Vec<&FamilyTest> {
        found.families.iter().filter(|it| it.family == name).collect()
    };
    assert_eq!((of("carrier=*").len(), of("origin=*").len(), of("slices").len()), (3, 20, 1));
    assert_eq!(found.families.len(), 24);
    let origins = of("origin=*");
    let p: Vec<f64> = origins.iter().map(|it| it.p).collect();
    assert_eq!(origins.iter().map(|it| it.p_holm).collect::<Vec<_>>(), holm(&p));
    assert_eq!(origins.iter().map(|it| it.p_bh).collect::<Vec<_>>(), benjamini_hochberg(&p));
    assert!(p.iter().any(|it| *it < 0.05), "a better model differs somewhere: {p:?}");
    // They decide nothing.
    assert_eq!(found.findings.len(), 1);
}

/// Each promotion may lose a little. The anchor remembers.
#[test]
fn small_losses_that_add_up_fail_against_the_anchor() {
    let policy = r#"
        anchor = "flights@1"
        rule = [
            { name = "floor", metric = "auc", min = 0.5 },
            { name = "not worse", metric = "auc", max_regression = { absolute = 0.03 } },
        ]"#;
    let (new, old) = (flights(2_000, "new", 0.95), flights(2_000, "old", 1.0));
    let first = flights(2_000, "first", 1.5);
    let text = |change: &dyn Fn(&mut GateInput<'_>)| {
        let mut input = GateInput {
            baseline: Some(&old),
            baseline_label: "flights@4".to_owned(),
            anchor: Some(&first),
            anchor_label: "flights@1".to_owned(),
            ..GateInput::new(&new, judged("flights@5", Some("flights@4")), "2026-06-15")
        };
        input.judged.anchor = Some(Digest::of(b"flights@1"));
        change(&mut input);
        let verdict = decide(&gate(policy), &input, &Serial);
        assert_eq!(verdict.anchor.as_deref(), Some("flights@1"));
        shown(&verdict)
    };
    let check = |change: &dyn Fn(&mut GateInput<'_>), expected: Expect| {
        expected.assert_eq(&text(change));
    };
    check(
        &|_| (),
        expect![[r#"
        fail against flights@4
        pass: floor (auc, slice all): auc 0.7501, 90 % interval 0.7316 to 0.7676 on 2,000 rows; needs to be at least 0.5
        pass: not worse (auc, slice all): auc 0.7501 against 0.7589: worse by 0.008819, 90 % interval -0.01428 to -0.003358 on 2,000 rows, 74 rows went from wrong to right and 91 from right to wrong, P 0.007900, effects from 0.008255 on are seen; needs to be not worse by more than 0.03
        fail: not worse (auc, slice all, against flights@1): auc 0.7501 against 0.8579: worse by 0.1078, 90 % interval -0.1152 to -0.1005 on 2,000 rows, 13 rows went from wrong to right and 222 from right to wrong, P below 0.000001, effects from 0.01107 on are seen; needs to be not worse by more than 0.03
    "#]],
    );
    // Nobody scored it: that is no pass.
    check(
        &|it| it.anchor = None,
        expect![[r#"
        fail against flights@4
        pass: floor (auc, slice all): auc 0.7501, 90 % interval 0.7316 to 0.7676 on 2,000 rows; needs to be at least 0.5
        pass: not worse (auc, slice all): auc 0.7501 against 0.7589: worse by 0.008819, 90 % interval -0.01428 to -0.003358 on 2,000 rows, 74 rows went from wrong to right and 91 from right to wrong, P 0.007900, effects from 0.008255 on are seen; needs to be not worse by more than 0.03
        not applied: not worse (auc, slice all, against flights@1): not measured: the anchor flights@1 has no predictions on these rows
    "#]],
    );
    // The candidate is the anchor, or the baseline is: there is nothing to ask twice.
    let both = text(&|it| it.judged.anchor = it.judged.baseline);
    assert_eq!(both, text(&|it| it.judged.anchor = Some(it.judged.candidate)));
    assert!(!both.contains("against flights@1") && both.starts_with("pass"), "{both}");
}

#[test]
fn a_spent_budget_decides_nothing_and_shows_nothing() {
    let policy = r#"
        inconclusive = "allow"
        budget = { uses = 8 }
        rule = [
            { name = "floor", metric = "auc", min = 0.5 },
            { name = "wish", metric = "auc", min = 0.9, severity = "warn" },
            { metric = "model_size_mib", max = 3 },
        ]"#;
    let (new, old) = (flights(300, "new", 1.0), flights(300, "old", 1.0));
    let found = verdict(policy, &new, &old, |it| {
        it.budget_left = false;
        it.operational.insert(Measure::ModelSizeMib, Ok(2.5));
    });
    expect![[r#"
        inconclusive against flights@4
        inconclusive: floor (auc): not asked: the budget of 8 uses of these rows is spent
            label fresh rows: a new evaluation set has a budget of its own
        warn: wish (auc): not asked: the budget of 8 uses of these rows is spent
            label fresh rows: a new evaluation set has a budget of its own
        pass: model_size_mib at most 3 (model_size_mib): model_size_mib 2.500; needs to be at most 3
    "#]]
    .assert_eq(&shown(&found));
    assert!(found.report.cells.is_empty() && found.families.is_empty());
    // Allowed where rows are few; not where they were used up.
    assert!(!found.inconclusive_is_allowed);
    assert!(verdict(policy, &new, &old, |_| ()).inconclusive_is_allowed);
}

#[test]
fn a_budget_that_reveals_the_verdict_asks_for_more_and_says_one_bit() {
    let policy = |reveal: &str| {
        format!(
            r#"
        budget = {{ uses = 8, reveal = "{reveal}" }}
        rule = [
            {{ name = "floor", metric = "auc", min = 0.745 }},
            {{ name = "evening", metric = "auc", slice = "evening", min = 0.6 }},
            {{ name = "no such metric here", metric = "rmse", max = 1.0, severity = "warn" }},
        ]"#
        )
    };
    let (new, old) = (flights(1_000, "new", 1.0), flights(1_000, "old", 1.0));
    let numbers = verdict(&policy("numbers"), &new, &old, |_| ());
    let hidden = verdict(&policy("verdict"), &new, &old, |_| ());
    assert!((numbers.reliability - 0.95).abs() < 1e-12);
    assert!((hidden.reliability - (1.0 - 0.05 / 8.0)).abs() < 1e-12);
    expect![[r#"
        inconclusive against flights@4
        inconclusive: floor (auc, slice all): auc 0.7695, 90 % interval 0.7437 to 0.7934 on 1,000 rows; needs to be at least 0.745
            about 1,400 more labelled rows would decide it, at power 0.8 if the value stays what it is
        pass: evening (auc, slice evening): auc 0.7527, 90 % interval 0.7065 to 0.7937 on 334 rows; needs to be at least 0.6
        warn: no such metric here (rmse, slice all): not measured: `rmse` is not a metric of a binary task

        fail against flights@4
        warn: no such metric here (rmse, slice all): not measured: `rmse` is not a metric of a binary task
        fail: all rules about answers (all slices): they do not all hold, or too few rows tell; numbers stay unseen, as `budget.reveal = "verdict"` asks
    "#]].assert_eq(&format!("{}\n{}", shown(&numbers), shown(&hidden)));
    let told = format!("{hidden:?}");
    assert!(!told.contains("0.7695"), "a number is in the record: {told}");
    assert!(hidden.report.cells.is_empty() && hidden.report.curves.is_empty());
    assert!(hidden.families.is_empty());
}

#[test]
fn operational_rules_are_decided_beside_the_others() {
    let policy = r#"
        rule = [
            { metric = "latency_p95_ms", max = 4 },
            { metric = "clean_git" },
            { metric = "parity_max", max = 1e-5 },
            { metric = "rows_per_second", min = 1e6, severity = "warn" },
            { name = "floor", metric = "auc", min = 0.5 },
        ]
        waiver = [{ rule = "clean_git", until = 2026-12-31, by = "ana", reason = "first import" }]"#;
    let (new, old) = (flights(300, "new", 1.0), flights(300, "old", 1.0));
    let found = verdict(policy, &new, &old, |it| {
        it.operational = BTreeMap::from([
            (Measure::LatencyP95Ms, Ok(3.25)),
            (Measure::CleanGit, Ok(0.0)),
            (Measure::ParityMax, Err("this machine has one device".to_owned())),
            (Measure::RowsPerSecond, Ok(80_000.0)),
        ]);
    });
    expect![[r#"
        fail against flights@4
        pass: floor (auc, slice all): auc 0.7536, 90 % interval 0.7017 to 0.7991 on 300 rows; needs to be at least 0.5
        pass: latency_p95_ms at most 4 (latency_p95_ms): latency_p95_ms 3.250; needs to be at most 4
        waived: clean_git (clean_git): clean_git: no; needs to be yes (fail); waived until 2026-12-31 by ana: first import
        not applied: parity_max at most 0.00001 (parity_max): not measured: this machine has one device
        warn: rows_per_second at least 1000000 (rows_per_second): rows_per_second 80,000; needs to be at least 1000000
    "#]].assert_eq(&shown(&found));
    assert_eq!(found.operational.len(), 3);
}

/// Rows that two people labelled: the interval is wider than that of as many rows with one label, and says of how many.
#[test]
fn several_labels_a_row_are_in_the_interval() {
    let mut rows = flights(1_000, "new", 1.0);
    let once = rows.clone();
    let mut votes = Votes { starts: vec![0], labels: Vec::new() };
    for (row, label) in rows.label.iter().enumerate() {
        let other = if row % 5 == 0 { 1.0 - label } else { *label };
        votes.labels.extend([*label, other]);
        votes.starts.push(votes.labels.len() as u32);
    }
    rows.votes = Some(votes);
    let policy = r#"
        baseline = "none"
        rule = [{ metric = "auc", min = 0.6 }, { metric = "brier", max = 0.3, n_rows_min = 1000 }]"#;
    let of = |rows: &ScoredRows| {
        let input = GateInput::new(rows, judged("flights@5", None), "2026-06-15");
        decide(&gate(policy), &input, &Serial)
    };
    let (wide, narrow) = (of(&rows), of(&once));
    expect![[r#"
        pass against none, unbaselined
        pass: auc at least 0.6 (auc, slice all): auc 0.7144, 90 % interval 0.6888 to 0.7360 on 1,000 rows with 2,000 labels; needs to be at least 0.6
        pass: brier at most 0.3 (brier, slice all): brier 0.2165, 90 % interval 0.2083 to 0.2256 on 1,000 rows with 2,000 labels; needs to be at most 0.3
    "#]].assert_eq(&shown(&wide));
    assert_eq!(wide.findings[0].numbers.get("n_labels").map(|it| *it as u64), Some(2_000));
    assert_eq!(wide.findings[0].n_rows, Some(1_000));
    assert!(narrow.findings[0].message.contains("on 1,000 rows;"));
}

#[test]
fn seeds_are_stated_and_decide_nothing() {
    let (new, old) = (flights(500, "new", 1.0), flights(500, "old", 1.0));
    let seeds = [flights(500, "two", 1.3), flights(500, "three", 0.7)];
    let policy = r#"rule = [{ metric = "auc", max_regression = { absolute = 0.1 } }]"#;
    let mut input = GateInput {
        baseline: Some(&old),
        ..GateInput::new(&new, judged("flights@5", Some("flights@4")), "2026-06-15")
    };
    let without = decide(&gate(policy), &input, &Serial);
    input.seeds = &seeds;
    let with = decide(&gate(policy), &input, &Serial);
    assert_eq!(with.findings, without.findings);
    assert_eq!(without.seeds, None);
    let found = with.seeds.expect("three seeds");
    assert_eq!(found.n_seeds, 3);
    // Skills that differ so much vary more than 500 rows do, and together they vary more than each.
    assert!(found.item < found.seed && found.seed < 1.2 * found.joint, "{found:?}");
    // Seeds on other rows are said to be left out.
    let other = [flights(400, "two", 1.3)];
    input.seeds = &other;
    let found = decide(&gate(policy), &input, &Serial);
    assert!(found.seeds.is_none());
    assert!(shown(&found).contains("warn: seeds (seeds): not measured:"), "{}", shown(&found));
}

#[test]
fn predictions_that_mean_nothing_are_not_judged() {
    let old = flights(300, "old", 1.0);
    let mut new = flights(300, "new", 1.0);
    new.names[7] = new.names[6].clone();
    let policy = r#"rule = [
        { name = "floor", metric = "auc", min = 0.5 },
        { name = "margin", metric = "auc", max_regression = { absolute = 0.5 } },
    ]"#;
    check(
        policy,
        &new,
        Some(&old),
        expect![[r#"
        fail against flights@1
        not applied: floor (auc): not measured: 1 of 300 rows have a key that another row has too, first `flight 7`: which of them counts?
        not applied: margin (auc): not measured: 1 of 300 rows have a key that another row has too, first `flight 7`: which of them counts?
    "#]],
    );
    let sums = |off: f32| {
        let classes = ["a", "b"];
        crate::testing::rows(
            karat_core::Task::Multiclass,
            &classes,
            (0..60).map(|row| (row % 2) as f32).collect(),
            (0..60).flat_map(|row| [0.5 + off, 0.4 + 0.01 * (row % 10) as f32]).collect(),
        )
    };
    check(
        "baseline = \"none\"\nrule = [{ metric = \"accuracy\", min = 0.0 }]",
        &sums(0.3),
        None,
        expect![[r#"
            fail against none, unbaselined
            not applied: accuracy at least 0 (accuracy): not measured: 60 of 60 rows have probabilities that do not sum to 1
        "#]],
    );
}
