//! A rule over every value of a column: values with too few rows are counted, not tested.
//!
//! Without `n_rows_min` the minimum is what the rule itself needs: rows enough to see its margin at the gate's power
//! when the models are equal, and never fewer than [`ROWS_MIN`]. Nobody can promise that every value of a column is
//! frequent, so a small one warns once for all instead of holding up the verdict; a *named* slice does hold it up.

use karat_core::{
    Finding, Outcome,
    policy::{Bound, Rule},
    thousands,
};

use super::{
    evidence::{ROWS_MIN, SliceEvidence, want_of},
    rule::Case,
};

/// Small values that are named.
const NAMED_MAX: usize = 5;

/// The values that are large enough, then one finding for the rest.
pub(super) fn choose<'a>(
    case: &Case<'_>,
    asked: &str,
    members: Vec<&'a SliceEvidence>,
) -> (Vec<&'a SliceEvidence>, Vec<Finding>) {
    let rule = case.rule;
    let n = members.len();
    let (tested, mut small): (Vec<_>, Vec<_>) =
        members.into_iter().partition(|it| is_large_enough(case, it));
    if tested.is_empty() {
        // Somebody asked for the family as a whole, and nobody was looked at.
        let mut finding = Finding::new(
            &rule.name,
            case.subject(asked),
            Outcome::Inconclusive,
            rule.bound.to_string(),
            format!("all {n} values have too few rows{}", needed(rule)),
        );
        finding.advice =
            Some("more labelled rows, or a smaller `n_rows_min`, let it be judged".to_owned());
        finding.numbers.insert("n_slices_too_small".to_owned(), n as f64);
        return (tested, vec![finding]);
    }
    if small.is_empty() {
        return (tested, Vec::new());
    }
    // The largest first where many are small: they come nearest to being tested.
    if NAMED_MAX < small.len() {
        small.sort_by_key(|it| std::cmp::Reverse(it.n_rows));
    }
    let mut named: Vec<String> = small
        .iter()
        .take(NAMED_MAX)
        .map(|seen| format!("{} ({})", seen.label, thousands(seen.n_rows)))
        .collect();
    if NAMED_MAX < small.len() {
        named.push(format!("and {} more", thousands((small.len() - NAMED_MAX) as u64)));
    }
    let mut finding = Finding::new(
        &rule.name,
        case.subject(asked),
        Outcome::Warn,
        rule.bound.to_string(),
        format!(
            "{} of {} values are too small, not tested{}: {}",
            thousands(small.len() as u64),
            thousands(n as u64),
            needed(rule),
            named.join(", ")
        ),
    );
    finding.numbers.insert("n_slices_too_small".to_owned(), small.len() as f64);
    (tested, vec![finding])
}

fn needed(rule: &Rule) -> String {
    if rule.n_rows_min == 0 {
        return String::new();
    }
    format!(" (the rule needs {} rows)", thousands(rule.n_rows_min))
}

fn is_large_enough(case: &Case<'_>, seen: &SliceEvidence) -> bool {
    let rule = case.rule;
    if 0 < rule.n_rows_min {
        return rule.n_rows_min <= seen.n_rows;
    }
    if seen.n_rows < ROWS_MIN {
        return false;
    }
    match (rule.bound, seen.estimates.get(&want_of(rule))) {
        (Bound::MaxRegression(margin), Some(Ok(found))) if 0.0 < margin.amount() => {
            case.plan(found, seen).sees(margin.amount())
        }
        _ => true,
    }
}
