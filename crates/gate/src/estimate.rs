//! A metric, or its difference from the baseline's, with an interval: by the method that fits it.
//!
//! | metric | one model | two models on the same rows |
//! |---|---|---|
//! | accuracy | Wilson | Tango's score interval; P by McNemar's mid-p |
//! | AUC | DeLong on the logit | DeLong |
//! | log loss, Brier, MAE | BCa bootstrap of the mean | BCa bootstrap of the mean difference; P by sign flips |
//! | all others, and every *relative* difference | BCa bootstrap | BCa bootstrap, both models resampled together |
//! | any, rows in groups | BCa bootstrap of whole groups | the same; sign flips of whole groups |
//!
//! Reports show many more numbers than a gate judges: [`quick`] uses the same closed forms, and a normal interval with
//! the jackknife's standard error in place of the bootstrap.

use std::collections::BTreeMap;

use karat_core::metric::Metric;

use crate::{
    auc::DeLong,
    bootstrap::{Bca, Jackknife, Resampling, mean_resamples},
    metric::{
        LANES, NotMeasured, Scores, Statistic, Weights,
        mean::{Mean, hits},
        prepare, value_of,
    },
    normal::quantile,
    paired::{mcnemar_mid_p, tango, wilson},
    parallel::{Parallel, Serial},
    permutation::sign_flip,
    sample::Sample,
};

mod tail;

pub use tail::Tail;

/// The method where no row is wrong.
pub(crate) const RULE_OF_THREE: &str = "rule of three on the rarest class";
/// Rows (or groups) from which a sample without any spread is taken for what it looks like.
const UNITS_MIN_WITHOUT_SPREAD: usize = 30;

/// What is asked of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// The candidate's value.
    Value,
    /// Candidate − baseline, turned so that positive is better.
    Improvement,
    /// The same as a share of |baseline|.
    RelativeImprovement,
}

/// A metric in one form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Want {
    /// The metric.
    pub metric: Metric,
    /// In this form.
    pub form: Form,
}

/// A number with its uncertainty.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// In the form asked for.
    pub value: f64,
    /// Two-sided, 1 − 2α.
    pub interval: [f64; 2],
    /// Of the value.
    pub standard_error: f64,
    /// Two-sided P of "no difference"; none for one model's value.
    pub p: Option<f64>,
    /// The candidate's metric.
    pub candidate: f64,
    /// The baseline's.
    pub baseline: Option<f64>,
    /// How the interval and P were had.
    pub method: &'static str,
    /// What it says about other bounds than its interval's ends.
    pub tail: Tail,
}

/// How sure, and by which random draws.
#[derive(Clone, Copy, Debug)]
pub struct Precision<'a> {
    /// 1 − α of each side.
    pub reliability: f64,
    /// Bootstrap resamples and sign flips.
    pub n_resamples: u32,
    /// Names the randomness: `release/carrier=UA`.
    pub name: &'a str,
}

/// Everything wanted of one slice. All bootstraps share their draws.
#[must_use]
pub fn estimate(
    wants: &[Want],
    sample: &Sample,
    precision: Precision<'_>,
    parallel: &dyn Parallel,
) -> Vec<Result<Estimate, NotMeasured>> {
    let z = quantile(precision.reliability);
    let mut out: Vec<Option<Result<Estimate, NotMeasured>>> =
        wants.iter().map(|want| closed_form(*want, sample, z)).collect();
    let open: Vec<usize> = (0..wants.len()).filter(|at| out[*at].is_none()).collect();
    let mut ready = Vec::new();
    for at in open {
        match Subject::new(wants[at], sample) {
            Ok(_) if sample.n_units() < 2 => {
                let unit = if sample.group().is_some() { "group" } else { "row" };
                out[at] = Some(Err(NotMeasured::new(format!("one {unit} has no spread"))));
            }
            Ok(subject) => match subject.known(sample, precision) {
                Some(values) => {
                    out[at] = Some(subject.bootstrapped(values, sample, precision, parallel));
                }
                None => ready.push((at, subject)),
            },
            Err(error) => out[at] = Some(Err(error)),
        }
    }
    if !ready.is_empty() {
        let resampling = Resampling::new(precision.name, sample, precision.n_resamples);
        let statistics: Vec<&dyn Statistic> = ready.iter().map(|(_, it)| &*it.statistic).collect();
        let values = resampling.run(&statistics, parallel);
        for ((at, subject), values) in ready.iter().zip(values) {
            out[*at] = Some(subject.bootstrapped(values, sample, precision, parallel));
        }
    }
    out.into_iter().map(|it| it.expect("every want was answered above").and_then(finite)).collect()
}

