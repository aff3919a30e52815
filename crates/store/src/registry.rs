//! Models and their versions, and the verdicts about them. Nothing here ever changes once it stands.

use std::collections::BTreeMap;

use karat_core::{Digest, ModelRef, Name, RunId, Timestamp, Verdict, Which, nearest};
use rusqlite::{Connection, OptionalExtension as _, Row};

use crate::{
    Store, StoreError, ledger,
    row::{Text, Word},
    snapshots::outputs_of,
};

/// One version of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionRecord {
    /// The model.
    pub model: Name,
    /// Its number, from 1; never reused.
    pub version: u32,
    /// Digest of the model manifest: what verdicts are bound to.
    pub manifest: Digest,
    /// The run that made it.
    pub run: RunId,
    /// Files by name.
    pub outputs: BTreeMap<String, Digest>,
    /// When it was registered.
    pub created_at: Timestamp,
}

impl VersionRecord {
    /// `flights@17`.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{}@{}", self.model, self.version)
    }
}

impl Store {
    /// Registers a model under the next version number; the same manifest again gives the version it has.
    pub fn register(
        &self,
        model: &Name,
        manifest: &Digest,
        run: &RunId,
        outputs: &BTreeMap<String, Digest>,
        now: Timestamp,
    ) -> Result<VersionRecord, StoreError> {
        let find = |connection: &Connection| {
            let sql = "SELECT version, manifest, run, created_at FROM version WHERE model = ?1 AND manifest = ?2";
            let found = connection
                .query_row(sql, (model.as_str(), Text(manifest)), |row| version_of(model, row));
            found.optional()?.map(|record| with_outputs(connection, record)).transpose()
        };
        if let Some(known) = self.look(find)? {
            return Ok(known);
        }
        self.commit(|tx| {
            // Again, now that nobody else can register.
            if let Some(known) = find(tx)? {
                return Ok(known);
            }
            self.name(tx, manifest)?;
            let version: u32 = tx.query_row(
                "SELECT COALESCE(MAX(version), 0) + 1 FROM version WHERE model = ?1",
                [model.as_str()],
                |row| row.get(0),
            )?;
            tx.execute(
                "INSERT INTO version (model, version, manifest, run, created_at, after_promotion)
                 VALUES (?1, ?2, ?3, ?4, ?5, (SELECT COALESCE(MAX(id), 0) FROM promotion))",
                (model.as_str(), version, Text(manifest), &run.0, now.0),
            )?;
            for (name, digest) in outputs {
                self.name(tx, digest)?;
                tx.execute(
                    "INSERT INTO version_output (model, version, name, digest) VALUES (?1, ?2, ?3, ?4)",
                    (model.as_str(), version, name, Text(digest)),
                )?;
            }
            Ok(VersionRecord {
                model: model.clone(),
                version,
                manifest: *manifest,
                run: run.clone(),
                outputs: outputs.clone(),
                created_at: now,
            })
        })
    }

    /// One version of a model.
    pub fn version(&self, model: &Name, version: u32) -> Result<VersionRecord, StoreError> {
        self.look(|connection| version_in(connection, model, version))
    }

    /// All versions of a model, oldest first; none when there is no such model.
    pub fn versions(&self, model: &Name) -> Result<Vec<VersionRecord>, StoreError> {
        self.look(|connection| {
            let mut statement = connection.prepare(
                "SELECT version, manifest, run, created_at FROM version WHERE model = ?1 ORDER BY version",
            )?;
            let rows = statement.query_map([model.as_str()], |row| version_of(model, row))?;
            rows.map(|record| with_outputs(connection, record?)).collect()
        })
    }

