//! One result of a check or a rule: what was asked, what was found, and what to do.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Exit;

/// Outcome of a finding, worst last. `not-applied`: the rule could not be evaluated (metric missing, NaN, slice never
/// seen, no baseline); it fails the verdict, because a gate that could not be applied is never a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Holds.
    Pass,
    /// Does not hold, and a recorded, unexpired waiver covers it.
    Waived,
    /// Does not hold; severity `warn`.
    Warn,
    /// Too few rows to tell.
    Inconclusive,
    /// Could not be evaluated.
    NotApplied,
    /// Does not hold.
    Fail,
}

impl Outcome {
    /// The word shown to people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Waived => "waived",
            Self::Warn => "warn",
            Self::Inconclusive => "inconclusive",
            Self::NotApplied => "not applied",
            Self::Fail => "fail",
        }
    }

    /// Of a whole list: `fail` if any is `fail` or `not-applied`, else `inconclusive` if any is, else `pass`.
    /// An empty list is `not-applied`: nothing was checked.
    #[must_use]
    pub fn of_all(outcomes: impl IntoIterator<Item = Self>) -> Self {
        match outcomes.into_iter().max() {
            None => Self::NotApplied,
            Some(Self::Fail | Self::NotApplied) => Self::Fail,
            Some(Self::Inconclusive) => Self::Inconclusive,
            Some(Self::Pass | Self::Waived | Self::Warn) => Self::Pass,
        }
    }

    /// The exit code of a verdict or check report with this outcome.
    #[must_use]
    pub const fn exit(self) -> Exit {
        match self {
            Self::Pass | Self::Waived | Self::Warn => Exit::Pass,
            Self::Inconclusive => Exit::Inconclusive,
            Self::NotApplied | Self::Fail => Exit::Fail,
        }
    }
}

/// One result. Shared by checks and gates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The check (`schema.null`) or the rule's name in the policy (`not worse anywhere`).
    pub rule: String,
    /// What it was asked of: a column, a pair of splits, `auc, slice carrier=UA`.
    pub subject: String,
    /// The answer.
    pub outcome: Outcome,
    /// The measured value, when it is one finite number.
    pub value: Option<f64>,
    /// The interval the answer rests on.
    pub interval: Option<[f64; 2]>,
    /// The bound, as it would be said: `at least 0.64`, `0 rows`.
    pub bound: String,
    /// Rows it rests on.
    pub n_rows: Option<u64>,
    /// The fact in one line: measured, allowed, why.
    pub message: String,
    /// Where: first offending rows as `file row N: value`, or flipped rows.
    pub examples: Vec<String>,
    /// What to do next, when that is known.
    pub advice: Option<String>,
    /// Every other number that was computed on the way, by name: P, MDE, n needed, discordant counts.
    pub numbers: BTreeMap<String, f64>,
}

impl Finding {
    /// A finding with only the parts every finding has.
    #[must_use]
    pub fn new(
        rule: impl Into<String>,
        subject: impl Into<String>,
        outcome: Outcome,
        bound: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            rule: rule.into(),
            subject: subject.into(),
            outcome,
            value: None,
            interval: None,
            bound: bound.into(),
            n_rows: None,
            message: message.into(),
            examples: Vec::new(),
            advice: None,
            numbers: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome;

    #[test]
    fn not_applied_fails_and_nothing_checked_is_not_a_pass() {
        use Outcome::{Fail, Inconclusive, NotApplied, Pass, Waived, Warn};
        assert_eq!(Outcome::of_all([Pass, NotApplied]), Fail);
        assert_eq!(Outcome::of_all([Pass, Inconclusive, Warn]), Inconclusive);
        assert_eq!(Outcome::of_all([Pass, Waived, Warn]), Pass);
        assert_eq!(Outcome::of_all([]), NotApplied);
        assert_eq!(NotApplied.exit().code(), 1);
    }
}
