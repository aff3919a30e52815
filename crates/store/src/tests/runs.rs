//! Runs, leases, the cache, logs and checkpoints.

use karat_core::{Digest, RunId, Step, Timestamp, UpdateRecord};
use serde_json::json;

use super::{NOW, code, complete_run, end, folder, open, rot, start, training};
use crate::{RunEnd, RunLog, RunState, Store};

#[test]
fn a_run_is_recorded_as_it_was() {
    let dir = folder();
    let store = open(dir.path());
    let (id, outputs) = complete_run(&store, "one").expect("runs");
    let asked = start(Step::Train, "one");
    let run = store.run(&id.0).expect("found");
    assert_eq!((&run.spec, &run.inputs, run.seed), (&asked.spec, &asked.inputs, Some(u64::MAX)));
    assert_eq!((run.step, run.key, &run.code), (Step::Train, asked.key, &asked.code));
    assert_eq!((run.state, run.attempt, &run.outputs), (RunState::Complete, 1, &outputs));
    assert_eq!((run.metrics, run.ended_at), (json!({ "loss": 0.5 }), Some(NOW)));
    assert!(crate::run_log::is_run_id(&id.0), "{id}");
}

#[test]
fn a_run_in_progress_is_not_begun_twice() {
    let dir = folder();
    let (one, two) = (open(dir.path()), open(dir.path()));
    let handle = training(&one);
    let asked = start(Step::Train, "training");
    let error = two.begin_run(&asked, NOW).expect_err("somebody is at work");
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    assert_eq!(code(two.begin_run(&asked, NOW)), "run-in-progress");
    two.begin_run(&start(Step::Train, "other"), NOW).expect("another key is free");
    // The process ends without a word: the same run goes on.
    drop(one);
    let again = two.begin_run(&asked, NOW).expect("taken over");
    assert_eq!((&again.id, again.attempt), (&handle.id, 2));
}

#[test]
fn whoever_lost_the_lease_cannot_commit() {
    let dir = folder();
    let (zombie, store) = (open(dir.path()), open(dir.path()));
    let old = training(&zombie);
    // As if the zombie's machine had been silent for long: its owner is not of this boot.
    let elsewhere = r#"{"host":"elsewhere","host_name":"h","pid":1,"started":1,"instance":1}"#;
    zombie.commit(|tx| Ok(tx.execute("UPDATE run SET owner = ?1", [elsewhere])?)).expect("edited");
    let later = Timestamp(NOW.0 + 61_000);
    let new = store.begin_run(&start(Step::Train, "training"), later).expect("taken over");
    assert_eq!(new.attempt, 2);
    let files: [(&str, &[u8]); 1] = [("model.safetensors", b"late")];
    assert_eq!(
        code(zombie.commit_checkpoint(&old, 1, &files, &json!({}), None, later)),
        "lease-lost"
    );
    assert_eq!(code(zombie.heartbeat(&old, later)), "lease-lost");
    assert_eq!(code(zombie.finish_run(&old, &end([].into()), later)), "lease-lost");
    store.heartbeat(&new, later).expect("holds the lease");
    store.finish_run(&new, &end([].into()), later).expect("holds the lease");
    assert_eq!(code(store.finish_run(&new, &end([].into()), later)), "lease-lost");
}

#[test]
fn failed_and_canceled_runs_are_continued_and_complete_ones_are_not() {
    let dir = folder();
    let store = open(dir.path());
    let asked = start(Step::Train, "training");
    let mut seen = Vec::new();
    for (state, error) in [
        (RunState::Failed, Some("disk full")),
        (RunState::Canceled, None),
        (RunState::Complete, None),
    ] {
        let handle = store.begin_run(&asked, NOW).expect("free");
        let error = error.map(str::to_owned);
        let end = RunEnd { state, error: error.clone(), ..end([].into()) };
        store.finish_run(&handle, &end, NOW).expect("ends");
        let run = store.run(&handle.id.0).expect("found");
        assert_eq!((run.state, run.error), (state, error));
        seen.push(handle);
    }
    assert!(
        seen.windows(2).all(|it| it[0].id == it[1].id && it[0].attempt + 1 == it[1].attempt),
        "{seen:?}"
    );
    let fresh = store.begin_run(&asked, NOW).expect("a new run");
    assert_ne!(fresh.id, seen[0].id);
    assert_eq!(fresh.attempt, 1);
}

#[test]
fn outputs_must_be_in_the_store() {
    let dir = folder();
    let store = open(dir.path());
    let handle = training(&store);
    let outputs = [("model.json".to_owned(), Digest::of(b"never written"))];
    assert_eq!(code(store.finish_run(&handle, &end(outputs.into()), NOW)), "object-missing");
    assert_eq!(store.run(&handle.id.0).expect("found").state, RunState::Running);
}

