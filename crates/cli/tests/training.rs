//! The keys of `[train]`, through the binary.

use karat_testkit::Sandbox;

const KARAT: &str = env!("CARGO_BIN_EXE_karat");

#[test]
fn every_optimizer_and_schedule_trains_and_is_in_the_record() {
    let sandbox = Sandbox::churn(KARAT);
    for (optimizer, schedule) in [("sgd", "one-cycle"), ("lion", "step")] {
        let set = format!(
            "train --set train.optimizer={optimizer} --set train.schedule={schedule} --set train.ema=0.9 \
             --set train.label_smoothing=0.1 --set train.sampling=balanced --set train.evaluate_every=5"
        );
        let ran = sandbox.karat(&set).expect_code(0);
        let run =
            ran.stdout.split("run ").nth(1).and_then(|it| it.split(',').next()).expect("a run");
        let shown = sandbox.karat(&format!("show {run} --json")).expect_code(0).stdout;
        for word in [optimizer, schedule.replace('-', "_").as_str(), "label_smoothing", "balanced"]
        {
            assert!(shown.contains(word), "no {word} in\n{shown}");
        }
    }
}

#[test]
fn a_time_limit_keeps_what_there_is_and_says_so() {
    let sandbox = Sandbox::churn(KARAT);
    let ran =
        sandbox.karat("run --max-time 1s --set train.epochs=100000 --set train.early_stopping=0");
    assert!([0, 1, 4].contains(&ran.code), "{ran:?}");
    let ended = "ended    time was up (`train.max_time`) after ";
    assert!(ran.stdout.contains(ended), "{}", ran.stdout);
    for line in ["speed    ", "loss     "] {
        assert!(ran.stdout.contains(line), "no `{line}` in\n{}", ran.stdout);
    }
    let page = sandbox.read(".karat/reports/churn@1/report.html");
    for word in ["ended early", "throughput", "peak memory", "waiting for rows", "best: update "] {
        assert!(page.contains(word), "no {word} in the report");
    }

    let refused = sandbox.karat("train --max-time soon").expect_code(2);
    assert!(refused.stderr.contains("like `90s`, `20m` or `1h30m`"), "{}", refused.stderr);
}

#[test]
fn what_a_key_cannot_mean_is_refused_by_name() {
    let sandbox = Sandbox::churn(KARAT);
    for (set, code, words) in [
        ("train.preset=mpl", "spec-invalid", &["`mpl`", "`mlp`"][..]),
        ("train.optimizer=adam", "spec-invalid", &["`adam`", "`adamw`"]),
        ("train.momentum=0.9", "spec-invalid", &["`train.momentum`", "optimizer `adamw`"]),
        ("train.no_decay=[\"layer.*\"]", "pattern-unmatched", &["`layer.*`", "`layers.0.bias`"]),
        ("train.sampling=weight", "sampling-without-weights", &["role = \"weight\""]),
    ] {
        let _ =
            sandbox.karat(&format!("train --set {set}")).expect_code(2).expect_error(code, words);
    }
}
