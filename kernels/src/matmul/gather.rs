//! A left operand that lies scattered: the pixels under a convolution's window, read where they are instead of copied
//! into a matrix first.
//!
//! Element (i, k) of the left operand is `elements[starts[i] + place(k)]`: each row has its own start, and all rows share
//! the places, which come in [`Pieces`] of equal steps. The chains are those of [`super::reference()`].

use super::{
    Left, Level, Packed,
    pack::Panels,
    tile::{Element as _, Tile},
};

/// The places of k: pieces of some length, `step` apart within a piece.
#[derive(Clone, Debug)]
pub(crate) struct Pieces {
    /// Place and k of the first element of each piece, and its length. None is empty.
    pieces: Vec<(usize, usize, usize)>,
    step: usize,
    n: usize,
    /// One past the last place.
    reach: usize,
}

impl Pieces {
    /// Pieces that begin at `places` and are `len` long; piece p holds k from p × `len` on.
    pub(crate) fn new(places: impl IntoIterator<Item = usize>, len: usize, step: usize) -> Self {
        let pieces: Vec<(usize, usize, usize)> = places
            .into_iter()
            .filter(|_| 0 < len)
            .enumerate()
            .map(|(p, place)| (place, p * len, len))
            .collect();
        let n = pieces.len() * len;
        let last = pieces.iter().map(|(place, ..)| place + (len - 1) * step + 1).max();
        Self { pieces, step, n, reach: last.unwrap_or(0) }
    }

    /// Length of k.
    pub(super) const fn len(&self) -> usize {
        self.n
    }

    pub(super) const fn step(&self) -> usize {
        self.step
    }

    pub(super) const fn reach(&self) -> usize {
        self.reach
    }

    /// (first place, first k, length) of each piece.
    pub(super) fn each_piece(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        self.pieces.iter().copied()
    }

    /// (place, k) of each element.
    pub(super) fn each(&self) -> impl Iterator<Item = (usize, usize)> {
        let step = self.step;
        self.each_piece()
            .flat_map(move |(place, k, len)| (0..len).map(move |i| (place + i * step, k + i)))
    }
}

/// A scattered left operand.
#[derive(Clone, Copy)]
pub(crate) struct Gathered<'a, E = f32> {
    pub(crate) elements: &'a [E],
    /// One a row.
    pub(crate) starts: &'a [usize],
    pub(crate) pieces: &'a Pieces,
}

/// A right operand of `n` columns.
#[derive(Clone, Copy)]
pub(crate) struct Operand<'a> {
    level: Level,
    elements: &'a [f32],
    n: usize,
    /// From one k to the next.
    stride: usize,
    /// From one panel of NR columns to the next.
    panel: usize,
}

impl<'a> Operand<'a> {
    /// Panels of f32 as they were packed.
    pub(crate) fn packed(b: &'a Packed) -> Self {
        let Panels::Floats(elements) = &b.panels else {
            unreachable!("who gathers packs f32");
        };
        let nr = b.level.nr();
        Self { level: b.level, elements, n: b.n, stride: nr, panel: nr * b.k }
    }

    /// Rows that need no packing, because they are filled up with zeros to `stride`, a multiple of NR.
    pub(crate) fn rows(level: Level, elements: &'a [f32], n: usize, stride: usize) -> Self {
        assert!(
            stride.is_multiple_of(level.nr()) && n <= stride,
            "{n} columns in rows of {stride}"
        );
        Self { level, elements, n, stride, panel: level.nr() }
    }
}

/// What is done to sums while they are in registers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums<'a> {
    /// They are added to what c holds.
    pub(crate) continues: bool,
    /// Added to every row: n numbers, filled up to whole panels.
    pub(crate) bias: Option<&'a [f32]>,
    /// Negative ones become 0. NaN stays NaN.
    pub(crate) relu: bool,
}

/// c = left · right, done with as `sums` says.
pub(crate) fn gathered_times(
    left: Gathered<'_>,
    right: Operand<'_>,
    sums: Sums<'_>,
    c: &mut [f32],
) {
    let Operand { level, n, stride, panel, .. } = right;
    let (mr, nr) = (level.mr(), level.nr());
    assert_eq!(c.len(), left.starts.len() * n, "one start a row");
    for (p, first_column) in (0..n).step_by(nr).enumerate() {
        let elements = right.elements.get(p * panel..).unwrap_or_default();
        for (tile, starts) in left.starts.chunks(mr).enumerate() {
            let mut tile = Tile {
                n_rows: starts.len(),
                n_columns: nr.min(n - first_column),
                k: left.pieces.len(),
                left: Left::Gathered { left: Gathered { starts, ..left }, right_stride: stride },
                right: elements,
                continues: sums.continues,
                bias: sums.bias.map(|bias| &bias[first_column..][..nr]),
                relu: sums.relu,
                c: &mut c[tile * mr * n + first_column..],
                stride: n,
            };
            f32::run(&mut tile, level);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Gathered, Operand, Pieces, Sums, gathered_times};
    use crate::{
        matmul::{Level, Packed, Precision, reference},
        testing::{assert_same_bits, uniform},
    };

    #[test]
    fn a_gathered_operand_is_multiplied_as_if_it_had_been_copied() {
        let elements = uniform(1, 4000);
        for (m, n_pieces, len, step, n) in [
            (1, 1, 1, 1, 1),
            (12, 3, 5, 1, 32),
            (13, 2, 7, 3, 33),
            (40, 4, 4, 2, 17),
            (5, 0, 3, 1, 8),
        ] {
            let pieces = Pieces::new((0..n_pieces).map(|p| 100 - 13 * p), len, step);
            let starts: Vec<usize> = (0..m).map(|i| i * 37 % 101 * 30).collect();
            let k = n_pieces * len;
            let a: Vec<f32> = starts
                .iter()
                .flat_map(|start| pieces.each().map(move |(place, _)| start + place))
                .map(|at| elements[at])
                .collect();
            let b = uniform(2, k * n);
            let expected = if k == 0 { vec![0.0; m * n] } else { reference(&a, &b, k, n) };
            for level in Level::available() {
                let left = Gathered { elements: &elements, starts: &starts, pieces: &pieces };
                let packed = Packed::at(level, Precision::F32, &b, k, n);
                let mut c = vec![f32::NAN; m * n];
                gathered_times(left, Operand::packed(&packed), Sums::default(), &mut c);
                assert_same_bits(&expected, &c, (level, m, k, n));

                let stride = n.next_multiple_of(level.nr());
                let mut rows = vec![0.0; k * stride];
                for (into, row) in rows.chunks_exact_mut(stride).zip(b.chunks_exact(n)) {
                    into[..n].copy_from_slice(row);
                }
                let mut c = vec![0.0; m * n];
                let right = Operand::rows(level, &rows, n, stride);
                gathered_times(left, right, Sums { continues: true, ..Sums::default() }, &mut c);
                assert_same_bits(&expected, &c, (level, m, k, n));
            }
        }
    }
}
