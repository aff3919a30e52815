//! IDX, the format of MNIST and its relatives: a file of images and, beside it, a file of labels.
//!
//! Four bytes of magic (two zeros, the type 8 = unsigned bytes, the number of dimensions), one big-endian 32-bit number a
//! dimension, then the bytes. Source: <https://yann.lecun.com/exdb/mnist/>, "the IDX file format".
//!
//! The labels of `…images…idx3…` are in `…labels…idx1…` in the same folder, compressed or not. A file without labels has
//! no column of labels; so new images can be scored.
//!
//! Reading order: [`labels_of`], [`Idx::open`], [`Idx::batches`].

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::array::{
    ArrayRef, FixedSizeBinaryArray, Int64Array, RecordBatch, RecordBatchOptions, StringArray,
};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef};
use karat_core::{ImageFormat, ImageShape};

use crate::{
    decode::Batches,
    error::FileError,
    files::{Found, Packing, packing_of, unpacked},
};

/// First bytes of a file of images: bytes, three dimensions.
pub(crate) const IMAGES: [u8; 4] = [0, 0, 8, 3];
/// First bytes of a file of labels: bytes, one dimension.
pub(crate) const LABELS: [u8; 4] = [0, 0, 8, 1];
/// Bytes of images read at once.
const BATCH_BYTES: usize = 32 << 20;

/// The columns of every source of single images.
pub(crate) const ID: &str = "id";
/// See [`ID`].
pub(crate) const IMAGE: &str = "image";
/// See [`ID`].
pub(crate) const LABEL: &str = "label";

/// Whether a name promises IDX: `train-images-idx3-ubyte.gz`, `train-images.idx3-ubyte`, `digits.idx`.
pub(crate) fn is_named(lower_name: &str) -> bool {
    let name = lower_name.strip_suffix(".gz").unwrap_or(lower_name);
    name.ends_with(".idx") || name.ends_with("idx3-ubyte") || name.ends_with("idx1-ubyte")
}

/// The file of labels that belongs to a file of images, where there is one.
pub(crate) fn labels_of(images: &Path) -> Option<PathBuf> {
    let name = images.file_name()?.to_str()?;
    if !name.contains("images") || !is_named(&name.to_ascii_lowercase()) {
        return None;
    }
    let name = name.replace("images", "labels").replace("idx3", "idx1");
    let plain = name.strip_suffix(".gz").unwrap_or(&name);
    let other = if plain == name { format!("{plain}.gz") } else { plain.to_owned() };
    [&name, &other].into_iter().map(|it| images.with_file_name(it)).find(|it| it.is_file())
}

/// A file of images whose header was read, and that of its labels.
#[derive(Clone)]
pub(crate) struct Idx {
    found: Found,
    packing: Packing,
    labels: Option<(Found, Packing)>,
    n_rows: u64,
    /// What every image is.
    pub(crate) format: ImageFormat,
}

impl Idx {
    /// Reads the headers.
    pub(crate) fn open(found: &Found, packing: Packing) -> Result<Self, FileError> {
        let [n_rows, height, width] = header::<3>(found, &mut *unpacked(found, packing)?, IMAGES)?;
        let shape = ImageShape { channels: 1, height, width };
        if let Some(reason) = shape.refusal() {
            return Err(FileError::Unreadable { file: found.name.clone(), reason });
        }
        let labels = match found.labels() {
            None => None,
            Some(labels) => {
                let packing = packing_of(&labels)?;
                let [n_labels] = header::<1>(&labels, &mut *unpacked(&labels, packing)?, LABELS)?;
                if n_labels != n_rows {
                    return Err(FileError::IdxCount {
                        file: found.name.clone(),
                        n_images: u64::from(n_rows),
                        labels: labels.name,
                        n_labels: u64::from(n_labels),
                    });
                }
                Some((labels, packing))
            }
        };
        let format = ImageFormat { shape, is_raw: true };
        Ok(Self { found: found.clone(), packing, labels, n_rows: u64::from(n_rows), format })
    }

    /// Id, image and, where there is a file of them, label.
    pub(crate) fn schema(&self) -> SchemaRef {
        let size = i32::try_from(self.format.shape.n_bytes()).expect("within IMAGE_BYTES_MAX");
        let mut fields = vec![
            Field::new(ID, DataType::Utf8, false),
            Field::new(IMAGE, DataType::FixedSizeBinary(size), false),
        ];
        if self.labels.is_some() {
            fields.push(Field::new(LABEL, DataType::Int64, false));
        }
        Arc::new(ArrowSchema::new(fields))
    }

