//! Values as text and text as values: the one place that says how a value is written in a vocabulary, a class name, a
//! slice, a key or a message, and which words of a CSV file mean "missing".
//!
//! Reading order: [`write_value`], [`Texts`], [`parse_bool`] and its neighbours.

use std::fmt::Write as _;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, StringArray};
use arrow::compute::kernels::cast_utils::Parser;
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, TimestampMillisecondType};
use karat_core::Timestamp;

use crate::calendar::{Date, date, day};

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
        DataType::FixedSizeBinary(_) => {
            // An image is named by what is in it; the hash is part of the disk contract (see `split`).
            let pixels = array.as_fixed_size_binary().value(i);
            let _ = write!(out, "{:016x}", twox_hash::XxHash64::oneshot(0, pixels));
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
    let at = date(ms.div_euclid(86_400_000));
    if !(0..=9999).contains(&at.year) {
        let _ = write!(out, "{}", Timestamp(ms));
        return;
    }
    // Digit by digit and not by a formatter: this writes a part of the key of every labelled row.
    let mut digits = |before: &str, value: i64, n: u32| {
        out.push_str(before);
        for place in (0..n).rev() {
            let digit = value / 10_i64.pow(place) % 10;
            out.push(char::from(b"0123456789"[usize::try_from(digit).unwrap_or(0)]));
        }
    };
    let in_day = ms.rem_euclid(86_400_000);
    digits("", at.year, 4);
    digits("-", at.month + 1, 2);
    digits("-", at.day + 1, 2);
    digits("T", in_day / 3_600_000, 2);
    digits(":", in_day / 60_000 % 60, 2);
    digits(":", in_day / 1_000 % 60, 2);
    if in_day % 1_000 != 0 {
        digits(".", in_day % 1_000, 3);
    }
    out.push('Z');
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
    // The parser counts nanoseconds, which end in the year 2262: 9999-12-31 is beyond its reach.
    plain_time(text.as_bytes()).or_else(|| <TimestampMillisecondType as Parser>::parse(text))
}

/// `2013-07-01`, `2013-07-01 05:00`, `2013-07-01T05:00:00.25+02:00`: what nearly all files hold.
fn plain_time(text: &[u8]) -> Option<i64> {
    const MINUTE: i64 = 60_000;
    let (date, rest) = text.split_at_checked(10)?;
    if date[4] != b'-' || date[7] != b'-' {
        return None;
    }
    let part = |from: usize, to: usize| digits(&date[from..to]);
    let (year, month, day_of_month) = (part(0, 4)?, part(5, 7)?, part(8, 10)?);
    let date = Date { year, month: month - 1, day: day_of_month - 1 };
    let mut ms = day(date)? * 24 * 60 * MINUTE;
    let [b'T' | b't' | b' ', rest @ ..] = rest else {
        return rest.is_empty().then_some(ms);
    };
    let mut rest = rest;
    for (at, (unit, limit)) in
        [(60 * MINUTE, 24), (MINUTE, 60), (1_000, 60)].into_iter().enumerate()
    {
        if 0 < at {
            match rest {
                [b':', after @ ..] => rest = after,
                // Seconds may be left out.
                _ if at == 2 => break,
                _ => return None,
            }
        }
        let (value, after) = rest.split_at_checked(2)?;
        ms += digits(value).filter(|it| *it < limit)? * unit;
        rest = after;
    }
    if let [b'.', after @ ..] = rest {
        let n = after.iter().take_while(|it| it.is_ascii_digit()).count();
        let (fraction, after) = after.split_at_checked(n)?;
        // Milliseconds; what is finer is cut off.
        let places = fraction.len().min(3);
        ms += digits(&fraction[..places])? * 10_i64.pow(3 - u32::try_from(places).ok()?);
        rest = after;
    }
    match rest {
        [] | [b'Z' | b'z'] => Some(ms),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let zone = digits(&[*h1, *h2])? * 60 + digits(&[*m1, *m2])?;
            Some(if *sign == b'+' { ms - zone * MINUTE } else { ms + zone * MINUTE })
        }
        _ => None,
    }
}

/// A short number of digits only.
fn digits(text: &[u8]) -> Option<i64> {
    let mut value = 0;
    for byte in text {
        value = value * 10 + i64::from(byte.is_ascii_digit().then(|| byte - b'0')?);
    }
    (!text.is_empty()).then_some(value)
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
            ("2013-07-01 05:06", "2013-07-01T05:06:00Z"),
            ("2013-07-01t05:06:07.5-03:30", "2013-07-01T08:36:07.500Z"),
            ("2013-07-01 05:06:07.123456789", "2013-07-01T05:06:07.123Z"),
            ("1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999Z"),
            ("0001-01-01", "0001-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
        ] {
            let mut out = String::new();
            write_time(parse_time(text).expect(text), &mut out);
            assert_eq!(out, shown);
        }
        for text in [
            "July 2013, the first",
            "2013-02-29",
            "2013-13-01",
            "2013-07-01T24:00:00",
            "2013-07-01 05",
            "2013-07-01 05:00:00.",
            "2013-07-01x",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
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
