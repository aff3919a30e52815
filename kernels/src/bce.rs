//! `bce`: binary cross-entropy from logits. For logit z and label y in {0, 1}:
//! l = max(z, 0) − z·y + ln(1 + e^(−|z|)), dl/dz = 1/(1 + e^(−z)) − y.
//!
//! Never through the probability: ln(0) is where other formulas give infinity (burn#2739). In f64 with a fixed `libm`, so
//! that the platform's `exp` has no say in the bits. A NaN label gives a NaN loss.

/// The definition: (loss, derivative).
pub fn reference(z: f64, y: f64) -> (f64, f64) {
    let p = 1.0 / (1.0 + libm::exp(-z));
    (-(y * libm::log(p) + (1.0 - y) * libm::log(1.0 - p)), p - y)
}

/// (loss, derivative) for any z.
#[must_use]
pub fn fused(z: f64, y: f64) -> (f64, f64) {
    (z.max(0.0) - z * y + libm::log1p(libm::exp(-z.abs())), sigmoid(z) - y)
}

/// 1/(1 + e^(−z)).
#[must_use]
pub fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-z))
}

#[cfg(test)]
mod tests {
    use super::{fused, reference};

    #[test]
    fn matches_reference_where_that_is_finite() {
        for z in [-20.0, -3.0, -0.1, 0.0, 1e-3, 0.5, 2.0, 15.0] {
            for y in [0.0, 1.0] {
                let (expected, found) = (reference(z, y), fused(z, y));
                assert!((expected.0 - found.0).abs() < 1e-8 * (1.0 + expected.0), "{z} {y}");
                assert!((expected.1 - found.1).abs() < 1e-12, "{z} {y}");
            }
        }
    }

    #[test]
    fn gradient_matches_finite_differences() {
        for z in [-5.0, -0.3, 0.7, 4.0] {
            for y in [0.0, 1.0] {
                let expected = (fused(z + 1e-5, y).0 - fused(z - 1e-5, y).0) / 2e-5;
                assert!((fused(z, y).1 - expected).abs() < 1e-8, "{z} {y}");
            }
        }
    }

    #[test]
    fn extreme_logits_stay_finite_and_nan_shows() {
        assert!((fused(1000.0, 0.0).0 - 1000.0).abs() < 1e-9);
        assert!(fused(1000.0, 1.0).0.abs() < 1e-9 && fused(-1000.0, 0.0).0.abs() < 1e-9);
        assert!(fused(1.0, f64::NAN).0.is_nan() && fused(f64::NAN, 1.0).0.is_nan());
    }
}
