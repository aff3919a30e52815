//! `karat doctor`: what works on this machine and why not.

use karat_core::{
    Exit, Failure,
    port::{DeviceFacts, Parity},
    thousands,
};
use karat_engine::device::{Question, answer};
use karat_store::Access;
use serde_json::json;

use crate::{
    args::ProbeDeviceArgs,
    context::{STATE_DIR, Session, TOOL, prober},
    render::table::TextTable,
};

/// Libraries whose version changes what karat does; the root `Cargo.toml` pins them.
const LIBRARIES: [(&str, &str); 2] = [("burn", "0.22.1"), ("datafusion", "55.2.0")];

pub(crate) fn run(session: &Session) -> Result<Exit, Failure> {
    let engine = karat_engine::BurnEngine;
    let prober = prober()?;
    let devices = match session.common.device.as_deref() {
        None => engine.list(&prober),
        Some(what) => engine.examine(&prober, what)?,
    };
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
    for device in &devices {
        let usable = match (&device.facts, device.is_usable) {
            (_, false) => "absent",
            (Some(facts), true) if !facts.parity.iter().all(Parity::holds) => "disagrees with cpu",
            _ => "works",
        };
        row(&format!("device {}", device.name), format!("{usable}: {}", device.remark));
        for line in device.facts.iter().flat_map(measured) {
            row("", line);
        }
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

/// What was measured of a device, a line each.
fn measured(facts: &DeviceFacts) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(memory) = facts.memory {
        lines.push(format!("memory {} MiB", thousands(memory >> 20)));
    }
    if !facts.features.is_empty() {
        lines.push(format!("features {}", facts.features.join(", ")));
    }
    if let (Some(gflops), Some(copy)) = (facts.gflops, facts.copy_gb_s) {
        lines.push(format!("products {gflops:.1} GFLOP/s in f32, copies {copy:.1} GB/s"));
    }
    lines.extend(facts.parity.iter().map(|it| {
        let apart = match it.error {
            Some(error) => format!("{error:.1e}"),
            None => "not a number".to_owned(),
        };
        let verdict = if it.holds() { "" } else { ", too far" };
        let updates = if it.n_updates == 1 { "update" } else { "updates" };
        format!(
            "{}: loss after {} {updates} {apart} from cpu's, allowed {:.0e}{verdict}",
            it.model, it.n_updates, it.tolerance
        )
    }));
    lines
}

/// `karat probe-device`, hidden: what [`karat_engine::device::Prober`] starts.
pub(crate) fn probe(session: &Session, args: &ProbeDeviceArgs) -> Result<Exit, Failure> {
    let question = Question::of(&args.question).ok_or_else(|| {
        let message =
            format!("`{}` is no question: known are `list`, `open`, `measure`", args.question);
        Failure::new("device-unknown", Exit::Usage, message)
    })?;
    session.json(&json!(answer(question, &args.name)));
    Ok(Exit::Pass)
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
