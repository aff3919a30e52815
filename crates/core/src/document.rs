//! A TOML file as typed: text, values, and where each key stands, so that every message can say
//! `--> karat.toml:14:14`.
//!
//! `--set key=value` edits the values before they are read; its values have no place in the file and say so.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::de::DeserializeOwned;

use crate::{Exit, Failure, nearest};

/// Largest configuration file that is read.
pub const DOCUMENT_BYTES_MAX: usize = 4 << 20;

/// One TOML file, or its equivalent.
#[derive(Clone, Debug)]
pub struct Document {
    /// Name shown in messages: a path relative to the project.
    pub name: String,
    text: String,
    table: toml::Table,
    overrides: BTreeMap<String, String>,
}

impl Document {
    /// Parses `text`.
    pub fn parse(name: impl Into<String>, text: impl Into<String>) -> Result<Self, Failure> {
        let (name, text) = (name.into(), text.into());
        if DOCUMENT_BYTES_MAX < text.len() {
            return Err(Failure::new(
                "config-too-large",
                Exit::Usage,
                format!("`{name}` has {} bytes, at most {DOCUMENT_BYTES_MAX} are read", text.len()),
            ));
        }
        match text.parse::<toml::Table>() {
            Ok(table) => Ok(Self { name, text, table, overrides: BTreeMap::new() }),
            Err(error) => {
                let place = error.span().map(|span| position(&text, span.start));
                let mut failure = Failure::new(
                    "config-syntax",
                    Exit::Usage,
                    format!("`{name}` is not valid TOML: {}", one_line(error.message())),
                );
                if let Some((line, column)) = place {
                    failure = failure.detail(format!("--> {name}:{line}:{column}"));
                }
                Err(failure)
            }
        }
    }

    /// Applies one `--set key=value`: `value` is read as TOML, else as a plain string.
    pub fn set(&mut self, assignment: &str) -> Result<(), Failure> {
        let refuse = |why: String| {
            Failure::new("set-invalid", Exit::Usage, why)
                .hint("`--set train.hidden=[128,128]` sets one key; `--set` may be repeated")
        };
        let (key, value) = assignment.split_once('=').ok_or_else(|| {
            refuse(format!("`--set {assignment}` has no `=`: expected `key=value`"))
        })?;
        let (key, value) = (key.trim(), value.trim());
        let parts: Vec<&str> = key.split('.').collect();
        if parts.iter().any(|part| part.is_empty()) {
            return Err(refuse(format!("`--set {assignment}`: `{key}` is not a dotted key")));
        }
        let parsed = format!("value = {value}")
            .parse::<toml::Table>()
            .ok()
            .filter(|table| table.len() == 1)
            .and_then(|mut table| table.remove("value"))
            .unwrap_or_else(|| toml::Value::String(value.to_owned()));
        let (last, path) = parts.split_last().expect("split gives at least one part");
        let mut table = &mut self.table;
        for part in path {
            table = table
                .entry((*part).to_owned())
                .or_insert_with(|| toml::Value::Table(toml::Table::new()))
                .as_table_mut()
                .ok_or_else(|| refuse(format!("`--set {assignment}`: `{part}` is not a table")))?;
        }
        table.insert((*last).to_owned(), parsed);
        self.overrides.insert(key.to_owned(), format!("--set {assignment}"));
        Ok(())
    }

    /// The values after all `--set`.
    #[must_use]
    pub fn table(&self) -> &toml::Table {
        &self.table
    }

    /// Reads the values as `T`, with the place of whatever does not fit.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        // With no overrides the text itself is read, because only then do errors carry a span.
        let (text, error) = if self.overrides.is_empty() {
            match toml::from_str(&self.text) {
                Ok(value) => return Ok(value),
                Err(error) => (self.text.clone(), error),
            }
        } else {
            let text = toml::to_string(&self.table).expect("a parsed table serialises");
            match toml::from_str(&text) {
                Ok(value) => return Ok(value),
                Err(error) => (text, error),
            }
        };
        let mut message = one_line(error.message());
        let line = error.span().and_then(|span| text[..span.start].lines().last().map(str::trim));
        // The message alone says what was expected and found, not of which key.
        if let Some((key, _)) = line.and_then(|it| it.split_once('='))
            && message.starts_with("invalid type")
        {
            message = format!("`{}`: {message}", key.trim());
        }
        let mut failure =
            Failure::new("config-invalid", Exit::Usage, format!("`{}`: {message}", self.name));
        if let Some(span) = error.span() {
            if self.overrides.is_empty() {
                let (line, column) = position(&text, span.start);
                failure = failure.detail(format!("--> {}:{line}:{column}", self.name));
            } else {
                let given: Vec<&str> = self.overrides.values().map(String::as_str).collect();
                failure = failure.detail(format!("--> {} with {}", self.name, given.join(" ")));
            }
        }
        if let Some(hint) = near_key(&message) {
            failure = failure.hint(hint);
        }
        Err(failure)
    }

    /// Where `key` (dotted, as in `train.batch_size`) stands: `karat.toml:14:14`, or the `--set` that gave it.
    #[must_use]
    pub fn place(&self, key: &str) -> Option<String> {
        if let Some(given) = self.overrides.get(key) {
            return Some(given.clone());
        }
        let start = find_key(&self.text, key)?;
        let (line, column) = position(&self.text, start);
        Some(format!("{}:{line}:{column}", self.name))
    }

    /// A failure about the value at `key`: asked, allowed, and where.
    #[must_use]
    pub fn refuse(&self, key: &str, message: impl Into<String>) -> Failure {
        let failure = Failure::new("spec-invalid", Exit::Usage, message);
        match self.place(key) {
            Some(place) => failure.detail(format!("--> {place}")),
            None => failure.detail(format!("--> {} (the key is not written there)", self.name)),
        }
    }
}

