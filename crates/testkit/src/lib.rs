//! Sandbox, fakes and fixtures for tests. A dev-dependency only.
//!
//! Reading order: [`sandbox`] (the binary in a folder of its own), [`fixture`] (small data with a known relation),
//! [`fake`] (the two ports without tables and devices).

pub mod fake;
pub mod fixture;
pub mod picture;
mod repository;
pub mod sandbox;

pub use fake::{MemoryTables, ScriptedEngine};
pub use sandbox::{Ran, Sandbox};
