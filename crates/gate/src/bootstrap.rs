//! Resampling: how far a number would move on other rows like these.
//!
//! Each resample draws n rows (or groups, whole) with replacement, once for all metrics and both models, as *counts*;
//! every metric is then one pass over the counts. BCa intervals (Efron 1987) correct the percentiles for bias and skew.
//!
//! Counts are not made by drawing n times. n draws are independent Poisson counts of mean 1, given that they sum to n; so
//! each row gets such a count from 16 random bits, and then the √n draws that are missing or too many are added or
//! taken back at random. Rows are visited in order, which is several times faster than n jumps through memory.
//!
//! The counts of row i in resamples 8b to 8b + 7 are block (i, 0, b) of a Philox stream, so any part can be drawn
//! anywhere: the bits do not depend on chunks or threads.
//!
//! The jackknife behind BCa's acceleration is exact leave-one-out where a closed form exists (means, RMSE, R², AUC,
//! everything of the confusion table). Average precision, calibration and all grouped samples delete blocks instead, at
//! most [`BLOCKS_MAX`], dealt by a random permutation: the skew that acceleration needs is the same.

use karat_core::rng::{Permutation, Purpose, Stream};

use crate::{
    metric::{LANES, NotMeasured, Statistic, Weights},
    normal::{cdf, normal_of_student, quantile, student_of_normal},
    parallel::{self, Parallel},
    sample::Sample,
};

/// Blocks of the grouped jackknife.
pub const BLOCKS_MAX: usize = 200;
/// Batches of [`LANES`] resamples a chunk of work has: enough to amortise its buffers, few enough to share out evenly.
const CHUNK: usize = 4;
/// Random words of one row in a batch: 16 bits a resample, one Philox block.
const WORDS: usize = LANES / 2;
/// Rows whose random words are drawn at a time: they fit the first-level cache beside the counts.
const ROWS: usize = 256;
/// Most draws of one row before mending: above it lies less than half of 2⁻¹⁶.
const COUNT_MAX: usize = 8;
/// P(Poisson count ≤ j) for j from 0 on, × 2¹⁶, rounded, − 2¹⁵, − 1: a random i16 above it counts one more. Their mean is
/// exactly 1 and their variance 0.99997.
const THRESHOLDS: [i16; COUNT_MAX] =
    [-8_660, 15_450, 27_504, 31_523, 32_527, 32_728, 32_762, 32_766];

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
        let n_batches = n_resamples.div_ceil(LANES);
        let chunks = parallel::map(parallel, n_batches.div_ceil(CHUNK), |chunk| {
            self.chunk(statistics, chunk * CHUNK..((chunk + 1) * CHUNK).min(n_batches))
        });
        let mut values: Vec<Vec<f64>> =
            statistics.iter().map(|_| Vec::with_capacity(n_batches * LANES)).collect();
        for batch in chunks.iter().flat_map(|it| it.chunks_exact(statistics.len().max(1))) {
            for (out, lanes) in values.iter_mut().zip(batch) {
                out.extend(lanes);
            }
        }
        for values in &mut values {
            values.truncate(n_resamples);
        }
        values
    }

    fn chunk(
        &self,
        statistics: &[&dyn Statistic],
        batches: std::ops::Range<usize>,
    ) -> Vec<[f64; LANES]> {
        let mut drawn = vec![[0; LANES]; self.sample.n_units()];
        let mut spread = vec![[0; LANES]; self.sample.group().map_or(0, |_| self.sample.n_rows())];
        let mut out = Vec::with_capacity(batches.len() * statistics.len());
        for batch in batches {
            draw(self.stream, batch as u64, &mut drawn);
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
            out.extend(statistics.iter().map(|it| it.values(weights)));
        }
        out
    }
}

/// Counts of `counts.len()` draws with replacement, for a whole batch of resamples; see the header.
fn draw(stream: Stream, batch: u64, counts: &mut [[u8; LANES]]) {
    let mut words = [0; ROWS * WORDS];
    let (mut random, mut drawn) = ([0_i16; ROWS * LANES], [0_i16; ROWS * LANES]);
    for (part, counts) in counts.chunks_mut(ROWS).enumerate() {
        stream.fill((part * ROWS) as u32, 0, batch, &mut words[..counts.len() * WORDS]);
        // Three plain loops, each of which compilers turn into vector code.
        for (random, words) in random.chunks_exact_mut(LANES).zip(words.chunks_exact(WORDS)) {
            for (lane, word) in words.iter().enumerate() {
                random[lane] = *word as i16;
                random[lane + WORDS] = (word >> 16) as i16;
            }
        }
        for (drawn, random) in drawn.iter_mut().zip(&random) {
            let one_more = |threshold: &i16| i16::from(threshold < random);
            *drawn = THRESHOLDS.iter().map(one_more).fold(0, i16::wrapping_add);
        }
        for (counts, drawn) in counts.iter_mut().zip(drawn.chunks_exact(LANES)) {
            for (count, drawn) in counts.iter_mut().zip(drawn) {
                *count = *drawn as u8;
            }
        }
    }
    let drawn = Weights::new(counts).totals;
    for (lane, drawn) in drawn.into_iter().enumerate() {
        mend(stream, batch * LANES as u64 + lane as u64, counts, lane, drawn as usize);
    }
}

