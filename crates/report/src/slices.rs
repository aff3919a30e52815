//! Every metric on every slice: a table, and pictures of the candidate's values and of their distance from the baseline.

use karat_core::{Verdict, metric::Metric, thousands, verdict::Cell};

use crate::{
    content::{Block, Chart, Column, Item, SliceChart, SliceRow, Table, name, number},
    number as numbers,
    sections::{ALL, level, value_columns, values},
};

/// Charts and a table per metric; all but the first behind a fold.
pub(crate) fn by_slice(verdict: &Verdict) -> Vec<Block> {
    let mut blocks = Vec::new();
    for metric in Metric::ALL.into_iter().filter(|it| sliced(verdict, *it).next().is_some()) {
        let mut shown: Vec<Block> =
            [Some(value_chart(verdict, metric)), improvement_chart(verdict, metric)]
                .into_iter()
                .flatten()
                .map(|it| Block::Chart(Chart::Slices(it)))
                .collect();
        shown.push(Block::Table(table(verdict, metric)));
        if blocks.is_empty() {
            blocks.push(Block::Line(vec![name(metric.word())]));
            blocks.extend(shown);
        } else {
            blocks.push(Block::Fold { title: vec![name(metric.word())], blocks: shown });
        }
    }
    blocks
}

fn sliced(verdict: &Verdict, metric: Metric) -> impl Iterator<Item = &Cell> {
    verdict.report.cells.iter().filter(move |it| it.metric == metric && it.slice != ALL)
}

fn table(verdict: &Verdict, metric: Metric) -> Table {
    let label_mean = |slice: &str| {
        verdict.report.slices.iter().find(|it| it.slice == slice).and_then(|it| it.label_mean)
    };
    let mut columns = vec![
        Column::Text("slice"),
        Column::Number("rows".to_owned()),
        Column::Number("label mean".to_owned()),
    ];
    columns.extend(value_columns(verdict));
    let row = |cell: &Cell| {
        let what = vec![
            name(&cell.slice),
            Item::Number(thousands(cell.n_rows)),
            number(label_mean(&cell.slice), numbers::metric),
        ];
        [what, values(cell)].concat()
    };
    Table {
        caption: format!("{metric} by slice"),
        columns,
        rows: sliced(verdict, metric).map(row).collect(),
    }
}

fn value_chart(verdict: &Verdict, metric: Metric) -> SliceChart {
    let rows: Vec<SliceRow> = sliced(verdict, metric)
        .filter_map(|cell| {
            Some(SliceRow {
                slice: cell.slice.clone(),
                n_rows: cell.n_rows,
                value: finite(cell.value)?,
                interval: ends(cell.interval),
                baseline: finite(cell.baseline),
            })
        })
        .collect();
    let guide = verdict.report.cell(metric, ALL).and_then(|it| finite(it.value));
    let mut legend = format!("Dots are the candidate, whiskers its {} interval", level(verdict));
    if rows.iter().any(|it| it.baseline.is_some()) {
        legend.push_str(", hollow diamonds the baseline");
    }
    if guide.is_some() {
        legend.push_str("; the dashed line is the candidate on all rows");
    }
    SliceChart { title: format!("{metric} by slice"), legend, guide, is_change: false, rows }
}

/// Candidate against baseline with the interval of the difference, which the intervals of both values do not show.
fn improvement_chart(verdict: &Verdict, metric: Metric) -> Option<SliceChart> {
    let rows: Vec<SliceRow> = sliced(verdict, metric)
        .filter_map(|cell| {
            Some(SliceRow {
                slice: cell.slice.clone(),
                n_rows: cell.n_rows,
                value: finite(cell.improvement)?,
                interval: Some(ends(cell.improvement_interval)?),
                baseline: None,
            })
        })
        .collect();
    let chart = SliceChart {
        title: format!("Improvement of {metric} by slice"),
        legend: format!(
            "Dots are the candidate against the baseline, whiskers the {} interval of the difference; right of the \
             dashed line the candidate is better",
            level(verdict)
        ),
        guide: Some(0.0),
        is_change: true,
        rows,
    };
    (!chart.rows.is_empty()).then_some(chart)
}

fn finite(value: Option<f64>) -> Option<f64> {
    value.filter(|it| it.is_finite())
}

fn ends(interval: Option<[f64; 2]>) -> Option<[f64; 2]> {
    interval.filter(|it| it.iter().all(|end| end.is_finite()))
}
