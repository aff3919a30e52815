//! How a training is told: the part of a summary that reports are rendered from. Made anew from the stored outputs each
//! time, so a cached training tells the same story as the first.

use karat_core::{
    Digest, Environment, Exit, Failure, ImagePlan, LabelPlan, RunId, Task, UpdateRecord,
    metric::Metric, plan::Encoding, summary::TrainSummary,
};
use karat_store::VersionRecord;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ENVIRONMENT;
use crate::{ModelManifest, freeze::to_value};

/// Points kept of the loss curve.
const CURVE_POINTS_MAX: usize = 400;

pub(super) fn summary(
    manifest: &ModelManifest,
    digest: &Digest,
    version: &VersionRecord,
    run: &RunId,
    seconds: f64,
    log: &[u8],
    metrics: &Value,
) -> Result<TrainSummary, Failure> {
    let updates = read_log(run, log)?;
    let losses: Vec<[f64; 2]> = updates.iter().map(|it| [it.update as f64, it.loss]).collect();
    let learning_rates: Vec<[f64; 2]> =
        updates.iter().map(|it| [it.update as f64, it.learning_rate]).collect();
    let stride = losses.len().div_ceil(CURVE_POINTS_MAX).max(1);
    let thinned = |points: Vec<[f64; 2]>| points.into_iter().step_by(stride).collect();
    let features = manifest
        .plan
        .features
        .iter()
        .map(|it| (it.column.clone(), describe(&it.encoding)))
        .chain(manifest.plan.image.iter().map(|it| (it.column.clone(), describe_image(it))))
        .collect();
    Ok(TrainSummary {
        run: run.to_string(),
        version: version.label(),
        model: *digest,
        spec: to_value(&manifest.spec)?,
        features,
        task: match manifest.plan.label.task() {
            Task::Binary => "binary",
            Task::Multiclass => "multiclass",
            Task::Regression => "regression",
        }
        .to_owned(),
        label: match &manifest.plan.label {
            LabelPlan::Binary { column, .. }
            | LabelPlan::Multiclass { column, .. }
            | LabelPlan::Regression { column, .. } => column.clone(),
        },
        classes: manifest.plan.label.classes().to_vec(),
        n_parameters: manifest.n_parameters,
        n_updates: manifest.n_updates,
        n_rows: manifest.n_rows,
        seconds,
        device: manifest.device.clone(),
        environment: environment(metrics),
        seed: manifest.spec.seed,
        losses: thinned(losses),
        eval_losses: part(metrics, "evaluations").unwrap_or_default(),
        learning_rates: thinned(learning_rates),
        eval_metric: Some(match manifest.plan.label.task() {
            Task::Binary | Task::Multiclass => Metric::Accuracy,
            Task::Regression => Metric::R2,
        }),
        eval_metrics: part(metrics, "eval_values").unwrap_or_default(),
        ended_early: part(metrics, "ended_early"),
        cost: part(metrics, "cost"),
    })
}

/// Where the training ran. A record without it is older than it; one that cannot be read says nothing either.
pub(crate) fn environment(metrics: &Value) -> Option<Environment> {
    serde_json::from_value(metrics.get(ENVIRONMENT)?.clone()).ok()
}

/// The metrics log, line by line.
pub(crate) fn read_log(run: &RunId, log: &[u8]) -> Result<Vec<UpdateRecord>, Failure> {
    let lines = log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            serde_json::from_slice(line).map_err(|error| {
                Failure::new(
                    "record-unreadable",
                    Exit::Run,
                    format!("the metrics log of run `{run}` is not readable"),
                )
                .because(&error)
            })
        })
        .collect()
}

/// One part of a record's metrics; a record that is older than it has none.
fn part<T: DeserializeOwned>(metrics: &Value, name: &str) -> Option<T> {
    serde_json::from_value(metrics.get(name)?.clone()).ok()
}

fn describe(encoding: &Encoding) -> String {
    match encoding {
        Encoding::Numeric { mean, std, missing_flag } => {
            let flag = if *missing_flag { ", missing flag" } else { "" };
            format!("standardised (mean {mean:.4}, std {std:.4}{flag})")
        }
        Encoding::Categorical { vocabulary } => {
            format!("{} values, unknown, missing", vocabulary.len())
        }
        Encoding::Date { missing_flag } => {
            format!("date parts{}", if *missing_flag { ", missing flag" } else { "" })
        }
    }
}

fn describe_image(image: &ImagePlan) -> String {
    let numbers = |of: &[f64]| {
        let shown: Vec<String> = of.iter().map(|it| format!("{it:.4}")).collect();
        shown.join(", ")
    };
    format!(
        "images of {}, standardised by channel (mean {}, std {} of 0 to 1)",
        image.shape(),
        numbers(&image.mean),
        numbers(&image.std)
    )
}
