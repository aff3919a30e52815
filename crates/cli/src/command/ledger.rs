//! `karat ledger`: how often each evaluation set was used, by whom, and what was shown.

use karat_core::{Exit, Failure, policy::Reveal};
use karat_store::{Access, Ledger, LedgerEntry, Look};
use serde_json::json;

use crate::{context::Session, render::table::TextTable};

pub(crate) fn run(session: &Session) -> Result<Exit, Failure> {
    let workshop = session.open(Access::ReadOnly)?;
    let ledger = workshop.store.ledger()?;
    let mut sets = Vec::new();
    for entry in ledger.entries() {
        session.json(&as_json(entry));
        if !sets.contains(&entry.eval_set) {
            sets.push(entry.eval_set);
        }
    }
    let tables: Vec<String> = sets.into_iter().map(|set| table(&ledger, set)).collect();
    session.text(&tables.join("\n\n"));
    Ok(if ledger.entries().is_empty() { Exit::Nothing } else { Exit::Pass })
}

/// One evaluation set: how much of the newest budget is used, then every look.
fn table(ledger: &Ledger, set: karat_core::Digest) -> String {
    let budget = ledger.of_set(set).filter_map(allowed).last();
    let n_uses = ledger.n_uses(set);
    let used = match budget {
        Some(n_allowed) => format!("use {n_uses} of {n_allowed}"),
        None => format!("use {n_uses}, no budget"),
    };
    let mut table =
        TextTable::new(&["use", "when", "by", "gate", "candidate", "outcome", "shown", "verdict"]);
    for entry in ledger.of_set(set) {
        let (gate, outcome, verdict) = match &entry.look {
            Look::Verdict { gate, outcome, digest, .. } => {
                (gate.clone(), outcome.word(), digest.short())
            }
            Look::Comparison => ("(compare)".to_owned(), "-", "-".to_owned()),
        };
        table.row(vec![
            entry.n_uses.to_string(),
            entry.at.to_string(),
            entry.actor.clone(),
            gate,
            entry.candidate.clone(),
            outcome.to_owned(),
            shown(entry.reveal).to_owned(),
            verdict,
        ]);
    }
    format!("evaluation rows {}: {used}\n{}", set.short(), table.text())
}

fn as_json(entry: &LedgerEntry) -> serde_json::Value {
    let (gate, outcome) = match &entry.look {
        Look::Verdict { gate, outcome, .. } => (Some(gate), Some(outcome)),
        Look::Comparison => (None, None),
    };
    json!({
        "event": "use",
        "seq": entry.seq,
        "evaluation_rows": entry.eval_set,
        "use": entry.n_uses,
        "allowed": allowed(entry),
        "at": entry.at.to_string(),
        "by": entry.actor,
        "gate": gate,
        "candidate": entry.candidate,
        "predictions": entry.predictions,
        "outcome": outcome,
        "shown": shown(entry.reveal),
        "verdict": entry.verdict(),
        "previous": entry.previous,
        "hash": entry.hash,
    })
}

fn allowed(entry: &LedgerEntry) -> Option<u32> {
    match entry.look {
        Look::Verdict { n_allowed, .. } => n_allowed,
        Look::Comparison => None,
    }
}

const fn shown(reveal: Reveal) -> &'static str {
    match reveal {
        Reveal::Numbers => "numbers",
        Reveal::Verdict => "outcomes",
    }
}
