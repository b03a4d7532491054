//! PostgreSQL's own pg_upgrade: a hundred tenants, their queues full, from one major version to the next, as
//! docs/upgrading.md has it.
//!
//! Needs servers of several majors with the extension, which scripts/pg-upgrade sets up and names in `TENANT_Q_PG_BIN_15`
//! and its kin: the directories of their programs. One that is missing fails the test.

use cluster::{Cluster, Stop, site::DB, wait_for};
use std::fs;
use std::path::PathBuf;

/// Each with its tenants: t1, t2, … What is confirmed in one database isn't in the other.
type Databases = [(&'static str, i64); 2];
const SETTINGS: &str = "tenant_q.max_executors = 6\nautovacuum = off\n";

fn bin(major: u32) -> PathBuf {
    let name = format!("TENANT_Q_PG_BIN_{major}");
    let bin = PathBuf::from(std::env::var_os(&name).unwrap_or_else(|| panic!("{name} is not set: scripts/pg-upgrade sets it")));
    assert!(bin.join("pg_upgrade").exists(), "there is no pg_upgrade of PostgreSQL {major} in {}", bin.display());
    bin
}

/// What every database has.
const COMMON: &str = "
    CREATE EXTENSION tenant_q;
    CREATE TABLE public.fx (tenant text DEFAULT current_schema(), k text, who text DEFAULT current_user,
        major integer DEFAULT current_setting('server_version_num')::integer / 10000);
    GRANT INSERT, SELECT ON public.fx TO PUBLIC;
    CREATE FUNCTION public.ok(k text) RETURNS text LANGUAGE sql AS $$ INSERT INTO public.fx (k) VALUES (k) RETURNING k $$;
    CREATE FUNCTION public.bad(k text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'bad %', k; END $$;";

/// Roles are the cluster's.
const ROLES: &str = "CREATE ROLE clerk LOGIN; CREATE ROLE app LOGIN; CREATE ROLE oncall LOGIN;
    DO $$ BEGIN FOR n IN 1..100 LOOP EXECUTE format('CREATE ROLE t%s LOGIN IN ROLE clerk', n); END LOOP; END $$;";

/// Statements as the owner of each tenant, its schema first on the path, and a COMMIT.
fn in_each(tenants: i64, statements: &str) -> String {
    format!(
        "DO $do$ DECLARE t text; BEGIN FOR n IN 1..{tenants} LOOP
             t := 't' || n; EXECUTE format('SET LOCAL ROLE %I', t); EXECUTE format('SET LOCAL search_path = %I, public', t);
             {statements}
             COMMIT;
         END LOOP; END $do$"
    )
}

/// Tenants whose handlers are the database's, their own, and another role's; what may be set up for one, and rights of others.
fn set_up(cluster: &Cluster, (database, tenants): (&str, i64)) {
    cluster.run(
        database,
        &format!(
            "{COMMON} DO $$ BEGIN FOR n IN 1..{tenants} LOOP EXECUTE format('CREATE SCHEMA t%s AUTHORIZATION t%1$s', n);
                 EXECUTE format('GRANT USAGE ON SCHEMA t%s TO clerk', n); END LOOP; END $$"
        ),
    );
    cluster.run(
        database,
        &in_each(
            tenants,
            "CREATE FUNCTION own(k text) RETURNS text LANGUAGE sql AS $$ SELECT public.ok(k) $$;
             CREATE TABLE orders (id integer);
             CREATE FUNCTION see(change jsonb) RETURNS void LANGUAGE sql AS $$ SELECT public.ok('order ' || (change #>> '{new,id}')) $$;
             CREATE FUNCTION heard(event jsonb) RETURNS void LANGUAGE sql AS $$ SELECT public.ok('heard ' || (event ->> 'name')) $$;
             PERFORM tq_attach();
             PERFORM tq_set_tenant(timezone => 'Europe/Berlin', settings => '{\"work_mem\": \"5MB\"}');
             PERFORM tq_register('ok', queue => 'q'); PERFORM tq_register('bad', max_attempts => 1); PERFORM tq_register('own');
             PERFORM tq_register('clerk', 'public.ok(text)', run_as => 'clerk');
             PERFORM tq_register('see'); PERFORM tq_register('heard');
             PERFORM tq_set_queue('q', max_running => 3); PERFORM tq_set_limit('l', rate => '100/s');
             PERFORM tq_on('done', 'heard', for_handler => 'own');
             PERFORM tq_listen_table('orders', 'see');
             PERFORM tq_grant('app', '{enqueue,read}');
             PERFORM tq_schedule('yearly', 'ok', '@yearly', args => '[\"yearly\"]');
             PERFORM tq_async('ok', '[\"before\"]'); PERFORM tq_async('bad', '[\"before\"]');",
        ),
    );
    cluster.run(database, "CALL tq_grant_all('oncall', '{operate}')");
    cluster.wait_until(database, &format!("SELECT count(*) = {tenants} FROM fx"));
    for n in 1..=tenants {
        cluster.wait_until(database, &format!("SELECT count(*) = 2 FROM t{n}.tq_result"));
    }
}

/// Effects of what [`fill`] leaves in a tenant, each of which happens once.
const EFFECTS: [&str; 9] = ["queued", "own", "heard own", "clerk", "delayed", "first", "second", "once", "order 7"];

/// Work of each kind in each tenant, which nobody does yet: queued, delayed till it is due soon or never, waiting for another,
/// of a schedule that fires while the server is down, of a table's listener.
fn fill(cluster: &Cluster, (database, tenants): (&str, i64)) {
    cluster.run(
        database,
        &in_each(
            tenants,
            "PERFORM tq_async('ok', '[\"queued\"]', unique_key => 'u', limit_key => 'l', lock => 'k', meta => '{\"a\": [1, \"ü\"]}');
             PERFORM tq_async('own', '[\"own\"]', name => 'own'); PERFORM tq_async('clerk', '[\"clerk\"]');
             PERFORM tq_async('ok', '[\"delayed\"]', delay => '2 seconds'); PERFORM tq_async('ok', '[\"later\"]', delay => '300 days');
             PERFORM tq_chain('[{\"handler\": \"ok\", \"args\": [\"first\"]}, {\"handler\": \"ok\", \"args\": [\"second\"]}]');
             PERFORM tq_schedule('once', 'ok', (now() + interval '2 seconds')::text, args => '[\"once\"]', on_conflict => 'replace');
             INSERT INTO orders VALUES (7);",
        ),
    );
}

/// What is in each of the tenants' tables and of the registry's.
fn rows(cluster: &Cluster, database: &str) -> Vec<String> {
    let tables = "SELECT c.oid::regclass::text FROM pg_class AS c
         WHERE c.relkind = 'r' AND (c.relname ~ '^tq_(task|result|schedule)$' OR c.relnamespace = 'tenant_q'::regnamespace) ORDER BY 1";
    let sums = cluster.rows(database, tables).into_iter().map(|row| {
        let table = row.get(0);
        format!("SELECT '{table} ' || count(*) || ' ' || coalesce(md5(string_agg(x::text, E'\\n' ORDER BY x::text)), '') FROM {table} AS x")
    });
    let sums: Vec<_> = sums.collect();
    let mut rows: Vec<_> = cluster.rows(database, &sums.join(" UNION ALL ")).iter().map(|row| row.get(0).to_owned()).collect();
    rows.sort();
    rows
}

fn nobody_works(cluster: &Cluster) -> bool {
    cluster.pids("tenant_q executor").is_empty() && cluster.pids("tenant_q scheduler").is_empty()
}

/// PostgreSQL's minor releases of November 2026 note a version in each new column's options. pg_upgrade to a server that is
/// older than they are, as those of PyPI are, stops at it; then the old cluster's tables are as if made before that release.
fn forget_column_versions(old: &Cluster, new: &Cluster, databases: &Databases) {
    let knows = |cluster: &Cluster| {
        let server = fs::read(cluster.bin().join("postgres")).expect("the server's program");
        server.windows(9).any(|bytes| bytes == b"pg_attver")
    };
    if knows(old) && !knows(new) {
        for (database, _) in databases {
            old.run(
                database,
                "UPDATE pg_attribute SET attoptions = nullif(ARRAY(SELECT o FROM unnest(attoptions) AS o WHERE o !~ '^pg_attver='), '{}')
                  WHERE attoptions::text ~ 'pg_attver='",
            );
        }
    }
}

/// Stops the old server, and makes its databases the new one's. Returns the new one, started.
fn upgrade(old: &Cluster, major: u32, databases: &Databases) -> Cluster {
    // 18 makes clusters with checksums unless one says otherwise, and both must be alike.
    let new = Cluster::create_with(&bin(major), if major < 18 { &[] } else { &["--no-data-checksums"] }, SETTINGS);
    forget_column_versions(old, &new, databases);
    old.stop(Stop::Fast);
    // From here on nothing keeps a server that is started from working but the way in which pg_upgrade starts it.
    old.append_settings("tenant_q.enabled = on");
    let pg_upgrade = |more: &[&str]| {
        let output = new
            .server_program("pg_upgrade")
            .args(["--username=postgres", "--jobs=2", "--no-sync", "--retain", "--old-bindir"])
            .arg(old.bin())
            .arg("--new-bindir")
            .arg(new.bin())
            .arg("--old-datadir")
            .arg(old.data())
            .arg("--new-datadir")
            .arg(new.data())
            .arg("--socketdir")
            .arg(new.socket())
            .args(more)
            .output()
            .expect("pg_upgrade");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "pg_upgrade {more:?}: {said}{}\n{}", String::from_utf8_lossy(&output.stderr), errors(&logs(&new)));
        said
    };
    assert!(pg_upgrade(&["--check"]).contains("*Clusters are compatible*"));
    pg_upgrade(&[]);
    let logs = logs(&new);
    assert!(logs.contains("database system is ready to accept connections"), "the servers' logs are there");
    let ours: Vec<_> = logs
        .lines()
        .filter(|line| line.contains("] tenant_q ") || line.contains("TRAP:") || line.contains("terminated by signal"))
        .collect();
    assert!(ours.is_empty(), "our workers ran during pg_upgrade: {ours:#?}");
    new.server_start();
    new
}

/// What is said to have failed, and a line after it.
fn errors(logs: &str) -> String {
    let lines: Vec<_> = logs.lines().collect();
    let found = lines.windows(2).filter(|two| ["ERROR:", "FATAL:", "error:"].iter().any(|word| two[0].contains(word)));
    found.map(|two| two.join("\n")).collect::<Vec<_>>().join("\n")
}

/// What pg_upgrade and the servers that it started have logged.
fn logs(new: &Cluster) -> String {
    let mut found = String::new();
    let mut directories = vec![new.data().join("pg_upgrade_output.d")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else {
                found += &String::from_utf8_lossy(&fs::read(&path).unwrap_or_default());
            }
        }
    }
    found
}

/// Nothing has run or runs, and in each database it is told why, with the call.
fn assert_waits(cluster: &Cluster, (database, tenants): (&str, i64), effects: i64) {
    cluster.wait_until(database, "SELECT value = 'copy' FROM tq_health() WHERE check_name = 'database'");
    let call = "SELECT tq_confirm_copy()";
    assert_eq!(cluster.value(database, "SELECT hint FROM tq_health() WHERE check_name = 'database'"), format!("{call};"));
    assert_eq!(cluster.value(database, "SELECT fix FROM tq_problems WHERE what = 'this database'"), call);
    assert_eq!(cluster.number(database, "SELECT count(*) FROM fx"), effects, "{database}: what ran");
    assert!(nobody_works(cluster));
    // A schema that has got its old OID by chance takes tasks, as that of any copy.
    for schema in [1, tenants] {
        if let Err(error) =
            cluster.try_run_as("app", database, &format!("BEGIN; SELECT tq_async('ok', '[1]', tenant => 't{schema}'); ROLLBACK"))
        {
            assert!(error.code == "55000" && error.hint.contains(call), "{error}");
        }
    }
}

/// All that [`fill`] has left has happened, once, after so many other effects.
fn assert_done(cluster: &Cluster, major: u32, (database, tenants): (&str, i64), effects: i64) {
    let all = effects + tenants * EFFECTS.len() as i64;
    cluster.wait_until(database, &format!("SELECT count(*) >= {all} FROM fx"));
    let left: Vec<_> = (1..=tenants).map(|n| format!("SELECT FROM t{n}.tq_task WHERE args <> '[\"later\"]'")).collect();
    cluster.wait_until(database, &format!("SELECT NOT EXISTS ({})", left.join(" UNION ALL ")));
    assert_eq!(cluster.number(database, "SELECT count(*) FROM fx"), all, "{database}: what ran");
    for effect in EFFECTS {
        let found = cluster.value(
            database,
            &format!("SELECT concat(count(*), ' in ', count(DISTINCT tenant)) FROM fx WHERE major = {major} AND k = '{effect}'"),
        );
        assert_eq!(found, format!("{tenants} in {tenants}"), "{database}: {effect}");
    }
    assert_eq!(cluster.number(database, "SELECT count(*) FROM fx WHERE who <> CASE WHEN k = 'clerk' THEN 'clerk' ELSE tenant END"), 0);
}

/// Handlers, results, schedules, rights and what is due in some months are there.
fn assert_whole(cluster: &Cluster, (database, tenants): (&str, i64)) {
    for schema in 1..=tenants {
        let handlers = format!(
            "SET search_path = t{schema}, public; SELECT string_agg(handler || ' ' || status, ', ' ORDER BY handler) FROM tq_handlers"
        );
        assert_eq!(cluster.value(database, &handlers), "bad ok, clerk ok, heard ok, ok ok, own ok, see ok");
        for found in ["tq_result WHERE state = 'f' AND handler = 'bad'", "tq_schedule WHERE name = 'yearly' AND next_run > now()"] {
            assert_eq!(cluster.number(database, &format!("SELECT count(*) FROM t{schema}.{found}")), 1, "t{schema}: {found}");
        }
    }
    for schema in [1, tenants] {
        let id = cluster.value_as("app", database, &format!("SELECT tq_async('ok', '[\"by app\"]', tenant => 't{schema}')"));
        let result = cluster.value_as("app", database, &format!("SELECT tq_result('{id}', '10 seconds', tenant => 't{schema}')"));
        assert_eq!(result, "\"by app\"");
        cluster.run_as("oncall", database, &format!("SELECT tq_pause('t{schema}'), tq_resume('t{schema}')"));
    }
    let problems = cluster.rows(database, "SELECT what, reason FROM tq_problems");
    assert!(problems.is_empty(), "{problems:?}");
    let ill = cluster.rows(database, "SELECT check_name, value FROM tq_health() WHERE NOT ok");
    assert!(ill.is_empty(), "{ill:?}");
}

/// From 15 to each of these, one after the other, with new work before each.
fn go(majors: &[u32], databases: Databases) {
    let mut old = Cluster::create_with(&bin(15), &[], SETTINGS);
    old.server_start();
    old.run(DB, ROLES);
    old.run(DB, &format!("CREATE DATABASE {}", databases[1].0));
    for database in databases {
        set_up(&old, database);
    }
    for &major in majors {
        old.append_settings("tenant_q.enabled = off");
        old.reload();
        wait_for("all workers to leave", cluster::PATIENCE, || nobody_works(&old));
        let before = databases.map(|database| {
            fill(&old, database);
            (rows(&old, database.0), old.number(database.0, "SELECT count(*) FROM fx"))
        });
        let new = upgrade(&old, major, &databases);
        assert_eq!(new.number(DB, "SELECT current_setting('server_version_num')::integer / 10000"), i64::from(major));
        for (database, (rows_before, effects)) in databases.into_iter().zip(&before) {
            assert_waits(&new, database, *effects);
            let rows = rows(&new, database.0);
            let changed: Vec<_> = rows_before.iter().zip(&rows).filter(|(before, after)| before != after).collect();
            assert!(changed.is_empty() && rows_before.len() == rows.len(), "{}: {changed:#?}", database.0);
        }
        for (at, database) in databases.into_iter().enumerate() {
            new.run(database.0, "SELECT tq_confirm_copy()");
            assert_done(&new, major, database, before[at].1);
            assert_whole(&new, database);
            // What is still to be confirmed goes on waiting.
            for later in at + 1..databases.len() {
                assert_eq!(new.number(databases[later].0, "SELECT count(*) FROM fx"), before[later].1, "{}", databases[later].0);
            }
        }
        new.assert_log_clean();
        old = new;
    }
}

#[test]
fn a_hundred_tenants_with_work_go_from_15_to_16_to_18() {
    go(&[16, 18], [(DB, 100), ("branch", 1)]);
}

#[test]
fn tenants_with_work_go_from_15_to_17_to_18() {
    go(&[17, 18], [(DB, 3), ("branch", 1)]);
}
