//! Names and values chosen by somebody who wants to break out of the report.

use karat_core::{Outcome, Verdict, summary::RunSummary};
use karat_report::{
    comment_md, junit_xml, metrics_json, model_card, openmetrics, report_html, report_json,
    report_md, step_summary, verdict_json,
};

use crate::{
    summaries::flights,
    xml::{self, Element},
};

/// Everything that means something somewhere, and what must not be seen as it is: a terminal escape, a mark that
/// reverses text, NUL, a character XML cannot carry.
const HOSTILE: &str = "<script>alert(1)</script>|`x```\r\n# head\n\"'&amp;]]>--></style>\u{1b}[31m\u{202e}\u{0}\u{ffff}\\ @everyone ![i](https://e.vil/x) $x$";

/// [`HOSTILE`] as readers may see it: one line, nothing invisible.
const SHOWN: &str = "<script>alert(1)</script>|`x```\\r\\n# head\\n\"'&amp;]]>--></style>\\u{1b}[31m\\u{202e}\\u{0}\\u{ffff}\\ @everyone ![i](https://e.vil/x) $x$";

/// [`hostile_with`] all of it at once.
pub(crate) fn hostile() -> RunSummary {
    hostile_with(HOSTILE)
}

/// `flights` with every text replaced, once of each outcome, and numbers that are none.
pub(crate) fn hostile_with(hostile: &str) -> RunSummary {
    let text = || hostile.to_owned();
    let mut summary = flights();
    summary.project = text();
    summary.tool = text();
    summary.code.commit = Some(text());
    summary.data.snapshot = text();
    summary.data.splits = vec![(text(), 1, 1)];
    let train = summary.train.as_mut().expect("trained");
    (train.run, train.version, train.task, train.label, train.device) =
        (text(), text(), text(), text(), text());
    train.spec = serde_json::json!({ hostile: { hostile: hostile } });
    train.ended_early = Some(text());
    train.features = vec![(text(), text())];
    train.classes = vec![text(), text()];
    train.losses.push([f64::NAN, f64::INFINITY]);
    train.eval_losses = vec![[1.0, f64::MAX], [2.0, -f64::MAX]];
    train.eval_metrics.push([f64::NAN, 1.0]);
    let verdict = summary.verdict.as_mut().expect("judged");
    (verdict.gate, verdict.candidate, verdict.baseline, verdict.judged.tool) =
        (text(), text(), text(), text());
    for finding in summary.checks.iter_mut().chain(&mut verdict.findings) {
        (finding.rule, finding.subject, finding.bound, finding.message) =
            (text(), text(), text(), text());
        finding.examples = vec![text()];
        finding.advice = Some(text());
        finding.value = Some(f64::NAN);
        finding.interval = Some([f64::NEG_INFINITY, f64::NAN]);
        finding.numbers = [(text(), f64::NAN)].into();
    }
    verdict.findings[0].outcome = Outcome::Waived;
    verdict.findings[1].outcome = Outcome::Warn;
    for cell in &mut verdict.report.cells {
        if cell.slice != "all" {
            cell.slice = text();
        }
        cell.reason = Some(text());
        cell.improvement_interval = Some([f64::NAN, 1.0]);
    }
    verdict.report.cells[0].value = Some(f64::NAN);
    verdict.report.slices[1].slice = text();
    verdict.report.curves.insert(text(), vec![[0.0, 1.0], [f64::NAN, 2.0], [3.0, 4.0]]);
    verdict.report.curves.insert("calibration_rows".to_owned(), vec![[0.5, f64::NAN], [0.2, -1.0]]);
    verdict.anchor = Some(text());
    verdict.judged.code.commit = Some(text());
    for test in &mut verdict.families {
        (test.family, test.slice, test.p) = (text(), text(), f64::NAN);
    }
    verdict.seeds.as_mut().expect("several").seed = -1.0;
    verdict.operational.insert(text(), f64::NAN);
    verdict.operational.insert(format!("{hostile}2"), f64::INFINITY);
    let flipped = &mut verdict.findings[2];
    flipped.numbers = [("wrong_to_right", f64::NAN), ("right_to_wrong", 3.0)]
        .map(|(key, n)| (key.to_owned(), n))
        .into();
    let promotion = summary.promotion.as_mut().expect("asked for");
    (promotion.alias, promotion.reason) = (text(), text());
    (promotion.from, promotion.to) = (Some(text()), Some(text()));
    summary
}

