//! Who works on a run, and whether that is still so.
//!
//! On the same machine the question is answered exactly: the process with that id either runs and began at that moment,
//! or it is gone. Only for other machines (or another container's process ids) the age of the last heartbeat decides.
//! Being wrong is safe either way: every commit checks the attempt number.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use karat_core::Timestamp;
use serde::{Deserialize, Serialize};

use crate::store::lock;

/// Age of a heartbeat, ms, from which a process that cannot be seen counts as dead.
const HEARTBEAT_AGE_MAX: u64 = 60_000;

/// A process that works on a run, as recorded with the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    /// Boot id and process id namespace; empty where there is no way to tell.
    host: String,
    /// Its name, for people.
    host_name: String,
    pid: u32,
    /// Start of the process in clock ticks since boot: process ids are used again.
    started: u64,
    /// Which open store of that process.
    instance: u64,
}

/// Instances of this process that are open.
static OPEN: Mutex<BTreeSet<u64>> = Mutex::new(BTreeSet::new());

/// One open store of this process.
pub(crate) struct Instance(u64);

impl Instance {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        lock(&OPEN).insert(n);
        Self(n)
    }

    pub(crate) fn owner(&self) -> Owner {
        let pid = std::process::id();
        Owner {
            host: host(),
            host_name: host_name(),
            pid,
            started: started(pid).unwrap_or(0),
            instance: self.0,
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        lock(&OPEN).remove(&self.0);
    }
}

impl Owner {
    /// Whether the owner may still be at work.
    pub(crate) fn is_at_work(&self, heartbeat_at: Timestamp, now: Timestamp) -> bool {
        if self.host.is_empty() || self.host != host() {
            return now.0.abs_diff(heartbeat_at.0) < HEARTBEAT_AGE_MAX;
        }
        match started(self.pid) {
            Some(started) if started == self.started => {
                self.pid != std::process::id() || lock(&OPEN).contains(&self.instance)
            }
            Some(_) | None => false,
        }
    }

    /// `process 4711 on build-3`.
    pub(crate) fn describe(&self) -> String {
        format!("process {} on {}", self.pid, self.host_name)
    }
}

fn host() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let namespace = std::fs::read_link("/proc/self/ns/pid");
    match (boot, namespace) {
        (Ok(boot), Ok(namespace)) => format!("{} {}", boot.trim(), namespace.display()),
        _ => String::new(),
    }
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "this machine".to_owned(), |name| name.trim().to_owned())
}

/// When a living process began; `None` for one that is gone or only waits to be reaped.
fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name stands in parentheses and may itself hold some.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    // Field 22 of proc(5); the state was field 3.
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use karat_core::Timestamp;

    use super::Instance;

    #[test]
    fn a_lease_ends_with_its_process_and_elsewhere_with_its_heartbeat() {
        let (now, long_ago) = (Timestamp(10_000_000), Timestamp(0));
        let instance = Instance::new();
        let owner = instance.owner();
        assert!(
            owner.is_at_work(long_ago, now),
            "a living process keeps its lease through a long silence"
        );
        let mut recycled = owner.clone();
        recycled.started += 1;
        assert!(!recycled.is_at_work(now, now), "the same process id, another process");
        let mut elsewhere = owner.clone();
        elsewhere.host = "another boot".to_owned();
        assert!(elsewhere.is_at_work(Timestamp(now.0 - 59_999), now));
        assert!(!elsewhere.is_at_work(Timestamp(now.0 - 60_000), now));
        assert!(
            !elsewhere.is_at_work(Timestamp(now.0 + 86_400_000), now),
            "a clock that was set back"
        );
        drop(instance);
        assert!(!owner.is_at_work(now, now), "a store that was closed");
    }
}
