//! The policy file `gate.toml`: raw as typed, gates as meant. In CI it is read from the base branch.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Digest, Name, metric::Metric};

/// Rules of one gate.
pub const RULES_MAX: usize = 256;

/// All gates of a policy file, and the digest of its text.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Gates by name.
    pub gates: BTreeMap<Name, Gate>,
    /// Digest of the file's meaning (after `--set`).
    pub digest: Digest,
}

/// A named list of rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// Its name.
    pub name: Name,
    /// What the candidate is compared with.
    pub baseline: BaselineRef,
    /// 1 − α of one verdict (one-sided).
    pub reliability: f64,
    /// Power at which "rows needed" is computed.
    pub power: f64,
    /// Whether an inconclusive verdict blocks.
    pub inconclusive_is_allowed: bool,
    /// Whether a first version may pass on absolute rules alone.
    pub unbaselined_is_allowed: bool,
    /// Bootstrap resamples.
    pub n_resamples: u32,
    /// The rules, in order.
    pub rules: Vec<Rule>,
    /// Recorded exceptions.
    pub waivers: Vec<Waiver>,
}

/// What the candidate is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BaselineRef {
    /// An alias of the same model: `@champion`.
    Alias(Name),
    /// A fixed version of the same model: `@7`.
    Version(u32),
    /// The majority class or the mean label of the holdout's own training split.
    Naive,
    /// Nothing: absolute rules only.
    None,
}

/// metric + slices + bound + minimum rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// The metric.
    pub metric: Metric,
    /// Which slices it guards.
    pub slices: Vec<SliceRef>,
    /// What must hold.
    pub bound: Bound,
    /// Rows a slice needs to be judged.
    pub n_rows_min: u64,
    /// `true`: a broken rule only warns.
    pub warns_only: bool,
}

/// A slice as a rule names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SliceRef {
    /// All rows.
    All,
    /// A predicate slice by name, or one value of a family: `evening`, `carrier=UA`.
    Named(String),
    /// Every value of a family with enough rows: `carrier=*`.
    Every(String),
}

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Absolute floor.
    Min(f64),
    /// Absolute ceiling.
    Max(f64),
    /// Not worse than the baseline by more than this margin.
    MaxRegression(Change),
    /// Better than the baseline by more than this.
    MinImprovement(Change),
    /// Not suspiciously better: a leak alarm.
    MaxImprovement(Change),
}

/// A difference, absolute or as a share of |baseline|.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// In the metric's own unit, ≥ 0.
    Absolute(f64),
    /// (new − old) / |old|, ≥ 0.
    Relative(f64),
}

/// A recorded, expiring exception to one rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiver {
    /// The rule's name.
    pub rule: String,
    /// Last day it holds, `YYYY-MM-DD`.
    pub until: String,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}
