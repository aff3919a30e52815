//! `resnet`: a residual network for small pictures, of the shape of ResNet-18 (He, Zhang, Ren and Sun 2015, "Deep Residual Learning for
//! Image Recognition"; here with group norm, see docs/design).
//!
//! Stem: 3 × 3 convolution, norm, ReLU. Then stages of two blocks; each stage but the first halves the picture in its first block:
//! block(x) = relu(norm(conv(relu(norm(conv(x))))) + shortcut(x)), where the shortcut is x itself, or norm(1 × 1 convolution of x) where
//! size or channels change. Last the mean over all pixels, and one linear layer.
//!
//! Paths: `stem`, `blocks.<i>.first`, `blocks.<i>.second`, and `blocks.<i>.shortcut` where there is one, each with `.weight` \[size, size,
//! inputs, outputs\], `.gamma` and `.beta` \[outputs\]; `output.weight` \[inputs, outputs\], `output.bias` \[outputs\].
//!
//! Drawn: convolutions normal with standard deviation √(2 / inputs of one output) as in the paper, norms as the identity, the last layer
//! as PyTorch's `nn.Linear`.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, activation::relu},
};
use karat_kernels::{
    activation::Activation,
    average_pool::average_pool,
    conv2d::{Conv, conv2d},
    group_norm::{Norm, group_norm},
    window::{Image, Window},
};

use crate::{Init, Inputs, Parameter, layer::Layer, parameter::Source};

/// Blocks of a stage.
const BLOCKS: usize = 2;
/// Channels of a group that are normalised together, where the filters can be cut so.
const GROUP_WIDTH: usize = 16;

/// Its size.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Size of a picture.
    pub image: Image,
    /// Channels of each stage, at least one stage.
    pub filters: Vec<usize>,
    /// Outputs a row.
    pub n_outputs: usize,
}

/// Convolutions of one block.
struct Shape {
    first: Conv,
    second: Conv,
    shortcut: Option<Conv>,
}

impl Config {
    fn stem(&self) -> Conv {
        let n_outputs = self.filters.first().copied().unwrap_or(1);
        Conv { input: self.image, n_outputs, window: Window { size: 3, stride: 1, padding: 1 } }
    }

    fn blocks(&self) -> Vec<Shape> {
        let mut input = self.stem().output();
        let mut blocks = Vec::new();
        for (stage, n_outputs) in self.filters.iter().enumerate() {
            for block in 0..BLOCKS {
                let stride = if block == 0 && 0 < stage { 2 } else { 1 };
                let conv = |input: Image, size: usize, stride: usize| {
                    let window = Window { size, stride, padding: size / 2 };
                    Conv { input, n_outputs: *n_outputs, window }
                };
                let first = conv(input, 3, stride);
                let changes = 1 < stride || input.n_channels != *n_outputs;
                blocks.push(Shape {
                    first,
                    second: conv(first.output(), 3, 1),
                    shortcut: changes.then(|| conv(input, 1, stride)),
                });
                input = first.output();
            }
        }
        blocks
    }

    pub(crate) fn parameters(&self) -> Vec<Parameter> {
        let mut parameters = Vec::new();
        let mut unit = |path: String, conv: &Conv| {
            let init = Init::Normal { std: (2.0 / conv.n_taps() as f64).sqrt() };
            parameters.push(Parameter::filter(format!("{path}.weight"), conv, init));
            let n = conv.n_outputs;
            parameters.push(Parameter::bias(format!("{path}.gamma"), n, Init::One));
            parameters.push(Parameter::bias(format!("{path}.beta"), n, Init::Zero));
        };
        unit("stem".to_owned(), &self.stem());
        for (i, block) in self.blocks().iter().enumerate() {
            unit(format!("blocks.{i}.first"), &block.first);
            unit(format!("blocks.{i}.second"), &block.second);
            if let Some(shortcut) = &block.shortcut {
                unit(format!("blocks.{i}.shortcut"), shortcut);
            }
        }
        let n_inputs = self.filters.last().copied().unwrap_or(1);
        parameters.extend(Layer::parameters("output", n_inputs, self.n_outputs));
        parameters
    }

    pub(crate) fn products_per_row(&self) -> u64 {
        let of_block = |block: &Shape| {
            let shortcut = block.shortcut.as_ref().map_or(0, Conv::n_products);
            block.first.n_products() + block.second.n_products() + shortcut
        };
        let blocks: usize = self.blocks().iter().map(of_block).sum();
        let n_inputs = self.filters.last().copied().unwrap_or(1);
        (self.stem().n_products() + blocks + n_inputs * self.n_outputs) as u64
    }

    pub(crate) fn numbers_per_row(&self) -> usize {
        // A convolution leaves its product, its norm and at most one sum.
        let unit = |conv: &Conv| 3 * conv.output().len();
        let blocks = self.blocks();
        let of_blocks = blocks.iter().map(|block| {
            unit(&block.first) + unit(&block.second) + block.shortcut.as_ref().map_or(0, unit)
        });
        2 * self.image.len() + unit(&self.stem()) + of_blocks.sum::<usize>() + self.n_outputs
    }

