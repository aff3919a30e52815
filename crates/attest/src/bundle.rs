//! A signed statement as a file: in-toto in DSSE in a Sigstore bundle v0.3 that names a public key.
//!
//! What is signed is DSSE's pre-authentication encoding of the payload, so that the payload need not be parsed to be
//! checked: `DSSEv1 SP len(type) SP type SP len(payload) SP payload`. References: DSSE protocol v1.0.2; Sigstore
//! `sigstore_bundle.proto`; OMS v1.0, sections 4 and 8.
//!
//! Unknown members are refused: in a container that is signed only in part, they would be a place for things that nobody
//! vouches for.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use karat_core::canonical;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    AttestError, PublicKey, SigningKey, Statement,
    statement::{PAYLOAD_BYTES_MAX, shown},
};

/// The one form of bundle that is written and read.
pub const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// What a payload is.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// Largest bundle that is read: a payload in base64, and what is around it.
pub const BUNDLE_BYTES_MAX: usize = PAYLOAD_BYTES_MAX / 3 * 4 + (1 << 20);

/// A bundle whose form is right. Nothing in it is to be believed before [`Bundle::verify`].
#[derive(Clone, Debug)]
pub struct Bundle {
    payload: Vec<u8>,
    payload_type: String,
    signature: Vec<u8>,
    method: Method,
}

/// How a bundle says it was signed.
#[derive(Clone, Debug, PartialEq)]
pub enum Method {
    /// With a key pair; the fingerprint of its public half.
    Key(String),
    /// With a certificate and the chain above it.
    Certificate,
    /// With a certificate of minutes and an entry in a public log.
    Sigstore,
}

/// A statement that one of the given keys signed.
#[derive(Clone, Debug)]
pub struct Verified {
    /// What was signed.
    pub statement: Statement,
    /// By whom.
    pub key: PublicKey,
    pub(crate) payload: Vec<u8>,
}

/// Pre-authentication encoding.
#[must_use]
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut message =
        format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    message.extend_from_slice(payload);
    message
}

/// Signs a statement: the text of a bundle.
#[must_use]
pub fn sign(statement: &Statement, key: &SigningKey) -> String {
    let payload = statement.to_payload();
    let signature = key.sign(&pae(PAYLOAD_TYPE, &payload));
    let bundle = json!({
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {
            "publicKey": { "hint": key.public().fingerprint() },
            "tlogEntries": [],
        },
        "dsseEnvelope": {
            "payload": STANDARD.encode(payload),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{ "sig": STANDARD.encode(signature), "keyid": "" }],
        },
    });
    let bytes = canonical::to_vec(&bundle).expect("text and lists serialise");
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

impl Bundle {
    /// Reads the container; the payload stays bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, AttestError> {
        let malformed = |reason: String| AttestError::Malformed { reason };
        if BUNDLE_BYTES_MAX < bytes.len() {
            return Err(malformed(format!(
                "it has {} bytes, at most {BUNDLE_BYTES_MAX} are read",
                bytes.len()
            )));
        }
        let raw: RawBundle = serde_json::from_slice(bytes)
            .map_err(|error| malformed(format!("it is no Sigstore bundle: {error}")))?;
        if raw.media_type != MEDIA_TYPE {
            return Err(malformed(format!(
                "its `mediaType` is `{}`, expected `{MEDIA_TYPE}`",
                shown(&raw.media_type)
            )));
        }
        let method = raw.material.method()?;
        let [signature] = raw.envelope.signatures.as_slice() else {
            let n = raw.envelope.signatures.len();
            return Err(malformed(format!("it holds {n} signatures, expected 1")));
        };
        let decode = |what: &str, text: &str| {
            STANDARD
                .decode(text)
                .map_err(|error| malformed(format!("its {what} is not base64: {error}")))
        };
        Ok(Self {
            payload: decode("payload", &raw.envelope.payload)?,
            payload_type: raw.envelope.payload_type,
            signature: decode("signature", &signature.sig)?,
            method,
        })
    }

    /// How it says it was signed.
    #[must_use]
    pub const fn method(&self) -> &Method {
        &self.method
    }

    /// What was signed, byte for byte: for `openssl dgst -verify`.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        pae(&self.payload_type, &self.payload)
    }

    /// The signature, DER.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// The statement, if one of `keys` signed it. The signature is checked before the payload is parsed.
    pub fn verify(&self, keys: &[PublicKey]) -> Result<Verified, AttestError> {
        let named = match &self.method {
            Method::Key(named) => named,
            Method::Certificate => {
                return unsupported("it was made with a certificate; karat verifies keys only");
            }
            Method::Sigstore => {
                return unsupported(
                    "it was made with Sigstore's short-lived certificate; karat verifies keys only",
                );
            }
        };
        // The name only tells people which key is missing; what decides is the signature under a key that was given.
        let Some(key) = keys.iter().find(|key| key.fingerprint() == *named) else {
            let given = keys.iter().map(PublicKey::fingerprint).collect();
            return Err(AttestError::KeyUnknown { named: shown(named), given });
        };
        if !key.is_signed(&self.message(), &self.signature) {
            return Err(AttestError::Invalid {
                reason: "it does not fit the signed bytes and the key".to_owned(),
            });
        }
        if self.payload_type != PAYLOAD_TYPE {
            return unsupported(&format!("its payload is `{}`", shown(&self.payload_type)));
        }
        let statement = Statement::from_payload(&self.payload)?;
        Ok(Verified { statement, key: key.clone(), payload: self.payload.clone() })
    }
}

