//! `adamw`: one update of one parameter, as PyTorch's `AdamW` computes it. With s the clip factor, g ← s·g:
//! p ← p·(1 − lr·wd); m ← m + (g − m)(1 − β₁); v ← v·β₂ + (1 − β₂)·g²;
//! p ← p − lr/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + ε)
//!
//! Why not burn's: ten passes over memory instead of one, other defaults (ε 1e-5), one weight decay for all parameters,
//! and moments that can only be stored under random numbers instead of parameter paths.
//!
//! versions: 1  one pass, in place, the clip folded in.
//! bound by: bytes, 16 read and 12 written an element.

use rayon::prelude::*;

use crate::simd::vectorized;

/// Elements a thread updates at a time.
const CHUNK: usize = 1 << 13;

/// The numbers of one update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Learning rate of this update.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// What gradients are multiplied by first: see [`crate::global_norm::clip_factor`].
    pub gradient_scale: f32,
    /// This update's number, from 1.
    pub t: u64,
}

impl Step {
    /// PyTorch's defaults: β = (0.9, 0.999), ε = 1e-8.
    #[must_use]
    pub const fn new(learning_rate: f64, weight_decay: f64, gradient_scale: f32, t: u64) -> Self {
        let (beta1, beta2, epsilon) = (0.9, 0.999, 1e-8);
        Self { learning_rate, beta1, beta2, epsilon, weight_decay, gradient_scale, t }
    }

    fn factors(&self) -> Factors {
        let correction = |beta: f64| 1.0 - libm::pow(beta, self.t as f64);
        Factors {
            gradient: self.gradient_scale,
            keep: (1.0 - self.learning_rate * self.weight_decay) as f32,
            one_minus_beta1: (1.0 - self.beta1) as f32,
            beta2: self.beta2 as f32,
            one_minus_beta2: (1.0 - self.beta2) as f32,
            root_correction2: libm::sqrt(correction(self.beta2)) as f32,
            epsilon: self.epsilon as f32,
            step_size: (self.learning_rate / correction(self.beta1)) as f32,
        }
    }
}

/// [`Step`] as f32, computed in f64 once.
#[derive(Clone, Copy)]
struct Factors {
    gradient: f32,
    keep: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    root_correction2: f32,
    epsilon: f32,
    step_size: f32,
}

/// The definition, for one element: the new (p, m, v).
pub fn reference(p: f32, g: f32, m: f32, v: f32, step: &Step) -> (f32, f32, f32) {
    let f = step.factors();
    let g = g * f.gradient;
    let p = p * f.keep;
    let m = m + (g - m) * f.one_minus_beta1;
    let v = v * f.beta2 + f.one_minus_beta2 * g * g;
    let denominator = v.sqrt() / f.root_correction2 + f.epsilon;
    (p - f.step_size * (m / denominator), m, v)
}

/// In place. All four slices are equally long, or the update ends with the shortest.
pub fn fused(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], step: &Step) {
    let f = step.factors();
    p.par_chunks_mut(CHUNK)
        .zip(g.par_chunks(CHUNK))
        .zip(m.par_chunks_mut(CHUNK))
        .zip(v.par_chunks_mut(CHUNK))
        .for_each(|(((p, g), m), v)| one_chunk(p, g, m, v, &f));
}

fn one_chunk(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], f: &Factors) {
    vectorized(
        #[inline(always)]
        || {
            for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
                let g = g * f.gradient;
                *m += (g - *m) * f.one_minus_beta1;
                *v = *v * f.beta2 + f.one_minus_beta2 * g * g;
                let denominator = v.sqrt() / f.root_correction2 + f.epsilon;
                *p = *p * f.keep - f.step_size * (*m / denominator);
            }
        },
    );
}

#[cfg(feature = "burn")]
pub use op::{Slot, adamw, adamw_all};

#[cfg(feature = "burn")]
mod op {
    use burn::{
        backend::{Flex, tensor::FloatTensor},
        tensor::Tensor,
    };

    use super::Step;
    use crate::flex::{contiguous, floats, floats_mut};

    /// What an update knows of one parameter.
    #[derive(Debug)]
    pub struct Slot {
        /// The parameter.
        pub p: Tensor<1>,
        /// Its gradient.
        pub g: Tensor<1>,
        /// Its first moment.
        pub m: Tensor<1>,
        /// Its second moment.
        pub v: Tensor<1>,
        /// The numbers of its update.
        pub step: Step,
    }

