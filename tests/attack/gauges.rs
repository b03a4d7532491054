//! The gauge of unfinished tasks, and the quota that is held against it: whatever transactions do, and the tables' owner.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cluster::{PATIENCE, wait_for};

use crate::site::{DB, Site};

/// Tenants whose gauge isn't what their tables hold.
const WRONG: &str = "SELECT count(*) FROM tq_tenants AS t WHERE queued + running <> CASE tenant \
    WHEN 't1' THEN (SELECT count(*) FROM t1.tq_task WHERE state IN ('q', 't', 'w', 'h', 'k')) \
    WHEN 't2' THEN (SELECT count(*) FROM t2.tq_task WHERE state IN ('q', 't', 'w', 'h', 'k')) END";

fn assert_right(site: &Site, when: &str) {
    assert_eq!(site.number(WRONG), 0, "{when}\n{}", site.cluster.activity());
}

#[test]
fn the_gauge_goes_with_what_stands_of_a_transaction() {
    let site = Site::start("tenant_q.sweep_interval = 0\n", &["t1", "t2"]);
    site.run("t1", "SELECT tq_pause()");
    let mut c = site.client("t1");
    for (sql, queued) in [
        ("BEGIN; SELECT tq_async('ok', '[\"a\"]'); ROLLBACK", 0),
        ("BEGIN; SAVEPOINT a; SELECT tq_async('ok', '[\"b\"]'); ROLLBACK TO a; COMMIT", 0),
        ("BEGIN; SAVEPOINT a; SELECT tq_async('ok', '[\"c\"]'); RELEASE a; COMMIT", 1),
        ("BEGIN; SAVEPOINT a; SAVEPOINT b; SELECT tq_async('ok', '[\"d\"]'); RELEASE b; ROLLBACK TO a; COMMIT", 1),
        (
            "BEGIN; SAVEPOINT a; SAVEPOINT b; SELECT tq_async('ok', '[\"e\"]'); RELEASE b; RELEASE a; SAVEPOINT c; \
          SELECT tq_async('ok', '[\"f\"]'); ROLLBACK TO c; COMMIT",
            2,
        ),
        (
            "DO $$ BEGIN FOR n IN 1 .. 20 LOOP BEGIN PERFORM tq_async('ok', '[\"g\"]'); IF n % 2 = 0 THEN RAISE 'no'; END IF; \
          EXCEPTION WHEN raise_exception THEN END; END LOOP; END $$",
            12,
        ),
        // A cancel that is taken back, and one that isn't.
        ("BEGIN; SAVEPOINT a; SELECT tq_cancel(id) FROM t1.tq_task; ROLLBACK TO a; COMMIT", 12),
        ("SELECT tq_cancel(id) FROM (SELECT id FROM t1.tq_task LIMIT 2) AS t", 10),
        ("SELECT tq_requeue(id) FROM t1.tq_result", 12),
        (
            "SELECT tq_async('ok', '[\"h\"]', unique_key => 'k'), tq_async('ok', '[\"i\"]', unique_key => 'k', on_conflict => 'replace'), \
          tq_async('ok', '[\"j\"]', unique_key => 'k', on_conflict => 'skip')",
            13,
        ),
        ("SELECT tq_group('[{\"handler\": \"ok\", \"args\": [\"k\"]}, {\"handler\": \"ok\", \"args\": [\"l\"]}]')", 16),
    ] {
        c.batch_execute(sql).expect(sql);
        site.cluster.wait_until_within(
            Duration::from_secs(5),
            DB,
            &format!("SELECT queued = {queued} FROM tq_tenants WHERE tenant = 't1'"),
        );
        assert_right(&site, sql);
    }
    site.run("t1", "SELECT tq_resume()");
    site.wait_idle(&["t1"]);
    assert_right(&site, "at the end");
}

