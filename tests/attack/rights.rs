//! Rights that were taken away, state that one tenant makes for others, quotas that were passed by, rows that were forged.

use crate::site::{DB, Site};
use cluster::Stop;

/// One executor, which takes long lists however slow the machine is.
const LISTS: &str = "tenant_q.max_executors = 1\ntenant_q.batch_time = 1s\n";

/// Puts `n` short tasks behind a long one into the list of the only executor, which grows with the tasks that it has run.
fn list_behind_a_gate(site: &Site, tenant: &str, gate: &str, handler: &str, n: usize) {
    site.run(tenant, &format!("SELECT tq_async('{handler}', jsonb_build_array('before ' || n)) FROM generate_series(1, 200) AS n"));
    site.wait_idle(&[tenant]);
    site.run(
        tenant,
        &format!(
            "BEGIN; SELECT tq_async('{gate}', '[\"gate\"]', priority => 1); \
             SELECT tq_async('{handler}', jsonb_build_array('listed ' || n)) FROM generate_series(1, {n}) AS n; COMMIT"
        ),
    );
    site.cluster.wait_until(DB, &format!("SELECT EXISTS (SELECT FROM tq_running WHERE handler = '{gate}' AND listed = {n})"));
}

#[test]
fn a_right_taken_away_is_gone_for_the_tasks_already_picked() {
    let site = Site::start(LISTS, &["t1", "t2"]);
    site.cluster.run(DB, "CREATE ROLE mighty LOGIN; GRANT mighty TO t1; GRANT USAGE ON SCHEMA t1 TO mighty");
    site.run("t1", "SELECT tq_register('ok', run_as => 'mighty'), tq_register('gate', run_as => 'mighty')");
    list_behind_a_gate(&site, "t1", "gate", "ok", 6);
    site.cluster.run(DB, "REVOKE mighty FROM t1");
    site.open_gate();
    // They are held as the owner's, with the reason and the way out.
    site.cluster.wait_until(DB, "SELECT count(*) = 6 FROM t1.tq_task WHERE state = 'h' AND attempts = 0");
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE k LIKE 'listed%'"), 0, "they ran as a role that t1 may not be");
    let why = "SELECT w.reason || ': ' || w.detail || ' / ' || w.hint FROM tq_tasks AS t, tq_why(t.id) AS w LIMIT 1";
    assert_eq!(site.value("t1", why), "handler: the schema's owner may not SET ROLE to \"mighty\" / GRANT mighty TO t1");
    let fix = site.cluster.value(DB, "SELECT fix FROM tq_problems WHERE what = 'handler ok of tenant t1'");
    site.assert_alive("t2");
    site.cluster.run(DB, &fix);
    // Within a minute by themselves; at once when somebody says so.
    site.run("t1", "SELECT tq_resume()");
    site.wait_idle(&["t1"]);
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE k LIKE 'listed%' AND who = 'mighty'"), 6);
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_result WHERE state <> 'd' OR attempts <> 1"), 0);
    assert_eq!(site.number("SELECT count(*) FROM tq_problems"), 0);
    site.cluster.assert_log_clean();
}

#[test]
fn what_is_said_of_a_tenant_holds_for_its_tasks_already_picked() {
    let site = Site::start(LISTS, &["t1"]);
    list_behind_a_gate(&site, "t1", "gate", "ok", 6);
    site.run("t1", "SELECT tq_pause(handler => 'ok')");
    site.open_gate();
    site.cluster.wait_until(DB, "SELECT count(*) = 6 FROM t1.tq_task WHERE state = 'h'");
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE k LIKE 'listed%'"), 0);
    site.run("t1", "SELECT tq_resume(handler => 'ok')");
    site.wait_idle(&["t1"]);
    // The schema comes to belong to somebody else: what is listed runs as its new owner.
    site.cluster.run(DB, "DELETE FROM gate; DELETE FROM fx");
    list_behind_a_gate(&site, "t1", "gate", "ok", 6);
    site.cluster.run(
        DB,
        "CREATE ROLE heir LOGIN; ALTER SCHEMA t1 OWNER TO heir;
         ALTER TABLE t1.tq_task OWNER TO heir; ALTER TABLE t1.tq_result OWNER TO heir; ALTER TABLE t1.tq_schedule OWNER TO heir",
    );
    site.open_gate();
    site.wait_idle(&["t1"]);
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE k LIKE 'listed%' AND who = 'heir'"), 6);
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE k LIKE 'listed%'"), 6);
    site.cluster.assert_log_clean();
}

