//! Several labels for one row: every label becomes a row of its own, and what one row had stays together.
//!
//! People disagree, so the label of a row is itself a sample. Where a row has m labels, each of them is compared with the
//! row's score, and whole rows are resampled (docs/design/009-gate-statistics.md): the spread of row means then holds both
//! the choice of rows and the choice of labels, as in any cluster sample, and no second level has to be drawn. A metric is
//! so against a label picked at random, each label counting once.
//!
//! Wrong labels also shrink what can be seen: two labels of a row differ with probability 2ρ(1 − ρ), which gives the share
//! ρ of wrong ones ([`error_rate`]) and the factor 1 / (1 − 2ρ)² on the rows a question needs
//! ([`crate::power::label_noise_factor`]).

use std::borrow::Cow;

use karat_core::{
    ScoredRows,
    scored::{SliceColumn, Votes},
};

/// Rows as they are judged: one for every label.
#[derive(Clone, Debug)]
pub struct Wide<'a> {
    /// The rows.
    pub rows: Cow<'a, ScoredRows>,
    /// The row that each was made of; none where every row has one label and nothing changed.
    pub source: Option<Vec<u32>>,
}

impl Wide<'_> {
    /// How many rows of the predictions file these are; they are ascending.
    #[must_use]
    pub fn n_rows(&self, selected: &[u32]) -> u64 {
        let Some(source) = &self.source else { return selected.len() as u64 };
        let own = |at: &u32| source.get(*at as usize);
        let changes = selected.windows(2).filter(|it| own(&it[0]) != own(&it[1])).count();
        changes as u64 + u64::from(!selected.is_empty())
    }
}

/// One row for every label. Rows without votes, or with votes that do not fit them, stay as they are.
#[must_use]
pub fn one_row_a_label(rows: &ScoredRows) -> Wide<'_> {
    let Some(votes) = rows.votes.as_ref().filter(|it| fit(rows, it)) else {
        return Wide { rows: Cow::Borrowed(rows), source: None };
    };
    let n_outputs = rows.n_outputs();
    let source: Vec<usize> = (0..rows.n_rows())
        .flat_map(|row| std::iter::repeat_n(row, votes.of_row(row).len()))
        .collect();
    let own: Vec<u32> = (0..rows.n_rows() as u32).collect();
    let group = rows.group.as_ref().unwrap_or(&own);
    let again = |column: &SliceColumn| SliceColumn {
        codes: source.iter().map(|row| column.codes[*row]).collect(),
        ..column.clone()
    };
    let wide = ScoredRows {
        task: rows.task,
        classes: rows.classes.clone(),
        rows: rows.rows,
        label: (0..rows.n_rows()).flat_map(|row| votes.of_row(row).iter().copied()).collect(),
        score: source
            .iter()
            .flat_map(|row| rows.score[row * n_outputs..(row + 1) * n_outputs].iter().copied())
            .collect(),
        slices: rows.slices.iter().map(again).collect(),
        group: Some(source.iter().map(|row| group[*row]).collect()),
        names: match rows.names.len() == rows.n_rows() {
            true => source.iter().map(|row| rows.names[*row].clone()).collect(),
            false => Vec::new(),
        },
        votes: rows.votes.clone(),
    };
    Wide {
        rows: Cow::Owned(wide),
        source: Some(source.into_iter().map(|row| row as u32).collect()),
    }
}

/// The share of wrong labels among two classes, from how often two labels of one row differ: (1 − √(1 − 2d)) / 2. None
/// without a row that has two labels, and where labels are no better than a coin.
#[must_use]
pub fn error_rate(votes: &Votes) -> Option<f64> {
    let (mut pairs, mut differ) = (0.0, 0.0);
    for row in 0..votes.starts.len().saturating_sub(1) {
        let labels = votes.of_row(row);
        // Each row counts by its labels but one, so that one row with many labels does not speak for all.
        let n = labels.len() as f64;
        if n < 2.0 {
            continue;
        }
        let different = labels
            .iter()
            .enumerate()
            .flat_map(|(at, a)| labels[at + 1..].iter().map(move |b| a.to_bits() != b.to_bits()))
            .filter(|it| *it)
            .count() as f64;
        let of_pairs = n * (n - 1.0) / 2.0;
        pairs += n - 1.0;
        differ += (n - 1.0) * different / of_pairs;
    }
    if pairs <= 0.0 {
        return None;
    }
    let within = 1.0 - 2.0 * differ / pairs;
    (0.0 < within).then(|| 0.5 * (1.0 - libm::sqrt(within)))
}

/// One list a row, each with a label.
pub(crate) fn fit(rows: &ScoredRows, votes: &Votes) -> bool {
    votes.starts.len() == rows.n_rows() + 1
        && (0..rows.n_rows()).all(|row| !votes.of_row(row).is_empty())
        && rows.score.len() == rows.n_rows() * rows.n_outputs()
        && rows.slices.iter().all(|it| it.codes.len() == rows.n_rows())
}

#[cfg(test)]
mod tests {
    use karat_core::{metric::Metric, scored::Votes};

    use super::{error_rate, one_row_a_label};
    use crate::{
        estimate::{Form, Precision, Want, estimate},
        parallel::Serial,
        sample::Sample,
        testing::{assert_close, binary, family, uniforms},
    };

