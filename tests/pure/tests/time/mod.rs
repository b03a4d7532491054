//! Instants: PostgreSQL's microseconds, the calendar's dates, and the texts that arguments of handlers are.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use proptest::prelude::*;
use tenant_q_pure::time::{NEVER, instant, is_date, micros, micros_of, time_text};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// 0001-01-01 and 10000-01-01, UTC.
const FIRST: i64 = -63_082_281_600_000_000;
const BEYOND: i64 = 252_455_616_000_000_000;

#[test]
fn microseconds_since_2000_are_dates() {
    for (t, text) in [
        (0, "2000-01-01T00:00:00Z"),
        (1, "2000-01-01T00:00:00.000001Z"),
        (-1, "1999-12-31T23:59:59.999999Z"),
        (-946_684_800_000_000, "1970-01-01T00:00:00Z"),
        (762_652_800_000_000, "2024-03-02T00:00:00Z"),
        (820_540_800_000_000, "2026-01-01T00:00:00Z"),
        (FIRST, "0001-01-01T00:00:00Z"),
        (BEYOND - 1, "9999-12-31T23:59:59.999999Z"),
    ] {
        assert_eq!((instant(t), micros(at(text))), (at(text), t), "{text}");
    }
}

#[test]
fn dates_are_those_of_the_years_1_to_9999() {
    for t in [FIRST, FIRST + 1, -1, 0, BEYOND - 1] {
        assert!(is_date(t), "{t}");
    }
    for t in [FIRST - 1, BEYOND, i64::MIN, i64::MIN + 1, i64::MAX - 1, NEVER, NEVER / 2, i64::MIN / 2] {
        assert!(!is_date(t), "{t}");
    }
}

#[test]
fn never_comes_after_all_and_what_has_no_date_keeps_its_side() {
    assert!(instant(NEVER) > at("9999-12-31T23:59:59.999999Z") && instant(NEVER - 1) > at("9999-12-31T23:59:59.999999Z"));
    assert!(instant(i64::MIN) < at("0001-01-01T00:00:00Z") && instant(i64::MIN + 1) < at("0001-01-01T00:00:00Z"));
    // There and back without overflow, and on the same side.
    assert!(micros(instant(NEVER)) > BEYOND && micros(instant(i64::MIN)) < FIRST);
}

#[test]
fn spans_in_microseconds() {
    for (span, expected) in [
        (TimeDelta::zero(), 0),
        (TimeDelta::days(1), 86_400_000_000),
        (TimeDelta::microseconds(-1), -1),
        (TimeDelta::nanoseconds(1_999), 1),
        (TimeDelta::microseconds(i64::MAX), i64::MAX),
    ] {
        assert_eq!(micros_of(span), expected, "{span}");
    }
    // One that can't be counted is longer than all that is, and can be added to an instant.
    assert!(micros_of(TimeDelta::MAX) > BEYOND - FIRST);
    assert!(BEYOND.checked_add(micros_of(TimeDelta::MAX)).is_some());
}

/// Types of the parameter that gets the intended time, by their oids.
const DATE: Option<u32> = Some(1082);
const TIME: Option<u32> = Some(1083);
const TIMESTAMP: Option<u32> = Some(1114);
const TIMESTAMPTZ: Option<u32> = Some(1184);
const TIMETZ: Option<u32> = Some(1266);
const TEXT: Option<u32> = Some(25);

#[test]
fn the_intended_time_is_as_its_parameters_type_has_it_in_the_zone() {
    for (zone, kind, expected) in [
        ("UTC", DATE, "2024-02-29"),
        ("UTC", TIME, "18:30:00.250000"),
        ("UTC", TIMETZ, "18:30:00.250000+00:00"),
        ("UTC", TIMESTAMP, "2024-02-29T18:30:00.250000"),
        ("UTC", TIMESTAMPTZ, "2024-02-29T18:30:00.250000+00:00"),
        // It is tomorrow there.
        ("Asia/Kolkata", DATE, "2024-03-01"),
        ("Asia/Kolkata", TIME, "00:00:00.250000"),
        ("Asia/Kolkata", TIMETZ, "00:00:00.250000+05:30"),
        ("Asia/Kolkata", TIMESTAMP, "2024-03-01T00:00:00.250000"),
        ("Asia/Kolkata", TIMESTAMPTZ, "2024-03-01T00:00:00.250000+05:30"),
        ("America/St_Johns", TIMETZ, "15:00:00.250000-03:30"),
        ("America/St_Johns", TIMESTAMPTZ, "2024-02-29T15:00:00.250000-03:30"),
        // What takes any text, or isn't known, is told all.
        ("Asia/Kolkata", TEXT, "2024-03-01T00:00:00.250000+05:30"),
        ("Asia/Kolkata", None, "2024-03-01T00:00:00.250000+05:30"),
    ] {
        let zone: Tz = zone.parse().expect("a zone");
        assert_eq!(time_text(at("2024-02-29T18:30:00.25Z"), zone, kind), expected, "{zone}");
    }
}

#[test]
fn an_hour_that_comes_twice_is_told_apart_by_its_offset() {
    let berlin = chrono_tz::Europe::Berlin;
    let text = |instant: &str, kind| time_text(at(instant), berlin, kind);
    assert_eq!(text("2024-10-27T00:30:00Z", TIMESTAMPTZ), "2024-10-27T02:30:00.000000+02:00");
    assert_eq!(text("2024-10-27T01:30:00Z", TIMESTAMPTZ), "2024-10-27T02:30:00.000000+01:00");
    assert_eq!(text("2024-10-27T00:30:00Z", TIMESTAMP), text("2024-10-27T01:30:00Z", TIMESTAMP));
}

/// PostgreSQL reads and writes offsets with seconds, which Liberia had until 1972.
#[test]
fn an_offset_with_seconds_is_told_with_them() {
    for (instant, zone, expected) in [
        ("1971-06-01T12:00:00Z", chrono_tz::Africa::Monrovia, "1971-06-01T11:15:30.000000-00:44:30"),
        ("1890-01-01T00:00:00Z", chrono_tz::Europe::Berlin, "1890-01-01T00:53:28.000000+00:53:28"),
    ] {
        assert_eq!(time_text(at(instant), zone, TIMESTAMPTZ), expected);
    }
}

proptest! {
    #[test]
    fn there_and_back(t in FIRST..BEYOND, zone in prop::sample::select(chrono_tz::TZ_VARIANTS.to_vec())) {
        prop_assert!(is_date(t));
        prop_assert_eq!(micros(instant(t)), t);
        prop_assert_eq!(instant(t).timestamp_micros() - t, 946_684_800_000_000);
        // Seconds of offsets have a test of their own; years with a sign aren't read back.
        let text = time_text(instant(t), zone, TIMESTAMPTZ);
        if (at("1973-01-01T00:00:00Z")..at("9999-12-31T00:00:00Z")).contains(&instant(t)) {
            prop_assert_eq!(DateTime::parse_from_rfc3339(&text).map(|back| micros(back.to_utc())), Ok(t), "{}", text);
        }
    }

    #[test]
    fn later_counts_more(a: i64, b: i64) {
        prop_assert!((a < b) <= (instant(a) <= instant(b)), "{} and {}", a, b);
    }
}
