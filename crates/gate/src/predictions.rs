//! Predictions that a gate refuses to judge: a number computed from them would mean nothing.
//!
//! Reading order: [`check`] for one file, [`comparable`] for two.

use std::collections::HashSet;

use karat_core::{Code, Coded, Exit, ScoredRows, Task, thousands};

use crate::{number::counted, votes};

/// Rounding that one 32-bit probability may carry: a softmax may end an ulp or two above 1.
const SLACK: f32 = 1e-5;
/// The same for the sum over many classes.
const SLACK_OF_SUM: f32 = 1e-3;

/// Why predictions are not judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PredictionsError {
    /// A key stands for two rows.
    #[error(
        "{} of {} rows have a key that another row has too, first `{first}`: which of them counts?",
        thousands(*n as u64), thousands(*of as u64)
    )]
    KeysRepeated {
        /// Rows beyond the first of each key.
        n: usize,
        /// All.
        of: usize,
        /// The first such key.
        first: String,
    },
    /// Rows without a key.
    #[error(
        "{} of {} rows have no key, so they cannot be told from other rows",
        thousands(*n as u64), thousands(*of as u64)
    )]
    KeysMissing {
        /// Rows without.
        n: usize,
        /// All.
        of: usize,
    },
    /// A number that is none, or more or fewer numbers than rows.
    #[error("{reason}")]
    Scores {
        /// How many, of how many, and what is wrong.
        reason: String,
    },
    /// Two predictions that are not about the same rows.
    #[error("candidate and baseline were not scored on the same rows: {what}")]
    OtherRows {
        /// What differs.
        what: String,
    },
}

impl Coded for PredictionsError {
    fn code(&self) -> Code {
        Code::new(match self {
            Self::KeysRepeated { .. } | Self::KeysMissing { .. } => "predictions-keys",
            Self::Scores { .. } => "predictions-scores",
            Self::OtherRows { .. } => "predictions-other-rows",
        })
    }

    fn exit(&self) -> Exit {
        Exit::Fail
    }
}

/// Whether every row has a key of its own and scores that are ones.
pub fn check(rows: &ScoredRows) -> Result<(), PredictionsError> {
    let n = rows.n_rows();
    let refuse = |reason: String| Err(PredictionsError::Scores { reason });
    if rows.score.len() != n * rows.n_outputs() {
        return refuse(format!(
            "{} scores for {} rows, expected {} a row",
            thousands(rows.score.len() as u64),
            thousands(n as u64),
            rows.n_outputs()
        ));
    }
    let count = |what: &str, bad: usize, of: usize| match bad {
        0 => Ok(()),
        _ => refuse(format!("{} of {} {what}", thousands(bad as u64), thousands(of as u64))),
    };
    let not_finite = |values: &[f32]| values.iter().filter(|it| !it.is_finite()).count();
    count("scores are NaN or infinite", not_finite(&rows.score), rows.score.len())?;
    count("labels are NaN or infinite", not_finite(&rows.label), n)?;
    if rows.task != Task::Regression {
        let outside = rows.score.iter().filter(|it| !(-SLACK..=1.0 + SLACK).contains(*it)).count();
        count("scores are outside 0 to 1", outside, rows.score.len())?;
    }
    if rows.task == Task::Multiclass && 0 < rows.n_outputs() {
        let is_off = |of_row: &&[f32]| SLACK_OF_SUM < (of_row.iter().sum::<f32>() - 1.0).abs();
        let off = rows.score.chunks_exact(rows.n_outputs()).filter(is_off).count();
        count("rows have probabilities that do not sum to 1", off, n)?;
    }
    if rows.votes.as_ref().is_some_and(|votes| !votes::fit(rows, votes)) {
        return refuse("the labels of several people are not at least one a row".to_owned());
    }
    keys(rows)
}

/// Rows of a dataset without a key have no names at all.
fn keys(rows: &ScoredRows) -> Result<(), PredictionsError> {
    if rows.names.is_empty() {
        return Ok(());
    }
    let of = rows.n_rows();
    let missing = rows.names.iter().filter(|it| it.is_empty()).count();
    let missing = missing.max(of.saturating_sub(rows.names.len()));
    if 0 < missing {
        return Err(PredictionsError::KeysMissing { n: missing, of });
    }
    let mut seen = HashSet::with_capacity(of);
    let mut repeated = rows.names.iter().filter(|name| !seen.insert(name.as_str()));
    match repeated.next() {
        None => Ok(()),
        Some(first) => {
            let first = first.chars().take(80).collect();
            Err(PredictionsError::KeysRepeated { n: 1 + repeated.count(), of, first })
        }
    }
}

