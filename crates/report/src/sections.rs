//! What a report says about a run, once for every format: worst first, facts before advice.

use karat_core::{
    Finding, ModelRef, Outcome, Verdict,
    policy::Reveal,
    summary::{PromotionSummary, RunSummary},
    thousands,
    verdict::{Cell, LedgerUse},
};

use crate::{
    content::{Block, Column, Entry, Item, Section, Sentence, Table, mark, name, number, words},
    curves,
    escape::line,
    evidence, number as numbers, record, slices,
};

/// The slice of all rows.
pub(crate) const ALL: &str = "all";

/// The report in reading order.
pub(crate) fn report(summary: &RunSummary) -> Vec<Section> {
    let mut sections = summary.verdict.as_ref().map_or_else(Vec::new, judged);
    sections.push(section("Checks", 8_000, checks(&summary.checks)));
    sections.push(section("Rows", 2_000, record::dataset(summary)));
    if let Some(train) = &summary.train {
        sections.push(section("Training", 4_000, record::training(train)));
    }
    sections.push(section("Lineage", 3_000, vec![record::lineage(summary)]));
    sections.push(section("Next", 3_000, next(summary)));
    sections
}

/// What a verdict says.
pub(crate) fn judged(verdict: &Verdict) -> Vec<Section> {
    vec![
        section("Rules", 14_000, rules(verdict)),
        section("Waivers", 1_000, evidence::waivers(verdict)),
        section("Metrics", 5_000, metrics(verdict)),
        section("By slice", 10_000, slices::by_slice(verdict)),
        section("Changed answers", 2_000, evidence::flips(verdict)),
        section("Slices against the baseline", 2_000, evidence::families(verdict)),
        section("Curves", 0, curves::curves(&verdict.report)),
        section("Seeds", 800, evidence::seeds(verdict)),
        section("Operation", 1_500, evidence::operation(verdict)),
    ]
}

/// A section.
pub(crate) fn section(title: &'static str, share: usize, blocks: Vec<Block>) -> Section {
    Section { title, share, is_folded: false, blocks }
}

/// The verdict in one sentence.
pub(crate) fn headline(summary: &RunSummary) -> Sentence {
    let Some(outcome) = summary.outcome() else {
        return vec![words("nothing was decided: no check and no gate was asked")];
    };
    let mut out = vec![Item::Outcome(outcome), words(": ")];
    match &summary.verdict {
        // A failed check decides before any verdict does (`RunSummary::outcome`).
        Some(verdict) if !checks_fail(summary) => out.extend(judgement(verdict)),
        _ => out.extend(check_result(summary)),
    }
    out
}

/// The headline as one line of plain text.
pub(crate) fn headline_text(summary: &RunSummary) -> String {
    let text = |item: &Item| match item {
        Item::Words(text) | Item::Name(text) | Item::Number(text) => line(text),
        Item::Outcome(outcome) => outcome.word().to_owned(),
        Item::Absent => String::new(),
    };
    headline(summary).iter().map(text).collect()
}

fn checks_fail(summary: &RunSummary) -> bool {
    summary.checks.iter().any(|it| matches!(it.outcome, Outcome::Fail | Outcome::NotApplied))
}

/// Who was judged by what, and how many rules hold.
pub(crate) fn judgement(verdict: &Verdict) -> Sentence {
    let verb = match verdict.outcome {
        Outcome::Pass | Outcome::Waived | Outcome::Warn => " passes ",
        Outcome::Inconclusive => " cannot tell about ",
        Outcome::NotApplied | Outcome::Fail => " refuses ",
    };
    let mut out = vec![words("gate "), name(&verdict.gate), words(verb), name(&verdict.candidate)];
    if verdict.judged.baseline.is_some() || verdict.baseline == "naive" {
        out.extend([words(" against "), name(&verdict.baseline)]);
    }
    let outcomes: Vec<Outcome> = rule_names(verdict)
        .into_iter()
        .filter_map(|rule| {
            verdict.findings.iter().filter(|it| it.rule == rule).map(|it| it.outcome).max()
        })
        .collect();
    out.push(words(format!(": {}", tally(&outcomes, "rule"))));
    out
}

fn check_result(summary: &RunSummary) -> Sentence {
    let outcomes: Vec<Outcome> = summary.checks.iter().map(|it| it.outcome).collect();
    let mut tally = tally(&outcomes, "check");
    if checks_fail(summary) && summary.train.is_none() {
        tally.push_str("; nothing was trained");
    }
    vec![words("snapshot "), name(&summary.data.snapshot), words(format!(": {tally}"))]
}

