//! `attention`: each query's mean of the values, weighted by how well their keys fit it:
//! o\[i\] = Σⱼ pᵢⱼ · v\[j\], p = softmaxⱼ(q\[i\] · k\[j\] / √d), for each head alone (Vaswani et al. 2017).
//!
//! Layout: one matrix holds what a layer projects, row (batch, position), columns q ‖ k ‖ v, each of them heads × d. So one
//! product makes it, one takes its gradient, and no head is ever copied into a place of its own. The result has rows
//! (batch, position) and columns heads × d.
//!
//! Masks: only the first `lengths[b]` positions of a sequence are keys (the others are padding: they weigh nothing, whatever
//! stands there); with `is_causal`, position i sees the keys up to i. A sequence of length 0 has no key: its results are 0,
//! and so are their gradients. Rows of padding are computed as queries like all others; a loss leaves them out.
//!
//! Never holds a length × length matrix: keys come in blocks of [`KEYS`], and a running maximum and sum rescale what is there
//! (Milakov and Gimelshein 2018; Dao et al. 2022, "FlashAttention"). The forward pass keeps one number a row and head, the
//! logarithm of its sum; the backward pass computes the weights again from it:
//! dv\[j\] = Σᵢ pᵢⱼ · do\[i\], dsᵢⱼ = pᵢⱼ · (do\[i\] · v\[j\] − do\[i\] · o\[i\]), dq\[i\] = Σⱼ dsᵢⱼ · k\[j\] / √d, dk\[j\] = Σᵢ dsᵢⱼ · q\[i\] / √d.
//!
//! **Bits.** A block begins at a fixed position, sums are strands in a fixed order: a row's result depends on its own
//! sequence alone, not on the batch, the padding or the threads.
//!
//! bound by: flops, in the tiles of [`crate::matmul`]; one exponential for each query and key.

use rayon::prelude::*;

use crate::{
    elementary::exp,
    matmul::block::{Block, Into, View},
    simd::vectorized,
};

/// Keys of a block.
const KEYS: usize = 256;
/// Queries that meet a block of keys at a time: their scores stay in the first-level cache. A multiple of every tile's rows.
const QUERIES: usize = 24;
/// Queries one thread takes at a time. For each such chunk keys and values are packed anew.
const CHUNK: usize = 240;
/// Keys whose gradients are computed at a time, against [`KEYS`] queries.
const KEYS_BACKWARD: usize = 24;
/// Strands of a maximum and of a sum over a block of keys.
const LANES: usize = 16;

/// Sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Positions of a sequence, padding included.
    pub length: usize,
    /// Heads.
    pub n_heads: usize,
    /// Numbers of a head: d.
    pub head_width: usize,
    /// Whether a position sees only itself and those before it.
    pub is_causal: bool,
}

impl Shape {
    /// Columns of the result.
    #[must_use]
    pub const fn width(self) -> usize {
        self.n_heads * self.head_width
    }

    fn scale(self) -> f32 {
        (1.0 / (self.head_width as f64).sqrt()) as f32
    }

    /// Where queries, keys and values of head `h` begin in a row.
    const fn columns(self, h: usize) -> [usize; 3] {
        let first = h * self.head_width;
        [first, self.width() + first, 2 * self.width() + first]
    }

    /// Keys of a sequence of `length`.
    fn n_keys(self, length: i32) -> usize {
        usize::try_from(length).unwrap_or(0).min(self.length)
    }
}

/// The definition, in f64. `qkv` has 3 × width columns, `lengths` one number a sequence.
pub fn reference(qkv: &[f64], lengths: &[i32], shape: Shape) -> Vec<f64> {
    let (width, d) = (shape.width(), shape.head_width);
    let mut out = vec![0.0; qkv.len() / 3];
    for (b, length) in lengths.iter().enumerate() {
        let row = |i: usize| &qkv[(b * shape.length + i) * 3 * width..][..3 * width];
        for i in 0..shape.length {
            let seen = if shape.is_causal { i + 1 } else { shape.length };
            for h in 0..shape.n_heads {
                let [q, k, v] = shape.columns(h);
                let score = |j: usize| {
                    let products = row(i)[q..][..d].iter().zip(&row(j)[k..][..d]);
                    products.map(|(q, k)| q * k).sum::<f64>() / (d as f64).sqrt()
                };
                let scores: Vec<f64> = (0..shape.n_keys(*length).min(seen)).map(score).collect();
                let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let total: f64 = scores.iter().map(|s| (s - max).exp()).sum();
                let out = &mut out[(b * shape.length + i) * width + h * d..][..d];
                for (j, s) in scores.iter().enumerate() {
                    let p = (s - max).exp() / total;
                    out.iter_mut().zip(&row(j)[v..]).for_each(|(out, v)| *out += p * v);
                }
            }
        }
    }
    out
}

