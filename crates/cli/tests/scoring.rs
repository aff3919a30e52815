//! `karat score` through the binary: formats, order, unseen values, quarantine, another schema.

use karat_testkit::Sandbox;

const KARAT: &str = env!("CARGO_BIN_EXE_karat");

#[test]
fn every_output_format_has_the_same_rows_in_the_same_order() {
    let sandbox = Sandbox::trained(KARAT);
    for out in ["scores.csv", "scores.jsonl", "scores.parquet"] {
        let _ = sandbox.karat(&format!("score churn.csv --out {out}")).expect_code(0);
    }
    let csv = sandbox.read("scores.csv");
    let jsonl = sandbox.read("scores.jsonl");
    assert_eq!(csv.lines().count(), 3001);
    assert_eq!(jsonl.lines().count(), 3000);
    let header: Vec<&str> = csv.lines().next().expect("a header").split(',').collect();
    let at = header.iter().position(|it| *it == "score").expect("a score column");
    for (i, (a, b)) in csv.lines().skip(1).zip(jsonl.lines()).enumerate() {
        let object: serde_json::Value = serde_json::from_str(b).expect("JSON");
        assert_eq!(object["id"].as_u64(), Some(i as u64), "rows keep their order");
        let (a, b) = (
            a.split(',').nth(at).expect("a score").parse::<f32>().expect("a number"),
            object["score"].as_f64().expect("a number"),
        );
        assert!((f64::from(a) - b).abs() < 1e-6, "{a} {b}");
    }
    // What was written can be read again: Parquet in, CSV out.
    let _ = sandbox
        .karat("score churn.csv --out nothing.txt")
        .expect_code(2)
        .expect_error("out-format", &[".parquet"]);
}

#[test]
fn batch_size_and_threads_change_no_byte() {
    let sandbox = Sandbox::trained(KARAT);
    let _ = sandbox.karat("score churn.csv --out a.parquet").expect_code(0);
    for (i, flags) in
        ["--batch-size 1", "--batch-size 7", "--batch-size 64 --threads 1", "--threads 3"]
            .iter()
            .enumerate()
    {
        let _ =
            sandbox.karat(&format!("score churn.csv --out b{i}.parquet {flags}")).expect_code(0);
        assert!(sandbox.bytes("a.parquet") == sandbox.bytes(&format!("b{i}.parquet")), "{flags}");
    }
}

#[test]
fn unseen_and_missing_values_are_scored_by_the_plan() {
    let sandbox = Sandbox::trained(KARAT);
    sandbox.write(
        "new.csv",
        "id,joined,region,plan,age,spend\n1,2025-01-01,atlantis,basic,30,50\n2,2025-01-01,,,,\n",
    );
    let _ = sandbox.karat("score new.csv --out new-scores.csv").expect_code(0);
    let scores = sandbox.read("new-scores.csv");
    assert_eq!(scores.lines().count(), 3, "{scores}");
    assert!(!scores.contains("NaN"), "{scores}");
}

#[test]
fn rows_that_cannot_be_scored_go_to_quarantine_and_a_limit_fails_the_run() {
    let sandbox = Sandbox::trained(KARAT);
    sandbox.write(
        "mixed.csv",
        "id,joined,region,plan,age,spend\n1,2025-01-01,north,basic,30,50\n2,2025-01-01,north,basic,thirty,50\n3,2025-01-01,north,basic,30,50\n",
    );
    let _ = sandbox
        .karat("score mixed.csv --out s.csv")
        .expect_code(1)
        .expect_error("quarantine-exceeded", &["1 of 3"]);
    assert!(!sandbox.path().join("s.csv").exists(), "a failed run leaves no scores");
    let _ =
        sandbox.karat("score mixed.csv --out s.csv --set score.quarantine_max=0.5").expect_code(0);
    assert_eq!(sandbox.read("s.csv").lines().count(), 3, "header and two rows");
    let quarantine = sandbox.read("s.csv.quarantine.jsonl");
    let row: serde_json::Value =
        serde_json::from_str(quarantine.lines().next().expect("a row")).expect("JSON");
    assert_eq!(row["row"].as_u64(), Some(2), "{row}");
    assert!(row["reason"].as_str().expect("a reason").contains("age"), "{row}");
}

#[test]
fn a_model_of_another_schema_is_refused_with_the_columns() {
    let sandbox = Sandbox::trained(KARAT);
    sandbox.write("other.csv", "id,region,plan\n1,north,basic\n");
    let _ = sandbox
        .karat("score other.csv --out s.csv")
        .expect_code(2)
        .expect_error("model-schema-mismatch", &["age", "spend"]);
    assert!(!sandbox.path().join("s.csv").exists());
}

#[test]
fn unknown_models_list_near_names() {
    let sandbox = Sandbox::trained(KARAT);
    let _ = sandbox
        .karat("score churn.csv --model churm@champion --out s.csv")
        .expect_code(2)
        .expect_error("model-unknown", &["churn"]);
    let _ = sandbox
        .karat("score churn.csv --model churn@champio --out s.csv")
        .expect_code(2)
        .expect_error("alias-unknown", &["champion"]);
    let _ = sandbox.karat("score churn.csv --model churn --out s.csv").expect_code(2);
}

#[test]
fn hostile_names_stay_names() {
    let sandbox = Sandbox::trained(KARAT);
    for name in
        ["../x@1", "churn@../../x", "a/b@1", "churn@1\u{202e}", "'; drop table version; --@1"]
    {
        let mut command = sandbox.command("");
        let ran = command
            .args(["score", "churn.csv", "--out", "s.csv", "--model", name])
            .output()
            .expect("it starts");
        assert_eq!(ran.status.code(), Some(2), "{name}");
    }
    let _ = sandbox.karat("verify").expect_code(0);
}
