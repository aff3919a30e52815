//! Every durable effect fails once: by death, and by a full disk. Whichever it is, a reader sees the old state or the
//! new one, no row names missing bytes, and the same call finishes afterwards.

use std::{collections::BTreeSet, path::Path};

use karat_core::{Coded as _, Step};
use serde_json::json;

use super::{
    NOW, champion, folder, judge_and_promote, name, open, problems, rollback, start, version,
};
use crate::{FaultPlan, Store, StoreError};

/// Lets the n-th effect of `work` fail, for every n, in a copy of the store that `prepare` left; after each, `survived`
/// looks at what is there. Returns how many effects there were.
fn sweep(
    plan: fn(u64) -> FaultPlan,
    prepare: impl Fn(&Store),
    work: impl Fn(&Store) -> Result<(), StoreError>,
    survived: impl Fn(&Store, u64),
) -> u64 {
    for n in 0.. {
        let dir = folder();
        let at = dir.path().join("state");
        prepare(&open(&at));
        let result = Store::open_faulty(&at, plan(n)).and_then(|store| work(&store));
        let is_done = result.is_ok();
        if let Err(error) = result {
            let known = ["store-io", "store-disk-full"];
            assert!(known.contains(&error.code().as_str()), "effect {n}: {error}");
        }
        check_all(&at, n, &survived);
        let store = open(&at);
        work(&store).unwrap_or_else(|error| panic!("effect {n}: the second try failed: {error}"));
        drop(store);
        check_all(&at, n, &survived);
        if is_done {
            return n;
        }
    }
    unreachable!("the effects of one piece of work end");
}

fn check_all(at: &Path, n: u64, survived: &impl Fn(&Store, u64)) {
    let store = open(at);
    assert_eq!(problems(&store), Vec::<String>::new(), "effect {n}");
    survived(&store, n);
}

fn commit_work(store: &Store) -> Result<(), StoreError> {
    let handle = store.begin_run(&start(Step::Train, "crash"), NOW)?;
    let files: [(&str, &[u8]); 2] =
        [("model.safetensors", b"weights"), ("optimizer.safetensors", b"moments")];
    store.commit_checkpoint(&handle, 10, &files, &json!({ "update": 10 }), Some(0.5), NOW)?;
    store.commit_checkpoint(
        &handle,
        20,
        &[("model.safetensors", b"better weights")],
        &json!({}),
        Some(0.4),
        NOW,
    )?;
    store.prune_checkpoints(&handle.id, 1, 0)?;
    let mut log = crate::RunLog::open(store, &handle.id)?;
    log.note_evaluation(20, 0.4, 0.8);
    log.flush()?;
    let outputs = [("model.safetensors".to_owned(), store.put_bytes(b"better weights")?)];
    store.finish_run(&handle, &super::end(outputs.into()), NOW)
}

fn commit_survived(store: &Store, n: u64) {
    for run in store.runs(10).expect("runs are readable") {
        let (latest, warnings) =
            store.latest_checkpoint(&run.id).expect("checkpoints are readable");
        assert_eq!(warnings, Vec::<String>::new(), "effect {n}: a committed checkpoint is damaged");
        if let Some(latest) = latest {
            let weights: &[u8] = if latest.update == 10 { b"weights" } else { b"better weights" };
            assert_eq!(latest.files["model.safetensors"], weights, "effect {n}");
        } else {
            assert_ne!(
                run.state,
                crate::RunState::Complete,
                "effect {n}: complete without its checkpoint"
            );
        }
    }
}

#[test]
fn commit_survives_a_failure_at_every_write() {
    for plan in [FaultPlan::crash_at, FaultPlan::full_at] {
        let n = sweep(plan, |_| {}, commit_work, commit_survived);
        assert!(40 <= n, "only {n} effects seen: is the fault injector wired in?");
    }
}

#[test]
fn promote_survives_a_failure_at_every_write() {
    for plan in [FaultPlan::crash_at, FaultPlan::full_at] {
        let n = sweep(
            plan,
            |store| {
                let first = version(store, "one").expect("registers");
                judge_and_promote(store, &first).expect("promotes");
            },
            |store| {
                let second = version(store, "two")?;
                judge_and_promote(store, &second).map(drop)
            },
            |store, n| {
                let seen = champion(store);
                assert!(seen == Some(1) || seen == Some(2), "effect {n}: champion is {seen:?}");
                let history = store.history(&name("flights"), &name("champion")).expect("readable");
                assert_eq!(
                    history.last().map(|it| it.to),
                    seen,
                    "effect {n}: history and alias disagree"
                );
                assert!(history.len() <= 2, "effect {n}: promoted twice");
            },
        );
        assert!(15 <= n, "only {n} effects seen: is the fault injector wired in?");
    }
}

