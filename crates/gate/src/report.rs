//! Metrics × slices: every metric that fits the task, on every slice with rows enough to say anything.
//!
//! Intervals are the cheap ones of [`crate::estimate::quick`]; where a gate has judged a cell, its interval replaces
//! the cheap one, so that table and finding say the same.

use karat_core::{
    ScoredRows, Task,
    metric::Metric,
    verdict::{Cell, Report, SliceCount},
};

use crate::{
    estimate::{Estimate, Form, Want, quick},
    metric::measure,
    normal::quantile,
    parallel::{self, Parallel, Serial},
    predictions::comparable,
    sample::Sample,
    slice::{self, SliceRows, Slices},
};

mod curve;

/// Rows below which a slice is counted but not measured.
pub const SLICE_ROWS_MIN: usize = 30;

/// Metrics that are shown with an interval; the others are shown as values.
const WITH_INTERVAL: [Metric; 7] = [
    Metric::Auc,
    Metric::Accuracy,
    Metric::LogLoss,
    Metric::Brier,
    Metric::Rmse,
    Metric::Mae,
    Metric::R2,
];

/// The report of a candidate and, where there is one, a baseline on the same rows.
///
/// A baseline about other rows, or with other classes, is left out: see [`comparable`].
#[must_use]
pub fn report(candidate: &ScoredRows, baseline: Option<&ScoredRows>, reliability: f64) -> Report {
    let baseline = baseline.filter(|it| comparable(candidate, it).is_ok());
    build(candidate, baseline, reliability, &Slices::new(candidate), &Serial).0
}

/// The report, and the sample of every slice for whoever goes on with it.
pub(crate) fn build(
    candidate: &ScoredRows,
    baseline: Option<&ScoredRows>,
    reliability: f64,
    slices: &Slices,
    parallel: &dyn Parallel,
) -> (Report, Vec<Sample>) {
    let z = quantile(reliability);
    let parts = parallel::map(parallel, slices.declared().len(), |at| {
        let slice = &slices.declared()[at];
        let sample = Sample::new(candidate, baseline, &slice.rows);
        let count = SliceCount {
            slice: slice.label.clone(),
            n_rows: sample.n_rows() as u64,
            label_mean: label_mean(&sample),
        };
        (count, cells(slice, &sample, z), sample)
    });
    let mut report = Report::default();
    let mut samples = Vec::with_capacity(parts.len());
    for (count, cells, sample) in parts {
        report.slices.push(count);
        report.cells.extend(cells);
        samples.push(sample);
    }
    curve::add(&mut report.curves, candidate, "");
    if let Some(baseline) = baseline {
        curve::add(&mut report.curves, baseline, "_baseline");
    }
    (report, samples)
}

/// Every metric that fits the task, when the slice is large enough.
fn cells(slice: &SliceRows, sample: &Sample, z: f64) -> Vec<Cell> {
    // `all` is always in the table: an empty report would look like a broken one.
    if sample.n_rows() < SLICE_ROWS_MIN && slice.label != slice::ALL {
        return Vec::new();
    }
    let fitting = Metric::ALL.into_iter().filter(|it| it.fits(sample.task()));
    fitting.map(|metric| cell(metric, &slice.label, sample, z)).collect()
}

fn label_mean(sample: &Sample) -> Option<f64> {
    if sample.task() == Task::Multiclass || sample.n_rows() == 0 {
        return None;
    }
    let sum: f64 = sample.label().iter().map(|it| f64::from(*it)).sum();
    Some(sum / sample.n_rows() as f64).filter(|it| it.is_finite())
}

fn cell(metric: Metric, slice: &str, sample: &Sample, z: f64) -> Cell {
    let mut cell = Cell {
        metric,
        slice: slice.to_owned(),
        n_rows: sample.n_rows() as u64,
        value: None,
        interval: None,
        baseline: None,
        improvement: None,
        improvement_interval: None,
        reason: None,
    };
    match measure(metric, &sample.candidate()) {
        Ok(value) => cell.value = Some(value),
        Err(error) => cell.reason = Some(error.reason),
    }
    if let Some(baseline) = sample.baseline() {
        match measure(metric, &baseline) {
            Ok(value) => cell.baseline = Some(value),
            Err(error) => {
                cell.reason.get_or_insert_with(|| format!("baseline: {}", error.reason));
            }
        }
    }
    if let (Some(new), Some(old)) = (cell.value, cell.baseline) {
        cell.improvement = Some(if metric.greater_is_better() { new - old } else { old - new });
    }
    if !WITH_INTERVAL.contains(&metric) {
        return cell;
    }
    let mut interval = |form| match quick(Want { metric, form }, sample, z) {
        Ok(found) => Some(found.interval),
        Err(error) => {
            cell.reason.get_or_insert(error.reason);
            None
        }
    };
    if cell.value.is_some() {
        cell.interval = interval(Form::Value);
    }
    if cell.improvement.is_some() {
        cell.improvement_interval = interval(Form::Improvement);
    }
    cell
}

/// Puts a judged interval where the table had a cheap one.
pub(crate) fn replace(report: &mut Report, slice: &str, want: Want, found: &Estimate) {
    let same = |it: &&mut Cell| it.metric == want.metric && it.slice == slice;
    let Some(cell) = report.cells.iter_mut().find(same) else { return };
    match want.form {
        Form::Value => cell.interval = Some(found.interval),
        Form::Improvement => cell.improvement_interval = Some(found.interval),
        Form::RelativeImprovement => {}
    }
}

#[cfg(test)]
mod tests;
