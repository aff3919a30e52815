//! Steps `snapshot` and `check`: freeze a dataset, then ask what is wrong with it.

use std::collections::BTreeMap;

use karat_core::{
    DatasetSpec, Digest, Event, Exit, Failure, Finding, Name, Observer, Outcome, Profile, Project,
    Schema, Snapshot, Step, port::Located, thousands,
};
use karat_store::StoreError;
use serde_json::{Value, json};

use crate::{
    Lab,
    lab::{Asked, Done, progress},
};

/// A frozen dataset.
#[derive(Clone, Debug)]
pub struct Frozen {
    /// The snapshot with its files.
    pub located: Located,
    /// Its digest.
    pub digest: Digest,
    /// Whether this content was already known.
    pub is_known: bool,
}

/// Answers of all checks.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What was counted.
    pub profile: Profile,
    /// What follows from it.
    pub findings: Vec<Finding>,
}

impl Checked {
    /// The worst of the findings.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        Outcome::of_all(self.findings.iter().map(|it| it.outcome))
    }

    /// Why nothing may follow; `None` when nothing stops.
    #[must_use]
    pub fn refusal(&self, frozen: &Frozen) -> Option<Failure> {
        refusal(frozen, self)
    }
}

impl Lab<'_> {
    /// Freezes `dataset`: hashes what changed since the last time, and keeps the result.
    pub fn freeze(
        &self,
        observer: &mut dyn Observer,
        dataset: &DatasetSpec,
        schema: Schema,
    ) -> Result<Frozen, Failure> {
        let started = self.now();
        observer.observe(Event::StepStarted {
            step: Step::Snapshot,
            subject: dataset.name.to_string(),
            total: None,
        });
        let known = self.store.known_files(&dataset.name)?;
        let (snapshot, files) = self.tables.snapshot(
            self.root,
            dataset,
            &schema,
            &known,
            &mut progress(observer, Step::Snapshot),
        )?;
        if snapshot.n_rows == 0 {
            return Err(Failure::new(
                "dataset-empty",
                Exit::Nothing,
                format!("dataset `{}` has no rows in {} files", dataset.name, snapshot.files.len()),
            ));
        }
        let digest = snapshot.digest();
        let is_known = self.is_known(&dataset.name, &digest)?;
        self.store.set_known_files(&dataset.name, &files)?;
        self.store.put_snapshot(&snapshot, self.now())?;
        let summary = format!(
            "{} · {} rows in {} {}",
            snapshot.label(),
            thousands(snapshot.n_rows),
            snapshot.files.len(),
            if snapshot.files.len() == 1 { "file" } else { "files" },
        );
        observer.observe(Event::StepFinished {
            step: Step::Snapshot,
            run: None,
            is_cached: is_known,
            seconds: self.seconds_since(started),
            summary,
        });
        let located =
            Located { snapshot, schema, dataset: dataset.clone(), root: self.root.to_owned() };
        Ok(Frozen { located, digest, is_known })
    }

    /// A damaged record is as good as none: keeping the snapshot again, right after this, heals it.
    fn is_known(&self, dataset: &Name, digest: &Digest) -> Result<bool, Failure> {
        match self.store.find_snapshot(Some(dataset), &digest.hex()) {
            Ok(found) => Ok(!found.is_empty()),
            Err(StoreError::ObjectMissing { .. } | StoreError::ObjectCorrupt { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Asks every check. The profile is cached by what it was counted from; the findings are worked out anew from it,
    /// because they cost nothing and follow the settings.
    pub fn check(
        &self,
        observer: &mut dyn Observer,
        project: &Project,
        frozen: &Frozen,
    ) -> Result<Checked, Failure> {
        self.refuse_unknown_checks(project)?;
        let label_split = label_split(project, frozen);
        let asked = Asked {
            step: Step::Check,
            subject: frozen.located.snapshot.label(),
            spec: json!({
                "splits": to_value(&frozen.located.dataset.splits)?,
                "label_split": label_split,
            }),
            inputs: BTreeMap::from([
                ("snapshot".to_owned(), frozen.digest),
                ("schema".to_owned(), frozen.located.schema.digest()),
            ]),
            seed: None,
            device: String::new(),
            total: Some(frozen.located.snapshot.n_rows),
        };
        let recorded = self.record(observer, asked, |_, observer| {
            let mut on_progress = progress(observer, Step::Check);
            let profile =
                self.tables.measure(&frozen.located, label_split.as_ref(), &mut on_progress)?;
            let summary = summary(&judge(project, frozen, &profile));
            let outputs = BTreeMap::from([("profile.json".to_owned(), self.put_json(&profile)?)]);
            Ok(Done { outputs, metrics: json!({}), summary })
        })?;
        let profile: Profile = self.read_json(&recorded.output("profile.json")?, "profile")?;
        let findings = judge(project, frozen, &profile);
        observer.observe(recorded.finished(Step::Check, summary(&findings)));
        for finding in &findings {
            observer.observe(Event::Found(finding.clone()));
        }
        Ok(Checked { profile, findings })
    }

    fn refuse_unknown_checks(&self, project: &Project) -> Result<(), Failure> {
        let known = karat_gate::check::names();
        for name in project.checks.keys() {
            if !known.contains(&name.as_str()) {
                let near = karat_core::nearest(name, known.iter().copied());
                return Err(Failure::new(
                    "check-unknown",
                    Exit::Usage,
                    format!(
                        "`check.{name}` names no check: the nearest are `{}`",
                        near.join("`, `")
                    ),
                ));
            }
        }
        Ok(())
    }
}

fn refusal(frozen: &Frozen, checked: &Checked) -> Option<Failure> {
    let failed: Vec<&Finding> = checked
        .findings
        .iter()
        .filter(|it| matches!(it.outcome, Outcome::Fail | Outcome::NotApplied))
        .collect();
    let exit = checked.outcome().exit();
    if exit == Exit::Pass {
        return None;
    }
    let mut failure = Failure::new(
        "check-failed",
        exit,
        format!(
            "snapshot `{}` fails {} of {} checks",
            frozen.located.snapshot.label(),
            failed.len(),
            checked.findings.len()
        ),
    );
    const SHOWN: usize = 20;
    for finding in failed.iter().take(SHOWN) {
        failure =
            failure.detail(format!("{}: {}: {}", finding.rule, finding.subject, finding.message));
    }
    if SHOWN < failed.len() {
        failure = failure.detail(format!("and {} more", failed.len() - SHOWN));
    }
    failure = failure.detail("nothing was trained");
    Some(match failed.first() {
        Some(first) => failure.hint(format!(
            "`[check.\"{}\"]` with `level = \"warn\"` in karat.toml lets this check warn instead",
            first.rule
        )),
        None => failure,
    })
}

fn judge(project: &Project, frozen: &Frozen, profile: &Profile) -> Vec<Finding> {
    let context = karat_gate::check::Context {
        train: project.train.split_train.as_str(),
        eval: project.train.split_eval.as_str(),
        holdout: project.score.split.as_str(),
    };
    karat_gate::check::check(profile, &frozen.located.schema, &project.checks, &context)
}

fn summary(findings: &[Finding]) -> String {
    let count = |outcome| findings.iter().filter(|it| it.outcome == outcome).count();
    let failed = count(Outcome::Fail) + count(Outcome::NotApplied);
    format!("{} checks: {failed} failed, {} warned", findings.len(), count(Outcome::Warn))
}

/// The split whose rows show what the label depends on: the training split, where it is declared.
fn label_split(project: &Project, frozen: &Frozen) -> Option<Name> {
    let name = &project.train.split_train;
    frozen.located.dataset.splits.contains_key(name).then(|| name.clone())
}

pub(crate) fn to_value<T: serde::Serialize>(value: &T) -> Result<Value, Failure> {
    serde_json::to_value(value).map_err(|error| {
        Failure::new(
            "internal",
            Exit::Run,
            "internal error: a spec does not serialise; this is a bug",
        )
        .because(&error)
    })
}

/// The pointer file `snapshots/<dataset>.toml`: a change request that edits it *is* the change of data.
#[must_use]
pub fn pointer_file(snapshot: &Snapshot) -> String {
    use std::fmt::Write as _;
    let mut text = format!(
        "# Written by `karat snapshot`. The data this project runs on.\nversion = 1\ndigest = \"{}\"\nn_rows = {}\nschema = \"{}\"\n",
        snapshot.digest(),
        snapshot.n_rows,
        snapshot.schema
    );
    let mut files: Vec<_> = snapshot.files.iter().collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    for file in files {
        let path = toml_string(&file.path);
        let _ = write!(
            text,
            "\n[[file]]\npath = {path}\ndigest = \"{}\"\nn_rows = {}\n",
            file.digest, file.n_rows
        );
    }
    text
}

/// A TOML basic string; JSON's escapes are a subset of TOML's.
fn toml_string(text: &str) -> String {
    Value::String(text.to_owned()).to_string().replace('\u{7f}', "\\u007f")
}
