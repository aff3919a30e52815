//! The training loop: one function, in reading order, observers outside.

use karat_core::{
    Batch, Digest, DigestBuilder, Event, Failure, FeaturePlan, TrainSpec, UpdateRecord,
    port::{CheckpointFiles, Part, TrainEnd, TrainIo, TrainState},
    project::Sampling,
};
use karat_models::{Config, Model};

use crate::{
    batch::Shape,
    careful::Careful,
    checkpoint::{self, Restored},
    device::{DeviceName, Opened},
    error::TrainError,
    evaluate::Tally,
    network, sampling,
    schedule::Schedule,
    start,
    update::{At, Learner, Seen, Setting},
};

/// Rows fetched at a time while evaluating: fewer where their images would take more room than this.
const EVALUATE_FETCH: u64 = 1 << 16;
const EVALUATE_BYTES: usize = 64 << 20;

/// Trains until `spec` is done or `io` says stop. Resuming is not a special case: a fresh run is a resume from update 0.
pub(crate) fn train(
    spec: &TrainSpec,
    plan: &FeaturePlan,
    start: Option<CheckpointFiles>,
    io: &mut dyn TrainIo,
) -> Result<TrainEnd, Failure> {
    let opened = Opened::open(DeviceName::parse(&spec.device)?)?;
    train_on(&opened, spec, plan, start, io)
}

/// As [`train()`], on a device that was opened.
pub(crate) fn train_on(
    opened: &Opened,
    spec: &TrainSpec,
    plan: &FeaturePlan,
    start: Option<CheckpointFiles>,
    io: &mut dyn TrainIo,
) -> Result<TrainEnd, Failure> {
    // On a thread of its own pool, so that the operations' parallel loops use that pool and no other.
    opened.threads(spec.threads)?.install(|| run(opened, spec, plan, start, io))
}

