//! Pages: links lead somewhere, and what ARCHITECTURE.md and GLOSSARY.md list is what there is.

use std::collections::BTreeSet;

use crate::{
    layers::{MAY_USE, MAY_USE_ALL, homes, packages},
    rule::{Rule, Violation},
    tree::{File, Tree},
};

const MAP: &str = "ARCHITECTURE.md";
const WORDS: &str = "GLOSSARY.md";
/// Where the commands stand.
const COMMANDS: &str = "crates/cli/src/args.rs";

const LINKS: Rule = Rule {
    says: "every relative link leads to something that exists",
    why: "a dead link tells the reader that nobody reads this.",
    find: |tree| {
        let mut found = Vec::new();
        for file in tree.files.iter().filter(|file| file.path.ends_with(".md")) {
            for (at, target) in links(&file.text) {
                let path = target.split(['#', '?']).next().unwrap_or_default();
                if !path.is_empty() && !leads_somewhere(tree, file.dir(), path) {
                    found.push(Violation::at(file, at, format!("`{target}` does not exist")));
                }
            }
        }
        found
    },
};

fn leads_somewhere(tree: &Tree, dir: &str, path: &str) -> bool {
    if path.starts_with("https:") || path.starts_with("http:") || path.starts_with("mailto:") {
        return true;
    }
    let mut parts: Vec<&str> = dir.split('/').filter(|it| !it.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.pop().is_none() => return false,
            ".." => {}
            name => parts.push(name),
        }
    }
    parts.is_empty() || tree.paths.contains(&parts.join("/"))
}

/// Targets of `[text](target)` and `[name]: target`, outside code.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut is_fenced = false;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
        } else if !is_fenced {
            let bare = without_code(line);
            for (at, _) in bare.match_indices("](") {
                let inside = at + 2;
                let len = bare[inside..].find([')', ' ', '\n']).unwrap_or(0);
                found.push((start + inside, &text[start + inside..start + inside + len]));
            }
            if let Some(at) = bare.find("]: ").filter(|_| bare.starts_with('[')) {
                let inside = at + 3;
                let len = bare[inside..].find([' ', '\n']).unwrap_or(bare.len() - inside);
                found.push((start + inside, &text[start + inside..start + inside + len]));
            }
        }
        start += line.len();
    }
    found
}

/// The line with the inside of code spans blanked.
fn without_code(line: &str) -> String {
    let mut is_code = false;
    let blank = |c: char| if c == '\n' { "\n".to_owned() } else { " ".repeat(c.len_utf8()) };
    line.chars()
        .map(|c| {
            is_code ^= c == '`';
            if is_code && c != '`' { blank(c) } else { c.to_string() }
        })
        .collect()
}

const NAMED_PAGES: Rule = Rule {
    says: "every page of docs/ that is named exists",
    why: "code that sends a reader to a page must not send them to nothing.",
    find: |tree| {
        let mut found = Vec::new();
        // The rules' own tests name made-up pages.
        for file in tree.files.iter().filter(|file| !file.path.starts_with("ci/tidy/src/pages")) {
            for (at, _) in file.text.match_indices("docs/") {
                let is_path = |c: char| c.is_ascii_alphanumeric() || "/-_.".contains(c);
                let before = file.text[..at].chars().next_back();
                let len = file.text[at..].find(|c| !is_path(c)).unwrap_or(file.text.len() - at);
                let page = file.text[at..at + len].trim_end_matches('.');
                if page.ends_with(".md")
                    && !before.is_some_and(is_path)
                    && !tree.paths.contains(page)
                {
                    found.push(Violation::at(file, at, format!("`{page}` does not exist")));
                }
            }
        }
        found
    },
};

