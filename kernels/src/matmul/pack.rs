//! A right operand, cut into panels of as many columns as a tile has.

use rayon::prelude::*;

use super::{
    Level, Precision,
    bf16::{self, Pair},
    tile::Element,
};
use crate::{
    memory::{retire, unwritten},
    simd::vectorized,
};

/// Elements above which packing is worth waking a second thread: 20 µs on one.
const PACK_PARALLEL: usize = 1 << 17;

/// A right operand, k × n, cut into panels of NR columns; within a panel the rows follow each other. The last panel
/// is filled up with zeros.
pub struct Packed {
    pub(super) level: Level,
    pub(super) precision: Precision,
    pub(super) panels: Panels,
    pub(super) k: usize,
    pub(super) n: usize,
}

/// What panels hold.
pub(super) enum Panels {
    /// k rows.
    Floats(Vec<f32>),
    /// ⌈k/2⌉ rows of two consecutive k.
    Pairs(Vec<Pair>),
}

impl Packed {
    /// Packs `b`, k × n row-major.
    #[must_use]
    pub fn new(b: &[f32], k: usize, n: usize) -> Self {
        Self::at(Level::best(), Precision::F32, b, k, n)
    }

    /// [`Packed::new`] for products of `precision`.
    #[must_use]
    pub fn with(precision: Precision, b: &[f32], k: usize, n: usize) -> Self {
        Self::at(Level::best(), precision, b, k, n)
    }

    /// Packs the transpose of `b`, which is n × k row-major.
    #[must_use]
    pub fn transpose(b: &[f32], k: usize, n: usize) -> Self {
        Self::transpose_at(Level::best(), Precision::F32, b, k, n)
    }

    /// [`Packed::transpose`] for products of `precision`.
    #[must_use]
    pub fn transpose_with(precision: Precision, b: &[f32], k: usize, n: usize) -> Self {
        Self::transpose_at(Level::best(), precision, b, k, n)
    }

    pub(crate) fn at(level: Level, precision: Precision, b: &[f32], k: usize, n: usize) -> Self {
        assert_eq!(b.len(), k * n, "right operand of {k} x {n}");
        let nr = level.nr();
        let panels = if precision == Precision::Bf16 && bf16::is_native(level) {
            let pairs = vec![Pair::default(); n.next_multiple_of(nr) * k.div_ceil(2)];
            Panels::Pairs(filled(pairs, nr, n, |first, width, panel| {
                for (rows, into) in b.chunks(2 * n).zip(panel.chunks_exact_mut(nr)) {
                    let odd = rows.get(n + first..n + first + width);
                    bf16::pair_up(&rows[first..][..width], odd, into);
                }
            }))
        } else {
            let floats = unwritten(n.next_multiple_of(nr) * k);
            let mut panels = filled(floats, nr, n, |first, width, panel| {
                for (row, into) in b.chunks_exact(n).zip(panel.chunks_exact_mut(nr)) {
                    into[..width].copy_from_slice(&row[first..][..width]);
                    into[width..].fill(0.0);
                }
            });
            round(precision, &mut panels);
            Panels::Floats(panels)
        };
        Self { level, precision, panels, k, n }
    }

    pub(super) fn transpose_at(
        level: Level,
        precision: Precision,
        b: &[f32],
        k: usize,
        n: usize,
    ) -> Self {
        assert_eq!(b.len(), k * n, "transposed right operand of {n} x {k}");
        let nr = level.nr();
        let panels = if precision == Precision::Bf16 && bf16::is_native(level) {
            let pairs = vec![Pair::default(); n.next_multiple_of(nr) * k.div_ceil(2)];
            Panels::Pairs(filled(pairs, nr, n, |first, width, panel| {
                for (j, row) in b[first * k..].chunks_exact(k).take(width).enumerate() {
                    for (into, pair) in panel[j..].iter_mut().step_by(nr).zip(row.chunks(2)) {
                        *into = Pair::new(pair[0], pair.get(1).copied().unwrap_or(0.0));
                    }
                }
            }))
        } else {
            let floats = unwritten(n.next_multiple_of(nr) * k);
            let mut panels = filled(floats, nr, n, |first, width, panel| {
                if width < nr {
                    panel.fill(0.0);
                }
                for (j, row) in b[first * k..].chunks_exact(k).take(width).enumerate() {
                    for (into, x) in panel[j..].iter_mut().step_by(nr).zip(row) {
                        *into = *x;
                    }
                }
            });
            round(precision, &mut panels);
            Panels::Floats(panels)
        };
        Self { level, precision, panels, k, n }
    }

    /// The only column, when there is one.
    pub(super) fn only_column(&self) -> Option<Vec<f32>> {
        let nr = self.level.nr();
        (self.n == 1).then(|| match &self.panels {
            Panels::Floats(panels) => panels.iter().step_by(nr).copied().collect(),
            Panels::Pairs(panels) => {
                let both = panels.iter().step_by(nr).flat_map(|pair| pair.unpacked());
                both.take(self.k).collect()
            }
        })
    }
}

impl Drop for Packed {
    fn drop(&mut self) {
        if let Panels::Floats(panels) = &mut self.panels {
            retire(std::mem::take(panels));
        }
    }
}

/// Calls `panel(first column, width, into)` for every panel of `panels`, which writes all of `into`.
fn filled<E: Element>(
    mut panels: Vec<E>,
    nr: usize,
    n: usize,
    panel: impl Fn(usize, usize, &mut [E]) + Sync,
) -> Vec<E> {
    let panel_len = panels.len() / n.div_ceil(nr).max(1);
    let one = |(p, into): (usize, &mut [E])| {
        vectorized(
            #[inline(always)]
            || panel(p * nr, nr.min(n - p * nr), into),
        );
    };
    if panel_len == 0 {
        // No panel has a row.
    } else if PACK_PARALLEL <= panels.len() {
        panels.par_chunks_exact_mut(panel_len).enumerate().for_each(one);
    } else {
        panels.chunks_exact_mut(panel_len).enumerate().for_each(one);
    }
    panels
}

/// What packing in floats does for bf16.
fn round(precision: Precision, panels: &mut [f32]) {
    if precision == Precision::Bf16 {
        vectorized(
            #[inline(always)]
            || panels.iter_mut().for_each(|x| *x = bf16::rounded(*x)),
        );
    }
}
