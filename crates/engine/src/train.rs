//! The training loop: one function, in reading order, observers outside.

use karat_core::{
    Batch, Digest, DigestBuilder, Event, Failure, FeaturePlan, TrainSpec, UpdateRecord,
    port::{CheckpointFiles, TrainEnd, TrainIo, TrainState},
};
use karat_models::{Config, Model};

use crate::{
    batch::Shape,
    checkpoint::{self, Restored},
    device::{self, Class},
    error::TrainError,
    network,
    schedule::{Order, Schedule},
    update::{At, Learner, Seen, Setting, evaluate},
};

/// Rows fetched at a time while evaluating.
const EVALUATE_FETCH: u64 = 1 << 16;

/// Trains until `spec` is done or `io` says stop. Resuming is not a special case: a fresh run is a resume from update 0.
pub(crate) fn train(
    spec: &TrainSpec,
    plan: &FeaturePlan,
    start: Option<CheckpointFiles>,
    io: &mut dyn TrainIo,
) -> Result<TrainEnd, Failure> {
    // On a thread of its own pool, so that the operations' parallel loops use that pool and no other.
    device::threads(spec.threads)?.install(|| run(spec, plan, start, io))
}

fn run(
    spec: &TrainSpec,
    plan: &FeaturePlan,
    start: Option<CheckpointFiles>,
    io: &mut dyn TrainIo,
) -> Result<TrainEnd, Failure> {
    let class = Class::of(&spec.device)?;
    let n_rows = io.train_rows().n_rows();
    if n_rows == 0 {
        return Err(TrainError::NoRows.into());
    }
    let has_eval = io.eval_rows().is_some_and(|rows| 0 < rows.n_rows());
    if spec.early_stopping.is_some() && !has_eval {
        return Err(TrainError::NoEvalRows { split: spec.split_eval.to_string() }.into());
    }
    let config = network::config(spec, plan);
    let setting = Setting {
        shape: Shape::of(plan),
        loss: network::loss(plan),
        class_weights: network::class_weights(spec, plan)?,
        seed: spec.seed,
        precision: network::precision(spec),
        accumulate: spec.accumulate.max(1) as usize,
        clip_norm: spec.clip_norm,
        weight_decay: spec.weight_decay,
        device: class.open(),
    };
    let environment = checkpoint::environment(spec, class, plan, n_rows);
    let Restored { mut learner, mut best, mut state } = match &start {
        Some(files) => checkpoint::restore(spec, &config, files, &environment, &setting.device)?,
        None => fresh(&config, &setting, environment),
    };

    let schedule = Schedule::new(spec, n_rows);
    let mut order = Order::new(spec, n_rows);
    let (mut rows, mut batch) = (Vec::new(), setting.shape.empty());
    let mut kept = start.is_some().then_some(state.update);

    while state.update < schedule.n_updates() && !is_out_of_patience(spec, &state) {
        if io.stop_requested() {
            if kept != Some(state.update) {
                io.keep(checkpoint::capture(&config, &learner, best.as_ref(), &state)?, false)?;
            }
            return Ok(TrainEnd::Stopped { update: state.update });
        }

        order.rows_at(state.update, &mut rows);
        io.train_rows().fetch(&rows, &mut batch)?;
        setting.shape.check(&batch, true)?;
        let at = At {
            update: state.update,
            step: state.update + 1 - u64::from(state.n_skipped),
            learning_rate: schedule.learning_rate_at(state.update),
        };
        let seen;
        (learner, seen) = learner.update(&setting, &batch, at)?;
        if !seen.is_finite() {
            if spec.non_finite_max <= state.n_skipped {
                return Err(not_finite(&state, seen, &batch, kept).into());
            }
            state.n_skipped += 1;
            io.observe(skipped(&state, seen));
        }
        state.update += 1;
        state.chain = Some(link(&state, seen));
        let record = UpdateRecord {
            update: state.update,
            loss: seen.loss,
            learning_rate: at.learning_rate,
            gradient_norm: seen.gradient_norm,
            n_rows: batch.n_rows as u64,
            weights: weights_digest(&config, &learner, state.update)?,
        };
        io.log(&record)?;
        io.observe(Event::Updated(record));

        let mut is_best = false;
        if has_eval && schedule.ends_epoch(state.update) {
            is_best = look(spec, &setting, &learner.model, &mut best, &mut state, io)?;
        }
        // Asked every time: it is also how the caller knows that training is alive.
        let is_due_by_time = io.save_is_due();
        let every = spec.checkpoint.every_updates;
        let is_due_by_count = 0 < every && state.update.is_multiple_of(every);
        if is_due_by_time || is_due_by_count || (is_best && 0 < spec.checkpoint.keep_best) {
            io.keep(checkpoint::capture(&config, &learner, best.as_ref(), &state)?, is_best)?;
            kept = Some(state.update);
        }
    }

    state.is_complete = true;
    let mut files = checkpoint::capture(&config, &learner, None, &state)?;
    if let Some(best) = best {
        files.model = checkpoint::weights(&config, &best)?;
    }
    Ok(TrainEnd::Complete(Box::new(files)))
}

