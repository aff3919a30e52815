//! How well each feature alone goes with the label, on a fixed sample, in cells from which a cross-fitted score can be
//! worked out by hand.
//!
//! The sample holds the rows with the smallest hashes: the same rows whatever order or batches they come in. Equal
//! rows have equal hashes and so share a fold: a copy cannot vouch for itself.
//!
//! Reading order: [`Sample`], [`Bins`].

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, Float64Array, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::DataType;
use karat_core::{
    ColumnType, Failure, FeatureKind, Schema, Task,
    plan::{SLOT_FIRST, SLOT_MISSING, SLOT_UNKNOWN},
    profile::{Association, LEAK_BINS, LEAK_FOLDS, LEAK_SAMPLE_MAX},
};
use rayon::iter::{
    IndexedParallelIterator as _, IntoParallelRefIterator as _, ParallelIterator as _,
};

use crate::{
    cast::{canonical_type, joined, taken},
    count::{Counter, each_number},
    encode::Slots,
    hash::Lanes,
    image::each_brightness,
    read::Block,
    text::write_float,
};

/// Classes told apart; the rarest share one.
const CLASSES_MAX: usize = 50;

/// Labelled rows kept to look for giveaways.
pub(super) struct Sample<'a> {
    schema: &'a Schema,
    names: Vec<&'a str>,
    pieces: Vec<Piece>,
    n: usize,
    /// Rows above this hash are not among the smallest.
    cut: u64,
}

/// Rows of one block: hashes, and one array for every name.
struct Piece {
    hashes: Vec<(u64, u64)>,
    columns: Vec<ArrayRef>,
}

fn sample_max() -> usize {
    usize::try_from(LEAK_SAMPLE_MAX).unwrap_or(usize::MAX)
}

impl<'a> Sample<'a> {
    /// No rows. The label comes first, then the features.
    pub(super) fn new(schema: &'a Schema) -> Self {
        let names = schema
            .label()
            .into_iter()
            .chain(schema.features())
            .map(|it| it.name.as_str())
            .collect();
        Self { schema, names, pieces: Vec::new(), n: 0, cut: u64::MAX }
    }

