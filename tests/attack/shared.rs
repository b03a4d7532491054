//! What tenants share: locks, and the tables of fixed size. One tenant can hold or fill what is its own, and nobody else's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cluster::Stop;

use crate::site::{DB, Site};

/// Everything that takes a lock by a name that somebody else could guess.
const GUESSABLE: &str = "
    SELECT tq_async('ok', '[\"unique\"]', unique_key => 'invoice-42', delay => '1 hour');
    SELECT tq_async('ok', '[\"id\"]', id => '01900000-0000-7000-8000-000000000042', delay => '1 hour');
    SELECT tq_schedule('nightly', 'ok', '1 hour', args => '[\"nightly\"]');
    SELECT tq_schedule('morning', 'ok', 'after', after => '{nightly}', args => '[\"morning\"]');";

/// The locks that everybody sees of everybody: class and key.
const LOCKS: &str = "SELECT objsubid || ' ' || classid || ' ' || objid FROM pg_locks
     WHERE locktype = 'advisory' AND objsubid > 2 AND (pid IS NULL OR pid <> pg_backend_pid()) ORDER BY 1";

#[test]
fn what_a_tenant_holds_is_waited_for_by_no_other_and_tells_it_nothing() {
    let site = Site::start("max_prepared_transactions = 5\n", &["t1", "t2"]);
    let mut open = site.client("t1");
    let mut prepared = site.client("t1");
    for (hostage, how, release) in [(&mut open, "", "ROLLBACK"), (&mut prepared, "PREPARE TRANSACTION 'mine'", "ROLLBACK PREPARED 'mine'")]
    {
        hostage.batch_execute(&format!("BEGIN; {GUESSABLE} {how}")).expect("hold");
        let held: Vec<_> = site.cluster.rows_as("t2", DB, LOCKS).iter().map(|row| row.joined("")).collect();
        assert!(held.len() >= 5, "{held:?}");
        // The same of its own: at once, and by other keys.
        let mut other = site.client("t2");
        let began = Instant::now();
        other.batch_execute(&format!("SET statement_timeout = '5s'; BEGIN; {GUESSABLE}")).expect("nobody waits");
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        let both: Vec<_> = site.cluster.rows_as("t2", DB, LOCKS).iter().map(|row| row.joined("")).collect();
        assert_eq!(both.len(), 2 * held.len(), "{both:?}");
        let distinct: std::collections::HashSet<_> = both.iter().collect();
        assert_eq!(distinct.len(), both.len(), "a lock is of one tenant only");
        other.batch_execute("ROLLBACK").expect("rollback");
        // A second session of the same tenant waits, as it should.
        let refused =
            site.cluster.try_run_as("t1", DB, "SET lock_timeout = '200ms'; SELECT tq_async('ok', '[\"x\"]', unique_key => 'invoice-42')");
        assert_eq!(refused.expect_err("it waits").code, "55P03");
        hostage.batch_execute(release).expect("release");
    }
    // Nobody but the extension's owner can read what they are hashed with.
    let refused = site.cluster.try_rows_as("t1", DB, "SELECT * FROM tenant_q.secret");
    assert_eq!(refused.expect_err("refused").code, "42501");
    site.cluster.assert_log_clean();
}

