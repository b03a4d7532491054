//! Instants: PostgreSQL's microseconds, the calendar's dates, and the texts that arguments of handlers are.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use proptest::prelude::*;
use tenant_q_pure::time::{At, Span, instant, is_date, time_text};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// 0001-01-01 and 10000-01-01, UTC.
const FIRST: At = At::of_micros(-63_082_281_600_000_000);
const BEYOND: At = At::of_micros(252_455_616_000_000_000);
/// One microsecond.
const BIT: Span = Span::MICROSECOND;

#[test]
fn microseconds_since_2000_are_dates() {
    for (t, text) in [
        (0, "2000-01-01T00:00:00Z"),
        (1, "2000-01-01T00:00:00.000001Z"),
        (-1, "1999-12-31T23:59:59.999999Z"),
        (-946_684_800_000_000, "1970-01-01T00:00:00Z"),
        (762_652_800_000_000, "2024-03-02T00:00:00Z"),
        (820_540_800_000_000, "2026-01-01T00:00:00Z"),
        (FIRST.micros(), "0001-01-01T00:00:00Z"),
        (BEYOND.micros() - 1, "9999-12-31T23:59:59.999999Z"),
    ] {
        let t = At::of_micros(t);
        assert_eq!((instant(t), At::from(at(text))), (at(text), t), "{text}");
    }
}

#[test]
fn dates_are_those_of_the_years_1_to_9999() {
    for t in [FIRST, FIRST + BIT, At::of_micros(-1), At::UNSET, BEYOND - BIT] {
        assert!(is_date(t), "{t:?}");
    }
    for t in [i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX, i64::MAX / 2, i64::MIN / 2] {
        assert!(!is_date(At::of_micros(t)), "{t}");
    }
    for t in [FIRST - BIT, BEYOND, At::NEVER, At::LOWEST] {
        assert!(!is_date(t), "{t:?}");
    }
}

#[test]
fn never_comes_after_all_and_what_has_no_date_keeps_its_side() {
    assert!(instant(At::NEVER) > at("9999-12-31T23:59:59.999999Z") && instant(At::NEVER - BIT) > at("9999-12-31T23:59:59.999999Z"));
    assert!(instant(At::LOWEST) < at("0001-01-01T00:00:00Z") && instant(At::LOWEST + BIT) < at("0001-01-01T00:00:00Z"));
    // There and back without overflow, and on the same side.
    assert!(At::from(instant(At::NEVER)) > BEYOND && At::from(instant(At::LOWEST)) < FIRST);
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
        assert_eq!(Span::from(span).micros(), expected, "{span}");
    }
    // One that can't be counted is longer than all that is, and can be added to an instant.
    assert!(Span::from(TimeDelta::MAX) > BEYOND - FIRST);
    assert!(BEYOND.micros().checked_add(Span::from(TimeDelta::MAX).micros()).is_some());
}

#[test]
fn instants_and_spans_add_up_and_stop_at_their_ends() {
    let (t, hour) = (At::of_micros(1_000_000), Span::HOUR);
    assert_eq!((t + hour - t, t + hour - hour, (t - (t + hour)).micros()), (hour, t, -3_600_000_000));
    assert_eq!(t.saturating_add(hour), t + hour);
    assert_eq!(At::NEVER.saturating_add(hour), At::NEVER);
    assert_eq!(At::NEVER.saturating_since(At::LOWEST).micros(), i64::MAX);
    assert_eq!((Span::of_secs(60), Span::of_millis(60_000), Span::SECOND * 60), (Span::MINUTE, Span::MINUTE, Span::MINUTE));
    assert_eq!((Span::DAY / hour, Span::DAY / 24, Span::MINUTE << 2), (24, hour, Span::of_secs(240)));
    assert_eq!(Span::of_millis(i64::MAX).micros(), i64::MAX);
    assert!(At::NEVER.is_infinite() && At::LOWEST.is_infinite() && !t.is_infinite());
}

/// Documents have had them as numbers from the beginning.
#[test]
fn in_documents_they_are_numbers() {
    let document = serde_json::json!({"at": At::of_micros(-5), "span": Span::SECOND});
    assert_eq!(document.to_string(), r#"{"at":-5,"span":1000000}"#);
    assert_eq!(serde_json::from_value::<At>(document["at"].clone()).ok(), Some(At::of_micros(-5)));
    assert_eq!(serde_json::from_str::<Span>("1000000").ok(), Some(Span::SECOND));
    for wrong in ["1.5", r#""1""#, "null", "[1]", "1e999"] {
        assert!(serde_json::from_str::<Span>(wrong).is_err(), "{wrong}");
    }
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
    fn there_and_back(t in FIRST.micros()..BEYOND.micros(), zone in prop::sample::select(chrono_tz::TZ_VARIANTS.to_vec())) {
        let t = At::of_micros(t);
        prop_assert!(is_date(t));
        prop_assert_eq!(At::from(instant(t)), t);
        prop_assert_eq!(instant(t).timestamp_micros() - t.micros(), 946_684_800_000_000);
        // Seconds of offsets have a test of their own; years with a sign aren't read back.
        let text = time_text(instant(t), zone, TIMESTAMPTZ);
        if (at("1973-01-01T00:00:00Z")..at("9999-12-31T00:00:00Z")).contains(&instant(t)) {
            prop_assert_eq!(DateTime::parse_from_rfc3339(&text).map(|back| At::from(back.to_utc())), Ok(t), "{}", text);
        }
    }

    #[test]
    fn later_counts_more(a: i64, b: i64) {
        prop_assert!((a < b) <= (instant(At::of_micros(a)) <= instant(At::of_micros(b))), "{} and {}", a, b);
    }
}
