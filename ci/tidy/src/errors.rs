//! Error codes: each is explained in `docs/errors.md`, each explained one exists, each occurs in a test.

use std::collections::BTreeMap;

use crate::{
    code::{Code, find_word},
    rule::{Rule, Violation},
    tree::{File, Tree},
};

const PAGE: &str = "docs/errors.md";

/// Where codes are made from what they are given.
const DEFINITION: &str = "crates/core/src/error.rs";

/// Codes that no test shows yet. This list may only shrink.
const UNTESTED: &[&str] = &[
    "device-chosen",
    "device-disagrees",
    "device-unusable",
    "file-io",
    "input-invalid",
    "thread-failed",
];

const EXPLAINED: Rule = Rule {
    says: "every error code is explained in docs/errors.md",
    why: "a code is what people search for. Its entry says what it means, shows it as printed and what to do.",
    find: |tree| {
        let explained = explained(tree);
        let mut found = Vec::new();
        for (word, (file, at)) in used(tree) {
            if !explained.contains_key(word.as_str()) {
                found.push(Violation::at(file, at, format!("`{word}` has no entry in {PAGE}")));
            }
        }
        found
    },
};

const LITERAL: Rule = Rule {
    says: "an error code is a literal where the error is made",
    why: "else neither people nor this crate can tell which codes there are.",
    find: |tree| {
        let mut found = Vec::new();
        for (file, code) in product(tree) {
            for (at, codes) in makings(file, code) {
                if codes.is_empty() && !code.is_test(at) {
                    found.push(Violation::at(file, at, "no literal code here"));
                }
            }
        }
        found
    },
};

const EXISTING: Rule = Rule {
    says: "every code in docs/errors.md exists, once, with an example",
    why: "a page that explains what cannot happen, or explains without showing, wastes the reader's time.",
    find: |tree| {
        let Some(page) = tree.file(PAGE) else { return vec![Violation::of(PAGE, "is missing")] };
        let used = used(tree);
        let mut found = Vec::new();
        let mut seen = Vec::new();
        for (word, at, entry) in entries(page) {
            if !used.contains_key(word) {
                found.push(Violation::at(page, at, format!("`{word}` is not in the source")));
            }
            if seen.contains(&word) {
                found.push(Violation::at(page, at, format!("`{word}` has two entries")));
            }
            let shows = |head| entry.contains(&format!("```text\n{head}[{word}]: "));
            if !shows("error") && !shows("warning") {
                found.push(Violation::at(page, at, format!("`{word}` is not shown as printed")));
            }
            seen.push(word);
        }
        found
    },
};

const TESTED: Rule = Rule {
    says: "every error code occurs in a test",
    why: "a message nobody has seen is a message that is wrong. UNTESTED only shrinks.",
    find: |tree| untested(tree, UNTESTED),
};

fn untested(tree: &Tree, excused: &[&str]) -> Vec<Violation> {
    let texts: Vec<&str> = tree.files.iter().flat_map(test_texts).collect();
    let is_tested = |word: &str| {
        texts.iter().any(|text| find_word(text, word).any(|at| is_alone(text, at, word)))
    };
    let used = used(tree);
    let mut found = Vec::new();
    for (word, (file, at)) in &used {
        match (is_tested(word), excused.contains(&word.as_str())) {
            (false, false) => {
                found.push(Violation::at(file, *at, format!("no test shows `{word}`")))
            }
            (true, true) => found.push(Violation::at(
                file,
                *at,
                format!("`{word}` is tested: take it off UNTESTED"),
            )),
            (true, false) | (false, true) => {}
        }
    }
    let gone = excused.iter().filter(|word| !used.contains_key(**word));
    found.extend(
        gone.map(|word| Violation::of(PAGE, format!("`{word}` is no code: take it off UNTESTED"))),
    );
    found
}

/// Whether the word at `at` is not a part of a longer kebab-case word.
fn is_alone(text: &str, at: usize, word: &str) -> bool {
    !text[..at].ends_with('-') && !text[at + word.len()..].starts_with('-')
}

fn test_texts(file: &File) -> Vec<&str> {
    // This crate's own tests use made-up codes.
    match &file.code {
        _ if file.path.starts_with("ci/tidy/") => Vec::new(),
        Some(code) => code.tests().iter().map(|range| &file.text[range.clone()]).collect(),
        None if file.path.contains("/tests/") => vec![&file.text],
        None => Vec::new(),
    }
}

/// Rust files of the product.
fn product(tree: &Tree) -> impl Iterator<Item = (&File, &Code)> {
    let is_ours = |file: &File| {
        file.path.starts_with("crates/")
            && !file.path.starts_with("crates/testkit/")
            && file.path != DEFINITION
    };
    tree.rust().filter(move |(file, _)| is_ours(file))
}

/// Every code in product code, with the first place it is made.
fn used(tree: &Tree) -> BTreeMap<String, (&File, usize)> {
    let mut codes = BTreeMap::new();
    for (file, code) in product(tree) {
        for (at, words) in makings(file, code) {
            if !code.is_test(at) {
                for word in words {
                    codes.entry(word).or_insert((file, at));
                }
            }
        }
    }
    codes
}

