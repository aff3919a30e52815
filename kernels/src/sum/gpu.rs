//! Sums on the GPU, in f32. The order follows from the length alone:
//!
//! [`sum`]: a cube adds [`BLOCK`] elements, each unit every 256th of them from the left, then the upper half of the 256
//! strands onto the lower until one is left; the cubes' results are summed in the same way. [`column_sums`]: a unit adds
//! [`ROWS`] elements of a column from the top, and the results are summed in the same way.

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::gpu::{CUBE, add_lanes, arg, contiguous, dim, empty, grid, len, zeros};

/// Elements that a cube adds.
pub(crate) const BLOCK: usize = 1 << 14;
/// Elements that a unit adds.
pub(crate) const STEPS: usize = BLOCK / CUBE as usize;
/// Rows that a unit adds.
const ROWS: usize = 64;

/// One number: the sum of all elements. The sum of none is 0.
pub(crate) fn sum(x: CubeTensor) -> CubeTensor {
    let mut x = contiguous(x);
    if len(&x) == 0 {
        return zeros(&x, [1]);
    }
    loop {
        let n_blocks = len(&x).div_ceil(BLOCK);
        let y = empty(&x, [n_blocks]);
        let (cubes, units) = grid(&x.client, n_blocks * CUBE as usize);
        block_sums::launch(&x.client, cubes, units, arg(&x), arg(&y));
        if n_blocks == 1 {
            return y;
        }
        x = y;
    }
}

/// One number for each column of the matrix `x`.
pub(crate) fn column_sums(x: CubeTensor) -> CubeTensor {
    let mut x = contiguous(x);
    let n_columns = dim(&x, 1);
    if len(&x) == 0 {
        return zeros(&x, [n_columns]);
    }
    loop {
        let n_rows = dim(&x, 0);
        let y = empty(&x, [n_rows.div_ceil(ROWS), n_columns]);
        let (cubes, units) = grid(&x.client, len(&y));
        add_rows::launch(&x.client, cubes, units, arg(&x), arg(&y), n_rows, n_columns);
        if n_rows <= ROWS {
            return CubeTensor::new_contiguous(
                y.client,
                y.device,
                [n_columns].into(),
                y.handle,
                y.dtype,
            );
        }
        x = y;
    }
}

/// Cube i writes the sum of block i of `x` to y\[i\].
#[cube(launch)]
fn block_sums(x: &[f32], y: &mut [f32]) {
    let mut total = 0.0f32;
    let from = CUBE_POS * BLOCK;
    for step in 0..STEPS {
        let at = from + step * CUBE as usize + UNIT_POS as usize;
        if at < x.len() {
            total += x[at];
        }
    }
    let total = add_lanes(total, CUBE);
    if UNIT_POS == 0 && CUBE_POS < y.len() {
        y[CUBE_POS] = total;
    }
}

/// Unit (i, column) writes the sum of rows i · ROWS … of `x`.
#[cube(launch)]
fn add_rows(x: &[f32], y: &mut [f32], n_rows: usize, n_columns: usize) {
    if ABSOLUTE_POS < y.len() {
        let column = ABSOLUTE_POS % n_columns;
        let from = ABSOLUTE_POS / n_columns * ROWS;
        let mut to = from + ROWS;
        if n_rows < to {
            to = n_rows;
        }
        let mut total = 0.0f32;
        for row in from..to {
            total += x[row * n_columns + column];
        }
        y[ABSOLUTE_POS] = total;
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, CUBE, ROWS, column_sums, sum};
    use crate::testing::{
        assert_same_bits,
        gpu::{cube, elements, on_cpu_and_gpu, tensor, uncube},
        uniform,
    };

    /// The order of [`sum`], on the CPU.
    fn in_blocks(x: &[f32]) -> f32 {
        let block = |x: &[f32]| {
            let mut strands = [0.0; CUBE as usize];
            for row in x.chunks(CUBE as usize) {
                strands.iter_mut().zip(row).for_each(|(strand, x)| *strand += x);
            }
            let mut half = CUBE as usize / 2;
            while 0 < half {
                let (lower, upper) = strands.split_at_mut(half);
                lower.iter_mut().zip(upper).for_each(|(lower, upper)| *lower += *upper);
                half /= 2;
            }
            strands[0]
        };
        let sums: Vec<f32> = x.chunks(BLOCK).map(block).collect();
        if sums.len() <= 1 { sums.first().copied().unwrap_or(0.0) } else { in_blocks(&sums) }
    }

    /// The order of [`column_sums`], on the CPU.
    fn in_rows(x: &[f32], n_columns: usize) -> Vec<f32> {
        let sums: Vec<f32> = x
            .chunks(ROWS * n_columns)
            .flat_map(|rows| {
                let add = |mut total: Vec<f32>, row: &[f32]| {
                    total.iter_mut().zip(row).for_each(|(total, x)| *total += x);
                    total
                };
                rows.chunks(n_columns).fold(vec![0.0; n_columns], add)
            })
            .collect();
        if sums.len() <= n_columns { sums } else { in_rows(&sums, n_columns) }
    }

    #[test]
    fn elements_are_added_in_the_stated_order() {
        for n in [0, 1, 255, 257, BLOCK, BLOCK + 1, 3 * BLOCK + 5] {
            let x = uniform(1, n);
            let found = on_cpu_and_gpu(|device| match cube(tensor(x.clone(), [n], device)) {
                Some(x) => elements(uncube::<1>(sum(x))),
                None => vec![in_blocks(&x)],
            });
            let Some((cpu, gpu)) = found else { return };
            assert_same_bits(&cpu, &gpu, n);
        }
    }

    #[test]
    fn columns_are_added_in_the_stated_order() {
        for (n_rows, n_columns) in [(0, 3), (1, 1), (64, 1), (65, 257), (64 * 64 + 1, 2)] {
            let x = uniform(1, n_rows * n_columns);
            let found = on_cpu_and_gpu(|device| {
                match cube(tensor(x.clone(), [n_rows, n_columns], device)) {
                    Some(x) => elements(uncube::<1>(column_sums(x))),
                    None if x.is_empty() => vec![0.0; n_columns],
                    None => in_rows(&x, n_columns),
                }
            });
            let Some((cpu, gpu)) = found else { return };
            assert_same_bits(&cpu, &gpu, (n_rows, n_columns));
        }
    }
}
