//! `linear`: y = f(x · w + b) with an [`Activation`] f. x is rows × inputs, w is inputs × outputs.
//!
//! Why not burn's composed ops: bias and activation each cost another pass over the activations forward and backward, and
//! the bits of its products are a library's business (see [`crate::matmul`]).
//!
//! Backward, with dz = dy · f′(z): dx = dz · wᵀ, dw = xᵀ · dz, db = column sums of dz. ReLU's slope is known from y, which the
//! next layer keeps anyway; a smooth f needs z = x · w + b, which is kept only where there is a way back.
//!
//! versions: 1  bias and ReLU while the tile is in registers; db from the operand already packed for dw.
//! 2  any activation, while the rows are in cache.
//! 3  [`Precision`]: all three products of rounded operands; weights, sums, bias and db stay f32.
//! bound by: flops.

use rayon::prelude::*;

use crate::{
    activation::Activation,
    matmul::{
        Epilogue, Packed, Precision, column_sums, rows_times, rows_times_keeping, transposed_times,
    },
    memory::unwritten,
};

/// Elements a thread multiplies by slopes at a time.
const CHUNK: usize = 1 << 14;

/// The definition.
pub fn reference(x: &[f32], w: &[f32], b: &[f32], activation: Activation) -> Vec<f32> {
    let n_outputs = b.len();
    let z = crate::matmul::reference(x, w, w.len() / n_outputs, n_outputs);
    z.iter().enumerate().map(|(i, z)| activation.value(z + b[i % n_outputs])).collect()
}

/// How a layer computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// What its products are made of, forward and backward.
    pub precision: Precision,
    /// What is done to x · w + b.
    pub activation: Activation,
}

/// Writes rows × outputs into `y`, and what they were before the activation into `z`, where that is wanted.
pub fn fused(x: &[f32], w: &[f32], b: &[f32], form: Form, z: Option<&mut [f32]>, y: &mut [f32]) {
    let packed = Packed::with(form.precision, w, w.len() / b.len().max(1), b.len());
    rows_times_keeping(x, &packed, Epilogue { bias: Some(b), activation: form.activation }, z, y);
}

