//! What this many rows could see, and how many would decide.

use karat_core::{
    metric::Metric,
    policy::{Bound, Gate, Rule},
    thousands,
};

use super::evidence::{SliceEvidence, want_of};
use crate::{
    estimate::{Estimate, Form, RULE_OF_THREE},
    power::{Power, label_noise_factor},
};

/// Above this many more rows, "label more" is no advice.
const ROWS_PRACTICAL: f64 = 1e9;

/// The effect that is seen, and the rows that decide.
pub(super) struct Plan {
    /// The quantiles it was made with.
    pub power: Power,
    /// The smallest effect that n rows show at the gate's power.
    pub effect_seen: f64,
    /// Rows that would decide, when they are finite.
    pub n_needed: Option<f64>,
    /// Whether that supposes that the models are equally good; else, that the value stays what it is.
    pub assumes_equal: bool,
    /// ψ, where it is known: for accuracy.
    pub disagreement: Option<f64>,
}

impl Plan {
    /// `alpha` is what one side may err by; `label_error` the share of wrong labels, where rows have several.
    pub(super) fn new(
        gate: &Gate,
        rule: &Rule,
        found: &Estimate,
        seen: &SliceEvidence,
        alpha: f64,
        label_error: Option<f64>,
    ) -> Self {
        let power = Power::new(1.0 - alpha, gate.power);
        let n = seen.n_rows as f64;
        // Disagreement is known only for accuracy, where its formulas are sharper than a standard error.
        let disagreement = match (&seen.flips, want_of(rule)) {
            (Some(flips), want)
                if want.metric == Metric::Accuracy
                    && want.form == Form::Improvement
                    && found.method.starts_with("Tango") =>
            {
                Some((flips.fixed + flips.broken) as f64 / n).filter(|it| 0.0 < *it)
            }
            _ => None,
        };
        let effect_seen = disagreement.map_or_else(
            || power.effect_seen(found.standard_error),
            |share| power.gain_seen(n, share),
        );
        let rows_at = |distance: f64| {
            if found.method == RULE_OF_THREE {
                // Its width falls with n, not with the root of n.
                return n * (found.interval[1] - found.interval[0]) / distance;
            }
            let z = power.z_alpha + power.z_beta;
            let ratio = z * found.standard_error / distance;
            n * ratio * ratio
        };
        let by_estimate = |bound: f64| rows_at((found.value - bound).abs());
        let (rows, assumes_equal) = match rule.bound {
            Bound::Min(bound) | Bound::Max(bound) => (by_estimate(bound), false),
            Bound::MinImprovement(step) | Bound::MaxImprovement(step) => {
                (by_estimate(step.amount()), false)
            }
            Bound::MaxRegression(margin) => {
                let margin = margin.amount();
                let rows = disagreement
                    .map_or_else(|| rows_at(margin), |share| power.rows_for_margin(margin, share));
                // The margin is meant for true labels; wrong ones shrink every difference that is seen.
                let rows = rows * label_error.map_or(1.0, label_noise_factor);
                // Rows enough for equal models and still undecided: these do not look equal.
                if rows.is_finite() && n < rows {
                    (rows, true)
                } else {
                    (by_estimate(-margin), false)
                }
            }
        };
        let n_needed = Some(rows.ceil()).filter(|it| it.is_finite());
        Self { power, effect_seen, n_needed, assumes_equal, disagreement }
    }

    /// Whether an effect of this size would be seen.
    pub(super) fn sees(&self, effect: f64) -> bool {
        self.effect_seen <= effect
    }

    /// What would decide.
    pub(super) fn advice(&self, gate: &Gate, n_rows: u64) -> String {
        let more = self.n_needed.map_or(f64::INFINITY, |it| (it - n_rows as f64).max(1.0));
        if ROWS_PRACTICAL < more {
            return "the value lies on the bound: no practical number of rows would decide it"
                .to_owned();
        }
        let if_so = if self.assumes_equal {
            "the models are equally good"
        } else {
            "the value stays what it is"
        };
        format!(
            "about {} more labelled rows would decide it, at power {} if {if_so}",
            thousands(round_up(more)),
            gate.power
        )
    }
}

/// To two significant digits, upwards: more would claim to know.
fn round_up(x: f64) -> u64 {
    let unit = libm::pow(10.0, (libm::floor(libm::log10(x.max(1.0))) - 1.0).max(0.0));
    ((x / unit).ceil() * unit) as u64
}
