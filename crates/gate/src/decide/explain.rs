//! The whole calculation of one rule, with the numbers put in: what `karat gate --explain RULE` shows.
//!
//! Nothing is computed in another way than for the verdict: the same rows, draws and estimates, told at length. Every
//! formula can be followed by hand from the counts above it.

use karat_core::{
    Exit, Explanation, Failure, Finding,
    explanation::Part,
    policy::{Adaptivity, Gate, OperationalRule, Reveal, Rule},
    thousands,
};

use super::{
    GateInput, Rows, Sides, evidence::Evidence, operational, opponent::Opponent, refused,
    reveal::is_verdict_only, rule, waiver,
};
use crate::{normal::quantile, parallel::Parallel, slice::Slices};

mod slice;

/// Tells how `rule_name` of `gate` comes to its findings on `input`.
///
/// # Errors
///
/// `rule-unknown`, with the nearest names.
pub fn explain(
    gate: &Gate,
    rule_name: &str,
    input: &GateInput<'_>,
    parallel: &dyn Parallel,
) -> Result<Explanation, Failure> {
    if let Some(rule) = gate.operational.iter().find(|it| it.name == rule_name) {
        return Ok(Explanation { rule: rule.name.clone(), parts: vec![value(gate, rule, input)] });
    }
    let Some(rule) = gate.rules.iter().find(|it| it.name == rule_name) else {
        return Err(unknown(gate, rule_name));
    };
    let mut parts = vec![about(gate, rule, input), level(gate)];
    if let Some(refusal) = refused(gate, input) {
        let mut part = Part::new("the answer");
        part.line("outcome", refusal.outcome.word());
        part.line("why", &refusal.message);
        parts.push(part);
    } else if is_verdict_only(gate) {
        let mut part = Part::new("the answer");
        part.line(
            "numbers",
            "stay unseen: each one shown would be a use that the budget has not counted",
        );
        parts.push(part);
    } else {
        parts.extend(on_rows(gate, rule, input, parallel));
    }
    Ok(Explanation { rule: rule.name.clone(), parts })
}

/// Refuses a rule that [`explain`] would not find: asked before a verdict, because a verdict is a use of the rows.
///
/// # Errors
/// `rule-unknown`, with the nearest names.
pub fn demand_rule(gate: &Gate, rule_name: &str) -> Result<(), Failure> {
    let mut names = gate.rules.iter().map(|it| &it.name);
    let is_known =
        names.any(|it| it == rule_name) || gate.operational.iter().any(|it| it.name == rule_name);
    if is_known { Ok(()) } else { Err(unknown(gate, rule_name)) }
}

fn unknown(gate: &Gate, asked: &str) -> Failure {
    let answers = gate.rules.iter().map(|it| it.name.as_str());
    let known = answers.chain(gate.operational.iter().map(|it| it.name.as_str()));
    let near = karat_core::nearest(asked, known).join("`, `");
    let asked: String = asked.chars().take(80).collect();
    Failure::new(
        "rule-unknown",
        Exit::Usage,
        format!("gate `{}` has no rule `{asked}`: the nearest are `{near}`", gate.name),
    )
}

/// The rule as meant.
fn about(gate: &Gate, rule: &Rule, input: &GateInput<'_>) -> Part {
    let mut part = Part::new(format!("rule `{}` of gate `{}`", rule.name, gate.name));
    let better = if rule.metric.greater_is_better() { "greater" } else { "smaller" };
    part.line("metric", format!("{}, {better} is better", rule.metric));
    part.line("bound", rule.bound.to_string());
    if rule.bound.is_change() {
        let relative = match rule.bound.change() {
            Some(karat_core::policy::Change::Relative(_)) => " / |old|",
            _ => "",
        };
        let turned = if rule.metric.greater_is_better() { "new − old" } else { "old − new" };
        part.line("change", format!("({turned}){relative}, so that positive is better"));
        part.line("baseline", &input.baseline_label);
        if let Some(anchor) = &gate.anchor {
            part.line("anchor", format!("{anchor}, asked the same"));
        }
    }
    let slices: Vec<String> = rule.slices.iter().map(ToString::to_string).collect();
    part.line("slices", slices.join(", "));
    part.line("at least", format!("{} rows a slice", thousands(rule.n_rows_min)));
    part.line("severity", if rule.warns_only { "warn" } else { "error" });
    for it in gate.waivers.iter().filter(|it| it.rule == rule.name) {
        part.line("waiver", format!("until {} by {}: {}", it.until, it.by, it.reason));
    }
    part
}

/// What one side may err by, after the budget's share.
fn level(gate: &Gate) -> Part {
    let mut part = Part::new("the level");
    let asked = 1.0 - gate.reliability;
    let alpha = 1.0 - gate.reliability_each();
    part.line("α asked", format!("1 − {} = {}", gate.reliability, precise(asked)));
    match gate.budget {
        None => part.line("budget", "none: uses of these rows are not bounded"),
        Some(budget) => {
            let transcripts = match (budget.reveal, budget.adaptivity) {
                (Reveal::Numbers, _) => {
                    part.line(
                        "budget",
                        format!(
                            "{} uses, numbers shown: uses are counted, reuse is not bounded, α stays",
                            budget.uses
                        ),
                    );
                    None
                }
                (Reveal::Verdict, Adaptivity::Full) => {
                    Some(format!("2^{}, every answer may steer the next question", budget.uses))
                }
                (Reveal::Verdict, Adaptivity::FirstChange) => {
                    Some(format!("{}, the rows are retired at the first pass", budget.uses))
                }
                (Reveal::Verdict, Adaptivity::None) => {
                    Some(format!("{}, no answer is used before the last", budget.uses))
                }
            };
            if let Some(transcripts) = transcripts {
                part.line("transcripts", transcripts);
                part.line("α of one verdict", format!("α / transcripts = {}", precise(alpha)));
            }
        }
    }
    let z = quantile(1.0 - alpha);
    part.line(
        "z",
        format!(
            "Φ⁻¹(1 − α) = {}; the interval is two-sided at 1 − 2α = {} %",
            precise(z),
            super::sentence::level(gate)
        ),
    );
    part.line("power", format!("{}: z_β = {}", gate.power, precise(quantile(gate.power))));
    part
}

