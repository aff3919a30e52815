//! Step `train`: rows and spec in, a registered candidate out. Survives a stop at any update.

use std::{
    collections::BTreeMap,
    sync::mpsc::{channel, sync_channel},
};

use karat_core::{
    Digest, Environment, Event, Exit, Failure, FeaturePlan, Name, Observer, Project, RunId,
    SplitSpec, Step, Tier, TrainSpec,
    port::{CheckpointFiles, FitRequest, TrainEnd, TrainState},
    summary::{TrainCost, TrainSummary},
    tensors::Tensors,
    thousands,
};
use karat_store::{RunHandle, RunLog, VersionRecord};
use serde_json::{Value, json};

use crate::{
    Lab, ModelManifest,
    freeze::{Frozen, to_value},
    lab::{Asked, Done, Undone},
    model::MANIFEST_VERSION,
};

mod cost;
mod io;
mod summary;

pub(crate) use io::{HEARTBEAT_MS, Pace};
pub(crate) use summary::{environment, read_log};

use cost::Stopwatch;
use io::{Desk, Io, write_checkpoints};

/// Name under which a training's metrics keep where it ran. Not in the manifest: bits do not depend on it, and a version
/// must be the same manifest on every machine.
pub(crate) const ENVIRONMENT: &str = "environment";
/// Wall-clock side of the metrics log: of one attempt, never the same twice.
const THROUGHPUT: &str = "throughput.jsonl";

/// A trained, registered candidate.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The registered version.
    pub version: VersionRecord,
    /// Digest of its manifest.
    pub manifest_digest: Digest,
    /// Its manifest.
    pub manifest: ModelManifest,
    /// The run.
    pub run: RunId,
    /// Files of the run by name.
    pub outputs: BTreeMap<String, Digest>,
    /// For reports.
    pub summary: TrainSummary,
}

/// What a training that has ended leaves.
struct End {
    plan: FeaturePlan,
    files: CheckpointFiles,
    /// Rows of an epoch.
    n_rows: u64,
    cost: TrainCost,
}

