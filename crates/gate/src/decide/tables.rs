//! Every declared slice against the baseline, for tables: what these say decides nothing.
//!
//! One P of "no difference" for each slice and each metric that the gate's rules compare, adjusted within the column it
//! came from: by Holm for whoever asks "is there any difference", by Benjamini and Hochberg for whoever asks "which of them".

use std::collections::BTreeMap;

use karat_core::{Task, metric::Metric, policy::Gate, verdict::FamilyTest};

use super::evidence::SliceEvidence;
use crate::{
    correction::{benjamini_hochberg, holm},
    estimate::{Form, Want, quick},
    normal::quantile,
    parallel::{self, Parallel},
    report::SLICE_ROWS_MIN,
    sample::Sample,
    slice::Slices,
};

/// Slices by predicate, which have no column of their own.
const PREDICATES: &str = "slices";

/// The tests of all families, metric by metric, slices in their order.
pub(super) fn tests(
    gate: &Gate,
    task: Task,
    slices: &Slices,
    samples: &[Sample],
    seen: &[SliceEvidence],
    parallel: &dyn Parallel,
) -> Vec<FamilyTest> {
    let metrics = metrics(gate, task);
    let z = quantile(gate.reliability_each());
    // `all` is the first, and no slice among others.
    let at = |place: usize| place + 1;
    let n = slices.declared().len().min(samples.len()).saturating_sub(1);
    let found = parallel::map(parallel, n, |place| {
        let (sample, seen) = (&samples[at(place)], &seen[at(place)]);
        metrics.iter().map(|metric| p_of(*metric, sample, seen, z)).collect::<Vec<_>>()
    });
    let mut tests = Vec::new();
    for (column, metric) in metrics.iter().enumerate() {
        let mut by_family: BTreeMap<usize, (String, Vec<(usize, f64)>)> = BTreeMap::new();
        for (place, p) in found.iter().enumerate() {
            let family = slices.declared()[at(place)].family.clone();
            let name = family.unwrap_or_else(|| PREDICATES.to_owned());
            // In the order in which families first appear.
            let key = by_family
                .iter()
                .find_map(|(key, (known, _))| (*known == name).then_some(*key))
                .unwrap_or(place);
            let members = &mut by_family.entry(key).or_insert((name, Vec::new())).1;
            if let Some(p) = p[column] {
                members.push((at(place), p));
            }
        }
        for (family, members) in by_family.into_values() {
            let p: Vec<f64> = members.iter().map(|it| it.1).collect();
            let adjusted = holm(&p).into_iter().zip(benjamini_hochberg(&p));
            for ((at, p), (p_holm, p_bh)) in members.into_iter().zip(adjusted) {
                tests.push(FamilyTest {
                    family: family.clone(),
                    metric: *metric,
                    slice: seen[at].label.clone(),
                    n_rows: seen[at].n_rows,
                    p,
                    p_holm,
                    p_bh,
                });
            }
        }
    }
    tests
}

/// The metrics whose change the rules ask about; where none does, the first that fits the task.
fn metrics(gate: &Gate, task: Task) -> Vec<Metric> {
    let fitting = || Metric::ALL.into_iter().filter(|it| it.fits(task));
    let is_compared = |metric: &Metric| {
        gate.rules.iter().any(|rule| rule.bound.is_change() && rule.metric == *metric)
    };
    let compared: Vec<Metric> = fitting().filter(is_compared).collect();
    if compared.is_empty() { fitting().take(1).collect() } else { compared }
}

/// As the gate judged it, else by the report's cheap method. None where it cannot be had.
fn p_of(metric: Metric, sample: &Sample, seen: &SliceEvidence, z: f64) -> Option<f64> {
    if sample.n_rows() < SLICE_ROWS_MIN {
        return None;
    }
    let want = Want { metric, form: Form::Improvement };
    let quickly = || quick(want, sample, z).ok();
    let found = match seen.estimates.get(&want) {
        Some(Ok(found)) => Some(found.clone()),
        _ => quickly(),
    }?;
    let two_sided = 2.0 * found.tail.p_above(0.0).min(found.tail.p_below(0.0));
    Some(found.p.unwrap_or(two_sided).min(1.0)).filter(|it| it.is_finite())
}
