//! Every committed enqueue runs exactly once, a rolled-back one never: under crashes, late commits, by unusual ways.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use cluster::{Client, Stop, wait_for};

use crate::site::{DB, Site};

/// What one enqueuing session knows at the end.
#[derive(Default)]
struct Told {
    committed: Vec<String>,
    rolled_back: Vec<String>,
    /// The connection broke in the commit: it may have happened or not.
    unknown: Vec<String>,
}

/// Enqueues until told to stop, reconnecting as the server dies under it.
fn session(site: &Site, tenant: &str, number: usize, stop: &AtomicBool) -> Told {
    let mut told = Told::default();
    let mut client: Option<Client> = None;
    let mut n = 0;
    while !stop.load(SeqCst) {
        let Some(c) = client.as_mut() else {
            client = site.cluster.try_client(tenant, DB).ok();
            if client.is_none() {
                thread::sleep(Duration::from_millis(5));
            }
            continue;
        };
        n += 1;
        let keys: Vec<String> = (0..if n % 7 == 0 { 20 } else { 1 }).map(|i| format!("{number}-{n}-{i}")).collect();
        let enqueue = match n % 7 {
            0 => format!(
                "BEGIN; SELECT tq_async_many(jsonb_agg(jsonb_build_object('handler', 'ok', 'args', jsonb_build_array(k)))) FROM unnest('{{{}}}'::text[]) AS k",
                keys.join(",")
            ),
            1 => format!("BEGIN; SELECT tq_async('ok', '[\"{}\"]', delay => '0.3 seconds')", keys[0]),
            _ => format!("BEGIN; SELECT tq_async('ok', '[\"{}\"]')", keys[0]),
        };
        let rollback = n % 5 == 0;
        if c.batch_execute(&enqueue).is_err() {
            told.rolled_back.extend(keys);
            client = None;
        } else if rollback {
            client = c.batch_execute("ROLLBACK").is_ok().then(|| client.take().expect("still here"));
            told.rolled_back.extend(keys);
        } else if c.batch_execute("COMMIT").is_ok() {
            told.committed.extend(keys);
        } else {
            told.unknown.extend(keys);
            client = None;
        }
        // Leave the executors something of the two cores.
        thread::sleep(Duration::from_millis(1));
    }
    told
}

#[test]
fn under_load_and_crashes_each_committed_task_runs_exactly_once() {
    let tenants = ["t1", "t2", "t3"];
    let site = Site::start("", &tenants);
    let stop = AtomicBool::new(false);
    let told: Vec<Told> = thread::scope(|scope| {
        let sessions: Vec<_> = (0..6)
            .map(|n| {
                let (site, stop) = (&site, &stop);
                scope.spawn(move || session(site, tenants[n % 3], n, stop))
            })
            .collect();
        for round in 0..5 {
            // Random enough: how far anybody has got by then is different each time.
            let before = site.cluster.number(DB, "SELECT count(*) FROM fx");
            site.cluster.wait_until(DB, &format!("SELECT count(*) > {before} + {} FROM fx", 150 + round * 37));
            site.cluster.restart(Stop::Immediate);
        }
        site.cluster.wait_ready();
        stop.store(true, SeqCst);
        sessions.into_iter().map(|s| s.join().expect("a session")).collect()
    });
    site.wait_idle(&tenants);

    site.cluster.run(DB, "CREATE TABLE told (k text, what text)");
    let mut client = site.cluster.client("postgres", DB);
    for t in &told {
        for (what, keys) in [("committed", &t.committed), ("rolled back", &t.rolled_back), ("unknown", &t.unknown)] {
            client.execute("INSERT INTO told SELECT unnest($1::text[]), $2", &[keys, &what]).expect("insert");
        }
    }
    let count = |what: &str| site.number(&format!("SELECT count(*) FROM told WHERE what = '{what}'"));
    assert!(count("committed") > 500 && count("rolled back") > 50, "too little happened");
    assert_eq!(site.number("SELECT count(*) FROM (SELECT k FROM fx GROUP BY k HAVING count(*) <> 1) AS x"), 0, "run twice");
    assert_eq!(site.number("SELECT count(*) FROM told LEFT JOIN fx USING (k) WHERE what = 'committed' AND fx.k IS NULL"), 0, "lost");
    assert_eq!(site.number("SELECT count(*) FROM told JOIN fx USING (k) WHERE what = 'rolled back'"), 0, "rolled back and run");
    let results = tenants.map(|t| format!("SELECT * FROM {t}.tq_result")).join(" UNION ALL ");
    assert_eq!(site.number(&format!("SELECT count(*) FROM ({results}) AS r WHERE state <> 'd' OR crashes > 0 OR attempts <> 1")), 0);
    site.assert_alive("t1");
    site.cluster.assert_log_clean();
}

