//! `average_pool`: the mean of each channel over all pixels of a picture, added in scan order; y is rows × channels.
//!
//! Pictures are channels-last ([`crate::window`]). Backward: each pixel gets dy / pixels.
//!
//! Why not burn's adaptive pool: it wants channels first, one more pass over the activations, and its order of addition is its own.
//!
//! bound by: bytes, 4 read an element.

use rayon::prelude::*;

use crate::{simd::vectorized, window::Image};

/// The definition.
pub fn reference(image: Image, x: &[f32]) -> Vec<f32> {
    let mut y = Vec::new();
    for x in x.chunks_exact(image.len().max(1)) {
        for channel in 0..image.n_channels {
            let pixels = x.iter().skip(channel).step_by(image.n_channels);
            y.push(pixels.fold(0.0, |sum, x| sum + x) / image.n_pixels() as f32);
        }
    }
    y
}

/// Writes one row for each picture into `y`.
pub fn fused(image: Image, x: &[f32], y: &mut [f32]) {
    assert_eq!(y.len(), image.n_in(x) * image.n_channels, "one row a picture");
    if y.is_empty() {
        return;
    }
    let pictures = x.par_chunks_exact(image.len());
    pictures.zip(y.par_chunks_exact_mut(image.n_channels)).for_each(|(x, y)| {
        vectorized(
            #[inline(always)]
            || {
                y.fill(0.0);
                for pixel in x.chunks_exact(image.n_channels) {
                    y.iter_mut().zip(pixel).for_each(|(sum, x)| *sum += x);
                }
                y.iter_mut().for_each(|sum| *sum /= image.n_pixels() as f32);
            },
        );
    });
}

/// dx, a picture for each row of dy.
#[must_use]
pub fn backward(image: Image, dy: &[f32]) -> Vec<f32> {
    let n = if image.is_empty() { 0 } else { dy.len() / image.n_channels };
    let mut dx = vec![0.0; n * image.len()];
    if dx.is_empty() {
        return dx;
    }
    let rows = dy.par_chunks_exact(image.n_channels);
    dx.par_chunks_exact_mut(image.len()).zip(rows).for_each(|(dx, dy)| {
        let share: Vec<f32> = dy.iter().map(|dy| dy / image.n_pixels() as f32).collect();
        for pixel in dx.chunks_exact_mut(image.n_channels) {
            pixel.copy_from_slice(&share);
        }
    });
    dx
}

#[cfg(feature = "burn")]
pub use op::average_pool;

#[cfg(feature = "gpu")]
mod gpu;

#[cfg(feature = "burn")]
pub(crate) mod op {
    use burn::{
        backend::{Autodiff, Backend, Dispatch, Flex, backend_extension, tensor::FloatTensor},
        tensor::Tensor,
    };
    use burn_autodiff::{
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    };

    use super::Image;
    use crate::flex::{contiguous, dim, floats, tensor};

    /// The mean over the pixels of `x`, rows × height × width × channels, as rows × channels. `image` is the size of a row's
    /// picture and has at least one pixel.
    #[must_use]
    pub fn average_pool(x: Tensor<4>, image: Image) -> Tensor<2> {
        Tensor::from_dispatch(<Dispatch as AveragePoolOps>::average_pool(x.into_dispatch(), image))
    }

    /// The forward pass.
    #[backend_extension(Flex, Cube: cfg(feature = "gpu"), Autodiff)]
    pub(crate) trait AveragePoolOps: Backend {
        /// See [`super::fused`].
        fn average_pool(x: FloatTensor<Self>, image: Image) -> FloatTensor<Self>;
    }

    /// The backward pass.
    pub(crate) trait AveragePoolBackward: Backend {
        /// See [`super::backward`].
        fn average_pool_backward(image: Image, dy: FloatTensor<Self>) -> FloatTensor<Self>;
    }

    impl AveragePoolOps for Flex {
        fn average_pool(x: FloatTensor<Self>, image: Image) -> FloatTensor<Self> {
            let x = contiguous(x);
            let mut y = vec![0.0; dim(&x, 0) * image.n_channels];
            super::fused(image, floats(&x), &mut y);
            tensor(y, [dim(&x, 0), image.n_channels])
        }
    }

    impl AveragePoolBackward for Flex {
        fn average_pool_backward(image: Image, dy: FloatTensor<Self>) -> FloatTensor<Self> {
            let dy = contiguous(dy);
            let dx = super::backward(image, floats(&dy));
            tensor(dx, [dim(&dy, 0), image.height, image.width, image.n_channels])
        }
    }

