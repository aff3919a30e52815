//! `matmul`: c\[i, j\] = sum over k of a\[i, k\] · b\[k, j\], each element one chain of fused multiply-adds in the order of k.
//!
//! Why not a library: the chain makes the bits a property of the formula. They do not depend on threads, vector width,
//! cache sizes or how many other rows there are, so the same code trains reproducibly and scores a row the same in any
//! batch. A library that cuts k by cache size, or picks another kernel for few rows, promises neither.
//!
//! versions: 1  tiles of MR × NR in registers, the right operand packed into panels of NR columns, k cut into pieces
//! of [`KC`] whose partial sums wait in c (a store and a load do not change an f32).
//! 2  [`Precision::Bf16`]: two products an instruction where the processor has AVX512-BF16, see [`bf16`].
//! bound by: flops; 95 % of one core's peak at 1024 × 256 × 256 (AVX2), as the `gemm` crate.
//!
//! Reading order: [`reference()`], [`Packed`], [`rows_times`], [`transposed_times`], then the tiles.

use rayon::prelude::*;

mod bf16;
pub(crate) mod block;
mod column;
mod gather;
mod pack;
mod tile;

pub(crate) use gather::{Gathered, Operand, Pieces, Sums, gathered_times};
pub use pack::Packed;
use pack::Panels;
use tile::{Element, Left, Tile};

use crate::{activation::Activation, simd::vectorized};

/// Piece of k: KC × NR floats of the right operand stay in the first-level cache.
const KC: usize = 256;
/// Rows of c that one thread takes at a time from [`rows_times`]; a multiple of every MR. Small, so that a batch of 1024 is
/// shared evenly: with 96 two threads wait 12 % of the time for one another.
const ROWS: usize = 48;
/// The same for [`transposed_times`], where rows are few (layer inputs) and k is long.
const ROWS_TRANSPOSED: usize = 12;
/// Columns that one thread sums at a time in [`column_sums`].
const COLUMNS: usize = 128;

/// The definition: `a` is m × k, `b` is k × n, all row-major.
pub fn reference(a: &[f32], b: &[f32], k: usize, n: usize) -> Vec<f32> {
    let row = |a: &[f32], j: usize| {
        a.iter().enumerate().fold(0.0_f32, |sum, (kk, x)| x.mul_add(b[kk * n + j], sum))
    };
    a.chunks_exact(k).flat_map(|a| (0..n).map(move |j| row(a, j))).collect()
}

/// Instructions that tiles are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// What the compiler makes of plain loops: good on aarch64, slow on x86 processors from before 2013.
    Plain,
}

impl Level {
    /// The levels this machine has, best first. The only place that makes one.
    pub(crate) fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let has_avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        #[cfg(target_arch = "x86_64")]
        let found = [
            (has_avx2 && is_x86_feature_detected!("avx512f")).then_some(Self::Avx512),
            has_avx2.then_some(Self::Avx2),
            Some(Self::Plain),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let found = [Some(Self::Plain)];
        found.into_iter().flatten()
    }

    pub(crate) fn best() -> Self {
        Self::available().next().unwrap_or(Self::Plain)
    }

    /// Rows of a tile.
    pub(crate) const fn mr(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => 12,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => 6,
            Self::Plain => 6,
        }
    }

    /// Columns of a tile.
    pub(crate) const fn nr(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => 32,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => 16,
            Self::Plain => 16,
        }
    }
}

/// The instructions that products are made of on this machine, for people: `AVX-512`.
#[must_use]
pub fn instructions() -> &'static str {
    match Level::best() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => "AVX-512",
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => "AVX2",
        Level::Plain => "plain instructions",
    }
}

/// What products are made of. Sums are f32 in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// f32.
    #[default]
    F32,
    /// Both operands rounded to bf16 (eight bits of mantissa, to nearest, ties to even) as they are packed.
    Bf16,
}

impl Precision {
    /// The instructions that make its products on this machine, for people.
    #[must_use]
    pub fn instructions(self) -> &'static str {
        match self {
            Self::Bf16 if bf16::is_native(Level::best()) => "AVX512-BF16",
            Self::F32 | Self::Bf16 => instructions(),
        }
    }

    /// Whether this machine has instructions for it; else bf16 is f32 products of rounded operands: as exact, no faster.
    #[must_use]
    pub fn is_native(self) -> bool {
        self == Self::F32 || bf16::is_native(Level::best())
    }
}

/// What is done to a finished element before it is stored.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// Added to every row: n numbers.
    pub bias: Option<&'a [f32]>,
    /// Applied after the bias: ReLU while the tile is in registers, the others while its rows are in the second-level
    /// cache.
    pub activation: Activation,
}

/// c = epilogue(a · b), `a` row-major with `b.k` columns.
pub fn rows_times(a: &[f32], b: &Packed, epilogue: Epilogue<'_>, c: &mut [f32]) {
    rows_times_keeping(a, b, epilogue, None, c);
}

