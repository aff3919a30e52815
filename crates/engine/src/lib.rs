//! How numbers run on a device: train, resume, score.
//!
//! [`BurnEngine`] is `core`'s `Engine` on burn. Models and the graph are burn's; the operations are `karat_kernels`', whose
//! bits do not depend on threads or batching. No generator of burn's is used: every random number is a function of
//! (seed, purpose, name, position), so a resume needs no generator's state.
//!
//! Nothing here looks at the environment, prints, or relies on burn's default device.
//!
//! Reading order: [`train`] (the loop), [`update`], [`optimizer`], [`schedule`], [`sampling`],
//! [`checkpoint`], [`evaluate`], [`network`], [`score`], [`work`], then [`device`], [`start`] and [`careful`] (what a GPU makes
//! necessary).

#![recursion_limit = "256"] // wgpu's types nest deeply (burn#3060)

use karat_core::{
    Environment, Failure, FeaturePlan, TrainSpec,
    port::{CheckpointFiles, DeviceReport, Engine, Scoring, TrainEnd, TrainIo, Work},
};

mod batch;
mod careful;
mod checkpoint;
pub mod device;
mod error;
mod evaluate;
mod memory;
mod network;
mod optimizer;
mod parity;
mod sampling;
mod schedule;
mod score;
mod start;
#[cfg(test)]
mod tests;
mod train;
mod update;
mod work;

use device::{Choice, DeviceName, Prober};
pub use error::{ResumeError, TrainError};
pub use schedule::{Order, Schedule};

/// Trains and scores on burn's devices: `cpu` in every build, GPUs by cargo features.
///
/// A device's name is taken as it is, and `auto` means `cpu`: [`BurnEngine::choose`] is asked before.
#[derive(Clone, Copy, Debug, Default)]
pub struct BurnEngine;

impl BurnEngine {
    /// The device that `asked` means. GPUs are tried in another process first.
    pub fn choose(&self, prober: &Prober, asked: &str) -> Result<Choice, Failure> {
        Ok(device::choose(prober, asked)?)
    }

    /// What there is; opens nothing.
    #[must_use]
    pub fn list(&self, prober: &Prober) -> Vec<DeviceReport> {
        device::list(prober)
    }

    /// What there is and how fast, of one device or of `all`.
    pub fn examine(&self, prober: &Prober, what: &str) -> Result<Vec<DeviceReport>, Failure> {
        Ok(device::examine(prober, what)?)
    }
}

impl Engine for BurnEngine {
    fn devices(&self) -> Vec<DeviceReport> {
        vec![DeviceReport {
            name: "cpu".to_owned(),
            is_usable: true,
            remark: device::cpu_remark(),
            facts: None,
        }]
    }

    fn device_class(&self, name: &str) -> Result<String, Failure> {
        Ok(DeviceName::parse(name)?.class().to_owned())
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
