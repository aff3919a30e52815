//! One rule: its slices one by one, the interval against the bound, and what many slices make of a failure.
//!
//! A pass claims that *every* slice holds, so each is tested at α (an intersection–union test). A fail claims that *at
//! least one* does not; with 20 slices that all hold, 64 % of verdicts would raise a false alarm. So a slice fails only if the P of its
//! breach survives Holm's correction over all slices that the rule tests; one that breaks its bound and does not survive is
//! undecided.

use karat_core::{
    Finding, Outcome, ScoredRows,
    policy::{Bound, Correction, Gate, Rule, SliceRef},
    thousands,
};

use super::{
    evidence::{Evidence, SliceEvidence, want_of},
    family,
    opponent::Opponent,
    plan::Plan,
    sentence::{examples, numbers, sentence},
};
use crate::{
    correction::holm,
    estimate::{Estimate, Tail},
    metric::NotMeasured,
};

/// What a rule is judged on.
#[derive(Clone, Copy)]
pub(super) struct Case<'a> {
    pub gate: &'a Gate,
    pub rule: &'a Rule,
    pub candidate: &'a ScoredRows,
    pub opponent: &'a Opponent<'a>,
    pub evidence: &'a Evidence<'a>,
    /// Said of each finding: `against flights@3` where it is not the baseline.
    pub against: Option<&'a str>,
    /// Share of wrong labels, where rows have several.
    pub label_error: Option<f64>,
}

/// P of the breach of one slice among the others of its rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Family {
    pub p: f64,
    pub p_holm: f64,
    pub n_tested: usize,
}

/// A slice of a rule with what will be said of it.
struct Tested<'a> {
    /// Place of its finding.
    at: usize,
    seen: &'a SliceEvidence,
    found: &'a Estimate,
}

impl Case<'_> {
    /// `auc, slice evening, against flights@3`.
    pub(super) fn subject(&self, slice: &str) -> String {
        let subject = format!("{}, slice {slice}", self.rule.metric);
        match self.against {
            None => subject,
            Some(label) => format!("{subject}, against {label}"),
        }
    }

    pub(super) fn plan(&self, found: &Estimate, seen: &SliceEvidence) -> Plan {
        let alpha = 1.0 - self.gate.reliability_each();
        Plan::new(self.gate, self.rule, found, seen, alpha, self.label_error)
    }

    pub(super) fn not_applied(&self, slice: &str, why: &NotMeasured) -> Finding {
        Finding::new(
            &self.rule.name,
            self.subject(slice),
            Outcome::NotApplied,
            self.rule.bound.to_string(),
            format!("not measured: {}", why.reason),
        )
    }
}

/// The findings of one rule, in the order of its slices.
pub(super) fn judge(case: &Case<'_>) -> Vec<Finding> {
    let rule = case.rule;
    let mut findings = match (rule.bound.is_change(), case.opponent) {
        (true, Opponent::Absent { .. }) => vec![without_baseline(case)],
        (true, Opponent::Refused(why)) => vec![case.not_applied("all", why)],
        _ => on_slices(case),
    };
    soften(rule.warns_only, &mut findings);
    findings
}

/// A rule that only warns never does more.
pub(super) fn soften(warns_only: bool, findings: &mut [Finding]) {
    for finding in findings {
        if warns_only && Outcome::Warn < finding.outcome {
            finding.outcome = Outcome::Warn;
        }
    }
}

fn on_slices(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut tested: Vec<Tested<'_>> = Vec::new();
    for slice in &case.rule.slices {
        let asked = slice.to_string();
        let members: Vec<&SliceEvidence> = match case.evidence.slices.resolve(slice) {
            Ok(found) => found.into_iter().map(|at| &case.evidence.seen[at]).collect(),
            Err(why) => {
                findings.push(case.not_applied(&asked, &why));
                continue;
            }
        };
        let (large, rest) = choose(case, slice, &asked, members);
        for seen in large {
            match seen.estimates.get(&want_of(case.rule)) {
                Some(Ok(found)) => {
                    tested.push(Tested { at: findings.len(), seen, found });
                    findings.push(case.not_applied(&seen.label, &NotMeasured::new("not judged")));
                }
                Some(Err(why)) => findings.push(case.not_applied(&seen.label, why)),
                None => {
                    let why = NotMeasured::new("it was not measured");
                    findings.push(case.not_applied(&seen.label, &why));
                }
            }
        }
        findings.extend(rest);
    }
    for (one, family) in tested.iter().zip(families(case.rule, &tested)) {
        findings[one.at] = on_slice(case, one, family);
    }
    findings
}

