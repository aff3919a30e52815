//! A training that was stopped, killed or damaged: the same command takes it over, and nothing tells it from one that was
//! left alone.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use karat_core::{Event, Exit, Step, Timestamp, port::NeverStop};
use karat_pipeline::AfterPass;
use karat_store::{RunRecord, RunState, Store};
use karat_testkit::fake::N_UPDATES;

use crate::bench::{Asked, Bench, Pass, lasting, rot};

fn trainings(store: &Store) -> Vec<RunRecord> {
    store.runs(100).expect("readable").into_iter().filter(|it| it.step == Step::Train).collect()
}

fn reference() -> BTreeMap<String, String> {
    let bench = Bench::new();
    lasting(&bench.pass(&bench.store(), "").done())
}

/// A pass that is asked to stop after `update`.
fn stop_at(bench: &Bench, store: &Store, update: u64) -> Pass {
    let stop = Asked::default();
    bench.pass_with(store, "", AfterPass::Promote, &stop, |event| {
        if matches!(event, Event::Updated(record) if record.update == update) {
            stop.ask();
        }
    })
}

#[test]
fn stopped_after_any_update_the_same_command_gives_the_same_bytes() {
    let expected = reference();
    for update in 1..N_UPDATES {
        let bench = Bench::new();
        let failure = stop_at(&bench, &bench.store(), update).failed();
        assert_eq!(failure.exit, Exit::Stopped);
        assert_eq!(failure.message, format!("stopped on request at update {update} of 6"));
        let store = bench.store();
        let [before] = &trainings(&store)[..] else { panic!("one training") };
        assert_eq!(before.state, RunState::Canceled);

        let again = bench.pass(&store, "");
        let (code, message) = again.warnings()[0];
        assert_eq!(code, "run-resumed");
        assert_eq!(message, format!("continuing run `{}` at update {update} of 6", before.id));
        let updates: Vec<u64> = again
            .events
            .iter()
            .filter_map(|it| match it {
                Event::Updated(record) => Some(record.update),
                _ => None,
            })
            .collect();
        assert_eq!(updates, (update + 1..=N_UPDATES).collect::<Vec<_>>());
        assert_eq!(lasting(&again.done()), expected, "stopped at {update}: other bytes");
        let [after] = &trainings(&store)[..] else { panic!("one training") };
        assert_eq!((&after.id, after.attempt), (&before.id, 2), "the same run was taken over");
    }
}

#[test]
fn stopped_twice_and_at_the_next_step() {
    let (bench, expected) = (Bench::new(), reference());
    let store = bench.store();
    assert_eq!(stop_at(&bench, &store, 2).failed().exit, Exit::Stopped);
    assert_eq!(stop_at(&bench, &store, 4).failed().exit, Exit::Stopped);
    // Asked for in the last update, where nothing is left to interrupt: the next step does not begin.
    let failure = stop_at(&bench, &store, N_UPDATES).failed();
    assert_eq!((failure.code.as_str(), failure.exit), ("stopped", Exit::Stopped));
    assert_eq!(failure.message, "stopped on request before step `score`");
    let _ = bench.engine.calls.take();
    assert_eq!(lasting(&bench.pass(&store, "").done()), expected);
    assert_eq!(bench.engine.calls.take(), ["open"], "the training was complete");
}

#[test]
fn a_damaged_checkpoint_falls_back_to_the_one_before_and_says_so() {
    let expected = reference();
    for n_damaged in 1..=3 {
        let bench = Bench::new();
        let store = bench.store();
        let _ = stop_at(&bench, &store, 4).failed();
        let run = &trainings(&store)[0].id;
        let kept = store.checkpoints(run).expect("readable");
        assert_eq!(kept.iter().map(|it| it.update).collect::<Vec<_>>(), [2, 3, 4]);
        for checkpoint in kept.iter().rev().take(n_damaged) {
            rot(&store.path(&checkpoint.manifest));
        }
        let again = bench.pass(&store, "");
        let warned = |code| again.warnings().iter().filter(|it| it.0 == code).count();
        assert_eq!(warned("checkpoint-corrupt"), n_damaged);
        assert_eq!(warned("run-resumed"), usize::from(n_damaged < 3), "from scratch at last");
        assert_eq!(lasting(&again.done()), expected, "{n_damaged} damaged: other bytes");
    }
}

