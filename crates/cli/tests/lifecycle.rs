//! The whole way through the binary: promote, cache, refuse a worse model, compare, roll back.

use karat_testkit::Sandbox;

const KARAT: &str = env!("CARGO_BIN_EXE_karat");

#[test]
fn first_run_promotes_and_the_second_is_all_cached() {
    let sandbox = Sandbox::churn(KARAT);
    let first = sandbox.karat("run --out out").expect_code(0);
    assert!(first.stdout.contains("churn@champion -> churn@1"), "{}", first.stdout);
    assert!(first.stdout.contains("gate `release`: pass"), "{}", first.stdout);
    assert_eq!(sandbox.alias("churn@champion"), Some(1));
    for file in [
        "model.safetensors",
        "model.json",
        "predictions.parquet",
        "report.md",
        "report.html",
        "report.json",
        "junit.xml",
        "metrics.json",
        "metrics.jsonl",
        "MODEL_CARD.md",
        "verdict.json",
    ] {
        assert!(!sandbox.bytes(&format!("out/{file}")).is_empty(), "{file} is empty");
    }

    let second = sandbox.karat("run").expect_code(0);
    for step in ["snapshot", "check", "train", "score", "gate", "promote"] {
        assert!(
            second.stderr.lines().any(|line| line.contains(step) && line.contains("cached")),
            "{step} was done again:\n{}",
            second.stderr
        );
    }
    let numbers = |text: &str| {
        text.lines().filter(|it| it.contains('[')).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&first.stdout), numbers(&second.stdout), "the same summary");
    assert_eq!(sandbox.alias("churn@champion"), Some(1), "the alias did not move again");
}

#[test]
fn a_worse_model_is_registered_but_not_promoted() {
    let sandbox = Sandbox::churn(KARAT);
    let _ = sandbox.karat("run").expect_code(0);
    let worse = sandbox
        .karat("run --set train.learning_rate=0.0000001 --set train.early_stopping=0")
        .expect_code(1);
    assert!(worse.stdout.contains("churn@champion still points to churn@1"), "{}", worse.stdout);
    assert_eq!(sandbox.alias("churn@champion"), Some(1));
    let _ = sandbox.karat("promote churn@2").expect_code(1).expect_error(
        "verdict-not-passed",
        &["churn@2", "still points to churn@1", "--force --reason"],
    );
    assert_eq!(sandbox.alias("churn@champion"), Some(1));

    let _ = sandbox.karat("promote churn@2 --force").expect_code(2);
    let _ = sandbox.karat("promote churn@2 --force --reason 'trying the override'").expect_code(0);
    assert_eq!(sandbox.alias("churn@champion"), Some(2));
    let history = sandbox.karat("alias churn@champion").expect_code(0);
    assert!(
        history.stdout.contains("trying the override") && history.stdout.contains("tester"),
        "{}",
        history.stdout
    );

    let _ = sandbox.karat("rollback --reason 'it was worse'").expect_code(0);
    assert_eq!(sandbox.alias("churn@champion"), Some(1));
}

#[test]
fn only_what_depends_on_a_change_runs_again() {
    let sandbox = Sandbox::churn(KARAT);
    let _ = sandbox.karat("run").expect_code(0);
    let changed = sandbox.karat("run --set train.hidden=[8,8]");
    assert!([0, 1, 4].contains(&changed.code), "{changed:?}");
    let line = |step: &str| {
        changed.stderr.lines().find(|it| it.contains(step)).unwrap_or_default().to_owned()
    };
    assert!(line("snapshot ").contains("cached"), "{}", changed.stderr);
    assert!(line("check ").contains("cached"), "{}", changed.stderr);
    assert!(!line("train ").contains("cached"), "{}", changed.stderr);
    assert!(changed.stdout.contains("against churn@1"), "{}", changed.stdout);
}

