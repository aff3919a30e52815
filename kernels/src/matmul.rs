//! `matmul`: c\[i, j\] = sum over k of a\[i, k\] · b\[k, j\], each element one chain of fused multiply-adds in the order of k.
//!
//! Why not a library: the chain makes the bits a property of the formula. They do not depend on threads, vector width,
//! cache sizes or how many other rows there are, so the same code trains reproducibly and scores a row the same in any
//! batch. A library that cuts k by cache size, or picks another kernel for few rows, promises neither.
//!
//! versions: 1  tiles of MR × NR in registers, the right operand packed into panels of NR columns, k cut into pieces
//! of [`KC`] whose partial sums wait in c (a store and a load do not change an f32).
//! bound by: flops; 95 % of one core's peak at 1024 × 256 × 256 (AVX2), as the `gemm` crate.
//!
//! Reading order: [`reference()`], [`Packed`], [`rows_times`], [`transposed_times`], then the tiles.

use rayon::prelude::*;

mod column;
mod tile;

use tile::{Left, Tile};

use crate::activation::Activation;

/// Piece of k: KC × NR floats of the right operand stay in the first-level cache.
const KC: usize = 256;
/// Rows of c that one thread takes at a time from [`rows_times`]; a multiple of every MR.
const ROWS: usize = 96;
/// The same for [`transposed_times`], where rows are few (layer inputs) and k is long.
const ROWS_TRANSPOSED: usize = 24;
/// Elements above which packing is worth a second thread.
const PACK_PARALLEL: usize = 1 << 14;

/// The definition: `a` is m × k, `b` is k × n, all row-major.
pub fn reference(a: &[f32], b: &[f32], k: usize, n: usize) -> Vec<f32> {
    let row = |a: &[f32], j: usize| {
        a.iter().enumerate().fold(0.0_f32, |sum, (kk, x)| x.mul_add(b[kk * n + j], sum))
    };
    a.chunks_exact(k).flat_map(|a| (0..n).map(move |j| row(a, j))).collect()
}

/// Instructions that tiles are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// What the compiler makes of plain loops: good on aarch64, slow on x86 processors from before 2013.
    Plain,
}

impl Level {
    /// The levels this machine has, best first. The only place that makes one.
    fn available() -> impl Iterator<Item = Self> {
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

    fn best() -> Self {
        Self::available().next().unwrap_or(Self::Plain)
    }

    /// Rows of a tile.
    const fn mr(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => 12,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => 6,
            Self::Plain => 6,
        }
    }

