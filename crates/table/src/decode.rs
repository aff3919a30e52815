//! One file as record batches of its own types, whatever its format.
//!
//! CSV and JSON lines are read as text only: what does not parse as the declared type is then counted, row by row,
//! instead of ending the read. Panics of a decoder end here, as errors.
//!
//! Reading order: [`RawFile::open`], [`RawFile::batches`].

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef};
use arrow::error::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::Encoding;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::{
    error::FileError,
    files::{Format, Found, Packing, recognise, unpacked},
    idx::Idx,
    pictures,
    read::READ_ROWS,
};

/// Bytes of rows read at once: rows with images are large.
const READ_BYTES: usize = 32 << 20;

/// JSON objects looked at for the names of the columns. A key that first comes later is not read.
const JSON_SAMPLE_ROWS: usize = 100_000;
/// Columns of one file.
const FILE_COLUMNS_MAX: usize = 20_000;

/// Record batches of one file.
pub(crate) type Batches = Box<dyn Iterator<Item = Result<RecordBatch, FileError>> + Send>;

/// A file whose columns are known.
pub(crate) struct RawFile {
    found: Found,
    format: Format,
    /// The columns that can be read: text for CSV and JSON, the file's own types otherwise. Nested ones too.
    pub(crate) schema: SchemaRef,
    parquet: Option<ArrowReaderMetadata>,
    /// What every image of an IDX file is.
    pub(crate) idx: Option<Idx>,
}

impl RawFile {
    /// Recognises a file and reads its header.
    pub(crate) fn open(found: &Found) -> Result<Self, FileError> {
        let format = recognise(found)?;
        Self::open_as(found, format)
    }

    /// Reads the header of a file whose format is known.
    pub(crate) fn open_as(found: &Found, format: Format) -> Result<Self, FileError> {
        let name = &found.name;
        let file = guarded(name, || match format {
            Format::Parquet => Self::open_parquet(found),
            Format::ArrowFile => {
                let reader = arrow::ipc::reader::FileReader::try_new(open(found)?, None)
                    .map_err(|error| truncated_or(found, b"ARROW1", &error))?;
                Ok(Self::with_schema(found, format, reader.schema()))
            }
            Format::ArrowStream => {
                let reader = arrow::ipc::reader::StreamReader::try_new(open(found)?, None)
                    .map_err(|error| failed(name, &error))?;
                Ok(Self::with_schema(found, format, reader.schema()))
            }
            Format::Csv(packing) => {
                let nul = Arc::default();
                let header = csv_header(text(found, packing, &nul)?)
                    .map_err(|reason| text_failed(name, &nul, reason))?;
                Ok(Self::with_schema(
                    found,
                    format,
                    text_schema(header.into_iter().map(|it| (it, false))),
                ))
            }
            Format::Json(packing) => {
                let nul = Arc::default();
                let keys = json_keys(text(found, packing, &nul)?)
                    .map_err(|reason| text_failed(name, &nul, reason))?;
                Ok(Self::with_schema(found, format, text_schema(keys)))
            }
            Format::Image => Ok(Self::with_schema(found, format, pictures::schema())),
            Format::Idx(packing) => {
                let idx = Idx::open(found, packing)?;
                Ok(Self {
                    idx: Some(idx.clone()),
                    ..Self::with_schema(found, format, idx.schema())
                })
            }
        })?;
        if file.is_text() && file.schema.fields().is_empty() {
            // Blank lines, or a byte order mark and nothing else.
            return Err(FileError::Empty { file: name.clone() });
        }
        let mut seen = std::collections::BTreeSet::new();
        for field in file.schema.fields() {
            if !seen.insert(field.name()) {
                return Err(FileError::ColumnRepeated {
                    file: name.clone(),
                    column: field.name().clone(),
                });
            }
        }
        if FILE_COLUMNS_MAX < seen.len() {
            return Err(FileError::Unreadable {
                file: name.clone(),
                reason: format!("{} columns, at most {FILE_COLUMNS_MAX} are read", seen.len()),
            });
        }
        Ok(file)
    }