impl Lab<'_> {
    /// Trains `project.train` on `frozen`, or finds the run that did, and registers the result.
    pub fn train(
        &self,
        observer: &mut dyn Observer,
        project: &Project,
        frozen: &Frozen,
    ) -> Result<Trained, Failure> {
        let asked = self.train_asked(project, frozen)?;
        let recorded = self.step(observer, asked, |handle, observer| {
            self.train_now(handle, observer, project, frozen)
        })?;
        let manifest_digest = recorded.output("model.json")?;
        let manifest = ModelManifest::open(self, &manifest_digest)?;
        let known = self.store.versions(&project.train.name)?;
        let is_known = known.iter().any(|it| it.manifest == manifest_digest);
        // Times cannot be made again, so a version, which must stay whole, does not depend on them.
        let mut kept = recorded.outputs.clone();
        kept.remove(THROUGHPUT);
        let version = self.store.register(
            &project.train.name,
            &manifest_digest,
            &recorded.run,
            &kept,
            self.now(),
        )?;
        observer.observe(Event::StepFinished {
            step: Step::Register,
            run: None,
            is_cached: is_known,
            seconds: 0.0,
            summary: format!("{} · model {}", version.label(), manifest_digest.short()),
        });
        let log = self.store.read(&recorded.output("metrics.jsonl")?)?;
        let summary = summary::summary(
            &manifest,
            &manifest_digest,
            &version,
            &recorded.run,
            recorded.seconds,
            &log,
            &recorded.metrics,
        )?;
        Ok(Trained {
            version,
            manifest_digest,
            manifest,
            run: recorded.run,
            outputs: recorded.outputs,
            summary,
        })
    }

    /// What `train` would be recorded under: also how `--resume RUN` tells whether it is the same training.
    pub(crate) fn train_asked(&self, project: &Project, frozen: &Frozen) -> Result<Asked, Failure> {
        let spec = &project.train;
        Ok(Asked {
            step: Step::Train,
            subject: format!("{} on {}", spec.name, frozen.located.snapshot.label()),
            spec: json!({ "train": to_value(spec)?, "splits": splits_of(spec, frozen)? }),
            inputs: BTreeMap::from([("snapshot".to_owned(), frozen.digest)]),
            seed: Some(spec.seed),
            device: match &spec.device_policy.began_on {
                Some(class) => class.clone(),
                None => self.engine.device_class(&spec.device)?,
            },
            total: None,
        })
    }

    /// Cache key of the training that `project` asks for.
    pub fn train_key(&self, project: &Project, frozen: &Frozen) -> Result<Digest, Failure> {
        Ok(self.key(&self.train_asked(project, frozen)?))
    }

    /// The recorded spec of that training, for "what has changed".
    pub fn train_spec(&self, project: &Project, frozen: &Frozen) -> Result<Value, Failure> {
        Ok(self.train_asked(project, frozen)?.spec)
    }

    pub(crate) fn train_now(
        &self,
        handle: &RunHandle,
        observer: &mut dyn Observer,
        project: &Project,
        frozen: &Frozen,
    ) -> Result<Done, Undone> {
        let (spec, located) = (&project.train, &frozen.located);
        let request = FitRequest { task: spec.task, positive: spec.positive.clone() };
        let plan = self.tables.fit(located, &spec.split_train, &request)?;
        let train_rows = self.tables.encode(located, &spec.split_train, &plan)?;
        let eval_rows = match located.dataset.splits.contains_key(&spec.split_eval) {
            true => Some(self.tables.encode(located, &spec.split_eval, &plan)?)
                .filter(|rows| 0 < rows.n_rows()),
            false => None,
        };
        if spec.early_stopping.is_some() && eval_rows.is_none() {
            return Err(Failure::new(
                "eval-split-absent",
                Exit::Usage,
                format!("`train.early_stopping` needs split `{}`, which is not declared or has no labelled rows", spec.split_eval),
            )
            .hint(format!("`[split.{}]` in karat.toml declares it: `{} = {{ hash = [90, 100] }}`", spec.dataset, spec.split_eval))
            .into());
        }
        let n_rows = train_rows.n_rows();

        let (found, warnings) = self.store.latest_checkpoint(&handle.id)?;
        for message in warnings {
            observer.observe(Event::Warned { code: "checkpoint-corrupt".to_owned(), message });
        }
        let start = found.map(checkpoint_files).transpose()?;
        let update = start.as_ref().map_or(0, |files| files.state.update);
        let mut log = RunLog::open(self.store, &handle.id)?;
        // A log shorter than the checkpoint cannot happen by a crash (it is flushed first); by hand it can.
        if !log.rewind_to(update)? {
            observer.observe(Event::Warned {
                code: "metrics-log-short".to_owned(),
                message: format!(
                    "the metrics log of run `{}` lacks updates before {}",
                    handle.id,
                    thousands(update)
                ),
            });
        }
        let n_updates = self.engine.n_updates(spec, n_rows);
        if 0 < update {
            observer.observe(Event::Warned {
                code: "run-resumed".to_owned(),
                message: format!(
                    "continuing run `{}` at update {} of {}",
                    handle.id,
                    thousands(update),
                    thousands(n_updates)
                ),
            });
        }
        let work = self.engine.work(spec, &plan);
        let desk = Desk { store: self.store, clock: self.clock, stop: self.stop, handle, spec };
        let (end, watch) = std::thread::scope(|scope| {
            // No room in the channel: whoever hands over waits until the writer is free.
            let (send, receive) = sync_channel(0);
            let (report, reports) = channel();
            let writer = scope.spawn(move || write_checkpoints(desk, &receive, &report));
            let mut io = Io {
                desk,
                observer,
                train_rows,
                eval_rows,
                log,
                send: Some(send),
                reports,
                writer: Some(writer),
                saved_at: self.now(),
                beaten_at: self.now(),
                pace: Pace::new(Step::Train, n_updates, self.now()),
                started_at: self.now(),
                watch: Stopwatch::started(self.now()),
            };
            let end = self.engine.train(spec, &plan, start, &mut io);
            let written = io.finish();
            let end = end?;
            written?;
            Ok::<(TrainEnd, Stopwatch), Failure>((end, io.watch))
        })?;
        match end {
            TrainEnd::Stopped { update } => Err(stopped(&handle.id, update, n_updates).into()),
            TrainEnd::Complete(files) => {
                let cost = watch.cost(work, (self.peak_memory)());
                let end = End { plan, files: *files, n_rows, cost };
                Ok(self.conclude(handle, project, frozen, end)?)
            }
        }
    }

    /// Where a training of `spec` runs.
    pub(crate) fn environment(&self, spec: &TrainSpec) -> Result<Environment, Failure> {
        Ok(Environment { host: (self.host)(), ..self.engine.environment(spec)? })
    }

    /// [`Lab::environment`] with what happened on the way. Updates on two devices are repeatable on neither.
    fn environment_after(
        &self,
        spec: &TrainSpec,
        state: &TrainState,
    ) -> Result<Environment, Failure> {
        let mut environment = self.environment(spec)?;
        environment.remarks.extend_from_slice(&state.remarks);
        if state.is_mixed {
            environment.tiers.retain(|tier| ![Tier::Resume, Tier::Repeat].contains(tier));
        }
        Ok(environment)
    }

    /// Weights, manifest and log become artifacts.
    fn conclude(
        &self,
        handle: &RunHandle,
        project: &Project,
        frozen: &Frozen,
        end: End,
    ) -> Result<Done, Failure> {
        let End { plan, files, n_rows, cost } = end;
        let spec = &project.train;
        let ended_early = ended_early(spec, &files.state, self.engine.n_updates(spec, n_rows));
        let weights = self.store.put_bytes(&files.model)?;
        let tensors = Tensors::parse(&files.model)?;
        let n_parameters =
            tensors.iter().map(|(_, view)| view.shape.iter().product::<usize>() as u64).sum();
        let manifest = ModelManifest {
            version: MANIFEST_VERSION,
            tool: self.tool.clone(),
            spec: spec.clone(),
            plan,
            schema: frozen.located.schema.to_toml(),
            weights,
            snapshot: frozen.digest,
            splits: splits_of(spec, frozen)?,
            device: self.engine.device_class(&spec.device)?,
            n_updates: files.state.update,
            n_rows,
            n_parameters,
            chain: files.state.chain,
        };
        let log = RunLog::open(self.store, &handle.id)?;
        let (metrics, throughput) = log.read()?;
        let loss = files.state.best_eval_loss_bits.map(f64::from_bits);
        let mut summary = format!(
            "{} updates, {}",
            thousands(files.state.update),
            loss.map_or_else(
                || "no eval split".to_owned(),
                |loss| format!("best eval loss {loss:.4}")
            )
        );
        if files.state.is_out_of_time {
            summary.push_str("; time was up");
        }
        let outputs = BTreeMap::from([
            ("model.safetensors".to_owned(), weights),
            ("model.json".to_owned(), self.put_json(&manifest)?),
            ("metrics.jsonl".to_owned(), self.store.put_bytes(&metrics)?),
            (THROUGHPUT.to_owned(), self.store.put_bytes(&throughput)?),
        ]);
        let seen = log.evaluations()?;
        let metrics = json!({
            "updates": files.state.update,
            "best_eval_loss": loss,
            "evaluations": seen.losses,
            "eval_values": seen.values,
            "ended_early": ended_early,
            "cost": to_value(&cost)?,
            ENVIRONMENT: to_value(&self.environment_after(spec, &files.state)?)?,
        });
        Ok(Done { outputs, metrics, summary })
    }
}

