//! One update's numbers on the GPU beside the CPU's.

use std::sync::{LazyLock, Mutex, PoisonError};

use burn::tensor::{Device, Tensor};
use karat_kernels::{
    loss::{Loss, weighted_mean},
    philox::Draw,
};

use super::{draw, problem_for};
use crate::{Config, parameter};

/// One test at a time: software Vulkan is slow, and a device has one queue.
static GPU: LazyLock<Mutex<Option<Device>>> = LazyLock::new(|| Mutex::new(open()));

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
#[expect(clippy::disallowed_methods, reason = "CI asks for a device by this variable")]
fn open() -> Option<Device> {
    let device = first_that_opens();
    if device.is_none() {
        let is_required = std::env::var_os("KARAT_REQUIRE_GPU").is_some();
        assert!(!is_required, "KARAT_REQUIRE_GPU is set and no adapter opens");
        eprintln!("skipped: no GPU and no software Vulkan on this machine");
    }
    device
}

#[cfg(feature = "wgpu")]
fn first_that_opens() -> Option<Device> {
    use burn::tensor::DeviceKind;

    let kinds = [DeviceKind::DiscreteGpu(0), DeviceKind::IntegratedGpu(0), DeviceKind::Cpu];
    kinds.into_iter().find_map(|kind| Device::wgpu_options().device_kind(kind).init().ok())
}

#[cfg(not(feature = "wgpu"))]
fn first_that_opens() -> Option<Device> {
    use burn::tensor::DeviceType;

    Device::enumerate(DeviceType::Cuda).first().map(|_| Device::cuda(0))
}

/// Loss and gradients of all rows at once, dropout included.
fn forward_and_backward(config: &Config, device: &Device) -> Vec<Vec<f32>> {
    let device = device.clone().autodiff();
    let model = config.build(&device, &mut draw);
    let (inputs, labels) = problem_for(config)(&device);
    let n_rows = labels.dims()[0];
    let noise = |_: &str| Draw { key: [1, 2], first_row: 0, major: 0 };
    let z = model.forward(inputs, Some(&noise));
    let weights = labels.ones_like();
    let loss = weighted_mean(Loss::Binary, z, labels, weights, n_rows as f64);
    let mut found = loss.backward();
    let numbers = |tensor: Tensor<1>| {
        tensor.try_into_data().expect("the device answers").iter::<f32>().collect()
    };
    let gradients = parameter::gradients(&model, &mut found);
    std::iter::once(loss.inner()).chain(gradients).map(numbers).collect()
}

/// The loss and each parameter's gradient are the CPU's within 1e-5 of the gradient's largest element, and the GPU
/// repeats its own bit for bit.
#[track_caller]
pub(crate) fn assert_gpu_agrees(config: &Config) {
    // A test that failed with the lock in hand says nothing about the next.
    let gpu = GPU.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(gpu) = gpu.as_ref() else { return };
    let cpu = forward_and_backward(config, &Device::flex());
    let found = forward_and_backward(config, gpu);
    assert_eq!(found, forward_and_backward(config, gpu), "the same bits twice");
    let paths = config.parameters().into_iter().map(|it| it.path);
    for ((path, cpu), gpu) in std::iter::once("loss".to_owned()).chain(paths).zip(&cpu).zip(&found)
    {
        let most = cpu.iter().fold(0.0, |most: f32, x| most.max(x.abs()));
        for (i, (cpu, gpu)) in cpu.iter().zip(gpu).enumerate() {
            assert!((cpu - gpu).abs() <= 1e-5 * most, "{path}[{i}]: {gpu}, on the CPU {cpu}");
        }
    }
}
