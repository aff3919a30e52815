//! `karat.toml` as typed, and what it refuses.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    BATCH_SIZE_MAX, CheckSetting, CheckpointPolicy, ClassWeights, DatasetSpec, EPOCHS_MAX,
    EarlyStopping, HIDDEN_LAYERS_MAX, HIDDEN_WIDTH_MAX, ModelSpec, Project, SLICES_MAX, ScoreSpec,
    SliceSpec, SplitSpec, THREADS_MAX, Task, TrainSpec, default_score_batch, thousands,
};
use crate::{Document, Failure, Name, Timestamp, nearest};

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
    within.whole("train.threads", threads as u64, 0, THREADS_MAX)?;
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
