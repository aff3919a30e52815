//! Checks: a [`Profile`] in, findings out. `table` counts, this judges, so every check can be asked again of a stored
//! profile without the data.
//!
//! A check that cannot be evaluated is `not-applied` and fails; one that is switched off by name says so in a passing
//! finding. To add a check: a file in `check/`, one line in [`CHECKS`].
//!
//! | level asked for | a broken bound is |
//! |---|---|
//! | none | an error or a warning, as the check itself says |
//! | `error` | an error, also where the check alone would warn |
//! | `warn` | a warning, also where it could not be evaluated |
//! | `off` | not looked for |
//!
//! Reading order: [`check`], [`CHECKS`], then `check/missing.rs` for the simplest.

use std::collections::BTreeMap;

use karat_core::{
    CheckLevel, CheckSetting, Column, Finding, Outcome, Profile, Schema,
    profile::{ColumnProfile, Offender, Offenders, SplitProfile},
    thousands,
};

use crate::number::percent;

mod columns;
mod duplicate;
mod empty;
mod keys;
mod labels;
mod leaks;
mod missing;
mod splits;
mod values;
mod variation;

/// Findings of one check that are listed one by one; the rest is counted.
pub const FINDINGS_MAX: usize = 20;

/// Which splits are used for what.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Trained on.
    pub train: &'a str,
    /// Looked at while training.
    pub eval: &'a str,
    /// Judged on.
    pub holdout: &'a str,
}

