//! From spec and plan to an architecture, its loss and its numbers: fresh ones from our streams, or those of a file.

use std::collections::BTreeMap;

use burn::tensor::Device;
use karat_core::{
    ClassWeights, FeaturePlan, LabelPlan, ModelSpec, TrainSpec, nearest,
    rng::{Purpose, Stream},
    tensors::{Dtype, Tensors, TensorsError},
};
use karat_kernels::{loss::Loss, precision::Precision, window::Image};
use karat_models::{
    Config, Init, Model, Parameter, cnn, ft_transformer, linear, mlp, resmlp, resnet,
};

use crate::error::TrainError;

/// The architecture that `spec` asks for on the columns of `plan`, unless it cannot read them.
pub(crate) fn config(spec: &TrainSpec, plan: &FeaturePlan) -> Result<Config, TrainError> {
    // To fully connected layers an image is so many more numbers.
    let n_numeric = plan.n_numeric() + plan.n_pixels();
    let cardinalities: Vec<usize> = plan.cardinalities().iter().map(|it| *it as usize).collect();
    let n_outputs = plan.label.n_outputs();
    let wide = |widths: &[u32]| widths.iter().map(|width| *width as usize).collect();
    Ok(match &spec.model {
        ModelSpec::Linear => Config::Linear(linear::Config { n_numeric, cardinalities, n_outputs }),
        ModelSpec::Mlp { hidden, embedding_max, dropout } => Config::Mlp(mlp::Config {
            n_numeric,
            widths: widths(&cardinalities, *embedding_max),
            cardinalities,
            hidden: wide(hidden),
            n_outputs,
            dropout: *dropout,
        }),
        ModelSpec::ResMlp { width, blocks, expansion, embedding_max, dropout } => {
            Config::ResMlp(resmlp::Config {
                n_numeric,
                widths: widths(&cardinalities, *embedding_max),
                cardinalities,
                width: *width as usize,
                hidden: *width as usize * *expansion as usize,
                n_blocks: *blocks as usize,
                n_outputs,
                dropout: *dropout,
            })
        }
        ModelSpec::Cnn { filters, hidden, dropout } => Config::Cnn(cnn::Config {
            image: image("cnn", plan, filters.len())?,
            filters: wide(filters),
            hidden: wide(hidden),
            n_outputs,
            dropout: *dropout,
        }),
        ModelSpec::ResNet { filters } => Config::ResNet(resnet::Config {
            // Its halves are rounded up: no image is too small.
            image: image("resnet", plan, 0)?,
            filters: wide(filters),
            n_outputs,
        }),
        ModelSpec::FtTransformer { width, blocks, heads, expansion, dropout } => {
            // A token a pixel would be thousands of tokens, each attending to each.
            if let Some(image) = &plan.image {
                let (model, column) = ("ft_transformer", image.column.clone());
                return Err(TrainError::ImageUnread { model, column });
            }
            Config::FtTransformer(ft_transformer::Config {
                n_numeric,
                cardinalities,
                width: *width as usize,
                n_heads: *heads as usize,
                hidden: *width as usize * *expansion as usize,
                n_blocks: *blocks as usize,
                n_outputs,
                dropout: *dropout,
            })
        }
    })
}

/// The images of `plan` for a model that reads nothing else and halves them `n_halvings` times.
fn image(model: &'static str, plan: &FeaturePlan, n_halvings: usize) -> Result<Image, TrainError> {
    let Some(image) = &plan.image else {
        return Err(TrainError::ImageMissing { model });
    };
    let others = plan.features.iter().map(|it| &it.column).filter(|it| **it != image.column);
    let unread: Vec<String> = others.cloned().collect();
    if !unread.is_empty() {
        return Err(TrainError::FeaturesUnread { model, unread });
    }
    let least = 1 << n_halvings;
    if image.height < least || image.width < least {
        let size = [image.height, image.width];
        return Err(TrainError::ImageTooSmall { model, n_halvings, least, size });
    }
    Ok(Image {
        height: image.height as usize,
        width: image.width as usize,
        n_channels: image.channels as usize,
    })
}

/// Embedding width of each category: half its slots, at most `max`.
fn widths(cardinalities: &[usize], max: u32) -> Vec<usize> {
    cardinalities.iter().map(|n_slots| (max as usize).min((n_slots + 1).div_ceil(2))).collect()
}

