//! Where rows to score come from: read, picked by the split's rule, marked with why they cannot be scored, encoded.
//!
//! Reading order: [`Source::open`], [`Source::run`].

use std::sync::{Arc, mpsc::SyncSender};

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, StringArray};
use arrow::datatypes::DataType;
use karat_core::{
    Failure, FeaturePlan, SliceSpec,
    port::{Located, ScoreRequest},
};

use super::{Layout, Part, kept};
use crate::{
    encode::Encoder,
    predicate::Predicate,
    read::{Block, Need, RowStream, Wanted},
    snapshot::Files,
    split::RowRule,
    text::write_value,
    write::Rechunker,
};

/// Bytes of images in one part.
const PART_BYTES: usize = 32 << 20;

/// Reads and encodes.
pub(super) struct Source<'a> {
    files: &'a Files,
    stream: RowStream,
    rule: Option<RowRule>,
    slices: Vec<Slice>,
    layout: &'a Layout,
    plan: &'a FeaturePlan,
    batch_size: usize,
}

enum Slice {
    Where(Predicate),
    Values(String),
}

impl<'a> Source<'a> {
    pub(super) fn open(
        located: &Located,
        files: &'a Files,
        plan: &'a FeaturePlan,
        request: &ScoreRequest<'_>,
        layout: &'a Layout,
        threads: usize,
    ) -> Result<Self, Failure> {
        let schema = &located.schema;
        let mut wanted = Wanted::default();
        for feature in &plan.features {
            wanted.add(&feature.column, feature.ty, Need::Model);
        }
        if let Some(image) = &plan.image {
            let column = schema.expect_column(&image.column, "the model's image")?;
            wanted.add_column(column, Need::Model);
        }
        for (at, name) in layout.copied.iter().enumerate() {
            let column = schema.expect_column(name, "the schema")?;
            // Rows without a label are scored all the same: that is what a model is for. Predictions that are to be
            // compared are of a split, and need the group by which rows are resampled.
            let is_group = layout.group.as_deref() == Some(name) && request.split.is_some();
            let need = match at {
                _ if at < layout.n_keys => Need::As("the row's key"),
                _ if is_group => Need::As("the row's group"),
                _ => Need::Optional,
            };
            wanted.add_column(column, need);
        }
        let rule = match request.split {
            Some((name, spec)) => Some(RowRule::compile(name, spec, schema)?),
            None => None,
        };
        if let Some(rule) = &rule {
            rule.want(schema, &mut wanted);
        }
        let mut slices = Vec::new();
        for (name, slice) in &request.slices {
            let rule = format!("slice `{name}`");
            match slice {
                SliceSpec::Where(text) => {
                    let predicate = Predicate::compile(&rule, text, schema)?;
                    for name in predicate.columns() {
                        let column = schema.expect_column(name, &rule)?;
                        wanted.add(name, column.ty, Need::As("part of a slice's predicate"));
                    }
                    slices.push(Slice::Where(predicate));
                }
                SliceSpec::Values(name) => {
                    let column = schema.expect_column(name, &rule)?;
                    wanted.add_column(column, Need::As("the values of a slice"));
                    slices.push(Slice::Values(name.clone()));
                }
            }
        }
        let stream = RowStream::open(files.found.clone(), wanted, threads)?;
        // A row's score does not depend on its batch, so large images may come fewer at a time than was asked for.
        let most = (PART_BYTES / plan.n_pixels().max(1)).max(1);
        let batch_size = request.batch_size.min(most);
        Ok(Self { files, stream, rule, slices, layout, plan, batch_size })
    }

    pub(super) fn run(mut self, out: &SyncSender<Result<Part, Failure>>) {
        // A closed channel means that the caller has stopped.
        if let Err(failure) = self.parts(out) {
            let _ = out.send(Err(failure));
        }
    }

