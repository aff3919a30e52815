//! `report.md`: the report for a pull request.
//!
//! A comment on GitHub holds 65,536 characters and what is too long is refused whole, so the page stops earlier by
//! itself and says how much it left out. Bytes are counted, which is never less than characters.

use karat_core::summary::RunSummary;

use crate::{
    content::{Block, Chart, Column, Entry, Item, LineChart, Section, Sentence, Table},
    escape::{Span, clip, code, prose, spans},
    html, number, sections,
};

/// No report is longer, in bytes. Leaves room in a comment for a hidden marker and a link to the artifact.
pub const REPORT_MD_LEN_MAX: usize = 60_000;

/// Kept free below every ceiling for "… and N more" lines and closing tags.
const RESERVE: usize = 400;

/// Characters of one piece of text; escaping can make each five or six bytes long.
const WORDS_LEN_MAX: usize = 400;
const NAME_LEN_MAX: usize = 120;

/// Columns of a sparkline.
const SPARKS: usize = 40;

/// The report as Markdown: the verdict first, then every rule, metrics, slices, checks, training, lineage, and what to
/// do next.
#[must_use]
pub fn report_md(summary: &RunSummary) -> String {
    page(&sections::headline(summary), &sections::lead(summary), &sections::report(summary))
}

/// A page of titled sections, never longer than [`REPORT_MD_LEN_MAX`].
pub(crate) fn page(title: &[Item], lead: &[Sentence], parts: &[Section]) -> String {
    let mut writer =
        Writer { out: format!("# {}\n\n", sentence(title)), ceiling: 0, n_left_out: 0 };
    let mut promised: usize = parts.iter().map(|it| it.share).sum();
    writer.ceiling = REPORT_MD_LEN_MAX - promised;
    for line in lead {
        writer.put(&format!("{}\n\n", sentence(line)));
    }
    writer.say_left_out();
    for part in parts.iter().filter(|it| it.blocks.iter().any(is_shown)) {
        promised -= part.share;
        // What earlier sections did not use is free for later ones, and none can take what a later one was promised.
        writer.ceiling = REPORT_MD_LEN_MAX - promised;
        writer.out.push_str(&format!("## {}\n\n", part.title));
        for block in &part.blocks {
            writer.block(block);
        }
        writer.say_left_out();
    }
    let length = writer.out.trim_end().len();
    writer.out.truncate(length);
    writer.out.push('\n');
    writer.out
}

const fn is_shown(block: &Block) -> bool {
    !matches!(block, Block::Chart(Chart::Slices(_) | Chart::Curves(_)))
}

/// Appends what fits under the ceiling and counts what does not.
struct Writer {
    out: String,
    ceiling: usize,
    n_left_out: usize,
}

impl Writer {
    /// Appends `text` if it fits.
    fn put(&mut self, text: &str) -> bool {
        let fits = self.out.len() + text.len() + RESERVE <= self.ceiling;
        if fits {
            self.out.push_str(text);
        } else {
            self.n_left_out += 1;
        }
        fits
    }

    fn say_left_out(&mut self) {
        if 0 < self.n_left_out {
            self.out.push_str(&format!(
                "… and {} more parts, left out for length\n\n",
                self.n_left_out
            ));
            self.n_left_out = 0;
        }
    }

    /// Appends rows as long as they fit, then says how many did not.
    fn rows(
        &mut self,
        rows: impl ExactSizeIterator<Item = String>,
        more: impl Fn(usize) -> String,
    ) {
        let n_rows = rows.len();
        for (i, row) in rows.enumerate() {
            if self.ceiling < self.out.len() + row.len() + RESERVE {
                self.out.push_str(&more(n_rows - i));
                break;
            }
            self.out.push_str(&row);
        }
        self.out.push('\n');
    }

