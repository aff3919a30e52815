//! A rule of a gate told at length: what `karat gate --explain RULE` shows, and `--json` gives as data.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A rule told at length.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The rule's name.
    pub rule: String,
    /// In the order of the calculation.
    pub parts: Vec<Part>,
}

/// One step of the calculation, or one slice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// `the level`, `auc, slice evening`.
    pub title: String,
    /// What is known of it.
    pub lines: Vec<Line>,
}

/// One fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// `interval`, `P`.
    pub name: String,
    /// The formula with its numbers and what it gives.
    pub text: String,
}

impl Part {
    /// Without lines.
    #[must_use]
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), lines: Vec::new() }
    }

    /// Adds a fact.
    pub fn line(&mut self, name: &str, text: impl Into<String>) {
        self.lines.push(Line { name: name.to_owned(), text: text.into() });
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.parts.iter().flat_map(|it| &it.lines).map(|it| it.name.chars().count());
        let width = names.max().unwrap_or(0);
        for (at, part) in self.parts.iter().enumerate() {
            let gap = if at == 0 { "" } else { "\n" };
            writeln!(f, "{gap}{}", part.title)?;
            for line in &part.lines {
                writeln!(f, "  {:width$}  {}", line.name, line.text)?;
            }
        }
        Ok(())
    }
}
