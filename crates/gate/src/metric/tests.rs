//! Values worked out by hand, and the reasons why there is none.

use karat_core::{Task, metric::Metric};

use super::{
    LANES, Scores, Statistic, Weights,
    calibration::{bins, squared_error},
    measure, prepare,
    rank::Ranked,
};
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

/// Kumar, Liang, Ma 2019: one bin a value, because rows with equal scores share a bin.
#[test]
fn calibration_errors_have_their_golden_values() {
    let label = [0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0];
    let score = [0.5, 0.5, 0.5, 0.6, 0.5, 0.6, 0.6, 0.6, 0.6];
    binary(Metric::Ece, &label, &score, 0.222_222_2);
    let scores = Scores { task: Task::Binary, n_classes: 2, label: &label, score: &score };
    let ranked = Ranked::new(&scores);
    let [filled] = bins(&ranked, Weights::new(&[[1]; 9]));
    testing::assert_close(libm::sqrt(squared_error(&filled)), 0.223_606_8, 1e-6);
    let debiased = of(Metric::EceDebiased, Task::Binary, 2, &label, &score).expect("measurable");
    // 0.6 is no f32, so "exactly 0" is a matter of its last bits.
    assert!(debiased.abs() < 1e-8, "{debiased:e}");
}

/// A small sample of each task with ties, and the metrics that fit it.
fn samples() -> Vec<(Task, usize, Vec<f32>, Vec<f32>)> {
    let (label, score) = testing::scored("weights", 60, 0.4, 1.0);
    let coarse: Vec<f32> = score.iter().map(|it| (it * 10.0).round() / 10.0).collect();
    let classes: Vec<f32> = (0..60).map(|row| (row * 7 % 3) as f32).collect();
    let shares: Vec<f32> = score
        .iter()
        .enumerate()
        .flat_map(|(row, it)| {
            let rest = 1.0 - it;
            if row % 2 == 0 { [*it, 0.7 * rest, 0.3 * rest] } else { [0.6 * rest, *it, 0.4 * rest] }
        })
        .collect();
    let values = testing::normals("weights", 60).iter().map(|it| *it as f32).collect();
    vec![
        (Task::Binary, 2, label.clone(), score.clone()),
        (Task::Binary, 2, label, coarse),
        (Task::Multiclass, 3, classes, shares),
        (Task::Regression, 0, values, score),
    ]
}

fn each_statistic(visit: impl Fn(Metric, &Scores<'_>, &dyn Statistic)) {
    for (task, n_classes, label, score) in samples() {
        let scores = Scores { task, n_classes, label: &label, score: &score };
        for metric in Metric::ALL.into_iter().filter(|it| it.fits(task)) {
            visit(metric, &scores, &*prepare(metric, &scores).expect("measurable"));
        }
    }
}

/// The definition of a weight: a row that counts twice is two rows. Eight weightings at once are eight single ones.
#[test]
fn a_weight_is_a_row_written_again() {
    let counts: Vec<[u8; LANES]> = (0..60_usize)
        .map(|row| std::array::from_fn(|lane| ((row * (lane + 3) + row / 7 + lane) % 4) as u8))
        .collect();
    each_statistic(|metric, scores, statistic| {
        let found = statistic.values(Weights::new(&counts));
        for (lane, found) in found.into_iter().enumerate() {
            let single: Vec<[u8; 1]> = counts.iter().map(|it| [it[lane]]).collect();
            testing::assert_close(statistic.value(Weights::new(&single)), found, 1e-12);
            let written = |values: &[f32], width: usize| -> Vec<f32> {
                let times = |(row, [n]): (usize, &[u8; 1])| {
                    values[row * width..][..width].repeat(usize::from(*n))
                };
                single.iter().enumerate().flat_map(times).collect()
            };
            let label = written(scores.label, 1);
            let score = written(scores.score, scores.n_outputs());
            let expected = of(metric, scores.task, scores.n_classes, &label, &score);
            let expected = expected.expect("measurable");
            assert!((expected - found).abs() < 1e-12, "{metric}: {expected} {found}");
        }
    });
}

#[test]
fn leaving_one_out_is_measuring_without_it() {
    each_statistic(|metric, scores, statistic| {
        let Some(found) = statistic.leave_one_out() else { return };
        for (row, found) in found.into_iter().enumerate() {
            let mut counts = vec![[1]; scores.label.len()];
            counts[row] = [0];
            let expected = statistic.value(Weights::new(&counts));
            assert!((expected - found).abs() < 1e-10, "{metric}: {expected} {found}");
        }
    });
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
