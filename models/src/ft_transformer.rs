//! `ft_transformer`: every feature becomes a token, and a transformer reads them: the FT-Transformer of Gorishniy et al. 2021,
//! "Revisiting Deep Learning Models for Tabular Data".
//!
//! Tokens of a row: one of its own for what is asked (CLS); for number j: xⱼ · wⱼ + bⱼ; for category j: its embedding. Blocks
//! of [`crate::encoder`] with the norm before each sublayer, but none before the first attention, as in the paper. What
//! leaves the last block at CLS is the row's answer: y = relu(norm(h)) · W + b.
//!
//! Not as in the paper: GELU instead of ReGLU; a category has no bias beside its embedding, which would be the same
//! parameter twice; attention's weights are not dropped.
//!
//! Paths: `cls` \[1, width\], `numbers.{weight,bias}` \[numbers, width\], `categories.<i>` \[slots, width\],
//! `blocks.<i>.…` as [`crate::encoder`] says, `norm.{gamma,beta}`, `output.{weight,bias}`.
//!
//! Drawn: tokens uniform within 1/√width, layers as PyTorch's `nn.Linear` (uniform within 1/√inputs), norms at 1 and 0.

use burn::{
    module::{Module, Param},
    tensor::{DType, Int, Tensor, TensorData, activation},
};
use karat_kernels::{activation::Activation, embedding::embedding};

use crate::{
    Init, Inputs, Noise, Parameter,
    encoder::{self, Block, Keep, NormPlace, Tokens},
    layer::{Layer, Norm},
    parameter::Source,
};

/// Its size.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Numbers a row.
    pub n_numeric: usize,
    /// Slots of each category.
    pub cardinalities: Vec<usize>,
    /// Numbers of a token; a multiple of `n_heads`.
    pub width: usize,
    /// Heads of attention.
    pub n_heads: usize,
    /// Units between the two layers of a block.
    pub hidden: usize,
    /// Blocks, at least one.
    pub n_blocks: usize,
    /// Outputs a row.
    pub n_outputs: usize,
    /// Share of units dropped while training, [0, 1).
    pub dropout: f64,
}

impl Config {
    fn encoder(&self) -> encoder::Config {
        encoder::Config {
            width: self.width,
            n_heads: self.n_heads,
            hidden: self.hidden,
            n_blocks: self.n_blocks,
            norm: NormPlace::BeforeButFirst,
            activation: Activation::GeluErf,
            dropout: self.dropout,
        }
    }

    pub(crate) fn parameters(&self) -> Vec<Parameter> {
        let init = Init::fan_in(self.width);
        // As in the paper, what makes tokens does not decay.
        let token = |path: String, n_rows| Parameter {
            decays: false,
            ..Parameter::matrix(path, n_rows, self.width, init)
        };
        let mut parameters = vec![
            token("cls".to_owned(), 1),
            token("numbers.weight".to_owned(), self.n_numeric),
            token("numbers.bias".to_owned(), self.n_numeric),
        ];
        let categories = self.cardinalities.iter().enumerate();
        parameters
            .extend(categories.map(|(i, n_slots)| token(format!("categories.{i}"), *n_slots)));
        parameters.extend(self.encoder().parameters("blocks"));
        parameters.extend(Norm::parameters("norm", self.width));
        parameters.extend(Layer::parameters("output", self.width, self.n_outputs));
        parameters
    }

    /// Tokens of a row: the answer's own, one for each number and category.
    const fn n_tokens(&self) -> usize {
        1 + self.n_numeric + self.cardinalities.len()
    }

    pub(crate) fn products_per_row(&self) -> u64 {
        let (n, width) = (self.n_tokens(), self.width);
        // Queries, keys and values; each token with each, twice. Then what becomes of a token: of the last block only one is
        // asked for.
        let reading = n * 3 * width * width + 2 * n * n * width;
        let token = width * width + 2 * width * self.hidden;
        let n_through = n * self.n_blocks.saturating_sub(1) + 1;
        (self.n_blocks * reading + n_through * token + width * self.n_outputs) as u64
    }

    pub(crate) fn numbers_per_row(&self) -> usize {
        let n_tokens = self.n_tokens();
        // A block leaves, of each token: two norms; queries, keys and values; attention and its product; two sums; and its
        // units twice.
        let block = 9 * self.width + 2 * self.hidden;
        let n_read = self.n_numeric + self.cardinalities.len();
        n_read
            + n_tokens * (3 * self.width + self.n_blocks * block)
            + 2 * self.width
            + self.n_outputs
    }

