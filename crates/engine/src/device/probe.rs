//! What the other process does: list, open, measure, and say so. Never fails: a fault is a report's remark.

use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use karat_core::port::{DeviceFacts, DeviceReport};
use karat_kernels::{activation::Activation, linear::linear};

use super::{DeviceName, Question, name::Api, open, open::Opened, read};
use crate::{
    error::{DeviceError, TrainError},
    parity,
};

/// A measurement takes at least this long.
const SECONDS_MIN: f64 = 0.02;
/// Side of the largest matrices multiplied.
const SIDE_MAX: usize = 8192;
/// Most bytes copied at once; a buffer may be limited to 128 MiB.
const COPY_MAX: usize = 1 << 27;
/// The best of so many counts: others may be using the machine.
const N_TRIES: usize = 5;

/// Answers a question about `name`, as the hidden command prints it.
#[must_use]
pub fn answer(question: Question, name: &str) -> Vec<DeviceReport> {
    match question {
        Question::List => list(name),
        Question::Open | Question::Measure => {
            let report = open_and_use(question, name);
            vec![report.unwrap_or_else(|reason| DeviceReport::absent(name, reason))]
        }
    }
}

fn list(word: &str) -> Vec<DeviceReport> {
    let Some(api) = Api::ALL.into_iter().find(|api| api.word() == word) else {
        return vec![DeviceReport::absent(word, "no such interface".to_owned())];
    };
    let report = |(number, is_software): (u16, bool)| DeviceReport {
        name: DeviceName::Gpu { api, number }.to_string(),
        is_usable: true,
        remark: if is_software { "a program on the CPU" } else { "" }.to_owned(),
        facts: None,
    };
    match open::list(api) {
        Ok(found) => (0..).zip(found).map(report).collect(),
        Err(reason) => vec![DeviceReport::absent(word, reason)],
    }
}

fn open_and_use(question: Question, name: &str) -> Result<DeviceReport, String> {
    let parsed = DeviceName::parse(name).map_err(|error| error.to_string())?;
    let opened = Opened::open(parsed).map_err(|error| match error {
        DeviceError::Unusable { reason, .. } => reason,
        DeviceError::Absent { missing, .. } => missing.join("; "),
        other => other.to_string(),
    })?;
    let text = |error: TrainError| error.to_string();
    opened.attempt(1, || multiply(&opened.device)).map_err(|error| {
        #[cfg(feature = "cuda")]
        if let DeviceName::Gpu { api: Api::Cuda, .. } = parsed
            && let Some(advice) = super::cuda::advice()
        {
            return format!("{error}; {advice}");
        }
        text(error)
    })?;
    let mut facts = opened.facts.clone();
    if question == Question::Measure {
        facts.gflops = Some(opened.attempt(1, || gflops(&opened.device)).map_err(text)?);
        facts.copy_gb_s = Some(opened.attempt(1, || copy_gb_s(&opened.device)).map_err(text)?);
        if !opened.is_cpu() {
            facts.parity = parity::of_every_family(&opened).map_err(text)?;
        }
    }
    let remark = if opened.is_cpu() { super::cpu_remark() } else { facts_remark(&facts) };
    let facts = Some(facts);
    Ok(DeviceReport { name: parsed.to_string(), is_usable: true, remark, facts })
}

fn facts_remark(facts: &DeviceFacts) -> String {
    let software = if facts.is_software { ", a program on the CPU" } else { "" };
    format!("{} through {}, {}{software}", facts.adapter, facts.interface, facts.driver)
}

/// A product with a known answer: a driver that opens and computes nonsense does not work.
fn multiply(device: &Device) -> Result<(), TrainError> {
    const N: usize = 33;
    let number = |i: usize| (i % 7) as f32 - 3.0;
    let matrix = || TensorData::new((0..N * N).map(number).collect::<Vec<f32>>(), [N, N]);
    let x = Tensor::<2>::from_data(matrix(), device);
    let w = Tensor::<2>::from_data(matrix(), device);
    let found = read((x.matmul(w) * 0.01).exp())?;
    for (i, found) in found.into_iter().enumerate() {
        let (row, column) = (i / N, i % N);
        let product: f32 = (0..N).map(|k| number(row * N + k) * number(k * N + column)).sum();
        let expected = libm::expf(product * 0.01);
        if (found - expected).abs().is_nan() || 1e-4 * expected.max(1.0) < (found - expected).abs()
        {
            let message = format!("a product of 33 by 33 has {found} where {expected} belongs");
            return Err(TrainError::Device { message });
        }
    }
    Ok(())
}

/// Operations a second of the product that every model is made of, in 10⁹.
fn gflops(device: &Device) -> Result<f64, TrainError> {
    let mut side = 128;
    loop {
        let x = Tensor::<2>::ones([side, side], device);
        let b = Tensor::<1>::zeros([side], device);
        let seconds =
            best(device, || drop(linear(x.clone(), x.clone(), b.clone(), Activation::Identity)))?;
        if SECONDS_MIN <= seconds || SIDE_MAX <= side {
            return Ok(2.0 * (side as f64).powi(3) / seconds / 1e9);
        }
        side *= 2;
    }
}

/// Bytes read and written a second by an operation that does next to nothing, in 10⁹.
fn copy_gb_s(device: &Device) -> Result<f64, TrainError> {
    let mut n_bytes = 1 << 20;
    loop {
        let x = Tensor::<1>::ones([n_bytes / size_of::<f32>()], device);
        let seconds = best(device, || drop(x.clone().add_scalar(1.0)))?;
        if SECONDS_MIN <= seconds || COPY_MAX <= n_bytes {
            return Ok(2.0 * n_bytes as f64 / seconds / 1e9);
        }
        n_bytes *= 2;
    }
}

/// Seconds of the fastest call, after one to warm up.
fn best(device: &Device, mut work: impl FnMut()) -> Result<f64, TrainError> {
    let sync = || device.sync().map_err(|error| TrainError::Device { message: error.to_string() });
    let mut best = f64::INFINITY;
    for _ in 0..=N_TRIES {
        sync()?;
        let began = Instant::now();
        work();
        sync()?;
        let seconds = began.elapsed().as_secs_f64();
        // The first call compiles.
        best = if best.is_infinite() { 1e9 } else { best.min(seconds) };
    }
    Ok(best.max(1e-9))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::{Question, answer, copy_gb_s, gflops, multiply};

    #[test]
    fn the_cpu_opens_multiplies_and_is_measured() {
        multiply(&Device::flex()).expect("the answer is right");
        assert!(0.1 < gflops(&Device::flex()).expect("measured"));
        assert!(0.1 < copy_gb_s(&Device::flex()).expect("measured"));
        let [cpu] = answer(Question::Open, "cpu").try_into().expect("one device, one report");
        assert!(cpu.is_usable && cpu.name == "cpu" && cpu.remark.contains("cores"), "{cpu:?}");
    }

    #[test]
    fn what_is_not_there_is_a_remark() {
        let [none] = answer(Question::Open, "gpu").try_into().expect("one report");
        assert!(!none.is_usable && none.remark.contains("`gpu` is no device"), "{none:?}");
        #[cfg(not(feature = "cuda"))]
        {
            let [cuda] = answer(Question::List, "cuda").try_into().expect("one report");
            assert_eq!(cuda.remark, "not in this build, which lacks the cargo feature `cuda`");
            let [cuda] = answer(Question::Open, "cuda:0").try_into().expect("one report");
            assert!(!cuda.is_usable && cuda.remark.contains("cargo feature `cuda`"), "{cuda:?}");
        }
    }
}