    fn parts(&mut self, out: &SyncSender<Result<Part, Failure>>) -> Result<(), Failure> {
        let mut encoder = Encoder::new(self.plan);
        let mut cutter = Rechunker::new(self.batch_size);
        let mut n_read = 0;
        loop {
            let block = self.stream.next().transpose()?;
            let is_last = block.is_none();
            if let Some(block) = block {
                n_read += block.n_rows as u64;
                let (n_rows, columns) = self.columns(&block)?;
                cutter.push(n_rows, columns);
            }
            while let Some((n_rows, mut columns)) = cutter.pop(is_last) {
                let n_inputs = self.plan.features.len() + usize::from(self.plan.image.is_some());
                let features = columns.split_off(columns.len() - n_inputs);
                let mut batch = encoder.batch();
                encoder.append(n_rows, &features, &mut batch);
                if out.send(Ok(Part { n_rows, columns, batch, n_read })).is_err() {
                    return Ok(());
                }
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// The rows to score: position, reason, copied columns, slices, features.
    fn columns(&self, block: &Block) -> Result<(usize, Vec<ArrayRef>), Failure> {
        let first = self.files.position(block.file, block.first_row).cast_signed();
        let n = i64::try_from(block.n_rows).unwrap_or(i64::MAX);
        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from_iter_values(first..first + n)), self.reasons(block)?];
        for name in &self.layout.copied {
            columns.push(ArrayRef::clone(block.array(name)?));
        }
        for slice in &self.slices {
            columns.push(match slice {
                Slice::Where(predicate) => {
                    Arc::new(BooleanArray::new(predicate.mask(block)?, None))
                }
                Slice::Values(name) => texts(block.array(name)?),
            });
        }
        for feature in &self.plan.features {
            columns.push(ArrayRef::clone(block.array(&feature.column)?));
        }
        if let Some(image) = &self.plan.image {
            columns.push(ArrayRef::clone(block.array(&image.column)?));
        }
        let Some(rule) = &self.rule else { return Ok((block.n_rows, columns)) };
        let mask = rule.mask(block)?;
        Ok(kept(block.n_rows, columns, mask))
    }

    /// Why a row cannot be scored: a feature's value is not of its declared type, or there is no image that can be read.
    fn reasons(&self, block: &Block) -> Result<ArrayRef, Failure> {
        let mut reasons: Option<Vec<Option<String>>> = None;
        if let Some(image) = &self.plan.image {
            let column = block.column(&image.column)?;
            for i in (0..block.n_rows).filter(|i| column.array.is_null(*i)) {
                let is_wrong = column.wrong.as_ref().is_some_and(|it| it.value(i));
                let why = if is_wrong { column.shown(i) } else { "there is none".to_owned() };
                reasons.get_or_insert_with(|| vec![None; block.n_rows])[i] =
                    Some(format!("image `{}`: {why}", image.column));
            }
        }
        for feature in &self.plan.features {
            let column = block.column(&feature.column)?;
            let Some(wrong) = &column.wrong else { continue };
            let reasons = reasons.get_or_insert_with(|| vec![None; block.n_rows]);
            for i in wrong.set_indices() {
                // The first column at fault is reason enough.
                reasons[i].get_or_insert_with(|| {
                    format!(
                        "column `{}`: `{}` is not of type {}",
                        feature.column,
                        column.shown(i),
                        feature.ty.word()
                    )
                });
            }
        }
        Ok(match reasons {
            Some(reasons) => Arc::new(StringArray::from(reasons)),
            None => Arc::new(StringArray::new_null(block.n_rows)),
        })
    }
}

/// A column's values as text.
fn texts(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Utf8 | DataType::Dictionary(..) => ArrayRef::clone(array),
        _ => {
            let mut builder = arrow::array::StringBuilder::new();
            let mut text = String::new();
            for i in 0..array.len() {
                text.clear();
                builder.append_option(write_value(array, i, &mut text).then_some(&text));
            }
            Arc::new(builder.finish())
        }
    }
}
