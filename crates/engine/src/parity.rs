//! Whether a device computes what the CPU computes: the same few updates on both, losses side by side (tier R4).
//!
//! A driver may be fast, stable and wrong. So a run on a GPU begins with this, on its own first rows, and `karat doctor` does it
//! for every architecture.

use burn::tensor::Device;
use karat_core::{
    Batch, ColumnType, Document, Feature, FeaturePlan, LabelPlan, Project, TrainSpec,
    plan::{Encoding, ImagePlan},
    port::Parity,
    rng::{Purpose, Stream},
};
use karat_models::Config;

use crate::{
    batch::Shape,
    device::Opened,
    error::TrainError,
    network,
    update::{At, Learner, Setting},
};

/// Rows of an update: few, because the CPU does them too.
pub(crate) const N_ROWS: usize = 64;
/// Updates made.
pub(crate) const N_UPDATES: u64 = 10;
/// (updates before the loss compared, relative difference allowed).
const COMPARED: [(u64, f64); 2] = [(1, 1e-5), (N_UPDATES, 1e-4)];
/// A loss near zero is compared with this share of the first one, or rounding alone would look large.
const FLOOR: f64 = 0.01;

/// Trains on `opened` and on the CPU. `batches` are [`N_UPDATES`] + 1, which fit `setting`'s shape; `rates` give the learning
/// rate of each.
pub(crate) fn compare(
    model: &str,
    config: &Config,
    setting: &Setting,
    batches: &[Batch],
    rate: impl Fn(u64) -> f64 + Copy,
    opened: &Opened,
) -> Result<Vec<Parity>, TrainError> {
    let on = |device: &Device| {
        let setting = Setting { device: device.clone(), ..setting.clone() };
        losses(config, &setting, batches, rate)
    };
    let expected = on(&Opened::cpu().device)?;
    let found = opened.attempt(N_ROWS, || on(&opened.device))?;
    let floor = expected[0].abs() * FLOOR;
    let parity = |(n_updates, tolerance): (u64, f64)| {
        let (a, b) = (expected[n_updates as usize], found[n_updates as usize]);
        let error = (a - b).abs() / a.abs().max(floor).max(f64::MIN_POSITIVE);
        let error = Some(error).filter(|it| it.is_finite());
        Parity { model: model.to_owned(), n_updates, error, tolerance }
    };
    Ok(COMPARED.map(parity).into())
}

/// The loss before each update, and after the last.
fn losses(
    config: &Config,
    setting: &Setting,
    batches: &[Batch],
    rate: impl Fn(u64) -> f64,
) -> Result<Vec<f64>, TrainError> {
    let model = network::fresh(config, setting.seed, &setting.device.clone().autodiff());
    let mut learner = Learner::fresh(config, model, setting);
    let mut losses = Vec::new();
    for (update, batch) in (0..).zip(batches) {
        let at = At { update, step: update + 1, learning_rate: rate(update) };
        let (gradients, seen) = learner.gradients(setting, batch, N_ROWS, at, &mut |_| {})?;
        losses.push(seen.loss);
        learner = learner.step(setting, gradients, seen, at);
    }
    Ok(losses)
}

/// Every architecture, small, as it stands in `[train]`.
const FAMILIES: [(&str, Rows, &str); 6] = [
    ("linear", Rows::Table, "model = 'linear'"),
    ("mlp", Rows::Table, "model = 'mlp'\nhidden = [16, 8]\ndropout = 0.1"),
    ("resmlp", Rows::Table, "model = 'resmlp'\nwidth = 16\nblocks = 2\ndropout = 0.1"),
    (
        "ft_transformer",
        Rows::Table,
        "model = 'ft_transformer'\nwidth = 16\nblocks = 1\nheads = 2\ndropout = 0.1",
    ),
    ("cnn", Rows::Images, "model = 'cnn'\nfilters = [8, 16]\nhidden = [16]\ndropout = 0.1"),
    ("resnet", Rows::Images, "model = 'resnet'\nfilters = [8, 16]"),
];

/// What an architecture reads.
#[derive(Clone, Copy)]
enum Rows {
    /// Two numbers and a category.
    Table,
    /// A grey image of [`SIDE`] × [`SIDE`].
    Images,
}

/// Pixels of an image, high and wide.
const SIDE: u32 = 8;

