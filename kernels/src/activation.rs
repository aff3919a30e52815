//! `activation`: what a layer does to each number after the products: identity, ReLU, GELU in both forms, SiLU.
//!
//! With s(z) = 1/(1 + e^(−z)) and Φ the normal distribution function:
//! relu(z) = max(z, 0); gelu_erf(z) = z·Φ(z) = z/2 · (1 + erf(z/√2));
//! gelu_tanh(z) = z/2 · (1 + tanh u) = z · s(2u), u = √(2/π) · (z + 0.044715·z³); silu(z) = z · s(z).
//! Sources: Hendrycks and Gimpel, arXiv:1606.08415; Elfwing and others, arXiv:1702.03118.
//!
//! Slopes: gelu_erf′ = Φ(z) + z·e^(−z²/2)/√(2π); silu′ = s + z·s·(1 − s); gelu_tanh′ = s + z·s·(1 − s)·2u′, s at 2u.
//!
//! As in PyTorch, −inf gives NaN for the smooth ones (0 · inf): a layer that is this far gone should be seen.
//!
//! versions: 1  vectors by [`crate::simd`], while the rows are in cache: see [`crate::matmul::Epilogue`].
//! bound by: about twenty multiply-adds an exponential.

use crate::{
    elementary::{erf, exp, sigmoid},
    simd::vectorized,
};

/// An activation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activation {
    /// z.
    #[default]
    Identity,
    /// Negative numbers become 0. NaN stays NaN.
    Relu,
    /// z·Φ(z), as PyTorch's `gelu` by default.
    GeluErf,
    /// The approximation by a hyperbolic tangent: PyTorch's `gelu(approximate="tanh")`.
    GeluTanh,
    /// z · 1/(1 + e^(−z)), also called swish.
    Silu,
}

/// √(2/π).
const ROOT_2_OVER_PI: f32 = 0.797_884_6;
/// 1/√(2π).
const NORMAL: f32 = 0.398_942_3;
/// Of z³ in `gelu_tanh`.
const CUBIC: f32 = 0.044_715;

/// The definition: (value, slope).
pub fn reference(activation: Activation, z: f64) -> (f64, f64) {
    let logistic = |z: f64| 1.0 / (1.0 + libm::exp(-z));
    match activation {
        Activation::Identity => (z, 1.0),
        Activation::Relu => (z.max(0.0), if 0.0 < z { 1.0 } else { 0.0 }),
        Activation::GeluErf => {
            let phi = 0.5 * libm::erfc(-z / std::f64::consts::SQRT_2);
            let density = libm::exp(-z * z / 2.0) / libm::sqrt(2.0 * std::f64::consts::PI);
            (z * phi, phi + z * density)
        }
        Activation::GeluTanh => {
            let root = libm::sqrt(2.0 / std::f64::consts::PI);
            let s = logistic(2.0 * root * (z + 0.044_715 * z * z * z));
            let inner = 2.0 * root * (1.0 + 3.0 * 0.044_715 * z * z);
            (z * s, s + z * s * (1.0 - s) * inner)
        }
        Activation::Silu => {
            let s = logistic(z);
            (z * s, s + z * s * (1.0 - s))
        }
    }
}

#[inline(always)]
fn relu(z: f32) -> f32 {
    if z < 0.0 { 0.0 } else { z }
}

#[inline(always)]
fn relu_slope(z: f32) -> f32 {
    if z <= 0.0 { 0.0 } else { 1.0 }
}

#[inline(always)]
fn gelu_erf(z: f32) -> f32 {
    let half = 0.5 * z;
    half.mul_add(erf(z * std::f32::consts::FRAC_1_SQRT_2), half)
}

#[inline(always)]
fn gelu_erf_slope(z: f32) -> f32 {
    // Beyond 15 the density is 0 in f32; without the limit infinity times zero would be NaN.
    let near = limited(z, 15.0);
    let density = NORMAL * exp(-0.5 * near * near);
    near.mul_add(density, 0.5f32.mul_add(erf(z * std::f32::consts::FRAC_1_SQRT_2), 0.5))
}