    /// The rows in order, at most `n_rows` at once. Both files are read to their end, so that one that is too short or too
    /// long is found out.
    pub(crate) fn batches(&self, columns: &[usize], n_rows: usize) -> Result<Batches, FileError> {
        let schema = self.schema();
        let schema = Arc::new(schema.project(columns).map_err(|error| FileError::Unreadable {
            file: self.found.name.clone(),
            reason: error.to_string(),
        })?);
        let mut rows = Rows {
            idx: self.clone(),
            columns: columns.to_vec(),
            schema,
            images: past_header(&self.found, self.packing, 16)?,
            labels: match &self.labels {
                Some((labels, packing)) => Some(past_header(labels, *packing, 8)?),
                None => None,
            },
            next: 0,
        };
        let n_bytes = self.format.shape.n_bytes();
        let at_once = n_rows.min(BATCH_BYTES / n_bytes).max(1);
        let mut is_done = false;
        Ok(Box::new(std::iter::from_fn(move || {
            if is_done {
                return None;
            }
            let batch = rows.next(at_once).transpose();
            is_done = !matches!(batch, Some(Ok(_)));
            batch
        })))
    }
}

struct Rows {
    idx: Idx,
    columns: Vec<usize>,
    schema: SchemaRef,
    images: Box<dyn Read + Send>,
    labels: Option<Box<dyn Read + Send>>,
    next: u64,
}

impl Rows {
    fn next(&mut self, at_once: usize) -> Result<Option<RecordBatch>, FileError> {
        let left = usize::try_from(self.idx.n_rows - self.next).unwrap_or(usize::MAX);
        let n = at_once.min(left);
        let n_bytes = self.idx.format.shape.n_bytes();
        if n == 0 {
            at_end(&self.idx.found, &mut *self.images)?;
            if let (Some(labels), Some((found, _))) = (&mut self.labels, &self.idx.labels) {
                at_end(found, &mut **labels)?;
            }
            return Ok(None);
        }
        let first = self.next;
        self.next += n as u64;
        let pixels = exactly(&self.idx.found, &mut *self.images, n * n_bytes)?;
        let labels = match (&mut self.labels, &self.idx.labels) {
            (Some(labels), Some((found, _))) => exactly(found, &mut **labels, n)?,
            _ => Vec::new(),
        };
        let size = i32::try_from(n_bytes).expect("within IMAGE_BYTES_MAX");
        let failed = |error: arrow::error::ArrowError| FileError::Unreadable {
            file: self.idx.found.name.clone(),
            reason: error.to_string(),
        };
        let pixels =
            FixedSizeBinaryArray::try_new(size, Buffer::from_vec(pixels), None).map_err(failed)?;
        let name = &self.idx.found.name;
        let next = self.next;
        let ids = || (first..next).map(move |row| format!("{name}#{row}"));
        let arrays: Vec<ArrayRef> = self
            .columns
            .iter()
            .map(|column| -> ArrayRef {
                match column {
                    0 => Arc::new(StringArray::from_iter_values(ids())),
                    1 => Arc::new(pixels.clone()),
                    _ => Arc::new(Int64Array::from_iter_values(
                        labels.iter().map(|it| i64::from(*it)),
                    )),
                }
            })
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(n));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options);
        batch.map(Some).map_err(failed)
    }
}

/// The sizes in the header of a file that must begin with `magic`.
fn header<const N: usize>(
    found: &Found,
    from: &mut dyn Read,
    magic: [u8; 4],
) -> Result<[u32; N], FileError> {
    let mut word = || -> Result<[u8; 4], FileError> {
        let mut word = [0; 4];
        from.read_exact(&mut word).map_err(|error| FileError::io(&found.name, error))?;
        Ok(word)
    };
    let start = word()?;
    if start != magic {
        return Err(FileError::IdxMagic {
            file: found.name.clone(),
            found: hex(&start),
            expected: hex(&magic),
            what: if magic == IMAGES { "images" } else { "labels" },
        });
    }
    let mut sizes = [0; N];
    for size in &mut sizes {
        *size = u32::from_be_bytes(word()?);
    }
    Ok(sizes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect::<Vec<_>>().join(" ")
}

fn past_header(
    found: &Found,
    packing: Packing,
    n: usize,
) -> Result<Box<dyn Read + Send>, FileError> {
    let mut from = unpacked(found, packing)?;
    exactly(found, &mut *from, n)?;
    Ok(from)
}

/// The next `n` bytes. They are read before room for all of them is made: a header may announce what is not there.
fn exactly(found: &Found, from: &mut dyn Read, n: usize) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    let n_read = from
        .take(n as u64)
        .read_to_end(&mut bytes)
        .map_err(|error| FileError::io(&found.name, error))?;
    if n_read < n {
        let early = io::Error::from(io::ErrorKind::UnexpectedEof);
        return Err(FileError::io(&found.name, early));
    }
    Ok(bytes)
}

fn at_end(found: &Found, from: &mut dyn Read) -> Result<(), FileError> {
    let mut more = Vec::new();
    from.take(1).read_to_end(&mut more).map_err(|error| FileError::io(&found.name, error))?;
    if more.is_empty() {
        return Ok(());
    }
    Err(FileError::Unreadable {
        file: found.name.clone(),
        reason: "it goes on after the last row that its header announces".to_owned(),
    })
}
