//! `label.constant`, `label.new`, `label.balance`, `label.missing`: is there something to learn, and something to judge
//! it by.

use std::collections::BTreeMap;

use karat_core::{ColumnType, Finding, Outcome, profile::SplitProfile, thousands};

use super::{Question, share};
use crate::number::percent;

/// Classes or values that are named in a message.
const NAMED_MAX: usize = 5;

/// One class in the training split cannot be learnt; one class elsewhere cannot be ranked.
pub(super) fn constant(question: &Question<'_>) -> Vec<Finding> {
    let Some(label) = question.schema.label() else { return no_label(question) };
    let Some(found) = question.profile.columns.iter().find(|it| it.name == label.name) else {
        return vec![question.not_applied(&label.name, "the label column is absent")];
    };
    let bound = "two values at least";
    if found.n_distinct <= 1 {
        let message = format!("the label has {} distinct values in all rows", found.n_distinct);
        return vec![question.finding(&label.name, Outcome::Fail, bound, message)];
    }
    let splits = question.splits();
    let mut findings = Vec::new();
    for (name, split) in splits.iter().filter(|(_, it)| 0 < it.n_rows) {
        let message = match classes(&split.label_counts).as_slice() {
            _ if split.n_labeled == 0 => {
                format!("no row of split `{name}` has a label, of {}", thousands(split.n_rows))
            }
            [(class, n)] => {
                format!("all {} labelled rows of split `{name}` are `{class}`", thousands(*n))
            }
            _ => continue,
        };
        let outcome = if *name == question.context.train { Outcome::Fail } else { Outcome::Warn };
        findings.push(question.finding(name, outcome, bound, message));
    }
    let message = match splits.len() {
        0 => format!("{} distinct values", thousands(found.n_distinct)),
        n => format!("the label varies in all {n} splits"),
    };
    question.or_pass(findings, bound, message)
}

/// A model gives no probability to a class it has never seen.
pub(super) fn unseen(question: &Question<'_>) -> Vec<Finding> {
    let Some(label) = question.schema.label() else { return no_label(question) };
    let splits = question.splits();
    let Some((train, known)) = splits.first().filter(|(name, _)| *name == question.context.train)
    else {
        return question.pass("all", "", "nothing to ask: the training split is not declared");
    };
    if known.label_counts.is_empty() {
        // Words are classes; when they were not counted there were too many.
        if label.ty == ColumnType::Text && 0 < known.n_labeled {
            let message = format!("the classes of `{train}` were too many to be counted");
            return vec![question.not_applied(train, message)];
        }
        let message = "nothing to ask: the label is a number, or training has no label";
        return question.pass("all", "", message);
    }
    let allowed = question.bound();
    let bound = format!("at most {} rows", thousands(allowed.max(0.0) as u64));
    let mut findings = Vec::new();
    for (name, split) in &splits[1..] {
        if split.label_counts.is_empty() && 0 < split.n_labeled {
            let message = format!(
                "split `{name}` has too many classes to be counted, `{train}` has {}",
                known.label_counts.len()
            );
            findings.push(question.finding(name, Outcome::Fail, bound.clone(), message));
            continue;
        }
        let unknown: Vec<(&str, u64)> = classes(&split.label_counts)
            .into_iter()
            .filter(|(class, _)| !known.label_counts.contains_key(*class))
            .collect();
        let n: u64 = unknown.iter().map(|(_, n)| n).sum();
        if n as f64 <= allowed {
            continue;
        }
        let mut named: Vec<String> = unknown
            .iter()
            .take(NAMED_MAX)
            .map(|(class, n)| format!("`{class}` ({})", thousands(*n)))
            .collect();
        if NAMED_MAX < unknown.len() {
            named.push(format!("and {} more", unknown.len() - NAMED_MAX));
        }
        let message = format!(
            "{} rows of split `{name}` have a class that `{train}` has not: {}; allowed {bound}",
            thousands(n),
            named.join(", ")
        );
        let mut finding = question.finding(name, Outcome::Fail, bound.clone(), message);
        finding.value = Some(n as f64);
        finding.n_rows = Some(split.n_rows);
        findings.push(finding);
    }
    let message = format!("`{train}` has all {} classes", known.label_counts.len());
    question.or_pass(findings, &bound, message)
}

/// Rows of the rarest class, split by split: the share alone says little.
pub(super) fn balance(question: &Question<'_>) -> Vec<Finding> {
    if question.schema.label().is_none() {
        return no_label(question);
    }
    let min = question.bound();
    let bound = format!("at least {} rows", thousands(min.max(0.0) as u64));
    let mut shares = Vec::new();
    let mut findings = Vec::new();
    for (name, split) in question.splits() {
        let rarest = classes(&split.label_counts).into_iter().min_by_key(|(_, n)| *n);
        let Some((class, n)) = rarest else { continue };
        let part = percent(share(n, split.n_labeled));
        shares.push(format!("{name} {part} `{class}`"));
        if min <= n as f64 {
            continue;
        }
        let message = format!(
            "the rarest class of split `{name}`, `{class}`, has {} of {} rows ({part}), should be {bound}",
            thousands(n),
            thousands(split.n_labeled)
        );
        let mut finding = question.finding(name, Outcome::Fail, bound.clone(), message);
        finding.value = Some(n as f64);
        finding.n_rows = Some(split.n_rows);
        findings.push(finding);
    }
    if shares.is_empty() {
        return question.pass(
            "all",
            "",
            "nothing to ask: the label is a number, or no split is declared",
        );
    }
    question.or_pass(findings, &bound, format!("rarest classes: {}", shares.join(", ")))
}

/// Rows without a label are neither trained on nor judged.
pub(super) fn missing(question: &Question<'_>) -> Vec<Finding> {
    let Some(label) = question.schema.label() else { return no_label(question) };
    let Some(profile) = question.profile.columns.iter().find(|it| it.name == label.name) else {
        return vec![question.not_applied(&label.name, "the label column is absent")];
    };
    let bound = format!("at most {}", percent(question.bound()));
    let of_split = |(name, split): (&str, &SplitProfile)| {
        (name.to_owned(), split.n_rows.saturating_sub(split.n_labeled), split.n_rows)
    };
    let mut parts: Vec<(String, u64, u64)> = question.splits().into_iter().map(of_split).collect();
    if parts.is_empty() {
        parts.push(("all".to_owned(), profile.n_missing, question.profile.n_rows));
    }
    let mut findings = Vec::new();
    let mut counts = Vec::new();
    for (name, n, n_rows) in parts {
        let without = share(n, n_rows);
        counts.push(format!("{name} {}", percent(without)));
        if without <= question.bound() {
            continue;
        }
        let message = format!(
            "{} of {} rows ({}) of `{name}` have no label, allowed {bound}",
            thousands(n),
            thousands(n_rows),
            percent(without)
        );
        let mut finding = question.finding(&name, Outcome::Fail, bound.clone(), message);
        finding.value = Some(without);
        finding.n_rows = Some(n_rows);
        findings.push(finding);
    }
    question.or_pass(findings, &bound, format!("rows without a label: {}", counts.join(", ")))
}

fn no_label(question: &Question<'_>) -> Vec<Finding> {
    question.pass("all", "", "nothing to ask: no column is declared the label")
}

/// Classes that occur.
fn classes(counts: &BTreeMap<String, u64>) -> Vec<(&str, u64)> {
    counts.iter().filter(|(_, n)| 0 < **n).map(|(class, n)| (class.as_str(), *n)).collect()
}