fn fresh(
    config: &Config,
    setting: &Setting,
    environment: std::collections::BTreeMap<String, String>,
) -> Restored {
    let model = network::fresh(config, setting.seed, &setting.device.clone().autodiff());
    let moments = Learner::fresh_moments(config, &setting.device);
    Restored {
        learner: Learner::new(config, model, moments),
        best: None,
        state: TrainState { environment, ..TrainState::default() },
    }
}

fn is_out_of_patience(spec: &TrainSpec, state: &TrainState) -> bool {
    spec.early_stopping.is_some_and(|it| it.patience <= state.n_evaluations_without_gain)
}

/// Evaluates; returns whether this is the best so far. A loss that is NaN never is. With early stopping, `best` holds the
/// weights to go back to.
fn look(
    spec: &TrainSpec,
    setting: &Setting,
    model: &Model,
    best: &mut Option<Model>,
    state: &mut TrainState,
    io: &mut dyn TrainIo,
) -> Result<bool, Failure> {
    use burn::module::Module as _;

    let model = model.valid();
    let (mut sum, mut total) = (0.0, 0.0);
    let mut batch = setting.shape.empty();
    let n_rows = io.eval_rows().map_or(0, |rows| rows.n_rows());
    for first in (0..n_rows).step_by(EVALUATE_FETCH as usize) {
        let rows: Vec<u64> = (first..(first + EVALUATE_FETCH).min(n_rows)).collect();
        if let Some(eval_rows) = io.eval_rows() {
            eval_rows.fetch(&rows, &mut batch)?;
        }
        setting.shape.check(&batch, true)?;
        let (losses, weights) = evaluate(&model, setting, &batch)?;
        (sum, total) = (sum + losses, total + weights);
    }
    let loss = if 0.0 < total { sum / total } else { f64::NAN };
    let is_best = match state.best_eval_loss_bits.map(f64::from_bits) {
        Some(before) => loss < before,
        None => loss.is_finite(),
    };
    if is_best {
        state.best_eval_loss_bits = Some(loss.to_bits());
        state.best_update = state.update;
        state.n_evaluations_without_gain = 0;
        *best = spec.early_stopping.is_some().then_some(model);
    } else {
        state.n_evaluations_without_gain += 1;
    }
    io.observe(Event::Evaluated { update: state.update, loss, is_best });
    Ok(is_best)
}

/// The next link of the chain over (loss, gradient norm): two runs that part can be told apart by it.
fn link(state: &TrainState, seen: Seen) -> Digest {
    let mut builder = DigestBuilder::new("updates");
    if let Some(before) = &state.chain {
        builder.field(before.to_string().as_bytes());
    }
    builder.field(&seen.loss.to_bits().to_le_bytes());
    builder.field(&seen.gradient_norm.to_bits().to_le_bytes());
    builder.finish()
}

/// Digest of the weights after `update` updates, where the log keeps one: often enough to bracket where two runs part, so
/// seldom that reading the weights back costs nothing.
fn weights_digest(
    config: &Config,
    learner: &Learner,
    update: u64,
) -> Result<Option<Digest>, TrainError> {
    if !update.is_power_of_two() {
        return Ok(None);
    }
    Ok(Some(Digest::of(&checkpoint::weights(config, &learner.model)?)))
}

fn not_finite(state: &TrainState, seen: Seen, batch: &Batch, kept: Option<u64>) -> TrainError {
    TrainError::NotFinite {
        update: state.update + 1,
        loss: seen.loss,
        norm: seen.gradient_norm,
        batch: batch.digest(),
        n_rows: batch.n_rows,
        n_labels_missing: batch.label.iter().filter(|label| label.is_nan()).count(),
        n_skipped: state.n_skipped,
        kept,
    }
}

fn skipped(state: &TrainState, seen: Seen) -> Event {
    Event::Warned {
        code: "update-skipped".to_owned(),
        message: format!(
            "update {} was skipped: loss {}, gradient norm {}",
            karat_core::thousands(state.update + 1),
            seen.loss,
            seen.gradient_norm
        ),
    }
}
