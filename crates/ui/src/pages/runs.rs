//! Runs: filtered, sorted, in pages, with a choice of some to compare.

use karat_core::{Step, Timestamp};
use karat_store::{RunOrder, RunQuery, RunRow, RunState};

use crate::{
    address::{Address, Query},
    frame::{Head, words},
    html::{Html, html},
    parts::{Column, choice, empty, link, metric, pager, seconds, span, state_at, table, time},
    site::{Page, Trouble, Visit},
};

const STEPS: [Step; 9] = [
    Step::Snapshot,
    Step::Check,
    Step::Train,
    Step::Score,
    Step::Gate,
    Step::Register,
    Step::Promote,
    Step::Report,
    Step::Replay,
];
const STATES: [RunState; 4] =
    [RunState::Running, RunState::Complete, RunState::Failed, RunState::Canceled];
/// Words of addresses, words for people, orders.
const ORDERS: [(&str, &str, RunOrder); 4] = [
    ("", "newest first", RunOrder::Newest),
    ("oldest", "oldest first", RunOrder::Oldest),
    ("longest", "longest first", RunOrder::Longest),
    ("best", "best eval loss first", RunOrder::BestLoss),
];
/// Characters of a search.
const TEXT_LEN_MAX: usize = 100;

pub(crate) fn view(visit: &Visit<'_>) -> Result<Page, Trouble> {
    let (query, page) = (asked(visit.query)?, visit.query.page());
    let found = visit.store.browse_runs(&query, span(page))?;
    let body = body(visit.query, page, &found.rows, found.n_all, visit.now);
    Ok((Head::in_section("/runs", "Runs"), body))
}

/// What the form asks for; a word that is none of its own is told, not ignored.
fn asked(query: &Query) -> Result<RunQuery, Trouble> {
    let unknown =
        |what: &str| Trouble::Unnamed(format!("there is no such {what} to filter or sort by"));
    let step = match query.get("step") {
        "" => None,
        word => {
            Some(STEPS.into_iter().find(|it| it.word() == word).ok_or_else(|| unknown("step"))?)
        }
    };
    let state = match query.get("state") {
        "" => None,
        word => {
            Some(STATES.into_iter().find(|it| it.word() == word).ok_or_else(|| unknown("state"))?)
        }
    };
    let order =
        ORDERS.iter().find(|it| it.0 == query.get("sort")).ok_or_else(|| unknown("order"))?.2;
    let text = query.get("q").trim().chars().take(TEXT_LEN_MAX).collect();
    Ok(RunQuery { step, state, text, order })
}

fn body(query: &Query, page: u64, rows: &[RunRow], n_all: u64, now: Timestamp) -> Html {
    let is_filtered = ["step", "state", "q"].iter().any(|it| !query.get(it).is_empty());
    let list = match (rows.is_empty(), is_filtered) {
        (true, true) => empty("No run fits. Fewer filters find more."),
        (true, false) if page == 1 => {
            empty("No run yet. `karat run` does everything from snapshot to promotion.")
        }
        (true, false) => empty("This page is beyond the last."),
        (false, _) => html!(
            "<form action=\"/compare\" method=\"get\">\n{}<p><button>Compare the chosen runs</button></p>\n</form>\n",
            choosable_table(rows, now)
        ),
    };
    let address = ["step", "state", "sort", "q"]
        .iter()
        .fold(Address::of("/runs"), |address, name| address.with(name, query.get(name)));
    html!("{}{}{}", form(query), list, pager(&address, page, rows.len(), n_all))
}

fn form(query: &Query) -> Html {
    let steps = std::iter::once(("", "any")).chain(STEPS.map(|it| (it.word(), it.word())));
    let states = std::iter::once(("", "any")).chain(STATES.map(|it| (it.word(), it.word())));
    let orders = ORDERS.map(|(word, words, _)| (word, words));
    html!(
        "<form class=\"filter\" role=\"search\" action=\"/runs\" method=\"get\">\n{}{}{}\
         <label>contains <input type=\"search\" name=\"q\" value=\"{}\" maxlength=\"{}\"></label>\n\
         <button>Show</button>\n</form>\n",
        choice("step", "step", &steps.collect::<Vec<_>>(), query.get("step")),
        choice("state", "state", &states.collect::<Vec<_>>(), query.get("state")),
        choice("sort", "order", &orders, query.get("sort")),
        query.get("q"),
        TEXT_LEN_MAX
    )
}

const COLUMNS: [Column<'static>; 8] = [
    Column::Text("run"),
    Column::Text("step"),
    Column::Text("state"),
    Column::Text("subject"),
    Column::Text("began"),
    Column::Number("took"),
    Column::Number("eval loss"),
    Column::Text("result"),
];

fn cells(run: &RunRow, now: Timestamp) -> Vec<Html> {
    vec![
        link(&Address::run(&run.id), &run.id.0),
        html!("{}", run.step.word()),
        state_at(run.state, run.heartbeat_at, now),
        words(&run.subject),
        time(run.started_at, now),
        seconds(run.seconds),
        metric(run.best_loss),
        words(&run.result),
    ]
}

/// Runs as a table.
pub(crate) fn run_table(rows: &[RunRow], now: Timestamp) -> Html {
    if rows.is_empty() {
        return empty("No run yet.");
    }
    table("Runs", &COLUMNS, rows.iter().map(|it| cells(it, now)).collect())
}

fn choosable_table(rows: &[RunRow], now: Timestamp) -> Html {
    let mut columns = vec![Column::Text("compare")];
    columns.extend(COLUMNS);
    let row = |run: &RunRow| {
        let chooser = html!(
            "<input type=\"checkbox\" name=\"run\" value=\"{}\" aria-label=\"compare {}\">",
            run.id.0,
            run.id.0
        );
        std::iter::once(chooser).chain(cells(run, now)).collect()
    };
    table("Runs", &columns, rows.iter().map(row).collect())
}
