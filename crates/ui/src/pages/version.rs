//! One version of a model: what it is, what gates say of it, where it came from.

use karat_core::{Name, Timestamp};
use karat_store::{Promotion, Span, Store, StoreError, VerdictRow, VersionRecord};
use serde_json::Value;

use crate::{
    address::Address,
    facts::{leaf_table, leaves},
    frame::Head,
    graph::Graph,
    html::{Html, html},
    pages::{
        lineage,
        promotions::promotion_table,
        run::{Thing, thing, things},
        verdicts::verdict_table,
    },
    parts::{digest, empty, facts, link, section, time},
    site::{Page, Trouble, Visit},
};

/// Verdicts shown.
const VERDICTS_MAX: u32 = 20;
/// Moves looked through for those that concern this version.
const MOVES: Span = Span { offset: 0, limit: 200 };
/// A manifest beyond this is not taken apart.
const MANIFEST_BYTES_MAX: u64 = 4 << 20;

struct Version {
    record: VersionRecord,
    aliases: Vec<Name>,
    manifest: Value,
    verdicts: Vec<VerdictRow>,
    moves: Vec<Promotion>,
    files: Vec<Thing>,
    graph: Graph,
}

/// The version that an address names.
pub(crate) fn named(visit: &Visit<'_>) -> Result<VersionRecord, Trouble> {
    let [model, version] = visit.captured;
    let number =
        version.parse().map_err(|_| Trouble::Unnamed("a version is a number from 1".to_owned()))?;
    Ok(visit.store.version(&model.parse()?, number)?)
}

pub(crate) fn view(visit: &Visit<'_>) -> Result<Page, Trouble> {
    let version = load(visit.store, named(visit)?)?;
    let record = &version.record;
    let tags: Vec<Html> = version
        .aliases
        .iter()
        .map(|it| html!(" <span class=\"tag\">{}</span>", it.as_str()))
        .collect();
    let head = Head::in_section("/models", record.label())
        .below(record.model.as_str(), Address::model(&record.model))
        .badge(html!("{}", tags));
    Ok((head, body(&version, visit.now)))
}

fn load(store: &Store, record: VersionRecord) -> Result<Version, StoreError> {
    let held = store.aliases(&record.model)?;
    let aliases =
        held.into_iter().filter(|(_, it)| it.version == record.version).map(|(alias, _)| alias);
    let moves = store.browse_promotions(Some(&record.model), MOVES)?.rows;
    let concerns = |it: &Promotion| it.to == record.version || it.from == Some(record.version);
    let files = record.outputs.iter().map(|(name, digest)| thing(store, name, digest));
    Ok(Version {
        aliases: aliases.collect(),
        manifest: manifest(store, &record)?,
        verdicts: store.verdict_rows_of(&record.manifest, VERDICTS_MAX)?,
        moves: moves.into_iter().filter(concerns).collect(),
        files: files.collect::<Result<_, _>>()?,
        graph: lineage::load(store, &record)?,
        record,
    })
}

/// The manifest as a record of any form: one that another build wrote is shown as far as it goes.
fn manifest(store: &Store, record: &VersionRecord) -> Result<Value, StoreError> {
    match store.size(&record.manifest)? {
        Some(n_bytes) if n_bytes <= MANIFEST_BYTES_MAX => {
            Ok(serde_json::from_slice(&store.read(&record.manifest)?).unwrap_or_default())
        }
        _ => Ok(Value::Null),
    }
}

fn body(it: &Version, now: Timestamp) -> Html {
    let number = |name: &str| {
        let n = it.manifest.get(name).and_then(Value::as_u64);
        n.map(crate::parts::count).unwrap_or_default()
    };
    let about = facts(vec![
        ("registered", time(it.record.created_at, now)),
        ("run", link(&Address::run(&it.record.run), &it.record.run.0)),
        ("manifest", digest(&it.record.manifest)),
        ("parameters", number("n_parameters")),
        ("updates", number("n_updates")),
        ("rows trained on", number("n_rows")),
    ]);
    let verdicts = if it.verdicts.is_empty() {
        empty(&format!("No gate has judged it. `karat gate {}` does.", it.record.label()))
    } else {
        verdict_table(&it.verdicts, now)
    };
    let moves = if it.moves.is_empty() {
        empty("No alias has pointed to it.")
    } else {
        promotion_table(&it.moves, now)
    };
    let spec = it.manifest.get("spec").map(leaves).unwrap_or_default();
    let spec = leaf_table("How it was trained", &spec);
    let lineage = html!(
        "{}<p>{}</p>\n",
        it.graph.svg("Lineage"),
        link(
            &Address::lineage(&it.record.model, it.record.version),
            "Lineage on a page of its own, in words too"
        )
    );
    html!(
        "{}{}{}{}{}{}",
        about,
        section("Lineage", lineage),
        section("Verdicts", verdicts),
        section("Moves of aliases", moves),
        section("Files", things("Files of this version", &it.files)),
        if spec.is_empty() { spec } else { section("Spec", spec) }
    )
}