fn run(
    opened: &Opened,
    spec: &TrainSpec,
    plan: &FeaturePlan,
    from: Option<CheckpointFiles>,
    io: &mut dyn TrainIo,
) -> Result<TrainEnd, Failure> {
    let n_rows = io.train_rows().n_rows();
    if n_rows == 0 {
        return Err(TrainError::NoRows.into());
    }
    let has_eval = io.eval_rows().is_some_and(|rows| 0 < rows.n_rows());
    if spec.early_stopping.is_some() && !has_eval {
        return Err(TrainError::NoEvalRows { split: spec.split_eval.to_string() }.into());
    }
    let config = network::config(spec, plan)?;
    let setting = Setting {
        shape: Shape::of(plan),
        loss: network::loss(plan),
        label_smoothing: network::label_smoothing(spec, plan)?,
        class_weights: network::class_weights(spec, plan)?,
        seed: spec.seed,
        precision: network::precision(spec),
        accumulate: spec.accumulate.max(1) as usize,
        clip_norm: spec.clip_norm,
        optimizer: spec.optimizer,
        weight_decay: network::weight_decay(spec, &config)?,
        ema: spec.ema,
        device: opened.device.clone(),
    };
    let environment = checkpoint::environment(spec, opened, plan, n_rows);
    let Restored { mut learner, mut best, mut state } = match &from {
        Some(files) => checkpoint::restore(spec, &config, &setting, files, &environment)?,
        None => fresh(&config, &setting, environment),
    };
    let schedule = Schedule::new(spec, n_rows);
    for remark in start::demand(opened, spec, &config, &setting, &schedule, io)? {
        if !state.remarks.contains(&remark) {
            state.remarks.push(remark);
        }
    }
    let mut careful = Careful::new(opened, spec, &config, &mut state, io)?;
    let first = state.update;
    careful.kept = from.is_some().then_some(first);
    let mut order = sampling::order(spec, plan, &setting.shape, io.train_rows())?;
    let (mut rows, mut batch) = (Vec::new(), setting.shape.empty());
    io.lap(Part::Other);

    while state.update < schedule.n_updates() && !is_out_of_patience(spec, &state) {
        // Every call makes at least one update, or a limit that is too low would never get anywhere.
        if first < state.update && io.is_out_of_time() {
            state.is_out_of_time = true;
            break;
        }
        if io.stop_requested() {
            if careful.kept != Some(state.update) {
                let captured =
                    || checkpoint::capture(&config, &setting, &learner, best.as_ref(), &state);
                io.keep(careful.whole(&state, captured)?, false)?;
            }
            return Ok(TrainEnd::Stopped { update: state.update });
        }

        order.rows_at(state.update, &mut rows);
        io.train_rows().fetch(&rows, &mut batch)?;
        setting.shape.check(&batch, true)?;
        if spec.sampling == Sampling::Weight {
            // Rows that were drawn by their weights count the same.
            batch.weight.clear();
        }
        io.lap(Part::Rows);
        let at = At {
            update: state.update,
            step: state.update + 1 - u64::from(state.n_skipped),
            learning_rate: schedule.learning_rate_at(state.update),
        };
        let (gradients, seen) = careful.in_parts(&mut state, io, |n_rows, io| {
            learner.gradients(&setting, &batch, n_rows, at, &mut |part| io.lap(part))
        })?;
        learner = careful.whole(&state, || Ok(learner.step(&setting, gradients, seen, at)))?;
        io.lap(Part::Optimizer);
        if !seen.is_finite() {
            if spec.non_finite_max <= state.n_skipped {
                return Err(not_finite(&state, seen, &batch, careful.kept).into());
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
            weights: careful.whole(&state, || weights_digest(&config, &learner, state.update))?,
        };
        io.log(&record)?;
        io.observe(Event::Updated(record));

        let mut is_best = false;
        if has_eval && is_evaluated_after(spec, &schedule, state.update) {
            io.lap(Part::Other);
            is_best = look(spec, &setting, &mut careful, &learner, &mut best, &mut state, io)?;
            io.lap(Part::Evaluate);
        }
        // Asked every time: it is also how the caller knows that training is alive.
        let is_due_by_time = io.save_is_due();
        let every = spec.checkpoint.every_updates;
        let is_due_by_count = 0 < every && state.update.is_multiple_of(every);
        if is_due_by_time || is_due_by_count || (is_best && 0 < spec.checkpoint.keep_best) {
            let captured =
                || checkpoint::capture(&config, &setting, &learner, best.as_ref(), &state);
            io.keep(careful.whole(&state, captured)?, is_best)?;
            careful.kept = Some(state.update);
        }
        io.lap(Part::Other);
    }

    if state.is_out_of_time && has_eval && !is_evaluated_after(spec, &schedule, state.update) {
        // What is kept has been looked at.
        look(spec, &setting, &mut careful, &learner, &mut best, &mut state, io)?;
    }
    state.is_complete = true;
    let files = careful.whole(&state, || {
        let mut files = checkpoint::capture(&config, &setting, &learner, None, &state)?;
        if best.is_some() || learner.average.is_some() {
            let model = best.unwrap_or_else(|| learner.evaluated());
            files.model = checkpoint::weights(&config, &model)?;
        }
        Ok(files)
    })?;
    Ok(TrainEnd::Complete(Box::new(files)))
}

fn fresh(
    config: &Config,
    setting: &Setting,
    environment: std::collections::BTreeMap<String, String>,
) -> Restored {
    let model = network::fresh(config, setting.seed, &setting.device.clone().autodiff());
    Restored {
        learner: Learner::fresh(config, model, setting),
        best: None,
        state: TrainState { environment, ..TrainState::default() },
    }
}

fn is_out_of_patience(spec: &TrainSpec, state: &TrainState) -> bool {
    spec.early_stopping.is_some_and(|it| it.patience <= state.n_evaluations_without_gain)
}

fn is_evaluated_after(spec: &TrainSpec, schedule: &Schedule, update: u64) -> bool {
    let every = spec.evaluate_every;
    schedule.ends_epoch(update) || (0 < every && update.is_multiple_of(every))
}

/// Evaluates; returns whether this is the best so far. A loss that is NaN never is. With early stopping, `best` holds the
/// weights to go back to.
fn look(
    spec: &TrainSpec,
    setting: &Setting,
    careful: &mut Careful<'_>,
    learner: &Learner,
    best: &mut Option<Model>,
    state: &mut TrainState,
    io: &mut dyn TrainIo,
) -> Result<bool, Failure> {
    let model = learner.evaluated();
    let mut tally = Tally::default();
    let mut batch = setting.shape.empty();
    let n_rows = io.eval_rows().map_or(0, |rows| rows.n_rows());
    let fetch = (EVALUATE_BYTES / batch.n_pixels.max(1)).clamp(1, EVALUATE_FETCH as usize);
    for first in (0..n_rows).step_by(fetch) {
        let rows: Vec<u64> = (first..(first + fetch as u64).min(n_rows)).collect();
        if let Some(eval_rows) = io.eval_rows() {
            eval_rows.fetch(&rows, &mut batch)?;
        }
        setting.shape.check(&batch, true)?;
        tally = careful.evaluate(state, io, |n_rows| {
            let mut tally = tally;
            tally.look(&model, setting, &batch, n_rows)?;
            Ok(tally)
        })?;
    }
    let loss = tally.loss();
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
    let (metric, value) = tally.metric(setting.loss);
    io.observe(Event::Evaluated { update: state.update, loss, is_best, metric, value });
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
