//! Files that would change how burn and cubecl compute, found by where the process was started.
//!
//! Both look for `burn.toml` and `cubecl.toml` in the working directory and every folder above it, and silently take what they
//! find. Nothing of ours writes one. So on a GPU such a file is told and recorded, and with `--deterministic` refused.

use std::path::{Path, PathBuf};

/// Every spelling that is looked for (`RuntimeConfig::file_names` and `section_file_names` of burn 0.22.1, cubecl 0.11.3).
const NAMES: [&str; 4] = ["burn.toml", "Burn.toml", "cubecl.toml", "CubeCL.toml"];

/// The stray files that a process started in `folder` obeys, nearest first.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let folders = folder.ancestors();
    let files = folders.flat_map(|folder| NAMES.map(|name| folder.join(name)));
    files.filter(|file| file.is_file()).collect()
}

#[cfg(test)]
mod tests {
    use super::files;

    #[test]
    fn stray_files_are_found_in_the_folder_and_above() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let folder = root.path().join("a/b");
        std::fs::create_dir_all(&folder).expect("writable");
        let ours = |folder: &std::path::Path| {
            let mut found = files(folder);
            found.retain(|file| file.starts_with(root.path()));
            found
        };
        assert!(ours(&folder).is_empty());
        let (near, far) = (folder.join("burn.toml"), root.path().join("cubecl.toml"));
        std::fs::write(&near, "").expect("writable");
        std::fs::write(&far, "").expect("writable");
        assert_eq!(ours(&folder), [near, far.clone()]);
        assert_eq!(ours(&root.path().join("a")), [far]);
    }
}
