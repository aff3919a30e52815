//! Columns as files have them become columns as the schema declares them; values that do not parse are marked.
//!
//! Canonical types: Boolean, Int64, Float64, Timestamp(ms), and text as Utf8 or Dictionary(Int32, Utf8) without
//! missing values inside the dictionary.
//!
//! Reading order: [`Cast`], [`cast`].

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, StringArray,
    TimestampMillisecondArray, UInt32Array, new_null_array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::{CastOptions, cast_with_options, is_not_null, take};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, TimeUnit};
use karat_core::{ColumnType, ImageFormat};

use crate::text::{
    NULL_WORDS, Texts, parse_bool, parse_float, parse_int, parse_time, shorten, shown, value_text,
};

/// A column in its declared type.
#[derive(Clone, Debug)]
pub(crate) struct Cast {
    /// The values; missing where the file has none or one that does not parse.
    pub(crate) array: ArrayRef,
    /// Rows whose value does not parse, if there are any.
    pub(crate) wrong: Option<BooleanBuffer>,
    /// The column as it stands in the file.
    pub(crate) raw: ArrayRef,
    /// How its images were read, where it holds images.
    pub(crate) image: Option<ImageFormat>,
}

impl Cast {
    /// What is wrong with the value of row `i`, as a message shows it: the value, or of an image the reason.
    pub(crate) fn shown(&self, i: usize) -> String {
        let Some(format) = self.image else { return shown(&self.raw, i) };
        let cell = self.raw.as_binary::<i32>().value(i);
        // Once more, because reasons are kept for nobody who does not ask.
        let reason = crate::image::decode(cell, format, &mut Vec::new()).err();
        shorten(&reason.unwrap_or_else(|| "it can be read now".to_owned()))
    }
}

impl Cast {
    /// Height and width of the image of row `i`, which is wrong, where it can be read all the same.
    pub(crate) fn other_size(&self, i: usize) -> Option<(u32, u32)> {
        let cells = self.raw.as_binary_opt::<i32>()?;
        let is_raw = self.image.is_none_or(|it| it.is_raw);
        if is_raw || cells.is_null(i) {
            return None;
        }
        let encoded = crate::image::Encoded::of(cells.value(i)).ok()?;
        let shape = self.image?.shape;
        let size = (encoded.height, encoded.width);
        (size != (shape.height, shape.width)).then_some(size)
    }
}

/// The arrow type of a declared type. Images are fixed-size binary in truth: their size is of the column, not the type.
pub(crate) fn canonical_type(ty: ColumnType) -> DataType {
    match ty {
        ColumnType::Bool => DataType::Boolean,
        ColumnType::Int => DataType::Int64,
        ColumnType::Float => DataType::Float64,
        ColumnType::Text => DataType::Utf8,
        ColumnType::Time => DataType::Timestamp(TimeUnit::Millisecond, None),
        ColumnType::Image => DataType::Binary,
    }
}

/// The declared type that fits an arrow type best; `None` for nested and exotic ones.
pub(crate) fn declared_type(ty: &DataType) -> Option<ColumnType> {
    Some(match ty {
        DataType::Boolean => ColumnType::Bool,
        _ if ty.is_integer() => ColumnType::Int,
        _ if ty.is_floating() || is_decimal(ty) => ColumnType::Float,
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => ColumnType::Time,
        DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::Null => ColumnType::Text,
        DataType::Dictionary(_, value) => declared_type(value)?,
        _ => return None,
    })
}

const fn is_decimal(ty: &DataType) -> bool {
    matches!(
        ty,
        DataType::Decimal32(..)
            | DataType::Decimal64(..)
            | DataType::Decimal128(..)
            | DataType::Decimal256(..)
    )
}