/// Slice by slice against the baseline, then against the anchor.
fn on_rows(gate: &Gate, rule: &Rule, input: &GateInput<'_>, parallel: &dyn Parallel) -> Vec<Part> {
    let rows = Rows::of(gate, input);
    let candidate = &*rows.candidate.rows;
    let slices = Slices::new(candidate).with_crossed(candidate, &rule.slices);
    let sides = Sides { gate, input, rows: &rows, slices: &slices, parallel };
    let mut parts = Vec::new();
    let mut tell = |opponent: &Opponent<'_>, against: Option<&str>| {
        let evidence = sides.evidence(&[rule], opponent, &[]);
        let case = sides.case(rule, opponent, &evidence, against);
        let mut findings = rule::judge(&case);
        waiver::cover(gate, input.today, &mut findings);
        parts.extend(on_slices(&case, &evidence, &findings));
    };
    tell(&rows.baseline(gate, input), None);
    if rule.bound.is_change()
        && let Some(anchor) = rows.anchor(gate, input)
    {
        let against = gate.anchor.as_ref().map(ToString::to_string);
        tell(&anchor, against.as_deref());
    }
    parts
}

fn on_slices(case: &rule::Case<'_>, evidence: &Evidence<'_>, findings: &[Finding]) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut tested = Vec::new();
    for finding in findings {
        let mut part = Part::new(&finding.subject);
        let seen = evidence.seen.iter().find(|it| case.subject(&it.label) == finding.subject);
        // What has a value was tested; everything else says why not.
        if let (Some(seen), Some(_)) = (seen, finding.value) {
            slice::tell(case, seen, &mut part);
            tested.push((seen.label.as_str(), finding));
        } else {
            part.line("why", &finding.message);
        }
        if let Some(advice) = &finding.advice {
            part.line("advice", advice);
        }
        part.line("outcome", finding.outcome.word());
        parts.push(part);
    }
    parts.extend(among_many(case, &tested));
    parts
}

/// Holm's arithmetic, smallest P first.
fn among_many(case: &rule::Case<'_>, tested: &[(&str, &Finding)]) -> Option<Part> {
    let number = |finding: &Finding, name: &str| finding.numbers.get(name).copied();
    let mut ranked: Vec<(&str, f64, f64)> = tested
        .iter()
        .filter_map(|(label, it)| {
            Some((*label, number(it, "p_breach")?, number(it, "p_breach_holm")?))
        })
        .collect();
    if ranked.len() < 2 {
        return None;
    }
    ranked.sort_by(|a, b| a.1.total_cmp(&b.1));
    let m = ranked.len();
    let mut part = Part::new(match case.against {
        None => format!("all {m} slices: a failure must survive Holm's correction"),
        Some(label) => {
            format!("all {m} slices against {label}: a failure must survive Holm's correction")
        }
    });
    let alpha = 1.0 - case.gate.reliability_each();
    for (place, (label, p, p_holm)) in ranked.iter().enumerate() {
        let survives = if *p_holm < alpha { "survives" } else { "does not" };
        part.line(
            label,
            format!(
                "P of the breach {}, × {} and not below the one before = {}: {survives} at α {}",
                precise(*p),
                m - place,
                precise(*p_holm),
                precise(alpha)
            ),
        );
    }
    Some(part)
}

/// A rule about cost: one value, one comparison.
fn value(gate: &Gate, rule: &OperationalRule, input: &GateInput<'_>) -> Part {
    let mut part = Part::new(format!("rule `{}` of gate `{}`", rule.name, gate.name));
    let measured = input.operational.get(&rule.measure);
    part.line("measure", rule.measure.to_string());
    part.line("bound", rule.bound.to_string());
    part.line(
        "measured",
        match measured {
            Some(Ok(value)) => precise(*value),
            Some(Err(why)) => format!("not: {why}"),
            None => "not in this run".to_owned(),
        },
    );
    let mut findings: Vec<Finding> = operational::judge(gate, &input.operational)
        .into_iter()
        .filter(|it| it.rule == rule.name)
        .collect();
    waiver::cover(gate, input.today, &mut findings);
    for finding in findings {
        part.line("compared", "as a value, without an interval");
        part.line("outcome", finding.outcome.word());
    }
    part
}

/// Six significant digits: enough to follow by hand.
fn precise(x: f64) -> String {
    let size = x.abs();
    if size != 0.0 && !(1e-4..1e7).contains(&size) {
        return format!("{x:.5e}");
    }
    let before = if size < 1.0 { 0.0 } else { libm::floor(libm::log10(size)) };
    let decimals = (5.0 - before).clamp(0.0, 6.0) as usize;
    let decimals = if size < 1.0 { 6 } else { decimals };
    format!("{x:.decimals$}")
}

#[cfg(test)]
mod tests;
