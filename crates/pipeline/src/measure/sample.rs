//! Behaviour on a sample of the judged rows: the same rows scored on `cpu` in f32, and scored again with their inputs
//! disturbed.
//!
//! Inputs are disturbed as the model sees them: a number is standardised by then, so noise of 0.05 standard deviations is 0.05
//! added times a normal draw, and a missing value is what [`karat_core::plan`] makes of one. Draws come from
//! [`karat_core::rng`], so the same rows are disturbed in the same way every time.

use karat_core::{
    Batch, Encoding, Failure, FeaturePlan, Name, Precision, Task, TrainSpec,
    plan::{DATE_WIDTH, SLOT_MISSING},
    policy::Perturbation,
    port::Located,
    rng::{Purpose, Stream},
};
use karat_gate::metric::Scores;

use crate::{Lab, ModelManifest};

/// Rows looked at: enough for a 99.9th percentile, few enough to cost a moment. Evenly spaced over the split.
const ROWS_MAX: u64 = 4096;

/// The device and precision that others are compared with.
const REFERENCE_DEVICE: &str = "cpu";

/// The candidate on the rows that are looked at.
pub(super) struct Sample<'a> {
    lab: &'a Lab<'a>,
    manifest: &'a ModelManifest,
    weights: Vec<u8>,
    batch: Batch,
    device: &'a str,
    scores: Vec<f32>,
}

/// How far scores are from those on `cpu` in f32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Parity {
    pub(super) max: f64,
    pub(super) p999: f64,
    /// Rows whose class differs, as a share; none for a regression.
    pub(super) flips: Option<f64>,
}

impl<'a> Sample<'a> {
    /// Reads and scores the rows.
    pub(super) fn take(
        lab: &'a Lab<'a>,
        (located, split): (&Located, &Name),
        manifest: &'a ModelManifest,
        device: &'a str,
    ) -> Result<Self, Failure> {
        let mut rows = lab.tables.encode(located, split, &manifest.plan)?;
        let mut batch = manifest.plan.empty_batch();
        rows.fetch(&spaced(rows.n_rows()), &mut batch)?;
        let weights = lab.store.read(&manifest.weights)?;
        let mut sample = Self { lab, manifest, weights, batch, device, scores: Vec::new() };
        sample.scores = sample.score(&manifest.spec, device, &sample.batch)?;
        Ok(sample)
    }

    fn score(&self, spec: &TrainSpec, device: &str, batch: &Batch) -> Result<Vec<f32>, Failure> {
        self.lab.engine.open(spec, &self.manifest.plan, &self.weights, device)?.score(batch)
    }

