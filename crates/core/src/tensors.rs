//! safetensors: bytes ⇄ checked views, our own sorted writer.
//!
//! A file is an 8-byte little-endian header length N, N bytes of JSON, then the tensors' bytes. Files come from other
//! people, so [`Tensors::parse`] takes nothing on trust: own limits, checked arithmetic, no duplicate keys, no holes, no
//! overlap, nothing after the end. Formats that can carry code are recognised by their first bytes and refused by name.
//!
//! [`Writer`] sorts tensors and metadata keys: equal content gives equal bytes, which the `safetensors` crate does not
//! promise (it writes metadata in hash order).
//!
//! The `safetensors` crate is the oracle of the tests: what is accepted here, it accepts with the same views.
//!
//! Reading order: [`Tensors`], [`TensorsError`], `header`, [`Writer`].

use std::{borrow::Cow, collections::BTreeMap, fmt};

use crate::{Code, Coded};

mod header;
#[cfg(test)]
mod tests;

/// Bytes of the JSON header. A header of 100,000 tensors with long names is 14 MiB.
pub const HEADER_BYTES_MAX: usize = 16 << 20;
/// Tensors in one file.
pub const TENSORS_MAX: usize = 100_000;
/// Bytes of a tensor's name.
pub const NAME_BYTES_MAX: usize = 512;
/// Dimensions of a tensor.
pub const RANK_MAX: usize = 8;
/// Names listed in one message before "and 12 more".
const LISTED_MAX: usize = 20;

/// Element types that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// IEEE double.
    F64,
    /// IEEE single: all that karat writes.
    F32,
    /// IEEE half.
    F16,
    /// The upper half of a single.
    BF16,
    /// Signed 64 bits.
    I64,
    /// Signed 32 bits.
    I32,
    /// Signed 16 bits.
    I16,
    /// Signed 8 bits.
    I8,
    /// Unsigned 64 bits.
    U64,
    /// Unsigned 32 bits.
    U32,
    /// Unsigned 16 bits.
    U16,
    /// Unsigned 8 bits.
    U8,
    /// One byte, 0 or 1.
    Bool,
}

impl Dtype {
    const ALL: [Self; 13] = [
        Self::F64,
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::I64,
        Self::I32,
        Self::I16,
        Self::I8,
        Self::U64,
        Self::U32,
        Self::U16,
        Self::U8,
        Self::Bool,
    ];

    /// The word in the header.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::F64 => "F64",
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::I64 => "I64",
            Self::I32 => "I32",
            Self::I16 => "I16",
            Self::I8 => "I8",
            Self::U64 => "U64",
            Self::U32 => "U32",
            Self::U16 => "U16",
            Self::U8 => "U8",
            Self::Bool => "BOOL",
        }
    }

    /// Bytes of one element.
    #[must_use]
    pub const fn n_bytes(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.word() == word)
    }

    /// Whether one element, given as its bytes, is NaN or infinite. Integers never are.
    fn is_non_finite(self, element: &[u8]) -> bool {
        let word = |at: usize| u16::from_le_bytes([element[at], element[at + 1]]);
        // All exponent bits set; they lie in the top half word of every float type.
        match self {
            Self::F64 => word(6) & 0x7ff0 == 0x7ff0,
            Self::F32 => word(2) & 0x7f80 == 0x7f80,
            Self::F16 => word(0) & 0x7c00 == 0x7c00,
            Self::BF16 => word(0) & 0x7f80 == 0x7f80,
            _ => false,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// One tensor of a file: its type, its shape and its bytes, which lie in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View<'a> {
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Little-endian elements, row-major. Not aligned.
    pub bytes: &'a [u8],
}

impl View<'_> {
    /// The elements, if they are F32.
    #[must_use]
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        (self.dtype == Dtype::F32).then(|| {
            let (words, _) = self.bytes.as_chunks::<4>();
            words.iter().map(|word| f32::from_le_bytes(*word)).collect()
        })
    }
}

/// A checked file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensors<'a> {
    views: BTreeMap<String, View<'a>>,
    metadata: BTreeMap<String, String>,
}

