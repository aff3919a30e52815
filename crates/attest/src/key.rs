//! Elliptic-curve keys as OpenSSL writes them: PEM, on P-256, P-384 or P-521.
//!
//! ECDSA with the hash that belongs to the curve (SHA-256, SHA-384, SHA-512), signatures in DER. The number that makes a
//! signature different each time is derived from key and message (RFC 6979), so equal documents get equal signatures.

use std::fmt;

use karat_core::Digest;
use p256::ecdsa::signature::{Signer as _, Verifier as _};
use p256::{
    elliptic_curve::zeroize::Zeroizing,
    pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePublicKey as _, LineEnding},
};

use crate::AttestError;

/// Longest text that is looked at for a key; one is about 300 bytes.
pub const KEY_BYTES_MAX: usize = 64 << 10;

/// A private key. Never shown and never written: its `Debug` says only which curve, and its memory is cleared.
pub struct SigningKey(Secret);

enum Secret {
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
    P521(p521::ecdsa::SigningKey),
}

/// A public key.
#[derive(Clone, PartialEq)]
pub struct PublicKey(Point);

#[derive(Clone, PartialEq)]
enum Point {
    P256(p256::ecdsa::VerifyingKey),
    P384(p384::ecdsa::VerifyingKey),
    P521(p521::ecdsa::VerifyingKey),
}

impl SigningKey {
    /// Reads a private key: `BEGIN PRIVATE KEY` (PKCS#8) or `BEGIN EC PRIVATE KEY` (SEC1). The text is cleared.
    pub fn from_pem(text: String) -> Result<Self, AttestError> {
        let text = Zeroizing::new(text);
        let refuse =
            |reason: &'static str| Err(AttestError::KeyInvalid { kind: "private", reason });
        if KEY_BYTES_MAX < text.len() {
            return refuse("it is longer than 64 KiB");
        }
        if block(&text, "ENCRYPTED PRIVATE KEY").is_some() {
            return refuse("it is encrypted, and karat asks for no passphrase");
        }
        if let Some(pem) = block(&text, "PRIVATE KEY") {
            return secret_from_pkcs8(pem).map_or_else(|| refuse(NOT_OUR_CURVE), |it| Ok(Self(it)));
        }
        if let Some(pem) = block(&text, "EC PRIVATE KEY") {
            if pem.contains("ENCRYPTED") {
                return refuse("it is encrypted, and karat asks for no passphrase");
            }
            return secret_from_sec1(pem).map_or_else(|| refuse(NOT_OUR_CURVE), |it| Ok(Self(it)));
        }
        if block(&text, "PUBLIC KEY").is_some() {
            return refuse("it is a public key; signing needs the private one");
        }
        refuse("it holds no PEM block `BEGIN PRIVATE KEY` or `BEGIN EC PRIVATE KEY`")
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(match &self.0 {
            Secret::P256(key) => Point::P256(*key.verifying_key()),
            Secret::P384(key) => Point::P384(*key.verifying_key()),
            Secret::P521(key) => Point::P521(*key.verifying_key()),
        })
    }

    /// The signature over `message`, DER.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.0 {
            Secret::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(message);
                signature.to_der().as_bytes().to_vec()
            }
            Secret::P384(key) => {
                let signature: p384::ecdsa::Signature = key.sign(message);
                signature.to_der().as_bytes().to_vec()
            }
            Secret::P521(key) => {
                let signature: p521::ecdsa::Signature = key.sign(message);
                signature.to_der().as_bytes().to_vec()
            }
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, not shown)", self.public().curve())
    }
}

impl PublicKey {
    /// Reads a public key: `BEGIN PUBLIC KEY`.
    pub fn from_pem(text: &str) -> Result<Self, AttestError> {
        let refuse = |reason: &'static str| Err(AttestError::KeyInvalid { kind: "public", reason });
        if KEY_BYTES_MAX < text.len() {
            return refuse("it is longer than 64 KiB");
        }
        if let Some(pem) = block(text, "PUBLIC KEY") {
            let point = p256::ecdsa::VerifyingKey::from_public_key_pem(pem)
                .map(Point::P256)
                .or_else(|_| p384::ecdsa::VerifyingKey::from_public_key_pem(pem).map(Point::P384))
                .or_else(|_| p521::ecdsa::VerifyingKey::from_public_key_pem(pem).map(Point::P521));
            return point.map_or_else(|_| refuse(NOT_OUR_CURVE), |it| Ok(Self(it)));
        }
        if text.contains("PRIVATE KEY-----") {
            return refuse(
                "it is a private key, which has no place here; `openssl pkey -pubout` prints its public half",
            );
        }
        refuse("it holds no PEM block `BEGIN PUBLIC KEY`")
    }

    /// As PEM, with its final newline.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let pem = match &self.0 {
            Point::P256(key) => key.to_public_key_pem(LineEnding::LF),
            Point::P384(key) => key.to_public_key_pem(LineEnding::LF),
            Point::P521(key) => key.to_public_key_pem(LineEnding::LF),
        };
        pem.expect("a point that was read can be written")
    }

    /// Hex SHA-256 of [`PublicKey::to_pem`]: what a bundle says to name its key.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        Digest::of(self.to_pem().as_bytes()).hex()
    }

    /// `P-256`, `P-384` or `P-521`.
    #[must_use]
    pub const fn curve(&self) -> &'static str {
        match self.0 {
            Point::P256(_) => "P-256",
            Point::P384(_) => "P-384",
            Point::P521(_) => "P-521",
        }
    }

    /// Whether `signature`, DER, is this key's over `message`.
    #[must_use]
    pub fn is_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.0 {
            Point::P256(key) => p256::ecdsa::Signature::from_der(signature)
                .is_ok_and(|it| key.verify(message, &it).is_ok()),
            Point::P384(key) => p384::ecdsa::Signature::from_der(signature)
                .is_ok_and(|it| key.verify(message, &it).is_ok()),
            Point::P521(key) => p521::ecdsa::Signature::from_der(signature)
                .is_ok_and(|it| key.verify(message, &it).is_ok()),
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({}, {})", self.curve(), &self.fingerprint()[..8])
    }
}

const NOT_OUR_CURVE: &str = "it is no elliptic-curve key on P-256, P-384 or P-521";

fn secret_from_pkcs8(pem: &str) -> Option<Secret> {
    let p256 = || p256::ecdsa::SigningKey::from_pkcs8_pem(pem).map(Secret::P256).ok();
    let p384 = || p384::ecdsa::SigningKey::from_pkcs8_pem(pem).map(Secret::P384).ok();
    let p521 = || p521::ecdsa::SigningKey::from_pkcs8_pem(pem).map(Secret::P521).ok();
    p256().or_else(p384).or_else(p521)
}

fn secret_from_sec1(pem: &str) -> Option<Secret> {
    let p256 = || p256::SecretKey::from_sec1_pem(pem).map(|it| Secret::P256(it.into())).ok();
    let p384 = || p384::SecretKey::from_sec1_pem(pem).map(|it| Secret::P384(it.into())).ok();
    let p521 = || p521::SecretKey::from_sec1_pem(pem).map(|it| Secret::P521(it.into())).ok();
    p256().or_else(p384).or_else(p521)
}

/// The first PEM block of this kind; other tools write parameters or words for people around it.
fn block<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let start = text.find(&begin)?;
    let n_bytes = text[start..].find(&end)? + end.len();
    Some(&text[start..start + n_bytes])
}
