//! CycloneDX 1.6: the model, its card and what it was made from, for tools that keep bills of materials.
//!
//! A component `machine-learning-model` with a `modelCard`; each measured value of the verdict becomes one performance
//! metric with its slice and interval, all of them text, as the schema wants. Not signed by itself: its component carries
//! the digests that the model's signature covers.

use karat_core::{Digest, Timestamp, Verdict, canonical};
use serde_json::{Value, json};

use crate::oms::{Files, root_digest};

/// Most metrics that are written: a verdict with many slices has more cells than a reader wants.
pub const METRICS_MAX: usize = 10_000;

/// What a bill of materials says about a model.
#[derive(Clone, Debug)]
pub struct Model<'a> {
    /// `flights`.
    pub name: &'a str,
    /// `1`.
    pub version: u32,
    /// Its files.
    pub files: &'a Files,
    /// `mlp`.
    pub architecture: &'a str,
    /// `binary`, `multiclass` or `regression`.
    pub task: &'a str,
    /// Label column.
    pub label: &'a str,
    /// Columns that go in.
    pub features: Vec<String>,
    /// Trainable numbers.
    pub n_parameters: u64,
    /// `flights@9f3c21ab`.
    pub dataset: &'a str,
    /// What that names.
    pub snapshot: Digest,
    /// Rows trained on.
    pub n_rows: u64,
    /// What a gate said about it.
    pub verdict: Option<(&'a Verdict, Digest)>,
    /// `karat 0.1.0`.
    pub tool: &'a str,
    /// When it was trained.
    pub at: Option<Timestamp>,
}

/// The bill of materials, as JSON text. Equal models give equal text.
#[must_use]
pub fn cyclonedx(model: &Model<'_>) -> String {
    let reference = format!("{}@{}", model.name, model.version);
    let root = root_digest(model.files);
    let mut parts: Vec<Value> = model
        .files
        .iter()
        .map(|(name, digest)| {
            json!({ "type": "file", "bom-ref": format!("file:{name}"), "name": name, "hashes": sha256(digest) })
        })
        .collect();
    let mut needs: Vec<String> = model.files.keys().map(|name| format!("file:{name}")).collect();
    let dataset = format!("dataset:{}", model.dataset);
    parts.push(json!({
        "type": "data",
        "bom-ref": dataset,
        "name": model.dataset,
        "hashes": sha256(&model.snapshot),
        "data": [{ "type": "dataset", "name": model.dataset, "contents": { "properties": [
            { "name": "karat:rows_trained_on", "value": model.n_rows.to_string() },
        ] } }],
    }));
    needs.push(dataset.clone());
    let (tool, tool_version) = model.tool.split_once(' ').unwrap_or((model.tool, ""));
    let mut document = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "tools": { "components": [{ "type": "application", "name": tool, "version": tool_version }] },
            "component": {
                "type": "machine-learning-model",
                "bom-ref": reference,
                "name": model.name,
                "version": model.version.to_string(),
                "hashes": sha256(&root),
                "modelCard": card(model, &dataset),
                "properties": properties(model),
            },
        },
        "components": parts,
        "dependencies": [{ "ref": reference, "dependsOn": needs }],
    });
    if let Some(at) = model.at {
        document["metadata"]["timestamp"] = Value::String(at.to_string());
    }
    let bytes = canonical::to_vec(&document).expect("text and lists serialise");
    document["serialNumber"] = Value::String(serial(&Digest::of(&bytes)));
    let bytes = canonical::to_vec(&document).expect("text and lists serialise");
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

fn card(model: &Model<'_>, dataset: &str) -> Value {
    let inputs: Vec<Value> = model.features.iter().map(|it| json!({ "format": it })).collect();
    json!({
        "modelParameters": {
            "approach": { "type": "supervised" },
            "task": model.task,
            "modelArchitecture": model.architecture,
            "datasets": [{ "ref": dataset }],
            "inputs": inputs,
            "outputs": [{ "format": model.label }],
        },
        "quantitativeAnalysis": { "performanceMetrics": metrics(model) },
    })
}

fn metrics(model: &Model<'_>) -> Vec<Value> {
    let Some((verdict, _)) = model.verdict else { return Vec::new() };
    let cells = verdict.report.cells.iter();
    cells
        .filter_map(|cell| {
            let mut metric = json!({
                "type": cell.metric.word(),
                "value": cell.value?.to_string(),
                "slice": cell.slice,
            });
            if let Some([low, high]) = cell.interval {
                metric["confidenceInterval"] =
                    json!({ "lowerBound": low.to_string(), "upperBound": high.to_string() });
            }
            Some(metric)
        })
        .take(METRICS_MAX)
        .collect()
}

fn properties(model: &Model<'_>) -> Vec<Value> {
    let mut named = vec![("karat:parameters", model.n_parameters.to_string())];
    if let Some((verdict, digest)) = model.verdict {
        named.extend([
            ("karat:gate", verdict.gate.clone()),
            ("karat:verdict", verdict.outcome.word().to_owned()),
            ("karat:verdict_digest", digest.to_string()),
            ("karat:policy_digest", verdict.judged.policy.to_string()),
            // Two-sided, so that each end is one decision of the gate.
            ("karat:interval_level", format!("{:.4}", 2.0 * verdict.reliability - 1.0)),
        ]);
    }
    named.into_iter().map(|(name, value)| json!({ "name": name, "value": value })).collect()
}

fn sha256(digest: &Digest) -> Value {
    json!([{ "alg": "SHA-256", "content": digest.hex() }])
}

/// A UUID of version 8 (RFC 9562: "what the maker says") from the document's digest: the same model, the same number.
fn serial(digest: &Digest) -> String {
    let mut bytes = [0_u8; 16];
    bytes.copy_from_slice(&digest.as_bytes()[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    format!("urn:uuid:{}", parts.join("-"))
}
