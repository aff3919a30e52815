//! Philox4x32-10: the random bits of `karat_core::rng`, drawn inside a kernel.
//!
//! A copy, because this crate is a leaf. The known answers below, which `core` tests as well, tie the two.
//!
//! Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

/// Where a draw stands: the stream's key and the position in it. Element `e` of a batch is lane `e mod 4` of block `e div 4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// The stream.
    pub key: [u32; 2],
    /// Rows of the batch before the tensor's first: a batch cut into micro-batches draws the bits of the whole one.
    pub first_row: u32,
    /// The update.
    pub major: u64,
}

impl Draw {
    /// The four words of block `block`.
    #[must_use]
    #[inline]
    pub fn block(&self, block: u32) -> [u32; 4] {
        philox([block, 0, self.major as u32, (self.major >> 32) as u32], self.key)
    }
}

impl Draw {
    /// The words of [`LANES`] consecutive blocks, first by lane: word i of block `first` + j is `[i][j]`. Vectors inside
    /// [`crate::simd::vectorized`].
    #[must_use]
    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "four rows by one index, which become vectors")]
    pub fn blocks(&self, first: u32) -> [[u32; LANES]; 4] {
        let mut counters = [[0; LANES]; 4];
        for j in 0..LANES {
            counters[0][j] = first.wrapping_add(j as u32);
            counters[2][j] = self.major as u32;
            counters[3][j] = (self.major >> 32) as u32;
        }
        let mut key = self.key;
        for round in 0..ROUNDS {
            if 0 < round {
                key = next_key(key);
            }
            let [first, second, third, fourth] = &mut counters;
            for j in 0..LANES {
                let counter = one_round([first[j], second[j], third[j], fourth[j]], key);
                [first[j], second[j], third[j], fourth[j]] = counter;
            }
        }
        counters
    }
}

/// Blocks that [`Draw::blocks`] computes side by side.
pub const LANES: usize = 64;
const ROUNDS: usize = 10;

/// One block.
#[must_use]
#[inline]
pub fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..ROUNDS {
        if 0 < round {
            key = next_key(key);
        }
        counter = one_round(counter, key);
    }
    counter
}

#[inline(always)]
fn next_key([first, second]: [u32; 2]) -> [u32; 2] {
    [first.wrapping_add(0x9E37_79B9), second.wrapping_add(0xBB67_AE85)]
}

#[inline(always)]
fn one_round(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let (high0, low0) = multiply(0xD251_1F53, counter[0]);
    let (high1, low1) = multiply(0xCD9E_8D57, counter[2]);
    [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0]
}

#[inline(always)]
fn multiply(a: u32, b: u32) -> (u32, u32) {
    let product = u64::from(a) * u64::from(b);
    ((product >> 32) as u32, product as u32)
}

#[cfg(feature = "gpu")]
pub(crate) mod gpu {
    use cubecl::prelude::*;

    /// [`super::philox`] in a kernel.
    #[cube]
    pub(crate) fn philox(
        counter0: u32,
        counter1: u32,
        counter2: u32,
        counter3: u32,
        key0: u32,
        key1: u32,
    ) -> (u32, u32, u32, u32) {
        let mut counter = (counter0, counter1, counter2, counter3);
        let mut key0 = key0;
        let mut key1 = key1;
        #[unroll]
        for round in 0..10 {
            if comptime!(0 < round) {
                key0 += 0x9E37_79B9u32;
                key1 += 0xBB67_AE85u32;
            }
            let (high0, low0) = (counter.0.mul_hi(0xD251_1F53u32), counter.0 * 0xD251_1F53u32);
            let (high1, low1) = (counter.2.mul_hi(0xCD9E_8D57u32), counter.2 * 0xCD9E_8D57u32);
            counter = (high1 ^ counter.1 ^ key0, low1, high0 ^ counter.3 ^ key1, low0);
        }
        counter
    }
}

#[cfg(test)]
mod tests {
    use super::{Draw, LANES, philox};

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
    fn blocks_side_by_side_are_those_of_one_at_a_time() {
        let draw = Draw { key: [7, 8], first_row: 0, major: 5 << 32 | 3 };
        for first in [0, 100, u32::MAX - 3] {
            let words = draw.blocks(first);
            for j in 0..LANES {
                let block = draw.block(first.wrapping_add(j as u32));
                assert_eq!(words.map(|lanes| lanes[j]), block, "{first} + {j}");
            }
        }
    }
}
