//! Scoring: rows are read, encoded, scored and written at the same time, in order, with bounded queues between.
//!
//! ```text
//! reading threads ─▶ encoder thread ─▶ caller's thread: score ─▶ writer thread
//! ```
//!
//! A row that cannot be scored stays in the stream, marked with its reason, until the writer takes it out: so there
//! is one place that decides, and one order.
//!
//! Reading order: [`score`], [`stream`], [`Layout`], [`Source`], [`Sink`].

mod layout;
mod sink;
mod source;

use std::{
    fs,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use arrow::array::{ArrayRef, BooleanArray};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter;
use karat_core::{
    Batch, Code, Failure, FeaturePlan, Schema,
    port::{Located, OnProgress, ScoreRequest, ScoreSummary, Scorer, Stop},
};

use crate::{
    error::{ScoreError, internal},
    snapshot::Files,
};
use layout::Layout;
pub(crate) use layout::{SLICE_PREFIX, task_word};
use sink::Sink;
use source::Source;

/// Batches that may wait between two threads.
const QUEUE: usize = 4;

/// The failure after which the quarantine file is kept: it tells what to mend.
const QUARANTINE_EXCEEDED: Code = Code::new("quarantine-exceeded");

/// Refuses a plan whose columns the schema declares with another type.
pub(crate) fn refuse_other_types(schema: &Schema, plan: &FeaturePlan) -> Result<(), ScoreError> {
    let mut other: Vec<String> = plan
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
    if let Some(image) = &plan.image
        && let Some(column) = schema.column(&image.column)
        && column.image().map(|it| it.shape) != Some(image.shape())
    {
        let found = match column.image() {
            Some(format) => format.shape.to_string(),
            None => column.ty.word().to_owned(),
        };
        other.push(format!(
            "`{}`: images of {} in the model, {found} in the schema",
            image.column,
            image.shape()
        ));
    }
    if other.is_empty() { Ok(()) } else { Err(ScoreError::Types { columns: other.join(", ") }) }
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

/// What the caller does with rows while they stream.
pub(crate) struct Caller<'a> {
    /// Gives the scores.
    pub(crate) scorer: Scorer<'a>,
    /// Hears how far it is.
    pub(crate) progress: OnProgress<'a>,
    /// Says when to end early.
    pub(crate) stop: &'a dyn Stop,
}

/// Streams rows through the caller's scorer into `request.out`, which is there afterwards only if all went well.
pub(crate) fn score(
    located: &Located,
    files: &Files,
    plan: &FeaturePlan,
    request: &ScoreRequest<'_>,
    caller: Caller<'_>,
    threads: usize,
) -> Result<ScoreSummary, Failure> {
    refuse_other_types(&located.schema, plan)?;
    let layout = Layout::new(&located.schema, plan, request)?;
    let source = Source::open(located, files, plan, request, &layout, threads)?;
    let sink = Sink::create(files, plan, request, &layout)?;
    let n_rows = files.n_rows();
    let result = stream(source, sink, caller, plan.label.n_outputs(), n_rows);
    if let Err(failure) = &result {
        // Half of the predictions are of no use. That they could not be removed would change nothing.
        let _ = fs::remove_file(request.out);
        if failure.code != QUARANTINE_EXCEEDED {
            let _ = fs::remove_file(request.quarantine);
        }
    }
    result
}

fn stream(
    source: Source<'_>,
    sink: Sink<'_>,
    caller: Caller<'_>,
    n_outputs: usize,
    n_rows: u64,
) -> Result<ScoreSummary, Failure> {
    thread::scope(|scope| {
        let (to_score, parts) = sync_channel::<Result<Part, Failure>>(QUEUE);
        let (to_write, scored) = sync_channel::<(Part, Vec<f32>)>(QUEUE);
        let encoder = scope.spawn(move || source.run(&to_score));
        let writer = scope.spawn(move || sink.run(&scored));

        let outcome = score_all(parts, to_write, caller, n_outputs, n_rows);
        let encoded = encoder.join();
        let written = writer.join();
        outcome?;
        encoded.map_err(|_| internal("the encoding thread panicked"))?;
        written.map_err(|_| internal("the writing thread panicked"))?
    })
}

/// Takes both ends of the queues along, so that the threads behind them end when this does.
fn score_all(
    parts: Receiver<Result<Part, Failure>>,
    to_write: SyncSender<(Part, Vec<f32>)>,
    caller: Caller<'_>,
    n_outputs: usize,
    n_rows: u64,
) -> Result<(), Failure> {
    let mut n_read = 0;
    for part in parts {
        let part = part?;
        if caller.stop.is_requested() {
            return Err(ScoreError::Stopped { n_rows: n_read }.into());
        }
        let scores = (caller.scorer)(&part.batch)?;
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
        (caller.progress)(n_read, Some(n_rows));
    }
    Ok(())
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
