//! Devices that run out of memory or give up, by a fault put into the device's wrapper.

use std::sync::atomic::{AtomicU32, Ordering};

use karat_core::{Event, Failure, FeaturePlan, TrainSpec, port::TrainEnd};

use super::{Io, binary, complete, fingerprint, spec, train};
use crate::{
    BurnEngine,
    device::{Fault, Opened},
    train::train_on,
};
use karat_core::port::{CheckpointFiles, Engine};

fn train_with(
    fault: Fault,
    spec: &TrainSpec,
    plan: &FeaturePlan,
    io: &mut Io,
) -> Result<CheckpointFiles, Failure> {
    let opened = Opened { fault: Some(fault), ..Opened::cpu() };
    match train_on(&opened, spec, plan, None, io)? {
        TrainEnd::Complete(files) => Ok(*files),
        TrainEnd::Stopped { update } => panic!("stopped at {update}"),
    }
}

fn warnings<'a>(io: &'a Io) -> Vec<&'a str> {
    let message = |event: &'a Event| match event {
        Event::Warned { code, message } if code == "rows-at-once-halved" => Some(message.as_str()),
        _ => None,
    };
    io.events.iter().filter_map(message).collect()
}

/// As cubecl's server says it.
const FULL: &str = "out of device memory allocating 1048576 bytes\n   0: backtrace";

#[test]
fn rows_are_halved_until_they_fit_and_the_training_stays_the_same() {
    let plan = binary();
    let mut spec = spec();
    spec.model = karat_core::ModelSpec::Mlp { hidden: vec![16], embedding_max: 4, dropout: 0.5 };
    let (_, whole) = train(&spec, &plan);
    let fault: Fault = |n_rows| (20 < n_rows).then_some(FULL);
    let mut io = Io::new(&plan);
    let files = train_with(fault, &spec, &plan, &mut io).expect("16 rows fit");

    assert_eq!(files.state.rows_at_once, Some(16));
    let told = warnings(&io);
    assert_eq!(
        told[0],
        "out of memory in update 1: 32 rows at once instead of 64; the batch stays"
    );
    assert_eq!(
        told[1],
        "out of memory in update 1: 16 rows at once instead of 32; the batch stays"
    );
    assert!(told[2].starts_with("out of memory evaluating update 16"), "{told:?}");
    assert_eq!(files.state.remarks, told, "what was told is recorded");
    // The same rows, the same masks: only the order of additions differs.
    assert_eq!(whole.log.len(), io.log.len());
    for (a, b) in whole.log.iter().zip(&io.log) {
        assert!((a.loss - b.loss).abs() < 1e-4 * a.loss, "{a:?} {b:?}");
    }

    // Resumed where it does fit, it goes on as before.
    let mut stopped = Io::new(&plan);
    stopped.stop_at = Some(20);
    let opened = Opened { fault: Some(fault), ..Opened::cpu() };
    train_on(&opened, &spec, &plan, None, &mut stopped).expect("stops");
    let (kept, _) = stopped.kept.pop().expect("stopping keeps a checkpoint");
    stopped.stop_at = None;
    let resumed = complete(&spec, &plan, Some(kept), &mut stopped);
    assert_eq!(resumed.model, files.model);
    assert_eq!(stopped.log, io.log);
}

#[test]
fn memory_that_no_halving_helps_is_an_error() {
    let plan = binary();
    let mut io = Io::new(&plan);
    let failure = train_with(|_| Some(FULL), &spec(), &plan, &mut io).expect_err("never fits");
    assert_eq!((failure.code.as_str(), failure.exit.code()), ("memory-insufficient", 3));
    assert_eq!(
        failure.message,
        "the device is out of memory with 1 row at once: out of device memory allocating 1048576 bytes"
    );
    assert_eq!(warnings(&io).len(), 6, "64 became 1");

    let mut strict = spec();
    strict.device_policy.is_deterministic = true;
    let fault: Fault = |n_rows| (20 < n_rows).then_some("can't allocate buffer of size: 9");
    let mut io = Io::new(&plan);
    let failure = train_with(fault, &strict, &plan, &mut io).expect_err("may not be halved");
    assert_eq!(failure.code.as_str(), "memory-insufficient");
    assert!(warnings(&io).is_empty());
}