fn unsupported<T>(reason: &str) -> Result<T, AttestError> {
    Err(AttestError::Unsupported { reason: reason.to_owned() })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBundle {
    #[serde(rename = "mediaType")]
    media_type: String,
    #[serde(rename = "verificationMaterial")]
    material: RawMaterial,
    #[serde(rename = "dsseEnvelope")]
    envelope: RawEnvelope,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawMaterial {
    public_key: Option<RawKey>,
    #[serde(rename = "x509CertificateChain")]
    certificate_chain: Option<Value>,
    certificate: Option<Value>,
    #[serde(default)]
    tlog_entries: Vec<Value>,
    #[expect(dead_code, reason = "may stand there; says nothing about a key")]
    timestamp_verification_data: Option<Value>,
}

/// `hint` since v1.1.0 of the reference; `rawBytes`, the PEM text itself, before.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawKey {
    hint: Option<String>,
    raw_bytes: Option<String>,
    #[expect(dead_code, reason = "the curve of the given key says the same")]
    key_details: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawEnvelope {
    payload: String,
    payload_type: String,
    signatures: Vec<RawSignature>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSignature {
    sig: String,
    #[serde(default)]
    #[expect(dead_code, reason = "absent, empty or null: it identifies nothing here")]
    keyid: Option<String>,
}

impl RawMaterial {
    fn method(&self) -> Result<Method, AttestError> {
        let malformed = |reason: &str| AttestError::Malformed { reason: reason.to_owned() };
        match (&self.public_key, &self.certificate_chain, &self.certificate) {
            (Some(key), None, None) => key.fingerprint().map(Method::Key),
            (None, Some(_), None) => Ok(Method::Certificate),
            (None, None, Some(_)) if self.tlog_entries.is_empty() => {
                Err(malformed("it names a certificate and no entry of a transparency log"))
            }
            (None, None, Some(_)) => Ok(Method::Sigstore),
            _ => Err(malformed(
                "it must name one of a public key, a certificate and a certificate chain",
            )),
        }
    }
}

impl RawKey {
    fn fingerprint(&self) -> Result<String, AttestError> {
        let malformed = |reason: &str| AttestError::Malformed { reason: reason.to_owned() };
        match (&self.hint, &self.raw_bytes) {
            (Some(hint), None) => Ok(hint.clone()),
            (None, Some(raw)) => {
                let text = STANDARD.decode(raw).ok().and_then(|it| String::from_utf8(it).ok());
                let text =
                    text.ok_or_else(|| malformed("its `rawBytes` is no PEM text in base64"))?;
                Ok(PublicKey::from_pem(&text)?.fingerprint())
            }
            _ => Err(malformed("its public key has neither `hint` nor `rawBytes`, or both")),
        }
    }
}
