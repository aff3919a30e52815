//! Scoring: rows are read, encoded, scored and written at the same time, in order, with bounded queues between.
//!
//! ```text
//! reading threads ─▶ encoder thread ─▶ caller's thread: score ─▶ writer thread
//! ```
//!
//! A row that cannot be scored stays in the stream, marked with its reason, until the writer takes it out: so there
//! is one place that decides, and one order.
//!
//! Reading order: [`score`], [`Layout`], [`Source`], [`Sink`].

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use arrow::array::{Array, ArrayRef, BooleanArray, Float32Array, Int64Array, RecordBatch, StringArray};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter;
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef, TimeUnit};
use karat_core::{
    Batch, ColumnType, Failure, FeaturePlan, Role, Schema, SliceSpec, Task,
    port::{Located, OnProgress, ScoreRequest, ScoreSummary, Scorer, Stop},
};

use crate::{
    cast::{canonical_type, plain_text, present},
    encode::Encoder,
    error::{ScoreError, internal},
    predicate::Predicate,
    read::{Block, Need, RowStream, Wanted},
    snapshot::Files,
    split::RowRule,
    text::{shown, write_value},
    write::{Rechunker, RowDigest, WRITE_ROWS, Writer},
};

/// Batches that may wait between two threads.
const QUEUE: usize = 4;
/// Quarantined rows that a failure shows.
const SHOWN_ROWS: usize = 5;

/// Prefix of slice columns in predictions.
pub(crate) const SLICE_PREFIX: &str = "slice.";

/// Refuses a plan whose columns the schema declares with another type.
pub(crate) fn refuse_other_types(schema: &Schema, plan: &FeaturePlan) -> Result<(), ScoreError> {
    let other: Vec<String> = plan
        .features
        .iter()
        .filter_map(|feature| {
            let column = schema.column(&feature.column).filter(|it| it.ty != feature.ty)?;
            Some(format!(
                "`{}`: {} in the model, {} in the schema",
                feature.column,
                feature.ty.word(),
                column.ty.word()
            ))
        })
        .collect();
    if other.is_empty() { Ok(()) } else { Err(ScoreError::Types { columns: other.join(", ") }) }
}

/// The columns of a predictions file.
#[derive(Clone, Debug)]
struct Layout {
    /// Columns copied from the input: key, time, group, label, in this order, each once.
    copied: Vec<String>,
    /// How many of `copied` are the key, and where the label stands.
    n_keys: usize,
    label: Option<usize>,
    group: Option<String>,
    /// Names of the score columns.
    scores: Vec<String>,
    /// Names of the slice columns.
    slices: Vec<String>,
    schema: SchemaRef,
}

/// The column that stands for the key where the schema has none.
const ROW_COLUMN: &str = "row";

impl Layout {
    fn new(schema: &Schema, plan: &FeaturePlan, request: &ScoreRequest<'_>) -> Result<Self, Failure> {
        let mut copied: Vec<String> = schema.keys().map(|it| it.name.clone()).collect();
        let n_keys = copied.len();
        let add = |name: &str, copied: &mut Vec<String>| {
            if !copied.iter().any(|it| it == name) {
                copied.push(name.to_owned());
            }
        };
        let group = schema.names(Role::Group).next().map(str::to_owned);
        for name in schema.names(Role::Time).chain(group.as_deref()) {
            add(name, &mut copied);
        }
        let label = schema.column(plan.label.column()).map(|it| it.name.clone());
        if let Some(label) = &label {
            add(label, &mut copied);
        }
        let label = label.and_then(|label| copied.iter().position(|it| *it == label));

        let mut fields: Vec<Field> = Vec::new();
        if n_keys == 0 {
            fields.push(Field::new(ROW_COLUMN, DataType::Int64, false));
        }
        for name in &copied {
            let column = schema.expect_column(name, "the schema")?;
            fields.push(Field::new(name, output_type(column.ty), true));
        }
        let scores = match plan.label.task() {
            Task::Binary => vec!["score".to_owned()],
            Task::Regression => vec!["prediction".to_owned()],
            Task::Multiclass => {
                plan.label.classes().iter().map(|class| format!("score_{class}")).collect()
            }
        };
        fields.extend(scores.iter().map(|it| Field::new(it, DataType::Float32, false)));
        if plan.label.task() == Task::Multiclass {
            fields.push(Field::new("predicted", DataType::Utf8, false));
        }
        let mut slices = Vec::new();
        for (name, slice) in &request.slices {
            let name = format!("{SLICE_PREFIX}{name}");
            let (ty, is_nullable) = match slice {
                SliceSpec::Where(_) => (DataType::Boolean, false),
                SliceSpec::Values(_) => (DataType::Utf8, true),
            };
            fields.push(Field::new(&name, ty, is_nullable));
            slices.push(name);
        }
        for (i, field) in fields.iter().enumerate() {
            if fields[..i].iter().any(|it| it.name() == field.name()) {
                return Err(ScoreError::OutputRepeated { column: field.name().clone() }.into());
            }
        }
        let schema = Arc::new(ArrowSchema::new(fields));
        Ok(Self { copied, n_keys, label, group, scores, slices, schema })
    }

