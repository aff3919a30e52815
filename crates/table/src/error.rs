//! What can go wrong with files, rules, fitting and scoring: one enum an operation, each with a code that
//! `docs/errors.md` explains.
//!
//! Reading order: [`FileError`], [`RuleError`], [`FitError`], [`ScoreError`].

use std::io;

use karat_core::{Code, Coded, Digest, Exit, Failure, thousands};
use thiserror::Error;

/// `a`, `b` and `c` in backticks.
pub(crate) fn quoted(names: &[String]) -> String {
    names.iter().map(|it| format!("`{it}`")).collect::<Vec<_>>().join(", ")
}

fn near_detail(what: &str, near: &[String]) -> Vec<String> {
    if near.is_empty() { Vec::new() } else { vec![format!("{what}: {}", quoted(near))] }
}

/// An impossible state of our own making.
pub(crate) fn internal(what: impl std::fmt::Display) -> Failure {
    Failure::new("internal", Exit::Run, format!("internal error: {what}; this is a bug"))
}

/// Why files could not be found, recognised or read.
#[derive(Debug, Error)]
pub(crate) enum FileError {
    #[error("file `{file}` does not exist")]
    Missing { file: String, near: Vec<String> },

    #[error("pattern `{pattern}` matches no file")]
    NoMatch { pattern: String, near: Vec<String> },

    #[error("folder `{folder}` has no file that can be read")]
    EmptyFolder { folder: String },

    #[error("pattern `{pattern}` is not valid: {reason}")]
    Pattern { pattern: String, reason: String },

    #[error("the name of file `{file}` is not UTF-8")]
    FileName { file: String },

    #[error("file `{file}` is empty")]
    Empty { file: String },

    #[error("file `{file}` is {what}, which is not read")]
    Refused { file: String, what: &'static str },

    #[error("file `{file}` is of no known format: {reason}")]
    Unknown { file: String, reason: String },

    #[error("file `{file}` is truncated: {reason}")]
    Truncated { file: String, reason: String },

    #[error("file `{file}` line {}: expected {expected} fields, found {found}", thousands(*line))]
    Ragged { file: String, line: u64, expected: String, found: String },

    #[error("file `{file}` line {}: a NUL byte", thousands(*line))]
    NulByte { file: String, line: u64 },

    #[error("file `{file}` has two columns called `{column}`")]
    ColumnRepeated { file: String, column: String },

    #[error("file `{file}` cannot be read: {reason}")]
    Unreadable { file: String, reason: String },

    #[error("cannot read `{file}`")]
    Io { file: String, source: io::Error },

    #[error("column `{column}` of file `{file}` is {found}, which is {wanted}")]
    Nested { file: String, column: String, found: String, wanted: &'static str },

    #[error("file `{file}` has no column {}, needed as {purpose}", quoted(columns))]
    ColumnAbsent { file: String, columns: Vec<String>, purpose: &'static str, near: Vec<String> },

    #[error("file `{file}` does not fit the model: it has no column {}", quoted(columns))]
    ModelMismatch { file: String, columns: Vec<String>, near: Vec<String> },

    #[error(
        "file `{file}` is no IDX file of {what}: it starts with {found}, must start with {expected}"
    )]
    IdxMagic { file: String, found: String, expected: String, what: &'static str },

    #[error(
        "`{file}` holds {} images and `{labels}` {} labels",
        thousands(*n_images),
        thousands(*n_labels)
    )]
    IdxCount { file: String, n_images: u64, labels: String, n_labels: u64 },

    #[error("class folder `{folder}` has no image")]
    ClassEmpty { folder: String },

    #[error("file `{file}` has changed since the snapshot")]
    Changed { file: String, expected: String, found: String },
}

