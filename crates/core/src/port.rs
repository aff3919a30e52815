//! The two ports: what the lifecycle needs from tables and from devices. Each has one real and one fake
//! implementation; a third port needs a design note.
//!
//! [`Tables`] reads and writes rows and drives the streaming; [`Engine`] is handed plain numbers. Where both work at
//! once (training, scoring) the pipeline passes one of them a closure or an [`EncodedRows`], so that neither knows
//! the other.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    Batch, DatasetSpec, Digest, Environment, Event, Failure, FeaturePlan, Name, Profile, Schema,
    ScoredRows, SliceSpec, Snapshot, SplitSpec, Task, TrainSpec, UpdateRecord,
};

/// Tells a long call to end early: polled between units of work.
pub trait Stop: Sync {
    /// Whether the person or the system asked to stop.
    fn is_requested(&self) -> bool;
}

/// Never stops.
pub struct NeverStop;

impl Stop for NeverStop {
    fn is_requested(&self) -> bool {
        false
    }
}

/// A snapshot together with where its files lie now.
#[derive(Clone, Debug)]
pub struct Located {
    /// What was frozen.
    pub snapshot: Snapshot,
    /// The schema it was read with.
    pub schema: Schema,
    /// The dataset's rules.
    pub dataset: DatasetSpec,
    /// Folder that [`crate::SnapshotFile::path`] is relative to.
    pub root: PathBuf,
}

/// A digest that need not be computed again: same path, size, mtime and inode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownFile {
    /// Absolute path.
    pub path: String,
    /// Size.
    pub n_bytes: u64,
    /// Modification time, ns since the epoch.
    pub modified_ns: i128,
    /// Inode number; 0 where there is none.
    pub inode: u64,
    /// Digest of the content.
    pub digest: Digest,
    /// Rows.
    pub n_rows: u64,
}

/// Reports units of work done: (done, total when known).
pub type OnProgress<'a> = &'a mut (dyn FnMut(u64, Option<u64>) + Send);

/// What fitting needs to know besides the rows.
#[derive(Clone, Debug)]
pub struct FitRequest {
    /// Task, or by the label's type when absent.
    pub task: Option<Task>,
    /// Class counted as positive, as text; by convention when absent (`true`, `1`, `yes`, else the second in text
    /// order).
    pub positive: Option<String>,
}

/// What to score and where to.
pub struct ScoreRequest<'a> {
    /// Rule of the rows to score; `None` = all rows.
    pub split: Option<(&'a Name, &'a SplitSpec)>,
    /// Slices whose membership is written beside the scores.
    pub slices: Vec<(&'a Name, &'a SliceSpec)>,
    /// Rows per call of the scorer.
    pub batch_size: usize,
    /// File to write; its extension (`parquet`, `csv`, `jsonl`) decides the format.
    pub out: &'a Path,
    /// File for rows that could not be scored (JSON lines); written only when there are any.
    pub quarantine: &'a Path,
    /// Largest share of quarantined rows.
    pub quarantine_max: f64,
    /// Key → value pairs put into the file's metadata: model and snapshot digests.
    pub metadata: Vec<(String, String)>,
}

/// What scoring did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreSummary {
    /// Rows scored.
    pub n_rows: u64,
    /// Rows with a label.
    pub n_labeled: u64,
    /// Rows in the quarantine file.
    pub n_quarantined: u64,
    /// Digest over every scored row's key and label in order: two predictions with equal digests are about the same
    /// rows.
    pub rows: Digest,
}

/// Called with encoded rows, in order; returns `n_rows × n_outputs` scores, row-major.
pub type Scorer<'a> = &'a mut (dyn FnMut(&Batch) -> Result<Vec<f32>, Failure> + Send);

/// Tables, as the lifecycle needs them. Real: `karat-table`. Fake: `karat_testkit::MemoryTables`.
pub trait Tables {
    /// Looks at files and proposes types and roles. `label` gets the label role.
    fn infer_schema(
        &self,
        root: &Path,
        files: &[String],
        label: Option<&str>,
    ) -> Result<Schema, Failure>;

    /// Freezes a dataset: digests, row counts. `known` saves hashing unchanged files; the returned list replaces it.
    fn snapshot(
        &self,
        root: &Path,
        dataset: &DatasetSpec,
        schema: &Schema,
        known: &[KnownFile],
        progress: OnProgress<'_>,
    ) -> Result<(Snapshot, Vec<KnownFile>), Failure>;

    /// Counts and never judges. Progress is in rows.
    fn measure(
        &self,
        located: &Located,
        label_split: Option<&Name>,
        progress: OnProgress<'_>,
    ) -> Result<Profile, Failure>;

