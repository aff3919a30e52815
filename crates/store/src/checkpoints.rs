//! Checkpoints: content-addressed files, one manifest, and the row last.
//!
//! The latest valid checkpoint is the highest update whose manifest and files all match. Old ones go only after a newer
//! one is durable, and never the last whole one.

use std::collections::{BTreeMap, BTreeSet};

use karat_core::{Digest, RunId, Timestamp, thousands};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    RunHandle, Store, StoreError,
    row::{Text, int, uint},
    runs::demand_lease,
};

/// Form of the manifest.
const MANIFEST_VERSION: u32 = 1;

/// A checkpoint as recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointRecord {
    /// Updates done.
    pub update: u64,
    /// Digest of its manifest.
    pub manifest: Digest,
    /// Eval loss after this update, where it was looked at.
    pub eval_loss: Option<f64>,
    /// The attempt that wrote it.
    pub attempt: u32,
    /// When it became durable.
    pub created_at: Timestamp,
}

/// A checkpoint in memory, every byte verified.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadedCheckpoint {
    /// Updates done.
    pub update: u64,
    /// State as it was given.
    pub state: Value,
    /// Files by name.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// The manifest object. Without run id and time, so that equal training gives equal manifests.
#[derive(Serialize, Deserialize)]
struct Manifest {
    version: u32,
    update: u64,
    files: BTreeMap<String, Digest>,
    state: Value,
}

impl Store {
    /// Commits the files of one checkpoint as one: all of it, or nothing. Committing an update again replaces it.
    pub fn commit_checkpoint(
        &self,
        handle: &RunHandle,
        update: u64,
        files: &[(&str, &[u8])],
        state: &Value,
        eval_loss: Option<f64>,
        now: Timestamp,
    ) -> Result<Digest, StoreError> {
        let mut digests = BTreeMap::new();
        for (name, bytes) in files {
            digests.insert((*name).to_owned(), self.put_bytes(bytes)?);
        }
        let manifest =
            Manifest { version: MANIFEST_VERSION, update, files: digests, state: state.clone() };
        let bytes = serde_json::to_vec_pretty(&manifest).map_err(|error| StoreError::Record {
            what: "a checkpoint manifest".to_owned(),
            source: Box::new(error),
        })?;
        let digest = self.put_bytes(&bytes)?;
        self.commit(|tx| {
            demand_lease(tx, handle)?;
            self.name(tx, &digest)?;
            tx.execute(
                "DELETE FROM checkpoint WHERE run = ?1 AND update_no = ?2",
                (&handle.id.0, int(update)),
            )?;
            tx.execute(
                "INSERT INTO checkpoint (run, update_no, manifest, eval_loss, attempt, created_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                (&handle.id.0, int(update), Text(digest), eval_loss, handle.attempt, now.0),
            )?;
            for (name, file) in &manifest.files {
                self.name(tx, file)?;
                tx.execute(
                    "INSERT INTO checkpoint_file (run, update_no, name, digest) VALUES (?1, ?2, ?3, ?4)",
                    (&handle.id.0, int(update), name, Text(file)),
                )?;
            }
            Ok(digest)
        })
    }

