//! What the record of a training says, read in full and checked against itself: a record that was edited by hand must
//! not decide anything.

use std::collections::BTreeMap;

use karat_core::{
    DatasetSpec, Digest, Exit, Failure, Name, RunId, SplitSpec, Step, TrainSpec, UpdateRecord,
    port::Located,
};
use karat_store::{RunRecord, RunState, StoreError, VersionRecord};
use serde::Deserialize;

use super::ReplayOptions;
use crate::{Lab, ModelManifest, freeze::to_value, lab::Asked, train::read_log};

/// A training as recorded: all that is needed to do it again, and what it gave.
pub(crate) struct Recorded<'a> {
    pub(super) run: &'a RunRecord,
    /// `flights@1`, or what the run says it worked on.
    pub(super) subject: String,
    pub(super) spec: TrainSpec,
    pub(crate) located: Located,
    pub(super) manifest: ModelManifest,
    pub(super) manifest_digest: Digest,
    /// `model.safetensors`.
    pub(super) weights: Vec<u8>,
    pub(super) updates: Vec<UpdateRecord>,
}

/// The recorded spec of step `train`.
#[derive(Deserialize)]
struct Spec {
    train: TrainSpec,
    splits: BTreeMap<Name, SplitSpec>,
}

impl<'a> Recorded<'a> {
    /// Reads the record of `run`, or says why it cannot be replayed here.
    pub(crate) fn open(
        lab: &Lab<'_>,
        run: &'a RunRecord,
        options: &ReplayOptions,
    ) -> Result<Self, Failure> {
        refuse_what_cannot_be_replayed(lab, run, options)?;
        if key_of(run) != run.key {
            return Err(altered(
                &run.id,
                "its spec, inputs, seed, tool and device do not give the key it was recorded under",
            ));
        }
        let output = |name: &'static str| {
            let digest = run.outputs.get(name).copied().ok_or_else(|| {
                Failure::new(
                    "run-output-missing",
                    Exit::Run,
                    format!("run `{}` records no output `{name}`", run.id),
                )
                .hint("`karat verify` checks the whole store")
            })?;
            // Every read verifies the bytes; a person wants to know whose they were.
            let whose = |error: StoreError| {
                Failure::from(error).detail(format!("it is `{name}` of run `{}`", run.id))
            };
            Ok::<_, Failure>((digest, lab.store.read(&digest).map_err(whose)?))
        };
        let (manifest_digest, _) = output("model.json")?;
        if let Some(version) = options.version.as_ref().filter(|it| it.manifest != manifest_digest)
        {
            let fact = format!("version `{}` has another model manifest", version.label());
            return Err(altered(&run.id, &fact));
        }
        let manifest = ModelManifest::open(lab, &manifest_digest)?;
        let (weights_digest, weights) = output("model.safetensors")?;
        let (_, log) = output("metrics.jsonl")?;
        let updates = read_log(&run.id, &log)?;
        let Spec { train: spec, splits } =
            serde_json::from_value(run.spec.clone()).map_err(|error| {
                Failure::new(
                    "record-unreadable",
                    Exit::Run,
                    format!("the spec of run `{}` is not in the form this build reads", run.id),
                )
                .because(&error)
            })?;
        let snapshot_digest = run.inputs.get("snapshot").copied();
        for (what, is_same) in [
            ("spec", manifest.spec == spec),
            ("splits", manifest.splits == to_value(&splits)?),
            ("snapshot", Some(manifest.snapshot) == snapshot_digest),
            ("weights", manifest.weights == weights_digest),
            ("metrics log", is_whole(&updates, manifest.n_updates)),
        ] {
            if !is_same {
                return Err(altered(
                    &run.id,
                    &format!("its {what} and its model manifest contradict each other"),
                ));
            }
        }
        let snapshot = lab.store.snapshot(&manifest.snapshot)?;
        let schema = manifest.schema()?;
        if schema.digest() != snapshot.schema {
            return Err(altered(&run.id, "its schema is not the one of its snapshot"));
        }
        let dataset = DatasetSpec {
            name: spec.dataset.clone(),
            files: snapshot.files.iter().map(|file| file.path.clone()).collect(),
            schema: String::new(),
            splits,
        };
        let located = Located { snapshot, schema, dataset, root: lab.root.to_owned() };
        let subject =
            options.version.as_ref().map_or_else(|| run.subject.clone(), VersionRecord::label);
        Ok(Self { run, subject, spec, located, manifest, manifest_digest, weights, updates })
    }
}

fn refuse_what_cannot_be_replayed(
    lab: &Lab<'_>,
    run: &RunRecord,
    options: &ReplayOptions,
) -> Result<(), Failure> {
    if run.step != Step::Train {
        return Err(Failure::new(
            "replay-not-a-training",
            Exit::Usage,
            format!("run `{}` is a step `{}`: only a training is replayed", run.id, run.step.word()),
        )
        .hint("`karat runs` lists runs with their steps; `karat replay MODEL@VERSION` finds the training of a version"));
    }
    if run.state != RunState::Complete {
        let failure = Failure::new(
            "replay-unfinished",
            Exit::Usage,
            format!("run `{}` is {}: there is no result to compare with", run.id, run.state.word()),
        );
        let failure = run.error.iter().fold(failure, |failure, error| failure.detail(error));
        return Err(failure.hint(format!("`karat train --resume {}` completes it", run.id)));
    }
    // Bits between releases were never promised; how far apart two releases are is a fair question.
    if run.tool != lab.tool && options.tolerance.is_none() {
        return Err(Failure::new(
            "replay-other-version",
            Exit::Usage,
            format!("run `{}` was made by {}, this is {}", run.id, run.tool, lab.tool),
        )
        .detail("equal bits are promised for one version only")
        .hint(format!("`karat replay {} --tolerance 0.001` says how far apart they are", run.id)));
    }
    Ok(())
}

/// The key that the record's own fields give.
fn key_of(run: &RunRecord) -> Digest {
    let asked = Asked {
        step: run.step,
        subject: String::new(),
        spec: run.spec.clone(),
        inputs: run.inputs.clone(),
        seed: run.seed,
        device: run.device.clone(),
        total: None,
    };
    asked.key(&run.tool)
}

/// Updates 1, 2, 3, … as many as the manifest says.
fn is_whole(updates: &[UpdateRecord], n_updates: u64) -> bool {
    updates.len() as u64 == n_updates && updates.iter().map(|it| it.update).eq(1..=n_updates)
}

pub(super) fn altered(run: &RunId, fact: &str) -> Failure {
    Failure::new(
        "record-altered",
        Exit::Run,
        format!("the record of run `{run}` was altered: {fact}"),
    )
    .detail("nothing can be said about its reproducibility")
    .hint("`karat verify` checks the whole store")
}
