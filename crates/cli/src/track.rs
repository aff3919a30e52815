//! `--track`: what the store has, as an MLflow server is told it. Whatever becomes of it is a warning at most.

use std::collections::BTreeMap;

use karat_core::{
    Digest, Event, Exit, Failure, Observer as _, UpdateRecord, Verdict, summary::PromotionSummary,
};
use karat_store::{RunRecord, Store, VersionRecord};
use karat_track::{Address, Artifact, Judgement, Move, Patience, Point, Record, Server, Training};
use serde_json::{Value, json};

use crate::{context::Session, env};

/// Updates whose numbers are sent; of a longer training, evenly spread ones.
const UPDATES_MAX: usize = 10_000;
/// What a training's log is called among its outputs.
const LOG: &str = "metrics.jsonl";

/// What there is to tell, beside the version.
#[derive(Default)]
pub(crate) struct News<'a> {
    pub(crate) verdict: Option<(&'a Verdict, Digest)>,
    pub(crate) reports: BTreeMap<String, Digest>,
    pub(crate) promotion: Option<&'a PromotionSummary>,
}

/// The server of `--track`, else of the environment; `None` when neither names one.
pub(crate) fn server(session: &Session, flag: Option<&str>) -> Result<Option<Server>, Failure> {
    let (text, is_typed) = match (flag, env::mlflow_uri()) {
        (Some(text), _) => (text.to_owned(), true),
        (None, Some(text)) => (text, false),
        (None, None) => return Ok(None),
    };
    let address: Address = match text.parse() {
        Ok(address) => address,
        Err(error) if is_typed => {
            return Err(Failure::new("tracking-address-invalid", Exit::Usage, error.to_string())
                .hint("`--track mlflow://127.0.0.1:5000` is a server started by `mlflow server`"));
        }
        // Set for other programs, perhaps, to something that only they read.
        Err(error) => {
            warn(session, &format!("{}: {error}", env::MLFLOW_URI));
            return Ok(None);
        }
    };
    let address = match (address.is_anonymous(), env::mlflow_credentials()) {
        (true, (Some(token), _)) => address.with_token(&token),
        (true, (None, Some((user, password)))) => address.with_password(&user, &password),
        _ => address,
    };
    Ok(Some(Server::new(address, Patience::default())))
}

/// Tells `server`, if there is one, about a version and what became of it.
pub(crate) fn tell(
    session: &Session,
    server: Option<&Server>,
    store: &Store,
    version: &VersionRecord,
    news: &News<'_>,
) {
    let Some(server) = server else { return };
    let told = match record(session, store, version, news) {
        Ok(record) => server.tell(&record),
        Err(failure) => return warn(session, &failure.message),
    };
    match told {
        Ok(told) => {
            for note in &told.notes {
                warn(session, note);
            }
            let there = told
                .version
                .as_ref()
                .map_or_else(String::new, |it| format!(", {} version {it}", version.model));
            session.text(&format!("tracked  {} run {}{there}", server.address(), told.run_id));
            session.json(&json!({ "event": "tracked", "server": server.address().to_string(), "run": told.run_id, "version": told.version }));
        }
        Err(error) => {
            let cause =
                std::error::Error::source(&error).map_or_else(String::new, |it| format!(": {it}"));
            warn(session, &format!("{error}{cause}"));
        }
    }
}

fn warn(session: &Session, message: &str) {
    session
        .observer()
        .observe(Event::Warned { code: "tracking-failed".to_owned(), message: message.to_owned() });
}

fn record(
    session: &Session,
    store: &Store,
    version: &VersionRecord,
    news: &News<'_>,
) -> Result<Record, Failure> {
    let run = store.run(&version.run.0)?;
    let ended_at = run.ended_at.unwrap_or(run.started_at);
    let points = match run.outputs.get(LOG) {
        Some(log) => updates(&store.read(log)?, ended_at),
        None => Vec::new(),
    };
    let step = points.iter().map(|it| it.step).max().unwrap_or(0);
    let snapshot = run.inputs.get("snapshot").map(Digest::to_string).unwrap_or_default();
    let training = Training {
        run: run.id.to_string(),
        model: version.model.to_string(),
        version: version.label(),
        started_at: run.started_at,
        ended_at,
        params: params(&run),
        tags: tags(&run),
        points,
        dataset: (run.subject.clone(), snapshot),
        files: files(store, "model", &version.outputs)?,
    };
    let judgement = match news.verdict {
        None => None,
        Some((verdict, digest)) => Some(Judgement {
            verdict: digest.to_string(),
            points: numbers(verdict, step),
            tags: verdict_tags(verdict, digest),
            files: files(store, "reports", &news.reports)?,
        }),
    };
    let moved = news.promotion.filter(|it| it.to.as_deref() == Some(&version.label()));
    Ok(Record {
        experiment: experiment(session, version),
        training,
        judgement,
        moved: moved.map(moved_to),
    })
}

/// The project's name; where its file cannot be read any more, the model's.
fn experiment(session: &Session, version: &VersionRecord) -> String {
    session.project().map_or_else(|_| version.model.to_string(), |it| it.name.to_string())
}

fn moved_to(it: &PromotionSummary) -> Move {
    let alias = it.alias.rsplit('@').next().unwrap_or_default().to_owned();
    let mut tags = BTreeMap::from([("promoted_because".to_owned(), it.reason.clone())]);
    if it.is_moved {
        tags.insert(
            "promoted_from".to_owned(),
            it.from.clone().unwrap_or_else(|| "none".to_owned()),
        );
        tags.insert("promoted_at".to_owned(), env::now().to_string());
        tags.insert("promoted_by".to_owned(), env::actor());
    }
    Move { alias, tags }
}

