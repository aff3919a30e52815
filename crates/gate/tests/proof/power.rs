//! A planned number of rows sees the planned effect as often as planned.

use karat_core::metric::Metric;
use karat_gate::{
    estimate::Form,
    normal::quantile,
    paired::{tango, tango_z},
    power::Power,
};

use crate::simulate::{Draw, GATES, RESAMPLING_GATES, flips, losses, measure, share};

/// Two points, and chance.
#[track_caller]
fn assert_as_planned(what: &str, found: f64, n: u32) {
    let within = 0.02 + 3.0 * libm::sqrt(0.8 * 0.2 / f64::from(n));
    assert!((found - 0.8).abs() <= within, "{what}: {found} of {n} gates");
}

fn power() -> Power {
    Power::new(0.95, 0.8)
}

#[test]
fn a_gain_in_accuracy_is_seen_as_often_as_planned() {
    for (gain, disagreement) in [(0.02, 0.1), (0.03, 0.2), (0.02, 0.05)] {
        let n = power().rows_for_gain(gain, disagreement).ceil() as u32;
        let (win, loss) = (0.5 * (disagreement + gain), 0.5 * (disagreement - gain));
        let found = share(GATES, |at| {
            let [b, c] = flips(Draw::new("gain", at), n, win, loss);
            quantile(0.95) < tango_z(b, c, u64::from(n), 0.0)
        });
        assert_as_planned(&format!("{n} rows, {gain} of {disagreement}"), found, GATES);
    }
}

#[test]
fn an_equal_model_passes_a_margin_as_often_as_planned() {
    for (margin, disagreement) in [(0.02, 0.1), (0.03, 0.2)] {
        let n = power().rows_for_margin(margin, disagreement).ceil() as u32;
        let half = 0.5 * disagreement;
        let found = share(GATES, |at| {
            let [b, c] = flips(Draw::new("margin", at), n, half, half);
            -margin < tango(b, c, u64::from(n), quantile(0.95))[0]
        });
        assert_as_planned(&format!("{n} rows, {margin} of {disagreement}"), found, GATES);
    }
}

/// For what is not right or wrong, the effect that a standard error shows.
#[test]
fn an_effect_in_a_mean_loss_is_seen_as_often_as_planned() {
    let n = 300;
    let effect = power().effect_seen(libm::sqrt(1.0 / f64::from(n)));
    let found = share(RESAMPLING_GATES, |at| {
        let draw = Draw::new("effect", at);
        let old = losses((0..n).map(|row| 10.0 + draw.normal(row, 0)));
        let new = losses((0..n).map(|_| 10.0 - effect));
        measure(Metric::Mae, Form::Improvement, [&new, &old], 0.95, &at.to_string())
            .is_some_and(|it| 0.0 < it.interval[0])
    });
    assert_as_planned("300 rows", found, RESAMPLING_GATES);
}
