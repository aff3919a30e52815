//! How many rows a question needs, and what a number of rows can see.
//!
//! Notation: ψ = share of the rows on which exactly one of two models is right, δ = gain in accuracy, Δ = margin.
//!
//! Sources: Connor 1987 (paired proportions); Noether 1987 (pairs for P(A > B)).
//! Golden values: docs/design/009-gate-statistics.md.

use crate::normal::quantile;

/// α and power of a question, as normal quantiles.
#[derive(Clone, Copy, Debug)]
pub struct Power {
    /// z of 1 − α, one-sided.
    pub z_alpha: f64,
    /// z of the power.
    pub z_beta: f64,
}

impl Power {
    /// From a gate's reliability (1 − α) and power.
    #[must_use]
    pub fn new(reliability: f64, power: f64) -> Self {
        Self { z_alpha: quantile(reliability), z_beta: quantile(power) }
    }

    /// Rows to see a gain of `gain` when the models disagree on a share `disagreement` of the rows.
    #[must_use]
    pub fn rows_for_gain(self, gain: f64, disagreement: f64) -> f64 {
        let within = libm::sqrt((disagreement - gain * gain).max(0.0));
        let root = self.z_alpha * libm::sqrt(disagreement) + self.z_beta * within;
        root * root / (gain * gain)
    }

    /// Rows to show "not worse by `margin`" when the models are equally good.
    #[must_use]
    pub fn rows_for_margin(self, margin: f64, disagreement: f64) -> f64 {
        let z = self.z_alpha + self.z_beta;
        z * z * disagreement / (margin * margin)
    }

    /// The smallest gain that `n` rows show; the whole disagreement if even that is not enough.
    #[must_use]
    pub fn gain_seen(self, n: f64, disagreement: f64) -> f64 {
        let (mut low, mut high) = (0.0, disagreement);
        for _ in 0..100 {
            let middle = 0.5 * (low + high);
            if n < self.rows_for_gain(middle, disagreement) {
                low = middle;
            } else {
                high = middle;
            }
        }
        high
    }

    /// Pairs of runs that show "A beats B more often than not" when A wins a share `wins` of them.
    #[must_use]
    pub fn pairs_for_wins(self, wins: f64) -> f64 {
        let ratio = (self.z_alpha + self.z_beta) / (wins - 0.5);
        ratio * ratio / 6.0
    }

    /// The smallest effect that a standard error shows: for every metric that is not right or wrong.
    #[must_use]
    pub fn effect_seen(self, standard_error: f64) -> f64 {
        (self.z_alpha + self.z_beta) * standard_error
    }
}

/// How many times more rows labels need of which a share `error` is wrong, either way alike: the difference seen shrinks by
/// 1 − 2ρ, so n grows by 1 / (1 − 2ρ)².
#[must_use]
pub fn label_noise_factor(error: f64) -> f64 {
    let kept = 1.0 - 2.0 * error;
    1.0 / (kept * kept)
}

#[cfg(test)]
mod tests {
    use super::{Power, label_noise_factor};
    use crate::testing::assert_close;

    /// The table of section 5.
    #[test]
    fn power_gives_the_planning_table() {
        let power = Power::new(0.95, 0.8);
        let shares = [0.02, 0.05, 0.1, 0.2];
        for (gain, rows) in [
            (0.0025, [19_783.0, 49_459.0, 98_919.0, 197_840.0]),
            (0.005, [4_944.0, 12_364.0, 24_729.0, 49_459.0]),
            (0.01, [1_235.0, 3_090.0, 6_181.0, 12_364.0]),
        ] {
            for (share, expected) in shares.into_iter().zip(rows) {
                assert_close(power.rows_for_gain(gain, share).ceil(), expected, 1e-12);
            }
        }
        for (share, expected) in shares[1..].iter().zip([771.0, 1_544.0, 3_090.0]) {
            assert_close(power.rows_for_gain(0.02, *share).ceil(), expected, 1e-12);
        }
        for (share, expected) in shares.into_iter().zip([4_947.0, 12_366.0, 24_731.0, 49_461.0]) {
            assert_close(power.rows_for_margin(0.005, share).ceil(), expected, 1e-12);
        }
        for (n, effects) in [
            (500.0, [1.57, 2.48, 3.51, 4.96]),
            (1_000.0, [1.11, 1.76, 2.48, 3.51]),
            (5_000.0, [0.50, 0.79, 1.11, 1.57]),
            (10_000.0, [0.35, 0.56, 0.79, 1.11]),
            (50_000.0, [0.16, 0.25, 0.35, 0.50]),
        ] {
            for (share, expected) in shares.into_iter().zip(effects) {
                let seen = 100.0 * power.gain_seen(n, share);
                assert!((seen - expected).abs() <= 0.0051, "n = {n}, {share}: {seen}");
            }
        }
    }

    #[test]
    fn pairs_of_runs_are_noethers() {
        let found = Power::new(0.95, 0.95).pairs_for_wins(0.75);
        assert!((found - 28.9).abs() < 0.05, "{found}");
    }

    #[test]
    fn wrong_labels_ask_for_more_rows() {
        assert_close(label_noise_factor(0.0), 1.0, 1e-15);
        assert_close(label_noise_factor(0.033), 1.146, 5e-4);
        assert_close(label_noise_factor(0.25), 4.0, 1e-14);
        assert!(label_noise_factor(0.5).is_infinite());
    }
}
