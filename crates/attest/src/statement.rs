//! in-toto Statement v1: what every signed document here is. "About these digests, this is claimed."
//!
//! Subjects are matched by digest and never by name. Reading is monotonic: a field or document that is ignored must never
//! turn a refusal into an acceptance, so nothing here asks for the absence of anything.

use std::collections::BTreeMap;

use karat_core::{Digest, canonical};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::AttestError;

/// `_type` of a statement.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// Largest payload that is parsed: 100,000 files of a model take about 20 MB.
pub const PAYLOAD_BYTES_MAX: usize = 32 << 20;

/// A claim of one kind about some bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Statement {
    /// [`STATEMENT_TYPE`].
    #[serde(rename = "_type")]
    pub kind: String,
    /// What it is about.
    pub subject: Vec<Subject>,
    /// What kind of claim it is.
    #[serde(rename = "predicateType")]
    pub predicate_type: String,
    /// The claim.
    #[serde(default)]
    pub predicate: Value,
}

/// What a statement is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// For people.
    #[serde(default)]
    pub name: String,
    /// Hex digests by algorithm.
    pub digest: BTreeMap<String, String>,
}

impl Subject {
    /// A subject with this SHA-256.
    #[must_use]
    pub fn sha256(name: impl Into<String>, digest: &Digest) -> Self {
        Self { name: name.into(), digest: BTreeMap::from([("sha256".to_owned(), digest.hex())]) }
    }
}

/// Something a claim refers to: in-toto's resource descriptor, as far as we need it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// Hex digests by algorithm.
    #[serde(default)]
    pub digest: BTreeMap<String, String>,
}

impl Resource {
    /// A resource with this SHA-256.
    #[must_use]
    pub fn sha256(name: impl Into<String>, digest: &Digest) -> Self {
        let Subject { name, digest } = Subject::sha256(name, digest);
        Self { name, uri: None, digest }
    }
}

impl Statement {
    /// A statement of our own.
    #[must_use]
    pub fn of(subject: Vec<Subject>, predicate_type: &str, predicate: Value) -> Self {
        Self {
            kind: STATEMENT_TYPE.to_owned(),
            subject,
            predicate_type: predicate_type.to_owned(),
            predicate,
        }
    }

    /// The bytes that are signed: canonical JSON, so that equal claims are equal bytes.
    #[must_use]
    pub fn to_payload(&self) -> Vec<u8> {
        canonical::to_vec(self).expect("text, lists and maps serialise")
    }

    /// Reads a payload whose signature was right.
    pub(crate) fn from_payload(payload: &[u8]) -> Result<Self, AttestError> {
        let malformed = |reason: String| AttestError::Malformed { reason };
        let statement: Self = serde_json::from_slice(payload)
            .map_err(|error| malformed(format!("its payload is no in-toto statement: {error}")))?;
        if statement.kind != STATEMENT_TYPE {
            return Err(malformed(format!(
                "its payload is `{}`, expected `{STATEMENT_TYPE}`",
                shown(&statement.kind)
            )));
        }
        if statement.subject.is_empty() {
            return Err(malformed("its statement has no subject".to_owned()));
        }
        Ok(statement)
    }

    /// The claim in its own form. Read from the payload once more, because there a member that stands twice is an error.
    pub(crate) fn predicate_of<P: DeserializeOwned>(payload: &[u8]) -> Result<P, AttestError> {
        #[derive(Deserialize)]
        struct Claim<P> {
            predicate: P,
        }
        serde_json::from_slice(payload).map(|claim: Claim<P>| claim.predicate).map_err(|error| {
            AttestError::Malformed {
                reason: format!("its predicate is not of the stated type: {error}"),
            }
        })
    }

    /// Whether `digest` is one of its subjects.
    #[must_use]
    pub fn is_about(&self, digest: &Digest) -> bool {
        let hex = digest.hex();
        self.subject.iter().any(|it| it.digest.get("sha256") == Some(&hex))
    }
}

/// Foreign text in a message: short, and without what moves a cursor.
pub(crate) fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(120).collect()
}
