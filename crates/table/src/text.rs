//! Values as text and text as values: the one place that says how a value is written in a vocabulary, a class name, a
//! slice, a key or a message, and which words of a CSV file mean "missing".
//!
//! Reading order: [`write_value`], [`Texts`], [`parse_bool`] and its neighbours.

use std::fmt::Write as _;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, StringArray};
use arrow::compute::kernels::cast_utils::Parser;
use arrow::datatypes::{
    DataType, Float64Type, Int32Type, Int64Type, TimestampMillisecondType,
};
use karat_core::Timestamp;

/// Fields of a CSV file that mean "missing". Other formats have a missing value of their own.
pub(crate) const NULL_WORDS: [&str; 9] =
    ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "<NA>"];

/// Most characters of a value that a message shows.
pub(crate) const SHOWN_MAX: usize = 80;

/// A text column in either of its two forms.
pub(crate) enum Texts<'a> {
    /// One text a row.
    Plain(&'a StringArray),
    /// One key a row into distinct texts, none of which is missing.
    Dictionary {
        /// Key of each row.
        keys: &'a Int32Array,
        /// The texts.
        values: &'a StringArray,
    },
}

impl<'a> Texts<'a> {
    /// Views a canonical text column.
    pub(crate) fn of(array: &'a ArrayRef) -> Self {
        match array.data_type() {
            DataType::Dictionary(..) => {
                let dictionary = array.as_dictionary::<Int32Type>();
                Self::Dictionary {
                    keys: dictionary.keys(),
                    values: dictionary.values().as_string::<i32>(),
                }
            }
            _ => Self::Plain(array.as_string::<i32>()),
        }
    }

    /// The text of row `i`.
    pub(crate) fn get(&self, i: usize) -> Option<&'a str> {
        match self {
            Self::Plain(values) => values.is_valid(i).then(|| values.value(i)),
            Self::Dictionary { keys, values } => keys
                .is_valid(i)
                .then(|| values.value(usize::try_from(keys.value(i)).expect("a valid key"))),
        }
    }
}

/// Appends row `i` of a canonical array to `out`; false, and nothing written, where it is missing.
pub(crate) fn write_value(array: &ArrayRef, i: usize, out: &mut String) -> bool {
    if let DataType::Dictionary(..) | DataType::Utf8 = array.data_type() {
        return match Texts::of(array).get(i) {
            Some(text) => {
                out.push_str(text);
                true
            }
            None => false,
        };
    }
    if array.is_null(i) {
        return false;
    }
    match array.data_type() {
        DataType::Boolean => out.push_str(bool_text(array.as_boolean().value(i))),
        DataType::Int64 => {
            let _ = write!(out, "{}", array.as_primitive::<Int64Type>().value(i));
        }
        DataType::Float64 => write_float(array.as_primitive::<Float64Type>().value(i), out),
        DataType::Timestamp(..) => {
            write_time(array.as_primitive::<TimestampMillisecondType>().value(i), out);
        }
        other => {
            // Raw columns of other types reach this only to be shown in a message.
            match arrow::util::display::array_value_to_string(array, i) {
                Ok(text) => out.push_str(&text),
                Err(_) => {
                    let _ = write!(out, "({other})");
                }
            }
        }
    }
    true
}

/// Row `i` as text.
pub(crate) fn value_text(array: &ArrayRef, i: usize) -> Option<String> {
    let mut out = String::new();
    write_value(array, i, &mut out).then_some(out)
}

/// Row `i` as a message shows it.
pub(crate) fn shown(array: &ArrayRef, i: usize) -> String {
    shorten(&value_text(array, i).unwrap_or_default())
}

/// At most [`SHOWN_MAX`] characters.
pub(crate) fn shorten(text: &str) -> String {
    text.chars().take(SHOWN_MAX).collect()
}

/// `true` or `false`.
pub(crate) const fn bool_text(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

/// The shortest text that reads back as the same number: `1`, `0.25`.
pub(crate) fn write_float(value: f64, out: &mut String) {
    let _ = write!(out, "{}", value + 0.0);
}

/// RFC 3339 in UTC; milliseconds only where there are any.
pub(crate) fn write_time(ms: i64, out: &mut String) {
    let _ = write!(out, "{}", Timestamp(ms));
    let rest = ms.rem_euclid(1000);
    if rest != 0 && out.ends_with('Z') {
        out.pop();
        let _ = write!(out, ".{rest:03}Z");
    }
}

/// `true` and `false` in any case, `1` and `0`.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" => Some(true),
        "0" => Some(false),
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// A whole number.
pub(crate) fn parse_int(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    // Short numbers cannot overflow and are nearly all there are.
    if digits.is_empty() || 18 < digits.len() {
        return text.parse().ok();
    }
    let mut value = 0_i64;
    for byte in digits.bytes() {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(byte - b'0');
    }
    Some(if text.starts_with('-') { -value } else { value })
}

/// A number, `inf` and `-inf` too.
pub(crate) fn parse_float(text: &str) -> Option<f64> {
    text.parse().ok()
}

/// A date or a time in milliseconds; UTC where the text names no zone.
pub(crate) fn parse_time(text: &str) -> Option<i64> {
    // Shorter text is never a date, and the parser is slow to say so.
    if text.len() < 10 {
        return None;
    }
    <TimestampMillisecondType as Parser>::parse(text)
}

#[cfg(test)]
mod tests {
    use super::{parse_bool, parse_float, parse_int, parse_time, write_float, write_time};

    #[test]
    fn numbers_parse_whole_or_not_at_all() {
        for (text, value) in [
            ("0", Some(0)),
            ("-17", Some(-17)),
            ("+5", Some(5)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("", None),
            ("-", None),
            ("1.0", None),
            ("1 ", None),
        ] {
            assert_eq!(parse_int(text), value, "{text}");
        }
        assert_eq!(parse_float("1e-3").map(f64::to_bits), Some(0.001_f64.to_bits()));
        assert_eq!(parse_float("one").map(f64::to_bits), None);
        assert_eq!(parse_bool("TRUE"), Some(true));
        assert_eq!(parse_bool("yes"), None);
    }

    #[test]
    fn times_parse_and_print_in_utc() {
        for (text, shown) in [
            ("2013-07-01", "2013-07-01T00:00:00Z"),
            ("2013-07-01 05:06:07", "2013-07-01T05:06:07Z"),
            ("2013-07-01T05:00:00+02:00", "2013-07-01T03:00:00Z"),
            ("2013-07-01T05:00:00.250Z", "2013-07-01T05:00:00.250Z"),
            ("1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999Z"),
        ] {
            let mut out = String::new();
            write_time(parse_time(text).expect(text), &mut out);
            assert_eq!(out, shown);
        }
        assert_eq!(parse_time("July 2013, the first"), None);
    }

    #[test]
    fn floats_print_shortest() {
        for (value, text) in [(1.0, "1"), (-0.0, "0"), (0.1, "0.1"), (f64::NAN, "NaN")] {
            let mut out = String::new();
            write_float(value, &mut out);
            assert_eq!(out, text);
        }
    }
}