/// Adds draws to one resample, or takes some back, until there is one a unit.
fn mend(
    stream: Stream,
    resample: u64,
    counts: &mut [[u8; LANES]],
    lane: usize,
    mut n_drawn: usize,
) {
    let n = counts.len();
    let places = (n * COUNT_MAX) as u128;
    let mut words = [0; 64];
    let mut block = 0_u32;
    while n_drawn != n {
        stream.fill(block, 1, resample, &mut words);
        block = block.wrapping_add(16);
        for word in words.chunks_exact(2) {
            let random = (u128::from(word[0]) << 32) | u128::from(word[1]);
            let place = ((random * places) >> 64) as usize;
            let count = &mut counts[place / COUNT_MAX][lane];
            if n_drawn < n {
                *count += 1;
                n_drawn += 1;
            } else if n < n_drawn && place % COUNT_MAX < usize::from(*count) {
                // A unit is hit as often as it was drawn, so every draw is as likely to be taken back.
                *count -= 1;
                n_drawn -= 1;
            }
        }
    }
}

/// Rows from which a mean's resamples are not drawn.
const KNOWN_ROWS_MIN: usize = 10_000;
/// Skew and excess of a mean above which they are drawn all the same: few rows carry it.
const KNOWN_CUMULANT_MAX: f64 = 0.1;