/// Nothing that is not a number leaves this file.
fn finite(found: Estimate) -> Result<Estimate, NotMeasured> {
    let [low, high] = found.interval;
    let is_sound = found.value.is_finite() && low.is_finite() && high.is_finite() && low <= high;
    if is_sound { Ok(found) } else { Err(NotMeasured::new("its interval is not finite")) }
}

/// A cheap estimate for a report; see the header.
pub fn quick(want: Want, sample: &Sample, z: f64) -> Result<Estimate, NotMeasured> {
    if let Some(found) = closed_form(want, sample, z) {
        return found;
    }
    let subject = Subject::new(want, sample)?;
    let standard_error = Jackknife::new(&*subject.statistic, sample, &Serial).standard_error();
    if !standard_error.is_finite() {
        return Err(NotMeasured::new("its standard error is not defined on so few rows"));
    }
    let half = z * standard_error;
    Ok(Estimate {
        value: subject.value,
        interval: [subject.value - half, subject.value + half],
        standard_error,
        p: None,
        candidate: subject.candidate,
        baseline: subject.baseline,
        method: "normal, jackknife error",
        tail: Tail::Normal { value: subject.value, standard_error },
    })
}

/// The two metrics with closed-form intervals, where rows are independent.
fn closed_form(want: Want, sample: &Sample, z: f64) -> Option<Result<Estimate, NotMeasured>> {
    if sample.group().is_some() || want.form == Form::RelativeImprovement {
        return None;
    }
    match want.metric {
        Metric::Accuracy => Some(accuracy(want, sample, z)),
        Metric::Auc => Some(auc(want, sample, z)),
        _ => None,
    }
}

fn accuracy(want: Want, sample: &Sample, z: f64) -> Result<Estimate, NotMeasured> {
    let n = sample.n_rows() as f64;
    let candidate = value(Metric::Accuracy, &sample.candidate(), "")?;
    let half = |interval: [f64; 2]| (interval[1] - interval[0]) / (2.0 * z);
    if want.form == Form::Value {
        let right = hits(&sample.candidate()).iter().sum::<f64>() as u64;
        let n = sample.n_rows() as u64;
        let interval = wilson(right, n, z);
        return Ok(Estimate {
            value: candidate,
            interval,
            standard_error: half(interval),
            p: None,
            candidate,
            baseline: None,
            method: "Wilson",
            tail: Tail::Share { right, n },
        });
    }
    let baseline = value(Metric::Accuracy, &baseline_of(sample)?, "baseline: ")?;
    let flips = Flips::count(sample).ok_or_else(|| NotMeasured::new("there is no baseline"))?;
    let interval = tango(flips.fixed, flips.broken, sample.n_rows() as u64, z);
    Ok(Estimate {
        value: (flips.fixed as f64 - flips.broken as f64) / n,
        interval,
        standard_error: half(interval),
        p: Some(mcnemar_mid_p(flips.fixed, flips.broken)),
        candidate,
        baseline: Some(baseline),
        method: "Tango; P by McNemar mid-p",
        tail: Tail::Flips { fixed: flips.fixed, broken: flips.broken, n: sample.n_rows() as u64 },
    })
}

fn auc(want: Want, sample: &Sample, z: f64) -> Result<Estimate, NotMeasured> {
    let candidate_value = value(Metric::Auc, &sample.candidate(), "")?;
    let candidate = DeLong::new(&sample.candidate())?;
    if want.form == Form::Value {
        return Ok(Estimate {
            value: candidate_value,
            interval: candidate.interval(z),
            standard_error: libm::sqrt(candidate.covariance(&candidate)),
            p: None,
            candidate: candidate_value,
            baseline: None,
            method: "DeLong on the logit",
            tail: candidate.tail(),
        });
    }
    let baseline_value = value(Metric::Auc, &baseline_of(sample)?, "baseline: ")?;
    let found = candidate.against(&DeLong::new(&baseline_of(sample)?)?);
    if found.standard_error <= 1e-10 {
        enough_without_spread(sample)?;
    }
    let half = z * found.standard_error;
    Ok(Estimate {
        value: found.difference,
        interval: [found.difference - half, found.difference + half],
        standard_error: found.standard_error,
        p: Some(found.p),
        candidate: candidate_value,
        baseline: Some(baseline_value),
        method: "DeLong",
        tail: Tail::Normal { value: found.difference, standard_error: found.standard_error },
    })
}

/// A sample in which nothing varies looks certain; a small one is not.
fn enough_without_spread(sample: &Sample) -> Result<(), NotMeasured> {
    if UNITS_MIN_WITHOUT_SPREAD <= sample.n_units() {
        return Ok(());
    }
    Err(NotMeasured::new(format!(
        "nothing varies in {} rows, and fewer than {UNITS_MIN_WITHOUT_SPREAD} say nothing about others",
        sample.n_rows()
    )))
}