/// Losses, learning rates and gradient norms by update.
fn updates(log: &[u8], at: karat_core::Timestamp) -> Vec<Point> {
    let lines: Vec<UpdateRecord> =
        log.split(|it| *it == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let every = lines.len().div_ceil(UPDATES_MAX).max(1);
    let last = lines.len().saturating_sub(1);
    let shown = lines.iter().enumerate().filter(|(i, _)| i % every == 0 || *i == last);
    shown
        .flat_map(|(_, it)| {
            let point =
                |key: &str, value| Point { key: key.to_owned(), value, step: it.update, at };
            [
                point("loss", it.loss),
                point("learning_rate", it.learning_rate),
                point("gradient_norm", it.gradient_norm),
            ]
        })
        .collect()
}

/// `auc`, `auc/carrier=UA`, with the ends of their intervals.
fn numbers(verdict: &Verdict, step: u64) -> Vec<Point> {
    let at = env::now();
    let mut points = Vec::new();
    for cell in &verdict.report.cells {
        let name = match cell.slice.as_str() {
            "all" => cell.metric.word().to_owned(),
            slice => format!("{}/{slice}", cell.metric.word()),
        };
        let ends = cell.interval.map(|[low, high]| [("_low", low), ("_high", high)]);
        let values = cell.value.map(|it| ("", it)).into_iter().chain(ends.into_iter().flatten());
        points.extend(values.map(|(end, value)| Point {
            key: format!("{name}{end}"),
            value,
            step,
            at,
        }));
    }
    points
}

fn params(run: &RunRecord) -> BTreeMap<String, String> {
    let mut params = BTreeMap::new();
    flatten("", &run.spec, &mut params);
    params.extend(run.seed.map(|it| ("seed".to_owned(), it.to_string())));
    params.insert("device".to_owned(), run.device.clone());
    params
}

/// `train.hidden` = `[256,256]`: objects become dots, lists stay as they are.
fn flatten(path: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&path, value, into);
            }
        }
        Value::Null => {}
        Value::String(text) => drop(into.insert(path.to_owned(), text.clone())),
        other => drop(into.insert(path.to_owned(), other.to_string())),
    }
}

fn tags(run: &RunRecord) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::from([
        ("mlflow.user".to_owned(), env::actor()),
        ("mlflow.source.type".to_owned(), "JOB".to_owned()),
        ("mlflow.source.name".to_owned(), "karat train".to_owned()),
        ("karat.tool".to_owned(), run.tool.clone()),
    ]);
    let commit = run.code.commit.clone();
    tags.extend(commit.map(|it| ("mlflow.source.git.commit".to_owned(), it)));
    for (name, digest) in &run.inputs {
        tags.insert(format!("karat.input.{name}"), digest.to_string());
    }
    for file in run.code.dvc.iter().flat_map(|it| &it.files) {
        tags.insert(format!("dvc.{}", file.path), file.md5.clone());
    }
    tags
}

fn verdict_tags(verdict: &Verdict, digest: Digest) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::from([
        ("verdict_digest".to_owned(), digest.to_string()),
        ("karat.outcome".to_owned(), verdict.outcome.word().to_owned()),
        ("karat.gate".to_owned(), verdict.gate.clone()),
        ("karat.baseline".to_owned(), verdict.baseline.clone()),
        ("karat.policy".to_owned(), verdict.judged.policy.to_string()),
    ]);
    let used = verdict.ledger.as_ref().map(crate::render::summary::used);
    tags.extend(used.map(|it| ("karat.ledger".to_owned(), it)));
    tags
}

/// Files of the store, each checked against its digest before somebody else is given it.
fn files(
    store: &Store,
    folder: &str,
    outputs: &BTreeMap<String, Digest>,
) -> Result<Vec<Artifact>, Failure> {
    let mut files = Vec::new();
    for (name, digest) in outputs {
        if store.contains(digest, true)? {
            files.push(Artifact { name: format!("{folder}/{name}"), path: store.path(digest) });
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use karat_core::{Timestamp, UpdateRecord};
    use serde_json::json;

    #[test]
    fn parameters_are_flat_and_long_trainings_are_thinned_but_end_where_they_ended() {
        let mut flat = BTreeMap::new();
        super::flatten(
            "",
            &json!({ "train": { "hidden": [8, 4], "seed": 1, "x": null }, "a": "b" }),
            &mut flat,
        );
        let flat: Vec<(&str, &str)> = flat.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(flat, [("a", "b"), ("train.hidden", "[8,4]"), ("train.seed", "1")]);
        let line = |update| UpdateRecord {
            update,
            loss: 0.5,
            learning_rate: 0.1,
            gradient_norm: f64::NAN,
            n_rows: 8,
            weights: None,
        };
        let log: Vec<String> =
            (1..=25_000).map(|it| serde_json::to_string(&line(it)).expect("a line")).collect();
        let points = super::updates(log.join("\n").as_bytes(), Timestamp(7));
        assert!(points.len() <= 3 * (super::UPDATES_MAX + 1), "{}", points.len());
        assert_eq!(points.iter().map(|it| it.step).max(), Some(25_000));
        assert!(points[2].value.is_nan());
    }
}
