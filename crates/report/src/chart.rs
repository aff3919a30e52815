//! Charts as inline SVG: no script, no inline style (the page's policy forbids both), colours from the page's sheet.
//!
//! Frames are 400 units wide, so that text stays readable where a phone shows them at about that many pixels.

use crate::{
    content::{Chart, Column, Frame, Item, LineChart, SliceChart, SliceRow, Stroke, Table},
    escape::{clip, markup},
    number,
};

/// Width of every chart.
const WIDTH: f64 = 400.0;
/// Room for the labels at the left and for half a label at the right.
const LEFT: f64 = 52.0;
const RIGHT: f64 = WIDTH - 14.0;
/// Frame of a line chart, below the label of its vertical axis.
const TOP: f64 = 22.0;
const BOTTOM: f64 = 222.0;
/// Room for the label of the vertical axis, which stands above the frame.
const AXIS_LABEL: f64 = 96.0;
/// Slices a chart draws; the table beside it has all.
const SLICES_MAX: usize = 40;
/// Room for the names of slices, and characters that fit in it.
const SLICE_LEFT: f64 = 128.0;
const SLICE_LEN_MAX: usize = 18;
const SLICE_HEIGHT: f64 = 18.0;
const SLICE_TOP: f64 = 4.0;
/// Looks of curves in the style sheet.
const LOOKS: usize = 8;
/// Height of the tallest bar of counts.
const COUNT_HEIGHT: f64 = 36.0;
/// Rows of the table that stands in for a line chart.
const TABLE_ROWS: usize = 20;

/// The figure of `chart`; `id` is unique in the page. Empty when its numbers span no drawable range.
pub(crate) fn figure(chart: &Chart, id: usize) -> String {
    match chart {
        Chart::Slices(chart) => slices(chart, id),
        Chart::Losses(chart) | Chart::Curves(chart) => lines(chart, id),
    }
    .unwrap_or_default()
}

/// A linear map from values to units of the picture, with round ticks.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// An axis over all `values`, which are finite; `None` when there are none or their distance is not finite.
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Option<Self> {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values {
            low = low.min(value);
            high = high.max(value);
        }
        let pad = match high - low {
            span if !span.is_finite() => return None,
            span if 0.0 < span => span * 0.04,
            _ => (low.abs() * 0.05).max(0.05),
        };
        let axis = Self { low: low - pad, high: high + pad, from, to };
        (axis.high - axis.low).is_finite().then_some(axis)
    }

    fn at(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// At most seven round values inside the axis, each as text.
    fn ticks(&self) -> Vec<(f64, String)> {
        let span = self.high - self.low;
        // Literals are parsed, not multiplied up, so that every platform finds the same steps.
        let steps =
            (-12..=12).flat_map(|power: i32| [1, 2, 5].map(|it| (power, format!("{it}e{power}"))));
        let step = steps
            .filter_map(|(power, text)| Some((power, text.parse::<f64>().ok()?)))
            .find(|(_, step)| span <= step * 5.5);
        let Some((power, step)) = step else {
            return [self.low, self.high].map(|it| (it, number::metric(it))).to_vec();
        };
        let n_decimals = power.min(0).unsigned_abs() as usize;
        let first = (self.low / step).ceil();
        (0..7)
            .map(|i| (first + f64::from(i)) * step)
            .take_while(|it| *it <= self.high)
            .map(|it| {
                let is_whole = n_decimals == 0;
                (
                    it,
                    if is_whole { number::value(it.round()) } else { format!("{it:.n_decimals$}") },
                )
            })
            .collect()
    }
}

/// Opens an accessible picture.
fn open(id: usize, height: f64, title: &str, description: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-labelledby=\"t{id} d{id}\">\
         <title id=\"t{id}\">{}</title><desc id=\"d{id}\">{}</desc>\n",
        markup(title),
        markup(description)
    )
}

/// Which of the style sheet's looks the curve at place `i` has: colour and dashes.
const fn look(i: usize) -> usize {
    1 + i % LOOKS
}