fn baseline_of(sample: &Sample) -> Result<Scores<'_>, NotMeasured> {
    sample.baseline().ok_or_else(|| NotMeasured::new("there is no baseline"))
}

fn value(metric: Metric, scores: &Scores<'_>, whose: &str) -> Result<f64, NotMeasured> {
    let named = |error: NotMeasured| NotMeasured::new(format!("{whose}{error}"));
    let statistic = prepare(metric, scores).map_err(named)?;
    value_of(&*statistic, scores.label.len()).map_err(named)
}

/// A statistic whose uncertainty is found by resampling.
struct Subject {
    metric: Metric,
    statistic: Box<dyn Statistic>,
    value: f64,
    candidate: f64,
    baseline: Option<f64>,
    form: Form,
}

impl Subject {
    fn new(want: Want, sample: &Sample) -> Result<Self, NotMeasured> {
        let n = sample.n_rows();
        let own = prepare(want.metric, &sample.candidate())?;
        let candidate = value_of(&*own, n)?;
        if want.form == Form::Value {
            return Ok(Self {
                metric: want.metric,
                statistic: own,
                value: candidate,
                candidate,
                baseline: None,
                form: want.form,
            });
        }
        let named = |error: NotMeasured| NotMeasured::new(format!("baseline: {error}"));
        let other = prepare(want.metric, &baseline_of(sample)?).map_err(named)?;
        let baseline = value_of(&*other, n).map_err(named)?;
        if want.form == Form::RelativeImprovement && baseline == 0.0 {
            return Err(NotMeasured::new("the baseline's value is 0, a share of it means nothing"));
        }
        let statistic = difference(want, own, other);
        let value = value_of(&*statistic, n)?;
        Ok(Self {
            metric: want.metric,
            statistic,
            value,
            candidate,
            baseline: Some(baseline),
            form: want.form,
        })
    }

    /// Resamples that need not be drawn.
    fn known(&self, sample: &Sample, precision: Precision<'_>) -> Option<Vec<f64>> {
        let items = self.statistic.items().filter(|_| sample.group().is_none())?;
        mean_resamples(items, precision.n_resamples)
    }

    /// What the resamples have on top because they are resamples: their duplicates look like order, their noise like
    /// error. In a difference of two models it is smaller for the one that happened to look worse, so that resamples lie
    /// between the estimate and 0. To take that for a bias, and correct it, makes equal models differ: the resamples are moved
    /// back onto the estimate instead, and BCa corrects what is left, their skew.
    fn shift(&self, resamples: &[f64]) -> f64 {
        if self.form == Form::Value || self.statistic.items().is_some() {
            return self.statistic.resampling_shift();
        }
        resamples.iter().sum::<f64>() / resamples.len() as f64 - self.value
    }

    fn bootstrapped(
        &self,
        mut values: Vec<f64>,
        sample: &Sample,
        precision: Precision<'_>,
        parallel: &dyn Parallel,
    ) -> Result<Estimate, NotMeasured> {
        let shift = self.shift(&values);
        for value in &mut values {
            *value -= shift;
        }
        let jackknife = Jackknife::new(&*self.statistic, sample, parallel);
        let alpha = 1.0 - precision.reliability;
        let found = Bca::new(self.value, values, &jackknife)?;
        if found.standard_error <= 1e-12 * self.value.abs() {
            enough_without_spread(sample)?;
            if let (Form::Value, true) = (self.form, is_share(self.metric)) {
                return Ok(self.rule_of_three(sample, alpha));
            }
        }
        let (p, method) = match (self.form, self.statistic.items()) {
            (Form::Value, _) => (None, "BCa bootstrap"),
            (_, Some(items)) => {
                let flipped = match sample.group() {
                    None => sign_flip(items, precision.name, precision.n_resamples, parallel),
                    Some(groups) => {
                        let mut sums = vec![0.0; groups.n];
                        for (item, group) in items.iter().zip(&groups.of_row) {
                            sums[*group as usize] += item;
                        }
                        sign_flip(&sums, precision.name, precision.n_resamples, parallel)
                    }
                };
                (Some(flipped), "BCa bootstrap; P by sign flips")
            }
            (_, None) => (Some(found.p(0.0)), "BCa bootstrap"),
        };
        Ok(Estimate {
            value: self.value,
            interval: found.interval(alpha),
            standard_error: found.standard_error,
            p,
            candidate: self.candidate,
            baseline: self.baseline,
            method,
            tail: Tail::Bootstrap(found),
        })
    }
}

