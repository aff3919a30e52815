//! Losses on the GPU, in f32: a unit for each row, and the rows' shares of the mean added by [`crate::sum`].
//!
//! Derivatives are written so that nothing cancels: the CPU subtracts the label in f64, which is not there in WGSL.

use burn::backend::{ops::FloatTensorOps, tensor::FloatTensor};
use burn_cubecl::CubeBackend;
use cubecl::prelude::*;

use super::{
    Loss,
    op::{LossOps, LossWithGradient},
};
use crate::{
    elementary::gpu::exp,
    gpu::{arg, contiguous, dim, empty, empty_like, grid, len, zeros},
    sum::gpu::sum,
};

impl LossOps for CubeBackend {
    fn weighted_mean(
        loss: Loss,
        z: FloatTensor<Self>,
        y: FloatTensor<Self>,
        w: FloatTensor<Self>,
        total: f64,
    ) -> FloatTensor<Self> {
        Self::loss_with_gradient(loss, z, y, w, total).0
    }
}

impl LossWithGradient for CubeBackend {
    fn loss_with_gradient(
        loss: Loss,
        z: FloatTensor<Self>,
        y: FloatTensor<Self>,
        w: FloatTensor<Self>,
        total: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (z, y, w) = (contiguous(z), contiguous(y), contiguous(w));
        let (n_rows, n_outputs) = (dim(&z, 0), dim(&z, 1));
        if len(&z) == 0 {
            return (zeros(&z, [1]), z);
        }
        let share = if total.abs() <= 0.0 { 0.0 } else { 1.0 / total } as f32;
        let (rows, dz) = (empty(&z, [n_rows]), empty_like(&z));
        let (cubes, units) = grid(&z.client, n_rows);
        let client = z.client.clone();
        let (z, y, w, out) = (arg(&z), arg(&y), arg(&w), arg(&rows));
        match loss {
            Loss::Binary => binary::launch(&client, cubes, units, z, y, w, out, arg(&dz), share),
            // What smoothing adds is not here: `weighted_mean` composes it.
            Loss::Multiclass | Loss::Smoothed { .. } => {
                let dz = arg(&dz);
                multiclass::launch(
                    &client,
                    cubes,
                    units,
                    z,
                    y,
                    w,
                    out,
                    dz,
                    share,
                    n_outputs,
                    f32::NAN,
                );
            }
            Loss::Squared => squared::launch(&client, cubes, units, z, y, w, out, arg(&dz), share),
        }
        (sum(rows), dz)
    }

    fn scaled(dz: FloatTensor<Self>, upstream: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_mul(dz, Self::float_reshape(upstream, [1, 1].into()))
    }
}

/// [`crate::bce`].
#[cube(launch)]
fn binary(z: &[f32], y: &[f32], w: &[f32], rows: &mut [f32], dz: &mut [f32], share: f32) {
    if ABSOLUTE_POS < rows.len() {
        let (z, y) = (z[ABSOLUTE_POS], y[ABSOLUTE_POS]);
        let weight = w[ABSOLUTE_POS] * share;
        let e = exp(-z.abs());
        // max(z, 0) by comparison: `max` may drop a NaN.
        let above = select(z <= 0.0f32, 0.0f32, z);
        rows[ABSOLUTE_POS] = weight * (above - z * y + log1p(e));
        // 1/(1 + e^(−z)) − y over one denominator.
        let above = select(z <= 0.0f32, e * (1.0f32 - y) - y, (1.0f32 - y) - e * y);
        dz[ABSOLUTE_POS] = weight * (above / (1.0f32 + e));
    }
}

/// [`crate::cross_entropy`]. `undefined` is NaN, which WGSL cannot spell.
#[cube(launch)]
fn multiclass(
    z: &[f32],
    y: &[f32],
    w: &[f32],
    rows: &mut [f32],
    dz: &mut [f32],
    share: f32,
    n_outputs: usize,
    undefined: f32,
) {
    if ABSOLUTE_POS < rows.len() {
        let (from, label) = (ABSOLUTE_POS * n_outputs, y[ABSOLUTE_POS]);
        let weight = w[ABSOLUTE_POS] * share;
        let is_class = 0.0f32 <= label && label < n_outputs as f32;
        let class = if is_class { label as usize } else { n_outputs };

        let mut best = 0;
        for j in 1..n_outputs {
            if z[from + best] < z[from + j] {
                best = j;
            }
        }
        let most = z[from + best];
        // Without the best: ln(1 + rest) is exact where the best is nearly certain. Without the own class: so is 1 − p.
        let mut rest = 0.0f32;
        let mut others = 0.0f32;
        for j in 0..n_outputs {
            let e = exp(z[from + j] - most);
            if j != best {
                rest += e;
            }
            if j != class {
                others += e;
            }
        }
        for j in 0..n_outputs {
            let p = exp(z[from + j] - most) / (1.0f32 + rest);
            dz[from + j] = weight * p;
        }
        if is_class {
            rows[ABSOLUTE_POS] = weight * (most - z[from + class] + log1p(rest));
            dz[from + class] = -weight * (others / (1.0f32 + rest));
        } else {
            rows[ABSOLUTE_POS] = undefined;
            for j in 0..n_outputs {
                dz[from + j] = undefined;
            }
        }
    }
}

/// [`crate::squared_error`].
#[cube(launch)]
fn squared(z: &[f32], y: &[f32], w: &[f32], rows: &mut [f32], dz: &mut [f32], share: f32) {
    if ABSOLUTE_POS < rows.len() {
        let error = z[ABSOLUTE_POS] - y[ABSOLUTE_POS];
        let weight = w[ABSOLUTE_POS] * share;
        rows[ABSOLUTE_POS] = weight * (error * error);
        dz[ABSOLUTE_POS] = weight * (2.0f32 * error);
    }
}

