//! Single image files as rows: the file's name, its bytes, and the folder it lies in as its class.
//!
//! The bytes go on as they are: what cannot be decoded is a bad row, found where images are cast, and no bad file.
//!
//! Reading order: [`schema`], [`rows`], [`READ_FILES`].

use std::{fs, sync::Arc};

use arrow::array::{ArrayRef, BinaryArray, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef};

use crate::{
    error::FileError,
    files::Found,
    idx::{ID, IMAGE, LABEL},
};

/// Files read at once.
pub(crate) const READ_FILES: usize = 1024;
/// Bytes of files read at once.
const READ_BYTES: u64 = 16 << 20;
/// Bytes of one file: more than any image that is decoded needs.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Id, image, label.
pub(crate) fn schema() -> SchemaRef {
    Arc::new(ArrowSchema::new(vec![
        Field::new(ID, DataType::Utf8, false),
        Field::new(IMAGE, DataType::Binary, true),
        Field::new(LABEL, DataType::Utf8, true),
    ]))
}

/// How many of the first `files` are read at once: at least one.
pub(crate) fn n_at_once(files: &[Found]) -> usize {
    let mut n_bytes = 0;
    let mut n = 0;
    for file in files.iter().take(READ_FILES) {
        n_bytes += fs::metadata(&file.path).map_or(0, |it| it.len());
        if READ_BYTES < n_bytes && 0 < n {
            break;
        }
        n += 1;
    }
    n.max(1)
}

/// One row for each of `files`, with `columns` (ascending) only.
pub(crate) fn rows(files: &[Found], columns: &[usize]) -> Result<RecordBatch, FileError> {
    let name = |file: &Found| file.name.clone();
    let mut arrays: Vec<ArrayRef> = Vec::with_capacity(columns.len());
    for column in columns {
        arrays.push(match column {
            0 => Arc::new(StringArray::from_iter_values(files.iter().map(name))),
            1 => {
                let cells = files.iter().map(bytes).collect::<Result<Vec<_>, _>>()?;
                Arc::new(BinaryArray::from_iter_values(cells))
            }
            _ => Arc::new(files.iter().map(|it| class(&it.name)).collect::<StringArray>()),
        });
    }
    let failed = |error: arrow::error::ArrowError| FileError::Unreadable {
        file: files.first().map(name).unwrap_or_default(),
        reason: error.to_string(),
    };
    let schema = Arc::new(schema().project(columns).map_err(failed)?);
    let options = RecordBatchOptions::new().with_row_count(Some(files.len()));
    RecordBatch::try_new_with_options(schema, arrays, &options).map_err(failed)
}

fn bytes(file: &Found) -> Result<Vec<u8>, FileError> {
    let failed = |error| FileError::io(&file.name, error);
    if FILE_BYTES_MAX < fs::metadata(&file.path).map_err(failed)?.len() {
        // Read as nothing: a bad row.
        return Ok(Vec::new());
    }
    fs::read(&file.path).map_err(failed)
}

/// The folder a file lies in.
fn class(name: &str) -> Option<&str> {
    name.rsplit('/').nth(1).filter(|it| !it.is_empty())
}