#[test]
fn schedules_of_others_fire_while_a_tenant_holds_everything_it_can() {
    let site = Site::start("max_prepared_transactions = 5\n", &["t1", "t2"]);
    for t in ["t1", "t2"] {
        site.run(t, "SELECT tq_schedule('tick', 'ok', '1 second', args => '[\"tick\"]', task => '{\"unique_key\": \"tick\"}')");
    }
    let fired = |n: i64| format!("SELECT count(*) >= {n} FROM fx WHERE tenant = 't2'");
    site.cluster.wait_until(DB, &fired(1));
    // Its own schedule's key, name, order and rows.
    let mut hostage = site.client("t1");
    hostage
        .batch_execute(&format!(
            "BEGIN; SELECT tq_async('ok', '[\"x\"]', unique_key => 'tick', delay => '1 hour'); {GUESSABLE}
             SELECT FROM tq_schedule FOR UPDATE; PREPARE TRANSACTION 'mine'"
        ))
        .expect("hold");
    let so_far = site.number("SELECT count(*) FROM fx WHERE tenant = 't2'");
    let took = site.cluster.wait_until_within(Duration::from_secs(15), DB, &fired(so_far + 4));
    assert!(took < Duration::from_secs(10), "{took:?}");
    site.assert_alive("t2");
    hostage.batch_execute("ROLLBACK PREPARED 'mine'").expect("release");
    let before = site.number("SELECT count(*) FROM fx WHERE tenant = 't1'");
    site.cluster.wait_until(DB, &format!("SELECT count(*) > {before} FROM fx WHERE tenant = 't1'"));
    site.cluster.assert_log_clean();
}

#[test]
fn a_dump_has_no_secret_and_a_restored_database_has_one_of_its_own() {
    let site = Site::start("", &["t1"]);
    let secret = "SELECT first || ' ' || second FROM tenant_q.secret";
    let original = site.cluster.value(DB, secret);
    let dump = std::process::Command::output(site.cluster.program("pg_dump").args(["-d", DB])).expect("pg_dump");
    let dump = String::from_utf8_lossy(&dump.stdout).into_owned();
    assert!(dump.contains("CREATE EXTENSION") && dump.contains("COPY tenant_q.tenant "), "it is a dump");
    assert!(!dump.contains("tenant_q.secret") && original.split(' ').all(|half| !dump.contains(half)));
    site.cluster.run(DB, "CREATE DATABASE other");
    site.cluster.run("other", "CREATE EXTENSION tenant_q");
    assert_ne!(site.cluster.value("other", secret), original);
    // Without its row it says so.
    site.cluster.run(
        "other",
        "CREATE SCHEMA s; SELECT tq_attach('s'); CREATE FUNCTION s.f() RETURNS int LANGUAGE sql RETURN 1;
         SELECT tq_register('f', tenant => 's'); DELETE FROM tenant_q.secret",
    );
    let refused =
        site.cluster.try_run_as("postgres", "other", "SELECT tq_async('f', unique_key => 'k', tenant => 's')").expect_err("refused");
    assert_eq!(refused.code, "55000");
    site.cluster.run("other", "INSERT INTO tenant_q.secret VALUES (1, gen_random_uuid(), gen_random_uuid())");
    site.cluster.run("other", "SELECT tq_async('f', unique_key => 'k', tenant => 's')");
}