#[test]
fn an_emptied_tenant_may_enqueue_at_once_and_its_gauge_is_put_right_by_a_sweep() {
    let site = Site::start("tenant_q.sweep_interval = 1s\n", &["t1", "t2"]);
    site.cluster.run(DB, "SELECT tq_set_quota('t1', max_queued => 5)");
    let fill = "SELECT tq_async('ok', '[\"x\"]', delay => '1 hour')";
    let full = |when: &str| {
        let error = site.cluster.try_run_as("t1", DB, fill).expect_err(when);
        assert_eq!(error.code, "53400", "{when}: {error}");
    };
    for empty in ["TRUNCATE t1.tq_task", "DELETE FROM t1.tq_task"] {
        site.run("t1", &format!("{fill} FROM generate_series(1, 5)"));
        full("five are here");
        // In the same transaction, taken back, and for good.
        let mut c = site.client("t1");
        c.batch_execute(&format!("BEGIN; {empty}; {fill} FROM generate_series(1, 5); ROLLBACK")).expect(empty);
        full("it was taken back");
        site.run("t1", empty);
        site.run("t1", &format!("{fill} FROM generate_series(1, 4)"));
        site.run("t1", fill);
        full("five are here again");
        site.run("t1", empty);
        site.cluster.wait_until_within(Duration::from_secs(10), DB, &format!("SELECT ({WRONG}) = 0"));
    }
    // More than the engine has been told of.
    site.run("t1", "INSERT INTO tq_task (id, handler, run_at) SELECT gen_random_uuid(), 'ok', now() + '1 hour' FROM generate_series(1, 3)");
    site.cluster.wait_until_within(Duration::from_secs(10), DB, "SELECT queued = 3 FROM tq_tenants WHERE tenant = 't1'");
    site.cluster.run(DB, "SELECT tq_detach('t1', drop_data => true); SELECT tq_attach('t1')");
    site.cluster.wait_until_within(Duration::from_secs(10), DB, &format!("SELECT ({WRONG}) = 0"));
}

/// What a session does in one step, of everything that changes the rows.
const STEP: &str = "
CREATE FUNCTION public.picky(n integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    BEGIN PERFORM tq_async('ok', jsonb_build_array('from ' || n)); RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN END;
    IF n % 5 = 0 THEN RAISE 'five'; END IF;
    IF n % 7 = 0 THEN PERFORM tq_async('ok', jsonb_build_array('child of ' || n)); END IF;
END $$;
CREATE FUNCTION public.step(n integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    one uuid;
BEGIN
    CASE n % 12
    WHEN 0 THEN PERFORM tq_async('picky', jsonb_build_array(n), max_attempts => 2, retry => tq_backoff('fixed', '0.01 s'));
    WHEN 1 THEN BEGIN PERFORM tq_async('ok', '[\"lost\"]'); RAISE 'no'; EXCEPTION WHEN raise_exception THEN END;
    WHEN 2 THEN PERFORM tq_async('ok', '[\"key\"]', unique_key => 'k' || n % 5, on_conflict => 'replace', delay => '0.02 s');
    WHEN 3 THEN PERFORM tq_async('ok', '[\"key\"]', unique_key => 'k' || n % 5, on_conflict => 'skip');
    WHEN 4 THEN PERFORM tq_group('[{\"handler\": \"ok\", \"args\": [\"g\"]}, {\"handler\": \"bad\", \"args\": [\"g\"], \"max_attempts\": 1}]');
    WHEN 5 THEN PERFORM tq_chain('[{\"handler\": \"ok\", \"args\": [\"c\"]}, {\"handler\": \"ok\", \"args\": [\"d\"]}]');
    WHEN 6 THEN PERFORM tq_async('ok', '[\"late\"]', delay => '0.3 s', expires => '0 s');
    WHEN 7 THEN SELECT id INTO one FROM tq_task LIMIT 1; PERFORM tq_cancel(one);
    WHEN 8 THEN SELECT id INTO one FROM tq_task WHERE state = 'q' LIMIT 1; PERFORM tq_update(one, priority => 3);
    WHEN 9 THEN SELECT id INTO one FROM tq_result LIMIT 1; PERFORM tq_requeue(one); PERFORM tq_delete(id) FROM tq_result WHERE id <> one LIMIT 1;
    WHEN 10 THEN PERFORM tq_async('as_other', jsonb_build_array('o' || n));
    ELSE PERFORM tq_purge('0'); PERFORM tq_async('slow', '[\"s\", 0.02]', timeout => '0.01 s', max_attempts => 1);
    END CASE;
END $$;";

#[test]
fn seconds_of_mixed_traffic_leave_no_phantoms() {
    let site = Site::start("tenant_q.sweep_interval = 0\n", &["t1", "t2"]);
    site.cluster.run(DB, STEP);
    site.cluster.run(DB, "CREATE ROLE other LOGIN; GRANT other TO t1, t2; GRANT USAGE ON SCHEMA t1, t2 TO other");
    for t in ["t1", "t2"] {
        site.run(t, "SELECT tq_register('picky'); SELECT tq_register('as_other', 'ok', run_as => 'other')");
    }
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let site = &site;
            scope.spawn(move || {
                let tenant = ["t1", "t2"][thread % 2];
                let mut client = site.client(tenant);
                let began = Instant::now();
                let mut n = thread * 1000;
                while began.elapsed() < Duration::from_secs(8) {
                    n += 1;
                    let sql = match n % 9 {
                        0 => format!("BEGIN; SELECT step({n}); ROLLBACK"),
                        1 => format!("BEGIN; SELECT step({n}); SAVEPOINT a; SELECT step({}); ROLLBACK TO a; COMMIT", n + 1),
                        2 => format!("BEGIN; SAVEPOINT a; SELECT step({n}); RELEASE a; COMMIT"),
                        _ => format!("SELECT step({n})"),
                    };
                    // What loses a race is rolled back: also a case.
                    if client.batch_execute(&sql).is_err() {
                        let _ = client.batch_execute("ROLLBACK");
                    }
                }
            });
        }
    });
    site.wait_idle_within(Duration::from_secs(60), &["t1", "t2"]);
    site.cluster.wait_until_within(Duration::from_secs(5), DB, &format!("SELECT ({WRONG}) = 0"));
    site.cluster.assert_log_clean();
}

