//! Small products on the calling thread, of operands whose rows need not be adjacent: what attention is made of.
//!
//! The chains are those of [`super::reference()`]: each element is one chain of fused multiply-adds in the order of k, also
//! when k comes in pieces.

use std::ops::Range;

use super::{
    Level,
    tile::{Element as _, Left, Tile},
};

/// Rows that are transposed side by side; divides every NR.
const STRIP: usize = 8;

/// A matrix inside a larger one: row i begins at i × stride.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) rows: &'a [f32],
    pub(crate) stride: usize,
}

impl<'a> View<'a> {
    /// The view from row `i` on.
    pub(crate) fn skip(self, i: usize) -> Self {
        Self { rows: &self.rows[(i * self.stride).min(self.rows.len())..], ..self }
    }

    fn row(self, i: usize, width: usize) -> &'a [f32] {
        &self.rows[i * self.stride..][..width]
    }
}

/// A right operand, k × n, in panels of NR columns as in [`super::Packed`]. Its memory is used again by the next one.
pub(crate) struct Block {
    level: Level,
    panels: Vec<f32>,
    k: usize,
    n: usize,
}

impl Block {
    pub(crate) fn new() -> Self {
        Self { level: Level::best(), panels: Vec::new(), k: 0, n: 0 }
    }

    fn resize(&mut self, k: usize, n: usize) {
        let nr = self.level.nr();
        (self.k, self.n) = (k, n);
        self.panels.resize(n.next_multiple_of(nr) * k, 0.0);
        // What is not filled up below.
        let n_whole = n / nr * nr * k;
        self.panels[n_whole..].fill(0.0);
    }

    /// Packs the first `k` rows of `b`, `n` numbers each.
    pub(crate) fn pack(&mut self, b: View<'_>, k: usize, n: usize) {
        self.resize(k, n);
        let nr = self.level.nr();
        for (p, panel) in self.panels.chunks_exact_mut((nr * k).max(1)).enumerate() {
            let width = nr.min(n - p * nr);
            for (i, into) in panel.chunks_exact_mut(nr).enumerate() {
                into[..width].copy_from_slice(&b.row(i, n)[p * nr..][..width]);
            }
        }
    }

    /// Packs the transpose of the first `n` rows of `b`, `k` numbers each.
    pub(crate) fn pack_transpose(&mut self, b: View<'_>, k: usize, n: usize) {
        self.resize(k, n);
        let nr = self.level.nr();
        for (p, panel) in self.panels.chunks_exact_mut((nr * k).max(1)).enumerate() {
            let width = nr.min(n - p * nr);
            for first in (0..width).step_by(STRIP) {
                // Rows past the last read the last again; what they write is filled up with zeros below.
                let rows: [&[f32]; STRIP] =
                    std::array::from_fn(|j| b.row(p * nr + (first + j).min(width - 1), k));
                for (i, into) in panel[first..].chunks_mut(nr).enumerate().take(k) {
                    let strip: [f32; STRIP] = std::array::from_fn(|j| rows[j][i]);
                    into[..STRIP].copy_from_slice(&strip);
                }
            }
            for into in panel.chunks_exact_mut(nr) {
                into[width..].fill(0.0);
            }
        }
    }
}

/// Where a product goes, and how it is cut.
pub(crate) struct Into<'a> {
    /// The result: `n_rows` rows of one number for each of `columns`.
    pub(crate) c: &'a mut [f32],
    pub(crate) stride: usize,
    pub(crate) n_rows: usize,
    /// Columns of the right operand; the first must be a multiple of its panel's width.
    pub(crate) columns: Range<usize>,
    /// Rows of the right operand that are summed over.
    pub(crate) k: Range<usize>,
    /// Whether `c` holds the sum so far.
    pub(crate) continues: bool,
}

