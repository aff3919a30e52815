//! The lifecycle with fakes of both ports: what is done again and what is not, what survives a failure at every durable
//! effect, what a stopped training leaves, what moves an alias.
//!
//! Reading order: `bench` (a project with one dataset and a gate), then one file a question.

mod bench;
mod cache;
mod crash;
mod ledger;
mod limit;
mod measures;
mod meddled;
mod plan_eval;
mod promotion;
mod replay;
mod resume;
mod seeds;
mod signatures;