#[test]
fn a_changed_byte_is_another_snapshot_and_a_renamed_file_is_not() {
    let sandbox = Sandbox::churn(KARAT);
    let digest = |sandbox: &Sandbox| {
        sandbox.karat("snapshot --json").expect_code(0).json().pop().expect("a line")["digest"]
            .clone()
    };
    let first = digest(&sandbox);
    std::fs::rename(sandbox.path().join("churn.csv"), sandbox.path().join("renamed.csv"))
        .expect("a rename");
    sandbox.edit("karat.toml", "files = \"churn.csv\"", "files = \"renamed.csv\"");
    assert_eq!(digest(&sandbox), first, "a renamed file changes nothing");
    let text = sandbox.read("renamed.csv").replacen("basic", "basid", 1);
    sandbox.write("renamed.csv", text);
    assert_ne!(digest(&sandbox), first, "a changed byte changes the digest");
}

#[test]
fn no_baseline_fails_unless_the_policy_allows_it() {
    let sandbox = Sandbox::churn(KARAT);
    sandbox.edit(
        "gate.toml",
        "without_baseline = \"absolute-rules-only\"",
        "without_baseline = \"fail\"",
    );
    let ran = sandbox.karat("run").expect_code(1);
    assert!(ran.stdout.contains("not applied"), "{}", ran.stdout);
    assert_eq!(sandbox.alias("churn@champion"), None);
}

#[test]
fn too_few_rows_are_inconclusive_and_block() {
    let sandbox = Sandbox::churn(KARAT);
    sandbox.edit("gate.toml", "min = 0.6 ", "n_rows_min = 1000000\nmin = 0.6 ");
    let ran = sandbox.karat("run").expect_code(4);
    assert!(ran.stdout.contains("inconclusive"), "{}", ran.stdout);
    assert_eq!(sandbox.alias("churn@champion"), None);
}

#[test]
fn a_gate_without_rules_is_nothing_to_check() {
    let sandbox = Sandbox::churn(KARAT);
    sandbox.write("gate.toml", "version = 1\n[gate.release]\nbaseline = \"none\"\n");
    let _ = sandbox.karat("run").expect_code(5).expect_error("gate-empty", &["release"]);
}

#[test]
fn commands_show_what_the_store_knows() {
    let sandbox = Sandbox::churn(KARAT);
    let _ = sandbox
        .karat("runs")
        .expect_code(2)
        .expect_error("store-absent", &["nothing has been run"]);
    let _ = sandbox.karat("run").expect_code(0);
    let runs = sandbox.karat("runs --json").expect_code(0).json();
    let train = runs.iter().find(|it| it["step"] == "train").expect("a training run");
    let id = train["run"].as_str().expect("an id");
    let shown = sandbox.karat(&format!("show {id}")).expect_code(0);
    for fact in ["\"seed\": 7", "\"device\": \"cpu\"", "model.safetensors", "\"tool\": \"karat "] {
        assert!(shown.stdout.contains(fact), "no {fact} in\n{}", shown.stdout);
    }
    let version = sandbox.karat("show churn@champion").expect_code(0);
    assert!(version.stdout.contains("\"outcome\": \"pass\""), "{}", version.stdout);
    let snapshot =
        sandbox.karat("snapshot --json").json().pop().expect("a line")["snapshot"].clone();
    let _ = sandbox.karat(&format!("show {}", snapshot.as_str().expect("a label"))).expect_code(0);
    let _ = sandbox.karat("show churn@9").expect_code(2);
    let _ = sandbox.karat("show r-ffffffffff").expect_code(2);
    let _ = sandbox.karat("verify").expect_code(0);
    let _ = sandbox.karat("gc --grace 0").expect_code(0);
    let _ = sandbox.karat("verify").expect_code(0);
    let again = sandbox.karat("run").expect_code(0);
    assert!(
        again.stderr.contains("train") && again.stderr.contains("cached"),
        "gc kept what is named: {}",
        again.stderr
    );
    let doctor = sandbox.karat("doctor").expect_code(0);
    assert!(
        doctor.stdout.contains("device cpu") && doctor.stdout.contains("whole"),
        "{}",
        doctor.stdout
    );
}

