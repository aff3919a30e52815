//! Keys as OpenSSL writes them, and what is no key.

use karat_attest::{AttestError, PublicKey, SigningKey};
use karat_core::{Coded, Exit};

const P256: &str = include_str!("fixtures/keys/p256.pem");
const P384: &str = include_str!("fixtures/keys/p384.pem");
const P521: &str = include_str!("fixtures/keys/p521.pem");
const SEC1: &str = include_str!("fixtures/keys/sec1.pem");

#[test]
fn keys_of_three_curves_and_both_forms_sign_what_their_public_halves_accept() {
    for (pem, public, curve) in [
        (P256, include_str!("fixtures/keys/p256.pub"), "P-256"),
        (P384, include_str!("fixtures/keys/p384.pub"), "P-384"),
        (P521, include_str!("fixtures/keys/p521.pub"), "P-521"),
    ] {
        let key = SigningKey::from_pem(pem.to_owned()).expect(curve);
        let public = PublicKey::from_pem(public).expect(curve);
        assert!(key.public() == public, "{curve}");
        assert_eq!(public.curve(), curve);
        let signature = key.sign(b"message");
        assert!(public.is_signed(b"message", &signature), "{curve}");
        assert!(!public.is_signed(b"massage", &signature), "{curve}");
        assert_eq!(key.sign(b"message"), signature, "the same message, the same signature");
    }
    // Parameters stand before the key there.
    let key = SigningKey::from_pem(SEC1.to_owned()).expect("SEC1");
    assert!(key.public().is_signed(b"message", &key.sign(b"message")));
}

#[test]
fn a_public_key_is_written_as_openssl_writes_it() {
    for public in [include_str!("fixtures/keys/p256.pub"), include_str!("fixtures/keys/p521.pub")] {
        assert_eq!(PublicKey::from_pem(public).expect("a key").to_pem(), public);
    }
}

#[test]
fn what_cannot_sign_is_refused_with_the_reason() {
    let reason = |pem: &str| match SigningKey::from_pem(pem.to_owned()) {
        Err(AttestError::KeyInvalid { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    for (pem, part) in [
        (include_str!("fixtures/keys/encrypted.pem"), "encrypted"),
        (include_str!("fixtures/keys/encrypted-sec1.pem"), "encrypted"),
        (include_str!("fixtures/keys/rsa.pem"), "no elliptic-curve key on P-256"),
        (include_str!("fixtures/keys/secp256k1.pem"), "no elliptic-curve key on P-256"),
        (include_str!("fixtures/keys/p256.pub"), "is a public key"),
        ("", "no PEM block"),
        ("-----BEGIN PRIVATE KEY-----\n", "no PEM block"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no elliptic-curve"),
        (&"x".repeat(70_000), "longer than 64 KiB"),
    ] {
        assert!(reason(pem).contains(part), "{} does not say `{part}`", reason(pem));
    }
    let refused = PublicKey::from_pem(P256).expect_err("a private key");
    assert!(refused.to_string().contains("is a private key"), "{refused}");
    assert_eq!((refused.code().as_str(), refused.exit()), ("key-invalid", Exit::Usage));
    assert!(PublicKey::from_pem("nothing").is_err());
}

#[test]
fn a_private_key_is_never_shown() {
    let key = SigningKey::from_pem(P384.to_owned()).expect("a key");
    let shown = format!("{key:?} {key:#?}");
    assert_eq!(shown, "SigningKey(P-384, not shown) SigningKey(P-384, not shown)");
    for line in P384.lines().filter(|it| !it.starts_with("-----")) {
        let refused = SigningKey::from_pem(P384.replace(line, &line[1..])).expect_err("broken");
        let said = format!("{refused} {refused:?} {:?} {:?}", refused.details(), refused.hints());
        assert!(!said.contains(&line[1..]), "{said}");
    }
}
