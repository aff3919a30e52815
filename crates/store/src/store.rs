//! The handle: where the store lies, its one connection, and what has to be true before anything is read or written.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::{
    StoreError,
    disk::Disk,
    lease::{Instance, Owner},
    ledger,
};

/// `kara`: tells our database from anybody else's.
const APPLICATION_ID: i64 = 0x6b61_7261;
/// What makes each form of the database from the one before; this build writes the last.
const FORMS: [&str; 2] = [include_str!("schema.sql"), include_str!("ledger.sql")];
/// Form of the database this build writes.
const SCHEMA_VERSION: i64 = FORMS.len() as i64;
/// How long a writer waits for another process.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Name of the database.
pub(crate) const DATABASE: &str = "karat.db";
/// File systems whose locks SQLite cannot rely on, by their magic numbers.
const NETWORK_FS: [(u32, &str); 4] =
    [(0x6969, "NFS"), (0x517b, "SMB"), (0xff53_4d42, "CIFS"), (0xfe53_4d42, "SMB2")];

/// What a handle may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everything; creates what does not exist.
    ReadWrite,
    /// Look only.
    ReadOnly,
}

/// An open store. Safe to share between threads; transactions of one handle follow each other.
pub struct Store {
    pub(crate) dir: PathBuf,
    access: Access,
    is_new: bool,
    pub(crate) disk: Arc<Disk>,
    connection: Mutex<Connection>,
    instance: Instance,
    warnings: Mutex<Vec<String>>,
    /// Shards of the object folder that this handle has made durable.
    pub(crate) shards: Mutex<BTreeSet<u8>>,
}

impl Store {
    /// Opens the store in `dir` (a project's `.karat`). [`Access::ReadWrite`] creates what does not exist.
    pub fn open(dir: &Path, access: Access) -> Result<Self, StoreError> {
        Self::open_on(dir, access, Disk::default())
    }

    /// Opens for writing on a disk that fails as planned.
    #[cfg(any(test, feature = "testing"))]
    pub fn open_faulty(dir: &Path, plan: crate::FaultPlan) -> Result<Self, StoreError> {
        let disk = Disk { faults: Some(crate::fault::Faults::new(plan)) };
        Self::open_on(dir, Access::ReadWrite, disk)
    }

    /// Durable effects so far, on a store that [`Store::open_faulty`] opened: how many a sweep has to let fail.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn n_effects(&self) -> u64 {
        self.disk.faults.as_ref().map_or(0, crate::fault::Faults::n_seen)
    }

    /// What somebody who can write to the database can do to it.
    #[cfg(any(test, feature = "testing"))]
    pub fn edit_by_hand(&self, sql: &str) -> Result<(), StoreError> {
        let database = Connection::open(self.database())?;
        Ok(database.execute_batch(&format!("PRAGMA foreign_keys = off; {sql}"))?)
    }

    fn open_on(dir: &Path, access: Access, disk: Disk) -> Result<Self, StoreError> {
        refuse_network_fs(dir)?;
        let database = dir.join(DATABASE);
        if access == Access::ReadWrite {
            for folder in ["objects/sha256", "tmp", "runs"] {
                disk.make_dir(&dir.join(folder))?;
            }
        } else if !database.exists() {
            return Err(StoreError::Absent { dir: dir.to_owned() });
        }
        let connect = || match access {
            Access::ReadWrite => connect_for_writing(&database, &disk),
            Access::ReadOnly => {
                connect_for_reading(&database).map(|connection| (connection, false))
            }
        };
        let (connection, is_new) = connect().map_err(|error| error.at(dir))?;
        Ok(Self {
            dir: dir.to_owned(),
            access,
            is_new,
            disk: Arc::new(disk),
            connection: Mutex::new(connection),
            instance: Instance::new(),
            warnings: Mutex::default(),
            shards: Mutex::default(),
        })
    }

    /// Where the store lies.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether this call to [`Store::open`] created it: no champion, no history. Say so (`state: local, empty`).
    #[must_use]
    pub const fn is_new(&self) -> bool {
        self.is_new
    }

    /// Takes what was noticed on the way and changes no outcome, such as a damaged output that made a cached run a miss.
    #[must_use]
    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.warnings))
    }

    pub(crate) fn warn(&self, message: String) {
        lock(&self.warnings).push(message);
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.dir.join(DATABASE)
    }

    pub(crate) fn owner(&self) -> Owner {
        self.instance.owner()
    }

    /// Refuses on a handle that may only look.
    pub(crate) fn writable(&self) -> Result<(), StoreError> {
        match self.access {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly => Err(StoreError::ReadOnly { path: self.dir.clone(), source: None }),
        }
    }

    /// Reads in one transaction: all that `work` sees was true at one moment.
    pub(crate) fn look<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut connection = lock(&self.connection);
        let look = || {
            let transaction = connection.transaction()?;
            work(&transaction)
        };
        look().map_err(|error| error.at(&self.dir))
    }

    /// Writes in one transaction that has the write lock from its beginning: all of `work`, or nothing.
    pub(crate) fn commit<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.writable()?;
        let mut connection = lock(&self.connection);
        let commit = || {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            self.disk.commit_point(&self.database())?;
            transaction.commit()?;
            self.disk.commit_point(&self.database())?;
            Ok(value)
        };
        commit().map_err(|error: StoreError| error.at(&self.dir))
    }
}

