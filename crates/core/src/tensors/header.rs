//! The header of a safetensors file: found, read and held against the bytes behind it.

use std::{borrow::Cow, collections::BTreeMap, fmt, marker::PhantomData, ops::Range};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};

use super::{Dtype, HEADER_BYTES_MAX, NAME_BYTES_MAX, RANK_MAX, TENSORS_MAX, TensorsError};

/// One tensor as the header tells it.
pub(super) struct Entry {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    offsets: Range<usize>,
}

/// The header, each value inside its limits; offsets are not yet held against the file.
pub(super) struct Header {
    pub(super) tensors: BTreeMap<String, Entry>,
    pub(super) metadata: BTreeMap<String, String>,
}

fn malformed(fact: impl Into<Cow<'static, str>>) -> TensorsError {
    TensorsError::Header(fact.into())
}

/// Separates header and tensor bytes.
pub(super) fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), TensorsError> {
    let found = bytes.len() as u64;
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        refuse_code(bytes)?;
        return Err(TensorsError::Truncated { expected: 8, found });
    };
    let length = u64::from_le_bytes(*length);
    let Some(n_header) = usize::try_from(length).ok().filter(|it| *it <= HEADER_BYTES_MAX) else {
        // Only here: `80 02` also begins every safetensors file with a 640-byte header.
        refuse_code(bytes)?;
        return Err(malformed(format!(
            "it claims {length} bytes, at most {HEADER_BYTES_MAX} are read"
        )));
    };
    if rest.len() < n_header {
        return Err(TensorsError::Truncated { expected: 8 + length, found });
    }
    Ok(rest.split_at(n_header))
}

/// Recognises formats that can carry code.
fn refuse_code(bytes: &[u8]) -> Result<(), TensorsError> {
    let format = match bytes {
        [b'P', b'K', 3, 4, ..] => "a zip archive (as PyTorch's `.pt` files are)",
        [0x80, 2..=5, ..] => "a Python pickle",
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => "a NumPy file",
        _ => return Ok(()),
    };
    Err(TensorsError::CodeBearing { format })
}

/// Reads the JSON.
pub(super) fn read(json: &[u8]) -> Result<Header, TensorsError> {
    if json.first() != Some(&b'{') {
        return Err(malformed("it does not begin with `{`"));
    }
    let raw: Distinct<RawEntry> =
        serde_json::from_slice(json).map_err(|error| malformed(error.to_string()))?;
    let mut header = Header { tensors: BTreeMap::new(), metadata: BTreeMap::new() };
    for (name, entry) in raw.0 {
        match entry {
            RawEntry::Metadata(metadata) => header.metadata = metadata,
            RawEntry::Tensor(raw) => {
                header.tensors.insert(name.clone(), raw.into_entry(&name)?);
            }
        }
    }
    if TENSORS_MAX < header.tensors.len() {
        return Err(malformed(format!(
            "{} tensors, at most {TENSORS_MAX} are read",
            header.tensors.len()
        )));
    }
    Ok(header)
}

/// Where each tensor lies behind the `n_header` bytes of length and header, in name order. Together they must cover
/// the `n_bytes` there exactly once.
pub(super) fn tile(
    tensors: &BTreeMap<String, Entry>,
    n_header: usize,
    n_bytes: usize,
) -> Result<Vec<Range<usize>>, TensorsError> {
    let mut order: Vec<(&String, &Entry)> = tensors.iter().collect();
    order.sort_by_key(|(_, entry)| (entry.offsets.start, entry.offsets.end));
    let mut end = 0;
    for (name, Entry { dtype, shape, offsets }) in order {
        let wanted = shape
            .iter()
            .try_fold(dtype.n_bytes(), |n, dimension| n.checked_mul(*dimension))
            .ok_or_else(|| malformed(format!("tensor `{name}` of shape {shape:?} is too large")))?;
        if offsets.start != end {
            let what =
                if offsets.start < end { "overlaps the one before" } else { "leaves a hole" };
            return Err(malformed(format!("tensor `{name}` at byte {} {what}", offsets.start)));
        }
        if offsets.end.checked_sub(offsets.start) != Some(wanted) {
            return Err(malformed(format!(
                "tensor `{name}` is {dtype} {shape:?}, {wanted} bytes, but its offsets are {} to {}",
                offsets.start, offsets.end
            )));
        }
        end = offsets.end;
    }
    if n_bytes < end {
        let whole = |n: usize| n_header as u64 + n as u64;
        return Err(TensorsError::Truncated { expected: whole(end), found: whole(n_bytes) });
    }
    if end < n_bytes {
        return Err(TensorsError::Trailing { n_bytes: (n_bytes - end) as u64 });
    }
    Ok(tensors.values().map(|entry| entry.offsets.clone()).collect())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTensor {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

impl RawTensor {
    fn into_entry(self, name: &str) -> Result<Entry, TensorsError> {
        if NAME_BYTES_MAX < name.len() {
            return Err(malformed(format!(
                "a tensor's name has {} bytes, at most {NAME_BYTES_MAX} are read",
                name.len()
            )));
        }
        if RANK_MAX < self.shape.len() {
            return Err(malformed(format!(
                "tensor `{name}` has {} dimensions, at most {RANK_MAX} are read",
                self.shape.len()
            )));
        }
        let dtype = Dtype::from_word(&self.dtype).ok_or_else(|| {
            let word: String = self.dtype.chars().take(20).collect();
            malformed(format!("tensor `{name}` has the unknown type `{word}`"))
        })?;
        let (start, end) = self.data_offsets;
        Ok(Entry { dtype, shape: self.shape, offsets: start..end })
    }
}

enum RawEntry {
    Metadata(BTreeMap<String, String>),
    Tensor(RawTensor),
}

/// What the value of one key is depends on the key.
trait ByKey: Sized {
    fn next<'de, A: MapAccess<'de>>(key: &str, map: &mut A) -> Result<Self, A::Error>;
}

impl ByKey for RawEntry {
    fn next<'de, A: MapAccess<'de>>(key: &str, map: &mut A) -> Result<Self, A::Error> {
        if key == "__metadata__" {
            Ok(Self::Metadata(map.next_value::<Distinct<String>>()?.0))
        } else {
            Ok(Self::Tensor(map.next_value()?))
        }
    }
}

impl ByKey for String {
    fn next<'de, A: MapAccess<'de>>(_: &str, map: &mut A) -> Result<Self, A::Error> {
        map.next_value()
    }
}

/// A JSON object that refuses a key given twice; serde's own maps keep the last one.
struct Distinct<T>(BTreeMap<String, T>);

impl<'de, T: ByKey> Deserialize<'de> for Distinct<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys<T>(PhantomData<T>);

        impl<'de, T: ByKey> Visitor<'de> for Keys<T> {
            type Value = BTreeMap<String, T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut found = BTreeMap::new();
                while let Some(key) = map.next_key::<String>()? {
                    let value = T::next(&key, &mut map)?;
                    if found.contains_key(&key) {
                        let key: String = key.chars().take(80).collect();
                        return Err(A::Error::custom(format!("key `{key}` is given twice")));
                    }
                    found.insert(key, value);
                }
                Ok(found)
            }
        }

        deserializer.deserialize_map(Keys(PhantomData)).map(Self)
    }
}
