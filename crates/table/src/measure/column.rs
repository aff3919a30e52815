//! One column's counts, and the values that break its constraints.

use arrow::array::Array;
use arrow::buffer::BooleanBuffer;
use karat_core::{
    Column, ColumnType, Failure,
    plan::SLOT_UNKNOWN,
    profile::{ColumnProfile, EXAMPLES_MAX, ImageProfile, Offender, Offenders},
};

use crate::{
    cast::canonical_type,
    count::{Counter, Moments, each_number},
    encode::Slots,
    image::{Census, each_brightness, named},
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
    images: Option<Census>,
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
        let images = column.image().map(|it| Census::new(it.shape));
        // Images are told apart by what names them: a hash, as text.
        let counted = if images.is_some() { canonical_type(ColumnType::Text) } else { ty.clone() };
        Self {
            column,
            values: Counter::new(&counted, DISTINCT_MAX),
            moments: Moments::default(),
            images,
            n_missing: 0,
            domain: column.domain.as_ref().map(|it| Slots::new(&ty, it)),
            wrong_type: Offenders::default(),
            out_of_range: Offenders::default(),
            out_of_domain: Offenders::default(),
        }
    }

    /// Counts the column's rows of `block`; `place` gives a row's file and its number there, from 1.
    pub(super) fn update(
        &mut self,
        block: &Block,
        place: &(dyn Fn(usize) -> (String, u64) + Sync),
    ) -> Result<(), Failure> {
        let cast = block.column(&self.column.name)?;
        let array = &cast.array;
        let add = |offenders: &mut Offenders, value: &dyn Fn(usize) -> String, i: usize| {
            offenders.n += 1;
            if offenders.examples.len() < EXAMPLES_MAX {
                let (file, row) = place(i);
                offenders.examples.push(Offender { file, row, value: value(i) });
            }
        };
        let value = |i: usize| shown(array, i);
        let mut n_wrong = 0;
        if let Some(wrong) = &cast.wrong {
            n_wrong = wrong.count_set_bits();
            for i in wrong.set_indices() {
                add(&mut self.wrong_type, &|i| cast.shown(i), i);
            }
        }
        self.n_missing += (array.logical_null_count() - n_wrong) as u64;
        match &mut self.images {
            Some(census) => {
                census.add(cast, &BooleanBuffer::new_set(block.n_rows));
                self.values.update(&named(array));
                each_brightness(array, |_, mean| self.moments.add(mean));
            }
            None => {
                self.values.update(array);
                self.moments.update(array);
            }
        }
        if self.column.min.is_some() || self.column.max.is_some() {
            let (min, max) = (self.column.min, self.column.max);
            each_number(array, |i, x| {
                if min.is_some_and(|min| x < min) || max.is_some_and(|max| max < x) {
                    add(&mut self.out_of_range, &value, i);
                }
            });
        }
        if let Some(domain) = &mut self.domain {
            domain.each(array, |i, slot| {
                if slot == SLOT_UNKNOWN {
                    add(&mut self.out_of_domain, &value, i);
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
            image: self.images.as_ref().map(image_profile),
        }
    }
}

/// What a profile says of images.
fn image_profile(census: &Census) -> ImageProfile {
    let (mean, std) = census.moments().unzip();
    ImageProfile { shape: census.shape, sizes: census.sizes(), mean, std }
}
