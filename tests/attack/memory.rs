//! What grows, and what happens when there is no memory.

use std::time::{Duration, Instant};

use cluster::private_memory;

use crate::site::{DB, Site};

/// Tasks of every kind, a few dozen each, whose documents are large and full of numbers: whatever of them stays adds up soon.
const EVERY_KIND: &[&str] = &[
    "SELECT tq_async('nop', '[1]', meta => (SELECT jsonb_agg(n) FROM generate_series(1, 200) AS n), max_attempts => 5, timeout => '1 minute',
        retry => tq_backoff('fixed', '0.01 seconds')) FROM generate_series(1, 300)",
    "SELECT tq_async('bad', '[\"x\"]', meta => (SELECT jsonb_agg(n) FROM generate_series(1, 200) AS n), max_attempts => 2,
        retry => tq_backoff('fixed', '0.001 seconds'), on_failure => 'told') FROM generate_series(1, 40)",
    "SELECT tq_async('nop', '[1]', on_success => 'told', hook => 'told', meta => (SELECT jsonb_agg(n) FROM generate_series(1, 200) AS n))
        FROM generate_series(1, 30)",
    "SELECT tq_chain('[{\"handler\": \"echo\", \"args\": [1]}, \"echo\", \"echo\"]', pass_result => true) FROM generate_series(1, 20)",
    "SELECT tq_group('[{\"handler\": \"echo\", \"args\": [1]}, {\"handler\": \"echo\", \"args\": [2]}]') FROM generate_series(1, 20)",
    "SELECT tq_async_iter('echo', ARRAY['[1]', '[2]', '[3]', '[4]']::jsonb[], chunk => 2) FROM generate_series(1, 20)",
    "SELECT tq_async('nop', '[1]', expires => '0.001 seconds', delay => '0.01 seconds') FROM generate_series(1, 20)",
    "SELECT tq_cancel(tq_async('nop', '[1]')) FROM generate_series(1, 20)",
    "SELECT tq_async('nop', '[1]', limit_key => 'l', lock => 'k' || n % 3) FROM generate_series(1, 10) AS n",
    "SELECT tq_async('nop', '[1]', depends_on => ARRAY[tq_async('nop', '[1]')]) FROM generate_series(1, 20)",
];

