//! Which files a dataset has, and what format each is of: decided by its first bytes, never by trust in its name.
//!
//! Formats that can carry code (pickle and what wraps it) are refused by name.
//!
//! Reading order: [`discover`], [`recognise`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{BufReader, Read},
    path::{Component, Path, PathBuf},
};

use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use karat_core::{ImageFormat, nearest};

use crate::{error::FileError, idx, image};

/// A file by the name people know it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Relative to the project where it lies inside, with `/`.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) path: PathBuf,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Apache Parquet.
    Parquet,
    /// Arrow IPC with a footer; Feather version 2.
    ArrowFile,
    /// Arrow IPC without a footer.
    ArrowStream,
    /// Comma-separated text with a header line.
    Csv(Packing),
    /// One JSON object after the other.
    Json(Packing),
    /// One image: one row.
    Image,
    /// MNIST's format, a file of images with a file of labels beside it.
    Idx(Packing),
}

impl Format {
    /// Whether fields like `NA` mean "missing".
    pub(crate) const fn has_null_words(self) -> bool {
        matches!(self, Self::Csv(_))
    }

    /// How images of a column are read from a file of this format: of a table as the column says, else as the format has
    /// them. So a model of one is used on the other.
    pub(crate) const fn image(self, column: ImageFormat) -> ImageFormat {
        match self {
            Self::Image => ImageFormat { is_raw: false, ..column },
            Self::Idx(_) => ImageFormat { is_raw: true, ..column },
            _ => column,
        }
    }
}

impl Found {
    /// The file of labels that belongs to this one, where it is a file of images in IDX.
    pub(crate) fn labels(&self) -> Option<Self> {
        let path = idx::labels_of(&self.path)?;
        let file = path.file_name()?.to_str()?;
        let name = match self.name.rsplit_once('/') {
            Some((folder, _)) => format!("{folder}/{file}"),
            None => file.to_owned(),
        };
        Some(Self { name, path })
    }
}

/// How a text file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    /// Not at all.
    Plain,
    /// gzip, any number of members.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// Folders below a given one that are searched.
const DEPTH_MAX: usize = 32;

const GLOB_CHARACTERS: [char; 3] = ['*', '?', '['];

