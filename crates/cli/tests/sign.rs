//! Signatures through the binary: sign, verify, and everything that must not verify.

use std::{fs, os::unix::fs::PermissionsExt as _};

use karat_testkit::Sandbox;

const KARAT: &str = env!("CARGO_BIN_EXE_karat");
const KEY: &str = include_str!("../../attest/tests/fixtures/keys/p256.pem");
const PUBLIC: &str = include_str!("../../attest/tests/fixtures/keys/p256.pub");
const OTHER_PUBLIC: &str = include_str!("../../attest/tests/fixtures/keys/p384.pub");

/// A sandbox with `churn@1` and a key that only its owner can read.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::trained(KARAT);
    write_key(&sandbox);
    sandbox
}

fn write_key(sandbox: &Sandbox) {
    sandbox.write("key.pem", KEY);
    sandbox.write("key.pub", PUBLIC);
    sandbox.write("other.pub", OTHER_PUBLIC);
    chmod(sandbox, 0o600);
}

fn chmod(sandbox: &Sandbox, mode: u32) {
    let permissions = fs::Permissions::from_mode(mode);
    fs::set_permissions(sandbox.path().join("key.pem"), permissions).expect("its owner may");
}

#[test]
fn a_signed_version_and_its_folder_verify_and_changed_ones_do_not() {
    let sandbox = sandbox();
    let _ = sandbox
        .karat("verify --key key.pub churn@1")
        .expect_code(1)
        .expect_error("signature-missing", &["churn@1", "karat sign churn@1"]);
    let signed = sandbox.karat("sign churn@1 --key key.pem --out out").expect_code(0);
    assert!(signed.stdout.contains("churn@1 signed with P-256 key"), "{}", signed.stdout);
    for file in [
        "model.sig",
        "verdict.sig",
        "provenance.sig",
        "bom.cdx.json",
        "verdict.json",
        "model/model.json",
        "model/model.safetensors",
    ] {
        assert!(!sandbox.bytes(&format!("out/{file}")).is_empty(), "{file} is empty");
    }

    let all = sandbox.karat("verify --key key.pub churn@1").expect_code(0).stdout;
    // There is no baseline yet, and rules that could not be asked of one warn.
    for part in ["model.sig: exactly these 3 files", "a verdict: WARNED", "how it was trained"] {
        assert!(all.contains(part), "no `{part}` in\n{all}");
    }
    let folder = sandbox.karat("verify --key key.pub out/model").expect_code(0).stdout;
    assert!(folder.starts_with("out/model.sig: exactly these 3 files, signed with P-256 key"));
    let two = "verify --key other.pub --key key.pub out/model";
    let _ = sandbox.karat(two).expect_code(0);
    let verdict = sandbox.karat("verify --key key.pub --signature out/verdict.sig out/model");
    assert!(verdict.expect_code(0).stdout.contains("a verdict: WARNED"));

    // Another key, another version's bytes, one byte, one file more, one less, a link, and no signature at all.
    let verify = || sandbox.karat("verify --key key.pub out/model").expect_code(1);
    let _ = sandbox
        .karat("verify --key other.pub out/model")
        .expect_code(1)
        .expect_error("signature-key-unknown", &["signed by the key with fingerprint"]);
    let weights = sandbox.bytes("out/model/model.safetensors");
    let mut changed = weights.clone();
    *changed.last_mut().expect("not empty") ^= 1;
    sandbox.write("out/model/model.safetensors", &changed);
    let _ = verify().expect_error("signature-mismatch", &["`model.safetensors` has changed"]);
    sandbox.write("out/model/model.safetensors", &weights);
    sandbox.write("out/model/extra.bin", "unsigned");
    let _ = verify().expect_error("signature-mismatch", &["`extra.bin` was not signed"]);
    let other = "verify --key key.pub --signature out/verdict.sig out/model";
    let _ = sandbox.karat(other).expect_code(1).expect_error("signature-invalid", &["other bytes"]);
    fs::remove_file(sandbox.path().join("out/model/extra.bin")).expect("removed");
    std::os::unix::fs::symlink("model.json", sandbox.path().join("out/model/link.json"))
        .expect("a link");
    let _ = verify().expect_error("signature-mismatch", &["link.json` is a link"]);
    fs::remove_file(sandbox.path().join("out/model/link.json")).expect("removed");
    let _ = sandbox.karat("verify --key key.pub out/model").expect_code(0);

    sandbox.write("out/model.sig", "{}");
    let _ = verify().expect_error("signature-malformed", &["in out/model.sig"]);
    fs::remove_file(sandbox.path().join("out/model.sig")).expect("removed");
    let _ = verify().expect_error("signature-missing", &["out/model.sig", "--signature FILE"]);
    let _ = sandbox
        .karat("verify --key key.pub nowhere")
        .expect_code(2)
        .expect_error("file-unreadable", &["nowhere", "model@version"]);
}

