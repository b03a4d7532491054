//! Older versions of the extension: their objects under today's library, and their way to today's version.
//!
//! `tests/upgrade/tenant_q--VERSION.sql` is the install script as it was released, frozen: scripts/install puts it beside
//! today's, so that a database can begin with it. `sql/tenant_q--A--B.sql` are the steps.

use cluster::{Cluster, site::DB};

/// Each with the indexes that a tenant's tables were without then.
const RELEASED: &[(&str, &[&str])] = &[("0.1.0", &["tq_result_finished", "tq_result_state", "tq_result_schedule"])];

/// Whatever library has made the tables of these schemas, they and the extension's own copies are as that version's.
fn as_released(lacking: &[&str], schemas: &[&str]) -> String {
    let of = |schema: &str| lacking.iter().map(|index| format!("DROP INDEX {schema}.{index};")).collect::<String>();
    format!("RESET ROLE; {}", schemas.iter().chain(&["tenant_q"]).map(|schema| of(schema)).collect::<String>())
}

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
    for (version, _) in RELEASED {
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
    for (version, lacking) in RELEASED {
        let cluster = Cluster::start("");
        cluster.run(DB, &format!("CREATE EXTENSION tenant_q VERSION '{version}'"));
        cluster.run(DB, &format!("{WORK} {}", as_released(lacking, &["t"])));
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
        // Enqueuing goes on.
        cluster.run_as("t", DB, "SET search_path = t, public; SELECT tq_async('ok', '[\"meanwhile\"]')");
        cluster.assert_log_clean();

        cluster.run(DB, "ALTER EXTENSION tenant_q UPDATE");
        cluster.wait_until(DB, "SELECT NOT EXISTS (SELECT FROM t.tq_task)");
        assert_eq!(cluster.number(DB, "SELECT count(*) FROM t.fx WHERE k ~ '^[0-9]+$'"), 20);
        assert_eq!(cluster.number(DB, "SELECT count(*) FROM t.fx WHERE k IN ('unique', 'a', 'b', 'scheduled', 'meanwhile')"), 5);
        assert_eq!(
            cluster.value(DB, "SELECT string_agg(check_name, ',') FROM tq_health() WHERE NOT ok AND check_name IN ('version', 'database')"),
            ""
        );
        cluster.assert_log_clean();
    }
}

/// Two more tenants, of which nothing is to be done.
const OTHERS: &str = "
    CREATE ROLE u LOGIN; CREATE SCHEMA u AUTHORIZATION u; SELECT tq_attach('u');
    CREATE ROLE v LOGIN; CREATE SCHEMA v AUTHORIZATION v; SELECT tq_attach('v');";

/// The indexes of that schema's tables.
fn indexes(cluster: &Cluster, schema: &str) -> String {
    let sql = "SELECT coalesce(string_agg(replace(indexdef, schemaname || '.', ''), E'\n' ORDER BY indexdef), '') FROM pg_indexes WHERE schemaname";
    cluster.value(DB, &format!("{sql} = '{schema}'"))
}

#[test]
fn tables_of_an_older_version_are_brought_up_one_by_one_and_who_is_held_is_left_out() {
    for (version, lacking) in RELEASED {
        let cluster = Cluster::start("");
        cluster.run(DB, &format!("CREATE EXTENSION tenant_q VERSION '{version}'"));
        cluster.run(DB, &format!("{WORK} RESET ROLE; {OTHERS} {}", as_released(lacking, &["t", "u", "v"])));
        cluster.run(DB, "ALTER EXTENSION tenant_q UPDATE");
        cluster.wait_until(DB, "SELECT NOT EXISTS (SELECT FROM t.tq_task)");
        cluster.run(DB, "CREATE ROLE fresh LOGIN; CREATE SCHEMA fresh AUTHORIZATION fresh; SELECT tq_attach('fresh')");
        let fresh = indexes(&cluster, "fresh");
        let lacking = "SELECT count(*) FROM tq_problems WHERE reason LIKE 'an index on its tq_result is missing%'";
        assert_ne!(indexes(&cluster, "t"), fresh, "{version}'s have fewer");
        assert!(cluster.number(DB, lacking) > 0, "which is told");

        let mut holder = cluster.client("u", DB);
        holder.batch_execute("BEGIN; DELETE FROM u.tq_result").expect("a transaction that holds the table");
        let said = cluster.program("psql").args(["-X", "-d", DB, "-c", "CALL tq_upgrade()"]).output().expect("psql");
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(said.contains("tenant \"u\" is left as it is") && said.contains("1 tenants left as they are"), "{said}");
        assert_eq!(indexes(&cluster, "t"), fresh);
        assert_ne!(indexes(&cluster, "u"), fresh);
        assert_eq!(indexes(&cluster, "v"), fresh);
        holder.batch_execute("COMMIT").expect("an end");
        cluster.run(DB, "CALL tq_upgrade('u')");
        assert_eq!(indexes(&cluster, "u"), fresh);
        assert_eq!(cluster.number(DB, lacking), 0);
        assert_eq!(cluster.try_run_as("u", DB, "CALL public.tq_upgrade()").unwrap_err().code, "42501");
        assert_eq!(cluster.try_run_as("postgres", DB, "BEGIN; CALL tq_upgrade(); COMMIT").unwrap_err().code, "2D000");
        cluster.assert_log_clean();
    }
}

