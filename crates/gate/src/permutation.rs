//! The sign-flip test: if neither model is better, each row's difference is as likely to have the other sign.
//!
//! Exact for up to [`EXACT_MAX`] differences, else P = (1 + #{|T*| ≥ |T|}) / (R + 1): never 0, which a share of finitely
//! many draws cannot show.

use karat_core::rng::{Purpose, Stream};

use crate::parallel::{self, Parallel};

/// Differences up to which all 2ⁿ sign patterns are counted.
pub const EXACT_MAX: usize = 20;
/// Differences whose signs are one byte.
const BYTE: usize = 8;
/// Flips a chunk of work has: the 256 sums of each eight differences are made once for all of them.
const CHUNK: usize = 256;

/// Two-sided P of "the mean of `differences` is 0". `name` names the randomness.
#[must_use]
pub fn sign_flip(differences: &[f64], name: &str, n_flips: u32, parallel: &dyn Parallel) -> f64 {
    let size: f64 = differences.iter().map(|it| it.abs()).sum();
    // A pattern that equals the observed one but for rounding is as extreme.
    let bound = differences.iter().sum::<f64>().abs() - 1e-12 * size;
    if differences.len() <= EXACT_MAX {
        return exact(differences, bound);
    }
    let stream = Stream::new(0, Purpose::Permute, name);
    let n_flips = n_flips as usize;
    let counts = parallel::map(parallel, n_flips.div_ceil(CHUNK), |chunk| {
        let n = CHUNK.min(n_flips - chunk * CHUNK);
        let sums = flipped_sums(differences, stream, chunk as u64);
        sums[..n].iter().filter(|sum| bound <= sum.abs()).count()
    });
    (1 + counts.iter().sum::<usize>()) as f64 / (n_flips + 1) as f64
}

/// Sums of all differences under [`CHUNK`] patterns of signs: byte f of the blocks of eight differences is their signs
/// in flip f.
fn flipped_sums(differences: &[f64], stream: Stream, chunk: u64) -> [f64; CHUNK] {
    const WORDS: usize = CHUNK / 4;
    let mut sums = [0.0; CHUNK];
    let mut words = [0; WORDS];
    let mut sum_of_signs = [0.0; 1 << BYTE];
    for (at, eight) in differences.chunks(BYTE).enumerate() {
        sum_of_signs[0] = -eight.iter().sum::<f64>();
        for bit in 0..BYTE {
            let twice = 2.0 * eight.get(bit).copied().unwrap_or(0.0);
            let (known, new) = sum_of_signs.split_at_mut(1 << bit);
            for (new, known) in new.iter_mut().zip(known) {
                *new = *known + twice;
            }
        }
        stream.fill((at * WORDS / 4) as u32, 0, chunk, &mut words);
        for (sums, word) in sums.chunks_exact_mut(4).zip(&words) {
            for (sum, signs) in sums.iter_mut().zip(word.to_le_bytes()) {
                *sum += sum_of_signs[usize::from(signs)];
            }
        }
    }
    sums
}

fn exact(differences: &[f64], bound: f64) -> f64 {
    let sums = |part: &[f64]| {
        part.iter().fold(vec![0.0], |sums, d| sums.iter().flat_map(|s| [s + d, s - d]).collect())
    };
    let (left, right) = differences.split_at(differences.len() / 2);
    let (left, right): (Vec<f64>, Vec<f64>) = (sums(left), sums(right));
    let extreme: usize =
        left.iter().map(|l| right.iter().filter(|r| bound <= (l + *r).abs()).count()).sum();
    extreme as f64 / (left.len() * right.len()) as f64
}

#[cfg(test)]
mod tests {
    use super::sign_flip;
    use crate::{
        parallel::Serial,
        testing::{assert_close, normals},
    };

    #[test]
    fn small_samples_are_exact() {
        // 2 of 8 patterns of three equal differences are as extreme; 4 of 8 of (3, 1, 1) reach |3 + 1 − 1|.
        assert_close(sign_flip(&[1.0; 3], "x", 999, &Serial), 0.25, 1e-15);
        assert_close(sign_flip(&[3.0, 1.0, -1.0], "x", 999, &Serial), 0.75, 1e-15);
        assert_close(sign_flip(&[0.1, 0.2, 0.3, 0.4], "x", 999, &Serial), 0.125, 1e-15);
        assert_close(sign_flip(&[], "x", 999, &Serial), 1.0, 1e-15);
        assert_close(sign_flip(&[0.0; 5], "x", 999, &Serial), 1.0, 1e-15);
    }

    #[test]
    fn large_samples_follow_the_normal_and_are_never_zero() {
        assert_close(sign_flip(&[0.0; 100], "x", 999, &Serial), 1.0, 1e-15);
        assert_close(sign_flip(&[1.0; 100], "x", 999, &Serial), 1.0 / 1000.0, 1e-12);
        let d: Vec<f64> = normals("sign flip", 1001).into_iter().map(|z| z + 0.05).collect();
        let (sum, squares) = d.iter().fold((0.0, 0.0), |(s, q), x| (s + x, q + x * x));
        let expected = crate::normal::two_sided(sum / libm::sqrt(squares));
        let found = sign_flip(&d, "x", 99_999, &Serial);
        assert!((found - expected).abs() < 0.006, "{found} {expected}");
        let swapped: Vec<f64> = d.iter().map(|it| -it).collect();
        assert_close(sign_flip(&swapped, "x", 99_999, &Serial), found, 1e-12);
    }
}
