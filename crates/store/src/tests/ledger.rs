//! What was shown of an evaluation set is counted, cannot be forgotten, and an edit of it is found.

use std::{path::Path, time::Duration};

use karat_core::{
    Digest, Outcome, Timestamp, Verdict,
    policy::{Adaptivity, Budget, Reveal},
    verdict::{Judged, LedgerUse},
};

use super::{NOW, code, complete_run, folder, keep, name, open, problems, version};
use crate::{Access, Authority, Look, Store, StoreError};

/// A verdict of gate `release` about predictions named `about`.
fn verdict(store: &Store, about: &str, outcome: Outcome) -> Verdict {
    let record = version(store, "one").expect("registers");
    let verdict = super::verdict(&record, None, outcome);
    let predictions = Digest::of(about.as_bytes());
    Verdict { judged: Judged { predictions, ..verdict.judged.clone() }, ..verdict }
}

/// Asks for the place, puts the verdict on record, and says (use, covered).
fn judge(store: &Store, budget: Option<Budget>, verdict: &Verdict) -> (u32, bool) {
    let place = store.ledger().expect("whole").place(&verdict.gate, budget, &verdict.judged);
    let seen = (place.ledger.n_uses, place.is_covered);
    let verdict = Verdict { ledger: Some(place.ledger), ..verdict.clone() };
    assert!(store.put_verdict(&verdict, "ada", NOW).expect("kept").is_some());
    seen
}

const EIGHT: Option<Budget> =
    Some(Budget { uses: 8, adaptivity: Adaptivity::None, reveal: Reveal::Numbers });
const VERDICTS: Option<Budget> =
    Some(Budget { uses: 8, adaptivity: Adaptivity::None, reveal: Reveal::Verdict });
const UNTIL_A_PASS: Option<Budget> =
    Some(Budget { uses: 8, adaptivity: Adaptivity::FirstChange, reveal: Reveal::Numbers });

#[test]
fn what_tells_something_new_is_a_use_and_what_was_seen_costs_nothing() {
    let dir = folder();
    let store = open(dir.path());
    let of = |about: &str| verdict(&store, about, Outcome::Fail);
    assert_eq!(judge(&store, EIGHT, &of("a")), (1, true), "also a failed one");
    assert_eq!(judge(&store, EIGHT, &of("b")), (2, true));
    let mut again = of("a");
    again.gate = "nightly".to_owned();
    again.judged.policy = Digest::of(b"another gate.toml");
    assert_eq!(judge(&store, EIGHT, &again), (1, true), "its numbers are known, whoever asks");
    for n in 3..=8 {
        assert_eq!(judge(&store, EIGHT, &of(&n.to_string())), (n, true));
    }
    assert_eq!(judge(&store, EIGHT, &of("ninth")), (9, false), "spent");
    assert_eq!(judge(&store, EIGHT, &of("ninth")), (9, false), "and asking again buys nothing");
    assert_eq!(judge(&store, EIGHT, &of("8")), (8, true), "what was covered stays covered");
    assert_eq!(judge(&store, None, &of("tenth")), (10, true), "counted without a budget too");
    let mut fresh = of("ninth");
    fresh.judged.rows = Digest::of(b"fresh rows");
    assert_eq!(judge(&store, EIGHT, &fresh), (1, true), "other rows are another set");
    assert_eq!(store.ledger_uses(of("a").judged.rows).expect("whole"), 10);
    assert_eq!(problems(&store), Vec::<String>::new());
}

#[test]
fn an_outcome_without_numbers_is_new_under_every_policy() {
    let dir = folder();
    let store = open(dir.path());
    let first = verdict(&store, "a", Outcome::Fail);
    let mut asked_otherwise = first.clone();
    asked_otherwise.judged.policy = Digest::of(b"min is 0.01 lower");
    assert_eq!(judge(&store, VERDICTS, &first), (1, true));
    assert_eq!(judge(&store, VERDICTS, &first), (1, true));
    assert_eq!(judge(&store, VERDICTS, &asked_otherwise), (2, true), "a bound can be searched for");
    let compared = [(first.judged.predictions, "flights@1".to_owned())];
    store.record_comparison(first.judged.rows, &compared, "ada", NOW).expect("recorded");
    store.record_comparison(first.judged.rows, &compared, "ada", NOW).expect("known");
    let ledger = store.ledger().expect("whole");
    assert_eq!(ledger.entries().len(), 3, "what is on record already is not recorded twice");
    assert_eq!((ledger.entries()[2].n_uses, &ledger.entries()[2].look), (3, &Look::Comparison));
    assert_eq!(ledger.entries()[0].reveal, Reveal::Verdict);
    assert_eq!(problems(&store), Vec::<String>::new());
}

