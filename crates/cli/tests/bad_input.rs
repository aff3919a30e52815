//! Bad data and bad configuration: a clear error, a stable code, nothing half-written.

use karat_testkit::Sandbox;

const KARAT: &str = env!("CARGO_BIN_EXE_karat");

#[test]
fn missing_and_empty_files_are_named() {
    let sandbox = Sandbox::churn(KARAT);
    sandbox.edit("karat.toml", "files = \"churn.csv\"", "files = \"churm.csv\"");
    let _ = sandbox.karat("check").expect_code(2).expect_error("file-missing", &["churm.csv"]);
    sandbox.edit("karat.toml", "files = \"churm.csv\"", "files = \"churn.csv\"");
    sandbox.write("churn.csv", "");
    let _ = sandbox.karat("check").expect_code(2).expect_error("file-empty", &["churn.csv"]);
    let _ = sandbox
        .karat("init p --data nothing.csv --label y")
        .expect_code(2)
        .expect_error("file-missing", &["nothing.csv"]);
    assert!(!sandbox.path().join("p/karat.toml").exists(), "a failed init writes no project");
}

#[cfg(unix)]
#[test]
fn a_file_whose_name_is_no_text_is_refused() {
    use std::os::unix::ffi::OsStrExt as _;

    let sandbox = Sandbox::churn(KARAT);
    sandbox.edit("karat.toml", "files = \"churn.csv\"", "files = \"*.csv\"");
    let name = std::ffi::OsStr::from_bytes(b"b\xff.csv");
    std::fs::write(sandbox.path().join(name), sandbox.read("churn.csv")).expect("writes");
    let _ = sandbox.karat("check").expect_code(2).expect_error("file-name", &["b\u{fffd}.csv"]);
}

#[test]
fn a_truncated_parquet_file_is_named() {
    let sandbox = Sandbox::churn(KARAT);
    let _ = sandbox.karat("run --out out").expect_code(0);
    let bytes = sandbox.bytes("out/predictions.parquet");
    sandbox.write("cut.parquet", &bytes[..bytes.len() / 2]);
    let _ = sandbox
        .karat("init p --data cut.parquet --label label")
        .expect_code(2)
        .expect_error("file-truncated", &["cut.parquet"]);
}

