//! Tests of the whole crate, through its public face. Here: what they share.

mod browse;
mod crash;
mod ledger;
mod maintain;
mod objects;
mod promotion;
mod runs;
mod store;

use std::{collections::BTreeMap, path::Path};

use karat_core::{
    Coded as _, Digest, Name, Outcome, RunId, Step, Timestamp, Verdict,
    summary::CodeVersion,
    verdict::{Judged, Report},
};
use serde_json::json;
use tempfile::TempDir;

use crate::{
    Access, Authority, PromoteRequest, Promotion, RunEnd, RunHandle, RunStart, RunState, Store,
    StoreError, VersionRecord,
};

pub(crate) const NOW: Timestamp = Timestamp(1_700_000_000_000);

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

pub(crate) fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

pub(crate) fn open(dir: &Path) -> Store {
    Store::open(dir, Access::ReadWrite).expect("a store that opens")
}

/// The stable code of what must be an error.
#[track_caller]
pub(crate) fn code<T: std::fmt::Debug>(result: Result<T, StoreError>) -> &'static str {
    result.expect_err("must be refused").code().as_str()
}

pub(crate) fn start(step: Step, key: &str) -> RunStart {
    RunStart {
        step,
        key: Digest::of(key.as_bytes()),
        subject: format!("subject of {key}"),
        spec: json!({ "key": key }),
        inputs: BTreeMap::from([("snapshot".to_owned(), Digest::of(b"snapshot"))]),
        seed: Some(u64::MAX),
        device: "cpu".to_owned(),
        tool: "karat 0.0.0".to_owned(),
        code: CodeVersion { commit: None, is_dirty: Some(true), dvc: None },
    }
}

pub(crate) fn end(outputs: BTreeMap<String, Digest>) -> RunEnd {
    RunEnd {
        state: RunState::Complete,
        outputs,
        metrics: json!({ "loss": 0.5 }),
        seconds: 1.5,
        error: None,
    }
}

/// A complete train run with one output, from beginning to end.
pub(crate) fn complete_run(
    store: &Store,
    key: &str,
) -> Result<(RunId, BTreeMap<String, Digest>), StoreError> {
    let handle = store.begin_run(&start(Step::Train, key), NOW)?;
    let weights = store.put_bytes(format!("weights of {key}").as_bytes())?;
    let outputs = BTreeMap::from([("model.safetensors".to_owned(), weights)]);
    store.finish_run(&handle, &end(outputs.clone()), NOW)?;
    Ok((handle.id, outputs))
}

/// A version of `flights`, whose manifest depends on `key`.
pub(crate) fn version(store: &Store, key: &str) -> Result<VersionRecord, StoreError> {
    let (run, mut outputs) = match store.cached_run(Step::Train, &Digest::of(key.as_bytes()))? {
        Some(run) => (run.id, run.outputs),
        None => complete_run(store, key)?,
    };
    let manifest = store.put_bytes(format!("manifest of {key}").as_bytes())?;
    outputs.insert("model.json".to_owned(), manifest);
    store.register(&name("flights"), &manifest, &run, &outputs, NOW)
}

pub(crate) fn verdict(
    candidate: &VersionRecord,
    baseline: Option<&VersionRecord>,
    outcome: Outcome,
) -> Verdict {
    Verdict {
        version: 1,
        gate: "release".to_owned(),
        outcome,
        inconclusive_is_allowed: false,
        is_unbaselined: baseline.is_none(),
        judged: Judged {
            candidate: candidate.manifest,
            baseline: baseline.map(|it| it.manifest),
            snapshot: Digest::of(b"snapshot"),
            rows: Digest::of(b"rows"),
            predictions: Digest::of(b"predictions"),
            baseline_predictions: None,
            anchor: None,
            anchor_predictions: None,
            policy: Digest::of(b"policy"),
            tool: "karat 0.0.0".to_owned(),
            binary: None,
            code: CodeVersion::default(),
        },
        candidate: candidate.label(),
        baseline: baseline.map_or_else(|| "none".to_owned(), VersionRecord::label),
        anchor: None,
        reliability: 0.95,
        ledger: None,
        findings: Vec::new(),
        families: Vec::new(),
        seeds: None,
        operational: BTreeMap::new(),
        report: Report::default(),
    }
}

/// Puts a verdict on record, in the place that a gate without a budget gives it.
pub(crate) fn keep(store: &Store, verdict: &Verdict) -> Result<Digest, StoreError> {
    let place = store.ledger()?.place(&verdict.gate, None, &verdict.judged);
    let verdict = Verdict { ledger: Some(place.ledger), ..verdict.clone() };
    Ok(store.put_verdict(&verdict, "ada", NOW)?.expect("nobody else is at work"))
}

/// A request to move `flights@champion` to `to`, as it would be made right now.
pub(crate) fn request(
    store: &Store,
    to: &VersionRecord,
    authority: Authority,
) -> Result<PromoteRequest, StoreError> {
    let current = store.alias(&name("flights"), &name("champion"))?;
    Ok(PromoteRequest {
        model: name("flights"),
        alias: name("champion"),
        to: to.version,
        expected_seq: current.map_or(0, |it| it.seq),
        authority,
        actor: "ada".to_owned(),
    })
}

/// Judges `to` against the champion and promotes it.
pub(crate) fn judge_and_promote(
    store: &Store,
    to: &VersionRecord,
) -> Result<Promotion, StoreError> {
    let champion = store.alias(&name("flights"), &name("champion"))?;
    let baseline = champion.map(|it| store.version(&name("flights"), it.version)).transpose()?;
    let verdict = keep(store, &verdict(to, baseline.as_ref(), Outcome::Pass))?;
    store.promote(&request(store, to, Authority::Verdict(verdict))?, NOW)
}

pub(crate) fn rollback(store: &Store) -> Result<Promotion, StoreError> {
    let target = store.rollback_target(&name("flights"), &name("champion"))?;
    store.promote(
        &request(store, &target, Authority::Rollback { reason: "worse live".to_owned() })?,
        NOW,
    )
}

pub(crate) fn champion(store: &Store) -> Option<u32> {
    store.alias(&name("flights"), &name("champion")).expect("a readable alias").map(|it| it.version)
}

/// Everything that `verify` complains about.
pub(crate) fn problems(store: &Store) -> Vec<String> {
    store.verify(true, &mut |_, _| {}).expect("verify runs").problems
}

/// Flips one bit in the middle of a stored object.
pub(crate) fn rot(store: &Store, digest: &Digest) {
    let path = store.path(digest);
    let mut bytes = std::fs::read(&path).expect("the object is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&path, bytes).expect("the object can be overwritten");
}

/// A train run that was begun and not ended.
pub(crate) fn training(store: &Store) -> RunHandle {
    store.begin_run(&start(Step::Train, "training"), NOW).expect("nobody is at work on it")
}
