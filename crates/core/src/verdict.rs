//! Outcome of applying a gate, bound to the bytes it judged.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Digest, Finding, Outcome, metric::Metric, policy::Reveal, summary::CodeVersion};

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
    /// The pinned version that change rules were judged against too: `flights@3`.
    #[serde(default)]
    pub anchor: Option<String>,
    /// 1 − α of each one-sided decision, after the budget's share.
    pub reliability: f64,
    /// Which use of these rows this was; absent where uses are not counted.
    #[serde(default)]
    pub ledger: Option<LedgerUse>,
    /// One per rule and slice, in the policy's order.
    pub findings: Vec<Finding>,
    /// Every declared slice against the baseline, for tables: these decide nothing.
    #[serde(default)]
    pub families: Vec<FamilyTest>,
    /// What training again with other seeds would change; absent with one seed.
    #[serde(default)]
    pub seeds: Option<SeedVariance>,
    /// Operational measures as measured, by word: `latency_p95_ms`.
    #[serde(default)]
    pub operational: BTreeMap<String, f64>,
    /// Metrics by slice of candidate and baseline.
    pub report: Report,
}

/// Which use of a set of evaluation rows a verdict was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerUse {
    /// Verdicts shown on these rows, this one included.
    pub n_uses: u32,
    /// As the policy's budget says.
    pub n_allowed: Option<u32>,
    /// What was shown of the answer.
    #[serde(default)]
    pub reveal: Reveal,
    /// Hash of the ledger's entry before this one.
    pub previous: Digest,
}

/// One declared slice compared with the baseline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FamilyTest {
    /// `carrier=*`, or `slices` for those by predicate.
    pub family: String,
    /// The metric.
    pub metric: Metric,
    /// `carrier=UA`.
    pub slice: String,
    /// Labelled rows.
    pub n_rows: u64,
    /// Two-sided P of "no difference".
    pub p: f64,
    /// Adjusted by Holm within the family: chance of any false alarm.
    pub p_holm: f64,
    /// Adjusted by Benjamini and Hochberg within the family: expected share of false alarms.
    pub p_bh: f64,
}

/// Where the uncertainty of a claim about the *recipe* comes from. A claim about one trained model has the first alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeedVariance {
    /// Models trained with the recipe, the candidate included.
    pub n_seeds: u32,
    /// Models of the baseline's recipe; with them all variances are of the difference of the two means.
    #[serde(default)]
    pub n_seeds_baseline: Option<u32>,
    /// The metric, on all rows.
    pub metric: Metric,
    /// Variance of the seeds' mean from the choice of rows.
    pub item: f64,
    /// From the choice of seeds.
    pub seed: f64,
    /// From both at once: a two-level bootstrap, seeds then rows.
    pub joint: f64,
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
    /// Anchor's model manifest.
    #[serde(default)]
    pub anchor: Option<Digest>,
    /// Anchor's predictions.
    #[serde(default)]
    pub anchor_predictions: Option<Digest>,
    /// The policy.
    pub policy: Digest,
    /// Tool version.
    pub tool: String,
    /// The executable that judged.
    #[serde(default)]
    pub binary: Option<Digest>,
    /// Git state of the project when it was judged.
    #[serde(default)]
    pub code: CodeVersion,
}

/// Metrics × slices, for a candidate and, where there is one, a baseline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Every cell, slices in order (`all` first), metrics in order.
    pub cells: Vec<Cell>,
    /// Rows per slice.
    pub slices: Vec<SliceCount>,
    /// Points of the ROC curve, precision over recall, the reliability diagram and the score histogram of slice `all`, by
    /// series name (`roc`, `precision_recall`, `calibration`, `calibration_rows`, `scores_negative`, `scores_positive`, …):
    /// (x, y) pairs, at most 200 each.
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