const CRATES: Rule = Rule {
    says: "ARCHITECTURE.md lists the crates that exist, with what they may use",
    why: "the map is read first; a map that lies is worse than none. The law is MAY_USE in ci/tidy/src/layers.rs.",
    find: |tree| {
        let Some(map) = tree.file(MAP) else { return vec![Violation::of(MAP, "is missing")] };
        let mut found = Vec::new();
        let mut listed = BTreeSet::new();
        for (at, cells) in table_rows(map, "| crate |") {
            let home = cells.first().copied().unwrap_or_default().trim_matches('`');
            listed.insert(home.to_owned());
            let Some(package) = packages(tree).into_iter().find(|it| it.home() == home) else {
                found.push(Violation::at(map, at, format!("crate `{home}` does not exist")));
                continue;
            };
            let expected = may_use(&package.name);
            let written = cells.get(1).copied().unwrap_or_default();
            if written != expected {
                found.push(Violation::at(
                    map,
                    at,
                    format!("`{home}` may use `{expected}`, the map says `{written}`"),
                ));
            }
        }
        let unlisted = homes(tree).into_iter().filter(|home| !listed.contains(home));
        found.extend(unlisted.map(|home| {
            Violation::near(map, "| crate |", format!("crate `{home}` is not listed"))
        }));
        found
    },
};

/// What the map says of a package: `core, gate`, `all` or `–`.
fn may_use(name: &str) -> String {
    if MAY_USE_ALL.contains(&name) {
        return "all".to_owned();
    }
    let allowed =
        MAY_USE.iter().find(|(it, _)| *it == name).map_or(&[][..], |(_, allowed)| allowed);
    if allowed.is_empty() {
        return "–".to_owned();
    }
    allowed.iter().map(|it| it.trim_start_matches("karat-")).collect::<Vec<_>>().join(", ")
}

const NOUNS: Rule = Rule {
    says: "a glossary noun in code letters is a type of that name",
    why: "the glossary promises that word and type are the same; a noun without a type stands there in plain letters.",
    find: |tree| {
        let Some(words) = tree.file(WORDS) else { return vec![Violation::of(WORDS, "is missing")] };
        let is_type = |keyword: &str| matches!(keyword, "struct" | "enum" | "trait" | "type");
        let types: BTreeSet<&str> = tree
            .rust()
            .flat_map(|(_, code)| code.pub_items())
            .filter(|item| is_type(item.keyword))
            .map(|item| item.name)
            .collect();
        let mut found = Vec::new();
        for (at, cells) in table_rows(words, "| noun |") {
            for noun in cells.first().copied().unwrap_or_default().split('`').skip(1).step_by(2) {
                if !types.contains(noun) {
                    found.push(Violation::at(words, at, format!("no type `{noun}`")));
                }
            }
        }
        found
    },
};

const VERBS: Rule = Rule {
    says: "GLOSSARY.md lists the commands that exist",
    why: "a command that exists works and is documented; one that does not is in no page.",
    find: |tree| {
        let Some(words) = tree.file(WORDS) else { return vec![Violation::of(WORDS, "is missing")] };
        let exist = commands(tree);
        let mut found = Vec::new();
        let mut listed = BTreeSet::new();
        for (at, cells) in table_rows(words, "| command |") {
            for usage in cells.first().copied().unwrap_or_default().split('`').skip(1).step_by(2) {
                let command = usage.split(' ').next().unwrap_or_default();
                if !exist.contains(command) {
                    found.push(Violation::at(
                        words,
                        at,
                        format!("no command `{command}` in {COMMANDS}"),
                    ));
                }
                listed.insert(command.to_owned());
            }
        }
        let unlisted = exist.difference(&listed);
        found.extend(
            unlisted
                .map(|it| Violation::near(words, "| command |", format!("`{it}` is not listed"))),
        );
        found
    },
};

/// Variants of `enum Command`, as typed.
fn commands(tree: &Tree) -> BTreeSet<String> {
    let Some((code, at)) = tree.file(COMMANDS).and_then(|file| {
        let code = file.code.as_ref()?;
        Some((code, code.find("enum Command").next()?))
    }) else {
        return BTreeSet::new();
    };
    let Some(open) = code.bare[at..].find('{') else { return BTreeSet::new() };
    let variants = code.bare[code.inside(at + open)].lines().map(str::trim);
    let is_variant = |line: &&str| line.starts_with(|c: char| c.is_ascii_uppercase());
    // What `--help` does not show is no command for people.
    let mut is_hidden = false;
    variants
        .filter(|line| {
            let was_hidden = is_hidden;
            is_hidden = line.contains("hide = true");
            is_variant(line) && !was_hidden
        })
        .map(|line| {
            let end = line.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(line.len());
            kebab(&line[..end])
        })
        .collect()
}

