//! Checkpoint files ⇄ tensors. Two files of safetensors and a state; all that training needs to continue bit for bit.
//!
//! `model.safetensors` holds the weights by parameter path, as scoring reads them. `optimizer.safetensors` holds AdamW's
//! moments as `exp_avg.<path>` and `exp_avg_sq.<path>` (PyTorch's names) and, where early stopping may still go back to
//! them, the best weights so far as `best.<path>`.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use karat_core::{
    Digest, FeaturePlan, TrainSpec,
    port::{CheckpointFiles, TrainState},
    tensors::{Dtype, Tensors, TensorsError, Writer},
};
use karat_models::{Config, Model, parameter};
use rayon::prelude::*;

use crate::{
    device::{self, Class},
    error::{ResumeError, TrainError},
    network,
    update::Learner,
};

const FIRST_MOMENT: &str = "exp_avg.";
const SECOND_MOMENT: &str = "exp_avg_sq.";
const BEST: &str = "best.";

/// What must be equal for a bitwise resume.
pub(crate) fn environment(
    spec: &TrainSpec,
    class: Class,
    plan: &FeaturePlan,
    n_rows: u64,
) -> BTreeMap<String, String> {
    let digest = Digest::of(&serde_json::to_vec(spec).expect("plain values serialise"));
    [
        ("tool", env!("CARGO_PKG_VERSION").to_owned()),
        ("device", class.word().to_owned()),
        ("precision", device::products(network::precision(spec))),
        ("architecture", std::env::consts::ARCH.to_owned()),
        ("spec", digest.to_string()),
        ("plan", plan.digest().to_string()),
        ("rows", n_rows.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Weights as a file.
pub(crate) fn weights(config: &Config, model: &Model) -> Result<Vec<u8>, TrainError> {
    write(named(config, "", parameter::values(model)))
}

/// Everything, as files. `best` are written only where they are others than the learner's.
pub(crate) fn capture(
    config: &Config,
    learner: &Learner,
    best: Option<&Model>,
    state: &TrainState,
) -> Result<CheckpointFiles, TrainError> {
    let (first, second) = learner.moments.iter().map(|[m, v]| (m.clone(), v.clone())).unzip();
    let best = best.filter(|_| state.best_update != state.update);
    let best = best.map_or_else(Vec::new, parameter::values);
    let optimizer = named(config, FIRST_MOMENT, first)
        .chain(named(config, SECOND_MOMENT, second))
        .chain(named(config, BEST, best));
    let (model, optimizer) = rayon::join(|| weights(config, &learner.model), || write(optimizer));
    Ok(CheckpointFiles { model: model?, optimizer: optimizer?, state: state.clone() })
}

/// A tensor under its name in a file, with its shape.
type Named = (String, Vec<usize>, Tensor<1>);

/// The values of the parameters, in their order, as `<prefix><path>`.
fn named<'a>(
    config: &Config,
    prefix: &'a str,
    values: Vec<Tensor<1>>,
) -> impl Iterator<Item = Named> + 'a {
    let parameters = config.parameters().into_iter();
    parameters.zip(values).map(move |(it, value)| (format!("{prefix}{}", it.path), it.shape, value))
}

/// A file of tensors. Training waits for this, and most of the wait is for fresh memory: so elements are copied as they
/// lie, on all threads.
fn write(tensors: impl Iterator<Item = Named>) -> Result<Vec<u8>, TrainError> {
    const { assert!(cfg!(target_endian = "little"), "safetensors are little-endian") };
    let tensors: Vec<Named> = tensors.collect();
    let contents: Vec<(String, Vec<usize>, TensorData)> = tensors
        .into_par_iter()
        .map(|(name, shape, value)| Ok((name, shape, device::read_as_it_lies(value)?)))
        .collect::<Result<_, TrainError>>()?;
    let mut file = Writer::new().with_metadata("format", "karat");
    for (name, shape, content) in &contents {
        file.add(name.as_str(), Dtype::F32, shape, content.as_bytes());
    }
    Ok(file.finish())
}

/// What [`restore`] finds.
pub(crate) struct Restored {
    pub(crate) learner: Learner,
    /// Without gradients.
    pub(crate) best: Option<Model>,
    pub(crate) state: TrainState,
}

/// Reads a checkpoint back. `environment` is what the run would write today.
pub(crate) fn restore(
    spec: &TrainSpec,
    config: &Config,
    files: &CheckpointFiles,
    environment: &BTreeMap<String, String>,
    device: &Device,
) -> Result<Restored, ResumeError> {
    let CheckpointFiles { model, optimizer, state } = files;
    let fields = differences(&state.environment, environment);
    if !fields.is_empty() {
        return Err(ResumeError::Mismatch { update: state.update, fields });
    }
    let update = state.update;
    let refuse = |file| move |source: TensorsError| ResumeError::File { file, update, source };

    let in_model = refuse("model.safetensors");
    let weights = Tensors::parse(model).map_err(in_model)?;
    network::expect_weights(config, &weights).map_err(in_model)?;

    let in_optimizer = refuse("optimizer.safetensors");
    let moments = Tensors::parse(optimizer).map_err(in_optimizer)?;
    let has_best = moments.iter().any(|(name, _)| name.starts_with(BEST));
    let mut prefixes = vec![FIRST_MOMENT, SECOND_MOMENT];
    if has_best {
        prefixes.push(BEST);
    }
    let expected: Vec<(String, Vec<usize>)> = prefixes
        .iter()
        .flat_map(|prefix| {
            let named =
                move |it: karat_models::Parameter| (format!("{prefix}{}", it.path), it.shape);
            config.parameters().into_iter().map(named)
        })
        .collect();
    moments.expect_exactly(Dtype::F32, &expected).map_err(in_optimizer)?;
    moments.expect_finite().map_err(in_optimizer)?;

    let elements = |prefix: &str, parameter: &karat_models::Parameter| {
        let view = moments.get(&format!("{prefix}{}", parameter.path));
        view.and_then(|it| it.to_f32()).expect("the file was checked to hold it")
    };
    let moment = |prefix: &str, parameter: &karat_models::Parameter| -> Tensor<1> {
        let data = TensorData::new(elements(prefix, parameter), [parameter.n_elements()]);
        Tensor::from_data(data, device)
    };
    let found = config
        .parameters()
        .iter()
        .map(|it| [moment(FIRST_MOMENT, it), moment(SECOND_MOMENT, it)])
        .collect();
    let model = network::from_file(config, &weights, &device.clone().autodiff());
    let is_best = state.best_eval_loss_bits.is_some() && state.best_update == state.update;
    let best = if has_best {
        Some(config.build(device, &mut |it| elements(BEST, it)))
    } else if is_best && spec.early_stopping.is_some() {
        Some(network::from_file(config, &weights, device))
    } else {
        None
    };
    Ok(Restored { learner: Learner::new(config, model, found), best, state: state.clone() })
}

fn differences(
    old: &BTreeMap<String, String>,
    new: &BTreeMap<String, String>,
) -> BTreeMap<String, (String, String)> {
    let text = |map: &BTreeMap<String, String>, name: &String| {
        map.get(name).cloned().unwrap_or_else(|| "nothing".to_owned())
    };
    old.keys()
        .chain(new.keys())
        .map(|name| (name.clone(), (text(old, name), text(new, name))))
        .filter(|(_, (old, new))| old != new)
        .collect()
}
