//! The one bound of a rule, in our words or in another tool's.
//!
//! | typed | from | read as |
//! |---|---|---|
//! | `threshold` | MLflow | `min`, or `max` where less is better |
//! | `lower_bound`, `upper_bound` | TFMA | `min`, `max` |
//! | `min_absolute_change`, `min_relative_change` | MLflow | `min_improvement` |
//! | `absolute`, `relative` | TFMA | the change new − old in the metric's own sign: a gain is `min_improvement`, a loss `max_regression` |
//! | `epsilon` | ease.ml/ci | `max_regression = { absolute = … }` |
//! | `greater_is_better`, `direction` | MLflow, TFMA | nothing; an error where the metric points the other way |

use super::{
    super::{Bound, Change},
    raw::{RawDirection, RawRule, Subject},
};
use crate::{Document, Failure};

/// Exactly one bound, finite, possible, and not negative where it is a size. Other tools' words leave a note.
pub(super) fn bound(
    document: &Document,
    key: &str,
    raw: &RawRule,
    notes: &mut Vec<String>,
) -> Result<Bound, Failure> {
    direction(document, key, raw)?;
    let given = given(raw);
    let (field, value, bound) = match given.as_slice() {
        [one] => *one,
        [] => return without_bound(document, key, raw.metric),
        [(one, ..), (other, ..), ..] => {
            return Err(document.refuse(
                &format!("{key}.{other}"),
                format!("the rule has `{one}` and `{other}`, must have one bound: write two rules"),
            ));
        }
    };
    let key = format!("{key}.{field}");
    if !value.is_finite() {
        return Err(document.refuse(&key, format!("`{field}` is {value}, must be a finite number")));
    }
    if let Some(change) = bound.change()
        && change.amount() < 0.0
    {
        return Err(document.refuse(
            &key,
            format!(
                "`{field}` is {value}, must be at least 0: the metric's own direction says what is better, never a sign"
            ),
        ));
    }
    possible(document, &key, field, raw.metric, bound)?;
    if let Some(tool) = tool_of(field) {
        let place = document.place(&key).unwrap_or_else(|| document.name.clone());
        notes.push(format!("{place}: {tool}'s `{field} = {value}` is read as `{}`", typed(bound)));
    }
    Ok(bound)
}

/// What the rule says, as (key, number as typed, meaning).
fn given(raw: &RawRule) -> Vec<(&'static str, f64, Bound)> {
    let is_up = raw.metric.greater_is_better();
    let level = |value| if is_up { Bound::Min(value) } else { Bound::Max(value) };
    // TFMA compares new − old: for a loss that falls, the gain is negative.
    let signed = |amount: f64, unit: fn(f64) -> Change| {
        let gain = if is_up { amount } else { -amount };
        if gain <= 0.0 {
            Bound::MaxRegression(unit(gain.abs()))
        } else {
            Bound::MinImprovement(unit(gain))
        }
    };
    let own = |change: &super::raw::RawChange| change.0.amount();
    [
        ("min", raw.min, raw.min.map(Bound::Min)),
        ("max", raw.max, raw.max.map(Bound::Max)),
        (
            "max_regression",
            raw.max_regression.as_ref().map(own),
            raw.max_regression.as_ref().map(|it| Bound::MaxRegression(it.0)),
        ),
        (
            "min_improvement",
            raw.min_improvement.as_ref().map(own),
            raw.min_improvement.as_ref().map(|it| Bound::MinImprovement(it.0)),
        ),
        (
            "max_improvement",
            raw.max_improvement.as_ref().map(own),
            raw.max_improvement.as_ref().map(|it| Bound::MaxImprovement(it.0)),
        ),
        ("threshold", raw.threshold, raw.threshold.map(level)),
        ("lower_bound", raw.lower_bound, raw.lower_bound.map(Bound::Min)),
        ("upper_bound", raw.upper_bound, raw.upper_bound.map(Bound::Max)),
        (
            "min_absolute_change",
            raw.min_absolute_change,
            raw.min_absolute_change.map(|it| Bound::MinImprovement(Change::Absolute(it))),
        ),
        (
            "min_relative_change",
            raw.min_relative_change,
            raw.min_relative_change.map(|it| Bound::MinImprovement(Change::Relative(it))),
        ),
        ("absolute", raw.absolute, raw.absolute.map(|it| signed(it, Change::Absolute))),
        ("relative", raw.relative, raw.relative.map(|it| signed(it, Change::Relative))),
        ("epsilon", raw.epsilon, raw.epsilon.map(|it| Bound::MaxRegression(Change::Absolute(it)))),
    ]
    .into_iter()
    .filter_map(|(field, value, bound)| Some((field, value?, bound?)))
    .collect()
}

