//! `encoder`: transformer blocks over sequences of tokens (Vaswani et al. 2017), with the norm before each sublayer or after.
//!
//! Post-norm (the original, BERT, MiniLM): h = norm(x + attention(x)); y = norm(h + ff(h)).
//! Pre-norm (Xiong et al. 2020): h = x + attention(norm(x)); y = h + ff(norm(h)). Trains without warm-up tricks.
//! attention(x) = heads(x · W_qkv + b) · W_out + b; ff(x) = act(x · W₁ + b) · W₂ + b.
//!
//! Tokens are a matrix, row (sequence, position): every product is one of two matrices, and nothing is ever transposed.
//!
//! Paths of a block: `norm_attention.{gamma,beta}`, `qkv.{weight,bias}` (queries ‖ keys ‖ values, each heads × head width),
//! `out.{weight,bias}`, `norm_ff.{gamma,beta}`, `first.{weight,bias}`, `second.{weight,bias}`.
//!
//! While training, units of the hidden layer of ff and of attention's result are dropped; attention's weights are not.

use burn::{
    module::Module,
    tensor::{DType, Device, Int, Tensor},
};
use karat_kernels::{
    activation::Activation,
    attention::{Shape, attention},
    dropout::{Mask, dropout},
};

use crate::{
    Noise, Parameter,
    layer::{Layer, Norm},
    parameter::Source,
};

/// Where the norms stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormPlace {
    /// Before each sublayer.
    Before,
    /// Before each sublayer, but not before the first block's attention.
    BeforeButFirst,
    /// After each sublayer and the residual.
    After,
}

/// Size of an encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Numbers of a token; a multiple of `n_heads`.
    pub width: usize,
    /// Heads of attention.
    pub n_heads: usize,
    /// Units of the layer between the two of ff.
    pub hidden: usize,
    /// Blocks.
    pub n_blocks: usize,
    /// Where the norms stand.
    pub norm: NormPlace,
    /// Of the hidden layer.
    pub activation: Activation,
    /// Share of units dropped while training, [0, 1).
    pub dropout: f64,
}

impl Config {
    fn has_first_norm(&self, block: usize) -> bool {
        0 < block || self.norm != NormPlace::BeforeButFirst
    }

    /// Every parameter, below `path`, in the order in which the module is visited.
    #[must_use]
    pub fn parameters(&self, path: &str) -> Vec<Parameter> {
        let block = |i: usize| {
            let path = |name: &str| format!("{path}.{i}.{name}");
            let (width, hidden) = (self.width, self.hidden);
            let first_norm =
                self.has_first_norm(i).then(|| Norm::parameters(&path("norm_attention"), width));
            let mut parameters: Vec<Parameter> = first_norm.into_iter().flatten().collect();
            parameters.extend(Layer::parameters(&path("qkv"), width, 3 * width));
            parameters.extend(Layer::parameters(&path("out"), width, width));
            parameters.extend(Norm::parameters(&path("norm_ff"), width));
            parameters.extend(Layer::parameters(&path("first"), width, hidden));
            parameters.extend(Layer::parameters(&path("second"), hidden, width));
            parameters
        };
        (0..self.n_blocks).flat_map(block).collect()
    }

    /// The blocks, from the numbers of [`Config::parameters`].
    pub(crate) fn build(&self, source: &mut Source<'_>) -> Vec<Block> {
        (0..self.n_blocks)
            .map(|i| Block {
                norm_attention: self.has_first_norm(i).then(|| Norm::build(source)),
                qkv: Layer::build(source),
                out: Layer::build(source),
                norm_ff: Norm::build(source),
                first: Layer::build(source),
                second: Layer::build(source),
                config: self.clone(),
            })
            .collect()
    }

    /// An encoder on its own, on `device`, with the numbers that `values` gives for each of `parameters("blocks")`.
    pub fn encoder(
        &self,
        device: &Device,
        values: &mut dyn FnMut(&Parameter) -> Vec<f32>,
    ) -> Encoder {
        let mut source = Source::new(device, self.parameters("blocks"), values);
        Encoder { blocks: self.build(&mut source) }
    }
}

/// Sequences side by side: rows (sequence, position) × width.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// The tokens.
    pub rows: Tensor<2>,
    /// Positions of a sequence, padding included.
    pub length: usize,
    /// Positions of each sequence that are not padding, I32.
    pub lengths: Tensor<1, Int>,
}

