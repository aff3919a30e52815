//! `karat doctor`: what works on this machine and why not.

use karat_core::{Exit, Failure, port::Engine};
use karat_store::Access;
use serde_json::json;

use crate::{
    context::{STATE_DIR, Session, TOOL},
    render::table::TextTable,
};

/// Libraries whose version changes what karat does; the root `Cargo.toml` pins them.
const LIBRARIES: [(&str, &str); 2] = [("burn", "0.22.1"), ("datafusion", "55.2.0")];

pub(crate) fn run(session: &Session) -> Result<Exit, Failure> {
    let engine = karat_engine::BurnEngine;
    let mut table = TextTable::bare();
    let mut row = |name: &str, value: String| table.row(vec![name.to_owned(), value]);
    row("version", format!("{TOOL}, {} {}", std::env::consts::OS, std::env::consts::ARCH));
    for (name, version) in LIBRARIES {
        row(name, version.to_owned());
    }
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
    let store = look(session);
    row("store", store.state.clone());
    for line in &store.remarks {
        row("", line.clone());
    }
    session.text(&table.text());
    let libraries: serde_json::Map<_, _> =
        LIBRARIES.iter().map(|(name, version)| ((*name).to_owned(), json!(version))).collect();
    session.json(&json!({
        "event": "examined",
        "version": TOOL,
        "libraries": libraries,
        "threads": session.n_threads(),
        "devices": devices,
        "store": store.state,
        "remarks": store.remarks,
        "exit": store.exit.code(),
    }));
    Ok(store.exit)
}

/// What was found of the store.
struct Found {
    exit: Exit,
    state: String,
    remarks: Vec<String>,
}

fn look(session: &Session) -> Found {
    let dir = session.root().join(STATE_DIR);
    let (place, karat) = (dir.display(), session.karat());
    let found = |exit, state: String| Found { exit, state, remarks: Vec::new() };
    if !dir.exists() {
        return found(Exit::Pass, format!("{place}: absent; `{karat} run` creates it"));
    }
    // Every byte takes as long as reading the whole store.
    let is_full = session.common.verbose;
    let report = session
        .open(Access::ReadOnly)
        .and_then(|it| Ok(it.store.verify(is_full, &mut |_, _| {})?));
    match report {
        Ok(report) if report.problems.is_empty() => {
            let whole = match is_full {
                true => "whole, every byte matches its digest".to_owned(),
                false => format!("structure whole; `{karat} verify` reads every byte"),
            };
            found(Exit::Pass, format!("{place}: {} objects, {whole}", report.n_objects))
        }
        Ok(report) => found(
            Exit::Run,
            format!("{place}: {} problems; `{karat} verify` lists them", report.problems.len()),
        ),
        Err(failure) => {
            let mut remarks = failure.details;
            remarks.extend(failure.causes.iter().map(|it| format!("caused by: {it}")));
            remarks.extend(failure.hints.iter().map(|it| format!("hint: {it}")));
            let state = format!("{place}: error[{}]: {}", failure.code, failure.message);
            Found { exit: failure.exit, state, remarks }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::LIBRARIES;

    #[test]
    fn versions_are_those_of_the_manifest() {
        let manifest = include_str!("../../../../Cargo.toml");
        for (name, version) in LIBRARIES {
            let pin = format!("\n{name} = {{ version = \"={version}\"");
            assert!(manifest.contains(&pin), "{name} is not {version}");
        }
    }
}
