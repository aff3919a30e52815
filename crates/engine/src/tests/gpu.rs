//! Training and scoring on the first GPU of this machine, which in CI is llvmpipe.
//!
//! A machine without one skips these, unless `KARAT_REQUIRE_GPU` is set.

use std::sync::{Mutex, MutexGuard, PoisonError};

use karat_core::{
    Batch, FeaturePlan, TrainSpec,
    port::{CheckpointFiles, Engine, Parity, TrainEnd},
};

use super::{Io, binary, eval_batch, fingerprint, multiclass, spec, train};
use crate::{
    BurnEngine,
    device::{Api, DeviceName, Opened},
    parity,
    train::train_on,
};

/// One test at a time: a software adapter has the CPU's cores to itself.
static TURN: Mutex<()> = Mutex::new(());

fn gpu() -> Option<(Opened, MutexGuard<'static, ()>)> {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    #[expect(clippy::disallowed_methods, reason = "a test says what CI must not skip")]
    let is_required = std::env::var_os("KARAT_REQUIRE_GPU").is_some();
    let built = Api::ALL.into_iter().rfind(|api| api.is_built()).expect("a GPU feature is on");
    match Opened::open(DeviceName::Gpu { api: built, number: 0 }) {
        Ok(opened) => Some((opened, turn)),
        Err(error) => {
            assert!(!is_required, "KARAT_REQUIRE_GPU is set: {error}");
            None
        }
    }
}

fn small() -> TrainSpec {
    TrainSpec { epochs: 2, device: "wgpu".to_owned(), ..spec() }
}

fn train_there(
    opened: &Opened,
    spec: &TrainSpec,
    plan: &FeaturePlan,
    start: Option<CheckpointFiles>,
    io: &mut Io,
) -> CheckpointFiles {
    match train_on(opened, spec, plan, start, io) {
        Ok(TrainEnd::Complete(files)) => *files,
        other => panic!("not complete: {other:?}"),
    }
}

#[test]
fn every_architecture_agrees_with_the_cpu() {
    let Some((opened, _turn)) = gpu() else { return };
    let found = parity::of_every_family(&opened).expect("computes");
    assert!(found.iter().all(Parity::holds), "{found:#?}");
}

/// Tier R4 over more updates than the probe makes; tier R0 is why they can be compared at all.
#[test]
fn twenty_updates_follow_the_cpu() {
    let Some((opened, _turn)) = gpu() else { return };
    let plan = multiclass();
    let (_, cpu) = train(&TrainSpec { device: "cpu".to_owned(), ..small() }, &plan);
    let mut io = Io::new(&plan);
    let files = train_there(&opened, &small(), &plan, None, &mut io);
    for (a, b) in cpu.log.iter().zip(&io.log).take(20) {
        assert!((a.loss - b.loss).abs() <= 1e-4 * a.loss, "{a:?} {b:?}");
    }
    let remark = &files.state.remarks[0];
    assert!(remark.starts_with("agrees with `cpu` to "), "{remark}");
    assert_eq!(files.state.environment["device"], opened.name.class());
    assert_eq!(files.state.environment["driver"], opened.facts.driver);
}

/// Tiers R1 and R2 on this device.
#[test]
fn a_repeated_and_a_resumed_training_give_the_same_bits() {
    let Some((opened, _turn)) = gpu() else { return };
    let plan = binary();
    let mut io = Io::new(&plan);
    let whole = train_there(&opened, &small(), &plan, None, &mut io);
    let expected = fingerprint(&whole, &io.log);

    let mut again = Io::new(&plan);
    let files = train_there(&opened, &small(), &plan, None, &mut again);
    assert_eq!(fingerprint(&files, &again.log), expected, "repeated");

    let mut io = Io::new(&plan);
    io.stop_at = Some(13);
    train_on(&opened, &small(), &plan, None, &mut io).expect("stops");
    let (kept, _) = io.kept.pop().expect("stopping keeps a checkpoint");
    io.stop_at = None;
    let resumed = train_there(&opened, &small(), &plan, Some(kept), &mut io);
    assert_eq!(fingerprint(&resumed, &io.log), expected, "resumed");
}

/// Tier R3 on this device.
#[test]
fn a_score_does_not_depend_on_the_batch() {
    let Some((opened, _turn)) = gpu() else { return };
    let plan = binary();
    let (files, _) = train(&spec(), &plan);
    let name = opened.name.to_string();
    let batch = eval_batch(&plan);
    let score = |batch: &Batch| {
        let mut scoring = BurnEngine.open(&spec(), &plan, &files.model, &name).expect("opens");
        scoring.score(batch).expect("scores")
    };
    let whole = score(&batch);
    for row in [0, 1, 17, 299] {
        let one = Batch {
            n_rows: 1,
            numeric: batch.numeric[2 * row..][..2].to_vec(),
            categorical: vec![batch.categorical[row]],
            label: Vec::new(),
            weight: Vec::new(),
            ..batch.clone()
        };
        assert_eq!(score(&one)[0].to_bits(), whole[row].to_bits(), "row {row}");
    }
}

/// Pools grow with the variety of shapes. A ragged last batch is the only variety here, so they must stop growing.
#[test]
fn memory_does_not_grow_with_updates() {
    let Some((opened, _turn)) = gpu() else { return };
    let plan = binary();
    let reserved = |epochs| {
        let mut io = Io::new(&plan);
        io.eval = None;
        train_there(&opened, &TrainSpec { epochs, ..small() }, &plan, None, &mut io);
        opened.device.memory_pool_usage().expect("cubecl reports it").bytes_reserved
    };
    // 16 updates an epoch, the last of 40 rows instead of 64.
    let (early, late) = (reserved(2), reserved(13));
    assert!(late <= 2 * early, "{early} bytes after 32 updates, {late} after 208 more");
}
