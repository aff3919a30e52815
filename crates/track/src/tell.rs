//! The calls, in order. Each looks first what the server has: telling the same again, or going on after a crash, adds only
//! what is missing.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    Address, Artifact, Judgement, Move, Patience, Point, Record, TrackError, Training,
    http::{ABSENT, EXISTS, Http},
    limits,
};

/// Tag of a run there: the id of ours.
const OUR_RUN: &str = "karat.run";
/// Tag of a run whose training was told to its end.
const TOLD: &str = "karat.training_told";
/// Tag of a run: the digest of the verdict that was told last.
const OUR_VERDICT: &str = "karat.verdict";
/// Tag of a version there: ours.
const OUR_VERSION: &str = "karat.version";
/// Looks at a version that is still being made there.
const LOOKS_MAX: u32 = 20;

/// An MLflow server.
pub struct Server {
    http: Http,
    looks: std::time::Duration,
}

/// What a server was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its id of the run.
    pub run_id: String,
    /// Its number of the version; absent when it could not be registered there.
    pub version: Option<String>,
    /// What it could not be told, and why.
    pub notes: Vec<String>,
}

/// A run of the server.
struct Run {
    id: String,
    artifact_uri: String,
    tags: BTreeMap<String, String>,
    /// The last step of every number.
    steps: BTreeMap<String, u64>,
}

impl Server {
    /// Nothing is sent yet.
    #[must_use]
    pub fn new(address: Address, patience: Patience) -> Self {
        Self { http: Http::new(address, patience), looks: patience.first }
    }

    /// Where it is; without user and password.
    #[must_use]
    pub const fn address(&self) -> &Address {
        self.http.address()
    }

    /// Tells everything that the server has not been told.
    pub fn tell(&self, record: &Record) -> Result<Told, TrackError> {
        let mut notes = Vec::new();
        let training = &record.training;
        let experiment = self.experiment(&record.experiment)?;
        let run = match self.find_run(&experiment, &training.run)? {
            Some(run) => run,
            None => self.create_run(&experiment, training)?,
        };
        if !run.tags.contains_key(TOLD) {
            self.tell_training(&run, training, &mut notes)?;
        }
        let version = self.version(&run, training, &mut notes)?;
        if let Some(judgement) = &record.judgement
            && run.tags.get(OUR_VERDICT) != Some(&judgement.verdict)
        {
            self.tell_judgement(&run, judgement, version.as_deref(), training, &mut notes)?;
        }
        if let (Some(moved), Some(version)) = (&record.moved, &version) {
            self.point(&training.model, moved, version, &mut notes)?;
        }
        Ok(Told { run_id: run.id, version, notes })
    }

    fn experiment(&self, name: &str) -> Result<String, TrackError> {
        let name = limits::key(name);
        let get = || {
            let call = "experiments/get-by-name";
            let found = self.http.get(call, &[("experiment_name", &name)])?;
            self.id(call, &found["experiment"]["experiment_id"])
        };
        let create = || {
            let call = "experiments/create";
            self.id(call, &self.http.post(call, &json!({ "name": name }))?["experiment_id"])
        };
        match get() {
            // Somebody else may make it between the two.
            Err(error) if error.is(ABSENT) => match create() {
                Err(error) if error.is(EXISTS) => get(),
                other => other,
            },
            other => other,
        }
    }

    fn find_run(&self, experiment: &str, run: &str) -> Result<Option<Run>, TrackError> {
        let call = "runs/search";
        let filter = format!("tags.`{OUR_RUN}` = '{}'", quoted(run));
        let asked = json!({ "experiment_ids": [experiment], "filter": filter, "max_results": 1 });
        let found = self.http.post(call, &asked)?;
        found["runs"].get(0).map(|it| self.run(call, it)).transpose()
    }

    fn create_run(&self, experiment: &str, training: &Training) -> Result<Run, TrackError> {
        let call = "runs/create";
        let tags = BTreeMap::from([(OUR_RUN.to_owned(), training.run.clone())]);
        let asked = json!({
            "experiment_id": experiment,
            "run_name": training.version,
            "start_time": training.started_at.0,
            "tags": limits::tags(&tags).concat(),
        });
        let search = json!({
            "experiment_ids": [experiment],
            "filter": format!("tags.`{OUR_RUN}` = '{}'", quoted(&training.run)),
            "max_results": 1,
        });
        let created = self.http.post_once(call, &asked, &mut || {
            let found = self.http.post("runs/search", &search)?;
            Ok(found["runs"].get(0).map(|run| json!({ "run": run })))
        })?;
        self.run(call, &created["run"])
    }