#[test]
fn the_first_pass_retires_the_rows_where_only_failures_may_be_seen() {
    let dir = folder();
    let store = open(dir.path());
    let fail = verdict(&store, "a", Outcome::Fail);
    let pass = verdict(&store, "b", Outcome::Pass);
    assert_eq!(judge(&store, UNTIL_A_PASS, &fail), (1, true));
    assert_eq!(judge(&store, UNTIL_A_PASS, &pass), (2, true));
    assert_eq!(judge(&store, UNTIL_A_PASS, &pass), (2, true), "the pass itself may be shown again");
    assert_eq!(judge(&store, UNTIL_A_PASS, &verdict(&store, "c", Outcome::Pass)), (3, false));
    assert_eq!(judge(&store, EIGHT, &verdict(&store, "d", Outcome::Pass)), (4, true));
}

#[test]
fn of_two_who_judge_at_once_the_second_looks_again() {
    let dir = folder();
    let store = open(dir.path());
    let late = verdict(&store, "late", Outcome::Pass);
    let place = store.ledger().expect("whole").place(&late.gate, EIGHT, &late.judged);
    judge(&store, EIGHT, &verdict(&store, "early", Outcome::Fail));
    let outdated = Verdict { ledger: Some(place.ledger), ..late.clone() };
    assert_eq!(store.put_verdict(&outdated, "ada", NOW).expect("refused, not failed"), None);
    assert_eq!(store.ledger_uses(late.judged.rows).expect("whole"), 1, "nothing was kept");
    assert_eq!(judge(&store, EIGHT, &late), (2, true));
    assert_eq!(
        code(store.put_verdict(&late, "ada", NOW)),
        "record-unreadable",
        "no place, no verdict"
    );
}

/// A store with three uses, closed.
fn three_uses(dir: &Path) {
    let store = open(dir);
    for about in ["a", "b", "c"] {
        judge(&store, EIGHT, &verdict(&store, about, Outcome::Fail));
    }
}

#[test]
fn a_verdict_on_record_keeps_its_place_and_is_healed() {
    let dir = folder();
    let store = open(dir.path());
    let first = verdict(&store, "a", Outcome::Fail);
    let digest = keep(&store, &first).expect("kept");
    judge(&store, EIGHT, &verdict(&store, "b", Outcome::Fail));
    super::rot(&store, &digest);
    assert_eq!(keep(&store, &first).expect("known"), digest);
    assert_eq!(store.ledger().expect("whole").entries().len(), 2);
    assert_eq!(problems(&store), Vec::<String>::new());
}

/// What an editor of the database can do, and what must be found.
#[test]
fn an_edit_by_hand_is_found() {
    let off = "DROP TRIGGER ledger_is_final; DROP TRIGGER ledger_is_kept;
               DROP TRIGGER verdict_is_kept;";
    for (sql, found) in [
        (
            "UPDATE ledger SET predictions = (SELECT predictions FROM ledger WHERE seq = 1) WHERE seq = 2",
            "entry 2",
        ),
        ("UPDATE ledger SET actor = 'nobody' WHERE seq = 3", "entry 3"),
        ("UPDATE ledger SET at = at + 1 WHERE seq = 1", "entry 1"),
        (
            "UPDATE ledger SET eval_set = replace(eval_set, 'sha256:', 'sha256:') || '' WHERE seq = 1",
            "",
        ),
        ("UPDATE ledger SET n_allowed = 80 WHERE seq = 1", "entry 1"),
        ("UPDATE ledger SET outcome = 'pass' WHERE seq = 1", "entry 1"),
        ("DELETE FROM ledger WHERE seq = 1", "entry 1"),
        ("DELETE FROM ledger WHERE seq = 2", "entry 2"),
        ("DELETE FROM ledger WHERE seq = 3", "2 entries are left of 3"),
        ("DELETE FROM ledger", "0 entries are left of 3"),
        // Whoever knows that numbers are not given twice.
        (
            "DELETE FROM ledger; DELETE FROM sqlite_sequence WHERE name = 'ledger'",
            "3 verdicts on record",
        ),
        (
            "DELETE FROM ledger WHERE seq = 3; UPDATE sqlite_sequence SET seq = 2 WHERE name = 'ledger'",
            "1 verdicts on record",
        ),
    ] {
        let dir = folder();
        three_uses(dir.path());
        let store = open(dir.path());
        assert!(
            store.edit_by_hand(sql).is_err() || found.is_empty(),
            "the triggers let {sql} pass"
        );
        store.edit_by_hand(&format!("{off}{sql}")).expect("edits");
        if found.is_empty() {
            store.ledger().expect("nothing was changed");
            continue;
        }
        let error = store.ledger().expect_err(sql);
        assert_eq!(code(Err::<(), _>(error)), "ledger-broken");
        let listed = problems(&store);
        assert!(
            listed.iter().any(|it| it.starts_with("ledger: ") && it.contains(found)),
            "{sql}: {listed:?}"
        );
    }
}