    fn with_schema(found: &Found, format: Format, schema: SchemaRef) -> Self {
        Self { found: found.clone(), format, schema, parquet: None, idx: None }
    }

    fn open_parquet(found: &Found) -> Result<Self, FileError> {
        let file = open(found)?;
        let load = |options| {
            ArrowReaderMetadata::load(&file, options)
                .map_err(|error| truncated_or(found, b"PAR1", &ArrowError::from(error)))
        };
        let metadata = load(ArrowReaderOptions::new())?;
        // A column that is stored as a dictionary throughout stays one: its texts are looked at once, not once a row.
        let parquet = metadata.metadata();
        let roots = metadata.parquet_schema();
        let is_dictionary = |root: usize| {
            let Some(leaf) =
                (0..roots.num_columns()).find(|leaf| roots.get_column_root_idx(*leaf) == root)
            else {
                return false;
            };
            parquet.row_groups().iter().all(|group| {
                group.column(leaf).page_encoding_stats_mask().is_some_and(|mask| {
                    mask.is_only(Encoding::RLE_DICTIONARY)
                        || mask.is_only(Encoding::PLAIN_DICTIONARY)
                })
            })
        };
        let fields: Vec<Field> = metadata
            .schema()
            .fields()
            .iter()
            .enumerate()
            .map(|(root, field)| {
                let field = field.as_ref().clone();
                let is_text = matches!(
                    field.data_type(),
                    DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
                );
                if is_text && is_dictionary(root) {
                    field.with_data_type(DataType::Dictionary(
                        Box::new(DataType::Int32),
                        Box::new(DataType::Utf8),
                    ))
                } else {
                    field
                }
            })
            .collect();
        let schema = Arc::new(ArrowSchema::new(fields));
        let options = ArrowReaderOptions::new().with_schema(Arc::clone(&schema));
        let metadata = ArrowReaderMetadata::try_new(Arc::clone(parquet), options)
            .or_else(|_| {
                ArrowReaderMetadata::try_new(Arc::clone(parquet), ArrowReaderOptions::new())
            })
            .map_err(|error| failed(&found.name, &ArrowError::from(error)))?;
        let schema = Arc::clone(metadata.schema());
        let parquet = Some(metadata);
        Ok(Self { parquet, ..Self::with_schema(found, Format::Parquet, schema) })
    }

    /// What it is.
    pub(crate) const fn format(&self) -> Format {
        self.format
    }

    /// Whether fields like `NA` mean "missing".
    pub(crate) const fn has_null_words(&self) -> bool {
        self.format.has_null_words()
    }

    /// Whether columns are text whose type is still to be found.
    pub(crate) const fn is_text(&self) -> bool {
        matches!(self.format, Format::Csv(_) | Format::Json(_))
    }

    /// Whether several readers of different columns share the work.
    pub(crate) const fn is_columnar(&self) -> bool {
        matches!(self.format, Format::Parquet)
    }

    /// Rows, where the header says so.
    pub(crate) fn n_rows(&self) -> Option<u64> {
        if self.format == Format::Image {
            return Some(1);
        }
        let rows = self.parquet.as_ref()?.metadata().file_metadata().num_rows();
        u64::try_from(rows).ok()
    }

    /// Rows to read at once, so that they take no more than [`READ_BYTES`] where one takes `row_bytes`, or what the file
    /// says if that is more.
    pub(crate) fn rows_at_once(&self, row_bytes: usize) -> usize {
        let stored = self.parquet.as_ref().map_or(0, |it| {
            let groups = it.metadata().row_groups();
            let n_bytes: i64 = groups.iter().map(|it| it.total_byte_size()).sum();
            let n_rows: i64 = groups.iter().map(|it| it.num_rows()).sum();
            usize::try_from(n_bytes / n_rows.max(1)).unwrap_or(0)
        });
        (READ_BYTES / row_bytes.max(stored).max(1)).clamp(1, READ_ROWS)
    }

