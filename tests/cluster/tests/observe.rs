//! What is told of what went on, where memory for it is short; who waits for a group; fresh executors.

use std::time::{Duration, Instant};

use crate::site::{DB, Site};

#[test]
fn the_ring_and_the_counters_are_bounded() {
    let site = Site::start("tenant_q.failure_ring = 3\ntenant_q.max_stats = 2\n", &["t1", "t2"]);
    for n in 1..=5 {
        let id = site.enqueue("t1", "bad", &format!(r#"["{n}"]"#), ", max_attempts => 1");
        site.wait_ended("t1", &id, 'f');
    }
    let told = || site.cluster.rows(DB, "SELECT message FROM tq_failures").iter().map(|r| r.get(0).to_string()).collect::<Vec<_>>();
    site.cluster.wait_until(DB, "SELECT failed = 5 FROM tq_stats");
    assert_eq!(told(), ["bad 5", "bad 4", "bad 3"]);
    // A third handler takes the place of its own tenant's that was longest unused, not another tenant's.
    for (tenant, handler) in [("t2", "ok"), ("t2", "slow")] {
        let args = if handler == "ok" { r#"["a"]"# } else { r#"["b", 0]"# };
        let id = site.enqueue(tenant, handler, args, "");
        site.wait_ended(tenant, &id, 'd');
        site.cluster.wait_until(
            DB,
            &format!("SELECT EXISTS (SELECT FROM tq_stats WHERE tenant = '{tenant}' AND handler = '{handler}' AND done = 1)"),
        );
    }
    assert_eq!(site.number("SELECT count(*) FROM tq_stats"), 2);
    assert_eq!(site.number("SELECT count(*) FROM tq_stats WHERE handler = 'bad'"), 1);
    assert_eq!(site.number("SELECT value::int FROM tq_metrics WHERE name = 'tenant_q_failed_attempts_total'"), 5);
    site.cluster.assert_log_clean();
}

#[test]
fn without_memory_for_it_nothing_is_told_and_tasks_run() {
    let site = Site::start("tenant_q.failure_ring = 0\ntenant_q.max_stats = 0\n", &["t1"]);
    let id = site.enqueue("t1", "bad", r#"["a"]"#, ", max_attempts => 1");
    site.wait_ended("t1", &id, 'f');
    let id = site.enqueue("t1", "ok", r#"["b"]"#, "");
    site.wait_ended("t1", &id, 'd');
    assert_eq!(site.number("SELECT (SELECT count(*) FROM tq_failures) + (SELECT count(*) FROM tq_stats)"), 0);
    site.run("postgres", "SELECT tq_stats_reset()");
    site.cluster.assert_log_clean();
}

#[test]
fn an_attempt_that_was_terminated_is_among_the_failures() {
    let site = Site::start("", &["t1"]);
    site.cluster.run(
        DB,
        "CREATE FUNCTION public.stubborn() RETURNS void LANGUAGE plpgsql AS
           $$ BEGIN LOOP BEGIN PERFORM pg_sleep(600); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$",
    );
    site.run("t1", "SELECT tq_register('stubborn', timeout => '200 ms', max_attempts => 1)");
    let id = site.enqueue("t1", "stubborn", "[]", "");
    site.wait_ended("t1", &id, 'f');
    let told = format!("SELECT EXISTS (SELECT FROM tq_failures WHERE id = '{id}' AND sqlstate = '57014' AND attempt = 1 AND role = 't1')");
    site.cluster.wait_until(DB, &told);
    assert_eq!(site.number("SELECT timeouts FROM tq_stats WHERE handler = 'stubborn'"), 1);
}

#[test]
fn who_waits_for_a_group_is_called_by_every_kind_of_end() {
    let site = Site::start("", &["t1"]);
    let ends = |how: &str, id: &str| match how {
        "cancelled" => site.run("t1", &format!("SELECT tq_cancel('{id}')")),
        "done" => site.open_gate(),
        _ => site.run("t1", "SELECT tq_delete_group('g')"),
    };
    for how in ["cancelled", "unlabelled", "done"] {
        let id = site.enqueue("t1", "gate", r#"["a"]"#, ", group_id => 'g'");
        site.wait_running(&id);
        let mut client = site.client("t1");
        std::thread::scope(|scope| {
            let waiter = scope.spawn(move || {
                client.query("SELECT tq_result_group('g', failures => true, wait => '50 s')::text", &[]).expect("an answer");
                Instant::now()
            });
            site.cluster.wait_until(
                DB,
                "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE '%tq_result_group%' AND wait_event = 'Extension')",
            );
            let began = Instant::now();
            ends(how, &id);
            // Uncalled, it looks again five seconds after it began.
            let took = waiter.join().expect("the waiter ends") - began;
            assert!(took < Duration::from_secs(3), "{how}: {took:?}");
        });
        site.run("t1", "SELECT tq_delete_group('g')");
        if how == "unlabelled" {
            site.run("t1", &format!("SELECT tq_cancel('{id}')"));
        }
        site.wait_idle(&["t1"]);
    }
    site.cluster.assert_log_clean();
}

/// Whoever waits for this task, and for one of its group, is called by what `act` does, long before they would look again.
fn assert_told(site: &Site, how: &str, id: &str, act: impl FnOnce()) {
    let calls = [
        format!("SELECT count(*) FROM tq_fetch('{id}', wait => '50 s')"),
        "SELECT tq_result_group('g', failures => true, wait => '50 s')::text".to_owned(),
    ];
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (calls.iter())
            .map(|call| {
                let mut client = site.client("t1");
                scope.spawn(move || {
                    client.query(call, &[]).expect("an answer");
                    Instant::now()
                })
            })
            .collect();
        site.cluster.wait_until(
            DB,
            "SELECT count(*) = 2 FROM pg_stat_activity WHERE query ~ '^SELECT (count|tq_result_group)' AND wait_event = 'Extension'",
        );
        let began = Instant::now();
        act();
        for (waiter, who) in waiters.into_iter().zip(["the task", "its group"]) {
            let took = waiter.join().expect("the waiter ends") - began;
            assert!(took < Duration::from_secs(4), "{how}, who waited for {who}: {took:?}");
        }
    });
    site.run("t1", "SELECT tq_delete_group('g')");
}

const COUNTS: &str =
    "SELECT coalesce(sum(done), 0) || ' ' || coalesce(sum(failed), 0) FROM tq_stats WHERE tenant = 't1' AND handler IN ('gate', 'fail')";
const LISTENING: &str = "
    CREATE FUNCTION heard(e jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO fx (tenant, k) VALUES ('heard', e ->> 'event') $$;
    CREATE FUNCTION fail(k text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM public.gate(k); RAISE 'so'; END $$;
    SELECT tq_register('heard'), tq_register('fail', max_attempts => 1);
    SELECT tq_on(e, 'heard', for_handler => h) FROM unnest('{done,failed,cancelled,expired}'::text[]) AS e, unnest('{gate,fail}'::text[]) AS h";

/// However a task ends in an executor or by a call, all hear of it that want to: who waits for it or for its group, those who
/// listen, what depends on it, the gauge and the counters.
#[test]
fn every_end_is_told_to_all_who_want_to_hear_of_it() {
    let site = Site::start("", &["t1"]);
    site.run("t1", LISTENING);
    let open = || site.open_gate();
    let heard = |event: &str| site.number(&format!("SELECT count(*) FROM fx WHERE tenant = 'heard' AND k = '{event}'"));
    let enqueue = |handler: &str, rest: &str| site.enqueue("t1", handler, r#"["a"]"#, &format!(", group_id => 'g'{rest}"));
    for (event, handler) in [("done", "gate"), ("failed", "fail"), ("cancelled", "gate")] {
        site.cluster.run(DB, "DELETE FROM gate");
        let id = enqueue(handler, "");
        site.wait_running(&id);
        let next = site.enqueue("t1", "ok", &format!(r#"["after {event}"]"#), &format!(", depends_on => '{{{id}}}'"));
        if event == "cancelled" {
            assert_told(&site, event, &id, || site.run("t1", &format!("SELECT tq_cancel('{id}')")));
        } else {
            assert_told(&site, event, &id, open);
        }
        site.wait_ended("t1", &next, if event == "done" { 'd' } else { 'c' });
        site.cluster.wait_until(DB, &format!("SELECT count(*) >= 1 FROM fx WHERE tenant = 'heard' AND k = '{event}'"));
        assert_eq!(heard(event), 1, "{event}");
    }
    assert_eq!(site.cluster.value(DB, COUNTS), "1 1");
    // Too late for it, when its handler goes on.
    site.run("t1", "SELECT tq_pause(handler => 'gate')");
    let id = enqueue("gate", ", expires => '0.2 seconds'");
    site.cluster.wait_until(DB, &format!("SELECT expires_at < clock_timestamp() FROM t1.tq_task WHERE id = '{id}'"));
    assert_told(&site, "expired", &id, || site.run("t1", "SELECT tq_resume(handler => 'gate')"));
    // A flow has no executor: it ends with its last member.
    site.cluster.run(DB, "DELETE FROM gate");
    let flow = site.value("t1", r#"SELECT tq_group('[{"handler": "gate", "args": ["member"]}]', task => '{"group_id": "g"}')"#);
    site.cluster.wait_until(DB, "SELECT EXISTS (SELECT FROM tq_running)");
    assert_told(&site, "a flow", &flow, open);
    site.wait_idle(&["t1"]);
    site.cluster.wait_until(DB, "SELECT unfinished = 0 FROM (SELECT sum(queued) + sum(running) AS unfinished FROM tq_tenants) AS x");
    site.cluster.assert_log_clean();
}

/// The same of those that end in somebody's own session.
#[test]
fn every_end_in_ones_own_session_is_told_to_all_who_want_to_hear_of_it() {
    let site = Site::start("tenant_q.enabled = off\n", &["t1"]);
    site.run("t1", LISTENING);
    site.open_gate();
    for (event, handler) in [("done", "gate"), ("failed", "fail")] {
        let id = site.enqueue("t1", handler, r#"["a"]"#, ", group_id => 'g'");
        assert_told(&site, event, &id, || site.run("t1", "SELECT count(*) FROM tq_drain()"));
    }
    let flow = site.value("t1", r#"SELECT tq_group('[{"handler": "gate", "args": ["member"]}]', task => '{"group_id": "g"}')"#);
    assert_told(&site, "a flow", &flow, || site.run("t1", "SELECT count(*) FROM tq_drain()"));
    assert_eq!(site.cluster.value(DB, COUNTS), "2 1");
    assert_eq!(site.number("SELECT count(*) FROM tq_failures WHERE handler = 'fail'"), 1);
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE tenant = 'heard' AND k IN ('done', 'failed')"), 3, "a flow is no handler's");
    assert_eq!(site.number("SELECT sum(queued) FROM tq_tenants"), 0);
    site.cluster.assert_log_clean();
}

#[test]
fn recycling_lets_what_runs_end() {
    let site = Site::start("", &["t1"]);
    let id = site.enqueue("t1", "gate", r#"["a"]"#, "");
    let pid = site.wait_running(&id);
    let others: Vec<String> = (0..20).map(|n| site.enqueue("t1", "ok", &format!(r#"["{n}"]"#), "")).collect();
    assert!(site.number("SELECT tq_recycle()") >= 1);
    for other in &others {
        site.wait_ended("t1", other, 'd');
    }
    assert_eq!(site.running(&id), Some(pid), "its present task goes on");
    site.open_gate();
    site.wait_ended("t1", &id, 'd');
    site.cluster.wait_until(DB, &format!("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = {pid}"));
    site.assert_once(21);
    site.cluster.assert_log_clean();
}

#[test]
fn schedules_in_a_schema_without_any_are_told_of_with_the_way_out() {
    let site = Site::start("tenant_q.exclude_schemas = 'stage, t1'\n", &["t1", "t2"]);
    for tenant in ["t1", "t2"] {
        site.run(tenant, "SELECT tq_schedule('s', 'ok', '1 second', args => '[\"s\"]')");
    }
    site.cluster.wait_until(DB, "SELECT EXISTS (SELECT FROM t2.tq_result)");
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_result"), 0);
    assert_eq!(site.cluster.value(DB, "SELECT string_agg(what, ',') FROM tq_problems"), "tenant t1");
    site.cluster.mend(DB, "what = 'tenant t1'");
    site.cluster.reload();
    site.cluster.wait_until(DB, "SELECT NOT EXISTS (SELECT FROM tq_problems)");
    assert_eq!(site.cluster.value(DB, "SHOW tenant_q.exclude_schemas"), "stage");
    site.cluster.wait_until(DB, "SELECT EXISTS (SELECT FROM t1.tq_result)");
    site.cluster.assert_log_clean();
}

/// What is remembered of the schema of the extension's functions is what is there by the last change that was heard of, and
/// not what a snapshot from before it saw: handlers would go on finding functions beside which others may put their own.
#[test]
fn who_may_create_beside_the_functions_is_not_remembered_from_before_a_change() {
    let site = Site::start("", &[]);
    site.cluster.run("postgres", "CREATE DATABASE apart");
    site.cluster
        .run("apart", "CREATE SCHEMA ext; GRANT USAGE ON SCHEMA ext TO PUBLIC; CREATE EXTENSION tenant_q SCHEMA ext; CREATE ROLE maker");
    let mut frozen = site.cluster.client("postgres", "apart");
    frozen.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").expect("a snapshot");
    site.cluster.run("apart", "GRANT CREATE ON SCHEMA ext TO maker");
    let ok = |client: &mut postgres::Client| {
        client.query_one("SELECT ok FROM ext.tq_health() WHERE check_name = 'functions'", &[]).expect("a check").get::<_, bool>(0)
    };
    assert!(!ok(&mut frozen), "under the old snapshot");
    frozen.batch_execute("COMMIT").expect("an end");
    assert!(!ok(&mut frozen), "and remembered");
    site.cluster.run("apart", "REVOKE CREATE ON SCHEMA ext FROM maker");
    assert!(ok(&mut frozen));
}

/// The same where the grant comes while a process waits to read who may: what it then reads is from before the grant.
#[test]
fn a_tenant_read_while_others_get_the_right_to_create_beside_the_functions_is_read_again() {
    let site = Site::start("", &[]);
    site.cluster.run("postgres", "CREATE DATABASE apart");
    site.cluster.run(
        "apart",
        "CREATE SCHEMA ext; GRANT USAGE ON SCHEMA ext TO PUBLIC; CREATE EXTENSION tenant_q SCHEMA ext; CREATE ROLE maker;
         CREATE SCHEMA acme; SET search_path = acme, ext; SELECT tq_attach('acme');
         CREATE FUNCTION path() RETURNS text LANGUAGE sql AS $$ SELECT current_setting('search_path') $$;
         SELECT tq_register('path')",
    );
    let mut holder = site.cluster.client("postgres", "apart");
    let mut caller = site.cluster.client("postgres", "apart");
    caller.batch_execute("SET search_path = acme, ext, public").expect("a path");
    holder.batch_execute("BEGIN; LOCK pg_catalog.pg_extension").expect("a lock");
    let call = "SELECT ext.tq_result(ext.tq_async('path', sync => true), wait => '0') #>> '{}'";
    let caller = std::thread::spawn(move || {
        // Read before, or after.
        caller.batch_execute(call).expect("a path");
        caller.query_one(call, &[]).expect("a path").get::<_, String>(0)
    });
    site.cluster.wait_until(
        "postgres",
        "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'pg_catalog.pg_extension'::regclass AND mode = 'AccessShareLock')",
    );
    site.cluster.run("apart", "GRANT CREATE ON SCHEMA ext TO maker");
    holder.batch_execute("COMMIT").expect("an end");
    assert_eq!(caller.join().expect("no panic"), "acme, public, pg_temp");
}
