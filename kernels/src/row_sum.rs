//! `row_sum`: y\[i\] = sum over j of x\[i, j\], in f64, always added in the same order.
//!
//! Why not `Tensor::sum_dim`: its order of addition is a library's business. Here a row is added in the strands of
//! [`crate::sum`], so a long row of small numbers keeps its last bits, and a row does not depend on its neighbours.
//!
//! Backward: dx\[i, j\] = dy\[i\].
//!
//! bound by: bytes, 4 read an element.

use rayon::prelude::*;

use crate::{
    simd::vectorized,
    sum::{LANES, strands},
};

/// Elements a thread adds at a time, at least.
const CHUNK: usize = 1 << 14;

/// The definition, order included. `n_columns` is not zero.
pub fn reference(x: &[f32], n_columns: usize) -> Vec<f32> {
    let sum = |row: &[f32]| {
        let mut strands = [0.0; LANES];
        for (i, x) in row.iter().enumerate() {
            strands[i % LANES] += f64::from(*x);
        }
        strands.iter().sum::<f64>() as f32
    };
    x.chunks_exact(n_columns).map(sum).collect()
}

/// The sum of each row of `n_columns`, which is not zero.
#[must_use]
pub fn fused(x: &[f32], n_columns: usize) -> Vec<f32> {
    let mut y = vec![0.0; x.len() / n_columns];
    let n_rows = CHUNK.div_ceil(n_columns);
    y.par_chunks_mut(n_rows).zip(x.par_chunks(n_rows * n_columns)).for_each(|(y, x)| {
        vectorized(
            #[inline(always)]
            || {
                for (y, row) in y.iter_mut().zip(x.chunks_exact(n_columns)) {
                    *y = strands(row, |x| x) as f32;
                }
            },
        );
    });
    y
}

/// The gradient of x: each row's own, as often as there are columns.
#[must_use]
pub fn backward(dy: &[f32], n_columns: usize) -> Vec<f32> {
    dy.iter().flat_map(|dy| std::iter::repeat_n(*dy, n_columns)).collect()
}

#[cfg(feature = "burn")]
pub use op::row_sum;

#[cfg(feature = "burn")]
pub(crate) mod op {
    use burn::{
        backend::{
            Autodiff, Backend, Dispatch, Flex, TensorMetadata as _, backend_extension,
            tensor::FloatTensor,
        },
        tensor::Tensor,
    };
    use burn_autodiff::{
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    };

    use crate::flex::{contiguous, dim, floats, tensor};

    /// The sum of each row; zeros where there is no column.
    #[must_use]
    pub fn row_sum(x: Tensor<2>) -> Tensor<1> {
        let [n_rows, n_columns] = x.dims();
        if n_columns == 0 {
            return Tensor::zeros([n_rows], &x.device());
        }
        Tensor::from_dispatch(<Dispatch as RowSumOps>::row_sum(x.into_dispatch()))
    }

    /// The forward pass.
    #[backend_extension(Flex, Cube: cfg(feature = "gpu"), Autodiff)]
    pub(crate) trait RowSumOps: Backend {
        /// See [`super::fused`].
        fn row_sum(x: FloatTensor<Self>) -> FloatTensor<Self>;
    }

    /// The backward pass.
    pub(crate) trait RowSumBackward: Backend {
        /// See [`super::backward`].
        fn row_sum_backward(dy: FloatTensor<Self>, n_columns: usize) -> FloatTensor<Self>;
    }

    impl RowSumOps for Flex {
        fn row_sum(x: FloatTensor<Self>) -> FloatTensor<Self> {
            let x = contiguous(x);
            let y = super::fused(floats(&x), dim(&x, 1));
            let n_rows = y.len();
            tensor(y, [n_rows])
        }
    }

    impl RowSumBackward for Flex {
        fn row_sum_backward(dy: FloatTensor<Self>, n_columns: usize) -> FloatTensor<Self> {
            let dy = contiguous(dy);
            tensor(super::backward(floats(&dy), n_columns), [dim(&dy, 0), n_columns])
        }
    }