/// What a thread works in.
struct Scratch {
    keys: Block,
    values: Block,
    scores: Vec<f32>,
    /// Maximum and sum so far of each query.
    running: [(f32, f32); QUERIES],
}

/// Writes the results to `out`, and to `log_sums` (rows × heads) the logarithm of each sum of exponentials.
pub fn fused(qkv: &[f32], lengths: &[i32], shape: Shape, out: &mut [f32], log_sums: &mut [f32]) {
    let (length, width, n_heads) = (shape.length, shape.width(), shape.n_heads);
    if out.is_empty() {
        return;
    }
    let sequences = out
        .par_chunks_mut(length * width)
        .zip(log_sums.par_chunks_mut(length * n_heads))
        .zip(qkv.par_chunks(length * 3 * width))
        .zip(lengths);
    let chunks = sequences.flat_map(|(((out, log_sums), qkv), n_keys)| {
        let out = out.par_chunks_mut(CHUNK * width);
        let chunks = out.zip(log_sums.par_chunks_mut(CHUNK * n_heads)).enumerate();
        chunks.map(move |(chunk, (out, log_sums))| (qkv, *n_keys, chunk * CHUNK, out, log_sums))
    });
    let scratch = || Scratch {
        keys: Block::new(),
        values: Block::new(),
        scores: vec![0.0; QUERIES * KEYS],
        running: [(0.0, 0.0); QUERIES],
    };
    chunks.for_each_init(scratch, |scratch, (qkv, n_keys, first, out, log_sums)| {
        let n_queries = log_sums.len() / n_heads;
        let seen = if shape.is_causal { first + n_queries } else { length };
        let n_keys = shape.n_keys(n_keys).min(seen);
        for h in 0..n_heads {
            let [q, k, v] =
                shape.columns(h).map(|column| View { rows: &qkv[column..], stride: 3 * width });
            scratch.keys.pack_transpose(k, shape.head_width, n_keys);
            scratch.values.pack(v, n_keys, shape.head_width);
            for group in (0..n_queries).step_by(QUERIES) {
                let queries = Queries {
                    q: q.skip(first + group),
                    first: first + group,
                    n: QUERIES.min(n_queries - group),
                    n_keys,
                };
                let out = &mut out[group * width + h * shape.head_width..];
                queries.attend(shape, scratch, out);
                let log_sums = log_sums[group * n_heads + h..].iter_mut().step_by(n_heads);
                for (log_sum, (max, sum)) in log_sums.zip(scratch.running).take(queries.n) {
                    *log_sum = max + libm::logf(sum);
                }
            }
        }
    });
}

/// Some queries of one head, and the keys that any of them may see.
struct Queries<'a> {
    q: View<'a>,
    /// Position of the first.
    first: usize,
    n: usize,
    n_keys: usize,
}

impl Queries<'_> {
    fn attend(&self, shape: Shape, scratch: &mut Scratch, out: &mut [f32]) {
        let Scratch { keys, values, scores, running } = scratch;
        let (d, stride) = (shape.head_width, shape.width());
        running.fill((f32::NEG_INFINITY, 0.0));
        let seen = if shape.is_causal { self.first + self.n } else { self.n_keys };
        for from in (0..self.n_keys.min(seen)).step_by(KEYS) {
            let block = from..(from + KEYS).min(self.n_keys).min(seen);
            Into {
                c: scores,
                stride: KEYS,
                n_rows: self.n,
                columns: block.clone(),
                k: 0..d,
                continues: false,
            }
            .times(self.q, keys);
            vectorized(
                #[inline(always)]
                || {
                    let rows = scores.chunks_exact_mut(KEYS).zip(running.iter_mut()).take(self.n);
                    for (i, (row, running)) in rows.enumerate() {
                        let row = &mut row[..block.len()];
                        if shape.is_causal {
                            let n_seen = (self.first + i + 1).saturating_sub(from);
                            row.iter_mut().skip(n_seen).for_each(|s| *s = f32::NEG_INFINITY);
                        }
                        let shrink = weigh(row, shape.scale(), running);
                        if 0 < from {
                            out[i * stride..][..d].iter_mut().for_each(|out| *out *= shrink);
                        }
                    }
                },
            );
            Into {
                c: &mut *out,
                stride,
                n_rows: self.n,
                columns: 0..d,
                k: block,
                continues: 0 < from,
            }
            .times(View { rows: scores, stride: KEYS }, values);
        }
        for (out, (_, sum)) in out.chunks_mut(stride).zip(running.iter()).take(self.n) {
            // No key at all: the results are 0.
            let share = if self.n_keys == 0 { 0.0 } else { 1.0 / sum };
            for out in &mut out[..d] {
                *out = if self.n_keys == 0 { 0.0 } else { *out * share };
            }
        }
    }
}