/// Whether two predictions are about the same rows, so that differences mean something.
pub fn comparable(candidate: &ScoredRows, baseline: &ScoredRows) -> Result<(), PredictionsError> {
    let refuse = |what: String| Err(PredictionsError::OtherRows { what });
    if candidate.rows != baseline.rows {
        return refuse(other_keys(candidate, baseline));
    }
    if candidate.task != baseline.task || candidate.classes != baseline.classes {
        return refuse("task or classes differ".to_owned());
    }
    let bits = |rows: &ScoredRows| rows.label.iter().map(|it| it.to_bits()).collect::<Vec<_>>();
    if bits(candidate) != bits(baseline) || candidate.votes != baseline.votes {
        return refuse("labels differ".to_owned());
    }
    if candidate.score.len() != baseline.score.len() {
        return refuse("numbers of scores differ".to_owned());
    }
    Ok(())
}

/// Which keys only one of them has, where rows have keys.
fn other_keys(candidate: &ScoredRows, baseline: &ScoredRows) -> String {
    let of = |rows: &ScoredRows| rows.names.iter().cloned().collect::<HashSet<String>>();
    let (new, old) = (of(candidate), of(baseline));
    let only = |a: &ScoredRows, b: &HashSet<String>| -> Vec<String> {
        a.names.iter().filter(|it| !b.contains(*it)).cloned().collect()
    };
    let told: Vec<String> = [
        ("only the candidate has", only(candidate, &old)),
        ("only the baseline has", only(baseline, &new)),
    ]
    .into_iter()
    .filter_map(|(who, keys)| {
        let first: String = keys.first()?.chars().take(80).collect();
        Some(format!("{who} {}, first `{first}`", counted(keys.len(), "key")))
    })
    .collect();
    match told.as_slice() {
        [] => "the digests of keys and labels differ".to_owned(),
        told => told.join("; "),
    }
}

#[cfg(test)]
mod tests {
    use karat_core::{Coded as _, Digest, Task};

    use super::{check, comparable};
    use crate::testing::{binary, flights, rows};

    #[test]
    fn every_malformed_file_has_its_code_and_says_how_much() {
        let good = flights(60, "new", 1.0);
        assert_eq!(check(&good), Ok(()));
        let refused = |change: &dyn Fn(&mut karat_core::ScoredRows)| {
            let mut rows = good.clone();
            change(&mut rows);
            let error = check(&rows).expect_err("malformed");
            format!("[{}] {error}", error.code())
        };
        assert_eq!(
            refused(&|it| it.names[3] = it.names[0].clone()),
            "[predictions-keys] 1 of 60 rows have a key that another row has too, first `flight 1`: which of them counts?"
        );
        let missing =
            "[predictions-keys] 1 of 60 rows have no key, so they cannot be told from other rows";
        assert_eq!(refused(&|it| it.names[3].clear()), missing);
        assert_eq!(refused(&|it| it.names.truncate(59)), missing);
        assert_eq!(
            refused(&|it| it.score[1] = f32::NAN),
            "[predictions-scores] 1 of 60 scores are NaN or infinite"
        );
        assert_eq!(
            refused(&|it| it.label[1] = f32::INFINITY),
            "[predictions-scores] 1 of 60 labels are NaN or infinite"
        );
        for outside in [-0.5, 1.5] {
            assert_eq!(
                refused(&|it| it.score[1] = outside),
                "[predictions-scores] 1 of 60 scores are outside 0 to 1"
            );
        }
        assert_eq!(
            refused(&|it| it.score.truncate(59)),
            "[predictions-scores] 59 scores for 60 rows, expected 1 a row"
        );
        let classes =
            |score: Vec<f32>| rows(Task::Multiclass, &["a", "b", "c"], vec![0.0, 1.0], score);
        assert_eq!(check(&classes(vec![0.2, 0.3, 0.5, 1.0, 0.0, 0.0])), Ok(()));
        let error = check(&classes(vec![0.2, 0.3, 0.4, 1.0, 0.0, 0.0])).expect_err("sums to 0.9");
        assert_eq!(error.to_string(), "1 of 2 rows have probabilities that do not sum to 1");
        // Any number is a prediction of a number.
        assert_eq!(check(&rows(Task::Regression, &[], vec![1.0], vec![-40.0])), Ok(()));
        assert_eq!(check(&binary(Vec::new(), Vec::new())), Ok(()));
    }

    #[test]
    fn other_rows_are_named() {
        let (new, mut old) = (flights(60, "new", 1.0), flights(60, "old", 1.0));
        assert_eq!(comparable(&new, &old), Ok(()));
        old.rows = Digest::of(b"other");
        old.names[5] = "flight 61".to_owned();
        let error = comparable(&new, &old).expect_err("other rows");
        assert_eq!(error.code().as_str(), "predictions-other-rows");
        assert_eq!(
            error.to_string(),
            "candidate and baseline were not scored on the same rows: only the candidate has 1 key, first `flight 6`; \
             only the baseline has 1 key, first `flight 61`"
        );
    }
}
