//! `metrics.json`: nested numbers as DVC reads them, `{"auc": …, "slices": {"month=7": {"auc": …}}}`.

use karat_core::summary::RunSummary;
use serde_json::{Map, Value};

use crate::json;

/// The candidate's metrics: those of all rows at the top, the others under `slices`. Only finite numbers appear.
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
    json::pretty(top.into())
}