impl Into<'_> {
    /// a · b. Element (i, kk) of `a` meets row `k.start` + kk of `b`.
    pub(crate) fn times(self, a: View<'_>, b: &Block) {
        self.multiply(b, |first| Left::Rows { rows: a.skip(first).rows, stride: a.stride });
    }

    /// transpose(a) · b. Row kk of `a` meets row `k.start` + kk of `b`; column i of `a` makes row i of the result.
    pub(crate) fn transposed_times(self, a: View<'_>, b: &Block, scratch: &mut Vec<f32>) {
        let (mr, k) = (b.level.mr(), self.k.len());
        scratch.clear();
        scratch.resize(self.n_rows.next_multiple_of(mr) * k, 0.0);
        for (panel, into) in scratch.chunks_exact_mut((mr * k).max(1)).enumerate() {
            let width = mr.min(self.n_rows - panel * mr);
            for (kk, into) in into.chunks_exact_mut(mr).enumerate() {
                into[..width].copy_from_slice(&a.row(kk, self.n_rows)[panel * mr..][..width]);
            }
        }
        let scratch = &*scratch;
        self.multiply(b, |first| Left::Panel(&scratch[first * k..][..mr * k]));
    }

    fn multiply<'b>(self, b: &Block, left: impl Fn(usize) -> Left<'b, f32>) {
        let (mr, nr) = (b.level.mr(), b.level.nr());
        let Self { c, stride, n_rows, columns, k, continues } = self;
        assert!(columns.start.is_multiple_of(nr) && columns.end <= b.n && k.end <= b.k);
        for first_column in columns.clone().step_by(nr) {
            let right = &b.panels[first_column * b.k + k.start * nr..][..k.len() * nr];
            for first_row in (0..n_rows).step_by(mr) {
                let mut tile = Tile {
                    n_rows: mr.min(n_rows - first_row),
                    n_columns: nr.min(columns.end - first_column),
                    k: k.len(),
                    left: left(first_row),
                    right,
                    continues,
                    bias: None,
                    relu: false,
                    c: &mut c[first_row * stride + first_column - columns.start..],
                    stride,
                };
                f32::run(&mut tile, b.level);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Block, Into, View};
    use crate::testing::{assert_same_bits, uniform};

    /// `n_rows` × `n` numbers spread into rows `stride` apart.
    fn spread(x: &[f32], n: usize, stride: usize) -> Vec<f32> {
        let row = |row: &[f32]| [row, &vec![f32::NAN; stride - n]].concat();
        x.chunks_exact(n).flat_map(row).collect()
    }

    #[test]
    fn matches_reference_bit_for_bit_in_pieces_and_with_strides() {
        for (m, k, n) in [(1, 1, 1), (5, 8, 33), (24, 32, 128), (25, 33, 70), (13, 2, 40)] {
            let (a, b) = (uniform(1, m * k), uniform(2, k * n));
            let expected = crate::matmul::reference(&a, &b, k, n);
            let transposed: Vec<f32> = (0..n * k).map(|at| b[at % k * n + at / k]).collect();
            let turned: Vec<f32> = (0..k * m).map(|at| a[at % m * k + at / m]).collect();
            let (a, b) = (spread(&a, k, k + 3), spread(&b, n, n + 1));
            let (transposed, turned) = (spread(&transposed, k, k + 2), spread(&turned, m, m + 5));
            let a = View { rows: &a, stride: k + 3 };
            let turned = View { rows: &turned, stride: m + 5 };
            let mut block = Block::new();
            for is_transposed in [false, true] {
                if is_transposed {
                    block.pack_transpose(View { rows: &transposed, stride: k + 2 }, k, n);
                } else {
                    block.pack(View { rows: &b, stride: n + 1 }, k, n);
                }
                for is_left_turned in [false, true] {
                    let mut c = vec![f32::NAN; m * (n + 2)];
                    for k in [0..k / 2, k / 2..k] {
                        let into = Into {
                            c: &mut c,
                            stride: n + 2,
                            n_rows: m,
                            columns: 0..n,
                            k: k.clone(),
                            continues: 0 < k.start,
                        };
                        if is_left_turned {
                            let from = turned.skip(k.start);
                            into.transposed_times(from, &block, &mut Vec::new());
                        } else {
                            let from = View { rows: &a.rows[k.start..], stride: a.stride };
                            into.times(from, &block);
                        }
                    }
                    let c: Vec<f32> = c.chunks(n + 2).flat_map(|row| row[..n].to_vec()).collect();
                    assert_same_bits(&expected, &c, (m, k, n, is_transposed, is_left_turned));
                }
            }
        }
    }

    #[test]
    fn a_range_of_columns_is_those_columns() {
        let (m, k, n) = (3, 4, 100);
        let (a, b) = (uniform(1, m * k), uniform(2, k * n));
        let expected = crate::matmul::reference(&a, &b, k, n);
        let mut block = Block::new();
        block.pack(View { rows: &b, stride: n }, k, n);
        let mut c = vec![f32::NAN; m * 20];
        let a = View { rows: &a, stride: k };
        let columns = 64..84;
        Into { c: &mut c, stride: 20, n_rows: m, columns, k: 0..k, continues: false }
            .times(a, &block);
        for (c, expected) in c.chunks(20).zip(expected.chunks(n)) {
            assert_same_bits(&expected[64..84], c, "columns");
        }
    }
}
