//! How numbers run on a device: train, resume, score.
//!
//! [`BurnEngine`] is `core`'s `Engine` on burn. Models and the graph are burn's; the operations are `karat_kernels`', whose
//! bits do not depend on threads or batching. No generator of burn's is used: every random number is a function of
//! (seed, purpose, name, position), so a resume needs no generator's state.
//!
//! Nothing here looks at the environment, prints, or relies on burn's default device.
//!
//! Reading order: [`train`] (the loop), [`update`], [`optimizer`], [`schedule`], [`sampling`],
//! [`checkpoint`], [`evaluate`], [`network`], [`score`], [`work`], [`device`].

use karat_core::{
    Environment, Failure, FeaturePlan, TrainSpec,
    port::{CheckpointFiles, DeviceReport, Engine, Scoring, TrainEnd, TrainIo, Work},
};

mod batch;
mod checkpoint;
mod device;
mod error;
mod evaluate;
mod network;
mod optimizer;
mod sampling;
mod schedule;
mod score;
#[cfg(test)]
mod tests;
mod train;
mod update;
mod work;

pub use error::{ResumeError, TrainError};
pub use schedule::{Order, Schedule};

/// Trains and scores on burn's devices. This build has one: `cpu`.
#[derive(Clone, Copy, Debug, Default)]
pub struct BurnEngine;

impl Engine for BurnEngine {
    fn devices(&self) -> Vec<DeviceReport> {
        device::reports()
    }

    fn device_class(&self, name: &str) -> Result<String, Failure> {
        Ok(device::Class::of(name)?.word().to_owned())
    }

    fn environment(&self, spec: &TrainSpec) -> Result<Environment, Failure> {
        Ok(device::environment(spec)?)
    }

    fn n_updates(&self, spec: &TrainSpec, n_rows: u64) -> u64 {
        Schedule::new(spec, n_rows).n_updates()
    }

    fn work(&self, spec: &TrainSpec, plan: &FeaturePlan) -> Option<Work> {
        work::work(spec, plan)
    }

    fn train(
        &self,
        spec: &TrainSpec,
        plan: &FeaturePlan,
        start: Option<CheckpointFiles>,
        io: &mut dyn TrainIo,
    ) -> Result<TrainEnd, Failure> {
        train::train(spec, plan, start, io)
    }

    fn open(
        &self,
        spec: &TrainSpec,
        plan: &FeaturePlan,
        model: &[u8],
        device: &str,
    ) -> Result<Box<dyn Scoring>, Failure> {
        Ok(Box::new(score::Scorer::open(spec, plan, model, device)?))
    }
}