/// Whether the backward pass of a layer needs z; ReLU needs y, identity nothing.
#[must_use]
pub const fn keeps_z(activation: Activation) -> bool {
    !matches!(activation, Activation::Identity | Activation::Relu)
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

/// The backward pass. `kept` is z where [`keeps_z`] says so, else y; nobody reads it for the identity. Turns `dy` into dz.
pub fn backward(
    x: &[f32],
    w: &[f32],
    Form { precision, activation }: Form,
    kept: &[f32],
    dy: &mut [f32],
    n_outputs: usize,
    wants_dx: bool,
) -> Gradients {
    let n_inputs = w.len() / n_outputs;
    let n_rows = dy.len() / n_outputs;
    // Few joins of long branches: waking a thread costs as much as a small layer's products.
    let ((), w) = rayon::join(
        || {
            if activation != Activation::Identity {
                let chunks = dy.par_chunks_mut(CHUNK).zip(kept.par_chunks(CHUNK));
                chunks.for_each(|(dy, kept)| activation.chain(kept, dy));
            }
        },
        || wants_dx.then(|| Packed::transpose_with(precision, w, n_outputs, n_inputs)),
    );
    let dz = &*dy;
    let ((dw, db), dx) = rayon::join(
        || {
            let db = column_sums(dz, n_outputs);
            let dz = Packed::with(precision, dz, n_rows, n_outputs);
            let mut dw = vec![0.0; n_inputs * n_outputs];
            transposed_times(x, &dz, &mut dw);
            (dw, db)
        },
        || {
            w.map(|w| {
                let mut dx = unwritten(n_rows * n_inputs);
                rows_times(dz, &w, Epilogue::default(), &mut dx);
                dx
            })
        },
    );
    Gradients { dx, dw, db }
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

    use super::{Activation, Epilogue, Form, rows_times};
    use crate::{
        flex::{contiguous, dim, floats, floats_mut, retire, tensor, unwritten},
        frozen,
    };

    /// activation(x · w + b), in the precision of [`crate::precision::current`]; x is rows × inputs, w is inputs × outputs.
    #[must_use]
    pub fn linear(x: Tensor<2>, w: Tensor<2>, b: Tensor<1>, activation: Activation) -> Tensor<2> {
        let form = Form { precision: crate::precision::current(), activation };
        let (x, w, b) = (x.into_dispatch(), w.into_dispatch(), b.into_dispatch());
        Tensor::from_dispatch(<Dispatch as LinearOps>::linear_forward(x, w, b, form))
    }

    /// The forward pass.
    #[backend_extension(Flex, Cube: cfg(feature = "gpu"), Autodiff)]
    pub(crate) trait LinearOps: Backend {
        /// See [`super::fused`].
        fn linear_forward(
            x: FloatTensor<Self>,
            w: FloatTensor<Self>,
            b: FloatTensor<Self>,
            form: Form,
        ) -> FloatTensor<Self>;
    }

    /// Forward and back again.
    pub(crate) trait LinearTraining: LinearOps {
        /// The forward pass: (y, z), z = x · w + b. Asked for where [`super::keeps_z`] says so.
        fn linear_keeping(
            x: FloatTensor<Self>,
            w: FloatTensor<Self>,
            b: FloatTensor<Self>,
            form: Form,
        ) -> (FloatTensor<Self>, FloatTensor<Self>);

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
        pub(super) x: FloatTensor<B>,
        pub(super) w: FloatTensor<B>,
        pub(super) form: Form,
        /// z where [`super::keeps_z`] says so, else y.
        pub(super) kept: FloatTensor<B>,
    }

    impl LinearOps for Flex {
        fn linear_forward(
            x: FloatTensor<Self>,
            w: FloatTensor<Self>,
            b: FloatTensor<Self>,
            form: Form,
        ) -> FloatTensor<Self> {
            let (x, b) = (contiguous(x), contiguous(b));
            let (n_rows, n_outputs) = (dim(&x, 0), dim(&w, 1));
            let mut y = unwritten(n_rows * n_outputs);
            let w = frozen::packed(w, form.precision);
            let end = Epilogue { bias: Some(floats(&b)), activation: form.activation };
            rows_times(floats(&x), &w, end, &mut y);
            retire(x);
            tensor(y, [n_rows, n_outputs])
        }
    }

    impl LinearTraining for Flex {
        fn linear_keeping(
            x: FloatTensor<Self>,
            w: FloatTensor<Self>,
            b: FloatTensor<Self>,
            form: Form,
        ) -> (FloatTensor<Self>, FloatTensor<Self>) {
            let (x, w, b) = (contiguous(x), contiguous(w), contiguous(b));
            let (n_rows, n_outputs) = (dim(&x, 0), dim(&w, 1));
            let (mut z, mut y) = (unwritten(n_rows * n_outputs), unwritten(n_rows * n_outputs));
            super::fused(floats(&x), floats(&w), floats(&b), form, Some(&mut z), &mut y);
            (tensor(y, [n_rows, n_outputs]), tensor(z, [n_rows, n_outputs]))
        }

        fn linear_backward(
            saved: Saved<Self>,
            mut dy: FloatTensor<Self>,
            wants_dx: bool,
        ) -> (Option<FloatTensor<Self>>, FloatTensor<Self>, FloatTensor<Self>) {
            let Saved { x, w, form, kept } = saved;
            let (x, w, kept) = (contiguous(x), contiguous(w), contiguous(kept));
            let (n_rows, n_inputs, n_outputs) = (dim(&x, 0), dim(&x, 1), dim(&w, 1));
            let gradients = super::backward(
                floats(&x),
                floats(&w),
                form,
                floats(&kept),
                floats_mut(&mut dy),
                n_outputs,
                wants_dx,
            );
            for used_up in [x, kept, dy] {
                retire(used_up);
            }
            (
                gradients.dx.map(|dx| tensor(dx, [n_rows, n_inputs])),
                tensor(gradients.dw, [n_inputs, n_outputs]),
                tensor(gradients.db, [n_outputs]),
            )
        }
    }

    impl<B: LinearTraining, C: CheckpointStrategy> LinearOps for Autodiff<B, C> {
        fn linear_forward(
            x: FloatTensor<Self>,
            w: FloatTensor<Self>,
            b: FloatTensor<Self>,
            form: Form,
        ) -> FloatTensor<Self> {
            #[derive(Debug)]
            struct Linear;

            impl<B: LinearTraining> Backward<B, 3> for Linear {
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
                    let (y, kept) = if super::keeps_z(form.activation) {
                        B::linear_keeping(x.clone(), w.clone(), b, form)
                    } else {
                        let y = B::linear_forward(x.clone(), w.clone(), b, form);
                        (y.clone(), y)
                    };
                    prepared.finish(Saved { x, w, form, kept }, y)
                }
                OpsKind::UnTracked(prepared) => prepared.finish(B::linear_forward(x, w, b, form)),
            }
        }
    }
}

