//! `split.size` and `split.disjoint`: the splits have rows, and no row or key is in two of them.

use karat_core::{Finding, Outcome, nearest, thousands};

use super::Question;
use crate::number::counted;

/// Declared splits, and those that the project uses.
pub(super) fn size(question: &Question<'_>) -> Vec<Finding> {
    let splits = question.splits();
    let min = question.bound();
    let bound = format!("at least {} rows", thousands(min.max(0.0) as u64));
    let mut findings: Vec<Finding> = splits
        .iter()
        .filter(|(_, split)| (split.n_rows as f64) < min)
        .map(|(name, split)| {
            let message =
                format!("split `{name}` has {} rows, must be {bound}", thousands(split.n_rows));
            let mut finding = question.finding(name, Outcome::Fail, bound.clone(), message);
            finding.value = Some(split.n_rows as f64);
            finding.n_rows = Some(split.n_rows);
            finding
        })
        .collect();
    // Nothing can be trained without one; without the other two there is only less to say about the result.
    let used = [("train", question.context.train), ("holdout", question.context.holdout)];
    for (what, name) in used {
        if splits.is_empty() || splits.iter().any(|(it, _)| *it == name) {
            continue;
        }
        let near = nearest(name, splits.iter().map(|(it, _)| *it));
        let message = format!(
            "the {what} split `{name}` is not declared: declared are `{}`",
            near.join("`, `")
        );
        findings.push(question.finding(name, Outcome::Warn, "declared", message));
    }
    let counts: Vec<String> =
        splits.iter().map(|(name, it)| format!("{name} {}", thousands(it.n_rows))).collect();
    let all = if counts.is_empty() { "no split is declared".to_owned() } else { counts.join(", ") };
    question.or_pass(findings, &bound, all)
}

pub(super) fn disjoint(question: &Question<'_>) -> Vec<Finding> {
    let overlaps = &question.profile.overlaps;
    let allowed = question.bound();
    let bound = format!("at most {} rows", thousands(allowed.max(0.0) as u64));
    let mut findings = Vec::new();
    for overlap in overlaps {
        for (n, what, advice) in [
            (overlap.n_same_row, "rows lie in", "the rules of the two splits overlap"),
            (
                overlap.n_same_key,
                "rows share a key or group across",
                "split by `hash`: it keeps keys and groups on one side",
            ),
        ] {
            if n as f64 <= allowed {
                continue;
            }
            let message = format!(
                "{} {what} both `{}` and `{}`, allowed {bound}",
                thousands(n),
                overlap.a,
                overlap.b
            );
            let subject = format!("{}, {}", overlap.a, overlap.b);
            let mut finding = question.finding(&subject, Outcome::Fail, bound.clone(), message);
            finding.value = Some(n as f64);
            finding.advice = Some(advice.to_owned());
            findings.push(finding);
        }
    }
    let n_splits = question.profile.splits.len();
    if overlaps.len() < n_splits * n_splits.saturating_sub(1) / 2 {
        let message =
            format!("only {} pairs of the {n_splits} splits were compared", overlaps.len());
        findings.push(question.not_applied("all", message));
    }
    question.or_pass(findings, &bound, format!("asked of {}", counted(overlaps.len(), "pair")))
}