/// What the spec's layers multiply in.
pub(crate) const fn precision(spec: &TrainSpec) -> Precision {
    match spec.precision {
        karat_core::Precision::F32 => Precision::F32,
        karat_core::Precision::Bf16 => Precision::Bf16,
    }
}

/// The loss of the plan's task.
pub(crate) const fn loss(plan: &FeaturePlan) -> Loss {
    match plan.label {
        LabelPlan::Binary { .. } => Loss::Binary,
        LabelPlan::Multiclass { .. } => Loss::Multiclass,
        LabelPlan::Regression { .. } => Loss::Squared,
    }
}

/// Share of a label that is spread over all classes while training.
pub(crate) fn label_smoothing(spec: &TrainSpec, plan: &FeaturePlan) -> Result<f64, TrainError> {
    match plan.label {
        LabelPlan::Regression { .. } if 0.0 < spec.label_smoothing => {
            Err(TrainError::SmoothingWithoutClasses)
        }
        _ => Ok(spec.label_smoothing),
    }
}

/// A fresh model: every number is a function of (seed, parameter path, position).
pub(crate) fn fresh(config: &Config, seed: u64, device: &Device) -> Model {
    config.build(device, &mut |parameter| draw(parameter, seed))
}

fn draw(parameter: &Parameter, seed: u64) -> Vec<f32> {
    let stream = Stream::new(seed, Purpose::Init, &parameter.path);
    let n = parameter.n_elements();
    let index = |i: usize| u32::try_from(i).expect("a tensor has less than 2^32 elements");
    match parameter.init {
        Init::Zero => vec![0.0; n],
        Init::One => vec![1.0; n],
        Init::Uniform { bound } => {
            let bound = bound as f32;
            (0..n).map(|i| (2.0 * stream.uniform(index(i), 0, 0) - 1.0) * bound).collect()
        }
        Init::Normal { std } => (0..n.div_ceil(2))
            .flat_map(|pair| stream.normal_pair(index(pair), 0, 0))
            .take(n)
            .map(|x| (x * std) as f32)
            .collect(),
    }
}

/// Refuses a file of weights unless its tensors are exactly the model's and all finite.
pub(crate) fn expect_weights(config: &Config, file: &Tensors<'_>) -> Result<(), TensorsError> {
    let expected: Vec<(String, Vec<usize>)> =
        config.parameters().into_iter().map(|it| (it.path, it.shape)).collect();
    file.expect_exactly(Dtype::F32, &expected)?;
    file.expect_finite()
}

/// The model in a file that [`expect_weights`] accepted.
pub(crate) fn from_file(config: &Config, file: &Tensors<'_>, device: &Device) -> Model {
    config.build(device, &mut |parameter| {
        let view = file.get(&parameter.path).and_then(|view| view.to_f32());
        view.expect("the file was checked to hold every parameter")
    })
}

/// What each class counts in the loss; empty when all count 1.
pub(crate) fn class_weights(spec: &TrainSpec, plan: &FeaturePlan) -> Result<Vec<f64>, TrainError> {
    let (LabelPlan::Binary { classes, counts, .. } | LabelPlan::Multiclass { classes, counts, .. }) =
        &plan.label
    else {
        return match spec.class_weights {
            ClassWeights::None => Ok(Vec::new()),
            ClassWeights::Balanced | ClassWeights::Given(_) => {
                Err(TrainError::ClassWeightsWithoutClasses)
            }
        };
    };
    match &spec.class_weights {
        ClassWeights::None => Ok(Vec::new()),
        ClassWeights::Balanced => {
            let n: u64 = counts.iter().sum();
            // A class without a training row weighs nothing: no row asks for it.
            let weight = |count: &u64| match *count {
                0 => 0.0,
                count => n as f64 / (counts.len() as f64 * count as f64),
            };
            Ok(counts.iter().map(weight).collect())
        }
        ClassWeights::Given(given) => {
            if let Some(asked) = given.keys().find(|it| !classes.contains(it)) {
                let known = nearest(asked, classes.iter().map(String::as_str));
                return Err(TrainError::ClassUnknown {
                    asked: asked.clone(),
                    known: known.into_iter().map(str::to_owned).collect(),
                });
            }
            Ok(classes.iter().map(|class| weight_of(given, class)).collect())
        }
    }
}

