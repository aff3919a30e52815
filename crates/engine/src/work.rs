//! How much work training is and how much this machine can do: what throughput is compared with.

use std::time::Instant;

use burn::tensor::{Device, Tensor};
use karat_core::{FeaturePlan, TrainSpec, port::Work};
use karat_kernels::{activation::Activation, linear::linear};

use crate::{
    device::{self, DeviceName, Opened},
    error::TrainError,
    network,
};

/// Passes over the weights of a layer in training: forward, and back to the inputs and to the weights.
const PASSES: f64 = 3.0;
/// Rows and columns of the product that is timed: large enough to show what products reach, done in a few milliseconds.
const SIDE: usize = 512;
const N_ROWS: usize = 1024;
const N_TRIES: usize = 5;

/// The work of training on one row by `spec`, beside what the device does in one large product; nothing for a model
/// that cannot be, or on a device that does not answer: training itself will say why.
pub(crate) fn work(spec: &TrainSpec, plan: &FeaturePlan) -> Option<Work> {
    let products = network::config(spec, plan).ok()?.products_per_row() as f64;
    let opened = Opened::open(DeviceName::parse(&spec.device).ok()?).ok()?;
    let ceiling = opened.threads(spec.threads).ok()?.install(|| ceiling(&opened.device)).ok()?;
    Some(Work { operations_per_row: 2.0 * PASSES * products, ceiling })
}

/// Operations a second in the best of some products.
fn ceiling(device: &Device) -> Result<f64, TrainError> {
    let x = Tensor::<2>::ones([N_ROWS, SIDE], device);
    let w = Tensor::<2>::ones([SIDE, SIDE], device);
    let b = Tensor::<1>::zeros([SIDE], device);
    let mut best = f64::INFINITY;
    for _ in 0..N_TRIES {
        let began = Instant::now();
        let y = linear(x.clone(), w.clone(), b.clone(), Activation::Identity);
        // Reading one number back waits for all of them.
        device::read_number(y.slice([0..1, 0..1]).flatten(0, 1))?;
        best = best.min(began.elapsed().as_secs_f64());
    }
    Ok(2.0 * (N_ROWS * SIDE * SIDE) as f64 / best.max(1e-9))
}

#[cfg(test)]
mod tests {
    use karat_core::ModelSpec;

    use super::work;
    use crate::tests::{binary, spec};

    #[test]
    fn work_counts_the_products_of_every_layer_three_times() {
        // Two numbers and an embedding of 3 into 16, 8 and 1 units: 5·16 + 16·8 + 8 products, two operations each.
        let found = work(&spec(), &binary()).expect("measured");
        assert!((found.operations_per_row - 3.0 * 2.0 * 216.0).abs() < 1e-9, "{found:?}");
        assert!(1e8 < found.ceiling, "{found:?}");
        let mut spec = spec();
        spec.model = ModelSpec::Linear;
        let found = work(&spec, &binary()).expect("measured");
        assert!((found.operations_per_row - 3.0 * 2.0 * 2.0).abs() < 1e-9, "{found:?}");
    }
}
