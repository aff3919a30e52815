//! What commands do with their words: folders, names, places, limits, and outputs that cannot be written.

use std::{fs::File, process::Command};

use karat_testkit::{Sandbox, fixture::churn_csv};

const KARAT: &str = env!("CARGO_BIN_EXE_karat");

#[test]
fn what_cannot_be_written_for_people_leaves_the_verdict_as_it_is() {
    let sandbox = Sandbox::churn(KARAT);
    sandbox.write("taken", "a file, not a folder");
    sandbox.write("snapshots", "a file, not a folder");
    let ran = sandbox.karat("run --out taken").expect_code(0);
    for what in ["the pointer file: ", "`--out`: "] {
        let warning = format!("warning[reports-not-written]: {what}");
        assert!(ran.stderr.contains(&warning), "no `{warning}` in\n{}", ran.stderr);
    }
    assert!(ran.stdout.contains("gate `release`: pass"), "{}", ran.stdout);
    assert!(ran.stdout.contains("report.html"), "{}", ran.stdout);
    assert_eq!(sandbox.alias("churn@champion"), Some(1));

    let judged = sandbox.karat("gate");
    let again = sandbox.karat("gate --out taken").expect_code(judged.code);
    assert!(again.stderr.contains("warning[reports-not-written]: "), "{}", again.stderr);
    assert!(again.stdout.contains("gate `release`: "), "{}", again.stdout);

    // A refusal stays a refusal.
    let constant = sandbox.read("churn.csv").replace(",yes\n", ",no\n");
    sandbox.write("churn.csv", constant);
    let _ = sandbox
        .karat("run --out taken")
        .expect_code(1)
        .expect_error("check-failed", &["warning[reports-not-written]: "]);
    let events = sandbox.karat("run --json").expect_code(1).json();
    let last: Vec<_> =
        events.iter().rev().take(2).map(|it| (it["event"].as_str(), it["exit"].as_u64())).collect();
    assert_eq!(last, [(Some("failed"), Some(1)), (Some("run_finished"), Some(1))]);
}

#[test]
fn init_works_in_the_folder_named_by_c_and_with_any_column_name() {
    let sandbox = Sandbox::new(KARAT);
    let csv = churn_csv(3000).replacen(
        "id,joined,region,plan,age,spend,churned",
        "id,joined,all,\"pl\\an \"\"b\"\"\",\"a.ge\",\"spe\nnd\",\"la\"\"bel\"",
        1,
    );
    sandbox.write("my base/d.csv", csv);
    let init = sandbox
        .karat("-C 'my base' init proj --name a.b --data d.csv --label 'la\"bel'")
        .expect_code(0);
    assert!(init.stdout.contains("karat -C 'my base/proj' run"), "{}", init.stdout);
    assert!(!sandbox.path().join("proj").exists(), "nothing beside the named folder");
    let project = sandbox.read("my base/proj/karat.toml");
    for line in ["[dataset.\"a.b\"]", "all_2 = { values = \"all\" }", "pl_an__b = { values = "] {
        assert!(project.contains(line), "no `{line}` in\n{project}");
    }
    let _ = sandbox.karat("-C 'my base/proj' check").expect_code(0);
    let ran = sandbox
        .karat("-C 'my base/proj' run --out out --set train.epochs=5 --set train.hidden=[16]");
    assert!([0, 1, 4].contains(&ran.code), "{ran:?}");
    assert!(
        sandbox.path().join("my base/proj/out/report.html").exists(),
        "--out is relative to -C"
    );
    if ran.code == 0 {
        assert!(ran.stdout.contains("karat -C 'my base/proj' score"), "{}", ran.stdout);
    }
}

#[test]
fn init_continues_where_it_was_killed_and_overwrites_nothing() {
    let sandbox = Sandbox::churn(KARAT);
    let init = "init . --name churn --data churn.csv --label churned";
    let _ = sandbox.karat(init).expect_code(2).expect_error("init-exists", &["karat.toml"]);
    std::fs::remove_file(sandbox.path().join("karat.toml")).expect("a file");
    let again = sandbox.karat(init).expect_code(0);
    assert!(!again.stderr.contains("warning["), "equal files are kept silently: {}", again.stderr);
    std::fs::remove_file(sandbox.path().join("karat.toml")).expect("a file");
    sandbox.edit("gate.toml", "min = 0.6", "min = 0.7");
    let again = sandbox.karat(init).expect_code(0);
    assert!(again.stderr.contains("warning[init-kept]: `./gate.toml`"), "{}", again.stderr);
    assert!(sandbox.read("gate.toml").contains("min = 0.7"), "a person's edit stays");
}