/// `n_resamples` of the mean of many items, ascending, without drawing one: its quantiles i / (R + 1) under resampling, by Cornish and
/// Fisher's expansion (1938) in its exact cumulants. What is left out is of the order of n^{−3/2}, far below the error of ten
/// thousand random resamples. `None` where items are few, or few of them carry the mean, or none varies.
#[must_use]
pub fn mean_resamples(items: &[f64], n_resamples: u32) -> Option<Vec<f64>> {
    if items.len() < KNOWN_ROWS_MIN {
        return None;
    }
    let n = items.len() as f64;
    let mean = items.iter().sum::<f64>() / n;
    let moments = items.iter().fold([0.0; 3], |[second, third, fourth], it| {
        let gap = it - mean;
        let square = gap * gap;
        [second + square, third + square * gap, fourth + square * square]
    });
    let [second, third, fourth] = moments.map(|it| it / n);
    let skew = third / (second * libm::sqrt(second)) / libm::sqrt(n);
    let excess = (fourth / (second * second) - 3.0) / n;
    // NaN, where nothing varies, is not known either.
    let is_known = skew.abs() <= KNOWN_CUMULANT_MAX && excess.abs() <= KNOWN_CUMULANT_MAX;
    let scale = libm::sqrt(second / n);
    let at = |i: u32| {
        let z = quantile(f64::from(i) / (f64::from(n_resamples) + 1.0));
        let by_skew = skew * (z * z - 1.0) / 6.0 - skew * skew * z * (2.0 * z * z - 5.0) / 36.0;
        mean + scale * (z + by_skew + excess * z * (z * z - 3.0) / 24.0)
    };
    is_known.then(|| (1..=n_resamples).map(at).collect())
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
        let batches = parallel::map(parallel, n_blocks.div_ceil(LANES), |batch| {
            let without = |block: &usize| {
                std::array::from_fn(|lane| u8::from(*block != batch * LANES + lane))
            };
            let counts: Vec<[u8; LANES]> = block_of_row.iter().map(without).collect();
            statistic.values(Weights::new(&counts))
        });
        Self { values: batches.into_iter().flatten().take(n_blocks).collect() }
    }

    /// From values with one unit or block left out each.
    #[must_use]
    pub fn from_values(values: Vec<f64>) -> Self {
        Self { values }
    }

    /// How many squares of normal numbers know the variance as well as these do: 2 / (Σu⁴/(Σu²)² − 1/n), Satterthwaite's
    /// matching of moments. n for a mean of normal numbers; few where few rows carry the statistic.
    #[must_use]
    pub fn degrees_of_freedom(&self) -> f64 {
        let n = self.values.len() as f64;
        let mean = self.values.iter().sum::<f64>() / n;
        let square = |value: &f64| (value - mean) * (value - mean);
        let (squares, fourths) =
            self.values.iter().map(square).fold((0.0, 0.0), |(s, f), it| (s + it, f + it * it));
        let excess = fourths / (squares * squares) - 1.0 / n;
        if 0.0 < excess { 2.0 / excess } else { f64::INFINITY }
    }

    /// Resamples of n units vary too little by (n − 1) / n.
    fn stretch(&self) -> f64 {
        let n = self.values.len() as f64;
        libm::sqrt(n / (n - 1.0))
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

/// Resamples of an estimate and what BCa corrects them by: an interval at any level, a P at any bound.
#[derive(Clone, Debug, PartialEq)]
pub struct Bca {
    sorted: Vec<f64>,
    /// Sums of the same numbers in another order differ in the last bits: values this close are equal.
    rounding: f64,
    /// z₀ and â.
    bias: f64,
    acceleration: f64,
    /// Of the variance that resampling found, and how much too short it is: √(n / (n − 1)).
    degrees: f64,
    stretch: f64,
    /// Standard deviation of the resamples.
    pub standard_error: f64,
}

impl Bca {
    /// A resample on which the statistic is not defined, or resamples that all lie on one side of the estimate, leave
    /// nothing to correct with: no interval.
    pub fn new(
        estimate: f64,
        mut resamples: Vec<f64>,
        jackknife: &Jackknife,
    ) -> Result<Self, NotMeasured> {
        let n = resamples.len();
        let n_undefined = resamples.iter().filter(|it| !it.is_finite()).count();
        if 0 < n_undefined {
            return Err(NotMeasured::new(format!(
                "{} of {} resamples do not define it (too few rows of one class)",
                karat_core::thousands(n_undefined as u64),
                karat_core::thousands(n as u64)
            )));
        }
        let acceleration = acceleration(&[jackknife]);
        if !acceleration.is_finite() {
            return Err(NotMeasured::new("it is not defined without one single row"));
        }
        resamples.sort_unstable_by(f64::total_cmp);
        let mean = resamples.iter().sum::<f64>() / n as f64;
        let squares: f64 = resamples.iter().map(|it| (it - mean) * (it - mean)).sum();
        let mut made = Self {
            sorted: resamples,
            rounding: estimate.abs().max(f64::MIN_POSITIVE) * 1e-12,
            bias: 0.0,
            acceleration,
            degrees: jackknife.degrees_of_freedom(),
            stretch: jackknife.stretch(),
            standard_error: libm::sqrt(squares / (n as f64 - 1.0)),
        };
        made.bias = quantile(made.share_below(estimate));
        if !made.bias.is_finite() {
            return Err(NotMeasured::new(format!(
                "all {} resamples lie on one side of the value, so its bias cannot be corrected",
                karat_core::thousands(n as u64)
            )));
        }
        Ok(made)
    }

    /// Two-sided, `alpha` on each side. Quantile q is order statistic q (R + 1), linear in between.
    #[must_use]
    pub fn interval(&self, alpha: f64) -> [f64; 2] {
        self.levels(alpha).map(|level| self.quantile(level))
    }

    /// The quantiles of the resamples that are its ends: α₁ and α₂.
    #[must_use]
    pub fn levels(&self, alpha: f64) -> [f64; 2] {
        [alpha, 1.0 - alpha].map(|p| {
            let z = self.bias + self.stretch * student_of_normal(quantile(p), self.degrees);
            let scale = 1.0 - self.acceleration * z;
            // Past the pole of a large acceleration: as far out as there is.
            cdf(if 0.0 < scale { self.bias + z / scale } else { f64::INFINITY.copysign(z) })
        })
    }

    /// z₀: how far the resamples' median lies from the estimate, in standard errors.
    #[must_use]
    pub fn bias(&self) -> f64 {
        self.bias
    }

    /// â: how the standard error changes with the value.
    #[must_use]
    pub fn acceleration(&self) -> f64 {
        self.acceleration
    }

    /// One-sided P of "the truth is at most `bound`": the level at which the lower end reaches it. What finitely many
    /// resamples cannot show is not claimed: never within half a draw of 0 or 1.
    #[must_use]
    pub fn level(&self, bound: f64) -> f64 {
        let edge = 1.0 / (self.sorted.len() as f64 + 1.0);
        let w = quantile(self.share_below(bound).clamp(edge, 1.0 - edge)) - self.bias;
        let scale = 1.0 + self.acceleration * w;
        let z = if 0.0 < scale { w / scale } else { f64::INFINITY.copysign(w) };
        let z = normal_of_student((z - self.bias) / self.stretch, self.degrees);
        cdf(z).clamp(0.5 * edge, 1.0 - 0.5 * edge)
    }

    /// Two-sided P of "the truth is `bound`". Never below one draw.
    #[must_use]
    pub fn p(&self, bound: f64) -> f64 {
        let level = self.level(bound);
        (2.0 * level.min(1.0 - level)).max(1.0 / (self.sorted.len() as f64 + 1.0))
    }

    /// Share of the resamples below `at`; equals count half.
    fn share_below(&self, at: f64) -> f64 {
        let below = self.sorted.partition_point(|it| *it < at - self.rounding) as f64;
        let not_above = self.sorted.partition_point(|it| *it <= at + self.rounding) as f64;
        0.5 * (below + not_above) / self.sorted.len() as f64
    }

    fn quantile(&self, p: f64) -> f64 {
        let n = self.sorted.len();
        let position = p * (n as f64 + 1.0) - 1.0;
        let low = (position.floor().max(0.0) as usize).min(n - 1);
        let high = (low + 1).min(n - 1);
        let part = (position - low as f64).clamp(0.0, 1.0);
        self.sorted[low] + part * (self.sorted[high] - self.sorted[low])
    }
}

#[cfg(test)]
mod tests;
