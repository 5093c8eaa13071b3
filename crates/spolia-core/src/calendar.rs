//! `seconds since 1970 → day and time of day`, UTC. Knows no clock and no time zone.
//!
//! Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`, for days that are not
//! negative.

/// A time in the Gregorian calendar, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// The year.
    pub year: u64,
    /// From 1.
    pub month: u64,
    /// From 1.
    pub day: u64,
    /// From 0.
    pub hour: u64,
    /// From 0.
    pub minute: u64,
    /// From 0.
    pub second: u64,
}

/// The calendar's view of `epoch_s`, seconds since 1970. Leap seconds are not counted, as in all of Unix.
pub fn civil(epoch_s: u64) -> Civil {
    // Far beyond the year 140,000,000: the algorithm's sums still fit.
    let epoch_s = epoch_s.min(1 << 52);
    let (days, seconds) = (epoch_s / 86_400, epoch_s % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    Civil { year, month, day, hour: seconds / 3600, minute: seconds / 60 % 60, second: seconds % 60 }
}

impl Civil {
    /// The day as ISO 8601 has it: `2026-01-31`.
    pub fn date(&self) -> String {
        let Self { year, month, day, .. } = self;
        format!("{year:04}-{month:02}-{day:02}")
    }

    /// The time of day: `23:59:59`.
    pub fn time(&self) -> String {
        let Self { hour, minute, second, .. } = self;
        format!("{hour:02}:{minute:02}:{second:02}")
    }

    /// Both, as RFC 3339 has them: `2026-01-31T23:59:59Z`.
    pub fn rfc3339(&self) -> String {
        format!("{}T{}Z", self.date(), self.time())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_gregorian() {
        for (epoch_s, date, time) in [
            (0, "1970-01-01", "00:00:00"),
            (315_532_800, "1980-01-01", "00:00:00"),
            (951_782_399, "2000-02-28", "23:59:59"),
            (951_782_400, "2000-02-29", "00:00:00"),
            (951_868_800, "2000-03-01", "00:00:00"),
            (1_700_000_000, "2023-11-14", "22:13:20"),
            (1_704_067_199, "2023-12-31", "23:59:59"),
            (4_107_542_400, "2100-03-01", "00:00:00"),
        ] {
            let at = civil(epoch_s);
            assert_eq!((at.date(), at.time()), (date.to_owned(), time.to_owned()));
            assert_eq!(at.rfc3339(), format!("{date}T{time}Z"));
        }
        assert!(civil(u64::MAX).date().len() > 10);
    }
}