    fn metadata(&self, plan: &FeaturePlan) -> Vec<(String, String)> {
        let json = |value: serde_json::Value| value.to_string();
        let mut metadata = vec![
            ("karat.task".to_owned(), task_word(plan.label.task()).to_owned()),
            ("karat.classes".to_owned(), json(serde_json::json!(plan.label.classes()))),
            ("karat.keys".to_owned(), json(serde_json::json!(self.copied[..self.n_keys]))),
            ("karat.slices".to_owned(), json(serde_json::json!(self.slices))),
        ];
        if self.label.is_some() {
            metadata.push(("karat.label".to_owned(), plan.label.column().to_owned()));
        }
        if let Some(group) = &self.group {
            metadata.push(("karat.group".to_owned(), group.clone()));
        }
        metadata
    }
}

/// The word of a task in metadata.
pub(crate) const fn task_word(task: Task) -> &'static str {
    match task {
        Task::Binary => "binary",
        Task::Multiclass => "multiclass",
        Task::Regression => "regression",
    }
}

/// The type of a declared column in predictions: times say that they are UTC.
fn output_type(ty: ColumnType) -> DataType {
    match ty {
        ColumnType::Time => DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
        other => canonical_type(other),
    }
}

/// Rows on their way to the writer.
///
/// `columns` are: position in the dataset, reason for quarantine, the copied columns, the slices; and, on the way to
/// the encoder only, the features.
struct Part {
    n_rows: usize,
    columns: Vec<ArrayRef>,
    batch: Batch,
    /// Rows of the dataset read until here.
    n_read: u64,
}

const POSITION: usize = 0;
const REASON: usize = 1;
const COPIED: usize = 2;

/// Streams rows through `scorer` into `request.out`.
pub(crate) fn score(
    located: &Located,
    files: &Files,
    plan: &FeaturePlan,
    request: &ScoreRequest<'_>,
    scorer: Scorer<'_>,
    progress: OnProgress<'_>,
    stop: &dyn Stop,
    threads: usize,
) -> Result<ScoreSummary, Failure> {
    refuse_other_types(&located.schema, plan)?;
    let layout = Layout::new(&located.schema, plan, request)?;
    let source = Source::open(located, files, plan, request, &layout, threads)?;
    let sink = Sink::create(files, plan, request, &layout)?;
    let n_outputs = plan.label.n_outputs();
    let total = Some(files.n_rows());

    thread::scope(|scope| {
        let (to_score, parts) = sync_channel::<Result<Part, Failure>>(QUEUE);
        let (to_write, scored) = sync_channel::<(Part, Vec<f32>)>(QUEUE);
        let encoder = scope.spawn(move || source.run(&to_score));
        let writer = scope.spawn(move || sink.run(&scored));

        let mut n_read = 0;
        let mut score_all = || -> Result<(), Failure> {
            for part in &parts {
                let part = part?;
                if stop.is_requested() {
                    return Err(ScoreError::Stopped { n_rows: n_read }.into());
                }
                let scores = scorer(&part.batch)?;
                if scores.len() != part.n_rows * n_outputs {
                    return Err(internal(format_args!(
                        "{} scores for {} rows of {n_outputs}",
                        scores.len(),
                        part.n_rows
                    )));
                }
                n_read = part.n_read;
                if to_write.send((part, scores)).is_err() {
                    // The writer has failed and will say why.
                    return Ok(());
                }
                progress(n_read, total);
            }
            Ok(())
        };
        let outcome = score_all();
        drop(parts);
        drop(to_write);
        let encoded = encoder.join();
        let written = writer.join();
        outcome?;
        encoded.map_err(|_| internal("the encoding thread panicked"))?;
        written.map_err(|_| internal("the writing thread panicked"))?
    })
}