    /// Checkpoints of a run, by update.
    pub fn checkpoints(&self, run: &RunId) -> Result<Vec<CheckpointRecord>, StoreError> {
        self.look(|connection| {
            let mut statement = connection.prepare(
                "SELECT update_no, manifest, eval_loss, attempt, created_at FROM checkpoint
                 WHERE run = ?1 ORDER BY update_no",
            )?;
            let rows = statement.query_map([&run.0], |row| {
                Ok(CheckpointRecord {
                    update: uint(row.get(0)?),
                    manifest: row.get::<_, Text<Digest>>(1)?.0,
                    eval_loss: row.get(2)?,
                    attempt: row.get(3)?,
                    created_at: Timestamp(row.get(4)?),
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// The newest checkpoint that is whole, and a message for each newer one that is not.
    pub fn latest_checkpoint(
        &self,
        run: &RunId,
    ) -> Result<(Option<LoadedCheckpoint>, Vec<String>), StoreError> {
        let mut warnings = Vec::new();
        for record in self.checkpoints(run)?.into_iter().rev() {
            match self.load_checkpoint(&record) {
                Ok(loaded) => return Ok((Some(loaded), warnings)),
                Err(
                    error @ (StoreError::ObjectMissing { .. }
                    | StoreError::ObjectCorrupt { .. }
                    | StoreError::Record { .. }),
                ) => warnings.push(format!(
                    "checkpoint `{}` of run `{run}`, update {}, was skipped: {error}",
                    record.manifest.short(),
                    thousands(record.update)
                )),
                Err(error) => return Err(error),
            }
        }
        Ok((None, warnings))
    }

    fn load_checkpoint(&self, record: &CheckpointRecord) -> Result<LoadedCheckpoint, StoreError> {
        let bytes = self.read(&record.manifest)?;
        let unreadable = |source| StoreError::Record {
            what: format!("checkpoint manifest `{}`", record.manifest.short()),
            source,
        };
        let manifest: Manifest =
            serde_json::from_slice(&bytes).map_err(|error| unreadable(Box::new(error)))?;
        if manifest.version != MANIFEST_VERSION {
            return Err(unreadable(
                format!("it has form {}, this build reads {MANIFEST_VERSION}", manifest.version)
                    .into(),
            ));
        }
        let mut files = BTreeMap::new();
        for (name, digest) in manifest.files {
            files.insert(name, self.read(&digest)?);
        }
        Ok(LoadedCheckpoint { update: manifest.update, state: manifest.state, files })
    }

    /// Lets go of checkpoints that are neither among the last `keep_last` (at least one) nor among the `keep_best` with
    /// the smallest eval loss, and of their bytes unless something else names them. Returns how many went.
    pub fn prune_checkpoints(
        &self,
        run: &RunId,
        keep_last: usize,
        keep_best: usize,
    ) -> Result<usize, StoreError> {
        self.writable()?;
        let all = self.checkpoints(run)?;
        let mut kept: BTreeSet<u64> =
            all.iter().rev().take(keep_last.max(1)).map(|it| it.update).collect();
        let mut judged: Vec<(f64, u64)> =
            all.iter().filter_map(|it| Some((it.eval_loss?, it.update))).collect();
        judged.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        kept.extend(judged.iter().take(keep_best).map(|(_, update)| *update));
        // Whatever the counts say, the newest one that can be continued from stays.
        for record in all.iter().rev() {
            if self.is_present(run, record)? {
                kept.insert(record.update);
                break;
            }
        }
        let going: Vec<&CheckpointRecord> =
            all.iter().filter(|it| !kept.contains(&it.update)).collect();
        if going.is_empty() {
            return Ok(0);
        }
        let digests = self.commit(|tx| {
            let mut digests = BTreeSet::new();
            for record in &going {
                digests.insert(record.manifest);
                digests.extend(files_of(tx, run, record.update)?);
                tx.execute(
                    "DELETE FROM checkpoint WHERE run = ?1 AND update_no = ?2",
                    (&run.0, int(record.update)),
                )?;
            }
            for digest in &digests {
                tx.execute(
                    "DELETE FROM object WHERE digest = ?1 AND NOT EXISTS (SELECT 1 FROM named WHERE digest = ?1)",
                    [Text(digest)],
                )?;
            }
            Ok(digests)
        })?;
        self.remove_unnamed(&digests.into_iter().collect::<Vec<_>>())?;
        Ok(going.len())
    }

    /// Whether every file of a checkpoint is there in its recorded size.
    fn is_present(&self, run: &RunId, record: &CheckpointRecord) -> Result<bool, StoreError> {
        let sizes = self.look(|connection| {
            let mut digests = files_of(connection, run, record.update)?;
            digests.push(record.manifest);
            let mut sizes = Vec::new();
            for digest in digests {
                let sql = "SELECT n_bytes FROM object WHERE digest = ?1";
                sizes.push((
                    digest,
                    uint(connection.query_row(sql, [Text(digest)], |row| row.get(0))?),
                ));
            }
            Ok(sizes)
        })?;
        for (digest, n_bytes) in sizes {
            if self.size(&digest)? != Some(n_bytes) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn files_of(
    connection: &rusqlite::Connection,
    run: &RunId,
    update: u64,
) -> Result<Vec<Digest>, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT digest FROM checkpoint_file WHERE run = ?1 AND update_no = ?2")?;
    let rows =
        statement.query_map((&run.0, int(update)), |row| Ok(row.get::<_, Text<Digest>>(0)?.0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
