//! `vary.duplicate`: rows equal to an earlier row in every column. `split.duplicate`: rows of one split whose features
//! and label stand in another too.
//!
//! Equal rows are not wrong by themselves (few coarse columns repeat by chance), so shares decide, not counts.

use karat_core::{Finding, Outcome, thousands};

use super::{Question, first, place, share};
use crate::number::{counted, percent};

/// Share of repeated rows from which the snapshot fails rather than warns.
const FAILS_FROM: f64 = 0.3;

pub(super) fn rows(question: &Question<'_>) -> Vec<Finding> {
    let found = &question.profile.duplicates;
    let repeated = share(found.n_repeated, question.profile.n_rows);
    let (warns, fails) = (question.bound(), question.bound().max(FAILS_FROM));
    let bound = format!("at most {}", percent(warns));
    let message = format!(
        "{} of {} rows ({}) repeat an earlier row in every column",
        thousands(found.n_repeated),
        thousands(question.profile.n_rows),
        percent(repeated)
    );
    if repeated <= warns {
        return question.pass("all", bound, message);
    }
    let outcome = if fails < repeated { Outcome::Fail } else { Outcome::Warn };
    let message = format!("{message}, allowed {bound}{}", first(&found.examples));
    let mut finding = question.finding("all", outcome, bound, message);
    finding.value = Some(repeated);
    finding.examples = found.examples.iter().map(place).collect();
    finding.advice =
        Some("a file read twice, or a join that multiplies rows, looks like this".to_owned());
    vec![finding]
}

pub(super) fn splits(question: &Question<'_>) -> Vec<Finding> {
    let overlaps = &question.profile.overlaps;
    let bound = format!("at most {} of the rows", percent(question.bound()));
    let findings = overlaps
        .iter()
        .filter_map(|overlap| {
            let n_rows = question.profile.splits.get(&overlap.b).map_or(0, |it| it.n_rows);
            let same = share(overlap.n_same_features, n_rows);
            if overlap.n_same_features == 0 || same <= question.bound() {
                return None;
            }
            let message = format!(
                "{} of {} rows ({}) of `{}` have the features and the label of a row of `{}`, allowed {bound}",
                thousands(overlap.n_same_features),
                thousands(n_rows),
                percent(same),
                overlap.b,
                overlap.a
            );
            let subject = format!("{}, {}", overlap.a, overlap.b);
            let mut finding = question.finding(&subject, Outcome::Fail, bound.clone(), message);
            finding.value = Some(same);
            Some(finding)
        })
        .collect();
    question.or_pass(findings, &bound, format!("asked of {}", counted(overlaps.len(), "pair")))
}
