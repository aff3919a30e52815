//! What no source file may lack or contain.

use crate::{
    code::{Code, find_word},
    rule::{Rule, Violation},
    tree::{File, Tree},
};

/// Longest file.
const LINES_MAX: usize = 600;
/// Longer files, each with its reason. This list may only shrink.
const LONGER: &[(&str, &str)] = &[];

/// Only here may `unsafe` stand: the kernels, and the one line before any thread exists.
const MAY_BE_UNSAFE: &[&str] = &["kernels/src/", "crates/cli/src/main.rs"];
/// Lines above an `unsafe` in which its SAFETY comment must begin.
const SAFETY_WITHIN: usize = 12;

/// Crates that open no file, read no clock and start no thread.
const PURE: &[&str] = &["crates/core/", "crates/gate/", "crates/report/"];

/// What a pure crate would need for that.
const OUTSIDE_WORLD: &[&str] = &[
    "fs::",
    "File::",
    "std::env",
    "env::var",
    "std::process",
    "std::net",
    "SystemTime",
    "Instant",
    "thread::spawn",
    "thread::scope",
    "available_parallelism",
];

/// Where product code may write a file: the store makes it durable, tables write to the path they are given.
const MAY_WRITE: &[&str] = &["crates/store/", "crates/table/", "benches/"];

const HEADER: Rule = Rule {
    says: "each file begins with a `//!` header",
    why: "a reader learns in a line or two what a file is for, before any code.",
    find: |tree| {
        let lacks = |file: &&File| !file.text.starts_with("//!");
        tree.rust()
            .map(|(file, _)| file)
            .filter(lacks)
            .map(|file| Violation::of(&file.path, "no header"))
            .collect()
    },
};

const LENGTH: Rule = Rule {
    says: "no file is longer than 600 lines",
    why: "one idea a file. Split by idea; a file that cannot be split is named in LONGER with its reason, and LONGER\n      \
          only shrinks.",
    find: |tree| too_long(tree, LONGER),
};

fn too_long(tree: &Tree, longer: &[(&str, &str)]) -> Vec<Violation> {
    let is_source = |file: &&File| [".rs", ".py", ".sh"].iter().any(|end| file.path.ends_with(end));
    let mut found = Vec::new();
    for file in tree.files.iter().filter(is_source) {
        let n_lines = file.text.lines().count();
        let is_excused = longer.iter().any(|(path, _)| *path == file.path);
        if LINES_MAX < n_lines && !is_excused {
            found.push(Violation::of(&file.path, format!("{n_lines} lines")));
        }
        if n_lines <= LINES_MAX && is_excused {
            found.push(Violation::of(&file.path, format!("{n_lines} lines: take it off LONGER")));
        }
    }
    found
}

const NO_HOLES: Rule = Rule {
    says: "no ignored tests, no `should_panic`, no holes",
    why: "an ignored test is a broken promise nobody sees; `should_panic` passes on the wrong panic: return an error\n      \
          and match it; what does not exist yet is not in the code.",
    find: |tree| {
        forbid(tree, &["#[ignore", "#[should_panic", "todo!", "unimplemented!"], |_, _| true)
    },
};

const NO_GLOBS: Rule = Rule {
    says: "no glob re-exports",
    why: "what a crate offers is a list that can be read; a glob grows it unseen.",
    find: |tree| {
        let mut found = Vec::new();
        for (file, code) in tree.rust() {
            for at in code.find("pub") {
                let statement = code.bare[at..].split(';').next().unwrap_or_default();
                let words =
                    statement.split(')').next_back().unwrap_or(statement).trim_start_matches("pub");
                if words.trim_start().starts_with("use ") && words.contains('*') {
                    found.push(Violation::at(file, at, "glob re-export"));
                }
            }
        }
        found
    },
};

const NO_MOD_RS: Rule = Rule {
    says: "no `mod.rs`",
    why: "`a.rs` beside `a/` says in every tab and message which module it is.",
    find: |tree| {
        let is_mod = |file: &&File| file.name() == "mod.rs";
        tree.files
            .iter()
            .filter(is_mod)
            .map(|file| Violation::of(&file.path, "write `NAME.rs` beside `NAME/`"))
            .collect()
    },
};

const NO_BACKENDS: Rule = Rule {
    says: "no backend type parameter outside `kernels`",
    why: "burn's tensors carry none; a parameter would spread through every signature. Pass `&Device`.",
    find: |tree| {
        forbid(tree, &[": Backend", "impl Backend"], |file, _| !file.path.starts_with("kernels/"))
    },
};