#[test]
fn compare_shows_both_versions_and_differs_by_exit_code() {
    let sandbox = Sandbox::churn(KARAT);
    let _ = sandbox.karat("run").expect_code(0);
    let _ = sandbox.karat("train --set train.seed=8").expect_code(0);
    let compared = sandbox.karat("compare churn@1 churn@2").expect_code(0);
    assert!(compared.stdout.contains("auc"), "{}", compared.stdout);
    let _ = sandbox.karat("compare churn@1 churn@2 --exit-code").expect_code(1);
    let json = sandbox
        .karat("compare churn@1 churn@2 --json")
        .expect_code(0)
        .json()
        .pop()
        .expect("a line");
    assert!(
        json["metrics.json"]["auc"]["old"].is_number()
            && json["metrics.json"]["auc"]["diff"].is_number(),
        "{json}"
    );
}

#[test]
fn help_completions_and_the_manual_come_from_one_definition() {
    let sandbox = Sandbox::new(KARAT);
    let help = sandbox.karat("--help").expect_code(0).stdout;
    let man = sandbox.karat("man").expect_code(0).stdout;
    let bash = sandbox.karat("completions bash").expect_code(0).stdout;
    for command in [
        "init", "run", "snapshot", "check", "train", "score", "compare", "gate", "promote",
        "rollback", "runs", "show", "alias", "verify", "gc", "doctor",
    ] {
        assert!(help.contains(&format!("\n  {command} ")), "--help lacks {command}");
        assert!(man.contains(command), "the manual lacks {command}");
        assert!(bash.contains(command), "the completions lack {command}");
    }
    let foreign = sandbox.karat("predict").expect_code(2);
    assert!(foreign.stderr.contains("karat score"), "{}", foreign.stderr);
}

#[test]
fn two_classes_as_numbers_three_classes_and_a_number_all_train() {
    let csv = karat_testkit::fixture::churn_csv(1500);
    let with_label = |of: &dyn Fn(&str, usize) -> String| {
        let mut text = String::new();
        for (i, line) in csv.lines().enumerate() {
            let (head, label) = line.rsplit_once(',').expect("a label");
            let label = if i == 0 { "y".to_owned() } else { of(label, i) };
            text.push_str(&format!("{head},{label}\n"));
        }
        text
    };
    let cases: [(&str, String); 3] = [
        ("binary", with_label(&|label, _| u8::from(label == "yes").to_string())),
        (
            "multiclass",
            with_label(&|label, i| {
                if label == "yes" { "red".to_owned() } else { ["green", "blue"][i % 2].to_owned() }
            }),
        ),
        (
            "regression",
            with_label(&|label, i| {
                format!("{:.3}", f64::from(u8::from(label == "yes")) + (i % 7) as f64 / 70.0)
            }),
        ),
    ];
    for (task, text) in cases {
        let sandbox = Sandbox::new(KARAT);
        sandbox.write("d.csv", text);
        let init = sandbox.karat("init . --name d --data d.csv --label y").expect_code(0);
        assert!(init.stdout.contains(task), "{task}: {}", init.stdout);
        let _ = sandbox.karat("check").expect_code(0);
        let floor = match task {
            "multiclass" => "--set gate.release.reliability=0.9",
            _ => "",
        };
        let ran =
            sandbox.karat(&format!("run {floor} --set train.hidden=[16] --set train.epochs=5"));
        assert!([0, 1, 4].contains(&ran.code), "{task}: {ran:?}");
        assert!(ran.stdout.contains("gate `release`"), "{task}: {ran:?}");
        let linear = sandbox.karat("train --set train.preset=linear");
        // `hidden` has no meaning for `linear`, and the message says so instead of ignoring it.
        let _ = linear.expect_code(2).expect_error("spec-invalid", &["train.hidden", "linear"]);
    }
}
