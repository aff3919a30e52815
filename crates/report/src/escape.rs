//! Makes text from outside harmless: names, values and messages that a data file or a change under review chose.
//!
//! [`line()`] comes first everywhere: one line, nothing invisible. Then [`markup`] for HTML and XML, [`code`] and
//! [`prose`] for Markdown.

use std::fmt::Write as _;

/// `text` on one line with everything invisible made visible: control characters (also those XML 1.0 cannot carry),
/// line separators, and the marks that reorder text, as `\n` or `\u{202e}`.
pub(crate) fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || is_invisible(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

const fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
    )
}

/// [`line()`], and the five characters that mean something in HTML and XML, in text and in attributes. The only place
/// where markup is escaped.
#[must_use]
pub fn markup(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in line(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// The first `n_chars` characters of [`line()`], `…` where something was cut.
pub(crate) fn clip(text: &str, n_chars: usize) -> String {
    let text = line(text);
    match text.char_indices().nth(n_chars) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// A piece of a message: plain, or between backticks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Span<'a> {
    Plain(&'a str),
    Code(&'a str),
}

/// Splits a message at its backticks. Without a closing one there is no code. Either kind of span is escaped for what
/// it is, so a name that holds backticks can spoil the look, not more.
pub(crate) fn spans(message: &str) -> Vec<Span<'_>> {
    let parts: Vec<&str> = message.split('`').collect();
    if parts.len().is_multiple_of(2) {
        return vec![Span::Plain(message)];
    }
    let span = |(i, part)| if i % 2 == 0 { Span::Plain(part) } else { Span::Code(part) };
    parts
        .into_iter()
        .enumerate()
        .map(span)
        .filter(|it| !matches!(it, Span::Plain("") | Span::Code("")))
        .collect()
}

/// Markdown code: nothing inside is a link, a mention or markup. A plain code span where that is safe in a table cell,
/// else `<code>` with every ASCII punctuation mark as an entity: renderers differ about `\|` and backticks.
pub(crate) fn code(text: &str) -> String {
    let text = if text.is_empty() { "\"\"".to_owned() } else { line(text) };
    let is_hard = |c| matches!(c, '`' | '|' | '<' | '>' | '&' | '\\' | '$');
    if !text.contains(is_hard) && !text.starts_with(' ') && !text.ends_with(' ') {
        return format!("`{text}`");
    }
    let mut out = String::from("<code>");
    for c in text.chars() {
        if c.is_ascii_punctuation() {
            write!(out, "&#{};", u32::from(c)).expect("writing to a string cannot fail");
        } else {
            out.push(c);
        }
    }
    out.push_str("</code>");
    out
}

/// Markdown words: no markup, no table cell border, no link, no `@name` that would call somebody, and no reference
/// (`#12`, `!12`, `GH-12`, `~label`) that would leave a note in somebody's issue.
///
/// Sites look for names and references after rendering, so no escape helps: an invisible joiner ends them.
pub(crate) fn prose(text: &str) -> String {
    const JOINER: char = '\u{2060}';
    let text = line(text);
    let mut out = String::with_capacity(text.len());
    let mut before = ' ';
    for (i, c) in text.char_indices() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '|' => out.push_str("&#124;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '~' | '#' | '$' => out.extend(['\\', c]),
            ':' if text[i..].starts_with("://") => out.push_str("&#58;"),
            '.' if text[..i].to_ascii_lowercase().ends_with("www") => out.push_str("&#46;"),
            c => out.push(c),
        }
        let next = text[i + c.len_utf8()..].chars().next().unwrap_or(' ');
        let refers = match c {
            '@' => !before.is_alphanumeric(),
            '#' | '!' | '~' | '%' | '&' | '$' | '^' => next.is_alphanumeric() || next == '"',
            '-' => next.is_ascii_digit() && text[..i].to_ascii_lowercase().ends_with("gh"),
            _ => false,
        };
        if refers {
            out.push(JOINER);
        }
        before = c;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Span, clip, code, line, markup, prose, spans};

    #[test]
    fn invisible_text_becomes_visible() {
        assert_eq!(
            line("a\nb\u{1b}[31m\u{202e}c\0\u{ffff}"),
            "a\\nb\\u{1b}[31m\\u{202e}c\\u{0}\\u{ffff}"
        );
        assert_eq!(line("Zürich ✈ 東京"), "Zürich ✈ 東京");
    }

    #[test]
    fn markup_closes_every_door() {
        assert_eq!(
            markup("<script>\"'&]]></script>\r"),
            "&lt;script&gt;&quot;&#39;&amp;]]&gt;&lt;/script&gt;\\r"
        );
    }

    #[test]
    fn code_is_a_code_span_only_where_that_is_safe() {
        assert_eq!(code("carrier=UA"), "`carrier=UA`");
        assert_eq!(code("a|b"), "<code>a&#124;b</code>");
        assert_eq!(code("`<b>"), "<code>&#96;&#60;b&#62;</code>");
        assert_eq!(code(""), "`\"\"`");
        assert_eq!(code(" a"), "<code> a</code>");
    }

    #[test]
    fn prose_starts_no_markup_link_or_mention() {
        assert_eq!(prose("<b> | *x* [y](z)"), "&lt;b&gt; &#124; \\*x\\* \\[y\\](z)");
        assert_eq!(prose("ask @everyone about flights@2"), "ask @\u{2060}everyone about flights@2");
        assert_eq!(prose("https://a.b WWW.c.d"), "https&#58;//a.b WWW&#46;c.d");
        assert_eq!(
            prose("fixes #12, a/b#3, !4, GH-5 and ~\"bug\"; 90 % & more"),
            "fixes \\#\u{2060}12, a/b\\#\u{2060}3, !\u{2060}4, GH-\u{2060}5 and \\~\u{2060}\"bug\"; 90 % &amp; more"
        );
    }

    #[test]
    fn messages_split_at_paired_backticks_only() {
        assert_eq!(spans("`a` is"), [Span::Code("a"), Span::Plain(" is")]);
        assert_eq!(spans("a ` b"), [Span::Plain("a ` b")]);
        assert_eq!(spans("``"), []);
    }

    #[test]
    fn clipping_counts_characters_and_says_so() {
        assert_eq!(clip("äöü", 3), "äöü");
        assert_eq!(clip("äöü!", 3), "äöü…");
    }
}
