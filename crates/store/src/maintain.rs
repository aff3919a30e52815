//! Is the state whole, and what may go.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use karat_core::{Digest, Name, Timestamp, port::OnProgress, thousands};
use rusqlite::Connection;

use crate::{
    Store, StoreError,
    chain::first_break,
    ledger,
    objects::Found,
    promote::history_in,
    row::{Text, uint},
    run_log::is_run_id,
};

/// Files removed under one write lock: others may write in between.
const BATCH: usize = 256;

/// What `verify` found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Objects that records name.
    pub n_objects: u64,
    /// Their size.
    pub n_bytes: u64,
    /// Everything that is not as it should be, one line each.
    pub problems: Vec<String>,
}

/// What `gc` removed, or would.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Objects that nothing names.
    pub n_objects: u64,
    /// Their size.
    pub n_bytes: u64,
    /// Scratch files and logs that nobody needs.
    pub n_scratch: u64,
}

impl Store {
    /// Checks the database, that every named object is there in its size, and that history, aliases and ledger
    /// agree; with `bytes` also every byte against its digest. Progress is in objects.
    pub fn verify(
        &self,
        bytes: bool,
        on_progress: OnProgress<'_>,
    ) -> Result<VerifyReport, StoreError> {
        let mut report = VerifyReport::default();
        let named = self.look(|connection| {
            check_database(connection, &mut report.problems)?;
            check_histories(connection, &mut report.problems)?;
            let mut statement =
                connection.prepare("SELECT digest, n_bytes FROM object ORDER BY digest")?;
            let rows = statement
                .query_map((), |row| Ok((row.get::<_, Text<Digest>>(0)?.0, uint(row.get(1)?))))?;
            Ok(rows.collect::<Result<BTreeMap<_, _>, _>>()?)
        })?;
        ledger::check(self, &mut report.problems)?;
        let files = self.object_files()?;
        let unnamed: Vec<&Digest> =
            files.keys().filter(|it| bytes && !named.contains_key(*it)).collect();
        let total = named.len() as u64 + unnamed.len() as u64;
        let mut done = 0;
        for (digest, n_bytes) in &named {
            report.n_objects += 1;
            report.n_bytes += n_bytes;
            if let Some(problem) = self.problem_of(digest, *n_bytes, bytes)? {
                let users = self.users_of(digest)?;
                report
                    .problems
                    .push(format!("object `{}` {problem}; named by {users}", digest.short()));
            }
            done += 1;
            on_progress(done, Some(total));
        }
        for digest in unnamed {
            // Removed by another process since they were listed: nothing named it, nothing is lost.
            if let Found::Corrupt { .. } = self.inspect(digest)? {
                report.problems.push(format!(
                    "object `{}` does not match its digest; nothing names it",
                    digest.short()
                ));
            }
            done += 1;
            on_progress(done, Some(total));
        }
        Ok(report)
    }

    fn problem_of(
        &self,
        digest: &Digest,
        n_bytes: u64,
        bytes: bool,
    ) -> Result<Option<String>, StoreError> {
        match self.size(digest)? {
            None => return Ok(Some("is gone".to_owned())),
            Some(found) if found != n_bytes => {
                return Ok(Some(format!(
                    "has {} bytes instead of {}",
                    thousands(found),
                    thousands(n_bytes)
                )));
            }
            Some(_) => {}
        }
        if bytes && !matches!(self.inspect(digest)?, Found::Whole) {
            return Ok(Some("does not match its digest".to_owned()));
        }
        Ok(None)
    }

    /// Who needs an object, for people.
    fn users_of(&self, digest: &Digest) -> Result<String, StoreError> {
        self.look(|connection| {
            let mut statement = connection.prepare(
                "SELECT 'snapshot of ' || dataset FROM snapshot WHERE object = ?1
                 UNION SELECT 'run ' || run || ' (' || name || ')' FROM run_output WHERE digest = ?1
                 UNION SELECT 'checkpoint ' || update_no || ' of run ' || run FROM checkpoint WHERE manifest = ?1
                 UNION SELECT 'checkpoint ' || update_no || ' of run ' || run FROM checkpoint_file WHERE digest = ?1
                 UNION SELECT model || '@' || version FROM version WHERE manifest = ?1
                 UNION SELECT model || '@' || version || ' (' || name || ')' FROM version_output WHERE digest = ?1
                 UNION SELECT 'verdict of gate ' || gate FROM verdict WHERE digest = ?1
                 UNION SELECT 'report ' || file || ' of ' || subject FROM report WHERE digest = ?1",
            )?;
            let users: Vec<String> =
                statement.query_map([Text(digest)], |row| row.get(0))?.collect::<Result<_, _>>()?;
            Ok(if users.is_empty() { "nothing any more".to_owned() } else { users.join(", ") })
        })
    }

    /// Removes objects that nothing names, stale scratch files and the logs of completed runs, all older than `grace`.
    /// What a row names is never touched.
    pub fn gc(
        &self,
        grace: Duration,
        dry_run: bool,
        now: Timestamp,
    ) -> Result<GcReport, StoreError> {
        self.writable()?;
        let until = Duration::from_millis(u64::try_from(now.0).unwrap_or(0)).saturating_sub(grace);
        let until = SystemTime::UNIX_EPOCH + until;
        let needed = self.look(|connection| {
            let mut statement = connection.prepare("SELECT digest FROM named")?;
            let rows = statement.query_map((), |row| Ok(row.get::<_, Text<Digest>>(0)?.0))?;
            Ok(rows.collect::<Result<std::collections::BTreeSet<_>, _>>()?)
        })?;
        let mut report = GcReport::default();
        let mut going = Vec::new();
        for (digest, found) in self.object_files()? {
            if !needed.contains(&digest) && found.modified <= until {
                report.n_objects += 1;
                report.n_bytes += found.n_bytes;
                going.push(digest);
            }
        }
        let scratch = self.stale_scratch(until)?;
        report.n_scratch = scratch.len() as u64;
        if dry_run {
            return Ok(report);
        }
        self.commit(|tx| {
            tx.execute(
                "DELETE FROM object WHERE NOT EXISTS (SELECT 1 FROM named WHERE named.digest = object.digest)",
                (),
            )?;
            Ok(())
        })?;
        self.remove_unnamed(&going)?;
        for path in scratch {
            if path.is_dir() { self.disk.remove_dir(&path)? } else { self.disk.remove(&path)? }
        }
        Ok(report)
    }

