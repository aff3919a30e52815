//! The one door to the disk: every effect that must survive a crash goes through [`Disk`], so that a test can let the
//! n-th one fail.
//!
//! A failed fsync is final. The kernel marks the pages clean afterwards, so a second fsync would succeed with the bytes
//! lost. Nothing here retries: the scratch file is dropped and the caller starts again from its source.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::StoreError;

/// Mode of files in the store: the data of one person.
pub(crate) const PRIVATE: u32 = 0o600;
/// Mode of files for people, less the umask.
const SHARED: u32 = 0o666;

/// Durable effects, each in one call.
#[derive(Default)]
pub(crate) struct Disk {
    #[cfg(any(test, feature = "testing"))]
    pub(crate) faults: Option<crate::fault::Faults>,
}

impl Disk {
    /// Counts one effect; fails when a test has planned so.
    #[cfg(any(test, feature = "testing"))]
    fn effect(&self, what: &'static str, path: &Path) -> io::Result<()> {
        self.faults.as_ref().map_or(Ok(()), |faults| faults.next(what, path))
    }

    #[cfg(not(any(test, feature = "testing")))]
    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "fails only under test")]
    const fn effect(&self, _what: &'static str, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    /// An effect that the database makes: called right before and right after each commit.
    pub(crate) fn commit_point(&self, database: &Path) -> Result<(), StoreError> {
        self.effect("commit", database)
            .map_err(|error| StoreError::io("commit to", database, None, error))
    }

    /// Creates a file that must not exist yet; `None` when it does.
    pub(crate) fn create_new(&self, path: &Path, mode: u32) -> Result<Option<File>, StoreError> {
        let open = || {
            self.effect("create", path)?;
            OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(path)
        };
        match open() {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(StoreError::io("create", path, None, error)),
        }
    }

    /// Opens a file for appending, creating it when needed.
    pub(crate) fn append_to(&self, path: &Path) -> Result<File, StoreError> {
        self.effect("open", path)
            .and_then(|()| {
                OpenOptions::new().read(true).append(true).create(true).mode(PRIVATE).open(path)
            })
            .map_err(|error| StoreError::io("open", path, None, error))
    }

    /// Writes all of `bytes`; a planned fault leaves half of them.
    pub(crate) fn write(
        &self,
        mut file: &File,
        path: &Path,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        let result = match self.effect("write", path) {
            Ok(()) => file.write_all(bytes),
            Err(error) => file.write_all(&bytes[..bytes.len() / 2]).and(Err(error)),
        };
        result.map_err(|error| StoreError::io("write", path, Some(bytes.len() as u64), error))
    }

    /// Cuts a file to `n_bytes`.
    pub(crate) fn truncate(
        &self,
        file: &File,
        path: &Path,
        n_bytes: u64,
    ) -> Result<(), StoreError> {
        self.effect("truncate", path)
            .and_then(|()| file.set_len(n_bytes))
            .map_err(|error| StoreError::io("truncate", path, None, error))
    }

    /// Waits until the file's bytes are on the disk.
    pub(crate) fn sync(&self, file: &File, path: &Path) -> Result<(), StoreError> {
        self.effect("sync", path)
            .and_then(|()| file.sync_all())
            .map_err(|error| StoreError::io("sync", path, None, error))
    }

    /// Waits until the names in `dir` are on the disk.
    pub(crate) fn sync_dir(&self, dir: &Path) -> Result<(), StoreError> {
        self.effect("sync_dir", dir)
            .and_then(|()| File::open(dir)?.sync_all())
            .map_err(|error| StoreError::io("sync", dir, None, error))
    }

    /// Gives a file its final name, replacing what has it.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        self.effect("rename", from)
            .and_then(|()| std::fs::rename(from, to))
            .and_then(|()| self.effect("named", to))
            .map_err(|error| StoreError::io("move a file to", to, None, error))
    }

    /// Removes a file; one that is gone is no error.
    pub(crate) fn remove(&self, path: &Path) -> Result<(), StoreError> {
        match self.effect("remove", path).and_then(|()| std::fs::remove_file(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("remove", path, None, error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Removes a folder with all it holds.
    pub(crate) fn remove_dir(&self, path: &Path) -> Result<(), StoreError> {
        match self.effect("remove_dir", path).and_then(|()| std::fs::remove_dir_all(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("remove", path, None, error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Creates a folder and the folders above it, each durably. `false` when it was there.
    pub(crate) fn make_dir(&self, dir: &Path) -> Result<bool, StoreError> {
        if dir.as_os_str().is_empty() || dir.is_dir() {
            return Ok(false);
        }
        let parent = dir.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
        self.make_dir(parent)?;
        match self.effect("make_dir", dir).and_then(|()| std::fs::create_dir(dir)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(StoreError::io("create", dir, None, error));
            }
            Ok(()) | Err(_) => {}
        }
        self.sync_dir(parent)?;
        Ok(true)
    }

    /// Refuses early when `n_bytes` and 5 % cannot fit. Being wrong here is survived later.
    pub(crate) fn refuse_if_full(&self, dir: &Path, n_bytes: u64) -> Result<(), StoreError> {
        let Ok(found) = rustix::fs::statvfs(dir) else { return Ok(()) };
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        if free < n_bytes.saturating_add(n_bytes / 20) {
            return Err(StoreError::DiskFull {
                action: "write to",
                path: dir.to_owned(),
                n_bytes: Some(n_bytes),
                source: None,
            });
        }
        Ok(())
    }
}

/// Writes a file for people so that a crash leaves the old content or the new, never half. Creates missing folders.
pub fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let disk = Disk::default();
    let folder = folder_of(path);
    disk.make_dir(folder)?;
    let (scratch, file) = create_unique(&disk, folder, ".karat", SHARED)?;
    let written = disk
        .write(&file, &scratch, bytes)
        .and_then(|()| disk.sync(&file, &scratch))
        .and_then(|()| disk.rename(&scratch, path))
        .and_then(|()| disk.sync_dir(folder));
    if written.is_err() {
        // The first error is what a person needs; a scratch file left behind is only untidy.
        let _ = disk.remove(&scratch);
    }
    written
}

/// Appends to a file of somebody else's (a CI system's summary), which may not exist yet. In place, because that
/// somebody has it open; after a crash a part may be there.
pub fn append(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|error| StoreError::io("open", path, None, error))?;
    file.write_all(bytes)
        .map_err(|error| StoreError::io("append to", path, Some(bytes.len() as u64), error))
}

/// Gives a finished file its final name: fsync, rename, fsync of the folder. Both must lie on one file system.
pub fn move_durably(from: &Path, to: &Path) -> Result<(), StoreError> {
    let disk = Disk::default();
    let file = File::open(from).map_err(|error| StoreError::io("open", from, None, error))?;
    disk.sync(&file, from)?;
    disk.rename(from, to)?;
    disk.sync_dir(folder_of(to))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A new file in `dir` that nobody else has; `ending` stays the last part of its name.
pub(crate) fn create_unique(
    disk: &Disk,
    dir: &Path,
    ending: &str,
    mode: u32,
) -> Result<(PathBuf, File), StoreError> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    loop {
        // A process before this one may have had the same id and died: then the name is taken and the next one is tried.
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!(".scratch-{}-{n}-{ending}", std::process::id()));
        if let Some(file) = disk.create_new(&path, mode)? {
            return Ok((path, file));
        }
    }
}
