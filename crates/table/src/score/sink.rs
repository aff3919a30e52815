//! Where scored rows go: what cannot be scored into quarantine, the rest into the predictions file.
//!
//! Reading order: [`Sink::run`], [`Quarantine`].

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
    sync::{Arc, mpsc::Receiver},
};

use arrow::array::{Array, ArrayRef, AsArray as _, Float32Array, RecordBatch, StringArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Int64Type, TimeUnit, TimestampMillisecondType};
use karat_core::{
    Failure, FeaturePlan, Task,
    port::{ScoreRequest, ScoreSummary},
};

use super::{COPIED, Layout, POSITION, Part, REASON, kept};
use crate::{
    cast::{plain_text, present},
    error::{ScoreError, internal},
    snapshot::Files,
    text::write_value,
    write::{Rechunker, RowDigest, WRITE_ROWS, Writer},
};

/// Quarantined rows that a failure shows.
const SHOWN_ROWS: usize = 5;

/// Takes out what cannot be scored, writes the rest.
pub(super) struct Sink<'a> {
    files: &'a Files,
    plan: &'a FeaturePlan,
    layout: &'a Layout,
    metadata: Vec<(String, String)>,
    quarantine: Quarantine<'a>,
    quarantine_max: f64,
    writer: Writer,
    digest: RowDigest,
    n_rows: u64,
    n_labeled: u64,
}

impl<'a> Sink<'a> {
    pub(super) fn create(
        files: &'a Files,
        plan: &'a FeaturePlan,
        request: &ScoreRequest<'a>,
        layout: &'a Layout,
    ) -> Result<Self, ScoreError> {
        // One that an earlier run left would be taken for this run's. Mostly there is none.
        let _ = std::fs::remove_file(request.quarantine);
        Ok(Self {
            files,
            plan,
            layout,
            metadata: request.metadata.clone(),
            quarantine: Quarantine {
                path: request.quarantine,
                file: None,
                n: 0,
                first: Vec::new(),
            },
            quarantine_max: request.quarantine_max,
            writer: Writer::create(request.out, &layout.schema, &layout.scores)?,
            digest: RowDigest::new(),
            n_rows: 0,
            n_labeled: 0,
        })
    }

    pub(super) fn run(
        mut self,
        parts: &Receiver<(Part, Vec<f32>)>,
    ) -> Result<ScoreSummary, Failure> {
        let mut cutter = Rechunker::new(WRITE_ROWS);
        for (part, scores) in parts {
            let (n_rows, columns) = self.scored(part, &scores)?;
            cutter.push(n_rows, columns);
            while let Some((n_rows, columns)) = cutter.pop(false) {
                self.write(n_rows, columns)?;
            }
        }
        while let Some((n_rows, columns)) = cutter.pop(true) {
            self.write(n_rows, columns)?;
        }
        self.finish()
    }

    /// Copied columns, scores and slices of the rows that have scores.
    fn scored(&mut self, part: Part, scores: &[f32]) -> Result<(usize, Vec<ArrayRef>), Failure> {
        let width = self.layout.scores.len();
        let mut columns = part.columns;
        let reasons = ArrayRef::clone(&columns[REASON]);
        let is_finite =
            |i: usize| scores[i * width..(i + 1) * width].iter().all(|it| it.is_finite());
        let is_good =
            BooleanBuffer::collect_bool(part.n_rows, |i| reasons.is_null(i) && is_finite(i));
        let n_good = is_good.count_set_bits();
        if n_good < part.n_rows {
            for i in (0..part.n_rows).filter(|i| !is_good.value(*i)) {
                let reason = if reasons.is_valid(i) {
                    crate::text::value_text(&reasons, i).unwrap_or_default()
                } else {
                    "its score is not a finite number".to_owned()
                };
                self.quarantine.add(self.files, self.layout, &columns, i, &reason)?;
            }
        }
        let position = ArrayRef::clone(&columns[POSITION]);
        columns.drain(..COPIED);
        let slices = columns.split_off(self.layout.copied.len());
        columns.insert(0, position);
        for output in 0..width {
            let values = (0..part.n_rows).map(|i| scores[i * width + output]);
            columns.push(Arc::new(Float32Array::from_iter_values(values)));
        }
        if self.plan.label.task() == Task::Multiclass {
            let classes = self.plan.label.classes();
            let best = (0..part.n_rows)
                .map(|i| classes[argmax(&scores[i * width..(i + 1) * width])].as_str());
            columns.push(Arc::new(StringArray::from_iter_values(best)));
        }
        columns.extend(slices);
        Ok(kept(part.n_rows, columns, is_good))
    }

