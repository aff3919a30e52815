//! Step `gate`: candidate and baseline on the same rows, a verdict bound to the bytes it judged.

use std::{borrow::Cow, collections::BTreeMap};

use karat_core::{
    Digest, Event, Exit, Explanation, Failure, ModelRef, Name, Observer, Outcome, Project, Step,
    Verdict,
    event::Silent,
    policy::{BaselineRef, Gate, Policy},
    verdict::{Judged, Report},
};
use karat_gate::GateInput;
use karat_store::{Authority, Promotion, VersionRecord};
use serde_json::json;

use crate::{
    Checked, Lab, Scored,
    freeze::{Frozen, to_value},
    lab::{Asked, Done},
    measure,
    score::gate_split,
};

mod field;

/// Reliability of the intervals that `compare` shows: two-sided 90 %.
const COMPARE_RELIABILITY: f64 = 0.95;

/// One candidate before one gate.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// Splits, slices, how to score.
    pub project: &'a Project,
    /// The file the gate stands in.
    pub policy: &'a Policy,
    /// Who judges.
    pub gate: &'a Gate,
    /// The rows it judges on are a split of these.
    pub frozen: &'a Frozen,
    /// What the checks said of them.
    pub checked: &'a Checked,
    /// Who asks to be promoted.
    pub candidate: &'a VersionRecord,
    /// What to compare it with.
    pub baseline: &'a Baseline,
}

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
    /// Scores candidate, baseline, anchor and other seeds on the gate's split, decides, and keeps the verdict.
    pub fn decide(&self, observer: &mut dyn Observer, case: &Case<'_>) -> Result<Decided, Failure> {
        let Case { gate, candidate, .. } = *case;
        refuse_empty(gate)?;
        // Over a ledger that was edited nothing is judged, not even from the cache.
        self.store.ledger()?;
        refuse_other_model(gate, &candidate.model)?;
        let project = &on_split_of(gate, case.project);
        let case = &Case { project, ..*case };
        let asked_for = measure::asked_of(gate);
        let field = self.field(observer, case, &asked_for)?;
        let standing = self.standing(&asked_for, case.checked, candidate, &field.candidate);
        let costs = measure::costs(&asked_for, field.candidate.cost.as_ref());
        let asked = Asked {
            step: Step::Gate,
            subject: format!("`{}` for {}", gate.name, candidate.label()),
            spec: json!({
                "gate": to_value(gate)?,
                "candidate": candidate.label(),
                "baseline": field.baseline.as_ref().map(|it| it.version.label()),
                "anchor": field.anchor.as_ref().map(|it| it.version.label()),
                // A waiver's last day is the one thing in a verdict that time changes.
                "today": (!gate.waivers.is_empty()).then_some(&field.today),
                // What may be another answer about the same bytes.
                "standing": measure::spelled(&standing),
                "costs": measure::spelled(&costs),
            }),
            inputs: field.inputs(),
            seed: None,
            device: String::new(),
            total: None,
        };
        let recorded = self.step(observer, asked, |_, observer| {
            let split = gate_split(project, &case.frozen.located.dataset)?;
            let (rows, device) = ((&case.frozen.located, split.0), &project.train.device);
            let mut operational = self.behaviour(observer, &asked_for, rows, candidate, device)?;
            operational.extend(standing);
            operational.extend(costs);
            let rows = self.rows_of(&field)?;
            let judged = Judged { binary: (self.host)().binary, ..field.judged.clone() };
            let (verdict, digest) = self.put_in_place(gate, &judged, |budget_left| {
                let input = field.input(&rows, candidate, &operational);
                let input = GateInput { judged: judged.clone(), budget_left, ..input };
                karat_gate::decide(gate, &input, self.parallel)
            })?;
            let summary = describe(&verdict);
            let outputs = BTreeMap::from([("verdict.json".to_owned(), digest)]);
            Ok(Done { outputs, metrics: json!({ "outcome": verdict.outcome }), summary })
        })?;
        let digest = recorded.output("verdict.json")?;
        let verdict = self.store.verdict(&digest)?;
        observer.observe(Event::Decided(Box::new(verdict.clone())));
        Ok(Decided { verdict, digest, scored: field.candidate })
    }

    /// The whole calculation of one rule behind a verdict of the same case: from the same bytes, in the same way. It shows no
    /// more than the verdict may, and counts as no further use of the rows.
    pub fn explain(
        &self,
        case: &Case<'_>,
        decided: &Decided,
        rule: &str,
    ) -> Result<Explanation, Failure> {
        let Case { gate, candidate, .. } = *case;
        let project = &on_split_of(gate, case.project);
        let case = &Case { project, ..*case };
        // Everything was scored for the verdict and is cached.
        let field = self.field(&mut Silent, case, &measure::asked_of(gate))?;
        let operational = measure::of_verdict(gate, &decided.verdict);
        let rows = self.rows_of(&field)?;
        let judged = decided.verdict.judged.clone();
        let place = self.store.ledger()?.place(gate.name.as_str(), gate.budget, &judged);
        let input = field.input(&rows, candidate, &operational);
        let input = GateInput { judged, budget_left: place.is_covered, ..input };
        karat_gate::explain(gate, rule, &input, self.parallel)
    }

    /// Decides, and puts the verdict on record in the moment it takes its place in the ledger. Whoever judges meanwhile may
    /// spend the budget: then it is decided again.
    fn put_in_place(
        &self,
        gate: &Gate,
        judged: &Judged,
        decide: impl Fn(bool) -> Verdict,
    ) -> Result<(Verdict, Digest), Failure> {
        loop {
            let place = self.store.ledger()?.place(gate.name.as_str(), gate.budget, judged);
            let verdict = Verdict { ledger: Some(place.ledger), ..decide(place.is_covered) };
            if let Some(digest) = self.store.put_verdict(&verdict, &self.actor, self.now())? {
                return Ok((verdict, digest));
            }
        }
    }

    /// Both reports on the same rows, without rules and without a verdict: `karat compare`. It shows numbers, so the
    /// ledger has it.
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
        let shown = [(a.predictions, candidate.label()), (b.predictions, baseline.label())];
        self.store.record_comparison(a.summary.rows, &shown, &self.actor, self.now())?;
        let (a, b) = (self.scored_rows(&a)?, self.scored_rows(&b)?);
        Ok(karat_gate::report(&a, Some(&b), COMPARE_RELIABILITY))
    }

    /// The version the gate compares with. A candidate that already *is* what the alias points to is judged against
    /// what the alias held before: a model compared with itself passes everything.
    pub(crate) fn declared_baseline(
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

/// The project as this gate looks at it: it may judge on a split of its own.
pub(crate) fn on_split_of<'a>(gate: &Gate, project: &'a Project) -> Cow<'a, Project> {
    match &gate.split {
        Some(split) if *split != project.score.split => {
            let mut project = project.clone();
            project.score.split = split.clone();
            Cow::Owned(project)
        }
        _ => Cow::Borrowed(project),
    }
}

