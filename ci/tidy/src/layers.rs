//! The layers: which crate may use which, who may name a heavy library, one place for versions, one set of features.

use std::collections::BTreeSet;

use crate::{
    rule::{Rule, Violation},
    tree::{File, Tree},
};

/// Which of our crates may use which; one not listed here is in [`MAY_USE_ALL`] or fails.
/// The picture is in ARCHITECTURE.md; this is the law.
pub(crate) const MAY_USE: &[(&str, &[&str])] = &[
    ("karat-core", &[]),
    ("karat-gate", &["karat-core"]),
    ("karat-report", &["karat-core"]),
    ("karat-store", &["karat-core"]),
    ("karat-table", &["karat-core"]),
    ("karat-kernels", &[]),
    ("karat-models", &["karat-kernels"]),
    ("karat-engine", &["karat-core", "karat-models", "karat-kernels"]),
    ("karat-attest", &["karat-core"]),
    ("karat-track", &["karat-core"]),
    ("karat-ui", &["karat-core", "karat-report", "karat-store"]),
    ("karat-pipeline", &["karat-core", "karat-gate", "karat-store", "karat-attest"]),
    ("karat-testkit", &["karat-core"]),
    ("karat-tidy", &[]),
];
/// Crates that may use all others.
pub(crate) const MAY_USE_ALL: &[&str] = &["karat", "karat-benches"];

/// Used by tests, and by nothing that is shipped.
const TESTS_ONLY: &str = "karat-testkit";

/// Libraries, by the start of their name, and the only crates that may name them. The first row that fits counts.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("arrow", &["karat-table"]),
    ("parquet", &["karat-table"]),
    ("datafusion", &["karat-table"]),
    ("burn-", &["karat-kernels"]),
    ("burn", &["karat-engine", "karat-models", "karat-kernels", "karat-benches"]),
    ("cubecl", &["karat-kernels"]),
    ("cubek", &["karat-kernels"]),
    ("rusqlite", &["karat-store"]),
    ("clap", &["karat"]),
    ("indicatif", &["karat"]),
    ("safetensors", &["karat-core"]),
    ("p256", &["karat-attest"]),
    ("p384", &["karat-attest"]),
    ("p521", &["karat-attest"]),
    ("ureq", &["karat-track"]),
    ("httparse", &["karat-ui"]),
    ("saphyr", &["karat"]),
    // It switches on a feature of serde_json that the binary does not have.
    ("cargo_metadata", &[]),
];

/// Features that nothing may switch on.
const NEVER: &[&str] = &["autotune", "fusion"];

const LAW: Rule = Rule {
    says: "crates depend only downward",
    why: "heavy crates stay behind `core::Batch` and the two ports, so that the light crates build in seconds\n      \
          (ARCHITECTURE.md, Layers). Move the shared type to `core`; a new edge needs a design note.",
    find: |tree| {
        let mut found = Vec::new();
        for package in packages(tree) {
            let allowed =
                MAY_USE.iter().find(|(name, _)| *name == package.name).map(|(_, allowed)| *allowed);
            if allowed.is_none() && !MAY_USE_ALL.contains(&package.name.as_str()) {
                found.push(
                    package.violation(
                        "[package]",
                        format!("`{}` has no row in MAY_USE", package.name),
                    ),
                );
            }
            for used in package
                .uses
                .iter()
                .filter(|used| used.name == "karat" || used.name.starts_with("karat-"))
            {
                let is_allowed = if used.name == TESTS_ONLY {
                    used.is_for_tests
                } else {
                    allowed.is_none_or(|allowed| allowed.contains(&used.name.as_str()))
                };
                if !is_allowed {
                    found.push(used.violation(&package, "must not be used here"));
                }
            }
        }
        found
    },
};

