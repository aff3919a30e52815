//! Inputs at the edge: nothing, one row, one class, only ties, NaN, no disagreement, ten million rows. None is a pass.

use karat_core::{ScoredRows, Task, metric::Metric};
use karat_gate::{
    Serial,
    estimate::{Estimate, Form, Precision, Want, estimate},
    metric::NotMeasured,
    normal::quantile,
    paired::{mcnemar_exact, mcnemar_mid_p, tango},
    sample::Sample,
};

use crate::simulate::{Draw, IS_FULL, rows, two_models};

const FORMS: [Form; 3] = [Form::Value, Form::Improvement, Form::RelativeImprovement];

/// Every metric in every form.
fn all(new: &ScoredRows, old: &ScoredRows) -> Vec<(Want, Result<Estimate, NotMeasured>)> {
    let order: Vec<u32> = (0..new.n_rows() as u32).collect();
    let sample = Sample::new(new, Some(old), &order);
    let fitting = Metric::ALL.into_iter().filter(|it| it.fits(new.task));
    let wants: Vec<Want> =
        fitting.flat_map(|metric| FORMS.map(|form| Want { metric, form })).collect();
    let precision = Precision { reliability: 0.95, n_resamples: 199, name: "edge" };
    let found = estimate(&wants, &sample, precision, &Serial);
    wants.into_iter().zip(found).collect()
}

/// What is measured is finite and inside its interval; `refused` says what must not be measured.
#[track_caller]
fn check(what: &str, new: &ScoredRows, old: &ScoredRows, refused: impl Fn(Want) -> bool) {
    for (want, found) in all(new, old) {
        match found {
            Err(why) => assert!(!why.reason.is_empty(), "{what}: {want:?}"),
            Ok(found) => {
                assert!(!refused(want), "{what}: {want:?} gave {found:?}");
                let [low, high] = found.interval;
                let is_sound = low.is_finite() && high.is_finite() && found.value.is_finite();
                assert!(is_sound && low <= high, "{what}: {want:?} gave {found:?}");
                assert!(found.p.is_none_or(|p| 0.0 < p && p <= 1.0), "{what}: {want:?} {found:?}");
            }
        }
    }
}

#[test]
fn nothing_and_one_row_say_nothing() {
    for task in [Task::Binary, Task::Regression] {
        let none = rows(task, Vec::new(), Vec::new());
        check("no row", &none, &none, |_| true);
        let one = rows(task, vec![1.0], vec![0.7]);
        // One right row of one is a share with a Wilson interval, from 0.27 on.
        check("one row", &one, &one, |want| want.metric != Metric::Accuracy);
    }
}

#[test]
fn one_class_has_no_rank() {
    let ranks = |want: Want| matches!(want.metric, Metric::Auc | Metric::AveragePrecision);
    for label in [0.0, 1.0] {
        let score = (0..60).map(|it| it as f32 / 60.0).collect();
        let rows = rows(Task::Binary, vec![label; 60], score);
        check("one class", &rows, &rows, ranks);
    }
}

#[test]
fn all_ties_are_no_order() {
    let label: Vec<f32> = (0..80).map(|row| f32::from(row % 2 == 0)).collect();
    let tied = rows(Task::Binary, label.clone(), vec![0.5; 80]);
    check("all ties", &tied, &tied, |_| false);
    let auc = all(&tied, &tied).into_iter().find(|(want, _)| want.metric == Metric::Auc);
    let auc = auc.and_then(|(_, found)| found.ok()).expect("both classes are there");
    assert!((auc.value - 0.5).abs() < 1e-15, "{auc:?}");
}

#[test]
fn what_is_no_number_is_refused_wherever_it_is() {
    let [new, old] = two_models(Draw::new("nan", 0), 60, 0.4, [1.0, 1.0]);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut spoilt = new.clone();
        spoilt.score[17] = bad;
        check("candidate", &spoilt, &old, |_| true);
        check("baseline", &new, &spoilt, |want| want.form != Form::Value);
        let mut spoilt = new.clone();
        spoilt.label[17] = bad;
        check("label", &spoilt, &old, |_| true);
    }
}

#[test]
fn no_disagreement_is_not_certainty() {
    assert!((mcnemar_exact(0, 0) - 1.0).abs() < 1e-15 && (mcnemar_mid_p(0, 0) - 1.0).abs() < 1e-15);
    for n in [1, 30, 1_000] {
        let [low, high] = tango(0, 0, n, quantile(0.95));
        assert!(low < 0.0 && 0.0 < high, "{n}: {low} {high}");
    }
}

/// C(D, k) has millions of digits; its share of 2ᴰ is a plain number.
#[test]
fn counts_of_millions_do_not_overflow() {
    for d in [1_000_u64, 1_000_000, 1_000_000_000] {
        let root = libm::sqrt(d as f64) as u64;
        let p = mcnemar_mid_p(d / 2 - root, d / 2 + root);
        // Two standard deviations.
        assert!((p - 0.0455).abs() < 0.005, "{d}: {p}");
        let p = mcnemar_exact(0, d);
        assert!(p.is_finite() && p < 1e-200, "{d}: {p}");
        let [low, high] = tango(d / 2, d / 2, d, quantile(0.95));
        assert!(-0.06 < low && high < 0.06, "{d}: {low} {high}");
    }
}

/// Sums, ranks and random positions of ten million rows; a million where time is short.
#[test]
fn ten_million_rows_are_judged() {
    let n = if IS_FULL { 10_000_000 } else { 500_000 };
    let [new, old] = two_models(Draw::new("many", 0), n, 0.3, [1.2, 1.19]);
    let order: Vec<u32> = (0..n).collect();
    let sample = Sample::new(&new, Some(&old), &order);
    drop(order);
    let wants = [Metric::Auc, Metric::Accuracy, Metric::LogLoss]
        .map(|metric| Want { metric, form: Form::Improvement });
    let precision = Precision { reliability: 0.95, n_resamples: 64, name: "many" };
    for (want, found) in wants.iter().zip(estimate(&wants, &sample, precision, &Serial)) {
        let found = found.expect("measurable");
        let [low, high] = found.interval;
        let error = found.standard_error * libm::sqrt(f64::from(n));
        // What one row contributes does not depend on how many there are.
        assert!((0.1..2.0).contains(&error), "{want:?}: {found:?}");
        assert!(low <= found.value && found.value <= high, "{want:?}: {found:?}");
        assert!(0.0 < found.value, "{want:?}: {found:?}");
    }
}