#[test]
fn an_executor_does_not_grow_with_what_it_has_run() {
    let site = Site::start("tenant_q.max_executors = 1\ntenant_q.retention_every = 100\nlog_min_messages = fatal\n", &["t1"]);
    site.run(
        "t1",
        "CREATE FUNCTION nop(i int) RETURNS void LANGUAGE sql AS 'SELECT NULL::void';
         CREATE FUNCTION echo(i jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
         CREATE FUNCTION told(task jsonb) RETURNS boolean LANGUAGE sql AS 'SELECT true';
         CREATE FUNCTION listens(task jsonb) RETURNS boolean LANGUAGE sql AS 'SELECT true';
         SELECT tq_register(h) FROM unnest('{nop,echo,told,listens}'::text[]) AS h;
         SELECT tq_on(e, 'listens', for_handler => 'echo') FROM unnest('{before_run,after_run,done}'::text[]) AS e;
         SELECT tq_set_limit('l', max_running => 1);
         SELECT tq_schedule('s' || n, 'nop', 'every 1 second', args => '[1]') FROM generate_series(1, 20) AS n;
         SELECT tq_set_tenant(save_limit => 100, failure_ttl => '0 seconds', result_ttl => '0 seconds')",
    );
    let mut client = site.client("t1");
    let began = Instant::now();
    let (mut tasks, mut settled, mut executor) = (0, None, 0);
    // A third of the time for the caches to fill, two thirds in which nothing may come to stay.
    let (warm, whole) = (Duration::from_secs(5), Duration::from_secs(15));
    while began.elapsed() < whole {
        for sql in EVERY_KIND {
            tasks += client.query(*sql, &[]).unwrap_or_else(|error| panic!("{error:?}: {sql}")).len();
        }
        site.cluster.wait_until(DB, "SELECT NOT EXISTS (SELECT FROM t1.tq_task WHERE run_at <= now())");
        let pids = site.cluster.pids("tenant_q executor");
        assert!(pids.len() == 1 && (executor == 0 || executor == pids[0]), "the same one runs all: {pids:?}");
        executor = pids[0];
        if settled.is_none() && began.elapsed() > warm {
            settled = Some((private_memory(executor), tasks));
        }
    }
    let (before, early) = settled.expect("more than one round");
    let grown = private_memory(executor) - before;
    assert!(grown <= 1024, "{grown} kB came to stay of {} tasks", tasks - early);
    site.cluster.assert_log_clean();
}

#[test]
fn an_executor_that_has_served_many_tenants_gives_its_memory_back() {
    const TENANTS: i64 = 80;
    const ROUNDS: i64 = 3;
    let site = Site::start("tenant_q.max_executors = 1\n", &["t1"]);
    for n in 0..TENANTS {
        site.cluster.run(DB, &format!("CREATE SCHEMA m{n} AUTHORIZATION t1"));
        site.run("t1", &format!("SELECT tq_attach('m{n}'); SELECT tq_register('ok', tenant => 'm{n}')"));
    }
    let id = site.enqueue("t1", "ok", r#"["first"]"#, "");
    site.wait_ended("t1", &id, 'd');
    let alone = private_memory(site.cluster.pids("tenant_q executor")[0]);
    let bound = alone + 1024;
    site.cluster.append_settings(&format!("tenant_q.executor_memory = {bound}kB"));
    site.cluster.reload();
    site.cluster.wait_until(DB, &format!("SELECT pg_size_bytes(current_setting('tenant_q.executor_memory')) = {bound} * 1024"));
    for round in 0..ROUNDS {
        site.run(
            "t1",
            &format!(
                "SELECT tq_async('ok', jsonb_build_array('{round} ' || n), tenant => 'm' || n) FROM generate_series(0, {TENANTS} - 1) AS n"
            ),
        );
        site.cluster.wait_until(DB, &format!("SELECT count(*) = {} FROM fx", 1 + (round + 1) * TENANTS));
        for pid in site.cluster.pids("tenant_q executor") {
            let held = private_memory(pid);
            assert!(held <= bound + 512, "{held} kB where {bound} are allowed, {alone} without tenants");
        }
    }
    assert!(site.number("SELECT count(DISTINCT pid) FROM fx") > 2, "one of them served nearly all");
    site.assert_once(1 + ROUNDS * TENANTS);
    site.cluster.assert_log_clean();
}

#[test]
fn attaching_tenants_starts_no_executors() {
    let site = Site::start("log_min_messages = debug1\n", &[]);
    // Once the database has been looked into, what has no work is known to have none.
    site.cluster.wait_for_log("starting background worker process \"tenant_q scheduler\"");
    site.cluster.wait_until(DB, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'tenant_q scheduler')");
    let names: Vec<String> = (1..=12).map(|n| format!("t{n}")).collect();
    site.tenants(&names.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(site.cluster.log().matches("starting background worker process \"tenant_q executor\"").count(), 0);
    site.assert_alive("t7");
    site.assert_alive("t8");
    assert_eq!(site.cluster.log().matches("starting background worker process \"tenant_q executor\"").count(), 2);
    // Tables with rows that were there before are looked at.
    site.run("t7", "SELECT tq_async('ok', '[\"adopted\"]', delay => '0.3 seconds'); SELECT tq_detach('t7')");
    site.run("t7", "SELECT tq_attach(adopt => true); SELECT tq_register('ok')");
    site.wait_idle(&["t7"]);
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE k = 'adopted'"), 1);
}

#[test]
fn names_of_megabytes_in_a_schedules_row_stay_where_they_are() {
    let site = Site::start("log_min_messages = fatal\n", &["t1", "t2"]);
    site.run("t2", "SELECT tq_schedule('beat', 'ok', '1 second', '[\"beat\"]')");
    site.cluster.wait_until(DB, "SELECT count(*) > 0 FROM fx WHERE k = 'beat'");
    let scheduler = site.cluster.pids("tenant_q scheduler")[0];
    let before = private_memory(scheduler);
    // A handler's name of 3 MB each, that compresses to nothing; and, in others, every other text.
    site.run(
        "t1",
        "SELECT tq_schedule('s' || n, 'ok', '1 second', '[\"never\"]', enabled => false) FROM generate_series(1, 60) AS n;
         UPDATE tq_schedule SET enabled = true, next_run = now(), handler = CASE WHEN substr(name, 2)::int <= 40 THEN repeat(md5(name), 98304) ELSE handler END,
             rule = CASE WHEN substr(name, 2)::int BETWEEN 41 AND 45 THEN repeat(md5(name), 98304) ELSE rule END,
             tz = CASE WHEN substr(name, 2)::int BETWEEN 46 AND 50 THEN repeat(md5(name), 98304) ELSE tz END,
             overlap = CASE WHEN substr(name, 2)::int BETWEEN 51 AND 55 THEN repeat(md5(name), 98304) ELSE overlap END,
             time_arg = CASE WHEN substr(name, 2)::int BETWEEN 56 AND 60 THEN repeat(md5(name), 98304) ELSE time_arg END;
         SELECT tq_pause(), tq_resume()",
    );
    let mut peak = 0;
    site.cluster.wait_until(DB, "SELECT count(*) = 60 FROM t1.tq_schedule WHERE problem IS NOT NULL AND next_run IS NULL");
    for pid in site.cluster.pids("tenant_q scheduler") {
        peak = peak.max(private_memory(pid));
    }
    assert!(peak < before + 20 * 1024, "the scheduler has {peak} kB, {before} before");
    assert_eq!(
        site.number("SELECT count(*) FROM tq_problems WHERE what LIKE 'schedule%' AND reason LIKE '%its handler''s name does not have 1 to 200 bytes%'"),
        40
    );
    assert_eq!(
        site.number("SELECT count(*) FROM tq_problems WHERE what LIKE 'schedule%' AND reason LIKE '%is longer than 8192 bytes%'"),
        20
    );
    assert_eq!(
        site.value("t1", "SELECT DISTINCT problem FROM tq_schedules WHERE name IN ('s1', 's40')"),
        "its handler's name does not have 1 to 200 bytes"
    );
    let beats = site.number("SELECT count(*) FROM fx WHERE k = 'beat'");
    site.cluster.wait_until(DB, &format!("SELECT count(*) > {beats} FROM fx WHERE k = 'beat'"));
    site.cluster.assert_log_clean();
}
