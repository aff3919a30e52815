//! Step `gate`: candidate and baseline on the same rows, a verdict bound to the bytes it judged.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use karat_core::{
    Digest, Event, Exit, Failure, ModelRef, Name, Observer, Outcome, Project, Step, Verdict,
    policy::{BaselineRef, Gate, Measure, Policy, Reveal},
    verdict::{Judged, Report},
};
use karat_gate::GateInput;
use karat_store::{Authority, Promotion, VersionRecord};
use serde_json::json;

use crate::{
    Checked, Lab, ModelManifest, Scored,
    freeze::{Frozen, to_value},
    lab::{Asked, Done},
    measure::{self, Measured},
    score::gate_split,
};

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

/// A version and its predictions on the judged rows.
struct Opponent {
    version: VersionRecord,
    scored: Scored,
}

impl Opponent {
    fn label(of: Option<&Self>) -> String {
        of.map_or_else(|| "none".to_owned(), |it| it.version.label())
    }
}

/// Everything a gate looks at, scored on the same rows.
struct Field {
    candidate: Scored,
    baseline: Option<Opponent>,
    anchor: Option<Opponent>,
    /// The candidate's recipe with other seeds.
    seeds: Vec<Scored>,
    /// The baseline's.
    baseline_seeds: Vec<Scored>,
}