    fn block(&mut self, block: &Block) {
        match block {
            Block::Line(items) => {
                self.put(&format!("{}\n\n", sentence(items)));
            }
            Block::List(entries) => {
                self.rows(entries.iter().map(entry), |n| format!("- … and {n} more\n"))
            }
            Block::Table(table) => self.table(table),
            Block::Chart(Chart::Losses(chart)) => {
                for line in sparklines(chart) {
                    self.put(&line);
                }
            }
            Block::Chart(Chart::Slices(_) | Chart::Curves(_)) => {}
            Block::Fold { title, blocks } => {
                // Inside this line Markdown is not read, HTML is.
                let head = format!("<details><summary>{}</summary>\n\n", html::sentence(title));
                if self.put(&head) {
                    for block in blocks {
                        self.block(block);
                    }
                    self.say_left_out();
                    self.out.push_str("</details>\n\n");
                }
            }
        }
    }

    fn table(&mut self, table: &Table) {
        let mut head = String::from("|");
        let mut rule = String::from("|");
        for column in &table.columns {
            head.push_str(&format!(" {} |", prose(column.head())));
            rule.push_str(match column {
                Column::Text(_) => " --- |",
                Column::Number(_) => " ---: |",
            });
        }
        if self.put(&format!("{head}\n{rule}\n")) {
            let row = |row: &Vec<Item>| {
                let cells: Vec<String> = row.iter().map(item).collect();
                format!("| {} |\n", cells.join(" | "))
            };
            self.rows(table.rows.iter().map(row), |n| format!("\n… and {n} more rows\n"));
        }
    }
}

fn entry(entry: &Entry) -> String {
    let below = entry.below.iter().map(|it| format!("  - {}\n", sentence(it)));
    format!("- {}\n{}", sentence(&entry.head), below.collect::<String>())
}

fn sentence(items: &[Item]) -> String {
    items.iter().map(item).collect()
}

fn item(item: &Item) -> String {
    match item {
        Item::Words(text) => {
            let text = clip(text, WORDS_LEN_MAX);
            let span = |it| match it {
                Span::Plain(text) => prose(text),
                Span::Code(text) => code(text),
            };
            spans(&text).into_iter().map(span).collect()
        }
        Item::Name(text) => code(&clip(text, NAME_LEN_MAX)),
        Item::Number(text) => text.clone(),
        Item::Outcome(outcome) => format!("**{}**", sections::outcome_text(*outcome)),
        Item::Absent => "–".to_owned(),
    }
}

/// One line a curve: first and last value, lowest, and the shape between.
fn sparklines(chart: &LineChart) -> Vec<String> {
    let line = |series: &crate::content::Series| {
        let y: Vec<f64> = series.points.iter().map(|it| it[1]).collect();
        let (first, last) = (y.first().copied()?, y.last().copied()?);
        let low = y.iter().copied().fold(first, f64::min);
        Some(format!(
            "{}: {} to {}, lowest {} {}\n\n",
            prose(&series.name),
            number::metric(first),
            number::metric(last),
            number::metric(low),
            spark(&y)
        ))
    };
    chart.series.iter().filter_map(line).collect()
}

/// The shape of a curve in one line: means of at most 40 equal stretches as blocks of eight heights.
#[must_use]
pub fn spark(values: &[f64]) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let n = values.len().min(SPARKS);
    let means: Vec<f64> = (0..n)
        .map(|i| {
            let stretch = &values[i * values.len() / n..(i + 1) * values.len() / n];
            // Divided first: a sum of large losses may not be finite.
            stretch.iter().map(|it| it / stretch.len() as f64).sum()
        })
        .collect();
    let low = means.iter().copied().fold(f64::INFINITY, f64::min);
    let high = means.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let block = |mean: &f64| {
        let share = (mean - low) / (high - low);
        // A flat curve has no shape: 0 / 0 is not a number and becomes the lowest block.
        BLOCKS[((share * 8.0) as usize).min(7)]
    };
    means.iter().map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::spark;

    #[test]
    fn sparklines_show_the_shape_and_survive_flat_and_huge_values() {
        assert_eq!(spark(&[8.0, 4.0, 2.0, 1.0, 0.0]), "█▅▃▂▁");
        assert_eq!(spark(&[1.0; 3]), "▁▁▁");
        assert_eq!(spark(&[]), "");
        assert_eq!(spark(&vec![f64::MAX; 100]).chars().count(), 40);
    }
}
