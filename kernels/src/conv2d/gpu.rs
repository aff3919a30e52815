//! On the GPU the windows' pixels are copied beside each other, a row for each place, and [`crate::matmul`] multiplies:
//! y = rows · w, dw = rowsᵀ · dz, and dz · wᵀ is added back where the pixels came from, each pixel's own unit going through
//! the windows that cover it. Pictures are taken as many at a time as [`ROWS_MAX`] allows.

use std::ops::Range;

use burn::backend::{ops::FloatTensorOps, tensor::FloatTensor};
use burn_cubecl::{CubeBackend, kernel::slice, ops::reshape, tensor::CubeTensor};
use cubecl::prelude::*;

use super::{
    Conv,
    op::{Conv2dBackward, Conv2dOps, Saved},
};
use crate::{
    activation::Activation,
    gpu::{arg, contiguous, dim, empty, empty_like, grid, len, transposed, zeros},
    linear::gpu::{chained, finish},
    matmul::{Precision, gpu::product},
    sum::gpu::column_sums,
    window::gpu::{Sizes, end, first, sizes},
};

/// Numbers copied at a time: 128 MiB.
const ROWS_MAX: usize = 1 << 25;

impl Conv2dOps for CubeBackend {
    fn conv2d_forward(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: FloatTensor<Self>,
        conv: Conv,
        relu: bool,
    ) -> FloatTensor<Self> {
        let (x, b) = (contiguous(x), contiguous(b));
        let w = reshape(contiguous(w), [conv.n_taps(), conv.n_outputs].into());
        let (n, output) = (dim(&x, 0), conv.output());
        let part = |of| product(Precision::F32, rows(&conv, &x, of), w.clone());
        let mut parts: Vec<CubeTensor> = pictures(&conv, n).map(part).collect();
        let y = match parts.len() {
            0 => empty(&x, [0, conv.n_outputs]),
            1 => parts.remove(0),
            _ => contiguous(Self::float_cat(parts, 0)),
        };
        finish(&y, &b, if relu { Activation::Relu } else { Activation::Identity });
        reshape(y, [n, output.height, output.width, output.n_channels].into())
    }
}

impl Conv2dBackward for CubeBackend {
    fn conv2d_backward(
        saved: Saved<Self>,
        dy: FloatTensor<Self>,
        wants_dx: bool,
    ) -> (Option<FloatTensor<Self>>, FloatTensor<Self>, FloatTensor<Self>) {
        let Saved { conv, x, w, y } = saved;
        let (x, dy) = (contiguous(x), contiguous(dy));
        let (n, n_places, n_outputs) = (dim(&x, 0), conv.output().n_pixels(), conv.n_outputs);
        let dz = match y {
            Some(y) => chained(Activation::Relu, y, dy),
            None => dy,
        };
        let dz = reshape(dz, [n * n_places, n_outputs].into());
        let shape = w.meta.shape().clone();
        let w = transposed(reshape(contiguous(w), [conv.n_taps(), n_outputs].into()));
        let dx = wants_dx.then(|| empty_like(&x));
        let mut dw = zeros(&x, [conv.n_taps(), n_outputs]);
        for of in pictures(&conv, n) {
            let dz = slice(dz.clone(), &[of.start * n_places..of.end * n_places, 0..n_outputs]);
            let own = product(Precision::F32, transposed(rows(&conv, &x, of.clone())), dz.clone());
            dw = if of.start == 0 { own } else { Self::float_add(dw, own) };
            if let Some(dx) = &dx {
                let d_rows = product(Precision::F32, dz, w.clone());
                let n = of.len() * conv.input.len();
                let (cubes, units) = grid(&dx.client, n);
                let sizes = sizes(conv.input, conv.window);
                let first = of.start * conv.input.len();
                add_back::launch(&dx.client, cubes, units, arg(&d_rows), arg(dx), first, n, sizes);
            }
        }
        (dx, reshape(dw, shape), column_sums(dz))
    }
}

/// The pictures of a batch, as many at a time as may be copied; none of those without a number.
fn pictures(conv: &Conv, n: usize) -> impl Iterator<Item = Range<usize>> {
    let each = conv.output().n_pixels() * conv.n_taps();
    let n = if each == 0 { 0 } else { n };
    let step = ROWS_MAX.checked_div(each).unwrap_or(1).max(1);
    (0..n).step_by(step).map(move |first| first..(first + step).min(n))
}

