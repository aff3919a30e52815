//! Many tests at once: P adjusted for how many there were.
//!
//! Twenty honest tests at α = .05 raise a false alarm in 64 % of all cases ([`false_alarm`]). Holm keeps the chance of *any*
//! false alarm below α, whatever the tests have to do with each other: for what a gate refuses. Benjamini–Hochberg keeps the
//! expected *share* of false alarms among the alarms below α, for tests that are independent or move together: for tables.
//! Benjamini–Yekutieli does so for any tests.
//!
//! An adjusted P is compared with α itself. A P that is not a number counts as 1: it raises no alarm, and the others still
//! pay for it.
//!
//! Sources: Holm 1979; Benjamini and Hochberg 1995; Benjamini and Yekutieli 2001.
//! Golden values: docs/design/009-gate-statistics.md.

/// Holm: p̃₍ₖ₎ = max over j ≤ k of min(1, (m − j + 1) p₍ⱼ₎). In the order of `p`.
#[must_use]
pub fn holm(p: &[f64]) -> Vec<f64> {
    let m = p.len();
    let mut adjusted = vec![1.0; m];
    let mut least = 0.0_f64;
    for (rank, at) in ascending(p).into_iter().enumerate() {
        least = least.max((m - rank) as f64 * sound(p[at])).min(1.0);
        adjusted[at] = least;
    }
    adjusted
}

/// Benjamini–Hochberg: p̃₍ₖ₎ = min over j ≥ k of (m / j) p₍ⱼ₎. In the order of `p`.
#[must_use]
pub fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    step_up(p, 1.0)
}

/// Benjamini–Yekutieli: Benjamini–Hochberg times Σ 1/j.
#[must_use]
pub fn benjamini_yekutieli(p: &[f64]) -> Vec<f64> {
    step_up(p, (1..=p.len()).map(|j| 1.0 / j as f64).sum())
}

/// Chance of at least one false alarm among `m` independent tests at `alpha`, uncorrected: 1 − (1 − α)ᵐ.
#[must_use]
pub fn false_alarm(alpha: f64, m: u32) -> f64 {
    -libm::expm1(f64::from(m) * libm::log1p(-alpha))
}

fn step_up(p: &[f64], factor: f64) -> Vec<f64> {
    let m = p.len();
    let mut adjusted = vec![1.0; m];
    let mut most = 1.0_f64;
    for (rank, at) in ascending(p).into_iter().enumerate().rev() {
        most = most.min(factor * m as f64 / (rank + 1) as f64 * sound(p[at]));
        adjusted[at] = most;
    }
    adjusted
}

fn sound(p: f64) -> f64 {
    if p.is_nan() { 1.0 } else { p.clamp(0.0, 1.0) }
}

/// Places of `p`, smallest first; equals in their order.
fn ascending(p: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| sound(p[*a]).total_cmp(&sound(p[*b])));
    order
}

#[cfg(test)]
mod tests {
    use super::{benjamini_hochberg, benjamini_yekutieli, false_alarm, holm};
    use crate::testing::assert_close;

    /// Ten P that R's `p.adjust` is shown with.
    const P: [f64; 10] = [
        0.838_541_367_553,
        0.642_193_923_795,
        0.680_845_947_633,
        0.967_833_824_309,
        0.716_269_382_38,
        0.177_096_952_723,
        5.236_567_772_08e-5,
        0.020_273_268_879_8,
        0.000_281_405_061_98,
        0.014_987_731_079_6,
    ];

    #[track_caller]
    fn check(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert_close(*found, *expected, 1e-9);
        }
    }

    #[test]
    fn adjusted_p_are_those_of_r() {
        check(
            &holm(&P),
            &[
                1.0,
                1.0,
                1.0,
                1.0,
                1.0,
                1.0,
                0.000_523_656_777_208,
                0.141_912_882_158_6,
                0.002_532_645_557_82,
                0.119_901_848_636_8,
            ],
        );
        check(
            &benjamini_hochberg(&P),
            &[
                0.931_712_630_614_444,
                0.895_336_727_975,
                0.895_336_727_975,
                0.967_833_824_309,
                0.895_336_727_975,
                0.354_193_905_446,
                0.000_523_656_777_208,
                0.050_683_172_199_5,
                0.001_407_025_309_9,
                0.049_959_103_598_666_67,
            ],
        );
        check(
            &benjamini_yekutieli(&P)[6..],
            &[0.001_533_774_076, 0.148_449_402_4, 0.004_121_132_465, 0.146_328_628_3],
        );
        check(
            &benjamini_hochberg(&[0.005, 0.009, 0.019, 0.022, 0.051, 0.101, 0.361, 0.387]),
            &[0.036, 0.036, 0.044, 0.044, 0.0816, 0.134_666_666_666_666_67, 0.387, 0.387],
        );
    }

    #[test]
    fn uncorrected_tests_raise_false_alarms() {
        for (m, share) in [(5, 0.226), (10, 0.401), (20, 0.642), (50, 0.923)] {
            assert!((false_alarm(0.05, m) - share).abs() < 5e-4, "{m}");
        }
    }

    #[test]
    fn order_does_not_matter_and_what_is_no_number_raises_no_alarm() {
        let backwards: Vec<f64> = P.iter().rev().copied().collect();
        let mut turned = holm(&backwards);
        turned.reverse();
        check(&turned, &holm(&P));
        assert!(holm(&[]).is_empty() && benjamini_hochberg(&[]).is_empty());
        check(&holm(&[0.03]), &[0.03]);
        check(&holm(&[f64::NAN, 0.02]), &[1.0, 0.04]);
        check(&benjamini_hochberg(&[f64::NAN, 0.02]), &[1.0, 0.04]);
        check(&benjamini_yekutieli(&[0.02, 0.02]), &[0.03, 0.03]);
    }
}
