//! `karat replay`: train a run once more from its record and say whether the bits are the same.

use karat_core::{Exit, Failure, Likeness, ModelRef, ParseNameError};
use karat_pipeline::ReplayOptions;
use karat_store::{RunRecord, Store, VersionRecord};
use serde_json::json;

use crate::{args::ReplayArgs, context::Session, render::replay};

pub(crate) fn run(session: &Session, args: &ReplayArgs) -> Result<Exit, Failure> {
    let workshop = session.open_existing()?;
    let (run, version) = find(&workshop.store, &args.run)?;
    let options = ReplayOptions {
        version,
        threads: session.common.threads,
        device: session.common.device.clone(),
        tolerance: args.tolerance,
    };
    let replayed = session.lab(&workshop).replay(&mut session.observer(), &run, &options)?;
    let paint = session.with_screen(|screen| screen.stdout_paint());
    session.text(&replay::render(&replayed, paint));
    session.json(&json!({ "event": "replayed", "run": replayed.run, "replay": replayed.replay }));
    Ok(match replayed.replay.likeness {
        Likeness::Identical | Likeness::WithinTolerance => Exit::Pass,
        Likeness::Different => Exit::Fail,
    })
}

/// The training that `text` means: a run, or a version's.
fn find(store: &Store, text: &str) -> Result<(RunRecord, Option<VersionRecord>), Failure> {
    if !text.contains('@') {
        return Ok((store.run(text)?, None));
    }
    let reference: ModelRef = text.parse().map_err(|error: ParseNameError| {
        Failure::new("reference-invalid", Exit::Usage, error.to_string())
            .hint("`karat runs` lists runs, `karat alias` lists models and aliases")
    })?;
    let version = store.resolve(&reference)?;
    Ok((store.run(&version.run.0)?, Some(version)))
}
