//! What a training wrote down as it went, as curves over updates.

use karat_core::UpdateRecord;
use karat_report::curves_html;
use karat_store::{RunLogFile, RunRecord, Store, StoreError};
use serde::Deserialize;
use serde_json::Value;

use crate::html::{Html, html};

/// Points of a curve.
const POINTS_MAX: usize = 400;
/// Points of the curve of speeds.
const SPEED_POINTS_MAX: usize = 50;

/// Curves of one training: (update, value), in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Curves {
    pub(crate) loss: Vec<[f64; 2]>,
    pub(crate) eval_loss: Vec<[f64; 2]>,
    pub(crate) eval_metric: Vec<[f64; 2]>,
    pub(crate) learning_rate: Vec<[f64; 2]>,
    pub(crate) gradient_norm: Vec<[f64; 2]>,
    pub(crate) rows_per_second: Vec<[f64; 2]>,
}

#[derive(Deserialize)]
struct Throughput {
    update: u64,
    rows_per_s: Option<f64>,
}

#[derive(Deserialize)]
struct Evaluation {
    update: u64,
    loss: Option<f64>,
    #[serde(default)]
    value: Option<f64>,
}

impl Curves {
    /// The curves of a run: from its artifacts when it is complete, else from the log it is writing.
    pub(crate) fn of(store: &Store, run: &RunRecord) -> Result<Self, StoreError> {
        let lines = |file: RunLogFile| match run.outputs.get(file.name()) {
            Some(digest) => store.object_lines(digest, POINTS_MAX),
            None => store.run_log_lines(&run.id, file, POINTS_MAX),
        };
        let updates = parsed::<UpdateRecord>(&lines(RunLogFile::Metrics)?);
        let curve = |of: fn(&UpdateRecord) -> f64| {
            updates.iter().map(|it| [it.update as f64, of(it)]).collect::<Vec<_>>()
        };
        let throughput = parsed::<Throughput>(&lines(RunLogFile::Throughput)?);
        let recorded = |name: &str| points(run.metrics.get(name));
        let (mut eval_loss, mut eval_metric) = (recorded("evaluations"), recorded("eval_values"));
        if run.metrics.is_null() {
            let seen = parsed::<Evaluation>(&lines(RunLogFile::Evaluations)?);
            let curve = |of: fn(&Evaluation) -> Option<f64>| {
                seen.iter().filter_map(|it| Some([it.update as f64, of(it)?])).collect()
            };
            (eval_loss, eval_metric) = (curve(|it| it.loss), curve(|it| it.value));
        }
        Ok(Self {
            loss: curve(|it| it.loss),
            eval_loss,
            eval_metric,
            learning_rate: curve(|it| it.learning_rate),
            gradient_norm: curve(|it| it.gradient_norm),
            rows_per_second: smoothed(&throughput),
        })
    }
}

/// Means of neighbours: one update takes few milliseconds, which is what its time is measured in.
fn smoothed(throughput: &[Throughput]) -> Vec<[f64; 2]> {
    let known: Vec<[f64; 2]> =
        throughput.iter().filter_map(|it| Some([it.update as f64, it.rows_per_s?])).collect();
    let n = known.len().div_ceil(SPEED_POINTS_MAX).max(1);
    let mean = |some: &[[f64; 2]]| {
        let of = |i: usize| some.iter().map(|it| it[i]).sum::<f64>() / some.len() as f64;
        [of(0), of(1)]
    };
    known.chunks(n).map(mean).collect()
}

fn parsed<T: serde::de::DeserializeOwned>(lines: &[String]) -> Vec<T> {
    lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn points(value: Option<&Value>) -> Vec<[f64; 2]> {
    value.and_then(|it| serde_json::from_value(it.clone()).ok()).unwrap_or_default()
}

/// The charts of one training; nothing when it left no curve.
pub(crate) fn charts(curves: &Curves) -> Html {
    let one = |name: &str, points: &[[f64; 2]]| vec![(name.to_owned(), points.to_vec())];
    let losses = [one("training", &curves.loss), one("eval", &curves.eval_loss)].concat();
    framed(&[
        ("Loss", "loss", losses),
        ("Metric on the eval split", "metric", one("eval", &curves.eval_metric)),
        ("Learning rate", "rate", one("rate", &curves.learning_rate)),
        ("Gradient norm", "norm", one("before clipping", &curves.gradient_norm)),
        ("Speed", "rows/s", one("rows/s", &curves.rows_per_second)),
    ])
}

/// The charts of several trainings, each kind of curve in one frame.
pub(crate) fn overlaid(runs: &[(String, Curves)]) -> Html {
    let all = |of: fn(&Curves) -> &Vec<[f64; 2]>| {
        runs.iter().map(|(name, curves)| (name.clone(), of(curves).clone())).collect::<Vec<_>>()
    };
    framed(&[
        ("Loss on the eval split", "loss", all(|it| &it.eval_loss)),
        ("Metric on the eval split", "metric", all(|it| &it.eval_metric)),
        ("Training loss", "loss", all(|it| &it.loss)),
        ("Learning rate", "rate", all(|it| &it.learning_rate)),
        ("Speed", "rows/s", all(|it| &it.rows_per_second)),
    ])
}

type Named = Vec<(String, Vec<[f64; 2]>)>;

fn framed(frames: &[(&str, &'static str, Named)]) -> Html {
    let drawn = frames.iter().enumerate().map(|(i, (title, y, curves))| {
        Html::written(curves_html(title, ["update", y], curves, i + 1))
    });
    let drawn: Vec<Html> = drawn.filter(|it| !it.is_empty()).collect();
    if drawn.is_empty() {
        Html::default()
    } else {
        html!("<div class=\"charts\">\n{}</div>\n", drawn)
    }
}
