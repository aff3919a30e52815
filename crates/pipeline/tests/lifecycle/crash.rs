//! Every durable effect fails once, by death and by a full disk: a reader sees a whole state, and the same command
//! finishes the job with the same bytes.

use karat_core::{Exit, port::NeverStop};
use karat_pipeline::{AfterPass, CHAMPION};
use karat_store::{Authority, FaultPlan, Store};

use crate::bench::{Bench, Seen, champion, copy_store, held, lasting, name, version};

/// Lets the n-th effect of the second pass fail, for every n.
fn sweep(plan: fn(u64) -> FaultPlan) {
    let bench = Bench::new();
    // A champion exists before, so that promotion has something to replace.
    bench.skill(0.7);
    let prepared = bench.folder.path().join("prepared");
    assert_eq!(bench.pass(&bench.store(), "").done().exit, Exit::Pass);
    std::fs::rename(bench.dir(), &prepared).expect("renames");
    bench.skill(0.9);
    let again = || {
        let _ = std::fs::remove_dir_all(bench.dir());
        copy_store(&prepared, &bench.dir());
    };

    again();
    let whole = Store::open_faulty(&bench.dir(), FaultPlan::crash_at(u64::MAX)).expect("opens");
    let expected = lasting(&bench.pass(&whole, "train.seed=2").done());
    let n_effects = whole.n_effects();
    drop(whole);
    assert!(100 <= n_effects, "only {n_effects} effects seen: is the fault injector wired in?");

    for n in 0..n_effects {
        again();
        if let Ok(store) = Store::open_faulty(&bench.dir(), plan(n)) {
            let _ = bench.pass(&store, "train.seed=2");
        }
        let store = bench.store();
        let seen = champion(&store);
        assert!(seen == Some(1) || seen == Some(2), "effect {n}: the champion is {seen:?}");
        assert_eq!(held(&store).last().copied(), seen, "effect {n}: history and alias disagree");
        let report = store.verify(true, &mut |_, _| {}).expect("readable");
        assert!(report.problems.is_empty(), "effect {n}: {:?}", report.problems);

        let finished = bench.pass(&store, "train.seed=2").done();
        assert_eq!(finished.exit, Exit::Pass, "effect {n}");
        assert_eq!(lasting(&finished), expected, "effect {n}: other bytes");
        assert_eq!(held(&store), [1, 2], "effect {n}: one promotion, whatever happened");
    }
}

#[test]
fn slow_a_pass_survives_death_at_every_durable_effect() {
    sweep(FaultPlan::crash_at);
}

/// One effect fails and the rest work, clearing up included.
#[test]
fn slow_a_pass_survives_a_full_disk_at_every_durable_effect() {
    sweep(FaultPlan::full_at);
}

#[test]
fn a_promotion_survives_a_failure_at_every_durable_effect() {
    let bench = Bench::new();
    let prepared = bench.folder.path().join("prepared");
    {
        let store = bench.store();
        assert_eq!(bench.pass(&store, "").done().exit, Exit::Pass);
        let leave = AfterPass::Leave;
        let left = bench.pass_with(&store, "train.seed=2", leave, &NeverStop, |_| {});
        assert_eq!(left.done().exit, Exit::Pass);
        assert_eq!(held(&store), [1], "`--dry-run` moves nothing");
    }
    std::fs::rename(bench.dir(), &prepared).expect("renames");
    let promote = |store: &Store| {
        let lab = bench.lab(store, &NeverStop);
        let (candidate, alias) = (version(store, 2), name(CHAMPION));
        let verdict = lab.passing_verdict(&candidate, &bench.policy(), &alias)?;
        lab.promote(&mut Seen::default(), &candidate, &alias, Authority::Verdict(verdict))
    };
    let mut n_failed = 0;
    for n in 0.. {
        let _ = std::fs::remove_dir_all(bench.dir());
        copy_store(&prepared, &bench.dir());
        let is_failed = match Store::open_faulty(&bench.dir(), FaultPlan::crash_at(n)) {
            Ok(store) => promote(&store).is_err(),
            Err(_) => true,
        };
        let store = bench.store();
        let seen = held(&store);
        assert!(seen == [1] || seen == [1, 2], "effect {n}: {seen:?}");
        assert_eq!(seen.last().copied(), champion(&store), "effect {n}");
        promote(&store).expect("the second try finishes");
        assert_eq!(held(&store), [1, 2], "effect {n}");
        if !is_failed {
            break;
        }
        n_failed += 1;
    }
    assert!(2 <= n_failed, "a promotion is one transaction: before and after its commit");
}
