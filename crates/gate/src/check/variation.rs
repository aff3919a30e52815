//! `vary.constant`: a feature with one value teaches nothing, and one that nearly has only one rarely does. One without
//! any value is `schema.empty`'s finding.

use karat_core::{Finding, Outcome, Role, thousands};

use super::{Question, share};
use crate::number::{counted, percent};

pub(super) fn constant(question: &Question<'_>) -> Vec<Finding> {
    let n_rows = question.profile.n_rows;
    if n_rows < 2 {
        return question.pass("all", "", "nothing to ask: fewer than two rows");
    }
    let warns_from = question.bound();
    let mut n_asked = 0;
    let mut findings = Vec::new();
    for (column, profile) in question.columns().filter(|(it, _)| it.role == Role::Feature) {
        if profile.n_missing == n_rows {
            continue;
        }
        n_asked += 1;
        let commonest = profile.top.first();
        let top = commonest.map_or(0, |(_, n)| *n).max(profile.n_missing);
        let most = share(top, n_rows);
        let is_missing = commonest.is_none_or(|(_, n)| *n < profile.n_missing);
        let value = match commonest {
            Some((value, _)) if !is_missing => format!("`{value}`"),
            _ => "no value".to_owned(),
        };
        let is_constant = top == n_rows;
        if !is_constant && most < warns_from {
            continue;
        }
        let bound = format!("below {}", percent(warns_from));
        let message = if is_constant {
            format!("all {} rows have {value}", thousands(n_rows))
        } else {
            format!(
                "{} of {} rows ({}) have {value}, should be {bound}",
                thousands(top),
                thousands(n_rows),
                percent(most)
            )
        };
        let outcome = if is_constant { Outcome::Fail } else { Outcome::Warn };
        let mut finding = question.finding(&column.name, outcome, bound, message);
        finding.value = Some(most);
        if is_constant {
            finding.advice = Some(format!(
                "`role = \"ignore\"` for `{}` takes it out of the model",
                column.name
            ));
        }
        findings.push(finding);
    }
    question.or_pass(findings, "", format!("asked of {}", counted(n_asked, "feature")))
}