/// A panic elsewhere cannot leave these values half changed: a transaction that was not committed is rolled back.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn connect_for_writing(database: &Path, disk: &Disk) -> Result<(Connection, bool), StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(database, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // SQLite opens a write-protected file for reading without a word.
    if connection.is_readonly(rusqlite::MAIN_DB)? {
        return Err(StoreError::ReadOnly { path: database.to_owned(), source: None });
    }
    let found = form(&connection)?;
    if found == SCHEMA_VERSION {
        configure(&connection)?;
        return Ok((connection, false));
    }
    if found == 0 {
        switch_to_wal(&connection)?;
    }
    configure(&connection)?;
    let folder = database.parent().unwrap_or(Path::new("."));
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have been faster.
    let found = form(&transaction)?;
    for (before, sql) in (0..).zip(FORMS).skip_while(|(before, _)| *before < found) {
        transaction.execute_batch(sql)?;
        if before == 1 {
            ledger::begin(&transaction, folder)?;
        }
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    disk.commit_point(database)?;
    transaction.commit()?;
    disk.commit_point(database)?;
    disk.sync_dir(folder)?;
    Ok((connection, found == 0))
}

fn connect_for_reading(database: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let connection = Connection::open_with_flags(database, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let form = form(&connection)?;
        Ok((connection, form))
    };
    let (connection, form) = match open() {
        // In a folder that cannot be written to, SQLite cannot make the small file through which readers and writers
        // agree. Without a log beside it the database is at rest, and may be read as it lies.
        Err(StoreError::Database { .. } | StoreError::Io { .. } | StoreError::ReadOnly { .. })
            if at_rest(database) =>
        {
            let connection = Connection::open_with_flags(
                immutable_uri(database),
                flags | OpenFlags::SQLITE_OPEN_URI,
            )?;
            let form = form(&connection)?;
            (connection, form)
        }
        other => other?,
    };
    if form == 0 {
        let dir = database.parent().unwrap_or(Path::new(".")).to_owned();
        return Err(StoreError::Absent { dir });
    }
    Ok(connection)
}

/// Whether no other process can have committed anything that is not in the database file yet.
fn at_rest(database: &Path) -> bool {
    let mut log = database.as_os_str().to_owned();
    log.push("-wal");
    std::fs::metadata(log).map_or(true, |it| it.len() == 0)
}

fn immutable_uri(database: &Path) -> String {
    use std::{fmt::Write as _, os::unix::ffi::OsStrExt as _};
    let mut uri = "file:".to_owned();
    for byte in database.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                uri.push(char::from(*byte))
            }
            _ => write!(uri, "%{byte:02x}").expect("writing to a string cannot fail"),
        }
    }
    uri + "?immutable=1"
}

/// Which of our forms a database has; 0 for an empty file.
fn form(connection: &Connection) -> Result<i64, StoreError> {
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (application, version) = (number("application_id")?, number("user_version")?);
    let n_tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
    match (application, version) {
        (0, 0) if n_tables == 0 => Ok(0),
        (APPLICATION_ID, found @ 1..=SCHEMA_VERSION) => Ok(found),
        (APPLICATION_ID, found) if SCHEMA_VERSION < found => {
            Err(StoreError::TooNew { dir: PathBuf::new(), found, supported: SCHEMA_VERSION })
        }
        (APPLICATION_ID, found) => Err(StoreError::Corrupt {
            dir: PathBuf::new(),
            reason: format!("`{DATABASE}` has form {found}, which never existed"),
        }),
        (other, _) => Err(StoreError::Corrupt {
            dir: PathBuf::new(),
            reason: format!("`{DATABASE}` belongs to another program (application id {other:#x})"),
        }),
    }
}

/// Settings of one connection. `NORMAL` may lose the last commits when the power fails, so `FULL`.
fn configure(connection: &Connection) -> Result<(), StoreError> {
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "recursive_triggers", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(())
}

/// Two processes that create one store meet here, and this pragma does not wait for locks by itself.
fn switch_to_wal(connection: &Connection) -> Result<(), StoreError> {
    const PAUSE: Duration = Duration::from_millis(20);
    let mut waited = Duration::ZERO;
    loop {
        let result = connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0));
        match result.map_err(StoreError::from) {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(mode) => {
                return Err(StoreError::Corrupt {
                    dir: PathBuf::new(),
                    reason: format!("SQLite keeps journal mode `{mode}` here, WAL is needed"),
                });
            }
            Err(StoreError::Busy { .. }) if waited < BUSY_TIMEOUT => {
                std::thread::sleep(PAUSE);
                waited += PAUSE;
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(target_os = "linux")]
fn refuse_network_fs(dir: &Path) -> Result<(), StoreError> {
    // The folder may not exist yet; then what counts is where it would be made.
    let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let Some(found) = absolute.ancestors().find_map(|it| rustix::fs::statfs(it).ok()) else {
        return Ok(());
    };
    // The magic is a 32-bit number whose width differs between platforms.
    let magic = found.f_type as u32;
    network_fs(magic)
        .map_or(Ok(()), |kind| Err(StoreError::NetworkFs { dir: dir.to_owned(), kind }))
}

#[cfg(not(target_os = "linux"))]
fn refuse_network_fs(_dir: &Path) -> Result<(), StoreError> {
    Ok(())
}

/// The name of a network file system, by its magic number.
pub(crate) fn network_fs(magic: u32) -> Option<&'static str> {
    NETWORK_FS.iter().find(|(known, _)| *known == magic).map(|(_, kind)| *kind)
}
