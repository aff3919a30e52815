//! What pages are made of: tables, lists of facts, times, states, pagers.

use karat_core::{Digest, Outcome, Timestamp, thousands};
use karat_report::{number, outcome_html};
use karat_store::{RunState, Span};

use crate::{
    address::Address,
    frame::words,
    html::{Html, Show, html},
};

/// Rows of a page of a list.
pub(crate) const ROWS: u32 = 50;
/// A run whose worker has not been heard of for this long may be dead.
const SILENCE_MS: i64 = 120_000;

/// A link.
pub(crate) fn link(address: &Address, text: impl Show) -> Html {
    html!("<a href=\"{}\">{}</a>", address, text)
}

/// Something literal: a name, a value.
pub(crate) fn code(text: impl Show) -> Html {
    html!("<code>{}</code>", text)
}

/// A digest by its first digits; the whole one is a hover away.
pub(crate) fn digest(digest: &Digest) -> Html {
    html!("<code title=\"{}\">{}</code>", digest.to_string(), digest.short())
}

/// A digest in full.
pub(crate) fn whole_digest(digest: &Digest) -> Html {
    html!("<code class=\"whole\">{}</code>", digest.to_string())
}

/// A titled part of a page.
pub(crate) fn section(title: &str, body: Html) -> Html {
    html!("<section>\n<h2>{}</h2>\n{}</section>\n", title, body)
}

/// What to do where there is nothing to show.
pub(crate) fn empty(message: &str) -> Html {
    html!("<p class=\"empty\">{}</p>\n", words(message))
}

/// What is known, as name and value; what is empty is left out.
pub(crate) fn facts(facts: Vec<(&str, Html)>) -> Html {
    let known = facts.into_iter().filter(|(_, value)| !value.is_empty());
    let rows: Vec<Html> = known
        .map(|(name, value)| html!("<div><dt>{}</dt><dd>{}</dd></div>\n", name, value))
        .collect();
    html!("<dl class=\"facts\">\n{}</dl>\n", rows)
}

