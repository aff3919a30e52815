//! What the record says about how a result was made: rows, training, lineage.

use karat_core::{
    Digest,
    metric::Metric,
    summary::{RunSummary, TrainCost, TrainSummary},
    thousands,
};

use crate::{
    content::{
        Block, Chart, Column, Frame, Item, LineChart, Mark, Series, Stroke, Table, name, words,
    },
    number as numbers,
    sections::fold,
};

/// The snapshot and its splits.
pub(crate) fn dataset(summary: &RunSummary) -> Vec<Block> {
    let snapshot = &summary.data;
    let files = if snapshot.n_files == 1 { "file" } else { "files" };
    let line = vec![
        name(&snapshot.snapshot),
        words(format!(
            ": {} rows in {} {files}",
            thousands(snapshot.n_rows),
            thousands(snapshot.n_files)
        )),
    ];
    let row = |(split, n_rows, n_labelled): &(String, u64, u64)| {
        vec![name(split), Item::Number(thousands(*n_rows)), Item::Number(thousands(*n_labelled))]
    };
    let mut blocks = vec![Block::Line(line)];
    if !snapshot.splits.is_empty() {
        blocks.push(Block::Table(Table {
            caption: "Rows of each split".to_owned(),
            columns: vec![
                Column::Text("split"),
                Column::Number("rows".to_owned()),
                Column::Number("labelled".to_owned()),
            ],
            rows: snapshot.splits.iter().map(row).collect(),
        }));
    }
    blocks
}

/// How the candidate was trained.
pub(crate) fn training(train: &TrainSummary) -> Vec<Block> {
    let mut facts = vec![
        fact("version", name(&train.version)),
        fact("run", name(&train.run)),
        fact("task", words(&train.task)),
        fact("label", name(&train.label)),
        fact("parameters", Item::Number(thousands(train.n_parameters))),
        fact("updates", Item::Number(thousands(train.n_updates))),
        fact("rows an epoch", Item::Number(thousands(train.n_rows))),
        fact("seed", Item::Number(train.seed.to_string())),
        fact("time", Item::Number(numbers::seconds(train.seconds))),
    ];
    facts.extend(environment(train));
    facts.extend(train.ended_early.as_ref().map(|it| fact("ended early", words(it))));
    facts.extend(train.cost.iter().flat_map(pace));
    let mut blocks = vec![Block::Table(fact_table("How the candidate was trained", facts))];
    blocks.extend(losses(train));
    blocks.extend(curves(train));
    blocks.extend(train.cost.as_ref().and_then(times).map(Block::Table));
    blocks.extend([features(train), spec(train)].map(|table| fold(&table.caption.clone(), table)));
    blocks
}

/// Where it ran and what is promised of the result.
fn environment(train: &TrainSummary) -> Vec<(&'static str, Item)> {
    let Some(it) = &train.environment else { return vec![fact("device", name(&train.device))] };
    let mut facts =
        vec![fact("reproducible", words(it.tiers_text())), fact("device", words(it.device_text()))];
    if !it.features.is_empty() {
        facts.push(fact("device features", words(it.features.join(", "))));
    }
    facts.extend(it.host.binary.map(|it| fact("executable", name(it.to_string()))));
    facts.extend(it.remarks.iter().map(|it| fact("remark", words(it))));
    facts
}

/// Loss curves, where there are any.
pub(crate) fn losses(train: &TrainSummary) -> Option<Block> {
    let series: Vec<Series> = [
        Series::new("training loss", Stroke::Line, &train.losses),
        Series::new("eval loss", Stroke::Dots, &train.eval_losses),
    ]
    .into_iter()
    .flatten()
    .collect();
    let chart = LineChart {
        title: "Loss".to_owned(),
        x: "update",
        y: "loss",
        frame: Frame::Points,
        mark: best(train),
        series,
        counts: Vec::new(),
    };
    (!chart.series.is_empty()).then_some(Block::Chart(Chart::Losses(chart)))
}

/// The eval metric and the learning rate over updates, where there are any.
fn curves(train: &TrainSummary) -> Vec<Block> {
    let metric = train.eval_metric.map_or("metric", Metric::word);
    let chart = |title: &str, y, mark, series: Option<Series>| {
        let chart = LineChart {
            title: title.to_owned(),
            x: "update",
            y,
            frame: Frame::Points,
            mark,
            series: vec![series?],
            counts: Vec::new(),
        };
        Some(Block::Chart(Chart::Curves(chart)))
    };
    let evaluated = Series::new(format!("eval {metric}"), Stroke::Dots, &train.eval_metrics);
    let rates = Series::new("learning rate", Stroke::Line, &train.learning_rates);
    let charts = [
        chart("Metric", metric, best(train), evaluated),
        chart("Learning rate", "learning rate", None, rates),
    ];
    charts.into_iter().flatten().collect()
}

/// The update with the best eval loss.
fn best(train: &TrainSummary) -> Option<Mark> {
    let finite = train.eval_losses.iter().filter(|it| it[1].is_finite());
    // Of equal ones the first, as training chose.
    let [update, _] = finite.min_by(|a, b| a[1].total_cmp(&b[1]))?;
    Some(Mark { x: *update, label: format!("best: update {}", numbers::value(*update)) })
}

