//! Devices behind wgpu: Vulkan (also in software), Metal, DX12.

use burn::{
    backend::{CubeDevice, DispatchDevice, WgpuDeviceKind},
    tensor::{
        Device, DeviceKind, DeviceType,
        wgpu::{WgpuBackend, wgpu},
    },
};
use karat_core::port::DeviceFacts;

use super::{
    Api,
    open::{features, memory},
};

/// Whether each device that `api` reaches is a program on the CPU; the order is that of the numbers in names.
pub(super) fn list(api: Api) -> Vec<bool> {
    kinds(api).into_iter().map(|kind| kind == DeviceKind::Cpu).collect()
}

/// Discrete GPUs first, programs on the CPU last: a name without a number means the best.
fn kinds(api: Api) -> Vec<DeviceKind> {
    let devices = match api {
        #[cfg(feature = "vulkan")]
        Api::Vulkan => Device::enumerate(DeviceType::Vulkan),
        _ => Device::enumerate(DeviceType::Wgpu),
    };
    let kind = |device: &Device| match device.as_dispatch() {
        DispatchDevice::Cube(CubeDevice::Wgpu(device)) => match device.kind {
            WgpuDeviceKind::DiscreteGpu(n) => Some((0, n, DeviceKind::DiscreteGpu(n))),
            WgpuDeviceKind::IntegratedGpu(n) => Some((1, n, DeviceKind::IntegratedGpu(n))),
            WgpuDeviceKind::VirtualGpu(n) => Some((2, n, DeviceKind::VirtualGpu(n))),
            WgpuDeviceKind::Cpu => Some((3, 0, DeviceKind::Cpu)),
            // burn has no selector for the others.
            _ => None,
        },
        _ => None,
    };
    let mut found: Vec<_> = devices.iter().filter_map(kind).collect();
    found.sort_by_key(|(rank, n, _)| (*rank, *n));
    found.into_iter().map(|(_, _, kind)| kind).collect()
}

/// Opens the `number`-th.
pub(super) fn open(api: Api, number: u16) -> Result<(Device, DeviceFacts), String> {
    let kinds = kinds(api);
    let kind = kinds.get(usize::from(number)).cloned().ok_or_else(|| match kinds.len() {
        0 => "no adapter found: no driver, or none with compute shaders".to_owned(),
        n => format!("no such number: `{}` reaches {n}", api.word()),
    })?;
    let options = Device::wgpu_options().device_kind(kind);
    let options = match api {
        Api::Vulkan => options.graphics_api(WgpuBackend::Vulkan),
        Api::Wgpu | Api::Cuda => options,
    };
    let (device, setup) = options.init_with_setup().map_err(|error| error.to_string())?;
    let info = setup.adapter.get_info();
    let facts = DeviceFacts {
        adapter: info.name,
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        interface: format!("{:?}", info.backend),
        is_software: info.device_type == wgpu::DeviceType::Cpu,
        memory: memory(&device),
        features: features(&device),
        ..DeviceFacts::default()
    };
    Ok((device, facts))
}