const NAMED: Rule = Rule {
    says: "only the named crates name arrow, burn, rusqlite, clap and the like",
    why: "each heavy library has one home, so that it can be replaced there and the rest never waits for it\n      \
          (ARCHITECTURE.md, Invariants).",
    find: |tree| {
        let mut found = Vec::new();
        for package in packages(tree) {
            for used in &package.uses {
                let row = MAY_NAME.iter().find(|(start, _)| used.name.starts_with(start));
                if row.is_some_and(|(_, allowed)| !allowed.contains(&package.name.as_str())) {
                    found.push(used.violation(&package, "has another home, see MAY_NAME"));
                }
            }
        }
        found
    },
};

const VERSIONS: Rule = Rule {
    says: "versions stand in the root's table, lints come from the root",
    why: "one place to change a version, and no two versions of one library by accident. Write `name.workspace = true`.",
    find: |tree| {
        let mut found = Vec::new();
        for package in packages(tree) {
            for used in package.uses.iter().filter(|used| !used.is_from_root) {
                found.push(used.violation(&package, "has its version here"));
            }
            if !package.has_root_lints {
                found.push(
                    package.violation("[lints]", "lacks `[lints] workspace = true`".to_owned()),
                );
            }
        }
        found
    },
};

const REPEATABLE: Rule = Rule {
    says: "neither autotune nor fusion is on in burn and cubecl",
    why: "both choose kernels by the clock or by what ran before; they cannot be switched off at run time and break\n      \
          repeatability (docs/design/002-determinism.md). Somebody uses burn with its default features.",
    find: |tree| {
        let is_compute = |line: &&String| line.starts_with("burn") || line.starts_with("cubecl");
        let resolved = [&tree.resolved.binary, &tree.resolved.workspace, &tree.resolved.every_gpu];
        resolved
            .into_iter()
            .flatten()
            .filter(is_compute)
            .filter_map(|line| {
                let (library, features) = line.split_once('|')?;
                let wrong = features.split(',').find(|feature| NEVER.contains(feature))?;
                Some(Violation::of(
                    "Cargo.lock",
                    format!("`{library}` is built with feature `{wrong}`"),
                ))
            })
            .collect()
    },
};

const ONE_BUILD: Rule = Rule {
    says: "the binary and the tests need every dependency with the same features",
    why: "else `cargo test --workspace` builds it, and all that rests on it, a second time: minutes for a small\n      \
          library under DataFusion (docs/design/003-profiles.md). Look for a dev-dependency that switches it on.",
    find: |tree| {
        let Some(only_binary) = nonempty(tree.resolved.binary.difference(&tree.resolved.workspace))
        else {
            return Vec::new();
        };
        only_binary
            .into_iter()
            .map(|line| {
                let (library, features) = line.split_once('|').unwrap_or((line, ""));
                let start = format!("{library}|");
                let others: Vec<&str> = tree
                    .resolved
                    .workspace
                    .iter()
                    .filter_map(|line| line.strip_prefix(&start))
                    .collect();
                Violation::of(
                    "Cargo.lock",
                    format!(
                        "`{library}` with [{features}] for the binary, [{}] with the tests",
                        others.join("] and [")
                    ),
                )
            })
            .collect()
    },
};

const ONE_DATAFUSION: Rule = Rule {
    says: "a build with a GPU needs what lies below DataFusion with the same features",
    why: "else DataFusion is compiled a second time for `--features wgpu` (docs/design/003-profiles.md). Give the library\n      \
          that feature in the root Cargo.toml and name it in crates/table/Cargo.toml.",
    find: |tree| {
        let name = |line: &str| line.split('|').next().unwrap_or(line).to_owned();
        let below: std::collections::BTreeSet<String> =
            tree.resolved.table.iter().map(|line| name(line)).collect();
        tree.resolved
            .binary
            .difference(&tree.resolved.wgpu)
            .filter(|line| below.contains(&name(line)))
            .map(|line| Violation::of("Cargo.lock", format!("with `wgpu` it is not `{line}`")))
            .collect()
    },
};

