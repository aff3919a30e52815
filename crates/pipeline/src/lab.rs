//! What every step is given: the two ports, the store, a clock, a stop flag. Nothing here is global.

use std::{collections::BTreeMap, path::Path, time::Duration};

use karat_core::{
    Digest, Event, Exit, Failure, Host, Observer, RunId, Step, Timestamp,
    digest::DigestBuilder,
    port::{Engine, Stop, Tables},
    summary::CodeVersion,
};
use karat_gate::Parallel;
use karat_store::{RunEnd, RunHandle, RunStart, RunState, Store};
use serde_json::Value;

/// Name under which a run's metrics keep the line for people.
const SUMMARY: &str = "summary";

/// Everything a step may use.
pub struct Lab<'a> {
    /// Folder of `karat.toml`.
    pub root: &'a Path,
    /// Durable state.
    pub store: &'a Store,
    /// Rows.
    pub tables: &'a dyn Tables,
    /// Numbers.
    pub engine: &'a dyn Engine,
    /// Threads for the gate's resampling.
    pub parallel: &'a dyn Parallel,
    /// Wall clock.
    pub clock: &'a (dyn Fn() -> Timestamp + Sync),
    /// Whether to stop.
    pub stop: &'a dyn Stop,
    /// `karat 0.1.0`: part of every cache key.
    pub tool: String,
    /// Git state of the project.
    pub code: CodeVersion,
    /// The machine and the program; asked only when something is trained, because a digest of the executable takes time.
    pub host: &'a (dyn Fn() -> Host + Sync),
    /// Largest resident memory of this process so far, bytes, where the system tells.
    pub peak_memory: &'a (dyn Fn() -> Option<u64> + Sync),
    /// Resident memory of this process now, bytes, where the system tells.
    pub resident_memory: &'a (dyn Fn() -> Option<u64> + Sync),
    /// Time since some moment, never set back: what batches are timed with.
    pub stopwatch: &'a (dyn Fn() -> Duration + Sync),
    /// Who acts: `user@host`, or what CI says.
    pub actor: String,
}

/// What a step asks to be recorded and cached under.
pub(crate) struct Asked {
    pub(crate) step: Step,
    pub(crate) subject: String,
    pub(crate) spec: Value,
    pub(crate) inputs: BTreeMap<String, Digest>,
    pub(crate) seed: Option<u64>,
    /// Device class, or empty for steps that use none.
    pub(crate) device: String,
    pub(crate) total: Option<u64>,
}

impl Asked {
    /// A step is a function of (spec, input digests, seed, tool version, device class); those five, no more and no fewer.
    pub(crate) fn key(&self, tool: &str) -> Digest {
        let mut key = DigestBuilder::new("karat.step.v1");
        key.field(self.step.word().as_bytes());
        key.field(self.spec.to_string().as_bytes());
        for (name, digest) in &self.inputs {
            key.field(name.as_bytes()).field(digest.as_bytes());
        }
        key.field(&self.seed.unwrap_or(0).to_le_bytes());
        key.field(tool.as_bytes()).field(self.device.as_bytes());
        key.finish()
    }
}

/// What a step did.
pub(crate) struct Done {
    pub(crate) outputs: BTreeMap<String, Digest>,
    pub(crate) metrics: Value,
    pub(crate) summary: String,
}

/// Tells observers how far a step is, in the step's own unit: what the ports call while they work.
pub(crate) fn progress(
    observer: &mut dyn Observer,
    step: Step,
) -> impl FnMut(u64, Option<u64>) + Send + '_ {
    move |done, total| {
        observer.observe(Event::Progress { step, done, total, note: String::new() });
    }
}

/// Why a step ended early, and what it leaves for people to look at.
pub(crate) struct Undone {
    pub(crate) failure: Box<Failure>,
    pub(crate) outputs: BTreeMap<String, Digest>,
}

impl<E: Into<Failure>> From<E> for Undone {
    fn from(error: E) -> Self {
        Self { failure: Box::new(error.into()), outputs: BTreeMap::new() }
    }
}

/// A step's record, just made or found.
pub(crate) struct Recorded {
    pub(crate) run: RunId,
    pub(crate) outputs: BTreeMap<String, Digest>,
    pub(crate) metrics: Value,
    /// Wall time of the step when it ran.
    pub(crate) seconds: f64,
    pub(crate) is_cached: bool,
    /// Wall time of this call.
    waited: f64,
}

