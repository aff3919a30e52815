//! Versions, verdicts and the moves of an alias.

use std::sync::Barrier;

use expect_test::{Expect, expect};
use karat_core::{Coded as _, Digest, Failure, Outcome};

use super::{
    NOW, champion, code, folder, judge_and_promote, keep, name, open, problems, request, rollback,
    rot, verdict, version,
};
use crate::{Authority, Store, StoreError};

/// An error as a person sees it, less what differs from run to run.
#[track_caller]
fn says<T: std::fmt::Debug>(result: Result<T, StoreError>, expected: Expect) {
    let failure = Failure::from(result.expect_err("must be refused"));
    let lines = [format!("{}: {}", failure.code, failure.message)].into_iter();
    let lines = lines
        .chain(failure.details)
        .chain(failure.hints.into_iter().map(|it| format!("hint: {it}")));
    expected.assert_eq(&lines.map(|it| it + "\n").collect::<String>());
}

fn force(reason: &str) -> Authority {
    Authority::Forced { reason: reason.to_owned() }
}

#[test]
fn versions_count_from_one_and_the_same_manifest_is_the_same_version() {
    let dir = folder();
    let store = open(dir.path());
    let (one, two) =
        (version(&store, "one").expect("registers"), version(&store, "two").expect("registers"));
    assert_eq!((one.label(), two.label()), ("flights@1".to_owned(), "flights@2".to_owned()));
    assert_eq!(version(&store, "one").expect("known"), one);
    assert_eq!(store.versions(&name("flights")).expect("listed"), [one, two.clone()]);
    assert_eq!(store.models().expect("listed"), [name("flights")]);
    assert_eq!(store.resolve(&"flights@2".parse().expect("a reference")).expect("there"), two);
}

