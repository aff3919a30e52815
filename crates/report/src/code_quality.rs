//! GitLab's code quality report: what does not hold, beside the line of the policy that asks for it.
//!
//! Fields as docs.gitlab.com/ci/testing/code_quality names them (`app/validators/json_schemas/codeclimate.json` there).

use karat_core::{Digest, Outcome, summary::RunSummary};
use serde_json::{Value, json};

use crate::{
    escape::{clip, line},
    json,
    places::{Placed, Places},
};

/// Characters of a description.
const DESCRIPTION_LEN_MAX: usize = 1_000;

/// The report as a JSON array, worst first; empty when everything holds.
#[must_use]
pub fn code_quality(summary: &RunSummary, places: &Places) -> String {
    let issues: Vec<Value> =
        places.unmet(summary).iter().map(|it| issue(&summary.project, it)).collect();
    json::pretty(issues.into())
}

fn issue(project: &str, placed: &Placed<'_>) -> Value {
    let finding = placed.finding;
    // Neither values nor lines: the same finding keeps its fingerprint from run to run, so that GitLab can tell a new one
    // from an old one.
    let what = json!([project, placed.step, finding.rule, finding.subject]).to_string();
    let fingerprint = Digest::of(what.as_bytes()).to_string();
    let description = format!(
        "{}: {}, {}: {}",
        finding.outcome.word(),
        finding.rule,
        finding.subject,
        finding.message
    );
    json!({
        "type": "issue",
        "check_name": line(&format!("karat {}: {}", placed.step, finding.rule)),
        "categories": ["Bug Risk"],
        "description": clip(&description, DESCRIPTION_LEN_MAX),
        "fingerprint": fingerprint.trim_start_matches("sha256:"),
        "severity": severity(placed.outcome),
        "location": { "path": placed.file, "lines": { "begin": placed.line.unwrap_or(1) } },
    })
}

const fn severity(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Fail | Outcome::NotApplied => "critical",
        Outcome::Inconclusive => "major",
        Outcome::Warn => "minor",
        Outcome::Pass | Outcome::Waived => "info",
    }
}
