//! How many labelled rows a comparison needs, from how often two versions disagree.

use std::sync::atomic::Ordering;

use karat_core::{Exit, Failure, metric::Metric};
use karat_pipeline::{EvalPlan, PlanOptions};
use karat_store::Store;

use crate::bench::{Bench, Seen};

const HALF_A_POINT: PlanOptions = PlanOptions {
    metric: Metric::Accuracy,
    detect: 0.005,
    margin: None,
    power: None,
    label_noise: None,
};

fn plan(bench: &Bench, store: &Store, of: u32, options: &PlanOptions) -> Result<EvalPlan, Failure> {
    bench.with_case(store, of, |lab, case| lab.plan_eval(&mut Seen::default(), case, options))
}

/// `fake@1`, the champion, and `fake@2`, which answers some rows differently.
fn two() -> (Bench, Store) {
    let bench = Bench::new();
    let store = bench.store();
    let _ = bench.pass(&store, "").done();
    bench.skill(0.8);
    let _ = bench.pass(&store, "train.seed=2").done();
    (bench, store)
}

#[test]
fn rows_follow_from_the_disagreement_as_the_formula_says() {
    let (bench, store) = two();
    let found = plan(&bench, &store, 2, &HALF_A_POINT).expect("a plan");
    assert_eq!((found.baseline.as_str(), found.n_rows), ("fake@1", 2000));
    let psi = found.disagreement.expect("accuracy");
    assert!(0.01 < psi && psi < 0.3, "{psi}");
    // z at .95 and .8; docs/design/009-gate-statistics.md.
    let (za, zb, d) = (1.644_853_626_951, 0.841_621_233_573, 0.005_f64);
    let root = za * psi.sqrt() + zb * (psi - d * d).sqrt();
    let asked = found.sizes.iter().find(|it| it.is_asked).expect("the one that was asked for");
    assert_eq!(asked.n_better, Some((root * root / (d * d)).ceil() as u64));
    assert_eq!(asked.n_not_worse, Some(((za + zb).powi(2) * psi / (d * d)).ceil() as u64));
    assert!(found.sizes.windows(2).all(|it| it[0].n_not_worse > it[1].n_not_worse));

    // Labels that are wrong one time in ten blur a difference by 1 − 2 · 0.1.
    let noisy = PlanOptions { label_noise: Some(0.1), ..HALF_A_POINT };
    let noisy = plan(&bench, &store, 2, &noisy).expect("a plan");
    let ratio =
        noisy.sizes[1].n_better.expect("finite") as f64 / asked.n_better.expect("finite") as f64;
    assert!((ratio - 1.0 / 0.64).abs() < 1e-3, "{ratio}");
    let sure = PlanOptions { power: Some(0.95), margin: Some(0.01), ..HALF_A_POINT };
    let sure = plan(&bench, &store, 2, &sure).expect("a plan");
    assert!(asked.n_better < sure.sizes[1].n_better && sure.margin.is_some());
}

#[test]
fn other_metrics_go_by_their_standard_error() {
    let (bench, store) = two();
    let auc = PlanOptions { metric: Metric::Auc, detect: 0.01, ..HALF_A_POINT };
    let found = plan(&bench, &store, 2, &auc).expect("a plan");
    assert_eq!(found.disagreement, None);
    let seen = found.effect_seen.expect("finite");
    // At the difference that these rows just show, they are just enough.
    let exact = PlanOptions { detect: seen, ..auc };
    let found = plan(&bench, &store, 2, &exact).expect("a plan");
    let n = found.sizes[1].n_better.expect("finite");
    assert!((2000..=2001).contains(&n), "{n}");
}

#[test]
fn unlabelled_rows_that_two_versions_answer_differently_are_worth_a_label() {
    let (bench, store) = two();
    let none = plan(&bench, &store, 2, &HALF_A_POINT).expect("a plan").unlabeled;
    assert_eq!((none.n_rows, none.worth.len()), (0, 0));
    bench.tables.n_unlabeled.store(500, Ordering::Relaxed);
    let found = plan(&bench, &store, 2, &HALF_A_POINT).expect("a plan").unlabeled;
    assert_eq!(found.n_rows, 500);
    assert!(!found.worth.is_empty() && found.worth.len() < 250, "{}", found.worth.len());
    assert!(found.worth.windows(2).all(|it| it[1].difference <= it[0].difference));
    assert!(found.worth.iter().all(|it| it.baseline != it.candidate));
    assert_eq!(found.to_csv().lines().count(), found.worth.len() + 1);
}

#[test]
fn what_never_disagrees_has_no_plan() {
    let bench = Bench::new();
    let store = bench.store();
    let _ = bench.pass(&store, "").done();
    let refused = |of: u32, options: &PlanOptions, fact: &str| {
        let failure = plan(&bench, &store, of, options).expect_err(fact);
        assert_eq!((failure.code.as_str(), failure.exit), ("plan-impossible", Exit::Usage));
        assert!(failure.message.contains(fact), "{failure:?}");
    };
    refused(1, &HALF_A_POINT, "there is no version to compare fake@1 with");
    // The fake's scores do not depend on the seed.
    let _ = bench.pass(&store, "train.seed=2").done();
    refused(2, &HALF_A_POINT, "predict the same class for all 2,000 labelled rows");
    let r2 = PlanOptions { metric: Metric::R2, ..HALF_A_POINT };
    refused(2, &r2, "`r2` is not a metric of this task");
}
