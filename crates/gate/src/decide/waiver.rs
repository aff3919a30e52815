//! Recorded exceptions: what is waived is still shown, and an expired waiver is a finding.

use karat_core::{
    Finding, Outcome,
    policy::{Gate, Waiver},
};

/// Marks what unexpired waivers cover.
pub(super) fn cover(gate: &Gate, today: &str, findings: &mut [Finding]) {
    for finding in findings {
        let covers = |it: &&Waiver| it.rule == finding.rule && !is_expired(it, today);
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
}

/// A warning for each waiver that has ended.
pub(super) fn expired(gate: &Gate, today: &str) -> Vec<Finding> {
    let ended = |waiver: &Waiver| {
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
        finding
    };
    gate.waivers.iter().filter(|it| is_expired(it, today)).map(ended).collect()
}

/// Days are `YYYY-MM-DD`, so text order is time order.
fn is_expired(waiver: &Waiver, today: &str) -> bool {
    waiver.until.as_str() < today
}
