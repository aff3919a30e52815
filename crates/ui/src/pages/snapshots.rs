//! Snapshots: datasets as they were.

use karat_core::{Snapshot, Timestamp};
use karat_store::SnapshotRow;

use crate::{
    address::Address,
    frame::Head,
    html::{Html, html},
    parts::{Column, count, digest, empty, link, pager, span, table, time},
    site::{Page, Trouble, Visit},
};

pub(crate) fn view(visit: &Visit<'_>) -> Result<Page, Trouble> {
    let page = visit.query.page();
    let found = visit.store.browse_snapshots(None, span(page))?;
    let n_shown = found.rows.len();
    // A record that is damaged has a row all the same; its page says what is wrong.
    let rows: Vec<_> =
        found.rows.into_iter().map(|row| (visit.store.snapshot(&row.digest).ok(), row)).collect();
    let body = html!(
        "{}{}",
        body(&rows, visit.now),
        pager(&Address::of("/data"), page, n_shown, found.n_all)
    );
    Ok((Head::in_section("/data", "Data"), body))
}

fn body(rows: &[(Option<Snapshot>, SnapshotRow)], now: Timestamp) -> Html {
    if rows.is_empty() {
        return empty("No snapshot yet. `karat snapshot` freezes a dataset.");
    }
    let row = |(snapshot, row): &(Option<Snapshot>, SnapshotRow)| {
        let counts = snapshot.as_ref().map(|it| (it.files.len() as u64, it.n_rows));
        let n = |n: Option<u64>| n.map_or_else(|| html!("–"), count);
        vec![
            html!("{}", row.dataset.as_str()),
            link(&Address::snapshot(&row.digest), digest(&row.digest)),
            n(counts.map(|it| it.0)),
            n(counts.map(|it| it.1)),
            time(row.created_at, now),
        ]
    };
    table(
        "Snapshots, newest first",
        &[
            Column::Text("dataset"),
            Column::Text("snapshot"),
            Column::Number("files"),
            Column::Number("rows"),
            Column::Text("first taken"),
        ],
        rows.iter().map(row).collect(),
    )
}
