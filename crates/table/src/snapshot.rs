//! Freezing a dataset: a digest and a row count for every file; and making sure, before rows are read, that the files
//! are still those of the snapshot.
//!
//! Reading order: [`freeze`], [`Verified`].

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::UNIX_EPOCH,
};

use karat_core::{
    DatasetSpec, Digest, DigestBuilder, Failure, Schema, Snapshot, SnapshotFile,
    port::{KnownFile, Located, OnProgress},
    thousands,
};
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};

use crate::{
    decode::RawFile,
    error::FileError,
    files::{Format, Found, discover, recognise},
    read::READ_ROWS,
};

/// Bytes hashed at once.
const CHUNK: usize = 1 << 20;

/// By what an unchanged file is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    n_bytes: u64,
    modified_ns: i128,
    inode: u64,
}

impl Stamp {
    /// Of a file, and of the labels beside it: added up, any change of either shows.
    fn of(file: &Found) -> Result<Self, FileError> {
        let mut stamp = Self::of_one(file)?;
        if let Some(labels) = file.labels() {
            let labels = Self::of_one(&labels)?;
            stamp.n_bytes += labels.n_bytes;
            stamp.modified_ns = stamp.modified_ns.wrapping_add(labels.modified_ns);
            stamp.inode = stamp.inode.wrapping_add(labels.inode);
        }
        Ok(stamp)
    }

    fn of_one(file: &Found) -> Result<Self, FileError> {
        let metadata =
            fs::metadata(&file.path).map_err(|error| FileError::io(&file.name, error))?;
        let modified_ns = match metadata.modified().map(|it| it.duration_since(UNIX_EPOCH)) {
            Ok(Ok(after)) => i128::try_from(after.as_nanos()).unwrap_or(i128::MAX),
            Ok(Err(before)) => -i128::try_from(before.duration().as_nanos()).unwrap_or(i128::MAX),
            Err(_) => 0,
        };
        Ok(Self { n_bytes: metadata.len(), modified_ns, inode: inode(&metadata) })
    }
}

#[cfg(unix)]
fn inode(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_: &fs::Metadata) -> u64 {
    0
}

/// Files whose digest this process has computed or been told: they are not hashed a second time.
#[derive(Debug, Default)]
pub(crate) struct Verified(Mutex<BTreeMap<PathBuf, (Stamp, Digest)>>);

impl Verified {
    fn get(&self, path: &Path) -> Option<(Stamp, Digest)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(path).copied()
    }

    fn put(&self, path: &Path, stamp: Stamp, digest: Digest) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(path.to_owned(), (stamp, digest));
    }

    /// The files of a snapshot in the order of `order`, after making sure that they are what was frozen.
    pub(crate) fn files(&self, located: &Located, order: Order) -> Result<Files, Failure> {
        let mut frozen: Vec<&SnapshotFile> = located.snapshot.files.iter().collect();
        match order {
            Order::Snapshot => {}
            Order::Path => frozen.sort_by(|a, b| a.path.cmp(&b.path)),
        }
        let checked: Vec<Result<Found, FileError>> = frozen
            .par_iter()
            .map(|file| {
                let found = Found { name: file.path.clone(), path: located.root.join(&file.path) };
                self.verify(&found, file)?;
                Ok(found)
            })
            .collect();
        let found = checked.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut starts = vec![0];
        for file in &frozen {
            starts.push(starts[starts.len() - 1] + file.n_rows);
        }
        Ok(Files { found, starts })
    }

    fn verify(&self, found: &Found, frozen: &SnapshotFile) -> Result<(), FileError> {
        let stamp = Stamp::of(found)?;
        if stamp.n_bytes != frozen.n_bytes {
            return Err(FileError::Changed {
                file: found.name.clone(),
                expected: format!("{} bytes", thousands(frozen.n_bytes)),
                found: format!("{} bytes", thousands(stamp.n_bytes)),
            });
        }
        let digest = match self.get(&found.path) {
            Some((known, digest)) if known == stamp => digest,
            _ => {
                let digest = digest_of(found, &|_| {})?;
                self.put(&found.path, stamp, digest);
                digest
            }
        };
        if digest == frozen.digest {
            Ok(())
        } else {
            Err(FileError::changed(&found.name, frozen.digest, digest))
        }
    }
}

/// Which way the files of a snapshot are gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// By (digest, path): does not depend on what files are called.
    Snapshot,
    /// By path: as people expect it.
    Path,
}

/// The files of a snapshot, in order, with the number of the first row of each.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    /// The files.
    pub(crate) found: Vec<Found>,
    /// Rows before each file; one more entry than files, the last being the total.
    starts: Vec<u64>,
}

impl Files {
    /// Rows before row `row` of file `file`.
    pub(crate) fn position(&self, file: usize, row: u64) -> u64 {
        self.starts[file] + row
    }

    /// File and row within it (from 0) of a row counted over all files.
    pub(crate) fn place(&self, position: u64) -> (usize, u64) {
        let file = self.starts.partition_point(|it| *it <= position).clamp(1, self.found.len()) - 1;
        (file, position - self.starts[file])
    }