    /// Columns of a tile.
    const fn nr(self) -> usize {
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

/// A right operand, k × n, cut into panels of NR columns; within a panel the rows follow each other. The last panel
/// is filled up with zeros.
pub struct Packed {
    level: Level,
    panels: Vec<f32>,
    k: usize,
    n: usize,
}

impl Packed {
    /// Packs `b`, k × n row-major.
    #[must_use]
    pub fn new(b: &[f32], k: usize, n: usize) -> Self {
        Self::at(Level::best(), b, k, n)
    }

    fn at(level: Level, b: &[f32], k: usize, n: usize) -> Self {
        assert_eq!(b.len(), k * n, "right operand of {k} x {n}");
        let nr = level.nr();
        Self::fill(level, k, n, |first, width, panel| {
            for (row, into) in b.chunks_exact(n).zip(panel.chunks_exact_mut(nr)) {
                into[..width].copy_from_slice(&row[first..][..width]);
            }
        })
    }

    /// Packs the transpose of `b`, which is n × k row-major.
    #[must_use]
    pub fn transpose(b: &[f32], k: usize, n: usize) -> Self {
        Self::transpose_at(Level::best(), b, k, n)
    }

    fn transpose_at(level: Level, b: &[f32], k: usize, n: usize) -> Self {
        assert_eq!(b.len(), k * n, "transposed right operand of {n} x {k}");
        let nr = level.nr();
        Self::fill(level, k, n, |first, width, panel| {
            for (j, row) in b[first * k..].chunks_exact(k).take(width).enumerate() {
                for (into, x) in panel[j..].iter_mut().step_by(nr).zip(row) {
                    *into = *x;
                }
            }
        })
    }

    fn fill(
        level: Level,
        k: usize,
        n: usize,
        panel: impl Fn(usize, usize, &mut [f32]) + Sync,
    ) -> Self {
        let nr = level.nr();
        let n_panels = n.div_ceil(nr);
        let mut panels = vec![0.0; n_panels * nr * k];
        let one = |(p, into): (usize, &mut [f32])| panel(p * nr, nr.min(n - p * nr), into);
        if k == 0 {
            // No panel has a row.
        } else if PACK_PARALLEL <= k * n {
            panels.par_chunks_exact_mut(nr * k).enumerate().for_each(one);
        } else {
            panels.chunks_exact_mut(nr * k).enumerate().for_each(one);
        }
        Self { level, panels, k, n }
    }

    /// The only column, when there is one.
    fn only_column(&self) -> Option<Vec<f32>> {
        let first_of_rows = self.panels.iter().step_by(self.level.nr());
        (self.n == 1).then(|| first_of_rows.copied().collect())
    }

    /// Sum of each column, adding in the order of rows.
    #[must_use]
    pub fn column_sums(&self) -> Vec<f32> {
        let nr = self.level.nr();
        let sum = |panel: &[f32]| {
            let mut sums = [0.0_f32; 32];
            for row in panel.chunks_exact(nr) {
                for (sum, x) in sums.iter_mut().zip(row) {
                    *sum += x;
                }
            }
            sums
        };
        let panel_len = (nr * self.k).max(1);
        let sums: Vec<[f32; 32]> = if PACK_PARALLEL <= self.panels.len() {
            self.panels.par_chunks_exact(panel_len).map(sum).collect()
        } else {
            self.panels.chunks_exact(panel_len).map(sum).collect()
        };
        let mut flat: Vec<f32> = sums.iter().flat_map(|sums| &sums[..nr]).copied().collect();
        flat.resize(self.n, 0.0);
        flat
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
    Column { level: Level, column: Vec<f32>, bias: Option<f32> },
    /// The bias is filled up with zeros to a whole number of panels.
    Panels { b: &'a Packed, bias: Option<Vec<f32>> },
}

impl<'a> Right<'a> {
    fn new(b: &'a Packed, bias: Option<&[f32]>) -> Self {
        match b.only_column() {
            Some(column) => Self::Column { level: b.level, column, bias: bias.map(|it| it[0]) },
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
        match self {
            Self::Column { level, column, bias } => {
                column::rows_times(*level, a, column, *bias, c);
                if relu {
                    Activation::Relu.apply(c);
                }
            }
            Self::Panels { b, bias } => {
                let k = b.k;
                for_pieces(k, |from, len| {
                    let is_last = from + len == k;
                    let bias = bias.as_deref().filter(|_| is_last);
                    let piece = Piece { from, len, bias, relu: relu && is_last };
                    piece.multiply(b, c, |first| Left::Rows {
                        rows: &a[first * k + from..],
                        stride: k,
                    });
                });
            }
        }
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
        return column::transposed_times(level, a, &column, c);
    }
    let mr = level.mr();
    c.par_chunks_mut(ROWS_TRANSPOSED * n).enumerate().for_each(|(chunk, c)| {
        let m = c.len() / n;
        // [row panel][k][MR], filled up with zeros.
        let mut packed = vec![0.0; m.next_multiple_of(mr) * KC];
        for_pieces(k, |from, len| {
            for (panel, into) in packed.chunks_exact_mut(mr * KC).enumerate() {
                let width = mr.min(m - panel * mr);
                let column = chunk * ROWS_TRANSPOSED + panel * mr;
                for (kk, into) in into.chunks_exact_mut(mr).take(len).enumerate() {
                    into[..width].copy_from_slice(&a[(from + kk) * m_all + column..][..width]);
                }
            }
            let piece = Piece { from, len, bias: None, relu: false };
            piece.multiply(b, c, |first| Left::Panel(&packed[first * KC..][..len * mr]));
        });
    });
}

/// Calls `f(from, len)` for consecutive pieces of k; once with an empty piece when k is 0, so that c is written.
fn for_pieces(k: usize, mut f: impl FnMut(usize, usize)) {
    f(0, k.min(KC));
    for from in (KC..k).step_by(KC) {
        f(from, KC.min(k - from));
    }
}

/// One piece of k for some rows of c.
struct Piece<'a> {
    from: usize,
    len: usize,
    /// Added after the last piece: one for each column of the panels.
    bias: Option<&'a [f32]>,
    relu: bool,
}

impl Piece<'_> {
    /// Adds this piece's products to `c`. `left(i)` is the left operand from row `i` on, cut to this piece.
    fn multiply<'a>(&self, b: &Packed, c: &mut [f32], left: impl Fn(usize) -> Left<'a>) {
        let Packed { level, k, n, .. } = *b;
        let (mr, nr) = (level.mr(), level.nr());
        let m = c.len() / n;
        // Panels outside, so that one panel's piece stays in the first-level cache for all rows.
        for first_column in (0..n).step_by(nr) {
            let right = &b.panels[first_column * k + self.from * nr..][..self.len * nr];
            for first_row in (0..m).step_by(mr) {
                let mut tile = Tile {
                    n_rows: mr.min(m - first_row),
                    n_columns: nr.min(n - first_column),
                    k: self.len,
                    left: left(first_row),
                    right,
                    continues: 0 < self.from,
                    bias: self.bias.map(|bias| &bias[first_column..][..nr]),
                    relu: self.relu,
                    c: &mut c[first_row * n + first_column..],
                    stride: n,
                };
                tile.run(level);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Epilogue, Level, Packed, reference, rows_times, transposed_times};
    use crate::activation::Activation;
    use crate::testing::{assert_same_bits, on_any_threads, uniform};

    const SIZES: [(usize, usize, usize); 16] = [
        (1, 1, 1),
        (97, 300, 1),
        (8, 513, 1),
        (200, 2, 1),
        (3, 0, 1),
        (1, 5, 1),
        (2, 3, 17),
        (6, 4, 16),
        (7, 16, 15),
        (12, 256, 32),
        (13, 257, 33),
        (95, 1, 31),
        (97, 38, 48),
        (193, 513, 5),
        (1, 600, 40),
        (5, 0, 3),
    ];

    fn transpose(x: &[f32], n_rows: usize, n_columns: usize) -> Vec<f32> {
        let element = |at: usize| x[at % n_rows.max(1) * n_columns + at / n_rows.max(1)];
        (0..n_rows * n_columns).map(element).collect()
    }

    fn naive(a: &[f32], b: &[f32], (m, k, n): (usize, usize, usize)) -> Vec<f32> {
        if k == 0 { vec![0.0; m * n] } else { reference(a, b, k, n) }
    }

    #[test]
    fn matches_reference_bit_for_bit_at_awkward_sizes_on_every_level() {
        for (m, k, n) in SIZES {
            let (a, b) = (uniform(1, m * k), uniform(2, k * n));
            let expected = naive(&a, &b, (m, k, n));
            for level in Level::available() {
                let case = (level, m, k, n);
                let mut c = vec![f32::NAN; m * n];
                let packed = Packed::at(level, &b, k, n);
                rows_times(&a, &packed, Epilogue::default(), &mut c);
                assert_same_bits(&expected, &c, case);

                c.fill(f32::NAN);
                let twice = Packed::transpose_at(level, &transpose(&b, k, n), k, n);
                rows_times(&a, &twice, Epilogue::default(), &mut c);
                assert_same_bits(&expected, &c, case);

                c.fill(f32::NAN);
                transposed_times(&transpose(&a, m, k), &packed, &mut c);
                assert_same_bits(&expected, &c, case);
            }
        }
    }

    #[test]
    fn epilogue_adds_the_bias_then_cuts_at_zero_and_keeps_nan() {
        for (m, k, n) in SIZES {
            let (mut a, b, bias) = (uniform(1, m * k), uniform(2, k * n), uniform(3, n));
            if let Some(first) = a.first_mut() {
                *first = f32::NAN;
            }
            let mut expected = naive(&a, &b, (m, k, n));
            for (i, x) in expected.iter_mut().enumerate() {
                *x += bias[i % n];
                *x = if *x < 0.0 { 0.0 } else { *x };
            }
            for level in Level::available() {
                let mut c = vec![7.0; m * n];
                let packed = Packed::at(level, &b, k, n);
                let epilogue = Epilogue { bias: Some(&bias), activation: Activation::Relu };
                rows_times(&a, &packed, epilogue, &mut c);
                for (i, (x, y)) in expected.iter().zip(&c).enumerate() {
                    let is_same = x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan());
                    assert!(is_same, "{level:?} {m}x{k}x{n}: element {i} is {y}, expected {x}");
                }
            }
        }
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        let (m, k, n) = (500, 300, 70);
        let (a, b) = (uniform(1, m * k), uniform(2, k * n));
        let bits = on_any_threads(|| {
            let mut c = vec![0.0; m * n];
            rows_times(&a, &Packed::new(&b, k, n), Epilogue::default(), &mut c);
            let mut d = vec![0.0; k * n];
            // a, read as k_rows = m: transpose(a) is k × m.
            let packed = Packed::new(&c, m, n);
            transposed_times(&a, &packed, &mut d);
            c.extend(d);
            c.extend(packed.column_sums());
            c.iter().map(|x| x.to_bits()).collect::<Vec<u32>>()
        });
        assert!(bits.iter().any(|it| *it != 0));
    }

    /// The sum of a row does not depend on how many rows there are or where it stands.
    #[test]
    fn a_row_does_not_depend_on_its_neighbours() {
        let (k, n) = (300, 40);
        let (a, b) = (uniform(1, 200 * k), uniform(2, k * n));
        let packed = Packed::new(&b, k, n);
        let mut whole = vec![0.0; 200 * n];
        rows_times(&a, &packed, Epilogue::default(), &mut whole);
        for n_rows in [1, 2, 7, 64] {
            for (a, expected) in a.chunks(n_rows * k).zip(whole.chunks(n_rows * n)) {
                let mut c = vec![0.0; expected.len()];
                rows_times(a, &packed, Epilogue::default(), &mut c);
                assert_same_bits(expected, &c, n_rows);
            }
        }
    }

    #[test]
    fn columns_are_summed_in_row_order() {
        // In f32, 1e8 - 1e8 + 1 is 1 from the top and 0 from the bottom: the order is visible.
        let packed = Packed::new(&[1e8, 1.0, -1e8, 2.0, 1.0, 3.0], 3, 2);
        assert_same_bits(&[1.0, 6.0], &packed.column_sums(), "order");
        assert_same_bits(&[0.0; 3], &Packed::new(&[], 0, 3).column_sums(), "no row");
    }
}