#[test]
fn the_cache_hits_only_while_every_output_is_whole() {
    let dir = folder();
    let store = open(dir.path());
    let key = Digest::of(b"one");
    assert_eq!(store.cached_run(Step::Train, &key).expect("looks"), None);
    let (id, outputs) = complete_run(&store, "one").expect("runs");
    let hit = store.cached_run(Step::Train, &key).expect("looks").expect("a hit");
    assert_eq!(hit.id, id);
    assert_eq!(store.cached_run(Step::Score, &key).expect("looks"), None, "another step");
    assert_eq!(store.take_warnings(), Vec::<String>::new());

    rot(&store, &outputs["model.safetensors"]);
    assert_eq!(store.cached_run(Step::Train, &key).expect("looks"), None);
    let warnings = store.take_warnings();
    assert!(
        warnings.len() == 1 && warnings[0].contains("does not match its digest"),
        "{warnings:?}"
    );
    // Done again: the bytes heal, and the newer run is used.
    let (again, _) = complete_run(&store, "one").expect("runs");
    assert_eq!(store.cached_run(Step::Train, &key).expect("looks").expect("a hit").id, again);
}

#[test]
fn runs_are_found_by_a_unique_beginning() {
    let dir = folder();
    let store = open(dir.path());
    let mut ids = Vec::new();
    for n in 0..17 {
        ids.push(complete_run(&store, &n.to_string()).expect("runs").0);
    }
    let newest: Vec<RunId> = store.runs(3).expect("listed").into_iter().map(|it| it.id).collect();
    assert!(newest.iter().eq(ids.iter().rev().take(3)), "newest first");
    assert_eq!(store.run(&ids[4].0[2..]).expect("without r-").id, ids[4]);
    // Among 17 ids, two begin with the same hex digit.
    let twins: Vec<&RunId> =
        ids.iter().filter(|a| ids.iter().filter(|b| a.0[..3] == b.0[..3]).count() > 1).collect();
    assert_eq!(code(store.run(&twins[0].0[..3])), "run-ambiguous");
    for unknown in ["r-xyz", "r-", "", "'; DROP TABLE run; --", "r-%"] {
        assert_eq!(code(store.run(unknown)), "run-unknown", "{unknown}");
    }
}

fn keep(store: &Store, handle: &crate::RunHandle, update: u64, loss: Option<f64>) {
    let weights = format!("weights after {update}");
    let optimizer = format!("optimizer after {update}");
    let files: [(&str, &[u8]); 2] = [
        ("model.safetensors", weights.as_bytes()),
        ("optimizer.safetensors", optimizer.as_bytes()),
    ];
    store
        .commit_checkpoint(handle, update, &files, &json!({ "update": update }), loss, NOW)
        .expect("commits");
}

#[test]
fn a_corrupt_newest_checkpoint_falls_back_loudly() {
    let dir = folder();
    let store = open(dir.path());
    let handle = training(&store);
    assert_eq!(store.latest_checkpoint(&handle.id).expect("looks"), (None, Vec::new()));
    for update in [1, 2, 3] {
        keep(&store, &handle, update, None);
    }
    let update = |store: &Store| {
        let (found, warnings) = store.latest_checkpoint(&handle.id).expect("looks");
        (found.map(|it| it.update), warnings.len())
    };
    assert_eq!(update(&store), (Some(3), 0));
    rot(&store, &Digest::of(b"optimizer after 3"));
    assert_eq!(update(&store), (Some(2), 1));
    let manifest = store.checkpoints(&handle.id).expect("listed")[1].manifest;
    std::fs::remove_file(store.path(&manifest)).expect("removed");
    let (found, warnings) = store.latest_checkpoint(&handle.id).expect("looks");
    let found = found.expect("the first is whole");
    assert_eq!((found.update, found.state), (1, json!({ "update": 1 })));
    assert_eq!(found.files["model.safetensors"], b"weights after 1");
    assert!(warnings[0].contains("update 3") && warnings[1].contains("update 2"), "{warnings:?}");
    // Training goes on from there and passes the same updates: they are whole again.
    keep(&store, &handle, 2, None);
    keep(&store, &handle, 3, None);
    assert_eq!(update(&store), (Some(3), 0));
}

