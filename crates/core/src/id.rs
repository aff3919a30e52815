//! Names and references: checked once, on the way in. No id, alias or user string ever becomes a path.

use std::{fmt, str::FromStr};

/// Characters a name may have; the longest that fits every terminal table.
pub const NAME_LEN_MAX: usize = 64;

/// Text that is not a name or reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseNameError {
    /// Not a plain name.
    #[error(
        "`{text}` is not a name: expected 1 to 64 of `a-z`, `A-Z`, `0-9`, `_`, `-`, `.`, starting with a letter or digit"
    )]
    Name {
        /// What was given.
        text: String,
    },
    /// Not `model@something`.
    #[error("`{text}` is not a reference: expected {expected}")]
    Reference {
        /// What was given.
        text: String,
        /// The forms that exist.
        expected: &'static str,
    },
}

/// A plain name: dataset, model, alias, gate, split, slice.
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if starts_well && text.len() <= NAME_LEN_MAX && text.chars().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseNameError::Name { text: text.chars().take(80).collect() })
        }
    }
}

impl TryFrom<String> for Name {
    type Error = ParseNameError;

    fn try_from(text: String) -> Result<Self, ParseNameError> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A model version as typed: `flights@17` or `flights@champion`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRef {
    /// The model.
    pub model: Name,
    /// Which of its versions.
    pub which: Which,
}

/// The part after the `@`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// A version number, from 1.
    Version(u32),
    /// An alias.
    Alias(Name),
}

impl FromStr for ModelRef {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        let refuse = || ParseNameError::Reference {
            text: text.chars().take(160).collect(),
            expected: "`model@version` as in `flights@17`, or `model@alias` as in `flights@champion`",
        };
        let (model, which) = text.split_once('@').ok_or_else(refuse)?;
        let model = model.parse().map_err(|_| refuse())?;
        let which = if which.bytes().all(|b| b.is_ascii_digit()) && !which.is_empty() {
            let version: u32 = which.parse().map_err(|_| refuse())?;
            if version == 0 || which.starts_with('0') {
                return Err(refuse());
            }
            Which::Version(version)
        } else {
            Which::Alias(which.parse().map_err(|_| refuse())?)
        };
        Ok(Self { model, which })
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.which {
            Which::Version(version) => write!(f, "{}@{version}", self.model),
            Which::Alias(alias) => write!(f, "{}@{alias}", self.model),
        }
    }
}

/// One execution of one step: `r-` and 10 hex digits, unique in a store.
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct RunId(pub String);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{ModelRef, Name};

    #[test]
    fn hostile_names_are_refused() {
        for text in
            ["", ".", "..", "../x", "a/b", "a\\b", "a b", "ä", "-x", "a\0b", "%2e", &"x".repeat(65)]
        {
            assert!(text.parse::<Name>().is_err(), "{text:?}");
        }
        for text in ["a", "flights", "a-b_c.d", "9", &"x".repeat(64)] {
            assert!(text.parse::<Name>().is_ok(), "{text:?}");
        }
    }

    #[test]
    fn references_round_trip_and_zero_is_no_version() {
        for text in ["flights@17", "flights@champion"] {
            assert_eq!(text.parse::<ModelRef>().expect("valid").to_string(), text);
        }
        for text in
            ["flights", "flights@", "@1", "flights@0", "flights@01", "flights@99999999999", "a@b@c"]
        {
            assert!(text.parse::<ModelRef>().is_err(), "{text:?}");
        }
    }
}
