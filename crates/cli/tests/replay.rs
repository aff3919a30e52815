//! `karat replay` through the binary: the answers and their exit codes, and every reason why there is none.

use karat_testkit::{Ran, Sandbox};
use serde_json::Value;

const KARAT: &str = env!("CARGO_BIN_EXE_karat");

fn run_of(sandbox: &Sandbox, step: &str) -> String {
    let runs = sandbox.karat("runs --json").expect_code(0).json();
    let run = runs.iter().find(|it| it["step"] == step).expect("recorded");
    run["run"].as_str().expect("an id").to_owned()
}

fn replay_of(ran: &Ran) -> Value {
    let lines = ran.json();
    lines.iter().find(|it| it["event"] == "replayed").expect("an answer")["replay"].clone()
}

#[test]
fn a_run_is_replayed_bit_for_bit_by_version_and_by_id_on_any_thread_count() {
    let sandbox = Sandbox::trained(KARAT);
    let before = sandbox.karat("show churn@1").expect_code(0).stdout;
    let run = run_of(&sandbox, "train");
    let ran = sandbox.karat("replay churn@1").expect_code(0);
    assert!(ran.stdout.contains("bit-identical"), "{}", ran.stdout);
    assert!(ran.stdout.contains(&run), "{}", ran.stdout);
    for line in [format!("replay {run} --threads 1"), "replay churn@champion --threads 3".into()] {
        let ran = sandbox.karat(&format!("{line} --json")).expect_code(0);
        let replay = replay_of(&ran);
        assert_eq!(replay["likeness"], "identical", "{replay}");
        assert_eq!(replay["tensors"], serde_json::json!([]));
        assert!(replay["replayed_on"]["host"]["binary"].is_string(), "{replay}");
    }
    assert_eq!(sandbox.karat("show churn@1").expect_code(0).stdout, before);
    assert_eq!(sandbox.alias("churn@champion"), Some(1));
    let history = sandbox.karat("alias churn@champion").expect_code(0).stdout;
    assert_eq!(history.lines().count(), 2, "one promotion: {history}");
    let replays = sandbox.karat("runs").expect_code(0).stdout;
    assert_eq!(replays.lines().filter(|it| it.contains("bit-identical")).count(), 3, "{replays}");
    let _ = sandbox.karat("verify").expect_code(0);
}

/// `karat.toml` may say anything by now: a replay asks the record.
#[test]
fn the_record_decides_and_not_the_project_file() {
    let sandbox = Sandbox::trained(KARAT);
    sandbox.edit("karat.toml", "epochs = 3", "epochs = 5");
    sandbox.edit("karat.toml", "files = \"churn.csv\"", "files = \"elsewhere.csv\"");
    let _ = sandbox.karat("replay churn@1").expect_code(0);
}

#[test]
fn data_that_changed_or_went_is_named() {
    let sandbox = Sandbox::trained(KARAT);
    let good = sandbox.read("churn.csv");
    sandbox.write("churn.csv", good.replacen("basic", "basid", 1));
    let _ = sandbox.karat("replay churn@1").expect_code(3).expect_error(
        "snapshot-changed",
        &["churn.csv", "was trained on snapshot `churn@", "nothing was replayed"],
    );
    std::fs::remove_file(sandbox.path().join("churn.csv")).expect("there");
    let _ = sandbox
        .karat("replay churn@1")
        .expect_code(2)
        .expect_error("file-missing", &["churn.csv", "nothing was replayed"]);
    sandbox.write("churn.csv", good);
    let _ = sandbox.karat("replay churn@1").expect_code(0);
}

#[test]
fn what_does_not_exist_or_is_no_training_is_told() {
    let sandbox = Sandbox::churn(KARAT);
    let _ = sandbox.karat("replay churn@1").expect_code(2).expect_error("store-absent", &[]);
    let _ = sandbox.karat("run").expect_code(0);
    let _ = sandbox.karat("replay r-ffffffffff").expect_code(2).expect_error("run-unknown", &[]);
    let _ = sandbox.karat("replay churn@9").expect_code(2).expect_error("version-unknown", &[]);
    let _ =
        sandbox.karat("replay churm@1").expect_code(2).expect_error("model-unknown", &["churn"]);
    let _ = sandbox.karat("replay a@b@c").expect_code(2).expect_error("reference-invalid", &[]);
    let _ = sandbox
        .karat(&format!("replay {}", run_of(&sandbox, "score")))
        .expect_code(2)
        .expect_error("replay-not-a-training", &["is a step `score`"]);
    for bad in ["-1", "nan", "inf", "much"] {
        let ran = sandbox.karat(&format!("replay churn@1 --tolerance={bad}")).expect_code(2);
        assert!(ran.stderr.contains("--tolerance"), "{}", ran.stderr);
    }
    let _ = sandbox
        .karat("replay churn@1 --device cuda:7")
        .expect_code(2)
        .expect_error("device-absent", &["cuda:7", "cpu"]);

    // A run of another project: its id means nothing here.
    let other = Sandbox::trained(KARAT);
    let _ = sandbox
        .karat(&format!("replay {}", run_of(&other, "train")))
        .expect_code(2)
        .expect_error("run-unknown", &[]);
}

#[test]
fn damaged_artifacts_are_named_by_what_they_are() {
    let sandbox = Sandbox::trained(KARAT);
    let shown = sandbox.karat("show churn@1").expect_code(0).stdout;
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    let digest = shown["outputs"]["model.safetensors"].as_str().expect("an output");
    let digest = digest.trim_start_matches("sha256:").to_owned();
    let path = sandbox.objects().into_iter().find(|it| it.ends_with(&digest)).expect("there");
    let mut bytes = std::fs::read(&path).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::remove_file(&path).expect("a file");
    std::fs::write(&path, bytes).expect("writable");
    let _ = sandbox
        .karat("replay churn@1")
        .expect_code(3)
        .expect_error("object-corrupt", &["it is `model.safetensors` of run `r-"]);
    std::fs::remove_file(&path).expect("a file");
    let _ = sandbox
        .karat("replay churn@1")
        .expect_code(3)
        .expect_error("object-missing", &["it is `model.safetensors` of run `r-"]);
}

/// Somebody opens the database and changes the seed of the recorded spec.
#[test]
fn a_record_edited_by_hand_is_refused() {
    let sandbox = Sandbox::trained(KARAT);
    let mut bytes = sandbox.bytes(".karat/karat.db");
    let (from, to) = (b"\"seed\":7,", b"\"seed\":8,");
    let places: Vec<usize> =
        (0..bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from)).collect();
    assert!(!places.is_empty(), "the spec is stored as JSON");
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    sandbox.write(".karat/karat.db", bytes);
    let _ = sandbox
        .karat("replay churn@1")
        .expect_code(3)
        .expect_error("record-altered", &["do not give the key", "reproducibility"]);
}
