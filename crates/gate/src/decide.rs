//! Decide whether a candidate may replace the baseline.
//!
//! In: a [`Gate`], the candidate's scored rows and, unless this is the first version, the baseline's on the same rows.
//! Out: a [`Verdict`] with the findings of every rule in the gate's order, and the report beside it.
//!
//! A rule compares an **interval** with its bound, never a point; so there are three outcomes. A slice with too few
//! rows can neither pass nor fail: calling it either one is how bad models get promoted and good ones get stuck.
//!
//! A rule that could not be applied (metric missing, NaN, slice never seen, no baseline) is a finding, never a silent
//! pass.
//!
//! Reading order: [`decide`], `judge` in `decide/rule.rs`, then [`crate::estimate`].

use std::collections::BTreeMap;

use karat_core::{
    Digest, Finding, Outcome, ScoredRows, Verdict,
    policy::{BaselineRef, Bound, Change, Gate, Measure, Rule},
    verdict::{Judged, Report},
};

use crate::{
    estimate::{Estimate, Flips, Form, Precision, Want, estimate},
    metric::NotMeasured,
    naive::naive,
    parallel::Parallel,
    report,
    slice::Slices,
};

mod family;
mod rule;
mod waiver;

/// Format of the verdict.
pub const VERDICT_VERSION: u32 = 1;

/// What a gate is applied to.
#[derive(Clone, Debug)]
pub struct GateInput<'a> {
    /// The model asking to be promoted.
    pub candidate: &'a ScoredRows,
    /// What it is compared with.
    pub baseline: Option<&'a ScoredRows>,
    /// Digests of everything judged.
    pub judged: Judged,
    /// `flights@2`.
    pub candidate_label: String,
    /// `flights@1`, or `none`.
    pub baseline_label: String,
    /// The pinned version, scored on the same rows.
    pub anchor: Option<&'a ScoredRows>,
    /// `flights@3`.
    pub anchor_label: String,
    /// Operational measures, or why one could not be had.
    pub operational: BTreeMap<Measure, Result<f64, String>>,
    /// `false`: these rows have been used as often as the budget allows, and nothing statistical is decided.
    pub budget_left: bool,
    /// The candidate's recipe trained with other seeds, on the same rows; the candidate itself is not among them.
    pub seeds: &'a [ScoredRows],
    /// The baseline's recipe trained with other seeds, on the same rows.
    pub baseline_seeds: &'a [ScoredRows],
    /// `YYYY-MM-DD`, for waivers.
    pub today: &'a str,
}

impl<'a> GateInput<'a> {
    /// A candidate alone: no baseline, no anchor, one seed, nothing measured, budget left.
    #[must_use]
    pub fn new(candidate: &'a ScoredRows, judged: Judged, today: &'a str) -> Self {
        Self {
            candidate,
            baseline: None,
            judged,
            candidate_label: "candidate".to_owned(),
            baseline_label: "none".to_owned(),
            anchor: None,
            anchor_label: "none".to_owned(),
            operational: BTreeMap::new(),
            budget_left: true,
            seeds: &[],
            baseline_seeds: &[],
            today,
        }
    }
}

/// Applies every rule, never stopping at the first failure: one run of CI should show all of them.
#[must_use]
pub fn decide(gate: &Gate, input: &GateInput<'_>, parallel: &dyn Parallel) -> Verdict {
    let own_naive = (gate.baseline == BaselineRef::Naive && input.baseline.is_none())
        .then(|| naive(input.candidate));
    let baseline = Baseline::of(gate, input, own_naive.as_ref());
    let evidence = Evidence::gather(gate, input.candidate, baseline.rows(), parallel);
    let mut findings: Vec<Finding> = gate
        .rules
        .iter()
        .flat_map(|rule| rule::judge(gate, rule, input.candidate, &baseline, &evidence))
        .collect();
    waiver::apply(gate, input.today, &mut findings);
    // After the waivers: they are for rules, and this is no rule, whatever a rule may be called.
    findings.extend(baseline.finding(gate));
    let is_unbaselined = matches!(baseline, Baseline::Absent { is_allowed: true });
    Verdict {
        version: VERDICT_VERSION,
        gate: gate.name.to_string(),
        outcome: Outcome::of_all(findings.iter().map(|it| it.outcome)),
        inconclusive_is_allowed: gate.inconclusive_is_allowed,
        is_unbaselined,
        judged: input.judged.clone(),
        candidate: input.candidate_label.clone(),
        baseline: match baseline {
            Baseline::Absent { .. } => "none".to_owned(),
            _ if own_naive.is_some() => "naive".to_owned(),
            _ => input.baseline_label.clone(),
        },
        anchor: None,
        reliability: gate.reliability,
        ledger: None,
        findings,
        families: Vec::new(),
        seeds: None,
        operational: BTreeMap::new(),
        report: evidence.report,
    }
}

/// What change rules compare with.
enum Baseline<'a> {
    /// Scored on the same rows.
    Given(&'a ScoredRows),
    /// There is none: a first version, or a gate without.
    Absent { is_allowed: bool },
    /// There is one, and comparing with it would mean nothing.
    Refused(NotMeasured),
}

