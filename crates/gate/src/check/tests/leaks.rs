//! Cases of `leak.after` and `leak.target`.

use expect_test::expect;
use karat_core::Task;

use super::{check, classes};
use crate::check::leaks;

#[test]
fn a_feature_that_is_known_only_afterwards_fails() {
    check(
        |it| it.schema("age").known_after = true,
        expect![[r#"
        fail: leak.after (age): feature `age` is marked `known_after`: it is not there when a prediction is made
            `role = "ignore"` for `age` keeps it out of the model
    "#]],
    );
}

#[test]
fn a_leak_is_found() {
    check(
        |it| {
            it.profile.associations[0] =
                classes("age", [[400.0, 0.0], [700.0, 10.0], [20.0, 270.0]]);
        },
        expect![[r#"
            fail: leak.target (age): `age` alone predicts `left`: 0.9796 AUC on 7,000 rows, must be below 0.95
                if `age` is known only afterwards, mark it `known_after = true` and `role = "ignore"`; if it is truly known before, `[check."leak.target"]` with a higher `bound` says so
        "#]],
    );
}

#[test]
fn a_leak_of_a_number_and_of_several_classes_is_found_too() {
    // (n, Σy, Σy²) by bin: 100 rows near 1, 100 near 3.
    let mut number = classes("age", [[0.0; 2]; 3]);
    number.task = Task::Regression;
    number.classes.clear();
    number.cells =
        vec![vec![vec![0.0; 3], vec![100.0, 100.0, 101.0], vec![100.0, 300.0, 901.0]]; 5];
    check(
        |it| it.profile.associations[0] = number,
        expect![[r#"
        fail: leak.target (age): `age` alone predicts `left`: 0.9901 R² of a held-out fit on 0 rows, must be below 0.8
            if `age` is known only afterwards, mark it `known_after = true` and `role = "ignore"`; if it is truly known before, `[check."leak.target"]` with a higher `bound` says so
    "#]],
    );
    let mut several = classes("age", [[0.0; 2]; 3]);
    several.task = Task::Multiclass;
    several.classes = ["a", "b", "c"].map(str::to_owned).to_vec();
    several.cells = vec![vec![vec![90.0, 2.0, 2.0], vec![2.0, 90.0, 2.0], vec![2.0, 2.0, 90.0]]; 5];
    check(
        |it| it.profile.associations[0] = several,
        expect![[r#"
        fail: leak.target (age): `age` alone predicts `left`: 0.9362 of the possible gain in accuracy on 0 rows, must be below 0.8
            if `age` is known only afterwards, mark it `known_after = true` and `role = "ignore"`; if it is truly known before, `[check."leak.target"]` with a higher `bound` says so
    "#]],
    );
}

#[test]
fn a_bound_of_the_project_is_the_only_one_for_a_leak() {
    let telling = classes("age", [[400.0, 0.0], [700.0, 10.0], [20.0, 270.0]]);
    check(
        |it| {
            it.profile.associations[0] = telling;
            it.set("leak.target", None, Some(1.0));
        },
        expect![[""]],
    );
}

#[test]
fn a_feature_that_was_not_counted_against_the_label_is_not_applied() {
    check(
        |it| drop(it.profile.associations.remove(0)),
        expect![[r#"
        not applied: leak.target (age): `age` was not counted against the label
    "#]],
    );
    check(
        |it| it.profile.associations.clear(),
        expect![[r#"
        not applied: leak.target (left): no feature was counted against the label: no training row has one
    "#]],
    );
    check(
        |it| drop(it.profile.associations[1].cells[2].pop()),
        expect![[r#"
        not applied: leak.target (country): `country` was not counted against the label
    "#]],
    );
}

/// Worked out by hand. Each fold is judged by the other four, whose shares are the same: 0.2 and 0.1 but for the prior. AUC = (20 · 180 + ½ (20 · 80 + 20 · 180)) / (40 · 260): of 40 positives, 20 score higher.
#[test]
fn the_score_of_one_column_can_be_worked_out_by_hand() {
    let found = leaks::score(&classes("age", [[0.0, 0.0], [80.0, 20.0], [180.0, 20.0]]));
    let found = found.expect("two classes");
    let auc = (20.0 * 180.0 + 0.5 * (20.0 * 80.0 + 20.0 * 180.0)) / (40.0 * 260.0);
    crate::testing::assert_close(found.auc.expect("binary"), auc, 1e-12);
    // The commonest class is the same in every bin, so nothing is gained.
    assert!(found.gain.abs() < 1e-12);
    let found = leaks::score(&classes("age", [[0.0, 0.0], [100.0, 0.0], [0.0, 50.0]]));
    let found = found.expect("two classes");
    crate::testing::assert_close(found.auc.expect("binary"), 1.0, 1e-12);
    crate::testing::assert_close(found.gain, 1.0, 1e-12);
}
