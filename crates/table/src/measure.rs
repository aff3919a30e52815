//! Counting everything a check may ask of a snapshot, in one pass over its rows.
//!
//! Columns are counted in parallel, each by one thread in row order, so nothing depends on the number of threads and
//! the first examples are the first in the snapshot.
//!
//! Reading order: [`measure`], [`column`], [`sets`], [`splits`], [`association`].

mod association;
mod column;
mod sets;
mod splits;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use arrow::array::{Array, ArrayRef};
use arrow::buffer::BooleanBuffer;
use karat_core::{
    Failure, Name, Profile, Role, Schema,
    port::{Located, OnProgress},
    profile::{EXAMPLES_MAX, Offender, Offenders, Overlap, Repeats},
};
use rayon::iter::{
    IntoParallelRefIterator as _, IntoParallelRefMutIterator as _, ParallelIterator as _,
};

use crate::{
    cast::present,
    decode::RawFile,
    error::{FileError, RuleError},
    fit::suggested_task,
    hash::{Lanes, ValueHashes},
    read::{Block, Need, RowStream, Wanted},
    snapshot::Files,
    split::{RowRule, find, identity},
    text::{shorten, write_value},
};
use association::Sample;
use column::ColumnCounter;
use sets::{RowSet, SPLITS_MAX, Summary};
use splits::Splits;

/// Measures `located`.
pub(crate) fn measure(
    located: &Located,
    files: &Files,
    label_split: Option<&Name>,
    progress: OnProgress<'_>,
    threads: usize,
    folder: &Path,
) -> Result<Profile, Failure> {
    let schema = &located.schema;
    let shape = Shape::of(files, schema)?;
    let wanted = everything(schema);
    let mut columns: Vec<ColumnCounter<'_>> = schema
        .columns
        .iter()
        .filter(|it| shape.somewhere.contains(&it.name))
        .map(ColumnCounter::new)
        .collect();
    let mut splits = Splits::new(located)?;
    let mut rows = RowHashes::new(schema, splits.n(), folder);
    let label_rule = match label_split {
        Some(name) => Some(RowRule::compile(name, find(located, name)?, schema)?),
        None => None,
    };
    let mut sample = Sample::new(schema);

    let total = files.n_rows();
    let mut n_rows = 0_u64;
    for block in RowStream::open(files.found.clone(), wanted.clone(), threads)? {
        let block = block?;
        let first = files.position(block.file, block.first_row);
        let place = |i: usize| {
            let (file, row) = files.place(first + i as u64);
            (files.found[file].name.clone(), row + 1)
        };
        let (counted, hashed) = rayon::join(
            || columns.par_iter_mut().try_for_each(|it| it.update(&block, &place)),
            || -> Result<(), Failure> {
                let bits = splits.update(&block, schema)?;
                let lanes = rows.update(&block, first, &bits)?;
                if let Some(label) = schema.label() {
                    let mut is_in = present(block.array(&label.name)?);
                    if let Some(rule) = &label_rule {
                        is_in = &is_in & &rule.mask(&block)?;
                    }
                    sample.add(&block, &is_in, &lanes)?;
                }
                Ok(())
            },
        );
        counted?;
        hashed?;
        n_rows += block.n_rows as u64;
        progress(n_rows, Some(total));
    }

    let pairs = splits.pairs();
    let counted = rows.finish(&pairs)?;
    let examples = Examples::read(schema, files, &wanted, &counted, threads)?;
    let mut profiles: Vec<_> = columns.into_iter().map(ColumnCounter::finish).collect();
    for (name, summary) in &counted.unique {
        if let Some(profile) = profiles.iter_mut().find(|it| it.name == *name) {
            profile.repeated = Offenders {
                n: summary.n_repeated,
                examples: examples.of(&summary.first, std::slice::from_ref(name)),
            };
        }
    }
    let task = schema.label().and_then(|label| {
        let profile = profiles.iter().find(|it| it.name == label.name)?;
        let n_distinct = usize::try_from(profile.n_distinct).unwrap_or(usize::MAX);
        Some(suggested_task(label.ty, n_distinct, profile.distinct_is_exact))
    });
    let names = naming(schema);
    let overlaps = pairs
        .iter()
        .enumerate()
        .map(|(at, (a, b))| Overlap {
            a: splits.name(*a),
            b: splits.name(*b),
            n_same_row: splits.n_same_row(*a, *b),
            n_same_key: counted
                .identity
                .as_ref()
                .or(counted.key.as_ref())
                .map_or(0, |it| it.n_shared[at]),
            n_same_features: counted.features.as_ref().map_or(0, |it| it.n_rows_shared[at]),
        })
        .collect();
    Ok(Profile {
        snapshot: located.snapshot.digest(),
        n_rows,
        columns: profiles,
        absent: shape.absent,
        unnamed: shape.unnamed,
        key: counted.key.as_ref().map(|it| Repeats {
            n_repeated: it.n_repeated,
            n_missing: counted.n_key_missing,
            examples: examples.of(&it.first, &names),
        }),
        duplicates: Repeats {
            n_repeated: counted.rows.n_repeated,
            n_missing: 0,
            examples: examples.of(&counted.rows.first, &names),
        },
        splits: splits.finish(task),
        overlaps,
        associations: task.map(|it| sample.finish(it)).unwrap_or_default(),
    })
}

