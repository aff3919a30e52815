//! `ema`: an exponential moving average of weights, as PyTorch's `get_ema_multi_avg_fn` computes it: e ← e + (1 − d)(p − e).
//!
//! Why not burn's composed ops: three passes over memory instead of one, and two temporaries of the model's size.
//!
//! versions: 1  one pass, in place.
//! bound by: bytes, 8 read and 4 written an element.

use rayon::prelude::*;

/// Elements a thread averages at a time.
const CHUNK: usize = 1 << 13;

/// The definition, for one element: the new e. `decay` is the share that is kept.
#[must_use]
pub fn reference(e: f32, p: f32, decay: f64) -> f32 {
    e + (p - e) * (1.0 - decay) as f32
}

/// In place. Both slices are equally long.
pub fn fused(e: &mut [f32], p: &[f32], decay: f64) {
    let share = (1.0 - decay) as f32;
    e.par_chunks_mut(CHUNK).zip(p.par_chunks(CHUNK)).for_each(|(e, p)| {
        for (e, p) in e.iter_mut().zip(p) {
            *e += (p - *e) * share;
        }
    });
}

#[cfg(feature = "burn")]
pub use op::ema;

#[cfg(feature = "gpu")]
mod gpu;

#[cfg(feature = "burn")]
pub(crate) mod op {
    use burn::{
        backend::{Backend, Dispatch, Flex, backend_extension, tensor::FloatTensor},
        tensor::Tensor,
    };

    use crate::flex::{contiguous, floats, floats_mut};

    /// The average after one more look at `p`. In place where `e` is the only owner.
    #[must_use]
    pub fn ema(e: Tensor<1>, p: Tensor<1>, decay: f64) -> Tensor<1> {
        Tensor::from_dispatch(<Dispatch as EmaOps>::ema(
            e.into_dispatch(),
            p.into_dispatch(),
            decay,
        ))
    }

    /// The average.
    #[backend_extension(Flex, Cube: cfg(feature = "gpu"))]
    pub(crate) trait EmaOps: Backend {
        /// See [`super::fused`].
        fn ema(e: FloatTensor<Self>, p: FloatTensor<Self>, decay: f64) -> FloatTensor<Self>;
    }

    impl EmaOps for Flex {
        fn ema(mut e: FloatTensor<Self>, p: FloatTensor<Self>, decay: f64) -> FloatTensor<Self> {
            let p = contiguous(p);
            super::fused(floats_mut(&mut e), floats(&p), decay);
            e
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CHUNK, fused, reference};
    use crate::testing::{assert_same_bits, on_any_threads, uniform};

    #[test]
    fn matches_reference_bit_for_bit_at_awkward_sizes() {
        for n in [0, 1, 5, CHUNK, CHUNK + 1, 2 * CHUNK + 7] {
            let (mut e, p) = (uniform(1, n), uniform(2, n));
            let expected: Vec<f32> = (0..n).map(|i| reference(e[i], p[i], 0.999)).collect();
            fused(&mut e, &p, 0.999);
            assert_same_bits(&expected, &e, n);
        }
    }

    /// PyTorch 2.15: `AveragedModel(m, multi_avg_fn=get_ema_multi_avg_fn(0.9))`, whose first look is a copy, after the
    /// weights 1, 2, −1.
    #[test]
    fn three_looks_are_those_of_pytorch() {
        let mut e = [1.0_f32];
        for (p, expected) in [(2.0, 1.100_000_023_841_858), (-1.0, 0.890_000_045_299_53)] {
            fused(&mut e, &[p], 0.9);
            assert!((f64::from(e[0]) - expected).abs() < 1e-7, "{}, PyTorch {expected}", e[0]);
        }
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        let n = 100_000;
        on_any_threads(|| {
            let mut e = uniform(1, n);
            fused(&mut e, &uniform(2, n), 0.999);
            e
        });
    }
}