fn splits_of(spec: &TrainSpec, frozen: &Frozen) -> Result<Value, Failure> {
    let splits: BTreeMap<&Name, &SplitSpec> = frozen
        .located
        .dataset
        .splits
        .iter()
        .filter(|(name, _)| **name == spec.split_train || **name == spec.split_eval)
        .collect();
    to_value(&splits)
}

/// Why fewer updates were made than asked for, if so.
fn ended_early(spec: &TrainSpec, state: &TrainState, n_updates: u64) -> Option<String> {
    if n_updates <= state.update {
        return None;
    }
    let of = format!("after {} of {} updates", thousands(state.update), thousands(n_updates));
    if state.is_out_of_time {
        return Some(format!("time was up (`train.max_time`) {of}"));
    }
    let patience = spec.early_stopping.map_or(0, |it| it.patience);
    let best = thousands(state.best_update);
    Some(format!("{patience} evaluations without gain {of}; the weights are update {best}'s"))
}

fn stopped(run: &RunId, update: u64, n_updates: u64) -> Failure {
    Failure::new(
        "stopped",
        Exit::Stopped,
        format!("stopped on request at update {} of {}", thousands(update), thousands(n_updates)),
    )
    .detail(format!("run `{run}`: the checkpoint of update {} is durable", thousands(update)))
    .hint("the same command continues from there")
}

fn checkpoint_files(found: karat_store::LoadedCheckpoint) -> Result<CheckpointFiles, Failure> {
    let mut files = found.files;
    let mut take = |name: &str| {
        files.remove(name).ok_or_else(|| {
            Failure::new(
                "checkpoint-corrupt",
                Exit::Run,
                format!("checkpoint of update {} lacks `{name}`", found.update),
            )
        })
    };
    let (model, optimizer) = (take("model.safetensors")?, take("optimizer.safetensors")?);
    let state: TrainState = serde_json::from_value(found.state).map_err(|error| {
        Failure::new(
            "checkpoint-corrupt",
            Exit::Run,
            format!("checkpoint of update {} has an unreadable state", found.update),
        )
        .because(&error)
    })?;
    Ok(CheckpointFiles { model, optimizer, state })
}
