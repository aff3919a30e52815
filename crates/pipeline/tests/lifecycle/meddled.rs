//! Somebody else writes to the store: a lease that is lost, a log cut by hand, a manifest of another form. What is known
//! is said, and nothing is made up.

use std::sync::atomic::{AtomicI64, Ordering};

use karat_core::{Event, Exit, Step, Timestamp, port::NeverStop};
use karat_pipeline::{AfterPass, ModelManifest, ScoreOptions};
use karat_store::{RunEnd, RunHandle, RunState, Store};
use serde_json::Value;

use crate::bench::{Asked, Bench, Seen, lasting, version};

fn training(store: &Store) -> RunHandle {
    let runs = store.runs(100).expect("readable");
    let run = runs.into_iter().find(|it| it.step == Step::Train).expect("a training");
    RunHandle { id: run.id, attempt: run.attempt }
}

/// Ends somebody's run, as a takeover would.
fn end(store: &Store, handle: &RunHandle) {
    let end = RunEnd {
        state: RunState::Failed,
        outputs: std::collections::BTreeMap::new(),
        metrics: Value::Null,
        seconds: 0.0,
        error: None,
    };
    store.finish_run(handle, &end, Timestamp(0)).expect("ended by somebody else");
}

#[test]
fn a_lost_lease_is_told_when_it_is_noticed_and_when_the_failure_cannot_be_recorded() {
    let mut bench = Bench::new();
    let seconds = AtomicI64::new(0);
    // Every look at the clock is an hour later: a heartbeat is always due.
    bench.clock = Box::new(move || Timestamp(3_600_000 * seconds.fetch_add(1, Ordering::Relaxed)));
    let (store, meddler) = (bench.store(), bench.store());
    let pass = bench.pass_with(&store, "", AfterPass::Promote, &NeverStop, |event| {
        if matches!(event, Event::Updated(record) if record.update == 2) {
            end(&meddler, &training(&meddler));
        }
    });
    let codes: Vec<&str> = pass.warnings().iter().map(|it| it.0).collect();
    assert!(codes.contains(&"heartbeat-failed"), "{codes:?}");
    assert!(codes.contains(&"run-not-recorded"), "{codes:?}");
    let failure = pass.failed();
    assert_eq!((failure.code.as_str(), failure.exit), ("lease-lost", Exit::Run));
}

#[test]
fn a_log_cut_by_hand_is_told_when_the_training_continues() {
    let bench = Bench::new();
    let store = bench.store();
    let stop = Asked::default();
    let _ = bench.pass_with(&store, "", AfterPass::Promote, &stop, |event| {
        if matches!(event, Event::Updated(record) if record.update == 4) {
            stop.ask();
        }
    });
    let log = store.dir().join("runs").join(&training(&store).id.0).join("metrics.jsonl");
    let text = std::fs::read_to_string(&log).expect("a log");
    let first: String = text.lines().take(2).map(|line| format!("{line}\n")).collect();
    std::fs::write(&log, first).expect("writable");
    let again = bench.pass(&store, "");
    let warned = again.warnings().iter().any(|it| it.0 == "metrics-log-short");
    assert!(warned, "{:?}", again.warnings());
    assert!(!lasting(&again.done()).is_empty());
}

#[test]
fn a_manifest_of_a_later_form_is_not_guessed_at() {
    let bench = Bench::new();
    let store = bench.store();
    let _ = bench.pass(&store, "").done();
    let bytes = store.read(&version(&store, 1).manifest).expect("kept");
    let text =
        String::from_utf8(bytes).expect("JSON").replacen("\"version\": 1", "\"version\": 2", 1);
    let later = store.put_bytes(text.as_bytes()).expect("kept");
    let failure =
        ModelManifest::open(&bench.lab(&store, &NeverStop), &later).expect_err("another form");
    assert_eq!((failure.code.as_str(), failure.exit), ("model-too-new", Exit::Run));
    assert!(failure.message.contains("has form 2, this build reads 1"), "{failure:?}");
}

#[test]
fn scores_go_to_a_file_and_not_to_a_folder() {
    let bench = Bench::new();
    let store = bench.store();
    let _ = bench.pass(&store, "").done();
    let device = "cpu".to_owned();
    let options = ScoreOptions { batch_size: 64, quarantine_max: 0.0, device };
    let failure = bench
        .lab(&store, &NeverStop)
        .score_files(
            &mut Seen::default(),
            &version(&store, 1).manifest,
            &[],
            std::path::Path::new(".."),
            &options,
        )
        .expect_err("no file name");
    assert_eq!((failure.code.as_str(), failure.exit), ("out-invalid", Exit::Usage));
}
