//! `loss`: weighted mean of row losses, L = Σ wᵢ · l(zᵢ, yᵢ) / W, where W is given: an update that is accumulated from
//! micro-batches divides each by the weight of all of them, so that cutting it up changes nothing but rounding.
//!
//! Forward and backward are one pass: the derivatives are computed beside the losses. Rows are added in order, in f64.
//!
//! bound by: one exponential and one logarithm a row; rows are few (a batch), so one thread does it.

use crate::{bce, cross_entropy, squared_error};

/// Which loss a row has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// [`bce`]: one logit a row, labels 0 and 1.
    Binary,
    /// [`cross_entropy`]: one logit for each class, labels are class indices.
    Multiclass,
    /// [`cross_entropy`] with a share of each label spread over all classes.
    Smoothed {
        /// That share, [0, 1).
        share: f64,
    },
    /// [`squared_error`]: one number a row.
    Squared,
}

impl Loss {
    /// Whether a row with label `y` has no loss and no gradient, whatever its logits are.
    fn ignores(self, y: f32) -> bool {
        self != Self::Squared && y.to_bits() == IGNORED.to_bits()
    }
}

/// The label of a row that counts nothing, where labels are classes: PyTorch's `ignore_index`. Whoever sums up W leaves
/// the row out.
pub const IGNORED: f32 = -100.0;

/// The definition, without derivatives.
pub fn reference(loss: Loss, z: &[f32], y: &[f32], w: &[f32], total: f64) -> f64 {
    let n_outputs = z.len() / y.len();
    let row = |((z, y), w): ((&[f32], &f32), &f32)| {
        if loss.ignores(*y) {
            return 0.0;
        }
        let l = match loss {
            Loss::Binary => bce::fused(f64::from(z[0]), f64::from(*y)).0,
            Loss::Multiclass => cross_entropy::fused(z, *y, &mut vec![0.0; z.len()]),
            Loss::Smoothed { share } => {
                cross_entropy::smoothed(z, *y, share, &mut vec![0.0; z.len()])
            }
            Loss::Squared => squared_error::fused(f64::from(z[0]), f64::from(*y)).0,
        };
        f64::from(*w) * l
    };
    z.chunks_exact(n_outputs).zip(y).zip(w).map(row).sum::<f64>() / total
}

/// The loss; the derivatives of `z` go to `dz`. `total` is W; a W of 0 gives a loss of 0 and no gradient.
pub fn fused(loss: Loss, z: &[f32], y: &[f32], w: &[f32], total: f64, dz: &mut [f32]) -> f64 {
    if y.is_empty() {
        return 0.0;
    }
    let n_outputs = z.len() / y.len();
    let share = if total.abs() <= 0.0 { 0.0 } else { 1.0 / total };
    let mut sum = 0.0;
    let mut wide = vec![0.0; n_outputs];
    let rows = z.chunks_exact(n_outputs).zip(dz.chunks_exact_mut(n_outputs));
    for (((z, dz), y), w) in rows.zip(y).zip(w) {
        if loss.ignores(*y) {
            dz.fill(0.0);
            continue;
        }
        let l = match loss {
            Loss::Binary => {
                let (l, d) = bce::fused(f64::from(z[0]), f64::from(*y));
                wide[0] = d;
                l
            }
            Loss::Multiclass => cross_entropy::fused(z, *y, &mut wide),
            Loss::Smoothed { share } => cross_entropy::smoothed(z, *y, share, &mut wide),
            Loss::Squared => {
                let (l, d) = squared_error::fused(f64::from(z[0]), f64::from(*y));
                wide[0] = d;
                l
            }
        };
        let weight = f64::from(*w) * share;
        sum += weight * l;
        for (dz, wide) in dz.iter_mut().zip(&wide) {
            *dz = (weight * wide) as f32;
        }
    }
    sum
}

#[cfg(feature = "burn")]
pub use op::weighted_mean;

#[cfg(feature = "burn")]
mod op {
    use burn::{
        backend::{Autodiff, Backend, Dispatch, Flex, backend_extension, tensor::FloatTensor},
        tensor::{Tensor, TensorData},
    };
    use burn_autodiff::{
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    };
    use burn_flex::FlexTensor;

    use super::Loss;
    use crate::flex::{contiguous, dim, floats, floats_mut, tensor};

    /// One number, F64 where the device has it. `z` is rows × outputs; no gradient flows to labels and weights.
    #[must_use]
    pub fn weighted_mean(
        loss: Loss,
        z: Tensor<2>,
        y: Tensor<1>,
        w: Tensor<1>,
        total: f64,
    ) -> Tensor<1> {
        #[cfg(feature = "gpu")]
        if let Loss::Smoothed { share } = loss
            && !is_on_cpu(&z)
        {
            return smoothed(share, z, y, w, total);
        }
        Tensor::from_dispatch(<Dispatch as LossOps>::weighted_mean(
            loss,
            z.into_dispatch(),
            y.into_dispatch(),
            w.into_dispatch(),
            total,
        ))
    }

