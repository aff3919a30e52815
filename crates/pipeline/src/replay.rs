//! `replay`: train once more from a run's record and say whether the bits are the same.
//!
//! Everything comes from the record: spec, splits, schema, plan, and the snapshot's files by digest; `karat.toml` is not
//! asked. Nothing of the record, the registry or an alias is touched. The replay itself is recorded as a run, but never
//! used as a cached result: the point is to do it again.
//!
//! Reading order: [`Lab::replay`], `record` (what the record says, and whether it can be trusted), `compare`.

use std::collections::BTreeMap;

use karat_core::{
    Event, Exit, Failure, FeaturePlan, Likeness, Observer, Replay, RunId, Step, Timestamp,
    UpdateRecord,
    port::{CheckpointFiles, EncodedRows, FitRequest, Stop, TrainEnd, TrainIo},
    project::CheckpointPolicy,
    replay::Distance,
    thousands,
};
use karat_store::{RunHandle, RunRecord, Store, VersionRecord};
use serde_json::json;

use crate::{
    Lab,
    lab::{Asked, Done, Undone},
    train::{HEARTBEAT_MS, Pace},
};

mod compare;
mod record;

use compare::{Weights, columns, compare_updates, compare_weights};
pub(crate) use record::Recorded;

/// Version of the form of [`Replay`].
const REPLAY_VERSION: u32 = 1;

/// How a replay was asked for and what may be changed in it.
#[derive(Clone, Debug, Default)]
pub struct ReplayOptions {
    /// The version that the run was found by.
    pub version: Option<VersionRecord>,
    /// Threads; all cores when absent. Bits must not depend on it.
    pub threads: Option<usize>,
    /// Device by name; the recorded class when absent.
    pub device: Option<String>,
    /// Largest relative difference of losses and weights that still passes; only equal bits do when absent.
    pub tolerance: Option<f64>,
}

/// A replay and the run that recorded it.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// What came of it.
    pub replay: Replay,
    /// Its record.
    pub run: RunId,
}

impl Lab<'_> {
    /// Trains `run` once more. An error is about the replay; a difference is an answer.
    pub fn replay(
        &self,
        observer: &mut dyn Observer,
        run: &RunRecord,
        options: &ReplayOptions,
    ) -> Result<Replayed, Failure> {
        let mut recorded = Recorded::open(self, run, options)?;
        recorded.spec.threads = options.threads.unwrap_or(0);
        recorded.spec.device = options.device.clone().unwrap_or_else(|| run.device.clone());
        // Nobody continues a replay: it is done from the start or not at all.
        recorded.spec.checkpoint =
            CheckpointPolicy { every_updates: 0, every_seconds: 0, keep_last: 1, keep_best: 0 };
        let asked = Asked {
            step: Step::Replay,
            subject: format!("{}, run {}", recorded.subject, run.id),
            spec: json!({ "run": run.id, "threads": options.threads, "tolerance": options.tolerance }),
            inputs: BTreeMap::from([("model.json".to_owned(), recorded.manifest_digest)]),
            seed: run.seed,
            device: self.engine.device_class(&recorded.spec.device)?,
            total: Some(recorded.manifest.n_updates),
        };
        let mut replay = None;
        let done = self.perform(observer, asked, |handle, observer| {
            let found = self.replay_now(handle, observer, &recorded, options)?;
            let outputs = BTreeMap::from([("replay.json".to_owned(), self.put_json(&found)?)]);
            let metrics = json!({ "likeness": found.likeness, "run": found.run });
            let summary = summary(&found);
            replay = Some(found);
            Ok(Done { outputs, metrics, summary })
        })?;
        observer.observe(done.finished(Step::Replay, done.summary()));
        let replay = replay.ok_or_else(|| {
            let message = "internal error: a replay without a result; this is a bug";
            Failure::new("internal", Exit::Run, message)
        })?;
        Ok(Replayed { replay, run: done.run })
    }

    fn replay_now(
        &self,
        handle: &RunHandle,
        observer: &mut dyn Observer,
        recorded: &Recorded<'_>,
        options: &ReplayOptions,
    ) -> Result<Replay, Undone> {
        let Recorded { run, spec, located, manifest, .. } = recorded;
        let mut replay = Replay {
            version: REPLAY_VERSION,
            run: run.id.clone(),
            subject: recorded.subject.clone(),
            likeness: Likeness::Different,
            tolerance: options.tolerance,
            n_updates: [manifest.n_updates, 0],
            columns: Vec::new(),
            first: None,
            weights_between: [None, None],
            loss: Distance::UNKNOWN,
            weights: Distance::UNKNOWN,
            n_tensors: 0,
            n_parameters: manifest.n_parameters,
            tensors: Vec::new(),
            recorded_on: crate::train::environment(&run.metrics),
            replayed_on: self.environment(spec)?,
        };
        let about_rows = |failure: Failure| {
            failure.detail(format!(
                "run `{}` was trained on snapshot `{}`; nothing was replayed",
                run.id,
                located.snapshot.label()
            ))
        };
        let request = FitRequest { task: spec.task, positive: spec.positive.clone() };
        let plan = self.tables.fit(located, &spec.split_train, &request).map_err(about_rows)?;
        replay.columns = columns(&manifest.plan, &plan);
        if !replay.columns.is_empty() {
            return Ok(replay);
        }
        let (files, updates) = self.train_again(handle, observer, recorded, &plan)?;
        let Weights { n_tensors, distance, tensors } =
            compare_weights(&recorded.weights, &files.model)?;
        let course = compare_updates(&recorded.updates, &updates);
        if course.first.is_some() && manifest.chain.is_some() && manifest.chain == files.state.chain
        {
            return Err(record::altered(
                &run.id,
                "its metrics log is not the one that the model manifest names by a hash chain",
            )
            .into());
        }
        replay.n_updates[1] = files.state.update;
        (replay.first, replay.loss) = (course.first, course.loss);
        replay.weights_between = course.weights_between;
        (replay.n_tensors, replay.weights, replay.tensors) = (n_tensors, distance, tensors);
        let is_identical = replay.first.is_none() && files.model == recorded.weights;
        let is_within = |x| replay.loss.is_within(x) && replay.weights.is_within(x);
        let is_as_long = replay.n_updates[0] == replay.n_updates[1];
        replay.likeness = match options.tolerance {
            _ if is_identical => Likeness::Identical,
            Some(tolerance) if is_as_long && is_within(tolerance) => Likeness::WithinTolerance,
            Some(_) | None => Likeness::Different,
        };
        Ok(replay)
    }

    fn train_again(
        &self,
        handle: &RunHandle,
        observer: &mut dyn Observer,
        recorded: &Recorded<'_>,
        plan: &FeaturePlan,
    ) -> Result<(CheckpointFiles, Vec<UpdateRecord>), Failure> {
        let Recorded { spec, located, .. } = recorded;
        let train_rows = self.tables.encode(located, &spec.split_train, plan)?;
        let eval_rows = match located.dataset.splits.contains_key(&spec.split_eval) {
            true => Some(self.tables.encode(located, &spec.split_eval, plan)?)
                .filter(|rows| 0 < rows.n_rows()),
            false => None,
        };
        let n_updates = self.engine.n_updates(spec, train_rows.n_rows());
        let mut io = Again {
            lab: Desk { store: self.store, clock: self.clock, stop: self.stop, handle },
            observer,
            train_rows,
            eval_rows,
            updates: Vec::new(),
            n_updates_max: spec.max_seconds.map(|_| recorded.manifest.n_updates),
            beaten_at: self.now(),
            pace: Pace::new(Step::Replay, n_updates, self.now()),
        };
        match self.engine.train(spec, plan, None, &mut io)? {
            TrainEnd::Complete(files) => Ok((*files, io.updates)),
            TrainEnd::Stopped { update } => Err(Failure::new(
                "stopped",
                Exit::Interrupted,
                format!(
                    "stopped on request at update {} of {}",
                    thousands(update),
                    thousands(n_updates)
                ),
            )
            .detail("a replay keeps no checkpoint: the same command begins again")),
        }
    }
}

