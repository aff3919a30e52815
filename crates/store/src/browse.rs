//! Reading for people: one page of a list at a time, each with a limit, each in one transaction that holds up no writer.

use karat_core::{Digest, Name, Outcome, RunId, Step, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Row};

use crate::{
    Promotion, RunState, Store, StoreError, VersionRecord,
    promote::promotion_of,
    registry::{version_of, with_outputs},
    row::{Text, Word, int, uint},
    snapshots::word,
};

mod lines;

pub use lines::RunLogFile;

/// Rows a page may have.
pub const PAGE_ROWS_MAX: u32 = 200;

/// Which part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Rows left out before it.
    pub offset: u64,
    /// Rows in it, at most [`PAGE_ROWS_MAX`].
    pub limit: u32,
}

impl Span {
    fn bounds(self) -> (i64, i64) {
        (i64::from(self.limit.min(PAGE_ROWS_MAX)), int(self.offset))
    }
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// Rows in the whole list.
    pub n_all: u64,
}

/// Order of a list of runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunOrder {
    /// By beginning, newest first.
    #[default]
    Newest,
    /// By beginning, oldest first.
    Oldest,
    /// By wall time, longest first.
    Longest,
    /// By the best loss on the eval split, lowest first; runs without one last.
    BestLoss,
}

/// Which runs, in which order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunQuery {
    /// Of this step only.
    pub step: Option<Step>,
    /// In this state only.
    pub state: Option<RunState>,
    /// Whose subject, ignoring case, or id contains this; all when empty.
    pub text: String,
    /// The order.
    pub order: RunOrder,
}

/// A run in a list: what [`crate::RunRecord`] has that fits in a row.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRow {
    /// `r-` and 10 hex digits.
    pub id: RunId,
    /// The step.
    pub step: Step,
    /// What it worked on, for people.
    pub subject: String,
    /// Where it stands.
    pub state: RunState,
    /// The newest attempt.
    pub attempt: u32,
    /// When the first attempt began.
    pub started_at: Timestamp,
    /// When whoever works on it was last heard of.
    pub heartbeat_at: Timestamp,
    /// Wall time of the newest attempt.
    pub seconds: f64,
    /// Best loss on the eval split, of a training.
    pub best_loss: Option<f64>,
    /// What came of it in one line: its summary, or why it failed.
    pub result: String,
}

/// A verdict in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerdictRow {
    /// Its digest.
    pub digest: Digest,
    /// The gate.
    pub gate: String,
    /// The answer.
    pub outcome: Outcome,
    /// Manifest of the model that was judged.
    pub candidate: Digest,
    /// A version with that manifest.
    pub version: Option<(Name, u32)>,
    /// When it was decided.
    pub created_at: Timestamp,
}

/// A model in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRow {
    /// The model.
    pub model: Name,
    /// Versions it has.
    pub n_versions: u64,
    /// Its newest version.
    pub newest: u32,
    /// When that was registered.
    pub created_at: Timestamp,
}

/// A snapshot in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRow {
    /// The dataset.
    pub dataset: Name,
    /// Its digest.
    pub digest: Digest,
    /// When it was first taken.
    pub created_at: Timestamp,
}

/// How much of everything there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Runs.
    pub n_runs: u64,
    /// Runs that somebody works on, or died at.
    pub n_running: u64,
    /// Runs that ended with an error.
    pub n_failed: u64,
    /// Models.
    pub n_models: u64,
    /// Versions of all models.
    pub n_versions: u64,
    /// Verdicts.
    pub n_verdicts: u64,
    /// Moves of aliases.
    pub n_promotions: u64,
    /// Snapshots.
    pub n_snapshots: u64,
}

/// Rows of `run`. Only what a list shows is read: a spec may be long.
macro_rules! run_rows {
    ($rest:literal) => {
        concat!(
            "SELECT id, step, subject, state, attempt, started_at, heartbeat_at, seconds,
                 json_extract(metrics, '$.best_eval_loss') AS best_loss,
                 COALESCE(error, json_extract(metrics, '$.summary'), '') AS result
             FROM run WHERE ",
            $rest
        )
    };
}

