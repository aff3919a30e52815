//! Columns become the numbers of a [`Batch`], as a fitted plan says.
//!
//! Texts are looked up once per dictionary, not once per row, where a column comes as a dictionary.
//!
//! Reading order: [`Encoder`], [`Slots`], [`date_parts`].

use std::{f64::consts::TAU, sync::OnceLock};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampMillisecondType};
use karat_core::{
    Batch, Encoding, FeaturePlan, LabelPlan,
    plan::{DATE_WIDTH, SLOT_FIRST, SLOT_MISSING, SLOT_UNKNOWN},
};

use crate::{
    calendar::{Date, date},
    count::each_number,
    hash::{FastMap, float_bits},
    text::{Texts, parse_bool, parse_float, parse_int, parse_time},
};

/// A plan, ready to be applied.
pub(crate) struct Encoder {
    features: Vec<FeatureEncoder>,
    n_numeric: usize,
    n_categorical: usize,
    n_pixels: usize,
}

struct FeatureEncoder {
    kind: Kind,
    /// Where the feature's numbers, or its slot, start in a row.
    at: usize,
}

enum Kind {
    Numeric { mean: f64, std: f64, missing_flag: bool },
    Categorical(Slots),
    Date { missing_flag: bool },
}

impl Encoder {
    /// Prepares `plan`. Arrays are then given in the order of its features, the image last.
    pub(crate) fn new(plan: &FeaturePlan) -> Self {
        let (mut n_numeric, mut n_categorical) = (0, 0);
        let features = plan
            .features
            .iter()
            .map(|feature| {
                let at = match feature.encoding {
                    Encoding::Categorical { .. } => n_categorical,
                    Encoding::Numeric { .. } | Encoding::Date { .. } => n_numeric,
                };
                n_numeric += feature.encoding.n_numeric();
                let kind = match &feature.encoding {
                    Encoding::Numeric { mean, std, missing_flag } => {
                        Kind::Numeric { mean: *mean, std: *std, missing_flag: *missing_flag }
                    }
                    Encoding::Categorical { vocabulary } => {
                        n_categorical += 1;
                        Kind::Categorical(Slots::new(
                            &crate::cast::canonical_type(feature.ty),
                            vocabulary,
                        ))
                    }
                    Encoding::Date { missing_flag } => Kind::Date { missing_flag: *missing_flag },
                };
                FeatureEncoder { kind, at }
            })
            .collect();
        Self { features, n_numeric, n_categorical, n_pixels: plan.n_pixels() }
    }

    /// An empty batch of the plan's width.
    pub(crate) fn batch(&self) -> Batch {
        let n_pixels = self.n_pixels;
        Batch { n_pixels, ..Batch::new(self.n_numeric, self.n_categorical) }
    }

    /// Appends `n_rows` rows, given as one array for every feature. A missing image becomes black: whoever asks takes such
    /// rows out.
    pub(crate) fn append<'a>(
        &mut self,
        n_rows: usize,
        columns: impl IntoIterator<Item = &'a ArrayRef>,
        batch: &mut Batch,
    ) {
        let (n_numeric, n_categorical) = (self.n_numeric, self.n_categorical);
        let (numbers, slots) = (batch.numeric.len(), batch.categorical.len());
        batch.n_rows += n_rows;
        batch.numeric.resize(numbers + n_rows * n_numeric, 0.0);
        batch.categorical.resize(slots + n_rows * n_categorical, SLOT_MISSING);
        let mut columns = columns.into_iter();
        for (feature, array) in self.features.iter_mut().zip(&mut columns) {
            let at = feature.at;
            match &mut feature.kind {
                Kind::Numeric { mean, std, missing_flag } => {
                    let rows = &mut batch.numeric[numbers..];
                    numeric(array, *mean, *std, *missing_flag, n_numeric, at, rows);
                }
                Kind::Categorical(known) => {
                    let rows = &mut batch.categorical[slots..];
                    known.each(array, |i, slot| rows[i * n_categorical + at] = slot);
                }
                Kind::Date { missing_flag } => {
                    let rows = &mut batch.numeric[numbers..];
                    dates(array, *missing_flag, n_numeric, at, rows);
                }
            }
        }
        if let Some(array) = columns.next().filter(|_| 0 < self.n_pixels) {
            let images = array.as_fixed_size_binary();
            for i in 0..n_rows {
                match images.is_valid(i) {
                    true => batch.pixels.extend_from_slice(images.value(i)),
                    false => batch.pixels.resize(batch.pixels.len() + self.n_pixels, 0),
                }
            }
        }
    }
}

