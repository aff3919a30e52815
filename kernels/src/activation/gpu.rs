//! The same formulas in a kernel.

use cubecl::prelude::*;

use super::{Activation, CUBIC, NORMAL, ROOT_2_OVER_PI};
use crate::elementary::gpu::{erf, exp, sigmoid};

const ROOT_HALF: f32 = std::f32::consts::FRAC_1_SQRT_2;

/// See [`Activation::value`].
#[cube]
pub(crate) fn value(z: f32, #[comptime] activation: Activation) -> f32 {
    match comptime!(activation) {
        Activation::Identity => z,
        // NaN must stay visible: `z < 0` is false for it.
        Activation::Relu => select(z < 0.0f32, 0.0f32, z),
        Activation::GeluErf => fma(0.5f32 * z, erf(z * ROOT_HALF), 0.5f32 * z),
        Activation::GeluTanh => z * gate(z),
        Activation::Silu => z * sigmoid(z),
    }
}

/// See [`Activation::chain`]: `dy` times the slope at `z`.
#[cube]
pub(crate) fn chain(z: f32, dy: f32, #[comptime] activation: Activation) -> f32 {
    match comptime!(activation) {
        Activation::Identity => dy,
        Activation::Relu => select(z <= 0.0f32, 0.0f32, dy),
        Activation::GeluErf => {
            let near = limited(z, 15.0f32);
            let density = NORMAL * exp(-0.5f32 * near * near);
            dy * fma(near, density, fma(0.5f32, erf(z * ROOT_HALF), 0.5f32))
        }
        Activation::GeluTanh => {
            let s = gate(z);
            let near = limited(z, 15.0f32);
            let inner = 2.0f32 * ROOT_2_OVER_PI * fma(near * near, 3.0f32 * CUBIC, 1.0f32);
            dy * fma(near * inner, s * (1.0f32 - s), s)
        }
        Activation::Silu => {
            let s = sigmoid(z);
            dy * fma(limited(z, 110.0f32), s * (1.0f32 - s), s)
        }
    }
}

/// See [`super::gelu_tanh_gate`].
#[cube]
fn gate(z: f32) -> f32 {
    sigmoid(2.0f32 * ROOT_2_OVER_PI * fma(z * z * z, CUBIC, z))
}

/// See [`super::limited`].
#[cube]
fn limited(z: f32, #[comptime] limit: f32) -> f32 {
    let z = select(z < -limit, -limit, z);
    select(limit < z, limit, z)
}
