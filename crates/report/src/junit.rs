//! `junit.xml`: one suite per step, one test case per finding.
//!
//! `fail` and `inconclusive` are failures of that type, `not-applied` is an error, `warn` and `waived` pass with their
//! text in `system-out`. Times come from the record, so rendering again gives the same bytes: it has the training's,
//! and none per finding. Characters that XML 1.0 cannot carry never get here (`escape`).
//!
//! Only what the schema of Jenkins's xUnit plugin knows (`junit-10.xsd`), which GitLab and the usual actions read as
//! well.

use karat_core::{
    Finding, Outcome, Verdict,
    summary::{RunSummary, TrainSummary},
};

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
    if let Some(train) = &summary.train {
        let case = trained(train);
        suites.push(Suite { name: format!("karat train {}", train.version), cases: vec![case] });
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
            "  <testsuite name=\"{}\"{} skipped=\"0\">\n",
            text(&suite.name),
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

/// A training that left no version left no summary of it either, so this case passes.
fn trained(train: &TrainSummary) -> Case {
    let text = train.ended_early.iter().map(|it| format!("ended early: {it}")).collect::<Vec<_>>();
    Case {
        class: "train".to_owned(),
        name: train.run.clone(),
        seconds: train.seconds,
        result: if text.is_empty() { Answer::Passed } else { Answer::PassedWithText },
        message: String::new(),
        text,
    }
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
    seconds: f64,
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
            seconds: 0.0,
            result,
            message: finding.message.clone(),
            text: lines(finding),
        }
    }

    fn write(&self, out: &mut String) {
        let case = format!(
            "    <testcase classname=\"{}\" name=\"{}\" time=\"{}\"",
            text(&self.class),
            text(&self.name),
            time(self.seconds)
        );
        let message = text(&self.message);
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
        let lines: Vec<String> = self.text.iter().map(|it| text(it)).collect();
        out.push_str(&format!(
            "{case}>\n      {open}{}{close}\n    </testcase>\n",
            lines.join("\n")
        ));
    }
}

/// Escaped text. GitLab and Jenkins take `[[ATTACHMENT|path]]` in a case's output for a file to attach, and a name
/// from outside must not choose one.
fn text(text: &str) -> String {
    markup(&text.replace("[[", "[ ["))
}

/// Seconds as the schema writes them: digits, a point, digits. What is no time is none.
fn time(seconds: f64) -> String {
    let seconds = Some(seconds).filter(|it| it.is_finite() && 0.0 < *it).unwrap_or(0.0);
    format!("{seconds:.3}")
}

/// A finding as lines.
fn lines(finding: &Finding) -> Vec<String> {
    let mut out = vec![format!("{}: {}", finding.outcome.word(), finding.message)];
    out.extend(finding.value.map(|it| format!("value: {}", number::value(it))));
    out.extend(finding.interval.map(|it| format!("interval: {}", number::interval(it))));
    out.push(format!("bound: {}", finding.bound));
    out.extend(finding.n_rows.map(|it| format!("rows: {}", karat_core::thousands(it))));
    out.extend(
        finding.numbers.iter().map(|(key, value)| format!("{key}: {}", number::value(*value))),
    );
    out.extend(finding.examples.iter().map(|it| format!("example: {it}")));
    out.extend(finding.advice.iter().map(|it| format!("advice: {it}")));
    out
}

/// The counting attributes of a suite, or of all.
fn counts<'a>(cases: impl IntoIterator<Item = &'a Case>) -> String {
    let (mut tests, mut failures, mut errors, mut seconds) = (0, 0, 0, 0.0);
    for case in cases {
        tests += 1;
        seconds += case.seconds;
        match case.result {
            Answer::Passed | Answer::PassedWithText => {}
            Answer::Failed(_) => failures += 1,
            Answer::Error => errors += 1,
        }
    }
    format!(
        " tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" time=\"{}\"",
        time(seconds)
    )
}
