//! What judges a change under review: the base branch's words, never its own.
//!
//! In: project, schema and pointer file as the base branch has them and as the change has them. Out: what to run with, and
//! a [`Finding`] for every edit that would have let the change judge itself. Such an edit is no fault; it counts from
//! when it is merged. Why each of them is here: docs/design/021-change-requests.md.
//!
//! Pure: whoever calls this read the files.

use std::collections::BTreeMap;

use karat_core::{
    Column, DatasetSpec, Digest, Document, Exit, Failure, Finding, Name, Outcome, Project, Role,
    Schema, Snapshot, SnapshotFile, thousands,
};
use serde::Deserialize;

#[cfg(test)]
mod tests;

/// Rule of the findings about `gate.toml`.
pub const POLICY: &str = "base.policy";
/// Rule of the findings about `karat.toml`.
pub const PROJECT: &str = "base.project";
/// Rule of the findings about the schema.
pub const SCHEMA: &str = "base.schema";
/// Rule of the finding about the files that the base's evaluation rows are in.
pub const EVALUATION: &str = "base.data";

const BOUND: &str = "as on the base branch";

/// An edit of a judge: ignored until it is merged.
#[must_use]
pub fn ignored(rule: &str, subject: &str, message: &str) -> Finding {
    let message =
        format!("{message}: judged under the base branch's, the edit counts once it is merged");
    Finding::new(rule, subject, Outcome::Warn, BOUND, message)
}

/// The change's way of training on the change's files, with everything that names, splits, slices, checks and scores the
/// rows as on the base branch. Refuses files outside the repository that the base did not name.
pub fn project_under_base(
    base: &Project,
    change: &Project,
) -> Result<(Project, Vec<Finding>), Failure> {
    let mut project = change.clone();
    let mut found = Vec::new();
    let mut note = |key: &str, is_equal: bool| {
        if !is_equal {
            let message = format!("the change sets it otherwise than the base branch (`{key}`)");
            found.push(ignored(PROJECT, "karat.toml", &message));
        }
    };
    let (old, now) = (&base.train, &change.train);
    note("project.name", base.name == change.name);
    note("train.dataset", old.dataset == now.dataset);
    note("train.name", old.name == now.name);
    note("train.task", old.task == now.task);
    note("train.positive", old.positive == now.positive);
    note("train.split_train", old.split_train == now.split_train);
    note("train.split_eval", old.split_eval == now.split_eval);
    note("score.split", base.score.split == change.score.split);
    note(
        "score.quarantine_max",
        base.score.quarantine_max.to_bits() == change.score.quarantine_max.to_bits(),
    );
    for (name, is_equal) in compared(&base.slices, &change.slices) {
        note(&format!("slice.{name}"), is_equal);
    }
    for (name, is_equal) in compared(&base.checks, &change.checks) {
        note(&format!("check.\"{name}\""), is_equal);
    }
    let (was, is) = (base.dataset(&old.dataset)?, change.dataset(&old.dataset)?);
    note(&format!("dataset.{}.schema", was.name), was.schema == is.schema);
    for (name, is_equal) in compared(&was.splits, &is.splits) {
        note(&format!("split.{}.{name}", was.name), is_equal);
    }
    refuse_outside(was, is)?;

    project.name.clone_from(&base.name);
    project.slices.clone_from(&base.slices);
    project.checks.clone_from(&base.checks);
    let batch_size = project.score.batch_size;
    project.score = base.score.clone();
    project.score.batch_size = batch_size;
    let train = &mut project.train;
    train.dataset.clone_from(&old.dataset);
    train.name.clone_from(&old.name);
    train.task = old.task;
    train.positive.clone_from(&old.positive);
    train.split_train.clone_from(&old.split_train);
    train.split_eval.clone_from(&old.split_eval);
    let judged = DatasetSpec { files: is.files.clone(), ..was.clone() };
    project.datasets.insert(judged.name.clone(), judged);
    Ok((project, found))
}

/// Every key of either map, and whether both have the same value.
fn compared<'a, K: Ord + std::fmt::Display, V: PartialEq>(
    base: &'a BTreeMap<K, V>,
    change: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, bool)> {
    let gone = base.keys().filter(|it| !change.contains_key(*it));
    change.keys().chain(gone).map(|key| (key, base.get(key) == change.get(key)))
}

/// A change may not read what lies beside the repository, unless the base already did.
fn refuse_outside(base: &DatasetSpec, change: &DatasetSpec) -> Result<(), Failure> {
    let leads_out = |pattern: &&String| {
        let is_absolute = pattern.starts_with(['/', '\\']) || pattern.contains(':');
        is_absolute || pattern.split(['/', '\\']).any(|part| part == "..")
    };
    let is_new = |pattern: &&String| !base.files.contains(*pattern);
    match change.files.iter().filter(is_new).find(leads_out) {
        None => Ok(()),
        Some(pattern) => Err(Failure::new(
            "path-outside",
            Exit::Fail,
            format!(
                "`dataset.{}.files` of the change names `{pattern}`, which lies outside the project",
                change.name
            ),
        )
        .detail("nothing was read from there")
        .hint("a change may name files of its own repository; others are named on the base branch first")),
    }
}