/// `PlanEval` as it is typed: `plan-eval`.
fn kebab(variant: &str) -> String {
    let mut word = String::new();
    for c in variant.chars() {
        if c.is_ascii_uppercase() && !word.is_empty() {
            word.push('-');
        }
        word.push(c.to_ascii_lowercase());
    }
    word
}

/// Cells of every row of the tables whose header begins with `header`, with where the row begins.
fn table_rows<'a>(file: &'a File, header: &str) -> Vec<(usize, Vec<&'a str>)> {
    let mut rows = Vec::new();
    let mut is_inside = false;
    let mut at = 0;
    for line in file.text.split_inclusive('\n') {
        let is_row = line.starts_with('|');
        if is_inside && is_row && !line.starts_with("|-") {
            rows.push((at, line.trim().trim_matches('|').split('|').map(str::trim).collect()));
        }
        is_inside = is_row && (is_inside || line.starts_with(header));
        at += line.len();
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::{COMMANDS, CRATES, LINKS, NAMED_PAGES, NOUNS, VERBS};
    use crate::tree::Tree;

    #[test]
    fn links_lead_somewhere() {
        LINKS.holds();
    }

    #[test]
    fn a_dead_link_is_found() {
        let page = "[a](../b.md#c) [d](e.md) `[f](g.md)`\n```\n[h](i.md)\n```\n[j]: k.md\n[l](https://m.n) [o](#p)\n";
        LINKS.finds(&Tree::of(&[("a/x.md", page), ("b.md", "")]), &["a/x.md:1", "a/x.md:5"]);
        LINKS.finds(&Tree::of(&[("a/x.md", "[a](../../b)")]), &["a/x.md:1"]);
        LINKS.finds(&Tree::of(&[("a/b/x.md", "[a](..) [b](./x.md)")]), &[]);
    }

    #[test]
    fn named_pages_exist() {
        NAMED_PAGES.holds();
    }

    #[test]
    fn a_named_page_that_is_missing_is_found() {
        let text = "// (docs/design/1.md).\n// docs/design/2.md\n// https://a.b/docs/c.md";
        NAMED_PAGES.finds(&Tree::of(&[("a.rs", text), ("docs/design/1.md", "")]), &["a.rs:2"]);
    }

    #[test]
    fn the_map_shows_the_crates() {
        CRATES.holds();
    }

    #[test]
    fn a_wrong_map_is_found() {
        let map = "| crate | may use (ours) |\n|---|---|\n| `core` | gate |\n| `gone` | – |\n";
        let tree = Tree::of(&[
            ("ARCHITECTURE.md", map),
            ("crates/core/Cargo.toml", "[package]\nname = \"karat-core\""),
            ("kernels/Cargo.toml", "[package]\nname = \"karat-kernels\""),
        ]);
        CRATES.finds(&tree, &["ARCHITECTURE.md:3", "ARCHITECTURE.md:4", "ARCHITECTURE.md:1"]);
    }

    #[test]
    fn nouns_are_types() {
        NOUNS.holds();
    }

    #[test]
    fn a_noun_without_a_type_is_found() {
        let words = "| noun | definition |\n|---|---|\n| **`Run`** | x |\n| **`Gone`** | y |\n| **Plain** | `z` |\n";
        NOUNS.finds(
            &Tree::of(&[("GLOSSARY.md", words), ("a.rs", "pub struct Run;")]),
            &["GLOSSARY.md:4"],
        );
    }

    #[test]
    fn commands_are_listed() {
        VERBS.holds();
    }

    #[test]
    fn a_command_in_one_place_only_is_found() {
        let words = "| command | does |\n|---|---|\n| `run`, `gone X` | x |\n";
        let args = "pub(crate) enum Command {\n  /// Run\n  Run(RunArgs),\n  Doctor,\n}\nenum Other { No }";
        VERBS.finds(
            &Tree::of(&[("GLOSSARY.md", words), (COMMANDS, args)]),
            &["GLOSSARY.md:3", "GLOSSARY.md:1"],
        );
    }
}
