//! SLSA provenance v1 for a training: "how these files came to be".
//!
//! External parameters are what a person chose, internal ones what the machine added, resolved dependencies what went in
//! by digest. Times are the one part that training again would not give again; `SOURCE_DATE_EPOCH` replaces them.

use std::collections::BTreeMap;

use karat_core::{Digest, Environment, Timestamp, summary::CodeVersion};
use serde_json::{Value, json};

use crate::{
    Resource, Statement, Subject,
    oms::{Files, root_digest},
};

/// What kind of claim it is.
pub const PREDICATE_TYPE: &str = "https://slsa.dev/provenance/v1";
/// What the parameters below mean: docs/attestations.md.
pub const BUILD_TYPE: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/train/v1");
/// Where it ran, with [`Environment::host`]'s runner after it, or `local`.
const BUILDER: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/builder");

/// A training as recorded.
#[derive(Clone, Debug)]
pub struct Training<'a> {
    /// `flights@1`.
    pub label: String,
    /// The model's files.
    pub files: &'a Files,
    /// Its manifest.
    pub manifest: Digest,
    /// The spec it was trained from, as JSON.
    pub spec: Value,
    /// Its seed.
    pub seed: Option<u64>,
    /// `flights@9f3c21ab`.
    pub dataset: String,
    /// What that names.
    pub snapshot: Digest,
    /// The policy of its verdict.
    pub policy: Option<Digest>,
    /// That verdict.
    pub verdict: Option<Digest>,
    /// Where it ran.
    pub environment: Option<Environment>,
    /// Class of the device.
    pub device: String,
    /// Git state of the project.
    pub code: CodeVersion,
    /// `karat 0.1.0`.
    pub tool: String,
    /// `Cargo.lock` of the program.
    pub lock: Option<Digest>,
    /// The run's id.
    pub run: String,
    /// When it began and ended.
    pub times: [Option<Timestamp>; 2],
    /// Its log of updates.
    pub log: Option<Digest>,
    /// SHA-256 chain over the losses of every update.
    pub chain: Option<Digest>,
}

/// The statement about how a model was trained.
#[must_use]
pub fn statement(training: &Training<'_>) -> Statement {
    let subject = vec![
        Subject::sha256(training.label.as_str(), &root_digest(training.files)),
        Subject::sha256("model.json", &training.manifest),
    ];
    let runner =
        training.environment.as_ref().and_then(|it| it.host.runner.as_deref()).unwrap_or("local");
    let [began, ended] = training.times.map(|it| it.map(|it| it.to_string()));
    let predicate = json!({
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "config": training.spec,
                "seed": training.seed.map(|it| it.to_string()),
                "dataset": training.dataset,
                "gate_policy": training.policy.map(|it| it.to_string()),
            },
            "internalParameters": internal(training),
            "resolvedDependencies": dependencies(training),
        },
        "runDetails": {
            "builder": {
                "id": format!("{BUILDER}/{runner}"),
                "version": { "karat": training.tool.strip_prefix("karat ").unwrap_or(&training.tool) },
            },
            "metadata": { "invocationId": training.run, "startedOn": began, "finishedOn": ended },
            "byproducts": resources([
                ("metrics.jsonl", training.log),
                ("hash chain", training.chain),
                ("verdict.json", training.verdict),
            ]),
        },
    });
    Statement::of(subject, PREDICATE_TYPE, without_null(predicate))
}

fn internal(training: &Training<'_>) -> Value {
    let Some(it) = &training.environment else { return json!({ "backend": training.device }) };
    json!({
        "backend": training.device,
        "device": it.device_name.as_ref().or(it.host.processor.as_ref()),
        "driver": it.driver,
        "instructions": it.instructions,
        "precision": it.precision,
        "features": it.features,
        "tier": it.tiers,
        "threads": it.n_threads,
        // Kernels are chosen by rule and never by trial: there is no cache to name.
        "autotune_cache": Value::Null,
        "code_is_dirty": training.code.is_dirty,
    })
}

fn dependencies(training: &Training<'_>) -> Vec<Resource> {
    let binary = training.environment.as_ref().and_then(|it| it.host.binary);
    let mut found = resources([
        (training.dataset.as_str(), Some(training.snapshot)),
        (training.tool.as_str(), binary),
        ("Cargo.lock", training.lock),
    ]);
    found.extend(training.code.commit.as_ref().map(|commit| Resource {
        name: "project".to_owned(),
        uri: None,
        digest: BTreeMap::from([("gitCommit".to_owned(), commit.clone())]),
    }));
    // What DVC knew of the project. Its digest of a folder ends in `.dir`, which is no hexadecimal digit.
    found.extend(training.code.dvc.iter().flat_map(|it| &it.files).map(|file| Resource {
        name: format!("dvc:{}", file.path),
        uri: None,
        digest: BTreeMap::from([("md5".to_owned(), file.md5.trim_end_matches(".dir").to_owned())]),
    }));
    found
}

fn resources<const N: usize>(named: [(&str, Option<Digest>); N]) -> Vec<Resource> {
    named.into_iter().filter_map(|(name, it)| Some(Resource::sha256(name, &it?))).collect()
}

/// What is not known is left out: `null` is not a time.
fn without_null(value: Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(
            members
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| (name, without_null(value)))
                .collect(),
        ),
        other => other,
    }
}
