//! Step `score`: a model version and rows in, predictions out.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use karat_core::{
    DatasetSpec, Digest, Event, Exit, Failure, Name, Observer, Project, ScoredRows, SplitSpec,
    Step,
    port::{Located, ScoreRequest, ScoreSummary},
    thousands,
};
use karat_store::Staged;
use serde_json::{Value, json};

use crate::{
    Lab, ModelManifest,
    freeze::{Frozen, to_value},
    lab::{Asked, Done, Recorded, Undone, progress},
};

mod cost;

use cost::Meter;
pub use cost::ScoreCost;

/// Rows that could not be scored.
const QUARANTINE: &str = "quarantine.jsonl";
/// Name under which a scoring's metrics keep what it took.
const COST: &str = "cost";

/// Predictions in the store.
#[derive(Clone, Debug)]
pub struct Scored {
    /// `predictions.parquet`.
    pub predictions: Digest,
    /// Counts, and what rows they are about.
    pub summary: ScoreSummary,
    /// All outputs by name.
    pub outputs: BTreeMap<String, Digest>,
    /// What it took when it was done; absent in records older than this field.
    pub cost: Option<ScoreCost>,
}

impl Lab<'_> {
    /// Scores the gate's split of `frozen` with the model called `manifest_digest`.
    pub fn score(
        &self,
        observer: &mut dyn Observer,
        project: &Project,
        frozen: &Frozen,
        manifest_digest: &Digest,
        label: &str,
    ) -> Result<Scored, Failure> {
        let asked = self.score_asked(project, frozen, manifest_digest, label)?;
        let recorded = self.step(observer, asked, |_, observer| {
            self.score_now(observer, project, frozen, manifest_digest)
        })?;
        self.scored(recorded)
    }

    /// As [`Lab::score`], with what it took on record for batches of the size that is used today. Times of other batches,
    /// or none, are no answer: then it is done again.
    pub(crate) fn score_timed(
        &self,
        observer: &mut dyn Observer,
        project: &Project,
        frozen: &Frozen,
        manifest_digest: &Digest,
        label: &str,
    ) -> Result<Scored, Failure> {
        let scored = self.score(observer, project, frozen, manifest_digest, label)?;
        if scored.cost.as_ref().is_some_and(|it| it.batch_size == project.score.batch_size) {
            return Ok(scored);
        }
        let asked = self.score_asked(project, frozen, manifest_digest, label)?;
        let recorded = self.perform(observer, asked, |_, observer| {
            self.score_now(observer, project, frozen, manifest_digest)
        })?;
        observer.observe(recorded.finished(Step::Score, recorded.summary()));
        self.scored(recorded)
    }

    fn score_asked(
        &self,
        project: &Project,
        frozen: &Frozen,
        manifest_digest: &Digest,
        label: &str,
    ) -> Result<Asked, Failure> {
        let split = gate_split(project, &frozen.located.dataset)?;
        Ok(Asked {
            step: Step::Score,
            subject: format!(
                "split `{}` of {} with {label}",
                split.0,
                frozen.located.snapshot.label()
            ),
            spec: json!({
                "split": to_value(split.1)?,
                "slices": to_value(&project.slices)?,
                "score": to_value(&project.score)?,
            }),
            inputs: BTreeMap::from([
                ("model".to_owned(), *manifest_digest),
                ("snapshot".to_owned(), frozen.digest),
            ]),
            seed: None,
            device: self.engine.device_class(&project.train.device)?,
            total: None,
        })
    }

    fn scored(&self, recorded: Recorded) -> Result<Scored, Failure> {
        let cost = recorded.metrics.get(COST).cloned();
        Ok(Scored {
            predictions: recorded.output("predictions.parquet")?,
            summary: self.read_json(&recorded.output("score.json")?, "score summary")?,
            outputs: recorded.outputs,
            cost: cost.and_then(|it| serde_json::from_value(it).ok()),
        })
    }

    fn score_now(
        &self,
        observer: &mut dyn Observer,
        project: &Project,
        frozen: &Frozen,
        manifest_digest: &Digest,
    ) -> Result<Done, Undone> {
        let manifest = ModelManifest::open(self, manifest_digest)?;
        let split = gate_split(project, &frozen.located.dataset)?;
        let staged = self.store.staging("predictions.parquet")?;
        let quarantine = self.store.staging(QUARANTINE)?;
        let weights = self.store.read(&manifest.weights)?;
        let request = ScoreRequest {
            split: Some(split),
            slices: project.slices.iter().collect(),
            batch_size: project.score.batch_size as usize,
            out: staged.path(),
            quarantine: quarantine.path(),
            quarantine_max: project.score.quarantine_max,
            metadata: vec![
                ("karat.model".to_owned(), manifest_digest.to_string()),
                ("karat.snapshot".to_owned(), frozen.digest.to_string()),
                ("karat.tool".to_owned(), self.tool.clone()),
            ],
        };
        // The schema of *today's* files reads the rows; the plan of the model turns them into numbers.
        let located = &frozen.located;
        let device = &project.train.device;
        let began = (self.stopwatch)();
        let streamed = self.stream(observer, located, &manifest, &weights, &request, device);
        let (summary, meter) = match streamed {
            Ok(streamed) => streamed,
            Err(failure) => return Err(self.keep_quarantine(failure, quarantine)),
        };
        let took = (self.stopwatch)().saturating_sub(began);
        if summary.n_rows == 0 {
            return Err(Failure::new(
                "split-empty",
                Exit::Nothing,
                format!("split `{}` of {} has no rows", split.0, located.snapshot.label()),
            )
            .into());
        }
        let mut outputs = BTreeMap::new();
        outputs.insert("predictions.parquet".to_owned(), self.store.publish(staged)?);
        if 0 < summary.n_quarantined {
            outputs.insert(QUARANTINE.to_owned(), self.store.publish(quarantine)?);
        }
        outputs.insert("score.json".to_owned(), self.put_json(&summary)?);
        // Beside the outputs, not among them: times are never the same twice, and digests must be.
        let cost = meter.cost(summary.n_rows, took, project.score.batch_size, weights.len());
        let mut metrics = to_value(&summary)?;
        if let Value::Object(map) = &mut metrics {
            map.insert(COST.to_owned(), to_value(&cost)?);
        }
        Ok(Done { outputs, metrics, summary: describe(&summary) })
    }

    /// The rows that made scoring fail are what a person asks for next: they stay, named by the failed run.
    fn keep_quarantine(&self, failure: Failure, quarantine: Staged) -> Undone {
        let is_empty = std::fs::metadata(quarantine.path()).map_or(true, |it| it.len() == 0);
        if is_empty {
            return failure.into();
        }
        let Ok(digest) = self.store.publish(quarantine) else { return failure.into() };
        Undone {
            failure: Box::new(lying_in(failure, &self.store.path(&digest))),
            outputs: BTreeMap::from([(QUARANTINE.to_owned(), digest)]),
        }
    }

    /// The labelled rows of stored predictions, after verifying the file's bytes.
    pub fn scored_rows(&self, scored: &Scored) -> Result<ScoredRows, Failure> {
        if !self.store.contains(&scored.predictions, true)? {
            return Err(Failure::new(
                "object-missing",
                Exit::Run,
                format!(
                    "predictions `{}` are not in the store, or do not match their digest",
                    scored.predictions.short()
                ),
            )
            .hint("`karat verify` checks the whole store"));
        }
        self.tables.read_scored(&self.store.path(&scored.predictions))
    }

    /// Scores any files with a stored model into a file of the user's: `karat score`.
    pub fn score_files(
        &self,
        observer: &mut dyn Observer,
        manifest_digest: &Digest,
        files: &[String],
        out: &Path,
        options: &ScoreOptions,
    ) -> Result<ScoreSummary, Failure> {
        let manifest = ModelManifest::open(self, manifest_digest)?;
        let weights = self.store.read(&manifest.weights)?;
        let dataset = DatasetSpec {
            name: "input"
                .parse()
                .map_err(|error| Failure::new("internal", Exit::Run, format!("{error}")))?,
            files: files.to_vec(),
            schema: String::new(),
            splits: BTreeMap::new(),
        };
        let schema = manifest.schema()?;
        observer.observe(Event::StepStarted {
            step: Step::Score,
            subject: out.display().to_string(),
            total: None,
        });
        let started = self.now();
        let (snapshot, _) =
            self.tables.snapshot(self.root, &dataset, &schema, &[], &mut |_, _| {})?;
        let located = Located { snapshot, schema, dataset, root: self.root.to_owned() };
        let folder = out.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = out.file_name().ok_or_else(|| {
            Failure::new(
                "out-invalid",
                Exit::Usage,
                format!("`{}` is not a file name", out.display()),
            )
        })?;
        // Beside the target, so that the rename cannot cross a file system; the extension stays the last part,
        // because it decides the format.
        let scratch =
            folder.join(format!(".karat-{}-{}", std::process::id(), name.to_string_lossy()));
        let quarantine = quarantine_of(out);
        let request = ScoreRequest {
            split: None,
            slices: Vec::new(),
            batch_size: options.batch_size as usize,
            out: &scratch,
            quarantine: &quarantine,
            quarantine_max: options.quarantine_max,
            metadata: vec![
                ("karat.model".to_owned(), manifest_digest.to_string()),
                ("karat.snapshot".to_owned(), located.snapshot.digest().to_string()),
                ("karat.tool".to_owned(), self.tool.clone()),
            ],
        };
        let result = self
            .stream(observer, &located, &manifest, &weights, &request, &options.device)
            .map_err(|failure| match failure.code.as_str() {
                "quarantine-exceeded" => lying_in(failure, &quarantine),
                _ => failure,
            })
            .and_then(|(summary, _)| {
                karat_store::move_durably(&scratch, out)?;
                Ok(summary)
            });
        if result.is_err() {
            // Whatever was half-written is of no use to anybody; that it could not be removed changes nothing.
            let _ = std::fs::remove_file(&scratch);
        }
        let summary = result?;
        observer.observe(Event::StepFinished {
            step: Step::Score,
            run: None,
            is_cached: false,
            seconds: self.seconds_since(started),
            summary: describe(&summary),
        });
        Ok(summary)
    }

    fn stream(
        &self,
        observer: &mut dyn Observer,
        located: &Located,
        manifest: &ModelManifest,
        weights: &[u8],
        request: &ScoreRequest<'_>,
        device: &str,
    ) -> Result<(ScoreSummary, Meter), Failure> {
        let mut scoring = self.engine.open(&manifest.spec, &manifest.plan, weights, device)?;
        let mut meter = Meter::default();
        let (stopwatch, resident) = (self.stopwatch, self.resident_memory);
        let summary = self.tables.score(
            located,
            &manifest.plan,
            request,
            &mut |batch| {
                let began = stopwatch();
                let scores = scoring.score(batch)?;
                meter.batch(stopwatch().saturating_sub(began), resident());
                Ok(scores)
            },
            &mut progress(observer, Step::Score),
            self.stop,
        )?;
        Ok((summary, meter))
    }
}

