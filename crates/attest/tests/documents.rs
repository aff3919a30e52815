//! Verdict, provenance and bill of materials: each number and digest stands where its standard says.

use std::collections::BTreeMap;

use karat_attest::{
    AttestError, Bundle, SigningKey, bom, bundle,
    oms::{self, Files, root_digest},
    provenance::{self, Training},
    verdict,
};
use karat_core::{Digest, Environment, Host, Outcome, Timestamp, Verdict, summary::CodeVersion};
use serde_json::{Value, json};

fn key() -> SigningKey {
    SigningKey::from_pem(include_str!("fixtures/keys/p256.pem").to_owned()).expect("a test key")
}

fn files() -> Files {
    BTreeMap::from([
        ("model.json".to_owned(), Digest::of(b"manifest")),
        ("model.safetensors".to_owned(), Digest::of(b"weights")),
    ])
}

/// As an older karat would have stored it: fields that came later are absent.
fn judged() -> Verdict {
    let digest = |text: &str| Digest::of(text.as_bytes()).to_string();
    let finding = |rule: &str, outcome: &str| {
        json!({
            "rule": rule, "subject": "auc, slice all", "outcome": outcome, "value": 0.71, "interval": [0.7, 0.72],
            "bound": "at least 0.64", "n_rows": 900, "message": "", "examples": [], "advice": null, "numbers": {},
        })
    };
    serde_json::from_value(json!({
        "version": 1, "gate": "release", "outcome": "pass", "inconclusive_is_allowed": false, "is_unbaselined": false,
        "judged": {
            "candidate": digest("manifest"), "baseline": digest("old"), "snapshot": digest("snapshot"),
            "rows": digest("rows"), "predictions": digest("predictions"), "baseline_predictions": null,
            "policy": digest("policy"), "tool": "karat 0.1.0",
        },
        "candidate": "flights@2", "baseline": "flights@1", "reliability": 0.95,
        "findings": [finding("good enough", "pass")],
        "report": {
            "cells": [
                { "metric": "auc", "slice": "all", "n_rows": 900, "value": 0.71, "interval": [0.7, 0.72], "baseline": null,
                  "improvement": null, "improvement_interval": null, "reason": null },
                { "metric": "auc", "slice": "carrier=UA", "n_rows": 9, "value": null, "interval": null, "baseline": null,
                  "improvement": null, "improvement_interval": null, "reason": "one class" },
            ],
            "slices": [], "curves": {},
        },
    }))
    .expect("a verdict")
}

fn with(outcomes: &[Outcome]) -> Verdict {
    let mut verdict = judged();
    let finding = verdict.findings[0].clone();
    verdict.findings = outcomes
        .iter()
        .map(|outcome| {
            let mut finding = finding.clone();
            (finding.rule, finding.outcome) = (outcome.word().to_owned(), *outcome);
            finding
        })
        .collect();
    verdict.outcome = Outcome::of_all(outcomes.iter().copied());
    verdict
}

#[test]
fn a_verdict_in_test_result_s_three_words() {
    for (outcomes, word) in [
        (&[Outcome::Pass, Outcome::Pass][..], "PASSED"),
        (&[Outcome::Pass, Outcome::Warn], "WARNED"),
        (&[Outcome::Pass, Outcome::Waived], "WARNED"),
        (&[Outcome::Pass, Outcome::Inconclusive], "FAILED"),
        (&[Outcome::NotApplied, Outcome::Pass], "FAILED"),
        (&[Outcome::Fail, Outcome::Warn], "FAILED"),
    ] {
        assert_eq!(verdict::result(&with(outcomes)), word, "{outcomes:?}");
    }
    // That the policy lets it end with 0 does not make it a pass.
    let mut allowed = with(&[Outcome::Inconclusive]);
    allowed.inconclusive_is_allowed = true;
    assert_eq!(verdict::result(&allowed), "FAILED");

    let all = with(&[
        Outcome::Pass,
        Outcome::Waived,
        Outcome::Warn,
        Outcome::Inconclusive,
        Outcome::NotApplied,
        Outcome::Fail,
    ]);
    let claim = verdict::statement(&all, &Digest::of(b"verdict"), &files()).predicate;
    let name = |word: &str| format!("{word}: auc, slice all");
    assert_eq!(claim["passedTests"], json!([name("pass")]));
    assert_eq!(claim["warnedTests"], json!([name("waived"), name("warn")]));
    assert_eq!(
        claim["failedTests"],
        json!([name("inconclusive"), name("not applied"), name("fail")])
    );
}