    /// Rows of all files.
    pub(crate) fn n_rows(&self) -> u64 {
        self.starts[self.starts.len() - 1]
    }
}

/// Hashes and counts the files of `dataset`, but for those in `known` that have not changed.
pub(crate) fn freeze(
    verified: &Verified,
    root: &Path,
    dataset: &DatasetSpec,
    schema: &Schema,
    known: &[KnownFile],
    progress: OnProgress<'_>,
) -> Result<(Snapshot, Vec<KnownFile>), Failure> {
    let found = discover(root, &dataset.files)?;
    let known: HashMap<&str, &KnownFile> = known.iter().map(|it| (it.path.as_str(), it)).collect();
    let stamped = found
        .into_iter()
        .map(|it| Stamp::of(&it).map(|stamp| (it, stamp)))
        .collect::<Result<Vec<_>, _>>()?;
    let total: u64 = stamped.iter().map(|(_, stamp)| stamp.n_bytes).sum();
    let done = Mutex::new((0_u64, progress));
    let advance = |n: u64| {
        let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
        done.0 += n;
        let bytes = done.0;
        (done.1)(bytes, Some(total));
    };
    let frozen: Vec<Result<(SnapshotFile, KnownFile), FileError>> = stamped
        .par_iter()
        .map(|(file, stamp)| {
            let absolute = std::path::absolute(&file.path).unwrap_or_else(|_| file.path.clone());
            let absolute = absolute.to_string_lossy().into_owned();
            let (digest, n_rows) = match known.get(absolute.as_str()) {
                Some(it)
                    if *stamp
                        == (Stamp {
                            n_bytes: it.n_bytes,
                            modified_ns: it.modified_ns,
                            inode: it.inode,
                        }) =>
                {
                    advance(stamp.n_bytes);
                    (it.digest, it.n_rows)
                }
                _ => {
                    let (digest, n_rows) =
                        rayon::join(|| digest_of(file, &advance), || n_rows_of(file));
                    // What cannot be parsed is said before what changed meanwhile.
                    let (n_rows, digest) = (n_rows?, digest?);
                    if Stamp::of(file)? != *stamp {
                        return Err(FileError::Unreadable {
                            file: file.name.clone(),
                            reason: "it changed while it was read".to_owned(),
                        });
                    }
                    (digest, n_rows)
                }
            };
            verified.put(&file.path, *stamp, digest);
            let frozen =
                SnapshotFile { path: file.name.clone(), digest, n_bytes: stamp.n_bytes, n_rows };
            let known = KnownFile {
                path: absolute,
                n_bytes: stamp.n_bytes,
                modified_ns: stamp.modified_ns,
                inode: stamp.inode,
                digest,
                n_rows,
            };
            Ok((frozen, known))
        })
        .collect();
    let (mut files, known): (Vec<SnapshotFile>, Vec<KnownFile>) =
        frozen.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    files.sort_by(|a, b| a.digest.cmp(&b.digest).then_with(|| a.path.cmp(&b.path)));
    let n_rows = files.iter().map(|it| it.n_rows).sum();
    let snapshot =
        Snapshot { dataset: dataset.name.clone(), files, n_rows, schema: schema.digest() };
    Ok((snapshot, known))
}

/// Of the content. Where the name gives rows their key and their class, the name is content, and so are the labels beside
/// a file of images: moving an image to another class changes what is digested.
fn digest_of(file: &Found, advance: &(dyn Fn(u64) + Sync)) -> Result<Digest, FileError> {
    let bytes = digest_of_bytes(file, advance)?;
    // What cannot be recognised is said by whoever reads it.
    let domain = match recognise(file) {
        Ok(Format::Image) => "karat.image-file.v1",
        Ok(Format::Idx(_)) => "karat.idx.v1",
        _ => return Ok(bytes),
    };
    let mut builder = DigestBuilder::new(domain);
    builder.field(file.name.as_bytes()).field(bytes.as_bytes());
    if let Some(labels) = file.labels() {
        builder.field(digest_of_bytes(&labels, advance)?.as_bytes());
    }
    Ok(builder.finish())
}

fn digest_of_bytes(file: &Found, advance: &(dyn Fn(u64) + Sync)) -> Result<Digest, FileError> {
    let failed = |error| FileError::io(&file.name, error);
    let mut from = File::open(&file.path).map_err(failed)?;
    let mut chunk = vec![0; CHUNK];
    let mut builder = DigestBuilder::default();
    loop {
        let n = from.read(&mut chunk).map_err(failed)?;
        if n == 0 {
            return Ok(builder.finish());
        }
        builder.raw(&chunk[..n]);
        advance(n as u64);
    }
}

fn n_rows_of(file: &Found) -> Result<u64, FileError> {
    let raw = RawFile::open(file)?;
    if let Some(n_rows) = raw.n_rows() {
        return Ok(n_rows);
    }
    let mut n_rows = 0;
    for batch in raw.batches(&[], READ_ROWS)? {
        n_rows += batch?.num_rows() as u64;
    }
    Ok(n_rows)
}
