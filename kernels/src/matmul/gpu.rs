//! Products on the GPU: cubek's blocked kernel for plain units, in f32 throughout, without atomics.
//!
//! By name and not by `Backend::float_matmul`: that takes tensor cores where there are some, and they round f32 factors to
//! TF32 (10 bits of mantissa), which no tolerance of ours allows.
//!
//! bf16: the operands are rounded as on the CPU and multiplied as f32, which holds their products exactly. The same numbers as
//! tensor cores would give, but for the order of addition, and not their speed.

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use cubek::{
    matmul::{
        definition::{MatmulElems, MatmulGlobalElems},
        launch::launch_ref,
        multi_level,
        strategy::Strategy,
    },
    std::InputBinding,
};

use super::Precision;
use crate::gpu::{arg, contiguous, dim, empty, empty_like, grid, len, zeros};

/// The product of two matrices, contiguous. Any strides are read.
pub(crate) fn product(precision: Precision, left: CubeTensor, right: CubeTensor) -> CubeTensor {
    match precision {
        Precision::F32 => multiplied(left, right),
        Precision::Bf16 => multiplied(rounded(left), rounded(right)),
    }
}

fn multiplied(left: CubeTensor, right: CubeTensor) -> CubeTensor {
    let shape = [dim(&left, 0), dim(&right, 1)];
    if shape.contains(&0) || dim(&left, 1) == 0 {
        return zeros(&left, shape);
    }
    let y = empty(&left, shape);
    let strategy = Strategy::MultiLevel(multi_level::Strategy::SimpleUnit(Default::default()));
    let f32 = f32::elem_type_native();
    let mut types = MatmulElems::from_globals(&MatmulGlobalElems { lhs: f32, rhs: f32, out: f32 });
    let (left, right) =
        (InputBinding::new(left.binding(), f32), InputBinding::new(right.binding(), f32));
    launch_ref(&strategy, &y.client, left, right, y.clone().binding(), &mut types)
        .expect("plain units multiply any two matrices that fit");
    y
}

/// Each element rounded to bf16, as [`super::bf16`] does.
fn rounded(x: CubeTensor) -> CubeTensor {
    let x = contiguous(x);
    let y = empty_like(&x);
    if 0 < len(&y) {
        let (cubes, units) = grid(&y.client, len(&y));
        round::launch(&y.client, cubes, units, arg(&x), arg(&y));
    }
    y
}

#[cube(launch)]
fn round(x: &[f32], y: &mut [f32]) {
    if ABSOLUTE_POS < y.len() {
        let bits = u32::reinterpret(x[ABSOLUTE_POS]);
        let magnitude = bits & 0x7fff_ffffu32;
        let half = (bits + (0x7fffu32 + ((bits >> 16) & 1u32))) >> 16;
        let half = select(0x7f80_0000u32 < magnitude, (bits >> 16) | 0x40u32, half);
        let half = select(magnitude < 0x0080_0000u32, (bits >> 16) & 0x8000u32, half);
        y[ABSOLUTE_POS] = f32::reinterpret(half << 16);
    }
}

#[cfg(test)]
mod tests {
    use super::rounded;
    use crate::{
        matmul::bf16,
        testing::{
            assert_same_bits,
            gpu::{cube, elements, on_cpu_and_gpu, tensor, uncube},
            uniform,
        },
    };

    #[test]
    fn rounds_as_the_cpu_bit_for_bit() {
        let mut x = uniform(1, 500);
        x.extend([0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 1e-38, 1.001_953_1]);
        let n = x.len();
        let found = on_cpu_and_gpu(|device| match cube(tensor(x.clone(), [n], device)) {
            Some(x) => elements(uncube::<1>(rounded(x))),
            None => bf16::all_rounded(&x),
        });
        let Some((cpu, gpu)) = found else { return };
        assert_same_bits(&cpu, &gpu, "bf16");
    }
}
