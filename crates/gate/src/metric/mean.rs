//! Metrics that are means over rows: accuracy, log loss, Brier, mean absolute error.
//!
//! value = Σ c x / Σ c. Without row i: (S − xᵢ) / (n − 1).

use karat_core::Task;

use super::{LANES, Scores, Statistic, Weights};

/// Probabilities are kept this far from 0 and 1 before the logarithm: f32 has no more to say.
pub const PROBABILITY_MIN: f64 = 1e-7;

/// The mean of one number a row.
#[derive(Clone, Debug)]
pub struct Mean {
    items: Vec<f64>,
}

impl Mean {
    /// Of these numbers, which must be finite and not empty.
    #[must_use]
    pub fn new(items: Vec<f64>) -> Self {
        Self { items }
    }

    fn of<const L: usize>(&self, weights: Weights<'_, L>) -> [f64; L] {
        let sums = dot(weights.counts, &self.items);
        std::array::from_fn(|lane| sums[lane] / f64::from(weights.totals[lane]))
    }
}

impl Statistic for Mean {
    fn value(&self, weights: Weights<'_, 1>) -> f64 {
        self.of(weights)[0]
    }

    fn values(&self, weights: Weights<'_, LANES>) -> [f64; LANES] {
        self.of(weights)
    }

    fn leave_one_out(&self) -> Option<Vec<f64>> {
        let sum: f64 = self.items.iter().sum();
        let rest = self.items.len() as f64 - 1.0;
        Some(self.items.iter().map(|it| (sum - it) / rest).collect())
    }

    fn items(&self) -> Option<&[f64]> {
        Some(&self.items)
    }
}

/// Σ c x for every lane, row after row.
#[must_use]
pub(crate) fn dot<const L: usize>(counts: &[[u8; L]], values: &[f64]) -> [f64; L] {
    let mut sums = [0.0; L];
    for (counts, value) in counts.iter().zip(values) {
        for (sum, count) in sums.iter_mut().zip(counts) {
            *sum += f64::from(*count) * value;
        }
    }
    sums
}

/// 1 for a row whose predicted class is its label.
#[must_use]
pub(crate) fn hits(scores: &Scores<'_>) -> Vec<f64> {
    let hit = |(row, label): (usize, &f32)| {
        if scores.predicted_class(row) == *label as usize { 1.0 } else { 0.0 }
    };
    scores.label.iter().enumerate().map(hit).collect()
}

pub(super) fn accuracy(scores: &Scores<'_>) -> Mean {
    Mean::new(hits(scores))
}

pub(super) fn log_loss(scores: &Scores<'_>) -> Mean {
    per_row(scores, |row, label| {
        let p = match scores.task {
            Task::Multiclass => f64::from(scores.score[row * scores.n_classes + label as usize]),
            _ if label < 0.5 => 1.0 - f64::from(scores.score[row]),
            _ => f64::from(scores.score[row]),
        };
        -libm::log(p.clamp(PROBABILITY_MIN, 1.0 - PROBABILITY_MIN))
    })
}

pub(super) fn brier(scores: &Scores<'_>) -> Mean {
    per_row(scores, |row, label| match scores.task {
        Task::Multiclass => {
            let scores = &scores.score[row * scores.n_classes..][..scores.n_classes];
            let squared = |(class, p): (usize, &f32)| {
                let hit = if class == label as usize { 1.0 } else { 0.0 };
                (f64::from(*p) - hit) * (f64::from(*p) - hit)
            };
            scores.iter().enumerate().map(squared).sum()
        }
        _ => {
            let error = f64::from(scores.score[row]) - f64::from(label);
            error * error
        }
    })
}

pub(super) fn absolute_error(scores: &Scores<'_>) -> Mean {
    per_row(scores, |row, label| (f64::from(scores.score[row]) - f64::from(label)).abs())
}

fn per_row(scores: &Scores<'_>, loss: impl Fn(usize, f32) -> f64) -> Mean {
    Mean::new(scores.label.iter().enumerate().map(|(row, label)| loss(row, *label)).collect())
}