/// Has others end, also where a test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What `tq_tenants` says of t1 next to what its table holds, in one look.
const T1: &str = "SELECT (SELECT queued + running FROM tq_tenants WHERE tenant = 't1') || ' of ' || count(*) FROM t1.tq_task
    WHERE state IN ('q', 't', 'w', 'h', 'k')";

#[test]
fn the_gauge_is_right_at_once_when_a_transaction_commits_that_a_sweep_has_met_open() {
    let site = Site::start("tenant_q.sweep_interval = 1s\nmax_prepared_transactions = 2\n", &["t1"]);
    let enqueue = |n: i32| format!("SELECT tq_async('ok', '[\"x\"]', delay => '1 hour') FROM generate_series(1, {n})");
    let rows = || site.number("SELECT count(*) FROM t1.tq_task");
    let right = |when: &str| assert_eq!(site.value("postgres", T1), format!("{n} of {n}", n = rows()), "{when}");
    // Of rows that nobody has told the engine of: only a sweep finds them, and has then met whatever else is open.
    let swept = |with: &str| {
        let before = rows();
        site.run(
            "t1",
            "INSERT INTO tq_task (id, handler, run_at) SELECT gen_random_uuid(), 'ok', now() + '1 hour' FROM generate_series(1, 3)",
        );
        site.cluster.wait_until_within(
            Duration::from_secs(30),
            DB,
            &format!("SELECT queued = {before} + 3 FROM tq_tenants WHERE tenant = 't1'"),
        );
        right(with);
    };
    site.run("t1", &enqueue(40));
    let few = "SELECT id FROM t1.tq_task ORDER BY id LIMIT";
    // What the engine does itself is right at the very commit; what the owner does to its rows, at the next sweep.
    for (what, by, told) in [
        (enqueue(7), 7, true),
        (format!("SELECT tq_cancel(id) FROM ({few} 5) AS t"), -5, true),
        (format!("{}; SELECT tq_cancel(id) FROM ({few} 9) AS t", enqueue(4)), -5, true),
        (format!("SAVEPOINT a; {}; ROLLBACK TO a; SAVEPOINT b; {}; RELEASE b", enqueue(30), enqueue(6)), 6, true),
        (format!("{}; SAVEPOINT a; SELECT tq_cancel(id) FROM ({few} 8) AS t; ROLLBACK TO a", enqueue(2)), 2, true),
        (format!("DELETE FROM t1.tq_task WHERE id IN ({few} 6)"), -6, false),
        (format!("{}; DELETE FROM t1.tq_task WHERE id IN ({few} 3)", enqueue(5)), 2, false),
        ("DELETE FROM t1.tq_task".into(), i64::MIN, false),
        (enqueue(20), 20, true),
    ] {
        for end in ["COMMIT", "ROLLBACK", "PREPARE TRANSACTION 'mine'; COMMIT PREPARED 'mine'"] {
            let before = rows();
            let mut open = site.client("t1");
            open.batch_execute(&format!("BEGIN; {what}")).expect(&what);
            swept(&format!("while it is open: {what}"));
            // Neither runs in a block that begins by itself: one at a time.
            for statement in end.split("; ") {
                open.batch_execute(statement).expect(end);
            }
            let after = rows();
            match (end, by) {
                ("ROLLBACK", _) => assert_eq!(after, before + 3, "{what}"),
                (_, i64::MIN) => assert_eq!(after, 3, "{what}"),
                (_, by) => assert_eq!(after, before + 3 + by, "{what}"),
            }
            if told || end == "ROLLBACK" {
                right(&format!("at once after {end}: {what}"));
            } else {
                swept(&format!("by the sweep after {end}: {what}"));
            }
        }
        site.run("t1", &enqueue(10));
    }
    // It is what quotas are held against.
    let there = rows();
    site.cluster.run(DB, &format!("SELECT tq_set_quota('t1', max_queued => {})", there + 2));
    site.run("t1", &enqueue(2));
    assert_eq!(site.cluster.try_run_as("t1", DB, &enqueue(1)).expect_err("it is full").code, "53400");
    site.cluster.assert_log_clean();
}

