//! Tasks run in sessions of people's own, beside executors and without any.

use cluster::Cluster;

use crate::site::{DB, Site};

/// tq_drain, with commits and rollbacks, tq_run_pending and executors, all after the same tasks.
#[test]
fn whoever_runs_a_task_it_happens_once() {
    let site = Site::start("", &["t1"]);
    let (batches, size) = (40, 50);
    std::thread::scope(|threads| {
        for drainer in 0..2 {
            let mut client = site.client("t1");
            threads.spawn(move || {
                for round in 0..60 {
                    client.batch_execute("BEGIN").expect("begin");
                    client.batch_execute("SELECT FROM tq_drain(20)").expect("drain");
                    client.batch_execute(if round % 3 == drainer { "ROLLBACK" } else { "COMMIT" }).expect("end");
                }
            });
        }
        let mut runner = site.client("t1");
        threads.spawn(move || runner.batch_execute("CALL tq_run_pending(wait => '2 seconds')").expect("run"));
        let mut client = site.client("t1");
        for batch in 0..batches {
            let sql = format!("SELECT count(tq_async('ok', jsonb_build_array('{batch}-' || n))) FROM generate_series(1, {size}) AS n");
            client.batch_execute(&sql).expect("enqueue");
        }
    });
    site.wait_idle(&["t1"]);
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_result WHERE state = 'd' AND attempts = 1"), batches * size);
    site.assert_once(batches * size);
    // It was a race: no single process has done it all.
    assert!(site.number("SELECT count(DISTINCT pid) FROM fx") > 1);
    assert_eq!(site.cluster.value(DB, "SELECT DISTINCT concat_ws(' ', who, sess, su) FROM fx"), "t1 t1 off");
    site.assert_alive("t1");
    site.cluster.assert_log_clean();
}

/// What another session enqueues is found while tq_run_pending waits, and a cancel ends the wait.
#[test]
fn waiting_takes_what_comes_and_interrupts() {
    let site = Site::start("tenant_q.enabled = off\n", &["t1"]);
    let mut runner = site.client("t1");
    let pid: i32 = runner.query_one("SELECT pg_backend_pid()", &[]).expect("a pid").get(0);
    std::thread::scope(|threads| {
        let run = threads.spawn(move || runner.batch_execute("CALL tq_run_pending(wait => '10 minutes')"));
        site.cluster.wait_until(DB, &format!("SELECT query LIKE 'CALL%' AND state = 'active' FROM pg_stat_activity WHERE pid = {pid}"));
        let id = site.enqueue("t1", "ok", r#"["while it waits"]"#, "");
        site.wait_ended("t1", &id, 'd');
        // Nothing is held between two looks.
        site.cluster.wait_until(DB, &format!("SELECT backend_xid IS NULL FROM pg_stat_activity WHERE pid = {pid}"));
        assert_eq!(site.cluster.value(DB, &format!("SELECT pg_cancel_backend({pid})")), "t");
        let error = run.join().expect("no panic").expect_err("cancelled");
        assert_eq!(error.code().map(|c| c.code().to_string()).as_deref(), Some("57014"));
    });
    site.assert_once(1);
}

/// Without the library preloaded nothing runs by itself, and all of this works.
#[test]
fn a_server_that_does_not_preload_runs_tasks_in_sessions() {
    let cluster = Cluster::start("shared_preload_libraries = ''\n");
    let site = Site { cluster };
    site.cluster.run(
        DB,
        "CREATE EXTENSION tenant_q; CREATE ROLE t1 LOGIN; CREATE SCHEMA t1 AUTHORIZATION t1; ALTER ROLE t1 SET search_path = t1, public",
    );
    site.run(
        "t1",
        "SELECT tq_attach(); CREATE TABLE fx (k text);
         CREATE FUNCTION ok(k text) RETURNS void LANGUAGE sql AS $$ INSERT INTO fx VALUES (k) $$;
         CREATE FUNCTION bad(k text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM ok(k); RAISE EXCEPTION 'bad %', k; END $$;
         CREATE FUNCTION slow(s float8) RETURNS void LANGUAGE sql AS $$ SELECT pg_sleep(s) $$;
         CREATE FUNCTION hear(task jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO fx VALUES (task ->> 'event') $$;
         SELECT tq_register(h, max_attempts => 1) FROM unnest('{ok,bad,slow,hear}'::text[]) AS h; SELECT tq_on('failed', 'hear')",
    );
    assert_eq!(
        site.value("t1", r#"BEGIN; SELECT tq_async('ok', '["drained"]'); SELECT state FROM tq_drain(); COMMIT; SELECT k FROM fx"#),
        "drained"
    );
    assert_eq!(
        site.value("t1", r#"SELECT tq_async('ok', '["synced"]', sync => true); SELECT string_agg(k, ' ' ORDER BY k) FROM fx"#),
        "drained synced"
    );
    site.run("t1", r#"SELECT tq_async('bad', '["x"]'), tq_async('slow', '[600]', timeout => '100 ms'), tq_async('ok', '["pending"]')"#);
    site.run("t1", "CALL tq_run_pending()");
    assert_eq!(site.value("t1", "SELECT string_agg(k, ' ' ORDER BY k) FROM fx"), "drained failed failed pending synced");
    assert_eq!(
        site.value("t1", "SELECT string_agg(error ->> 'message', ', ' ORDER BY handler) FROM tq_results WHERE state = 'failed'"),
        "bad x, the attempt took longer than its timeout of 100 ms"
    );
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_task"), 0);
    // What is done elsewhere is handed out in the transaction, and ended there.
    site.run("t1", "SELECT tq_register('outside', external => true, max_running => 1)");
    let taken = "SELECT tq_finish(claim, args), args FROM tq_drain_take()";
    assert_eq!(
        site.value(
            "t1",
            &format!(
                "BEGIN; SELECT tq_async('outside', '[1]'); {taken}; SELECT result FROM tq_results WHERE handler = 'outside'; ROLLBACK"
            )
        ),
        "[1]"
    );
    let failing = "SELECT g.state FROM tq_drain_take(), tq_give_up(claim, '{\"message\": \"no\"}', final => true) AS g";
    assert_eq!(site.value("t1", &format!("BEGIN; SELECT tq_async('outside'); {failing}; ROLLBACK")), "failed");
    let refused = site.cluster.try_run_as("t1", DB, "SELECT tq_finish(gen_random_uuid())").expect_err("there are no claims of workers");
    assert_eq!(refused.code, "55000");
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_task"), 0);
    site.cluster.assert_log_clean();
}
