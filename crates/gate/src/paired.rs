//! Right or wrong, one model or two on the same rows: Wilson, McNemar, Tango, and how many rows a question needs.
//!
//! Notation: n rows; b = candidate right and baseline wrong, c = the reverse.
//!
//! Sources: Wilson 1927; Fagerland, Lydersen, Laake 2013 (mid-p); Tango 1998; Bonett and Price 2012; Connor 1987.
//! Golden values: docs/design/009-gate-statistics.md.

use crate::normal::{fair_coin, fair_coin_tail, quantile};

/// Wilson's interval of a share: `right` of `n` rows, `z` normal quantile of each side. `n` must not be 0.
#[must_use]
pub fn wilson(right: u64, n: u64, z: f64) -> [f64; 2] {
    let (n, p) = (n as f64, right as f64 / n as f64);
    let scale = 1.0 + z * z / n;
    let centre = p + z * z / (2.0 * n);
    let half = z * libm::sqrt(p * (1.0 - p) / n + z * z / (4.0 * n * n));
    [((centre - half) / scale).max(0.0), ((centre + half) / scale).min(1.0)]
}

/// McNemar's exact two-sided P: both models are equally often the right one.
#[must_use]
pub fn mcnemar_exact(b: u64, c: u64) -> f64 {
    let (less, n) = (b.min(c), b + c);
    if n == 0 {
        return 1.0;
    }
    (2.0 * fair_coin_tail(less, n)).min(1.0)
}

/// McNemar's two-sided mid-p: half of the observed point's probability, because the exact test is conservative.
#[must_use]
pub fn mcnemar_mid_p(b: u64, c: u64) -> f64 {
    let (less, n) = (b.min(c), b + c);
    if n == 0 {
        return 1.0;
    }
    if b == c {
        return 1.0 - 0.5 * fair_coin(b, n);
    }
    2.0 * fair_coin_tail(less, n) - fair_coin(less, n)
}

/// One-sided mid-p of "the candidate is not better": P(B > b) + ½ P(B = b).
#[must_use]
pub fn mcnemar_mid_p_better(b: u64, c: u64) -> f64 {
    let n = b + c;
    if n == 0 {
        return 0.5;
    }
    // Wins and losses are exchangeable under the null, so the upper tail at b is the lower tail at c.
    if c <= b {
        fair_coin_tail(c, n) - 0.5 * fair_coin(c, n)
    } else {
        1.0 - fair_coin_tail(b, n) + 0.5 * fair_coin(b, n)
    }
}

/// McNemar's statistic (b − c)² / (b + c), without continuity correction. 0 without discordant rows.
#[must_use]
pub fn mcnemar_chi_squared(b: u64, c: u64) -> f64 {
    if b + c == 0 {
        return 0.0;
    }
    let difference = b as f64 - c as f64;
    difference * difference / (b + c) as f64
}

/// Tango's score statistic for "the difference (b − c) / n is `null`".
#[must_use]
pub fn tango_z(b: u64, c: u64, n: u64, null: f64) -> f64 {
    let (b, c, n) = (b as f64, c as f64, n as f64);
    let qa = 2.0 * n;
    let qb = -b - c + (2.0 * n - b + c) * null;
    let qc = -c * null * (1.0 - null);
    let share = (libm::sqrt((qb * qb - 4.0 * qa * qc).max(0.0)) - qb) / (2.0 * qa);
    let variance = n * (2.0 * share + null * (1.0 - null));
    let excess = b - c - n * null;
    if 0.0 < variance {
        excess / libm::sqrt(variance)
    } else if excess == 0.0 {
        0.0
    } else {
        f64::INFINITY.copysign(excess)
    }
}

/// Tango's score interval of (b − c) / n, `z` normal quantile of each side. `n` must not be 0.
#[must_use]
pub fn tango(b: u64, c: u64, n: u64, z: f64) -> [f64; 2] {
    const INSIDE: f64 = 1.0 - 1e-12;
    let estimate = (b as f64 - c as f64) / n as f64;
    let solve = |mut low: f64, mut high: f64, target: f64| {
        // Falls with the null; 200 halvings are past the last bit.
        for _ in 0..200 {
            let middle = 0.5 * (low + high);
            if target < tango_z(b, c, n, middle) {
                low = middle;
            } else {
                high = middle;
            }
        }
        0.5 * (low + high)
    };
    [solve(-INSIDE, estimate, z), solve(estimate, INSIDE, -z)]
}

/// Bonett and Price's adjusted Wald interval: what Tango's is checked against.
#[must_use]
pub fn bonett_price(b: u64, c: u64, n: u64, z: f64) -> [f64; 2] {
    let n = n as f64 + 2.0;
    let (p, q) = ((b as f64 + 1.0) / n, (c as f64 + 1.0) / n);
    let difference = p - q;
    let half = z * libm::sqrt((p + q - difference * difference) / n);
    [difference - half, difference + half]
}

