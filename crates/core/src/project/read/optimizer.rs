//! `train.optimizer` and `train.schedule`: which keys belong to which, their defaults and limits.

use super::{Within, train::RawTrain};
use crate::{
    Document, Failure,
    project::{EPOCHS_MAX, OptimizerSpec, ScheduleSpec},
};

/// Every optimizer, as `train.optimizer` names it.
const OPTIMIZERS: &[&str] = &["adamw", "sgd", "lion"];
/// Every schedule, as `train.schedule` names it.
const SCHEDULES: &[&str] = &["constant", "linear", "cosine", "step", "one-cycle"];

/// The optimizer with its learning rate and weight decay, whose defaults differ.
pub(super) fn optimizer(
    document: &Document,
    raw: &RawTrain,
) -> Result<(OptimizerSpec, f64, f64), Failure> {
    let within = Within(document);
    let kind = raw.optimizer.as_deref().unwrap_or("adamw");
    within.one_of("train.optimizer", kind, OPTIMIZERS)?;
    within.known_to(
        &format!("optimizer `{kind}`"),
        kind,
        &[
            ("betas", raw.betas.is_some(), &["adamw", "lion"]),
            ("epsilon", raw.epsilon.is_some(), &["adamw"]),
            ("momentum", raw.momentum.is_some(), &["sgd"]),
            ("nesterov", raw.nesterov.is_some(), &["sgd"]),
        ],
    )?;
    let (rate, decay) = match kind {
        "sgd" => (0.01, 1e-4),
        "lion" => (1e-4, 0.1),
        _ => (1e-3, 0.01),
    };
    let [beta1, beta2] =
        raw.betas.unwrap_or(if kind == "lion" { [0.9, 0.99] } else { [0.9, 0.999] });
    for beta in [beta1, beta2] {
        within.share("train.betas", beta, false)?;
    }
    let epsilon = raw.epsilon.unwrap_or(1e-8);
    within.number("train.epsilon", epsilon, 1e-30, 1.0)?;
    let momentum = raw.momentum.unwrap_or(0.9);
    within.share("train.momentum", momentum, false)?;
    let nesterov = raw.nesterov.unwrap_or(false);
    if nesterov && momentum <= 0.0 {
        return Err(document
            .refuse("train.nesterov", "`train.nesterov` looks ahead by the momentum, which is 0"));
    }
    let learning_rate = raw.learning_rate.unwrap_or(rate);
    within.number("train.learning_rate", learning_rate, 1e-12, 1e3)?;
    let weight_decay = raw.weight_decay.unwrap_or(decay);
    within.number("train.weight_decay", weight_decay, 0.0, 1e3)?;
    let spec = match kind {
        "sgd" => OptimizerSpec::Sgd { momentum, nesterov },
        "lion" => OptimizerSpec::Lion { beta1, beta2 },
        _ => OptimizerSpec::Adamw { beta1, beta2, epsilon },
    };
    Ok((spec, learning_rate, weight_decay))
}

/// The schedule with its warm-up and final rate as shares.
pub(super) fn schedule(
    document: &Document,
    raw: &RawTrain,
    epochs: u32,
) -> Result<(ScheduleSpec, f64, f64), Failure> {
    let within = Within(document);
    let kind = raw.schedule.as_deref().unwrap_or("cosine");
    within.one_of("train.schedule", kind, SCHEDULES)?;
    within.known_to(
        &format!("schedule `{kind}`"),
        kind,
        &[
            (
                "learning_rate_final",
                raw.learning_rate_final.is_some(),
                &["linear", "cosine", "one-cycle"],
            ),
            ("step_epochs", raw.step_epochs.is_some(), &["step"]),
            ("step_factor", raw.step_factor.is_some(), &["step"]),
        ],
    )?;
    // PyTorch's OneCycleLR: 30 % of the way up, and down to 1/25 of 1e-4 of the peak.
    let (warmup, last) = match kind {
        "one-cycle" => (0.3, 4e-6),
        "linear" | "cosine" => (0.05, 0.0),
        _ => (0.05, 1.0),
    };
    let warmup = raw.warmup.unwrap_or(warmup);
    within.share("train.warmup", warmup, false)?;
    let last = raw.learning_rate_final.unwrap_or(last);
    within.share("train.learning_rate_final", last, true)?;
    let step_epochs = raw.step_epochs.unwrap_or_else(|| epochs.div_ceil(3));
    within.whole("train.step_epochs", u64::from(step_epochs), 1, u64::from(EPOCHS_MAX))?;
    let factor = raw.step_factor.unwrap_or(0.1);
    within.number("train.step_factor", factor, 1e-6, 1.0)?;
    let spec = match kind {
        "constant" => ScheduleSpec::Constant,
        "linear" => ScheduleSpec::Linear,
        "step" => ScheduleSpec::Step { epochs: step_epochs, factor },
        "one-cycle" => ScheduleSpec::OneCycle,
        _ => ScheduleSpec::Cosine,
    };
    Ok((spec, warmup, last))
}