/// `7 of 9 rules hold, 1 fails, 1 lacks rows`.
fn tally(outcomes: &[Outcome], noun: &str) -> String {
    let n_all = outcomes.len();
    let plural = if n_all == 1 { "" } else { "s" };
    let n = |outcome: Outcome| outcomes.iter().filter(|it| **it == outcome).count();
    let n_pass = n(Outcome::Pass);
    let verb = if n_pass == 1 { "holds" } else { "hold" };
    let mut out = format!("{n_pass} of {n_all} {noun}{plural} {verb}");
    for (outcome, one, many) in [
        (Outcome::Fail, "fails", "fail"),
        (Outcome::NotApplied, "could not be applied", "could not be applied"),
        (Outcome::Inconclusive, "lacks rows", "lack rows"),
        (Outcome::Warn, "warns", "warn"),
        (Outcome::Waived, "is waived", "are waived"),
    ] {
        match n(outcome) {
            0 => {}
            1 => out.push_str(&format!(", 1 {one}")),
            n => out.push_str(&format!(", {n} {many}")),
        }
    }
    out
}

/// The rules' names in the policy's order.
fn rule_names(verdict: &Verdict) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for finding in &verdict.findings {
        if !names.contains(&finding.rule.as_str()) {
            names.push(&finding.rule);
        }
    }
    names
}

/// What else a reader must know before the first table.
pub(crate) fn lead(summary: &RunSummary) -> Vec<Sentence> {
    let mut out = Vec::new();
    if let Some(promotion) = &summary.promotion {
        out.push(promoted(promotion));
    }
    if let Some(verdict) = &summary.verdict {
        if verdict.is_unbaselined {
            out.push(vec![words(
                "No baseline: the policy lets a first version pass on absolute rules alone.",
            )]);
        }
        if verdict.inconclusive_is_allowed && verdict.outcome == Outcome::Inconclusive {
            out.push(vec![words("The policy lets an inconclusive verdict end with exit 0.")]);
        }
        if let Some(anchor) = &verdict.anchor {
            out.push(vec![
                words("Rules about changes were judged against the anchor "),
                name(anchor),
                words(" too, so that small losses cannot add up."),
            ]);
        }
        out.extend(verdict.ledger.as_ref().map(used));
        out.push(vec![words(format!(
            "Each bound is decided one-sided at reliability {}, so the intervals shown are two-sided {} ones.",
            numbers::percent(verdict.reliability),
            level(verdict)
        ))]);
    }
    out
}

/// How often these rows have been used.
fn used(ledger: &LedgerUse) -> Sentence {
    let n = thousands(u64::from(ledger.n_uses));
    let text = match ledger.n_allowed {
        Some(allowed) => {
            let left = allowed.saturating_sub(ledger.n_uses);
            let end = match left {
                0 if allowed < ledger.n_uses => "the budget is spent, only fresh rows can tell",
                0 => "this was the last",
                1 => "1 is left",
                left => &format!("{} are left", thousands(u64::from(left))),
            };
            format!("Use {n} of {} of these rows; {end}.", thousands(u64::from(allowed)))
        }
        None => format!("Use {n} of these rows; the policy sets no budget."),
    };
    let unseen = match ledger.reveal {
        Reveal::Verdict => " Numbers about answers stay unseen, as the policy asks.",
        Reveal::Numbers => "",
    };
    vec![words(text + unseen)]
}

fn promoted(promotion: &PromotionSummary) -> Sentence {
    let mut out = vec![name(&promotion.alias)];
    match (&promotion.from, &promotion.to) {
        (Some(from), Some(to)) if promotion.is_moved => {
            out.extend([words(" moved from "), name(from), words(" to "), name(to)]);
        }
        (None, Some(to)) if promotion.is_moved => out.extend([words(" now points to "), name(to)]),
        (_, Some(to)) => out.extend([words(" still points to "), name(to)]),
        (_, None) => out.push(words(" points to nothing")),
    }
    if !promotion.reason.is_empty() {
        out.push(words(format!(": {}", promotion.reason)));
    }
    out
}

/// The level of the two-sided intervals: `90 %`.
pub(crate) fn level(verdict: &Verdict) -> String {
    numbers::percent(2.0f64.mul_add(verdict.reliability, -1.0))
}

