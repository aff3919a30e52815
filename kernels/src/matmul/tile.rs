//! Tiles: MR × NR elements of the result, summed in registers over one piece of k. Plain Rust, one module for each x86
//! vector width, and one for pairs of bf16.

use super::{Gathered, Level, bf16::Pair};

/// The left operand of a tile, made of `E`: f32, or [`Pair`] for two consecutive k.
#[derive(Clone, Copy)]
pub(super) enum Left<'a, E> {
    /// Row i begins at i × stride.
    Rows { rows: &'a [E], stride: usize },
    /// MR numbers for each k.
    Panel(&'a [E]),
    /// Numbers that lie in pieces at places of their own; the rows of the right operand are `right_stride` apart.
    Gathered { left: Gathered<'a, E>, right_stride: usize },
}

/// MR × NR elements of c, of which `n_rows` × `n_columns` are stored.
pub(super) struct Tile<'a, E> {
    pub(super) n_rows: usize,
    pub(super) n_columns: usize,
    pub(super) k: usize,
    pub(super) left: Left<'a, E>,
    /// k × NR; with [`Left::Gathered`], rows of NR that may lie apart.
    pub(super) right: &'a [E],
    /// Whether c holds the sum over earlier pieces.
    pub(super) continues: bool,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) relu: bool,
    pub(super) c: &'a mut [f32],
    pub(super) stride: usize,
}

/// What a tile can be made of.
pub(super) trait Element: Copy + Default + Send + Sync {
    /// Sums `tile` with the instructions of `level`.
    fn run(tile: &mut Tile<'_, Self>, level: Level);
}

impl Element for f32 {
    #[expect(unsafe_code, reason = "functions compiled for instructions that must be there")]
    fn run(tile: &mut Tile<'_, Self>, level: Level) {
        tile.check(level);
        match level {
            // SAFETY: `Level::available` made this level after finding AVX-512F; lengths were checked above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { avx512::tile(tile) },
            // SAFETY: `Level::available` made this level after finding AVX2 and FMA; lengths were checked above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { avx2::tile(tile) },
            Level::Plain => plain(tile),
        }
    }
}

impl Element for Pair {
    #[cfg(target_arch = "x86_64")]
    #[expect(unsafe_code, reason = "a function compiled for instructions that must be there")]
    fn run(tile: &mut Tile<'_, Self>, level: Level) {
        tile.check(level);
        assert_eq!(level, Level::Avx512, "pairs are packed where AVX512-BF16 was found");
        // SAFETY: see the assertion (`bf16::is_native`); lengths were checked above.
        unsafe { avx512_bf16::tile(tile) };
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn run(_: &mut Tile<'_, Self>, _: Level) {
        unreachable!("no other processor packs pairs");
    }
}

impl<E: Copy> Tile<'_, E> {
    /// What the tiles take on trust.
    fn check(&self, level: Level) {
        let (mr, nr) = (level.mr(), level.nr());
        assert!(
            1 <= self.n_rows && self.n_rows <= mr && 1 <= self.n_columns && self.n_columns <= nr
        );
        let right_len = match self.left {
            Left::Rows { rows, stride } => {
                assert!((self.n_rows - 1) * stride + self.k <= rows.len());
                self.k * nr
            }
            Left::Panel(panel) => {
                assert_eq!(panel.len(), self.k * mr);
                self.k * nr
            }
            Left::Gathered { left, right_stride } => {
                let last = left.starts[..self.n_rows].iter().max().map_or(0, |start| *start);
                assert!(last + left.pieces.reach() <= left.elements.len());
                assert_eq!(left.pieces.len(), self.k);
                self.k.checked_sub(1).map_or(0, |last| last * right_stride + nr)
            }
        };
        assert!(right_len <= self.right.len());
        assert!((self.n_rows - 1) * self.stride + self.n_columns <= self.c.len());
        assert!(self.bias.is_none_or(|bias| bias.len() == nr));
    }

    /// The sums of earlier pieces, for a tile at the edge.
    fn load_edge<const MR: usize, const NR: usize>(&self, into: &mut [[f32; NR]; MR]) {
        for (i, into) in into.iter_mut().enumerate().take(self.n_rows) {
            into[..self.n_columns].copy_from_slice(&self.c[i * self.stride..][..self.n_columns]);
        }
    }

