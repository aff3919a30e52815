//! The way back through a convolution. Where dz comes from is the caller's business ([`Flow`]): here it is dy cut by y, in
//! [`crate::conv_pool`] it first passes a pool.

use rayon::prelude::*;

use super::{Conv, PLACES, padded, places, taps};
use crate::{
    matmul::{Gathered, Level, Operand, Packed, Pieces, Precision, Sums, gathered_times},
    simd::vectorized,
    window::Image,
};

/// Most runs of pictures whose gradients are summed apart.
const CHUNKS_MAX: usize = 16;
/// Most numbers in all these sums.
const PARTIAL_MAX: usize = 1 << 21;
/// Numbers of dw that a thread combines at a time.
const COMBINE: usize = 1 << 14;

/// What flows back through a convolution.
pub struct Gradients {
    /// Of x, where it was asked for.
    pub dx: Option<Vec<f32>>,
    /// Of w.
    pub dw: Vec<f32>,
    /// Of b.
    pub db: Vec<f32>,
}

/// The backward pass; `y` is the forward's result where it had a ReLU.
pub fn backward(
    conv: &Conv,
    x: &[f32],
    w: &[f32],
    y: Option<&[f32]>,
    dy: &[f32],
    wants_dx: bool,
) -> Gradients {
    at(Level::best(), conv, x, w, &Cut { image: conv.output(), y, dy }, wants_dx)
}

/// dz, row by row.
pub(crate) trait Flow: Sync {
    /// Writes dz of one row of one picture's output. A pixel of `into` is `stride` numbers long, of which the first are
    /// the output's channels; the rest is left alone. Called inside [`vectorized`].
    fn write_row(&self, picture: usize, row: usize, into: &mut [f32], stride: usize);
}

/// dy, cut to zero where y is not above it.
pub(super) struct Cut<'a> {
    pub(super) image: Image,
    pub(super) y: Option<&'a [f32]>,
    pub(super) dy: &'a [f32],
}

impl Flow for Cut<'_> {
    #[inline(always)]
    fn write_row(&self, picture: usize, row: usize, into: &mut [f32], stride: usize) {
        let n = self.image.n_channels;
        let from = picture * self.image.len() + row * self.image.row_len();
        let dy = &self.dy[from..][..self.image.row_len()];
        for (column, into) in into.chunks_mut(stride).take(self.image.width).enumerate() {
            let dy = &dy[column * n..][..n];
            match self.y {
                None => into[..n].copy_from_slice(dy),
                Some(y) => {
                    let y = &y[from + column * n..][..n];
                    for ((into, dy), y) in into.iter_mut().zip(dy).zip(y) {
                        // NaN must stay visible: `y <= 0` is false for it.
                        *into = if *y <= 0.0 { 0.0 } else { *dy };
                    }
                }
            }
        }
    }
}

/// The backward pass from any dz.
pub(crate) fn at(
    level: Level,
    conv: &Conv,
    x: &[f32],
    w: &[f32],
    dz: &impl Flow,
    wants_dx: bool,
) -> Gradients {
    let (dw, db) = weights(level, conv, x, dz);
    Gradients { dx: wants_dx.then(|| input(level, conv, x.len(), w, dz)), dw, db }
}

/// dx, `n` numbers.
fn input(level: Level, conv: &Conv, n: usize, w: &[f32], dz: &impl Flow) -> Vec<f32> {
    let image = conv.input;
    let mut dx = vec![0.0; n];
    if dx.is_empty() || conv.output().is_empty() {
        return dx;
    }
    let turned = Turned::new(level, conv, w);
    let group = turned.group;
    dx.par_chunks_mut(group * image.len()).enumerate().for_each_init(
        || (vec![0.0; group * turned.surrounded.len()], Vec::new()),
        |(surrounded, own), (g, dx)| {
            let n = dx.len() / image.len();
            turned.surround(g * group, n, dz, surrounded);
            for residue in &turned.residues {
                residue.run(&turned, surrounded, n, own, dx);
            }
        },
    );
    dx
}