impl Recorded {
    /// The output called `name`; its absence is a bug of the step that recorded it.
    pub(crate) fn output(&self, name: &'static str) -> Result<Digest, Failure> {
        self.outputs.get(name).copied().ok_or_else(|| {
            Failure::new(
                "run-output-missing",
                Exit::Run,
                format!("run `{}` records no output `{name}`", self.run),
            )
            .hint("`karat verify` checks the whole store")
        })
    }

    /// The line of people for what the step did when it ran.
    pub(crate) fn summary(&self) -> String {
        self.metrics.get(SUMMARY).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// What observers are told at the end.
    pub(crate) fn finished(&self, step: Step, summary: String) -> Event {
        Event::StepFinished {
            step,
            run: Some(self.run.clone()),
            is_cached: self.is_cached,
            seconds: self.waited,
            summary,
        }
    }
}

impl Lab<'_> {
    /// The time.
    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Cache key of a step of this build.
    pub(crate) fn key(&self, asked: &Asked) -> Digest {
        asked.key(&self.tool)
    }

    /// Runs a step, or uses what an earlier run of it left, after checking that this is still there and unchanged.
    pub(crate) fn step(
        &self,
        observer: &mut dyn Observer,
        asked: Asked,
        work: impl FnOnce(&RunHandle, &mut dyn Observer) -> Result<Done, Undone>,
    ) -> Result<Recorded, Failure> {
        let step = asked.step;
        let recorded = self.record(observer, asked, work)?;
        observer.observe(recorded.finished(step, recorded.summary()));
        Ok(recorded)
    }

    /// As [`Lab::step`], for a caller who tells the end of the step in words of its own.
    pub(crate) fn record(
        &self,
        observer: &mut dyn Observer,
        asked: Asked,
        work: impl FnOnce(&RunHandle, &mut dyn Observer) -> Result<Done, Undone>,
    ) -> Result<Recorded, Failure> {
        let (step, started) = (asked.step, self.now());
        let key = self.key(&asked);
        let found = self.store.cached_run(step, &key)?;
        self.pass_warnings(observer);
        if let Some(found) = found {
            return Ok(Recorded {
                run: found.id,
                outputs: found.outputs,
                metrics: found.metrics,
                seconds: found.seconds,
                is_cached: true,
                waited: self.seconds_since(started),
            });
        }
        self.refuse_when_stopped(step)?;
        self.perform(observer, asked, work)
    }

    /// Runs a step and records it, whatever earlier runs of it there are.
    pub(crate) fn perform(
        &self,
        observer: &mut dyn Observer,
        asked: Asked,
        work: impl FnOnce(&RunHandle, &mut dyn Observer) -> Result<Done, Undone>,
    ) -> Result<Recorded, Failure> {
        let (key, started) = (self.key(&asked), self.now());
        let Asked { step, subject, spec, inputs, seed, device, total } = asked;
        observer.observe(Event::StepStarted { step, subject: subject.clone(), total });
        let (tool, code) = (self.tool.clone(), self.code.clone());
        let start = RunStart { step, key, subject, spec, inputs, seed, device, tool, code };
        let handle = self.store.begin_run(&start, self.now())?;
        match work(&handle, observer) {
            Ok(done) => self.complete(handle, done, self.seconds_since(started)),
            Err(undone) => {
                Err(self.give_up(&handle, undone, self.seconds_since(started), observer))
            }
        }
    }

    fn complete(&self, handle: RunHandle, done: Done, seconds: f64) -> Result<Recorded, Failure> {
        let Done { outputs, mut metrics, summary } = done;
        if let Value::Object(map) = &mut metrics {
            map.insert(SUMMARY.to_owned(), Value::String(summary));
        }
        let end = RunEnd { state: RunState::Complete, outputs, metrics, seconds, error: None };
        self.store.finish_run(&handle, &end, self.now())?;
        let RunEnd { outputs, metrics, .. } = end;
        let (run, is_cached) = (handle.id, false);
        Ok(Recorded { run, outputs, metrics, seconds, is_cached, waited: seconds })
    }

