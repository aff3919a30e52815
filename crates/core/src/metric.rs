//! The metrics by name, with their direction. How they are computed: `karat-gate`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Task, nearest};

/// A named function of predictions and labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Metric {
    /// Share of rows whose predicted class is right.
    Accuracy,
    /// Mean over classes of the share of rows of that class that are right.
    BalancedAccuracy,
    /// Of rows predicted positive, the share that is (multiclass: unweighted mean over classes).
    Precision,
    /// Of positive rows, the share predicted so (multiclass: unweighted mean over classes).
    Recall,
    /// Harmonic mean of precision and recall (multiclass: unweighted mean over classes).
    F1,
    /// Area under the ROC curve, midranks for ties. Binary.
    Auc,
    /// Average precision: Σ (Rₖ − Rₖ₋₁) Pₖ over distinct scores. Binary.
    AveragePrecision,
    /// Mean negative log likelihood, natural logarithm, probabilities clipped at 1e-7.
    LogLoss,
    /// Mean squared distance of probabilities from the outcome (multiclass: summed over classes).
    Brier,
    /// Plain expected calibration error: 15 equal-mass bins, L1. Binary.
    Ece,
    /// Debiased squared calibration error: 15 equal-mass bins (Kumar, Liang, Ma 2019). Binary. May be negative.
    EceDebiased,
    /// Root mean squared error.
    Rmse,
    /// Mean absolute error.
    Mae,
    /// 1 − residual / total sum of squares.
    R2,
}

impl Metric {
    /// All, in the order tables show them.
    pub const ALL: [Self; 14] = [
        Self::Auc,
        Self::AveragePrecision,
        Self::LogLoss,
        Self::Brier,
        Self::Accuracy,
        Self::BalancedAccuracy,
        Self::Precision,
        Self::Recall,
        Self::F1,
        Self::Ece,
        Self::EceDebiased,
        Self::Rmse,
        Self::Mae,
        Self::R2,
    ];

    /// The word in policies, files and tables.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::BalancedAccuracy => "balanced_accuracy",
            Self::Precision => "precision",
            Self::Recall => "recall",
            Self::F1 => "f1",
            Self::Auc => "auc",
            Self::AveragePrecision => "average_precision",
            Self::LogLoss => "log_loss",
            Self::Brier => "brier",
            Self::Ece => "ece",
            Self::EceDebiased => "ece_debiased",
            Self::Rmse => "rmse",
            Self::Mae => "mae",
            Self::R2 => "r2",
        }
    }

    /// Whether a larger value is better.
    #[must_use]
    pub const fn greater_is_better(self) -> bool {
        !matches!(
            self,
            Self::LogLoss | Self::Brier | Self::Ece | Self::EceDebiased | Self::Rmse | Self::Mae
        )
    }

    /// The least and the greatest value that any predictions can have.
    #[must_use]
    pub const fn range(self) -> (f64, f64) {
        match self {
            Self::LogLoss | Self::Rmse | Self::Mae => (0.0, f64::INFINITY),
            // Of several classes it is summed over all.
            Self::Brier => (0.0, 2.0),
            Self::EceDebiased => (-1.0, 1.0),
            Self::R2 => (f64::NEG_INFINITY, 1.0),
            _ => (0.0, 1.0),
        }
    }

    /// Whether the metric means something for `task`.
    #[must_use]
    pub const fn fits(self, task: Task) -> bool {
        match self {
            Self::Auc | Self::AveragePrecision | Self::Ece | Self::EceDebiased => {
                matches!(task, Task::Binary)
            }
            Self::Rmse | Self::Mae | Self::R2 => matches!(task, Task::Regression),
            _ => matches!(task, Task::Binary | Task::Multiclass),
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A word that names no metric.
#[derive(Debug, thiserror::Error)]
#[error("`{asked}` is not a metric: the nearest are `{}`", near.join("`, `"))]
pub struct UnknownMetric {
    asked: String,
    near: Vec<&'static str>,
}

impl FromStr for Metric {
    type Err = UnknownMetric;

    fn from_str(text: &str) -> Result<Self, UnknownMetric> {
        let word = text.to_ascii_lowercase();
        let word = match word.as_str() {
            "roc_auc" => "auc",
            "logloss" => "log_loss",
            "ap" => "average_precision",
            "f1_score" => "f1",
            "accuracy_score" => "accuracy",
            "r2_score" => "r2",
            other => other,
        };
        Self::ALL.into_iter().find(|metric| metric.word() == word).ok_or_else(|| UnknownMetric {
            asked: text.chars().take(80).collect(),
            near: nearest(text, Self::ALL.iter().map(|metric| metric.word())),
        })
    }
}

impl TryFrom<String> for Metric {
    type Error = UnknownMetric;

    fn try_from(text: String) -> Result<Self, UnknownMetric> {
        text.parse()
    }
}

impl From<Metric> for String {
    fn from(metric: Metric) -> Self {
        metric.word().to_owned()
    }
}