/// ln(1 + x) for 0 ≤ x. Below 1 as 2 artanh(s), s = x / (2 + x), which stays relatively exact where ln(1 + x) is about x;
/// the series ends where its next term is below 2e-9 of the first.
#[cube]
fn log1p(x: f32) -> f32 {
    if x <= 1.0f32 {
        let s = x / (2.0f32 + x);
        let t = s * s;
        let series = fma(t, 0.066_666_67f32, 0.076_923_08f32);
        let series = fma(series, t, 0.090_909_09f32);
        let series = fma(series, t, 0.111_111_11f32);
        let series = fma(series, t, 0.142_857_15f32);
        let series = fma(series, t, 0.2f32);
        let series = fma(series, t, 0.333_333_34f32);
        2.0f32 * s * (1.0f32 + t * series)
    } else {
        (1.0f32 + x).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Loss, weighted_mean};
    use crate::testing::{
        gpu::{assert_near, elements, on_cpu_and_gpu, tensor},
        uniform,
    };

    const ALL: [(Loss, usize); 4] = [
        (Loss::Binary, 1),
        (Loss::Multiclass, 4),
        (Loss::Smoothed { share: 0.2 }, 4),
        (Loss::Squared, 1),
    ];

    /// The loss and the derivatives of `z`, on both devices.
    fn run(
        loss: Loss,
        z: &[f32],
        y: &[f32],
        w: &[f32],
        total: f64,
    ) -> Option<(Vec<f32>, Vec<f32>)> {
        let shape = [y.len(), z.len() / y.len().max(1)];
        on_cpu_and_gpu(|device| {
            let device = device.clone().autodiff();
            let new = |x: &[f32]| tensor(x.to_vec(), [x.len()], &device);
            let z = tensor(z.to_vec(), shape, &device).require_grad();
            let found = weighted_mean(loss, z.clone(), new(y), new(w), total);
            let gradients = found.backward();
            [elements(found.inner()), elements(z.grad(&gradients).expect("dz"))].concat()
        })
    }

    #[test]
    fn agrees_with_the_cpu() {
        for (loss, n_outputs) in ALL {
            for n_rows in [1, 255, 257] {
                let y: Vec<f32> = (0..n_rows)
                    .map(|row| match loss {
                        Loss::Binary => (row % 2) as f32,
                        Loss::Multiclass | Loss::Smoothed { .. } => (row % n_outputs) as f32,
                        Loss::Squared => row as f32 / 300.0,
                    })
                    .collect();
                let w: Vec<f32> = uniform(2, n_rows).iter().map(|w| w.abs()).collect();
                let z = uniform(1, n_rows * n_outputs);
                let Some((cpu, gpu)) = run(loss, &z, &y, &w, 2.5) else { return };
                assert_near(&cpu[..1], &gpu[..1], 1e-6, (loss, n_rows));
                assert_near(&cpu[1..], &gpu[1..], 1e-6, (loss, n_rows));
            }
            let Some((cpu, gpu)) = run(loss, &[1.0; 8], &[0.0; 8], &[0.0; 8], 0.0) else { return };
            assert_near(&cpu, &gpu, 0.0, "nothing to weigh");
        }
    }

    /// Each derivative by itself: a nearly certain row must not round to no gradient.
    #[test]
    fn extreme_logits_stay_finite_and_keep_their_digits() {
        for z in [-1000.0, -80.0, -17.0, -5.0, 0.0, 3.0, 17.0, 80.0, 1000.0] {
            for y in [0.0, 1.0] {
                let Some((cpu, gpu)) = run(Loss::Binary, &[z], &[y], &[1.0], 1.0) else { return };
                for (cpu, gpu) in cpu.iter().zip(&gpu) {
                    assert_near_or_tiny(*cpu, *gpu, 1e-13, (z, y));
                }
                let row = [z, 0.5, -0.5];
                let Some((cpu, gpu)) = run(Loss::Multiclass, &row, &[y], &[1.0], 1.0) else {
                    return;
                };
                for (cpu, gpu) in cpu.iter().zip(&gpu) {
                    assert_near_or_tiny(*cpu, *gpu, 1e-7, (row, y));
                }
            }
        }
    }

    /// The CPU's derivatives and cross-entropy are differences of f64, and 0 where the GPU's still have digits.
    #[track_caller]
    fn assert_near_or_tiny(cpu: f32, gpu: f32, tiny: f32, case: impl std::fmt::Debug) {
        if tiny < cpu.abs() || tiny < gpu.abs() {
            assert_near(&[cpu], &[gpu], 2e-6, case);
        }
    }

    #[test]
    fn nan_and_labels_that_are_none_show() {
        for (loss, n_outputs) in ALL {
            let z = vec![0.5; 2 * n_outputs];
            let Some((_, gpu)) = run(loss, &z, &[0.0, f32::NAN], &[1.0; 2], 2.0) else { return };
            assert!(gpu[0].is_nan(), "{loss:?}: {gpu:?}");
            let mut z = z;
            z[n_outputs - 1] = f32::NAN;
            let Some((_, gpu)) = run(loss, &z, &[0.0, 0.0], &[1.0; 2], 2.0) else { return };
            assert!(gpu[0].is_nan() && gpu[1].is_nan(), "{loss:?}: {gpu:?}");
        }
        for label in [-1.0, 4.0, f32::INFINITY] {
            let Some((_, gpu)) = run(Loss::Multiclass, &[0.1; 4], &[label], &[1.0], 1.0) else {
                return;
            };
            assert!(gpu.iter().all(|it| it.is_nan()), "{label}: {gpu:?}");
        }
    }
}
