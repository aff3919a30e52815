//! What CI systems read beside the report: annotations, outputs, the comment, code quality.

use expect_test::{Expect, expect};
use karat_core::{Finding, Outcome, summary::RunSummary};
use karat_report::{
    ANNOTATIONS_MAX, Level, Places, STEP_SUMMARY_LEN_MAX, annotations, code_quality,
    comment_marker, comment_md, github_outputs, report_md, step_summary,
};

use crate::summaries::flights;

pub(crate) fn places() -> Places {
    Places {
        policy: "gate.toml".to_owned(),
        project: "karat.toml".to_owned(),
        lines: [("ranks at all", 9), ("not worse anywhere", 14), ("still calibrated", 20)]
            .map(|(rule, line)| (rule.to_owned(), line))
            .into(),
    }
}

#[track_caller]
fn check_commands(summary: &RunSummary, expected: Expect) {
    let commands: Vec<String> =
        annotations(summary, &places()).iter().map(|it| it.command()).collect();
    expected.assert_eq(&(commands.join("\n") + "\n"));
}

#[test]
fn annotations_point_at_the_rule_worst_first() {
    check_commands(
        &flights(),
        expect![[r#"
            ::error file=gate.toml,line=14,title=gate release%3A not worse anywhere::fail: auc, slice carrier=UA: worse than allowed
            ::error file=gate.toml,line=20,title=gate release%3A still calibrated::not applied: ece_debiased, slice all: the report has no `ece_debiased`
            ::error file=gate.toml,line=14,title=gate release%3A not worse anywhere::inconclusive: auc, slice carrier=HA: 31 rows cannot tell; about 4,900 more labelled rows of carrier=HA would decide it
            ::warning file=karat.toml,title=check%3A leak.single-feature::warn: dep_delay: `dep_delay` alone predicts `late` with AUC 0.991; give `dep_delay` the role `ignore` in karat.toml
            ::notice file=gate.toml,title=gate release%3A log loss holds::waived: log_loss, slice evening: worse than allowed (fail); waived until 2026-12-31 by ana: September labels arrive late
        "#]],
    );
}

#[test]
fn a_gate_without_rules_is_annotated_as_a_whole() {
    let mut summary = flights();
    summary.checks.clear();
    let verdict = summary.verdict.as_mut().expect("judged");
    verdict.findings.clear();
    verdict.outcome = Outcome::NotApplied;
    check_commands(
        &summary,
        expect![[r#"
            ::error title=karat::not applied: gate release refuses flights@2 against flights@1: 0 of 0 rules hold
        "#]],
    );
}

#[test]
fn what_the_policy_lets_through_only_warns() {
    let mut summary = flights();
    let verdict = summary.verdict.as_mut().expect("judged");
    verdict.findings.retain(|it| it.outcome <= Outcome::Inconclusive);
    verdict.outcome = Outcome::Inconclusive;
    let level = |summary: &RunSummary| annotations(summary, &places())[0].level;
    assert_eq!(level(&summary), Level::Error);
    assert!(code_quality(&summary, &places()).contains("\"severity\": \"major\""));
    summary.verdict.as_mut().expect("judged").inconclusive_is_allowed = true;
    assert_eq!(level(&summary), Level::Warning);
    assert!(!code_quality(&summary, &places()).contains("\"severity\": \"major\""));
}

#[test]
fn at_most_ten_annotations_and_the_last_says_how_many_are_missing() {
    let mut summary = flights();
    let verdict = summary.verdict.as_mut().expect("judged");
    for i in 0..40 {
        verdict.findings.push(Finding::new(format!("rule {i}"), "auc", Outcome::Warn, "", ""));
    }
    let shown = annotations(&summary, &places());
    assert_eq!(shown.len(), ANNOTATIONS_MAX);
    let last = shown.last().expect("ten");
    assert!(last.message.starts_with("… and 36 more"), "{}", last.message);
    assert_eq!((last.level, last.file.as_str(), last.line), (Level::Warning, "", None));
    assert!(shown[..3].iter().all(|it| it.level == Level::Error), "errors come first");
}

#[test]
fn outputs_are_always_the_same_names() {
    let shown = |summary: &RunSummary| {
        let lines = github_outputs(summary).into_iter().map(|(name, it)| format!("{name}={it}\n"));
        lines.collect::<String>()
    };
    expect![[r#"
        verdict=fail
        project=flights
        gate=release
        candidate=flights@2
        baseline=flights@1
        snapshot=flights@9f3c21ab
        verdict-digest=sha256:11e221bd1b7fc99544f3f765b0c39dd2786e636c3422d6bec026d1ed03884cac
        promoted=false
        headline=fail: gate release refuses flights@2 against flights@1: 2 of 5 rules hold, 1 fails, 1 could not be applied, 1 is waived
    "#]]
    .assert_eq(&shown(&flights()));
    expect![[r#"
        verdict=none
        project=flights
        gate=
        candidate=
        baseline=
        snapshot=flights@9f3c21ab
        verdict-digest=
        promoted=false
        headline=nothing was decided: no check and no gate was asked
    "#]]
    .assert_eq(&shown(&crate::summaries::empty()));
}

#[test]
fn code_quality_is_as_gitlab_documents_it_and_keeps_its_fingerprints() {
    let issues = |summary: &RunSummary| -> Vec<serde_json::Value> {
        serde_json::from_str(&code_quality(summary, &places())).expect("an array")
    };
    let found = issues(&flights());
    assert_eq!(found.len(), 5);
    expect![[r#"
        {
          "categories": [
            "Bug Risk"
          ],
          "check_name": "karat gate release: not worse anywhere",
          "description": "fail: not worse anywhere, auc, slice carrier=UA: worse than allowed",
          "fingerprint": "FINGERPRINT",
          "location": {
            "lines": {
              "begin": 14
            },
            "path": "gate.toml"
          },
          "severity": "critical",
          "type": "issue"
        }"#]]
    .assert_eq(
        &serde_json::to_string_pretty(&found[0])
            .expect("JSON")
            .replace(found[0]["fingerprint"].as_str().expect("text"), "FINGERPRINT"),
    );
    let prints: std::collections::BTreeSet<&str> =
        found.iter().filter_map(|it| it["fingerprint"].as_str()).collect();
    assert_eq!(prints.len(), 5, "no two are taken for one");

    let mut later = flights();
    let verdict = later.verdict.as_mut().expect("judged");
    verdict.findings[2].message = "worse by other numbers".to_owned();
    assert_eq!(issues(&later)[0]["fingerprint"], found[0]["fingerprint"], "still the same issue");
}

#[test]
fn the_comment_begins_with_its_marker_and_folds_the_record() {
    let summary = flights();
    let text = comment_md(&summary, Some("https://ci.example/run/7"));
    assert!(
        text.starts_with("<!-- karat:flights:release -->\n# **✗ fail**: gate `release` refuses")
    );
    assert!(text.contains("\n## Rules\n") && text.contains("\n## Next\n"));
    assert!(text.contains("<details><summary>Lineage</summary>") && !text.contains("## Lineage"));
    assert!(!text.contains("https://"), "nothing was left out, so there is no link");
}

#[test]
fn markers_of_different_gates_differ_and_none_ends_the_comment() {
    let marker = |project: &str, gate: &str| {
        let mut summary = flights();
        summary.project = project.to_owned();
        summary.verdict.as_mut().expect("judged").gate = gate.to_owned();
        comment_marker(&summary)
    };
    assert_eq!(marker("a:b", "c"), "<!-- karat:a%3Ab:c -->");
    assert_ne!(marker("a:b", "c"), marker("a", "b:c"));
    assert_eq!(marker("--><h1>", "ü"), "<!-- karat:--%3E%3Ch1%3E:%C3%BC -->");
    assert!(marker(&"x".repeat(100_000), &"y".repeat(100_000)).len() < 200);
}

#[test]
fn what_is_cut_ends_with_a_link() {
    let mut summary = flights();
    let long = "`|<𝔘> ".repeat(80);
    let verdict = summary.verdict.as_mut().expect("judged");
    for i in 0..600 {
        let rule = format!("rule {i}");
        verdict.findings.push(Finding::new(rule, &long, Outcome::Inconclusive, &long, &long));
    }
    let link = Some("https://ci.example/run/7?a=(b)#c");
    for (text, len_max, link) in [
        (
            comment_md(&summary, link),
            65_536,
            "[the whole report](<https://ci.example/run/7?a=(b)#c>)",
        ),
        (
            step_summary(&summary, link),
            STEP_SUMMARY_LEN_MAX,
            "(<https://ci.example/run/7?a=(b)#c>)",
        ),
        (report_md(&summary), 65_536, "[the whole report](<report.html>)"),
        (
            comment_md(&summary, Some("javascript:alert(1)")),
            65_536,
            "the whole report: `javascript:alert(1)`",
        ),
        (
            comment_md(&summary, Some("https://ci.example/> [x](http://e.vil)")),
            65_536,
            "the whole report: <code>https",
        ),
    ] {
        assert!(text.len() <= len_max, "{} bytes", text.len());
        assert!(20_000 < text.len(), "{} bytes: the room is used", text.len());
        let last = text.trim_end().lines().last().unwrap_or_default();
        assert!(last.contains(link), "{last}");
    }
}
