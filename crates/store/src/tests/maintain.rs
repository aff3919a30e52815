//! `verify` finds every damage, `gc` takes nothing that is needed.

use std::time::Duration;

use karat_core::{Digest, Timestamp};

use super::{
    NOW, complete_run, folder, judge_and_promote, name, open, problems, rot, training, version,
};

/// Far enough in the future that every file is old.
const MUCH_LATER: Timestamp = Timestamp(4_000_000_000_000);

#[test]
fn verify_finds_bit_flips_truncation_loss_and_swaps() {
    let dir = folder();
    let store = open(dir.path());
    let record = version(&store, "one").expect("registers");
    let other = version(&store, "two").expect("registers");
    assert_eq!(problems(&store), Vec::<String>::new());
    let (a, b) = (record.manifest, other.manifest);
    let path = store.path(&a);
    let bytes = std::fs::read(&path).expect("there");
    let shallow = || store.verify(false, &mut |_, _| {}).expect("runs").problems.len();

    rot(&store, &a);
    assert_eq!((shallow(), problems(&store).len()), (0, 1));
    assert!(problems(&store)[0].contains("flights@1"), "says who needs it: {:?}", problems(&store));
    std::fs::write(&path, &bytes[1..]).expect("truncates");
    assert_eq!((shallow(), problems(&store).len()), (1, 1));
    std::fs::remove_file(&path).expect("removes");
    assert_eq!((shallow(), problems(&store).len()), (1, 1));
    // Two objects of one size in each other's place.
    std::fs::copy(store.path(&b), &path).expect("copies");
    std::fs::write(store.path(&b), &bytes).expect("swaps");
    assert_eq!((shallow(), problems(&store).len()), (0, 2));

    let loose = store.put_bytes(b"named by nothing").expect("written");
    rot(&store, &loose);
    assert_eq!(problems(&store).len(), 3, "also what nothing names");
}

#[test]
fn verify_finds_an_edited_history() {
    let dir = folder();
    let store = open(dir.path());
    for key in ["one", "two"] {
        judge_and_promote(&store, &version(&store, key).expect("registers")).expect("promotes");
    }
    // Somebody who can write to the file can also drop the triggers; the chain still tells.
    let edit = |sql: &str| store.commit(|tx| Ok(tx.execute_batch(sql)?)).expect("edits");
    edit("DROP TRIGGER promotion_is_final; UPDATE promotion SET actor = 'nobody' WHERE seq = 1");
    assert_eq!(
        problems(&store),
        ["history of `flights@champion`: move 1 was changed after the fact"]
    );
    edit("UPDATE promotion SET actor = 'ada' WHERE seq = 1");
    assert_eq!(problems(&store), Vec::<String>::new());
    edit("DROP TRIGGER alias_moves_one_by_one; UPDATE alias SET version = 1");
    assert_eq!(
        problems(&store),
        ["`flights@champion` points to flights@1, its history ends at flights@2"]
    );
}

#[test]
fn gc_keeps_what_is_named_and_what_is_young() {
    let dir = folder();
    let store = open(dir.path());
    let record = version(&store, "one").expect("registers");
    judge_and_promote(&store, &record).expect("promotes");
    let handle = training(&store);
    let files: [(&str, &[u8]); 1] = [("model.safetensors", b"a checkpoint")];
    store
        .commit_checkpoint(&handle, 1, &files, &serde_json::json!({}), None, NOW)
        .expect("commits");
    let loose = store.put_bytes(b"named by nothing").expect("written");
    let staged = store.staging("half.parquet").expect("created");

    let written =
        std::fs::metadata(store.path(&loose)).and_then(|it| it.modified()).expect("there");
    let written = written.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis();
    let now = Timestamp(i64::try_from(written).expect("before the year 292 million"));
    let young = store.gc(Duration::from_secs(3600), false, now).expect("collects");
    assert_eq!((young.n_objects, young.n_scratch), (0, 0));

    let planned = store.gc(Duration::from_secs(3600), true, MUCH_LATER).expect("plans");
    assert_eq!((planned.n_objects, planned.n_bytes, planned.n_scratch), (1, 16, 1));
    assert!(store.contains(&loose, true).expect("looks"), "a dry run removes nothing");
    assert_eq!(store.gc(Duration::from_secs(3600), false, MUCH_LATER).expect("collects"), planned);
    assert!(!store.contains(&loose, false).expect("looks"));
    assert!(!staged.path().exists());
    assert_eq!(problems(&store), Vec::<String>::new());
    assert_eq!(store.latest_checkpoint(&handle.id).expect("looks").0.map(|it| it.update), Some(1));
}

#[test]
fn gc_frees_what_was_replaced_and_the_logs_of_completed_runs() {
    let dir = folder();
    let store = open(dir.path());
    let (done, _) = complete_run(&store, "done").expect("runs");
    let open_run = training(&store).id;
    for run in [&done, &open_run] {
        crate::RunLog::open(&store, run).expect("opens").flush().expect("flushes");
    }
    let at = Digest::of(b"snapshot");
    for text in ["old", "new"] {
        let files = [("report.md".to_owned(), store.put_bytes(text.as_bytes()).expect("written"))];
        store.set_reports(&at, "flights@1", &files.into(), NOW).expect("named");
    }
    let report = store.gc(Duration::ZERO, false, MUCH_LATER).expect("collects");
    assert_eq!((report.n_objects, report.n_bytes, report.n_scratch), (1, 3, 1));
    assert!(!dir.path().join("runs").join(&done.0).exists());
    assert!(dir.path().join("runs").join(&open_run.0).exists(), "it may be continued");
    assert_eq!(store.models().expect("listed"), Vec::<karat_core::Name>::new());
    assert_eq!(problems(&store), Vec::<String>::new());
    assert_eq!(store.versions(&name("flights")).expect("none"), []);
}