#[test]
fn weights_of_a_checkpoint_are_verified_too() {
    let (bench, expected) = (Bench::new(), reference());
    let store = bench.store();
    let _ = stop_at(&bench, &store, 4).failed();
    let (found, _) = store.latest_checkpoint(&trainings(&store)[0].id).expect("readable");
    let weights = &found.expect("a checkpoint").files["model.safetensors"];
    rot(&store.path(&karat_core::Digest::of(weights)));
    let again = bench.pass(&store, "");
    assert_eq!(again.warnings()[0].0, "checkpoint-corrupt");
    assert!(again.warnings()[1].1.contains("at update 3 of 6"), "{:?}", again.warnings());
    assert_eq!(lasting(&again.done()), expected);
}

#[test]
fn the_last_and_the_best_checkpoints_are_kept() {
    let bench = Bench::new();
    let store = bench.store();
    let set = "train.checkpoint.keep_last=1 train.checkpoint.keep_best=1";
    let pass = bench.pass(&store, set);
    let n_committed =
        pass.events.iter().filter(|it| matches!(it, Event::CheckpointCommitted { .. })).count();
    assert_eq!(n_committed as u64, N_UPDATES - 1, "every checkpoint is told of");
    let kept = store.checkpoints(&trainings(&store)[0].id).expect("readable");
    let updates: Vec<u64> = kept.iter().map(|it| it.update).collect();
    let (best, last) = (kept.iter().find(|it| it.eval_loss.is_some()), kept.last());
    assert!(best.is_some() && last.is_some_and(|it| it.update == 5), "{updates:?}");
    assert!(kept.len() <= 2, "{updates:?}");
}

/// The clock is asked right before a checkpoint is committed: there the writer is held up, and the training looked at.
#[test]
fn training_goes_on_while_one_checkpoint_is_written_and_waits_before_the_next() {
    let mut bench = Bench::new();
    let (trainer, may_write) = (std::thread::current().id(), Arc::new(AtomicBool::new(false)));
    let at_the_door = Arc::clone(&may_write);
    bench.clock = Box::new(move || {
        while std::thread::current().id() != trainer && !at_the_door.load(Ordering::SeqCst) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        Timestamp(1_700_000_000_000)
    });
    let (store, looking) = (bench.store(), bench.store());
    let mut n_durable = Vec::new();
    let pass = bench.pass_with(&store, "", AfterPass::Promote, &NeverStop, |event| {
        let Event::Updated(record) = event else { return };
        let run = &trainings(&looking)[0].id;
        n_durable.push(looking.checkpoints(run).expect("readable").len());
        if record.update == 2 {
            may_write.store(true, Ordering::SeqCst);
        }
    });
    assert_eq!(pass.done().exit, Exit::Pass);
    assert_eq!(n_durable[..2], [0, 0], "the second update was made while the first was written");
    assert!(n_durable[2..].iter().all(|it| 1 <= *it), "{n_durable:?}: one is written at a time");
}

#[test]
fn a_running_training_is_not_taken_over_and_a_dead_one_is() {
    let (bench, expected) = (Bench::new(), reference());
    let (ours, theirs) = (bench.store(), bench.store());
    let mut refused = None;
    let first = bench.pass_with(&ours, "", AfterPass::Promote, &NeverStop, |event| {
        if matches!(event, Event::Updated(record) if record.update == 3) {
            refused = Some(bench.pass(&theirs, "").failed());
        }
    });
    let refused = refused.expect("the third update was seen");
    assert_eq!((refused.code.as_str(), refused.exit), ("run-in-progress", Exit::Run));
    assert_eq!(lasting(&first.done()), expected, "the first was not disturbed");

    // A store that is closed in the middle of a run is what a killed process leaves.
    let bench = Bench::new();
    let dying = bench.store();
    let stop = Asked::default();
    let _ = bench.pass_with(&dying, "", AfterPass::Promote, &stop, |event| {
        if matches!(event, Event::StepStarted { step: Step::Train, .. }) {
            stop.ask();
        }
    });
    drop(dying);
    assert_eq!(lasting(&bench.pass(&bench.store(), "").done()), expected);
}

#[test]
fn a_log_ahead_of_the_checkpoint_is_cut_back() {
    let (bench, expected) = (Bench::new(), reference());
    let store = bench.store();
    let _ = stop_at(&bench, &store, 3).failed();
    let log = store.dir().join("runs").join(&trainings(&store)[0].id.0).join("metrics.jsonl");
    let mut text = std::fs::read_to_string(&log).expect("a log");
    assert_eq!(text.lines().count(), 3);
    text.push_str("{\"update\":4,\"loss\":9.0,\"learning_rate\":1.0,\"gradient_norm\":1.0,\"n_rows\":1}\n{\"upd");
    std::fs::write(&log, text).expect("writable");
    assert_eq!(lasting(&bench.pass(&store, "").done()), expected);
}
