//! `karat gate`: decide; the exit code is the verdict.

use karat_core::{Exit, Failure, ModelRef, Name};
use karat_pipeline::{Baseline, Checked, exit_of, pick_gate};
use karat_store::Access;

use crate::{args::GateArgs, context::Session, render::summary};

pub(crate) fn run(session: &Session, args: &GateArgs) -> Result<Exit, Failure> {
    let project = session.project()?;
    let policy = session.policy()?;
    let (gate, candidate) = parse(&args.what)?;
    let gate = pick_gate(&policy, gate.as_ref())?;
    let schema = session.schema(&project, &project.train.dataset)?;
    let workshop = session.open(Access::ReadWrite)?;
    let lab = session.lab(&workshop);
    let candidate = match candidate {
        Some(reference) => lab.resolve(&reference)?,
        None => lab.newest(&project.train.name)?,
    };
    let baseline = match &args.baseline {
        Some(reference) => Baseline::Given(lab.resolve(reference)?),
        None => Baseline::AsDeclared,
    };
    let dataset = project.dataset(&project.train.dataset)?;
    let mut observer = session.observer();
    let frozen = lab.freeze(&mut observer, dataset, schema)?;
    let checked: Checked = lab.check(&mut observer, &project, &frozen)?;
    let decided =
        lab.decide(&mut observer, &project, &policy, gate, &frozen, &candidate, &baseline)?;
    let exit = exit_of(&decided.verdict);
    let mut report = lab.summary(&project, &frozen, &checked);
    report.verdict = Some(decided.verdict);
    report.verdict_digest = Some(decided.digest);
    let mut at = None;
    if let Some(out) = &args.out {
        let mut files = lab.keep_reports(&report, super::run::reports)?;
        files.insert("verdict.json".to_owned(), decided.digest);
        super::run::copy_out(&workshop.store, out, &files)?;
        at = Some(out.join("report.html").display().to_string());
    }
    let next = match exit {
        Exit::Pass => vec![format!("karat promote {}   moves the alias", candidate.label())],
        _ => Vec::new(),
    };
    let paint = session.with_screen(|screen| screen.stdout_paint());
    session.text(&summary::render(&report, at.as_deref(), &next, paint));
    session.json(
        &serde_json::json!({ "event": "gate_finished", "exit": exit.code(), "summary": report }),
    );
    Ok(exit)
}

fn parse(what: &[String]) -> Result<(Option<Name>, Option<ModelRef>), Failure> {
    let usage = |error: karat_core::ParseNameError| {
        Failure::new("reference-invalid", Exit::Usage, error.to_string())
            .hint("`karat gate release flights@3`: a gate, then a candidate; both may be left out")
    };
    let (mut gate, mut candidate) = (None, None);
    for word in what {
        if word.contains('@') {
            candidate = Some(word.parse().map_err(usage)?);
        } else {
            gate = Some(word.parse().map_err(usage)?);
        }
    }
    Ok((gate, candidate))
}
