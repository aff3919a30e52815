//! The curves of all rows: how well scores rank, what they mean, where they lie.

use karat_core::{Task, verdict::Report};

use crate::{
    content::{Block, Chart, Frame, LineChart, Series, Stroke},
    sections::ALL,
};

/// Series that belong to a chart below; any other is shown by itself.
const KNOWN: [&str; 12] = [
    "roc",
    "roc_baseline",
    "precision_recall",
    "precision_recall_baseline",
    "calibration",
    "calibration_baseline",
    "calibration_rows",
    "calibration_rows_baseline",
    "scores_negative",
    "scores_negative_baseline",
    "scores_positive",
    "scores_positive_baseline",
];

/// A chart for each that has points.
pub(crate) fn curves(report: &Report) -> Vec<Block> {
    let series =
        |label: &str, stroke, key: &str| Series::new(label, stroke, report.curves.get(key)?);
    let both = |stroke, key: &str| {
        let baseline = format!("{key}_baseline");
        [series("candidate", stroke, key), series("baseline", stroke, &baseline)]
    };
    let share = report.slices.iter().find(|it| it.slice == ALL).and_then(|it| it.label_mean);
    let is_regression = report.cells.iter().any(|it| it.metric.fits(Task::Regression));
    let mut charts = vec![
        chart(
            "ROC curve",
            ["false positive rate", "true positive rate"],
            Frame::UnitDiagonal,
            both(Stroke::Line, "roc"),
        ),
        chart(
            "Precision and recall (dashed: share of positives)",
            ["recall", "precision"],
            Frame::UnitLevel(share.filter(|it| (0.0..=1.0).contains(it))),
            both(Stroke::Line, "precision_recall"),
        ),
    ];
    let mut reliability = if is_regression {
        chart(
            "Predicted against actual, means of bins",
            ["predicted", "actual"],
            Frame::Diagonal,
            both(Stroke::Dots, "calibration"),
        )
    } else {
        chart(
            "Reliability diagram",
            ["predicted probability", "observed share"],
            Frame::UnitDiagonal,
            both(Stroke::Dots, "calibration"),
        )
    };
    // Bars of equal scale over one axis: the baseline's dots lie elsewhere and have no bars of their own.
    let counts = series("rows", Stroke::Line, "calibration_rows");
    reliability.counts = counts.map_or_else(Vec::new, |it| it.points);
    charts.push(reliability);
    charts.push(chart(
        "Scores by class, candidate",
        ["score", "share of the class"],
        Frame::Points,
        [
            series("negative", Stroke::Area, "scores_negative"),
            series("positive", Stroke::Area, "scores_positive"),
        ],
    ));
    charts.push(chart(
        "Scores by class, baseline",
        ["score", "share of the class"],
        Frame::Points,
        [
            series("negative", Stroke::Area, "scores_negative_baseline"),
            series("positive", Stroke::Area, "scores_positive_baseline"),
        ],
    ));
    for key in report.curves.keys().filter(|it| !KNOWN.contains(&it.as_str())) {
        let only = [series("candidate", Stroke::Line, key), None];
        charts.push(chart(key, ["x", "y"], Frame::Points, only));
    }
    let shown = charts.into_iter().filter(|it| !it.series.is_empty());
    shown.map(|it| Block::Chart(Chart::Curves(it))).collect()
}

fn chart(
    title: &str,
    [x, y]: [&'static str; 2],
    frame: Frame,
    series: [Option<Series>; 2],
) -> LineChart {
    let series = series.into_iter().flatten().collect();
    LineChart { title: title.to_owned(), x, y, frame, mark: None, series, counts: Vec::new() }
}
