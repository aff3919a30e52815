//! One run: what was asked, from what, by which program on which machine, and what came of it.

use karat_core::{Digest, Environment, Name, Step, Timestamp};
use karat_store::{RunRecord, RunState, Store, StoreError};
use serde_json::Value;

use crate::{
    address::Address,
    curves::{self, Curves},
    facts::{leaf_table, leaves},
    frame::{Head, words},
    html::{Html, html},
    parts::{
        Column, bytes, code, count, digest, empty, facts, link, seconds, section, state, table,
        time,
    },
    site::{Page, Trouble, Visit},
};

/// What a run was given or made.
pub(crate) struct Thing {
    pub(crate) name: String,
    pub(crate) digest: Digest,
    /// The page about it.
    pub(crate) address: Address,
    /// What it is called there.
    pub(crate) label: Option<String>,
    pub(crate) n_bytes: Option<u64>,
}

struct Shown {
    run: RunRecord,
    curves: Curves,
    inputs: Vec<Thing>,
    outputs: Vec<Thing>,
}

pub(crate) fn view(visit: &Visit<'_>) -> Result<Page, Trouble> {
    let run = visit.store.run(visit.captured[0])?;
    let shown = load(visit.store, run)?;
    let head = Head::in_section("/runs", shown.run.id.0.clone()).badge(state(shown.run.state));
    Ok((head, body(&shown, visit.now)))
}

fn load(store: &Store, run: RunRecord) -> Result<Shown, StoreError> {
    let things = |of: &std::collections::BTreeMap<String, Digest>| {
        of.iter().map(|(name, digest)| thing(store, name, digest)).collect::<Result<Vec<_>, _>>()
    };
    let curves = if run.step == Step::Train { Curves::of(store, &run)? } else { Curves::default() };
    Ok(Shown { inputs: things(&run.inputs)?, outputs: things(&run.outputs)?, curves, run })
}

/// Where a digest leads, by the name a run gave it.
pub(crate) fn thing(store: &Store, name: &str, digest: &Digest) -> Result<Thing, StoreError> {
    let n_bytes = store.size(digest)?;
    let (address, label) = match name {
        "snapshot" => (Address::snapshot(digest), None),
        "verdict.json" => (Address::verdict(digest), None),
        "model" | "candidate" | "baseline" | "model.json" => match store.version_with(digest)? {
            Some((model, version)) => version_link(&model, version),
            None => (Address::artifact(digest), None),
        },
        _ => (Address::artifact(digest), None),
    };
    Ok(Thing { name: name.to_owned(), digest: *digest, address, label, n_bytes })
}

fn version_link(model: &Name, version: u32) -> (Address, Option<String>) {
    (Address::version(model, version), Some(format!("{model}@{version}")))
}

fn body(shown: &Shown, now: Timestamp) -> Html {
    let Shown { run, curves, inputs, outputs } = shown;
    let environment = run
        .metrics
        .get("environment")
        .and_then(|it| serde_json::from_value::<Environment>(it.clone()).ok());
    let error = run.error.as_ref().map(|error| html!("<p class=\"error\">{}</p>\n", words(error)));
    let charts = curves::charts(curves);
    let curves = match (charts.is_empty(), run.step, run.state) {
        (false, ..) => section("Curves", charts),
        (true, Step::Train, RunState::Running) => {
            section("Curves", empty("No update yet. Load this page again in a moment."))
        }
        _ => Html::default(),
    };
    let spec = leaf_table("What was asked for", &leaves(&run.spec));
    html!(
        "{}{}{}{}{}{}{}{}",
        error,
        about(run, now),
        curves,
        titled("Metrics", leaf_table("Numbers the run kept", &leaves(&scalars(&run.metrics)))),
        titled("Spec", spec),
        titled("Inputs", things("What it was made from", inputs)),
        titled("Artifacts", things("What it made", outputs)),
        environment.map(|it| section("Environment", machine(&it)))
    )
}

fn titled(title: &str, body: Html) -> Html {
    if body.is_empty() { body } else { section(title, body) }
}

fn about(run: &RunRecord, now: Timestamp) -> Html {
    let summary = run.metrics.get("summary").and_then(Value::as_str).unwrap_or_default();
    let commit = run.code.commit.as_ref().map(|commit| {
        let dirty = (run.code.is_dirty == Some(true))
            .then(|| html!(" and changes that were not committed"));
        html!("<code>{}</code>{}", commit, dirty)
    });
    facts(vec![
        ("step", html!("{}", run.step.word())),
        ("subject", words(&run.subject)),
        ("result", words(summary)),
        ("began", time(run.started_at, now)),
        ("ended", run.ended_at.map(|it| time(it, now)).unwrap_or_default()),
        ("took", seconds(run.seconds)),
        ("attempt", if run.attempt == 1 { Html::default() } else { count(u64::from(run.attempt)) }),
        ("seed", run.seed.map(|it| html!("{}", it)).unwrap_or_default()),
        ("device", html!("{}", run.device)),
        ("tool", html!("{}", run.tool)),
        ("commit", commit.unwrap_or_default()),
        ("cache key", digest(&run.key)),
    ])
}

/// The metrics that are no curve and have no section of their own.
fn scalars(metrics: &Value) -> Value {
    let mut metrics = metrics.clone();
    if let Value::Object(map) = &mut metrics {
        for name in ["evaluations", "eval_values", "environment", "summary"] {
            map.remove(name);
        }
    }
    metrics
}

/// Digests by name, with the page about each.
pub(crate) fn things(caption: &str, things: &[Thing]) -> Html {
    if things.is_empty() {
        return Html::default();
    }
    let row = |it: &Thing| {
        let label = it.label.as_ref().map_or_else(|| digest(&it.digest), code);
        let size = it.n_bytes.map_or_else(|| html!("–"), bytes);
        vec![code(&it.name), link(&it.address, label), size]
    };
    table(
        caption,
        &[Column::Text("name"), Column::Text("content"), Column::Number("size")],
        things.iter().map(row).collect(),
    )
}

fn machine(environment: &Environment) -> Html {
    let remarks: Vec<Html> = environment.remarks.iter().map(|it| html!("{} ", words(it))).collect();
    facts(vec![
        ("promised", html!("{}", environment.tiers_text())),
        ("device", html!("{}", environment.device_text())),
        ("features", html!("{}", environment.features.join(", "))),
        ("executable", environment.host.binary.as_ref().map(digest).unwrap_or_default()),
        ("remarks", html!("{}", remarks)),
    ])
}
