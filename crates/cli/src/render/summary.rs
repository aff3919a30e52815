//! The closing screen: what was judged, how it came out, what changed, where the report lies, what to try next. Fits one
//! screen of 50 lines.

use std::collections::BTreeMap;

use karat_core::{
    Finding, Outcome,
    metric::Metric,
    policy::Reveal,
    summary::{RunSummary, TrainSummary},
    thousands,
    verdict::{Cell, LedgerUse, Report, SeedVariance},
};

use super::{
    Paint,
    table::{TextTable, beside},
};

/// Lines of slices shown a family; the rest are in the report.
const SLICES_SHOWN: usize = 16;
/// Rules shown; the rest are in the report.
const RULES_SHOWN: usize = 10;
/// Slices named for a rule that does not hold.
const VALUES_SHOWN: usize = 3;

/// The closing screen of `run` and `gate`.
pub(crate) fn render(
    summary: &RunSummary,
    report_at: Option<&str>,
    next: &[String],
    paint: Paint,
) -> String {
    let mut lines = vec![String::new()];
    let splits: Vec<String> = summary
        .data
        .splits
        .iter()
        .map(|(name, n_rows, _)| format!("{name} {}", thousands(*n_rows)))
        .collect();
    lines.push(format!(
        "data     {}  {} rows in {} files  ({})",
        paint.bold(&summary.data.snapshot),
        thousands(summary.data.n_rows),
        summary.data.n_files,
        splits.join(", ")
    ));
    if let Some(train) = &summary.train {
        let version = paint.bold(&train.version);
        lines.push(format!(
            "model    {version}  {}, {} parameters, {} updates over {} rows, seed {}, {}",
            architecture(&train.spec),
            thousands(train.n_parameters),
            thousands(train.n_updates),
            thousands(train.n_rows),
            train.seed,
            train.device
        ));
        if let Some(it) = &train.environment {
            lines.push(format!("repeats  {}; {}", it.tiers_text(), it.device_text()));
        }
        lines.extend(training(train));
    }
    if let Some(verdict) = &summary.verdict {
        lines.push(String::new());
        if !verdict.report.cells.is_empty() {
            lines.extend(metrics(&verdict.report, &verdict.candidate, &verdict.baseline, paint));
            lines.push(String::new());
        }
        let against = match (verdict.is_unbaselined, verdict.baseline.as_str()) {
            (true, _) => "no baseline yet, absolute rules only".to_owned(),
            (false, baseline) => format!("against {baseline}"),
        };
        let anchor = verdict.anchor.as_ref().map_or_else(String::new, |it| format!(" and {it}"));
        lines.push(format!(
            "gate `{}`: {}  ({} at reliability {}, {against}{anchor})",
            verdict.gate,
            paint.bold(&paint.outcome(verdict.outcome)),
            verdict.candidate,
            verdict.reliability
        ));
        lines.extend(verdict.ledger.as_ref().map(|it| format!("ledger   {}", used(it))));
        lines.extend(findings(&verdict.findings, paint));
        lines.push(seeds(verdict.seeds.as_ref()));
    }
    if let Some(promotion) = &summary.promotion {
        lines.push(String::new());
        let to = promotion.to.as_deref().unwrap_or("nothing");
        lines.push(match (promotion.is_moved, &promotion.from) {
            (true, Some(from)) => format!(
                "{} -> {}  (was {from}; {})",
                promotion.alias,
                paint.bold(to),
                promotion.reason
            ),
            (true, None) => {
                format!("{} -> {}  ({})", promotion.alias, paint.bold(to), promotion.reason)
            }
            (false, _) if promotion.reason == "already there" => {
                format!("{} -> {}  (already there)", promotion.alias, paint.bold(to))
            }
            (false, _) => format!(
                "{} still points to {}: {}",
                promotion.alias,
                paint.bold(to),
                promotion.reason
            ),
        });
    }
    if let Some(at) = report_at {
        lines.push(format!("report   {at}"));
    }
    for (i, hint) in next.iter().enumerate() {
        lines.push(format!("{}{hint}", if i == 0 { "next     " } else { "         " }));
    }
    lines.join("\n")
}

/// What a claim about the recipe rests on, as standard deviations: they have the metric's unit.
fn seeds(found: Option<&SeedVariance>) -> String {
    let Some(found) = found else {
        return "seeds    one, so how much another seed changes is unknown (`train.seeds`)"
            .to_owned();
    };
    format!(
        "seeds    {}: {} varies by {:.4} with the rows, {:.4} with the seed, {:.4} with both",
        found.n_seeds,
        found.metric,
        found.item.sqrt(),
        found.seed.sqrt(),
        found.joint.sqrt()
    )
}

