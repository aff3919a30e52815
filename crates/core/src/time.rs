//! Points in time. `core` reads no clock: a [`Timestamp`] is always given.

use std::fmt;

/// Milliseconds since 1970-01-01T00:00:00Z. Shown as RFC 3339 in UTC.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match chrono::DateTime::from_timestamp_millis(self.0) {
            Some(time) => write!(f, "{}", time.format("%Y-%m-%dT%H:%M:%SZ")),
            None => write!(f, "{} ms", self.0),
        }
    }
}

impl Timestamp {
    /// Parses RFC 3339, `YYYY-MM-DDTHH:MM:SS` or `YYYY-MM-DD` (both UTC).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(time) = chrono::DateTime::parse_from_rfc3339(text) {
            return Some(Self(time.timestamp_millis()));
        }
        for form in ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"] {
            if let Ok(time) = chrono::NaiveDateTime::parse_from_str(text, form) {
                return Some(Self(time.and_utc().timestamp_millis()));
            }
        }
        let date = chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
        Some(Self(date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_millis()))
    }
}

/// `90s`, `20m`, `1h30m` or `2d` as seconds: whole numbers, each with its unit, largest unit first.
#[must_use]
pub fn parse_seconds(text: &str) -> Option<u64> {
    let (mut rest, mut total) = (text, 0_u64);
    for (unit, seconds) in [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)] {
        if let Some((number, after)) = rest.split_once(unit) {
            if number.is_empty() || !number.bytes().all(|it| it.is_ascii_digit()) {
                return None;
            }
            total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(seconds)?)?;
            rest = after;
        }
    }
    (rest.is_empty() && !text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::{Timestamp, parse_seconds};

    #[test]
    fn durations_are_numbers_with_units() {
        for (text, seconds) in
            [("90s", 90), ("20m", 1200), ("1h30m", 5400), ("2d", 172_800), ("0s", 0)]
        {
            assert_eq!(parse_seconds(text), Some(seconds), "{text}");
        }
        for text in
            ["", "90", "1.5h", "m", "-1s", "+1s", "30m1h", "1h 30m", "99999999999999999999s"]
        {
            assert_eq!(parse_seconds(text), None, "{text}");
        }
    }

    #[test]
    fn dates_and_times_parse_to_utc() {
        for (text, shown) in [
            ("2013-07-01", "2013-07-01T00:00:00Z"),
            ("2013-07-01T05:00:00Z", "2013-07-01T05:00:00Z"),
            ("2013-07-01T05:00:00+02:00", "2013-07-01T03:00:00Z"),
            ("2013-07-01 05:00:00", "2013-07-01T05:00:00Z"),
        ] {
            assert_eq!(Timestamp::parse(text).expect(text).to_string(), shown);
        }
        assert_eq!(Timestamp::parse("July"), None);
    }
}
