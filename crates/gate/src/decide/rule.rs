//! One rule on one slice: the interval against the bound, and the sentence that says so.

use std::collections::BTreeMap;

use karat_core::{
    Finding, Outcome, ScoredRows,
    metric::Metric,
    policy::{Bound, Change, Gate, Rule, SliceRef},
    thousands,
};

use super::{Baseline, Evidence, SliceEvidence, family, want_of};
use crate::{
    estimate::{Estimate, Flips, Form, RULE_OF_THREE},
    metric::NotMeasured,
    number::{figure, signed},
    power::Power,
};

/// Below this a P says no more than that it is small.
const P_MIN_SHOWN: f64 = 0.000_001;
/// Above this many more rows, "label more" is no advice.
const ROWS_PRACTICAL: f64 = 1e9;

/// The findings of one rule, in the order of its slices.
pub(super) fn judge(
    gate: &Gate,
    rule: &Rule,
    candidate: &ScoredRows,
    baseline: &Baseline<'_>,
    evidence: &Evidence,
) -> Vec<Finding> {
    let mut findings = match (rule.bound.is_change(), baseline) {
        (true, Baseline::Absent { .. }) => vec![without_baseline(gate, rule)],
        (true, Baseline::Refused(why)) => vec![not_applied(rule, "all", why)],
        _ => rule
            .slices
            .iter()
            .flat_map(|slice| on_slices(gate, rule, slice, candidate, evidence))
            .collect(),
    };
    if rule.warns_only {
        for finding in &mut findings {
            if Outcome::Warn < finding.outcome {
                finding.outcome = Outcome::Warn;
            }
        }
    }
    findings
}

fn on_slices(
    gate: &Gate,
    rule: &Rule,
    slice: &SliceRef,
    candidate: &ScoredRows,
    evidence: &Evidence,
) -> Vec<Finding> {
    let asked = slice.to_string();
    let found: Vec<&SliceEvidence> = match evidence.slices.resolve(slice) {
        Ok(found) => found.into_iter().map(|at| &evidence.seen[at]).collect(),
        Err(why) => return vec![not_applied(rule, &asked, &why)],
    };
    if let SliceRef::Every(_) = slice {
        return family::judge(gate, rule, &asked, &found, candidate);
    }
    let on_named = |seen: &&SliceEvidence| {
        if seen.n_rows < rule.n_rows_min {
            too_few(rule, &seen.label, seen.n_rows)
        } else {
            on_slice(gate, rule, seen, candidate)
        }
    };
    found.iter().map(on_named).collect()
}

/// One named slice with rows enough.
pub(super) fn on_slice(
    gate: &Gate,
    rule: &Rule,
    seen: &SliceEvidence,
    candidate: &ScoredRows,
) -> Finding {
    let slice = &seen.label;
    let found = match seen.estimates.get(&want_of(rule)) {
        Some(Ok(found)) => found,
        Some(Err(why)) => return not_applied(rule, slice, why),
        None => return not_applied(rule, slice, &NotMeasured::new("it was not measured")),
    };
    let outcome = compare(rule.bound, found.interval);
    let plan = Plan::new(gate, rule, found, seen);
    let mut finding = Finding::new(
        &rule.name,
        subject(rule, slice),
        outcome,
        rule.bound.to_string(),
        sentence(gate, rule, found, seen, &plan),
    );
    finding.value = Some(found.value);
    finding.interval = Some(found.interval);
    finding.n_rows = Some(seen.n_rows);
    finding.numbers = numbers(found, seen, &plan);
    if rule.bound.is_change()
        && let Some(flips) = &seen.flips
    {
        finding.examples = examples(flips, candidate);
    }
    if outcome == Outcome::Inconclusive {
        finding.advice = Some(plan.advice(gate, seen.n_rows));
        if let Some(needed) = plan.n_needed {
            finding.numbers.insert("n_needed".to_owned(), needed);
        }
    }
    finding
}

