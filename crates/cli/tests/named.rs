//! Faults that are rare, each with the name it is known by.

use karat_testkit::Sandbox;

const KARAT: &str = env!("CARGO_BIN_EXE_karat");

#[test]
fn names_that_nothing_has_list_what_there_is() {
    let sandbox = Sandbox::trained(KARAT);
    let _ = sandbox
        .karat("check churm")
        .expect_code(2)
        .expect_error("dataset-unknown", &["`churm`", "known are `churn`"]);
    let _ = sandbox
        .karat("gate releas churn@1")
        .expect_code(2)
        .expect_error("gate-unknown", &["`releas`", "known are `release`"]);
    let gate = sandbox.read("gate.toml");
    let second = |name: &str| gate.replace("version = 1", "").replace("release", name);
    sandbox.write("gate.toml", format!("{gate}\n{}", second("nightly")));
    let release = sandbox.karat("gate churn@1 --json").expect_code(0).json();
    let verdict = &release.last().expect("a line")["summary"]["verdict"];
    assert_eq!(verdict["gate"], "release", "of several, the one of that name");
    sandbox.write("gate.toml", format!("version = 1\n{}\n{}", second("nightly"), second("weekly")));
    let _ = sandbox.karat("gate churn@1").expect_code(2).expect_error(
        "gate-unknown",
        &["declares 2 gates", "none is called `release`", "`nightly`, `weekly`"],
    );
}

#[test]
fn a_slice_of_no_column_names_near_ones() {
    let sandbox = Sandbox::churn(KARAT);
    let _ = sandbox
        .karat("run --set slice.odd.values=regio")
        .expect_code(2)
        .expect_error("column-unknown", &["`regio`", "nearest columns are `region`"]);
}

#[test]
fn a_table_without_rows_is_nothing_to_check() {
    let sandbox = Sandbox::churn(KARAT);
    let header = sandbox.read("churn.csv").lines().next().expect("a header").to_owned();
    sandbox.write("churn.csv", format!("{header}\n"));
    let _ = sandbox.karat("run").expect_code(5).expect_error("dataset-empty", &["`churn`"]);
}

#[test]
fn early_stopping_needs_a_split_to_look_at() {
    let sandbox = Sandbox::churn(KARAT);
    sandbox.edit("karat.toml", "\neval = ", "\nother = ");
    let _ = sandbox
        .karat("train")
        .expect_code(2)
        .expect_error("eval-split-absent", &["`eval`", "[split.churn]"]);
}

#[test]
fn a_huge_project_file_is_not_read() {
    let sandbox = Sandbox::churn(KARAT);
    let text = format!("{}\n#{}\n", sandbox.read("karat.toml"), "x".repeat(5 << 20));
    sandbox.write("karat.toml", text);
    let _ =
        sandbox.karat("check").expect_code(2).expect_error("config-too-large", &["`karat.toml`"]);
}

#[test]
fn a_schema_file_is_never_overwritten() {
    let sandbox = Sandbox::churn(KARAT);
    let before = sandbox.read("schema/churn.toml");
    let ran = sandbox.karat("snapshot --infer-schema").expect_code(0);
    assert!(ran.stderr.contains("warning[schema-kept]: `schema/churn.toml`"), "{}", ran.stderr);
    assert_eq!(sandbox.read("schema/churn.toml"), before);
}
