//! Rows, labels and common rows of every split.

use std::collections::BTreeMap;

use arrow::array::BooleanArray;
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter;
use karat_core::{ColumnType, Failure, Schema, Task, port::Located, profile::SplitProfile};

use super::refuse_many_splits;
use crate::{
    cast::{canonical_type, present},
    count::{Counter, Moments},
    error::internal,
    read::Block,
    split::RowRule,
};

/// Label values of one split that are counted.
const LABEL_VALUES_MAX: usize = 1_000;

/// All splits of a dataset.
pub(super) struct Splits {
    splits: Vec<Split>,
    /// `[a][b]` rows in both.
    n_same_row: Vec<Vec<u64>>,
    label_type: Option<ColumnType>,
}

struct Split {
    name: String,
    rule: RowRule,
    n_rows: u64,
    n_labeled: u64,
    labels: Option<Counter>,
    moments: Moments,
}

impl Splits {
    /// Compiles the rules.
    pub(super) fn new(located: &Located) -> Result<Self, Failure> {
        refuse_many_splits(located)?;
        let schema = &located.schema;
        let label_type = schema.label().map(|it| it.ty);
        let splits = located
            .dataset
            .splits
            .iter()
            .map(|(name, spec)| {
                Ok(Split {
                    name: name.to_string(),
                    rule: RowRule::compile(name, spec, schema)?,
                    n_rows: 0,
                    n_labeled: 0,
                    labels: label_type
                        .map(|ty| Counter::new(&canonical_type(ty), LABEL_VALUES_MAX + 1)),
                    moments: Moments::default(),
                })
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        let n_same_row = vec![vec![0; splits.len()]; splits.len()];
        Ok(Self { splits, n_same_row, label_type })
    }

    /// How many.
    pub(super) fn n(&self) -> usize {
        self.splits.len()
    }

    /// Counts a block; returns one bit a split for every row.
    pub(super) fn update(&mut self, block: &Block, schema: &Schema) -> Result<Vec<u32>, Failure> {
        let label = schema.label().map(|it| block.array(&it.name)).transpose()?;
        let mut bits = vec![0_u32; block.n_rows];
        let mut masks: Vec<BooleanBuffer> = Vec::with_capacity(self.splits.len());
        for (at, split) in self.splits.iter_mut().enumerate() {
            let mask = split.rule.mask(block)?;
            split.n_rows += mask.count_set_bits() as u64;
            for i in mask.set_indices() {
                bits[i] |= 1 << at;
            }
            if let (Some(label), Some(labels)) = (label, &mut split.labels) {
                let is_labeled = &mask & &present(label);
                split.n_labeled += is_labeled.count_set_bits() as u64;
                let values = filter(label, &BooleanArray::new(is_labeled, None))
                    .map_err(|error| internal(format_args!("labels: {error}")))?;
                labels.update(&values);
                split.moments.update(&values);
            }
            for (other, before) in masks.iter().enumerate() {
                self.n_same_row[other][at] += (before & &mask).count_set_bits() as u64;
            }
            masks.push(mask);
        }
        Ok(bits)
    }

    /// Every pair, the first before the second.
    pub(super) fn pairs(&self) -> Vec<(usize, usize)> {
        (0..self.n()).flat_map(|a| (a + 1..self.n()).map(move |b| (a, b))).collect()
    }

    /// The name of a split.
    pub(super) fn name(&self, at: usize) -> String {
        self.splits[at].name.clone()
    }

    /// Rows in both.
    pub(super) fn n_same_row(&self, a: usize, b: usize) -> u64 {
        self.n_same_row[a][b]
    }

    /// The counts.
    pub(super) fn finish(self, task: Option<Task>) -> BTreeMap<String, SplitProfile> {
        let is_numeric = matches!(self.label_type, Some(ColumnType::Int | ColumnType::Float));
        self.splits
            .into_iter()
            .map(|split| {
                let is_class = matches!(task, Some(Task::Binary | Task::Multiclass));
                let label_counts = split
                    .labels
                    .filter(|it| is_class && it.is_exact() && it.n_distinct() <= LABEL_VALUES_MAX)
                    .map(|it| it.texts().into_iter().collect())
                    .unwrap_or_default();
                let profile = SplitProfile {
                    n_rows: split.n_rows,
                    n_labeled: split.n_labeled,
                    label_counts,
                    label_mean: split.moments.mean().filter(|_| is_numeric),
                };
                (split.name, profile)
            })
            .collect()
    }
}
