//! `conv2d`: y\[r, c, o\] = b\[o\] + sum over i, j, k of x\[r·s − p + i, c·s − p + j, k\] · w\[i, j, k, o\], optionally cut at zero (ReLU);
//! x is 0 outside the picture, s is the stride and p the padding. As usual in the field, this is a cross-correlation
//! (Dumoulin and Visin 2016, "A guide to convolution arithmetic").
//!
//! Pictures are channels-last ([`crate::window`]), w is size × size × inputs × outputs, row-major.
//!
//! Why not burn's: its CPU backend copies every window of a batch into one matrix, nine times the activations of a 3 × 3
//! layer, and its products' bits are a library's business. Here the tiles of [`crate::matmul`] read pixels where they are
//! (an implicit GEMM): a window's row is adjacent in a picture that carries its padding.
//!
//! Backward, with dz = dy where 0 < y (all of dy without ReLU): dx is a convolution of dz with w turned by half a turn, one for each
//! residue of the pixel's place by the stride; dw\[i, j, k, o\] sums x · dz over the places of all pictures; db sums dz.
//!
//! **Bits.** y: one chain over (i, j, k). dx: one chain over (i, j) descending, o ascending. dw: one chain over (picture,
//! row, column) for each of `n_chunks` runs of pictures, then over the runs; db the same. A picture's y and dx depend on no other.
//!
//! versions: 1  tiles over gathered pixels, nothing of the size of a batch is copied.
//! bound by: flops.
//!
//! Reading order: [`reference()`], [`Conv`], [`fused`], [`backward()`], then `backward.rs`.

use rayon::prelude::*;

use crate::{
    matmul::{Gathered, Level, Operand, Packed, Pieces, Precision, Sums, gathered_times},
    window::{Image, Window},
};

pub(crate) mod backward;
#[cfg(feature = "gpu")]
pub(crate) mod gpu;
#[cfg(feature = "burn")]
pub(crate) mod op;
#[cfg(test)]
pub(crate) mod tests;

pub use backward::{Gradients, backward};
#[cfg(feature = "burn")]
pub use op::conv2d;

/// Places that one thread takes at a time: enough rows for whole tiles, few enough for the second-level cache.
const PLACES: usize = 512;

/// Sizes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    /// What it reads.
    pub input: Image,
    /// Channels of what it writes.
    pub n_outputs: usize,
    /// What it looks at.
    pub window: Window,
}

impl Conv {
    /// What it writes.
    #[must_use]
    pub const fn output(&self) -> Image {
        self.window.over(self.input, self.n_outputs)
    }

    /// Products an output is the sum of.
    #[must_use]
    pub const fn n_taps(&self) -> usize {
        self.window.size * self.window.size * self.input.n_channels
    }

    /// Products in one picture's outputs.
    #[must_use]
    pub const fn n_products(&self) -> usize {
        self.output().len() * self.n_taps()
    }

    /// The input with its padding.
    const fn padded(&self) -> Image {
        let Image { height, width, n_channels } = self.input;
        let more = 2 * self.window.padding;
        Image { height: height + more, width: width + more, n_channels }
    }

    /// Pictures a thread takes at a time.
    pub(crate) fn group(&self) -> usize {
        PLACES.div_ceil(self.output().n_pixels().max(1))
    }
}

/// The definition. `b` has one number for each output.
pub fn reference(conv: &Conv, x: &[f32], w: &[f32], b: &[f32], relu: bool) -> Vec<f32> {
    let Conv { input, n_outputs, window } = *conv;
    let output = conv.output();
    let mut y = Vec::new();
    for x in x.chunks_exact(input.len().max(1)) {
        // 0 outside the picture.
        let pixel = |row: usize, column: usize, k: usize| {
            let inside = |at: usize, n: usize| at.checked_sub(window.padding).filter(|at| *at < n);
            match (inside(row, input.height), inside(column, input.width)) {
                (Some(row), Some(column)) => {
                    x[row * input.row_len() + column * input.n_channels + k]
                }
                _ => 0.0,
            }
        };
        for (row, column) in places(output) {
            for o in 0..n_outputs {
                let mut sum = 0.0_f32;
                for (tap, (i, j, k)) in taps(window.size, input.n_channels).enumerate() {
                    let (row, column) = (row * window.stride + i, column * window.stride + j);
                    sum = pixel(row, column, k).mul_add(w[tap * n_outputs + o], sum);
                }
                sum += b[o];
                y.push(if relu && sum < 0.0 { 0.0 } else { sum });
            }
        }
    }
    y
}

