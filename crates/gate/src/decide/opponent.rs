//! What change rules compare with: the baseline, and a pinned version beside it.

use karat_core::{
    Finding, Outcome, ScoredRows,
    policy::{BaselineRef, Gate, Rule},
};

use super::GateInput;
use crate::{metric::NotMeasured, predictions::comparable};

/// What is on the other side of a comparison.
pub(super) enum Opponent<'a> {
    /// Scored on the same rows.
    Given(&'a ScoredRows),
    /// There is none: a first version, or a gate without.
    Absent { is_allowed: bool },
    /// There is one, and comparing with it would mean nothing.
    Refused(NotMeasured),
}

impl<'a> Opponent<'a> {
    /// The gate's baseline. `own_naive` is made from the candidate's labels when the gate asks for it.
    pub(super) fn baseline(
        gate: &Gate,
        input: &GateInput<'_>,
        candidate: &ScoredRows,
        baseline: Option<&'a ScoredRows>,
        own_naive: Option<&'a ScoredRows>,
    ) -> Self {
        if let Some(rows) = own_naive {
            return Self::Given(rows);
        }
        let Some(rows) = baseline else {
            let is_allowed = gate.unbaselined_is_allowed || gate.baseline == BaselineRef::None;
            return Self::Absent { is_allowed };
        };
        if input.judged.baseline == Some(input.judged.candidate) {
            return Self::Refused(NotMeasured::new(format!(
                "{} and {} are the same model: compared with itself, everything passes",
                input.candidate_label, input.baseline_label
            )));
        }
        match comparable(candidate, rows) {
            Ok(()) => Self::Given(rows),
            Err(error) => Self::Refused(NotMeasured::new(error.to_string())),
        }
    }

    /// The gate's anchor. None where there is nothing to ask beside the baseline: no anchor, the candidate itself, or the
    /// baseline itself.
    pub(super) fn anchor(
        gate: &Gate,
        input: &GateInput<'_>,
        candidate: &ScoredRows,
        anchor: Option<&'a ScoredRows>,
    ) -> Option<Self> {
        let asked = gate.anchor.as_ref()?;
        let own = input.judged.anchor;
        if own.is_some() && (own == Some(input.judged.candidate) || own == input.judged.baseline) {
            return None;
        }
        let Some(rows) = anchor else {
            return Some(Self::Refused(NotMeasured::new(format!(
                "the anchor {asked} has no predictions on these rows"
            ))));
        };
        Some(match comparable(candidate, rows) {
            Ok(()) => Self::Given(rows),
            Err(error) => Self::Refused(NotMeasured::new(format!("anchor {asked}: {error}"))),
        })
    }

    pub(super) fn rows(&self) -> Option<&'a ScoredRows> {
        match self {
            Self::Given(rows) => Some(rows),
            Self::Absent { .. } | Self::Refused(_) => None,
        }
    }

    /// What is to be said once about a missing baseline, beside the rules.
    pub(super) fn finding(&self, gate: &Gate) -> Option<Finding> {
        let Self::Absent { is_allowed } = self else { return None };
        if gate.n_rules() == 0 {
            return None;
        }
        let decides = |rule: &&Rule| !rule.bound.is_change() && !rule.warns_only;
        let n_absolute = gate.rules.iter().filter(decides).count()
            + gate.operational.iter().filter(|it| !it.warns_only).count();
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