/// Turns a row of scores into weights e^(s·scale − max) and brings maximum and sum up to date. Returns what earlier
/// results must be multiplied by.
#[inline(always)]
fn weigh(row: &mut [f32], scale: f32, running: &mut (f32, f32)) -> f32 {
    let mut maxima = [f32::NEG_INFINITY; LANES];
    let (whole, rest) = row.as_chunks_mut::<LANES>();
    for s in whole.iter() {
        rise(&mut maxima, s);
    }
    rise(&mut maxima, rest);
    let max = maxima.iter().fold(f32::NEG_INFINITY, |max, s| max.max(*s)) * scale;
    let (old, sum) = *running;
    let max = old.max(max);
    let mut sums = [0.0_f32; LANES];
    for s in whole {
        exponentiate(&mut sums, s, scale, max);
    }
    exponentiate(&mut sums, rest, scale, max);
    let shrink = exp(old - max);
    *running = (max, sum.mul_add(shrink, sums.iter().sum::<f32>()));
    shrink
}

#[inline(always)]
fn rise(maxima: &mut [f32; LANES], scores: &[f32]) {
    for (max, s) in maxima.iter_mut().zip(scores) {
        // A NaN is no maximum; it shows in its own exponential.
        *max = if *max < *s { *s } else { *max };
    }
}

#[inline(always)]
fn exponentiate(sums: &mut [f32; LANES], scores: &mut [f32], scale: f32, max: f32) {
    for (sum, s) in sums.iter_mut().zip(scores) {
        *s = exp(s.mul_add(scale, -max));
        *sum += *s;
    }
}

/// What a thread works in on the way back.
struct Backward {
    keys: Block,
    queries: Block,
    queries_turned: Block,
    dout: Block,
    dout_turned: Block,
    /// Weights and their gradients, keys × queries.
    weights: Vec<f32>,
    dweights: Vec<f32>,
    turned: Vec<f32>,
    /// Of each query: the logarithm of its sum, and do · o.
    log_sums: Vec<f32>,
    products: Vec<f32>,
}

/// Writes the gradient of `qkv` to `dqkv`, from the forward pass's results.
pub fn backward(
    qkv: &[f32],
    lengths: &[i32],
    shape: Shape,
    out: &[f32],
    log_sums: &[f32],
    dout: &[f32],
    dqkv: &mut [f32],
) {
    let (length, width, n_heads) = (shape.length, shape.width(), shape.n_heads);
    if qkv.is_empty() {
        return;
    }
    let scratch = || Backward {
        keys: Block::new(),
        queries: Block::new(),
        queries_turned: Block::new(),
        dout: Block::new(),
        dout_turned: Block::new(),
        weights: vec![0.0; KEYS_BACKWARD * KEYS],
        dweights: vec![0.0; KEYS_BACKWARD * KEYS],
        turned: Vec::new(),
        log_sums: Vec::new(),
        products: Vec::new(),
    };
    dqkv.par_chunks_mut(length * 3 * width).zip(lengths).enumerate().for_each_init(
        scratch,
        |scratch, (b, (dqkv, n_keys))| {
            dqkv.fill(0.0);
            let rows = b * length..(b + 1) * length;
            let qkv = &qkv[rows.start * 3 * width..rows.end * 3 * width];
            let (out, dout) = (
                &out[rows.start * width..rows.end * width],
                &dout[rows.start * width..rows.end * width],
            );
            let log_sums = &log_sums[rows.start * n_heads..rows.end * n_heads];
            for h in 0..n_heads {
                let head = h * shape.head_width;
                scratch.prepare(shape, &qkv[head..], &out[head..], &dout[head..], &log_sums[h..]);
                scratch.head(shape, shape.n_keys(*n_keys), &qkv[head..], &mut dqkv[head..]);
            }
        },
    );
}

