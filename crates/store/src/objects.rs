//! Immutable bytes under their digest: `objects/sha256/ab/<hex>`.
//!
//! Create-only. A file that is there already is hashed before it counts as the same; one that has rotted is replaced by
//! the right bytes, so that making a lost output again also heals it.

use std::{
    fs::{File, OpenOptions},
    io::Read as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use karat_core::{Digest, DigestBuilder};
use rusqlite::{Connection, OptionalExtension as _};
use rustix::fs::{OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use crate::{
    Store, StoreError,
    disk::{Disk, PRIVATE, create_unique},
    row::{Text, int, uint},
    store::lock,
};

/// Bytes hashed before anything is written, because writing them twice would cost more than waiting.
const SMALL: usize = 1 << 20;

/// A private scratch file. Removed when dropped, unless it was published.
pub struct Staged {
    path: PathBuf,
    disk: Arc<Disk>,
    is_published: bool,
}

impl Staged {
    /// Where to write.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.is_published {
            // Nothing names it: what stays behind, `gc` removes.
            let _ = self.disk.remove(&self.path);
        }
    }
}

/// What lies under a digest.
pub(crate) enum Found {
    Missing,
    Whole,
    Corrupt { found: Digest, n_bytes: u64 },
}

impl Store {
    /// A new empty scratch file; `name` stays the end of its name, for writers that go by the extension.
    pub fn staging(&self, name: &str) -> Result<Staged, StoreError> {
        self.writable()?;
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' }
        };
        let ending: String = name.chars().map(plain).take(64).collect();
        let (path, _) = create_unique(&self.disk, &self.dir.join("tmp"), &ending, PRIVATE)?;
        Ok(Staged { path, disk: Arc::clone(&self.disk), is_published: false })
    }

    /// Makes `bytes` durable under their digest.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        self.writable()?;
        if bytes.len() <= SMALL {
            let digest = Digest::of(bytes);
            if self.is_reusable(&digest)? {
                return Ok(digest);
            }
            let staged = self.write_staged(bytes)?;
            return self.adopt(staged, digest);
        }
        self.disk.refuse_if_full(&self.dir, bytes.len() as u64)?;
        // Hashing costs about as much as the kernel's copy: beside it, it costs nothing.
        let (digest, staged) = std::thread::scope(|scope| {
            let hasher = scope.spawn(|| Digest::of(bytes));
            let staged = self.write_staged(bytes);
            (hasher.join(), staged)
        });
        let digest = digest.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        self.adopt(staged?, digest)
    }

    /// Makes a scratch file durable under the digest of its bytes.
    pub fn publish(&self, staged: Staged) -> Result<Digest, StoreError> {
        self.writable()?;
        let path = staged.path();
        let file = File::open(path).map_err(|error| StoreError::io("open", path, None, error))?;
        let (synced, hashed) = std::thread::scope(|scope| {
            let syncing = scope.spawn(|| self.disk.sync(&file, path));
            let hashed = File::open(path)
                .and_then(|mut file| hash(&mut file))
                .map_err(|error| StoreError::io("read", path, None, error));
            (syncing.join(), hashed)
        });
        synced.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let (digest, _) = hashed?;
        self.adopt(staged, digest)
    }

    /// The bytes of an object, after checking them.
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        read_object(&self.dir, digest)
    }

    /// Where an object lies. Whoever opens the file without [`Store::read`] checks it first: [`Store::contains`].
    #[must_use]
    pub fn path(&self, digest: &Digest) -> PathBuf {
        path_of(&self.dir, digest)
    }

    /// Whether an object is there and, with `verify`, whether its bytes match its digest.
    pub fn contains(&self, digest: &Digest, verify: bool) -> Result<bool, StoreError> {
        if verify {
            return Ok(matches!(self.inspect(digest)?, Found::Whole));
        }
        Ok(self.size(digest)?.is_some())
    }

    /// Looks at an object's bytes.
    pub(crate) fn inspect(&self, digest: &Digest) -> Result<Found, StoreError> {
        let path = self.path(digest);
        match open_plain(&path).and_then(|mut file| hash(&mut file)) {
            Ok((found, _)) if found == *digest => Ok(Found::Whole),
            Ok((found, n_bytes)) => Ok(Found::Corrupt { found, n_bytes }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Found::Missing),
            Err(error) => Err(StoreError::io("read", path, None, error)),
        }
    }

    /// Size of an object; `None` when it is not there.
    pub fn size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        let path = self.path(digest);
        match std::fs::symlink_metadata(&path) {
            Ok(found) => Ok(found.is_file().then_some(found.len())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("look at", path, None, error)),
        }
    }

    /// An error unless the object is there and matches.
    pub(crate) fn demand(&self, digest: &Digest) -> Result<(), StoreError> {
        match self.inspect(digest)? {
            Found::Whole => Ok(()),
            Found::Missing => Err(StoreError::ObjectMissing { digest: *digest }),
            Found::Corrupt { found, n_bytes } => {
                Err(StoreError::ObjectCorrupt { expected: *digest, found: Some(found), n_bytes })
            }
        }
    }

    /// Lets a row name an object: only inside the transaction that inserts the row, and only while the file is there.
    pub(crate) fn name(&self, connection: &Connection, digest: &Digest) -> Result<(), StoreError> {
        let n_bytes = self.size(digest)?.ok_or(StoreError::ObjectMissing { digest: *digest })?;
        let known: Option<i64> = connection
            .prepare_cached("SELECT n_bytes FROM object WHERE digest = ?1")?
            .query_row([Text(digest)], |row| row.get(0))
            .optional()?;
        match known {
            Some(known) if uint(known) != n_bytes => {
                Err(StoreError::ObjectCorrupt { expected: *digest, found: None, n_bytes })
            }
            Some(_) => Ok(()),
            None => {
                connection
                    .prepare_cached("INSERT INTO object (digest, n_bytes) VALUES (?1, ?2)")?
                    .execute((Text(digest), int(n_bytes)))?;
                Ok(())
            }
        }
    }

    fn write_staged(&self, bytes: &[u8]) -> Result<Staged, StoreError> {
        let (path, file) = create_unique(&self.disk, &self.dir.join("tmp"), "object", PRIVATE)?;
        let staged = Staged { path, disk: Arc::clone(&self.disk), is_published: false };
        self.disk.write(&file, &staged.path, bytes)?;
        self.disk.sync(&file, &staged.path)?;
        Ok(staged)
    }

    /// Gives a synced scratch file its final name.
    fn adopt(&self, mut staged: Staged, digest: Digest) -> Result<Digest, StoreError> {
        if self.is_reusable(&digest)? {
            return Ok(digest);
        }
        let path = self.path(&digest);
        let shard = self.shard(&digest)?;
        self.disk.rename(&staged.path, &path)?;
        staged.is_published = true;
        self.disk.sync_dir(&shard)?;
        Ok(digest)
    }

    /// Whether the object is there, whole and durable. Makes it young again, so that `gc` leaves it to whoever is about
    /// to name it.
    fn is_reusable(&self, digest: &Digest) -> Result<bool, StoreError> {
        let Found::Whole = self.inspect(digest)? else { return Ok(false) };
        let path = self.path(digest);
        let touch = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        };
        open_plain(&path)
            .and_then(|file| Ok(rustix::fs::futimens(&file, &touch)?))
            .map_err(|error| StoreError::io("touch", &path, None, error))?;
        // Whoever put it may have died between the rename and this.
        let shard = self.shard(digest)?;
        self.disk.sync_dir(&shard)?;
        Ok(true)
    }

    /// The folder of an object, existing and durable.
    fn shard(&self, digest: &Digest) -> Result<PathBuf, StoreError> {
        let parent = self.dir.join("objects/sha256");
        let shard = parent.join(&digest.hex()[..2]);
        let first = digest.as_bytes()[0];
        if !lock(&self.shards).contains(&first) {
            if !self.disk.make_dir(&shard)? {
                // Made by a process that may have died before it was durable.
                self.disk.sync_dir(&parent)?;
            }
            lock(&self.shards).insert(first);
        }
        Ok(shard)
    }
}

