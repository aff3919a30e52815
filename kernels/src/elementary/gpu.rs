//! The same functions in a kernel, term for term: a device's own `exp` may be off by 3 + 2|x| units in the last place
//! (WGSL), and its `tanh` overflows on some.
//!
//! Bits may differ from the CPU's in the last places where a device does not fuse multiply-adds or counts subnormal numbers
//! as zero; both are allowed by WGSL.

use std::f32::consts::LOG2_E;

use cubecl::prelude::*;

/// See [`super::exp`].
#[cube]
pub(crate) fn exp(x: f32) -> f32 {
    // By comparison: `clamp` may drop a NaN.
    let x = select(x < -104.0f32, -104.0f32, x);
    let x = select(89.0f32 < x, 89.0f32, x);
    let rounded = (x * LOG2_E).round();
    let n = i32::cast_from(rounded);
    let r = fma(rounded, -0.693_359_4f32, x);
    // By way of the integer: compilers add the factors of n·a + n·b before they multiply, and the digits are gone.
    let r = fma(f32::cast_from(n), 2.121_944_4e-4f32, r);
    let p = fma(r, 1.987_569_1e-4f32, 1.398_2e-3f32);
    let p = fma(p, r, 8.333_452e-3f32);
    let p = fma(p, r, 4.166_579_6e-2f32);
    let p = fma(p, r, 1.666_666_5e-1f32);
    let p = fma(p, r, 5.0e-1f32);
    let p = fma(p, r * r, r) + 1.0f32;
    let half = n >> 1;
    p * power_of_two(half) * power_of_two(n - half)
}

/// 2ⁿ for −126 ≤ n ≤ 127.
#[cube]
fn power_of_two(n: i32) -> f32 {
    f32::reinterpret(u32::cast_from(n + 127) << 23)
}

/// See [`super::tanh`].
#[cube]
pub(crate) fn tanh(x: f32) -> f32 {
    let t = x.abs();
    let s = t * t;
    let p = fma(s, -5.704_988_7e-3f32, 2.063_909e-2f32);
    let p = fma(p, s, -5.373_971_6e-2f32);
    let p = fma(p, s, 1.333_144_2e-1f32);
    let p = fma(p, s, -3.333_328e-1f32);
    let small = fma(p * s, t, t);
    let large = 1.0f32 - 2.0f32 / (exp(2.0f32 * t) + 1.0f32);
    with_sign_of(select(t < 0.625f32, small, large), x)
}

/// See [`super::erf`].
#[cube]
pub(crate) fn erf(x: f32) -> f32 {
    let t = x.abs();
    let s = t * t;
    let p = fma(s, -5.967_617e-4f32, 4.991_194_2e-3f32);
    let p = fma(p, s, -2.676_813_5e-2f32);
    let p = fma(p, s, 1.128_199_25e-1f32);
    let p = fma(p, s, -3.761_253_4e-1f32);
    let p = fma(p, s, 1.283_791_7e-1f32);
    let small = fma(p, t, t);
    let q = fma(t, -1.728_534_7e-5f32, 3.831_972e-4f32);
    let u = fma(t, -3.883_964_4e-3f32, 2.425_462_2e-2f32);
    let q = fma(q, s, u);
    let q = fma(q, t, -1.067_778_8e-1f32);
    let q = fma(q, t, -6.348_468_7e-1f32);
    let q = fma(q, t, -1.287_175_1e-1f32);
    let q = fma(q, t, -t);
    let large = 1.0f32 - exp(q);
    with_sign_of(select(t < 0.927_734_4f32, small, large), x)
}

/// See [`super::sigmoid`].
#[cube]
pub(crate) fn sigmoid(x: f32) -> f32 {
    let e = exp(-x.abs());
    select(x < 0.0f32, e, 1.0f32) / (1.0f32 + e)
}

/// The magnitude of `x`, which is not negative, with the sign of `y`.
#[cube]
fn with_sign_of(x: f32, y: f32) -> f32 {
    f32::reinterpret(u32::reinterpret(x) | (u32::reinterpret(y) & 0x8000_0000u32))
}

#[cfg(test)]
mod tests {
    use cubecl::prelude::*;

    use super::{erf, exp, sigmoid, tanh};
    use crate::{
        elementary as on_cpu,
        gpu::{arg, empty_like, grid, len},
        testing::gpu::{assert_near, cube, elements, on_cpu_and_gpu, tensor, uncube},
    };

    #[cube(launch)]
    fn all(x: &[f32], y: &mut [f32], #[comptime] which: u32) {
        if ABSOLUTE_POS < y.len() {
            y[ABSOLUTE_POS] = match which {
                0 => exp(x[ABSOLUTE_POS]),
                1 => tanh(x[ABSOLUTE_POS]),
                2 => erf(x[ABSOLUTE_POS]),
                _ => sigmoid(x[ABSOLUTE_POS]),
            };
        }
    }

    /// Within four units in the last place of the CPU's, but that numbers below the normal ones may be zero.
    #[test]
    fn agree_with_the_cpu_in_value_by_value() {
        let mut x: Vec<f32> = (0..2000).map(|i| (i - 1000) as f32 * 0.109).collect();
        x.extend([
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            0.0,
            -0.0,
            1e-30,
            -1e-30,
            1e30,
            0.625,
        ]);
        let functions: [fn(f32) -> f32; 4] =
            [on_cpu::exp, on_cpu::tanh, on_cpu::erf, on_cpu::sigmoid];
        for (which, function) in (0..).zip(functions) {
            let found = on_cpu_and_gpu(|device| {
                let Some(x) = cube(tensor(x.clone(), [x.len()], device)) else {
                    return x.iter().map(|x| function(*x)).collect();
                };
                let (y, (cubes, units)) = (empty_like(&x), grid(&x.client, len(&x)));
                all::launch(&x.client, cubes, units, arg(&x), arg(&y), which);
                elements(uncube::<1>(y))
            });
            let Some((cpu, gpu)) = found else { return };
            for ((x, cpu), gpu) in x.iter().zip(&cpu).zip(&gpu) {
                if !(cpu.abs() < f32::MIN_POSITIVE && gpu.abs() < f32::MIN_POSITIVE) {
                    assert_near(&[*cpu], &[*gpu], 5e-7, (which, x));
                }
            }
        }
    }
}
