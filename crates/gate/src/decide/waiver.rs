//! Recorded exceptions: what is waived is still shown, and an expired waiver is a finding.

use karat_core::{
    Finding, Outcome,
    policy::{Gate, Waiver},
};

/// Marks what unexpired waivers cover and adds a warning for each expired one.
pub(super) fn apply(gate: &Gate, today: &str, findings: &mut Vec<Finding>) {
    // Days are `YYYY-MM-DD`, so text order is time order.
    let is_expired = |waiver: &Waiver| waiver.until.as_str() < today;
    for finding in findings.iter_mut() {
        let covers = |it: &&Waiver| it.rule == finding.rule && !is_expired(it);
        if finding.outcome <= Outcome::Warn {
            continue;
        }
        if let Some(waiver) = gate.waivers.iter().find(covers) {
            finding.message = format!(
                "{} ({}); waived until {} by {}: {}",
                finding.message,
                finding.outcome.word(),
                waiver.until,
                waiver.by,
                waiver.reason
            );
            finding.outcome = Outcome::Waived;
        }
    }
    for waiver in gate.waivers.iter().filter(|it| is_expired(it)) {
        let mut finding = Finding::new(
            &waiver.rule,
            "waiver",
            Outcome::Warn,
            format!("until {}", waiver.until),
            format!(
                "the waiver of {} ended on {} and covers nothing any more: {}",
                waiver.by, waiver.until, waiver.reason
            ),
        );
        finding.advice = Some("remove it from gate.toml, or renew it with a new reason".to_owned());
        findings.push(finding);
    }
}
