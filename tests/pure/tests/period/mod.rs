//! Lengths of time with months and days: added as PostgreSQL adds them, and read as they were written.

use serde_json::json;
use tenant_q_pure::period::Period;
use tenant_q_pure::schedule::zone::parse_zone;
use tenant_q_pure::time::{At, Span};

const fn period(months: i32, days: i32, micros: i64) -> Period {
    Period { months, days, micros }
}

/// `postgresql.sql` has asked PostgreSQL: zone, instant, months, days, microseconds, sum.
#[test]
fn periods_are_added_as_postgresql_adds_intervals() {
    for line in include_str!("postgresql.tsv").lines() {
        let (name, numbers) = line.split_once('\t').unwrap_or_else(|| panic!("{line}"));
        let numbers: Vec<i64> = numbers.split('\t').map(|n| n.parse().unwrap_or_else(|e| panic!("{line}: {e}"))).collect();
        let [at, months, days, micros, sum] = numbers[..] else { panic!("{line}") };
        let zone = parse_zone(name).unwrap_or_else(|e| panic!("{line}: {}", e.message));
        let length = period(months as i32, days as i32, micros);
        assert_eq!(length.after(At::of_micros(at), || zone).micros(), sum, "{line}");
        let negated = period(-length.months, -length.days, -length.micros);
        assert_eq!(negated.before(At::of_micros(at), || zone).micros(), sum, "{line}");
    }
}

#[test]
fn where_there_are_no_months_or_days_no_zone_is_asked() {
    let at = At::of_micros(5);
    assert_eq!(Period::from(Span::HOUR).after(at, || panic!("a zone")), at + Span::HOUR);
    assert_eq!(Period::default().before(at, || panic!("a zone")), at);
    assert_eq!(period(1, 1, 1).after(At::NEVER, || panic!("a zone")), At::NEVER);
    assert_eq!(period(1, 1, 1).after(At::LOWEST, || panic!("a zone")), At::LOWEST);
}

#[test]
fn nothing_is_beyond_the_end_of_time() {
    let at = At::of_micros(0);
    let utc = || chrono_tz::Tz::UTC;
    assert_eq!(period(i32::MAX, 0, 0).after(at, utc), At::NEVER);
    assert_eq!(period(0, i32::MAX, i64::MAX).after(at, utc), At::NEVER);
    assert_eq!(period(i32::MAX, i32::MAX, i64::MAX).before(at, utc), At::LOWEST);
    assert_eq!(period(i32::MIN, i32::MIN, i64::MIN).after(at, utc), At::LOWEST);
    assert_eq!(period(i32::MIN, i32::MIN, i64::MIN).before(at, utc), At::NEVER);
    for at in [i64::MAX - 1, i64::MIN + 1] {
        for zone in [chrono_tz::Tz::UTC, chrono_tz::Tz::Pacific__Apia] {
            period(1, 1, 1).after(At::of_micros(at), || zone);
            period(1, 1, 1).before(At::of_micros(at), || zone);
        }
    }
    assert_eq!(period(i32::MAX, i32::MAX, i64::MAX).span(), Span::of_micros(i64::MAX));
    assert_eq!(period(2, 3, 4).span(), Span::of_days(63) + Span::of_micros(4));
    assert!(period(1, -31, 0).is_negative() && !period(1, -30, 0).is_negative());
}

/// What is looked at by its age alone must not miss what is over already.
#[test]
fn no_calendar_makes_a_period_shorter_than_it_is_at_least() {
    let mut shortest = Span::of_days(1000);
    for (year, month) in (2009..2028).flat_map(|year| (1..=12).map(move |month| (year, month))) {
        for day in [1, 14, 28] {
            let at = At::of_micros(
                chrono::NaiveDate::from_ymd_opt(year, month, day)
                    .and_then(|d| d.and_hms_opt(9, 30, 0))
                    .expect("a day")
                    .and_utc()
                    .timestamp_micros()
                    - 946_684_800_000_000,
            );
            for zone in
                [chrono_tz::Tz::UTC, chrono_tz::Tz::Pacific__Apia, chrono_tz::Tz::Europe__Berlin, chrono_tz::Tz::Pacific__Kiritimati]
            {
                for length in [period(0, 1, 0), period(1, 0, 0), period(13, -2, 5), period(0, 2, -1), period(1, -29, 0), period(-1, 40, 0)]
                {
                    let sum = length.after(at, || zone);
                    assert!(sum >= at.saturating_add(length.at_least()), "{length:?} after {at:?} in {zone}");
                    shortest = shortest.min(sum - at);
                }
            }
        }
    }
    assert!(shortest < Span::ZERO, "lengths of next to nothing are among them");
    assert_eq!(period(0, 0, 7).at_least(), Span::of_micros(7));
    assert_eq!(period(i32::MAX, i32::MAX, i64::MAX).at_least(), Span::of_micros(i64::MAX - 26 * Span::HOUR.micros()));
}

#[test]
fn documents_have_a_number_or_all_three_parts() {
    for (length, document) in [
        (period(0, 0, 1_500_000), json!(1_500_000)),
        (period(0, 0, -1), json!(-1)),
        (period(0, 1, 0), json!([0, 1, 0])),
        (period(12, -3, 7), json!([12, -3, 7])),
    ] {
        assert_eq!(serde_json::to_value(length).expect("a document"), document);
        assert_eq!(serde_json::from_value::<Period>(document).expect("a length"), length);
    }
    for garbled in [json!("1 day"), json!([1, 2]), json!([1, 2, 3, 4]), json!(null), json!(1.5), json!([3_000_000_000_u32, 0, 0])] {
        assert!(serde_json::from_value::<Period>(garbled.clone()).is_err(), "{garbled}");
    }
}
