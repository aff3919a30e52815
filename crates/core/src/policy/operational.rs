//! Rules about what a model costs and whether it can be trusted to behave: one measured value, compared without interval.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::Bound;
use crate::nearest;

/// A rule whose metric is an operational measure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperationalRule {
    /// Its name.
    pub name: String,
    /// What is measured.
    pub measure: Measure,
    /// [`Bound::Min`] or [`Bound::Max`], never a change.
    pub bound: Bound,
    /// `true`: a broken rule only warns.
    pub warns_only: bool,
}

/// A number about a model in use, not about its answers' quality. Yes is 1, no is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Measure {
    /// Rows scored a second, reading and writing included.
    RowsPerSecond,
    /// Median time of one batch, milliseconds.
    LatencyP50Ms,
    /// Time that 95 % of batches stay below, milliseconds.
    LatencyP95Ms,
    /// Largest resident memory of the process, MiB.
    PeakMemoryMib,
    /// Weights and preprocessing on disk, MiB.
    ModelSizeMib,
    /// Largest difference of a score between devices or precisions.
    ParityMax,
    /// Difference of scores that 99.9 % of rows stay below.
    ParityP999,
    /// Rows whose predicted class differs between devices or precisions, as a share.
    ParityFlips,
    /// Whether training again gives the same bytes.
    ReplayIdentical,
    /// Share of rows whose prediction changes when the input does.
    Robustness(Perturbation),
    /// Whether all checks of the data passed.
    ChecksPassed,
    /// Whether data, code, spec and binary of the model are all on record.
    LineageComplete,
    /// Whether the model was made from a commit without local changes.
    CleanGit,
}

/// How inputs are disturbed, in thousandths so that equal sizes are equal: `noise=0.05`, `missing=0.01`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Perturbation {
    /// Normal noise on every numeric feature, in thousandths of that feature's standard deviation.
    Noise(u32),
    /// Thousandths of all values that are replaced by "missing".
    Missing(u32),
}

impl Perturbation {
    /// Its size: in standard deviations, or as a share.
    #[must_use]
    pub fn size(self) -> f64 {
        match self {
            Self::Noise(thousandths) | Self::Missing(thousandths) => {
                f64::from(thousandths) / 1000.0
            }
        }
    }
}

impl fmt::Display for Perturbation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Noise(_) => "noise",
            Self::Missing(_) => "missing",
        };
        write!(f, "{kind}={}", self.size())
    }
}

impl Measure {
    /// Those without a setting, in the order tables show them.
    pub const PLAIN: [Self; 12] = [
        Self::RowsPerSecond,
        Self::LatencyP50Ms,
        Self::LatencyP95Ms,
        Self::PeakMemoryMib,
        Self::ModelSizeMib,
        Self::ParityMax,
        Self::ParityP999,
        Self::ParityFlips,
        Self::ReplayIdentical,
        Self::ChecksPassed,
        Self::LineageComplete,
        Self::CleanGit,
    ];

    /// Whether it is answered by yes or no: such a rule needs no bound.
    #[must_use]
    pub const fn is_yes_or_no(self) -> bool {
        matches!(
            self,
            Self::ReplayIdentical | Self::ChecksPassed | Self::LineageComplete | Self::CleanGit
        )
    }

    /// Whether a larger value is better.
    #[must_use]
    pub const fn greater_is_better(self) -> bool {
        matches!(self, Self::RowsPerSecond) || self.is_yes_or_no()
    }

    const fn plain_word(self) -> &'static str {
        match self {
            Self::RowsPerSecond => "rows_per_second",
            Self::LatencyP50Ms => "latency_p50_ms",
            Self::LatencyP95Ms => "latency_p95_ms",
            Self::PeakMemoryMib => "peak_memory_mib",
            Self::ModelSizeMib => "model_size_mib",
            Self::ParityMax => "parity_max",
            Self::ParityP999 => "parity_p999",
            Self::ParityFlips => "parity_flips",
            Self::ReplayIdentical => "replay_identical",
            Self::Robustness(_) => "robustness",
            Self::ChecksPassed => "checks_passed",
            Self::LineageComplete => "lineage_complete",
            Self::CleanGit => "clean_git",
        }
    }
}