/// The convolution of dz that gives dx.
///
/// Input row r is looked at by output row q with tap i where r + p = q · s + i. The taps of one residue of r + p by s are
/// i₀, i₀ + s, …: dx at those rows is a convolution of stride 1 over dz with these taps in reverse.
struct Turned<'a> {
    conv: &'a Conv,
    /// Pictures a thread takes at a time.
    group: usize,
    /// The output with the zeros around it that the taps reach.
    surrounded: Image,
    /// Zeros before the first row and column.
    before: usize,
    residues: Vec<Residue>,
}

/// Every s-th row and column of the input.
struct Residue {
    /// The first row and column.
    first: [usize; 2],
    /// Its rows and columns.
    image: Image,
    packed: Packed,
    starts: Vec<usize>,
    pieces: Pieces,
}

/// The taps that meet the rows r, r + s, … of the input.
struct Along {
    /// Smallest tap.
    tap: usize,
    /// How many.
    n_taps: usize,
    /// Output row that the smallest tap meets at input row r.
    at: usize,
    /// Input rows.
    n: usize,
}

impl Along {
    fn new(conv: &Conv, first: usize, length: usize) -> Self {
        let (s, at) = (conv.window.stride, first + conv.window.padding);
        Self {
            tap: at % s,
            n_taps: conv.window.size.saturating_sub(at % s).div_ceil(s),
            at: at / s,
            n: length.saturating_sub(first).div_ceil(s),
        }
    }
}

impl<'a> Turned<'a> {
    fn new(level: Level, conv: &'a Conv, w: &[f32]) -> Self {
        let (input, output, s) = (conv.input, conv.output(), conv.window.stride);
        let along = |length: usize| move |first: usize| Along::new(conv, first, length);
        let (rows, columns): (Vec<Along>, Vec<Along>) =
            ((0..s).map(along(input.height)).collect(), (0..s).map(along(input.width)).collect());
        let before = rows.iter().chain(&columns).map(|it| it.n_taps.saturating_sub(it.at + 1));
        let before = before.max().unwrap_or(0);
        let size = |along: &[Along], n: usize| {
            along.iter().map(|it| it.at + it.n).max().unwrap_or(0).max(n) + before
        };
        let surrounded = Image {
            height: size(&rows, output.height),
            width: size(&columns, output.width),
            n_channels: conv.n_outputs,
        };
        let group = PLACES.div_ceil(input.n_pixels());
        let mut residues = Vec::with_capacity(s * s);
        for (first_row, row) in rows.iter().enumerate() {
            for (first_column, column) in columns.iter().enumerate() {
                let first = [first_row, first_column];
                let place = Place { conv, surrounded, before, group };
                residues.push(place.residue(level, first, [row, column], w));
            }
        }
        Self { conv, group, surrounded, before, residues }
    }

    /// dz of `n` pictures with zeros around it.
    fn surround(&self, first: usize, n: usize, dz: &impl Flow, into: &mut [f32]) {
        let (image, n_channels) = (self.surrounded, self.conv.n_outputs);
        let output = self.conv.output();
        vectorized(
            #[inline(always)]
            || {
                for (picture, into) in into.chunks_exact_mut(image.len()).take(n).enumerate() {
                    let rows = into.chunks_exact_mut(image.row_len()).skip(self.before);
                    for (row, into) in rows.take(output.height).enumerate() {
                        let into = &mut into[self.before * n_channels..][..output.row_len()];
                        dz.write_row(first + picture, row, into, n_channels);
                    }
                }
            },
        );
    }
}

/// What the residues of one convolution share.
#[derive(Clone, Copy)]
struct Place<'a> {
    conv: &'a Conv,
    surrounded: Image,
    before: usize,
    group: usize,
}

