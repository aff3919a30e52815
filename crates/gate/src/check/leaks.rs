//! `leak.after` and `leak.target`: a feature that could not have been known, or that gives the label away.
//!
//! `leak.target` fits one-column models on the binned counts of the profile: the share of each class (or the mean
//! label) in each bin, from all folds but one, judged on that one. So a column with many rare values does not look good
//! by remembering, and the number can be computed again by hand.

use karat_core::{Finding, Outcome, Task, profile::Association, thousands};

use super::Question;
use crate::number::{counted, figure};

/// Share of the possible gain (of accuracy over the commonest class, of squared error over the mean) that a single
/// column may not reach.
const GAIN_MAX: f64 = 0.8;

pub(super) fn after(question: &Question<'_>) -> Vec<Finding> {
    let mut n_asked = 0;
    let mut findings = Vec::new();
    for column in question.schema.features() {
        n_asked += 1;
        if column.known_after {
            let mut finding = question.finding(
                &column.name,
                Outcome::Fail,
                "known before the prediction",
                format!("feature `{}` is marked `known_after`: it is not there when a prediction is made", column.name),
            );
            finding.advice = Some(format!(
                "`role = \"ignore\"` for `{}` keeps it out of the model",
                column.name
            ));
            findings.push(finding);
        }
    }
    question.or_pass(
        findings,
        "known before the prediction",
        format!("asked of {}", counted(n_asked, "feature")),
    )
}

pub(super) fn target(question: &Question<'_>) -> Vec<Finding> {
    let Some(label) = question.schema.label() else {
        return question.pass("all", "", "nothing to ask: no column is declared the label");
    };
    if question.profile.absent.contains(&label.name) {
        return vec![question.not_applied(&label.name, "the label column is absent")];
    }
    if question.profile.associations.is_empty() {
        let message = "no feature was counted against the label: no training row has one";
        return vec![question.not_applied(&label.name, message)];
    }
    let mut findings = Vec::new();
    let mut best: Option<(f64, &str)> = None;
    let mut n_asked = 0;
    for column in question.schema.features() {
        // An absent column is `schema.columns`' finding.
        if question.profile.absent.contains(&column.name) {
            continue;
        }
        let counted = question.profile.associations.iter().find(|it| it.column == column.name);
        let Some(association) = counted.filter(|it| is_sound(it)) else {
            let message = format!("`{}` was not counted against the label", column.name);
            findings.push(question.not_applied(&column.name, message));
            continue;
        };
        n_asked += 1;
        // A label that does not vary is `label.constant`'s finding.
        let Some(found) = score(association) else { continue };
        let value = found.auc.unwrap_or(found.gain);
        if best.is_none_or(|(most, _)| most < value) {
            best = Some((value, &column.name));
        }
        let Some((value, max, what)) = broken(question, association.task, found) else { continue };
        let bound = format!("below {max}");
        let message = format!(
            "`{}` alone predicts `{}`: {} {what} on {} rows, must be {bound}",
            column.name,
            label.name,
            figure(value),
            thousands(association.n_rows)
        );
        let mut finding = question.finding(&column.name, Outcome::Fail, bound, message);
        finding.value = Some(value);
        finding.n_rows = Some(association.n_rows);
        finding.numbers.insert("gain".to_owned(), found.gain);
        finding.advice = Some(format!(
            "if `{0}` is known only afterwards, mark it `known_after = true` and `role = \"ignore\"`; if it is truly \
             known before, `[check.\"leak.target\"]` with a higher `bound` says so",
            column.name
        ));
        findings.push(finding);
    }
    let asked = counted(n_asked, "feature");
    let message = match best {
        Some((value, column)) => {
            format!("asked of {asked}; the most telling is `{column}` at {}", figure(value))
        }
        None => format!("asked of {asked}"),
    };
    question.or_pass(findings, &format!("below {}", question.bound()), message)
}

/// The (value, bound, meaning) that is broken, if one is. A bound of the project is the only one that then holds.
fn broken(question: &Question<'_>, task: Task, found: Telling) -> Option<(f64, f64, &'static str)> {
    let gain = match task {
        Task::Regression => "R² of a held-out fit",
        Task::Binary | Task::Multiclass => "of the possible gain in accuracy",
    };
    let (auc, own) = (found.auc, question.own_bound());
    let looks = match (auc, own) {
        (Some(auc), Some(max)) => vec![(auc, max, "AUC")],
        (Some(auc), None) => vec![(auc, question.bound(), "AUC"), (found.gain, GAIN_MAX, gain)],
        (None, own) => vec![(found.gain, own.unwrap_or(GAIN_MAX), gain)],
    };
    // Only what is below its bound holds: NaN is not.
    let holds = |value: f64, max: f64| value < max;
    looks.into_iter().find(|(value, max, _)| !holds(*value, *max))
}

/// How well one column predicts the label on rows it was not fitted on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Telling {
    /// Binary only: rows-weighted mean over folds.
    pub(super) auc: Option<f64>,
    /// 0 = as good as the constant answer, 1 = perfect.
    pub(super) gain: f64,
}