#[test]
fn what_a_tenant_does_to_a_shared_handler_is_its_own_affair() {
    let site = Site::start("tenant_q.handler_grace = 3s\n", &["t1", "t2", "t3", "t4"]);
    site.cluster.run(
        DB,
        "CREATE FUNCTION public.late(k text) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.fx (tenant, k) VALUES (current_schema(), k) $$;
         SELECT tq_register('late', shared => true);
         CREATE FUNCTION public.crash(k text) RETURNS void LANGUAGE plpgsql AS $$
            BEGIN PERFORM public.boom(k); END $$;
         SELECT tq_register('crash', 'public.crash(text)', shared => true)",
    );
    // One tenant's path has no such function any more: its grace ends, and nobody else's has begun.
    site.run("t1", "SELECT tq_set_tenant(shared_schemas => '{}')");
    let lost = site.enqueue("t1", "late", r#"["lost"]"#, "");
    site.wait_ended("t1", &lost, 'f');
    assert_eq!(site.value("t2", "SELECT concat_ws(' ', status, reason) FROM tq_handlers WHERE handler = 'late'"), "ok");
    site.cluster.run(DB, "ALTER FUNCTION public.late(text) RENAME TO gone");
    let held = site.enqueue("t2", "late", r#"["held"]"#, "");
    site.cluster.wait_until(DB, &format!("SELECT state = 'h' FROM t2.tq_task WHERE id = '{held}'"));
    let since = "SELECT since > now() - interval '3 seconds' FROM tq_problems WHERE what = 'handler late of tenant t2'";
    assert_eq!(site.cluster.value(DB, since), "t", "its grace begins when it is missed there");
    site.cluster.run(DB, "ALTER FUNCTION public.gone(text) RENAME TO late");
    site.wait_ended("t2", &held, 'd');
    assert_eq!(site.number("SELECT count(*) FROM tq_problems WHERE what LIKE '%late of tenant t2'"), 0);

    // One tenant crashes the server with it.
    site.run("t1", "SELECT tq_set_tenant(reset => '{shared_schemas}')");
    site.allow_boom("t1");
    crash_until_stopped(&site, "t1");
    assert_eq!(site.value("t2", "SELECT status FROM tq_handlers WHERE handler = 'crash'"), "ok");
    let fix = site.value("t1", "SELECT fix FROM tq_problems WHERE what = 'handler crash of tenant t1'");
    site.run("t1", &fix);
    assert_eq!(site.value("t1", "SELECT status FROM tq_handlers WHERE handler = 'crash'"), "ok");
    // With several it is the function: two more have had their crashes, and this one all but one.
    site.cluster.run(
        DB,
        "INSERT INTO tenant_q.handler_state (tenant, name, quarantined) SELECT t, 'crash', now() FROM unnest('{t2,t3}'::text[]) AS t;
         UPDATE tenant_q.handler_state SET crashes = jsonb_build_array(jsonb_build_array(us, 'one'), jsonb_build_array(us, 'two'))
           FROM (SELECT (extract(epoch FROM now() - '2000-01-01 UTC') * 1000000)::bigint AS us) AS x WHERE tenant = 't1' AND name = 'crash'",
    );
    assert_eq!(site.value("t4", "SELECT status FROM tq_handlers WHERE handler = 'crash'"), "ok");
    crash_until_stopped(&site, "t1");
    assert_eq!(site.value("t4", "SELECT status FROM tq_handlers WHERE handler = 'crash'"), "quarantined");
    let fix = site.value("t4", "SELECT fix FROM tq_problems WHERE what = 'handler crash of tenant t4'");
    assert_eq!(fix, "SELECT tq_resume_all(handler => 'crash')");
    site.cluster.run(DB, &fix);
    assert_eq!(site.number("SELECT count(*) FROM tq_problems WHERE what LIKE 'handler crash%'"), 0);
}

/// Has the tenant's tasks crash the server until the handler is stopped there.
fn crash_until_stopped(site: &Site, tenant: &str) {
    // Not at once: the server goes down with the first of them, and the answer to this call with it.
    site.run(
        tenant,
        "SELECT tq_async('crash', to_jsonb(ARRAY[n::text]), max_attempts => 1, delay => '0.5 seconds') FROM generate_series(1, 3) AS n",
    );
    site.cluster.wait_until(
        DB,
        &format!(
            "SELECT EXISTS (SELECT FROM tenant_q.handler_state WHERE tenant = '{tenant}' AND name = 'crash' AND quarantined IS NOT NULL)"
        ),
    );
    cluster::wait_for("the rest to be cancelled", cluster::PATIENCE, || {
        site.cluster.try_run_as(tenant, DB, "SELECT tq_cancel(id) FROM tq_tasks").is_ok()
    });
}

#[test]
fn what_others_may_not_read_they_are_not_shown() {
    let site = Site::start("", &["t1"]);
    site.cluster.run(DB, "CREATE ROLE guest LOGIN; CREATE ROLE reader LOGIN; GRANT USAGE ON SCHEMA t1 TO guest");
    site.run(
        "t1",
        "CREATE TABLE orders (total numeric); CREATE FUNCTION changed(o jsonb) RETURNS void LANGUAGE sql AS 'SELECT'; SELECT tq_register('changed');
         SELECT tq_register('keys', 'changed', settings => '{\"app.secret\": \"hush\"}');
         SELECT tq_listen_table('orders', 'changed', only_if => 'NEW.total > 4711', events => '{insert}', task => '{\"meta\": {\"token\": \"hush\"}}');
         SELECT tq_schedule('nightly', 'changed', '0 2 * * *', args => '{\"o\": \"hush\"}');
         SELECT tq_on('done', 'changed', for_handler => 'ok');
         SELECT tq_grant('reader', '{read}')",
    );
    let seen = "SELECT string_agg(v::text, ' ') FROM (SELECT to_jsonb(e) AS v FROM tq_events AS e UNION ALL SELECT tenant_q.events('t1')
                 UNION ALL SELECT to_jsonb(h) FROM tq_handlers AS h UNION ALL SELECT to_jsonb(t) FROM tq_tenants AS t
                 UNION ALL SELECT to_jsonb(p) FROM tq_problems AS p UNION ALL SELECT to_jsonb(f) FROM tq_fanouts AS f) AS x";
    for (who, may) in [("guest", false), ("reader", true), ("t1", true)] {
        let all = site.cluster.value_as(who, DB, &format!("SET search_path = t1, public; {seen}"));
        assert!(all.contains("orders") && all.contains("changed"), "{who}: {all}");
        assert_eq!(all.contains("hush") && all.contains("4711"), may, "{who}: {all}");
        for view in ["tq_tasks", "tq_results", "tq_schedules", "tq_queues"] {
            let read = site.cluster.try_rows_as(who, DB, &format!("SET search_path = t1, public; SELECT * FROM {view}"));
            assert_eq!(read.is_ok(), may, "{who} {view}");
        }
    }
}

#[test]
fn settings_that_no_task_may_have_are_refused_and_hold_where_they_were_accepted() {
    let site = Site::start("tenant_q.max_executors = 1\n", &["t1", "t2"]);
    for name in [
        "client_encoding",
        "Client_Encoding",
        "transaction_isolation",
        "transaction_read_only",
        "transaction_deferrable",
        "default_transaction_isolation",
        "default_transaction_read_only",
        "DEFAULT_TRANSACTION_DEFERRABLE",
        "role",
        "session_authorization",
    ] {
        for call in ["tq_set_tenant(settings => ", "tq_register('ok', settings => "] {
            let refused = site.cluster.try_run_as("t1", DB, &format!(r#"SELECT {call} '{{"{name}": "on"}}')"#)).expect_err(name);
            assert_eq!((refused.code.as_str(), refused.message.contains(name)), ("22023", true), "{refused}");
        }
    }
    // As an older version took them.
    site.cluster.run(
        DB,
        r#"UPDATE tenant_q.handler SET settings = '{"client_encoding": "latin1"}' WHERE tenant = 't1' AND name = 'slow';
           UPDATE tenant_q.tenant SET settings = '{"default_transaction_read_only": "on"}' WHERE name = 't2'"#,
    );
    site.run("t1", "SELECT tq_set_tenant(save_limit => 100)");
    let one = site.enqueue("t1", "slow", r#"["one", 0]"#, "");
    let two = site.enqueue("t2", "ok", r#"["two"]"#, "");
    site.cluster.wait_until(DB, &format!("SELECT EXISTS (SELECT FROM t1.tq_task WHERE id = '{one}' AND state = 'h')"));
    site.cluster
        .wait_until(DB, "SELECT EXISTS (SELECT FROM tq_problems WHERE what = 'tenant t2' AND reason LIKE 'its settings can''t be set%')");
    site.assert_alive("t1");
    for (tenant, id, what, reason) in [
        ("t1", &one, "handler slow of tenant t1", "setting \"client_encoding\" cannot be set for tasks"),
        ("t2", &two, "tenant t2", "its tasks wait: setting \"default_transaction_read_only\" cannot be set for tasks"),
    ] {
        assert_eq!(site.counts(tenant, id), (0, 0), "it waits");
        let problem =
            site.cluster.rows(DB, &format!("SELECT reason, fix FROM tq_problems WHERE what = '{what}' ORDER BY reason DESC LIMIT 1"));
        assert_eq!(problem[0].get(0), reason);
        site.run(tenant, problem[0].get(1));
        site.wait_ended(tenant, id, 'd');
    }
    assert_eq!(site.number("SELECT count(*) FROM tq_problems"), 0);
}

#[test]
fn views_wait_for_no_tenants_lock() {
    let site = Site::start("", &["t1", "t2"]);
    let id = site.enqueue("t1", "ok", r#"["later"]"#, ", delay => '1 hour'");
    for table in ["tq_task", "tq_result", "tq_schedule"] {
        // Its shape is to be looked at anew.
        site.run("t1", &format!("ALTER TABLE {table} SET (fillfactor = 80)"));
        let mut hostage = site.client("t1");
        hostage.batch_execute(&format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")).expect("lock");
        let pid = cluster::postgres::Client::query_one(&mut hostage, "SELECT pg_backend_pid()", &[]).expect("pid").get::<_, i32>(0);
        let mut looker = site.cluster.client("postgres", DB);
        looker.batch_execute("SET statement_timeout = '20s'; SET search_path = t1, public").expect("set");
        let problem: String = looker
            .query_one("SELECT reason || ' / ' || fix FROM tq_problems WHERE what = 'tenant t1'", &[])
            .unwrap_or_else(|e| panic!("{table}: {e}"))
            .get(0);
        assert_eq!(
            problem,
            format!(
                "its tables are locked: process {pid} holds a lock on them / SELECT pg_terminate_backend({pid}) -- or wait until its transaction ends"
            )
        );
        for view in ["tq_tenants", "tq_health()", "tq_running", "tq_handlers", "tq_events", "tq_stats", "tq_failures", "tq_metrics"] {
            looker.query(&format!("SELECT * FROM {view}"), &[]).unwrap_or_else(|e| panic!("{table} {view}: {e}"));
        }
        let why: String = looker.query_one(&format!("SELECT reason FROM tq_why('{id}')"), &[]).expect("tq_why").get(0);
        assert_eq!(why, "locked", "{table}");
        let refused = looker.query("SELECT * FROM tq_tasks", &[]).expect_err("it is locked");
        assert_eq!(refused.code().map(|c| c.code().to_string()), Some("55P03".into()), "{table}");
        site.assert_alive("t2");
        site.cluster.mend(DB, "what = 'tenant t1'");
        site.cluster.wait_until(DB, "SELECT NOT EXISTS (SELECT FROM tq_problems)");
    }
}

#[test]
fn bytes_that_are_no_text_stop_nobody() {
    const ODD: &str = "odd";
    let site = Site::start("tenant_q.sweep_interval = 1s\n", &[]);
    let cluster = &site.cluster;
    cluster.run(DB, "CREATE DATABASE odd TEMPLATE template0 ENCODING UTF8 LOCALE 'C'");
    cluster.run(
        ODD,
        "CREATE EXTENSION tenant_q; CREATE TABLE fx (tenant text, k text); GRANT INSERT ON fx TO PUBLIC;
         CREATE FUNCTION public.ok(k text) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.fx VALUES (current_schema(), k) $$",
    );
    // As one from before such encodings were refused.
    cluster.run(DB, "UPDATE pg_database SET encoding = pg_char_to_encoding('SQL_ASCII') WHERE datname = 'odd'");
    cluster.restart(Stop::Fast);
    for t in ["t1", "t2"] {
        cluster
            .run(ODD, &format!("CREATE ROLE {t} LOGIN; CREATE SCHEMA {t} AUTHORIZATION {t}; ALTER ROLE {t} SET search_path = {t}, public"));
        cluster.run_as(t, ODD, "SELECT tq_attach(), tq_register('ok')");
    }
    cluster.run_as(
        "t1",
        ODD,
        r#"INSERT INTO tq_task (handler, state, name, queue, group_id) VALUES (E'o\xff', 'x', E'\xfe', E'\xfd', E'\xfc');
           INSERT INTO tq_task (handler, args, name, queue, group_id, enqueued_by) VALUES ('ok', E'["ok\xc3"]', E'\xfe', E'\xfd', E'\xfc', E'\xfb');
           INSERT INTO tq_task (handler) VALUES (E'no\xff');
           INSERT INTO tq_schedule (name, id, handler, rule, enabled, anchor, repeats, by_superuser, created_at, run_count, tags, problem)
               VALUES (E's\xff', gen_random_uuid(), E'ok\xff', E'0 0 \xff * *', true, now(), -1, false, now(), 0, ARRAY[E'\xff'], E'\xff')"#,
    );
    let id = cluster.value_as("t2", ODD, "SELECT tq_async('ok', '[\"two\"]')");
    cluster.wait_until(ODD, &format!("SELECT EXISTS (SELECT FROM t2.tq_result WHERE id = '{id}' AND state = 'd')"));
    cluster.wait_until(ODD, "SELECT EXISTS (SELECT FROM t1.tq_result WHERE state = 'd')");
    cluster.run(
        "odd",
        "SET search_path = t1, public; SELECT * FROM tq_tasks; SELECT * FROM tq_results; SELECT * FROM tq_schedules;
         SELECT * FROM tq_queues; SELECT * FROM tq_tenants",
    );
    assert_eq!(cluster.number(ODD, "SELECT count(*) FROM tq_problems WHERE what LIKE 'task % of tenant t1'"), 1);
    assert!(cluster.number(ODD, "SELECT count(*) FROM tq_problems WHERE what LIKE 'schedule %'") == 1);
    cluster.run(
        "odd",
        "SET search_path = t1, public; SELECT w.* FROM tq_tasks AS t, tq_why(t.id) AS w; SELECT * FROM tq_stats; SELECT * FROM tq_metrics",
    );
    cluster.assert_log_clean();
}

/// For each column of a table of the tenant, rows with everything in it that its type allows.
const FORGE: &str = r#"
    CREATE FUNCTION odd_values(type regtype) RETURNS text[] LANGUAGE sql AS $$
        SELECT CASE type::text
            WHEN 'text' THEN ARRAY['', repeat('x', 100000), E'\n\x01', 'nobody knows', 'tq_chain', '{}', 'null']
            WHEN '"char"' THEN ARRAY['q', 't', 'w', 'h', 'x', 'k', 'u', 'l', 'd', 'f', 'c', 'e', 'z', '', E'\\377']
            WHEN 'smallint' THEN ARRAY['-32768', '32767']
            WHEN 'integer' THEN ARRAY['-1', '0', '2147483647', '-2147483648']
            WHEN 'bigint' THEN ARRAY['-1', '9223372036854775807', '-9223372036854775808']
            WHEN 'boolean' THEN ARRAY['t', 'f']
            WHEN 'timestamp with time zone' THEN ARRAY['infinity', '-infinity', '294276-12-31 23:59:59+00', '4713-01-01 00:00:00+00 BC']
            WHEN 'interval' THEN ARRAY['-178000000 years', '178000000 years', '-1 second', '0']
            WHEN 'uuid' THEN ARRAY['00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff', 'SELF']
            WHEN 'text[]' THEN ARRAY['{}', '{NULL}', '{{a,b},{c,d}}', '[5:6]={a,b}']
            WHEN 'jsonb' THEN ARRAY['null', '[]', '{}', '"x"', '1e400', 'true', repeat('[', 200) || repeat(']', 200), repeat('{"a":', 200) || '1' || repeat('}', 200),
                '[1, "x", null, {"attempt": "x"}, {"attempt": 1e300, "started_at": 1e300, "duration": -1e300, "pid": "x", "sqlstate": 5, "message": {}, "life": []}]',
                '[{"attempt": 1, "started_at": 9223372036854775807, "duration": 9223372036854775807, "pid": 99999999999}]',
                '[{"attempt": 1, "started_at": 9223372036854775806, "duration": -9223372036854775808}, {"started_at": -9223372036854775807}, {}]',
                '[{"attempt": 1.5, "started_at": 1.5, "duration": "x", "pid": 1.5, "outcome": [1]}]',
                '{"sqlstate": [], "message": 1, "detail": {}, "hint": null, "context": true}',
                '{"max_attempts": 1e300, "timeout": -5, "retry": {"kind": "list", "delays": [], "base": -1}, "save": 1, "only_if": 1, "pass": "x", "each": 1, "any": 5, "all": [],
                  "members": -1, "steps": "x", "flow": 3, "on_success": 1, "on_failure": [], "hook": {}, "alone": 0, "unique_until": 4, "depends": [1], "fanout": "x", "result_ttl": "x",
                  "mode": 7, "allow_failure": "x", "tenants": 1, "active_hours": 1, "after": 7, "after_outcome": 3, "of_all": "x", "n": -1, "chunk": -1, "group": 1}',
                '{"max_attempts": -2147483649, "timeout": 9223372036854775807, "save": null, "only_if": "1/0 = 1", "pass": "00000000-0000-0000-0000-000000000000", "each": true,
                  "any": ["x"], "members": 9223372036854775807, "flow": "group", "hook": "ok", "unique_until": "started", "fanout": "00000000-0000-0000-0000-000000000000"}']
            ELSE '{}' END $$;
    CREATE FUNCTION forge(target regclass, base text) RETURNS SETOF uuid LANGUAGE plpgsql AS $$
        DECLARE c record; v text; made uuid;
        BEGIN
            FOR c IN SELECT attname, format_type(atttypid, atttypmod) AS type, attnotnull FROM pg_attribute WHERE attrelid = target AND attnum > 0 LOOP
                FOREACH v IN ARRAY odd_values(c.type::regtype) || CASE WHEN NOT c.attnotnull THEN ARRAY[NULL::text] END LOOP
                    made := gen_random_uuid();
                    EXECUTE replace(base, 'SELF', made::text);
                    BEGIN
                        EXECUTE format('UPDATE %s SET %I = $1::%s WHERE id = $2', target, c.attname, c.type) USING replace(v, 'SELF', made::text), made;
                    EXCEPTION WHEN OTHERS THEN RAISE NOTICE '% % %: %', target, c.attname, left(v, 50), SQLERRM;
                    END;
                    INSERT INTO forged VALUES (target, c.attname, v, made);
                END LOOP;
            END LOOP;
        END $$;
    CREATE TABLE forged (target regclass, col text, value text, id uuid);
    CREATE TABLE said (call text, col text, value text, code text, message text);
    -- What is called is undone: the next call finds the row as it was.
    CREATE FUNCTION try(call text, col text DEFAULT NULL, value text DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$
        DECLARE code text; said text;
        BEGIN
            EXECUTE call;
            RAISE EXCEPTION USING ERRCODE = 'P0099';
        EXCEPTION WHEN SQLSTATE 'P0099' THEN NULL;
            WHEN OTHERS THEN GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, said = MESSAGE_TEXT;
                INSERT INTO t1.said VALUES (left(call, 60), col, left(value, 60), code, left(said, 300));
        END $$;
"#;

#[test]
fn forged_rows_are_answered_for_and_stop_nobody() {
    let site = Site::start("tenant_q.sweep_interval = 1s\n", &["t1", "t2"]);
    site.run("t1", FORGE);
    site.run(
        "t1",
        "SELECT tq_set_tenant(ready => false);
         SELECT forge('tq_task', $$INSERT INTO tq_task (id, handler, args, name, group_id, queue) VALUES ('SELF', 'ok', '[\"forged\"]', 'n', 'g', 'q')$$);
         SELECT forge('tq_result', $$INSERT INTO tq_result (id, handler, state, priority, attempts, crashes, created_at, run_at, finished_at, args, result, error, name, group_id, history)
             VALUES ('SELF', 'ok', 'f', 0, 1, 0, now(), now(), now(), '[1]', '1', '{\"message\": \"m\", \"sqlstate\": \"P0001\"}', 'n', 'g', '[]')$$);
         INSERT INTO tq_result (id, handler, state, priority, attempts, crashes, created_at, run_at, started_at, finished_at)
             SELECT gen_random_uuid(), 'ok', 'd', 0, 1, 0, a, a, a, b FROM unnest('{infinity,-infinity}'::timestamptz[]) AS a, unnest('{infinity,-infinity}'::timestamptz[]) AS b;
         INSERT INTO forged SELECT 'tq_result', 'times', NULL, id FROM tq_result WHERE state = 'd' AND NOT id IN (SELECT id FROM forged);
         SELECT forge('tq_schedule', $$INSERT INTO tq_schedule (name, id, handler, rule, enabled, anchor, repeats, by_superuser, created_at, run_count, next_run)
             VALUES ('SELF', 'SELF', 'ok', '0 2 * * *', true, now(), -1, false, now(), 0, now())$$)",
    );
    assert!(site.number("SELECT count(*) FROM t1.forged") > 300);
    let whole = [
        "SELECT * FROM tq_tasks",
        "SELECT * FROM tq_results",
        "SELECT * FROM tq_schedules",
        "SELECT * FROM tq_queues",
        "SELECT * FROM tq_problems",
        "SELECT * FROM tq_tenants",
        "SELECT * FROM tq_fetch_group('g')",
        "SELECT tq_result_group('g', failures => true)",
        "SELECT tq_count_group('g')",
        "SELECT tq_delete_group('g', true)",
        "SELECT tq_find('n')",
        "SELECT tq_queue_size()",
        "SELECT tq_export()",
        "SELECT * FROM tq_upcoming(now() + interval '2 days')",
        "SELECT tq_purge('0')",
    ];
    for call in whole {
        site.run("t1", &format!("SELECT try($$ {call} $$)"));
    }
    for call in [
        "SELECT * FROM tq_fetch('ID')",
        "SELECT tq_result('ID', propagate => false)",
        "SELECT * FROM tq_attempts('ID')",
        "SELECT * FROM tq_why('ID')",
        "SELECT tq_update('ID', priority => 5)",
        "SELECT tq_cancel('ID')",
        "SELECT tq_requeue('ID')",
        "SELECT tq_delete('ID')",
    ] {
        site.run("t1", &format!("SELECT try(replace($$ {call} $$, 'ID', id::text), target || '.' || col, value) FROM forged WHERE target <> 'tq_schedule'::regclass"));
    }
    for call in [
        "SELECT tq_alter_schedule(NAME, description => 'd')",
        "SELECT tq_alter_schedule(NAME, rule => '0 3 * * *')",
        "SELECT tq_fire(NAME)",
        "SELECT tq_unschedule(NAME)",
    ] {
        site.run(
            "t1",
            &format!(
                "SELECT try(replace($$ {call} $$, 'NAME', quote_literal(s.name)), 'tq_schedule.' || f.col, f.value) FROM forged f JOIN tq_schedule s USING (id) WHERE length(s.name) < 1000"
            ),
        );
    }
    let odd = site.cluster.rows(
        DB,
        "SELECT code, call, col, value, message, count(*) FROM t1.said WHERE code NOT IN ('22004', '22023', '23505', '42P02', '42704', '42883', '54000', '54023', '55000', 'P0002') GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2",
    );
    let odd: Vec<String> = odd.iter().map(|row| row.joined(" | ")).collect();
    assert!(odd.is_empty(), "{} odd errors\n{}", odd.len(), odd.join("\n"));
    // The engine meets them.
    site.run("t1", "SELECT tq_set_tenant(ready => true)");
    site.assert_alive("t2");
    let last = site.enqueue("t1", "ok", r#"["the last"]"#, ", priority => -32768");
    site.cluster.wait_until(DB, &format!("SELECT EXISTS (SELECT FROM t1.tq_result WHERE id = '{last}')"));
    site.assert_alive("t2");
    site.cluster.run(DB, "SELECT * FROM tq_problems");
    site.cluster.assert_log_clean();
    let log = site.cluster.log();
    let bugs: Vec<&str> = log.lines().filter(|line| line.contains("XX000") || line.contains("panick")).collect();
    assert!(bugs.is_empty(), "{}", bugs.join("\n"));
}

#[test]
fn who_may_enqueue_passes_neither_the_quota_nor_whoever_listens() {
    let site = Site::start("tenant_q.sweep_interval = 1s\n", &["t1"]);
    site.cluster.run(DB, "CREATE ROLE app LOGIN; SELECT tq_set_quota('t1', max_queued => 3)");
    site.run("t1", "SELECT tq_set_tenant(ready => false), tq_grant('app', '{enqueue,operate}')");
    let app = |sql: &str| site.cluster.try_run_as("app", DB, &format!("SET search_path = t1, public; {sql}"));
    for sql in [
        "INSERT INTO tq_task (handler, args) SELECT 'ok', '[\"raw\"]' FROM generate_series(1, 1000)",
        "INSERT INTO tq_task (args) VALUES ('[\"raw\"]')",
        "INSERT INTO tq_task DEFAULT VALUES",
    ] {
        assert!(["42501", "23502"].contains(&app(sql).expect_err(sql).code.as_str()), "{sql}");
    }
    app("SELECT tq_async('ok', jsonb_build_array(n::text)) FROM generate_series(1, 3) AS n").expect("within the quota");
    assert_eq!(app("SELECT tq_async('ok', '[\"4\"]')").expect_err("beyond").code, "53400");
    // Nor by running again what is done.
    site.run("t1", "SELECT tq_set_tenant(ready => true)");
    site.wait_idle(&["t1"]);
    site.run("t1", "SELECT tq_set_tenant(ready => false)");
    let refused = app("SELECT tq_requeue(id) FROM (SELECT id FROM tq_task UNION ALL SELECT NULL LIMIT 0) AS x");
    assert_eq!(refused.expect_err("no right to read").code, "42501");
    let ids: Vec<String> = site.cluster.rows(DB, "SELECT id FROM t1.tq_result").iter().map(|row| row.get(0).to_string()).collect();
    assert_eq!(ids.len(), 3);
    app("SELECT tq_async('ok', jsonb_build_array('again ' || n)) FROM generate_series(1, 2) AS n").expect("within the quota");
    app(&format!("SELECT tq_requeue('{}')", ids[0])).expect("within the quota");
    assert_eq!(app(&format!("SELECT tq_requeue('{}')", ids[1])).expect_err("beyond").code, "53400");
    // What an older version granted is taken back.
    site.run("t1", "GRANT INSERT (handler, args) ON tq_task TO app");
    app("INSERT INTO tq_task (handler, args) SELECT 'ok', jsonb_build_array('raw ' || n) FROM generate_series(1, 10) AS n")
        .expect("it may");
    site.cluster.wait_until(
        DB,
        "SELECT EXISTS (SELECT FROM tq_problems WHERE what = 'tenant t1' AND reason LIKE 'it has more than 3 unfinished tasks%')",
    );
    site.run("t1", "SELECT tq_revoke('app', '{enqueue}'); SELECT tq_grant('app', '{enqueue}')");
    assert_eq!(app("INSERT INTO tq_task (handler, args) VALUES ('ok', '[\"raw\"]')").expect_err("no more").code, "42501");
    site.run("t1", "SELECT tq_set_tenant(ready => true)");
    site.wait_idle(&["t1"]);
    assert_eq!(site.number("SELECT count(*) FROM tq_problems"), 0);
}

#[test]
fn a_schema_dropped_and_made_again_has_the_quotas_it_had() {
    let site = Site::start("", &["t1", "t2"]);
    let db = site.cluster.value(DB, "SELECT current_database()");
    site.cluster.run(
        DB,
        &format!("GRANT CREATE ON DATABASE {db} TO t1, t2; SELECT tq_set_quota('t1', max_queued => 5, max_running => 1, weight => 2)"),
    );
    let quotas = |t: &str| {
        site.cluster.value(DB, &format!("SELECT concat_ws(' ', max_queued, max_running, weight) FROM tq_tenants WHERE tenant = '{t}'"))
    };
    for again in [
        "DROP SCHEMA t1 CASCADE; CREATE SCHEMA t1; SELECT tq_attach('t1')",
        "SELECT tq_detach('t1', drop_data => true); DROP SCHEMA t1 CASCADE; CREATE SCHEMA t1; SELECT tq_attach('t1')",
        "DROP SCHEMA t1 CASCADE; CREATE SCHEMA other; SELECT tq_attach('other'); ALTER SCHEMA other RENAME TO t1",
        "ALTER SCHEMA t1 RENAME TO away; ALTER SCHEMA away RENAME TO t1; DROP OWNED BY t1 CASCADE; CREATE SCHEMA t1; SELECT tq_attach('t1')",
    ] {
        if again.contains("DROP OWNED") {
            site.cluster.run(DB, &format!("GRANT CREATE ON DATABASE {db} TO t1"));
            for sql in again.split("; ") {
                if sql.starts_with("CREATE") {
                    site.cluster.run(DB, &format!("GRANT CREATE ON DATABASE {db} TO t1"));
                }
                site.run("t1", sql);
            }
        } else {
            site.run("t1", again);
        }
        assert_eq!(quotas("t1"), "5 1 2", "{again}");
        // Nothing else of it is left.
        assert_eq!(site.value("t1", "SELECT count(*) FROM tq_handlers"), "0", "{again}");
    }
    // Another owner's is another.
    site.run("t1", "DROP SCHEMA t1 CASCADE");
    assert_eq!(site.number("SELECT count(*) FROM tenant_q.detached"), 1);
    site.run("t2", "CREATE SCHEMA t1; SELECT tq_attach('t1')");
    assert_eq!(quotas("t1"), "1");
    site.run("t2", "DROP SCHEMA t1 CASCADE; DROP SCHEMA t2 CASCADE");
    assert_eq!(site.number("SELECT count(*) FROM tenant_q.detached"), 0, "what says nothing goes");
    // An administrator ends them.
    site.run("t1", "CREATE SCHEMA t1; SELECT tq_attach('t1')");
    site.cluster.run(DB, "SELECT tq_set_quota('t1', max_queued => 7)");
    site.run("t1", "DROP SCHEMA t1 CASCADE");
    site.cluster.run(DB, "SELECT tq_detach('t1', drop_data => true)");
    site.run("t1", "CREATE SCHEMA t1; SELECT tq_attach('t1')");
    assert_eq!(quotas("t1"), "1");
}
