//! The metrics: scores and labels in, one number out, or the reason why there is none. Never NaN.
//!
//! A metric is prepared once per model and slice ([`prepare`]: sort, index, per-row losses) and then evaluated for any
//! number of weightings of the rows ([`Statistic::value`]): all ones for the value itself, counts of a resample for the
//! bootstrap. Each evaluation is one pass over memory, and [`LANES`] resamples share it ([`Statistic::values`]).
//!
//! To add one: a file in `metric/`, one line in [`prepare`], its word in `karat_core::metric`.
//!
//! Reading order: [`measure`], [`Statistic`], then `metric/mean.rs` for the simplest.

use karat_core::{Task, metric::Metric, thousands};

pub mod calibration;
pub mod confusion;
pub mod mean;
pub mod rank;
pub mod spread;

/// Weightings that are evaluated side by side: their counts of one row are one 64-bit load.
pub const LANES: usize = 8;
/// Rows that a metric takes: twice their count fits the 32-bit sums that the inner loops run on.
pub const ROWS_MAX: usize = 1 << 30;

/// Why a number could not be had. Every such case is a finding, never a silent pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct NotMeasured {
    /// A lowercase fragment: `all 1,204 rows have the same label`.
    pub reason: String,
}

impl NotMeasured {
    /// With its reason.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// One model's scores beside the labels.
#[derive(Clone, Copy, Debug)]
pub struct Scores<'a> {
    /// What kind of answer the scores are.
    pub task: Task,
    /// Classes; 0 for regression.
    pub n_classes: usize,
    /// `[n]`: class index, or the value.
    pub label: &'a [f32],
    /// `[n × n_outputs]`, row-major.
    pub score: &'a [f32],
}

impl Scores<'_> {
    /// Numbers per row: one, or one per class.
    #[must_use]
    pub fn n_outputs(&self) -> usize {
        match self.task {
            Task::Binary | Task::Regression => 1,
            Task::Multiclass => self.n_classes,
        }
    }

    /// The class a row is given: positive from 0.5 on, else the most probable (the first of equals).
    #[must_use]
    pub fn predicted_class(&self, row: usize) -> usize {
        match self.task {
            Task::Binary => usize::from(0.5 <= self.score[row]),
            Task::Regression => 0,
            Task::Multiclass => {
                let scores = &self.score[row * self.n_classes..][..self.n_classes];
                let mut best = 0;
                for (class, score) in scores.iter().enumerate() {
                    if scores[best] < *score {
                        best = class;
                    }
                }
                best
            }
        }
    }

    /// Every label and score is one that metrics can be computed from.
    fn validate(&self) -> Result<(), NotMeasured> {
        let n = self.label.len();
        if n == 0 {
            return Err(NotMeasured::new("there are no rows"));
        }
        if ROWS_MAX < n {
            return Err(NotMeasured::new(format!(
                "{} rows are more than the {} that are judged at once",
                thousands(n as u64),
                thousands(ROWS_MAX as u64)
            )));
        }
        if self.score.len() != n * self.n_outputs() {
            return Err(NotMeasured::new(format!(
                "{} scores for {} rows, expected {} a row",
                thousands(self.score.len() as u64),
                thousands(n as u64),
                self.n_outputs()
            )));
        }
        let count = |what: &str, bad: usize, of: usize| match bad {
            0 => Ok(()),
            _ => Err(NotMeasured::new(format!(
                "{} of {} {what}",
                thousands(bad as u64),
                thousands(of as u64)
            ))),
        };
        let not_finite = |values: &[f32]| values.iter().filter(|it| !it.is_finite()).count();
        count("scores are NaN or infinite", not_finite(self.score), self.score.len())?;
        count("labels are NaN or infinite", not_finite(self.label), n)?;
        if self.task == Task::Regression {
            return Ok(());
        }
        // A softmax of f32 may end an ulp or two above 1.
        let outside = self.score.iter().filter(|it| !(-1e-5..=1.000_01).contains(*it)).count();
        count("scores are outside 0 to 1", outside, self.score.len())?;
        let n_classes = self.n_classes;
        let is_class =
            |it: &f32| 0.0 <= *it && (*it as usize) < n_classes && it.fract().abs() <= 0.0;
        let unknown = self.label.iter().filter(|it| !is_class(it)).count();
        count(&format!("labels are none of the {n_classes} classes"), unknown, n)
    }
}

