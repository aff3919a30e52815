//! `MODEL_CARD.md`: what a model is, what it was made from, how well it does where, and what nobody knows about it.

use karat_core::{Outcome, Verdict, summary::RunSummary};

use crate::{
    content::{Block, Entry, Item, Sentence, name, number, words},
    markdown::{Page, REPORT_MD_LEN_MAX},
    number as numbers, record, sections, slices,
};

/// The card of the candidate of `summary`, as Markdown.
#[must_use]
pub fn model_card(summary: &RunSummary) -> String {
    let train = summary.train.as_ref();
    let verdict = summary.verdict.as_ref();
    let version = train.map(|it| &it.version).or(verdict.map(|it| &it.candidate));
    let title = match version {
        Some(version) => vec![words("Model card of "), name(version)],
        None => vec![words("Model card: no model was made or judged in this run")],
    };
    let mut lead = vec![sections::headline(summary)];
    lead.extend(sections::lead(summary));
    let mut parts = vec![sections::section("What it is", 3_000, vec![what_it_is(summary)])];
    parts.push(sections::section("Rows", 2_000, record::dataset(summary)));
    if let Some(train) = train {
        parts.push(sections::section(
            "Features",
            8_000,
            vec![Block::Table(record::features(train))],
        ));
        let mut training = vec![Block::Table(record::spec(train))];
        training.extend(record::losses(train));
        parts.push(sections::section("Training", 4_000, training));
    }
    if let Some(verdict) = verdict {
        parts.push(sections::section("Evaluation", 5_000, sections::metrics(verdict)));
        parts.push(sections::section("Evaluation by slice", 12_000, slices::by_slice(verdict)));
    }
    parts.push(sections::section("Limits", 8_000, limits(summary)));
    parts.push(sections::section("Lineage", 3_000, vec![record::lineage(summary)]));
    let page = Page { len_max: REPORT_MD_LEN_MAX, link: Some("report.html") };
    page.of(&title, &lead, &parts)
}

fn what_it_is(summary: &RunSummary) -> Block {
    let mut facts = vec![record::fact("project", name(&summary.project))];
    if let Some(train) = &summary.train {
        facts.extend([
            record::fact("version", name(&train.version)),
            record::fact("task", words(&train.task)),
            record::fact("predicts", name(&train.label)),
        ]);
        if !train.classes.is_empty() {
            facts.push(record::fact("classes", name(train.classes.join(", "))));
        }
        facts.extend([
            record::fact("parameters", number(Some(train.n_parameters), karat_core::thousands)),
            record::fact("features", Item::Number(train.features.len().to_string())),
            record::fact("trained on", name(&train.device)),
            record::fact("seed", Item::Number(train.seed.to_string())),
        ]);
    }
    facts.push(record::fact("made by", name(&summary.tool)));
    Block::Table(record::fact_table("What it is", facts))
}

/// What the record does not support: rules that could not be decided, slices without a value, no baseline.
fn limits(summary: &RunSummary) -> Vec<Block> {
    let mut entries: Vec<Sentence> = Vec::new();
    match &summary.verdict {
        None => entries.push(vec![words("never judged: no gate was applied to it")]),
        Some(verdict) => entries.extend(limits_of(verdict)),
    }
    for finding in summary.checks.iter().filter(|it| it.outcome != Outcome::Pass) {
        entries.push(vec![
            words("check "),
            name(&finding.rule),
            words(" "),
            words(&finding.subject),
            words(": "),
            words(&finding.message),
        ]);
    }
    if summary.code.is_dirty == Some(true) {
        entries.push(vec![words("made from code that differs from its commit")]);
    }
    // What no record can know, said so that its absence is not taken for an answer.
    entries.push(vec![words(
        "written from the record of the run: intended use, and who may be harmed by a wrong answer, are for its owner to add",
    )]);
    vec![Block::List(entries.into_iter().map(|head| Entry { head, below: Vec::new() }).collect())]
}

fn limits_of(verdict: &Verdict) -> Vec<Sentence> {
    let mut out = Vec::new();
    if verdict.is_unbaselined {
        out.push(vec![words(
            "unbaselined: compared with no other version, only with absolute rules",
        )]);
    }
    for finding in verdict.findings.iter().filter(|it| it.outcome != Outcome::Pass) {
        out.push(vec![
            Item::Outcome(finding.outcome),
            words(": rule "),
            name(&finding.rule),
            words(" "),
            words(&finding.subject),
            words(": "),
            words(&finding.message),
        ]);
    }
    for cell in verdict.report.cells.iter().filter(|it| it.value.is_none()) {
        out.push(vec![
            name(cell.metric.word()),
            words(" is not known for slice "),
            name(&cell.slice),
            words(format!(" ({} rows): ", karat_core::thousands(cell.n_rows))),
            words(cell.reason.as_deref().unwrap_or("no reason was recorded")),
        ]);
    }
    if verdict.findings.is_empty() {
        out.push(vec![words("the gate had no rule")]);
    }
    out.push(vec![words(format!(
        "intervals are about rows, at reliability {}; how much another seed would change is not in them",
        numbers::percent(verdict.reliability)
    ))]);
    out
}
