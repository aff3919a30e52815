//! One file an architecture: its size, its parameters by path, its forward pass. Knows nothing of the product.
//!
//! Weights come from outside: [`Config::parameters`] lists paths, shapes and how each is drawn; [`Config::build`] asks for
//! the numbers. So a fresh model and one from a checkpoint are built the same way, and no generator of burn's is used.
//!
//! Reading order: this file, [`mlp`], [`linear`], [`resmlp`], [`cnn`], [`resnet`], [`ft_transformer`], [`encoder`],
//! [`parameter`].

use burn::{
    module::Module,
    tensor::{Device, Int, Tensor},
};
use karat_kernels::{philox::Draw, table_input::Table};

pub mod cnn;
pub mod encoder;
pub mod ft_transformer;
mod layer;
pub mod linear;
pub mod mlp;
pub mod parameter;
pub mod resmlp;
pub mod resnet;
#[cfg(test)]
mod testing;

pub use parameter::{Init, Parameter};

/// An architecture and its size.
#[derive(Clone, Debug, PartialEq)]
pub enum Config {
    /// See [`linear`].
    Linear(linear::Config),
    /// See [`mlp`].
    Mlp(mlp::Config),
    /// See [`resmlp`].
    ResMlp(resmlp::Config),
    /// See [`ft_transformer`].
    FtTransformer(ft_transformer::Config),
    /// See [`cnn`].
    Cnn(cnn::Config),
    /// See [`resnet`].
    ResNet(resnet::Config),
}

/// Rows as a model reads them.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// Rows × numbers.
    pub numeric: Tensor<2>,
    /// Rows × categories, I32, each below its slots.
    pub slots: Tensor<2, Int>,
    /// Rows × channels × height × width, standardised by channel; absent where rows have no image.
    pub image: Option<Tensor<4>>,
}

impl Inputs {
    /// The pictures as rows × height × width × channels. The caller chose a model that reads pictures for rows that have
    /// them.
    fn channels_last(self) -> Tensor<4> {
        self.image.expect("rows with pictures").permute([0, 2, 3, 1])
    }

    /// Rows × (numbers, then pixels): what an architecture reads that sees an image as so many numbers.
    pub(crate) fn flat(&self) -> Tensor<2> {
        match &self.image {
            None => self.numeric.clone(),
            Some(image) => {
                let pixels: Tensor<2> = image.clone().flatten(1, 3);
                match self.numeric.dims()[1] {
                    0 => pixels,
                    _ => Tensor::cat(vec![self.numeric.clone(), pixels], 1),
                }
            }
        }
    }
}

/// Gives the draw for a layer's path while training; absent while scoring.
pub type Noise<'a> = Option<&'a dyn Fn(&str) -> Draw>;

impl Config {
    /// Every parameter, in the order in which the module is visited.
    #[must_use]
    pub fn parameters(&self) -> Vec<Parameter> {
        match self {
            Self::Linear(config) => config.parameters(),
            Self::Mlp(config) => config.parameters(),
            Self::ResMlp(config) => config.parameters(),
            Self::FtTransformer(config) => config.parameters(),
            Self::Cnn(config) => config.parameters(),
            Self::ResNet(config) => config.parameters(),
        }
    }

    /// Multiplications in the products and convolutions of one row's forward pass: what throughput is measured by.
    #[must_use]
    pub fn products_per_row(&self) -> u64 {
        match self {
            Self::Linear(config) => config.products_per_row(),
            Self::Mlp(config) => config.products_per_row(),
            Self::ResMlp(config) => config.products_per_row(),
            Self::FtTransformer(config) => config.products_per_row(),
            Self::Cnn(config) => config.products_per_row(),
            Self::ResNet(config) => config.products_per_row(),
        }
    }

    /// Numbers that one row leaves between the operations on the way forward, inputs included: what the way back may need
    /// again, and so what decides how many rows fit into a device's memory.
    #[must_use]
    pub fn numbers_per_row(&self) -> usize {
        match self {
            Self::Linear(config) => config.numbers_per_row(),
            Self::Mlp(config) => config.numbers_per_row(),
            Self::ResMlp(config) => config.numbers_per_row(),
            Self::FtTransformer(config) => config.numbers_per_row(),
            Self::Cnn(config) => config.numbers_per_row(),
            Self::ResNet(config) => config.numbers_per_row(),
        }
    }