/// [`compare`] for every architecture, on rows made up for it.
pub(crate) fn of_every_family(opened: &Opened) -> Result<Vec<Parity>, TrainError> {
    let mut found = Vec::new();
    for (name, rows, keys) in FAMILIES {
        let (spec, plan) = (spec(keys), plan(rows));
        let config = network::config(&spec, &plan)?;
        let setting = Setting {
            shape: Shape::of(&plan),
            precision: network::precision(&spec),
            loss: network::loss(&plan),
            label_smoothing: 0.0,
            class_weights: Vec::new(),
            seed: spec.seed,
            accumulate: 1,
            clip_norm: spec.clip_norm,
            optimizer: spec.optimizer,
            weight_decay: network::weight_decay(&spec, &config)?,
            ema: None,
            device: opened.device.clone(),
        };
        let batches: Vec<Batch> = (0..=N_UPDATES).map(|update| made_up(rows, update)).collect();
        let rate = |_| spec.learning_rate;
        found.extend(compare(name, &config, &setting, &batches, rate, opened)?);
    }
    Ok(found)
}

fn spec(keys: &str) -> TrainSpec {
    let text = format!(
        "version = 1\n[project]\nname = 'probe'\n[dataset.probe]\nfiles = 'none'\n[train]\n{keys}\n"
    );
    let project = Document::parse("probe", text).and_then(|it| Project::read(&it));
    project.expect("the families' keys are those of `[train]`").train
}

/// Two classes.
fn plan(rows: Rows) -> FeaturePlan {
    let feature = |column: &str, ty, encoding| Feature { column: column.to_owned(), ty, encoding };
    let number = || Encoding::Numeric { mean: 0.0, std: 1.0, missing_flag: false };
    let vocabulary = ["x", "y", "z"].map(str::to_owned).into();
    let (features, image) = match rows {
        Rows::Table => (
            vec![
                feature("a", ColumnType::Float, number()),
                feature("b", ColumnType::Float, number()),
                feature("c", ColumnType::Text, Encoding::Categorical { vocabulary }),
            ],
            None,
        ),
        Rows::Images => (
            Vec::new(),
            Some(ImagePlan {
                column: "image".to_owned(),
                channels: 1,
                height: SIDE,
                width: SIDE,
                mean: vec![0.5],
                std: vec![0.3],
            }),
        ),
    };
    FeaturePlan {
        features,
        label: LabelPlan::Binary {
            column: "y".to_owned(),
            classes: vec!["no".to_owned(), "yes".to_owned()],
            counts: vec![1, 1],
        },
        weight: None,
        image,
    }
}

/// Rows of one update, which a model can learn something from.
fn made_up(rows: Rows, update: u64) -> Batch {
    let stream = Stream::new(0, Purpose::Probe, "rows");
    let mut batch = match rows {
        Rows::Table => Batch::new(2, 1),
        Rows::Images => Batch { n_pixels: (SIDE * SIDE) as usize, ..Batch::default() },
    };
    batch.n_rows = N_ROWS;
    for row in 0..N_ROWS as u64 {
        let at = update * N_ROWS as u64 + row;
        let [a, b] = [0, 1].map(|i| 2.0 * stream.uniform(i, 0, at) - 1.0);
        let is_yes = match rows {
            Rows::Table => {
                let slot = stream.bits(2, 0, at) % 5;
                batch.numeric.extend([a, b]);
                batch.categorical.push(slot);
                (a < 0.0) == (b < 0.0) || slot == 4
            }
            Rows::Images => {
                // Noise, and one bright row or column of pixels.
                let (is_row, place) = (a < 0.0, ((b + 1.0) * 4.0) as u32 % SIDE);
                let pixels = (0..SIDE * SIDE).map(|pixel| {
                    let line = if is_row { pixel / SIDE } else { pixel % SIDE };
                    let noise = (stream.bits(8 + pixel, 0, at) % 96) as u8;
                    if line == place { noise + 128 } else { noise }
                });
                batch.pixels.extend(pixels);
                is_row
            }
        };
        batch.label.push(f32::from(u8::from(is_yes)));
    }
    batch
}

#[cfg(test)]
mod tests {
    use karat_core::port::Parity;

    use super::{COMPARED, of_every_family};
    use crate::device::Opened;

    #[test]
    fn the_cpu_agrees_with_itself_bit_for_bit() {
        let found = of_every_family(&Opened::cpu()).expect("a CPU computes");
        assert_eq!(found.len(), super::FAMILIES.len() * COMPARED.len());
        assert!(found.iter().all(|it| it.error == Some(0.0) && it.holds()), "{found:?}");
    }

    #[test]
    fn what_is_too_far_or_no_number_does_not_hold() {
        let parity =
            |error| Parity { model: "mlp".to_owned(), n_updates: 1, error, tolerance: 1e-5 };
        assert!(parity(Some(1e-5)).holds());
        assert!(!parity(Some(1.1e-5)).holds());
        assert!(!parity(None).holds());
    }
}
