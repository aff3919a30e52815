//! What scoring takes: rows a second, time of a batch, memory, size of the model. Measured while predictions are made and
//! recorded with their run, so that a gate judges what was measured and not what is measured again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What one pass over the rows took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreCost {
    /// Rows scored.
    pub n_rows: u64,
    /// Wall seconds from the first row read to the last one written.
    pub seconds: f64,
    /// Batches handed to the device.
    pub n_batches: u64,
    /// Rows of a whole batch. Scores do not depend on it, times do.
    pub batch_size: u32,
    /// Median time of a batch on the device, milliseconds.
    pub latency_p50_ms: f64,
    /// Time that 95 of 100 batches do not exceed, milliseconds.
    pub latency_p95_ms: f64,
    /// Largest resident memory of the process at the end of a batch, bytes, where the system tells.
    pub peak_memory: Option<u64>,
    /// Bytes of the weights' file.
    pub model_bytes: u64,
}

impl ScoreCost {
    /// Rows a second, reading and writing included; `None` when no time was seen to pass.
    #[must_use]
    pub fn rows_per_second(&self) -> Option<f64> {
        Some(self.n_rows as f64 / self.seconds).filter(|it| it.is_finite() && 0.0 < *it)
    }
}

/// Collects while batches are scored.
#[derive(Debug, Default)]
pub(super) struct Meter {
    batches: Vec<Duration>,
    peak_memory: Option<u64>,
}

impl Meter {
    pub(super) fn batch(&mut self, took: Duration, resident: Option<u64>) {
        self.batches.push(took);
        self.peak_memory = self.peak_memory.max(resident);
    }

    pub(super) fn cost(
        mut self,
        n_rows: u64,
        took: Duration,
        batch_size: u32,
        n_bytes: usize,
    ) -> ScoreCost {
        self.batches.sort_unstable();
        ScoreCost {
            n_rows,
            seconds: took.as_secs_f64(),
            n_batches: self.batches.len() as u64,
            batch_size,
            latency_p50_ms: percentile_ms(&self.batches, 50),
            latency_p95_ms: percentile_ms(&self.batches, 95),
            peak_memory: self.peak_memory,
            model_bytes: n_bytes as u64,
        }
    }
}

/// The smallest time that at least `percent` of all do not exceed (nearest rank); 0 without any.
fn percentile_ms(sorted: &[Duration], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).map_or(0.0, |it| it.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Meter;

    #[test]
    fn percentiles_are_times_that_were_seen() {
        let mut meter = Meter::default();
        for ms in (1..=20).rev() {
            meter.batch(Duration::from_millis(ms), Some(ms << 20));
        }
        let cost = meter.cost(1000, Duration::from_millis(500), 50, 4096);
        assert!(
            (cost.latency_p50_ms - 10.0).abs() < 1e-9 && (cost.latency_p95_ms - 19.0).abs() < 1e-9
        );
        assert_eq!((cost.n_batches, cost.peak_memory), (20, Some(20 << 20)));
        assert!((cost.rows_per_second().expect("time passed") - 2000.0).abs() < 1e-9);
        let nothing = Meter::default().cost(0, Duration::ZERO, 50, 0);
        assert_eq!((nothing.rows_per_second(), nothing.peak_memory), (None, None));
    }
}