impl Backward {
    /// Packs what a head's products need; the slices begin at the head's own column.
    fn prepare(&mut self, shape: Shape, qkv: &[f32], out: &[f32], dout: &[f32], log_sums: &[f32]) {
        let (length, width, d) = (shape.length, shape.width(), shape.head_width);
        let q = View { rows: qkv, stride: 3 * width };
        let k = View { rows: &qkv[width..], stride: 3 * width };
        let dout_view = View { rows: dout, stride: width };
        self.keys.pack(k, length, d);
        self.queries.pack(q, length, d);
        self.queries_turned.pack_transpose(q, d, length);
        self.dout.pack(dout_view, length, d);
        self.dout_turned.pack_transpose(dout_view, d, length);
        self.log_sums.clear();
        self.log_sums.extend(log_sums.iter().step_by(shape.n_heads));
        self.products.clear();
        let product = |(out, dout): (&[f32], &[f32])| {
            out[..d].iter().zip(&dout[..d]).fold(0.0_f32, |sum, (o, g)| o.mul_add(*g, sum))
        };
        self.products.extend(out.chunks(width).zip(dout.chunks(width)).map(product));
    }

    /// The gradients of one head; `dqkv` holds zeros there.
    fn head(&mut self, shape: Shape, n_keys: usize, qkv: &[f32], dqkv: &mut [f32]) {
        let (length, width, d) = (shape.length, shape.width(), shape.head_width);
        let stride = 3 * width;
        let (k, v) =
            (View { rows: &qkv[width..], stride }, View { rows: &qkv[2 * width..], stride });
        for first in (0..n_keys).step_by(KEYS_BACKWARD) {
            let n = KEYS_BACKWARD.min(n_keys - first);
            // With a causal mask, no query before the block's first key sees one of them.
            let start = if shape.is_causal { first / KEYS * KEYS } else { 0 };
            for from in (start..length).step_by(KEYS) {
                let queries = from..(from + KEYS).min(length);
                let scores = |c| Into {
                    c,
                    stride: KEYS,
                    n_rows: n,
                    columns: queries.clone(),
                    k: 0..d,
                    continues: false,
                };
                scores(&mut self.weights[..]).times(k.skip(first), &self.queries_turned);
                scores(&mut self.dweights[..]).times(v.skip(first), &self.dout_turned);
                let (log_sums, products) =
                    (&self.log_sums[queries.clone()], &self.products[queries.clone()]);
                let rows = self.weights.chunks_exact_mut(KEYS);
                let rows = rows.zip(self.dweights.chunks_exact_mut(KEYS)).take(n);
                vectorized(
                    #[inline(always)]
                    || {
                        for (i, (p, dp)) in rows.enumerate() {
                            let n_blind = if shape.is_causal {
                                (first + i).saturating_sub(from).min(log_sums.len())
                            } else {
                                0
                            };
                            unweigh(p, dp, log_sums, products, shape.scale());
                            p[..n_blind].fill(0.0);
                            dp[..n_blind].fill(0.0);
                        }
                    },
                );
                let (weights, dweights) = (
                    View { rows: &self.weights, stride: KEYS },
                    View { rows: &self.dweights, stride: KEYS },
                );
                for (column, left, right) in
                    [(2 * width, weights, &self.dout), (width, dweights, &self.queries)]
                {
                    Into {
                        c: &mut dqkv[first * stride + column..],
                        stride,
                        n_rows: n,
                        columns: 0..d,
                        k: queries.clone(),
                        continues: true,
                    }
                    .times(left, right);
                }
                Into {
                    c: &mut dqkv[from * stride..],
                    stride,
                    n_rows: queries.len(),
                    columns: 0..d,
                    k: first..first + n,
                    continues: true,
                }
                .transposed_times(dweights, &self.keys, &mut self.turned);
            }
        }
    }
}

/// From scores to weights, and from the weights' gradients to those of q · k.
#[inline(always)]
fn unweigh(p: &mut [f32], dp: &mut [f32], log_sums: &[f32], products: &[f32], scale: f32) {
    for (((p, dp), log_sum), product) in p.iter_mut().zip(dp).zip(log_sums).zip(products) {
        *p = exp(p.mul_add(scale, -log_sum));
        *dp = *p * (*dp - product) * scale;
    }
}

#[cfg(feature = "burn")]
pub use op::attention;

#[cfg(feature = "gpu")]
pub(crate) mod gpu;
#[cfg(feature = "burn")]
pub(crate) mod op;
#[cfg(test)]
mod tests;