/// One check of the catalogue.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// `schema.null`.
    pub name: &'static str,
    /// What it asks, in a few words.
    pub asks: &'static str,
    /// Severity unless the project says otherwise. Some checks of level error warn for milder cases.
    pub level: CheckLevel,
    /// Bound unless the project says otherwise, and what it is in words.
    pub bound: Option<(f64, &'static str)>,
    run: fn(&Question<'_>) -> Vec<Finding>,
}

/// The catalogue, in the order of reports.
pub const CHECKS: &[Check] = &[
    error("schema.columns", "every column of the schema is there", None, columns::columns),
    error("schema.rows", "there are rows", Some((1.0, "rows at least")), columns::rows),
    error("schema.type", "every value parses as its type", SHARE_OF_ROWS, values::types),
    error("schema.empty", "columns without a single value", None, empty::empty),
    error("schema.null", "the share of missing values", None, missing::missing),
    error("schema.finite", "no NaN and no infinity", SHARE_OF_ROWS, values::finite),
    error("schema.range", "values within `min` and `max`", SHARE_OF_ROWS, values::range),
    error("schema.domain", "values of the `domain`", SHARE_OF_ROWS, values::domain),
    error("schema.unique", "no value of a `unique` column twice", SHARE_OF_ROWS, values::unique),
    error("schema.key", "keys are there and unique", Some((0.0, "rows at most")), keys::keys),
    error("vary.constant", "features that never vary", CONSTANT, variation::constant),
    error("vary.duplicate", "rows that are equal in every column", DUPLICATE, duplicate::rows),
    error("split.size", "declared splits have rows", Some((1.0, "rows at least")), splits::size),
    error("split.disjoint", "no row and no key in two splits", NO_ROWS, splits::disjoint),
    warn("split.duplicate", "equal features and label in two splits", SAME, duplicate::splits),
    error("leak.after", "no feature that is known only afterwards", None, leaks::after),
    error("leak.target", "no feature that alone predicts the label", LEAK, leaks::target),
    error("label.constant", "the label varies", None, labels::constant),
    error("label.new", "no class that training has not seen", NO_ROWS, labels::unseen),
    warn("label.balance", "rows of the rarest class", RAREST, labels::balance),
    warn("label.missing", "rows without a label", Some((0.05, "of rows at most")), labels::missing),
];

const SHARE_OF_ROWS: Bound = Some((0.0, "of rows at most"));
const NO_ROWS: Bound = Some((0.0, "rows at most"));
const CONSTANT: Bound = Some((0.999, "of rows with one value warns, 1 fails"));
const DUPLICATE: Bound = Some((0.05, "of rows warns, 0.3 fails"));
const SAME: Bound = Some((0.05, "of rows at most"));
const LEAK: Bound = Some((0.95, "AUC (binary); others: share of the possible gain, 0.8"));
const RAREST: Bound = Some((50.0, "rows at least"));

type Bound = Option<(f64, &'static str)>;
type Run = fn(&Question<'_>) -> Vec<Finding>;

const fn error(name: &'static str, asks: &'static str, bound: Bound, run: Run) -> Check {
    Check { name, asks, level: CheckLevel::Error, bound, run }
}

const fn warn(name: &'static str, asks: &'static str, bound: Bound, run: Run) -> Check {
    Check { name, asks, level: CheckLevel::Warn, bound, run }
}

/// The names a project may set, in the order of reports.
#[must_use]
pub fn names() -> Vec<&'static str> {
    CHECKS.iter().map(|it| it.name).collect()
}

/// Asks every check, never stopping at the first failure. `settings` hold known names; unknown ones are for the caller
/// to refuse ([`names`]).
#[must_use]
pub fn check(
    profile: &Profile,
    schema: &Schema,
    settings: &BTreeMap<String, CheckSetting>,
    context: &Context<'_>,
) -> Vec<Finding> {
    CHECKS
        .iter()
        .flat_map(|check| {
            let setting = settings.get(check.name);
            ask(check, setting, &Question { check, setting, profile, schema, context: *context })
        })
        .collect()
}

fn ask(check: &Check, setting: Option<&CheckSetting>, question: &Question<'_>) -> Vec<Finding> {
    let asked = setting.and_then(|it| it.level);
    if asked == Some(CheckLevel::Off) {
        let message = format!("switched off by name, so nobody looked: {}", check.asks);
        return vec![Finding::new(check.name, "project", Outcome::Pass, "off", message)];
    }
    let mut findings = shorten(check, (check.run)(question));
    for finding in &mut findings {
        finding.outcome = match (asked, check.level, finding.outcome) {
            (Some(CheckLevel::Error), _, Outcome::Warn) => Outcome::Fail,
            (Some(CheckLevel::Warn), _, Outcome::Fail | Outcome::NotApplied)
            | (None, CheckLevel::Warn, Outcome::Fail | Outcome::NotApplied) => Outcome::Warn,
            (_, _, outcome) => outcome,
        };
    }
    findings
}

/// The worst first, and a count of what is not listed.
fn shorten(check: &Check, mut findings: Vec<Finding>) -> Vec<Finding> {
    if findings.len() <= FINDINGS_MAX {
        return findings;
    }
    findings.sort_by_key(|it| std::cmp::Reverse(it.outcome));
    let rest = findings.split_off(FINDINGS_MAX);
    let worst = rest.iter().map(|it| it.outcome).max().unwrap_or(Outcome::Pass);
    let subjects: Vec<&str> = rest.iter().take(5).map(|it| it.subject.as_str()).collect();
    let message = format!("and {} more of the same: {}, …", rest.len(), subjects.join(", "));
    findings.push(Finding::new(check.name, "the rest", worst, "", message));
    findings
}

/// What one check is given, and the sentences that many of them share.
struct Question<'a> {
    check: &'static Check,
    setting: Option<&'a CheckSetting>,
    profile: &'a Profile,
    schema: &'a Schema,
    context: Context<'a>,
}

impl Question<'_> {
    /// The bound that holds: the project's, else the check's own, else 0.
    fn bound(&self) -> f64 {
        self.own_bound().unwrap_or_else(|| self.check.bound.map_or(0.0, |it| it.0))
    }

    /// The project's bound.
    fn own_bound(&self) -> Option<f64> {
        self.setting.and_then(|it| it.bound)
    }

    fn finding(
        &self,
        subject: &str,
        outcome: Outcome,
        bound: impl Into<String>,
        message: impl Into<String>,
    ) -> Finding {
        let mut finding = Finding::new(self.check.name, subject, outcome, bound, message);
        finding.n_rows = Some(self.profile.n_rows);
        finding
    }

    /// Everything that was asked holds.
    fn pass(
        &self,
        subject: &str,
        bound: impl Into<String>,
        message: impl Into<String>,
    ) -> Vec<Finding> {
        vec![self.finding(subject, Outcome::Pass, bound, message)]
    }

    fn not_applied(&self, subject: &str, message: impl Into<String>) -> Finding {
        self.finding(subject, Outcome::NotApplied, "", message)
    }

    /// `findings`, or one that says how much was looked at.
    fn or_pass(
        &self,
        findings: Vec<Finding>,
        bound: &str,
        message: impl Into<String>,
    ) -> Vec<Finding> {
        if findings.is_empty() { self.pass("all", bound, message) } else { findings }
    }

    /// Columns of the schema with their counts; absent ones are `schema.columns`' business.
    fn columns(&self) -> impl Iterator<Item = (&Column, &ColumnProfile)> {
        self.schema.columns.iter().filter_map(|column| {
            let profile = self.profile.columns.iter().find(|it| it.name == column.name)?;
            Some((column, profile))
        })
    }

    /// A column's offending rows against the allowed share.
    fn offenders(
        &self,
        subject: &str,
        found: &Offenders,
        what: &str,
        allowed: &str,
    ) -> Option<Finding> {
        let share = share(found.n, self.profile.n_rows);
        if found.n == 0 || share <= self.bound() {
            return None;
        }
        let mut finding = self.finding(
            subject,
            Outcome::Fail,
            format!("{allowed} in all but {}", percent(self.bound())),
            format!(
                "{} of {} rows ({}) {what}, {allowed}{}",
                thousands(found.n),
                thousands(self.profile.n_rows),
                percent(share),
                first(&found.examples)
            ),
        );
        finding.value = Some(share);
        finding.examples = found.examples.iter().map(place).collect();
        Some(finding)
    }

    /// The declared splits, the training split first.
    fn splits(&self) -> Vec<(&str, &SplitProfile)> {
        let mut splits: Vec<_> =
            self.profile.splits.iter().map(|(name, split)| (name.as_str(), split)).collect();
        splits.sort_by_key(|(name, _)| *name != self.context.train);
        splits
    }
}

/// Part of a whole; 0 of nothing.
fn share(n: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { n as f64 / of as f64 }
}

/// `part-0007.parquet row 88,213: -4`.
fn place(offender: &Offender) -> String {
    format!("{} row {}: {}", offender.file, thousands(offender.row), offender.value)
}

/// `; first at part-0007.parquet row 88,213: -4`.
fn first(examples: &[Offender]) -> String {
    examples.first().map_or_else(String::new, |it| format!("; first at {}", place(it)))
}

#[cfg(test)]
mod tests;
