//! Fast hashes that never leave the process: hash maps, duplicate rows, fixed samples.
//!
//! Multiply and fold (the step of wyhash): deterministic, the same on every machine, and not meant to withstand
//! somebody who constructs collisions. What is kept on disk uses SHA-256 or XXH64 instead.
//!
//! Reading order: [`mix`], [`Lanes`].

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampMillisecondType};

use crate::text::Texts;

const K1: u64 = 0xa076_1d64_78bd_642f;
const K2: u64 = 0xe703_7ed1_a0b4_28db;
const K3: u64 = 0x8ebc_6af0_9c88_c6e3;
const K4: u64 = 0x5899_65cc_7537_4cc3;
/// What a missing value counts as.
const MISSING: u64 = 0x1d8e_4e27_c47d_124f;

/// A hash map with the fast hasher. Its order must never reach an output.
pub(crate) type FastMap<K, V> = HashMap<K, V, BuildHasherDefault<FastHasher>>;

/// Both halves of the product, folded.
#[inline]
pub(crate) const fn mix(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

/// Hash of `bytes`.
#[inline]
pub(crate) fn hash_bytes(bytes: &[u8], seed: u64) -> u64 {
    let mut hash = seed ^ mix(bytes.len() as u64 ^ K1, K2);
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let word = u64::from_le_bytes(word.try_into().expect("chunks of eight"));
        hash = mix(hash ^ K3, word ^ K2);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        hash = mix(hash ^ K4, u64::from_le_bytes(word) ^ K1);
    }
    mix(hash ^ K2, K3)
}

/// The hasher of [`FastMap`].
#[derive(Clone, Copy, Default)]
pub(crate) struct FastHasher(u64);

impl Hasher for FastHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = hash_bytes(bytes, self.0);
    }

    fn write_u8(&mut self, byte: u8) {
        self.0 ^= u64::from(byte) << 56;
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = mix(self.0 ^ word ^ K1, K2);
    }

    fn write_i64(&mut self, word: i64) {
        self.write_u64(word.cast_unsigned());
    }
}

/// The bits of a float by which equal values are equal: one zero, one NaN.
#[inline]
pub(crate) fn float_bits(x: f64) -> u64 {
    if x.is_nan() {
        f64::NAN.to_bits()
    } else {
        // −0 + 0 = 0; every other value is unchanged.
        (x + 0.0).to_bits()
    }
}

/// Two independent 64-bit hashes of every value of a column.
pub(crate) struct ValueHashes {
    a: Vec<u64>,
    b: Vec<u64>,
}

impl ValueHashes {
    /// Hashes the values of a canonical array.
    pub(crate) fn of(array: &ArrayRef) -> Self {
        let n = array.len();
        let mut a: Vec<u64> = Vec::with_capacity(n);
        let mut second = None;
        match array.data_type() {
            DataType::Boolean => {
                let values = array.as_boolean().values();
                a.extend(values.iter().map(u64::from));
            }
            DataType::Int64 => a.extend(
                array.as_primitive::<Int64Type>().values().iter().map(|it| it.cast_unsigned()),
            ),
            DataType::Timestamp(..) => a.extend(
                array
                    .as_primitive::<TimestampMillisecondType>()
                    .values()
                    .iter()
                    .map(|it| it.cast_unsigned()),
            ),
            DataType::Float64 => a.extend(
                array.as_primitive::<Float64Type>().values().iter().map(|x| float_bits(*x)),
            ),
            DataType::FixedSizeBinary(_) => {
                let images = array.as_fixed_size_binary();
                a.extend((0..n).map(|i| hash_bytes(images.value(i), K1)));
                second = Some((0..n).map(|i| hash_bytes(images.value(i), K4)).collect());
            }
            _ => {
                let mut b = Vec::with_capacity(n);
                match Texts::of(array) {
                    Texts::Plain(values) => {
                        for i in 0..n {
                            let bytes = values.value(i).as_bytes();
                            a.push(hash_bytes(bytes, K1));
                            b.push(hash_bytes(bytes, K4));
                        }
                    }
                    Texts::Dictionary { keys, values } => {
                        let known: Vec<(u64, u64)> = (0..values.len())
                            .map(|i| {
                                let bytes = values.value(i).as_bytes();
                                (hash_bytes(bytes, K1), hash_bytes(bytes, K4))
                            })
                            .collect();
                        for key in keys.values() {
                            let at = usize::try_from(*key).unwrap_or(usize::MAX);
                            // A missing row may hold any key.
                            let (x, y) = known.get(at).copied().unwrap_or((MISSING, MISSING));
                            a.push(x);
                            b.push(y);
                        }
                    }
                }
                second = Some(b);
            }
        }
        let mut b = second.unwrap_or_else(|| a.clone());
        if let Some(nulls) = array.logical_nulls().filter(|it| 0 < it.null_count()) {
            for (i, is_valid) in nulls.iter().enumerate() {
                if !is_valid {
                    a[i] = MISSING;
                    b[i] = MISSING;
                }
            }
        }
        Self { a, b }
    }
}

