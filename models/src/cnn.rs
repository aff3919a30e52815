//! `cnn`: a small convolutional network for pictures.
//!
//! xᵢ₊₁ = the largest of each 2 × 2 pixels of relu(3 × 3 convolution of xᵢ, padded to keep its size); then the pixels side by side
//! through fully connected layers with ReLU and dropout, as in [`crate::mlp`].
//!
//! Paths: `filters.<i>.weight` \[3, 3, inputs, outputs\], `filters.<i>.bias` \[outputs\], `layers.<i>.weight` \[inputs, outputs\],
//! `layers.<i>.bias` \[outputs\]. Inputs of the first layer: row, column, channel.
//!
//! Drawn as PyTorch's `nn.Conv2d` and `nn.Linear`: uniform within 1/√inputs of one output, weights and biases.

use burn::{
    module::{Module, Param},
    tensor::Tensor,
};
use karat_kernels::{
    activation::Activation,
    conv_pool::{self, conv_pool},
    conv2d::Conv,
    dropout::{Mask, dropout},
    window::{Image, Window},
};

use crate::{Init, Inputs, Noise, Parameter, layer::Layer, parameter::Source};

/// Pixels on each side that a pool makes one of.
const POOL: usize = 2;

/// Its size.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Size of a picture: at least 2 to the power of the convolutions, high and wide.
    pub image: Image,
    /// Channels of each convolution.
    pub filters: Vec<usize>,
    /// Units of each hidden layer.
    pub hidden: Vec<usize>,
    /// Outputs a row.
    pub n_outputs: usize,
    /// Share of hidden units dropped while training, [0, 1).
    pub dropout: f64,
}

impl Config {
    fn convolutions(&self) -> Vec<Conv> {
        let mut input = self.image;
        let each = self.filters.iter().map(|n_outputs| {
            let window = Window { size: 3, stride: 1, padding: 1 };
            let conv = Conv { input, n_outputs: *n_outputs, window };
            input = conv_pool::output(&conv, POOL);
            conv
        });
        each.collect()
    }

    pub(crate) fn parameters(&self) -> Vec<Parameter> {
        let (mut parameters, mut n_inputs) = (Vec::new(), self.image.len());
        for (i, conv) in self.convolutions().iter().enumerate() {
            let init = Init::fan_in(conv.n_taps());
            let path = format!("filters.{i}.weight");
            parameters.push(Parameter::filter(path, conv, init));
            parameters.push(Parameter::bias(format!("filters.{i}.bias"), conv.n_outputs, init));
            n_inputs = conv_pool::output(conv, POOL).len();
        }
        for (i, n_outputs) in self.hidden.iter().chain([&self.n_outputs]).enumerate() {
            parameters.extend(Layer::parameters(&format!("layers.{i}"), n_inputs, *n_outputs));
            n_inputs = *n_outputs;
        }
        parameters
    }

    pub(crate) fn products_per_row(&self) -> u64 {
        let convolutions = self.convolutions();
        let n_flat = convolutions
            .last()
            .map_or_else(|| self.image.len(), |conv| conv_pool::output(conv, POOL).len());
        let inputs = [n_flat].into_iter().chain(self.hidden.iter().copied());
        let outputs = self.hidden.iter().copied().chain([self.n_outputs]);
        let layers = inputs.zip(outputs).map(|(inputs, outputs)| inputs * outputs);
        convolutions.iter().map(Conv::n_products).chain(layers).sum::<usize>() as u64
    }

    pub(crate) fn numbers_per_row(&self) -> usize {
        let copies = if 0.0 < self.dropout { 2 } else { 1 };
        // The picture as it came and with its channels last; of each convolution what the pool leaves, and from where.
        let convolutions = self.convolutions();
        let pools = convolutions.iter().map(|conv| 2 * conv_pool::output(conv, POOL).len());
        let n_hidden: usize = self.hidden.iter().sum();
        2 * self.image.len() + pools.sum::<usize>() + copies * n_hidden + self.n_outputs
    }

    pub(crate) fn build(&self, source: &mut Source<'_>) -> Cnn {
        Cnn {
            filters: (self.filters.iter())
                .map(|_| Filter { weight: source.next(), bias: source.next() })
                .collect(),
            layers: (0..=self.hidden.len()).map(|_| Layer::build(source)).collect(),
            convolutions: self.convolutions(),
            dropout: self.dropout,
        }
    }
}

/// The module.
#[derive(Module, Debug)]
pub struct Cnn {
    filters: Vec<Filter>,
    layers: Vec<Layer>,
    #[module(skip)]
    convolutions: Vec<Conv>,
    #[module(skip)]
    dropout: f64,
}

/// One convolution.
#[derive(Module, Debug)]
struct Filter {
    weight: Param<Tensor<4>>,
    bias: Param<Tensor<1>>,
}

impl Cnn {
    pub(crate) fn forward(&self, inputs: Inputs, noise: Noise<'_>) -> Tensor<2> {
        let mut pixels = inputs.channels_last();
        for (filter, conv) in self.filters.iter().zip(&self.convolutions) {
            pixels = conv_pool(pixels, filter.weight.val(), filter.bias.val(), *conv, POOL);
        }
        let mut x: Tensor<2> = pixels.flatten(1, 3);
        for (i, layer) in self.layers.iter().enumerate() {
            let is_hidden = i + 1 < self.layers.len();
            let activation = if is_hidden { Activation::Relu } else { Activation::Identity };
            x = layer.forward(x, activation);
            if let Some(draw) = noise
                && is_hidden
                && 0.0 < self.dropout
            {
                x = dropout(x, Mask::new(self.dropout, draw(&format!("layers.{i}"))));
            }
        }
        x
    }
}

#[cfg(test)]
mod tests {
    use karat_kernels::window::Image;

    use crate::{Config, testing};

    fn config(dropout: f64) -> Config {
        Config::Cnn(super::Config {
            image: Image { height: 9, width: 8, n_channels: 1 },
            filters: vec![4, 8],
            hidden: vec![16],
            n_outputs: 1,
            dropout,
        })
    }

    /// A bar somewhere in noise, lying or standing: any one pixel says nothing about the label.
    #[test]
    fn trains_to_known_loss() {
        let loss = testing::train(&config(0.0), testing::bars, 100);
        assert!(loss < 0.05, "{loss}");
    }

    #[test]
    fn dropout_is_active_only_with_noise() {
        testing::assert_noise_matters(&config(0.5), true);
        testing::assert_noise_matters(&config(0.0), false);
    }

    #[cfg(feature = "gpu")]
    #[test]
    fn gpu_agrees_with_the_cpu() {
        testing::assert_gpu_agrees(&config(0.5));
    }

    #[test]
    fn a_row_does_not_depend_on_its_neighbours() {
        testing::assert_rows_stand_alone(&config(0.0));
    }

    #[test]
    fn paths_are_where_the_module_is_visited() {
        testing::assert_paths(
            &config(0.0),
            &[
                "filters.0.weight",
                "filters.0.bias",
                "filters.1.weight",
                "filters.1.bias",
                "layers.0.weight",
                "layers.0.bias",
                "layers.1.weight",
                "layers.1.bias",
            ],
        );
    }
}
