//! NVIDIA GPUs through their driver. Type-checked: has not run on one yet.

use std::path::Path;

use burn::tensor::{Device, DeviceType};
use karat_core::port::DeviceFacts;

use super::open::{features, memory};

/// Where CUDA toolkits lie, besides `CUDA_PATH`.
const TOOLKITS: [&str; 3] = ["/usr/local/cuda", "/opt/cuda", "/usr/lib/cuda"];
/// What kernels with exp, log, tanh or erf are linked with at run time.
const LIBDEVICE: &str = "nvvm/libdevice/libdevice.10.bc";

/// None of them is a program on the CPU.
pub(super) fn list() -> Vec<bool> {
    vec![false; Device::enumerate(DeviceType::Cuda).len()]
}

/// Opens the `number`-th.
pub(super) fn open(number: u16) -> Result<(Device, DeviceFacts), String> {
    let n = Device::enumerate(DeviceType::Cuda).len();
    match n {
        0 => return Err("no NVIDIA driver, or no GPU behind it".to_owned()),
        _ if n <= usize::from(number) => return Err(format!("no such number: `cuda` reaches {n}")),
        _ => {}
    }
    let device = Device::cuda(usize::from(number));
    let facts = DeviceFacts {
        adapter: device.identity().map(|it| it.name).unwrap_or_default(),
        driver: driver(),
        interface: "Cuda".to_owned(),
        is_software: false,
        memory: memory(&device),
        features: features(&device),
        ..DeviceFacts::default()
    };
    Ok((device, facts))
}

/// As the kernel module says, without linking anything.
fn driver() -> String {
    let text = std::fs::read_to_string("/proc/driver/nvidia/version").unwrap_or_default();
    text.lines().next().unwrap_or_default().trim_start_matches("NVRM version:").trim().to_owned()
}

/// What a machine with a driver may still lack.
pub(super) fn advice() -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "cubecl looks for the toolkit there by itself")]
    let named = std::env::var_os("CUDA_PATH");
    let named = named.as_deref().map(Path::new);
    let mut folders = named.into_iter().chain(TOOLKITS.map(Path::new));
    let is_there = folders.any(|folder| folder.join(LIBDEVICE).is_file());
    (!is_there).then(|| format!("no `{LIBDEVICE}` in `CUDA_PATH` or `{}`", TOOLKITS.join("`, `")))
}
