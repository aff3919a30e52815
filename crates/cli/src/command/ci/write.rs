//! Who is told: files in `--out`, and what the CI system reads besides. All of it from one summary; what cannot be written
//! is a warning, and the verdict stands.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use karat_core::{Digest, Document, Event, Failure, Observer, policy::Policy, summary::RunSummary};
use karat_pipeline::{Lab, Whole};
use karat_report::{Annotation, Level, Places};
use serde::{Deserialize, Serialize};

use super::system::{Setting, System};
use crate::{
    command::run::{copy_out, or_warn, reports},
    context::Session,
    env,
    render::line_to_stderr,
};

/// The outputs of one command.
pub(super) struct Told<'a> {
    session: &'a Session,
    system: System,
    page: Option<String>,
    /// GitHub reads commands in what a step prints, also from behind spaces. Between this word and itself it reads none, so
    /// that no value in the data is one.
    mute: Option<String>,
}

impl<'a> Told<'a> {
    pub(super) fn new(session: &'a Session, setting: &Setting) -> Self {
        let mute = (setting.system == System::GitHub).then(env::unforeseen_word);
        if let Some(word) = &mute {
            line_to_stderr(&format!("::stop-commands::{word}"));
        }
        Self { session, system: setting.system, page: setting.page.clone(), mute }
    }

    /// Everything, wherever it goes.
    pub(super) fn summary(
        &self,
        out: Option<&Path>,
        lab: &Lab<'_>,
        places: &Places,
        whole: &Whole,
        commit: &str,
    ) {
        let session = self.session;
        let link = self.page.as_deref();
        let _ = or_warn(session, "the reports", lab.keep_reports(&whole.summary, reports));
        if let Some(out) = out {
            let out = session.path(out);
            let mut outputs = whole.outputs.clone();
            outputs.extend(predictions(&whole.summary));
            let written = copy_out(lab.store, &out, &outputs)
                .and_then(|()| write_all(&out, &all(&whole.summary, places, link)))
                .and_then(|()| write_all(&out, &made(&whole.summary, commit)));
            let _ = or_warn(session, "`--out`", written);
        }
        if self.system == System::GitHub {
            self.github(&whole.summary, places, link);
        }
    }

    fn github(&self, summary: &RunSummary, places: &Places, link: Option<&str>) {
        self.append(env::ci::GITHUB_STEP_SUMMARY, &karat_report::step_summary(summary, link));
        let word = env::unforeseen_word();
        let outputs: String = karat_report::github_outputs(summary)
            .into_iter()
            .map(|(name, value)| format!("{name}<<{word}\n{value}\n{word}\n"))
            .collect();
        self.append(env::ci::GITHUB_OUTPUT, &outputs);
        self.annotate(&karat_report::annotations(summary, places));
    }

    /// A command that ended before there was a summary still says why beside the change.
    pub(super) fn failure(&self, failure: &Failure) {
        let details: String = failure.details.iter().map(|it| format!("; {it}")).collect();
        self.annotate(&[Annotation {
            level: Level::Error,
            file: String::new(),
            line: None,
            title: format!("karat: {}", failure.code),
            message: format!("{}{details}", failure.message),
        }]);
    }

    fn annotate(&self, annotations: &[Annotation]) {
        let Some(word) = &self.mute else { return };
        line_to_stderr(&format!("::{word}::"));
        for annotation in annotations {
            line_to_stderr(&annotation.command());
        }
        line_to_stderr(&format!("::stop-commands::{word}"));
    }

    /// Appends to the file that a variable names.
    fn append(&self, variable: &str, text: &str) {
        let Some(path) = env::ci::variable(variable).map(PathBuf::from) else { return };
        let done = karat_store::append(&path, text.as_bytes()).map_err(Failure::from);
        let _ = or_warn(self.session, variable, done);
    }
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        let Some(word) = &self.mute else { return };
        let end = format!("::{word}::");
        // Where the closing screen went, and so after it: GitHub reads two pipes, in no order.
        if self.session.common.json {
            line_to_stderr(&end);
        } else {
            self.session.text(&end);
        }
    }
}

/// The reports of every command, and those that only a CI system reads.
pub(crate) fn all(
    summary: &RunSummary,
    places: &Places,
    link: Option<&str>,
) -> Vec<(&'static str, String)> {
    let mut files = reports(summary);
    files.push(("comment.md", karat_report::comment_md(summary, link)));
    files.push(("summary.md", karat_report::step_summary(summary, link)));
    files.push(("code-quality.json", karat_report::code_quality(summary, places)));
    files
}

/// The file that says which commit a folder of results is about.
pub(crate) const MADE: &str = "ci.json";

/// [`MADE`]. The verdict itself is the first one on these bytes, perhaps of an earlier commit.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Made {
    pub(crate) version: u32,
    /// The commit that was checked out.
    pub(crate) commit: String,
    /// Digest of `verdict.json`.
    pub(crate) verdict: Digest,
}

fn made(summary: &RunSummary, commit: &str) -> Vec<(&'static str, String)> {
    let Some(verdict) = summary.verdict_digest else { return Vec::new() };
    let made = Made { version: 1, commit: commit.to_owned(), verdict };
    serde_json::to_string(&made).map(|it| (MADE, it + "\n")).into_iter().collect()
}

/// Writes rendered files into a folder.
pub(crate) fn write_all(out: &Path, files: &[(&'static str, String)]) -> Result<(), Failure> {
    for (name, text) in files {
        karat_store::write_durably(&out.join(name), text.as_bytes())?;
    }
    Ok(())
}

/// The predictions that were judged, by the names that `karat judge` looks for.
fn predictions(summary: &RunSummary) -> BTreeMap<String, Digest> {
    let Some(verdict) = &summary.verdict else { return BTreeMap::new() };
    let judged = &verdict.judged;
    [
        ("predictions.parquet", Some(judged.predictions)),
        ("baseline-predictions.parquet", judged.baseline_predictions),
        ("anchor-predictions.parquet", judged.anchor_predictions),
    ]
    .into_iter()
    .filter_map(|(name, digest)| Some((name.to_owned(), digest?)))
    .collect()
}

/// Line of each rule in the policy, by the rule's name.
pub(crate) fn rule_lines(document: &Document, policy: &Policy) -> BTreeMap<String, u32> {
    let mut lines = BTreeMap::new();
    for gate in policy.gates.keys() {
        let rules = document
            .table()
            .get("gate")
            .and_then(|it| it.get(gate.as_str()))
            .and_then(|it| it.get("rule"))
            .and_then(|it| it.as_array());
        for (at, rule) in rules.into_iter().flatten().enumerate() {
            let Some(name) = rule.get("name").and_then(|it| it.as_str()) else { continue };
            let place = document.place(&format!("gate.{gate}.rule.{at}"));
            // `gate.toml of 9f3c21ab:12:1`: the line stands before the column.
            let line = place.and_then(|it| it.rsplit(':').nth(1)?.parse().ok());
            if let Some(line) = line {
                lines.insert(name.to_owned(), line);
            }
        }
    }
    lines
}

impl Session {
    /// Tells of a finding as the checks do.
    pub(super) fn found(&self, finding: &karat_core::Finding) {
        self.observer().observe(Event::Found(finding.clone()));
    }
}
