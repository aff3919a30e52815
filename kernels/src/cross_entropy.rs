//! `cross_entropy`: from logits. For logits z and class c: l = ln Σ e^(zⱼ − max) + max − z_c, dl/dzⱼ = softmax(z)ⱼ − [j = c].
//!
//! Why not burn's composed ops: log-softmax, a gather, and for the gradient a scatter that adds with atomics on a GPU. In
//! f64 with a fixed `libm`. A label that is no class (NaN) gives a NaN loss.

/// The definition: (loss, derivatives).
pub fn reference(z: &[f64], class: usize) -> (f64, Vec<f64>) {
    let total: f64 = z.iter().map(|z| libm::exp(*z)).sum();
    let p: Vec<f64> = z.iter().map(|z| libm::exp(*z) / total).collect();
    let one_hot = |j| if j == class { 1.0 } else { 0.0 };
    (-libm::log(p[class]), p.iter().enumerate().map(|(j, p)| p - one_hot(j)).collect())
}

/// The loss; the derivatives go to `dz`.
#[must_use]
pub fn fused(z: &[f32], label: f32, dz: &mut [f64]) -> f64 {
    let log_total = softmax(z, dz);
    // A float that is no index casts to one that is out of range or wrong, so it is checked first.
    let is_class = 0.0 <= label && label < z.len() as f32;
    if !is_class {
        dz.fill(f64::NAN);
        return f64::NAN;
    }
    let class = label as usize;
    dz[class] -= 1.0;
    log_total - f64::from(z[class])
}

/// Writes the probabilities of `z` to `p` and returns ln Σ e^z.
pub fn softmax(z: &[f32], p: &mut [f64]) -> f64 {
    let max = z.iter().fold(f64::NEG_INFINITY, |max, z| max.max(f64::from(*z)));
    let mut total = 0.0;
    for (p, z) in p.iter_mut().zip(z) {
        *p = libm::exp(f64::from(*z) - max);
        total += *p;
    }
    p.iter_mut().for_each(|p| *p /= total);
    max + libm::log(total)
}

#[cfg(test)]
mod tests {
    use super::{fused, reference};
    use crate::testing::uniform;

    #[test]
    fn matches_reference_at_awkward_sizes() {
        for n in [1, 2, 3, 17, 300] {
            let z = uniform(1, n);
            let wide: Vec<f64> = z.iter().map(|z| f64::from(*z)).collect();
            for class in [0, n / 2, n - 1] {
                let expected = reference(&wide, class);
                let mut dz = vec![0.0; n];
                let loss = fused(&z, class as f32, &mut dz);
                assert!((loss - expected.0).abs() < 1e-12, "{n} {class}");
                for (found, expected) in dz.iter().zip(&expected.1) {
                    assert!((found - expected).abs() < 1e-12, "{n} {class}");
                }
            }
        }
    }

    #[test]
    fn gradient_matches_finite_differences() {
        let z: Vec<f64> = uniform(1, 5).iter().map(|z| f64::from(*z)).collect();
        for j in 0..5 {
            let moved = |by: f64| {
                let mut z = z.clone();
                z[j] += by;
                reference(&z, 2).0
            };
            let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((reference(&z, 2).1[j] - expected).abs() < 1e-8);
        }
    }

    #[test]
    fn extreme_logits_stay_finite_and_bad_labels_show() {
        let mut dz = [0.0; 3];
        assert!((fused(&[1e4, 0.0, -1e4], 1.0, &mut dz) - 1e4).abs() < 1e-6);
        for label in [f32::NAN, -1.0, 3.0, f32::INFINITY] {
            assert!(fused(&[1.0, 2.0, 3.0], label, &mut dz).is_nan(), "{label}");
            assert!(dz.iter().all(|it| it.is_nan()), "{label}");
        }
        assert!(fused(&[f32::NAN, 0.0, 0.0], 1.0, &mut dz).is_nan());
    }
}
