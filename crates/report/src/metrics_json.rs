//! `metrics.json`: nested numbers as DVC reads them, `{"auc": …, "slices": {"month=7": {"auc": …}}, "operational": …}`.

use karat_core::summary::RunSummary;
use serde_json::{Map, Value};

use crate::json;

/// The candidate's metrics: those of all rows at the top, the others under `slices`, measures of operation under
/// `operational`. Only finite numbers appear.
#[must_use]
pub fn metrics_json(summary: &RunSummary) -> String {
    let mut top = Map::new();
    let mut slices = Map::new();
    for cell in summary.verdict.iter().flat_map(|it| &it.report.cells) {
        let Some(number) = cell.value.and_then(serde_json::Number::from_f64) else { continue };
        let metrics = if cell.slice == "all" {
            &mut top
        } else {
            let slice = slices.entry(&cell.slice).or_insert_with(|| Value::Object(Map::new()));
            slice.as_object_mut().expect("only objects are inserted")
        };
        metrics.insert(cell.metric.word().to_owned(), number.into());
    }
    if !slices.is_empty() {
        top.insert("slices".to_owned(), slices.into());
    }
    let operational: Map<String, Value> = summary
        .verdict
        .iter()
        .flat_map(|it| &it.operational)
        .filter_map(|(word, value)| {
            Some((word.clone(), serde_json::Number::from_f64(*value)?.into()))
        })
        .collect();
    if !operational.is_empty() {
        top.insert("operational".to_owned(), operational.into());
    }
    json::pretty(top.into())
}
