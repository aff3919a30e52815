//! `report.html`: one file that works from a disk, an artifact viewer or a phone.
//!
//! No script, no link, nothing loaded: the page's own policy allows one style sheet, by its digest, and nothing else,
//! so that even text that got past `escape` could not run or call out.

use karat_core::{Digest, Outcome, Verdict, summary::RunSummary};

use crate::{
    chart,
    content::{
        Block, Chart, Column, Entry, Frame, Item, LineChart, Section, Series, Stroke, Table,
    },
    escape::{Span, markup, spans},
    sections,
};

/// The style sheet of every page.
pub const STYLE: &str = include_str!("style.css");
/// Curves with fewer points have a dot at each.
const DOTS_MAX: usize = 60;

/// The report as one HTML page.
#[must_use]
pub fn report_html(summary: &RunSummary) -> String {
    let headline = sections::headline(summary);
    let mut page = Page { out: String::new(), n_charts: 0 };
    page.out.push_str(&format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{}'; \
         base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{}: {}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{}</h1>\n",
        base64(Digest::of(STYLE.as_bytes()).as_bytes()),
        markup(summary.outcome().map_or("nothing decided", Outcome::word)),
        markup(&summary.project),
        sentence(&headline)
    ));
    for line in sections::lead(summary) {
        page.out.push_str(&format!("<p class=\"lead\">{}</p>\n", sentence(&line)));
    }
    let mut parts = sections::report(summary);
    parts.retain(|it| !it.blocks.is_empty());
    page.out.push_str("<nav aria-label=\"Sections\"><ul>");
    for (i, part) in parts.iter().enumerate() {
        page.out.push_str(&format!("<li><a href=\"#part{i}\">{}</a></li>", markup(part.title)));
    }
    page.out.push_str("</ul></nav>\n</header>\n<main>\n");
    page.sections(&parts);
    page.out.push_str("</main>\n</body>\n</html>\n");
    page.out
}

/// The sections that a report has about its verdict, for a page that has a head of its own.
#[must_use]
pub fn verdict_html(verdict: &Verdict) -> String {
    let mut page = Page { out: String::new(), n_charts: 0 };
    page.sections(&sections::judged(verdict));
    page.out
}

/// An outcome as word, shape and colour.
#[must_use]
pub fn outcome_html(outcome: Outcome) -> String {
    item(&Item::Outcome(outcome))
}

/// A message for people; `literals` between backticks are set as such.
#[must_use]
pub fn words_html(message: &str) -> String {
    item(&Item::Words(message.to_owned()))
}

/// The verdict in one line of words: who was judged by what, and how many rules hold.
#[must_use]
pub fn verdict_line_html(verdict: &Verdict) -> String {
    sentence(&sections::judgement(verdict))
}