    #[cfg(feature = "gpu")]
    fn is_on_cpu(z: &Tensor<2>) -> bool {
        let z = if z.is_autodiff() { z.clone().inner() } else { z.clone() };
        z.try_into_primitive::<Flex>().is_ok()
    }

    /// On a GPU, whose kernel has no part for it: what [`crate::cross_entropy::smoothed`] adds, s · (z_c − mean z) a row, as
    /// burn's operations.
    #[cfg(feature = "gpu")]
    fn smoothed(share: f64, z: Tensor<2>, y: Tensor<1>, w: Tensor<1>, total: f64) -> Tensor<1> {
        let [_, n_classes] = z.dims();
        let loss = weighted_mean(Loss::Multiclass, z.clone(), y.clone(), w.clone(), total);
        let classes: Vec<f32> = (0..n_classes).map(|class| class as f32).collect();
        let classes = Tensor::<2>::from_data(TensorData::new(classes, [1, n_classes]), &z.device());
        let is_own = y.unsqueeze_dim::<2>(1).equal(classes).float();
        let added = (z.clone() * is_own).sum_dim(1) - z.mean_dim(1);
        let added = (added * w.unsqueeze_dim::<2>(1)).sum_dim(0).reshape([1]);
        let share = if total.abs() <= 0.0 { 0.0 } else { share / total };
        loss + added.mul_scalar(share)
    }

    /// The op as a user of tensors sees it.
    #[backend_extension(Flex, Cube: cfg(feature = "gpu"), Autodiff)]
    pub(crate) trait LossOps: Backend {
        /// See [`super::fused`].
        fn weighted_mean(
            loss: Loss,
            z: FloatTensor<Self>,
            y: FloatTensor<Self>,
            w: FloatTensor<Self>,
            total: f64,
        ) -> FloatTensor<Self>;
    }

    /// Loss and derivatives in one pass.
    pub(crate) trait LossWithGradient: Backend {
        /// (loss, dz).
        fn loss_with_gradient(
            loss: Loss,
            z: FloatTensor<Self>,
            y: FloatTensor<Self>,
            w: FloatTensor<Self>,
            total: f64,
        ) -> (FloatTensor<Self>, FloatTensor<Self>);

        /// `dz` times the one number in `upstream`.
        fn scaled(dz: FloatTensor<Self>, upstream: FloatTensor<Self>) -> FloatTensor<Self>;
    }

    impl LossOps for Flex {
        fn weighted_mean(
            loss: Loss,
            z: FloatTensor<Self>,
            y: FloatTensor<Self>,
            w: FloatTensor<Self>,
            total: f64,
        ) -> FloatTensor<Self> {
            Self::loss_with_gradient(loss, z, y, w, total).0
        }
    }

    impl LossWithGradient for Flex {
        fn loss_with_gradient(
            loss: Loss,
            z: FloatTensor<Self>,
            y: FloatTensor<Self>,
            w: FloatTensor<Self>,
            total: f64,
        ) -> (FloatTensor<Self>, FloatTensor<Self>) {
            let (z, y, w) = (contiguous(z), contiguous(y), contiguous(w));
            let shape = [dim(&z, 0), dim(&z, 1)];
            let mut dz = vec![0.0; shape[0] * shape[1]];
            let sum = super::fused(loss, floats(&z), floats(&y), floats(&w), total, &mut dz);
            (FlexTensor::from_data(TensorData::new(vec![sum], [1])), tensor(dz, shape))
        }

        fn scaled(mut dz: FloatTensor<Self>, upstream: FloatTensor<Self>) -> FloatTensor<Self> {
            let factor = upstream.storage::<f64>()[upstream.layout().start_offset()] as f32;
            floats_mut(&mut dz).iter_mut().for_each(|dz| *dz *= factor);
            dz
        }
    }

    impl<B: LossOps + LossWithGradient, C: CheckpointStrategy> LossOps for Autodiff<B, C> {
        fn weighted_mean(
            loss: Loss,
            z: FloatTensor<Self>,
            y: FloatTensor<Self>,
            w: FloatTensor<Self>,
            total: f64,
        ) -> FloatTensor<Self> {
            #[derive(Debug)]
            struct WeightedMean;

            impl<B: LossWithGradient> Backward<B, 1> for WeightedMean {
                type State = FloatTensor<B>;

                fn backward(
                    self,
                    ops: Ops<Self::State, 1>,
                    grads: &mut Gradients,
                    _: &mut Checkpointer,
                ) {
                    let [parent] = ops.parents;
                    let upstream = grads.consume::<B>(&ops.node);
                    if let Some(parent) = parent {
                        grads.register::<B>(parent.id, B::scaled(ops.state, upstream));
                    }
                }
            }

            let (z, node) = z.into_parts();
            let (y, w) = (y.into_primitive(), w.into_primitive());
            match WeightedMean.prepare::<C>([node]).compute_bound().stateful() {
                OpsKind::Tracked(prepared) => {
                    let (sum, dz) = B::loss_with_gradient(loss, z, y, w, total);
                    prepared.finish(dz, sum)
                }
                OpsKind::UnTracked(prepared) => {
                    prepared.finish(B::weighted_mean(loss, z, y, w, total))
                }
            }
        }
    }
}