/// [`rows_times`]; what c was before the activation goes to `z`, which is as long as `c`.
pub fn rows_times_keeping(
    a: &[f32],
    b: &Packed,
    epilogue: Epilogue<'_>,
    z: Option<&mut [f32]>,
    c: &mut [f32],
) {
    let Packed { k, n, .. } = *b;
    if n == 0 || c.is_empty() {
        return;
    }
    assert_eq!(a.len() * n, c.len() * k, "rows of the left operand and of the result");
    assert!(epilogue.bias.is_none_or(|bias| bias.len() == n), "one bias a column");
    let right = Right::new(b, epilogue.bias);
    let (in_tile, after) = match epilogue.activation {
        Activation::Relu if z.is_none() => (Activation::Relu, Activation::Identity),
        after => (Activation::Identity, after),
    };
    let products = |chunk: usize, c: &mut [f32]| {
        let a = &a[chunk * ROWS * k..][..c.len() / n * k];
        right.products(a, in_tile == Activation::Relu, c);
    };
    match z {
        None => c.par_chunks_mut(ROWS * n).enumerate().for_each(|(chunk, c)| {
            products(chunk, c);
            after.apply(c);
        }),
        Some(z) => {
            assert_eq!(z.len(), c.len(), "one element before for each after the activation");
            let chunks = z.par_chunks_mut(ROWS * n).zip(c.par_chunks_mut(ROWS * n));
            chunks.enumerate().for_each(|(chunk, (z, c))| {
                products(chunk, z);
                after.values(z, c);
            });
        }
    }
}

/// A right operand with its bias, as [`rows_times`] uses it for each chunk of rows.
enum Right<'a> {
    /// Its only column.
    Column { b: &'a Packed, column: Vec<f32>, bias: Option<f32> },
    /// The bias is filled up with zeros to a whole number of panels.
    Panels { b: &'a Packed, bias: Option<Vec<f32>> },
}

impl<'a> Right<'a> {
    fn new(b: &'a Packed, bias: Option<&[f32]>) -> Self {
        match b.only_column() {
            Some(column) => Self::Column { b, column, bias: bias.map(|it| it[0]) },
            None => {
                let padded = |bias: &[f32]| {
                    let mut padded = bias.to_vec();
                    padded.resize(b.n.next_multiple_of(b.level.nr()), 0.0);
                    padded
                };
                Self::Panels { b, bias: bias.map(padded) }
            }
        }
    }

    /// c = a · b + bias, cut at zero with `relu`.
    fn products(&self, a: &[f32], relu: bool, c: &mut [f32]) {
        let (Self::Column { b, .. } | Self::Panels { b, .. }) = self;
        let rounded;
        let a = match (b.precision, self, &b.panels) {
            (Precision::F32, ..) | (_, Self::Panels { .. }, Panels::Pairs(_)) => a,
            (Precision::Bf16, ..) => {
                rounded = bf16::all_rounded(a);
                &rounded
            }
        };
        match self {
            Self::Column { b, column, bias } => {
                column::rows_times(b.level, a, column, *bias, c);
                if relu {
                    Activation::Relu.apply(c);
                }
            }
            Self::Panels { b, bias } => {
                let end = End { bias: bias.as_deref(), relu };
                match &b.panels {
                    Panels::Floats(panels) => rows_in_pieces(b, panels, a, b.k, end, c),
                    Panels::Pairs(panels) => {
                        let pairs = bf16::pairs_of_rows(a, b.k);
                        rows_in_pieces(b, panels, &pairs, b.k.div_ceil(2), end, c);
                    }
                }
            }
        }
    }
}

/// c = a · panels; both have `k` elements a row.
fn rows_in_pieces<E: Element>(
    b: &Packed,
    panels: &[E],
    a: &[E],
    k: usize,
    end: End<'_>,
    c: &mut [f32],
) {
    // Pieces inside: a panel's columns of c are finished before the next are begun, so each goes to memory once.
    for first_column in (0..b.n).step_by(b.level.nr()) {
        for_pieces(k, |from, len| {
            let end = if from + len == k { end } else { End::default() };
            let piece = Piece { panels, k, from, len, end };
            let left = |first: usize| Left::Rows { rows: &a[first * k + from..], stride: k };
            piece.multiply_panel(b, first_column, c, left);
        });
    }
}

/// c = transpose(a) · b, where `a` is row-major with b.k rows and m columns: the gradient of a layer's weights.
pub fn transposed_times(a: &[f32], b: &Packed, c: &mut [f32]) {
    let Packed { k, n, level, .. } = *b;
    if n == 0 || c.is_empty() {
        return;
    }
    let m_all = c.len() / n;
    assert_eq!(a.len(), k * m_all, "the left operand is {k} x {m_all}");
    if let Some(column) = b.only_column() {
        let rounded;
        let a = match b.precision {
            Precision::F32 => a,
            Precision::Bf16 => {
                rounded = bf16::all_rounded(a);
                &rounded
            }
        };
        return column::transposed_times(level, a, &column, c);
    }
    c.par_chunks_mut(ROWS_TRANSPOSED * n).enumerate().for_each(|(chunk, c)| {
        let first = chunk * ROWS_TRANSPOSED;
        match &b.panels {
            Panels::Floats(panels) => transposed_in_pieces(b, panels, k, c, |kk, column, into| {
                into.copy_from_slice(&a[kk * m_all + first + column..][..into.len()]);
                if b.precision == Precision::Bf16 {
                    into.iter_mut().for_each(|x| *x = bf16::rounded(*x));
                }
            }),
            Panels::Pairs(panels) => {
                transposed_in_pieces(b, panels, k.div_ceil(2), c, |kk, column, into| {
                    let row = |kk| a[kk * m_all + first + column..].get(..into.len());
                    let odd = if 2 * kk + 1 < k { row(2 * kk + 1) } else { None };
                    let even = row(2 * kk).unwrap_or_default();
                    bf16::pair_up(even, odd, into);
                });
            }
        }
    });
}

/// c = transpose(a) · panels for some columns of a; `left(k, column, into)` gives consecutive elements of row k of a.
fn transposed_in_pieces<E: Element>(
    b: &Packed,
    panels: &[E],
    k: usize,
    c: &mut [f32],
    left: impl Fn(usize, usize, &mut [E]),
) {
    let (m, mr) = (c.len() / b.n, b.level.mr());
    // [row panel][k][MR], filled up with zeros.
    let mut packed = vec![E::default(); m.next_multiple_of(mr) * KC];
    for_pieces(k, |from, len| {
        vectorized(
            #[inline(always)]
            || {
                for (panel, into) in packed.chunks_exact_mut(mr * KC).enumerate() {
                    let width = mr.min(m - panel * mr);
                    for (kk, into) in into.chunks_exact_mut(mr).take(len).enumerate() {
                        left(from + kk, panel * mr, &mut into[..width]);
                    }
                }
            },
        );
        let piece = Piece { panels, k, from, len, end: End::default() };
        piece.multiply(b, c, |first| Left::Panel(&packed[first * KC..][..len * mr]));
    });
}

/// Sum of each of the `n` columns of `x`, row-major, adding in the order of rows.
#[must_use]
pub fn column_sums(x: &[f32], n: usize) -> Vec<f32> {
    let mut sums = vec![0.0; n];
    sums.par_chunks_mut(COLUMNS).enumerate().for_each(|(chunk, sums)| {
        vectorized(
            #[inline(always)]
            || {
                for row in x.chunks_exact(n) {
                    for (sum, x) in sums.iter_mut().zip(&row[chunk * COLUMNS..]) {
                        *sum += x;
                    }
                }
            },
        );
    });
    sums
}

/// Calls `f(from, len)` for consecutive pieces of k; once with an empty piece when k is 0, so that c is written.
fn for_pieces(k: usize, mut f: impl FnMut(usize, usize)) {
    f(0, k.min(KC));
    for from in (KC..k).step_by(KC) {
        f(from, KC.min(k - from));
    }
}

/// What happens after the last piece of k.
#[derive(Clone, Copy, Default)]
struct End<'a> {
    /// One for each column of the panels.
    bias: Option<&'a [f32]>,
    relu: bool,
}