#[test]
fn ragged_csv_names_the_line() {
    let sandbox = Sandbox::churn(KARAT);
    let text = sandbox.read("churn.csv").replacen("\n7,", "\n7,extra,", 1);
    sandbox.write("churn.csv", text);
    let _ =
        sandbox.karat("check").expect_code(2).expect_error("csv-ragged", &["churn.csv", "line 9"]);
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_name_and_nul_bytes_are_refused() {
    let sandbox = Sandbox::churn(KARAT);
    let text = sandbox.read("churn.csv");
    sandbox.write("bom.csv", format!("\u{feff}{text}"));
    let _ = sandbox.karat("init b --data bom.csv --label churned").expect_code(0);
    let schema = sandbox.read("b/schema/b.toml");
    assert!(schema.contains("[column.id]"), "{schema}");
    sandbox.write("churn.csv", text.replacen("north", "nor\0th", 1));
    let _ = sandbox.karat("check").expect_code(2).expect_error("file-nul-byte", &["churn.csv"]);
}

#[test]
fn label_faults_are_told_apart() {
    let sandbox = Sandbox::churn(KARAT);
    let _ = sandbox
        .karat("init p --data churn.csv --label churn")
        .expect_code(2)
        .expect_error("label-unknown", &["churn", "churned"]);

    let constant = sandbox.read("churn.csv").replace(",yes\n", ",no\n");
    let good = sandbox.read("churn.csv");
    sandbox.write("churn.csv", constant);
    let ran = sandbox.karat("run").expect_code(1).expect_error("check-failed", &["label.constant"]);
    assert!(ran.stderr.contains("nothing was trained"), "{}", ran.stderr);

    // A class that only the holdout has: training rows are the first, by time.
    let mut unseen = good;
    for month in ["2024-11", "2024-12"] {
        let lines: Vec<String> = unseen
            .lines()
            .map(|it| if it.contains(month) { it.replace(",yes", ",maybe") } else { it.to_owned() })
            .collect();
        unseen = lines.join("\n") + "\n";
    }
    sandbox.write("churn.csv", unseen);
    sandbox.edit(
        "schema/churn.toml",
        "type = \"time\"\nrole = \"feature\"",
        "type = \"time\"\nrole = \"time\"",
    );
    sandbox.edit(
        "karat.toml",
        "train = { hash = [0, 70] }",
        "train = { time = [\"\", \"2024-08-01\"] }",
    );
    sandbox.edit(
        "karat.toml",
        "eval = { hash = [70, 80] }",
        "eval = { time = [\"2024-08-01\", \"2024-10-01\"] }",
    );
    sandbox.edit(
        "karat.toml",
        "holdout = { hash = [80, 100] }",
        "holdout = { time = [\"2024-10-01\", \"\"] }",
    );
    let _ =
        sandbox.karat("run").expect_code(1).expect_error("check-failed", &["label.new", "maybe"]);
}

#[test]
fn an_all_missing_feature_is_named() {
    let sandbox = Sandbox::churn(KARAT);
    let lines: Vec<String> = sandbox
        .read("churn.csv")
        .lines()
        .enumerate()
        .map(|(i, line)| {
            let mut cells: Vec<&str> = line.split(',').collect();
            if 0 < i {
                cells[4] = "";
            }
            cells.join(",")
        })
        .collect();
    sandbox.write("churn.csv", lines.join("\n") + "\n");
    let ran = sandbox.karat("run");
    assert!(ran.code == 1 || ran.code == 2, "{ran:?}");
    assert!(ran.stderr.contains("age"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
}

#[test]
fn configuration_errors_say_file_line_and_column() {
    let sandbox = Sandbox::churn(KARAT);
    let good = sandbox.read("karat.toml");
    let line_of = |text: &str, needle: &str| {
        text.lines().position(|it| it.contains(needle)).expect("it is there") + 1
    };
    for (from, to, code, fact) in [
        ("seed = 7", "sead = 7", "config-invalid", "the nearest known word is `seed`"),
        ("seed = 7", "seed = \"seven\"", "config-invalid", "seed"),
        ("batch_size = 64", "batch_size = 0", "spec-invalid", "must be between 1 and 65,536"),
        ("seed = 7", "seed = = 7", "config-syntax", "karat.toml"),
    ] {
        let text = good.replacen(from, to, 1);
        sandbox.write("karat.toml", &text);
        let place = format!("--> karat.toml:{}:", line_of(&text, to));
        let _ = sandbox.karat("check").expect_code(2).expect_error(code, &[&place, fact]);
    }
    sandbox.write("karat.toml", &good);
    let gate = sandbox.read("gate.toml");
    sandbox.write("gate.toml", gate.replacen("metric = \"auc\"", "metric = \"auk\"", 1));
    let _ = sandbox
        .karat("run")
        .expect_code(2)
        .expect_error("config-invalid", &["auk", "auc", "gate.toml:"]);
    sandbox.write("gate.toml", gate.replacen("min = 0.6", "min = 0.6\nmax = 0.9", 1));
    let ran = sandbox.karat("run").expect_code(2);
    assert!(ran.stderr.contains("gate.toml:"), "{}", ran.stderr);
    sandbox.write("gate.toml", &gate);
    let _ = sandbox.karat("run --set train.epochs=none").expect_code(2);
    let _ = sandbox
        .karat("run --set nonsense")
        .expect_code(2)
        .expect_error("set-invalid", &["nonsense"]);
    let _ = sandbox
        .karat("run --device cuda:1")
        .expect_code(2)
        .expect_error("device-absent", &["cuda:1", "cpu"]);
    let _ = Sandbox::new(KARAT)
        .karat("run")
        .expect_code(2)
        .expect_error("config-unreadable", &["karat.toml", "karat init"]);
}

#[test]
fn a_policy_may_use_words_of_other_tools_and_is_told_how_they_are_read() {
    let sandbox = Sandbox::churn(KARAT);
    sandbox.edit("gate.toml", "min = 0.6", "threshold = 0.6");
    let line = sandbox.read("gate.toml").lines().position(|it| it.starts_with("threshold"));
    let line = line.expect("it is there") + 1;
    let ran = sandbox.karat("gate");
    let said = format!(
        "warning[policy-other-words]: gate.toml:{line}:13: MLflow's `threshold = 0.6` is read as `min = 0.6`"
    );
    assert!(ran.stderr.contains(&said), "{}", ran.stderr);
}

#[test]
fn policies_that_no_model_can_meet_are_refused_with_their_place() {
    let sandbox = Sandbox::churn(KARAT);
    let good = sandbox.read("gate.toml");
    let name =
        good.lines().find_map(|it| it.strip_prefix("[gate.")).and_then(|it| it.split(']').next());
    let name = name.expect("a gate");
    for (rule, fact) in [
        ("metric = \"auc\"\nmax = 0.1", "no model can meet both"),
        ("metric = \"auc\"\nmin = 64", "`auc` is never above 1"),
        ("metric = \"auc\"\nmin_improvement = { absolute = -0.01 }", "must be at least 0"),
        ("metric = \"clean_git\"\nslice = \"all\"", "it has no `slice`"),
    ] {
        sandbox.write("gate.toml", format!("{good}\n[[gate.{name}.rule]]\n{rule}\n"));
        let ran = sandbox.karat("gate").expect_code(2);
        let _ = ran.expect_error("spec-invalid", &[fact, "--> gate.toml:"]);
    }
}

#[test]
fn unknown_columns_in_rules_are_named_with_near_ones() {
    let sandbox = Sandbox::churn(KARAT);
    sandbox.edit(
        "karat.toml",
        "train = { hash = [0, 70] }",
        "train = { where = \"regoin = 'north'\" }",
    );
    let _ = sandbox
        .karat("check")
        .expect_code(2)
        .expect_error("predicate-invalid", &["regoin", "region"]);
}

#[test]
fn a_leaking_column_stops_the_run_and_nothing_is_trained() {
    let sandbox = Sandbox::churn(KARAT);
    let lines: Vec<String> = sandbox
        .read("churn.csv")
        .lines()
        .enumerate()
        .map(|(i, line)| {
            if i == 0 {
                format!("{line},refund")
            } else {
                format!("{line},{}", if line.ends_with("yes") { 100 + i % 7 } else { i % 7 })
            }
        })
        .collect();
    sandbox.write("leak.csv", lines.join("\n") + "\n");
    let _ = sandbox.karat("init l --data leak.csv --label churned").expect_code(0);
    let _ = sandbox
        .karat("-C l run")
        .expect_code(1)
        .expect_error("check-failed", &["leak.target", "refund", "nothing was trained"]);
    let _ = sandbox.karat("-C l runs").expect_code(0);
    assert!(!sandbox.karat("-C l runs").stdout.contains(" train "), "nothing was trained");
    // Declared as known only after the event, it is refused by its own check even where it predicts nothing.
    sandbox.edit("l/schema/l.toml", "[column.refund]", "[column.refund]\nknown_after = true");
    let _ = sandbox.karat("-C l check").expect_code(1);
    let shown = sandbox.karat("-C l check").stderr;
    assert!(shown.contains("leak.after") && shown.contains("refund"), "{shown}");
}

#[test]
fn constraints_name_the_first_offending_row() {
    let sandbox = Sandbox::churn(KARAT);
    sandbox.edit("schema/churn.toml", "[column.spend]", "[column.spend]\nmax = 90.0");
    sandbox.edit(
        "schema/churn.toml",
        "[column.region]",
        "[column.region]\ndomain = [\"north\", \"south\", \"east\"]",
    );
    let ran = sandbox.karat("check").expect_code(1);
    for fact in ["schema.range", "spend", "schema.domain", "west", "churn.csv row "] {
        assert!(ran.stderr.contains(fact), "no `{fact}` in\n{}", ran.stderr);
    }
    sandbox.write("karat.toml", format!("{}\n[check.\"schema.range\"]\nlevel = \"warn\"\n[check.\"schema.domain\"]\nlevel = \"warn\"\n", sandbox.read("karat.toml")));
    let _ = sandbox.karat("check").expect_code(0);
    sandbox.edit("karat.toml", "[check.\"schema.range\"]", "[check.\"schema.rang\"]");
    let _ = sandbox.karat("check").expect_code(2).expect_error("check-unknown", &["schema.range"]);
}

#[test]
fn a_nan_in_the_loss_fails_with_the_update() {
    let sandbox = Sandbox::churn(KARAT);
    let ran = sandbox.karat("run --set train.learning_rate=1000 --set train.clip_norm=0 --set train.warmup=0 --set train.epochs=200 --set train.early_stopping=0 --set train.weight_decay=900");
    assert_eq!(ran.code, 3, "{ran:?}");
    let _ = ran.expect_error("loss-not-finite", &["update"]);
    assert_eq!(sandbox.alias("churn@champion"), None);
}
