//! What the parity tests share: a device, and how both are asked the same.

use std::sync::{LazyLock, Mutex, PoisonError};

use burn::tensor::{Device, Tensor, TensorData};
use burn_cubecl::{CubeBackend, tensor::CubeTensor};

use super::{assert_same_bits, uniform};

/// The device that parity is tested on. One test at a time: software Vulkan is slow, and a device has one queue.
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

#[cfg(all(feature = "cuda", not(feature = "wgpu")))]
fn first_that_opens() -> Option<Device> {
    use burn::tensor::DeviceType;

    Device::enumerate(DeviceType::Cuda).first().map(|_| Device::cuda(0))
}

/// What `f` gives on the CPU and on the GPU, where there is one. The GPU is asked twice and must repeat its bits.
#[track_caller]
pub(crate) fn on_cpu_and_gpu(f: impl Fn(&Device) -> Vec<f32>) -> Option<(Vec<f32>, Vec<f32>)> {
    // A test that failed with the lock in hand says nothing about the next.
    let gpu = GPU.lock().unwrap_or_else(PoisonError::into_inner);
    let gpu = gpu.as_ref()?;
    let (cpu, first, again) = (f(&Device::flex()), f(gpu), f(gpu));
    assert_same_bits(&first, &again, "the same launch twice");
    Some((cpu, first))
}

/// A tensor of `elements`.
pub(crate) fn tensor<const D: usize>(
    elements: Vec<f32>,
    shape: [usize; D],
    device: &Device,
) -> Tensor<D> {
    Tensor::from_data(TensorData::new(elements, shape), device)
}

/// `n` numbers that gradients are asked for, the same with the same `seed`.
pub(crate) fn leaf(seed: u32, n: usize, device: &Device) -> Tensor<1> {
    tensor(uniform(seed, n), [n], &device.clone().autodiff()).require_grad()
}

/// `y`, and the gradients of sum(y · c) by the `leaves` it was made from; c is the same for every y of this shape.
pub(crate) fn with_gradients<const D: usize>(y: Tensor<D>, leaves: &[Tensor<1>]) -> Vec<f32> {
    let n = y.shape().num_elements();
    let y = y.reshape([n]);
    let c = tensor(uniform(99, n), [n], &y.device());
    let gradients = (y.clone() * c).sum().backward();
    let mut all = elements(y.inner());
    for leaf in leaves {
        all.extend(elements(leaf.grad(&gradients).expect("a leaf has a gradient")));
    }
    all
}

/// `tensor` as kernels take it, when it lies on the GPU.
pub(crate) fn cube<const D: usize>(tensor: Tensor<D>) -> Option<CubeTensor> {
    tensor.try_into_primitive::<CubeBackend>().ok()
}

/// `tensor` as users of burn hold it.
pub(crate) fn uncube<const D: usize>(tensor: CubeTensor) -> Tensor<D> {
    Tensor::from_primitive::<CubeBackend>(tensor)
}

/// The elements of `tensor`, row-major.
pub(crate) fn elements<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = tensor.try_into_data().expect("the device answers");
    data.iter::<f32>().collect()
}

/// Whether `found` is within `tolerance` of `expected`, relative to the largest magnitude among the expected; special
/// values must be the same.
#[track_caller]
pub(crate) fn assert_near(
    expected: &[f32],
    found: &[f32],
    tolerance: f32,
    case: impl std::fmt::Debug,
) {
    assert_eq!(expected.len(), found.len(), "{case:?}");
    let finite = expected.iter().filter(|x| x.is_finite());
    let scale = finite.fold(0.0, |most: f32, x| most.max(x.abs()));
    for (i, (x, y)) in expected.iter().zip(found).enumerate() {
        let is_near = if x.is_finite() {
            (x - y).abs() <= tolerance * scale
        } else {
            x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan())
        };
        assert!(
            is_near,
            "{case:?}: element {i} is {y}, expected {x} within {tolerance} of {scale}"
        );
    }
}