    /// Fits the plan on the rows of `split` that have a label.
    fn fit(
        &self,
        located: &Located,
        split: &Name,
        request: &FitRequest,
    ) -> Result<FeaturePlan, Failure>;

    /// The labelled rows of `split`, encoded, with random access.
    fn encode(
        &self,
        located: &Located,
        split: &Name,
        plan: &FeaturePlan,
    ) -> Result<Box<dyn EncodedRows>, Failure>;

    /// Streams rows through `score` into a file. Progress is in rows.
    fn score(
        &self,
        located: &Located,
        plan: &FeaturePlan,
        request: &ScoreRequest<'_>,
        score: Scorer<'_>,
        progress: OnProgress<'_>,
        stop: &dyn Stop,
    ) -> Result<ScoreSummary, Failure>;

    /// Reads the labelled rows of a predictions file that [`Tables::score`] wrote as Parquet.
    fn read_scored(&self, predictions: &Path) -> Result<ScoredRows, Failure>;

    /// Reads the other rows of such a file, those without a label: [`ScoredRows::label`] is NaN for each.
    fn read_unlabeled(&self, predictions: &Path) -> Result<ScoredRows, Failure>;
}

/// Encoded rows with random access: row `i` is the same on every call, attempt and machine.
pub trait EncodedRows: Send {
    /// Rows.
    fn n_rows(&self) -> u64;

    /// Replaces `into` by the rows at `rows`, in that order.
    fn fetch(&mut self, rows: &[u64], into: &mut Batch) -> Result<(), Failure>;
}

/// The files of one checkpoint, as bytes. Everything needed to continue bit for bit.
#[derive(Clone, Debug)]
pub struct CheckpointFiles {
    /// Weights: `model.safetensors`.
    pub model: Vec<u8>,
    /// Optimizer state keyed by parameter path: `optimizer.safetensors`.
    pub optimizer: Vec<u8>,
    /// Position and counters.
    pub state: TrainState,
}

/// Where training stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainState {
    /// Updates done.
    pub update: u64,
    /// Updates skipped because of a non-finite loss or gradient.
    pub n_skipped: u32,
    /// Best eval loss so far, as its bits: exact through JSON.
    pub best_eval_loss_bits: Option<u64>,
    /// Update of the best eval loss.
    pub best_update: u64,
    /// Evaluations since the best.
    pub n_evaluations_without_gain: u32,
    /// SHA-256 chain over (loss bits, gradient norm bits) of every update.
    pub chain: Option<Digest>,
    /// Whether training has ended.
    pub is_complete: bool,
    /// Whether it ended because its time was up.
    #[serde(default)]
    pub is_out_of_time: bool,
    /// What must match for a bitwise resume: name → value.
    pub environment: std::collections::BTreeMap<String, String>,
    /// Rows of one forward and backward pass, where the device's memory held fewer than the spec asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_at_once: Option<u32>,
    /// Whether updates were made on more than one device: what is promised of bits on one does not hold.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_mixed: bool,
    /// What happened that a reader of the record should know, a short sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

/// What training reads from and reports to. `Send`, because training runs on a thread of the engine's own pool.
pub trait TrainIo: Send {
    /// The rows trained on.
    fn train_rows(&mut self) -> &mut dyn EncodedRows;
    /// The rows evaluated on, if the eval split exists and is used.
    fn eval_rows(&mut self) -> Option<&mut dyn EncodedRows>;
    /// Makes a checkpoint durable. May return before it is: the next call, and the end of training, wait for it.
    /// `is_best` tells that its eval loss is the best so far.
    fn keep(&mut self, files: CheckpointFiles, is_best: bool) -> Result<(), Failure>;
    /// One line of the metrics log. Records after a resume continue exactly where the checkpoint's update left off.
    fn log(&mut self, record: &UpdateRecord) -> Result<(), Failure>;
    /// Tells observers.
    fn observe(&mut self, event: Event);
    /// Whether to stop after the current update.
    fn stop_requested(&self) -> bool;
    /// Whether a checkpoint is due by time.
    fn save_is_due(&mut self) -> bool;
    /// Whether training has had all the time it may take. There is no limit unless the spec has one.
    fn is_out_of_time(&self) -> bool {
        false
    }
    /// Told whenever something ends: the time since the last call went to `part`.
    fn lap(&mut self, _part: Part) {}
}

