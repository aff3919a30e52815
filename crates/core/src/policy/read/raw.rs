//! The file as typed: keys and types, ours and those that other tools taught people.

use std::collections::BTreeMap;

use serde::{Deserialize, de::Error as _};

use super::super::{Adaptivity, Change, Correction, Measure, Reveal};
use crate::{Name, Timestamp, metric::Metric, nearest};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPolicy {
    pub version: u32,
    #[serde(default)]
    pub gate: BTreeMap<String, RawGate>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawGate {
    pub model: Option<Name>,
    pub split: Option<Name>,
    pub baseline: Option<String>,
    pub anchor: Option<String>,
    pub reliability: Option<f64>,
    pub power: Option<f64>,
    pub budget: Option<RawBudget>,
    pub signatures: Option<RawSignatures>,
    pub inconclusive: Option<RawInconclusive>,
    #[serde(default)]
    pub without_baseline: RawWithoutBaseline,
    pub n_resamples: Option<u32>,
    #[serde(default)]
    pub rule: Vec<RawRule>,
    #[serde(default)]
    pub waiver: Vec<RawWaiver>,
    /// ease.ml/ci's word for `inconclusive`.
    pub mode: Option<RawMode>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawInconclusive {
    Block,
    Allow,
}

/// What may never happen: a false positive, or a false negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawMode {
    FpFree,
    FnFree,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawWithoutBaseline {
    #[default]
    Fail,
    AbsoluteRulesOnly,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBudget {
    pub uses: u32,
    #[serde(default)]
    pub adaptivity: Adaptivity,
    #[serde(default)]
    pub reveal: Reveal,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSignatures {
    pub keys: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawSeverity {
    Error,
    Warn,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRule {
    pub name: Option<String>,
    pub metric: Subject,
    pub slice: Option<String>,
    pub slices: Option<Vec<String>>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub max_regression: Option<RawChange>,
    pub min_improvement: Option<RawChange>,
    pub max_improvement: Option<RawChange>,
    pub n_rows_min: Option<u64>,
    pub correction: Option<Correction>,
    pub severity: Option<RawSeverity>,
    /// MLflow.
    pub threshold: Option<f64>,
    pub min_absolute_change: Option<f64>,
    pub min_relative_change: Option<f64>,
    pub greater_is_better: Option<bool>,
    /// TFMA.
    pub lower_bound: Option<f64>,
    pub upper_bound: Option<f64>,
    pub absolute: Option<f64>,
    pub relative: Option<f64>,
    pub direction: Option<RawDirection>,
    /// ease.ml/ci.
    pub epsilon: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawDirection {
    #[serde(alias = "HIGHER_IS_BETTER")]
    HigherIsBetter,
    #[serde(alias = "LOWER_IS_BETTER")]
    LowerIsBetter,
}

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) enum Subject {
    Metric(Metric),
    Measure(Measure),
}

impl Subject {
    pub(super) fn greater_is_better(self) -> bool {
        match self {
            Self::Metric(metric) => metric.greater_is_better(),
            Self::Measure(measure) => measure.greater_is_better(),
        }
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Metric(metric) => metric.fmt(f),
            Self::Measure(measure) => measure.fmt(f),
        }
    }
}

impl TryFrom<String> for Subject {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if let Ok(metric) = text.parse() {
            return Ok(Self::Metric(metric));
        }
        match text.parse() {
            Ok(measure) => Ok(Self::Measure(measure)),
            Err(error) if text.starts_with("robustness") => Err(error.to_string()),
            Err(_) => {
                let metrics = Metric::ALL.map(|it| it.to_string());
                let measures = Measure::PLAIN.map(|it| it.to_string());
                let words = metrics.iter().chain(&measures).map(String::as_str);
                let near = nearest(&text, words.chain(["robustness(noise=0.05)"])).join("`, `");
                let asked: String = text.chars().take(80).collect();
                Err(format!("`{asked}` is not a metric or measure: the nearest are `{near}`"))
            }
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWaiver {
    pub rule: String,
    pub until: RawDay,
    pub by: String,
    pub reason: String,
}

/// `{ absolute = x }` or `{ relative = x }`, with a message that shows both.
#[derive(Debug)]
pub(super) struct RawChange(pub Change);

impl<'de> Deserialize<'de> for RawChange {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let refuse = || {
            D::Error::custom(
                "expected `{ absolute = 0.005 }` or `{ relative = 0.01 }`, one of both",
            )
        };
        let found = toml::Value::deserialize(deserializer)?;
        let table = found.as_table().filter(|it| it.len() == 1).ok_or_else(refuse)?;
        let (key, value) = table.iter().next().ok_or_else(refuse)?;
        let amount = value
            .as_float()
            .or_else(|| value.as_integer().map(|it| it as f64))
            .ok_or_else(refuse)?;
        match key.as_str() {
            "absolute" => Ok(Self(Change::Absolute(amount))),
            "relative" => Ok(Self(Change::Relative(amount))),
            _ => Err(refuse()),
        }
    }
}

/// A day, with or without quotes.
#[derive(Debug)]
pub(super) struct RawDay(pub String);

impl<'de> Deserialize<'de> for RawDay {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match toml::Value::deserialize(deserializer)? {
            toml::Value::Datetime(day) => day.to_string(),
            toml::Value::String(text) => text,
            _ => String::new(),
        };
        if text.len() == "2026-12-31".len() && Timestamp::parse(&text).is_some() {
            Ok(Self(text))
        } else {
            Err(D::Error::custom("expected a day as in 2026-12-31"))
        }
    }
}
