//! What DVC has on record for a project: `params.yaml` and `dvc.lock`, read for lineage and never written.
//!
//! Both are somebody else's files, so they have limits on size, depth and count, and aliases are refused: a few lines of them
//! can stand for more than fits any memory. YAML is read as events; nothing is built that is not kept.

use std::{collections::BTreeMap, path::Path};

use karat_core::{
    Exit, Failure,
    summary::{Dvc, DvcFile},
};
use saphyr_parser::{Event, Parser};

/// Parameters of a project.
const PARAMS_FILE: &str = "params.yaml";
/// What its stages were last run from.
const LOCK_FILE: &str = "dvc.lock";
/// Largest file that is read.
const BYTES_MAX: u64 = 4 << 20;
/// Deepest nesting.
const DEPTH_MAX: usize = 32;
/// Values of one file.
const VALUES_MAX: usize = 100_000;
/// Bytes of one value that are kept.
const VALUE_MAX: usize = 1_000;

/// Values by their path: `["stages", "train", "outs", "0", "md5"]`, in the file's order.
type Values = Vec<(Vec<String>, String)>;

/// What DVC has on record in `root`; `None` when it has nothing there.
pub(crate) fn lineage(root: &Path) -> Result<Option<Dvc>, Failure> {
    let params = values(root, PARAMS_FILE)?;
    let lock = values(root, LOCK_FILE)?;
    if params.is_none() && lock.is_none() {
        return Ok(None);
    }
    let params: BTreeMap<String, String> = params
        .unwrap_or_default()
        .into_iter()
        .map(|(path, value)| (path.join("."), value))
        .collect();
    Ok(Some(Dvc { params, files: files(lock.unwrap_or_default()) }))
}

/// The files of a `dvc.lock`: entries of `deps` and `outs` that have a path and an MD5.
fn files(lock: Values) -> Vec<DvcFile> {
    let mut entries: Vec<(Vec<String>, BTreeMap<String, String>)> = Vec::new();
    for (mut path, value) in lock {
        let Some(key) = path.pop() else { continue };
        match entries.last_mut() {
            Some((at, known)) if *at == path => {
                known.insert(key, value);
            }
            _ => entries.push((path, BTreeMap::from([(key, value)]))),
        }
    }
    let file = |(at, mut known): (Vec<String>, BTreeMap<String, String>)| {
        let [stages, stage, kind, _] = &at[..] else { return None };
        let is_output = match (stages.as_str(), kind.as_str()) {
            ("stages", "outs") => true,
            ("stages", "deps") => false,
            _ => return None,
        };
        let (path, md5) = (known.remove("path")?, known.remove("md5")?);
        Some(DvcFile { stage: stage.clone(), is_output, path, md5 })
    };
    entries.into_iter().filter_map(file).collect()
}

/// Every scalar of a file, or why it is refused. `None` when there is no such file.
fn values(root: &Path, name: &str) -> Result<Option<Values>, Failure> {
    let path = root.join(name);
    let refuse = |reason: String| {
        Failure::new(
            "dvc-file-invalid",
            Exit::Usage,
            format!("`{}` is not read: {reason}", path.display()),
        )
        .detail("it is read for lineage; nothing was done")
        .hint(format!("`dvc status` says what DVC makes of it; without `{name}` the rest works"))
    };
    // A link may lead anywhere.
    let found = match std::fs::symlink_metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refuse("it cannot be looked at".to_owned()).because(&error)),
        Ok(found) => found,
    };
    if !found.is_file() {
        return Err(refuse("it is no ordinary file".to_owned()));
    }
    if BYTES_MAX < found.len() {
        let n_bytes = karat_core::thousands(found.len());
        return Err(refuse(format!("it has {n_bytes} bytes, at most 4 MiB are read")));
    }
    let text = std::fs::read_to_string(&path)
        .map_err(|error| refuse("it is no UTF-8 text".to_owned()).because(&error))?;
    scalars(&text).map(Some).map_err(refuse)
}

/// One level of nesting.
enum Level {
    /// The next scalar is a key, or the value of this one.
    Mapping { key: Option<String> },
    /// Items so far.
    Sequence { n: usize },
}

