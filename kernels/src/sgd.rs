//! `sgd`: one update of one parameter, as PyTorch's `SGD` computes it. With s the clip factor, g ← s·g + wd·p:
//! m ← μ·m + g; p ← p − lr·m, or with Nesterov's look ahead p ← p − lr·(g + μ·m).
//!
//! Weight decay is coupled: it goes through the momentum, as in PyTorch. m starts at zero; with μ = 0 it is the last g.
//!
//! versions: 1  one pass, in place, clip and decay folded in.
//! bound by: bytes, 12 read and 8 written an element.

use rayon::prelude::*;

/// Elements a thread updates at a time.
const CHUNK: usize = 1 << 13;

/// The numbers of one update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Learning rate of this update.
    pub learning_rate: f64,
    /// Share of the momentum that is kept, [0, 1).
    pub momentum: f64,
    /// Whether the step looks ahead by one momentum.
    pub nesterov: bool,
    /// Coupled weight decay.
    pub weight_decay: f64,
    /// What gradients are multiplied by first: see [`crate::global_norm::clip_factor`].
    pub gradient_scale: f32,
}

/// The definition, for one element: the new (p, m).
pub fn reference(p: f32, g: f32, m: f32, step: &Step) -> (f32, f32) {
    let momentum = step.momentum as f32;
    let g = g * step.gradient_scale + p * step.weight_decay as f32;
    let m = m * momentum + g;
    let direction = if step.nesterov { g + m * momentum } else { m };
    (p - direction * step.learning_rate as f32, m)
}

/// In place. All three slices are equally long.
pub fn fused(p: &mut [f32], g: &[f32], m: &mut [f32], step: &Step) {
    p.par_chunks_mut(CHUNK)
        .zip(g.par_chunks(CHUNK))
        .zip(m.par_chunks_mut(CHUNK))
        .for_each(|((p, g), m)| one_chunk(p, g, m, step));
}

fn one_chunk(p: &mut [f32], g: &[f32], m: &mut [f32], step: &Step) {
    let (scale, decay) = (step.gradient_scale, step.weight_decay as f32);
    let (momentum, rate) = (step.momentum as f32, step.learning_rate as f32);
    if step.nesterov {
        for ((p, g), m) in p.iter_mut().zip(g).zip(m) {
            let g = g * scale + *p * decay;
            *m = *m * momentum + g;
            *p -= (g + *m * momentum) * rate;
        }
    } else {
        for ((p, g), m) in p.iter_mut().zip(g).zip(m) {
            *m = *m * momentum + (g * scale + *p * decay);
            *p -= *m * rate;
        }
    }
}

#[cfg(feature = "burn")]
pub use op::sgd;

#[cfg(feature = "gpu")]
mod gpu;

#[cfg(feature = "burn")]
pub(crate) mod op {
    use burn::{
        backend::{Backend, Dispatch, Flex, backend_extension, tensor::FloatTensor},
        tensor::Tensor,
    };

    use super::Step;
    use crate::flex::{contiguous, floats, floats_mut};

    /// One update: the new parameter and momentum. In place where the arguments are the only owners.
    #[must_use]
    pub fn sgd(p: Tensor<1>, g: Tensor<1>, m: Tensor<1>, step: Step) -> (Tensor<1>, Tensor<1>) {
        let (p, m) = <Dispatch as SgdOps>::sgd(
            p.into_dispatch(),
            g.into_dispatch(),
            m.into_dispatch(),
            step,
        );
        (Tensor::from_dispatch(p), Tensor::from_dispatch(m))
    }

    /// The update.
    #[backend_extension(Flex, Cube: cfg(feature = "gpu"))]
    pub(crate) trait SgdOps: Backend {
        /// See [`super::fused`].
        fn sgd(
            p: FloatTensor<Self>,
            g: FloatTensor<Self>,
            m: FloatTensor<Self>,
            step: Step,
        ) -> (FloatTensor<Self>, FloatTensor<Self>);
    }

    impl SgdOps for Flex {
        fn sgd(
            mut p: FloatTensor<Self>,
            g: FloatTensor<Self>,
            mut m: FloatTensor<Self>,
            step: Step,
        ) -> (FloatTensor<Self>, FloatTensor<Self>) {
            let g = contiguous(g);
            super::fused(floats_mut(&mut p), floats(&g), floats_mut(&mut m), &step);
            (p, m)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CHUNK, Step, fused, reference};
    use crate::testing::{assert_same_bits, on_any_threads, uniform};

    fn step(momentum: f64, nesterov: bool) -> Step {
        Step { learning_rate: 0.1, momentum, nesterov, weight_decay: 0.01, gradient_scale: 1.0 }
    }

    #[test]
    fn matches_reference_bit_for_bit_at_awkward_sizes() {
        for (momentum, nesterov) in [(0.9, false), (0.9, true), (0.0, false)] {
            let step = Step { gradient_scale: 0.7, ..step(momentum, nesterov) };
            for n in [0, 1, 5, CHUNK, CHUNK + 1, 2 * CHUNK + 7] {
                let (mut p, g, mut m) = (uniform(1, n), uniform(2, n), uniform(3, n));
                let expected: Vec<(f32, f32)> =
                    (0..n).map(|i| reference(p[i], g[i], m[i], &step)).collect();
                fused(&mut p, &g, &mut m, &step);
                assert_same_bits(&expected.iter().map(|it| it.0).collect::<Vec<_>>(), &p, n);
                assert_same_bits(&expected.iter().map(|it| it.1).collect::<Vec<_>>(), &m, n);
            }
        }
    }

    /// PyTorch 2.15: `torch.optim.SGD([p], lr=0.1, momentum=…, nesterov=…, weight_decay=0.01)` from p = (1, −2) with the
    /// three gradients below.
    #[test]
    fn three_updates_are_those_of_pytorch() {
        for (momentum, nesterov, expected) in [
            (
                0.9,
                false,
                [
                    [0.949_000_001, -2.023],
                    [0.952_151, -2.141_676_9],
                    [0.944_034_755, -1.946_344_49],
                ],
            ),
            (
                0.9,
                true,
                [
                    [0.903_100_014, -2.043_699_98],
                    [0.955_074_131, -2.248_446_94],
                    [0.936_848_998, -1.770_286_56],
                ],
            ),
            (
                0.0,
                false,
                [
                    [0.949_000_001, -2.023],
                    [0.998_050_988, -2.120_976_92],
                    [0.987_052_917, -1.818_856],
                ],
            ),
        ] {
            let (mut p, mut m) = ([1.0_f32, -2.0], [0.0; 2]);
            for (g, expected) in [[0.5, 0.25], [-0.5, 1.0], [0.1, -3.0]].iter().zip(expected) {
                fused(&mut p, g, &mut m, &step(momentum, nesterov));
                for (found, expected) in p.iter().zip(expected) {
                    let gap = (f64::from(*found) - expected).abs();
                    assert!(gap < 3e-7, "{momentum} {nesterov}: {found}, PyTorch {expected}");
                }
            }
        }
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        let n = 100_000;
        on_any_threads(|| {
            let (mut p, mut m) = (uniform(1, n), uniform(3, n));
            fused(&mut p, &uniform(2, n), &mut m, &step(0.9, true));
            p
        });
    }

    #[test]
    fn what_is_not_finite_shows() {
        let (mut p, mut m) = ([1.0_f32, 1.0], [0.0; 2]);
        fused(&mut p, &[f32::NAN, f32::INFINITY], &mut m, &step(0.9, false));
        assert!(p[0].is_nan() && p[1].is_infinite(), "{p:?}");
    }
}