/// Every schema column; what a file lacks is missing, and counted as such.
fn everything(schema: &Schema) -> Wanted {
    let mut wanted = Wanted::default();
    for column in &schema.columns {
        wanted.add_column(column, Need::Optional);
    }
    wanted
}

/// The columns that name a row in an example: its key, else all.
fn naming(schema: &Schema) -> Vec<String> {
    let key: Vec<String> = schema.keys().map(|it| it.name.clone()).collect();
    if key.is_empty() { schema.columns.iter().map(|it| it.name.clone()).collect() } else { key }
}

/// Which columns which files have.
struct Shape {
    /// Schema columns that some file has.
    somewhere: BTreeSet<String>,
    /// Schema columns that some file lacks, in schema order.
    absent: Vec<String>,
    /// File columns that the schema does not name, in file order.
    unnamed: Vec<String>,
}

impl Shape {
    fn of(files: &Files, schema: &Schema) -> Result<Self, Failure> {
        let names: Vec<Result<Vec<String>, FileError>> = files
            .found
            .par_iter()
            .map(|file| {
                let raw = RawFile::open(file)?;
                Ok(raw.schema.fields().iter().map(|it| it.name().clone()).collect())
            })
            .collect();
        let names = names.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut somewhere = BTreeSet::new();
        let mut unnamed: Vec<String> = Vec::new();
        for name in names.iter().flatten() {
            if schema.column(name).is_some() {
                somewhere.insert(name.clone());
            } else if !unnamed.contains(name) {
                unnamed.push(name.clone());
            }
        }
        let absent = schema
            .columns
            .iter()
            .filter(|column| names.iter().any(|it| !it.contains(&column.name)))
            .map(|column| column.name.clone())
            .collect();
        Ok(Self { somewhere, absent, unnamed })
    }
}

/// Which rows are equal in which respect.
struct RowHashes<'a> {
    schema: &'a Schema,
    rows: RowSet,
    key: Option<RowSet>,
    n_key_missing: u64,
    /// The group, where it is not the key.
    identity: Option<(Vec<String>, RowSet)>,
    features: Option<RowSet>,
    unique: Vec<(String, RowSet)>,
}

struct Counted {
    rows: Summary,
    key: Option<Summary>,
    n_key_missing: u64,
    identity: Option<Summary>,
    features: Option<Summary>,
    unique: Vec<(String, Summary)>,
}

impl<'a> RowHashes<'a> {
    fn new(schema: &'a Schema, n_splits: usize, folder: &Path) -> Self {
        let set = || RowSet::new(folder);
        let has_group = schema.names(Role::Group).next().is_some();
        Self {
            schema,
            rows: set(),
            key: schema.keys().next().map(|_| set()),
            n_key_missing: 0,
            identity: (has_group && 1 < n_splits).then(|| (identity(schema), set())),
            features: (1 < n_splits && schema.features().next().is_some()).then(set),
            unique: schema
                .columns
                .iter()
                .filter(|it| it.unique)
                .map(|it| (it.name.clone(), set()))
                .collect(),
        }
    }

    fn update(&mut self, block: &Block, first: u64, bits: &[u32]) -> Result<Lanes, Failure> {
        let n = block.n_rows;
        let hashes: Vec<ValueHashes> =
            block.columns.par_iter().map(|it| ValueHashes::of(&it.array)).collect();
        let fold = |is_used: &dyn Fn(&karat_core::Column) -> bool| {
            let mut lanes = Lanes::new(n);
            for (column, values) in self.schema.columns.iter().zip(&hashes) {
                if is_used(column) {
                    lanes.fold(values);
                }
            }
            lanes
        };
        let all = fold(&|_| true);
        for (i, bits) in bits.iter().enumerate() {
            self.rows.push(all.row(i), first + i as u64, *bits)?;
        }
        if let Some(set) = &mut self.key {
            let lanes = fold(&karat_core::Column::is_key);
            let is_whole = whole(block, self.schema.keys().map(|it| it.name.as_str()))?;
            self.n_key_missing += (n - is_whole.count_set_bits()) as u64;
            for i in is_whole.set_indices() {
                set.push(lanes.row(i), first + i as u64, bits[i])?;
            }
        }
        if let Some((names, set)) = &mut self.identity {
            let lanes = fold(&|it| names.contains(&it.name));
            let is_whole = whole(block, names.iter().map(String::as_str))?;
            for i in is_whole.set_indices().filter(|i| bits[*i] != 0) {
                set.push(lanes.row(i), first + i as u64, bits[i])?;
            }
        }
        if let Some(set) = &mut self.features {
            let lanes = fold(&|it| matches!(it.role, Role::Feature | Role::Label));
            for (i, bits) in bits.iter().enumerate().filter(|it| *it.1 != 0) {
                set.push(lanes.row(i), first + i as u64, *bits)?;
            }
        }
        for (name, set) in &mut self.unique {
            let lanes = fold(&|it| it.name == *name);
            for i in whole(block, [name.as_str()])?.set_indices() {
                set.push(lanes.row(i), first + i as u64, 0)?;
            }
        }
        Ok(all)
    }