#[test]
fn the_gauge_is_right_whenever_nobody_writes_however_many_sweeps_have_met_commits() {
    // Sweeps come as they are ordered, one upon the other.
    let site = Site::start("tenant_q.sweep_interval = 0\n", &["t1"]);
    let fill = "SELECT tq_async('ok', '[\"x\"]', delay => '1 hour') FROM generate_series(1, 50)";
    site.run("t1", fill);
    let swept = || site.cluster.value(DB, "SELECT value FROM tq_health() WHERE check_name = 'sweep'");
    // What is so already is not said again, and orders nothing.
    let mut orders = 0;
    let mut order = || {
        orders += 1;
        site.cluster.run(DB, &format!("SELECT tq_register('ok', 'public.ok(text)', shared => true, priority => {orders})"));
    };
    for round in 0..20 {
        let over = AtomicBool::new(false);
        let before = swept();
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let (site, over) = (&site, &over);
                scope.spawn(move || {
                    let mut client = site.client("t1");
                    let mut n = thread;
                    while !over.load(Ordering::Relaxed) {
                        n += 1;
                        let sql = match n % 5 {
                            0 => "SELECT tq_cancel(id) FROM (SELECT id FROM tq_task ORDER BY random() LIMIT 4) AS t",
                            1 => "BEGIN; SELECT tq_async('ok', '[\"x\"]', delay => '1 hour') FROM generate_series(1, 9); ROLLBACK",
                            2 => "BEGIN; SELECT tq_async('ok', '[\"x\"]', delay => '1 hour'); SAVEPOINT a; SELECT tq_async('ok', '[\"x\"]', delay => '1 hour');
                                  ROLLBACK TO a; SELECT tq_cancel(id) FROM (SELECT id FROM tq_task ORDER BY random() LIMIT 1) AS t; COMMIT",
                            _ => "SELECT tq_async('ok', '[\"x\"]', delay => '1 hour') FROM generate_series(1, 2)",
                        };
                        // What loses a race is rolled back: also a case.
                        if client.batch_execute(sql).is_err() {
                            let _ = client.batch_execute("ROLLBACK");
                        }
                    }
                });
            }
            // Three sweeps at least have begun and ended meanwhile.
            let mut last = before;
            let ended = Ends(&over);
            for _ in 0..3 {
                order();
                wait_for("a sweep", PATIENCE, || {
                    let now = swept();
                    now != last && !now.starts_with("at tenant")
                });
                last = swept();
            }
            order();
            drop(ended);
        });
        let n = site.number("SELECT count(*) FROM t1.tq_task WHERE state IN ('q', 't', 'w', 'h', 'k')");
        assert_eq!(site.value("postgres", T1), format!("{n} of {n}"), "round {round}");
    }
    site.cluster.assert_log_clean();
}