fn path_of(store: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    store.join("objects/sha256").join(&hex[..2]).join(hex)
}

/// The bytes of an object of the store in `store`, after checking them.
pub(crate) fn read_object(store: &Path, digest: &Digest) -> Result<Vec<u8>, StoreError> {
    let path = path_of(store, digest);
    let mut bytes = Vec::new();
    match open_plain(&path).and_then(|mut file| file.read_to_end(&mut bytes)) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(StoreError::ObjectMissing { digest: *digest });
        }
        Err(error) => return Err(StoreError::io("read", path, None, error)),
    }
    let found = Digest::of(&bytes);
    if found != *digest {
        let n_bytes = bytes.len() as u64;
        return Err(StoreError::ObjectCorrupt { expected: *digest, found: Some(found), n_bytes });
    }
    Ok(bytes)
}

/// Opens an ordinary file for reading; a link is not followed out of the store.
pub(crate) fn open_plain(path: &Path) -> std::io::Result<File> {
    let flags = OFlags::NOFOLLOW.bits() as i32;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Digest and size of the rest of a file.
pub(crate) fn hash(file: &mut File) -> std::io::Result<(Digest, u64)> {
    let (mut digest, mut n_bytes) = (DigestBuilder::default(), 0);
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((digest.finish(), n_bytes)),
            Ok(n) => {
                digest.raw(&buffer[..n]);
                n_bytes += n as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