impl Tokens {
    /// Sequences without padding.
    #[must_use]
    pub fn full(rows: Tensor<2>, length: usize) -> Self {
        let n = rows.dims()[0] / length.max(1);
        let lengths = Tensor::full([n], length as i64, (&rows.device(), DType::I32));
        Self { rows, length, lengths }
    }
}

/// Blocks one after the other.
#[derive(Module, Debug)]
pub struct Encoder {
    blocks: Vec<Block>,
}

impl Encoder {
    /// Every token after all blocks.
    #[must_use]
    pub fn forward(&self, tokens: Tokens) -> Tensor<2> {
        let through = |tokens: Tokens, block: &Block| {
            let rows = block.forward(&tokens, Keep::All, None);
            Tokens { rows, ..tokens }
        };
        self.blocks.iter().fold(tokens, through).rows
    }
}

/// Which tokens leave a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// All.
    All,
    /// The first of each sequence: what follows attention is computed for it alone.
    First,
}

/// Attention, then ff, each with its residual and norm.
#[derive(Module, Debug)]
pub(crate) struct Block {
    norm_attention: Option<Norm>,
    qkv: Layer,
    out: Layer,
    norm_ff: Norm,
    first: Layer,
    second: Layer,
    #[module(skip)]
    config: Config,
}