    /// All models, by name.
    pub fn models(&self) -> Result<Vec<Name>, StoreError> {
        self.look(|connection| {
            let mut statement =
                connection.prepare("SELECT DISTINCT model FROM version ORDER BY model")?;
            let rows = statement.query_map((), |row| Ok(row.get::<_, Text<Name>>(0)?.0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// A version by reference: `flights@2`, `flights@champion`.
    pub fn resolve(&self, reference: &ModelRef) -> Result<VersionRecord, StoreError> {
        let model = &reference.model;
        match &reference.which {
            Which::Version(version) => self.version(model, *version),
            Which::Alias(alias) => match self.alias(model, alias)? {
                Some(found) => self.version(model, found.version),
                None => self.look(|connection| {
                    demand_model(connection, model)?;
                    let known = names(
                        connection,
                        "SELECT alias FROM alias WHERE model = ?1",
                        [model.as_str()],
                    )?;
                    let near = near(alias.as_str(), &known);
                    Err(StoreError::AliasUnknown {
                        model: model.clone(),
                        asked: alias.clone(),
                        near,
                    })
                }),
            },
        }
    }

    /// An error unless every byte of a version is there and matches.
    pub(crate) fn verify_version(&self, version: &VersionRecord) -> Result<(), StoreError> {
        self.demand(&version.manifest)?;
        version.outputs.values().try_for_each(|digest| self.demand(digest))
    }

    /// Keeps a verdict and its entry in the ledger, because it is about to be shown; returns the digest of its canonical
    /// form. One that says what a verdict on record says is that one, in the place it has, made whole again if its bytes
    /// were damaged. `None`: nothing was kept, because the ledger has grown since [`Ledger::place`](crate::Ledger::place)
    /// gave the verdict its place. Ask for the place again.
    pub fn put_verdict(
        &self,
        verdict: &Verdict,
        actor: &str,
        now: Timestamp,
    ) -> Result<Option<Digest>, StoreError> {
        let refuse = |source| StoreError::Record { what: "a verdict".to_owned(), source };
        let bytes_of = |verdict: &Verdict| {
            karat_core::canonical::to_vec(verdict).map_err(|error| refuse(error.into()))
        };
        let Some(place) = &verdict.ledger else {
            return Err(refuse("it has no place in the ledger".into()));
        };
        for entry in self.ledger()?.of_set(verdict.judged.rows) {
            let in_its_place = Verdict { ledger: entry.place(), ..verdict.clone() };
            let bytes = bytes_of(&in_its_place)?;
            if entry.verdict() == Some(Digest::of(&bytes)) {
                return Ok(Some(self.put_bytes(&bytes)?));
            }
        }
        let bytes = bytes_of(verdict)?;
        let digest = self.put_bytes(&bytes)?;
        self.commit(|tx| {
            if ledger::head_in(tx)? != place.previous {
                return Ok(None);
            }
            self.name(tx, &digest)?;
            tx.execute(
                "INSERT INTO verdict (digest, candidate, gate, outcome, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
                (
                    Text(digest),
                    Text(verdict.judged.candidate),
                    &verdict.gate,
                    Word(verdict.outcome),
                    now.0,
                ),
            )?;
            ledger::append_verdict(tx, verdict, digest, actor, now)?;
            Ok(Some(digest))
        })
    }

    /// A verdict on record, its bytes verified.
    pub fn verdict(&self, digest: &Digest) -> Result<Verdict, StoreError> {
        self.look(|connection| demand_verdict(connection, digest))?;
        let bytes = self.read(digest)?;
        serde_json::from_slice(&bytes).map_err(|error| StoreError::Record {
            what: format!("verdict `{}`", digest.short()),
            source: Box::new(error),
        })
    }

    /// Verdicts about the model with this manifest, newest first.
    pub fn verdicts_of(&self, candidate: &Digest) -> Result<Vec<(Digest, Verdict)>, StoreError> {
        let digests = self.look(|connection| {
            let mut statement = connection
                .prepare("SELECT digest FROM verdict WHERE candidate = ?1 ORDER BY seq DESC")?;
            let rows = statement
                .query_map([Text(candidate)], |row| Ok(row.get::<_, Text<Digest>>(0)?.0))?;
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        })?;
        digests.into_iter().map(|digest| Ok((digest, self.verdict(&digest)?))).collect()
    }
}

/// One version, or the nearest there are.
pub(crate) fn version_in(
    connection: &Connection,
    model: &Name,
    version: u32,
) -> Result<VersionRecord, StoreError> {
    let found = connection
        .prepare_cached("SELECT version, manifest, run, created_at FROM version WHERE model = ?1 AND version = ?2")?
        .query_row((model.as_str(), version), |row| version_of(model, row))
        .optional()?;
    match found {
        Some(record) => with_outputs(connection, record),
        None => {
            let newest = demand_model(connection, model)?;
            Err(StoreError::VersionUnknown { model: model.clone(), asked: version, newest })
        }
    }
}

/// An error unless the verdict is on record.
pub(crate) fn demand_verdict(connection: &Connection, digest: &Digest) -> Result<(), StoreError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM verdict WHERE digest = ?1)";
    let is_there: bool = connection.query_row(sql, [Text(digest)], |row| row.get(0))?;
    if is_there { Ok(()) } else { Err(StoreError::VerdictUnknown { digest: *digest }) }
}

/// The newest version of a model, or the nearest models.
fn demand_model(connection: &Connection, model: &Name) -> Result<u32, StoreError> {
    let sql = "SELECT MAX(version) FROM version WHERE model = ?1";
    let newest: Option<u32> = connection.query_row(sql, [model.as_str()], |row| row.get(0))?;
    if let Some(newest) = newest {
        return Ok(newest);
    }
    let known = names(connection, "SELECT DISTINCT model FROM version", ())?;
    Err(StoreError::ModelUnknown { asked: model.clone(), near: near(model.as_str(), &known) })
}

fn names(
    connection: &Connection,
    sql: &'static str,
    parameters: impl rusqlite::Params,
) -> Result<Vec<String>, StoreError> {
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map(parameters, |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn near(asked: &str, known: &[String]) -> Vec<String> {
    nearest(asked, known.iter().map(String::as_str)).into_iter().map(str::to_owned).collect()
}

pub(crate) fn version_of(model: &Name, row: &Row<'_>) -> rusqlite::Result<VersionRecord> {
    Ok(VersionRecord {
        model: model.clone(),
        version: row.get("version")?,
        manifest: row.get::<_, Text<Digest>>("manifest")?.0,
        run: RunId(row.get("run")?),
        outputs: BTreeMap::new(),
        created_at: Timestamp(row.get("created_at")?),
    })
}

pub(crate) fn with_outputs(
    connection: &Connection,
    record: VersionRecord,
) -> Result<VersionRecord, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT name, digest FROM version_output WHERE model = ?1 AND version = ?2",
    )?;
    let outputs = outputs_of(&mut statement, (record.model.as_str(), record.version))?;
    Ok(VersionRecord { outputs, ..record })
}