/// Reads and encodes.
struct Source<'a> {
    files: &'a Files,
    stream: RowStream,
    rule: Option<RowRule>,
    slices: Vec<Slice>,
    layout: &'a Layout,
    plan: &'a FeaturePlan,
    batch_size: usize,
}

enum Slice {
    Where(Predicate),
    Values(String),
}

impl<'a> Source<'a> {
    fn open(
        located: &Located,
        files: &'a Files,
        plan: &'a FeaturePlan,
        request: &ScoreRequest<'_>,
        layout: &'a Layout,
        threads: usize,
    ) -> Result<Self, Failure> {
        let schema = &located.schema;
        let mut wanted = Wanted::default();
        for feature in &plan.features {
            wanted.add(&feature.column, feature.ty, Need::Model);
        }
        for (at, name) in layout.copied.iter().enumerate() {
            let column = schema.expect_column(name, "the schema")?;
            // Rows without a label are scored all the same: that is what a model is for.
            let need = if layout.label == Some(at) && layout.n_keys <= at {
                Need::Optional
            } else {
                Need::As("key, time or group")
            };
            wanted.add(name, column.ty, need);
        }
        let rule = match request.split {
            Some((name, spec)) => Some(RowRule::compile(name, spec, schema)?),
            None => None,
        };
        if let Some(rule) = &rule {
            rule.want(schema, &mut wanted);
        }
        let mut slices = Vec::new();
        for (name, slice) in &request.slices {
            let rule = format!("slice `{name}`");
            match slice {
                SliceSpec::Where(text) => {
                    let predicate = Predicate::compile(&rule, text, schema)?;
                    for name in predicate.columns() {
                        let column = schema.expect_column(name, &rule)?;
                        wanted.add(name, column.ty, Need::As("part of a slice's predicate"));
                    }
                    slices.push(Slice::Where(predicate));
                }
                SliceSpec::Values(name) => {
                    let column = schema.expect_column(name, &rule)?;
                    wanted.add(name, column.ty, Need::As("the values of a slice"));
                    slices.push(Slice::Values(name.clone()));
                }
            }
        }
        let stream = RowStream::open(files.found.clone(), wanted, threads)?;
        Ok(Self { files, stream, rule, slices, layout, plan, batch_size: request.batch_size })
    }

    fn run(mut self, out: &SyncSender<Result<Part, Failure>>) {
        // A closed channel means that the caller has stopped.
        if let Err(failure) = self.parts(out) {
            let _ = out.send(Err(failure));
        }
    }