#[cfg(feature = "gpu")]
pub(crate) mod gpu;

#[cfg(test)]
mod tests {
    use super::{Form, backward, fused, keeps_z, reference};
    use crate::{
        activation::{self, Activation},
        matmul::Precision,
        testing::{assert_same_bits, on_any_threads, uniform},
    };

    fn full(activation: Activation) -> Form {
        Form { precision: Precision::F32, activation }
    }

    const ALL: [Activation; 5] = [
        Activation::Identity,
        Activation::Relu,
        Activation::GeluErf,
        Activation::GeluTanh,
        Activation::Silu,
    ];

    #[test]
    fn matches_reference_bit_for_bit_at_awkward_sizes() {
        for (n_rows, n_inputs, n_outputs) in [(1, 1, 1), (3, 5, 2), (97, 38, 256), (130, 300, 17)] {
            let (x, w) = (uniform(1, n_rows * n_inputs), uniform(2, n_inputs * n_outputs));
            let b = uniform(3, n_outputs);
            let z = reference(&x, &w, &b, Activation::Identity);
            for activation in ALL {
                let expected = reference(&x, &w, &b, activation);
                let (mut kept, mut y) = (vec![f32::NAN; z.len()], vec![f32::NAN; z.len()]);
                fused(&x, &w, &b, full(activation), None, &mut y);
                assert_same_bits(&expected, &y, (activation, n_rows, n_inputs, n_outputs));
                y.fill(f32::NAN);
                fused(&x, &w, &b, full(activation), Some(&mut kept), &mut y);
                assert_same_bits(&expected, &y, (activation, n_rows, n_inputs, n_outputs));
                assert_same_bits(&z, &kept, (activation, n_rows, n_inputs, n_outputs));
            }
        }
    }

    /// bf16 rounds operands of all three products and nothing else.
    #[test]
    fn bf16_is_the_layer_of_rounded_operands() {
        let (n_rows, n_inputs, n_outputs) = (97, 39, 33);
        let round = |x: &[f32]| {
            // To eight bits of mantissa, ties to even: what adding and taking away 2^16 units of the last place does.
            x.iter()
                .map(|x| {
                    let far = x * 65_537.0;
                    far - (far - x)
                })
                .collect::<Vec<f32>>()
        };
        let (x, w) = (uniform(1, n_rows * n_inputs), uniform(2, n_inputs * n_outputs));
        let (b, dy) = (uniform(3, n_outputs), uniform(4, n_rows * n_outputs));
        for activation in ALL {
            let form = Form { precision: Precision::Bf16, activation };
            let (mut z, mut y) = (vec![f32::NAN; dy.len()], vec![f32::NAN; dy.len()]);
            fused(&x, &w, &b, form, Some(&mut z), &mut y);
            assert_same_bits(&reference(&round(&x), &round(&w), &b, activation), &y, activation);

            let found = backward(&x, &w, form, &z, &mut dy.clone(), n_outputs, true);
            let mut dz = dy.clone();
            activation.chain(&z, &mut dz);
            let linear = full(Activation::Identity);
            let mut rounded = round(&dz);
            let exact = backward(&round(&x), &round(&w), linear, &z, &mut rounded, n_outputs, true);
            assert_same_bits(&exact.dw, &found.dw, activation);
            assert_same_bits(
                &exact.dx.expect("asked for"),
                &found.dx.expect("asked for"),
                activation,
            );
            assert_same_bits(&crate::matmul::column_sums(&dz, n_outputs), &found.db, activation);
        }
    }

    /// The layer in f64, and a scalar of its output: sum of y · c.
    fn objective(x: &[f64], w: &[f64], b: &[f64], c: &[f32], activation: Activation) -> f64 {
        let (n_outputs, n_inputs) = (b.len(), w.len() / b.len());
        c.iter()
            .enumerate()
            .map(|(at, c)| {
                let (row, j) = (at / n_outputs, at % n_outputs);
                let z = (0..n_inputs)
                    .map(|i| x[row * n_inputs + i] * w[i * n_outputs + j])
                    .sum::<f64>()
                    + b[j];
                f64::from(*c) * activation::reference(activation, z).0
            })
            .sum()
    }