    /// Compares with `cpu` in f32, unless that is where the candidate is.
    pub(super) fn parity(&self) -> Result<Result<Parity, String>, Failure> {
        let spec = &self.manifest.spec;
        let class = self.lab.engine.device_class(self.device)?;
        if class == REFERENCE_DEVICE && spec.precision == Precision::F32 {
            return Ok(Err(
                "the candidate was scored on `cpu` in f32, and that is what others are compared with"
                    .to_owned(),
            ));
        }
        let reference = TrainSpec { precision: Precision::F32, ..spec.clone() };
        let scores = self.score(&reference, REFERENCE_DEVICE, &self.batch)?;
        let mut apart: Vec<f64> = self
            .scores
            .iter()
            .zip(&scores)
            .map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs())
            .collect();
        // NaN sorts last: a score that is none is the largest difference there is.
        apart.sort_unstable_by(f64::total_cmp);
        let at = |per_mille: usize| {
            let rank = (apart.len() * per_mille).div_ceil(1000).max(1);
            apart.get(rank - 1).copied()
        };
        let (Some(p999), Some(max)) = (at(999), at(1000)) else {
            return Ok(Err("the split has no labelled rows".to_owned()));
        };
        Ok(Ok(Parity { max, p999, flips: self.flips(&scores) }))
    }

    /// Share of rows whose predicted class another set of inputs changes.
    pub(super) fn robustness(&self, how: Perturbation) -> Result<Result<f64, String>, Failure> {
        let plan = &self.manifest.plan;
        if plan.features.is_empty() {
            return Ok(Err("the model reads images alone, and those are not disturbed".to_owned()));
        }
        let disturbed = disturb(&self.batch, plan, how, self.manifest.spec.seed);
        let scores = self.score(&self.manifest.spec, self.device, &disturbed)?;
        Ok(self.flips(&scores).ok_or_else(|| match plan.label.task() {
            Task::Regression => super::no_class(),
            Task::Binary | Task::Multiclass => "the split has no labelled rows".to_owned(),
        }))
    }

    fn flips(&self, other: &[f32]) -> Option<f64> {
        let label = &self.manifest.plan.label;
        if label.task() == Task::Regression || self.batch.n_rows == 0 {
            return None;
        }
        let of = |score| Scores {
            task: label.task(),
            n_classes: label.classes().len(),
            label: &self.batch.label,
            score,
        };
        let (own, other) = (of(&self.scores), of(other));
        let differs = |row: &usize| own.predicted_class(*row) != other.predicted_class(*row);
        let n = (0..self.batch.n_rows).filter(differs).count();
        Some(n as f64 / self.batch.n_rows as f64)
    }
}

/// At most [`ROWS_MAX`] of `n` rows, evenly spaced.
fn spaced(n: u64) -> Vec<u64> {
    let wanted = n.min(ROWS_MAX);
    (0..wanted).map(|i| i * n / wanted).collect()
}

/// The same rows, their features disturbed. An image stays what it is.
fn disturb(batch: &Batch, plan: &FeaturePlan, how: Perturbation, seed: u64) -> Batch {
    let mut out = batch.clone();
    let (mut number, mut slot) = (0, 0);
    for feature in &plan.features {
        let stream = Stream::new(seed, Purpose::Probe, &format!("{how} of {}", feature.column));
        let width = feature.encoding.n_numeric();
        for row in 0..batch.n_rows {
            let numbers = &mut out.numeric[row * batch.n_numeric..][number..number + width];
            match (how, &feature.encoding) {
                (Perturbation::Noise(_), Encoding::Numeric { missing_flag, .. }) => {
                    let is_missing = *missing_flag && 0.5 < numbers[1];
                    if !is_missing {
                        numbers[0] += (how.size() * stream.normal_pair(0, 0, row as u64)[0]) as f32;
                    }
                }
                (Perturbation::Noise(_), Encoding::Categorical { .. } | Encoding::Date { .. }) => {}
                (Perturbation::Missing(_), encoding) => {
                    if f64::from(stream.uniform(0, 0, row as u64)) < how.size() {
                        lose(
                            encoding,
                            numbers,
                            out.categorical.get_mut(row * batch.n_categorical + slot),
                        );
                    }
                }
            }
        }
        number += width;
        slot += usize::from(matches!(feature.encoding, Encoding::Categorical { .. }));
    }
    out
}

