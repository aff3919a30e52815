//! `report.json` and `verdict.json`: the summary and the verdict themselves, for programs.
//!
//! Canonical: keys sorted at every level, shortest exact numbers, two spaces, a final newline. What JSON cannot say
//! (NaN, infinity) is left out, so that the text always parses back into the same type.

use karat_core::{Verdict, summary::RunSummary};
use serde_json::Value;

/// The whole summary as pretty JSON; its `version` field is the format's version.
#[must_use]
pub fn report_json(summary: &RunSummary) -> String {
    let mut summary = summary.clone();
    summary.checks.iter_mut().for_each(keep_finite_finding);
    if let Some(train) = &mut summary.train {
        keep_finite_points(&mut train.losses);
        keep_finite_points(&mut train.eval_losses);
        keep_finite_points(&mut train.learning_rates);
        keep_finite_points(&mut train.eval_metrics);
    }
    if let Some(verdict) = &mut summary.verdict {
        keep_finite_verdict(verdict);
    }
    pretty(serde_json::to_value(&summary).expect("a summary has text keys only"))
}

/// The verdict as pretty JSON, with the digests of everything it judged; its `version` field is the format's version.
#[must_use]
pub fn verdict_json(verdict: &Verdict) -> String {
    let mut verdict = verdict.clone();
    keep_finite_verdict(&mut verdict);
    pretty(serde_json::to_value(&verdict).expect("a verdict has text keys only"))
}

/// The canonical text of a JSON value.
pub(crate) fn pretty(value: Value) -> String {
    let mut text = serde_json::to_string_pretty(&sorted(value)).expect("a JSON value serialises");
    text.push('\n');
    text
}

/// Keys in order, whatever order of keys the JSON library was built to keep.
fn sorted(value: Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        Value::Object(map) => {
            let mut entries: Vec<(String, Value)> = map.into_iter().collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().map(|(key, value)| (key, sorted(value))).collect())
        }
        value => value,
    }
}

fn keep_finite_verdict(verdict: &mut Verdict) {
    verdict.findings.iter_mut().for_each(keep_finite_finding);
    for cell in &mut verdict.report.cells {
        keep_finite_interval(&mut cell.interval);
        keep_finite_interval(&mut cell.improvement_interval);
    }
    verdict.report.curves.values_mut().for_each(keep_finite_points);
    verdict.operational.retain(|_, value| value.is_finite());
    verdict.families.retain(|it| [it.p, it.p_holm, it.p_bh].iter().all(|p| p.is_finite()));
    verdict.seeds = verdict
        .seeds
        .take()
        .filter(|it| [it.item, it.seed, it.joint].iter().all(|v| v.is_finite()));
}

fn keep_finite_finding(finding: &mut karat_core::Finding) {
    keep_finite_interval(&mut finding.interval);
    finding.numbers.retain(|_, value| value.is_finite());
}

fn keep_finite_interval(interval: &mut Option<[f64; 2]>) {
    *interval = interval.filter(|it| it.iter().all(|end| end.is_finite()));
}

fn keep_finite_points(points: &mut Vec<[f64; 2]>) {
    points.retain(|it| it.iter().all(|value| value.is_finite()));
}
