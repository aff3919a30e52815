//! `plan-eval`: how many labelled rows a question needs, and which unlabelled rows are worth a label.
//!
//! Two models that answer a row alike are both right or both wrong on it, whatever its label is: such a row says nothing about
//! which of them is better. So the number of rows follows from how often they disagree, and labels are worth most where they
//! do.

use std::fmt::Write as _;

use karat_core::{
    Exit, Failure, Name, Observer, ScoredRows, Task, metric::Metric, scored::Votes, thousands,
};
use karat_gate::{
    metric::Scores,
    normal::quantile,
    power::Power,
    predictions::{check, comparable},
};
use karat_store::VersionRecord;
use serde::Serialize;

use crate::{
    Baseline, Case, Frozen, Lab, Scored,
    gate::{on_split_of, refuse_other_model},
};

/// Effects shown beside the one that was asked for, as multiples of it.
const MULTIPLES: [f64; 5] = [0.5, 1.0, 2.0, 4.0, 8.0];
/// The one that was asked for.
const ASKED: u64 = 1.0_f64.to_bits();
/// More rows than anybody labels.
const ROWS_PRACTICAL: f64 = 1e12;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct PlanOptions {
    /// The metric that is to be compared.
    pub metric: Metric,
    /// The difference to see, in the metric's unit.
    pub detect: f64,
    /// A loss to rule out.
    pub margin: Option<f64>,
    /// Chance of seeing the difference when it is there; the gate's when absent.
    pub power: Option<f64>,
    /// Share of labels that are wrong, in either direction; what several labels a row show, else 0, when absent.
    pub label_noise: Option<f64>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvalPlan {
    /// `flights@2`.
    pub candidate: String,
    /// `flights@1`.
    pub baseline: String,
    /// The split that the gate judges on.
    pub split: Name,
    /// Its labelled rows.
    pub n_rows: u64,
    /// The metric.
    pub metric: Metric,
    /// 1 − α of one verdict, one-sided.
    pub reliability: f64,
    /// Chance of seeing a difference that is there.
    pub power: f64,
    /// Share of labelled rows that the two models put into different classes: the most on which only one can be right. None
    /// where the metric is not accuracy; then its standard error on these rows decides.
    pub disagreement: Option<f64>,
    /// Share of labels taken to be wrong.
    pub label_noise: f64,
    /// The smallest difference that the labelled rows show at this power.
    pub effect_seen: Option<f64>,
    /// Rows by size of the difference, smallest first.
    pub sizes: Vec<Size>,
    /// The loss to rule out, where one was given, and the rows for it.
    pub margin: Option<Size>,
    /// What is to be labelled next.
    pub unlabeled: Unlabeled,
}

/// Rows that one difference needs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Size {
    /// The difference, in the metric's unit.
    pub effect: f64,
    /// Whether it is the one that was asked for.
    pub is_asked: bool,
    /// Labelled rows to see that the candidate is better by it.
    pub n_better: Option<u64>,
    /// Labelled rows to show that the candidate is not worse by it, when both are equally good.
    pub n_not_worse: Option<u64>,
}

/// Rows of the split without a label.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Unlabeled {
    /// All of them.
    pub n_rows: u64,
    /// Those that the models predict differently, most different first.
    pub worth: Vec<Worth>,
    /// What the schema calls a row's key: `id`, `carrier/flight`.
    pub key: String,
}

/// One row worth a label.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Worth {
    /// The row's key as text.
    pub row: String,
    /// What the baseline predicts: a class, or a value.
    pub baseline: String,
    /// What the candidate predicts.
    pub candidate: String,
    /// Largest difference of a score.
    pub difference: f64,
}

impl Unlabeled {
    /// The rows as CSV, a line each under a header.
    #[must_use]
    pub fn to_csv(&self) -> String {
        let mut text = format!("{},baseline,candidate,difference\n", field(&self.key));
        for it in &self.worth {
            let (row, old, new) = (field(&it.row), field(&it.baseline), field(&it.candidate));
            let _ = writeln!(text, "{row},{old},{new},{}", it.difference);
        }
        text
    }
}

