//! The two ports without tables and devices: lifecycle tests run in milliseconds.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        LazyLock, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use karat_core::{
    Batch, ColumnType, DatasetSpec, Digest, Environment, Event, Exit, Failure, Feature,
    FeaturePlan, LabelPlan, Name, Profile, Schema, ScoredRows, Snapshot, SnapshotFile, Task, Tier,
    TrainSpec, UpdateRecord,
    metric::Metric,
    plan::Encoding,
    port::{
        CheckpointFiles, DeviceReport, EncodedRows, Engine, FitRequest, KnownFile, Located,
        OnProgress, ScoreRequest, ScoreSummary, Scorer, Scoring, Stop, Tables, TrainEnd, TrainIo,
        TrainState,
    },
    profile::{Overlap, Repeats, SplitProfile},
    rng::{Purpose, Stream},
    tensors::{Dtype, Tensors, Writer},
};

/// Rows of the fake dataset.
pub const N_ROWS: u64 = 2000;

/// What was asked of a port, in order.
#[derive(Debug, Default)]
pub struct Calls(Mutex<Vec<&'static str>>);

impl Calls {
    fn note(&self, call: &'static str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    }

    /// The calls since the last look.
    #[must_use]
    pub fn take(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Tables without files: one feature, two classes; `content` stands for the bytes on disk.
#[derive(Debug, Default)]
pub struct MemoryTables {
    /// Changes the snapshot's digest, as changed bytes would.
    pub content: AtomicU64,
    /// Rows without a label beside the others; they get the scores of the first ones.
    pub n_unlabeled: AtomicU64,
    /// Whether scoring ends with more bad rows than allowed.
    pub refuses_rows: AtomicBool,
    /// What was asked; `snapshot` is not listed, because every pass asks it.
    pub calls: Calls,
}

impl MemoryTables {
    fn label(row: u64) -> f32 {
        f32::from(u8::from(LABEL.uniform(0, 0, row) < Self::feature(row)))
    }

    fn feature(row: u64) -> f32 {
        FEATURE.uniform(0, 0, row)
    }

    /// Refuses a snapshot that is not what lies there now.
    fn verify(&self, located: &Located) -> Result<(), Failure> {
        let content = Digest::of(&self.content.load(Ordering::Relaxed).to_le_bytes());
        if located.snapshot.files.iter().all(|file| file.digest == content) {
            return Ok(());
        }
        Err(Failure::new(
            "snapshot-changed",
            Exit::Run,
            "file `rows` has changed since the snapshot",
        ))
    }
}

// A stream's key is a hash; one for every row would be most of a test's time.
static LABEL: LazyLock<Stream> = LazyLock::new(|| Stream::new(3, Purpose::Permute, "fake label"));
static FEATURE: LazyLock<Stream> =
    LazyLock::new(|| Stream::new(3, Purpose::Permute, "fake feature"));

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

/// Every two splits, with nothing in both.
fn pairs<'a>(splits: impl Iterator<Item = &'a Name> + Clone) -> Vec<Overlap> {
    let after = |n: usize| splits.clone().skip(n + 1);
    let both = splits.clone().enumerate().flat_map(|(n, a)| after(n).map(move |b| (a, b)));
    both.map(|(a, b)| Overlap {
        a: a.to_string(),
        b: b.to_string(),
        n_same_row: 0,
        n_same_key: 0,
        n_same_features: 0,
    })
    .collect()
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
        self.calls.note("measure");
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
            overlaps: pairs(located.dataset.splits.keys()),
            associations: Vec::new(),
        })
    }

    fn fit(&self, located: &Located, _: &Name, _: &FitRequest) -> Result<FeaturePlan, Failure> {
        self.calls.note("fit");
        self.verify(located)?;
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
            image: None,
        })
    }

    fn encode(
        &self,
        _: &Located,
        _: &Name,
        _: &FeaturePlan,
    ) -> Result<Box<dyn EncodedRows>, Failure> {
        self.calls.note("encode");
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
        self.calls.note("score");
        if self.refuses_rows.load(Ordering::Relaxed) {
            std::fs::write(request.quarantine, "{\"row\":1,\"reason\":\"not a number\"}\n")
                .map_err(|error| Failure::new("fake", Exit::Run, "cannot write").because(&error))?;
            return Err(Failure::new(
                "quarantine-exceeded",
                Exit::Fail,
                "1 row could not be scored",
            ));
        }
        let mut batch = Batch::new(1, 0);
        Rows.fetch(&(0..N_ROWS).collect::<Vec<_>>(), &mut batch)?;
        let scores = score(&batch)?;
        progress(N_ROWS, Some(N_ROWS));
        let rows = located.snapshot.digest();
        let mut text = rows.to_string();
        for score in scores {
            text.push('\n');
            text.push_str(&score.to_string());
        }
        std::fs::write(request.out, text)
            .map_err(|error| Failure::new("fake", Exit::Run, "cannot write").because(&error))?;
        Ok(ScoreSummary { n_rows: N_ROWS, n_labeled: N_ROWS, n_quarantined: 0, rows })
    }

    fn read_scored(&self, predictions: &Path) -> Result<ScoredRows, Failure> {
        self.calls.note("read_scored");
        let text = std::fs::read_to_string(predictions)
            .map_err(|error| Failure::new("fake", Exit::Run, "cannot read").because(&error))?;
        let mut lines = text.lines();
        let rows = lines.next().and_then(|it| it.parse().ok());
        Ok(ScoredRows {
            task: Task::Binary,
            classes: vec!["no".to_owned(), "yes".to_owned()],
            rows: rows.ok_or_else(|| Failure::new("fake", Exit::Run, "no digest of rows"))?,
            label: (0..N_ROWS).map(Self::label).collect(),
            score: lines.filter_map(|line| line.parse().ok()).collect(),
            slices: Vec::new(),
            group: None,
            votes: None,
            names: Vec::new(),
        })
    }

    fn read_unlabeled(&self, predictions: &Path) -> Result<ScoredRows, Failure> {
        let mut rows = self.read_scored(predictions)?;
        let n_unlabeled = usize::try_from(self.n_unlabeled.load(Ordering::Relaxed)).unwrap_or(0);
        rows.label = vec![f32::NAN; n_unlabeled];
        rows.score.truncate(n_unlabeled);
        Ok(rows)
    }
}

