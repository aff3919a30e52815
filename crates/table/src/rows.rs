//! The labelled rows of a split, encoded once and fetched in any order: in memory while they fit, else in a file of
//! fixed-width records.
//!
//! Reading order: [`encode`], [`Store`].

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use arrow::array::{ArrayRef, AsArray, BooleanArray};
use arrow::compute::filter;
use arrow::datatypes::Float64Type;
use karat_core::{
    Batch, ColumnType, Failure, FeaturePlan, Name,
    port::{EncodedRows, Located},
    thousands,
};

use crate::{
    cast::{canonical_type, present},
    encode::{CLASS_UNKNOWN, Encoder, Labels},
    error::{FitError, internal},
    read::{Need, RowStream, Wanted},
    score::refuse_other_types,
    snapshot::Files,
    split::{RowRule, find},
    text::shown,
};

/// Encoded rows kept in memory; more go to a file.
pub(crate) const MEMORY_MAX: usize = 2 << 30;

/// Encodes the labelled rows of `split`.
pub(crate) fn encode(
    located: &Located,
    files: &Files,
    split: &Name,
    plan: &FeaturePlan,
    threads: usize,
    folder: &Path,
    memory_max: usize,
) -> Result<Box<dyn EncodedRows>, Failure> {
    let schema = &located.schema;
    refuse_other_types(schema, plan)?;
    let rule = RowRule::compile(split, find(located, split)?, schema)?;
    let label_name = plan.label.column();
    let label = schema.expect_column(label_name, "the model's label")?;

    let mut wanted = Wanted::default();
    for feature in &plan.features {
        wanted.add(&feature.column, feature.ty, Need::Model);
    }
    if let Some(image) = &plan.image {
        wanted.add_column(schema.expect_column(&image.column, "the model's image")?, Need::Model);
    }
    wanted.add(label_name, label.ty, Need::As("the label"));
    if let Some(weight) = &plan.weight {
        wanted.add(weight, ColumnType::Float, Need::As("the row weight"));
    }
    rule.want(schema, &mut wanted);

    let mut encoder = Encoder::new(plan);
    let mut labels = Labels::new(&canonical_type(label.ty), &plan.label);
    let mut store = Store::new(encoder.batch(), plan.weight.is_some(), folder, memory_max);
    let mut batch = encoder.batch();
    for block in RowStream::open(files.found.clone(), wanted, threads)? {
        let block = block?;
        let is_in = rule.mask(&block)?;
        let mut is_in = &is_in & &present(block.array(label_name)?);
        if let Some(image) = &plan.image {
            // What is no image teaches nothing. `schema.type` counts such rows and has the limit.
            is_in = &is_in & &present(block.array(&image.column)?);
        }
        let n_rows = is_in.count_set_bits();
        if n_rows == 0 {
            continue;
        }
        let is_in = BooleanArray::new(is_in, None);
        let kept = |array: &ArrayRef| -> ArrayRef {
            if n_rows == is_in.len() {
                ArrayRef::clone(array)
            } else {
                filter(array, &is_in).expect("the mask is as long as the column")
            }
        };
        let place = |kept_row: usize| {
            let row = is_in.values().set_indices().nth(kept_row).unwrap_or(0);
            let position = files.position(block.file, block.first_row) + row as u64;
            let (file, row) = files.place(position);
            format!("`{}` row {}", files.found[file].name, thousands(row + 1))
        };
        batch.clear();
        let columns = plan
            .features
            .iter()
            .map(|it| it.column.as_str())
            .chain(plan.image.iter().map(|it| it.column.as_str()))
            .map(|it| block.array(it).map(&kept))
            .collect::<Result<Vec<_>, Failure>>()?;
        encoder.append(n_rows, &columns, &mut batch);
        let label_column = kept(block.array(label_name)?);
        labels.append(&label_column, &mut batch.label);
        if let Labels::Class(_) = labels
            && let Some(row) =
                batch.label.iter().position(|it| it.to_bits() == CLASS_UNKNOWN.to_bits())
        {
            return Err(FitError::ClassUnseen {
                column: label_name.to_owned(),
                class: shown(&label_column, row),
                classes: plan.label.classes().iter().take(20).cloned().collect(),
                place: place(row),
            }
            .into());
        }
        if let Some(weight) = &plan.weight {
            let column = kept(block.array(weight)?);
            append_weights(weight, &column, &mut batch.weight, &place)?;
        }
        store.push(&batch)?;
    }
    Ok(Box::new(store.finish()?))
}

fn append_weights(
    name: &str,
    column: &ArrayRef,
    out: &mut Vec<f32>,
    place: &dyn Fn(usize) -> String,
) -> Result<(), FitError> {
    for (i, weight) in column.as_primitive::<Float64Type>().iter().enumerate() {
        match weight {
            Some(weight) if weight.is_finite() && 0.0 <= weight => out.push(weight as f32),
            _ => {
                return Err(FitError::Weight {
                    column: name.to_owned(),
                    found: weight.map_or_else(|| "missing".to_owned(), |it| it.to_string()),
                    place: place(i),
                });
            }
        }
    }
    Ok(())
}

/// Rows being collected, then rows being fetched.
pub(crate) struct Store {
    rows: Batch,
    has_weight: bool,
    n_rows: u64,
    memory_max: usize,
    folder: PathBuf,
    spilled: Option<Spilled>,
}

struct Spilled {
    file: BufWriter<File>,
    path: PathBuf,
    record: Vec<u8>,
}

