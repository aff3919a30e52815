//! Made-up rows with known truths, and how often something may happen.

use karat_core::{
    Digest, ScoredRows, Task,
    metric::Metric,
    rng::{Purpose, Stream},
};
use karat_gate::{
    Serial,
    estimate::{Estimate, Form, Precision, Want, estimate},
    normal::cdf,
    sample::Sample,
};

/// Whether to try as often as the issue of proof asks for.
pub(crate) const IS_FULL: bool = option_env!("KARAT_PROOF").is_some();
/// Gates of a test with a closed form.
pub(crate) const GATES: u32 = if IS_FULL { 20_000 } else { 4_000 };
/// Gates of a test that resamples.
pub(crate) const RESAMPLING_GATES: u32 = if IS_FULL { 20_000 } else { 1_000 };
/// Intervals around a known truth.
pub(crate) const INTERVALS: u32 = if IS_FULL { 2_000 } else { 500 };
/// Resamples of each: an interval's end then lies within a few hundredths of a standard error.
const RESAMPLES: u32 = 999;

/// Share of the tries in which it happens.
pub(crate) fn share(n: u32, mut happens: impl FnMut(u32) -> bool) -> f64 {
    f64::from((0..n).filter(|at| happens(*at)).count() as u32) / f64::from(n)
}

/// A false pass happens at most as often as α says, and chance.
#[track_caller]
pub(crate) fn assert_at_most_alpha(what: &str, found: f64, n: u32) {
    let alpha = 0.05;
    let bound = alpha + 3.0 * libm::sqrt(alpha * (1.0 - alpha) / f64::from(n));
    assert!(found <= bound, "{what}: {found} of {n} gates, allowed {bound:.4}");
}

/// A 95 % interval holds the truth in 95 % of the samples, give or take chance.
#[track_caller]
pub(crate) fn assert_covers(what: &str, found: f64, n: u32) {
    let within = 3.0 * libm::sqrt(0.95 * 0.05 / f64::from(n));
    assert!(
        (found - 0.95).abs() <= within,
        "{what}: {found} of {n} intervals, allowed {within:.4}"
    );
}

/// Random numbers of one repetition.
#[derive(Clone, Copy)]
pub(crate) struct Draw {
    stream: Stream,
    at: u64,
}

impl Draw {
    pub(crate) fn new(name: &str, at: u32) -> Self {
        Self { stream: Stream::new(4, Purpose::Permute, name), at: u64::from(at) }
    }

    /// In [0, 1), another for each `lane`.
    pub(crate) fn uniform(&self, row: u32, lane: u32) -> f64 {
        // 32 bits: 24 would make ties.
        (f64::from(self.stream.bits(row, lane, self.at)) + 0.5) / 4_294_967_296.0
    }

    pub(crate) fn normal(&self, row: u32, lane: u32) -> f64 {
        self.stream.normal_pair(row, lane, self.at)[0]
    }
}

pub(crate) fn rows(task: Task, label: Vec<f32>, score: Vec<f32>) -> ScoredRows {
    let classes: &[&str] = if task == Task::Binary { &["no", "yes"] } else { &[] };
    ScoredRows {
        task,
        classes: classes.iter().map(|&it| it.to_owned()).collect(),
        rows: Digest::of(b"simulated"),
        label,
        score,
        slices: Vec::new(),
        group: None,
        votes: None,
        names: Vec::new(),
    }
}

/// Two models of the same `n` binary rows: scores are normal, higher by `skill` for positives; half of the noise is shared.
pub(crate) fn two_models(draw: Draw, n: u32, rate: f64, skill: [f64; 2]) -> [ScoredRows; 2] {
    // The first four are never drawn: every sample has both classes, twice.
    let label: Vec<f32> = (0..n)
        .map(|row| match row {
            0..4 => f32::from(row % 2 == 0),
            _ => f32::from(draw.uniform(row, 0) < rate),
        })
        .collect();
    let half = libm::sqrt(0.5);
    [1, 2].map(|model| {
        let score = (0..n).map(|row| {
            let noise = half * (draw.normal(row, 3) + draw.normal(row, model + 3));
            let x = skill[model as usize - 1] * (f64::from(label[row as usize]) - 0.5) + noise;
            (1.0 / (1.0 + libm::exp(-x))) as f32
        });
        rows(Task::Binary, label.clone(), score.collect())
    })
}

/// The skill that has this AUC: Φ(skill / √2).
pub(crate) fn skill_of_auc(auc: f64) -> f64 {
    std::f64::consts::SQRT_2 * karat_gate::normal::quantile(auc)
}

/// The AUC of this skill.
pub(crate) fn auc_of_skill(skill: f64) -> f64 {
    cdf(skill / std::f64::consts::SQRT_2)
}

/// Rows whose label is 0 and whose prediction is the loss: their mean absolute error is any mean one likes.
pub(crate) fn losses(loss: impl Iterator<Item = f64>) -> ScoredRows {
    let score: Vec<f32> = loss.map(|it| it as f32).collect();
    rows(Task::Regression, vec![0.0; score.len()], score)
}

/// Wins and losses of one gate: `n` rows of which `win` become right and `loss` wrong.
pub(crate) fn flips(draw: Draw, n: u32, win: f64, loss: f64) -> [u64; 2] {
    let mut found = [0, 0];
    for row in 0..n {
        let u = draw.uniform(row, 0);
        found[0] += u64::from(u < win);
        found[1] += u64::from(win <= u && u < win + loss);
    }
    found
}

/// One number with its interval.
pub(crate) fn measure(
    metric: Metric,
    form: Form,
    models: [&ScoredRows; 2],
    reliability: f64,
    name: &str,
) -> Option<Estimate> {
    let [candidate, baseline] = models;
    let all: Vec<u32> = (0..candidate.n_rows() as u32).collect();
    let baseline = (form != Form::Value).then_some(baseline);
    let sample = Sample::new(candidate, baseline, &all);
    let precision = Precision { reliability, n_resamples: RESAMPLES, name };
    estimate(&[Want { metric, form }], &sample, precision, &Serial).remove(0).ok()
}
