//! How an estimate answers for bounds other than the ends of its own interval.
//!
//! The P of a bound is the level at which the interval's end reaches it, so P and interval never contradict each other:
//! the upper end lies below the bound at reliability 1 − α exactly if [`Tail::p_below`] is below α. What a family of slices is
//! corrected by, needs P at the rule's bound; "no difference" is the bound 0.

use crate::{
    bootstrap::Bca,
    normal::cdf,
    paired::{tango_z, wilson_z},
};

/// By method.
#[derive(Clone, Debug, PartialEq)]
pub enum Tail {
    /// Normal about the value.
    Normal {
        /// The value.
        value: f64,
        /// Its standard error.
        standard_error: f64,
    },
    /// Normal about the value's logit.
    Logit {
        /// The value, between 0 and 1.
        value: f64,
        /// The logit's standard error.
        standard_error: f64,
    },
    /// Wilson's interval inverts the score test of a share.
    Share {
        /// Rows that are right.
        right: u64,
        /// Rows.
        n: u64,
    },
    /// Tango's interval inverts the score test of a difference of shares.
    Flips {
        /// Wrong before, right now.
        fixed: u64,
        /// Right before, wrong now.
        broken: u64,
        /// Rows.
        n: u64,
    },
    /// BCa.
    Bootstrap(Bca),
    /// Nothing is wrong (or everything): 1 − α^{1/m} away from the value.
    RuleOfThree {
        /// The value.
        value: f64,
        /// m: rows of the rarest class.
        few: f64,
    },
}

impl Tail {
    /// One-sided P of "the truth is at most `bound`": small when the estimate lies clearly above.
    #[must_use]
    pub fn p_above(&self, bound: f64) -> f64 {
        match self {
            Self::RuleOfThree { value, few } => rule_of_three(value - bound, *few),
            Self::Bootstrap(it) => it.level(bound),
            _ => cdf(-self.z(bound)),
        }
    }

    /// One-sided P of "the truth is at least `bound`": small when the estimate lies clearly below.
    #[must_use]
    pub fn p_below(&self, bound: f64) -> f64 {
        match self {
            Self::RuleOfThree { value, few } => rule_of_three(bound - value, *few),
            Self::Bootstrap(it) => 1.0 - it.level(bound),
            _ => cdf(self.z(bound)),
        }
    }

    /// How many standard errors the estimate lies above the bound.
    fn z(&self, bound: f64) -> f64 {
        let quotient = |distance: f64, error: f64| {
            if 0.0 < error || distance.is_nan() {
                distance / error
            } else {
                distance.signum() / 0.0
            }
        };
        match self {
            Self::Normal { value, standard_error } => quotient(value - bound, *standard_error),
            Self::Logit { value, standard_error } => {
                let logit = |p: f64| libm::log(p / (1.0 - p));
                quotient(logit(*value) - logit(bound.clamp(0.0, 1.0)), *standard_error)
            }
            Self::Share { right, n } => wilson_z(*right, *n, bound),
            Self::Flips { fixed, broken, n } => tango_z(*fixed, *broken, *n, bound),
            Self::Bootstrap(_) | Self::RuleOfThree { .. } => f64::NAN,
        }
    }
}

fn rule_of_three(distance: f64, few: f64) -> f64 {
    if distance <= 0.0 { 1.0 } else { libm::pow((1.0 - distance).max(0.0), few) }
}