impl<'a> Baseline<'a> {
    fn of(gate: &Gate, input: &GateInput<'a>, own_naive: Option<&'a ScoredRows>) -> Self {
        if let Some(rows) = own_naive {
            return Self::Given(rows);
        }
        let Some(rows) = input.baseline else {
            let is_allowed = gate.unbaselined_is_allowed || gate.baseline == BaselineRef::None;
            return Self::Absent { is_allowed };
        };
        let is_same = |own: Digest, other: Option<Digest>| other == Some(own);
        if is_same(input.judged.candidate, input.judged.baseline) {
            return Self::Refused(NotMeasured::new(format!(
                "{} and {} are the same model: compared with itself, everything passes",
                input.candidate_label, input.baseline_label
            )));
        }
        match comparable(input.candidate, rows) {
            Ok(()) => Self::Given(rows),
            Err(error) => Self::Refused(error),
        }
    }

    fn rows(&self) -> Option<&'a ScoredRows> {
        match self {
            Self::Given(rows) => Some(rows),
            Self::Absent { .. } | Self::Refused(_) => None,
        }
    }

    /// What is to be said once, beside the rules.
    fn finding(&self, gate: &Gate) -> Option<Finding> {
        let Self::Absent { is_allowed } = self else { return None };
        if gate.rules.is_empty() {
            return None;
        }
        let decides = |rule: &&Rule| !rule.bound.is_change() && !rule.warns_only;
        let n_absolute = gate.rules.iter().filter(decides).count();
        let (message, advice) = match (is_allowed, n_absolute) {
            (false, _) => (
                "there is no baseline yet, and the policy says `without_baseline = \"fail\"`",
                "`without_baseline = \"absolute-rules-only\"` lets a first version pass on absolute rules alone",
            ),
            (true, 0) => (
                "there is no baseline, and no rule with `min` or `max` that could decide alone",
                "a rule with `min` or `max` and without `severity = \"warn\"` can be judged without a baseline",
            ),
            (true, _) => return None,
        };
        let bound = "a baseline, or absolute rules that may decide alone";
        let mut finding = Finding::new("baseline", "baseline", Outcome::NotApplied, bound, message);
        finding.advice = Some(advice.to_owned());
        Some(finding)
    }
}

/// Whether two predictions are about the same rows, so that differences mean something.
pub fn comparable(candidate: &ScoredRows, baseline: &ScoredRows) -> Result<(), NotMeasured> {
    let refuse = |what: &str| {
        Err(NotMeasured::new(format!(
            "candidate and baseline were not scored on the same rows: {what} differ"
        )))
    };
    let bits = |rows: &ScoredRows| rows.label.iter().map(|it| it.to_bits()).collect::<Vec<_>>();
    if candidate.rows != baseline.rows {
        return refuse("the digests of keys and labels");
    }
    if candidate.task != baseline.task || candidate.classes != baseline.classes {
        return refuse("task or classes");
    }
    if bits(candidate) != bits(baseline) {
        return refuse("labels");
    }
    if candidate.score.len() != baseline.score.len() {
        return refuse("numbers of scores");
    }
    Ok(())
}

/// The form in which a rule's bound is asked.
fn want_of(rule: &Rule) -> Want {
    let form = match rule.bound {
        Bound::Min(_) | Bound::Max(_) => Form::Value,
        Bound::MaxRegression(change)
        | Bound::MinImprovement(change)
        | Bound::MaxImprovement(change) => match change {
            Change::Absolute(_) => Form::Improvement,
            Change::Relative(_) => Form::RelativeImprovement,
        },
    };
    Want { metric: rule.metric, form }
}

/// Everything that was computed on one slice.
struct SliceEvidence {
    label: String,
    n_rows: u64,
    estimates: BTreeMap<Want, Result<Estimate, NotMeasured>>,
    flips: Option<Flips>,
}

/// Everything that was computed, once.
struct Evidence {
    slices: Slices,
    /// One for each of the slices, in their order.
    seen: Vec<SliceEvidence>,
    report: Report,
}

impl Evidence {
    fn gather(
        gate: &Gate,
        candidate: &ScoredRows,
        baseline: Option<&ScoredRows>,
        parallel: &dyn Parallel,
    ) -> Self {
        let slices = Slices::new(candidate);
        let mut wanted: Vec<Vec<Want>> = vec![Vec::new(); slices.every().len()];
        for rule in &gate.rules {
            if rule.bound.is_change() && baseline.is_none() {
                continue;
            }
            for at in rule.slices.iter().filter_map(|it| slices.resolve(it).ok()).flatten() {
                // Below the rule's own minimum nothing is tested, so nothing is computed.
                let is_asked = rule.n_rows_min <= slices.every()[at].rows.len() as u64;
                if is_asked && !wanted[at].contains(&want_of(rule)) {
                    wanted[at].push(want_of(rule));
                }
            }
        }
        let (mut report, samples) =
            report::build(candidate, baseline, gate.reliability, &slices, parallel);
        let mut seen = Vec::with_capacity(samples.len());
        for ((slice, sample), wants) in slices.every().iter().zip(samples).zip(wanted) {
            let name = format!("{}/{}", gate.name, slice.label);
            let precision = Precision {
                reliability: gate.reliability,
                n_resamples: gate.n_resamples,
                name: &name,
            };
            let found = estimate(&wants, &sample, precision, parallel);
            let estimates: BTreeMap<Want, _> = wants.iter().copied().zip(found).collect();
            for (want, found) in &estimates {
                if let Ok(found) = found {
                    report::replace(&mut report, &slice.label, *want, found);
                }
            }
            seen.push(SliceEvidence {
                label: slice.label.clone(),
                n_rows: sample.n_rows() as u64,
                flips: if wants.is_empty() { None } else { Flips::count(&sample) },
                estimates,
            });
        }
        Self { slices, seen, report }
    }
}

#[cfg(test)]
mod tests;
