//! Devices through the binary: what there is, what is refused, and what a GPU makes of a run.

use karat_testkit::Sandbox;

const KARAT: &str = env!("CARGO_BIN_EXE_karat");

#[test]
fn doctor_measures_every_device_in_a_process_of_its_own() {
    let sandbox = Sandbox::new(KARAT);
    let ran = sandbox.karat("doctor --device all --json").expect_code(0);
    let examined = &ran.json()[0];
    let devices = examined["devices"].as_array().expect("a list");
    let cpu = &devices[0];
    assert_eq!((cpu["name"].as_str(), cpu["is_usable"].as_bool()), (Some("cpu"), Some(true)));
    for measure in ["gflops", "copy_gb_s"] {
        assert!(0.1 < cpu["facts"][measure].as_f64().expect("measured"), "{cpu}");
    }
    for other in &devices[1..] {
        let is_usable = other["is_usable"].as_bool() == Some(true);
        let has_reason = other["remark"].as_str().is_some_and(|it| !it.is_empty());
        assert!(is_usable || has_reason, "{other}");
    }
    let text = sandbox.karat("doctor --device cpu").expect_code(0).stdout;
    assert!(text.contains("GFLOP/s") && text.contains("GB/s"), "{text}");
    assert!(!sandbox.karat("--help").stdout.contains("probe-device"), "an inner command");
}

#[test]
fn what_is_no_device_and_what_is_not_here_are_told_apart() {
    let sandbox = Sandbox::churn(KARAT);
    let _ = sandbox
        .karat("run --device gpu")
        .expect_code(2)
        .expect_error("device-unknown", &["`gpu`", "`wgpu[:n]`"]);
    let _ = sandbox.karat("run --device cuda:99").expect_code(2).expect_error(
        "device-absent",
        &["device `cuda:99` not found: this machine has `cpu`", "cuda: ", "--device cpu"],
    );
    let _ = sandbox.karat("doctor --device cuda:99").expect_code(2);
    let _ = sandbox
        .karat("probe-device ask cpu")
        .expect_code(2)
        .expect_error("device-unknown", &["ask"]);
    assert!(!sandbox.path().join(".karat").exists(), "nothing was begun");
}

#[test]
fn a_budget_for_memory_is_kept_and_recorded() {
    let sandbox = Sandbox::churn(KARAT);
    let ran = sandbox.karat("train --set train.memory_max=24KiB").expect_code(0);
    assert!(ran.stderr.contains("warning[rows-at-once-halved]: "), "{}", ran.stderr);
    let _ = sandbox
        .karat("train --set train.memory_max=1KiB")
        .expect_code(3)
        .expect_error("memory-insufficient", &["one row at a time takes"]);
    let _ = sandbox
        .karat("train --set train.memory_max=much")
        .expect_code(2)
        .expect_error("spec-invalid", &["train.memory_max", "6 GiB"]);
}

#[cfg(feature = "wgpu")]
mod gpu {
    use super::{KARAT, Sandbox};

    /// A project, where this machine has an adapter; in CI that is llvmpipe.
    fn project() -> Option<Sandbox> {
        let sandbox = Sandbox::churn(KARAT);
        let there = sandbox.karat("doctor --device wgpu").code == 0;
        #[expect(clippy::disallowed_methods, reason = "a test says what CI must not skip")]
        let is_required = std::env::var_os("KARAT_REQUIRE_GPU").is_some();
        assert!(there || !is_required, "KARAT_REQUIRE_GPU is set and `wgpu` does not work");
        there.then_some(sandbox)
    }

    #[test]
    fn a_run_on_a_gpu_agrees_first_and_says_where_it_ran() {
        let Some(sandbox) = project() else { return };
        let ran = sandbox.karat("run --device wgpu --set train.epochs=1 --set gate.release={}");
        assert!(ran.code == 0 || ran.code == 2, "{ran:?}");
        let trained = sandbox.karat("train --device wgpu --set train.epochs=1").expect_code(0);
        assert!(trained.stdout.contains("churn@"), "{}", trained.stdout);
        let doctor = sandbox.karat("doctor --device wgpu").expect_code(0).stdout;
        assert!(doctor.contains("mlp: loss after 10 updates"), "{doctor}");
    }

    #[test]
    fn a_stray_file_is_told_and_refused_where_bits_matter() {
        let Some(sandbox) = project() else { return };
        sandbox.write("cubecl.toml", "");
        let strict = "train --device wgpu --deterministic --set train.epochs=1";
        let _ = sandbox
            .karat(strict)
            .expect_code(2)
            .expect_error("device-config-stray", &["cubecl.toml"]);
        let ran = sandbox.karat("train --device wgpu --set train.epochs=1").expect_code(0);
        assert!(ran.stderr.contains("warning[device-config-stray]: "), "{}", ran.stderr);
    }

    #[test]
    fn a_run_goes_on_elsewhere_only_when_told_to() {
        let Some(sandbox) = project() else { return };
        let mut child = sandbox.start("train --set train.epochs=2000 --device cpu");
        while sandbox.karat("runs --json").json().iter().all(|it| it["step"] != "train") {
            assert!(child.try_wait().expect("ours").is_none(), "it ended early");
        }
        std::thread::sleep(std::time::Duration::from_millis(500));
        let pid = child.id().to_string();
        let killed = std::process::Command::new("kill").args(["-TERM", &pid]).status();
        assert!(killed.is_ok_and(|it| it.success()));
        assert_eq!(child.wait().expect("ours").code(), Some(75));
        let runs = sandbox.karat("runs --json").json();
        let run = runs.iter().find(|it| it["step"] == "train").expect("there is one");
        let run = run["id"].as_str().expect("a name");

        let elsewhere = format!("train --set train.epochs=2000 --device wgpu --resume {run}");
        let _ = sandbox.karat(&elsewhere).expect_code(2).expect_error(
            "resume-mismatch",
            &["device: cpu in the run, wgpu:0 now", "--allow-device-change"],
        );
    }
}
