//! On the GPU a unit averages one element, in place.

use burn::backend::tensor::FloatTensor;
use burn_cubecl::CubeBackend;
use cubecl::prelude::*;

use super::op::EmaOps;
use crate::gpu::{arg, contiguous, grid, len, owned};

impl EmaOps for CubeBackend {
    fn ema(e: FloatTensor<Self>, p: FloatTensor<Self>, decay: f64) -> FloatTensor<Self> {
        let (e, p) = (owned(e), contiguous(p));
        if 0 < len(&e) {
            let (cubes, units) = grid(&e.client, len(&e));
            let share = (1.0 - decay) as f32;
            average::launch(&e.client, cubes, units, arg(&e), arg(&p), share);
        }
        e
    }
}

/// See [`super::reference`].
#[cube(launch)]
fn average(e: &mut [f32], p: &[f32], share: f32) {
    if ABSOLUTE_POS < e.len() {
        e[ABSOLUTE_POS] = e[ABSOLUTE_POS] + (p[ABSOLUTE_POS] - e[ABSOLUTE_POS]) * share;
    }
}

#[cfg(test)]
mod tests {
    use super::super::ema;
    use crate::testing::{
        gpu::{assert_near, elements, on_cpu_and_gpu, tensor},
        uniform,
    };

    #[test]
    fn agrees_with_the_cpu() {
        for n in [0, 1, 255, 257] {
            let found = on_cpu_and_gpu(|device| {
                let new = |seed| tensor(uniform(seed, n), [n], device);
                elements(ema(new(1), new(2), 0.99))
            });
            let Some((cpu, gpu)) = found else { return };
            assert_near(&cpu, &gpu, 1e-7, n);
        }
    }
}
