//! Which method answers what, and that the answers are right as often as they say.

use expect_test::{Expect, expect};
use karat_core::{
    ScoredRows,
    metric::Metric,
    rng::{Purpose, Stream},
};

use super::{Estimate, Flips, Form, Precision, Tail, Want, estimate, finite, quick};
use crate::{
    metric::NotMeasured,
    normal::quantile,
    paired::tango,
    parallel::Serial,
    sample::Sample,
    testing::{assert_close, binary, flights},
};

const FORMS: [Form; 3] = [Form::Value, Form::Improvement, Form::RelativeImprovement];

fn sample(candidate: &ScoredRows, baseline: Option<&ScoredRows>) -> Sample {
    let all: Vec<u32> = (0..candidate.n_rows() as u32).collect();
    Sample::new(candidate, baseline, &all)
}

fn of(wants: &[Want], sample: &Sample) -> Vec<Result<Estimate, NotMeasured>> {
    let precision = Precision { reliability: 0.95, n_resamples: 999, name: "test" };
    estimate(wants, sample, precision, &Serial)
}

fn one(metric: Metric, form: Form, sample: &Sample) -> Estimate {
    of(&[Want { metric, form }], sample).remove(0).expect("measurable")
}

#[track_caller]
fn check(sample: &Sample, expected: Expect) {
    let wants: Vec<Want> = Metric::ALL
        .into_iter()
        .filter(|it| it.fits(sample.task()))
        .flat_map(|metric| FORMS.map(|form| Want { metric, form }))
        .collect();
    let line = |(want, found): (&Want, Result<Estimate, NotMeasured>)| {
        let answer = found.map_or_else(|why| format!("none: {why}"), |it| it.method.to_owned());
        format!("{} {:?}: {answer}\n", want.metric, want.form)
    };
    let shown: String = wants.iter().zip(of(&wants, sample)).map(line).collect();
    expected.assert_eq(&shown);
}