#[test]
fn labels_that_no_task_can_use_are_refused_before_anything_is_written() {
    let sandbox = Sandbox::churn(KARAT);
    let _ = sandbox
        .karat("init t --data churn.csv --label joined")
        .expect_code(2)
        .expect_error("label-type", &["joined", "time"]);
    let rows: String = (0..1_200).map(|i| format!("{},n{i}\n", i % 7)).collect();
    sandbox.write("names.csv", format!("x,y\n{rows}"));
    let _ = sandbox
        .karat("init t --data names.csv --label y")
        .expect_code(2)
        .expect_error("label-classes", &["1,200 classes", "1,000"]);
    assert!(!sandbox.path().join("t").exists());
}

#[test]
fn references_mean_one_thing_and_unknown_ones_list_near_names() {
    let sandbox = Sandbox::trained(KARAT);
    let refused = |line: &str, code: &str, facts: &[&str]| {
        let _ = sandbox.karat(line).expect_code(2).expect_error(code, facts);
    };
    refused("gate release strict", "reference-invalid", &["`release`", "`strict`", "both gates"]);
    refused("gate churn@1 churn@2", "reference-invalid", &["`churn@1`", "both candidates"]);
    refused("alias churm", "model-unknown", &["churm", "`churn`"]);
    refused("alias churn@champoin", "alias-unknown", &["champoin", "`champion`"]);
    refused("alias churm@champion", "model-unknown", &["`churn`"]);
    refused("show churn@12345678", "version-unknown", &["12345678", "churn@1"]);
    let digest = sandbox.karat("snapshot --json").json().pop().expect("a line")["digest"]
        .as_str()
        .expect("a digest")
        .trim_start_matches("sha256:")
        .to_owned();
    let near = format!("`churn@{}`", &digest[..8]);
    refused("show churn@abcdefab", "snapshot-unknown", &["means 0 snapshots", &near]);
}

#[test]
fn commands_that_need_a_store_create_none() {
    let sandbox = Sandbox::churn(KARAT);
    for line in [
        "gc",
        "promote churn@1",
        "rollback",
        "gate",
        "compare churn@1 churn@2",
        "score churn.csv --out s.csv",
    ] {
        let _ = sandbox.karat(line).expect_code(2).expect_error("store-absent", &["karat run"]);
        assert!(!sandbox.path().join(".karat").exists(), "`karat {line}` left a folder");
    }
}

#[test]
fn paths_of_score_are_relative_to_the_folder_named_by_c() {
    let sandbox = Sandbox::trained(KARAT);
    sandbox.write("sub/here", "");
    let inside = |line: &str| {
        let ran = sandbox
            .command(line)
            .current_dir(sandbox.path().join("sub"))
            .output()
            .expect("the binary under test starts");
        (ran.status.code(), String::from_utf8_lossy(&ran.stdout).into_owned())
    };
    assert_eq!(inside("-C .. score churn.csv --out s.PARQUET").0, Some(0));
    assert!(
        sandbox.path().join("s.PARQUET").exists() && !sandbox.path().join("sub/s.PARQUET").exists()
    );
    assert_eq!(inside("-C .. train --out model").0, Some(0));
    assert!(sandbox.path().join("model/model.json").exists());

    sandbox.write(
        "mixed.csv",
        "id,joined,region,plan,age,spend\n1,2025-01-01,north,basic,30,50\n2,2025-01-01,north,basic,thirty,50\n",
    );
    let _ = sandbox
        .karat("score mixed.csv --out m.csv")
        .expect_code(1)
        .expect_error("quarantine-exceeded", &["m.csv.quarantine.jsonl"]);
    assert!(sandbox.path().join("m.csv.quarantine.jsonl").exists());
    let scored =
        sandbox.karat("score mixed.csv --out m.csv --set score.quarantine_max=0.5").expect_code(0);
    assert!(scored.stdout.contains("in m.csv.quarantine.jsonl"), "{}", scored.stdout);
    for flags in ["--batch-size 0", "--batch-size 1048577", "--threads 0", "--threads 4097"] {
        let ran = sandbox.karat(&format!("score churn.csv --out n.csv {flags}")).expect_code(2);
        assert!(ran.stderr.contains("1.."), "{flags}: {}", ran.stderr);
    }
}

