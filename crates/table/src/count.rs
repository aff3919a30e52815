//! Counting values and their moments, in row order: the same bits for any number of threads.
//!
//! Reading order: [`Counter`], [`Moments`].

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampMillisecondType};

use crate::{
    hash::{FastMap, float_bits},
    text::{Texts, bool_text, write_float, write_time},
};

/// How often every value of a column occurs, exact up to a number of distinct values.
///
/// Above it the values known by then are counted on, so counts stay true and only the number of values becomes a
/// lower bound. Missing values and NaN are not counted.
#[derive(Clone, Debug)]
pub(crate) struct Counter {
    counts: Counts,
    n_max: usize,
    is_exact: bool,
}

#[derive(Clone, Debug)]
enum Counts {
    Bool([u64; 2]),
    Int(FastMap<i64, u64>),
    Float(FastMap<u64, u64>),
    Time(FastMap<i64, u64>),
    Text(FastMap<Box<str>, u64>),
}

impl Counter {
    /// Counts values of `ty` (a canonical type), at most `n_max` different ones.
    pub(crate) fn new(ty: &DataType, n_max: usize) -> Self {
        let counts = match ty {
            DataType::Boolean => Counts::Bool([0; 2]),
            DataType::Int64 => Counts::Int(FastMap::default()),
            DataType::Float64 => Counts::Float(FastMap::default()),
            DataType::Timestamp(..) => Counts::Time(FastMap::default()),
            _ => Counts::Text(FastMap::default()),
        };
        Self { counts, n_max, is_exact: true }
    }

    /// Counts the values of `array`.
    pub(crate) fn update(&mut self, array: &ArrayRef) {
        let (n_max, is_exact) = (self.n_max, &mut self.is_exact);
        match &mut self.counts {
            Counts::Bool(counts) => {
                let values = array.as_boolean();
                let n_true = values.true_count() as u64;
                counts[1] += n_true;
                counts[0] += (values.len() - values.null_count()) as u64 - n_true;
            }
            Counts::Int(counts) => {
                for value in array.as_primitive::<Int64Type>().iter().flatten() {
                    *is_exact &= add(counts, value, 1, n_max);
                }
            }
            Counts::Time(counts) => {
                for value in array.as_primitive::<TimestampMillisecondType>().iter().flatten() {
                    *is_exact &= add(counts, value, 1, n_max);
                }
            }
            Counts::Float(counts) => {
                for value in array.as_primitive::<Float64Type>().iter().flatten() {
                    if !value.is_nan() {
                        *is_exact &= add(counts, float_bits(value), 1, n_max);
                    }
                }
            }
            Counts::Text(counts) => match Texts::of(array) {
                Texts::Plain(values) => {
                    for text in values.iter().flatten() {
                        *is_exact &= add_text(counts, text, 1, n_max);
                    }
                }
                Texts::Dictionary { keys, values } => {
                    // Count keys first: texts are hashed once a batch, not once a row.
                    let mut by_key = vec![0_u64; values.len()];
                    for key in keys.iter().flatten() {
                        by_key[usize::try_from(key).expect("a valid key")] += 1;
                    }
                    for (i, n) in by_key.into_iter().enumerate() {
                        if 0 < n {
                            *is_exact &= add_text(counts, values.value(i), n, n_max);
                        }
                    }
                }
            },
        }
    }

    /// Whether arrays of `ty` can be counted here.
    pub(crate) const fn counts_like(&self, ty: &DataType) -> bool {
        matches!(
            (&self.counts, ty),
            (Counts::Bool(_), DataType::Boolean)
                | (Counts::Int(_), DataType::Int64)
                | (Counts::Float(_), DataType::Float64)
                | (Counts::Time(_), DataType::Timestamp(..))
                | (Counts::Text(_), DataType::Utf8 | DataType::Dictionary(..))
        )
    }

    /// Distinct values seen; a lower bound unless [`Counter::is_exact`].
    pub(crate) fn n_distinct(&self) -> usize {
        match &self.counts {
            Counts::Bool(counts) => counts.iter().filter(|it| 0 < **it).count(),
            Counts::Int(counts) | Counts::Time(counts) => counts.len(),
            Counts::Float(counts) => counts.len(),
            Counts::Text(counts) => counts.len(),
        }
    }

