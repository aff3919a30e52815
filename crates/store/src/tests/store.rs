//! Opening: what is created, what is refused, and what looking only means.

use std::path::Path;

use karat_core::{Coded as _, Digest, Exit, Snapshot, SnapshotFile, port::KnownFile};

use super::{NOW, code, folder, name, open, version};
use crate::{Access, Store, StoreError, store::network_fs};

fn reopen(dir: &Path, access: Access) -> Result<(), StoreError> {
    Store::open(dir, access).map(drop)
}

#[test]
fn a_store_is_new_once() {
    let dir = folder();
    let at = dir.path().join("deep/.karat");
    assert_eq!(code(reopen(&at, Access::ReadOnly)), "store-absent");
    assert!(!at.exists(), "looking creates nothing");
    assert!(open(&at).is_new());
    assert!(!open(&at).is_new());
}

#[test]
fn foreign_newer_and_broken_databases_are_refused() {
    let dir = folder();
    drop(open(dir.path()));
    let database = dir.path().join("karat.db");
    let edit = |sql: &str| {
        rusqlite::Connection::open(&database).and_then(|it| it.execute_batch(sql)).expect("edits");
    };
    edit("PRAGMA user_version = 3");
    let error = Store::open(dir.path(), Access::ReadWrite).map(drop).expect_err("newer");
    assert_eq!(error.code().as_str(), "store-too-new");
    assert!(error.to_string().contains("has form 3, this build knows form 2"), "{error}");
    edit("PRAGMA user_version = 2; PRAGMA application_id = 77");
    assert_eq!(code(reopen(dir.path(), Access::ReadWrite)), "store-corrupt");
    std::fs::write(&database, vec![b'x'; 8192]).expect("overwrites");
    for access in [Access::ReadWrite, Access::ReadOnly] {
        assert_eq!(code(reopen(dir.path(), access)), "store-corrupt");
    }
}

#[test]
fn looking_only_sees_everything_and_changes_nothing() {
    let dir = folder();
    let writer = open(dir.path());
    let record = version(&writer, "one").expect("registers");
    // Once beside an open writer, whose last commits are only in the log, and once alone.
    for writer in [Some(writer), None] {
        let reader = Store::open(dir.path(), Access::ReadOnly).expect("opens");
        assert_eq!(reader.version(&name("flights"), 1).expect("sees it"), record);
        assert_eq!(
            reader.verify(true, &mut |_, _| {}).expect("verifies").problems,
            Vec::<String>::new()
        );
        assert_eq!(code(reader.put_bytes(b"x")), "store-read-only");
        assert_eq!(code(version(&reader, "two")), "store-read-only");
        assert_eq!(code(reader.gc(std::time::Duration::ZERO, false, NOW)), "store-read-only");
        drop(writer);
    }
}

#[test]
fn a_full_disk_says_how_much_was_needed_and_that_nothing_happened() {
    let error =
        StoreError::io("write", "x", Some(500_000_000), std::io::Error::from_raw_os_error(28));
    assert_eq!((error.code().as_str(), error.exit()), ("store-disk-full", Exit::Run));
    assert_eq!(error.details(), ["500,000,000 bytes were needed", "nothing was committed"]);
    let read_only = StoreError::io("create", "x", None, std::io::Error::from_raw_os_error(30));
    assert_eq!(read_only.code().as_str(), "store-read-only");
    let broken = StoreError::io("sync", "x", None, std::io::Error::from_raw_os_error(5));
    assert_eq!(broken.code().as_str(), "store-io");
    let dir = folder();
    let too_much = open(dir.path()).disk.refuse_if_full(dir.path(), u64::MAX / 2);
    assert_eq!(code(too_much), "store-disk-full");
}

#[test]
fn network_file_systems_are_refused_by_name() {
    assert_eq!(network_fs(0x6969), Some("NFS"));
    assert_eq!(network_fs(0xff53_4d42), Some("CIFS"));
    assert_eq!(network_fs(0xef53), None, "ext4");
    let error = StoreError::NetworkFs { dir: "x".into(), kind: "NFS" };
    assert_eq!(error.code().as_str(), "store-network-fs");
}

