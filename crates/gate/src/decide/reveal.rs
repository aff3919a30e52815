//! A budget that reveals the verdict and nothing else: what must not be seen is taken out before anybody can show it.
//!
//! The promise of α/H counts the answers that a holdout can give. An answer is one bit, "pass" or "fail": which rule failed,
//! by how much, on which slice, or whether more rows would have helped are more bits, and each would be paid for. So all rules
//! about answers become one finding. What has no value stays: rules that could not be
//! applied, slices without rows enough, and cost.

use karat_core::{
    Finding, Outcome,
    policy::{Budget, Gate, Reveal},
};

use super::Told;

/// Whether numbers of this gate must stay unseen.
#[must_use]
pub(super) fn is_verdict_only(gate: &Gate) -> bool {
    matches!(gate.budget, Some(Budget { reveal: Reveal::Verdict, .. }))
}

/// One finding for all rules about answers, and no number.
pub(super) fn verdict_only(told: &mut Told) {
    let (stays, hidden): (Vec<Finding>, Vec<Finding>) =
        std::mem::take(&mut told.findings).into_iter().partition(|it| it.value.is_none());
    told.findings = stays;
    if !hidden.is_empty() {
        let outcome = match Outcome::of_all(hidden.iter().map(|it| it.outcome)) {
            Outcome::Pass => Outcome::Pass,
            _ => Outcome::Fail,
        };
        told.findings.push(Finding::new(
            "all rules about answers",
            "all slices",
            outcome,
            "as the policy says",
            format!(
                "{}; numbers stay unseen, as `budget.reveal = \"verdict\"` asks",
                match outcome {
                    Outcome::Pass => "they hold",
                    _ => "they do not all hold, or too few rows tell",
                }
            ),
        ));
    }
    told.report.cells.clear();
    told.report.curves.clear();
    told.families.clear();
    told.seeds = None;
}
