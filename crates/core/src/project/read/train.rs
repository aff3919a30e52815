//! `[train]` as typed, and what it refuses.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    Within,
    model::model,
    optimizer::{optimizer, schedule},
    parse_name, preset,
};
use crate::{
    Document, Failure, Name, nearest,
    project::{
        BATCH_SIZE_MAX, CheckpointPolicy, ClassWeights, DatasetSpec, DevicePolicy, EPOCHS_MAX,
        EarlyStopping, MAX_TIME_SECONDS, NO_DECAY_MAX, Precision, SEEDS_MAX, Sampling, THREADS_MAX,
        Task, TrainSpec, device::bytes,
    },
    time::parse_seconds,
};

/// Declares the `[train]` table, key for key, and how a preset fills what is not given: no key can be forgotten there.
macro_rules! raw_train {
    ($($visibility:vis $key:ident: $ty:ty,)*) => {
        /// The `[train]` table, key for key. The keys of a model's size are read in `model`.
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct RawTrain {
            $($visibility $key: $ty,)*
        }

        impl RawTrain {
            /// Each key, or that of `preset`.
            pub(super) fn or(self, preset: Self) -> Self {
                Self { $($key: self.$key.or(preset.$key),)* }
            }
        }
    };
}

raw_train! {
    pub(super) preset: Option<String>,
    dataset: Option<String>,
    name: Option<String>,
    pub(super) model: Option<String>,
    pub(super) hidden: Option<Vec<u32>>,
    pub(super) embedding_max: Option<u32>,
    pub(super) width: Option<u32>,
    pub(super) blocks: Option<u32>,
    pub(super) heads: Option<u32>,
    pub(super) expansion: Option<u32>,
    pub(super) filters: Option<Vec<u32>>,
    pub(super) dropout: Option<f64>,
    task: Option<Task>,
    positive: Option<String>,
    precision: Option<Precision>,
    seed: Option<u64>,
    seeds: Option<u32>,
    epochs: Option<u32>,
    batch_size: Option<u32>,
    accumulate: Option<u32>,
    pub(super) optimizer: Option<String>,
    pub(super) momentum: Option<f64>,
    pub(super) nesterov: Option<bool>,
    pub(super) betas: Option<[f64; 2]>,
    pub(super) epsilon: Option<f64>,
    pub(super) learning_rate: Option<f64>,
    pub(super) schedule: Option<String>,
    pub(super) warmup: Option<f64>,
    pub(super) learning_rate_final: Option<f64>,
    pub(super) step_epochs: Option<u32>,
    pub(super) step_factor: Option<f64>,
    pub(super) weight_decay: Option<f64>,
    no_decay: Option<Vec<String>>,
    clip_norm: Option<f64>,
    ema: Option<f64>,
    label_smoothing: Option<f64>,
    class_weights: Option<RawClassWeights>,
    sampling: Option<String>,
    evaluate_every: Option<u64>,
    max_time: Option<String>,
    early_stopping: Option<u32>,
    non_finite_max: Option<u32>,
    split_train: Option<String>,
    split_eval: Option<String>,
    checkpoint: Option<RawCheckpoint>,
    device: Option<String>,
    threads: Option<usize>,
    memory_max: Option<String>,
    deterministic: Option<bool>,
}

impl RawTrain {
    /// Drops what was chosen for this table's optimizer.
    pub(super) fn forget_optimizer(&mut self) {
        (self.optimizer, self.momentum, self.nesterov) = (None, None, None);
        (self.betas, self.epsilon) = (None, None);
        (self.learning_rate, self.weight_decay) = (None, None);
    }

