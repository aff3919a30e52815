//! OpenSSF Model Signing v1.0: "these exact files". The manifest of a folder, its root digest, and the check of a folder
//! against it.
//!
//! Whoever calls walks the folder: regular files only, a link is an error, [`IGNORED`] and the signature left out. Files
//! are named by their path below the folder, `/` between its parts.
//!
//! Root digest: SHA-256 over the raw digests of the files, in the order of their names' code points (section 6.5.1).
//! `shards`, digests other than SHA-256 and followed links are refused, never skipped.

use std::collections::BTreeMap;

use karat_core::{Digest, digest::DigestBuilder};
use serde::Deserialize;
use serde_json::json;

use crate::{AttestError, Statement, Subject, bundle::Verified, statement::shown};

/// What kind of claim it is.
pub const PREDICATE_TYPE: &str = "https://model_signing/signature/v1.0";
/// Left out at the top of a model's folder.
pub const IGNORED: [&str; 4] = [".git", ".gitignore", ".gitattributes", ".github"];
/// Files of one model.
pub const FILES_MAX: usize = 100_000;
/// Longest name of a file, bytes.
pub const NAME_BYTES_MAX: usize = 4096;
/// The name that bundles older than v1.0.1 give to the only file of a model.
const ITSELF: &str = ".";

/// Files of a model: path below its folder, and digest. The map's order is that of code points, as UTF-8 keeps it.
pub type Files = BTreeMap<String, Digest>;

/// The digest that stands for all of them.
#[must_use]
pub fn root_digest(files: &Files) -> Digest {
    root_of(files.values())
}

fn root_of<'a>(digests: impl Iterator<Item = &'a Digest>) -> Digest {
    let mut builder = DigestBuilder::default();
    for digest in digests {
        builder.raw(digest.as_bytes());
    }
    builder.finish()
}

/// The statement about a model's files; `name` is what its folder is called.
pub fn statement(name: &str, files: &Files) -> Result<Statement, AttestError> {
    if files.is_empty() {
        return Err(AttestError::Empty);
    }
    let resources: Vec<_> = files
        .iter()
        .map(
            |(name, digest)| json!({ "name": name, "digest": digest.hex(), "algorithm": "sha256" }),
        )
        .collect();
    let predicate = json!({
        "resources": resources,
        "serialization": {
            "method": "files",
            "hash_type": "sha256",
            "allow_symlinks": false,
            "ignore_paths": IGNORED,
        },
    });
    let subject = vec![Subject::sha256(name, &root_digest(files))];
    Ok(Statement::of(subject, PREDICATE_TYPE, predicate))
}

/// What a signer vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The files.
    pub files: Files,
    /// Paths that were left out besides [`IGNORED`], each with all below it.
    pub ignored: Vec<String>,
}

impl Manifest {
    /// Reads a signed statement.
    pub fn read(verified: &Verified) -> Result<Self, AttestError> {
        let statement = &verified.statement;
        if statement.predicate_type != PREDICATE_TYPE {
            return Err(AttestError::Unsupported {
                reason: format!(
                    "it states `{}`, which does not vouch for a model's files",
                    shown(&statement.predicate_type)
                ),
            });
        }
        let predicate: RawPredicate = Statement::predicate_of(&verified.payload)?;
        let manifest = predicate.into_manifest()?;
        if !statement.is_about(&root_digest(&manifest.files)) {
            return Err(AttestError::Malformed {
                reason: "its subject is not the root digest of the files it lists".to_owned(),
            });
        }
        Ok(manifest)
    }

    /// Whether the signer left this path out.
    #[must_use]
    pub fn is_ignored(&self, path: &str) -> bool {
        is_ignored(path, self.ignored.iter().map(String::as_str))
    }

