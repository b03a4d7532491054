//! Nobody waits for his neighbour: not behind a long task, not behind a flood, not behind many roles; limits are exact.

use std::time::{Duration, Instant};

use crate::site::{DB, Site};

/// From before the enqueue to the end of a task that does next to nothing.
fn latency(site: &Site, tenant: &str, k: &str) -> Duration {
    let began = Instant::now();
    let id = site.enqueue(tenant, "ok", &format!("[\"{k}\"]"), "");
    site.cluster.wait_until(DB, &format!("SELECT EXISTS (SELECT FROM {tenant}.tq_result WHERE id = '{id}')"));
    began.elapsed()
}

#[test]
fn tasks_picked_behind_a_long_one_are_taken_over() {
    // Two of one role, and one that no role gets that has one.
    let site = Site::start("tenant_q.max_executors = 3\n", &["t1"]);
    for round in 0..3 {
        // Quick ones first, so that batches are large by the time the long one is met.
        site.run(
            "t1",
            &format!(
                "SELECT tq_async('ok', jsonb_build_array('before {round} ' || n), priority => 3) FROM generate_series(1, 300) AS n;
                 SELECT tq_async('gate', '[\"long {round}\"]', priority => 2);
                 SELECT tq_async('ok', jsonb_build_array('behind {round} ' || n), priority => 1) FROM generate_series(1, 300) AS n"
            ),
        );
        site.cluster.wait_until_within(
            Duration::from_secs(10),
            DB,
            &format!("SELECT count(*) = {} FROM t1.tq_result", 600 * (round + 1) + round),
        );
        assert_eq!(site.number("SELECT count(*) FROM t1.tq_task"), 1, "only the long one is left");
        site.open_gate();
        site.wait_idle(&["t1"]);
        site.cluster.run(DB, "DELETE FROM gate");
    }
    site.assert_once(1803);
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_result WHERE attempts <> 1"), 0);
    site.cluster.assert_log_clean();
}

#[test]
fn a_flood_of_one_tenant_is_not_noticed_by_the_others() {
    let site = Site::start("tenant_q.max_executors = 2\n", &["flood", "other"]);
    // A third tenant, whose tasks run as the role of the flood.
    site.cluster.run(DB, "CREATE SCHEMA same AUTHORIZATION flood");
    site.run("flood", "SELECT tq_attach('same'); SELECT tq_register('ok', tenant => 'same'); GRANT INSERT (handler, args) ON same.tq_task TO other; GRANT USAGE ON SCHEMA same TO other");
    for part in 0..5 {
        site.run("flood", &format!("SELECT tq_async_many((SELECT jsonb_agg(jsonb_build_object('handler', 'ok', 'args', jsonb_build_array(n::text))) FROM generate_series({part}0001, {part}9999) AS n))"));
    }
    for n in 0..5 {
        let took = latency(&site, "other", &format!("other {n}"));
        assert!(took < Duration::from_secs(2), "another role's task took {took:?}");
        let began = Instant::now();
        site.value("other", &format!("SELECT tq_async('ok', '[\"same {n}\"]', tenant => 'same')"));
        site.cluster.wait_until(DB, &format!("SELECT count(*) > {n} FROM same.tq_result"));
        assert!(began.elapsed() < Duration::from_secs(2), "the same role's task took {:?}", began.elapsed());
    }
    assert!(site.number("SELECT count(*) FROM flood.tq_task") > 0, "the flood was over too soon to prove anything");
    site.cluster.assert_log_clean();
}

