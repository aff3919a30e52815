//! The normal and binomial distributions, to full double precision, with a fixed `libm` so that every machine gets the
//! same bits.
//!
//! Quantile: Wichura, "Algorithm AS 241", Applied Statistics 37 (1988), then one Newton step.
//! Binomial: Loader, "Fast and accurate computation of binomial probabilities" (2000): no loss for large counts, where
//! differences of log-gamma lose eight digits.

use std::f64::consts::{LN_2, PI, SQRT_2};

/// P(Z ≤ x).
#[must_use]
pub fn cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x / SQRT_2)
}

/// P(|Z| ≥ |x|).
#[must_use]
pub fn two_sided(x: f64) -> f64 {
    libm::erfc(x.abs() / SQRT_2)
}

/// The x with P(Z ≤ x) = p. Infinite at 0 and 1, NaN outside.
#[must_use]
pub fn quantile(p: f64) -> f64 {
    if !(0.0..=1.0).contains(&p) {
        return f64::NAN;
    }
    if p <= 0.0 {
        return f64::NEG_INFINITY;
    }
    if 1.0 <= p {
        return f64::INFINITY;
    }
    let x = wichura(p);
    let density = libm::exp(-0.5 * x * x) / libm::sqrt(2.0 * PI);
    if density <= 0.0 {
        return x;
    }
    // In the smaller tail, so that the difference keeps its digits.
    let error = if x < 0.0 { cdf(x) - p } else { (1.0 - p) - 0.5 * libm::erfc(x / SQRT_2) };
    x - error / density
}

/// Student's t quantile with ν degrees of freedom whose level is that of the normal quantile `z`: √(ν (exp(c² z² / ν) − 1)),
/// c = (8ν + 3) / (8ν + 1) (Wallace 1959): within 0.1 % from ν = 5 on, and [`normal_of_student`] is its exact inverse.
#[must_use]
pub fn student_of_normal(z: f64, degrees: f64) -> f64 {
    if !degrees.is_finite() {
        return z;
    }
    let x = z * (8.0 * degrees + 3.0) / (8.0 * degrees + 1.0);
    libm::sqrt(degrees * libm::expm1(x * x / degrees)).copysign(z)
}

/// The normal quantile whose level is that of Student's `t` with ν degrees of freedom.
#[must_use]
pub fn normal_of_student(t: f64, degrees: f64) -> f64 {
    if !degrees.is_finite() || !t.is_finite() {
        return t;
    }
    let x = libm::sqrt(degrees * libm::log1p(t * t / degrees));
    (x * (8.0 * degrees + 1.0) / (8.0 * degrees + 3.0)).copysign(t)
}

fn wichura(p: f64) -> f64 {
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180_625 - q * q;
        return q * ratio(
            r,
            [
                2.509_080_928_730_122_7e3,
                3.343_057_558_358_813e4,
                6.726_577_092_700_87e4,
                4.592_195_393_154_987e4,
                1.373_169_376_550_946e4,
                1.971_590_950_306_551_3e3,
                1.331_416_678_917_843_8e2,
                3.387_132_872_796_366_5,
            ],
            [
                5.226_495_278_852_854e3,
                2.872_908_573_572_194_3e4,
                3.930_789_580_009_271e4,
                2.121_379_430_158_659_7e4,
                5.394_196_021_424_751e3,
                6.871_870_074_920_579e2,
                4.231_333_070_160_091e1,
                1.0,
            ],
        );
    }
    let tail = if q < 0.0 { p } else { 1.0 - p };
    let r = libm::sqrt(-libm::log(tail));
    let x = if r <= 5.0 {
        ratio(
            r - 1.6,
            [
                7.745_450_142_783_414e-4,
                2.272_384_498_926_918_4e-2,
                2.417_807_251_774_506e-1,
                1.270_458_252_452_368_4,
                3.647_848_324_763_204_5,
                5.769_497_221_460_691,
                4.630_337_846_156_546,
                1.423_437_110_749_683_5,
            ],
            [
                1.050_750_071_644_416_9e-9,
                5.475_938_084_995_345e-4,
                1.519_866_656_361_645_7e-2,
                1.481_039_764_274_800_8e-1,
                6.897_673_349_851e-1,
                1.676_384_830_183_803_8,
                2.053_191_626_637_759,
                1.0,
            ],
        )
    } else {
        ratio(
            r - 5.0,
            [
                2.010_334_399_292_288_1e-7,
                2.711_555_568_743_487_6e-5,
                1.242_660_947_388_078_4e-3,
                2.653_218_952_657_612_4e-2,
                2.965_605_718_285_049e-1,
                1.784_826_539_917_291_3,
                5.463_784_911_164_114,
                6.657_904_643_501_104,
            ],
            [
                2.044_263_103_389_939_8e-15,
                1.421_511_758_316_446e-7,
                1.846_318_317_510_054_8e-5,
                7.868_691_311_456_133e-4,
                1.487_536_129_085_061_5e-2,
                1.369_298_809_227_358e-1,
                5.998_322_065_558_879e-1,
                1.0,
            ],
        )
    };
    if q < 0.0 { -x } else { x }
}