/// Standardises one column into every `width`-th number of `rows`, from `at` on.
fn numeric(
    array: &ArrayRef,
    mean: f64,
    std: f64,
    missing_flag: bool,
    width: usize,
    at: usize,
    rows: &mut [f32],
) {
    if missing_flag {
        for row in rows.chunks_exact_mut(width) {
            row[at + 1] = 1.0;
        }
    }
    each_number(array, |i, x| {
        if x.is_finite() {
            let row = i * width + at;
            rows[row] = ((x - mean) / std) as f32;
            if missing_flag {
                rows[row + 1] = 0.0;
            }
        }
    });
}

fn dates(array: &ArrayRef, missing_flag: bool, width: usize, at: usize, rows: &mut [f32]) {
    let times = array.as_primitive::<TimestampMillisecondType>();
    // Rows sorted by time repeat the hour before.
    let mut last = (i64::MIN, [0.0; DATE_WIDTH]);
    for (i, row) in rows.chunks_exact_mut(width).enumerate() {
        if times.is_valid(i) {
            let hour = times.value(i).div_euclid(3_600_000);
            if hour != last.0 {
                last = (hour, date_parts(hour));
            }
            row[at..at + DATE_WIDTH].copy_from_slice(&last.1);
        } else if missing_flag {
            row[at + DATE_WIDTH] = 1.0;
        }
    }
}

/// Sine and cosine of month, day of month, day of week and hour, of an hour counted since 1970 (UTC).
fn date_parts(hours: i64) -> [f32; DATE_WIDTH] {
    let (days, hour) = (hours.div_euclid(24), hours.rem_euclid(24));
    let Date { month, day, .. } = date(days);
    // 1970-01-01 was a Thursday; Monday is 0.
    let weekday = (days + 3).rem_euclid(7);
    let mut parts = [0.0; DATE_WIDTH];
    for (part, (value, period)) in
        parts.chunks_exact_mut(2).zip([(month, 12), (day, 31), (weekday, 7), (hour, 24)])
    {
        part.copy_from_slice(&circle(value, period));
    }
    parts
}

/// Sine and cosine of `value` of `period`, from a table.
fn circle(value: i64, period: i64) -> [f32; 2] {
    const LONGEST: usize = 31;
    static TABLE: OnceLock<Vec<[[f32; 2]; LONGEST]>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        (0..=LONGEST)
            .map(|period| {
                std::array::from_fn(|value| {
                    let angle = TAU * value as f64 / period.max(1) as f64;
                    [angle.sin() as f32, angle.cos() as f32]
                })
            })
            .collect()
    });
    let index = |x: i64| usize::try_from(x).expect("parts of a date are small and not negative");
    table[index(period)][index(value)]
}

/// Finds the slot of a value: 0 missing, 1 unknown, from 2 the vocabulary.
pub(crate) struct Slots {
    known: Known,
    /// The dictionary looked up last, and the slots of its texts.
    last: Option<(ArrayRef, Vec<u32>)>,
}

enum Known {
    Bool([u32; 2]),
    Int(FastMap<i64, u32>),
    Float(FastMap<u64, u32>),
    Time(FastMap<i64, u32>),
    Text(FastMap<Box<str>, u32>),
}

impl Slots {
    /// The slots of `vocabulary`, whose texts were written from values of `ty` (a canonical type).
    pub(crate) fn new(ty: &DataType, vocabulary: &[String]) -> Self {
        fn table<K: Eq + std::hash::Hash>(
            vocabulary: &[String],
            parse: impl Fn(&str) -> Option<K>,
        ) -> FastMap<K, u32> {
            vocabulary
                .iter()
                .zip(SLOT_FIRST..)
                .filter_map(|(text, slot)| Some((parse(text)?, slot)))
                .collect()
        }
        let known = match ty {
            DataType::Boolean => {
                let table = table(vocabulary, parse_bool);
                let slot = |value: bool| table.get(&value).copied().unwrap_or(SLOT_UNKNOWN);
                Known::Bool([slot(false), slot(true)])
            }
            DataType::Int64 => Known::Int(table(vocabulary, parse_int)),
            DataType::Float64 => {
                Known::Float(table(vocabulary, |text| parse_float(text).map(float_bits)))
            }
            DataType::Timestamp(..) => Known::Time(table(vocabulary, parse_time)),
            _ => Known::Text(table(vocabulary, |text| Some(text.into()))),
        };
        Self { known, last: None }
    }

