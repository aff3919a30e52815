//! `report.md`: the report for a pull request.
//!
//! A comment on GitHub holds 65,536 characters and a job summary 1 MiB; what is longer is refused whole or dropped
//! without a word. So a page stops earlier by itself, says how much it left out and where the rest is. Bytes are
//! counted, which is never less than characters.

use karat_core::{Digest, summary::RunSummary};

use crate::{
    content::{Block, Chart, Column, Entry, Item, LineChart, Section, Sentence, Table},
    escape::{Span, clip, code, prose, spans},
    html, number, sections,
};

/// No report is longer, in bytes. Leaves room in a comment for a hidden marker and a link to the artifact.
pub const REPORT_MD_LEN_MAX: usize = 60_000;

/// No job summary is longer, in bytes: GitHub drops what comes near 1 MiB, and a job may have other steps.
pub const STEP_SUMMARY_LEN_MAX: usize = 900_000;

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
    let page = Page { len_max: REPORT_MD_LEN_MAX, link: Some("report.html") };
    page.of(&sections::headline(summary), &sections::lead(summary), &sections::report(summary))
}

/// The body of a comment on a change request. Its first line is [`comment_marker`], by which the comment is found
/// again and updated. `link` is the address of the whole report. What decides stands open, the record behind folds.
#[must_use]
pub fn comment_md(summary: &RunSummary, link: Option<&str>) -> String {
    let marker = comment_marker(summary);
    let mut parts = sections::report(summary);
    for part in parts.iter_mut().filter(|it| !matches!(it.title, "Rules" | "Metrics" | "Next")) {
        part.is_folded = true;
    }
    let page = Page { len_max: REPORT_MD_LEN_MAX, link };
    format!("{marker}\n{}", page.of(&sections::headline(summary), &sections::lead(summary), &parts))
}

/// The hidden line that tells the comment of one gate of one project from all others:
/// `<!-- karat:flights:release -->`.
#[must_use]
pub fn comment_marker(summary: &RunSummary) -> String {
    let gate = summary.verdict.as_ref().map_or("check", |it| &it.gate);
    format!("<!-- karat:{}:{} -->", marker_word(&summary.project), marker_word(gate))
}

/// A name as part of a comment in HTML: what is not a letter, a digit, `.`, `_` or `-` as `%` and its bytes in hex, so
/// that different names stay different and none ends the comment. Very long ones by digest.
fn marker_word(name: &str) -> String {
    const LEN_MAX: usize = 200;
    let mut out = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    if LEN_MAX < out.len() {
        Digest::of(name.as_bytes()).to_string().replace(':', "-")
    } else {
        out
    }
}

/// The report for `$GITHUB_STEP_SUMMARY`, longer than a comment may be; `link` is the address of the whole report.
#[must_use]
pub fn step_summary(summary: &RunSummary, link: Option<&str>) -> String {
    let page = Page { len_max: STEP_SUMMARY_LEN_MAX, link };
    page.of(&sections::headline(summary), &sections::lead(summary), &sections::report(summary))
}

/// What a page may be.
pub(crate) struct Page<'a> {
    /// Bytes.
    pub(crate) len_max: usize,
    /// Where the whole report is, for the reader of a page that is not it.
    pub(crate) link: Option<&'a str>,
}

impl Page<'_> {
    /// Titled sections, never longer than allowed.
    pub(crate) fn of(&self, title: &[Item], lead: &[Sentence], parts: &[Section]) -> String {
        let mut writer = Writer {
            out: format!("# {}\n\n", sentence(title)),
            ceiling: 0,
            n_left_out: 0,
            is_cut: false,
        };
        let end = self.link.map_or_else(String::new, |it| link("the whole report", it));
        let len_max = self.len_max - end.len();
        let mut promised: usize = parts.iter().map(|it| it.share).sum();
        writer.ceiling = len_max - promised;
        for line in lead {
            writer.put(&format!("{}\n\n", paragraph(line)));
        }
        writer.say_left_out();
        for part in parts.iter().filter(|it| it.blocks.iter().any(is_shown)) {
            promised -= part.share;
            // What earlier sections did not use is free for later ones, and none can take what a later one was promised.
            writer.ceiling = len_max - promised;
            writer.section(part);
        }
        let length = writer.out.trim_end().len();
        writer.out.truncate(length);
        writer.out.push('\n');
        if writer.is_cut && !end.is_empty() {
            writer.out.push_str(&format!("\n{end}\n"));
        }
        writer.out
    }
}

/// A link whose address cannot end it. What is no web address and no plain file name is shown as code.
fn link(text: &str, address: &str) -> String {
    const LEN_MAX: usize = 1_000;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~:/?#[]@!$&'()*+,;=%".contains(c);
    let is_web = ["https://", "http://"].iter().any(|it| address.starts_with(it));
    let is_file =
        address.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    if (is_web || is_file) && address.len() <= LEN_MAX && address.chars().all(is_plain) {
        format!("[{text}](<{address}>)")
    } else {
        format!("{text}: {}", code(&clip(address, NAME_LEN_MAX)))
    }
}

const fn is_shown(block: &Block) -> bool {
    !matches!(block, Block::Chart(Chart::Slices(_) | Chart::Curves(_)))
}

/// Appends what fits under the ceiling and counts what does not.
struct Writer {
    out: String,
    ceiling: usize,
    n_left_out: usize,
    is_cut: bool,
}

impl Writer {
    /// Appends `text` if it fits.
    fn put(&mut self, text: &str) -> bool {
        let fits = self.out.len() + text.len() + RESERVE <= self.ceiling;
        if fits {
            self.out.push_str(text);
        } else {
            self.n_left_out += 1;
            self.is_cut = true;
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
                self.is_cut = true;
                break;
            }
            self.out.push_str(&row);
        }
        self.out.push('\n');
    }

    fn section(&mut self, part: &Section) {
        self.out.push_str(&if part.is_folded {
            format!("<details><summary>{}</summary>\n\n", part.title)
        } else {
            format!("## {}\n\n", part.title)
        });
        let ceiling = self.ceiling;
        for (i, block) in part.blocks.iter().enumerate() {
            // A long table leaves room for what is said below it.
            let room = ceiling.saturating_sub(self.out.len());
            let is_last = i + 1 == part.blocks.len();
            self.ceiling = if is_last { ceiling } else { self.out.len() + room / 3 * 2 };
            self.block(block);
        }
        self.ceiling = ceiling;
        self.say_left_out();
        if part.is_folded {
            self.out.push_str("</details>\n\n");
        }
    }

    fn block(&mut self, block: &Block) {
        match block {
            Block::Line(items) => {
                self.put(&format!("{}\n\n", paragraph(items)));
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
    let below = entry.below.iter().map(|it| format!("  - {}\n", paragraph(it)));
    format!("- {}\n{}", paragraph(&entry.head), below.collect::<String>())
}

/// A sentence where a block begins: words that look like the mark of a list, a rule or a code block are none.
fn paragraph(items: &[Item]) -> String {
    let text = sentence(items);
    let text = text.trim_start();
    let (number, rest) =
        text.split_at(text.len() - text.trim_start_matches(char::is_numeric).len());
    match (number.is_empty(), rest.chars().next()) {
        (false, Some('.' | ')')) | (true, Some('-' | '+' | '=')) => format!("{number}\\{rest}"),
        _ => text.to_owned(),
    }
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