    /// Whether every value was counted.
    pub(crate) const fn is_exact(&self) -> bool {
        self.is_exact
    }

    /// Values as text with their counts, in text order.
    pub(crate) fn texts(&self) -> Vec<(String, u64)> {
        let mut texts: Vec<(String, u64)> = match &self.counts {
            Counts::Bool(counts) => [false, true]
                .into_iter()
                .zip(counts)
                .filter(|(_, n)| 0 < **n)
                .map(|(value, n)| (bool_text(value).to_owned(), *n))
                .collect(),
            Counts::Int(counts) => counts.iter().map(|(x, n)| (x.to_string(), *n)).collect(),
            Counts::Time(counts) => {
                counts.iter().map(|(x, n)| (written(|out| write_time(*x, out)), *n)).collect()
            }
            Counts::Float(counts) => counts
                .iter()
                .map(|(x, n)| (written(|out| write_float(f64::from_bits(*x), out)), *n))
                .collect(),
            Counts::Text(counts) => counts.iter().map(|(x, n)| (x.to_string(), *n)).collect(),
        };
        texts.sort_unstable();
        texts
    }

    /// The commonest values, commonest first, ties in text order.
    pub(crate) fn top(&self, n: usize) -> Vec<(String, u64)> {
        // Texts of a hundred thousand numbers are not needed to find the ten commonest.
        let mut counts: Vec<u64> = match &self.counts {
            Counts::Bool(counts) => counts.to_vec(),
            Counts::Int(counts) | Counts::Time(counts) => counts.values().copied().collect(),
            Counts::Float(counts) => counts.values().copied().collect(),
            Counts::Text(counts) => counts.values().copied().collect(),
        };
        let least = if counts.len() <= n {
            0
        } else {
            let at = counts.len() - n;
            *counts.select_nth_unstable(at).1
        };
        let mut top = self.filtered(least).texts();
        top.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        top.truncate(n);
        top
    }

    fn filtered(&self, least: u64) -> Self {
        fn keep<K: Clone + Eq + std::hash::Hash>(
            counts: &FastMap<K, u64>,
            least: u64,
        ) -> FastMap<K, u64> {
            counts.iter().filter(|(_, n)| least <= **n).map(|(k, n)| (k.clone(), *n)).collect()
        }
        let counts = match &self.counts {
            Counts::Bool(counts) => Counts::Bool(*counts),
            Counts::Int(counts) => Counts::Int(keep(counts, least)),
            Counts::Time(counts) => Counts::Time(keep(counts, least)),
            Counts::Float(counts) => Counts::Float(keep(counts, least)),
            Counts::Text(counts) => Counts::Text(keep(counts, least)),
        };
        Self { counts, n_max: self.n_max, is_exact: self.is_exact }
    }
}

fn written(write: impl FnOnce(&mut String)) -> String {
    let mut out = String::new();
    write(&mut out);
    out
}

/// Adds to a value's count; false when there was no room for a new value.
#[inline]
fn add<K: Eq + std::hash::Hash>(
    counts: &mut FastMap<K, u64>,
    key: K,
    n: u64,
    n_max: usize,
) -> bool {
    if let Some(count) = counts.get_mut(&key) {
        *count += n;
        return true;
    }
    if counts.len() < n_max {
        counts.insert(key, n);
        return true;
    }
    false
}

#[inline]
fn add_text(counts: &mut FastMap<Box<str>, u64>, text: &str, n: u64, n_max: usize) -> bool {
    if let Some(count) = counts.get_mut(text) {
        *count += n;
        return true;
    }
    if counts.len() < n_max {
        counts.insert(text.into(), n);
        return true;
    }
    false
}

/// Count, mean, spread and range of the finite values, by Welford's update in row order.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Moments {
    /// Finite values.
    pub(crate) n: u64,
    /// NaN and infinities.
    pub(crate) n_not_finite: u64,
    mean: f64,
    squares: f64,
    range: Option<(f64, f64)>,
}

