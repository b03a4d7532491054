//! A machine's clock is set, by hours and by years: no time of day is served twice, and no schedule falls silent.

use cluster::PATIENCE;

use crate::site::{DB, Site};

/// 2030-06-01 00:00 UTC.
const START: i64 = 1_906_502_400;
const HOUR: i64 = 3_600;
const YEAR: i64 = 365 * 24 * HOUR;

fn schedule(site: &Site, name: &str, rule: &str, catch_up: &str) {
    site.run("t1", &format!("SELECT tq_schedule('{name}', 'ok', '{rule}', args => '[\"{name}\"]', catch_up => '{catch_up}')"));
}

fn count(site: &Site, name: &str, condition: &str) -> i64 {
    site.number(&format!("SELECT count(*) FROM t1.tq_result WHERE schedule = '{name}' AND {condition}"))
}

fn wait_for_count(site: &Site, name: &str, n: i64, condition: &str) {
    site.cluster.wait_until_within(
        PATIENCE * 2,
        DB,
        &format!("SELECT count(*) >= {n} FROM t1.tq_result WHERE schedule = '{name}' AND {condition}"),
    );
}

fn assert_none_twice(site: &Site) {
    assert_eq!(site.number("SELECT count(*) - count(DISTINCT (schedule, scheduled_for)) FROM t1.tq_result"), 0, "served twice");
    site.cluster.assert_log_clean();
}

#[test]
fn forward_by_hours() {
    let site = Site::start_at(START, &["t1"]);
    for (name, catch_up) in [("newest", "once"), ("each", "all")] {
        schedule(&site, name, "*/10 * * * *", catch_up);
    }
    site.cluster.clock().go_on(600);
    wait_for_count(&site, "each", 3, "true");
    // From 5 minutes past, so that no fire time is on the edge.
    let now = site.cluster.clock().now();
    let to = now - now % HOUR + 6 * HOUR + 300;
    site.cluster.clock().set(to, 60);
    wait_for_count(&site, "each", 1, &format!("scheduled_for > to_timestamp({to})"));
    wait_for_count(&site, "newest", 1, &format!("scheduled_for > to_timestamp({to})"));
    let jumped = format!("scheduled_for BETWEEN to_timestamp({}) AND to_timestamp({})", to - 4 * HOUR, to);
    assert_eq!(count(&site, "each", &jumped), 24, "each of the hours left out");
    assert_eq!(count(&site, "newest", &jumped), 1, "the newest of the hours left out");
    assert_none_twice(&site);
}

#[test]
fn forward_by_years() {
    let site = Site::start_at(START, &["t1"]);
    schedule(&site, "newest", "*/10 * * * *", "once");
    schedule(&site, "monthly", "0 0 1 * *", "all");
    site.cluster.clock().go_on(600);
    wait_for_count(&site, "newest", 2, "true");
    let to = START + 5 * YEAR + 12 * HOUR;
    site.cluster.clock().set(to, 60);
    wait_for_count(&site, "newest", 1, &format!("scheduled_for > to_timestamp({to})"));
    wait_for_count(&site, "monthly", 59, "true");
    assert_eq!(count(&site, "monthly", "true"), 59, "July 2030 to May 2035");
    site.assert_alive("t1");
    assert_none_twice(&site);
}

/// Set back by less than three hours, a rule that names its times of day has had them.
#[test]
fn back_by_hours() {
    let site = Site::start_at(START, &["t1"]);
    // A rule that names its times of day: one without `*` in minutes and hours.
    schedule(&site, "each", "0,10,20,30,40,50 0-23 * * *", "all");
    site.cluster.clock().go_on(600);
    wait_for_count(&site, "each", 12, "true");
    site.cluster.clock().set(START + HOUR, 600);
    // A task of today isn't one of tomorrow because the clock was wrong when it came.
    site.assert_alive("t1");
    let before = site.cluster.value(DB, "SELECT max(scheduled_for) FROM t1.tq_result");
    wait_for_count(&site, "each", 3, &format!("scheduled_for > '{before}'"));
    assert_none_twice(&site);
    let missing = "SELECT (extract(epoch FROM max(scheduled_for) - min(scheduled_for)) / 600)::int + 1 - count(*) FROM t1.tq_result WHERE schedule = 'each'";
    assert_eq!(site.number(missing), 0, "no fire time is lost");
}

/// A rule that counts time goes on at the new time, and is not silent until the clock is where it was.
#[test]
fn back_by_hours_counting() {
    let site = Site::start_at(START, &["t1"]);
    schedule(&site, "each", "*/10 * * * *", "all");
    schedule(&site, "night", "0 1 * * *", "all");
    site.cluster.clock().go_on(600);
    wait_for_count(&site, "each", 15, "true");
    wait_for_count(&site, "night", 1, "true");
    site.cluster.clock().set(START + HOUR / 2, 600);
    // A task of today isn't one of tomorrow because the clock was wrong when it came.
    site.assert_alive("t1");
    let before = count(&site, "each", "true");
    wait_for_count(&site, "each", before + 6, "true");
    assert_eq!(count(&site, "night", "true"), 1, "the hour that came again");
    site.cluster.assert_log_clean();
}

#[test]
fn back_by_years() {
    let site = Site::start_at(START, &["t1"]);
    schedule(&site, "old", "*/10 * * * *", "once");
    site.cluster.clock().go_on(600);
    wait_for_count(&site, "old", 3, "true");
    let to = START - 3 * YEAR;
    site.cluster.clock().set(to, 600);
    site.assert_alive("t1");
    schedule(&site, "new", "*/10 * * * *", "once");
    wait_for_count(&site, "new", 2, "true");
    wait_for_count(&site, "old", 2, &format!("scheduled_for < to_timestamp({START})"));
    assert_none_twice(&site);
}