impl Subject {
    /// No row is wrong, so no resample is: what share of rows like the rarest class could be wrong all the same?
    fn rule_of_three(&self, sample: &Sample, alpha: f64) -> Estimate {
        let mut by_class: BTreeMap<u32, usize> = BTreeMap::new();
        for label in sample.label() {
            *by_class.entry(*label as u32).or_default() += 1;
        }
        let few = by_class.into_values().min().unwrap_or(0).min(sample.n_units());
        let loss = 1.0 - libm::pow(alpha, 1.0 / few as f64);
        let interval = [(self.value - loss).max(0.0), (self.value + loss).min(self.value.max(1.0))];
        Estimate {
            value: self.value,
            interval,
            standard_error: (interval[1] - interval[0]) / (2.0 * quantile(1.0 - alpha)),
            p: None,
            candidate: self.candidate,
            baseline: None,
            method: RULE_OF_THREE,
            tail: Tail::RuleOfThree { value: self.value, few: few as f64 },
        }
    }
}

/// Whether the metric lies between 0 and 1 and one wrong row moves it by about one row's share.
fn is_share(metric: Metric) -> bool {
    matches!(
        metric,
        Metric::Accuracy
            | Metric::BalancedAccuracy
            | Metric::Precision
            | Metric::Recall
            | Metric::F1
            | Metric::Auc
            | Metric::AveragePrecision
            | Metric::Brier
            | Metric::Ece
    )
}

/// Candidate against baseline under the same weights.
struct Difference {
    candidate: Box<dyn Statistic>,
    baseline: Box<dyn Statistic>,
    /// −1 where less is better.
    sign: f64,
    is_relative: bool,
}

fn difference(
    want: Want,
    candidate: Box<dyn Statistic>,
    baseline: Box<dyn Statistic>,
) -> Box<dyn Statistic> {
    let sign = if want.metric.greater_is_better() { 1.0 } else { -1.0 };
    let is_relative = want.form == Form::RelativeImprovement;
    if let (false, Some(new), Some(old)) = (is_relative, candidate.items(), baseline.items()) {
        return Box::new(Mean::new(new.iter().zip(old).map(|(x, y)| sign * (x - y)).collect()));
    }
    Box::new(Difference { candidate, baseline, sign, is_relative })
}

impl Difference {
    fn of(&self, new: f64, old: f64) -> f64 {
        let scale = if self.is_relative { old.abs() } else { 1.0 };
        self.sign * (new - old) / scale
    }
}

impl Statistic for Difference {
    fn value(&self, weights: Weights<'_, 1>) -> f64 {
        self.of(self.candidate.value(weights), self.baseline.value(weights))
    }

    fn values(&self, weights: Weights<'_, LANES>) -> [f64; LANES] {
        let (new, old) = (self.candidate.values(weights), self.baseline.values(weights));
        std::array::from_fn(|lane| self.of(new[lane], old[lane]))
    }

    fn leave_one_out(&self) -> Option<Vec<f64>> {
        let (new, old) = (self.candidate.leave_one_out()?, self.baseline.leave_one_out()?);
        Some(new.iter().zip(&old).map(|(new, old)| self.of(*new, *old)).collect())
    }
}

/// Rows on which exactly one of the two models is right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flips {
    /// Wrong before, right now.
    pub fixed: u64,
    /// Right before, wrong now.
    pub broken: u64,
    /// The first of each in file order, as rows of the predictions file.
    pub first_fixed: Vec<u32>,
    /// The first broken.
    pub first_broken: Vec<u32>,
}

impl Flips {
    /// `None` for regression and without a baseline.
    #[must_use]
    pub fn count(sample: &Sample) -> Option<Self> {
        let baseline = sample.baseline()?;
        let candidate = sample.candidate();
        if candidate.n_classes < 2 {
            return None;
        }
        let (mut fixed, mut broken) = (Vec::new(), Vec::new());
        for (row, label) in sample.label().iter().enumerate() {
            let class = *label as usize;
            let now = candidate.predicted_class(row) == class;
            let before = baseline.predicted_class(row) == class;
            match (before, now) {
                (false, true) => fixed.push(sample.source[row]),
                (true, false) => broken.push(sample.source[row]),
                _ => {}
            }
        }
        let (n_fixed, n_broken) = (fixed.len() as u64, broken.len() as u64);
        let first = |mut rows: Vec<u32>| {
            rows.sort_unstable();
            rows.truncate(karat_core::profile::EXAMPLES_MAX);
            rows
        };
        Some(Self {
            fixed: n_fixed,
            broken: n_broken,
            first_fixed: first(fixed),
            first_broken: first(broken),
        })
    }
}

#[cfg(test)]
mod tests;
