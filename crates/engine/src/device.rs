//! Devices by the names users type, and the threads beside them. Every call of burn's that is likely to change with its
//! version stands here and in the folder below.
//!
//! A device is chosen once a command ([`mod@choose`]): GPUs are tried in another process, which may crash or hang, and only then
//! opened in this one ([`open`]). Nothing relies on burn's hidden default device: tests and CI set `BURN_DEVICE` to a word
//! that makes it panic.
//!
//! Reading order: [`name`], [`child`], [`mod@choose`], [`probe`] (what the other process does), [`open`], [`stray`].

use burn::tensor::{ExecutionError, Tensor, TensorData};
use karat_core::{Environment, Host, Tier, TrainSpec};
use karat_kernels::precision::Precision;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{DeviceError, TrainError};

mod child;
mod choose;
#[cfg(feature = "cuda")]
mod cuda;
mod name;
mod open;
mod probe;
mod stray;
#[cfg(feature = "wgpu")]
mod wgpu;

pub use child::{Prober, Question};
pub use choose::Choice;
pub(crate) use choose::{choose, examine, list};
pub use name::{Api, DeviceName};
#[cfg(test)]
pub(crate) use open::Fault;
pub(crate) use open::Opened;
pub use probe::answer;
pub(crate) use stray::files as stray_files;

/// What makes the products of `precision` on this machine, for people and for the record: the bits of bf16 depend on it
/// where sums are too small for a normal number (`karat_kernels::precision`).
pub(crate) fn products(precision: Precision) -> String {
    match precision {
        Precision::F32 => "f32".to_owned(),
        Precision::Bf16 if precision.is_native() => "bf16 by AVX512-BF16".to_owned(),
        Precision::Bf16 => "bf16 emulated in f32".to_owned(),
    }
}

/// Where a training of `spec` runs and what is promised of its result.
pub(crate) fn environment(spec: &TrainSpec) -> Result<Environment, DeviceError> {
    let opened = Opened::open(DeviceName::parse(&spec.device)?)?;
    let n_cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let text = |text: &String| Some(text.clone()).filter(|it| !it.is_empty());
    Ok(Environment {
        tiers: tiers(&opened, spec),
        device: if opened.is_cpu() { "cpu".to_owned() } else { opened.name.to_string() },
        device_name: text(&opened.facts.adapter),
        driver: text(&opened.facts.driver),
        instructions: match opened.is_cpu() {
            true => karat_kernels::matmul::instructions().to_owned(),
            false => String::new(),
        },
        precision: products(crate::network::precision(spec)),
        n_threads: match (opened.is_cpu(), spec.threads) {
            (false, _) => 1,
            (true, 0) => n_cores,
            (true, n) => n,
        },
        features: built().map(|api| api.word().to_owned()).collect(),
        remarks: Vec::new(),
        host: Host::default(),
    })
}

/// What is promised of a training here: each is shown by a test (docs/reproducibility.md). Of GPUs the tests have seen one, in
/// software; what runs on others is compared with `cpu` and promises no more.
fn tiers(opened: &Opened, spec: &TrainSpec) -> Vec<Tier> {
    let mut tiers = vec![Tier::Order];
    if opened.is_cpu() || opened.facts.is_software {
        tiers.extend([Tier::Resume, Tier::Repeat, Tier::Score]);
    }
    if !opened.is_cpu() && !spec.device_policy.skips_probe {
        tiers.push(Tier::Close);
    }
    tiers
}

/// Ways to reach GPUs that this build was compiled with.
fn built() -> impl Iterator<Item = Api> {
    Api::ALL.into_iter().rev().filter(|api| api.is_built())
}

/// Threads of one call: 0 means all cores. A pool of its own, so that the caller's threads are left alone.
pub(crate) fn threads(n: usize) -> Result<ThreadPool, DeviceError> {
    ThreadPoolBuilder::new()
        .num_threads(n)
        .thread_name(|i| format!("karat-engine-{i}"))
        .build()
        .map_err(|source| DeviceError::Threads { n, source })
}

/// What `cpu` is, for people.
pub(crate) fn cpu_remark() -> String {
    let n_cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    format!(
        "burn flex, {n_cores} cores, {}, {}",
        karat_kernels::matmul::instructions(),
        products(Precision::Bf16)
    )
}

/// The elements of a tensor on the host.
pub(crate) fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, TrainError> {
    let data = tensor.try_into_data().map_err(lost)?;
    data.try_into_vec::<f32>().map_err(|error| TrainError::Device { message: format!("{error:?}") })
}

/// The elements of a tensor on the host, as the device's memory has them.
pub(crate) fn read_as_it_lies(tensor: Tensor<1>) -> Result<TensorData, TrainError> {
    tensor.try_into_data().map_err(lost)
}

/// The one number in a tensor.
pub(crate) fn read_number(tensor: Tensor<1>) -> Result<f64, TrainError> {
    let data = tensor.try_into_data().map_err(lost)?;
    Ok(data.iter::<f64>().next().expect("a sum has one element"))
}

fn lost(source: ExecutionError) -> TrainError {
    TrainError::Device { message: source.to_string() }
}

#[cfg(test)]
mod tests {
    use karat_core::Failure;

    use super::threads;
    use crate::error::{DeviceError, TrainError};

    #[test]
    fn faults_of_the_machine_are_told_apart() {
        assert_eq!(threads(3).expect("three threads start").current_num_threads(), 3);
        let device = Failure::from(TrainError::Device { message: "gone".to_owned() });
        assert_eq!((device.code.as_str(), device.exit.code()), ("device-failed", 3));
        // rayon makes its error only in the process-wide pool's second build.
        let build = || rayon::ThreadPoolBuilder::new().num_threads(1).build_global();
        let source = build().and_then(|()| build()).expect_err("only one pool is global");
        let failure = Failure::from(DeviceError::Threads { n: 9, source });
        assert_eq!(failure.code.as_str(), "threads-unavailable");
        assert_eq!(failure.message, "cannot start 9 threads");
    }
}
