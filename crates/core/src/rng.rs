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
    /// Rows drawn with replacement; name = split.
    Sample,
    /// Dropout masks; name = layer path.
    Dropout,
    /// Resampling; name = what is resampled.
    Bootstrap,
    /// Sign-flip and label permutation.
    Permute,
    /// Assignment of rows to splits by hash.
    Split,
    /// Rows made up to compare devices with; name = column.
    Probe,
}

impl Purpose {
    const fn word(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Shuffle => "shuffle",
            Self::Sample => "sample",
            Self::Dropout => "dropout",
            Self::Bootstrap => "bootstrap",
            Self::Permute => "permute",
            Self::Split => "split",
            Self::Probe => "probe",
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
        let (low, high) = (major as u32, (major >> 32) as u32);
        philox([block, minor, low, high], self.key)
    }

    /// Element `index` at position (`minor`, `major`): lane `index mod 4` of block `index div 4`.
    #[must_use]
    pub fn bits(&self, index: u32, minor: u32, major: u64) -> u32 {
        self.block(index / 4, minor, major)[(index % 4) as usize]
    }

    /// Fills `out` with the elements from block `first_block` on at position (`minor`, `major`): the same words as
    /// [`Stream::block`], several blocks at a time. Only the last block may be cut short.
    pub fn fill(&self, first_block: u32, minor: u32, major: u64, out: &mut [u32]) {
        let mut block = first_block;
        let mut batches = out.chunks_exact_mut(4 * LANES);
        for batch in &mut batches {
            self.batch(block, minor, major, batch);
            let step = LANES as u32;
            block = block.wrapping_add(step);
        }
        for part in batches.into_remainder().chunks_mut(4) {
            part.copy_from_slice(&self.block(block, minor, major)[..part.len()]);
            block = block.wrapping_add(1);
        }
    }

    /// [`LANES`] blocks at once: one plain loop over the blocks, which is the form that compilers turn into vector code.
    /// Each 32-bit word lives in a 64-bit lane whose upper half is ignored, because that is the shape of the vector
    /// instruction for 32 × 32 → 64 bits; it then needs no masks between rounds.
    fn batch(&self, first: u32, minor: u32, major: u64, out: &mut [u32]) {
        const LOW: u64 = 0xFFFF_FFFF;
        let mut words = [[0_u32; LANES]; 4];
        for lane in 0..LANES {
            let mut c0 = u64::from(first.wrapping_add(lane as u32));
            let mut c1 = u64::from(minor);
            let mut c2 = major & LOW;
            let mut c3 = major >> 32;
            let [mut k0, mut k1] = self.key;
            for round in 0..10 {
                if 0 < round {
                    (k0, k1) = (k0.wrapping_add(W0), k1.wrapping_add(W1));
                }
                let p0 = u64::from(M0).wrapping_mul(c0 & LOW);
                let p1 = u64::from(M1).wrapping_mul(c2 & LOW);
                (c0, c1) = ((p1 >> 32) ^ c1 ^ u64::from(k0), p1);
                (c2, c3) = ((p0 >> 32) ^ c3 ^ u64::from(k1), p0);
            }
            for (words, word) in words.iter_mut().zip([c0, c1, c2, c3]) {
                words[lane] = word as u32;
            }
        }
        for (lane, block) in out.chunks_exact_mut(4).enumerate() {
            for (out, words) in block.iter_mut().zip(&words) {
                *out = words[lane];
            }
        }
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
    let top = (bits >> 8) as f32;
    top * (1.0 / 16_777_216.0)
}

/// Maps 32 random bits onto `0..n` by multiplication. The bias is below n × 2⁻³², under 0.03 % of one draw's
/// probability at n = 10⁶ rows.
#[must_use]
pub fn below(bits: u32, n: u32) -> u32 {
    ((u64::from(bits) * u64::from(n)) >> 32) as u32
}

/// Blocks that [`Stream::fill`] computes side by side.
const LANES: usize = 16;
const M0: u32 = 0xD251_1F53;
const M1: u32 = 0xCD9E_8D57;
const W0: u32 = 0x9E37_79B9;
const W1: u32 = 0xBB67_AE85;

/// One Philox4x32-10 block.
#[must_use]
pub fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
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

fn multiply(a: u32, b: u32) -> (u32, u32) {
    let product = u64::from(a) * u64::from(b);
    ((product >> 32) as u32, product as u32)
}

/// A keyed permutation of `0..n` with random access: position p of epoch e needs no history.
///
/// Feistel network on ⌈log₂ n⌉ bits rounded up to even, six rounds, cycle walking. Round function: one Philox block. It
/// sees half the bits only, so all its values fit a table of 6 · √(4n) words, and a position costs no Philox at all.
#[derive(Clone, Debug)]
pub struct Permutation {
    n: u64,
    half_bits: u32,
    /// Round by round, the round function of every half.
    rounds: Vec<u32>,
}

/// Rounds of the Feistel network.
const ROUNDS: u32 = 6;

impl Permutation {
    /// The permutation of `0..n` for `epoch`. `n` may be zero; then there is no position to ask for.
    #[must_use]
    pub fn new(stream: Stream, epoch: u64, n: u64) -> Self {
        let bits = u64::BITS - n.saturating_sub(1).leading_zeros();
        let half_bits = bits.div_ceil(2).max(1);
        let rounds = (0..ROUNDS)
            .flat_map(|round| {
                (0..1_u64 << half_bits).map(move |half| stream.block(half as u32, round, epoch)[0])
            })
            .collect();
        Self { n, half_bits, rounds }
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
        let n_halves = 1_usize << self.half_bits;
        let mask = n_halves as u64 - 1;
        let (mut left, mut right) = (x >> self.half_bits, x & mask);
        for round in self.rounds.chunks_exact(n_halves) {
            (left, right) = (right, (left ^ u64::from(round[right as usize])) & mask);
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
    fn filling_gives_the_same_words_as_single_blocks() {
        let stream = Stream::new(3, Purpose::Bootstrap, "fill");
        for n in [0, 1, 3, 4, 15, 16, 17, 64, 1003] {
            for (first, minor, major) in [(0, 0, 0), (5, 9, 1 << 40), (u32::MAX - 2, 1, u64::MAX)] {
                let mut found = vec![0; n];
                stream.fill(first, minor, major, &mut found);
                let expected = (0..n).map(|i| {
                    let block = first.wrapping_add(u32::try_from(i / 4).expect("small"));
                    stream.block(block, minor, major)[i % 4]
                });
                assert!(expected.eq(found.iter().copied()), "n = {n}, first = {first}");
            }
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