/// Leaving out one entry and hashing the rest again makes a chain that holds; the verdicts do not fit it.
#[test]
fn a_chain_that_was_made_anew_is_found() {
    let dir = folder();
    three_uses(dir.path());
    let store = open(dir.path());
    let kept: Vec<Verdict> = [0, 2]
        .map(|at| store.ledger().expect("whole").entries()[at].verdict().expect("a verdict"))
        .iter()
        .map(|digest| store.verdict(digest).expect("readable"))
        .collect();
    let second = store.ledger().expect("whole").entries()[1].verdict().expect("a verdict");
    store
        .commit(|tx| {
            tx.execute_batch(
                "DROP TRIGGER ledger_is_kept; DROP TRIGGER verdict_is_kept; DELETE FROM ledger;
                 DELETE FROM sqlite_sequence WHERE name = 'ledger'",
            )?;
            tx.execute("DELETE FROM verdict WHERE digest = ?1", [second.to_string()])?;
            for verdict in &kept {
                let bytes = karat_core::canonical::to_vec(verdict).expect("serialises");
                crate::ledger::append_verdict(tx, verdict, Digest::of(&bytes), "ada", NOW)?;
            }
            Ok(())
        })
        .expect("edits");
    assert_eq!(code(store.ledger()), "ledger-broken");
    assert_eq!(
        problems(&store),
        ["ledger: entry 2 is not the one that its verdict was recorded with"]
    );
}

/// The newest entry and its verdict taken out together: the run that made the verdict still names it.
#[test]
fn a_tail_that_was_cut_off_is_found() {
    let dir = folder();
    let store = open(dir.path());
    let digest = keep(&store, &verdict(&store, "a", Outcome::Fail)).expect("kept");
    let start = crate::RunStart {
        step: karat_core::Step::Gate,
        ..super::start(karat_core::Step::Gate, "gate")
    };
    let run = store.begin_run(&start, NOW).expect("begins");
    let outputs = [("verdict.json".to_owned(), digest)].into();
    store.finish_run(&run, &super::end(outputs), NOW).expect("ends");
    store
        .commit(|tx| {
            Ok(tx.execute_batch(
                "DROP TRIGGER ledger_is_kept; DROP TRIGGER verdict_is_kept; DELETE FROM ledger; DELETE FROM verdict;
                 DELETE FROM sqlite_sequence WHERE name = 'ledger'",
            )?)
        })
        .expect("edits");
    assert_eq!(code(store.ledger()), "ledger-broken");
}

#[test]
fn gc_leaves_the_ledger_and_what_it_names() {
    let dir = folder();
    three_uses(dir.path());
    let store = open(dir.path());
    let before = store.ledger().expect("whole");
    store.gc(Duration::ZERO, false, Timestamp(4_000_000_000_000)).expect("collects");
    assert_eq!(store.ledger().expect("whole"), before);
    for entry in before.entries() {
        store.verdict(&entry.verdict().expect("a verdict")).expect("still there");
    }
}

/// Takes the ledger out again: what a store of form 1 looked like.
fn to_form_1(dir: &Path) {
    open(dir).edit_by_hand("DROP TABLE ledger; PRAGMA user_version = 1").expect("edits");
}

