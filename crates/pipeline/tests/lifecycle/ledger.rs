//! Every look at the judged rows is counted, and a budget that is spent decides nothing.

use karat_core::{Exit, port::NeverStop};
use karat_store::Look;

use crate::bench::{Bench, Seen, champion, version};

#[test]
fn over_a_ledger_edited_by_hand_nothing_is_judged() {
    let bench = Bench::new();
    let store = bench.store();
    assert_eq!(bench.pass(&store, "").done().exit, Exit::Pass);
    store.edit_by_hand("DROP TRIGGER ledger_is_kept; DELETE FROM ledger").expect("edits");
    for set in ["", "train.seed=2"] {
        let failure = bench.pass(&store, set).failed();
        assert_eq!((failure.code.as_str(), failure.exit), ("ledger-broken", Exit::Run), "{set}");
    }
    assert_eq!(champion(&store), Some(1));
}

#[test]
fn a_comparison_is_a_use_of_what_nobody_has_seen() {
    let bench = Bench::new();
    let store = bench.store();
    bench.pass(&store, "").done();
    bench.skill(0.7);
    let lab = bench.lab(&store, &NeverStop);
    let frozen = bench.frozen(&lab);
    let project = Bench::project("train.seed=2");
    let second = lab.train(&mut Seen::default(), &project, &frozen).expect("trains").version;
    for _ in 0..2 {
        lab.compare(&mut Seen::default(), &project, &frozen, &second, &version(&store, 1))
            .expect("compares");
    }
    let ledger = store.ledger().expect("whole");
    let seen: Vec<_> =
        ledger.entries().iter().map(|it| (it.n_uses, it.candidate.as_str())).collect();
    assert_eq!(seen, [(1, "fake@1"), (2, "fake@2")]);
    assert_eq!(ledger.entries()[1].look, Look::Comparison);
}
