//! The files of a folder that somebody else filled: what is compared with a signature.
//!
//! Regular files only. A link says nothing about bytes, so one is an error, as is a name that is not UTF-8.

use std::{fs, io::Read as _, path::Path};

use karat_attest::oms::{FILES_MAX, Files, NAME_BYTES_MAX};
use karat_core::{Digest, DigestBuilder, Exit, Failure};

/// Folders below each other.
const DEPTH_MAX: usize = 64;
/// Bytes read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Every file below `folder` but those that `is_left_out` by their path, with the digest of its bytes.
pub(crate) fn files_below(
    folder: &Path,
    is_left_out: &dyn Fn(&str) -> bool,
) -> Result<Files, Failure> {
    let mut files = Files::new();
    walk(folder, "", 0, is_left_out, &mut files)?;
    Ok(files)
}

/// The digest of one regular file, read in pieces.
pub(crate) fn digest_of(path: &Path) -> Result<Digest, Failure> {
    let mut file = fs::File::open(path).map_err(|error| unreadable(path, &error))?;
    // Without a domain this is the plain SHA-256 of the bytes.
    let mut builder = DigestBuilder::default();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk).map_err(|error| unreadable(path, &error))? {
            0 => return Ok(builder.finish()),
            n => {
                builder.raw(&chunk[..n]);
            }
        }
    }
}

fn walk(
    folder: &Path,
    below: &str,
    depth: usize,
    is_left_out: &dyn Fn(&str) -> bool,
    files: &mut Files,
) -> Result<(), Failure> {
    if DEPTH_MAX < depth {
        return Err(refuse(folder, &format!("lies more than {DEPTH_MAX} folders deep")));
    }
    for entry in fs::read_dir(folder).map_err(|error| unreadable(folder, &error))? {
        let entry = entry.map_err(|error| unreadable(folder, &error))?;
        let path = entry.path();
        let Ok(name) = entry.file_name().into_string() else {
            return Err(refuse(&path, "has a name that is not UTF-8"));
        };
        let name = if below.is_empty() { name } else { format!("{below}/{name}") };
        if is_left_out(&name) {
            continue;
        }
        // Of the entry itself: a link is not followed.
        let kind = entry.file_type().map_err(|error| unreadable(&path, &error))?;
        if kind.is_dir() {
            walk(&path, &name, depth + 1, is_left_out, files)?;
        } else if kind.is_file() {
            if FILES_MAX <= files.len() || NAME_BYTES_MAX < name.len() {
                return Err(refuse(&path, "is one file too many, or its name is too long"));
            }
            files.insert(name, digest_of(&path)?);
        } else {
            let what = if kind.is_symlink() { "a link" } else { "no regular file" };
            return Err(refuse(&path, &format!("is {what}, which no signature can cover")));
        }
    }
    Ok(())
}

fn refuse(path: &Path, reason: &str) -> Failure {
    let message = format!("`{}` {reason}", path.display());
    Failure::new("signature-mismatch", Exit::Fail, message)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    let message = format!("`{}` cannot be read", path.display());
    Failure::new("file-unreadable", Exit::Run, message).because(error)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use karat_core::Digest;

    use super::{digest_of, files_below};

    #[test]
    fn files_are_named_by_their_path_and_links_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("part/.git")).expect("folders");
        fs::create_dir(path(".git")).expect("a folder");
        for name in ["b", "part/a", "part/.git/config", ".git/config"] {
            fs::write(path(name), name).expect("written");
        }
        let is_left_out = |name: &str| name == ".git";
        let files = files_below(folder.path(), &is_left_out).expect("readable");
        assert_eq!(files.keys().collect::<Vec<_>>(), ["b", "part/.git/config", "part/a"]);
        assert_eq!(files["part/a"], Digest::of(b"part/a"));
        assert_eq!(digest_of(&path("b")).expect("readable"), Digest::of(b"b"));

        std::os::unix::fs::symlink(path("b"), path("part/link")).expect("a link");
        let refused = files_below(folder.path(), &is_left_out).expect_err("a link");
        assert!(refused.message.ends_with("part/link` is a link, which no signature can cover"));
    }
}
