//! What happens at which update: pure functions of the spec, the number of rows and the update.

use karat_core::{
    TrainSpec,
    project::ScheduleSpec,
    rng::{Permutation, Purpose, Stream},
};

use crate::error::TrainError;

/// Where a one-cycle schedule begins, as a share of the peak: PyTorch's `div_factor` of 25.
const ONE_CYCLE_FIRST: f64 = 1.0 / 25.0;

/// The course of one training run.
#[derive(Clone, Debug)]
pub struct Schedule {
    n_rows: u64,
    batch_size: u64,
    n_epochs: u64,
    kind: ScheduleSpec,
    peak: f64,
    final_share: f64,
    warmup: f64,
}

impl Schedule {
    /// The course that `spec` asks for on `n_rows` rows.
    #[must_use]
    pub fn new(spec: &TrainSpec, n_rows: u64) -> Self {
        Self {
            n_rows,
            batch_size: u64::from(spec.batch_size),
            n_epochs: u64::from(spec.epochs),
            kind: spec.schedule,
            peak: spec.learning_rate,
            final_share: spec.learning_rate_final,
            warmup: spec.warmup,
        }
    }

    /// Updates of one pass; the last one may have fewer rows.
    #[must_use]
    pub fn n_updates_per_epoch(&self) -> u64 {
        self.n_rows.div_ceil(self.batch_size)
    }

    /// Updates in all.
    #[must_use]
    pub fn n_updates(&self) -> u64 {
        self.n_updates_per_epoch() * self.n_epochs
    }

    /// Whether a pass is complete after `update` updates.
    #[must_use]
    pub fn ends_epoch(&self, update: u64) -> bool {
        0 < update && update.is_multiple_of(self.n_updates_per_epoch())
    }

    /// The learning rate of the update that `update` others precede: rises to the peak, then goes the way of the spec's
    /// schedule to the last update. Never climbs again, however far past the end.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "update numbers are far below 2^52")]
    pub fn learning_rate_at(&self, update: u64) -> f64 {
        let (n_updates, done) = (self.n_updates() as f64, update as f64);
        if self.kind == ScheduleSpec::OneCycle {
            return self.peak * self.one_cycle(done, n_updates);
        }
        let n_warm = (self.warmup * n_updates).floor();
        let progress = ((done - n_warm) / (n_updates - n_warm).max(1.0)).clamp(0.0, 1.0);
        let share = match self.kind {
            ScheduleSpec::Constant | ScheduleSpec::OneCycle => 1.0,
            ScheduleSpec::Linear => 1.0 - (1.0 - self.final_share) * progress,
            ScheduleSpec::Cosine => {
                self.final_share + (1.0 - self.final_share) * half_cosine(progress)
            }
            // Epochs are counted from the start: a fall may come while the rate still warms up.
            ScheduleSpec::Step { epochs, factor } => {
                let every = self.n_updates_per_epoch().saturating_mul(u64::from(epochs)).max(1);
                libm::pow(factor, (update / every) as f64)
            }
        };
        let warm = if done < n_warm { self.peak * (done + 1.0) / n_warm } else { self.peak };
        warm * share
    }

    /// As PyTorch's `OneCycleLR`, whose turning points lie between updates where the shares say so.
    fn one_cycle(&self, done: f64, n_updates: f64) -> f64 {
        let turn = (self.warmup * n_updates - 1.0).max(0.0);
        if done < turn {
            return 1.0 + (ONE_CYCLE_FIRST - 1.0) * half_cosine(done / turn);
        }
        let left = (n_updates - 1.0 - turn).max(1.0);
        let share = half_cosine(((done - turn) / left).min(1.0));
        self.final_share + (1.0 - self.final_share) * share
    }
}

/// 1 at 0, 0 at 1, along half a cosine.
fn half_cosine(progress: f64) -> f64 {
    0.5 * (1.0 + libm::cos(std::f64::consts::PI * progress))
}

/// Which rows each update sees: a function of (seed, epoch, position), whatever came before.
#[derive(Clone, Debug)]
pub struct Order {
    draw: Draw,
    n_rows: u64,
    batch_size: u64,
    n_updates_per_epoch: u64,
}

#[derive(Clone, Debug)]
enum Draw {
    /// A permutation of all rows for every epoch.
    Shuffled {
        stream: Stream,
        /// The epoch looked at last; a permutation is a table, not worth making for each update.
        current: Option<(u64, Permutation)>,
    },
    /// With replacement: each position of an epoch draws for itself.
    Weighted {
        stream: Stream,
        /// Weights up to and with each row.
        sums: Vec<f64>,
        /// The last row that weighs anything.
        last: u64,
    },
}

impl Order {
    /// Every row once an epoch, in another order each time.
    #[must_use]
    pub fn shuffled(spec: &TrainSpec, n_rows: u64) -> Self {
        let stream = Stream::new(spec.seed, Purpose::Shuffle, "train");
        Self::by(Draw::Shuffled { stream, current: None }, spec, n_rows)
    }

