//! The summaries the tests render.

use std::collections::BTreeMap;

use karat_core::{
    Digest, Environment, Finding, Host, Outcome, Tier, Verdict,
    metric::Metric,
    policy::Reveal,
    summary::{CodeVersion, DataSummary, PromotionSummary, RunSummary, TrainCost, TrainSummary},
    verdict::{Cell, FamilyTest, Judged, LedgerUse, Report, SeedVariance, SliceCount},
};

/// A retrained flights model that is worse for one carrier, undecided for another, and not better elsewhere.
pub(crate) fn flights() -> RunSummary {
    RunSummary {
        version: 1,
        project: "flights".to_owned(),
        tool: "karat 0.1.0".to_owned(),
        code: CodeVersion { commit: Some("4f".repeat(20)), is_dirty: Some(true), dvc: None },
        data: DataSummary {
            snapshot: "flights@9f3c21ab".to_owned(),
            digest: digest("snapshot"),
            n_files: 12,
            n_rows: 336_776,
            splits: vec![
                ("holdout".to_owned(), 29_327, 28_755),
                ("train".to_owned(), 166_158, 161_230),
            ],
        },
        checks: checks(),
        train: Some(training()),
        verdict: Some(verdict()),
        verdict_digest: Some(digest("verdict")),
        promotion: Some(PromotionSummary {
            alias: "flights@champion".to_owned(),
            from: Some("flights@1".to_owned()),
            to: Some("flights@1".to_owned()),
            is_moved: false,
            reason: "the verdict is `fail`".to_owned(),
        }),
    }
}

/// Nothing has happened yet.
pub(crate) fn empty() -> RunSummary {
    let mut summary = flights();
    summary.code = CodeVersion::default();
    summary.data.splits.clear();
    summary.checks.clear();
    summary.train = None;
    summary.verdict = None;
    summary.verdict_digest = None;
    summary.promotion = None;
    summary
}

pub(crate) fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn checks() -> Vec<Finding> {
    let leak = Finding {
        examples: vec!["2013-01.parquet row 17: 851".to_owned()],
        advice: Some("give `dep_delay` the role `ignore` in karat.toml".to_owned()),
        n_rows: Some(161_230),
        ..Finding::new(
            "leak.single-feature",
            "dep_delay",
            Outcome::Warn,
            "AUC below 0.95",
            "`dep_delay` alone predicts `late` with AUC 0.991",
        )
    };
    vec![
        Finding::new(
            "schema.type",
            "all columns",
            Outcome::Pass,
            "as declared",
            "19 of 19 columns fit",
        ),
        leak,
        Finding::new("rows.count", "snapshot", Outcome::Pass, "at least 1", "336,776 rows"),
    ]
}

fn training() -> TrainSummary {
    let losses = (1..=60u32).map(|i| [f64::from(i) * 10.0, 0.42 + 0.27 / f64::from(i)]);
    TrainSummary {
        run: "r-0123456789".to_owned(),
        version: "flights@2".to_owned(),
        model: digest("model"),
        spec: serde_json::json!({"seed": 7, "hidden": [256, 256], "optimizer": {"name": "adamw", "learning_rate": 0.001}}),
        features: vec![
            ("carrier".to_owned(), "one of 16 values, missing or unknown".to_owned()),
            ("distance".to_owned(), "(x - 1,040.1) / 733.2".to_owned()),
        ],
        task: "binary".to_owned(),
        label: "late".to_owned(),
        classes: vec!["0".to_owned(), "1".to_owned()],
        n_parameters: 96_513,
        n_updates: 600,
        n_rows: 161_230,
        seconds: 724.2,
        device: "cpu".to_owned(),
        environment: Some(environment()),
        seed: 7,
        losses: losses.collect(),
        eval_losses: vec![[200.0, 0.4402], [400.0, 0.4311], [600.0, 0.4318]],
        learning_rates: (0..=60u32).map(|i| [f64::from(i) * 10.0, rate(f64::from(i))]).collect(),
        eval_metric: Some(Metric::Accuracy),
        eval_metrics: vec![[200.0, 0.7611], [400.0, 0.7702], [600.0, 0.7698]],
        ended_early: Some("time was up (`train.max_time`) after 600 of 790 updates".to_owned()),
        cost: Some(TrainCost {
            n_updates: 600,
            n_rows: 614_400,
            parts: [
                ("data wait", 0.3),
                ("forward", 1.1),
                ("backward", 2.2),
                ("optimizer", 0.5),
                ("other", 0.1),
                ("evaluating", 0.4),
            ]
            .map(|(part, seconds)| (part.to_owned(), seconds))
            .to_vec(),
            peak_memory: Some(213 << 20),
            operations_per_row: Some(579_078.0),
            ceiling: Some(2.1e11),
        }),
    }
}

