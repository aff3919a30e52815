//! Objects: what is stored is what is read, or an error.

use karat_core::Digest;

use super::{code, folder, open, rot};

#[test]
fn bytes_come_back_and_equal_bytes_are_one_object() {
    let dir = folder();
    let store = open(dir.path());
    // Below and above the size from which hashing runs beside writing.
    for n_bytes in [0, 1, 1 << 20, (1 << 20) + 1] {
        let bytes: Vec<u8> = (0..n_bytes).map(|i: u32| (i % 251) as u8).collect();
        let digest = store.put_bytes(&bytes).expect("written");
        assert_eq!(digest, Digest::of(&bytes));
        assert_eq!(store.put_bytes(&bytes).expect("there already"), digest);
        assert_eq!(store.read(&digest).expect("whole"), bytes);
        assert!(store.path(&digest).ends_with(format!(
            "sha256/{}/{}",
            &digest.hex()[..2],
            digest.hex()
        )));
    }
    let left = std::fs::read_dir(dir.path().join("tmp")).expect("the folder is there").count();
    assert_eq!(left, 0, "scratch files are left behind");
}

#[test]
fn a_staged_file_is_published_or_removed() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = folder();
    let store = open(dir.path());
    let staged = store.staging("../../predictions.parquet").expect("created");
    let path = staged.path().to_owned();
    assert_eq!(
        path.parent(),
        Some(dir.path().join("tmp").as_path()),
        "a name never leaves the folder"
    );
    assert_eq!(path.extension().and_then(|it| it.to_str()), Some("parquet"));
    assert_eq!(std::fs::metadata(&path).expect("it exists").permissions().mode() & 0o777, 0o600);
    std::fs::write(&path, b"rows").expect("writable");
    let digest = store.publish(staged).expect("published");
    assert_eq!(store.read(&digest).expect("whole"), b"rows");
    assert!(!path.exists());

    let dropped = store.staging("x").expect("created");
    let path = dropped.path().to_owned();
    drop(dropped);
    assert!(!path.exists());
}

#[test]
fn damage_is_refused_and_healed_by_the_right_bytes() {
    let dir = folder();
    let store = open(dir.path());
    let bytes = vec![7; 4096];
    let digest = store.put_bytes(&bytes).expect("written");
    rot(&store, &digest);
    assert_eq!(code(store.read(&digest)), "object-corrupt");
    assert!(store.contains(&digest, false).expect("looks"));
    assert!(!store.contains(&digest, true).expect("hashes"));
    store.put_bytes(&bytes).expect("made again");
    assert_eq!(store.read(&digest).expect("whole again"), bytes);

    let file = std::fs::OpenOptions::new().write(true).open(store.path(&digest)).expect("opens");
    file.set_len(4095).expect("truncates");
    assert_eq!(code(store.read(&digest)), "object-corrupt");
    std::fs::remove_file(store.path(&digest)).expect("removes");
    assert_eq!(code(store.read(&digest)), "object-missing");
}

/// A link in the object folder could lead a reader to any file.
#[test]
fn links_are_not_followed() {
    let dir = folder();
    let store = open(dir.path());
    let digest = store.put_bytes(b"content").expect("written");
    let outside = dir.path().join("outside");
    std::fs::write(&outside, b"content").expect("written");
    std::fs::remove_file(store.path(&digest)).expect("removed");
    std::os::unix::fs::symlink(&outside, store.path(&digest)).expect("linked");
    assert_eq!(code(store.read(&digest)), "store-io");
    assert!(!store.contains(&digest, false).expect("looks"));
}