/// The findings, worst first, each with its place in the original order.
fn worst_first(findings: &[Finding]) -> Vec<(usize, &Finding)> {
    let mut sorted: Vec<(usize, &Finding)> = findings.iter().enumerate().collect();
    sorted.sort_by_key(|(_, finding)| std::cmp::Reverse(finding.outcome));
    sorted
}

fn rules(verdict: &Verdict) -> Vec<Block> {
    let names = rule_names(verdict);
    let place = |rule: &str| names.iter().position(|it| *it == rule).map(|it| it + 1);
    let sorted = worst_first(&verdict.findings);
    let rows = sorted
        .iter()
        .map(|(_, it)| {
            vec![
                Item::Outcome(it.outcome),
                number(place(&it.rule), |n| n.to_string()),
                name(&it.rule),
                words(&it.subject),
                number(it.value, numbers::metric),
                number(it.interval, numbers::interval),
                words(&it.bound),
                number(it.n_rows, thousands),
            ]
        })
        .collect();
    let table = Table {
        caption: "Every rule on every slice it guards".to_owned(),
        columns: vec![
            Column::Text("outcome"),
            Column::Number("rule".to_owned()),
            Column::Text("name"),
            Column::Text("asked of"),
            Column::Number("value".to_owned()),
            Column::Number(format!("{} interval", level(verdict))),
            Column::Text("bound"),
            Column::Number("rows".to_owned()),
        ],
        rows,
    };
    let mut blocks = vec![Block::Table(table)];
    let unmet: Vec<&Finding> =
        sorted.iter().map(|(_, it)| *it).filter(|it| it.outcome != Outcome::Pass).collect();
    if !unmet.is_empty() {
        blocks.push(Block::List(unmet.into_iter().map(told).collect()));
    }
    let computed: Vec<Vec<Item>> = sorted
        .iter()
        .filter(|(_, it)| !it.numbers.is_empty())
        .map(|(_, it)| vec![name(&it.rule), words(&it.subject), words(all_numbers(it))])
        .collect();
    if !computed.is_empty() {
        blocks.push(fold(
            "Every other number computed on the way",
            Table {
                caption: "Every other number computed on the way".to_owned(),
                columns: vec![
                    Column::Text("rule"),
                    Column::Text("asked of"),
                    Column::Text("numbers"),
                ],
                rows: computed,
            },
        ));
    }
    blocks
}

