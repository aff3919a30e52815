//! A device in this process: opened once, and every piece of work on it kept from taking the process down.

use std::{
    any::Any,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, PoisonError},
};

use burn::tensor::Device;
#[cfg(feature = "gpu")]
use burn::{backend::DispatchDevice, tensor::FloatDType};
use karat_core::port::DeviceFacts;
use rayon::ThreadPool;

#[cfg(feature = "cuda")]
use super::cuda;
#[cfg(feature = "wgpu")]
use super::wgpu;
use super::{Api, DeviceName};
use crate::error::{DeviceError, TrainError};

/// A device that was opened.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    pub(crate) name: DeviceName,
    /// Without gradients.
    pub(crate) device: Device,
    pub(crate) facts: DeviceFacts,
    /// Makes work on this device fail as a device's would.
    #[cfg(test)]
    pub(crate) fault: Option<Fault>,
}

/// What a piece of work, counted from 0, on so many rows dies of.
#[cfg(test)]
pub(crate) type Fault = fn(n_rows: usize) -> Option<&'static str>;

/// A GPU can be opened once a process: whoever asks again gets the same.
static OPENED: Mutex<BTreeMap<String, Opened>> = Mutex::new(BTreeMap::new());

impl Opened {
    pub(crate) fn cpu() -> Self {
        Self {
            name: DeviceName::Cpu,
            device: Device::flex(),
            facts: DeviceFacts::default(),
            #[cfg(test)]
            fault: None,
        }
    }

    /// Opens the device that `name` means. Nobody chose for `auto`, so that is `cpu` here.
    pub(crate) fn open(name: DeviceName) -> Result<Self, DeviceError> {
        let DeviceName::Gpu { api, number } = name else { return Ok(Self::cpu()) };
        if !api.is_built() {
            return Err(DeviceError::Absent {
                asked: name.to_string(),
                known: vec!["cpu".to_owned()],
                missing: vec![format!("{}: {}", api.word(), not_built(api))],
            });
        }
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = opened.get(&name.to_string()) {
            return Ok(known.clone());
        }
        let why = |reason: String| DeviceError::Unusable { name: name.to_string(), reason };
        let (device, facts) = quietly(|| open(api, number)).map_err(why)?;
        let new = Self {
            name,
            device,
            facts,
            #[cfg(test)]
            fault: None,
        };
        opened.insert(name.to_string(), new.clone());
        Ok(new)
    }

    pub(crate) const fn is_cpu(&self) -> bool {
        matches!(self.name, DeviceName::Auto | DeviceName::Cpu)
    }

    /// Threads of one call on this device. A GPU's work is given out by one and the same thread: each has a stream of its own.
    pub(crate) fn threads(&self, n: usize) -> Result<ThreadPool, DeviceError> {
        super::threads(if self.is_cpu() { n } else { 1 })
    }

    /// Does a piece of work on `n_rows` rows. Drivers, and the crates between them and us, panic where they run out of memory
    /// or lose the device; here that becomes an error.
    pub(crate) fn attempt<T>(
        &self,
        n_rows: usize,
        work: impl FnOnce() -> Result<T, TrainError>,
    ) -> Result<T, TrainError> {
        #[cfg(test)]
        if let Some(message) = self.fault.and_then(|fault| fault(n_rows)) {
            return Err(TrainError::of_device(message.to_owned(), n_rows));
        }
        // On the CPU a panic is a bug of ours and should look like one.
        if self.is_cpu() {
            return work();
        }
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Err(TrainError::Device { message })) => Err(TrainError::of_device(message, n_rows)),
            Ok(result) => result,
            Err(panic) => Err(TrainError::of_device(text_of(&*panic), n_rows)),
        }
    }
}

/// Opening panics where a driver is missing.
fn quietly<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(text_of(&*panic)))
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it gave no reason").to_owned()
}

/// What `api` reaches, best first: of each, whether it is a program on the CPU.
pub(crate) fn list(api: Api) -> Result<Vec<bool>, String> {
    quietly(|| match api {
        #[cfg(feature = "cuda")]
        Api::Cuda => Ok(cuda::list()),
        #[cfg(feature = "wgpu")]
        Api::Vulkan | Api::Wgpu if api.is_built() => Ok(wgpu::list(api)),
        _ => Err(not_built(api)),
    })
}

fn open(api: Api, number: u16) -> Result<(Device, DeviceFacts), String> {
    match api {
        #[cfg(feature = "cuda")]
        Api::Cuda => cuda::open(number),
        #[cfg(feature = "wgpu")]
        Api::Vulkan | Api::Wgpu if api.is_built() => wgpu::open(api, number),
        _ => Err(format!("number {number}: {}", not_built(api))),
    }
}

/// Why an interface is missing.
pub(crate) fn not_built(api: Api) -> String {
    format!("not in this build, which lacks the cargo feature `{}`", api.word())
}

/// Bytes of memory, where the driver says.
#[cfg(feature = "gpu")]
pub(super) fn memory(device: &Device) -> Option<u64> {
    match device.as_dispatch() {
        DispatchDevice::Cube(device) => device.client().properties().memory.max_memory(),
        _ => None,
    }
}

/// What kernels may use.
#[cfg(feature = "gpu")]
pub(super) fn features(device: &Device) -> Vec<String> {
    let numbers = [FloatDType::F64, FloatDType::F16, FloatDType::BF16];
    let words = ["f64", "f16", "bf16"];
    let supported = words.into_iter().zip(numbers).filter(|(_, it)| device.supports_dtype(*it));
    let mut features: Vec<String> = supported.map(|(word, _)| word.to_owned()).collect();
    if let DispatchDevice::Cube(device) = device.as_dispatch() {
        let client = device.client();
        let properties = client.properties();
        if !properties.features.plane.is_empty() {
            features.push("plane".to_owned());
        }
        let mib = properties.memory.max_page_size >> 20;
        features.push(format!("buffers of {mib} MiB"));
    }
    features
}