/// α and power of a question, as normal quantiles.
#[derive(Clone, Copy, Debug)]
pub struct Power {
    /// z of 1 − α, one-sided.
    pub z_alpha: f64,
    /// z of the power.
    pub z_beta: f64,
}

impl Power {
    /// From a gate's reliability (1 − α) and power.
    #[must_use]
    pub fn new(reliability: f64, power: f64) -> Self {
        Self { z_alpha: quantile(reliability), z_beta: quantile(power) }
    }

    /// Rows to see a gain of `gain` when the models disagree on a share `disagreement` of the rows.
    #[must_use]
    pub fn rows_for_gain(self, gain: f64, disagreement: f64) -> f64 {
        let within = libm::sqrt((disagreement - gain * gain).max(0.0));
        let root = self.z_alpha * libm::sqrt(disagreement) + self.z_beta * within;
        root * root / (gain * gain)
    }

    /// Rows to show "not worse by `margin`" when the models are equally good.
    #[must_use]
    pub fn rows_for_margin(self, margin: f64, disagreement: f64) -> f64 {
        let z = self.z_alpha + self.z_beta;
        z * z * disagreement / (margin * margin)
    }

    /// The smallest gain that `n` rows show; the whole disagreement if even that is not enough.
    #[must_use]
    pub fn gain_seen(self, n: f64, disagreement: f64) -> f64 {
        let (mut low, mut high) = (0.0, disagreement);
        for _ in 0..100 {
            let middle = 0.5 * (low + high);
            if n < self.rows_for_gain(middle, disagreement) {
                low = middle;
            } else {
                high = middle;
            }
        }
        high
    }

    /// The smallest effect that a standard error shows: for every metric that is not right or wrong.
    #[must_use]
    pub fn effect_seen(self, standard_error: f64) -> f64 {
        (self.z_alpha + self.z_beta) * standard_error
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Power, bonett_price, mcnemar_chi_squared, mcnemar_exact, mcnemar_mid_p,
        mcnemar_mid_p_better, tango, tango_z, wilson,
    };
    use crate::{
        normal::{quantile, two_sided},
        testing::assert_close,
    };

    #[test]
    fn mcnemar_gives_the_published_values() {
        for (b, c, exact, mid, chi, p) in [
            (121, 59, 4.434_449_263_76e-6, 3.266_646_795_77e-6, 21.355_555_555_6, 3.815_135_87e-6),
            (70, 59, 0.378_687_662_693, 0.334_687_758_737, 0.937_984_496_124, 0.332_796_717),
            (80, 59, 0.089_452_314_994_5, 0.075_550_828_752_7, 3.172_661_870_5, 0.074_880_314_0),
            (30, 60, 0.002_060_265_680_96, 0.001_516_513_194_46, 10.0, 0.001_565_402_26),
            (10, 10, 1.0, 0.911_901_473_999, 0.0, 1.0),
            (1, 7, 0.070_312_5, 0.039_062_5, 4.5, 0.033_894_853_5),
            (6, 16, 0.052_478_790_283_2, 0.034_689_664_840_7, 4.545_454_545_45, 0.033_006_257_6),
        ] {
            assert_close(mcnemar_exact(b, c), exact, 1e-11);
            assert_close(mcnemar_mid_p(b, c), mid, 1e-11);
            assert_close(mcnemar_chi_squared(b, c), chi, 1e-11);
            assert_close(two_sided(libm::sqrt(mcnemar_chi_squared(b, c))), p, 1e-8);
            // Swapping the models turns the one-sided P into its complement and leaves the two-sided one.
            assert_close(mcnemar_mid_p(c, b), mid, 1e-11);
            assert_close(mcnemar_mid_p_better(b, c) + mcnemar_mid_p_better(c, b), 1.0, 1e-12);
        }
        // Exact fractions: 18 / 256 and 10 / 256.
        assert_close(mcnemar_exact(1, 7), 18.0 / 256.0, 1e-14);
        assert_close(mcnemar_mid_p(1, 7), 10.0 / 256.0, 1e-14);
        assert_close(mcnemar_exact(0, 0), 1.0, 1e-15);
        assert_close(mcnemar_mid_p(0, 0), 1.0, 1e-15);
        // No overflow: C(2·10⁷, 10⁷) has six million digits.
        assert!(mcnemar_mid_p(10_000_000, 10_005_000) < 0.3);
    }

