//! The keys of `[train]` that change how weights move, which rows are drawn and what is kept.

use karat_core::{
    Event, FeaturePlan, TrainSpec,
    port::{CheckpointFiles, Engine, TrainEnd},
    project::{EarlyStopping, OptimizerSpec, Sampling, ScheduleSpec},
    tensors::Tensors,
};
use karat_kernels::ema;

use super::{
    Io, binary, complete, eval_batch, fingerprint, multiclass, regression, scores, spec, train,
};
use crate::BurnEngine;

fn sgd() -> OptimizerSpec {
    OptimizerSpec::Sgd { momentum: 0.9, nesterov: true }
}

fn lion() -> OptimizerSpec {
    OptimizerSpec::Lion { beta1: 0.9, beta2: 0.99 }
}

fn weighted(plan: FeaturePlan) -> FeaturePlan {
    FeaturePlan { weight: Some("w".to_owned()), ..plan }
}

fn refused(spec: &TrainSpec, plan: &FeaturePlan) -> String {
    let failure = BurnEngine.train(spec, plan, None, &mut Io::new(plan)).expect_err("refused");
    format!("{}: {}", failure.code, failure.message)
}

/// (update, eval loss) of every evaluation.
fn evaluations(io: &Io) -> Vec<(u64, f64)> {
    let evaluated = |event: &Event| match event {
        Event::Evaluated { update, loss, .. } => Some((*update, *loss)),
        _ => None,
    };
    io.events.iter().filter_map(evaluated).collect()
}

/// Mean log loss of a model on the eval rows.
fn eval_loss(spec: &TrainSpec, plan: &FeaturePlan, model: &[u8]) -> f64 {
    let batch = eval_batch(plan);
    let found = scores(spec, plan, model, &batch);
    let losses = found.iter().zip(&batch.label);
    let losses = losses.map(|(p, y)| -f64::from(if 0.5 < *y { *p } else { 1.0 - p }).ln());
    losses.sum::<f64>() / batch.n_rows as f64
}

#[test]
fn every_optimizer_learns() {
    let plan = binary();
    // SGD's weight decay is coupled: 0.01 would shrink these small weights as fast as the gradients grow them.
    for (optimizer, rate, decay) in
        [(OptimizerSpec::adamw(), 0.01, 0.01), (sgd(), 0.1, 1e-4), (lion(), 0.003, 0.01)]
    {
        let mut spec = TrainSpec { optimizer, learning_rate: rate, weight_decay: decay, ..spec() };
        spec.epochs = 30;
        let (files, _) = train(&spec, &plan);
        let loss = eval_loss(&spec, &plan, &files.model);
        assert!(loss < 0.2, "{optimizer:?}: {loss}, chance is about 0.69");
    }
}

/// The promise, for every optimizer and everything else that is carried from one update to the next.
#[test]
fn interrupted_at_any_update_is_uninterrupted_whatever_is_carried() {
    let base = || {
        let mut spec = spec();
        (spec.epochs, spec.batch_size) = (2, 100);
        spec.early_stopping = Some(EarlyStopping { patience: 3 });
        spec
    };
    let adamw = TrainSpec {
        ema: Some(0.8),
        evaluate_every: 3,
        label_smoothing: 0.1,
        schedule: ScheduleSpec::Step { epochs: 1, factor: 0.3 },
        ..base()
    };
    let sgd = TrainSpec {
        optimizer: sgd(),
        schedule: ScheduleSpec::OneCycle,
        sampling: Sampling::Balanced,
        accumulate: 3,
        ..base()
    };
    let lion = TrainSpec {
        optimizer: lion(),
        learning_rate: 0.002,
        schedule: ScheduleSpec::Linear,
        sampling: Sampling::Weight,
        ema: Some(0.9),
        ..base()
    };
    for (mut spec, plan) in [(adamw, binary()), (sgd, multiclass()), (lion, weighted(binary()))] {
        let (whole, io) = train(&spec, &plan);
        let expected = fingerprint(&whole, &io.log);
        let n_updates = io.log.len() as u64;
        assert_eq!(n_updates, 20);
        for stop_at in 0..n_updates {
            let mut io = Io::new(&plan);
            io.stop_at = Some(stop_at);
            spec.threads = 1 + (stop_at % 3) as usize;
            BurnEngine.train(&spec, &plan, None, &mut io).expect("stops");
            let (files, _) = io.kept.pop().expect("stopping keeps a checkpoint");
            spec.threads = 3 - (stop_at % 3) as usize;
            (io.stop_at, io.n_updates) = (None, stop_at);
            let resumed = complete(&spec, &plan, Some(files), &mut io);
            let at = format!("{:?} stopped at {stop_at}", spec.optimizer);
            assert_eq!(fingerprint(&resumed, &io.log), expected, "{at}");
        }
    }
}

