//! `karat run`: the whole way.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use karat_core::{Digest, Exit, Failure, summary::RunSummary};
use karat_pipeline::{AfterPass, Whole, pick_gate};
use karat_store::{Access, Store};

use crate::{
    args::RunArgs,
    context::{STATE_DIR, Session},
    render::summary,
};

pub(crate) fn run(session: &Session, args: &RunArgs) -> Result<Exit, Failure> {
    let project = session.project()?;
    let policy = session.policy()?;
    let gate = pick_gate(&policy, args.gate.as_ref())?;
    let schema = session.schema(&project, &project.train.dataset)?;
    let workshop = session.open(Access::ReadWrite)?;
    let lab = session.lab(&workshop);
    let after = if args.dry_run { AfterPass::Leave } else { AfterPass::Promote };
    let whole = lab.run(&mut session.observer(), &project, schema, &policy, gate, after)?;
    super::snapshot::write_pointer(session, &whole.frozen.located.snapshot)?;

    let files = lab.keep_reports(&whole.summary, reports)?;
    let at = place_reports(session, &workshop.store, &whole, &files)?;
    if let Some(out) = &args.out {
        copy_out(&workshop.store, out, &whole.outputs)?;
        copy_out(&workshop.store, out, &files)?;
    }
    if let Some(refusal) = whole.refusal {
        return Err(refusal);
    }
    let shown = args.out.as_ref().map_or(at, |out| out.join("report.html"));
    let next = advice(session, &whole);
    let paint = session.with_screen(|screen| screen.stdout_paint());
    session.text(&summary::render(
        &whole.summary,
        Some(&shown.display().to_string()),
        &next,
        paint,
    ));
    session.json(&serde_json::json!({ "event": "run_finished", "exit": whole.exit.code(), "summary": whole.summary }));
    Ok(whole.exit)
}

/// Every report by file name. One summary object, so no place tells another story.
pub(crate) fn reports(summary: &RunSummary) -> Vec<(&'static str, String)> {
    vec![
        ("report.md", karat_report::report_md(summary)),
        ("report.html", karat_report::report_html(summary)),
        ("report.json", karat_report::report_json(summary)),
        ("junit.xml", karat_report::junit_xml(summary)),
        ("metrics.json", karat_report::metrics_json(summary)),
        ("metrics.txt", karat_report::openmetrics(summary)),
        ("MODEL_CARD.md", karat_report::model_card(summary)),
    ]
}

/// A readable copy of the stored reports under `.karat/reports/<candidate>/`; returns where the page lies.
fn place_reports(
    session: &Session,
    store: &Store,
    whole: &Whole,
    files: &BTreeMap<String, Digest>,
) -> Result<PathBuf, Failure> {
    let name = whole.summary.train.as_ref().map_or("checks", |it| it.version.as_str());
    let folder = session.root().join(STATE_DIR).join("reports").join(name);
    copy_out(store, &folder, files)?;
    Ok(folder.join("report.html"))
}

/// `--out DIR`: every artifact under its plain name.
pub(crate) fn copy_out(
    store: &Store,
    out: &Path,
    outputs: &BTreeMap<String, Digest>,
) -> Result<(), Failure> {
    for (name, digest) in outputs {
        karat_store::write_durably(&out.join(name), &store.read(digest)?)?;
    }
    Ok(())
}

fn advice(session: &Session, whole: &Whole) -> Vec<String> {
    let dir = match session.root().to_str() {
        Some(".") | None => String::new(),
        Some(dir) => format!(" -C {dir}"),
    };
    let model = whole
        .summary
        .train
        .as_ref()
        .map_or("MODEL", |it| it.version.split('@').next().unwrap_or("MODEL"));
    match whole.exit {
        Exit::Pass => vec![
            format!(
                "karat{dir} run --set train.hidden=[128,128]   judges a smaller model against the champion"
            ),
            format!(
                "karat{dir} score --model {model}@champion --out scores.parquet FILE…   scores new rows"
            ),
        ],
        Exit::Inconclusive => vec![
            "label more rows of the slices named above, or widen the margin in gate.toml"
                .to_owned(),
            format!("karat{dir} show {model}@champion   shows what is in use"),
        ],
        _ => vec![
            format!(
                "karat{dir} compare {model}@champion {}   shows the two side by side",
                whole.summary.train.as_ref().map_or("", |it| &it.version)
            ),
            format!(
                "karat{dir} promote VERSION --force --reason TEXT   overrides the gate and records who did"
            ),
        ],
    }
}
