//! Conditions that a mightier role's tables ask, and work that waits for somebody else's COMMIT: whoever wrote it, it runs with
//! no more than their rights.

use crate::site::{DB, Site};

/// Operators, functions, types and casts of the tenant that would be found before PostgreSQL's own, and tell who ran them.
const TRAPS: &str = "
    CREATE FUNCTION t1.trap() RETURNS boolean LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO public.fx (tenant, k) VALUES ('t1', 'trap'); RETURN true; END $$;
    CREATE FUNCTION t1.gt(numeric, integer) RETURNS boolean LANGUAGE sql AS $$ SELECT t1.trap() $$;
    CREATE OPERATOR t1.> (FUNCTION = t1.gt, LEFTARG = numeric, RIGHTARG = integer);
    CREATE FUNCTION t1.folded(integer) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN t1.trap(); END $$;
    CREATE DOMAIN t1.checked AS text CHECK (t1.trap());
    CREATE TYPE t1.pair AS (a t1.checked);
    CREATE FUNCTION t1.see(change jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT change $$;
    SELECT tq_register('see')";

fn traps_as_another(site: &Site) -> i64 {
    site.number("SELECT count(*) FROM fx WHERE k = 'trap' AND (who <> 't1' OR su = 'on')")
}

#[test]
fn a_superusers_condition_runs_nothing_of_the_tenants() {
    let site = Site::start("", &["t1"]);
    site.run("t1", TRAPS);
    site.cluster.run(
        DB,
        "CREATE TABLE public.orders (id int, total numeric);
         SELECT tq_listen_table('public.orders', 'see', events => '{insert}', only_if => 'NEW.total > 100', tenant => 't1');
         INSERT INTO orders VALUES (1, 1000), (2, 1)",
    );
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE k = 'trap'"), 0, "the tenant's operator was taken");
    site.cluster.wait_until(DB, "SELECT count(*) = 1 FROM t1.tq_result WHERE handler = 'see' AND state = 'd'");
    // Named with its schema, in whatever way, at the time of listening.
    for condition in [
        "NEW.total OPERATOR(t1.>) 100",
        "t1.trap()",
        "t1.folded(1)",
        "NEW.id::text::t1.checked = 'x'",
        "'(x)'::t1.pair IS NULL",
        "NEW.total > 100 AND CASE WHEN coalesce(t1.folded(NEW.id), false) THEN true END",
    ] {
        let sql =
            format!("SELECT tq_listen_table('public.orders', 'see', events => '{{insert}}', only_if => $$ {condition} $$, tenant => 't1')");
        let refused = site.cluster.try_run_as("postgres", DB, &sql).expect_err(condition);
        assert_eq!(refused.code, "42501", "{condition}: {refused}");
    }
    // Nothing of the grammar is left to the text.
    let sql = "SELECT tq_listen_table('public.orders', 'see', only_if => 'true) EXECUTE FUNCTION t1.x() --', tenant => 't1')";
    assert_eq!(site.cluster.try_run_as("postgres", DB, sql).expect_err("no expression").code, "42601");
    // What others have put into a schema of the table's owner is found, and refused.
    site.cluster.run(DB, "CREATE SCHEMA open; GRANT ALL ON SCHEMA open TO t1; ALTER TABLE orders SET SCHEMA open");
    site.run("t1", "CREATE OPERATOR open.> (FUNCTION = t1.gt, LEFTARG = numeric, RIGHTARG = integer)");
    let sql = "SELECT tq_listen_table('open.orders', 'see', events => '{insert}', only_if => 'NEW.total > 100', tenant => 't1')";
    let refused = site.cluster.try_run_as("postgres", DB, sql).expect_err("the tenant's operator");
    assert_eq!((refused.code.as_str(), refused.message.contains("role \"t1\"")), ("42501", true), "{refused}");
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE k = 'trap'"), 0);
    site.cluster.assert_log_clean();
}

#[test]
fn whom_a_condition_belongs_to_is_asked_again_at_each_statement() {
    let site = Site::start("", &["t1"]);
    site.run("t1", TRAPS);
    site.cluster.run(
        DB,
        "CREATE SCHEMA shop; CREATE TABLE shop.orders (id int, total numeric);
         CREATE FUNCTION shop.large(numeric) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT $1 > 100 $$;
         CREATE FUNCTION shop.always(integer) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN true; END $$;
         SELECT tq_listen_table('shop.orders', 'see', events => '{insert,truncate}', only_if => 'shop.always(7) AND large(NEW.total)', tenant => 't1');
         INSERT INTO shop.orders VALUES (1, 1000), (2, 1)",
    );
    site.cluster.wait_until(DB, "SELECT count(*) = 1 FROM t1.tq_result WHERE handler = 'see' AND state = 'd'");
    assert_eq!(site.number("SELECT count(*) FROM tq_problems WHERE what ~ 'shop'"), 0);
    // The function becomes the tenant's, who puts something into it.
    site.cluster.run(DB, "GRANT ALL ON SCHEMA shop TO t1; ALTER FUNCTION shop.always(integer) OWNER TO t1");
    site.run(
        "t1",
        "CREATE OR REPLACE FUNCTION shop.always(integer) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN t1.trap(); END $$",
    );
    let refused = site.cluster.try_run_as("postgres", DB, "INSERT INTO shop.orders VALUES (3, 1000)").expect_err("the tenant's function");
    assert_eq!((refused.code.as_str(), refused.message.contains("shop.always")), ("42501", true), "{refused}");
    assert_eq!(traps_as_another(&site), 0);
    assert_eq!(site.number("SELECT count(*) FROM tq_problems WHERE what = 'table shop.orders' AND reason ~ 'shop.always'"), 1);
    // It's the owner who matters, not who writes; and the way back leads back.
    site.cluster.run(DB, "ALTER TABLE shop.orders OWNER TO t1");
    site.cluster.run(DB, "INSERT INTO shop.orders VALUES (4, 1)");
    site.cluster.run(DB, "ALTER TABLE shop.orders OWNER TO postgres");
    assert!(site.cluster.try_run_as("postgres", DB, "INSERT INTO shop.orders VALUES (5, 1)").is_err());
    site.cluster.run(
        DB,
        "TRUNCATE shop.orders; SELECT tq_unlisten_table('shop.orders', 'see', tenant => 't1'); INSERT INTO shop.orders VALUES (6, 1)",
    );
    site.cluster.assert_log_clean();
}

#[test]
fn a_condition_from_before_is_disabled_and_shown() {
    let site = Site::start("", &["t1"]);
    site.run("t1", TRAPS);
    // As the first version made them.
    site.cluster.run(
        DB,
        "CREATE TABLE public.orders (id int, total numeric);
         SELECT tq_listen_table('orders', 'see', events => '{insert}', only_if => 'NEW.total > 100', tenant => 't1');
         DO $$ DECLARE made text := pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = 'orders'::regclass; BEGIN
             EXECUTE format('DROP TRIGGER %I ON orders', split_part(made, ' ', 3));
             EXECUTE regexp_replace(made, 'WHEN .* EXECUTE', 'WHEN (NEW.total OPERATOR(t1.>) 100) EXECUTE');
         END $$",
    );
    assert_eq!(site.number("SELECT count(*) FROM tq_problems WHERE what = 'table public.orders' AND reason ~ 'role \"t1\"'"), 1);
    // After a restore the table has another OID.
    site.cluster.run(DB, "UPDATE tenant_q.table_listener SET relation_oid = 1");
    assert_eq!(site.number("SELECT tenant_q.disable_untrusted_conditions()"), 1);
    site.cluster.run(DB, "UPDATE tenant_q.table_listener SET relation_oid = 'orders'::regclass");
    site.cluster.run(DB, "INSERT INTO orders VALUES (1, 1000)");
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE k = 'trap'"), 0);
    site.cluster.run(DB, "SELECT tq_listen_table('orders', 'see', events => '{insert}', only_if => 'NEW.total > 100', tenant => 't1')");
    assert_eq!(site.number("SELECT count(*) FROM tq_problems"), 0);
    site.cluster.run(DB, "INSERT INTO orders VALUES (2, 1000)");
    site.cluster.wait_until(DB, "SELECT count(*) = 1 FROM t1.tq_result WHERE state = 'd'");
    assert!(site.cluster.try_run_as("t1", DB, "SELECT tenant_q.disable_untrusted_conditions()").is_err());
}

#[test]
fn a_tenants_cast_to_json_doesn_t_run_for_a_superusers_table() {
    let site = Site::start("", &["t1"]);
    site.run("t1", TRAPS);
    site.run(
        "t1",
        "CREATE TYPE t1.odd AS ENUM ('odd');
         CREATE FUNCTION t1.tell(t1.odd) RETURNS json LANGUAGE plpgsql AS $$ BEGIN PERFORM t1.trap(); RETURN '\"told\"'; END $$",
    );
    site.cluster.run(
        DB,
        "CREATE TABLE public.odds (id int, o t1.odd, os t1.odd[], gone int); ALTER TABLE odds DROP COLUMN gone;
         SELECT tq_listen_table('public.odds', 'see', events => '{insert}', tenant => 't1')",
    );
    site.run("t1", "CREATE CAST (t1.odd AS json) WITH FUNCTION t1.tell(t1.odd)");
    site.cluster.run(DB, "INSERT INTO odds VALUES (1, 'odd', '{odd,odd}'), (2, NULL, NULL)");
    site.cluster.run(DB, "SELECT tq_listen_table('public.odds', 'see', events => '{insert}', each => 'statement', tenant => 't1')");
    site.cluster.run(DB, "INSERT INTO odds VALUES (3, 'odd', '{odd,NULL}')");
    site.wait_idle(&["t1"]);
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE k = 'trap'"), 0, "the tenant's cast ran");
    assert_eq!(
        site.cluster
            .value(DB, "SELECT string_agg(coalesce(args -> 'new', args #> '{rows,0,new}')::text, ' ' ORDER BY id) FROM t1.tq_result"),
        r#"{"o": "odd", "id": 1, "os": "{odd,odd}"} {"o": null, "id": 2, "os": null} {"o": "odd", "id": 3, "os": "{odd,NULL}"}"#
    );
    // Nor on a table of the tenant's own, where others may write.
    site.run(
        "t1",
        "CREATE TABLE odds AS SELECT 'odd'::t1.odd AS o WHERE false; SELECT tq_listen_table('odds', 'see', events => '{insert}');
         INSERT INTO odds VALUES ('odd')",
    );
    site.wait_idle(&["t1"]);
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_result WHERE args #>> '{new,o}' = 'odd' AND args ->> 'table' = 't1.odds'"), 1);
    assert_eq!(traps_as_another(&site), 0);
    site.cluster.assert_log_clean();
}

/// A deferred trigger that says who runs it, defers again whatever its own insert queues, a few times, and leaves cursors.
const CLINGING: &str = "
    CREATE TABLE t1.d (n int);
    CREATE FUNCTION t1.again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO public.fx (tenant, k) VALUES ('t1', 'again ' || NEW.n);
        SET CONSTRAINTS ALL DEFERRED;
        IF NEW.n < 5 THEN INSERT INTO t1.d VALUES (NEW.n + 1); END IF;
        IF NEW.n < 0 THEN INSERT INTO t1.d VALUES (NEW.n); END IF;
        IF NEW.n = 5 THEN
            IF EXISTS (SELECT FROM pg_cursors WHERE name = 'mine') THEN EXECUTE 'CLOSE ALL'; END IF;
            EXECUTE 'DECLARE mine CURSOR WITH HOLD FOR SELECT t1.note()';
            EXECUTE 'DECLARE another CURSOR WITH HOLD FOR SELECT t1.note()';
        END IF;
        RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER d AFTER INSERT ON t1.d DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION t1.again();
    CREATE CONSTRAINT TRIGGER e AFTER INSERT ON t1.d DEFERRABLE FOR EACH ROW EXECUTE FUNCTION t1.again();
    CREATE FUNCTION t1.note() RETURNS integer LANGUAGE sql AS $$ INSERT INTO public.fx (tenant, k) VALUES ('t1', 'cursor') RETURNING 1 $$;
    CREATE FUNCTION t1.cling(n int) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
        SET CONSTRAINTS ALL DEFERRED; INSERT INTO t1.d VALUES (n); END $$;
    SELECT tq_register('cling', max_attempts => 1)";

#[test]
fn what_a_task_defers_again_and_again_is_over_before_its_role_is_left() {
    let site = Site::start("tenant_q.enabled = off\n", &["t1"]);
    site.run("t1", CLINGING);
    let ways = [
        "SELECT tq_async('cling', '[1]', tenant => 't1'); SELECT tq_drain(tenant => 't1')",
        "SELECT tq_async('cling', '[1]', tenant => 't1', sync => true)",
        "SELECT tq_group('[{\"handler\": \"cling\", \"args\": [1]}, {\"handler\": \"cling\", \"args\": [3]}]', '{\"sync\": true}', tenant => 't1')",
    ];
    for (n, way) in ways.iter().enumerate() {
        site.cluster.run(DB, "DELETE FROM fx; DELETE FROM t1.d");
        // A cursor of the caller's own lives on, unless the task closes it: then nothing of its name does.
        let mut client = site.client("postgres");
        client
            .batch_execute(&format!(
                "BEGIN; DECLARE mine CURSOR WITH HOLD FOR SELECT 1; SET LOCAL ROLE t1; SET LOCAL search_path = t1, public; {way}; RESET ROLE; COMMIT"
            ))
            .unwrap_or_else(|error| panic!("{way}: {error}"));
        let rows = site.cluster.rows(DB, "SELECT k, who, su FROM fx GROUP BY 1, 2, 3 ORDER BY 1");
        assert!(rows.len() >= 5, "{n}: {} kinds ran", rows.len());
        for row in &rows {
            assert_eq!((row.get(1), row.get(2)), ("t1", "off"), "{n}: {}", row.joined(" "));
        }
        assert_eq!(
            site.number("SELECT count(*) FROM t1.d WHERE n = 5"),
            site.number("SELECT count(*) / 2 FROM fx WHERE k = 'again 5'"),
            "{n}: all of it ran"
        );
    }
    // A commit after each task.
    site.cluster.run(DB, "DELETE FROM fx; DELETE FROM t1.d; SELECT tq_async('cling', '[1]', tenant => 't1')");
    let mut client = site.client("postgres");
    client.batch_execute("SET ROLE t1").expect("role");
    client.batch_execute("CALL tq_run_pending(tenant => 't1')").expect("run");
    client.batch_execute("RESET ROLE").expect("role");
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE who <> 't1' OR su <> 'off'"), 0);
    assert!(site.number("SELECT count(*) FROM fx WHERE k = 'again 5'") > 0);
    site.cluster.assert_log_clean();
}

#[test]
fn deferred_work_without_end_fails_its_attempt() {
    let site = Site::start("tenant_q.enabled = off\n", &["t1"]);
    site.run("t1", CLINGING);
    site.run("t1", "DROP TRIGGER e ON d; SELECT tq_async('cling', '[-1]'), tq_async('ok', '[\"innocent\"]')");
    let rows = site.cluster.rows_as(
        "t1",
        DB,
        "SET statement_timeout = '30s'; SELECT handler, state, error ->> 'sqlstate' FROM tq_drain() ORDER BY 1",
    );
    assert_eq!(rows.iter().map(|r| r.joined(" ")).collect::<Vec<_>>(), ["cling failed 54001", "ok done "]);
    assert_eq!(site.number("SELECT count(*) FROM fx"), 1);
    // What the caller has deferred itself is as bounded.
    let endless = site.cluster.try_run_as(
        "t1",
        DB,
        "SET statement_timeout = '30s'; BEGIN; SELECT tq_async('ok', '[\"x\"]'); INSERT INTO d VALUES (-1); SELECT tq_drain(); COMMIT",
    );
    assert_eq!(endless.expect_err("it has no end").code, "54001");
    site.cluster.assert_log_clean();
}

/// Functions that a dump has in the place of ours are anybody's to make.
#[test]
fn a_function_with_the_text_of_one_that_stands_for_ours_gains_nothing() {
    let site = Site::start("", &["t1", "t2"]);
    site.run(
        "t2",
        "CREATE TABLE orders (id int); CREATE FUNCTION positive(int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 > 0';
         CREATE FUNCTION see(change jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT change'; SELECT tq_register('see');
         SELECT tq_listen_table('orders', 'see', events => '{insert}', only_if => 'positive(NEW.id)')",
    );
    // Their texts, of other forms: they are what they say, functions that raise an error.
    site.run(
        "t1",
        "SET check_function_bodies = off;
         DO $$ DECLARE one record; form text; n int := 0; BEGIN
             FOR one IN SELECT prosrc FROM pg_proc WHERE proname ~ '^tq_listen_' AND pronamespace = 't2'::regnamespace LOOP
                 FOREACH form IN ARRAY ARRAY['() RETURNS text', '(regclass, uuid) RETURNS text', '(regclass, uuid) RETURNS SETOF boolean',
                     '(text, text) RETURNS boolean', '(regclass) RETURNS boolean', '(regclass, uuid, int) RETURNS boolean', '() RETURNS jsonb'] LOOP
                     n := n + 1;
                     EXECUTE format('CREATE FUNCTION tq_listen_%s%s LANGUAGE plpgsql AS %L', n, form, one.prosrc);
                 END LOOP;
             END LOOP; END $$",
    );
    let calls = site.cluster.rows(
        DB,
        "SELECT format('SELECT t1.%I(%s)', proname, (SELECT string_agg('NULL::' || format_type(x, NULL), ', ') FROM unnest(proargtypes) AS x))
           FROM pg_proc WHERE proname ~ '^tq_listen_' AND pronamespace = 't1'::regnamespace",
    );
    assert_eq!(calls.len(), 14);
    for call in &calls {
        let filled = call
            .get(0)
            .replace("NULL::regclass", "'t2.orders'::regclass")
            .replace("NULL::uuid", "gen_random_uuid()")
            .replace("NULL::text", "'x'::text");
        for call in [call.get(0), &filled] {
            let _ = site.cluster.try_run_as("t1", DB, call);
        }
    }
    // What stands in front of a condition is its owner's: somebody else's of the same text is as any function of theirs.
    site.cluster.run(
        DB,
        "CREATE SCHEMA shop; CREATE TABLE shop.orders (id int);
         DO $$ DECLARE text text := prosrc FROM pg_proc WHERE proname ~ '^tq_listen_' AND pronamespace = 't2'::regnamespace AND prorettype = 'bool'::regtype;
         BEGIN EXECUTE format('CREATE FUNCTION shop.tq_listen_theirs(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS %L', text); END $$;
         ALTER FUNCTION shop.tq_listen_theirs(int) OWNER TO t1",
    );
    let sql =
        "SELECT tq_listen_table('shop.orders', 'see', events => '{insert}', only_if => 'shop.tq_listen_theirs(NEW.id)', tenant => 't2')";
    assert_eq!(site.cluster.try_run_as("postgres", DB, sql).expect_err("t1's function").code, "42501");
    // A trigger of somebody else's listener on one's own table.
    site.run("t1", "CREATE TABLE mine (id int)");
    site.cluster.run(DB, "GRANT USAGE ON SCHEMA t2 TO t1");
    site.run(
        "t1",
        "DO $$ DECLARE theirs text := regexp_replace(pg_get_triggerdef(oid), ' ON .*EXECUTE', ' ON t1.mine FOR EACH ROW EXECUTE') FROM pg_trigger WHERE tgrelid = 't2.orders'::regclass;
         BEGIN EXECUTE theirs; END $$; INSERT INTO mine VALUES (1)",
    );
    assert_eq!(site.number("SELECT count(*) FROM t2.tq_task") + site.number("SELECT count(*) FROM t2.tq_result"), 0);
    site.run("t2", "INSERT INTO orders VALUES (0), (1)");
    site.cluster.wait_until(DB, "SELECT count(*) = 1 FROM t2.tq_result WHERE state = 'd'");
    site.cluster.assert_log_clean();
}
