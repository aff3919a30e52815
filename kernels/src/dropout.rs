//! `dropout`: y\[i\] = x\[i\] / (1 − p) where the draw of i keeps it, else 0. Backward is the same on dy.
//!
//! Why not burn's: its bits come from one process-wide generator whose state cannot be read, so a resumed run would drop
//! other units. Here the mask is a function of (stream, micro-batch, update, i) and nothing is stored for the way back.
//!
//! bound by: ten Philox rounds for four elements.

use rayon::prelude::*;

use crate::philox::Draw;

/// Elements a thread does at a time; a multiple of a block's four.
const CHUNK: usize = 1 << 12;

/// Which units are dropped and how the rest is scaled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mask {
    draw: Draw,
    /// A unit is kept when its 32 bits are not below this: exact on every device.
    keep_from: u32,
    scale: f32,
}

impl Mask {
    /// Drops a share of `p`, which is in [0, 1).
    #[must_use]
    pub fn new(p: f64, draw: Draw) -> Self {
        Self { draw, keep_from: (p * 4_294_967_296.0) as u32, scale: (1.0 / (1.0 - p)) as f32 }
    }
}

/// The definition.
pub fn reference(x: &[f32], mask: &Mask) -> Vec<f32> {
    let one = |(i, x): (usize, &f32)| {
        let bits = mask.draw.block((i / 4) as u32)[i % 4];
        if bits < mask.keep_from { 0.0 } else { x * mask.scale }
    };
    x.iter().enumerate().map(one).collect()
}

/// In place.
pub fn fused(x: &mut [f32], mask: &Mask) {
    x.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, x)| {
        for (block, x) in x.chunks_mut(4).enumerate() {
            let bits = mask.draw.block((chunk * (CHUNK / 4) + block) as u32);
            for (x, bits) in x.iter_mut().zip(bits) {
                *x = if bits < mask.keep_from { 0.0 } else { *x * mask.scale };
            }
        }
    });
}

#[cfg(feature = "burn")]
pub use op::dropout;

#[cfg(feature = "burn")]
mod op {
    use burn::{
        backend::{Autodiff, Backend, Dispatch, Flex, backend_extension, tensor::FloatTensor},
        tensor::Tensor,
    };
    use burn_autodiff::{
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    };

    use super::Mask;
    use crate::flex::floats_mut;

    /// Drops units by `mask`.
    #[must_use]
    pub fn dropout<const D: usize>(x: Tensor<D>, mask: Mask) -> Tensor<D> {
        Tensor::from_dispatch(<Dispatch as DropoutOps>::dropout(x.into_dispatch(), mask))
    }

    /// Both passes.
    #[backend_extension(Flex, Autodiff)]
    pub(crate) trait DropoutOps: Backend {
        /// See [`super::fused`].
        fn dropout(x: FloatTensor<Self>, mask: Mask) -> FloatTensor<Self>;
    }

    impl DropoutOps for Flex {
        fn dropout(mut x: FloatTensor<Self>, mask: Mask) -> FloatTensor<Self> {
            super::fused(floats_mut(&mut x), &mask);
            x
        }
    }

    impl<B: DropoutOps, C: CheckpointStrategy> DropoutOps for Autodiff<B, C> {
        fn dropout(x: FloatTensor<Self>, mask: Mask) -> FloatTensor<Self> {
            #[derive(Debug)]
            struct Dropout;

            impl<B: DropoutOps> Backward<B, 1> for Dropout {
                type State = Mask;

                fn backward(
                    self,
                    ops: Ops<Self::State, 1>,
                    grads: &mut Gradients,
                    _: &mut Checkpointer,
                ) {
                    let [parent] = ops.parents;
                    let dy = grads.consume::<B>(&ops.node);
                    if let Some(parent) = parent {
                        grads.register::<B>(parent.id, B::dropout(dy, ops.state));
                    }
                }
            }

            let (x, node) = x.into_parts();
            match Dropout.prepare::<C>([node]).compute_bound().stateful() {
                OpsKind::Tracked(prepared) => prepared.finish(mask, B::dropout(x, mask)),
                OpsKind::UnTracked(prepared) => prepared.finish(B::dropout(x, mask)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Mask, fused, reference};
    use crate::{
        philox::Draw,
        testing::{assert_same_bits, on_any_threads, uniform},
    };

    fn mask(p: f64, major: u64) -> Mask {
        Mask::new(p, Draw { key: [1, 2], minor: 3, major })
    }

    #[test]
    fn matches_reference_bit_for_bit_at_awkward_sizes() {
        for n in [0, 1, 3, 4, 5, 4095, 4096, 4097, 10_001] {
            let mut x = uniform(1, n);
            let expected = reference(&x, &mask(0.3, 9));
            fused(&mut x, &mask(0.3, 9));
            assert_same_bits(&expected, &x, n);
        }
    }

    #[test]
    fn the_share_and_the_mean_are_right_and_updates_differ() {
        let dropped = |p, major| {
            let mut x = vec![1.0; 100_000];
            fused(&mut x, &mask(p, major));
            x
        };
        let x = dropped(0.25, 1);
        let share = x.iter().filter(|x| **x <= 0.0).count() as f64 / x.len() as f64;
        assert!((share - 0.25).abs() < 0.01, "{share}");
        let mean = x.iter().sum::<f32>() / x.len() as f32;
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
        assert_ne!(x, dropped(0.25, 2));
        assert!(dropped(0.0, 1).iter().all(|x| (*x).to_bits() == 1.0_f32.to_bits()));
    }

    #[test]
    fn gradient_is_the_mask() {
        // y is linear in x with slope mask: dy through the mask is the derivative.
        let (x, m) = (uniform(1, 100), mask(0.5, 1));
        let y = reference(&x, &m);
        let mut slope = vec![1.0; 100];
        fused(&mut slope, &m);
        for ((x, y), slope) in x.iter().zip(&y).zip(&slope) {
            assert!((x * slope - y).abs() <= 0.0, "{x} by {slope} is {y}");
        }
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        on_any_threads(|| {
            let mut x = uniform(1, 50_000);
            fused(&mut x, &mask(0.1, 7));
            x
        });
    }
}
