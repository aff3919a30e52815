//! How numbers look, the same in every report and on the closing screen.
//!
//! Metrics keep four decimals, because intervals on holdouts of the usual size differ in the third; larger values get
//! thousands separators, very small ones four significant digits.

use karat_core::thousands;

/// Above this an `f64` no longer holds every whole number, so digits would be invented.
const WHOLE_MAX: f64 = 1e15;

/// A metric, a loss or a probability: `0.6912`, `12,345.7`, `3.120e-5`.
#[must_use]
pub fn metric(value: f64) -> String {
    let size = value.abs();
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if 0.0 < value { "infinity".to_owned() } else { "-infinity".to_owned() }
    } else if size == 0.0 {
        "0.0000".to_owned()
    } else if !(0.000_05..WHOLE_MAX).contains(&size) {
        format!("{value:.3e}")
    } else if size < 1000.0 {
        format!("{value:.4}")
    } else {
        grouped(value, 1)
    }
}

/// A difference, with its sign: `+0.0123`, `-0.0040`, `0.0000`.
#[must_use]
pub fn signed(value: f64) -> String {
    let text = metric(value);
    if 0.0 < value { format!("+{text}") } else { text }
}

/// `0.6871 to 0.6953`.
#[must_use]
pub fn interval([low, high]: [f64; 2]) -> String {
    format!("{} to {}", metric(low), metric(high))
}

/// `-0.0130 to +0.0050`.
#[must_use]
pub fn signed_interval([low, high]: [f64; 2]) -> String {
    format!("{} to {}", signed(low), signed(high))
}

/// Any number whose kind is not known: whole ones as counts, the rest as metrics.
#[must_use]
pub fn value(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < WHOLE_MAX { grouped(value, 0) } else { metric(value) }
}

/// Any difference whose kind is not known, with its sign: `+1,204`, `-0.0040`.
#[must_use]
pub fn signed_value(number: f64) -> String {
    let text = value(number);
    if 0.0 < number { format!("+{text}") } else { text }
}

/// A share as percent, with at most two decimals: `90 %`, `0.06 %`.
#[must_use]
pub fn percent(share: f64) -> String {
    let text = format!("{:.2}", share * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// A duration: `3.1 s`, `12 min 4 s`, `2 h 3 min`.
#[must_use]
pub fn seconds(seconds: f64) -> String {
    let whole = seconds.round();
    if !(0.0..WHOLE_MAX).contains(&whole) {
        return format!("{} s", metric(seconds));
    }
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let minutes = (whole / 60.0).floor();
    if minutes < 60.0 {
        return format!("{minutes} min {} s", whole % 60.0);
    }
    format!("{} h {} min", grouped((minutes / 60.0).floor(), 0), minutes % 60.0)
}

/// For machines that compare text: six significant digits, so that noise in the last bits is not shown as a change.
/// Whole numbers are counts and stay exact.
pub(crate) fn machine(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < WHOLE_MAX {
        return format!("{value:.0}");
    }
    let rounded: f64 = format!("{value:.5e}").parse().unwrap_or(value);
    format!("{rounded:?}")
}

/// Thousands separators and `n_decimals` decimals. `value` is finite and below [`WHOLE_MAX`].
fn grouped(value: f64, n_decimals: usize) -> String {
    let text = format!("{:.n_decimals$}", value.abs());
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let whole = whole.parse().map_or_else(|_| whole.to_owned(), thousands);
    let sign = if value < 0.0 { "-" } else { "" };
    format!("{sign}{whole}{rest}")
}

#[cfg(test)]
mod tests {
    use super::{
        interval, machine, metric, percent, seconds, signed, signed_interval, signed_value, value,
    };

    #[test]
    fn metrics_keep_four_decimals_and_never_a_negative_zero() {
        let cases = [
            (0.691_234, "0.6912"),
            (-0.004, "-0.0040"),
            (0.0, "0.0000"),
            (-0.0, "0.0000"),
            (999.999_96, "1000.0000"),
            (12_345.67, "12,345.7"),
            (-1_234_567.0, "-1,234,567.0"),
            (0.000_2, "0.0002"),
            (0.000_031_2, "3.120e-5"),
            (1e300, "1.000e300"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-infinity"),
        ];
        for (number, text) in cases {
            assert_eq!(metric(number), text);
        }
    }

    #[test]
    fn differences_carry_their_sign() {
        assert_eq!([0.0123, -0.004, 0.0].map(signed), ["+0.0123", "-0.0040", "0.0000"]);
        assert_eq!([1_204.0, -3.0, 0.0].map(signed_value), ["+1,204", "-3", "0"]);
        assert_eq!(signed_interval([-0.013, 0.005]), "-0.0130 to +0.0050");
        assert_eq!(interval([0.5, f64::INFINITY]), "0.5000 to infinity");
    }

    #[test]
    fn counts_shares_and_times_have_units_and_separators() {
        assert_eq!([1_204.0, 0.0, -5.0, 0.25].map(value), ["1,204", "0", "-5", "0.2500"]);
        assert_eq!([0.9, 0.999, 0.0006, 1.0].map(percent), ["90 %", "99.9 %", "0.06 %", "100 %"]);
        assert_eq!(
            [0.04, 59.9, 59.97, 724.2, 7_380.0, f64::NAN].map(seconds),
            ["0.0 s", "59.9 s", "1 min 0 s", "12 min 4 s", "2 h 3 min", "NaN s"]
        );
    }

    #[test]
    fn machine_numbers_drop_noise() {
        assert_eq!(machine(0.1 + 0.2), "0.3");
        assert_eq!(machine(12_345_678.0), "12345678");
        assert_eq!(machine(1e300), "1e300");
    }
}