/// What a missing value becomes.
fn lose(encoding: &Encoding, numbers: &mut [f32], slot: Option<&mut u32>) {
    match encoding {
        Encoding::Numeric { .. } => {
            let (value, flag) = numbers.split_at_mut(1);
            value[0] = 0.0;
            flag.iter_mut().for_each(|it| *it = 1.0);
        }
        Encoding::Date { .. } => {
            let (parts, flag) = numbers.split_at_mut(DATE_WIDTH);
            parts.iter_mut().for_each(|it| *it = 0.0);
            flag.iter_mut().for_each(|it| *it = 1.0);
        }
        Encoding::Categorical { .. } => {
            if let Some(slot) = slot {
                *slot = SLOT_MISSING;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use karat_core::{
        Batch, ColumnType, Encoding, Feature, FeaturePlan, LabelPlan, policy::Perturbation,
    };

    use super::{ROWS_MAX, disturb, spaced};

    fn plan() -> FeaturePlan {
        let feature = |column: &str, encoding| Feature {
            column: column.to_owned(),
            ty: ColumnType::Float,
            encoding,
        };
        FeaturePlan {
            features: vec![
                feature("x", Encoding::Numeric { mean: 0.0, std: 1.0, missing_flag: true }),
                feature("c", Encoding::Categorical { vocabulary: vec!["a".to_owned()] }),
                feature("d", Encoding::Date { missing_flag: false }),
            ],
            label: LabelPlan::Regression { column: "y".to_owned(), mean: 0.0, std: 1.0 },
            weight: None,
            image: None,
        }
    }

    fn rows(n: usize) -> Batch {
        let mut batch = plan().empty_batch();
        batch.n_rows = n;
        for row in 0..n {
            let flag = if row % 4 == 0 { 1.0 } else { 0.0 };
            batch.numeric.extend([if row % 4 == 0 { 0.0 } else { 0.5 }, flag]);
            batch.numeric.extend([0.25; 8]);
            batch.categorical.push(2);
        }
        batch
    }

    #[test]
    fn noise_moves_numbers_that_are_there_and_nothing_else() {
        let before = rows(4000);
        let after = disturb(&before, &plan(), Perturbation::Noise(100), 7);
        let moved = |row: usize| f64::from(after.numeric[row * 10] - before.numeric[row * 10]);
        assert!((0..4000).step_by(4).all(|row| moved(row).abs() < 1e-12), "missing stays missing");
        let n = 3000.0;
        let there = || (0..4000).filter(|row| row % 4 != 0).map(moved);
        let mean = there().sum::<f64>() / n;
        let deviation = (there().map(|it| it * it).sum::<f64>() / n).sqrt();
        assert!(mean.abs() < 0.006 && (deviation - 0.1).abs() < 0.005, "{mean} {deviation}");
        assert_eq!(after.categorical, before.categorical);
        assert!(
            (0..4000).all(
                |row| after.numeric[row * 10 + 1..][..9] == before.numeric[row * 10 + 1..][..9]
            )
        );
        assert_eq!(after, disturb(&before, &plan(), Perturbation::Noise(100), 7), "the same again");
        assert_ne!(after, disturb(&before, &plan(), Perturbation::Noise(100), 8));
    }

    #[test]
    fn a_missing_value_is_what_the_plan_makes_of_one() {
        let before = rows(4000);
        let after = disturb(&before, &plan(), Perturbation::Missing(250), 7);
        let share =
            |lost: &dyn Fn(usize) -> bool| (0..4000).filter(|it| lost(*it)).count() as f64 / 4000.0;
        let number = share(&|row| row % 4 != 0 && 0.5 < after.numeric[row * 10 + 1]);
        let category = share(&|row| after.categorical[row] == 0);
        let date =
            share(&|row| after.numeric[row * 10 + 2..][..8].iter().all(|it| it.abs() < 1e-9));
        assert!((number - 0.1875).abs() < 0.03, "{number}");
        assert!((category - 0.25).abs() < 0.03 && (date - 0.25).abs() < 0.03, "{category} {date}");
        let both = share(&|row| after.categorical[row] == 0 && 0.5 < after.numeric[row * 10 + 1]);
        assert!(both < 0.2, "columns are lost independently: {both}");
    }

    #[test]
    fn rows_are_spread_over_the_split() {
        assert_eq!(spaced(3), [0, 1, 2]);
        assert_eq!(spaced(0), [0_u64; 0]);
        let many = spaced(1_000_000);
        assert_eq!(many.len() as u64, ROWS_MAX);
        assert!(many.windows(2).all(|it| it[0] < it[1]) && 999_000 < many[many.len() - 1]);
    }
}
