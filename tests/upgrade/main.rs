//! Older versions of the extension: their objects under today's library, and their way to today's version.
//!
//! `tests/upgrade/tenant_q--VERSION.sql` is the install script as it was released, frozen: scripts/install puts it beside
//! today's, so that a database can begin with it. `sql/tenant_q--A--B.sql` are the steps.

use cluster::{Cluster, site::DB};

const RELEASED: &[&str] = &["0.1.0"];

/// Everything that the extension's members are, a line each: definition, rights, comment.
const MEMBERS: &str = "
    WITH member AS (SELECT classid, objid FROM pg_depend
        WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
          AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'tenant_q'))
    SELECT line FROM (
        SELECT 'function ' || pg_get_functiondef(p.oid) || ' acl ' || coalesce(p.proacl::text, '') || ' comment '
               || coalesce(obj_description(p.oid, 'pg_proc'), '')
          FROM pg_proc AS p JOIN member AS m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
        UNION ALL
        SELECT 'relation ' || c.oid::regclass || ' ' || c.relkind::text || ' acl ' || coalesce(c.relacl::text, '') || ' options '
               || coalesce(c.reloptions::text, '') || ' comment ' || coalesce(obj_description(c.oid, 'pg_class'), '')
               || coalesce(' view ' || CASE WHEN c.relkind = 'v' THEN pg_get_viewdef(c.oid) END, '')
          FROM pg_class AS c JOIN member AS m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
        UNION ALL
        SELECT 'column ' || c.oid::regclass || ' ' || a.attnum || ' ' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
               || ' not null ' || a.attnotnull || ' default ' || coalesce(pg_get_expr(d.adbin, d.adrelid), '')
               || ' acl ' || coalesce(a.attacl::text, '') || ' comment ' || coalesce(col_description(c.oid, a.attnum), '')
          FROM pg_class AS c JOIN member AS m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
          JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
          LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        UNION ALL
        SELECT 'index ' || pg_get_indexdef(i.indexrelid)
          FROM pg_index AS i JOIN member AS m ON m.classid = 'pg_class'::regclass AND m.objid = i.indrelid
        UNION ALL
        SELECT 'constraint ' || k.conrelid::regclass || ' ' || k.conname || ' ' || pg_get_constraintdef(k.oid)
          FROM pg_constraint AS k JOIN member AS m ON m.classid = 'pg_class'::regclass AND m.objid = k.conrelid
        UNION ALL
        SELECT 'trigger ' || pg_get_triggerdef(t.oid)
          FROM pg_trigger AS t JOIN member AS m ON m.classid = 'pg_class'::regclass AND m.objid = t.tgrelid
         WHERE NOT t.tgisinternal
        UNION ALL
        SELECT 'type ' || t.oid::regtype || ' ' || t.typtype::text || ' comment ' || coalesce(obj_description(t.oid, 'pg_type'), '')
          FROM pg_type AS t JOIN member AS m ON m.classid = 'pg_type'::regclass AND m.objid = t.oid
        UNION ALL
        SELECT 'schema ' || n.nspname || ' acl ' || coalesce(n.nspacl::text, '')
          FROM pg_namespace AS n JOIN member AS m ON m.classid = 'pg_namespace'::regclass AND m.objid = n.oid
        UNION ALL
        SELECT 'event trigger ' || e.evtname || ' ' || e.evtevent || ' ' || e.evtfoid::regproc
          FROM pg_event_trigger AS e JOIN member AS m ON m.classid = 'pg_event_trigger'::regclass AND m.objid = e.oid
        UNION ALL
        SELECT 'other ' || m.classid::regclass || ' ' || pg_describe_object(m.classid, m.objid, 0)
          FROM member AS m
         WHERE m.classid NOT IN ('pg_proc'::regclass, 'pg_class'::regclass, 'pg_type'::regclass, 'pg_namespace'::regclass)
        UNION ALL
        -- Which tables a dump takes along, by name.
        SELECT 'dumped ' || r::regclass || ' ' || w FROM pg_extension AS e, unnest(e.extconfig, e.extcondition) AS x(r, w)
         WHERE e.extname = 'tenant_q'
    ) AS x(line) ORDER BY line COLLATE \"C\"";

/// A database that has the extension in this version.
fn database(cluster: &Cluster, name: &str, version: &str) {
    cluster.run(DB, &format!("CREATE DATABASE {name}"));
    cluster.run(name, &format!("CREATE EXTENSION tenant_q VERSION '{version}'"));
}

fn members(cluster: &Cluster, name: &str) -> Vec<String> {
    cluster.rows(name, MEMBERS).iter().map(|row| row.joined("")).collect()
}

fn today(cluster: &Cluster) -> String {
    cluster.value(DB, "SELECT default_version FROM pg_available_extensions WHERE name = 'tenant_q'")
}

