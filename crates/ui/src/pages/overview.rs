//! The first page: how much there is, what is in use, what happened last.

use karat_core::{Name, Timestamp};
use karat_store::{AliasRecord, Counts, RunQuery, RunRow, Span, Store, StoreError, VerdictRow};

use crate::{
    address::Address,
    frame::Head,
    html::{Html, html},
    pages::{runs::run_table, verdicts::verdict_table},
    parts::{Column, count, empty, link, section, table, time},
    site::{Page, Trouble, Visit},
};

/// Models, verdicts and runs shown.
const SHOWN: Span = Span { offset: 0, limit: 10 };

struct Overview {
    counts: Counts,
    aliases: Vec<(Name, Name, AliasRecord)>,
    verdicts: Vec<VerdictRow>,
    runs: Vec<RunRow>,
}

pub(crate) fn view(visit: &Visit<'_>) -> Result<Page, Trouble> {
    let overview = load(visit.store)?;
    Ok((Head::in_section("/", "Overview"), body(&overview, visit.now)))
}

fn load(store: &Store) -> Result<Overview, StoreError> {
    let mut aliases = Vec::new();
    for row in store.browse_models(SHOWN)?.rows {
        for (alias, record) in store.aliases(&row.model)? {
            aliases.push((row.model.clone(), alias, record));
        }
    }
    Ok(Overview {
        counts: store.counts()?,
        aliases,
        verdicts: store.browse_verdicts("", None, SHOWN)?.rows,
        runs: store.browse_runs(&RunQuery::default(), SHOWN)?.rows,
    })
}

fn body(overview: &Overview, now: Timestamp) -> Html {
    let Overview { counts, aliases, verdicts, runs } = overview;
    if counts.n_runs == 0 && counts.n_snapshots == 0 {
        return empty(
            "Nothing has been run here yet. `karat run` does everything from snapshot to promotion.",
        );
    }
    let alias_row = |(model, alias, record): &(Name, Name, AliasRecord)| {
        vec![
            link(&Address::model(model), format!("{model}@{alias}")),
            link(&Address::version(model, record.version), format!("{model}@{}", record.version)),
            time(record.moved_at, now),
            html!("{}", record.actor),
        ]
    };
    let in_use = if aliases.is_empty() {
        empty(
            "No alias points to a version yet. `karat promote MODEL@VERSION` moves one to a version that passed its gate.",
        )
    } else {
        table(
            "What aliases point to",
            &[
                Column::Text("alias"),
                Column::Text("version"),
                Column::Text("since"),
                Column::Text("by"),
            ],
            aliases.iter().map(alias_row).collect(),
        )
    };
    html!(
        "{}{}{}{}",
        cards(counts),
        section("In use", in_use),
        section("Newest verdicts", verdict_table(verdicts, now)),
        section("Newest runs", run_table(runs, now))
    )
}

fn cards(counts: &Counts) -> Html {
    let note =
        |n: u64, words: &str| (0 < n).then(|| html!("<small>{} {}</small>", count(n), words));
    let card = |path: &'static str, n: u64, one: &str, many: &str, notes: Vec<Option<Html>>| {
        html!(
            "<li><a href=\"{}\"><strong>{}</strong> {}{}</a></li>\n",
            Address::of(path),
            count(n),
            if n == 1 { one } else { many },
            notes
        )
    };
    let unfinished = vec![note(counts.n_running, "running"), note(counts.n_failed, "failed")];
    let models =
        vec![note(counts.n_versions, if counts.n_versions == 1 { "version" } else { "versions" })];
    html!(
        "<ul class=\"cards\">\n{}{}{}{}{}</ul>\n",
        card("/runs", counts.n_runs, "run", "runs", unfinished),
        card("/models", counts.n_models, "model", "models", models),
        card("/verdicts", counts.n_verdicts, "verdict", "verdicts", Vec::new()),
        card("/promotions", counts.n_promotions, "promotion", "promotions", Vec::new()),
        card("/data", counts.n_snapshots, "snapshot", "snapshots", Vec::new())
    )
}

#[cfg(test)]
mod tests {
    use karat_core::Timestamp;
    use karat_store::Counts;

    use super::{Overview, body};

    #[test]
    fn an_empty_store_says_what_to_run() {
        let overview = Overview {
            counts: Counts::default(),
            aliases: Vec::new(),
            verdicts: Vec::new(),
            runs: Vec::new(),
        };
        let shown = body(&overview, Timestamp(0)).into_string();
        assert!(shown.contains("<code>karat run</code>"), "{shown}");
    }
}
