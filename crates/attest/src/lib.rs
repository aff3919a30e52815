//! Documents for other tools about our bytes: OMS signatures, in-toto verdicts, SLSA provenance, a CycloneDX bill of materials.
//!
//! Values in, documents out. No file is opened here and no key is made: callers bring names, digests and the text of a
//! key, and keep what comes back. Why each document has the form it has: docs/design/019-attestations.md.
//!
//! Whoever verifies brings the key. What a bundle says about its own key is compared and never believed, and a payload is
//! not parsed before its signature is right.
//!
//! Reading order: [`key`], [`bundle`] (what is signed and how), [`statement`] (what every signed document is), [`oms`]
//! ("these exact files"), [`verdict`] ("what the gate said"), [`provenance`] ("how it was trained"), [`bom`].

pub mod bom;
pub mod bundle;
mod error;
pub mod key;
pub mod oms;
pub mod provenance;
pub mod statement;
pub mod verdict;

pub use bundle::Bundle;
pub use error::AttestError;
pub use key::{PublicKey, SigningKey};
pub use statement::{Resource, Statement, Subject};
