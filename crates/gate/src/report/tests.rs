//! Reports as text.

use std::fmt::Write as _;

use expect_test::{Expect, expect};
use karat_core::{Digest, ScoredRows, Task, metric::Metric, verdict::Report};

use super::{curve::POINTS_MAX, report};
use crate::testing::{binary, flights, normals, rows};

fn shown(report: &Report, slice: &str) -> String {
    let mut text = String::new();
    for it in &report.slices {
        let mean = it.label_mean.map_or_else(|| "none".to_owned(), |it| format!("{it:.3}"));
        let _ = writeln!(text, "{}: {} rows, label mean {mean}", it.slice, it.n_rows);
    }
    let number = |it: Option<f64>| it.map_or_else(|| "-".to_owned(), |it| format!("{it:.4}"));
    let interval = |it: Option<[f64; 2]>| {
        it.map_or_else(String::new, |[low, high]| format!(" ({low:.4} to {high:.4})"))
    };
    for it in report.cells.iter().filter(|it| it.slice == slice) {
        let _ = write!(text, "{} {}{}", it.metric, number(it.value), interval(it.interval));
        if it.baseline.is_some() || it.improvement.is_some() {
            let change = interval(it.improvement_interval);
            let _ =
                write!(text, ", was {}, {}{change}", number(it.baseline), number(it.improvement));
        }
        let _ = writeln!(
            text,
            "{}",
            it.reason.as_ref().map_or_else(String::new, |it| format!(": {it}"))
        );
    }
    for (name, points) in &report.curves {
        let _ = writeln!(text, "{name}: {} points", points.len());
    }
    text
}

#[track_caller]
fn check(candidate: &ScoredRows, baseline: Option<&ScoredRows>, slice: &str, expected: Expect) {
    expected.assert_eq(&shown(&report(candidate, baseline, 0.95), slice));
}