#[test]
fn each_metric_has_the_method_that_fits_it() {
    let (new, old) = (flights(120, "new", 1.0), flights(120, "old", 1.0));
    check(
        &sample(&new, Some(&old)),
        expect![[r#"
        auc Value: DeLong on the logit
        auc Improvement: DeLong
        auc RelativeImprovement: BCa bootstrap
        average_precision Value: BCa bootstrap
        average_precision Improvement: BCa bootstrap
        average_precision RelativeImprovement: BCa bootstrap
        log_loss Value: BCa bootstrap
        log_loss Improvement: BCa bootstrap; P by sign flips
        log_loss RelativeImprovement: BCa bootstrap
        brier Value: BCa bootstrap
        brier Improvement: BCa bootstrap; P by sign flips
        brier RelativeImprovement: BCa bootstrap
        accuracy Value: Wilson
        accuracy Improvement: Tango; P by McNemar mid-p
        accuracy RelativeImprovement: BCa bootstrap
        balanced_accuracy Value: BCa bootstrap
        balanced_accuracy Improvement: BCa bootstrap
        balanced_accuracy RelativeImprovement: BCa bootstrap
        precision Value: BCa bootstrap
        precision Improvement: BCa bootstrap
        precision RelativeImprovement: BCa bootstrap
        recall Value: BCa bootstrap
        recall Improvement: BCa bootstrap
        recall RelativeImprovement: BCa bootstrap
        f1 Value: BCa bootstrap
        f1 Improvement: BCa bootstrap
        f1 RelativeImprovement: BCa bootstrap
        ece Value: BCa bootstrap
        ece Improvement: BCa bootstrap
        ece RelativeImprovement: BCa bootstrap
        ece_debiased Value: BCa bootstrap
        ece_debiased Improvement: BCa bootstrap
        ece_debiased RelativeImprovement: BCa bootstrap
    "#]],
    );
}

#[test]
fn without_a_baseline_there_is_no_difference_and_grouped_rows_are_resampled() {
    let mut new = flights(120, "new", 1.0);
    new.group = Some((0..120).map(|row| row / 4).collect());
    check(
        &sample(&new, None),
        expect![[r#"
        auc Value: BCa bootstrap
        auc Improvement: none: there is no baseline
        auc RelativeImprovement: none: there is no baseline
        average_precision Value: BCa bootstrap
        average_precision Improvement: none: there is no baseline
        average_precision RelativeImprovement: none: there is no baseline
        log_loss Value: BCa bootstrap
        log_loss Improvement: none: there is no baseline
        log_loss RelativeImprovement: none: there is no baseline
        brier Value: BCa bootstrap
        brier Improvement: none: there is no baseline
        brier RelativeImprovement: none: there is no baseline
        accuracy Value: BCa bootstrap
        accuracy Improvement: none: there is no baseline
        accuracy RelativeImprovement: none: there is no baseline
        balanced_accuracy Value: BCa bootstrap
        balanced_accuracy Improvement: none: there is no baseline
        balanced_accuracy RelativeImprovement: none: there is no baseline
        precision Value: BCa bootstrap
        precision Improvement: none: there is no baseline
        precision RelativeImprovement: none: there is no baseline
        recall Value: BCa bootstrap
        recall Improvement: none: there is no baseline
        recall RelativeImprovement: none: there is no baseline
        f1 Value: BCa bootstrap
        f1 Improvement: none: there is no baseline
        f1 RelativeImprovement: none: there is no baseline
        ece Value: BCa bootstrap
        ece Improvement: none: there is no baseline
        ece RelativeImprovement: none: there is no baseline
        ece_debiased Value: BCa bootstrap
        ece_debiased Improvement: none: there is no baseline
        ece_debiased RelativeImprovement: none: there is no baseline
    "#]],
    );
}

#[test]
fn one_group_has_no_spread() {
    let mut new = flights(60, "new", 1.0);
    new.group = Some(vec![0; 60]);
    let want = Want { metric: Metric::Auc, form: Form::Value };
    let found = of(&[want], &sample(&new, None)).remove(0);
    assert_eq!(found, Err(NotMeasured::new("one group has no spread")));
}

#[test]
fn nothing_that_is_no_number_leaves_as_an_estimate() {
    let sound = Estimate {
        value: 0.5,
        interval: [0.4, 0.6],
        standard_error: 0.06,
        p: None,
        candidate: 0.5,
        baseline: None,
        method: "made up",
        tail: Tail::Normal { value: 0.5, standard_error: 0.06 },
    };
    assert!(finite(sound.clone()).is_ok());
    for (value, interval) in [
        (f64::NAN, [0.4, 0.6]),
        (0.5, [f64::NAN, 0.6]),
        (0.5, [0.4, f64::INFINITY]),
        (0.5, [0.6, 0.4]),
    ] {
        assert!(finite(Estimate { value, interval, ..sound.clone() }).is_err());
    }
}

#[test]
fn swapping_the_models_turns_every_difference_round() {
    let (new, old) = (flights(200, "new", 1.2), flights(200, "old", 0.9));
    let (there, back) = (sample(&new, Some(&old)), sample(&old, Some(&new)));
    for metric in [Metric::Auc, Metric::Accuracy] {
        let (a, b) =
            (one(metric, Form::Improvement, &there), one(metric, Form::Improvement, &back));
        assert_close(a.value, -b.value, 1e-12);
        assert_close(a.interval[0], -b.interval[1], 1e-9);
        assert_close(a.p.expect("a test"), b.p.expect("a test"), 1e-9);
    }
    // The bootstrap draws other rows, because rows are ordered by the candidate's scores: equal but for that.
    for metric in [Metric::LogLoss, Metric::F1, Metric::AveragePrecision, Metric::EceDebiased] {
        let (a, b) =
            (one(metric, Form::Improvement, &there), one(metric, Form::Improvement, &back));
        assert_close(a.value, -b.value, 1e-12);
        assert!((a.interval[0] + b.interval[1]).abs() < 0.25 * a.standard_error, "{a:?} {b:?}");
    }
}

#[test]
fn the_quick_interval_is_close_to_the_exact_one() {
    let (new, old) = (flights(400, "new", 1.0), flights(400, "old", 1.0));
    let both = sample(&new, Some(&old));
    for metric in [Metric::Auc, Metric::Accuracy, Metric::LogLoss, Metric::Brier, Metric::F1] {
        for form in [Form::Value, Form::Improvement] {
            let exact = one(metric, form, &both);
            let cheap = quick(Want { metric, form }, &both, quantile(0.95)).expect("measurable");
            assert_close(exact.value, cheap.value, 1e-12);
            for side in 0..2 {
                let gap = (exact.interval[side] - cheap.interval[side]).abs();
                assert!(gap < 0.25 * exact.standard_error, "{metric} {form:?} {exact:?} {cheap:?}");
            }
        }
    }
}

/// The level at which an end of the interval reaches a bound is the P of the bound, for every method.
#[test]
fn p_and_interval_never_contradict_each_other() {
    let (new, old) = (flights(400, "new", 1.2), flights(400, "old", 1.0));
    let both = sample(&new, Some(&old));
    let mut right = binary([0.0, 1.0].repeat(40), [0.1, 0.9].repeat(40));
    right.rows = new.rows;
    for (sample, metrics) in [
        (&both, &[Metric::Auc, Metric::Accuracy, Metric::LogLoss, Metric::AveragePrecision][..]),
        (&self::sample(&right, None), &[Metric::Auc, Metric::F1, Metric::BalancedAccuracy][..]),
    ] {
        let forms = if sample.baseline().is_some() { &FORMS[..] } else { &FORMS[..1] };
        for (metric, form) in
            metrics.iter().flat_map(|it| forms.iter().map(move |form| (*it, *form)))
        {
            let found = one(metric, form, sample);
            let [low, high] = found.interval;
            // An end that is the end of the scale is no bound that could be crossed.
            if low < found.value {
                assert!((found.tail.p_above(low) - 0.05).abs() < 2e-3, "{metric} {form:?}");
                assert!(found.tail.p_above(low - 0.01) < 0.05, "{metric} {form:?}");
            }
            if found.value < high {
                assert!((found.tail.p_below(high) - 0.05).abs() < 2e-3, "{metric} {form:?}");
                assert!(found.tail.p_below(high + 0.01) < 0.05, "{metric} {form:?}");
            }
        }
    }
}

#[test]
fn flips_count_rows_that_changed_sides() {
    let label = vec![1.0, 1.0, 0.0, 0.0, 1.0];
    let new = binary(label.clone(), vec![0.9, 0.2, 0.1, 0.7, 0.9]);
    let old = binary(label, vec![0.1, 0.8, 0.2, 0.3, 0.9]);
    let found = Flips::count(&sample(&new, Some(&old))).expect("two models");
    assert_eq!((found.fixed, found.broken), (1, 2));
    assert_eq!((found.first_fixed, found.first_broken), (vec![0], vec![1, 3]));
    assert_eq!(Flips::count(&sample(&new, None)), None);
}

/// A model exactly as much worse as the margin allows may pass in one gate of twenty, and no more: α + 3 standard errors.
#[test]
fn a_model_on_the_margin_passes_as_often_as_the_reliability_says() {
    const GATES: u32 = 4_000;
    const N: u64 = 300;
    let (win, loss) = (0.05, 0.07);
    let stream = Stream::new(1, Purpose::Permute, "on the margin");
    let z = quantile(0.95);
    let passes = (0..GATES).filter(|gate| {
        let (mut b, mut c) = (0, 0);
        for row in 0..N as u32 {
            let u = f64::from(stream.uniform(row, *gate, 0));
            b += u64::from(u < win);
            c += u64::from(win <= u && u < win + loss);
        }
        -0.02 < tango(b, c, N, z)[0]
    });
    let share = passes.count() as f64 / f64::from(GATES);
    let bound = 0.05 + 3.0 * libm::sqrt(0.05 * 0.95 / f64::from(GATES));
    assert!(0.02 < share && share < bound, "{share} {bound}");
}

/// Equal models on 300 rows: DeLong finds a difference at P ≤ 0.1 in about a tenth of the cases.
#[test]
fn equal_models_differ_as_often_as_chance_says() {
    const GATES: usize = 400;
    let significant = (0..GATES).filter(|gate| {
        let label = flights(300, "x", 1.0).label;
        let noise = |model: &str| -> Vec<f32> {
            let noise = crate::testing::normals(&format!("{model}{gate}"), 300);
            let of_row = |(y, z): (&f32, f64)| 1.0 / (1.0 + libm::exp(-f64::from(*y) - z));
            label.iter().zip(noise).map(of_row).map(|it| it as f32).collect()
        };
        let (new, old) = (binary(label.clone(), noise("a")), binary(label.clone(), noise("b")));
        one(Metric::Auc, Form::Improvement, &sample(&new, Some(&old))).p.expect("a test") <= 0.1
    });
    let share = significant.count() as f64 / GATES as f64;
    assert!((0.06..0.15).contains(&share), "{share}");
}

/// BCa on the mean of 60 skewed losses: the 90 % interval holds the truth in about 90 % of the samples, where the
/// percentile interval is known to be short.
#[test]
fn bootstrap_intervals_hold_the_truth_as_often_as_they_say() {
    const SAMPLES: usize = 300;
    let held = (0..SAMPLES).filter(|at| {
        let uniforms = crate::testing::uniforms(&format!("coverage {at}"), 60);
        // Brier's loss of a score s on a row without the event is s²; s uniform: mean 1/3.
        let rows = binary(vec![0.0; 60], uniforms);
        let [low, high] = one(Metric::Brier, Form::Value, &sample(&rows, None)).interval;
        low <= 1.0 / 3.0 && 1.0 / 3.0 <= high
    });
    let share = held.count() as f64 / SAMPLES as f64;
    assert!((0.84..0.95).contains(&share), "{share}");
}
