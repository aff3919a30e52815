//! `max_pool`: the largest number under the window, for each channel; where several are equal the first in scan order. NaN
//! is larger than any number, so that it stays visible.
//!
//! Pictures are channels-last ([`crate::window`]). Padding is never the largest: it stands for pixels that are not there.
//!
//! Forward keeps which of the window's pixels won, as one byte; backward hands dy to it. Windows that overlap add up in scan
//! order within a picture, and each picture has one thread: no atomics, the same bits every time.
//!
//! bound by: bytes, 4 read for each number of x, 5 written for each of y.

use rayon::prelude::*;

use crate::{
    simd::vectorized,
    window::{Covered, Image, Window},
};

/// Largest window: its pixels are numbered by a byte.
pub const SIZE_MAX: usize = 16;

/// The definition: y, and which pixel of its window each number of y comes from.
pub fn reference(image: Image, window: Window, x: &[f32]) -> (Vec<f32>, Vec<u8>) {
    let output = window.over(image, image.n_channels);
    let (mut y, mut winners) = (Vec::new(), Vec::new());
    for x in x.chunks_exact(image.len().max(1)) {
        for at in 0..output.len() {
            let (place, channel) = (at / output.n_channels, at % output.n_channels);
            let (row, column) = (place / output.width, place % output.width);
            let mut best: Option<(f32, u8)> = None;
            for tap in 0..window.size * window.size {
                let row = row * window.stride + tap / window.size;
                let column = column * window.stride + tap % window.size;
                let (Some(row), Some(column)) =
                    (row.checked_sub(window.padding), column.checked_sub(window.padding))
                else {
                    continue;
                };
                if row < image.height && column < image.width {
                    let x = x[row * image.row_len() + column * image.n_channels + channel];
                    if best.is_none_or(|(best, _)| wins(x, best)) {
                        best = Some((x, tap as u8));
                    }
                }
            }
            let (value, winner) = best.expect("padding is smaller than the window");
            y.push(value);
            winners.push(winner);
        }
    }
    (y, winners)
}

/// Whether `x` takes the place of `best`, which came before it.
#[inline(always)]
pub(crate) fn wins(x: f32, best: f32) -> bool {
    best < x || (x.is_nan() && !best.is_nan())
}

/// Writes the largest numbers and the winners. The window's padding must be below its size, which is at most
/// [`SIZE_MAX`].
pub fn fused(image: Image, window: Window, x: &[f32], y: &mut [f32], winners: &mut [u8]) {
    assert!(window.padding < window.size && window.size <= SIZE_MAX, "{window:?}");
    let output = window.over(image, image.n_channels);
    assert_eq!(y.len(), image.n_in(x) * output.len(), "one output for each input");
    assert_eq!(winners.len(), y.len(), "one winner for each number");
    if y.is_empty() {
        return;
    }
    let pictures =
        y.par_chunks_exact_mut(output.len()).zip(winners.par_chunks_exact_mut(output.len()));
    pictures.zip(x.par_chunks_exact(image.len())).for_each(|((y, winners), x)| {
        vectorized(
            #[inline(always)]
            || picture(image, window, x, y, winners),
        );
    });
}

/// One picture. For use inside [`vectorized`].
#[inline(always)]
pub(crate) fn picture(image: Image, window: Window, x: &[f32], y: &mut [f32], winners: &mut [u8]) {
    let output = window.over(image, image.n_channels);
    let n = image.n_channels;
    let places = y.chunks_exact_mut(n).zip(winners.chunks_exact_mut(n));
    for (place, (y, winners)) in places.enumerate() {
        let rows = window.covers(place / output.width, image.height);
        let columns = window.covers(place % output.width, image.width);
        each_tap(window, rows, columns, |tap, row, column, is_first| {
            let x = &x[row * image.row_len() + column * n..][..n];
            if is_first {
                y.copy_from_slice(x);
                winners.fill(tap);
            } else {
                for ((y, winner), x) in y.iter_mut().zip(&mut *winners).zip(x) {
                    let is_winner = wins(*x, *y);
                    *y = if is_winner { *x } else { *y };
                    *winner = if is_winner { tap } else { *winner };
                }
            }
        });
    }
}

