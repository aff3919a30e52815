//! One snapshot: files, columns as they were measured, what checks say, which runs used it.

use karat_core::{
    Digest, Finding, Outcome, Profile, Snapshot, SnapshotFile, Timestamp, profile::ColumnProfile,
    summary::RunSummary, thousands,
};
use karat_report::number;
use karat_store::{RunRow, RunState, Store, StoreError};
use serde::de::DeserializeOwned;

use crate::{
    frame::{Head, words},
    html::{Html, html},
    pages::runs::run_table,
    parts::{
        Column, bytes, code, count, digest, empty, facts, outcome, section, table, whole_digest,
    },
    site::{self, Page, Trouble, Visit},
};

/// Runs shown.
const RUNS_MAX: u32 = 20;
/// Files and columns shown.
const ROWS_MAX: usize = 500;
/// A record beyond this is not read for a page.
const RECORD_BYTES_MAX: u64 = 8 << 20;

struct Shown {
    digest: Digest,
    snapshot: Snapshot,
    profile: Option<Profile>,
    checks: Vec<Finding>,
    runs: Vec<RunRow>,
}

pub(crate) fn view(visit: &Visit<'_>) -> Result<Page, Trouble> {
    let digest = site::digest(visit.captured[0])?;
    let shown = load(visit.store, digest)?;
    let head = Head::in_section("/data", shown.snapshot.label());
    Ok((head, body(&shown, visit.now)))
}

fn load(store: &Store, digest: Digest) -> Result<Shown, StoreError> {
    let snapshot = store.snapshot(&digest)?;
    let runs = store.runs_given(&digest, RUNS_MAX)?;
    let checked =
        runs.iter().find(|it| it.step == karat_core::Step::Check && it.state == RunState::Complete);
    let profile = match checked {
        Some(run) => match store.run(&run.id.0)?.outputs.get("profile.json") {
            Some(digest) => record::<Profile>(store, digest)?,
            None => None,
        },
        None => None,
    };
    let summary = match store.newest_report(&digest, "report.json")? {
        Some(digest) => record::<RunSummary>(store, &digest)?,
        None => None,
    };
    let checks = summary.map(|it| it.checks).unwrap_or_default();
    Ok(Shown { digest, snapshot, profile, checks, runs })
}

/// A record, where it is not too large and in a form this build reads.
fn record<T: DeserializeOwned>(store: &Store, digest: &Digest) -> Result<Option<T>, StoreError> {
    match store.size(digest)? {
        Some(n_bytes) if n_bytes <= RECORD_BYTES_MAX => {
            Ok(serde_json::from_slice(&store.read(digest)?).ok())
        }
        _ => Ok(None),
    }
}

fn body(shown: &Shown, now: Timestamp) -> Html {
    let snapshot = &shown.snapshot;
    let about = facts(vec![
        ("dataset", html!("{}", snapshot.dataset.as_str())),
        ("rows", count(snapshot.n_rows)),
        ("files", count(snapshot.files.len() as u64)),
        ("schema", digest(&snapshot.schema)),
        ("digest", whole_digest(&shown.digest)),
    ]);
    let checks = if shown.checks.is_empty() {
        empty(&format!(
            "No report about this snapshot is on record. `karat check {}` asks its checks.",
            snapshot.dataset
        ))
    } else {
        check_table(&shown.checks)
    };
    let columns = shown.profile.as_ref().map(|it| section("Columns", column_table(&it.columns)));
    html!(
        "{}{}{}{}{}",
        about,
        section("Checks", checks),
        columns,
        section("Files", file_table(&snapshot.files)),
        section("Runs", run_table(&shown.runs, now))
    )
}

fn cut(n_all: usize) -> Html {
    if n_all <= ROWS_MAX {
        return Html::default();
    }
    html!("<p class=\"lead\">{} more are not shown.</p>\n", thousands((n_all - ROWS_MAX) as u64))
}

fn file_table(files: &[SnapshotFile]) -> Html {
    let mut files: Vec<&SnapshotFile> = files.iter().collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let row = |it: &&SnapshotFile| {
        vec![code(&it.path), count(it.n_rows), bytes(it.n_bytes), digest(&it.digest)]
    };
    let rows = files.iter().take(ROWS_MAX).map(row).collect();
    let columns = [
        Column::Text("file"),
        Column::Number("rows"),
        Column::Number("size"),
        Column::Text("content"),
    ];
    html!("{}{}", table("Files", &columns, rows), cut(files.len()))
}

fn column_table(columns: &[ColumnProfile]) -> Html {
    let value =
        |it: Option<f64>| it.map_or_else(|| html!("–"), |it| html!("{}", number::value(it)));
    let row = |it: &ColumnProfile| {
        let about = (!it.distinct_is_exact).then_some("≥ ");
        vec![
            code(&it.name),
            html!("{}", it.ty.word()),
            count(it.n_missing),
            html!("{}{}", about, count(it.n_distinct)),
            value(it.min),
            value(it.mean),
            value(it.max),
        ]
    };
    let rows = columns.iter().take(ROWS_MAX).map(row).collect();
    let heads = [
        Column::Text("column"),
        Column::Text("type"),
        Column::Number("missing"),
        Column::Number("distinct"),
        Column::Number("min"),
        Column::Number("mean"),
        Column::Number("max"),
    ];
    html!("{}{}", table("Columns as measured", &heads, rows), cut(columns.len()))
}

fn check_table(checks: &[Finding]) -> Html {
    let mut sorted: Vec<&Finding> = checks.iter().collect();
    sorted.sort_by_key(|it| std::cmp::Reverse(it.outcome));
    let row = |it: &&Finding| {
        let mut found = words(&it.message);
        if it.outcome != Outcome::Pass && !it.examples.is_empty() {
            let examples: Vec<Html> =
                it.examples.iter().map(|it| html!("<li>{}</li>", code(it))).collect();
            found = html!("{}<ul>{}</ul>", found, examples);
        }
        vec![outcome(it.outcome), code(&it.rule), words(&it.subject), found, words(&it.bound)]
    };
    table(
        "What checks say, as in the newest report about this snapshot",
        &[
            Column::Text("outcome"),
            Column::Text("check"),
            Column::Text("asked of"),
            Column::Text("found"),
            Column::Text("bound"),
        ],
        sorted.iter().map(row).collect(),
    )
}