/// What an update spends its time on. On a device that computes beside the host, the host's time: it waits where it
/// reads a number back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Waiting for rows.
    Rows,
    /// Inputs to loss.
    Forward,
    /// Loss to gradients.
    Backward,
    /// Gradient norm, clip, optimizer, average weights.
    Optimizer,
    /// Looking at the eval split.
    Evaluate,
    /// Everything else: the log, checkpoints handed over, observers.
    Other,
}

/// How a call to [`Engine::train`] ended.
#[derive(Clone, Debug)]
pub enum TrainEnd {
    /// All updates done, or early stopping. Holds the weights to register: the best by eval loss when early stopping
    /// is on, else the last.
    Complete(Box<CheckpointFiles>),
    /// Stopped on request; the last checkpoint handed to `keep` is the place to continue.
    Stopped {
        /// Updates done.
        update: u64,
    },
}

/// Work in matrix products: what a row takes and what a machine can do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Floating-point operations to train on one row.
    pub operations_per_row: f64,
    /// Operations a second in one large product, as just measured.
    pub ceiling: f64,
}

/// A model ready to score.
pub trait Scoring: Send {
    /// `n_rows × n_outputs` scores, row-major: probabilities, or values in the label's own unit.
    fn score(&mut self, batch: &Batch) -> Result<Vec<f32>, Failure>;
}

/// What a device says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceReport {
    /// Name as typed: `cpu`, `wgpu:0`.
    pub name: String,
    /// Whether it works here.
    pub is_usable: bool,
    /// Description, or why not.
    pub remark: String,
    /// What was found when it was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<DeviceFacts>,
}

impl DeviceReport {
    /// A device that does not work here.
    #[must_use]
    pub fn absent(name: &str, reason: String) -> Self {
        Self { name: name.to_owned(), is_usable: false, remark: reason, facts: None }
    }
}

/// A device that was opened.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeviceFacts {
    /// What the part calls itself.
    pub adapter: String,
    /// The driver and its version.
    pub driver: String,
    /// The interface it was reached through: `Vulkan`, `Metal`, `Cuda`.
    pub interface: String,
    /// Whether it is a program on the CPU (llvmpipe, WARP): right, and slow.
    pub is_software: bool,
    /// Bytes of memory, where the driver says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// What kernels may use: `f16`, `bf16`, `plane`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// Products of matrices, 10⁹ operations a second, measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gflops: Option<f64>,
    /// Copying, 10⁹ bytes read and written a second, measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_gb_s: Option<f64>,
    /// Training on it beside training on `cpu`, measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parity: Vec<Parity>,
}

/// The same training on a device and on `cpu`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parity {
    /// The architecture.
    pub model: String,
    /// Updates before the loss that was compared.
    pub n_updates: u64,
    /// Relative difference of the losses; none where the device gave NaN or infinity.
    pub error: Option<f64>,
    /// Largest difference allowed.
    pub tolerance: f64,
}

impl Parity {
    /// Whether the difference is allowed.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.error.is_some_and(|error| error <= self.tolerance)
    }
}

/// Numbers on a device, as the lifecycle needs them. Real: `karat-engine`. Fake: `karat_testkit::ScriptedEngine`.
pub trait Engine {
    /// Devices of this build and machine.
    fn devices(&self) -> Vec<DeviceReport>;

    /// The class of the device that `name` means (`cpu`): part of cache keys.
    fn device_class(&self, name: &str) -> Result<String, Failure>;

    /// Where a training of `spec` would run here and what is promised of its result. Leaves [`Environment::host`] empty.
    fn environment(&self, spec: &TrainSpec) -> Result<Environment, Failure>;

    /// Updates that `spec` asks for on `n_rows` training rows.
    fn n_updates(&self, spec: &TrainSpec, n_rows: u64) -> u64;

    /// How much work training on one row is, and how much this machine can do; `None` where nobody knows. Takes a moment:
    /// it measures.
    fn work(&self, _spec: &TrainSpec, _plan: &FeaturePlan) -> Option<Work> {
        None
    }

    /// Trains from `start`, or from fresh weights. Resuming is not a special case: a fresh run is a resume from
    /// update 0.
    fn train(
        &self,
        spec: &TrainSpec,
        plan: &FeaturePlan,
        start: Option<CheckpointFiles>,
        io: &mut dyn TrainIo,
    ) -> Result<TrainEnd, Failure>;

    /// Opens weights for scoring, after checking that names, shapes and types are exactly the model's.
    fn open(
        &self,
        spec: &TrainSpec,
        plan: &FeaturePlan,
        model: &[u8],
        device: &str,
    ) -> Result<Box<dyn Scoring>, Failure>;
}
