//! `junit.xml`: one suite per step, one test case per finding.
//!
//! `fail` and `inconclusive` are failures of that type, `not-applied` is an error, `warn` and `waived` pass with their
//! text in `system-out`. The record keeps no time per finding, so all times are 0 and rendering again gives the same
//! bytes. Characters that XML 1.0 cannot carry never get here (`escape`).

use karat_core::{Finding, Outcome, Verdict, summary::RunSummary};

use crate::{escape::markup, number};

/// The checks and the gate as JUnit XML.
#[must_use]
pub fn junit_xml(summary: &RunSummary) -> String {
    let mut suites = Vec::new();
    if !summary.checks.is_empty() {
        suites.push(Suite {
            name: format!("karat check {}", summary.data.snapshot),
            cases: summary.checks.iter().map(|it| Case::of("check", it, false)).collect(),
        });
    }
    if let Some(verdict) = &summary.verdict {
        suites.push(Suite {
            name: format!("karat gate {}", verdict.gate),
            cases: gate_cases(verdict),
        });
    }
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    out.push_str(&format!(
        "<testsuites name=\"karat\"{}>\n",
        counts(suites.iter().flat_map(|it| &it.cases))
    ));
    for suite in &suites {
        out.push_str(&format!(
            "  <testsuite name=\"{}\"{}>\n",
            markup(&suite.name),
            counts(&suite.cases)
        ));
        for case in &suite.cases {
            case.write(&mut out);
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

fn gate_cases(verdict: &Verdict) -> Vec<Case> {
    if verdict.findings.is_empty() {
        // A suite without cases looks green everywhere.
        let finding = Finding::new(
            &verdict.gate,
            "verdict",
            verdict.outcome,
            "at least 1 rule",
            "no rule was applied",
        );
        return vec![Case::of("gate", &finding, verdict.inconclusive_is_allowed)];
    }
    verdict
        .findings
        .iter()
        .map(|it| Case::of("gate", it, verdict.inconclusive_is_allowed))
        .collect()
}

struct Suite {
    name: String,
    cases: Vec<Case>,
}

struct Case {
    class: String,
    name: String,
    result: Answer,
    /// The first line, for lists.
    message: String,
    /// The whole finding.
    text: Vec<String>,
}

enum Answer {
    Passed,
    PassedWithText,
    Failed(&'static str),
    Error,
}

impl Case {
    fn of(step: &str, finding: &Finding, inconclusive_is_allowed: bool) -> Self {
        let result = match finding.outcome {
            Outcome::Pass => Answer::Passed,
            Outcome::Waived | Outcome::Warn => Answer::PassedWithText,
            // The step itself ends with exit 0 then, and no report may tell another story.
            Outcome::Inconclusive if inconclusive_is_allowed => Answer::PassedWithText,
            Outcome::Inconclusive => Answer::Failed("inconclusive"),
            Outcome::Fail => Answer::Failed("fail"),
            Outcome::NotApplied => Answer::Error,
        };
        Self {
            class: format!("{step}.{}", finding.rule),
            name: finding.subject.clone(),
            result,
            message: finding.message.clone(),
            text: text(finding),
        }
    }

    fn write(&self, out: &mut String) {
        let case = format!(
            "    <testcase classname=\"{}\" name=\"{}\" time=\"0\"",
            markup(&self.class),
            markup(&self.name)
        );
        let message = markup(&self.message);
        let (open, close) = match self.result {
            Answer::Passed => {
                out.push_str(&format!("{case}/>\n"));
                return;
            }
            Answer::PassedWithText => ("<system-out>".to_owned(), "</system-out>"),
            Answer::Failed(kind) => {
                (format!("<failure type=\"{kind}\" message=\"{message}\">"), "</failure>")
            }
            Answer::Error => {
                (format!("<error type=\"not-applied\" message=\"{message}\">"), "</error>")
            }
        };
        let lines: Vec<String> = self.text.iter().map(|it| markup(it)).collect();
        out.push_str(&format!(
            "{case}>\n      {open}{}{close}\n    </testcase>\n",
            lines.join("\n")
        ));
    }
}

/// A finding as lines.
fn text(finding: &Finding) -> Vec<String> {
    let mut lines = vec![format!("{}: {}", finding.outcome.word(), finding.message)];
    lines.extend(finding.value.map(|it| format!("value: {}", number::value(it))));
    lines.extend(finding.interval.map(|it| format!("interval: {}", number::interval(it))));
    lines.push(format!("bound: {}", finding.bound));
    lines.extend(finding.n_rows.map(|it| format!("rows: {}", karat_core::thousands(it))));
    lines.extend(
        finding.numbers.iter().map(|(key, value)| format!("{key}: {}", number::value(*value))),
    );
    lines.extend(finding.examples.iter().map(|it| format!("example: {it}")));
    lines.extend(finding.advice.iter().map(|it| format!("advice: {it}")));
    lines
}

/// The counting attributes of a suite, or of all.
fn counts<'a>(cases: impl IntoIterator<Item = &'a Case>) -> String {
    let (mut tests, mut failures, mut errors) = (0, 0, 0);
    for case in cases {
        tests += 1;
        match case.result {
            Answer::Passed | Answer::PassedWithText => {}
            Answer::Failed(_) => failures += 1,
            Answer::Error => errors += 1,
        }
    }
    format!(
        " tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"0\" time=\"0\""
    )
}
