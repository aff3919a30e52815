//! `schema.key`: every row has a key and no two rows share one.

use karat_core::{Column, Finding, Outcome, thousands};

use super::{Question, first, place};

pub(super) fn keys(question: &Question<'_>) -> Vec<Finding> {
    let names: Vec<&str> = question.schema.keys().map(|it: &Column| it.name.as_str()).collect();
    if names.is_empty() {
        return question.pass("all", "", "nothing to ask: no column is declared a key");
    }
    let subject = names.join(", ");
    let Some(found) = &question.profile.key else {
        return vec![
            question.not_applied(&subject, "the key was not counted: a key column is absent"),
        ];
    };
    let allowed = question.bound();
    let bound = format!("at most {} rows", thousands(allowed.max(0.0) as u64));
    let mut findings = Vec::new();
    for (n, what) in
        [(found.n_repeated, "have the key of an earlier row"), (found.n_missing, "have no key")]
    {
        if n as f64 <= allowed {
            continue;
        }
        let message = format!(
            "{} of {} rows {what}, allowed {bound}{}",
            thousands(n),
            thousands(question.profile.n_rows),
            first(&found.examples)
        );
        let mut finding = question.finding(&subject, Outcome::Fail, bound.clone(), message);
        finding.value = Some(n as f64);
        finding.examples = found.examples.iter().map(place).collect();
        findings.push(finding);
    }
    question.or_pass(findings, &bound, format!("key ({subject}) is there and unique"))
}
