//! Solar events against published almanacs (timeanddate.com, NOAA), which give minutes.

use chrono::TimeDelta;

use super::{Schedule, instant};

#[test]
fn almanac() {
    for (rule, after, expected) in [
        ("sunrise at 52.52,13.405", "2024-06-21 00:00", "2024-06-21 02:43"),
        ("sunset at 52.52,13.405", "2024-06-21 00:00", "2024-06-21 19:33"),
        ("sunrise at 52.52,13.405", "2024-12-21 00:00", "2024-12-21 07:15"),
        ("sunset at 52.52,13.405", "2024-12-21 00:00", "2024-12-21 14:54"),
        ("sunrise at 40.7128,-74.006", "2024-03-20 00:00", "2024-03-20 10:59"),
        ("sunset at 40.7128,-74.006", "2024-03-20 12:00", "2024-03-20 23:08"),
        ("sunrise at -33.8688,151.2093", "2023-12-31 12:00", "2023-12-31 18:47"),
        ("sunset at -33.8688,151.2093", "2024-01-01 00:00", "2024-01-01 09:09"),
        ("solar_noon at 51.4779,0", "2024-11-03 00:00", "2024-11-03 11:43"),
        ("solar noon at 51.4779,0", "2024-02-11 00:00", "2024-02-11 12:14"),
    ] {
        let schedule = Schedule::new(rule, "UTC", after);
        let found = schedule.plan().next_after(schedule.anchor).expect("an event");
        let difference = (found - instant(expected)).abs();
        assert!(difference <= TimeDelta::seconds(90), "{rule}: {found}, not {expected}");
    }
}

#[test]
fn the_order_of_a_day() {
    let events = [
        "dawn_astronomical",
        "dawn_nautical",
        "dawn_civil",
        "sunrise",
        "solar_noon",
        "sunset",
        "dusk_civil",
        "dusk_nautical",
        "dusk_astronomical",
    ];
    let times = events.map(|event| {
        let schedule = Schedule::new(&format!("{event} at 48.1,11.6"), "UTC", "2024-03-01 00:00");
        schedule.plan().next_after(schedule.anchor).expect("an event")
    });
    assert!(times.is_sorted());
    assert!(times[8] - times[0] < TimeDelta::hours(24));
}

#[test]
fn polar_night_is_waited_for() {
    // Tromsø: the sun sets for the last time in late November and rises again in mid-January.
    let schedule = Schedule::new("sunrise at 69.65,18.96", "UTC", "2023-12-05 00:00");
    let next = schedule.plan().next_after(schedule.anchor).expect("a sunrise");
    assert!(instant("2024-01-13 00:00") < next && next < instant("2024-01-18 00:00"), "{next}");
}
