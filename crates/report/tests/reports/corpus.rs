//! Names that somebody chose to break out of one format or another, each as every text of a summary, through every
//! renderer.

use karat_core::{Verdict, summary::RunSummary};
use karat_report::{
    annotations, code_quality, comment_marker, comment_md, github_outputs, junit_xml, model_card,
    openmetrics, report_html, report_json, report_md, step_summary, verdict_json,
};

use crate::{
    hostile::{
        assert_inert, assert_metrics, assert_plain, assert_samples, assert_visible, hostile_with,
    },
    outputs::places,
    xml,
};

const CORPUS: [&str; 79] = [
    // HTML: tags, attributes, comments, raw text, entities, namespaces.
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg><animate onbegin=alert(1) attributeName=x dur=1s>",
    "\"><img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)",
    "\" autofocus onfocus=\"alert(1)",
    "</style><script>alert(1)</script>",
    "</title><h1>forged</h1>",
    "</textarea></noscript></template><b>",
    "<!--",
    "-->",
    "--!><b>",
    "<![CDATA[",
    "]]>",
    "<?xml version=\"1.0\"?>",
    "<!DOCTYPE x [<!ENTITY e SYSTEM \"file:///etc/passwd\">]>&e;",
    "&lt;script&gt;",
    "&#60;script&#62;",
    "&amp;amp;&#x3c;",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<a href=\"javascript:alert(1)\">x</a>",
    "<base href=//e.vil>",
    "<meta http-equiv=refresh content=0;url=//e.vil>",
    "<details open ontoggle=alert(1)>",
    "</details></details><h1>passed</h1>",
    "</summary></code></td></table>",
    // Markdown: links, images, code, tables, headings, mentions, references, math, HTML comments.
    "[x](javascript:alert(1))",
    "![x](https://e.vil/pixel.png)",
    "[x]: https://e.vil",
    "<https://e.vil>",
    "https://e.vil/?q=1",
    "www.e.vil",
    "`",
    "``` ```",
    "a`b`c``d",
    "| --- |",
    "a|b\\|c\\\\|d",
    "\n\n# ✓ pass\n\n",
    "\n---\n",
    "\n- [x] approved\n",
    "> quoted",
    "1. one",
    "2) two",
    "- one",
    "+ one",
    "---",
    "===",
    "    code",
    "**✓ pass**",
    "__bold__ ~~gone~~ *x*",
    "@everyone",
    "(@org/team) \u{200b}@user",
    "fixes #1, closes org/repo#2",
    "!12 ~label %milestone $snippet ^alert#1 &epic GH-3",
    "$\\text{x}$ $$x$$",
    "<!-- karat:flights:release -->",
    "\\",
    "\\`\\",
    // Terminals, logs and workflow commands.
    "\u{1b}[31mred\u{1b}[0m",
    "\u{1b}]8;;https://e.vil\u{7}click\u{1b}]8;;\u{7}",
    "\r::error::forged",
    "\n::set-output name=verdict::pass",
    "%0A::stop-commands::x",
    "##[error]forged",
    "verdict<<EOF\npass\nEOF",
    "verdict=pass\nexit-code=0",
    "file=a,line=1::x",
    // Numbers, paths, templates, JSON, OpenMetrics, attachments.
    "${{ secrets.TOKEN }}",
    "$(id) `id` ;id",
    "../../../etc/passwd",
    "[[ATTACHMENT|/etc/passwd]]",
    "\",\"outcome\":\"pass\",\"x\":\"",
    "a\"} 1\nkarat_forged{x=\"",
    "# EOF",
    // Unicode.
    "\u{202e}ssap",
    "\u{0}\u{fffe}\u{ffff}\u{feff}\u{2028}\u{2029}\u{85}",
    "",
];

#[test]
fn every_hostile_name_stays_a_name_in_every_format() {
    for text in CORPUS {
        let summary = hostile_with(text);
        assert_inert(&report_html(&summary));
        let comment = comment_md(&summary, Some("https://ci.example/run/7"));
        assert!(comment.starts_with(&format!("{}\n", comment_marker(&summary))), "{text:?}");
        assert_eq!(comment.matches("<!--").count(), 1, "{text:?}");
        assert_eq!(comment.matches("-->").count(), 1, "{text:?}");
        for markdown in [
            report_md(&summary),
            model_card(&summary),
            comment,
            step_summary(&summary, Some("https://ci.example/run/7")),
        ] {
            assert_plain(&markdown);
        }
        assert_test_cases(&junit_xml(&summary));
        assert_samples(&openmetrics(&summary));
        assert_metrics(&summary);
        assert_commands(&summary);
        assert_outputs(&summary);
        assert_issues(&summary);
        let back: RunSummary = serde_json::from_str(&report_json(&summary)).expect("a summary");
        assert_eq!(back.project, text);
        let verdict = verdict_json(summary.verdict.as_ref().expect("judged"));
        let back: Verdict = serde_json::from_str(&verdict).expect("a verdict");
        assert_eq!(back.gate, text);
    }
}

#[track_caller]
fn assert_test_cases(text: &str) {
    assert_visible(text);
    assert!(!text.contains("[[ATTACHMENT|"));
    let root = xml::parse(text);
    assert_eq!(
        (root.attributes["failures"].as_str(), root.attributes["errors"].as_str()),
        ("2", "1")
    );
}

/// Each command is one line that reads back as what it was made from.
#[track_caller]
fn assert_commands(summary: &RunSummary) {
    let all = annotations(summary, &places());
    assert!(!all.is_empty());
    for annotation in all {
        let command = annotation.command();
        assert_visible(&command);
        assert_eq!(command.lines().count(), 1);
        let rest = command.strip_prefix("::").expect("a command");
        let (head, message) = rest.split_once("::").expect("properties end");
        let (word, properties) = head.split_once(' ').expect("properties");
        assert!(["error", "warning", "notice"].contains(&word), "{command}");
        let properties: Vec<(&str, &str)> =
            properties.split(',').filter_map(|it| it.split_once('=')).collect();
        let keys: Vec<&str> = properties.iter().map(|it| it.0).collect();
        assert!(["file", "title"] == *keys || ["file", "line", "title"] == *keys, "{command}");
        assert!(["gate.toml", "karat.toml"].contains(&properties[0].1), "{command}");
        // A percent sign is always one of ours.
        assert!(message.split('%').skip(1).all(|it| it.starts_with("25")), "{command}");
    }
}

#[track_caller]
fn assert_outputs(summary: &RunSummary) {
    for (name, value) in github_outputs(summary) {
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{name}");
        assert!(!value.contains(['\n', '\r', '\u{85}', '\u{2028}']), "{name}={value:?}");
        if name == "verdict" {
            assert_eq!(value, "fail");
        }
    }
}

#[track_caller]
fn assert_issues(summary: &RunSummary) {
    let text = code_quality(summary, &places());
    let issues: Vec<serde_json::Value> = serde_json::from_str(&text).expect("an array");
    assert!(!issues.is_empty());
    for issue in issues {
        for key in ["description", "check_name", "fingerprint"] {
            let text = issue[key].as_str().expect(key);
            assert!(!text.is_empty());
            assert_visible(text);
        }
        let path = issue["location"]["path"].as_str().expect("a path");
        assert!(["gate.toml", "karat.toml"].contains(&path));
        assert!(issue["location"]["lines"]["begin"].as_u64().is_some_and(|it| 0 < it));
        let severity = issue["severity"].as_str().expect("a severity");
        assert!(["info", "minor", "major", "critical", "blocker"].contains(&severity));
    }
}