fn lines(chart: &LineChart, id: usize) -> Option<String> {
    let values = |i: usize| {
        chart.series.iter().flat_map(move |it| it.points.iter().map(move |point| point[i]))
    };
    let is_area = chart.series.iter().any(|it| it.stroke == Stroke::Area);
    let is_unit = matches!(chart.frame, Frame::UnitDiagonal | Frame::UnitLevel(_));
    let unit = |wanted: bool| [0.0, 1.0].into_iter().filter(move |_| wanted);
    let zero = is_area.then_some(0.0);
    let marked = chart.mark.iter().map(|it| it.x);
    let x = Axis::over(values(0).chain(unit(is_unit)).chain(marked), LEFT, RIGHT)?;
    let y = Axis::over(values(1).chain(unit(is_unit)).chain(zero), BOTTOM, TOP)?;

    let mut out = String::from("<figure><figcaption>");
    out.push_str(&markup(&chart.title));
    for (i, series) in chart.series.iter().enumerate() {
        out.push_str(&format!("<span class=\"key k{}\">{}</span>", look(i), markup(&series.name)));
    }
    if !chart.counts.is_empty() {
        out.push_str(&format!("<br><small>{}</small>", markup(&counted(chart))));
    }
    out.push_str("</figcaption>\n");
    out.push_str(&open(id, BOTTOM + 40.0, &chart.title, &told(chart)));
    for (value, text) in x.ticks() {
        let at = x.at(value);
        out.push_str(&format!(
            "<line class=\"grid\" x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{BOTTOM}\"/>\
             <text class=\"mid\" x=\"{at:.1}\" y=\"{}\">{text}</text>\n",
            BOTTOM + 15.0
        ));
    }
    for (value, text) in y.ticks() {
        let at = y.at(value);
        out.push_str(&format!(
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{RIGHT}\" y2=\"{at:.1}\"/>\
             <text class=\"end\" x=\"{}\" y=\"{:.1}\">{text}</text>\n",
            LEFT - 6.0,
            at + 4.0
        ));
    }
    out.push_str(&bars(chart, &x, if is_unit { y.at(0.0) } else { BOTTOM }));
    if let Some([[x0, y0], [x1, y1]]) = guide(chart.frame, &x, &y) {
        out.push_str(&format!(
            "<line class=\"guide\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>\n",
            x.at(x0),
            y.at(y0),
            x.at(x1),
            y.at(y1)
        ));
    }
    if let Some(mark) = &chart.mark {
        let at = x.at(mark.x);
        // Above the frame, where no curve runs through the words, and beside the label of the vertical axis.
        let is_left = at < (LEFT + RIGHT) / 2.0;
        let (class, from) = if is_left { ("", at.max(AXIS_LABEL)) } else { ("end", at) };
        out.push_str(&format!(
            "<line class=\"guide\" x1=\"{at:.1}\" y1=\"{}\" x2=\"{at:.1}\" y2=\"{BOTTOM}\"/>\
             <text class=\"{class}\" x=\"{from:.1}\" y=\"12\">{}</text>\n",
            TOP - 6.0,
            markup(&mark.label)
        ));
    }
    for (i, series) in chart.series.iter().enumerate() {
        let look = look(i);
        let points: Vec<(f64, f64)> =
            series.points.iter().map(|it| (x.at(it[0]), y.at(it[1]))).collect();
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
        let path = path.join("L");
        if let (Stroke::Area, Some(first), Some(last)) =
            (series.stroke, points.first(), points.last())
        {
            let floor = y.at(0.0);
            out.push_str(&format!(
                "<path class=\"a{look}\" d=\"M{:.1} {floor:.1}L{path}L{:.1} {floor:.1}Z\"/>\n",
                first.0, last.0
            ));
        }
        out.push_str(&format!("<path class=\"s{look}\" d=\"M{path}\"/>\n"));
        if series.stroke == Stroke::Dots || points.len() == 1 {
            for (x, y) in &points {
                out.push_str(&format!(
                    "<circle class=\"d{look}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>\n"
                ));
            }
        }
    }
    out.push_str(&format!(
        "<text class=\"mid\" x=\"{:.1}\" y=\"{}\">{}</text><text x=\"4\" y=\"12\">{}</text>\n</svg></figure>\n",
        (LEFT + RIGHT) / 2.0,
        BOTTOM + 32.0,
        markup(chart.x),
        markup(chart.y)
    ));
    Some(out)
}

