//! The ledger: how often each evaluation set was looked at, by whom, and what was shown.

use karat_core::{Digest, Timestamp, policy::Reveal};
use karat_store::{Ledger, LedgerEntry, Look};

use crate::{
    address::Address,
    frame::Head,
    html::{Html, html},
    parts::{
        Column, ROWS, count, digest, empty, link, outcome, pager, section, span, table, time,
        whole_digest,
    },
    site::{self, Page, Trouble, Visit},
};

/// Evaluation sets shown, those looked at last.
const SETS_MAX: usize = 20;

pub(crate) fn view(visit: &Visit<'_>) -> Result<Page, Trouble> {
    let ledger = visit.store.ledger()?;
    let set = match visit.query.get("set") {
        "" => None,
        hex => Some(site::digest(hex)?),
    };
    let page = visit.query.page();
    let head = match set {
        None => Head::in_section("/ledger", "Ledger"),
        Some(set) => Head::in_section("/ledger", format!("Evaluation set {}", set.short())),
    };
    Ok((head, body(&ledger, set, page, visit.now)))
}

fn body(ledger: &Ledger, set: Option<Digest>, page: u64, now: Timestamp) -> Html {
    if ledger.entries().is_empty() {
        return empty(
            "No evaluation set was looked at yet. `karat gate` judges a candidate and counts the look.",
        );
    }
    let entries: Vec<&LedgerEntry> = ledger
        .entries()
        .iter()
        .rev()
        .filter(|it| set.is_none_or(|set| it.eval_set == set))
        .collect();
    let offset = usize::try_from(span(page).offset).unwrap_or(usize::MAX);
    let shown: Vec<&LedgerEntry> =
        entries.iter().copied().skip(offset).take(ROWS as usize).collect();
    let address = Address::of("/ledger").with("set", &set.map(|it| it.hex()).unwrap_or_default());
    let pager = pager(&address, page, shown.len(), entries.len() as u64);
    let sets = match set {
        None => section("Evaluation sets", set_table(ledger, now)),
        Some(set) => html!("<p class=\"lead\">{}</p>\n", whole_digest(&set)),
    };
    html!(
        "<p class=\"lead\">Every look at an evaluation set, chained: {} in all, and nobody has changed one.</p>\n{}{}",
        count(ledger.entries().len() as u64),
        sets,
        section("Looks", html!("{}{}", entry_table(&shown, now), pager))
    )
}

fn set_table(ledger: &Ledger, now: Timestamp) -> Html {
    let mut newest: Vec<&LedgerEntry> = Vec::new();
    for entry in ledger.entries().iter().rev() {
        if newest.len() < SETS_MAX && newest.iter().all(|it| it.eval_set != entry.eval_set) {
            newest.push(entry);
        }
    }
    let row = |it: &&LedgerEntry| {
        let address = Address::of("/ledger").with("set", &it.eval_set.hex());
        vec![
            link(&address, digest(&it.eval_set)),
            count(u64::from(ledger.n_uses(it.eval_set))),
            count(ledger.of_set(it.eval_set).count() as u64),
            time(it.at, now),
        ]
    };
    table(
        "Evaluation sets, those looked at last first",
        &[
            Column::Text("evaluation set"),
            Column::Number("uses"),
            Column::Number("looks"),
            Column::Text("last look"),
        ],
        newest.iter().map(row).collect(),
    )
}

fn entry_table(entries: &[&LedgerEntry], now: Timestamp) -> Html {
    let row = |it: &&LedgerEntry| {
        let allowed = match it.look {
            Look::Verdict { n_allowed: Some(n), .. } => html!("{} of {}", it.n_uses, n),
            _ => html!("{}", it.n_uses),
        };
        let asked = match &it.look {
            Look::Verdict { digest: verdict, gate, outcome: answer, .. } => html!(
                "{} {} {}",
                outcome(*answer),
                gate,
                link(&Address::verdict(verdict), digest(verdict))
            ),
            Look::Comparison => html!("compared without a gate"),
        };
        let shown = match it.reveal {
            Reveal::Numbers => "numbers",
            Reveal::Verdict => "the outcome alone",
        };
        vec![
            html!("{}", it.seq),
            digest(&it.eval_set),
            allowed,
            html!("{}", it.candidate),
            asked,
            html!("{}", shown),
            html!("{}", it.actor),
            time(it.at, now),
        ]
    };
    table(
        "Looks, newest first",
        &[
            Column::Number("look"),
            Column::Text("evaluation set"),
            Column::Number("use"),
            Column::Text("candidate"),
            Column::Text("asked"),
            Column::Text("shown"),
            Column::Text("who"),
            Column::Text("when"),
        ],
        entries.iter().map(row).collect(),
    )
}
