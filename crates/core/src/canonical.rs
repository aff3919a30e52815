//! JSON in one form only: equal values, equal bytes, in every language.
//!
//! RFC 8785 (JSON Canonicalization Scheme): no space, members sorted by their names' UTF-16 code units, numbers as
//! ECMAScript writes them, only what must be escaped escaped. One step aside: an integer beyond 2^53 keeps its digits
//! instead of being rounded to a double; none of our records holds one.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

/// `value` as canonical JSON.
pub fn to_vec<T: Serialize>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut out = String::new();
    write(&serde_json::to_value(value)?, &mut out);
    Ok(out.into_bytes())
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Null | Value::Bool(_) => write_fmt(out, format_args!("{value}")),
        // Of two shortest forms serde_json takes the even one, as ECMAScript does and `{:e}` does not.
        Value::Number(number) if number.is_f64() => write_double(&number.to_string(), out),
        Value::Number(number) => write_fmt(out, format_args!("{number}")),
        Value::String(text) => write_text(text, out),
        Value::Array(items) => {
            out.push('[');
            for (idx, item) in items.iter().enumerate() {
                if 0 < idx {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<(&String, &Value)> = members.iter().collect();
            members.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            out.push('{');
            for (idx, (name, value)) in members.into_iter().enumerate() {
                if 0 < idx {
                    out.push(',');
                }
                write_text(name, out);
                out.push(':');
                write(value, out);
            }
            out.push('}');
        }
    }
}

/// ECMAScript's `Number::toString`: the shortest digits that read back, as a plain number for exponents from -7 to 20.
/// `shortest` are those digits in any notation.
fn write_double(shortest: &str, out: &mut String) {
    let (sign, rest) = shortest.strip_prefix('-').map_or(("", shortest), |rest| ("-", rest));
    let (mantissa, exponent) = rest.split_once('e').unwrap_or((rest, "0"));
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{part}");
    let digits = all.trim_start_matches('0');
    let n_leading = (all.len() - digits.len()) as i32;
    let digits = digits.trim_end_matches('0');
    if digits.is_empty() {
        return out.push('0');
    }
    // The decimal point stands after `point` digits.
    let point = exponent.parse::<i32>().unwrap_or(0) + whole.len() as i32 - n_leading;
    let n_digits = digits.len() as i32;
    let zeros = |n: i32| "0".repeat(usize::try_from(n).unwrap_or(0));
    out.push_str(sign);
    match point {
        22.. | ..=-6 => {
            let (first, rest) = digits.split_at(1);
            let dot = if rest.is_empty() { "" } else { "." };
            let plus = if 0 < point - 1 { "+" } else { "" };
            write_fmt(out, format_args!("{first}{dot}{rest}e{plus}{}", point - 1));
        }
        ..=0 => write_fmt(out, format_args!("0.{}{digits}", zeros(-point))),
        _ if n_digits <= point => {
            write_fmt(out, format_args!("{digits}{}", zeros(point - n_digits)));
        }
        _ => {
            let (whole, part) = digits.split_at(usize::try_from(point).unwrap_or(0));
            write_fmt(out, format_args!("{whole}.{part}"));
        }
    }
}

fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\0'..='\u{1f}' => write_fmt(out, format_args!("\\u{:04x}", u32::from(c))),
            _ => out.push(c),
        }
    }
    out.push('"');
}

fn write_fmt(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    out.write_fmt(arguments).expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::to_vec;

    fn canonical(value: &Value) -> String {
        String::from_utf8(to_vec(value).expect("serialises")).expect("UTF-8")
    }

    /// RFC 8785, section 3.2.2 and 3.2.3.
    #[test]
    fn the_examples_of_the_standard() {
        let value = json!({
            "numbers": [333_333_333.333_333_3, 1E30, 4.50, 2e-3, 0.000_000_000_000_000_000_000_000_001],
            "string": "\u{20ac}$\u{000F}\u{000a}A'\u{0042}\u{0022}\u{005c}\\\"/",
            "literals": [null, true, false],
        });
        assert_eq!(
            canonical(&value),
            "{\"literals\":[null,true,false],\
             \"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\
             \"string\":\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}"
        );
        let names = json!({ "\u{20ac}": 1, "\r": 2, "\u{fb33}": 3, "1": 4, "\u{1f600}": 5, "\u{80}": 6, "\u{f6}": 7 });
        let order = canonical(&names);
        assert_eq!(
            order,
            "{\"\\r\":2,\"1\":4,\"\u{80}\":6,\"\u{f6}\":7,\"\u{20ac}\":1,\"\u{1f600}\":5,\"\u{fb33}\":3}"
        );
    }

    /// RFC 8785, appendix B.
    #[test]
    fn doubles_are_written_as_ecmascript_writes_them() {
        for (bits, text) in [
            (0x0000_0000_0000_0000_u64, "0"),
            (0x8000_0000_0000_0000, "0"),
            (0x0000_0000_0000_0001, "5e-324"),
            (0x8000_0000_0000_0001, "-5e-324"),
            (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
            (0x4340_0000_0000_0000, "9007199254740992"),
            (0x4430_0000_0000_0000, "295147905179352830000"),
            (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
            (0x44b5_2d02_c7e1_4af6, "1e+23"),
            (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
            (0x444b_1ae4_d6e2_ef50, "1e+21"),
            (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
            (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
            (0x41b3_de43_5555_5557, "333333333.33333343"),
            (0x41b3_de43_5555_5553, "333333333.3333332"),
            (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
            (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
        ] {
            let found = canonical(&json!(f64::from_bits(bits)));
            assert_eq!(found, text);
        }
    }

    #[test]
    fn counts_stay_exact_and_what_cannot_be_a_number_is_null() {
        let counts = json!([u64::MAX, i64::MIN, 12]);
        assert_eq!(canonical(&counts), "[18446744073709551615,-9223372036854775808,12]");
        assert_eq!(canonical(&json!([f64::NAN])), "[null]");
    }
}
