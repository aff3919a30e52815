//! The golden acceleration, the same bits however the work is dealt out, and intervals that lie where they must.

use karat_core::metric::Metric;
use karat_core::rng::{Purpose, Stream};

use super::{Bca, Jackknife, LANES, Resampling, acceleration, draw, mean_resamples};
use crate::{
    metric::{mean::Mean, measure, prepare},
    parallel::{Parallel, Serial},
    sample::Sample,
    testing,
};

/// The two-sample example of Efron and Tibshirani 1993 (mouse data), difference of means.
#[test]
fn acceleration_has_its_golden_value() {
    let y = [10.0, 27.0, 31.0, 40.0, 46.0, 50.0, 52.0, 104.0, 146.0];
    let z = [16.0, 23.0, 38.0, 94.0, 99.0, 141.0, 197.0];
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let without = |x: &[f64], i: usize| (x.iter().sum::<f64>() - x[i]) / (x.len() - 1) as f64;
    let of_y = Jackknife::from_values((0..y.len()).map(|i| mean(&z) - without(&y, i)).collect());
    let of_z = Jackknife::from_values((0..z.len()).map(|i| without(&z, i) - mean(&y)).collect());
    testing::assert_close(acceleration(&[&of_y, &of_z]), 0.011_008_228_344_026_734, 1e-9);
}

/// Ten thousand drawn resamples scatter about the quantiles that need no drawing, and about nothing else.
#[test]
fn resamples_of_a_large_mean_are_known() {
    const N: usize = 10_000;
    const R: u32 = 9_999;
    // Exponential: skew 2, of the mean 0.02, which moves its tails by 0.6 % of a standard error.
    let items: Vec<f64> =
        testing::uniforms("known", N).into_iter().map(|u| -libm::log1p(-f64::from(u))).collect();
    let known = mean_resamples(&items, R).expect("many items");
    let rows = testing::binary(vec![0.0; N], vec![0.5; N]);
    let all: Vec<u32> = (0..N as u32).collect();
    let sample = Sample::new(&rows, None, &all);
    let statistic = Mean::new(items.clone());
    let mut drawn = Resampling::new("known", &sample, R).run(&[&statistic], &Serial).remove(0);
    drawn.sort_by(f64::total_cmp);
    let error = 0.01;
    for (level, density) in
        [(0.025, 0.058), (0.05, 0.103), (0.5, 0.399), (0.95, 0.103), (0.975, 0.058)]
    {
        let at = (level * f64::from(R + 1)) as usize - 1;
        // Four standard errors of a sample quantile.
        let within = 4.0 * libm::sqrt(level * (1.0 - level) / f64::from(R)) / density * error;
        assert!((known[at] - drawn[at]).abs() < within, "{level}: {} {}", known[at], drawn[at]);
    }
    assert!(known.is_sorted());
    assert!(mean_resamples(&items[1..], R).is_none(), "too few");
    assert!(mean_resamples(&vec![1.0; N], R).is_none(), "nothing varies");
    let one: Vec<f64> = (0..N).map(|row| f64::from(u8::from(row == 0))).collect();
    assert!(mean_resamples(&one, R).is_none(), "one row carries it");
}

/// Does the work backwards, as threads might.
struct Backwards;

impl Parallel for Backwards {
    fn for_each(&self, n: usize, work: &(dyn Fn(usize) + Sync)) {
        (0..n).rev().for_each(work);
    }
}

