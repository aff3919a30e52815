//! What a verdict rests on beside its rules: answers that changed, slices tested, seeds, measures of operation, waivers.

use std::collections::BTreeMap;

use karat_core::{Finding, Outcome, Verdict, policy::Measure, thousands, verdict::FamilyTest};

use crate::{
    content::{Block, Column, Item, Table, name, number, words},
    number as numbers,
    sections::fold,
};

/// How the gate names the rows that changed sides (`Finding::numbers`).
const FIXED: &str = "wrong_to_right";
const BROKEN: &str = "right_to_wrong";

/// Exceptions in force, and those that ended.
pub(crate) fn waivers(verdict: &Verdict) -> Vec<Block> {
    let is_waiver = |it: &&Finding| it.outcome == Outcome::Waived || it.subject == "waiver";
    let rows: Vec<Vec<Item>> = verdict
        .findings
        .iter()
        .filter(is_waiver)
        .map(|it| {
            vec![Item::Outcome(it.outcome), name(&it.rule), words(&it.subject), words(&it.message)]
        })
        .collect();
    if rows.is_empty() {
        return Vec::new();
    }
    vec![Block::Table(Table {
        caption: "Exceptions the policy makes".to_owned(),
        columns: vec![
            Column::Text("outcome"),
            Column::Text("rule"),
            Column::Text("asked of"),
            Column::Text("what is excused, until when, by whom and why"),
        ],
        rows,
    })]
}

/// Whether a finding counts rows whose answer changed, and its examples are such rows.
pub(crate) fn is_about_flips(finding: &Finding) -> bool {
    [FIXED, BROKEN].iter().all(|it| finding.numbers.contains_key(*it))
}

/// Rows whose answer became right or wrong, by what was compared, and the first of them by name.
pub(crate) fn flips(verdict: &Verdict) -> Vec<Block> {
    // Rules about different metrics of one slice count the same rows.
    let mut seen: BTreeMap<&str, &Finding> = BTreeMap::new();
    let mut places = Vec::new();
    for finding in &verdict.findings {
        if !is_about_flips(finding) {
            continue;
        }
        let place = finding.subject.split_once(", ").map_or(finding.subject.as_str(), |it| it.1);
        let known = seen.entry(place).or_insert_with(|| {
            places.push(place);
            finding
        });
        if known.examples.is_empty() {
            *known = finding;
        }
    }
    if places.is_empty() {
        return Vec::new();
    }
    let mut counts = Vec::new();
    let mut examples = Vec::new();
    for (place, finding) in places.into_iter().filter_map(|it| Some((it, *seen.get(it)?))) {
        let count = |key| finding.numbers.get(key).copied().filter(|it| it.is_finite());
        let net = count(FIXED).zip(count(BROKEN)).map(|(fixed, broken)| fixed - broken);
        counts.push(vec![
            words(place),
            number(finding.n_rows, thousands),
            number(count(FIXED), numbers::value),
            number(count(BROKEN), numbers::value),
            number(net, numbers::signed_value),
        ]);
        for example in &finding.examples {
            let (change, row) = example.split_once(": ").unwrap_or(("changed", example));
            examples.push(vec![words(place), words(change), name(row)]);
        }
    }
    let mut blocks = vec![Block::Table(Table {
        caption: "Answers that changed against the baseline".to_owned(),
        columns: vec![
            Column::Text("where"),
            Column::Number("rows".to_owned()),
            Column::Number("wrong → right".to_owned()),
            Column::Number("right → wrong".to_owned()),
            Column::Number("net".to_owned()),
        ],
        rows: counts,
    })];
    if !examples.is_empty() {
        let table = Table {
            caption: "The first rows whose answer changed".to_owned(),
            columns: vec![Column::Text("where"), Column::Text("change"), Column::Text("row")],
            rows: examples,
        };
        blocks.push(fold("The first rows whose answer changed", table));
    }
    blocks
}