impl Place<'_> {
    fn residue(&self, level: Level, first: [usize; 2], along: [&Along; 2], w: &[f32]) -> Residue {
        let (n_inputs, n_outputs) = (self.conv.input.n_channels, self.conv.n_outputs);
        let (size, s) = (self.conv.window.size, self.conv.window.stride);
        let [rows, columns] = along;
        // Taps in reverse, so that rows and columns of dz rise.
        let tap = |along: &Along, u: usize| along.tap + s * (along.n_taps - 1 - u);
        let n_taps = rows.n_taps * columns.n_taps;
        let mut turned = Vec::with_capacity(n_taps * n_outputs * n_inputs);
        for u in 0..rows.n_taps {
            for v in 0..columns.n_taps {
                let first = (tap(rows, u) * size + tap(columns, v)) * n_inputs;
                for o in 0..n_outputs {
                    turned.extend((first..first + n_inputs).map(|k| w[k * n_outputs + o]));
                }
            }
        }
        let image = Image { height: rows.n, width: columns.n, n_channels: n_inputs };
        let around = self.surrounded;
        let origin = |along: &Along| along.at + self.before + 1 - along.n_taps;
        let starts = if n_taps == 0 {
            vec![0; self.group * image.n_pixels()]
        } else {
            (0..self.group)
                .flat_map(|picture| {
                    places(image).map(move |(row, column)| {
                        let (row, column) = (row + origin(rows), column + origin(columns));
                        picture * around.len() + row * around.row_len() + column * n_outputs
                    })
                })
                .collect()
        };
        let pieces = (0..rows.n_taps).map(|u| u * around.row_len());
        Residue {
            first,
            image,
            packed: Packed::at(level, Precision::F32, &turned, n_taps * n_outputs, n_inputs),
            starts,
            pieces: Pieces::new(pieces, columns.n_taps * n_outputs, 1),
        }
    }
}

impl Residue {
    /// Writes its rows and columns of dx, `n` pictures. `own` is scratch.
    fn run(&self, turned: &Turned<'_>, dz: &[f32], n: usize, own: &mut Vec<f32>, dx: &mut [f32]) {
        let (input, s) = (turned.conv.input, turned.conv.window.stride);
        let left = Gathered {
            elements: dz,
            starts: &self.starts[..n * self.image.n_pixels()],
            pieces: &self.pieces,
        };
        let right = Operand::packed(&self.packed);
        if s == 1 {
            return gathered_times(left, right, Sums::default(), dx);
        }
        own.resize(n * self.image.len(), 0.0);
        gathered_times(left, right, Sums::default(), own);
        for (picture, own) in own.chunks_exact(self.image.len().max(1)).enumerate() {
            for ((row, column), own) in places(self.image).zip(own.chunks_exact(input.n_channels)) {
                let (row, column) = (self.first[0] + row * s, self.first[1] + column * s);
                let at = picture * input.len() + row * input.row_len() + column * input.n_channels;
                dx[at..][..own.len()].copy_from_slice(own);
            }
        }
    }
}

/// Runs of pictures whose weight gradients are summed apart, then combined in order: a function of sizes alone.
pub(crate) fn n_chunks(conv: &Conv, n_pictures: usize) -> usize {
    let n_weights = conv.n_taps() * conv.n_outputs;
    CHUNKS_MAX.min(PARTIAL_MAX / n_weights.max(1)).clamp(1, n_pictures.max(1))
}

/// dw and db.
fn weights(level: Level, conv: &Conv, x: &[f32], dz: &impl Flow) -> (Vec<f32>, Vec<f32>) {
    let (n_taps, n_outputs) = (conv.n_taps(), conv.n_outputs);
    let n_weights = n_taps * n_outputs;
    let n_pictures = conv.input.n_in(x);
    if n_weights == 0 || n_pictures == 0 || conv.output().is_empty() {
        return (vec![0.0; n_weights], vec![0.0; n_outputs]);
    }
    let n_chunks = n_chunks(conv, n_pictures);
    let chunk = n_pictures.div_ceil(n_chunks);
    // Few chunks leave threads idle: then the taps are cut too, which changes no chain.
    let block = n_taps.div_ceil(CHUNKS_MAX / 2 / n_chunks.min(CHUNKS_MAX / 2));
    let block = block.next_multiple_of(level.mr());
    let (mut dw, mut db) = (vec![0.0; n_chunks * n_weights], vec![0.0; n_chunks * n_outputs]);
    let mut tasks = Vec::new();
    let chunks = dw.chunks_exact_mut(n_weights).zip(db.chunks_exact_mut(n_outputs));
    for (c, (dw, db)) in chunks.enumerate() {
        let pictures = (c * chunk).min(n_pictures)..((c + 1) * chunk).min(n_pictures);
        // The first block of a chunk does its biases too.
        let mut db = Some(db);
        for (b, dw) in dw.chunks_mut(block * n_outputs).enumerate() {
            tasks.push((pictures.clone(), b * block, dw, db.take()));
        }
    }
    let starts = tap_starts(conv);
    tasks.into_par_iter().for_each(|(pictures, first_tap, dw, mut db)| {
        let starts = &starts[first_tap..][..dw.len() / n_outputs];
        let (mut scratch, mut rows) = (Vec::new(), Rows::new(level, conv));
        let input = conv.input.len();
        for first in pictures.clone().step_by(rows.group) {
            let n = rows.group.min(pictures.end - first);
            rows.fill(first, n, dz);
            let left = Gathered {
                elements: padded(conv, &x[first * input..][..n * input], &mut scratch),
                starts,
                pieces: if n == rows.group { &rows.pieces } else { &pieces(conv, n) },
            };
            gathered_times(left, rows.right(), Sums { continues: true, ..Sums::default() }, dw);
            if let Some(db) = &mut db {
                rows.add_to(n, db);
            }
        }
    });
    (combined(dw, n_weights), combined(db, n_outputs))
}

