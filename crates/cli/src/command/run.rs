//! `karat run`: the whole way.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use karat_core::{Digest, Event, Exit, Failure, Observer, ParseNameError, summary::RunSummary};
use karat_pipeline::{AfterPass, Lab, Whole, pick_gate};
use karat_store::{Access, Store};
use karat_track::Server;

use crate::{
    args::RunArgs,
    command::sign,
    context::{STATE_DIR, Session, shell_word},
    render::summary,
    track::{self, News},
};

pub(crate) fn run(session: &Session, args: &RunArgs) -> Result<Exit, Failure> {
    let mut project = session.project_to_compute()?;
    project.train.max_seconds = args.max_time.or(project.train.max_seconds);
    let policy = session.policy()?;
    let gate = pick_gate(&policy, args.gate.as_ref())?;
    let schema = session.schema(&project, &project.train.dataset)?;
    let server = track::server(session, args.track.as_deref())?;
    let workshop = session.open(Access::ReadWrite)?;
    let lab = session.lab(&workshop);
    let key = args.key.as_ref().map(|it| sign::read_signing_key(session, it)).transpose()?;
    let signer = key.as_ref().map(sign::signer);
    let after = if args.dry_run { AfterPass::Leave } else { AfterPass::Promote };
    let mut observer = session.observer();
    let whole = lab.run_and_sign(&mut observer, &project, schema, &policy, gate, after, signer)?;
    let shown = write_all(session, &lab, args, &whole);
    show_elsewhere(session, server.as_ref(), &lab, &whole)?;
    session.json(&serde_json::json!({ "event": "run_finished", "exit": whole.exit.code(), "summary": whole.summary }));
    if let Some(refusal) = whole.refusal {
        return Err(refusal);
    }
    let shown = shown.map(|it| it.display().to_string());
    let next = advice(session, &whole);
    let paint = session.with_screen(|screen| screen.stdout_paint());
    session.text(&summary::render(&whole.summary, shown.as_deref(), &next, paint));
    Ok(whole.exit)
}

/// `--track`: training, verdict, reports and alias.
fn show_elsewhere(
    session: &Session,
    server: Option<&Server>,
    lab: &Lab<'_>,
    whole: &Whole,
) -> Result<(), Failure> {
    let summary = &whole.summary;
    let (Some(_), Some(train)) = (server, &summary.train) else { return Ok(()) };
    let usage =
        |error: ParseNameError| Failure::new("reference-invalid", Exit::Usage, error.to_string());
    let version = lab.resolve(&train.version.parse().map_err(usage)?)?;
    // Rendered a moment ago, when they could be: then this is what was kept.
    let reports = lab.keep_reports(summary, reports).unwrap_or_default();
    let verdict = summary.verdict.as_ref().zip(summary.verdict_digest);
    let news = News { verdict, reports, promotion: summary.promotion.as_ref() };
    track::tell(session, server, lab.store, &version, &news);
    Ok(())
}

/// Pointer file, reports, `--out`: each as far as it goes. The verdict stands whatever becomes of them. Returns where
/// the page lies.
fn write_all(session: &Session, lab: &Lab<'_>, args: &RunArgs, whole: &Whole) -> Option<PathBuf> {
    let snapshot = &whole.frozen.located.snapshot;
    let pointer = super::snapshot::write_pointer(session, snapshot);
    let _ = or_warn(session, "the pointer file", pointer);
    let out = args.out.as_ref().map(|it| session.path(it));
    let mut is_out = out.is_some();
    if let Some(out) = &out {
        is_out &= or_warn(session, "`--out`", copy_out(lab.store, out, &whole.outputs)).is_some();
    }
    let files = or_warn(session, "the reports", lab.keep_reports(&whole.summary, reports))?;
    let placed = place_reports(session, lab.store, whole, &files);
    let placed = or_warn(session, "the copy of the reports", placed);
    match out {
        // One warning about a folder that cannot be written to is enough.
        Some(out) if is_out => {
            let copied = copy_out(lab.store, &out, &files);
            or_warn(session, "`--out`", copied).map(|()| out.join("report.html")).or(placed)
        }
        _ => placed,
    }
}

/// What was recorded stands; what could not be written for people is a warning.
pub(crate) fn or_warn<T>(session: &Session, what: &str, done: Result<T, Failure>) -> Option<T> {
    match done {
        Ok(value) => Some(value),
        Err(failure) => {
            let causes: String = failure.causes.iter().map(|it| format!(": {it}")).collect();
            session.observer().observe(Event::Warned {
                code: "reports-not-written".to_owned(),
                message: format!("{what}: {}{causes}", failure.message),
            });
            None
        }
    }
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
        refuse_path(name)?;
        karat_store::write_durably(&out.join(name), &store.read(digest)?)?;
    }
    Ok(())
}

/// Names of outputs stand in records, and a store may come from a cache that others could write to: none becomes a path.
fn refuse_path(name: &str) -> Result<(), Failure> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(is_plain) {
        return Ok(());
    }
    let shown: String = name.chars().take(80).collect();
    Err(Failure::new("output-name", Exit::Run, format!("output `{shown}` is no plain file name"))
        .detail("nothing more was copied")
        .hint("`karat verify` checks the whole store; this name is none that karat gives"))
}

/// What to try next, true of this outcome: no champion is named where there is none.
fn advice(session: &Session, whole: &Whole) -> Vec<String> {
    let karat = session.karat();
    let Some(train) = &whole.summary.train else { return Vec::new() };
    let version = &train.version;
    let promotion = whole.summary.promotion.as_ref();
    let champion = promotion.filter(|it| it.to.is_some());
    match whole.exit {
        Exit::Pass => {
            let other = another(&train.spec);
            let used = match champion {
                Some(it) if it.to.as_ref() == Some(version) => &it.alias,
                _ => version,
            };
            vec![
                format!(
                    "{karat} run --set {}   judges another model against the champion",
                    shell_word(other)
                ),
                format!(
                    "{karat} score --model {used} --out scores.parquet FILE…   scores new rows"
                ),
            ]
        }
        Exit::Inconclusive => {
            let mut next = vec![
                "label more rows of the slices named above, or widen the margin in gate.toml"
                    .to_owned(),
            ];
            next.extend(
                champion.map(|it| format!("{karat} show {}   shows what is in use", it.alias)),
            );
            next
        }
        _ => {
            let mut next = Vec::new();
            if let Some(it) = champion.filter(|it| it.to.as_ref() != Some(version)) {
                next.push(format!(
                    "{karat} compare {} {version}   shows the two side by side",
                    it.alias
                ));
            }
            next.push(format!(
                "{karat} promote {version} --force --reason TEXT   overrides the gate and records who did"
            ));
            next
        }
    }
}

/// A setting that this model has, at another value.
fn another(spec: &serde_json::Value) -> &'static str {
    let hidden = &spec["model"]["hidden"];
    if !hidden.is_array() {
        "train.learning_rate=0.003"
    } else if *hidden == serde_json::json!([128, 128]) {
        "train.hidden=[64,64]"
    } else {
        "train.hidden=[128,128]"
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::another;

    #[test]
    fn what_to_try_next_is_a_setting_of_this_model_at_another_value() {
        assert_eq!(another(&json!({"model": {"kind": "linear"}})), "train.learning_rate=0.003");
        let mlp = |hidden: &[u32]| json!({"model": {"kind": "mlp", "hidden": hidden}});
        assert_eq!(another(&mlp(&[16])), "train.hidden=[128,128]");
        assert_eq!(another(&mlp(&[128, 128])), "train.hidden=[64,64]");
    }
}
