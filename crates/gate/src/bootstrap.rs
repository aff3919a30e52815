//! Resampling: how far a number would move on other rows like these.
//!
//! Each resample draws n rows (or groups, whole) with replacement, once for all metrics and both models, as *counts*;
//! every metric is then one pass over the counts. BCa intervals (Efron 1987) correct the percentiles for bias and skew.
//!
//! Draw i of resample r is element (i, 0, r) of a Philox stream, so any part can be drawn anywhere: the bits do not
//! depend on chunks or threads.
//!
//! The jackknife behind BCa's acceleration is exact leave-one-out where a closed form exists (means, RMSE, R², AUC,
//! everything of the confusion table). Average precision, calibration and all grouped samples delete blocks instead, at
//! most [`BLOCKS_MAX`], dealt by a random permutation: the skew that acceleration needs is the same.

use karat_core::rng::{Permutation, Purpose, Stream, below};

use crate::{
    metric::{NotMeasured, Statistic, Weights},
    normal::{cdf, quantile},
    parallel::{self, Parallel},
    sample::Sample,
};

/// Blocks of the grouped jackknife.
pub const BLOCKS_MAX: usize = 200;
/// Resamples a chunk of work has: enough to amortise its buffers, few enough to share out evenly.
const CHUNK: usize = 32;
/// Random words drawn at a time: fits the first-level cache beside the counts.
const WORDS: usize = 2048;

/// What to draw.
#[derive(Clone, Copy, Debug)]
pub struct Resampling<'a> {
    /// Randomness and its name: gate and slice.
    pub stream: Stream,
    /// The rows.
    pub sample: &'a Sample,
    /// How often.
    pub n_resamples: u32,
}

impl<'a> Resampling<'a> {
    /// Seed 0: a verdict must be the same for everybody who computes it.
    #[must_use]
    pub fn new(name: &str, sample: &'a Sample, n_resamples: u32) -> Self {
        Self { stream: Stream::new(0, Purpose::Bootstrap, name), sample, n_resamples }
    }

    /// Values of every statistic on every resample: `[statistic][resample]`.
    #[must_use]
    pub fn run(&self, statistics: &[&dyn Statistic], parallel: &dyn Parallel) -> Vec<Vec<f64>> {
        let n_resamples = self.n_resamples as usize;
        let chunks = parallel::map(parallel, n_resamples.div_ceil(CHUNK), |chunk| {
            let range = chunk * CHUNK..((chunk + 1) * CHUNK).min(n_resamples);
            self.chunk(statistics, range)
        });
        let mut values: Vec<Vec<f64>> =
            statistics.iter().map(|_| Vec::with_capacity(n_resamples)).collect();
        for resample in chunks.iter().flat_map(|it| it.chunks_exact(statistics.len().max(1))) {
            for (out, value) in values.iter_mut().zip(resample) {
                out.push(*value);
            }
        }
        values
    }

    fn chunk(&self, statistics: &[&dyn Statistic], range: std::ops::Range<usize>) -> Vec<f64> {
        let mut drawn = vec![0; self.sample.n_units()];
        let mut spread = vec![0; self.sample.group().map_or(0, |_| self.sample.n_rows())];
        let mut out = Vec::with_capacity(range.len() * statistics.len());
        for resample in range {
            draw(self.stream, resample as u64, &mut drawn);
            let counts = match self.sample.group() {
                None => &drawn,
                Some(groups) => {
                    for (count, group) in spread.iter_mut().zip(&groups.of_row) {
                        *count = drawn[*group as usize];
                    }
                    &spread
                }
            };
            let weights = Weights::new(counts);
            out.extend(statistics.iter().map(|it| it.value(weights)));
        }
        out
    }
}

/// Counts of `counts.len()` draws with replacement. A count past 255 would wrap, which fewer than one resample in 10⁵⁰⁰
/// has.
fn draw(stream: Stream, resample: u64, counts: &mut [u8]) {
    counts.fill(0);
    let n = counts.len() as u32;
    let mut words = [0; WORDS];
    let mut done = 0;
    while done < counts.len() {
        let words = &mut words[..WORDS.min(counts.len() - done)];
        stream.fill((done / 4) as u32, 0, resample, words);
        for word in words.iter_mut() {
            *word = below(*word, n);
        }
        for unit in words.iter() {
            let count = &mut counts[*unit as usize];
            *count = count.wrapping_add(1);
        }
        done += words.len();
    }
}

/// The statistic without each unit, or without each of a few blocks of units.
#[derive(Clone, Debug, PartialEq)]
pub struct Jackknife {
    values: Vec<f64>,
}

impl Jackknife {
    /// Of `statistic` on `sample`.
    #[must_use]
    pub fn new(statistic: &dyn Statistic, sample: &Sample, parallel: &dyn Parallel) -> Self {
        if sample.group().is_none()
            && let Some(values) = statistic.leave_one_out()
        {
            return Self { values };
        }
        let n_units = sample.n_units();
        let n_blocks = n_units.min(BLOCKS_MAX);
        let deal =
            Permutation::new(Stream::new(0, Purpose::Bootstrap, "jackknife"), 0, n_units as u64);
        let block_of_unit: Vec<usize> =
            (0..n_units).map(|unit| deal.at(unit as u64) as usize % n_blocks).collect();
        let block_of_row: Vec<usize> = (0..sample.n_rows())
            .map(|row| block_of_unit[sample.group().map_or(row, |it| it.of_row[row] as usize)])
            .collect();
        let values = parallel::map(parallel, n_blocks, |block| {
            let counts: Vec<u8> = block_of_row.iter().map(|it| u8::from(*it != block)).collect();
            statistic.value(Weights::new(&counts))
        });
        Self { values }
    }

