//! The project file `karat.toml`: raw as typed, specs as meant.
//!
//! Every value of a spec is present and inside its limits, so no code after [`Project::read`] checks a setting
//! again.
//!
//! Reading order: [`Project`], [`DatasetSpec`], [`TrainSpec`], then `project::read` (the file as typed, and what it refuses).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Name, Timestamp};

mod read;

/// Rows per update. Above this the activations of our largest preset alone exceed 24 GiB.
pub const BATCH_SIZE_MAX: u32 = 65_536;
/// Passes over the training split.
pub const EPOCHS_MAX: u32 = 100_000;
/// Units of one hidden layer.
pub const HIDDEN_WIDTH_MAX: u32 = 65_536;
/// Hidden layers.
pub const HIDDEN_LAYERS_MAX: usize = 64;
/// Threads that may be asked for.
pub const THREADS_MAX: u64 = 4096;
/// Declared slices.
pub const SLICES_MAX: usize = 256;

/// The whole project, validated.
#[derive(Clone, Debug, PartialEq)]
pub struct Project {
    /// Name of the project; also of the model unless `train.name` differs.
    pub name: Name,
    /// Datasets by name.
    pub datasets: BTreeMap<Name, DatasetSpec>,
    /// Slices by name, of every dataset.
    pub slices: BTreeMap<Name, SliceSpec>,
    /// Checks that are switched off or changed, by check name.
    pub checks: BTreeMap<String, CheckSetting>,
    /// How to train.
    pub train: TrainSpec,
    /// How to score.
    pub score: ScoreSpec,
}

/// A named source of rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatasetSpec {
    /// Its name.
    pub name: Name,
    /// Files, directories or glob patterns, relative to the project.
    pub files: Vec<String>,
    /// The schema file, relative to the project.
    pub schema: String,
    /// Disjoint named parts, by rule.
    pub splits: BTreeMap<Name, SplitSpec>,
}

/// The rule of one split: all parts that are present must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SplitSpec {
    /// SQL predicate over the columns.
    pub predicate: Option<String>,
    /// Half-open range [from, to) on the schema's time column.
    pub time: Option<(Option<Timestamp>, Option<Timestamp>)>,
    /// Half-open range of percentiles [from, to) of a hash of the row's group, else of its key.
    pub hash: Option<(f64, f64)>,
}

/// A named subset of rows, or a family with one slice for every value of a column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SliceSpec {
    /// Rows for which an SQL predicate holds.
    Where(String),
    /// One slice for every value of this column.
    Values(String),
}

/// Severity of a check, or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckLevel {
    /// Stops the run with exit 1.
    Error,
    /// Is shown and does not stop.
    Warn,
    /// Not run, and the report says so.
    Off,
}

/// What the project says about one check.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckSetting {
    /// Severity; the check's own default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<CheckLevel>,
    /// Bound; the check's own default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<f64>,
}

/// What kind of answer the model gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Two classes; the score is the probability of the positive one.
    Binary,
    /// Three classes or more; one probability each.
    Multiclass,
    /// A number.
    Regression,
}

/// The architecture and its size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ModelSpec {
    /// One linear layer over numerics and one-hot categories.
    Linear,
    /// Categorical embeddings and numerics, then fully connected layers with ReLU.
    Mlp {
        /// Units per hidden layer.
        hidden: Vec<u32>,
        /// Widest embedding; a vocabulary of n gets min(this, ⌈(n + 1) / 2⌉).
        embedding_max: u32,
        /// Share of hidden units dropped while training, [0, 1).
        dropout: f64,
    },
}

/// How classes are weighted in the loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassWeights {
    /// All equal.
    None,
    /// Inverse to their frequency in the training split: n / (k · n_class).
    Balanced,
    /// Given by class name.
    Given(BTreeMap<String, f64>),
}

/// When to stop before the last epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EarlyStopping {
    /// Evaluations without improvement of the eval loss before stopping.
    pub patience: u32,
}

/// A training run, completely described. Two equal specs on equal data share a cache key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainSpec {
    /// Dataset to train on.
    pub dataset: Name,
    /// Model under which versions are registered.
    pub name: Name,
    /// Architecture.
    pub model: ModelSpec,
    /// Task; from the label's type when absent.
    pub task: Option<Task>,
    /// Class counted as positive (binary): the text of the label's value.
    pub positive: Option<String>,
    /// Where all randomness comes from.
    pub seed: u64,
    /// Passes over the training split.
    pub epochs: u32,
    /// Rows per update.
    pub batch_size: u32,
    /// Micro-batches an update is accumulated from.
    pub accumulate: u32,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Share of all updates spent warming up linearly, [0, 1).
    pub warmup: f64,
    /// Final learning rate as a share of the peak.
    pub learning_rate_final: f64,
    /// Decoupled weight decay (AdamW), on matrices only: never on biases.
    pub weight_decay: f64,
    /// Global gradient norm above which gradients are scaled down; 0 switches it off.
    pub clip_norm: f64,
    /// Class weights.
    pub class_weights: ClassWeights,
    /// Early stopping on the eval split.
    pub early_stopping: Option<EarlyStopping>,
    /// Updates with a non-finite loss or gradient that are skipped before the run fails.
    pub non_finite_max: u32,
    /// Split that is trained on.
    pub split_train: Name,
    /// Split that early stopping and "best" checkpoints look at.
    pub split_eval: Name,
    /// When checkpoints are written. Not part of the cache key.
    #[serde(skip, default)]
    pub checkpoint: CheckpointPolicy,
    /// Device name. The device's *class* is part of the cache key, not this text.
    #[serde(skip, default)]
    pub device: String,
    /// Threads; 0 = all cores. Not part of the cache key: bits do not depend on it.
    #[serde(skip, default)]
    pub threads: usize,
}

