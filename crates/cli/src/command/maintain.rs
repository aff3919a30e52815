//! `karat verify`, `karat gc`: is the state whole, and what may go.

use std::time::Duration;

use karat_core::{Exit, Failure, thousands};
use karat_store::Access;
use serde_json::json;

use crate::{
    args::{GcArgs, VerifyArgs},
    context::Session,
    env,
};

pub(crate) fn verify(session: &Session, args: &VerifyArgs) -> Result<Exit, Failure> {
    let workshop = session.open(Access::ReadOnly)?;
    session.with_screen(|screen| screen.begin("verify", "objects", None));
    let mut on_progress = |done, total| {
        session.with_screen(|screen| screen.progress("verify", done, total, ""));
    };
    let report = workshop.store.verify(!args.structure_only, &mut on_progress);
    session.with_screen(crate::render::Screen::end_bar);
    let report = report?;
    session.json(
        &json!({ "event": "verified", "n_objects": report.n_objects, "problems": report.problems }),
    );
    if report.problems.is_empty() {
        let bytes = if args.structure_only { "" } else { ", every byte matches its digest" };
        session.text(&format!(
            "{} objects{bytes}; records and history agree",
            thousands(report.n_objects)
        ));
        return Ok(Exit::Pass);
    }
    let mut failure = Failure::new(
        "store-damaged",
        Exit::Run,
        format!(
            "{} problems in {} objects and their records",
            report.problems.len(),
            thousands(report.n_objects)
        ),
    );
    for problem in report.problems.iter().take(20) {
        failure = failure.detail(problem.clone());
    }
    if 20 < report.problems.len() {
        failure = failure.detail(format!("and {} more", report.problems.len() - 20));
    }
    Err(failure
        .hint("`karat run` makes lost outputs again; `karat rollback` leaves a damaged version"))
}

pub(crate) fn gc(session: &Session, args: &GcArgs) -> Result<Exit, Failure> {
    let workshop = session.open_existing()?;
    let grace = Duration::from_secs(args.grace.saturating_mul(60));
    let report = workshop.store.gc(grace, args.dry_run, env::now())?;
    let verb = if args.dry_run { "would remove" } else { "removed" };
    session.text(&format!(
        "{verb} {} objects, {} bytes",
        thousands(report.n_objects),
        thousands(report.n_bytes)
    ));
    session.json(&json!({ "event": "collected", "n_objects": report.n_objects, "n_bytes": report.n_bytes, "dry_run": args.dry_run }));
    Ok(Exit::Pass)
}
