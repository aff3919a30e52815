//! On the GPU a cube takes a group of a picture, in f32: each unit adds every 256th of its numbers in scan order, then
//! [`add_lanes`] their strands. The sums over pictures (dγ, dβ) are those of [`crate::sum`]'s columns.

use burn::backend::tensor::FloatTensor;
use burn_cubecl::{CubeBackend, ops::reshape, tensor::CubeTensor};
use cubecl::prelude::*;

use super::{
    EPS, Norm,
    op::{GroupNormBackward, GroupNormOps, Saved},
};
use crate::{
    activation::Activation,
    gpu::{CUBE, add_lanes, arg, contiguous, dim, empty, empty_like, grid, len, zeros},
    linear::gpu::chained,
    sum::gpu::column_sums,
};

impl GroupNormOps for CubeBackend {
    fn group_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        norm: Norm,
    ) -> FloatTensor<Self> {
        Self::group_norm_kept(x, gamma, beta, norm).0
    }
}

impl GroupNormBackward for CubeBackend {
    /// Pictures × groups × 2.
    type Moments = CubeTensor;

    fn group_norm_kept(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        norm: Norm,
    ) -> (FloatTensor<Self>, Self::Moments) {
        let (x, gamma, beta) = (contiguous(x), contiguous(gamma), contiguous(beta));
        let (y, n_groups) = (empty_like(&x), dim(&x, 0) * norm.n_groups);
        let moments = empty(&x, [n_groups, 2]);
        if 0 < len(&x) {
            let (cubes, units) = grid(&x.client, n_groups * CUBE as usize);
            normalize::launch(
                &x.client,
                cubes,
                units,
                arg(&x),
                arg(&gamma),
                arg(&beta),
                arg(&y),
                arg(&moments),
                EPS as f32,
                sizes(&norm),
                norm.relu,
            );
        }
        (y, moments)
    }

    fn group_norm_backward(saved: Saved<Self>, dy: FloatTensor<Self>) -> [FloatTensor<Self>; 3] {
        let Saved { norm, x, gamma, y, moments } = saved;
        let (x, gamma, dy) = (contiguous(x), contiguous(gamma), contiguous(dy));
        let n_channels = norm.image.n_channels;
        if len(&x) == 0 {
            return [x, zeros(&gamma, [n_channels]), zeros(&gamma, [n_channels])];
        }
        let dz = match y {
            Some(y) => chained(Activation::Relu, y, dy),
            None => dy,
        };
        let (dx, products) = (empty_like(&x), empty(&x, [len(&x) / n_channels, n_channels]));
        let (cubes, units) = grid(&x.client, dim(&moments, 0) * CUBE as usize);
        denormalize::launch(
            &x.client,
            cubes,
            units,
            arg(&x),
            arg(&gamma),
            arg(&moments),
            arg(&dz),
            arg(&dx),
            arg(&products),
            sizes(&norm),
        );
        let dz = reshape(dz, products.meta.shape().clone());
        [dx, column_sums(products), column_sums(dz)]
    }
}

/// Sizes of a picture, in a kernel.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Sizes {
    n_pixels: usize,
    n_channels: usize,
    n_groups: usize,
}

fn sizes(norm: &Norm) -> SizesLaunch {
    SizesLaunch::new(norm.image.n_pixels(), norm.image.n_channels, norm.n_groups)
}

/// Where number `i` of this cube's group is.
#[cube]
fn place(i: usize, of: &Sizes) -> usize {
    let width = of.n_channels / of.n_groups;
    let picture = CUBE_POS / of.n_groups;
    let channel = CUBE_POS % of.n_groups * width + i % width;
    (picture * of.n_pixels + i / width) * of.n_channels + channel
}