#[test]
fn max_running_is_exact() {
    let site = Site::start("", &["t1", "t2"]);
    // Each task takes one of the places, which are advisory locks, and holds it to the end of its commit.
    site.cluster.run(
        DB,
        "CREATE FUNCTION public.place(n int, places int) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
             FOR i IN 1 .. places LOOP
                 IF pg_try_advisory_xact_lock(hashtext(current_schema()), i) THEN PERFORM ok(n::text); PERFORM pg_sleep(0.002); RETURN; END IF;
             END LOOP;
             RAISE EXCEPTION 'more than % at a time', places; END $$",
    );
    for (tenant, places) in [("t1", 1), ("t2", 2)] {
        site.run(tenant, "SELECT tq_register('place', max_attempts => 1)");
        site.cluster.run(DB, &format!("SELECT tq_set_quota('{tenant}', max_running => {places})"));
    }
    for (tenant, places) in [("t1", 1), ("t2", 2)] {
        site.run(tenant, &format!("SELECT tq_async('place', jsonb_build_array(n, {places})) FROM generate_series(1, 100) AS n"));
    }
    site.wait_idle_within(Duration::from_secs(30), &["t1", "t2"]);
    assert_eq!(
        site.number(
            "SELECT count(*) FROM (SELECT state FROM t1.tq_result UNION ALL SELECT state FROM t2.tq_result) AS r WHERE state <> 'd'"
        ),
        0
    );
    site.assert_once(200);
    // A limit of none at all: nothing runs until it is taken back.
    site.cluster.run(DB, "SELECT tq_set_quota('t1', max_running => 0)");
    let id = site.enqueue("t1", "ok", r#"["later"]"#, "");
    site.assert_alive("t2");
    assert_eq!(site.number(&format!("SELECT count(*) FROM t1.tq_task WHERE id = '{id}'")), 1);
    site.cluster.run(DB, "SELECT tq_set_quota('t1', reset => '{max_running}')");
    site.wait_ended("t1", &id, 'd');
    site.cluster.assert_log_clean();
}

#[test]
fn more_roles_than_places_all_get_their_turn() {
    let names: Vec<String> = (1..=10).map(|n| format!("r{n}")).collect();
    let tenants: Vec<&str> = names.iter().map(String::as_str).collect();
    let site = Site::start("tenant_q.max_executors = 2\n", &tenants);
    for t in &tenants {
        site.run(t, "SELECT tq_async('slow', jsonb_build_array(n::text, 0.005)) FROM generate_series(1, 100) AS n");
    }
    // Fairly: nobody is done with everything while another one has got nowhere.
    site.cluster.wait_until(DB, "SELECT count(*) > 900 FROM fx");
    assert_eq!(site.number("SELECT count(DISTINCT tenant) FROM fx"), 10);
    site.wait_idle(&tenants);
    site.assert_once(1000);
    assert!(site.cluster.pids("tenant_q executor").len() <= 2);
    site.cluster.assert_log_clean();
}

#[test]
fn a_heavier_tenant_gets_more_and_a_lighter_one_something() {
    let site = Site::start("tenant_q.max_executors = 1\n", &["t1"]);
    site.cluster.run(DB, "CREATE SCHEMA heavy AUTHORIZATION t1");
    site.run("t1", "SELECT tq_attach('heavy'); SELECT tq_register('slow', tenant => 'heavy')");
    site.cluster.run(DB, "SELECT tq_set_quota('heavy', weight => 4); SELECT tq_pause('t1'); SELECT tq_pause('heavy')");
    for t in ["t1", "heavy"] {
        site.run(
            "t1",
            &format!("SELECT tq_async('slow', jsonb_build_array(n::text, 0.002), tenant => '{t}') FROM generate_series(1, 600) AS n"),
        );
    }
    site.cluster.run(DB, "SELECT tq_resume('t1'); SELECT tq_resume('heavy')");
    site.cluster.wait_until(DB, "SELECT count(*) >= 500 FROM fx");
    let share =
        site.number("SELECT 100 * count(*) FILTER (WHERE tenant = 'heavy') / count(*) FROM (SELECT * FROM fx ORDER BY at LIMIT 500) AS x");
    assert!((65..=92).contains(&share), "{share} % instead of about 80");
    site.cluster.assert_log_clean();
}
