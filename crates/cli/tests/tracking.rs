//! `--track` against a server that is not there, and what DVC has on record. A real server: `ci/track`.

use karat_testkit::Sandbox;

const KARAT: &str = env!("CARGO_BIN_EXE_karat");

#[test]
fn a_server_that_is_down_is_a_warning_and_no_password_is_repeated() {
    let sandbox = Sandbox::trained(KARAT);
    let gate = sandbox.karat("gate --track http://ada:hunter2@127.0.0.1:9").expect_code(0);
    assert!(
        gate.stderr.contains("warning[tracking-failed]: http://127.0.0.1:9 does not answer"),
        "{}",
        gate.stderr
    );
    assert!(gate.stdout.contains("gate `release`: pass"), "{}", gate.stdout);
    assert!(!format!("{gate:?}").contains("hunter2"));
}

#[test]
fn an_address_of_no_server_is_refused_before_anything_is_done() {
    let sandbox = Sandbox::churn(KARAT);
    for command in ["run", "train"] {
        let ran = sandbox
            .karat(&format!("{command} --track sqlite://ada:hunter2@/mlflow.db"))
            .expect_code(2);
        assert!(!format!("{ran:?}").contains("hunter2"));
        let _ = ran.expect_error("tracking-address-invalid", &["mlflow://", "http://"]);
    }
    assert!(!sandbox.path().join(".karat").exists(), "nothing was done");
}

#[test]
fn what_dvc_has_on_record_stands_in_the_run() {
    let sandbox = Sandbox::churn(KARAT);
    sandbox.write("params.yaml", "train:\n  lr: 0.1\n");
    sandbox.write(
        "dvc.lock",
        "schema: '2.0'\nstages:\n  fetch:\n    cmd: curl\n    outs:\n    - path: churn.csv\n      md5: 22e2f62c8bc8be7c2e0f0f6a4f4a6a0f\n",
    );
    let _ = sandbox.karat("train").expect_code(0);
    let shown = sandbox.karat("show churn@1 --json").expect_code(0);
    let run = shown
        .stdout
        .split(r#""run":""#)
        .nth(1)
        .and_then(|it| it.split('"').next())
        .expect("a run")
        .to_owned();
    let shown = sandbox.karat(&format!("show {run}")).expect_code(0);
    for words in
        ["\"train.lr\": \"0.1\"", "\"path\": \"churn.csv\"", "22e2f62c8bc8be7c2e0f0f6a4f4a6a0f"]
    {
        assert!(shown.stdout.contains(words), "{}", shown.stdout);
    }
    sandbox.write("params.yaml", "a: &a [1]\nb: [*a, *a]\n");
    let _ = sandbox
        .karat("train")
        .expect_code(2)
        .expect_error("dvc-file-invalid", &["params.yaml", "line 2", "alias"]);
}