#[test]
fn a_signed_verdict_is_about_one_model_and_one_verdict() {
    let digest = Digest::of(b"verdict");
    let statement = verdict::statement(&judged(), &digest, &files());
    assert!(statement.is_about(&root_digest(&files())), "the name its signature gives it");
    let configuration = statement.predicate["configuration"].as_array().expect("a list").clone();
    let named: Vec<&str> = configuration.iter().filter_map(|it| it["name"].as_str()).collect();
    assert_eq!(
        named,
        ["verdict.json", "gate.toml", "snapshot", "rows", "predictions.parquet", "baseline"]
    );
    assert_eq!(configuration[1]["digest"]["sha256"], Digest::of(b"policy").hex());

    let bundle = Bundle::parse(bundle::sign(&statement, &key()).as_bytes()).expect("a bundle");
    let verified = bundle.verify(&[key().public()]).expect("signed");
    let manifest = Digest::of(b"manifest");
    let check = |manifest: &Digest, digest: &Digest| {
        verdict::check(&verified, manifest, digest).expect("of this form")
    };
    assert_eq!(check(&manifest, &digest).as_deref(), Some("PASSED"));
    assert_eq!(check(&Digest::of(b"other"), &digest), None, "another model");
    assert_eq!(check(&manifest, &Digest::of(b"other")), None, "another verdict");

    let model = oms::statement("model", &files()).expect("not empty");
    let model = Bundle::parse(bundle::sign(&model, &key()).as_bytes()).expect("a bundle");
    let refused =
        verdict::check(&model.verify(&[key().public()]).expect("signed"), &manifest, &digest);
    assert!(matches!(refused, Err(AttestError::Unsupported { .. })), "{refused:?}");
}

fn training(files: &Files) -> Training<'_> {
    let environment = Environment {
        device: "cpu".to_owned(),
        precision: "f32".to_owned(),
        n_threads: 2,
        host: Host {
            processor: Some("AMD EPYC 9R14".to_owned()),
            binary: Some(Digest::of(b"binary")),
            runner: Some("hosted".to_owned()),
        },
        ..Environment::default()
    };
    Training {
        label: "flights@2".to_owned(),
        files,
        manifest: Digest::of(b"manifest"),
        spec: json!({ "epochs": 4 }),
        seed: Some(u64::MAX),
        dataset: "flights@9f3c21ab".to_owned(),
        snapshot: Digest::of(b"snapshot"),
        policy: Some(Digest::of(b"policy")),
        verdict: Some(Digest::of(b"verdict")),
        environment: Some(environment),
        device: "cpu".to_owned(),
        code: CodeVersion { commit: Some("c".repeat(40)), is_dirty: Some(false), dvc: None },
        tool: "karat 0.1.0".to_owned(),
        lock: Some(Digest::of(b"lock")),
        run: "r-0123456789".to_owned(),
        times: [Some(Timestamp(0)), None],
        log: Some(Digest::of(b"log")),
        chain: Some(Digest::of(b"chain")),
    }
}