    /// Removes the files of objects without a row. Every new row needs the write lock that is held here and looks at
    /// the file first, so none can come to name what is being removed.
    pub(crate) fn remove_unnamed(&self, digests: &[Digest]) -> Result<(), StoreError> {
        for batch in digests.chunks(BATCH) {
            self.commit(|tx| {
                let mut statement =
                    tx.prepare_cached("SELECT EXISTS (SELECT 1 FROM object WHERE digest = ?1)")?;
                for digest in batch {
                    let is_named: bool = statement.query_row([Text(digest)], |row| row.get(0))?;
                    if !is_named {
                        self.disk.remove(&self.path(digest))?;
                    }
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Scratch files older than `until`, and the logs of runs that are complete or unknown: their lines are objects by
    /// then.
    fn stale_scratch(&self, until: SystemTime) -> Result<Vec<PathBuf>, StoreError> {
        let is_old = |path: &PathBuf| {
            std::fs::symlink_metadata(path).and_then(|it| it.modified()).is_ok_and(|it| it <= until)
        };
        let mut stale: Vec<PathBuf> =
            entries(&self.dir.join("tmp"))?.into_iter().filter(is_old).collect();
        for path in entries(&self.dir.join("runs"))?.into_iter().filter(is_old) {
            let Some(run) = path.file_name().and_then(|it| it.to_str()).filter(|it| is_run_id(it))
            else {
                continue;
            };
            let is_needed: bool = self.look(|connection| {
                let sql = "SELECT EXISTS (SELECT 1 FROM run WHERE id = ?1 AND state <> 'complete')";
                Ok(connection.query_row(sql, [run], |row| row.get(0))?)
            })?;
            if !is_needed {
                stale.push(path);
            }
        }
        Ok(stale)
    }

    /// Everything in the object folder that has the name of an object.
    fn object_files(&self) -> Result<BTreeMap<Digest, ObjectFile>, StoreError> {
        let mut files = BTreeMap::new();
        for shard in entries(&self.dir.join("objects/sha256"))? {
            if !shard.is_dir() {
                continue;
            }
            for path in entries(&shard)? {
                let name = path.file_name().and_then(|it| it.to_str()).unwrap_or_default();
                let Ok(digest) = ["sha256:", name].concat().parse::<Digest>() else { continue };
                // Gone since it was listed: another process collects too.
                let Ok(found) = std::fs::symlink_metadata(&path) else { continue };
                let modified = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                files.insert(digest, ObjectFile { n_bytes: found.len(), modified });
            }
        }
        Ok(files)
    }
}

struct ObjectFile {
    n_bytes: u64,
    modified: SystemTime,
}

/// Paths in a folder; none when it does not exist.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let listed = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed,
    };
    listed
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .map_err(|error| StoreError::io("list", dir, None, error))
}

fn check_database(connection: &Connection, problems: &mut Vec<String>) -> Result<(), StoreError> {
    let mut statement = connection.prepare("PRAGMA integrity_check(20)")?;
    for line in statement.query_map((), |row| row.get::<_, String>(0))? {
        let line = line?;
        if line != "ok" {
            problems.push(format!("database: {line}"));
        }
    }
    let mut statement = connection.prepare("PRAGMA foreign_key_check")?;
    for pair in
        statement.query_map((), |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(2)?)))?
    {
        let (child, parent) = pair?;
        problems.push(format!(
            "database: a row of `{child}` names a row of `{parent}` that is not there"
        ));
    }
    Ok(())
}

/// Every history is one unbroken chain, and each alias points where its last move says.
fn check_histories(connection: &Connection, problems: &mut Vec<String>) -> Result<(), StoreError> {
    let mut statement = connection.prepare(
        "SELECT model, alias, (SELECT version FROM alias WHERE alias.model = it.model AND alias.alias = it.alias),
             (SELECT seq FROM alias WHERE alias.model = it.model AND alias.alias = it.alias)
         FROM (SELECT model, alias FROM promotion UNION SELECT model, alias FROM alias) AS it",
    )?;
    let rows = statement.query_map((), |row| {
        let names = (row.get::<_, Text<Name>>(0)?.0, row.get::<_, Text<Name>>(1)?.0);
        let points_to: (Option<u32>, Option<i64>) = (row.get(2)?, row.get(3)?);
        Ok((names, points_to))
    })?;
    for row in rows {
        let ((model, alias), points_to) = row?;
        let history = history_in(connection, &model, &alias)?;
        if let Some(at) = first_break(&history) {
            problems.push(format!(
                "history of `{model}@{alias}`: move {at} was changed after the fact"
            ));
        }
        let last =
            history.last().map_or((None, None), |it| (Some(it.to), i64::try_from(it.seq).ok()));
        if last != points_to {
            let show = |version: Option<u32>| {
                version.map_or_else(|| "nothing".to_owned(), |it| format!("{model}@{it}"))
            };
            problems.push(format!(
                "`{model}@{alias}` points to {}, its history ends at {}",
                show(points_to.0),
                show(last.0)
            ));
        }
    }
    Ok(())
}
