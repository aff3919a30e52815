//! The whole way: snapshot → check → train and register → score → gate → promote. One function, in reading order; every
//! step is cached, so running it again is how a crash is recovered from.
//!
//! A candidate is registered before it is judged: a verdict is about a version, whatever it says.

use std::collections::BTreeMap;

use karat_core::{
    Digest, Exit, Failure, Observer, Project, Schema, Step,
    event::Silent,
    policy::{Gate, Policy},
    summary::{DataSummary, PromotionSummary, RunSummary},
};
use karat_store::Authority;

use crate::{
    Lab,
    freeze::{Checked, Frozen},
    gate::{Baseline, Case, exit_of, on_split_of, refuse_empty, refuse_other_model},
    lab::{Asked, Done},
    promote::CHAMPION,
    score::gate_split,
    sign::Signer,
};

/// What one pass came to.
#[derive(Clone, Debug)]
pub struct Whole {
    /// For reports and the closing screen.
    pub summary: RunSummary,
    /// What the process should end with.
    pub exit: Exit,
    /// Why it ended early, when it did; already part of `exit`.
    pub refusal: Option<Failure>,
    /// Files of all steps by name, for `--out` and `karat show`.
    pub outputs: BTreeMap<String, Digest>,
    /// The frozen data.
    pub frozen: Frozen,
}

/// Whether a passing candidate is promoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterPass {
    /// Move the champion alias, if the gate's signatures are there.
    Promote,
    /// Leave it (`--dry-run`).
    Leave,
}

