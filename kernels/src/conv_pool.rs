//! `conv_pool`: [`crate::conv2d`] with ReLU, then [`crate::max_pool`] over windows that cover each place once, in one pass: what the
//! convolution leaves never reaches memory.
//!
//! Why: at 28 × 28 with 32 channels a batch of 128 leaves 13 MB there, which would be written, read by the pool, kept, and
//! gone through three times more on the way back. Here a few pictures' worth stays in the second-level cache, and what is
//! kept is the pool's result and one byte for each of its numbers.
//!
//! Backward: dy where 0 < y goes to the winner of each window; the rest is conv2d's backward, which asks for that row by row.
//!
//! **Bits.** Those of the two operations one after the other: the largest number cut at zero is the largest of the cut ones, and where
//! ties differ the gradient is zero.
//!
//! bound by: flops. `karat-bench conv` times it beside the two operations apart.

use rayon::prelude::*;

use crate::{
    conv2d::{self, Conv, Forward, Gradients, backward::Flow},
    matmul::Level,
    max_pool,
    simd::vectorized,
    window::{Image, Window},
};

/// The definition: y, and which pixel of its window each number of y comes from.
pub fn reference(conv: &Conv, pool: usize, x: &[f32], w: &[f32], b: &[f32]) -> (Vec<f32>, Vec<u8>) {
    let z = conv2d::reference(conv, x, w, b, true);
    max_pool::reference(conv.output(), Window::tiles(pool), &z)
}

/// What the pool writes: one pixel for each `pool` × `pool` of the convolution's.
#[must_use]
pub const fn output(conv: &Conv, pool: usize) -> Image {
    Window::tiles(pool).over(conv.output(), conv.n_outputs)
}

/// Writes the largest numbers and the winners. `pool` is at most [`max_pool::SIZE_MAX`].
pub fn fused(
    conv: &Conv,
    pool: usize,
    x: &[f32],
    w: &[f32],
    b: &[f32],
    y: &mut [f32],
    winners: &mut [u8],
) {
    assert!((1..=max_pool::SIZE_MAX).contains(&pool), "a pool of {pool}");
    let (between, output) = (conv.output(), output(conv, pool));
    assert_eq!(y.len(), conv.input.n_in(x) * output.len(), "one output for each input");
    assert_eq!(winners.len(), y.len(), "one winner for each number");
    if y.is_empty() {
        return;
    }
    let forward = Forward::new(Level::best(), conv, w, b, true);
    let (group, input) = (conv.group(), conv.input.len());
    let groups =
        y.par_chunks_mut(group * output.len()).zip(winners.par_chunks_mut(group * output.len()));
    groups.enumerate().for_each_init(
        || (Vec::new(), vec![0.0; group * between.len()]),
        |(scratch, z), (g, (y, winners))| {
            let n = y.len() / output.len();
            let z = &mut z[..n * between.len()];
            forward.run(&x[g * group * input..][..n * input], scratch, z);
            let pictures = z.chunks_exact(between.len());
            let outputs =
                y.chunks_exact_mut(output.len()).zip(winners.chunks_exact_mut(output.len()));
            vectorized(
                #[inline(always)]
                || {
                    for (z, (y, winners)) in pictures.zip(outputs) {
                        max_pool::picture(between, Window::tiles(pool), z, y, winners);
                    }
                },
            );
        },
    );
}

/// What the backward pass needs of the forward pass.
#[derive(Clone, Copy)]
pub struct Kept<'a> {
    /// The forward's result.
    pub y: &'a [f32],
    /// Which pixel of its window each number of y comes from.
    pub winners: &'a [u8],
}

/// The backward pass.
pub fn backward(
    conv: &Conv,
    pool: usize,
    x: &[f32],
    w: &[f32],
    kept: Kept<'_>,
    dy: &[f32],
    wants_dx: bool,
) -> Gradients {
    let dz = Pooled { output: output(conv, pool), between: conv.output(), pool, kept, dy };
    conv2d::backward::at(Level::best(), conv, x, w, &dz, wants_dx)
}

/// dy where 0 < y, at the winners.
struct Pooled<'a> {
    output: Image,
    between: Image,
    pool: usize,
    kept: Kept<'a>,
    dy: &'a [f32],
}

impl Flow for Pooled<'_> {
    #[inline(always)]
    fn write_row(&self, picture: usize, row: usize, into: &mut [f32], stride: usize) {
        let n = self.output.n_channels;
        let mut pixels = into.chunks_mut(stride);
        // A row below the last whole window was not looked at.
        if row < self.output.height * self.pool {
            let from = picture * self.output.len() + row / self.pool * self.output.row_len();
            let first_tap = row % self.pool * self.pool;
            for at in 0..self.output.width {
                let from = from + at * n;
                let (y, winners) = (&self.kept.y[from..][..n], &self.kept.winners[from..][..n]);
                let dy = &self.dy[from..][..n];
                for tap in first_tap..first_tap + self.pool {
                    let Some(into) = pixels.next() else { return };
                    for ((into, dy), (y, winner)) in
                        into[..n].iter_mut().zip(dy).zip(y.iter().zip(winners))
                    {
                        // NaN must stay visible: `y <= 0` is false for it.
                        let is_cut = *winner != tap as u8 || *y <= 0.0;
                        *into = if is_cut { 0.0 } else { *dy };
                    }
                }
            }
        }
        let n_left = self.between.width;
        for into in pixels.take(n_left) {
            into[..n].fill(0.0);
        }
    }
}