impl Block {
    /// The tokens that `keep` names. `noise` is drawn for the paths `attention` and `hidden` below the block's own.
    pub(crate) fn forward(
        &self,
        tokens: &Tokens,
        keep: Keep,
        noise: Option<(&str, Noise<'_>)>,
    ) -> Tensor<2> {
        let Config { width, n_heads, norm, activation, .. } = self.config;
        let shape =
            Shape { length: tokens.length, n_heads, head_width: width / n_heads, is_causal: false };
        let x = &tokens.rows;
        let qkv = match &self.norm_attention {
            Some(before) if norm != NormPlace::After => before.forward(x.clone()),
            _ => x.clone(),
        };
        let qkv = self.qkv.forward(qkv, Activation::Identity);
        let found = attention(qkv, tokens.lengths.clone(), shape);
        let (x, found, length) = match keep {
            Keep::All => (x.clone(), found, tokens.length),
            Keep::First => (first(x.clone(), tokens.length), first(found, tokens.length), 1),
        };
        let found = self.out.forward(found, Activation::Identity);
        let found = self.drop(found, length, "attention", noise);
        let h = match &self.norm_attention {
            Some(after) if norm == NormPlace::After => after.of_sum(found, x),
            _ => x + found,
        };
        let ff = |h: Tensor<2>| {
            let hidden = self.drop(self.first.forward(h, activation), length, "hidden", noise);
            self.second.forward(hidden, Activation::Identity)
        };
        if norm == NormPlace::After {
            self.norm_ff.of_sum(ff(h.clone()), h)
        } else {
            h.clone() + ff(self.norm_ff.forward(h))
        }
    }

    fn drop(
        &self,
        x: Tensor<2>,
        length: usize,
        layer: &str,
        noise: Option<(&str, Noise<'_>)>,
    ) -> Tensor<2> {
        match noise {
            Some((path, Some(draw))) if 0.0 < self.config.dropout => {
                let mask = Mask::new(self.config.dropout, draw(&format!("{path}.{layer}")));
                // A mask belongs to a row of the batch: all tokens of a sequence.
                let [n_rows, width] = x.dims();
                let sequences = x.reshape([n_rows / length, length * width]);
                dropout(sequences, mask).reshape([n_rows, width])
            }
            _ => x,
        }
    }
}

/// The first token of each sequence.
fn first(rows: Tensor<2>, length: usize) -> Tensor<2> {
    let [n_rows, width] = rows.dims();
    let n = n_rows / length;
    rows.reshape([n, length * width]).slice([0..n, 0..width])
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor, TensorData, activation};
    use karat_kernels::activation::Activation;

    use super::{Config, Keep, NormPlace, Tokens};
    use crate::{Parameter, testing};

    fn config(norm: NormPlace) -> Config {
        Config {
            width: 12,
            n_heads: 3,
            hidden: 20,
            n_blocks: 2,
            norm,
            activation: Activation::GeluErf,
            dropout: 0.0,
        }
    }

    /// Biases and norms too get numbers that show where they are left out.
    fn values(parameter: &Parameter) -> Vec<f32> {
        let drawn = testing::draw(parameter);
        drawn.iter().enumerate().map(|(i, x)| x + 0.01 * (i % 7) as f32).collect()
    }

    fn tokens(n: usize, length: usize, width: usize) -> Tokens {
        let x: Vec<f32> =
            (0..n * length * width).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
        let x = TensorData::new(x, [n * length, width]);
        Tokens::full(Tensor::from_data(x, &Device::flex()), length)
    }

    fn elements(tensor: Tensor<2>) -> Vec<f32> {
        tensor.try_into_data().expect("a CPU answers").iter::<f32>().collect()
    }

    /// The formulas of this file's header in burn's own operations.
    fn composed(config: &Config, x: Tensor<2>, length: usize) -> Tensor<2> {
        let [n_rows, width] = x.dims();
        let (n, d) = (n_rows / length, width / config.n_heads);
        let mut parameters = config.parameters("blocks").into_iter();
        let mut numbers = || {
            let parameter = parameters.next().expect("another");
            Tensor::<1>::from_data(&values(&parameter)[..], &Device::flex())
        };
        let norm = |x: Tensor<2>, gamma: Tensor<1>, beta: Tensor<1>| {
            let centred = x.clone() - x.mean_dim(1);
            let var = (centred.clone() * centred.clone()).mean_dim(1);
            centred / (var + 1e-5).sqrt() * gamma.unsqueeze() + beta.unsqueeze()
        };
        let mut x = x;
        for i in 0..config.n_blocks {
            let has_norm = 0 < i || config.norm != NormPlace::BeforeButFirst;
            let before = has_norm.then(|| (numbers(), numbers()));
            let is_post = config.norm == NormPlace::After;
            let mut layer = |inputs: usize| {
                let weight = numbers();
                let outputs = weight.dims()[0] / inputs;
                (weight.reshape([inputs, outputs]), numbers())
            };
            let (qkv, out) = (layer(width), layer(width));
            let after = (numbers(), numbers());
            let mut layer = |inputs: usize| {
                let weight = numbers();
                let outputs = weight.dims()[0] / inputs;
                (weight.reshape([inputs, outputs]), numbers())
            };
            let (first, second) = (layer(width), layer(config.hidden));
            let apply = |x: Tensor<2>, (w, b): &(Tensor<2>, Tensor<1>)| {
                x.matmul(w.clone()) + b.clone().unsqueeze()
            };
            let normed = match &before {
                Some((gamma, beta)) if !is_post => norm(x.clone(), gamma.clone(), beta.clone()),
                _ => x.clone(),
            };
            let qkv = apply(normed, &qkv);
            let part = |i: usize| {
                let part = qkv.clone().slice([0..n_rows, i * width..(i + 1) * width]);
                part.reshape([n, length, config.n_heads, d]).swap_dims(1, 2)
            };
            let scores = part(0).matmul(part(1).swap_dims(2, 3)) / (d as f32).sqrt();
            let found = activation::softmax(scores, 3).matmul(part(2)).swap_dims(1, 2);
            let h = x.clone() + apply(found.reshape([n_rows, width]), &out);
            let h = match before {
                Some((gamma, beta)) if is_post => norm(h, gamma, beta),
                _ => h,
            };
            let (gamma, beta) = after;
            let inner =
                if is_post { h.clone() } else { norm(h.clone(), gamma.clone(), beta.clone()) };
            let y = h + apply(activation::gelu(apply(inner, &first)), &second);
            x = if is_post { norm(y, gamma, beta) } else { y };
        }
        x
    }

    #[test]
    fn agrees_with_its_formulas_in_burns_own_operations() {
        for place in [NormPlace::Before, NormPlace::BeforeButFirst, NormPlace::After] {
            let config = config(place);
            let encoder = config.encoder(&Device::flex(), &mut values);
            let tokens = tokens(3, 5, config.width);
            let ours = elements(encoder.forward(tokens.clone()));
            let theirs = elements(composed(&config, tokens.rows, 5));
            for (ours, theirs) in ours.iter().zip(&theirs) {
                assert!((ours - theirs).abs() < 1e-5, "{place:?}: {ours}, composed {theirs}");
            }
        }
    }

    #[test]
    fn the_first_token_alone_is_the_first_of_all() {
        for place in [NormPlace::Before, NormPlace::After] {
            let config = config(place);
            let encoder = config.encoder(&Device::flex(), &mut values);
            let tokens = tokens(4, 6, config.width);
            let all = elements(encoder.blocks[0].forward(&tokens, Keep::All, None));
            let first = elements(encoder.blocks[0].forward(&tokens, Keep::First, None));
            for (all, first) in all.chunks(6 * config.width).zip(first.chunks(config.width)) {
                assert!(all[..config.width] == *first, "{place:?}");
            }
        }
    }
}
