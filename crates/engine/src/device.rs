//! Devices by the names users type, and the threads beside them. Every call of burn's that is likely to change with its
//! version stands here.

use burn::tensor::{Device, ExecutionError, Tensor, TensorData};
use karat_core::{Environment, Host, Tier, TrainSpec, port::DeviceReport};
use karat_kernels::precision::Precision;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{DeviceError, TrainError};

/// What kind of device computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// burn's `flex`.
    Cpu,
}

impl Class {
    /// The class that `name` means. Nothing (a stored spec has no device) and `auto` mean the best there is.
    pub(crate) fn of(name: &str) -> Result<Self, DeviceError> {
        match name {
            "cpu" | "auto" | "" => Ok(Self::Cpu),
            other => Err(DeviceError::Absent { asked: other.to_owned() }),
        }
    }

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
        }
    }

    /// What is promised of a training here: each is shown by a test (docs/reproducibility.md).
    pub(crate) const fn tiers(self) -> &'static [Tier] {
        match self {
            Self::Cpu => &[Tier::Order, Tier::Resume, Tier::Repeat, Tier::Score],
        }
    }

    /// The device, without gradients.
    pub(crate) fn open(self) -> Device {
        match self {
            Self::Cpu => Device::flex(),
        }
    }
}

/// What makes the products of `precision` on this machine, for people and for the record: the bits of bf16 depend on it
/// where sums are too small for a normal number (`karat_kernels::precision`).
pub(crate) fn products(precision: Precision) -> String {
    match precision {
        Precision::F32 => "f32".to_owned(),
        Precision::Bf16 if precision.is_native() => "bf16 by AVX512-BF16".to_owned(),
        Precision::Bf16 => "bf16 emulated in f32".to_owned(),
    }
}

/// Devices of this build and machine.
pub(crate) fn reports() -> Vec<DeviceReport> {
    let n_cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    vec![DeviceReport {
        name: "cpu".to_owned(),
        is_usable: true,
        remark: format!(
            "burn flex, {n_cores} cores, {}, {}",
            karat_kernels::matmul::instructions(),
            products(Precision::Bf16),
        ),
    }]
}

/// Where a training of `spec` runs and what is promised of its result.
pub(crate) fn environment(spec: &TrainSpec) -> Result<Environment, DeviceError> {
    let class = Class::of(&spec.device)?;
    let n_cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Ok(Environment {
        tiers: class.tiers().to_vec(),
        device: class.word().to_owned(),
        device_name: None,
        driver: None,
        instructions: karat_kernels::matmul::instructions().to_owned(),
        precision: products(crate::network::precision(spec)),
        n_threads: if spec.threads == 0 { n_cores } else { spec.threads },
        features: features(),
        remarks: Vec::new(),
        host: Host::default(),
    })
}

/// Device features that this build was compiled with.
fn features() -> Vec<String> {
    let all = [
        ("wgpu", cfg!(feature = "wgpu")),
        ("vulkan", cfg!(feature = "vulkan")),
        ("cuda", cfg!(feature = "cuda")),
    ];
    all.into_iter().filter(|(_, is_on)| *is_on).map(|(name, _)| name.to_owned()).collect()
}

/// Threads of one call: 0 means all cores. A pool of its own, so that the caller's threads are left alone.
pub(crate) fn threads(n: usize) -> Result<ThreadPool, DeviceError> {
    ThreadPoolBuilder::new()
        .num_threads(n)
        .thread_name(|i| format!("karat-engine-{i}"))
        .build()
        .map_err(|source| DeviceError::Threads { n, source })
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

    use super::{Class, threads};
    use crate::error::{DeviceError, TrainError};

    #[test]
    fn names_mean_classes_and_an_absent_device_lists_what_there_is() {
        for name in ["cpu", "auto", ""] {
            assert_eq!(Class::of(name).expect("there is a cpu"), Class::Cpu);
        }
        let failure = Failure::from(Class::of("cuda:1").expect_err("not in this build"));
        assert_eq!(failure.code.as_str(), "device-absent");
        assert_eq!(threads(3).expect("three threads start").current_num_threads(), 3);
    }

    #[test]
    fn faults_of_the_machine_are_told_apart() {
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