#[test]
fn a_budget_is_kept_from_the_start() {
    let plan = binary();
    let mut spec = spec();
    spec.memory_max = Some(40_000);
    let mut io = Io::new(&plan);
    let files = complete(&spec, &plan, None, &mut io);
    let n_rows = files.state.rows_at_once.expect("64 rows do not fit");
    assert!((1..64).contains(&n_rows), "{n_rows}");
    assert_eq!(warnings(&io).len(), 1);
    spec.memory_max = Some(1000);
    let failure = BurnEngine.train(&spec, &plan, None, &mut Io::new(&plan)).expect_err("no room");
    assert_eq!(failure.code.as_str(), "memory-insufficient");
}

#[test]
fn a_lost_device_leaves_its_checkpoints_and_a_resume_ends_the_same() {
    static N_ATTEMPTS: AtomicU32 = AtomicU32::new(0);
    let plan = binary();
    let mut spec = spec();
    spec.checkpoint.every_updates = 5;
    let (reference, whole) = train(&spec, &plan);
    // An update is two attempts, a checkpoint one more.
    let fault: Fault = |_| {
        (28 <= N_ATTEMPTS.fetch_add(1, Ordering::Relaxed)).then_some("Device is lost\nbacktrace")
    };
    let mut io = Io::new(&plan);
    let failure = train_with(fault, &spec, &plan, &mut io).expect_err("the device is lost");
    assert_eq!((failure.code.as_str(), failure.exit.code()), ("device-lost", 3));
    let done = io.log.len() as u64;
    let (files, _) = io.kept.pop().expect("kept before");
    assert_eq!(failure.message, format!("device `cpu` failed after update {done}: Device is lost"));
    assert_eq!(failure.details, [format!("the last checkpoint is update {}", files.state.update)]);
    assert!(0 < files.state.update && files.state.update < done, "{done}");

    io.log.truncate(files.state.update as usize);
    let resumed = complete(&spec, &plan, Some(files), &mut io);
    assert_eq!(fingerprint(&resumed, &io.log), fingerprint(&reference, &whole.log));
}

#[test]
fn another_device_is_refused_by_name_unless_allowed_and_then_recorded() {
    let plan = binary();
    let mut spec = spec();
    let mut io = Io::new(&plan);
    io.stop_at = Some(8);
    BurnEngine.train(&spec, &plan, None, &mut io).expect("stops");
    let (mut files, _) = io.kept.pop().expect("kept");
    let environment = &mut files.state.environment;
    environment.insert("device".to_owned(), "wgpu".to_owned());
    environment.insert("adapter".to_owned(), "GPU 9".to_owned());
    io.stop_at = None;

    let failure =
        BurnEngine.train(&spec, &plan, Some(files.clone()), &mut io).expect_err("elsewhere");
    assert_eq!(failure.code.as_str(), "resume-mismatch");
    let named = "device: wgpu in the checkpoint, cpu now".to_owned();
    assert!(failure.details.contains(&named), "{failure:?}");

    spec.device_policy.began_on = Some("wgpu".to_owned());
    let done = complete(&spec, &plan, Some(files.clone()), &mut io);
    assert!(done.state.is_mixed);
    assert_eq!(
        done.state.remarks,
        [
            "continued from update 8 on another device: adapter nothing after GPU 9, device cpu after wgpu"
        ]
    );
    // `--deterministic` cannot keep what it promises elsewhere.
    spec.device_policy.is_deterministic = true;
    let strict = BurnEngine.train(&spec, &plan, Some(files.clone()), &mut io);
    assert_eq!(strict.expect_err("refused").code.as_str(), "resume-mismatch");
    spec.device_policy.is_deterministic = false;
    // Another spec is still another training.
    files.state.environment.insert("spec".to_owned(), "other".to_owned());
    let failure = BurnEngine.train(&spec, &plan, Some(files), &mut io).expect_err("another spec");
    assert_eq!(failure.code.as_str(), "resume-mismatch");
}
