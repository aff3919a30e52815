//! `global_norm`: ‖g‖ = sqrt of the sum of squares over all parameters' gradients, and the factor that clips it.
//!
//! Why not burn's `with_grad_clipping`: it clips each parameter on its own, which changes the direction of the update, and
//! it rests on `Tensor::sum` (see [`crate::sum`]).
//!
//! bound by: bytes, 4 read an element.

/// The definition.
pub fn reference(gradients: &[&[f32]]) -> f64 {
    let squares = gradients.iter().map(|it| {
        let squared: Vec<f64> = it.iter().map(|x| f64::from(*x) * f64::from(*x)).collect();
        squared.iter().sum::<f64>()
    });
    squares.sum::<f64>().sqrt()
}

/// Sum of squares of one gradient, in the order of [`crate::sum`].
#[must_use]
pub fn fused(gradient: &[f32]) -> f64 {
    crate::sum::mapped(gradient, |x| x * x)
}

/// What gradients of norm `norm` are multiplied by so that it is at most `norm_max`; 0 means no limit. As PyTorch's
/// `clip_grad_norm_`.
#[must_use]
pub fn clip_factor(norm: f64, norm_max: f64) -> f32 {
    if norm_max <= 0.0 { 1.0 } else { (norm_max / (norm + 1e-6)).min(1.0) as f32 }
}

#[cfg(feature = "burn")]
pub use op::square_sum;

#[cfg(feature = "burn")]
mod op {
    use burn::{
        backend::Flex,
        tensor::{Tensor, TensorData},
    };
    use burn_flex::FlexTensor;

    use crate::flex::{contiguous, floats};

    /// The sum of squares of all `gradients`, which lie on one device, as one number: F64 where the device has it.
    #[must_use]
    pub fn square_sum(gradients: &[Tensor<1>]) -> Tensor<1> {
        #[cfg(feature = "gpu")]
        if let Some(sum) = super::gpu::square_sum(gradients) {
            return sum;
        }
        let one = |gradient: &Tensor<1>| {
            let gradient = gradient.clone().try_into_primitive::<Flex>();
            super::fused(floats(&contiguous(gradient.expect("the CPU is the other device"))))
        };
        let sum: f64 = gradients.iter().map(one).sum();
        Tensor::from_primitive::<Flex>(FlexTensor::from_data(TensorData::new(vec![sum], [1])))
    }
}

#[cfg(feature = "gpu")]
mod gpu;

#[cfg(test)]
mod tests {
    use super::{clip_factor, fused, reference};
    use crate::testing::{on_any_threads, uniform};

    #[test]
    fn matches_reference_at_awkward_sizes() {
        for n in [0, 1, 7, 9, 8193, 30_000] {
            let (a, b) = (uniform(1, n), uniform(2, 100));
            let found = (fused(&a) + fused(&b)).sqrt();
            assert!((found - reference(&[&a, &b])).abs() <= 1e-12 * found, "{n}");
        }
        assert!((fused(&[3.0]) + fused(&[4.0]) - 25.0).abs() <= 0.0);
        assert!(fused(&[1e30]).is_finite(), "an f32 square would overflow");
        assert!(fused(&[f32::INFINITY]).is_infinite() && fused(&[f32::NAN]).is_nan());
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        let x = uniform(1, 100_000);
        on_any_threads(|| fused(&x).to_bits());
    }

    #[test]
    fn clipping_scales_down_only() {
        let near = |x: f32, y: f64| (f64::from(x) - y).abs() < 1e-6;
        assert!(near(clip_factor(4.0, 1.0), 0.25));
        assert!(near(clip_factor(0.5, 1.0), 1.0));
        assert!(near(clip_factor(1e9, 0.0), 1.0), "0 switches it off");
    }
}
