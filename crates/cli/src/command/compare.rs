//! `karat compare A B`: two reports side by side on the same rows, no verdict.

use karat_core::{Exit, Failure};
use serde_json::{Map, Value, json};

use crate::{
    args::CompareArgs,
    context::Session,
    render::{
        summary::{interval, value},
        table::TextTable,
    },
};

pub(crate) fn run(session: &Session, args: &CompareArgs) -> Result<Exit, Failure> {
    let project = session.project_to_compute()?;
    let schema = session.schema(&project, &project.train.dataset)?;
    let workshop = session.open_existing()?;
    let lab = session.lab(&workshop);
    let (a, b) = (lab.resolve(&args.a)?, lab.resolve(&args.b)?);
    let mut observer = session.observer();
    let frozen = lab.freeze(&mut observer, project.dataset(&project.train.dataset)?, schema)?;
    let report = lab.compare(&mut observer, &project, &frozen, &b, &a)?;

    let mut table = TextTable::new(&[
        "slice",
        "metric",
        "rows",
        &a.label(),
        &b.label(),
        "better by",
        "90 % interval",
    ]);
    let mut metrics = Map::new();
    let mut differs = false;
    for cell in &report.cells {
        differs |= cell.value != cell.baseline;
        let difference = cell.improvement.map_or_else(|| "-".to_owned(), |it| format!("{it:+.4}"));
        table.row(vec![
            cell.slice.clone(),
            cell.metric.word().to_owned(),
            karat_core::thousands(cell.n_rows),
            value(cell.baseline),
            value(cell.value),
            difference,
            interval(cell.improvement_interval),
        ]);
        let name = if cell.slice == "all" {
            cell.metric.word().to_owned()
        } else {
            format!("{}[{}]", cell.metric.word(), cell.slice)
        };
        let diff = cell.value.zip(cell.baseline).map(|(new, old)| new - old);
        metrics.insert(name, json!({ "old": cell.baseline, "new": cell.value, "diff": diff, "interval": cell.improvement_interval }));
    }
    session.text(&table.text());
    session.json(&json!({ "event": "compared", "metrics.json": Value::Object(metrics) }));
    Ok(if args.exit_code && differs { Exit::Fail } else { Exit::Pass })
}