#[test]
fn a_late_commit_is_found_behind_the_ones_that_ran() {
    let site = Site::start("", &["t1"]);
    for round in 0..5 {
        let mut late = site.client("t1");
        late.batch_execute(&format!("BEGIN; SELECT tq_async('ok', '[\"late {round}\"]')")).expect("enqueue");
        let mut last = String::new();
        for n in 0..20 {
            last = site.enqueue("t1", "ok", &format!(r#"["{round} {n}"]"#), "");
        }
        site.wait_ended("t1", &last, 'd');
        late.batch_execute("COMMIT").expect("commit");
        site.wait_idle_within(Duration::from_secs(5), &["t1"]);
    }
    site.assert_once(105);
    // A rolled-back savepoint in a committed transaction; a rolled-back transaction.
    site.run("t1", "BEGIN; SELECT tq_async('ok', '[\"kept\"]'); SAVEPOINT s; SELECT tq_async('ok', '[\"undone\"]'); ROLLBACK TO s; COMMIT");
    site.run("t1", "BEGIN; SELECT tq_async('ok', '[\"undone too\"]'); ROLLBACK");
    site.wait_idle(&["t1"]);
    site.assert_once(106);
    // What a failing handler enqueues doesn't exist.
    site.run(
        "t1",
        "CREATE FUNCTION t1.parent(fail boolean) RETURNS void LANGUAGE plpgsql AS
            $$ BEGIN PERFORM tq_async('ok', jsonb_build_array('child ' || fail)); IF fail THEN RAISE EXCEPTION 'no'; END IF; END $$;
         SELECT tq_register('parent', max_attempts => 1);
         SELECT tq_async('parent', '[true]'); SELECT tq_async('parent', '[false]')",
    );
    site.wait_idle(&["t1"]);
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE k = 'child false'"), 1);
    site.assert_once(107);
    site.cluster.assert_log_clean();
}

#[test]
fn what_no_commit_announces_is_found_by_the_sweep() {
    let site = Site::start("max_prepared_transactions = 5\ntenant_q.sweep_interval = 1s\n", &["t1", "t2"]);
    // The cursor is past these places by then.
    site.assert_alive("t1");
    site.run("t1", "BEGIN; SELECT tq_async('ok', '[\"prepared\"]'); PREPARE TRANSACTION 'p'");
    site.assert_alive("t1");
    site.run("t1", "INSERT INTO tq_task (handler, args) VALUES ('ok', '[\"raw\"]')");
    site.run("t2", "INSERT INTO tq_task (handler, args) VALUES ('ok', '[\"other raw\"]')");
    site.cluster.wait_until(DB, "SELECT count(*) = 2 FROM fx");
    site.run("t1", "COMMIT PREPARED 'p'");
    site.wait_idle(&["t1", "t2"]);
    site.assert_once(3);
    // From the future by raw SQL, without any announcement.
    site.run("t1", "INSERT INTO tq_task (handler, args, run_at) VALUES ('ok', '[\"future\"]', now() + interval '2 seconds')");
    site.wait_idle(&["t1"]);
    site.assert_once(4);
    site.cluster.assert_log_clean();
}

/// Between an attempt's commit and the moment at which its executor says so, the task can be here again: an executor that looks
/// then takes it for the one that still runs. Sessions enough for it to happen many times over, each with a tenant that nothing
/// else wakes.
#[test]
fn who_is_requeued_the_moment_it_ends_is_not_passed_by() {
    let site = Site::start("tenant_q.sweep_interval = 0\nlog_min_messages = fatal\n", &["t1"]);
    thread::scope(|scope| {
        for number in 0..8 {
            let site = &site;
            scope.spawn(move || {
                let tenant = format!("m{number}");
                site.cluster.run(DB, &format!("CREATE SCHEMA {tenant} AUTHORIZATION t1"));
                let mut client = site.client("t1");
                client
                    .batch_execute(&format!(
                        "SET search_path = {tenant}, public; SELECT tq_attach(); SELECT tq_register('bad', max_attempts => 1)"
                    ))
                    .expect("a tenant");
                let id: uuid::Uuid = client.query_one("SELECT tq_async('bad', '[\"x\"]')", &[]).expect("a task").get(0);
                for again in 0..400 {
                    let ended = client.query("SELECT state FROM tq_fetch($1, wait => '10 s')", &[&id]).expect("its state");
                    assert_eq!(ended[0].get::<_, String>(0), "failed", "requeued {again} times: {}", site.cluster.activity());
                    client.execute("SELECT tq_requeue($1)", &[&id]).expect("once more");
                }
            });
        }
    });
    site.cluster.assert_log_clean();
}

#[test]
fn twenty_thousand_in_one_transaction() {
    let site = Site::start("", &["t1"]);
    site.run("t1", "SELECT tq_async_many((SELECT jsonb_agg(jsonb_build_object('handler', 'ok', 'args', jsonb_build_array(n::text))) FROM generate_series(1, 20000) AS n))");
    site.wait_idle(&["t1"]);
    site.assert_once(20000);
    site.cluster.assert_log_clean();
}

#[test]
fn fencing_an_executor_that_was_given_up() {
    // Whatever shared memory says: a task whose row was taken away meanwhile has no effect.
    let site = Site::start("", &["t1"]);
    let id = site.enqueue("t1", "gate", r#"["a"]"#, "");
    site.wait_running(&id);
    site.run("t1", &format!("UPDATE tq_task SET attempts = attempts + 1 WHERE id = '{id}'"));
    site.open_gate();
    site.cluster.wait_until_within(Duration::from_secs(20), DB, "SELECT NOT EXISTS (SELECT FROM t1.tq_task)");
    site.assert_once(1);
    assert_eq!(site.counts("t1", &id), (2, 0));
    site.cluster.assert_log_clean();
}

#[test]
fn procedures_commit_as_they_like_and_leave_nothing_behind() {
    let site = Site::start("tenant_q.max_executors = 1\n", &["t1"]);
    site.run(
        "t1",
        "CREATE PROCEDURE t1.steps(k text, fail boolean) LANGUAGE plpgsql AS
            $$ BEGIN PERFORM ok(k || ' 1'); COMMIT; SET search_path = pg_catalog; PERFORM public.ok(k || ' 2'); COMMIT;
               IF fail THEN RAISE EXCEPTION 'after the commits'; END IF; END $$;
         SELECT tq_register('steps', max_attempts => 2, retry => tq_backoff('fixed', '0 seconds'))",
    );
    assert_eq!(site.value("t1", "SELECT string_agg(DISTINCT guarantee, ' ') FROM tq_handlers WHERE handler = 'steps'"), "at_least_once");
    let good = site.enqueue("t1", "steps", r#"["good", false]"#, "");
    let after = site.enqueue("t1", "ok", r#"["after"]"#, "");
    site.wait_ended("t1", &good, 'd');
    site.wait_ended("t1", &after, 'd');
    let bad = site.enqueue("t1", "steps", r#"["bad", true]"#, "");
    site.wait_ended("t1", &bad, 'f');
    assert_eq!(site.counts("t1", &bad), (2, 0));
    let last = site.enqueue("t1", "ok", r#"["last"]"#, "");
    site.wait_ended("t1", &last, 'd');
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE k LIKE 'good%'"), 2);
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE k LIKE 'bad%'"), 4, "two attempts, each with its effects");
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE who <> 't1' OR sess <> 't1' OR su <> 'off'"), 0);
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE k IN ('after', 'last') AND tenant = 't1' AND path = 't1, public, pg_temp'"), 2);
    // Killed between its commits: it starts again, its first effects are there twice, and the views have said so.
    site.run(
        "t1",
        "CREATE PROCEDURE t1.long(k text) LANGUAGE plpgsql AS $$ BEGIN PERFORM ok(k || ' 1'); COMMIT; PERFORM gate(k || ' 2'); END $$;
         SELECT tq_register('long')",
    );
    let id = site.enqueue("t1", "long", r#"["long"]"#, "");
    site.cluster.wait_until(DB, "SELECT count(*) = 1 FROM fx WHERE k = 'long 1'");
    let pid = site.wait_running(&id);
    cluster::kill(pid, libc::SIGTERM);
    wait_for("another executor", Duration::from_secs(10), || site.running(&id).is_some_and(|p| p != pid));
    site.open_gate();
    site.wait_ended("t1", &id, 'd');
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE k = 'long 1'"), 2);
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE k = 'long 2'"), 1);
    assert_eq!(site.counts("t1", &id), (1, 0));
    site.cluster.assert_log_clean();
}
