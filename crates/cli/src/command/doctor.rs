//! `karat doctor`: what works on this machine and why not.

use karat_core::{Exit, Failure, port::Engine};
use karat_store::Access;
use serde_json::json;

use crate::{
    context::{STATE_DIR, Session, TOOL},
    render::table::TextTable,
};

pub(crate) fn run(session: &Session) -> Result<Exit, Failure> {
    let engine = karat_engine::BurnEngine::default();
    let mut exit = Exit::Pass;
    let mut table = TextTable::bare();
    let mut row = |name: &str, value: String| table.row(vec![name.to_owned(), value]);
    row("version", format!("{TOOL}, {} {}", std::env::consts::OS, std::env::consts::ARCH));
    row(
        "threads",
        format!(
            "{} of {}",
            session.n_threads(),
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
        ),
    );
    let devices = engine.devices();
    for device in &devices {
        let usable = if device.is_usable { "works" } else { "absent" };
        row(&format!("device {}", device.name), format!("{usable}: {}", device.remark));
    }
    let dir = session.root().join(STATE_DIR);
    let store = if dir.exists() {
        match session
            .open(Access::ReadOnly)
            .and_then(|it| Ok(it.store.verify(false, &mut |_, _| {})?))
        {
            Ok(report) if report.problems.is_empty() => {
                format!("{}: {} objects, whole", dir.display(), report.n_objects)
            }
            Ok(report) => {
                exit = Exit::Run;
                format!(
                    "{}: {} problems; `karat verify` lists them",
                    dir.display(),
                    report.problems.len()
                )
            }
            Err(failure) => {
                exit = failure.exit;
                format!("{}: {}", dir.display(), failure.message)
            }
        }
    } else {
        format!("{}: absent; `karat run` creates it", dir.display())
    };
    row("store", store.clone());
    session.text(&table.text());
    session.json(&json!({ "version": TOOL, "threads": session.n_threads(), "devices": devices, "store": store }));
    Ok(exit)
}
