//! On the GPU a unit takes one query of one head and goes through the keys, which its cube holds a tile of in shared memory;
//! backward, a unit takes one key and goes through the queries. Each adds in the order of positions, so bits repeat and a
//! row depends on its own sequence alone.
//!
//! versions: 1  a query, its sum and its key's gradients in registers. Wide heads (128) spill; a head shared by several units
//! would not.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn_cubecl::{CubeBackend, tensor::CubeTensor};
use cubecl::{calculate_cube_count_elemwise, prelude::*};

use super::{
    Shape,
    op::{AttentionBackward, AttentionOps, Saved},
};
use crate::{
    elementary::gpu::exp,
    gpu::{arg, contiguous, dim, empty, empty_like, len},
};

/// Numbers of a tile in shared memory; two tiles are what WebGPU grants (16 KiB).
const TILE: usize = 2048;
/// Queries, or keys, of a cube.
const UNITS: u32 = 64;

impl AttentionOps for CubeBackend {
    fn self_attention(
        qkv: FloatTensor<Self>,
        lengths: IntTensor<Self>,
        shape: Shape,
    ) -> FloatTensor<Self> {
        Self::attention_forward(qkv, lengths, shape).0
    }
}

impl AttentionBackward for CubeBackend {
    fn attention_forward(
        qkv: FloatTensor<Self>,
        lengths: IntTensor<Self>,
        shape: Shape,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (qkv, lengths) = (contiguous(qkv), contiguous(lengths));
        let n_rows = dim(&qkv, 0);
        let out = empty(&qkv, [n_rows, shape.width()]);
        let log_sums = empty(&qkv, [n_rows, shape.n_heads]);
        if 0 < len(&out) {
            let (cubes, units) = heads(&qkv, n_rows, shape);
            forward::launch(
                &qkv.client,
                cubes,
                units,
                arg(&qkv),
                arg(&lengths),
                arg(&out),
                arg(&log_sums),
                shape.length,
                shape.n_heads,
                shape.scale(),
                shape.head_width,
                shape.is_causal,
            );
        }
        (out, log_sums)
    }

    fn attention_backward(
        saved: Saved<Self>,
        shape: Shape,
        dout: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let Saved { qkv, lengths, out, log_sums } = saved;
        let (qkv, lengths, dout) = (contiguous(qkv), contiguous(lengths), contiguous(dout));
        let (n_rows, dqkv) = (dim(&qkv, 0), empty_like(&qkv));
        let means = empty(&qkv, [n_rows, shape.n_heads]);
        if 0 < len(&out) {
            let (cubes, units) = heads(&qkv, n_rows, shape);
            queries_backward::launch(
                &qkv.client,
                cubes.clone(),
                units,
                arg(&qkv),
                arg(&lengths),
                arg(&out),
                arg(&log_sums),
                arg(&dout),
                arg(&dqkv),
                arg(&means),
                shape.length,
                shape.n_heads,
                shape.scale(),
                shape.head_width,
                shape.is_causal,
            );
            keys_backward::launch(
                &qkv.client,
                cubes,
                units,
                arg(&qkv),
                arg(&lengths),
                arg(&log_sums),
                arg(&means),
                arg(&dout),
                arg(&dqkv),
                shape.length,
                shape.n_heads,
                shape.scale(),
                shape.head_width,
                shape.is_causal,
            );
        }
        dqkv
    }
}

/// A unit for each position of each head, a cube's of one head and sequence.
fn heads(qkv: &CubeTensor, n_rows: usize, shape: Shape) -> (CubeCount, CubeDim) {
    let n_heads = n_rows / shape.length * shape.n_heads;
    let n_cubes = n_heads * shape.length.div_ceil(UNITS as usize);
    let units = CubeDim::new_1d(UNITS);
    (calculate_cube_count_elemwise(&qkv.client, n_cubes * UNITS as usize, units), units)
}

