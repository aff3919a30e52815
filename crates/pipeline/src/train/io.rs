//! What a training reads from and reports to, and the one thread beside it that makes checkpoints durable.

use std::{
    sync::mpsc::{Receiver, Sender, SyncSender},
    thread::ScopedJoinHandle,
    time::Duration,
};

use karat_core::{
    Event, Exit, Failure, Observer, Step, Timestamp, TrainSpec, UpdateRecord,
    port::{CheckpointFiles, EncodedRows, Part, Stop, TrainIo},
    thousands,
};
use karat_store::{RunHandle, RunLog, Store};

use super::cost::Stopwatch;
use crate::freeze::to_value;

/// How often a running training tells the store that it is alive.
pub(crate) const HEARTBEAT_MS: i64 = 10_000;
/// How often progress is told.
const PROGRESS_MS: i64 = 100;

/// What training and the checkpoint writer share. A `Lab` itself cannot cross threads: its ports need not.
#[derive(Clone, Copy)]
pub(super) struct Desk<'a> {
    pub(super) store: &'a Store,
    pub(super) clock: &'a (dyn Fn() -> Timestamp + Sync),
    pub(super) stop: &'a dyn Stop,
    pub(super) handle: &'a RunHandle,
    pub(super) spec: &'a TrainSpec,
}

/// A checkpoint on its way to the disk.
pub(super) struct Parcel {
    files: CheckpointFiles,
    is_best: bool,
}

/// The one checkpoint writer. A snapshot in memory is handed over and training goes on; the next one is taken when this
/// one is durable, so at most one is being written and none waits.
pub(super) fn write_checkpoints(
    desk: Desk<'_>,
    receive: &Receiver<Parcel>,
    report: &Sender<Event>,
) -> Result<(), Failure> {
    let Desk { store, handle, spec, .. } = desk;
    while let Ok(Parcel { files, is_best }) = receive.recv() {
        let update = files.state.update;
        let state = to_value(&files.state)?;
        let parts: [(&str, &[u8]); 2] =
            [("model.safetensors", &files.model), ("optimizer.safetensors", &files.optimizer)];
        let loss = files.state.best_eval_loss_bits.filter(|_| is_best).map(f64::from_bits);
        let digest =
            store.commit_checkpoint(handle, update, &parts, &state, loss, (desk.clock)())?;
        let policy = spec.checkpoint;
        store.prune_checkpoints(&handle.id, policy.keep_last, policy.keep_best)?;
        // Nobody may be listening any more when training has failed; the checkpoint is durable all the same.
        let _ = report.send(Event::CheckpointCommitted { update, digest });
    }
    Ok(())
}

pub(super) struct Io<'scope, 'a> {
    pub(super) desk: Desk<'a>,
    pub(super) observer: &'a mut dyn Observer,
    pub(super) train_rows: Box<dyn EncodedRows>,
    pub(super) eval_rows: Option<Box<dyn EncodedRows>>,
    pub(super) log: RunLog,
    pub(super) send: Option<SyncSender<Parcel>>,
    pub(super) reports: Receiver<Event>,
    pub(super) writer: Option<ScopedJoinHandle<'scope, Result<(), Failure>>>,
    pub(super) saved_at: Timestamp,
    pub(super) beaten_at: Timestamp,
    pub(super) pace: Pace,
    pub(super) started_at: Timestamp,
    pub(super) watch: Stopwatch,
}

/// How far training is and how fast, told a few times a second.
pub(crate) struct Pace {
    step: Step,
    n_updates: u64,
    n_rows: u64,
    started_at: Timestamp,
    told_at: Timestamp,
}

impl Pace {
    pub(crate) fn new(step: Step, n_updates: u64, now: Timestamp) -> Self {
        Self { step, n_updates, n_rows: 0, started_at: now, told_at: now }
    }