impl<'a> Tensors<'a> {
    /// Reads a whole file. The views point into `bytes`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, TensorsError> {
        let (json, rest) = header::split(bytes)?;
        let header::Header { tensors, metadata } = header::read(json)?;
        let spans = header::tile(&tensors, 8 + json.len(), rest.len())?;
        let views = tensors
            .into_iter()
            .zip(spans)
            .map(|((name, entry), span)| {
                let view = View { dtype: entry.dtype, shape: entry.shape, bytes: &rest[span] };
                (name, view)
            })
            .collect();
        Ok(Self { views, metadata })
    }

    /// The tensor called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&View<'a>> {
        self.views.get(name)
    }

    /// All tensors in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &View<'a>)> {
        self.views.iter().map(|(name, view)| (name.as_str(), view))
    }

    /// The file's `__metadata__`: untrusted text.
    #[must_use]
    pub const fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Refuses the file unless it holds exactly these tensors, in these shapes, all of type `dtype`.
    pub fn expect_exactly<N: AsRef<str>, S: AsRef<[usize]>>(
        &self,
        dtype: Dtype,
        expected: &[(N, S)],
    ) -> Result<(), TensorsError> {
        let mut mismatch = Mismatch::default();
        for (name, shape) in expected {
            let (name, shape) = (name.as_ref(), shape.as_ref());
            match self.views.get(name) {
                None => mismatch.missing.push(name.to_owned()),
                Some(view) if view.shape != shape => mismatch.reshaped.push(format!(
                    "tensor `{name}` has shape {:?}, the model expects {shape:?}",
                    view.shape
                )),
                Some(view) if view.dtype != dtype => mismatch.retyped.push(format!(
                    "tensor `{name}` has type {}, the model expects {dtype}",
                    view.dtype
                )),
                Some(_) => {}
            }
        }
        let known: std::collections::BTreeSet<&str> =
            expected.iter().map(|(name, _)| name.as_ref()).collect();
        mismatch.unexpected =
            self.views.keys().filter(|name| !known.contains(name.as_str())).cloned().collect();
        if mismatch == Mismatch::default() {
            Ok(())
        } else {
            Err(TensorsError::Mismatch(Box::new(mismatch)))
        }
    }

    /// Refuses NaN and infinity: no model that may be promoted holds one.
    pub fn expect_finite(&self) -> Result<(), TensorsError> {
        for (name, view) in self.iter() {
            let mut elements = view.bytes.chunks_exact(view.dtype.n_bytes());
            if let Some(index) = elements.position(|element| view.dtype.is_non_finite(element)) {
                return Err(TensorsError::NotFinite { name: name.to_owned(), index });
            }
        }
        Ok(())
    }
}

/// How a file's tensors differ from the model's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mismatch {
    missing: Vec<String>,
    unexpected: Vec<String>,
    reshaped: Vec<String>,
    retyped: Vec<String>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.missing[..], &self.unexpected[..], &self.reshaped[..], &self.retyped[..]) {
            ([name, ..], ..) => write!(f, "tensor `{name}` is missing"),
            ([], [name, ..], ..) => write!(f, "tensor `{name}` does not belong to the model"),
            ([], [], [fact, ..], _) | ([], [], [], [fact, ..]) => f.write_str(fact),
            ([], [], [], []) => f.write_str("the tensors agree"),
        }
    }
}

impl Mismatch {
    /// Every difference, one a line, each kind cut at [`LISTED_MAX`].
    fn lines(&self) -> Vec<String> {
        let missing = self.missing.iter().map(|name| format!("missing: `{name}`"));
        let unexpected = self.unexpected.iter().map(|name| format!("unexpected: `{name}`"));
        [missing.collect(), unexpected.collect(), self.reshaped.clone(), self.retyped.clone()]
            .into_iter()
            .flat_map(|mut lines: Vec<String>| {
                if LISTED_MAX < lines.len() {
                    let more = format!("and {} more", lines.len() - LISTED_MAX);
                    lines.truncate(LISTED_MAX);
                    lines.push(more);
                }
                lines
            })
            .collect()
    }
}

/// Why bytes are not a file of the tensors wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorsError {
    /// The file ends early.
    #[error("the file ends after {found} bytes, its header promises {expected}")]
    Truncated {
        /// Bytes promised.
        expected: u64,
        /// Bytes there.
        found: u64,
    },
    /// Bytes follow the last tensor.
    #[error("{n_bytes} bytes follow the last tensor")]
    Trailing {
        /// How many.
        n_bytes: u64,
    },
    /// The first bytes are those of a format that can carry code.
    #[error("the file is {format}, which can carry code; karat reads safetensors only")]
    CodeBearing {
        /// What it looks like.
        format: &'static str,
    },
    /// The header breaks a rule of the format or one of our limits.
    #[error("the safetensors header is malformed: {0}")]
    Header(Cow<'static, str>),
    /// The tensors are not the model's.
    #[error("{0}")]
    Mismatch(Box<Mismatch>),
    /// A weight is NaN or infinite.
    #[error("tensor `{name}` holds a NaN or infinity at element {index}")]
    NotFinite {
        /// Tensor.
        name: String,
        /// Flat index of the first one.
        index: usize,
    },
}

