//! Why training or opening a model failed.

use std::collections::BTreeMap;

use karat_core::{Code, Coded, Digest, Exit, port::Parity, thousands};

/// Why there is no device.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeviceError {
    /// The name means nothing.
    #[error(
        "`{asked}` is no device: known are `cpu`, `auto`, `wgpu[:n]`, `vulkan[:n]` and `cuda[:n]`, with n from 0"
    )]
    Unknown {
        /// As typed.
        asked: String,
    },
    /// It is not here.
    #[error("device `{asked}` not found: this machine has `{}`", known.join("`, `"))]
    Absent {
        /// As typed.
        asked: String,
        /// Devices there are.
        known: Vec<String>,
        /// Interfaces that reach none, with the reason.
        missing: Vec<String>,
    },
    /// It is here and does not compute.
    #[error("device `{name}` does not work: {reason}")]
    Unusable {
        /// Which.
        name: String,
        /// What the driver said, or did.
        reason: String,
    },
    /// A file would change how it computes.
    #[error("`--deterministic` on `{device}` refuses a file that changes how burn computes: `{}`", files.join("`, `"))]
    ConfigStray {
        /// Which device.
        device: String,
        /// Which files.
        files: Vec<String>,
    },
    /// The system gave no threads.
    #[error("cannot start {n} threads")]
    Threads {
        /// As asked; 0 = all cores.
        n: usize,
        /// Why.
        source: rayon::ThreadPoolBuildError,
    },
}

impl Coded for DeviceError {
    fn code(&self) -> Code {
        Code::new(match self {
            Self::Unknown { .. } => "device-unknown",
            Self::Absent { .. } => "device-absent",
            Self::Unusable { .. } => "device-unusable",
            Self::ConfigStray { .. } => "device-config-stray",
            Self::Threads { .. } => "threads-unavailable",
        })
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Unknown { .. } | Self::Absent { .. } | Self::ConfigStray { .. } => Exit::Usage,
            Self::Unusable { .. } | Self::Threads { .. } => Exit::Run,
        }
    }

    fn details(&self) -> Vec<String> {
        match self {
            Self::Absent { missing, .. } => missing.clone(),
            _ => Vec::new(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Unknown { .. } | Self::Absent { .. } => vec![
                "`--device cpu` overrides `train.device` for this run".to_owned(),
                "`karat doctor --device all` looks at every device".to_owned(),
            ],
            Self::Unusable { name, .. } => vec![
                "`--device cpu` overrides `train.device` for this run".to_owned(),
                format!("`karat doctor --device {name}` tries it again"),
            ],
            Self::ConfigStray { .. } => {
                vec![
                    "burn reads such files in the working directory and above it; move them away"
                        .to_owned(),
                ]
            }
            Self::Threads { .. } => vec!["`--threads 1` needs no further thread".to_owned()],
        }
    }
}

