//! Constraints that single rows break: `schema.type`, `schema.finite`, `schema.range`, `schema.domain`,
//! `schema.unique`. The bound is the share of rows that may, 0 unless the project says otherwise.

use karat_core::{
    Column, Finding, Outcome,
    profile::{ColumnProfile, Offenders},
    thousands,
};

use super::{Question, share};
use crate::number::{counted, percent};

pub(super) fn types(question: &Question<'_>) -> Vec<Finding> {
    each(question, |column, profile| {
        Some((
            &profile.wrong_type,
            "do not parse".to_owned(),
            format!("expected {}", column.ty.word()),
        ))
    })
}

pub(super) fn range(question: &Question<'_>) -> Vec<Finding> {
    each(question, |column, profile| {
        let allowed = match (column.min, column.max) {
            (None, None) => return None,
            (Some(min), None) => format!("allowed is {min} or more"),
            (None, Some(max)) => format!("allowed is {max} or less"),
            (Some(min), Some(max)) => format!("allowed is {min} to {max}"),
        };
        Some((&profile.out_of_range, "are outside the range".to_owned(), allowed))
    })
}

pub(super) fn domain(question: &Question<'_>) -> Vec<Finding> {
    each(question, |column, profile| {
        let domain = column.domain.as_ref()?;
        let mut shown: Vec<String> = domain.iter().take(5).map(|it| format!("`{it}`")).collect();
        if shown.len() < domain.len() {
            shown.push(format!("and {} more", domain.len() - shown.len()));
        }
        let allowed = format!("allowed are {}", shown.join(", "));
        Some((&profile.out_of_domain, "are not in the schema's set".to_owned(), allowed))
    })
}

pub(super) fn unique(question: &Question<'_>) -> Vec<Finding> {
    each(question, |column, profile| {
        column.unique.then(|| {
            (
                &profile.repeated,
                "repeat an earlier value".to_owned(),
                "allowed is each value once".to_owned(),
            )
        })
    })
}

/// Counted without places, so without examples.
pub(super) fn finite(question: &Question<'_>) -> Vec<Finding> {
    let n_rows = question.profile.n_rows;
    let findings = question
        .columns()
        .filter_map(|(column, profile)| {
            let found = share(profile.n_not_finite, n_rows);
            if profile.n_not_finite == 0 || found <= question.bound() {
                return None;
            }
            let bound = format!("finite in all but {}", percent(question.bound()));
            let message = format!(
                "{} of {} rows ({}) are NaN or infinite, must be {bound}",
                thousands(profile.n_not_finite),
                thousands(n_rows),
                percent(found)
            );
            let mut finding = question.finding(&column.name, Outcome::Fail, bound, message);
            finding.value = Some(found);
            finding.advice = Some(
                "write missing values as missing: NaN counts as a value that is broken".to_owned(),
            );
            Some(finding)
        })
        .collect();
    question.or_pass(
        findings,
        "finite",
        format!("asked of {}", counted(question.profile.columns.len(), "column")),
    )
}

/// (offending rows, what they do, what is allowed) of each column that has the constraint.
fn each<'a>(
    question: &'a Question<'_>,
    of_column: impl Fn(&'a Column, &'a ColumnProfile) -> Option<(&'a Offenders, String, String)>,
) -> Vec<Finding> {
    let mut n_asked = 0;
    let mut findings = Vec::new();
    for (column, profile) in question.columns() {
        let Some((found, what, allowed)) = of_column(column, profile) else { continue };
        n_asked += 1;
        findings.extend(question.offenders(&column.name, found, &what, &allowed));
    }
    question.or_pass(findings, "", format!("asked of {}", counted(n_asked, "column")))
}
