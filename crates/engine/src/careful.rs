//! Work on a device that may run out of memory or be lost.
//!
//! An update's batch is cut into micro-batches whose gradients are added, so fewer rows at once change neither the batch nor
//! the masks (dropout is drawn by the row's place in the batch). They change the order of additions and so last bits: a
//! cut that the spec did not ask for is told and recorded, and a resumed run cuts the same way.

use karat_core::{
    Event, TrainSpec,
    port::{TrainIo, TrainState},
    thousands,
};
use karat_models::Config;

use crate::{device::Opened, error::TrainError, evaluate, memory};

/// Halvings in one training: 65,536 rows, the most a batch may have, become 1.
const HALVINGS_MAX: u32 = 16;

/// One training's dealings with its device.
pub(crate) struct Careful<'a> {
    opened: &'a Opened,
    /// Rows of one forward and backward pass.
    n_rows: usize,
    /// Rows of one forward pass.
    n_evaluate: usize,
    /// Whether they may become fewer in the middle of a run.
    may_halve: bool,
    n_halvings: u32,
    /// Update of the last checkpoint.
    pub(crate) kept: Option<u64>,
}

impl<'a> Careful<'a> {
    /// As many rows at once as `spec` asks for, or as `state` remembers, or as fit.
    pub(crate) fn new(
        opened: &'a Opened,
        spec: &TrainSpec,
        config: &Config,
        state: &mut TrainState,
        io: &mut dyn TrainIo,
    ) -> Result<Self, TrainError> {
        let wanted = spec.batch_size.div_ceil(spec.accumulate.max(1)) as usize;
        let available = spec.memory_max.or(opened.facts.memory);
        let n_rows = match state.rows_at_once {
            Some(known) => known as usize,
            None => memory::rows_that_fit(config, wanted, available)?,
        };
        if n_rows < wanted && state.rows_at_once.is_none() {
            let memory = available.unwrap_or_default() >> 20;
            let what = format!("{} MiB hold fewer rows than the batch", thousands(memory));
            state.rows_at_once = u32::try_from(n_rows).ok();
            tell(&what, n_rows, wanted, state, io);
        }
        Ok(Self {
            opened,
            n_rows,
            n_evaluate: memory::rows_that_fit(config, evaluate::ROWS, available)?,
            may_halve: !spec.device_policy.is_deterministic,
            n_halvings: 0,
            kept: None,
        })
    }

    /// Does `work` with as many rows at once as fit. `work` begins anew each time.
    pub(crate) fn in_parts<T>(
        &mut self,
        state: &mut TrainState,
        io: &mut dyn TrainIo,
        mut work: impl FnMut(usize, &mut dyn TrainIo) -> Result<T, TrainError>,
    ) -> Result<T, TrainError> {
        loop {
            let n_rows = self.n_rows;
            match self.opened.attempt(n_rows, || work(n_rows, &mut *io)) {
                Err(error @ TrainError::OutOfMemory { .. }) => {
                    self.n_rows = self.fewer(n_rows, error)?;
                }
                result => return result.map_err(|error| self.lost(state, error)),
            }
            state.rows_at_once = u32::try_from(self.n_rows).ok();
            let what = format!("out of memory in update {}", thousands(state.update + 1));
            tell(&what, self.n_rows, n_rows, state, io);
        }
    }

    /// As [`Careful::in_parts`], for work without a way back.
    pub(crate) fn evaluate<T>(
        &mut self,
        state: &mut TrainState,
        io: &mut dyn TrainIo,
        mut work: impl FnMut(usize) -> Result<T, TrainError>,
    ) -> Result<T, TrainError> {
        loop {
            let n_rows = self.n_evaluate;
            match self.opened.attempt(n_rows, || work(n_rows)) {
                Err(error @ TrainError::OutOfMemory { .. }) => {
                    self.n_evaluate = self.fewer(n_rows, error)?;
                }
                result => return result.map_err(|error| self.lost(state, error)),
            }
            let what = format!("out of memory evaluating update {}", thousands(state.update));
            tell(&what, self.n_evaluate, n_rows, state, io);
        }
    }

    /// Does `work` that cannot be cut.
    pub(crate) fn whole<T>(
        &self,
        state: &TrainState,
        work: impl FnOnce() -> Result<T, TrainError>,
    ) -> Result<T, TrainError> {
        self.opened.attempt(0, work).map_err(|error| self.lost(state, error))
    }

    /// Half of `n_rows`, or `error` when that will not help.
    fn fewer(&mut self, n_rows: usize, error: TrainError) -> Result<usize, TrainError> {
        if n_rows <= 1 || !self.may_halve || self.n_halvings == HALVINGS_MAX {
            return Err(error);
        }
        self.n_halvings += 1;
        // What the failed attempt left must go before the next one.
        self.opened.device.memory_cleanup();
        Ok(n_rows.div_ceil(2))
    }

    /// Says what is still true after a device was lost.
    fn lost(&self, state: &TrainState, error: TrainError) -> TrainError {
        let TrainError::Device { message } = error else { return error };
        let device = self.opened.name.to_string();
        TrainError::DeviceLost { device, message, update: state.update, kept: self.kept }
    }
}

/// Tells and records that fewer rows go through at once.
fn tell(what: &str, now: usize, before: usize, state: &mut TrainState, io: &mut dyn TrainIo) {
    let [now, before] = [now, before].map(|n| thousands(n as u64));
    let message = format!("{what}: {now} rows at once instead of {before}; the batch stays");
    state.remarks.push(message.clone());
    io.observe(Event::Warned { code: "rows-at-once-halved".to_owned(), message });
}
