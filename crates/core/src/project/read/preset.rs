//! `train.preset`: what a `[train]` table means where it says nothing. The files are `models/presets/*.toml`, one a model.

use super::train::RawTrain;
use crate::{Document, Failure, nearest};

/// Name and text of every preset.
const PRESETS: &[(&str, &str)] = &[
    ("linear", include_str!("../../../../../models/presets/linear.toml")),
    ("mlp", include_str!("../../../../../models/presets/mlp.toml")),
    ("resmlp", include_str!("../../../../../models/presets/resmlp.toml")),
    ("cnn", include_str!("../../../../../models/presets/cnn.toml")),
    ("resnet", include_str!("../../../../../models/presets/resnet.toml")),
    ("ft_transformer", include_str!("../../../../../models/presets/ft_transformer.toml")),
];

/// The keys of `given`, and those of its preset where it has none.
pub(super) fn filled(document: &Document, given: RawTrain) -> Result<RawTrain, Failure> {
    let Some(asked) = &given.preset else { return Ok(given) };
    let Some((name, text)) = PRESETS.iter().find(|(name, _)| name == asked) else {
        let known = nearest(asked, PRESETS.iter().map(|it| it.0)).join("`, `");
        return Err(document
            .refuse("train.preset", format!("`train.preset` is `{asked}`: known are `{known}`")));
    };
    let mut preset: RawTrain =
        Document::parse(format!("models/presets/{name}.toml"), *text)?.read()?;
    if given.model.is_some() && given.model != preset.model {
        let (asked, meant) = (given.model.unwrap_or_default(), preset.model.unwrap_or_default());
        return Err(document.refuse(
            "train.model",
            format!("`train.model` is `{asked}`, but preset `{name}` is of model `{meant}`"),
        ));
    }
    // A rate chosen for one optimizer or one course says nothing about another.
    if given.optimizer.is_some() && given.optimizer != preset.optimizer {
        preset.forget_optimizer();
    }
    if given.schedule.is_some() && given.schedule != preset.schedule {
        preset.forget_schedule();
    }
    Ok(given.or(preset))
}

#[cfg(test)]
mod tests {
    use super::PRESETS;
    use crate::{Document, Failure, Project, project::ModelSpec};

    fn read(train: &str) -> Result<Project, Failure> {
        let head =
            "version = 1\n[project]\nname = \"p\"\n[dataset.p]\nfiles = \"p.csv\"\n[train]\n";
        Project::read(&Document::parse("karat.toml", format!("{head}{train}"))?)
    }

    #[test]
    fn every_preset_is_read_and_is_of_the_model_it_names() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/presets");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .expect("the presets lie there")
            .map(|it| it.expect("readable").file_name().to_string_lossy().into_owned())
            .collect();
        files.sort();
        let mut names: Vec<String> =
            PRESETS.iter().map(|(name, _)| format!("{name}.toml")).collect();
        names.sort();
        assert_eq!(files, names, "every file is compiled in");
        for (name, text) in PRESETS {
            let project = read(&format!("preset = \"{name}\"")).expect(name);
            assert!(text.starts_with(&format!("# `{name}`: ")), "{name} says what it is for");
            let table: toml::Table = text.parse().expect(name);
            let spec = serde_json::to_value(&project.train).expect("serialises");
            for key in ["epochs", "batch_size", "learning_rate", "weight_decay", "warmup"] {
                let preset =
                    table[key].as_float().or_else(|| Some(table[key].as_integer()? as f64));
                assert_eq!(spec[key].as_f64(), preset, "{name} {key}");
            }
            for key in ["model", "optimizer", "schedule"] {
                let word = table[key].as_str().map(|it| it.replace('-', "_"));
                assert_eq!(spec[key]["kind"].as_str(), word.as_deref(), "{name} {key}");
            }
        }
    }

    #[test]
    fn what_the_project_says_comes_before_the_preset() {
        let train = read("preset = \"mlp\"\nhidden = [8]\nepochs = 3").expect("valid").train;
        assert_eq!(
            train.model,
            ModelSpec::Mlp { hidden: vec![8], embedding_max: 16, dropout: 0.0 }
        );
        assert_eq!((train.epochs, train.batch_size), (3, 1024));
        // The preset's rate is AdamW's: another optimizer has its own.
        let train = read("preset = \"linear\"\noptimizer = \"sgd\"").expect("valid").train;
        let alone = read("model = \"linear\"\noptimizer = \"sgd\"").expect("valid").train;
        assert_eq!(train.learning_rate.to_bits(), alone.learning_rate.to_bits());
        read("preset = \"mlp\"\nschedule = \"constant\"").expect("no key of cosine is left");
    }

    #[test]
    fn an_unknown_preset_lists_the_known_ones_and_another_model_is_refused() {
        let failure = read("preset = \"mpl\"").expect_err("unknown");
        let known = "`train.preset` is `mpl`: known are `mlp`, ";
        assert!(failure.message.starts_with(known), "{}", failure.message);
        assert_eq!(failure.details, ["--> karat.toml:7:10"]);
        let failure = read("preset = \"mlp\"\nmodel = \"linear\"").expect_err("another model");
        assert_eq!(
            failure.message,
            "`train.model` is `linear`, but preset `mlp` is of model `mlp`"
        );
    }
}
