//! bf16: the upper half of an f32. Operands are rounded to it as they are packed, sums stay f32.
//!
//! The instruction `vdpbf16ps` takes a pair of products a lane: first that of the upper halves, then that of the lower, each
//! a fused multiply-add rounded to nearest (Intel's and AMD's manuals, and a test). So the element of even k goes to the
//! upper half, and a sum is the chain of [`super::reference()`] over rounded operands. Where there is no such instruction, the
//! f32 tiles compute the same chain: the bits are equal, the speed is that of f32.
//!
//! One difference is left: the instruction takes subnormal operands and partial sums as zero. Operands are rounded so
//! everywhere; a partial sum below 2⁻¹²⁶ in magnitude (1.2e-38) becomes zero only where the instruction is.

use super::Level;
use crate::simd::vectorized;

/// Two consecutive k as bf16: the even one in the upper half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Pair(u32);

impl Pair {
    #[inline(always)]
    pub(super) fn new(even: f32, odd: f32) -> Self {
        Self(bits(even) << 16 | bits(odd))
    }

    /// (even, odd).
    pub(super) fn unpacked(self) -> [f32; 2] {
        [f32::from_bits(self.0 & 0xffff_0000), f32::from_bits(self.0 << 16)]
    }
}

/// Whether `level` has the instruction on this machine.
pub(super) fn is_native(level: Level) -> bool {
    #[cfg(target_arch = "x86_64")]
    return level == Level::Avx512 && is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    return level != Level::Plain;
}

/// x as bf16: to nearest, ties to even; subnormals become zero, NaN stays NaN.
#[inline(always)]
fn bits(x: f32) -> u32 {
    let bits = x.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    let rounded = if 0x7f80_0000 < magnitude { bits >> 16 | 0x40 } else { rounded };
    if magnitude < 0x0080_0000 { bits >> 16 & 0x8000 } else { rounded }
}

/// x rounded to bf16.
#[inline(always)]
pub(super) fn rounded(x: f32) -> f32 {
    f32::from_bits(bits(x) << 16)
}

/// All of `x`, rounded.
pub(super) fn all_rounded(x: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    vectorized(
        #[inline(always)]
        || y.iter_mut().zip(x).for_each(|(y, x)| *y = rounded(*x)),
    );
    y
}

/// The rows of `x`, k wide, as ⌈k/2⌉ pairs each; an odd last element is paired with zero.
pub(super) fn pairs_of_rows(x: &[f32], k: usize) -> Vec<Pair> {
    if k == 0 {
        return Vec::new();
    }
    let n_pairs = k.div_ceil(2);
    let mut pairs = vec![Pair::default(); x.len() / k * n_pairs];
    vectorized(
        #[inline(always)]
        || {
            for (row, into) in x.chunks_exact(k).zip(pairs.chunks_exact_mut(n_pairs)) {
                let (both, last) = row.as_chunks::<2>();
                for (into, [even, odd]) in into.iter_mut().zip(both) {
                    *into = Pair::new(*even, *odd);
                }
                if let ([last], Some(into)) = (last, into.last_mut()) {
                    *into = Pair::new(*last, 0.0);
                }
            }
        },
    );
    pairs
}

/// Two rows of equal length, element by element; the second may be missing after an odd k.
#[inline(always)]
pub(super) fn pair_up(even: &[f32], odd: Option<&[f32]>, into: &mut [Pair]) {
    match odd {
        Some(odd) => {
            for ((into, even), odd) in into.iter_mut().zip(even).zip(odd) {
                *into = Pair::new(*even, *odd);
            }
        }
        None => {
            for (into, even) in into.iter_mut().zip(even) {
                *into = Pair::new(*even, 0.0);
            }
        }
    }
}

/// What a tile of pairs is made of.
#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use std::arch::x86_64::{
        __m512, __m512bh, _mm512_dpbf16_ps, _mm512_loadu_si512, _mm512_set1_epi32,
    };

    use super::Pair;

    /// # Safety
    /// Sixteen pairs must be readable.
    #[target_feature(enable = "avx512f,avx512bf16")]
    #[inline]
    #[expect(unsafe_code, reason = "a load by pointer")]
    pub(in crate::matmul) unsafe fn operand(from: *const Pair) -> __m512bh {
        // SAFETY: the caller's; both types are 64 bytes without a rule for their bits.
        unsafe { std::mem::transmute(_mm512_loadu_si512(from.cast())) }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    #[inline]
    #[expect(unsafe_code, reason = "from one vector type to another")]
    pub(in crate::matmul) fn splat(pair: Pair) -> __m512bh {
        // SAFETY: both types are 64 bytes without a rule for their bits.
        unsafe { std::mem::transmute(_mm512_set1_epi32(pair.0.cast_signed())) }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    #[inline]
    pub(in crate::matmul) fn fma(a: __m512bh, b: __m512bh, sum: __m512) -> __m512 {
        _mm512_dpbf16_ps(sum, a, b)
    }
}

#[cfg(test)]
mod tests {
    use super::rounded;

    #[test]
    fn rounds_to_nearest_and_ties_to_even() {
        let one = |bits: u32| f32::from_bits(0x3f80_0000 | bits);
        let cases = [
            (one(0), one(0)),
            (one(0x7fff), one(0)),
            (one(0x8000), one(0)),
            (one(0x8001), one(0x1_0000)),
            (one(0x1_8000), one(0x2_0000)),
            (f32::MAX, f32::INFINITY),
            (f32::NEG_INFINITY, f32::NEG_INFINITY),
            (f32::MIN_POSITIVE, f32::MIN_POSITIVE),
            (1e-40, 0.0),
            (-1e-40, -0.0),
        ];
        for (x, expected) in cases {
            assert_eq!(rounded(x).to_bits(), expected.to_bits(), "{x:e}: {:e}", rounded(x));
        }
        assert!(rounded(f32::NAN).is_nan());
        // A NaN whose payload lies in the lower half only must not become infinite.
        assert!(rounded(f32::from_bits(0x7f80_0001)).is_nan());
    }
}
