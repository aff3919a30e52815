//! Models: how many versions, the newest, and what aliases point to.

use karat_core::{Name, Timestamp};
use karat_store::{AliasRecord, ModelRow, Store, StoreError};

use crate::{
    address::Address,
    frame::Head,
    html::{Html, html},
    parts::{Column, count, empty, link, pager, span, table, time},
    site::{Page, Trouble, Visit},
};

type Aliases = Vec<(Name, AliasRecord)>;

pub(crate) fn view(visit: &Visit<'_>) -> Result<Page, Trouble> {
    let page = visit.query.page();
    let found = visit.store.browse_models(span(page))?;
    let models = with_aliases(visit.store, found.rows)?;
    let n_shown = models.len();
    let body = html!(
        "{}{}",
        body(&models, visit.now),
        pager(&Address::of("/models"), page, n_shown, found.n_all)
    );
    Ok((Head::in_section("/models", "Models"), body))
}

fn with_aliases(
    store: &Store,
    rows: Vec<ModelRow>,
) -> Result<Vec<(ModelRow, Aliases)>, StoreError> {
    let with = |row: ModelRow| {
        let aliases = store.aliases(&row.model)?.into_iter().collect();
        Ok((row, aliases))
    };
    rows.into_iter().map(with).collect()
}

fn body(models: &[(ModelRow, Aliases)], now: Timestamp) -> Html {
    if models.is_empty() {
        return empty("No model yet. `karat train` trains a candidate and registers it.");
    }
    let row = |(it, aliases): &(ModelRow, Aliases)| {
        let model = &it.model;
        vec![
            link(&Address::model(model), model.as_str()),
            count(it.n_versions),
            link(&Address::version(model, it.newest), format!("{model}@{}", it.newest)),
            time(it.created_at, now),
            alias_list(model, aliases),
        ]
    };
    table(
        "Models",
        &[
            Column::Text("model"),
            Column::Number("versions"),
            Column::Text("newest"),
            Column::Text("registered"),
            Column::Text("aliases"),
        ],
        models.iter().map(row).collect(),
    )
}

fn alias_list(model: &Name, aliases: &Aliases) -> Html {
    if aliases.is_empty() {
        return html!("–");
    }
    let one = |(alias, record): &(Name, AliasRecord)| {
        let words = html!("<span class=\"tag\">{}</span> → {}", alias.as_str(), record.version);
        html!("{} ", link(&Address::version(model, record.version), words))
    };
    html!("{}", aliases.iter().map(one).collect::<Vec<_>>())
}
