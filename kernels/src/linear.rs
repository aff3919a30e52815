//! `linear`: y = x · w + b, optionally cut at zero (ReLU). x is rows × inputs, w is inputs × outputs.
//!
//! Why not burn's composed ops: bias and ReLU each cost another pass over the activations forward and backward, and the
//! bits of its products are a library's business (see [`crate::matmul`]).
//!
//! Backward, with dz = dy where 0 < y (all of dy without ReLU): dx = dz · wᵀ, dw = xᵀ · dz, db = column sums of dz.
//!
//! versions: 1  bias and ReLU while the tile is in registers; db from the operand already packed for dw.
//! bound by: flops.

use rayon::prelude::*;

use crate::matmul::{Epilogue, Packed, rows_times, transposed_times};

/// Elements a thread masks at a time.
const MASK_CHUNK: usize = 1 << 14;

/// The definition.
pub fn reference(x: &[f32], w: &[f32], b: &[f32], relu: bool) -> Vec<f32> {
    let n_outputs = b.len();
    let mut y = crate::matmul::reference(x, w, w.len() / n_outputs, n_outputs);
    for (i, y) in y.iter_mut().enumerate() {
        *y += b[i % n_outputs];
        if relu && *y < 0.0 {
            *y = 0.0;
        }
    }
    y
}

/// Writes rows × outputs into `y`.
pub fn fused(x: &[f32], w: &[f32], b: &[f32], relu: bool, y: &mut [f32]) {
    let packed = Packed::new(w, w.len() / b.len().max(1), b.len());
    rows_times(x, &packed, Epilogue { bias: Some(b), relu }, y);
}

/// What flows back through the layer.
pub struct Gradients {
    /// Of x, where it was asked for.
    pub dx: Option<Vec<f32>>,
    /// Of w.
    pub dw: Vec<f32>,
    /// Of b.
    pub db: Vec<f32>,
}

/// The backward pass; `y` is the forward's result where it had a ReLU. Turns `dy` into dz.
pub fn backward(
    x: &[f32],
    w: &[f32],
    y: Option<&[f32]>,
    dy: &mut [f32],
    n_outputs: usize,
    wants_dx: bool,
) -> Gradients {
    if let Some(y) = y {
        dy.par_chunks_mut(MASK_CHUNK).zip(y.par_chunks(MASK_CHUNK)).for_each(|(dy, y)| {
            for (dy, y) in dy.iter_mut().zip(y) {
                // NaN must stay visible: `y <= 0` is false for it.
                *dy = if *y <= 0.0 { 0.0 } else { *dy };
            }
        });
    }
    let n_inputs = w.len() / n_outputs;
    let n_rows = dy.len() / n_outputs;
    let dz = Packed::new(dy, n_rows, n_outputs);
    let mut dw = vec![0.0; w.len()];
    transposed_times(x, &dz, &mut dw);
    let dx = wants_dx.then(|| {
        let mut dx = vec![0.0; n_rows * n_inputs];
        rows_times(dy, &Packed::transpose(w, n_outputs, n_inputs), Epilogue::default(), &mut dx);
        dx
    });
    Gradients { dx, dw, db: dz.column_sums() }
}