/// A unit for each query of a head: its result, and the logarithm of its sum.
#[cube(launch)]
fn forward(
    qkv: &[f32],
    lengths: &[i32],
    out: &mut [f32],
    log_sums: &mut [f32],
    length: usize,
    n_heads: usize,
    scale: f32,
    #[comptime] d: usize,
    #[comptime] is_causal: bool,
) {
    let tile_keys = comptime!(TILE / d);
    let width = n_heads * d;
    let (b, h, first) = place(length, n_heads);
    let i = first + UNIT_POS as usize;
    let is_query = b < lengths.len() && i < length;
    let n_keys = keys_of(lengths, b, length);
    let (own, all) =
        (seen(n_keys, i, is_causal), seen(n_keys, first + UNITS as usize - 1, is_causal));

    let (mut q, mut sum) = (Array::<f32>::new(d), Array::<f32>::new(d));
    if is_query {
        for c in 0..d {
            q[c] = qkv[(b * length + i) * 3 * width + h * d + c] * scale;
        }
    }
    let mut keys = Shared::new_slice(comptime!(tile_keys * d));
    let mut values = Shared::new_slice(comptime!(tile_keys * d));
    // WGSL cannot spell −∞.
    let mut most = f32::new(-3.4e38);
    let mut total = 0.0f32;
    for tile in 0..all.div_ceil(tile_keys) {
        sync_cube();
        let from = tile * tile_keys;
        load(qkv, &mut keys, b * length, from, all, 3 * width, width + h * d, d);
        load(qkv, &mut values, b * length, from, all, 3 * width, 2 * width + h * d, d);
        sync_cube();
        for j in 0..tile_keys {
            if is_query && from + j < own {
                let mut s = 0.0f32;
                for c in 0..d {
                    s = fma(q[c], keys[j * d + c], s);
                }
                if most < s {
                    let shrink = exp(most - s);
                    total *= shrink;
                    for c in 0..d {
                        sum[c] *= shrink;
                    }
                    most = s;
                }
                let p = exp(s - most);
                total += p;
                for c in 0..d {
                    sum[c] = fma(p, values[j * d + c], sum[c]);
                }
            }
        }
    }
    if is_query {
        for c in 0..d {
            let at = (b * length + i) * width + h * d + c;
            out[at] = select(own == 0, 0.0f32, sum[c] / total);
        }
        log_sums[(b * length + i) * n_heads + h] = most + total.ln();
    }
}

/// A unit for each query of a head: its gradient, and do · o for [`keys_backward`].
#[cube(launch)]
fn queries_backward(
    qkv: &[f32],
    lengths: &[i32],
    out: &[f32],
    log_sums: &[f32],
    d_out: &[f32],
    d_qkv: &mut [f32],
    means: &mut [f32],
    length: usize,
    n_heads: usize,
    scale: f32,
    #[comptime] d: usize,
    #[comptime] is_causal: bool,
) {
    let tile_keys = comptime!(TILE / d);
    let width = n_heads * d;
    let (b, h, first) = place(length, n_heads);
    let i = first + UNIT_POS as usize;
    let is_query = b < lengths.len() && i < length;
    let n_keys = keys_of(lengths, b, length);
    let (own, all) =
        (seen(n_keys, i, is_causal), seen(n_keys, first + UNITS as usize - 1, is_causal));

    let (mut q, mut dy, mut dq) =
        (Array::<f32>::new(d), Array::<f32>::new(d), Array::<f32>::new(d));
    let mut mean = 0.0f32;
    let mut log_sum = 0.0f32;
    if is_query {
        for c in 0..d {
            let at = (b * length + i) * width + h * d + c;
            q[c] = qkv[(b * length + i) * 3 * width + h * d + c] * scale;
            dy[c] = d_out[at];
            mean = fma(d_out[at], out[at], mean);
        }
        log_sum = log_sums[(b * length + i) * n_heads + h];
        means[(b * length + i) * n_heads + h] = mean;
    }
    let mut keys = Shared::new_slice(comptime!(tile_keys * d));
    let mut values = Shared::new_slice(comptime!(tile_keys * d));
    for tile in 0..all.div_ceil(tile_keys) {
        sync_cube();
        let from = tile * tile_keys;
        load(qkv, &mut keys, b * length, from, all, 3 * width, width + h * d, d);
        load(qkv, &mut values, b * length, from, all, 3 * width, 2 * width + h * d, d);
        sync_cube();
        for j in 0..tile_keys {
            if is_query && from + j < own {
                let mut s = 0.0f32;
                let mut dp = 0.0f32;
                for c in 0..d {
                    s = fma(q[c], keys[j * d + c], s);
                    dp = fma(dy[c], values[j * d + c], dp);
                }
                let ds = exp(s - log_sum) * (dp - mean) * scale;
                for c in 0..d {
                    dq[c] = fma(ds, keys[j * d + c], dq[c]);
                }
            }
        }
    }
    if is_query {
        for c in 0..d {
            d_qkv[(b * length + i) * 3 * width + h * d + c] = dq[c];
        }
    }
}