/// RFC 4180: quoted where it has to be.
fn field(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

impl Lab<'_> {
    /// Plans the labels that a comparison needs. Scores what is not scored yet; decides nothing, and shows neither model's
    /// quality, so it is no use of the rows that a budget would count.
    pub fn plan_eval(
        &self,
        observer: &mut dyn Observer,
        case: &Case<'_>,
        options: &PlanOptions,
    ) -> Result<EvalPlan, Failure> {
        let Case { gate, frozen, candidate, .. } = *case;
        refuse_other_model(gate, &candidate.model)?;
        let project = &on_split_of(gate, case.project);
        let baseline = self.compared_with(case)?;
        let mut score = |version: &VersionRecord| {
            self.score(observer, project, frozen, &version.manifest, &version.label())
        };
        let (new, old) = (score(candidate)?, score(&baseline)?);
        let (new_rows, old_rows) = (self.scored_rows(&new)?, self.scored_rows(&old)?);
        check(&new_rows)?;
        check(&old_rows)?;
        comparable(&new_rows, &old_rows)?;
        let reliability = gate.reliability_each();
        let power = Power::new(reliability, options.power.unwrap_or(gate.power));
        let need = Need::of(&new_rows, &old_rows, options.metric, power, reliability)?;
        let label_noise = match options.label_noise {
            Some(share) => share,
            None => new_rows.votes.as_ref().map_or(0.0, label_noise),
        };
        // A label that is wrong in either direction with chance ρ shrinks the seen difference by 1 − 2ρ.
        let blur = 1.0 - 2.0 * label_noise;
        let size = |effect: f64, is_asked: bool| Size {
            effect,
            is_asked,
            n_better: whole(need.better(effect) / (blur * blur)),
            n_not_worse: whole(need.not_worse(effect) / (blur * blur)),
        };
        let n_rows = new_rows.n_rows();
        Ok(EvalPlan {
            candidate: candidate.label(),
            baseline: baseline.label(),
            split: project.score.split.clone(),
            n_rows: n_rows as u64,
            metric: options.metric,
            reliability,
            power: options.power.unwrap_or(gate.power),
            disagreement: need.disagreement(),
            label_noise,
            effect_seen: Some(need.seen(n_rows) / blur).filter(|it| it.is_finite()),
            sizes: MULTIPLES.map(|it| size(it * options.detect, it.to_bits() == ASKED)).into(),
            margin: options.margin.map(|it| size(it, true)),
            unlabeled: self.worth_labeling(frozen, &new, &old)?,
        })
    }

    /// The baseline that the case names, or the gate's; there has to be one.
    fn compared_with(&self, case: &Case<'_>) -> Result<VersionRecord, Failure> {
        let found = match case.baseline {
            Baseline::Given(version) => Some(version.clone()),
            Baseline::AsDeclared => self.declared_baseline(case.gate, case.candidate)?,
        };
        let label = case.candidate.label();
        match found {
            Some(version) if version.manifest == case.candidate.manifest => Err(refuse(format!(
                "{label} and {} are the same model: they never disagree",
                version.label()
            ))),
            Some(version) => Ok(version),
            None => Err(refuse(format!("there is no version to compare {label} with"))
                .hint("`karat plan-eval --baseline MODEL@VERSION` names one")),
        }
    }

    fn worth_labeling(
        &self,
        frozen: &Frozen,
        new: &Scored,
        old: &Scored,
    ) -> Result<Unlabeled, Failure> {
        let rows =
            |scored: &Scored| self.tables.read_unlabeled(&self.store.path(&scored.predictions));
        let (new, old) = (rows(new)?, rows(old)?);
        let keys: Vec<&str> = frozen.located.schema.keys().map(|it| it.name.as_str()).collect();
        Ok(Unlabeled {
            n_rows: new.n_rows() as u64,
            worth: disagreements(&new, &old),
            key: if keys.is_empty() { "row".to_owned() } else { keys.join("/") },
        })
    }
}

/// Why there is no plan.
fn refuse(reason: String) -> Failure {
    Failure::new("plan-impossible", Exit::Usage, reason)
}

/// Rows, rounded up; `None` where no practical number would do.
fn whole(n: f64) -> Option<u64> {
    (n < ROWS_PRACTICAL).then_some(n.ceil() as u64)
}

/// What decides how many rows a difference needs.
enum Need {
    /// For accuracy: the share of rows on which the models disagree.
    Disagreement { power: Power, share: f64 },
    /// For any other metric: the standard error of the difference on these rows.
    StandardError { power: Power, n_rows: f64, error: f64 },
}

