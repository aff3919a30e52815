//! `karat check`: ask the checks of a dataset.

use karat_core::{ColumnType, Exit, Failure, Finding, Outcome, Timestamp};
use karat_store::Access;
use serde_json::json;

use crate::{args::CheckArgs, context::Session, render::table::TextTable};

pub(crate) fn run(session: &Session, args: &CheckArgs) -> Result<Exit, Failure> {
    let project = session.project()?;
    let name = args.dataset.as_ref().unwrap_or(&project.train.dataset);
    let dataset = project.dataset(name)?;
    let schema = session.schema(&project, name)?;
    let workshop = session.open(Access::ReadWrite)?;
    let lab = session.lab(&workshop);
    let frozen = lab.freeze(&mut session.observer(), dataset, schema)?;
    let checked = lab.check(&mut session.observer(), &project, &frozen)?;

    let count =
        |outcome: Outcome| checked.findings.iter().filter(|it| it.outcome == outcome).count();
    let outcome = checked.outcome();
    let paint = session.with_screen(|screen| screen.stdout_paint());
    let mut table =
        TextTable::new(&["column", "type", "missing", "distinct", "min", "max", "mean"]);
    for column in &checked.profile.columns {
        let missing = column.n_missing as f64 / checked.profile.n_rows.max(1) as f64;
        let number =
            |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |it| figure(column.ty, it));
        let distinct =
            if column.distinct_is_exact { String::new() } else { "at least ".to_owned() };
        table.row(vec![
            column.name.clone(),
            column.ty.word().to_owned(),
            format!("{:.2} %", 100.0 * missing),
            format!("{distinct}{}", karat_core::thousands(column.n_distinct)),
            number(column.min),
            number(column.max),
            number(column.mean),
        ]);
    }
    session.text(&format!(
        "\n{}\n\nchecks of {}: {}  ({} hold, {} warn, {} fail)",
        table.text(),
        frozen.located.snapshot.label(),
        paint.outcome(outcome),
        count(Outcome::Pass),
        count(Outcome::Warn),
        failures(&checked.findings),
    ));
    let exit = outcome.exit();
    session.json(&json!({ "event": "check_finished", "exit": exit.code(), "outcome": outcome }));
    Ok(exit)
}

/// A bound as a reader of the file would write it. A mean of whole numbers is not whole.
fn figure(ty: ColumnType, value: f64) -> String {
    match ty {
        ColumnType::Time => Timestamp(value as i64).to_string(),
        ColumnType::Int if value.fract().abs() <= 0.0 => format!("{value:.0}"),
        _ => format!("{value:.4}"),
    }
}

fn failures(findings: &[Finding]) -> usize {
    findings.iter().filter(|it| Outcome::Warn < it.outcome).count()
}
