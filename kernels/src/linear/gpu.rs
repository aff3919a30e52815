//! On the GPU the products are [`crate::matmul`]'s; bias and activation are one pass over their result, in place.
//! Backward: one pass turns dy into dz, db is summed as [`crate::sum`] sums columns.

use burn::backend::tensor::FloatTensor;
use burn_cubecl::{CubeBackend, tensor::CubeTensor};
use cubecl::prelude::*;

use super::{
    Form,
    op::{LinearOps, LinearTraining, Saved},
};
use crate::{
    activation::{
        Activation,
        gpu::{chain, value},
    },
    gpu::{arg, contiguous, empty_like, grid, len, transposed},
    matmul::gpu::product,
    sum::gpu::column_sums,
};

impl LinearOps for CubeBackend {
    fn linear_forward(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: FloatTensor<Self>,
        form: Form,
    ) -> FloatTensor<Self> {
        let y = product(form.precision, x, w);
        finish(&y, &contiguous(b), form.activation);
        y
    }
}

impl LinearTraining for CubeBackend {
    fn linear_keeping(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: FloatTensor<Self>,
        form: Form,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (z, b) = (product(form.precision, x, w), contiguous(b));
        let (y, activation) = (empty_like(&z), form.activation);
        if 0 < len(&z) {
            let (cubes, units) = grid(&z.client, len(&z));
            finish_keeping::launch(&z.client, cubes, units, arg(&z), arg(&b), arg(&y), activation);
        }
        (y, z)
    }

    fn linear_backward(
        saved: Saved<Self>,
        dy: FloatTensor<Self>,
        wants_dx: bool,
    ) -> (Option<FloatTensor<Self>>, FloatTensor<Self>, FloatTensor<Self>) {
        let Saved { x, w, form, kept } = saved;
        let dz = chained(form.activation, kept, dy);
        let dx = wants_dx.then(|| product(form.precision, dz.clone(), transposed(w)));
        (dx, product(form.precision, transposed(x), dz.clone()), column_sums(dz))
    }
}

/// y ← activation(y + b) in place, `b` for each row.
pub(crate) fn finish(y: &CubeTensor, b: &CubeTensor, activation: Activation) {
    if 0 < len(y) {
        let (cubes, units) = grid(&y.client, len(y));
        add_bias::launch(&y.client, cubes, units, arg(y), arg(b), activation);
    }
}

/// dy times the slope at `kept`, which is z, or y for ReLU.
pub(crate) fn chained(activation: Activation, kept: CubeTensor, dy: CubeTensor) -> CubeTensor {
    if activation == Activation::Identity || len(&dy) == 0 {
        return dy;
    }
    let (kept, dy) = (contiguous(kept), contiguous(dy));
    let dz = empty_like(&dy);
    let (cubes, units) = grid(&dz.client, len(&dz));
    chain_all::launch(&dz.client, cubes, units, arg(&kept), arg(&dy), arg(&dz), activation);
    dz
}

#[cube(launch)]
fn add_bias(y: &mut [f32], b: &[f32], #[comptime] activation: Activation) {
    if ABSOLUTE_POS < y.len() {
        y[ABSOLUTE_POS] = value(y[ABSOLUTE_POS] + b[ABSOLUTE_POS % b.len()], activation);
    }
}

/// z ← z + b, y = activation(z).
#[cube(launch)]
fn finish_keeping(z: &mut [f32], b: &[f32], y: &mut [f32], #[comptime] activation: Activation) {
    if ABSOLUTE_POS < y.len() {
        let own = z[ABSOLUTE_POS] + b[ABSOLUTE_POS % b.len()];
        z[ABSOLUTE_POS] = own;
        y[ABSOLUTE_POS] = value(own, activation);
    }
}

