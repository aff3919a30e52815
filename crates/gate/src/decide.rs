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
//! Rows that have been used as often as the budget allows decide nothing more, and where the budget reveals the verdict
//! alone, no number leaves this file.
//!
//! Reading order: [`decide`], `judge` in `decide/rule.rs` with `evidence`, `family`, `plan` and `sentence`, `opponent` (baseline
//! and anchor), `operational`, `waiver`, `reveal`; `tables` and `seeds` decide nothing. Then [`crate::estimate`].

use std::collections::BTreeMap;

use karat_core::{
    Finding, Outcome, ScoredRows, Verdict,
    policy::{BaselineRef, Gate, Measure, Rule},
    verdict::{FamilyTest, Judged, Report, SeedVariance},
};

use crate::{
    naive::naive,
    parallel::Parallel,
    predictions, report,
    sample::Sample,
    slice::Slices,
    votes::{Wide, error_rate, one_row_a_label},
};
use evidence::Evidence;
use opponent::Opponent;
use reveal::is_verdict_only;

mod evidence;
pub(crate) mod explain;
mod family;
mod operational;
mod opponent;
mod plan;
mod reveal;
mod rule;
mod seeds;
mod sentence;
mod tables;
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
    let rows = Rows::of(gate, input);
    let baseline = rows.baseline(gate, input);
    let mut told = match refused(gate, input) {
        Some(refusal) => refusal.told(gate),
        None => judged(gate, input, &rows, &baseline, parallel),
    };
    waiver::cover(gate, input.today, &mut told.findings);
    if input.budget_left && is_verdict_only(gate) {
        reveal::verdict_only(&mut told);
    }
    let mut findings = told.findings;
    let mut operational = operational::judge(gate, &input.operational);
    waiver::cover(gate, input.today, &mut operational);
    findings.extend(operational);
    findings.extend(waiver::expired(gate, input.today));
    // After the waivers: they are for rules, and this is no rule, whatever a rule may be called.
    findings.extend(baseline.finding(gate));
    Verdict {
        version: VERDICT_VERSION,
        gate: gate.name.to_string(),
        outcome: Outcome::of_all(findings.iter().map(|it| it.outcome)),
        // A budget that is spent lets nobody through, whatever is allowed where rows are few.
        inconclusive_is_allowed: gate.inconclusive_is_allowed && input.budget_left,
        is_unbaselined: matches!(baseline, Opponent::Absent { is_allowed: true }),
        judged: input.judged.clone(),
        candidate: input.candidate_label.clone(),
        baseline: match baseline {
            Opponent::Absent { .. } => "none".to_owned(),
            _ if rows.naive.is_some() => "naive".to_owned(),
            _ => input.baseline_label.clone(),
        },
        anchor: gate.anchor.as_ref().map(ToString::to_string),
        reliability: gate.reliability_each(),
        ledger: None,
        findings,
        families: told.families,
        seeds: told.seeds,
        operational: operational::values(&input.operational),
        report: told.report,
    }
}

/// All models on the same rows, one row for every label.
struct Rows<'a> {
    candidate: Wide<'a>,
    given: Option<Wide<'a>>,
    naive: Option<ScoredRows>,
    anchor: Option<Wide<'a>>,
    /// Of the candidate's recipe, then of the baseline's.
    seeds: [Vec<Wide<'a>>; 2],
}

impl<'a> Rows<'a> {
    fn of(gate: &Gate, input: &GateInput<'a>) -> Self {
        let candidate = one_row_a_label(input.candidate);
        let asks_naive = gate.baseline == BaselineRef::Naive && input.baseline.is_none();
        Self {
            naive: asks_naive.then(|| naive(&candidate.rows)),
            candidate,
            given: input.baseline.map(one_row_a_label),
            anchor: input.anchor.map(one_row_a_label),
            seeds: [input.seeds, input.baseline_seeds]
                .map(|it| it.iter().map(one_row_a_label).collect()),
        }
    }

