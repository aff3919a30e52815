//! Random streams: Philox4x32-10, counter based. No state to save, random access, the same bytes everywhere.
//!
//! Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011; known answers from Random123.
//!
//! A [`Stream`] is a pure function of (seed, purpose, name); its elements are addressed by (minor, major, index), so
//! a resumed run, another thread count or another order of evaluation draws the same numbers.
//!
//! Reading order: [`Stream`], [`Permutation`], [`philox`].

use sha2::{Digest as _, Sha256};

/// What a stream is for. The word is part of its key: two purposes never share numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Initial weights; name = parameter path.
    Init,
    /// Order of rows; name = split.
    Shuffle,
    /// Dropout masks; name = layer path.
    Dropout,
    /// Resampling; name = what is resampled.
    Bootstrap,
    /// Sign-flip and label permutation.
    Permute,
    /// Assignment of rows to splits by hash.
    Split,
}

impl Purpose {
    const fn word(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Shuffle => "shuffle",
            Self::Dropout => "dropout",
            Self::Bootstrap => "bootstrap",
            Self::Permute => "permute",
            Self::Split => "split",
        }
    }
}

/// Random bits as a pure function of (seed, purpose, name, position).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    key: [u32; 2],
}

impl Stream {
    /// The stream of `name` for `purpose` under `seed`.
    ///
    /// Key = low 64 bits of SHA-256(seed as 8 little-endian bytes ‖ purpose ‖ 0x00 ‖ name).
    #[must_use]
    pub fn new(seed: u64, purpose: Purpose, name: &str) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(seed.to_le_bytes());
        hasher.update(purpose.word().as_bytes());
        hasher.update([0]);
        hasher.update(name.as_bytes());
        let hash: [u8; 32] = hasher.finalize().into();
        let word =
            |at: usize| u32::from_le_bytes([hash[at], hash[at + 1], hash[at + 2], hash[at + 3]]);
        Self { key: [word(0), word(4)] }
    }

    /// The Philox key: what a kernel needs to draw the same bits.
    #[must_use]
    pub const fn key(&self) -> [u32; 2] {
        self.key
    }

    /// Four words: block `block` at position (`minor`, `major`).
    #[must_use]
    pub fn block(&self, block: u32, minor: u32, major: u64) -> [u32; 4] {
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of a u64")]
        let (low, high) = (major as u32, (major >> 32) as u32);
        philox([block, minor, low, high], self.key)
    }

    /// Element `index` at position (`minor`, `major`): lane `index mod 4` of block `index div 4`.
    #[must_use]
    pub fn bits(&self, index: u32, minor: u32, major: u64) -> u32 {
        self.block(index / 4, minor, major)[(index % 4) as usize]
    }

    /// Uniform in [0, 1): the top 24 bits × 2⁻²⁴.
    #[must_use]
    pub fn uniform(&self, index: u32, minor: u32, major: u64) -> f32 {
        unit_f32(self.bits(index, minor, major))
    }

    /// Two standard normals by Box–Muller in f64 with a fixed `libm`, from element pair `pair`.
    #[must_use]
    pub fn normal_pair(&self, pair: u32, minor: u32, major: u64) -> [f64; 2] {
        let block = self.block(pair / 2, minor, major);
        let lane = (pair % 2) as usize * 2;
        // (0, 1]: the logarithm of zero is never taken.
        let u = (f64::from(block[lane]) + 1.0) / 4_294_967_296.0;
        let v = f64::from(block[lane + 1]) / 4_294_967_296.0;
        let radius = libm::sqrt(-2.0 * libm::log(u));
        let angle = 2.0 * std::f64::consts::PI * v;
        [radius * libm::cos(angle), radius * libm::sin(angle)]
    }
}

/// Uniform f32 in [0, 1) from 32 random bits.
#[must_use]
pub fn unit_f32(bits: u32) -> f32 {
    #[expect(clippy::cast_precision_loss, reason = "24 bits fit an f32 exactly")]
    let top = (bits >> 8) as f32;
    top * (1.0 / 16_777_216.0)
}

/// Maps 32 random bits onto `0..n` by multiplication. The bias is below n × 2⁻³², under 0.03 % of one draw's
/// probability at n = 10⁶ rows.
#[must_use]
pub fn below(bits: u32, n: u32) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "the high half of a 64-bit product")]
    let high = ((u64::from(bits) * u64::from(n)) >> 32) as u32;
    high
}

