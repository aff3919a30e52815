//! The glossary's words, in the names of files and of `pub` items.

use crate::rule::{Rule, Violation};

/// Words that say nothing, and words that GLOSSARY.md replaces; with what to say instead.
const NOT: &[(&str, &str)] = &[
    ("util", "what it does"),
    ("utils", "what it does"),
    ("misc", "what it is"),
    ("common", "what it is"),
    ("helper", "what it does"),
    ("helpers", "what it does"),
    ("manager", "what it holds"),
    ("info", "what it tells"),
    ("tmp", "scratch, staging"),
    ("snap", "snapshot"),
    ("stage", "step; for a model's standing, alias"),
    ("deploy", "promote"),
    ("approved", "which verdict"),
    ("blessed", "which verdict"),
    ("experiment", "run"),
    ("job", "run"),
];
/// Words that say nothing when they stand alone.
const NOT_ALONE: &[(&str, &str)] =
    &[("data", "rows, bytes, batch, snapshot"), ("handle", "what it does")];
/// Words that must not begin a name.
const NOT_FIRST: &[(&str, &str)] =
    &[("handle", "what it does"), ("process", "what it does"), ("new", "from_, with_, of")];

const NAMES: Rule = Rule {
    says: "names use the glossary's words",
    why: "one word, one meaning, everywhere (GLOSSARY.md, Do not say): who searches for a word finds all of it.",
    find: |tree| {
        let mut found = Vec::new();
        for (file, code) in tree.rust() {
            let stem = file.name().trim_end_matches(".rs");
            if let Some(advice) = advice(stem, false) {
                found.push(Violation::of(&file.path, format!("file name `{stem}`: say {advice}")));
            }
            for item in code.pub_items() {
                // A module's name is a file's name and was looked at there.
                if let Some(advice) =
                    advice(item.name, item.keyword == "fn").filter(|_| item.keyword != "mod")
                {
                    found.push(Violation::at(
                        file,
                        item.offset,
                        format!("`{}`: say {advice}", item.name),
                    ));
                }
            }
        }
        found
    },
};

fn advice(name: &str, is_verb: bool) -> Option<&'static str> {
    let words = words(name);
    let in_list = |list: &[(&str, &'static str)], word: &String| {
        list.iter().find(|(banned, _)| banned == word).map(|(_, advice)| *advice)
    };
    let anywhere = words.iter().find_map(|word| in_list(NOT, word));
    let alone =
        words.first().filter(|_| words.len() == 1).and_then(|word| in_list(NOT_ALONE, word));
    let first = words
        .first()
        .filter(|_| is_verb && 1 < words.len())
        .and_then(|word| in_list(NOT_FIRST, word));
    anywhere.or(alone).or(first)
}

/// `n_rows`, `ModelRef` and `ROWS_MAX` as words in lower case.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = vec![String::new()];
    let mut was_lower = false;
    for c in name.chars() {
        if c == '_' || (c.is_uppercase() && was_lower) {
            words.push(String::new());
        }
        was_lower = c.is_lowercase() || c.is_numeric();
        if c != '_' {
            words.last_mut().expect("begins with one").extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::{NAMES, words};
    use crate::tree::Tree;

    #[test]
    fn names_are_the_glossarys() {
        NAMES.holds();
    }

    #[test]
    fn a_banned_name_is_found() {
        NAMES.finds(&Tree::of(&[("a/utils.rs", "")]), &["a/utils.rs:1"]);
        NAMES.finds(&Tree::of(&[("a/data.rs", "")]), &["a/data.rs:1"]);
        NAMES.finds(
            &Tree::of(&[("a.rs", "pub struct JobSpec;\npub fn handle_row() {}\npub fn new_run() {}\npub const TMP_DIR: u8 = 0;")]),
            &["a.rs:1", "a.rs:2", "a.rs:3", "a.rs:4"],
        );
        NAMES.finds(
            &Tree::of(&[(
                "a.rs",
                "pub fn new() {}\nfn job() {}\npub struct DataSummary;\npub fn information() {}",
            )]),
            &[],
        );
    }

    #[test]
    fn names_are_cut_into_words() {
        for (name, expected) in [
            ("n_rows", "n rows"),
            ("ModelRef", "model ref"),
            ("ROWS_MAX", "rows max"),
            ("R2", "r2"),
        ] {
            assert_eq!(words(name).join(" "), expected);
        }
    }
}
