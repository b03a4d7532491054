//! Processes: whatever comes due and isn't served, none of them spins; who holds the places is known and can be made to
//! let one go; what is missing is said.

use std::time::Duration;

use crate::site::{DB, Site};

/// How often the processes of this kind that live now have woken up, and in vain, for the reasons for which `condition` holds.
fn wakes(site: &Site, kind: &str, condition: &str) -> (i64, i64) {
    let sum = |column: &str| {
        site.number(&format!(
            "SELECT coalesce(sum(value::bigint), 0) FROM tq_workers, jsonb_each_text({column}) WHERE kind = '{kind}' AND {condition}"
        ))
    };
    (sum("wakes"), sum("vain"))
}

/// A row that no commit announces; waits until its task has run.
fn raw_insert_runs(site: &Site, tenant: &str, k: &str) {
    site.run(tenant, &format!("INSERT INTO tq_task (handler, args) VALUES ('ok', '[\"{k}\"]')"));
    site.cluster.wait_until_within(Duration::from_secs(20), DB, &format!("SELECT EXISTS (SELECT FROM fx WHERE k = '{k}')"));
}

fn assert_nobody_spins(site: &Site) {
    let faults = site.cluster.rows(DB, "SELECT value FROM tq_health() WHERE check_name = 'wakes' AND NOT ok");
    assert!(faults.is_empty(), "{}", faults[0].get(0));
}

#[test]
fn sweeps_go_on_beside_a_scheduler_that_lives_and_nobody_spins() {
    let site = Site::start("tenant_q.sweep_interval = 1s\n", &["t1", "t2", "t3"]);
    site.run("t2", "SELECT tq_schedule('often', 'ok', 'every 5 seconds', args => '[\"often\"]', overlap => 'allow')");
    // Due, and served by nobody.
    site.run("t3", "SELECT tq_schedule('paused', 'ok', 'every 5 seconds', args => '[\"paused\"]'); SELECT tq_pause()");
    site.run("t3", "SELECT tq_async('ok', '[\"later\"]', delay => '1 second') FROM generate_series(1, 10)");
    site.cluster.wait_until(DB, "SELECT EXISTS (SELECT FROM fx WHERE k = 'often')");
    let scheduler = site.cluster.value(DB, "SELECT pid FROM tq_workers WHERE kind = 'scheduler'");
    for n in 0..2 {
        raw_insert_runs(&site, "t1", &format!("raw {n}"));
    }
    let before = (wakes(&site, "launcher", "true"), wakes(&site, "scheduler", "true"));
    let began = std::time::Instant::now();
    for n in 2..5 {
        raw_insert_runs(&site, "t1", &format!("raw {n}"));
    }
    let seconds = began.elapsed().as_secs() as i64 + 1;
    let after = (wakes(&site, "launcher", "true"), wakes(&site, "scheduler", "true"));
    assert_eq!(site.cluster.value(DB, "SELECT pid FROM tq_workers WHERE kind = 'scheduler'"), scheduler, "it has lived all the while");
    // A sweep a second, a fire time in five, three tasks, a look at the clock in two.
    assert!(after.0.0 - before.0.0 <= 10 * seconds + 30, "the launcher woke {} times in {seconds} s", after.0.0 - before.0.0);
    assert!(after.1.0 - before.1.0 <= 10 * seconds + 30, "the scheduler woke {} times in {seconds} s", after.1.0 - before.1.0);
    assert_nobody_spins(&site);
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE k IN ('paused', 'later')"), 0);
    site.cluster.assert_log_clean();
}