#[test]
fn there_is_no_way_back_and_none_to_versions_that_are_not_there() {
    let cluster = Cluster::start("");
    database(&cluster, "fresh", &today(&cluster));
    let before = members(&cluster, "fresh");
    for version in RELEASED.iter().map(|(version, _)| version).chain(&["9.9.9", "next"]) {
        let error = cluster.try_run_as("postgres", "fresh", &format!("ALTER EXTENSION tenant_q UPDATE TO '{version}'")).unwrap_err();
        assert_eq!(error.code, "22023", "{error}");
        assert!(error.message.contains("no update path"), "{error}");
    }
    assert_eq!(members(&cluster, "fresh"), before);
    // Objects that are newer than the library that runs: what an update without a restart would make.
    cluster.run("fresh", "UPDATE pg_extension SET extversion = '0.10.0' WHERE extname = 'tenant_q'");
    let error = cluster.try_run_as("postgres", "fresh", "SELECT tenant_q.require_library()").unwrap_err();
    assert_eq!((error.code.as_str(), error.hint.as_str()), ("55000", "Restart the server, then run the statement again."), "{error}");
    cluster.assert_log_clean();
}

#[test]
fn a_dump_of_an_older_version_is_restored_into_this_one_and_its_work_is_done() {
    for (version, lacking) in RELEASED {
        let cluster = Cluster::start("");
        cluster.run(DB, "CREATE DATABASE old");
        cluster.run("old", &format!("CREATE EXTENSION tenant_q VERSION '{version}'"));
        cluster.run("old", &format!("{WORK} {}", as_released(lacking, &["t"])));
        let dump = cluster.program("pg_dump").args(["-d", "old"]).output().expect("pg_dump");
        assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
        cluster.run(DB, "CREATE DATABASE restored");
        let file = cluster.data().join("old.sql");
        std::fs::write(&file, &dump.stdout).expect("the dump");
        cluster.psql("restored", &format!("\\i {}", file.display()));
        assert_eq!(cluster.value("restored", "SELECT extversion FROM pg_extension WHERE extname = 'tenant_q'"), today(&cluster));
        assert_eq!(cluster.number("restored", "SELECT count(*) FROM t.fx"), 0, "a copy doesn't run by itself");
        cluster.run("restored", "SELECT tq_confirm_copy()");
        cluster.run("restored", "CALL tq_upgrade()");
        cluster.wait_until("restored", "SELECT NOT EXISTS (SELECT FROM t.tq_task)");
        assert_eq!(cluster.number("restored", "SELECT count(*) FROM t.fx WHERE k ~ '^[0-9]+$'"), 20);
        assert_eq!(cluster.number("restored", "SELECT count(*) FROM t.fx WHERE k IN ('unique', 'a', 'b', 'scheduled')"), 4);
        cluster.assert_log_clean();
    }
}

