//! Elementary functions in f32 that give the same bits on every machine: e^x, tanh, erf and the logistic function.
//!
//! Why not the platform's: `f32::exp` and `f32::tanh` call the C library, whose last bits are its own business, and a call
//! stops the compiler from using vectors. These are branch-free chains of multiply-adds: a loop over one of them becomes
//! vectors inside [`crate::simd::vectorized`], and every level gives the same bits.
//!
//! Errors, measured against f64 over every 509th of all f32 (a test): `exp` 1.1 ulp, `tanh` 1.5, `erf` 1.4, `sigmoid` 2.3. All are
//! right at 0 (with its sign), ±inf, NaN and down to the smallest subnormal.
//!
//! Sources: `exp` and the middle of `tanh` use the polynomials of S. Moshier's Cephes library (`expf`, `tanhf`), after a
//! reduction by Cody and Waite; `erf` is N. Juffa's `erff` (two polynomials, one below and one in an exponential above 0.93).

/// 1.5 · 2²³: adding it leaves a small number rounded to an integer in the low bits.
const ROUND: f32 = 12_582_912.0;

/// e^x.
///
/// With n = round(x / ln 2) and r = x − n·ln 2 (ln 2 in two parts, exact products): e^x = 2ⁿ · (1 + r + r²·P(r)). 2ⁿ is
/// multiplied in two halves, so that results beyond the largest and below the smallest normal number come out rounded once.
#[inline(always)]
#[must_use]
pub fn exp(x: f32) -> f32 {
    // Beyond these the result is 0 and infinity. A NaN passes both.
    let x = if x < -104.0 { -104.0 } else { x };
    let x = if 89.0 < x { 89.0 } else { x };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-0.693_359_4, x);
    let r = n.mul_add(2.121_944_4e-4, r);
    let p = r.mul_add(1.987_569_1e-4, 1.398_199_9e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_6e-1);
    let p = p.mul_add(r, 5.0e-1);
    let p = p.mul_add(r * r, r) + 1.0;
    let n = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let half = n >> 1;
    p * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// 2ⁿ for −126 ≤ n ≤ 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// The hyperbolic tangent: below 0.625 a polynomial, above 1 − 2/(e^(2x) + 1).
#[inline(always)]
#[must_use]
pub fn tanh(x: f32) -> f32 {
    let t = x.abs();
    let s = t * t;
    let p = s.mul_add(-5.704_988_7e-3, 2.063_909e-2);
    let p = p.mul_add(s, -5.373_971_6e-2);
    let p = p.mul_add(s, 1.333_144_2e-1);
    let p = p.mul_add(s, -3.333_328e-1);
    let small = (p * s).mul_add(t, t);
    let large = 1.0 - 2.0 / (exp(2.0 * t) + 1.0);
    (if t < 0.625 { small } else { large }).copysign(x)
}

/// The error function, (2/√π) · ∫₀ˣ e^(−t²) dt.
#[inline(always)]
#[must_use]
pub fn erf(x: f32) -> f32 {
    let t = x.abs();
    let s = t * t;
    let p = s.mul_add(-5.967_617e-4, 4.991_194_2e-3);
    let p = p.mul_add(s, -2.676_813_5e-2);
    let p = p.mul_add(s, 1.128_199_25e-1);
    let p = p.mul_add(s, -3.761_253_4e-1);
    let p = p.mul_add(s, 1.283_791_7e-1);
    let small = p.mul_add(t, t);
    let q = t.mul_add(-1.728_534_7e-5, 3.831_971_3e-4);
    let u = t.mul_add(-3.883_964_4e-3, 2.425_462_2e-2);
    let q = q.mul_add(s, u);
    let q = q.mul_add(t, -1.067_778_8e-1);
    let q = q.mul_add(t, -6.348_468_7e-1);
    let q = q.mul_add(t, -1.287_175_1e-1);
    let q = q.mul_add(t, -t);
    let large = 1.0 - exp(q);
    (if t < 0.927_734_4 { small } else { large }).copysign(x)
}