#[test]
fn pruning_keeps_the_last_and_the_best_and_frees_the_rest() {
    let dir = folder();
    let store = open(dir.path());
    let handle = training(&store);
    for (update, loss) in
        [(1, Some(0.9)), (2, Some(0.1)), (3, None), (4, Some(0.5)), (5, Some(0.7)), (6, None)]
    {
        keep(&store, &handle, update, loss);
    }
    // Also an output of a run: its bytes are not the checkpoint's alone.
    let shared = Digest::of(b"weights after 1");
    let other = store.begin_run(&start(Step::Train, "other"), NOW).expect("free");
    store
        .finish_run(&other, &end([("model.safetensors".to_owned(), shared)].into()), NOW)
        .expect("ends");

    assert_eq!(store.prune_checkpoints(&handle.id, 2, 1).expect("prunes"), 3);
    let kept: Vec<u64> =
        store.checkpoints(&handle.id).expect("listed").iter().map(|it| it.update).collect();
    assert_eq!(kept, [2, 5, 6]);
    for (update, is_there) in [(1, false), (2, true), (3, false), (4, false), (5, true), (6, true)]
    {
        let digest = Digest::of(format!("optimizer after {update}").as_bytes());
        assert_eq!(store.contains(&digest, true).expect("looks"), is_there, "update {update}");
    }
    assert!(store.contains(&shared, true).expect("looks"), "another run names it");
    assert_eq!(super::problems(&store), Vec::<String>::new());
    assert_eq!(store.prune_checkpoints(&handle.id, 2, 1).expect("prunes"), 0);
}

#[test]
fn pruning_never_takes_the_last_whole_checkpoint() {
    let dir = folder();
    let store = open(dir.path());
    let handle = training(&store);
    for update in [1, 2, 3] {
        keep(&store, &handle, update, None);
    }
    std::fs::remove_file(store.path(&Digest::of(b"weights after 3"))).expect("removed");
    store.prune_checkpoints(&handle.id, 0, 0).expect("prunes");
    let kept: Vec<u64> =
        store.checkpoints(&handle.id).expect("listed").iter().map(|it| it.update).collect();
    assert_eq!(kept, [2, 3]);
}

fn record(update: u64) -> UpdateRecord {
    UpdateRecord {
        update,
        loss: 0.1 / update as f64,
        learning_rate: 1e-3,
        gradient_norm: 1.0,
        n_rows: 500,
        weights: None,
    }
}

#[test]
fn a_rewound_log_equals_one_that_was_never_interrupted() {
    let dir = folder();
    let store = open(dir.path());
    let write = |log: &mut RunLog, updates: std::ops::RangeInclusive<u64>| {
        for update in updates {
            log.append(&record(update), Timestamp(NOW.0 + 250 * update as i64)).expect("appends");
            if update % 2 == 0 {
                log.note_evaluation(update, 1.0 / update as f64, f64::NAN);
            }
        }
    };
    let straight = training(&store).id;
    let mut log = RunLog::open(&store, &straight).expect("opens");
    write(&mut log, 1..=6);
    log.flush().expect("flushes");

    let resumed = store.begin_run(&start(Step::Train, "resumed"), NOW).expect("free").id;
    let mut first = RunLog::open(&store, &resumed).expect("opens");
    write(&mut first, 1..=5);
    first.flush().expect("flushes");
    drop(first);
    // A crash in the middle of a line.
    let path = dir.path().join("runs").join(&resumed.0).join("metrics.jsonl");
    let mut torn = std::fs::read(&path).expect("there");
    torn.extend_from_slice(br#"{"update":6,"lo"#);
    std::fs::write(&path, torn).expect("written");

    let mut second = RunLog::open(&store, &resumed).expect("opens");
    assert!(second.rewind_to(3).expect("rewinds"));
    write(&mut second, 4..=6);
    assert_eq!(second.read().expect("reads").0, log.read().expect("reads").0);
    let seen = second.evaluations().expect("reads");
    assert_eq!(seen.losses, [[2.0, 0.5], [4.0, 0.25], [6.0, 1.0 / 6.0]]);
    assert!(seen.values.is_empty(), "{seen:?}");
    let (_, throughput) = second.read().expect("reads");
    assert!(String::from_utf8(throughput).expect("text").contains(r#""rows_per_s":2000.0"#));
    assert!(!second.rewind_to(9).expect("rewinds"), "a log that does not reach that far says so");
    assert!(second.rewind_to(0).expect("rewinds"), "from the beginning");
    assert_eq!(second.read().expect("reads").0, b"");
}

#[test]
fn only_a_run_id_becomes_a_folder() {
    let dir = folder();
    let store = open(dir.path());
    for hostile in ["../../x", "r-../../../", "/etc", "", "r-0123456789a"] {
        assert_eq!(
            code(RunLog::open(&store, &RunId(hostile.to_owned())).map(drop)),
            "run-unknown",
            "{hostile}"
        );
    }
}
