//! One column's counts, and the values that break its constraints.

use arrow::array::{Array, ArrayRef};
use karat_core::{
    Column, Failure,
    plan::SLOT_UNKNOWN,
    profile::{ColumnProfile, EXAMPLES_MAX, Offender, Offenders},
};

use crate::{
    cast::canonical_type,
    count::{Counter, Moments, each_number},
    encode::Slots,
    read::Block,
    text::shown,
};

/// Distinct values that are counted exactly.
const DISTINCT_MAX: usize = 100_000;
/// Commonest values shown.
const TOP: usize = 10;

/// Counts one column.
pub(super) struct ColumnCounter<'a> {
    column: &'a Column,
    values: Counter,
    moments: Moments,
    n_missing: u64,
    domain: Option<Slots>,
    wrong_type: Offenders,
    out_of_range: Offenders,
    out_of_domain: Offenders,
}

impl<'a> ColumnCounter<'a> {
    /// Nothing counted yet.
    pub(super) fn new(column: &'a Column) -> Self {
        let ty = canonical_type(column.ty);
        Self {
            column,
            values: Counter::new(&ty, DISTINCT_MAX),
            moments: Moments::default(),
            n_missing: 0,
            domain: column.domain.as_ref().map(|it| Slots::new(&ty, it)),
            wrong_type: Offenders::default(),
            out_of_range: Offenders::default(),
            out_of_domain: Offenders::default(),
        }
    }

    /// Counts the column's rows of `block`, which are of file `file`.
    pub(super) fn update(&mut self, block: &Block, file: &str) -> Result<(), Failure> {
        let cast = block.column(&self.column.name)?;
        let array = &cast.array;
        let add = |offenders: &mut Offenders, from: &ArrayRef, i: usize| {
            offenders.n += 1;
            if offenders.examples.len() < EXAMPLES_MAX {
                let row = block.first_row + i as u64 + 1;
                offenders.examples.push(Offender {
                    file: file.to_owned(),
                    row,
                    value: shown(from, i),
                });
            }
        };
        let mut n_wrong = 0;
        if let Some(wrong) = &cast.wrong {
            n_wrong = wrong.count_set_bits();
            for i in wrong.set_indices() {
                add(&mut self.wrong_type, &cast.raw, i);
            }
        }
        self.n_missing += (array.logical_null_count() - n_wrong) as u64;
        self.values.update(array);
        self.moments.update(array);
        if self.column.min.is_some() || self.column.max.is_some() {
            let (min, max) = (self.column.min, self.column.max);
            each_number(array, |i, x| {
                if min.is_some_and(|min| x < min) || max.is_some_and(|max| max < x) {
                    add(&mut self.out_of_range, array, i);
                }
            });
        }
        if let Some(domain) = &mut self.domain {
            domain.each(array, |i, slot| {
                if slot == SLOT_UNKNOWN {
                    add(&mut self.out_of_domain, array, i);
                }
            });
        }
        Ok(())
    }

    /// The counts.
    pub(super) fn finish(self) -> ColumnProfile {
        let range = self.moments.range();
        ColumnProfile {
            name: self.column.name.clone(),
            ty: self.column.ty,
            n_missing: self.n_missing,
            n_not_finite: self.moments.n_not_finite,
            n_distinct: self.values.n_distinct() as u64,
            distinct_is_exact: self.values.is_exact(),
            min: range.map(|it| it.0),
            max: range.map(|it| it.1),
            mean: self.moments.mean(),
            std: self.moments.std(),
            top: self.values.top(TOP),
            wrong_type: self.wrong_type,
            out_of_range: self.out_of_range,
            out_of_domain: self.out_of_domain,
            repeated: Offenders::default(),
        }
    }
}