fn all_numbers(finding: &Finding) -> String {
    let one = |(key, value): (&String, &f64)| format!("{key} {}", numbers::value(*value));
    finding.numbers.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// A finding that does not simply hold: the fact, where, and what to do.
fn told(finding: &Finding) -> Entry {
    let mut entry = located(finding);
    if evidence::is_about_flips(finding) {
        // Rows that changed sides have a table of their own.
        entry.below.drain(..finding.examples.len());
    }
    entry.head.extend([words(": "), words(&finding.message)]);
    entry
}

/// [`told`] without the fact, for findings whose table holds it.
fn located(finding: &Finding) -> Entry {
    let head = vec![
        Item::Outcome(finding.outcome),
        words(" "),
        name(&finding.rule),
        words(" "),
        words(&finding.subject),
    ];
    let examples = finding.examples.iter().map(|it| vec![name(it)]);
    let advice = finding.advice.iter().map(|it| vec![words("advice: "), words(it)]);
    Entry { head, below: examples.chain(advice).collect() }
}

/// A table behind a line with its title and size.
pub(crate) fn fold(title: &str, table: Table) -> Block {
    let title = vec![words(format!("{title} ({})", table.rows.len()))];
    Block::Fold { title, blocks: vec![Block::Table(table)] }
}

/// Every metric on all rows.
pub(crate) fn metrics(verdict: &Verdict) -> Vec<Block> {
    let cells: Vec<&Cell> = verdict.report.cells.iter().filter(|it| it.slice == ALL).collect();
    if cells.is_empty() {
        return Vec::new();
    }
    let mut blocks = Vec::new();
    if let Some(count) = verdict.report.slices.iter().find(|it| it.slice == ALL) {
        let mean = count
            .label_mean
            .map_or_else(String::new, |it| format!(", label mean {}", numbers::metric(it)));
        blocks.push(Block::Line(vec![words(format!(
            "{} labelled rows{mean}",
            thousands(count.n_rows)
        ))]));
    }
    let mut columns = vec![Column::Text("metric"), Column::Text("better")];
    columns.extend(value_columns(verdict));
    let rows = cells.into_iter().map(|cell| {
        let better = if cell.metric.greater_is_better() { "higher" } else { "lower" };
        [vec![name(cell.metric.word()), words(better)], values(cell)].concat()
    });
    blocks.push(Block::Table(Table {
        caption: "Metrics on all rows; an improvement is positive where the candidate is better"
            .to_owned(),
        columns,
        rows: rows.collect(),
    }));
    blocks
}

pub(crate) fn value_columns(verdict: &Verdict) -> Vec<Column> {
    let interval = format!("{} interval", level(verdict));
    ["candidate", &interval, "baseline", "improvement", &interval]
        .map(|it| Column::Number(it.to_owned()))
        .to_vec()
}

pub(crate) fn values(cell: &Cell) -> Vec<Item> {
    let value = match (cell.value, &cell.reason) {
        (None, Some(reason)) => words(reason),
        (value, _) => number(value, numbers::metric),
    };
    vec![
        value,
        number(cell.interval, numbers::interval),
        number(cell.baseline, numbers::metric),
        number(cell.improvement, numbers::signed),
        number(cell.improvement_interval, numbers::signed_interval),
    ]
}

fn checks(findings: &[Finding]) -> Vec<Block> {
    let (holding, unmet): (Vec<&Finding>, Vec<&Finding>) = worst_first(findings)
        .into_iter()
        .map(|(_, it)| it)
        .partition(|it| it.outcome == Outcome::Pass);
    let mut blocks = Vec::new();
    if !unmet.is_empty() {
        blocks.push(Block::Table(check_table("Checks that do not hold", &unmet)));
        let has_more = |it: &&Finding| !it.examples.is_empty() || it.advice.is_some();
        let entries: Vec<Entry> = unmet.into_iter().filter(has_more).map(located).collect();
        if !entries.is_empty() {
            blocks.push(Block::List(entries));
        }
    }
    if !holding.is_empty() {
        blocks.push(fold("Checks that hold", check_table("Checks that hold", &holding)));
    }
    blocks
}

fn check_table(caption: &str, findings: &[&Finding]) -> Table {
    let row = |it: &&Finding| {
        vec![
            Item::Outcome(it.outcome),
            name(&it.rule),
            words(&it.subject),
            words(&it.message),
            words(&it.bound),
            number(it.n_rows, thousands),
        ]
    };
    Table {
        caption: caption.to_owned(),
        columns: vec![
            Column::Text("outcome"),
            Column::Text("check"),
            Column::Text("asked of"),
            Column::Text("found"),
            Column::Text("bound"),
            Column::Number("rows".to_owned()),
        ],
        rows: findings.iter().map(row).collect(),
    }
}

/// What to do next: advice of the findings, worst first, then the command that continues from here.
fn next(summary: &RunSummary) -> Vec<Block> {
    let findings = summary.verdict.iter().flat_map(|it| &it.findings).chain(&summary.checks);
    let mut unmet: Vec<&Finding> = findings.filter(|it| it.outcome != Outcome::Pass).collect();
    unmet.sort_by_key(|it| std::cmp::Reverse(it.outcome));
    let mut advice: Vec<&str> = Vec::new();
    for text in unmet.iter().filter_map(|it| it.advice.as_deref()) {
        if !advice.contains(&text) {
            advice.push(text);
        }
    }
    let mut entries: Vec<Sentence> = advice.into_iter().map(|it| vec![words(it)]).collect();
    if let Some(verdict) = &summary.verdict {
        // A command is offered for pasting only when its arguments are plain references.
        let is_plain = |text: &str| text.parse::<ModelRef>().is_ok();
        let (candidate, baseline) = (&verdict.candidate, &verdict.baseline);
        let passes = summary.outcome().is_some_and(|it| it <= Outcome::Warn);
        if passes && summary.promotion.is_none() && is_plain(candidate) {
            entries.push(vec![
                name(format!("karat promote {candidate}")),
                words(" moves the alias to it"),
            ]);
        }
        if is_plain(candidate) && is_plain(baseline) {
            let command = format!("karat compare {candidate} {baseline}");
            entries.push(vec![name(command), words(" shows both side by side")]);
        }
    }
    if entries.is_empty() {
        return Vec::new();
    }
    vec![Block::List(entries.into_iter().map(|head| Entry { head, below: Vec::new() }).collect())]
}

/// An outcome as text: `✓ pass`.
pub(crate) fn outcome_text(outcome: Outcome) -> String {
    format!("{} {}", mark(outcome), outcome.word())
}
