//! What must hold for any input: models swapped, rows in another order, rows on which both agree, equal models, threads.

use karat_core::{ScoredRows, metric::Metric};
use karat_gate::{
    Parallel, Serial,
    estimate::{Estimate, Flips, Form, Precision, Want, estimate},
    paired::{mcnemar_exact, mcnemar_mid_p, mcnemar_mid_p_better},
    sample::Sample,
};

use crate::simulate::{Draw, two_models};

const METRICS: [Metric; 7] = [
    Metric::Auc,
    Metric::Accuracy,
    Metric::LogLoss,
    Metric::Brier,
    Metric::F1,
    Metric::AveragePrecision,
    Metric::EceDebiased,
];

fn improvements(new: &ScoredRows, old: &ScoredRows, parallel: &dyn Parallel) -> Vec<Estimate> {
    let all: Vec<u32> = (0..new.n_rows() as u32).collect();
    in_order(new, old, &all, parallel)
}

fn in_order(
    new: &ScoredRows,
    old: &ScoredRows,
    order: &[u32],
    parallel: &dyn Parallel,
) -> Vec<Estimate> {
    let sample = Sample::new(new, Some(old), order);
    let wants = METRICS.map(|metric| Want { metric, form: Form::Improvement });
    let precision = Precision { reliability: 0.95, n_resamples: 499, name: "property" };
    let found = estimate(&wants, &sample, precision, parallel);
    found.into_iter().map(|it| it.expect("measurable")).collect()
}

fn models(at: u32) -> [ScoredRows; 2] {
    two_models(Draw::new("properties", at), 240, 0.4, [1.4, 1.0])
}

#[test]
fn swapping_the_models_turns_the_sign_and_the_one_sided_p() {
    for at in 0..20 {
        let [new, old] = models(at);
        let there = improvements(&new, &old, &Serial);
        let back = improvements(&old, &new, &Serial);
        for ((metric, a), b) in METRICS.iter().zip(&there).zip(&back) {
            assert!((a.value + b.value).abs() < 1e-12, "{metric}");
            // Rows are in the order of the candidate's scores, so the bootstrap draws others.
            let within = if a.method.starts_with("BCa") { 0.12 } else { 1e-9 };
            let (p, q) = (a.tail.p_above(0.0), b.tail.p_above(0.0));
            assert!((p + q - 1.0).abs() < within, "{metric}: {p} {q}");
        }
    }
    for (b, c) in [(0, 0), (3, 9), (121, 59), (500_000, 500_100)] {
        let both = mcnemar_mid_p_better(b, c) + mcnemar_mid_p_better(c, b);
        assert!((both - 1.0).abs() < 1e-10, "{b} {c}: {both}");
    }
}

#[test]
fn the_order_of_rows_changes_no_bit() {
    let [new, old] = models(1);
    let n = new.n_rows() as u32;
    let straight = improvements(&new, &old, &Serial);
    // 7 and 240 have no common factor: a permutation.
    let order: Vec<u32> = (0..n).map(|at| (7 * at + 3) % n).collect();
    assert_eq!(straight, in_order(&new, &old, &order, &Serial));
}

#[test]
fn rows_on_which_both_agree_do_not_move_mcnemar() {
    let [new, old] = models(2);
    let of = |new: &ScoredRows, old: &ScoredRows| {
        let all: Vec<u32> = (0..new.n_rows() as u32).collect();
        let flips = Flips::count(&Sample::new(new, Some(old), &all)).expect("two models");
        (flips.fixed, flips.broken)
    };
    let (b, c) = of(&new, &old);
    assert!(0 < b && 0 < c);
    let more = |rows: &ScoredRows| {
        let mut rows = rows.clone();
        rows.label.extend([1.0; 500]);
        rows.score.extend([0.9; 500]);
        rows
    };
    assert_eq!(of(&more(&new), &more(&old)), (b, c));
    // P is a function of the two counts alone.
    assert!(mcnemar_mid_p(b, c) <= mcnemar_exact(b, c));
}

#[test]
fn equal_models_have_p_1_and_an_interval_around_0() {
    let [new, _] = models(3);
    for (metric, found) in METRICS.iter().zip(improvements(&new, &new, &Serial)) {
        let [low, high] = found.interval;
        assert!(found.value.abs() < 1e-15 && low <= 0.0 && 0.0 <= high, "{metric}: {found:?}");
        assert!((found.p.expect("a test") - 1.0).abs() < 1e-12, "{metric}: {:?}", found.p);
    }
}

/// Runs the loop on as many threads as asked, in an order that depends on them.
struct Threads(usize);

impl Parallel for Threads {
    fn for_each(&self, n: usize, work: &(dyn Fn(usize) + Sync)) {
        let next = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..self.0 {
                scope.spawn(|| {
                    loop {
                        let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        if n <= at {
                            return;
                        }
                        work(n - 1 - at);
                    }
                });
            }
        });
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let [new, old] = models(4);
    let alone = improvements(&new, &old, &Serial);
    for threads in [1, 2, 3, 16] {
        assert_eq!(alone, improvements(&new, &old, &Threads(threads)), "{threads} threads");
    }
}