    impl<B: AveragePoolOps + AveragePoolBackward, C: CheckpointStrategy> AveragePoolOps
        for Autodiff<B, C>
    {
        fn average_pool(x: FloatTensor<Self>, image: Image) -> FloatTensor<Self> {
            #[derive(Debug)]
            struct AveragePool;

            impl<B: AveragePoolBackward> Backward<B, 1> for AveragePool {
                type State = Image;

                fn backward(
                    self,
                    ops: Ops<Self::State, 1>,
                    grads: &mut Gradients,
                    _: &mut Checkpointer,
                ) {
                    let [parent] = ops.parents;
                    let dy = grads.consume::<B>(&ops.node);
                    if let Some(parent) = parent {
                        grads.register::<B>(parent.id, B::average_pool_backward(ops.state, dy));
                    }
                }
            }

            let (x, node) = x.into_parts();
            match AveragePool.prepare::<C>([node]).compute_bound().stateful() {
                OpsKind::Tracked(prepared) => prepared.finish(image, B::average_pool(x, image)),
                OpsKind::UnTracked(prepared) => prepared.finish(B::average_pool(x, image)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{backward, fused, reference};
    use crate::{
        testing::{assert_same_bits, on_any_threads, uniform},
        window::Image,
    };

    const IMAGES: [(Image, usize); 5] = [
        (Image { height: 1, width: 1, n_channels: 1 }, 1),
        (Image { height: 3, width: 5, n_channels: 257 }, 3),
        (Image { height: 7, width: 7, n_channels: 3 }, 0),
        (Image { height: 16, width: 17, n_channels: 2 }, 5),
        (Image { height: 4, width: 4, n_channels: 33 }, 50),
    ];

    #[test]
    fn matches_reference_bit_for_bit_at_awkward_sizes() {
        for (image, n) in IMAGES {
            let mut x = uniform(1, n * image.len());
            for (x, special) in x.iter_mut().zip([1e30, -1e30, 1e-42]) {
                *x = special;
            }
            let mut y = vec![f32::NAN; n * image.n_channels];
            fused(image, &x, &mut y);
            assert_same_bits(&reference(image, &x), &y, image);
        }
    }

    #[test]
    fn special_values_stay_visible_in_their_channel_and_picture() {
        let (image, n) = IMAGES[3];
        let mut x = uniform(1, n * image.len());
        (x[0], x[image.len() + 1]) = (f32::NAN, f32::INFINITY);
        let mut y = vec![0.0; n * 2];
        fused(image, &x, &mut y);
        assert!(y[0].is_nan() && y[1].is_finite() && y[2].is_finite());
        assert_eq!(y[3].to_bits(), f32::INFINITY.to_bits());
    }

    #[test]
    fn gradient_matches_finite_differences() {
        let (image, n) = IMAGES[3];
        let dy = uniform(4, n * image.n_channels);
        let dx = backward(image, &dy);
        // The mean is linear: a step of one is exact.
        for at in (0..n * image.len()).step_by(31) {
            let mut x = vec![0.0; n * image.len()];
            x[at] = 1.0;
            let y = reference(image, &x);
            let expected: f64 =
                y.iter().zip(&dy).map(|(y, dy)| f64::from(*y) * f64::from(*dy)).sum();
            assert!((f64::from(dx[at]) - expected).abs() < 1e-8, "{at}");
        }
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        let (image, n) = IMAGES[4];
        let x = uniform(1, n * image.len());
        on_any_threads(|| {
            let mut y = vec![0.0; n * image.n_channels];
            fused(image, &x, &mut y);
            [backward(image, &y), y].concat()
        });
    }

    #[cfg(feature = "burn")]
    #[test]
    fn burn_runs_it_and_its_own_mean_agrees() {
        use crate::testing::{flow, leaf};

        let (w, b) = (leaf(2, [1, 1, 1, 1]), leaf(3, [1]));
        for (image, n) in IMAGES.into_iter().filter(|(_, n)| 0 < *n) {
            let shape = [n, image.n_channels, image.height, image.width];
            let x = leaf(1, shape);
            let ours = super::average_pool(x.clone().permute([0, 2, 3, 1]), image);
            let ours = flow(ours, &x, &w, &b);
            let x = leaf(1, shape);
            let theirs = x.clone().mean_dim(2).mean_dim(3).reshape([n, image.n_channels]);
            let theirs = flow(theirs, &x, &w, &b);
            assert_eq!((ours.len(), theirs.len()), (2, 2), "y and dx");
            for (ours, theirs) in ours.iter().flatten().zip(theirs.iter().flatten()) {
                assert!((ours - theirs).abs() < 1e-5, "{image:?}: {ours}, {theirs}");
            }
        }
    }
}
