//! What a snapshot's digest depends on, what is not hashed again, and what a changed file does.

use std::fs;

use karat_core::port::Tables as _;

use super::{Desk, check};

const COLUMNS: &str = "id int key, x float feature, y float label";

fn desk() -> Desk {
    let desk = Desk::new(COLUMNS);
    desk.write("in/a.csv", "id,x,y\n1,0.5,1\n2,1.5,2\n");
    desk.write("in/b.csv", "id,x,y\n3,2.5,4\n");
    desk
}

#[test]
fn a_changed_byte_changes_the_digest_and_a_renamed_file_does_not() {
    let desk = desk();
    let before = desk.locate().snapshot;
    assert_eq!((before.n_rows, before.files.len()), (3, 2));
    fs::rename(desk.path("in/b.csv"), desk.path("in/0.csv")).expect("renamed");
    let renamed = desk.locate().snapshot;
    assert_eq!(renamed.digest(), before.digest());
    assert_ne!(renamed.files, before.files);
    desk.write("in/a.csv", "id,x,y\n1,0.5,1\n2,1.6,2\n");
    assert_ne!(desk.locate().snapshot.digest(), before.digest());
}

#[test]
fn the_schema_is_part_of_the_digest_and_the_order_of_patterns_is_not() {
    let mut desk = desk();
    let before = desk.locate().snapshot.digest();
    desk.files = vec!["in/b.csv".to_owned(), "in/*.csv".to_owned()];
    assert_eq!(desk.locate().snapshot.digest(), before);
    desk.column("x").max = Some(9.0);
    assert_ne!(desk.locate().snapshot.digest(), before);
}

#[test]
fn rows_come_in_the_order_of_digests_whatever_files_are_called() {
    let desk = desk().with_split("all", super::predicate("id > 0"));
    let plan = desk.fit("all");
    let before = desk.encode("all", &plan);
    fs::rename(desk.path("in/b.csv"), desk.path("in/0.csv")).expect("renamed");
    assert_eq!(desk.encode("all", &plan), before);
}

#[test]
fn unchanged_files_are_not_hashed_again() {
    let desk = desk();
    let (first, mut known) = desk.snapshot_with(&[]).expect("a snapshot");
    // A digest that no hashing gives shows that the known one was taken over.
    let made_up = karat_core::Digest::of(b"made up");
    let at = known.iter().position(|it| it.path.ends_with("a.csv")).expect("it is known");
    known[at].digest = made_up;
    let (second, again) = desk.snapshot_with(&known).expect("a snapshot");
    assert_eq!(second.files.iter().filter(|it| it.digest == made_up).count(), 1);
    assert_eq!(again, known);
    desk.write("in/a.csv", "id,x,y\n1,0.5,1\n2,1.25,2\n");
    let (third, _) = desk.snapshot_with(&known).expect("a snapshot");
    assert!(third.files.iter().all(|it| it.digest != made_up), "a changed file is hashed");
    assert_eq!(third.n_rows, first.n_rows);
}

#[test]
fn a_file_that_changed_after_the_snapshot_is_refused_before_a_row_is_read() {
    let desk = desk();
    let located = desk.locate();
    let measure = || desk.tables().measure(&located, None, &mut |_, _| {});
    desk.write("in/a.csv", "id,x,y\n1,0.5,1\n2,1.6,2\n");
    check(measure(), "snapshot-changed", 3, &["in/a.csv", "expected sha256:", "found sha256:"]);
    desk.write("in/a.csv", "id,x,y\n1,0.5,1\n");
    check(measure(), "snapshot-changed", 3, &["in/a.csv", "23 bytes", "15 bytes"]);
    fs::remove_file(desk.path("in/a.csv")).expect("removed");
    check(measure(), "file-missing", 2, &["in/a.csv"]);
}

#[test]
fn progress_is_in_bytes_and_reaches_the_total() {
    let desk = desk();
    let mut last = (0, None);
    let mut observe = |done, total| last = (done, total);
    let dataset = desk.dataset();
    let _ = desk
        .tables()
        .snapshot(desk.folder.path(), &dataset, &desk.schema, &[], &mut observe)
        .expect("a snapshot");
    assert_eq!(last, (38, Some(38)));
}