/// s(2u).
#[inline(always)]
fn gelu_tanh_gate(z: f32) -> f32 {
    let u = ROOT_2_OVER_PI * (z * z * z).mul_add(CUBIC, z);
    sigmoid(2.0 * u)
}

#[inline(always)]
fn gelu_tanh(z: f32) -> f32 {
    z * gelu_tanh_gate(z)
}

#[inline(always)]
fn gelu_tanh_slope(z: f32) -> f32 {
    let s = gelu_tanh_gate(z);
    let near = limited(z, 15.0);
    let inner = 2.0 * ROOT_2_OVER_PI * (near * near).mul_add(3.0 * CUBIC, 1.0);
    (near * inner).mul_add(s * (1.0 - s), s)
}

#[inline(always)]
fn silu(z: f32) -> f32 {
    z * sigmoid(z)
}

#[inline(always)]
fn silu_slope(z: f32) -> f32 {
    let s = sigmoid(z);
    limited(z, 110.0).mul_add(s * (1.0 - s), s)
}

/// z cut at ±`limit`; NaN stays NaN.
#[inline(always)]
fn limited(z: f32, limit: f32) -> f32 {
    let z = if z < -limit { -limit } else { z };
    if limit < z { limit } else { z }
}

impl Activation {
    /// Of one number.
    #[inline(always)]
    #[must_use]
    pub fn value(self, z: f32) -> f32 {
        match self {
            Self::Identity => z,
            Self::Relu => relu(z),
            Self::GeluErf => gelu_erf(z),
            Self::GeluTanh => gelu_tanh(z),
            Self::Silu => silu(z),
        }
    }

    /// The derivative at `z`; that of ReLU at 0 is 0.
    #[inline(always)]
    #[must_use]
    pub fn slope(self, z: f32) -> f32 {
        match self {
            Self::Identity => 1.0,
            Self::Relu => relu_slope(z),
            Self::GeluErf => gelu_erf_slope(z),
            Self::GeluTanh => gelu_tanh_slope(z),
            Self::Silu => silu_slope(z),
        }
    }

    /// In place, on the calling thread.
    pub fn apply(self, x: &mut [f32]) {
        match self {
            Self::Identity => {}
            Self::Relu => each(x, relu),
            Self::GeluErf => each(x, gelu_erf),
            Self::GeluTanh => each(x, gelu_tanh),
            Self::Silu => each(x, silu),
        }
    }

    /// The values of `z` to `y`, equally long, on the calling thread.
    pub fn values(self, z: &[f32], y: &mut [f32]) {
        match self {
            Self::Identity => y.copy_from_slice(z),
            Self::Relu => pairs(y, z, |_, z| relu(z)),
            Self::GeluErf => pairs(y, z, |_, z| gelu_erf(z)),
            Self::GeluTanh => pairs(y, z, |_, z| gelu_tanh(z)),
            Self::Silu => pairs(y, z, |_, z| silu(z)),
        }
    }

    /// dy ← dy · slope(z), the way back, on the calling thread. ReLU may be given its result for `z`: the sign is the same.
    pub fn chain(self, z: &[f32], dy: &mut [f32]) {
        match self {
            Self::Identity => {}
            // Not a product: where the unit is off, an infinite gradient is gone and not NaN.
            Self::Relu => pairs(dy, z, |dy, z| if z <= 0.0 { 0.0 } else { dy }),
            Self::GeluErf => pairs(dy, z, |dy, z| dy * gelu_erf_slope(z)),
            Self::GeluTanh => pairs(dy, z, |dy, z| dy * gelu_tanh_slope(z)),
            Self::Silu => pairs(dy, z, |dy, z| dy * silu_slope(z)),
        }
    }
}

#[inline(always)]
fn each(x: &mut [f32], f: impl Fn(f32) -> f32) {
    vectorized(
        #[inline(always)]
        || x.iter_mut().for_each(|x| *x = f(*x)),
    );
}

