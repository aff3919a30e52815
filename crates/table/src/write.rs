//! Writing predictions: Parquet, CSV or JSON lines by extension. The same rows give the same bytes.
//!
//! Rows come in chunks of exactly [`WRITE_ROWS`]: where a Parquet page ends depends on how rows are handed over, and
//! must not depend on anybody's batch size.
//!
//! Reading order: [`Rechunker`], [`Writer`], [`RowDigest`].

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    sync::Arc,
};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type, SchemaRef, TimestampMillisecondType};
use karat_core::{Digest, DigestBuilder};
use parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
    basic::{Compression, ZstdLevel},
    file::{metadata::KeyValue, properties::WriterProperties},
    schema::types::ColumnPath,
};

use crate::{cast::joined, error::ScoreError, text::Texts};

/// Rows written at once.
pub(crate) const WRITE_ROWS: usize = 16_384;
/// Rows of one Parquet row group: what the writer holds in memory.
const GROUP_ROWS: usize = 32 * WRITE_ROWS;

/// Columns of equal length, cut anew.
pub(crate) struct Rechunker {
    pieces: Vec<(usize, Vec<ArrayRef>)>,
    n_waiting: usize,
    n_rows: usize,
}

impl Rechunker {
    /// Cuts into chunks of `n_rows`.
    pub(crate) fn new(n_rows: usize) -> Self {
        Self { pieces: Vec::new(), n_waiting: 0, n_rows: n_rows.max(1) }
    }

    /// Takes rows in.
    pub(crate) fn push(&mut self, n_rows: usize, columns: Vec<ArrayRef>) {
        if 0 < n_rows {
            self.n_waiting += n_rows;
            self.pieces.push((n_rows, columns));
        }
    }

    /// The next full chunk; with `is_last`, also one that is not full.
    pub(crate) fn pop(&mut self, is_last: bool) -> Option<(usize, Vec<ArrayRef>)> {
        if self.n_waiting == 0 || (self.n_waiting < self.n_rows && !is_last) {
            return None;
        }
        let n = self.n_rows.min(self.n_waiting);
        self.n_waiting -= n;
        let mut parts: Vec<Vec<ArrayRef>> = Vec::new();
        let mut missing = n;
        let mut n_used = 0;
        for (n_rows, columns) in &mut self.pieces {
            let take = missing.min(*n_rows);
            parts.push(columns.iter().map(|it| it.slice(0, take)).collect());
            missing -= take;
            if take == *n_rows {
                n_used += 1;
            } else {
                let rest = *n_rows - take;
                for column in columns {
                    *column = column.slice(take, rest);
                }
                *n_rows = rest;
            }
            if missing == 0 {
                break;
            }
        }
        self.pieces.drain(..n_used);
        let columns = (0..parts[0].len())
            .map(|column| {
                let pieces: Vec<ArrayRef> =
                    parts.iter().map(|it| ArrayRef::clone(&it[column])).collect();
                joined(&pieces)
            })
            .collect();
        Some((n, columns))
    }
}

/// A predictions file being written.
pub(crate) struct Writer {
    file: String,
    form: Form,
}

enum Form {
    Parquet(Box<ArrowWriter<BufWriter<File>>>),
    Csv(Box<arrow::csv::Writer<BufWriter<File>>>),
    Json(Box<arrow::json::LineDelimitedWriter<BufWriter<File>>>),
}

impl Writer {
    /// Creates `path`. `scores` are columns of numbers that hardly repeat.
    pub(crate) fn create(
        path: &Path,
        schema: &SchemaRef,
        scores: &[String],
    ) -> Result<Self, ScoreError> {
        let file = path.display().to_string();
        let extension =
            path.extension().and_then(|it| it.to_str()).unwrap_or_default().to_ascii_lowercase();
        if !matches!(extension.as_str(), "parquet" | "pq" | "csv" | "json" | "jsonl" | "ndjson") {
            return Err(ScoreError::OutputFormat { file });
        }
        let failed = |reason: String| ScoreError::Write { file: file.clone(), reason };
        let out = File::create(path).map_err(|error| failed(error.to_string()))?;
        let out = BufWriter::with_capacity(1 << 20, out);
        let form = match extension.as_str() {
            "csv" => {
                Form::Csv(Box::new(arrow::csv::WriterBuilder::new().with_header(true).build(out)))
            }
            "parquet" | "pq" => {
                let level = ZstdLevel::try_new(1).map_err(|error| failed(error.to_string()))?;
                let mut properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(level))
                    .set_max_row_group_row_count(Some(GROUP_ROWS));
                for name in scores {
                    let column = ColumnPath::from(name.clone());
                    // Random mantissas do not compress.
                    properties = properties
                        .set_column_dictionary_enabled(column.clone(), false)
                        .set_column_compression(column, Compression::UNCOMPRESSED);
                }
                let options = ArrowWriterOptions::new()
                    .with_properties(properties.build())
                    .with_skip_arrow_metadata(true);
                let writer = ArrowWriter::try_new_with_options(out, Arc::clone(schema), options)
                    .map_err(|error| failed(error.to_string()))?;
                Form::Parquet(Box::new(writer))
            }
            _ => Form::Json(Box::new(
                arrow::json::WriterBuilder::new().with_explicit_nulls(true).build(out),
            )),
        };
        Ok(Self { file, form })
    }

    fn failed(&self, error: impl std::fmt::Display) -> ScoreError {
        ScoreError::Write { file: self.file.clone(), reason: error.to_string() }
    }

    /// Writes one chunk.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), ScoreError> {
        let written = match &mut self.form {
            Form::Parquet(writer) => writer.write(batch).map_err(|error| error.to_string()),
            Form::Csv(writer) => writer.write(batch).map_err(|error| error.to_string()),
            Form::Json(writer) => writer.write(batch).map_err(|error| error.to_string()),
        };
        written.map_err(|error| self.failed(error))
    }

    /// Ends the file. Metadata goes into the footer of Parquet; the other forms have no place for it.
    pub(crate) fn finish(self, metadata: Vec<(String, String)>) -> Result<(), ScoreError> {
        let failed = |error: String| ScoreError::Write { file: self.file.clone(), reason: error };
        let flush = |mut out: BufWriter<File>| -> Result<(), io::Error> { out.flush() };
        match self.form {
            Form::Parquet(mut writer) => {
                for (key, value) in metadata {
                    writer.append_key_value_metadata(KeyValue::new(key, value));
                }
                let out = writer.into_inner().map_err(|error| failed(error.to_string()))?;
                flush(out).map_err(|error| failed(error.to_string()))
            }
            Form::Csv(writer) => {
                flush(writer.into_inner()).map_err(|error| failed(error.to_string()))
            }
            Form::Json(mut writer) => {
                writer.finish().map_err(|error| failed(error.to_string()))?;
                flush(writer.into_inner()).map_err(|error| failed(error.to_string()))
            }
        }
    }
}