/// The rows that a [`RunQuery`] asks for, in one order.
macro_rules! ordered_run_rows {
    ($order:literal) => {
        concat!(
            run_rows!(
                "(?1 IS NULL OR step = ?1) AND (?2 IS NULL OR state = ?2)
                     AND (?3 = '' OR instr(lower(subject), ?3) OR instr(id, ?3))
                 ORDER BY "
            ),
            $order,
            " LIMIT ?4 OFFSET ?5"
        )
    };
}

/// Rows of `verdict`, with a version that has the judged manifest.
macro_rules! verdict_rows {
    ($rest:literal) => {
        concat!(
            "SELECT digest, gate, outcome, candidate, created_at,
                 (SELECT model FROM version WHERE manifest = candidate LIMIT 1) AS model,
                 (SELECT version FROM version WHERE manifest = candidate LIMIT 1) AS version
             FROM verdict WHERE ",
            $rest
        )
    };
}

impl RunOrder {
    const fn sql(self) -> &'static str {
        match self {
            Self::Newest => ordered_run_rows!("seq DESC"),
            Self::Oldest => ordered_run_rows!("seq"),
            Self::Longest => ordered_run_rows!("seconds DESC, seq DESC"),
            Self::BestLoss => ordered_run_rows!("best_loss IS NULL, best_loss, seq DESC"),
        }
    }
}

impl Store {
    /// How much of everything there is.
    pub fn counts(&self) -> Result<Counts, StoreError> {
        self.look(|connection| {
            // `state <> 'complete'` is what the small index of unfinished runs holds.
            let sql = "SELECT
                (SELECT count(*) FROM run),
                (SELECT count(*) FROM run WHERE state <> 'complete' AND state = 'running'),
                (SELECT count(*) FROM run WHERE state <> 'complete' AND state = 'failed'),
                (SELECT count(DISTINCT model) FROM version),
                (SELECT count(*) FROM version),
                (SELECT count(*) FROM verdict),
                (SELECT count(*) FROM promotion),
                (SELECT count(*) FROM snapshot)";
            let counts = connection.query_row(sql, (), |row| {
                let n = |i: usize| row.get(i).map(uint);
                Ok(Counts {
                    n_runs: n(0)?,
                    n_running: n(1)?,
                    n_failed: n(2)?,
                    n_models: n(3)?,
                    n_versions: n(4)?,
                    n_verdicts: n(5)?,
                    n_promotions: n(6)?,
                    n_snapshots: n(7)?,
                })
            })?;
            Ok(counts)
        })
    }

    /// A page of runs.
    pub fn browse_runs(&self, query: &RunQuery, span: Span) -> Result<Page<RunRow>, StoreError> {
        let (step, state) = (query.step.map(Step::word), query.state.map(RunState::word));
        let text = query.text.to_lowercase();
        let (limit, offset) = span.bounds();
        self.look(|connection| {
            let n_all = if step.is_none() && state.is_none() && text.is_empty() {
                count(connection, "SELECT count(*) FROM run", ())?
            } else {
                let sql = "SELECT count(*) FROM run
                     WHERE (?1 IS NULL OR step = ?1) AND (?2 IS NULL OR state = ?2)
                         AND (?3 = '' OR instr(lower(subject), ?3) OR instr(id, ?3))";
                count(connection, sql, (step, state, &text))?
            };
            let mut statement = connection.prepare_cached(query.order.sql())?;
            let mut found = statement.query((step, state, &text, limit, offset))?;
            let mut rows = Vec::new();
            while let Some(row) = found.next()? {
                rows.push(run_row(row)?);
            }
            Ok(Page { rows, n_all })
        })
    }