    /// The one-sided sizes of section 4, by enumerating every outcome of n rows with 5 % discordant.
    #[test]
    fn exact_is_conservative_and_mid_p_is_not() {
        for (n, exact_size, mid_size) in [(200_u64, 0.0234, 0.0422), (1000, 0.0377, 0.0494)] {
            let (mut exact, mut mid) = (0.0, 0.0);
            let mut p_discordant = libm::pow(0.95, n as f64);
            for d in 0..=n {
                for b in 0..=d {
                    let p = p_discordant * crate::normal::fair_coin(b, d);
                    let half = mcnemar_mid_p_better(b, d - b);
                    if half + 0.5 * crate::normal::fair_coin(b, d) <= 0.05 {
                        exact += p;
                    }
                    if half <= 0.05 {
                        mid += p;
                    }
                }
                p_discordant *= (n - d) as f64 / (d + 1) as f64 * 0.05 / 0.95;
                if 4.0 * 0.05 * (n as f64) < d as f64 {
                    break;
                }
            }
            assert!((exact - exact_size).abs() < 6e-5, "n = {n}: {exact}");
            assert!((mid - mid_size).abs() < 6e-5, "n = {n}: {mid}");
        }
    }

    #[test]
    fn tango_gives_the_published_intervals() {
        let z = quantile(0.975);
        for (b, c, n, low, high) in [
            (1, 7, 21, -0.517_232, -0.026_003),
            (6, 16, 161, -0.124_023, -0.005_433),
            (12, 2, 50, 0.061_112, 0.344_709),
        ] {
            let found = tango(b, c, n, z);
            assert!((found[0] - low).abs() < 6e-7, "{found:?}");
            assert!((found[1] - high).abs() < 6e-7, "{found:?}");
            // Swapping the models turns the interval round.
            let swapped = tango(c, b, n, z);
            assert_close(swapped[0], -found[1], 1e-9);
            assert_close(swapped[1], -found[0], 1e-9);
        }
        assert_close(tango_z(121, 59, 314, -0.02), 5.076_9, 1e-5);
        // Z at 0 is McNemar's χ.
        assert_close(tango_z(121, 59, 314, 0.0), libm::sqrt(21.355_555_555_555_6), 1e-12);
        // No discordant row: z² / (n + z²) on both sides, not a point.
        let [low, high] = tango(0, 0, 100, z);
        assert_close(high, z * z / (100.0 + z * z), 1e-9);
        assert_close(low, -high, 1e-9);
        let found = bonett_price(1, 7, 21, z);
        assert!((found[0] + 0.508_359).abs() < 6e-7, "{found:?}");
        assert!((found[1] + 0.013_380).abs() < 6e-7, "{found:?}");
    }

    #[test]
    fn wilson_holds_the_share_and_stays_inside() {
        // Wilson 1927 for 81 of 263 (Newcombe 1998): 0.2553 to 0.3662.
        let [low, high] = wilson(81, 263, quantile(0.975));
        assert!((low - 0.2553).abs() < 5e-5 && (high - 0.3662).abs() < 5e-5, "{low} {high}");
        let [low, high] = wilson(0, 20, quantile(0.975));
        assert!(low.abs() < 1e-15 && (high - 0.1611).abs() < 5e-5, "{low} {high}");
        let [low, high] = wilson(20, 20, quantile(0.975));
        assert!((low - 0.8389).abs() < 5e-5 && (high - 1.0).abs() < 1e-15, "{low} {high}");
    }

    /// The table of section 5.
    #[test]
    fn power_gives_the_planning_table() {
        let power = Power::new(0.95, 0.8);
        let shares = [0.02, 0.05, 0.1, 0.2];
        for (gain, rows) in [
            (0.0025, [19_783.0, 49_459.0, 98_919.0, 197_840.0]),
            (0.005, [4_944.0, 12_364.0, 24_729.0, 49_459.0]),
            (0.01, [1_235.0, 3_090.0, 6_181.0, 12_364.0]),
        ] {
            for (share, expected) in shares.into_iter().zip(rows) {
                assert_close(power.rows_for_gain(gain, share).ceil(), expected, 1e-12);
            }
        }
        for (share, expected) in shares[1..].iter().zip([771.0, 1_544.0, 3_090.0]) {
            assert_close(power.rows_for_gain(0.02, *share).ceil(), expected, 1e-12);
        }
        for (share, expected) in shares.into_iter().zip([4_947.0, 12_366.0, 24_731.0, 49_461.0]) {
            assert_close(power.rows_for_margin(0.005, share).ceil(), expected, 1e-12);
        }
        for (n, effects) in [
            (500.0, [1.57, 2.48, 3.51, 4.96]),
            (1_000.0, [1.11, 1.76, 2.48, 3.51]),
            (5_000.0, [0.50, 0.79, 1.11, 1.57]),
            (10_000.0, [0.35, 0.56, 0.79, 1.11]),
            (50_000.0, [0.16, 0.25, 0.35, 0.50]),
        ] {
            for (share, expected) in shares.into_iter().zip(effects) {
                let seen = 100.0 * power.gain_seen(n, share);
                assert!((seen - expected).abs() <= 0.0051, "n = {n}, {share}: {seen}");
            }
        }
    }
}