/// Why training ended early.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The training split is empty.
    #[error("there is no row to train on")]
    NoRows,
    /// Early stopping without anything to look at.
    #[error("`train.early_stopping` needs eval rows, and split `{split}` has none")]
    NoEvalRows {
        /// The eval split.
        split: String,
    },
    /// A class weight names no class.
    #[error("`train.class_weights` names class `{asked}`: known are `{}`", known.join("`, `"))]
    ClassUnknown {
        /// As typed.
        asked: String,
        /// Nearest first.
        known: Vec<String>,
    },
    /// Class weights for a number.
    #[error("`train.class_weights` has no meaning for a regression")]
    ClassWeightsWithoutClasses,
    /// A pattern names no parameter.
    #[error("`train.no_decay` has pattern `{pattern}`, which matches no parameter: there are `{}`", known.join("`, `"))]
    PatternUnmatched {
        /// As typed.
        pattern: String,
        /// Paths of parameters, nearest first.
        known: Vec<String>,
    },
    /// Label smoothing for a number.
    #[error("`train.label_smoothing` has no meaning for a regression")]
    SmoothingWithoutClasses,
    /// Classes drawn equally often where there are none.
    #[error("`train.sampling = \"balanced\"` has no meaning for a regression")]
    SamplingWithoutClasses,
    /// Rows drawn by a weight that there is not.
    #[error("`train.sampling = \"weight\"` needs a weight column, and the schema has none")]
    SamplingWithoutWeights,
    /// A weight that nothing can be drawn by.
    #[error("row {} of the training split has weight {weight}, rows can be drawn by 0 and above", thousands(*row))]
    SamplingWeight {
        /// Its place in the split, from 0.
        row: u64,
        /// Its weight.
        weight: f64,
    },
    /// No row weighs anything, or together too much.
    #[error(
        "no row can be drawn: the weights of the training split add up to 0 or to no finite number"
    )]
    SamplingNothing,
    /// A model for images without any.
    #[error("model `{model}` reads images, and no feature of the data is one")]
    ImageMissing {
        /// As `train.model` names it.
        model: &'static str,
    },
    /// A model for images with features besides.
    #[error("model `{model}` reads the image alone, not `{}`", unread.join("`, `"))]
    FeaturesUnread {
        /// As `train.model` names it.
        model: &'static str,
        /// The other features.
        unread: Vec<String>,
    },
    /// Images of which nothing would be left.
    #[error(
        "model `{model}` halves an image {n_halvings} times, so it must be at least {least} × {least}: \
         the images are {} × {}",
        size[0],
        size[1]
    )]
    ImageTooSmall {
        /// As `train.model` names it.
        model: &'static str,
        /// How often it halves them.
        n_halvings: usize,
        /// Smallest height and width.
        least: u32,
        /// Height and width.
        size: [u32; 2],
    },
    /// An image for an architecture that reads none.
    #[error("model `{model}` reads no images, and `{column}` holds some")]
    ImageUnread {
        /// The architecture.
        model: &'static str,
        /// The column.
        column: String,
    },
    /// Too many updates had a NaN or infinity.
    #[error(
        "update {} has loss {loss} and gradient norm {norm}, neither may be NaN or infinite",
        thousands(*update)
    )]
    NotFinite {
        /// The update, from 1.
        update: u64,
        /// Its loss.
        loss: f64,
        /// Its gradient norm.
        norm: f64,
        /// Digest of its rows.
        batch: Digest,
        /// Its rows.
        n_rows: usize,
        /// How many of them have no label.
        n_labels_missing: usize,
        /// Updates skipped before it.
        n_skipped: u32,
        /// Update of the last checkpoint, if there is one.
        kept: Option<u64>,
    },
    /// Rows that do not fit the plan: a bug of whoever made them.
    #[error("a batch does not fit the plan: {fact}; this is a bug")]
    Batch {
        /// What is wrong.
        fact: String,
    },
    /// The device gave up.
    #[error("the device failed: {message}")]
    Device {
        /// What it said.
        message: String,
    },
    /// The device gave up in the middle of a training.
    #[error("device `{device}` failed after update {}: {message}", thousands(*update))]
    DeviceLost {
        /// Which.
        device: String,
        /// What it said.
        message: String,
        /// Updates done.
        update: u64,
        /// Update of the last checkpoint, if there is one.
        kept: Option<u64>,
    },
    /// The device's memory is full.
    #[error("the device is out of memory with {} at once: {message}", rows(*n_rows))]
    OutOfMemory {
        /// Rows that did not fit.
        n_rows: usize,
        /// What it said.
        message: String,
    },
    /// Not even one row fits, as computed beforehand.
    #[error(
        "not enough memory to train: one row at a time takes {} MiB, and {} MiB of {} are to be used",
        mebibytes(*needed),
        mebibytes(*usable),
        mebibytes(*available)
    )]
    BudgetExceeded {
        /// Bytes for weights, optimizer and one row.
        needed: u64,
        /// Bytes that may be planned with.
        usable: u64,
        /// Bytes there are, or may be used as `train.memory_max` says.
        available: u64,
    },
    /// The device computes something else than the CPU.
    #[error("device `{device}` does not agree with `cpu`: nothing was trained")]
    Parity {
        /// Which.
        device: String,
        /// What was compared.
        found: Vec<Parity>,
    },
}