/// The three outcomes. What compares with nothing, NaN, is nowhere a pass.
pub(super) fn compare(bound: Bound, [low, high]: [f64; 2]) -> Outcome {
    let three = |holds: bool, breaks: bool| match (holds, breaks) {
        (true, _) => Outcome::Pass,
        (_, true) => Outcome::Fail,
        _ => Outcome::Inconclusive,
    };
    match bound {
        Bound::Min(min) => three(min <= low, high < min),
        Bound::Max(max) => three(high <= max, max < low),
        Bound::MaxRegression(margin) => three(-margin.amount() < low, high < -margin.amount()),
        Bound::MinImprovement(step) => three(step.amount() < low, high < step.amount()),
        Bound::MaxImprovement(alarm) => {
            if low <= alarm.amount() {
                Outcome::Pass
            } else {
                Outcome::Fail
            }
        }
    }
}

/// What this many rows could see, and how many would decide.
pub(super) struct Plan {
    /// The smallest effect that n rows show at the gate's power.
    effect_seen: f64,
    /// Rows that would decide, when they are finite.
    n_needed: Option<f64>,
    assumes_equal: bool,
}

impl Plan {
    pub(super) fn new(gate: &Gate, rule: &Rule, found: &Estimate, seen: &SliceEvidence) -> Self {
        let power = Power::new(gate.reliability, gate.power);
        let n = seen.n_rows as f64;
        // Disagreement is known only for accuracy, where its formulas are sharper than a standard error.
        let disagreement = match (&seen.flips, want_of(rule)) {
            (Some(flips), want)
                if want.metric == Metric::Accuracy
                    && want.form == Form::Improvement
                    && found.method.starts_with("Tango") =>
            {
                Some((flips.fixed + flips.broken) as f64 / n).filter(|it| 0.0 < *it)
            }
            _ => None,
        };
        let effect_seen = disagreement.map_or_else(
            || power.effect_seen(found.standard_error),
            |share| power.gain_seen(n, share),
        );
        let rows_at = |distance: f64| {
            if found.method == RULE_OF_THREE {
                // Its width falls with n, not with the root of n.
                return n * (found.interval[1] - found.interval[0]) / distance;
            }
            let z = power.z_alpha + power.z_beta;
            let ratio = z * found.standard_error / distance;
            n * ratio * ratio
        };
        let by_estimate = |bound: f64| rows_at((found.value - bound).abs());
        let (rows, assumes_equal) = match rule.bound {
            Bound::Min(bound) | Bound::Max(bound) => (by_estimate(bound), false),
            Bound::MinImprovement(step) | Bound::MaxImprovement(step) => {
                (by_estimate(step.amount()), false)
            }
            Bound::MaxRegression(margin) => {
                let margin = margin.amount();
                let rows = disagreement
                    .map_or_else(|| rows_at(margin), |share| power.rows_for_margin(margin, share));
                // Rows enough for equal models and still undecided: these do not look equal.
                if rows.is_finite() && n < rows {
                    (rows, true)
                } else {
                    (by_estimate(-margin), false)
                }
            }
        };
        let n_needed = Some(rows.ceil()).filter(|it| it.is_finite());
        Self { effect_seen, n_needed, assumes_equal }
    }

    /// Whether an effect of this size would be seen.
    pub(super) fn sees(&self, effect: f64) -> bool {
        self.effect_seen <= effect
    }

    fn advice(&self, gate: &Gate, n_rows: u64) -> String {
        let more = self.n_needed.map_or(f64::INFINITY, |it| (it - n_rows as f64).max(1.0));
        if ROWS_PRACTICAL < more {
            return "the value lies on the bound: no practical number of rows would decide it"
                .to_owned();
        }
        let if_so = if self.assumes_equal {
            "the models are equally good"
        } else {
            "the value stays what it is"
        };
        format!(
            "about {} more labelled rows would decide it, at power {} if {if_so}",
            thousands(round_up(more)),
            gate.power
        )
    }
}

/// To two significant digits, upwards: more would claim to know.
fn round_up(x: f64) -> u64 {
    let unit = libm::pow(10.0, (libm::floor(libm::log10(x.max(1.0))) - 1.0).max(0.0));
    ((x / unit).ceil() * unit) as u64
}

