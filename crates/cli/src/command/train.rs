//! `karat train`: produce checkpoints and a candidate.

use karat_core::{Exit, Failure, Project};
use karat_pipeline::{Frozen, Lab};
use karat_store::{Access, RunRecord};
use serde_json::{Value, json};

use crate::{
    args::TrainArgs,
    context::Session,
    track::{self, News},
};

pub(crate) fn run(session: &Session, args: &TrainArgs) -> Result<Exit, Failure> {
    let mut project = session.project_to_compute()?;
    project.train.max_seconds = args.max_time.or(project.train.max_seconds);
    let schema = session.schema(&project, &project.train.dataset)?;
    let server = track::server(session, args.track.as_deref())?;
    let workshop = session.open(Access::ReadWrite)?;
    let lab = session.lab(&workshop);
    let dataset = project.dataset(&project.train.dataset)?;
    let frozen = lab.freeze(&mut session.observer(), dataset, schema)?;
    if let Some(id) = &args.resume {
        let run = workshop.store.run(id)?;
        if run.key != lab.train_key(&project, &frozen)? {
            let now = project.train.device.clone();
            project.train.device_policy.began_on = Some(run.device.clone());
            if run.key != lab.train_key(&project, &frozen)? {
                return Err(mismatch(&lab, &project, &frozen, &run)?);
            }
            if !args.allow_device_change {
                return Err(other_device(&run, &now));
            }
        }
    }
    let checked = lab.check(&mut session.observer(), &project, &frozen)?;
    if let Some(refusal) = checked.refusal(&frozen) {
        return Err(refusal);
    }
    let trained = lab.train(&mut session.observer(), &project, &frozen)?;
    lab.train_seeds(&mut session.observer(), &project, &frozen)?;
    if let Some(out) = &args.out {
        super::run::copy_out(&workshop.store, &session.path(out), &trained.outputs)?;
    }
    session.text(&format!(
        "\n{}  run {}, model {}\nnext     {} gate {}   judges it",
        trained.version.label(),
        trained.run,
        trained.manifest_digest.short(),
        session.karat(),
        trained.version.label()
    ));
    let (store, news) = (&workshop.store, News::default());
    track::tell(session, server.as_ref(), store, &trained.version, &news);
    session.json(&json!({ "event": "trained", "version": trained.version.label(), "run": trained.run, "model": trained.manifest_digest }));
    Ok(Exit::Pass)
}

fn mismatch(
    lab: &Lab<'_>,
    project: &Project,
    frozen: &Frozen,
    run: &RunRecord,
) -> Result<Failure, Failure> {
    let now = lab.train_spec(project, frozen)?;
    let mut failure = Failure::new(
        "resume-mismatch",
        Exit::Usage,
        format!(
            "cannot resume run `{}`: data or configuration have changed since it began",
            run.id
        ),
    );
    for line in differences("", &run.spec, &now).into_iter().take(20) {
        failure = failure.detail(line);
    }
    for (name, digest) in &run.inputs {
        if *digest != frozen.digest {
            failure = failure.detail(format!(
                "{name}: {} in the run, {} now",
                digest.short(),
                frozen.digest.short()
            ));
        }
    }
    Ok(failure.hint("`karat train` without `--resume` starts a new run"))
}

fn other_device(run: &RunRecord, now: &str) -> Failure {
    Failure::new(
        "resume-mismatch",
        Exit::Usage,
        format!("cannot resume run `{}`: it began on another device", run.id),
    )
    .detail(format!("device: {} in the run, {now} now", run.device))
    .hint(format!("`karat train --resume {} --device {}` continues where it began", run.id, run.device))
    .hint(format!(
        "`karat train --resume {} --device {now} --allow-device-change` continues here, recorded as no longer repeatable bit for bit",
        run.id
    ))
}

/// `train.model.hidden: [256] in the run, [512] now`.
fn differences(path: &str, old: &Value, new: &Value) -> Vec<String> {
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            keys.into_iter()
                .flat_map(|key| {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    differences(
                        &path,
                        a.get(key).unwrap_or(&Value::Null),
                        b.get(key).unwrap_or(&Value::Null),
                    )
                })
                .collect()
        }
        (a, b) if a == b => Vec::new(),
        (a, b) => vec![format!("{path}: {a} in the run, {b} now")],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn differences_name_the_path_and_both_values() {
        let found = super::differences(
            "",
            &json!({"a": {"b": 1, "c": 2}}),
            &json!({"a": {"b": 1, "c": 3}}),
        );
        assert_eq!(found, ["a.c: 2 in the run, 3 now"]);
    }
}
