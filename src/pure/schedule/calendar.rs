//! The proleptic Gregorian calendar in plain integers.
//!
//! Wall-clock times are counted here as seconds since 1970-01-01 00:00 *on the local clock*, days as days
//! since that date. Integers keep one next fire time far below a microsecond, and nothing can panic:
//! every caller stays within `FIRST_SECOND..=LAST_SECOND`.

/// Seconds in a calendar day of the wall clock.
pub const DAY: i64 = 86_400;

/// 0001-01-01 00:00:00: nothing fires before it.
pub const FIRST_SECOND: i64 = -62_135_596_800;

/// 9999-12-31 23:59:59: nothing fires after it. Far beyond any zone's data, well inside what both
/// `chrono` and PostgreSQL can represent, so that adding an offset or a period can't overflow.
pub const LAST_SECOND: i64 = 253_402_300_799;

/// Days since 1970-01-01 of a date (Howard Hinnant's `days_from_civil`).
pub fn days_from_date(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = i64::from((month + 9) % 12);
    let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month (1–12) and day of month (1–31) of a day count (Howard Hinnant's `civil_from_days`).
pub fn date_from_days(days: i64) -> (i64, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u32;
    let month = ((month_from_march + 2) % 12 + 1) as u32;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// Weekday of a day count, 0 = Sunday as in cron.
pub fn weekday(days: i64) -> u32 {
    (days + 4).rem_euclid(7) as u32
}

/// Number of days in a month.
pub fn month_length(year: i64, month: u32) -> u32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}
