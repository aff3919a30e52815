//! Runs: what was asked, by whom it is being done, what came of it.
//!
//! A run that did not complete is taken over by the next one with the same key: same id, next attempt, so that its
//! checkpoints continue. The attempt number is the fencing token: every commit of a run checks it, so a process that
//! slept through a takeover cannot commit.

use std::collections::BTreeMap;

use karat_core::{Digest, RunId, Step, Timestamp, nearest, summary::CodeVersion};
use rusqlite::{Connection, OptionalExtension as _, Row};
use serde_json::Value;

use crate::{
    Store, StoreError,
    lease::Owner,
    objects::Found,
    row::{Json, Text},
    snapshots::{outputs_of, word},
};

/// Runs that near names are looked for among.
const NEAR_RUNS: i64 = 500;

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Somebody works on it, or died at it.
    Running,
    /// Its outputs may be used again.
    Complete,
    /// Ended with an error.
    Failed,
    /// Stopped on request.
    Canceled,
}

impl RunState {
    /// The word shown to people and stored.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Self, StoreError> {
        [Self::Running, Self::Complete, Self::Failed, Self::Canceled]
            .into_iter()
            .find(|it| it.word() == text)
            .ok_or_else(|| StoreError::Record {
                what: "the state of a run".to_owned(),
                source: format!("`{text}` is not one").into(),
            })
    }
}

/// What a run begins with.
#[derive(Clone, Debug, PartialEq)]
pub struct RunStart {
    /// The step.
    pub step: Step,
    /// Cache key: digest over everything the outputs depend on.
    pub key: Digest,
    /// What it works on, for people.
    pub subject: String,
    /// The complete spec.
    pub spec: Value,
    /// Inputs by name.
    pub inputs: BTreeMap<String, Digest>,
    /// Seed, where randomness is used.
    pub seed: Option<u64>,
    /// Device class, or empty.
    pub device: String,
    /// Tool and version.
    pub tool: String,
    /// Git state.
    pub code: CodeVersion,
}

/// The right to commit to a run, until somebody else takes it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunHandle {
    /// The run.
    pub id: RunId,
    /// Which try, from 1. Also the fencing token.
    pub attempt: u32,
}

/// What a run ends with.
#[derive(Clone, Debug, PartialEq)]
pub struct RunEnd {
    /// How it ended.
    pub state: RunState,
    /// Outputs by name; each must be in the store.
    pub outputs: BTreeMap<String, Digest>,
    /// Numbers worth keeping.
    pub metrics: Value,
    /// Wall time of this attempt.
    pub seconds: f64,
    /// Why it failed.
    pub error: Option<String>,
}

/// A run as recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRecord {
    /// `r-` and 10 hex digits.
    pub id: RunId,
    /// The step.
    pub step: Step,
    /// Cache key.
    pub key: Digest,
    /// What it worked on, for people.
    pub subject: String,
    /// The complete spec.
    pub spec: Value,
    /// Inputs by name.
    pub inputs: BTreeMap<String, Digest>,
    /// Seed.
    pub seed: Option<u64>,
    /// Device class, or empty.
    pub device: String,
    /// Tool and version.
    pub tool: String,
    /// Git state.
    pub code: CodeVersion,
    /// Where it stands.
    pub state: RunState,
    /// The newest attempt.
    pub attempt: u32,
    /// When the first attempt began.
    pub started_at: Timestamp,
    /// When the newest attempt ended.
    pub ended_at: Option<Timestamp>,
    /// Outputs by name.
    pub outputs: BTreeMap<String, Digest>,
    /// Numbers worth keeping.
    pub metrics: Value,
    /// Wall time of the newest attempt.
    pub seconds: f64,
    /// Why it failed.
    pub error: Option<String>,
}

