//! Kills, stops, damage, and company: after each of them the same command finishes the job and gives the same bytes.

#![expect(clippy::print_stderr, reason = "a test says what this machine did not let it see")]

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::Command,
};

use karat_testkit::Sandbox;
use serde_json::Value;

const KARAT: &str = env!("CARGO_BIN_EXE_karat");

/// Long enough to be interrupted, with many checkpoints.
fn long(sandbox: &Sandbox) {
    sandbox.edit("karat.toml", "epochs = 3", "epochs = 40\ncheckpoint = { every_updates = 50 }");
    sandbox.edit("karat.toml", "early_stopping = 5", "early_stopping = 0");
    sandbox.edit("karat.toml", "# dropout = 0.0", "dropout = 0.1");
}

/// Digests of everything that must not depend on interruptions: weights, manifest, metrics log, predictions.
fn results(sandbox: &Sandbox) -> Vec<Vec<u8>> {
    let _ = sandbox.karat("run --quiet --out out");
    ["model.safetensors", "model.json", "metrics.jsonl", "predictions.parquet"]
        .iter()
        .map(|name| sandbox.bytes(&format!("out/{name}")))
        .collect()
}

fn signal(child: &std::process::Child, name: &str) {
    let sent = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(child.id().to_string())
        .status()
        .expect("kill exists");
    assert!(sent.success());
}

/// Starts `karat run --json` and sends a signal as soon as an event satisfies `when`; gives the exit code.
fn interrupt(
    sandbox: &Sandbox,
    line: &str,
    name: &str,
    when: impl Fn(&Value) -> bool,
) -> Option<i32> {
    let mut child = sandbox.start(line);
    let stdout = child.stdout.take().expect("piped");
    let mut is_sent = false;
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        let event: Value = serde_json::from_str(&line).expect("JSON lines");
        if !is_sent && when(&event) {
            signal(&child, name);
            is_sent = true;
        }
    }
    let status = child.wait().expect("a child");
    assert!(is_sent, "the event never came");
    status.code()
}

fn reference() -> Vec<Vec<u8>> {
    let sandbox = Sandbox::churn(KARAT);
    long(&sandbox);
    results(&sandbox)
}

#[test]
fn slow_kill_in_every_step_then_the_same_command_gives_the_same_bytes() {
    let expected = reference();
    for step in ["snapshot", "check", "train", "score", "gate"] {
        let sandbox = Sandbox::churn(KARAT);
        long(&sandbox);
        let code = interrupt(&sandbox, "run --json", "KILL", |event| {
            event["event"] == "step_started" && event["step"] == step
        });
        assert_eq!(code, None, "killed in {step}");
        let _ = sandbox.karat("run").expect_code(0);
        assert!(results(&sandbox) == expected, "killed in {step}: other bytes");
        assert_eq!(sandbox.alias("churn@champion"), Some(1), "killed in {step}");
        let _ = sandbox.karat("verify").expect_code(0);
    }
}

#[test]
fn slow_kill_and_stop_while_training_resume_to_the_same_bytes_on_any_thread_count() {
    let expected = reference();
    for (name, n_checkpoints, threads, code) in [
        ("KILL", 1, 1, None),
        ("TERM", 2, 2, Some(75)),
        ("INT", 3, 3, Some(75)),
        ("KILL", 5, 8, None),
    ] {
        let sandbox = Sandbox::churn(KARAT);
        long(&sandbox);
        let seen = std::cell::Cell::new(0);
        let ended =
            interrupt(&sandbox, &format!("run --json --threads {threads}"), name, |event| {
                if event["event"] == "checkpoint_committed" {
                    seen.set(seen.get() + 1);
                }
                seen.get() == n_checkpoints
            });
        assert_eq!(ended, code, "{name}");
        let again = sandbox.karat("run").expect_code(0);
        assert!(again.stderr.contains("continuing run"), "{name}: {}", again.stderr);
        assert!(
            results(&sandbox) == expected,
            "{name} after {n_checkpoints} checkpoints: other bytes"
        );
    }
}

#[test]
fn resume_refuses_a_changed_configuration_and_names_it() {
    let sandbox = Sandbox::churn(KARAT);
    long(&sandbox);
    let code = interrupt(&sandbox, "train --json", "TERM", |event| {
        event["event"] == "checkpoint_committed"
    });
    assert_eq!(code, Some(75));
    let runs = sandbox.karat("runs --json").json();
    let run = runs.iter().find(|it| it["step"] == "train").expect("a run")["run"]
        .as_str()
        .expect("an id")
        .to_owned();
    let _ = sandbox
        .karat(&format!("train --resume {run} --set train.seed=8"))
        .expect_code(2)
        .expect_error("resume-mismatch", &["train.seed", "7", "8"]);
    let resumed = sandbox.karat(&format!("train --resume {run}")).expect_code(0);
    assert!(resumed.stderr.contains("continuing run"), "{}", resumed.stderr);
}

fn object(sandbox: &Sandbox, version: &str, name: &str) -> PathBuf {
    let shown = sandbox.karat(&format!("show {version}")).expect_code(0).stdout;
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    let digest = shown["outputs"][name]
        .as_str()
        .expect("an output")
        .trim_start_matches("sha256:")
        .to_owned();
    sandbox.objects().into_iter().find(|it| it.ends_with(&digest)).expect("the object is there")
}

fn overwrite(path: &PathBuf, bytes: &[u8]) {
    std::fs::remove_file(path).expect("a file");
    std::fs::write(path, bytes).expect("a file");
}