#[test]
fn the_json_stream_ends_with_what_was_found() {
    let sandbox = Sandbox::trained(KARAT);
    let last = |line: &str| sandbox.karat(line).json().pop().expect("a line");
    let checked = last("check --json");
    assert_eq!((&checked["event"], &checked["exit"]), (&"check_finished".into(), &0.into()));
    assert_eq!(last("compare churn@1 churn@1 --json")["event"], "compared");
    let examined = last("doctor --json");
    assert!(examined["libraries"]["burn"].is_string(), "{examined}");
    let brief = sandbox.karat("doctor").expect_code(0).stdout;
    assert!(brief.contains("structure whole") && brief.contains("datafusion"), "{brief}");
    let full = sandbox.karat("doctor -v").expect_code(0).stdout;
    assert!(full.contains("every byte matches"), "{full}");
    sandbox.write(".karat/karat.db", "this is no database, whatever its name says, however long");
    let broken = sandbox.karat("doctor").expect_code(3).stdout;
    assert!(broken.contains("error[store-corrupt]"), "{broken}");
}

#[test]
fn a_stdout_that_cannot_be_written_to_is_an_error() {
    let sandbox = Sandbox::trained(KARAT);
    let Ok(full) = File::options().write(true).open("/dev/full") else { return };
    let ran = sandbox.command("runs").stdout(full).output().expect("it starts");
    let stderr = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("error[stdout-failed]: ") && stderr.contains("No space"), "{stderr}");
}

/// Whether the process has a handler for SIGINT; `true` where that cannot be seen.
fn listens(id: u32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{id}/status")) else { return true };
    let caught = status.lines().find_map(|it| it.strip_prefix("SigCgt:")).unwrap_or_default();
    u64::from_str_radix(caught.trim(), 16).is_ok_and(|mask| mask & 0b10 != 0)
}

#[test]
fn the_first_signal_ends_a_command_that_leaves_no_checkpoint() {
    let sandbox = Sandbox::new(KARAT);
    let pipe = sandbox.path().join("rows.csv");
    let made = Command::new("mkfifo").arg(&pipe).status().expect("mkfifo exists");
    assert!(made.success());
    // Nobody writes into the pipe: reading it takes forever.
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let mut child = sandbox.start("init p --data rows.csv --label y");
        let id = child.id();
        while child.try_wait().expect("a child").is_none() && !listens(id) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        // The second of the two handlers may be a moment behind the first.
        std::thread::sleep(std::time::Duration::from_millis(100));
        let sent = Command::new("kill")
            .args([format!("-{name}"), id.to_string()])
            .status()
            .expect("kill exists");
        assert!(sent.success());
        assert_eq!(child.wait().expect("a child").code(), Some(code), "{name}");
    }
}

#[test]
fn class_weights_of_unknown_classes_are_refused() {
    let sandbox = Sandbox::churn(KARAT);
    let _ = sandbox
        .karat("run --set train.class_weights={ture=2.0}")
        .expect_code(2)
        .expect_error("class-unknown", &["`ture`", "`yes`", "`no`"]);
}

#[test]
fn a_skipped_update_is_a_warning() {
    let sandbox = Sandbox::churn(KARAT);
    let ran = sandbox.karat("run --set train.learning_rate=1000 --set train.clip_norm=0 --set train.warmup=0 --set train.epochs=200 --set train.early_stopping=0 --set train.weight_decay=900 --set train.non_finite_max=1");
    assert!(ran.stderr.contains("warning[update-skipped]: "), "{}", ran.stderr);
    assert_eq!(sandbox.alias("churn@champion"), None);
}
