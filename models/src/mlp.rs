//! `mlp`: categorical embeddings, numbers and pixels side by side, then fully connected layers with ReLU.
//!
//! x₀ = numeric ‖ pixels ‖ embeddings; xᵢ₊₁ = dropout(relu(xᵢ·Wᵢ + bᵢ)); the last layer has neither ReLU nor dropout.
//!
//! Paths: `embeddings.<i>` \[slots, width\], `layers.<i>.weight` \[inputs, outputs\], `layers.<i>.bias` \[outputs\].
//!
//! Drawn: layers as PyTorch's `nn.Linear` (uniform within 1/√inputs, weights and biases); embeddings normal with standard
//! deviation 1/√width, so that an embedding is about as long as one standardised number.

use burn::{
    module::{Module, Param},
    tensor::Tensor,
};
use karat_kernels::{
    activation::Activation,
    dropout::{Mask, dropout},
    table_input::table_input,
};

use crate::{Inputs, Noise, Parameter, joined, layer::Layer, parameter::Source};

/// Its size.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Numbers and pixels a row.
    pub n_numeric: usize,
    /// Slots of each category.
    pub cardinalities: Vec<usize>,
    /// Embedding width of each category.
    pub widths: Vec<usize>,
    /// Units of each hidden layer.
    pub hidden: Vec<usize>,
    /// Outputs a row.
    pub n_outputs: usize,
    /// Share of hidden units dropped while training, [0, 1).
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
        let mut n_inputs = self.n_numeric + self.widths.iter().sum::<usize>();
        for (i, n_outputs) in self.hidden.iter().chain([&self.n_outputs]).enumerate() {
            parameters.extend(Layer::parameters(&format!("layers.{i}"), n_inputs, *n_outputs));
            n_inputs = *n_outputs;
        }
        parameters
    }

    pub(crate) fn products_per_row(&self) -> u64 {
        let n_inputs = self.n_numeric + self.widths.iter().sum::<usize>();
        let inputs = [n_inputs].into_iter().chain(self.hidden.iter().copied());
        let outputs = self.hidden.iter().copied().chain([self.n_outputs]);
        inputs.zip(outputs).map(|(inputs, outputs)| (inputs * outputs) as u64).sum()
    }

    pub(crate) fn numbers_per_row(&self) -> usize {
        let n_inputs = self.n_numeric + self.widths.iter().sum::<usize>();
        // Each layer's units, and once more what dropout leaves of them.
        let copies = if 0.0 < self.dropout { 2 } else { 1 };
        let n_hidden: usize = self.hidden.iter().sum();
        self.n_numeric + self.cardinalities.len() + n_inputs + copies * n_hidden + self.n_outputs
    }

    pub(crate) fn build(&self, source: &mut Source<'_>) -> Mlp {
        Mlp {
            embeddings: self.cardinalities.iter().map(|_| source.next()).collect(),
            layers: (0..=self.hidden.len()).map(|_| Layer::build(source)).collect(),
            dropout: self.dropout,
        }
    }
}

/// The module.
#[derive(Module, Debug)]
pub struct Mlp {
    embeddings: Vec<Param<Tensor<2>>>,
    layers: Vec<Layer>,
    #[module(skip)]
    dropout: f64,
}

impl Mlp {
    pub(crate) fn forward(&self, inputs: Inputs, noise: Noise<'_>) -> Tensor<2> {
        let mut x = match joined(&self.embeddings) {
            Some((tables, layout)) => table_input(inputs.flat(), inputs.slots, tables, &layout),
            None => inputs.flat(),
        };
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
    use crate::{Config, testing};

    fn config(dropout: f64) -> Config {
        Config::Mlp(super::Config {
            n_numeric: 2,
            cardinalities: vec![4],
            widths: vec![2],
            hidden: vec![16, 8],
            n_outputs: 1,
            dropout,
        })
    }

    /// The label is the exclusive or of two signs: no linear model gets below ln 2 = 0.693.
    #[test]
    fn trains_to_known_loss() {
        let loss = testing::train(&config(0.0), testing::exclusive_or, 400);
        assert!(loss < 0.1, "{loss}");
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
    fn paths_are_where_the_module_is_visited() {
        testing::assert_paths(
            &config(0.0),
            &[
                "embeddings.0",
                "layers.0.weight",
                "layers.0.bias",
                "layers.1.weight",
                "layers.1.bias",
                "layers.2.weight",
                "layers.2.bias",
            ],
        );
    }

    /// Two pixels of an image are worth two numbers.
    #[test]
    fn an_image_is_so_many_numbers() {
        use burn::tensor::{DType, Device, Tensor, TensorData};

        let device = Device::flex();
        let model = config(0.0).build(&device, &mut testing::draw);
        let slots =
            || Tensor::from_data(TensorData::new(vec![1, 3], [2, 1]), (&device, DType::I32));
        let numbers = vec![0.5_f32, -1.0, 2.0, 0.25];
        let answer = |inputs| model.forward(inputs, None).try_into_data().expect("a CPU answers");
        let plain = answer(crate::Inputs {
            numeric: Tensor::from_data(TensorData::new(numbers.clone(), [2, 2]), &device),
            slots: slots(),
            image: None,
        });
        let image = answer(crate::Inputs {
            numeric: Tensor::zeros([2, 0], &device),
            slots: slots(),
            image: Some(Tensor::from_data(TensorData::new(numbers, [2, 1, 1, 2]), &device)),
        });
        let both = answer(crate::Inputs {
            numeric: Tensor::from_data(TensorData::new(vec![0.5_f32, 2.0], [2, 1]), &device),
            slots: slots(),
            image: Some(Tensor::from_data(
                TensorData::new(vec![-1.0_f32, 0.25], [2, 1, 1, 1]),
                &device,
            )),
        });
        assert_eq!(plain, image);
        assert_eq!(plain, both);
    }
}
