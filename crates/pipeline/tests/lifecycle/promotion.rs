//! An alias moves only by compare-and-swap, and only with a passing verdict, by recorded force, or back.

use karat_core::{Event, Exit, Failure, Outcome, Step, port::NeverStop, summary::PromotionSummary};
use karat_pipeline::{AfterPass, CHAMPION, exit_of};
use karat_store::{Authority, Store};

use crate::bench::{Bench, POLICY, Seen, champion, held, name, rot, version};

fn promote(
    bench: &Bench,
    store: &Store,
    to: u32,
    authority: Authority,
) -> Result<PromotionSummary, Failure> {
    let lab = bench.lab(store, &NeverStop);
    lab.promote(&mut Seen::default(), &version(store, to), &name(CHAMPION), authority)
}

fn force(bench: &Bench, store: &Store, to: u32) -> PromotionSummary {
    promote(bench, store, to, Authority::Forced { reason: "trying".to_owned() }).expect("forced")
}

fn rollback(bench: &Bench, store: &Store) -> Result<PromotionSummary, Failure> {
    let lab = bench.lab(store, &NeverStop);
    lab.rollback(&mut Seen::default(), &name("fake"), &name(CHAMPION), "it was worse")
}

#[test]
fn a_first_version_is_promoted_on_absolute_rules() {
    let bench = Bench::new();
    let store = bench.store();
    let first = bench.pass(&store, "").done();
    let promotion = first.summary.promotion.expect("a promotion");
    assert!(first.summary.verdict.expect("judged").is_unbaselined);
    assert_eq!((promotion.from, promotion.to.as_deref()), (None, Some("fake@1")));
    assert!(promotion.is_moved && promotion.reason.starts_with("verdict "), "{}", promotion.reason);
    let history = store.history(&name("fake"), &name(CHAMPION)).expect("readable");
    assert_eq!(
        history[0].authority,
        Authority::Verdict(first.summary.verdict_digest.expect("kept"))
    );
    assert_eq!(history[0].actor, "tester");
}

#[test]
fn a_worse_candidate_fails_and_the_champion_stays() {
    let bench = Bench::new();
    let store = bench.store();
    assert_eq!(bench.pass(&store, "").done().exit, Exit::Pass);
    bench.skill(0.2);
    let worse = bench.pass(&store, "train.seed=2").done();
    assert_eq!(worse.exit.code(), 1);
    let promotion = worse.summary.promotion.expect("a line");
    assert_eq!((promotion.is_moved, promotion.to.as_deref()), (false, Some("fake@1")));
    assert_eq!(promotion.reason, "the verdict is fail");
    assert_eq!(held(&store), [1]);

    let lab = bench.lab(&store, &NeverStop);
    let failure = lab
        .passing_verdict(&version(&store, 2), &bench.policy(), &name(CHAMPION))
        .expect_err("it failed");
    assert_eq!((failure.code.as_str(), failure.exit), ("verdict-not-passed", Exit::Fail));
    assert!(failure.details.iter().any(|it| it.contains("still points to fake@1")));
}

#[test]
fn too_few_rows_are_inconclusive_and_block_unless_allowed() {
    let mut bench = Bench::new();
    let store = bench.store();
    let few = POLICY.replace("min = 0.6", "min = 0.6\nn_rows_min = 1000000");
    bench.policy.clone_from(&few);
    let blocked = bench.pass(&store, "").done();
    assert_eq!(blocked.exit.code(), 4);
    assert_eq!(champion(&store), None);
    bench.policy = few.replace("n_resamples", "inconclusive = \"allow\"\nn_resamples");
    let allowed = bench.pass(&store, "").done();
    assert_eq!(allowed.exit, Exit::Pass);
    assert_eq!(allowed.summary.verdict.expect("judged").outcome, Outcome::Inconclusive);
    assert_eq!(champion(&store), Some(1));
}

/// A third version is judged while a colleague forces the second one.
fn overtaken(bench: &Bench, store: &Store) -> Failure {
    let leave = AfterPass::Leave;
    let _ = bench.pass_with(store, "train.seed=2", leave, &NeverStop, |_| {}).done();
    let colleague = bench.store();
    bench
        .pass_with(store, "train.seed=3", AfterPass::Promote, &NeverStop, |event| {
            if matches!(event, Event::StepStarted { step: Step::Gate, .. }) {
                force(bench, &colleague, 2);
            }
        })
        .failed()
}

#[test]
fn an_alias_moved_while_the_gate_ran_is_a_conflict() {
    let bench = Bench::new();
    let store = bench.store();
    let _ = bench.pass(&store, "").done();
    let failure = overtaken(&bench, &store);
    assert_eq!((failure.code.as_str(), failure.exit), ("promotion-conflict", Exit::Run));
    assert!(failure.details.contains(&"nothing was promoted".to_owned()), "{failure:?}");
    assert_eq!(held(&store), [1, 2], "the colleague's promotion stands");

    // The same command judges against what is there now.
    let again = bench.pass(&store, "train.seed=3").done();
    assert_eq!(again.summary.verdict.expect("judged").baseline, "fake@2");
    assert_eq!(held(&store), [1, 2, 3]);
}

