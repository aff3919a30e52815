//! On the GPU in f32: squares are added in the order of [`crate::sum`]. A gradient beyond 1.8e19 has an infinite square
//! there, where the CPU's f64 still holds it: such an update counts as not finite.

use burn::tensor::Tensor;
use burn_cubecl::{CubeBackend, tensor::CubeTensor};
use cubecl::prelude::*;

use crate::{
    gpu::{CUBE, add_lanes, arg, contiguous, empty, grid, len, many, zeros},
    sum::gpu::{BLOCK, STEPS, sum},
};

/// Nothing when the gradients are not on a GPU.
pub(super) fn square_sum(gradients: &[Tensor<1>]) -> Option<Tensor<1>> {
    let on_gpu = |it: &Tensor<1>| it.clone().try_into_primitive::<CubeBackend>().ok();
    let gradients = gradients.iter().map(on_gpu).collect::<Option<Vec<CubeTensor>>>()?;
    let any = gradients.first()?.clone();
    let gradients: Vec<CubeTensor> =
        gradients.into_iter().filter(|it| 0 < len(it)).map(contiguous).collect();
    let n_blocks = gradients.iter().map(n_blocks).sum();
    if n_blocks == 0 {
        return Some(Tensor::from_primitive::<CubeBackend>(zeros(&any, [1])));
    }
    let sums = empty(&any, [n_blocks]);
    let mut first = 0;
    for part in gradients.chunks(many(&any.client, 1)) {
        let n = part.iter().map(self::n_blocks).sum::<usize>();
        let (cubes, units) = grid(&any.client, n * CUBE as usize);
        let all = part.iter().map(arg).collect();
        square_block_sums::launch(&any.client, cubes, units, all, arg(&sums), first, n);
        first += n;
    }
    Some(Tensor::from_primitive::<CubeBackend>(if n_blocks == 1 { sums } else { sum(sums) }))
}

fn n_blocks(gradient: &CubeTensor) -> usize {
    len(gradient).div_ceil(BLOCK)
}

/// Cube i writes the sum of squares of block i of `n`, counted through all of `gradients`, to y\[first + i\].
#[cube(launch)]
fn square_block_sums(gradients: &Sequence<Box<[f32]>>, y: &mut [f32], first: usize, n: usize) {
    let mut total = 0.0f32;
    let mut before = 0;
    #[unroll]
    for i in 0..gradients.len() {
        let x = &gradients[i];
        let own = x.len().div_ceil(BLOCK);
        if before <= CUBE_POS && CUBE_POS < before + own {
            let from = (CUBE_POS - before) * BLOCK;
            for step in 0..STEPS {
                let at = from + step * CUBE as usize + UNIT_POS as usize;
                if at < x.len() {
                    total += x[at] * x[at];
                }
            }
        }
        before += own;
    }
    let total = add_lanes(total, CUBE);
    if UNIT_POS == 0 && CUBE_POS < n {
        y[first + CUBE_POS] = total;
    }
}

#[cfg(test)]
mod tests {
    use super::super::square_sum;
    use crate::testing::{
        gpu::{assert_near, elements, on_cpu_and_gpu, tensor},
        uniform,
    };

    fn run(x: Vec<f32>) -> Option<(f32, f32)> {
        let found = on_cpu_and_gpu(|device| {
            let cut = |range: std::ops::Range<usize>| {
                tensor(x[range.clone()].to_vec(), [range.len()], device)
            };
            // Cut into as many parameters as one launch can take and more.
            let n = x.len();
            let parts: Vec<_> = (0..40).map(|i| cut(i * n / 40..(i + 1) * n / 40)).collect();
            elements(square_sum(&parts))
        });
        found.map(|(cpu, gpu)| (cpu[0], gpu[0]))
    }

    #[test]
    fn agrees_with_the_cpu_within_an_f32_sum() {
        for n in [0, 1, 255, 257, 40_000] {
            let Some((cpu, gpu)) = run(uniform(1, n)) else { return };
            assert_near(&[cpu], &[gpu], 1e-6, n);
        }
    }

    /// What f32 cannot hold is infinite on the GPU; what is not finite shows on both.
    #[test]
    fn special_values() {
        let Some((cpu, gpu)) = run(vec![1e30, 1.0]) else { return };
        assert!((cpu.is_infinite() || cpu.is_finite()) && gpu.is_infinite(), "{cpu} {gpu}");
        for x in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            let Some((cpu, gpu)) = run(vec![1.0, x]) else { return };
            assert!(!cpu.is_finite() && !gpu.is_finite(), "{x}: {cpu} {gpu}");
        }
    }
}