impl Need {
    fn of(
        new: &ScoredRows,
        old: &ScoredRows,
        metric: Metric,
        power: Power,
        reliability: f64,
    ) -> Result<Self, Failure> {
        let n_rows = new.n_rows();
        if !metric.fits(new.task) {
            return Err(refuse(format!("`{metric}` is not a metric of this task"))
                .hint("`karat plan-eval --metric METRIC` names one, with the effect in its unit"));
        }
        if metric == Metric::Accuracy {
            let (a, b) = (scores(new), scores(old));
            let differs = |row: &usize| a.predicted_class(*row) != b.predicted_class(*row);
            let n = (0..n_rows).filter(differs).count();
            if n == 0 {
                return Err(refuse(format!(
                    "the two models predict the same class for all {} labelled rows",
                    thousands(n_rows as u64)
                )));
            }
            return Ok(Self::Disagreement { power, share: n as f64 / n_rows as f64 });
        }
        let report = karat_gate::report(new, Some(old), reliability);
        let width = report
            .cell(metric, "all")
            .and_then(|cell| cell.improvement_interval)
            .map(|[low, high]| high - low)
            .filter(|it| 0.0 < *it)
            .ok_or_else(|| refuse(format!("the difference in `{metric}` has no interval here")))?;
        let error = width / (2.0 * quantile(reliability));
        Ok(Self::StandardError { power, n_rows: n_rows as f64, error })
    }

    fn disagreement(&self) -> Option<f64> {
        match self {
            Self::Disagreement { share, .. } => Some(*share),
            Self::StandardError { .. } => None,
        }
    }

    /// Rows to see a gain. Nobody gains more than all rows they disagree on.
    fn better(&self, gain: f64) -> f64 {
        match self {
            Self::Disagreement { share, .. } if *share < gain => f64::INFINITY,
            Self::Disagreement { power, share } => power.rows_for_gain(gain, *share),
            Self::StandardError { .. } => self.not_worse(gain),
        }
    }

    /// Rows to rule out a loss when both are equally good.
    fn not_worse(&self, margin: f64) -> f64 {
        match self {
            Self::Disagreement { power, share } => power.rows_for_margin(margin, *share),
            Self::StandardError { power, n_rows, error } => {
                let ratio = power.effect_seen(*error) / margin;
                n_rows * ratio * ratio
            }
        }
    }

    /// The smallest difference that `n` rows show.
    fn seen(&self, n: usize) -> f64 {
        match self {
            Self::Disagreement { power, share } => power.gain_seen(n as f64, *share),
            Self::StandardError { power, error, .. } => power.effect_seen(*error),
        }
    }
}

fn scores(rows: &ScoredRows) -> Scores<'_> {
    Scores {
        task: rows.task,
        n_classes: rows.classes.len(),
        label: &rows.label,
        score: &rows.score,
    }
}

/// Rows that two models predict differently, most different first. Two values of a regression always differ somewhere: all
/// rows are ranked.
fn disagreements(new: &ScoredRows, old: &ScoredRows) -> Vec<Worth> {
    let n_outputs = new.n_outputs();
    if new.score.len() != old.score.len() || new.names != old.names {
        return Vec::new();
    }
    let (a, b) = (scores(new), scores(old));
    let word = |of: &Scores<'_>, row: usize| match of.task {
        Task::Regression => of.score[row].to_string(),
        Task::Binary | Task::Multiclass => {
            new.classes.get(of.predicted_class(row)).cloned().unwrap_or_default()
        }
    };
    let mut found: Vec<Worth> = (0..new.n_rows())
        .filter(|row| {
            new.task == Task::Regression || a.predicted_class(*row) != b.predicted_class(*row)
        })
        .map(|row| Worth {
            row: new.names.get(row).cloned().unwrap_or_else(|| (row + 1).to_string()),
            baseline: word(&b, row),
            candidate: word(&a, row),
            difference: (row * n_outputs..(row + 1) * n_outputs)
                .map(|at| (f64::from(new.score[at]) - f64::from(old.score[at])).abs())
                .fold(0.0, f64::max),
        })
        .collect();
    // Stable, so that rows that differ alike stay in the order of the file.
    found.sort_by(|x, y| y.difference.total_cmp(&x.difference));
    found
}