/// Calls `f(tap, row, column, is first)` for each pixel under a window.
#[inline(always)]
fn each_tap(
    window: Window,
    rows: Covered,
    columns: Covered,
    mut f: impl FnMut(u8, usize, usize, bool),
) {
    for i in 0..rows.len {
        for j in 0..columns.len {
            let tap = (rows.skipped + i) * window.size + columns.skipped + j;
            f(tap as u8, rows.first + i, columns.first + j, i + j == 0);
        }
    }
}

/// dx, `n_pictures` pictures.
#[must_use]
pub fn backward(
    image: Image,
    window: Window,
    winners: &[u8],
    dy: &[f32],
    n_pictures: usize,
) -> Vec<f32> {
    let output = window.over(image, image.n_channels);
    let mut dx = vec![0.0; n_pictures * image.len()];
    if dx.is_empty() || output.is_empty() {
        return dx;
    }
    let pictures = dx.par_chunks_exact_mut(image.len()).zip(dy.par_chunks_exact(output.len()));
    pictures.zip(winners.par_chunks_exact(output.len())).for_each(|((dx, dy), winners)| {
        vectorized(
            #[inline(always)]
            || {
                let n = image.n_channels;
                let places = dy.chunks_exact(n).zip(winners.chunks_exact(n));
                for (place, (dy, winners)) in places.enumerate() {
                    let rows = window.covers(place / output.width, image.height);
                    let columns = window.covers(place % output.width, image.width);
                    each_tap(window, rows, columns, |tap, row, column, _| {
                        let dx = &mut dx[row * image.row_len() + column * n..][..n];
                        for ((dx, dy), winner) in dx.iter_mut().zip(dy).zip(winners) {
                            *dx += if *winner == tap { *dy } else { 0.0 };
                        }
                    });
                }
            },
        );
    });
    dx
}

#[cfg(feature = "burn")]
pub use op::max_pool;

#[cfg(feature = "gpu")]
mod gpu;

#[cfg(feature = "burn")]
pub(crate) mod op {
    use burn::{
        backend::{Autodiff, Backend, Dispatch, Flex, backend_extension, tensor::FloatTensor},
        tensor::Tensor,
    };
    use burn_autodiff::{
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    };

    use super::{Image, Window};
    use crate::flex::{contiguous, dim, floats, tensor};

    /// The largest numbers under `window` of `x`, rows × height × width × channels. Padding must be below the window's
    /// size, which is at most [`super::SIZE_MAX`].
    #[must_use]
    pub fn max_pool(x: Tensor<4>, window: Window) -> Tensor<4> {
        Tensor::from_dispatch(<Dispatch as MaxPoolOps>::max_pool(x.into_dispatch(), window))
    }

    /// The forward pass.
    #[backend_extension(Flex, Cube: cfg(feature = "gpu"), Autodiff)]
    pub(crate) trait MaxPoolOps: Backend {
        /// See [`super::fused`].
        fn max_pool(x: FloatTensor<Self>, window: Window) -> FloatTensor<Self>;
    }

    /// What training needs beside it.
    pub(crate) trait MaxPoolBackward: Backend {
        /// What the backward pass is told of the forward pass.
        type Winners: Clone + std::fmt::Debug + Send + 'static;

        /// See [`super::fused`].
        fn max_pool_kept(
            x: FloatTensor<Self>,
            window: Window,
        ) -> (FloatTensor<Self>, Self::Winners);

        /// See [`super::backward`].
        fn max_pool_backward(
            winners: Self::Winners,
            window: Window,
            dy: FloatTensor<Self>,
        ) -> FloatTensor<Self>;
    }

    impl MaxPoolOps for Flex {
        fn max_pool(x: FloatTensor<Self>, window: Window) -> FloatTensor<Self> {
            Self::max_pool_kept(x, window).0
        }
    }

    impl MaxPoolBackward for Flex {
        /// Pictures, their size, one byte a number of y.
        type Winners = (usize, Image, std::sync::Arc<Vec<u8>>);