#[test]
fn an_upgraded_extension_is_as_a_new_one() {
    let cluster = Cluster::start("");
    database(&cluster, "fresh", &today(&cluster));
    let fresh = members(&cluster, "fresh");
    assert!(fresh.len() > 100, "it has members");
    for version in RELEASED {
        let name = format!("v{}", version.replace('.', "_"));
        database(&cluster, &name, version);
        cluster.run(&name, "ALTER EXTENSION tenant_q UPDATE");
        let upgraded = members(&cluster, &name);
        let missing: Vec<_> = fresh.iter().filter(|line| !upgraded.contains(line)).collect();
        let surplus: Vec<_> = upgraded.iter().filter(|line| !fresh.contains(line)).collect();
        assert!(
            missing.is_empty() && surplus.is_empty(),
            "from {version}:\nonly when new: {missing:#?}\nonly after the upgrade: {surplus:#?}"
        );
    }
    cluster.assert_log_clean();
}

/// A tenant `t` with work of every kind that outlives an upgrade.
const WORK: &str = "
    CREATE ROLE t LOGIN; CREATE SCHEMA t AUTHORIZATION t; SET ROLE t; SET search_path = t, public;
    CREATE TABLE fx (k text);
    CREATE FUNCTION ok(k text) RETURNS void LANGUAGE sql AS $$ INSERT INTO fx (k) VALUES (k) $$;
    SELECT tq_attach();
    SELECT tq_register('ok', queue => 'q', max_attempts => 2, run_as => NULL);
    SELECT tq_set_queue('q', max_running => 3);
    SELECT tq_set_limit('l', rate => '100/s');
    CREATE FUNCTION heard(event jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO fx (k) VALUES ('heard') $$;
    SELECT tq_register('heard');
    SELECT tq_on('done', 'heard', for_handler => 'ok');
    SELECT tq_async('ok', jsonb_build_array(n)) FROM generate_series(1, 20) AS n;
    SELECT tq_async('ok', '[\"unique\"]', unique_key => 'u', limit_key => 'l', lock => 'k');
    SELECT tq_group('[{\"handler\": \"ok\", \"args\": [\"a\"]}, {\"handler\": \"ok\", \"args\": [\"b\"]}]', task => '{\"on_success\": \"heard\"}');
    SELECT tq_schedule('s', 'ok', '1 hour', args => '[\"scheduled\"]');
    SELECT tq_fire('s');";

#[test]
fn work_enqueued_under_an_older_version_waits_for_the_upgrade_and_is_done_after_it() {
    for version in RELEASED {
        let cluster = Cluster::start("");
        cluster.run(DB, &format!("CREATE EXTENSION tenant_q VERSION '{version}'"));
        cluster.run(DB, WORK);
        // Today's library with that version's objects: it says so, runs nothing, and nothing that one can ask crashes it.
        cluster.wait_until(DB, "SELECT value = 'version' FROM tq_health() WHERE check_name = 'database'");
        assert_eq!(cluster.value(DB, "SELECT hint FROM tq_health() WHERE check_name = 'database'"), "ALTER EXTENSION tenant_q UPDATE;");
        for row in cluster.rows(DB, "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'v' AND relname ~ '^tq_'") {
            let _ = cluster.try_rows_as("t", DB, &format!("SET search_path = t, public; SELECT * FROM {}", row.get(0)));
        }
        for row in cluster.rows(
            DB,
            "SELECT p.oid::regproc || '(' || coalesce((SELECT string_agg('NULL::' || format_type(x, NULL), ', ') FROM unnest(p.proargtypes) AS x), '') || ')'
               FROM pg_proc AS p JOIN pg_depend AS d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
              WHERE p.prokind = 'f' AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)",
        ) {
            let _ = cluster.try_rows_as("t", DB, &format!("SET search_path = t, public; BEGIN; SELECT {}; ROLLBACK", row.get(0)));
        }
        assert_eq!(cluster.number(DB, "SELECT count(*) FROM t.fx"), 0, "nothing runs");
        cluster.assert_log_clean();

        cluster.run(DB, "ALTER EXTENSION tenant_q UPDATE");
        cluster.wait_until(DB, "SELECT NOT EXISTS (SELECT FROM t.tq_task)");
        assert_eq!(cluster.number(DB, "SELECT count(*) FROM t.fx WHERE k ~ '^[0-9]+$'"), 20);
        assert_eq!(cluster.number(DB, "SELECT count(*) FROM t.fx WHERE k IN ('unique', 'a', 'b', 'scheduled')"), 4);
        assert_eq!(
            cluster.value(DB, "SELECT string_agg(check_name, ',') FROM tq_health() WHERE NOT ok AND check_name IN ('version', 'database')"),
            ""
        );
        cluster.assert_log_clean();
    }
}
