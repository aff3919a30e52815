//! The two ports without tables and devices: lifecycle tests run in milliseconds.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use karat_core::{
    Batch, ColumnType, DatasetSpec, Digest, Event, Exit, Failure, Feature, FeaturePlan, LabelPlan,
    Name, Profile, Schema, ScoredRows, Snapshot, SnapshotFile, Task, TrainSpec, UpdateRecord,
    plan::Encoding,
    port::{
        CheckpointFiles, DeviceReport, EncodedRows, Engine, FitRequest, KnownFile, Located,
        OnProgress, ScoreRequest, ScoreSummary, Scorer, Scoring, Stop, Tables, TrainEnd, TrainIo,
        TrainState,
    },
    profile::{Repeats, SplitProfile},
    rng::{Purpose, Stream},
    tensors::{Dtype, Tensors, Writer},
};

/// Rows of the fake dataset.
pub const N_ROWS: u64 = 2000;

/// Tables without files: one feature, two classes; `content` stands for the bytes on disk.
#[derive(Debug, Default)]
pub struct MemoryTables {
    /// Changes the snapshot's digest, as changed bytes would.
    pub content: AtomicU64,
}

impl MemoryTables {
    fn label(row: u64) -> f32 {
        let stream = Stream::new(3, Purpose::Permute, "fake label");
        f32::from(u8::from(stream.uniform(0, 0, row) < Self::feature(row)))
    }

    fn feature(row: u64) -> f32 {
        Stream::new(3, Purpose::Permute, "fake feature").uniform(0, 0, row)
    }
}

struct Rows;

impl EncodedRows for Rows {
    fn n_rows(&self) -> u64 {
        N_ROWS
    }

    fn fetch(&mut self, rows: &[u64], into: &mut Batch) -> Result<(), Failure> {
        into.clear();
        into.n_rows = rows.len();
        into.numeric.extend(rows.iter().map(|row| MemoryTables::feature(*row)));
        into.label.extend(rows.iter().map(|row| MemoryTables::label(*row)));
        Ok(())
    }
}

impl Tables for MemoryTables {
    fn infer_schema(&self, _: &Path, _: &[String], _: Option<&str>) -> Result<Schema, Failure> {
        Ok(Schema::default())
    }

    fn snapshot(
        &self,
        _: &Path,
        dataset: &DatasetSpec,
        schema: &Schema,
        _: &[KnownFile],
        progress: OnProgress<'_>,
    ) -> Result<(Snapshot, Vec<KnownFile>), Failure> {
        progress(1, Some(1));
        let content = self.content.load(Ordering::Relaxed);
        let file = SnapshotFile {
            path: "rows".to_owned(),
            digest: Digest::of(&content.to_le_bytes()),
            n_bytes: 8,
            n_rows: N_ROWS,
        };
        let snapshot = Snapshot {
            dataset: dataset.name.clone(),
            files: vec![file],
            n_rows: N_ROWS,
            schema: schema.digest(),
        };
        Ok((snapshot, Vec::new()))
    }

    fn measure(
        &self,
        located: &Located,
        _: Option<&Name>,
        progress: OnProgress<'_>,
    ) -> Result<Profile, Failure> {
        progress(N_ROWS, Some(N_ROWS));
        let counts =
            BTreeMap::from([("no".to_owned(), N_ROWS / 2), ("yes".to_owned(), N_ROWS / 2)]);
        let split = SplitProfile {
            n_rows: N_ROWS,
            n_labeled: N_ROWS,
            label_counts: counts,
            label_mean: Some(0.5),
        };
        Ok(Profile {
            snapshot: located.snapshot.digest(),
            n_rows: N_ROWS,
            columns: Vec::new(),
            absent: Vec::new(),
            unnamed: Vec::new(),
            key: None,
            duplicates: Repeats::default(),
            splits: located
                .dataset
                .splits
                .keys()
                .map(|name| (name.to_string(), split.clone()))
                .collect(),
            overlaps: Vec::new(),
            associations: Vec::new(),
        })
    }

    fn fit(&self, _: &Located, _: &Name, _: &FitRequest) -> Result<FeaturePlan, Failure> {
        Ok(FeaturePlan {
            features: vec![Feature {
                column: "x".to_owned(),
                ty: ColumnType::Float,
                encoding: Encoding::Numeric { mean: 0.0, std: 1.0, missing_flag: false },
            }],
            label: LabelPlan::Binary {
                column: "y".to_owned(),
                classes: vec!["no".to_owned(), "yes".to_owned()],
                counts: vec![N_ROWS / 2, N_ROWS / 2],
            },
            weight: None,
        })
    }

    fn encode(
        &self,
        _: &Located,
        _: &Name,
        _: &FeaturePlan,
    ) -> Result<Box<dyn EncodedRows>, Failure> {
        Ok(Box::new(Rows))
    }

