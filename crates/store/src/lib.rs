//! Everything durable: artifacts, metadata, the commit protocol.
//!
//! One promise holds everywhere: *a row never names bytes that are not there*. Bytes come first (scratch file, write,
//! fsync, rename, fsync of the directory), the row that names them second, in one transaction that looks at the file
//! again. Bytes go the other way round: first the row, then, under the same write lock that every new row needs, the
//! file. A crash between any two of these leaves files that nothing names, and [`Store::gc`] removes those.
//!
//! What this crate never does: it reads no clock except the kernel's file times (time is a `Timestamp` argument), reads
//! no environment, prints nothing, retries no failed fsync, turns no name of a user into a path.
//!
//! Reading order: [`Store`], `disk`, `objects`, `runs`, `checkpoints`, `registry`, `chain`, `promote`, `ledger`,
//! `maintain`, `browse`.

mod browse;
mod chain;
mod checkpoints;
mod disk;
mod error;
#[cfg(any(test, feature = "testing"))]
mod fault;
mod lease;
mod ledger;
mod maintain;
mod objects;
mod promote;
mod registry;
mod row;
mod run_log;
mod runs;
mod snapshots;
mod store;
#[cfg(test)]
mod tests;

pub use browse::{
    Counts, ModelRow, PAGE_ROWS_MAX, Page, RunLogFile, RunOrder, RunQuery, RunRow, SnapshotRow,
    Span, VerdictRow,
};
pub use checkpoints::{CheckpointRecord, LoadedCheckpoint};
pub use disk::{append, move_durably, write_durably};
pub use error::{Conflict, StoreError};
#[cfg(any(test, feature = "testing"))]
pub use fault::{FaultKind, FaultPlan};
pub use ledger::{Ledger, LedgerEntry, Look, Place};
pub use maintain::{GcReport, VerifyReport};
pub use objects::Staged;
pub use promote::{AliasRecord, Authority, PromoteRequest, Promotion};
pub use registry::VersionRecord;
pub use run_log::{Evaluations, RunLog};
pub use runs::{RunEnd, RunHandle, RunRecord, RunStart, RunState};
pub use store::{Access, Store};