/// What no file may hold: characters that terminals, browsers and XML parsers act on or refuse.
#[track_caller]
pub(crate) fn assert_visible(text: &str) {
    for (number, line) in text.lines().enumerate() {
        let bad = line.chars().find(|it| it.is_control() || matches!(it, '\u{202e}' | '\u{ffff}'));
        assert_eq!(bad, None, "line {}: {line:?}", number + 1);
    }
}

#[test]
fn html_holds_hostile_text_only_as_text() {
    let page = assert_inert(&report_html(&hostile()));
    assert!(page.walk().any(|it| it.name == "code" && it.text() == SHOWN), "shown literally");
}

/// A page in which nothing runs, loads or leads away, whatever its texts are.
#[track_caller]
pub(crate) fn assert_inert(html: &str) -> Element {
    assert_visible(html);
    let page = xml::parse_html(html);
    let names: std::collections::BTreeSet<&str> = page.walk().map(|it| it.name.as_str()).collect();
    for forbidden in
        ["script", "img", "link", "iframe", "object", "base", "form", "foreignObject", "animate"]
    {
        assert!(!names.contains(forbidden), "{forbidden} in {names:?}");
    }
    for element in page.walk() {
        for (key, value) in &element.attributes {
            let is_inside = key == "href" && value.starts_with("#part");
            assert!(!key.starts_with("on") && key != "style" && key != "src", "{key}");
            assert!(is_inside || !key.ends_with("href"), "{key}={value}");
        }
    }
    assert!(!html.to_ascii_lowercase().contains("<script"));
    page
}

#[test]
fn html_policy_allows_exactly_the_one_style_sheet() {
    let page = xml::parse_html(&report_html(&flights()));
    let styles: Vec<&Element> = page.walk().filter(|it| it.name == "style").collect();
    let policy = page
        .walk()
        .find(|it| {
            it.attributes.get("http-equiv").is_some_and(|it| it == "Content-Security-Policy")
        })
        .expect("a policy")
        .attributes["content"]
        .clone();
    assert_eq!(styles.len(), 1);
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
}

#[test]
fn pictures_are_well_formed_named_and_hold_no_number_that_is_none() {
    for summary in [flights(), hostile()] {
        let html = report_html(&summary);
        let page = xml::parse_html(&html);
        let pictures: Vec<&Element> = page.walk().filter(|it| it.name == "svg").collect();
        assert!(4 <= pictures.len(), "{} pictures", pictures.len());
        for picture in pictures {
            let ids: Vec<&str> = picture.attributes["aria-labelledby"].split(' ').collect();
            for id in ids {
                let named: Vec<&Element> = page
                    .walk()
                    .filter(|it| it.attributes.get("id").is_some_and(|it| it == id))
                    .collect();
                assert_eq!(named.len(), 1, "{id}");
                assert!(!named[0].text().is_empty(), "{id}");
            }
            for element in picture.walk() {
                for (key, value) in &element.attributes {
                    assert!(!value.contains("NaN") && !value.contains("inf"), "{key}={value}");
                }
            }
        }
    }
}

