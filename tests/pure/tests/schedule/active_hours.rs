//! When a schedule may fire.

use tenant_q_pure::schedule::active_hours::ActiveHours;
use tenant_q_pure::schedule::zone::parse_zone;

use super::{Schedule, instant};

fn active(hours: &str, zone: &str, time: &str) -> bool {
    let hours = ActiveHours::parse(hours).unwrap_or_else(|error| panic!("{error}"));
    hours.contain(parse_zone(zone).expect("a zone"), instant(time))
}

#[test]
fn windows() {
    for (hours, zone, time, expected) in [
        ("07:00-08:00", "UTC", "2024-01-01 07:20", true),
        ("07:00-08:00", "UTC", "2024-01-01 07:00", true),
        ("07:00-08:00", "UTC", "2024-01-01 08:00", false),
        ("07:00-08:00", "UTC", "2024-01-02 06:00", false),
        ("07:00-08:00", "Europe/Berlin", "2024-01-01 06:20", true),
        ("22:00-02:00", "UTC", "2024-01-01 23:00", true),
        ("22:00-02:00", "UTC", "2024-01-02 01:59:59", true),
        ("22:00-02:00", "UTC", "2024-01-02 02:00", false),
        ("00:00-24:00", "UTC", "2024-01-02 23:59:59", true),
        // Friday night ends on Saturday; Saturday night isn't meant.
        ("mon-fri 22:00-02:00", "UTC", "2024-01-06 01:00", true),
        ("mon-fri 22:00-02:00", "UTC", "2024-01-06 23:00", false),
        ("sat-sun 10:00-12:00", "UTC", "2024-01-07 11:00", true),
        ("8:00-12:00, 13:00-17:00", "UTC", "2024-01-07 12:30", false),
        ("8:00-12:00, 13:00-17:00", "UTC", "2024-01-07 13:30", true),
        // Blanks around the "-".
        ("09:00 - 17:00", "UTC", "2024-01-07 13:30", true),
        ("09:00 - 17:00", "UTC", "2024-01-07 17:00", false),
        ("mon - fri  09:00 - 17:00, sat 10:00 -12:00", "UTC", "2024-01-05 13:30", true),
        ("mon - fri  09:00 - 17:00, sat 10:00 -12:00", "UTC", "2024-01-06 11:30", true),
        ("mon - fri  09:00 - 17:00, sat 10:00 -12:00", "UTC", "2024-01-07 11:30", false),
    ] {
        assert_eq!(active(hours, zone, time), expected, "{hours} {zone} {time}");
    }
}

#[test]
fn wrong_windows_name_the_place() {
    for marked in [
        "^",
        "^7",
        "07:00-^",
        "07:00-^25:00",
        "^7-8",
        "08:00-12:00,^",
        "^07:00-07:00",
        "mon-fri ^8",
        "^moon 08:00-12:00",
        "08:00-12:00, ^x-13:00",
        "^9 to 5",
        "09:00 - ^25:00",
    ] {
        let error = ActiveHours::parse(&marked.replacen('^', "", 1)).expect_err(marked);
        assert_eq!((error.field, error.position), ("active_hours", marked.find('^')), "{marked}: {error}");
    }
}

/// The first fire time that lies in the hours.
fn first(rule: &str, hours: &str, zone: &str, anchor: &str) -> Option<String> {
    let found = Schedule::new(rule, zone, anchor).within(hours).plan().first();
    found.map(|time| time.format("%Y-%m-%d %H:%M").to_string())
}

#[test]
fn the_first_fire_time_within() {
    for (rule, hours, zone, anchor, expected) in [
        ("0 10 * * *", "09:00-17:00", "UTC", "2024-01-01 12:00", Some("2024-01-02 10:00")),
        ("0 3,10 * * *", "09:00-17:00", "UTC", "2024-01-01 12:00", Some("2024-01-02 10:00")),
        ("*/10 * * * * *", "mon 09:00-09:01", "UTC", "2024-01-01 12:00", Some("2024-01-08 09:00")),
        ("hourly", "sat 22:00-02:00", "UTC", "2024-01-01 12:30", Some("2024-01-06 22:30")),
        ("0 0 1 * *", "mon 00:00-01:00", "UTC", "2024-01-01 12:00", Some("2024-04-01 00:00")),
        ("0 12 29 2 *", "mon 09:00-17:00", "UTC", "2024-03-01 12:00", Some("2044-02-29 12:00")),
        ("sunset at 52.5,13.4", "20:00-21:00", "Europe/Berlin", "2024-10-01 12:00", Some("2025-04-12 18:00")),
        // Where nothing is left between the rule's times and the hours.
        ("0 3 * * *", "09:00-17:00", "UTC", "2024-01-01 12:00", None),
        ("monday at 10:00", "tue-sun 09:00-17:00", "UTC", "2024-01-01 12:00", None),
        ("2030-01-01 20:00", "09:00-17:00", "UTC", "2024-01-01 12:00", None),
        // The wall clock of the zone, on the one night when 02:30 is at 03:30.
        ("30 2 * * *", "03:00-04:00", "Europe/Berlin", "2024-01-01 12:00", Some("2024-03-31 01:30")),
    ] {
        assert_eq!(first(rule, hours, zone, anchor).as_deref(), expected, "{rule} within {hours}");
    }
}

#[test]
fn the_next_opening() {
    for (hours, after, expected) in [
        ("09:00-17:00", "2024-01-01 20:00", "2024-01-02 08:00"),
        ("09:00-17:00", "2024-01-01 08:00", "2024-01-02 08:00"),
        ("mon-fri 22:00-02:00", "2024-01-05 22:30", "2024-01-08 21:00"),
        ("mon 09:00-10:00", "2024-01-01 08:00", "2024-01-08 08:00"),
        ("mon 09:00-10:00,sun 00:00-24:00", "2024-01-01 08:00", "2024-01-06 23:00"),
        // In the gap of the clock's change it is open from the change on.
        ("02:30-05:00", "2024-03-30 12:00", "2024-03-31 01:00"),
        ("02:15-02:45", "2024-03-30 12:00", "2024-04-01 00:15"),
        // What was closed at 02:30 is open again when the clock goes back to 02:00.
        ("01:00-02:30", "2024-10-27 00:40", "2024-10-27 01:00"),
        ("02:10-02:30", "2024-10-27 00:40", "2024-10-27 01:10"),
    ] {
        let hours_of = ActiveHours::parse(hours).unwrap_or_else(|error| panic!("{error}"));
        let found = hours_of.next_opening(parse_zone("Europe/Berlin").expect("a zone"), instant(after));
        assert_eq!(found, Some(instant(expected)), "{hours} after {after}");
    }
}
