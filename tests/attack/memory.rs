//! What grows, and what happens when there is no memory.

use std::time::{Duration, Instant};

use cluster::{Client, limit_memory, private_memory, private_memory_if_alive};

use crate::site::{DB, Site};

/// Tasks of every kind, a few dozen each, whose documents are large and full of numbers: whatever of them stays adds up soon.
const EVERY_KIND: &[&str] = &[
    "SELECT tq_async('nop', '[1]', meta => (SELECT jsonb_agg(n) FROM generate_series(1, 200) AS n), max_attempts => 5, timeout => '1 minute',
        retry => tq_backoff('fixed', '0.01 seconds')) FROM generate_series(1, 300)",
    "SELECT tq_async('bad', '[\"x\"]', meta => (SELECT jsonb_agg(n) FROM generate_series(1, 200) AS n), max_attempts => 2,
        retry => tq_backoff('fixed', '0.001 seconds'), on_failure => 'told') FROM generate_series(1, 20)",
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
        // It weighs itself now and then, and before it idles: what has just run the last task is about to.
        let heavy =
            || site.cluster.pids("tenant_q executor").into_iter().filter_map(private_memory_if_alive).find(|held| *held > bound + 512);
        let until = Instant::now() + Duration::from_secs(20);
        while let Some(held) = heavy() {
            assert!(Instant::now() < until, "{held} kB where {bound} are allowed, {alone} without tenants");
            std::thread::sleep(Duration::from_millis(20));
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
        site.number(
            "SELECT count(*) FROM tq_problems WHERE what LIKE 'schedule%' AND reason LIKE '%its handler''s name is longer than 200 bytes%'"
        ),
        40
    );
    assert_eq!(
        site.number("SELECT count(*) FROM tq_problems WHERE what LIKE 'schedule%' AND reason LIKE '%is longer than 8192 bytes%'"),
        20
    );
    assert_eq!(
        site.value("t1", "SELECT DISTINCT problem FROM tq_schedules WHERE name IN ('s1', 's40')"),
        "its handler's name is longer than 200 bytes"
    );
    let beats = site.number("SELECT count(*) FROM fx WHERE k = 'beat'");
    site.cluster.wait_until(DB, &format!("SELECT count(*) > {beats} FROM fx WHERE k = 'beat'"));
    site.cluster.assert_log_clean();
}

/// A session of the tenant's that gets so many megabytes more than it has now, and what it has once it works.
fn poor_client(site: &Site, tenant: &str, megabytes: u64) -> Client {
    let mut client = site.client(tenant);
    client.batch_execute("SELECT tq_why(tq_async('ok', '[\"warm\"]')); SELECT * FROM tq_results").expect("a first call");
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).expect("a pid").get(0);
    limit_memory(pid, megabytes);
    client
}

/// Runs it; the SQLSTATE of its error. The session is the same afterwards and works.
fn code_of(client: &mut Client, sql: &str) -> Option<String> {
    let error = client.batch_execute(sql).err().map(|error| error.code().unwrap_or_else(|| panic!("{error:?}: {sql}")).code().to_string());
    client.batch_execute("SELECT tq_find('nobody'), tq_queue_size()").unwrap_or_else(|error| panic!("{error:?} after {sql}"));
    error
}

/// Nothing of what these do may end any process, least of all the server.
fn assert_survived(site: &Site, started: &str) {
    assert_eq!(site.cluster.value(DB, "SELECT pg_postmaster_start_time()"), started);
    let log = site.cluster.log();
    for word in ["was terminated by signal", "memory allocation of", "server process", "FATAL:  out of memory"] {
        assert!(!log.contains(word), "{word} in the log:\n{log}");
    }
    site.cluster.assert_log_clean();
}