    impl<B: RowSumOps + RowSumBackward, C: CheckpointStrategy> RowSumOps for Autodiff<B, C> {
        fn row_sum(x: FloatTensor<Self>) -> FloatTensor<Self> {
            #[derive(Debug)]
            struct RowSum;

            impl<B: RowSumBackward> Backward<B, 1> for RowSum {
                type State = usize;

                fn backward(
                    self,
                    ops: Ops<Self::State, 1>,
                    grads: &mut Gradients,
                    _: &mut Checkpointer,
                ) {
                    let [parent] = ops.parents;
                    let dy = grads.consume::<B>(&ops.node);
                    if let Some(parent) = parent {
                        grads.register::<B>(parent.id, B::row_sum_backward(dy, ops.state));
                    }
                }
            }

            let n_columns = x.shape()[1];
            let (x, node) = x.into_parts();
            match RowSum.prepare::<C>([node]).compute_bound().stateful() {
                OpsKind::Tracked(prepared) => prepared.finish(n_columns, B::row_sum(x)),
                OpsKind::UnTracked(prepared) => prepared.finish(B::row_sum(x)),
            }
        }
    }
}

#[cfg(feature = "gpu")]
pub(crate) mod gpu;

#[cfg(test)]
mod tests {
    use super::{backward, fused, reference};
    use crate::testing::{assert_same_bits, on_any_threads, uniform};

    #[test]
    fn matches_reference_bit_for_bit_at_awkward_sizes() {
        for (n_rows, n_columns) in
            [(0, 3), (1, 1), (1, 257), (255, 3), (256, 1), (257, 64), (40, 999)]
        {
            let x = uniform(7, n_rows * n_columns);
            assert_same_bits(&reference(&x, n_columns), &fused(&x, n_columns), (n_rows, n_columns));
        }
    }

    #[test]
    fn a_row_keeps_its_small_numbers_and_shows_its_nan_alone() {
        let found = fused(&[1e30, 1.0, -1e30, f32::NAN, 1.0, 2.0, 1e-40, 2e-40, 0.0], 3);
        assert!((found[0] - 1.0).abs() < 2.0 && found[1].is_nan());
        assert_same_bits(&[3e-40], &found[2..], "subnormal numbers");
    }

    #[test]
    fn gradient_matches_finite_differences() {
        // y is linear in x: a step of one is exact but for rounding.
        let (x, c) = (uniform(1, 12), uniform(2, 4));
        let objective = |x: &[f32]| -> f64 {
            reference(x, 3).iter().zip(&c).map(|(y, c)| f64::from(*y) * f64::from(*c)).sum()
        };
        for (at, found) in backward(&c, 3).iter().enumerate() {
            let mut moved = x.clone();
            moved[at] += 1.0;
            let expected = objective(&moved) - objective(&x);
            assert!((f64::from(*found) - expected).abs() < 1e-6, "{at}");
        }
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        let x = uniform(1, 100 * 1000);
        on_any_threads(|| fused(&x, 100));
    }

    #[cfg(feature = "burn")]
    #[test]
    fn burn_runs_it_and_its_composed_ops_agree() {
        use burn::tensor::{Device, Tensor, TensorData};

        use crate::testing::elements;

        let device = Device::flex().autodiff();
        let x = Tensor::<2>::from_data(TensorData::new(uniform(1, 35), [5, 7]), &device);
        let x = x.require_grad();
        let run = |y: Tensor<1>| {
            let gradients = (y.clone() * y.clone()).sum().backward();
            [elements(y.inner()), elements(x.grad(&gradients).expect("dx"))].concat()
        };
        // Transposed: not contiguous.
        let ours = run(super::row_sum(x.clone().transpose()));
        let composed = run(x.clone().transpose().sum_dim(1).reshape([7]));
        for (ours, composed) in ours.iter().zip(&composed) {
            assert!((ours - composed).abs() < 1e-5, "{ours}, composed {composed}");
        }
        let none = Tensor::<2>::zeros([3, 0], &Device::flex());
        assert_same_bits(&[0.0; 3], &elements(super::row_sum(none)), "no column");
    }
}
