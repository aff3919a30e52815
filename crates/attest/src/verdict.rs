//! in-toto test-result v0.1: "what the gate said", bound to the bytes it judged.
//!
//! Subjects are the model, by the root digest its OMS signature has and by its manifest. `configuration` names everything
//! else the verdict is bound to, and the verdict itself. An inconclusive verdict is `FAILED`: somebody who knows only the
//! three words of this form must not take "cannot tell" for "passed", whatever the policy does with it.

use karat_core::{Digest, Finding, Outcome, Verdict};
use serde::Deserialize;
use serde_json::json;

use crate::{
    AttestError, Resource, Statement, Subject,
    bundle::Verified,
    oms::{Files, root_digest},
    statement::shown,
};

/// What kind of claim it is.
pub const PREDICATE_TYPE: &str = "https://in-toto.io/attestation/test-result/v0.1";

/// The statement about a verdict on the model with these files; `digest` is the stored verdict's.
#[must_use]
pub fn statement(verdict: &Verdict, digest: &Digest, files: &Files) -> Statement {
    let judged = &verdict.judged;
    let subject = vec![
        Subject::sha256(verdict.candidate.as_str(), &root_digest(files)),
        Subject::sha256("model.json", &judged.candidate),
    ];
    let named = [
        ("verdict.json", Some(*digest)),
        ("gate.toml", Some(judged.policy)),
        ("snapshot", Some(judged.snapshot)),
        ("rows", Some(judged.rows)),
        ("predictions.parquet", Some(judged.predictions)),
        ("baseline", judged.baseline),
        ("baseline predictions", judged.baseline_predictions),
        ("anchor", judged.anchor),
        ("anchor predictions", judged.anchor_predictions),
        ("karat", judged.binary),
    ];
    let configuration: Vec<Resource> = named
        .into_iter()
        .filter_map(|(name, digest)| Some(Resource::sha256(name, &digest?)))
        .collect();
    let tests = |belongs: fn(Outcome) -> bool| -> Vec<String> {
        verdict.findings.iter().filter(|it| belongs(it.outcome)).map(test_name).collect()
    };
    let is_warned = |outcome| matches!(outcome, Outcome::Warn | Outcome::Waived);
    let predicate = json!({
        "result": result(verdict),
        "configuration": configuration,
        "passedTests": tests(|it| it == Outcome::Pass),
        "warnedTests": tests(is_warned),
        "failedTests": tests(|it| Outcome::Warn < it),
    });
    Statement::of(subject, PREDICATE_TYPE, predicate)
}

/// The verdict in test-result's words.
#[must_use]
pub fn result(verdict: &Verdict) -> &'static str {
    let is_warned = |it: &Finding| matches!(it.outcome, Outcome::Warn | Outcome::Waived);
    match verdict.outcome {
        Outcome::Pass | Outcome::Waived | Outcome::Warn
            if verdict.findings.iter().any(is_warned) =>
        {
            "WARNED"
        }
        Outcome::Pass | Outcome::Waived | Outcome::Warn => "PASSED",
        Outcome::Inconclusive | Outcome::NotApplied | Outcome::Fail => "FAILED",
    }
}

fn test_name(finding: &Finding) -> String {
    if finding.subject.is_empty() {
        finding.rule.clone()
    } else {
        format!("{}: {}", finding.rule, finding.subject)
    }
}

/// The result that was signed; `None` when it is about another model than that with this manifest, or another verdict.
pub fn check(
    verified: &Verified,
    manifest: &Digest,
    verdict: &Digest,
) -> Result<Option<String>, AttestError> {
    let statement = &verified.statement;
    if statement.predicate_type != PREDICATE_TYPE {
        let reason = format!("it states `{}`, not a verdict", shown(&statement.predicate_type));
        return Err(AttestError::Unsupported { reason });
    }
    let claim: RawResult = Statement::predicate_of(&verified.payload)?;
    let hex = verdict.hex();
    let names_it = claim.configuration.iter().any(|it| it.digest.get("sha256") == Some(&hex));
    Ok((statement.is_about(manifest) && names_it).then_some(claim.result))
}

#[derive(Deserialize)]
struct RawResult {
    result: String,
    configuration: Vec<Resource>,
}