fn nonempty<'a>(lines: impl Iterator<Item = &'a String>) -> Option<Vec<&'a str>> {
    let lines: Vec<&str> = lines.map(String::as_str).collect();
    (!lines.is_empty()).then_some(lines)
}

/// One of our crates, as its manifest says.
pub(crate) struct Package<'a> {
    pub(crate) name: String,
    manifest: &'a File,
    uses: Vec<Use>,
    has_root_lints: bool,
}

struct Use {
    name: String,
    is_for_tests: bool,
    is_from_root: bool,
}

impl Package<'_> {
    /// Where it lies, as ARCHITECTURE.md calls it: `core` for `crates/core`, `ci/tidy`.
    pub(crate) fn home(&self) -> &str {
        self.manifest.dir().trim_start_matches("crates/")
    }

    fn violation(&self, near: &str, what: String) -> Violation {
        Violation::near(self.manifest, near, what)
    }
}

impl Use {
    fn violation(&self, package: &Package<'_>, what: &str) -> Violation {
        package.violation(&format!("\n{}", self.name), format!("`{}` {what}", self.name))
    }
}

/// Every crate of the workspace.
pub(crate) fn packages(tree: &Tree) -> Vec<Package<'_>> {
    let manifests = tree
        .files
        .iter()
        .filter(|file| file.path.ends_with("/Cargo.toml") && !file.path.starts_with("examples/"));
    manifests
        .map(|manifest| {
            let table: toml::Table = toml::from_str(&manifest.text).expect("cargo reads it too");
            let mut uses = Vec::new();
            dependencies(&table, &mut uses);
            for platform in table
                .get("target")
                .and_then(toml::Value::as_table)
                .into_iter()
                .flat_map(toml::Table::values)
            {
                dependencies(platform.as_table().expect("cargo reads it too"), &mut uses);
            }
            Package {
                name: string_at(&table, "package", "name").unwrap_or_default().to_owned(),
                manifest,
                uses,
                has_root_lints: is_from_root(table.get("lints")),
            }
        })
        .collect()
}

fn dependencies(table: &toml::Table, uses: &mut Vec<Use>) {
    for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
        for (name, value) in table.get(kind).and_then(toml::Value::as_table).into_iter().flatten() {
            uses.push(Use {
                name: name.clone(),
                is_for_tests: kind == "dev-dependencies",
                is_from_root: is_from_root(Some(value)),
            });
        }
    }
}

fn is_from_root(value: Option<&toml::Value>) -> bool {
    value.and_then(|it| it.get("workspace")).and_then(toml::Value::as_bool) == Some(true)
}

fn string_at<'a>(table: &'a toml::Table, section: &str, key: &str) -> Option<&'a str> {
    table.get(section)?.get(key)?.as_str()
}

