//! When a schedule may fire.

use tenant_q_pure::schedule::active_hours::ActiveHours;
use tenant_q_pure::schedule::zone::parse_zone;

use super::instant;

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
    ] {
        let error = ActiveHours::parse(&marked.replacen('^', "", 1)).expect_err(marked);
        assert_eq!((error.field, error.position), ("active_hours", marked.find('^')), "{marked}: {error}");
    }
}
