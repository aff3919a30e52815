//! Parameters by path: what there is, how it is drawn, and all of them as flat tensors in one fixed order.

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{Device, Gradients, Shape, Tensor, TensorData},
};
use karat_kernels::conv2d::Conv;

/// How a fresh parameter is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All zero.
    Zero,
    /// All one.
    One,
    /// Uniform in [−bound, bound).
    Uniform {
        /// Largest value.
        bound: f64,
    },
    /// Normal around 0.
    Normal {
        /// Standard deviation.
        std: f64,
    },
}

impl Init {
    /// PyTorch's default for a fully connected layer, weights and bias: uniform within 1/√inputs.
    #[must_use]
    pub fn fan_in(n_inputs: usize) -> Self {
        Self::Uniform { bound: 1.0 / (n_inputs.max(1) as f64).sqrt() }
    }
}

/// One parameter of an architecture.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Where it is in the module, and its name in a checkpoint.
    pub path: String,
    /// Dimensions.
    pub shape: Vec<usize>,
    /// How a fresh one is drawn.
    pub init: Init,
    /// Whether weight decay applies: to matrices and embeddings, never to biases and norms.
    pub decays: bool,
}

impl Parameter {
    /// A matrix.
    #[must_use]
    pub fn matrix(path: String, n_rows: usize, n_columns: usize, init: Init) -> Self {
        Self { path, shape: vec![n_rows, n_columns], init, decays: true }
    }

    /// The weights of a convolution.
    #[must_use]
    pub fn filter(path: String, conv: &Conv, init: Init) -> Self {
        let size = conv.window.size;
        let shape = vec![size, size, conv.input.n_channels, conv.n_outputs];
        Self { path, shape, init, decays: true }
    }

    /// The embeddings of a category: normal with standard deviation 1/√width, so that one is about as long as one
    /// standardised number.
    #[must_use]
    pub fn embedding(path: String, n_slots: usize, width: usize) -> Self {
        Self::matrix(path, n_slots, width, Init::Normal { std: 1.0 / (width as f64).sqrt() })
    }

    /// A bias, or what a norm stretches by.
    #[must_use]
    pub fn bias(path: String, n: usize, init: Init) -> Self {
        Self { path, shape: vec![n], init, decays: false }
    }

    /// Numbers in it.
    #[must_use]
    pub fn n_elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Hands the numbers out while a module is built.
pub(crate) struct Source<'a> {
    device: &'a Device,
    parameters: std::vec::IntoIter<Parameter>,
    values: &'a mut dyn FnMut(&Parameter) -> Vec<f32>,
}

impl<'a> Source<'a> {
    pub(crate) fn new(
        device: &'a Device,
        parameters: Vec<Parameter>,
        values: &'a mut dyn FnMut(&Parameter) -> Vec<f32>,
    ) -> Self {
        Self { device, parameters: parameters.into_iter(), values }
    }

    /// The next parameter; modules are built in the order in which they list their parameters.
    pub(crate) fn next<const D: usize>(&mut self) -> Param<Tensor<D>> {
        let parameter = self.parameters.next().expect("a module builds what it lists");
        let elements = (self.values)(&parameter);
        let shape: [usize; D] =
            parameter.shape.as_slice().try_into().expect("a module builds what it lists");
        let tensor = Tensor::from_data(TensorData::new(elements, shape), self.device);
        Param::from_tensor(tensor)
    }
}

/// The gradient of every parameter, flat, in order; zeros where none arrived.
pub fn gradients<M: Module>(module: &M, gradients: &mut Gradients) -> Vec<Tensor<1>> {
    struct Collect<'a> {
        gradients: &'a mut Gradients,
        found: Vec<Tensor<1>>,
    }

    impl ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let value = param.val();
            let gradient = value.grad_remove(self.gradients);
            let gradient = gradient.unwrap_or_else(|| value.inner().zeros_like());
            let n = gradient.shape().num_elements();
            self.found.push(gradient.reshape([n]));
        }
    }

    let mut collect = Collect { gradients, found: Vec::new() };
    module.visit(&mut collect);
    collect.found
}

/// The value of every parameter, flat, without gradients, in order.
pub fn values<M: Module>(module: &M) -> Vec<Tensor<1>> {
    struct Collect(Vec<Tensor<1>>);

    impl ModuleVisitor for Collect {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let value = param.val();
            let value = if value.is_autodiff() { value.inner() } else { value };
            let n = value.shape().num_elements();
            self.0.push(value.reshape([n]));
        }
    }

    let mut collect = Collect(Vec::new());
    module.visit(&mut collect);
    collect.0
}

/// Replaces every parameter by what `f` makes of it, flat, by its place in the order. `f` is the only owner of what it
/// is given, so it may write in place.
pub fn map<M: Module>(module: M, f: &mut dyn FnMut(usize, Tensor<1>) -> Tensor<1>) -> M {
    struct Map<'a> {
        f: &'a mut dyn FnMut(usize, Tensor<1>) -> Tensor<1>,
        at: usize,
    }

    impl ModuleMapper for Map<'_> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let (id, value, mapper) = param.consume();
            let (is_autodiff, shape) = (value.is_autodiff(), value.shape());
            let value = if is_autodiff { value.inner() } else { value };
            let value = (self.f)(self.at, value.reshape([shape.num_elements()])).reshape(shape);
            self.at += 1;
            let value = if is_autodiff { Tensor::from_inner(value).require_grad() } else { value };
            Param::from_mapped_value(id, value, mapper)
        }
    }

    module.map(&mut Map { f, at: 0 })
}

/// Replaces all parameters at once: `f` is given every value, flat, in order, as their only owner, and gives as many back.
/// For what updates all of them in one go; see [`map`].
pub fn map_all<M: Module>(module: M, f: impl FnOnce(Vec<Tensor<1>>) -> Vec<Tensor<1>>) -> M {
    struct Take {
        values: Vec<Tensor<1>>,
        /// Of each: its shape, and whether it has gradients.
        kinds: Vec<(Shape, bool)>,
    }

    impl ModuleMapper for Take {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let (id, value, mapper) = param.consume();
            let (is_autodiff, shape) = (value.is_autodiff(), value.shape());
            let value = if is_autodiff { value.inner() } else { value };
            let nothing = Tensor::empty([0; D], &value.device());
            self.values.push(value.reshape([shape.num_elements()]));
            self.kinds.push((shape, is_autodiff));
            Param::from_mapped_value(id, nothing, mapper)
        }
    }

    struct Put<I>(I);

    impl<I: Iterator<Item = (Tensor<1>, (Shape, bool))>> ModuleMapper for Put<I> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let (id, _, mapper) = param.consume();
            let (value, (shape, is_autodiff)) = self.0.next().expect("as many as were taken");
            let value = value.reshape(shape);
            let value = if is_autodiff { Tensor::from_inner(value).require_grad() } else { value };
            Param::from_mapped_value(id, value, mapper)
        }
    }

    let mut taken = Take { values: Vec::new(), kinds: Vec::new() };
    let module = module.map(&mut taken);
    module.map(&mut Put(f(taken.values).into_iter().zip(taken.kinds)))
}
