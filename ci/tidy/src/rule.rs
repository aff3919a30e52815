//! What a rule is, and the two ways to test one.

use std::fmt::Write as _;

use crate::tree::{File, Tree, tree};

/// Something that must hold everywhere in the tree.
pub(crate) struct Rule {
    /// The rule in one line.
    pub(crate) says: &'static str,
    /// What goes wrong without it, and what to do instead.
    pub(crate) why: &'static str,
    /// Every place where it does not hold.
    pub(crate) find: fn(&Tree) -> Vec<Violation>,
}

/// One place where a rule does not hold.
pub(crate) struct Violation {
    path: String,
    line: usize,
    what: String,
}

impl Violation {
    /// In `file`, at byte `offset` of its text.
    pub(crate) fn at(file: &File, offset: usize, what: impl Into<String>) -> Self {
        let line = 1 + file.text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count();
        Self { path: file.path.clone(), line, what: what.into() }
    }

    /// In `file`, on the first line that contains `needle`; line 1 when there is none.
    pub(crate) fn near(file: &File, needle: &str, what: impl Into<String>) -> Self {
        Self::at(file, file.text.find(needle).unwrap_or(0), what)
    }

    /// Of `path` as a whole.
    pub(crate) fn of(path: &str, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line: 1, what: what.into() }
    }
}

impl Rule {
    /// Fails with the rule, its reason and every line that breaks it.
    #[track_caller]
    pub(crate) fn holds(&self) {
        let found = (self.find)(tree());
        let mut list = String::new();
        for Violation { path, line, what } in &found {
            let _ = write!(list, "\n  {path}:{line}: {what}");
        }
        assert!(found.is_empty(), "\n\nrule: {}\nwhy:  {}\n{list}\n", self.says, self.why);
    }

    /// Asserts that exactly the `expected` places (`path:line`) of a made-up tree break the rule.
    #[track_caller]
    pub(crate) fn finds(&self, made_up: &Tree, expected: &[&str]) {
        let found: Vec<String> = (self.find)(made_up)
            .into_iter()
            .map(|Violation { path, line, .. }| format!("{path}:{line}"))
            .collect();
        assert_eq!(found, expected, "rule: {}", self.says);
    }
}