/// 128 hash bits a row, folded over columns.
pub(crate) struct Lanes {
    a: Vec<u64>,
    b: Vec<u64>,
}

impl Lanes {
    /// `n` rows, nothing folded in yet.
    pub(crate) fn new(n: usize) -> Self {
        Self { a: vec![K3; n], b: vec![K4; n] }
    }

    /// Folds in one column.
    pub(crate) fn fold(&mut self, values: &ValueHashes) {
        for (hash, value) in self.a.iter_mut().zip(&values.a) {
            *hash = mix(*hash ^ K1, *value ^ K2);
        }
        for (hash, value) in self.b.iter_mut().zip(&values.b) {
            *hash = mix(*hash ^ K3, *value ^ K4).rotate_left(23);
        }
    }

    /// The hash of row `i`.
    #[inline]
    pub(crate) fn row(&self, i: usize) -> (u64, u64) {
        // The last step spreads the low bits of short rows over the whole word.
        (mix(self.a[i] ^ K2, K1), mix(self.b[i] ^ K4, K3))
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::Arc};

    use arrow::array::{ArrayRef, DictionaryArray, Float64Array, Int64Array, StringArray};
    use arrow::datatypes::Int32Type;

    use super::{Lanes, ValueHashes};

    fn rows(columns: &[ArrayRef]) -> Vec<(u64, u64)> {
        let mut lanes = Lanes::new(columns[0].len());
        for column in columns {
            lanes.fold(&ValueHashes::of(column));
        }
        (0..columns[0].len()).map(|i| lanes.row(i)).collect()
    }

    #[test]
    fn equal_rows_meet_and_others_do_not() {
        let ints: ArrayRef = Arc::new(Int64Array::from_iter_values((0..100_000).map(|i| i / 2)));
        let hashes = rows(&[ints]);
        assert_eq!(hashes[0], hashes[1]);
        assert_eq!(hashes.iter().collect::<HashSet<_>>().len(), 50_000);
        let zeros: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN]));
        let hashes = rows(&[zeros]);
        assert_eq!(hashes[0], hashes[1]);
        assert_ne!(hashes[0], hashes[2]);
    }

    #[test]
    fn columns_do_not_run_into_each_other_and_dictionaries_do_not_matter() {
        let a: ArrayRef = Arc::new(StringArray::from(vec![Some("ab"), Some("a"), None, Some("")]));
        let b: ArrayRef = Arc::new(StringArray::from(vec![Some("c"), Some("bc"), None, None]));
        let dictionary: DictionaryArray<Int32Type> =
            vec![Some("ab"), Some("a"), None, Some("")].into_iter().collect();
        let hashes = rows(&[a, b.clone()]);
        assert_eq!(hashes.iter().collect::<HashSet<_>>().len(), 4);
        assert_eq!(rows(&[Arc::new(dictionary), b]), hashes);
    }
}
