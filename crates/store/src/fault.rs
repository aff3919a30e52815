//! A disk that fails on purpose: for tests only.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Mutex,
};

use crate::store::lock;

/// Which durable effect fails, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultPlan {
    /// The effect that fails, counted from 0 when the store is opened.
    pub fail_at: u64,
    /// How.
    pub kind: FaultKind,
}

/// How an effect fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// As if the process died: this effect and all after it fail, a write is left half done, nothing is tidied up.
    Crash,
    /// As if the disk was full once: only this effect fails, with ENOSPC, and the process goes on.
    Full,
}

impl FaultPlan {
    /// Dies at effect `n`.
    #[must_use]
    pub const fn crash_at(n: u64) -> Self {
        Self { fail_at: n, kind: FaultKind::Crash }
    }

    /// Finds the disk full at effect `n`.
    #[must_use]
    pub const fn full_at(n: u64) -> Self {
        Self { fail_at: n, kind: FaultKind::Full }
    }
}

/// A plan being carried out, and what has happened so far.
pub(crate) struct Faults {
    plan: FaultPlan,
    seen: Mutex<Vec<(&'static str, PathBuf)>>,
}

impl Faults {
    pub(crate) fn new(plan: FaultPlan) -> Self {
        Self { plan, seen: Mutex::default() }
    }

    /// Counts one effect.
    pub(crate) fn next(&self, what: &'static str, path: &Path) -> io::Result<()> {
        let mut seen = lock(&self.seen);
        let n = seen.len() as u64;
        seen.push((what, path.to_owned()));
        match self.plan.kind {
            FaultKind::Crash if self.plan.fail_at <= n => Err(io::Error::other(format!(
                "injected crash at effect {n}: {what} {}",
                path.display()
            ))),
            FaultKind::Full if self.plan.fail_at == n => Err(io::Error::from_raw_os_error(28)),
            FaultKind::Crash | FaultKind::Full => Ok(()),
        }
    }

    /// Effects so far.
    pub(crate) fn n_seen(&self) -> u64 {
        lock(&self.seen).len() as u64
    }

    /// All effects in order.
    #[cfg(test)]
    pub(crate) fn seen(&self) -> Vec<(&'static str, PathBuf)> {
        lock(&self.seen).clone()
    }
}
