//! Why a key, a bundle or a statement was not accepted.

use karat_core::{Code, Coded, Exit};

/// Differing files that a message names; it counts the others.
const SHOWN_MAX: usize = 20;

/// Why a key, a bundle or a statement was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message beside each variant says what its fields are")]
pub enum AttestError {
    #[error("the {kind} key cannot be used: {reason}")]
    KeyInvalid { kind: &'static str, reason: &'static str },

    #[error("the signature cannot be read: {reason}")]
    Malformed { reason: String },

    #[error("the signature is of a kind that karat does not verify: {reason}")]
    Unsupported { reason: String },

    #[error("the signature is by another key than the one given")]
    KeyUnknown { named: String, given: Vec<String> },

    #[error("the signature is wrong: {reason}")]
    Invalid { reason: String },

    #[error("the files are not those that were signed: {} differ", differences.len())]
    FilesDiffer { differences: Vec<String> },

    #[error("a folder without files cannot be signed")]
    Empty,
}

impl Coded for AttestError {
    fn code(&self) -> Code {
        Code::new(match self {
            Self::KeyInvalid { .. } => "key-invalid",
            Self::Malformed { .. } => "signature-malformed",
            Self::Unsupported { .. } => "signature-unsupported",
            Self::KeyUnknown { .. } => "signature-key-unknown",
            Self::Invalid { .. } => "signature-invalid",
            Self::FilesDiffer { .. } => "signature-mismatch",
            Self::Empty => "model-empty",
        })
    }

    fn exit(&self) -> Exit {
        match self {
            Self::KeyInvalid { .. } => Exit::Usage,
            Self::Empty => Exit::Nothing,
            // Not being a signature is one way of not being signed.
            _ => Exit::Fail,
        }
    }

    fn details(&self) -> Vec<String> {
        match self {
            Self::KeyUnknown { named, given } => vec![
                format!("signed by the key with fingerprint {named}"),
                format!("given: {}", given.join(", ")),
            ],
            Self::FilesDiffer { differences } => {
                let mut lines: Vec<String> = differences.iter().take(SHOWN_MAX).cloned().collect();
                if SHOWN_MAX < differences.len() {
                    lines.push(format!("and {} more", differences.len() - SHOWN_MAX));
                }
                lines
            }
            _ => Vec::new(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::KeyInvalid { kind: "private", .. } => vec![
                "`openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem` makes one".to_owned(),
            ],
            Self::KeyInvalid { .. } => {
                vec!["`openssl pkey -in key.pem -pubout -out key.pub` writes one".to_owned()]
            }
            _ => Vec::new(),
        }
    }
}
