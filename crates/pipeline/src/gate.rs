//! Step `gate`: candidate and baseline on the same rows, a verdict bound to the bytes it judged.

use std::collections::BTreeMap;

use karat_core::{
    Digest, Event, Exit, Failure, ModelRef, Name, Observer, Outcome, Project, Step, Verdict,
    policy::{BaselineRef, Gate, Policy},
    summary::CodeVersion,
    verdict::{Judged, Report},
};
use karat_gate::GateInput;
use karat_store::{Authority, Promotion, VersionRecord};
use serde_json::json;

use crate::{
    Lab, Scored,
    freeze::{Frozen, to_value},
    lab::{Asked, Done},
};

/// Reliability of the intervals that `compare` shows: two-sided 90 %.
const COMPARE_RELIABILITY: f64 = 0.95;

/// A decided gate.
#[derive(Clone, Debug)]
pub struct Decided {
    /// The verdict.
    pub verdict: Verdict,
    /// Its digest in the store.
    pub digest: Digest,
    /// The candidate's predictions that were judged.
    pub scored: Scored,
}

/// What to compare a candidate with.
#[derive(Clone, Debug)]
pub enum Baseline {
    /// As the gate says.
    AsDeclared,
    /// A version given by hand (`--baseline REF`).
    Given(VersionRecord),
}

impl Lab<'_> {
    /// Scores candidate and baseline on the gate's split, decides, and keeps the verdict.
    #[expect(
        clippy::too_many_arguments,
        reason = "who judges whom, by what, on which rows: each is asked for"
    )]
    pub fn decide(
        &self,
        observer: &mut dyn Observer,
        project: &Project,
        policy: &Policy,
        gate: &Gate,
        frozen: &Frozen,
        candidate: &VersionRecord,
        baseline: &Baseline,
    ) -> Result<Decided, Failure> {
        refuse_empty(gate)?;
        let baseline = match baseline {
            Baseline::Given(version) => Some(version.clone()),
            Baseline::AsDeclared => self.declared_baseline(gate, candidate)?,
        };
        let scored =
            self.score(observer, project, frozen, &candidate.manifest, &candidate.label())?;
        let base_scored = match &baseline {
            Some(version) => {
                let scored =
                    self.score(observer, project, frozen, &version.manifest, &version.label());
                Some(scored.map_err(|failure| {
                    failure.detail(format!("{} is what the gate compares with", version.label()))
                })?)
            }
            None => None,
        };
        let judged = Judged {
            candidate: candidate.manifest,
            baseline: baseline.as_ref().map(|it| it.manifest),
            snapshot: frozen.digest,
            rows: scored.summary.rows,
            predictions: scored.predictions,
            baseline_predictions: base_scored.as_ref().map(|it| it.predictions),
            anchor: None,
            anchor_predictions: None,
            policy: policy.digest,
            tool: self.tool.clone(),
            binary: None,
            code: CodeVersion::default(),
        };
        let today: String = self.now().to_string().chars().take(10).collect();
        let mut inputs = BTreeMap::from([
            ("candidate".to_owned(), judged.candidate),
            ("predictions".to_owned(), judged.predictions),
            ("snapshot".to_owned(), judged.snapshot),
            ("policy".to_owned(), judged.policy),
        ]);
        if let (Some(model), Some(predictions)) = (judged.baseline, judged.baseline_predictions) {
            inputs.insert("baseline".to_owned(), model);
            inputs.insert("baseline_predictions".to_owned(), predictions);
        }
        let asked = Asked {
            step: Step::Gate,
            subject: format!("`{}` for {}", gate.name, candidate.label()),
            spec: json!({
                "gate": to_value(gate)?,
                "candidate": candidate.label(),
                "baseline": baseline.as_ref().map(VersionRecord::label),
                // A waiver's last day is the one thing in a verdict that time changes.
                "today": (!gate.waivers.is_empty()).then_some(&today),
            }),
            inputs,
            seed: None,
            device: String::new(),
            total: None,
        };
        let recorded = self.step(observer, asked, |_, _| {
            let candidate_rows = self.scored_rows(&scored)?;
            let baseline_rows = base_scored.as_ref().map(|it| self.scored_rows(it)).transpose()?;
            let input = GateInput {
                baseline: baseline_rows.as_ref(),
                candidate_label: candidate.label(),
                baseline_label: baseline
                    .as_ref()
                    .map_or_else(|| "none".to_owned(), VersionRecord::label),
                ..GateInput::new(&candidate_rows, judged.clone(), &today)
            };
            let verdict = karat_gate::decide(gate, &input, self.parallel);
            let digest = self.store.put_verdict(&verdict, self.now())?;
            let summary = describe(&verdict);
            let outputs = BTreeMap::from([("verdict.json".to_owned(), digest)]);
            Ok(Done { outputs, metrics: json!({ "outcome": verdict.outcome }), summary })
        })?;
        let digest = recorded.output("verdict.json")?;
        let verdict = self.store.verdict(&digest)?;
        observer.observe(Event::Decided(Box::new(verdict.clone())));
        Ok(Decided { verdict, digest, scored })
    }

    /// Both reports on the same rows, without rules and without a verdict: `karat compare`.
    pub fn compare(
        &self,
        observer: &mut dyn Observer,
        project: &Project,
        frozen: &Frozen,
        candidate: &VersionRecord,
        baseline: &VersionRecord,
    ) -> Result<Report, Failure> {
        let a = self.score(observer, project, frozen, &candidate.manifest, &candidate.label())?;
        let b = self.score(observer, project, frozen, &baseline.manifest, &baseline.label())?;
        let (a, b) = (self.scored_rows(&a)?, self.scored_rows(&b)?);
        Ok(karat_gate::report(&a, Some(&b), COMPARE_RELIABILITY))
    }

    /// The version the gate compares with. A candidate that already *is* what the alias points to is judged against
    /// what the alias held before: a model compared with itself passes everything.
    fn declared_baseline(
        &self,
        gate: &Gate,
        candidate: &VersionRecord,
    ) -> Result<Option<VersionRecord>, Failure> {
        let version = match &gate.baseline {
            BaselineRef::None | BaselineRef::Naive => return Ok(None),
            BaselineRef::Version(version) => *version,
            BaselineRef::Alias(alias) => match self.store.alias(&candidate.model, alias)? {
                None => return Ok(None),
                Some(found) if found.version == candidate.version => {
                    match self.before(&candidate.model, alias, candidate.version)? {
                        Some(version) => version,
                        None => return Ok(None),
                    }
                }
                Some(found) => found.version,
            },
        };
        Ok(Some(self.store.version(&candidate.model, version)?))
    }

    /// The version an alias held before it was given to `version`. A rollback gave it back: what that left is no
    /// baseline.
    fn before(&self, model: &Name, alias: &Name, version: u32) -> Result<Option<u32>, Failure> {
        let history = self.store.history(model, alias)?;
        let is_given = |it: &&Promotion| {
            it.to == version && !matches!(it.authority, Authority::Rollback { .. })
        };
        Ok(history.iter().rev().find(is_given).and_then(|it| it.from))
    }

    /// A version by reference: `flights@2`, `flights@champion`.
    pub fn resolve(&self, reference: &ModelRef) -> Result<VersionRecord, Failure> {
        Ok(self.store.resolve(reference)?)
    }

    /// The newest version of `model`, or an error that says how to get one.
    pub fn newest(&self, model: &Name) -> Result<VersionRecord, Failure> {
        self.store.versions(model)?.into_iter().max_by_key(|it| it.version).ok_or_else(|| {
            Failure::new("model-unknown", Exit::Usage, format!("model `{model}` has no version"))
                .hint("`karat train` makes one")
        })
    }
}

