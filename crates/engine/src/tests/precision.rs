//! Training and scoring in bf16: as good as f32, repeatable, and never mixed with f32 by accident.

use karat_core::{Precision, TrainSpec, port::Engine};

use super::{Io, binary, eval_batch, fingerprint, scores, spec, train};
use crate::BurnEngine;

fn bf16() -> TrainSpec {
    TrainSpec { precision: Precision::Bf16, ..spec() }
}

/// Mean loss of the last epoch.
fn loss_at_the_end(io: &Io) -> f64 {
    let last = &io.log[io.log.len() - 16..];
    last.iter().map(|it| it.loss).sum::<f64>() / last.len() as f64
}

#[test]
fn bf16_learns_as_well_as_f32_but_not_the_same_numbers() {
    let plan = binary();
    let (full, full_io) = train(&TrainSpec { epochs: 30, ..spec() }, &plan);
    let (half, half_io) = train(&TrainSpec { epochs: 30, ..bf16() }, &plan);
    assert_ne!(full.model, half.model, "products must be others");

    let (full, half) = (loss_at_the_end(&full_io), loss_at_the_end(&half_io));
    assert!(full < 0.3, "nothing was learned: {full}");
    assert!((full - half).abs() < 0.02, "f32 ends at {full}, bf16 at {half}");
}

#[test]
fn bf16_repeats_every_bit_on_any_threads() {
    let plan = binary();
    let run = |threads| {
        let (files, io) = train(&TrainSpec { threads, ..bf16() }, &plan);
        fingerprint(&files, &io.log)
    };
    let one = run(1);
    assert_eq!(run(2), one);
    assert_eq!(run(3), one);
}

#[test]
fn a_model_scores_in_the_precision_it_was_trained_in() {
    let plan = binary();
    let (files, _) = train(&bf16(), &plan);
    let batch = eval_batch(&plan);
    let half = scores(&bf16(), &plan, &files.model, &batch);
    let full = scores(&spec(), &plan, &files.model, &batch);
    assert_ne!(half, full);
    let worst = half.iter().zip(&full).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
    assert!(worst < 0.02, "{worst}");
}

#[test]
fn a_resume_in_another_precision_is_refused_by_name() {
    let plan = binary();
    let mut io = Io::new(&plan);
    io.stop_at = Some(5);
    BurnEngine.train(&spec(), &plan, None, &mut io).expect("stops");
    let (files, _) = io.kept.pop().expect("kept");

    let failure = BurnEngine
        .train(&bf16(), &plan, Some(files), &mut Io::new(&plan))
        .expect_err("the checkpoint is of f32");
    assert_eq!(failure.code.as_str(), "resume-mismatch");
    let named = failure.details.iter().any(|it| it.starts_with("precision: f32 in the checkpoint"));
    assert!(named, "{failure:?}");
}