    #[test]
    fn gradients_match_finite_differences() {
        let (n_rows, n_inputs, n_outputs) = (5, 4, 3);
        let wide = |x: &[f32]| x.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
        let (x, w) = (uniform(1, n_rows * n_inputs), uniform(2, n_inputs * n_outputs));
        let (b, c) = (uniform(3, n_outputs), uniform(4, n_rows * n_outputs));
        for activation in ALL {
            let before = if keeps_z(activation) { Activation::Identity } else { activation };
            let kept = reference(&x, &w, &b, before);
            let found = backward(&x, &w, full(activation), &kept, &mut c.clone(), n_outputs, true);
            let dx = found.dx.expect("asked for");
            for (which, gradient) in [&dx, &found.dw, &found.db].into_iter().enumerate() {
                for (at, found) in gradient.iter().enumerate() {
                    let moved = |by: f64| {
                        let mut at_point = [wide(&x), wide(&w), wide(&b)];
                        at_point[which][at] += by;
                        objective(&at_point[0], &at_point[1], &at_point[2], &c, activation)
                    };
                    let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                    let error = (f64::from(*found) - expected).abs();
                    assert!(error < 1e-5, "{activation:?}, {which}[{at}]: {found}, not {expected}");
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
            let mut all = Vec::new();
            for activation in [Activation::Relu, Activation::GeluErf] {
                let (mut z, mut y) = (vec![0.0; n_rows * n_outputs], vec![0.0; n_rows * n_outputs]);
                fused(&x, &w, &b, full(activation), Some(&mut z), &mut y);
                let found = backward(&x, &w, full(activation), &z, &mut y.clone(), n_outputs, true);
                all.extend([y, found.dx.expect("asked for"), found.dw, found.db].concat());
            }
            all.iter().map(|x| x.to_bits()).collect::<Vec<u32>>()
        });
        assert!(bits.iter().any(|it| *it != 0));
    }

    /// The precision around a layer's call is the one of its way back, wherever that is called.
    #[cfg(feature = "burn")]
    #[test]
    fn burn_runs_it_in_the_precision_around_the_call() {
        use burn::tensor::{Device, Tensor, TensorData};

        use crate::precision::in_precision;

        let device = Device::flex().autodiff();
        let (n_rows, n_inputs, n_outputs) = (50, 7, 9);
        let (x, w) = (uniform(1, n_rows * n_inputs), uniform(2, n_inputs * n_outputs));
        let (b, dy) = (uniform(3, n_outputs), vec![1.0; n_rows * n_outputs]);
        for precision in [Precision::F32, Precision::Bf16] {
            let form = Form { precision, activation: Activation::Relu };
            let mut y = vec![f32::NAN; dy.len()];
            fused(&x, &w, &b, form, None, &mut y);
            let expected = backward(&x, &w, form, &y, &mut dy.clone(), n_outputs, true);

            let tensor = |elements: &[f32], shape: [usize; 2]| {
                Tensor::<2>::from_data(TensorData::new(elements.to_vec(), shape), &device)
            };
            let (x, w) = (tensor(&x, [n_rows, n_inputs]), tensor(&w, [n_inputs, n_outputs]));
            let (w, b) = (w.require_grad(), tensor(&b, [1, n_outputs]).reshape([n_outputs]));
            let found =
                in_precision(precision, || super::linear(x, w.clone(), b, Activation::Relu));
            let gradients = found.clone().sum().backward();
            let numbers = |tensor: Tensor<2>| {
                let data = tensor.try_into_data().expect("a CPU answers");
                data.try_into_vec::<f32>().expect("f32")
            };
            assert_same_bits(&y, &numbers(found.inner()), precision);
            let dw = numbers(w.grad(&gradients).expect("dw"));
            assert_same_bits(&expected.dw, &dw, precision);
        }
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
        let linear = |activation| {
            run(super::linear(x.clone(), w.clone(), b.clone().reshape([n_outputs]), activation))
        };
        let z = || x.clone().matmul(w.clone()) + b.clone();
        for (ours, composed) in [
            (linear(Activation::Identity), run(z())),
            (linear(Activation::Relu), run(activation::relu(z()))),
            (linear(Activation::GeluErf), run(activation::gelu(z()))),
            (linear(Activation::GeluTanh), run(activation::gelu_approximate(z()))),
            (linear(Activation::Silu), run(activation::silu(z()))),
        ] {
            for (ours, composed) in ours.iter().zip(&composed) {
                assert!((ours - composed).abs() < 1e-5, "{ours}, composed {composed}");
            }
        }
    }
}
