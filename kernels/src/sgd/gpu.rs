//! On the GPU a unit updates one element, in place.

use burn::backend::tensor::FloatTensor;
use burn_cubecl::CubeBackend;
use cubecl::prelude::*;

use super::{Step, op::SgdOps};
use crate::gpu::{arg, contiguous, grid, len, owned};

impl SgdOps for CubeBackend {
    fn sgd(
        p: FloatTensor<Self>,
        g: FloatTensor<Self>,
        m: FloatTensor<Self>,
        step: Step,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (p, g, m) = (owned(p), contiguous(g), owned(m));
        if 0 < len(&p) {
            let (cubes, units) = grid(&p.client, len(&p));
            update::launch(
                &p.client,
                cubes,
                units,
                arg(&p),
                arg(&g),
                arg(&m),
                step.gradient_scale,
                step.weight_decay as f32,
                step.momentum as f32,
                step.learning_rate as f32,
                step.nesterov,
            );
        }
        (p, m)
    }
}

/// See [`super::reference`].
#[cube(launch)]
fn update(
    p: &mut [f32],
    g: &[f32],
    m: &mut [f32],
    scale: f32,
    decay: f32,
    momentum: f32,
    rate: f32,
    #[comptime] nesterov: bool,
) {
    if ABSOLUTE_POS < p.len() {
        let g = g[ABSOLUTE_POS] * scale + p[ABSOLUTE_POS] * decay;
        let m1 = m[ABSOLUTE_POS] * momentum + g;
        let direction = if comptime!(nesterov) { g + m1 * momentum } else { m1 };
        m[ABSOLUTE_POS] = m1;
        p[ABSOLUTE_POS] -= direction * rate;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Step, sgd};
    use crate::testing::{
        gpu::{assert_near, elements, on_cpu_and_gpu, tensor},
        uniform,
    };

    /// Within two roundings of each element.
    #[test]
    fn two_updates_agree_with_the_cpu() {
        for (n, nesterov) in [(0, false), (1, true), (255, false), (257, true)] {
            let step = Step {
                learning_rate: 0.1,
                momentum: 0.9,
                nesterov,
                weight_decay: 0.01,
                gradient_scale: 0.7,
            };
            let found = on_cpu_and_gpu(|device| {
                let new = |seed| tensor(uniform(seed, n), [n], device);
                let (mut p, mut m) = (new(1), new(2) * 0.01);
                for seed in 3..5 {
                    (p, m) = sgd(p, new(seed), m, step);
                }
                [elements(p), elements(m)].concat()
            });
            let Some((cpu, gpu)) = found else { return };
            assert_near(&cpu, &gpu, 2e-7, (n, nesterov));
        }
    }
}
