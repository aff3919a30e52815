//! Something that happened, in order. Whatever happens is an [`Event`]; terminal, `--json`, the run log, reports and
//! tests are readers of that stream.

use serde::{Deserialize, Serialize};

use crate::{Digest, Finding, RunId, Verdict, metric::Metric};

/// The steps of the lifecycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Freeze a dataset.
    Snapshot,
    /// Ask the checks.
    Check,
    /// Train a candidate.
    Train,
    /// Produce predictions.
    Score,
    /// Decide.
    Gate,
    /// Register a version.
    Register,
    /// Move an alias.
    Promote,
    /// Render the reports of a run.
    Report,
    /// Train once more from a record and compare.
    Replay,
    /// Sign a version and what is on record about it.
    Sign,
}

impl Step {
    /// The word shown to people and stored.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Check => "check",
            Self::Train => "train",
            Self::Score => "score",
            Self::Gate => "gate",
            Self::Register => "register",
            Self::Promote => "promote",
            Self::Report => "report",
            Self::Replay => "replay",
            Self::Sign => "sign",
        }
    }
}

/// One optimizer step as it was.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpdateRecord {
    /// Updates done, from 1.
    pub update: u64,
    /// Mean training loss of the batch.
    #[serde(with = "or_null")]
    pub loss: f64,
    /// Learning rate used.
    pub learning_rate: f64,
    /// Global gradient norm before clipping.
    #[serde(with = "or_null")]
    pub gradient_norm: f64,
    /// Rows of the batch.
    pub n_rows: u64,
    /// Digest of the weights after it, as `model.safetensors` would hold them; after updates 1, 2, 4, 8 and so on, so that
    /// it costs next to nothing and shows since when weights differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Digest>,
}

/// A number that may be NaN or infinite (an update that was skipped): JSON has only `null` for it, read back as NaN.
mod or_null {
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(x: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(*x)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        Ok(Option::<f64>::deserialize(from)?.unwrap_or(f64::NAN))
    }
}

/// What observers see.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A step began. `total` is in the step's own unit, when known.
    StepStarted {
        /// Which.
        step: Step,
        /// What it works on, for people.
        subject: String,
        /// Units of work.
        total: Option<u64>,
    },
    /// Work done so far in the running step.
    Progress {
        /// Which.
        step: Step,
        /// Units done.
        done: u64,
        /// Units of work, when known.
        total: Option<u64>,
        /// One short remark: loss, rows/s.
        note: String,
    },
    /// A step ended.
    StepFinished {
        /// Which.
        step: Step,
        /// The run that recorded it.
        run: Option<RunId>,
        /// Whether an earlier run's outputs were used.
        is_cached: bool,
        /// Wall time.
        seconds: f64,
        /// One line for people.
        summary: String,
    },
    /// One update was made.
    Updated(UpdateRecord),
    /// The eval split was looked at.
    Evaluated {
        /// After this many updates.
        update: u64,
        /// Mean eval loss.
        loss: f64,
        /// Whether it is the best so far.
        is_best: bool,
        /// Accuracy, or R² for a number.
        metric: Metric,
        /// Its value.
        value: f64,
    },
    /// A checkpoint is durable.
    CheckpointCommitted {
        /// After this many updates.
        update: u64,
        /// Its manifest.
        digest: Digest,
    },
    /// A check or rule was answered.
    Found(Finding),
    /// A gate was decided.
    Decided(Box<Verdict>),
    /// Something a person should know that changes no outcome.
    Warned {
        /// Stable code.
        code: String,
        /// The fact.
        message: String,
    },
}

/// Who listens.
pub trait Observer: Send {
    /// Called in order, from the thread that runs the step.
    fn observe(&mut self, event: Event);
}

/// Listens to nothing: for a step whose cached result is looked up a second time.
pub struct Silent;

impl Observer for Silent {
    fn observe(&mut self, _event: Event) {}
}

#[cfg(test)]
mod tests {
    use super::UpdateRecord;

    #[test]
    fn a_skipped_update_can_be_logged_and_read_back() {
        let record = UpdateRecord {
            update: 3,
            loss: f64::NAN,
            learning_rate: 0.1,
            gradient_norm: f64::INFINITY,
            n_rows: 8,
            weights: None,
        };
        let text = serde_json::to_string(&record).expect("serialises");
        assert_eq!(
            text,
            r#"{"update":3,"loss":null,"learning_rate":0.1,"gradient_norm":null,"n_rows":8}"#
        );
        let back: UpdateRecord = serde_json::from_str(&text).expect("reads back");
        assert!(back.loss.is_nan() && back.gradient_norm.is_nan() && back.update == 3);
    }
}
