//! `sum`: s = sum over i of x\[i\], in f64, always added in the same order.
//!
//! Why not `Tensor::sum`: burn's CPU backend combines chunks in the order threads finish above 4 Mi elements, and GPUs
//! add with atomics. Here chunks of [`CHUNK`] elements are each added in [`LANES`] strands and everything is combined
//! from the left.
//!
//! bound by: bytes, 4 read an element.

use rayon::prelude::*;

/// Elements of one partial sum.
pub(crate) const CHUNK: usize = 1 << 13;
/// Strands of a partial sum: what a vector register can hold.
pub(crate) const LANES: usize = 8;

/// The definition, order included.
pub fn reference(x: &[f32]) -> f64 {
    let mut total = 0.0;
    for chunk in x.chunks(CHUNK) {
        let mut strands = [0.0; LANES];
        for (i, x) in chunk.iter().enumerate() {
            strands[i % LANES] += f64::from(*x);
        }
        total += strands.iter().sum::<f64>();
    }
    total
}

/// The sum.
#[must_use]
pub fn fused(x: &[f32]) -> f64 {
    mapped(x, |x| x)
}

/// The sum of `f(x)` in the same order.
pub(crate) fn mapped(x: &[f32], f: impl Fn(f64) -> f64 + Sync) -> f64 {
    if x.len() <= CHUNK {
        return 0.0 + strands(x, f);
    }
    let parts: Vec<f64> = x.par_chunks(CHUNK).map(|chunk| strands(chunk, &f)).collect();
    parts.iter().sum()
}

/// The sum of `f(x)` over one chunk: [`LANES`] strands, combined from the left.
#[inline(always)]
pub(crate) fn strands(x: &[f32], f: impl Fn(f64) -> f64) -> f64 {
    let mut strands = [0.0; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for x in whole {
        // All lanes in one expression: of a loop over them the compiler makes no vector.
        let next: [f64; LANES] = std::array::from_fn(|i| strands[i] + f(f64::from(x[i])));
        strands = next;
    }
    for (strand, x) in strands.iter_mut().zip(rest) {
        *strand += f(f64::from(*x));
    }
    strands.iter().sum()
}

#[cfg(feature = "gpu")]
pub(crate) mod gpu;

#[cfg(test)]
mod tests {
    use super::{CHUNK, fused, reference};
    use crate::testing::{on_any_threads, uniform};

    #[test]
    fn matches_reference_bit_for_bit_at_awkward_sizes() {
        for n in [0, 1, 7, 8, 9, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5] {
            let x = uniform(1, n);
            assert_eq!(reference(&x).to_bits(), fused(&x).to_bits(), "{n}");
        }
        assert!(fused(&[f32::NAN, 1.0]).is_nan());
        assert!((fused(&[1e30, 1.0, -1e30]) - 1.0).abs() < 2.0);
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        let x = uniform(1, 10 * CHUNK + 3);
        let bits = on_any_threads(|| fused(&x).to_bits());
        assert_eq!(bits, reference(&x).to_bits());
    }
}
