//! What one pass through the lifecycle did: the one object that every report and the closing screen are rendered from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Digest, Environment, Finding, Outcome, Verdict, metric::Metric};

/// One pass through the lifecycle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// Format version.
    pub version: u32,
    /// Project name.
    pub project: String,
    /// Tool and version.
    pub tool: String,
    /// Code the run was made from, when the project lies in a git work tree.
    pub code: CodeVersion,
    /// The data.
    pub data: DataSummary,
    /// Answers of the checks, in catalogue order.
    pub checks: Vec<Finding>,
    /// How the candidate was trained; absent when checks stopped the run or a version was only judged.
    pub train: Option<TrainSummary>,
    /// The verdict; absent when the run stopped before.
    pub verdict: Option<Verdict>,
    /// Digest of the stored verdict.
    pub verdict_digest: Option<Digest>,
    /// What happened to the alias; absent when nothing was asked to move.
    pub promotion: Option<PromotionSummary>,
}

/// The git state of the project folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeVersion {
    /// Commit, 40 hex digits.
    pub commit: Option<String>,
    /// Whether tracked files differ from it.
    pub is_dirty: Option<bool>,
    /// What DVC has on record beside it; absent without `dvc.lock` and `params.yaml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dvc: Option<Dvc>,
}

/// What DVC has on record for a project: read, never written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dvc {
    /// `params.yaml`, nested names joined by dots.
    pub params: BTreeMap<String, String>,
    /// The files of `dvc.lock`, stages in the file's order.
    pub files: Vec<DvcFile>,
}

/// One file that DVC tracks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DvcFile {
    /// The stage that names it.
    pub stage: String,
    /// Whether the stage makes it (`outs`) or needs it (`deps`).
    pub is_output: bool,
    /// Its path in the project, as DVC writes it.
    pub path: String,
    /// MD5 as hex digits, with `.dir` for a folder.
    pub md5: String,
}

/// The snapshot that was used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataSummary {
    /// `flights@9f3c21ab`.
    pub snapshot: String,
    /// The whole digest.
    pub digest: Digest,
    /// Files.
    pub n_files: u64,
    /// Rows.
    pub n_rows: u64,
    /// Rows and labelled rows of each declared split, in name order.
    pub splits: Vec<(String, u64, u64)>,
}

/// How the candidate was trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainSummary {
    /// The run's id.
    pub run: String,
    /// The registered version: `flights@1`.
    pub version: String,
    /// Digest of the model manifest.
    pub model: Digest,
    /// The spec, as JSON.
    pub spec: serde_json::Value,
    /// Features by name, each with how it became numbers in a few words.
    pub features: Vec<(String, String)>,
    /// Task in one word.
    pub task: String,
    /// Label column.
    pub label: String,
    /// Classes; empty for regression.
    pub classes: Vec<String>,
    /// Trainable numbers.
    pub n_parameters: u64,
    /// Updates made.
    pub n_updates: u64,
    /// Rows trained on, per epoch.
    pub n_rows: u64,
    /// Wall seconds of the training step when it ran.
    pub seconds: f64,
    /// Device class.
    pub device: String,
    /// Where it ran and what is promised of the result; absent in records older than this one.
    #[serde(default)]
    pub environment: Option<Environment>,
    /// Seed.
    pub seed: u64,
    /// (update, training loss), at most 400 points.
    pub losses: Vec<[f64; 2]>,
    /// (update, eval loss), one per evaluation.
    pub eval_losses: Vec<[f64; 2]>,
    /// (update, learning rate), at most 400 points.
    #[serde(default)]
    pub learning_rates: Vec<[f64; 2]>,
    /// What `eval_metrics` are.
    #[serde(default)]
    pub eval_metric: Option<Metric>,
    /// (update, metric on the eval split), one per evaluation.
    #[serde(default)]
    pub eval_metrics: Vec<[f64; 2]>,
    /// Why it ended before its last update; absent when it did not.
    #[serde(default)]
    pub ended_early: Option<String>,
    /// What it took; absent in records older than this field.
    #[serde(default)]
    pub cost: Option<TrainCost>,
}

/// What the last attempt at a training took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainCost {
    /// Updates it made: less than the training's where it was resumed.
    pub n_updates: u64,
    /// Rows in them.
    pub n_rows: u64,
    /// Wall seconds by what they went to, in the order of an update.
    pub parts: Vec<(String, f64)>,
    /// Largest resident memory of the process so far, bytes.
    #[serde(default)]
    pub peak_memory: Option<u64>,
    /// Floating-point operations of the matrix products that one row takes to train on.
    #[serde(default)]
    pub operations_per_row: Option<f64>,
    /// What this machine was measured to reach in one large matrix product, operations a second.
    #[serde(default)]
    pub ceiling: Option<f64>,
}

/// The part of [`TrainCost::parts`] that updates have no share in.
pub const EVALUATING: &str = "evaluating";

impl TrainCost {
    /// Seconds of updates: everything but looking at the eval split.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.parts.iter().filter(|it| it.0 != EVALUATING).map(|it| it.1).sum()
    }

    /// Rows a second while updating.
    #[must_use]
    pub fn rows_per_second(&self) -> Option<f64> {
        Some(self.n_rows as f64 / self.seconds()).filter(|it| it.is_finite())
    }

    /// Operations a second in matrix products while updating.
    #[must_use]
    pub fn operations_per_second(&self) -> Option<f64> {
        Some(self.operations_per_row? * self.rows_per_second()?)
    }

    /// Share of the ceiling that updates reach.
    #[must_use]
    pub fn share_of_ceiling(&self) -> Option<f64> {
        Some(self.operations_per_second()? / self.ceiling?).filter(|it| it.is_finite())
    }
}

/// What happened to an alias.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PromotionSummary {
    /// `flights@champion`.
    pub alias: String,
    /// Where it pointed before.
    pub from: Option<String>,
    /// Where it points now.
    pub to: Option<String>,
    /// Whether it was moved to there by what is summarised: now, or by an earlier pass that came to the same.
    pub is_moved: bool,
    /// One line: why, or why not.
    pub reason: String,
}

impl RunSummary {
    /// What the run as a whole came to: a failed check, else the verdict. `None` when nothing was decided.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        let checks = (!self.checks.is_empty())
            .then(|| Outcome::of_all(self.checks.iter().map(|it| it.outcome)));
        match (checks, &self.verdict) {
            (Some(outcome @ (Outcome::Fail | Outcome::NotApplied)), _) => Some(outcome),
            (_, Some(verdict)) => Some(verdict.outcome),
            (checks, None) => checks,
        }
    }
}