#[test]
fn provenance_says_what_went_in_where_and_on_whose_machine() {
    let files = files();
    let statement = provenance::statement(&training(&files));
    assert_eq!(statement.predicate_type, "https://slsa.dev/provenance/v1");
    assert!(
        statement.is_about(&Digest::of(b"manifest")) && statement.is_about(&root_digest(&files))
    );
    let (build, run) =
        (&statement.predicate["buildDefinition"], &statement.predicate["runDetails"]);
    let external = &build["externalParameters"];
    assert_eq!(external["config"], json!({ "epochs": 4 }));
    assert_eq!(
        external["seed"], "18446744073709551615",
        "text: readers of JSON round such numbers"
    );
    assert_eq!(external["dataset"], "flights@9f3c21ab");
    assert_eq!(external["gate_policy"], Digest::of(b"policy").to_string());
    assert_eq!(build["internalParameters"]["threads"], 2);
    let names = |list: &Value| -> Vec<String> {
        let list = list.as_array().expect("a list").iter();
        list.filter_map(|it| it["name"].as_str().map(str::to_owned)).collect()
    };
    let went_in = &build["resolvedDependencies"];
    assert_eq!(names(went_in), ["flights@9f3c21ab", "karat 0.1.0", "Cargo.lock", "project"]);
    assert_eq!(went_in[3]["digest"]["gitCommit"], "c".repeat(40));
    assert!(run["builder"]["id"].as_str().expect("text").ends_with("/builder/hosted"));
    assert_eq!(
        run["metadata"],
        json!({ "invocationId": "r-0123456789", "startedOn": "1970-01-01T00:00:00Z" })
    );
    assert_eq!(names(&run["byproducts"]), ["metrics.jsonl", "hash chain", "verdict.json"]);

    let mut laptop = training(&files);
    laptop.environment.as_mut().expect("known").host.runner = None;
    let local = provenance::statement(&laptop).predicate["runDetails"]["builder"]["id"].clone();
    assert!(local.as_str().expect("text").ends_with("/builder/local"));
    laptop.environment = None;
    assert!(provenance::statement(&laptop).to_payload().starts_with(b"{\"_type\":"));
}

#[test]
fn a_bill_of_materials_has_the_card_with_metrics_as_text() {
    let (files, verdict) = (files(), judged());
    let model = bom::Model {
        name: "flights",
        version: 2,
        files: &files,
        architecture: "mlp",
        task: "binary",
        label: "late",
        features: vec!["hour".to_owned(), "carrier".to_owned()],
        n_parameters: 12,
        dataset: "flights@9f3c21ab",
        snapshot: Digest::of(b"snapshot"),
        n_rows: 900,
        verdict: Some((&verdict, Digest::of(b"verdict"))),
        tool: "karat 0.1.0",
        at: Some(Timestamp(0)),
    };
    let text = bom::cyclonedx(&model);
    assert_eq!(text, bom::cyclonedx(&model), "the same model, the same text");
    let found: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&found["bomFormat"], &found["specVersion"]), (&json!("CycloneDX"), &json!("1.6")));
    let component = &found["metadata"]["component"];
    assert_eq!(component["type"], "machine-learning-model");
    assert_eq!(
        component["hashes"],
        json!([{ "alg": "SHA-256", "content": root_digest(&files).hex() }])
    );
    // A cell that could not be measured has a reason and no value; it is no metric.
    assert_eq!(
        component["modelCard"]["quantitativeAnalysis"]["performanceMetrics"],
        json!([{
            "type": "auc", "value": "0.71", "slice": "all",
            "confidenceInterval": { "lowerBound": "0.7", "upperBound": "0.72" },
        }])
    );
    let properties = component["properties"].as_array().expect("a list");
    assert!(properties.contains(&json!({ "name": "karat:interval_level", "value": "0.9000" })));
    let needs = found["dependencies"][0]["dependsOn"].as_array().expect("a list");
    let parts = found["components"].as_array().expect("a list").iter();
    assert!(parts.map(|it| &it["bom-ref"]).all(|it| needs.contains(it)));
    let serial = found["serialNumber"].as_str().expect("text");
    assert_eq!((serial.len(), &serial[..9], &serial[23..24]), (45, "urn:uuid:", "8"));
}
