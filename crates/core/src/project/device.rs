//! What a run demands of its device and what it forgives.

/// See the fields. Not part of any cache key: it decides whether there is a result, never what it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DevicePolicy {
    /// Whether what cannot keep the run's tier is refused.
    pub is_deterministic: bool,
    /// Whether the comparison with `cpu` before the first update is left out; recorded.
    pub skips_probe: bool,
    /// Class of the device that a run began on which is to be continued on another; recorded.
    pub began_on: Option<String>,
}

/// Bytes as people write them: `512MiB`, `6 GiB`, `1000000`. Nothing for zero and for what is no size.
pub(super) fn bytes(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 7] = [
        ("", 1),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
    ];
    let n_digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, unit) = text.split_at(n_digits);
    let (_, factor) = UNITS.into_iter().find(|(word, _)| *word == unit.trim_start())?;
    digits.parse::<u64>().ok()?.checked_mul(factor).filter(|n| 0 < *n)
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_are_read_and_nonsense_is_not() {
        let gib = 1 << 30;
        for (text, expected) in [
            ("1000000", Some(1_000_000)),
            ("512MiB", Some(gib / 2)),
            ("6 GiB", Some(6 * gib)),
            ("2GB", Some(2_000_000_000)),
            ("0GiB", None),
            ("GiB", None),
            ("6gib", None),
            ("-1", None),
            ("1.5GiB", None),
            ("99999999999999999999GiB", None),
            ("99999999999GiB", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }
}