/// y and the groups' moments.
#[cube(launch)]
fn normalize(
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    y: &mut [f32],
    moments: &mut [f32],
    eps: f32,
    of: Sizes,
    #[comptime] relu: bool,
) {
    let is_group = CUBE_POS < moments.len() / 2;
    let n = of.n_pixels * (of.n_channels / of.n_groups);
    let steps = n.div_ceil(CUBE as usize);

    let mut total = 0.0f32;
    for step in 0..steps {
        let i = step * CUBE as usize + UNIT_POS as usize;
        if is_group && i < n {
            total += x[place(i, &of)];
        }
    }
    let mean = add_lanes(total, CUBE) / n as f32;
    let mut total = 0.0f32;
    for step in 0..steps {
        let i = step * CUBE as usize + UNIT_POS as usize;
        if is_group && i < n {
            let centred = x[place(i, &of)] - mean;
            total += centred * centred;
        }
    }
    let variance = add_lanes(total, CUBE) / n as f32;
    let scale = 1.0f32 / (variance + eps).sqrt();
    if is_group {
        for step in 0..steps {
            let i = step * CUBE as usize + UNIT_POS as usize;
            if i < n {
                let at = place(i, &of);
                let channel = at % of.n_channels;
                let z = fma((x[at] - mean) * scale, gamma[channel], beta[channel]);
                // NaN must stay visible: `z < 0` is false for it.
                y[at] = if comptime!(relu) { select(z < 0.0f32, 0.0f32, z) } else { z };
            }
        }
        if UNIT_POS == 0 {
            moments[CUBE_POS * 2] = mean;
            moments[CUBE_POS * 2 + 1] = scale;
        }
    }
}

/// dx, and dz · x̂ for dγ.
#[cube(launch)]
fn denormalize(
    x: &[f32],
    gamma: &[f32],
    moments: &[f32],
    dz: &[f32],
    dx: &mut [f32],
    products: &mut [f32],
    of: Sizes,
) {
    let is_group = CUBE_POS < moments.len() / 2;
    let n = of.n_pixels * (of.n_channels / of.n_groups);
    let steps = n.div_ceil(CUBE as usize);
    let mut mean = 0.0f32;
    let mut scale = 0.0f32;
    if is_group {
        mean = moments[CUBE_POS * 2];
        scale = moments[CUBE_POS * 2 + 1];
    }

    let mut total = 0.0f32;
    let mut slope = 0.0f32;
    for step in 0..steps {
        let i = step * CUBE as usize + UNIT_POS as usize;
        if is_group && i < n {
            let at = place(i, &of);
            let normed = (x[at] - mean) * scale;
            let g = dz[at] * gamma[at % of.n_channels];
            total += g;
            slope += g * normed;
            products[at] = dz[at] * normed;
        }
    }
    let total = add_lanes(total, CUBE) / n as f32;
    let slope = add_lanes(slope, CUBE) / n as f32;
    if is_group {
        for step in 0..steps {
            let i = step * CUBE as usize + UNIT_POS as usize;
            if i < n {
                let at = place(i, &of);
                let normed = (x[at] - mean) * scale;
                let g = dz[at] * gamma[at % of.n_channels];
                dx[at] = scale * (g - total - normed * slope);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Norm, group_norm};
    use crate::{
        testing::gpu::{assert_near, leaf, on_cpu_and_gpu, with_gradients},
        window::Image,
    };

    #[test]
    fn agrees_with_the_cpu() {
        for (n, side, n_channels, n_groups) in
            [(0, 3, 4, 2), (1, 3, 2, 1), (2, 5, 6, 3), (2, 17, 2, 2)]
        {
            for relu in [false, true] {
                let image = Image { height: side, width: side, n_channels };
                let norm = Norm { image, n_groups, relu };
                let found = on_cpu_and_gpu(|device| {
                    let x = leaf(1, n * image.len(), device);
                    let (gamma, beta) = (leaf(2, n_channels, device), leaf(3, n_channels, device));
                    let xs = x.clone().reshape([n, side, side, n_channels]);
                    let y = group_norm(xs, gamma.clone(), beta.clone(), norm);
                    with_gradients(y, &[x, gamma, beta])
                });
                let Some((cpu, gpu)) = found else { return };
                assert_near(&cpu, &gpu, 3e-6, (n, norm));
            }
        }
    }
}
