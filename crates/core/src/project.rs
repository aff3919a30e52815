//! The project file `karat.toml`: raw as typed, specs as meant.
//!
//! Every value of a spec is present and inside its limits, so no code after [`Project::read`] checks a setting
//! again.
//!
//! Reading order: [`Project`], [`DatasetSpec`], [`TrainSpec`], then the `Raw…` types.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Document, Failure, Name, Timestamp, nearest};

/// Rows per update. Above this the activations of our largest preset alone exceed 24 GiB.
pub const BATCH_SIZE_MAX: u32 = 65_536;
/// Passes over the training split.
pub const EPOCHS_MAX: u32 = 100_000;
/// Units of one hidden layer.
pub const HIDDEN_WIDTH_MAX: u32 = 65_536;
/// Hidden layers.
pub const HIDDEN_LAYERS_MAX: usize = 64;
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProject {
    version: u32,
    project: RawHead,
    #[serde(default)]
    dataset: BTreeMap<String, RawDataset>,
    #[serde(default)]
    split: BTreeMap<String, BTreeMap<String, RawSplit>>,
    #[serde(default)]
    slice: BTreeMap<String, RawSlice>,
    #[serde(default)]
    check: BTreeMap<String, CheckSetting>,
    train: RawTrain,
    #[serde(default)]
    score: RawScore,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHead {
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDataset {
    files: OneOrMany,
    schema: Option<String>,
}

/// `"a"` or `["a", "b"]`, with a message of its own instead of serde's "did not match any variant".
#[derive(Debug)]
struct OneOrMany(Vec<String>);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match toml::Value::deserialize(deserializer)? {
            toml::Value::String(one) => Ok(Self(vec![one])),
            toml::Value::Array(many) => many
                .into_iter()
                .map(|it| it.as_str().map(str::to_owned))
                .collect::<Option<Vec<_>>>()
                .map(Self)
                .ok_or_else(|| {
                    serde::de::Error::custom("expected a pattern or a list of patterns")
                }),
            other => Err(serde::de::Error::custom(format!(
                "expected a pattern or a list of patterns, found {}",
                other.type_str()
            ))),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSplit {
    #[serde(rename = "where")]
    predicate: Option<String>,
    time: Option<[String; 2]>,
    hash: Option<[f64; 2]>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSlice {
    #[serde(rename = "where")]
    predicate: Option<String>,
    values: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTrain {
    dataset: Option<String>,
    name: Option<String>,
    model: Option<String>,
    hidden: Option<Vec<u32>>,
    embedding_max: Option<u32>,
    dropout: Option<f64>,
    task: Option<Task>,
    positive: Option<String>,
    seed: Option<u64>,
    epochs: Option<u32>,
    batch_size: Option<u32>,
    accumulate: Option<u32>,
    learning_rate: Option<f64>,
    warmup: Option<f64>,
    learning_rate_final: Option<f64>,
    weight_decay: Option<f64>,
    clip_norm: Option<f64>,
    class_weights: Option<RawClassWeights>,
    early_stopping: Option<u32>,
    non_finite_max: Option<u32>,
    split_train: Option<String>,
    split_eval: Option<String>,
    checkpoint: Option<RawCheckpoint>,
    device: Option<String>,
    threads: Option<usize>,
}

/// `"none"`, `"balanced"` or a table of weights by class.
#[derive(Debug)]
struct RawClassWeights(ClassWeights);

impl<'de> Deserialize<'de> for RawClassWeights {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let found = toml::Value::deserialize(deserializer)?;
        let weights = match &found {
            toml::Value::String(word) if word == "none" => ClassWeights::None,
            toml::Value::String(word) if word == "balanced" => ClassWeights::Balanced,
            toml::Value::Table(table) => {
                let mut given = BTreeMap::new();
                for (class, weight) in table {
                    #[expect(clippy::cast_precision_loss, reason = "a weight, not a count")]
                    let weight =
                        weight.as_float().or_else(|| weight.as_integer().map(|it| it as f64));
                    let weight =
                        weight.filter(|it| it.is_finite() && 0.0 < *it).ok_or_else(|| {
                            D::Error::custom(format!(
                                "weight of class `{class}` must be a number above 0"
                            ))
                        })?;
                    given.insert(class.clone(), weight);
                }
                ClassWeights::Given(given)
            }
            _ => {
                return Err(D::Error::custom(
                    "expected \"none\", \"balanced\" or a table of weights by class",
                ));
            }
        };
        Ok(Self(weights))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCheckpoint {
    every_updates: Option<u64>,
    every_seconds: Option<u64>,
    keep_last: Option<usize>,
    keep_best: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScore {
    split: Option<String>,
    batch_size: Option<u32>,
    quarantine_max: Option<f64>,
}

impl Project {
    /// Reads and validates `karat.toml`.
    pub fn read(document: &Document) -> Result<Self, Failure> {
        let raw: RawProject = document.read()?;
        if raw.version != 1 {
            return Err(document
                .refuse("version", format!("`version` is {}, this build reads 1", raw.version)));
        }
        let name = parse_name(document, "project.name", &raw.project.name)?;
        let datasets = datasets(document, raw.dataset, raw.split)?;
        let slices = slices(document, raw.slice)?;
        let train = train(document, &name, &datasets, raw.train)?;
        let score = score(document, &raw.score)?;
        Ok(Self { name, datasets, slices, checks: raw.check, train, score })
    }

    /// The dataset called `name`, or an error that lists near names.
    pub fn dataset(&self, name: &Name) -> Result<&DatasetSpec, Failure> {
        self.datasets.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.datasets.keys().map(Name::as_str).collect();
            Failure::new(
                "dataset-unknown",
                crate::Exit::Usage,
                format!(
                    "no dataset `{name}`: known are `{}`",
                    nearest(name.as_str(), known).join("`, `")
                ),
            )
        })
    }
}

fn parse_name(document: &Document, key: &str, text: &str) -> Result<Name, Failure> {
    text.parse().map_err(|error| document.refuse(key, format!("`{key}`: {error}")))
}

fn datasets(
    document: &Document,
    raw: BTreeMap<String, RawDataset>,
    mut raw_splits: BTreeMap<String, BTreeMap<String, RawSplit>>,
) -> Result<BTreeMap<Name, DatasetSpec>, Failure> {
    let mut datasets = BTreeMap::new();
    for (text, raw) in raw {
        let key = format!("dataset.{text}");
        let name = parse_name(document, &key, &text)?;
        if raw.files.0.is_empty() {
            return Err(
                document.refuse(&format!("{key}.files"), format!("`{key}.files` names no file"))
            );
        }
        let mut splits = BTreeMap::new();
        for (split, raw) in raw_splits.remove(&text).unwrap_or_default() {
            let key = format!("split.{text}.{split}");
            splits.insert(parse_name(document, &key, &split)?, split_spec(document, &key, raw)?);
        }
        let schema = raw.schema.unwrap_or_else(|| format!("schema/{name}.toml"));
        datasets.insert(name.clone(), DatasetSpec { name, files: raw.files.0, schema, splits });
    }
    if let Some(unknown) = raw_splits.keys().next() {
        return Err(document.refuse(
            &format!("split.{unknown}"),
            format!("`split.{unknown}` belongs to no dataset: there is no `[dataset.{unknown}]`"),
        ));
    }
    if datasets.is_empty() {
        return Err(document
            .refuse("dataset", "no dataset: `karat.toml` needs at least one `[dataset.<name>]`"));
    }
    Ok(datasets)
}

fn split_spec(document: &Document, key: &str, raw: RawSplit) -> Result<SplitSpec, Failure> {
    let time = match raw.time {
        None => None,
        Some([from, to]) => {
            let end = |text: &str| {
                match text {
                "" => Ok(None),
                _ => Timestamp::parse(text).map(Some).ok_or_else(|| {
                    document.refuse(
                        &format!("{key}.time"),
                        format!("`{key}.time`: `{text}` is not a time, expected `2013-07-01`, RFC 3339, or `\"\"` for open"),
                    )
                }),
            }
            };
            Some((end(&from)?, end(&to)?))
        }
    };
    if let Some([from, to]) = raw.hash
        && !(0.0 <= from && from < to && to <= 100.0)
    {
        return Err(document.refuse(
            &format!("{key}.hash"),
            format!(
                "`{key}.hash` is [{from}, {to}], must be two rising percentages between 0 and 100"
            ),
        ));
    }
    let split =
        SplitSpec { predicate: raw.predicate, time, hash: raw.hash.map(|[from, to]| (from, to)) };
    if split == SplitSpec::default() {
        return Err(
            document.refuse(key, format!("`{key}` has no rule: give `where`, `time` or `hash`"))
        );
    }
    Ok(split)
}

fn slices(
    document: &Document,
    raw: BTreeMap<String, RawSlice>,
) -> Result<BTreeMap<Name, SliceSpec>, Failure> {
    if SLICES_MAX < raw.len() {
        return Err(document
            .refuse("slice", format!("{} slices, at most {SLICES_MAX} are allowed", raw.len())));
    }
    let mut slices = BTreeMap::new();
    for (text, raw) in raw {
        let key = format!("slice.{text}");
        let name = parse_name(document, &key, &text)?;
        if name.as_str() == "all" {
            return Err(document.refuse(&key, "slice `all` always exists and cannot be declared"));
        }
        let slice = match (raw.predicate, raw.values) {
            (Some(predicate), None) => SliceSpec::Where(predicate),
            (None, Some(column)) => SliceSpec::Values(column),
            _ => {
                return Err(document
                    .refuse(&key, format!("`{key}` needs exactly one of `where` and `values`")));
            }
        };
        slices.insert(name, slice);
    }
    Ok(slices)
}

fn train(
    document: &Document,
    project: &Name,
    datasets: &BTreeMap<Name, DatasetSpec>,
    raw: RawTrain,
) -> Result<TrainSpec, Failure> {
    let within = Within(document);
    let dataset = match &raw.dataset {
        Some(text) => parse_name(document, "train.dataset", text)?,
        None => datasets.keys().next().cloned().unwrap_or_else(|| project.clone()),
    };
    if !datasets.contains_key(&dataset) {
        let known = nearest(dataset.as_str(), datasets.keys().map(Name::as_str));
        return Err(document.refuse(
            "train.dataset",
            format!("`train.dataset` names `{dataset}`: known are `{}`", known.join("`, `")),
        ));
    }
    let kind = raw.model.as_deref().unwrap_or("mlp");
    let model = match kind {
        "linear" => {
            for (key, is_set) in [
                ("hidden", raw.hidden.is_some()),
                ("dropout", raw.dropout.is_some()),
                ("embedding_max", raw.embedding_max.is_some()),
            ] {
                if is_set {
                    let key = format!("train.{key}");
                    return Err(
                        document.refuse(&key, format!("`{key}` has no meaning for model `linear`"))
                    );
                }
            }
            ModelSpec::Linear
        }
        "mlp" => {
            let hidden = raw.hidden.unwrap_or_else(|| vec![256, 256]);
            if HIDDEN_LAYERS_MAX < hidden.len() || hidden.is_empty() {
                return Err(document.refuse(
                    "train.hidden",
                    format!(
                        "`train.hidden` has {} layers, must have 1 to {HIDDEN_LAYERS_MAX}",
                        hidden.len()
                    ),
                ));
            }
            for width in &hidden {
                within.whole("train.hidden", u64::from(*width), 1, u64::from(HIDDEN_WIDTH_MAX))?;
            }
            let embedding_max = raw.embedding_max.unwrap_or(16);
            within.whole("train.embedding_max", u64::from(embedding_max), 1, 4096)?;
            let dropout = raw.dropout.unwrap_or(0.0);
            within.share("train.dropout", dropout, false)?;
            ModelSpec::Mlp { hidden, embedding_max, dropout }
        }
        other => {
            return Err(document.refuse(
                "train.model",
                format!("`train.model` is `{other}`: known are `linear`, `mlp`"),
            ));
        }
    };
    let batch_size = raw.batch_size.unwrap_or(1024);
    within.whole("train.batch_size", u64::from(batch_size), 1, u64::from(BATCH_SIZE_MAX))?;
    let epochs = raw.epochs.unwrap_or(5);
    within.whole("train.epochs", u64::from(epochs), 1, u64::from(EPOCHS_MAX))?;
    let accumulate = raw.accumulate.unwrap_or(1);
    within.whole("train.accumulate", u64::from(accumulate), 1, u64::from(batch_size))?;
    let learning_rate = raw.learning_rate.unwrap_or(1e-3);
    within.number("train.learning_rate", learning_rate, 1e-12, 1e3)?;
    let warmup = raw.warmup.unwrap_or(0.05);
    within.share("train.warmup", warmup, false)?;
    let learning_rate_final = raw.learning_rate_final.unwrap_or(0.0);
    within.share("train.learning_rate_final", learning_rate_final, true)?;
    let weight_decay = raw.weight_decay.unwrap_or(0.01);
    within.number("train.weight_decay", weight_decay, 0.0, 1e3)?;
    let clip_norm = raw.clip_norm.unwrap_or(1.0);
    within.number("train.clip_norm", clip_norm, 0.0, 1e9)?;
    let patience = raw.early_stopping.unwrap_or(0);
    within.whole("train.early_stopping", u64::from(patience), 0, 100_000)?;
    let defaults = CheckpointPolicy::default();
    let checkpoint = match raw.checkpoint {
        None => defaults,
        Some(raw) => {
            let policy = CheckpointPolicy {
                every_updates: raw.every_updates.unwrap_or(defaults.every_updates),
                every_seconds: raw.every_seconds.unwrap_or(defaults.every_seconds),
                keep_last: raw.keep_last.unwrap_or(defaults.keep_last),
                keep_best: raw.keep_best.unwrap_or(defaults.keep_best),
            };
            within.whole("train.checkpoint.keep_last", policy.keep_last as u64, 1, 1000)?;
            within.whole("train.checkpoint.keep_best", policy.keep_best as u64, 0, 1000)?;
            policy
        }
    };
    let split = |key: &str, text: Option<String>, default: &str| {
        parse_name(document, key, text.as_deref().unwrap_or(default))
    };
    let threads = raw.threads.unwrap_or(0);
    within.whole("train.threads", threads as u64, 0, 4096)?;
    Ok(TrainSpec {
        name: match &raw.name {
            Some(text) => parse_name(document, "train.name", text)?,
            None => project.clone(),
        },
        dataset,
        model,
        task: raw.task,
        positive: raw.positive,
        seed: raw.seed.unwrap_or(0),
        epochs,
        batch_size,
        accumulate,
        learning_rate,
        warmup,
        learning_rate_final,
        weight_decay,
        clip_norm,
        class_weights: raw.class_weights.map_or(ClassWeights::None, |it| it.0),
        early_stopping: (0 < patience).then_some(EarlyStopping { patience }),
        non_finite_max: raw.non_finite_max.unwrap_or(0),
        split_train: split("train.split_train", raw.split_train, "train")?,
        split_eval: split("train.split_eval", raw.split_eval, "eval")?,
        checkpoint,
        device: raw.device.unwrap_or_else(|| "auto".to_owned()),
        threads,
    })
}

fn score(document: &Document, raw: &RawScore) -> Result<ScoreSpec, Failure> {
    let within = Within(document);
    let batch_size = raw.batch_size.unwrap_or_else(default_score_batch);
    within.whole("score.batch_size", u64::from(batch_size), 1, u64::from(BATCH_SIZE_MAX))?;
    let quarantine_max = raw.quarantine_max.unwrap_or(0.0);
    within.share("score.quarantine_max", quarantine_max, true)?;
    let split = parse_name(document, "score.split", raw.split.as_deref().unwrap_or("holdout"))?;
    Ok(ScoreSpec { split, batch_size, quarantine_max })
}

/// Range checks that name the key, the value, the bounds and the place.
struct Within<'a>(&'a Document);

impl Within<'_> {
    fn whole(&self, key: &str, value: u64, min: u64, max: u64) -> Result<(), Failure> {
        if (min..=max).contains(&value) {
            return Ok(());
        }
        Err(self.0.refuse(
            key,
            format!(
                "`{key}` is {value}, must be between {} and {}",
                thousands(min),
                thousands(max)
            ),
        ))
    }

    fn number(&self, key: &str, value: f64, min: f64, max: f64) -> Result<(), Failure> {
        if min <= value && value <= max {
            return Ok(());
        }
        Err(self.0.refuse(key, format!("`{key}` is {value}, must be between {min} and {max}")))
    }

    fn share(&self, key: &str, value: f64, one_allowed: bool) -> Result<(), Failure> {
        if 0.0 <= value && (value < 1.0 || (one_allowed && value <= 1.0)) {
            return Ok(());
        }
        let upper = if one_allowed { "at most 1" } else { "below 1" };
        Err(self.0.refuse(key, format!("`{key}` is {value}, must be at least 0 and {upper}")))
    }
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