/// One Philox4x32-10 block.
#[must_use]
pub fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    const M0: u32 = 0xD251_1F53;
    const M1: u32 = 0xCD9E_8D57;
    const W0: u32 = 0x9E37_79B9;
    const W1: u32 = 0xBB67_AE85;
    for round in 0..10 {
        if 0 < round {
            key = [key[0].wrapping_add(W0), key[1].wrapping_add(W1)];
        }
        let (high0, low0) = multiply(M0, counter[0]);
        let (high1, low1) = multiply(M1, counter[2]);
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0];
    }
    counter
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves of a 64-bit product")]
fn multiply(a: u32, b: u32) -> (u32, u32) {
    let product = u64::from(a) * u64::from(b);
    ((product >> 32) as u32, product as u32)
}

/// A keyed permutation of `0..n` with random access: position p of epoch e needs no history.
///
/// Feistel network on ⌈log₂ n⌉ bits rounded up to even, six rounds, cycle walking. Round function: one Philox block.
#[derive(Clone, Copy, Debug)]
pub struct Permutation {
    stream: Stream,
    epoch: u64,
    n: u64,
    half_bits: u32,
}

impl Permutation {
    /// The permutation of `0..n` for `epoch`. `n` may be zero; then there is no position to ask for.
    #[must_use]
    pub fn new(stream: Stream, epoch: u64, n: u64) -> Self {
        let bits = u64::BITS - n.saturating_sub(1).leading_zeros();
        Self { stream, epoch, n, half_bits: bits.div_ceil(2).max(1) }
    }

    /// Where `position` goes. `position` must be below `n`.
    #[must_use]
    pub fn at(&self, position: u64) -> u64 {
        debug_assert!(position < self.n, "position {position} of {}", self.n);
        let mut x = position;
        loop {
            x = self.feistel(x);
            // At most 4n values are cycled through, so this ends after 4 steps on average.
            if x < self.n {
                return x;
            }
        }
    }

    fn feistel(&self, x: u64) -> u64 {
        const ROUNDS: u32 = 6;
        let mask = (1_u64 << self.half_bits) - 1;
        let (mut left, mut right) = (x >> self.half_bits, x & mask);
        for round in 0..ROUNDS {
            #[expect(clippy::cast_possible_truncation, reason = "half of a row number")]
            let word = self.stream.block(right as u32, round, self.epoch)[0];
            (left, right) = (right, (left ^ u64::from(word)) & mask);
        }
        left << self.half_bits | right
    }
}

#[cfg(test)]
mod tests {
    use super::{Permutation, Purpose, Stream, philox};

    /// Random123's known answers (`kat_vectors`, philox4x32 10).
    #[test]
    fn philox_gives_the_known_answers() {
        let max = u32::MAX;
        for (counter, key, expected) in [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([max; 4], [max; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ] {
            assert_eq!(philox(counter, key), expected);
        }
    }

    #[test]
    fn permutation_is_a_bijection_and_differs_by_epoch() {
        let stream = Stream::new(7, Purpose::Shuffle, "train");
        for n in [1, 2, 3, 5, 16, 17, 1000, 4097] {
            let order = |epoch| {
                let permutation = Permutation::new(stream, epoch, n);
                (0..n).map(|position| permutation.at(position)).collect::<Vec<_>>()
            };
            let mut sorted = order(0);
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(0..n), "n = {n}");
            if 16 < n {
                assert_ne!(order(0), order(1));
            }
        }
    }

    #[test]
    fn purposes_and_names_do_not_share_numbers() {
        let a = Stream::new(7, Purpose::Init, "a").bits(0, 0, 0);
        assert_ne!(a, Stream::new(7, Purpose::Init, "b").bits(0, 0, 0));
        assert_ne!(a, Stream::new(7, Purpose::Dropout, "a").bits(0, 0, 0));
        assert_ne!(a, Stream::new(8, Purpose::Init, "a").bits(0, 0, 0));
    }

    #[test]
    fn normals_have_the_moments_of_a_normal() {
        let stream = Stream::new(1, Purpose::Init, "moments");
        let draws: Vec<f64> = (0..20_000).flat_map(|pair| stream.normal_pair(pair, 0, 0)).collect();
        let n = draws.len() as f64;
        let mean = draws.iter().sum::<f64>() / n;
        let variance = draws.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
        assert!(mean.abs() < 0.02, "{mean}");
        assert!((variance - 1.0).abs() < 0.03, "{variance}");
    }
}
