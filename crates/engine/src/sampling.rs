//! Which rows are drawn how often: the weights behind `train.sampling`, counted once before the first update.

use karat_core::{
    Failure, FeaturePlan, LabelPlan, TrainSpec, port::EncodedRows, project::Sampling,
};

use crate::{batch::Shape, error::TrainError, schedule::Order};

/// Rows fetched at a time.
const FETCH: u64 = 1 << 16;

/// The order that `spec` asks for over `rows`.
pub(crate) fn order(
    spec: &TrainSpec,
    plan: &FeaturePlan,
    shape: &Shape,
    rows: &mut dyn EncodedRows,
) -> Result<Order, Failure> {
    let n_rows = rows.n_rows();
    match spec.sampling {
        Sampling::Uniform => return Ok(Order::shuffled(spec, n_rows)),
        Sampling::Balanced if matches!(plan.label, LabelPlan::Regression { .. }) => {
            return Err(TrainError::SamplingWithoutClasses.into());
        }
        Sampling::Weight if plan.weight.is_none() => {
            return Err(TrainError::SamplingWithoutWeights.into());
        }
        Sampling::Balanced | Sampling::Weight => {}
    }
    let (mut batch, mut found) = (shape.empty(), Vec::new());
    for first in (0..n_rows).step_by(FETCH as usize) {
        let part: Vec<u64> = (first..(first + FETCH).min(n_rows)).collect();
        rows.fetch(&part, &mut batch)?;
        shape.check(&batch, true)?;
        found.extend_from_slice(match spec.sampling {
            Sampling::Weight => &batch.weight,
            Sampling::Uniform | Sampling::Balanced => &batch.label,
        });
    }
    let weights = match spec.sampling {
        Sampling::Weight => found.into_iter().map(f64::from).collect(),
        Sampling::Uniform | Sampling::Balanced => {
            one_each_class(&found, plan.label.classes().len())
        }
    };
    Ok(Order::weighted(spec, &weights)?)
}

/// Weights under which every class that occurs is drawn equally often. A label that is no class is never drawn.
fn one_each_class(labels: &[f32], n_classes: usize) -> Vec<f64> {
    let class = |label: f32| (0.0 <= label && label < n_classes as f32).then_some(label as usize);
    let mut counts = vec![0_u64; n_classes];
    for label in labels {
        if let Some(class) = class(*label) {
            counts[class] += 1;
        }
    }
    labels.iter().map(|label| class(*label).map_or(0.0, |it| 1.0 / counts[it] as f64)).collect()
}

#[cfg(test)]
mod tests {
    use super::one_each_class;

    #[test]
    fn every_class_weighs_the_same_however_rare() {
        let weights = one_each_class(&[0.0, 0.0, 0.0, 1.0, 2.0, 2.0, f32::NAN, 3.0], 3);
        let expected = [1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0, 1.0, 0.5, 0.5, 0.0, 0.0];
        for (found, expected) in weights.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-15, "{weights:?}");
        }
    }
}
