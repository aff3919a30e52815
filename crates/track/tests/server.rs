//! A small server on this machine that says what MLflow says, or worse.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use karat_core::Timestamp;
use karat_track::{
    Address, Artifact, Judgement, Move, Patience, Point, Record, Secret, Server, TrackError,
    Training,
};
use serde_json::{Value, json};

/// One request as it arrived.
#[derive(Clone, Debug)]
struct Asked {
    method: String,
    path: String,
    authorization: Option<String>,
    body: Vec<u8>,
}

impl Asked {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    fn call(&self) -> &str {
        self.path.split('?').next().unwrap_or_default().trim_start_matches("/api/2.0/mlflow/")
    }
}

/// Status, further header lines, body.
type Answer = (u16, String, String);
type Answers = dyn Fn(&Asked, usize) -> Answer + Send + Sync;

struct Fake {
    address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    _thread: JoinHandle<()>,
}

impl Fake {
    /// `answers` is told the request and how many of its call came before.
    fn start(answers: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = format!("mlflow://{}", listener.local_addr().expect("bound"));
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (seen, answers): (_, Arc<Answers>) = (Arc::clone(&asked), Arc::new(answers));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A connection of one request: `connection: close` is part of every answer.
                let _ = serve(stream, &seen, &*answers);
            }
        });
        Self { address, asked, _thread: thread }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn of(&self, call: &str) -> Vec<Asked> {
        self.asked().into_iter().filter(|it| it.call() == call).collect()
    }

    fn tell(&self, record: &Record) -> Result<karat_track::Told, TrackError> {
        server(&self.address).tell(record)
    }
}

fn serve(stream: TcpStream, seen: &Mutex<Vec<Asked>>, answers: &Answers) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (mut authorization, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => authorization = Some(value.to_owned()),
            "content-length" => length = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let asked = Asked { method, path, authorization, body };
    let n_before = {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let n = seen.iter().filter(|it| it.call() == asked.call()).count();
        seen.push(asked.clone());
        n
    };
    let (status, headers, text) = answers(&asked, n_before);
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{text}",
        text.len()
    )
}

fn ok(body: &Value) -> Answer {
    (200, String::new(), body.to_string())
}

fn refusal(status: u16, code: &str) -> Answer {
    (status, String::new(), json!({ "error_code": code, "message": "no" }).to_string())
}

/// What MLflow says to somebody it has never seen. Numbers come as text, as some servers send them.
fn mlflow(asked: &Asked) -> Answer {
    let run = json!({ "info": { "run_id": "abc", "artifact_uri": "mlflow-artifacts:/7/abc/artifacts" }, "data": {} });
    match (asked.method.as_str(), asked.call()) {
        ("GET", "experiments/get-by-name") => refusal(404, "RESOURCE_DOES_NOT_EXIST"),
        (_, "experiments/create") => ok(&json!({ "experiment_id": "7" })),
        (_, "runs/search" | "model-versions/search") => ok(&json!({})),
        (_, "runs/create" | "runs/get") => ok(&json!({ "run": run })),
        (_, "model-versions/create") => {
            ok(&json!({ "model_version": { "version": "3", "status": "READY" } }))
        }
        ("GET", "registered-models/alias") => refusal(404, "RESOURCE_DOES_NOT_EXIST"),
        _ => ok(&json!({})),
    }
}

fn patience() -> Patience {
    Patience { n_tries: 3, first: Duration::from_millis(1), all: Duration::from_secs(2) }
}

fn server(address: &str) -> Server {
    let address: Address = address.parse().expect("an address");
    Server::new(address.with_token(&Secret::new("t0ken".to_owned())), patience())
}

fn point(key: &str, value: f64, step: u64) -> Point {
    Point { key: key.to_owned(), value, step, at: Timestamp(9) }
}

fn record(folder: &Path) -> Record {
    let path = folder.join("model.json");
    std::fs::write(&path, "{}").expect("written");
    let file = |name: &str| Artifact { name: name.to_owned(), path: path.clone() };
    Record {
        experiment: "flights".to_owned(),
        training: Training {
            run: "r-4c19e2a07b".to_owned(),
            model: "flights".to_owned(),
            version: "flights@3".to_owned(),
            params: (0..150).map(|it| (format!("p{it}"), "x".to_owned())).collect(),
            points: (1..=2_500).map(|it| point("loss", 1.0 / it as f64, it)).collect(),
            dataset: ("flights@9f3c21ab".to_owned(), format!("sha256:{}", "ab".repeat(32))),
            files: vec![file("model/model.json"), file("../../etc/passwd")],
            ..Training::default()
        },
        judgement: Some(Judgement {
            verdict: "sha256:77".to_owned(),
            points: vec![point("auc/carrier=UA", f64::NAN, 2_500)],
            tags: BTreeMap::from([("verdict_digest".to_owned(), "sha256:77".to_owned())]),
            files: vec![file("reports/report.html")],
        }),
        moved: Some(Move {
            alias: "champion".to_owned(),
            tags: BTreeMap::from([("promoted_from".to_owned(), "flights@1".to_owned())]),
        }),
    }
}