    /// A model on `device` with the numbers that `values` gives for each parameter, in the order of
    /// [`Config::parameters`].
    pub fn build(&self, device: &Device, values: &mut dyn FnMut(&Parameter) -> Vec<f32>) -> Model {
        let mut source = parameter::Source::new(device, self.parameters(), values);
        match self {
            Self::Linear(config) => Model::Linear(config.build(&mut source)),
            Self::Mlp(config) => Model::Mlp(config.build(&mut source)),
            Self::ResMlp(config) => Model::ResMlp(config.build(&mut source)),
            Self::FtTransformer(config) => Model::FtTransformer(config.build(&mut source)),
            Self::Cnn(config) => Model::Cnn(config.build(&mut source)),
            Self::ResNet(config) => Model::ResNet(config.build(&mut source)),
        }
    }
}

/// A model of any architecture.
#[derive(Module, Debug)]
pub enum Model {
    /// See [`linear`].
    Linear(linear::Linear),
    /// See [`mlp`].
    Mlp(mlp::Mlp),
    /// See [`resmlp`].
    ResMlp(resmlp::ResMlp),
    /// See [`ft_transformer`].
    FtTransformer(ft_transformer::FtTransformer),
    /// See [`cnn`].
    Cnn(cnn::Cnn),
    /// See [`resnet`].
    ResNet(resnet::ResNet),
}

impl Model {
    /// Rows × outputs: logits, or values in the label's units.
    #[must_use]
    pub fn forward(&self, inputs: Inputs, noise: Noise<'_>) -> Tensor<2> {
        match self {
            Self::Linear(model) => model.forward(inputs),
            Self::Mlp(model) => model.forward(inputs, noise),
            Self::ResMlp(model) => model.forward(inputs, noise),
            Self::FtTransformer(model) => model.forward(inputs, noise),
            Self::Cnn(model) => model.forward(inputs, noise),
            Self::ResNet(model) => model.forward(inputs),
        }
    }
}

/// The tables one after the other, as [`karat_kernels::table_input`] wants them, or nothing when there is none.
fn joined(tables: &[burn::module::Param<Tensor<2>>]) -> Option<(Tensor<1>, Vec<Table>)> {
    let layout = tables.iter().map(|table| {
        let [n_slots, width] = table.dims();
        Table { n_slots, width }
    });
    let layout = layout.collect();
    let mut flat: Vec<Tensor<1>> = tables.iter().map(|table| table.val().flatten(0, 1)).collect();
    match flat.len() {
        0 => None,
        1 => flat.pop().map(|one| (one, layout)),
        _ => Some((Tensor::cat(flat, 0), layout)),
    }
}

#[cfg(test)]
mod tests {
    use karat_kernels::window::Image;

    use crate::{Config, cnn, ft_transformer, resmlp, resnet};

    /// Each sum by hand.
    #[test]
    fn products_of_a_row_are_counted() {
        let image = Image { height: 9, width: 8, n_channels: 1 };
        let resmlp = resmlp::Config {
            n_numeric: 3,
            cardinalities: vec![5],
            widths: vec![2],
            width: 8,
            hidden: 16,
            n_blocks: 2,
            n_outputs: 1,
            dropout: 0.0,
        };
        let ft_transformer = ft_transformer::Config {
            n_numeric: 3,
            cardinalities: vec![5],
            width: 4,
            n_heads: 2,
            hidden: 6,
            n_blocks: 2,
            n_outputs: 1,
            dropout: 0.0,
        };
        let (filters, hidden) = (vec![4, 8], vec![16]);
        let cnn =
            cnn::Config { image, filters: filters.clone(), hidden, n_outputs: 1, dropout: 0.0 };
        let resnet = resnet::Config { image, filters, n_outputs: 1 };
        let (large, small) = (9 * 8, 5 * 4);
        for (config, expected) in [
            // 5 inputs to 8, two blocks of 8 to 16 and back, 8 to 1.
            (Config::ResMlp(resmlp), 5 * 8 + 2 * 2 * 8 * 16 + 8),
            // 5 tokens: queries, keys and values, attention; then all five and in the last block one of them.
            (
                Config::FtTransformer(ft_transformer),
                2 * (5 * 3 * 16 + 2 * 25 * 4) + 6 * (16 + 2 * 4 * 6) + 4,
            ),
            // 9 × 8 places of 9 taps to 4, 4 × 4 places of 36 taps to 8; 2 × 2 × 8 numbers to 16, 16 to 1.
            (Config::Cnn(cnn), large * 9 * 4 + 4 * 4 * 36 * 8 + 32 * 16 + 16),
            // The stem; four convolutions at full size; one that halves and three at half size, and a shortcut; 8 to 1.
            (
                Config::ResNet(resnet),
                large * (9 * 4 + 4 * 36 * 4) + small * (36 * 8 + 3 * 72 * 8 + 4 * 8) + 8,
            ),
        ] {
            assert_eq!(config.products_per_row(), expected as u64, "{config:?}");
        }
    }
}
