//! Weights that match their digest and are not the model's: whoever could write to the store wrote them. Scoring refuses
//! each by name, and nothing is half-written.

use karat_core::{
    Digest, Name, Timestamp,
    tensors::{Dtype, Tensors, Writer},
};
use karat_store::{Access, Store};
use karat_testkit::Sandbox;
use serde_json::Value;

const KARAT: &str = env!("CARGO_BIN_EXE_karat");

/// Registers a version like `churn@1`, with other weights; gives its number.
fn register(sandbox: &Sandbox, weights: &[u8]) -> u32 {
    let store = Store::open(&sandbox.path().join(".karat"), Access::ReadWrite).expect("opens");
    let model: Name = "churn".parse().expect("a name");
    let first = store.version(&model, 1).expect("was trained");
    let digest: Digest = store.put_bytes(weights).expect("stored");
    let mut manifest: Value =
        serde_json::from_slice(&store.read(&first.manifest).expect("stored")).expect("JSON");
    manifest["weights"] = Value::String(digest.to_string());
    let manifest = store.put_bytes(manifest.to_string().as_bytes()).expect("stored");
    let mut outputs = first.outputs.clone();
    outputs.insert("model.safetensors".to_owned(), digest);
    outputs.insert("model.json".to_owned(), manifest);
    let forged = store.register(&model, &manifest, &first.run, &outputs, Timestamp(0));
    forged.expect("registers").version
}

/// The weights of `churn@1` after `change`, which is given each tensor's name, type, shape and bytes.
fn changed(
    weights: &[u8],
    change: impl Fn(&str, &mut Dtype, &mut Vec<usize>, &mut Vec<u8>) -> bool,
) -> Vec<u8> {
    let mut file = Writer::new();
    for (name, view) in Tensors::parse(weights).expect("parses").iter() {
        let (mut dtype, mut shape) = (view.dtype, view.shape.clone());
        let mut bytes = view.bytes.to_vec();
        if change(name, &mut dtype, &mut shape, &mut bytes) {
            file.add(name, dtype, &shape, bytes);
        }
    }
    file.finish()
}

/// A version whose manifest its run never made.
#[test]
fn a_forged_version_is_not_replayed() {
    let sandbox = Sandbox::trained(KARAT);
    let _ = sandbox.karat("train --out out").expect_code(0);
    let forged = register(&sandbox, &sandbox.bytes("out/model.safetensors"));
    let manifest = format!("version `churn@{forged}` has another model manifest");
    let _ = sandbox
        .karat(&format!("replay churn@{forged}"))
        .expect_code(3)
        .expect_error("record-altered", &[&manifest]);
}

#[test]
fn weights_that_are_not_the_models_are_refused_by_name() {
    const VICTIM: &str = "layers.0.weight";
    let sandbox = Sandbox::trained(KARAT);
    let _ = sandbox.karat("train --out out").expect_code(0);
    let weights = sandbox.bytes("out/model.safetensors");
    let extra = {
        let mut file = Writer::new();
        for (name, view) in Tensors::parse(&weights).expect("parses").iter() {
            file.add(name, view.dtype, &view.shape, view.bytes);
        }
        file.add_f32("layers.9.weight", &[1], &[0.5]);
        file.finish()
    };
    let cases: [(&str, &str, Vec<u8>); 7] = [
        ("checkpoint-tensor-unexpected", "layers.9.weight", extra),
        ("checkpoint-tensor-missing", VICTIM, changed(&weights, |name, _, _, _| name != VICTIM)),
        (
            "checkpoint-tensor-shape",
            VICTIM,
            changed(&weights, |name, _, shape, _| {
                if name == VICTIM {
                    shape.reverse();
                }
                true
            }),
        ),
        (
            "checkpoint-tensor-type",
            VICTIM,
            changed(&weights, |name, dtype, _, _| {
                if name == VICTIM {
                    *dtype = Dtype::I32;
                }
                true
            }),
        ),
        (
            "checkpoint-not-finite",
            VICTIM,
            changed(&weights, |name, _, _, bytes| {
                if name == VICTIM {
                    bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
                }
                true
            }),
        ),
        ("checkpoint-truncated", "ends after", weights[..weights.len() / 2].to_vec()),
        ("checkpoint-code-bearing", "pickle", b"\x80\x04\x95carry code".to_vec()),
    ];
    for (code, fact, forged) in cases {
        let version = register(&sandbox, &forged);
        let line = format!("score churn.csv --model churn@{version} --out s.csv");
        let _ = sandbox.karat(&line).expect_code(3).expect_error(code, &[fact]);
        assert!(!sandbox.path().join("s.csv").exists(), "{code}: scores were left behind");
    }
    let _ = sandbox.karat("score churn.csv --model churn@1 --out s.csv").expect_code(0);
}