/// Such a verdict holds whatever the alias points to, and yet whoever came second does not know what he replaces.
#[test]
fn it_is_a_conflict_too_where_the_gate_compares_with_nothing() {
    let mut bench = Bench::new();
    bench.policy = "version = 1\n[gate.release]\nbaseline = \"none\"\n\
                    [[gate.release.rule]]\nname = \"ranks\"\nmetric = \"auc\"\nmin = 0.6\n"
        .to_owned();
    let store = bench.store();
    let _ = bench.pass(&store, "").done();
    let failure = overtaken(&bench, &store);
    assert_eq!(failure.code.as_str(), "promotion-conflict");
    assert_eq!(held(&store), [1, 2]);
}

#[test]
fn a_verdict_against_an_earlier_champion_moves_nothing() {
    let bench = Bench::new();
    let store = bench.store();
    let _ = bench.pass(&store, "").done();
    let leave = AfterPass::Leave;
    let second = bench.pass_with(&store, "train.seed=2", leave, &NeverStop, |_| {}).done();
    let _ = bench.pass(&store, "train.seed=3").done();
    let authority = Authority::Verdict(second.summary.verdict_digest.expect("kept"));
    let failure = promote(&bench, &store, 2, authority).expect_err("judged against fake@1");
    assert_eq!(failure.code.as_str(), "promotion-conflict");
    assert_eq!(held(&store), [1, 3]);
}

#[test]
fn an_older_pass_does_not_outlive_a_newer_fail() {
    let bench = Bench::new();
    let store = bench.store();
    bench.skill(0.5);
    let _ = bench.pass(&store, "").done();
    let leave = AfterPass::Leave;
    let _ = bench.pass_with(&store, "train.seed=2", leave, &NeverStop, |_| {}).done();
    let policy = bench.policy();
    let lab = bench.lab(&store, &NeverStop);
    let asked = || lab.passing_verdict(&version(&store, 2), &policy, &name(CHAMPION));
    asked().expect("it passed against fake@1");

    bench.skill(1.0);
    assert_eq!(bench.pass(&store, "train.seed=3").done().exit, Exit::Pass);
    let verdict = bench.judge(&store, 2);
    assert_eq!(exit_of(&verdict), Exit::Fail, "against fake@3");
    assert_eq!(asked().expect_err("its last word is fail").code.as_str(), "verdict-not-passed");
}

#[test]
fn a_verdict_under_another_policy_is_outdated_and_none_is_missing() {
    let mut bench = Bench::new();
    let store = bench.store();
    let _ = bench.pass(&store, "").done();
    bench.policy = POLICY.replace("min = 0.6", "min = 0.61");
    let code = |bench: &Bench| {
        let lab = bench.lab(&store, &NeverStop);
        let failure = lab.passing_verdict(&version(&store, 1), &bench.policy(), &name(CHAMPION));
        failure.expect_err("refused").code.as_str()
    };
    assert_eq!(code(&bench), "verdict-outdated");

    let fresh = Bench::new();
    let store = fresh.store();
    let lab = fresh.lab(&store, &NeverStop);
    let trained =
        lab.train(&mut Seen::default(), &Bench::project(""), &fresh.frozen(&lab)).expect("trains");
    let missing = lab.passing_verdict(&trained.version, &fresh.policy(), &name(CHAMPION));
    assert_eq!(missing.expect_err("never judged").code.as_str(), "verdict-missing");
}

#[test]
fn force_and_rollback_are_recorded_with_their_reasons() {
    let bench = Bench::new();
    let store = bench.store();
    let _ = bench.pass(&store, "").done();
    bench.skill(0.2);
    let _ = bench.pass(&store, "train.seed=2").done();
    let forced = force(&bench, &store, 2);
    assert_eq!(
        (forced.from.as_deref(), forced.reason.as_str()),
        (Some("fake@1"), "forced: trying")
    );
    let back = rollback(&bench, &store).expect("fake@1 held it by a verdict");
    assert_eq!((back.from.as_deref(), back.to.as_deref()), (Some("fake@2"), Some("fake@1")));
    let history = store.history(&name("fake"), &name(CHAMPION)).expect("readable");
    let recorded: Vec<_> = history.iter().skip(1).map(|it| (it.why(), it.actor.as_str())).collect();
    assert_eq!(
        recorded,
        [("forced: trying".to_owned(), "tester"), ("rollback: it was worse".to_owned(), "tester")]
    );
}

#[test]
fn after_a_rollback_the_champion_is_judged_as_it_was_at_first() {
    let bench = Bench::new();
    let store = bench.store();
    let first = bench.pass(&store, "").done();
    let _ = bench.pass(&store, "train.seed=2").done();
    rollback(&bench, &store).expect("back to fake@1");
    let again = bench.pass(&store, "");
    assert!(again.cached().iter().all(|(_, is_cached)| *is_cached), "{:?}", again.cached());
    assert_eq!(again.done().summary.verdict, first.summary.verdict);
    assert_eq!(held(&store), [1, 2, 1]);
}

#[test]
fn a_rollback_goes_only_to_what_is_whole() {
    let bench = Bench::new();
    let store = bench.store();
    assert_eq!(
        rollback(&bench, &store).expect_err("nothing yet").code.as_str(),
        "rollback-impossible"
    );
    let first = bench.pass(&store, "").done();
    let _ = bench.pass(&store, "train.seed=2").done();
    rot(&store.path(&first.outputs["model.safetensors"]));
    let failure = rollback(&bench, &store).expect_err("fake@1 is damaged");
    assert_eq!(failure.code.as_str(), "rollback-impossible");
    assert!(failure.details.iter().any(|it| it.contains("fake@1")), "{failure:?}");
    assert_eq!(champion(&store), Some(2));
}
