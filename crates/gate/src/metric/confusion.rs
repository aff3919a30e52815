//! Metrics of the confusion table: balanced accuracy, precision, recall, F1.
//!
//! Binary: of the positive class, predicted from 0.5 on. Multiclass: unweighted means over classes. Recall and balanced
//! accuracy average over classes that have rows; precision and F1 over classes that have rows or predictions, and a
//! class with rows but no predictions has precision 0.

use karat_core::{Task, metric::Metric};

use super::{LANES, NotMeasured, Scores, Statistic, Weights};

/// One of the four, as a function of the counts in each cell that occurs.
#[derive(Clone, Debug)]
pub struct Confusion {
    metric: Metric,
    task: Task,
    n_classes: usize,
    /// Index of each row's cell.
    cell: Vec<u32>,
    /// (label, predicted) of each cell that occurs.
    cells: Vec<(usize, usize)>,
}

/// Rows, predictions and hits by class.
struct Margins {
    labelled: Vec<u64>,
    predicted: Vec<u64>,
    hit: Vec<u64>,
}

impl Confusion {
    pub(super) fn new(metric: Metric, scores: &Scores<'_>) -> Result<Self, NotMeasured> {
        let codes: Vec<(usize, usize)> = scores
            .label
            .iter()
            .enumerate()
            .map(|(row, label)| (*label as usize, scores.predicted_class(row)))
            .collect();
        let mut cells = codes.clone();
        cells.sort_unstable();
        cells.dedup();
        let find = |code| cells.binary_search(code).expect("collected from the same rows") as u32;
        let cell = codes.iter().map(find).collect();
        let made = Self { metric, task: scores.task, n_classes: scores.n_classes, cell, cells };
        let margins = made.margins(&made.counts_of_all());
        let n_present = margins.labelled.iter().filter(|it| 0 < **it).count();
        let reason = match (metric, scores.task) {
            (Metric::BalancedAccuracy, _) if n_present < 2 => "all rows have the same label",
            (Metric::Recall | Metric::F1, Task::Binary) if margins.labelled[1] == 0 => {
                "no row is positive"
            }
            (Metric::Precision, Task::Binary) if margins.predicted[1] == 0 => {
                "no row is predicted positive"
            }
            _ => return Ok(made),
        };
        Err(NotMeasured::new(reason))
    }

    fn counts_of_all(&self) -> Vec<u64> {
        let mut counts = vec![0; self.cells.len()];
        for cell in &self.cell {
            counts[*cell as usize] += 1;
        }
        counts
    }

    fn margins(&self, counts: &[u64]) -> Margins {
        let zeros = || vec![0; self.n_classes];
        let mut margins = Margins { labelled: zeros(), predicted: zeros(), hit: zeros() };
        for ((label, predicted), count) in self.cells.iter().zip(counts) {
            margins.labelled[*label] += count;
            margins.predicted[*predicted] += count;
            if label == predicted {
                margins.hit[*label] += count;
            }
        }
        margins
    }

    fn of_counts(&self, counts: &[u64]) -> f64 {
        let margins = self.margins(counts);
        let of_class = |class: usize| {
            let (labelled, predicted, hit) =
                (margins.labelled[class], margins.predicted[class], margins.hit[class] as f64);
            match self.metric {
                // 0 / 0 is NaN for binary, as it should be: nothing was predicted, so precision says nothing.
                Metric::Precision => {
                    if predicted == 0 && 0 < labelled && self.task == Task::Multiclass {
                        0.0
                    } else {
                        hit / predicted as f64
                    }
                }
                Metric::F1 => 2.0 * hit / (labelled + predicted) as f64,
                _ => hit / labelled as f64,
            }
        };
        if self.task == Task::Binary && self.metric != Metric::BalancedAccuracy {
            return of_class(1);
        }
        let counts_in = |class: &usize| match self.metric {
            Metric::Precision | Metric::F1 => {
                0 < margins.labelled[*class] + margins.predicted[*class]
            }
            _ => 0 < margins.labelled[*class],
        };
        let values: Vec<f64> = (0..self.n_classes).filter(counts_in).map(of_class).collect();
        if self.metric == Metric::BalancedAccuracy && values.len() < 2 {
            return f64::NAN;
        }
        values.iter().sum::<f64>() / values.len() as f64
    }
}

impl Confusion {
    fn of<const L: usize>(&self, weights: Weights<'_, L>) -> [f64; L] {
        let mut cells = vec![[0_i32; L]; self.cells.len()];
        for (cell, counts) in self.cell.iter().zip(weights.counts) {
            for (sum, count) in cells[*cell as usize].iter_mut().zip(counts) {
                *sum = sum.wrapping_add(i32::from(*count));
            }
        }
        std::array::from_fn(|lane| {
            let counts: Vec<u64> = cells.iter().map(|it| it[lane] as u64).collect();
            self.of_counts(&counts)
        })
    }
}

impl Statistic for Confusion {
    fn value(&self, weights: Weights<'_, 1>) -> f64 {
        self.of(weights)[0]
    }

    fn values(&self, weights: Weights<'_, LANES>) -> [f64; LANES] {
        self.of(weights)
    }

    fn leave_one_out(&self) -> Option<Vec<f64>> {
        // Rows of one cell are alike, so there are only as many answers as cells.
        let mut counts = self.counts_of_all();
        let answers: Vec<f64> = (0..counts.len())
            .map(|cell| {
                counts[cell] -= 1;
                let value = self.of_counts(&counts);
                counts[cell] += 1;
                value
            })
            .collect();
        Some(self.cell.iter().map(|it| answers[*it as usize]).collect())
    }
}