impl Store {
    /// Begins a run, or takes over the unfinished run with the same key if nobody is at work on it.
    pub fn begin_run(&self, start: &RunStart, now: Timestamp) -> Result<RunHandle, StoreError> {
        let owner = self.owner();
        self.commit(|tx| {
            let unfinished = tx
                .query_row(
                    "SELECT id, attempt, state, owner, heartbeat_at FROM run
                     WHERE step = ?1 AND key = ?2 AND state <> 'complete'",
                    (start.step.word(), Text(start.key)),
                    |row| {
                        let (id, attempt): (String, u32) = (row.get(0)?, row.get(1)?);
                        let (state, owner): (String, Json<Owner>) = (row.get(2)?, row.get(3)?);
                        Ok((RunId(id), attempt, state, owner.0, Timestamp(row.get(4)?)))
                    },
                )
                .optional()?;
            let Some((id, attempt, state, holder, beaten_at)) = unfinished else {
                return insert(tx, start, &owner, now);
            };
            if state == RunState::Running.word() && holder.is_at_work(beaten_at, now) {
                let (step, owner) = (start.step.word(), holder.describe());
                return Err(StoreError::RunInProgress { run: id, step, owner, beaten_at });
            }
            let attempt = attempt + 1;
            // A failed attempt may have recorded outputs of its own.
            tx.execute("DELETE FROM run_output WHERE run = ?1", [&id.0])?;
            tx.execute(
                "UPDATE run SET state = 'running', attempt = ?2, owner = ?3, heartbeat_at = ?4, ended_at = NULL,
                     error = NULL, metrics = 'null', seconds = 0, code = ?5
                 WHERE id = ?1",
                (&id.0, attempt, Json(&owner), now.0, Json(&start.code)),
            )?;
            Ok(RunHandle { id, attempt })
        })
    }

    /// Tells that the run is being worked on.
    pub fn heartbeat(&self, handle: &RunHandle, now: Timestamp) -> Result<(), StoreError> {
        self.commit(|tx| {
            demand_lease(tx, handle)?;
            tx.execute("UPDATE run SET heartbeat_at = ?2 WHERE id = ?1", (&handle.id.0, now.0))?;
            Ok(())
        })
    }

    /// Ends a run. Only the newest attempt can.
    pub fn finish_run(
        &self,
        handle: &RunHandle,
        end: &RunEnd,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.commit(|tx| {
            demand_lease(tx, handle)?;
            for (name, digest) in &end.outputs {
                self.name(tx, digest)?;
                tx.execute(
                    "INSERT INTO run_output (run, name, digest) VALUES (?1, ?2, ?3)",
                    (&handle.id.0, name, Text(digest)),
                )?;
            }
            tx.execute(
                "UPDATE run SET state = ?2, metrics = ?3, seconds = ?4, error = ?5, ended_at = ?6 WHERE id = ?1",
                (&handle.id.0, end.state.word(), Json(&end.metrics), end.seconds, &end.error, now.0),
            )?;
            Ok(())
        })
    }

    /// The newest complete run of `step` under `key` whose outputs are all there and unchanged. A damaged output makes
    /// it a miss and is told through [`Store::take_warnings`].
    pub fn cached_run(&self, step: Step, key: &Digest) -> Result<Option<RunRecord>, StoreError> {
        let complete = self.look(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT * FROM run WHERE step = ?1 AND key = ?2 AND state = 'complete' ORDER BY seq DESC",
            )?;
            let raw = statement.query_map((step.word(), Text(key)), raw_run)?;
            raw.map(|raw| finish_raw(connection, raw?)).collect::<Result<Vec<_>, StoreError>>()
        })?;
        for run in complete {
            if self.outputs_are_whole(&run)? {
                return Ok(Some(run));
            }
        }
        Ok(None)
    }

    fn outputs_are_whole(&self, run: &RunRecord) -> Result<bool, StoreError> {
        for (name, digest) in &run.outputs {
            let what = match self.inspect(digest)? {
                Found::Whole => continue,
                Found::Corrupt { .. } => "does not match its digest",
                Found::Missing => "is gone",
            };
            self.warn(format!(
                "output `{name}` ({}) of run `{}` {what}; the step is done again",
                digest.short(),
                run.id
            ));
            return Ok(false);
        }
        Ok(true)
    }

    /// The run whose id begins with `prefix`; the leading `r-` may be left out.
    pub fn run(&self, prefix: &str) -> Result<RunRecord, StoreError> {
        let asked =
            if prefix.starts_with("r-") { prefix.to_owned() } else { format!("r-{prefix}") };
        self.look(|connection| {
            let mut statement = connection.prepare(
                "SELECT * FROM run WHERE substr(id, 1, length(?1)) = ?1 ORDER BY seq DESC LIMIT 6",
            )?;
            let mut found =
                statement.query_map([&asked], raw_run)?.collect::<Result<Vec<_>, _>>()?;
            let unambiguous = found.len() == 1 && "r-".len() < asked.len();
            match found.pop() {
                Some(only) if unambiguous => finish_raw(connection, only),
                Some(last) if "r-".len() < asked.len() => {
                    let matches = found.iter().chain([&last]).map(|it| it.id.clone()).collect();
                    Err(StoreError::RunAmbiguous { asked: prefix.to_owned(), matches })
                }
                Some(_) | None => {
                    let mut statement =
                        connection.prepare("SELECT id FROM run ORDER BY seq DESC LIMIT ?1")?;
                    let known: Vec<String> = statement
                        .query_map([NEAR_RUNS], |row| row.get(0))?
                        .collect::<Result<_, _>>()?;
                    let near = nearest(&asked, known.iter().map(String::as_str));
                    let near = near.into_iter().map(str::to_owned).collect();
                    Err(StoreError::RunUnknown { asked: prefix.to_owned(), near })
                }
            }
        })
    }

    /// The newest runs, newest first.
    pub fn runs(&self, limit: usize) -> Result<Vec<RunRecord>, StoreError> {
        self.look(|connection| {
            let mut statement =
                connection.prepare("SELECT * FROM run ORDER BY seq DESC LIMIT ?1")?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let raw = statement.query_map([limit], raw_run)?;
            raw.map(|raw| finish_raw(connection, raw?)).collect()
        })
    }
}

