//! A small store in which every page has something to show, and every text a user can choose is the one given.

use std::{collections::BTreeMap, path::Path};

use karat_core::{
    Digest, Environment, Finding, Host, Name, Outcome, RunId, Snapshot, SnapshotFile, Step,
    Timestamp, Verdict,
    metric::Metric,
    summary::{CodeVersion, DataSummary, RunSummary},
    verdict::{Cell, Judged, Report, SliceCount},
};
use karat_store::{
    Access, Authority, PromoteRequest, RunEnd, RunLog, RunStart, RunState, Store, VersionRecord,
};
use karat_ui::{Request, Response, Site};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// A store, and what its things are called.
pub(crate) struct Fixture {
    pub(crate) dir: TempDir,
    pub(crate) train: RunId,
    pub(crate) other: RunId,
    pub(crate) running: RunId,
    pub(crate) snapshot: Digest,
    pub(crate) verdict: Digest,
    pub(crate) artifact: Digest,
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

impl Fixture {
    /// Where every free text is `text`.
    pub(crate) fn of(text: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(dir.path(), Access::ReadWrite).expect("a store");
        let snapshot = snapshot(&store, text);
        let (train, first) = trained(&store, text, snapshot, 7);
        let (other, second) = trained(&store, text, snapshot, 8);
        let failed =
            store.begin_run(&start(Step::Score, "failed", text, snapshot), NOW).expect("begins");
        let end = RunEnd {
            state: RunState::Failed,
            error: Some(text.to_owned()),
            ..end(text, [].into())
        };
        store.finish_run(&failed, &end, NOW).expect("ends");
        let running =
            store.begin_run(&start(Step::Train, "running", text, snapshot), NOW).expect("begins");
        let mut log = RunLog::open(&store, &running.id).expect("a log");
        log.note_evaluation(1, 0.5, 0.5);
        log.flush().expect("flushed");
        let passed = judged_by(&store, text, verdict(text, &first, None, snapshot));
        promote(&store, text, &first, Authority::Verdict(passed));
        promote(&store, text, &second, Authority::Forced { reason: text.to_owned() });
        promote(&store, text, &first, Authority::Rollback { reason: text.to_owned() });
        let verdict = verdict(text, &second, Some(&first), snapshot);
        let verdict = judged_by(&store, text, verdict);
        let artifact = first.outputs["model.json"];
        reported(&store, text, snapshot);
        drop(store);
        Self { dir, train, other, running: running.id, snapshot, verdict, artifact }
    }

    /// The address of every page, with and without what its forms can send.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let Self { train, other, running, .. } = self;
        let [snapshot, verdict, artifact] =
            [self.snapshot, self.verdict, self.artifact].map(|it| it.hex());
        let mut all: Vec<String> =
            ["/", "/runs", "/models", "/verdicts", "/promotions", "/data", "/ledger", "/compare"]
                .map(str::to_owned)
                .into();
        all.extend([
            "/runs?step=train&state=complete&sort=best&q=r-&page=1".to_owned(),
            "/runs?step=&state=failed&sort=longest&q=".to_owned(),
            "/runs?page=999".to_owned(),
            "/verdicts?outcome=fail&gate=".to_owned(),
            format!("/runs/{train}"),
            format!("/runs/{running}"),
            format!("/compare?run={train}&run={other}&run={running}"),
            "/models/flights".to_owned(),
            "/models/flights/1".to_owned(),
            "/models/flights/2".to_owned(),
            "/models/flights/1/lineage".to_owned(),
            format!("/verdicts/{verdict}"),
            format!("/data/{snapshot}"),
            format!("/artifacts/{artifact}"),
        ]);
        all
    }

    /// What a page answers.
    pub(crate) fn get(&self, target: &str) -> Response {
        self.answer(&request(target))
    }

    pub(crate) fn answer(&self, request: &Request) -> Response {
        answer(self.dir.path(), "project", request)
    }
}

/// The answer of a site over the store in `dir`.
pub(crate) fn answer(dir: &Path, project: &str, request: &Request) -> Response {
    let store = Store::open(dir, Access::ReadOnly).expect("a store that can be read");
    let clock = || NOW;
    let site = Site {
        store: &store,
        project: project.to_owned(),
        tool: "karat 0.0.0".to_owned(),
        clock: &clock,
    };
    site.answer(request)
}