impl FileError {
    /// Wraps an I/O error; a file that is gone says so.
    pub(crate) fn io(file: &str, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                Self::Missing { file: file.to_owned(), near: Vec::new() }
            }
            io::ErrorKind::UnexpectedEof => {
                Self::Truncated { file: file.to_owned(), reason: "it ends too early".to_owned() }
            }
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other => {
                Self::Unreadable { file: file.to_owned(), reason: source.to_string() }
            }
            _ => Self::Io { file: file.to_owned(), source },
        }
    }

    /// A file that is not the one the snapshot names.
    pub(crate) fn changed(file: &str, expected: Digest, found: Digest) -> Self {
        Self::Changed {
            file: file.to_owned(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }
}

impl Coded for FileError {
    fn code(&self) -> Code {
        Code::new(match self {
            Self::Missing { .. } => "file-missing",
            Self::NoMatch { .. } => "glob-empty",
            Self::EmptyFolder { .. } => "folder-empty",
            Self::Pattern { .. } => "glob-invalid",
            Self::FileName { .. } => "file-name",
            Self::Empty { .. } => "file-empty",
            Self::Refused { .. } => "file-format-refused",
            Self::Unknown { .. } => "file-format-unknown",
            Self::Truncated { .. } => "file-truncated",
            Self::Ragged { .. } => "csv-ragged",
            Self::NulByte { .. } => "file-nul-byte",
            Self::ColumnRepeated { .. } => "column-repeated",
            Self::Unreadable { .. } => "file-unreadable",
            Self::Io { .. } => "file-io",
            Self::Nested { .. } => "column-nested",
            Self::ColumnAbsent { .. } => "column-absent",
            Self::ModelMismatch { .. } => "model-schema-mismatch",
            Self::IdxMagic { .. } => "idx-magic",
            Self::IdxCount { .. } => "idx-count",
            Self::ClassEmpty { .. } => "class-folder-empty",
            Self::Changed { .. } => "snapshot-changed",
        })
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Io { .. } | Self::Changed { .. } => Exit::Run,
            _ => Exit::Usage,
        }
    }

    fn details(&self) -> Vec<String> {
        match self {
            Self::Missing { near, .. } | Self::NoMatch { near, .. } => {
                near_detail("the nearest files are", near)
            }
            Self::ColumnAbsent { near, .. } | Self::ModelMismatch { near, .. } => {
                near_detail("the nearest columns of the file are", near)
            }
            Self::Changed { expected, found, .. } => {
                vec![format!("expected {expected}"), format!("found {found}")]
            }
            _ => Vec::new(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Changed { .. } => {
                vec!["`karat snapshot` freezes the files as they are now".to_owned()]
            }
            Self::EmptyFolder { .. } | Self::Unknown { .. } => vec![
                "files that are read end in `.parquet`, `.csv`, `.json`, `.jsonl`, `.ndjson`, `.arrow`, `.feather`, \
                 `.ipc`, `.png`, `.jpg`, `.jpeg`, `idx3-ubyte`; text and IDX also as `.gz`, text as `.zst`"
                    .to_owned(),
            ],
            Self::IdxMagic { what: "images", found, .. } if found == "00 00 08 01" => {
                vec!["this is a file of labels: name the file of images, labels are found beside it".to_owned()]
            }
            Self::ClassEmpty { .. } => vec![
                "a folder names the class of the images in it: remove the folder, or name files by a pattern"
                    .to_owned(),
            ],
            _ => Vec::new(),
        }
    }
}

/// Why a split or slice rule cannot be applied.
#[derive(Debug, Error)]
pub(crate) enum RuleError {
    #[error("{rule}: `{predicate}` is not a valid predicate: {reason}")]
    Predicate { rule: String, predicate: String, reason: String, near: Vec<String> },

    #[error("{rule}: `{predicate}` has type {found}, a predicate is true or false")]
    NotBoolean { rule: String, predicate: String, found: String },

    #[error(
        "{rule}: `{predicate}` uses `{function}`, which does not give the same rows every time"
    )]
    NotRepeatable { rule: String, predicate: String, function: String },

    #[error("{rule} has a time range, but no column of the schema has the role `time`")]
    NoTime { rule: String },

    #[error("dataset `{dataset}` has no split `{split}`")]
    SplitUnknown { dataset: String, split: String, near: Vec<String> },

    #[error("dataset `{dataset}` has {found} splits, at most {max} are measured")]
    TooManySplits { dataset: String, found: usize, max: usize },
}

