//! `karat runs`, `karat show`, `karat alias`: what the store knows.

use karat_core::{Digest, Exit, Failure, ModelRef, Name, Snapshot, nearest};
use karat_store::{Access, Promotion, RunRecord, Store, StoreError, VersionRecord};
use serde_json::{Value, json};

use crate::{
    args::{AliasArgs, RunsArgs, ShowArgs},
    context::Session,
    render::table::TextTable,
};

pub(crate) fn runs(session: &Session, args: &RunsArgs) -> Result<Exit, Failure> {
    let workshop = session.open(Access::ReadOnly)?;
    let runs = workshop.store.runs(args.limit)?;
    let mut table =
        TextTable::new(&["run", "step", "state", "began", "seconds", "subject", "result"]);
    for run in &runs {
        table.row(vec![
            run.id.to_string(),
            run.step.word().to_owned(),
            run.state.word().to_owned(),
            run.started_at.to_string(),
            format!("{:.1}", run.seconds),
            run.subject.clone(),
            run.error.clone().unwrap_or_else(|| summary_of(run)),
        ]);
        session.json(&run_json(run));
    }
    session.text(&table.text());
    Ok(if runs.is_empty() { Exit::Nothing } else { Exit::Pass })
}

pub(crate) fn show(session: &Session, args: &ShowArgs) -> Result<Exit, Failure> {
    let workshop = session.open(Access::ReadOnly)?;
    let store = &workshop.store;
    let found = if args.what.starts_with("r-") {
        run_json(&store.run(&args.what)?)
    } else if let Ok(digest) = args.what.parse::<Digest>() {
        object_json(store, &digest)?
    } else if let Some((dataset, prefix)) = snapshot_reference(&args.what) {
        let found = store.find_snapshot(Some(&dataset), &prefix)?;
        let [(digest, snapshot)] = &found[..] else {
            return Err(no_snapshot(store, &args.what, &dataset, &found));
        };
        json!({ "snapshot": snapshot.label(), "digest": digest, "files": snapshot.files, "n_rows": snapshot.n_rows, "schema": snapshot.schema })
    } else {
        let reference: ModelRef =
            args.what.parse().map_err(|error: karat_core::ParseNameError| {
                Failure::new("reference-invalid", Exit::Usage, error.to_string())
                    .hint("`karat runs` lists runs, `karat alias` lists models and aliases")
            })?;
        let version = store.resolve(&reference)?;
        version_json(store, &version)?
    };
    session.text(&serde_json::to_string_pretty(&found).unwrap_or_default());
    session.json(&found);
    Ok(Exit::Pass)
}

pub(crate) fn alias(session: &Session, args: &AliasArgs) -> Result<Exit, Failure> {
    let workshop = session.open(Access::ReadOnly)?;
    let store = &workshop.store;
    let usage = |error: karat_core::ParseNameError| {
        Failure::new("reference-invalid", Exit::Usage, error.to_string())
    };
    if let Some((model, alias)) = args.what.as_deref().and_then(|it| it.split_once('@')) {
        let (model, alias): (Name, Name) =
            (model.parse().map_err(usage)?, alias.parse().map_err(usage)?);
        let history = store.history(&model, &alias)?;
        if history.is_empty() {
            return Err(no_alias(store, model, alias)?);
        }
        let mut table = TextTable::new(&["when", "from", "to", "by", "why"]);
        for it in &history {
            let from = it.from.map_or_else(|| "-".to_owned(), |it| format!("{model}@{it}"));
            table.row(vec![
                it.at.to_string(),
                from,
                format!("{model}@{}", it.to),
                it.actor.clone(),
                it.why(),
            ]);
            session.json(&promotion_json(it));
        }
        session.text(&table.text());
        return Ok(Exit::Pass);
    }
    let models = match &args.what {
        Some(model) => vec![model.parse().map_err(usage)?],
        None => store.models()?,
    };
    let mut table = TextTable::new(&["alias", "version", "moved", "versions"]);
    for model in &models {
        let n_versions = store.versions(model)?.len();
        if n_versions == 0 {
            return Err(no_model(store, model.clone())?);
        }
        for (alias, record) in store.aliases(model)? {
            table.row(vec![
                format!("{model}@{alias}"),
                format!("{model}@{}", record.version),
                record.moved_at.to_string(),
                n_versions.to_string(),
            ]);
            session.json(&json!({ "alias": format!("{model}@{alias}"), "version": record.version, "moved_at": record.moved_at.to_string() }));
        }
    }
    session.text(&table.text());
    Ok(Exit::Pass)
}

