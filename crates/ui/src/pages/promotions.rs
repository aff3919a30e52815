//! Promotions: every move of every alias, by what right and whose.

use karat_core::Timestamp;
use karat_store::{Authority, Promotion};

use crate::{
    address::Address,
    frame::Head,
    html::{Html, html},
    parts::{Column, digest, empty, link, pager, span, table, time},
    site::{Page, Trouble, Visit},
};

pub(crate) fn view(visit: &Visit<'_>) -> Result<Page, Trouble> {
    let page = visit.query.page();
    let found = visit.store.browse_promotions(None, span(page))?;
    let body = html!(
        "{}{}",
        promotion_table(&found.rows, visit.now),
        pager(&Address::of("/promotions"), page, found.rows.len(), found.n_all)
    );
    Ok((Head::in_section("/promotions", "Promotions"), body))
}

/// Moves of aliases as a table.
pub(crate) fn promotion_table(rows: &[Promotion], now: Timestamp) -> Html {
    if rows.is_empty() {
        return empty(
            "No alias was moved yet. `karat promote MODEL@VERSION` moves one to a version that passed its gate.",
        );
    }
    let row = |it: &Promotion| {
        let model = &it.model;
        let to =
            |version: u32| link(&Address::version(model, version), format!("{model}@{version}"));
        let why = match &it.authority {
            Authority::Verdict(verdict) => {
                html!("verdict {}", link(&Address::verdict(verdict), digest(verdict)))
            }
            Authority::Forced { reason } => {
                html!("<span class=\"badge warn\">! forced</span> {}", reason)
            }
            Authority::Rollback { reason } => {
                html!("<span class=\"badge warn\">↶ rolled back</span> {}", reason)
            }
        };
        vec![
            link(&Address::model(model), format!("{model}@{}", it.alias)),
            html!("{}", it.seq),
            it.from.map_or_else(|| html!("–"), to),
            to(it.to),
            why,
            html!("{}", it.actor),
            time(it.at, now),
        ]
    };
    table(
        "Moves of aliases, newest first",
        &[
            Column::Text("alias"),
            Column::Number("move"),
            Column::Text("from"),
            Column::Text("to"),
            Column::Text("by what right"),
            Column::Text("who"),
            Column::Text("when"),
        ],
        rows.iter().map(row).collect(),
    )
}
