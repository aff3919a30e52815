//! On the GPU [`LANES`] units take a row, in f32: each adds every 32nd element, then [`add_lanes`] their strands. The sums over rows (dγ, dβ) are those of [`crate::sum`]'s columns.

use burn::backend::tensor::FloatTensor;
use burn_cubecl::{CubeBackend, ops::reshape, tensor::CubeTensor};
use cubecl::prelude::*;

use super::op::{LayerNormBackward, LayerNormOps, Saved};
use crate::{
    gpu::{LANES, add_lanes, arg, contiguous, dim, empty, empty_like, grid, len, zeros},
    sum::gpu::column_sums,
};

impl LayerNormOps for CubeBackend {
    fn layer_norm_rows(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self> {
        Self::layer_norm_forward(x, None, gamma, beta, eps).0
    }

    fn residual_layer_norm_rows(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self> {
        Self::layer_norm_forward(x, Some(residual), gamma, beta, eps).0
    }
}

impl LayerNormBackward for CubeBackend {
    fn layer_norm_forward(
        x: FloatTensor<Self>,
        residual: Option<FloatTensor<Self>>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (x, gamma, beta) = (contiguous(x), contiguous(gamma), contiguous(beta));
        let (y, n_rows) = (empty_like(&x), len(&x) / dim(&gamma, 0).max(1));
        let moments = empty(&x, [n_rows, 2]);
        if 0 < len(&x) {
            let has_residual = residual.is_some();
            let residual = residual.map_or_else(|| x.clone(), contiguous);
            let (cubes, units) = rows_grid(&x, n_rows);
            normalize::launch(
                &x.client,
                cubes,
                units,
                arg(&x),
                arg(&residual),
                arg(&gamma),
                arg(&beta),
                arg(&y),
                arg(&moments),
                eps as f32,
                has_residual,
            );
        }
        (y, moments)
    }

    fn layer_norm_backward(
        saved: Saved<Self>,
        dy: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let Saved { x, residual, gamma, moments } = saved;
        let (x, gamma, dy) = (contiguous(x), contiguous(gamma), contiguous(dy));
        let (width, n_rows) = (dim(&gamma, 0), dim(&moments, 0));
        if len(&x) == 0 {
            return (x, zeros(&gamma, [width]), zeros(&gamma, [width]));
        }
        let has_residual = residual.is_some();
        let residual = residual.map_or_else(|| x.clone(), contiguous);
        let (dx, normed) = (empty_like(&x), empty(&x, [n_rows, width]));
        let (cubes, units) = rows_grid(&x, n_rows);
        denormalize::launch(
            &x.client,
            cubes,
            units,
            arg(&x),
            arg(&residual),
            arg(&gamma),
            arg(&moments),
            arg(&dy),
            arg(&dx),
            arg(&normed),
            has_residual,
        );
        let dy = reshape(dy, [n_rows, width].into());
        (dx, column_sums(normed), column_sums(dy))
    }
}

fn rows_grid(x: &CubeTensor, n_rows: usize) -> (CubeCount, CubeDim) {
    grid(&x.client, n_rows * LANES as usize)
}

/// y and the rows' moments.
#[cube(launch)]
fn normalize(
    x: &[f32],
    residual: &[f32],
    gamma: &[f32],
    beta: &[f32],
    y: &mut [f32],
    moments: &mut [f32],
    eps: f32,
    #[comptime] has_residual: bool,
) {
    let (row, lane) = (ABSOLUTE_POS / LANES as usize, ABSOLUTE_POS % LANES as usize);
    let width = gamma.len();
    let is_row = row < moments.len() / 2;
    let from = row * width;
    let steps = width.div_ceil(LANES as usize);

    let mut total = 0.0f32;
    for step in 0..steps {
        let column = step * LANES as usize + lane;
        if is_row && column < width {
            total += element(x, residual, from + column, has_residual);
        }
    }
    let mean = add_lanes(total, LANES) / width as f32;
    let mut total = 0.0f32;
    for step in 0..steps {
        let column = step * LANES as usize + lane;
        if is_row && column < width {
            let centred = element(x, residual, from + column, has_residual) - mean;
            total += centred * centred;
        }
    }
    let variance = add_lanes(total, LANES) / width as f32;
    let scale = 1.0f32 / (variance + eps).sqrt();
    if is_row {
        for step in 0..steps {
            let column = step * LANES as usize + lane;
            if column < width {
                let centred = element(x, residual, from + column, has_residual) - mean;
                y[from + column] = fma(centred * scale, gamma[column], beta[column]);
            }
        }
        if lane == 0 {
            moments[row * 2] = mean;
            moments[row * 2 + 1] = scale;
        }
    }
}

/// dx, and dy · x̂ for dγ.
#[cube(launch)]
fn denormalize(
    x: &[f32],
    residual: &[f32],
    gamma: &[f32],
    moments: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    products: &mut [f32],
    #[comptime] has_residual: bool,
) {
    let (row, lane) = (ABSOLUTE_POS / LANES as usize, ABSOLUTE_POS % LANES as usize);
    let width = gamma.len();
    let is_row = row < moments.len() / 2;
    let from = row * width;
    let steps = width.div_ceil(LANES as usize);
    let mut mean = 0.0f32;
    let mut scale = 0.0f32;
    if is_row {
        mean = moments[row * 2];
        scale = moments[row * 2 + 1];
    }

    let mut total = 0.0f32;
    let mut slope = 0.0f32;
    for step in 0..steps {
        let column = step * LANES as usize + lane;
        if is_row && column < width {
            let normed = (element(x, residual, from + column, has_residual) - mean) * scale;
            let g = dy[from + column] * gamma[column];
            total += g;
            slope += g * normed;
            products[from + column] = dy[from + column] * normed;
        }
    }
    let total = add_lanes(total, LANES) / width as f32;
    let slope = add_lanes(slope, LANES) / width as f32;
    if is_row {
        for step in 0..steps {
            let column = step * LANES as usize + lane;
            if column < width {
                let normed = (element(x, residual, from + column, has_residual) - mean) * scale;
                let g = dy[from + column] * gamma[column];
                dx[from + column] = scale * (g - total - normed * slope);
            }
        }
    }
}

/// An element of x + r.
#[cube]
fn element(x: &[f32], residual: &[f32], at: usize, #[comptime] has_residual: bool) -> f32 {
    if comptime!(has_residual) { x[at] + residual[at] } else { x[at] }
}

#[cfg(test)]
mod tests {
    use super::super::{layer_norm, residual_layer_norm};
    use crate::testing::{
        gpu::{assert_near, elements, leaf, on_cpu_and_gpu, tensor, with_gradients},
        uniform,
    };

    #[test]
    fn agrees_with_the_cpu() {
        for (n_rows, width) in [(0, 4), (1, 1), (9, 31), (3, 33), (65, 257)] {
            for has_residual in [false, true] {
                let found = on_cpu_and_gpu(|device| {
                    let (x, r) = (leaf(1, n_rows * width, device), leaf(2, n_rows * width, device));
                    let (gamma, beta) = (leaf(3, width, device), leaf(4, width, device));
                    let matrix = x.clone().reshape([n_rows, width]);
                    if has_residual {
                        let other = r.clone().reshape([n_rows, width]);
                        let y =
                            residual_layer_norm(matrix, other, gamma.clone(), beta.clone(), 1e-5);
                        with_gradients(y, &[x, r, gamma, beta])
                    } else {
                        let y = layer_norm(matrix, gamma.clone(), beta.clone(), 1e-5);
                        with_gradients(y, &[x, gamma, beta])
                    }
                });
                let Some((cpu, gpu)) = found else { return };
                assert_near(&cpu, &gpu, 3e-6, (n_rows, width, has_residual));
            }
        }
    }

    /// NaN and infinity show in their own row alone. A row whose squares f32 cannot hold (beyond 1.8e19) has no size on the
    /// GPU, where the CPU's f64 sums still do: it is not compared.
    #[test]
    fn strides_and_special_values() {
        let mut x = uniform(1, 40);
        (x[0], x[13]) = (f32::NAN, f32::INFINITY);
        (x[26], x[39]) = (1e15, 1e-30);
        let found = on_cpu_and_gpu(|device| {
            let x = tensor(x.clone(), [10, 4], device).swap_dims(0, 1);
            let one = tensor(vec![1.0; 10], [10], device);
            elements(layer_norm(x, one.clone(), one, 1e-5))
        });
        let Some((cpu, gpu)) = found else { return };
        for (i, (cpu, gpu)) in cpu.iter().zip(&gpu).enumerate() {
            assert_near(&[*cpu], &[*gpu], 1e-4, i);
        }
    }
}
