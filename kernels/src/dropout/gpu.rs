//! The mask on the GPU: a unit draws a block of four and drops what of it lies in `x`. Integers alone decide, so the mask is
//! the CPU's bit for bit; the kept are scaled by one product.

use burn::backend::tensor::FloatTensor;
use burn_cubecl::CubeBackend;
use cubecl::prelude::*;

use super::{Mask, op::DropoutOps};
use crate::{
    gpu::{arg, contiguous, empty_like, grid, len},
    philox::gpu::philox,
};

impl DropoutOps for CubeBackend {
    fn dropout(x: FloatTensor<Self>, mask: Mask) -> FloatTensor<Self> {
        let x = contiguous(x);
        if len(&x) == 0 {
            return x;
        }
        let y = empty_like(&x);
        let lane = (mask.first % 4) as usize;
        let (cubes, units) = grid(&x.client, (lane + len(&x)).div_ceil(4));
        let Mask { draw, keep_from, scale, .. } = mask;
        drop_units::launch(
            &x.client,
            cubes,
            units,
            arg(&x),
            arg(&y),
            lane,
            (mask.first / 4) as u32,
            draw.major as u32,
            (draw.major >> 32) as u32,
            draw.key[0],
            draw.key[1],
            keep_from,
            scale,
        );
        y
    }
}

/// Element 0 of `x` is element `lane` of block `first`.
#[cube(launch)]
fn drop_units(
    x: &[f32],
    y: &mut [f32],
    lane: usize,
    first: u32,
    major_low: u32,
    major_high: u32,
    key0: u32,
    key1: u32,
    keep_from: u32,
    scale: f32,
) {
    let from = ABSOLUTE_POS * 4;
    if from < lane + x.len() {
        let block = first + ABSOLUTE_POS as u32;
        let (b0, b1, b2, b3) = philox(block, 0, major_low, major_high, key0, key1);
        drop_unit(x, y, from, lane, b0 < keep_from, scale);
        drop_unit(x, y, from + 1, lane, b1 < keep_from, scale);
        drop_unit(x, y, from + 2, lane, b2 < keep_from, scale);
        drop_unit(x, y, from + 3, lane, b3 < keep_from, scale);
    }
}

#[cube]
fn drop_unit(x: &[f32], y: &mut [f32], at: usize, lane: usize, dropped: bool, scale: f32) {
    if lane <= at && at < lane + x.len() {
        let i = at - lane;
        y[i] = if dropped { 0.0f32 } else { x[i] * scale };
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Mask, dropout};
    use crate::{
        philox::Draw,
        testing::{
            assert_same_bits,
            gpu::{elements, leaf, on_cpu_and_gpu, tensor, with_gradients},
            uniform,
        },
    };

    fn mask(first_row: u32) -> Mask {
        Mask::new(0.3, Draw { key: [0x9E37_79B9, 2], first_row, major: (5 << 32) + 9 })
    }

    #[test]
    fn mask_and_gradient_are_the_cpus_bit_for_bit() {
        for (n_rows, width, first_row) in
            [(0, 3, 0), (1, 1, 0), (255, 1, 1), (257, 3, 2), (85, 3, 999), (40, 7, u32::MAX)]
        {
            let found = on_cpu_and_gpu(|device| {
                let x = leaf(1, n_rows * width, device);
                let y = dropout(x.clone().reshape([n_rows, width]), mask(first_row));
                with_gradients(y, &[x])
            });
            let Some((cpu, gpu)) = found else { return };
            assert_same_bits(&cpu, &gpu, (n_rows, width, first_row));
        }
    }

    #[test]
    fn strides_and_special_values() {
        let mut x = uniform(1, 60);
        x[..6].copy_from_slice(&[f32::INFINITY, f32::NEG_INFINITY, 1e38, -1e38, 1e-45, -0.0]);
        let found = on_cpu_and_gpu(|device| {
            let x = tensor(x.clone(), [12, 5], device).swap_dims(0, 1);
            elements(dropout(x, mask(3)))
        });
        let Some((cpu, gpu)) = found else { return };
        assert_same_bits(&cpu, &gpu, "transposed");
        let found = on_cpu_and_gpu(|device| {
            elements(dropout(tensor(vec![f32::NAN; 64], [64], device), mask(0)))
        });
        let Some((cpu, gpu)) = found else { return };
        for (cpu, gpu) in cpu.iter().zip(&gpu) {
            assert_eq!(cpu.is_nan(), gpu.is_nan(), "a dropped NaN is 0, a kept one stays");
        }
    }
}
