//! One update: forward and backward over its micro-batches, global-norm clip, optimizer, average weights. Nothing here
//! knows what an epoch is.

use burn::{
    module::Module as _,
    tensor::{Device, Tensor},
};
use karat_core::{
    Batch,
    port::Part,
    project::OptimizerSpec,
    rng::{Purpose, Stream},
};
use karat_kernels::{
    ema::ema,
    global_norm::{clip_factor, square_sum},
    loss::{Loss, weighted_mean},
    philox::Draw,
    precision::{Precision, in_precision},
};
use karat_models::{Config, Model, parameter};

use crate::{
    batch::{Shape, column, row_weights},
    device,
    error::TrainError,
    optimizer::{self, Step},
};

/// What stays the same for all updates of a run.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) shape: Shape,
    /// What the eval split is measured by.
    pub(crate) loss: Loss,
    /// Share of a label that is spread over all classes while training.
    pub(crate) label_smoothing: f64,
    pub(crate) class_weights: Vec<f64>,
    pub(crate) seed: u64,
    pub(crate) precision: Precision,
    /// Micro-batches of an update.
    pub(crate) accumulate: usize,
    pub(crate) clip_norm: f64,
    pub(crate) optimizer: OptimizerSpec,
    /// Weight decay of each parameter.
    pub(crate) weight_decay: Vec<f64>,
    /// Share of the average weights that an update keeps.
    pub(crate) ema: Option<f64>,
    /// Without gradients.
    pub(crate) device: Device,
}

/// What changes with every update; everything that is not the model is flat and without gradients, in the order of
/// [`Config::parameters`].
pub(crate) struct Learner {
    pub(crate) model: Model,
    /// What the optimizer carries, for each parameter: see [`optimizer::moments`].
    pub(crate) moments: Vec<Vec<Tensor<1>>>,
    /// The average weights; nothing before the first update, or where none are asked for.
    pub(crate) average: Option<Vec<Tensor<1>>>,
}

/// Where an update stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    /// Updates before it: the position of its random draws.
    pub(crate) update: u64,
    /// The optimizer's count, from 1: skipped updates are not in it.
    pub(crate) step: u64,
    pub(crate) learning_rate: f64,
}

/// What an update saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// Weighted mean over its rows.
    pub(crate) loss: f64,
    /// Norm of all gradients before clipping.
    pub(crate) gradient_norm: f64,
}

impl Seen {
    pub(crate) fn is_finite(&self) -> bool {
        self.loss.is_finite() && self.gradient_norm.is_finite()
    }
}

impl Learner {
    /// `model`, on the autodiff device, before its first update.
    pub(crate) fn fresh(config: &Config, model: Model, setting: &Setting) -> Self {
        let zeros = |n: usize| Tensor::<1>::zeros([n], &setting.device);
        let names = optimizer::moments(setting.optimizer);
        let parameters = config.parameters();
        let moments =
            parameters.iter().map(|it| names.iter().map(|_| zeros(it.n_elements())).collect());
        Self { model, moments: moments.collect(), average: None }
    }

    /// The weights that count, without gradients: the average, where there is one.
    pub(crate) fn evaluated(&self) -> Model {
        let model = self.model.valid();
        match &self.average {
            Some(average) => parameter::map(model, &mut |i, _| average[i].clone()),
            None => model,
        }
    }

    /// The gradients of `batch`, which must fit the setting's shape, added over micro-batches of at most `n_rows_max` rows,
    /// and what was seen on the way. Changes nothing, so it can be tried again with fewer rows.
    /// `lap` is told where time went.
    pub(crate) fn gradients(
        &self,
        setting: &Setting,
        batch: &Batch,
        n_rows_max: usize,
        at: At,
        lap: &mut dyn FnMut(Part),
    ) -> Result<(Vec<Tensor<1>>, Seen), TrainError> {
        let weights = row_weights(batch, &setting.class_weights);
        let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let device = setting.device.clone().autodiff();

        let mut loss_value = 0.0;
        let mut gradients: Vec<Tensor<1>> = Vec::new();
        let n_micro = batch.n_rows.div_ceil(setting.accumulate).min(n_rows_max).max(1);
        for first in (0..batch.n_rows).step_by(n_micro) {
            let rows = first..(first + n_micro).min(batch.n_rows);
            let draw = |path: &str| Draw {
                key: Stream::new(setting.seed, Purpose::Dropout, path).key(),
                first_row: first as u32,
                major: at.update,
            };
            let inputs = setting.shape.inputs(batch, rows.clone(), &device);
            let (loss, labels) = softened(setting, &batch.label[rows.clone()]);
            let loss = weighted_mean(
                loss,
                in_precision(setting.precision, || self.model.forward(inputs, Some(&draw))),
                column(&labels, &device),
                column(&weights[rows], &device),
                total,
            );
            lap(Part::Forward);
            let mut found = loss.backward();
            loss_value += device::read_number(loss.inner())?;
            let found = parameter::gradients(&self.model, &mut found);
            gradients = if gradients.is_empty() {
                found
            } else {
                gradients.into_iter().zip(found).map(|(sum, more)| sum + more).collect()
            };
        }

        lap(Part::Backward);
        let squares = device::read_number(square_sum(&gradients))?;
        Ok((gradients, Seen { loss: loss_value, gradient_norm: libm::sqrt(squares) }))
    }

    /// Makes the update that [`Learner::gradients`] found. Changes nothing when what it saw is not finite.
    pub(crate) fn step(
        self,
        setting: &Setting,
        gradients: Vec<Tensor<1>>,
        seen: Seen,
        at: At,
    ) -> Self {
        if !seen.is_finite() {
            return self;
        }
        let Self { model, mut moments, mut average } = self;
        let scale = clip_factor(seen.gradient_norm, setting.clip_norm);
        let step = Step {
            learning_rate: at.learning_rate,
            weight_decay: &setting.weight_decay,
            gradient_scale: scale,
            t: at.step,
        };
        let model = parameter::map_all(model, |parameters| {
            optimizer::follow(setting.optimizer, parameters, gradients, &mut moments, step)
        });
        if let Some(decay) = setting.ema {
            let now = parameter::values(&model);
            // The first update has nothing to average with: its weights are the average.
            average = Some(match average {
                Some(before) => {
                    before.into_iter().zip(now).map(|(e, p)| ema(e, p, decay)).collect()
                }
                None => now,
            });
        }
        Self { model, moments, average }
    }
}

/// The training loss and labels with the setting's label smoothing. Two classes share what is spread, so a soft label
/// says it all; more than two need a loss that knows of it.
fn softened(setting: &Setting, labels: &[f32]) -> (Loss, Vec<f32>) {
    let share = setting.label_smoothing;
    match setting.loss {
        Loss::Multiclass if 0.0 < share => (Loss::Smoothed { share }, labels.to_vec()),
        Loss::Binary if 0.0 < share => {
            let soft = |y: &f32| (f64::from(*y) * (1.0 - share) + share / 2.0) as f32;
            (Loss::Binary, labels.iter().map(soft).collect())
        }
        loss => (loss, labels.to_vec()),
    }
}