/// The logistic function, 1/(1 + e^(−x)), accurate in both tails.
#[inline(always)]
#[must_use]
pub fn sigmoid(x: f32) -> f32 {
    let e = exp(-x.abs());
    (if x < 0.0 { e } else { 1.0 }) / (1.0 + e)
}

#[cfg(feature = "gpu")]
pub(crate) mod gpu;

#[cfg(test)]
mod tests {
    use super::{erf, exp, sigmoid, tanh};
    use crate::simd::on_every_level;

    /// A function, its definition in f64, and the error allowed in units of the last place.
    type Case = (&'static str, fn(f32) -> f32, fn(f64) -> f64, f64);

    const CASES: [Case; 4] = [
        ("exp", exp, libm::exp, 1.1),
        ("tanh", tanh, libm::tanh, 1.5),
        ("erf", erf, libm::erf, 1.4),
        ("sigmoid", sigmoid, |x| 1.0 / (1.0 + libm::exp(-x)), 2.3),
    ];

    /// Every 509th of all f32 that are numbers: 8.4 million.
    fn sweep() -> impl Iterator<Item = f32> {
        (0..=u32::MAX).step_by(509).map(f32::from_bits).filter(|x| x.is_finite())
    }

    /// |found − expected| in units of the last place of expected, which is at least the smallest subnormal.
    fn ulps(found: f32, expected: f64) -> f64 {
        let exponent = libm::ilogb(expected.abs()).max(-126);
        (f64::from(found) - expected).abs() / libm::exp2(f64::from(exponent - 23))
    }

    #[test]
    fn error_stays_below_its_bound_over_all_numbers() {
        for (name, found, expected, bound) in CASES {
            let mut worst = (0.0, 0.0);
            for x in sweep() {
                let (y, exact) = (found(x), expected(f64::from(x)));
                if exact.abs() <= f64::from(f32::MAX) {
                    let error = ulps(y, exact);
                    worst = if worst.0 < error { (error, x) } else { worst };
                } else {
                    assert!(y.is_infinite(), "{name}({x}) is {y}, expected {exact}");
                }
            }
            assert!(worst.0 <= bound, "{name}({:e}) is off by {} ulp", worst.1, worst.0);
        }
    }

    #[test]
    fn special_values_are_exact() {
        let inf = f32::INFINITY;
        let cases = [
            (exp as fn(f32) -> f32, [(0.0, 1.0), (-0.0, 1.0), (inf, inf), (-inf, 0.0)]),
            (tanh, [(0.0, 0.0), (-0.0, -0.0), (inf, 1.0), (-inf, -1.0)]),
            (erf, [(0.0, 0.0), (-0.0, -0.0), (inf, 1.0), (-inf, -1.0)]),
            (sigmoid, [(0.0, 0.5), (-0.0, 0.5), (inf, 1.0), (-inf, 0.0)]),
        ];
        for ((name, ..), (f, points)) in CASES.iter().zip(cases) {
            for (x, y) in points {
                assert_eq!(f(x).to_bits(), f32::to_bits(y), "{name}({x}) is {}", f(x));
            }
            assert!(f(f32::NAN).is_nan(), "{name}(NaN) is {}", f(f32::NAN));
        }
    }

    /// What vectors compute is what one number at a time computes.
    #[test]
    fn every_level_gives_the_same_bits() {
        let x: Vec<f32> = sweep().step_by(3).collect();
        macro_rules! check {
            ($f:ident) => {
                let all = on_every_level(
                    #[inline(always)]
                    || x.iter().map(|x| $f(*x).to_bits()).collect::<Vec<u32>>(),
                );
                for (level, bits) in &all {
                    assert!(*bits == all[0].1, "{} differs on {level}", stringify!($f));
                }
            };
        }
        check!(exp);
        check!(tanh);
        check!(erf);
        check!(sigmoid);
    }
}