impl Coded for TensorsError {
    fn code(&self) -> Code {
        Code::new(match self {
            Self::Truncated { .. } => "checkpoint-truncated",
            Self::Trailing { .. } => "checkpoint-trailing",
            Self::CodeBearing { .. } => "checkpoint-code-bearing",
            Self::Header(_) => "checkpoint-header",
            Self::Mismatch(it) if !it.missing.is_empty() => "checkpoint-tensor-missing",
            Self::Mismatch(it) if !it.unexpected.is_empty() => "checkpoint-tensor-unexpected",
            Self::Mismatch(it) if !it.reshaped.is_empty() => "checkpoint-tensor-shape",
            Self::Mismatch(_) => "checkpoint-tensor-type",
            Self::NotFinite { .. } => "checkpoint-not-finite",
        })
    }

    fn details(&self) -> Vec<String> {
        match self {
            Self::Mismatch(mismatch) => {
                let lines = mismatch.lines();
                // The first line of the message already says a single difference.
                if lines.len() < 2 { Vec::new() } else { lines }
            }
            _ => Vec::new(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::CodeBearing { .. } => vec![
                "in Python, `safetensors.torch.save_file(model.state_dict(), PATH)` writes what karat reads"
                    .to_owned(),
            ],
            _ => Vec::new(),
        }
    }
}

/// Type, shape and bytes of a tensor to be written.
type Entry<'a> = (Dtype, Vec<usize>, Cow<'a, [u8]>);

/// Builds a file whose bytes depend on its content only.
#[derive(Clone, Debug, Default)]
pub struct Writer<'a> {
    tensors: BTreeMap<String, Entry<'a>>,
    metadata: BTreeMap<String, String>,
}

impl<'a> Writer<'a> {
    /// An empty file.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one line of metadata.
    #[must_use]
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// Adds a tensor of singles; replaces one of the same name.
    pub fn add_f32(&mut self, name: impl Into<String>, shape: &[usize], elements: &[f32]) {
        let bytes: Vec<u8> = elements.iter().flat_map(|it| it.to_le_bytes()).collect();
        self.add(name, Dtype::F32, shape, bytes);
    }

    /// Adds a tensor; replaces one of the same name. `bytes` must be as many as type and shape ask for.
    pub fn add(
        &mut self,
        name: impl Into<String>,
        dtype: Dtype,
        shape: &[usize],
        bytes: impl Into<Cow<'a, [u8]>>,
    ) {
        let (name, bytes) = (name.into(), bytes.into());
        let n_bytes = shape.iter().product::<usize>() * dtype.n_bytes();
        assert_eq!(bytes.len(), n_bytes, "tensor `{name}` is {dtype} {shape:?}");
        self.tensors.insert(name, (dtype, shape.to_vec(), bytes));
    }

    /// The file: tensors by falling element size (so that each is aligned), then name; the header is padded with
    /// spaces to a multiple of 8 bytes.
    #[must_use]
    pub fn finish(&self) -> Vec<u8> {
        let mut order: Vec<_> = self.tensors.iter().collect();
        order.sort_by_key(|(_, (dtype, ..))| std::cmp::Reverse(dtype.n_bytes()));

        let text = |it: &str| serde_json::to_string(it).expect("text serialises");
        let mut entries = Vec::with_capacity(order.len() + 1);
        if !self.metadata.is_empty() {
            let metadata = serde_json::to_string(&self.metadata).expect("text serialises");
            entries.push(format!("\"__metadata__\":{metadata}"));
        }
        let mut end = 0;
        for (name, (dtype, shape, bytes)) in &order {
            let begin = end;
            end += bytes.len();
            let shape = serde_json::to_string(shape).expect("numbers serialise");
            entries.push(format!(
                "{}:{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[{begin},{end}]}}",
                text(name)
            ));
        }
        let mut header = format!("{{{}}}", entries.join(","));
        header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));

        let mut file = Vec::with_capacity(8 + header.len() + end);
        file.extend_from_slice(&(header.len() as u64).to_le_bytes());
        file.extend_from_slice(header.as_bytes());
        for (_, (_, _, bytes)) in order {
            file.extend_from_slice(bytes);
        }
        file
    }
}
