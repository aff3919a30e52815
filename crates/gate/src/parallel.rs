//! Where loops run. This crate starts no thread: whoever has threads lends them through [`Parallel`].
//!
//! The bits of every result are independent of the implementation: work is cut into chunks whose bounds depend on sizes
//! only, each chunk writes to a place of its own, and results are combined in order.

use std::sync::OnceLock;

/// Runs a loop, in any order, on as many threads as it likes.
pub trait Parallel: Sync {
    /// Calls `work` once for every number in `0..n` and returns when all are done.
    fn for_each(&self, n: usize, work: &(dyn Fn(usize) + Sync));
}

/// One after the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Serial;

impl Parallel for Serial {
    fn for_each(&self, n: usize, work: &(dyn Fn(usize) + Sync)) {
        (0..n).for_each(work);
    }
}

/// `work(0), …, work(n − 1)`, in order.
pub(crate) fn map<T: Send + Sync>(
    parallel: &dyn Parallel,
    n: usize,
    work: impl Fn(usize) -> T + Sync,
) -> Vec<T> {
    let slots: Vec<OnceLock<T>> = (0..n).map(|_| OnceLock::new()).collect();
    parallel.for_each(n, &|i| {
        // A second call for the same number computes the same value, so losing it loses nothing.
        let _ = slots[i].set(work(i));
    });
    slots.into_iter().map(|slot| slot.into_inner().expect("for_each calls every number")).collect()
}