/// A gate may say which model it judges.
pub(crate) fn refuse_other_model(gate: &Gate, model: &Name) -> Result<(), Failure> {
    match &gate.model {
        Some(own) if own != model => Err(Failure::new(
            "gate-other-model",
            Exit::Usage,
            format!(
                "gate `{}` judges model `{own}`, the candidate is of model `{model}`",
                gate.name
            ),
        )
        .hint(format!("`model = \"{model}\"` in `[gate.{}]` lets it judge this one", gate.name))),
        _ => Ok(()),
    }
}

/// A gate without rules decides nothing, and nothing is not a pass.
pub(crate) fn refuse_empty(gate: &Gate) -> Result<(), Failure> {
    if 0 < gate.n_rules() {
        return Ok(());
    }
    Err(Failure::new("gate-empty", Exit::Nothing, format!("gate `{}` has no rules", gate.name))
        .hint(format!("`[[gate.{}.rule]]` in gate.toml adds one", gate.name)))
}

/// The gate that decides about promotion where several are declared and none is named, as [`CHAMPION`](crate::CHAMPION) is
/// the alias that moves.
const RELEASE: &str = "release";

/// The gate called `name`; without a name the only one, or of several the one called `release`.
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
            let release = || policy.gates.values().find(|it| it.name.as_str() == RELEASE);
            match (gates.next(), gates.next()) {
                (Some(only), None) => Ok(only),
                (None, _) => {
                    Err(Failure::new("gate-empty", Exit::Nothing, "gate.toml declares no gate"))
                }
                (Some(_), Some(_)) => release().ok_or_else(|| {
                    Failure::new(
                        "gate-unknown",
                        Exit::Usage,
                        format!(
                            "gate.toml declares {} gates and none is called `{RELEASE}`: name one of `{}`",
                            known.len(),
                            known.join("`, `")
                        ),
                    )
                }),
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