/// Chance that one label is wrong, from how often two labels of one row differ: 2ρ(1 − ρ) of pairs, when people err
/// independently and equally often. Near ½ nothing can be learnt from labels at all; 0.49 is the most that is said.
fn label_noise(votes: &Votes) -> f64 {
    let (mut pairs, mut apart) = (0_u64, 0_u64);
    for row in 0..votes.starts.len().saturating_sub(1) {
        let labels = votes.of_row(row);
        for (at, label) in labels.iter().enumerate() {
            pairs += (labels.len() - at - 1) as u64;
            let differs = |it: &&f32| it.to_bits() != label.to_bits();
            apart += labels[at + 1..].iter().filter(differs).count() as u64;
        }
    }
    if pairs == 0 {
        return 0.0;
    }
    let share = apart as f64 / pairs as f64;
    (0.5 * (1.0 - (1.0 - 2.0 * share).max(0.0).sqrt())).min(0.49)
}

#[cfg(test)]
mod tests {
    use karat_core::{Digest, ScoredRows, Task, scored::Votes};

    use super::{Unlabeled, Worth, disagreements, field, label_noise};

    fn rows(task: Task, score: &[f32]) -> ScoredRows {
        let classes: &[&str] = match task {
            Task::Binary => &["no", "yes"],
            Task::Multiclass => &["a", "b", "c"],
            Task::Regression => &[],
        };
        let n = score.len() / if task == Task::Multiclass { 3 } else { 1 };
        ScoredRows {
            task,
            classes: classes.iter().map(|it| (*it).to_owned()).collect(),
            rows: Digest::of(b"rows"),
            label: vec![f32::NAN; n],
            score: score.to_vec(),
            slices: Vec::new(),
            group: None,
            votes: None,
            names: (0..n).map(|row| format!("id-{row}")).collect(),
        }
    }

    #[test]
    fn rows_that_change_class_come_first_and_alone() {
        let found = disagreements(
            &rows(Task::Binary, &[0.4, 0.9, 0.6, 0.7]),
            &rows(Task::Binary, &[0.3, 0.1, 0.4, 0.8]),
        );
        let named: Vec<(&str, &str, &str)> = found
            .iter()
            .map(|it| (it.row.as_str(), it.baseline.as_str(), it.candidate.as_str()))
            .collect();
        assert_eq!(named, [("id-1", "no", "yes"), ("id-2", "no", "yes")]);

        let found = disagreements(
            &rows(Task::Multiclass, &[0.5, 0.3, 0.2, 0.1, 0.2, 0.7]),
            &rows(Task::Multiclass, &[0.3, 0.5, 0.2, 0.0, 0.4, 0.6]),
        );
        assert_eq!((found.len(), found[0].row.as_str()), (1, "id-0"));

        let found = disagreements(
            &rows(Task::Regression, &[1.0, 5.0]),
            &rows(Task::Regression, &[1.5, 2.0]),
        );
        assert_eq!((found.len(), found[0].row.as_str()), (2, "id-1"), "all are ranked");
    }

    #[test]
    fn csv_survives_any_key() {
        assert_eq!(field("a,\"b\""), "\"a,\"\"b\"\"\"");
        let worth = Worth {
            row: "x,1".to_owned(),
            baseline: "no".to_owned(),
            candidate: "yes".to_owned(),
            difference: 0.25,
        };
        let found = Unlabeled { n_rows: 9, worth: vec![worth], key: "id".to_owned() };
        assert_eq!(found.to_csv(), "id,baseline,candidate,difference\n\"x,1\",no,yes,0.25\n");
    }

    #[test]
    fn noise_of_labels_follows_from_how_often_they_differ() {
        // Two labels a row; 18 of 100 rows have two different ones: 2ρ(1 − ρ) = 0.18, so ρ = 0.1.
        let labels = (0..100).flat_map(|row| [0.0, if row < 18 { 1.0 } else { 0.0 }]).collect();
        let votes = Votes { starts: (0..=100).map(|it| 2 * it).collect(), labels };
        assert!((label_noise(&votes) - 0.1).abs() < 1e-12);
        let one_each = Votes { starts: vec![0, 1, 2], labels: vec![0.0, 1.0] };
        assert!(label_noise(&one_each).abs() < 1e-15, "nobody was asked twice");
        let coin = Votes { starts: vec![0, 2], labels: vec![0.0, 1.0] };
        assert!(label_noise(&coin) < 0.5);
    }
}