#[test]
fn everything_is_told_within_the_limits_and_the_token_with_each_request() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::start(|asked, _| mlflow(asked));
    let told = fake.tell(&record(folder.path())).expect("told");
    assert_eq!(
        (told.run_id.as_str(), told.version.as_deref(), told.notes.len()),
        ("abc", Some("3"), 0)
    );
    assert!(fake.asked().iter().all(|it| it.authorization.as_deref() == Some("Bearer t0ken")));

    let batches: Vec<Value> = fake.of("runs/log-batch").iter().map(Asked::json).collect();
    let sizes = |kind: &str| -> Vec<usize> {
        batches.iter().filter_map(|it| it[kind].as_array().map(Vec::len)).collect()
    };
    assert_eq!((sizes("params"), sizes("metrics")), (vec![100, 50], vec![1_000, 1_000, 500, 1]));
    assert!(fake.asked().iter().all(|it| it.body.len() < 1_000_000), "a request is below 1 MB");
    let last =
        &batches.iter().rev().find(|it| it["metrics"].is_array()).expect("a batch")["metrics"][0];
    assert_eq!((&last["key"], &last["value"]), (&json!("auc/carrier_UA"), &json!("NaN")));

    let dataset = fake.of("runs/log-inputs")[0].json()["datasets"][0]["dataset"].clone();
    assert_eq!(dataset["digest"].as_str().map(str::len), Some(36));
    let files: Vec<String> =
        fake.asked().into_iter().filter(|it| it.method == "PUT").map(|it| it.path).collect();
    let base = "/api/2.0/mlflow-artifacts/artifacts/7/abc/artifacts";
    assert_eq!(
        files,
        ["model/model.json", "etc/passwd", "reports/report.html"].map(|it| format!("{base}/{it}")),
        "and no name leads out of the run"
    );
    let created = fake.of("model-versions/create")[0].json();
    assert_eq!(created["source"], "mlflow-artifacts:/7/abc/artifacts/model");
    let alias = fake.of("registered-models/alias").last().expect("set").json();
    assert_eq!(alias, json!({ "name": "flights", "alias": "champion", "version": "3" }));
    assert!(fake.of("model-versions/set-tag").iter().any(|it| it.json()["key"] == "promoted_from"));
    assert_eq!(fake.of("runs/update")[0].json()["status"], "FINISHED");
}

#[test]
fn what_is_there_already_is_not_told_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::start(|asked, _| match asked.call() {
        "experiments/get-by-name" => ok(&json!({ "experiment": { "experiment_id": 7 } })),
        "runs/search" => ok(&json!({ "runs": [{
            "info": { "run_id": "abc", "artifact_uri": "mlflow-artifacts:/7/abc/artifacts" },
            "data": { "tags": [
                { "key": "karat.training_told", "value": "true" },
                { "key": "karat.verdict", "value": "sha256:77" },
            ] },
        }] })),
        "model-versions/search" => ok(&json!({ "model_versions": [{ "version": 3 }] })),
        "registered-models/alias" => ok(&json!({ "model_version": { "version": "3" } })),
        _ => mlflow(asked),
    });
    assert_eq!(fake.tell(&record(folder.path())).expect("told").version.as_deref(), Some("3"));
    for call in ["experiments/create", "runs/create", "runs/log-batch", "model-versions/create"] {
        assert_eq!(fake.of(call).len(), 0, "{call}");
    }
    assert_eq!(fake.of("registered-models/alias").len(), 1, "looked at, not set");
}

/// Half of it arrived before the last attempt died.
#[test]
fn a_training_that_was_told_by_half_is_told_from_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::start(|asked, _| match asked.call() {
        "runs/search" => ok(&json!({ "runs": [{
            "info": { "run_id": "abc", "artifact_uri": "mlflow-artifacts:/7/abc/artifacts" },
            "data": { "metrics": [{ "key": "loss", "value": 0.1, "step": "1700" }] },
        }] })),
        _ => mlflow(asked),
    });
    fake.tell(&record(folder.path())).expect("told");
    let batches: Vec<Value> = fake.of("runs/log-batch").iter().map(Asked::json).collect();
    let steps: Vec<&Value> =
        batches.iter().filter_map(|it| it["metrics"].get(0)).map(|it| &it["step"]).collect();
    assert_eq!(steps, [&json!(1701), &json!(2500)]);
}

