//! Days since 1970 as dates of the proleptic Gregorian calendar.

/// A date: year, month from 0, day of month from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Date {
    /// The year.
    pub(crate) year: i64,
    /// 0 is January.
    pub(crate) month: i64,
    /// 0 is the first.
    pub(crate) day: i64,
}

/// The date of a day counted since 1970-01-01.
///
/// After Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms": years begin in March, so that leap days come
/// last.
pub(crate) const fn date(days: i64) -> Date {
    let from_march_0000 = days + 719_468;
    let era = from_march_0000.div_euclid(146_097);
    let day_of_era = from_march_0000.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5;
    let is_next_year = 10 <= month_from_march;
    Date {
        year: 400 * era + year_of_era + is_next_year as i64,
        month: (month_from_march + 2) % 12,
        day,
    }
}

/// The day, counted since 1970-01-01, of a date that exists. The inverse of [`date`].
pub(crate) fn day(at: Date) -> Option<i64> {
    let month_from_march = (at.month + 10) % 12;
    let year_from_march = at.year - i64::from(at.month < 2);
    let era = year_from_march.div_euclid(400);
    let year_of_era = year_from_march.rem_euclid(400);
    let day_of_year = (153 * month_from_march + 2) / 5 + at.day;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    // The 30th of February is a day in March.
    (date(days) == at).then_some(days)
}

#[cfg(test)]
mod tests {
    use super::{Date, date, day};

    #[test]
    fn days_become_dates() {
        for (days, expected) in [
            (0, (1970, 0, 0)),
            (-1, (1969, 11, 30)),
            (11_016, (2000, 1, 28)),
            (11_017, (2000, 2, 0)),
            (15_887, (2013, 6, 0)),
            (-141_427, (1582, 9, 14)),
            (-719_529, (-1, 11, 30)),
            (2_932_896, (9999, 11, 30)),
        ] {
            let date = date(days);
            assert_eq!((date.year, date.month, date.day), expected, "{days}");
            assert_eq!(day(date), Some(days));
        }
    }

    #[test]
    fn dates_that_do_not_exist_have_no_day() {
        for (year, month, day_of_month) in [
            (2013, 1, 28),
            (2000, 1, 29),
            (2013, 3, 30),
            (2013, 12, 0),
            (2013, 0, 31),
            (2013, 0, -1),
        ] {
            assert_eq!(day(Date { year, month, day: day_of_month }), None, "{year} {month}");
        }
    }
}