/// The ends of the dashed line of a frame.
fn guide(frame: Frame, x: &Axis, y: &Axis) -> Option<[[f64; 2]; 2]> {
    match frame {
        Frame::Points | Frame::UnitLevel(None) => None,
        Frame::UnitDiagonal => Some([[0.0, 0.0], [1.0, 1.0]]),
        Frame::UnitLevel(Some(level)) => Some([[0.0, level], [1.0, level]]),
        Frame::Diagonal => {
            let (from, to) = (x.low.max(y.low), x.high.min(y.high));
            (from < to).then_some([[from, from], [to, to]])
        }
    }
}

/// How much each point rests on, as bars that stand on `floor`.
fn bars(chart: &LineChart, x: &Axis, floor: f64) -> String {
    let most = chart.counts.iter().map(|it| it[1]).fold(0.0, f64::max);
    if most <= 0.0 {
        return String::new();
    }
    let bar = |[at, n]: &[f64; 2]| {
        let height = n.max(0.0) / most * COUNT_HEIGHT;
        format!(
            "<rect class=\"bar\" x=\"{:.1}\" y=\"{:.1}\" width=\"6\" height=\"{height:.1}\"><title>{}</title></rect>\n",
            x.at(*at) - 3.0,
            floor - height,
            markup(&format!("{} rows", number::value(*n)))
        )
    };
    let inside = chart.counts.iter().filter(|it| x.low <= it[0] && it[0] <= x.high);
    inside.map(bar).collect()
}

/// What the bars are, in words.
fn counted(chart: &LineChart) -> String {
    let counts = || chart.counts.iter().map(|it| it[1]);
    let (low, high) = (counts().fold(f64::INFINITY, f64::min), counts().fold(0.0, f64::max));
    let range = if low < high {
        format!("{} to {}", number::value(low), number::value(high))
    } else {
        number::value(high)
    };
    format!("Bars are the candidate's rows behind each dot: {range}")
}

/// The curves in words.
fn told(chart: &LineChart) -> String {
    let series = chart.series.iter().filter_map(|it| {
        let ([x0, y0], [x1, y1]) = (it.points.first()?, it.points.last()?);
        let [x0, y0, x1, y1] = [x0, y0, x1, y1].map(|it| number::value(*it));
        Some(format!("{}: {} points from ({x0}, {y0}) to ({x1}, {y1}).", it.name, it.points.len()))
    });
    let mark = chart.mark.as_ref().map_or_else(String::new, |it| format!(" Marked {}.", it.label));
    let counts =
        if chart.counts.is_empty() { String::new() } else { format!(" {}.", counted(chart)) };
    format!("{} over {}. {}{mark}{counts}", chart.y, chart.x, series.collect::<Vec<_>>().join(" "))
}

/// Some points of every curve, evenly spread, for readers who cannot see the picture.
pub(crate) fn points_table(chart: &LineChart) -> Table {
    let rows = chart.series.iter().flat_map(|series| {
        let n = series.points.len();
        let shown = n.min(TABLE_ROWS);
        // First and last are always among them.
        (0..shown).map(move |i| {
            let [x, y] = series.points[if shown < 2 { 0 } else { i * (n - 1) / (shown - 1) }];
            vec![
                Item::Name(series.name.clone()),
                Item::Number(number::value(x)),
                Item::Number(number::metric(y)),
            ]
        })
    });
    let counts = chart.counts.iter().map(|[x, n]| {
        vec![
            Item::Words("rows".to_owned()),
            Item::Number(number::value(*x)),
            Item::Number(number::value(*n)),
        ]
    });
    let rows = rows.chain(counts.take(TABLE_ROWS));
    Table {
        caption: format!(
            "{}: at most {TABLE_ROWS} points of each curve; all are in report.json",
            chart.title
        ),
        columns: vec![
            Column::Text("curve"),
            Column::Number(chart.x.to_owned()),
            Column::Number(chart.y.to_owned()),
        ],
        rows: rows.collect(),
    }
}

