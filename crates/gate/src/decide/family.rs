//! A rule over every value of a column: values with too few rows are counted, not tested.
//!
//! Without `n_rows_min` the minimum is what the rule itself needs: rows enough to see its margin at the gate's power
//! when the models are equal, and never fewer than [`ROWS_MIN`]. Nobody can promise that every value of a column is
//! frequent, so a small one warns once for all instead of holding up the verdict; a *named* slice does hold it up.

use karat_core::{
    Finding, Outcome, ScoredRows,
    policy::{Bound, Gate, Rule},
    thousands,
};

use super::{
    SliceEvidence,
    rule::{Plan, on_slice, subject},
    want_of,
};

/// Rows below which no value of a family is tested.
const ROWS_MIN: u64 = 30;
/// Small values that are named.
const NAMED_MAX: usize = 5;

/// Findings of the values that are large enough, then one for the rest.
pub(super) fn judge(
    gate: &Gate,
    rule: &Rule,
    family: &str,
    members: &[&SliceEvidence],
    candidate: &ScoredRows,
) -> Vec<Finding> {
    let (tested, small): (Vec<_>, Vec<_>) =
        members.iter().copied().partition(|it| is_large_enough(gate, rule, it));
    let mut findings: Vec<Finding> =
        tested.iter().map(|seen| on_slice(gate, rule, seen, candidate)).collect();
    if tested.is_empty() {
        // Somebody asked for the family as a whole, and nobody was looked at.
        let mut finding = Finding::new(
            &rule.name,
            subject(rule, family),
            Outcome::Inconclusive,
            rule.bound.to_string(),
            format!("all {} values have too few rows{}", members.len(), needed(rule)),
        );
        finding.advice =
            Some("more labelled rows, or a smaller `n_rows_min`, let it be judged".to_owned());
        return vec![finding];
    }
    if !small.is_empty() {
        let mut named: Vec<String> = small
            .iter()
            .take(NAMED_MAX)
            .map(|seen| format!("{} ({})", seen.label, thousands(seen.n_rows)))
            .collect();
        if NAMED_MAX < small.len() {
            named.push(format!("and {} more", small.len() - NAMED_MAX));
        }
        findings.push(Finding::new(
            &rule.name,
            subject(rule, family),
            Outcome::Warn,
            rule.bound.to_string(),
            format!(
                "{} of {} values are too small, not tested{}: {}",
                small.len(),
                members.len(),
                needed(rule),
                named.join(", ")
            ),
        ));
    }
    findings
}

fn needed(rule: &Rule) -> String {
    if rule.n_rows_min == 0 {
        return String::new();
    }
    format!(" (the rule needs {} rows)", thousands(rule.n_rows_min))
}

fn is_large_enough(gate: &Gate, rule: &Rule, seen: &SliceEvidence) -> bool {
    if 0 < rule.n_rows_min {
        return rule.n_rows_min <= seen.n_rows;
    }
    if seen.n_rows < ROWS_MIN {
        return false;
    }
    match (rule.bound, seen.estimates.get(&want_of(rule))) {
        (Bound::MaxRegression(margin), Some(Ok(found))) if 0.0 < margin.amount() => {
            Plan::new(gate, rule, found, seen).sees(margin.amount())
        }
        _ => true,
    }
}
