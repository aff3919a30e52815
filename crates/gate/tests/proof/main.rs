//! Proof by simulation that the gate is wrong as seldom as it says: models that are exactly as bad as allowed (false passes),
//! intervals around known truths (coverage), differences of a planned size (power), and inputs at the edge.
//!
//! Every number is a pure function of fixed seeds, so a test passes always or never. What a rate may be follows from how often
//! it was tried: α + 3 √(α(1 − α)/N) for a false pass, 0.95 ± 3 √(0.95 · 0.05/N) for coverage. `ci/run full` tries 20,000 gates a
//! test (false passes up to 0.0546) and 2,000 intervals (0.935 to 0.965) by compiling with `KARAT_PROOF=full`; without, each test
//! tries a tenth to a fifth and takes seconds.
//!
//! Reading order: [`simulate`], `false_pass.rs`, `coverage.rs`, `power.rs`, `properties.rs`, `edges.rs`.

mod coverage;
mod edges;
mod false_pass;
mod power;
mod properties;
mod simulate;