    fn tell_training(
        &self,
        run: &Run,
        training: &Training,
        notes: &mut Vec<String>,
    ) -> Result<(), TrackError> {
        let log = |body: Value| self.http.post("runs/log-batch", &body);
        for params in limits::params(&training.params) {
            log(json!({ "run_id": run.id, "params": params }))?;
        }
        let mut tags = training.tags.clone();
        tags.extend(limits::nan_tags(&training.points));
        for tags in limits::tags(&tags) {
            log(json!({ "run_id": run.id, "tags": tags }))?;
        }
        let (name, digest) = &training.dataset;
        let short: String =
            digest.trim_start_matches("sha256:").chars().take(limits::DATASET_DIGEST_MAX).collect();
        let dataset = json!({
            "tags": [
                { "key": "mlflow.data.context", "value": "training" },
                { "key": "karat.digest", "value": digest },
            ],
            "dataset": { "name": name, "digest": short, "source_type": "karat", "source": digest },
        });
        self.http.post("runs/log-inputs", &json!({ "run_id": run.id, "datasets": [dataset] }))?;
        self.log_points(run, &training.points, &run.steps)?;
        self.send(run, &training.files, notes)?;
        let ended =
            json!({ "run_id": run.id, "status": "FINISHED", "end_time": training.ended_at.0 });
        self.http.post("runs/update", &ended)?;
        self.tag(run, TOLD, "true")
    }

    fn tell_judgement(
        &self,
        run: &Run,
        judgement: &Judgement,
        version: Option<&str>,
        training: &Training,
        notes: &mut Vec<String>,
    ) -> Result<(), TrackError> {
        self.log_points(run, &judgement.points, &BTreeMap::new())?;
        for tags in limits::tags(&judgement.tags) {
            self.http.post("runs/log-batch", &json!({ "run_id": run.id, "tags": tags }))?;
        }
        if let Some(version) = version {
            self.tag_version(&training.model, version, &judgement.tags)?;
        }
        self.send(run, &judgement.files, notes)?;
        self.tag(run, OUR_VERDICT, &judgement.verdict)
    }

    /// The version there, made if there is none yet.
    fn version(
        &self,
        run: &Run,
        training: &Training,
        notes: &mut Vec<String>,
    ) -> Result<Option<String>, TrackError> {
        let model = limits::key(&training.model);
        if let Some(version) = self.find_version(&model, run)? {
            return Ok(Some(version));
        }
        // The server does not look whether anything lies at the source of a version.
        if artifact_root(&run.artifact_uri).is_none() {
            notes.push(format!("{} was not registered: its files are not there", training.version));
            return Ok(None);
        }
        match self.http.post("registered-models/create", &json!({ "name": model })) {
            Err(error) if !error.is(EXISTS) => return Err(error),
            _ => {}
        }
        let call = "model-versions/create";
        let tags = BTreeMap::from([(OUR_VERSION.to_owned(), training.version.clone())]);
        let asked = json!({
            "name": model,
            "source": format!("{}/model", run.artifact_uri),
            "run_id": run.id,
            "tags": limits::tags(&tags).concat(),
        });
        let created = self.http.post_once(call, &asked, &mut || {
            let found = self.find_version(&model, run)?;
            Ok(found.map(|version| json!({ "model_version": { "version": version } })))
        })?;
        let mut found = created["model_version"].clone();
        let version = self.id(call, &found["version"])?;
        for _ in 0..LOOKS_MAX {
            match found["status"].as_str() {
                Some("PENDING_REGISTRATION") => std::thread::sleep(self.looks),
                Some("FAILED_REGISTRATION") => {
                    return Err(self.http.malformed(call, "the registration failed there"));
                }
                _ => break,
            }
            let asked = [("name", model.as_str()), ("version", version.as_str())];
            found = self.http.get("model-versions/get", &asked)?["model_version"].clone();
        }
        Ok(Some(version))
    }

    fn find_version(&self, model: &str, run: &Run) -> Result<Option<String>, TrackError> {
        let call = "model-versions/search";
        let filter = format!("name = '{}' and run_id = '{}'", quoted(model), quoted(&run.id));
        let found = self.http.get(call, &[("filter", &filter), ("max_results", "1")])?;
        found["model_versions"].get(0).map(|it| self.id(call, &it["version"])).transpose()
    }

    /// Sets an alias. It keeps no history there: the tags of the version say where it came from.
    fn point(
        &self,
        model: &str,
        moved: &Move,
        version: &str,
        notes: &mut Vec<String>,
    ) -> Result<(), TrackError> {
        let model = limits::key(model);
        if !limits::is_alias(&moved.alias) {
            notes.push(format!(
                "alias `{}` means something else there and was not set",
                moved.alias
            ));
            return Ok(());
        }
        let asked = [("name", model.as_str()), ("alias", moved.alias.as_str())];
        let now = match self.http.get("registered-models/alias", &asked) {
            Ok(found) => found["model_version"]["version"].as_str().map(str::to_owned),
            Err(TrackError::Refused { .. }) => None,
            Err(error) => return Err(error),
        };
        self.tag_version(&model, version, &moved.tags)?;
        if now.as_deref() != Some(version) {
            let asked = json!({ "name": model, "alias": moved.alias, "version": version });
            self.http.post("registered-models/alias", &asked)?;
        }
        Ok(())
    }

