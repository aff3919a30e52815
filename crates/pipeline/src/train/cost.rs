//! What a training takes: wall time by part of an update, rows, memory.

use karat_core::{
    Timestamp,
    port::{Part, Work},
    summary::{EVALUATING, TrainCost},
};

/// Every part in the order of an update, with the word that reports use.
const PARTS: [(Part, &str); 6] = [
    (Part::Rows, "waiting for rows"),
    (Part::Forward, "forward"),
    (Part::Backward, "backward"),
    (Part::Optimizer, "optimizer"),
    (Part::Other, "other"),
    (Part::Evaluate, EVALUATING),
];

/// Adds up laps. The clock ticks in milliseconds, which is longer than some laps; a lap that ends in a tick gets the whole
/// of it, so that over many updates each part gets its share.
pub(super) struct Stopwatch {
    last_at: Timestamp,
    milliseconds: [i64; PARTS.len()],
    n_updates: u64,
    n_rows: u64,
}

impl Stopwatch {
    pub(super) fn started(now: Timestamp) -> Self {
        Self { last_at: now, milliseconds: [0; PARTS.len()], n_updates: 0, n_rows: 0 }
    }

    /// The time since the last lap went to `part`.
    pub(super) fn lap(&mut self, part: Part, now: Timestamp) {
        for ((known, _), sum) in PARTS.iter().zip(&mut self.milliseconds) {
            if *known == part {
                // A clock that is set back while training runs takes nothing away.
                *sum += (now.0 - self.last_at.0).max(0);
            }
        }
        self.last_at = now;
    }

    /// One more update, of `n_rows` rows.
    pub(super) fn update(&mut self, n_rows: u64) {
        self.n_updates += 1;
        self.n_rows += n_rows;
    }

    pub(super) fn cost(&self, work: Option<Work>, peak_memory: Option<u64>) -> TrainCost {
        let seconds = self.milliseconds.iter().map(|it| *it as f64 / 1000.0);
        TrainCost {
            n_updates: self.n_updates,
            n_rows: self.n_rows,
            parts: PARTS.iter().map(|(_, word)| (*word).to_owned()).zip(seconds).collect(),
            peak_memory,
            operations_per_row: work.map(|it| it.operations_per_row),
            ceiling: work.map(|it| it.ceiling),
        }
    }
}

#[cfg(test)]
mod tests {
    use karat_core::{
        Timestamp,
        port::{Part, Work},
    };

    use super::Stopwatch;

    #[test]
    fn laps_add_up_and_shares_leave_evaluating_out() {
        let mut watch = Stopwatch::started(Timestamp(1000));
        for (part, now) in [
            (Part::Rows, 1100),
            (Part::Forward, 1300),
            (Part::Backward, 1700),
            (Part::Optimizer, 1650),
            (Part::Rows, 1750),
            (Part::Evaluate, 9000),
            (Part::Other, 9200),
        ] {
            watch.lap(part, Timestamp(now));
        }
        (0..4).for_each(|_| watch.update(250));
        let cost = watch.cost(Some(Work { operations_per_row: 3e6, ceiling: 6e9 }), Some(1 << 30));
        let found: Vec<(&str, f64)> = cost.parts.iter().map(|it| (it.0.as_str(), it.1)).collect();
        assert_eq!(
            found,
            [
                ("waiting for rows", 0.2),
                ("forward", 0.2),
                ("backward", 0.4),
                ("optimizer", 0.0),
                ("other", 0.2),
                ("evaluating", 7.25),
            ]
        );
        assert_eq!((cost.n_updates, cost.n_rows), (4, 1000));
        assert!((cost.rows_per_second().expect("some") - 1000.0).abs() < 1e-6);
        assert!((cost.share_of_ceiling().expect("some") - 0.5).abs() < 1e-9);
    }

    #[test]
    fn nothing_done_has_no_rate() {
        let cost = Stopwatch::started(Timestamp(0)).cost(None, None);
        assert_eq!((cost.rows_per_second(), cost.share_of_ceiling()), (None, None));
    }
}