/// One piece of k for some rows of c.
struct Piece<'a, E> {
    panels: &'a [E],
    /// Elements a column of the panels.
    k: usize,
    from: usize,
    len: usize,
    end: End<'a>,
}

impl<E: Element> Piece<'_, E> {
    /// Adds this piece's products to `c`. `left(i)` is the left operand from row `i` on, cut to this piece.
    fn multiply<'a>(&self, b: &Packed, c: &mut [f32], left: impl Fn(usize) -> Left<'a, E>)
    where
        E: 'a,
    {
        // Panels outside, so that one panel's piece stays in the first-level cache for all rows.
        for first_column in (0..b.n).step_by(b.level.nr()) {
            self.multiply_panel(b, first_column, c, &left);
        }
    }

    /// [`Piece::multiply`] for the columns of one panel.
    fn multiply_panel<'a>(
        &self,
        b: &Packed,
        first_column: usize,
        c: &mut [f32],
        left: impl Fn(usize) -> Left<'a, E>,
    ) where
        E: 'a,
    {
        let Packed { level, n, .. } = *b;
        let (mr, nr) = (level.mr(), level.nr());
        let m = c.len() / n;
        let right = &self.panels[first_column * self.k + self.from * nr..][..self.len * nr];
        for first_row in (0..m).step_by(mr) {
            let mut tile = Tile {
                n_rows: mr.min(m - first_row),
                n_columns: nr.min(n - first_column),
                k: self.len,
                left: left(first_row),
                right,
                continues: 0 < self.from,
                bias: self.end.bias.map(|bias| &bias[first_column..][..nr]),
                relu: self.end.relu,
                c: &mut c[first_row * n + first_column..],
                stride: n,
            };
            E::run(&mut tile, level);
        }
    }
}

#[cfg(feature = "gpu")]
pub(crate) mod gpu;

#[cfg(test)]
mod tests;