impl Coded for RuleError {
    fn code(&self) -> Code {
        Code::new(match self {
            Self::Predicate { .. } | Self::NotBoolean { .. } | Self::NotRepeatable { .. } => {
                "predicate-invalid"
            }
            Self::NoTime { .. } => "split-time",
            Self::SplitUnknown { .. } => "split-unknown",
            Self::TooManySplits { .. } => "splits-too-many",
        })
    }

    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn details(&self) -> Vec<String> {
        match self {
            Self::Predicate { near, .. } => near_detail("the nearest columns are", near),
            Self::SplitUnknown { near, .. } => near_detail("the nearest splits are", near),
            _ => Vec::new(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Predicate { near, .. } if near.is_empty() => vec![
                "columns are written as in the files, text in single quotes: `carrier = 'UA' AND month <= 6`"
                    .to_owned(),
            ],
            _ => Vec::new(),
        }
    }
}

/// Sizes of images that a failure shows.
const SIZES_SHOWN: usize = 5;

/// Why a plan cannot be fitted or rows cannot be encoded.
#[derive(Debug, Error)]
pub(crate) enum FitError {
    #[error("split `{split}` of `{snapshot}` has no rows")]
    SplitEmpty { split: String, snapshot: String, n_rows: u64 },

    #[error("the schema names no label column")]
    NoLabel,

    #[error("column `{asked}` is to be the label, but the files have no such column")]
    LabelUnknown { asked: String, near: Vec<String> },

    #[error("label `{column}` has no value in split `{split}`")]
    LabelMissing { column: String, split: String, n_rows: u64 },

    #[error("label `{column}` is always `{value}` in split `{split}`")]
    LabelConstant { column: String, split: String, value: String, n_rows: u64 },

    #[error("label `{column}` has type {found}, which task `{task}` cannot use")]
    LabelType { column: String, found: &'static str, task: &'static str },

    #[error("label `{column}` has {found} classes, task `{task}` needs {needed}")]
    LabelClasses {
        column: String,
        found: String,
        task: &'static str,
        needed: String,
        classes: Vec<String>,
    },

    #[error("label `{column}` has class `{class}`, which the model does not know")]
    ClassUnseen { column: String, class: String, classes: Vec<String>, place: String },

    #[error("`train.positive` is `{asked}`, which is no class of label `{column}`")]
    PositiveUnknown { asked: String, column: String, near: Vec<String> },

    #[error("the schema names no feature column")]
    NoFeatures,

    #[error("feature {} is known only after the prediction", quoted(columns))]
    KnownAfter { columns: Vec<String> },

    #[error("feature {} has no value in split `{split}`", quoted(columns))]
    ColumnMissing { columns: Vec<String>, split: String, n_rows: u64 },

    #[error("feature `{column}` has kind `{kind}`, which type `{ty}` cannot have")]
    Kind { column: String, kind: &'static str, ty: &'static str },

    #[error("the images of `{column}` differ in size")]
    ImageSizes { column: String, sizes: Vec<(String, u64)> },

    #[error("no image of `{column}` can be read: {reason}")]
    ImagesUnreadable { column: String, reason: String },

    #[error("weight `{column}` is {found} at {place}, must be a finite number of at least 0")]
    Weight { column: String, found: String, place: String },

    #[error("cannot keep encoded rows in `{folder}`")]
    Spill { folder: String, source: io::Error },
}

impl Coded for FitError {
    fn code(&self) -> Code {
        Code::new(match self {
            Self::SplitEmpty { .. } => "split-empty",
            Self::NoLabel => "label-absent",
            Self::LabelUnknown { .. } => "label-unknown",
            Self::LabelMissing { .. } => "label-missing",
            Self::LabelConstant { .. } => "label-constant",
            Self::LabelType { .. } => "label-type",
            Self::LabelClasses { .. } => "label-classes",
            Self::ClassUnseen { .. } => "label-class-unseen",
            Self::PositiveUnknown { .. } => "positive-unknown",
            Self::NoFeatures => "no-features",
            Self::KnownAfter { .. } => "feature-known-after",
            Self::ColumnMissing { .. } => "column-all-missing",
            Self::Kind { .. } => "feature-kind",
            Self::ImageSizes { .. } => "image-sizes",
            Self::ImagesUnreadable { .. } => "images-unreadable",
            Self::Weight { .. } => "weight-invalid",
            Self::Spill { .. } => "spill-failed",
        })
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Spill { .. } => Exit::Run,
            Self::SplitEmpty { .. } => Exit::Nothing,
            _ => Exit::Usage,
        }
    }