/// What is refused, by its first bytes.
const REFUSED: [(&[u8], &str); 17] = [
    (b"PK\x03\x04", "a ZIP archive (as are .xlsx, .npz and .pt files)"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"\x80\x02", "a Python pickle, which can carry code"),
    (b"\x80\x03", "a Python pickle, which can carry code"),
    (b"\x80\x04", "a Python pickle, which can carry code"),
    (b"\x80\x05", "a Python pickle, which can carry code"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF", "an HDF5 file"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"Obj\x01", "an Avro file"),
    (b"PARE", "an encrypted Parquet file"),
    (b"BZh9", "a bzip2 archive"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"\xff\xfe", "UTF-16 text; expected UTF-8"),
    (b"\xfe\xff", "UTF-16 text; expected UTF-8"),
    (b"\x7fELF", "a program"),
    (b"%PDF-", "a PDF document"),
];

/// What is refused by its name: older forms of these have no first bytes of their own.
const REFUSED_NAMES: [(&[&str], &str); 3] = [
    (&["pkl", "pickle", "joblib"], "a Python pickle by its name, which can carry code"),
    (&["pt", "pth", "ckpt"], "a file of weights by its name, which can carry code"),
    (&["rds", "rda", "rdata"], "R data by its name, which can carry code"),
];

/// All files that `patterns` name, sorted by name, each once.
pub(crate) fn discover(root: &Path, patterns: &[String]) -> Result<Vec<Found>, FileError> {
    let mut found = BTreeMap::new();
    for pattern in patterns {
        let path = root.join(pattern);
        let paths = match fs::metadata(&path) {
            Ok(it) if it.is_dir() => in_folder(&path, pattern)?,
            Ok(_) => vec![path],
            Err(error) if !is_absent(&error) => {
                return Err(FileError::io(pattern, error));
            }
            Err(_) if pattern.contains(GLOB_CHARACTERS) => matching(root, pattern)?,
            Err(_) => {
                return Err(FileError::Missing {
                    file: pattern.clone(),
                    near: near_files(root, &path, pattern),
                });
            }
        };
        for path in paths {
            let name = name_of(root, &path)?;
            found.insert(name.clone(), Found { name, path });
        }
    }
    // A file of labels is part of its file of images.
    let labels: Vec<String> = found.values().filter_map(Found::labels).map(|it| it.name).collect();
    found.retain(|name, _| !labels.contains(name));
    Ok(found.into_values().collect())
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

fn name_of(root: &Path, path: &Path) -> Result<String, FileError> {
    let relative = path.strip_prefix(root).unwrap_or(path);
    let text = relative
        .to_str()
        .ok_or_else(|| FileError::FileName { file: relative.to_string_lossy().into_owned() })?;
    Ok(if std::path::MAIN_SEPARATOR == '/' {
        text.to_owned()
    } else {
        text.replace(std::path::MAIN_SEPARATOR, "/")
    })
}

fn matching(root: &Path, pattern: &str) -> Result<Vec<PathBuf>, FileError> {
    let refuse = |reason: String| FileError::Pattern { pattern: pattern.to_owned(), reason };
    let full = if Path::new(pattern).is_absolute() {
        pattern.to_owned()
    } else {
        let root =
            root.to_str().ok_or_else(|| refuse("the project's path is not UTF-8".to_owned()))?;
        let root = if root.is_empty() { "." } else { root };
        format!("{}/{pattern}", glob::Pattern::escape(root))
    };
    // The rule for leading dots is kept below: glob's own panics where a name is not UTF-8.
    let options = glob::MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: false,
    };
    let n_hidden = hidden(Path::new(&full));
    let mut paths = Vec::new();
    for path in glob::glob_with(&full, options).map_err(|error| refuse(error.msg.to_owned()))? {
        let path = path.map_err(|error| FileError::Io {
            file: error.path().display().to_string(),
            source: error.into(),
        })?;
        if hidden(&path) <= n_hidden && path.is_file() {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return Err(FileError::NoMatch {
            pattern: pattern.to_owned(),
            near: near_files(root, &root.join(pattern), pattern),
        });
    }
    for folder in paths.iter().filter_map(|it| it.parent()).collect::<BTreeSet<_>>() {
        refuse_unnamed(folder)?;
    }
    Ok(paths)
}

/// No pattern finds a name that is not UTF-8, and data that nobody asked about is not left out in silence.
fn refuse_unnamed(folder: &Path) -> Result<(), FileError> {
    // A pattern in the folder where karat stands finds names alone.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let shown = |path: &Path| path.display().to_string();
    let entries = fs::read_dir(folder).map_err(|error| FileError::io(&shown(folder), error))?;
    for entry in entries {
        let entry = entry.map_err(|error| FileError::io(&shown(folder), error))?;
        if entry.file_name().to_str().is_none() && entry.path().is_file() {
            return Err(FileError::FileName { file: shown(&entry.path()) });
        }
    }
    Ok(())
}

/// Names on the way to `path` that begin with a dot: a pattern finds no more of them than it says.
fn hidden(path: &Path) -> usize {
    let is_hidden = |it: &Component<'_>| match it {
        Component::Normal(name) => name.as_encoded_bytes().starts_with(b"."),
        _ => false,
    };
    path.components().filter(is_hidden).count()
}

fn in_folder(folder: &Path, shown: &str) -> Result<Vec<PathBuf>, FileError> {
    let mut paths = Vec::new();
    let mut images = Vec::new();
    let mut without_files = Vec::new();
    let mut waiting = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = waiting.pop() {
        let entries = fs::read_dir(&folder)
            .map_err(|error| FileError::io(&folder.display().to_string(), error))?;
        let mut is_without_files = 0 < depth;
        for entry in entries {
            let entry =
                entry.map_err(|error| FileError::io(&folder.display().to_string(), error))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            // `_SUCCESS`, `.crc` and the like stand beside data and are none.
            if name.starts_with(['.', '_']) {
                continue;
            }
            let path = entry.path();
            // Links to folders are not followed: they can lead in a circle.
            if entry.file_type().is_ok_and(|it| it.is_dir()) {
                if depth < DEPTH_MAX {
                    waiting.push((path, depth + 1));
                }
                is_without_files = false;
            } else if path.is_file() {
                match by_name(&name) {
                    None => continue,
                    Some(Format::Image) => images.push(path),
                    Some(_) => paths.push(path),
                }
                is_without_files = false;
            }
        }
        if is_without_files {
            without_files.push(folder);
        }
    }
    // Beside tables, pictures are illustrations; alone they are the data, and their folders are classes.
    if paths.is_empty() && !images.is_empty() {
        without_files.sort();
        if let Some(empty) = without_files.first() {
            return Err(FileError::ClassEmpty { folder: empty.display().to_string() });
        }
        return Ok(images);
    }
    if paths.is_empty() {
        return Err(FileError::EmptyFolder { folder: shown.to_owned() });
    }
    Ok(paths)
}

/// Files in the folder where `path` was looked for, nearest name first.
fn near_files(root: &Path, path: &Path, asked: &str) -> Vec<String> {
    const ENTRIES_MAX: usize = 10_000;
    let Some(folder) = path.ancestors().skip(1).find(|it| it.is_dir()) else { return Vec::new() };
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let names: Vec<String> = entries
        .take(ENTRIES_MAX)
        .filter_map(Result::ok)
        .filter_map(|entry| name_of(root, &entry.path()).ok())
        .filter(|name| !name.rsplit('/').next().unwrap_or_default().starts_with('.'))
        .collect();
    nearest(asked, names.iter().map(String::as_str)).into_iter().map(str::to_owned).collect()
}

/// The format a name promises, without its compression.
fn by_name(name: &str) -> Option<Format> {
    let name = name.to_ascii_lowercase();
    let inner = name
        .strip_suffix(".gz")
        .or_else(|| name.strip_suffix(".zst"))
        .or_else(|| name.strip_suffix(".zstd"))
        .unwrap_or(&name);
    if idx::is_named(&name) {
        return Some(Format::Idx(Packing::Plain));
    }
    match inner.rsplit_once('.')?.1 {
        "parquet" | "pq" if inner == name => Some(Format::Parquet),
        "arrow" | "feather" | "ipc" | "arrows" if inner == name => Some(Format::ArrowFile),
        "csv" => Some(Format::Csv(Packing::Plain)),
        "json" | "jsonl" | "ndjson" => Some(Format::Json(Packing::Plain)),
        "png" | "jpg" | "jpeg" if inner == name => Some(Format::Image),
        _ => None,
    }
}

/// What `file` is, by its first bytes; only text, which has no such mark, goes by its name, and so does what is called an
/// image: one that is damaged is a bad row and no unknown format.
pub(crate) fn recognise(file: &Found) -> Result<Format, FileError> {
    if by_name(&file.name) == Some(Format::Image) {
        return Ok(Format::Image);
    }
    let start = first_bytes(
        File::open(&file.path).map_err(|error| FileError::io(&file.name, error))?,
        &file.name,
    )?;
    if start.is_empty() {
        return Err(FileError::Empty { file: file.name.clone() });
    }
    refuse_known(&start, &file.name)?;
    let extension = file.name.rsplit_once('.').map_or("", |it| it.1).to_ascii_lowercase();
    if let Some((_, what)) =
        REFUSED_NAMES.iter().find(|(names, _)| names.contains(&extension.as_str()))
    {
        return Err(FileError::Refused { file: file.name.clone(), what });
    }
    if image::is_encoded(&start) {
        return Ok(Format::Image);
    }
    if start.starts_with(b"PAR1") {
        return Ok(Format::Parquet);
    }
    if start.starts_with(b"ARROW1") {
        return Ok(Format::ArrowFile);
    }
    if start.starts_with(b"\xff\xff\xff\xff") {
        return Ok(Format::ArrowStream);
    }
    let packing = packing(&start);
    let inner = match packing {
        Packing::Plain => start,
        _ => {
            let inner = first_bytes(unpacked(file, packing)?, &file.name)?;
            if inner.is_empty() {
                return Err(FileError::Empty { file: file.name.clone() });
            }
            refuse_known(&inner, &file.name)?;
            inner
        }
    };
    let unknown = |reason: String| FileError::Unknown { file: file.name.clone(), reason };
    let shown = || inner.iter().take(8).map(|it| format!("{it:02x}")).collect::<Vec<_>>().join(" ");
    if inner.starts_with(&idx::IMAGES) {
        return Ok(Format::Idx(packing));
    }
    match by_name(&file.name) {
        // Its magic is not that of images: whoever opens it says so.
        Some(Format::Idx(_)) => Ok(Format::Idx(packing)),
        Some(Format::Csv(_)) => Ok(Format::Csv(packing)),
        Some(Format::Json(_)) => {
            let first = inner.iter().find(|it| !it.is_ascii_whitespace());
            if first == Some(&b'[') {
                return Err(FileError::Refused {
                    file: file.name.clone(),
                    what: "one JSON array instead of one object a line",
                });
            }
            Ok(Format::Json(packing))
        }
        Some(Format::Parquet) => Err(unknown(format!(
            "it is called Parquet but starts with bytes {}, not `PAR1`",
            shown()
        ))),
        Some(_) => Err(unknown(format!(
            "it is called Arrow but starts with bytes {}, not `ARROW1`",
            shown()
        ))),
        None => Err(unknown(format!("neither its name nor its first bytes {} tell", shown()))),
    }
}

fn packing(start: &[u8]) -> Packing {
    if start.starts_with(b"\x1f\x8b") {
        Packing::Gzip
    } else if start.starts_with(b"\x28\xb5\x2f\xfd") {
        Packing::Zstd
    } else {
        Packing::Plain
    }
}

/// How `file` is compressed, by its first bytes.
pub(crate) fn packing_of(file: &Found) -> Result<Packing, FileError> {
    let opened = File::open(&file.path).map_err(|error| FileError::io(&file.name, error))?;
    Ok(packing(&first_bytes(opened, &file.name)?))
}

fn refuse_known(start: &[u8], name: &str) -> Result<(), FileError> {
    match REFUSED.iter().find(|(magic, _)| start.starts_with(magic)) {
        Some((_, what)) => Err(FileError::Refused { file: name.to_owned(), what }),
        None => Ok(()),
    }
}

fn first_bytes(from: impl Read, name: &str) -> Result<Vec<u8>, FileError> {
    let mut start = Vec::with_capacity(64);
    from.take(64).read_to_end(&mut start).map_err(|error| FileError::io(name, error))?;
    Ok(start)
}

/// The bytes of a text file without its compression.
pub(crate) fn unpacked(file: &Found, packing: Packing) -> Result<Box<dyn Read + Send>, FileError> {
    let opened = File::open(&file.path).map_err(|error| FileError::io(&file.name, error))?;
    let reader = BufReader::with_capacity(1 << 18, opened);
    let kind = match packing {
        Packing::Plain => return Ok(Box::new(reader)),
        Packing::Gzip => FileCompressionType::GZIP,
        Packing::Zstd => FileCompressionType::ZSTD,
    };
    kind.convert_read(reader).map_err(|error| FileError::Unreadable {
        file: file.name.clone(),
        reason: error.strip_backtrace(),
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use karat_core::Coded as _;

    use super::{Format, Found, Packing, discover, recognise};

    fn names(root: &Path, patterns: &[&str]) -> Vec<String> {
        let patterns: Vec<String> = patterns.iter().map(|it| (*it).to_owned()).collect();
        discover(root, &patterns).expect("files").into_iter().map(|it| it.name).collect()
    }

    #[test]
    fn paths_folders_and_patterns_are_found_once_and_sorted() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        fs::create_dir_all(root.join("a/b [1]")).expect("folders");
        for name in
            ["a/2.csv", "a/1.csv", "a/b [1]/3.csv.gz", "a/_SUCCESS", "a/.x.csv", "a/make.py"]
        {
            fs::write(root.join(name), "x\n1\n").expect("written");
        }
        let all = ["a/1.csv", "a/2.csv", "a/b [1]/3.csv.gz"];
        assert_eq!(names(root, &["a"]), all);
        assert_eq!(names(root, &["a/*.csv", "a/1.csv"]), all[..2]);
        assert_eq!(names(root, &["a/**/*.csv*"]), all);
        assert_eq!(names(root, &["a/b [1]/3.csv.gz"]), all[2..]);
    }

    #[test]
    fn what_is_not_there_is_named_with_its_neighbours() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("data")).expect("a folder");
        fs::write(folder.path().join("data/flights.csv"), "x\n1\n").expect("written");
        fs::create_dir(folder.path().join("none")).expect("a folder");
        for (asked, code, near) in [
            ("data/flihgts.csv", "file-missing", Some("`data/flights.csv`")),
            ("data/*.parquet", "glob-empty", Some("`data/flights.csv`")),
            ("none", "folder-empty", None),
            ("data/[", "glob-invalid", None),
        ] {
            let error = discover(folder.path(), &[asked.to_owned()]).expect_err(asked);
            assert_eq!(error.code().as_str(), code);
            assert!(error.to_string().contains(asked), "{error}");
            if let Some(near) = near {
                assert!(error.details().concat().contains(near), "{:?}", error.details());
            }
        }
    }

    #[test]
    fn first_bytes_decide() {
        let folder = tempfile::tempdir().expect("a folder");
        let ask = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::write(&path, bytes).expect("written");
            recognise(&Found { name: name.to_owned(), path }).map_err(|error| error.code().as_str())
        };
        assert_eq!(ask("a.csv", b"x,y\n"), Ok(Format::Csv(Packing::Plain)));
        assert_eq!(ask("a.csv", b"PAR1...."), Ok(Format::Parquet));
        assert_eq!(ask("a.ndjson", b" {}"), Ok(Format::Json(Packing::Plain)));
        assert_eq!(ask("a.feather", b"ARROW1\0\0"), Ok(Format::ArrowFile));
        assert_eq!(ask("a.csv", b""), Err("file-empty"));
        assert_eq!(ask("a.json", b"[{}]"), Err("file-format-refused"));
        assert_eq!(ask("a.parquet", b"x,y\n"), Err("file-format-unknown"));
        assert_eq!(ask("a.xls", b"x,y\n"), Err("file-format-unknown"));
        for magic in [
            &b"\x80\x04\x95"[..],
            b"PK\x03\x04",
            b"\x93NUMPY",
            b"SQLite format 3\0",
            b"\xff\xfex\0",
            b"\x89HDF\r\n",
        ] {
            assert_eq!(ask("a.csv", magic), Err("file-format-refused"), "{magic:?}");
        }
    }
}