/// Which use of its rows a verdict is, and what it shows.
pub(crate) fn used(place: &LedgerUse) -> String {
    match (place.n_allowed, place.reveal) {
        (None, _) => format!("use {} of these rows, no budget", place.n_uses),
        (Some(allowed), Reveal::Verdict) => {
            format!("use {} of {allowed}, outcomes only", place.n_uses)
        }
        (Some(allowed), Reveal::Numbers) => {
            format!("use {} of {allowed}, numbers shown: reuse is not bounded", place.n_uses)
        }
    }
}

/// How training went: speed, where time went, the course of the loss.
fn training(train: &TrainSummary) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(cost) = &train.cost {
        let mut parts: Vec<String> = Vec::new();
        parts.extend(cost.rows_per_second().map(|it| format!("{} rows/s", thousands(it as u64))));
        parts.extend(
            cost.share_of_ceiling()
                .map(|it| format!("{:.0} % of the measured GFLOP/s", it * 100.0)),
        );
        parts.extend(cost.peak_memory.map(|it| format!("peak memory {} MiB", thousands(it >> 20))));
        if !parts.is_empty() {
            lines.push(format!("speed    {}", parts.join(", ")));
        }
    }
    let losses: Vec<f64> =
        train.losses.iter().map(|it| it[1]).filter(|it| it.is_finite()).collect();
    if let (Some(first), Some(last)) = (losses.first(), losses.last()) {
        let best = train.eval_losses.iter().min_by(|a, b| a[1].total_cmp(&b[1]));
        let best = best.map_or_else(String::new, |[update, loss]| {
            format!("; eval {loss:.4} at update {}", thousands(*update as u64))
        });
        let shape = karat_report::spark(&losses);
        lines.push(format!("loss     {shape} {first:.4} to {last:.4}{best}"));
    }
    lines.extend(train.ended_early.as_ref().map(|why| format!("ended    {why}")));
    lines
}

fn architecture(spec: &serde_json::Value) -> String {
    let model = &spec["model"];
    let kind = model["kind"].as_str().unwrap_or("model");
    match model["hidden"].as_array() {
        Some(hidden) => {
            let widths: Vec<String> = hidden.iter().map(ToString::to_string).collect();
            format!("{kind} {}", widths.join("-"))
        }
        None => match (model["blocks"].as_u64(), model["width"].as_u64()) {
            (Some(blocks), Some(width)) => format!("{kind} {blocks} x {width}"),
            _ => kind.to_owned(),
        },
    }
}

/// The metric that says most, per task.
fn leading(report: &Report) -> Option<Metric> {
    [Metric::Auc, Metric::R2, Metric::Accuracy]
        .into_iter()
        .find(|metric| {
            report.cells.iter().any(|cell| cell.metric == *metric && cell.slice == "all")
        })
        .or_else(|| report.cells.first().map(|cell| cell.metric))
}

fn metrics(report: &Report, candidate: &str, baseline: &str, paint: Paint) -> Vec<String> {
    let has_baseline = report.cells.iter().any(|cell| cell.baseline.is_some());
    let mut lines = Vec::new();
    let header: Vec<&str> = if has_baseline {
        vec!["all rows", candidate, "", baseline, "better by", ""]
    } else {
        vec!["all rows", candidate, ""]
    };
    let mut all = TextTable::new(&header);
    for cell in report.cells.iter().filter(|cell| cell.slice == "all") {
        let mut row =
            vec![cell.metric.word().to_owned(), value(cell.value), interval(cell.interval)];
        if has_baseline {
            row.extend([
                value(cell.baseline),
                signed(cell.improvement),
                interval(cell.improvement_interval),
            ]);
        }
        all.row(row);
    }
    let Some(metric) = leading(report) else { return lines };
    let mut families: BTreeMap<&str, Vec<&Cell>> = BTreeMap::new();
    for cell in report.cells.iter().filter(|cell| cell.metric == metric && cell.slice != "all") {
        families.entry(cell.slice.split('=').next().unwrap_or_default()).or_default().push(cell);
    }
    // `month` before `carrier`: shorter families first, so that the longest stands at the right edge.
    let mut families: Vec<_> = families.into_iter().collect();
    families.sort_by_key(|(name, cells)| (cells.len(), *name));
    let mut blocks = vec![all.lines()];
    let mut below = Vec::new();
    for (name, mut cells) in families {
        natural(&mut cells);
        let mut table = TextTable::bare();
        for cell in cells.iter().take(SLICES_SHOWN) {
            let label = cell.slice.split_once('=').map_or(cell.slice.as_str(), |(_, it)| it);
            table.row(vec![
                label.to_owned(),
                value(cell.value),
                interval(cell.interval),
                thousands(cell.n_rows),
            ]);
        }
        let mut block = vec![paint.bold(&format!("{} by {name}", metric.word()))];
        block.extend(table.lines());
        if SLICES_SHOWN < cells.len() {
            block.push(paint.dim(&format!("and {} more", cells.len() - SLICES_SHOWN)));
        }
        below.push(block);
    }
    lines.extend(blocks.remove(0));
    if !below.is_empty() {
        lines.push(String::new());
        lines.extend(beside(&below));
    }
    lines
}