#[test]
fn a_store_from_before_the_ledger_gets_one_of_what_was_shown_already() {
    let dir = folder();
    let store = open(dir.path());
    let record = version(&store, "one").expect("registers");
    for outcome in [Outcome::Fail, Outcome::Pass] {
        // As it was written then: it names no entry.
        let verdict = super::verdict(&record, None, outcome);
        let bytes = serde_json::to_vec_pretty(&verdict).expect("serialises");
        let digest = store.put_bytes(&bytes).expect("written");
        store
            .commit(|tx| {
                store.name(tx, &digest)?;
                let word = serde_json::to_value(outcome).expect("a word");
                tx.execute(
                    "INSERT INTO verdict (digest, candidate, gate, outcome, created_at) VALUES (?1, ?2, 'release', ?3, 7)",
                    (digest.to_string(), record.manifest.to_string(), word.as_str()),
                )?;
                Ok(())
            })
            .expect("recorded");
    }
    drop(store);
    to_form_1(dir.path());
    let reader = Store::open(dir.path(), Access::ReadOnly).expect("can be looked at");
    assert_eq!(reader.ledger().expect("none yet").entries(), []);
    assert_eq!(reader.verify(true, &mut |_, _| {}).expect("runs").problems, Vec::<String>::new());
    drop(reader);

    let store = open(dir.path());
    assert!(!store.is_new());
    let ledger = store.ledger().expect("begun");
    let seen: Vec<_> = ledger.entries().iter().map(|it| (it.seq, it.n_uses, it.at)).collect();
    assert_eq!(seen, [(1, 1, Timestamp(7)), (2, 1, Timestamp(7))]);
    assert!(ledger.entries()[0].actor.contains("before the ledger"));
    assert_eq!(problems(&store), Vec::<String>::new());
    assert_eq!(judge(&store, EIGHT, &verdict(&store, "new", Outcome::Fail)), (2, true));
}

#[test]
fn pretending_to_be_older_than_the_ledger_resets_nothing() {
    let dir = folder();
    three_uses(dir.path());
    to_form_1(dir.path());
    let store = open(dir.path());
    assert_eq!(code(store.ledger()), "ledger-broken");
}

/// An old verdict that is lost cannot say what it was about, and keeps nobody from opening the store.
#[test]
fn a_lost_verdict_does_not_stop_the_migration() {
    let dir = folder();
    let store = open(dir.path());
    let digest = keep(&store, &verdict(&store, "a", Outcome::Fail)).expect("kept");
    std::fs::remove_file(store.path(&digest)).expect("removes");
    drop(store);
    to_form_1(dir.path());
    let ledger = open(dir.path()).ledger().expect("opens and holds");
    assert_eq!(ledger.entries()[0].verdict(), Some(digest));
    assert_eq!(ledger.entries()[0].eval_set, Digest::from_bytes([0; 32]));
}

#[test]
fn verdict_and_entry_are_one_write() {
    let mut n_effects = 0;
    for n in 0.. {
        let dir = folder();
        drop(open(dir.path()));
        version(&open(dir.path()), "one").expect("registers");
        let asked = verdict(&open(dir.path()), "a", Outcome::Fail);
        let store = Store::open_faulty(dir.path(), crate::FaultPlan::crash_at(n)).expect("opens");
        let result: Result<Digest, StoreError> = keep(&store, &asked);
        let store = open(dir.path());
        let (n_entries, n_verdicts) = (
            store.ledger().expect("whole, whichever write was the last").entries().len(),
            store
                .verdicts_of(&version(&store, "one").expect("known").manifest)
                .expect("listed")
                .len(),
        );
        assert_eq!(n_entries, n_verdicts, "write {n}");
        if result.is_ok() {
            n_effects = n;
            break;
        }
    }
    assert!(4 <= n_effects, "only {n_effects} writes seen: is the fault injector wired in?");
}

#[test]
fn a_verdict_names_its_use_and_is_promoted_like_any_other() {
    let dir = folder();
    let store = open(dir.path());
    let record = version(&store, "one").expect("registers");
    let digest = keep(&store, &super::verdict(&record, None, Outcome::Pass)).expect("kept");
    let expected = LedgerUse {
        n_uses: 1,
        n_allowed: None,
        reveal: Reveal::Numbers,
        previous: Digest::from_bytes([0; 32]),
    };
    assert_eq!(store.verdict(&digest).expect("readable").ledger, Some(expected));
    let request = super::request(&store, &record, Authority::Verdict(digest)).expect("asked");
    store.promote(&request, NOW).expect("promotes");
    assert!(complete_run(&store, "another").is_ok());
    assert_eq!(
        store.alias(&name("flights"), &name("champion")).expect("readable").map(|it| it.version),
        Some(1)
    );
}