/// An error unless `handle` is the newest attempt and the run has not ended.
pub(crate) fn demand_lease(connection: &Connection, handle: &RunHandle) -> Result<(), StoreError> {
    let found: Option<(u32, String)> = connection
        .prepare_cached("SELECT attempt, state FROM run WHERE id = ?1")?
        .query_row([&handle.id.0], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((newest, state)) = found else {
        return Err(StoreError::RunUnknown { asked: handle.id.to_string(), near: Vec::new() });
    };
    let state = RunState::parse(&state)?;
    if newest == handle.attempt && state == RunState::Running {
        return Ok(());
    }
    let (run, attempt, state) = (handle.id.clone(), handle.attempt, state.word());
    Err(StoreError::LeaseLost { run, attempt, newest, state })
}

fn insert(
    connection: &Connection,
    start: &RunStart,
    owner: &Owner,
    now: Timestamp,
) -> Result<RunHandle, StoreError> {
    // 40 bits: the first collision is expected after a million runs, and then the next draw is taken.
    let id: String = loop {
        let id = connection
            .query_row("SELECT 'r-' || lower(hex(randomblob(5)))", (), |row| row.get(0))?;
        let is_taken: bool = connection.query_row(
            "SELECT EXISTS (SELECT 1 FROM run WHERE id = ?1)",
            [&id],
            |row| row.get(0),
        )?;
        if !is_taken {
            break id;
        }
    };
    connection.execute(
        "INSERT INTO run (id, step, key, subject, spec, inputs, seed, device, tool, code,
             state, attempt, owner, heartbeat_at, started_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 'running', 1, ?11, ?12, ?12)",
        rusqlite::params![
            id,
            start.step.word(),
            Text(start.key),
            start.subject,
            Json(&start.spec),
            Json(&start.inputs),
            start.seed.map(Text),
            start.device,
            start.tool,
            Json(&start.code),
            Json(owner),
            now.0,
        ],
    )?;
    Ok(RunHandle { id: RunId(id), attempt: 1 })
}

/// A row of `run`, with the two words not read yet.
struct RawRun {
    id: String,
    step: String,
    state: String,
    record: RunRecord,
}

fn raw_run(row: &Row<'_>) -> rusqlite::Result<RawRun> {
    let id: String = row.get("id")?;
    let record = RunRecord {
        id: RunId(id.clone()),
        step: Step::Snapshot,
        key: row.get::<_, Text<Digest>>("key")?.0,
        subject: row.get("subject")?,
        spec: row.get::<_, Json<Value>>("spec")?.0,
        inputs: row.get::<_, Json<BTreeMap<String, Digest>>>("inputs")?.0,
        seed: row.get::<_, Option<Text<u64>>>("seed")?.map(|it| it.0),
        device: row.get("device")?,
        tool: row.get("tool")?,
        code: row.get::<_, Json<CodeVersion>>("code")?.0,
        state: RunState::Running,
        attempt: row.get("attempt")?,
        started_at: Timestamp(row.get("started_at")?),
        ended_at: row.get::<_, Option<i64>>("ended_at")?.map(Timestamp),
        outputs: BTreeMap::new(),
        metrics: row.get::<_, Json<Value>>("metrics")?.0,
        seconds: row.get("seconds")?,
        error: row.get("error")?,
    };
    Ok(RawRun { id, step: row.get("step")?, state: row.get("state")?, record })
}

fn finish_raw(connection: &Connection, raw: RawRun) -> Result<RunRecord, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT name, digest FROM run_output WHERE run = ?1")?;
    let outputs = outputs_of(&mut statement, [&raw.id])?;
    let (step, state) = (word(&raw.step)?, RunState::parse(&raw.state)?);
    Ok(RunRecord { step, state, outputs, ..raw.record })
}
