//! Labelled, scored rows in memory: what the gate judges.

use crate::{Digest, Task};

/// The labelled rows of one predictions file, in file order.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredRows {
    /// What kind of answer the scores are.
    pub task: Task,
    /// The classes, negative first for binary; empty for regression.
    pub classes: Vec<String>,
    /// Digest over the key and label of *every* scored row in order: equal means the same rows.
    pub rows: Digest,
    /// `[n]`: class index, or the value in the label's own unit.
    pub label: Vec<f32>,
    /// `[n × n_outputs]`, row-major: probability of the positive class, of every class, or the predicted value.
    pub score: Vec<f32>,
    /// Membership in the declared slices.
    pub slices: Vec<SliceColumn>,
    /// Group of each row as dense numbers from 0, when the schema declares a group; rows of one group are resampled
    /// together.
    pub group: Option<Vec<u32>>,
    /// Every label that each row was given, where people disagree; `label` is then what they settled on.
    pub votes: Option<Votes>,
    /// Text that names each row for people (its key), for examples of flipped rows; empty when there is no key.
    pub names: Vec<String>,
}

/// The labels that several people gave to each row.
#[derive(Clone, Debug, PartialEq)]
pub struct Votes {
    /// `[n + 1]`: row `i` has `labels[starts[i]..starts[i + 1]]`, at least one.
    pub starts: Vec<u32>,
    /// In the unit of [`ScoredRows::label`].
    pub labels: Vec<f32>,
}

impl Votes {
    /// The labels of one row; none for a row that is not there.
    #[must_use]
    pub fn of_row(&self, row: usize) -> &[f32] {
        match (self.starts.get(row), self.starts.get(row + 1)) {
            (Some(from), Some(to)) => {
                self.labels.get(*from as usize..*to as usize).unwrap_or_default()
            }
            _ => &[],
        }
    }
}

/// Which value of one declared slice each row has.
#[derive(Clone, Debug, PartialEq)]
pub struct SliceColumn {
    /// The slice's name in `karat.toml`.
    pub name: String,
    /// For a family the values, in text order; for a predicate one empty string.
    pub values: Vec<String>,
    /// `[n]`: index into `values`, or [`SliceColumn::NONE`].
    pub codes: Vec<u32>,
    /// Whether this is a family (`carrier=UA`) or a predicate (`evening`).
    pub is_family: bool,
}

impl SliceColumn {
    /// The code of a row outside the slice.
    pub const NONE: u32 = u32::MAX;
}

impl ScoredRows {
    /// Labelled rows.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.label.len()
    }

    /// Scores per row.
    #[must_use]
    pub fn n_outputs(&self) -> usize {
        match self.task {
            Task::Binary | Task::Regression => 1,
            Task::Multiclass => self.classes.len(),
        }
    }
}
