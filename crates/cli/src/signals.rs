//! SIGINT and SIGTERM: the first asks for a checkpoint, the second ends at once.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use karat_core::{Exit, port::Stop};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

/// Set by the first signal.
#[derive(Clone)]
pub(crate) struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Listens from now on. Where the system refuses handlers, signals end the process as they always do.
    pub(crate) fn listen() -> Self {
        let is_set = Arc::new(AtomicBool::new(false));
        for (signal, exit) in [(SIGINT, Exit::Interrupted), (SIGTERM, Exit::Terminated)] {
            // In this order: the second signal of either kind finds the flag set and ends the process.
            let _ = flag::register_conditional_shutdown(
                signal,
                i32::from(exit.code()),
                Arc::clone(&is_set),
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