    pub(crate) fn build(&self, source: &mut Source<'_>) -> FtTransformer {
        FtTransformer {
            cls: source.next(),
            numbers: Numbers { weight: source.next(), bias: source.next() },
            categories: self.cardinalities.iter().map(|_| source.next()).collect(),
            blocks: self.encoder().build(source),
            norm: Norm::build(source),
            output: Layer::build(source),
        }
    }
}

/// The module.
#[derive(Module, Debug)]
pub struct FtTransformer {
    cls: Param<Tensor<2>>,
    numbers: Numbers,
    categories: Vec<Param<Tensor<2>>>,
    blocks: Vec<Block>,
    norm: Norm,
    output: Layer,
}

/// What makes tokens of numbers.
#[derive(Module, Debug)]
struct Numbers {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<2>>,
}

impl FtTransformer {
    pub(crate) fn forward(&self, inputs: Inputs, noise: Noise<'_>) -> Tensor<2> {
        let mut tokens = self.tokens(inputs);
        let last = self.blocks.len().saturating_sub(1);
        for (i, block) in self.blocks.iter().enumerate() {
            let keep = if i == last { Keep::First } else { Keep::All };
            let path = format!("blocks.{i}");
            tokens.rows = block.forward(&tokens, keep, Some((&path, noise)));
        }
        let answer = activation::relu(self.norm.forward(tokens.rows));
        self.output.forward(answer, Activation::Identity)
    }

    /// CLS, numbers, categories.
    fn tokens(&self, inputs: Inputs) -> Tokens {
        let [n_rows, n_numeric] = inputs.numeric.dims();
        let [_, width] = self.cls.dims();
        let mut parts = vec![self.cls.val().reshape([1, 1, width]).expand([n_rows, 1, width])];
        if 0 < n_numeric {
            let wide = |table: &Param<Tensor<2>>| table.val().reshape([1, n_numeric, width]);
            let x = inputs.numeric.reshape([n_rows, n_numeric, 1]);
            parts.push(x * wide(&self.numbers.weight) + wide(&self.numbers.bias));
        }
        if !self.categories.is_empty() {
            let n = self.categories.len();
            let tables = Tensor::cat(self.categories.iter().map(Param::val).collect(), 0);
            let slots = inputs.slots + self.first_slots(&tables);
            let found = embedding(tables, slots.reshape([n_rows * n]));
            parts.push(found.reshape([n_rows, n, width]));
        }
        let length = parts.iter().map(|part| part.dims()[1]).sum();
        Tokens::full(Tensor::cat(parts, 1).reshape([n_rows * length, width]), length)
    }

    /// Where each category's slots begin in all tables one after the other.
    fn first_slots(&self, tables: &Tensor<2>) -> Tensor<2, Int> {
        let mut next = 0;
        let first = self.categories.iter().map(|table| {
            let first = next;
            next += table.dims()[0] as i32;
            first
        });
        let first = TensorData::new(first.collect(), [1, self.categories.len()]);
        Tensor::from_data(first, (&tables.device(), DType::I32))
    }
}

#[cfg(test)]
mod tests {
    use crate::{Config, testing};

    fn config(dropout: f64) -> Config {
        Config::FtTransformer(super::Config {
            n_numeric: 2,
            cardinalities: vec![4],
            width: 8,
            n_heads: 2,
            hidden: 16,
            n_blocks: 2,
            n_outputs: 1,
            dropout,
        })
    }

    /// The label is the exclusive or of two signs: no linear model gets below ln 2 = 0.693.
    #[test]
    fn trains_to_known_loss() {
        let loss = testing::train(&config(0.0), testing::exclusive_or, 200);
        assert!(loss < 0.1, "{loss}");
    }

    /// A category is read too: the label is a threshold that moves with it.
    #[test]
    fn learns_from_categories() {
        let loss = testing::train(&config(0.0), testing::half_plane, 200);
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
            let names = [
                "norm_attention.gamma",
                "norm_attention.beta",
                "qkv.weight",
                "qkv.bias",
                "out.weight",
                "out.bias",
                "norm_ff.gamma",
                "norm_ff.beta",
                "first.weight",
                "first.bias",
                "second.weight",
                "second.bias",
            ];
            // The first block has no norm before its attention.
            names
                .into_iter()
                .skip(if i == 0 { 2 } else { 0 })
                .map(move |it| format!("blocks.{i}.{it}"))
        };
        let paths: Vec<String> = ["cls", "numbers.weight", "numbers.bias", "categories.0"]
            .map(str::to_owned)
            .into_iter()
            .chain(block(0))
            .chain(block(1))
            .chain(["norm.gamma", "norm.beta", "output.weight", "output.bias"].map(str::to_owned))
            .collect();
        testing::assert_paths(&config(0.0), &paths.iter().map(String::as_str).collect::<Vec<_>>());
    }
}