impl Lab<'_> {
    /// Runs every step for `project` under `gate`.
    pub fn run(
        &self,
        observer: &mut dyn Observer,
        project: &Project,
        schema: Schema,
        policy: &Policy,
        gate: &Gate,
        after: AfterPass,
    ) -> Result<Whole, Failure> {
        self.run_and_sign(observer, project, schema, policy, gate, after, None)
    }

    /// As [`Lab::run`]; who is given signs a candidate that passes, before it is promoted.
    #[expect(clippy::too_many_arguments, reason = "who runs what by whose rules, and who signs")]
    pub fn run_and_sign(
        &self,
        observer: &mut dyn Observer,
        project: &Project,
        schema: Schema,
        policy: &Policy,
        gate: &Gate,
        after: AfterPass,
        signer: Option<Signer<'_>>,
    ) -> Result<Whole, Failure> {
        let dataset = project.dataset(&project.train.dataset)?;
        // What can be known to fail is refused before an hour of training.
        refuse_empty(gate)?;
        refuse_other_model(gate, &project.train.name)?;
        self.signature_keys(gate)?;
        gate_split(&on_split_of(gate, project), dataset)?;
        let frozen = self.freeze(observer, dataset, schema)?;
        let checked = self.check(observer, project, &frozen)?;
        let mut summary = self.summary(project, &frozen, &checked);
        if let Some(refusal) = checked.refusal(&frozen) {
            let exit = refusal.exit;
            return Ok(Whole {
                summary,
                exit,
                refusal: Some(refusal),
                outputs: BTreeMap::new(),
                frozen,
            });
        }

        let trained = self.train(observer, project, &frozen)?;
        self.train_seeds(observer, project, &frozen)?;
        let mut outputs = trained.outputs.clone();
        summary.train = Some(trained.summary.clone());

        let champion = CHAMPION
            .parse()
            .map_err(|error| Failure::new("internal", Exit::Run, format!("{error}")))?;
        // What the alias was *before* judging: if anybody moves it meanwhile, the swap below fails.
        let before = self.store.alias(&project.train.name, &champion)?;
        let case = Case {
            project,
            policy,
            gate,
            frozen: &frozen,
            checked: &checked,
            candidate: &trained.version,
            baseline: &Baseline::AsDeclared,
        };
        let decided = self.decide(observer, &case)?;
        outputs.extend(decided.scored.outputs);
        outputs.insert("verdict.json".to_owned(), decided.digest);

        let exit = exit_of(&decided.verdict);
        let pointed = before.as_ref().map(|it| format!("{}@{}", project.train.name, it.version));
        let alias = format!("{}@{champion}", project.train.name);
        let unmoved = |reason: String| PromotionSummary {
            alias: alias.clone(),
            from: pointed.clone(),
            to: pointed.clone(),
            is_moved: false,
            reason,
        };
        let promotion = match (exit, after) {
            (Exit::Pass, AfterPass::Leave) => unmoved("left as it is: --dry-run".to_owned()),
            (Exit::Pass, AfterPass::Promote) => {
                if let Some(signer) = signer {
                    let verdict = Some(decided.digest);
                    outputs.extend(self.sign(observer, &trained.version, verdict, signer)?);
                }
                match self.demand_signatures(gate, &trained.version, &decided.digest) {
                    // The verdict stands, and so does its exit code: what is missing is somebody's word.
                    Err(unsigned) if unsigned.exit == Exit::Fail => {
                        unmoved(format!("{}: {}", unsigned.code, unsigned.message))
                    }
                    Err(failure) => return Err(failure),
                    Ok(()) => {
                        let moved = self.promote_from(
                            observer,
                            &trained.version,
                            &champion,
                            Authority::Verdict(decided.digest),
                            before.as_ref().map_or(0, |it| it.seq),
                        )?;
                        let model = &project.train.name;
                        match moved.is_moved {
                            true => moved,
                            false => {
                                self.moved_by(model, &champion, decided.digest)?.unwrap_or(moved)
                            }
                        }
                    }
                }
            }
            _ => unmoved(format!("the verdict is {}", decided.verdict.outcome.word())),
        };
        summary.verdict = Some(decided.verdict);
        summary.verdict_digest = Some(decided.digest);
        summary.promotion = Some(promotion);
        Ok(Whole { summary, exit, refusal: None, outputs, frozen })
    }

    /// The part of a summary that data and checks give.
    #[must_use]
    pub fn summary(&self, project: &Project, frozen: &Frozen, checked: &Checked) -> RunSummary {
        let snapshot = &frozen.located.snapshot;
        RunSummary {
            version: 1,
            project: project.name.to_string(),
            tool: self.tool.clone(),
            code: self.code.clone(),
            data: DataSummary {
                snapshot: snapshot.label(),
                digest: frozen.digest,
                n_files: snapshot.files.len() as u64,
                n_rows: snapshot.n_rows,
                splits: checked
                    .profile
                    .splits
                    .iter()
                    .map(|(name, split)| (name.clone(), split.n_rows, split.n_labeled))
                    .collect(),
            },
            checks: checked.findings.clone(),
            train: None,
            verdict: None,
            verdict_digest: None,
            promotion: None,
        }
    }

    /// Renders the reports of `summary` and keeps them; the same summary is not rendered twice.
    pub fn keep_reports(
        &self,
        summary: &RunSummary,
        render: impl FnOnce(&RunSummary) -> Vec<(&'static str, String)>,
    ) -> Result<BTreeMap<String, Digest>, Failure> {
        let asked = Asked {
            step: Step::Report,
            subject: summary
                .train
                .as_ref()
                .map_or_else(|| summary.data.snapshot.clone(), |it| it.version.clone()),
            spec: serde_json::Value::Null,
            inputs: BTreeMap::from([("summary.json".to_owned(), self.put_json(summary)?)]),
            seed: None,
            device: String::new(),
            total: None,
        };
        let recorded = self.step(&mut Silent, asked, |_, _| {
            let mut outputs = BTreeMap::new();
            for (name, text) in render(summary) {
                outputs.insert(name.to_owned(), self.store.put_bytes(text.as_bytes())?);
            }
            Ok(Done { outputs, metrics: serde_json::json!({}), summary: String::new() })
        })?;
        Ok(recorded.outputs)
    }
}