    /// How much work a column is, for sharing it fairly.
    pub(crate) fn cost(&self, column: usize) -> u64 {
        let Some(metadata) = &self.parquet else { return 1 };
        let roots = metadata.parquet_schema();
        let sum: i64 = (0..roots.num_columns())
            .filter(|leaf| roots.get_column_root_idx(*leaf) == column)
            .flat_map(|leaf| metadata.metadata().row_groups().iter().map(move |it| it.column(leaf)))
            .map(|chunk| chunk.uncompressed_size())
            .sum();
        // Every value costs something, however well its column is packed.
        let rows = self.n_rows().unwrap_or(0);
        u64::try_from(sum).unwrap_or(0).saturating_add(rows)
    }

    /// The rows in order, in batches of exactly `n_rows` but for the last, with `columns` (ascending) only.
    pub(crate) fn batches(&self, columns: &[usize], n_rows: usize) -> Result<Batches, FileError> {
        debug_assert!(columns.is_sorted());
        let name = self.found.name.clone();
        let inner = guarded(&name, || self.raw_batches(columns, n_rows))?;
        let mut inner = Some(inner);
        Ok(Box::new(std::iter::from_fn(move || {
            let batches = inner.as_mut()?;
            let next = guarded(&name, || batches.next().transpose());
            if next.is_err() {
                inner = None;
            }
            next.transpose()
        })))
    }

    fn raw_batches(&self, columns: &[usize], n_rows: usize) -> Result<Batches, FileError> {
        let name = self.found.name.clone();
        match self.format {
            Format::Image => {
                let found = std::slice::from_ref(&self.found);
                let batch = pictures::rows(found, columns);
                Ok(Box::new(std::iter::once(batch)))
            }
            Format::Idx(_) => {
                let idx = self.idx.as_ref().expect("opened as IDX");
                idx.batches(columns, n_rows)
            }
            Format::Parquet => {
                let metadata = self.parquet.clone().expect("opened as Parquet");
                let mask =
                    ProjectionMask::roots(metadata.parquet_schema(), columns.iter().copied());
                let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(
                    open(&self.found)?,
                    metadata,
                )
                .with_projection(mask)
                .with_batch_size(n_rows)
                .build()
                .map_err(|error| failed(&name, &ArrowError::from(error)))?;
                Ok(Box::new(reader.map(move |it| it.map_err(|error| failed(&name, &error)))))
            }
            Format::ArrowFile => {
                let projection = Some(columns.to_vec());
                let reader =
                    arrow::ipc::reader::FileReader::try_new(open(&self.found)?, projection)
                        .map_err(|error| failed(&name, &error))?;
                Ok(sliced(reader.map(move |it| it.map_err(|error| failed(&name, &error))), n_rows))
            }
            Format::ArrowStream => {
                let projection = Some(columns.to_vec());
                let reader =
                    arrow::ipc::reader::StreamReader::try_new(open(&self.found)?, projection)
                        .map_err(|error| failed(&name, &error))?;
                Ok(sliced(reader.map(move |it| it.map_err(|error| failed(&name, &error))), n_rows))
            }
            Format::Csv(packing) => {
                let nul = Arc::default();
                let reader = arrow::csv::ReaderBuilder::new(Arc::clone(&self.schema))
                    .with_header(true)
                    .with_batch_size(n_rows)
                    .with_projection(columns.to_vec())
                    .build_buffered(text(&self.found, packing, &nul)?)
                    .map_err(|error| failed(&name, &error))?;
                Ok(Box::new(reader.map(move |it| {
                    it.map_err(|error| text_failed(&name, &nul, error.to_string()))
                })))
            }
            Format::Json(packing) => {
                let nul = Arc::default();
                let wanted =
                    Arc::new(self.schema.project(columns).map_err(|error| failed(&name, &error))?);
                let reader = arrow::json::ReaderBuilder::new(wanted)
                    .with_batch_size(n_rows)
                    .with_coerce_primitive(true)
                    .build(text(&self.found, packing, &nul)?)
                    .map_err(|error| failed(&name, &error))?;
                Ok(Box::new(reader.map(move |it| {
                    it.map_err(|error| text_failed(&name, &nul, error.to_string()))
                })))
            }
        }
    }
}