#[test]
fn results_of_megabytes_in_a_view_are_shown_or_an_error() {
    let site = Site::start("log_statement = none\nlog_min_error_statement = panic\n", &["t1"]);
    let started = site.cluster.value(DB, "SELECT pg_postmaster_start_time()");
    let id = site.enqueue("t1", "ok", r#"["model"]"#, "");
    site.wait_ended("t1", &id, 'd');
    // As somebody writes them who owns the table: 20 results of 30 MB, which the server keeps in little room.
    site.run(
        "t1",
        "CREATE TABLE model AS SELECT * FROM tq_result LIMIT 1;
         UPDATE model SET result = to_jsonb(repeat('0123456789abcde', 2000000)), state = 'd';
         INSERT INTO tq_result SELECT (jsonb_populate_record(m, jsonb_build_object('id', gen_random_uuid()))).* FROM model AS m, generate_series(1, 20)",
    );
    for megabytes in [40, 200] {
        let mut client = poor_client(&site, "t1", megabytes);
        for sql in
            ["SELECT count(*), sum(length(result::text)) FROM tq_results", "SELECT length(tq_result(id)::text) FROM t1.tq_result LIMIT 3"]
        {
            let code = code_of(&mut client, sql);
            assert!(matches!(code.as_deref(), None | Some("53200" | "54000")), "{code:?} with {megabytes} MB: {sql}");
        }
    }
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_result"), 23, "what the poor clients enqueued, too");
    assert_survived(&site, &started);
}

#[test]
fn many_tasks_at_once_take_no_more_memory_than_one() {
    let site = Site::start("tenant_q.enabled = off\nlog_min_error_statement = panic\n", &["t1"]);
    let started = site.cluster.value(DB, "SELECT pg_postmaster_start_time()");
    // As they are one and a half kilobytes each, as parsed objects ten.
    let many = |n: u32| {
        format!(
            "SELECT jsonb_agg(jsonb_build_object('handler', 'ok', 'args', jsonb_build_array(i), 'name', 'n' || i, 'meta', m.doc))
             FROM generate_series(1, {n}) AS i, (SELECT jsonb_object_agg('k' || k, k) AS doc FROM generate_series(1, 100) AS k) AS m"
        )
    };
    site.run(
        "t1",
        &format!("CREATE TABLE docs AS SELECT 'few' AS which, ({}) AS doc UNION ALL SELECT 'many', ({})", many(3000), many(12_000)),
    );
    let mut client = poor_client(&site, "t1", 24);
    assert_eq!(code_of(&mut client, "SELECT count(*) FROM docs, tq_async_many(doc) WHERE which = 'few'"), None);
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_task WHERE name LIKE 'n%'"), 3000);
    assert_eq!(code_of(&mut client, "SELECT count(tq_group(doc)) FROM docs WHERE which = 'few'"), None);
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_task WHERE name LIKE 'n%'"), 6000);
    // What doesn't fit is an error, and nothing is left of it.
    for sql in [
        "SELECT count(*) FROM docs, tq_async_many(doc) WHERE which = 'many'",
        "SELECT count(tq_group(doc)) FROM docs WHERE which = 'many'",
        "SELECT count(tq_import(doc)) FROM docs WHERE which = 'few'",
        "SELECT tq_async_iter('ok', ARRAY(SELECT doc FROM docs, generate_series(1, 8) WHERE which = 'few'))",
    ] {
        let code = code_of(&mut client, sql);
        assert!(matches!(code.as_deref(), Some("53200" | "54000" | "22023")), "{code:?}: {sql}");
    }
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_task WHERE name LIKE 'n%'"), 6000);
    assert_survived(&site, &started);
}

#[test]
fn calls_about_very_many_tasks_take_no_more_memory_than_about_a_few() {
    let site = Site::start("tenant_q.enabled = off\nlog_statement = none\nlog_min_error_statement = panic\n", &["t1"]);
    let started = site.cluster.value(DB, "SELECT pg_postmaster_start_time()");
    // 120 MB of small rows, of which half failed; and 20 with results of 15 MB, kept in little room.
    site.run(
        "t1",
        "INSERT INTO tq_result (id, handler, state, priority, attempts, crashes, created_at, run_at, finished_at, args)
             SELECT gen_random_uuid(), 'ok', CASE WHEN n % 2 = 0 THEN 'f' ELSE 'd' END::\"char\", 0, 1, 0, now(), now(), now(),
                    jsonb_build_array((SELECT string_agg(md5(i::text), '') FROM generate_series(1, 30) AS i))
               FROM generate_series(1, 100000) AS n;
         INSERT INTO tq_result (id, handler, state, priority, attempts, crashes, created_at, run_at, finished_at, args, result)
             SELECT gen_random_uuid(), 'ok', 'f', 0, 1, 0, now(), now(), now(), '[\"x\"]', to_jsonb(repeat('0123456789abcde', 1000000))
               FROM generate_series(1, 20) AS n",
    );
    let mut client = poor_client(&site, "t1", 24);
    for (call, tasks) in [
        ("tq_requeue_all(states => '{failed}', dry_run => true)", 50_020),
        ("tq_requeue_all(states => '{failed}')", 50_020),
        ("tq_update_all(handler => 'ok', set_priority => 7)", 50_021),
        ("tq_cancel_all(handler => 'ok')", 50_021),
        ("tq_delete_all(everything => true)", 100_021),
    ] {
        let found: i64 =
            client.query_one(&format!("SELECT tasks FROM {call}"), &[]).unwrap_or_else(|error| panic!("{error:?}: {call}")).get(0);
        assert_eq!(found, tasks, "{call}");
    }
    assert_eq!(site.number("SELECT (SELECT count(*) FROM t1.tq_task) + (SELECT count(*) FROM t1.tq_result)"), 0);
    assert_survived(&site, &started);
}

/// What each process reads whole of a tenant is bounded where it is defined; what is there already can be changed.
#[test]
fn what_is_read_whole_of_a_tenant_is_not_any_number() {
    let site = Site::start("tenant_q.enabled = off\n", &["t1", "t2"]);
    // As fast as nobody can who has to call for each.
    site.cluster.run(
        DB,
        "INSERT INTO tenant_q.queue (tenant, name, priority) SELECT 't1', 'q' || n, 1 FROM generate_series(1, 1000) AS n;
         INSERT INTO tenant_q.limit_key (tenant, key, max_running, algorithm) SELECT 't1', 'k' || n, 1, 'bucket' FROM generate_series(1, 10000) AS n;
         INSERT INTO tenant_q.pause (tenant, queue, handler, until, since, by_role)
             SELECT 't1', 'p' || n, '', 'infinity', now(), 't1' FROM generate_series(1, 1000) AS n",
    );
    for (one_more, again, hint) in [
        ("tq_set_queue('q1001', priority => 1)", "tq_set_queue('q1', priority => 2)", "administrator removes one"),
        ("tq_set_limit('k10001', max_running => 1)", "tq_set_limit('k1', max_running => 2)", "administrator removes one"),
        ("tq_pause(queue => 'p1001')", "tq_pause(queue => 'p1', duration => '1 hour')", "tq_resume()"),
    ] {
        let error = site.cluster.try_run_as("t1", DB, &format!("SELECT {one_more}")).expect_err(one_more);
        assert_eq!(error.code, "54000", "{one_more}: {error}");
        assert!(error.hint.contains(hint), "{one_more}: {error}");
        site.run("t1", &format!("SELECT {again}"));
        site.run("t2", &format!("SELECT {one_more}"));
    }
    // Room is what the hint makes.
    site.cluster.run(DB, "DELETE FROM tenant_q.queue WHERE tenant = 't1' AND name = 'q7'");
    site.run("t1", "SELECT tq_set_queue('q1001', priority => 1), tq_resume('t1', queue => 'p7'), tq_pause(queue => 'p1001')");
    site.run(
        "t1",
        "CREATE FUNCTION hear(e jsonb) RETURNS void LANGUAGE sql AS ''; SELECT tq_register('hear');
         SELECT tq_on('done', 'hear')",
    );
    site.cluster.run(
        DB,
        "INSERT INTO tenant_q.listener SELECT (jsonb_populate_record(l, jsonb_build_object('for_handler', 'h' || n, 'id', gen_random_uuid()))).*
         FROM tenant_q.listener AS l, generate_series(1, 999) AS n",
    );
    let error = site.cluster.try_run_as("t1", DB, "SELECT tq_on('failed', 'hear')").expect_err("one too many");
    assert_eq!(error.code, "54000", "{error}");
    assert!(error.hint.contains("tq_off()"), "{error}");
    site.run("t1", "SELECT tq_on('done', 'hear')");
    site.run("t1", "SELECT tq_off('done', 'hear'), tq_on('failed', 'hear')");
}

/// As many objects as a document of 30 MB has: each of them is read by itself.
#[test]
fn nine_hundred_thousand_tasks_at_once_fit_or_are_an_error() {
    let site = Site::start("tenant_q.enabled = off\nlog_min_error_statement = panic\n", &["t1"]);
    let started = site.cluster.value(DB, "SELECT pg_postmaster_start_time()");
    site.run(
        "t1",
        "CREATE TABLE docs AS SELECT jsonb_agg(jsonb_build_object('handler', 'ok', 'args', jsonb_build_array(i))) AS doc
         FROM generate_series(1, 900000) AS i",
    );
    for (megabytes, fits) in [(20, false), (1000, true)] {
        let mut client = poor_client(&site, "t1", megabytes);
        let code = code_of(&mut client, "SELECT count(*) FROM docs, tq_async_many(doc)");
        match code.as_deref() {
            None => assert!(fits, "{megabytes} MB were enough for a document of more"),
            Some(code) => assert!(!fits && code == "53200", "{code} with {megabytes} MB"),
        }
    }
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_task WHERE args <> '[\"warm\"]'"), 900_000);
    assert_survived(&site, &started);
}

#[test]
fn long_texts_and_deep_documents_are_errors() {
    let site = Site::start("log_min_error_statement = panic\nlog_min_messages = fatal\n", &["t1"]);
    let started = site.cluster.value(DB, "SELECT pg_postmaster_start_time()");
    let mut client = poor_client(&site, "t1", 150);
    const LONG: &str = "repeat('x', 50000000)";
    for (sql, codes) in [
        (format!("SELECT tq_async({LONG})"), &["54000", "53200"][..]),
        (format!("SELECT tq_async('ok', name => {LONG})"), &["54000", "53200"]),
        (format!("SELECT tq_async('ok', jsonb_build_array({LONG}))"), &["54000", "53200"]),
        (
            format!("SELECT tq_async('ok', '[1]', meta => jsonb_build_array({LONG}), retry => jsonb_build_array({LONG}))"),
            &["54000", "53200", "22023"],
        ),
        (format!("SELECT tq_async_many(jsonb_build_array(jsonb_build_object('handler', {LONG})))"), &["22023", "54000", "53200"]),
        (format!("SELECT tq_async_many(jsonb_build_array(jsonb_build_object({LONG}, 1)))"), &["22023", "54000", "53200"]),
        (format!("SELECT tq_register({LONG})"), &["54000", "53200"]),
        (format!("SELECT tq_schedule('s', 'ok', {LONG})"), &["54000", "53200"]),
        (format!("SELECT tq_import(jsonb_build_array(jsonb_build_object('name', {LONG})))"), &["22023", "54000", "53200"]),
        (format!("SELECT tq_describe({LONG})"), &["54000", "53200"]),
        (format!("SELECT tq_find({LONG})"), &["54000", "53200"]),
        ("SELECT tq_async_many(('[' || repeat('[', 3000) || repeat(']', 3000) || ']')::jsonb)".into(), &["54000"]),
        ("SELECT tq_async('ok', '[1]', meta => (repeat('[', 3000) || repeat(']', 3000))::jsonb)".into(), &["54000"]),
    ] {
        let code = code_of(&mut client, &sql).unwrap_or_else(|| panic!("no error: {sql}"));
        assert!(codes.contains(&code.as_str()), "{code}: {sql}");
    }
    // In an executor: what a handler raises, or returns, may be of any length.
    site.run(
        "t1",
        "CREATE FUNCTION cries(n int) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '%', repeat('x', n) USING DETAIL = repeat('y', n); END $$;
         CREATE FUNCTION gives(n int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN repeat('x', n); END $$;
         SELECT tq_register('cries'), tq_register('gives')",
    );
    let first = site.enqueue("t1", "ok", r#"["first"]"#, "");
    site.wait_ended("t1", &first, 'd');
    for pid in site.cluster.pids("tenant_q executor") {
        limit_memory(pid, 200);
    }
    for (handler, n) in [("cries", 30_000_000), ("gives", 60_000_000), ("gives", 5_000_000)] {
        let id = site.enqueue("t1", handler, &n.to_string(), ", max_attempts => 1");
        site.cluster.wait_until(DB, &format!("SELECT EXISTS (SELECT FROM t1.tq_result WHERE id = '{id}')"));
    }
    site.assert_alive("t1");
    assert_survived(&site, &started);
}
