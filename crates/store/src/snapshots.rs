//! Datasets as they were, what is known of their files, and the reports made about them.

use std::collections::BTreeMap;

use karat_core::{Digest, Name, Snapshot, Timestamp, port::KnownFile};
use rusqlite::OptionalExtension as _;

use crate::{Store, StoreError, row::Text};

impl Store {
    /// Files that need not be hashed again. Only a cache: what cannot be read is forgotten.
    pub fn known_files(&self, dataset: &Name) -> Result<Vec<KnownFile>, StoreError> {
        let text = self.known_files_text(dataset)?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
    }

    /// Replaces what is known of a dataset's files.
    pub fn set_known_files(&self, dataset: &Name, files: &[KnownFile]) -> Result<(), StoreError> {
        let text = serde_json::to_string(files).map_err(|error| StoreError::Record {
            what: "the list of known files".to_owned(),
            source: Box::new(error),
        })?;
        // The common case is that nothing has changed; it should not cost a commit.
        if self.known_files_text(dataset)?.is_some_and(|known| known == text) {
            return Ok(());
        }
        self.commit(|tx| {
            tx.execute(
                "INSERT INTO known_files (dataset, files) VALUES (?1, ?2)
                 ON CONFLICT (dataset) DO UPDATE SET files = excluded.files",
                (dataset.as_str(), text),
            )?;
            Ok(())
        })
    }

    fn known_files_text(&self, dataset: &Name) -> Result<Option<String>, StoreError> {
        self.look(|connection| {
            let sql = "SELECT files FROM known_files WHERE dataset = ?1";
            Ok(connection.query_row(sql, [dataset.as_str()], |row| row.get(0)).optional()?)
        })
    }

    /// Keeps a snapshot; returns its digest. The same content with renamed files keeps its digest and takes the new
    /// names.
    pub fn put_snapshot(&self, snapshot: &Snapshot, now: Timestamp) -> Result<Digest, StoreError> {
        let digest = snapshot.digest();
        let bytes = serde_json::to_vec_pretty(snapshot).map_err(|error| StoreError::Record {
            what: "a snapshot".to_owned(),
            source: Box::new(error),
        })?;
        let object = self.put_bytes(&bytes)?;
        let known = self.look(|connection| {
            let sql = "SELECT object FROM snapshot WHERE dataset = ?1 AND digest = ?2";
            let key = (snapshot.dataset.as_str(), Text(digest));
            Ok(connection.query_row(sql, key, |row| row.get::<_, Text<Digest>>(0)).optional()?)
        })?;
        if known.is_some_and(|known| known.0 == object) {
            return Ok(digest);
        }
        self.commit(|tx| {
            self.name(tx, &object)?;
            tx.execute(
                "INSERT INTO snapshot (dataset, digest, object, created_at) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (dataset, digest) DO UPDATE SET object = excluded.object",
                (snapshot.dataset.as_str(), Text(digest), Text(object), now.0),
            )?;
            Ok(digest)
        })
    }

    /// A snapshot by its whole digest.
    pub fn snapshot(&self, digest: &Digest) -> Result<Snapshot, StoreError> {
        let mut found = self.find_snapshot(None, &digest.hex())?;
        found
            .pop()
            .map(|(_, snapshot)| snapshot)
            .ok_or(StoreError::SnapshotUnknown { digest: *digest })
    }

    /// Snapshots whose digest begins with `prefix` (hex digits), newest last.
    pub fn find_snapshot(
        &self,
        dataset: Option<&Name>,
        prefix: &str,
    ) -> Result<Vec<(Digest, Snapshot)>, StoreError> {
        let prefix = prefix.strip_prefix("sha256:").unwrap_or(prefix).to_ascii_lowercase();
        let found = self.look(|connection| {
            let mut statement = connection.prepare(
                "SELECT digest, object FROM snapshot
                 WHERE (?1 IS NULL OR dataset = ?1) AND substr(digest, 8, length(?2)) = ?2 ORDER BY id",
            )?;
            let rows = statement.query_map((dataset.map(Name::as_str), prefix), |row| {
                Ok((row.get::<_, Text<Digest>>(0)?.0, row.get::<_, Text<Digest>>(1)?.0))
            })?;
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        })?;
        let load = |(digest, object): (Digest, Digest)| {
            let bytes = self.read(&object)?;
            let snapshot = serde_json::from_slice(&bytes).map_err(|error| StoreError::Record {
                what: format!("snapshot `{}`", digest.short()),
                source: Box::new(error),
            })?;
            Ok((digest, snapshot))
        };
        found.into_iter().map(load).collect()
    }

    /// All snapshots of a dataset, newest last.
    pub fn snapshots(&self, dataset: &Name) -> Result<Vec<(Digest, Snapshot)>, StoreError> {
        self.find_snapshot(Some(dataset), "")
    }

    /// Names the reports about `subject` (a version's label) on a snapshot, replacing those of an earlier pass.
    pub fn set_reports(
        &self,
        snapshot: &Digest,
        subject: &str,
        files: &BTreeMap<String, Digest>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if self.reports(snapshot, subject)? == *files {
            return Ok(());
        }
        self.commit(|tx| {
            tx.execute("DELETE FROM report WHERE snapshot = ?1 AND subject = ?2", (Text(snapshot), subject))?;
            for (file, digest) in files {
                self.name(tx, digest)?;
                tx.execute(
                    "INSERT INTO report (snapshot, subject, file, digest, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
                    (Text(snapshot), subject, file, Text(digest), now.0),
                )?;
            }
            Ok(())
        })
    }

    /// The reports about `subject` on a snapshot, by file name.
    pub fn reports(
        &self,
        snapshot: &Digest,
        subject: &str,
    ) -> Result<BTreeMap<String, Digest>, StoreError> {
        self.look(|connection| {
            let mut statement = connection
                .prepare("SELECT file, digest FROM report WHERE snapshot = ?1 AND subject = ?2")?;
            let rows = statement.query_map((Text(snapshot), subject), |row| {
                Ok((row.get(0)?, row.get::<_, Text<Digest>>(1)?.0))
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }
}

/// Outputs of a run or a version, as name → digest.
pub(crate) fn outputs_of(
    statement: &mut rusqlite::Statement<'_>,
    owner: impl rusqlite::Params,
) -> Result<BTreeMap<String, Digest>, StoreError> {
    let rows =
        statement.query_map(owner, |row| Ok((row.get(0)?, row.get::<_, Text<Digest>>(1)?.0)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// A word of an enum of `core` as it stands in a column.
pub(crate) fn word<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).map_err(|error| {
        StoreError::Record { what: format!("the word `{text}`"), source: Box::new(error) }
    })
}
