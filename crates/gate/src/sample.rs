//! The rows of one slice, in an order of their own, so that nothing depends on the order of the file.
//!
//! Rows are sorted by candidate score, then label, then baseline score. Two files with the same rows in another order
//! then give the same bits, and metrics of the candidate's ranking read memory in order.

use karat_core::{ScoredRows, Task};

use crate::metric::Scores;

/// Labelled, scored rows of one slice, for one or two models.
#[derive(Clone, Debug)]
pub struct Sample {
    task: Task,
    n_classes: usize,
    label: Vec<f32>,
    candidate: Vec<f32>,
    baseline: Option<Vec<f32>>,
    group: Option<Groups>,
    /// Row of the predictions file behind each row.
    pub source: Vec<u32>,
}

/// Which rows are resampled together.
#[derive(Clone, Debug)]
pub struct Groups {
    /// `[n]`: dense numbers from 0.
    pub of_row: Vec<u32>,
    /// Groups.
    pub n: usize,
}

impl Sample {
    /// The rows `selected` of both models. Both must be about the same rows; the caller has compared their digests.
    #[must_use]
    pub fn new(candidate: &ScoredRows, baseline: Option<&ScoredRows>, selected: &[u32]) -> Self {
        let n_outputs = candidate.n_outputs();
        let scores_of = |rows: &ScoredRows, row: u32| {
            let from = row as usize * n_outputs;
            rows.score.get(from..from + n_outputs).unwrap_or_default().to_vec()
        };
        // + 0.0 makes one zero of two. A score that is not there is refused later, by the metric.
        let score_of = |rows: &ScoredRows, row: u32| {
            rows.score.get(row as usize).map_or(f32::NAN, |it| it + 0.0)
        };
        let compare = |a: &[f32], b: &[f32]| {
            let first = a.iter().zip(b).map(|(x, y)| (x + 0.0).total_cmp(&(y + 0.0)));
            first.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
        };
        let mut source = selected.to_vec();
        source.sort_by(|&a, &b| {
            let by_scores = |rows: &ScoredRows| match n_outputs {
                1 => score_of(rows, a).total_cmp(&score_of(rows, b)),
                _ => compare(&scores_of(rows, a), &scores_of(rows, b)),
            };
            by_scores(candidate)
                .then_with(|| candidate.label[a as usize].total_cmp(&candidate.label[b as usize]))
                .then_with(|| baseline.map_or(std::cmp::Ordering::Equal, by_scores))
        });
        let pick = |rows: &ScoredRows| -> Vec<f32> {
            source.iter().flat_map(|&row| scores_of(rows, row)).collect()
        };
        let group = candidate.group.as_ref().map(|of_row| {
            let n_before = of_row.iter().max().map_or(0, |it| *it as usize + 1);
            let mut renumbered = vec![u32::MAX; n_before];
            let mut n = 0;
            let of_row = source
                .iter()
                .map(|&row| {
                    let number = &mut renumbered[of_row[row as usize] as usize];
                    if *number == u32::MAX {
                        *number = n;
                        n += 1;
                    }
                    *number
                })
                .collect();
            Groups { of_row, n: n as usize }
        });
        Self {
            task: candidate.task,
            n_classes: candidate.classes.len(),
            label: source.iter().map(|&row| candidate.label[row as usize]).collect(),
            candidate: pick(candidate),
            baseline: baseline.map(pick),
            group,
            source,
        }
    }

    /// Rows.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.label.len()
    }

    /// What is drawn in a resample: groups where the schema declares them, else rows.
    #[must_use]
    pub fn n_units(&self) -> usize {
        self.group.as_ref().map_or(self.n_rows(), |it| it.n)
    }

    /// The groups, when rows are not independent.
    #[must_use]
    pub fn group(&self) -> Option<&Groups> {
        self.group.as_ref()
    }

    /// The task.
    #[must_use]
    pub fn task(&self) -> Task {
        self.task
    }

    /// Labels.
    #[must_use]
    pub fn label(&self) -> &[f32] {
        &self.label
    }

    /// The candidate's scores.
    #[must_use]
    pub fn candidate(&self) -> Scores<'_> {
        self.scores(&self.candidate)
    }

    /// The baseline's scores.
    #[must_use]
    pub fn baseline(&self) -> Option<Scores<'_>> {
        self.baseline.as_ref().map(|it| self.scores(it))
    }

    fn scores<'a>(&'a self, score: &'a [f32]) -> Scores<'a> {
        Scores { task: self.task, n_classes: self.n_classes, label: &self.label, score }
    }
}