    fn baseline(&self, gate: &Gate, input: &GateInput<'_>) -> Opponent<'_> {
        let given = self.given.as_ref().map(|it| &*it.rows);
        Opponent::baseline(gate, input, &self.candidate.rows, given, self.naive.as_ref())
    }

    fn anchor(&self, gate: &Gate, input: &GateInput<'_>) -> Option<Opponent<'_>> {
        let given = self.anchor.as_ref().map(|it| &*it.rows);
        Opponent::anchor(gate, input, &self.candidate.rows, given)
    }
}

/// What rules about answers have to say.
#[derive(Default)]
struct Told {
    findings: Vec<Finding>,
    families: Vec<FamilyTest>,
    seeds: Option<SeedVariance>,
    report: Report,
}

/// Why no rule about answers is applied at all.
struct Refusal {
    outcome: Outcome,
    message: String,
    advice: Option<String>,
}

/// A budget that is spent, or predictions that mean nothing.
fn refused(gate: &Gate, input: &GateInput<'_>) -> Option<Refusal> {
    if !input.budget_left {
        let uses = gate.budget.map_or_else(String::new, |it| format!(" of {} uses", it.uses));
        return Some(Refusal {
            outcome: Outcome::Inconclusive,
            message: format!("not asked: the budget{uses} of these rows is spent"),
            advice: Some(
                "label fresh rows: a new evaluation set has a budget of its own".to_owned(),
            ),
        });
    }
    predictions::check(input.candidate).err().map(|error| Refusal {
        outcome: Outcome::NotApplied,
        message: format!("not measured: {error}"),
        advice: None,
    })
}

impl Refusal {
    fn told(&self, gate: &Gate) -> Told {
        let of_rule = |rule: &Rule| {
            let mut finding = Finding::new(
                &rule.name,
                rule.metric.to_string(),
                self.outcome,
                rule.bound.to_string(),
                &self.message,
            );
            finding.advice = self.advice.clone();
            rule::soften(rule.warns_only, std::slice::from_mut(&mut finding));
            finding
        };
        Told { findings: gate.rules.iter().map(of_rule).collect(), ..Told::default() }
    }
}

/// Every rule against the baseline, then every change rule against the anchor.
fn judged(
    gate: &Gate,
    input: &GateInput<'_>,
    rows: &Rows<'_>,
    baseline: &Opponent<'_>,
    parallel: &dyn Parallel,
) -> Told {
    let candidate = &*rows.candidate.rows;
    let asked = gate.rules.iter().flat_map(|it| &it.slices);
    let slices = Slices::new(candidate).with_crossed(candidate, asked);
    let (mut report, samples) =
        report::build(candidate, baseline.rows(), gate.reliability_each(), &slices, parallel);
    let sides = Sides { gate, input, rows, slices: &slices, parallel };
    let all: Vec<&Rule> = gate.rules.iter().collect();
    let evidence = sides.evidence(&all, baseline, &samples);
    for seen in &evidence.seen {
        for (want, found) in &seen.estimates {
            if let Ok(found) = found {
                report::replace(&mut report, &seen.label, *want, found);
            }
        }
    }
    let mut findings = sides.findings(&all, baseline, &evidence, None);
    if let Some(anchor) = rows.anchor(gate, input) {
        let changes: Vec<&Rule> = gate.rules.iter().filter(|it| it.bound.is_change()).collect();
        let evidence = sides.evidence(&changes, &anchor, &[]);
        let against = gate.anchor.as_ref().map(ToString::to_string);
        findings.extend(sides.findings(&changes, &anchor, &evidence, against.as_deref()));
    }
    let families = match baseline.rows() {
        Some(_) => tables::tests(gate, candidate.task, &slices, &samples, &evidence.seen, parallel),
        None => Vec::new(),
    };
    let seeds = match seeds::variance(
        gate,
        seeds::recipe(candidate, &rows.seeds[0]),
        baseline.rows().map(|it| seeds::recipe(it, &rows.seeds[1])),
        parallel,
    ) {
        None => None,
        Some(Ok(found)) => Some(found),
        Some(Err(why)) => {
            let message = format!("not measured: {}", why.reason);
            findings.push(Finding::new("seeds", "seeds", Outcome::Warn, "a variance", message));
            None
        }
    };
    Told { findings, families, seeds, report }
}

/// What both comparisons share.
#[derive(Clone, Copy)]
struct Sides<'a> {
    gate: &'a Gate,
    input: &'a GateInput<'a>,
    rows: &'a Rows<'a>,
    slices: &'a Slices,
    parallel: &'a dyn Parallel,
}

impl<'a> Sides<'a> {
    fn evidence(
        &self,
        rules: &[&Rule],
        opponent: &Opponent<'_>,
        samples: &[Sample],
    ) -> Evidence<'a> {
        let pair = (&self.rows.candidate, opponent.rows());
        Evidence::gather(self.gate, rules, pair, self.slices, samples, self.parallel)
    }

    fn findings(
        &self,
        rules: &[&Rule],
        opponent: &Opponent<'_>,
        evidence: &Evidence<'_>,
        against: Option<&str>,
    ) -> Vec<Finding> {
        rules
            .iter()
            .flat_map(|rule| rule::judge(&self.case(rule, opponent, evidence, against)))
            .collect()
    }

    fn case<'b>(
        &'b self,
        rule: &'b Rule,
        opponent: &'b Opponent<'b>,
        evidence: &'b Evidence<'b>,
        against: Option<&'b str>,
    ) -> rule::Case<'b> {
        let votes = self.input.candidate.votes.as_ref();
        rule::Case {
            gate: self.gate,
            rule,
            candidate: &self.rows.candidate.rows,
            opponent,
            evidence,
            against,
            label_error: votes.and_then(error_rate),
        }
    }
}

#[cfg(test)]
mod tests;