/// `latency_p95_ms`, `robustness(noise=0.05)`: the word in policies, records and tables.
impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Robustness(how) => write!(f, "robustness({how})"),
            plain => f.write_str(plain.plain_word()),
        }
    }
}

/// A word that names no operational measure.
#[derive(Debug, thiserror::Error)]
pub enum UnknownMeasure {
    /// Not one of the words.
    #[error("`{asked}` is not an operational measure: the nearest are `{}`", near.join("`, `"))]
    Word {
        /// What was given.
        asked: String,
        /// Words like it.
        near: Vec<&'static str>,
    },
    /// Robustness against what?
    #[error(
        "`{asked}` does not say how inputs are disturbed: expected `robustness(noise=0.05)` (standard deviations) or \
         `robustness(missing=0.01)` (share of values), in steps of 0.001 up to 1"
    )]
    Robustness {
        /// What was given.
        asked: String,
    },
}

impl FromStr for Measure {
    type Err = UnknownMeasure;

    fn from_str(text: &str) -> Result<Self, UnknownMeasure> {
        let asked = || text.chars().take(80).collect();
        if let Some(found) = Self::PLAIN.into_iter().find(|it| it.plain_word() == text) {
            return Ok(found);
        }
        if !text.starts_with("robustness") {
            let words = Self::PLAIN.iter().map(|it| it.plain_word());
            let near = nearest(text, words.chain(["robustness(noise=0.05)"]));
            return Err(UnknownMeasure::Word { asked: asked(), near });
        }
        let inside = text.strip_prefix("robustness(").and_then(|it| it.strip_suffix(')'));
        let found = inside.and_then(|it| it.split_once('=')).and_then(|(kind, size)| {
            let size: f64 = size.trim().parse().ok()?;
            let thousandths = (size * 1000.0).round();
            if !(1.0..=1000.0).contains(&thousandths) || 1e-9 < (size * 1000.0 - thousandths).abs()
            {
                return None;
            }
            match kind.trim() {
                "noise" => Some(Perturbation::Noise(thousandths as u32)),
                "missing" => Some(Perturbation::Missing(thousandths as u32)),
                _ => None,
            }
        });
        found.map(Self::Robustness).ok_or_else(|| UnknownMeasure::Robustness { asked: asked() })
    }
}

impl TryFrom<String> for Measure {
    type Error = UnknownMeasure;

    fn try_from(text: String) -> Result<Self, UnknownMeasure> {
        text.parse()
    }
}

impl From<Measure> for String {
    fn from(measure: Measure) -> Self {
        measure.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::{Measure, Perturbation};

    #[test]
    fn words_round_trip_and_robustness_says_how() {
        let noise = Measure::Robustness(Perturbation::Noise(50));
        let missing = Measure::Robustness(Perturbation::Missing(10));
        assert_eq!(noise.to_string(), "robustness(noise=0.05)");
        for measure in Measure::PLAIN.into_iter().chain([noise, missing]) {
            assert_eq!(measure.to_string().parse::<Measure>().expect("a word"), measure);
        }
        for wrong in [
            "robustness",
            "robustness()",
            "robustness(noise=0)",
            "robustness(noise=2)",
            "robustness(noise=0.0005)",
            "robustness(noise=nan)",
            "robustness(rotation=0.1)",
        ] {
            let error = wrong.parse::<Measure>().expect_err(wrong).to_string();
            assert!(error.contains("robustness(noise=0.05)"), "{error}");
        }
        let error = "latency_p95".parse::<Measure>().expect_err("no such word").to_string();
        assert!(error.contains("the nearest are `latency_p95_ms`"), "{error}");
    }
}