    /// Writes one chunk: position, copied columns, scores, slices.
    fn write(&mut self, n_rows: usize, mut columns: Vec<ArrayRef>) -> Result<(), Failure> {
        self.n_rows += n_rows as u64;
        let position = columns.remove(0);
        let n_copied = self.layout.copied.len();
        for column in &mut columns {
            if let DataType::Dictionary(..) = column.data_type() {
                *column = plain_text(column);
            }
        }
        let label = self.layout.label.map(|it| &columns[it]);
        if let Some(label) = label {
            self.n_labeled += present(label).count_set_bits() as u64;
        }
        let keys = &columns[..self.layout.n_keys];
        let named = if keys.is_empty() { std::slice::from_ref(&position) } else { keys };
        self.digest.update(named.iter().chain(label));
        if self.layout.n_keys == 0 {
            columns.insert(0, position);
        }
        let n_offset = columns.len().min(n_copied + usize::from(self.layout.n_keys == 0));
        for (column, field) in columns[..n_offset].iter_mut().zip(self.layout.schema.fields()) {
            if column.data_type() != field.data_type() {
                *column = as_type(column, field.data_type())?;
            }
        }
        let batch = RecordBatch::try_new(Arc::clone(&self.layout.schema), columns)
            .map_err(|error| internal(format_args!("predictions: {error}")))?;
        Ok(self.writer.write(&batch)?)
    }

    fn finish(self) -> Result<ScoreSummary, Failure> {
        let n_quarantined = self.quarantine.n;
        let first = self.quarantine.finish()?;
        let rows = self.digest.finish();
        let mut metadata = self.metadata;
        metadata.extend(self.layout.metadata(self.plan));
        metadata.push(("karat.rows".to_owned(), rows.to_string()));
        self.writer.finish(metadata)?;
        let n_seen = self.n_rows + n_quarantined;
        if 0 < n_quarantined && self.quarantine_max < share(n_quarantined, n_seen) {
            return Err(ScoreError::Quarantine {
                n_quarantined,
                n_rows: n_seen,
                max_share: 100.0 * self.quarantine_max,
                first,
            }
            .into());
        }
        Ok(ScoreSummary { n_rows: self.n_rows, n_labeled: self.n_labeled, n_quarantined, rows })
    }
}

/// `column` as `ty`. Times are in UTC already: they get its name, where Arrow's cast would look up each one's offset.
fn as_type(column: &ArrayRef, ty: &DataType) -> Result<ArrayRef, Failure> {
    let milliseconds = TimeUnit::Millisecond;
    if let (DataType::Timestamp(from, None), DataType::Timestamp(to, Some(zone))) =
        (column.data_type(), ty)
        && *from == milliseconds
        && *to == milliseconds
    {
        let times = column.as_primitive::<TimestampMillisecondType>().clone();
        return Ok(Arc::new(times.with_timezone(Arc::clone(zone))));
    }
    arrow::compute::cast(column, ty)
        .map_err(|error| internal(format_args!("a copied column: {error}")))
}

fn share(n: u64, of: u64) -> f64 {
    n as f64 / of as f64
}

/// The first of the largest.
fn argmax(scores: &[f32]) -> usize {
    let mut best = 0;
    for (i, score) in scores.iter().enumerate() {
        if scores[best] < *score {
            best = i;
        }
    }
    best
}

/// The file of rows that could not be scored.
struct Quarantine<'a> {
    path: &'a Path,
    file: Option<BufWriter<File>>,
    n: u64,
    first: Vec<String>,
}

impl Quarantine<'_> {
    fn add(
        &mut self,
        files: &Files,
        layout: &Layout,
        columns: &[ArrayRef],
        i: usize,
        reason: &str,
    ) -> Result<(), Failure> {
        let position = columns[POSITION].as_primitive::<Int64Type>().value(i).cast_unsigned();
        let (file, row) = files.place(position);
        let (name, row) = (&files.found[file].name, row + 1);
        let mut key = String::new();
        for (at, column) in columns[COPIED..COPIED + layout.n_keys].iter().enumerate() {
            if 0 < at {
                key.push('/');
            }
            write_value(column, i, &mut key);
        }
        self.n += 1;
        if self.first.len() < SHOWN_ROWS {
            self.first.push(format!("`{name}` row {}: {reason}", karat_core::thousands(row)));
        }
        let line = serde_json::json!({"file": name, "row": row, "reason": reason, "key": key});
        let failed = |error: std::io::Error| ScoreError::Write {
            file: self.path.display().to_string(),
            reason: error.to_string(),
        };
        if self.file.is_none() {
            self.file = Some(BufWriter::new(File::create(self.path).map_err(failed)?));
        }
        if let Some(file) = &mut self.file {
            writeln!(file, "{line}").map_err(failed)?;
        }
        Ok(())
    }

    /// Ends the file; returns what a failure shows of it.
    fn finish(self) -> Result<Vec<String>, Failure> {
        if let Some(mut file) = self.file {
            file.flush().map_err(|error| ScoreError::Write {
                file: self.path.display().to_string(),
                reason: error.to_string(),
            })?;
        }
        Ok(self.first)
    }
}
