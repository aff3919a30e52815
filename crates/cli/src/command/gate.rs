//! `karat gate`: decide; the exit code is the verdict.

use karat_core::{Exit, Failure, ModelRef, Name, ParseNameError};
use karat_pipeline::{Baseline, Case, exit_of, pick_gate};

use crate::{
    args::GateArgs,
    context::Session,
    render::summary,
    track::{self, News},
};

pub(crate) fn run(session: &Session, args: &GateArgs) -> Result<Exit, Failure> {
    let project = session.project_to_compute()?;
    let policy = session.policy()?;
    let (gate, candidate) = parse(&args.what)?;
    let gate = pick_gate(&policy, gate.as_ref())?;
    if let Some(rule) = &args.explain {
        karat_gate::demand_rule(gate, rule)?;
    }
    let server = track::server(session, args.track.as_deref())?;
    let schema = session.schema(&project, &project.train.dataset)?;
    let workshop = session.open_existing()?;
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
    let checked = &lab.check(&mut observer, &project, &frozen)?;
    let (candidate, baseline) = (&candidate, &baseline);
    let (project, policy, frozen) = (&project, &policy, &frozen);
    let case = Case { project, policy, gate, frozen, checked, candidate, baseline };
    let decided = lab.decide(&mut observer, &case)?;
    let asked = args.explain.as_deref();
    let explanation = asked.map(|rule| lab.explain(&case, &decided, rule)).transpose()?;
    let exit = exit_of(&decided.verdict);
    let mut report = lab.summary(project, frozen, checked);
    report.verdict = Some(decided.verdict);
    report.verdict_digest = Some(decided.digest);
    let mut at = None;
    if let Some(out) = &args.out {
        let out = session.path(out);
        let written = lab.keep_reports(&report, super::run::reports).and_then(|mut files| {
            files.insert("verdict.json".to_owned(), decided.digest);
            super::run::copy_out(&workshop.store, &out, &files)
        });
        at = super::run::or_warn(session, "the reports", written)
            .map(|()| out.join("report.html").display().to_string());
    }
    if server.is_some() {
        let mut reports = lab.keep_reports(&report, super::run::reports).unwrap_or_default();
        reports.insert("verdict.json".to_owned(), decided.digest);
        let verdict = report.verdict.as_ref().zip(report.verdict_digest);
        let news = News { verdict, reports, ..News::default() };
        track::tell(session, server.as_ref(), &workshop.store, candidate, &news);
    }
    let next = match exit {
        Exit::Pass => {
            vec![format!("{} promote {}   moves the alias", session.karat(), candidate.label())]
        }
        _ => Vec::new(),
    };
    let paint = session.with_screen(|screen| screen.stdout_paint());
    session.text(&summary::render(&report, at.as_deref(), &next, paint));
    if let Some(explanation) = &explanation {
        session.text(&format!("\n{explanation}"));
    }
    session.json(&serde_json::json!({
        "event": "gate_finished",
        "exit": exit.code(),
        "summary": report,
        "explanation": explanation,
    }));
    Ok(exit)
}

/// A word with `@` is a candidate, one without is a gate; at most one of each.
pub(super) fn parse(what: &[String]) -> Result<(Option<Name>, Option<ModelRef>), Failure> {
    let refuse = |message: String| {
        Failure::new("reference-invalid", Exit::Usage, message)
            .hint("`karat gate release flights@3`: a gate, then a candidate; both may be left out")
    };
    let usage = |error: ParseNameError| refuse(error.to_string());
    let (mut gate, mut candidate): (Option<Name>, Option<ModelRef>) = (None, None);
    for word in what {
        if word.contains('@') {
            if let Some(first) = candidate.replace(word.parse().map_err(usage)?) {
                return Err(refuse(format!("`{first}` and `{word}` are both candidates")));
            }
        } else if let Some(first) = gate.replace(word.parse().map_err(usage)?) {
            return Err(refuse(format!("`{first}` and `{word}` are both gates")));
        }
    }
    Ok((gate, candidate))
}
