//! Calibration error: does a score of 0.3 mean 30 %?
//!
//! Equal-mass bins: a run of equal scores lies in one bin, the one its middle row falls into, so neither ties nor the
//! order of rows matter. Plain error is most biased for models that are well calibrated; the debiased form takes the
//! expected noise of each bin away and may be negative (Kumar, Liang, Ma 2019).

use super::{
    LANES, Scores, Statistic, Weights,
    rank::{Ranked, Visit, add},
};

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

    fn of<const L: usize>(&self, weights: Weights<'_, L>) -> [f64; L] {
        bins(&self.ranked, weights).map(|bins| {
            if self.is_debiased { debiased_squared_error(&bins) } else { plain_error(&bins) }
        })
    }
}

/// The bins under each weighting. A run lies in bin ⌊15 m / n⌋, m = the rows below its middle.
#[must_use]
pub fn bins<const L: usize>(ranked: &Ranked, weights: Weights<'_, L>) -> [[Bin; N_BINS]; L] {
    let mut filling = Filling {
        totals: weights.totals,
        twice_below: weights.totals.map(|it| it.wrapping_mul(2)),
        at: [N_BINS - 1; L],
        limit: weights.totals.map(|it| limit_of(it, N_BINS - 1)),
        n: [0; L],
        scores: [0.0; L],
        positives: [0; L],
        bins: [[Bin::default(); N_BINS]; L],
    };
    ranked.visit(weights.counts, &mut filling);
    for lane in 0..L {
        filling.flush(lane);
    }
    filling.bins
}

/// A run is below bin b when twice the rows below its middle are fewer than this.
fn limit_of(total: i32, bin: usize) -> i32 {
    (2 * total as u64 * bin as u64).div_ceil(N_BINS as u64) as i32
}

/// Bins from the highest down, one being filled in each lane.
struct Filling<const L: usize> {
    totals: [i32; L],
    /// Twice the rows below the runs seen.
    twice_below: [i32; L],
    /// The bin that is being filled, and its limit.
    at: [usize; L],
    limit: [i32; L],
    /// What it has so far.
    n: [i32; L],
    scores: [f64; L],
    positives: [i32; L],
    bins: [[Bin; N_BINS]; L],
}

impl<const L: usize> Filling<L> {
    fn flush(&mut self, lane: usize) {
        self.bins[lane][self.at[lane]] = Bin {
            n: f64::from(self.n[lane]),
            scores: self.scores[lane],
            positives: f64::from(self.positives[lane]),
        };
        (self.n[lane], self.scores[lane], self.positives[lane]) = (0, 0.0, 0);
    }

    #[cold]
    fn step_down(&mut self, twice_middle: [i32; L]) {
        for (lane, twice_middle) in twice_middle.into_iter().enumerate() {
            while twice_middle < self.limit[lane] {
                self.flush(lane);
                self.at[lane] -= 1;
                self.limit[lane] = limit_of(self.totals[lane], self.at[lane]);
            }
        }
    }
}

impl<const L: usize> Visit<L> for Filling<L> {
    #[inline(always)]
    fn run(&mut self, score: f64, negatives: Option<[i32; L]>, positives: Option<[i32; L]>) {
        let mut all = negatives.unwrap_or([0; L]);
        if let Some(positives) = &positives {
            add(&mut all, positives);
        }
        let mut twice_middle = self.twice_below;
        let mut is_lower = 0;
        for lane in 0..L {
            twice_middle[lane] = twice_middle[lane].wrapping_sub(all[lane]);
            // The sign of the difference; all lanes in one test.
            is_lower |= twice_middle[lane].wrapping_sub(self.limit[lane]);
        }
        if is_lower < 0 {
            self.step_down(twice_middle);
        }
        for lane in 0..L {
            self.twice_below[lane] = twice_middle[lane].wrapping_sub(all[lane]);
            self.n[lane] = self.n[lane].wrapping_add(all[lane]);
            self.scores[lane] += f64::from(all[lane]) * score;
        }
        if let Some(positives) = &positives {
            add(&mut self.positives, positives);
        }
    }
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
    fn value(&self, weights: Weights<'_, 1>) -> f64 {
        self.of(weights)[0]
    }

    fn values(&self, weights: Weights<'_, LANES>) -> [f64; LANES] {
        self.of(weights)
    }

    /// Rows of a resample are drawn from the rows at hand, whose own error is the square as it is, noise included.
    fn resampling_shift(&self) -> f64 {
        if !self.is_debiased {
            return 0.0;
        }
        let ones = vec![[1]; self.ranked.n_rows()];
        let [bins] = bins(&self.ranked, Weights::new(&ones));
        squared_error(&bins) - debiased_squared_error(&bins)
    }
}
