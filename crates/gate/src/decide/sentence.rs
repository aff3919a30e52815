//! How a judged slice is said: the sentence, the numbers, the rows that changed sides.

use std::collections::BTreeMap;

use karat_core::{
    ScoredRows,
    policy::{Change, Gate, Rule},
    thousands,
};

use super::{evidence::SliceEvidence, plan::Plan, rule::Family};
use crate::{
    estimate::{Estimate, Flips},
    number::{figure, signed},
};

/// Below this a P says no more than that it is small.
const P_MIN_SHOWN: f64 = 0.000_001;

/// The fact in one line.
pub(super) fn sentence(
    gate: &Gate,
    rule: &Rule,
    found: &Estimate,
    seen: &SliceEvidence,
    plan: &Plan,
) -> String {
    let metric = rule.metric;
    let level = level(gate);
    let rows = rows(seen);
    let (Some(baseline), Some(p)) = (found.baseline, found.p) else {
        return format!(
            "{metric} {}, {level} % interval {} to {} on {rows}; needs to be {}",
            figure(found.value),
            figure(found.interval[0]),
            figure(found.interval[1]),
            rule.bound
        );
    };
    let unit = match rule.bound.change() {
        Some(Change::Relative(_)) => " of the baseline's value",
        _ => "",
    };
    let flips = seen.flips.as_ref().map_or_else(String::new, |flips| {
        format!(
            ", {} rows went from wrong to right and {} from right to wrong",
            thousands(flips.fixed),
            thousands(flips.broken)
        )
    });
    let difference = match found.value {
        value if value < 0.0 => format!("worse by {}{unit}", figure(-value)),
        value if 0.0 < value => format!("better by {}{unit}", figure(value)),
        _ => "no difference".to_owned(),
    };
    let effect = if 0.0 < plan.effect_seen {
        format!(", effects from {} on are seen", figure(plan.effect_seen))
    } else {
        String::new()
    };
    format!(
        "{metric} {} against {}: {difference}, {level} % interval {} to {} on {rows}{flips}, P {}{effect}; needs to be {}",
        figure(found.candidate),
        figure(baseline),
        signed(found.interval[0]),
        signed(found.interval[1]),
        p_text(p),
        rule.bound
    )
}

/// 1 − 2α in percent, without the noise of binary fractions.
pub(super) fn level(gate: &Gate) -> f64 {
    (1e6 * (2.0 * gate.reliability_each() - 1.0)).round() / 1e4
}

/// `1,000 rows`, or `1,000 rows with 3,000 labels`.
pub(super) fn rows(seen: &SliceEvidence) -> String {
    let rows = thousands(seen.n_rows);
    match seen.n_labels {
        None => format!("{rows} rows"),
        Some(n_labels) => format!("{rows} rows with {} labels", thousands(n_labels)),
    }
}

/// A P with four digits, or that it is small.
pub(super) fn p_text(p: f64) -> String {
    if p < P_MIN_SHOWN { format!("below {P_MIN_SHOWN}") } else { figure(p) }
}

/// Every number by name.
pub(super) fn numbers(
    found: &Estimate,
    seen: &SliceEvidence,
    plan: &Plan,
    family: Option<Family>,
) -> BTreeMap<String, f64> {
    let mut numbers = BTreeMap::new();
    let mut put = |name: &str, value: f64| {
        if value.is_finite() {
            numbers.insert(name.to_owned(), value);
        }
    };
    put("n", seen.n_rows as f64);
    if let Some(n_labels) = seen.n_labels {
        put("n_labels", n_labels as f64);
    }
    put("candidate", found.candidate);
    put("standard_error", found.standard_error);
    put("effect_min_seen", plan.effect_seen);
    if let Some(baseline) = found.baseline {
        put("baseline", baseline);
        if let Some(flips) = &seen.flips {
            put("wrong_to_right", flips.fixed as f64);
            put("right_to_wrong", flips.broken as f64);
            put("disagreeing", (flips.fixed + flips.broken) as f64);
        }
    }
    if let Some(p) = found.p {
        put("p", p);
    }
    if let Some(family) = family {
        put("p_breach", family.p);
        put("p_breach_holm", family.p_holm);
        put("n_slices_tested", family.n_tested as f64);
    }
    numbers
}

/// The first rows that changed sides, by the name people know them by.
pub(super) fn examples(flips: &Flips, rows: &ScoredRows) -> Vec<String> {
    let name = |row: &u32| match rows.names.get(*row as usize) {
        Some(name) => name.clone(),
        None => format!("row {}", thousands(u64::from(*row) + 1)),
    };
    let fixed = flips.first_fixed.iter().map(|row| format!("wrong to right: {}", name(row)));
    let broken = flips.first_broken.iter().map(|row| format!("right to wrong: {}", name(row)));
    let mut told: Vec<String> = fixed.chain(broken).collect();
    // A row with several labels is one example.
    told.dedup();
    told
}