#[test]
fn damaged_model_bytes_are_never_used() {
    for damage in ["truncated", "flipped", "pickle"] {
        let sandbox = Sandbox::churn(KARAT);
        let _ = sandbox.karat("run").expect_code(0);
        let path = object(&sandbox, "churn@1", "model.safetensors");
        let mut bytes = std::fs::read(&path).expect("a model");
        match damage {
            "truncated" => bytes.truncate(bytes.len() / 2),
            "flipped" => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            }
            _ => bytes[..4].copy_from_slice(b"\x80\x04\x95\x00"),
        }
        overwrite(&path, &bytes);
        let ran = sandbox.karat("score churn.csv --out scores.csv").expect_code(3);
        let _ = ran.expect_error("object-corrupt", &["expected", "found"]);
        assert!(!sandbox.path().join("scores.csv").exists(), "{damage}: nothing is written");
        let _ = sandbox.karat("verify").expect_code(3).expect_error("store-damaged", &[]);
        // The same command trains again instead of trusting the damaged output, and gets the same bytes.
        let _ = sandbox.karat("run").expect_code(0);
        let _ = sandbox.karat("verify").expect_code(0);
    }
}

/// Runs a shell script with mounts of its own, which are gone with it; `None` where the machine allows none, which the
/// script tells by exit code 99.
fn with_private_mounts(sandbox: &Sandbox, script: &str) -> Option<(Option<i32>, String)> {
    let ran = Command::new("unshare")
        .args(["-r", "-m", "sh", "-c", script])
        .current_dir(sandbox.path())
        .output();
    let (code, stderr) = match ran {
        Ok(ran) => (ran.status.code(), String::from_utf8_lossy(&ran.stderr).into_owned()),
        Err(error) => (Some(99), error.to_string()),
    };
    if code == Some(99) || stderr.starts_with("unshare: ") {
        eprintln!("no private mounts on this machine: {stderr}");
        return None;
    }
    Some((code, stderr))
}

#[test]
fn a_read_only_store_can_be_looked_at_and_is_not_written() {
    let sandbox = Sandbox::trained(KARAT);
    // Permissions do not bind root; a read-only mount binds everybody.
    let script = format!(
        "mount --bind .karat .karat && mount -o remount,ro,bind .karat || exit 99; \
         {KARAT} runs >runs.txt || exit 98; {KARAT} run --set train.seed=9"
    );
    if let Some((code, stderr)) = with_private_mounts(&sandbox, &script) {
        assert_eq!(code, Some(3), "{stderr}");
        assert!(stderr.contains("error[store-read-only]: "), "{stderr}");
        assert!(sandbox.read("runs.txt").contains("train"), "runs can be listed");
    }
    assert_eq!(sandbox.alias("churn@champion"), Some(1));
}

#[test]
fn a_full_disk_is_an_error_that_says_so_and_the_next_run_finishes() {
    let sandbox = Sandbox::churn(KARAT);
    let script = format!(
        "mkdir -p .karat && mount -t tmpfs -o size=150k none .karat || exit 99; \
         {KARAT} run; code=$?; umount .karat; exit $code"
    );
    if let Some((code, stderr)) = with_private_mounts(&sandbox, &script) {
        assert_eq!(code, Some(3), "{stderr}");
        assert!(stderr.contains("error[store-disk-full]"), "{stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
    let _ = sandbox.karat("run").expect_code(0);
    assert_eq!(sandbox.alias("churn@champion"), Some(1));
}

#[test]
fn two_processes_in_one_store_do_the_work_once_or_wait_their_turn() {
    let sandbox = Sandbox::churn(KARAT);
    long(&sandbox);
    let (a, b) = (sandbox.start("run"), sandbox.start("run"));
    let codes: Vec<(Option<i32>, String)> = [a, b]
        .into_iter()
        .map(|it| {
            let output = it.wait_with_output().expect("a child");
            (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
        })
        .collect();
    assert!(codes.iter().any(|(code, _)| *code == Some(0)), "{codes:?}");
    for (code, stderr) in &codes {
        assert!(
            *code == Some(0) || (*code == Some(3) && stderr.contains("error[run-in-progress]")),
            "{code:?}\n{stderr}"
        );
    }
    assert_eq!(sandbox.alias("churn@champion"), Some(1));
    let _ = sandbox.karat("verify").expect_code(0);
    let _ = sandbox.karat("run").expect_code(0);
    assert_eq!(sandbox.karat("alias churn@champion").stdout.lines().count(), 2, "one promotion");
}

#[test]
fn an_alias_moved_while_the_gate_ran_is_a_conflict() {
    let sandbox = Sandbox::churn(KARAT);
    let _ = sandbox.karat("run").expect_code(0);
    let _ = sandbox.karat("train --set train.seed=8").expect_code(0);
    // While the third candidate is being judged, somebody else moves the alias to the second.
    sandbox.edit("gate.toml", "reliability = 0.95", "reliability = 0.95\nn_resamples = 200000");
    let mut child = sandbox.start("run --json --set train.seed=9");
    let stdout = child.stdout.take().expect("piped");
    let mut moved = false;
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        let event: Value = serde_json::from_str(&line).expect("JSON lines");
        if !moved && event["event"] == "step_started" && event["step"] == "gate" {
            let _ = sandbox
                .karat("promote churn@2 --force --reason 'a colleague was faster'")
                .expect_code(0);
            moved = true;
        }
        if event["event"] == "failed" {
            assert_eq!(event["code"], "promotion-conflict", "{event}");
        }
    }
    let code = child.wait().expect("a child").code();
    assert!(moved, "the gate never began");
    // A candidate that failed its gate never gets as far as the swap.
    assert!(code == Some(3) || code == Some(1) || code == Some(4), "{code:?}");
    assert_eq!(sandbox.alias("churn@champion"), Some(2), "the colleague's promotion stands");
}
