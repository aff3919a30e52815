//! Device names as people type them: `cpu`, `wgpu[:n]`, `vulkan[:n]`, `cuda[:n]`, `auto`.

use std::fmt;

use crate::error::DeviceError;

/// A way to reach GPUs, each a cargo feature of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Api {
    /// NVIDIA's driver.
    Cuda,
    /// SPIR-V on Vulkan.
    Vulkan,
    /// WGSL on Vulkan (also in software), Metal or DX12.
    Wgpu,
}

impl Api {
    /// All, in the order in which `auto` asks them.
    pub const ALL: [Self; 3] = [Self::Cuda, Self::Vulkan, Self::Wgpu];

    /// The word typed, and the cargo feature.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Cuda => "cuda",
            Self::Vulkan => "vulkan",
            Self::Wgpu => "wgpu",
        }
    }

    /// Whether this build has it.
    #[must_use]
    pub const fn is_built(self) -> bool {
        match self {
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::Wgpu => cfg!(feature = "wgpu"),
        }
    }
}

/// What a name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceName {
    /// The best that works.
    Auto,
    /// burn's `flex`.
    Cpu,
    /// The `number`-th device that `api` reaches: discrete GPUs first, programs on the CPU last.
    Gpu {
        /// How.
        api: Api,
        /// Which, from 0.
        number: u16,
    },
}

impl DeviceName {
    /// Reads a name. A stored spec has none, which means `auto`.
    pub(crate) fn parse(text: &str) -> Result<Self, DeviceError> {
        let (word, number) = match text.split_once(':') {
            Some((word, number)) => (word, Some(number)),
            None => (text, None),
        };
        let name = match (word, number) {
            ("auto" | "", None) => Some(Self::Auto),
            ("cpu", None) => Some(Self::Cpu),
            _ => Api::ALL.into_iter().find(|api| api.word() == word).and_then(|api| {
                // `parse` alone would take `+1`.
                let is_plain = |it: &&str| it.bytes().all(|byte| byte.is_ascii_digit());
                let number = match number {
                    None => 0,
                    Some(digits) => Some(digits).filter(is_plain)?.parse().ok()?,
                };
                Some(Self::Gpu { api, number })
            }),
        };
        name.ok_or_else(|| DeviceError::Unknown { asked: text.to_owned() })
    }

    /// The word that enters cache keys: bits are comparable within it, never across.
    #[must_use]
    pub const fn class(self) -> &'static str {
        match self {
            // Whoever lets the engine choose without a prober gets this.
            Self::Auto | Self::Cpu => "cpu",
            Self::Gpu { api, .. } => api.word(),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu { api, number } => write!(f, "{}:{number}", api.word()),
        }
    }
}

#[cfg(test)]
mod tests {
    use karat_core::Failure;

    use super::{Api, DeviceName};

    #[test]
    fn names_mean_devices() {
        let gpu = |api, number| DeviceName::Gpu { api, number };
        for (text, expected) in [
            ("cpu", DeviceName::Cpu),
            ("auto", DeviceName::Auto),
            ("", DeviceName::Auto),
            ("wgpu", gpu(Api::Wgpu, 0)),
            ("vulkan:1", gpu(Api::Vulkan, 1)),
            ("cuda:15", gpu(Api::Cuda, 15)),
        ] {
            let found = DeviceName::parse(text).expect(text);
            assert_eq!(found, expected);
            assert_eq!(DeviceName::parse(&found.to_string()).expect("round trip"), found);
        }
        assert_eq!(gpu(Api::Vulkan, 3).class(), "vulkan");
    }

    #[test]
    fn what_is_no_name_is_refused_with_the_names() {
        for text in [
            "gpu",
            "CPU",
            "cpu:0",
            "auto:1",
            "cuda:",
            "cuda:-1",
            "cuda:+1",
            "cuda:x",
            "wgpu:99999",
            "wgpu:0:1",
            " ",
        ] {
            let failure = Failure::from(DeviceName::parse(text).expect_err(text));
            assert_eq!(failure.code.as_str(), "device-unknown", "{text}");
            assert!(failure.message.contains("`wgpu[:n]`"), "{}", failure.message);
        }
    }
}