/// Whether the cells have the shape they must have.
fn is_sound(association: &Association) -> bool {
    let width = width(association);
    2 <= association.cells.len()
        && association.cells.iter().all(|bins| bins.len() == association.bins.len())
        && association.cells.iter().flatten().all(|cell| cell.len() == width)
}

fn width(association: &Association) -> usize {
    if association.task == Task::Regression { 3 } else { association.classes.len() }
}

/// Of a sound association; `None` when the label does not vary, so that there is nothing to tell.
pub(super) fn score(association: &Association) -> Option<Telling> {
    let (folds, width) = (&association.cells, width(association));
    if width < 2 {
        return None;
    }
    let total = sum_of(folds.iter(), association.bins.len(), width);
    if association.task == Task::Regression {
        squared_error(folds, &total)
    } else {
        classes(folds, &total)
    }
}

type Bins = Vec<Vec<f64>>;

fn sum_of<'a>(folds: impl Iterator<Item = &'a Bins>, n_bins: usize, width: usize) -> Bins {
    let mut sum = vec![vec![0.0; width]; n_bins];
    for (at, cell) in folds.flat_map(|bins| bins.iter().enumerate()) {
        for (into, value) in sum[at].iter_mut().zip(cell) {
            *into += value;
        }
    }
    sum
}

/// Everything but one fold, and that over all bins.
fn without(total: &Bins, fold: &Bins) -> (Bins, Vec<f64>) {
    let rest: Bins = total
        .iter()
        .zip(fold)
        .map(|(all, held)| all.iter().zip(held).map(|(a, h)| a - h).collect())
        .collect();
    (rest.clone(), margin(&rest))
}

fn margin(bins: &Bins) -> Vec<f64> {
    let mut sum = vec![0.0; bins.first().map_or(0, Vec::len)];
    for cell in bins {
        for (into, value) in sum.iter_mut().zip(cell) {
            *into += value;
        }
    }
    sum
}

fn classes(folds: &[Bins], total: &Bins) -> Option<Telling> {
    let (mut right, mut right_constant, mut n) = (0.0, 0.0, 0.0);
    let (mut auc_sum, mut auc_rows) = (0.0, 0.0);
    for fold in folds {
        let (rest, all) = without(total, fold);
        let commonest = largest(&all);
        let mut ranked: Vec<(f64, f64, f64)> = Vec::with_capacity(fold.len());
        for (seen, held) in rest.iter().zip(fold) {
            let n_seen: f64 = seen.iter().sum();
            // A bin that the other folds have never seen says what the constant answer says.
            right += held[if 0.0 < n_seen { largest(seen) } else { commonest }];
            right_constant += held[commonest];
            n += held.iter().sum::<f64>();
            let prior = all[all.len() - 1] / all.iter().sum::<f64>().max(1.0);
            // One row's worth of prior keeps rare bins near the mean.
            let rate = (seen[seen.len() - 1] + prior) / (n_seen + 1.0);
            ranked.push((rate, held[0], held[held.len() - 1]));
        }
        if total.first().is_some_and(|it| it.len() == 2)
            && let Some((auc, rows)) = auc(ranked)
        {
            auc_sum += auc * rows;
            auc_rows += rows;
        }
    }
    if n <= right_constant {
        return None;
    }
    let gain = (right - right_constant) / (n - right_constant);
    Some(Telling { auc: (0.0 < auc_rows).then(|| auc_sum / auc_rows), gain })
}

/// AUC of bins as (score, negatives, positives), and their rows; `None` with one class.
fn auc(mut bins: Vec<(f64, f64, f64)>) -> Option<(f64, f64)> {
    bins.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut wins, mut negatives, mut positives) = (0.0, 0.0, 0.0);
    for run in bins.chunk_by(|a, b| a.0.to_bits() == b.0.to_bits()) {
        let (n, p) = run.iter().fold((0.0, 0.0), |(n, p), bin| (n + bin.1, p + bin.2));
        wins += p * (negatives + 0.5 * n);
        negatives += n;
        positives += p;
    }
    (0.0 < negatives && 0.0 < positives)
        .then(|| (wins / (negatives * positives), negatives + positives))
}

fn squared_error(folds: &[Bins], total: &Bins) -> Option<Telling> {
    let (mut error, mut error_constant) = (0.0, 0.0);
    for fold in folds {
        let (rest, all) = without(total, fold);
        if all[0] <= 0.0 {
            continue;
        }
        let mean = all[1] / all[0];
        for (seen, held) in rest.iter().zip(fold) {
            let fitted = (seen[1] + mean) / (seen[0] + 1.0);
            let around = |at: f64| held[2] - 2.0 * at * held[1] + at * at * held[0];
            error += around(fitted);
            error_constant += around(mean);
        }
    }
    // Sums of squares lose digits: below this the label is a constant but for rounding.
    let scale: f64 = total.iter().map(|it| it[2]).sum();
    (1e-12 * scale < error_constant)
        .then(|| Telling { auc: None, gain: 1.0 - error / error_constant })
}

/// Index of the largest, the first of equals.
fn largest(values: &[f64]) -> usize {
    let mut best = 0;
    for (at, value) in values.iter().enumerate() {
        if values[best] < *value {
            best = at;
        }
    }
    best
}