/// When checkpoints are written and which are kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CheckpointPolicy {
    /// Every so many updates; 0 = never by count.
    pub every_updates: u64,
    /// Every so many seconds; 0 = never by time.
    pub every_seconds: u64,
    /// Newest checkpoints kept; at least 1.
    pub keep_last: usize,
    /// Best checkpoints (by eval loss) kept.
    pub keep_best: usize,
}

impl Default for CheckpointPolicy {
    fn default() -> Self {
        Self { every_updates: 0, every_seconds: 60, keep_last: 2, keep_best: 1 }
    }
}

/// How to score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreSpec {
    /// Split scored for the gate.
    pub split: Name,
    /// Rows handed to the device at once. Not part of the cache key: a row's score does not depend on its batch.
    #[serde(skip, default = "default_score_batch")]
    pub batch_size: u32,
    /// Largest share of rows that may be quarantined, [0, 1].
    pub quarantine_max: f64,
}

fn default_score_batch() -> u32 {
    8192
}

/// `1234567` as `1,234,567`.
#[must_use]
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if 0 < i && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{ModelSpec, Project, thousands};
    use crate::Document;

    const GOOD: &str = r#"
version = 1
[project]
name = "flights"
[dataset.flights]
files = "data/*.parquet"
[split.flights]
train = { where = "month <= 6", hash = [0, 95] }
holdout = { time = ["2013-07-01", ""] }
[slice]
carrier = { values = "carrier" }
[train]
hidden = [8]
batch_size = 64
"#;

    fn read(text: &str) -> Result<Project, crate::Failure> {
        Project::read(&Document::parse("karat.toml", text)?)
    }

    #[test]
    fn a_good_file_fills_every_default() {
        let project = read(GOOD).expect("valid");
        assert_eq!(project.train.name.as_str(), "flights");
        assert_eq!(
            project.train.model,
            ModelSpec::Mlp { hidden: vec![8], embedding_max: 16, dropout: 0.0 }
        );
        assert_eq!(project.score.split.as_str(), "holdout");
        let dataset = &project.datasets[&"flights".parse().expect("a name")];
        assert_eq!(dataset.schema, "schema/flights.toml");
        assert_eq!(dataset.splits.len(), 2);
    }

    #[test]
    fn out_of_range_values_say_asked_allowed_and_where() {
        let failure = read(&GOOD.replace("batch_size = 64", "batch_size = 0")).expect_err("zero");
        assert_eq!(failure.message, "`train.batch_size` is 0, must be between 1 and 65,536");
        assert_eq!(failure.details, ["--> karat.toml:14:14"]);
    }

    #[test]
    fn every_bad_value_is_refused() {
        for (from, to) in [
            ("version = 1", "version = 2"),
            ("hidden = [8]", "hidden = []"),
            ("hidden = [8]", "hidden = [0]"),
            ("hidden = [8]", "model = \"tree\""),
            ("hidden = [8]", "model = \"linear\"\nhidden = [8]"),
            ("hidden = [8]", "learning_rate = nan"),
            ("hidden = [8]", "dropout = 1.0"),
            ("hidden = [8]", "seed = -1"),
            ("hidden = [8]", "class_weights = \"some\""),
            ("hidden = [8]", "class_weights = { a = 0 }"),
            ("hash = [0, 95]", "hash = [95, 5]"),
            (
                "holdout = { time = [\"2013-07-01\", \"\"] }",
                "holdout = { time = [\"July\", \"\"] }",
            ),
            ("holdout = { time = [\"2013-07-01\", \"\"] }", "holdout = {}"),
            ("[split.flights]", "[split.flight]"),
            ("{ values = \"carrier\" }", "{}"),
            ("carrier = {", "all = {"),
            ("name = \"flights\"", "name = \"../flights\""),
            ("files = \"data/*.parquet\"", "files = 3"),
            ("files = \"data/*.parquet\"", "files = []"),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let failure = read(&GOOD.replacen(from, to, 1)).expect_err(to);
            assert!(!failure.details.is_empty(), "{to}: no place in {failure:?}");
        }
    }

    #[test]
    fn thousands_are_separated() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }
}
