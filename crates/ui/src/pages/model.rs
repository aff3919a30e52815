//! One model: aliases, versions with the newest word of a gate about each, the last moves.

use karat_core::{Name, Timestamp};
use karat_store::{AliasRecord, Promotion, Span, Store, StoreError, VerdictRow, VersionRecord};

use crate::{
    address::Address,
    frame::Head,
    html::{Html, html},
    pages::promotions::promotion_table,
    parts::{Column, empty, link, outcome, pager, section, span, table, time},
    site::{Page, Trouble, Visit},
};

/// Moves of aliases shown.
const MOVES: Span = Span { offset: 0, limit: 20 };

struct Model {
    model: Name,
    aliases: Vec<(Name, AliasRecord)>,
    versions: Vec<(VersionRecord, Option<VerdictRow>)>,
    n_versions: u64,
    moves: Vec<Promotion>,
}

pub(crate) fn view(visit: &Visit<'_>) -> Result<Page, Trouble> {
    let (name, page) = (visit.captured[0].parse()?, visit.query.page());
    let model = load(visit.store, name, page)?;
    if model.n_versions == 0 {
        return Err(Trouble::Absent(format!("no model is called `{}`", model.model)));
    }
    let head = Head::in_section("/models", model.model.as_str());
    Ok((head, body(&model, page, visit.now)))
}

fn load(store: &Store, model: Name, page: u64) -> Result<Model, StoreError> {
    let found = store.browse_versions(&model, span(page))?;
    let judged = |version: VersionRecord| {
        let mut verdicts = store.verdict_rows_of(&version.manifest, 1)?;
        Ok::<_, StoreError>((version, verdicts.pop()))
    };
    Ok(Model {
        aliases: store.aliases(&model)?.into_iter().collect(),
        versions: found.rows.into_iter().map(judged).collect::<Result<_, _>>()?,
        n_versions: found.n_all,
        moves: store.browse_promotions(Some(&model), MOVES)?.rows,
        model,
    })
}

fn body(it: &Model, page: u64, now: Timestamp) -> Html {
    let name = &it.model;
    let alias = |(alias, record): &(Name, AliasRecord)| {
        vec![
            html!("<span class=\"tag\">{}</span>", alias.as_str()),
            link(&Address::version(name, record.version), format!("{name}@{}", record.version)),
            time(record.moved_at, now),
            html!("{}", record.actor),
        ]
    };
    let aliases = if it.aliases.is_empty() {
        empty(
            "No alias yet. `karat promote MODEL@VERSION` moves one to a version that passed its gate.",
        )
    } else {
        table(
            "Aliases",
            &[
                Column::Text("alias"),
                Column::Text("version"),
                Column::Text("since"),
                Column::Text("by"),
            ],
            it.aliases.iter().map(alias).collect(),
        )
    };
    let version = |(version, verdict): &(VersionRecord, Option<VerdictRow>)| {
        let held = it.aliases.iter().filter(|(_, record)| record.version == version.version);
        let held: Vec<Html> = held
            .map(|(alias, _)| html!("<span class=\"tag\">{}</span> ", alias.as_str()))
            .collect();
        let verdict = verdict.as_ref().map_or_else(
            || html!("not judged"),
            |it| {
                html!(
                    "{} <small>{}</small>",
                    link(&Address::verdict(&it.digest), outcome(it.outcome)),
                    it.gate
                )
            },
        );
        vec![
            link(&Address::version(name, version.version), version.label()),
            verdict,
            html!("{}", held),
            time(version.created_at, now),
            link(&Address::run(&version.run), &version.run.0),
        ]
    };
    let versions = table(
        "Versions, newest first",
        &[
            Column::Text("version"),
            Column::Text("newest verdict"),
            Column::Text("aliases"),
            Column::Text("registered"),
            Column::Text("run"),
        ],
        it.versions.iter().map(version).collect(),
    );
    let pager = pager(&Address::model(name), page, it.versions.len(), it.n_versions);
    html!(
        "{}{}{}",
        section("Aliases", aliases),
        section("Versions", html!("{}{}", versions, pager)),
        section("Moves of aliases", promotion_table(&it.moves, now))
    )
}