const UNSAFE: Rule = Rule {
    says: "`unsafe` stands only in `kernels` and `cli::main`, each with a SAFETY comment",
    why: "one place to audit. Elsewhere there is a safe way; ask for it.",
    find: |tree| {
        let mut found = Vec::new();
        for (file, code) in tree.rust() {
            for at in code.find("unsafe") {
                if !MAY_BE_UNSAFE.iter().any(|start| file.path.starts_with(start)) {
                    found.push(Violation::at(file, at, "`unsafe` outside `kernels`"));
                } else if !has_safety_comment(file, at) {
                    found.push(Violation::at(file, at, "no SAFETY comment in the lines above"));
                }
            }
        }
        found
    },
};

fn has_safety_comment(file: &File, at: usize) -> bool {
    let mut above = file.text[..at].lines().rev().take(1 + SAFETY_WITHIN);
    above.any(|line| line.contains("// SAFETY") || line.contains("# Safety"))
}

const PURITY: Rule = Rule {
    says: "`core`, `gate` and `report` do no I/O, read no clock, start no thread",
    why: "a verdict can then be computed again from its record, years later, and tested in milliseconds. Time is a\n      \
          `Timestamp` argument; threads come in through `Parallel`; files belong to `store`, `table` and `cli`.",
    find: |tree| {
        let is_pure = |file: &File| PURE.iter().any(|start| file.path.starts_with(start));
        forbid(tree, OUTSIDE_WORLD, |file, is_test| is_pure(file) && !is_test)
    },
};

const DURABLE: Rule = Rule {
    says: "only `store` and `table` write files",
    why: "a plain write is not atomic: after a crash half of it is there. The store has a function that is.",
    find: |tree| {
        let writes = [
            "fs::write",
            "File::create",
            "File::create_new",
            "File::options",
            "OpenOptions::new",
            "fs::rename",
        ];
        let may = |file: &File| MAY_WRITE.iter().any(|start| file.path.starts_with(start));
        forbid(tree, &writes, |file, is_test| !is_test && !may(file))
    },
};

/// Every place of a needle in code for which `applies(file, is_test)`.
fn forbid(tree: &Tree, needles: &[&str], applies: impl Fn(&File, bool) -> bool) -> Vec<Violation> {
    let places = |file: &File, code: &Code| -> Vec<Violation> {
        let mut offsets: Vec<(usize, &str)> = needles
            .iter()
            .flat_map(|needle| code.find(needle).map(|at| (at, *needle)).collect::<Vec<_>>())
            .collect();
        offsets.retain(|(at, _)| applies(file, code.is_test(*at)));
        offsets.sort_unstable();
        offsets.iter().map(|(at, needle)| Violation::at(file, *at, format!("`{needle}`"))).collect()
    };
    tree.rust().flat_map(|(file, code)| places(file, code)).collect()
}

const NO_MACHINE_PATHS: Rule = Rule {
    says: "no path of one machine",
    why: "a clone works anywhere. Use a relative path, a temporary folder or an argument.",
    find: |tree| {
        let homes = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
        let mut found = Vec::new();
        for file in &tree.files {
            for at in homes.iter().flat_map(|home| find_word(&file.text, home)) {
                let before = file.text[..at].chars().next_back();
                // A part of an address or of a relative path does not begin at the root.
                if !before.is_some_and(|c| c.is_alphanumeric() || "_-.~}*/".contains(c)) {
                    found.push(Violation::at(file, at, "absolute path"));
                }
            }
        }
        found
    },
};

#[cfg(test)]
mod tests {
    use super::{
        DURABLE, HEADER, LENGTH, LINES_MAX, NO_BACKENDS, NO_GLOBS, NO_HOLES, NO_MACHINE_PATHS,
        NO_MOD_RS, PURITY, UNSAFE, too_long,
    };
    use crate::{rule::Rule, tree::Tree};

    /// The lines of `text`, as a file at `path`, that break `rule`.
    #[track_caller]
    fn check(rule: &Rule, path: &str, text: &str, lines: &[usize]) {
        let expected: Vec<String> = lines.iter().map(|line| format!("{path}:{line}")).collect();
        rule.finds(
            &Tree::of(&[(path, text)]),
            &expected.iter().map(String::as_str).collect::<Vec<_>>(),
        );
    }

    #[test]
    fn files_have_headers() {
        HEADER.holds();
    }

