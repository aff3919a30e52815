//! Points in time. `core` reads no clock: a [`Timestamp`] is always given.

use std::fmt;

/// Milliseconds since 1970-01-01T00:00:00Z. Shown as RFC 3339 in UTC.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
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

#[cfg(test)]
mod tests {
    use super::Timestamp;

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