#[test]
fn nine_thousand_rates_of_one_tenant_stop_nobody_elses_and_lose_no_quota() {
    let site = Site::start("tenant_q.max_tenants = 64\ntenant_q.max_executors = 2\n", &["t1", "t2"]);
    // What t1 could do by 9,000 calls; and the administrator's word on it, which its own keys must not push out.
    site.cluster.run(
        DB,
        "INSERT INTO tenant_q.limit_key (tenant, key, rate, algorithm) SELECT 't1', 'k' || n, '1/d', 'bucket' FROM generate_series(1, 9000) AS n;
         SELECT tq_set_quota('t1', rate => '8700/d')",
    );
    site.run("t2", "SELECT tq_set_limit('mail', rate => '1/h')");
    let first = site.enqueue("t2", "ok", r#"["first"]"#, ", limit_key => 'mail'");
    site.wait_ended("t2", &first, 'd');
    let waiting = site.enqueue("t2", "ok", r#"["second"]"#, ", limit_key => 'mail'");
    site.run(
        "t1",
        "SELECT tq_async('ok', jsonb_build_array(n), limit_key => 'k' || n, name => 'n' || n) FROM generate_series(1, 9000) AS n",
    );
    site.cluster.wait_until(DB, "SELECT count(*) >= 8700 FROM fx WHERE tenant = 't1'");
    // Others: whoever has a rate goes on to use it, and whoever has used it up still has.
    site.run("t2", "SELECT tq_register('slow', rate => '10/s'); SELECT tq_set_limit('other', rate => '5/s')");
    for n in 0..5 {
        let id = site.enqueue("t2", "slow", &format!(r#"["other {n}", 0]"#), ", limit_key => 'other'");
        site.cluster.wait_until_within(
            Duration::from_secs(10),
            DB,
            &format!("SELECT EXISTS (SELECT FROM t2.tq_result WHERE id = '{id}' AND state = 'd')"),
        );
    }
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE k = 'second'"), 0, "another tenant's rates were forgotten");
    // A day's worth is one in ten seconds.
    let ran = site.number("SELECT count(*) FROM fx WHERE tenant = 't1'");
    assert!((8700..8730).contains(&ran), "{ran}: the quota was forgotten");
    // It is said.
    let why = site.cluster.rows_as("t2", DB, &format!("SELECT reason, detail FROM tq_why('{waiting}')"));
    assert_eq!(why[0].get(0), "rate", "{}", why[0].joined(" | "));
    assert!(why[0].get(1).contains("limit \"mail\" is at its rate of 1/h bucket: the next may start at "), "{}", why[0].get(1));
    let full = "what = 'tenant t1' AND reason LIKE '%table of rates is full%' AND fix LIKE 'ALTER SYSTEM SET tenant_q.max_tenants = 128%'";
    for who in ["t1", "postgres"] {
        assert_eq!(site.value(who, &format!("SELECT count(*) FROM tq_problems WHERE {full}")), "1", "{who}");
    }
    assert_eq!(site.value("t2", "SELECT count(*) FROM tq_problems WHERE reason LIKE '%rates%'"), "0", "t2 has nothing to do with it");
    assert_eq!(site.number("SELECT count(*) FROM tq_problems WHERE what = 'the server' AND reason LIKE '%last for tenant t1%'"), 1);
    assert_eq!(site.number("SELECT count(*) FROM tq_health() WHERE check_name = 'shared_memory' AND NOT ok AND detail LIKE '%rates%'"), 1);
    site.cluster.mend(DB, full);
    site.cluster.assert_log_clean();
}

#[test]
fn failures_and_counters_of_one_tenant_displace_its_own() {
    let site = Site::start("tenant_q.failure_ring = 20\ntenant_q.max_stats = 20\n", &["t1", "t2", "t3"]);
    site.run("t2", "SELECT tq_async('bad', jsonb_build_array(n), max_attempts => 1) FROM generate_series(1, 5) AS n");
    site.run("t2", "SELECT tq_async('ok', '[\"counted\"]')");
    site.wait_idle(&["t2"]);
    site.run(
        "t1",
        "SELECT tq_register('h' || n, 'public.bad(text)') FROM generate_series(1, 30) AS n;
         SELECT tq_async('h' || n, jsonb_build_array('h' || n), max_attempts => 1) FROM generate_series(1, 30) AS n",
    );
    site.wait_idle(&["t1"]);
    let told = |tenant: &str| site.number(&format!("SELECT count(*) FROM tq_failures WHERE tenant = '{tenant}'"));
    site.cluster.wait_until(DB, "SELECT count(*) = 20 FROM tq_failures");
    assert_eq!((told("t1"), told("t2")), (15, 5));
    // A third one gets its places from whoever has most, the oldest first.
    site.run("t3", "SELECT tq_async('bad', jsonb_build_array(n), max_attempts => 1) FROM generate_series(1, 3) AS n");
    site.wait_idle(&["t3"]);
    site.cluster.wait_until(DB, "SELECT count(*) = 3 FROM tq_failures WHERE tenant = 't3'");
    assert_eq!((told("t1"), told("t2")), (12, 5));
    let sorted = "SELECT bool_and(at <= before) FROM (SELECT at, coalesce(lag(at) OVER (), at) AS before FROM tq_failures) AS x";
    assert_eq!(site.cluster.value(DB, sorted), "t", "newest first");
    assert_eq!(site.number("SELECT count(*) FROM tq_stats WHERE tenant = 't2' AND handler IN ('ok', 'bad')"), 2);
    assert_eq!(site.number("SELECT count(*) FROM tq_stats WHERE tenant = 't3' AND handler = 'bad'"), 1);
    assert_eq!(site.number("SELECT count(*) FROM tq_problems WHERE what = 'tenant t1' AND reason LIKE '%counters of handlers%'"), 1);
    site.cluster.assert_log_clean();
}

#[test]
fn an_administrator_is_told_who_holds_a_tenant_and_waits_for_nobody_for_ever() {
    let site = Site::start("max_prepared_transactions = 5\n", &["t1", "t2"]);
    site.cluster.run(DB, "SELECT tq_pause('t1', queue => 'q')");
    let held =
        "BEGIN; SELECT tq_async('ok', '[\"held\"]', unique_key => 'k'), tq_set_tenant(save_limit => 7), tq_pause(duration => '1 hour'),
                    tq_register('ok', max_attempts => 2);";
    let calls = ["SELECT tq_set_quota('t1', max_running => 1)", "SELECT tq_detach('t1')", "SELECT tq_pause('t1')"];
    let mut hostage = site.client("t1");
    hostage.batch_execute(held).expect("hold");
    let pid: i32 = hostage.query_one("SELECT pg_backend_pid()", &[]).expect("pid").get(0);
    // Five seconds by itself; less if lock_timeout says so.
    let began = Instant::now();
    assert_eq!(site.cluster.try_run_as("postgres", DB, calls[0]).expect_err("refused").code, "55P03");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    let refused = |call: &str| {
        let began = Instant::now();
        let error = site.cluster.try_run_as("postgres", DB, &format!("SET lock_timeout = '700ms'; {call}")).expect_err(call);
        assert!(began.elapsed() < Duration::from_secs(15), "{call}: {:?}", began.elapsed());
        assert_eq!(error.code, "55P03", "{call}: {error}");
        error
    };
    for call in calls {
        let error = refused(call);
        assert_eq!(error.detail, format!("Held by process {pid} of role \"t1\"."), "{call}: {error}");
        assert_eq!(error.hint, format!("SELECT pg_terminate_backend({pid}); then call it again."), "{call}");
    }
    // Others are nobody's hostage, and what was refused has left nothing.
    site.cluster.run(DB, "SELECT tq_set_quota('t2', max_running => 3), tq_pause('t2'), tq_resume('t2')");
    site.assert_alive("t2");
    hostage.batch_execute("PREPARE TRANSACTION 'it''s mine'").expect("prepare");
    for call in calls {
        let error = refused(call);
        assert!(error.detail.contains("prepared transaction 'it''s mine' of role \"t1\""), "{call}: {error}");
        assert_eq!(error.hint, "ROLLBACK PREPARED 'it''s mine'; then call it again.", "{call}");
    }
    site.cluster.run(DB, "ROLLBACK PREPARED 'it''s mine'");
    for call in [calls[0], calls[2], calls[1]] {
        site.cluster.run(DB, call);
    }
    site.cluster.assert_log_clean();
}

#[test]
fn more_tenants_with_work_than_places_are_all_served_and_none_is_refused() {
    let site = Site::start("tenant_q.max_tenants = 64\ntenant_q.max_executors = 2\n", &["t1"]);
    let make = |from: i32, to: i32| {
        site.cluster.run(
            DB,
            &format!(
                "DO $$ BEGIN FOR n IN {from}..{to} LOOP
                     EXECUTE format('CREATE SCHEMA s%s AUTHORIZATION t1', n);
                     PERFORM tq_attach('s' || n), tq_register('ok', tenant => 's' || n), tq_register('slow', tenant => 's' || n);
                 END LOOP; END $$"
            ),
        );
    };
    make(1, 38);
    make(39, 76);
    let done = |k: &str, n: i64| format!("SELECT count(DISTINCT tenant) = {n} FROM fx WHERE k = '{k}'");
    // One transaction holds on to all entries that there are; what it writes beyond is written all the same.
    site.cluster.run(DB, "SELECT tq_async('ok', '[\"now\"]', tenant => 's' || n) FROM generate_series(1, 76) AS n");
    site.cluster.wait_until_within(Duration::from_secs(30), DB, &done("now", 76));
    // Work to come, and schedules: their tenants' places go to others meanwhile, not their times.
    site.cluster.run(DB, "SELECT tq_async('ok', '[\"later\"]', tenant => 's' || n, delay => '2 seconds') FROM generate_series(1, 76) AS n");
    site.cluster.run(
        DB,
        "SELECT tq_schedule('once', 'ok', '3 seconds', args => '[\"fired\"]', tenant => 's' || n) FROM generate_series(1, 76) AS n",
    );
    site.cluster.wait_until_within(Duration::from_secs(30), DB, &done("later", 76));
    site.cluster.wait_until_within(Duration::from_secs(40), DB, &done("fired", 76));
    site.cluster.run(DB, "SELECT tq_unschedule('once', tenant => 's' || n) FROM generate_series(1, 76) AS n");
    // Those who have a place have work without end: they stand back for the others.
    site.cluster.run(
        DB,
        "SELECT tq_async('slow', '[\"long\", 0.01]', tenant => 's' || n) FROM generate_series(1, 64) AS n, generate_series(1, 100);
         SELECT tq_async('ok', '[\"newcomer\"]', tenant => 's' || n) FROM generate_series(65, 76) AS n",
    );
    site.cluster.wait_until_within(Duration::from_secs(40), DB, &done("newcomer", 12));
    assert!(site.number("SELECT count(*) FROM fx WHERE k = 'long'") < 6400, "they had work all the time");
    assert_eq!(site.number("SELECT count(*) FROM tq_health() WHERE check_name = 'shared_memory' AND NOT ok"), 1);
    assert_eq!(
        site.number(
            "SELECT count(*) FROM tq_problems WHERE what = 'the server' AND reason LIKE '%entries of tenants%' AND fix LIKE '%max_tenants%'"
        ),
        1
    );
    site.cluster.assert_log_clean();
}

/// Tenants `s1` to `s64` of one role, and `before`, which has had work first and done it: in a table of 64 places that have been
/// nobody else's, all but the last are taken now. `before` is idle, and the only one that has nothing to do.
fn full_of_tenants_but_for(before: &str, work: &str) -> Site {
    let site = Site::start("tenant_q.max_tenants = 64\ntenant_q.max_executors = 1\n", &["t1", before]);
    for (first, last) in [(1, 32), (33, 64)] {
        site.cluster.run(
            DB,
            &format!(
                "DO $$ BEGIN FOR n IN {first}..{last} LOOP
                     EXECUTE format('CREATE SCHEMA s%s AUTHORIZATION t1', n);
                     PERFORM tq_attach('s' || n), tq_register('ok', tenant => 's' || n), tq_register('slow', tenant => 's' || n);
                 END LOOP; END $$"
            ),
        );
    }
    // Nobody has a place any more.
    site.cluster.restart(Stop::Fast);
    site.cluster.wait_until(DB, "SELECT ok FROM tq_health() WHERE check_name = 'sweep'");
    site.run(before, work);
    site.wait_idle(&[before]);
    site.cluster.run(DB, "SELECT tq_async('ok', '[\"first\"]', tenant => 's' || n) FROM generate_series(1, 63) AS n");
    site.cluster.wait_until(DB, "SELECT count(*) = 63 FROM fx WHERE k = 'first'");
    // It is still known of it: the place is its own.
    site.cluster.wait_until(DB, &format!("SELECT sum(done) = 63 FROM tq_tenants WHERE tenant <> '{before}'"));
    assert!(site.number(&format!("SELECT done FROM tq_tenants WHERE tenant = '{before}'")) > 0, "{}", site.cluster.activity());
    site
}

/// The others hold on to their places by what they enqueue: the newcomer gets the one of `before`.
fn give_its_place_away(site: &Site, before: &str, work: &str) {
    site.cluster.run(DB, &format!("{work} FROM generate_series(1, 64) AS n, generate_series(1, 20)"));
    assert_eq!(
        site.cluster.value(DB, "SELECT value FROM tq_metrics WHERE name = 'tenant_q_evictions_total'"),
        "1",
        "{}",
        site.cluster.activity()
    );
    assert_eq!(site.number(&format!("SELECT done FROM tq_tenants WHERE tenant = '{before}'")), 0, "it has lost its place");
}

#[test]
fn a_place_given_to_another_tenant_shows_nothing_of_the_one_before() {
    let site = full_of_tenants_but_for(
        "busy",
        "SELECT tq_async('ok', '[\"done\"]') FROM generate_series(1, 300);
         SELECT tq_async('bad', '[\"failed\"]', max_attempts => 1) FROM generate_series(1, 50)",
    );
    let shown = site.cluster.rows(DB, "SELECT done, failed, done_1m > 0 AND failed_1m > 0 FROM tq_tenants WHERE tenant = 'busy'");
    assert_eq!(shown[0].joined(" "), "300 50 t");
    give_its_place_away(&site, "busy", "SELECT tq_async('ok', '[\"second\"]', tenant => 's' || n)");
    site.cluster.wait_until(DB, "SELECT count(*) = 1280 FROM fx WHERE k = 'second'");
    site.cluster.wait_until(DB, "SELECT sum(done) = 63 + 1280 FROM tq_tenants");
    let wrong = site.cluster.rows(
        DB,
        "SELECT tenant, done, done_1m, failed, failed_1m, retried, queued, lag, status, reason FROM tq_tenants
         WHERE done_1m > done OR failed_1m > 0 OR failed > 0 OR retried > 0 OR queued > 0 OR lag IS NOT NULL OR status <> 'on' OR reason IS NOT NULL
             OR tenant = 's64' AND done <> 20 OR tenant = 'busy' AND done_1m > 0",
    );
    assert!(wrong.is_empty(), "{}", wrong.iter().map(|row| row.joined(" | ")).collect::<Vec<_>>().join("\n"));
    site.cluster.assert_log_clean();
}

/// What `busy` has run was charged while it stood in line, with nothing behind it: only its next turn would have shown it.
#[test]
fn a_place_given_to_another_tenant_owes_nothing_for_the_one_before() {
    let site = full_of_tenants_but_for("busy", "SELECT tq_async('slow', '[\"long\", 4]') FROM generate_series(1, 2)");
    give_its_place_away(&site, "busy", "SELECT tq_async('slow', '[\"second\", 0.01]', tenant => 's' || n)");
    site.cluster.wait_until(DB, "SELECT count(*) = 1280 FROM fx WHERE k = 'second'");
    // All of one role, with the same work from the same moment on: each has begun before any is through.
    let first = "SELECT count(*) FROM fx WHERE k = 'second' AND at < (SELECT min(at) FROM fx WHERE k = 'second' AND tenant = 's64')";
    let others = site.number(first);
    assert!(others < 640, "{others} tasks of others came before the newcomer's first");
    site.cluster.assert_log_clean();
}

#[test]
fn a_tenant_whose_schedules_are_served_keeps_its_place_meanwhile_and_no_fire_time_is_lost() {
    const EACH_SECOND: i64 = 10;
    const EACH_OTHER: i64 = 10;
    // No sweep of its own accord finds a schedule that was forgotten.
    let conf = "tenant_q.max_tenants = 64\ntenant_q.max_executors = 2\ntenant_q.sweep_interval = 0\n";
    let site = Site::start(conf, &["t1"]);
    site.cluster.run(DB, "SELECT tq_register('ok', 'public.ok(text)', shared => true)");
    for (first, last) in [(1, 40), (41, 80), (81, 120)] {
        site.cluster.run(
            DB,
            &format!(
                "DO $$ BEGIN FOR n IN {first}..{last} LOOP
                     EXECUTE format('CREATE SCHEMA s%s AUTHORIZATION t1', n);
                     PERFORM tq_attach('s' || n);
                 END LOOP; END $$"
            ),
        );
    }
    let schedules = EACH_SECOND + EACH_OTHER;
    let others: Vec<String> = (schedules + 1..=schedules + 100).map(|n| format!("s{n}")).collect();
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    site.cluster.run(
        DB,
        &format!(
            "SELECT tq_schedule('tick', 'ok', CASE WHEN n <= {EACH_SECOND} THEN '1 second' ELSE '2 seconds' END, args => '[\"tick\"]',
                                catch_up => 'all', tenant => 's' || n) FROM generate_series(1, {schedules}) AS n"
        ),
    );
    let metric = |name: &str| site.number(&format!("SELECT value::bigint FROM tq_metrics WHERE name = 'tenant_q_{name}'"));
    let fired =
        "SELECT 's' || n AS tenant, (SELECT count(*) FROM fx WHERE k = 'tick' AND tenant = 's' || n) AS n FROM generate_series(1, 20) AS n";
    assert_eq!(schedules, 20);
    // All of them have fired so many times more.
    let fire = |more: i64| {
        let before: Vec<String> = site.cluster.rows(DB, fired).iter().map(|row| format!("('{}', {})", row.get(0), row.get(1))).collect();
        site.cluster.wait_until(
            DB,
            &format!(
                "SELECT count(*) = 0 FROM ({fired}) AS f JOIN (VALUES {}) AS b (tenant, n) USING (tenant) WHERE f.n < b.n + {more}",
                before.join(", ")
            ),
        );
    };
    fire(1);
    for round in 0..4 {
        let evicted = metric("evictions_total");
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // A hundred tenants take forty-four places from each other, with work to do and work to come.
            let (site, over) = (&site, &over);
            scope.spawn(move || {
                let mut client = site.cluster.client("postgres", DB);
                let mut n = 0;
                while !over.load(Ordering::Relaxed) {
                    n += 1;
                    let sql = format!(
                        "SELECT tq_async('ok', '[\"now {round}\"]', tenant => 's{tenant}'),
                                tq_async('ok', '[\"later\"]', tenant => 's{tenant}', delay => '2 seconds')",
                        tenant = schedules + 1 + n % 100
                    );
                    client.batch_execute(&sql).expect("enqueue");
                    // No faster than it can be done.
                    if n % 50 == 0 {
                        site.cluster.wait_until(DB, &format!("SELECT count(*) = {n} FROM fx WHERE k = 'now ' || {round}"));
                    }
                }
            });
            let stop = Stopped(over);
            fire(4);
            drop(stop);
        });
        assert!(metric("evictions_total") > evicted + 20, "places went from hand to hand");
        assert_eq!(metric("entries"), 64, "the table is full");
        // Nobody else comes now: what was forgotten stays so.
        site.wait_idle(&others);
        fire(3);
    }
    site.cluster.run(DB, &format!("SELECT tq_unschedule('tick', tenant => 's' || n) FROM generate_series(1, {schedules}) AS n"));
    for n in 1..=schedules {
        let tenant = format!("s{n}");
        site.wait_idle(&[&tenant]);
        let rows = site.cluster.rows(
            DB,
            &format!(
                "SELECT count(*), count(DISTINCT scheduled_for), 1 + extract(epoch FROM max(scheduled_for) - min(scheduled_for))::int / {every},
                        count(*) FILTER (WHERE state <> 'd'), (SELECT count(*) FROM fx WHERE k = 'tick' AND tenant = '{tenant}')
                 FROM {tenant}.tq_result WHERE schedule = 'tick'",
                every = if n <= EACH_SECOND { 1 } else { 2 }
            ),
        );
        let all = rows[0].get(0).to_owned();
        assert_eq!(
            rows[0].joined(" "),
            format!("{all} {all} {all} 0 {all}"),
            "{tenant}: tasks, fire times, times that passed, not done, effects"
        );
    }
    // The others' work was done, too, once each.
    assert_eq!(site.number("SELECT count(*) FILTER (WHERE k LIKE 'now %') - count(*) FILTER (WHERE k = 'later') FROM fx"), 0);
    site.cluster.assert_log_clean();
}

/// Says that it is over, also where a test fails.
struct Stopped<'a>(&'a AtomicBool);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// More roles than the server has places for tenants, each with work.
#[test]
fn more_roles_with_work_than_places_are_all_served() {
    let site = Site::start("tenant_q.max_tenants = 64\ntenant_q.max_executors = 2\n", &["t1"]);
    for first in [1, 41, 81] {
        site.cluster.run(
            DB,
            &format!(
                "DO $$ BEGIN FOR n IN {first}..{last} LOOP
                     EXECUTE format('CREATE ROLE r%s LOGIN', n);
                     EXECUTE format('CREATE SCHEMA r%s AUTHORIZATION r%s', n, n);
                     PERFORM tq_attach('r' || n), tq_register('ok', tenant => 'r' || n);
                 END LOOP; END $$",
                last = first + 39
            ),
        );
    }
    for round in ["first", "second"] {
        for first in [1, 61] {
            site.cluster.run(
                DB,
                &format!("SELECT tq_async('ok', '[\"{round}\"]', tenant => 'r' || n) FROM generate_series({first}, {}) AS n", first + 59),
            );
        }
        site.cluster.wait_until_within(
            Duration::from_secs(90),
            DB,
            &format!("SELECT count(DISTINCT tenant) = 120 AND count(*) = 120 FROM fx WHERE k = '{round}'"),
        );
    }
    // Who came first is found again.
    site.assert_alive("t1");
    site.cluster.assert_log_clean();
}

