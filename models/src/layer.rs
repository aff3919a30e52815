//! What several architectures are made of: a fully connected layer, and a layer norm.

use burn::{
    module::{Module, Param},
    tensor::Tensor,
};
use karat_kernels::{
    activation::Activation,
    layer_norm::{layer_norm, residual_layer_norm},
    linear::linear,
};

use crate::{Init, Parameter, parameter::Source};

/// Added to a row's variance, as PyTorch does by default.
const EPS: f64 = 1e-5;

/// x · weight + bias. Paths: `weight` \[inputs, outputs\], `bias` \[outputs\]; drawn as PyTorch's `nn.Linear` (uniform within
/// 1/√inputs).
#[derive(Module, Debug)]
pub(crate) struct Layer {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

impl Layer {
    pub(crate) fn parameters(path: &str, n_inputs: usize, n_outputs: usize) -> [Parameter; 2] {
        let init = Init::fan_in(n_inputs);
        [
            Parameter::matrix(format!("{path}.weight"), n_inputs, n_outputs, init),
            Parameter::bias(format!("{path}.bias"), n_outputs, init),
        ]
    }

    pub(crate) fn build(source: &mut Source<'_>) -> Self {
        Self { weight: source.next(), bias: source.next() }
    }

    pub(crate) fn forward(&self, x: Tensor<2>, activation: Activation) -> Tensor<2> {
        linear(x, self.weight.val(), self.bias.val(), activation)
    }
}

/// Layer norm over a row. Paths: `gamma`, `beta` \[width\]; they start at 1 and 0 and do not decay.
#[derive(Module, Debug)]
pub(crate) struct Norm {
    gamma: Param<Tensor<1>>,
    beta: Param<Tensor<1>>,
}

impl Norm {
    pub(crate) fn parameters(path: &str, width: usize) -> [Parameter; 2] {
        [
            Parameter::bias(format!("{path}.gamma"), width, Init::One),
            Parameter::bias(format!("{path}.beta"), width, Init::Zero),
        ]
    }

    pub(crate) fn build(source: &mut Source<'_>) -> Self {
        Self { gamma: source.next(), beta: source.next() }
    }

    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        layer_norm(x, self.gamma.val(), self.beta.val(), EPS)
    }

    /// The norm of x + residual.
    pub(crate) fn of_sum(&self, x: Tensor<2>, residual: Tensor<2>) -> Tensor<2> {
        residual_layer_norm(x, residual, self.gamma.val(), self.beta.val(), EPS)
    }
}
