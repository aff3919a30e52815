//! How a parameter follows its gradient: one function over the optimizers of [`karat_kernels`], and the names under which
//! a checkpoint keeps what they carry from one update to the next.

use burn::tensor::Tensor;
use karat_core::project::OptimizerSpec;
use karat_kernels::{adamw, lion, sgd};

/// What an optimizer carries for each parameter, in order: PyTorch's names, and the paper's momentum for Lion.
pub(crate) const fn moments(optimizer: OptimizerSpec) -> &'static [&'static str] {
    match optimizer {
        OptimizerSpec::Adamw { .. } => &["exp_avg", "exp_avg_sq"],
        OptimizerSpec::Sgd { .. } => &["momentum_buffer"],
        OptimizerSpec::Lion { .. } => &["exp_avg"],
    }
}

/// The numbers of one update.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step<'a> {
    pub(crate) learning_rate: f64,
    /// Of each parameter.
    pub(crate) weight_decay: &'a [f64],
    /// What gradients are multiplied by first.
    pub(crate) gradient_scale: f32,
    /// This update's number, from 1.
    pub(crate) t: u64,
}

/// All parameters after an update from their gradients, in order; `carried` has one tensor for each of [`moments`] and
/// parameter, and is updated.
pub(crate) fn follow(
    optimizer: OptimizerSpec,
    parameters: Vec<Tensor<1>>,
    gradients: Vec<Tensor<1>>,
    carried: &mut [Vec<Tensor<1>>],
    step: Step<'_>,
) -> Vec<Tensor<1>> {
    let Step { learning_rate, weight_decay, gradient_scale, t } = step;
    // What is carried is taken out, so that an operation is the only owner and writes in place.
    let all = parameters.into_iter().zip(gradients).zip(weight_decay.iter().copied());
    match optimizer {
        OptimizerSpec::Adamw { beta1, beta2, epsilon } => {
            let slots = all.zip(carried.iter_mut()).map(|(((p, g), weight_decay), carried)| {
                let new = adamw::Step::new(learning_rate, weight_decay, gradient_scale, t);
                let [m, v] = taken(carried);
                adamw::Slot { p, g, m, v, step: adamw::Step { beta1, beta2, epsilon, ..new } }
            });
            let updated = adamw::adamw_all(slots.collect());
            let after = updated.into_iter().zip(carried);
            let keep = |([p, m, v], carried): ([Tensor<1>; 3], &mut Vec<Tensor<1>>)| {
                *carried = vec![m, v];
                p
            };
            after.map(keep).collect()
        }
        OptimizerSpec::Sgd { momentum, nesterov } => {
            let one = |(((p, g), weight_decay), carried): Each<'_>| {
                let step =
                    sgd::Step { learning_rate, momentum, nesterov, weight_decay, gradient_scale };
                let [m] = taken(carried);
                let (p, m) = sgd::sgd(p, g, m, step);
                *carried = vec![m];
                p
            };
            all.zip(carried).map(one).collect()
        }
        OptimizerSpec::Lion { beta1, beta2 } => {
            let one = |(((p, g), weight_decay), carried): Each<'_>| {
                let step = lion::Step { learning_rate, beta1, beta2, weight_decay, gradient_scale };
                let [m] = taken(carried);
                let (p, m) = lion::lion(p, g, m, step);
                *carried = vec![m];
                p
            };
            all.zip(carried).map(one).collect()
        }
    }
}

/// A parameter, its gradient, its weight decay, and what is carried for it.
type Each<'a> = (((Tensor<1>, Tensor<1>), f64), &'a mut Vec<Tensor<1>>);

fn taken<const N: usize>(carried: &mut Vec<Tensor<1>>) -> [Tensor<1>; N] {
    std::mem::take(carried).try_into().expect("one for each name")
}
