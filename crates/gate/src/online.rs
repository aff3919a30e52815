//! A stream of gates over months, each on fresh data: LORD++ keeps the expected share of false discoveries below α at all times.
//!
//! Each test has a level that the tests before it have paid for: αₜ = γₜ w₀ + (α − w₀) γₜ₋τ₁ + α Σⱼ≥₂ γₜ₋τⱼ, τⱼ = when the j-th
//! discovery was made; γⱼ ∝ ln(max(j, 2)) / (j e^{√ln j}); w₀ = α/10.
//!
//! Source: Ramdas, Yang, Wainwright, Jordan, "Online control of the false discovery rate with decaying memory", 2017.

/// Javanmard and Montanari 2018. The weights sum to 0.976: not above 1, which is what the guarantee needs.
const SCALE: f64 = 0.077_208_38;

/// Levels for one test after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Lord {
    alpha: f64,
    wealth: f64,
    n_tests: u64,
    discoveries: Vec<u64>,
}

impl Lord {
    /// Starts with w₀ = α/10.
    #[must_use]
    pub fn new(alpha: f64) -> Self {
        Self { alpha, wealth: alpha / 10.0, n_tests: 0, discoveries: Vec::new() }
    }

    /// The level of the next test.
    #[must_use]
    pub fn level(&self) -> f64 {
        let t = self.n_tests + 1;
        let earned = self.discoveries.iter().enumerate().map(|(j, at)| {
            let pays = if j == 0 { self.alpha - self.wealth } else { self.alpha };
            pays * weight(t - at)
        });
        weight(t) * self.wealth + earned.sum::<f64>()
    }

    /// Whether the next test, with this P, is a discovery. NaN is none.
    pub fn test(&mut self, p: f64) -> bool {
        let is_discovery = p <= self.level();
        self.n_tests += 1;
        if is_discovery {
            self.discoveries.push(self.n_tests);
        }
        is_discovery
    }
}

/// γⱼ, from j = 1.
#[must_use]
pub fn weight(j: u64) -> f64 {
    let j = j as f64;
    SCALE * libm::log(j.max(2.0)) / (j * libm::exp(libm::sqrt(libm::log(j))))
}

#[cfg(test)]
mod tests {
    use karat_core::rng::{Purpose, Stream};

    use super::{Lord, weight};
    use crate::testing::assert_close;

    #[test]
    fn weights_are_those_of_the_reference() {
        for (j, expected) in [
            (1, 0.053_516_770_912_600_86),
            (2, 0.011_638_205_782_941_741),
            (3, 0.009_912_498_794_460_713),
            (4, 0.008_243_606_058_967_332),
            (5, 0.006_988_869_709_347_985),
        ] {
            assert_close(weight(j), expected, 1e-12);
        }
        // Σ up to a million, then ∫ ln x / (x e^{√ln x}) = 2 e^{−s}(s³ + 3s² + 6s + 6) with s = √ln x.
        let n = 1_000_000_u64;
        let s = libm::sqrt(libm::log(n as f64));
        let rest = 2.0 * libm::exp(-s) * (s * s * s + 3.0 * s * s + 6.0 * s + 6.0);
        let sum: f64 = (1..=n).map(weight).sum::<f64>() + super::SCALE * rest;
        assert!((sum - 0.976).abs() < 1e-3, "{sum}");
    }

    #[test]
    fn a_discovery_pays_for_the_tests_after_it() {
        let mut lord = Lord::new(0.05);
        assert_close(lord.level(), weight(1) * 0.005, 1e-14);
        assert!(!lord.test(0.01) && !lord.test(f64::NAN));
        assert_close(lord.level(), weight(3) * 0.005, 1e-14);
        assert!(lord.test(0.0));
        assert_close(lord.level(), weight(4) * 0.005 + 0.045 * weight(1), 1e-14);
        assert!(lord.test(1e-6));
        let third = weight(5) * 0.005 + 0.045 * weight(2) + 0.05 * weight(1);
        assert_close(lord.level(), third, 1e-14);
    }

    /// 1,000 streams of 100 tests in which nothing is there: hardly any has a discovery.
    #[test]
    fn streams_of_nothing_stay_below_alpha() {
        let stream = Stream::new(1, Purpose::Permute, "online");
        let alarms = (0..1_000_u32).filter(|of| {
            let mut lord = Lord::new(0.05);
            (0..100).any(|at| lord.test(f64::from(stream.uniform(at, *of, 0))))
        });
        let n = alarms.count();
        assert!(n <= 50, "{n}");
    }
}