/// A signature that lies in the folder it is over does not cover itself.
#[test]
fn a_signature_may_lie_inside_the_folder() {
    let sandbox = sandbox();
    let _ = sandbox.karat("sign churn@1 --key key.pem --out out").expect_code(0);
    let signature = sandbox.bytes("out/model.sig");
    sandbox.write("out/model/model.sig", &signature);
    let _ = sandbox.karat("verify --key key.pub out/model/").expect_code(0);
    sandbox.write("out/model/.git/config", "left out by the standard");
    let _ = sandbox.karat("verify --key key.pub out/model").expect_code(0);
    sandbox.write("out/model/part/.git", "not left out");
    let _ = sandbox
        .karat("verify --key key.pub out/model")
        .expect_code(1)
        .expect_error("signature-mismatch", &["`part/.git` was not signed"]);
}

#[test]
fn keys_that_are_none_are_refused_and_open_ones_are_told() {
    let sandbox = sandbox();
    sandbox.write("encrypted.pem", include_str!("../../attest/tests/fixtures/keys/encrypted.pem"));
    let _ = sandbox
        .karat("sign churn@1 --key encrypted.pem")
        .expect_code(2)
        .expect_error("key-invalid", &["encrypted", "in encrypted.pem"]);
    let _ = sandbox
        .karat("sign churn@1 --key key.pub")
        .expect_code(2)
        .expect_error("key-invalid", &["is a public key"]);
    let _ = sandbox
        .karat("verify --key key.pem churn@1")
        .expect_code(2)
        .expect_error("key-invalid", &["is a private key", "openssl pkey"]);
    let _ = sandbox
        .karat("sign churn@1 --key absent.pem")
        .expect_code(2)
        .expect_error("key-unreadable", &["absent.pem"]);

    let closed = sandbox.karat("sign churn@1 --key key.pem").expect_code(0);
    assert!(!closed.stderr.contains("key-exposed"), "{}", closed.stderr);
    chmod(&sandbox, 0o644);
    let open = sandbox.karat("-v --json sign churn@1 --key key.pem").expect_code(0);
    let said = format!("{}{}", open.stdout, open.stderr);
    assert!(said.contains("key-exposed") && said.contains("chmod 600 key.pem"), "{said}");
    for line in KEY.lines().filter(|it| !it.starts_with("-----")) {
        assert!(!said.contains(line), "the key is shown");
    }
    let store = sandbox.objects();
    let is_kept = |path: &std::path::PathBuf| {
        let bytes = fs::read(path).expect("readable");
        let line = KEY.lines().nth(1).expect("a line").as_bytes();
        bytes.windows(line.len()).any(|it| it == line)
    };
    assert!(!store.iter().any(is_kept), "the key is kept");
}

#[test]
fn a_policy_that_demands_signatures_is_obeyed_by_run_and_promote() {
    let sandbox = Sandbox::churn(KARAT);
    write_key(&sandbox);
    sandbox.edit(
        "gate.toml",
        "[gate.release]",
        "[gate.release]\nsignatures = { keys = [\"key.pub\"] }",
    );
    let unsigned = sandbox.karat("run").expect_code(0);
    assert!(unsigned.stdout.contains("signature-missing"), "{}", unsigned.stdout);
    assert_eq!(sandbox.alias("churn@champion"), None);
    let _ = sandbox
        .karat("promote churn@1")
        .expect_code(1)
        .expect_error("signature-missing", &["churn@1", "gate `release` demands it"]);

    let _ = sandbox.karat("sign churn@1 --key key.pem").expect_code(0);
    let _ = sandbox.karat("promote churn@1").expect_code(0);
    assert_eq!(sandbox.alias("churn@champion"), Some(1));

    // The next one is signed on the way.
    let next = "run --set train.seed=8 --key key.pem --out out";
    let ran = sandbox.karat(next);
    assert!([0, 1, 4].contains(&ran.code), "{}", ran.stderr);
    let signed = ran.code == 0;
    assert_eq!(sandbox.path().join("out/model.sig").exists(), signed, "a pass alone is signed");
    assert_eq!(sandbox.alias("churn@champion"), Some(if signed { 2 } else { 1 }));

    // Trusting somebody else is another policy, and needs a verdict under it.
    sandbox.edit("gate.toml", "key.pub", "other.pub");
    let _ = sandbox.karat("promote churn@1").expect_code(1).expect_error("verdict-outdated", &[]);
}