fn rows(n: usize) -> String {
    if n == 1 { "1 row".to_owned() } else { format!("{} rows", thousands(n as u64)) }
}

fn mebibytes(n: u64) -> String {
    thousands(n.div_ceil(1 << 20))
}

impl TrainError {
    /// What a device said while it worked on `n_rows` rows. Lack of memory reaches us as text: of cubecl's server, and of
    /// wgpu's handler of errors nobody caught.
    pub(crate) fn of_device(message: String, n_rows: usize) -> Self {
        const OUT_OF_MEMORY: [&str; 4] = [
            "out of device memory allocating",
            "can't allocate buffer of size",
            "Out of Memory",
            "Not enough memory left",
        ];
        // A backtrace may follow.
        let first = message.lines().next().unwrap_or_default().to_owned();
        if OUT_OF_MEMORY.iter().any(|it| message.contains(it)) {
            Self::OutOfMemory { n_rows, message: first }
        } else {
            Self::Device { message: first }
        }
    }
}

impl Coded for TrainError {
    fn code(&self) -> Code {
        Code::new(match self {
            Self::NoRows => "train-rows-missing",
            Self::NoEvalRows { .. } => "eval-rows-missing",
            Self::ClassUnknown { .. } => "class-unknown",
            Self::ClassWeightsWithoutClasses => "class-weights-without-classes",
            Self::PatternUnmatched { .. } => "pattern-unmatched",
            Self::SmoothingWithoutClasses => "smoothing-without-classes",
            Self::SamplingWithoutClasses => "sampling-without-classes",
            Self::SamplingWithoutWeights => "sampling-without-weights",
            Self::SamplingWeight { .. } => "sampling-weight",
            Self::SamplingNothing => "sampling-nothing",
            Self::ImageMissing { .. } => "image-missing",
            Self::FeaturesUnread { .. } => "features-unread",
            Self::ImageTooSmall { .. } => "image-too-small",
            Self::ImageUnread { .. } => "image-unread",
            Self::NotFinite { .. } => "loss-not-finite",
            Self::Batch { .. } => "batch-malformed",
            Self::Device { .. } => "device-failed",
            Self::DeviceLost { .. } => "device-lost",
            Self::OutOfMemory { .. } | Self::BudgetExceeded { .. } => "memory-insufficient",
            Self::Parity { .. } => "device-disagrees",
        })
    }

    fn exit(&self) -> Exit {
        match self {
            Self::NoRows => Exit::Nothing,
            Self::NoEvalRows { .. }
            | Self::ClassUnknown { .. }
            | Self::ClassWeightsWithoutClasses
            | Self::PatternUnmatched { .. }
            | Self::SmoothingWithoutClasses
            | Self::SamplingWithoutClasses
            | Self::SamplingWithoutWeights
            | Self::SamplingWeight { .. }
            | Self::SamplingNothing
            | Self::ImageMissing { .. }
            | Self::FeaturesUnread { .. }
            | Self::ImageTooSmall { .. }
            | Self::ImageUnread { .. } => Exit::Usage,
            Self::NotFinite { .. }
            | Self::Batch { .. }
            | Self::Device { .. }
            | Self::DeviceLost { .. }
            | Self::OutOfMemory { .. }
            | Self::BudgetExceeded { .. }
            | Self::Parity { .. } => Exit::Run,
        }
    }

