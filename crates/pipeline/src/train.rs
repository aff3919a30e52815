//! Step `train`: rows and spec in, a registered candidate out. Survives a stop at any update.

use std::{
    collections::BTreeMap,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::ScopedJoinHandle,
    time::Duration,
};

use karat_core::{
    Digest, Event, Exit, Failure, FeaturePlan, LabelPlan, Name, Observer, Project, RunId,
    SplitSpec, Step, Task, Timestamp, TrainSpec, UpdateRecord,
    plan::Encoding,
    port::{CheckpointFiles, EncodedRows, FitRequest, TrainEnd, TrainIo, TrainState},
    summary::TrainSummary,
    tensors::Tensors,
    thousands,
};
use karat_store::{RunHandle, RunLog, Store, VersionRecord};
use serde_json::{Value, json};

use crate::{
    Lab, ModelManifest,
    freeze::{Frozen, to_value},
    lab::{Asked, Done},
    model::MANIFEST_VERSION,
};

/// How often a running training tells the store that it is alive.
const HEARTBEAT_MS: i64 = 10_000;
/// Points kept of the loss curve.
const CURVE_POINTS_MAX: usize = 400;

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
        let version = self.store.register(
            &project.train.name,
            &manifest_digest,
            &recorded.run,
            &recorded.outputs,
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
        let summary = summary(
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
            device: self.engine.device_class(&spec.device)?,
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

    fn train_now(
        &self,
        handle: &RunHandle,
        observer: &mut dyn Observer,
        project: &Project,
        frozen: &Frozen,
    ) -> Result<Done, Failure> {
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
            .hint(format!("`[split.{}]` in karat.toml declares it: `{} = {{ hash = [90, 100] }}`", spec.dataset, spec.split_eval)));
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
        let end = std::thread::scope(|scope| {
            let (send, receive) = sync_channel(0);
            let (report, reports) = sync_channel(64);
            let writer =
                scope.spawn(move || write_checkpoints(self, handle, spec, &receive, &report));
            let mut io = Io {
                lab: self,
                handle,
                observer,
                train_rows,
                eval_rows,
                log,
                send: Some(send),
                reports,
                writer: Some(writer),
                saved_at: self.now(),
                beaten_at: self.now(),
                every_seconds: spec.checkpoint.every_seconds,
            };
            let end = self.engine.train(spec, &plan, start, &mut io);
            let written = io.finish();
            let end = end?;
            written?;
            Ok::<TrainEnd, Failure>(end)
        })?;
        match end {
            TrainEnd::Stopped { update } => Err(stopped(&handle.id, update, n_updates)),
            TrainEnd::Complete(files) => {
                self.conclude(handle, project, frozen, plan, *files, n_rows)
            }
        }
    }

    /// Weights, manifest and log become artifacts.
    fn conclude(
        &self,
        handle: &RunHandle,
        project: &Project,
        frozen: &Frozen,
        plan: FeaturePlan,
        files: CheckpointFiles,
        n_rows: u64,
    ) -> Result<Done, Failure> {
        let spec = &project.train;
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
        };
        let log = RunLog::open(self.store, &handle.id)?;
        let (metrics, throughput) = log.read()?;
        let loss = files.state.best_eval_loss_bits.map(f64::from_bits);
        let summary = format!(
            "{} updates, {}",
            thousands(files.state.update),
            loss.map_or_else(
                || "no eval split".to_owned(),
                |loss| format!("best eval loss {loss:.4}")
            )
        );
        let outputs = BTreeMap::from([
            ("model.safetensors".to_owned(), weights),
            ("model.json".to_owned(), self.put_json(&manifest)?),
            ("metrics.jsonl".to_owned(), self.store.put_bytes(&metrics)?),
            ("throughput.jsonl".to_owned(), self.store.put_bytes(&throughput)?),
        ]);
        let metrics = json!({ "updates": files.state.update, "best_eval_loss": loss, "evaluations": log.evaluations()? });
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

/// The one checkpoint writer: a host snapshot is handed over, training goes on, back-pressure is one.
fn write_checkpoints(
    lab: &Lab<'_>,
    handle: &RunHandle,
    spec: &TrainSpec,
    receive: &Receiver<CheckpointFiles>,
    report: &SyncSender<Event>,
) -> Result<(), Failure> {
    let store: &Store = lab.store;
    while let Ok(files) = receive.recv() {
        let state = to_value(&files.state)?;
        let parts: [(&str, &[u8]); 2] =
            [("model.safetensors", &files.model), ("optimizer.safetensors", &files.optimizer)];
        let loss = (files.state.best_update == files.state.update)
            .then_some(files.state.best_eval_loss_bits)
            .flatten()
            .map(f64::from_bits);
        let digest =
            store.commit_checkpoint(handle, files.state.update, &parts, &state, loss, lab.now())?;
        store.prune_checkpoints(
            &handle.id,
            spec.checkpoint.keep_last,
            spec.checkpoint.keep_best,
        )?;
        // Nobody may be reading any more when training has failed; the checkpoint is durable all the same.
        let _ = report.try_send(Event::CheckpointCommitted { update: files.state.update, digest });
    }
    Ok(())
}

struct Io<'scope, 'a> {
    lab: &'a Lab<'a>,
    handle: &'a RunHandle,
    observer: &'a mut dyn Observer,
    train_rows: Box<dyn EncodedRows>,
    eval_rows: Option<Box<dyn EncodedRows>>,
    log: RunLog,
    send: Option<SyncSender<CheckpointFiles>>,
    reports: Receiver<Event>,
    writer: Option<ScopedJoinHandle<'scope, Result<(), Failure>>>,
    saved_at: Timestamp,
    beaten_at: Timestamp,
    every_seconds: u64,
}

impl Io<'_, '_> {
    /// Waits for the writer and gives its error, if it had one.
    fn finish(&mut self) -> Result<(), Failure> {
        self.send = None;
        let result = match self.writer.take().map(ScopedJoinHandle::join) {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(failure))) => Err(failure),
            Some(Err(_)) => Err(Failure::new(
                "internal",
                Exit::Run,
                "internal error: the checkpoint writer panicked; this is a bug",
            )),
        };
        self.pass_reports();
        result
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

    fn keep(&mut self, files: CheckpointFiles, _is_best: bool) -> Result<(), Failure> {
        self.saved_at = self.lab.now();
        // The log first: a checkpoint must never be ahead of it.
        self.log.flush()?;
        let is_sent = self.send.as_ref().is_some_and(|send| send.send(files).is_ok());
        self.pass_reports();
        if is_sent { Ok(()) } else { self.finish() }
    }

    fn log(&mut self, record: &UpdateRecord) -> Result<(), Failure> {
        Ok(self.log.append(record, self.lab.now())?)
    }

    fn observe(&mut self, event: Event) {
        if let Event::Evaluated { update, loss, .. } = &event {
            self.log.note_evaluation(*update, *loss);
        }
        self.pass_reports();
        self.observer.observe(event);
    }

    fn stop_requested(&self) -> bool {
        self.lab.stop.is_requested()
    }

    fn save_is_due(&mut self) -> bool {
        let now = self.lab.now();
        if HEARTBEAT_MS <= now.0 - self.beaten_at.0 {
            self.beaten_at = now;
            // A lost lease is found again, and refused, at the next commit.
            if let Err(error) = self.lab.store.heartbeat(self.handle, now) {
                self.observer.observe(Event::Warned {
                    code: "heartbeat-failed".to_owned(),
                    message: error.to_string(),
                });
            }
        }
        let every = Duration::from_secs(self.every_seconds);
        let waited = Duration::from_millis(u64::try_from(now.0 - self.saved_at.0).unwrap_or(0));
        !every.is_zero() && every <= waited
    }
}

