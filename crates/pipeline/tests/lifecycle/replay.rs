//! A replay trains again from the record, says how far off it is and since when, and changes nothing but its own record.

use std::sync::atomic::Ordering;

use karat_core::{
    Event, Exit, Failure, Likeness, Step,
    port::{NeverStop, Stop},
};
use karat_pipeline::{ReplayOptions, Replayed};
use karat_store::{RunRecord, RunState, Store};
use karat_testkit::fake::N_UPDATES;

use crate::bench::{Asked, Bench, Seen, champion, held, rot, version};

/// A project after its first pass.
fn trained() -> (Bench, Store) {
    let bench = Bench::new();
    let store = bench.store();
    let _ = bench.pass(&store, "").done();
    (bench, store)
}

fn training(store: &Store) -> RunRecord {
    let runs = store.runs(100).expect("readable");
    runs.into_iter().find(|it| it.step == Step::Train).expect("a training")
}

fn with(
    bench: &Bench,
    store: &Store,
    run: &RunRecord,
    options: &ReplayOptions,
) -> Result<Replayed, Failure> {
    bench.lab(store, &NeverStop).replay(&mut Seen::default(), run, options)
}

fn replay(bench: &Bench, store: &Store) -> Replayed {
    with(bench, store, &training(store), &ReplayOptions::default()).expect("replays")
}

#[track_caller]
fn refused(bench: &Bench, store: &Store, run: &RunRecord) -> Failure {
    with(bench, store, run, &ReplayOptions::default()).expect_err("cannot be replayed")
}

#[test]
fn the_same_bits_are_told_and_nothing_but_the_replay_is_recorded() {
    let (bench, store) = trained();
    let before = (training(&store), store.versions(&crate::bench::name("fake")).expect("listed"));
    let n_runs = store.runs(100).expect("readable").len();
    let mut seen = Seen::default();
    let replayed = bench
        .lab(&store, &NeverStop)
        .replay(&mut seen, &before.0, &ReplayOptions::default())
        .expect("replays");
    let found = replayed.replay;
    assert_eq!(found.likeness, Likeness::Identical);
    assert_eq!((found.n_updates, found.n_tensors), ([N_UPDATES, N_UPDATES], 2));
    assert!(found.first.is_none() && found.tensors.is_empty(), "{found:?}");
    assert_eq!(found.weights_between, [Some(4), None], "digests at 1, 2 and 4 of 6 updates");
    assert_eq!(found.recorded_on, Some(found.replayed_on));

    let after = (training(&store), store.versions(&crate::bench::name("fake")).expect("listed"));
    assert_eq!(after, before, "the training and its version are as they were");
    assert_eq!((champion(&store), held(&store)), (Some(1), vec![1]));
    let runs = store.runs(100).expect("readable");
    assert_eq!(runs.len(), n_runs + 1);
    assert_eq!((runs[0].step, runs[0].state), (Step::Replay, RunState::Complete));
    assert_eq!(runs[0].id, replayed.run);
    assert_eq!(runs[0].metrics["likeness"], "identical");
    assert!(runs[0].outputs.contains_key("replay.json"));
    let finished = |it: &&Event| {
        matches!(it, Event::StepFinished { step: Step::Replay, is_cached: false, .. })
    };
    assert_eq!(seen.0.iter().filter(finished).count(), 1);

    let _ = replay(&bench, &store);
    assert_eq!(store.runs(100).expect("readable").len(), n_runs + 2, "a replay is never cached");
}

#[test]
fn the_first_differing_update_and_the_differing_tensor_are_named() {
    let (bench, store) = trained();
    bench.engine.slips_at.store(3, Ordering::Relaxed);
    let found = replay(&bench, &store).replay;
    assert_eq!(found.likeness, Likeness::Different);
    let first = found.first.clone().expect("differs");
    assert_eq!((first.update, first.what.as_str()), (3, "loss"));
    assert_ne!(first.recorded, first.replayed, "every digit is shown");
    assert_eq!(found.weights_between, [Some(2), Some(4)]);
    let [tensor] = &found.tensors[..] else { panic!("{:?}", found.tensors) };
    assert_eq!((tensor.name.as_str(), tensor.n_different), ("weight", 1));
    assert!(found.weights.is_within(1e-12) && found.loss.is_within(1e-12), "{found:?}");
    assert!(!found.weights.is_within(0.0));

    let within = |tolerance| {
        let options = ReplayOptions { tolerance: Some(tolerance), ..ReplayOptions::default() };
        with(&bench, &store, &training(&store), &options).expect("replays").replay.likeness
    };
    assert_eq!(within(1e-12), Likeness::WithinTolerance);
    assert_eq!(within(0.0), Likeness::Different);
    bench.engine.slips_at.store(0, Ordering::Relaxed);
    assert_eq!(within(0.0), Likeness::Identical, "equal bits are within any tolerance");
}

#[test]
fn other_weights_after_the_same_course_are_different() {
    let (bench, store) = trained();
    bench.skill(0.5);
    let found = replay(&bench, &store).replay;
    assert_eq!((found.likeness, found.first), (Likeness::Different, None));
    assert_eq!(found.tensors[0].name, "skill");
}

#[test]
fn a_resumed_training_is_replayed_in_one_go() {
    let bench = Bench::new();
    let store = bench.store();
    let stop = Asked::default();
    let _ = bench.pass_with(&store, "", karat_pipeline::AfterPass::Promote, &stop, |event| {
        if matches!(event, Event::Updated(record) if record.update == 3) {
            stop.ask();
        }
    });
    let failure = refused(&bench, &store, &training(&store));
    assert_eq!((failure.code.as_str(), failure.exit), ("replay-unfinished", Exit::Usage));
    assert!(failure.details[0].starts_with("stopped: "), "{failure:?}");
    assert!(failure.hints[0].contains("--resume"), "{failure:?}");
    let _ = bench.pass(&store, "").done();
    assert_eq!(replay(&bench, &store).replay.likeness, Likeness::Identical);
}

