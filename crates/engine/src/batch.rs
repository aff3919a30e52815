//! From `core`'s [`Batch`] to tensors, after checking that it fits the plan: kernels index by what stands in it.

use std::ops::Range;

use burn::tensor::{DType, Device, Tensor, TensorData};
use karat_core::{Batch, FeaturePlan};
use karat_models::Inputs;

use crate::error::TrainError;

/// What a batch must look like.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    n_numeric: usize,
    cardinalities: Vec<u32>,
}

impl Shape {
    pub(crate) fn of(plan: &FeaturePlan) -> Self {
        Self { n_numeric: plan.n_numeric(), cardinalities: plan.cardinalities() }
    }

    /// An empty batch of this shape.
    pub(crate) fn empty(&self) -> Batch {
        Batch::new(self.n_numeric, self.cardinalities.len())
    }

    /// Refuses a batch that does not fit. A batch without labels fits when `wants_labels` is false.
    pub(crate) fn check(&self, batch: &Batch, wants_labels: bool) -> Result<(), TrainError> {
        let refuse = |fact: String| Err(TrainError::Batch { fact });
        let (n, n_categorical) = (batch.n_rows, self.cardinalities.len());
        for (what, found, expected) in [
            ("numbers", batch.numeric.len(), n * self.n_numeric),
            ("slots", batch.categorical.len(), n * n_categorical),
        ] {
            if found != expected {
                return refuse(format!("{found} {what} for {n} rows, the plan has {expected}"));
            }
        }
        if wants_labels && batch.label.len() != n {
            return refuse(format!("{} labels for {n} rows", batch.label.len()));
        }
        if !batch.weight.is_empty() && batch.weight.len() != n {
            return refuse(format!("{} weights for {n} rows", batch.weight.len()));
        }
        if 0 < n_categorical {
            for row in batch.categorical.chunks_exact(n_categorical) {
                for (slot, n_slots) in row.iter().zip(&self.cardinalities) {
                    if n_slots <= slot {
                        return refuse(format!("slot {slot} of a feature with {n_slots}"));
                    }
                }
            }
        }
        Ok(())
    }

    /// The rows `rows` of a batch that [`Shape::check`] accepted.
    pub(crate) fn inputs(&self, batch: &Batch, rows: Range<usize>, device: &Device) -> Inputs {
        let n = rows.len();
        let part = |width: usize| rows.start * width..rows.end * width;
        let (n_numeric, n_categorical) = (self.n_numeric, self.cardinalities.len());
        let numeric = batch.numeric[part(n_numeric)].to_vec();
        // A vocabulary has at most VOCABULARY_MAX + 2 slots: the cast keeps the number.
        let slots: Vec<i32> =
            batch.categorical[part(n_categorical)].iter().map(|slot| *slot as i32).collect();
        Inputs {
            numeric: Tensor::from_data(TensorData::new(numeric, [n, n_numeric]), device),
            slots: Tensor::from_data(
                TensorData::new(slots, [n, n_categorical]),
                (device, DType::I32),
            ),
            image: None,
        }
    }
}

/// A column of numbers on a device.
pub(crate) fn column(numbers: &[f32], device: &Device) -> Tensor<1> {
    Tensor::from_data(TensorData::new(numbers.to_vec(), [numbers.len()]), device)
}

/// What each row counts in the loss: its own weight times its class's. A label that is no class counts 1, so that the
/// loss shows it as NaN.
pub(crate) fn row_weights(batch: &Batch, class_weights: &[f64]) -> Vec<f32> {
    (0..batch.n_rows)
        .map(|row| {
            let own = batch.weight.get(row).copied().unwrap_or(1.0);
            let label = batch.label[row];
            let class = class_weights.get(label as usize).filter(|_| 0.0 <= label);
            (f64::from(own) * class.copied().unwrap_or(1.0)) as f32
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use karat_core::Batch;

    use super::{Shape, row_weights};

    fn batch() -> Batch {
        Batch {
            n_rows: 2,
            n_numeric: 1,
            n_categorical: 1,
            numeric: vec![1.0, 2.0],
            categorical: vec![0, 3],
            label: vec![0.0, 1.0],
            weight: vec![],
        }
    }

    #[test]
    fn a_batch_that_does_not_fit_is_refused_before_a_kernel_sees_it() {
        let shape = Shape { n_numeric: 1, cardinalities: vec![4] };
        shape.check(&batch(), true).expect("fits");
        for change in [
            |batch: &mut Batch| batch.n_rows = 3,
            |batch: &mut Batch| batch.numeric.push(1.0),
            |batch: &mut Batch| batch.categorical[1] = 4,
            |batch: &mut Batch| batch.label.clear(),
            |batch: &mut Batch| batch.weight.push(1.0),
        ] {
            let mut batch = batch();
            change(&mut batch);
            let error = shape.check(&batch, true).expect_err("does not fit");
            assert_eq!(karat_core::Failure::from(error).code.as_str(), "batch-malformed");
        }
    }

    #[test]
    fn rows_weigh_their_own_weight_times_their_class() {
        let mut batch = batch();
        assert_eq!(row_weights(&batch, &[]), [1.0, 1.0]);
        batch.weight = vec![2.0, 0.5];
        assert_eq!(row_weights(&batch, &[3.0, 10.0]), [6.0, 5.0]);
        batch.label = vec![f32::NAN, 1.0];
        assert_eq!(row_weights(&batch, &[3.0, 10.0]), [2.0, 5.0]);
    }
}
