//! What happens at which update: pure functions of the spec, the number of rows and the update.

use karat_core::{
    TrainSpec,
    rng::{Permutation, Purpose, Stream},
};

/// The course of one training run.
#[derive(Clone, Debug)]
pub struct Schedule {
    n_rows: u64,
    batch_size: u64,
    n_epochs: u64,
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

    /// The learning rate of the update that `update` others precede: rises linearly to the peak, then falls along a
    /// half cosine to the final share of it. Never climbs again.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "update numbers are far below 2^52")]
    pub fn learning_rate_at(&self, update: u64) -> f64 {
        let n_updates = self.n_updates() as f64;
        let n_warm = (self.warmup * n_updates).floor();
        let done = update as f64;
        if done < n_warm {
            return self.peak * (done + 1.0) / n_warm;
        }
        let progress = ((done - n_warm) / (n_updates - n_warm).max(1.0)).min(1.0);
        let share = 0.5 * (1.0 + libm::cos(std::f64::consts::PI * progress));
        self.peak * (self.final_share + (1.0 - self.final_share) * share)
    }
}

/// Which rows each update sees: a permutation of all rows for every epoch, cut into batches.
#[derive(Clone, Debug)]
pub struct Order {
    stream: Stream,
    n_rows: u64,
    batch_size: u64,
    n_updates_per_epoch: u64,
    /// The epoch looked at last; a permutation is a table, not worth making for each update.
    current: Option<(u64, Permutation)>,
}

impl Order {
    /// The order that `spec` asks for on `n_rows` rows.
    #[must_use]
    pub fn new(spec: &TrainSpec, n_rows: u64) -> Self {
        Self {
            stream: Stream::new(spec.seed, Purpose::Shuffle, "train"),
            n_rows,
            batch_size: u64::from(spec.batch_size),
            n_updates_per_epoch: Schedule::new(spec, n_rows).n_updates_per_epoch(),
            current: None,
        }
    }

    /// The rows of the update that `update` others precede, in order; replaces what is in `into`.
    pub fn rows_at(&mut self, update: u64, into: &mut Vec<u64>) {
        let (epoch, within) =
            (update / self.n_updates_per_epoch, update % self.n_updates_per_epoch);
        let (_, permutation) = match self.current.take() {
            Some(current) if current.0 == epoch => self.current.insert(current),
            _ => self.current.insert((epoch, Permutation::new(self.stream, epoch, self.n_rows))),
        };
        let first = within * self.batch_size;
        into.clear();
        into.extend(
            (first..(first + self.batch_size).min(self.n_rows))
                .map(|position| permutation.at(position)),
        );
    }
}

#[cfg(test)]
mod tests {
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

    /// Ten rows an update, 50 rows, 2 epochs: 10 updates, of which floor(0.25 · 10) = 2 warm up.
    #[test]
    fn learning_rates_are_the_golden_ones() {
        let schedule = schedule(50, |spec| {
            (spec.learning_rate, spec.warmup, spec.learning_rate_final) = (0.1, 0.25, 0.2);
        });
        assert_eq!(schedule.n_updates(), 10);
        // 0.1 · (0.2 + 0.8 · (1 + cos(π · (u − 2) / 8)) / 2)
        for (update, expected) in [
            (0, 0.05),
            (1, 0.1),
            (2, 0.1),
            (4, 0.088_284_271_247_461_9),
            (6, 0.06),
            (9, 0.023_044_818_699_548_53),
            (10, 0.02),
            (1000, 0.02),
        ] {
            let found = schedule.learning_rate_at(update);
            assert!((found - expected).abs() < 1e-15, "update {update}: {found}");
        }
    }

    #[test]
    fn every_epoch_has_every_row_once_in_another_order() {
        let mut order = Order::new(&ten_by_two(), 47);
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
