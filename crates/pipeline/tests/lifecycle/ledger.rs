//! Every look at the judged rows is counted, and a budget that is spent decides nothing.

use karat_core::{Exit, policy::Reveal, port::NeverStop};
use karat_store::{Look, Store};

use crate::bench::{Bench, POLICY, Seen, champion, version};

fn budget(reveal: &str) -> String {
    let budget = format!(
        "budget = {{ uses = 8, adaptivity = \"none\", reveal = \"{reveal}\" }}\nn_resamples"
    );
    POLICY.replace("n_resamples", &budget)
}

/// (use, allowed) of a pass with this seed, and how it ended.
fn judge(bench: &Bench, store: &Store, seed: u32) -> (u32, Option<u32>, Exit) {
    let whole = bench.pass(store, &format!("train.seed={seed}")).done();
    let place = whole.summary.verdict.expect("judged").ledger.expect("counted");
    (place.n_uses, place.n_allowed, whole.exit)
}

#[test]
fn the_ninth_use_of_eight_is_inconclusive() {
    let mut bench = Bench::new();
    bench.policy = budget("numbers");
    let store = bench.store();
    for seed in 1..=8 {
        // Other skills: equal predictions would tell nothing new.
        bench.skill(0.5 + 0.01 * seed as f32);
        assert_eq!(judge(&bench, &store, seed), (seed, Some(8), Exit::Pass));
    }
    assert_eq!(champion(&store), Some(8));
    bench.skill(0.9);
    assert_eq!(judge(&bench, &store, 9), (9, Some(8), Exit::Inconclusive));
    assert_eq!(champion(&store), Some(8), "nothing was promoted");
    bench.skill(0.58);
    assert_eq!(judge(&bench, &store, 8), (8, Some(8), Exit::Pass), "what was shown costs nothing");
}

#[test]
fn with_outcomes_alone_no_number_is_kept_or_shown() {
    let mut bench = Bench::new();
    bench.policy = budget("verdict");
    let store = bench.store();
    let whole = bench.pass(&store, "").done();
    let verdict = whole.summary.verdict.expect("judged");
    assert_eq!(whole.exit, Exit::Pass);
    assert!(verdict.report.cells.is_empty() && verdict.report.curves.is_empty());
    for finding in &verdict.findings {
        assert_eq!((finding.value, finding.interval, finding.numbers.len()), (None, None, 0));
    }
    let entry = store.ledger().expect("whole").entries()[0].clone();
    assert_eq!(entry.reveal, Reveal::Verdict);
    assert_eq!(champion(&store), Some(1), "it passed all the same");
}

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