fn scalars(text: &str) -> Result<Values, String> {
    let (mut levels, mut values): (Vec<Level>, Values) = (Vec::new(), Vec::new());
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| format!("it is no YAML: {error}"))?;
        let line = span.start.line();
        match event {
            Event::Alias(_) => return Err(format!("line {line} has an alias; those are refused")),
            Event::MappingStart(..) | Event::SequenceStart(..) if DEPTH_MAX <= levels.len() => {
                return Err(format!("line {line} is nested deeper than {DEPTH_MAX} levels"));
            }
            Event::MappingStart(..) | Event::SequenceStart(..)
                if matches!(levels.last(), Some(Level::Mapping { key: None })) =>
            {
                return Err(format!("line {line} has a key that is no word"));
            }
            Event::MappingStart(..) => levels.push(Level::Mapping { key: None }),
            Event::SequenceStart(..) => levels.push(Level::Sequence { n: 0 }),
            Event::MappingEnd | Event::SequenceEnd => {
                levels.pop();
                done(&mut levels);
            }
            Event::Scalar(value, ..) => {
                if let Some(Level::Mapping { key: key @ None }) = levels.last_mut() {
                    *key = Some(short(&value));
                    continue;
                }
                if VALUES_MAX <= values.len() {
                    return Err(format!("it has more than {VALUES_MAX} values"));
                }
                values.push((levels.iter().map(Level::name).collect(), short(&value)));
                done(&mut levels);
            }
            _ => {}
        }
    }
    Ok(values)
}

impl Level {
    fn name(&self) -> String {
        match self {
            Self::Mapping { key } => key.clone().unwrap_or_default(),
            Self::Sequence { n } => n.to_string(),
        }
    }
}

/// A value ended: the level around it goes on.
fn done(levels: &mut [Level]) {
    match levels.last_mut() {
        Some(Level::Mapping { key }) => *key = None,
        Some(Level::Sequence { n }) => *n += 1,
        None => {}
    }
}

fn short(text: &str) -> String {
    text.chars().take(VALUE_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use karat_core::summary::Dvc;

    use super::{PARAMS_FILE, lineage};

    fn read(name: &str, text: &str) -> Result<Option<Dvc>, karat_core::Failure> {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(name), text).expect("written");
        lineage(folder.path())
    }

    #[test]
    fn parameters_and_pointers_are_read() {
        assert_eq!(lineage(Path::new("/nonexistent")).expect("nothing there"), None);
        let found = read(PARAMS_FILE, "seed: 7\ntrain:\n  lr: 0.1\n  layers: [8, 4]\n")
            .expect("reads")
            .expect("some");
        let params: Vec<(&str, &str)> =
            found.params.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(
            params,
            [("seed", "7"), ("train.layers.0", "8"), ("train.layers.1", "4"), ("train.lr", "0.1")]
        );
        let lock = "schema: '2.0'\nstages:\n  prepare:\n    cmd: python prepare.py *.csv\n    deps:\n    - path: raw.csv\n      \
                    hash: md5\n      md5: a304afb96060aad90176268345e10355\n      size: 12\n    params:\n      params.yaml:\n        seed: 7\n    \
                    outs:\n    - path: data\n      hash: md5\n      md5: 22e2f62c8bc8be7c2e0f0f6a4f4a6a0f.dir\n      size: 99\n      nfiles: 2\n";
        let found = read("dvc.lock", lock).expect("reads").expect("some");
        let files: Vec<_> = found
            .files
            .iter()
            .map(|it| (it.stage.as_str(), it.is_output, it.path.as_str(), it.md5.len()))
            .collect();
        assert_eq!(files, [("prepare", false, "raw.csv", 32), ("prepare", true, "data", 36)]);
    }

    #[test]
    fn hostile_files_are_refused() {
        let laughs = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n";
        let deep = format!("{}x{}", "[".repeat(60), "]".repeat(60));
        let many = "- x\n".repeat(100_001);
        let large = "#".repeat((4 << 20) + 1);
        for text in
            [laughs, "a: [1, 2", "a: b: c", "a: 'b", "? [a, b]\n: c\n", &deep, &many, &large]
        {
            let failure = read(PARAMS_FILE, text).expect_err("must be refused");
            assert_eq!(failure.code.as_str(), "dvc-file-invalid", "{}", failure.message);
        }
        let folder = tempfile::tempdir().expect("a folder");
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join(PARAMS_FILE)).expect("links");
        assert_eq!(lineage(folder.path()).expect_err("a link").code.as_str(), "dvc-file-invalid");
        std::fs::write(folder.path().join("dvc.lock"), [0xff, 0xfe]).expect("written");
        std::fs::remove_file(folder.path().join(PARAMS_FILE)).expect("removed");
        assert_eq!(lineage(folder.path()).expect_err("no text").code.as_str(), "dvc-file-invalid");
    }
}