/// Where tap (i, j, k) of the first window lies in a padded picture.
fn tap_starts(conv: &Conv) -> Vec<usize> {
    let image = conv.padded();
    taps(conv.window.size, image.n_channels)
        .map(|(i, j, k)| i * image.row_len() + j * image.n_channels + k)
        .collect()
}

/// From there: one piece a row of the output, for `n` pictures.
fn pieces(conv: &Conv, n: usize) -> Pieces {
    let (image, output, s) = (conv.padded(), conv.output(), conv.window.stride);
    let row = |picture: usize| {
        (0..output.height).map(move |row| picture * image.len() + row * s * image.row_len())
    };
    Pieces::new((0..n).flat_map(row), output.width, s * image.n_channels)
}

/// dz of a group of pictures as a right operand: a row for each place, filled up with zeros to whole panels.
struct Rows<'a> {
    level: Level,
    conv: &'a Conv,
    group: usize,
    pieces: Pieces,
    stride: usize,
    elements: Vec<f32>,
}

impl<'a> Rows<'a> {
    fn new(level: Level, conv: &'a Conv) -> Self {
        let (group, stride) = (conv.group(), conv.n_outputs.next_multiple_of(level.nr()));
        let elements = vec![0.0; group * conv.output().n_pixels() * stride];
        Self { level, conv, group, pieces: pieces(conv, group), stride, elements }
    }

    fn fill(&mut self, first: usize, n: usize, dz: &impl Flow) {
        let (output, stride) = (self.conv.output(), self.stride);
        let rows = self.elements.chunks_exact_mut(output.width * stride).take(n * output.height);
        vectorized(
            #[inline(always)]
            || {
                for (at, into) in rows.enumerate() {
                    let picture = first + at / output.height;
                    dz.write_row(picture, at % output.height, into, stride);
                }
            },
        );
    }

    fn right(&self) -> Operand<'_> {
        Operand::rows(self.level, &self.elements, self.conv.n_outputs, self.stride)
    }

    /// Adds the rows of `n` pictures in order.
    fn add_to(&self, n: usize, sums: &mut [f32]) {
        let rows = self.elements.chunks_exact(self.stride);
        vectorized(
            #[inline(always)]
            || {
                for row in rows.take(n * self.conv.output().n_pixels()) {
                    for (sum, x) in sums.iter_mut().zip(row) {
                        *sum += x;
                    }
                }
            },
        );
    }
}

/// The chunks' sums, `n` numbers each, added in order.
fn combined(mut partial: Vec<f32>, n: usize) -> Vec<f32> {
    let (sums, rest) = partial.split_at_mut(n);
    sums.par_chunks_mut(COMBINE).enumerate().for_each(|(piece, sums)| {
        for chunk in rest.chunks_exact(n) {
            for (sum, x) in sums.iter_mut().zip(&chunk[piece * COMBINE..]) {
                *sum += x;
            }
        }
    });
    partial.truncate(n);
    partial
}
