//! Addresses inside the site, both ways: built from values for links, and taken apart when they are asked for.
//!
//! Nothing here becomes a file path: a part of an address is parsed into a name, a number or a digest, or refused.

use std::fmt;

use karat_core::{Digest, Name, RunId};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::html::Show;

/// Bytes an address may have, with its query.
pub(crate) const TARGET_BYTES_MAX: usize = 2048;
/// Pairs a query may have.
const PAIRS_MAX: usize = 32;
/// Parts a path may have.
const PARTS_MAX: usize = 8;

/// What needs no escape in a path or a query: letters, digits and these.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A link inside the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address(String);

impl Address {
    /// A path of the route table without captures.
    pub(crate) fn of(path: &'static str) -> Self {
        Self(path.to_owned())
    }

    fn below(path: &'static str, parts: &[&str]) -> Self {
        let mut text = path.to_owned();
        for part in parts {
            text.push('/');
            text.extend(utf8_percent_encode(part, ESCAPED));
        }
        Self(text)
    }

    /// With one more pair in its query; an empty value is left out.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        if !value.is_empty() {
            self.0.push(if self.0.contains('?') { '&' } else { '?' });
            self.0.extend(utf8_percent_encode(name, ESCAPED));
            self.0.push('=');
            self.0.extend(utf8_percent_encode(value, ESCAPED));
        }
        self
    }

    pub(crate) fn run(id: &RunId) -> Self {
        Self::below("/runs", &[&id.0])
    }

    pub(crate) fn model(model: &Name) -> Self {
        Self::below("/models", &[model.as_str()])
    }

    pub(crate) fn version(model: &Name, version: u32) -> Self {
        Self::below("/models", &[model.as_str(), &version.to_string()])
    }

    pub(crate) fn lineage(model: &Name, version: u32) -> Self {
        Self::below("/models", &[model.as_str(), &version.to_string(), "lineage"])
    }

    pub(crate) fn verdict(digest: &Digest) -> Self {
        Self::below("/verdicts", &[&digest.hex()])
    }

    pub(crate) fn snapshot(digest: &Digest) -> Self {
        Self::below("/data", &[&digest.hex()])
    }

    pub(crate) fn artifact(digest: &Digest) -> Self {
        Self::below("/artifacts", &[&digest.hex()])
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Show for Address {
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.show(f)
    }
}

/// What stands after the `?`, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// The value of a name; empty when it is not there.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(it, _)| it == name).map_or("", |(_, value)| value)
    }

    /// Every value of a name.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(it, _)| it == name).map(|(_, value)| value.as_str())
    }

    /// The page asked for, from 1.
    pub(crate) fn page(&self) -> u64 {
        self.get("page").parse().unwrap_or(1).clamp(1, 1 << 32)
    }
}

/// An address that was asked for, taken apart: the decoded parts of its path, and its query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) parts: Vec<String>,
    pub(crate) query: Query,
}

/// Takes a request's target apart; the reason when it is none of ours.
pub(crate) fn parse(target: &str) -> Result<Asked, &'static str> {
    if TARGET_BYTES_MAX < target.len() {
        return Err("the address is too long");
    }
    let Some(path) = target.strip_prefix('/') else { return Err("an address begins with `/`") };
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut parts = Vec::new();
    for part in path.split('/').filter(|_| !path.is_empty()) {
        let part = decoded(part)?;
        // No name has any of these; a look-alike of a path is not worth a look at the store.
        if part.is_empty() || part == "." || part == ".." || part.contains(['/', '\\', '\0']) {
            return Err("the address has a part that names nothing");
        }
        parts.push(part);
    }
    let mut pairs = Vec::new();
    for pair in query.split('&').filter(|it| !it.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        // Forms write a space as `+`.
        pairs.push((decoded(&name.replace('+', " "))?, decoded(&value.replace('+', " "))?));
    }
    if PARTS_MAX < parts.len() || PAIRS_MAX < pairs.len() {
        return Err("the address has too many parts");
    }
    Ok(Asked { parts, query: Query(pairs) })
}

fn decoded(text: &str) -> Result<String, &'static str> {
    match percent_decode_str(text).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err("the address is not UTF-8"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Address, Asked, parse};

    #[test]
    fn what_was_built_is_taken_apart_again() {
        let odd = "a/b?c=d&e%20 <ä>";
        let address = Address::of("/runs").with("q", odd).with("step", "").with("page", "2");
        assert_eq!(address.to_string(), "/runs?q=a%2Fb%3Fc%3Dd%26e%2520%20%3C%C3%A4%3E&page=2");
        let Asked { parts, query } = parse(&address.to_string()).expect("ours");
        assert_eq!((parts, query.get("q"), query.page()), (vec!["runs".to_owned()], odd, 2));
        let version = Address::version(&"flights".parse().expect("a name"), 3);
        assert_eq!(version.to_string(), "/models/flights/3");
    }

    #[test]
    fn what_is_no_address_of_ours_is_refused() {
        for target in [
            "runs",
            "http://evil/",
            "*",
            "/runs/../x",
            "/runs/%2e%2e/x",
            "/runs/%2e",
            "//runs",
            "/runs//x",
            "/a%2fb",
            "/a%5cb",
            "/a%00b",
            "/%ff",
            "/?q=%c0%af",
            "/1/2/3/4/5/6/7/8/9",
            &format!("/{}", "a".repeat(3000)),
            &format!("/?{}", "a&".repeat(40)),
        ] {
            assert!(parse(target).is_err(), "{target}");
        }
        assert_eq!(parse("/").map(|it| it.parts.len()), Ok(0));
        assert_eq!(parse("/?page=-1").map(|it| it.query.page()), Ok(1));
        assert_eq!(parse("/?page=99999999999999999999999").map(|it| it.query.page()), Ok(1));
    }
}
