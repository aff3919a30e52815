//! The gate: paired resamples beside vectorised NumPy, and the whole process beside MLflow.

use karat_core::{
    Digest, Name, ScoredRows, Task,
    policy::{BaselineRef, Bound, Change, Correction, Gate, Rule, SliceRef},
    rng::{Purpose, Stream},
    scored::SliceColumn,
    summary::CodeVersion,
    verdict::Judged,
};
use serde_json::json;

use crate::{
    Row, Setup,
    jobs::{REPEATS, fresh, karat_any_exit, median, number, peer, seconds},
};

struct Rayon;

impl karat_gate::Parallel for Rayon {
    fn for_each(&self, n: usize, work: &(dyn Fn(usize) + Sync)) {
        use rayon::prelude::{IntoParallelIterator, ParallelIterator};
        (0..n).into_par_iter().for_each(work);
    }
}

/// 10,000 paired resamples of AUC, log loss and accuracy over 100,000 rows and each of 20 slices of them: one decision.
/// Bounds are relative, because then all three are resampled, as the peer does it; absolute ones have closed forms for two.
pub(crate) fn gate(setup: &Setup) -> Result<Vec<Row>, String> {
    const N: u32 = 100_000;
    const SLICES: u32 = 20;
    let stream = Stream::new(1, Purpose::Permute, "bench");
    let label: Vec<f32> =
        (0..N).map(|i| f32::from(u8::from(stream.uniform(0, 0, u64::from(i)) < 0.3))).collect();
    let scored = |lane: u32| ScoredRows {
        task: Task::Binary,
        classes: vec!["no".to_owned(), "yes".to_owned()],
        rows: Digest::of(b"bench"),
        label: label.clone(),
        score: label
            .iter()
            .zip(0_u64..)
            .map(|(y, i)| (0.35 * y + 0.65 * stream.uniform(lane, 0, i)).clamp(0.001, 0.999))
            .collect(),
        slices: vec![SliceColumn {
            name: "carrier".to_owned(),
            values: (0..SLICES).map(|it| format!("{it:02}")).collect(),
            codes: (0..N).map(|i| stream.bits(3, 0, u64::from(i)) % SLICES).collect(),
            is_family: true,
        }],
        group: None,
        votes: None,
        names: Vec::new(),
    };
    let (a, b) = (scored(1), scored(2));
    let rule = |metric: &str| {
        Ok::<Rule, String>(Rule {
            name: metric.to_owned(),
            metric: metric.parse().map_err(|error| format!("{error}"))?,
            slices: vec![SliceRef::All, SliceRef::Every("carrier".to_owned())],
            bound: Bound::MaxRegression(Change::Relative(0.01)),
            n_rows_min: 0,
            correction: Correction::None,
            warns_only: false,
        })
    };
    let gate = Gate {
        name: "bench".parse::<Name>().map_err(|error| error.to_string())?,
        model: None,
        split: None,
        baseline: BaselineRef::None,
        anchor: None,
        reliability: 0.95,
        budget: None,
        signatures: None,
        power: 0.8,
        inconclusive_is_allowed: false,
        unbaselined_is_allowed: false,
        n_resamples: 10_000,
        rules: vec![rule("auc")?, rule("log_loss")?, rule("accuracy")?],
        operational: Vec::new(),
        waivers: Vec::new(),
    };
    let digest = Digest::of(b"x");
    let judged = Judged {
        candidate: Digest::of(b"a"),
        baseline: Some(Digest::of(b"b")),
        snapshot: digest,
        rows: a.rows,
        predictions: digest,
        baseline_predictions: Some(digest),
        anchor: None,
        anchor_predictions: None,
        policy: digest,
        tool: "bench".to_owned(),
        binary: None,
        code: CodeVersion::default(),
    };
    let mut times = Vec::new();
    for _ in 0..REPEATS {
        let input = karat_gate::GateInput {
            baseline: Some(&b),
            ..karat_gate::GateInput::new(&a, judged.clone(), "2026-01-01")
        };
        times.push(seconds(|| Ok(karat_gate::decide(&gate, &input, &Rayon)))?.0);
    }
    let wall = median(times.clone());
    let found = peer(setup, "bootstrap_numpy.py", &[])?;
    let compared = match &found {
        Some(found) => Some(("vectorised NumPy".to_owned(), 1.0 / number(found, "wall_s")?)),
        None => None,
    };
    Ok(vec![Row {
        job: "gate, 100,000 pairs and 20 slices, 10,000 resamples of 3 metrics",
        unit: "1/s",
        ours: 1.0 / wall,
        peer: compared,
        remark: format!("{wall:.2} s, goal under 5 s"),
        details: json!({ "seconds": times, "peer": found }),
    }])
}

/// From the start of the process to the verdict, predictions cached, beside MLflow's evaluation and validation of the same.
pub(crate) fn cold(setup: &Setup) -> Result<Vec<Row>, String> {
    let folder = fresh(setup)?;
    let dir = folder.path();
    for (seed, out) in [("train.seed=1", "first"), ("train.seed=2", "second")] {
        karat_any_exit(setup, dir, &["run", "--gate", "release", "--set", seed, "--out", out])?;
    }
    let mut times = Vec::new();
    for turn in 0..REPEATS {
        // Another reliability each time: the predictions are cached, the verdict is not.
        let set = format!("gate.release.reliability=0.95{}", turn + 1);
        let line = ["gate", "release", "flights@2", "--baseline", "flights@1", "--set", &set];
        times.push(seconds(|| karat_any_exit(setup, dir, &line))?.0);
    }
    let wall = median(times.clone());
    let path = |out: &str| dir.join(out).join("predictions.parquet").display().to_string();
    let (new, old) = (path("second"), path("first"));
    let found = peer(setup, "gate_mlflow.py", &["--candidate", &new, "--baseline", &old])?;
    let compared = match &found {
        Some(found) => Some(("MLflow".to_owned(), 1.0 / number(found, "since_start_s")?)),
        None => None,
    };
    Ok(vec![Row {
        job: "gate, start to verdict, predictions cached, 178,000 flights",
        unit: "1/s",
        ours: 1.0 / wall,
        peer: compared,
        remark: format!("{wall:.2} s"),
        details: json!({ "seconds": times, "peer": found }),
    }])
}
