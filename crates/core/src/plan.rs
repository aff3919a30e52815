//! How columns become numbers: fitted on the training split only, stored inside the model, applied the same way
//! when scoring.

use serde::{Deserialize, Serialize};

use crate::{Batch, ColumnType, ImageShape, Task};

/// Vocabulary slot of a missing value.
pub const SLOT_MISSING: u32 = 0;
/// Vocabulary slot of a value never seen in training.
pub const SLOT_UNKNOWN: u32 = 1;
/// First vocabulary slot of a known value: value `i` of the vocabulary has slot `SLOT_FIRST + i`.
pub const SLOT_FIRST: u32 = 2;
/// Most values a vocabulary keeps (the commonest; ties in text order). The rest share [`SLOT_UNKNOWN`].
pub const VOCABULARY_MAX: usize = 100_000;

/// The transformation from columns to a [`crate::Batch`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeaturePlan {
    /// Features in schema order.
    pub features: Vec<Feature>,
    /// The label.
    pub label: LabelPlan,
    /// Column with row weights, if any.
    pub weight: Option<String>,
    /// The image of a row, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImagePlan>,
}

/// The image column: a pixel p of channel c becomes (p / 255 − mean\[c\]) / std\[c\].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImagePlan {
    /// Column in the files.
    pub column: String,
    /// 1 grey, 3 red, green, blue.
    pub channels: u32,
    /// Rows of pixels.
    pub height: u32,
    /// Pixels of a row.
    pub width: u32,
    /// Mean of each channel over the training images, 0 to 1.
    pub mean: Vec<f64>,
    /// Population standard deviation of each channel, 1 for a constant one.
    pub std: Vec<f64>,
}

impl ImagePlan {
    /// What every image is.
    #[must_use]
    pub const fn shape(&self) -> ImageShape {
        ImageShape { channels: self.channels, height: self.height, width: self.width }
    }

    /// Why no rows can follow this plan, if none can: one that was written by hand.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        let n = self.channels as usize;
        let scales = self.mean.iter().chain(&self.std);
        if self.mean.len() != n || self.std.len() != n || scales.into_iter().any(|x| !x.is_finite())
        {
            return Some(format!("{n} channels need as many finite means and deviations"));
        }
        self.shape().refusal()
    }
}

/// One source column and what it becomes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Feature {
    /// Column in the files.
    pub column: String,
    /// Its declared type.
    pub ty: ColumnType,
    /// What it becomes.
    pub encoding: Encoding,
}

/// What a column becomes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Encoding {
    /// One number, (x − mean) / std; a missing or non-finite value becomes 0 and, where training had one, sets a flag.
    Numeric {
        /// Mean over the non-missing training values.
        mean: f64,
        /// Population standard deviation, 1 for a constant column.
        std: f64,
        /// Whether a second number tells missing (1) from present (0).
        missing_flag: bool,
    },
    /// One slot number: 0 missing, 1 unknown, 2… the vocabulary.
    Categorical {
        /// Values as text: sorted, distinct.
        vocabulary: Vec<String>,
    },
    /// Eight numbers: sine and cosine of month of year, day of month, day of week and hour of day (UTC), each over
    /// its period; all zero when missing.
    Date {
        /// Whether a ninth number tells missing (1) from present (0).
        missing_flag: bool,
    },
}

/// Numbers an [`Encoding::Date`] gives without its flag.
pub const DATE_WIDTH: usize = 8;

/// What the label column becomes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "snake_case")]
pub enum LabelPlan {
    /// Class index as a number; two classes. `classes[1]` is the positive one.
    Binary {
        /// Column in the files.
        column: String,
        /// Negative class, positive class, as text.
        classes: Vec<String>,
        /// Training rows of each class.
        counts: Vec<u64>,
    },
    /// Class index as a number; three classes or more, in text order.
    Multiclass {
        /// Column in the files.
        column: String,
        /// The classes as text.
        classes: Vec<String>,
        /// Training rows of each class.
        counts: Vec<u64>,
    },
    /// (y − mean) / std.
    Regression {
        /// Column in the files.
        column: String,
        /// Mean over training labels.
        mean: f64,
        /// Population standard deviation, 1 for a constant label.
        std: f64,
    },
}

impl LabelPlan {
    /// The label's column.
    #[must_use]
    pub fn column(&self) -> &str {
        match self {
            Self::Binary { column, .. }
            | Self::Multiclass { column, .. }
            | Self::Regression { column, .. } => column,
        }
    }

    /// The task.
    #[must_use]
    pub const fn task(&self) -> Task {
        match self {
            Self::Binary { .. } => Task::Binary,
            Self::Multiclass { .. } => Task::Multiclass,
            Self::Regression { .. } => Task::Regression,
        }
    }

    /// The classes; empty for regression.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        match self {
            Self::Binary { classes, .. } | Self::Multiclass { classes, .. } => classes,
            Self::Regression { .. } => &[],
        }
    }

    /// Scores a row gets: 1 for binary and regression, one per class otherwise.
    #[must_use]
    pub fn n_outputs(&self) -> usize {
        match self {
            Self::Binary { .. } | Self::Regression { .. } => 1,
            Self::Multiclass { classes, .. } => classes.len(),
        }
    }
}

impl FeaturePlan {
    /// Numbers per row in [`crate::Batch::numeric`].
    #[must_use]
    pub fn n_numeric(&self) -> usize {
        self.features.iter().map(|feature| feature.encoding.n_numeric()).sum()
    }

    /// Slots per row in [`crate::Batch::categorical`].
    #[must_use]
    pub fn n_categorical(&self) -> usize {
        self.cardinalities().len()
    }

    /// Bytes per row in [`crate::Batch::pixels`].
    #[must_use]
    pub fn n_pixels(&self) -> usize {
        self.image.as_ref().map_or(0, |image| image.shape().n_bytes())
    }

    /// A batch without rows, as wide as this plan.
    #[must_use]
    pub fn empty_batch(&self) -> Batch {
        let n_pixels = self.n_pixels();
        Batch { n_pixels, ..Batch::new(self.n_numeric(), self.n_categorical()) }
    }

    /// Slots of each categorical feature, in order, with the two special ones.
    #[must_use]
    pub fn cardinalities(&self) -> Vec<u32> {
        self.features
            .iter()
            .filter_map(|feature| match &feature.encoding {
                Encoding::Categorical { vocabulary } => Some(
                    SLOT_FIRST + u32::try_from(vocabulary.len()).expect("at most VOCABULARY_MAX"),
                ),
                Encoding::Numeric { .. } | Encoding::Date { .. } => None,
            })
            .collect()
    }

    /// Digest of the whole plan.
    #[must_use]
    pub fn digest(&self) -> crate::Digest {
        crate::Digest::of(&serde_json::to_vec(self).expect("plain values serialise"))
    }
}

impl Encoding {
    /// Numbers this adds to a row.
    #[must_use]
    pub const fn n_numeric(&self) -> usize {
        match self {
            Self::Numeric { missing_flag, .. } => 1 + *missing_flag as usize,
            Self::Categorical { .. } => 0,
            Self::Date { missing_flag } => DATE_WIDTH + *missing_flag as usize,
        }
    }
}