fn slices(chart: &SliceChart, id: usize) -> Option<String> {
    let shown = &chart.rows[..chart.rows.len().min(SLICES_MAX)];
    let values = shown
        .iter()
        .flat_map(|it| {
            [it.value].into_iter().chain(it.interval.into_iter().flatten()).chain(it.baseline)
        })
        .chain(chart.guide);
    if shown.is_empty() {
        return None;
    }
    let x = Axis::over(values, SLICE_LEFT, RIGHT)?;
    let bottom = SLICE_TOP + SLICE_HEIGHT * shown.len() as f64;

    let mut legend = chart.legend.clone();
    let left_out = chart.rows.len() - shown.len();
    if 0 < left_out {
        legend.push_str(&format!("; … and {left_out} more slices in the table"));
    }
    let mut out = format!(
        "<figure><figcaption>{}<br><small>{}</small></figcaption>\n",
        markup(&chart.title),
        markup(&legend)
    );
    out.push_str(&open(id, bottom + 22.0, &chart.title, &legend));
    for (value, text) in x.ticks() {
        let at = x.at(value);
        out.push_str(&format!(
            "<line class=\"grid\" x1=\"{at:.1}\" y1=\"{SLICE_TOP}\" x2=\"{at:.1}\" y2=\"{bottom}\"/>\
             <text class=\"mid\" x=\"{at:.1}\" y=\"{}\">{text}</text>\n",
            bottom + 15.0
        ));
    }
    if let Some(guide) = chart.guide {
        let at = x.at(guide);
        out.push_str(&format!(
            "<line class=\"guide\" x1=\"{at:.1}\" y1=\"{SLICE_TOP}\" x2=\"{at:.1}\" y2=\"{bottom}\"/>\n"
        ));
    }
    for (i, row) in shown.iter().enumerate() {
        out.push_str(&slice(
            row,
            chart.is_change,
            &x,
            SLICE_HEIGHT.mul_add(i as f64 + 0.5, SLICE_TOP),
        ));
    }
    out.push_str("</svg></figure>\n");
    Some(out)
}

fn slice(row: &SliceRow, is_change: bool, x: &Axis, y: f64) -> String {
    let value = if is_change { number::signed } else { number::metric };
    let interval = if is_change { number::signed_interval } else { number::interval };
    let mut said = format!("{}: {}", row.slice, value(row.value));
    if let Some(ends) = row.interval {
        said.push_str(&format!(" ({})", interval(ends)));
    }
    if let Some(baseline) = row.baseline {
        said.push_str(&format!(", baseline {}", number::metric(baseline)));
    }
    said.push_str(&format!(", {} rows", karat_core::thousands(row.n_rows)));
    let mut out = format!(
        "<g><title>{}</title><text class=\"end slice\" x=\"{}\" y=\"{:.1}\">{}</text>",
        markup(&said),
        SLICE_LEFT - 8.0,
        y + 4.0,
        markup(&clip(&row.slice, SLICE_LEN_MAX))
    );
    if let Some([low, high]) = row.interval {
        out.push_str(&format!(
            "<path class=\"s1\" d=\"M{:.1} {y:.1}H{:.1}\"/>",
            x.at(low),
            x.at(high)
        ));
    }
    if let Some(baseline) = row.baseline {
        let at = x.at(baseline);
        out.push_str(&format!("<path class=\"d2\" d=\"M{:.1} {y:.1}l4 -4l4 4l-4 4Z\"/>", at - 4.0));
    }
    out.push_str(&format!(
        "<circle class=\"d1\" cx=\"{:.1}\" cy=\"{y:.1}\" r=\"3.5\"/></g>\n",
        x.at(row.value)
    ));
    out
}

#[cfg(test)]
mod tests {
    use super::Axis;

    fn ticks(values: [f64; 2]) -> Vec<String> {
        let axis = Axis::over(values.into_iter(), 0.0, 1.0).expect("finite");
        axis.ticks().into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(ticks([0.0, 1.0]), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(ticks([0.651, 0.702]), ["0.66", "0.68", "0.70"]);
        assert_eq!(ticks([0.0, 12_345.0]), ["0", "5,000", "10,000"]);
        assert_eq!(ticks([0.7, 0.7]), ["0.66", "0.68", "0.70", "0.72", "0.74"]);
        assert_eq!(ticks([-1e200, 1e200]).len(), 2);
    }

    #[test]
    fn nothing_undrawable_gets_an_axis() {
        assert!(Axis::over([].into_iter(), 0.0, 1.0).is_none());
        assert!(Axis::over([f64::MIN, f64::MAX].into_iter(), 0.0, 1.0).is_none());
    }
}