/// The line for people.
fn summary(replay: &Replay) -> String {
    let words = replay.likeness.words();
    if !replay.columns.is_empty() {
        return format!("{words}: the training split gives other numbers");
    }
    let n_updates = thousands(replay.n_updates[0]);
    match &replay.first {
        None if replay.tensors.is_empty() => {
            format!("{words}: {n_updates} updates, {} tensors", replay.n_tensors)
        }
        None => format!("{words}: {n_updates} updates agree, the final weights do not"),
        Some(first) => format!("{words}: since update {} of {n_updates}", thousands(first.update)),
    }
}

/// What a replaying engine reads from and reports to. Everything it gives stays in memory.
struct Again<'a> {
    lab: Desk<'a>,
    observer: &'a mut dyn Observer,
    train_rows: Box<dyn EncodedRows>,
    eval_rows: Option<Box<dyn EncodedRows>>,
    updates: Vec<UpdateRecord>,
    /// Updates after which the recorded training's time may have been up.
    n_updates_max: Option<u64>,
    beaten_at: Timestamp,
    pace: Pace,
}

/// The part of a [`Lab`] that can cross threads.
struct Desk<'a> {
    store: &'a Store,
    clock: &'a (dyn Fn() -> Timestamp + Sync),
    stop: &'a dyn Stop,
    handle: &'a RunHandle,
}

impl TrainIo for Again<'_> {
    fn train_rows(&mut self) -> &mut dyn EncodedRows {
        &mut *self.train_rows
    }

    fn eval_rows(&mut self) -> Option<&mut dyn EncodedRows> {
        self.eval_rows.as_deref_mut().map(|rows| rows as &mut dyn EncodedRows)
    }

    fn keep(&mut self, _: CheckpointFiles, _: bool) -> Result<(), Failure> {
        Ok(())
    }

    fn log(&mut self, record: &UpdateRecord) -> Result<(), Failure> {
        self.updates.push(*record);
        Ok(())
    }

    fn observe(&mut self, event: Event) {
        // The updates themselves are the record's; a replay tells how far it is and what is wrong.
        match event {
            Event::Updated(record) => {
                if let Some(progress) = self.pace.after(&record, (self.lab.clock)()) {
                    self.observer.observe(progress);
                }
            }
            Event::Warned { .. } => self.observer.observe(event),
            _ => {}
        }
    }

    fn stop_requested(&self) -> bool {
        self.lab.stop.is_requested()
    }

    fn is_out_of_time(&self) -> bool {
        self.n_updates_max.is_some_and(|it| it <= self.updates.len() as u64)
    }

    fn save_is_due(&mut self) -> bool {
        let now = (self.lab.clock)();
        if HEARTBEAT_MS <= now.0 - self.beaten_at.0 {
            self.beaten_at = now;
            if let Err(error) = self.lab.store.heartbeat(self.lab.handle, now) {
                self.observer.observe(Event::Warned {
                    code: "heartbeat-failed".to_owned(),
                    message: error.to_string(),
                });
            }
        }
        false
    }
}
