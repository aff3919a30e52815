//! One slice: counts, estimate, interval, P, what these rows can see, and the comparison.

use karat_core::{
    explanation::Part,
    policy::{Bound, Rule},
};

use super::precise;
use crate::{
    decide::{
        evidence::{SliceEvidence, want_of},
        plan::Plan,
        rule::{Case, p_breach},
        sentence::{examples, rows},
    },
    estimate::{Estimate, Form, Tail},
    paired::tango_z,
    power::label_noise_factor,
};

/// Everything that the verdict knows of it.
pub(super) fn tell(case: &Case<'_>, seen: &SliceEvidence, part: &mut Part) {
    let want = want_of(case.rule);
    let Some(Ok(found)) = seen.estimates.get(&want) else { return };
    part.line("rows", rows(seen));
    if let Some(error) = case.label_error {
        part.line(
            "labels",
            format!(
                "a share ρ = {} is wrong, by how often two of a row differ; whole rows are resampled",
                precise(error)
            ),
        );
    }
    let n = seen.n_rows as f64;
    if want.form != Form::Value
        && let Some(flips) = &seen.flips
    {
        let (b, c) = (flips.fixed, flips.broken);
        part.line(
            "flips",
            format!(
                "b = {b} wrong → right, c = {c} right → wrong, D = b + c = {}, ψ = D/n = {}",
                b + c,
                precise((b + c) as f64 / n)
            ),
        );
        let told = examples(flips, case.candidate);
        if !told.is_empty() {
            part.line("examples", told.join("; "));
        }
    }
    estimate(case.rule, found, want.form, part);
    interval(case, found, part);
    if let Some(p) = found.p {
        part.line(
            "P",
            format!("of \"no difference\", two-sided: {} ({})", precise(p), found.method),
        );
    }
    if let Some(p) = p_breach(case.rule.bound, &found.tail) {
        part.line("P of the breach", format!("one-sided, of \"the bound holds\": {}", precise(p)));
    }
    rows_needed(case, &case.plan(found, seen), found, n, part);
    part.line("compared", comparison(case.rule.bound, found.interval));
}

fn estimate(rule: &Rule, found: &Estimate, form: Form, part: &mut Part) {
    let Some(baseline) = found.baseline else {
        part.line("estimate", format!("{} = {}", rule.metric, precise(found.value)));
        return;
    };
    let (new, old) = (precise(found.candidate), precise(baseline));
    let difference = match rule.metric.greater_is_better() {
        true => format!("{new} − {old}"),
        false => format!("{old} − {new}"),
    };
    let text = match form {
        Form::RelativeImprovement => format!("({difference}) / |{old}|"),
        Form::Value | Form::Improvement => difference,
    };
    part.line("estimate", format!("{text} = {}", precise(found.value)));
}

/// The formula of the method, with its numbers.
fn interval(case: &Case<'_>, found: &Estimate, part: &mut Part) {
    let alpha = 1.0 - case.gate.reliability_each();
    let z = precise(crate::normal::quantile(1.0 - alpha));
    let [low, high] = found.interval.map(precise);
    let text = match &found.tail {
        Tail::Share { right, n } => format!(
            "Wilson: (p̂ + z²/2n ± z√(p̂(1 − p̂)/n + z²/4n²)) / (1 + z²/n) with p̂ = {right}/{n}, z = {z}"
        ),
        Tail::Flips { fixed, broken, n } => format!(
            "Tango: where (b − c − nλ)/√(n(2q̂ + λ(1 − λ))) = ±z with b = {fixed}, c = {broken}, n = {n}, z = {z}"
        ),
        Tail::Normal { value, standard_error } => {
            format!("{}: {} ± {z} × {}", method(found), precise(*value), precise(*standard_error))
        }
        Tail::Logit { value, standard_error } => format!(
            "{}: ln(A/(1 − A)) = {} ± {z} × {}, taken back by 1/(1 + e⁻ˣ)",
            method(found),
            precise(libm::log(value / (1.0 - value))),
            precise(*standard_error)
        ),
        Tail::Bootstrap(bca) => {
            let [a1, a2] = bca.levels(alpha).map(precise);
            format!(
                "{}: quantiles {a1} and {a2} of {} resamples, standard error {}, from z₀ = {}, â = {}, z = {z}",
                method(found),
                karat_core::thousands(u64::from(case.gate.n_resamples)),
                precise(found.standard_error),
                precise(bca.bias()),
                precise(bca.acceleration())
            )
        }
        Tail::RuleOfThree { value, few } => format!(
            "{}: {} moved by 1 − α^(1/m) = {} with m = {few}",
            method(found),
            precise(*value),
            precise(1.0 - libm::pow(alpha, 1.0 / few))
        ),
    };
    part.line("interval", format!("{text}: {low} to {high}"));
    if let (Tail::Flips { fixed, broken, n }, Some(bound)) = (&found.tail, edge(case.rule.bound)) {
        let at = tango_z(*fixed, *broken, *n, bound);
        part.line("Z", format!("at the bound {}: {}, against ±{z}", precise(bound), precise(at)));
    }
}

