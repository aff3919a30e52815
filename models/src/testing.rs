//! A small problem and a training loop for the architectures' tests.

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{DType, Device, Tensor, TensorData},
};
use karat_kernels::{
    adamw::{Step, adamw},
    loss::{Loss, weighted_mean},
    philox::{Draw, philox},
};

use crate::{Config, Init, Inputs, Model, Parameter, parameter};

#[cfg(feature = "gpu")]
mod gpu;
#[cfg(feature = "gpu")]
pub(crate) use gpu::assert_gpu_agrees;

const N_ROWS: usize = 256;

fn unit(seed: u32, i: usize) -> f32 {
    (philox([i as u32, 0, 0, 0], [seed, 0])[0] >> 8) as f32 / (1 << 24) as f32
}

/// Fixed numbers within what `init` allows.
pub(crate) fn draw(parameter: &Parameter) -> Vec<f32> {
    let scale = match parameter.init {
        Init::Zero => 0.0,
        Init::One => return vec![1.0; parameter.n_elements()],
        Init::Uniform { bound } => bound,
        Init::Normal { std } => std,
    };
    let seed =
        parameter.path.bytes().fold(1, |seed: u32, byte| seed * 31 % 65_521 + u32::from(byte));
    let element = |i| (2.0 * unit(seed, i) - 1.0) * scale as f32;
    (0..parameter.n_elements()).map(element).collect()
}

/// Labels no linear model can draw.
pub(crate) fn exclusive_or(a: f32, b: f32, _slot: i32) -> bool {
    (a < 0.0) != (b < 0.0)
}

/// Labels a linear model can draw.
pub(crate) fn half_plane(a: f32, b: f32, slot: i32) -> bool {
    0.0 < a + 0.5 * b + slot as f32 - 1.5
}

fn problem(label: fn(f32, f32, i32) -> bool, device: &Device) -> (Inputs, Tensor<1>) {
    let numeric: Vec<f32> = (0..2 * N_ROWS).map(|i| 2.0 * unit(7, i) - 1.0).collect();
    let slots: Vec<i32> = (0..N_ROWS).map(|row| (row % 4) as i32).collect();
    let labels: Vec<f32> = numeric
        .chunks(2)
        .zip(&slots)
        .map(|(x, slot)| f32::from(u8::from(label(x[0], x[1], *slot))))
        .collect();
    let inputs = Inputs {
        numeric: Tensor::from_data(TensorData::new(numeric, [N_ROWS, 2]), device),
        slots: Tensor::from_data(TensorData::new(slots, [N_ROWS, 1]), (device, DType::I32)),
    };
    (inputs, Tensor::from_data(TensorData::new(labels, [N_ROWS]), device))
}

fn number(tensor: Tensor<1>) -> f64 {
    tensor.try_into_data().expect("a CPU answers").iter::<f64>().next().expect("one number")
}

/// Trains on all rows at once and returns the last loss.
pub(crate) fn train(config: &Config, label: fn(f32, f32, i32) -> bool, n_updates: u64) -> f64 {
    let device = Device::flex().autodiff();
    let mut model = config.build(&device, &mut draw);
    let (inputs, labels) = problem(label, &device);
    let weights = labels.ones_like();
    let mut moments: Vec<(Tensor<1>, Tensor<1>)> =
        parameter::values(&model).iter().map(|it| (it.zeros_like(), it.zeros_like())).collect();
    let mut last = f64::NAN;
    for t in 1..=n_updates {
        let z = model.forward(inputs.clone(), None);
        let loss = weighted_mean(Loss::Binary, z, labels.clone(), weights.clone(), N_ROWS as f64);
        let mut found = loss.backward();
        last = number(loss.inner());
        let gradients = parameter::gradients(&model, &mut found);
        let mut gradients = gradients.into_iter();
        model = parameter::map(model, &mut |at, p| {
            let gradient = gradients.next().expect("one for each parameter");
            let (m, v) = moments[at].clone();
            let (p, m, v) = adamw(p, gradient, m, v, Step::new(0.02, 0.0, 1.0, t));
            moments[at] = (m, v);
            p
        });
    }
    last
}

/// Whether a forward pass with noise differs from one without.
#[track_caller]
pub(crate) fn assert_noise_matters(config: &Config, expected: bool) {
    let device = Device::flex();
    let model = config.build(&device, &mut draw);
    let (inputs, _) = problem(half_plane, &device);
    let noise = |_: &str| Draw { key: [1, 2], first_row: 0, major: 0 };
    let with = model.forward(inputs.clone(), Some(&noise)).try_into_data().expect("a CPU answers");
    let without = model.forward(inputs, None).try_into_data().expect("a CPU answers");
    assert_eq!(with != without, expected);
}

/// The answer to a row is the same bits alone, among few and among all.
#[track_caller]
pub(crate) fn assert_rows_stand_alone(config: &Config) {
    let device = Device::flex();
    let model = config.build(&device, &mut draw);
    let (inputs, _) = problem(half_plane, &device);
    let answers = |rows: std::ops::Range<usize>| -> Vec<f32> {
        let part = Inputs {
            numeric: inputs.numeric.clone().slice([rows.clone(), 0..2]),
            slots: inputs.slots.clone().slice([rows, 0..1]),
        };
        let found = model.forward(part, None).try_into_data().expect("a CPU answers");
        found.iter::<f32>().collect()
    };
    let all = answers(0..N_ROWS);
    for n in [1, 7, 100] {
        for first in (0..N_ROWS - n).step_by(n) {
            assert!(answers(first..first + n) == all[first..first + n], "{n} rows from {first}");
        }
    }
}

/// The listed paths are those of the module, in order, with the listed shapes.
#[track_caller]
pub(crate) fn assert_paths(config: &Config, expected: &[&str]) {
    #[derive(Default)]
    struct Visit {
        stack: Vec<String>,
        found: Vec<(String, Vec<usize>)>,
    }

    impl ModuleVisitor for Visit {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.stack.push(name.to_owned());
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.stack.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.found.push((self.stack.join("."), param.dims().to_vec()));
        }
    }

    let mut visit = Visit::default();
    match config.build(&Device::flex(), &mut draw) {
        Model::Linear(model) => model.visit(&mut visit),
        Model::Mlp(model) => model.visit(&mut visit),
        Model::ResMlp(model) => model.visit(&mut visit),
        Model::FtTransformer(model) => model.visit(&mut visit),
    }
    let listed: Vec<(String, Vec<usize>)> =
        config.parameters().into_iter().map(|it| (it.path, it.shape)).collect();
    assert_eq!(visit.found, listed);
    assert_eq!(listed.iter().map(|it| it.0.as_str()).collect::<Vec<_>>(), expected);
}