impl Moments {
    /// Adds the values of a canonical array; text has none.
    pub(crate) fn update(&mut self, array: &ArrayRef) {
        each_number(array, |_, x| self.add(x));
    }

    /// Adds one value.
    #[inline]
    pub(crate) fn add(&mut self, x: f64) {
        if !x.is_finite() {
            self.n_not_finite += 1;
            return;
        }
        self.n += 1;
        let change = x - self.mean;
        self.mean += change / self.n as f64;
        self.squares += change * (x - self.mean);
        self.range = Some(match self.range {
            None => (x, x),
            Some((min, max)) => (min.min(x), max.max(x)),
        });
    }

    /// Mean of the finite values.
    pub(crate) fn mean(&self) -> Option<f64> {
        (0 < self.n).then_some(self.mean)
    }

    /// Population standard deviation of the finite values.
    pub(crate) fn std(&self) -> Option<f64> {
        (0 < self.n).then(|| (self.squares / self.n as f64).max(0.0).sqrt())
    }

    /// Smallest and largest finite value.
    pub(crate) const fn range(&self) -> Option<(f64, f64)> {
        self.range
    }
}

/// Calls `visit` with (row, number) for every row of a numeric column that has a value: booleans as 0 and 1, times in
/// milliseconds, NaN and infinities too.
pub(crate) fn each_number(array: &ArrayRef, mut visit: impl FnMut(usize, f64)) {
    let nulls = array.nulls();
    let is_valid = |i: usize| nulls.is_none_or(|it| it.is_valid(i));
    match array.data_type() {
        DataType::Boolean => {
            for (i, x) in array.as_boolean().values().iter().enumerate() {
                if is_valid(i) {
                    visit(i, f64::from(u8::from(x)));
                }
            }
        }
        DataType::Int64 => {
            for (i, x) in array.as_primitive::<Int64Type>().values().iter().enumerate() {
                if is_valid(i) {
                    visit(i, *x as f64);
                }
            }
        }
        DataType::Float64 => {
            for (i, x) in array.as_primitive::<Float64Type>().values().iter().enumerate() {
                if is_valid(i) {
                    visit(i, *x);
                }
            }
        }
        DataType::Timestamp(..) => {
            for (i, x) in
                array.as_primitive::<TimestampMillisecondType>().values().iter().enumerate()
            {
                if is_valid(i) {
                    visit(i, *x as f64);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
    use arrow::datatypes::DataType;

    use super::{Counter, Moments};

    #[test]
    fn commonest_come_first_and_ties_in_text_order() {
        let array: ArrayRef =
            Arc::new(StringArray::from(vec![Some("b"), Some("a"), None, Some("c"), Some("c")]));
        let mut counter = Counter::new(&DataType::Utf8, 10);
        counter.update(&array);
        let top: Vec<String> =
            counter.top(2).into_iter().map(|(text, n)| format!("{text}{n}")).collect();
        assert_eq!(top, ["c2", "a1"]);
        assert!(counter.is_exact());
        assert_eq!(counter.n_distinct(), 3);
    }

    #[test]
    fn beyond_the_limit_known_values_are_still_counted() {
        let array: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 1, 1]));
        let mut counter = Counter::new(&DataType::Int64, 2);
        counter.update(&array);
        assert!(!counter.is_exact());
        assert_eq!(counter.texts(), [("1".to_owned(), 3), ("2".to_owned(), 1)]);
    }

    #[test]
    fn moments_of_the_finite_values() {
        let array: ArrayRef =
            Arc::new(Float64Array::from(vec![Some(1.0), None, Some(f64::NAN), Some(3.0)]));
        let mut moments = Moments::default();
        moments.update(&array);
        assert_eq!((moments.n, moments.n_not_finite), (2, 1));
        assert_eq!(moments.mean().map(f64::to_bits), Some(2.0_f64.to_bits()));
        assert_eq!(moments.std().map(f64::to_bits), Some(1.0_f64.to_bits()));
        assert_eq!(
            moments.range().map(|(a, b)| (a.to_bits(), b.to_bits())),
            Some((1.0_f64.to_bits(), 3.0_f64.to_bits()))
        );
    }
}