fn summary(
    manifest: &ModelManifest,
    digest: &Digest,
    version: &VersionRecord,
    run: &RunId,
    seconds: f64,
    log: &[u8],
    metrics: &Value,
) -> Result<TrainSummary, Failure> {
    let mut losses = Vec::new();
    for line in log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let record: UpdateRecord = serde_json::from_slice(line).map_err(|error| {
            Failure::new(
                "record-unreadable",
                Exit::Run,
                format!("the metrics log of run `{run}` is not readable"),
            )
            .because(&error)
        })?;
        losses.push([record.update as f64, record.loss]);
    }
    let stride = losses.len().div_ceil(CURVE_POINTS_MAX).max(1);
    let losses: Vec<[f64; 2]> = losses.into_iter().step_by(stride).collect();
    let eval_losses = metrics
        .get("evaluations")
        .and_then(|it| serde_json::from_value(it.clone()).ok())
        .unwrap_or_default();
    let features = manifest
        .plan
        .features
        .iter()
        .map(|it| (it.column.clone(), describe(&it.encoding)))
        .collect();
    Ok(TrainSummary {
        run: run.to_string(),
        version: version.label(),
        model: *digest,
        spec: to_value(&manifest.spec)?,
        features,
        task: match manifest.plan.label.task() {
            Task::Binary => "binary",
            Task::Multiclass => "multiclass",
            Task::Regression => "regression",
        }
        .to_owned(),
        label: match &manifest.plan.label {
            LabelPlan::Binary { column, .. }
            | LabelPlan::Multiclass { column, .. }
            | LabelPlan::Regression { column, .. } => column.clone(),
        },
        classes: manifest.plan.label.classes().to_vec(),
        n_parameters: manifest.n_parameters,
        n_updates: manifest.n_updates,
        n_rows: manifest.n_rows,
        seconds,
        device: manifest.device.clone(),
        seed: manifest.spec.seed,
        losses,
        eval_losses,
    })
}

fn describe(encoding: &Encoding) -> String {
    match encoding {
        Encoding::Numeric { mean, std, missing_flag } => {
            let flag = if *missing_flag { ", missing flag" } else { "" };
            format!("standardised (mean {mean:.4}, std {std:.4}{flag})")
        }
        Encoding::Categorical { vocabulary } => {
            format!("{} values, unknown, missing", vocabulary.len())
        }
        Encoding::Date { missing_flag } => {
            format!("date parts{}", if *missing_flag { ", missing flag" } else { "" })
        }
    }
}