/// Line and column, from 1, of byte `at`.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(at.min(text.len()))];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (line, column)
}

/// Byte offset of the value of a dotted key, by the spans of the parser. A number names an element of an array:
/// `gate.release.rule.2.metric`.
fn find_key(text: &str, key: &str) -> Option<usize> {
    let document = toml::de::DeTable::parse(text).ok()?;
    let mut parts = key.split('.');
    let mut value = member(document.get_ref(), parts.next()?)?;
    for part in parts {
        value = match value.get_ref() {
            toml::de::DeValue::Table(table) => member(table, part)?,
            toml::de::DeValue::Array(array) => array.get(part.parse::<usize>().ok()?)?,
            _ => break,
        };
    }
    Some(value.span().start)
}

fn member<'a, 'i>(
    table: &'a toml::de::DeTable<'i>,
    key: &str,
) -> Option<&'a toml::Spanned<toml::de::DeValue<'i>>> {
    table.iter().find(|(name, _)| name.get_ref().as_ref() == key).map(|(_, value)| value)
}

fn one_line(message: &str) -> String {
    message.split('\n').filter(|line| !line.trim().is_empty()).fold(
        String::new(),
        |mut out, line| {
            if !out.is_empty() {
                out.push_str(", ");
            }
            let _ = write!(out, "{}", line.trim());
            out
        },
    )
}

/// "did you mean" from serde's ``unknown field `x`, expected one of `a`, `b` ``.
fn near_key(message: &str) -> Option<String> {
    let rest = message
        .strip_prefix("unknown field `")
        .or_else(|| message.strip_prefix("unknown variant `"))?;
    let (asked, rest) = rest.split_once('`')?;
    let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    let best = nearest(asked, known.iter().copied());
    let best = best.first()?;
    Some(format!("the nearest known word is `{best}`"))
}

#[cfg(test)]
mod tests {
    use super::Document;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Train {
        #[expect(dead_code, reason = "only its type matters here")]
        epochs: u32,
    }
    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Root {
        #[expect(dead_code, reason = "only its type matters here")]
        train: Train,
    }

    #[test]
    fn places_are_line_and_column() {
        let document =
            Document::parse("karat.toml", "a = 1\n[train]\nepochs = 4\n").expect("valid");
        assert_eq!(document.place("train.epochs").as_deref(), Some("karat.toml:3:10"));
        assert_eq!(document.place("train.absent"), None);
    }

    #[test]
    fn places_reach_into_arrays_of_tables() {
        let text = "[[rule]]\na = 1\n[[rule]]\na = 2\n";
        let document = Document::parse("gate.toml", text).expect("valid");
        assert_eq!(document.place("rule.1.a").as_deref(), Some("gate.toml:4:5"));
        assert_eq!(document.place("rule.1").as_deref(), Some("gate.toml:3:1"));
        assert_eq!(document.place("rule.2"), None);
    }

    #[test]
    fn unknown_keys_name_the_place_and_the_nearest_key() {
        let document = Document::parse("karat.toml", "[train]\nepoch = 4\n").expect("valid");
        let failure = document.read::<Root>().expect_err("unknown key");
        assert_eq!(failure.details, ["--> karat.toml:2:1"]);
        assert_eq!(failure.hints, ["the nearest known word is `epochs`"]);
    }

    #[test]
    fn set_overrides_and_creates_and_is_named_in_messages() {
        let mut document = Document::parse("karat.toml", "[train]\nepochs = 4\n").expect("valid");
        document.set("train.epochs=[1]").expect("an assignment");
        document.set("train.name = mlp").expect("bare words are strings");
        assert_eq!(document.table()["train"]["name"].as_str(), Some("mlp"));
        assert_eq!(document.place("train.epochs").as_deref(), Some("--set train.epochs=[1]"));
        assert!(document.read::<Root>().is_err());
        assert!(document.set("train").is_err());
        assert!(document.set("train..x=1").is_err());
    }

    #[test]
    fn syntax_errors_say_where() {
        let failure = Document::parse("gate.toml", "a = 1\nb = = 2\n").expect_err("not TOML");
        assert_eq!(failure.code.as_str(), "config-syntax");
        assert!(failure.details[0].starts_with("--> gate.toml:2:"), "{:?}", failure.details);
    }
}