/// Quotient of two polynomials in `r`, highest power first.
fn ratio(r: f64, above: [f64; 8], below: [f64; 8]) -> f64 {
    let horner = |coefficients: [f64; 8]| coefficients.into_iter().fold(0.0, |sum, c| sum * r + c);
    horner(above) / horner(below)
}

/// P(exactly k of n fair coins).
#[must_use]
pub fn fair_coin(k: u64, n: u64) -> f64 {
    if n < k {
        return 0.0;
    }
    let (kf, rest, nf) = (k as f64, (n - k) as f64, n as f64);
    if k == 0 || k == n {
        return libm::exp(-nf * LN_2);
    }
    let exponent = stirling_error(nf)
        - stirling_error(kf)
        - stirling_error(rest)
        - deviance(kf, nf / 2.0)
        - deviance(rest, nf / 2.0);
    libm::exp(exponent) * libm::sqrt(nf / (2.0 * PI * kf * rest))
}

/// P(at most k of n fair coins), k ≤ n / 2: from the largest term down, until terms no longer count.
#[must_use]
pub fn fair_coin_tail(k: u64, n: u64) -> f64 {
    let mut term = fair_coin(k, n);
    let mut sum = term;
    let mut at = k;
    while 0 < at && sum * 1e-18 < term {
        term *= at as f64 / (n - at + 1) as f64;
        sum += term;
        at -= 1;
    }
    sum
}

/// P(χ² with this many degrees of freedom ≥ x): the regularised upper incomplete gamma function, by its series below the mean and by
/// Lentz's continued fraction above. 1 without a degree of freedom.
#[must_use]
pub fn chi_squared_tail(x: f64, degrees: f64) -> f64 {
    let (a, x) = (0.5 * degrees, 0.5 * x);
    if x.is_nan() || degrees.is_nan() {
        return f64::NAN;
    }
    if x <= 0.0 || a <= 0.0 {
        return 1.0;
    }
    let front = libm::exp(a * libm::log(x) - x - libm::lgamma(a));
    if x < a + 1.0 {
        let (mut term, mut sum, mut n) = (1.0 / a, 1.0 / a, a);
        while sum * 1e-17 < term {
            n += 1.0;
            term *= x / n;
            sum += term;
        }
        return 1.0 - sum * front;
    }
    let mut b = x + 1.0 - a;
    let (mut c, mut d) = (1e300, 1.0 / b);
    let mut fraction = d;
    for i in 1..100_000 {
        let i = f64::from(i);
        let top = -i * (i - a);
        b += 2.0;
        d = 1.0 / (top * d + b);
        c = b + top / c;
        let step = c * d;
        fraction *= step;
        if (step - 1.0).abs() < 1e-16 {
            break;
        }
    }
    front * fraction
}

/// ln n! − (½ ln 2πn + n ln n − n).
fn stirling_error(n: f64) -> f64 {
    if n <= 15.0 {
        return libm::lgamma(n + 1.0) - (n + 0.5) * libm::log(n) + n - 0.5 * libm::log(2.0 * PI);
    }
    let r = 1.0 / (n * n);
    let series = [-691.0 / 360_360.0, 1.0 / 1188.0, -1.0 / 1680.0, 1.0 / 1260.0, -1.0 / 360.0];
    series.into_iter().fold(0.0, |sum, c| (sum + c) * r) / n + 1.0 / (12.0 * n)
}