#[test]
fn a_busy_server_is_asked_again_and_a_lost_answer_doubles_no_number() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::start(|asked, n| match (asked.call(), n) {
        ("experiments/create", 0) => (429, "retry-after: 0\r\n".to_owned(), String::new()),
        ("experiments/create", 1) => (503, String::new(), "busy".to_owned()),
        // The third batch (two of parameters come first, no tags) arrives, and its answer is lost.
        ("runs/log-batch", 2) => (502, String::new(), String::new()),
        ("runs/get", _) => ok(&json!({ "run": {
            "info": { "run_id": "abc" },
            "data": { "metrics": [{ "key": "loss", "value": 0.1, "step": 1000 }] },
        } })),
        _ => mlflow(asked),
    });
    fake.tell(&record(folder.path())).expect("told in the end");
    assert_eq!(fake.of("experiments/create").len(), 3);
    let firsts: Vec<Value> = fake
        .of("runs/log-batch")
        .iter()
        .filter_map(|it| it.json()["metrics"].get(0).map(|it| it["step"].clone()))
        .collect();
    assert_eq!(firsts, [json!(1), json!(1001), json!(2001), json!(2500)], "each batch once");
}

#[test]
fn a_server_that_is_down_or_says_no_is_an_error_that_shows_no_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    let record = record(folder.path());
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port");
    let error = server(&format!("http://ada:hunter2@{closed}")).tell(&record).expect_err("down");
    assert!(matches!(error, TrackError::Down { n_tries: 3, .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));

    let always_busy = Fake::start(|_, _| (500, String::new(), "x".to_owned()));
    let error = always_busy.tell(&record).expect_err("busy for ever");
    assert!(error.to_string().contains("3 tries"), "{error}");

    let closed_door = Fake::start(|_, _| refusal(403, "PERMISSION_DENIED\u{1b}[31m"));
    let error = closed_door.tell(&record).expect_err("no").to_string();
    assert!(
        error.contains("status 403: PERMISSION_DENIED") && !error.contains('\u{1b}'),
        "{error}"
    );
    assert_eq!(closed_door.asked().len(), 1, "a no is not asked twice");
    assert!(!error.contains("t0ken"));
}

#[test]
fn a_redirect_gets_no_token() {
    let folder = tempfile::tempdir().expect("a folder");
    let other = Fake::start(|asked, _| mlflow(asked));
    let to = other.address.replace("mlflow://", "http://");
    let fake = Fake::start(move |_, _| (302, format!("location: {to}/\r\n"), String::new()));
    let error = fake.tell(&record(folder.path())).expect_err("not followed");
    assert!(matches!(error, TrackError::Redirected { .. }), "{error}");
    assert_eq!(other.asked().len(), 0);
}

#[test]
fn hostile_answers_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let record = record(folder.path());
    let create = |body: String| {
        Fake::start(move |asked, _| match asked.call() {
            "experiments/create" => (200, String::new(), body.clone()),
            _ => mlflow(asked),
        })
    };
    for (body, why) in [
        ("<html>not MLflow</html>".to_owned(), "no JSON"),
        (format!("\"{}\"", "x".repeat(5 << 20)), "longer than 4 MiB"),
        ("{}".to_owned(), "an id is missing"),
        (json!({ "experiment_id": "7'; drop table runs; --" }).to_string(), "no id"),
        (json!({ "experiment_id": "../../admin" }).to_string(), "no id"),
        (format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)), "no JSON"),
    ] {
        let error = create(body).tell(&record).expect_err(why).to_string();
        assert!(error.contains(why), "{error}");
    }
}

/// The server keeps files elsewhere: they are not sent, and no version names what is not there.
#[test]
fn a_store_that_only_others_can_write_to_is_a_note() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::start(|asked, _| match asked.call() {
        "runs/create" => {
            ok(&json!({ "run": { "info": { "run_id": "abc", "artifact_uri": "s3://bucket/7" } } }))
        }
        _ => mlflow(asked),
    });
    let told = fake.tell(&record(folder.path())).expect("told what can be told");
    assert_eq!(told.version, None);
    assert!(told.notes.iter().any(|it| it.contains("s3://bucket/7")), "{:?}", told.notes);
    assert_eq!(
        fake.of("model-versions/create").len() + fake.of("registered-models/alias").len(),
        0
    );
    assert!(fake.asked().iter().all(|it| it.method != "PUT"));
}
