//! Tenants that attach code to the queue's tables, or hold their locks: it never runs with anybody else's rights, and the
//! others go on.

use std::time::{Duration, Instant};

use crate::site::{DB, Site};

/// Functions of the tenant that write down who runs them, as triggers, in rules, policies and indexes.
const TRAPS: &str = "
    CREATE FUNCTION trap() RETURNS boolean LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO public.fx (tenant, k) VALUES (current_schema(), 'trap'); RETURN true; END $$;
    CREATE FUNCTION trap_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM t1.trap(); RETURN NEW; END $$;
    CREATE FUNCTION trap_index(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM t1.trap(); RETURN t; END $$;";

#[test]
fn code_on_a_tenants_tables_never_runs_and_stops_nobody_else() {
    let site = Site::start("tenant_q.sweep_interval = 1s\n", &["t1", "t2"]);
    site.run("t1", TRAPS);
    let cases = [
        (
            "trigger",
            "CREATE TRIGGER z BEFORE INSERT OR UPDATE OR DELETE ON tq_task FOR EACH ROW EXECUTE FUNCTION trap_row()",
            "DROP TRIGGER z ON tq_task",
        ),
        (
            "trigger on results",
            "CREATE TRIGGER z AFTER INSERT ON tq_result FOR EACH ROW EXECUTE FUNCTION trap_row()",
            "DROP TRIGGER z ON tq_result",
        ),
        ("rule", "CREATE RULE z AS ON INSERT TO tq_task DO ALSO SELECT trap()", "DROP RULE z ON tq_task"),
        (
            "policy",
            "ALTER TABLE tq_task ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY z ON tq_task USING (trap())",
            "DROP POLICY z ON tq_task; ALTER TABLE tq_task DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY",
        ),
        ("index", "CREATE INDEX z ON tq_task (trap_index(handler))", "DROP INDEX z"),
    ];
    for (n, (what, make, unmake)) in cases.iter().enumerate() {
        // Queued before; the executor and the sweep meet what was made meanwhile.
        let id = site.enqueue("t1", "ok", &format!(r#"["{what}"]"#), ", delay => '0.3 seconds'");
        site.run("t1", make);
        site.cluster.run(DB, "DELETE FROM fx WHERE k = 'trap'");
        // Whoever enqueues, a superuser too, is refused or served; the trap doesn't run for him.
        let _ = site.cluster.try_run_as("postgres", DB, "SELECT tq_async('ok', '[\"by superuser\"]', tenant => 't1')");
        let _ = site.cluster.try_rows_as("postgres", DB, "SET search_path = t1, public; SELECT * FROM tq_tasks");
        let _ = site.cluster.try_rows_as(
            "postgres",
            DB,
            "SET search_path = t1, public; SELECT * FROM tq_results WHERE state = 'failed' AND name = 'n'",
        );
        let _ = site.cluster.try_rows_as("postgres", DB, "SELECT * FROM tq_tenants");
        site.cluster.wait_until(DB, "SELECT EXISTS (SELECT FROM tq_problems WHERE what LIKE '%t1%')");
        let began = Instant::now();
        let other = site.enqueue("t2", "ok", &format!("[\"other {n}\"]"), "");
        site.wait_ended("t2", &other, 'd');
        assert!(began.elapsed() < Duration::from_secs(2), "{what}: the neighbour waited {:?}", began.elapsed());
        assert_eq!(
            site.number("SELECT count(*) FROM fx WHERE k = 'trap' AND (su = 'on' OR who <> 't1' OR sess <> 't1')"),
            0,
            "{what}: the trap worked"
        );
        assert_eq!(site.number(&format!("SELECT count(*) FROM t1.tq_task WHERE id = '{id}'")), 1, "{what}: it waits");
        site.run("t1", unmake);
        site.wait_idle_within(Duration::from_secs(30), &["t1"]);
        site.wait_ended("t1", &id, 'd');
        site.cluster.wait_until(DB, "SELECT NOT EXISTS (SELECT FROM tq_problems WHERE what LIKE '%t1%')");
    }
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_result WHERE state <> 'd'"), 0);
    // What only SQL evaluates is evaluated by nobody.
    site.run("t1", "ALTER TABLE tq_task ADD CONSTRAINT z CHECK (trap_index(handler) = handler)");
    site.cluster.run(DB, "DELETE FROM fx; SELECT tq_async('ok', '[\"checked\"]', tenant => 't1')");
    site.wait_idle(&["t1"]);
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE k = 'trap' AND who <> 't1'"), 0);
    site.cluster.assert_log_clean();
}

#[test]
fn a_held_lock_holds_its_tenant_only() {
    let site = Site::start("tenant_q.max_executors = 1\n", &["t1", "t2"]);
    site.run("t1", "SELECT tq_async('ok', jsonb_build_array('before ' || n), delay => '0.3 seconds') FROM generate_series(1, 20) AS n");
    let mut hostage = site.client("t1");
    hostage.batch_execute("BEGIN; LOCK TABLE tq_task IN ACCESS EXCLUSIVE MODE").expect("lock");
    for n in 0..5 {
        let began = Instant::now();
        let other = site.enqueue("t2", "slow", &format!(r#"["other {n}", 0.2]"#), "");
        site.wait_ended("t2", &other, 'd');
        assert!(began.elapsed() < Duration::from_secs(2), "the neighbour waited {:?}", began.elapsed());
    }
    hostage.batch_execute("COMMIT").expect("commit");
    site.wait_idle_within(Duration::from_secs(10), &["t1"]);
    // The lock comes while a task of its own runs: the completion waits a while, then lets the place go.
    let id = site.enqueue("t1", "gate", r#"["running"]"#, "");
    site.wait_running(&id);
    hostage.batch_execute("BEGIN; LOCK TABLE tq_task IN ACCESS EXCLUSIVE MODE").expect("lock");
    site.open_gate();
    let began = Instant::now();
    let other = site.enqueue("t2", "ok", r#"["another"]"#, "");
    site.wait_ended("t2", &other, 'd');
    assert!(began.elapsed() < Duration::from_secs(10), "the neighbour waited {:?}", began.elapsed());
    hostage.batch_execute("COMMIT").expect("commit");
    site.wait_ended("t1", &id, 'd');
    assert_eq!(site.counts("t1", &id), (1, 0), "waiting for a lock is no attempt");
    // The row itself is locked.
    site.cluster.run(DB, "DELETE FROM gate");
    let id = site.enqueue("t1", "gate", r#"["row"]"#, "");
    site.wait_running(&id);
    hostage.batch_execute("BEGIN; SELECT FROM tq_task FOR UPDATE").expect("lock");
    site.open_gate();
    let began = Instant::now();
    let other = site.enqueue("t2", "ok", r#"["the last"]"#, "");
    site.wait_ended("t2", &other, 'd');
    assert!(began.elapsed() < Duration::from_secs(10), "the neighbour waited {:?}", began.elapsed());
    hostage.batch_execute("COMMIT").expect("commit");
    site.wait_ended("t1", &id, 'd');
    assert_eq!(site.counts("t1", &id), (1, 0));
    site.assert_once(20 + 5 + 4);
    site.cluster.assert_log_clean();
}

#[test]
fn roles_that_cannot_work_are_shown_and_stop_nobody() {
    let site = Site::start("tenant_q.max_executors = 1\n", &["t1", "t2", "t3"]);
    site.cluster.run(DB, "REVOKE CONNECT ON DATABASE postgres FROM PUBLIC; GRANT CONNECT ON DATABASE postgres TO t2, t3");
    site.cluster.run(DB, "ALTER ROLE t3 RENAME TO t3x");
    site.cluster.run(DB, "SELECT tq_async('ok', '[\"refused\"]', tenant => 't1'); SELECT tq_async('ok', '[\"renamed\"]', tenant => 't3')");
    site.cluster.wait_until(DB, "SELECT EXISTS (SELECT FROM tq_problems WHERE what LIKE '%t1%')");
    site.assert_alive("t2");
    site.wait_idle(&["t3"]);
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE k = 'renamed' AND who = 't3x'"), 1);
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_task WHERE attempts = 0"), 1, "it waits");
    let starts = site.cluster.log().matches("permission denied for database").count();
    assert!(starts < 10, "{starts} starts in vain");
    site.cluster.run(DB, "GRANT CONNECT ON DATABASE postgres TO t1");
    site.wait_idle(&["t1"]);
    // Dropped with all that it owns.
    site.cluster.run(DB, "SELECT tq_async('ok', '[\"never\"]', tenant => 't1', delay => '1 second')");
    site.cluster.run(DB, "DROP OWNED BY t1 CASCADE; DROP ROLE t1");
    site.assert_alive("t2");
    site.cluster.wait_until(DB, "SELECT NOT EXISTS (SELECT FROM tenant_q.tenant WHERE name = 't1')");
    site.cluster.assert_log_clean();
}

#[test]
fn a_task_that_ends_its_executors_ends_too_and_costs_its_neighbours_nothing() {
    let site = Site::start("tenant_q.max_executors = 1\n", &["t1", "t2"]);
    site.run(
        "t1",
        "CREATE FUNCTION leave(k text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); END $$;
         SELECT tq_register('leave', max_attempts => 1)",
    );
    let leaver = site.enqueue("t1", "leave", r#"["leaver"]"#, "");
    let began = Instant::now();
    while site.number(&format!("SELECT count(*) FROM t1.tq_result WHERE id = '{leaver}'")) == 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "it never ends");
        let at = Instant::now();
        site.assert_alive("t2");
        assert!(at.elapsed() < Duration::from_secs(2), "the neighbour waited {:?}", at.elapsed());
        std::thread::sleep(Duration::from_millis(200));
    }
    site.wait_ended("t1", &leaver, 'f');
    assert_eq!(site.value("t1", &format!("SELECT outcome || ' ' || sqlstate FROM tq_attempts('{leaver}')")), "interrupted 57P01");
    let ends = site.cluster.log().matches("terminating background worker \"tenant_q executor\" due to administrator command").count();
    assert_eq!(ends, 10, "executors that it has ended");
    // One end is no attempt, and costs next to no time.
    let gate = site.enqueue("t1", "gate", r#"["gate"]"#, "");
    let pid = site.wait_running(&gate);
    site.cluster.run(DB, &format!("SELECT pg_terminate_backend({pid})"));
    let began = Instant::now();
    cluster::wait_for("another executor", Duration::from_secs(5), || site.running(&gate).is_some_and(|p| p != pid));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    site.open_gate();
    site.wait_ended("t1", &gate, 'd');
    assert_eq!(site.counts("t1", &gate), (1, 0));
    site.cluster.assert_log_clean();
}

#[test]
fn settings_that_can_t_be_set_hold_their_tenant_and_no_executor() {
    let site = Site::start("tenant_q.max_executors = 1\n", &["t1", "t2"]);
    // Whatever its spelling.
    for name in ["ROLE", "Session_Authorization", "SEARCH_PATH", "TimeZone", "TENANT_Q.enabled"] {
        let refused = site.cluster.try_run_as("t1", DB, &format!(r#"SELECT tq_set_tenant(settings => '{{"{name}": "t1"}}')"#));
        assert_eq!(refused.expect_err(name).code, "22023");
    }
    // One that could be set when it was said.
    site.cluster.run(DB, r#"UPDATE tenant_q.tenant SET settings = '{"work_mem": "much"}' WHERE name = 't1'"#);
    site.run("t1", "SELECT tq_set_tenant(save_limit => 100)");
    let id = site.enqueue("t1", "ok", r#"["later"]"#, "");
    // The only executor has its turns meanwhile.
    for _ in 0..50 {
        site.assert_alive("t2");
    }
    assert_eq!(site.counts("t1", &id), (0, 0), "it waits");
    let starts = site.number("SELECT count(DISTINCT pid) FROM fx");
    assert!(starts <= 1, "{starts}");
    assert!(site.cluster.log().matches("its settings could not be set").count() <= 2);
    site.run("t1", "SELECT tq_set_tenant(reset => '{settings}')");
    site.wait_ended("t1", &id, 'd');
}

#[test]
fn a_cancel_finds_its_own_tenants_task_only() {
    let site = Site::start("", &["t1", "t2"]);
    let id = site.enqueue("t1", "gate", r#"["victim"]"#, "");
    let pid = site.wait_running(&id);
    // An owner writes into its table what it likes.
    site.enqueue("t2", "ok", r#"["mine"]"#, &format!(", id => '{id}', delay => '1 hour'"));
    site.cluster.run(DB, "UPDATE t2.tq_task SET created_at = (SELECT created_at FROM t1.tq_task)");
    assert_eq!(site.value("t2", &format!("SELECT tq_cancel('{id}', running => false)")), "t", "it doesn't run");
    site.enqueue("t2", "ok", r#"["mine"]"#, &format!(", id => '{}', delay => '1 hour'", id.replace('0', "f")));
    site.cluster.run(DB, &format!("UPDATE t2.tq_task SET id = '{id}', created_at = (SELECT created_at FROM t1.tq_task)"));
    site.run("t2", &format!("DELETE FROM tq_result; SELECT tq_cancel('{id}')"));
    // One that was asked for later has had its effect: so would those.
    let own = site.enqueue("t2", "gate", r#"["own"]"#, "");
    site.wait_running(&own);
    site.run("t2", &format!("SELECT tq_cancel('{own}')"));
    site.wait_ended("t2", &own, 'c');
    assert_eq!(site.running(&id), Some(pid), "another tenant's cancel stopped it");
    site.open_gate();
    site.wait_ended("t1", &id, 'd');
    assert_eq!(site.counts("t1", &id), (1, 0));
    site.cluster.assert_log_clean();
}

/// Nobody but a superuser can declare functions of the library, but they may mistype one.
#[test]
fn functions_declared_otherwise_than_by_the_extension_fail_and_read_nothing() {
    let site = Site::start("", &["t1"]);
    for (function, parameters, arguments) in [
        ("tq_describe", "rule integer", "7"),
        ("tq_result", "id text, wait interval, propagate boolean, tenant text", "'x', '0', true, NULL"),
        ("tq_find", "", ""),
    ] {
        site.cluster.run(DB, &format!("CREATE FUNCTION wrong({parameters}) RETURNS text LANGUAGE c AS 'tenant_q', '{function}'"));
        let error = site.cluster.try_run_as("postgres", DB, &format!("SELECT wrong({arguments})")).unwrap_err();
        assert!(format!("{error:?}").contains("argument 1 is "), "{function}: {error:?}");
    }
}

/// Rows that wait for themselves, for each other, for nothing and for members by the million: they are settled or wait on,
/// nobody spins, and the neighbour goes on.
#[test]
fn rows_that_wait_for_whatever_their_owner_made_up_stop_nobody() {
    let site = Site::start("tenant_q.sweep_interval = 1s\n", &["t1", "t2"]);
    site.run(
        "t1",
        "CREATE FUNCTION made_up(n int) RETURNS uuid LANGUAGE sql AS $$ SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
         -- For itself, for the next one in a circle, for nothing.
         INSERT INTO tq_task (id, handler, state, args, waits, waits_for, options)
             SELECT made_up(n), 'ok', 'w', '[\"made up\"]', 1, CASE n % 3 WHEN 0 THEN made_up(n) WHEN 1 THEN made_up(n + 1) ELSE made_up(n + 1000000) END,
                    jsonb_build_object('depends', jsonb_build_array(made_up(n), made_up(n + 1), made_up(n + 1000000), 'nobody', 7), 'any', n % 2 = 0)
             FROM generate_series(1, 300) n;
         -- Links of nobody, to nobody, of one to all.
         INSERT INTO tq_task (id, handler, state, name, waits_for, options)
             SELECT made_up(2000 + n), 'ok', 'l', CASE n % 3 WHEN 0 THEN 'nobody' WHEN 1 THEN made_up(n)::text ELSE made_up(1)::text END, made_up(n),
                    CASE n % 2 WHEN 0 THEN '{\"ended\": \"whatever\"}' ELSE '[]' END::jsonb
             FROM generate_series(1, 300) n;
         -- Flows of members that never were.
         INSERT INTO tq_task (id, handler, state, waits, options)
             SELECT made_up(4000 + n), 'tq_group', 'w', 2000000000, '{\"flow\": {\"members\": 100000}}' FROM generate_series(1, 3) n;
         INSERT INTO tq_task (id, handler, state, waits, options, parent_id)
             SELECT made_up(5000 + n), 'tq_chain', 'w', -5, '{\"flow\": {\"members\": 3}}', made_up(5000 + n % 50 + 1) FROM generate_series(1, 50) n",
    );
    // Those that lack members, and those that wait for what isn't there, or for one of these.
    site.cluster.wait_until_within(
        Duration::from_secs(60),
        DB,
        "SELECT NOT EXISTS (SELECT FROM t1.tq_task WHERE handler = 'tq_group') AND (SELECT count(*) = 0 FROM t1.tq_task WHERE state = 'w' AND waits_for = t1.made_up(1000000 + 2))",
    );
    for n in 0..5 {
        let began = Instant::now();
        let other = site.enqueue("t2", "ok", &format!("[\"other {n}\"]"), "");
        site.wait_ended("t2", &other, 'd');
        assert!(began.elapsed() < Duration::from_secs(5), "the neighbour waited {:?}", began.elapsed());
    }
    site.run("t1", "SELECT tq_requeue(id) FROM tq_results WHERE handler = 'ok'; SELECT tq_purge('0')");
    site.assert_alive("t1");
    site.cluster.assert_log_clean();
}