/// x ln(x / expected) + expected − x, without cancellation near x = expected.
fn deviance(x: f64, expected: f64) -> f64 {
    let difference = x - expected;
    if difference.abs() < 0.1 * (x + expected) {
        let v = difference / (x + expected);
        let mut sum = difference * v;
        let mut power = 2.0 * x * v;
        for j in 1..1000 {
            power *= v * v;
            let next = sum + power / f64::from(2 * j + 1);
            if next.to_bits() == sum.to_bits() {
                break;
            }
            sum = next;
        }
        return sum;
    }
    x * libm::log(x / expected) + expected - x
}

#[cfg(test)]
mod tests {
    use super::{
        cdf, chi_squared_tail, fair_coin, fair_coin_tail, normal_of_student, quantile,
        student_of_normal, two_sided,
    };
    use crate::testing::assert_close;

    #[test]
    fn quantiles_are_right_and_invert_the_distribution() {
        // Python's statistics.NormalDist().inv_cdf, and Wichura's own check values.
        for (p, x) in [
            (0.95, 1.644_853_626_951_472_7),
            (0.975, 1.959_963_984_540_054),
            (0.8, 0.841_621_233_572_914_3),
            (0.25, -0.674_489_750_196_081_7),
            (0.001, -3.090_232_306_167_813_5),
            (1e-20, -9.262_340_089_798_408),
        ] {
            assert_close(quantile(p), x, 1e-14);
        }
        for i in 1..1000 {
            let p = f64::from(i) / 1000.0;
            assert_close(cdf(quantile(p)), p, 1e-14);
        }
        assert!(quantile(0.0).is_infinite() && quantile(1.0).is_infinite());
        assert!(quantile(-0.1).is_nan() && quantile(f64::NAN).is_nan());
    }

    #[test]
    fn chi_squared_has_its_tails() {
        // One degree of freedom is a squared normal, two are an exponential.
        for x in [0.01, 0.5, 1.9, 3.841_458_820_694_124, 30.0] {
            assert_close(chi_squared_tail(x, 1.0), two_sided(libm::sqrt(x)), 1e-11);
            assert_close(chi_squared_tail(x, 2.0), libm::exp(-0.5 * x), 1e-12);
        }
        // Tables: 5 % of χ² with nine and with a hundred degrees of freedom.
        assert_close(chi_squared_tail(16.918_977_604_620_45, 9.0), 0.05, 1e-11);
        assert_close(chi_squared_tail(124.342_113_404_004, 100.0), 0.05, 1e-11);
        assert!((chi_squared_tail(0.0, 3.0) - 1.0).abs() < 1e-15);
        assert!(chi_squared_tail(f64::NAN, 3.0).is_nan());
    }

    #[test]
    fn students_quantiles_are_close_and_inverted() {
        // Tables of Student's t at 95 % and 97.5 %.
        for (p, degrees, t) in [
            (0.95, 5.0, 2.015),
            (0.975, 5.0, 2.571),
            (0.95, 10.0, 1.812),
            (0.975, 30.0, 2.042),
            (0.95, 1e9, 1.645),
        ] {
            let found = student_of_normal(quantile(p), degrees);
            assert!((found - t).abs() < 0.006, "{p} {degrees}: {found}");
            assert_close(student_of_normal(quantile(1.0 - p), degrees), -found, 1e-12);
            assert_close(normal_of_student(found, degrees), quantile(p), 1e-12);
        }
        assert_close(student_of_normal(1.5, f64::INFINITY), 1.5, 1e-15);
        assert_close(normal_of_student(1.5, f64::INFINITY), 1.5, 1e-15);
        assert!(student_of_normal(f64::NEG_INFINITY, 4.0) < -1e300);
    }

    #[test]
    fn coins_agree_with_exact_fractions() {
        assert_close(fair_coin(3, 10), 120.0 / 1024.0, 1e-14);
        assert_close(fair_coin(0, 10), 1.0 / 1024.0, 1e-14);
        assert_close(fair_coin_tail(2, 10), 56.0 / 1024.0, 1e-14);
        // C(1000, 500) / 2^1000 in exact arithmetic.
        assert_close(fair_coin(500, 1000), 0.025_225_018_178_360_8, 1e-13);
        // Even n: the lower half and the middle make one.
        for n in [2_u64, 100, 10_000, 10_000_000] {
            let half = fair_coin_tail(n / 2, n) - 0.5 * fair_coin(n / 2, n);
            assert_close(half, 0.5, 1e-11);
        }
    }
}
