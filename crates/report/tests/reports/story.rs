//! No place tells another story: outcome and counts are read back from every format and compared.

use karat_core::{Outcome, summary::RunSummary};
use karat_report::{
    Level, annotations, code_quality, comment_md, github_outputs, junit_xml, model_card,
    openmetrics, report_html, report_json, report_md, step_summary,
};

use crate::{outputs::places, summaries::flights, xml};

/// What one format says: findings by outcome (checks and gate together) and the outcome of all.
fn check(summary: &RunSummary) {
    let findings =
        || summary.checks.iter().chain(summary.verdict.iter().flat_map(|it| &it.findings));
    let n = |outcome| findings().filter(|it| it.outcome == outcome).count();
    let outcome = summary.outcome().expect("decided");
    let word = outcome.word();
    let is_allowed = summary.verdict.as_ref().is_some_and(|it| it.inconclusive_is_allowed);

    let html = xml::parse_html(&report_html(summary));
    let heading = html.walk().find(|it| it.name == "h1").expect("a headline").text();
    let title = html.walk().find(|it| it.name == "title").expect("a title").text();
    assert!(heading.contains(&format!(" {word}: ")), "{heading}");
    assert_eq!(title, format!("{word}: flights"));

    for text in [
        report_md(summary),
        comment_md(summary, None),
        step_summary(summary, None),
        model_card(summary),
    ] {
        assert!(text.contains(&format!(" {word}**: ")), "{text}");
    }
    for (place, text) in [("report.md", report_md(summary)), ("comment", comment_md(summary, None))]
    {
        for outcome in [Outcome::Fail, Outcome::NotApplied, Outcome::Inconclusive] {
            let rows = text.matches(&format!("{}** | ", outcome.word())).count();
            assert_eq!(rows, n(outcome), "{} in {place}", outcome.word());
        }
    }

    let inconclusive = if is_allowed { 0 } else { n(Outcome::Inconclusive) };
    let junit = xml::parse(&junit_xml(summary));
    let count = |key: &str| junit.attributes[key].parse::<usize>().expect("a number");
    assert_eq!(count("failures"), n(Outcome::Fail) + inconclusive);
    assert_eq!(count("errors"), n(Outcome::NotApplied));
    assert_eq!(count("tests"), findings().count() + summary.train.iter().count());
    let is_green = count("failures") + count("errors") == 0;
    let passes = outcome <= Outcome::Warn || (outcome == Outcome::Inconclusive && is_allowed);
    assert_eq!(is_green, passes, "JUnit is green exactly when the step is");

    let errors = annotations(summary, &places());
    let n_errors = errors.iter().filter(|it| it.level == Level::Error).count();
    assert_eq!(n_errors, n(Outcome::Fail) + n(Outcome::NotApplied) + inconclusive);
    assert_eq!(n_errors == 0, passes, "so are the annotations");

    let issues: Vec<serde_json::Value> =
        serde_json::from_str(&code_quality(summary, &places())).expect("an array");
    let severity = |word: &str| issues.iter().filter(|it| it["severity"] == word).count();
    assert_eq!(severity("critical"), n(Outcome::Fail) + n(Outcome::NotApplied));
    assert_eq!(severity("major"), inconclusive);
    assert_eq!(issues.len(), findings().filter(|it| it.outcome != Outcome::Pass).count());

    let outputs = github_outputs(summary);
    assert_eq!(outputs[0], ("verdict", word.replace(' ', "-")));
    let metrics = openmetrics(summary);
    assert!(metrics.contains(&format!("outcome=\"{word}\"")));
    for outcome in [Outcome::Pass, Outcome::Waived, Outcome::Warn, Outcome::Fail] {
        let label = format!("outcome=\"{}\"}} ", outcome.word());
        let counted = metrics
            .lines()
            .filter(|it| it.starts_with("karat_findings"))
            .filter_map(|it| it.split_once(&label)?.1.parse::<usize>().ok())
            .sum::<usize>();
        assert_eq!(counted, n(outcome), "{}", outcome.word());
    }
    let json: RunSummary = serde_json::from_str(&report_json(summary)).expect("a summary");
    assert_eq!(json.outcome(), Some(outcome));
}

#[test]
fn every_format_tells_the_same_outcome_and_counts() {
    check(&flights());

    let mut undecided = flights();
    let verdict = undecided.verdict.as_mut().expect("judged");
    verdict.findings.retain(|it| it.outcome <= Outcome::Inconclusive);
    verdict.outcome = Outcome::Inconclusive;
    check(&undecided);
    undecided.verdict.as_mut().expect("judged").inconclusive_is_allowed = true;
    check(&undecided);

    let mut passed = undecided;
    let verdict = passed.verdict.as_mut().expect("judged");
    verdict.findings.retain(|it| it.outcome <= Outcome::Waived);
    verdict.outcome = Outcome::Pass;
    check(&passed);
    passed.checks[0].outcome = Outcome::Fail;
    check(&passed);
}

#[test]
fn the_same_summary_gives_the_same_bytes() {
    let all = |summary: &RunSummary| {
        [
            report_html(summary),
            report_md(summary),
            report_json(summary),
            junit_xml(summary),
            openmetrics(summary),
            model_card(summary),
            comment_md(summary, Some("https://ci.example/1")),
            step_summary(summary, None),
            code_quality(summary, &places()),
            karat_report::metrics_json(summary),
            format!("{:?}{:?}", annotations(summary, &places()), github_outputs(summary)),
        ]
    };
    // Through its own record, as a later process would read it.
    let back: RunSummary = serde_json::from_str(&report_json(&flights())).expect("a summary");
    assert_eq!(all(&flights()), all(&back));
}