/// Every place where a code is made, with its literals: `Code::new("…")`, also with a `match` inside;
/// `Failure::new("…", …)`; the field `code: "…"` of a warning.
fn makings(file: &File, code: &Code) -> Vec<(usize, Vec<String>)> {
    let literals = |range| -> Vec<String> {
        code.literals_in(range)
            .map(|it| file.text[it].to_owned())
            .filter(|it| is_code(it))
            .collect()
    };
    let mut makings = Vec::new();
    for at in code.find("Code::new(") {
        makings.push((at, literals(code.inside(at + "Code::new".len()))));
    }
    for at in code.find("Failure::new(") {
        let arguments = code.inside(at + "Failure::new".len());
        let first = arguments.start..arguments.start + first_argument_len(&code.bare[arguments]);
        makings.push((at, literals(first)));
    }
    for at in code.find("code:") {
        let after = at + "code:".len();
        let start = after + code.bare[after..].len() - code.bare[after..].trim_start().len();
        if code.bare[start..].starts_with('"') {
            makings.push((at, literals(start..start + 2)));
        }
    }
    makings
}

/// Up to the first comma outside brackets.
fn first_argument_len(arguments: &str) -> usize {
    let mut depth = 0_i32;
    for (at, c) in arguments.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => return at,
            _ => {}
        }
    }
    arguments.len()
}

fn is_code(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

fn explained(tree: &Tree) -> BTreeMap<&str, usize> {
    tree.file(PAGE)
        .map(|page| entries(page).into_iter().map(|(word, at, _)| (word, at)).collect())
        .unwrap_or_default()
}

/// The entries of the page: code, where its heading stands, the text up to the next heading.
fn entries(page: &File) -> Vec<(&str, usize, &str)> {
    let starts: Vec<usize> = page.text.match_indices("\n## ").map(|(at, _)| at + 1).collect();
    let ends = starts.iter().skip(1).copied().chain([page.text.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(start, end)| {
            let entry = &page.text[*start..end];
            let heading = entry.lines().next().unwrap_or_default().trim_start_matches("## ");
            (heading.trim().trim_matches('`'), *start, entry)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{EXISTING, EXPLAINED, LITERAL, PAGE, TESTED, untested};
    use crate::tree::Tree;

    const ENUM: &str =
        "fn code(&self) -> Code {\n Code::new(match self {\n A => \"a-b\",\n B => \"c-d\" })\n}";
    const CALL: &str = "Failure::new(\n  \"e-f\",\n Exit::Run, \"not-this one\");\nEvent::Warned { code: \"g-h\".to_owned() }";

    #[test]
    fn codes_are_explained() {
        EXPLAINED.holds();
    }

    #[test]
    fn an_unexplained_code_is_found() {
        let page = "# Errors\n\n## a-b\n\n## `e-f`\n";
        EXPLAINED.finds(
            &Tree::of(&[("crates/x/src/a.rs", ENUM), ("crates/x/src/b.rs", CALL), (PAGE, page)]),
            &["crates/x/src/a.rs:2", "crates/x/src/b.rs:4"],
        );
        EXPLAINED.finds(&Tree::of(&[("crates/x/src/tests.rs", CALL), (PAGE, page)]), &[]);
    }

    #[test]
    fn codes_are_literals() {
        LITERAL.holds();
    }

    #[test]
    fn a_computed_code_is_found() {
        LITERAL.finds(
            &Tree::of(&[(
                "crates/x/src/a.rs",
                "fn f(word: &'static str) {\n Failure::new(word, Exit::Run, \"a-b\")\n}",
            )]),
            &["crates/x/src/a.rs:2"],
        );
        LITERAL.finds(&Tree::of(&[("crates/x/src/a.rs", CALL)]), &[]);
    }

    #[test]
    fn explained_codes_exist() {
        EXISTING.holds();
    }

    #[test]
    fn an_entry_too_many_is_found() {
        let shown = |head: &str| format!("\n```text\n{head}: x\n```\n");
        let (once, gone) = (shown("error[e-f]"), shown("error[x-y]"));
        let page = format!("# Errors\n\n## e-f\n{once}\n## e-f\n{once}\n## x-y\n{gone}\n");
        EXISTING.finds(
            &Tree::of(&[("crates/x/src/b.rs", CALL), (PAGE, &page)]),
            &["docs/errors.md:9", "docs/errors.md:15"],
        );
    }

    #[test]
    fn an_entry_without_its_example_is_found() {
        let check = |entry: &str, expected: &[&str]| {
            let page = format!("# Errors\n\n## g-h\n\nWhat it means.\n{entry}");
            EXISTING.finds(&Tree::of(&[("crates/x/src/b.rs", CALL), (PAGE, &page)]), expected);
        };
        check("\n```text\nwarning[g-h]: x\n```\n", &[]);
        check("", &["docs/errors.md:3"]);
        check("\n```text\nerror[e-f]: x\n```\n", &["docs/errors.md:3"]);
    }

    #[test]
    fn codes_are_tested() {
        TESTED.holds();
    }

    #[test]
    fn an_untested_code_is_found_and_an_excuse_must_be_needed() {
        let of = |test: &str, excused: &[&str]| {
            let tree = Tree::of(&[("crates/x/src/b.rs", CALL), ("crates/x/tests/b.rs", test)]);
            untested(&tree, excused).len()
        };
        assert_eq!(of("", &[]), 2);
        assert_eq!(of("\"error[e-f]: x\" \"g-h\"", &[]), 0);
        assert_eq!(of("\"e-f-g\" \"x-g-h\"", &[]), 2);
        assert_eq!(of("\"e-f\"", &["g-h"]), 0);
        assert_eq!(of("\"e-f\" \"g-h\"", &["g-h", "x-y"]), 2);
    }
}