/// How often each row counts, in `L` weightings: all once, or as drawn in `L` resamples.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a, const L: usize> {
    /// `[n][L]`.
    pub counts: &'a [[u8; L]],
    /// Sums over the rows.
    pub totals: [i32; L],
}

impl<'a, const L: usize> Weights<'a, L> {
    /// Sums the counts.
    #[must_use]
    pub fn new(counts: &'a [[u8; L]]) -> Self {
        let mut totals = [0_i32; L];
        for row in counts {
            for (total, count) in totals.iter_mut().zip(row) {
                *total = total.wrapping_add(i32::from(*count));
            }
        }
        Self { counts, totals }
    }
}

/// A metric of one model on fixed rows, as a function of how often each row counts.
pub trait Statistic: Sync {
    /// The metric under one weighting; NaN where it is not defined (one class only).
    fn value(&self, weights: Weights<'_, 1>) -> f64;

    /// The same for [`LANES`] weightings.
    fn values(&self, weights: Weights<'_, LANES>) -> [f64; LANES];

    /// The metric without row i, for every i; `None` where only deleting whole blocks is affordable.
    fn leave_one_out(&self) -> Option<Vec<f64>> {
        None
    }

    /// Per-row values whose mean the metric is: differences of two such metrics are means again.
    fn items(&self) -> Option<&[f64]> {
        None
    }

    /// What a resample's value has on top on average because the resample's own truth is another one: the value of
    /// the *undebiased* form minus this metric. 0 for all but debiased metrics.
    fn resampling_shift(&self) -> f64 {
        0.0
    }
}

/// The metric on these rows.
pub fn measure(metric: Metric, scores: &Scores<'_>) -> Result<f64, NotMeasured> {
    let statistic = prepare(metric, scores)?;
    value_of(&*statistic, scores.label.len())
}

/// The value with every row counted once.
pub(crate) fn value_of(statistic: &dyn Statistic, n_rows: usize) -> Result<f64, NotMeasured> {
    let ones = vec![[1]; n_rows];
    let value = statistic.value(Weights::new(&ones));
    if value.is_finite() { Ok(value) } else { Err(NotMeasured::new("the value is not finite")) }
}

/// Sorts and indexes what the metric needs, after checking that it can be computed at all.
pub fn prepare(metric: Metric, scores: &Scores<'_>) -> Result<Box<dyn Statistic>, NotMeasured> {
    if !metric.fits(scores.task) {
        return Err(NotMeasured::new(format!(
            "`{metric}` is not a metric of a {} task",
            match scores.task {
                Task::Binary => "binary",
                Task::Multiclass => "multiclass",
                Task::Regression => "regression",
            }
        )));
    }
    scores.validate()?;
    Ok(match metric {
        Metric::Accuracy => Box::new(mean::accuracy(scores)),
        Metric::LogLoss => Box::new(mean::log_loss(scores)),
        Metric::Brier => Box::new(mean::brier(scores)),
        Metric::Mae => Box::new(mean::absolute_error(scores)),
        Metric::Rmse => Box::new(spread::root_mean_squared_error(scores)),
        Metric::R2 => Box::new(spread::r_squared(scores)?),
        Metric::BalancedAccuracy | Metric::Precision | Metric::Recall | Metric::F1 => {
            Box::new(confusion::Confusion::new(metric, scores)?)
        }
        Metric::Auc => Box::new(rank::Auc(rank::Ranked::of_both_classes(scores)?)),
        Metric::AveragePrecision => {
            Box::new(rank::AveragePrecision(rank::Ranked::of_both_classes(scores)?))
        }
        Metric::Ece => Box::new(calibration::Calibration::plain(scores)),
        Metric::EceDebiased => Box::new(calibration::Calibration::debiased(scores)),
    })
}

#[cfg(test)]
mod tests;