fn tool_of(field: &str) -> Option<&'static str> {
    match field {
        "threshold" | "min_absolute_change" | "min_relative_change" => Some("MLflow"),
        "lower_bound" | "upper_bound" | "absolute" | "relative" => Some("TFMA"),
        "epsilon" => Some("ease.ml/ci"),
        _ => None,
    }
}

/// The bound as we would have it typed.
fn typed(bound: Bound) -> String {
    let change = |key: &str, change: Change| match change {
        Change::Absolute(amount) => format!("{key} = {{ absolute = {amount} }}"),
        Change::Relative(share) => format!("{key} = {{ relative = {share} }}"),
    };
    match bound {
        Bound::Min(value) => format!("min = {value}"),
        Bound::Max(value) => format!("max = {value}"),
        Bound::MaxRegression(it) => change("max_regression", it),
        Bound::MinImprovement(it) => change("min_improvement", it),
        Bound::MaxImprovement(it) => change("max_improvement", it),
    }
}

/// A measure of yes or no needs no bound; everything else does.
fn without_bound(document: &Document, key: &str, subject: Subject) -> Result<Bound, Failure> {
    match subject {
        Subject::Measure(measure) if measure.is_yes_or_no() => Ok(Bound::Min(1.0)),
        Subject::Measure(_) => {
            Err(document.refuse(key, "the rule has no bound, must have `min` or `max`"))
        }
        Subject::Metric(_) => Err(document.refuse(
            key,
            "the rule has no bound, must have one of `min`, `max`, `max_regression`, `min_improvement`, `max_improvement`",
        )),
    }
}

/// Somebody who says which way is better is told when the metric disagrees.
fn direction(document: &Document, key: &str, raw: &RawRule) -> Result<(), Failure> {
    let is_up = raw.metric.greater_is_better();
    let direction = raw.direction.map(|it| it == RawDirection::HigherIsBetter);
    for (field, said) in [("greater_is_better", raw.greater_is_better), ("direction", direction)] {
        if said.is_some_and(|it| it != is_up) {
            let truth = if is_up { "higher" } else { "lower" };
            return Err(document.refuse(
                &format!("{key}.{field}"),
                format!("`{field}` says otherwise, but of `{}` {truth} is better", raw.metric),
            ));
        }
    }
    Ok(())
}

/// A bound that no value can meet is a mistake, not a policy.
fn possible(
    document: &Document,
    key: &str,
    field: &str,
    subject: Subject,
    bound: Bound,
) -> Result<(), Failure> {
    let refuse = |message: String| Err(document.refuse(key, message));
    let (low, high) = match subject {
        Subject::Metric(metric) => metric.range(),
        Subject::Measure(measure) => {
            if bound.is_change() {
                return refuse(format!(
                    "`{field}` compares with a baseline; `{measure}` is compared as a value, with `min` or `max`"
                ));
            }
            if measure.is_yes_or_no() {
                return match bound {
                    Bound::Min(value) if (1.0..=1.0).contains(&value) => Ok(()),
                    _ => refuse(format!(
                        "`{measure}` is answered by yes or no: leave the bound out, or write `min = 1`"
                    )),
                };
            }
            (0.0, f64::INFINITY)
        }
    };
    match bound {
        Bound::Min(value) if high < value => {
            refuse(format!("`{field}` is {value}, and `{subject}` is never above {high}"))
        }
        Bound::Max(value) if value < low => {
            refuse(format!("`{field}` is {value}, and `{subject}` is never below {low}"))
        }
        _ => Ok(()),
    }
}