    fn score(
        &self,
        located: &Located,
        _: &FeaturePlan,
        request: &ScoreRequest<'_>,
        score: Scorer<'_>,
        progress: OnProgress<'_>,
        _: &dyn Stop,
    ) -> Result<ScoreSummary, Failure> {
        let mut batch = Batch::new(1, 0);
        Rows.fetch(&(0..N_ROWS).collect::<Vec<_>>(), &mut batch)?;
        let scores = score(&batch)?;
        progress(N_ROWS, Some(N_ROWS));
        let text: Vec<String> = scores.iter().map(f32::to_string).collect();
        std::fs::write(request.out, text.join("\n"))
            .map_err(|error| Failure::new("fake", Exit::Run, "cannot write").because(&error))?;
        let rows = located.snapshot.digest();
        Ok(ScoreSummary { n_rows: N_ROWS, n_labeled: N_ROWS, n_quarantined: 0, rows })
    }

    fn read_scored(&self, predictions: &Path) -> Result<ScoredRows, Failure> {
        let text = std::fs::read_to_string(predictions)
            .map_err(|error| Failure::new("fake", Exit::Run, "cannot read").because(&error))?;
        Ok(ScoredRows {
            task: Task::Binary,
            classes: vec!["no".to_owned(), "yes".to_owned()],
            rows: Digest::of(b"the same rows"),
            label: (0..N_ROWS).map(MemoryTables::label).collect(),
            score: text.lines().filter_map(|line| line.parse().ok()).collect(),
            slices: Vec::new(),
            group: None,
            names: Vec::new(),
        })
    }
}

/// An engine that adds: its one weight counts updates, its scores follow the feature as well as `skill` says.
#[derive(Debug)]
pub struct ScriptedEngine {
    /// Share of the score that comes from the feature, 0 to 1; the rest is noise.
    pub skill: Mutex<f32>,
}

impl Default for ScriptedEngine {
    fn default() -> Self {
        Self { skill: Mutex::new(0.9) }
    }
}

/// Updates of one fake training.
pub const N_UPDATES: u64 = 6;

impl ScriptedEngine {
    fn weights(skill: f32, update: u64) -> Vec<u8> {
        let mut file = Writer::new();
        file.add_f32("skill", &[1], &[skill]);
        file.add("update", Dtype::I64, &[1], update.to_le_bytes().to_vec());
        file.finish()
    }
}

struct Scripted {
    skill: f32,
}

impl Scoring for Scripted {
    fn score(&mut self, batch: &Batch) -> Result<Vec<f32>, Failure> {
        let noise = Stream::new(5, Purpose::Permute, "fake noise");
        Ok(batch
            .numeric
            .iter()
            .zip(0_u64..)
            .map(|(x, row)| self.skill * x + (1.0 - self.skill) * noise.uniform(0, 0, row))
            .collect())
    }
}

impl Engine for ScriptedEngine {
    fn devices(&self) -> Vec<DeviceReport> {
        vec![DeviceReport { name: "cpu".to_owned(), is_usable: true, remark: "fake".to_owned() }]
    }

    fn device_class(&self, _: &str) -> Result<String, Failure> {
        Ok("cpu".to_owned())
    }

    fn environment(&self, _: &TrainSpec) -> Result<BTreeMap<String, String>, Failure> {
        Ok(BTreeMap::new())
    }

    fn n_updates(&self, _: &TrainSpec, _: u64) -> u64 {
        N_UPDATES
    }

    fn train(
        &self,
        _: &TrainSpec,
        _: &FeaturePlan,
        start: Option<CheckpointFiles>,
        io: &mut dyn TrainIo,
    ) -> Result<TrainEnd, Failure> {
        let skill = *self.skill.lock().unwrap_or_else(PoisonError::into_inner);
        let mut update = start.map_or(0, |files| files.state.update);
        loop {
            let state =
                TrainState { update, is_complete: update == N_UPDATES, ..TrainState::default() };
            let files = CheckpointFiles {
                model: Self::weights(skill, update),
                optimizer: update.to_le_bytes().to_vec(),
                state,
            };
            if update == N_UPDATES {
                return Ok(TrainEnd::Complete(Box::new(files)));
            }
            io.keep(files, false)?;
            if io.stop_requested() {
                return Ok(TrainEnd::Stopped { update });
            }
            update += 1;
            let record = UpdateRecord {
                update,
                loss: 1.0,
                learning_rate: 0.1,
                gradient_norm: 1.0,
                n_rows: 1,
            };
            io.log(&record)?;
            io.observe(Event::Updated(record));
        }
    }

    fn open(
        &self,
        _: &TrainSpec,
        _: &FeaturePlan,
        model: &[u8],
        _: &str,
    ) -> Result<Box<dyn Scoring>, Failure> {
        let skill = Tensors::parse(model)?
            .get("skill")
            .and_then(|it| it.to_f32())
            .and_then(|it| it.first().copied());
        let skill = skill.unwrap_or_default();
        Ok(Box::new(Scripted { skill }))
    }
}
