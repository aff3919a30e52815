//! A dataset as it was: what runs consume.

use serde::{Deserialize, Serialize};

use crate::{Digest, Name, digest::DigestBuilder};

/// One file of a snapshot. Its name is for people: it is not part of any digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotFile {
    /// Path relative to the project, with `/`.
    pub path: String,
    /// Digest of the content.
    pub digest: Digest,
    /// Size.
    pub n_bytes: u64,
    /// Rows.
    pub n_rows: u64,
}

/// A dataset as it was: file digests, row counts, schema digest. Immutable. Shown as `flights@9f3c21ab`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The dataset.
    pub dataset: Name,
    /// Sorted by (digest, path): a renamed file changes nothing that is digested.
    pub files: Vec<SnapshotFile>,
    /// Rows of all files.
    pub n_rows: u64,
    /// Digest of the schema it was read with.
    pub schema: Digest,
}

impl Snapshot {
    /// Over the sorted file digests with their row counts, and the schema.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut builder = DigestBuilder::new("karat.snapshot.v1");
        builder.field(self.schema.as_bytes());
        for file in &self.files {
            builder.field(file.digest.as_bytes()).field(&file.n_rows.to_le_bytes());
        }
        builder.finish()
    }

    /// `flights@9f3c21ab`.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{}@{}", self.dataset, self.digest().short())
    }
}