/// How fast it went and how close to what the machine can do.
fn pace(cost: &TrainCost) -> Vec<(&'static str, Item)> {
    let giga = |it: f64| format!("{:.1}", it / 1e9);
    let mut facts = Vec::new();
    facts.extend(cost.rows_per_second().map(|it| {
        fact("throughput", Item::Number(format!("{} rows/s", numbers::value(it.round()))))
    }));
    facts.extend(cost.operations_per_second().map(|it| {
        let ceiling = match (cost.share_of_ceiling(), cost.ceiling) {
            (Some(share), Some(ceiling)) => format!(
                ", {} of the {} GFLOP/s measured here",
                numbers::percent((share * 1000.0).round() / 1000.0),
                giga(ceiling)
            ),
            _ => String::new(),
        };
        fact("matrix products", Item::Number(format!("{} GFLOP/s{ceiling}", giga(it))))
    }));
    let mib = |it: u64| format!("{} MiB", thousands(it >> 20));
    facts.extend(cost.peak_memory.map(|it| fact("peak memory", Item::Number(mib(it)))));
    facts
}

/// Where the time of an update went.
fn times(cost: &TrainCost) -> Option<Table> {
    let total: f64 = cost.parts.iter().map(|it| it.1).sum();
    if cost.n_updates == 0 || total <= 0.0 {
        return None;
    }
    let row = |(part, seconds): &(String, f64)| {
        vec![
            words(part),
            Item::Number(format!("{:.3}", seconds * 1000.0 / cost.n_updates as f64)),
            Item::Number(numbers::seconds(*seconds)),
            Item::Number(numbers::percent((seconds / total * 1000.0).round() / 1000.0)),
        ]
    };
    Some(Table {
        caption: format!("Where the time of {} updates went", thousands(cost.n_updates)),
        columns: vec![
            Column::Text("part"),
            Column::Number("ms an update".to_owned()),
            Column::Number("in all".to_owned()),
            Column::Number("share".to_owned()),
        ],
        rows: cost.parts.iter().map(row).collect(),
    })
}

/// Every feature and how it became numbers.
pub(crate) fn features(train: &TrainSummary) -> Table {
    Table {
        caption: "Features".to_owned(),
        columns: vec![Column::Text("feature"), Column::Text("becomes")],
        rows: train.features.iter().map(|(column, how)| vec![name(column), words(how)]).collect(),
    }
}

/// The spec, one dotted key a row.
pub(crate) fn spec(train: &TrainSummary) -> Table {
    fn flatten(key: &str, value: &serde_json::Value, rows: &mut Vec<Vec<Item>>) {
        match value {
            serde_json::Value::Object(map) if !map.is_empty() => {
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_by(|a, b| a.0.cmp(b.0));
                for (inner, value) in entries {
                    let key = if key.is_empty() { inner.clone() } else { format!("{key}.{inner}") };
                    flatten(&key, value, rows);
                }
            }
            value => rows.push(vec![name(key), name(value.to_string())]),
        }
    }
    let mut rows = Vec::new();
    flatten("", &train.spec, &mut rows);
    Table {
        caption: "Spec".to_owned(),
        columns: vec![Column::Text("key"), Column::Text("value")],
        rows,
    }
}

/// A row of a [`fact_table`].
pub(crate) fn fact(what: &'static str, value: Item) -> (&'static str, Item) {
    (what, value)
}

/// Names and values of one thing.
pub(crate) fn fact_table(caption: &str, facts: Vec<(&'static str, Item)>) -> Table {
    Table {
        caption: caption.to_owned(),
        columns: vec![Column::Text("what"), Column::Text("value")],
        rows: facts.into_iter().map(|(what, value)| vec![words(what), value]).collect(),
    }
}

/// Everything the result rests on, by digest.
pub(crate) fn lineage(summary: &RunSummary) -> Block {
    let digest = |it: Digest| name(it.to_string());
    let mut facts = vec![fact("snapshot", digest(summary.data.digest))];
    if let Some(train) = &summary.train {
        facts.extend([fact("train run", name(&train.run)), fact("model", digest(train.model))]);
    }
    if let Some(verdict) = &summary.verdict {
        let judged = &verdict.judged;
        facts.push(fact("candidate", digest(judged.candidate)));
        facts.extend(judged.baseline.map(|it| fact("baseline", digest(it))));
        facts.extend(judged.anchor.map(|it| fact("anchor", digest(it))));
        facts.push(fact("evaluation snapshot", digest(judged.snapshot)));
        facts.push(fact("rows and labels", digest(judged.rows)));
        facts.push(fact("predictions", digest(judged.predictions)));
        facts
            .extend(judged.baseline_predictions.map(|it| fact("baseline predictions", digest(it))));
        facts.extend(judged.anchor_predictions.map(|it| fact("anchor predictions", digest(it))));
        facts.push(fact("policy", digest(judged.policy)));
        facts.push(fact("judged by", name(&judged.tool)));
        facts.extend(judged.binary.map(|it| fact("judging executable", digest(it))));
        facts.extend(judged.code.commit.as_ref().map(|it| fact("code when judged", name(it))));
        facts.extend(
            verdict.ledger.as_ref().map(|it| fact("ledger entry before", digest(it.previous))),
        );
    }
    facts.extend(summary.verdict_digest.map(|it| fact("verdict", digest(it))));
    facts.push(match &summary.code.commit {
        Some(commit) => fact("code", name(commit)),
        None => fact("code", words("not in a git work tree")),
    });
    if summary.code.is_dirty == Some(true) {
        facts.push(fact("code state", words("tracked files differ from that commit")));
    }
    facts.push(fact("tool", name(&summary.tool)));
    Block::Table(fact_table("Everything the result rests on", facts))
}