fn no_model(store: &Store, asked: Name) -> Result<Failure, Failure> {
    let known = store.models()?;
    let near = near(asked.as_str(), known.iter().map(Name::as_str));
    Ok(StoreError::ModelUnknown { asked, near }.into())
}

fn no_alias(store: &Store, model: Name, asked: Name) -> Result<Failure, Failure> {
    if store.versions(&model)?.is_empty() {
        return no_model(store, model);
    }
    let known = store.aliases(&model)?;
    let near = near(asked.as_str(), known.keys().map(Name::as_str));
    Ok(StoreError::AliasUnknown { model, asked, near }.into())
}

fn near<'a>(asked: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    nearest(asked, known).into_iter().map(str::to_owned).collect()
}

/// Digits of a digest that tell snapshots apart where the short form does not.
const LONGER: usize = 16;
/// Snapshots listed.
const SNAPSHOTS_SHOWN: usize = 5;

fn no_snapshot(
    store: &Store,
    asked: &str,
    dataset: &Name,
    found: &[(Digest, Snapshot)],
) -> Failure {
    let failure = Failure::new(
        "snapshot-unknown",
        Exit::Usage,
        format!("`{asked}` means {} snapshots of dataset `{dataset}`", found.len()),
    );
    if !found.is_empty() {
        let labels: Vec<String> = found
            .iter()
            .take(SNAPSHOTS_SHOWN)
            .map(|(digest, _)| format!("{dataset}@{}", &digest.hex()[..LONGER]))
            .collect();
        return failure.detail(format!("they are `{}`", labels.join("`, `")));
    }
    // A snapshot that cannot be read is another command's finding.
    let known: Vec<String> = store
        .find_snapshot(None, "")
        .unwrap_or_default()
        .iter()
        .map(|(_, snapshot)| snapshot.label())
        .collect();
    let near = near(asked, known.iter().map(String::as_str));
    if near.is_empty() {
        failure.detail("no snapshot is on record")
    } else {
        failure.detail(format!("the nearest are `{}`", near.join("`, `")))
    }
}

/// `flights@9f3c21ab`: at least eight hex digits that are no version number.
fn snapshot_reference(text: &str) -> Option<(Name, String)> {
    let (dataset, prefix) = text.split_once('@')?;
    let is_hex = prefix.len() >= karat_core::digest::SHORT_LEN
        && prefix.bytes().all(|b| b.is_ascii_hexdigit())
        && prefix.parse::<u32>().is_err();
    is_hex.then(|| Some((dataset.parse().ok()?, prefix.to_ascii_lowercase())))?
}

fn summary_of(run: &RunRecord) -> String {
    run.metrics.get("summary").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn run_json(run: &RunRecord) -> Value {
    json!({
        "run": run.id,
        "attempt": run.attempt,
        "step": run.step.word(),
        "state": run.state.word(),
        "subject": run.subject,
        "began": run.started_at.to_string(),
        "seconds": run.seconds,
        "seed": run.seed,
        "device": run.device,
        "tool": run.tool,
        "code": run.code,
        "spec": run.spec,
        "inputs": run.inputs,
        "outputs": run.outputs,
        "metrics": run.metrics,
        "error": run.error,
    })
}

fn version_json(store: &Store, version: &VersionRecord) -> Result<Value, Failure> {
    let manifest: Value =
        serde_json::from_slice(&store.read(&version.manifest)?).map_err(|error| {
            Failure::new(
                "record-unreadable",
                Exit::Run,
                format!(
                    "the manifest of `{}` is not in the form this build reads",
                    version.label()
                ),
            )
            .because(&error)
        })?;
    let verdicts: Vec<Value> = store
        .verdicts_of(&version.manifest)?
        .iter()
        .map(|(digest, it)| json!({ "digest": digest, "gate": it.gate, "outcome": it.outcome, "baseline": it.baseline }))
        .collect();
    Ok(json!({
        "version": version.label(),
        "run": version.run,
        "registered": version.created_at.to_string(),
        "manifest_digest": version.manifest,
        "outputs": version.outputs,
        "verdicts": verdicts,
        "manifest": manifest,
    }))
}

fn object_json(store: &Store, digest: &Digest) -> Result<Value, Failure> {
    let bytes = store.read(digest)?;
    Ok(serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| json!({ "digest": digest, "n_bytes": bytes.len() })))
}

fn promotion_json(it: &Promotion) -> Value {
    json!({ "at": it.at.to_string(), "from": it.from, "to": it.to, "by": it.actor, "why": it.why() })
}