fn environment() -> Environment {
    Environment {
        tiers: Tier::ALL[..4].to_vec(),
        device: "cpu".to_owned(),
        instructions: "AVX-512".to_owned(),
        precision: "f32".to_owned(),
        n_threads: 2,
        host: Host {
            processor: Some("AMD EPYC 9R14".to_owned()),
            binary: Some(digest("binary")),
            ..Host::default()
        },
        ..Environment::default()
    }
}

/// Warm-up to 0.001, then a straight line down.
fn rate(i: f64) -> f64 {
    0.001 * (i / 6.0).min(1.0 - (i - 6.0) / 60.0)
}

fn verdict() -> Verdict {
    let worse = |slice: &str, outcome, value, low, high, n_rows, message: &str| Finding {
        value: Some(value),
        interval: Some([low, high]),
        n_rows: Some(n_rows),
        ..Finding::new(
            "not worse anywhere",
            format!("auc, slice {slice}"),
            outcome,
            "change at least -0.005",
            message,
        )
    };
    let mut findings = vec![
        Finding {
            value: Some(0.6912),
            interval: Some([0.6853, 0.6971]),
            n_rows: Some(28_755),
            ..Finding::new(
                "ranks at all",
                "auc, slice all",
                Outcome::Pass,
                "at least 0.64",
                "auc is 0.6912",
            )
        },
        worse("all", Outcome::Pass, 0.0013, -0.0011, 0.0037, 28_755, "not worse"),
        worse("carrier=UA", Outcome::Fail, -0.0212, -0.0291, -0.0133, 5_066, "worse than allowed"),
        worse(
            "carrier=HA",
            Outcome::Inconclusive,
            -0.004,
            -0.013,
            0.005,
            31,
            "31 rows cannot tell",
        ),
        Finding::new(
            "still calibrated",
            "ece_debiased, slice all",
            Outcome::NotApplied,
            "at most 0.03",
            "the report has no `ece_debiased`",
        ),
    ];
    findings[3].advice =
        Some("about 4,900 more labelled rows of carrier=HA would decide it".to_owned());
    findings[2].numbers = [("p", 0.000_012), ("wrong_to_right", 152.0), ("right_to_wrong", 260.0)]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
    findings[2].examples = vec![
        "wrong to right: UA 1545 EWR 2013-07-01T05:00:00Z".to_owned(),
        "right to wrong: UA 1714 LGA 2013-07-01T05:00:00Z".to_owned(),
    ];
    findings.push(Finding {
        value: Some(4.217),
        ..Finding::new(
            "fast enough",
            "latency_p95_ms",
            Outcome::Pass,
            "at most 20",
            "latency_p95_ms is 4.217",
        )
    });
    findings.push(Finding::new(
        "log loss holds",
        "log_loss, slice evening",
        Outcome::Waived,
        "change at least -0.01",
        "worse than allowed (fail); waived until 2026-12-31 by ana: September labels arrive late",
    ));
    Verdict {
        version: 1,
        gate: "release".to_owned(),
        outcome: Outcome::Fail,
        inconclusive_is_allowed: false,
        is_unbaselined: false,
        judged: Judged {
            candidate: digest("candidate"),
            baseline: Some(digest("baseline")),
            snapshot: digest("snapshot"),
            rows: digest("rows"),
            predictions: digest("predictions"),
            baseline_predictions: Some(digest("baseline predictions")),
            anchor: Some(digest("anchor")),
            anchor_predictions: Some(digest("anchor predictions")),
            policy: digest("policy"),
            tool: "karat 0.1.0".to_owned(),
            binary: None,
            code: CodeVersion::default(),
        },
        candidate: "flights@2".to_owned(),
        baseline: "flights@1".to_owned(),
        anchor: Some("flights@1".to_owned()),
        reliability: 0.95,
        ledger: Some(LedgerUse {
            n_uses: 3,
            n_allowed: Some(8),
            reveal: Reveal::Numbers,
            previous: digest("use 2"),
        }),
        findings,
        families: families(),
        seeds: Some(SeedVariance {
            n_seeds: 5,
            n_seeds_baseline: None,
            metric: Metric::Auc,
            item: 1.296e-5,
            seed: 4.1e-6,
            joint: 1.71e-5,
        }),
        operational: [
            ("latency_p95_ms", 4.217),
            ("model_size_mib", 0.3721),
            ("replay_identical", 1.0),
            ("robustness(noise=0.05)", 0.0312),
            ("rows_per_second", 812_345.6),
        ]
        .map(|(word, value)| (word.to_owned(), value))
        .into(),
        report: Report {
            cells: cells(),
            slices: [
                ("all", 28_755),
                ("carrier=UA", 5_066),
                ("carrier=HA", 31),
                ("evening", 9_120),
            ]
            .map(|(slice, n_rows)| SliceCount {
                slice: slice.to_owned(),
                n_rows,
                label_mean: Some(0.2312),
            })
            .to_vec(),
            curves: curves(),
        },
    }
}

