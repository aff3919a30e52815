//! What `table` counts on a snapshot. It never judges: `gate::check` turns a [`Profile`] into findings, so every
//! check can be replayed from a stored profile, without the data.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{ColumnType, Digest, ImageShape, Task};

/// Offending rows kept per count.
pub const EXAMPLES_MAX: usize = 5;
/// Rows kept in memory to look for a single feature that gives the label away.
pub const LEAK_SAMPLE_MAX: u64 = 200_000;
/// Bins a numeric column is cut into for [`Association`].
pub const LEAK_BINS: usize = 64;
/// Folds of the cross-fitted score of [`Association`].
pub const LEAK_FOLDS: usize = 5;

/// All measures of one snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// The snapshot measured.
    pub snapshot: Digest,
    /// Rows.
    pub n_rows: u64,
    /// One for every column of the schema that the files have, in schema order.
    pub columns: Vec<ColumnProfile>,
    /// Schema columns that the files lack.
    pub absent: Vec<String>,
    /// File columns that the schema does not name.
    pub unnamed: Vec<String>,
    /// Whether one key column or more is declared, and how often a key came again.
    pub key: Option<Repeats>,
    /// Rows equal to an earlier row in every column.
    pub duplicates: Repeats,
    /// Every declared split.
    pub splits: BTreeMap<String, SplitProfile>,
    /// Every pair of splits.
    pub overlaps: Vec<Overlap>,
    /// One for every feature: how well it alone predicts the label in the training split. Empty without a label.
    pub associations: Vec<Association>,
}

/// One column's counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColumnProfile {
    /// Name.
    pub name: String,
    /// Declared type.
    pub ty: ColumnType,
    /// Rows with no value.
    pub n_missing: u64,
    /// NaN and infinities.
    pub n_not_finite: u64,
    /// Distinct values, exact up to the limit of `table::measure`, else a lower bound.
    pub n_distinct: u64,
    /// Whether `n_distinct` is exact.
    pub distinct_is_exact: bool,
    /// Smallest finite value (numbers, booleans as 0 and 1, times in ms).
    pub min: Option<f64>,
    /// Largest finite value.
    pub max: Option<f64>,
    /// Mean of the finite values.
    pub mean: Option<f64>,
    /// Population standard deviation of the finite values.
    pub std: Option<f64>,
    /// The commonest values as text with their counts, commonest first, at most ten; ties in text order.
    pub top: Vec<(String, u64)>,
    /// Values that do not parse as the declared type.
    pub wrong_type: Offenders,
    /// Values outside `min`/`max` of the schema.
    pub out_of_range: Offenders,
    /// Values outside `domain` of the schema.
    pub out_of_domain: Offenders,
    /// For `unique` columns: values that came before.
    pub repeated: Offenders,
    /// What only images have. Of them `min`, `max`, `mean` and `std` are about brightness, the mean byte of an image, and
    /// `top` names images by a hash of their pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageProfile>,
}

/// What was counted of an image column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageProfile {
    /// As declared.
    pub shape: ImageShape,
    /// Images of every size (height × width), those of another than the declared one too; the commonest first.
    pub sizes: Vec<(String, u64)>,
    /// Mean byte of each channel, 0 to 255, over images of the declared size.
    pub mean: Vec<f64>,
    /// Population standard deviation of each channel.
    pub std: Vec<f64>,
}

/// Rows that break a constraint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Offenders {
    /// How many.
    pub n: u64,
    /// The first [`EXAMPLES_MAX`] in snapshot order.
    pub examples: Vec<Offender>,
}

/// One offending row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Offender {
    /// File, relative to the project.
    pub file: String,
    /// Row within the file, from 1.
    pub row: u64,
    /// The value as text, at most 80 characters.
    pub value: String,
}

/// How often something came again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Repeats {
    /// Rows that repeat an earlier one.
    pub n_repeated: u64,
    /// Rows without a value (keys only).
    pub n_missing: u64,
    /// The first few.
    pub examples: Vec<Offender>,
}

/// One split's counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SplitProfile {
    /// Rows.
    pub n_rows: u64,
    /// Rows with a label.
    pub n_labeled: u64,
    /// Label values as text with counts, in text order; empty for regression or above 1,000 values.
    pub label_counts: BTreeMap<String, u64>,
    /// Mean label of a numeric label.
    pub label_mean: Option<f64>,
}

/// Rows in two splits at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Overlap {
    /// One split.
    pub a: String,
    /// The other.
    pub b: String,
    /// The same row satisfies both rules.
    pub n_same_row: u64,
    /// The same key (or group, where declared) on both sides.
    pub n_same_key: u64,
    /// Equal features and label on both sides, rows of `b`.
    pub n_same_features: u64,
}

/// Label against one column, binned and folded, so that a cross-fitted score can be computed by hand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Association {
    /// The feature.
    pub column: String,
    /// The task the label suggests.
    pub task: Task,
    /// Rows counted (a fixed hash sample of the training split, at most [`LEAK_SAMPLE_MAX`]).
    pub n_rows: u64,
    /// Names of the bins: categories, or cut points; the first is "missing".
    pub bins: Vec<String>,
    /// Classes in text order; empty for regression.
    pub classes: Vec<String>,
    /// `[fold][bin][class]` row counts for classes; `[fold][bin]` = [n, Σy, Σy²] for regression.
    pub cells: Vec<Vec<Vec<f64>>>,
}
