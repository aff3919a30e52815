//! Scoring: weights from a file, rows in, probabilities or values in the label's own unit out.

use std::sync::Arc;

use karat_core::{
    Batch, Failure, FeaturePlan, LabelPlan, TrainSpec, port::Scoring, tensors::Tensors,
};
use karat_kernels::{
    bce::sigmoid,
    cross_entropy::softmax,
    frozen::{Frozen, with_frozen},
    precision::{Precision, in_precision},
};
use karat_models::Model;
use rayon::{ThreadPool, prelude::*};

use crate::{
    batch::Shape,
    device::{self, DeviceName, Opened},
    error::TrainError,
    network,
};

/// Rows that go through all layers together on the CPU: what a layer leaves stays in a core's cache.
const PART: usize = 512;
/// The same on a GPU: enough to keep it busy.
const PART_GPU: usize = 8192;

/// A model ready to score. A row's score does not depend on its batch: every product is one chain of additions.
pub(crate) struct Scorer {
    model: Model,
    /// Its weights as products read them.
    frozen: Arc<Frozen>,
    shape: Shape,
    label: LabelPlan,
    /// That of the training: weights are tuned to it.
    precision: Precision,
    opened: Opened,
    threads: Arc<ThreadPool>,
    /// Rows that go through all layers together.
    n_rows: usize,
}

impl Scorer {
    /// Opens the weights in `model`, refusing any that are not exactly those of `spec` and `plan`.
    pub(crate) fn open(
        spec: &TrainSpec,
        plan: &FeaturePlan,
        model: &[u8],
        device: &str,
    ) -> Result<Self, Failure> {
        let opened = Opened::open(DeviceName::parse(device)?)?;
        let config = network::config(spec, plan)?;
        let file = Tensors::parse(model)?;
        network::expect_weights(&config, &file)?;
        Ok(Self {
            threads: Arc::new(opened.threads(spec.threads)?),
            n_rows: if opened.is_cpu() { PART } else { PART_GPU },
            model: network::from_file(&config, &file, &opened.device),
            frozen: Arc::default(),
            shape: Shape::of(plan),
            label: plan.label.clone(),
            precision: network::precision(spec),
            opened,
        })
    }

    /// With fewer rows at once where the device has no memory for more: a row's score does not depend on it.
    fn logits(&mut self, batch: &Batch) -> Result<Vec<f32>, TrainError> {
        self.shape.check(batch, false)?;
        loop {
            let n_rows = self.n_rows;
            match self.opened.attempt(n_rows, || self.forward(batch, n_rows)) {
                Err(TrainError::OutOfMemory { .. }) if 1 < n_rows => {
                    self.opened.device.memory_cleanup();
                    self.n_rows = n_rows.div_ceil(2);
                }
                result => return result,
            }
        }
    }

    fn forward(&self, batch: &Batch, n_rows: usize) -> Result<Vec<f32>, TrainError> {
        // Whole rows through all layers, a part at a time: what a layer leaves is still in the cache for the next, and
        // threads meet once a batch instead of once a layer.
        let n_rows = self.shape.rows_at_once(n_rows);
        let parts = (0..batch.n_rows.div_ceil(n_rows)).into_par_iter().map(|part| {
            let rows = part * n_rows..((part + 1) * n_rows).min(batch.n_rows);
            let inputs = self.shape.inputs(batch, rows, &self.opened.device);
            let forward = || in_precision(self.precision, || self.model.forward(inputs, None));
            device::read(with_frozen(&self.frozen, forward))
        });
        Ok(parts.collect::<Result<Vec<Vec<f32>>, TrainError>>()?.concat())
    }
}

impl Scoring for Scorer {
    fn score(&mut self, batch: &Batch) -> Result<Vec<f32>, Failure> {
        if batch.n_rows == 0 {
            return Ok(Vec::new());
        }
        let threads = Arc::clone(&self.threads);
        let mut scores = threads.install(|| self.logits(batch))?;
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
