//! From `core`'s [`Batch`] to tensors, after checking that it fits the plan: kernels index by what stands in it.

use std::ops::Range;

use burn::tensor::{DType, Device, Tensor, TensorData};
use karat_core::{Batch, FeaturePlan, ImagePlan};
use karat_models::Inputs;

use crate::error::TrainError;

/// Images of one forward pass outside of training.
const IMAGES: usize = 128;

/// What a batch must look like.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    n_numeric: usize,
    cardinalities: Vec<u32>,
    image: Option<Image>,
}

/// What the image of a row must be, and what its bytes become.
#[derive(Clone, Debug)]
struct Image {
    channels: usize,
    height: usize,
    width: usize,
    /// The number that byte `b` of channel `c` becomes, at `256 · c + b`: a byte has no more than 256 values.
    numbers: Vec<f32>,
}

impl Image {
    fn of(plan: &ImagePlan) -> Self {
        let channels = plan.channels as usize;
        let number = |c: usize, b: usize| (b as f64 / 255.0 - plan.mean[c]) / plan.std[c];
        Self {
            channels,
            height: plan.height as usize,
            width: plan.width as usize,
            numbers: (0..256 * channels).map(|i| number(i / 256, i % 256) as f32).collect(),
        }
    }

    fn n_bytes(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// `pixels` of `n` rows as numbers of the plan.
    fn tensor(&self, pixels: &[u8], n: usize, device: &Device) -> Tensor<4> {
        let planes = pixels.chunks_exact(self.height * self.width).enumerate();
        let mut standardised = Vec::with_capacity(pixels.len());
        for (at, plane) in planes {
            let numbers = &self.numbers[256 * (at % self.channels)..][..256];
            standardised.extend(plane.iter().map(|byte| numbers[usize::from(*byte)]));
        }
        let shape = [n, self.channels, self.height, self.width];
        Tensor::from_data(TensorData::new(standardised, shape), device)
    }
}

impl Shape {
    pub(crate) fn of(plan: &FeaturePlan) -> Self {
        Self {
            n_numeric: plan.n_numeric(),
            cardinalities: plan.cardinalities(),
            image: plan.image.as_ref().map(Image::of),
        }
    }

    /// Rows of one forward pass, `most` at most: what a convolution makes of an image takes a hundred times its room.
    pub(crate) fn rows_at_once(&self, most: usize) -> usize {
        if self.image.is_some() { most.min(IMAGES) } else { most }
    }

    /// An empty batch of this shape.
    pub(crate) fn empty(&self) -> Batch {
        let n_pixels = self.image.as_ref().map_or(0, Image::n_bytes);
        Batch { n_pixels, ..Batch::new(self.n_numeric, self.cardinalities.len()) }
    }

    /// Refuses a batch that does not fit. A batch without labels fits when `wants_labels` is false.
    pub(crate) fn check(&self, batch: &Batch, wants_labels: bool) -> Result<(), TrainError> {
        let refuse = |fact: String| Err(TrainError::Batch { fact });
        let (n, n_categorical) = (batch.n_rows, self.cardinalities.len());
        let n_pixels = self.image.as_ref().map_or(0, Image::n_bytes);
        for (what, found, expected) in [
            ("numbers", batch.numeric.len(), n * self.n_numeric),
            ("slots", batch.categorical.len(), n * n_categorical),
            ("bytes of images", batch.pixels.len(), n * n_pixels),
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
            image: self
                .image
                .as_ref()
                .map(|image| image.tensor(&batch.pixels[part(image.n_bytes())], n, device)),
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
    use burn::tensor::Device;
    use karat_core::{Batch, ImagePlan};

    use super::{Image, Shape, row_weights};

    fn batch() -> Batch {
        Batch {
            n_rows: 2,
            n_numeric: 1,
            n_categorical: 1,
            numeric: vec![1.0, 2.0],
            categorical: vec![0, 3],
            label: vec![0.0, 1.0],
            ..Batch::default()
        }
    }

    #[test]
    fn a_batch_that_does_not_fit_is_refused_before_a_kernel_sees_it() {
        let shape = Shape { n_numeric: 1, cardinalities: vec![4], image: None };
        shape.check(&batch(), true).expect("fits");
        for change in [
            |batch: &mut Batch| batch.n_rows = 3,
            |batch: &mut Batch| batch.numeric.push(1.0),
            |batch: &mut Batch| batch.categorical[1] = 4,
            |batch: &mut Batch| batch.label.clear(),
            |batch: &mut Batch| batch.weight.push(1.0),
            |batch: &mut Batch| batch.pixels.push(1),
        ] {
            let mut batch = batch();
            change(&mut batch);
            let error = shape.check(&batch, true).expect_err("does not fit");
            assert_eq!(karat_core::Failure::from(error).code.as_str(), "batch-malformed");
        }
    }

    #[test]
    fn bytes_become_standardised_images_of_the_asked_rows() {
        let plan = ImagePlan {
            column: "picture".to_owned(),
            channels: 2,
            height: 1,
            width: 3,
            mean: vec![0.0, 0.2],
            std: vec![1.0, 0.4],
        };
        let shape = Shape { n_numeric: 0, cardinalities: vec![], image: Some(Image::of(&plan)) };
        let mut batch = shape.empty();
        batch.n_rows = 2;
        batch.pixels = vec![9, 9, 9, 9, 9, 9, 0, 51, 255, 0, 51, 255];
        shape.check(&batch, false).expect("fits");
        let inputs = shape.inputs(&batch, 1..2, &Device::flex());
        let image = inputs.image.expect("the plan has one");
        assert_eq!(image.dims(), [1, 2, 1, 3]);
        let found: Vec<f32> = image.try_into_data().expect("a CPU answers").iter::<f32>().collect();
        let expected = [0.0, 0.2, 1.0, -0.5, 0.0, 2.0];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
        assert_eq!(inputs.numeric.dims(), [1, 0]);
        batch.pixels.pop();
        shape.check(&batch, false).expect_err("a byte is gone");
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
