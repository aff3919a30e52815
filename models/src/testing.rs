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

/// Inputs and labels.
pub(crate) type Problem = fn(&Device) -> (Inputs, Tensor<1>);

/// Labels no linear model can draw.
pub(crate) fn exclusive_or(device: &Device) -> (Inputs, Tensor<1>) {
    table(|a, b, _| (a < 0.0) != (b < 0.0), device)
}

/// Labels a linear model can draw.
pub(crate) fn half_plane(device: &Device) -> (Inputs, Tensor<1>) {
    table(|a, b, slot| 0.0 < a + 0.5 * b + slot as f32 - 1.5, device)
}

fn table(label: fn(f32, f32, i32) -> bool, device: &Device) -> (Inputs, Tensor<1>) {
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
        image: None,
    };
    (inputs, Tensor::from_data(TensorData::new(labels, [N_ROWS]), device))
}

/// Pictures of a bar of three pixels somewhere in noise; the label is whether it stands.
pub(crate) fn bars(device: &Device) -> (Inputs, Tensor<1>) {
    let (height, width) = (9, 8);
    let mut pixels: Vec<f32> = (0..N_ROWS * height * width).map(|i| 0.3 * unit(8, i)).collect();
    let stands = |row: usize| unit(9, row) < 0.5;
    for (row, picture) in pixels.chunks_exact_mut(height * width).enumerate() {
        let place = |seed: u32, n: usize| (unit(seed, row) * n as f32) as usize;
        let (step, rows, columns) =
            if stands(row) { (width, height - 2, width) } else { (1, height, width - 2) };
        let first = place(10, rows) * width + place(11, columns);
        (0..3).for_each(|i| picture[first + i * step] += 1.0);
    }
    let labels: Vec<f32> = (0..N_ROWS).map(|row| f32::from(u8::from(stands(row)))).collect();
    let image = TensorData::new(pixels, [N_ROWS, 1, height, width]);
    let inputs = Inputs {
        numeric: Tensor::zeros([N_ROWS, 0], device),
        slots: Tensor::zeros([N_ROWS, 0], (device, DType::I32)),
        image: Some(Tensor::from_data(image, device)),
    };
    (inputs, Tensor::from_data(TensorData::new(labels, [N_ROWS]), device))
}

/// Rows that `config` can read.
fn problem_for(config: &Config) -> Problem {
    match config {
        Config::Linear(_) | Config::Mlp(_) | Config::ResMlp(_) | Config::FtTransformer(_) => {
            half_plane
        }
        Config::Cnn(_) | Config::ResNet(_) => bars,
    }
}

fn number(tensor: Tensor<1>) -> f64 {
    tensor.try_into_data().expect("a CPU answers").iter::<f64>().next().expect("one number")
}

/// Trains on all rows at once and returns the last loss.
pub(crate) fn train(config: &Config, problem: Problem, n_updates: u64) -> f64 {
    let device = Device::flex().autodiff();
    let mut model = config.build(&device, &mut draw);
    let (inputs, labels) = problem(&device);
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
    let (inputs, _) = problem_for(config)(&device);
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
    let (inputs, _) = problem_for(config)(&device);
    let answers = |rows: std::ops::Range<usize>| -> Vec<f32> {
        let [numbers, categories] = [inputs.numeric.dims()[1], inputs.slots.dims()[1]];
        let part = Inputs {
            numeric: inputs.numeric.clone().slice([rows.clone(), 0..numbers]),
            slots: inputs.slots.clone().slice([rows.clone(), 0..categories]),
            image: inputs.image.clone().map(|image| {
                let [_, channels, height, width] = image.dims();
                image.slice([rows, 0..channels, 0..height, 0..width])
            }),
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
        Model::Cnn(model) => model.visit(&mut visit),
        Model::ResNet(model) => model.visit(&mut visit),
    }
    let listed: Vec<(String, Vec<usize>)> =
        config.parameters().into_iter().map(|it| (it.path, it.shape)).collect();
    assert_eq!(visit.found, listed);
    assert_eq!(listed.iter().map(|it| it.0.as_str()).collect::<Vec<_>>(), expected);
}