/// A unit for each key of a head: its gradient and its value's.
#[cube(launch)]
fn keys_backward(
    qkv: &[f32],
    lengths: &[i32],
    log_sums: &[f32],
    means: &[f32],
    d_out: &[f32],
    d_qkv: &mut [f32],
    length: usize,
    n_heads: usize,
    scale: f32,
    #[comptime] d: usize,
    #[comptime] is_causal: bool,
) {
    let tile_queries = comptime!(TILE / d);
    let width = n_heads * d;
    let (b, h, first) = place(length, n_heads);
    let j = first + UNIT_POS as usize;
    let n_keys = keys_of(lengths, b, length);
    let is_key = j < n_keys;

    let (mut k, mut v) = (Array::<f32>::new(d), Array::<f32>::new(d));
    let (mut dk, mut dv) = (Array::<f32>::new(d), Array::<f32>::new(d));
    if is_key {
        for c in 0..d {
            let at = (b * length + j) * 3 * width + h * d + c;
            k[c] = qkv[at + width];
            v[c] = qkv[at + 2 * width];
        }
    }
    let mut queries = Shared::new_slice(comptime!(tile_queries * d));
    let mut flows = Shared::new_slice(comptime!(tile_queries * d));
    // A whole tile may begin before the first query that sees the key.
    let mut begin = 0;
    if comptime!(is_causal) {
        begin = first / tile_queries;
    }
    let mut n_tiles = length.div_ceil(tile_queries);
    if n_keys <= first {
        n_tiles = 0;
    }
    for tile in begin..n_tiles {
        sync_cube();
        let from = tile * tile_queries;
        load(qkv, &mut queries, b * length, from, length, 3 * width, h * d, d);
        load(d_out, &mut flows, b * length, from, length, width, h * d, d);
        sync_cube();
        for t in 0..tile_queries {
            let i = from + t;
            if is_key && i < length && (comptime!(!is_causal) || j <= i) {
                let mut s = 0.0f32;
                let mut dp = 0.0f32;
                for c in 0..d {
                    s = fma(queries[t * d + c], k[c], s);
                    dp = fma(flows[t * d + c], v[c], dp);
                }
                let row = (b * length + i) * n_heads + h;
                let p = exp(s * scale - log_sums[row]);
                let ds = p * (dp - means[row]) * scale;
                for c in 0..d {
                    dv[c] = fma(p, flows[t * d + c], dv[c]);
                    dk[c] = fma(ds, queries[t * d + c], dk[c]);
                }
            }
        }
    }
    if b < lengths.len() && j < length {
        for c in 0..d {
            let at = (b * length + j) * 3 * width + h * d + c;
            d_qkv[at + width] = dk[c];
            d_qkv[at + 2 * width] = dv[c];
        }
    }
}

/// Sequence, head and first position of this cube.
#[cube]
fn place(length: usize, n_heads: usize) -> (usize, usize, usize) {
    let n_blocks = length.div_ceil(UNITS as usize);
    let block = CUBE_POS % n_blocks;
    let head = CUBE_POS / n_blocks;
    (head / n_heads, head % n_heads, block * UNITS as usize)
}

/// Keys of sequence `b`.
#[cube]
fn keys_of(lengths: &[i32], b: usize, length: usize) -> usize {
    let mut n = 0;
    if b < lengths.len() && 0 < lengths[b] {
        n = lengths[b] as usize;
        if length < n {
            n = length;
        }
    }
    n
}

/// Keys that position `i` sees of `n`.
#[cube]
fn seen(n: usize, i: usize, #[comptime] is_causal: bool) -> usize {
    let mut seen = n;
    if comptime!(is_causal) && i + 1 < n {
        seen = i + 1;
    }
    seen
}

/// Rows `from`… below `to` of sequence rows that begin at `first`, `d` columns from `column`.
#[cube]
fn load(
    x: &[f32],
    tile: &mut Shared<[f32]>,
    first: usize,
    from: usize,
    to: usize,
    width: usize,
    column: usize,
    #[comptime] d: usize,
) {
    let n = comptime!(TILE / d * d);
    for step in 0..n.div_ceil(UNITS as usize) {
        let at = step * UNITS as usize + UNIT_POS as usize;
        let row = from + at / d;
        if at < n && row < to {
            tile[at] = x[(first + row) * width + column + at % d];
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Tensor, TensorData};

    use super::super::{Shape, attention};
    use crate::testing::gpu::{assert_near, leaf, on_cpu_and_gpu, with_gradients};

    /// Padding, an empty sequence, more keys than a tile holds, more positions than a cube has.
    #[test]
    fn agrees_with_the_cpu() {
        // Each is three kernels to compile, which takes software Vulkan seconds.
        for (length, n_heads, head_width, is_causal, lengths) in
            [(3, 2, 8, false, vec![3, 0]), (70, 1, 40, true, vec![70, 33])]
        {
            let shape = Shape { length, n_heads, head_width, is_causal };
            let n_rows = lengths.len() * length;
            let found = on_cpu_and_gpu(|device| {
                let qkv = leaf(1, n_rows * 3 * shape.width(), device);
                let lengths = TensorData::new(lengths.clone(), [lengths.len()]);
                let lengths = Tensor::from_data(lengths, (&qkv.device(), DType::I32));
                let rows = qkv.clone().reshape([n_rows, 3 * shape.width()]) * 2.0;
                with_gradients(attention(rows, lengths, shape), &[qkv])
            });
            let Some((cpu, gpu)) = found else { return };
            assert_near(&cpu, &gpu, 3e-6, (shape, &lengths));
        }
    }
}