#[test]
fn threads_do_not_change_a_bit_of_any_optimizer() {
    for optimizer in [OptimizerSpec::adamw(), sgd(), lion()] {
        let mut spec = TrainSpec { optimizer, epochs: 1, ema: Some(0.9), ..spec() };
        let mut run = |threads| {
            spec.threads = threads;
            let (files, io) = train(&spec, &binary());
            fingerprint(&files, &io.log)
        };
        let one = run(1);
        for threads in [2, 3, 8] {
            assert_eq!(run(threads), one, "{optimizer:?} on {threads} threads");
        }
    }
}

fn elements(files: &CheckpointFiles, name: &str) -> Vec<f32> {
    let file = Tensors::parse(&files.model).expect("parses");
    file.get(name).and_then(|it| it.to_f32()).expect("is there")
}

/// The raw weights go the same way with and without an average, which is PyTorch's over them: a copy of the first, then
/// `ema`. It is what is evaluated and what is registered.
#[test]
fn average_weights_are_kept_evaluated_and_registered() {
    let plan = binary();
    let mut spec = spec();
    (spec.epochs, spec.checkpoint.every_updates, spec.checkpoint.keep_best) = (2, 1, 0);
    let (raw, raw_io) = train(&spec, &plan);
    spec.ema = Some(0.9);
    let (files, io) = train(&spec, &plan);
    assert_eq!(raw_io.log, io.log, "an average changes no update");
    let name = "layers.1.weight";
    let mut expected: Vec<f32> = Vec::new();
    for (kept, _) in &raw_io.kept {
        let now = elements(kept, name);
        if expected.is_empty() {
            expected = now;
        } else {
            ema::fused(&mut expected, &now, 0.9);
        }
    }
    assert_eq!(elements(&files, name), expected);
    assert_ne!(files.model, raw.model);
    let last = &io.kept.last().expect("kept").0;
    assert_eq!(last.model, raw.model, "training continues from the raw ones");

    let (_, told) = *evaluations(&io).last().expect("evaluated");
    let loss = eval_loss(&spec, &plan, &files.model);
    assert!((told - loss).abs() < 1e-5, "{told} was told, the registered weights have {loss}");
    let raw_loss = eval_loss(&spec, &plan, &raw.model);
    assert!(1e-3 < (raw_loss - loss).abs(), "{raw_loss} raw, {loss} average");
}

#[test]
fn named_parameters_do_not_decay() {
    let plan = binary();
    let mut spec = TrainSpec { epochs: 1, weight_decay: 0.5, ..spec() };
    let (decayed, _) = train(&spec, &plan);
    spec.no_decay = vec!["*".to_owned()];
    let (exempt, _) = train(&spec, &plan);
    (spec.no_decay, spec.weight_decay) = (Vec::new(), 0.0);
    let (none, _) = train(&spec, &plan);
    assert_ne!(decayed.model, none.model);
    assert_eq!(exempt.model, none.model);

    spec.no_decay = vec!["layer.0.weight".to_owned()];
    let message = refused(&spec, &plan);
    let known = "pattern-unmatched: `train.no_decay` has pattern `layer.0.weight`, which matches no \
                 parameter: there are `layers.0.weight`";
    assert!(message.starts_with(known), "{message}");
}