/// The head of a column.
#[derive(Clone, Copy)]
pub(crate) enum Column<'a> {
    /// Aligned to the left.
    Text(&'a str),
    /// Aligned to the right, digits under digits.
    Number(&'a str),
}

/// A table that scrolls by itself where the page is too narrow for it.
pub(crate) fn table(caption: &str, columns: &[Column<'_>], rows: Vec<Vec<Html>>) -> Html {
    let class =
        |column: &Column<'_>| matches!(column, Column::Number(_)).then(|| html!(" class=\"n\""));
    let heads: Vec<Html> = columns
        .iter()
        .map(|column| {
            let (Column::Text(head) | Column::Number(head)) = column;
            html!("<th scope=\"col\"{}>{}</th>", class(column), head)
        })
        .collect();
    let row = |cells: Vec<Html>| {
        let cells: Vec<Html> = cells
            .into_iter()
            .zip(columns)
            .map(|(cell, column)| html!("<td{}>{}</td>", class(column), cell))
            .collect();
        html!("<tr>{}</tr>\n", cells)
    };
    let rows: Vec<Html> = rows.into_iter().map(row).collect();
    html!(
        "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{}\">\n<table>\n<caption>{}</caption>\n\
         <thead><tr>{}</tr></thead>\n<tbody>\n{}</tbody>\n</table>\n</div>\n",
        caption,
        caption,
        heads,
        rows
    )
}

/// The span of page `page`, counted from 1.
pub(crate) const fn span(page: u64) -> Span {
    Span { offset: page.saturating_sub(1).saturating_mul(ROWS as u64), limit: ROWS }
}

/// Which part of a list this is, and the way to the others; `address` is the list's without its page.
pub(crate) fn pager(address: &Address, page: u64, n_shown: usize, n_all: u64) -> Html {
    let n_pages = n_all.div_ceil(u64::from(ROWS)).max(1);
    let first = span(page).offset + 1;
    let which = match n_shown {
        0 => format!("none of {}", thousands(n_all)),
        n => {
            let last = thousands(first + n as u64 - 1);
            format!("{} to {last} of {}", thousands(first), thousands(n_all))
        }
    };
    if n_pages == 1 && page == 1 {
        return html!("<p class=\"pager\">{}</p>\n", which);
    }
    let to = |words: &str, target: u64, is_there: bool| {
        let address = address.clone().with("page", &target.to_string());
        if is_there {
            html!("<a href=\"{}\">{}</a>", address, words)
        } else {
            html!("<span class=\"off\">{}</span>", words)
        }
    };
    html!(
        "<nav class=\"pager\" aria-label=\"Pages\"><span>{}</span>{}{}{}{}</nav>\n",
        which,
        to("first", 1, 1 < page),
        to("previous", (page - 1).clamp(1, n_pages), 1 < page),
        to("next", page + 1, page < n_pages),
        to("last", n_pages, page < n_pages)
    )
}

/// `3 h ago`.
pub(crate) fn ago(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.0.saturating_sub(at.0) / 1000;
    match seconds {
        ..0 => "in the future".to_owned(),
        0..60 => "just now".to_owned(),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        86_400..172_800 => "1 day ago".to_owned(),
        _ => format!("{} days ago", thousands(seconds.unsigned_abs() / 86_400)),
    }
}

/// A time, absolute and relative.
pub(crate) fn time(at: Timestamp, now: Timestamp) -> Html {
    let exact = at.to_string();
    // `2026-11-25T14:04:34Z`; a time outside the calendar has another form and is shown whole.
    let shown = match exact.get(..16) {
        Some(minute) if exact.ends_with('Z') => minute.replace('T', " "),
        _ => exact.clone(),
    };
    html!(
        "<time datetime=\"{}\" title=\"{}\">{} <small>{}</small></time>",
        exact,
        exact,
        shown,
        ago(at, now)
    )
}

/// A state as word, shape and colour.
pub(crate) fn state(state: RunState) -> Html {
    let (class, mark) = match state {
        RunState::Running => ("running", "◐"),
        RunState::Complete => ("pass", "✓"),
        RunState::Failed => ("fail", "✗"),
        RunState::Canceled => ("canceled", "■"),
    };
    html!("<span class=\"badge {}\">{} {}</span>", class, mark, state.word())
}

/// [`state`], and since when a run that should be running says nothing.
pub(crate) fn state_at(state: RunState, heartbeat_at: Timestamp, now: Timestamp) -> Html {
    let is_silent = state == RunState::Running && SILENCE_MS < now.0.saturating_sub(heartbeat_at.0);
    let silence =
        is_silent.then(|| html!("<br><small>last heard of {}</small>", ago(heartbeat_at, now)));
    html!("{}{}", self::state(state), silence)
}

/// An outcome as word, shape and colour.
pub(crate) fn outcome(outcome: Outcome) -> Html {
    Html::written(outcome_html(outcome))
}

/// A duration.
pub(crate) fn seconds(seconds: f64) -> Html {
    html!("{}", number::seconds(seconds))
}

/// A number, or nothing.
pub(crate) fn metric(value: Option<f64>) -> Html {
    value.map_or_else(|| html!("–"), |it| html!("{}", number::metric(it)))
}

/// A count.
pub(crate) fn count(n: u64) -> Html {
    html!("{}", thousands(n))
}

/// A size: `1.2 MiB`.
pub(crate) fn bytes(n: u64) -> Html {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if n < 1024 {
        return html!("{} B", n);
    }
    let mut size = n as f64 / 1024.0;
    let mut unit = 0;
    while 1024.0 <= size && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    html!("{} {}", format!("{size:.1}"), UNITS[unit])
}

/// A form's choice among words; the empty one stands for all.
pub(crate) fn choice(name: &str, label: &str, options: &[(&str, &str)], chosen: &str) -> Html {
    let option = |(value, words): &(&str, &str)| {
        let selected = (*value == chosen).then(|| html!(" selected"));
        html!("<option value=\"{}\"{}>{}</option>", value, selected, words)
    };
    let options: Vec<Html> = options.iter().map(option).collect();
    html!("<label>{} <select name=\"{}\">{}</select></label>\n", label, name, options)
}

#[cfg(test)]
mod tests {
    use karat_core::Timestamp;

    use super::{ago, bytes, pager, time};
    use crate::address::Address;

    const HOUR: i64 = 3_600_000;

    #[test]
    fn times_are_told_both_ways() {
        let now = Timestamp(1_700_000_000_000);
        for (before, words) in [
            (-1_000, "in the future"),
            (0, "just now"),
            (90_000, "1 min ago"),
            (3 * HOUR, "3 h ago"),
            (25 * HOUR, "1 day ago"),
            (24_000 * HOUR, "1,000 days ago"),
        ] {
            assert_eq!(ago(Timestamp(now.0 - before), now), words);
        }
        let shown = time(Timestamp(now.0 - HOUR), now).into_string();
        assert!(shown.contains("2023-11-14 21:13 <small>1 h ago</small>"), "{shown}");
        let odd = time(Timestamp(i64::MAX), now).into_string();
        assert!(odd.contains("9223372036854775807 ms"), "{odd}");
    }

    #[test]
    fn sizes_have_units() {
        for (n, text) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB")] {
            assert_eq!(bytes(n).into_string(), text);
        }
        assert_eq!(bytes(u64::MAX).into_string(), "16777216.0 TiB");
    }

    #[test]
    fn a_pager_leads_only_where_something_is() {
        let at = |page, n| pager(&Address::of("/runs"), page, n, 120).into_string();
        let first = at(1, 50);
        assert!(first.contains("1 to 50 of 120"), "{first}");
        assert!(!first.contains(">first</a>") && first.contains("?page=3\">last</a>"), "{first}");
        let last = at(3, 20);
        assert!(last.contains("101 to 120 of 120") && !last.contains(">next</a>"), "{last}");
        let beyond = at(9, 0);
        assert!(beyond.contains("none of 120") && beyond.contains("?page=3\">previous</a>"));
        assert!(!pager(&Address::of("/runs"), 1, 3, 3).into_string().contains("<nav"));
    }
}