/// Without what it says of P.
fn method(found: &Estimate) -> &'static str {
    found.method.split(';').next().unwrap_or(found.method)
}

/// The bound as a place on the line of improvements, or of values.
fn edge(bound: Bound) -> Option<f64> {
    let at = match bound {
        Bound::Min(value) | Bound::Max(value) => value,
        Bound::MaxRegression(margin) => -margin.amount(),
        Bound::MinImprovement(step) | Bound::MaxImprovement(step) => step.amount(),
    };
    at.is_finite().then_some(at)
}

fn rows_needed(case: &Case<'_>, plan: &Plan, found: &Estimate, n: f64, part: &mut Part) {
    let (a, b) = (precise(plan.power.z_alpha), precise(plan.power.z_beta));
    let seen = match plan.disagreement {
        Some(share) => format!(
            "the δ at which (z_α√ψ + z_β√(ψ − δ²))²/δ² = n with ψ = {}, n = {n}",
            precise(share)
        ),
        None => format!("(z_α + z_β) × SE = ({a} + {b}) × {}", precise(found.standard_error)),
    };
    part.line("effect seen", format!("{seen} = {}", precise(plan.effect_seen)));
    let Some(needed) = plan.n_needed else { return };
    let distance = edge(case.rule.bound).map_or(f64::NAN, |it| (found.value - it).abs());
    let margin = case.rule.bound.change().map_or(f64::NAN, |it| it.amount());
    let noise = match case.label_error {
        Some(error) if plan.assumes_equal => {
            format!(" × 1/(1 − 2ρ)² = {}", precise(label_noise_factor(error)))
        }
        _ => String::new(),
    };
    let text = match (plan.assumes_equal, plan.disagreement) {
        _ if found.method == crate::estimate::RULE_OF_THREE => {
            format!("n × width / distance, distance {}", precise(distance))
        }
        (true, Some(share)) => {
            format!(
                "if equal: (z_α + z_β)² ψ/Δ² = ({a} + {b})² × {} / {}²{noise}",
                precise(share),
                precise(margin)
            )
        }
        (true, None) => format!(
            "if equal: n ((z_α + z_β) SE/Δ)² = {n} × (({a} + {b}) × {} / {})²{noise}",
            precise(found.standard_error),
            precise(margin)
        ),
        (false, _) => format!(
            "if it stays so: n ((z_α + z_β) SE/distance)² = {n} × (({a} + {b}) × {} / {})²",
            precise(found.standard_error),
            precise(distance)
        ),
    };
    part.line(
        "rows needed",
        format!("{text} = {}", karat_core::thousands(needed.min(1e18) as u64)),
    );
}

fn comparison(bound: Bound, [low, high]: [f64; 2]) -> String {
    let (l, u) = (precise(low), precise(high));
    let yes = |it: bool| if it { "yes" } else { "no" };
    let two = |holds: (String, bool), breaks: (String, bool)| {
        format!("passes if {}: {}; fails if {}: {}", holds.0, yes(holds.1), breaks.0, yes(breaks.1))
    };
    match bound {
        Bound::Min(min) => {
            two((format!("L = {l} ≥ {min}"), min <= low), (format!("U = {u} < {min}"), high < min))
        }
        Bound::Max(max) => {
            two((format!("U = {u} ≤ {max}"), high <= max), (format!("L = {l} > {max}"), max < low))
        }
        Bound::MaxRegression(margin) => {
            let at = -margin.amount();
            two((format!("L = {l} > {at}"), at < low), (format!("U = {u} < {at}"), high < at))
        }
        Bound::MinImprovement(step) => {
            let at = step.amount();
            two((format!("L = {l} > {at}"), at < low), (format!("U = {u} < {at}"), high < at))
        }
        Bound::MaxImprovement(alarm) => {
            let at = alarm.amount();
            format!("alarm if L = {l} > {at}: {}", yes(at < low))
        }
    }
}