pub(crate) fn request(target: &str) -> Request {
    Request {
        method: "GET".to_owned(),
        target: target.to_owned(),
        hosts: vec!["127.0.0.1:8741".to_owned()],
        has_body: false,
    }
}

fn start(step: Step, key: &str, text: &str, snapshot: Digest) -> RunStart {
    RunStart {
        step,
        key: Digest::of(key.as_bytes()),
        subject: text.to_owned(),
        spec: json!({ text: { text: [text, 1.5] }, "list": [{ text: text }], "key": key }),
        inputs: BTreeMap::from([
            ("snapshot".to_owned(), snapshot),
            (text.to_owned(), Digest::of(b"input")),
        ]),
        seed: Some(u64::MAX),
        device: text.to_owned(),
        tool: text.to_owned(),
        code: CodeVersion { commit: Some(text.to_owned()), is_dirty: Some(true), dvc: None },
    }
}

fn end(text: &str, outputs: BTreeMap<String, Digest>) -> RunEnd {
    let environment = Environment {
        device: text.to_owned(),
        device_name: Some(text.to_owned()),
        driver: Some(text.to_owned()),
        instructions: text.to_owned(),
        precision: text.to_owned(),
        features: vec![text.to_owned()],
        remarks: vec![text.to_owned()],
        host: Host { processor: Some(text.to_owned()), ..Host::default() },
        ..Environment::default()
    };
    let metrics = json!({
        "summary": text,
        text: text,
        "best_eval_loss": 0.5,
        "evaluations": [[1.0, 0.75], [2.0, 0.5]],
        "eval_values": [[1.0, 0.5], [2.0, 0.75]],
        "environment": environment,
    });
    RunEnd { state: RunState::Complete, outputs, metrics, seconds: 61.5, error: None }
}

fn put(store: &Store, text: &str) -> Digest {
    store.put_bytes(text.as_bytes()).expect("kept")
}

fn put_json(store: &Store, value: &impl serde::Serialize) -> Digest {
    put(store, &serde_json::to_string(value).expect("serialises"))
}

fn trained(store: &Store, text: &str, snapshot: Digest, seed: u64) -> (RunId, VersionRecord) {
    let key = format!("train {seed}");
    let run = store.begin_run(&start(Step::Train, &key, text, snapshot), NOW).expect("begins");
    let log: String = (1..=5)
        .map(|i| format!("{{\"update\":{i},\"loss\":{},\"learning_rate\":0.01,\"gradient_norm\":1.0,\"n_rows\":8}}\n", 1.0 / f64::from(i)))
        .collect();
    let manifest =
        json!({ "spec": { text: text, "seed": seed }, "n_parameters": 12_345, "n_updates": 5 });
    let outputs = BTreeMap::from([
        ("metrics.jsonl".to_owned(), put(store, &log)),
        ("model.json".to_owned(), put_json(store, &manifest)),
        (text.to_owned(), put(store, &format!("{text}\n{text}"))),
    ]);
    store.finish_run(&run, &end(text, outputs.clone()), NOW).expect("ends");
    let version = store.register(&name("flights"), &outputs["model.json"], &run.id, &outputs, NOW);
    (run.id, version.expect("registered"))
}

fn snapshot(store: &Store, text: &str) -> Digest {
    let file = SnapshotFile {
        path: text.to_owned(),
        digest: Digest::of(b"file"),
        n_bytes: 1536,
        n_rows: 1234,
    };
    let snapshot = Snapshot {
        dataset: name("flights"),
        files: vec![file],
        n_rows: 1234,
        schema: Digest::of(b"schema"),
    };
    store.put_snapshot(&snapshot, NOW).expect("kept")
}

/// The check of a snapshot and the report about it.
fn reported(store: &Store, text: &str, snapshot: Digest) {
    let profile = json!({
        "snapshot": snapshot, "n_rows": 1234, "absent": [], "unnamed": [], "key": null,
        "duplicates": { "n_repeated": 0, "n_missing": 0, "examples": [] }, "splits": {}, "overlaps": [], "associations": [],
        "columns": [column(text)],
    });
    let run = store.begin_run(&start(Step::Check, "check", text, snapshot), NOW).expect("begins");
    let outputs = BTreeMap::from([("profile.json".to_owned(), put_json(store, &profile))]);
    store.finish_run(&run, &end(text, outputs), NOW).expect("ends");
    let summary = RunSummary {
        version: 1,
        project: text.to_owned(),
        tool: text.to_owned(),
        code: CodeVersion::default(),
        data: DataSummary {
            snapshot: text.to_owned(),
            digest: snapshot,
            n_files: 1,
            n_rows: 1234,
            splits: Vec::new(),
        },
        checks: vec![finding(text, Outcome::Warn), finding(text, Outcome::Pass)],
        train: None,
        verdict: None,
        verdict_digest: None,
        promotion: None,
    };
    let report = BTreeMap::from([("report.json".to_owned(), put_json(store, &summary))]);
    store.set_reports(&snapshot, text, &report, NOW).expect("kept");
}