    pub(crate) fn build(&self, source: &mut Source<'_>) -> ResNet {
        ResNet {
            stem: Unit::build(self.stem(), source),
            blocks: (self.blocks().into_iter())
                .map(|block| Block {
                    first: Unit::build(block.first, source),
                    second: Unit::build(block.second, source),
                    shortcut: block.shortcut.map(|conv| Unit::build(conv, source)),
                })
                .collect(),
            output: Layer::build(source),
        }
    }
}

/// The module.
#[derive(Module, Debug)]
pub struct ResNet {
    stem: Unit,
    blocks: Vec<Block>,
    output: Layer,
}

/// Two convolutions and a way around them.
#[derive(Module, Debug)]
struct Block {
    first: Unit,
    second: Unit,
    shortcut: Option<Unit>,
}

/// A convolution without bias, and a norm.
#[derive(Module, Debug)]
struct Unit {
    weight: Param<Tensor<4>>,
    gamma: Param<Tensor<1>>,
    beta: Param<Tensor<1>>,
    #[module(skip)]
    conv: Conv,
}

impl Unit {
    fn build(conv: Conv, source: &mut Source<'_>) -> Self {
        Self { weight: source.next(), gamma: source.next(), beta: source.next(), conv }
    }

    fn forward(&self, x: Tensor<4>, relu: bool) -> Tensor<4> {
        let (weight, image) = (self.weight.val(), self.conv.output());
        // The norm has a bias of its own.
        let none = Tensor::zeros([image.n_channels], &weight.device());
        let z = conv2d(x, weight, none, self.conv, false);
        let n_groups = n_groups(image.n_channels);
        group_norm(z, self.gamma.val(), self.beta.val(), Norm { image, n_groups, relu })
    }
}

/// Groups of [`GROUP_WIDTH`] channels, or fewer where that leaves a rest.
fn n_groups(n_channels: usize) -> usize {
    let width = (1..=GROUP_WIDTH).rev().find(|width| n_channels.is_multiple_of(*width));
    n_channels / width.unwrap_or(1)
}

impl ResNet {
    pub(crate) fn forward(&self, inputs: Inputs) -> Tensor<2> {
        let mut x = self.stem.forward(inputs.channels_last(), true);
        let mut image = self.stem.conv.output();
        for block in &self.blocks {
            let y = block.second.forward(block.first.forward(x.clone(), true), false);
            let around = match &block.shortcut {
                Some(shortcut) => shortcut.forward(x, false),
                None => x,
            };
            x = relu(y + around);
            image = block.second.conv.output();
        }
        self.output.forward(average_pool(x, image), Activation::Identity)
    }
}

#[cfg(test)]
mod tests {
    use karat_kernels::window::Image;

    use super::n_groups;
    use crate::{Config, testing};

    fn config() -> Config {
        Config::ResNet(super::Config {
            image: Image { height: 9, width: 8, n_channels: 1 },
            filters: vec![8, 16],
            n_outputs: 1,
        })
    }

    /// A bar somewhere in noise, lying or standing: any one pixel says nothing about the label.
    #[test]
    fn trains_to_known_loss() {
        let loss = testing::train(&config(), testing::bars, 40);
        assert!(loss < 0.05, "{loss}");
    }

    #[test]
    fn noise_changes_nothing() {
        testing::assert_noise_matters(&config(), false);
    }

    #[cfg(feature = "gpu")]
    #[test]
    fn gpu_agrees_with_the_cpu() {
        testing::assert_gpu_agrees(&config());
    }

    #[test]
    fn a_row_does_not_depend_on_its_neighbours() {
        testing::assert_rows_stand_alone(&config());
    }

    #[test]
    fn the_depth_of_resnet_18_is_18() {
        let image = Image { height: 32, width: 32, n_channels: 3 };
        let filters = vec![64, 128, 256, 512];
        let config = super::Config { image, filters, n_outputs: 10 };
        let parameters = config.parameters();
        let is_deep = |path: &str| path.ends_with("weight") && !path.contains("shortcut");
        assert_eq!(parameters.iter().filter(|it| is_deep(&it.path)).count(), 18);
        // As the 11,173,962 that the shape has with batch norm (kuangliu/pytorch-cifar), whose scales are as many.
        let n: usize = parameters.iter().map(crate::Parameter::n_elements).sum();
        assert_eq!(n, 11_173_962);
        assert_eq!([8, 12, 64, 33].map(n_groups), [1, 1, 4, 3]);
    }

    #[test]
    fn paths_are_where_the_module_is_visited() {
        let unit = |path: &str| ["weight", "gamma", "beta"].map(|it| format!("{path}.{it}"));
        let mut expected: Vec<String> = [
            "stem",
            "blocks.0.first",
            "blocks.0.second",
            "blocks.1.first",
            "blocks.1.second",
            "blocks.2.first",
            "blocks.2.second",
            "blocks.2.shortcut",
            "blocks.3.first",
            "blocks.3.second",
        ]
        .iter()
        .flat_map(|path| unit(path))
        .collect();
        expected.extend(["output.weight".to_owned(), "output.bias".to_owned()]);
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        testing::assert_paths(&config(), &expected);
    }
}
