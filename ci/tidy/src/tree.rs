//! The tree as the rules see it: every text file, and the features that cargo resolves.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use crate::code::Code;

/// Folders that are never part of the project: the names in `.gitignore`.
const NOT_OURS: &[&str] = &["target", "out", "__pycache__", ".git", ".karat"];
/// Hidden folders that are part of it.
const HIDDEN_BUT_OURS: &[&str] = &[".ci", ".github"];

/// All that the rules look at.
#[derive(Default)]
pub(crate) struct Tree {
    /// Text files, in path order.
    pub(crate) files: Vec<File>,
    /// Every file, also binary ones, and every folder; relative, with `/`.
    pub(crate) paths: BTreeSet<String>,
    /// What cargo resolves.
    pub(crate) resolved: Resolved,
}

/// Dependencies as `name version|feature,feature`, for this platform.
#[derive(Default)]
pub(crate) struct Resolved {
    /// Of the binary alone: `cargo run -p karat`.
    pub(crate) binary: BTreeSet<String>,
    /// Of everything with its tests: `cargo test --workspace`.
    pub(crate) workspace: BTreeSet<String>,
    /// Of the binary with the GPU feature that CI builds: `cargo run -p karat --features wgpu`.
    pub(crate) wgpu: BTreeSet<String>,
    /// Of the binary with every GPU feature.
    pub(crate) every_gpu: BTreeSet<String>,
    /// Of the crate above DataFusion, which takes longest to build.
    pub(crate) table: BTreeSet<String>,
}

/// One text file.
pub(crate) struct File {
    /// Relative to the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    /// For `.rs` files.
    pub(crate) code: Option<Code>,
}

impl File {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = path.ends_with(".rs").then(|| Code::new(path, text));
        Self { path: path.to_owned(), text: text.to_owned(), code }
    }

    /// The last part of the path.
    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// The folder it lies in; empty for the root.
    pub(crate) fn dir(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(dir, _)| dir)
    }
}

impl Tree {
    /// A made-up tree.
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let mut tree = Self::default();
        for (path, text) in files {
            tree.add_path(path);
            tree.files.push(File::new(path, text));
        }
        tree
    }

    /// The file at `path`.
    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Rust files with their code.
    pub(crate) fn rust(&self) -> impl Iterator<Item = (&File, &Code)> {
        self.files.iter().filter_map(|file| Some((file, file.code.as_ref()?)))
    }

    fn add_path(&mut self, path: &str) {
        for (end, _) in path.match_indices('/') {
            self.paths.insert(path[..end].to_owned());
        }
        self.paths.insert(path.to_owned());
    }

    fn read(root: &Path) -> Self {
        let mut tree = Self::default();
        let mut found = Vec::new();
        walk(root, &mut found);
        found.sort();
        for path in found {
            let relative = path.strip_prefix(root).expect("walked from the root");
            let relative = relative.to_str().expect("our paths are UTF-8").replace('\\', "/");
            tree.add_path(&relative);
            // A file may vanish between the walk and here: an editor's scratch file.
            if let Some(text) = fs::read(&path).ok().and_then(|it| String::from_utf8(it).ok()) {
                tree.files.push(File::new(&relative, &text));
            }
        }
        tree.resolved = Resolved {
            binary: resolve(root, &["-p", "karat", "-e", "normal,build"]),
            workspace: resolve(root, &["--workspace", "-e", "normal,build,dev"]),
            wgpu: resolve(root, &["-p", "karat", "-e", "normal,build", "-F", "wgpu"]),
            every_gpu: resolve(
                root,
                &["-p", "karat", "-e", "normal,build", "-F", "wgpu,vulkan,cuda"],
            ),
            table: resolve(root, &["-p", "karat-table", "-e", "normal,build"]),
        };
        tree
    }
}

/// The tree this crate lies in.
pub(crate) fn tree() -> &'static Tree {
    static TREE: LazyLock<Tree> = LazyLock::new(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        Tree::read(&root.canonicalize().expect("ci/tidy lies two folders below the root"))
    });
    &TREE
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("our folders are readable") {
        let entry = entry.expect("our folders are readable");
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_dir = entry.file_type().is_ok_and(|it| it.is_dir());
        let is_hidden = name.starts_with('.') && !HIDDEN_BUT_OURS.contains(&name.as_str());
        if is_dir {
            if !is_hidden && !NOT_OURS.contains(&name.as_str()) {
                walk(&entry.path(), found);
            }
        } else if name != ".git" {
            // A linked worktree has a file of that name.
            found.push(entry.path());
        }
    }
}

fn resolve(root: &Path, what: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .current_dir(root)
        .args(["tree", "--locked", "--prefix", "none", "--format", "{p}|{f}"])
        .args(what)
        .output()
        .expect("cargo runs this test, so it can be run");
    assert!(
        output.status.success(),
        "`cargo tree` failed; `cargo fetch --locked` may help:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| line.trim_end_matches(" (*)").replace(" (proc-macro)", ""))
        // Our own crates carry their path: `karat-core v0.1.0 (/…)|`.
        .filter(|line| line.contains('|') && !line.contains(" ("))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Tree, tree};

    #[test]
    fn the_tree_was_read() {
        for path in ["Cargo.toml", "crates/core/src/lib.rs", ".ci/run"] {
            assert!(tree().file(path).is_some(), "{path}");
        }
        assert!(tree().files.iter().all(|file| !file.path.contains("target/")));
        assert!(100 < tree().resolved.binary.len(), "{:?}", tree().resolved.binary);
    }

    #[test]
    fn folders_are_paths() {
        let made_up = Tree::of(&[("a/b/c.md", "")]);
        assert!(["a", "a/b", "a/b/c.md"].iter().all(|it| made_up.paths.contains(*it)));
    }
}
