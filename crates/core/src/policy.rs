//! The policy file `gate.toml`: gates as meant. In CI it is read from the base branch.
//!
//! Reading order: [`Policy`], [`Gate`], [`Rule`], [`OperationalRule`], [`Budget`], then `policy::read` (the file as typed,
//! and what it refuses).

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{Digest, Document, Failure, Name, metric::Metric};

mod budget;
mod operational;
mod read;

pub use budget::{Adaptivity, Budget, Reveal, USES_MAX, USES_MAX_FULL};
pub use operational::{Measure, OperationalRule, Perturbation, UnknownMeasure};

/// Rules of one gate.
pub const RULES_MAX: usize = 256;
/// Slices one rule names.
pub const RULE_SLICES_MAX: usize = 256;
/// Fewest bootstrap resamples: below this the tails of an interval rest on a handful of draws.
pub const RESAMPLES_MIN: u32 = 999;
/// Most bootstrap resamples.
pub const RESAMPLES_MAX: u32 = 1_000_000;
/// Resamples when the gate does not say.
pub const RESAMPLES_DEFAULT: u32 = 9_999;

/// All gates of a policy file, and the digest of its text.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Gates by name.
    pub gates: BTreeMap<Name, Gate>,
    /// Digest of the file's meaning (after `--set`).
    pub digest: Digest,
    /// Other tools' words that were understood, one line each with what they were read as. Not part of the meaning.
    pub notes: Vec<String>,
}

impl Policy {
    /// Reads and validates `gate.toml`.
    pub fn read(document: &Document) -> Result<Self, Failure> {
        read::policy(document)
    }
}

/// A named list of rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// Its name.
    pub name: Name,
    /// The model it judges; the project's when absent.
    #[serde(default)]
    pub model: Option<Name>,
    /// The split whose rows it judges on; the project's `score.split` when absent.
    #[serde(default)]
    pub split: Option<Name>,
    /// What the candidate is compared with.
    pub baseline: BaselineRef,
    /// A pinned version that every change rule is judged against too, so that small losses cannot add up.
    #[serde(default)]
    pub anchor: Option<Anchor>,
    /// 1 − α as asked (one-sided). What one verdict is computed at: [`Gate::reliability_each`].
    pub reliability: f64,
    /// How often the same rows may be used.
    #[serde(default)]
    pub budget: Option<Budget>,
    /// Whose signature a promotion needs.
    #[serde(default)]
    pub signatures: Option<Signatures>,
    /// Power at which "rows needed" is computed.
    pub power: f64,
    /// Whether an inconclusive verdict blocks.
    pub inconclusive_is_allowed: bool,
    /// Whether a first version may pass on absolute rules alone.
    pub unbaselined_is_allowed: bool,
    /// Bootstrap resamples.
    pub n_resamples: u32,
    /// The rules about answers, in order.
    pub rules: Vec<Rule>,
    /// The rules about cost and behaviour, in order.
    #[serde(default)]
    pub operational: Vec<OperationalRule>,
    /// Recorded exceptions.
    pub waivers: Vec<Waiver>,
}

impl Gate {
    /// 1 − α of one verdict: what was asked, less what the budget's other uses may spend.
    #[must_use]
    pub fn reliability_each(&self) -> f64 {
        self.budget.map_or(self.reliability, |it| it.reliability(self.reliability))
    }

    /// Rules of both kinds: a gate without any decides nothing.
    #[must_use]
    pub fn n_rules(&self) -> usize {
        self.rules.len() + self.operational.len()
    }
}

/// A version that stays the same while champions come and go: `flights@3`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// The model.
    pub model: Name,
    /// Its version, from 1.
    pub version: u32,
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.model, self.version)
    }
}

/// Whose signature a promotion needs: one of these keys is enough.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signatures {
    /// PEM files of public keys, relative to the project; at least one.
    pub keys: Vec<String>,
}

/// What the candidate is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BaselineRef {
    /// An alias of the same model: `@champion`.
    Alias(Name),
    /// A fixed version of the same model: `@7`.
    Version(u32),
    /// A constant prediction from the judged rows' own labels: the share of each class, or the mean.
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
    /// Rows a slice needs to be judged. 0: not said; then a named slice is always judged, and a value of a `=*` family
    /// when it has rows enough to see the margin.
    pub n_rows_min: u64,
    /// How failing over many slices is corrected.
    #[serde(default)]
    pub correction: Correction,
    /// `true`: a broken rule only warns.
    pub warns_only: bool,
}

/// How a failure over many slices is corrected for their number. A pass needs none: it claims *every* slice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Correction {
    /// Holm (1979): at most α of verdicts fail when no slice is worse.
    #[default]
    Holm,
    /// Each slice at α.
    None,
}

/// A slice as a rule names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SliceRef {
    /// All rows.
    All,
    /// A predicate slice by name, or one value of a family: `evening`, `carrier=UA`.
    Named(String),
    /// Every value of this family with enough rows: `carrier` for `carrier=*`.
    Every(String),
    /// Rows in all of two or three others, each `Named` or `Every`: `carrier=* & origin=*`, `evening & carrier=*`.
    Crossed(Vec<SliceRef>),
}

impl SliceRef {
    /// Whether it stands for any number of slices, which nobody has named one by one.
    #[must_use]
    pub fn is_family(&self) -> bool {
        match self {
            Self::All | Self::Named(_) => false,
            Self::Every(_) => true,
            Self::Crossed(parts) => parts.iter().any(Self::is_family),
        }
    }
}

impl fmt::Display for SliceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Named(name) => f.write_str(name),
            Self::Every(family) => write!(f, "{family}=*"),
            Self::Crossed(parts) => {
                for (at, part) in parts.iter().enumerate() {
                    write!(f, "{}{part}", if at == 0 { "" } else { " & " })?;
                }
                Ok(())
            }
        }
    }
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

impl Bound {
    /// Whether the bound is on the difference from a baseline.
    #[must_use]
    pub const fn is_change(self) -> bool {
        !matches!(self, Self::Min(_) | Self::Max(_))
    }

    /// The difference it is about, when it is.
    #[must_use]
    pub const fn change(self) -> Option<Change> {
        match self {
            Self::Min(_) | Self::Max(_) => None,
            Self::MaxRegression(change)
            | Self::MinImprovement(change)
            | Self::MaxImprovement(change) => Some(change),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Min(min) => write!(f, "at least {min}"),
            Self::Max(max) => write!(f, "at most {max}"),
            Self::MaxRegression(margin) => write!(f, "not worse by more than {margin}"),
            Self::MinImprovement(step) => write!(f, "better by more than {step}"),
            Self::MaxImprovement(alarm) => write!(f, "not better by more than {alarm}"),
        }
    }
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

impl Change {
    /// The number, whatever its unit.
    #[must_use]
    pub const fn amount(self) -> f64 {
        match self {
            Self::Absolute(amount) | Self::Relative(amount) => amount,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absolute(amount) => write!(f, "{amount}"),
            Self::Relative(share) => write!(f, "{share} of the baseline's value"),
        }
    }
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
