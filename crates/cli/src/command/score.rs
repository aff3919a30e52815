//! `karat score`: any supported file to predictions.

use karat_core::{Exit, Failure, ModelRef, Name, Which, thousands};
use karat_pipeline::{CHAMPION, ScoreOptions, quarantine_of};
use serde_json::json;

use crate::{args::ScoreArgs, context::Session};

pub(crate) fn run(session: &Session, args: &ScoreArgs) -> Result<Exit, Failure> {
    let project = session.project_to_compute()?;
    let model = match &args.model {
        Some(model) => model.clone(),
        None => ModelRef { model: project.train.name.clone(), which: Which::Alias(champion()?) },
    };
    let extension = args.out.extension().and_then(|it| it.to_str()).unwrap_or_default();
    if !["parquet", "csv", "jsonl"].contains(&extension.to_ascii_lowercase().as_str()) {
        return Err(Failure::new(
            "out-format",
            Exit::Usage,
            format!(
                "`{}` ends in `.{extension}`: expected `.parquet`, `.csv` or `.jsonl`",
                args.out.display()
            ),
        ));
    }
    let workshop = session.open_existing()?;
    let lab = session.lab(&workshop);
    let version = lab.resolve(&model)?;
    let options = ScoreOptions {
        batch_size: args.batch_size.unwrap_or(project.score.batch_size),
        quarantine_max: project.score.quarantine_max,
        device: project.train.device.clone(),
    };
    let input: Vec<String> =
        args.input.iter().map(|it| absolute(session, it)).collect::<Result<_, _>>()?;
    let out = session.path(&args.out);
    let quarantine = quarantine_of(&out);
    let summary =
        lab.score_files(&mut session.observer(), &version.manifest, &input, &out, &options)?;
    let is_quarantined = 0 < summary.n_quarantined;
    let kept = match is_quarantined {
        true => format!(" in {}", quarantine.display()),
        false => String::new(),
    };
    session.text(&format!(
        "{}  {} rows scored with {}, {} quarantined{kept}",
        out.display(),
        thousands(summary.n_rows),
        version.label(),
        thousands(summary.n_quarantined)
    ));
    let quarantine = Some(quarantine).filter(|_| is_quarantined);
    session.json(&json!({ "event": "scored", "model": version.label(), "out": out, "quarantine": quarantine, "summary": summary }));
    Ok(if summary.n_rows == 0 { Exit::Nothing } else { Exit::Pass })
}

/// Inputs are relative to where the command was typed, which `-C DIR` moves.
fn absolute(session: &Session, pattern: &str) -> Result<String, Failure> {
    let path = std::path::absolute(session.path(pattern.as_ref())).map_err(|error| {
        Failure::new("input-invalid", Exit::Usage, format!("`{pattern}` is not a path"))
            .because(&error)
    })?;
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Failure::new(
            "input-invalid",
            Exit::Usage,
            format!("`{}` is not valid UTF-8", path.display()),
        )
    })
}

/// The alias used unless told otherwise.
pub(crate) fn champion() -> Result<Name, Failure> {
    CHAMPION.parse().map_err(|error| {
        Failure::new("internal", Exit::Run, format!("internal error: {error}; this is a bug"))
    })
}
