//! One update: forward and backward over its micro-batches, global-norm clip, AdamW. Nothing here knows what an epoch is.

use burn::tensor::{Device, Tensor};
use karat_core::{
    Batch,
    rng::{Purpose, Stream},
};
use karat_kernels::{
    adamw::{Step, adamw},
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
};

/// Rows of one forward pass while evaluating.
const EVALUATE_ROWS: usize = 4096;

/// What stays the same for all updates of a run.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) shape: Shape,
    pub(crate) loss: Loss,
    pub(crate) class_weights: Vec<f64>,
    pub(crate) seed: u64,
    pub(crate) precision: Precision,
    /// Micro-batches of an update.
    pub(crate) accumulate: usize,
    pub(crate) clip_norm: f64,
    pub(crate) weight_decay: f64,
    /// Without gradients.
    pub(crate) device: Device,
}

/// What changes with every update: the weights and AdamW's two moments, in the order of [`Config::parameters`].
pub(crate) struct Learner {
    pub(crate) model: Model,
    pub(crate) moments: Vec<[Tensor<1>; 2]>,
    /// Which parameters weight decay applies to.
    decays: Vec<bool>,
}

/// Where an update stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    /// Updates before it: the position of its random draws.
    pub(crate) update: u64,
    /// AdamW's step, from 1: skipped updates do not count.
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
    /// `model` lies on the autodiff device; `moments` without gradients.
    pub(crate) fn new(config: &Config, model: Model, moments: Vec<[Tensor<1>; 2]>) -> Self {
        let decays = config.parameters().iter().map(|it| it.decays).collect();
        Self { model, moments, decays }
    }

    /// Moments before the first update.
    pub(crate) fn fresh_moments(config: &Config, device: &Device) -> Vec<[Tensor<1>; 2]> {
        let zeros = |n: usize| Tensor::<1>::zeros([n], device);
        config
            .parameters()
            .iter()
            .map(|it| [zeros(it.n_elements()), zeros(it.n_elements())])
            .collect()
    }

    /// Makes one update from `batch`, which must fit the setting's shape. Changes nothing when what it saw is not finite.
    pub(crate) fn update(
        self,
        setting: &Setting,
        batch: &Batch,
        at: At,
    ) -> Result<(Self, Seen), TrainError> {
        let Self { model, mut moments, decays } = self;
        let weights = row_weights(batch, &setting.class_weights);
        let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let device = setting.device.clone().autodiff();

        let mut loss_value = 0.0;
        let mut gradients: Vec<Tensor<1>> = Vec::new();
        let n_micro = batch.n_rows.div_ceil(setting.accumulate).max(1);
        for first in (0..batch.n_rows).step_by(n_micro) {
            let rows = first..(first + n_micro).min(batch.n_rows);
            let draw = |path: &str| Draw {
                key: Stream::new(setting.seed, Purpose::Dropout, path).key(),
                first_row: first as u32,
                major: at.update,
            };
            let inputs = setting.shape.inputs(batch, rows.clone(), &device);
            let loss = weighted_mean(
                setting.loss,
                in_precision(setting.precision, || model.forward(inputs, Some(&draw))),
                column(&batch.label[rows.clone()], &device),
                column(&weights[rows], &device),
                total,
            );
            let mut found = loss.backward();
            loss_value += device::read_number(loss.inner())?;
            let found = parameter::gradients(&model, &mut found);
            gradients = if gradients.is_empty() {
                found
            } else {
                gradients.into_iter().zip(found).map(|(sum, more)| sum + more).collect()
            };
        }

        let squares = device::read_number(square_sum(&gradients))?;
        let seen = Seen { loss: loss_value, gradient_norm: libm::sqrt(squares) };
        if !seen.is_finite() {
            return Ok((Self { model, moments, decays }, seen));
        }

        let scale = clip_factor(seen.gradient_norm, setting.clip_norm);
        let mut gradients = gradients.into_iter();
        let mut before = std::mem::take(&mut moments).into_iter();
        let model = parameter::map(model, &mut |i, p| {
            let decay = if decays[i] { setting.weight_decay } else { 0.0 };
            let gradient = gradients.next().expect("one for each parameter");
            let [m, v] = before.next().expect("two for each parameter");
            let step = Step::new(at.learning_rate, decay, scale, at.step);
            let (p, m, v) = adamw(p, gradient, m, v, step);
            moments.push([m, v]);
            p
        });
        Ok((Self { model, moments, decays }, seen))
    }
}

/// Sum of weighted losses and of weights over `batch`, without dropout. `model` may lie on either device.
pub(crate) fn evaluate(
    model: &Model,
    setting: &Setting,
    batch: &Batch,
) -> Result<(f64, f64), TrainError> {
    let weights = row_weights(batch, &setting.class_weights);
    let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
    let mut sum = 0.0;
    for first in (0..batch.n_rows).step_by(EVALUATE_ROWS) {
        let rows = first..(first + EVALUATE_ROWS).min(batch.n_rows);
        let inputs = setting.shape.inputs(batch, rows.clone(), &setting.device);
        let loss = weighted_mean(
            setting.loss,
            in_precision(setting.precision, || model.forward(inputs, None)),
            column(&batch.label[rows.clone()], &setting.device),
            column(&weights[rows], &setting.device),
            1.0,
        );
        sum += device::read_number(loss)?;
    }
    Ok((sum, total))
}
