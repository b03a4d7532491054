//! Whole nights in which the clock is changed, lived through by a server: every fire time is served once, at the instant
//! it should, and none that shouldn't be.
//!
//! The server's clock (see `cluster::Clock`) runs thousands of times faster than it should. `catch_up => 'all'`, so that
//! a machine that is too slow for it is late and doesn't leave out anything.

use cluster::PATIENCE;

use crate::site::{DB, Site};

const SPEED: i64 = 20_000;

/// Rules without a time of day: these fire every so many seconds whatever clocks show. For the first hours, in which all
/// changes lie: a scheduler is a new process for each fire time that is more than a minute away.
const ELAPSED_HOURS: u32 = 7;
const ELAPSED: &[(&str, i64)] = &[("*/15 * * * *", 900), ("every 30 minutes", 1_800), ("0 * * * *", 3_600)];

struct Night {
    zone: &'static str,
    /// UTC; the night's first and last instants are looked at, too.
    from: &'static str,
    until: &'static str,
    /// Rules that follow the wall clock and all their fire times in the night, in UTC.
    fixed: &'static [(&'static str, &'static [&'static str])],
}

#[test]
fn berlin() {
    live_through(&[
        Night {
            zone: "Europe/Berlin",
            from: "2023-03-25T22:30",
            until: "2023-03-27T01:00",
            fixed: &[
                // 02:30 is in the gap: 03:30, and 02:30 again the day after.
                ("30 2 * * *", &["2023-03-26T01:30", "2023-03-27T00:30"]),
                ("daily at 02:30", &["2023-03-26T01:30", "2023-03-27T00:30"]),
                ("0 3 * * *", &["2023-03-26T01:00", "2023-03-27T01:00"]),
                ("30 1-3 26 3 *", &["2023-03-26T00:30", "2023-03-26T01:30"]),
                (
                    "0 */2 26 3 *",
                    &[
                        // From 00:00+01 on; no 02:00, then 04:00+02 and so on.
                        "2023-03-25T23:00",
                        "2023-03-26T02:00",
                        "2023-03-26T04:00",
                        "2023-03-26T06:00",
                        "2023-03-26T08:00",
                        "2023-03-26T10:00",
                        "2023-03-26T12:00",
                        "2023-03-26T14:00",
                        "2023-03-26T16:00",
                        "2023-03-26T18:00",
                        "2023-03-26T20:00",
                    ],
                ),
                ("sunday at 02:15", &["2023-03-26T01:15"]),
            ],
        },
        Night {
            zone: "Europe/Berlin",
            from: "2023-10-28T22:30",
            until: "2023-10-30T02:00",
            fixed: &[
                // 02:30 comes twice: the first of them, only.
                ("30 2 * * *", &["2023-10-29T00:30", "2023-10-30T01:30"]),
                ("daily at 02:30", &["2023-10-29T00:30", "2023-10-30T01:30"]),
                ("0 3 * * *", &["2023-10-29T02:00", "2023-10-30T02:00"]),
                // `*` in the minutes: both passes.
                ("*/30 2 29 10 *", &["2023-10-29T00:00", "2023-10-29T00:30", "2023-10-29T01:00", "2023-10-29T01:30"]),
                ("sunday at 02:15", &["2023-10-29T00:15"]),
            ],
        },
    ]);
}

#[test]
fn new_york() {
    live_through(&[
        Night {
            zone: "America/New_York",
            from: "2023-03-12T04:30",
            until: "2023-03-13T07:00",
            fixed: &[
                ("30 2 * * *", &["2023-03-12T07:30", "2023-03-13T06:30"]),
                ("daily at 02:30", &["2023-03-12T07:30", "2023-03-13T06:30"]),
                ("0 1,3 12 3 *", &["2023-03-12T06:00", "2023-03-12T07:00"]),
            ],
        },
        Night {
            zone: "America/New_York",
            from: "2023-11-05T03:30",
            until: "2023-11-06T07:00",
            fixed: &[
                ("30 1 * * *", &["2023-11-05T05:30", "2023-11-06T06:30"]),
                ("daily at 01:30", &["2023-11-05T05:30", "2023-11-06T06:30"]),
                ("30 2 * * *", &["2023-11-05T07:30"]),
                (
                    "*/20 1 5 11 *",
                    &[
                        "2023-11-05T05:00",
                        "2023-11-05T05:20",
                        "2023-11-05T05:40",
                        "2023-11-05T06:00",
                        "2023-11-05T06:20",
                        "2023-11-05T06:40",
                    ],
                ),
            ],
        },
    ]);
}

