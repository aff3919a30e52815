//! Something that happened, in order. Whatever happens is an [`Event`]; terminal, `--json`, the run log, reports and
//! tests are readers of that stream.

use serde::{Deserialize, Serialize};

use crate::{Digest, Finding, RunId, Verdict};

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
        }
    }
}

/// One optimizer step as it was.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpdateRecord {
    /// Updates done, from 1.
    pub update: u64,
    /// Mean training loss of the batch.
    pub loss: f64,
    /// Learning rate used.
    pub learning_rate: f64,
    /// Global gradient norm before clipping.
    pub gradient_norm: f64,
    /// Rows of the batch.
    pub n_rows: u64,
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
