//! Rights that were taken away, state that one tenant makes for others, quotas that were passed by, rows that were forged.

use crate::site::{DB, Site};

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
    assert_eq!(site.value("t1", why), "handler: the schema's owner may not SET ROLE to \"mighty\" / GRANT mighty TO t1;");
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
    site.run(tenant, "SELECT tq_async('crash', to_jsonb(ARRAY[n::text]), max_attempts => 1) FROM generate_series(1, 3) AS n");
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
