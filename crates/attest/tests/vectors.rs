//! Every published OMS vector is judged as its publisher says: the specification's own (`oms-spec-v1.0`) and the bundles
//! that releases 0.2.0 to 1.1.0 of the reference implementation wrote (`model-transparency`).

use std::{fs, path::PathBuf};

use karat_attest::{
    AttestError, Bundle, PublicKey,
    bundle::Method,
    oms::{Files, Manifest, is_ignored, root_digest},
};
use karat_core::Digest;

fn fixture(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(path)
}

fn read(path: &str) -> Vec<u8> {
    fs::read(fixture(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn their_key() -> PublicKey {
    let text = String::from_utf8(read("model-transparency/signing-key-pub.pem")).expect("UTF-8");
    PublicKey::from_pem(&text).expect("words for people stand before the block")
}

/// The files of a vector's folder, but for what its signer left out.
fn files(folder: &str, manifest: &Manifest) -> Files {
    let entries = fs::read_dir(fixture(folder)).expect("a folder");
    let names = entries.map(|it| it.expect("an entry").file_name().into_string().expect("UTF-8"));
    names
        .filter(|name| name != "model.sig" && !is_ignored(name, []) && !manifest.is_ignored(name))
        .map(|name| {
            let digest = Digest::of(&read(&format!("{folder}/{name}")));
            (name, digest)
        })
        .collect()
}

#[test]
fn bundles_of_every_release_that_signed_with_a_key_are_accepted() {
    for release in ["v1.0.1", "v1.1.0"] {
        let folder = format!("model-transparency/{release}-elliptic-key");
        let bundle = Bundle::parse(&read(&format!("{folder}/model.sig"))).expect(release);
        let verified = bundle.verify(&[their_key()]).expect(release);
        let manifest = Manifest::read(&verified).expect(release);
        let mut found = files(&folder, &manifest);
        // Left out by an argument in v1.0.1, which did not write down what it left out.
        found.remove("ignore-me");
        assert_eq!(found.len(), 2, "{release}");
        manifest.compare(&found).expect(release);

        found.insert("signme-1".to_owned(), Digest::of(b"other bytes"));
        assert!(
            matches!(manifest.compare(&found), Err(AttestError::FilesDiffer { .. })),
            "{release}"
        );
    }
}

#[test]
fn bundles_over_one_file_are_accepted() {
    for release in ["v0.3.1", "v1.0.0"] {
        let folder = format!("model-transparency/{release}-elliptic-key");
        let bundle = Bundle::parse(&read(&format!("{folder}/model.sig"))).expect(release);
        let manifest =
            Manifest::read(&bundle.verify(&[their_key()]).expect(release)).expect(release);
        let digest = Digest::of(&read(&format!("{folder}/signme-1")));
        manifest.compare_single("signme-1", &digest).expect(release);
        assert!(manifest.compare_single("signme-1", &Digest::of(b"other")).is_err(), "{release}");
    }
}

#[test]
fn bundles_with_certificates_are_told_apart_and_not_accepted() {
    for release in ["v0.2.0", "v0.3.1", "v1.0.0", "v1.0.1", "v1.1.0"] {
        let path = format!("model-transparency/{release}-certificate/model.sig");
        let bundle = Bundle::parse(&read(&path)).expect(release);
        assert_eq!(*bundle.method(), Method::Certificate, "{release}");
        // The leaf's key is the one we have, and would fit: it is the chain that nobody here can judge.
        let refused = bundle.verify(&[their_key()]).expect_err(release);
        assert!(matches!(refused, AttestError::Unsupported { .. }), "{release}: {refused}");
    }
    for release in ["v0.3.1", "v1.0.0", "v1.0.1", "v1.1.0"] {
        let path = format!("model-transparency/{release}-sigstore/model.sig");
        let bundle = Bundle::parse(&read(&path)).expect(release);
        assert_eq!(*bundle.method(), Method::Sigstore, "{release}");
        let refused = bundle.verify(&[their_key()]).expect_err(release);
        assert!(matches!(refused, AttestError::Unsupported { .. }), "{release}: {refused}");
    }
}

#[test]
fn the_specification_s_valid_bundles_have_the_right_form() {
    for (name, method) in [
        ("certificate", Method::Certificate),
        ("sigstore", Method::Sigstore),
        ("key", Method::Key(their_key().fingerprint())),
    ] {
        let bundle =
            Bundle::parse(&read(&format!("oms-spec-v1.0/valid/{name}.bundle.json"))).expect(name);
        assert_eq!(*bundle.method(), method);
    }
    let bundle = Bundle::parse(&read("oms-spec-v1.0/valid/key.bundle.json")).expect("valid");
    let manifest = Manifest::read(&bundle.verify(&[their_key()]).expect("signed")).expect("OMS");
    manifest
        .compare(&files("model-transparency/v1.1.0-elliptic-key", &manifest))
        .expect("its files");
    let root = "92745110b1ab4368471cbe31664e10174e954b113a3df333db860317b2c6dec4";
    assert_eq!(root_digest(&manifest.files).hex(), root, "as published");
}

#[test]
fn the_specification_s_invalid_bundles_are_refused() {
    for name in
        ["empty", "missing-envelope", "missing-tlog-entries", "missing-verification-material"]
    {
        let bytes = read(&format!("oms-spec-v1.0/invalid/{name}.bundle.json"));
        let refused = Bundle::parse(&bytes).expect_err(name);
        assert!(matches!(refused, AttestError::Malformed { .. }), "{name}: {refused}");
    }
    let bytes = read("oms-spec-v1.0/invalid-payload/wrong-predicate.bundle.json");
    let bundle = Bundle::parse(&bytes).expect("its form is right");
    let refused = bundle.verify(&[their_key()]).expect_err("the payload was exchanged");
    assert!(matches!(refused, AttestError::Invalid { .. }), "{refused}");
}