/// Numbers by value, everything else by text.
fn natural(cells: &mut [&Cell]) {
    let key = |cell: &Cell| {
        let label = cell.slice.split_once('=').map_or("", |(_, it)| it).to_owned();
        (label.parse::<i64>().unwrap_or(i64::MAX), label)
    };
    cells.sort_by_key(|cell| key(cell));
}

/// One line a rule, worst first: which slices decided it, or how many hold. Every finding in full is in the report.
fn findings(findings: &[Finding], paint: Paint) -> Vec<String> {
    let mut rules: Vec<Vec<&Finding>> = Vec::new();
    for finding in findings {
        match rules.iter_mut().find(|it| it[0].rule == finding.rule) {
            Some(rule) => rule.push(finding),
            None => rules.push(vec![finding]),
        }
    }
    let worst = |rule: &[&Finding]| rule.iter().map(|it| it.outcome).max().unwrap_or(Outcome::Pass);
    rules.sort_by_key(|rule| std::cmp::Reverse(worst(rule)));
    let mut table = TextTable::bare();
    for rule in rules.iter().take(RULES_SHOWN) {
        let outcome = worst(rule);
        table.row(vec![
            format!("  {}", paint.outcome(outcome)),
            rule[0].rule.clone(),
            why(rule, outcome),
        ]);
    }
    let mut lines = Vec::new();
    for (line, rule) in table.lines().into_iter().zip(&rules) {
        lines.push(line);
        let outcome = worst(rule);
        let advice =
            rule.iter().filter(|it| it.outcome == outcome).find_map(|it| it.advice.as_ref());
        if let Some(advice) = advice.filter(|_| outcome != Outcome::Pass) {
            lines.push(format!("    {}: {advice}", paint.cyan("hint")));
        }
    }
    if let Some(rest) = rules.get(RULES_SHOWN..).filter(|it| !it.is_empty()) {
        let word = worst(rest[0].as_slice()).word();
        lines.push(paint.dim(&format!("  and {} more, the worst of them: {word}", rest.len())));
    }
    lines
}

/// What decided a rule, in one short line.
fn why(rule: &[&Finding], outcome: Outcome) -> String {
    let deciding: Vec<&&Finding> = rule.iter().filter(|it| it.outcome == outcome).collect();
    if let [only] = rule {
        return measured(only).unwrap_or_else(|| only.message.clone());
    }
    let bound = rule.iter().find(|it| it.value.is_some()).map_or("", |it| it.bound.as_str());
    if outcome == Outcome::Pass {
        return format!("{} slices hold; must be {bound}", rule.len());
    }
    let Some(values) = deciding.iter().map(|it| short(it)).collect::<Option<Vec<String>>>() else {
        let n_holding = rule.iter().filter(|it| it.outcome == Outcome::Pass).count();
        return format!("{} of {} slices hold; {}", n_holding, rule.len(), deciding[0].message);
    };
    let shown = values.iter().take(VALUES_SHOWN).cloned().collect::<Vec<_>>().join(", ");
    let more = match values.len().saturating_sub(VALUES_SHOWN) {
        0 => String::new(),
        n => format!(", and {n} more"),
    };
    format!("{} of {} slices: {shown}{more}; must be {bound}", deciding.len(), rule.len())
}

/// `0.6486 [0.6460, 0.6512]; must be at least 0.62`.
fn measured(finding: &Finding) -> Option<String> {
    let figure = figure(finding)?;
    let interval = interval(finding.interval);
    Some(format!("{figure} {interval}; must be {}", finding.bound))
}

/// `carrier=UA 0.5712`.
fn short(finding: &Finding) -> Option<String> {
    let slice = finding.subject.split_once("slice ").map_or("all", |(_, slice)| slice);
    Some(format!("{slice} {}", figure(finding)?))
}

/// The value, with its sign where it is a change.
fn figure(finding: &Finding) -> Option<String> {
    let is_change = finding.numbers.contains_key("baseline");
    finding.value.map(|it| if is_change { format!("{it:+.4}") } else { format!("{it:.4}") })
}

pub(crate) fn value(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |it| format!("{it:.4}"))
}

fn signed(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |it| format!("{it:+.4}"))
}

pub(crate) fn interval(interval: Option<[f64; 2]>) -> String {
    interval.map_or_else(String::new, |[low, high]| format!("[{low:.4}, {high:.4}]"))
}
