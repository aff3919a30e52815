//! Small helpers for this crate's tests.

use karat_core::{
    Digest, ScoredRows, Task,
    rng::{Purpose, Stream},
    scored::SliceColumn,
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
        votes: None,
        names: Vec::new(),
    }
}

/// Binary rows.
pub(crate) fn binary(label: Vec<f32>, score: Vec<f32>) -> ScoredRows {
    rows(Task::Binary, &["no", "yes"], label, score)
}

/// A family of slices, one for every value.
pub(crate) fn family(name: &str, value_of_row: &[&str]) -> SliceColumn {
    let mut values: Vec<String> = value_of_row.iter().map(|&it| it.to_owned()).collect();
    values.sort_unstable();
    values.dedup();
    let code = |value: &&str| values.iter().position(|it| it == value).expect("collected") as u32;
    let codes = value_of_row.iter().map(code).collect();
    SliceColumn { name: name.to_owned(), values, codes, is_family: true }
}

/// A slice by predicate.
pub(crate) fn predicate(name: &str, holds: impl IntoIterator<Item = bool>) -> SliceColumn {
    let codes = holds.into_iter().map(|it| if it { 0 } else { SliceColumn::NONE }).collect();
    SliceColumn { name: name.to_owned(), values: vec![String::new()], codes, is_family: false }
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

/// A model of the same flights as every other model made here: `skill` is how far positives lie from
/// negatives, in units of the noise that all models share; `name` is its own, smaller noise.
///
/// Carriers: of twenty rows eleven are UA, eight AA, one HA. Every third row is in the evening.
pub(crate) fn flights(n: usize, name: &str, skill: f64) -> ScoredRows {
    let label: Vec<f32> =
        uniforms("flights/label", n).into_iter().map(|u| if u < 0.4 { 1.0 } else { 0.0 }).collect();
    let noise = normals("flights/noise", n).into_iter().zip(normals(name, n));
    let score = label
        .iter()
        .zip(noise)
        .map(|(y, (shared, own))| skill * (f64::from(*y) - 0.5) + shared + 0.2 * own)
        .map(|x| (1.0 / (1.0 + libm::exp(-x))) as f32)
        .collect();
    let carrier: Vec<&str> = (0..n)
        .map(|row| match row % 20 {
            0..11 => "UA",
            11..19 => "AA",
            _ => "HA",
        })
        .collect();
    let mut made = binary(label, score);
    made.slices = vec![
        family("carrier", &carrier),
        predicate("evening", (0..n).map(|row| row % 3 == 0)),
        predicate("night", std::iter::repeat_n(false, n)),
    ];
    made.names = (1..=n).map(|row| format!("flight {row}")).collect();
    made
}
