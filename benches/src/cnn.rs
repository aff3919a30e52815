//! Training a small convolutional network beside PyTorch: two 3 × 3 convolutions of 32 and 64 filters with 2 × 2 pools, a hidden
//! layer of 128, ten classes, 128 pictures of 28 × 28 an update. Both draw their pixels: speed does not depend on them. An update of ours
//! is what the engine does: loss, gradients, their norm, AdamW.

use std::time::Instant;

use burn::tensor::{DType, Device, Tensor, TensorData};
use karat_core::rng::{Purpose, Stream};
use karat_kernels::{
    adamw::{Step, adamw},
    global_norm::{clip_factor, square_sum},
    loss::{Loss, weighted_mean},
    window::Image,
};
use karat_models::{Config, Init, Inputs, Model, Parameter, cnn, parameter};
use serde_json::json;

use crate::{
    Row, Setup,
    jobs::{median, number, own_peak_mb, peer},
};

const BATCH: usize = 128;
const SIDE: usize = 28;
const N_CLASSES: usize = 10;
/// Turns of ours and the peer; the median of the turns counts.
const TURNS: usize = 5;
/// Updates of ours in a turn, after one that does not count.
const UPDATES: u64 = 60;

fn config() -> Config {
    Config::Cnn(cnn::Config {
        image: Image { height: SIDE, width: SIDE, n_channels: 1 },
        filters: vec![32, 64],
        hidden: vec![128],
        n_outputs: N_CLASSES,
        dropout: 0.0,
    })
}

fn drawn(name: &str, n: usize) -> impl Iterator<Item = f32> {
    let stream = Stream::new(1, Purpose::Init, name);
    (0..n).map(move |i| stream.uniform(i as u32, 0, 0))
}

fn values(parameter: &Parameter) -> Vec<f32> {
    let scale = match parameter.init {
        Init::Uniform { bound } => bound as f32,
        Init::One | Init::Zero | Init::Normal { .. } => 0.1,
    };
    drawn(&parameter.path, parameter.n_elements()).map(|x| scale * (2.0 * x - 1.0)).collect()
}

/// What an update changes.
struct Learner {
    model: Model,
    moments: Vec<[Tensor<1>; 2]>,
    device: Device,
}

/// Pixels and classes of one batch.
struct Rows {
    pixels: Vec<f32>,
    classes: Vec<f32>,
}

fn read(number: Tensor<1>) -> Result<f64, String> {
    let found = number.try_into_data().map_err(|error| error.to_string())?;
    found.iter::<f64>().next().ok_or_else(|| "no number".to_owned())
}

impl Learner {
    fn new() -> Self {
        let device = Device::flex();
        let model = config().build(&device.clone().autodiff(), &mut values);
        let zeros = |it: &Tensor<1>| [it.zeros_like(), it.zeros_like()];
        let moments = parameter::values(&model).iter().map(zeros).collect();
        Self { model, moments, device }
    }

    /// Itself and the loss.
    fn update(self, rows: &Rows, step: u64) -> Result<(Self, f64), String> {
        let Self { model, mut moments, device: cpu } = self;
        let device = cpu.clone().autodiff();
        let pixels = TensorData::new(rows.pixels.clone(), [BATCH, 1, SIDE, SIDE]);
        let inputs = Inputs {
            numeric: Tensor::zeros([BATCH, 0], &device),
            slots: Tensor::zeros([BATCH, 0], (&device, DType::I32)),
            image: Some(Tensor::from_data(pixels, &device)),
        };
        let classes = TensorData::new(rows.classes.clone(), [BATCH]);
        let classes = Tensor::from_data(classes, &device);
        let weights = classes.ones_like();
        let z = model.forward(inputs, None);
        let loss = weighted_mean(Loss::Multiclass, z, classes, weights, BATCH as f64);
        let mut found = loss.backward();
        let loss = read(loss.inner())?;
        let gradients = parameter::gradients(&model, &mut found);
        let scale = clip_factor(read(square_sum(&gradients))?.sqrt(), 1.0);
        let mut gradients = gradients.into_iter();
        let mut before = std::mem::take(&mut moments).into_iter();
        let model = parameter::map(model, &mut |_, p| {
            let gradient = gradients.next().expect("one for each parameter");
            let [m, v] = before.next().expect("two for each parameter");
            let (p, m, v) = adamw(p, gradient, m, v, Step::new(1e-3, 1e-2, scale, step));
            moments.push([m, v]);
            p
        });
        Ok((Self { model, moments, device: cpu }, loss))
    }
}

/// Images per second, in turns with the peer.
pub(crate) fn train(setup: &Setup) -> Result<Vec<Row>, String> {
    let rows = Rows {
        pixels: drawn("pixels", BATCH * SIDE * SIDE).collect(),
        classes: drawn("classes", BATCH).map(|x| (x * N_CLASSES as f32).floor()).collect(),
    };
    let (mut learner, first) = Learner::new().update(&rows, 1)?;
    let (mut step, mut last) = (1, first);
    let (mut ours, mut theirs, mut found) = (Vec::new(), Vec::new(), None);
    for _ in 0..TURNS {
        let started = Instant::now();
        for _ in 0..UPDATES {
            step += 1;
            (learner, last) = learner.update(&rows, step)?;
        }
        ours.push(UPDATES as f64 * BATCH as f64 / started.elapsed().as_secs_f64());
        found = peer(setup, "train_cnn_torch.py", &[])?;
        if let Some(found) = &found {
            theirs.push(number(found, "images_per_s")?);
        }
    }
    if first <= last || !last.is_finite() {
        return Err(format!("the loss went from {first} to {last}: that is no training"));
    }
    Ok(vec![Row {
        job: "train CNN 32-64, fc 128, batch 128, 28 x 28",
        unit: "images/s",
        ours: median(ours.clone()),
        peer: (!theirs.is_empty())
            .then(|| ("PyTorch, channels last".to_owned(), median(theirs.clone()))),
        remark: format!("loss {first:.2} to {last:.4}, peak {:.0} MB", own_peak_mb()),
        details: json!({ "runs": ours, "peer_runs": theirs, "peer": found, "peak_mb": own_peak_mb() }),
    }])
}
