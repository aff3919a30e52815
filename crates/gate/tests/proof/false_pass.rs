//! A/A: the candidate is exactly as bad as the rule forbids. It may pass in one gate of twenty.

use karat_core::{ScoredRows, metric::Metric};
use karat_gate::{
    Serial,
    correction::holm,
    estimate::Form,
    normal::quantile,
    paired::{mcnemar_exact_better, mcnemar_mid_p_better, tango},
    permutation::sign_flip,
};

use crate::simulate::{
    Draw, GATES, RESAMPLING_GATES, assert_at_most_alpha, auc_of_skill, flips, losses, measure,
    share, skill_of_auc, two_models,
};

/// Whether "better than the baseline by more than `step`" passes at reliability 0.95.
fn passes(metric: Metric, models: [&ScoredRows; 2], step: f64, name: &str) -> bool {
    measure(metric, Form::Improvement, models, 0.95, name).is_some_and(|it| step < it.interval[0])
}

#[test]
fn mcnemar_finds_a_better_model_where_there_is_none() {
    for (n, disagreement) in [(50, 0.3), (200, 0.05), (1_000, 0.05), (1_000, 0.2)] {
        for (what, p) in [
            ("mid-p", mcnemar_mid_p_better as fn(u64, u64) -> f64),
            ("exact", mcnemar_exact_better),
        ] {
            let found = share(GATES, |at| {
                let half = 0.5 * disagreement;
                let [b, c] = flips(Draw::new("mcnemar", at), n, half, half);
                p(b, c) <= 0.05
            });
            assert_at_most_alpha(&format!("{what}, {n} rows, {disagreement}"), found, GATES);
        }
    }
}

#[test]
fn tango_passes_a_model_on_the_margin() {
    let z = quantile(0.95);
    for (n, disagreement, margin) in
        [(100, 0.2, 0.05), (300, 0.12, 0.02), (1_000, 0.05, 0.005), (2_000, 0.02, 0.005)]
    {
        let (win, loss) = (0.5 * (disagreement - margin), 0.5 * (disagreement + margin));
        let found = share(GATES, |at| {
            let [b, c] = flips(Draw::new("tango", at), n, win, loss);
            -margin < tango(b, c, u64::from(n), z)[0]
        });
        assert_at_most_alpha(&format!("{n} rows, {disagreement}, {margin}"), found, GATES);
    }
}

#[test]
fn delong_passes_a_model_on_the_margin() {
    for (n, rate, auc, margin) in
        [(200, 0.3, 0.75, 0.0), (300, 0.5, 0.9, 0.02), (600, 0.1, 0.7, 0.03)]
    {
        let skill = [skill_of_auc(auc - margin), skill_of_auc(auc)];
        assert!((auc_of_skill(skill[1]) - auc).abs() < 1e-12);
        let found = share(GATES, |at| {
            let [new, old] = two_models(Draw::new("delong", at), n, rate, skill);
            passes(Metric::Auc, [&new, &old], -margin, "")
        });
        assert_at_most_alpha(&format!("{n} rows, rate {rate}, AUC {auc}"), found, GATES);
    }
}

/// Losses of equal mean and unequal shape: their difference is skewed, to either side.
#[test]
fn bca_of_a_mean_difference_passes_an_equal_model() {
    for n in [60, 200] {
        for is_turned in [false, true] {
            let found = share(RESAMPLING_GATES, |at| {
                let draw = Draw::new("bca mean", at);
                let skewed = losses((0..n).map(|row| -libm::log(draw.uniform(row, 0))));
                let even = losses((0..n).map(|row| 2.0 * draw.uniform(row, 1)));
                let models = if is_turned { [&even, &skewed] } else { [&skewed, &even] };
                passes(Metric::Mae, models, 0.0, &at.to_string())
            });
            let what = format!("{n} rows, turned {is_turned}");
            assert_at_most_alpha(&what, found, RESAMPLING_GATES);
        }
    }
}

#[test]
fn bca_of_any_metric_passes_an_equal_model() {
    for metric in [Metric::AveragePrecision, Metric::LogLoss, Metric::F1, Metric::BalancedAccuracy]
    {
        let found = share(RESAMPLING_GATES, |at| {
            let [new, old] = two_models(Draw::new("bca any", at), 200, 0.4, [1.2, 1.2]);
            passes(metric, [&new, &old], 0.0, &at.to_string())
        });
        assert_at_most_alpha(metric.word(), found, RESAMPLING_GATES);
    }
}

#[test]
fn the_difference_in_calibration_passes_an_equal_model() {
    for metric in [Metric::Ece, Metric::EceDebiased] {
        let found = share(RESAMPLING_GATES, |at| {
            let [new, old] = two_models(Draw::new("calibration", at), 400, 0.4, [1.2, 1.2]);
            passes(metric, [&new, &old], 0.0, &at.to_string())
        });
        assert_at_most_alpha(metric.word(), found, RESAMPLING_GATES);
    }
}

#[test]
fn sign_flips_find_a_difference_where_there_is_none() {
    for n in [12, 60, 300] {
        let found = share(RESAMPLING_GATES, |at| {
            let draw = Draw::new("flips", at);
            // Symmetric with heavy tails.
            let d: Vec<f64> = (0..n).map(|row| libm::pow(draw.normal(row, 0), 3.0)).collect();
            sign_flip(&d, &at.to_string(), 999, &Serial) <= 0.05
        });
        assert_at_most_alpha(&format!("{n} rows"), found, RESAMPLING_GATES);
    }
}

/// Rows of a group share half of their noise: resampling rows would see too many of them.
#[test]
fn whole_groups_are_resampled() {
    for (n_groups, size) in [(40, 5), (120, 3)] {
        let found = share(RESAMPLING_GATES, |at| {
            let draw = Draw::new("groups", at);
            let loss = |model: u32| {
                (0..n_groups * size).map(move |row| {
                    let shared = draw.normal(row / size, 10 + model);
                    libm::exp(0.5 * (shared + draw.normal(row, model)))
                })
            };
            let (mut new, old) = (losses(loss(0)), losses(loss(1)));
            new.group = Some((0..n_groups * size).map(|row| row / size).collect());
            passes(Metric::Mae, [&new, &old], 0.0, &at.to_string())
        });
        assert_at_most_alpha(&format!("{n_groups} groups of {size}"), found, RESAMPLING_GATES);
    }
}

/// Ten slices, each on the margin: any slice that Holm calls worse is a false alarm.
#[test]
fn a_family_raises_a_false_alarm() {
    let (n, win, loss, margin) = (300, 0.05, 0.07, 0.02);
    let found = share(GATES, |at| {
        let p: Vec<f64> = (0..10)
            .map(|slice| {
                let draw = Draw::new(&format!("family {slice}"), at);
                let [fixed, broken] = flips(draw, n, win, loss);
                let n = u64::from(n);
                karat_gate::estimate::Tail::Flips { fixed, broken, n }.p_below(-margin)
            })
            .collect();
        holm(&p).into_iter().any(|it| it <= 0.05)
    });
    assert_at_most_alpha("ten slices", found, GATES);
}
