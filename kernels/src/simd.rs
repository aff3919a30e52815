//! Plain loops, compiled for the best vector instructions of the machine they run on.
//!
//! [`vectorized`] compiles its closure once for AVX-512, once for AVX2 with FMA and once for the build's own target, and
//! runs the best one this machine has (on aarch64: NEON). The compiler turns the loops inside into vectors, so one body
//! is written once, without a single instruction's name.
//!
//! **Bits.** All versions give the same bits when the body says what it means: a multiply-add is `mul_add` (the compiler
//! never makes or splits one by itself), sums have a written order (it never reorders them), and no function of the
//! platform's library is called (see [`crate::elementary`]).
//!
//! Why `pulp`: it finds the instructions and wraps the `unsafe` call; it is in the tree already, below `gemm`.

#[cfg(target_arch = "x86_64")]
use pulp::x86::{V3, V4};

/// Runs `body`, compiled for the best vector instructions there are.
///
/// Write `vectorized(#[inline(always)] || …)` and call only functions that are `#[inline(always)]` inside: what is not
/// inlined is compiled for the build's own target, which has neither wide vectors nor a fast `mul_add`.
#[inline(always)]
pub fn vectorized<R>(body: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(avx512) = V4::try_new() {
            return avx512.vectorize(body);
        }
        if let Some(avx2) = V3::try_new() {
            return avx2.vectorize(body);
        }
    }
    body()
}

/// Runs `body` once for each set of instructions this machine has: all results must be equal.
#[cfg(test)]
#[inline(always)]
pub(crate) fn on_every_level<R>(body: impl Fn() -> R) -> Vec<(&'static str, R)> {
    #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut, reason = "one level"))]
    let mut results = vec![("plain", body())];
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(avx2) = V3::try_new() {
            results.push(("AVX2", avx2.vectorize(&body)));
        }
        if let Some(avx512) = V4::try_new() {
            results.push(("AVX-512", avx512.vectorize(&body)));
        }
    }
    results
}

#[cfg(test)]
mod tests {
    use super::{on_every_level, vectorized};
    use crate::testing::uniform;

    #[inline(always)]
    fn polynomial(x: &[f32]) -> Vec<u32> {
        x.iter().map(|x| x.mul_add(0.3, 0.7).mul_add(*x, -0.1).to_bits()).collect()
    }

    #[test]
    fn every_level_gives_the_same_bits() {
        let x = uniform(1, 1001);
        let all = on_every_level(
            #[inline(always)]
            || polynomial(&x),
        );
        for (level, bits) in &all {
            assert_eq!(*bits, all[0].1, "{level}");
        }
        assert_eq!(
            vectorized(
                #[inline(always)]
                || polynomial(&x)
            ),
            all[0].1
        );
    }
}