/// For each place of the pictures `of`, what its window sees: places × taps.
fn rows(conv: &Conv, x: &CubeTensor, of: Range<usize>) -> CubeTensor {
    let y = empty(x, [of.len() * conv.output().n_pixels(), conv.n_taps()]);
    let (cubes, units) = grid(&y.client, len(&y));
    let sizes = sizes(conv.input, conv.window);
    copy::launch(&y.client, cubes, units, arg(x), arg(&y), of.start, sizes);
    y
}

/// A unit for each number of `y`; the first row of `y` is the first place of picture `first`.
#[cube(launch)]
fn copy(x: &[f32], y: &mut [f32], first: usize, of: Sizes) {
    if ABSOLUTE_POS < y.len() {
        let channel = ABSOLUTE_POS % of.n_channels;
        let tap = ABSOLUTE_POS / of.n_channels % (of.size * of.size);
        let place = ABSOLUTE_POS / of.n_channels / (of.size * of.size);
        let rows = place / of.n_columns;
        let picture = first + rows / of.n_rows;
        // Counted from the padding's edge.
        let r = rows % of.n_rows * of.stride + tap / of.size;
        let c = place % of.n_columns * of.stride + tap % of.size;
        let mut value = 0.0f32;
        if of.padding <= r
            && r < of.height + of.padding
            && of.padding <= c
            && c < of.width + of.padding
        {
            let pixel = (picture * of.height + r - of.padding) * of.width + c - of.padding;
            value = x[pixel * of.n_channels + channel];
        }
        y[ABSOLUTE_POS] = value;
    }
}

/// A unit for each of `n` numbers of `dx` from `first` on: the sum over the windows that cover it, in scan order.
#[cube(launch)]
fn add_back(d_rows: &[f32], dx: &mut [f32], first_number: usize, n: usize, of: Sizes) {
    if ABSOLUTE_POS < n {
        let channel = ABSOLUTE_POS % of.n_channels;
        let pixel = ABSOLUTE_POS / of.n_channels;
        let rows = pixel / of.width;
        let column = pixel % of.width + of.padding;
        let row = rows % of.height + of.padding;
        let picture = rows / of.height;
        let mut total = 0.0f32;
        for r in first(row, of.size, of.stride)..end(row, of.stride, of.n_rows) {
            for c in first(column, of.size, of.stride)..end(column, of.stride, of.n_columns) {
                let tap = (row - r * of.stride) * of.size + column - c * of.stride;
                let place = (picture * of.n_rows + r) * of.n_columns + c;
                total += d_rows[(place * of.size * of.size + tap) * of.n_channels + channel];
            }
        }
        dx[first_number + ABSOLUTE_POS] = total;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Conv, conv2d};
    use crate::{
        testing::gpu::{assert_near, leaf, on_cpu_and_gpu, with_gradients},
        window::{Image, Window},
    };

    #[test]
    fn agrees_with_the_cpu() {
        for (n, side, n_channels, n_outputs, size, stride, padding) in [
            (0, 4, 1, 2, 3, 1, 1),
            (1, 1, 1, 1, 1, 1, 0),
            (2, 7, 3, 5, 3, 2, 1),
            (3, 6, 2, 1, 3, 1, 1),
        ] {
            let input = Image { height: side, width: side, n_channels };
            let conv = Conv { input, n_outputs, window: Window { size, stride, padding } };
            for relu in [false, true] {
                let found = on_cpu_and_gpu(|device| {
                    let (x, b) = (leaf(1, n * input.len(), device), leaf(3, n_outputs, device));
                    let w = leaf(2, conv.n_taps() * n_outputs, device);
                    let y = conv2d(
                        x.clone().reshape([n, side, side, n_channels]),
                        w.clone().reshape([size, size, n_channels, n_outputs]),
                        b.clone(),
                        conv,
                        relu,
                    );
                    with_gradients(y, &[x, w, b])
                });
                let Some((cpu, gpu)) = found else { return };
                assert_near(&cpu, &gpu, 2e-6, (n, conv, relu));
            }
        }
    }
}