    /// Records a failure and gives it back. Runs that did not complete stay open on purpose: the same command takes them
    /// over and continues.
    fn give_up(
        &self,
        handle: &RunHandle,
        undone: Undone,
        seconds: f64,
        observer: &mut dyn Observer,
    ) -> Failure {
        let Undone { failure, outputs } = undone;
        let state = match failure.exit {
            Exit::Stopped | Exit::Interrupted | Exit::Terminated => RunState::Canceled,
            _ => RunState::Failed,
        };
        let error = Some(format!("{}: {}", failure.code, failure.message));
        let end = RunEnd { state, outputs, metrics: Value::Null, seconds, error };
        // The first failure is what a person needs; that it could not be recorded is only a warning.
        if let Err(second) = self.store.finish_run(handle, &end, self.now()) {
            observer.observe(Event::Warned {
                code: "run-not-recorded".to_owned(),
                message: format!(
                    "the failure of run `{}` could not be recorded: {second}",
                    handle.id
                ),
            });
        }
        *failure
    }

    /// A damaged output is a miss, not an error; but nobody should learn of damage by the time a step takes.
    pub(crate) fn pass_warnings(&self, observer: &mut dyn Observer) {
        for message in self.store.take_warnings() {
            observer.observe(Event::Warned { code: "output-damaged".to_owned(), message });
        }
    }

    /// Not every step can be stopped in its middle; none begins after a stop was asked for.
    fn refuse_when_stopped(&self, step: Step) -> Result<(), Failure> {
        if !self.stop.is_requested() {
            return Ok(());
        }
        Err(Failure::new(
            "stopped",
            Exit::Stopped,
            format!("stopped on request before step `{}`", step.word()),
        )
        .detail("every step before it is complete and on record")
        .hint("the same command continues from there"))
    }

    pub(crate) fn seconds_since(&self, started: Timestamp) -> f64 {
        (self.now().0 - started.0).max(0) as f64 / 1000.0
    }

    /// Reads an object as JSON of a known form.
    pub(crate) fn read_json<T: serde::de::DeserializeOwned>(
        &self,
        digest: &Digest,
        what: &str,
    ) -> Result<T, Failure> {
        let bytes = self.store.read(digest)?;
        serde_json::from_slice(&bytes).map_err(|error| {
            Failure::new(
                "record-unreadable",
                Exit::Run,
                format!("{what} `{}` is not in the form this build reads", digest.short()),
            )
            .because(&error)
            .hint("it was written by another version of karat; `karat show` names the writer of a run")
        })
    }

    /// Stores a value as JSON; equal values give equal bytes, because every map in our records is sorted.
    pub(crate) fn put_json<T: serde::Serialize>(&self, value: &T) -> Result<Digest, Failure> {
        let bytes = serde_json::to_vec_pretty(value).map_err(|error| {
            Failure::new(
                "internal",
                Exit::Run,
                "internal error: a record does not serialise; this is a bug",
            )
            .because(&error)
        })?;
        Ok(self.store.put_bytes(&bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use karat_core::{Digest, Step};
    use serde_json::json;

    use super::Asked;

    fn asked() -> Asked {
        Asked {
            step: Step::Train,
            subject: "fake on fake@9f3c21ab".to_owned(),
            spec: json!({ "epochs": 3 }),
            inputs: BTreeMap::from([("snapshot".to_owned(), Digest::of(b"rows"))]),
            seed: Some(7),
            device: "cpu".to_owned(),
            total: None,
        }
    }

    #[test]
    fn a_key_holds_five_things_no_more_and_no_fewer() {
        let tool = "karat 0.1.0";
        let words = Asked { subject: "other words".to_owned(), total: Some(9), ..asked() };
        assert_eq!(words.key(tool), asked().key(tool), "words for people change nothing");
        let other_rows = BTreeMap::from([("snapshot".to_owned(), Digest::of(b"other rows"))]);
        let other_name = BTreeMap::from([("model".to_owned(), Digest::of(b"rows"))]);
        let keys = BTreeSet::from([
            asked().key(tool),
            asked().key("karat 0.2.0"),
            Asked { step: Step::Score, ..asked() }.key(tool),
            Asked { spec: json!({ "epochs": 4 }), ..asked() }.key(tool),
            Asked { inputs: other_rows, ..asked() }.key(tool),
            Asked { inputs: other_name, ..asked() }.key(tool),
            Asked { seed: Some(8), ..asked() }.key(tool),
            Asked { device: "other".to_owned(), ..asked() }.key(tool),
        ]);
        assert_eq!(keys.len(), 8, "each of the others does");
    }
}