/// An engine of one weight, whose every update depends on the one before it, so that a resume from the wrong place
/// shows. Its scores follow the feature as well as `skill` says. A checkpoint after every update, a look at the eval loss
/// after every second.
#[derive(Debug)]
pub struct ScriptedEngine {
    /// Share of the score that comes from the feature, 0 to 1; the rest is noise.
    pub skill: Mutex<f32>,
    /// Update whose loss is a few last bits off, as on a device that does not repeat itself; 0 = none.
    pub slips_at: AtomicU64,
    /// What was asked.
    pub calls: Calls,
}

impl Default for ScriptedEngine {
    fn default() -> Self {
        Self { skill: Mutex::new(0.9), slips_at: AtomicU64::new(0), calls: Calls::default() }
    }
}

/// Updates of one fake training.
pub const N_UPDATES: u64 = 6;

/// Where a fake training stands.
struct Position {
    weight: f64,
    state: TrainState,
}

impl Position {
    fn of(start: Option<CheckpointFiles>) -> Result<Self, Failure> {
        let Some(files) = start else {
            return Ok(Self { weight: 0.0, state: TrainState::default() });
        };
        let refuse = || Failure::new("fake", Exit::Run, "the parts of a checkpoint do not match");
        let bytes: [u8; 8] = files.optimizer.as_slice().try_into().map_err(|_| refuse())?;
        let tensors = Tensors::parse(&files.model)?;
        let is_same = tensors.get("weight").is_some_and(|it| it.bytes == bytes);
        if !is_same {
            return Err(refuse());
        }
        Ok(Self { weight: f64::from_le_bytes(bytes), state: files.state })
    }

    fn files(&self, skill: f32) -> CheckpointFiles {
        let bytes = self.weight.to_le_bytes();
        let mut file = Writer::new();
        file.add_f32("skill", &[1], &[skill]);
        file.add("weight", Dtype::F64, &[1], bytes.to_vec());
        CheckpointFiles {
            model: file.finish(),
            optimizer: bytes.to_vec(),
            state: self.state.clone(),
        }
    }

    fn update(&mut self, seed: u64, slips_at: u64) -> UpdateRecord {
        let noise = Stream::new(seed, Purpose::Shuffle, "fake loss");
        let mut loss =
            f64::from(noise.uniform(0, 0, self.state.update)) + (1.0 - self.weight).abs() / 3.0;
        self.state.update += 1;
        if self.state.update == slips_at {
            loss = f64::from_bits(loss.to_bits() + 64);
        }
        self.weight += loss / 7.0;
        let before = self.state.chain.map_or_else(String::new, |it| it.to_string());
        self.state.chain = Some(Digest::of(format!("{before} {loss}").as_bytes()));
        UpdateRecord {
            update: self.state.update,
            loss,
            learning_rate: 1.0 / 7.0,
            gradient_norm: loss,
            n_rows: 10,
            weights: self
                .state
                .update
                .is_power_of_two()
                .then(|| Digest::of(&self.weight.to_le_bytes())),
        }
    }