const fn is_binary(ty: &DataType) -> bool {
    matches!(ty, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

/// A column of nothing but missing values.
pub(crate) fn missing(ty: ColumnType, n: usize) -> Cast {
    let array = new_null_array(&canonical_type(ty), n);
    Cast { raw: Arc::clone(&array), array, wrong: None, image: None }
}

/// Casts a raw column; `None` when its type cannot be read at all.
pub(crate) fn cast(raw: &ArrayRef, ty: ColumnType, has_null_words: bool) -> Option<Cast> {
    let array = simplified(raw, has_null_words)?;
    let result = match (array.data_type(), ty) {
        (DataType::Utf8 | DataType::Dictionary(..), ColumnType::Text)
        | (DataType::Boolean, ColumnType::Bool)
        | (DataType::Int64, ColumnType::Int)
        | (DataType::Float64, ColumnType::Float)
        | (DataType::Timestamp(..), ColumnType::Time) => Arc::clone(&array),
        (DataType::Utf8, _) => parsed(array.as_string::<i32>(), ty),
        (DataType::Dictionary(..), _) => {
            // Parse every text once, then look the rows up.
            let dictionary = array.as_dictionary::<Int32Type>();
            let values = parsed(dictionary.values().as_string::<i32>(), ty);
            take(&values, dictionary.keys(), None).ok()?
        }
        (_, ColumnType::Text) => {
            Arc::new((0..array.len()).map(|i| value_text(&array, i)).collect::<StringArray>())
        }
        (DataType::Boolean, ColumnType::Int) => {
            Arc::new(array.as_boolean().iter().map(|it| it.map(i64::from)).collect::<Int64Array>())
        }
        (DataType::Boolean, ColumnType::Float) => Arc::new(
            array
                .as_boolean()
                .iter()
                .map(|it| it.map(|it| f64::from(u8::from(it))))
                .collect::<Float64Array>(),
        ),
        (DataType::Int64, ColumnType::Bool) => Arc::new(
            array
                .as_primitive::<Int64Type>()
                .iter()
                .map(|it| it.and_then(|it| (it == 0 || it == 1).then_some(it == 1)))
                .collect::<BooleanArray>(),
        ),
        (DataType::Int64, ColumnType::Float) => to(&array, &DataType::Float64)?,
        (DataType::Float64, ColumnType::Int) => Arc::new(
            array
                .as_primitive::<Float64Type>()
                .iter()
                .map(|it| it.and_then(whole))
                .collect::<Int64Array>(),
        ),
        (DataType::Float64, ColumnType::Bool) => Arc::new(
            array
                .as_primitive::<Float64Type>()
                .iter()
                .map(|it| it.and_then(whole).and_then(|it| (it == 0 || it == 1).then_some(it == 1)))
                .collect::<BooleanArray>(),
        ),
        // A number is no time: seconds, milliseconds or days would be a guess.
        _ => new_null_array(&canonical_type(ty), array.len()),
    };
    // What was missing before: a null word of a text column counts, a number that overflowed does not.
    let is_text = matches!(array.data_type(), DataType::Utf8 | DataType::Dictionary(..))
        && !matches!(declared_type(raw.data_type()), Some(ColumnType::Text) if is_binary(raw.data_type()));
    let absent = if is_text { array.logical_nulls() } else { raw.logical_nulls() };
    // NaN is how several tools write a missing whole number.
    let is_nan = |i: usize| {
        !matches!(ty, ColumnType::Float)
            && matches!(array.data_type(), DataType::Float64)
            && array.as_primitive::<Float64Type>().value(i).is_nan()
    };
    let valid = result.logical_nulls();
    let n_null = |nulls: &Option<NullBuffer>| nulls.as_ref().map_or(0, NullBuffer::null_count);
    let wrong = if n_null(&valid) == n_null(&absent) {
        None
    } else {
        let wrong = BooleanBuffer::collect_bool(array.len(), |i| {
            valid.as_ref().is_some_and(|it| it.is_null(i))
                && absent.as_ref().is_none_or(|it| it.is_valid(i))
                && !is_nan(i)
        });
        (0 < wrong.count_set_bits()).then_some(wrong)
    };
    Some(Cast { array: result, wrong, raw: Arc::clone(raw), image: None })
}

/// The whole number that a float is, if it is one.
fn whole(x: f64) -> Option<i64> {
    // 2⁶³ as a float; every whole float inside converts exactly.
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    ((-LIMIT..LIMIT).contains(&x) && x.fract().abs() <= 0.0).then_some(x as i64)
}

fn to(array: &ArrayRef, ty: &DataType) -> Option<ArrayRef> {
    let options = CastOptions { safe: true, ..CastOptions::default() };
    cast_with_options(array, ty, &options).ok()
}

/// One of the five canonical forms, or `None` for types that cannot be read.
fn simplified(raw: &ArrayRef, has_null_words: bool) -> Option<ArrayRef> {
    let text_dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let array = match raw.data_type() {
        DataType::Boolean | DataType::Int64 | DataType::Float64 | DataType::Utf8 => Arc::clone(raw),
        DataType::Dictionary(_, value) => {
            if !matches!(declared_type(value)?, ColumnType::Text) {
                return simplified(&to(raw, value)?, has_null_words);
            }
            let array = if *raw.data_type() == text_dictionary {
                Arc::clone(raw)
            } else {
                to(raw, &text_dictionary)?
            };
            // A dictionary with a missing value inside has two ways to say "missing"; one is enough.
            if array.as_dictionary::<Int32Type>().values().null_count() == 0 {
                array
            } else {
                to(&array, &DataType::Utf8)?
            }
        }
        ty => match declared_type(ty)? {
            ColumnType::Text => to(raw, &DataType::Utf8)?,
            // An unsigned number above i64::MAX is missing here; the caller sees that it was not.
            ColumnType::Int => to(raw, &DataType::Int64)?,
            ColumnType::Float => to(raw, &DataType::Float64)?,
            ColumnType::Time => to(raw, &DataType::Timestamp(TimeUnit::Millisecond, None))?,
            ColumnType::Bool | ColumnType::Image => Arc::clone(raw),
        },
    };
    Some(if has_null_words && matches!(array.data_type(), DataType::Utf8) {
        without_null_words(&array)
    } else {
        array
    })
}

fn without_null_words(array: &ArrayRef) -> ArrayRef {
    let texts = array.as_string::<i32>();
    let is_null_word = |i: usize| {
        let text = texts.value(i);
        text.len() <= 4 && NULL_WORDS.contains(&text)
    };
    let valid = BooleanBuffer::collect_bool(texts.len(), |i| texts.is_valid(i) && !is_null_word(i));
    if valid.count_set_bits() == texts.len() - texts.null_count() {
        return Arc::clone(array);
    }
    Arc::new(StringArray::new(
        texts.offsets().clone(),
        texts.values().clone(),
        Some(NullBuffer::new(valid)),
    ))
}

fn parsed(texts: &StringArray, ty: ColumnType) -> ArrayRef {
    match ty {
        ColumnType::Bool => {
            Arc::new(texts.iter().map(|it| it.and_then(parse_bool)).collect::<BooleanArray>())
        }
        ColumnType::Int => {
            Arc::new(texts.iter().map(|it| it.and_then(parse_int)).collect::<Int64Array>())
        }
        ColumnType::Float => {
            Arc::new(texts.iter().map(|it| it.and_then(parse_float)).collect::<Float64Array>())
        }
        ColumnType::Time => Arc::new(
            texts.iter().map(|it| it.and_then(parse_time)).collect::<TimestampMillisecondArray>(),
        ),
        ColumnType::Text => Arc::new(texts.clone()),
        ColumnType::Image => new_null_array(&canonical_type(ty), texts.len()),
    }
}

/// A text column in its plain form.
pub(crate) fn plain_text(array: &ArrayRef) -> ArrayRef {
    match Texts::of(array) {
        Texts::Plain(_) => Arc::clone(array),
        Texts::Dictionary { keys, values } => {
            take(values, keys, None).expect("keys of a dictionary lie inside it")
        }
    }
}

/// Joins pieces of one column. Dictionaries that differ are written out.
pub(crate) fn joined(pieces: &[ArrayRef]) -> ArrayRef {
    if let [one] = pieces {
        return Arc::clone(one);
    }
    let same =
        |a: &ArrayRef, b: &ArrayRef| match (a.as_any_dictionary_opt(), b.as_any_dictionary_opt()) {
            (Some(a), Some(b)) => Arc::ptr_eq(a.values(), b.values()),
            (None, None) => true,
            _ => false,
        };
    let is_text = matches!(pieces[0].data_type(), DataType::Utf8 | DataType::Dictionary(..));
    if is_text && pieces.windows(2).any(|pair| !same(&pair[0], &pair[1])) {
        let plain: Vec<ArrayRef> = pieces.iter().map(plain_text).collect();
        return joined(&plain);
    }
    let pieces: Vec<&dyn Array> = pieces.iter().map(AsRef::as_ref).collect();
    arrow::compute::concat(&pieces).expect("pieces of one column have one type")
}

/// The rows at `at`, in that order.
pub(crate) fn taken(array: &ArrayRef, at: &UInt32Array) -> ArrayRef {
    take(array, at, None).expect("rows lie inside the column")
}

/// Rows with a value; for numbers, a finite one.
pub(crate) fn present(array: &ArrayRef) -> BooleanBuffer {
    if let DataType::Float64 = array.data_type() {
        let floats = array.as_primitive::<Float64Type>();
        return BooleanBuffer::collect_bool(floats.len(), |i| {
            floats.is_valid(i) && floats.value(i).is_finite()
        });
    }
    is_not_null(array).expect("every array can be asked").values().clone()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        Array, ArrayRef, BooleanArray, Date32Array, DictionaryArray, Float64Array, Int64Array,
        StringArray, UInt64Array,
    };
    use arrow::datatypes::Int32Type;
    use karat_core::ColumnType;

    use super::{cast, joined};
    use crate::text::value_text;

    /// Values as text, `-` missing, `!` wrong.
    fn check(raw: ArrayRef, ty: ColumnType, has_null_words: bool, expected: &str) {
        let cast = cast(&raw, ty, has_null_words).expect("a readable type");
        let shown: Vec<String> = (0..raw.len())
            .map(|i| match value_text(&cast.array, i) {
                Some(text) => text,
                None if cast.wrong.as_ref().is_some_and(|it| it.value(i)) => "!".to_owned(),
                None => "-".to_owned(),
            })
            .collect();
        assert_eq!(shown.join(" "), expected, "{ty:?} from {:?}", raw.data_type());
    }

    #[test]
    fn what_does_not_parse_is_wrong_and_what_is_not_there_is_missing() {
        let text: ArrayRef =
            Arc::new(StringArray::from(vec![Some("1"), Some("NA"), Some("x"), Some("2.5"), None]));
        check(Arc::clone(&text), ColumnType::Int, true, "1 - ! ! -");
        check(Arc::clone(&text), ColumnType::Float, true, "1 - ! 2.5 -");
        check(Arc::clone(&text), ColumnType::Text, true, "1 - x 2.5 -");
        check(Arc::clone(&text), ColumnType::Text, false, "1 NA x 2.5 -");
        check(text, ColumnType::Bool, false, "true ! ! ! -");
        let floats: ArrayRef =
            Arc::new(Float64Array::from(vec![Some(1.0), Some(1.5), Some(f64::NAN), None]));
        check(Arc::clone(&floats), ColumnType::Int, false, "1 ! - -");
        check(floats, ColumnType::Time, false, "! ! - -");
        let ints: ArrayRef = Arc::new(Int64Array::from(vec![Some(0), Some(2), None]));
        check(Arc::clone(&ints), ColumnType::Bool, false, "false ! -");
        check(ints, ColumnType::Text, false, "0 2 -");
        check(Arc::new(BooleanArray::from(vec![Some(true), None])), ColumnType::Int, false, "1 -");
        let days: ArrayRef = Arc::new(Date32Array::from(vec![15_887]));
        check(days, ColumnType::Time, false, "2013-07-01T00:00:00Z");
    }

    #[test]
    fn numbers_that_do_not_fit_are_wrong() {
        let large: ArrayRef = Arc::new(UInt64Array::from(vec![Some(1), Some(u64::MAX), None]));
        check(large, ColumnType::Int, false, "1 ! -");
    }

    #[test]
    fn dictionaries_parse_and_join_like_plain_text() {
        let a: DictionaryArray<Int32Type> =
            vec![Some("1"), Some("x"), None, Some("1")].into_iter().collect();
        let a: ArrayRef = Arc::new(a);
        check(Arc::clone(&a), ColumnType::Int, false, "1 ! - 1");
        let b: ArrayRef = Arc::new(StringArray::from(vec!["y"]));
        let both = joined(&[a, b]);
        let texts: Vec<Option<String>> = (0..5).map(|i| value_text(&both, i)).collect();
        assert_eq!(
            texts.iter().map(|it| it.as_deref().unwrap_or("-")).collect::<String>(),
            "1x-1y"
        );
    }
}
