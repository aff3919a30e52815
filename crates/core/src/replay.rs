//! What training once more from a run's record came to: the same bits, or how far off and since when.

use serde::{Deserialize, Serialize};

use crate::{RunId, environment::Environment};

/// One replay, as recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replay {
    /// Format version.
    pub version: u32,
    /// The run that was replayed.
    pub run: RunId,
    /// What it made, for people: `flights@1`, or the run's subject.
    pub subject: String,
    /// The answer.
    pub likeness: Likeness,
    /// Largest relative difference that was allowed; absent when only equal bits would do.
    pub tolerance: Option<f64>,
    /// Updates: recorded, replayed.
    pub n_updates: [u64; 2],
    /// Columns that the training split gives other numbers for than the record has; training was not begun then.
    pub columns: Vec<String>,
    /// The first update that was not the same.
    pub first: Option<UpdateDifference>,
    /// The last update after which the weights are known to be the same, and the first after which they are not.
    pub weights_between: [Option<u64>; 2],
    /// Of the loss, over all updates.
    pub loss: Distance,
    /// Of the final weights, over all tensors.
    pub weights: Distance,
    /// Tensors of the final weights.
    pub n_tensors: u64,
    /// Numbers in them.
    pub n_parameters: u64,
    /// Those that differ, in name order.
    pub tensors: Vec<TensorDifference>,
    /// Where the run ran; absent in records older than this one.
    pub recorded_on: Option<Environment>,
    /// Where the replay ran.
    pub replayed_on: Environment,
}

/// Whether a replay gave the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Likeness {
    /// Every bit of every update and of the weights.
    Identical,
    /// Not the same bits, but no further off than was allowed.
    WithinTolerance,
    /// Further off than was allowed.
    Different,
}

impl Likeness {
    /// The words shown to people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Identical => "bit-identical",
            Self::WithinTolerance => "within tolerance",
            Self::Different => "different",
        }
    }
}

/// How far two lists of numbers are apart. `None` where a number has no counterpart or only one of the two is finite.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distance {
    /// Largest difference of two numbers.
    pub absolute: Option<f64>,
    /// The same as a share: of the recorded loss, or of the recorded tensor's largest number.
    pub relative: Option<f64>,
}

impl Distance {
    /// No difference.
    pub const ZERO: Self = Self { absolute: Some(0.0), relative: Some(0.0) };
    /// No finite difference.
    pub const UNKNOWN: Self = Self { absolute: None, relative: None };

    /// The larger of two, each side by itself.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        let larger = |a: Option<f64>, b: Option<f64>| a.zip(b).map(|(a, b)| a.max(b));
        Self {
            absolute: larger(self.absolute, other.absolute),
            relative: larger(self.relative, other.relative),
        }
    }

    /// Whether the relative difference is known and at most `tolerance`.
    #[must_use]
    pub fn is_within(self, tolerance: f64) -> bool {
        self.relative.is_some_and(|it| it <= tolerance)
    }
}

/// The first update that was not the same, and by what it was told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpdateDifference {
    /// Updates done, from 1.
    pub update: u64,
    /// `loss`, `gradient_norm`, `learning_rate`, `n_rows`, `weights`, or `end` where one training has no such update.
    pub what: String,
    /// In the record. Text, because numbers must show every digit and weights are a digest.
    pub recorded: String,
    /// In the replay.
    pub replayed: String,
}

/// A tensor with other numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TensorDifference {
    /// Parameter path.
    pub name: String,
    /// How far.
    pub distance: Distance,
    /// Flat index of the largest difference.
    pub index: u64,
    /// Numbers that differ.
    pub n_different: u64,
}

#[cfg(test)]
mod tests {
    use super::Distance;

    #[test]
    fn what_cannot_be_compared_is_within_no_tolerance() {
        let near = Distance { absolute: Some(1e-7), relative: Some(1e-6) };
        assert!(near.is_within(1e-6) && !near.is_within(1e-7));
        assert_eq!(near.max(Distance::ZERO), near);
        let unknown = near.max(Distance::UNKNOWN);
        assert!(!unknown.is_within(f64::INFINITY), "{unknown:?}");
    }
}