/// Weight decay of each parameter: none where a bias or norm is, nor where one of the spec's patterns matches its path.
pub(crate) fn weight_decay(spec: &TrainSpec, config: &Config) -> Result<Vec<f64>, TrainError> {
    let parameters = config.parameters();
    for pattern in &spec.no_decay {
        if !parameters.iter().any(|it| matches(pattern, &it.path)) {
            let known = nearest(pattern, parameters.iter().map(|it| it.path.as_str()));
            return Err(TrainError::PatternUnmatched {
                pattern: pattern.clone(),
                known: known.into_iter().map(str::to_owned).collect(),
            });
        }
    }
    let is_exempt = |it: &Parameter| spec.no_decay.iter().any(|pattern| matches(pattern, &it.path));
    let decay = |it: &Parameter| if it.decays && !is_exempt(it) { spec.weight_decay } else { 0.0 };
    Ok(parameters.iter().map(decay).collect())
}

/// Whether the whole of `path` is as `pattern` says; `*` stands for any characters, also none.
fn matches(pattern: &str, path: &str) -> bool {
    let Some((head, mut rest)) = pattern.split_once('*') else { return pattern == path };
    let Some(mut path) = path.strip_prefix(head) else { return false };
    // What stands between two stars may as well be taken where it comes first.
    while let Some((middle, after)) = rest.split_once('*') {
        let Some(at) = path.find(middle) else { return false };
        path = &path[at + middle.len()..];
        rest = after;
    }
    path.ends_with(rest)
}

/// A class that is not named counts 1.
fn weight_of(given: &BTreeMap<String, f64>, class: &str) -> f64 {
    given.get(class).copied().unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use karat_core::{
        ColumnType, Exit, Failure, Feature, FeaturePlan, ImagePlan, LabelPlan, ModelSpec,
        TrainSpec, plan::Encoding,
    };

    use super::{config, matches};

    fn plan(features: &[&str], size: Option<[u32; 2]>) -> FeaturePlan {
        let feature = |column: &&str| Feature {
            column: (*column).to_owned(),
            ty: ColumnType::Float,
            encoding: Encoding::Numeric { mean: 0.0, std: 1.0, missing_flag: false },
        };
        FeaturePlan {
            features: features.iter().map(feature).collect(),
            label: LabelPlan::Regression { column: "y".to_owned(), mean: 0.0, std: 1.0 },
            weight: None,
            image: size.map(|[height, width]| ImagePlan {
                column: "image".to_owned(),
                channels: 3,
                height,
                width,
                mean: vec![0.5; 3],
                std: vec![1.0; 3],
            }),
        }
    }

    fn spec(model: ModelSpec) -> TrainSpec {
        TrainSpec { model, ..crate::tests::spec() }
    }

    #[test]
    fn a_model_for_images_refuses_what_it_cannot_read() {
        let cnn = || ModelSpec::Cnn { filters: vec![4; 5], hidden: vec![8], dropout: 0.0 };
        let resnet = || ModelSpec::ResNet { filters: vec![8, 8] };
        let small = "at least 32 × 32: the images are 32 × 31";
        for (model, plan, code, words) in [
            (cnn(), plan(&["a"], None), "image-missing", "`cnn`"),
            (resnet(), plan(&[], None), "image-missing", "`resnet`"),
            (cnn(), plan(&["a", "b"], Some([32, 32])), "features-unread", "`a`, `b`"),
            (cnn(), plan(&[], Some([32, 31])), "image-too-small", small),
        ] {
            let failure = Failure::from(config(&spec(model), &plan).expect_err(code));
            assert_eq!(failure.code.as_str(), code);
            assert!(failure.message.contains(words), "{failure}");
            assert_eq!(failure.exit, Exit::Usage);
        }
        for (model, size) in [(cnn(), [32, 33]), (resnet(), [1, 1])] {
            config(&spec(model), &plan(&[], Some(size))).expect("can be read");
        }
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, path) in [
            ("layers.0.bias", "layers.0.bias"),
            ("embeddings.*", "embeddings.12"),
            ("*.weight", "layers.3.weight"),
            ("*norm*", "blocks.1.norm_2.scale"),
            ("blocks.*.norm_*.scale", "blocks.1.norm_2.scale"),
            ("*", "x"),
            ("a*a", "aa"),
        ] {
            assert!(matches(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("layers.0", "layers.0.bias"),
            ("embeddings.*", "my.embeddings.1"),
            ("*.weight", "layers.0.weights"),
            ("a*a", "a"),
            ("", "x"),
            ("*x*y*", "yx"),
        ] {
            assert!(!matches(pattern, path), "{pattern} {path}");
        }
    }
}
