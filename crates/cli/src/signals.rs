//! SIGINT and SIGTERM. Where a command asks whether to stop, the first asks for a checkpoint and the second ends at once;
//! everywhere else the first ends the process, with the exit code that says so.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use karat_core::{Exit, port::Stop};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

/// What the first signal does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FirstSignal {
    /// Sets the flag: the command looks at it between units of work and leaves a checkpoint.
    Asks,
    /// Ends the process: the command never looks, and a crash at any point loses nothing.
    Ends,
}

/// Set by the first signal.
#[derive(Clone)]
pub(crate) struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Listens from now on. Where the system refuses handlers, signals end the process as they always do.
    pub(crate) fn listen(first: FirstSignal) -> Self {
        let is_set = Arc::new(AtomicBool::new(false));
        let ends = match first {
            FirstSignal::Asks => Arc::clone(&is_set),
            FirstSignal::Ends => Arc::new(AtomicBool::new(true)),
        };
        for (signal, exit) in [(SIGINT, Exit::Interrupted), (SIGTERM, Exit::Terminated)] {
            // In this order: the second signal of either kind finds the flag set and ends the process.
            let _ = flag::register_conditional_shutdown(
                signal,
                i32::from(exit.code()),
                Arc::clone(&ends),
            );
            let _ = flag::register(signal, Arc::clone(&is_set));
        }
        Self(is_set)
    }
}

impl Stop for StopFlag {
    fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