#[cube(launch)]
fn chain_all(kept: &[f32], dy: &[f32], dz: &mut [f32], #[comptime] activation: Activation) {
    if ABSOLUTE_POS < dz.len() {
        dz[ABSOLUTE_POS] = chain(kept[ABSOLUTE_POS], dy[ABSOLUTE_POS], activation);
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tensor;

    use super::super::linear;
    use crate::{
        activation::Activation,
        precision::{Precision, in_precision},
        testing::{
            gpu::{assert_near, elements, leaf, on_cpu_and_gpu, tensor, with_gradients},
            uniform,
        },
    };

    const ALL: [Activation; 5] = [
        Activation::Identity,
        Activation::Relu,
        Activation::GeluErf,
        Activation::GeluTanh,
        Activation::Silu,
    ];

    /// Forward and backward; sums of products are cut in other blocks than the CPU's, so they differ by roundings. One
    /// output is the shape that fused backends computed wrongly (burn#5122).
    #[test]
    fn agrees_with_the_cpu() {
        for (n_rows, n_inputs, n_outputs) in
            [(1, 1, 1), (257, 38, 1), (3, 1, 255), (255, 257, 9), (0, 5, 3)]
        {
            for activation in ALL {
                let found = on_cpu_and_gpu(|device| {
                    let (x, b) = (leaf(1, n_rows * n_inputs, device), leaf(3, n_outputs, device));
                    let w = leaf(2, n_inputs * n_outputs, device);
                    let matrix = |it: &Tensor<1>, shape: [usize; 2]| it.clone().reshape(shape);
                    let (xs, ws) =
                        (matrix(&x, [n_rows, n_inputs]), matrix(&w, [n_inputs, n_outputs]));
                    with_gradients(linear(xs, ws, b.clone(), activation), &[x, w, b])
                });
                let Some((cpu, gpu)) = found else { return };
                assert_near(&cpu, &gpu, 2e-6, (n_rows, n_inputs, n_outputs, activation));
            }
        }
    }

    #[test]
    fn without_inputs_the_bias_is_left() {
        let found = on_cpu_and_gpu(|device| {
            let b = leaf(1, 3, device);
            let none = |shape| tensor(Vec::new(), shape, &b.device());
            let y = linear(none([4, 0]), none([0, 3]), b.clone(), Activation::Identity);
            with_gradients(y, &[b])
        });
        let Some((cpu, gpu)) = found else { return };
        assert_near(&cpu, &gpu, 1e-7, "no inputs");
    }

    /// Both round the same operands to bf16, so a product differs by roundings of its sum alone.
    #[test]
    fn bf16_agrees_with_the_cpu() {
        let found = on_cpu_and_gpu(|device| {
            let (x, w, b) = (leaf(1, 65 * 38, device), leaf(2, 38 * 9, device), leaf(3, 9, device));
            let (xs, ws) = (x.clone().reshape([65, 38]), w.clone().reshape([38, 9]));
            let y =
                in_precision(Precision::Bf16, || linear(xs, ws, b.clone(), Activation::GeluErf));
            with_gradients(y, &[x, w, b])
        });
        let Some((cpu, gpu)) = found else { return };
        // A dz that falls on the other side of a tie is another bf16: one in some thousands, by 1/256.
        assert_near(&cpu, &gpu, 2e-4, "bf16");
    }

    #[test]
    fn strides_and_special_values() {
        let run = |x: Vec<f32>, activation| {
            on_cpu_and_gpu(|device| {
                let x: Tensor<2> = tensor(x.clone(), [3, 6], device).swap_dims(0, 1);
                let w = tensor(uniform(2, 12), [4, 3], device).swap_dims(0, 1);
                elements(linear(x, w, tensor(uniform(3, 4), [4], device), activation))
            })
        };
        for activation in ALL {
            let mut x = uniform(1, 18);
            let Some((cpu, gpu)) = run(x.clone(), activation) else { return };
            assert_near(&cpu, &gpu, 1e-6, "transposed");
            (x[0], x[1], x[2], x[3]) = (f32::NAN, f32::INFINITY, 1e30, 1e-30);
            let Some((cpu, gpu)) = run(x, activation) else { return };
            for (i, (cpu, gpu)) in cpu.iter().zip(&gpu).enumerate() {
                assert_near(&[*cpu], &[*gpu], 1e-4, (activation, i));
            }
        }
    }
}
