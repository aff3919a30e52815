//! Uses of the judged rows, through the binary.

use karat_testkit::Sandbox;

const KARAT: &str = env!("CARGO_BIN_EXE_karat");

#[test]
fn every_use_is_listed_with_who_when_and_what_was_shown() {
    let sandbox = Sandbox::trained(KARAT);
    let gate = sandbox.karat("gate").expect_code(0);
    assert!(gate.stdout.contains("use 1 of these rows, no budget"), "{}", gate.stdout);
    let _ = sandbox.karat("train --set train.seed=2").expect_code(0);
    let _ = sandbox.karat("compare churn@1 churn@2").expect_code(0);
    let _ = sandbox.karat("run --dry-run --set train.seed=3");
    let ledger = sandbox.karat("ledger").expect_code(0);
    assert!(
        ledger.stdout.starts_with("evaluation rows ")
            && ledger.stdout.contains(": use 3, no budget"),
        "{}",
        ledger.stdout
    );
    let rows: Vec<&str> = ledger.stdout.lines().filter(|it| it.contains("tester")).collect();
    assert_eq!(rows.len(), 3, "the same verdict again is no use:\n{}", ledger.stdout);
    for (row, words) in
        rows.iter().zip([["churn@1", "release"], ["churn@2", "(compare)"], ["churn@3", "release"]])
    {
        assert!(words.iter().chain(&["numbers", "Z "]).all(|it| row.contains(it)), "{row}");
    }
    let json = sandbox.karat("ledger --json").expect_code(0);
    assert_eq!(
        json.stdout.lines().filter(|it| it.contains(r#""event":"use""#)).count(),
        3,
        "{}",
        json.stdout
    );
    let _ = sandbox.karat("gc --grace 0").expect_code(0);
    assert_eq!(sandbox.karat("ledger").expect_code(0).stdout, ledger.stdout, "gc leaves it alone");
}

#[test]
fn an_edit_of_the_database_stops_every_gate() {
    let sandbox = Sandbox::trained(KARAT);
    let path = sandbox.path().join(".karat/karat.db");
    let bytes = std::fs::read(&path).expect("a database at rest");
    let mut edited = bytes.clone();
    // "Its numbers were never shown": a word of the same length.
    let places: Vec<usize> =
        (0..bytes.len() - 7).filter(|at| &bytes[*at..at + 7] == b"numbers").collect();
    assert!(!places.is_empty());
    for at in places {
        edited[at..at + 7].copy_from_slice(b"verdict");
    }
    std::fs::write(&path, edited).expect("writable");
    for command in ["gate", "run", "run --set train.seed=2", "compare churn@1 churn@1", "ledger"] {
        let _ = sandbox
            .karat(command)
            .expect_code(3)
            .expect_error("ledger-broken", &["nothing was judged", "karat verify"]);
    }
    let _ =
        sandbox.karat("verify").expect_code(3).expect_error("store-damaged", &["ledger: entry 1"]);
    assert_eq!(sandbox.alias("churn@champion"), Some(1));
}