    pub(crate) fn after(&mut self, record: &UpdateRecord, now: Timestamp) -> Option<Event> {
        self.n_rows += record.n_rows;
        if now.0 - self.told_at.0 < PROGRESS_MS {
            return None;
        }
        self.told_at = now;
        let seconds = (now.0 - self.started_at.0) as f64 / 1000.0;
        let rate = (self.n_rows as f64 / seconds) as u64;
        Some(Event::Progress {
            step: self.step,
            done: record.update,
            total: Some(self.n_updates),
            note: format!("loss {:.4}, {} rows/s", record.loss, thousands(rate)),
        })
    }
}

impl Io<'_, '_> {
    /// Waits for the writer and gives its error, if it had one; then makes the log durable.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        let written = self.join_writer();
        self.pass_reports();
        written?;
        // Lines that never reached the disk would be missing from the artifact without a word.
        Ok(self.log.flush()?)
    }

    fn join_writer(&mut self) -> Result<(), Failure> {
        self.send = None;
        let panicked = || {
            Failure::new(
                "internal",
                Exit::Run,
                "internal error: the checkpoint writer panicked; this is a bug",
            )
        };
        let writer = self.writer.take();
        writer.map_or(Ok(()), |it| it.join().unwrap_or_else(|_| Err(panicked())))
    }

    fn pass_reports(&mut self) {
        while let Ok(event) = self.reports.try_recv() {
            self.observer.observe(event);
        }
    }
}

impl TrainIo for Io<'_, '_> {
    fn train_rows(&mut self) -> &mut dyn EncodedRows {
        &mut *self.train_rows
    }

    fn eval_rows(&mut self) -> Option<&mut dyn EncodedRows> {
        self.eval_rows.as_deref_mut().map(|rows| rows as &mut dyn EncodedRows)
    }

    fn keep(&mut self, files: CheckpointFiles, is_best: bool) -> Result<(), Failure> {
        // The log first: a checkpoint must never be ahead of it.
        self.log.flush()?;
        let update = files.state.update;
        let is_sent =
            self.send.as_ref().is_some_and(|send| send.send(Parcel { files, is_best }).is_ok());
        self.saved_at = (self.desk.clock)();
        self.pass_reports();
        if is_sent {
            return Ok(());
        }
        // The writer ends early only with an error. Asked again after that, it has none left to give.
        self.join_writer()?;
        Err(Failure::new(
            "internal",
            Exit::Run,
            format!(
                "internal error: nobody writes the checkpoint of update {update}; this is a bug"
            ),
        ))
    }

    fn log(&mut self, record: &UpdateRecord) -> Result<(), Failure> {
        self.watch.update(record.n_rows);
        Ok(self.log.append(record, (self.desk.clock)())?)
    }

    fn observe(&mut self, event: Event) {
        if let Event::Evaluated { update, loss, value, .. } = &event {
            self.log.note_evaluation(*update, *loss, *value);
        }
        self.pass_reports();
        let progress = match &event {
            Event::Updated(record) => self.pace.after(record, (self.desk.clock)()),
            _ => None,
        };
        self.observer.observe(event);
        if let Some(progress) = progress {
            self.observer.observe(progress);
        }
    }

    fn stop_requested(&self) -> bool {
        self.desk.stop.is_requested()
    }

    fn save_is_due(&mut self) -> bool {
        let now = (self.desk.clock)();
        if HEARTBEAT_MS <= now.0 - self.beaten_at.0 {
            self.beaten_at = now;
            // A lost lease is found again, and refused, at the next commit.
            if let Err(error) = self.desk.store.heartbeat(self.desk.handle, now) {
                self.observer.observe(Event::Warned {
                    code: "heartbeat-failed".to_owned(),
                    message: error.to_string(),
                });
            }
        }
        let every = Duration::from_secs(self.desk.spec.checkpoint.every_seconds);
        let waited = Duration::from_millis(u64::try_from(now.0 - self.saved_at.0).unwrap_or(0));
        !every.is_zero() && every <= waited
    }

    fn is_out_of_time(&self) -> bool {
        let used = (self.desk.clock)().0 - self.started_at.0;
        let limit = self.desk.spec.max_seconds.and_then(|it| i64::try_from(it * 1000).ok());
        limit.is_some_and(|it| it <= used)
    }

    fn lap(&mut self, part: Part) {
        self.watch.lap(part, (self.desk.clock)());
    }
}
