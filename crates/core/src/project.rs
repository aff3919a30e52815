//! The project file `karat.toml`: raw as typed, specs as meant.
//!
//! Every value of a spec is present and inside its limits, so no code after [`Project::read`] checks a setting
//! again.
//!
//! Reading order: [`Project`], [`DatasetSpec`], `project::train` with [`TrainSpec`], then `project::read` (the file as
//! typed, and what it refuses).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Name, Timestamp};

mod device;
mod read;
mod train;

pub use device::DevicePolicy;
pub use train::{
    BATCH_SIZE_MAX, CheckpointPolicy, ClassWeights, EPOCHS_MAX, EXPANSION_MAX, EarlyStopping,
    FILTER_MULTIPLE, FILTER_STAGES_MAX, FILTER_WIDTH_MAX, HEADS_MAX, HIDDEN_LAYERS_MAX,
    HIDDEN_WIDTH_MAX, MAX_TIME_SECONDS, ModelSpec, NO_DECAY_MAX, OptimizerSpec, Precision,
    Sampling, ScheduleSpec, Task, TrainSpec,
};

/// Threads that may be asked for.
pub const THREADS_MAX: u64 = 4096;
/// Seeds that one recipe is trained with.
pub const SEEDS_MAX: u32 = 64;
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
    /// Trainings of that spec, with `train.seed` and the seeds after it: a claim about a recipe needs more than one. The
    /// first is the candidate. Each is a run of its own, so this is part of none's cache key.
    pub n_seeds: u32,
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
    use super::{ModelSpec, OptimizerSpec, Precision, Project, Sampling, ScheduleSpec, thousands};
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
    fn models_of_blocks_fill_their_defaults() {
        let model = |text: &str| read(&GOOD.replace("hidden = [8]", text)).expect(text).train.model;
        assert_eq!(
            model("model = \"resmlp\"\nwidth = 64"),
            ModelSpec::ResMlp {
                width: 64,
                blocks: 3,
                expansion: 2,
                embedding_max: 16,
                dropout: 0.1
            }
        );
        let tokens = model("model = \"ft_transformer\"\nblocks = 2");
        assert_eq!(
            tokens,
            ModelSpec::FtTransformer {
                width: 192,
                blocks: 2,
                heads: 8,
                expansion: 2,
                dropout: 0.1
            }
        );
        let written = serde_json::to_value(tokens).expect("a spec is JSON");
        assert_eq!(written["kind"], "ft_transformer", "as `train.model` names it");
    }

    #[test]
    fn models_for_images_fill_their_defaults() {
        let model = |text: &str| read(&GOOD.replace("hidden = [8]", text)).expect(text).train.model;
        let cnn = |filters: &[u32], hidden: &[u32], dropout| ModelSpec::Cnn {
            filters: filters.to_vec(),
            hidden: hidden.to_vec(),
            dropout,
        };
        assert_eq!(model("model = \"cnn\""), cnn(&[32, 64], &[128], 0.0));
        let given = "model = \"cnn\"\nfilters = [8]\nhidden = [9, 7]\ndropout = 0.5";
        assert_eq!(model(given), cnn(&[8], &[9, 7], 0.5));
        let resnet = model("model = \"resnet\"");
        assert_eq!(resnet, ModelSpec::ResNet { filters: vec![64, 128, 256, 512] });
        let written = serde_json::to_value(resnet).expect("a spec is JSON");
        assert_eq!(written["kind"], "resnet", "as `train.model` names it");
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
            ("hidden = [8]", "model = \"cnn\"\nfilters = []"),
            ("hidden = [8]", "model = \"cnn\"\nfilters = [8, 8, 8, 8, 8, 8, 8, 8, 8]"),
            ("hidden = [8]", "model = \"cnn\"\nfilters = [0]"),
            ("hidden = [8]", "model = \"cnn\"\nembedding_max = 4"),
            ("hidden = [8]", "model = \"resnet\"\nfilters = [20]"),
            ("hidden = [8]", "model = \"resnet\"\nhidden = [8]"),
            ("hidden = [8]", "learning_rate = nan"),
            ("hidden = [8]", "dropout = 1.0"),
            ("hidden = [8]", "width = 8"),
            ("hidden = [8]", "model = \"resmlp\"\nwidth = 0"),
            ("hidden = [8]", "model = \"resmlp\"\nblocks = 65"),
            ("hidden = [8]", "model = \"resmlp\"\nexpansion = 17"),
            ("hidden = [8]", "model = \"resmlp\"\nheads = 2"),
            ("hidden = [8]", "model = \"ft_transformer\"\nheads = 0"),
            ("hidden = [8]", "model = \"ft_transformer\"\nwidth = 100"),
            ("hidden = [8]", "model = \"ft_transformer\"\nembedding_max = 4"),
            ("hidden = [8]", "seed = -1"),
            ("hidden = [8]", "seeds = 0"),
            ("hidden = [8]", "seeds = 65"),
            ("hidden = [8]", "memory_max = \"lots\""),
            ("hidden = [8]", "deterministic = \"yes\""),
            ("hidden = [8]", "class_weights = \"some\""),
            ("hidden = [8]", "precision = \"f16\""),
            ("hidden = [8]", "class_weights = { a = 0 }"),
            ("hidden = [8]", "preset = \"large\""),
            ("hidden = [8]", "optimizer = \"adam\""),
            ("hidden = [8]", "momentum = 0.9"),
            ("hidden = [8]", "optimizer = \"sgd\"\nepsilon = 1e-8"),
            ("hidden = [8]", "optimizer = \"sgd\"\nmomentum = 1.0"),
            ("hidden = [8]", "optimizer = \"sgd\"\nmomentum = 0.0\nnesterov = true"),
            ("hidden = [8]", "betas = [0.9, 1.0]"),
            ("hidden = [8]", "betas = [0.9]"),
            ("hidden = [8]", "epsilon = 0.0"),
            ("hidden = [8]", "schedule = \"cosin\""),
            ("hidden = [8]", "schedule = \"constant\"\nlearning_rate_final = 0.1"),
            ("hidden = [8]", "step_epochs = 2"),
            ("hidden = [8]", "schedule = \"step\"\nstep_epochs = 0"),
            ("hidden = [8]", "schedule = \"step\"\nstep_factor = 1.5"),
            ("hidden = [8]", "ema = 1.0"),
            ("hidden = [8]", "label_smoothing = 1.0"),
            ("hidden = [8]", "sampling = \"ballanced\""),
            ("hidden = [8]", "sampling = \"balanced\"\nclass_weights = \"balanced\""),
            ("hidden = [8]", "max_time = \"soon\""),
            ("hidden = [8]", "max_time = \"0s\""),
            ("hidden = [8]", "evaluate_every = -1"),
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
    fn precision_is_f32_unless_asked_and_then_not_in_the_record() {
        let record = |text: &str| {
            let spec = read(text).expect("valid").train;
            (spec.precision, serde_json::to_value(&spec).expect("serialises")["precision"].clone())
        };
        assert_eq!(record(GOOD), (Precision::F32, serde_json::Value::Null));
        let text = GOOD.replace("hidden = [8]", "precision = \"bf16\"");
        assert_eq!(record(&text), (Precision::Bf16, "bf16".into()));
    }

    #[test]
    fn an_optimizer_and_a_schedule_bring_their_own_defaults() {
        let train = |keys: &str| read(&GOOD.replace("hidden = [8]", keys)).expect(keys).train;
        let sgd = train("optimizer = \"sgd\"\nnesterov = true");
        assert_eq!(sgd.optimizer, OptimizerSpec::Sgd { momentum: 0.9, nesterov: true });
        assert_eq!((sgd.learning_rate, sgd.weight_decay), (0.01, 1e-4));
        let lion = train("optimizer = \"lion\"\nlearning_rate = 3e-4");
        assert_eq!(lion.optimizer, OptimizerSpec::Lion { beta1: 0.9, beta2: 0.99 });
        assert_eq!((lion.learning_rate, lion.weight_decay), (3e-4, 0.1));
        let step = train("schedule = \"step\"\nepochs = 10");
        assert_eq!(step.schedule, ScheduleSpec::Step { epochs: 4, factor: 0.1 });
        let cycle = train("schedule = \"one-cycle\"");
        assert_eq!((cycle.schedule, cycle.warmup), (ScheduleSpec::OneCycle, 0.3));
        let rest = train(
            "ema = 0.99\nlabel_smoothing = 0.1\nsampling = \"balanced\"\nmax_time = \"1h30m\"\nno_decay = [\"embeddings.*\"]\nevaluate_every = 50",
        );
        assert_eq!((rest.ema, rest.label_smoothing), (Some(0.99), 0.1));
        assert_eq!((rest.sampling, rest.max_seconds), (Sampling::Balanced, Some(5400)));
        assert_eq!(
            (rest.no_decay.as_slice(), rest.evaluate_every),
            (&["embeddings.*".to_owned()][..], 50)
        );
    }

    /// How often a spec is trained is no part of what one training is: more seeds do not make the first one again.
    #[test]
    fn seeds_are_counted_beside_the_spec() {
        let (one, five) = (
            read(GOOD).expect("valid"),
            read(&GOOD.replace("hidden = [8]", "hidden = [8]\nseeds = 5")),
        );
        let five = five.expect("valid");
        assert_eq!((one.n_seeds, five.n_seeds), (1, 5));
        assert_eq!(one.train, five.train);
    }

    /// A manifest written before there was a choice of optimizer and schedule is still read, as what it meant.
    #[test]
    fn a_spec_from_before_these_keys_is_read_as_what_it_meant() {
        let train = read(GOOD).expect("valid").train;
        let mut old = serde_json::to_value(&train).expect("serialises");
        let keys = [
            "optimizer",
            "schedule",
            "no_decay",
            "ema",
            "label_smoothing",
            "sampling",
            "evaluate_every",
            "max_seconds",
        ];
        for key in keys {
            old.as_object_mut().expect("an object").remove(key).expect(key);
        }
        let back: super::TrainSpec = serde_json::from_value(old).expect("reads");
        let kept = |spec: &super::TrainSpec| serde_json::to_value(spec).expect("serialises");
        assert_eq!(kept(&back), kept(&train));
    }

    #[test]
    fn thousands_are_separated() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }
}
