//! What a report consists of, before it is Markdown or HTML: items, tables, lists, charts, sections.
//!
//! Text in here is not escaped yet; whoever draws it escapes it.

use karat_core::Outcome;

/// One piece of text, by what it is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    /// Words for people; `literals` between backticks.
    Words(String),
    /// A name or a value from outside, shown literally.
    Name(String),
    /// A formatted number.
    Number(String),
    /// An answer.
    Outcome(Outcome),
    /// Nothing to show.
    Absent,
}

/// Items one after the other; words bring their own spaces.
pub(crate) type Sentence = Vec<Item>;

/// Words.
pub(crate) fn words(text: impl Into<String>) -> Item {
    Item::Words(text.into())
}

/// A name.
pub(crate) fn name(text: impl Into<String>) -> Item {
    Item::Name(text.into())
}

/// A number, or nothing.
pub(crate) fn number<T>(value: Option<T>, format: impl Fn(T) -> String) -> Item {
    value.map_or(Item::Absent, |it| Item::Number(format(it)))
}

/// The mark before an outcome's word: no report may depend on colour.
pub(crate) const fn mark(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "✓",
        Outcome::Waived => "○",
        Outcome::Warn => "!",
        Outcome::Inconclusive => "?",
        Outcome::NotApplied | Outcome::Fail => "✗",
    }
}

/// Rows under named columns.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// What it shows, for readers who cannot see where it stands.
    pub(crate) caption: String,
    /// Heads of the columns.
    pub(crate) columns: Vec<Column>,
    /// As many items a row as there are columns.
    pub(crate) rows: Vec<Vec<Item>>,
}

/// The head of a column.
#[derive(Clone, Debug)]
pub(crate) enum Column {
    /// Aligned to the left.
    Text(&'static str),
    /// Aligned to the right.
    Number(String),
}

impl Column {
    /// The text of the head.
    pub(crate) fn head(&self) -> &str {
        match self {
            Self::Text(head) => head,
            Self::Number(head) => head,
        }
    }
}

/// An entry of a list and what belongs to it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The entry.
    pub(crate) head: Sentence,
    /// Lines below it.
    pub(crate) below: Vec<Sentence>,
}

/// A picture. HTML draws it; Markdown shows losses as a sparkline and leaves the rest to the tables.
#[derive(Clone, Debug)]
pub(crate) enum Chart {
    /// One number, a row per slice: dot and whisker, beside the baseline.
    Slices(SliceChart),
    /// Losses over updates.
    Losses(LineChart),
    /// Any other curves.
    Curves(LineChart),
}

/// One number by slice.
#[derive(Clone, Debug)]
pub(crate) struct SliceChart {
    /// What is shown.
    pub(crate) title: String,
    /// How to read it.
    pub(crate) legend: String,
    /// The dashed line.
    pub(crate) guide: Option<f64>,
    /// Whether the numbers are differences, which are written with a sign.
    pub(crate) is_change: bool,
    /// Slices with a value.
    pub(crate) rows: Vec<SliceRow>,
}

/// One slice's numbers.
#[derive(Clone, Debug)]
pub(crate) struct SliceRow {
    /// The slice.
    pub(crate) slice: String,
    /// Labelled rows.
    pub(crate) n_rows: u64,
    /// Candidate, or its difference from the baseline.
    pub(crate) value: f64,
    /// Its interval.
    pub(crate) interval: Option<[f64; 2]>,
    /// Baseline.
    pub(crate) baseline: Option<f64>,
}

/// Curves in one frame.
#[derive(Clone, Debug)]
pub(crate) struct LineChart {
    /// What is shown.
    pub(crate) title: String,
    /// Label of the horizontal axis.
    pub(crate) x: &'static str,
    /// Label of the vertical axis.
    pub(crate) y: &'static str,
    /// The frame.
    pub(crate) frame: Frame,
    /// A place on the horizontal axis that is pointed out.
    pub(crate) mark: Option<Mark>,
    /// The curves; from the ninth on they look like the first.
    pub(crate) series: Vec<Series>,
    /// (x, rows): bars at the bottom of the frame, for how much a point rests on.
    pub(crate) counts: Vec<[f64; 2]>,
}

/// What a chart is framed by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Frame {
    /// The points.
    Points,
    /// The unit square with its diagonal.
    UnitDiagonal,
    /// The unit square with a line at this height.
    UnitLevel(Option<f64>),
    /// The points and the line where both coordinates are equal.
    Diagonal,
}

/// A place on an axis.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    /// Where.
    pub(crate) x: f64,
    /// What is there, in a few words.
    pub(crate) label: String,
}

/// One curve.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// Its name.
    pub(crate) name: String,
    /// How it is drawn.
    pub(crate) stroke: Stroke,
    /// (x, y), finite, in order.
    pub(crate) points: Vec<[f64; 2]>,
}

/// How a curve is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stroke {
    /// A line.
    Line,
    /// A line with a dot at every point.
    Dots,
    /// A filled area down to zero.
    Area,
}

impl Series {
    /// A curve without the points that cannot be drawn; `None` when nothing is left.
    pub(crate) fn new(
        name: impl Into<String>,
        stroke: Stroke,
        points: &[[f64; 2]],
    ) -> Option<Self> {
        let finite = |point: &&[f64; 2]| point.iter().all(|it| it.is_finite());
        let points: Vec<[f64; 2]> = points.iter().filter(finite).copied().collect();
        (!points.is_empty()).then(|| Self { name: name.into(), stroke, points })
    }
}

/// One block of a section.
#[derive(Clone, Debug)]
pub(crate) enum Block {
    /// A paragraph.
    Line(Sentence),
    /// A list.
    List(Vec<Entry>),
    /// A table.
    Table(Table),
    /// A picture.
    Chart(Chart),
    /// Blocks behind a line that opens them.
    Fold {
        /// The line.
        title: Sentence,
        /// What it opens.
        blocks: Vec<Block>,
    },
}

/// A titled part of a report.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    /// Its title.
    pub(crate) title: &'static str,
    /// Bytes it may take in a report of limited length whatever the sections before it need.
    pub(crate) share: usize,
    /// Whether a comment shows only its title until a reader opens it.
    pub(crate) is_folded: bool,
    /// Its content; a section without any is not shown.
    pub(crate) blocks: Vec<Block>,
}
