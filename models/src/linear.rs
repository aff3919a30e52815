//! `linear`: one linear layer over numbers, pixels and one-hot categories.
//!
//! y = numeric · W + b + Σ over categories of tableᵢ\[slotᵢ\]. A row of a table is what the one-hot column's weights would
//! be, without the zeros being multiplied.
//!
//! Paths: `tables.<i>` \[slots, outputs\], `weight` \[numbers, outputs\], `bias` \[outputs\].
//!
//! Drawn: `weight` as PyTorch's `nn.Linear` (uniform within 1/√inputs); the rest starts at zero.

use burn::{
    module::{Module, Param},
    tensor::Tensor,
};
use karat_kernels::{activation::Activation, linear::linear, table_input::table_input};

use crate::{Init, Inputs, Parameter, joined, parameter::Source};

/// Its size.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Numbers and pixels a row.
    pub n_numeric: usize,
    /// Slots of each category.
    pub cardinalities: Vec<usize>,
    /// Outputs a row.
    pub n_outputs: usize,
}

impl Config {
    pub(crate) fn parameters(&self) -> Vec<Parameter> {
        let table = |(i, n_slots): (usize, &usize)| {
            Parameter::matrix(format!("tables.{i}"), *n_slots, self.n_outputs, Init::Zero)
        };
        let mut parameters: Vec<Parameter> =
            self.cardinalities.iter().enumerate().map(table).collect();
        let init = Init::fan_in(self.n_numeric);
        parameters.extend([
            Parameter::matrix("weight".to_owned(), self.n_numeric, self.n_outputs, init),
            Parameter::bias("bias".to_owned(), self.n_outputs, Init::Zero),
        ]);
        parameters
    }

    pub(crate) fn products_per_row(&self) -> u64 {
        (self.n_numeric * self.n_outputs) as u64
    }

    pub(crate) fn numbers_per_row(&self) -> usize {
        let n_slots = self.cardinalities.len();
        // Inputs; a row of each table, their sum, the product and the total.
        self.n_numeric + n_slots + (n_slots + 3) * self.n_outputs
    }

    pub(crate) fn build(&self, source: &mut Source<'_>) -> Linear {
        Linear {
            tables: self.cardinalities.iter().map(|_| source.next()).collect(),
            weight: source.next(),
            bias: source.next(),
        }
    }
}

/// The module.
#[derive(Module, Debug)]
pub struct Linear {
    tables: Vec<Param<Tensor<2>>>,
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

impl Linear {
    pub(crate) fn forward(&self, inputs: Inputs) -> Tensor<2> {
        let [n_rows, _] = inputs.numeric.dims();
        let [n_outputs] = self.bias.dims();
        // The numbers are left out of this look-up and go through the matrix instead.
        let none = inputs.numeric.clone().slice([0..n_rows, 0..0]);
        let y = linear(inputs.flat(), self.weight.val(), self.bias.val(), Activation::Identity);
        match joined(&self.tables) {
            None => y,
            Some((tables, layout)) => {
                let found = table_input(none, inputs.slots, tables, &layout);
                let found = found.reshape([n_rows, layout.len(), n_outputs]);
                y + found.sum_dim(1).reshape([n_rows, n_outputs])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Config, testing};

    fn config() -> Config {
        Config::Linear(super::Config { n_numeric: 2, cardinalities: vec![4], n_outputs: 1 })
    }

    /// The label is a threshold on numbers and category that a linear model can draw.
    #[test]
    fn trains_to_known_loss() {
        let loss = testing::train(&config(), testing::half_plane, 1000);
        assert!(loss < 0.1, "{loss}");
    }

    #[test]
    fn cannot_learn_what_is_not_linear() {
        let loss = testing::train(&config(), testing::exclusive_or, 400);
        assert!(0.6 < loss, "{loss}");
    }

    #[cfg(feature = "gpu")]
    #[test]
    fn gpu_agrees_with_the_cpu() {
        testing::assert_gpu_agrees(&config());
    }

    #[test]
    fn paths_are_where_the_module_is_visited() {
        testing::assert_paths(&config(), &["tables.0", "weight", "bias"]);
    }
}
