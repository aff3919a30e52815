//! Why the store could not do something. Every message says what is still true.

use std::{io, path::PathBuf};

use karat_core::{Code, Coded, Digest, Exit, Name, Outcome, RunId, Timestamp, thousands};
use rusqlite::ErrorCode;

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message beside each variant says what its fields are")]
pub enum StoreError {
    #[error("cannot {action} `{}`", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },

    #[error("cannot {action} `{}`: the disk is full", path.display())]
    DiskFull {
        action: &'static str,
        path: PathBuf,
        n_bytes: Option<u64>,
        source: Option<io::Error>,
    },

    #[error("`{}` cannot be written to", path.display())]
    ReadOnly { path: PathBuf, source: Option<io::Error> },

    #[error("`{}` does not exist: nothing has been run here", dir.display())]
    Absent { dir: PathBuf },

    #[error("the store in `{}` has form {found}, this build knows form {supported}", dir.display())]
    TooNew { dir: PathBuf, found: i64, supported: i64 },

    #[error("the store in `{}` is damaged or not a karat store: {reason}", dir.display())]
    Corrupt { dir: PathBuf, reason: String },

    #[error("`{}` lies on a network file system ({kind}), where SQLite cannot lock safely", dir.display())]
    NetworkFs { dir: PathBuf, kind: &'static str },

    #[error("another process has kept the store in `{}` locked for {seconds} s", dir.display())]
    Busy { dir: PathBuf, seconds: u64 },

    #[error("the database in `{}` refused a request", dir.display())]
    Database { dir: PathBuf, source: Box<rusqlite::Error> },

    #[error("{what} is not in the form this build reads")]
    Record { what: String, source: Box<dyn std::error::Error + Send + Sync> },

    #[error("object `{}` is not in the store", digest.short())]
    ObjectMissing { digest: Digest },

    #[error("object `{}` does not match its digest", expected.short())]
    ObjectCorrupt { expected: Digest, found: Option<Digest>, n_bytes: u64 },

    #[error("run `{run}` ({step}) is in progress: {owner}")]
    RunInProgress { run: RunId, step: &'static str, owner: String, beaten_at: Timestamp },

    #[error(
        "run `{run}` was taken over: this is attempt {attempt}, the newest is {newest} ({state})"
    )]
    LeaseLost { run: RunId, attempt: u32, newest: u32, state: &'static str },

    #[error("no run `{asked}`")]
    RunUnknown { asked: String, near: Vec<String> },

    #[error("`{asked}` is the beginning of {} runs", matches.len())]
    RunAmbiguous { asked: String, matches: Vec<String> },

    #[error("no snapshot `{}`", digest.short())]
    SnapshotUnknown { digest: Digest },

    #[error("no model `{asked}`")]
    ModelUnknown { asked: Name, near: Vec<String> },

    #[error("model `{model}` has no version {asked}")]
    VersionUnknown { model: Name, asked: u32, newest: u32 },

    #[error("model `{model}` has no alias `{asked}`")]
    AliasUnknown { model: Name, asked: Name, near: Vec<String> },

    #[error("no verdict `{}` is on record", digest.short())]
    VerdictUnknown { digest: Digest },

    #[error("the ledger of what was shown is not as it was written: {reason}")]
    LedgerBroken { reason: String },

    #[error("the verdict of gate `{gate}` on `{candidate}` is {}", outcome.word())]
    VerdictNotPassed { gate: String, candidate: String, outcome: Outcome },

    #[error("verdict `{}` is not about `{asked}`", verdict.short())]
    VerdictMismatch { verdict: Digest, asked: String, asked_manifest: Digest, judged: Digest },

    #[error("{0}")]
    PromotionConflict(Box<Conflict>),

    #[error("`{model}@{alias}` cannot be rolled back: {reason}")]
    RollbackImpossible { model: Name, alias: Name, reason: String, details: Vec<String> },
}

/// Somebody moved the alias first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The model.
    pub model: Name,
    /// The alias.
    pub alias: Name,
    /// The version that was to be promoted.
    pub to: u32,
    /// What the candidate was judged against, when that is what no longer holds.
    pub judged_against: Option<String>,
    /// Where the alias points now: version, who moved it, when.
    pub now: Option<(u32, String, Timestamp)>,
}

impl std::fmt::Display for Conflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { model, alias, to, judged_against, .. } = self;
        match judged_against {
            Some(_) => write!(f, "`{model}@{alias}` moved after {model}@{to} was judged"),
            None => write!(f, "`{model}@{alias}` moved while {model}@{to} was being promoted"),
        }
    }
}