    fn details(&self) -> Vec<String> {
        match self {
            Self::SplitEmpty { n_rows, .. } => {
                vec![format!("none of {} rows satisfies its rule", thousands(*n_rows))]
            }
            Self::LabelUnknown { near, .. } => near_detail("the nearest columns are", near),
            Self::PositiveUnknown { near, .. } => near_detail("the nearest classes are", near),
            Self::LabelMissing { n_rows, .. }
            | Self::LabelConstant { n_rows, .. }
            | Self::ColumnMissing { n_rows, .. } => {
                vec![format!("{} rows were read", thousands(*n_rows))]
            }
            Self::ImageSizes { sizes, .. } => {
                let mut shown: Vec<String> = sizes
                    .iter()
                    .take(SIZES_SHOWN)
                    .map(|(size, n)| format!("{} are {size} (height × width)", thousands(*n)))
                    .collect();
                if SIZES_SHOWN < sizes.len() {
                    shown.push(format!("and {} more sizes", sizes.len() - SIZES_SHOWN));
                }
                shown
            }
            Self::LabelClasses { classes, .. } => near_detail("the first classes are", classes),
            Self::ClassUnseen { classes, place, .. } => {
                vec![format!("first at {place}"), format!("the model knows {}", quoted(classes))]
            }
            _ => Vec::new(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NoLabel => {
                vec!["`role = \"label\"` in the schema file makes a column the label".to_owned()]
            }
            Self::ImageSizes { .. } => vec![
                "images are not resized here: bring them to one size first, as `magick mogrify -resize '64x64!'` does"
                    .to_owned(),
            ],
            Self::NoFeatures => {
                vec!["`role = \"feature\"` in the schema file makes a column a feature".to_owned()]
            }
            Self::KnownAfter { .. } | Self::ColumnMissing { .. } => {
                vec!["`role = \"ignore\"` in the schema file leaves a column out".to_owned()]
            }
            _ => Vec::new(),
        }
    }
}

/// Why rows could not be scored, written or read back.
#[derive(Debug, Error)]
pub(crate) enum ScoreError {
    #[error(
        "{} of {} rows could not be scored, at most {max_share} % may",
        thousands(*n_quarantined),
        thousands(*n_rows)
    )]
    Quarantine { n_quarantined: u64, n_rows: u64, max_share: f64, first: Vec<String> },

    #[error("model and schema disagree on column {columns}")]
    Types { columns: String },

    #[error("two output columns are called `{column}`")]
    OutputRepeated { column: String },

    #[error("predictions can be written as `.parquet`, `.csv` or `.jsonl`, not `{file}`")]
    OutputFormat { file: String },

    #[error("cannot write `{file}`: {reason}")]
    Write { file: String, reason: String },

    #[error("stopped on request after {} rows", thousands(*n_rows))]
    Stopped { n_rows: u64 },

    #[error("`{file}` was not written by `karat score`: {reason}")]
    NotPredictions { file: String, reason: String },
}

impl Coded for ScoreError {
    fn code(&self) -> Code {
        Code::new(match self {
            Self::Quarantine { .. } => "quarantine-exceeded",
            Self::Types { .. } => "model-schema-mismatch",
            Self::OutputRepeated { .. } => "output-column-repeated",
            Self::OutputFormat { .. } => "output-format",
            Self::Write { .. } => "predictions-unwritable",
            Self::Stopped { .. } => "stopped",
            Self::NotPredictions { .. } => "predictions-unreadable",
        })
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Quarantine { .. } => Exit::Fail,
            Self::Types { .. } | Self::OutputFormat { .. } | Self::OutputRepeated { .. } => {
                Exit::Usage
            }
            Self::NotPredictions { .. } => Exit::Usage,
            Self::Write { .. } => Exit::Run,
            Self::Stopped { .. } => Exit::Interrupted,
        }
    }

    fn details(&self) -> Vec<String> {
        match self {
            Self::Quarantine { first, n_quarantined, .. } => {
                let mut details = first.clone();
                let n_more = n_quarantined.saturating_sub(first.len() as u64);
                if 0 < n_more {
                    details.push(format!("and {} more", thousands(n_more)));
                }
                details.push("no predictions were kept".to_owned());
                details
            }
            Self::Stopped { .. } => vec!["no predictions were kept".to_owned()],
            _ => Vec::new(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Quarantine { .. } => {
                vec!["`score.quarantine_max` in karat.toml sets the share that may fail".to_owned()]
            }
            Self::Stopped { .. } => vec!["the same command starts scoring again".to_owned()],
            _ => Vec::new(),
        }
    }
}
