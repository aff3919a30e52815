//! What a training run is told to do: [`TrainSpec`] and the values of its keys.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::DevicePolicy;
use crate::Name;

/// Rows per update. Above this the activations of our largest preset alone exceed 24 GiB.
pub const BATCH_SIZE_MAX: u32 = 65_536;
/// Passes over the training split.
pub const EPOCHS_MAX: u32 = 100_000;
/// Units of one hidden layer.
pub const HIDDEN_WIDTH_MAX: u32 = 65_536;
/// Hidden layers, or blocks of them.
pub const HIDDEN_LAYERS_MAX: usize = 64;
/// Channels of one convolution.
pub const FILTER_WIDTH_MAX: u32 = 4096;
/// Stages of a convolutional network: each halves the picture.
pub const FILTER_STAGES_MAX: usize = 8;
/// What channels of a residual network are multiples of: they are normalised in groups.
pub const FILTER_MULTIPLE: u32 = 8;
/// Heads of attention.
pub const HEADS_MAX: u32 = 256;
/// Units inside a block for each unit that goes from block to block.
pub const EXPANSION_MAX: u32 = 16;
/// Patterns in `train.no_decay`.
pub const NO_DECAY_MAX: usize = 64;
/// Seconds that `train.max_time` may name: a year.
pub const MAX_TIME_SECONDS: u64 = 365 * 24 * 3600;

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
    /// Categorical embeddings and numerics, then residual blocks with layer norm.
    #[serde(rename = "resmlp")]
    ResMlp {
        /// Units that go from block to block.
        width: u32,
        /// Residual blocks.
        blocks: u32,
        /// Units inside a block, in multiples of `width`.
        expansion: u32,
        /// As for [`ModelSpec::Mlp`].
        embedding_max: u32,
        /// Share of the units inside a block dropped while training, [0, 1).
        dropout: f64,
    },
    /// Pictures: 3 × 3 convolutions with ReLU, each followed by a 2 × 2 pool, then fully connected layers with ReLU.
    Cnn {
        /// Channels per convolution.
        filters: Vec<u32>,
        /// Units per hidden layer.
        hidden: Vec<u32>,
        /// Share of hidden units dropped while training, [0, 1).
        dropout: f64,
    },
    /// Pictures: a residual network of two blocks a stage; four stages are the shape of ResNet-18.
    #[serde(rename = "resnet")]
    ResNet {
        /// Channels per stage, multiples of 8.
        filters: Vec<u32>,
    },
    /// Every feature a token, then transformer blocks.
    FtTransformer {
        /// Numbers of a token, a multiple of `heads`.
        width: u32,
        /// Transformer blocks.
        blocks: u32,
        /// Heads of attention.
        heads: u32,
        /// Units of a block's hidden layer, in multiples of `width`.
        expansion: u32,
        /// Share of hidden units and of attention's results dropped while training, [0, 1).
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

/// How the weights follow their gradients.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum OptimizerSpec {
    /// Adam with decoupled weight decay.
    Adamw {
        /// Share of the first moment that is kept, [0, 1).
        beta1: f64,
        /// Share of the second moment that is kept, [0, 1).
        beta2: f64,
        /// Added to the root of the second moment.
        epsilon: f64,
    },
    /// Stochastic gradient descent; its weight decay is coupled, as PyTorch's.
    Sgd {
        /// Share of the momentum that is kept, [0, 1); 0 = none.
        momentum: f64,
        /// Whether a step looks ahead by one momentum.
        nesterov: bool,
    },
    /// The sign of the momentum, with decoupled weight decay.
    Lion {
        /// Share of the momentum in the direction of a step, [0, 1).
        beta1: f64,
        /// Share of the momentum that is kept, [0, 1).
        beta2: f64,
    },
}

impl OptimizerSpec {
    /// PyTorch's AdamW: what a spec from before there was a choice meant.
    #[must_use]
    pub const fn adamw() -> Self {
        Self::Adamw { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }
}

/// The course of the learning rate once it is warm. None climbs again.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ScheduleSpec {
    /// Stays at the peak.
    Constant,
    /// Falls along a line to the final rate.
    Linear,
    /// Falls along half a cosine to the final rate.
    Cosine,
    /// Is multiplied by a factor every so many epochs.
    Step {
        /// Epochs between two falls, counted from the start.
        epochs: u32,
        /// What the rate is multiplied by, (0, 1].
        factor: f64,
    },
    /// Rises along half a cosine from 1/25 of the peak while it warms up, then falls along half a cosine.
    OneCycle,
}

impl ScheduleSpec {
    const fn cosine() -> Self {
        Self::Cosine
    }
}

/// How rows are drawn for training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// Every row once an epoch, in another order each time.
    #[default]
    Uniform,
    /// With replacement, every class equally often.
    Balanced,
    /// With replacement, each row as often as its weight says; the weight then has no part in the training loss.
    Weight,
}

/// When to stop before the last epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EarlyStopping {
    /// Evaluations without improvement of the eval loss before stopping.
    pub patience: u32,
}

/// What the products of fully connected layers are made of, while training and while scoring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// f32.
    #[default]
    F32,
    /// Operands rounded to bf16, sums in f32. Weights and the optimizer stay f32.
    Bf16,
}

impl Precision {
    /// As `train.precision` names it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
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
    /// What products are made of. A spec in f32 keeps the digest it had before there was a choice.
    #[serde(default, skip_serializing_if = "Precision::is_default")]
    pub precision: Precision,
    /// Where all randomness comes from.
    pub seed: u64,
    /// Passes over the training split.
    pub epochs: u32,
    /// Rows per update.
    pub batch_size: u32,
    /// Micro-batches an update is accumulated from.
    pub accumulate: u32,
    /// How the weights follow their gradients.
    #[serde(default = "OptimizerSpec::adamw")]
    pub optimizer: OptimizerSpec,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Its course after the warm-up.
    #[serde(default = "ScheduleSpec::cosine")]
    pub schedule: ScheduleSpec,
    /// Share of all updates spent warming up linearly, [0, 1).
    pub warmup: f64,
    /// Final learning rate as a share of the peak; without meaning for `constant` and `step`, where it is 1.
    pub learning_rate_final: f64,
    /// Weight decay, on matrices only: never on biases and norms.
    pub weight_decay: f64,
    /// Parameters without weight decay besides those, by path; `*` stands for any characters.
    #[serde(default)]
    pub no_decay: Vec<String>,
    /// Global gradient norm above which gradients are scaled down; 0 switches it off.
    pub clip_norm: f64,
    /// Share of the average weights that is kept at each update, (0, 1): the averaged weights are evaluated and
    /// registered.
    #[serde(default)]
    pub ema: Option<f64>,
    /// Share of a label's probability that is spread over all classes in the training loss, [0, 1).
    #[serde(default)]
    pub label_smoothing: f64,
    /// Class weights.
    pub class_weights: ClassWeights,
    /// How rows are drawn.
    #[serde(default)]
    pub sampling: Sampling,
    /// Updates after which the eval split is looked at, besides the end of each epoch; 0 = only then.
    #[serde(default)]
    pub evaluate_every: u64,
    /// Seconds after which training ends with what it has, counted from where this command began training.
    #[serde(default)]
    pub max_seconds: Option<u64>,
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
    /// Most bytes that training may take; what the device has when absent. Fewer bytes mean fewer rows at once, and so other
    /// last bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_max: Option<u64>,
    /// What is demanded of the device. Not part of the cache key.
    #[serde(skip, default)]
    pub device_policy: DevicePolicy,
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