#[test]
fn smoothed_labels_pull_scores_to_the_middle() {
    for (plan, floor) in [(binary(), 0.05), (multiclass(), 0.03)] {
        let extreme = |spec: &TrainSpec| {
            let (files, _) = train(spec, &plan);
            let found = scores(spec, &plan, &files.model, &eval_batch(&plan));
            found.iter().map(|p| f64::from(*p)).fold(1.0, f64::min)
        };
        let mut spec = TrainSpec { epochs: 15, ..spec() };
        let plain = extreme(&spec);
        spec.label_smoothing = 0.3;
        let smoothed = extreme(&spec);
        assert!(plain < 0.01, "{plain}");
        assert!(floor < smoothed, "{smoothed}: a label keeps at most 1 - 0.3 + 0.3/k");
    }
    let spec = TrainSpec { label_smoothing: 0.1, ..spec() };
    let message = refused(&spec, &regression());
    assert_eq!(
        message,
        "smoothing-without-classes: `train.label_smoothing` has no meaning for a regression"
    );
}

#[test]
fn sampling_shifts_what_is_seen_and_needs_what_it_draws_by() {
    let mean = |spec: &TrainSpec, plan: &FeaturePlan| {
        let (files, _) = train(spec, plan);
        let found = scores(spec, plan, &files.model, &eval_batch(plan));
        found.iter().map(|p| f64::from(*p)).sum::<f64>() / found.len() as f64
    };
    // A linear model cannot tell the classes apart: it says how often it saw them. Rows with weights of 9 against 1 are
    // drawn so, and then count the same in the loss.
    let linear = karat_core::ModelSpec::Linear;
    let linear = TrainSpec { model: linear, epochs: 10, learning_rate: 0.1, ..spec() };
    let by = |sampling| TrainSpec { sampling, ..linear.clone() };
    let weighed = weighted(binary());
    let drawn = mean(&by(Sampling::Weight), &weighed);
    let counted = mean(&by(Sampling::Uniform), &weighed);
    assert!((drawn - 0.9).abs() < 0.05, "{drawn}: about 9 of 10 rows drawn are positive");
    assert!((counted - drawn).abs() < 0.05, "{counted} by the loss, {drawn} by the draw");
    let balanced = mean(&by(Sampling::Balanced), &weighed);
    assert!(0.8 < balanced, "{balanced}: drawn evenly, then weighed by the loss");
    let balanced = mean(&by(Sampling::Balanced), &binary());
    assert!((balanced - 0.5).abs() < 0.05, "{balanced}");

    let message = refused(&by(Sampling::Balanced), &regression());
    assert!(message.starts_with("sampling-without-classes: "), "{message}");
    let message = refused(&by(Sampling::Weight), &binary());
    assert!(message.starts_with("sampling-without-weights: "), "{message}");
}

#[test]
fn the_eval_split_is_looked_at_every_so_many_updates_and_after_epochs() {
    let spec = TrainSpec { epochs: 2, evaluate_every: 6, ..spec() };
    let (_, io) = train(&spec, &binary());
    let at: Vec<u64> = evaluations(&io).iter().map(|it| it.0).collect();
    assert_eq!(at, [6, 12, 16, 18, 24, 30, 32]);
}

#[test]
fn time_that_is_up_keeps_what_there_is() {
    let plan = binary();
    let spec = spec();
    let (whole, _) = train(&spec, &plan);
    assert!(!whole.state.is_out_of_time);

    let mut io = Io::new(&plan);
    io.out_of_time_at = Some(21);
    let end = BurnEngine.train(&spec, &plan, None, &mut io).expect("ends");
    let TrainEnd::Complete(files) = end else { panic!("not complete: {end:?}") };
    assert!(files.state.is_out_of_time && files.state.is_complete);
    assert_eq!((files.state.update, io.log.len()), (21, 21));
    let (at, told) = *evaluations(&io).last().expect("looked at once more");
    assert_eq!(at, 21);
    assert!((eval_loss(&spec, &plan, &files.model) - told).abs() < 1e-5);

    // No time at all is one update: a limit that is too low still gets somewhere.
    let mut io = Io::new(&plan);
    io.out_of_time_at = Some(0);
    let files = complete(&spec, &plan, None, &mut io);
    assert_eq!(files.state.update, 1);
}