fn families() -> Vec<FamilyTest> {
    let test = |slice: &str, n_rows, p, p_holm, p_bh| FamilyTest {
        family: "carrier=*".to_owned(),
        metric: Metric::Auc,
        slice: slice.to_owned(),
        n_rows,
        p,
        p_holm,
        p_bh,
    };
    vec![
        test("carrier=UA", 5_066, 0.000_012, 0.000_024, 0.000_024),
        test("carrier=HA", 31, 0.61, 0.61, 0.61),
    ]
}

fn cells() -> Vec<Cell> {
    let cell = |metric, slice: &str, n_rows, value: f64, improvement: f64| Cell {
        metric,
        slice: slice.to_owned(),
        n_rows,
        value: Some(value),
        interval: Some([value - 0.0059, value + 0.0059]),
        baseline: Some(value - improvement),
        improvement: Some(improvement),
        improvement_interval: Some([improvement - 0.0024, improvement + 0.0024]),
        reason: None,
    };
    vec![
        cell(Metric::Auc, "all", 28_755, 0.6912, 0.0013),
        cell(Metric::LogLoss, "all", 28_755, 0.5021, 0.0002),
        cell(Metric::Auc, "carrier=UA", 5_066, 0.6702, -0.0212),
        cell(Metric::LogLoss, "carrier=UA", 5_066, 0.5313, -0.0101),
        Cell {
            value: None,
            interval: None,
            baseline: None,
            improvement: None,
            improvement_interval: None,
            reason: Some("only one class among 31 rows".to_owned()),
            ..cell(Metric::Auc, "carrier=HA", 31, 0.0, 0.0)
        },
        cell(Metric::Auc, "evening", 9_120, 0.6611, 0.0040),
    ]
}

fn curves() -> BTreeMap<String, Vec<[f64; 2]>> {
    let roc = (0..=20u32).map(|i| f64::from(i) / 20.0).map(|x| [x, x.sqrt()]).collect();
    let precision_recall =
        (1..=20u32).map(|i| f64::from(i) / 20.0).map(|x| [x, 0.9 - 0.67 * x * x]).collect();
    let calibration_rows =
        (1..=9u32).map(|i| [f64::from(i) / 10.0, 3_195.0 - f64::from(i % 2)]).collect();
    let calibration =
        (1..=9u32).map(|i| f64::from(i) / 10.0).map(|x| [x, x * 0.9 + 0.02]).collect();
    let scores = |peak: f64| {
        let share = move |x: f64| [x, 1000.0 * (1.0 - (x - peak).abs())];
        (0..=20u32).map(|i| share(f64::from(i) / 20.0)).collect()
    };
    BTreeMap::from([
        ("roc".to_owned(), roc),
        ("precision_recall".to_owned(), precision_recall),
        ("calibration".to_owned(), calibration),
        ("calibration_rows".to_owned(), calibration_rows),
        ("scores_negative".to_owned(), scores(0.2)),
        ("scores_positive".to_owned(), scores(0.6)),
    ])
}