/// Names of all crates, for rules about pages.
pub(crate) fn homes(tree: &Tree) -> BTreeSet<String> {
    packages(tree).iter().map(|package| package.home().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::{LAW, NAMED, ONE_BUILD, ONE_DATAFUSION, REPEATABLE, VERSIONS};
    use crate::tree::Tree;

    fn manifest(name: &str, rest: &str) -> Tree {
        let text = format!("[package]\nname = \"{name}\"\n[lints]\nworkspace = true\n{rest}\n");
        Tree::of(&[("crates/x/Cargo.toml", &text)])
    }

    #[test]
    fn crates_depend_only_downward() {
        LAW.holds();
    }

    #[test]
    fn an_upward_edge_is_found() {
        LAW.finds(
            &manifest("karat-core", "[dependencies]\nkarat-gate.workspace = true"),
            &["crates/x/Cargo.toml:5"],
        );
        LAW.finds(&manifest("karat-gate", "[dependencies]\nkarat-core.workspace = true"), &[]);
        LAW.finds(&manifest("karat", "[dependencies]\nkarat-engine.workspace = true"), &[]);
    }

    #[test]
    fn testkit_is_for_tests_only() {
        LAW.finds(
            &manifest("karat-gate", "[dev-dependencies]\nkarat-testkit.workspace = true"),
            &[],
        );
        LAW.finds(
            &manifest("karat", "[dependencies]\nkarat-testkit.workspace = true"),
            &["crates/x/Cargo.toml:5"],
        );
    }

    #[test]
    fn an_unknown_crate_is_found() {
        LAW.finds(&manifest("karat-util", ""), &["crates/x/Cargo.toml:1"]);
    }

    #[test]
    fn heavy_libraries_have_one_home() {
        NAMED.holds();
    }

    #[test]
    fn a_library_away_from_home_is_found() {
        NAMED.finds(
            &manifest("karat-gate", "[dependencies]\narrow-array.workspace = true"),
            &["crates/x/Cargo.toml:5"],
        );
        NAMED.finds(
            &manifest("karat-engine", "[dependencies]\nburn-flex.workspace = true"),
            &["crates/x/Cargo.toml:5"],
        );
        NAMED.finds(
            &manifest("karat-engine", "[target.'cfg(unix)'.dependencies]\nclap.workspace = true"),
            &["crates/x/Cargo.toml:5"],
        );
        NAMED.finds(&manifest("karat-engine", "[dependencies]\nburn.workspace = true"), &[]);
    }

    #[test]
    fn versions_stand_in_one_place() {
        VERSIONS.holds();
    }

    #[test]
    fn a_version_in_a_member_is_found() {
        VERSIONS.finds(
            &manifest("karat-core", "[dependencies]\nserde = \"1\""),
            &["crates/x/Cargo.toml:5"],
        );
        VERSIONS.finds(
            &Tree::of(&[("crates/x/Cargo.toml", "[package]\nname = \"karat-core\"")]),
            &["crates/x/Cargo.toml:1"],
        );
    }

    #[test]
    fn nothing_tunes_by_the_clock() {
        REPEATABLE.holds();
    }

    #[test]
    fn the_binary_and_the_tests_share_one_build() {
        ONE_BUILD.holds();
    }

    #[test]
    fn a_gpu_does_not_rebuild_datafusion() {
        ONE_DATAFUSION.holds();
        let mut made_up = Tree::default();
        made_up.resolved.table.extend(["serde v1|std".to_owned(), "arrow v1|".to_owned()]);
        made_up.resolved.binary.extend(["serde v1|std".to_owned(), "arrow v1|".to_owned()]);
        made_up.resolved.wgpu.extend(["serde v1|std".to_owned(), "arrow v1|".to_owned()]);
        made_up.resolved.wgpu.insert("wgpu v1|wgsl".to_owned());
        ONE_DATAFUSION.finds(&made_up, &[]);
        made_up.resolved.wgpu.remove("serde v1|std");
        made_up.resolved.wgpu.insert("serde v1|alloc,std".to_owned());
        ONE_DATAFUSION.finds(&made_up, &["Cargo.lock:1"]);
    }

    #[test]
    fn features_are_compared() {
        let mut made_up = Tree::default();
        made_up.resolved.binary.extend(["a v1|x".to_owned(), "burn-flex v1|std".to_owned()]);
        made_up.resolved.workspace.extend(["a v1|x,y".to_owned(), "burn-flex v1|std".to_owned()]);
        ONE_BUILD.finds(&made_up, &["Cargo.lock:1"]);
        REPEATABLE.finds(&made_up, &[]);
        made_up.resolved.workspace.insert("burn-dispatch v1|fusion,std".to_owned());
        REPEATABLE.finds(&made_up, &["Cargo.lock:1"]);
        made_up.resolved.every_gpu.insert("cubecl-runtime v1|autotune".to_owned());
        REPEATABLE.finds(&made_up, &["Cargo.lock:1", "Cargo.lock:1"]);
    }
}
