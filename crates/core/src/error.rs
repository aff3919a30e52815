//! What every error of ours can say besides its message: a stable code, hints and the exit code it asks for.
//!
//! Adapters keep one enum per operation; at the ports and in `pipeline` they travel as [`Failure`], which keeps
//! exactly what a reader needs: the fact, the code, where, the causes and what to do next.

use std::{error::Error, fmt};

use crate::Exit;

/// A stable kebab-case word, listed in `docs/errors.md`, shown by every renderer, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(&'static str);

impl Code {
    /// A code from its word.
    #[must_use]
    pub const fn new(word: &'static str) -> Self {
        Self(word)
    }

    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// An error with a code. Implemented by each crate's error enums.
pub trait Coded: Error + Send + Sync + 'static {
    /// The stable code.
    fn code(&self) -> Code;

    /// What the process should end with when nothing handles this.
    fn exit(&self) -> Exit {
        Exit::Run
    }

    /// Commands to paste or causes to check; true of *this* failure, at most two.
    fn hints(&self) -> Vec<String> {
        Vec::new()
    }

    /// Facts under the first line: where, how much, what is still true.
    fn details(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A coded error as it crosses a port or reaches the terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Stable code.
    pub code: Code,
    /// What the process should end with.
    pub exit: Exit,
    /// The fact, a lowercase fragment without a final period.
    pub message: String,
    /// Facts under the first line.
    pub details: Vec<String>,
    /// The chain of causes, outermost first.
    pub causes: Vec<String>,
    /// At most two.
    pub hints: Vec<String>,
}

impl Failure {
    /// A failure without cause, details or hint.
    #[must_use]
    pub fn new(code: &'static str, exit: Exit, message: impl Into<String>) -> Self {
        Self {
            code: Code::new(code),
            exit,
            message: message.into(),
            details: Vec::new(),
            causes: Vec::new(),
            hints: Vec::new(),
        }
    }

    /// Adds a fact under the first line.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.details.push(detail.into());
        self
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Adds a cause and the causes behind it.
    #[must_use]
    pub fn because(mut self, cause: &(dyn Error + 'static)) -> Self {
        let mut next = Some(cause);
        while let Some(error) = next {
            self.causes.push(error.to_string());
            next = error.source();
        }
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Failure {}

impl<E: Coded> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut failure = Self {
            code: error.code(),
            exit: error.exit(),
            message: error.to_string(),
            details: error.details(),
            causes: Vec::new(),
            hints: error.hints(),
        };
        let mut next = error.source();
        while let Some(cause) = next {
            failure.causes.push(cause.to_string());
            next = cause.source();
        }
        failure
    }
}

/// The known names nearest to `asked`, nearest first, at most five: for "unknown name" messages.
#[must_use]
pub fn nearest<'a>(asked: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut ranked: Vec<(usize, &str)> =
        known.into_iter().map(|name| (edit_distance(asked, name), name)).collect();
    ranked.sort();
    ranked.into_iter().take(5).map(|(_, name)| name).collect()
}

/// Levenshtein distance in characters, ignoring ASCII case.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.to_ascii_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.to_ascii_lowercase().chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn near_names_come_first() {
        assert_eq!(nearest("lat", ["origin", "late", "label", "day"])[0], "late");
        assert_eq!(nearest("Carier", ["dest", "carrier"]), ["carrier", "dest"]);
    }
}