/// A writer that waits too long is told so; it does not hang and does not corrupt.
#[test]
fn errors_of_the_database_have_codes_of_their_own() {
    let failure = |code| {
        StoreError::from(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None))
    };
    for (result, expected) in [
        (rusqlite::ffi::SQLITE_BUSY, "store-busy"),
        (rusqlite::ffi::SQLITE_FULL, "store-disk-full"),
        (rusqlite::ffi::SQLITE_IOERR, "store-io"),
        (rusqlite::ffi::SQLITE_READONLY, "store-read-only"),
        (rusqlite::ffi::SQLITE_CORRUPT, "store-corrupt"),
        (rusqlite::ffi::SQLITE_NOTADB, "store-corrupt"),
        (rusqlite::ffi::SQLITE_CONSTRAINT, "store-database"),
    ] {
        assert_eq!(failure(result).code().as_str(), expected);
    }
}

fn snapshot(path: &str, content: &str) -> Snapshot {
    let digest = Digest::of(content.as_bytes());
    let files = vec![SnapshotFile { path: path.to_owned(), digest, n_bytes: 1, n_rows: 10 }];
    Snapshot { dataset: name("flights"), files, n_rows: 10, schema: Digest::of(b"schema") }
}

#[test]
fn snapshots_are_found_by_prefix_and_keep_their_digest_when_files_are_renamed() {
    let dir = folder();
    let store = open(dir.path());
    let (old, new) = (snapshot("a.parquet", "rows"), snapshot("b.parquet", "rows"));
    let digest = store.put_snapshot(&old, NOW).expect("kept");
    assert_eq!(store.put_snapshot(&new, NOW).expect("kept"), digest);
    let other = store.put_snapshot(&snapshot("a.parquet", "other rows"), NOW).expect("kept");
    assert_eq!(store.snapshot(&digest).expect("there"), new);
    assert_eq!(store.snapshots(&name("flights")).expect("there").len(), 2);
    let found = store.find_snapshot(Some(&name("flights")), &other.short()).expect("found");
    assert_eq!(found.iter().map(|it| it.0).collect::<Vec<_>>(), [other]);
    assert_eq!(store.find_snapshot(Some(&name("trains")), &other.short()).expect("none"), []);
    assert_eq!(code(store.snapshot(&Digest::of(b"nothing"))), "snapshot-unknown");
}

#[test]
fn known_files_and_reports_are_replaced_as_a_whole() {
    let dir = folder();
    let store = open(dir.path());
    let known = |path: &str| KnownFile {
        path: path.to_owned(),
        n_bytes: u64::MAX,
        modified_ns: i128::from(i64::MAX) * 2,
        inode: u64::MAX,
        digest: Digest::of(b"content"),
        n_rows: 3,
    };
    store.set_known_files(&name("flights"), &[known("/a"), known("/b")]).expect("kept");
    store.set_known_files(&name("flights"), &[known("/b")]).expect("kept");
    assert_eq!(store.known_files(&name("flights")).expect("there"), [known("/b")]);
    assert_eq!(store.known_files(&name("trains")).expect("none"), []);

    let at = Digest::of(b"snapshot");
    for text in ["old", "new"] {
        let files = [("report.md".to_owned(), store.put_bytes(text.as_bytes()).expect("written"))];
        store.set_reports(&at, "flights@1", &files.into(), NOW).expect("named");
    }
    let named = store.reports(&at, "flights@1").expect("there");
    assert_eq!(store.read(&named["report.md"]).expect("whole"), b"new");
    let missing = [("report.md".to_owned(), Digest::of(b"never written"))];
    assert_eq!(code(store.set_reports(&at, "flights@1", &missing.into(), NOW)), "object-missing");
}

#[test]
fn files_for_people_are_written_whole_and_into_new_folders() {
    let dir = folder();
    let path = dir.path().join("snapshots/new/flights.toml");
    crate::write_durably(&path, b"one").expect("written");
    crate::write_durably(&path, b"two").expect("replaced");
    let scratch = dir.path().join("scratch");
    std::fs::write(&scratch, b"three").expect("written");
    assert_eq!(std::fs::read(&path).expect("there"), b"two");
    crate::move_durably(&scratch, &path).expect("moved");
    assert_eq!(std::fs::read(&path).expect("there"), b"three");
    assert_eq!(std::fs::read_dir(path.parent().expect("a folder")).expect("listed").count(), 1);
}