/// Where `karat score` puts rows that could not be scored: beside the scores.
#[must_use]
pub fn quarantine_of(out: &Path) -> PathBuf {
    let name = out.file_name().unwrap_or_default().to_string_lossy();
    out.with_file_name(format!("{name}.{QUARANTINE}"))
}

/// The tables know only where they were told to write; where that lies for good is said here.
fn lying_in(failure: Failure, quarantine: &Path) -> Failure {
    failure.detail(format!("all of them are in {}", quarantine.display()))
}

/// Options of `karat score`.
#[derive(Clone, Debug)]
pub struct ScoreOptions {
    /// Rows handed to the device at once.
    pub batch_size: u32,
    /// Largest share of rows that may be quarantined.
    pub quarantine_max: f64,
    /// Device name.
    pub device: String,
}

fn describe(summary: &ScoreSummary) -> String {
    let quarantined = match summary.n_quarantined {
        0 => String::new(),
        n => format!(", {} quarantined", thousands(n)),
    };
    format!(
        "{} rows, {} with a label{quarantined}",
        thousands(summary.n_rows),
        thousands(summary.n_labeled)
    )
}

/// The split that the gate looks at.
pub(crate) fn gate_split<'a>(
    project: &'a Project,
    dataset: &'a DatasetSpec,
) -> Result<(&'a Name, &'a SplitSpec), Failure> {
    dataset.splits.get_key_value(&project.score.split).ok_or_else(|| {
        let near = karat_core::nearest(
            project.score.split.as_str(),
            dataset.splits.keys().map(Name::as_str),
        );
        Failure::new(
            "split-unknown",
            Exit::Usage,
            format!("dataset `{}` declares no split `{}`", dataset.name, project.score.split),
        )
        .detail(format!("declared are `{}`", near.join("`, `")))
    })
}
