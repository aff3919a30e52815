//! `karat check`: ask the checks of a dataset.

use karat_core::{
    ColumnType, Exit, Failure, Finding, Outcome, Timestamp, profile::ImageProfile, thousands,
};
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
            format!("{distinct}{}", thousands(column.n_distinct)),
            number(column.min),
            number(column.max),
            number(column.mean),
        ]);
    }
    let images =
        checked.profile.columns.iter().filter_map(|it| Some((&it.name, it.image.as_ref()?)));
    let images: String = images.map(|(name, image)| described(name, image)).collect();
    session.text(&format!(
        "\n{}{images}\n\nchecks of {}: {}  ({} hold, {} warn, {} fail)",
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

/// What a row of the table cannot say of images; there `min`, `max` and `mean` are of their brightness.
fn described(name: &str, image: &ImageProfile) -> String {
    let numbers =
        |of: &[f64]| of.iter().map(|it| format!("{it:.1}")).collect::<Vec<_>>().join(", ");
    let sizes: Vec<String> =
        image.sizes.iter().map(|(size, n)| format!("{} of {size}", thousands(*n))).collect();
    format!(
        "\n\n{name}: images of {}; mean byte by channel {}, deviation {}; found {}",
        image.shape,
        numbers(&image.mean),
        numbers(&image.std),
        sizes.join(", ")
    )
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