    /// Each row as often as its weight says, as many an epoch as there are rows.
    pub(crate) fn weighted(spec: &TrainSpec, weights: &[f64]) -> Result<Self, TrainError> {
        let mut sum = 0.0;
        let mut sums = Vec::with_capacity(weights.len());
        for (row, weight) in weights.iter().enumerate() {
            if !(0.0 <= *weight && weight.is_finite()) {
                return Err(TrainError::SamplingWeight { row: row as u64, weight: *weight });
            }
            sum += weight;
            sums.push(sum);
        }
        let last = weights.iter().rposition(|it| 0.0 < *it);
        let last = last.filter(|_| sum.is_finite()).ok_or(TrainError::SamplingNothing)? as u64;
        let stream = Stream::new(spec.seed, Purpose::Sample, "train");
        Ok(Self::by(Draw::Weighted { stream, sums, last }, spec, weights.len() as u64))
    }

    fn by(draw: Draw, spec: &TrainSpec, n_rows: u64) -> Self {
        Self {
            draw,
            n_rows,
            batch_size: u64::from(spec.batch_size),
            n_updates_per_epoch: Schedule::new(spec, n_rows).n_updates_per_epoch(),
        }
    }

    /// The rows of the update that `update` others precede, in order; replaces what is in `into`.
    pub fn rows_at(&mut self, update: u64, into: &mut Vec<u64>) {
        let (epoch, within) =
            (update / self.n_updates_per_epoch, update % self.n_updates_per_epoch);
        let first = within * self.batch_size;
        let positions = first..(first + self.batch_size).min(self.n_rows);
        into.clear();
        match &mut self.draw {
            Draw::Shuffled { stream, current } => {
                let (_, permutation) = match current.take() {
                    Some(known) if known.0 == epoch => current.insert(known),
                    _ => current.insert((epoch, Permutation::new(*stream, epoch, self.n_rows))),
                };
                into.extend(positions.map(|position| permutation.at(position)));
            }
            Draw::Weighted { stream, sums, last } => {
                let total = sums.last().copied().unwrap_or(0.0);
                into.extend(positions.map(|position| {
                    let target = unit(*stream, position, epoch) * total;
                    // Rounding may lift the largest target onto the total, which no row is above.
                    (sums.partition_point(|sum| *sum <= target) as u64).min(*last)
                }));
            }
        }
    }
}

