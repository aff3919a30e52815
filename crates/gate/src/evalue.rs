//! Evidence that may be looked at any time: e-values and always-valid bounds, for data that keeps growing.
//!
//! An e-value is a bet against "no difference" that is fair under it: stopping when it first reaches 1/α gives a false alarm
//! with probability at most α, however often one looked. That cures peeking at *growing, fresh* data (shadow scoring, a
//! canary). It does not cure asking the *same* rows again: see [`crate::reuse`].
//!
//! Notation: b wins, c losses, n = b + c.
//!
//! * Two-sided, Beta(½, ½) over the chance of a win: E = B(b + ½, c + ½) / B(½, ½) · 2ⁿ. With u(k) = C(2k, k) / 4ᵏ this is
//!   u(b) u(c) / (C(n, b) / 2ⁿ): three coin probabilities, nothing that overflows.
//! * One-sided, uniform over (½, 1): E = 2ⁿ⁺¹ ∫ pᵇ (1 − p)ᶜ dp = 2 P(at most b of n + 1 coins) / ((n + 1) C(n, b) / 2ⁿ).
//!
//! Sources: Robbins 1970; Howard, Ramdas, McAuliffe, Sekhon 2021 (two-sided normal mixture, its best ρ).
//! Golden values: docs/design/009-gate-statistics.md.

use crate::normal::{fair_coin, fair_coin_tail};

/// E-value against "a win is as likely as a loss". Infinite where doubles end.
#[must_use]
pub fn paired_wins(b: u64, c: u64) -> f64 {
    fair_coin(b, 2 * b) * fair_coin(c, 2 * c) / fair_coin(b, b + c)
}

/// E-value against "a win is at most as likely as a loss".
#[must_use]
pub fn paired_wins_better(b: u64, c: u64) -> f64 {
    let n = b + c;
    let at_most_b = if b <= c { fair_coin_tail(b, n + 1) } else { 1.0 - fair_coin_tail(c, n + 1) };
    2.0 * at_most_b / ((n + 1) as f64 * fair_coin(b, n))
}

/// Bound on |Σ x| of centred terms that holds at all times at once with probability 1 − α, by a normal mixture:
/// √((V + ρ)(ln((V + ρ)/ρ) + 2 ln(1/α))). V is the sum of the terms' variances so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AlwaysValid {
    /// Twice ln(1/α).
    twice_ln: f64,
    /// The mixture's precision.
    pub rho: f64,
}

impl AlwaysValid {
    /// Tightest where the variances sum to `variance_best`: ρ = V / (2 ln(1/α) + ln(1 + 2 ln(1/α))).
    #[must_use]
    pub fn new(alpha: f64, variance_best: f64) -> Self {
        let twice_ln = -2.0 * libm::log(alpha);
        Self { twice_ln, rho: variance_best / (twice_ln + libm::log1p(twice_ln)) }
    }

    /// The bound when the variances sum to `variance`.
    #[must_use]
    pub fn bound(self, variance: f64) -> f64 {
        let sum = variance + self.rho;
        libm::sqrt(sum * (libm::log(sum / self.rho) + self.twice_ln))
    }
}

#[cfg(test)]
mod tests {
    use karat_core::rng::{Purpose, Stream};

    use super::{AlwaysValid, paired_wins, paired_wins_better};
    use crate::testing::assert_close;

    #[test]
    fn e_values_are_those_of_the_reference() {
        // Exact fractions, rounded once.
        for (b, c, two_sided, one_sided) in [
            (121, 59, 3_215.831_560_683_735, 9_461.964_683_326_423),
            (80, 59, 0.332_062_022_422_573_16, 0.988_819_847_734_296_1),
            (70, 59, 0.112_131_530_332_666_28, 0.291_139_139_219_861_84),
            (30, 10, 23.443_986_560_730_99, 63.227_923_732_015_974),
            (16, 6, 1.774_721_145_629_882_8, 4.803_399_454_227_291),
        ] {
            assert_close(paired_wins(b, c), two_sided, 1e-12);
            assert_close(paired_wins(c, b), two_sided, 1e-12);
            assert_close(paired_wins_better(b, c), one_sided, 1e-12);
        }
    }

    #[test]
    fn small_e_values_are_exact_fractions() {
        // One win: Beta mean ½ doubled; 2³ ∫ p² over (½, 1) = 7/3.
        assert_close(paired_wins(0, 0), 1.0, 1e-12);
        assert_close(paired_wins(1, 0), 1.0, 1e-12);
        assert_close(paired_wins(2, 0), 1.5, 1e-12);
        assert_close(paired_wins_better(0, 0), 1.0, 1e-12);
        assert_close(paired_wins_better(1, 0), 1.5, 1e-12);
        assert_close(paired_wins_better(2, 0), 7.0 / 3.0, 1e-12);
        assert_close(paired_wins_better(0, 1), 0.5, 1e-12);
        // No overflow, and what is certain stays certain.
        assert!(20.0 < paired_wins(10_040_000, 10_000_000));
        assert!(paired_wins_better(10_000_000, 10_010_000) < 0.05);
        assert!(paired_wins(10_000, 0).is_infinite());
    }

    /// Fair under the null: the mean over all outcomes is 1.
    #[test]
    fn the_bet_is_fair() {
        for n in [1_u64, 7, 40] {
            let mean = |e: fn(u64, u64) -> f64| -> f64 {
                (0..=n).map(|b| crate::normal::fair_coin(b, n) * e(b, n - b)).sum()
            };
            assert_close(mean(paired_wins), 1.0, 1e-11);
            assert_close(mean(paired_wins_better), 1.0, 1e-11);
        }
    }

    /// Looking after each of 1,000 fair coins finds 1/α in at most α of the walks.
    #[test]
    fn looking_all_the_time_costs_nothing() {
        const WALKS: u32 = 2_000;
        let stream = Stream::new(1, Purpose::Permute, "peeking");
        let alarms = (0..WALKS).filter(|walk| {
            let (mut b, mut c) = (0, 0);
            (0..1_000).any(|step| {
                if stream.uniform(step, *walk, 0) < 0.5 {
                    b += 1
                } else {
                    c += 1
                }
                20.0 <= paired_wins(b, c)
            })
        });
        let share = alarms.count() as f64 / f64::from(WALKS);
        let bound = 0.05 + 3.0 * libm::sqrt(0.05 * 0.95 / f64::from(WALKS));
        assert!(share < bound, "{share} {bound}");
    }

    #[test]
    fn the_bound_of_a_mean_holds_at_all_times() {
        let bound = AlwaysValid::new(0.05, 100.0);
        assert_close(bound.rho, 12.600_56, 5e-7);
        assert_close(bound.bound(100.0), 30.352_09, 5e-7);
        // Wider than a single look's 1.96 √V: that is the price.
        assert!(19.6 < bound.bound(100.0) && bound.bound(99.0) < bound.bound(100.0));
    }
}