    #[test]
    fn a_file_without_header_is_found() {
        check(&HEADER, "a.rs", "use std::fmt;\n", &[1]);
        check(&HEADER, "a.rs", "//! A.\n", &[]);
        check(&HEADER, "a.py", "import os\n", &[]);
    }

    #[test]
    fn files_are_short() {
        LENGTH.holds();
    }

    #[test]
    fn a_long_file_is_found_and_an_excuse_must_be_needed() {
        let long = "//\n".repeat(LINES_MAX + 1);
        check(&LENGTH, "a.rs", &long, &[1]);
        check(&LENGTH, "a.rs", &"//\n".repeat(LINES_MAX), &[]);
        let of = |text: &str| too_long(&Tree::of(&[("a.rs", text)]), &[("a.rs", "a table")]).len();
        assert_eq!((of(&long), of("//\n")), (0, 1));
    }

    #[test]
    fn there_are_no_holes() {
        NO_HOLES.holds();
    }

    #[test]
    fn a_hole_is_found() {
        check(
            &NO_HOLES,
            "a.rs",
            "#[test]\n#[ignore = \"slow\"]\nfn a() {\n todo!()\n}\n#[should_panic]",
            &[2, 4, 6],
        );
        check(&NO_HOLES, "a.rs", "// todo!()\nlet a = \"#[ignore]\";\nmy_todo!()", &[]);
    }

    #[test]
    fn nothing_is_exported_by_glob() {
        NO_GLOBS.holds();
    }

    #[test]
    fn a_glob_is_found() {
        check(&NO_GLOBS, "a.rs", "pub use a::*;\npub(crate) use b::{c::*, d};\n", &[1, 2]);
        check(&NO_GLOBS, "a.rs", "use a::*;\npub use b::c;\npub const D: *const u8 = E;", &[]);
    }

    #[test]
    fn modules_are_named_by_their_file() {
        NO_MOD_RS.holds();
    }

    #[test]
    fn a_mod_rs_is_found() {
        check(&NO_MOD_RS, "a/mod.rs", "", &[1]);
    }

    #[test]
    fn backends_stay_in_kernels() {
        NO_BACKENDS.holds();
    }

    #[test]
    fn a_backend_parameter_is_found() {
        check(&NO_BACKENDS, "models/src/a.rs", "fn f<B: Backend>() {}", &[1]);
        check(&NO_BACKENDS, "models/src/a.rs", "fn f<B: BackendKind>() {}", &[]);
        check(&NO_BACKENDS, "kernels/src/a.rs", "fn f<B: Backend>() {}", &[]);
    }

    #[test]
    fn unsafe_has_its_place() {
        UNSAFE.holds();
    }

    #[test]
    fn a_misplaced_or_silent_unsafe_is_found() {
        check(&UNSAFE, "crates/gate/src/a.rs", "// SAFETY: no.\nunsafe { f() }", &[2]);
        check(&UNSAFE, "kernels/src/a.rs", "unsafe { f() }", &[1]);
        check(&UNSAFE, "kernels/src/a.rs", "// SAFETY: in bounds.\nunsafe { f() }", &[]);
        check(&UNSAFE, "crates/gate/src/a.rs", "#![forbid(unsafe_code)] // unsafe", &[]);
    }

    #[test]
    fn pure_crates_are_pure() {
        PURITY.holds();
    }

    #[test]
    fn a_clock_in_a_pure_crate_is_found() {
        let text = "use std::time::Instant;\nlet a = std::fs::read(b);\n#[cfg(test)]\nmod tests { fn f() { fs::read(a); } }";
        check(&PURITY, "crates/gate/src/a.rs", text, &[1, 2]);
        check(&PURITY, "crates/store/src/a.rs", text, &[]);
    }

    #[test]
    fn writes_are_durable() {
        DURABLE.holds();
    }

    #[test]
    fn a_plain_write_is_found() {
        check(&DURABLE, "crates/cli/src/a.rs", "std::fs::write(a, b);\nFile::create(c);", &[1, 2]);
        check(&DURABLE, "crates/store/src/a.rs", "File::create(c);", &[]);
    }

    #[test]
    fn paths_work_on_every_machine() {
        NO_MACHINE_PATHS.holds();
    }

    #[test]
    fn a_path_of_one_machine_is_found() {
        let path =
            concat!("\"/ho", "me/me/x\"\nhttps://a.b/ho", "me/x a/wo", "rk/b ${X}/ro", "ot/");
        check(&NO_MACHINE_PATHS, "a.toml", path, &[1]);
    }
}
