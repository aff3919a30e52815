//! Between burn's GPU tensors and `#[cube]` kernels.
//!
//! Kernels here read and write flat slices of f32 (or i32), row-major: every argument goes through [`contiguous`]. Each
//! unit writes elements of its own and adds in an order given by shapes alone, so a launch gives the same bits each time;
//! nothing is added with atomics, no operation of a plane is used, and a grid that is too long for one dimension is folded
//! by [`grid`]. What WGSL leaves open (NaN and infinity, fused multiply-adds, the last bits of `exp`) is said beside each
//! kernel's test.

use burn::backend::{DType, ops::FloatTensorOps};
use burn_cubecl::{CubeBackend, kernel::into_contiguous, ops::numeric, tensor::CubeTensor};
use cubecl::{calculate_cube_count_elemwise, prelude::*};

/// Units of a cube that shares memory: what every device has (WebGPU's limit), so that sums are cut alike everywhere.
pub(crate) const CUBE: u32 = 256;
/// Units that share a row where rows are short.
pub(crate) const LANES: u32 = 32;

/// The tensor with its elements adjacent and row-major. Nothing is done where there are none: no kernel is launched for
/// them.
pub(crate) fn contiguous(tensor: CubeTensor) -> CubeTensor {
    if len(&tensor) == 0 { tensor } else { into_contiguous(tensor) }
}

/// Size of dimension `d`.
pub(crate) fn dim(tensor: &CubeTensor, d: usize) -> usize {
    tensor.meta.shape()[d]
}

/// Elements of `tensor`.
pub(crate) fn len(tensor: &CubeTensor) -> usize {
    tensor.meta.num_elements()
}

/// An f32 tensor on the device of `like`, to be written in full.
pub(crate) fn empty<const D: usize>(like: &CubeTensor, shape: [usize; D]) -> CubeTensor {
    let (client, device) = (like.client.clone(), like.device.clone());
    numeric::empty_device_contiguous_dtype(client, device, shape.into(), DType::F32)
}

/// An f32 tensor of the shape of `like`, to be written in full.
pub(crate) fn empty_like(like: &CubeTensor) -> CubeTensor {
    let (client, device) = (like.client.clone(), like.device.clone());
    let shape = like.meta.shape().clone();
    numeric::empty_device_contiguous_dtype(client, device, shape, DType::F32)
}

/// Zeros on the device of `like`.
pub(crate) fn zeros<const D: usize>(like: &CubeTensor, shape: [usize; D]) -> CubeTensor {
    numeric::zeros_client(like.client.clone(), like.device.clone(), shape.into(), DType::F32)
}

/// `tensor` for writing in place: contiguous, and copied first when something else holds it.
pub(crate) fn owned(tensor: CubeTensor) -> CubeTensor {
    let tensor = contiguous(tensor);
    if tensor.can_mut() || len(&tensor) == 0 { tensor } else { tensor.copy() }
}

/// The matrix with rows and columns exchanged, where it lies.
pub(crate) fn transposed(matrix: CubeTensor) -> CubeTensor {
    CubeBackend::float_swap_dims(matrix, 0, 1)
}

/// `tensor` as a kernel's argument.
pub(crate) fn arg(tensor: &CubeTensor) -> BufferArg {
    tensor.clone().into_buffer_arg()
}

/// One unit for each of `n` elements, and some that must find out that they have none.
pub(crate) fn grid(client: &Client, n: usize) -> (CubeCount, CubeDim) {
    let units = CubeDim::new_1d(CUBE);
    (calculate_cube_count_elemwise(client, n, units), units)
}

/// How many tensors a kernel may be given that takes `each` buffers for each of them, beside four of its own. Past 32 it only
/// takes longer to compile.
pub(crate) fn many(client: &Client, each: usize) -> usize {
    let n = client.properties().hardware.max_bindings as usize;
    (n.min(36 * each).saturating_sub(4) / each).max(1)
}

/// The sum of `mine` over the `lanes` neighbouring units, a power of two that divides [`CUBE`]: the upper half is added to
/// the lower until one is left. All units of a cube must get here.
#[cube]
pub(crate) fn add_lanes(mine: f32, #[comptime] lanes: u32) -> f32 {
    let mut strands = Shared::new_slice(CUBE as usize);
    strands[UNIT_POS as usize] = mine;
    sync_cube();
    #[unroll]
    for step in 0..comptime!(lanes.ilog2()) {
        let half = comptime!(lanes >> (step + 1));
        if UNIT_POS % lanes < half {
            let other = strands[(UNIT_POS + half) as usize];
            strands[UNIT_POS as usize] += other;
        }
        sync_cube();
    }
    strands[(UNIT_POS / lanes * lanes) as usize]
}

#[cfg(test)]
mod tests {
    use cubecl::prelude::*;

    use super::{CUBE, arg, empty, grid};
    use crate::testing::gpu::{cube, elements, on_cpu_and_gpu, tensor, uncube};

    #[cube(launch)]
    fn count(y: &mut [f32]) {
        if ABSOLUTE_POS < y.len() {
            y[ABSOLUTE_POS] = (ABSOLUTE_POS % 1009) as f32;
        }
    }

    /// More cubes than one dimension of a grid may have, 65,535.
    #[test]
    fn long_grids_are_folded() {
        let n = 65_536 * CUBE as usize + 300;
        let n_right = |y: &[f32]| {
            let is_right = |(i, y): &(usize, &f32)| **y as usize == i % 1009;
            vec![y.iter().enumerate().filter(is_right).count() as f32]
        };
        let found = on_cpu_and_gpu(|device| match cube(tensor(vec![0.0], [1], device)) {
            Some(any) => {
                let (y, (cubes, units)) = (empty(&any, [n]), grid(&any.client, n));
                count::launch(&any.client, cubes, units, arg(&y));
                n_right(&elements(uncube::<1>(y)))
            }
            None => vec![n as f32],
        });
        let Some((cpu, gpu)) = found else { return };
        assert!((cpu[0] - gpu[0]).abs() <= 0.0, "{} of {} are right", gpu[0], cpu[0]);
    }
}
