//! Several seeds of one recipe: each is trained once, the first alone is registered, the gate sees all of them.

use karat_core::{Exit, Step, port::NeverStop};
use karat_pipeline::AfterPass;

use crate::bench::{Bench, Pass, name, version};

fn trainings(pass: &Pass) -> Vec<bool> {
    pass.cached().into_iter().filter(|it| it.0 == Step::Train).map(|it| it.1).collect()
}

#[test]
fn each_seed_is_trained_once_and_the_first_is_the_candidate() {
    let bench = Bench::new();
    let store = bench.store();
    let alone = bench.pass(&store, "").done();
    let three = bench.pass(&store, "train.seeds=3");
    assert_eq!(trainings(&three), [true, false, false], "the first was trained before");
    let three = three.done();
    assert_eq!(three.summary.train, alone.summary.train, "more seeds change nothing of the first");
    assert_eq!(store.versions(&name("fake")).expect("readable").len(), 1);
    let again = bench.pass(&store, "train.seeds=3");
    assert!(again.cached().iter().all(|(_, is_cached)| *is_cached), "{:?}", again.cached());

    let seeds: Vec<u64> = store
        .runs(100)
        .expect("readable")
        .into_iter()
        .filter(|it| it.step == Step::Train)
        .filter_map(|it| it.seed)
        .collect();
    assert_eq!(seeds, [3, 2, 1]);
}

#[test]
fn the_gate_sees_the_seeds_that_were_trained_whatever_the_project_says_today() {
    let bench = Bench::new();
    let store = bench.store();
    let _ = bench.pass(&store, "train.seeds=3").done();
    let inputs = |set: &str| {
        let leave = AfterPass::Leave;
        let _ = bench.pass_with(&store, set, leave, &NeverStop, |_| {}).done();
        let runs = store.runs(100).expect("readable");
        let gate = runs.into_iter().find(|it| it.step == Step::Gate).expect("judged");
        let seeds = gate.inputs.into_keys().filter(|it| it.contains("seed"));
        seeds.collect::<Vec<_>>()
    };
    let own = ["seed_1_predictions", "seed_2_predictions"];
    assert_eq!(inputs("train.seeds=3"), own);

    // The second recipe has other seeds of its own, and the champion's were trained before.
    let both: Vec<String> =
        own.iter().flat_map(|it| [format!("baseline_{it}"), (*it).to_owned()]).collect();
    let mut found = inputs("train.seeds=3 train.hidden=[8]");
    found.sort();
    let mut expected = both;
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(version(&store, 2).version, 2);
}

#[test]
fn a_stop_between_two_seeds_keeps_what_is_done() {
    let bench = Bench::new();
    let store = bench.store();
    let stop = crate::bench::Asked::default();
    let asks = stop.clone();
    let mut n_trained = 0;
    let stopped = bench
        .pass_with(&store, "train.seeds=3", AfterPass::Promote, &stop, |event| {
            if let karat_core::Event::StepFinished { step: Step::Train, .. } = event {
                n_trained += 1;
                if n_trained == 2 {
                    asks.ask();
                }
            }
        })
        .failed();
    assert_eq!(stopped.exit, Exit::Stopped);
    let _ = bench.engine.calls.take();
    let again = bench.pass(&store, "train.seeds=3");
    assert_eq!(trainings(&again), [true, true, false]);
    assert_eq!(bench.engine.calls.take().iter().filter(|it| **it == "train").count(), 1);
    assert_eq!(again.done().exit, Exit::Pass);
}