fn open(found: &Found) -> Result<File, FileError> {
    File::open(&found.path).map_err(|error| FileError::io(&found.name, error))
}

/// Cuts batches as large as their writer pleased into pieces.
fn sliced(
    batches: impl Iterator<Item = Result<RecordBatch, FileError>> + Send + 'static,
    n_rows: usize,
) -> Batches {
    Box::new(batches.flat_map(move |batch| -> Batches {
        match batch {
            Err(error) => Box::new(std::iter::once(Err(error))),
            Ok(batch) => Box::new(
                (0..batch.num_rows())
                    .step_by(n_rows)
                    .map(move |at| Ok(batch.slice(at, n_rows.min(batch.num_rows() - at)))),
            ),
        }
    }))
}

/// Runs a decoder: one that panics on a damaged file gives an error like any other.
fn guarded<T>(name: &str, call: impl FnOnce() -> Result<T, FileError>) -> Result<T, FileError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let said = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(FileError::Unreadable {
            file: name.to_owned(),
            reason: format!("its decoder gave up: {}", crate::text::shorten(said)),
        })
    })
}

fn failed(name: &str, error: &ArrowError) -> FileError {
    FileError::Unreadable { file: name.to_owned(), reason: first_line(&error.to_string()) }
}

/// A file of a format that ends with `mark` and does not is truncated; anything else is simply damaged.
fn truncated_or(found: &Found, mark: &[u8], error: &ArrowError) -> FileError {
    use std::io::Seek as _;
    let ends_well = || -> Result<bool, io::Error> {
        let mut file = File::open(&found.path)?;
        let n_bytes = file.seek(io::SeekFrom::End(0))?;
        let mut end = Vec::new();
        file.seek(io::SeekFrom::Start(n_bytes.saturating_sub(mark.len() as u64)))?;
        file.read_to_end(&mut end)?;
        Ok(end == mark && 2 * mark.len() as u64 <= n_bytes)
    };
    match ends_well() {
        Ok(true) => failed(&found.name, error),
        Ok(false) => FileError::Truncated {
            file: found.name.clone(),
            reason: format!("it does not end with `{}`", String::from_utf8_lossy(mark)),
        },
        Err(error) => FileError::io(&found.name, error),
    }
}

/// What a text reader's error means.
fn text_failed(name: &str, nul: &AtomicU64, reason: String) -> FileError {
    let file = name.to_owned();
    let line = nul.load(Ordering::Relaxed);
    if line != 0 {
        return FileError::NulByte { file, line };
    }
    if let Some(error) = ragged(name, &reason) {
        return error;
    }
    if reason.contains("unexpected end of file") || reason.contains("incomplete frame") {
        return FileError::Truncated { file, reason: "its compression ends too early".to_owned() };
    }
    FileError::Unreadable { file, reason: first_line(&reason) }
}

/// `incorrect number of fields for line 3, expected 2 got 1`, as arrow-csv says it.
fn ragged(name: &str, reason: &str) -> Option<FileError> {
    let (line, rest) =
        reason.split_once("incorrect number of fields for line ")?.1.split_once(", expected ")?;
    let (expected, found) = rest.split_once(" got ")?;
    Some(FileError::Ragged {
        file: name.to_owned(),
        line: line.parse().ok()?,
        expected: expected.to_owned(),
        found: found.to_owned(),
    })
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(200).collect()
}

fn text_schema(columns: impl IntoIterator<Item = (String, bool)>) -> SchemaRef {
    let nested = DataType::Struct(arrow::datatypes::Fields::empty());
    let fields: Vec<Field> = columns
        .into_iter()
        .map(|(name, is_nested)| {
            Field::new(name, if is_nested { nested.clone() } else { DataType::Utf8 }, true)
        })
        .collect();
    Arc::new(ArrowSchema::new(fields))
}

