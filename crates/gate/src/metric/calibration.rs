//! Calibration error: does a score of 0.3 mean 30 %?
//!
//! Equal-mass bins: a run of equal scores lies in one bin, the one its middle row falls into, so neither ties nor the
//! order of rows matter. Plain error is most biased for models that are well calibrated; the debiased form takes the
//! expected noise of each bin away and may be negative (Kumar, Liang, Ma 2019).

use super::{Scores, Statistic, Weights, rank::Ranked};

/// Bins of the metric and of the reliability diagram.
pub const N_BINS: usize = 15;

/// Plain or debiased error.
#[derive(Clone, Debug)]
pub struct Calibration {
    ranked: Ranked,
    is_debiased: bool,
}

/// One bin's sums.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bin {
    /// Rows.
    pub n: f64,
    /// Sum of scores.
    pub scores: f64,
    /// Positives.
    pub positives: f64,
}

impl Calibration {
    pub(super) fn plain(scores: &Scores<'_>) -> Self {
        Self { ranked: Ranked::new(scores), is_debiased: false }
    }

    pub(super) fn debiased(scores: &Scores<'_>) -> Self {
        Self { ranked: Ranked::new(scores), is_debiased: true }
    }

    fn bins(&self, weights: Weights<'_>) -> [Bin; N_BINS] {
        bins(&self.ranked, weights)
    }
}

/// The bins under these weights.
#[must_use]
pub fn bins(ranked: &Ranked, weights: Weights<'_>) -> [Bin; N_BINS] {
    let mut bins = [Bin::default(); N_BINS];
    let per_row = N_BINS as f64 / weights.total as f64;
    let mut before = 0.0;
    ranked.runs(weights.counts, |score, all, positive| {
        let all = all as f64;
        let middle = (before + 0.5 * all) * per_row;
        let bin = &mut bins[(middle as usize).min(N_BINS - 1)];
        bin.n += all;
        bin.scores += all * score;
        bin.positives += positive as f64;
        before += all;
    });
    bins
}

/// Σ w |ȳ − p̄|.
#[must_use]
pub fn plain_error(bins: &[Bin]) -> f64 {
    let n: f64 = bins.iter().map(|it| it.n).sum();
    bins.iter().map(|it| (it.positives - it.scores).abs()).sum::<f64>() / n
}

/// Σ w (ȳ − p̄)²: the square that the debiased form corrects.
#[must_use]
pub fn squared_error(bins: &[Bin]) -> f64 {
    let n: f64 = bins.iter().map(|it| it.n).sum();
    let of_bin = |it: &Bin| {
        let gap = (it.positives - it.scores) / it.n;
        it.n * gap * gap
    };
    bins.iter().filter(|it| 0.0 < it.n).map(of_bin).sum::<f64>() / n
}

/// Σ w [(ȳ − p̄)² − ȳ (1 − ȳ) / (n − 1)]; bins of one row count 0.
#[must_use]
pub fn debiased_squared_error(bins: &[Bin]) -> f64 {
    let n: f64 = bins.iter().map(|it| it.n).sum();
    let of_bin = |it: &Bin| {
        let rate = it.positives / it.n;
        let gap = rate - it.scores / it.n;
        it.n * (gap * gap - rate * (1.0 - rate) / (it.n - 1.0))
    };
    bins.iter().filter(|it| 2.0 <= it.n).map(of_bin).sum::<f64>() / n
}

impl Statistic for Calibration {
    fn value(&self, weights: Weights<'_>) -> f64 {
        let bins = self.bins(weights);
        if self.is_debiased { debiased_squared_error(&bins) } else { plain_error(&bins) }
    }

    /// Rows of a resample are drawn from the rows at hand, whose own error is the square as it is, noise included.
    fn resampling_shift(&self) -> f64 {
        if !self.is_debiased {
            return 0.0;
        }
        let ones = vec![1; self.ranked.n_rows()];
        let bins = self.bins(Weights::new(&ones));
        squared_error(&bins) - debiased_squared_error(&bins)
    }
}
