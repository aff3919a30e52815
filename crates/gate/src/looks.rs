//! Looks that are planned: how extreme a score must be at each of a few looks at growing data, so that all together raise a
//! false alarm with probability α.
//!
//! Scores Z at information fractions t₁ < … < t_K = 1 are B(t)/√t of a Brownian motion B. [`spent`] follows the density of B on
//! what no look has stopped (Armitage, McPherson, Rowe 1969) on a grid, by Simpson's rule; bounds are found by bisection.
//!
//! * Pocock 1977: the same bound at each look.
//! * O'Brien and Fleming 1979: c / √t, hardly anything is spent early.
//! * Lan and DeMets 1983: spends 4 (1 − Φ(z₁₋α/₄ / √t)), like O'Brien–Fleming, and looks may come at any time.
//!
//! Two-sided. Golden values: docs/design/009-gate-statistics.md.

use std::f64::consts::PI;

use crate::normal::{cdf, quantile, two_sided};

/// Points of the grid; odd, for Simpson's rule.
const POINTS: usize = 241;
/// No bound is larger: P(|Z| ≥ 8) is 1e-15.
const BOUND_MAX: f64 = 8.0;

/// `n` looks at equal steps.
#[must_use]
pub fn equal_times(n: u32) -> Vec<f64> {
    (1..=n).map(|k| f64::from(k) / f64::from(n)).collect()
}

/// Probability, under no difference, that a look up to the k-th finds |Z| at or above its bound, for every k.
#[must_use]
pub fn spent(times: &[f64], bounds: &[f64]) -> Vec<f64> {
    let mut walk = Walk::new();
    let mut sum = 0.0;
    let of_look = |(time, bound): (&f64, &f64)| {
        sum += walk.crossing(*time, *bound);
        walk.go_on(*time, *bound);
        sum
    };
    times.iter().zip(bounds).map(of_look).collect()
}

/// Pocock's bounds.
#[must_use]
pub fn pocock(times: &[f64], alpha: f64) -> Vec<f64> {
    solve(times, alpha, |c, _| c)
}

/// O'Brien and Fleming's bounds.
#[must_use]
pub fn obrien_fleming(times: &[f64], alpha: f64) -> Vec<f64> {
    solve(times, alpha, |c, time| c / libm::sqrt(time))
}

/// What Lan and DeMets's function has spent of α at `time`.
#[must_use]
pub fn lan_demets_spent(time: f64, alpha: f64) -> f64 {
    2.0 * two_sided(quantile(1.0 - alpha / 4.0) / libm::sqrt(time))
}

/// Lan and DeMets's bounds: at each look what the function has spent more than at the look before.
#[must_use]
pub fn lan_demets(times: &[f64], alpha: f64) -> Vec<f64> {
    let mut walk = Walk::new();
    let mut before = 0.0;
    let of_look = |time: &f64| {
        let now = lan_demets_spent(*time, alpha);
        let bound = bisect(|bound| walk.crossing(*time, bound) < now - before);
        walk.go_on(*time, bound);
        before = now;
        bound
    };
    times.iter().map(of_look).collect()
}

fn solve(times: &[f64], alpha: f64, bound: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    let bounds = |c: f64| -> Vec<f64> { times.iter().map(|time| bound(c, *time)).collect() };
    let all = |c: f64| spent(times, &bounds(c)).last().copied().unwrap_or(0.0);
    bounds(bisect(|c| all(c) < alpha))
}