/// Half an hour: at 02:00 back to 01:30, and from 02:00 on to 02:30.
#[test]
fn lord_howe() {
    live_through(&[
        Night {
            zone: "Australia/Lord_Howe",
            from: "2023-04-01T13:00",
            until: "2023-04-02T16:00",
            fixed: &[
                // 01:45+11, and not again at 01:45+10:30.
                ("45 1 * * *", &["2023-04-01T14:45", "2023-04-02T15:15"]),
                ("daily at 02:30", &["2023-04-01T16:00", "2023-04-02T16:00"]),
                ("15,45 1-2 2 4 *", &["2023-04-01T14:15", "2023-04-01T14:45", "2023-04-01T15:45", "2023-04-01T16:15"]),
            ],
        },
        Night {
            zone: "Australia/Lord_Howe",
            from: "2023-09-30T13:00",
            until: "2023-10-01T15:30",
            fixed: &[
                // 02:15 is in the gap: 02:45. And when two times of a rule meet there, they fire once.
                ("15 2 * * *", &["2023-09-30T15:45", "2023-10-01T15:15"]),
                ("daily at 02:30", &["2023-09-30T15:30", "2023-10-01T15:30"]),
                ("0,15,30,45 2 1 10 *", &["2023-09-30T15:30", "2023-09-30T15:45"]),
            ],
        },
    ]);
}

/// 2023-03-01.
const BEFORE: i64 = 1_677_628_800;

fn live_through(nights: &[Night]) {
    let site = Site::start_at(BEFORE, &["t1"]);
    let clock = site.cluster.clock();
    let strings = |sql: &str| -> Vec<String> { site.cluster.rows(DB, sql).iter().map(|row| row.get(0).to_owned()).collect() };
    let written = |time: &str| format!("to_char({time} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI')");
    for night in nights {
        let Night { zone, from, until, fixed } = night;
        let elapsed_until = format!("'{from}Z'::timestamptz + interval '{ELAPSED_HOURS} hours'");
        let mut expected: Vec<(&str, Vec<String>)> =
            fixed.iter().map(|(rule, times)| (*rule, times.iter().map(|time| time.to_string()).collect())).collect();
        for (rule, period) in ELAPSED {
            // Lord Howe's offset has half an hour: the hours of its clock aren't those of UTC.
            if *zone != "Australia/Lord_Howe" || *period < 3_600 {
                let series =
                    format!("generate_series(date_trunc('hour', '{from}Z'::timestamptz), {elapsed_until}, interval '{period} seconds')");
                expected.push((rule, strings(&format!("SELECT {} FROM {series} AS t WHERE t >= '{from}Z' ORDER BY t", written("t")))));
            }
        }
        // A jump, with nothing scheduled: what the time between the nights would do is no part of this.
        clock.set(site.number(&format!("SELECT extract(epoch FROM '{from}Z'::timestamptz)::bigint")) - 1_800, 1);
        for (rule, _) in &expected {
            let end = if ELAPSED.iter().any(|(elapsed, _)| elapsed == rule) { &elapsed_until } else { "NULL" };
            site.run(
                "t1",
                &format!(
                    "SELECT tq_schedule('{rule}', 'ok', '{rule}', args => '[\"{rule}\"]', tz => '{zone}', start_at => '{from}Z', \
                     until => {end}, catch_up => 'all')"
                ),
            );
        }
        clock.go_on(SPEED);
        site.cluster.wait_until_within(
            PATIENCE * 2,
            DB,
            &format!("SELECT NOT EXISTS (SELECT FROM t1.tq_schedule WHERE next_run <= '{until}Z')"),
        );
        clock.go_on(1);
        site.run("t1", "SELECT tq_unschedule(name) FROM tq_schedules");
        site.wait_idle(&["t1"]);
        for (rule, times) in &expected {
            let served = format!(
                "SELECT {} FROM t1.tq_result WHERE schedule = '{rule}' AND state = 'd' \
                 AND scheduled_for BETWEEN '{from}Z' AND '{until}Z' ORDER BY scheduled_for",
                written("scheduled_for")
            );
            assert_eq!(strings(&served), *times, "{rule} in {zone} from {from}");
        }
    }
    site.cluster.assert_log_clean();
}
