//! How a training is told: the part of a summary that reports are rendered from. Made anew from the stored outputs each
//! time, so a cached training tells the same story as the first.

use karat_core::{
    Digest, Exit, Failure, LabelPlan, RunId, Task, UpdateRecord, plan::Encoding,
    summary::TrainSummary,
};
use karat_store::VersionRecord;
use serde_json::Value;

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
    let mut losses = Vec::new();
    for line in log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let record: UpdateRecord = serde_json::from_slice(line).map_err(|error| {
            Failure::new(
                "record-unreadable",
                Exit::Run,
                format!("the metrics log of run `{run}` is not readable"),
            )
            .because(&error)
        })?;
        losses.push([record.update as f64, record.loss]);
    }
    let stride = losses.len().div_ceil(CURVE_POINTS_MAX).max(1);
    let losses: Vec<[f64; 2]> = losses.into_iter().step_by(stride).collect();
    let eval_losses = metrics
        .get("evaluations")
        .and_then(|it| serde_json::from_value(it.clone()).ok())
        .unwrap_or_default();
    let features = manifest
        .plan
        .features
        .iter()
        .map(|it| (it.column.clone(), describe(&it.encoding)))
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
        seed: manifest.spec.seed,
        losses,
        eval_losses,
    })
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