    /// An error unless `found`, what the folder holds, is exactly what was signed.
    pub fn compare(&self, found: &Files) -> Result<(), AttestError> {
        let mut differences = Vec::new();
        for (name, signed) in &self.files {
            match found.get(name) {
                None => differences.push(format!("`{}` is missing", shown(name))),
                Some(digest) if digest != signed => differences.push(format!(
                    "`{}` has changed: signed {}, found {}",
                    shown(name),
                    signed.short(),
                    digest.short()
                )),
                Some(_) => {}
            }
        }
        let unsigned = found.keys().filter(|name| !self.files.contains_key(*name));
        differences.extend(unsigned.map(|name| format!("`{}` was not signed", shown(name))));
        if differences.is_empty() { Ok(()) } else { Err(AttestError::FilesDiffer { differences }) }
    }

    /// As [`Manifest::compare`] for a model that is one file: old bundles call it `.`.
    pub fn compare_single(&self, name: &str, digest: &Digest) -> Result<(), AttestError> {
        let name = if self.files.contains_key(ITSELF) { ITSELF } else { name };
        self.compare(&Files::from([(name.to_owned(), *digest)]))
    }
}

/// Whether `path`, below a model's folder, is one of [`IGNORED`] or `also`, or lies below one.
pub fn is_ignored<'a>(path: &str, also: impl IntoIterator<Item = &'a str>) -> bool {
    IGNORED.into_iter().chain(also).any(|ignored| {
        path.strip_prefix(ignored).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPredicate {
    resources: Vec<RawResource>,
    serialization: RawSerialization,
}

/// Other members of a resource are to be ignored (section 5.2.1).
#[derive(Deserialize)]
struct RawResource {
    name: String,
    digest: String,
    algorithm: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSerialization {
    method: String,
    hash_type: String,
    #[expect(dead_code, reason = "belongs to `shards`, which are refused")]
    shard_size: Option<u64>,
    allow_symlinks: bool,
    #[serde(default)]
    ignore_paths: Vec<String>,
}

impl RawPredicate {
    fn into_manifest(self) -> Result<Manifest, AttestError> {
        let unsupported = |reason: String| Err(AttestError::Unsupported { reason });
        let malformed = |reason: String| AttestError::Malformed { reason };
        let how = self.serialization;
        if how.method != "files" {
            return unsupported(format!(
                "its files were listed by method `{}`",
                shown(&how.method)
            ));
        }
        if how.hash_type != "sha256" {
            return unsupported(format!("its files were hashed by `{}`", shown(&how.hash_type)));
        }
        if how.allow_symlinks {
            return unsupported(
                "its signer followed links; a link says nothing about bytes".to_owned(),
            );
        }
        if FILES_MAX < self.resources.len() {
            let n = self.resources.len();
            return Err(malformed(format!("it lists {n} files, at most {FILES_MAX} are read")));
        }
        let mut files = Files::new();
        let mut last: Option<String> = None;
        for RawResource { name, digest, algorithm } in self.resources {
            if algorithm != "sha256" {
                return unsupported(format!(
                    "`{}` was hashed by `{}`",
                    shown(&name),
                    shown(&algorithm)
                ));
            }
            if !is_plain(&name) {
                return Err(malformed(format!("`{}` is no path below a folder", shown(&name))));
            }
            let digest = format!("sha256:{digest}").parse().map_err(|_| {
                malformed(format!("the digest of `{}` is no SHA-256", shown(&name)))
            })?;
            if last.as_ref().is_some_and(|last| name <= *last) {
                return Err(malformed(format!("`{}` stands out of order or twice", shown(&name))));
            }
            files.insert(name.clone(), digest);
            last = Some(name);
        }
        if files.is_empty() {
            return Err(malformed("it lists no file".to_owned()));
        }
        Ok(Manifest { files, ignored: how.ignore_paths })
    }
}

/// Relative, normalised, `/` between its parts.
fn is_plain(name: &str) -> bool {
    let is_part = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    name == ITSELF || (name.len() <= NAME_BYTES_MAX && name.split('/').all(is_part))
}
