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

/// One block.
#[must_use]
#[inline]
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

#[inline]
fn multiply(a: u32, b: u32) -> (u32, u32) {
    let product = u64::from(a) * u64::from(b);
    ((product >> 32) as u32, product as u32)
}

#[cfg(test)]
mod tests {
    use super::philox;

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
}