    fn store_edge<const MR: usize, const NR: usize>(&mut self, from: &[[f32; NR]; MR]) {
        for (i, from) in from.iter().enumerate().take(self.n_rows) {
            self.c[i * self.stride..][..self.n_columns].copy_from_slice(&from[..self.n_columns]);
        }
    }
}

/// The tile in plain Rust.
fn plain(tile: &mut Tile<'_, f32>) {
    const MR: usize = Level::Plain.mr();
    const NR: usize = Level::Plain.nr();
    let mut sums = [[0.0_f32; NR]; MR];
    if tile.continues {
        tile.load_edge(&mut sums);
    }
    let mut add = |right: &[f32], left: &dyn Fn(usize) -> f32| {
        for (i, sums) in sums.iter_mut().enumerate().take(tile.n_rows) {
            let x = left(i);
            for (sum, y) in sums.iter_mut().zip(right) {
                *sum = x.mul_add(*y, *sum);
            }
        }
    };
    match tile.left {
        Left::Rows { rows, stride } => {
            for (k, right) in tile.right.chunks_exact(NR).enumerate() {
                add(right, &|i| rows[i * stride + k]);
            }
        }
        Left::Panel(panel) => {
            for (k, right) in tile.right.chunks_exact(NR).enumerate() {
                add(right, &|i| panel[k * MR + i]);
            }
        }
        Left::Gathered { left, right_stride } => {
            for (place, k) in left.pieces.each() {
                let right = &tile.right[k * right_stride..][..NR];
                add(right, &|i| left.elements[left.starts[i] + place]);
            }
        }
    }
    for sums in &mut sums {
        for (sum, bias) in sums.iter_mut().zip(tile.bias.unwrap_or_default()) {
            *sum += bias;
        }
        if tile.relu {
            sums.iter_mut().filter(|sum| **sum < 0.0).for_each(|sum| *sum = 0.0);
        }
    }
    tile.store_edge(&sums);
}

/// One module of tiles for each x86 vector width and element. `$operands` brings `operand`, which loads a vector of the
/// right operand, `splat`, which repeats one element of the left, and `fma(a, b, sum)`.
macro_rules! x86_tile {
    ($module:ident, $level:ident, $features:literal, $element:ty, $vector:ident, $lanes:literal,
     $load:ident, $store:ident, $add:ident, $max:ident, $zero:ident, $operands:item) => {
        #[cfg(target_arch = "x86_64")]
        mod $module {
            use std::arch::x86_64::{$add, $load, $max, $store, $vector, $zero};

            $operands
            use super::{Gathered, Left, Level, Tile};

            const MR: usize = Level::$level.mr();
            const NR: usize = Level::$level.nr();
            const _: () = assert!(NR == 2 * $lanes, "a tile is two vectors wide");

            /// # Safety
            /// The lengths must be as [`Tile::run`] checks them.
            #[target_feature(enable = $features)]
            #[expect(unsafe_code, reason = "loads and stores by pointer, in range by `Tile::run`")]
            pub(super) unsafe fn tile(tile: &mut Tile<'_, $element>) {
                let is_edge = tile.n_rows < MR || tile.n_columns < NR;
                let mut sums = [[$zero(); 2]; MR];
                if tile.continues {
                    let mut edge = [[0.0; NR]; MR];
                    if is_edge {
                        tile.load_edge(&mut edge);
                    }
                    for (i, sums) in sums.iter_mut().enumerate() {
                        // SAFETY: a row of `edge` has NR floats; a tile that is not at the edge has MR rows of NR.
                        *sums = unsafe {
                            let row = if is_edge {
                                edge[i].as_ptr()
                            } else {
                                tile.c.as_ptr().add(i * tile.stride)
                            };
                            [$load(row), $load(row.add($lanes))]
                        };
                    }
                }
                // SAFETY: `right` has k × NR floats. `Rows`: n_rows rows of k; rows past the last read the last again.
                // `Panel`: k × MR floats. `Gathered`: every start plus every place, and every row of `right`.
                unsafe {
                    match tile.left {
                        Left::Rows { rows, stride } => {
                            let row: [*const $element; MR] = std::array::from_fn(|i| {
                                rows.as_ptr().add(i.min(tile.n_rows - 1) * stride)
                            });
                            let left = |i: usize, k| row[i].add(k);
                            if tile.n_columns <= $lanes {
                                accumulate::<1>(&mut sums, tile, left);
                            } else {
                                accumulate::<2>(&mut sums, tile, left);
                            }
                        }
                        Left::Panel(panel) => {
                            let first = panel.as_ptr();
                            let left = |i, k| first.add(k * MR + i);
                            if tile.n_columns <= $lanes {
                                accumulate::<1>(&mut sums, tile, left);
                            } else {
                                accumulate::<2>(&mut sums, tile, left);
                            }
                        }
                        Left::Gathered { left, right_stride } => {
                            gather(&mut sums, tile, left, right_stride);
                        }
                    }
                }
                if let Some(bias) = tile.bias {
                    // SAFETY: NR floats.
                    let bias = unsafe { [$load(bias.as_ptr()), $load(bias.as_ptr().add($lanes))] };
                    for sums in &mut sums {
                        *sums = [$add(sums[0], bias[0]), $add(sums[1], bias[1])];
                    }
                }
                if tile.relu {
                    for sums in &mut sums {
                        // The second operand is the result when either is NaN.
                        *sums = [$max($zero(), sums[0]), $max($zero(), sums[1])];
                    }
                }
                let mut edge = [[0.0; NR]; MR];
                for (i, sums) in sums.iter().enumerate() {
                    // SAFETY: as for the loads above.
                    unsafe {
                        let row = if is_edge {
                            edge[i].as_mut_ptr()
                        } else {
                            tile.c.as_mut_ptr().add(i * tile.stride)
                        };
                        $store(row, sums[0]);
                        $store(row.add($lanes), sums[1]);
                    }
                }
                if is_edge {
                    tile.store_edge(&edge);
                }
            }

            /// # Safety
            /// As [`Tile::check`] says of [`Left::Gathered`].
            #[target_feature(enable = $features)]
            #[inline]
            #[expect(unsafe_code, reason = "the inner loop, without bounds checks")]
            unsafe fn gather(
                out: &mut [[$vector; 2]; MR],
                tile: &Tile<'_, $element>,
                left: Gathered<'_, $element>,
                right_stride: usize,
            ) {
                let mut sums = *out;
                // SAFETY: see above; rows past the last read the last again.
                unsafe {
                    let row: [*const $element; MR] = std::array::from_fn(|i| {
                        left.elements.as_ptr().add(left.starts[i.min(tile.n_rows - 1)])
                    });
                    for (first, k, len) in left.pieces.each_piece() {
                        let mut place = first;
                        let mut right = tile.right.as_ptr().add(k * right_stride);
                        for _ in 0..len {
                            let b = [operand(right), operand(right.add($lanes))];
                            for (sums, row) in sums.iter_mut().zip(&row) {
                                let a = splat(*row.add(place));
                                *sums = [fma(a, b[0], sums[0]), fma(a, b[1], sums[1])];
                            }
                            place += left.pieces.step();
                            // Behind the last row it points nowhere, and is not read.
                            right = right.wrapping_add(right_stride);
                        }
                    }
                }
                *out = sums;
            }

            /// Sums the first `V` vectors of each row; the rest of a narrow tile is padding.
            ///
            /// # Safety
            /// `left(i, k)` must be readable for every i below MR and k below `tile.k`; `right` has k × NR floats.
            #[target_feature(enable = $features)]
            #[inline]
            #[expect(unsafe_code, reason = "the inner loop, without bounds checks")]
            unsafe fn accumulate<const V: usize>(
                out: &mut [[$vector; 2]; MR],
                tile: &Tile<'_, $element>,
                left: impl Fn(usize, usize) -> *const $element,
            ) {
                let mut sums = [[$zero(); V]; MR];
                for (sums, out) in sums.iter_mut().zip(&*out) {
                    sums.copy_from_slice(&out[..V]);
                }
                let mut right = tile.right.as_ptr();
                let mut k = 0;
                macro_rules! one {
                    () => {{
                        let mut b = [operand(right); V];
                        for (v, b) in b.iter_mut().enumerate().skip(1) {
                            *b = operand(right.add(v * $lanes));
                        }
                        right = right.add(NR);
                        for (i, sums) in sums.iter_mut().enumerate() {
                            let a = splat(*left(i, k));
                            for (sum, b) in sums.iter_mut().zip(b) {
                                *sum = fma(a, b, *sum);
                            }
                        }
                        k += 1;
                    }};
                }
                // SAFETY: see above.
                unsafe {
                    while k + 4 <= tile.k {
                        one!();
                        one!();
                        one!();
                        one!();
                    }
                    while k < tile.k {
                        one!();
                    }
                }
                for (sums, out) in sums.iter().zip(out) {
                    out[..V].copy_from_slice(sums);
                }
            }
        }
    };
}

x86_tile!(
    avx2,
    Avx2,
    "avx2,fma",
    f32,
    __m256,
    8,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_add_ps,
    _mm256_max_ps,
    _mm256_setzero_ps,
    use std::arch::x86_64::{
        _mm256_fmadd_ps as fma, _mm256_loadu_ps as operand, _mm256_set1_ps as splat,
    };
);
x86_tile!(
    avx512,
    Avx512,
    "avx512f",
    f32,
    __m512,
    16,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_add_ps,
    _mm512_max_ps,
    _mm512_setzero_ps,
    use std::arch::x86_64::{
        _mm512_fmadd_ps as fma, _mm512_loadu_ps as operand, _mm512_set1_ps as splat,
    };
);
x86_tile!(
    avx512_bf16,
    Avx512,
    "avx512f,avx512bf16",
    crate::matmul::bf16::Pair,
    __m512,
    16,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_add_ps,
    _mm512_max_ps,
    _mm512_setzero_ps,
    use crate::matmul::bf16::x86::{fma, operand, splat};
);
