//! What follows from numbers: metrics, intervals, tests. No clock, file, thread.
//!
//! Metrics and statistics are here with their golden values; the checks, and the rules that turn intervals into a
//! verdict, are built on them next.
//!
//! Reading order: [`metric`], [`sample`], [`bootstrap`], [`auc`], [`paired`], [`permutation`], [`normal`], [`parallel`].

pub mod auc;
pub mod bootstrap;
pub mod metric;
pub mod normal;
pub mod paired;
pub mod parallel;
pub mod permutation;
pub mod sample;
#[cfg(test)]
mod testing;

pub use parallel::{Parallel, Serial};
