//! The forward pass of a transformer encoder, beside PyTorch and ONNX Runtime: 6 blocks, 384 wide, 12 heads, 32 sequences of
//! 128 tokens: the size of MiniLM, a usual sentence encoder. All read the same weights and tokens from one safetensors file, and
//! each peer says how far its answer is from ours.

use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use karat_core::{
    rng::{Purpose, Stream},
    tensors::Writer,
};
use karat_kernels::{
    activation::Activation,
    precision::{Precision, in_precision},
};
use karat_models::{
    Init, Parameter,
    encoder::{Config, Encoder, NormPlace, Tokens},
};
use serde_json::json;

use crate::{
    Row, Setup,
    jobs::{median, number, own_peak_mb, peer},
};

const N_SEQUENCES: usize = 32;
const LENGTH: usize = 128;
/// Turns of ours and each peer; the median of the turns counts.
const TURNS: usize = 5;
/// Passes of ours in a turn.
const PASSES: usize = 5;

fn config() -> Config {
    Config {
        width: 384,
        n_heads: 12,
        hidden: 1536,
        n_blocks: 6,
        norm: NormPlace::After,
        activation: Activation::GeluErf,
        dropout: 0.0,
    }
}

fn drawn(name: &str, n: usize) -> impl Iterator<Item = f32> {
    let stream = Stream::new(1, Purpose::Init, name);
    (0..n).map(move |i| 2.0 * stream.uniform(i as u32, 0, 0) - 1.0)
}

/// As a trained model has them: no norm is exactly 1 and 0.
fn values(parameter: &Parameter) -> Vec<f32> {
    let (middle, scale) = match parameter.init {
        Init::One => (1.0, 0.1),
        Init::Uniform { bound } => (0.0, bound as f32),
        Init::Zero | Init::Normal { .. } => (0.0, 0.1),
    };
    drawn(&parameter.path, parameter.n_elements()).map(|x| middle + scale * x).collect()
}

fn tokens(x: &[f32], config: &Config) -> Tokens {
    let x = TensorData::new(x.to_vec(), [N_SEQUENCES * LENGTH, config.width]);
    Tokens::full(Tensor::from_data(x, &Device::flex()), LENGTH)
}

fn answer(encoder: &Encoder, tokens: &Tokens) -> Result<Vec<f32>, String> {
    let found = encoder.forward(tokens.clone()).try_into_data().map_err(|it| it.to_string())?;
    found.try_into_vec().map_err(|error| format!("{error:?}"))
}

/// Sequences per second: the median over the passes of one turn.
fn turn(encoder: &Encoder, tokens: &Tokens, precision: Precision) -> Result<f64, String> {
    let mut seconds = Vec::new();
    for _ in 0..PASSES {
        let started = Instant::now();
        in_precision(precision, || answer(encoder, tokens))?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    Ok(N_SEQUENCES as f64 / median(seconds))
}

/// Weights, tokens and our answer.
fn file(config: &Config, x: &[f32], answer: &[f32]) -> Vec<u8> {
    let mut writer = Writer::new();
    for parameter in config.parameters("blocks") {
        writer.add_f32(parameter.path.clone(), &parameter.shape, &values(&parameter));
    }
    let shape = [N_SEQUENCES, LENGTH, config.width];
    writer.add_f32("tokens", &shape, x);
    writer.add_f32("answer", &shape, answer);
    writer.add_f32("heads", &[1], &[config.n_heads as f32]);
    writer.finish()
}

/// Sequences per second, in turns with each peer.
pub(crate) fn encoder(setup: &Setup) -> Result<Vec<Row>, String> {
    let config = config();
    let encoder = config.encoder(&Device::flex(), &mut values);
    let x: Vec<f32> = drawn("tokens", N_SEQUENCES * LENGTH * config.width).collect();
    let tokens = tokens(&x, &config);
    let found = answer(&encoder, &tokens)?;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = folder.path().join("encoder.safetensors");
    std::fs::write(&path, file(&config, &x, &found)).map_err(|error| error.to_string())?;
    let rounded = in_precision(Precision::Bf16, || answer(&encoder, &tokens))?;
    let difference = found.iter().zip(&rounded).map(|(x, y)| (x - y).abs()).fold(0.0_f32, f32::max);
    drop((x, found, rounded));
    let peak = own_peak_mb();

    let path = path.display().to_string();
    let arguments = ["--file", &path, "--seconds", "4"];
    let peers =
        [("PyTorch, inference mode", "encoder_torch.py"), ("ONNX Runtime", "encoder_ort.py")];
    let (mut ours, mut bf16) = (Vec::new(), Vec::new());
    let mut theirs: [Vec<f64>; 2] = Default::default();
    let mut last = [None, None];
    for _ in 0..TURNS {
        ours.push(turn(&encoder, &tokens, Precision::F32)?);
        bf16.push(turn(&encoder, &tokens, Precision::Bf16)?);
        for (i, (_, script)) in peers.iter().enumerate() {
            if let Some(found) = peer(setup, script, &arguments)? {
                theirs[i].push(number(&found, "sequences_per_s")?);
                last[i] = Some(found);
            }
        }
    }
    let figure = median(ours.clone());
    let rows = peers.iter().zip(theirs).zip(last).map(|(((name, _), theirs), last)| Row {
        job: "encoder 6 x 384 x 12 heads, 32 x 128 tokens",
        unit: "seq/s",
        ours: figure,
        peer: (!theirs.is_empty()).then(|| ((*name).to_owned(), median(theirs.clone()))),
        remark: last
            .as_ref()
            .map(|it| format!("largest difference {}, peak {peak:.0} MB", it["max_difference"]))
            .unwrap_or_default(),
        details: json!({ "runs": ours, "peer_runs": theirs, "peer": last, "peak_mb": peak }),
    });
    let mut rows: Vec<Row> = rows.collect();
    rows.push(Row {
        job: "the same encoder in bf16, against f32",
        unit: "seq/s",
        ours: median(bf16.clone()),
        peer: Some(("karat in f32".to_owned(), figure)),
        remark: format!("largest difference {difference}"),
        details: json!({ "runs": bf16 }),
    });
    Ok(rows)
}