/// More tasks that end their executors than an entry can remember: each comes to its end, and nobody else waits for that.
#[test]
fn more_tasks_that_end_their_executors_than_are_remembered_end_all_the_same() {
    let site = Site::start("tenant_q.max_executors = 2\n", &["t1", "t2"]);
    site.run(
        "t1",
        "CREATE FUNCTION leave(k text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); END $$;
         SELECT tq_register('leave', max_attempts => 1);
         SELECT tq_async('leave', jsonb_build_array(n)) FROM generate_series(1, 12) AS n;
         SELECT tq_async('ok', '[\"innocent\"]')",
    );
    let began = Instant::now();
    while site.number("SELECT count(*) FROM t1.tq_result WHERE state = 'f'") < 12 {
        assert!(began.elapsed() < Duration::from_secs(240), "they never end");
        let at = Instant::now();
        site.assert_alive("t2");
        assert!(at.elapsed() < Duration::from_secs(5), "the neighbour waited {:?}", at.elapsed());
        std::thread::sleep(Duration::from_millis(200));
    }
    site.wait_idle(&["t1"]);
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE k = 'innocent'"), 1);
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_result WHERE state = 'f' AND error ->> 'sqlstate' = '57P01'"), 12);
    site.cluster.assert_log_clean();
}

#[test]
fn a_schema_is_renamed_whoever_names_it_in_an_open_transaction() {
    let site = Site::start("max_prepared_transactions = 5\n", &["t1", "t2"]);
    site.cluster.run(DB, "CREATE FUNCTION t2.shared() RETURNS void LANGUAGE sql AS ''; GRANT USAGE ON SCHEMA t2 TO t1; GRANT CREATE ON DATABASE postgres TO t2");
    site.run("t1", "SELECT tq_set_tenant(shared_schemas => '{t2}'), tq_register('theirs', 't2.shared()')");
    site.run(
        "t1",
        "BEGIN; SELECT tq_set_tenant(save_limit => 3), tq_register('theirs', 't2.shared()', max_attempts => 1); PREPARE TRANSACTION 'mine'",
    );
    let began = Instant::now();
    site.run("t2", "ALTER SCHEMA t2 RENAME TO t2x");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    site.cluster.run(DB, "ALTER ROLE t2 SET search_path = t2x, public");
    site.cluster.run(DB, "ROLLBACK PREPARED 'mine'");
    let id = site.enqueue("t2", "ok", r#"["renamed"]"#, "");
    site.wait_ended("t2x", &id, 'd');
    site.assert_alive("t1");
    site.cluster.assert_log_clean();
}
