//! `lion`: one update of one parameter by the sign of its momentum. With s the clip factor, g ← s·g:
//! c = β₁·m + (1 − β₁)·g; p ← p·(1 − lr·wd) − lr·sign(c); m ← β₂·m + (1 − β₂)·g
//!
//! Source: Chen et al., "Symbolic Discovery of Optimization Algorithms", 2023, algorithm 2. sign(0) = 0, and sign(NaN) is
//! NaN, so that a fault shows.
//!
//! Half of AdamW's state. Every element moves by lr or not at all, so rates are 3 to 10 times smaller than AdamW's and
//! weight decay as much larger.
//!
//! versions: 1  one pass, in place, the clip folded in.
//! bound by: bytes, 12 read and 8 written an element.

use rayon::prelude::*;

/// Elements a thread updates at a time.
const CHUNK: usize = 1 << 13;

/// The numbers of one update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Learning rate of this update.
    pub learning_rate: f64,
    /// Share of the momentum in the direction of the step.
    pub beta1: f64,
    /// Share of the momentum that is kept.
    pub beta2: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// What gradients are multiplied by first: see [`crate::global_norm::clip_factor`].
    pub gradient_scale: f32,
}

impl Step {
    fn factors(&self) -> Factors {
        Factors {
            gradient: self.gradient_scale,
            keep: (1.0 - self.learning_rate * self.weight_decay) as f32,
            beta1: self.beta1 as f32,
            one_minus_beta1: (1.0 - self.beta1) as f32,
            beta2: self.beta2 as f32,
            one_minus_beta2: (1.0 - self.beta2) as f32,
            rate: self.learning_rate as f32,
        }
    }
}

/// [`Step`] as f32, computed in f64 once.
#[derive(Clone, Copy)]
struct Factors {
    gradient: f32,
    keep: f32,
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    rate: f32,
}

/// The definition, for one element: the new (p, m).
pub fn reference(p: f32, g: f32, m: f32, step: &Step) -> (f32, f32) {
    let f = step.factors();
    let g = g * f.gradient;
    let c = m * f.beta1 + g * f.one_minus_beta1;
    let sign = match c {
        c if 0.0 < c => 1.0,
        c if c < 0.0 => -1.0,
        c if c.is_nan() => c,
        _ => 0.0,
    };
    (p * f.keep - f.rate * sign, m * f.beta2 + g * f.one_minus_beta2)
}

/// In place. All three slices are equally long.
pub fn fused(p: &mut [f32], g: &[f32], m: &mut [f32], step: &Step) {
    let f = step.factors();
    p.par_chunks_mut(CHUNK)
        .zip(g.par_chunks(CHUNK))
        .zip(m.par_chunks_mut(CHUNK))
        .for_each(|((p, g), m)| one_chunk(p, g, m, &f));
}

fn one_chunk(p: &mut [f32], g: &[f32], m: &mut [f32], f: &Factors) {
    for ((p, g), m) in p.iter_mut().zip(g).zip(m) {
        let g = g * f.gradient;
        let c = *m * f.beta1 + g * f.one_minus_beta1;
        *m = *m * f.beta2 + g * f.one_minus_beta2;
        // Comparisons and a choice instead of branches, so that it becomes vector code.
        let sign = f32::from(u8::from(0.0 < c)) - f32::from(u8::from(c < 0.0));
        let sign = if c.is_nan() { c } else { sign };
        *p = *p * f.keep - f.rate * sign;
    }
}

#[cfg(feature = "burn")]
pub use op::lion;

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
    pub fn lion(p: Tensor<1>, g: Tensor<1>, m: Tensor<1>, step: Step) -> (Tensor<1>, Tensor<1>) {
        let (p, m) = <Dispatch as LionOps>::lion(
            p.into_dispatch(),
            g.into_dispatch(),
            m.into_dispatch(),
            step,
        );
        (Tensor::from_dispatch(p), Tensor::from_dispatch(m))
    }

    /// The update.
    #[backend_extension(Flex, Cube: cfg(feature = "gpu"))]
    pub(crate) trait LionOps: Backend {
        /// See [`super::fused`].
        fn lion(
            p: FloatTensor<Self>,
            g: FloatTensor<Self>,
            m: FloatTensor<Self>,
            step: Step,
        ) -> (FloatTensor<Self>, FloatTensor<Self>);
    }

    impl LionOps for Flex {
        fn lion(
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

    const STEP: Step = Step {
        learning_rate: 0.1,
        beta1: 0.9,
        beta2: 0.99,
        weight_decay: 0.01,
        gradient_scale: 1.0,
    };

    #[test]
    fn matches_reference_bit_for_bit_at_awkward_sizes() {
        let step = Step { gradient_scale: 0.7, ..STEP };
        for n in [0, 1, 5, CHUNK, CHUNK + 1, 2 * CHUNK + 7] {
            let (mut p, mut g, mut m) = (uniform(1, n), uniform(2, n), uniform(3, n));
            if let (Some(g), Some(m)) = (g.first_mut(), m.first_mut()) {
                (*g, *m) = (0.0, -0.0);
            }
            let expected: Vec<(f32, f32)> =
                (0..n).map(|i| reference(p[i], g[i], m[i], &step)).collect();
            fused(&mut p, &g, &mut m, &step);
            assert_same_bits(&expected.iter().map(|it| it.0).collect::<Vec<_>>(), &p, n);
            assert_same_bits(&expected.iter().map(|it| it.1).collect::<Vec<_>>(), &m, n);
        }
    }

    /// The formula in PyTorch 2.15's f32 arithmetic (it has no Lion): `c = 0.9*m + 0.1*g; p = p*(1 - 0.1*0.01) -
    /// 0.1*torch.sign(c); m = 0.99*m + 0.01*g`, from p = (1, −2) with the three gradients below.
    #[test]
    fn three_updates_are_those_of_the_paper() {
        let (mut p, mut m) = ([1.0_f32, -2.0], [0.0_f32; 2]);
        for (g, (expected_p, expected_m)) in [[0.5, 0.25], [-0.5, 1.0], [0.1, -3.0]].iter().zip([
            ([0.898_999_989, -2.098_000_05], [0.004_999_999_89, 0.002_499_999_94]),
            ([0.998_100_996, -2.195_901_87], [-4.999_991_51e-5, 0.012_474_999_8]),
            ([0.897_102_892, -2.093_706_13], [0.000_950_500_136, -0.017_649_749_3]),
        ]) {
            fused(&mut p, g, &mut m, &STEP);
            for (found, expected) in p.iter().zip(expected_p).chain(m.iter().zip(expected_m)) {
                assert!((f64::from(*found) - expected).abs() < 3e-7, "{found}, paper {expected}");
            }
        }
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        let n = 100_000;
        on_any_threads(|| {
            let (mut p, mut m) = (uniform(1, n), uniform(3, n));
            fused(&mut p, &uniform(2, n), &mut m, &STEP);
            p
        });
    }

    #[test]
    fn nan_shows_and_huge_gradients_move_by_one_rate() {
        let (mut p, mut m) = ([1.0_f32, 1.0, 1.0], [0.0_f32; 3]);
        let step = Step { weight_decay: 0.0, ..STEP };
        fused(&mut p, &[f32::NAN, 1e30, -1e-30], &mut m, &step);
        assert!(p[0].is_nan());
        assert!((p[1] - 0.9).abs() < 1e-6 && (p[2] - 1.1).abs() < 1e-6, "{p:?}");
    }
}
