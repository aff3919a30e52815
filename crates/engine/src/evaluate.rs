//! Looking at the eval split: loss, and one metric that says how good that is, without gradients and dropout.

use karat_core::{Batch, metric::Metric};
use karat_kernels::{
    loss::{Loss, weighted_mean},
    precision::in_precision,
};
use karat_models::Model;

use crate::{
    batch::{column, row_weights},
    device,
    error::TrainError,
    update::Setting,
};

/// Rows of one forward pass, where memory allows.
pub(crate) const ROWS: usize = 4096;

/// What the rows looked at so far add up to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Weighted losses.
    loss: f64,
    weight: f64,
    n_rows: f64,
    /// Rows whose likeliest class is theirs.
    n_right: f64,
    /// Squared errors.
    errors: f64,
    labels: f64,
    squared_labels: f64,
}

impl Tally {
    /// Weighted mean loss; NaN when nothing weighs.
    pub(crate) fn loss(&self) -> f64 {
        if 0.0 < self.weight { self.loss / self.weight } else { f64::NAN }
    }

    /// Accuracy, or R² for a number; rows count alike, whatever they weigh.
    pub(crate) fn metric(&self, loss: Loss) -> (Metric, f64) {
        match loss {
            Loss::Squared => {
                let spread = self.squared_labels - self.labels * self.labels / self.n_rows;
                (Metric::R2, 1.0 - self.errors / spread)
            }
            Loss::Binary | Loss::Multiclass | Loss::Smoothed { .. } => {
                (Metric::Accuracy, self.n_right / self.n_rows)
            }
        }
    }

    /// Adds the rows of `batch`, which must fit the setting's shape, `n_rows` at a time. `model` may lie on either device.
    pub(crate) fn look(
        &mut self,
        model: &Model,
        setting: &Setting,
        batch: &Batch,
        n_rows: usize,
    ) -> Result<(), TrainError> {
        let weights = row_weights(batch, &setting.class_weights);
        self.weight += weights.iter().map(|weight| f64::from(*weight)).sum::<f64>();
        let n = setting.shape.rows_at_once(n_rows);
        for first in (0..batch.n_rows).step_by(n) {
            let rows = first..(first + n).min(batch.n_rows);
            let labels = &batch.label[rows.clone()];
            let inputs = setting.shape.inputs(batch, rows.clone(), &setting.device);
            let z = in_precision(setting.precision, || model.forward(inputs, None));
            self.compare(setting.loss, &device::read(z.clone())?, labels);
            let loss = weighted_mean(
                setting.loss,
                z,
                column(labels, &setting.device),
                column(&weights[rows], &setting.device),
                1.0,
            );
            self.loss += device::read_number(loss)?;
        }
        Ok(())
    }

    fn compare(&mut self, loss: Loss, z: &[f32], labels: &[f32]) {
        for (z, label) in z.chunks_exact((z.len() / labels.len().max(1)).max(1)).zip(labels) {
            let y = f64::from(*label);
            self.n_rows += 1.0;
            match loss {
                Loss::Squared => {
                    self.errors += (f64::from(z[0]) - y).powi(2);
                    self.labels += y;
                    self.squared_labels += y * y;
                }
                Loss::Binary => self.n_right += f64::from(u8::from((0.0 < z[0]) == (0.5 < *label))),
                Loss::Multiclass | Loss::Smoothed { .. } => {
                    let own = z.get(*label as usize).copied().unwrap_or(f32::NAN);
                    self.n_right += f64::from(u8::from(z.iter().all(|it| *it <= own)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use karat_core::metric::Metric;
    use karat_kernels::loss::Loss;

    use super::Tally;

    fn metric(loss: Loss, z: &[f32], labels: &[f32]) -> (Metric, f64) {
        let mut tally = Tally::default();
        tally.compare(loss, z, labels);
        tally.metric(loss)
    }

    #[test]
    fn metrics_are_those_of_their_definitions() {
        let close = |(found, value): (Metric, f64), (metric, expected): (Metric, f64)| {
            assert_eq!(found, metric);
            assert!((value - expected).abs() < 1e-12, "{value}, expected {expected}");
        };
        let binary = metric(Loss::Binary, &[-1.0, 2.0, 0.5, -0.1], &[0.0, 1.0, 0.0, 1.0]);
        close(binary, (Metric::Accuracy, 0.5));
        let many = metric(Loss::Multiclass, &[1.0, 2.0, 3.0, 9.0, 2.0, 3.0], &[2.0, 1.0]);
        close(many, (Metric::Accuracy, 0.5));
        // Errors 1, 0, 1 around labels 1, 2, 6 with mean 3: 1 - 2 / 14.
        let number = metric(Loss::Squared, &[2.0, 2.0, 5.0], &[1.0, 2.0, 6.0]);
        close(number, (Metric::R2, 1.0 - 2.0 / 14.0));
        assert!(metric(Loss::Squared, &[1.0], &[1.0]).1.is_nan(), "one label has no spread");
    }
}
