//! The first line and the lead in every situation.

use expect_test::{Expect, expect};
use karat_core::{Finding, Outcome, policy::Reveal, summary::RunSummary};
use karat_report::{junit_xml, report_md};

use crate::summaries::flights;

/// Renders `flights` after `change` and compares everything above the first section.
#[track_caller]
fn check(change: impl FnOnce(&mut RunSummary), expected: Expect) {
    let mut summary = flights();
    change(&mut summary);
    let text = report_md(&summary);
    let (lead, _) = text.split_once("## ").expect("sections follow");
    expected.assert_eq(lead);
}

fn judged(summary: &mut RunSummary, outcome: Outcome) {
    let verdict = summary.verdict.as_mut().expect("judged");
    verdict.outcome = outcome;
    for finding in &mut verdict.findings {
        finding.outcome = Outcome::Pass;
    }
    verdict.findings[3].outcome = outcome;
}

#[test]
fn a_first_version_that_was_promoted() {
    check(
        |summary| {
            judged(summary, Outcome::Pass);
            let verdict = summary.verdict.as_mut().expect("judged");
            verdict.is_unbaselined = true;
            verdict.baseline = "none".to_owned();
            verdict.judged.baseline = None;
            let promotion = summary.promotion.as_mut().expect("asked for");
            promotion.from = None;
            promotion.to = Some("flights@1".to_owned());
            promotion.is_moved = true;
            promotion.reason = String::new();
        },
        expect![[r#"
            # **✓ pass**: gate `release` passes `flights@2`: 5 of 5 rules hold

            `flights@champion` now points to `flights@1`

            No baseline: the policy lets a first version pass on absolute rules alone.

            Rules about changes were judged against the anchor `flights@1` too, so that small losses cannot add up.

            Use 3 of 8 of these rows; 5 are left.

            Each bound is decided one-sided at reliability 95 %, so the intervals shown are two-sided 90 % ones.

        "#]],
    );
}

#[test]
fn inconclusive_that_the_policy_lets_through_says_so_and_is_no_failure_for_ci() {
    let change = |summary: &mut RunSummary| {
        judged(summary, Outcome::Inconclusive);
        summary.verdict.as_mut().expect("judged").inconclusive_is_allowed = true;
        summary.promotion = None;
    };
    check(
        change,
        expect![[r#"
            # **? inconclusive**: gate `release` cannot tell about `flights@2` against `flights@1`: 4 of 5 rules hold, 1 lacks rows

            The policy lets an inconclusive verdict end with exit 0.

            Rules about changes were judged against the anchor `flights@1` too, so that small losses cannot add up.

            Use 3 of 8 of these rows; 5 are left.

            Each bound is decided one-sided at reliability 95 %, so the intervals shown are two-sided 90 % ones.

        "#]],
    );
    let mut summary = flights();
    change(&mut summary);
    assert!(junit_xml(&summary).contains("failures=\"0\" errors=\"0\""));
    summary.verdict.as_mut().expect("judged").inconclusive_is_allowed = false;
    assert!(junit_xml(&summary).contains("<failure type=\"inconclusive\""));
}

#[test]
fn failed_checks_speak_before_a_verdict() {
    check(
        |summary| {
            summary.checks[0].outcome = Outcome::Fail;
            summary.train = None;
            summary.verdict = None;
            summary.promotion = None;
        },
        expect![[r#"
            # **✗ fail**: snapshot `flights@9f3c21ab`: 1 of 3 checks holds, 1 fails, 1 warns; nothing was trained

        "#]],
    );
    check(
        |summary| {
            judged(summary, Outcome::Pass);
            summary.checks[0].outcome = Outcome::Fail;
            summary.promotion = None;
        },
        expect![[r#"
            # **✗ fail**: snapshot `flights@9f3c21ab`: 1 of 3 checks holds, 1 fails, 1 warns

            Rules about changes were judged against the anchor `flights@1` too, so that small losses cannot add up.

            Use 3 of 8 of these rows; 5 are left.

            Each bound is decided one-sided at reliability 95 %, so the intervals shown are two-sided 90 % ones.

        "#]],
    );
}

#[test]
fn a_pass_offers_promotion_only_for_a_plain_reference() {
    let mut summary = flights();
    judged(&mut summary, Outcome::Pass);
    summary.promotion = None;
    assert!(report_md(&summary).contains("`karat promote flights@2` moves the alias to it"));
    summary.verdict.as_mut().expect("judged").candidate = "flights@2; rm -rf .".to_owned();
    assert!(!report_md(&summary).contains("karat promote"));
}

#[test]
fn a_gate_without_rules_is_an_error_in_junit_not_an_empty_green_suite() {
    let mut summary = flights();
    let verdict = summary.verdict.as_mut().expect("judged");
    verdict.findings.clear();
    verdict.outcome = Outcome::NotApplied;
    assert!(junit_xml(&summary).contains("<error type=\"not-applied\""));
}

#[test]
fn the_worst_rule_comes_first_in_the_table() {
    let mut summary = flights();
    summary.verdict.as_mut().expect("judged").findings.push(Finding::new(
        "last in the policy",
        "auc, slice evening",
        Outcome::Fail,
        "at least 0.9",
        "auc is 0.6611",
    ));
    let text = report_md(&summary);
    let place = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what} is missing"));
    assert!(place("| `last in the policy` |") < place("| `ranks at all` |"));
    // The number is the rule's place in the policy, whatever the order of the table.
    assert!(text.contains("| 6 | `last in the policy` |"));
}

#[test]
fn the_lead_tells_how_often_the_rows_were_used() {
    let lead = |change: fn(&mut karat_core::verdict::LedgerUse)| {
        let mut summary = flights();
        let verdict = summary.verdict.as_mut().expect("judged");
        change(verdict.ledger.as_mut().expect("counted"));
        report_md(&summary)
    };
    assert!(lead(|_| {}).contains("\nUse 3 of 8 of these rows; 5 are left.\n"));
    assert!(lead(|it| it.n_uses = 8).contains("Use 8 of 8 of these rows; this was the last."));
    assert!(lead(|it| it.n_uses = 9).contains("the budget is spent, only fresh rows can tell."));
    assert!(
        lead(|it| it.n_allowed = None).contains("Use 3 of these rows; the policy sets no budget.")
    );
    assert!(
        lead(|it| it.reveal = Reveal::Verdict)
            .contains("5 are left. Numbers about answers stay unseen")
    );
}
