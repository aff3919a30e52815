//! Where a version came from and what became of it: snapshot → run → version → predictions → verdict → alias.

use karat_core::{Digest, Outcome};
use karat_store::{Authority, Promotion, Span, Store, StoreError, VersionRecord};

use crate::{
    address::Address,
    frame::Head,
    graph::{Graph, Node},
    html::{Html, html},
    pages::version,
    parts::{Column, link, section, table},
    site::{Page, Trouble, Visit},
};

/// Verdicts in the picture, newest.
const VERDICTS_MAX: u32 = 6;
/// Moves looked through for those that concern the version.
const MOVES: Span = Span { offset: 0, limit: 200 };
/// Moves in the picture.
const MOVES_MAX: usize = 8;

pub(crate) fn view(visit: &Visit<'_>) -> Result<Page, Trouble> {
    let record = version::named(visit)?;
    let graph = load(visit.store, &record)?;
    let head = Head::in_section("/models", "Lineage")
        .below(record.model.as_str(), Address::model(&record.model))
        .below(record.label(), Address::version(&record.model, record.version));
    Ok((head, body(&graph, &record.label())))
}

fn body(graph: &Graph, label: &str) -> Html {
    let named = |node: &Node| {
        let words = html!("{} {}", node.kind, node.label);
        node.address.as_ref().map_or(words.clone(), |address| link(address, words))
    };
    let rows = graph.steps().map(|(from, to)| vec![named(from), named(to)]).collect();
    html!(
        "{}{}",
        graph.svg(&format!("Lineage of {label}")),
        section(
            "In words",
            table("What came from what", &[Column::Text("from"), Column::Text("to")], rows)
        )
    )
}

/// The graph around one version.
pub(crate) fn load(store: &Store, record: &VersionRecord) -> Result<Graph, StoreError> {
    let mut graph = Graph::default();
    let run = graph.node(Node {
        layer: 1,
        kind: "run",
        label: record.run.0.clone(),
        class: "",
        address: Some(Address::run(&record.run)),
    });
    let version = graph.node(version_node(&record.label(), record, "focus"));
    graph.edge(run, version);
    // A run that is gone from the store leaves a picture without its data.
    if let Some(snapshot) =
        store.run(&record.run.0).ok().and_then(|it| it.inputs.get("snapshot").copied())
    {
        let data = snapshot_node(store, &mut graph, &snapshot);
        graph.edge(data, run);
    }
    let moves = store.browse_promotions(Some(&record.model), MOVES)?.rows;
    let mut moves: Vec<&Promotion> = moves.iter().filter(|it| it.to == record.version).collect();
    moves.truncate(MOVES_MAX);
    for row in store.verdict_rows_of(&record.manifest, VERDICTS_MAX)? {
        let judged = store.verdict(&row.digest)?.judged;
        let verdict = graph.node(Node {
            layer: 4,
            kind: verdict_kind(row.outcome),
            label: row.gate.clone(),
            class: outcome_class(row.outcome),
            address: Some(Address::verdict(&row.digest)),
        });
        let data = snapshot_node(store, &mut graph, &judged.snapshot);
        let rows = predictions_node(store, &mut graph, &judged.predictions)?;
        for (from, to) in [(version, rows), (data, rows), (rows, verdict)] {
            graph.edge(from, to);
        }
        if let (Some(manifest), Some(predictions)) = (judged.baseline, judged.baseline_predictions)
            && let Some((model, number)) = store.version_with(&manifest)?
        {
            let other = store.version(&model, number)?;
            let baseline = graph.node(version_node(&other.label(), &other, ""));
            let rows = predictions_node(store, &mut graph, &predictions)?;
            for (from, to) in [(baseline, rows), (data, rows), (rows, verdict)] {
                graph.edge(from, to);
            }
        }
        for it in moves.iter().filter(|it| it.authority == Authority::Verdict(row.digest)) {
            let alias = alias_node(&mut graph, it);
            graph.edge(verdict, alias);
        }
    }
    for it in moves.iter().filter(|it| !matches!(it.authority, Authority::Verdict(_))) {
        let alias = alias_node(&mut graph, it);
        graph.edge(version, alias);
    }
    Ok(graph)
}

fn version_node(label: &str, record: &VersionRecord, class: &'static str) -> Node {
    let address = Some(Address::version(&record.model, record.version));
    Node { layer: 2, kind: "version", label: label.to_owned(), class, address }
}

fn snapshot_node(store: &Store, graph: &mut Graph, digest: &Digest) -> usize {
    let label = store.snapshot(digest).map_or_else(|_| digest.short(), |it| it.label());
    graph.node(Node {
        layer: 0,
        kind: "data",
        label,
        class: "",
        address: Some(Address::snapshot(digest)),
    })
}

fn predictions_node(
    store: &Store,
    graph: &mut Graph,
    digest: &Digest,
) -> Result<usize, StoreError> {
    let maker = store.makers_of(digest, 1)?.pop();
    let address = maker.map_or_else(|| Address::artifact(digest), |(run, ..)| Address::run(&run));
    let label = digest.short();
    Ok(graph.node(Node { layer: 3, kind: "predictions", label, class: "", address: Some(address) }))
}

fn alias_node(graph: &mut Graph, promotion: &Promotion) -> usize {
    let kind = match promotion.authority {
        Authority::Verdict(_) => "promoted to",
        Authority::Forced { .. } => "forced to",
        Authority::Rollback { .. } => "rolled back to",
    };
    graph.node(Node {
        layer: 5,
        kind,
        label: format!("{} #{}", promotion.alias, promotion.seq),
        class: "",
        address: Some(Address::model(&promotion.model)),
    })
}

const fn verdict_kind(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass | Outcome::Waived | Outcome::Warn => "verdict: pass",
        Outcome::Inconclusive => "verdict: inconclusive",
        Outcome::NotApplied | Outcome::Fail => "verdict: fail",
    }
}

const fn outcome_class(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "pass",
        Outcome::Waived | Outcome::Warn => "warn",
        Outcome::Inconclusive => "inconclusive",
        Outcome::NotApplied | Outcome::Fail => "fail",
    }
}
