//! On the GPU a unit finds one number of y and its winner, or adds up one number of dx: from the windows that cover its
//! pixel, in scan order, as the CPU does. Both give the CPU's bits.

use burn::backend::{DType, tensor::FloatTensor};
use burn_cubecl::{CubeBackend, ops::numeric, tensor::CubeTensor};
use cubecl::prelude::*;

use super::{
    Image, Window,
    op::{MaxPoolBackward, MaxPoolOps},
};
use crate::{
    gpu::{arg, contiguous, dim, empty, grid, len},
    window::gpu::{Sizes, end, first, sizes},
};

impl MaxPoolOps for CubeBackend {
    fn max_pool(x: FloatTensor<Self>, window: Window) -> FloatTensor<Self> {
        Self::max_pool_kept(x, window).0
    }
}

impl MaxPoolBackward for CubeBackend {
    /// The size of a picture; for each number of y the pixel of its window that won, I32.
    type Winners = (Image, CubeTensor);

    fn max_pool_kept(x: FloatTensor<Self>, window: Window) -> (FloatTensor<Self>, Self::Winners) {
        let x = contiguous(x);
        let image = Image { height: dim(&x, 1), width: dim(&x, 2), n_channels: dim(&x, 3) };
        let output = window.over(image, image.n_channels);
        let shape = [dim(&x, 0), output.height, output.width, output.n_channels];
        let y = empty(&x, shape);
        let (client, device) = (x.client.clone(), x.device.clone());
        let winners =
            numeric::empty_device_contiguous_dtype(client, device, shape.into(), DType::I32);
        if 0 < len(&y) {
            let (cubes, units) = grid(&y.client, len(&y));
            let of = sizes(image, window);
            find::launch(&y.client, cubes, units, arg(&x), arg(&y), arg(&winners), of);
        }
        (y, (image, winners))
    }

    fn max_pool_backward(
        (image, winners): Self::Winners,
        window: Window,
        dy: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let dy = contiguous(dy);
        let dx = empty(&dy, [dim(&dy, 0), image.height, image.width, image.n_channels]);
        if 0 < len(&dx) {
            let (cubes, units) = grid(&dx.client, len(&dx));
            let of = sizes(image, window);
            hand_back::launch(&dx.client, cubes, units, arg(&dy), arg(&winners), arg(&dx), of);
        }
        dx
    }
}

/// A unit for each number of `y`.
#[cube(launch)]
fn find(x: &[f32], y: &mut [f32], winners: &mut [i32], of: Sizes) {
    if ABSOLUTE_POS < y.len() {
        let channel = ABSOLUTE_POS % of.n_channels;
        let place = ABSOLUTE_POS / of.n_channels;
        let (column, rows) = (place % of.n_columns, place / of.n_columns);
        let (row, picture) = (rows % of.n_rows, rows / of.n_rows);
        let mut best = 0.0f32;
        let mut winner = i32::new(-1);
        for tap in 0..of.size * of.size {
            // Counted from the padding's edge.
            let (r, c) = (row * of.stride + tap / of.size, column * of.stride + tap % of.size);
            if of.padding <= r
                && r < of.height + of.padding
                && of.padding <= c
                && c < of.width + of.padding
            {
                let pixel = (picture * of.height + r - of.padding) * of.width + c - of.padding;
                let value = x[pixel * of.n_channels + channel];
                if winner < 0 || best < value || (value.is_nan() && !best.is_nan()) {
                    best = value;
                    winner = tap as i32;
                }
            }
        }
        y[ABSOLUTE_POS] = best;
        winners[ABSOLUTE_POS] = winner;
    }
}

/// A unit for each number of `dx`.
#[cube(launch)]
fn hand_back(dy: &[f32], winners: &[i32], dx: &mut [f32], of: Sizes) {
    if ABSOLUTE_POS < dx.len() {
        let channel = ABSOLUTE_POS % of.n_channels;
        let pixel = ABSOLUTE_POS / of.n_channels;
        let (column, rows) = (pixel % of.width + of.padding, pixel / of.width);
        let (row, picture) = (rows % of.height + of.padding, rows / of.height);
        let mut total = 0.0f32;
        for r in first(row, of.size, of.stride)..end(row, of.stride, of.n_rows) {
            for c in first(column, of.size, of.stride)..end(column, of.stride, of.n_columns) {
                let tap = (row - r * of.stride) * of.size + column - c * of.stride;
                let place = (picture * of.n_rows + r) * of.n_columns + c;
                let at = place * of.n_channels + channel;
                if winners[at] == tap as i32 {
                    total += dy[at];
                }
            }
        }
        dx[ABSOLUTE_POS] = total;
    }
}

#[cfg(test)]
mod tests {
    use super::super::max_pool;
    use crate::{
        testing::{
            assert_same_bits,
            gpu::{elements, leaf, on_cpu_and_gpu, tensor, with_gradients},
            uniform,
        },
        window::Window,
    };

    /// Numbers are chosen and added in the CPU's order: nothing may differ.
    #[test]
    fn numbers_and_gradients_are_the_cpus_bit_for_bit() {
        for (n, side, n_channels, window) in [
            (0, 4, 1, Window { size: 2, stride: 2, padding: 0 }),
            (1, 1, 1, Window { size: 1, stride: 1, padding: 0 }),
            (2, 7, 3, Window { size: 3, stride: 2, padding: 1 }),
            (3, 6, 2, Window { size: 3, stride: 1, padding: 2 }),
            (2, 9, 1, Window { size: 2, stride: 3, padding: 0 }),
        ] {
            let found = on_cpu_and_gpu(|device| {
                let x = leaf(1, n * side * side * n_channels, device);
                let y = max_pool(x.clone().reshape([n, side, side, n_channels]), window);
                with_gradients(y, &[x])
            });
            let Some((cpu, gpu)) = found else { return };
            assert_same_bits(&cpu, &gpu, (n, side, n_channels, window));
        }
    }

    #[test]
    fn nan_is_larger_than_any_number() {
        let mut x = uniform(1, 16);
        (x[1], x[2], x[12]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
        let found = on_cpu_and_gpu(|device| {
            let window = Window { size: 2, stride: 2, padding: 0 };
            elements(max_pool(tensor(x.clone(), [1, 4, 4, 1], device), window))
        });
        let Some((cpu, gpu)) = found else { return };
        assert!(cpu[0].is_nan() && gpu[0].is_nan(), "{cpu:?} {gpu:?}");
        assert_same_bits(&cpu[1..], &gpu[1..], "the others");
    }
}
