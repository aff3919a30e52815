//! Which rows belong to a split: predicate, time range and hash percentile, all of which must hold.
//!
//! The percentile is part of the disk contract: XXH64 (seed 0) over the text of the row's group column, else of its
//! key columns, else of all columns, joined by U+001F, a missing value written as U+0000; the upper 53 bits as a
//! share of 100. It depends on nothing else, so a row keeps its place when others come and go. Numbers and booleans
//! are written as in vocabularies, times as milliseconds since 1970, images as the XXH64 of their pixels in 16 hex digits.
//!
//! Reading order: [`RowRule::compile`], [`RowRule::mask`].

use std::fmt::Write as _;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, TimestampMillisecondType};
use karat_core::{Failure, Name, Role, Schema, SplitSpec, Timestamp, nearest, port::Located};

use crate::{
    error::RuleError,
    predicate::Predicate,
    read::{Block, Need, Wanted},
    text::write_value,
};

/// A compiled split rule.
#[derive(Debug)]
pub(crate) struct RowRule {
    predicate: Option<Predicate>,
    time: Option<(String, Option<Timestamp>, Option<Timestamp>)>,
    hash: Option<(Vec<String>, f64, f64)>,
}

/// The rule of the split called `split`.
pub(crate) fn find<'a>(located: &'a Located, split: &Name) -> Result<&'a SplitSpec, RuleError> {
    let splits = &located.dataset.splits;
    splits.get(split).ok_or_else(|| RuleError::SplitUnknown {
        dataset: located.dataset.name.to_string(),
        split: split.to_string(),
        near: nearest(split.as_str(), splits.keys().map(Name::as_str))
            .into_iter()
            .map(str::to_owned)
            .collect(),
    })
}

/// The columns by which rows are kept together: the group, else the key, else all.
pub(crate) fn identity(schema: &Schema) -> Vec<String> {
    let group: Vec<String> = schema.names(Role::Group).map(str::to_owned).collect();
    if !group.is_empty() {
        return group;
    }
    let key: Vec<String> = schema.keys().map(|it| it.name.clone()).collect();
    if !key.is_empty() {
        return key;
    }
    schema.columns.iter().map(|it| it.name.clone()).collect()
}

impl RowRule {
    /// Compiles the rule of split `name`.
    pub(crate) fn compile(
        name: &Name,
        spec: &SplitSpec,
        schema: &Schema,
    ) -> Result<Self, RuleError> {
        let rule = format!("split `{name}`");
        let predicate = match &spec.predicate {
            Some(text) => Some(Predicate::compile(&rule, text, schema)?),
            None => None,
        };
        let time = match spec.time {
            Some((from, to)) => {
                let column = schema.names(Role::Time).next().ok_or(RuleError::NoTime { rule })?;
                Some((column.to_owned(), from, to))
            }
            None => None,
        };
        let hash = spec.hash.map(|(from, to)| (identity(schema), from, to));
        Ok(Self { predicate, time, hash })
    }

    /// Adds the columns it looks at.
    pub(crate) fn want(&self, schema: &Schema, wanted: &mut Wanted) {
        let mut want = |name: &str, purpose| {
            if let Some(column) = schema.column(name) {
                wanted.add_column(column, Need::As(purpose));
            }
        };
        for name in self.predicate.iter().flat_map(Predicate::columns) {
            want(name, "part of a split's predicate");
        }
        if let Some((name, ..)) = &self.time {
            want(name, "time of the row");
        }
        for name in self.hash.iter().flat_map(|it| &it.0) {
            want(name, "part of the key that splits are made by");
        }
    }

    /// The rows of `block` that satisfy the rule.
    pub(crate) fn mask(&self, block: &Block) -> Result<BooleanBuffer, Failure> {
        let mut mask = match &self.predicate {
            Some(predicate) => predicate.mask(block)?,
            None => BooleanBuffer::new_set(block.n_rows),
        };
        if let Some((column, from, to)) = &self.time {
            let times = block.array(column)?.as_primitive::<TimestampMillisecondType>();
            let is_in = BooleanBuffer::collect_bool(block.n_rows, |i| {
                let time = times.value(i);
                times.is_valid(i)
                    && from.is_none_or(|it| it.0 <= time)
                    && to.is_none_or(|it| time < it.0)
            });
            mask = &mask & &is_in;
        }
        if let Some((columns, from, to)) = &self.hash {
            let arrays =
                columns.iter().map(|it| block.array(it)).collect::<Result<Vec<_>, Failure>>()?;
            let mut text = String::new();
            let is_in = BooleanBuffer::collect_bool(block.n_rows, |i| {
                // Rows that are out already need no hash.
                mask.value(i) && {
                    let share = percentile(&arrays, i, &mut text);
                    *from <= share && share < *to
                }
            });
            mask = &mask & &is_in;
        }
        Ok(mask)
    }
}

/// Where row `i` stands between 0 and 100 (exclusive). `text` is scratch.
fn percentile(columns: &[&ArrayRef], i: usize, text: &mut String) -> f64 {
    text.clear();
    for (at, column) in columns.iter().enumerate() {
        if 0 < at {
            text.push('\u{1f}');
        }
        if let DataType::Timestamp(..) = column.data_type()
            && column.is_valid(i)
        {
            let _ = write!(text, "{}", column.as_primitive::<TimestampMillisecondType>().value(i));
        } else if !write_value(column, i, text) {
            text.push('\0');
        }
    }
    let hash = twox_hash::XxHash64::oneshot(0, text.as_bytes());
    100.0 * ((hash >> 11) as f64 / 9_007_199_254_740_992.0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::percentile;

    /// Known answers: if these change, rows move between the splits of every project.
    #[test]
    fn percentiles_never_change() {
        let text: ArrayRef = Arc::new(StringArray::from(vec![Some("UA"), None]));
        let number: ArrayRef = Arc::new(Int64Array::from(vec![1545, -7]));
        let shown: Vec<String> = (0..2)
            .map(|i| format!("{:.6}", percentile(&[&text, &number], i, &mut String::new())))
            .collect();
        assert_eq!(shown, ["6.551737", "92.515464"]);
    }

    #[test]
    fn percentiles_are_even() {
        let number: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100_000));
        let mut text = String::new();
        let below = (0..100_000).filter(|i| percentile(&[&number], *i, &mut text) < 20.0).count();
        // Five standard deviations of a fair draw: 5 √(100,000 · 0.2 · 0.8) = 632.
        assert!((19_368..=20_632).contains(&below), "{below}");
    }
}
