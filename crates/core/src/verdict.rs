//! Outcome of applying a gate, bound to the bytes it judged.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Digest, Finding, Outcome, metric::Metric};

/// Pass, fail or inconclusive, with all findings and the digests of everything judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Format version.
    pub version: u32,
    /// The gate's name.
    pub gate: String,
    /// The worst of the findings.
    pub outcome: Outcome,
    /// Whether the gate lets an inconclusive verdict end with exit 0 (`inconclusive = "allow"`).
    pub inconclusive_is_allowed: bool,
    /// Whether there was no baseline and the policy allowed that.
    pub is_unbaselined: bool,
    /// What was judged, by digest.
    pub judged: Judged,
    /// Labels for people: `flights@2`, `flights@1`.
    pub candidate: String,
    /// The baseline's label, `none`, or `naive`.
    pub baseline: String,
    /// 1 − α of each one-sided decision.
    pub reliability: f64,
    /// One per rule and slice, in the policy's order.
    pub findings: Vec<Finding>,
    /// Metrics by slice of candidate and baseline.
    pub report: Report,
}

/// The digests a verdict is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// Candidate's model manifest.
    pub candidate: Digest,
    /// Baseline's model manifest.
    pub baseline: Option<Digest>,
    /// Evaluation snapshot.
    pub snapshot: Digest,
    /// Rows and labels both were scored on.
    pub rows: Digest,
    /// Candidate's predictions.
    pub predictions: Digest,
    /// Baseline's predictions.
    pub baseline_predictions: Option<Digest>,
    /// The policy.
    pub policy: Digest,
    /// Tool version.
    pub tool: String,
}

/// Metrics × slices, for a candidate and, where there is one, a baseline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Every cell, slices in order (`all` first), metrics in order.
    pub cells: Vec<Cell>,
    /// Rows per slice.
    pub slices: Vec<SliceCount>,
    /// Points of the ROC curve, the reliability diagram and the score histogram of slice `all`, by series name
    /// (`roc`, `calibration`, `scores_negative`, `scores_positive`, …): (x, y) pairs, at most 200 each.
    pub curves: BTreeMap<String, Vec<[f64; 2]>>,
}

/// One slice's size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SliceCount {
    /// `all`, `evening`, `carrier=UA`.
    pub slice: String,
    /// Labelled rows.
    pub n_rows: u64,
    /// Mean label (share of positives, or mean value); absent for multiclass.
    pub label_mean: Option<f64>,
}

/// One metric on one slice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The metric.
    pub metric: Metric,
    /// The slice.
    pub slice: String,
    /// Labelled rows.
    pub n_rows: u64,
    /// Candidate's value; absent when it could not be measured.
    pub value: Option<f64>,
    /// Candidate's interval at the verdict's reliability (two-sided 1 − 2α).
    pub interval: Option<[f64; 2]>,
    /// Baseline's value.
    pub baseline: Option<f64>,
    /// Candidate − baseline, turned so that positive is better.
    pub improvement: Option<f64>,
    /// Its interval.
    pub improvement_interval: Option<[f64; 2]>,
    /// Why something is absent.
    pub reason: Option<String>,
}

impl Report {
    /// The cell of `metric` on `slice`.
    #[must_use]
    pub fn cell(&self, metric: Metric, slice: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.metric == metric && cell.slice == slice)
    }
}
