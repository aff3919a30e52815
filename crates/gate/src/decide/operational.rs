//! Rules about cost and behaviour: one measured value against its bound, without an interval.

use std::collections::BTreeMap;

use karat_core::{
    Finding, Outcome,
    policy::{Gate, Measure, OperationalRule},
};

use super::rule::{compare, soften};
use crate::number::figure;

/// One finding a rule.
pub(super) fn judge(
    gate: &Gate,
    measured: &BTreeMap<Measure, Result<f64, String>>,
) -> Vec<Finding> {
    gate.operational
        .iter()
        .map(|rule| {
            let mut found = [on_value(rule, measured.get(&rule.measure))];
            soften(rule.warns_only, &mut found);
            let [finding] = found;
            finding
        })
        .collect()
}

/// What was measured, by word, for the record.
pub(super) fn values(measured: &BTreeMap<Measure, Result<f64, String>>) -> BTreeMap<String, f64> {
    let finite = |(measure, value): (&Measure, &Result<f64, String>)| {
        let value = value.as_ref().ok().copied().filter(|it| it.is_finite())?;
        Some((measure.to_string(), value))
    };
    measured.iter().filter_map(finite).collect()
}

fn on_value(rule: &OperationalRule, measured: Option<&Result<f64, String>>) -> Finding {
    let measure = rule.measure;
    let bound = match measure.is_yes_or_no() {
        true => "yes".to_owned(),
        false => rule.bound.to_string(),
    };
    let made = |outcome: Outcome, message: String| {
        Finding::new(&rule.name, measure.to_string(), outcome, bound.clone(), message)
    };
    let value = match measured {
        Some(Ok(value)) if value.is_finite() => *value,
        Some(Ok(_)) => {
            return made(Outcome::NotApplied, "not measured: it is no number".to_owned());
        }
        Some(Err(why)) => return made(Outcome::NotApplied, format!("not measured: {why}")),
        None => return made(Outcome::NotApplied, "not measured in this run".to_owned()),
    };
    let outcome = compare(rule.bound, [value, value]);
    let message = match (measure.is_yes_or_no(), outcome) {
        (true, Outcome::Pass) => format!("{measure}: yes"),
        (true, _) => format!("{measure}: no; needs to be yes"),
        (false, _) => format!("{measure} {}; needs to be {bound}", figure(value)),
    };
    let mut finding = made(outcome, message);
    finding.value = Some(value);
    finding
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use karat_core::{
        Outcome,
        policy::{Bound, Measure, OperationalRule, Perturbation},
    };

    use super::{on_value, values};

    fn rule(measure: Measure, bound: Bound) -> OperationalRule {
        OperationalRule { name: "it".to_owned(), measure, bound, warns_only: false }
    }

    #[test]
    fn a_value_is_compared_and_what_was_not_measured_is_no_pass() {
        let speed = rule(Measure::RowsPerSecond, Bound::Min(50_000.0));
        let told = |rule: &OperationalRule, value: Option<Result<f64, String>>| {
            let finding = on_value(rule, value.as_ref());
            (finding.outcome, finding.message)
        };
        assert_eq!(
            told(&speed, Some(Ok(61_234.0))),
            (Outcome::Pass, "rows_per_second 61,234; needs to be at least 50000".to_owned())
        );
        assert_eq!(told(&speed, Some(Ok(50_000.0))).0, Outcome::Pass);
        assert_eq!(told(&speed, Some(Ok(49_999.0))).0, Outcome::Fail);
        assert_eq!(told(&speed, Some(Ok(f64::NAN))).0, Outcome::NotApplied);
        assert_eq!(
            told(&speed, Some(Err("nothing was scored".to_owned()))),
            (Outcome::NotApplied, "not measured: nothing was scored".to_owned())
        );
        assert_eq!(
            told(&speed, None),
            (Outcome::NotApplied, "not measured in this run".to_owned())
        );
        let noise = Measure::Robustness(Perturbation::Noise(50));
        assert_eq!(
            told(&rule(noise, Bound::Max(0.01)), Some(Ok(0.02))),
            (Outcome::Fail, "robustness(noise=0.05) 0.02000; needs to be at most 0.01".to_owned())
        );
        let clean = rule(Measure::CleanGit, Bound::Min(1.0));
        assert_eq!(told(&clean, Some(Ok(1.0))), (Outcome::Pass, "clean_git: yes".to_owned()));
        assert_eq!(
            told(&clean, Some(Ok(0.0))),
            (Outcome::Fail, "clean_git: no; needs to be yes".to_owned())
        );
        // Half a yes is none.
        assert_eq!(told(&clean, Some(Ok(0.5))).0, Outcome::Fail);
    }

    #[test]
    fn the_record_has_what_was_measured_by_word() {
        let measured = BTreeMap::from([
            (Measure::LatencyP95Ms, Ok(3.5)),
            (Measure::ParityMax, Err("one device".to_owned())),
            (Measure::PeakMemoryMib, Ok(f64::INFINITY)),
        ]);
        assert_eq!(values(&measured), BTreeMap::from([("latency_p95_ms".to_owned(), 3.5)]));
    }
}
