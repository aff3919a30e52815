//! Verdicts: what gates decided, newest first.

use karat_core::{Outcome, Timestamp};
use karat_store::VerdictRow;

use crate::{
    address::{Address, Query},
    frame::Head,
    html::{Html, html},
    parts::{Column, choice, digest, empty, link, outcome, pager, span, table, time},
    site::{Page, Trouble, Visit},
};

/// Outcomes a verdict can have, by their words in addresses.
const OUTCOMES: [(&str, Outcome); 3] =
    [("pass", Outcome::Pass), ("inconclusive", Outcome::Inconclusive), ("fail", Outcome::Fail)];
/// Characters of a gate's name.
const GATE_LEN_MAX: usize = 64;

pub(crate) fn view(visit: &Visit<'_>) -> Result<Page, Trouble> {
    let (query, page) = (visit.query, visit.query.page());
    let outcome = match query.get("outcome") {
        "" => None,
        word => match OUTCOMES.iter().find(|it| it.0 == word) {
            Some((_, outcome)) => Some(*outcome),
            None => return Err(Trouble::Unnamed("there is no such outcome".to_owned())),
        },
    };
    let gate: String = query.get("gate").trim().chars().take(GATE_LEN_MAX).collect();
    let found = visit.store.browse_verdicts(&gate, outcome, span(page))?;
    let address =
        Address::of("/verdicts").with("outcome", query.get("outcome")).with("gate", &gate);
    let body = html!(
        "{}{}{}",
        form(query),
        list(&found.rows, query, visit.now),
        pager(&address, page, found.rows.len(), found.n_all)
    );
    Ok((Head::in_section("/verdicts", "Verdicts"), body))
}

fn form(query: &Query) -> Html {
    let outcomes = std::iter::once(("", "any")).chain(OUTCOMES.map(|(word, _)| (word, word)));
    html!(
        "<form class=\"filter\" role=\"search\" action=\"/verdicts\" method=\"get\">\n{}\
         <label>gate <input name=\"gate\" value=\"{}\" maxlength=\"{}\"></label>\n<button>Show</button>\n</form>\n",
        choice("outcome", "outcome", &outcomes.collect::<Vec<_>>(), query.get("outcome")),
        query.get("gate"),
        GATE_LEN_MAX
    )
}

fn list(rows: &[VerdictRow], query: &Query, now: Timestamp) -> Html {
    let is_filtered = !(query.get("outcome").is_empty() && query.get("gate").is_empty());
    if rows.is_empty() && is_filtered {
        return empty("No verdict fits. Fewer filters find more.");
    }
    verdict_table(rows, now)
}

/// Verdicts as a table.
pub(crate) fn verdict_table(rows: &[VerdictRow], now: Timestamp) -> Html {
    if rows.is_empty() {
        return empty("No verdict yet. `karat gate` judges a candidate.");
    }
    let row = |it: &VerdictRow| {
        let candidate = match &it.version {
            Some((model, version)) => {
                link(&Address::version(model, *version), format!("{model}@{version}"))
            }
            None => digest(&it.candidate),
        };
        vec![
            outcome(it.outcome),
            link(&Address::verdict(&it.digest), digest(&it.digest)),
            html!("{}", it.gate),
            candidate,
            time(it.created_at, now),
        ]
    };
    table(
        "Verdicts, newest first",
        &[
            Column::Text("outcome"),
            Column::Text("verdict"),
            Column::Text("gate"),
            Column::Text("candidate"),
            Column::Text("decided"),
        ],
        rows.iter().map(row).collect(),
    )
}