    /// Calls `visit` with (row, slot) for every row.
    pub(crate) fn each(&mut self, array: &ArrayRef, mut visit: impl FnMut(usize, u32)) {
        let nulls = array.nulls();
        let mut visit = |i: usize, slot: u32| {
            visit(i, if nulls.is_none_or(|it| it.is_valid(i)) { slot } else { SLOT_MISSING });
        };
        let unknown = |slot: Option<&u32>| slot.copied().unwrap_or(SLOT_UNKNOWN);
        match &self.known {
            Known::Bool(slots) => {
                for (i, value) in array.as_boolean().values().iter().enumerate() {
                    visit(i, slots[usize::from(value)]);
                }
            }
            Known::Int(slots) => {
                for (i, value) in array.as_primitive::<Int64Type>().values().iter().enumerate() {
                    visit(i, unknown(slots.get(value)));
                }
            }
            Known::Time(slots) => {
                let times = array.as_primitive::<TimestampMillisecondType>();
                for (i, value) in times.values().iter().enumerate() {
                    visit(i, unknown(slots.get(value)));
                }
            }
            Known::Float(slots) => {
                for (i, value) in array.as_primitive::<Float64Type>().values().iter().enumerate() {
                    visit(i, unknown(slots.get(&float_bits(*value))));
                }
            }
            Known::Text(slots) => match Texts::of(array) {
                Texts::Plain(values) => {
                    for i in 0..values.len() {
                        visit(i, unknown(slots.get(values.value(i))));
                    }
                }
                Texts::Dictionary { keys, .. } => {
                    let values = array.as_any_dictionary().values();
                    let is_same = |it: &(ArrayRef, Vec<u32>)| std::sync::Arc::ptr_eq(&it.0, values);
                    if !self.last.as_ref().is_some_and(is_same) {
                        let texts = values.as_string::<i32>();
                        let slots =
                            (0..texts.len()).map(|i| unknown(slots.get(texts.value(i)))).collect();
                        self.last = Some((ArrayRef::clone(values), slots));
                    }
                    let by_key = self.last.as_ref().map_or(&[][..], |it| &it.1);
                    for (i, key) in keys.values().iter().enumerate() {
                        // A missing row may hold any key.
                        let slot = usize::try_from(*key).ok().and_then(|it| by_key.get(it));
                        visit(i, unknown(slot));
                    }
                }
            },
        }
    }
}

/// What a label becomes.
pub(crate) enum Labels {
    /// Index of the class.
    Class(Slots),
    /// (y − mean) / std.
    Value {
        /// Mean of the training labels.
        mean: f64,
        /// Their standard deviation.
        std: f64,
    },
}

/// A label's code for a class that the plan does not know.
pub(crate) const CLASS_UNKNOWN: f32 = -1.0;

impl Labels {
    /// Labels of `ty` in the units of `plan`.
    pub(crate) fn new(ty: &DataType, plan: &LabelPlan) -> Self {
        match plan {
            LabelPlan::Binary { classes, .. } | LabelPlan::Multiclass { classes, .. } => {
                Self::Class(Slots::new(ty, classes))
            }
            LabelPlan::Regression { mean, std, .. } => Self::Value { mean: *mean, std: *std },
        }
    }

    /// Appends one number a row: NaN where missing, [`CLASS_UNKNOWN`] for an unknown class.
    pub(crate) fn append(&mut self, array: &ArrayRef, out: &mut Vec<f32>) {
        let from = out.len();
        out.resize(from + array.len(), f32::NAN);
        let out = &mut out[from..];
        match self {
            Self::Class(slots) => slots.each(array, |i, slot| match slot {
                SLOT_MISSING => {}
                SLOT_UNKNOWN => out[i] = CLASS_UNKNOWN,
                known => out[i] = (known - SLOT_FIRST) as f32,
            }),
            Self::Value { mean, std } => each_number(array, |i, y| {
                if y.is_finite() {
                    out[i] = ((y - *mean) / *std) as f32;
                }
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::circle;

    #[test]
    fn circles_close() {
        assert_eq!(circle(0, 12).map(f32::to_bits), [0.0_f32, 1.0].map(f32::to_bits));
        let [sin, cos] = circle(3, 12);
        assert!((sin - 1.0).abs() < 1e-6 && cos.abs() < 1e-6);
        let [_, cos] = circle(12, 24);
        assert!((cos + 1.0).abs() < 1e-6);
    }
}