/// Digest over the key and label of rows, fed in chunks of [`WRITE_ROWS`] whatever the batches were.
pub(crate) struct RowDigest {
    builder: DigestBuilder,
    scratch: Vec<u8>,
}

impl RowDigest {
    /// No rows yet.
    pub(crate) fn new() -> Self {
        Self { builder: DigestBuilder::new("karat.rows.v1"), scratch: Vec::new() }
    }

    /// Adds one chunk: column by column its validity, then its values.
    pub(crate) fn update<'a>(&mut self, columns: impl IntoIterator<Item = &'a ArrayRef>) {
        for column in columns {
            let bytes = &mut self.scratch;
            bytes.clear();
            if let Some(nulls) = column.logical_nulls().filter(|it| 0 < it.null_count()) {
                bytes.extend(nulls.iter().map(u8::from));
            }
            self.builder.field(bytes);
            bytes.clear();
            write_bytes(column, bytes);
            self.builder.field(bytes);
        }
    }

    /// The digest of all chunks.
    pub(crate) fn finish(self) -> Digest {
        self.builder.finish()
    }
}

/// The values as bytes; zero, or an empty text, where missing.
fn write_bytes(column: &ArrayRef, out: &mut Vec<u8>) {
    let is_valid = |i: usize| column.is_valid(i);
    let mut words = |values: &mut dyn Iterator<Item = u64>| {
        for (i, value) in values.enumerate() {
            out.extend_from_slice(&(if is_valid(i) { value } else { 0 }).to_le_bytes());
        }
    };
    match column.data_type() {
        DataType::Boolean => {
            let values = column.as_boolean();
            out.extend((0..values.len()).map(|i| u8::from(values.is_valid(i) && values.value(i))));
        }
        DataType::Int64 => words(
            &mut column.as_primitive::<Int64Type>().values().iter().map(|it| it.cast_unsigned()),
        ),
        DataType::Float64 => {
            words(&mut column.as_primitive::<Float64Type>().values().iter().map(|it| it.to_bits()))
        }
        DataType::Timestamp(..) => words(
            &mut column
                .as_primitive::<TimestampMillisecondType>()
                .values()
                .iter()
                .map(|it| it.cast_unsigned()),
        ),
        _ => {
            let texts = Texts::of(column);
            for i in 0..column.len() {
                let text = texts.get(i).unwrap_or_default();
                out.extend_from_slice(&(text.len() as u64).to_le_bytes()[..4]);
                out.extend_from_slice(text.as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array as _, ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;

    use super::Rechunker;

    #[test]
    fn chunks_are_exact_whatever_comes_in() {
        let mut cutter = Rechunker::new(4);
        let mut out = Vec::new();
        let mut next = 0;
        for n in [1, 9, 0, 2, 3] {
            let column: ArrayRef = Arc::new(Int64Array::from_iter_values(next..next + n));
            next += n;
            cutter.push(column.len(), vec![column]);
            while let Some((_, columns)) = cutter.pop(false) {
                out.push(columns[0].as_primitive::<Int64Type>().values().to_vec());
            }
        }
        let (n, columns) = cutter.pop(true).expect("a rest");
        assert_eq!((n, columns[0].len()), (3, 3));
        out.push(columns[0].as_primitive::<Int64Type>().values().to_vec());
        assert!(cutter.pop(true).is_none());
        assert_eq!(out.concat(), (0..15).collect::<Vec<i64>>());
        assert!(out[..3].iter().all(|it| it.len() == 4));
    }
}