#[test]
fn dropped_and_created_again_the_extension_finds_the_tenants_tables_as_they_were() {
    let cluster = Cluster::start("tenant_q.enabled = off\n");
    cluster.run(DB, &format!("CREATE EXTENSION tenant_q; {WORK}"));
    let rows = "SELECT md5(string_agg(x::text, E'\n' ORDER BY x.id)) FROM t.tq_task AS x";
    let before = cluster.value(DB, rows);
    cluster.run(DB, "DROP EXTENSION tenant_q");
    assert_eq!(cluster.value(DB, rows), before, "the queue is the tenant's");
    cluster.run(DB, "CREATE EXTENSION tenant_q; SELECT tq_attach('t', adopt => true)");
    assert_eq!(cluster.value(DB, rows), before);
    cluster.run(DB, "SET search_path = t, public; SELECT tq_register('ok', queue => 'q'); SELECT tq_register('heard')");
    cluster.append_settings("tenant_q.enabled = on");
    cluster.reload();
    cluster.wait_until(DB, "SELECT NOT EXISTS (SELECT FROM t.tq_task)");
    assert_eq!(cluster.number(DB, "SELECT count(*) FROM t.fx WHERE k ~ '^[0-9]+$' OR k IN ('unique', 'a', 'b', 'scheduled')"), 24);
    cluster.assert_log_clean();
}

/// Triggers that called the extension itself call what a dump has with them; those that can't be made anew stay, and it says so.
#[test]
fn listeners_of_an_older_version_can_be_dumped_after_the_upgrade() {
    for (version, _) in RELEASED {
        let cluster = Cluster::start("");
        cluster.run(DB, &format!("CREATE EXTENSION tenant_q VERSION '{version}'"));
        cluster.run(
            DB,
            "CREATE ROLE t LOGIN; CREATE SCHEMA t AUTHORIZATION t; SELECT tq_attach('t'); SET ROLE t; SET search_path = t, public;
             CREATE TABLE orders (id int, total int); CREATE TABLE others (id int);
             CREATE FUNCTION see(change jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT change';
             SELECT tq_register('see');
             SELECT tq_listen_table('orders', 'see', only_if => 'NEW.total > 1', events => '{insert,update}');
             SELECT tq_listen_table('others', 'see', each => 'statement');
             RESET ROLE",
        );
        // As that version made them.
        cluster.run(
            DB,
            "DO $$ DECLARE made record; BEGIN
                 FOR made IN SELECT tgrelid::regclass AS of, tgname, pg_get_triggerdef(oid) AS text FROM pg_trigger WHERE tgname ~ '^tq_listen_' LOOP
                     EXECUTE format('DROP TRIGGER %I ON %s', made.tgname, made.of);
                     EXECUTE regexp_replace(made.text, 'EXECUTE FUNCTION .*[(](''[^'']*'').*', 'EXECUTE FUNCTION tenant_q.table_changed(\\1)');
                 END LOOP;
                 FOR made IN SELECT oid::regprocedure AS of FROM pg_proc WHERE proname ~ '^tq_listen_' AND pronamespace = 't'::regnamespace LOOP
                     EXECUTE format('DROP FUNCTION %s', made.of);
                 END LOOP; END $$",
        );
        let direct = "SELECT count(*) FROM pg_trigger WHERE tgname ~ '^tq_listen_' AND tgfoid = 'tenant_q.table_changed'::regproc";
        assert_eq!(cluster.number(DB, direct), 5);
        // What is the extension's own goes with it, what the tables have stays.
        cluster.run(DB, "ALTER EXTENSION tenant_q UPDATE");
        assert_eq!(cluster.number(DB, direct), 0);
        assert_eq!(
            cluster.number(
                DB,
                "SELECT count(*) FROM pg_proc p JOIN pg_trigger t ON t.tgfoid = p.oid WHERE t.tgname ~ '^tq_listen_' AND p.proowner = 't'::regrole
                   AND p.pronamespace = 't'::regnamespace AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')"
            ),
            5
        );
        cluster.run(DB, "INSERT INTO t.orders VALUES (1, 1), (2, 2); INSERT INTO t.others VALUES (1), (2)");
        cluster.wait_until(DB, "SELECT count(*) = 2 FROM t.tq_result WHERE state = 'd'");
        cluster.run(DB, "DROP EXTENSION tenant_q; INSERT INTO t.orders VALUES (3, 3)");
        cluster.assert_log_clean();
    }
}
