//! `resmlp`: categorical embeddings, numbers and pixels side by side, then residual blocks: the ResNet of Gorishniy et al.
//! 2021, "Revisiting Deep Learning Models for Tabular Data".
//!
//! x₀ = (numeric ‖ pixels ‖ embeddings) · W + b; xᵢ₊₁ = xᵢ + dropout(relu(norm(xᵢ) · W₁ + b₁)) · W₂ + b₂;
//! y = relu(norm(x)) · W + b.
//!
//! The norm is a layer norm where the paper has a batch norm: a batch norm makes a row's score depend, while training, on the
//! rows that happen to be beside it, and needs running statistics that two micro-batches would count differently. With a
//! layer norm a row's score is a function of the row alone.
//!
//! Paths: `embeddings.<i>` \[slots, width\], `input.{weight,bias}`, `blocks.<i>.norm.{gamma,beta}`,
//! `blocks.<i>.first.{weight,bias}`, `blocks.<i>.second.{weight,bias}`, `norm.{gamma,beta}`, `output.{weight,bias}`.
//!
//! Drawn: layers as PyTorch's `nn.Linear` (uniform within 1/√inputs), norms at 1 and 0, embeddings normal with standard
//! deviation 1/√width.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, activation},
};
use karat_kernels::{
    activation::Activation,
    dropout::{Mask, dropout},
    table_input::table_input,
};

use crate::{
    Inputs, Noise, Parameter, joined,
    layer::{Layer, Norm},
    parameter::Source,
};

/// Its size.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Numbers and pixels a row.
    pub n_numeric: usize,
    /// Slots of each category.
    pub cardinalities: Vec<usize>,
    /// Embedding width of each category.
    pub widths: Vec<usize>,
    /// Units that go from block to block.
    pub width: usize,
    /// Units inside a block.
    pub hidden: usize,
    /// Blocks.
    pub n_blocks: usize,
    /// Outputs a row.
    pub n_outputs: usize,
    /// Share of the units inside a block dropped while training, [0, 1).
    pub dropout: f64,
}

impl Config {
    pub(crate) fn parameters(&self) -> Vec<Parameter> {
        let embeddings = self.cardinalities.iter().zip(&self.widths).enumerate();
        let mut parameters: Vec<Parameter> = embeddings
            .map(|(i, (n_slots, width))| {
                Parameter::embedding(format!("embeddings.{i}"), *n_slots, *width)
            })
            .collect();
        let n_inputs = self.n_numeric + self.widths.iter().sum::<usize>();
        parameters.extend(Layer::parameters("input", n_inputs, self.width));
        for i in 0..self.n_blocks {
            let path = |name: &str| format!("blocks.{i}.{name}");
            parameters.extend(Norm::parameters(&path("norm"), self.width));
            parameters.extend(Layer::parameters(&path("first"), self.width, self.hidden));
            parameters.extend(Layer::parameters(&path("second"), self.hidden, self.width));
        }
        parameters.extend(Norm::parameters("norm", self.width));
        parameters.extend(Layer::parameters("output", self.width, self.n_outputs));
        parameters
    }

    pub(crate) fn products_per_row(&self) -> u64 {
        let n_inputs = self.n_numeric + self.widths.iter().sum::<usize>();
        let blocks = self.n_blocks * 2 * self.width * self.hidden;
        (n_inputs * self.width + blocks + self.width * self.n_outputs) as u64
    }

    pub(crate) fn numbers_per_row(&self) -> usize {
        let n_inputs = self.n_numeric + self.widths.iter().sum::<usize>();
        // A block leaves its norm, its units, what dropout leaves of them, its product and the sum.
        let copies = if 0.0 < self.dropout { 2 } else { 1 };
        let block = 3 * self.width + copies * self.hidden;
        let n_read = self.n_numeric + self.cardinalities.len() + n_inputs;
        n_read + self.n_blocks * block + 3 * self.width + self.n_outputs
    }

    pub(crate) fn build(&self, source: &mut Source<'_>) -> ResMlp {
        ResMlp {
            embeddings: self.cardinalities.iter().map(|_| source.next()).collect(),
            input: Layer::build(source),
            blocks: (0..self.n_blocks)
                .map(|_| Block {
                    norm: Norm::build(source),
                    first: Layer::build(source),
                    second: Layer::build(source),
                })
                .collect(),
            norm: Norm::build(source),
            output: Layer::build(source),
            dropout: self.dropout,
        }
    }
}

/// The module.
#[derive(Module, Debug)]
pub struct ResMlp {
    embeddings: Vec<Param<Tensor<2>>>,
    input: Layer,
    blocks: Vec<Block>,
    norm: Norm,
    output: Layer,
    #[module(skip)]
    dropout: f64,
}

/// One residual block.
#[derive(Module, Debug)]
struct Block {
    norm: Norm,
    first: Layer,
    second: Layer,
}

impl ResMlp {
    pub(crate) fn forward(&self, inputs: Inputs, noise: Noise<'_>) -> Tensor<2> {
        let x = match joined(&self.embeddings) {
            Some((tables, layout)) => table_input(inputs.flat(), inputs.slots, tables, &layout),
            None => inputs.flat(),
        };
        let mut x = self.input.forward(x, Activation::Identity);
        for (i, block) in self.blocks.iter().enumerate() {
            let mut hidden = block.first.forward(block.norm.forward(x.clone()), Activation::Relu);
            if let Some(draw) = noise
                && 0.0 < self.dropout
            {
                hidden = dropout(hidden, Mask::new(self.dropout, draw(&format!("blocks.{i}"))));
            }
            x = x + block.second.forward(hidden, Activation::Identity);
        }
        self.output.forward(activation::relu(self.norm.forward(x)), Activation::Identity)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Config, testing};

    fn config(dropout: f64) -> Config {
        Config::ResMlp(super::Config {
            n_numeric: 2,
            cardinalities: vec![4],
            widths: vec![2],
            width: 12,
            hidden: 16,
            n_blocks: 2,
            n_outputs: 1,
            dropout,
        })
    }

    /// The label is the exclusive or of two signs: no linear model gets below ln 2 = 0.693.
    #[test]
    fn trains_to_known_loss() {
        let loss = testing::train(&config(0.0), testing::exclusive_or, 300);
        assert!(loss < 0.1, "{loss}");
    }

    #[test]
    fn dropout_is_active_only_with_noise() {
        testing::assert_noise_matters(&config(0.5), true);
        testing::assert_noise_matters(&config(0.0), false);
    }

    #[test]
    fn a_row_does_not_depend_on_its_batch() {
        testing::assert_rows_stand_alone(&config(0.0));
    }

    #[cfg(feature = "gpu")]
    #[test]
    fn gpu_agrees_with_the_cpu() {
        testing::assert_gpu_agrees(&config(0.5));
    }

    #[test]
    fn paths_are_where_the_module_is_visited() {
        let block = |i: usize| {
            [
                "norm.gamma",
                "norm.beta",
                "first.weight",
                "first.bias",
                "second.weight",
                "second.bias",
            ]
            .map(|name| format!("blocks.{i}.{name}"))
        };
        let paths = [
            ["embeddings.0", "input.weight", "input.bias"].map(str::to_owned).to_vec(),
            block(0).to_vec(),
            block(1).to_vec(),
            ["norm.gamma", "norm.beta", "output.weight", "output.bias"].map(str::to_owned).to_vec(),
        ]
        .concat();
        testing::assert_paths(&config(0.0), &paths.iter().map(String::as_str).collect::<Vec<_>>());
    }
}
