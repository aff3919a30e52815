//! Everything that is computed, once: for each slice what the rules want to know of it.

use std::{borrow::Cow, collections::BTreeMap};

use karat_core::{
    ScoredRows,
    policy::{Change, Gate, Rule},
};

use crate::{
    estimate::{Estimate, Flips, Form, Precision, Want, estimate},
    metric::NotMeasured,
    parallel::Parallel,
    sample::Sample,
    slice::Slices,
    votes::Wide,
};

/// Rows below which no value of a family is tested.
pub(super) const ROWS_MIN: u64 = 30;

/// The form in which a rule's bound is asked.
pub(super) fn want_of(rule: &Rule) -> Want {
    let form = match rule.bound.change() {
        None => Form::Value,
        Some(Change::Absolute(_)) => Form::Improvement,
        Some(Change::Relative(_)) => Form::RelativeImprovement,
    };
    Want { metric: rule.metric, form }
}

/// Everything that was computed on one slice.
pub(super) struct SliceEvidence {
    pub label: String,
    /// Labelled rows.
    pub n_rows: u64,
    /// Labels, where rows have several.
    pub n_labels: Option<u64>,
    pub estimates: BTreeMap<Want, Result<Estimate, NotMeasured>>,
    pub flips: Option<Flips>,
}

/// What is compared on which slices.
pub(super) struct Evidence<'a> {
    pub slices: &'a Slices,
    /// One for each of the slices, in their order.
    pub seen: Vec<SliceEvidence>,
}

impl<'a> Evidence<'a> {
    /// Of a candidate and whoever is on the other side; without one, rules about changes are left out.
    ///
    /// `samples` are those of the first slices where somebody made them already.
    pub(super) fn gather(
        gate: &Gate,
        rules: &[&Rule],
        (candidate, opponent): (&Wide<'_>, Option<&ScoredRows>),
        slices: &'a Slices,
        samples: &[Sample],
        parallel: &dyn Parallel,
    ) -> Self {
        let n_rows: Vec<u64> = slices.every().iter().map(|it| candidate.n_rows(&it.rows)).collect();
        let wanted = wanted(rules, opponent.is_some(), slices, &n_rows);
        let seen = slices.every().iter().zip(wanted).enumerate().map(|(at, (slice, wants))| {
            let mut seen = SliceEvidence {
                label: slice.label.clone(),
                n_rows: n_rows[at],
                n_labels: candidate.source.as_ref().map(|_| slice.rows.len() as u64),
                estimates: BTreeMap::new(),
                flips: None,
            };
            if wants.is_empty() {
                return seen;
            }
            let sample = match samples.get(at) {
                Some(made) => Cow::Borrowed(made),
                None => Cow::Owned(Sample::new(&candidate.rows, opponent, &slice.rows)),
            };
            let name = format!("{}/{}", gate.name, slice.label);
            let precision = Precision {
                reliability: gate.reliability_each(),
                n_resamples: gate.n_resamples,
                name: &name,
            };
            let found = estimate(&wants, &sample, precision, parallel);
            seen.estimates = wants.into_iter().zip(found).collect();
            seen.flips = Flips::count(&sample);
            seen
        });
        Self { slices, seen: seen.collect() }
    }
}

/// What each slice is asked. Nothing where it is too small to be tested.
fn wanted(rules: &[&Rule], has_opponent: bool, slices: &Slices, n_rows: &[u64]) -> Vec<Vec<Want>> {
    let mut wanted: Vec<Vec<Want>> = vec![Vec::new(); slices.every().len()];
    for rule in rules {
        if rule.bound.is_change() && !has_opponent {
            continue;
        }
        for slice in &rule.slices {
            let Ok(found) = slices.resolve(slice) else { continue };
            // Of values that nobody named, those too small to say anything are only counted.
            let least = match (slice.is_family(), rule.n_rows_min) {
                (true, 0) => ROWS_MIN,
                (_, min) => min,
            };
            for at in found {
                let is_asked = least <= n_rows[at];
                if is_asked && !wanted[at].contains(&want_of(rule)) {
                    wanted[at].push(want_of(rule));
                }
            }
        }
    }
    wanted
}