    /// One update of all parameters, which lie on one device: the new parameter, first and second moment of each. In place
    /// where the slot is the only owner. A GPU needs a launch for those with equal numbers, not for each.
    #[must_use]
    pub fn adamw_all(slots: Vec<Slot>) -> Vec<[Tensor<1>; 3]> {
        #[cfg(feature = "gpu")]
        let slots = match super::gpu::adamw_all(slots) {
            Ok(done) => return done,
            Err(slots) => slots,
        };
        let one = |slot: Slot| {
            let Slot { p, g, m, v, step } = slot;
            let [mut p, g, mut m, mut v] = [p, g, m, v].map(on_cpu);
            let g = contiguous(g);
            super::fused(
                floats_mut(&mut p),
                floats(&g),
                floats_mut(&mut m),
                floats_mut(&mut v),
                &step,
            );
            [p, m, v].map(Tensor::from_primitive::<Flex>)
        };
        slots.into_iter().map(one).collect()
    }

    fn on_cpu(tensor: Tensor<1>) -> FloatTensor<Flex> {
        tensor.try_into_primitive::<Flex>().expect("the CPU is the other device")
    }

    /// One update of one parameter: see [`adamw_all`].
    #[must_use]
    pub fn adamw(
        p: Tensor<1>,
        g: Tensor<1>,
        m: Tensor<1>,
        v: Tensor<1>,
        step: Step,
    ) -> (Tensor<1>, Tensor<1>, Tensor<1>) {
        let mut all = adamw_all(vec![Slot { p, g, m, v, step }]);
        let [p, m, v] = all.pop().expect("one for each");
        (p, m, v)
    }
}

#[cfg(feature = "gpu")]
mod gpu;

#[cfg(test)]
mod tests {
    use super::{CHUNK, Step, fused, reference};
    use crate::testing::{assert_same_bits, on_any_threads, uniform};

    #[test]
    fn matches_reference_bit_for_bit_at_awkward_sizes() {
        let step = Step::new(0.01, 0.1, 0.7, 3);
        for n in [0, 1, 5, CHUNK, CHUNK + 1, 2 * CHUNK + 7] {
            let (mut p, g, mut m) = (uniform(1, n), uniform(2, n), uniform(3, n));
            let mut v: Vec<f32> = uniform(4, n).iter().map(|x| x.abs()).collect();
            let expected: Vec<(f32, f32, f32)> =
                (0..n).map(|i| reference(p[i], g[i], m[i], v[i], &step)).collect();
            fused(&mut p, &g, &mut m, &mut v, &step);
            assert_same_bits(&expected.iter().map(|it| it.0).collect::<Vec<_>>(), &p, n);
            assert_same_bits(&expected.iter().map(|it| it.1).collect::<Vec<_>>(), &m, n);
            assert_same_bits(&expected.iter().map(|it| it.2).collect::<Vec<_>>(), &v, n);
        }
    }

    /// By hand: at t = 1 from zero moments the bias corrections cancel, so p moves by lr · g / (|g| + ε), after the
    /// decay p·(1 − 0.1 · 0.01). At t = 2 with g = −0.5: m = 0.9·0.05 − 0.05 = −0.005, v = 0.999·2.5e-4 + 2.5e-4.
    #[test]
    fn two_steps_are_those_of_pytorch() {
        let (mut p, mut m, mut v) = ([1.0_f32], [0.0], [0.0]);
        fused(&mut p, &[0.5], &mut m, &mut v, &Step::new(0.1, 0.01, 1.0, 1));
        assert!((p[0] - 0.899).abs() < 1e-6, "{}", p[0]);
        assert!((m[0] - 0.05).abs() < 1e-8 && (v[0] - 2.5e-4).abs() < 1e-10);

        fused(&mut p, &[-0.5], &mut m, &mut v, &Step::new(0.1, 0.01, 1.0, 2));
        // 0.899 · 0.999 − (0.1 / 0.19) · (−0.005) / (√(4.9975e-4) / √(0.001999) + 1e-8) = 0.898101 + 0.005263158
        assert!((m[0] + 0.005).abs() < 1e-8 && (v[0] - 4.9975e-4).abs() < 1e-9);
        assert!((p[0] - 0.903_364_2).abs() < 1e-6, "{}", p[0]);
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        let n = 100_000;
        on_any_threads(|| {
            let (mut p, mut m, mut v) = (uniform(1, n), uniform(3, n), vec![0.5; n]);
            fused(&mut p, &uniform(2, n), &mut m, &mut v, &Step::new(0.01, 0.0, 1.0, 1));
            p
        });
    }
}