fn column(text: &str) -> Value {
    let none = json!({ "n": 0, "examples": [] });
    json!({
        "name": text, "ty": "float", "n_missing": 3, "n_not_finite": 0, "n_distinct": 44, "distinct_is_exact": false,
        "min": 0.0, "max": 1.5, "mean": 0.25, "std": 1.0, "top": [[text, 3]],
        "wrong_type": none, "out_of_range": none, "out_of_domain": none, "repeated": none,
    })
}

fn finding(text: &str, outcome: Outcome) -> Finding {
    let mut finding = Finding::new(text, text, outcome, text, text);
    finding.examples = vec![text.to_owned()];
    finding.advice = Some(text.to_owned());
    finding.numbers = BTreeMap::from([(text.to_owned(), 0.5)]);
    finding
}

fn verdict(
    text: &str,
    candidate: &VersionRecord,
    baseline: Option<&VersionRecord>,
    snapshot: Digest,
) -> Verdict {
    let cell = |slice: &str| Cell {
        metric: Metric::Auc,
        slice: slice.to_owned(),
        n_rows: 100,
        value: Some(0.75),
        interval: Some([0.7, 0.8]),
        baseline: Some(0.5),
        improvement: Some(0.25),
        improvement_interval: Some([0.2, 0.3]),
        reason: None,
    };
    let slice =
        |slice: &str| SliceCount { slice: slice.to_owned(), n_rows: 100, label_mean: Some(0.5) };
    let outcome = if baseline.is_some() { Outcome::Fail } else { Outcome::Pass };
    let record = json!({
        "version": 1,
        "gate": text,
        "outcome": outcome,
        "inconclusive_is_allowed": false,
        "is_unbaselined": baseline.is_none(),
        "judged": Judged {
            tool: text.to_owned(),
            baseline: baseline.map(|it| it.manifest),
            baseline_predictions: baseline.map(|_| Digest::of(b"baseline predictions")),
            ..judged(candidate, snapshot)
        },
        "candidate": text,
        "baseline": text,
        "reliability": 0.95,
        "findings": [finding(text, outcome)],
        "report": Report {
            cells: vec![cell("all"), cell(text)],
            slices: vec![slice("all"), slice(text)],
            curves: BTreeMap::from([(text.to_owned(), vec![[0.0, 0.0], [1.0, 1.0]])]),
        },
    });
    serde_json::from_value(record).expect("a verdict")
}

fn judged(candidate: &VersionRecord, snapshot: Digest) -> Judged {
    let record = json!({
        "candidate": candidate.manifest,
        "baseline": null,
        "snapshot": snapshot,
        "rows": Digest::of(b"rows"),
        "predictions": Digest::of(b"predictions"),
        "baseline_predictions": null,
        "policy": Digest::of(b"policy"),
        "tool": "",
    });
    serde_json::from_value(record).expect("what was judged")
}

/// Gives a verdict its place in the ledger and keeps it.
fn judged_by(store: &Store, text: &str, mut verdict: Verdict) -> Digest {
    let ledger = store.ledger().expect("unbroken");
    verdict.ledger = Some(ledger.place(text, None, &verdict.judged).ledger);
    store.put_verdict(&verdict, text, NOW).expect("kept").expect("nobody else is here")
}

fn promote(store: &Store, text: &str, to: &VersionRecord, authority: Authority) {
    let alias = name("champion");
    let current = store.alias(&to.model, &alias).expect("looks");
    let request = PromoteRequest {
        model: to.model.clone(),
        alias,
        to: to.version,
        expected_seq: current.map_or(0, |it| it.seq),
        authority,
        actor: text.to_owned(),
    };
    store.promote(&request, NOW).expect("moves");
}