/// A gate without rules decides nothing, and nothing is not a pass.
pub(crate) fn refuse_empty(gate: &Gate) -> Result<(), Failure> {
    if !gate.rules.is_empty() {
        return Ok(());
    }
    Err(Failure::new("gate-empty", Exit::Nothing, format!("gate `{}` has no rules", gate.name))
        .hint(format!("`[[gate.{}.rule]]` in gate.toml adds one", gate.name)))
}

/// The gate called `name`, or the only one.
pub fn pick_gate<'a>(policy: &'a Policy, name: Option<&Name>) -> Result<&'a Gate, Failure> {
    let known: Vec<&str> = policy.gates.keys().map(Name::as_str).collect();
    match name {
        Some(name) => policy.gates.get(name).ok_or_else(|| {
            Failure::new(
                "gate-unknown",
                Exit::Usage,
                format!(
                    "no gate `{name}`: known are `{}`",
                    karat_core::nearest(name.as_str(), known).join("`, `")
                ),
            )
        }),
        None => {
            let mut gates = policy.gates.values();
            match (gates.next(), gates.next()) {
                (Some(only), None) => Ok(only),
                (None, _) => {
                    Err(Failure::new("gate-empty", Exit::Nothing, "gate.toml declares no gate"))
                }
                (Some(_), Some(_)) => Err(Failure::new(
                    "gate-unknown",
                    Exit::Usage,
                    format!(
                        "gate.toml declares {} gates: name one of `{}`",
                        known.len(),
                        known.join("`, `")
                    ),
                )),
            }
        }
    }
}

/// The exit code of a verdict.
#[must_use]
pub fn exit_of(verdict: &Verdict) -> Exit {
    match verdict.outcome {
        Outcome::Inconclusive if verdict.inconclusive_is_allowed => Exit::Pass,
        outcome => outcome.exit(),
    }
}

fn describe(verdict: &Verdict) -> String {
    let total = verdict.findings.len();
    let held = verdict.findings.iter().filter(|it| it.outcome <= Outcome::Warn).count();
    format!(
        "{} · {held} of {total} findings hold, against {}",
        verdict.outcome.word(),
        verdict.baseline
    )
}
