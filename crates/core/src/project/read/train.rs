//! `[train]` as typed, and what it refuses.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Within, model::model, parse_name};
use crate::{
    Document, Failure, Name, nearest,
    project::{
        BATCH_SIZE_MAX, CheckpointPolicy, ClassWeights, DatasetSpec, EPOCHS_MAX, EarlyStopping,
        Precision, THREADS_MAX, Task, TrainSpec,
    },
};

/// The `[train]` table, key for key. The keys of a model's size are read in `model`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTrain {
    dataset: Option<String>,
    name: Option<String>,
    pub(super) model: Option<String>,
    pub(super) hidden: Option<Vec<u32>>,
    pub(super) embedding_max: Option<u32>,
    pub(super) width: Option<u32>,
    pub(super) blocks: Option<u32>,
    pub(super) heads: Option<u32>,
    pub(super) expansion: Option<u32>,
    pub(super) dropout: Option<f64>,
    task: Option<Task>,
    positive: Option<String>,
    precision: Option<Precision>,
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

pub(super) fn train(
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
    let model = model(document, &raw)?;
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
        precision: raw.precision.unwrap_or_default(),
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