    /// The eval loss and whether it is the best so far.
    fn evaluate(&mut self) -> (f64, bool) {
        let loss = (self.weight * 100.0).fract();
        let is_best = self.state.best_eval_loss_bits.is_none_or(|it| loss < f64::from_bits(it));
        if is_best {
            self.state.best_eval_loss_bits = Some(loss.to_bits());
            self.state.best_update = self.state.update;
        }
        (loss, is_best)
    }
}

/// The fake's other device: its scores are [`SHIFT`] off.
pub const OTHER_DEVICE: &str = "cuda:0";

/// How far scores of [`OTHER_DEVICE`] are from those of `cpu`.
pub const SHIFT: f32 = 1.0 / 1024.0;

struct Scripted {
    skill: f32,
    shift: f32,
}

impl Scoring for Scripted {
    fn score(&mut self, batch: &Batch) -> Result<Vec<f32>, Failure> {
        let noise = Stream::new(5, Purpose::Permute, "fake noise");
        Ok(batch
            .numeric
            .iter()
            .zip(0_u64..)
            .map(|(x, row)| {
                let score = self.skill * x + (1.0 - self.skill) * noise.uniform(0, 0, row);
                // What is shifted still is a probability.
                if 0.0 < self.shift { score.min(1.0 - self.shift) + self.shift } else { score }
            })
            .collect())
    }
}

impl Engine for ScriptedEngine {
    fn devices(&self) -> Vec<DeviceReport> {
        vec![DeviceReport {
            name: "cpu".to_owned(),
            is_usable: true,
            remark: "fake".to_owned(),
            facts: None,
        }]
    }

    fn device_class(&self, name: &str) -> Result<String, Failure> {
        Ok(if name == OTHER_DEVICE { OTHER_DEVICE } else { "cpu" }.to_owned())
    }

    fn environment(&self, spec: &TrainSpec) -> Result<Environment, Failure> {
        Ok(Environment {
            tiers: Tier::ALL[..3].to_vec(),
            device: "cpu".to_owned(),
            precision: "f64".to_owned(),
            n_threads: spec.threads.max(1),
            ..Environment::default()
        })
    }

    fn n_updates(&self, _: &TrainSpec, _: u64) -> u64 {
        N_UPDATES
    }

    fn train(
        &self,
        spec: &TrainSpec,
        _: &FeaturePlan,
        start: Option<CheckpointFiles>,
        io: &mut dyn TrainIo,
    ) -> Result<TrainEnd, Failure> {
        self.calls.note("train");
        let skill = *self.skill.lock().unwrap_or_else(PoisonError::into_inner);
        let mut at = Position::of(start)?;
        while at.state.update < N_UPDATES {
            let record = at.update(spec.seed, self.slips_at.load(Ordering::Relaxed));
            io.log(&record)?;
            io.observe(Event::Updated(record));
            // A real engine asks after every update, and the caller beats its heart then.
            let _ = io.save_is_due();
            let (mut is_best, update) = (false, record.update);
            if update.is_multiple_of(2) {
                let (loss, found) = at.evaluate();
                is_best = found;
                let (metric, value) = (Metric::Accuracy, 1.0 - loss / 2.0);
                io.observe(Event::Evaluated { update, loss, is_best, metric, value });
            }
            if io.is_out_of_time() {
                at.state.is_out_of_time = update < N_UPDATES;
                break;
            }
            if update < N_UPDATES {
                io.keep(at.files(skill), is_best)?;
                if io.stop_requested() {
                    return Ok(TrainEnd::Stopped { update });
                }
            }
        }
        at.state.is_complete = true;
        Ok(TrainEnd::Complete(Box::new(at.files(skill))))
    }

    fn open(
        &self,
        _: &TrainSpec,
        _: &FeaturePlan,
        model: &[u8],
        device: &str,
    ) -> Result<Box<dyn Scoring>, Failure> {
        self.calls.note("open");
        let skill = Tensors::parse(model)?
            .get("skill")
            .and_then(|it| it.to_f32())
            .and_then(|it| it.first().copied());
        let skill = skill.unwrap_or_default();
        let shift = if device == OTHER_DEVICE { SHIFT } else { 0.0 };
        Ok(Box::new(Scripted { skill, shift }))
    }
}
