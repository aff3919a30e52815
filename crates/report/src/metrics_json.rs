//! `metrics.json`: nested numbers as DVC reads them, `{"auc": …, "slices": {"month=7": {"auc": …}}}`.

use std::collections::BTreeMap;

use karat_core::summary::RunSummary;
use serde_json::{Map, Value};

use crate::json;

/// The candidate's metrics: those of all rows at the top, the others under `slices`. Only finite numbers appear.
#[must_use]
pub fn metrics_json(summary: &RunSummary) -> String {
    let mut top: BTreeMap<&str, Value> = BTreeMap::new();
    let mut slices: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for cell in summary.verdict.iter().flat_map(|it| &it.report.cells) {
        let Some(number) = cell.value.and_then(serde_json::Number::from_f64) else { continue };
        if cell.slice == "all" {
            top.insert(cell.metric.word(), number.into());
        } else {
            slices
                .entry(&cell.slice)
                .or_default()
                .insert(cell.metric.word().to_owned(), number.into());
        }
    }
    if !slices.is_empty() {
        let slices = slices.into_iter().map(|(slice, cells)| (slice.to_owned(), cells.into()));
        top.insert("slices", Value::Object(slices.collect()));
    }
    json::pretty(&top)
}