#[test]
fn rollback_survives_a_failure_at_every_write() {
    let back_once = |store: &Store| match champion(store) {
        Some(1) => Ok(()),
        _ => rollback(store).map(drop),
    };
    sweep(
        FaultPlan::crash_at,
        |store| {
            for key in ["one", "two"] {
                let record = version(store, key).expect("registers");
                judge_and_promote(store, &record).expect("promotes");
            }
        },
        back_once,
        |store, n| assert!(matches!(champion(store), Some(1 | 2)), "effect {n}"),
    );
}

#[test]
fn collecting_survives_a_failure_at_every_write() {
    let grace = std::time::Duration::ZERO;
    let later = karat_core::Timestamp(i64::MAX);
    sweep(
        FaultPlan::crash_at,
        |store| {
            version(store, "named").expect("registers");
            store.put_bytes(b"named by nothing").expect("written");
            std::mem::forget(store.staging("left behind").expect("created"));
        },
        |store| store.gc(grace, false, later).map(drop),
        |store, _| {
            let kept = version(store, "named").expect("still there");
            assert!(kept.outputs.values().all(|it| store.contains(it, true).expect("readable")));
        },
    );
}

/// Only a power failure would show a missing fsync, so the order itself is looked at: a file is synced after its last
/// write and before it gets its name, and a name is synced before any row is committed.
#[test]
fn nothing_is_committed_before_it_is_synced() {
    let dir = folder();
    let store = Store::open_faulty(&dir.path().join("state"), FaultPlan::crash_at(u64::MAX))
        .expect("opens");
    commit_work(&store).expect("no fault is planned");
    let second = version(&store, "two").expect("registers");
    judge_and_promote(&store, &second).expect("promotes");
    let seen = store.disk.faults.as_ref().expect("a faulty disk").seen();
    let (mut unsynced_files, mut unsynced_folders) = (BTreeSet::new(), BTreeSet::new());
    let mut n_renamed = 0;
    for (what, path) in &seen {
        let folder = path.parent().expect("an absolute path").to_owned();
        match *what {
            "write" | "truncate" => drop(unsynced_files.insert(path)),
            "sync" => drop(unsynced_files.remove(path)),
            "make_dir" | "named" => drop(unsynced_folders.insert(folder)),
            "sync_dir" => drop(unsynced_folders.remove(path)),
            "rename" => {
                assert!(
                    !unsynced_files.contains(path),
                    "{} gets its name before it is synced",
                    path.display()
                );
                n_renamed += 1;
            }
            "commit" => {
                assert_eq!(
                    unsynced_files,
                    BTreeSet::new(),
                    "committed before the bytes are synced"
                );
                assert_eq!(
                    unsynced_folders,
                    BTreeSet::new(),
                    "committed before the names are synced"
                );
            }
            "create" | "open" | "remove" | "remove_dir" => {}
            other => panic!("unknown effect `{other}`"),
        }
    }
    assert!(8 <= n_renamed, "only {n_renamed} objects seen");
}

/// Killed after the bytes and before the row: nothing but files that nothing names, and `gc` removes them.
#[test]
fn death_between_object_and_row_leaves_only_unnamed_files() {
    let dir = folder();
    drop(open(dir.path()));
    let mut n_with_leftovers = 0;
    for n in 0..12 {
        let result = Store::open_faulty(dir.path(), FaultPlan::crash_at(n))
            .and_then(|store| super::complete_run(&store, &format!("run {n}")).map(drop));
        if result.is_ok() {
            break;
        }
        let store = open(dir.path());
        assert_eq!(problems(&store), Vec::<String>::new());
        let collected = store
            .gc(std::time::Duration::ZERO, false, karat_core::Timestamp(i64::MAX))
            .expect("collects");
        n_with_leftovers += u64::from(0 < collected.n_objects + collected.n_scratch);
        let again = store
            .gc(std::time::Duration::ZERO, true, karat_core::Timestamp(i64::MAX))
            .expect("looks");
        assert_eq!((again.n_objects, again.n_scratch), (0, 0));
    }
    assert!(
        3 <= n_with_leftovers,
        "{n_with_leftovers}: no crash left a file, so none happened in between"
    );
}