/// Curves in one frame, for a page that has a head of its own; `id` is unique in it. Empty when nothing can be drawn.
#[must_use]
pub fn curves_html(
    title: &str,
    [x, y]: [&'static str; 2],
    curves: &[(String, Vec<[f64; 2]>)],
    id: usize,
) -> String {
    let series = curves.iter().filter_map(|(name, points)| {
        let stroke = if points.len() < DOTS_MAX { Stroke::Dots } else { Stroke::Line };
        Series::new(name, stroke, points)
    });
    let (series, title) = (series.collect(), title.to_owned());
    let (frame, counts) = (Frame::Points, Vec::new());
    let chart = LineChart { title, x, y, frame, mark: None, series, counts };
    chart::figure(&Chart::Curves(chart), id)
}

struct Page {
    out: String,
    n_charts: usize,
}

impl Page {
    fn sections(&mut self, sections: &[Section]) {
        for (i, part) in sections.iter().filter(|it| !it.blocks.is_empty()).enumerate() {
            self.out.push_str(&format!(
                "<section aria-labelledby=\"part{i}\">\n<h2 id=\"part{i}\">{}</h2>\n",
                markup(part.title)
            ));
            self.blocks(&part.blocks);
            self.out.push_str("</section>\n");
        }
    }

    fn blocks(&mut self, blocks: &[Block]) {
        // Charts that follow each other share a row where the page is wide enough.
        for group in blocks.chunk_by(|a, b| is_chart(a) && is_chart(b)) {
            let has_charts = group.iter().any(is_chart);
            if has_charts {
                self.out.push_str("<div class=\"charts\">\n");
            }
            group.iter().for_each(|it| self.block(it));
            if has_charts {
                self.out.push_str("</div>\n");
                group.iter().for_each(|it| self.points(it));
            }
        }
    }

    fn block(&mut self, block: &Block) {
        match block {
            Block::Line(items) => self.out.push_str(&format!("<p>{}</p>\n", sentence(items))),
            Block::List(entries) => {
                self.out.push_str("<ul>\n");
                entries.iter().for_each(|it| self.entry(it));
                self.out.push_str("</ul>\n");
            }
            Block::Table(table) => self.table(table),
            Block::Chart(chart) => {
                self.n_charts += 1;
                self.out.push_str(&chart::figure(chart, self.n_charts));
            }
            Block::Fold { title, blocks } => {
                self.out.push_str(&format!("<details>\n<summary>{}</summary>\n", sentence(title)));
                self.blocks(blocks);
                self.out.push_str("</details>\n");
            }
        }
    }

    /// The numbers of a line chart; a slice chart has its table beside it.
    fn points(&mut self, block: &Block) {
        if let Block::Chart(Chart::Losses(chart) | Chart::Curves(chart)) = block {
            self.out.push_str(&format!(
                "<details>\n<summary>{} in numbers</summary>\n",
                markup(&chart.title)
            ));
            self.table(&chart::points_table(chart));
            self.out.push_str("</details>\n");
        }
    }

    fn entry(&mut self, entry: &Entry) {
        self.out.push_str(&format!("<li>{}", sentence(&entry.head)));
        if !entry.below.is_empty() {
            self.out.push_str("<ul>");
            for line in &entry.below {
                self.out.push_str(&format!("<li>{}</li>", sentence(line)));
            }
            self.out.push_str("</ul>");
        }
        self.out.push_str("</li>\n");
    }

    fn table(&mut self, table: &Table) {
        let class = |column: &Column| match column {
            Column::Text(_) => "",
            Column::Number(_) => " class=\"n\"",
        };
        // Focusable, so that a wide table can be scrolled without a mouse.
        self.out.push_str(&format!(
            "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{0}\">\n<table>\n<caption>{0}</caption>\n<thead><tr>",
            markup(&table.caption)
        ));
        for column in &table.columns {
            self.out.push_str(&format!(
                "<th scope=\"col\"{}>{}</th>",
                class(column),
                markup(column.head())
            ));
        }
        self.out.push_str("</tr></thead>\n<tbody>\n");
        // What a row is about, for readers who hear one cell at a time: an answer alone does not say.
        let is_head = |column: &Column| matches!(column, Column::Text(it) if *it != "outcome");
        let head = table.columns.iter().position(is_head);
        for row in &table.rows {
            self.out.push_str("<tr>");
            for (i, (cell, column)) in row.iter().zip(&table.columns).enumerate() {
                // A reason in place of a number may be long and must be able to wrap.
                let class = if matches!(cell, Item::Words(_)) { "" } else { class(column) };
                let text = item(cell);
                self.out.push_str(&if Some(i) == head {
                    format!("<th scope=\"row\"{class}>{text}</th>")
                } else {
                    format!("<td{class}>{text}</td>")
                });
            }
            self.out.push_str("</tr>\n");
        }
        self.out.push_str("</tbody>\n");
        self.out.push_str("</table>\n</div>\n");
    }
}

fn is_chart(block: &Block) -> bool {
    matches!(block, Block::Chart(_))
}

/// Items as HTML text.
pub(crate) fn sentence(items: &[Item]) -> String {
    items.iter().map(item).collect()
}

fn item(item: &Item) -> String {
    match item {
        Item::Words(text) => {
            let span = |it| match it {
                Span::Plain(text) => markup(text),
                Span::Code(text) => format!("<code>{}</code>", markup(text)),
            };
            spans(text).into_iter().map(span).collect()
        }
        Item::Name(text) => format!("<code>{}</code>", markup(text)),
        Item::Number(text) => markup(text),
        Item::Outcome(outcome) => format!(
            "<span class=\"badge {}\">{}</span>",
            outcome.word().replace(' ', "-"),
            sections::outcome_text(*outcome)
        ),
        Item::Absent => "–".to_owned(),
    }
}

/// RFC 4648 base64, as the policy wants its digests.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let bits =
            (0..3).fold(0u32, |bits, i| bits << 8 | chunk.get(i).map_or(0, |it| u32::from(*it)));
        for i in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * i)) as usize & 63];
            out.push(if i <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_matches_the_rfc() {
        let cases =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (plain, coded) in cases {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
