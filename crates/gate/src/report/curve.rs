//! The few curves a person looks at: ROC, precision over recall, reliability diagram, where the scores lie.
//!
//! Each is a series of at most [`POINTS_MAX`] points. `calibration` of a regression is mean label over mean prediction
//! in bins of equal mass; `calibration_rows` has the rows of each bin of `calibration`.

use std::collections::BTreeMap;

use karat_core::{ScoredRows, Task};

use crate::metric::{
    Scores, Weights,
    calibration::{N_BINS, bins},
    rank::{Ranked, Visit},
};

/// Points of a series.
pub(crate) const POINTS_MAX: usize = 200;
/// Bars of a score histogram.
const N_BARS: usize = 40;

/// Adds the series of one model; `suffix` tells candidate and baseline apart. Scores that are not numbers have no curve.
pub(super) fn add(curves: &mut BTreeMap<String, Vec<[f64; 2]>>, rows: &ScoredRows, suffix: &str) {
    let is_drawable = !rows.label.is_empty()
        && rows.score.len() == rows.label.len()
        && rows.score.iter().chain(&rows.label).all(|it| it.is_finite());
    if !is_drawable {
        return;
    }
    let mut put = |name: &str, points: Vec<[f64; 2]>| {
        if !points.is_empty() {
            curves.insert(format!("{name}{suffix}"), points);
        }
    };
    match rows.task {
        Task::Binary => {
            let scores = Scores {
                task: rows.task,
                n_classes: rows.classes.len(),
                label: &rows.label,
                score: &rows.score,
            };
            let ranked = Ranked::new(&scores);
            let steps = steps(&ranked);
            put("roc", roc(&steps));
            put("precision_recall", precision_recall(&steps));
            let bins = reliability(&ranked);
            put("calibration", bins.iter().map(|it| [it[0], it[1]]).collect());
            put("calibration_rows", bins.iter().map(|it| [it[0], it[2]]).collect());
            put("scores_negative", histogram(rows, |label| label < 0.5));
            put("scores_positive", histogram(rows, |label| 0.5 <= label));
        }
        Task::Regression => {
            let bins = predicted_against_actual(rows);
            put("calibration", bins.iter().map(|it| [it[0], it[1]]).collect());
            put("calibration_rows", bins.iter().map(|it| [it[0], it[2]]).collect());
        }
        Task::Multiclass => {}
    }
}

/// (negatives, positives) chosen after each run of equal scores, from the highest score down; empty with one class only.
fn steps(ranked: &Ranked) -> Vec<(i32, i32)> {
    let ones = vec![[1]; ranked.n_rows()];
    let mut found = Steps(vec![(0, 0)]);
    ranked.visit(&ones, &mut found);
    let Steps(steps) = found;
    let has_both = steps.last().is_some_and(|(n, p)| 0 < *n && 0 < *p);
    if has_both { steps } else { Vec::new() }
}

fn share(part: i32, of: i32) -> f64 {
    f64::from(part) / f64::from(of)
}

/// (false positive rate, true positive rate), thinned evenly.
fn roc(steps: &[(i32, i32)]) -> Vec<[f64; 2]> {
    let Some((n, p)) = steps.last().copied() else { return Vec::new() };
    thin(&steps.iter().map(|step| [share(step.0, n), share(step.1, p)]).collect::<Vec<_>>())
}

/// (recall, precision), thinned evenly. Nothing chosen has no precision, so the first point is the first run's.
fn precision_recall(steps: &[(i32, i32)]) -> Vec<[f64; 2]> {
    let Some((_, p)) = steps.last().copied() else { return Vec::new() };
    let point = |step: &(i32, i32)| [share(step.1, p), share(step.1, step.0 + step.1)];
    thin(&steps[1..].iter().map(point).collect::<Vec<_>>())
}

/// (negatives, positives) chosen after each run.
struct Steps(Vec<(i32, i32)>);

impl Visit<1> for Steps {
    fn run(&mut self, _: f64, negatives: Option<[i32; 1]>, positives: Option<[i32; 1]>) {
        let count = |class: Option<[i32; 1]>| class.map_or(0, |[n]| n);
        let (n, p) = self.0.last().copied().unwrap_or_default();
        self.0.push((n + count(negatives), p + count(positives)));
    }
}

/// At most [`POINTS_MAX`] of the points, first and last among them.
fn thin(points: &[[f64; 2]]) -> Vec<[f64; 2]> {
    if points.len() <= POINTS_MAX {
        return points.to_vec();
    }
    (0..POINTS_MAX).map(|i| points[i * (points.len() - 1) / (POINTS_MAX - 1)]).collect()
}

/// (mean score, share of positives, rows) of each bin.
fn reliability(ranked: &Ranked) -> Vec<[f64; 3]> {
    let ones = vec![[1]; ranked.n_rows()];
    let [bins] = bins(ranked, Weights::new(&ones));
    let filled = bins.into_iter().filter(|it| 0.0 < it.n);
    filled.map(|it| [it.scores / it.n, it.positives / it.n, it.n]).collect()
}

/// (middle of the bar, share of the rows).
fn histogram(rows: &ScoredRows, belongs: impl Fn(f32) -> bool) -> Vec<[f64; 2]> {
    let mut bars = [0_u64; N_BARS];
    let mut n = 0_u64;
    for (label, score) in rows.label.iter().zip(&rows.score) {
        if belongs(*label) {
            bars[((f64::from(*score) * N_BARS as f64) as usize).min(N_BARS - 1)] += 1;
            n += 1;
        }
    }
    if n == 0 {
        return Vec::new();
    }
    let point = |(bar, count): (usize, &u64)| {
        [(bar as f64 + 0.5) / N_BARS as f64, *count as f64 / n as f64]
    };
    bars.iter().enumerate().map(point).collect()
}

/// (mean prediction, mean label, rows) in bins of equal mass.
fn predicted_against_actual(rows: &ScoredRows) -> Vec<[f64; 3]> {
    let mut order: Vec<usize> = (0..rows.label.len()).collect();
    order.sort_by(|a, b| {
        rows.score[*a].total_cmp(&rows.score[*b]).then(rows.label[*a].total_cmp(&rows.label[*b]))
    });
    order
        .chunks(order.len().div_ceil(N_BINS))
        .map(|bin| {
            let mean = |values: &[f32]| {
                bin.iter().map(|row| f64::from(values[*row])).sum::<f64>() / bin.len() as f64
            };
            [mean(&rows.score), mean(&rows.label), bin.len() as f64]
        })
        .collect()
}