    fn parts(&mut self, out: &SyncSender<Result<Part, Failure>>) -> Result<(), Failure> {
        let mut encoder = Encoder::new(self.plan);
        let mut cutter = Rechunker::new(self.batch_size);
        let mut n_read = 0;
        loop {
            let block = self.stream.next().transpose()?;
            let is_last = block.is_none();
            if let Some(block) = block {
                n_read += block.n_rows as u64;
                let (n_rows, columns) = self.columns(&block)?;
                cutter.push(n_rows, columns);
            }
            while let Some((n_rows, mut columns)) = cutter.pop(is_last) {
                let features = columns.split_off(columns.len() - self.plan.features.len());
                let mut batch = encoder.batch();
                encoder.append(n_rows, &features, &mut batch);
                if out.send(Ok(Part { n_rows, columns, batch, n_read })).is_err() {
                    return Ok(());
                }
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// The rows to score: position, reason, copied columns, slices, features.
    fn columns(&self, block: &Block) -> Result<(usize, Vec<ArrayRef>), Failure> {
        let first = self.files.position(block.file, block.first_row).cast_signed();
        let n = i64::try_from(block.n_rows).unwrap_or(i64::MAX);
        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from_iter_values(first..first + n)), self.reasons(block)?];
        for name in &self.layout.copied {
            columns.push(ArrayRef::clone(block.array(name)?));
        }
        for slice in &self.slices {
            columns.push(match slice {
                Slice::Where(predicate) => Arc::new(BooleanArray::new(predicate.mask(block)?, None)),
                Slice::Values(name) => texts(block.array(name)?),
            });
        }
        for feature in &self.plan.features {
            columns.push(ArrayRef::clone(block.array(&feature.column)?));
        }
        let Some(rule) = &self.rule else { return Ok((block.n_rows, columns)) };
        let mask = rule.mask(block)?;
        Ok(kept(block.n_rows, columns, mask))
    }

    /// Why a row cannot be scored: a feature's value is not of its declared type.
    fn reasons(&self, block: &Block) -> Result<ArrayRef, Failure> {
        let mut reasons: Option<Vec<Option<String>>> = None;
        for feature in &self.plan.features {
            let column = block.column(&feature.column)?;
            let Some(wrong) = &column.wrong else { continue };
            let reasons = reasons.get_or_insert_with(|| vec![None; block.n_rows]);
            for i in wrong.set_indices() {
                // The first column at fault is reason enough.
                reasons[i].get_or_insert_with(|| {
                    format!(
                        "column `{}`: `{}` is not of type {}",
                        feature.column,
                        shown(&column.raw, i),
                        feature.ty.word()
                    )
                });
            }
        }
        Ok(match reasons {
            Some(reasons) => Arc::new(StringArray::from(reasons)),
            None => Arc::new(StringArray::new_null(block.n_rows)),
        })
    }
}

/// The rows of `mask`.
fn kept(n_rows: usize, columns: Vec<ArrayRef>, mask: BooleanBuffer) -> (usize, Vec<ArrayRef>) {
    let n_kept = mask.count_set_bits();
    if n_kept == n_rows {
        return (n_rows, columns);
    }
    let mask = BooleanArray::new(mask, None);
    let columns = columns
        .iter()
        .map(|it| filter(it, &mask).expect("the mask is as long as the column"))
        .collect();
    (n_kept, columns)
}

/// A column's values as text.
fn texts(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Utf8 | DataType::Dictionary(..) => ArrayRef::clone(array),
        _ => {
            let mut builder = arrow::array::StringBuilder::new();
            let mut text = String::new();
            for i in 0..array.len() {
                text.clear();
                builder.append_option(write_value(array, i, &mut text).then_some(&text));
            }
            Arc::new(builder.finish())
        }
    }
}

/// Takes out what cannot be scored, writes the rest.
struct Sink<'a> {
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
    fn create(
        files: &'a Files,
        plan: &'a FeaturePlan,
        request: &ScoreRequest<'a>,
        layout: &'a Layout,
    ) -> Result<Self, ScoreError> {
        Ok(Self {
            files,
            plan,
            layout,
            metadata: request.metadata.clone(),
            quarantine: Quarantine { path: request.quarantine, file: None, n: 0, first: Vec::new() },
            quarantine_max: request.quarantine_max,
            writer: Writer::create(request.out, &layout.schema, &layout.scores)?,
            digest: RowDigest::new(),
            n_rows: 0,
            n_labeled: 0,
        })
    }

    fn run(mut self, parts: &Receiver<(Part, Vec<f32>)>) -> Result<ScoreSummary, Failure> {
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
        let is_finite = |i: usize| scores[i * width..(i + 1) * width].iter().all(|it| it.is_finite());
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
            let best = (0..part.n_rows).map(|i| classes[argmax(&scores[i * width..(i + 1) * width])].as_str());
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
                *column = arrow::compute::cast(column, field.data_type())
                    .map_err(|error| internal(format_args!("a copied column: {error}")))?;
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
                first: first.0,
                file: first.1,
            }
            .into());
        }
        Ok(ScoreSummary { n_rows: self.n_rows, n_labeled: self.n_labeled, n_quarantined, rows })
    }
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
        use arrow::array::AsArray as _;
        let position =
            columns[POSITION].as_primitive::<arrow::datatypes::Int64Type>().value(i).cast_unsigned();
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

    fn finish(self) -> Result<(Vec<String>, String), Failure> {
        let path = self.path.display().to_string();
        if let Some(mut file) = self.file {
            file.flush().map_err(|error| ScoreError::Write { file: path.clone(), reason: error.to_string() })?;
        }
        Ok((self.first, path))
    }
}