#[inline(always)]
fn pairs(x: &mut [f32], z: &[f32], f: impl Fn(f32, f32) -> f32) {
    assert_eq!(x.len(), z.len(), "as many numbers on both sides");
    vectorized(
        #[inline(always)]
        || x.iter_mut().zip(z).for_each(|(x, z)| *x = f(*x, *z)),
    );
}

#[cfg(feature = "gpu")]
pub(crate) mod gpu;

#[cfg(test)]
mod tests {
    use super::{Activation, reference};
    use crate::{
        simd::on_every_level,
        testing::{assert_same_bits, uniform},
    };

    const ALL: [Activation; 5] = [
        Activation::Identity,
        Activation::Relu,
        Activation::GeluErf,
        Activation::GeluTanh,
        Activation::Silu,
    ];

    #[test]
    fn matches_reference_in_f64() {
        for activation in ALL {
            for i in -40_000..=40_000 {
                let z = i as f32 / 2000.0;
                let (value, slope) = reference(activation, f64::from(z));
                let found = (f64::from(activation.value(z)), f64::from(activation.slope(z)));
                // Four units in the last place of numbers between 1 and 2, or of z if that is larger.
                let bound = 4.8e-7 * f64::from(z.abs()).max(1.0);
                assert!((found.0 - value).abs() <= bound, "{activation:?}({z}) = {found:?}");
                assert!((found.1 - slope).abs() <= bound, "{activation:?}'({z}) = {found:?}");
            }
        }
    }

    #[test]
    fn slopes_match_finite_differences() {
        for activation in ALL {
            for z in [-30.0, -3.0, -0.7, -1e-3, 1e-3, 0.4, 2.0, 9.0] {
                let moved = |by: f64| reference(activation, z + by).0;
                let expected = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                assert!((reference(activation, z).1 - expected).abs() < 1e-8, "{activation:?} {z}");
            }
        }
    }

    #[test]
    fn huge_and_tiny_numbers_stay_right_and_nan_shows() {
        for activation in ALL {
            for z in [f32::MAX, 1e30, 1e10, 200.0, f32::INFINITY] {
                let is_same = activation.value(z).to_bits() == z.to_bits();
                assert!(is_same && (activation.slope(z) - 1.0).abs() <= 0.0, "{activation:?} {z}");
                let below = (activation.value(-z), activation.slope(-z));
                let is_linear = activation == Activation::Identity;
                assert!(is_linear || z.is_infinite() || below.0.abs() <= 0.0, "{below:?}");
                assert!(is_linear || below.1.abs() <= 0.0, "{activation:?}'({}): {below:?}", -z);
            }
            assert!(activation.value(1e-40).abs() <= 1e-40);
            assert!(activation.value(f32::NAN).is_nan(), "{activation:?}");
            let mut dy = [1.0, f32::INFINITY];
            activation.chain(&[f32::NAN, -0.0], &mut dy);
            assert!(activation.slope(f32::NAN).is_nan() || !dy[0].is_nan(), "{activation:?}");
        }
    }

    #[test]
    fn slices_and_every_level_give_the_bits_of_one_number() {
        for n in [0, 1, 255, 257] {
            let z: Vec<f32> = uniform(1, n).iter().map(|x| x * 6.0).collect();
            let dy = uniform(2, n);
            for activation in ALL {
                let value: Vec<f32> = z.iter().map(|z| activation.value(*z)).collect();
                let (mut applied, mut values, mut chained) = (z.clone(), vec![7.0; n], dy.clone());
                activation.apply(&mut applied);
                activation.values(&z, &mut values);
                activation.chain(&z, &mut chained);
                assert_same_bits(&value, &applied, (activation, n));
                assert_same_bits(&value, &values, (activation, n));
                for ((found, dy), z) in chained.iter().zip(&dy).zip(&z) {
                    assert!((found - dy * activation.slope(*z)).abs() <= 0.0, "{activation:?}");
                }
                let all = on_every_level(
                    #[inline(always)]
                    || z.iter().map(|z| activation.slope(*z)).collect::<Vec<f32>>(),
                );
                for (level, slopes) in &all {
                    assert_same_bits(&all[0].1, slopes, (activation, level));
                }
            }
        }
    }
}
