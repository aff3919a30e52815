//! Small helpers for this crate's tests.

use karat_core::{
    Digest, ScoredRows, Task,
    rng::{Purpose, Stream},
};

/// Relative above 1, absolute below: `tolerance` in units of max(1, |expected|), but relative for tiny expectations.
#[track_caller]
pub(crate) fn assert_close(found: f64, expected: f64, tolerance: f64) {
    let scale = if expected == 0.0 { 1.0 } else { expected.abs() };
    assert!(
        (found - expected).abs() <= tolerance * scale,
        "found {found:e}, expected {expected:e}"
    );
}

/// Uniform numbers in [0, 1) that every run repeats.
pub(crate) fn uniforms(name: &str, n: usize) -> Vec<f32> {
    let stream = Stream::new(17, Purpose::Permute, name);
    (0..n).map(|i| stream.uniform(i as u32, 0, 0)).collect()
}

/// Standard normals that every run repeats.
pub(crate) fn normals(name: &str, n: usize) -> Vec<f64> {
    let stream = Stream::new(17, Purpose::Permute, name);
    (0..n.div_ceil(2) as u32).flat_map(|pair| stream.normal_pair(pair, 0, 0)).take(n).collect()
}

/// Rows without slices, groups or names.
pub(crate) fn rows(task: Task, classes: &[&str], label: Vec<f32>, score: Vec<f32>) -> ScoredRows {
    let key: Vec<u8> = label.iter().flat_map(|it| it.to_le_bytes()).collect();
    ScoredRows {
        task,
        classes: classes.iter().map(|&it| it.to_owned()).collect(),
        rows: Digest::of(&key),
        label,
        score,
        slices: Vec::new(),
        group: None,
        names: Vec::new(),
    }
}

/// Binary rows.
pub(crate) fn binary(label: Vec<f32>, score: Vec<f32>) -> ScoredRows {
    rows(Task::Binary, &["no", "yes"], label, score)
}

/// A labelled population with a score of known quality: logistic in a normal, shifted by `lift` for positives.
pub(crate) fn scored(name: &str, n: usize, rate: f64, lift: f64) -> (Vec<f32>, Vec<f32>) {
    let label: Vec<f32> = uniforms(&format!("{name}/label"), n)
        .into_iter()
        .map(|u| if f64::from(u) < rate { 1.0 } else { 0.0 })
        .collect();
    let noise = normals(&format!("{name}/score"), n);
    let score = label
        .iter()
        .zip(noise)
        .map(|(y, z)| (1.0 / (1.0 + (-(z + lift * f64::from(*y) - 1.0)).exp())) as f32)
        .collect();
    (label, score)
}