    /// Drops what was chosen for this table's schedule.
    pub(super) fn forget_schedule(&mut self) {
        (self.schedule, self.warmup, self.learning_rate_final) = (None, None, None);
        (self.step_epochs, self.step_factor) = (None, None);
    }
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

/// `train.seeds`: how often the spec is trained.
pub(super) fn n_seeds(document: &Document, raw: &RawTrain) -> Result<u32, Failure> {
    let n_seeds = raw.seeds.unwrap_or(1);
    Within(document).whole("train.seeds", u64::from(n_seeds), 1, u64::from(SEEDS_MAX))?;
    Ok(n_seeds)
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
    let raw = preset::filled(document, raw)?;
    let model = model(document, &raw)?;
    let batch_size = raw.batch_size.unwrap_or(1024);
    within.whole("train.batch_size", u64::from(batch_size), 1, u64::from(BATCH_SIZE_MAX))?;
    let epochs = raw.epochs.unwrap_or(5);
    within.whole("train.epochs", u64::from(epochs), 1, u64::from(EPOCHS_MAX))?;
    let accumulate = raw.accumulate.unwrap_or(1);
    within.whole("train.accumulate", u64::from(accumulate), 1, u64::from(batch_size))?;
    let (optimizer, learning_rate, weight_decay) = optimizer(document, &raw)?;
    let (schedule, warmup, learning_rate_final) = schedule(document, &raw, epochs)?;
    let no_decay = raw.no_decay.unwrap_or_default();
    within.whole("train.no_decay", no_decay.len() as u64, 0, NO_DECAY_MAX as u64)?;
    let ema = raw.ema.unwrap_or(0.0);
    within.share("train.ema", ema, false)?;
    let label_smoothing = raw.label_smoothing.unwrap_or(0.0);
    within.share("train.label_smoothing", label_smoothing, false)?;
    let class_weights = raw.class_weights.map_or(ClassWeights::None, |it| it.0);
    let sampling = match raw.sampling.as_deref().unwrap_or("uniform") {
        "balanced" => Sampling::Balanced,
        "weight" => Sampling::Weight,
        word => {
            within.one_of("train.sampling", word, &["uniform", "balanced", "weight"])?;
            Sampling::Uniform
        }
    };
    if sampling == Sampling::Balanced && class_weights == ClassWeights::Balanced {
        return Err(document.refuse(
            "train.sampling",
            "`train.sampling` and `train.class_weights` are both `balanced`: together they favour rare classes twice",
        ));
    }
    let max_seconds = match &raw.max_time {
        None => None,
        Some(text) => Some(
            parse_seconds(text).filter(|it| (1..=MAX_TIME_SECONDS).contains(it)).ok_or_else(
                || {
                    document.refuse(
                        "train.max_time",
                        format!("`train.max_time` is `{text}`, must be a time like `90s`, `20m` or `1h30m`, at least 1 s and at most 365 days"),
                    )
                },
            )?,
        ),
    };
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
    let memory_max = match &raw.memory_max {
        None => None,
        Some(text) => Some(bytes(text).ok_or_else(|| {
            document.refuse(
                "train.memory_max",
                format!("`train.memory_max` is \"{text}\", must be a size as `\"512MiB\"` or `\"6 GiB\"`"),
            )
        })?),
    };
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
        optimizer,
        learning_rate,
        schedule,
        warmup,
        learning_rate_final,
        weight_decay,
        no_decay,
        clip_norm,
        ema: (0.0 < ema).then_some(ema),
        label_smoothing,
        class_weights,
        sampling,
        evaluate_every: raw.evaluate_every.unwrap_or(0),
        max_seconds,
        early_stopping: (0 < patience).then_some(EarlyStopping { patience }),
        non_finite_max: raw.non_finite_max.unwrap_or(0),
        split_train: split("train.split_train", raw.split_train, "train")?,
        split_eval: split("train.split_eval", raw.split_eval, "eval")?,
        checkpoint,
        device: raw.device.unwrap_or_else(|| "auto".to_owned()),
        threads,
        memory_max,
        device_policy: DevicePolicy {
            is_deterministic: raw.deterministic.unwrap_or(false),
            ..DevicePolicy::default()
        },
    })
}