/// errno of a full disk and of a spent quota.
const NO_SPACE: [i32; 2] = [28, 122];
/// errno of a file system mounted read-only.
const READ_ONLY_FS: i32 = 30;

impl StoreError {
    /// A failed system call; `n_bytes` is what was to be written.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
        n_bytes: Option<u64>,
        source: io::Error,
    ) -> Self {
        let path = path.into();
        match source.raw_os_error() {
            Some(errno) if NO_SPACE.contains(&errno) => {
                Self::DiskFull { action, path, n_bytes, source: Some(source) }
            }
            Some(READ_ONLY_FS) => Self::ReadOnly { path, source: Some(source) },
            _ if source.kind() == io::ErrorKind::PermissionDenied => {
                Self::ReadOnly { path, source: Some(source) }
            }
            _ => Self::Io { action, path, source },
        }
    }

    /// Names the store in errors that came from the database, which does not know where it lies.
    pub(crate) fn at(mut self, store: &std::path::Path) -> Self {
        if let Self::TooNew { dir, .. }
        | Self::Corrupt { dir, .. }
        | Self::Busy { dir, .. }
        | Self::Database { dir, .. } = &mut self
            && dir.as_os_str().is_empty()
        {
            store.clone_into(dir);
        }
        if let Self::DiskFull { path, .. } | Self::Io { path, .. } | Self::ReadOnly { path, .. } =
            &mut self
            && path.as_os_str().is_empty()
        {
            *path = store.join(crate::store::DATABASE);
        }
        self
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        if let rusqlite::Error::FromSqlConversionFailure(..) = error {
            return Self::Record { what: "a row of the store".to_owned(), source: Box::new(error) };
        }
        let (path, dir, action) = (PathBuf::new(), PathBuf::new(), "write to");
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => {
                Self::DiskFull { action, path, n_bytes: None, source: None }
            }
            Some(ErrorCode::SystemIoFailure) => {
                Self::Io { action, path, source: io::Error::other(error) }
            }
            Some(ErrorCode::ReadOnly) => {
                Self::ReadOnly { path, source: Some(io::Error::other(error)) }
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Self::Busy { dir, seconds: crate::store::BUSY_TIMEOUT.as_secs() }
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Corrupt { dir, reason: error.to_string() }
            }
            _ => Self::Database { dir, source: Box::new(error) },
        }
    }
}

