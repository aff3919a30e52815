//! Who takes part before a gate, and their predictions on the same rows.

use std::collections::{BTreeMap, BTreeSet};

use karat_core::{
    Digest, Failure, Observer, ScoredRows,
    policy::{Gate, Measure},
    verdict::Judged,
};
use karat_gate::GateInput;
use karat_store::VersionRecord;

use super::{Baseline, Case};
use crate::{
    Lab, ModelManifest, Scored,
    measure::{self, Measured},
};

/// A version and its predictions on the judged rows.
pub(super) struct Opponent {
    pub(super) version: VersionRecord,
    pub(super) scored: Scored,
}

impl Opponent {
    fn label(of: Option<&Self>) -> String {
        of.map_or_else(|| "none".to_owned(), |it| it.version.label())
    }
}

/// Everything a gate looks at, scored on the same rows.
pub(super) struct Field {
    pub(super) candidate: Scored,
    pub(super) baseline: Option<Opponent>,
    pub(super) anchor: Option<Opponent>,
    /// The candidate's recipe with other seeds.
    seeds: Vec<Scored>,
    /// The baseline's.
    baseline_seeds: Vec<Scored>,
    /// The digests of all that. Without the executable: reading all of it takes a moment.
    pub(super) judged: Judged,
    /// `YYYY-MM-DD`.
    pub(super) today: String,
}

/// The same, read into memory.
pub(super) struct FieldRows {
    candidate: ScoredRows,
    baseline: Option<ScoredRows>,
    anchor: Option<ScoredRows>,
    seeds: Vec<ScoredRows>,
    baseline_seeds: Vec<ScoredRows>,
}

impl Lab<'_> {
    /// Finds and scores who takes part.
    pub(super) fn field(
        &self,
        observer: &mut dyn Observer,
        case: &Case<'_>,
        asked_for: &BTreeSet<Measure>,
    ) -> Result<Field, Failure> {
        let Case { project, policy, gate, frozen, candidate, .. } = *case;
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
        let baseline = opponent(match case.baseline {
            Baseline::Given(version) => Some(version.clone()),
            Baseline::AsDeclared => self.declared_baseline(gate, candidate)?,
        })?;
        let anchor = opponent(self.anchor(gate)?)?;
        let seeds = self.score_seeds(observer, case, candidate)?;
        let baseline_seeds = match &baseline {
            Some(it) => self.score_seeds(observer, case, &it.version)?,
            None => Vec::new(),
        };
        let judged = Judged {
            candidate: candidate.manifest,
            baseline: baseline.as_ref().map(|it| it.version.manifest),
            snapshot: frozen.digest,
            rows: scored.summary.rows,
            predictions: scored.predictions,
            baseline_predictions: baseline.as_ref().map(|it| it.scored.predictions),
            anchor: anchor.as_ref().map(|it| it.version.manifest),
            anchor_predictions: anchor.as_ref().map(|it| it.scored.predictions),
            policy: policy.digest,
            tool: self.tool.clone(),
            binary: None,
            code: self.code.clone(),
        };
        let today = self.now().to_string().chars().take(10).collect();
        Ok(Field { candidate: scored, baseline, anchor, seeds, baseline_seeds, judged, today })
    }

    fn anchor(&self, gate: &Gate) -> Result<Option<VersionRecord>, Failure> {
        let Some(anchor) = &gate.anchor else { return Ok(None) };
        let found = self.store.version(&anchor.model, anchor.version);
        let whose = |error| {
            Failure::from(error)
                .detail(format!("gate `{}` says `anchor = \"{anchor}\"`", gate.name))
        };
        found.map(Some).map_err(whose)
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

    /// Reads all predictions, verifying their bytes.
    pub(super) fn rows_of(&self, field: &Field) -> Result<FieldRows, Failure> {
        let read = |scored: &Scored| self.scored_rows(scored);
        let one = |it: &Option<Opponent>| it.as_ref().map(|it| read(&it.scored)).transpose();
        let all = |seeds: &[Scored]| seeds.iter().map(read).collect::<Result<Vec<_>, _>>();
        Ok(FieldRows {
            candidate: read(&field.candidate)?,
            baseline: one(&field.baseline)?,
            anchor: one(&field.anchor)?,
            seeds: all(&field.seeds)?,
            baseline_seeds: all(&field.baseline_seeds)?,
        })
    }
}

impl Field {
    /// Everything a verdict is made from, by name.
    pub(super) fn inputs(&self) -> BTreeMap<String, Digest> {
        let judged = &self.judged;
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
        for (name, seeds) in [("seed", &self.seeds), ("baseline_seed", &self.baseline_seeds)] {
            for (nth, scored) in (1..).zip(seeds) {
                put(&format!("{name}_{nth}_predictions"), Some(scored.predictions));
            }
        }
        inputs
    }

    /// What the gate is given; whether a budget is left is the ledger's to say.
    pub(super) fn input<'a>(
        &'a self,
        rows: &'a FieldRows,
        candidate: &VersionRecord,
        operational: &Measured,
    ) -> GateInput<'a> {
        GateInput {
            baseline: rows.baseline.as_ref(),
            anchor: rows.anchor.as_ref(),
            candidate_label: candidate.label(),
            baseline_label: Opponent::label(self.baseline.as_ref()),
            anchor_label: Opponent::label(self.anchor.as_ref()),
            operational: operational.clone(),
            seeds: &rows.seeds,
            baseline_seeds: &rows.baseline_seeds,
            ..GateInput::new(&rows.candidate, self.judged.clone(), &self.today)
        }
    }
}