    fn details(&self) -> Vec<String> {
        let (batch, n_rows, n_labels_missing, n_skipped, kept) = match self {
            Self::NotFinite { batch, n_rows, n_labels_missing, n_skipped, kept, .. } => {
                (batch, n_rows, n_labels_missing, n_skipped, kept)
            }
            Self::DeviceLost { kept, .. } => return vec![last_checkpoint(*kept)],
            Self::Parity { found, .. } => return found.iter().map(parity_line).collect(),
            _ => return Vec::new(),
        };
        let mut details = vec![format!("its {} rows are batch {batch}", thousands(*n_rows as u64))];
        if 0 < *n_labels_missing {
            let n = thousands(*n_labels_missing as u64);
            details.push(format!("{n} of them have no label"));
        }
        if 0 < *n_skipped {
            details.push(format!("{n_skipped} updates were skipped for the same reason before"));
        }
        details.push(last_checkpoint(*kept));
        details
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NotFinite { n_labels_missing: 0, .. } => vec![
                "a lower `train.learning_rate`, or a `train.clip_norm` above 0, keeps updates small"
                    .to_owned(),
                "`--set train.non_finite_max=N` skips up to N such updates".to_owned(),
            ],
            Self::SamplingWithoutWeights => {
                vec!["`role = \"weight\"` in the schema marks a column as the weight".to_owned()]
            }
            Self::ImageMissing { .. } => {
                vec!["`train.model = \"mlp\"` reads numbers, categories and dates".to_owned()]
            }
            Self::FeaturesUnread { .. } => vec![
                "`role = \"ignore\"` in the schema leaves a column out".to_owned(),
                "`train.model = \"mlp\"` reads images and other features side by side".to_owned(),
            ],
            Self::ImageTooSmall { .. } => {
                vec!["fewer numbers in `train.filters` halve it less often".to_owned()]
            }
            Self::ImageUnread { .. } => vec![
                "`train.model = \"mlp\"` reads pixels as so many numbers; `role = \"ignore\"` in the schema leaves a column out"
                    .to_owned(),
            ],
            Self::DeviceLost { .. } => {
                vec!["the same command continues from the last checkpoint".to_owned()]
            }
            Self::OutOfMemory { .. } => {
                vec![
                    "a smaller model, or `--device cpu`, takes less of the device's memory"
                        .to_owned(),
                ]
            }
            Self::BudgetExceeded { .. } => {
                vec![
                    "a smaller model takes less; `train.memory_max` says how much may be used"
                        .to_owned(),
                ]
            }
            Self::Parity { .. } => vec![
                "`karat doctor --device all` compares every model on every device".to_owned(),
                "`--no-probe` trains all the same, and the run's record says so".to_owned(),
            ],
            _ => Vec::new(),
        }
    }
}

fn last_checkpoint(kept: Option<u64>) -> String {
    match kept {
        Some(update) => format!("the last checkpoint is update {}", thousands(update)),
        None => "there is no checkpoint yet".to_owned(),
    }
}

/// `mlp, loss after 1 update: 3.1e-4 apart, allowed is 1e-5`.
fn parity_line(parity: &Parity) -> String {
    let updates = if parity.n_updates == 1 { "update" } else { "updates" };
    let apart = match parity.error {
        Some(error) => format!("{error:.1e} apart"),
        None => "not a number".to_owned(),
    };
    format!(
        "{}, loss after {} {updates}: {apart}, allowed is {:.0e}",
        parity.model, parity.n_updates, parity.tolerance
    )
}

/// Why a checkpoint cannot be continued.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// Something that bits depend on has changed.
    #[error(
        "cannot resume from update {}: {} of what it depends on has changed",
        thousands(*update),
        fields.len()
    )]
    Mismatch {
        /// Updates done in the checkpoint.
        update: u64,
        /// Name → (in the checkpoint, now).
        fields: BTreeMap<String, (String, String)>,
    },
    /// One of its files is not what it should be.
    #[error("`{file}` of the checkpoint at update {} cannot be used", thousands(*update))]
    File {
        /// Which.
        file: &'static str,
        /// Updates done in the checkpoint.
        update: u64,
        /// Why.
        source: karat_core::tensors::TensorsError,
    },
}

impl Coded for ResumeError {
    fn code(&self) -> Code {
        match self {
            Self::Mismatch { .. } => Code::new("resume-mismatch"),
            Self::File { source, .. } => source.code(),
        }
    }

    fn details(&self) -> Vec<String> {
        match self {
            Self::Mismatch { fields, .. } => fields
                .iter()
                .map(|(name, (old, new))| format!("{name}: {old} in the checkpoint, {new} now"))
                .collect(),
            Self::File { source, .. } => source.details(),
        }
    }
}