/// Uniform in [0, 1) with 53 bits.
fn unit(stream: Stream, position: u64, epoch: u64) -> f64 {
    let block = stream.block(position as u32, (position >> 32) as u32, epoch);
    let bits = u64::from(block[0]) << 32 | u64::from(block[1]);
    (bits >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
}

#[cfg(test)]
mod tests {
    use karat_core::project::ScheduleSpec;

    use super::{Order, Schedule};
    use crate::tests::spec;

    /// Ten rows an update, two epochs.
    fn ten_by_two() -> karat_core::TrainSpec {
        let mut spec = spec();
        (spec.batch_size, spec.epochs) = (10, 2);
        spec
    }

    fn schedule(n_rows: u64, change: impl Fn(&mut karat_core::TrainSpec)) -> Schedule {
        let mut spec = ten_by_two();
        change(&mut spec);
        Schedule::new(&spec, n_rows)
    }

    /// PyTorch 2.15's schedulers over 10 updates from a peak of 0.1, two of them warm-up by
    /// `LinearLR(start_factor=1/2, total_iters=1)`: by `SequentialLR` with `LinearLR(1, 0.2, 8)` and
    /// `CosineAnnealingLR(8, eta_min=0.02)`; by `ChainedScheduler` with `StepLR(5, 0.1)`. One-cycle:
    /// `OneCycleLR(0.1, total_steps=10, pct_start=…, final_div_factor=…)`.
    #[test]
    fn learning_rates_are_those_of_pytorch() {
        let cycle = ScheduleSpec::OneCycle;
        for (kind, warmup, last, expected) in [
            (
                ScheduleSpec::Constant,
                0.25,
                1.0,
                [0.05, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1],
            ),
            (
                ScheduleSpec::Linear,
                0.25,
                0.2,
                [0.05, 0.1, 0.1, 0.09, 0.08, 0.07, 0.06, 0.05, 0.04, 0.03],
            ),
            (
                ScheduleSpec::Cosine,
                0.25,
                0.2,
                [
                    0.05,
                    0.1,
                    0.1,
                    0.096_955_181_300_451_47,
                    0.088_284_271_247_461_9,
                    0.075_307_337_294_603_6,
                    0.06,
                    0.044_692_662_705_396_416,
                    0.031_715_728_752_538_11,
                    0.023_044_818_699_548_535,
                ],
            ),
            (
                ScheduleSpec::Step { epochs: 1, factor: 0.1 },
                0.25,
                1.0,
                [0.05, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01, 0.01],
            ),
            (
                cycle,
                0.3,
                4e-6,
                [
                    0.004,
                    0.052,
                    0.1,
                    0.095_048_463_201_347_38,
                    0.081_174_565_394_976_3,
                    0.061_126_202_193_628_93,
                    0.038_874_197_806_371_07,
                    0.018_825_834_605_023_7,
                    0.004_951_936_798_652_629,
                    4e-7,
                ],
            ),
            (
                cycle,
                0.25,
                0.2,
                [
                    0.004,
                    0.076,
                    0.099_125_904_029_352_23,
                    0.092_360_679_774_997_9,
                    0.08,
                    0.064_181_138_530_706_14,
                    0.047_639_320_225_002_106,
                    0.033_234_775_745_645_685,
                    0.023_458_181_694_295_963,
                    0.02,
                ],
            ),
        ] {
            let schedule = schedule(50, |spec| {
                (spec.learning_rate, spec.schedule) = (0.1, kind);
                (spec.warmup, spec.learning_rate_final) = (warmup, last);
            });
            assert_eq!(schedule.n_updates(), 10);
            for (update, expected) in (0..).zip(expected) {
                let found = schedule.learning_rate_at(update);
                assert!((found - expected).abs() < 1e-15, "{kind:?} update {update}: {found}");
            }
        }
    }

    #[test]
    fn no_schedule_climbs_after_its_warm_up_or_past_its_end() {
        for kind in [
            ScheduleSpec::Constant,
            ScheduleSpec::Linear,
            ScheduleSpec::Cosine,
            ScheduleSpec::Step { epochs: 1, factor: 0.5 },
            ScheduleSpec::OneCycle,
        ] {
            for n_rows in [1, 10, 11, 500] {
                let schedule = schedule(n_rows, |spec| {
                    (spec.schedule, spec.warmup, spec.learning_rate_final) = (kind, 0.3, 0.1);
                });
                let n = schedule.n_updates();
                let rates: Vec<f64> =
                    (0..3 * n + 50).map(|it| schedule.learning_rate_at(it)).collect();
                assert!(rates.iter().all(|it| it.is_finite() && 0.0 < *it), "{kind:?} {rates:?}");
                let (peak, _) = rates
                    .iter()
                    .enumerate()
                    .fold((0, 0.0), |best, (i, it)| if best.1 < *it { (i, *it) } else { best });
                assert!((peak as u64) <= n.div_ceil(3), "{kind:?}: peak at {peak} of {n}");
                assert!(rates[peak..].is_sorted_by(|a, b| b <= a), "{kind:?} {n_rows} climbs");
            }
        }
    }

    #[test]
    fn weighted_rows_come_as_often_as_they_weigh_and_depend_on_nothing_before() {
        let mut spec = ten_by_two();
        spec.batch_size = 1000;
        let mut weights = vec![1.0; 1000];
        (weights[0], weights[7], weights[999]) = (0.0, 500.0, 0.0);
        let mut order = Order::weighted(&spec, &weights).expect("valid");
        let (mut rows, mut n_seven, mut n_all) = (Vec::new(), 0, 0);
        for epoch in 0..50 {
            order.rows_at(epoch, &mut rows);
            assert!(rows.iter().all(|it| *it != 0 && *it != 999), "weight 0 is never drawn");
            n_seven += rows.iter().filter(|it| **it == 7).count();
            n_all += rows.len();
        }
        // Expected 500/1497 of 50,000 draws = 16,700; standard deviation 105.
        let expected = 500.0 / 1497.0 * n_all as f64;
        assert!((n_seven as f64 - expected).abs() < 500.0, "{n_seven}, expected {expected}");
        // Random access: another order, asked for the last epoch only, draws the same.
        let mut again = vec![1];
        Order::weighted(&spec, &weights).expect("valid").rows_at(49, &mut again);
        assert_eq!(rows, again);
    }

    #[test]
    fn weights_that_cannot_be_drawn_by_are_refused() {
        let code = |weights: &[f64]| {
            let error = Order::weighted(&ten_by_two(), weights).expect_err("refused");
            karat_core::Failure::from(error).code.to_string()
        };
        assert_eq!(code(&[1.0, -1.0]), "sampling-weight");
        assert_eq!(code(&[f64::NAN]), "sampling-weight");
        assert_eq!(code(&[0.0, 0.0]), "sampling-nothing");
        assert_eq!(code(&[f64::MAX, f64::MAX]), "sampling-nothing");
    }

    #[test]
    fn every_epoch_has_every_row_once_in_another_order() {
        let mut order = Order::shuffled(&ten_by_two(), 47);
        let mut epoch = |epoch: u64| {
            let mut all = Vec::new();
            for update in 0..5 {
                let mut rows = vec![99];
                order.rows_at(epoch * 5 + update, &mut rows);
                assert_eq!(rows.len(), if update == 4 { 7 } else { 10 });
                all.extend(rows);
            }
            all
        };
        let (first, second) = (epoch(0), epoch(1));
        assert_ne!(first, second);
        for mut rows in [first, second] {
            rows.sort_unstable();
            assert!(rows.into_iter().eq(0..47));
        }
    }

    #[test]
    fn epochs_end_where_they_should() {
        let schedule = schedule(47, |_| {});
        let ends: Vec<u64> = (0..=10).filter(|update| schedule.ends_epoch(*update)).collect();
        assert_eq!(ends, [5, 10]);
    }
}