impl Lab<'_> {
    /// Scores candidate, baseline, anchor and other seeds on the gate's split, decides, and keeps the verdict.
    pub fn decide(&self, observer: &mut dyn Observer, case: &Case<'_>) -> Result<Decided, Failure> {
        let Case { policy, gate, frozen, candidate, .. } = *case;
        refuse_empty(gate)?;
        // Over a ledger that was edited nothing is judged, not even from the cache.
        self.store.ledger()?;
        refuse_other_model(gate, &candidate.model)?;
        let project = &on_split_of(gate, case.project);
        let case = &Case { project, ..*case };
        let asked_for = measure::asked_of(gate);
        let field = self.field(observer, case, &asked_for)?;
        let scored = &field.candidate;
        let judged = Judged {
            candidate: candidate.manifest,
            baseline: field.baseline.as_ref().map(|it| it.version.manifest),
            snapshot: frozen.digest,
            rows: scored.summary.rows,
            predictions: scored.predictions,
            baseline_predictions: field.baseline.as_ref().map(|it| it.scored.predictions),
            anchor: field.anchor.as_ref().map(|it| it.version.manifest),
            anchor_predictions: field.anchor.as_ref().map(|it| it.scored.predictions),
            policy: policy.digest,
            tool: self.tool.clone(),
            // Filled in where it is decided: reading the whole executable takes a moment.
            binary: None,
            code: self.code.clone(),
        };
        let today: String = self.now().to_string().chars().take(10).collect();
        let standing = self.standing(&asked_for, case.checked, candidate, scored);
        let costs = measure::costs(&asked_for, scored.cost.as_ref());
        let asked = Asked {
            step: Step::Gate,
            subject: format!("`{}` for {}", gate.name, candidate.label()),
            spec: json!({
                "gate": to_value(gate)?,
                "candidate": candidate.label(),
                "baseline": field.baseline.as_ref().map(|it| it.version.label()),
                "anchor": field.anchor.as_ref().map(|it| it.version.label()),
                // A waiver's last day is the one thing in a verdict that time changes.
                "today": (!gate.waivers.is_empty()).then_some(&today),
                // What may be another answer about the same bytes.
                "standing": spelled(&standing),
                "costs": spelled(&costs),
            }),
            inputs: inputs(&judged, &field),
            seed: None,
            device: String::new(),
            total: None,
        };
        let recorded = self.step(observer, asked, |_, observer| {
            let split = gate_split(project, &frozen.located.dataset)?;
            let (rows, device) = ((&frozen.located, split.0), &project.train.device);
            let mut operational = self.behaviour(observer, &asked_for, rows, candidate, device)?;
            operational.extend(standing);
            operational.extend(costs);
            let rows_of = |scored: &Scored| self.scored_rows(scored);
            let all = |seeds: &[Scored]| seeds.iter().map(rows_of).collect::<Result<Vec<_>, _>>();
            let candidate_rows = rows_of(scored)?;
            let of = |it: &Option<Opponent>| it.as_ref().map(|it| rows_of(&it.scored)).transpose();
            let (baseline_rows, anchor_rows) = (of(&field.baseline)?, of(&field.anchor)?);
            let judged = Judged { binary: (self.host)().binary, ..judged };
            let input = GateInput {
                baseline: baseline_rows.as_ref(),
                anchor: anchor_rows.as_ref(),
                candidate_label: candidate.label(),
                baseline_label: Opponent::label(field.baseline.as_ref()),
                anchor_label: Opponent::label(field.anchor.as_ref()),
                operational,
                seeds: &all(&field.seeds)?,
                baseline_seeds: &all(&field.baseline_seeds)?,
                ..GateInput::new(&candidate_rows, judged.clone(), &today)
            };
            let (verdict, digest) = self.put_in_place(gate, &judged, |budget_left| {
                let input = GateInput { budget_left, ..input.clone() };
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

    /// Who takes part, and their predictions.
    fn field(
        &self,
        observer: &mut dyn Observer,
        case: &Case<'_>,
        asked_for: &BTreeSet<Measure>,
    ) -> Result<Field, Failure> {
        let Case { project, gate, frozen, candidate, baseline, .. } = *case;
        let baseline = match baseline {
            Baseline::Given(version) => Some(version.clone()),
            Baseline::AsDeclared => self.declared_baseline(gate, candidate)?,
        };
        let anchor = match &gate.anchor {
            None => None,
            Some(anchor) => Some(self.store.version(&anchor.model, anchor.version)?),
        };
        let (manifest, label) = (&candidate.manifest, &candidate.label());
        let scored = match asked_for.iter().any(|it| measure::is_cost(*it)) {
            true => self.score_timed(observer, project, frozen, manifest, label)?,
            false => self.score(observer, project, frozen, manifest, label)?,
        };
        let mut opponent = |version: Option<VersionRecord>| {
            let Some(version) = version else { return Ok(None) };
            let label = version.label();
            let scored = self
                .score(observer, project, frozen, &version.manifest, &label)
                .map_err(|it| it.detail(format!("{label} is what the gate compares with")))?;
            Ok::<_, Failure>(Some(Opponent { version, scored }))
        };
        let (baseline, anchor) = (opponent(baseline)?, opponent(anchor)?);
        let seeds = self.score_seeds(observer, case, candidate)?;
        let baseline_seeds = match &baseline {
            Some(it) => self.score_seeds(observer, case, &it.version)?,
            None => Vec::new(),
        };
        Ok(Field { candidate: scored, baseline, anchor, seeds, baseline_seeds })
    }

    /// Predictions of a version's recipe with its other seeds, as far as they were trained.
    fn score_seeds(
        &self,
        observer: &mut dyn Observer,
        case: &Case<'_>,
        version: &VersionRecord,
    ) -> Result<Vec<Scored>, Failure> {
        if case.project.n_seeds < 2 {
            return Ok(Vec::new());
        }
        let manifest = ModelManifest::open(self, &version.manifest)?;
        let found = self.seeds_of(observer, &manifest, case.project.n_seeds)?;
        let mut scored = Vec::with_capacity(found.len());
        for (seed, manifest) in found {
            let label = format!("{}'s recipe, seed {seed}", version.label());
            scored.push(self.score(observer, case.project, case.frozen, &manifest, &label)?);
        }
        Ok(scored)
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
            let verdict = decide(place.is_covered);
            let verdict = match place.ledger.reveal {
                Reveal::Numbers => verdict,
                Reveal::Verdict => verdict.without_numbers(),
            };
            let verdict = Verdict { ledger: Some(place.ledger), ..verdict };
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

/// Everything a verdict is made from, by name.
fn inputs(judged: &Judged, field: &Field) -> BTreeMap<String, Digest> {
    let mut inputs = BTreeMap::from([
        ("candidate".to_owned(), judged.candidate),
        ("predictions".to_owned(), judged.predictions),
        ("snapshot".to_owned(), judged.snapshot),
        ("policy".to_owned(), judged.policy),
    ]);
    let mut put = |name: &str, digest: Option<Digest>| {
        inputs.extend(digest.map(|it| (name.to_owned(), it)));
    };
    put("baseline", judged.baseline);
    put("baseline_predictions", judged.baseline_predictions);
    put("anchor", judged.anchor);
    put("anchor_predictions", judged.anchor_predictions);
    for (name, seeds) in [("seed", &field.seeds), ("baseline_seed", &field.baseline_seeds)] {
        for (nth, scored) in (1..).zip(seeds) {
            put(&format!("{name}_{nth}_predictions"), Some(scored.predictions));
        }
    }
    inputs
}

/// Measures as text: every digit of a number, or the reason.
fn spelled(measured: &Measured) -> BTreeMap<String, String> {
    let text = |value: &Result<f64, String>| match value {
        Ok(value) => value.to_string(),
        Err(reason) => reason.clone(),
    };
    measured.iter().map(|(measure, value)| (measure.to_string(), text(value))).collect()
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
