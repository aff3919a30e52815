//! `squared_error`: for prediction z and label y: l = (z − y)², dl/dz = 2(z − y). In f64.

/// The definition: (loss, derivative).
pub fn reference(z: f64, y: f64) -> (f64, f64) {
    ((z - y) * (z - y), 2.0 * (z - y))
}

/// The definition is already one pass.
pub use reference as fused;

#[cfg(test)]
mod tests {
    use super::fused;

    #[test]
    fn matches_reference_values_and_finite_differences() {
        for (z, y, loss) in [(3.0, 1.0, 4.0), (-1.0, 1.0, 4.0), (0.5, 0.5, 0.0)] {
            assert!((fused(z, y).0 - loss).abs() < 1e-15);
            let expected = (fused(z + 1e-5, y).0 - fused(z - 1e-5, y).0) / 2e-5;
            assert!((fused(z, y).1 - expected).abs() < 1e-8);
        }
        assert!(fused(1.0, f64::NAN).0.is_nan());
    }
}