/// The least number that is large enough.
fn bisect(is_enough: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, BOUND_MAX);
    for _ in 0..40 {
        let middle = 0.5 * (low + high);
        if is_enough(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

/// B at the last look, where it did not stop: points, and density times Simpson's weight at each.
struct Walk {
    time: f64,
    at: Vec<f64>,
    mass: Vec<f64>,
}

impl Walk {
    /// At time 0, where B is 0.
    fn new() -> Self {
        Self { time: 0.0, at: vec![0.0], mass: vec![1.0] }
    }

    /// Probability to have come this far and then to be found outside the bound.
    fn crossing(&self, time: f64, bound: f64) -> f64 {
        let (edge, sd) = (bound * libm::sqrt(time), libm::sqrt(time - self.time));
        let outside =
            |(at, mass): (&f64, &f64)| mass * (cdf((-edge - at) / sd) + cdf((at - edge) / sd));
        self.at.iter().zip(&self.mass).map(outside).sum()
    }

    fn go_on(&mut self, time: f64, bound: f64) {
        let (edge, variance) = (bound * libm::sqrt(time), time - self.time);
        let step = 2.0 * edge / (POINTS - 1) as f64;
        let scale = step / 3.0 / libm::sqrt(2.0 * PI * variance);
        let (mut at, mut mass) = (Vec::with_capacity(POINTS), Vec::with_capacity(POINTS));
        for point in 0..POINTS {
            let to = -edge + step * point as f64;
            let density = |(from, mass): (&f64, &f64)| {
                mass * libm::exp(-(to - from) * (to - from) / (2.0 * variance))
            };
            let weight = match point {
                0 => 1.0,
                _ if point == POINTS - 1 => 1.0,
                _ if point % 2 == 1 => 4.0,
                _ => 2.0,
            };
            at.push(to);
            mass.push(weight * scale * self.at.iter().zip(&self.mass).map(density).sum::<f64>());
        }
        *self = Self { time, at, mass };
    }
}

#[cfg(test)]
mod tests {
    use super::{equal_times, lan_demets, lan_demets_spent, obrien_fleming, pocock, spent};
    use crate::{normal::quantile, testing::assert_close};

    #[track_caller]
    fn check(found: &[f64], expected: &[f64], within: f64) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() <= within, "{found} {expected}");
        }
    }

    #[test]
    fn bounds_are_the_published_ones() {
        let five = equal_times(5);
        check(&pocock(&five, 0.05), &[2.413; 5], 5e-4);
        check(&obrien_fleming(&five, 0.05), &[4.5616, 3.2255, 2.6336, 2.2808, 2.0400], 6e-4);
        let found = lan_demets(&five, 0.05);
        // The published second bound is 3.3569; ten times the points give 3.357012 as these do.
        check(&found, &[4.8769, 3.3569, 2.6803, 2.2898, 2.0310], 1.2e-4);
        assert_close(found[1], 3.357_011_92, 1e-8);
        let all = spent(&five, &found);
        for (time, spent) in five.iter().zip(&all) {
            assert!((lan_demets_spent(*time, 0.05) - spent).abs() < 1e-9, "{time}");
        }
        check(&all, &[1.1e-6, 0.00079, 0.00762, 0.02442, 0.05], 6e-6);
    }

    #[test]
    fn looking_as_if_once_spends_too_much() {
        for (n, share) in [(1, 0.05), (2, 0.083), (3, 0.107), (5, 0.142), (10, 0.193)] {
            let bounds = vec![quantile(0.975); n as usize];
            let found = spent(&equal_times(n), &bounds);
            assert!((found[n as usize - 1] - share).abs() < 6e-4, "{n}: {found:?}");
        }
    }

    #[test]
    fn one_look_is_no_plan_and_two_are_exact_enough() {
        for bounds in [pocock(&[1.0], 0.05), obrien_fleming(&[1.0], 0.05), lan_demets(&[1.0], 0.05)]
        {
            // α/4 instead of α/2 in Lan and DeMets's function: at t = 1 all of α is spent.
            assert_close(bounds[0], quantile(0.975), 1e-9);
        }
        // Pocock, two looks: 2.178 (Jennison and Turnbull, table 2.1).
        check(&pocock(&equal_times(2), 0.05), &[2.178, 2.178], 5e-4);
        assert!(spent(&[], &[]).is_empty());
    }
}
