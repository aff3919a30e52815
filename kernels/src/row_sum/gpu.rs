//! On the GPU [`LANES`] units add a row, each every 32nd element from the left, in f32; then [`add_lanes`] their strands.

use burn::backend::tensor::FloatTensor;
use burn_cubecl::CubeBackend;
use cubecl::prelude::*;

use super::op::{RowSumBackward, RowSumOps};
use crate::gpu::{LANES, add_lanes, arg, contiguous, dim, empty, grid, len, zeros};

impl RowSumOps for CubeBackend {
    fn row_sum(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let x = contiguous(x);
        let n_rows = dim(&x, 0);
        if len(&x) == 0 {
            return zeros(&x, [n_rows]);
        }
        let y = empty(&x, [n_rows]);
        let (cubes, units) = grid(&x.client, n_rows * LANES as usize);
        add::launch(&x.client, cubes, units, arg(&x), arg(&y), dim(&x, 1));
        y
    }
}

impl RowSumBackward for CubeBackend {
    fn row_sum_backward(dy: FloatTensor<Self>, n_columns: usize) -> FloatTensor<Self> {
        let dy = contiguous(dy);
        let dx = empty(&dy, [len(&dy), n_columns]);
        if 0 < len(&dx) {
            let (cubes, units) = grid(&dx.client, len(&dx));
            spread::launch(&dx.client, cubes, units, arg(&dy), arg(&dx), n_columns);
        }
        dx
    }
}

/// [`LANES`] units for each element of `y`.
#[cube(launch)]
fn add(x: &[f32], y: &mut [f32], n_columns: usize) {
    let row = ABSOLUTE_POS / LANES as usize;
    let lane = ABSOLUTE_POS % LANES as usize;
    let mut total = 0.0f32;
    for step in 0..n_columns.div_ceil(LANES as usize) {
        let column = step * LANES as usize + lane;
        if row < y.len() && column < n_columns {
            total += x[row * n_columns + column];
        }
    }
    let total = add_lanes(total, LANES);
    if row < y.len() && lane == 0 {
        y[row] = total;
    }
}

/// A unit for each element of `dx`.
#[cube(launch)]
fn spread(dy: &[f32], dx: &mut [f32], n_columns: usize) {
    if ABSOLUTE_POS < dx.len() {
        dx[ABSOLUTE_POS] = dy[ABSOLUTE_POS / n_columns];
    }
}

#[cfg(test)]
mod tests {
    use super::super::row_sum;
    use crate::testing::{
        gpu::{assert_near, elements, leaf, on_cpu_and_gpu, tensor, with_gradients},
        uniform,
    };

    #[test]
    fn agrees_with_the_cpu() {
        for (n_rows, n_columns) in [(0, 3), (1, 1), (9, 31), (3, 257), (255, 33)] {
            let found = on_cpu_and_gpu(|device| {
                let x = leaf(1, n_rows * n_columns, device);
                with_gradients(row_sum(x.clone().reshape([n_rows, n_columns])), &[x])
            });
            let Some((cpu, gpu)) = found else { return };
            assert_near(&cpu, &gpu, 1e-6, (n_rows, n_columns));
        }
        let mut x = uniform(1, 12);
        (x[0], x[5]) = (f32::NAN, f32::NEG_INFINITY);
        let found = on_cpu_and_gpu(|device| {
            elements(row_sum(tensor(x.clone(), [3, 4], device).swap_dims(0, 1)))
        });
        let Some((cpu, gpu)) = found else { return };
        assert_near(&cpu, &gpu, 1e-6, "strides and special values");
    }
}
