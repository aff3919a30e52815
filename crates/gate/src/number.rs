//! How numbers look in messages.

/// A measured value: four significant digits, at most eight decimals, thousands separated.
#[must_use]
pub(crate) fn figure(x: f64) -> String {
    let size = x.abs();
    if (10_000.0..1e15).contains(&size) {
        let sign = if x < 0.0 { "-" } else { "" };
        return format!("{sign}{}", karat_core::thousands(size.round() as u64));
    }
    if size != 0.0 && !(1e-8..1e15).contains(&size) {
        return format!("{x:.3e}");
    }
    let digits_before = if size < 1e-300 { 0.0 } else { libm::floor(libm::log10(size)) };
    let decimals = (3.0 - digits_before).clamp(0.0, 8.0) as usize;
    let decimals = if size < 1e-300 { 4 } else { decimals };
    format!("{x:.decimals$}")
}

/// The same with its sign.
#[must_use]
pub(crate) fn signed(x: f64) -> String {
    if x < 0.0 { figure(x) } else { format!("+{}", figure(x)) }
}

/// A share as percent, never rounded to nothing or to all: `0.06 %`, `12.3 %`, `over 99.99 %`.
#[must_use]
pub(crate) fn percent(share: f64) -> String {
    let p = 100.0 * share;
    if 0.0 < p && p < 0.01 {
        return "under 0.01 %".to_owned();
    }
    if 99.99 < p && p < 100.0 {
        return "over 99.99 %".to_owned();
    }
    let decimals = if (10.0..99.9).contains(&p) { 1 } else { 2 };
    let text = format!("{p:.decimals$}");
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// `1 column`, `2,000 columns`.
#[must_use]
pub(crate) fn counted(n: usize, noun: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", karat_core::thousands(n as u64))
}

#[cfg(test)]
mod tests {
    use super::{counted, figure, percent, signed};

    #[test]
    fn figures_keep_four_digits() {
        let shown =
            [0.0, 0.6893, 0.00123, -12.3456, 1234.5, 1_234_567.8, 1e-12, f64::NAN].map(figure);
        assert_eq!(
            shown,
            ["0.0000", "0.6893", "0.001230", "-12.35", "1234", "1,234,568", "1.000e-12", "NaN"]
        );
        assert_eq!(signed(0.25), "+0.2500");
        let shares =
            [0.0006, 0.0, 0.123, 0.000_001, 0.05, 0.0201, 0.9995, 0.999_999, 1.0, f64::NAN];
        assert_eq!(
            shares.map(percent),
            [
                "0.06 %",
                "0 %",
                "12.3 %",
                "under 0.01 %",
                "5 %",
                "2.01 %",
                "99.95 %",
                "over 99.99 %",
                "100 %",
                "NaN %"
            ]
        );
        assert_eq!([1, 2_000].map(|n| counted(n, "column")), ["1 column", "2,000 columns"]);
    }
}
