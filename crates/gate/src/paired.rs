//! Right or wrong, one model or two on the same rows: Wilson, McNemar, Tango.
//!
//! Notation: n rows; b = candidate right and baseline wrong, c = the reverse.
//!
//! Sources: Wilson 1927; Fagerland, Lydersen, Laake 2013 (mid-p); Tango 1998; Bonett and Price 2012.
//! Golden values: docs/design/009-gate-statistics.md.

use crate::normal::{fair_coin, fair_coin_tail};

/// Wilson's interval of a share: `right` of `n` rows, `z` normal quantile of each side. `n` must not be 0.
#[must_use]
pub fn wilson(right: u64, n: u64, z: f64) -> [f64; 2] {
    let (n, p) = (n as f64, right as f64 / n as f64);
    let scale = 1.0 + z * z / n;
    let centre = p + z * z / (2.0 * n);
    let half = z * libm::sqrt(p * (1.0 - p) / n + z * z / (4.0 * n * n));
    [((centre - half) / scale).max(0.0), ((centre + half) / scale).min(1.0)]
}

/// The score statistic that Wilson's interval inverts: how far the share lies above `null`.
#[must_use]
pub fn wilson_z(right: u64, n: u64, null: f64) -> f64 {
    let (n, p) = (n as f64, right as f64 / n as f64);
    let distance = p - null;
    let error = libm::sqrt((null * (1.0 - null)).max(0.0) / n);
    if 0.0 < error {
        distance / error
    } else if distance == 0.0 {
        0.0
    } else {
        f64::INFINITY.copysign(distance)
    }
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

/// One-sided exact P of "the candidate is not better": P(B ≥ b).
#[must_use]
pub fn mcnemar_exact_better(b: u64, c: u64) -> f64 {
    let n = b + c;
    if c <= b { fair_coin_tail(c, n) } else { 1.0 - fair_coin_tail(b, n) + fair_coin(b, n) }
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

/// The same with Edwards's continuity correction, (|b − c| − 1)² / (b + c): what R and statsmodels show by default.
#[must_use]
pub fn mcnemar_chi_squared_corrected(b: u64, c: u64) -> f64 {
    if b + c == 0 {
        return 0.0;
    }
    let difference = b.abs_diff(c) as f64 - 1.0;
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

#[cfg(test)]
mod tests {
    use super::{
        bonett_price, mcnemar_chi_squared, mcnemar_chi_squared_corrected, mcnemar_exact,
        mcnemar_exact_better, mcnemar_mid_p, mcnemar_mid_p_better, tango, tango_z, wilson,
        wilson_z,
    };
    use crate::{
        normal::{quantile, two_sided},
        testing::assert_close,
    };

    #[test]
    fn mcnemar_gives_the_published_values() {
        #[rustfmt::skip]
        let table = [
            (121, 59, 4.434_449_263_76e-6, 3.266_646_795_77e-6, [21.355_555_555_6, 3.815_135_865_11e-6], [20.672_222_222_2, 5.450_094_825_43e-6]),
            (70, 59, 0.378_687_662_693, 0.334_687_758_737, [0.937_984_496_124, 0.332_796_717_251], [0.775_193_798_45, 0.378_615_089_461]),
            (80, 59, 0.089_452_314_994_5, 0.075_550_828_752_7, [3.172_661_870_5, 0.074_880_314_040_1], [2.877_697_841_73, 0.089_814_343_958_3]),
            (30, 60, 0.002_060_265_680_96, 0.001_516_513_194_46, [10.0, 0.001_565_402_258], [9.344_444_444_44, 0.002_236_624_445_21]),
            (10, 30, 0.002_221_433_773_23, 0.001_450_491_014_11, [10.0, 0.001_565_402_258], [9.025, 0.002_663_119_259_14]),
            (10, 10, 1.0, 0.911_901_473_999, [0.0, 1.0], [0.05, 0.823_063_273_758]),
            (1, 7, 0.070_312_5, 0.039_062_5, [4.5, 0.033_894_853_524_7], [3.125, 0.077_099_871_743_5]),
            (6, 16, 0.052_478_790_283_2, 0.034_689_664_840_7, [4.545_454_545_45, 0.033_006_257_661_2], [3.681_818_181_82, 0.055_008_833_629_3]),
            (0, 5, 0.062_5, 0.031_25, [5.0, 0.025_347_318_677_5], [3.2, 0.073_638_270_120_3]),
        ];
        for (b, c, exact, mid, chi, corrected) in table {
            assert_close(mcnemar_exact(b, c), exact, 1e-11);
            assert_close(mcnemar_mid_p(b, c), mid, 1e-11);
            for (found, [chi, p]) in
                [(mcnemar_chi_squared(b, c), chi), (mcnemar_chi_squared_corrected(b, c), corrected)]
            {
                assert_close(found, chi, 1e-11);
                assert_close(two_sided(libm::sqrt(found)), p, 1e-11);
            }
            // Swapping the models turns the one-sided P into its complement and leaves the two-sided one.
            assert_close(mcnemar_mid_p(c, b), mid, 1e-11);
            assert_close(mcnemar_mid_p_better(b, c) + mcnemar_mid_p_better(c, b), 1.0, 1e-12);
            if b != c {
                assert_close(2.0 * mcnemar_exact_better(b.max(c), b.min(c)), exact, 1e-11);
            }
        }
        // 2 + 1 of 8 and 7 + 1 of 8: the tail at b and its complement, both with the point at b.
        assert_close(mcnemar_exact_better(2, 1), 0.5, 1e-14);
        assert_close(mcnemar_exact_better(1, 2), 0.875, 1e-14);
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
        // Its ends are where the score test has just this z.
        let [low, high] = wilson(81, 263, 1.5);
        assert_close(wilson_z(81, 263, low), 1.5, 1e-12);
        assert_close(wilson_z(81, 263, high), -1.5, 1e-12);
        assert!(wilson_z(3, 3, 0.0).is_infinite() && wilson_z(3, 3, 1.0).abs() < 1e-15);

        // Wilson 1927 for 81 of 263 (Newcombe 1998): 0.2553 to 0.3662.
        let [low, high] = wilson(81, 263, quantile(0.975));
        assert!((low - 0.2553).abs() < 5e-5 && (high - 0.3662).abs() < 5e-5, "{low} {high}");
        let [low, high] = wilson(0, 20, quantile(0.975));
        assert!(low.abs() < 1e-15 && (high - 0.1611).abs() < 5e-5, "{low} {high}");
        let [low, high] = wilson(20, 20, quantile(0.975));
        assert!((low - 0.8389).abs() < 5e-5 && (high - 1.0).abs() < 1e-15, "{low} {high}");
    }
}
