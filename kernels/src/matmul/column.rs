//! A right operand of one column: the last layer of most models. A tile would compute NR columns of which one is wanted,
//! a tenth of all products of a 256-256 network; here each row is one chain, several rows side by side.
//!
//! The chains are those of [`super::reference()`]: the bits are the same.

use rayon::prelude::*;

use super::Level;

/// Chains side by side: two multiply-adds a cycle, each four cycles long.
const CHAINS: usize = 8;
/// Elements of the result that one thread takes at a time from [`transposed_times`].
const COLUMNS: usize = 64;

/// c = a · b + bias; `b` is the column, `a` row-major with as many columns.
pub(super) fn rows_times(level: Level, a: &[f32], b: &[f32], bias: Option<f32>, c: &mut [f32]) {
    chains_at(level, a, b, c);
    if let Some(bias) = bias {
        c.iter_mut().for_each(|c| *c += bias);
    }
}

/// c = transpose(a) · b; `a` has as many rows as `b` and as many columns as `c`.
pub(super) fn transposed_times(level: Level, a: &[f32], b: &[f32], c: &mut [f32]) {
    let n_columns = c.len();
    c.par_chunks_mut(COLUMNS).enumerate().for_each(|(chunk, c)| {
        c.fill(0.0);
        axpys_at(level, a, n_columns, chunk * COLUMNS, b, c);
    });
}

#[inline(always)]
fn chains(a: &[f32], b: &[f32], c: &mut [f32]) {
    let k = b.len();
    for (group, c) in c.chunks_mut(CHAINS).enumerate() {
        let first = group * CHAINS;
        // Rows past the last read the last again.
        let row: [&[f32]; CHAINS] =
            std::array::from_fn(|i| &a[(first + i.min(c.len() - 1)) * k..][..k]);
        let mut sums = [0.0_f32; CHAINS];
        for (kk, b) in b.iter().enumerate() {
            for (sum, row) in sums.iter_mut().zip(&row) {
                *sum = row[kk].mul_add(*b, *sum);
            }
        }
        c.copy_from_slice(&sums[..c.len()]);
    }
}

#[inline(always)]
fn axpys(a: &[f32], n_columns: usize, first: usize, b: &[f32], c: &mut [f32]) {
    for (row, b) in a.chunks_exact(n_columns).zip(b) {
        for (c, a) in c.iter_mut().zip(&row[first..]) {
            *c = a.mul_add(*b, *c);
        }
    }
}

/// [`chains`], where the compiler may use the instructions of `level`.
#[cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "a function compiled for instructions that must be there")
)]
fn chains_at(level: Level, a: &[f32], b: &[f32], c: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn fused(a: &[f32], b: &[f32], c: &mut [f32]) {
        chains(a, b, c);
    }
    match level {
        // SAFETY: `Level::available` made these levels after finding AVX2 and FMA.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 | Level::Avx2 => unsafe { fused(a, b, c) },
        Level::Plain => chains(a, b, c),
    }
}

/// [`axpys`], where the compiler may use the instructions of `level`.
#[cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "a function compiled for instructions that must be there")
)]
fn axpys_at(level: Level, a: &[f32], n_columns: usize, first: usize, b: &[f32], c: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn fused(a: &[f32], n_columns: usize, first: usize, b: &[f32], c: &mut [f32]) {
        axpys(a, n_columns, first, b, c);
    }
    match level {
        // SAFETY: `Level::available` made these levels after finding AVX2 and FMA.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 | Level::Avx2 => unsafe { fused(a, n_columns, first, b, c) },
        Level::Plain => axpys(a, n_columns, first, b, c),
    }
}