    /// Numbers, each batch in a request of its own. A batch whose answer was lost is looked for before it is sent again.
    fn log_points(
        &self,
        run: &Run,
        points: &[Point],
        known: &BTreeMap<String, u64>,
    ) -> Result<(), TrackError> {
        let is_new =
            |it: &&Point| known.get(&limits::key(&it.key)).is_none_or(|step| step < &it.step);
        let points: Vec<&Point> = points.iter().filter(is_new).collect();
        for batch in points.chunks(limits::METRICS_MAX) {
            let metrics: Vec<Value> = batch.iter().map(|it| limits::metric(it)).collect();
            let asked = json!({ "run_id": run.id, "metrics": metrics });
            self.http.post_once("runs/log-batch", &asked, &mut || {
                let call = "runs/get";
                let found = self.http.get(call, &[("run_id", &run.id)])?;
                let now = self.run(call, &found["run"])?;
                let arrived = |it: &&&Point| {
                    let key = limits::key(&it.key);
                    run.steps.get(&key) != now.steps.get(&key)
                        && now.steps.get(&key) == Some(&it.step)
                };
                Ok(batch.last().filter(arrived).map(|_| Value::Null))
            })?;
        }
        Ok(())
    }

    fn send(
        &self,
        run: &Run,
        files: &[Artifact],
        notes: &mut Vec<String>,
    ) -> Result<(), TrackError> {
        let Some(root) = artifact_root(&run.artifact_uri) else {
            let shown = crate::error::plain(&run.artifact_uri);
            notes.push(format!(
                "files were not sent: the server keeps them at `{shown}`, not with itself"
            ));
            return Ok(());
        };
        files.iter().try_for_each(|file| {
            self.http.put(&format!("{root}/{}", limits::key(&file.name)), file)
        })
    }

    fn tag(&self, run: &Run, key: &str, value: &str) -> Result<(), TrackError> {
        let asked = json!({ "run_id": run.id, "key": key, "value": value });
        self.http.post("runs/set-tag", &asked).map(drop)
    }

    fn tag_version(
        &self,
        model: &str,
        version: &str,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), TrackError> {
        for tag in limits::tags(tags).concat() {
            let asked = json!({ "name": limits::key(model), "version": version, "key": tag["key"], "value": tag["value"] });
            self.http.post("model-versions/set-tag", &asked)?;
        }
        Ok(())
    }

    fn run(&self, call: &str, run: &Value) -> Result<Run, TrackError> {
        let texts = |list: &Value| {
            let pair = |it: &Value| {
                Some((it["key"].as_str()?.to_owned(), it["value"].as_str()?.to_owned()))
            };
            list.as_array().map(|it| it.iter().filter_map(pair).collect()).unwrap_or_default()
        };
        let steps = |list: &Value| {
            let pair = |it: &Value| Some((it["key"].as_str()?.to_owned(), int(it.get("step")?)?));
            list.as_array().map(|it| it.iter().filter_map(pair).collect()).unwrap_or_default()
        };
        Ok(Run {
            id: self.id(call, &run["info"]["run_id"])?,
            artifact_uri: run["info"]["artifact_uri"].as_str().unwrap_or_default().to_owned(),
            tags: texts(&run["data"]["tags"]),
            steps: steps(&run["data"]["metrics"]),
        })
    }

    /// An id or a number of the server: what may go back into a request.
    fn id(&self, call: &str, value: &Value) -> Result<String, TrackError> {
        const LENGTH_MAX: usize = 256;
        let id = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return Err(self.http.malformed(call, "an id is missing")),
        };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if id.is_empty() || LENGTH_MAX < id.len() || !id.chars().all(is_plain) {
            return Err(self.http.malformed(call, "an id is no id"));
        }
        Ok(id)
    }
}

/// 64-bit numbers come as numbers or as text.
fn int(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// Inside the quotes of a filter.
fn quoted(text: &str) -> String {
    text.replace(['\'', '"', '`', '\\'], "_")
}

/// The path below which the server itself keeps a run's files: `0/abc/artifacts` of `mlflow-artifacts:/0/abc/artifacts`.
fn artifact_root(uri: &str) -> Option<String> {
    let path = uri.strip_prefix("mlflow-artifacts:")?;
    let path = match path.strip_prefix("//") {
        Some(rest) => rest.split_once('/')?.1,
        None => path,
    };
    let parts: Vec<&str> = path.split('/').filter(|it| !matches!(*it, "" | "." | "..")).collect();
    (!parts.is_empty()).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::artifact_root;

    #[test]
    fn files_go_where_the_server_keeps_them_itself_and_nowhere_else() {
        for (uri, root) in [
            ("mlflow-artifacts:/0/abc/artifacts", Some("0/abc/artifacts")),
            ("mlflow-artifacts://host:5000/0/abc/artifacts", Some("0/abc/artifacts")),
            ("mlflow-artifacts:/../../etc", Some("etc")),
            ("mlflow-artifacts:", None),
            ("s3://bucket/0/abc/artifacts", None),
            ("/mnt/mlruns/0/abc", None),
            ("", None),
        ] {
            assert_eq!(artifact_root(uri).as_deref(), root, "{uri}");
        }
    }
}