#[test]
fn junit_is_well_formed_counts_right_and_maps_every_outcome() {
    let text = junit_xml(&hostile());
    assert_visible(&text);
    let root = xml::parse(&text);
    assert_eq!(root.attributes["tests"], "11");
    assert_eq!(root.attributes["failures"], "2");
    assert_eq!(root.attributes["errors"], "1");
    let suites: Vec<&Element> = root.children().collect();
    assert_eq!(suites.len(), 3);
    assert_eq!(suites[2].attributes["name"], format!("karat gate {SHOWN}"));
    let shape: Vec<String> = suites[2]
        .children()
        .map(|case| {
            assert_eq!(case.attributes["name"], SHOWN);
            assert_eq!(case.attributes["classname"], format!("gate.{SHOWN}"));
            case.children().fold(String::new(), |_, it| {
                assert!(it.text().contains(SHOWN));
                let kind = it.attributes.get("type").map_or("", String::as_str);
                format!("{} {kind}", it.name)
            })
        })
        .collect();
    assert_eq!(
        shape,
        [
            "system-out ",
            "system-out ",
            "failure fail",
            "failure inconclusive",
            "error not-applied",
            "",
            "system-out "
        ]
    );
}

#[test]
fn markdown_tables_keep_their_shape_and_only_our_tags_appear() {
    let hostile = hostile();
    for text in [
        report_md(&hostile),
        model_card(&hostile),
        comment_md(&hostile, None),
        step_summary(&hostile, None),
    ] {
        assert_plain(&text);
        assert!(text.lines().all(|it| !it.starts_with("# head")), "hostile text starts no block");
    }
}

/// Markdown in which texts from outside are only text: tables keep their columns, only our tags appear, nothing links,
/// calls somebody or refers to an issue.
#[track_caller]
pub(crate) fn assert_plain(text: &str) {
    assert_visible(text);
    let mut n_columns = None;
    for (number, line) in text.lines().enumerate() {
        if line.starts_with('|') {
            let found = line.matches('|').count();
            assert_eq!(found, *n_columns.get_or_insert(found), "{line}");
        } else {
            n_columns = None;
        }
        // Two lines are ours: the marker at the top, the link at the end.
        let is_marker = number == 0 && line.starts_with("<!-- karat:") && line.ends_with(" -->");
        let is_link =
            ["[the whole report](<report.html>)", "[the whole report](<https://ci.example/run/7>)"]
                .contains(&line);
        if !is_marker && !is_link {
            assert_plain_line(line);
        }
    }
}

fn assert_plain_line(line: &str) {
    let (prose, tags) = outside_code(line);
    let ours = ["/details", "/summary", "details", "summary"];
    assert!(tags.iter().all(|it| ours.contains(&it.as_str())), "{tags:?} in {line}");
    assert!(!prose.contains("](") && !prose.contains("://"), "{line}");
    assert!(!prose.to_ascii_lowercase().contains("www."), "{line}");
    assert_eq!(prose.matches('*').count() % 4, 0, "only outcomes are bold: {line}");
    // A block that begins with words begins with nothing that opens another.
    let begins = ["  - ", "- "].iter().find_map(|it| line.strip_prefix(it)).unwrap_or(line);
    let after_digits = begins.trim_start_matches(|c: char| c.is_ascii_digit());
    let is_numbered = after_digits != begins && after_digits.starts_with(['.', ')']);
    let opens = |mark| begins.starts_with(mark);
    let is_empty_entry = line == "-";
    assert!(
        is_empty_entry || (!is_numbered && !["-", "+", "=", "    "].into_iter().any(opens)),
        "{line}"
    );
    let characters: Vec<char> = format!(" {prose} ").chars().collect();
    for three in characters.windows(3) {
        let [before, c, after] = three else { continue };
        let calls = *c == '@' && !before.is_alphanumeric() && after.is_alphanumeric();
        let refers = matches!(c, '#' | '!' | '%' | '~' | '$' | '^') && after.is_alphanumeric();
        assert!(!calls && !refers, "{three:?} in {line}");
    }
}

