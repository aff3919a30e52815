//! What every step is given: the two ports, the store, a clock, a stop flag. Nothing here is global.

use std::{collections::BTreeMap, path::Path};

use karat_core::{
    Digest, Event, Failure, Observer, RunId, Step, Timestamp,
    digest::DigestBuilder,
    port::{Engine, Stop, Tables},
    summary::CodeVersion,
};
use karat_gate::Parallel;
use karat_store::{RunEnd, RunHandle, RunRecord, RunStart, RunState, Store};
use serde_json::Value;

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

/// What a step did.
pub(crate) struct Done {
    pub(crate) outputs: BTreeMap<String, Digest>,
    pub(crate) metrics: Value,
    pub(crate) summary: String,
}

/// A step's record, just made or found.
pub(crate) struct Recorded {
    pub(crate) run: RunId,
    pub(crate) outputs: BTreeMap<String, Digest>,
    pub(crate) metrics: Value,
    pub(crate) seconds: f64,
    pub(crate) is_cached: bool,
}

impl Recorded {
    /// The output called `name`; its absence is a bug of the step that recorded it.
    pub(crate) fn output(&self, name: &'static str) -> Result<Digest, Failure> {
        output(&self.outputs, name, &self.run)
    }
}

pub(crate) fn output(
    outputs: &BTreeMap<String, Digest>,
    name: &'static str,
    run: &RunId,
) -> Result<Digest, Failure> {
    outputs.get(name).copied().ok_or_else(|| {
        Failure::new(
            "run-output-missing",
            karat_core::Exit::Run,
            format!("run `{run}` records no output `{name}`"),
        )
        .hint("`karat verify` checks the whole store")
    })
}

impl Lab<'_> {
    /// The time.
    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Cache key: a step is a function of (spec, input digests, seed, tool version, device class); those five, no
    /// more and no fewer.
    pub(crate) fn key(&self, asked: &Asked) -> Digest {
        let mut key = DigestBuilder::new("karat.step.v1");
        key.field(asked.step.word().as_bytes());
        key.field(asked.spec.to_string().as_bytes());
        for (name, digest) in &asked.inputs {
            key.field(name.as_bytes()).field(digest.as_bytes());
        }
        key.field(&asked.seed.unwrap_or(0).to_le_bytes());
        key.field(self.tool.as_bytes()).field(asked.device.as_bytes());
        key.finish()
    }

    /// Runs a step, or uses what an earlier run of it left, after checking that this is still there and unchanged.
    pub(crate) fn step(
        &self,
        observer: &mut dyn Observer,
        asked: Asked,
        work: impl FnOnce(&RunHandle, &mut dyn Observer) -> Result<Done, Failure>,
    ) -> Result<Recorded, Failure> {
        let key = self.key(&asked);
        let (step, started) = (asked.step, self.now());
        if let Some(found) = self.store.cached_run(step, &key)? {
            observer.observe(Event::StepFinished {
                step,
                run: Some(found.id.clone()),
                is_cached: true,
                seconds: self.seconds_since(started),
                summary: summary_of(&found),
            });
            return Ok(Recorded {
                run: found.id,
                outputs: found.outputs,
                metrics: found.metrics,
                seconds: found.seconds,
                is_cached: true,
            });
        }
        observer.observe(Event::StepStarted {
            step,
            subject: asked.subject.clone(),
            total: asked.total,
        });
        let handle = self.store.begin_run(
            &RunStart {
                step,
                key,
                subject: asked.subject,
                spec: asked.spec,
                inputs: asked.inputs,
                seed: asked.seed,
                device: asked.device,
                tool: self.tool.clone(),
                code: self.code.clone(),
            },
            self.now(),
        )?;
        let result = work(&handle, observer);
        let seconds = self.seconds_since(started);
        match result {
            Ok(done) => {
                let mut metrics = done.metrics;
                if let Value::Object(map) = &mut metrics {
                    map.insert("summary".to_owned(), Value::String(done.summary.clone()));
                }
                let end = RunEnd {
                    state: RunState::Complete,
                    outputs: done.outputs.clone(),
                    metrics: metrics.clone(),
                    seconds,
                    error: None,
                };
                self.store.finish_run(&handle, &end, self.now())?;
                observer.observe(Event::StepFinished {
                    step,
                    run: Some(handle.id.clone()),
                    is_cached: false,
                    seconds,
                    summary: done.summary,
                });
                Ok(Recorded {
                    run: handle.id,
                    outputs: done.outputs,
                    metrics,
                    seconds,
                    is_cached: false,
                })
            }
            Err(failure) => {
                // Stopped runs stay open on purpose: the same command takes them over and continues.
                let state = if failure.exit == karat_core::Exit::Stopped {
                    RunState::Canceled
                } else {
                    RunState::Failed
                };
                let end = RunEnd {
                    state,
                    outputs: BTreeMap::new(),
                    metrics: Value::Null,
                    seconds,
                    error: Some(format!("{}: {}", failure.code, failure.message)),
                };
                // The first failure is what a person needs; that it could not be recorded is only a warning.
                if let Err(second) = self.store.finish_run(&handle, &end, self.now()) {
                    observer.observe(Event::Warned {
                        code: "run-not-recorded".to_owned(),
                        message: format!(
                            "the failure of run `{}` could not be recorded: {second}",
                            handle.id
                        ),
                    });
                }
                Err(failure)
            }
        }
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
                karat_core::Exit::Run,
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
                karat_core::Exit::Run,
                "internal error: a record does not serialise; this is a bug",
            )
            .because(&error)
        })?;
        Ok(self.store.put_bytes(&bytes)?)
    }
}

fn summary_of(run: &RunRecord) -> String {
    run.metrics.get("summary").and_then(Value::as_str).unwrap_or_default().to_owned()
}
