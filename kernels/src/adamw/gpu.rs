//! On the GPU a unit updates one element, in place, and a launch updates all parameters that share their numbers: as many as
//! the device lets a kernel hold.

use burn::tensor::Tensor;
use burn_cubecl::{CubeBackend, tensor::CubeTensor};
use cubecl::prelude::*;

use super::{Slot, Step};
use crate::gpu::{CUBE, arg, contiguous, grid, len, many, owned};

/// A parameter, its gradient and its moments.
type Parts = [CubeTensor; 4];

/// Gives the slots back when they are not on a GPU.
pub(super) fn adamw_all(slots: Vec<Slot>) -> Result<Vec<[Tensor<1>; 3]>, Vec<Slot>> {
    let is_gpu = |it: &Slot| it.p.clone().try_into_primitive::<CubeBackend>().is_ok();
    if !slots.iter().all(is_gpu) {
        return Err(slots);
    }
    let parts = |slot: Slot| {
        let cube = |it: Tensor<1>| it.try_into_primitive::<CubeBackend>().expect("with the others");
        let Slot { p, g, m, v, step } = slot;
        (step, [owned(cube(p)), contiguous(cube(g)), owned(cube(m)), owned(cube(v))])
    };
    let all: Vec<(Step, Parts)> = slots.into_iter().map(parts).collect();
    let mut steps: Vec<Step> = Vec::new();
    for (step, _) in &all {
        if !steps.contains(step) {
            steps.push(*step);
        }
    }
    for step in steps {
        let alike = |(own, parts): &&(Step, Parts)| *own == step && 0 < len(&parts[0]);
        let alike: Vec<&Parts> = all.iter().filter(alike).map(|it| &it.1).collect();
        let Some(first) = alike.first() else { continue };
        let client = first[0].client.clone();
        for some in alike.chunks(many(&client, 4)) {
            let n_cubes: usize = some.iter().map(|it| len(&it[0]).div_ceil(CUBE as usize)).sum();
            let (cubes, units) = grid(&client, n_cubes * CUBE as usize);
            let [p, g, m, v] = [0, 1, 2, 3].map(|i| some.iter().map(|it| arg(&it[i])).collect());
            update::launch(&client, cubes, units, p, g, m, v, factors(&step));
        }
    }
    let back =
        |(_, [p, _, m, v]): (Step, Parts)| [p, m, v].map(Tensor::from_primitive::<CubeBackend>);
    Ok(all.into_iter().map(back).collect())
}

fn factors(step: &Step) -> GpuFactorsLaunch {
    let f = step.factors();
    GpuFactorsLaunch::new(
        f.gradient,
        f.keep,
        f.one_minus_beta1,
        f.beta2,
        f.one_minus_beta2,
        f.root_correction2,
        f.epsilon,
        f.step_size,
    )
}

/// [`super::Factors`] in a kernel.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct GpuFactors {
    gradient: f32,
    keep: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    root_correction2: f32,
    epsilon: f32,
    step_size: f32,
}

/// See [`super::reference`]. Cubes are counted through all parameters; each finds the one it belongs to.
#[cube(launch)]
fn update(
    p: &mut Sequence<Box<[f32]>>,
    g: &Sequence<Box<[f32]>>,
    m: &mut Sequence<Box<[f32]>>,
    v: &mut Sequence<Box<[f32]>>,
    f: GpuFactors,
) {
    let mut before = 0;
    #[unroll]
    for i in 0..g.len() {
        let own = g[i].len().div_ceil(CUBE as usize);
        if before <= CUBE_POS && CUBE_POS < before + own {
            let at = (CUBE_POS - before) * CUBE as usize + UNIT_POS as usize;
            if at < g[i].len() {
                let (p, m, v) = (&mut p[i], &mut m[i], &mut v[i]);
                let g = g[i][at] * f.gradient;
                let m1 = m[at] + (g - m[at]) * f.one_minus_beta1;
                let v1 = v[at] * f.beta2 + f.one_minus_beta2 * g * g;
                let denominator = v1.sqrt() / f.root_correction2 + f.epsilon;
                m[at] = m1;
                v[at] = v1;
                p[at] = p[at] * f.keep - f.step_size * (m1 / denominator);
            }
        }
        before += own;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Slot, Step, adamw, adamw_all};
    use crate::testing::{
        gpu::{assert_near, elements, on_cpu_and_gpu, tensor},
        uniform,
    };

    /// Two updates, so that the moments of the first are read by the second. Within three roundings of each element.
    #[test]
    fn two_updates_agree_with_the_cpu() {
        for n in [0, 1, 255, 257, 1000] {
            let found = on_cpu_and_gpu(|device| {
                let new = |seed| tensor(uniform(seed, n), [n], device);
                let (mut p, mut m, mut v) = (new(1), new(2) * 0.01, new(3).abs() * 0.01);
                for t in 1..=2 {
                    let g = tensor(uniform(t as u32, n), [n], device);
                    (p, m, v) = adamw(p, g, m, v, Step::new(0.01, 0.1, 0.7, t));
                }
                [elements(p), elements(m), elements(v)].concat()
            });
            let Some((cpu, gpu)) = found else { return };
            assert_near(&cpu, &gpu, 3e-7, n);
        }
    }

    /// More parameters than a launch takes, of two kinds, some empty.
    #[test]
    fn all_parameters_at_once_are_one_after_the_other() {
        let sizes: Vec<usize> = (0..41).map(|i| i * i % 300).collect();
        let found = on_cpu_and_gpu(|device| {
            let slot = |(i, n): (usize, &usize)| {
                let new = |seed: usize| tensor(uniform((i * 4 + seed) as u32, *n), [*n], device);
                let step = Step::new(0.01, if i % 2 == 0 { 0.1 } else { 0.0 }, 0.7, 3);
                Slot { p: new(0), g: new(1), m: new(2), v: new(3).abs(), step }
            };
            let all = adamw_all(sizes.iter().enumerate().map(slot).collect());
            all.into_iter().flatten().flat_map(elements).collect()
        });
        let Some((cpu, gpu)) = found else { return };
        assert_near(&cpu, &gpu, 3e-7, "41 parameters");
    }

    /// What somebody else holds is not written.
    #[test]
    fn shared_tensors_keep_their_values() {
        let found = on_cpu_and_gpu(|device| {
            let p = tensor(uniform(1, 300), [300], device);
            let (m, v) = (p.zeros_like(), p.zeros_like());
            let _ = adamw(p.clone(), p.clone(), m.clone(), v.clone(), Step::new(0.01, 0.1, 1.0, 1));
            [elements(p), elements(m), elements(v)].concat()
        });
        let Some((cpu, gpu)) = found else { return };
        assert_near(&cpu, &gpu, 0.0, "unchanged");
    }

    #[test]
    fn special_values() {
        let g = [f32::NAN, f32::INFINITY, 1e30, 1e-30, 0.0];
        let found = on_cpu_and_gpu(|device| {
            let g = tensor(g.to_vec(), [5], device);
            let (p, m, v) = (g.ones_like(), g.zeros_like(), g.zeros_like());
            let (p, m, v) = adamw(p, g, m, v, Step::new(0.01, 0.1, 1.0, 1));
            [elements(p), elements(m), elements(v)].concat()
        });
        let Some((cpu, gpu)) = found else { return };
        for (i, (cpu, gpu)) in cpu.iter().zip(&gpu).enumerate() {
            assert_near(&[*cpu], &[*gpu], 1e-6, (i, g[i % 5]));
        }
    }
}
