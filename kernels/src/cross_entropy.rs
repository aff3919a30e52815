//! `cross_entropy`: from logits. For logits z and class c: l = ln Σ e^(zⱼ − max) + max − z_c, dl/dzⱼ = softmax(z)ⱼ − [j = c].
//!
//! With label smoothing s over k classes, as PyTorch's: (1 − s) · l + s/k · Σⱼ l(z, j) = l + s · (z_c − mean z), and dl/dzⱼ
//! grows by s · ([j = c] − 1/k).
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

/// The loss with the share `smoothing` of the label spread over all classes; the derivatives go to `dz`.
#[must_use]
pub fn smoothed(z: &[f32], label: f32, smoothing: f64, dz: &mut [f64]) -> f64 {
    let loss = fused(z, label, dz);
    // A NaN or a number that is no class has left a NaN.
    let Some(z_class) = z.get(label as usize).filter(|_| !loss.is_nan()) else { return f64::NAN };
    let k = z.len() as f64;
    let mean = z.iter().map(|z| f64::from(*z)).sum::<f64>() / k;
    dz.iter_mut().for_each(|dz| *dz -= smoothing / k);
    dz[label as usize] += smoothing;
    loss + smoothing * (f64::from(*z_class) - mean)
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
    use super::{fused, reference, smoothed};
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
    fn smoothing_spreads_the_label_over_all_classes() {
        let z = uniform(1, 5);
        let wide: Vec<f64> = z.iter().map(|z| f64::from(*z)).collect();
        let mut dz = [0.0; 5];
        let found = smoothed(&z, 2.0, 0.3, &mut dz);
        let all = (0..5).map(|class| reference(&wide, class).0).sum::<f64>() / 5.0;
        assert!((found - (0.7 * reference(&wide, 2).0 + 0.3 * all)).abs() < 1e-12, "{found}");
        for (j, dz) in dz.iter().enumerate() {
            let target = if j == 2 { 0.7 + 0.06 } else { 0.06 };
            let p = reference(&wide, 2).1[j] + f64::from(u8::from(j == 2));
            assert!((dz - (p - target)).abs() < 1e-12, "{j}");
        }
        // PyTorch 2.15: cross_entropy([[0.5, -1.25, 2.0]], [1], label_smoothing=0.1) in f64.
        let mut dz = [0.0; 3];
        let found = smoothed(&[0.5, -1.25, 2.0], 1.0, 0.1, &mut dz);
        assert!((found - 3.315_955_316_435_366).abs() < 1e-12, "{found}");
        for (found, expected) in dz.iter().zip([
            0.143_486_848_774_110_97,
            -0.902_606_593_006_896_9,
            0.759_119_744_232_785_9,
        ]) {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
        assert!(smoothed(&[1.0, 2.0], f32::NAN, 0.1, &mut [0.0; 2]).is_nan());
        assert!(smoothed(&[1.0, 2.0], -1.0, 0.1, &mut [0.0; 2]).is_nan());
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
