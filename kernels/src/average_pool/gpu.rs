//! On the GPU a unit adds a channel of a picture in scan order, as the CPU does: the same bits.

use burn::backend::tensor::FloatTensor;
use burn_cubecl::CubeBackend;
use cubecl::prelude::*;

use super::op::{AveragePoolBackward, AveragePoolOps};
use crate::{
    gpu::{arg, contiguous, dim, empty, grid, len},
    window::Image,
};

impl AveragePoolOps for CubeBackend {
    fn average_pool(x: FloatTensor<Self>, image: Image) -> FloatTensor<Self> {
        let x = contiguous(x);
        let y = empty(&x, [dim(&x, 0), image.n_channels]);
        if 0 < len(&x) {
            let (cubes, units) = grid(&y.client, len(&y));
            add::launch(
                &y.client,
                cubes,
                units,
                arg(&x),
                arg(&y),
                image.n_pixels(),
                image.n_channels,
            );
        }
        y
    }
}

impl AveragePoolBackward for CubeBackend {
    fn average_pool_backward(image: Image, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        let dy = contiguous(dy);
        let dx = empty(&dy, [dim(&dy, 0), image.height, image.width, image.n_channels]);
        if 0 < len(&dx) {
            let (cubes, units) = grid(&dx.client, len(&dx));
            let (n_pixels, n_channels) = (image.n_pixels(), image.n_channels);
            share::launch(&dx.client, cubes, units, arg(&dy), arg(&dx), n_pixels, n_channels);
        }
        dx
    }
}

/// A unit for each number of `y`.
#[cube(launch)]
fn add(x: &[f32], y: &mut [f32], n_pixels: usize, n_channels: usize) {
    if ABSOLUTE_POS < y.len() {
        let picture = ABSOLUTE_POS / n_channels;
        let channel = ABSOLUTE_POS % n_channels;
        let mut total = 0.0f32;
        for pixel in 0..n_pixels {
            total += x[(picture * n_pixels + pixel) * n_channels + channel];
        }
        y[ABSOLUTE_POS] = total / n_pixels as f32;
    }
}

/// A unit for each number of `dx`.
#[cube(launch)]
fn share(dy: &[f32], dx: &mut [f32], n_pixels: usize, n_channels: usize) {
    if ABSOLUTE_POS < dx.len() {
        let picture = ABSOLUTE_POS / n_channels / n_pixels;
        dx[ABSOLUTE_POS] = dy[picture * n_channels + ABSOLUTE_POS % n_channels] / n_pixels as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::super::average_pool;
    use crate::{
        testing::gpu::{assert_near, leaf, on_cpu_and_gpu, with_gradients},
        window::Image,
    };

    /// Added in the CPU's order; a division may be off by a unit in the last place.
    #[test]
    fn agrees_with_the_cpu() {
        for (n, side, n_channels) in [(0, 3, 2), (1, 1, 1), (3, 4, 5)] {
            let image = Image { height: side, width: side, n_channels };
            let found = on_cpu_and_gpu(|device| {
                let x = leaf(1, n * image.len(), device);
                let y = average_pool(x.clone().reshape([n, side, side, n_channels]), image);
                with_gradients(y, &[x])
            });
            let Some((cpu, gpu)) = found else { return };
            assert_near(&cpu, &gpu, 2e-7, (n, image));
        }
    }
}