#[test]
fn switched_off_the_launcher_sleeps_whatever_comes_due() {
    let site = Site::start("tenant_q.sweep_interval = 1s\n", &["t1"]);
    site.run("t1", "SELECT tq_schedule('often', 'ok', 'every 5 seconds', args => '[\"often\"]')");
    site.run(
        "t1",
        "SELECT tq_async('ok', jsonb_build_array('before ' || n), delay => n * interval '50 ms') FROM generate_series(1, 40) AS n",
    );
    site.cluster.run(DB, "ALTER SYSTEM SET tenant_q.enabled = off");
    site.cluster.reload();
    site.cluster.wait_until(DB, "SELECT array_agg(kind) = '{launcher}' FROM tq_workers");
    let done = site.number("SELECT count(*) FROM t1.tq_result");
    let before = wakes(&site, "launcher", "true").0;
    for n in 0..20 {
        site.enqueue("t1", "ok", &format!(r#"["after {n}"]"#), ", delay => '50 ms'");
        site.enqueue("t1", "ok", &format!(r#"["now {n}"]"#), "");
    }
    let queued = "SELECT count(*) FROM t1.tq_task WHERE run_at > clock_timestamp()";
    site.cluster.wait_until(DB, &format!("SELECT ({queued}) = 0"));
    let came = wakes(&site, "launcher", "true").0 - before;
    assert!(came <= 80, "{came} wakes of the launcher for 40 tasks that nobody is to run");
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_result"), done, "nothing ran meanwhile");
    assert_eq!(
        site.cluster.value(DB, "SELECT detail FROM tq_health() WHERE check_name = 'enabled'"),
        "tenant_q.enabled is off: no task is started and no schedule fires."
    );
    // And all of it runs when it is on again.
    site.cluster.run(DB, "ALTER SYSTEM RESET tenant_q.enabled");
    site.cluster.reload();
    site.cluster.wait_until_within(Duration::from_secs(20), DB, "SELECT count(*) = 80 FROM fx WHERE k <> 'often'");
    site.cluster.wait_until_within(Duration::from_secs(20), DB, "SELECT EXISTS (SELECT FROM fx WHERE k = 'often')");
    assert_nobody_spins(&site);
    site.cluster.assert_log_clean();
}

#[test]
fn a_database_that_is_not_served_keeps_nobody_awake() {
    let site = Site::start("tenant_q.sweep_interval = 1s\ntenant_q.exclude_databases = 'left\\_out'\n", &["t1"]);
    site.cluster.run(DB, "CREATE DATABASE left_out");
    site.cluster.run("left_out", "CREATE EXTENSION tenant_q; CREATE SCHEMA t1 AUTHORIZATION t1");
    site.cluster.run_as("t1", "left_out", "CREATE FUNCTION t1.ok() RETURNS void LANGUAGE sql AS ''; SELECT tq_attach(), tq_register('ok')");
    site.cluster.run_as("t1", "left_out", "SELECT tq_schedule('often', 'ok', 'every 1 second')");
    site.cluster.run_as("t1", "left_out", "SELECT tq_async('ok', delay => n * interval '100 ms') FROM generate_series(1, 20) AS n");
    raw_insert_runs(&site, "t1", "first");
    let before = wakes(&site, "launcher", "true").0;
    let began = std::time::Instant::now();
    raw_insert_runs(&site, "t1", "second");
    raw_insert_runs(&site, "t1", "third");
    let seconds = began.elapsed().as_secs() as i64 + 1;
    let came = wakes(&site, "launcher", "true").0 - before;
    assert!(came <= 20 * seconds + 30, "{came} wakes in {seconds} s");
    assert_eq!(site.cluster.number("left_out", "SELECT count(*) FROM t1.tq_task"), 20);
    assert_eq!(site.cluster.value("left_out", "SELECT reason FROM tq_why((SELECT min(id::text)::uuid FROM t1.tq_task), 't1')"), "excluded");
    assert_nobody_spins(&site);
    site.cluster.assert_log_clean();
}

#[test]
fn a_clock_that_is_set_forward_leaves_nothing_unserved() {
    const START: i64 = 1_906_502_400;
    let site = Site::start_at(START, &["t1", "t2"]);
    site.run("t2", "SELECT tq_schedule('often', 'ok', 'every 5 seconds', args => '[\"often\"]', overlap => 'allow')");
    site.cluster.wait_until(DB, "SELECT EXISTS (SELECT FROM fx WHERE k = 'often')");
    // Before: the sweep that is overdue then comes at once.
    site.run("t1", "INSERT INTO tq_task (handler, args) VALUES ('ok', '[\"raw\"]')");
    site.cluster.clock().set(START + 6 * 3600, 1);
    site.cluster.wait_until_within(Duration::from_secs(20), DB, "SELECT EXISTS (SELECT FROM fx WHERE k = 'raw')");
    let before = (wakes(&site, "launcher", "true").0, wakes(&site, "scheduler", "true").0);
    let often = site.number("SELECT count(*) FROM fx WHERE k = 'often'");
    site.cluster.wait_until(DB, &format!("SELECT count(*) > {often} FROM fx WHERE k = 'often'"));
    let after = (wakes(&site, "launcher", "true").0, wakes(&site, "scheduler", "true").0);
    assert!(after.0 - before.0 <= 100 && after.1 - before.1 <= 100, "{before:?} {after:?}");
    // Back again.
    site.cluster.clock().set(START + 3600, 1);
    let often = site.number("SELECT count(*) FROM fx WHERE k = 'often'");
    site.cluster.wait_until(DB, &format!("SELECT count(*) > {often} FROM fx WHERE k = 'often'"));
    let last = (wakes(&site, "launcher", "true").0, wakes(&site, "scheduler", "true").0);
    assert!(last.0 - after.0 <= 150 && last.1 - after.1 <= 150, "{after:?} {last:?}");
    assert_nobody_spins(&site);
    site.cluster.assert_log_clean();
}

#[test]
fn who_waits_for_a_place_is_looked_after_without_haste_and_gets_it_at_once() {
    let site = Site::start("tenant_q.max_executors = 1\ntenant_q.sweep_interval = 0\n", &["t1", "t2"]);
    let long = site.enqueue("t1", "gate", r#"["long"]"#, "");
    site.wait_running(&long);
    let waits = site.enqueue("t2", "ok", r#"["waits"]"#, "");
    site.run("t1", "SELECT tq_async('ok', jsonb_build_array(n::text)) FROM generate_series(1, 100) AS n");
    site.cluster.wait_until(DB, "SELECT NOT ok FROM tq_health() WHERE check_name = 'places'");
    let before = wakes(&site, "launcher", "true").0;
    // Pauses between looks in vain grow: they are seen to.
    let watched = || wakes(&site, "launcher", "key = 'watch'");
    cluster::wait_for("looks in vain", cluster::PATIENCE, || watched().1 >= 10);
    let (looks, began) = (watched().0, std::time::Instant::now());
    cluster::wait_for("one more", cluster::PATIENCE, || watched().0 > looks + 1);
    assert!(began.elapsed() > Duration::from_secs(1), "twice in {:?}", began.elapsed());
    assert!(wakes(&site, "launcher", "true").0 - before < 60);
    assert_nobody_spins(&site);
    let began = std::time::Instant::now();
    site.open_gate();
    site.wait_ended("t2", &waits, 'd');
    assert!(began.elapsed() < Duration::from_secs(3), "the place was given after {:?}", began.elapsed());
    site.wait_idle(&["t1"]);
    site.cluster.assert_log_clean();
}

/// A handler that can't be cancelled.
const SWALLOW: &str = "
    CREATE FUNCTION swallow(k text) RETURNS void LANGUAGE plpgsql AS
        $$ BEGIN PERFORM ok(k);
           LOOP BEGIN PERFORM pg_sleep(600); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$;
    SELECT tq_register('swallow', timeout => '0')";

#[test]
fn tasks_without_an_end_leave_room_and_can_be_made_to_leave_more() {
    let site = Site::start("tenant_q.max_executors = 3\ntenant_q.reserved_places = 1\n", &["t1", "t2", "t3"]);
    site.run("t1", SWALLOW);
    for n in 0..5 {
        site.enqueue("t1", "swallow", &format!(r#"["hog {n}"]"#), "");
    }
    let running = "SELECT count(*) FROM tq_running WHERE tenant = 't1'";
    site.cluster.wait_until(DB, &format!("SELECT ({running}) = 2"));
    // The last place is the others'.
    site.assert_alive("t2");
    site.assert_alive("t3");
    assert_eq!(site.number(running), 2, "and stays theirs");
    // Somebody takes it for long.
    let gate = site.enqueue("t2", "gate", r#"["gate"]"#, "");
    site.wait_running(&gate);
    let waits = site.enqueue("t3", "ok", r#"["waits"]"#, "");
    let holders = "SELECT count(*) FROM tq_problems WHERE reason LIKE '%holds one of 3 places, while a role has waited%'";
    site.cluster.wait_until(DB, &format!("SELECT ({holders}) = 3"));
    assert_eq!(site.cluster.value_as("t1", DB, holders), "2", "its own are what a tenant sees");
    assert_eq!(site.cluster.value_as("t3", DB, holders), "0");
    assert_eq!(site.value("t3", &format!("SELECT reason FROM tq_why('{waits}')")), "busy");
    // The call that is given frees one, whatever the task does against it.
    let row = "FROM tq_problems WHERE what = 'tenant t1' AND reason LIKE 'a task of its handler swallow holds%' LIMIT 1";
    site.cluster.run(DB, &site.cluster.value(DB, &format!("SELECT fix {row}")));
    site.cluster.wait_until_within(
        Duration::from_secs(15),
        DB,
        &format!("SELECT EXISTS (SELECT FROM t3.tq_result WHERE id = '{waits}' AND state = 'd')"),
    );
    // Neither cancelled nor one too many: never ended.
    assert!(site.running(&gate).is_some());
    assert_eq!(site.number(running), 1, "the last place is not for who has one");
    site.open_gate();
    site.wait_ended("t2", &gate, 'd');
    site.cluster.wait_until(DB, &format!("SELECT ({holders}) = 0"));
    // Lowering what may run frees places, too; what goes back into the queue has lost nothing.
    site.cluster.wait_until_within(Duration::from_secs(10), DB, &format!("SELECT ({running}) = 2"));
    site.cluster.run(DB, "SELECT tq_set_quota('t1', max_running => 1)");
    site.cluster.wait_until_within(Duration::from_secs(15), DB, &format!("SELECT ({running}) = 1"));
    let waits = site.enqueue("t3", "ok", r#"["again"]"#, "");
    site.wait_ended("t3", &waits, 'd');
    site.cluster.run(DB, "BEGIN; SELECT tq_set_quota('t1', max_running => 0); ROLLBACK");
    site.assert_alive("t3");
    assert_eq!(site.number(running), 1, "only what is committed counts");
    site.cluster.run(DB, "SELECT tq_set_quota('t1', max_running => 0)");
    site.cluster.wait_until_within(Duration::from_secs(15), DB, &format!("SELECT ({running}) = 0"));
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_task WHERE attempts = 0 AND crashes = 0"), 4);
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_result"), 1, "cancelled by the call");
    site.cluster.assert_log_clean();
}

#[test]
fn worker_slots_that_others_take_are_missed_aloud_and_used_as_they_come_free() {
    let site = Site::start("max_worker_processes = 9\ntenant_q.executor_idle = 100ms\n", &["t1", "t2"]);
    site.cluster.run(
        DB,
        "CREATE TABLE big AS SELECT n, repeat('x', 1000) AS x FROM generate_series(1, 2000) AS n; ALTER TABLE big SET (parallel_workers = 7)",
    );
    site.cluster.wait_until(DB, "SELECT array_agg(kind) = '{launcher}' FROM tq_workers");
    let mut query = site.cluster.client("postgres", DB);
    query
        .batch_execute("SET max_parallel_workers_per_gather = 7; SET max_parallel_workers = 7; SET parallel_setup_cost = 0; SET min_parallel_table_scan_size = 0; SET parallel_tuple_cost = 0")
        .expect("settings");
    let cancel = query.cancel_token();
    let busy = std::thread::spawn(move || query.batch_execute("SELECT count(*) FROM big WHERE pg_sleep(600) IS NOT NULL").is_err());
    site.cluster.wait_until(DB, "SELECT count(*) = 7 FROM pg_stat_activity WHERE backend_type = 'parallel worker'");
    let id = site.enqueue("t1", "ok", r#"["waits"]"#, "");
    let said = "no background worker slot is free";
    cluster::wait_for("the line in the log", Duration::from_secs(10), || site.cluster.log_contains(said));
    site.cluster.wait_until_within(Duration::from_secs(10), DB, "SELECT NOT ok FROM tq_health() WHERE check_name = 'worker_slots'");
    assert_eq!(site.value("t1", &format!("SELECT reason FROM tq_why('{id}')")), "worker_slots");
    assert_eq!(site.counts("t1", &id), (0, 0));
    let before = wakes(&site, "launcher", "true").0;
    let began = std::time::Instant::now();
    cluster::wait_for("three tries", Duration::from_secs(10), || {
        wakes(&site, "launcher", "key = 'retry'").0 >= 3 && began.elapsed() > Duration::from_secs(2)
    });
    assert!(wakes(&site, "launcher", "true").0 - before < 40, "it does not try all the time");
    cancel.cancel_query(cluster::NoTls).expect("cancelled");
    assert!(busy.join().expect("joined"));
    site.cluster.wait_until_within(
        Duration::from_secs(5),
        DB,
        &format!("SELECT EXISTS (SELECT FROM t1.tq_result WHERE id = '{id}' AND state = 'd')"),
    );
    site.cluster.wait_until(DB, "SELECT ok FROM tq_health() WHERE check_name = 'worker_slots'");
    assert_eq!(site.cluster.log().matches(said).count(), 1, "said once");
    assert_nobody_spins(&site);
    site.cluster.assert_log_clean();
}

#[test]
fn roles_that_come_and_go_are_no_shortage_of_worker_slots() {
    let tenants: Vec<String> = (0..24).map(|n| format!("r{n}")).collect();
    let names: Vec<&str> = tenants.iter().map(String::as_str).collect();
    let site = Site::start(
        "max_worker_processes = 10\ntenant_q.max_executors = 7\ntenant_q.executor_idle = 100ms\ntenant_q.role_quantum = 1ms\n",
        &names,
    );
    for n in 0..3 {
        let all: String = (tenants.iter())
            .map(|t| {
                format!("SELECT tq_async('slow', jsonb_build_array('{n} ' || k, 0.002), tenant => '{t}') FROM generate_series(1, 8) AS k;")
            })
            .collect();
        site.cluster.run(DB, &all);
        site.wait_idle(&names);
    }
    site.assert_once(3 * 24 * 8);
    assert!(!site.cluster.log_contains("no background worker slot is free"), "{}", site.cluster.log());
    site.cluster.assert_log_clean();
}

#[test]
fn more_executors_than_worker_slots_take_turns_in_those_there_are() {
    // One is logical replication's, one the launcher's: two are left.
    let site = Site::start("max_worker_processes = 4\ntenant_q.max_executors = 8\n", &["t1", "t2", "t3", "t4"]);
    site.run("t1", "SELECT tq_schedule('often', 'ok', 'every 5 seconds', args => '[\"often\"]', overlap => 'allow')");
    // Without an end of their own work, they would stay.
    for t in ["t1", "t2", "t3"] {
        site.run(t, "SELECT tq_async('slow', jsonb_build_array(n::text, 0.05)) FROM generate_series(1, 200) AS n");
    }
    site.cluster.wait_until_within(Duration::from_secs(20), DB, "SELECT count(DISTINCT tenant) = 3 FROM fx WHERE k <> 'often'");
    site.assert_alive("t4");
    site.cluster.wait_until_within(Duration::from_secs(20), DB, "SELECT run_count > 0 FROM t1.tq_schedule");
    assert!(site.cluster.log_contains("no background worker slot is free"));
    assert!(site.number("SELECT count(*) FROM t1.tq_task") > 0, "too soon over to prove anything");
    site.cluster.assert_log_clean();
}

#[test]
fn settings_of_a_role_that_would_make_its_executors_somebody_else_s_are_overridden() {
    let site = Site::start("", &["t1"]);
    site.cluster.run(DB, "CREATE ROLE low LOGIN; GRANT low TO t1; CREATE ROLE boss SUPERUSER LOGIN; CREATE SCHEMA boss AUTHORIZATION boss");
    site.cluster.run_as("boss", DB, "SELECT tq_attach('boss'); SELECT tq_register('ok', 'public.ok(text)', tenant => 'boss')");
    let settings = [
        "ALTER ROLE t1 SET role = 'low'",
        "ALTER ROLE t1 IN DATABASE postgres SET role = 'low'",
        "ALTER ROLE t1 SET exit_on_error = on",
        "ALTER ROLE t1 SET search_path = 'nowhere, pg_temp'",
        "ALTER ROLE t1 SET default_tablespace = 'nowhere'",
        "ALTER ROLE t1 SET local_preload_libraries = 'nowhere'",
    ];
    for (n, setting) in settings.iter().enumerate() {
        site.cluster
            .run(DB, &format!("ALTER ROLE t1 RESET ALL; ALTER ROLE t1 IN DATABASE postgres RESET ALL; {setting}; SELECT tq_recycle()"));
        site.cluster.wait_until(DB, "SELECT NOT EXISTS (SELECT FROM tq_workers WHERE kind = 'executor')");
        let enqueue = |handler: &str, k: &str, more: &str| {
            site.cluster.value(DB, &format!("SELECT tq_async('{handler}', '[\"{k}\"]', tenant => 't1'{more})"))
        };
        // An attempt that fails costs no executor either.
        let bad = enqueue("bad", "bad", ", max_attempts => 1");
        let ok = enqueue("ok", &format!("ok {n}"), "");
        site.wait_ended("t1", &bad, 'f');
        site.wait_ended("t1", &ok, 'd');
        let identity = site.cluster.value(DB, &format!("SELECT concat_ws(' ', who, sess, su) FROM fx WHERE k = 'ok {n}'"));
        assert_eq!(identity, "t1 t1 off", "{setting}");
    }
    for end in ["tenant_q executor FATAL", "exited with exit code 1"] {
        assert!(!site.cluster.log_contains(end), "{}", site.cluster.log());
    }
    site.cluster.run(DB, "ALTER ROLE t1 RESET ALL");
    // A superuser's session could be made another's altogether.
    let id = site.cluster.value_as("boss", DB, "SELECT tq_async('ok', '[\"boss\"]', tenant => 'boss', delay => '0.5 seconds')");
    site.cluster.run(DB, "ALTER ROLE boss SET session_authorization = 'low'");
    site.wait_ended("boss", &id, 'd');
    assert_eq!(site.cluster.value(DB, "SELECT concat_ws(' ', who, sess, su) FROM fx WHERE k = 'boss'"), "boss boss on");
    // A whole database's sessions, its scheduler's too.
    site.cluster.run(DB, "CREATE DATABASE other");
    site.cluster.run(
        "other",
        "CREATE EXTENSION tenant_q; CREATE SCHEMA t1 AUTHORIZATION t1; CREATE TABLE t1.fx (who text, sess text);
         ALTER TABLE t1.fx OWNER TO t1; SELECT tq_attach('t1')",
    );
    site.cluster.run_as(
        "t1",
        "other",
        "CREATE FUNCTION t1.ok() RETURNS void LANGUAGE sql AS 'INSERT INTO t1.fx VALUES (current_user, session_user)';
         SELECT tq_register('ok', tenant => 't1')",
    );
    site.cluster.run("other", "SELECT tq_pause_all(); SELECT tq_schedule('often', 'ok', 'every 1 second', tenant => 't1')");
    site.cluster.run("other", "ALTER DATABASE other SET role = 'low'");
    site.cluster.run("other", "RESET ROLE; SET ROLE none; SELECT tq_resume_all()");
    let fired = "SET ROLE none; SELECT string_agg(DISTINCT concat_ws(' ', who, sess), ',') FROM t1.fx";
    cluster::wait_for("a fire time", cluster::PATIENCE, || site.cluster.value("other", fired) == "t1 t1");
    site.cluster.assert_log_clean();
}
