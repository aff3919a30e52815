//! The naive baseline: the same answer for every row, made from the judged rows' own labels.
//!
//! Class shares for classification, so that its log loss is the entropy of the labels and its AUC is ½; the mean for
//! regression, so that its R² is 0. A model that cannot beat it has learnt nothing.

use karat_core::{ScoredRows, Task};

/// `rows` with constant scores.
#[must_use]
pub fn naive(rows: &ScoredRows) -> ScoredRows {
    let n = rows.n_rows();
    let finite = || rows.label.iter().filter(|it| it.is_finite());
    let n_finite = finite().count().max(1) as f64;
    let answer: Vec<f32> = match rows.task {
        Task::Binary | Task::Regression => {
            vec![(finite().map(|it| f64::from(*it)).sum::<f64>() / n_finite) as f32]
        }
        Task::Multiclass => {
            let mut counts = vec![0.0; rows.classes.len()];
            for label in finite() {
                if let Some(count) = counts.get_mut(*label as usize) {
                    *count += 1.0;
                }
            }
            counts.into_iter().map(|count: f64| (count / n_finite) as f32).collect()
        }
    };
    ScoredRows { score: answer.repeat(n), ..rows.clone() }
}

#[cfg(test)]
mod tests {
    use karat_core::{Task, metric::Metric};

    use super::naive;
    use crate::{
        metric::{Scores, measure},
        testing::{assert_close, rows},
    };

    #[test]
    fn naive_answers_have_the_values_they_must_have() {
        let of = |rows: &karat_core::ScoredRows, metric| {
            let rows = naive(rows);
            measure(
                metric,
                &Scores {
                    task: rows.task,
                    n_classes: rows.classes.len(),
                    label: &rows.label,
                    score: &rows.score,
                },
            )
            .expect("measurable")
        };
        let label = vec![1.0, 0.0, 0.0, 0.0];
        let binary = rows(Task::Binary, &["no", "yes"], label.clone(), vec![0.9; 4]);
        assert_close(of(&binary, Metric::Auc), 0.5, 1e-15);
        assert_close(of(&binary, Metric::Accuracy), 0.75, 1e-15);
        let entropy = -(0.25_f64.ln() + 3.0 * 0.75_f64.ln()) / 4.0;
        assert_close(of(&binary, Metric::LogLoss), entropy, 1e-12);
        let classes = rows(Task::Multiclass, &["a", "b", "c"], vec![2.0, 2.0, 1.0], vec![0.3; 9]);
        assert_close(of(&classes, Metric::Accuracy), 2.0 / 3.0, 1e-15);
        let values = rows(Task::Regression, &[], vec![1.0, 2.0, 6.0], vec![0.0; 3]);
        assert_close(of(&values, Metric::R2), 0.0, 1e-12);
    }
}