fn places(image: Image) -> impl Iterator<Item = (usize, usize)> {
    (0..image.height).flat_map(move |row| (0..image.width).map(move |column| (row, column)))
}

fn taps(size: usize, n_channels: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let each = move |i: usize, j: usize| (0..n_channels).map(move |k| (i, j, k));
    (0..size).flat_map(move |i| (0..size).flat_map(move |j| each(i, j)))
}

/// Writes one output picture for each of `x` into `y`.
pub fn fused(conv: &Conv, x: &[f32], w: &[f32], b: &[f32], relu: bool, y: &mut [f32]) {
    assert_eq!(y.len(), conv.input.n_in(x) * conv.output().len(), "one output for each input");
    let forward = Forward::new(Level::best(), conv, w, b, relu);
    let (input, output) = (conv.input.len(), conv.output().len());
    if y.is_empty() {
        return;
    }
    let group = conv.group();
    y.par_chunks_mut(group * output).enumerate().for_each_init(Vec::new, |scratch, (g, y)| {
        forward.run(&x[g * group * input..][..y.len() / output * input], scratch, y);
    });
}

/// A convolution made ready for all pictures of a batch.
pub(crate) struct Forward<'a> {
    conv: &'a Conv,
    packed: Packed,
    bias: Vec<f32>,
    relu: bool,
    windows: Windows,
}

impl<'a> Forward<'a> {
    pub(crate) fn new(level: Level, conv: &'a Conv, w: &[f32], b: &[f32], relu: bool) -> Self {
        assert_eq!(b.len(), conv.n_outputs, "one bias an output");
        let mut bias = b.to_vec();
        bias.resize(b.len().next_multiple_of(level.nr()), 0.0);
        Self {
            conv,
            packed: Packed::at(level, Precision::F32, w, conv.n_taps(), conv.n_outputs),
            bias,
            relu,
            windows: Windows::new(conv),
        }
    }

    /// The outputs of at most [`Conv::group`] pictures, on this thread.
    pub(crate) fn run(&self, x: &[f32], scratch: &mut Vec<f32>, y: &mut [f32]) {
        let n = self.conv.input.n_in(x);
        let left = Gathered {
            elements: padded(self.conv, x, scratch),
            starts: &self.windows.starts[..n * self.conv.output().n_pixels()],
            pieces: &self.windows.pieces,
        };
        let sums = Sums { continues: false, bias: Some(&self.bias), relu: self.relu };
        gathered_times(left, Operand::packed(&self.packed), sums, y);
    }
}

/// Where the windows of a group of padded pictures lie.
struct Windows {
    /// The first number of each.
    starts: Vec<usize>,
    /// From there: one piece a row of the window.
    pieces: Pieces,
}

impl Windows {
    fn new(conv: &Conv) -> Self {
        let (image, output, window) = (conv.padded(), conv.output(), conv.window);
        let starts = (0..conv.group()).flat_map(|picture| {
            places(output).map(move |(row, column)| {
                picture * image.len()
                    + window.stride * (row * image.row_len() + column * image.n_channels)
            })
        });
        let rows = (0..window.size).map(|i| i * image.row_len());
        Self {
            starts: starts.collect(),
            pieces: Pieces::new(rows, window.size * image.n_channels, 1),
        }
    }
}

/// The pictures with zeros around them, in `scratch`: what is around them there stays zero from call to call.
fn padded<'a>(conv: &Conv, x: &'a [f32], scratch: &'a mut Vec<f32>) -> &'a [f32] {
    let (from, to, p) = (conv.input, conv.padded(), conv.window.padding);
    if p == 0 {
        return x;
    }
    scratch.resize(conv.group() * to.len(), 0.0);
    for (x, into) in x.chunks_exact(from.len()).zip(scratch.chunks_exact_mut(to.len())) {
        let into = &mut into[p * to.row_len() + p * to.n_channels..];
        for (x, into) in x.chunks_exact(from.row_len()).zip(into.chunks_mut(to.row_len())) {
            into[..x.len()].copy_from_slice(x);
        }
    }
    &scratch[..x.len() / from.len() * to.len()]
}