/// What Markdown reads as words: without code, escaped marks and tags; and the tags.
fn outside_code(line: &str) -> (String, Vec<String>) {
    let (mut prose, mut tags, mut rest) = (String::new(), Vec::new(), line);
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\\' => {
                let escaped = rest.chars().next().expect("an escaped mark");
                assert!(escaped.is_ascii_punctuation(), "{line}");
                // What sites look for after rendering is still there, what Markdown acts on is not.
                let is_looked_for = matches!(escaped, '#' | '~' | '$');
                prose.push(if is_looked_for { escaped } else { '\u{fffd}' });
                rest = &rest[1..];
            }
            // An entity is a character that Markdown does not act on.
            '&' => {
                rest = rest.split_once(';').expect("an entity ends").1;
                prose.push('\u{fffd}');
            }
            '`' => rest = rest.split_once('`').expect("a closing backtick").1,
            '<' => {
                let (tag, after) = rest.split_once('>').expect("a tag ends");
                rest = after;
                if tag == "code" {
                    let (inside, after) = rest.split_once("</code>").expect("code ends");
                    assert!(!inside.contains(['<', '`']), "{line}");
                    rest = after;
                } else {
                    tags.push(tag.to_owned());
                }
            }
            c => prose.push(c),
        }
    }
    (prose, tags)
}

#[test]
fn json_of_numbers_that_are_none_still_parses_back() {
    let back: RunSummary = serde_json::from_str(&report_json(&hostile())).expect("a summary");
    assert_eq!(back.project, HOSTILE);
    assert_eq!(back.train.as_ref().map(|it| it.losses.len()), Some(60));
    assert_eq!(
        report_json(&back),
        report_json(&hostile()),
        "what is written once is written again"
    );
    let verdict = hostile().verdict.expect("judged");
    let _: Verdict = serde_json::from_str(&verdict_json(&verdict)).expect("a verdict");
}

#[test]
fn metrics_hold_finite_numbers_only() {
    let metrics = assert_metrics(&hostile());
    assert_eq!(metrics.get("auc"), None, "NaN is left out");
    assert!(metrics["slices"].get(HOSTILE).is_some());
}

#[track_caller]
pub(crate) fn assert_metrics(summary: &RunSummary) -> serde_json::Value {
    fn assert_numbers(value: &serde_json::Value) {
        match value {
            serde_json::Value::Object(map) => map.values().for_each(assert_numbers),
            serde_json::Value::Number(number) => {
                assert!(number.as_f64().is_some_and(f64::is_finite))
            }
            other => panic!("{other}"),
        }
    }
    let metrics: serde_json::Value = serde_json::from_str(&metrics_json(summary)).expect("JSON");
    assert_numbers(&metrics);
    metrics
}

#[test]
fn openmetrics_lines_are_samples_with_closed_labels() {
    assert_samples(&openmetrics(&hostile()));
}

#[track_caller]
pub(crate) fn assert_samples(text: &str) {
    assert_visible(text);
    let mut seen = std::collections::BTreeSet::new();
    assert!(text.ends_with("# EOF\n"));
    for line in text.lines().filter(|it| !it.starts_with("# ")) {
        let (labels, value) = line.rsplit_once("} ").expect("labels, then the value");
        assert!(seen.insert(labels), "twice: {line}");
        assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
        let (_, labels) = labels.split_once('{').expect("labels");
        // Inside quotes every quote and backslash is escaped: unescape left to right and count the bare quotes.
        let (mut n_quotes, mut chars) = (0, labels.chars());
        while let Some(c) = chars.next() {
            match c {
                '\\' => assert!(matches!(chars.next(), Some('\\' | '"')), "{line}"),
                '"' => n_quotes += 1,
                _ => {}
            }
        }
        assert_eq!(n_quotes, 2 * labels.matches("=\"").count().min(n_quotes / 2), "{line}");
        assert_eq!(n_quotes % 2, 0, "{line}");
    }
}