impl Drop for Spilled {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A new file that only this process knows.
pub(crate) fn scratch_file(folder: &Path) -> Result<(File, PathBuf), io::Error> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    std::fs::create_dir_all(folder)?;
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!("karat-{}-{n}.rows", std::process::id()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    Ok((file, path))
}

impl Store {
    fn new(empty: Batch, has_weight: bool, folder: &Path, memory_max: usize) -> Self {
        Self {
            rows: empty,
            has_weight,
            n_rows: 0,
            memory_max,
            folder: folder.to_owned(),
            spilled: None,
        }
    }

    fn record_bytes(&self) -> usize {
        let words =
            self.rows.n_numeric + self.rows.n_categorical + 1 + usize::from(self.has_weight);
        4 * words + self.rows.n_pixels
    }

    fn failed(&self, source: io::Error) -> Failure {
        FitError::Spill { folder: self.folder.display().to_string(), source }.into()
    }

    fn push(&mut self, batch: &Batch) -> Result<(), Failure> {
        self.n_rows += batch.n_rows as u64;
        if self.spilled.is_none() {
            self.rows.n_rows += batch.n_rows;
            self.rows.numeric.extend_from_slice(&batch.numeric);
            self.rows.categorical.extend_from_slice(&batch.categorical);
            self.rows.pixels.extend_from_slice(&batch.pixels);
            self.rows.label.extend_from_slice(&batch.label);
            self.rows.weight.extend_from_slice(&batch.weight);
            if self.rows.n_rows * self.record_bytes() <= self.memory_max {
                return Ok(());
            }
            let (file, path) = scratch_file(&self.folder).map_err(|error| self.failed(error))?;
            let file = BufWriter::with_capacity(1 << 20, file);
            self.spilled = Some(Spilled { file, path, record: Vec::new() });
            let n_pixels = self.rows.n_pixels;
            let empty = Batch::new(self.rows.n_numeric, self.rows.n_categorical);
            let rows = std::mem::replace(&mut self.rows, Batch { n_pixels, ..empty });
            return self.spill(&rows);
        }
        self.spill(batch)
    }

    fn spill(&mut self, batch: &Batch) -> Result<(), Failure> {
        let Some(spilled) = &mut self.spilled else { return Ok(()) };
        let (m, k, p) = (batch.n_numeric, batch.n_categorical, batch.n_pixels);
        let mut write = || -> Result<(), io::Error> {
            for i in 0..batch.n_rows {
                let record = &mut spilled.record;
                record.clear();
                let mut put = |bytes: [u8; 4]| record.extend_from_slice(&bytes);
                batch.numeric[i * m..(i + 1) * m].iter().for_each(|x| put(x.to_le_bytes()));
                batch.categorical[i * k..(i + 1) * k].iter().for_each(|x| put(x.to_le_bytes()));
                put(batch.label[i].to_le_bytes());
                if let Some(weight) = batch.weight.get(i) {
                    put(weight.to_le_bytes());
                }
                record.extend_from_slice(&batch.pixels[i * p..(i + 1) * p]);
                spilled.file.write_all(record)?;
            }
            Ok(())
        };
        write().map_err(|error| self.failed(error))
    }

    fn finish(mut self) -> Result<Self, Failure> {
        if let Some(spilled) = &mut self.spilled {
            let flushed = spilled.file.flush();
            flushed.map_err(|error| self.failed(error))?;
        }
        Ok(self)
    }
}

impl EncodedRows for Store {
    fn n_rows(&self) -> u64 {
        self.n_rows
    }

    fn fetch(&mut self, rows: &[u64], into: &mut Batch) -> Result<(), Failure> {
        into.clear();
        (into.n_numeric, into.n_categorical) = (self.rows.n_numeric, self.rows.n_categorical);
        into.n_pixels = self.rows.n_pixels;
        if let Some(row) = rows.iter().find(|it| self.n_rows <= **it) {
            return Err(internal(format_args!("row {row} of {} was asked for", self.n_rows)));
        }
        into.n_rows = rows.len();
        let (m, k, p) = (into.n_numeric, into.n_categorical, into.n_pixels);
        let record_bytes = self.record_bytes();
        let Some(spilled) = &mut self.spilled else {
            let from = &self.rows;
            for row in rows {
                let i = usize::try_from(*row).expect("rows in memory can be counted by usize");
                into.numeric.extend_from_slice(&from.numeric[i * m..(i + 1) * m]);
                into.categorical.extend_from_slice(&from.categorical[i * k..(i + 1) * k]);
                into.pixels.extend_from_slice(&from.pixels[i * p..(i + 1) * p]);
                into.label.push(from.label[i]);
                if let Some(weight) = from.weight.get(i) {
                    into.weight.push(*weight);
                }
            }
            return Ok(());
        };
        let mut record = std::mem::take(&mut spilled.record);
        record.resize(record_bytes, 0);
        for row in rows {
            let file = spilled.file.get_mut();
            let read = file
                .seek(SeekFrom::Start(row * record_bytes as u64))
                .and_then(|_| file.read_exact(&mut record));
            if let Err(source) = read {
                let folder = self.folder.display().to_string();
                return Err(FitError::Spill { folder, source }.into());
            }
            let (words, pixels) = record.split_at(record_bytes - p);
            into.pixels.extend_from_slice(pixels);
            let mut words = words
                .chunks_exact(4)
                .map(|it| <[u8; 4]>::try_from(it).expect("chunks of four bytes"));
            into.numeric.extend(words.by_ref().take(m).map(f32::from_le_bytes));
            into.categorical.extend(words.by_ref().take(k).map(u32::from_le_bytes));
            into.label.extend(words.by_ref().take(1).map(f32::from_le_bytes));
            into.weight.extend(words.map(f32::from_le_bytes));
        }
        spilled.record = record;
        Ok(())
    }
}
