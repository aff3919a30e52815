//! `schema.null`: the share of missing values, per column, against `missing_max` of the schema. A bound in the project
//! holds for the columns that have no `missing_max`; without either the column is not asked.

use karat_core::{Finding, Outcome, thousands};

use super::{Question, share};
use crate::number::{counted, percent};

pub(super) fn missing(question: &Question<'_>) -> Vec<Finding> {
    let n_rows = question.profile.n_rows;
    let mut n_asked = 0;
    let mut findings = Vec::new();
    for (column, profile) in question.columns() {
        let Some(max) = column.missing_max.or(question.own_bound()) else { continue };
        n_asked += 1;
        let missing = share(profile.n_missing, n_rows);
        if missing <= max {
            continue;
        }
        let bound = format!("at most {}", percent(max));
        let message = format!(
            "{} of {} rows ({}) have no value, allowed {bound}",
            thousands(profile.n_missing),
            thousands(n_rows),
            percent(missing)
        );
        let mut finding = question.finding(&column.name, Outcome::Fail, bound, message);
        finding.value = Some(missing);
        findings.push(finding);
    }
    question.or_pass(findings, "", format!("asked of {} with a limit", counted(n_asked, "column")))
}