#[test]
fn what_is_no_training_or_of_another_version_is_refused() {
    let (mut bench, store) = trained();
    let run = training(&store);
    let check = store.runs(100).expect("readable").into_iter().find(|it| it.step == Step::Check);
    let failure = refused(&bench, &store, &check.expect("a check"));
    assert_eq!((failure.code.as_str(), failure.exit), ("replay-not-a-training", Exit::Usage));

    bench.tool = "karat later".to_owned();
    let failure = refused(&bench, &store, &run);
    assert_eq!((failure.code.as_str(), failure.exit), ("replay-other-version", Exit::Usage));
    assert!(failure.message.contains("karat test") && failure.message.contains("karat later"));
    let options = ReplayOptions { tolerance: Some(0.01), ..ReplayOptions::default() };
    let found = with(&bench, &store, &run, &options).expect("how far apart is a fair question");
    assert_eq!(found.replay.likeness, Likeness::Identical);
}

#[test]
fn data_that_is_not_there_any_more_is_named_with_the_run() {
    let (bench, store) = trained();
    let run = training(&store);
    bench.tables.content.store(1, Ordering::Relaxed);
    let failure = refused(&bench, &store, &run);
    assert_eq!(failure.code.as_str(), "snapshot-changed");
    assert!(failure.details[0].contains(&run.id.0), "{failure:?}");
    let newest = store.runs(1).expect("readable").remove(0);
    assert_eq!((newest.step, newest.state), (Step::Replay, RunState::Failed));
}

#[test]
fn damaged_objects_are_named_by_what_they_are() {
    for name in ["model.safetensors", "model.json", "metrics.jsonl"] {
        let (bench, store) = trained();
        let run = training(&store);
        rot(&store.path(&run.outputs[name]));
        let failure = refused(&bench, &store, &run);
        assert_eq!(failure.code.as_str(), "object-corrupt", "{name}");
        let whose = format!("it is `{name}` of run `{}`", run.id);
        assert!(failure.details.contains(&whose), "{failure:?}");
    }
}

/// What a hand in the database can change, one field at a time.
#[test]
fn a_record_edited_by_hand_is_refused() {
    let (bench, store) = trained();
    let _ = bench.pass(&store, "train.seed=2").done();
    let other = training(&store);
    let run = store.run(&version(&store, 1).run.0).expect("recorded");
    assert_ne!(run.id, other.id);
    type Edit = fn(&mut RunRecord, &RunRecord);
    let edits: [(&str, Edit); 7] = [
        ("key", |run, _| run.spec["train"]["seed"] = 2.into()),
        ("key", |run, _| run.seed = Some(2)),
        ("key", |run, _| run.device = "other".to_owned()),
        ("key", |run, _| {
            let _ = run.inputs.insert("more".to_owned(), run.key);
        }),
        ("spec", |run, other| {
            let _ = run.outputs.insert("model.json".to_owned(), other.outputs["model.json"]);
        }),
        ("weights", |run, other| {
            let digest = other.outputs["model.safetensors"];
            let _ = run.outputs.insert("model.safetensors".to_owned(), digest);
        }),
        ("metrics log", |run, other| {
            let _ = run.outputs.insert("metrics.jsonl".to_owned(), other.outputs["metrics.jsonl"]);
        }),
    ];
    for (what, edit) in edits {
        let mut edited = run.clone();
        edit(&mut edited, &other);
        let failure = refused(&bench, &store, &edited);
        assert_eq!((failure.code.as_str(), failure.exit), ("record-altered", Exit::Run));
        assert!(failure.message.contains(what), "{what}: {failure:?}");
    }
    let mut short = run.clone();
    let log = store.put_bytes(b"").expect("kept");
    short.outputs.insert("metrics.jsonl".to_owned(), log);
    assert_eq!(refused(&bench, &store, &short).code.as_str(), "record-altered");
    short.outputs.remove("metrics.jsonl");
    assert_eq!(refused(&bench, &store, &short).code.as_str(), "run-output-missing");
    let log = store.put_bytes(b"{\"update\":1").expect("kept");
    short.outputs.insert("metrics.jsonl".to_owned(), log);
    assert_eq!(refused(&bench, &store, &short).code.as_str(), "record-unreadable");
    let options = ReplayOptions { version: Some(version(&store, 2)), ..ReplayOptions::default() };
    let failure = with(&bench, &store, &run, &options).expect_err("not the run's version");
    assert!(failure.message.contains("version `fake@2` has another model manifest"), "{failure:?}");
    let options = ReplayOptions { version: Some(version(&store, 1)), ..ReplayOptions::default() };
    let found = with(&bench, &store, &run, &options).expect("replays").replay;
    assert_eq!((found.likeness, found.subject.as_str()), (Likeness::Identical, "fake@1"));
}

struct Stopped;

impl Stop for Stopped {
    fn is_requested(&self) -> bool {
        true
    }
}

#[test]
fn a_stopped_replay_says_that_it_begins_again() {
    let (bench, store) = trained();
    let failure = bench
        .lab(&store, &Stopped)
        .replay(&mut Seen::default(), &training(&store), &ReplayOptions::default())
        .expect_err("stopped");
    assert_eq!((failure.code.as_str(), failure.exit), ("stopped", Exit::Interrupted));
    assert!(failure.details[0].contains("begins again"), "{failure:?}");
    assert_eq!(replay(&bench, &store).replay.likeness, Likeness::Identical);
}