#[cfg(feature = "gpu")]
mod gpu;

#[cfg(test)]
mod tests {
    use super::{IGNORED, Loss, fused, reference};
    use crate::testing::uniform;

    const ALL: [(Loss, usize); 4] = [
        (Loss::Binary, 1),
        (Loss::Multiclass, 4),
        (Loss::Smoothed { share: 0.2 }, 4),
        (Loss::Squared, 1),
    ];

    fn case(loss: Loss, n_outputs: usize, n_rows: usize) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let y = (0..n_rows).map(|row| match loss {
            Loss::Binary => (row % 2) as f32,
            Loss::Multiclass | Loss::Smoothed { .. } => (row % n_outputs) as f32,
            Loss::Squared => row as f32 / 3.0,
        });
        let w = uniform(2, n_rows).iter().map(|w| w.abs()).collect();
        (uniform(1, n_rows * n_outputs), y.collect(), w)
    }

    #[test]
    fn matches_reference_at_awkward_sizes() {
        for (loss, n_outputs) in ALL {
            for n_rows in [1, 2, 7, 100] {
                let (z, y, w) = case(loss, n_outputs, n_rows);
                let mut dz = vec![0.0; z.len()];
                let found = fused(loss, &z, &y, &w, 2.5, &mut dz);
                let expected = reference(loss, &z, &y, &w, 2.5);
                assert!((found - expected).abs() <= 1e-12 * expected, "{loss:?} {n_rows}");
            }
        }
    }

    #[test]
    fn gradients_match_finite_differences() {
        for (loss, n_outputs) in ALL {
            let (z, y, w) = case(loss, n_outputs, 6);
            let mut dz = vec![0.0; z.len()];
            let _ = fused(loss, &z, &y, &w, 3.0, &mut dz);
            for (at, found) in dz.iter().enumerate() {
                let moved = |by: f32| {
                    let mut z = z.clone();
                    z[at] += by;
                    (f64::from(z[at]), reference(loss, &z, &y, &w, 3.0))
                };
                let ((from, low), (to, high)) = (moved(-1e-3), moved(1e-3));
                let expected = (high - low) / (to - from);
                assert!((f64::from(*found) - expected).abs() < 1e-5, "{loss:?} {at}");
            }
        }
    }

    #[test]
    fn an_ignored_row_has_no_loss_and_no_gradient() {
        for (loss, n_outputs) in ALL {
            let (mut z, mut y, w) = case(loss, n_outputs, 5);
            let others = |values: &[f32]| [&values[..2], &values[3..]].concat();
            let without = (others(&y), others(&w));
            let z_without = [&z[..2 * n_outputs], &z[3 * n_outputs..]].concat();
            let mut dz_without = vec![0.0; z_without.len()];
            let expected = fused(loss, &z_without, &without.0, &without.1, 2.0, &mut dz_without);
            y[2] = IGNORED;
            z[2 * n_outputs] = if loss == Loss::Squared { 1.0 } else { f32::NAN };
            let mut dz = vec![9.0; z.len()];
            let found = fused(loss, &z, &y, &w, 2.0, &mut dz);
            let at = 2 * n_outputs..3 * n_outputs;
            if loss == Loss::Squared {
                assert!(dz[2].abs() > 1.0, "-100 is a number like others");
                continue;
            }
            assert_eq!(found.to_bits(), expected.to_bits(), "{loss:?}");
            assert!(dz[at.clone()].iter().all(|dz| dz.abs() <= 0.0), "{loss:?}");
            assert_eq!([&dz[..at.start], &dz[at.end..]].concat(), dz_without, "{loss:?}");
            assert_eq!(reference(loss, &z, &y, &w, 2.0).to_bits(), expected.to_bits(), "{loss:?}");
        }
    }

    #[test]
    fn nothing_to_weigh_is_no_loss_and_nan_shows() {
        let mut dz = [9.0; 2];
        assert!(
            fused(Loss::Binary, &[1.0, 2.0], &[0.0, 1.0], &[0.0; 2], 0.0, &mut dz).abs() <= 0.0
        );
        assert!(dz.iter().all(|dz| dz.abs() <= 0.0));
        for (loss, n_outputs) in ALL {
            let z = vec![0.5; 2 * n_outputs];
            let mut dz = vec![0.0; z.len()];
            let found = fused(loss, &z, &[0.0, f32::NAN], &[1.0; 2], 2.0, &mut dz);
            assert!(found.is_nan(), "{loss:?}");
        }
    }
}
