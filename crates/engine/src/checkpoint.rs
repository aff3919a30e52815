//! Checkpoint files ⇄ tensors. Two files of safetensors and a state; all that training needs to continue bit for bit.
//!
//! `model.safetensors` holds the weights by parameter path, as scoring reads them. `optimizer.safetensors` holds what the
//! optimizer carries by PyTorch's names (AdamW: `exp_avg.<path>` and `exp_avg_sq.<path>`), the average weights as
//! `ema.<path>` where there are any and, where early stopping may still go back to them, the best weights so far as
//! `best.<path>`.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData};
use karat_core::{
    Digest, FeaturePlan, TrainSpec,
    port::{CheckpointFiles, TrainState},
    tensors::{Dtype, Tensors, TensorsError, Writer},
    thousands,
};
use karat_models::{Config, Model, Parameter, parameter};
use rayon::prelude::*;

use crate::{
    device::{self, Opened},
    error::{ResumeError, TrainError},
    network, optimizer,
    update::{Learner, Setting},
};

const AVERAGE: &str = "ema.";
const BEST: &str = "best.";

/// Names of what says where a checkpoint was made.
const DEVICE: &str = "device";
const ADAPTER: &str = "adapter";
const DRIVER: &str = "driver";

/// What must be equal for a bitwise resume.
pub(crate) fn environment(
    spec: &TrainSpec,
    opened: &Opened,
    plan: &FeaturePlan,
    n_rows: u64,
) -> BTreeMap<String, String> {
    let digest = Digest::of(&serde_json::to_vec(spec).expect("plain values serialise"));
    let mut facts: BTreeMap<String, String> = [
        ("tool", env!("CARGO_PKG_VERSION").to_owned()),
        (DEVICE, opened.name.class().to_owned()),
        ("precision", device::products(network::precision(spec))),
        ("architecture", std::env::consts::ARCH.to_owned()),
        ("spec", digest.to_string()),
        ("plan", plan.digest().to_string()),
        ("rows", n_rows.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    if !opened.is_cpu() {
        facts.insert(ADAPTER.to_owned(), opened.facts.adapter.clone());
        facts.insert(DRIVER.to_owned(), opened.facts.driver.clone());
    }
    facts
}

/// Weights as a file.
pub(crate) fn weights(config: &Config, model: &Model) -> Result<Vec<u8>, TrainError> {
    write(named(config, String::new(), parameter::values(model)))
}

/// Everything, as files. `best` are written only where they are others than the learner's.
pub(crate) fn capture(
    config: &Config,
    setting: &Setting,
    learner: &Learner,
    best: Option<&Model>,
    state: &TrainState,
) -> Result<CheckpointFiles, TrainError> {
    let mut carried: Vec<(String, Vec<Tensor<1>>)> = Vec::new();
    for (i, name) in optimizer::moments(setting.optimizer).iter().enumerate() {
        let values = learner.moments.iter().map(|it| it[i].clone()).collect();
        carried.push((format!("{name}."), values));
    }
    carried.extend(learner.average.clone().map(|it| (AVERAGE.to_owned(), it)));
    let best = best.filter(|_| state.best_update != state.update);
    carried.extend(best.map(|it| (BEST.to_owned(), parameter::values(it))));
    let carried = carried.into_iter().flat_map(|(prefix, values)| named(config, prefix, values));
    let (model, optimizer) = rayon::join(|| weights(config, &learner.model), || write(carried));
    Ok(CheckpointFiles { model: model?, optimizer: optimizer?, state: state.clone() })
}

/// A tensor under its name in a file, with its shape.
type Named = (String, Vec<usize>, Tensor<1>);

/// The values of the parameters, in their order, as `<prefix><path>`.
fn named(
    config: &Config,
    prefix: String,
    values: Vec<Tensor<1>>,
) -> impl Iterator<Item = Named> + use<> {
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
    setting: &Setting,
    files: &CheckpointFiles,
    environment: &BTreeMap<String, String>,
) -> Result<Restored, ResumeError> {
    let CheckpointFiles { model, optimizer, state } = files;
    let mut state = state.clone();
    let mut fields = differences(&state.environment, environment);
    let policy = &spec.device_policy;
    if policy.began_on.is_some() && !policy.is_deterministic {
        let of_device = |name: &String| [DEVICE, ADAPTER, DRIVER].contains(&name.as_str());
        let changed: Vec<String> = fields
            .extract_if(.., |name, _| of_device(name))
            .map(|(name, (before, now))| format!("{name} {now} after {before}"))
            .collect();
        if !changed.is_empty() && fields.is_empty() {
            state.remarks.push(format!(
                "continued from update {} on another device: {}",
                thousands(state.update),
                changed.join(", ")
            ));
            state.environment.clone_from(environment);
            state.is_mixed = true;
        }
    }
    if !fields.is_empty() {
        return Err(ResumeError::Mismatch { update: state.update, fields });
    }
    let (update, device) = (state.update, &setting.device);
    let refuse = |file| move |source: TensorsError| ResumeError::File { file, update, source };

    let in_model = refuse("model.safetensors");
    let weights = Tensors::parse(model).map_err(in_model)?;
    network::expect_weights(config, &weights).map_err(in_model)?;

    let in_optimizer = refuse("optimizer.safetensors");
    let carried = Tensors::parse(optimizer).map_err(in_optimizer)?;
    let has_best = carried.iter().any(|(name, _)| name.starts_with(BEST));
    let has_average = setting.ema.is_some() && u64::from(state.n_skipped) < update;
    let moments = optimizer::moments(setting.optimizer).iter().map(|name| format!("{name}."));
    let prefixes: Vec<String> = moments
        .clone()
        .chain(has_average.then(|| AVERAGE.to_owned()))
        .chain(has_best.then(|| BEST.to_owned()))
        .collect();
    let parameters = config.parameters();
    let expected: Vec<(String, Vec<usize>)> = prefixes
        .iter()
        .flat_map(|prefix| {
            parameters.iter().map(move |it| (format!("{prefix}{}", it.path), it.shape.clone()))
        })
        .collect();
    carried.expect_exactly(Dtype::F32, &expected).map_err(in_optimizer)?;
    carried.expect_finite().map_err(in_optimizer)?;

    let elements = |prefix: &str, parameter: &Parameter| {
        let view = carried.get(&format!("{prefix}{}", parameter.path));
        view.and_then(|it| it.to_f32()).expect("the file was checked to hold it")
    };
    let flat = |prefix: &str, parameter: &Parameter| -> Tensor<1> {
        let data = TensorData::new(elements(prefix, parameter), [parameter.n_elements()]);
        Tensor::from_data(data, device)
    };
    let learner = Learner {
        model: network::from_file(config, &weights, &device.clone().autodiff()),
        moments: parameters
            .iter()
            .map(|it| moments.clone().map(|prefix| flat(&prefix, it)).collect())
            .collect(),
        average: has_average.then(|| parameters.iter().map(|it| flat(AVERAGE, it)).collect()),
    };
    let is_best = state.best_eval_loss_bits.is_some() && state.best_update == state.update;
    let best = if has_best {
        Some(config.build(device, &mut |it| elements(BEST, it)))
    } else {
        (is_best && spec.early_stopping.is_some()).then(|| learner.evaluated())
    };
    Ok(Restored { learner, best, state })
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