impl Coded for StoreError {
    fn code(&self) -> Code {
        Code::new(match self {
            Self::Io { .. } => "store-io",
            Self::DiskFull { .. } => "store-disk-full",
            Self::ReadOnly { .. } => "store-read-only",
            Self::Absent { .. } => "store-absent",
            Self::TooNew { .. } => "store-too-new",
            Self::Corrupt { .. } => "store-corrupt",
            Self::NetworkFs { .. } => "store-network-fs",
            Self::Busy { .. } => "store-busy",
            Self::Database { .. } => "store-database",
            Self::Record { .. } => "record-unreadable",
            Self::ObjectMissing { .. } => "object-missing",
            Self::ObjectCorrupt { .. } => "object-corrupt",
            Self::RunInProgress { .. } => "run-in-progress",
            Self::LeaseLost { .. } => "lease-lost",
            Self::RunUnknown { .. } => "run-unknown",
            Self::RunAmbiguous { .. } => "run-ambiguous",
            Self::SnapshotUnknown { .. } => "snapshot-unknown",
            Self::ModelUnknown { .. } => "model-unknown",
            Self::VersionUnknown { .. } => "version-unknown",
            Self::AliasUnknown { .. } => "alias-unknown",
            Self::VerdictUnknown { .. } => "verdict-missing",
            Self::VerdictNotPassed { .. } => "verdict-not-passed",
            Self::VerdictMismatch { .. } => "verdict-mismatch",
            Self::LedgerBroken { .. } => "ledger-broken",
            Self::PromotionConflict(_) => "promotion-conflict",
            Self::RollbackImpossible { .. } => "rollback-impossible",
        })
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Absent { .. }
            | Self::RunUnknown { .. }
            | Self::RunAmbiguous { .. }
            | Self::SnapshotUnknown { .. }
            | Self::ModelUnknown { .. }
            | Self::VersionUnknown { .. }
            | Self::AliasUnknown { .. } => Exit::Usage,
            Self::VerdictUnknown { .. } | Self::VerdictMismatch { .. } => Exit::Fail,
            Self::VerdictNotPassed { outcome: Outcome::Inconclusive, .. } => Exit::Inconclusive,
            Self::VerdictNotPassed { .. } => Exit::Fail,
            _ => Exit::Run,
        }
    }

    fn details(&self) -> Vec<String> {
        match self {
            Self::Io { .. } => vec!["nothing was committed".to_owned()],
            Self::DiskFull { n_bytes, .. } => {
                let needed = n_bytes.map(|it| format!("{} bytes were needed", thousands(it)));
                needed.into_iter().chain(["nothing was committed".to_owned()]).collect()
            }
            Self::ReadOnly { .. } => vec!["nothing was changed".to_owned()],
            Self::ObjectMissing { digest } => vec![format!("digest {digest}")],
            Self::ObjectCorrupt { expected, found, n_bytes } => vec![match found {
                Some(found) => format!(
                    "expected {expected}, found {found} ({} bytes read)",
                    thousands(*n_bytes)
                ),
                None => format!(
                    "{expected} has {} bytes, its record says otherwise",
                    thousands(*n_bytes)
                ),
            }],
            Self::RunInProgress { beaten_at, .. } => vec![format!("last sign of life {beaten_at}")],
            Self::LeaseLost { .. } => vec!["nothing was committed by this attempt".to_owned()],
            Self::RunUnknown { near, .. } | Self::ModelUnknown { near, .. } => nearest_are(near),
            Self::AliasUnknown { near, .. } => nearest_are(near),
            Self::RunAmbiguous { matches, .. } => {
                vec![format!("they are `{}`", matches.join("`, `"))]
            }
            Self::VersionUnknown { model, newest, .. } => {
                vec![format!("the newest is {model}@{newest}")]
            }
            Self::LedgerBroken { .. } => vec!["nothing was judged".to_owned()],
            Self::VerdictNotPassed { .. } => vec!["nothing was promoted".to_owned()],
            Self::VerdictMismatch { asked, asked_manifest, judged, .. } => vec![
                format!("{asked} is {asked_manifest}"),
                format!("the verdict judged {judged}"),
                "nothing was promoted".to_owned(),
            ],
            Self::PromotionConflict(conflict) => {
                let Conflict { model, judged_against, now, .. } = &**conflict;
                let judged = judged_against
                    .as_ref()
                    .map_or_else(String::new, |it| format!("judged against {it}; "));
                let now = match now {
                    Some((version, actor, at)) => {
                        format!("the alias now points to {model}@{version} (moved {at} by {actor})")
                    }
                    None => "the alias points to nothing now".to_owned(),
                };
                vec![format!("{judged}{now}"), "nothing was promoted".to_owned()]
            }
            Self::RollbackImpossible { details, .. } => {
                details.iter().cloned().chain(["the alias was left as it is".to_owned()]).collect()
            }
            _ => Vec::new(),
        }
    }

    fn hints(&self) -> Vec<String> {
        let hint = match self {
            Self::Absent { .. } => {
                "`karat run` does everything from snapshot to promotion".to_owned()
            }
            Self::DiskFull { .. } => {
                "`karat gc` removes what nothing names; the same command then continues".to_owned()
            }
            Self::TooNew { .. } => {
                "a newer karat wrote it; `karat --version` prints this build's".to_owned()
            }
            Self::NetworkFs { .. } => "put the project on a local disk".to_owned(),
            Self::Busy { .. } => {
                "the same command works when the other process has ended".to_owned()
            }
            Self::ObjectMissing { .. } | Self::ObjectCorrupt { .. } => {
                "`karat verify` lists all damage; `karat run` makes lost outputs again".to_owned()
            }
            Self::RunInProgress { .. } => {
                "wait for it to end, or stop it; the same command then continues".to_owned()
            }
            Self::LeaseLost { run, .. } => format!("`karat show {run}` shows who continues it"),
            Self::RunUnknown { .. } | Self::RunAmbiguous { .. } => {
                "`karat runs` lists all runs".to_owned()
            }
            Self::ModelUnknown { .. } | Self::AliasUnknown { .. } => {
                "`karat alias` lists models and aliases".to_owned()
            }
            Self::LedgerBroken { .. } => {
                "`karat verify` lists all damage; a copy of `.karat` from before it is the way back"
                    .to_owned()
            }
            Self::PromotionConflict(conflict) => {
                let Conflict { model, to, now, .. } = &**conflict;
                let Some((version, ..)) = now else { return Vec::new() };
                format!("`karat gate {model}@{to}` judges it against {model}@{version}")
            }
            _ => return Vec::new(),
        };
        vec![hint]
    }
}

fn nearest_are(near: &[String]) -> Vec<String> {
    if near.is_empty() { Vec::new() } else { vec![format!("known are `{}`", near.join("`, `"))] }
}
