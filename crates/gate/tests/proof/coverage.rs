//! A 95 % interval holds the truth in 95 % of the samples.

use karat_core::metric::Metric;
use karat_gate::{
    estimate::Form,
    normal::{cdf, quantile},
    paired::{tango, wilson},
};

use crate::simulate::{
    Draw, GATES, INTERVALS, assert_covers, auc_of_skill, flips, losses, measure, share, two_models,
};

fn holds([low, high]: [f64; 2], truth: f64) -> bool {
    low <= truth && truth <= high
}

#[test]
fn wilson_holds_a_share() {
    for (n, p) in [(80, 0.3), (300, 0.9), (1_000, 0.97)] {
        let found = share(GATES, |at| {
            let [right, _] = flips(Draw::new("wilson", at), n, p, 0.0);
            holds(wilson(right, u64::from(n), quantile(0.975)), p)
        });
        // A share of n rows takes n values only: up to half a step beside 95 %, whatever the interval.
        assert!((0.935..0.965).contains(&found), "{n} rows, {p}: {found}");
    }
}

#[test]
fn tango_holds_a_difference() {
    for (n, win, loss) in [(100, 0.12, 0.08), (300, 0.05, 0.07), (1_000, 0.02, 0.03)] {
        let found = share(GATES, |at| {
            let [b, c] = flips(Draw::new("tango", at), n, win, loss);
            holds(tango(b, c, u64::from(n), quantile(0.975)), win - loss)
        });
        assert!((0.935..0.965).contains(&found), "{n} rows, {win}, {loss}: {found}");
    }
}

#[test]
fn delong_holds_one_auc_and_a_difference() {
    for (n, rate, skill) in [(150, 0.5, [1.2, 1.0]), (400, 0.15, [2.0, 1.0])] {
        let both = |at| two_models(Draw::new("auc", at), n, rate, skill);
        let truth = auc_of_skill(skill[0]);
        let one = share(INTERVALS, |at| {
            let [new, old] = both(at);
            measure(Metric::Auc, Form::Value, [&new, &old], 0.975, "")
                .is_some_and(|it| holds(it.interval, truth))
        });
        assert_covers(&format!("one, {n} rows"), one, INTERVALS);
        let truth = truth - auc_of_skill(skill[1]);
        let two = share(INTERVALS, |at| {
            let [new, old] = both(at);
            measure(Metric::Auc, Form::Improvement, [&new, &old], 0.975, "")
                .is_some_and(|it| holds(it.interval, truth))
        });
        assert_covers(&format!("difference, {n} rows"), two, INTERVALS);
    }
}

#[test]
fn bca_holds_the_mean_of_skewed_losses() {
    for n in [80, 300] {
        let found = share(INTERVALS, |at| {
            let draw = Draw::new("skewed", at);
            let rows = losses((0..n).map(|row| -libm::log(draw.uniform(row, 0))));
            measure(Metric::Mae, Form::Value, [&rows, &rows], 0.975, &at.to_string())
                .is_some_and(|it| holds(it.interval, 1.0))
        });
        assert_covers(&format!("{n} rows"), found, INTERVALS);
    }
}

#[test]
fn bca_holds_the_mean_difference() {
    let found = share(INTERVALS, |at| {
        let draw = Draw::new("difference", at);
        let old = losses((0..150).map(|row| -libm::log(draw.uniform(row, 0))));
        let new = losses(
            (0..150).map(|row| 0.8 * -libm::log(draw.uniform(row, 0)) + 0.5 * draw.uniform(row, 1)),
        );
        // 1 − (0.8 + 0.25).
        measure(Metric::Mae, Form::Improvement, [&new, &old], 0.975, &at.to_string())
            .is_some_and(|it| holds(it.interval, -0.05))
    });
    assert_covers("150 rows", found, INTERVALS);
}

/// F1 at 0.5 of normal scores: 2 TP / (2 TP + FP + FN).
#[test]
fn bca_holds_f1() {
    let (rate, skill) = (0.4, 1.4);
    let hit = cdf(0.5 * skill);
    let (tp, fp, miss) = (rate * hit, (1.0 - rate) * (1.0 - hit), rate * (1.0 - hit));
    let truth = 2.0 * tp / (2.0 * tp + fp + miss);
    let found = share(INTERVALS, |at| {
        let [new, old] = two_models(Draw::new("f1", at), 300, rate, [skill, 1.0]);
        measure(Metric::F1, Form::Value, [&new, &old], 0.975, &at.to_string())
            .is_some_and(|it| holds(it.interval, truth))
    });
    assert_covers("300 rows", found, INTERVALS);
}

#[test]
fn bca_of_whole_groups_holds_the_mean() {
    let (n_groups, size) = (60, 4);
    let found = share(INTERVALS, |at| {
        let draw = Draw::new("group mean", at);
        let loss = (0..n_groups * size)
            .map(|row| -libm::log(draw.uniform(row / size, 1)) + draw.uniform(row, 0));
        let mut rows = losses(loss);
        rows.group = Some((0..n_groups * size).map(|row| row / size).collect());
        measure(Metric::Mae, Form::Value, [&rows, &rows], 0.975, &at.to_string())
            .is_some_and(|it| holds(it.interval, 1.5))
    });
    assert_covers("60 groups", found, INTERVALS);
}