/// Every slice against the baseline, P adjusted for how many slices were looked at.
pub(crate) fn families(verdict: &Verdict) -> Vec<Block> {
    let mut names: Vec<&str> = Vec::new();
    for test in &verdict.families {
        if !names.contains(&test.family.as_str()) {
            names.push(&test.family);
        }
    }
    if names.is_empty() {
        return Vec::new();
    }
    let alpha = 1.0 - verdict.reliability;
    let mut blocks = vec![Block::Line(vec![words(format!(
        "P is of \"no difference\". Among many slices some look different by chance: Holm bounds the chance of any such \
         alarm in a family, BH (Benjamini and Hochberg) the share of such alarms among all. Judged at {}. These tests \
         decide nothing; rules do.",
        numbers::percent(alpha)
    ))])];
    for (at, family) in names.into_iter().enumerate() {
        let rows = verdict.families.iter().filter(|it| it.family == family);
        let table = Table {
            caption: format!("Slices of {family} against the baseline"),
            columns: vec![
                Column::Text("slice"),
                Column::Text("metric"),
                Column::Number("rows".to_owned()),
                Column::Number("improvement".to_owned()),
                Column::Number("P".to_owned()),
                Column::Number("P, Holm".to_owned()),
                Column::Number("P, BH".to_owned()),
                Column::Text("differs"),
            ],
            rows: rows.map(|it| family_row(verdict, it, alpha)).collect(),
        };
        if at == 0 {
            blocks.push(Block::Table(table));
        } else {
            blocks.push(fold(&table.caption.clone(), table));
        }
    }
    blocks
}

fn family_row(verdict: &Verdict, test: &FamilyTest, alpha: f64) -> Vec<Item> {
    let improvement =
        verdict.report.cell(test.metric, &test.slice).and_then(|cell| cell.improvement);
    let differs = match (test.p_holm <= alpha, test.p_bh <= alpha) {
        (true, _) => "yes",
        (false, true) => "by BH alone",
        (false, false) => "not shown",
    };
    vec![
        name(&test.slice),
        name(test.metric.word()),
        Item::Number(thousands(test.n_rows)),
        number(improvement, numbers::signed),
        Item::Number(numbers::metric(test.p)),
        Item::Number(numbers::metric(test.p_holm)),
        Item::Number(numbers::metric(test.p_bh)),
        words(differs),
    ]
}

/// What other seeds would change.
pub(crate) fn seeds(verdict: &Verdict) -> Vec<Block> {
    let Some(seeds) = &verdict.seeds else { return Vec::new() };
    let row = |source: &str, variance: f64| {
        vec![
            words(source),
            Item::Number(numbers::metric(variance)),
            number(Some(variance.sqrt()).filter(|it| it.is_finite()), numbers::metric),
        ]
    };
    vec![
        Block::Line(vec![words(format!(
            "{} models were trained that differ in the seed alone. A claim about this candidate rests on the choice of \
             rows; one about the recipe on rows and seeds.",
            thousands(u64::from(seeds.n_seeds))
        ))]),
        Block::Table(Table {
            caption: format!("Variance of {} on all rows", seeds.metric),
            columns: vec![
                Column::Text("from"),
                Column::Number("variance".to_owned()),
                Column::Number("standard deviation".to_owned()),
            ],
            rows: vec![row("rows", seeds.item), row("seeds", seeds.seed), row("both", seeds.joint)],
        }),
    ]
}

/// Measures of operation, each with what the policy asks of it.
pub(crate) fn operation(verdict: &Verdict) -> Vec<Block> {
    if verdict.operational.is_empty() {
        return Vec::new();
    }
    let rows = verdict.operational.iter().map(|(word, value)| {
        let of_rule = verdict.findings.iter().filter(|it| it.subject == *word);
        let worst = of_rule.max_by_key(|it| it.outcome);
        vec![
            name(word),
            Item::Number(operational(word, *value)),
            worst.map_or(Item::Absent, |it| words(&it.bound)),
            worst.map_or(Item::Absent, |it| Item::Outcome(it.outcome)),
        ]
    });
    vec![Block::Table(Table {
        caption: "Measured while scoring, without interval".to_owned(),
        columns: vec![
            Column::Text("measure"),
            Column::Number("value".to_owned()),
            Column::Text("bound"),
            Column::Text("outcome"),
        ],
        rows: rows.collect(),
    })]
}

/// A measured value with its unit.
fn operational(word: &str, value: f64) -> String {
    match word.parse::<Measure>() {
        Ok(it) if it.is_yes_or_no() => {
            // Anything but 1 is no: what was not shown to hold does not hold.
            if value.to_bits() == 1.0_f64.to_bits() { "yes".to_owned() } else { "no".to_owned() }
        }
        Ok(Measure::RowsPerSecond) => format!("{} rows/s", numbers::value(value.round())),
        Ok(Measure::LatencyP50Ms | Measure::LatencyP95Ms) => format!("{value:.2} ms"),
        Ok(Measure::PeakMemoryMib | Measure::ModelSizeMib) => format!("{value:.2} MiB"),
        Ok(Measure::ParityFlips | Measure::Robustness(_)) => numbers::percent(value),
        _ => numbers::value(value),
    }
}