fn sentence(
    gate: &Gate,
    rule: &Rule,
    found: &Estimate,
    seen: &SliceEvidence,
    plan: &Plan,
) -> String {
    let metric = rule.metric;
    // 1 − 2α in percent, without the noise of binary fractions.
    let level = (1e6 * (2.0 * gate.reliability - 1.0)).round() / 1e4;
    let rows = thousands(seen.n_rows);
    let (Some(baseline), Some(p)) = (found.baseline, found.p) else {
        return format!(
            "{metric} {}, {level} % interval {} to {} on {rows} rows; needs to be {}",
            figure(found.value),
            figure(found.interval[0]),
            figure(found.interval[1]),
            rule.bound
        );
    };
    let unit = match change_of(rule.bound) {
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
    let seen = if 0.0 < plan.effect_seen {
        format!(", effects from {} on are seen", figure(plan.effect_seen))
    } else {
        String::new()
    };
    format!(
        "{metric} {} against {}: {difference}, {level} % interval {} to {} on {rows} rows{flips}, P {}{seen}; needs to be {}",
        figure(found.candidate),
        figure(baseline),
        signed(found.interval[0]),
        signed(found.interval[1]),
        if p < P_MIN_SHOWN { format!("below {P_MIN_SHOWN}") } else { figure(p) },
        rule.bound
    )
}

fn change_of(bound: Bound) -> Option<Change> {
    match bound {
        Bound::Min(_) | Bound::Max(_) => None,
        Bound::MaxRegression(change)
        | Bound::MinImprovement(change)
        | Bound::MaxImprovement(change) => Some(change),
    }
}

fn numbers(found: &Estimate, seen: &SliceEvidence, plan: &Plan) -> BTreeMap<String, f64> {
    let mut numbers = BTreeMap::new();
    let mut put = |name: &str, value: f64| {
        if value.is_finite() {
            numbers.insert(name.to_owned(), value);
        }
    };
    put("n", seen.n_rows as f64);
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
    numbers
}

/// The first rows that changed sides, by the name people know them by.
fn examples(flips: &Flips, rows: &ScoredRows) -> Vec<String> {
    let name = |row: &u32| match rows.names.get(*row as usize) {
        Some(name) => name.clone(),
        None => format!("row {}", thousands(u64::from(*row) + 1)),
    };
    let fixed = flips.first_fixed.iter().map(|row| format!("wrong to right: {}", name(row)));
    let broken = flips.first_broken.iter().map(|row| format!("right to wrong: {}", name(row)));
    fixed.chain(broken).collect()
}

fn too_few(rule: &Rule, slice: &str, n_rows: u64) -> Finding {
    let mut finding = Finding::new(
        &rule.name,
        subject(rule, slice),
        Outcome::Inconclusive,
        rule.bound.to_string(),
        format!(
            "{} labelled rows, the rule needs {}",
            thousands(n_rows),
            thousands(rule.n_rows_min)
        ),
    );
    finding.n_rows = Some(n_rows);
    finding.numbers.insert("n".to_owned(), n_rows as f64);
    finding.numbers.insert("n_needed".to_owned(), rule.n_rows_min as f64);
    finding.advice = Some(format!(
        "{} more labelled rows would let it be judged",
        thousands(rule.n_rows_min - n_rows)
    ));
    finding
}

pub(super) fn not_applied(rule: &Rule, slice: &str, why: &NotMeasured) -> Finding {
    Finding::new(
        &rule.name,
        subject(rule, slice),
        Outcome::NotApplied,
        rule.bound.to_string(),
        format!("not measured: {}", why.reason),
    )
}

fn without_baseline(gate: &Gate, rule: &Rule) -> Finding {
    let (outcome, message) = if gate.unbaselined_is_allowed {
        (
            Outcome::Warn,
            "not asked: there is no baseline yet, and the policy lets absolute rules decide alone",
        )
    } else {
        (Outcome::NotApplied, "not measured: there is no baseline to compare with")
    };
    Finding::new(&rule.name, rule.metric.to_string(), outcome, rule.bound.to_string(), message)
}

pub(super) fn subject(rule: &Rule, slice: &str) -> String {
    format!("{}, slice {slice}", rule.metric)
}