    /// From values with one unit or block left out each.
    #[must_use]
    pub fn from_values(values: Vec<f64>) -> Self {
        Self { values }
    }

    /// Standard error of the statistic.
    #[must_use]
    pub fn standard_error(&self) -> f64 {
        let n = self.values.len() as f64;
        let mean = self.values.iter().sum::<f64>() / n;
        let squares: f64 = self.values.iter().map(|it| (it - mean) * (it - mean)).sum();
        libm::sqrt(squares * (n - 1.0) / n)
    }
}

/// BCa's acceleration for one sample or several independent ones: Σₛ Σu³/nₛ³ / (6 (Σₛ Σu²/nₛ²)^{3/2}) with
/// u = (nₛ − 1)(mean − leave-one-out). 0 when nothing varies.
#[must_use]
pub fn acceleration(samples: &[&Jackknife]) -> f64 {
    let (mut cubes, mut squares) = (0.0, 0.0);
    for sample in samples {
        let n = sample.values.len() as f64;
        let mean = sample.values.iter().sum::<f64>() / n;
        for value in &sample.values {
            let u = (n - 1.0) * (mean - value) / n;
            squares += u * u;
            cubes += u * u * u;
        }
    }
    if squares <= 0.0 { 0.0 } else { cubes / (6.0 * squares * libm::sqrt(squares)) }
}

/// A BCa interval and what it was made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Bca {
    /// Two-sided.
    pub interval: [f64; 2],
    /// Standard deviation of the resamples.
    pub standard_error: f64,
    /// Two-sided P of "the value is 0", by inverting the interval. Never 0.
    pub p_zero: f64,
}

/// The BCa interval of `estimate` from its resamples: two-sided, `alpha` on each side.
///
/// Quantile q is order statistic q (R + 1), linear in between. A resample on which the statistic is not defined, or
/// resamples that all lie on one side of the estimate, leave nothing to correct with: no interval.
pub fn bca(
    estimate: f64,
    mut resamples: Vec<f64>,
    jackknife: &Jackknife,
    alpha: f64,
) -> Result<Bca, NotMeasured> {
    let n = resamples.len();
    let n_undefined = resamples.iter().filter(|it| !it.is_finite()).count();
    if 0 < n_undefined {
        return Err(NotMeasured::new(format!(
            "{} of {} resamples do not define it (too few rows of one class)",
            karat_core::thousands(n_undefined as u64),
            karat_core::thousands(n as u64)
        )));
    }
    let a = acceleration(&[jackknife]);
    if !a.is_finite() {
        return Err(NotMeasured::new("it is not defined without one single row"));
    }
    resamples.sort_unstable_by(f64::total_cmp);
    // Sums of the same numbers in another order differ in the last bits: such a resample equals the estimate.
    let spread = estimate.abs().max(f64::MIN_POSITIVE) * 1e-12;
    let share_below = |at: f64| {
        let below = resamples.partition_point(|it| *it < at - spread) as f64;
        let not_above = resamples.partition_point(|it| *it <= at + spread) as f64;
        0.5 * (below + not_above) / n as f64
    };
    let z0 = quantile(share_below(estimate));
    if !z0.is_finite() {
        return Err(NotMeasured::new(format!(
            "all {} resamples lie on one side of the value, so its bias cannot be corrected",
            karat_core::thousands(n as u64)
        )));
    }
    let adjusted = |p: f64| {
        let z = z0 + quantile(p);
        cdf(z0 + z / (1.0 - a * z))
    };
    let at = |p: f64| {
        let position = p * (n as f64 + 1.0) - 1.0;
        let low = (position.floor().max(0.0) as usize).min(n - 1);
        let high = (low + 1).min(n - 1);
        let part = (position - low as f64).clamp(0.0, 1.0);
        resamples[low] + part * (resamples[high] - resamples[low])
    };
    let mean = resamples.iter().sum::<f64>() / n as f64;
    let variance =
        resamples.iter().map(|it| (it - mean) * (it - mean)).sum::<f64>() / (n as f64 - 1.0);
    // The level at which an end of the interval reaches 0, kept off 0 and 1 by one draw.
    let edge = 1.0 / (n as f64 + 1.0);
    let w = quantile(share_below(0.0).clamp(edge, 1.0 - edge)) - z0;
    let level = cdf(w / (1.0 + a * w) - z0);
    let p_zero = (2.0 * level.min(1.0 - level)).max(edge).min(1.0);
    Ok(Bca {
        interval: [at(adjusted(alpha)), at(adjusted(1.0 - alpha))],
        standard_error: libm::sqrt(variance),
        p_zero,
    })
}

#[cfg(test)]
mod tests;