    /// Runs that made an object, newest first, each with the name it gave it.
    pub fn makers_of(
        &self,
        digest: &Digest,
        limit: u32,
    ) -> Result<Vec<(RunId, Step, String)>, StoreError> {
        self.look(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT run.id, run.step, run_output.name FROM run_output JOIN run ON run.id = run_output.run
                 WHERE run_output.digest = ?1 ORDER BY run.seq DESC LIMIT ?2",
            )?;
            let rows = statement.query_map((Text(digest), limit.min(PAGE_ROWS_MAX)), |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get(2)?))
            })?;
            rows.map(|row| {
                let (id, step, name) = row?;
                Ok((RunId(id), word(&step)?, name))
            })
            .collect()
        })
    }

    /// Runs that had an object or a snapshot as input, newest first.
    pub fn runs_given(&self, digest: &Digest, limit: u32) -> Result<Vec<RunRow>, StoreError> {
        self.look(|connection| {
            let mut statement = connection
                .prepare_cached(run_rows!("instr(inputs, ?1) ORDER BY seq DESC LIMIT ?2"))?;
            let mut found = statement.query((Text(digest), limit.min(PAGE_ROWS_MAX)))?;
            let mut rows = Vec::new();
            while let Some(row) = found.next()? {
                rows.push(run_row(row)?);
            }
            Ok(rows)
        })
    }

    /// A page of models, by name.
    pub fn browse_models(&self, span: Span) -> Result<Page<ModelRow>, StoreError> {
        self.look(|connection| {
            let n_all = count(connection, "SELECT count(DISTINCT model) FROM version", ())?;
            // SQLite gives `created_at` of the row that has the maximum.
            let mut statement = connection.prepare_cached(
                "SELECT model, count(*) AS n_versions, max(version) AS newest, created_at FROM version
                 GROUP BY model ORDER BY model LIMIT ?1 OFFSET ?2",
            )?;
            let rows = statement.query_map(span.bounds(), |row| {
                Ok(ModelRow {
                    model: row.get::<_, Text<Name>>("model")?.0,
                    n_versions: uint(row.get("n_versions")?),
                    newest: row.get("newest")?,
                    created_at: Timestamp(row.get("created_at")?),
                })
            })?;
            Ok(Page { rows: rows.collect::<Result<_, _>>()?, n_all })
        })
    }

    /// A page of a model's versions, newest first.
    pub fn browse_versions(
        &self,
        model: &Name,
        span: Span,
    ) -> Result<Page<VersionRecord>, StoreError> {
        let (limit, offset) = span.bounds();
        self.look(|connection| {
            let sql = "SELECT count(*) FROM version WHERE model = ?1";
            let n_all = count(connection, sql, [model.as_str()])?;
            let mut statement = connection.prepare_cached(
                "SELECT version, manifest, run, created_at FROM version WHERE model = ?1
                 ORDER BY version DESC LIMIT ?2 OFFSET ?3",
            )?;
            let rows = statement
                .query_map((model.as_str(), limit, offset), |row| version_of(model, row))?;
            let rows = rows.map(|record| with_outputs(connection, record?));
            Ok(Page { rows: rows.collect::<Result<_, StoreError>>()?, n_all })
        })
    }

    /// A version with this manifest, of any model.
    pub fn version_with(&self, manifest: &Digest) -> Result<Option<(Name, u32)>, StoreError> {
        self.look(|connection| {
            let sql = "SELECT model, version FROM version WHERE manifest = ?1 LIMIT 1";
            let found = connection.query_row(sql, [Text(manifest)], |row| {
                Ok((row.get::<_, Text<Name>>(0)?.0, row.get(1)?))
            });
            Ok(found.optional()?)
        })
    }

    /// A page of verdicts, newest first, of one gate, with one outcome, or all.
    pub fn browse_verdicts(
        &self,
        gate: &str,
        outcome: Option<Outcome>,
        span: Span,
    ) -> Result<Page<VerdictRow>, StoreError> {
        let outcome = outcome.map(Word);
        let (limit, offset) = span.bounds();
        self.look(|connection| {
            let sql = "SELECT count(*) FROM verdict WHERE (?1 = '' OR gate = ?1) AND (?2 IS NULL OR outcome = ?2)";
            let n_all = count(connection, sql, (gate, &outcome))?;
            let sql = verdict_rows!(
                "(?1 = '' OR gate = ?1) AND (?2 IS NULL OR outcome = ?2) ORDER BY seq DESC LIMIT ?3 OFFSET ?4"
            );
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map((gate, &outcome, limit, offset), verdict_row)?;
            Ok(Page { rows: rows.collect::<Result<_, _>>()?, n_all })
        })
    }

    /// The newest verdicts about the model with this manifest, newest first.
    pub fn verdict_rows_of(
        &self,
        candidate: &Digest,
        limit: u32,
    ) -> Result<Vec<VerdictRow>, StoreError> {
        self.look(|connection| {
            let sql = verdict_rows!("candidate = ?1 ORDER BY seq DESC LIMIT ?2");
            let mut statement = connection.prepare_cached(sql)?;
            let rows =
                statement.query_map((Text(candidate), limit.min(PAGE_ROWS_MAX)), verdict_row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// A page of the moves of aliases, of one model or of all, newest first.
    pub fn browse_promotions(
        &self,
        model: Option<&Name>,
        span: Span,
    ) -> Result<Page<Promotion>, StoreError> {
        let model = model.map(Name::as_str);
        let (limit, offset) = span.bounds();
        self.look(|connection| {
            let sql = "SELECT count(*) FROM promotion WHERE ?1 IS NULL OR model = ?1";
            let n_all = count(connection, sql, [model])?;
            let mut statement = connection.prepare_cached(
                "SELECT * FROM promotion WHERE ?1 IS NULL OR model = ?1 ORDER BY id DESC LIMIT ?2 OFFSET ?3",
            )?;
            let rows = statement.query_map((model, limit, offset), promotion_of)?;
            Ok(Page { rows: rows.collect::<Result<_, _>>()?, n_all })
        })
    }

    /// A page of the snapshots of one dataset or of all, newest first.
    pub fn browse_snapshots(
        &self,
        dataset: Option<&Name>,
        span: Span,
    ) -> Result<Page<SnapshotRow>, StoreError> {
        let dataset = dataset.map(Name::as_str);
        let (limit, offset) = span.bounds();
        self.look(|connection| {
            let sql = "SELECT count(*) FROM snapshot WHERE ?1 IS NULL OR dataset = ?1";
            let n_all = count(connection, sql, [dataset])?;
            let mut statement = connection.prepare_cached(
                "SELECT dataset, digest, created_at FROM snapshot WHERE ?1 IS NULL OR dataset = ?1
                 ORDER BY id DESC LIMIT ?2 OFFSET ?3",
            )?;
            let rows = statement.query_map((dataset, limit, offset), |row| {
                Ok(SnapshotRow {
                    dataset: row.get::<_, Text<Name>>(0)?.0,
                    digest: row.get::<_, Text<Digest>>(1)?.0,
                    created_at: Timestamp(row.get(2)?),
                })
            })?;
            Ok(Page { rows: rows.collect::<Result<_, _>>()?, n_all })
        })
    }

    /// The newest report of a name about a snapshot, whatever version it is about.
    pub fn newest_report(
        &self,
        snapshot: &Digest,
        file: &str,
    ) -> Result<Option<Digest>, StoreError> {
        self.look(|connection| {
            let sql = "SELECT digest FROM report WHERE snapshot = ?1 AND file = ?2 ORDER BY created_at DESC LIMIT 1";
            let found = connection
                .query_row(sql, (Text(snapshot), file), |row| Ok(row.get::<_, Text<Digest>>(0)?.0));
            Ok(found.optional()?)
        })
    }
}

fn count(
    connection: &Connection,
    sql: &'static str,
    parameters: impl rusqlite::Params,
) -> Result<u64, StoreError> {
    Ok(connection.prepare_cached(sql)?.query_row(parameters, |row| row.get(0).map(uint))?)
}

fn run_row(row: &Row<'_>) -> Result<RunRow, StoreError> {
    Ok(RunRow {
        id: RunId(row.get("id")?),
        step: word(&row.get::<_, String>("step")?)?,
        subject: row.get("subject")?,
        state: RunState::parse(&row.get::<_, String>("state")?)?,
        attempt: row.get("attempt")?,
        started_at: Timestamp(row.get("started_at")?),
        heartbeat_at: Timestamp(row.get("heartbeat_at")?),
        seconds: row.get("seconds")?,
        best_loss: row.get("best_loss")?,
        result: row.get("result")?,
    })
}

fn verdict_row(row: &Row<'_>) -> rusqlite::Result<VerdictRow> {
    let model = row.get::<_, Option<Text<Name>>>("model")?.map(|it| it.0);
    Ok(VerdictRow {
        digest: row.get::<_, Text<Digest>>("digest")?.0,
        gate: row.get("gate")?,
        outcome: row.get::<_, Word<Outcome>>("outcome")?.0,
        candidate: row.get::<_, Text<Digest>>("candidate")?.0,
        version: model.zip(row.get("version")?),
        created_at: Timestamp(row.get("created_at")?),
    })
}
