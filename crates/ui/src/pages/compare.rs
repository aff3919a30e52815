//! Several runs side by side: their curves in one frame, and what differs between them.

use karat_store::{RunRecord, Store};
use serde_json::{Value, json};

use crate::{
    address::{Address, Query},
    curves::{Curves, overlaid},
    facts::{difference_table, leaves},
    frame::{Head, words},
    html::{Html, html},
    parts::{Column, empty, link, metric, seconds, section, state, table},
    site::{Page, Trouble, Visit},
};

/// Runs in one comparison: as many as there are looks of curves.
const RUNS_MAX: usize = 8;

pub(crate) fn view(visit: &Visit<'_>) -> Result<Page, Trouble> {
    let runs = load(visit.store, visit.query)?;
    let head = Head::in_section("/runs", "Comparison of runs");
    Ok((head, body(&runs)))
}

fn load(store: &Store, query: &Query) -> Result<Vec<(RunRecord, Curves)>, Trouble> {
    let mut runs: Vec<(RunRecord, Curves)> = Vec::new();
    for id in query.all("run") {
        let run = store.run(id)?;
        if runs.len() == RUNS_MAX {
            return Err(Trouble::Unnamed(format!("at most {RUNS_MAX} runs are compared at once")));
        }
        if runs.iter().all(|(it, _)| it.id != run.id) {
            let curves = Curves::of(store, &run)?;
            runs.push((run, curves));
        }
    }
    Ok(runs)
}

fn body(runs: &[(RunRecord, Curves)]) -> Html {
    if runs.len() < 2 {
        let advice = empty("Choose two runs or more to compare.");
        return html!("{}<p>{}</p>\n", advice, link(&Address::of("/runs"), "List of runs"));
    }
    let heads: Vec<String> = runs.iter().map(|(it, _)| it.id.0.clone()).collect();
    let curves: Vec<(String, Curves)> =
        runs.iter().map(|(run, curves)| (run.id.0.clone(), curves.clone())).collect();
    let charts = overlaid(&curves);
    let asked: Vec<_> = runs.iter().map(|(run, _)| leaves(&asked(run))).collect();
    let metrics: Vec<_> = runs.iter().map(|(run, _)| leaves(&numbers(&run.metrics))).collect();
    html!(
        "{}{}{}{}",
        section("Runs", summary(runs)),
        if charts.is_empty() { Html::default() } else { section("Curves", charts) },
        section("Parameters", difference_table("Parameters that differ", &heads, &asked)),
        section("Metrics", difference_table("Metrics that differ", &heads, &metrics))
    )
}

fn summary(runs: &[(RunRecord, Curves)]) -> Html {
    let row = |(run, _): &(RunRecord, Curves)| {
        vec![
            link(&Address::run(&run.id), &run.id.0),
            html!("{}", run.step.word()),
            state(run.state),
            words(&run.subject),
            seconds(run.seconds),
            metric(run.metrics.get("best_eval_loss").and_then(Value::as_f64)),
        ]
    };
    table(
        "The runs compared",
        &[
            Column::Text("run"),
            Column::Text("step"),
            Column::Text("state"),
            Column::Text("subject"),
            Column::Number("took"),
            Column::Number("eval loss"),
        ],
        runs.iter().map(row).collect(),
    )
}

/// Everything a run depends on.
fn asked(run: &RunRecord) -> Value {
    json!({
        "spec": run.spec,
        "inputs": run.inputs,
        "seed": run.seed,
        "device": run.device,
        "tool": run.tool,
        "commit": run.code.commit,
    })
}

/// The metrics without curves and sentences.
fn numbers(metrics: &Value) -> Value {
    let Value::Object(map) = metrics else { return Value::Null };
    let is_kept = |name: &str| !["evaluations", "eval_values", "summary"].contains(&name);
    map.iter()
        .filter(|(name, _)| is_kept(name))
        .map(|(name, it)| (name.clone(), it.clone()))
        .collect()
}