#[test]
fn bits_do_not_depend_on_how_the_work_is_dealt_out_and_the_interval_holds_the_estimate() {
    let (label, score) = testing::scored("bootstrap", 800, 0.3, 1.2);
    let rows = testing::binary(label, score);
    let all: Vec<u32> = (0..800).collect();
    let sample = Sample::new(&rows, None, &all);
    for metric in
        [Metric::Auc, Metric::LogLoss, Metric::Brier, Metric::F1, Metric::AveragePrecision]
    {
        let statistic = prepare(metric, &sample.candidate()).expect("measurable");
        let draw = |name: &str, parallel: &dyn Parallel| {
            Resampling::new(name, &sample, 999).run(&[&*statistic], parallel).remove(0)
        };
        let bits = |values: &[f64]| values.iter().map(|it| it.to_bits()).collect::<Vec<_>>();
        let draws = draw("a", &Serial);
        assert_eq!(bits(&draws), bits(&draw("a", &Backwards)), "{metric}");
        assert_ne!(bits(&draws), bits(&draw("b", &Serial)), "{metric}: another name, other draws");

        let estimate = measure(metric, &sample.candidate()).expect("measurable");
        let jackknife = Jackknife::new(&*statistic, &sample, &Serial);
        let found = Bca::new(estimate, draws, &jackknife).expect("an interval");
        let [low, high] = found.interval(0.05);
        assert!(low < estimate && estimate < high, "{metric}: {estimate} in [{low}, {high}]");
        // Bootstrap and jackknife look at the same spread.
        let ratio = found.standard_error / jackknife.standard_error();
        assert!((0.8..1.25).contains(&ratio), "{metric}: {ratio}");
    }
}

#[test]
fn an_undefined_resample_leaves_no_interval() {
    let rows = testing::binary(vec![0.0, 0.0, 0.0, 1.0], vec![0.1, 0.2, 0.3, 0.9]);
    let sample = Sample::new(&rows, None, &[0, 1, 2, 3]);
    let statistic = prepare(Metric::Auc, &sample.candidate()).expect("measurable");
    let draws = Resampling::new("small", &sample, 999).run(&[&*statistic], &Serial).remove(0);
    let jackknife = Jackknife::new(&*statistic, &sample, &Serial);
    let why = Bca::new(1.0, draws, &jackknife).expect_err("a resample without positives");
    assert!(why.reason.contains("of 999 resamples"), "{why}");
}

/// n draws with replacement: counts sum to n, a row's count is binomial, rows are alike and share the draws.
#[test]
fn a_resample_is_n_draws_with_replacement() {
    const N: usize = 40;
    const BATCHES: u64 = 1_500;
    let stream = Stream::new(0, Purpose::Bootstrap, "draws");
    let mut counts = vec![[0; LANES]; N];
    let mut of_row = [0_u64; N];
    let mut of_count = [0_u64; N];
    let mut together = 0_u64;
    for batch in 0..BATCHES {
        draw(stream, batch, &mut counts);
        for lane in 0..LANES {
            let sum: usize = counts.iter().map(|it| usize::from(it[lane])).sum();
            assert_eq!(sum, N, "batch {batch}, lane {lane}");
            for (row, count) in counts.iter().enumerate() {
                of_row[row] += u64::from(count[lane]);
                of_count[usize::from(count[lane])] += 1;
            }
            together += u64::from(counts[0][lane]) * u64::from(counts[1][lane]);
        }
    }
    let resamples = BATCHES as f64 * LANES as f64;
    let p = 1.0 / N as f64;
    for n in of_row {
        let z = (n as f64 - resamples) / libm::sqrt(resamples * (1.0 - p));
        assert!(z.abs() < 4.0, "{of_row:?}");
    }
    let mut expected = libm::pow(1.0 - p, N as f64);
    for (count, n) in of_count.into_iter().enumerate().take(6) {
        let share = n as f64 / (resamples * N as f64);
        assert!((share - expected).abs() < 0.003, "{count}: {share} {expected}");
        expected *= (N - count) as f64 / (count + 1) as f64 * p / (1.0 - p);
    }
    // E of a product of two counts is 1 − 1/n: what one row takes, another does not get.
    let product = together as f64 / resamples;
    assert!((product - (1.0 - p)).abs() < 0.04, "{product}");
    for n in 1..20 {
        let mut counts = vec![[0; LANES]; n];
        draw(stream, n as u64, &mut counts);
        let sum: usize = counts.iter().map(|it| usize::from(it[3])).sum();
        assert_eq!(sum, n);
    }
}