    fn finish(self, pairs: &[(usize, usize)]) -> Result<Counted, Failure> {
        let finish = |set: Option<RowSet>| set.map(|it| it.finish(pairs)).transpose();
        Ok(Counted {
            rows: self.rows.finish(&[])?,
            key: finish(self.key)?,
            n_key_missing: self.n_key_missing,
            identity: finish(self.identity.map(|it| it.1))?,
            features: finish(self.features)?,
            unique: self
                .unique
                .into_iter()
                .map(|(name, set)| Ok((name, set.finish(&[])?)))
                .collect::<Result<Vec<_>, Failure>>()?,
        })
    }
}

/// The rows in which every one of `names` has a value.
fn whole<'n>(
    block: &Block,
    names: impl IntoIterator<Item = &'n str>,
) -> Result<BooleanBuffer, Failure> {
    let mut whole = BooleanBuffer::new_set(block.n_rows);
    for name in names {
        if let Some(nulls) = block.array(name)?.logical_nulls() {
            whole = &whole & nulls.inner();
        }
    }
    Ok(whole)
}

/// The few rows that examples name, read a second time: hashes do not say what they stand for.
struct Examples<'a> {
    files: &'a Files,
    columns: Vec<String>,
    rows: BTreeMap<u64, Vec<ArrayRef>>,
}

impl<'a> Examples<'a> {
    fn read(
        schema: &Schema,
        files: &'a Files,
        wanted: &Wanted,
        counted: &Counted,
        threads: usize,
    ) -> Result<Self, Failure> {
        let summaries = [&counted.rows].into_iter().chain(&counted.key);
        let summaries = summaries.chain(counted.unique.iter().map(|it| &it.1));
        let missing: BTreeSet<u64> = summaries.flat_map(|it| &it.first).copied().collect();
        let mut by_file: BTreeMap<usize, BTreeSet<u64>> = BTreeMap::new();
        for row in missing {
            by_file.entry(files.place(row).0).or_default().insert(row);
        }
        let mut rows = BTreeMap::new();
        for (file, mut missing) in by_file {
            let found = vec![files.found[file].clone()];
            for block in RowStream::open(found, wanted.clone(), threads)? {
                let block = block?;
                let first = files.position(file, block.first_row);
                let end = first + block.n_rows as u64;
                for row in missing.range(first..end).copied().collect::<Vec<_>>() {
                    let i = usize::try_from(row - first).expect("a row of one block");
                    rows.insert(row, block.columns.iter().map(|it| it.array.slice(i, 1)).collect());
                    missing.remove(&row);
                }
                if missing.is_empty() {
                    break;
                }
            }
        }
        Ok(Self { files, columns: schema.columns.iter().map(|it| it.name.clone()).collect(), rows })
    }

    fn of(&self, rows: &[u64], names: &[String]) -> Vec<Offender> {
        rows.iter()
            .take(EXAMPLES_MAX)
            .map(|row| {
                let (file, in_file) = self.files.place(*row);
                let mut value = String::new();
                for name in names {
                    let at = self.columns.iter().position(|it| it == name);
                    let array = at.and_then(|at| self.rows.get(row)?.get(at));
                    if !value.is_empty() {
                        value.push('/');
                    }
                    if let Some(array) = array {
                        write_value(array, 0, &mut value);
                    }
                }
                Offender {
                    file: self.files.found[file].name.clone(),
                    row: in_file + 1,
                    value: shorten(&value),
                }
            })
            .collect()
    }
}

/// Refuses more splits than a row's bits can tell apart.
fn refuse_many_splits(located: &Located) -> Result<(), RuleError> {
    let found = located.dataset.splits.len();
    if SPLITS_MAX < found {
        let dataset = located.dataset.name.to_string();
        return Err(RuleError::TooManySplits { dataset, found, max: SPLITS_MAX });
    }
    Ok(())
}