#[test]
fn every_fitting_metric_is_in_the_table_and_improvements_are_positive() {
    let (new, old) = (flights(300, "new", 1.3), flights(300, "old", 0.8));
    check(
        &new,
        Some(&old),
        "all",
        expect![[r#"
            all: 300 rows, label mean 0.343
            carrier=AA: 120 rows, label mean 0.325
            carrier=HA: 15 rows, label mean 0.467
            carrier=UA: 165 rows, label mean 0.345
            evening: 100 rows, label mean 0.330
            night: 0 rows, label mean none
            auc 0.8160 (0.7702 to 0.8543), was 0.7011, 0.1149 (0.0954 to 0.1343)
            average_precision 0.7348, was 0.5747, 0.1601
            log_loss 0.5188 (0.4837 to 0.5538), was 0.6215, 0.1027 (0.0904 to 0.1149)
            brier 0.1733 (0.1580 to 0.1885), was 0.2169, 0.0436 (0.0382 to 0.0489)
            accuracy 0.7200 (0.6755 to 0.7605), was 0.6433, 0.0767 (0.0515 to 0.1076)
            balanced_accuracy 0.7080, was 0.6381, 0.0700
            precision 0.5798, was 0.4848, 0.0950
            recall 0.6699, was 0.6214, 0.0485
            f1 0.6216, was 0.5447, 0.0769
            ece 0.1308, was 0.1277, -0.0030
            ece_debiased 0.0196, was 0.0143, -0.0053
            calibration: 15 points
            calibration_baseline: 15 points
            calibration_rows: 15 points
            calibration_rows_baseline: 15 points
            precision_recall: 200 points
            precision_recall_baseline: 200 points
            roc: 200 points
            roc_baseline: 200 points
            scores_negative: 40 points
            scores_negative_baseline: 40 points
            scores_positive: 40 points
            scores_positive_baseline: 40 points
        "#]],
    );
}

#[test]
fn small_slices_are_counted_and_not_measured() {
    let model = flights(300, "new", 1.0);
    let found = report(&model, None, 0.95);
    assert!(found.cell(Metric::Auc, "carrier=HA").is_none());
    assert!(found.slices.iter().any(|it| it.slice == "carrier=HA" && it.n_rows == 15));
    check(
        &model,
        None,
        "carrier=AA",
        expect![[r#"
            all: 300 rows, label mean 0.343
            carrier=AA: 120 rows, label mean 0.325
            carrier=HA: 15 rows, label mean 0.467
            carrier=UA: 165 rows, label mean 0.345
            evening: 100 rows, label mean 0.330
            night: 0 rows, label mean none
            auc 0.7449 (0.6497 to 0.8213)
            average_precision 0.6753
            log_loss 0.5990 (0.5422 to 0.6558)
            brier 0.2069 (0.1823 to 0.2316)
            accuracy 0.6833 (0.6101 to 0.7485)
            balanced_accuracy 0.6857
            precision 0.5094
            recall 0.6923
            f1 0.5870
            ece 0.1764
            ece_debiased 0.0304
            calibration: 15 points
            calibration_rows: 15 points
            precision_recall: 200 points
            roc: 200 points
            scores_negative: 40 points
            scores_positive: 40 points
        "#]],
    );
}

#[test]
fn what_cannot_be_measured_says_why() {
    let mut model = flights(40, "new", 1.0);
    model.score[3] = f32::NAN;
    check(
        &model,
        Some(&flights(40, "old", 1.0)),
        "all",
        expect![[r#"
            all: 40 rows, label mean 0.425
            carrier=AA: 16 rows, label mean 0.500
            carrier=HA: 2 rows, label mean 0.500
            carrier=UA: 22 rows, label mean 0.364
            evening: 14 rows, label mean 0.500
            night: 0 rows, label mean none
            auc -, was 0.8849, -: 1 of 40 scores are NaN or infinite
            average_precision -, was 0.8591, -: 1 of 40 scores are NaN or infinite
            log_loss -, was 0.4689, -: 1 of 40 scores are NaN or infinite
            brier -, was 0.1506, -: 1 of 40 scores are NaN or infinite
            accuracy -, was 0.8250, -: 1 of 40 scores are NaN or infinite
            balanced_accuracy -, was 0.8402, -: 1 of 40 scores are NaN or infinite
            precision -, was 0.7273, -: 1 of 40 scores are NaN or infinite
            recall -, was 0.9412, -: 1 of 40 scores are NaN or infinite
            f1 -, was 0.8205, -: 1 of 40 scores are NaN or infinite
            ece -, was 0.1985, -: 1 of 40 scores are NaN or infinite
            ece_debiased -, was 0.0013, -: 1 of 40 scores are NaN or infinite
            calibration_baseline: 15 points
            calibration_rows_baseline: 15 points
            precision_recall_baseline: 40 points
            roc_baseline: 41 points
            scores_negative_baseline: 40 points
            scores_positive_baseline: 40 points
        "#]],
    );
}

#[test]
fn one_class_leaves_the_metrics_that_need_no_other() {
    let model = binary(vec![1.0; 40], flights(40, "new", 1.0).score);
    check(
        &model,
        None,
        "all",
        expect![[r#"
            all: 40 rows, label mean 1.000
            auc -: all 40 rows are positive
            average_precision -: all 40 rows are positive
            log_loss 0.8615 (0.6814 to 1.0416)
            brier 0.3066 (0.2368 to 0.3763)
            accuracy 0.5000 (0.3741 to 0.6259)
            balanced_accuracy -: all rows have the same label
            precision 1.0000
            recall 0.5000
            f1 0.6667
            ece 0.4920
            ece_debiased 0.3062
            calibration: 15 points
            calibration_rows: 15 points
            scores_positive: 40 points
        "#]],
    );
}

#[test]
fn no_rows_make_an_empty_table_with_reasons() {
    check(
        &flights(0, "new", 1.0),
        None,
        "all",
        expect![[r#"
        all: 0 rows, label mean none
        evening: 0 rows, label mean none
        night: 0 rows, label mean none
        auc -: there are no rows
        average_precision -: there are no rows
        log_loss -: there are no rows
        brier -: there are no rows
        accuracy -: there are no rows
        balanced_accuracy -: there are no rows
        precision -: there are no rows
        recall -: there are no rows
        f1 -: there are no rows
        ece -: there are no rows
        ece_debiased -: there are no rows
    "#]],
    );
}

#[test]
fn several_classes_and_numbers_have_their_own_metrics() {
    let label: Vec<f32> = (0..60).map(|row| (row % 3) as f32).collect();
    let score = (0..60_usize)
        .flat_map(|row| (0..3).map(move |class| if class == row * 5 % 7 % 3 { 0.8 } else { 0.1 }))
        .collect();
    check(
        &rows(Task::Multiclass, &["a", "b", "c"], label, score),
        None,
        "all",
        expect![[r#"
        all: 60 rows, label mean none
        log_loss 1.6788 (1.4747 to 1.8828)
        brier 1.0400 (0.9026 to 1.1774)
        accuracy 0.3000 (0.2131 to 0.4042)
        balanced_accuracy 0.3000
        precision 0.2986
        recall 0.3000
        f1 0.2961
    "#]],
    );
    let values: Vec<f32> = normals("values", 60).iter().map(|it| *it as f32).collect();
    let guesses = values.iter().zip(normals("errors", 60)).map(|(y, e)| y + 0.5 * e as f32);
    let guesses = guesses.collect();
    check(
        &rows(Task::Regression, &[], values, guesses),
        None,
        "all",
        expect![[r#"
            all: 60 rows, label mean -0.022
            rmse 0.4568 (0.4003 to 0.5133)
            mae 0.3789 (0.3243 to 0.4336)
            r2 0.7013 (0.5906 to 0.8119)
            calibration: 15 points
            calibration_rows: 15 points
        "#]],
    );
}

#[test]
fn a_baseline_about_other_rows_is_left_out() {
    let (new, mut old) = (flights(60, "new", 1.0), flights(60, "old", 1.0));
    old.rows = Digest::of(b"other rows");
    let found = report(&new, Some(&old), 0.95);
    assert!(found.cells.iter().all(|it| it.baseline.is_none() && it.improvement.is_none()));
    assert!(!found.curves.contains_key("roc_baseline"));
}

#[test]
fn curves_are_thinned_and_keep_their_ends() {
    let found = report(&flights(2_000, "new", 1.0), None, 0.95);
    let roc = &found.curves["roc"];
    assert_eq!(roc.len(), POINTS_MAX);
    assert_eq!((roc[0], roc[POINTS_MAX - 1]), ([0.0, 0.0], [1.0, 1.0]));
    assert!(roc.is_sorted_by(|a, b| a[0] <= b[0] && a[1] <= b[1]));
    // The area under the thinned curve is the AUC but for the thinning.
    let area: f64 =
        roc.windows(2).map(|it| (it[1][0] - it[0][0]) * 0.5 * (it[0][1] + it[1][1])).sum();
    let auc = found.cell(Metric::Auc, "all").and_then(|it| it.value).expect("measured");
    assert!((area - auc).abs() < 2e-3, "{area} {auc}");
    // So is the area under precision over recall, by its steps, but for the thinning: the average precision.
    let curve = &found.curves["precision_recall"];
    assert_eq!((curve.len(), curve[POINTS_MAX - 1][0]), (POINTS_MAX, 1.0));
    assert!(curve.iter().all(|it| 0.0 <= it[1] && it[1] <= 1.0));
    let area: f64 = curve.windows(2).map(|it| (it[1][0] - it[0][0]) * it[1][1]).sum::<f64>()
        + curve[0][0] * curve[0][1];
    let precision =
        found.cell(Metric::AveragePrecision, "all").and_then(|it| it.value).expect("measured");
    assert!((area - precision).abs() < 1e-2, "{area} {precision}");
    let rows: f64 = found.curves["calibration_rows"].iter().map(|it| it[1]).sum();
    assert_eq!(rows as usize, 2_000, "every row is in one bin");
    let calibration = &found.curves["calibration"];
    assert_eq!(calibration.len(), 15);
    assert!(calibration.is_sorted_by(|a, b| a[0] <= b[0]));
    for histogram in ["scores_negative", "scores_positive"] {
        let sum: f64 = found.curves[histogram].iter().map(|it| it[1]).sum();
        assert!((sum - 1.0).abs() < 1e-12, "{histogram}: {sum}");
    }
}