        fn max_pool_kept(
            x: FloatTensor<Self>,
            window: Window,
        ) -> (FloatTensor<Self>, Self::Winners) {
            let x = contiguous(x);
            let n = dim(&x, 0);
            let image = Image { height: dim(&x, 1), width: dim(&x, 2), n_channels: dim(&x, 3) };
            let output = window.over(image, image.n_channels);
            let mut y = vec![0.0; n * output.len()];
            let mut winners = vec![0; y.len()];
            super::fused(image, window, floats(&x), &mut y, &mut winners);
            let y = tensor(y, [n, output.height, output.width, output.n_channels]);
            (y, (n, image, winners.into()))
        }

        fn max_pool_backward(
            (n, image, winners): Self::Winners,
            window: Window,
            dy: FloatTensor<Self>,
        ) -> FloatTensor<Self> {
            let dy = contiguous(dy);
            let dx = super::backward(image, window, &winners, floats(&dy), n);
            tensor(dx, [n, image.height, image.width, image.n_channels])
        }
    }

    impl<B: MaxPoolOps + MaxPoolBackward, C: CheckpointStrategy> MaxPoolOps for Autodiff<B, C> {
        fn max_pool(x: FloatTensor<Self>, window: Window) -> FloatTensor<Self> {
            #[derive(Debug)]
            struct MaxPool;

            impl<B: MaxPoolBackward> Backward<B, 1> for MaxPool {
                type State = (B::Winners, Window);

                fn backward(
                    self,
                    ops: Ops<Self::State, 1>,
                    grads: &mut Gradients,
                    _: &mut Checkpointer,
                ) {
                    let [parent] = ops.parents;
                    let dy = grads.consume::<B>(&ops.node);
                    if let Some(parent) = parent {
                        let (winners, window) = ops.state;
                        grads.register::<B>(parent.id, B::max_pool_backward(winners, window, dy));
                    }
                }
            }

            let (x, node) = x.into_parts();
            match MaxPool.prepare::<C>([node]).compute_bound().stateful() {
                OpsKind::Tracked(prepared) => {
                    let (y, winners) = B::max_pool_kept(x, window);
                    prepared.finish((winners, window), y)
                }
                OpsKind::UnTracked(prepared) => prepared.finish(B::max_pool(x, window)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{backward, fused, reference};
    use crate::{
        testing::{assert_same_bits, on_any_threads, uniform},
        window::{Image, Window},
    };

    fn cases() -> Vec<(Image, Window, usize)> {
        let case = |(height, width, n_channels), (size, stride, padding), n| {
            (Image { height, width, n_channels }, Window { size, stride, padding }, n)
        };
        vec![
            case((1, 1, 1), (1, 1, 0), 1),
            case((4, 4, 3), (2, 2, 0), 0),
            case((4, 6, 33), (2, 2, 0), 3),
            case((5, 7, 2), (2, 2, 0), 2),
            case((5, 4, 3), (3, 2, 1), 4),
            case((7, 7, 1), (3, 1, 1), 2),
            case((9, 5, 2), (3, 4, 2), 2),
            case((1, 3, 2), (2, 2, 0), 2),
            case((16, 17, 5), (16, 1, 0), 1),
        ]
    }

    /// [`fused`], checked against [`reference`] bit for bit.
    #[track_caller]
    fn check(image: Image, window: Window, x: &[f32]) -> (Vec<f32>, Vec<u8>) {
        let expected = reference(image, window, x);
        let (mut y, mut winners) = (vec![f32::NAN; expected.0.len()], vec![9; expected.1.len()]);
        fused(image, window, x, &mut y, &mut winners);
        assert_same_bits(&expected.0, &y, (image, window));
        assert_eq!(expected.1, winners, "{image:?} {window:?}");
        expected
    }

    #[test]
    fn matches_reference_bit_for_bit_at_awkward_sizes() {
        for (image, window, n) in cases() {
            check(image, window, &uniform(1, n * image.len()));
        }
    }

    #[test]
    fn the_first_of_equals_wins_and_nan_is_the_largest() {
        let image = Image { height: 2, width: 2, n_channels: 1 };
        let nan = f32::NAN;
        for (x, winner) in [
            ([1.0, 1.0, 1.0, 1.0], 0),
            ([0.0, 2.0, 2.0, 1.0], 1),
            ([-0.0, 0.0, 0.0, -0.0], 0),
            ([f32::NEG_INFINITY; 4], 0),
            ([1.0, f32::INFINITY, 1e38, f32::INFINITY], 1),
            ([1.0, nan, f32::INFINITY, nan], 1),
            ([nan, nan, 1.0, 2.0], 0),
            ([1e-42, -1e-42, 2e-42, 0.0], 2),
        ] {
            let (mut y, mut winners) = ([0.0], [9]);
            fused(image, Window::tiles(2), &x, &mut y, &mut winners);
            assert_eq!(winners, [winner], "{x:?}");
            assert_eq!(y[0].to_bits(), x[usize::from(winner)].to_bits(), "{x:?}");
        }
    }

    #[test]
    fn gradient_matches_finite_differences() {
        for (image, window, n) in cases() {
            // Different numbers, a step apart, so that no winner changes.
            let count = n * image.len();
            let x: Vec<f64> = (0..count).map(|i| (i * 7919 % count.max(1)) as f64).collect();
            let narrow = |x: &[f64]| x.iter().map(|x| *x as f32).collect::<Vec<f32>>();
            let (y, winners) = reference(image, window, &narrow(&x));
            let dy = uniform(4, y.len());
            let dx = backward(image, window, &winners, &dy, n);
            let objective = |x: &[f64]| -> f64 {
                let (y, _) = reference(image, window, &narrow(x));
                y.iter().zip(&dy).map(|(y, dy)| f64::from(*y) * f64::from(*dy)).sum()
            };
            for at in (0..count).step_by(5) {
                let moved = |by: f64| {
                    let mut x = x.clone();
                    x[at] += by;
                    objective(&x)
                };
                let expected = (moved(0.25) - moved(-0.25)) / 0.5;
                let error = (f64::from(dx[at]) - expected).abs();
                assert!(error < 1e-4, "{image:?} {window:?}: dx[{at}] {}, not {expected}", dx[at]);
            }
        }
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        let (image, window, _) = cases()[4];
        let x = uniform(1, 100 * image.len());
        on_any_threads(|| {
            let (y, winners) = check(image, window, &x);
            backward(image, window, &winners, &y, 100)
        });
    }

    #[cfg(feature = "burn")]
    #[test]
    fn burn_runs_it_and_its_own_pool_agrees() {
        use burn::tensor::{module::max_pool2d, ops::MaxPoolOptions};

        use crate::testing::{flow, leaf};

        for (image, window, n) in cases() {
            // burn's own pool wants padding of at most half the window.
            if n == 0 || window.over(image, 1).is_empty() || window.size < 2 * window.padding {
                continue;
            }
            let (w, b) = (leaf(2, [1, 1, 1, 1]), leaf(3, [1]));
            // Channels first in memory: what arrives is not contiguous.
            let shape = [n, image.n_channels, image.height, image.width];
            let x = leaf(1, shape);
            let ours = super::max_pool(x.clone().permute([0, 2, 3, 1]), window);
            let ours = flow(ours, &x, &w, &b);
            let x = leaf(1, shape);
            let options = MaxPoolOptions::new([window.size; 2])
                .with_stride([window.stride; 2])
                .with_padding([window.padding; 2]);
            let theirs = max_pool2d(x.clone(), options).permute([0, 2, 3, 1]);
            let theirs = flow(theirs, &x, &w, &b);
            assert_eq!((ours.len(), theirs.len()), (2, 2), "y and dx");
            for (ours, theirs) in ours.iter().flatten().zip(theirs.iter().flatten()) {
                assert!((ours - theirs).abs() < 1e-5, "{image:?} {window:?}: {ours}, {theirs}");
            }
        }
    }
}