    /// Adds the rows of `is_in`, whose hashes over all columns are `lanes`.
    pub(super) fn add(
        &mut self,
        block: &Block,
        is_in: &BooleanBuffer,
        lanes: &Lanes,
    ) -> Result<(), Failure> {
        let mut rows = Vec::new();
        let mut hashes = Vec::new();
        for i in is_in.set_indices() {
            let hash = lanes.row(i);
            if hash.0 <= self.cut {
                rows.push(u32::try_from(i).expect("blocks are small"));
                hashes.push(hash);
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        let rows = UInt32Array::from(rows);
        let columns = self
            .names
            .iter()
            .map(|name| Ok(taken(&scalar(block.array(name)?), &rows)))
            .collect::<Result<Vec<_>, Failure>>()?;
        self.n += hashes.len();
        self.pieces.push(Piece { hashes, columns });
        if 2 * sample_max() <= self.n {
            self.prune();
        }
        Ok(())
    }

    /// Keeps the rows with the smallest hashes.
    fn prune(&mut self) {
        if self.n <= sample_max() {
            return;
        }
        let mut all: Vec<u64> =
            self.pieces.iter().flat_map(|it| it.hashes.iter().map(|hash| hash.0)).collect();
        let (_, cut, _) = all.select_nth_unstable(sample_max() - 1);
        self.cut = *cut;
        let mut room = sample_max();
        for piece in &mut self.pieces {
            let mut rows = Vec::new();
            for (i, hash) in (0_u32..).zip(&piece.hashes) {
                // Copies of one row share a hash and may not all fit.
                if hash.0 <= self.cut && 0 < room {
                    rows.push(i);
                    room -= 1;
                }
            }
            piece.hashes = rows.iter().map(|i| piece.hashes[*i as usize]).collect();
            let rows = UInt32Array::from(rows);
            piece.columns = piece.columns.iter().map(|it| taken(it, &rows)).collect();
        }
        self.pieces.retain(|it| !it.hashes.is_empty());
        self.n = sample_max() - room;
    }

    /// The cells of every feature.
    pub(super) fn finish(mut self, task: Task) -> Vec<Association> {
        self.prune();
        let Some(label) = self.schema.label().filter(|_| 0 < self.n) else { return Vec::new() };
        let column = |at: usize| -> ArrayRef {
            let pieces: Vec<ArrayRef> =
                self.pieces.iter().map(|it| ArrayRef::clone(&it.columns[at])).collect();
            joined(&pieces)
        };
        let folds: Vec<u8> = self
            .pieces
            .iter()
            .flat_map(|it| &it.hashes)
            .map(|hash| u8::try_from(hash.1 % LEAK_FOLDS as u64).expect("a fold"))
            .collect();
        let target = Target::new(&column(0), label.ty, task);
        let features: Vec<_> = self.schema.features().collect();
        features
            .par_iter()
            .enumerate()
            .map(|(at, feature)| {
                let bins = Bins::new(&column(at + 1), feature.ty, feature.feature_kind());
                let width = target.width();
                let mut cells = vec![vec![vec![0.0; width]; bins.names.len()]; LEAK_FOLDS];
                for (i, fold) in folds.iter().enumerate() {
                    target.add(i, &mut cells[usize::from(*fold)][bins.rows[i] as usize]);
                }
                Association {
                    column: feature.name.clone(),
                    task,
                    n_rows: self.n as u64,
                    bins: bins.names,
                    classes: target.classes().to_vec(),
                    cells,
                }
            })
            .collect()
    }
}

/// An image as its brightness: classes photographed in different light give themselves away by it.
fn scalar(array: &ArrayRef) -> ArrayRef {
    let DataType::FixedSizeBinary(_) = array.data_type() else { return ArrayRef::clone(array) };
    let mut brightness = vec![None; array.len()];
    each_brightness(array, |i, mean| brightness[i] = Some(mean));
    Arc::new(Float64Array::from(brightness))
}

/// The label of every sampled row.
enum Target {
    Classes { names: Vec<String>, rows: Vec<u32> },
    Values(Vec<f64>),
}

impl Target {
    fn new(array: &ArrayRef, ty: ColumnType, task: Task) -> Self {
        if task == Task::Regression {
            let mut values = vec![0.0; array.len()];
            each_number(array, |i, y| values[i] = y);
            return Self::Values(values);
        }
        let (names, mut rows) = categories(array, ty, CLASSES_MAX);
        // Sampled rows have a label: the first name, "missing", is not needed.
        rows.iter_mut().for_each(|it| *it = it.saturating_sub(1));
        Self::Classes { names: names[1..].to_vec(), rows }
    }

    fn width(&self) -> usize {
        match self {
            Self::Classes { names, .. } => names.len(),
            Self::Values(_) => 3,
        }
    }

    fn classes(&self) -> &[String] {
        match self {
            Self::Classes { names, .. } => names,
            Self::Values(_) => &[],
        }
    }

    fn add(&self, i: usize, cell: &mut [f64]) {
        match self {
            Self::Classes { rows, .. } => cell[rows[i] as usize] += 1.0,
            Self::Values(values) => {
                let y = values[i];
                cell[0] += 1.0;
                cell[1] += y;
                cell[2] += y * y;
            }
        }
    }
}

/// "missing", the commonest values in text order and, where there are more, "other"; and the place of every row.
fn categories(array: &ArrayRef, ty: ColumnType, n_max: usize) -> (Vec<String>, Vec<u32>) {
    let ty = canonical_type(ty);
    let mut counter = Counter::new(&ty, usize::MAX);
    counter.update(array);
    let n_distinct = counter.n_distinct();
    let mut common = counter.top(if n_max < n_distinct { n_max - 1 } else { n_max });
    common.sort_unstable();
    let values: Vec<String> = common.into_iter().map(|it| it.0).collect();
    let other = u32::try_from(values.len()).expect("few values") + 1;
    let mut rows = vec![0; array.len()];
    Slots::new(&ty, &values).each(array, |i, slot| {
        rows[i] = match slot {
            SLOT_MISSING => 0,
            SLOT_UNKNOWN => other,
            known => known - SLOT_FIRST + 1,
        };
    });
    let mut names = vec!["missing".to_owned()];
    names.extend(values);
    // NaN is no value of a counter and unknown to the slots: it needs the place too.
    if rows.contains(&other) {
        names.push("other".to_owned());
    }
    (names, rows)
}

/// A feature cut into bins.
struct Bins {
    names: Vec<String>,
    rows: Vec<u32>,
}

impl Bins {
    fn new(array: &ArrayRef, ty: ColumnType, kind: FeatureKind) -> Self {
        let is_text = matches!(array.data_type(), DataType::Utf8 | DataType::Dictionary(..));
        if is_text || kind == FeatureKind::Categorical {
            let (names, rows) = categories(array, ty, LEAK_BINS - 1);
            return Self { names, rows };
        }
        let mut sorted: Vec<f64> = Vec::with_capacity(array.len());
        each_number(array, |_, x| {
            if x.is_finite() {
                sorted.push(x);
            }
        });
        sorted.sort_unstable_by(f64::total_cmp);
        let cuts = cuts(&sorted);
        let mut names = vec!["missing".to_owned()];
        for cut in &cuts {
            names.push(named("<= ", *cut));
        }
        names.push(cuts.last().map_or_else(|| "any".to_owned(), |it| named("> ", *it)));
        let mut rows = vec![0; array.len()];
        each_number(array, |i, x| {
            if x.is_finite() {
                let bin = cuts.partition_point(|cut| *cut < x);
                rows[i] = u32::try_from(bin).expect("few bins") + 1;
            }
        });
        Self { names, rows }
    }
}

fn named(prefix: &str, cut: f64) -> String {
    let mut name = prefix.to_owned();
    write_float(cut, &mut name);
    name
}

/// Upper ends of all bins but the last: every value its own bin where there are few, else equal shares of the rows.
fn cuts(sorted: &[f64]) -> Vec<f64> {
    const N: usize = LEAK_BINS - 1;
    let is_same = |a: &mut f64, b: &mut f64| *a <= *b && *b <= *a;
    let mut distinct = sorted.to_vec();
    distinct.dedup_by(is_same);
    if N < distinct.len() {
        distinct = (1..N).map(|k| sorted[k * sorted.len() / N]).collect();
        distinct.dedup_by(is_same);
        // Above the largest cut there must be something.
        while distinct.last().is_some_and(|last| sorted[sorted.len() - 1] <= *last) {
            distinct.pop();
        }
        return distinct;
    }
    distinct.pop();
    distinct
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, StringArray};
    use karat_core::{ColumnType, FeatureKind};

    use super::Bins;

    #[test]
    fn few_numbers_have_a_bin_each_and_many_share_evenly() {
        let few: ArrayRef =
            Arc::new(Float64Array::from(vec![Some(2.0), None, Some(1.0), Some(f64::NAN)]));
        let bins = Bins::new(&few, ColumnType::Float, FeatureKind::Numeric);
        assert_eq!(bins.names, ["missing", "<= 1", "> 1"]);
        assert_eq!(bins.rows, [2, 0, 1, 0]);
        let many: ArrayRef = Arc::new(Float64Array::from_iter_values((0..6_300).map(f64::from)));
        let bins = Bins::new(&many, ColumnType::Float, FeatureKind::Numeric);
        assert_eq!(bins.names.len(), 64);
        for bin in 1..64 {
            let n = bins.rows.iter().filter(|it| **it == bin).count();
            assert!((99..=101).contains(&n), "bin {bin} has {n}");
        }
    }

    #[test]
    fn rare_texts_share_a_bin() {
        let texts = (0..200).map(|i| format!("v{:03}", if i < 100 { i % 62 } else { i }));
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
        let bins = Bins::new(&texts, ColumnType::Text, FeatureKind::Categorical);
        assert_eq!(bins.names.len(), 64);
        assert_eq!((bins.names[0].as_str(), bins.names[63].as_str()), ("missing", "other"));
        assert_eq!(bins.rows[199], 63);
    }
}
