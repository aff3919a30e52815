//! `schema.empty`: columns without a single value. Labels and keys have checks of their own, and what the model does not
//! use may be empty.

use karat_core::{Finding, Outcome, Role, thousands};

use super::Question;
use crate::number::counted;

pub(super) fn empty(question: &Question<'_>) -> Vec<Finding> {
    let n_rows = question.profile.n_rows;
    let is_asked = |role| matches!(role, Role::Feature | Role::Group | Role::Weight | Role::Time);
    let mut n_asked = 0;
    let mut findings = Vec::new();
    for (column, profile) in question.columns().filter(|(it, _)| is_asked(it.role)) {
        n_asked += 1;
        if n_rows == 0 || profile.n_missing < n_rows {
            continue;
        }
        let message = format!("none of {} rows has a value", thousands(n_rows));
        let mut finding =
            question.finding(&column.name, Outcome::Fail, "one value at least", message);
        finding.value = Some(1.0);
        finding.advice =
            Some(format!("`role = \"ignore\"` for `{}` takes it out of the model", column.name));
        findings.push(finding);
    }
    question.or_pass(
        findings,
        "one value at least",
        format!("asked of {}", counted(n_asked, "column")),
    )
}