/// Which of the slices are large enough, and what is said of those that are not.
fn choose<'a>(
    case: &Case<'_>,
    slice: &SliceRef,
    asked: &str,
    members: Vec<&'a SliceEvidence>,
) -> (Vec<&'a SliceEvidence>, Vec<Finding>) {
    if slice.is_family() {
        return family::choose(case, asked, members);
    }
    let (small, large): (Vec<_>, Vec<_>) =
        members.into_iter().partition(|it| it.n_rows < case.rule.n_rows_min);
    (large, small.into_iter().map(|it| too_few(case, it)).collect())
}

/// P of each breach, alone and among all. None where one slice was tested, or the rule wants no correction.
fn families(rule: &Rule, tested: &[Tested<'_>]) -> Vec<Option<Family>> {
    if tested.len() < 2 || rule.correction == Correction::None {
        return vec![None; tested.len()];
    }
    let p: Vec<f64> =
        tested.iter().map(|it| p_breach(rule.bound, &it.found.tail).unwrap_or(1.0)).collect();
    let n_tested = p.len();
    p.iter().zip(holm(&p)).map(|(&p, p_holm)| Some(Family { p, p_holm, n_tested })).collect()
}

/// One-sided P of "the bound holds": small when it is clearly broken.
pub(super) fn p_breach(bound: Bound, tail: &Tail) -> Option<f64> {
    let p = match bound {
        Bound::Min(min) => tail.p_below(min),
        Bound::Max(max) => tail.p_above(max),
        Bound::MaxRegression(margin) => tail.p_below(-margin.amount()),
        Bound::MinImprovement(step) => tail.p_below(step.amount()),
        Bound::MaxImprovement(alarm) => tail.p_above(alarm.amount()),
    };
    (!p.is_nan()).then_some(p)
}

/// One slice with rows enough.
fn on_slice(case: &Case<'_>, tested: &Tested<'_>, family: Option<Family>) -> Finding {
    let (gate, rule) = (case.gate, case.rule);
    let (seen, found) = (tested.seen, tested.found);
    let alpha = 1.0 - gate.reliability_each();
    let alone = compare(rule.bound, found.interval);
    let outcome = corrected(rule.bound, alone, family, alpha);
    let mut plan = case.plan(found, seen);
    let mut message = sentence(gate, rule, found, seen, &plan);
    if outcome != alone
        && let Some(family) = family
    {
        // Undecided by the correction: it takes rows enough for its share of α.
        let share = alpha / family.n_tested as f64;
        plan.n_needed = Plan::new(gate, rule, found, seen, share, case.label_error).n_needed;
        message += &format!(
            "; broken when looked at alone, not among {} slices (P of the breach {}, by Holm {})",
            family.n_tested,
            crate::number::figure(family.p),
            crate::number::figure(family.p_holm)
        );
    }
    let mut finding = Finding::new(
        &rule.name,
        case.subject(&seen.label),
        outcome,
        rule.bound.to_string(),
        message,
    );
    finding.value = Some(found.value);
    finding.interval = Some(found.interval);
    finding.n_rows = Some(seen.n_rows);
    finding.numbers = numbers(found, seen, &plan, family);
    if rule.bound.is_change()
        && let Some(flips) = &seen.flips
    {
        finding.examples = examples(flips, case.candidate);
    }
    if outcome == Outcome::Inconclusive {
        finding.advice = Some(plan.advice(gate, seen.n_rows));
        if let Some(needed) = plan.n_needed {
            finding.numbers.insert("n_needed".to_owned(), needed);
        }
    }
    finding
}

/// A breach counts as a failure when it survives; else nothing is decided. An alarm that does not survive is none.
fn corrected(bound: Bound, alone: Outcome, family: Option<Family>, alpha: f64) -> Outcome {
    match (alone, family) {
        (Outcome::Fail, Some(family)) if alpha <= family.p_holm => match bound {
            Bound::MaxImprovement(_) => Outcome::Pass,
            _ => Outcome::Inconclusive,
        },
        _ => alone,
    }
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

fn too_few(case: &Case<'_>, seen: &SliceEvidence) -> Finding {
    let (rule, n_rows) = (case.rule, seen.n_rows);
    let mut finding = Finding::new(
        &rule.name,
        case.subject(&seen.label),
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

fn without_baseline(case: &Case<'_>) -> Finding {
    let (outcome, message) = if case.gate.unbaselined_is_allowed {
        (
            Outcome::Warn,
            "not asked: there is no baseline yet, and the policy lets absolute rules decide alone",
        )
    } else {
        (Outcome::NotApplied, "not measured: there is no baseline to compare with")
    };
    let rule = case.rule;
    Finding::new(&rule.name, rule.metric.to_string(), outcome, rule.bound.to_string(), message)
}
