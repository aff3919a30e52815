//! Scoring: weights from a file, rows in, probabilities or values in the label's own unit out.

use burn::tensor::Device;
use karat_core::{
    Batch, Failure, FeaturePlan, LabelPlan, TrainSpec, port::Scoring, tensors::Tensors,
};
use karat_kernels::{
    bce::sigmoid,
    cross_entropy::softmax,
    precision::{Precision, in_precision},
};
use karat_models::Model;
use rayon::{ThreadPool, prelude::*};

use crate::{
    batch::Shape,
    device::{self, Class},
    error::TrainError,
    network,
};

/// Rows that go through all layers together.
const PART: usize = 512;

/// A model ready to score. A row's score does not depend on its batch: every product is one chain of additions.
pub(crate) struct Scorer {
    model: Model,
    shape: Shape,
    label: LabelPlan,
    /// That of the training: weights are tuned to it.
    precision: Precision,
    device: Device,
    threads: ThreadPool,
}

impl Scorer {
    /// Opens the weights in `model`, refusing any that are not exactly those of `spec` and `plan`.
    pub(crate) fn open(
        spec: &TrainSpec,
        plan: &FeaturePlan,
        model: &[u8],
        device: &str,
    ) -> Result<Self, Failure> {
        let device = Class::of(device)?.open();
        let config = network::config(spec, plan)?;
        let file = Tensors::parse(model)?;
        network::expect_weights(&config, &file)?;
        Ok(Self {
            model: network::from_file(&config, &file, &device),
            shape: Shape::of(plan),
            label: plan.label.clone(),
            precision: network::precision(spec),
            device,
            threads: device::threads(spec.threads)?,
        })
    }

    fn logits(&self, batch: &Batch) -> Result<Vec<f32>, TrainError> {
        self.shape.check(batch, false)?;
        // Whole rows through all layers, a part at a time: what a layer leaves is still in the cache for the next, and
        // threads meet once a batch instead of once a layer.
        let n = self.shape.rows_at_once(PART);
        let parts = (0..batch.n_rows.div_ceil(n)).into_par_iter().map(|part| {
            let rows = part * n..((part + 1) * n).min(batch.n_rows);
            let inputs = self.shape.inputs(batch, rows, &self.device);
            device::read(in_precision(self.precision, || self.model.forward(inputs, None)))
        });
        Ok(parts.collect::<Result<Vec<Vec<f32>>, TrainError>>()?.concat())
    }
}

impl Scoring for Scorer {
    fn score(&mut self, batch: &Batch) -> Result<Vec<f32>, Failure> {
        if batch.n_rows == 0 {
            return Ok(Vec::new());
        }
        let this = &*self;
        let mut scores = this.threads.install(|| this.logits(batch))?;
        match &self.label {
            LabelPlan::Binary { .. } => {
                scores.iter_mut().for_each(|z| *z = sigmoid(f64::from(*z)) as f32);
            }
            LabelPlan::Multiclass { classes, .. } => {
                let mut p = vec![0.0; classes.len()];
                for z in scores.chunks_exact_mut(classes.len()) {
                    softmax(z, &mut p);
                    z.iter_mut().zip(&p).for_each(|(z, p)| *z = *p as f32);
                }
            }
            LabelPlan::Regression { mean, std, .. } => {
                scores.iter_mut().for_each(|z| *z = (f64::from(*z) * std + mean) as f32);
            }
        }
        Ok(scores)
    }
}