#[cfg(feature = "burn")]
pub use op::linear;

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

    use crate::flex::{contiguous, dim, floats, floats_mut, tensor};

    /// x · w + b, cut at zero with `relu`; x is rows × inputs, w is inputs × outputs.
    #[must_use]
    pub fn linear(x: Tensor<2>, w: Tensor<2>, b: Tensor<1>, relu: bool) -> Tensor<2> {
        let (x, w, b) = (x.into_dispatch(), w.into_dispatch(), b.into_dispatch());
        Tensor::from_dispatch(<Dispatch as LinearOps>::linear_forward(x, w, b, relu))
    }

    /// The forward pass.
    #[backend_extension(Flex, Autodiff)]
    pub(crate) trait LinearOps: Backend {
        /// See [`super::fused`].
        fn linear_forward(
            x: FloatTensor<Self>,
            w: FloatTensor<Self>,
            b: FloatTensor<Self>,
            relu: bool,
        ) -> FloatTensor<Self>;
    }

    /// The backward pass.
    pub(crate) trait LinearBackward: Backend {
        /// See [`super::backward`]: the gradients of x (if wanted), w and b.
        fn linear_backward(
            saved: Saved<Self>,
            dy: FloatTensor<Self>,
            wants_dx: bool,
        ) -> (Option<FloatTensor<Self>>, FloatTensor<Self>, FloatTensor<Self>);
    }

    /// What the backward pass needs of the forward pass.
    #[derive(Clone, Debug)]
    pub(crate) struct Saved<B: Backend> {
        x: FloatTensor<B>,
        w: FloatTensor<B>,
        /// With ReLU only.
        y: Option<FloatTensor<B>>,
    }

    impl LinearOps for Flex {
        fn linear_forward(
            x: FloatTensor<Self>,
            w: FloatTensor<Self>,
            b: FloatTensor<Self>,
            relu: bool,
        ) -> FloatTensor<Self> {
            let (x, w, b) = (contiguous(x), contiguous(w), contiguous(b));
            let (n_rows, n_outputs) = (dim(&x, 0), dim(&w, 1));
            let mut y = vec![0.0; n_rows * n_outputs];
            super::fused(floats(&x), floats(&w), floats(&b), relu, &mut y);
            tensor(y, [n_rows, n_outputs])
        }
    }

    impl LinearBackward for Flex {
        fn linear_backward(
            saved: Saved<Self>,
            mut dy: FloatTensor<Self>,
            wants_dx: bool,
        ) -> (Option<FloatTensor<Self>>, FloatTensor<Self>, FloatTensor<Self>) {
            let Saved { x, w, y } = saved;
            let (x, w, y) = (contiguous(x), contiguous(w), y.map(contiguous));
            let (n_rows, n_inputs, n_outputs) = (dim(&x, 0), dim(&x, 1), dim(&w, 1));
            let y = y.as_ref().map(floats);
            let gradients = super::backward(
                floats(&x),
                floats(&w),
                y,
                floats_mut(&mut dy),
                n_outputs,
                wants_dx,
            );
            (
                gradients.dx.map(|dx| tensor(dx, [n_rows, n_inputs])),
                tensor(gradients.dw, [n_inputs, n_outputs]),
                tensor(gradients.db, [n_outputs]),
            )
        }
    }

    impl<B: LinearOps + LinearBackward, C: CheckpointStrategy> LinearOps for Autodiff<B, C> {
        fn linear_forward(
            x: FloatTensor<Self>,
            w: FloatTensor<Self>,
            b: FloatTensor<Self>,
            relu: bool,
        ) -> FloatTensor<Self> {
            #[derive(Debug)]
            struct Linear;

            impl<B: LinearBackward> Backward<B, 3> for Linear {
                type State = Saved<B>;

                fn backward(
                    self,
                    ops: Ops<Self::State, 3>,
                    grads: &mut Gradients,
                    _: &mut Checkpointer,
                ) {
                    let [x, w, b] = ops.parents;
                    let dy = grads.consume::<B>(&ops.node);
                    let (dx, dw, db) = B::linear_backward(ops.state, dy, x.is_some());
                    for (parent, gradient) in [(x, dx), (w, Some(dw)), (b, Some(db))] {
                        if let (Some(parent), Some(gradient)) = (parent, gradient) {
                            grads.register::<B>(parent.id, gradient);
                        }
                    }
                }
            }

            let ((x, x_node), (w, w_node), (b, b_node)) =
                (x.into_parts(), w.into_parts(), b.into_parts());
            match Linear.prepare::<C>([x_node, w_node, b_node]).compute_bound().stateful() {
                OpsKind::Tracked(prepared) => {
                    let y = B::linear_forward(x.clone(), w.clone(), b, relu);
                    let saved = Saved { x, w, y: relu.then(|| y.clone()) };
                    prepared.finish(saved, y)
                }
                OpsKind::UnTracked(prepared) => prepared.finish(B::linear_forward(x, w, b, relu)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{backward, fused, reference};
    use crate::testing::{assert_same_bits, on_any_threads, uniform};

    #[test]
    fn matches_reference_bit_for_bit_at_awkward_sizes() {
        for (n_rows, n_inputs, n_outputs) in [(1, 1, 1), (3, 5, 2), (97, 38, 256), (130, 300, 17)] {
            let (x, w) = (uniform(1, n_rows * n_inputs), uniform(2, n_inputs * n_outputs));
            let b = uniform(3, n_outputs);
            for relu in [false, true] {
                let mut y = vec![f32::NAN; n_rows * n_outputs];
                fused(&x, &w, &b, relu, &mut y);
                assert_same_bits(&reference(&x, &w, &b, relu), &y, (n_rows, n_inputs, n_outputs));
            }
        }
    }

    /// The layer in f64, and a scalar of its output: sum of y · c.
    fn objective(x: &[f64], w: &[f64], b: &[f64], c: &[f32], relu: bool) -> f64 {
        let (n_outputs, n_inputs) = (b.len(), w.len() / b.len());
        c.iter()
            .enumerate()
            .map(|(at, c)| {
                let (row, j) = (at / n_outputs, at % n_outputs);
                let z = (0..n_inputs)
                    .map(|i| x[row * n_inputs + i] * w[i * n_outputs + j])
                    .sum::<f64>()
                    + b[j];
                f64::from(*c) * if relu { z.max(0.0) } else { z }
            })
            .sum()
    }

    #[test]
    fn gradients_match_finite_differences() {
        let (n_rows, n_inputs, n_outputs) = (5, 4, 3);
        let wide = |x: &[f32]| x.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
        let (x, w) = (uniform(1, n_rows * n_inputs), uniform(2, n_inputs * n_outputs));
        let (b, c) = (uniform(3, n_outputs), uniform(4, n_rows * n_outputs));
        for relu in [false, true] {
            let y = reference(&x, &w, &b, relu);
            let found = backward(&x, &w, relu.then_some(&y[..]), &mut c.clone(), n_outputs, true);
            let dx = found.dx.expect("asked for");
            for (which, gradient) in [&dx, &found.dw, &found.db].into_iter().enumerate() {
                for (at, found) in gradient.iter().enumerate() {
                    let moved = |by: f64| {
                        let mut at_point = [wide(&x), wide(&w), wide(&b)];
                        at_point[which][at] += by;
                        objective(&at_point[0], &at_point[1], &at_point[2], &c, relu)
                    };
                    let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                    let error = (f64::from(*found) - expected).abs();
                    assert!(error < 1e-5, "relu {relu}, {which}[{at}]: {found}, not {expected}");
                }
            }
        }
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        let (n_rows, n_inputs, n_outputs) = (1000, 38, 130);
        let (x, w) = (uniform(1, n_rows * n_inputs), uniform(2, n_inputs * n_outputs));
        let b = uniform(3, n_outputs);
        let bits = on_any_threads(|| {
            let mut y = vec![0.0; n_rows * n_outputs];
            fused(&x, &w, &b, true, &mut y);
            let found = backward(&x, &w, Some(&y), &mut y.clone(), n_outputs, true);
            let all = [y, found.dx.expect("asked for"), found.dw, found.db].concat();
            all.iter().map(|x| x.to_bits()).collect::<Vec<u32>>()
        });
        assert!(bits.iter().any(|it| *it != 0));
    }

    #[cfg(feature = "burn")]
    #[test]
    fn burn_runs_it_and_its_composed_ops_agree() {
        use burn::tensor::{Device, Tensor, TensorData, activation};

        let device = Device::flex().autodiff();
        let (n_rows, n_inputs, n_outputs) = (50, 7, 9);
        let leaf = |seed, shape: [usize; 2]| {
            let elements = uniform(seed, shape[0] * shape[1]);
            Tensor::<2>::from_data(TensorData::new(elements, shape), &device).require_grad()
        };
        let (x, w) = (leaf(1, [n_rows, n_inputs]), leaf(2, [n_inputs, n_outputs]));
        let b = leaf(3, [1, n_outputs]);
        let c = leaf(4, [n_rows, n_outputs]);
        let run = |y: Tensor<2>| {
            let gradients = (y.clone() * c.clone().detach()).sum().backward();
            let all = [y.inner(), x.grad(&gradients).expect("dx"), w.grad(&gradients).expect("dw")];
            let db = b.grad(&gradients).expect("db");
            all.into_iter()
                .chain([db])
                .flat_map(|it| {
                    let data = it.try_into_data().expect("a CPU answers");
                    data.try_into_vec::<f32>().expect("f32")
                })
                .collect::<Vec<f32>>()
        };
        let ours = run(super::linear(x.clone(), w.clone(), b.clone().reshape([n_outputs]), true));
        let composed = run(activation::relu(x.clone().matmul(w.clone()) + b.clone()));
        for (ours, composed) in ours.iter().zip(&composed) {
            assert!((ours - composed).abs() < 1e-5, "{ours}, composed {composed}");
        }
    }
}
