//! `karat.toml` as typed, and what it refuses.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    BATCH_SIZE_MAX, CheckSetting, DatasetSpec, Project, SLICES_MAX, ScoreSpec, SliceSpec,
    SplitSpec, default_score_batch, thousands,
};
use crate::{Document, Failure, Name, Timestamp, nearest};

mod blocks;
mod model;
mod optimizer;
mod preset;
mod train;

use train::RawTrain;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProject {
    version: u32,
    project: RawHead,
    #[serde(default)]
    dataset: BTreeMap<String, RawDataset>,
    #[serde(default)]
    split: BTreeMap<String, BTreeMap<String, RawSplit>>,
    #[serde(default)]
    slice: BTreeMap<String, RawSlice>,
    #[serde(default)]
    check: BTreeMap<String, CheckSetting>,
    train: RawTrain,
    #[serde(default)]
    score: RawScore,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHead {
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDataset {
    files: OneOrMany,
    schema: Option<String>,
}

/// `"a"` or `["a", "b"]`, with a message of its own instead of serde's "did not match any variant".
#[derive(Debug)]
struct OneOrMany(Vec<String>);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match toml::Value::deserialize(deserializer)? {
            toml::Value::String(one) => Ok(Self(vec![one])),
            toml::Value::Array(many) => many
                .into_iter()
                .map(|it| it.as_str().map(str::to_owned))
                .collect::<Option<Vec<_>>>()
                .map(Self)
                .ok_or_else(|| {
                    serde::de::Error::custom("expected a pattern or a list of patterns")
                }),
            other => Err(serde::de::Error::custom(format!(
                "expected a pattern or a list of patterns, found {}",
                other.type_str()
            ))),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSplit {
    #[serde(rename = "where")]
    predicate: Option<String>,
    time: Option<[String; 2]>,
    hash: Option<[f64; 2]>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSlice {
    #[serde(rename = "where")]
    predicate: Option<String>,
    values: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScore {
    split: Option<String>,
    batch_size: Option<u32>,
    quarantine_max: Option<f64>,
}

impl Project {
    /// Reads and validates `karat.toml`.
    pub fn read(document: &Document) -> Result<Self, Failure> {
        let raw: RawProject = document.read()?;
        if raw.version != 1 {
            return Err(document
                .refuse("version", format!("`version` is {}, this build reads 1", raw.version)));
        }
        let name = parse_name(document, "project.name", &raw.project.name)?;
        let datasets = datasets(document, raw.dataset, raw.split)?;
        let slices = slices(document, raw.slice)?;
        let n_seeds = train::n_seeds(document, &raw.train)?;
        let train = train::train(document, &name, &datasets, raw.train)?;
        let score = score(document, &raw.score)?;
        Ok(Self { name, datasets, slices, checks: raw.check, train, n_seeds, score })
    }

    /// The dataset called `name`, or an error that lists near names.
    pub fn dataset(&self, name: &Name) -> Result<&DatasetSpec, Failure> {
        self.datasets.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.datasets.keys().map(Name::as_str).collect();
            Failure::new(
                "dataset-unknown",
                crate::Exit::Usage,
                format!(
                    "no dataset `{name}`: known are `{}`",
                    nearest(name.as_str(), known).join("`, `")
                ),
            )
        })
    }
}

fn parse_name(document: &Document, key: &str, text: &str) -> Result<Name, Failure> {
    text.parse().map_err(|error| document.refuse(key, format!("`{key}`: {error}")))
}

fn datasets(
    document: &Document,
    raw: BTreeMap<String, RawDataset>,
    mut raw_splits: BTreeMap<String, BTreeMap<String, RawSplit>>,
) -> Result<BTreeMap<Name, DatasetSpec>, Failure> {
    let mut datasets = BTreeMap::new();
    for (text, raw) in raw {
        let key = format!("dataset.{text}");
        let name = parse_name(document, &key, &text)?;
        if raw.files.0.is_empty() {
            return Err(
                document.refuse(&format!("{key}.files"), format!("`{key}.files` names no file"))
            );
        }
        let mut splits = BTreeMap::new();
        for (split, raw) in raw_splits.remove(&text).unwrap_or_default() {
            let key = format!("split.{text}.{split}");
            splits.insert(parse_name(document, &key, &split)?, split_spec(document, &key, raw)?);
        }
        let schema = raw.schema.unwrap_or_else(|| format!("schema/{name}.toml"));
        datasets.insert(name.clone(), DatasetSpec { name, files: raw.files.0, schema, splits });
    }
    if let Some(unknown) = raw_splits.keys().next() {
        return Err(document.refuse(
            &format!("split.{unknown}"),
            format!("`split.{unknown}` belongs to no dataset: there is no `[dataset.{unknown}]`"),
        ));
    }
    if datasets.is_empty() {
        return Err(document
            .refuse("dataset", "no dataset: `karat.toml` needs at least one `[dataset.<name>]`"));
    }
    Ok(datasets)
}

fn split_spec(document: &Document, key: &str, raw: RawSplit) -> Result<SplitSpec, Failure> {
    let time = match raw.time {
        None => None,
        Some([from, to]) => {
            let end = |text: &str| {
                match text {
                "" => Ok(None),
                _ => Timestamp::parse(text).map(Some).ok_or_else(|| {
                    document.refuse(
                        &format!("{key}.time"),
                        format!("`{key}.time`: `{text}` is not a time, expected `2013-07-01`, RFC 3339, or `\"\"` for open"),
                    )
                }),
            }
            };
            Some((end(&from)?, end(&to)?))
        }
    };
    if let Some([from, to]) = raw.hash
        && !(0.0 <= from && from < to && to <= 100.0)
    {
        return Err(document.refuse(
            &format!("{key}.hash"),
            format!(
                "`{key}.hash` is [{from}, {to}], must be two rising percentages between 0 and 100"
            ),
        ));
    }
    let split =
        SplitSpec { predicate: raw.predicate, time, hash: raw.hash.map(|[from, to]| (from, to)) };
    if split == SplitSpec::default() {
        return Err(
            document.refuse(key, format!("`{key}` has no rule: give `where`, `time` or `hash`"))
        );
    }
    Ok(split)
}

fn slices(
    document: &Document,
    raw: BTreeMap<String, RawSlice>,
) -> Result<BTreeMap<Name, SliceSpec>, Failure> {
    if SLICES_MAX < raw.len() {
        return Err(document
            .refuse("slice", format!("{} slices, at most {SLICES_MAX} are allowed", raw.len())));
    }
    let mut slices = BTreeMap::new();
    for (text, raw) in raw {
        let key = format!("slice.{text}");
        let name = parse_name(document, &key, &text)?;
        if name.as_str() == "all" {
            return Err(document.refuse(&key, "slice `all` always exists and cannot be declared"));
        }
        let slice = match (raw.predicate, raw.values) {
            (Some(predicate), None) => SliceSpec::Where(predicate),
            (None, Some(column)) => SliceSpec::Values(column),
            _ => {
                return Err(document
                    .refuse(&key, format!("`{key}` needs exactly one of `where` and `values`")));
            }
        };
        slices.insert(name, slice);
    }
    Ok(slices)
}

fn score(document: &Document, raw: &RawScore) -> Result<ScoreSpec, Failure> {
    let within = Within(document);
    let batch_size = raw.batch_size.unwrap_or_else(default_score_batch);
    within.whole("score.batch_size", u64::from(batch_size), 1, u64::from(BATCH_SIZE_MAX))?;
    let quarantine_max = raw.quarantine_max.unwrap_or(0.0);
    within.share("score.quarantine_max", quarantine_max, true)?;
    let split = parse_name(document, "score.split", raw.split.as_deref().unwrap_or("holdout"))?;
    Ok(ScoreSpec { split, batch_size, quarantine_max })
}

/// Range checks that name the key, the value, the bounds and the place.
struct Within<'a>(&'a Document);

impl Within<'_> {
    fn whole(&self, key: &str, value: u64, min: u64, max: u64) -> Result<(), Failure> {
        if (min..=max).contains(&value) {
            return Ok(());
        }
        Err(self.0.refuse(
            key,
            format!(
                "`{key}` is {value}, must be between {} and {}",
                thousands(min),
                thousands(max)
            ),
        ))
    }

    /// Refuses a word that is not among `known`.
    fn one_of(&self, key: &str, asked: &str, known: &[&str]) -> Result<(), Failure> {
        if known.contains(&asked) {
            return Ok(());
        }
        let known = nearest(asked, known.iter().copied()).join("`, `");
        Err(self.0.refuse(key, format!("`{key}` is `{asked}`: known are `{known}`")))
    }

    /// Refuses a key of `[train]` that is given and has no meaning here. `keys`: name, whether it is given, the kinds that
    /// know it.
    fn known_to(
        &self,
        what: &str,
        kind: &str,
        keys: &[(&str, bool, &[&str])],
    ) -> Result<(), Failure> {
        for (key, is_given, kinds) in keys {
            if *is_given && !kinds.contains(&kind) {
                let key = format!("train.{key}");
                return Err(self.0.refuse(&key, format!("`{key}` has no meaning for {what}")));
            }
        }
        Ok(())
    }

    fn number(&self, key: &str, value: f64, min: f64, max: f64) -> Result<(), Failure> {
        if min <= value && value <= max {
            return Ok(());
        }
        Err(self.0.refuse(key, format!("`{key}` is {value}, must be between {min} and {max}")))
    }

    fn share(&self, key: &str, value: f64, one_allowed: bool) -> Result<(), Failure> {
        if 0.0 <= value && (value < 1.0 || (one_allowed && value <= 1.0)) {
            return Ok(());
        }
        let upper = if one_allowed { "at most 1" } else { "below 1" };
        Err(self.0.refuse(key, format!("`{key}` is {value}, must be at least 0 and {upper}")))
    }
}
