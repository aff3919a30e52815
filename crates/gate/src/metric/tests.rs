//! Values worked out by hand, and the reasons why there is none.

use karat_core::{Task, metric::Metric};

use super::{Scores, measure};
use crate::{sample::Sample, testing};

fn of(
    metric: Metric,
    task: Task,
    n_classes: usize,
    label: &[f32],
    score: &[f32],
) -> Result<f64, String> {
    measure(metric, &Scores { task, n_classes, label, score }).map_err(|why| why.to_string())
}

#[track_caller]
fn binary(metric: Metric, label: &[f32], score: &[f32], expected: f64) {
    let found = of(metric, Task::Binary, 2, label, score).expect("measurable");
    testing::assert_close(found, expected, 1e-6);
}

const LABEL: [f32; 6] = [0.0, 0.0, 1.0, 1.0, 0.0, 1.0];
const SCORE: [f32; 6] = [0.1, 0.4, 0.35, 0.8, 0.6, 0.9];

#[test]
fn binary_metrics_have_their_textbook_values() {
    // Predicted positive from 0.5 on: rows 3, 4, 5. Right: 0, 1, 3, 5.
    binary(Metric::Accuracy, &LABEL, &SCORE, 4.0 / 6.0);
    binary(Metric::BalancedAccuracy, &LABEL, &SCORE, 4.0 / 6.0);
    binary(Metric::Precision, &LABEL, &SCORE, 2.0 / 3.0);
    binary(Metric::Recall, &LABEL, &SCORE, 2.0 / 3.0);
    binary(Metric::F1, &LABEL, &SCORE, 2.0 / 3.0);
    // Of 9 pairs, 0.35 loses to 0.4 and 0.6: 7 are in order.
    binary(Metric::Auc, &LABEL, &SCORE, 7.0 / 9.0);
    // Positives at ranks 1, 2 and 5: (1/1 + 2/2 + 3/5) / 3.
    binary(Metric::AveragePrecision, &LABEL, &SCORE, (1.0 + 1.0 + 0.6) / 3.0);
    let brier = [0.01, 0.16, 0.4225, 0.04, 0.36, 0.01].iter().sum::<f64>() / 6.0;
    binary(Metric::Brier, &LABEL, &SCORE, brier);
    let right = [0.9_f64, 0.6, 0.35, 0.8, 0.4, 0.9];
    binary(Metric::LogLoss, &LABEL, &SCORE, -right.iter().map(|p| p.ln()).sum::<f64>() / 6.0);
}

#[test]
fn ties_count_half() {
    binary(Metric::Auc, &[0.0, 1.0, 0.0, 1.0], &[0.5; 4], 0.5);
}

#[test]
fn regression_metrics_have_their_textbook_values() {
    let (label, score) = ([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 6.0]);
    let found = |metric| of(metric, Task::Regression, 0, &label, &score).expect("measurable");
    testing::assert_close(found(Metric::Rmse), 1.0, 1e-12);
    testing::assert_close(found(Metric::Mae), 0.5, 1e-12);
    testing::assert_close(found(Metric::R2), 1.0 - 4.0 / 5.0, 1e-12);
}

#[test]
fn what_cannot_be_measured_says_why_and_is_never_nan() {
    for metric in Metric::ALL {
        let task = if metric.fits(Task::Regression) { Task::Regression } else { Task::Binary };
        assert!(of(metric, task, 2, &[], &[]).is_err(), "{metric} of no rows");
        assert!(of(metric, task, 2, &LABEL, &[f32::NAN; 6]).is_err(), "{metric} of NaN");
    }
    for metric in [Metric::Auc, Metric::AveragePrecision] {
        let why = of(metric, Task::Binary, 2, &[1.0; 6], &SCORE).expect_err("one class only");
        assert!(why.contains('6'), "{why}");
    }
    assert!(of(Metric::Auc, Task::Regression, 0, &LABEL, &SCORE).is_err(), "another task's metric");
}

#[test]
fn a_sample_does_not_depend_on_the_order_of_the_file() {
    let (label, score) = testing::scored("order", 500, 0.3, 1.0);
    let forward = testing::binary(label.clone(), score.clone());
    let reversed =
        testing::binary(label.into_iter().rev().collect(), score.into_iter().rev().collect());
    let all: Vec<u32> = (0..500).collect();
    let a = Sample::new(&forward, None, &all);
    let b = Sample::new(&reversed, None, &all);
    for metric in [Metric::Auc, Metric::LogLoss, Metric::Ece] {
        let value =
            |sample: &Sample| measure(metric, &sample.candidate()).expect("measurable").to_bits();
        assert_eq!(value(&a), value(&b), "{metric}");
    }
}
