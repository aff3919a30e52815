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

/// The numbers of one update of one parameter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) learning_rate: f64,
    pub(crate) weight_decay: f64,
    /// What gradients are multiplied by first.
    pub(crate) gradient_scale: f32,
    /// This update's number, from 1.
    pub(crate) t: u64,
}

/// The parameter after an update from its gradient; `carried` has one tensor for each of [`moments`], and is updated.
pub(crate) fn follow(
    optimizer: OptimizerSpec,
    p: Tensor<1>,
    gradient: Tensor<1>,
    carried: &mut Vec<Tensor<1>>,
    step: Step,
) -> Tensor<1> {
    let Step { learning_rate, weight_decay, gradient_scale, t } = step;
    // Taken out, so that an operation is the only owner and writes in place.
    let mut before = carried.drain(..);
    let mut next = || before.next().expect("one for each name");
    let (p, after) = match optimizer {
        OptimizerSpec::Adamw { beta1, beta2, epsilon } => {
            let step = adamw::Step {
                beta1,
                beta2,
                epsilon,
                ..adamw::Step::new(learning_rate, weight_decay, gradient_scale, t)
            };
            let (p, m, v) = adamw::adamw(p, gradient, next(), next(), step);
            (p, vec![m, v])
        }
        OptimizerSpec::Sgd { momentum, nesterov } => {
            let step =
                sgd::Step { learning_rate, momentum, nesterov, weight_decay, gradient_scale };
            let (p, m) = sgd::sgd(p, gradient, next(), step);
            (p, vec![m])
        }
        OptimizerSpec::Lion { beta1, beta2 } => {
            let step = lion::Step { learning_rate, beta1, beta2, weight_decay, gradient_scale };
            let (p, m) = lion::lion(p, gradient, next(), step);
            (p, vec![m])
        }
    };
    drop(before);
    *carried = after;
    p
}