#[test]
fn unknown_names_offer_the_nearest() {
    let dir = folder();
    let store = open(dir.path());
    let one = version(&store, "one").expect("registers");
    judge_and_promote(&store, &one).expect("promotes");
    let resolve = |text: &str| store.resolve(&text.parse().expect("a reference"));
    assert_eq!(resolve("flights@champion").expect("there"), one);
    says(
        resolve("flihgts@1"),
        expect![[r#"
        model-unknown: no model `flihgts`
        known are `flights`
        hint: `karat alias` lists models and aliases
    "#]],
    );
    says(
        resolve("flights@7"),
        expect![[r#"
        version-unknown: model `flights` has no version 7
        the newest is flights@1
    "#]],
    );
    says(
        resolve("flights@chmpion"),
        expect![[r#"
        alias-unknown: model `flights` has no alias `chmpion`
        known are `champion`
        hint: `karat alias` lists models and aliases
    "#]],
    );
}

#[test]
fn only_a_passing_verdict_about_these_bytes_promotes() {
    let dir = folder();
    let store = open(dir.path());
    let (one, two) =
        (version(&store, "one").expect("registers"), version(&store, "two").expect("registers"));
    let promote = |to, verdict: &karat_core::Verdict| {
        let digest = keep(&store, verdict).expect("kept");
        store.promote(&request(&store, to, Authority::Verdict(digest)).expect("asked"), NOW)
    };
    let unknown = request(&store, &one, Authority::Verdict(Digest::of(b"made up"))).expect("asked");
    assert_eq!(code(store.promote(&unknown, NOW)), "verdict-missing");
    // An object that looks like a verdict but was never put on record as one.
    let smuggled = serde_json::to_vec(&verdict(&one, None, Outcome::Pass)).expect("serialises");
    let smuggled = Authority::Verdict(store.put_bytes(&smuggled).expect("written"));
    assert_eq!(
        code(store.promote(&request(&store, &one, smuggled).expect("asked"), NOW)),
        "verdict-missing"
    );
    for (outcome, exit) in
        [(Outcome::Fail, 1), (Outcome::NotApplied, 1), (Outcome::Inconclusive, 4)]
    {
        let error = promote(&one, &verdict(&one, None, outcome)).expect_err("no pass");
        assert_eq!((error.code().as_str(), error.exit().code()), ("verdict-not-passed", exit));
    }
    assert_eq!(code(promote(&two, &verdict(&one, None, Outcome::Pass))), "verdict-mismatch");
    assert_eq!(champion(&store), None, "nothing was promoted");
    let allowed = karat_core::Verdict {
        inconclusive_is_allowed: true,
        ..verdict(&one, None, Outcome::Inconclusive)
    };
    promote(&one, &allowed).expect("the policy allows it");
    assert_eq!(champion(&store), Some(1));
    let newest_first: Vec<Outcome> = store
        .verdicts_of(&one.manifest)
        .expect("listed")
        .into_iter()
        .map(|it| it.1.outcome)
        .collect();
    use Outcome::{Fail, Inconclusive, NotApplied, Pass};
    assert_eq!(newest_first, [Inconclusive, Pass, Inconclusive, NotApplied, Fail]);
}

#[test]
fn a_damaged_version_is_not_promoted() {
    let dir = folder();
    let store = open(dir.path());
    let one = version(&store, "one").expect("registers");
    rot(&store, &one.outputs["model.safetensors"]);
    assert_eq!(code(judge_and_promote(&store, &one)), "object-corrupt");
    assert_eq!(champion(&store), None);
}

#[test]
fn an_alias_that_moved_meanwhile_is_a_conflict() {
    let dir = folder();
    let store = open(dir.path());
    let one = version(&store, "one").expect("registers");
    let two = version(&store, "two").expect("registers");
    let asked_before = request(&store, &two, force("urgent")).expect("asked");
    judge_and_promote(&store, &one).expect("promotes");
    says(
        store.promote(&asked_before, NOW),
        expect![[r#"
        promotion-conflict: `flights@champion` moved while flights@2 was being promoted
        the alias now points to flights@1 (moved 2023-11-14T22:13:20Z by ada)
        nothing was promoted
        hint: `karat gate flights@2` judges it against flights@1
    "#]],
    );
    let absent = crate::PromoteRequest { alias: name("staging"), expected_seq: 3, ..asked_before };
    assert_eq!(code(store.promote(&absent, NOW)), "promotion-conflict");
    assert_eq!(champion(&store), Some(1));
}

#[test]
fn a_verdict_against_a_former_champion_is_a_conflict() {
    let dir = folder();
    let store = open(dir.path());
    let one = version(&store, "one").expect("registers");
    let two = version(&store, "two").expect("registers");
    let unbaselined = keep(&store, &verdict(&two, None, Outcome::Pass));
    judge_and_promote(&store, &one).expect("promotes");
    let promote =
        |to, digest| store.promote(&request(&store, to, Authority::Verdict(digest))?, NOW);
    says(
        promote(&two, unbaselined.expect("kept")),
        expect![[r#"
        promotion-conflict: `flights@champion` moved after flights@2 was judged
        judged against no baseline; the alias now points to flights@1 (moved 2023-11-14T22:13:20Z by ada)
        nothing was promoted
        hint: `karat gate flights@2` judges it against flights@1
    "#]],
    );

    let three = version(&store, "three").expect("registers");
    let against_one = keep(&store, &verdict(&three, Some(&one), Outcome::Pass)).expect("kept");
    judge_and_promote(&store, &two).expect("judged against one, promoted");
    says(
        promote(&three, against_one),
        expect![[r#"
        promotion-conflict: `flights@champion` moved after flights@3 was judged
        judged against flights@1; the alias now points to flights@2 (moved 2023-11-14T22:13:20Z by ada)
        nothing was promoted
        hint: `karat gate flights@3` judges it against flights@2
    "#]],
    );
    // Back at what it was judged against, the same verdict holds again.
    rollback(&store).expect("back to one");
    promote(&three, against_one).expect("judged against what is there");

    // A fixed baseline that the alias had left before the candidate existed is no conflict.
    let four = version(&store, "four").expect("registers");
    let pinned = keep(&store, &verdict(&four, Some(&one), Outcome::Pass)).expect("kept");
    promote(&four, pinned).expect("a pinned baseline");
    assert_eq!(champion(&store), Some(4));
}

#[test]
fn promoting_what_is_there_already_changes_nothing() {
    let dir = folder();
    let store = open(dir.path());
    let one = version(&store, "one").expect("registers");
    let first = judge_and_promote(&store, &one).expect("promotes");
    let again = store
        .promote(&request(&store, &one, force("again")).expect("asked"), NOW)
        .expect("no change");
    assert_eq!(again, first);
    assert_eq!(store.history(&name("flights"), &name("champion")).expect("readable"), [first]);
}

#[test]
fn of_two_concurrent_promotions_exactly_one_wins() {
    let dir = folder();
    let store = open(dir.path());
    let base = version(&store, "base").expect("registers");
    let rivals =
        [version(&store, "left").expect("registers"), version(&store, "right").expect("registers")];
    judge_and_promote(&store, &base).expect("promotes");
    for round in 0..20 {
        let barrier = Barrier::new(2);
        let handles = [open(dir.path()), open(dir.path())];
        let asked = [0, 1].map(|i| request(&store, &rivals[i], force("race")).expect("asked"));
        let results: Vec<Result<_, StoreError>> = std::thread::scope(|scope| {
            let threads = [0, 1].map(|i| {
                let (store, asked, barrier) = (&handles[i], &asked[i], &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    store.promote(asked, NOW)
                })
            });
            threads.into_iter().map(|it| it.join().expect("no panic")).collect()
        });
        let won: Vec<u32> = results.iter().flatten().map(|it| it.to).collect();
        assert_eq!(won.len(), 1, "round {round}: {results:?}");
        assert_eq!(champion(&store), Some(won[0]), "round {round}");
        let lost: Vec<&str> = results
            .iter()
            .filter_map(|it| it.as_ref().err())
            .map(|it| it.code().as_str())
            .collect();
        assert_eq!(lost, ["promotion-conflict"], "round {round}");
        store.promote(&request(&store, &base, force("reset")).expect("asked"), NOW).expect("reset");
    }
    assert_eq!(store.history(&name("flights"), &name("champion")).expect("readable").len(), 41);
    assert_eq!(problems(&store), Vec::<String>::new());
}

fn promoted(store: &Store, keys: &[&str]) {
    for key in keys {
        judge_and_promote(store, &version(store, key).expect("registers")).expect("promotes");
    }
}

#[test]
fn rollback_goes_to_the_champion_before_and_never_forward() {
    let dir = folder();
    let store = open(dir.path());
    assert_eq!(
        code(store.rollback_target(&name("flights"), &name("champion"))),
        "rollback-impossible"
    );
    promoted(&store, &["one", "two", "three"]);
    assert_eq!(rollback(&store).expect("back").to, 2);
    assert_eq!(rollback(&store).expect("further back").to, 1);
    says(
        rollback(&store),
        expect![[r#"
        rollback-impossible: `flights@champion` cannot be rolled back: no earlier version held it by a verdict and is whole
        the alias was left as it is
    "#]],
    );
    promoted(&store, &["four"]);
    assert_eq!(rollback(&store).expect("back").to, 1);
    let history = store.history(&name("flights"), &name("champion")).expect("readable");
    let moves: Vec<u32> = history.iter().map(|it| it.to).collect();
    assert_eq!(moves, [1, 2, 3, 2, 1, 4, 1]);
    assert_eq!(history[3].why(), "rollback: worse live");
    assert_eq!(problems(&store), Vec::<String>::new());
}

#[test]
fn rollback_skips_what_was_forced_and_what_is_damaged() {
    let dir = folder();
    let store = open(dir.path());
    promoted(&store, &["one", "two"]);
    let three = version(&store, "three").expect("registers");
    store.promote(&request(&store, &three, force("demo")).expect("asked"), NOW).expect("forced");
    promoted(&store, &["four"]);
    let target = || store.rollback_target(&name("flights"), &name("champion"));
    assert_eq!(target().expect("two").version, 2);
    let two = store.version(&name("flights"), 2).expect("there");
    rot(&store, &two.outputs["model.safetensors"]);
    assert_eq!(target().expect("one").version, 1);
    let one = store.version(&name("flights"), 1).expect("there");
    std::fs::remove_file(store.path(&one.manifest)).expect("removed");
    let error = target().expect_err("nothing is left");
    assert_eq!(error.code().as_str(), "rollback-impossible");
    assert_eq!(error.details().len(), 4, "{:?}", error.details());

    let never = Authority::Rollback { reason: "a trick".to_owned() };
    let five = version(&store, "five").expect("registers");
    assert_eq!(
        code(store.promote(&request(&store, &five, never).expect("asked"), NOW)),
        "rollback-impossible"
    );
}

#[test]
fn what_was_decided_cannot_be_edited() {
    let dir = folder();
    let store = open(dir.path());
    promoted(&store, &["one", "two"]);
    for sql in [
        "UPDATE promotion SET actor = 'nobody'",
        "DELETE FROM promotion",
        "INSERT OR REPLACE INTO promotion SELECT * FROM promotion WHERE seq = 1",
        "UPDATE version SET manifest = run",
        "DELETE FROM version",
        "UPDATE verdict SET outcome = 'pass'",
        "DELETE FROM verdict",
        "UPDATE alias SET version = 1",
    ] {
        let result = store.commit(|tx| Ok(tx.execute(sql, ())?));
        assert_eq!(code(result), "store-database", "{sql}");
    }
    assert_eq!(champion(&store), Some(2));
}