/// The change's schema, with every column that the base knows as the base describes it. Free are: which columns are
/// features, how a feature is encoded, and new columns.
#[must_use]
pub fn schema_under_base(base: &Schema, change: &Schema) -> (Schema, Vec<Finding>) {
    let is_free = |role: Role| matches!(role, Role::Feature | Role::Ignore);
    let mut found = Vec::new();
    let mut note = |column: &str, message: &str| found.push(ignored(SCHEMA, column, message));
    let mut columns: Vec<Column> = Vec::with_capacity(change.columns.len());
    for column in &change.columns {
        let mut judged = match base.column(&column.name) {
            Some(known) => known.clone(),
            None => Column { key: false, ..column.clone() },
        };
        let is_new = base.column(&column.name).is_none();
        if is_new && !is_free(column.role) {
            judged.role = Role::Ignore;
        }
        if !is_new && is_free(judged.role) && is_free(column.role) {
            judged.role = column.role;
            judged.kind = column.kind;
        }
        if judged != *column {
            note(&column.name, "the change describes it otherwise than the base branch");
        }
        columns.push(judged);
    }
    for column in &base.columns {
        if change.column(&column.name).is_none() {
            if is_free(column.role) && !column.key {
                let message = "the change drops the column and what was demanded of it";
                let dropped = Finding::new(SCHEMA, &column.name, Outcome::Warn, BOUND, message);
                found.push(dropped);
            } else {
                found.push(ignored(SCHEMA, &column.name, "the change drops the column"));
                columns.push(column.clone());
            }
        }
    }
    (Schema { columns }, found)
}

/// The pointer file of a dataset, as [`crate::pointer_file`] wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Pointer {
    version: u32,
    #[serde(default, rename = "file")]
    files: Vec<PointedFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct PointedFile {
    path: String,
    digest: String,
    n_rows: u64,
}

impl Pointer {
    /// Reads `snapshots/<dataset>.toml`.
    pub fn read(document: &Document) -> Result<Self, Failure> {
        let pointer: Self = document.read()?;
        if pointer.version != 1 {
            let message = format!("`version` is {}, this build reads 1", pointer.version);
            return Err(document.refuse("version", message));
        }
        for (at, file) in pointer.files.iter().enumerate() {
            if file.digest.parse::<Digest>().is_err() {
                let key = format!("file.{at}.digest");
                return Err(document.refuse(&key, format!("`{key}` is not a digest")));
            }
        }
        Ok(pointer)
    }

    /// The snapshot it points to, read with a schema of this digest.
    #[must_use]
    pub fn snapshot(&self, dataset: &Name, schema: Digest) -> Snapshot {
        let mut files: Vec<SnapshotFile> = self
            .files
            .iter()
            .filter_map(|it| {
                let digest = it.digest.parse().ok()?;
                Some(SnapshotFile { path: it.path.clone(), digest, n_bytes: 0, n_rows: it.n_rows })
            })
            .collect();
        files.sort_by(|a, b| (a.digest, &a.path).cmp(&(b.digest, &b.path)));
        let n_rows = files.iter().map(|it| it.n_rows).sum();
        Snapshot { dataset: dataset.clone(), files, n_rows, schema }
    }
}

/// Files of `files` that `among` lacks, by content.
fn missing<'a>(files: &'a [SnapshotFile], among: &[SnapshotFile]) -> Vec<&'a SnapshotFile> {
    let mut left: BTreeMap<Digest, usize> = BTreeMap::new();
    for file in among {
        *left.entry(file.digest).or_default() += 1;
    }
    let is_missing = |file: &&SnapshotFile| match left.get_mut(&file.digest) {
        Some(n) if 0 < *n => {
            *n -= 1;
            false
        }
        _ => true,
    };
    files.iter().filter(is_missing).collect()
}

/// Whether the rows that judge are still those of the base branch: files may be added, and none altered or removed.
/// `Fail` when one was.
#[must_use]
pub fn data_since_base(base: &Snapshot, now: &Snapshot) -> Finding {
    let (gone, added) = (missing(&base.files, &now.files), missing(&now.files, &base.files));
    let subject = now.dataset.as_str();
    let n_added: u64 = added.iter().map(|it| it.n_rows).sum();
    let added_words = match added.len() {
        0 => "none added".to_owned(),
        n => format!("{n} added with {} rows", thousands(n_added)),
    };
    if gone.is_empty() {
        let message = format!(
            "all {} files of the base branch are unchanged, {added_words}",
            base.files.len()
        );
        return Finding::new(EVALUATION, subject, Outcome::Pass, "no file altered", message);
    }
    let message = format!(
        "{} of {} files of the base branch were altered or removed, {added_words}: the rows that judge may be others",
        gone.len(),
        base.files.len()
    );
    let mut finding = Finding::new(EVALUATION, subject, Outcome::Fail, "no file altered", message);
    finding.examples = gone.iter().take(5).map(|it| it.path.clone()).collect();
    finding.advice = Some(
        "add rows in files of their own, or let `karat ci --data-may-change` stand in the base branch's workflow"
            .to_owned(),
    );
    finding
}

/// Refuses files that are others than the pointer file of the same commit says.
pub fn refuse_stale(pointer: &Snapshot, now: &Snapshot) -> Result<(), Failure> {
    let (gone, added) = (missing(&pointer.files, &now.files), missing(&now.files, &pointer.files));
    if gone.is_empty() && added.is_empty() {
        return Ok(());
    }
    let name = &now.dataset;
    let mut failure = Failure::new(
        "pointer-stale",
        Exit::Fail,
        format!("`snapshots/{name}.toml` points to other files than are here"),
    );
    for (word, files) in [("pointed to and not here", gone), ("here and not pointed to", added)] {
        if let Some(first) = files.first() {
            failure = failure.detail(format!(
                "{word}: {} of {}, first `{}` ({})",
                files.len(),
                if word.starts_with('p') { pointer.files.len() } else { now.files.len() },
                first.path,
                first.digest.short()
            ));
        }
    }
    Err(failure
        .hint(format!("`karat snapshot {name}` writes the pointer; commit it with the change")))
}
