//! `schema.columns` and `schema.rows`: is there what the schema names, and is there anything at all.

use karat_core::{Finding, Outcome, nearest, thousands};

use super::Question;
use crate::number::counted;

/// An absent column fails; a column that the schema does not name warns.
pub(super) fn columns(question: &Question<'_>) -> Vec<Finding> {
    let profile = question.profile;
    let mut findings: Vec<Finding> = profile
        .absent
        .iter()
        .map(|name| {
            let mut finding = question.finding(
                name,
                Outcome::Fail,
                "there",
                format!("column `{name}` is in the schema and in no file"),
            );
            if !profile.unnamed.is_empty() {
                let near = nearest(name, profile.unnamed.iter().map(String::as_str));
                finding.advice = Some(format!(
                    "the files have `{}`, which the schema does not name",
                    near.join("`, `")
                ));
            }
            finding
        })
        .collect();
    findings.extend(profile.unnamed.iter().map(|name| {
        question.finding(
            name,
            Outcome::Warn,
            "named in the schema",
            format!("column `{name}` is in the files and not in the schema, so nothing uses or checks it"),
        )
    }));
    question.or_pass(
        findings,
        "there",
        format!("asked of {}", counted(question.schema.columns.len(), "column")),
    )
}

/// Rows of the whole snapshot.
pub(super) fn rows(question: &Question<'_>) -> Vec<Finding> {
    let (n, min) = (question.profile.n_rows, question.bound());
    let bound = format!("at least {} rows", thousands(min.max(0.0) as u64));
    if min <= n as f64 {
        return question.pass("all", bound, format!("{} rows", thousands(n)));
    }
    let message = format!("{} rows, must be {bound}", thousands(n));
    let mut finding = question.finding("all", Outcome::Fail, bound, message);
    finding.value = Some(n as f64);
    vec![finding]
}
