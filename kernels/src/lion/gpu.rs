//! On the GPU a unit updates one element, in place.

use burn::backend::tensor::FloatTensor;
use burn_cubecl::CubeBackend;
use cubecl::prelude::*;

use super::{Step, op::LionOps};
use crate::gpu::{arg, contiguous, grid, len, owned};

impl LionOps for CubeBackend {
    fn lion(
        p: FloatTensor<Self>,
        g: FloatTensor<Self>,
        m: FloatTensor<Self>,
        step: Step,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (p, g, m) = (owned(p), contiguous(g), owned(m));
        if 0 < len(&p) {
            let (cubes, units) = grid(&p.client, len(&p));
            let f = step.factors();
            let factors = GpuFactorsLaunch::new(
                f.gradient,
                f.keep,
                f.beta1,
                f.one_minus_beta1,
                f.beta2,
                f.one_minus_beta2,
                f.rate,
            );
            update::launch(&p.client, cubes, units, arg(&p), arg(&g), arg(&m), factors);
        }
        (p, m)
    }
}

/// [`super::Factors`] in a kernel.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct GpuFactors {
    gradient: f32,
    keep: f32,
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    rate: f32,
}

/// See [`super::reference`].
#[cube(launch)]
fn update(p: &mut [f32], g: &[f32], m: &mut [f32], f: GpuFactors) {
    if ABSOLUTE_POS < p.len() {
        let g = g[ABSOLUTE_POS] * f.gradient;
        let c = m[ABSOLUTE_POS] * f.beta1 + g * f.one_minus_beta1;
        // NaN passes both, so that a fault shows.
        let sign = select(c < 0.0f32, -1.0f32, select(0.0f32 < c, 1.0f32, c));
        m[ABSOLUTE_POS] = m[ABSOLUTE_POS] * f.beta2 + g * f.one_minus_beta2;
        p[ABSOLUTE_POS] = p[ABSOLUTE_POS] * f.keep - f.rate * sign;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Step, lion};
    use crate::testing::{
        gpu::{assert_near, elements, on_cpu_and_gpu, tensor},
        uniform,
    };

    /// Within two roundings of each element: no sign is near enough to zero to be another's.
    #[test]
    fn two_updates_agree_with_the_cpu() {
        let step = Step {
            learning_rate: 0.01,
            beta1: 0.9,
            beta2: 0.99,
            weight_decay: 0.1,
            gradient_scale: 0.7,
        };
        for n in [0, 1, 255, 257] {
            let found = on_cpu_and_gpu(|device| {
                let new = |seed| tensor(uniform(seed, n), [n], device);
                let (mut p, mut m) = (new(1), new(2));
                for seed in 3..5 {
                    (p, m) = lion(p, new(seed), m, step);
                }
                [elements(p), elements(m)].concat()
            });
            let Some((cpu, gpu)) = found else { return };
            assert_near(&cpu, &gpu, 2e-7, n);
        }
        let found = on_cpu_and_gpu(|device| {
            let zero = tensor(vec![0.0; 3], [3], device);
            let g = tensor(vec![0.0, f32::NAN, f32::INFINITY], [3], device);
            elements(lion(zero.clone(), g, zero, step).0)
        });
        let Some((cpu, gpu)) = found else { return };
        assert_near(&cpu, &gpu, 0.0, "nothing, NaN and infinity");
    }
}
