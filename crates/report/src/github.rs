//! What GitHub Actions reads from a step beside its exit code: annotations and outputs. The job summary is
//! `markdown::step_summary`.
//!
//! Both are lines with a syntax of their own, and names in them come from the change under review: [`Annotation::command`] and
//! [`github_outputs`] are where they are made harmless.
//! Source: docs.github.com/actions/reference/workflow-commands-for-github-actions.

use karat_core::{Outcome, summary::RunSummary};

use crate::{
    escape::{clip, line},
    places::Places,
    sections,
};

/// GitHub shows ten errors and ten warnings of a step and drops the rest without a word.
pub const ANNOTATIONS_MAX: usize = 10;

/// Characters of a message: GitHub shows 4 KiB, and a reviewer reads less.
const MESSAGE_LEN_MAX: usize = 1_000;
const TITLE_LEN_MAX: usize = 200;

/// A remark beside a line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// How loud.
    pub level: Level,
    /// The file, relative to the repository; empty for a remark on the run as a whole.
    pub file: String,
    /// The line, from 1.
    pub line: Option<u32>,
    /// `gate release: not worse anywhere`.
    pub title: String,
    /// The fact and what to do.
    pub message: String,
}

/// How loud an [`Annotation`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Fails the step.
    Error,
    /// Does not.
    Warning,
    /// Only told.
    Notice,
}

impl Level {
    /// GitHub's word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Notice => "notice",
        }
    }

    const fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Fail | Outcome::NotApplied | Outcome::Inconclusive => Self::Error,
            Outcome::Warn => Self::Warning,
            Outcome::Pass | Outcome::Waived => Self::Notice,
        }
    }
}

impl Annotation {
    /// The line that makes GitHub show it: `::error file=gate.toml,line=12,title=…::…`.
    #[must_use]
    pub fn command(&self) -> String {
        let mut properties = Vec::new();
        if !self.file.is_empty() {
            properties.push(format!("file={}", property(&self.file)));
            properties.extend(self.line.map(|it| format!("line={it}")));
        }
        properties.push(format!("title={}", property(&clip(&self.title, TITLE_LEN_MAX))));
        let message = clip(&self.message, MESSAGE_LEN_MAX);
        format!("::{} {}::{}", self.level.word(), properties.join(","), message.replace('%', "%25"))
    }
}

/// A property's value. Line ends are already visible text (`escape::line`).
fn property(text: &str) -> String {
    line(text).replace('%', "%25").replace(':', "%3A").replace(',', "%2C")
}

/// What does not hold, worst first, at most [`ANNOTATIONS_MAX`]; where there are more, the last one says how many.
#[must_use]
pub fn annotations(summary: &RunSummary, places: &Places) -> Vec<Annotation> {
    let mut all: Vec<Annotation> = places
        .unmet(summary)
        .into_iter()
        .map(|it| {
            let advice = it.finding.advice.iter().map(|it| format!("; {it}")).collect::<String>();
            Annotation {
                level: Level::of(it.outcome),
                file: it.file.to_owned(),
                line: it.line,
                title: format!("{}: {}", it.step, it.finding.rule),
                message: format!(
                    "{}: {}: {}{advice}",
                    it.finding.outcome.word(),
                    it.finding.subject,
                    it.finding.message
                ),
            }
        })
        .collect();
    if all.is_empty() && summary.outcome().is_some_and(|it| Outcome::Warn < it) {
        // A verdict without findings: no rule was applied.
        all.push(on_whole(Level::Error, sections::headline_text(summary)));
    }
    if ANNOTATIONS_MAX < all.len() {
        let rest = all.split_off(ANNOTATIONS_MAX - 1);
        let loudest = rest.first().map_or(Level::Notice, |it| it.level);
        all.push(on_whole(
            loudest,
            format!("… and {} more, all of them in the job summary and in report.html", rest.len()),
        ));
    }
    all
}

fn on_whole(level: Level, message: String) -> Annotation {
    Annotation { level, file: String::new(), line: None, title: "karat".to_owned(), message }
}

/// Outputs of the step for later ones, by name. Every value is one line and there is always the same set of names, so
/// that a later step never finds a name unset.
#[must_use]
pub fn github_outputs(summary: &RunSummary) -> Vec<(&'static str, String)> {
    let outcome = summary.outcome();
    let verdict = summary.verdict.as_ref();
    let is_moved = summary.promotion.as_ref().is_some_and(|it| it.is_moved);
    let text = |value: Option<&String>| value.map_or_else(String::new, |it| line(it));
    vec![
        ("verdict", outcome.map_or_else(|| "none".to_owned(), outcome_slug)),
        ("project", line(&summary.project)),
        ("gate", text(verdict.map(|it| &it.gate))),
        ("candidate", text(verdict.map(|it| &it.candidate))),
        ("baseline", text(verdict.map(|it| &it.baseline))),
        ("snapshot", line(&summary.data.snapshot)),
        ("verdict-digest", summary.verdict_digest.map_or_else(String::new, |it| it.to_string())),
        ("promoted", is_moved.to_string()),
        ("headline", sections::headline_text(summary)),
    ]
}

/// An outcome as one word.
fn outcome_slug(outcome: Outcome) -> String {
    outcome.word().replace(' ', "-")
}
