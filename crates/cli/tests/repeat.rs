//! R1 to R3 through the binary, each time in a new process: what may differ between two runs without a bit changing.

use std::{
    io::{BufRead, BufReader},
    process::Command,
    time::{Duration, SystemTime},
};

use karat_testkit::Sandbox;
use serde_json::Value;

const KARAT: &str = env!("CARGO_BIN_EXE_karat");

const RESULTS: [&str; 4] =
    ["model.safetensors", "model.json", "metrics.jsonl", "predictions.parquet"];

/// Dropout, micro-batches and an uneven last batch: 3 epochs of 33 updates.
fn project() -> Sandbox {
    let sandbox = Sandbox::churn(KARAT);
    sandbox.edit("karat.toml", "# dropout = 0.0", "dropout = 0.1\naccumulate = 2");
    sandbox.edit(
        "karat.toml",
        "epochs = 3",
        "epochs = 3\ncheckpoint = { every_updates = 1, keep_last = 2 }",
    );
    sandbox
}

/// Weights, manifest, metrics log and predictions.
fn results(sandbox: &Sandbox) -> Vec<Vec<u8>> {
    RESULTS.iter().map(|name| sandbox.bytes(&format!("out/{name}"))).collect()
}

#[track_caller]
fn assert_same(found: &[Vec<u8>], expected: &[Vec<u8>], when: &str) {
    for ((found, expected), name) in found.iter().zip(expected).zip(RESULTS) {
        assert!(found == expected, "{when}: other bytes in {name}");
    }
}

fn reference() -> Vec<Vec<u8>> {
    let sandbox = project();
    let _ = sandbox.karat("run --out out").expect_code(0);
    results(&sandbox)
}

#[test]
fn r1_stopped_early_late_and_twice_then_continued_in_a_new_process() {
    let expected = reference();
    for stops in [&[1][..], &[40], &[20, 66]] {
        let sandbox = project();
        for (i, stop) in stops.iter().enumerate() {
            let mut child = sandbox.start(&format!("run --json --threads {}", i + 1));
            let stdout = child.stdout.take().expect("piped");
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let event: Value = serde_json::from_str(&line).expect("JSON lines");
                if event["event"] == "updated" && event["update"] == *stop {
                    let id = child.id().to_string();
                    let sent = Command::new("kill").args(["-TERM", &id]).status();
                    assert!(sent.expect("kill exists").success());
                }
            }
            let ended = child.wait().expect("a child").code();
            // Checkpoints come so fast that the signal finds the training before its end; if not, there was no stop.
            assert_eq!(ended, Some(75), "stopped at {stop}");
        }
        let again = sandbox.karat("run --out out --threads 3").expect_code(0);
        assert!(again.stderr.contains("continuing run"), "{}", again.stderr);
        assert_same(&results(&sandbox), &expected, &format!("stopped at {stops:?}"));
    }
}

#[test]
fn r2_threads_folder_time_zone_locale_and_file_times_change_nothing() {
    let expected = reference();
    for (threads, zone, locale) in [
        (1, "Asia/Kathmandu", "de_DE.UTF-8"),
        (2, "America/St_Johns", "tr_TR.UTF-8"),
        (3, "UTC", "C"),
        (8, "Pacific/Kiritimati", "ar_EG.UTF-8"),
    ] {
        let sandbox = project();
        let csv = std::fs::File::options().append(true).open(sandbox.path().join("churn.csv"));
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400 * threads);
        csv.and_then(|it| it.set_modified(long_ago)).expect("the sandbox is writable");
        let ran = sandbox
            .command(&format!("run --out out --threads {threads}"))
            .envs([("TZ", zone), ("LANG", locale), ("LC_ALL", locale)])
            .output()
            .expect("the binary under test starts");
        assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
        assert_same(&results(&sandbox), &expected, &format!("{threads} threads, {zone}, {locale}"));
    }
}

/// (id, score) of every row of a CSV of predictions.
fn scores(sandbox: &Sandbox, name: &str) -> Vec<(String, String)> {
    let text = sandbox.read(name);
    let header: Vec<&str> = text.lines().next().expect("a header").split(',').collect();
    let at = |name: &str| header.iter().position(|it| *it == name).expect("a column");
    let (id, score) = (at("id"), at("score"));
    let mut rows: Vec<(String, String)> = text
        .lines()
        .skip(1)
        .map(|line| {
            let cells: Vec<&str> = line.split(',').collect();
            (cells[id].to_owned(), cells[score].to_owned())
        })
        .collect();
    rows.sort();
    rows
}

#[test]
fn r3_scores_are_the_same_in_other_batches_orders_and_companies() {
    let sandbox = Sandbox::trained(KARAT);
    let _ = sandbox.karat("score churn.csv --out whole.csv").expect_code(0);
    let whole = scores(&sandbox, "whole.csv");
    assert_eq!(whole.len(), 3000);
    for batch in [1, 2, 7, 64, 3000] {
        let line = format!(
            "score churn.csv --out cut.csv --batch-size {batch} --threads {}",
            1 + batch % 3
        );
        let _ = sandbox.karat(&line).expect_code(0);
        assert!(sandbox.read("cut.csv") == sandbox.read("whole.csv"), "batches of {batch}");
    }
    let text = sandbox.read("churn.csv");
    let (header, rows) = text.split_once('\n').expect("a header");
    let mut backwards: Vec<&str> = rows.lines().collect();
    backwards.reverse();
    sandbox.write("backwards.csv", format!("{header}\n{}\n", backwards.join("\n")));
    let _ = sandbox.karat("score backwards.csv --out backwards-scored.csv").expect_code(0);
    assert!(scores(&sandbox, "backwards-scored.csv") == whole, "in another order");
    sandbox.write("few.csv", format!("{header}\n{}\n", backwards[..3].join("\n")));
    let _ = sandbox.karat("score few.csv --out few-scored.csv").expect_code(0);
    for row in scores(&sandbox, "few-scored.csv") {
        assert!(whole.contains(&row), "alone with two others: {row:?}");
    }
}
