//! What follows from numbers: checks, metrics, intervals, tests, verdicts. No clock, file, thread.
//!
//! Three questions are answered here: [`check()`](check::check) says what is wrong with a snapshot, [`report()`] how good a
//! model is and where, [`decide()`] whether it may replace the one before it.
//!
//! Reading order: [`mod@decide`], [`estimate`], [`metric`], [`predictions`], [`votes`], [`sample`], [`slice`](mod@slice), [`bootstrap`], [`auc`], [`paired`],
//! [`permutation`], [`wilcoxon`], [`correction`], [`power`], [`reuse`], [`normal`], [`parallel`]; [`mod@report`]. Alone stand
//! [`mod@check`]; [`evalue`], [`looks`] and [`online`], which are for data that keeps coming; [`drift`]; [`agreement`] on labels.

pub mod agreement;
pub mod auc;
pub mod bootstrap;
pub mod check;
pub mod correction;
pub mod decide;
pub mod drift;
pub mod estimate;
pub mod evalue;
pub mod looks;
pub mod metric;
pub mod naive;
pub mod normal;
mod number;
pub mod online;
pub mod paired;
pub mod parallel;
pub mod permutation;
pub mod power;
pub mod predictions;
pub mod report;
pub mod reuse;
pub mod sample;
pub mod slice;
#[cfg(test)]
mod testing;
pub mod votes;
pub mod wilcoxon;

pub use decide::{
    GateInput, decide,
    explain::{demand_rule, explain},
};
pub use parallel::{Parallel, Serial};
pub use report::report;
