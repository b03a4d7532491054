//! Listeners to tables with a unique_key: many changes are one task, none of them is lost, and no writer waits for another.

use crate::site::{DB, Site};
use cluster::Stop;
use std::thread;

/// A tenant with a table of orders, and `refresh`, which notes how many there are.
fn site(tenant: &str, task: &str) -> Site {
    let site = Site::start("", &[tenant]);
    site.run(
        tenant,
        "CREATE TABLE orders (id int GENERATED ALWAYS AS IDENTITY, writer int);
         CREATE TABLE seen (orders bigint, n int GENERATED ALWAYS AS IDENTITY);
         CREATE FUNCTION refresh(change jsonb) RETURNS void LANGUAGE sql AS 'INSERT INTO seen SELECT count(*) FROM orders';
         SELECT tq_register('refresh')",
    );
    site.run(tenant, &format!("SELECT tq_listen_table('orders', 'refresh', task => '{task}')"));
    site
}

fn waiting(site: &Site) -> i64 {
    site.number("SELECT count(*) FROM t1.tq_task WHERE state <> 'l'")
}

#[test]
fn a_change_that_commits_after_the_run_has_begun_is_seen_by_another() {
    let site = site("t1", r#"{"unique_key": "refresh", "on_conflict": "skip"}"#);
    let (mut slow, mut fast) = (site.client("t1"), site.client("t1"));
    slow.batch_execute("BEGIN; INSERT INTO orders DEFAULT VALUES").expect("a change");
    // Somebody else's doesn't wait for it, and is served.
    fast.batch_execute("SET lock_timeout = '2s'; INSERT INTO orders DEFAULT VALUES").expect("nobody waits");
    site.cluster.wait_until(DB, "SELECT (SELECT max(orders) FROM t1.seen) = 1");
    // What a transaction changes is one task, and what a savepoint took back is none.
    slow.batch_execute(
        "INSERT INTO orders SELECT FROM generate_series(1, 9);
         SAVEPOINT s; INSERT INTO orders DEFAULT VALUES; ROLLBACK TO s; UPDATE orders SET writer = 1",
    )
    .expect("more changes");
    let own: i64 = slow.query_one("SELECT count(*) FROM tq_task", &[]).expect("own tasks").get(0);
    assert_eq!(own, 1);
    site.wait_idle(&["t1"]);
    slow.batch_execute("COMMIT").expect("commit");
    site.cluster.wait_until(DB, "SELECT (SELECT max(orders) FROM t1.seen) = 11");
    site.wait_idle(&["t1"]);
    assert_eq!(site.number("SELECT count(*) FROM t1.seen"), 2);
    // A task that only a savepoint had enqueued is gone with it.
    slow.batch_execute("BEGIN; SAVEPOINT s; INSERT INTO orders DEFAULT VALUES; ROLLBACK TO s; INSERT INTO orders DEFAULT VALUES; COMMIT")
        .expect("after a savepoint");
    site.cluster.wait_until(DB, "SELECT (SELECT max(orders) FROM t1.seen) = 12");
}

#[test]
fn what_waits_is_done_by_the_one_that_begins() {
    let site = site("t1", r#"{"unique_key": "refresh"}"#);
    site.run(
        "t1",
        "CREATE OR REPLACE FUNCTION refresh(change jsonb) RETURNS void LANGUAGE sql AS
        $$ INSERT INTO seen SELECT count(*) FROM orders; SELECT public.gate('refresh') $$",
    );
    let change = || site.run("t1", "INSERT INTO orders DEFAULT VALUES");
    change();
    site.cluster.wait_until(DB, "SELECT EXISTS (SELECT FROM tq_running WHERE handler = 'refresh')");
    (0..5).for_each(|_| change());
    // One at a time.
    assert_eq!((waiting(&site), site.number("SELECT count(*) FROM tq_running")), (6, 1));
    site.open_gate();
    site.cluster.wait_until(DB, "SELECT (SELECT max(orders) FROM t1.seen) = 6");
    site.wait_idle(&["t1"]);
    assert_eq!(site.number("SELECT count(*) FROM t1.seen"), 2);
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_result"), 2);
    site.cluster.wait_until(DB, "SELECT queued = 0 FROM tq_tenants WHERE tenant = 't1'");
    site.cluster.assert_log_clean();
}

/// "At most once an hour": those that are not due yet go with the first that is.
#[test]
fn with_a_delay_the_first_that_is_due_stands_for_all() {
    let site = site("t1", r#"{"unique_key": "refresh", "delay": "1 hour"}"#);
    (0..5).for_each(|_| site.run("t1", "INSERT INTO orders DEFAULT VALUES"));
    assert_eq!(waiting(&site), 5);
    let first = site.value("t1", "SELECT id FROM tq_task ORDER BY run_at LIMIT 1");
    site.run("t1", &format!("SELECT tq_update('{first}', run_at => now())"));
    site.wait_ended("t1", &first, 'd');
    assert_eq!((waiting(&site), site.number("SELECT count(*) FROM t1.seen")), (0, 1));
    // The same in somebody's own session.
    (0..5).for_each(|_| site.run("t1", "INSERT INTO orders DEFAULT VALUES"));
    site.run("t1", "SELECT count(*) FROM tq_drain(as_of => now() + interval '1 day')");
    assert_eq!((waiting(&site), site.number("SELECT count(*) FROM t1.seen")), (0, 2));
    assert_eq!(site.number("SELECT max(orders) FROM t1.seen"), 10);
}

/// Whatever writers do beside each other, and however often a run fails, the last one has seen all of it.
#[test]
fn nothing_is_lost_between_writers() {
    let site = site("t1", r#"{"unique_key": "refresh", "retry": {"kind": "fixed", "base": 0.01}, "max_attempts": 1000}"#);
    site.run(
        "t1",
        "CREATE OR REPLACE FUNCTION refresh(change jsonb) RETURNS void LANGUAGE plpgsql AS
         $$ BEGIN INSERT INTO seen SELECT count(*) FROM orders; PERFORM pg_sleep(random() / 50);
            IF random() < 0.2 THEN RAISE 'now and then'; END IF; END $$",
    );
    const WRITERS: i32 = 6;
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let mut client = site.client("t1");
            scope.spawn(move || {
                for n in 0..40 {
                    let change = format!("INSERT INTO orders (writer) VALUES ({writer}); SELECT pg_sleep(random() / 50);");
                    let rest = match (writer + n) % 5 {
                        0 => "ROLLBACK",
                        1 => "SAVEPOINT s; DELETE FROM orders WHERE random() < 0.1; ROLLBACK TO s; COMMIT",
                        2 => "SAVEPOINT s; INSERT INTO orders DEFAULT VALUES; RELEASE s; COMMIT",
                        _ => "COMMIT",
                    };
                    client.batch_execute(&format!("BEGIN; {change} {rest}")).expect("a change");
                }
            });
        }
    });
    site.wait_idle(&["t1"]);
    assert_eq!(site.number("SELECT orders FROM t1.seen ORDER BY n DESC LIMIT 1"), site.number("SELECT count(*) FROM t1.orders"));
    let runs = site.number("SELECT count(*) FROM t1.seen");
    assert!(runs < i64::from(WRITERS) * 32, "{runs} runs are one for each change");
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_result WHERE state <> 'd'"), 0);
    site.cluster.assert_log_clean();
}

/// A tenant with listeners of all kinds: with a condition that uses a function of its own, of statements, of a partitioned table.
fn listened() -> Site {
    let site = Site::start("", &["t1"]);
    site.run(
        "t1",
        "CREATE TABLE orders (id int PRIMARY KEY, total int); CREATE TABLE parts (id int) PARTITION BY RANGE (id);
         CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
         CREATE FUNCTION large(int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 > 100';
         CREATE FUNCTION see(change jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT change';
         CREATE FUNCTION see_all(change jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT change';
         SELECT tq_register('see'), tq_register('see_all');
         SELECT tq_listen_table('orders', 'see', events => '{insert,update}', only_if => 'large(NEW.total) AND NEW.id <> 0', task => '{\"name\": \"it''s\"}');
         SELECT tq_listen_table('orders', 'see_all', each => 'statement', events => '{insert,delete,truncate}');
         SELECT tq_listen_table('parts', 'see')",
    );
    site
}

/// What psql says on its error output, of statements in one session.
fn said(site: &Site, database: &str, statements: &[&str]) -> String {
    let mut psql = site.cluster.program("psql");
    psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", database]);
    statements.iter().for_each(|statement| {
        psql.args(["-c", statement]);
    });
    let output = psql.output().expect("psql");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

/// The same of a dump that is restored.
fn restored(site: &Site, user: &str, database: &str, dump: &str) -> String {
    let file = std::env::temp_dir().join(format!("listeners.{}.{database}.sql", std::process::id()));
    std::fs::write(&file, dump).expect("a file");
    let mut psql = site.cluster.program("psql");
    let output = psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", user, "-d", database, "-o", "/dev/null", "-f"]).arg(&file).output();
    let output = output.expect("psql");
    let _ = std::fs::remove_file(&file);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

fn triggers(site: &Site, database: &str) -> i64 {
    site.cluster.number(database, "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal AND tgparentid = 0 AND tgname ~ '^tq_listen_'")
}

const CHANGES: &[&str] =
    &["INSERT INTO t1.orders VALUES (1, 1000), (2, 5)", "INSERT INTO t1.orders VALUES (3, 1000)", "INSERT INTO t1.parts VALUES (1)"];

#[test]
fn a_dump_of_one_schema_restores_anywhere() {
    let site = listened();
    let dump = site.cluster.program("pg_dump").args(["-n", "t1", "-d", DB]).output().expect("pg_dump");
    let dump = String::from_utf8(dump.stdout).expect("a dump");
    assert!(!dump.contains("EXECUTE FUNCTION tenant_q"), "{dump}");

    // Without the extension, and as its owner: nothing is said, and rows are written.
    site.cluster.run(DB, "CREATE DATABASE bare OWNER t1");
    assert_eq!(restored(&site, "t1", "bare", &dump), "");
    assert_eq!(said(&site, "bare", CHANGES), "");
    assert_eq!(site.cluster.number("bare", "SELECT count(*) FROM t1.orders"), 3);

    // With the extension each trigger says once in a session that nobody listens, and rows are written.
    site.cluster.run(DB, "CREATE DATABASE other");
    site.cluster.run("other", "CREATE EXTENSION tenant_q");
    restored(&site, "postgres", "other", &dump);
    let told = said(&site, "other", CHANGES);
    assert_eq!((told.matches("WARNING").count(), told.matches("is of no listener").count()), (3, 3), "{told}");
    assert_eq!(site.cluster.number("other", "SELECT (SELECT count(*) FROM t1.orders) + (SELECT count(*) FROM t1.tq_task)"), 3);

    // tq_attach says which there are, and how they are declared again; that takes their place.
    let told = said(&site, "other", &["SELECT tq_attach('t1', adopt => true)"]);
    let calls: Vec<&str> = told
        .lines()
        .filter(|line| line.starts_with("HINT:"))
        .flat_map(|line| line.split("; "))
        .filter(|part| part.contains("tq_listen_table("))
        .collect();
    assert_eq!(calls.len(), 3, "{told}");
    assert_eq!(triggers(&site, "other"), 8);
    let register = "SELECT tq_register('see', tenant => 't1'), tq_register('see_all', tenant => 't1')";
    said(&site, "other", &[register]);
    for call in &calls {
        let call = &call[call.find("SELECT").expect("a call")..];
        said(&site, "other", &[call.trim_end_matches(';')]);
    }
    assert_eq!(triggers(&site, "other"), 8);
    assert_eq!(said(&site, "other", &["TRUNCATE t1.orders", CHANGES[0], CHANGES[2]]), "");
    site.cluster.wait_until("other", "SELECT count(*) = 4 AND min(state::text) = 'd' FROM t1.tq_result");
    assert_eq!(site.cluster.number("other", "SELECT count(*) FROM t1.tq_result WHERE name = 'it''s'"), 1);

    // Where the handler is known, tq_attach declares them again by itself.
    site.cluster.run(DB, "CREATE DATABASE third");
    site.cluster.run("third", "CREATE EXTENSION tenant_q");
    restored(&site, "postgres", "third", &dump);
    site.cluster.run(
        "third",
        "CREATE FUNCTION public.see(change jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT change';
         SELECT tq_register(h, function => 'public.see(jsonb)', shared => true) FROM unnest('{see,see_all}'::text[]) h",
    );
    assert_eq!(said(&site, "third", &["SELECT tq_attach('t1', adopt => true)", CHANGES[0]]), "");
    assert_eq!(triggers(&site, "third"), 8);
    site.cluster.wait_until("third", "SELECT count(*) = 2 FROM t1.tq_result");

    // The extension goes: what stays is said, and stays writable.
    let told = said(&site, "third", &["DROP EXTENSION tenant_q"]);
    assert!(told.contains("schemas that are attached: 1,") && told.contains("tables that are listened to: 2,"), "{told}");
    assert_eq!(said(&site, "third", CHANGES.get(1..).expect("changes")), "");
    assert_eq!(said(&site, "third", &["CREATE EXTENSION tenant_q"]), "");
    assert!(said(&site, "third", &["INSERT INTO t1.parts VALUES (3)"]).contains("is of no listener"));
    site.cluster.assert_log_clean();
}

#[test]
fn listeners_leave_nothing_behind() {
    let site = listened();
    let functions = || site.number("SELECT count(*) FROM pg_proc WHERE proname ~ '^tq_listen_' AND pronamespace = 't1'::regnamespace");
    assert_eq!(functions(), 4, "one a listener, and one in front of a condition");
    assert_eq!(
        site.number(
            "SELECT count(*) FROM pg_proc WHERE proname ~ '^tq_listen_' AND proowner <> 't1'::regrole AND pronamespace = 't1'::regnamespace"
        ),
        0
    );
    site.run("t1", "SELECT tq_listen_table('orders', 'see', events => '{delete}')");
    assert_eq!((functions(), triggers(&site, DB)), (3, 7));
    site.run("t1", "SELECT tq_unlisten_table('orders', 'see'), tq_unlisten_table('orders', 'see_all'), tq_unlisten_table('parts', 'see')");
    assert_eq!((functions(), triggers(&site, DB)), (0, 0));
    // A table whose owner may create nothing in its schema.
    site.cluster.run(
        DB,
        "CREATE SCHEMA shop; CREATE TABLE shop.items (id int); ALTER TABLE shop.items OWNER TO t1; GRANT USAGE ON SCHEMA shop TO t1",
    );
    site.run("t1", "SELECT tq_listen_table('shop.items', 'see'); INSERT INTO shop.items VALUES (1)");
    site.cluster.wait_until(DB, "SELECT count(*) = 1 FROM t1.tq_result WHERE handler = 'see'");
}

/// A server that doesn't load the library in every session any more.
#[test]
fn without_the_library_no_change_is_lost() {
    let site = listened();
    site.cluster.append_settings("shared_preload_libraries = ''");
    site.cluster.restart(Stop::Fast);
    let mut client = site.client("t1");
    let refused = client.batch_execute(CHANGES[0]).expect_err("nobody would be told");
    assert_eq!(refused.code().map(|code| code.code()), Some("55000"), "{refused:?}");
    client.batch_execute(CHANGES[0]).expect("it is loaded by now");
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_task"), 2);
    // Listeners that are declared there need no other: what they call loads it.
    client.batch_execute("CREATE TABLE plain (id int); SELECT tq_listen_table('plain', 'see')").expect("a listener");
    site.run("t1", "INSERT INTO plain VALUES (1)");
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_task"), 3);
}