#[cfg(feature = "gpu")]
pub(crate) mod gpu;
#[cfg(feature = "burn")]
pub(crate) mod op;
#[cfg(feature = "burn")]
pub use op::conv_pool;

#[cfg(test)]
mod tests {
    use super::{Kept, backward, fused, output, reference};
    use crate::{
        conv2d::{self, Conv, tests::cases},
        max_pool,
        testing::{assert_same_bits, on_any_threads, uniform},
        window::Window,
    };

    struct Numbers {
        x: Vec<f32>,
        w: Vec<f32>,
        b: Vec<f32>,
    }

    fn numbers(conv: &Conv, n: usize) -> Numbers {
        Numbers {
            x: uniform(1, n * conv.input.len()),
            w: uniform(2, conv.n_taps() * conv.n_outputs),
            b: uniform(3, conv.n_outputs),
        }
    }

    #[test]
    fn matches_reference_bit_for_bit_at_awkward_sizes() {
        for (conv, n) in cases() {
            for pool in [1, 2, 3] {
                let Numbers { x, w, b } = numbers(&conv, n);
                let (expected, _) = reference(&conv, pool, &x, &w, &b);
                let mut y = vec![f32::NAN; expected.len()];
                let mut winners = vec![9; expected.len()];
                fused(&conv, pool, &x, &w, &b, &mut y, &mut winners);
                assert_same_bits(&expected, &y, (conv, n, pool));
            }
        }
    }

    #[test]
    fn backward_is_that_of_the_two_operations_bit_for_bit() {
        for (conv, n) in cases() {
            for pool in [1, 2, 3] {
                let Numbers { mut x, w, b } = numbers(&conv, n);
                if let Some(x) = x.last_mut() {
                    *x = f32::NAN;
                }
                let z = conv2d::reference(&conv, &x, &w, &b, true);
                let (y, winners) = max_pool::reference(conv.output(), Window::tiles(pool), &z);
                let dy = uniform(4, y.len());
                let dz = max_pool::backward(conv.output(), Window::tiles(pool), &winners, &dy, n);
                let expected = conv2d::backward(&conv, &x, &w, Some(&z), &dz, true);
                let kept = Kept { y: &y, winners: &winners };
                let found = backward(&conv, pool, &x, &w, kept, &dy, true);
                let bits = |it: &conv2d::Gradients| {
                    let dx = it.dx.as_deref().expect("asked for");
                    let all = dx.iter().chain(&it.dw).chain(&it.db);
                    // A NaN has many bits.
                    all.map(|it| if it.is_nan() { 1 } else { it.to_bits() }).collect::<Vec<u32>>()
                };
                assert_eq!(bits(&expected), bits(&found), "{conv:?} {n} {pool}");
                assert_eq!(y.len(), n * output(&conv, pool).len());
            }
        }
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        let (conv, _) = cases()[13];
        let Numbers { x, w, b } = numbers(&conv, 40);
        on_any_threads(|| {
            let n = 40 * output(&conv, 2).len();
            let (mut y, mut winners) = (vec![0.0; n], vec![0; n]);
            fused(&conv, 2, &x, &w, &b, &mut y, &mut winners);
            let kept = Kept { y: &y, winners: &winners };
            let found = backward(&conv, 2, &x, &w, kept, &y, true);
            [found.dx.expect("asked for"), found.dw, found.db].concat()
        });
    }

    #[cfg(feature = "burn")]
    #[test]
    fn burn_runs_it_and_its_own_operations_agree() {
        use burn::tensor::{activation::relu, module::max_pool2d, ops::MaxPoolOptions};

        use crate::{
            conv2d::tests::composed,
            testing::{flow, leaf},
        };

        for (conv, n) in cases() {
            if n == 0 || output(&conv, 2).is_empty() {
                continue;
            }
            let (input, size) = (conv.input, conv.window.size);
            let leaves = || {
                let x = leaf(1, [n, input.height, input.width, input.n_channels]);
                let w = leaf(2, [size, size, input.n_channels, conv.n_outputs]);
                (x, w, leaf(3, [conv.n_outputs]))
            };
            let (x, w, b) = leaves();
            let ours = super::conv_pool(x.clone(), w.clone(), b.clone(), conv, 2);
            let ours = flow(ours, &x, &w, &b);
            let (x, w, b) = leaves();
            let z = relu(composed(&conv, x.clone(), w.clone(), b.clone()));
            let theirs = max_pool2d(z.permute([0, 3, 1, 2]), MaxPoolOptions::new([2, 2]));
            let theirs = flow(theirs.permute([0, 2, 3, 1]), &x, &w, &b);
            assert_eq!((ours.len(), theirs.len()), (4, 4), "y, dx, dw and db");
            for (ours, theirs) in ours.iter().flatten().zip(theirs.iter().flatten()) {
                let allowed = 1e-5 * theirs.abs().max(1.0);
                assert!((ours - theirs).abs() < allowed, "{conv:?}: {ours}, {theirs}");
            }
        }
    }
}