fn csv_header(reader: impl BufRead) -> Result<Vec<String>, String> {
    let format = arrow::csv::reader::Format::default().with_header(true);
    let (schema, _) = format.infer_schema(reader, Some(0)).map_err(|error| error.to_string())?;
    Ok(schema.fields().iter().map(|it| it.name().clone()).collect())
}

/// The keys of the first objects in the order they come up, and whether a key holds lists or objects; none at all
/// where there is no object.
fn json_keys(reader: impl BufRead) -> Result<Vec<(String, bool)>, String> {
    let mut keys: Vec<(String, bool)> = Vec::new();
    let objects = serde_json::Deserializer::from_reader(reader).into_iter::<Keys>();
    for object in objects.take(JSON_SAMPLE_ROWS) {
        for (key, is_nested) in object.map_err(|error| error.to_string())?.0 {
            match keys.iter_mut().find(|(known, _)| *known == key) {
                Some((_, known)) => *known |= is_nested,
                None => keys.push((key, is_nested)),
            }
        }
    }
    Ok(keys)
}

/// The keys of one JSON object, in order.
struct Keys(Vec<(String, bool)>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfObject;
        impl<'de> Visitor<'de> for OfObject {
            type Value = Keys;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("one JSON object a line")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = Vec::new();
                while let Some(key) = map.next_key()? {
                    let Shape(is_nested) = map.next_value()?;
                    keys.push((key, is_nested));
                }
                Ok(Keys(keys))
            }
        }
        deserializer.deserialize_map(OfObject)
    }
}

/// Whether a JSON value is a list or an object.
struct Shape(bool);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfValue;
        impl<'de> Visitor<'de> for OfValue {
            type Value = Shape;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("any JSON value")
            }
            fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
                Ok(Shape(false))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
                Ok(Shape(false))
            }
            fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
                Ok(Shape(false))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
                Ok(Shape(false))
            }
            fn visit_str<E>(self, _: &str) -> Result<Shape, E> {
                Ok(Shape(false))
            }
            fn visit_unit<E>(self) -> Result<Shape, E> {
                Ok(Shape(false))
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut seq: A,
            ) -> Result<Shape, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Shape(true))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Shape(true))
            }
        }
        deserializer.deserialize_any(OfValue)
    }
}

/// Opens a text file without its compression and byte order mark; `nul` becomes the line of the first NUL byte.
fn text(
    found: &Found,
    packing: Packing,
    nul: &Arc<AtomicU64>,
) -> Result<BufReader<TextReader>, FileError> {
    let mut inner = unpacked(found, packing)?;
    let mut start = Vec::with_capacity(3);
    inner
        .by_ref()
        .take(3)
        .read_to_end(&mut start)
        .map_err(|error| FileError::io(&found.name, error))?;
    if start == b"\xef\xbb\xbf" {
        start.clear();
    }
    let reader = TextReader {
        inner: Box::new(io::Cursor::new(start).chain(inner)),
        line: 1,
        nul: Arc::clone(nul),
    };
    Ok(BufReader::with_capacity(1 << 18, reader))
}

/// Passes text on and refuses NUL bytes, which no text has and which decoders disagree about.
struct TextReader {
    inner: Box<dyn Read + Send>,
    line: u64,
    nul: Arc<AtomicU64>,
}

impl Read for TextReader {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, io::Error> {
        let n = self.inner.read(into)?;
        let read = &into[..n];
        let lines = |bytes: &[u8]| bytes.iter().map(|byte| u64::from(*byte == b'\n')).sum::<u64>();
        if let Some(at) = read.iter().position(|byte| *byte == 0) {
            self.nul.store(self.line + lines(&read[..at]), Ordering::Relaxed);
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a NUL byte"));
        }
        self.line += lines(read);
        Ok(n)
    }
}
