//! `karat plan-eval` and `train.seeds` through the binary.

use karat_testkit::Sandbox;
use serde_json::Value;

const KARAT: &str = env!("CARGO_BIN_EXE_karat");

/// Three of ten subscribers have no label yet.
fn partly_labelled() -> Sandbox {
    let sandbox = Sandbox::churn(KARAT);
    let text = sandbox.read("churn.csv");
    let blank = |line: &str| match line.split_once(',') {
        Some((id, _)) if id.ends_with(['3', '5', '7']) => {
            let end = line.rfind(',').expect("several columns");
            format!("{},", &line[..end])
        }
        _ => line.to_owned(),
    };
    let lines: Vec<String> = text.lines().map(blank).collect();
    sandbox.write("churn.csv", lines.join("\n") + "\n");
    sandbox
}

#[test]
fn rows_needed_follow_from_the_disagreement_and_rows_worth_a_label_are_listed() {
    let sandbox = partly_labelled();
    let _ = sandbox.karat("run").expect_code(0);
    let _ = sandbox
        .karat("plan-eval --detect 0.5pp")
        .expect_code(2)
        .expect_error("plan-impossible", &["no version to compare churn@1 with", "--baseline"]);
    let second = sandbox.karat("run --set train.hidden=[4] --set train.learning_rate=0.001");
    assert!([0, 1, 4].contains(&second.code), "{second:?}");

    let line = "plan-eval churn@2 --baseline churn@1 --detect 0.5pp --out rows.csv";
    let shown = sandbox.karat(line).expect_code(0).stdout;
    for part in ["churn@2 against churn@1", "rows to see it", "0.5 pp", "--detect;", "rows.csv"] {
        assert!(shown.contains(part), "no `{part}` in\n{shown}");
    }
    let found = sandbox.karat(&format!("{line} --power 0.9 --json")).expect_code(0).json();
    let plan = &found.last().expect("a line")["plan"];
    let psi = plan["disagreement"].as_f64().expect("a share");
    let asked = plan["sizes"]
        .as_array()
        .and_then(|it| it.iter().find(|it| it["is_asked"] == true))
        .expect("the one that was asked for");
    // z at .95 and .9.
    let (za, zb, d) = (1.644_853_626_951_f64, 1.281_551_565_545, 0.005);
    let root = za * psi.sqrt() + zb * (psi - d * d).sqrt();
    assert_eq!(asked["n_better"].as_u64(), Some((root * root / (d * d)).ceil() as u64));

    let rows = sandbox.read("rows.csv");
    assert_eq!(rows.lines().next(), Some("id,baseline,candidate,difference"));
    let n_worth = plan["unlabeled"]["worth"].as_array().map_or(0, Vec::len);
    assert!(0 < n_worth, "the two never disagree: {plan}");
    assert_eq!(rows.lines().count(), n_worth + 1);
    for row in rows.lines().skip(1) {
        let cells: Vec<&str> = row.split(',').collect();
        assert!(cells[0].ends_with(['3', '5', '7']), "`{row}` has a label");
        assert_ne!(cells[1], cells[2], "`{row}` is answered alike");
    }
}

#[test]
fn bad_questions_are_refused() {
    let sandbox = Sandbox::churn(KARAT);
    for line in [
        "plan-eval",
        "plan-eval --detect 0",
        "plan-eval --detect -1pp",
        "plan-eval --detect nan",
        "plan-eval --detect 1pp --power 0.3",
        "plan-eval --detect 1pp --label-noise 0.5",
        "plan-eval --detect 1pp --metric acuracy",
    ] {
        let ran = sandbox.karat(line).expect_code(2);
        assert!(ran.stderr.contains("error"), "{line}: {}", ran.stderr);
    }
    let _ = sandbox
        .karat("plan-eval --detect 1pp --out rows.parquet")
        .expect_code(2)
        .expect_error("out-format", &["rows.parquet", "CSV"]);
    let _ =
        sandbox.karat("plan-eval --detect 1pp").expect_code(2).expect_error("store-absent", &[]);
}

#[test]
fn a_recipe_is_trained_with_several_seeds_and_one_is_registered() {
    let sandbox = Sandbox::churn(KARAT);
    let first = sandbox.karat("run --set train.seeds=3").expect_code(0);
    for part in ["(2 of 3)", "(3 of 3)"] {
        let ran = sandbox.karat("runs --json").expect_code(0).json();
        let is_there = |it: &Value| it["subject"].as_str().is_some_and(|it| it.contains(part));
        assert!(ran.iter().any(is_there), "no `{part}`");
    }
    assert!(first.stdout.contains("seeds    3: auc varies by"), "{}", first.stdout);
    assert_eq!(sandbox.alias("churn@champion"), Some(1));
    let _ = sandbox.karat("show churn@2").expect_code(2);
    let again = sandbox.karat("run --set train.seeds=3").expect_code(0);
    let trained: Vec<&str> = again.stderr.lines().filter(|it| it.contains(" train ")).collect();
    assert!(trained.len() == 3 && trained.iter().all(|it| it.contains("cached")), "{trained:?}");
    let alone = sandbox.karat("run").expect_code(0);
    assert!(alone.stdout.contains("another seed changes is unknown"), "{}", alone.stdout);
    let _ = sandbox
        .karat("run --set train.seeds=0")
        .expect_code(2)
        .expect_error("spec-invalid", &["train.seeds", "between 1 and 64"]);
}