    fn votes(of_rows: &[&[f32]]) -> Votes {
        let mut made = Votes { starts: vec![0], labels: Vec::new() };
        for labels in of_rows {
            made.labels.extend_from_slice(labels);
            made.starts.push(made.labels.len() as u32);
        }
        made
    }

    #[test]
    fn every_label_is_a_row_and_one_rows_labels_stay_together() {
        let mut rows = binary(vec![1.0, 0.0], vec![0.9, 0.2]);
        rows.slices = vec![family("carrier", &["UA", "AA"])];
        rows.names = vec!["a".to_owned(), "b".to_owned()];
        rows.votes = Some(votes(&[&[1.0, 1.0, 0.0], &[0.0]]));
        let wide = one_row_a_label(&rows);
        assert_eq!(wide.source, Some(vec![0, 0, 0, 1]));
        let n_rows = [&[0_u32, 1, 2, 3][..], &[0, 2], &[2, 3], &[]].map(|it| wide.n_rows(it));
        assert_eq!(n_rows, [2, 1, 2, 0]);
        let wide = wide.rows;
        assert_eq!(wide.label, [1.0, 1.0, 0.0, 0.0]);
        assert_eq!(wide.score, [0.9, 0.9, 0.9, 0.2]);
        assert_eq!(wide.group, Some(vec![0, 0, 0, 1]));
        assert_eq!(wide.slices[0].codes, [1, 1, 1, 0]);
        assert_eq!(wide.names, ["a", "a", "a", "b"]);
        // A declared group is wider than a row.
        rows.group = Some(vec![7, 7]);
        assert_eq!(one_row_a_label(&rows).rows.group, Some(vec![7; 4]));
        // Votes for other rows change nothing.
        rows.votes = Some(votes(&[&[1.0]]));
        assert_eq!(*one_row_a_label(&rows).rows, rows);
        rows.votes = None;
        assert_eq!(*one_row_a_label(&rows).rows, rows);
    }

    #[test]
    fn the_share_of_wrong_labels_follows_from_how_often_two_differ() {
        assert_eq!(error_rate(&votes(&[&[1.0], &[0.0]])), None);
        assert_eq!(error_rate(&votes(&[&[1.0, 1.0], &[0.0, 0.0]])), Some(0.0));
        // One pair of four differs: d = 1/4, ρ = (1 − √½)/2.
        let found = error_rate(&votes(&[&[1.0, 0.0], &[0.0, 0.0], &[1.0, 1.0], &[0.0, 0.0]]));
        assert_close(found.expect("pairs"), 0.5 * (1.0 - libm::sqrt(0.5)), 1e-12);
        assert_eq!(error_rate(&votes(&[&[1.0, 0.0]])), None);
    }

    /// Accuracy against labels that are wrong one time in five: the standard error is the one that 300 rows with two labels
    /// have, √(within/2 + between)/√300, and not that of 600 independent labels.
    #[test]
    fn an_interval_holds_the_choice_of_rows_and_of_labels() {
        let n = 300;
        let flip: Vec<f32> = uniforms("votes/flip", 2 * n);
        let truth: Vec<f32> = (0..n).map(|row| (row % 2) as f32).collect();
        let given: Vec<[f32; 2]> =
            (0..n)
                .map(|row| {
                    [0, 1].map(|vote| {
                        if flip[2 * row + vote] < 0.2 { 1.0 - truth[row] } else { truth[row] }
                    })
                })
                .collect();
        let of_rows: Vec<&[f32]> = given.iter().map(<[f32; 2]>::as_slice).collect();
        let mut rows = binary(truth.clone(), truth.iter().map(|y| 0.1 + 0.8 * y).collect());
        rows.votes = Some(votes(&of_rows));
        let wide = one_row_a_label(&rows).rows;
        let all: Vec<u32> = (0..wide.n_rows() as u32).collect();
        let sample = Sample::new(&wide, None, &all);
        let precision = Precision { reliability: 0.95, n_resamples: 9_999, name: "votes" };
        let want = Want { metric: Metric::Accuracy, form: Form::Value };
        let found = estimate(&[want], &sample, precision, &Serial).remove(0).expect("measured");
        let means: Vec<f64> = given
            .iter()
            .zip(&truth)
            .map(|(labels, y)| {
                labels.iter().filter(|it| (**it - *y).abs() < 0.5).count() as f64 / 2.0
            })
            .collect();
        let mean = means.iter().sum::<f64>() / n as f64;
        let variance = means.iter().map(|it| (it - mean) * (it - mean)).sum::<f64>() / n as f64;
        assert_close(found.value, mean, 1e-12);
        assert_close(found.standard_error, libm::sqrt(variance / n as f64), 0.03);
        // The settled label alone would say: always right, nothing to doubt.
        let settled = binary(truth.clone(), truth.iter().map(|y| 0.1 + 0.8 * y).collect());
        let all: Vec<u32> = (0..n as u32).collect();
        let sample = Sample::new(&settled, None, &all);
        let found = estimate(&[want], &sample, precision, &Serial).remove(0).expect("measured");
        assert_close(found.value, 1.0, 1e-15);
    }
}
