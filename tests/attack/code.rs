//! Code that a tenant attaches to what others do: a type's CHECK, a cast, a listener. It runs in a session of the tenant's
//! role, or not at all.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::site::{DB, Site};

/// `t1.trap()` writes down whose session it is in, and what it sees there. It is behind the type `t1.d`, which the
/// handler `typed(d)` and the listener `hears(d)` take.
const TRAP: &str = "
    CREATE FUNCTION t1.trap(v jsonb) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO public.trapped (sess, who, secret, what) VALUES (session_user, current_user, current_setting('app.secret', true), v);
        IF session_user <> 't1' THEN PERFORM pg_sleep(3600); END IF;
        RETURN v IS DISTINCT FROM '\"unfit\"'; END $$;
    CREATE DOMAIN t1.d AS jsonb CHECK (t1.trap(VALUE));
    CREATE FUNCTION t1.typed(v d) RETURNS void LANGUAGE sql AS $$ SELECT $$;
    CREATE FUNCTION t1.hears(doc d) RETURNS void LANGUAGE sql AS $$ SELECT $$;
    SELECT tq_register(h) FROM unnest('{typed,hears}'::text[]) AS h;";

fn trapped(site: &Site) {
    site.cluster.run(
        DB,
        "CREATE TABLE public.trapped (sess text, who text, secret text, what jsonb, at timestamptz DEFAULT clock_timestamp());
         GRANT SELECT, INSERT ON public.trapped TO PUBLIC",
    );
    site.run("t1", TRAP);
}

/// Whose sessions the trap has run in.
fn sessions(site: &Site) -> String {
    site.cluster.value(DB, "SELECT string_agg(DISTINCT sess || ' as ' || who, ', ') FROM trapped")
}

#[test]
fn whoever_writes_down_that_an_executor_was_ended_runs_nothing_of_its_tenants() {
    let site = Site::start("tenant_q.allow_superuser = on\n", &["t1", "t2"]);
    trapped(&site);
    site.cluster.run(DB, "CREATE SCHEMA su; SELECT tq_attach('su'); SELECT tq_register('ok', tenant => 'su')");
    // Cancels are swallowed, so that its timeout has to end the executor: the end is another one's to write down.
    site.run(
        "t1",
        "CREATE FUNCTION stubborn() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
            LOOP BEGIN PERFORM pg_sleep(600); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$;
         SELECT tq_register('stubborn', max_attempts => 1, timeout => '100 ms');
         SELECT tq_on('failed', 'hears'), tq_on('attempt_failed', 'hears')",
    );
    site.cluster.run(DB, "ALTER ROLE t2 SET app.secret = 'the secret of t2'");
    let stubborn = site.value("t1", "SELECT tq_async('stubborn', on_failure => 'hears')");
    site.wait_running(&stubborn);
    let ended = format!("SELECT EXISTS (SELECT FROM t1.tq_result WHERE id = '{stubborn}' AND state = 'f')");
    // Executors of another tenant and of the superuser come by all the time.
    let mut n = 0;
    cluster::wait_for("the end to be written down", Duration::from_secs(30), || {
        n += 1;
        site.enqueue("t2", "ok", &format!("[\"{n}\"]"), "");
        site.cluster.run(DB, &format!("SELECT tq_async('ok', '[\"{n}\"]', tenant => 'su')"));
        site.cluster.value(DB, &ended) == "t"
    });
    site.wait_idle_within(Duration::from_secs(20), &["t1", "t2", "su"]);
    assert_eq!(sessions(&site), "t1 as t1");
    // Two listeners' tasks and a hook: none was lost.
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_result WHERE handler = 'hears' AND state = 'd'"), 3);
    site.cluster.run(DB, "SET lock_timeout = '5s'; SELECT tq_detach('t1')");
    site.assert_alive("t2");
    site.cluster.assert_log_clean();
}

#[test]
fn a_tenants_code_runs_in_nobody_elses_session() {
    let site = Site::start("tenant_q.enabled = off\ntenant_q.allow_superuser = on\n", &["t1", "t2"]);
    trapped(&site);
    site.run(
        "t1",
        "SELECT tq_on(e, 'hears', for_handler => 'ok') FROM unnest('{enqueue,cancelled,expired,failed,schedule_fired}'::text[]) AS e;
         CREATE FUNCTION lure() RETURNS uuid SECURITY DEFINER LANGUAGE sql AS $$ SELECT tq_async('typed', '1', tenant => 't1') $$;
         CREATE TABLE items (id integer);
         SELECT tq_listen_table('items', 'typed');
         GRANT USAGE ON SCHEMA t1 TO t2; GRANT INSERT ON items TO t2; GRANT INSERT (handler, args) ON tq_task TO t2;",
    );
    site.cluster.run(DB, "DELETE FROM trapped");
    let typed = "SELECT tq_async('typed', '1', tenant => 't1')";
    let heard = "SELECT tq_async('ok', '[\"x\"]', tenant => 't1')";
    let admin = "SET app.secret = 'of the admin'; SET statement_timeout = '10s';";
    for (who, sql) in [
        ("postgres", format!("{typed}; {heard}")),
        ("postgres", format!("SET ROLE t1; {typed}; {heard}")),
        ("postgres", format!("SET SESSION AUTHORIZATION t1; {typed}; {heard}")),
        ("t2", format!("{typed}; {heard}; SELECT t1.lure()")),
        ("postgres", "SELECT t1.lure()".into()),
        ("t2", "INSERT INTO t1.items VALUES (1)".into()),
        ("postgres", "INSERT INTO t1.items VALUES (1)".into()),
        ("t2", "INSERT INTO t1.tq_task (handler, args) VALUES ('typed', '1'), ('ok', '[\"raw\"]')".into()),
        ("postgres", "SELECT tq_async_many('[{\"handler\": \"typed\", \"args\": 1}, {\"handler\": \"ok\", \"args\": [\"x\"]}]', 't1')".into()),
        ("postgres", "SELECT tq_async_iter('typed', '{1,2}', tenant => 't1')".into()),
        ("postgres", "SELECT tq_chain('[{\"handler\": \"typed\", \"args\": 1}, {\"handler\": \"ok\", \"args\": [\"x\"]}]', tenant => 't1')".into()),
        ("postgres", "SELECT tq_schedule('s', 'typed', '1 hour', '1', tenant => 't1'); SELECT tq_fire('s', tenant => 't1')".into()),
        ("postgres", "SELECT tq_on('done', 'hears', tenant => 't1')".into()),
        // Ends that are told of, by whom they are written down.
        ("postgres", "SELECT tq_cancel(id, tenant => 't1') FROM (SELECT id FROM t1.tq_task WHERE handler = 'ok' AND state = 'q' LIMIT 1) AS x".into()),
        ("postgres", "SELECT tq_requeue(id, args => '[\"y\"]', tenant => 't1') FROM t1.tq_result WHERE handler = 'ok'".into()),
        ("postgres", "SELECT tq_update(id, args => '2', tenant => 't1') FROM (SELECT id FROM t1.tq_task WHERE handler = 'typed' AND state = 'q' LIMIT 1) AS x".into()),
        // What is only looked at.
        ("postgres", "UPDATE t1.tq_schedule SET args = '\"unfit\"', problem = 'x'; SET search_path = t1, public;
                      TABLE tq_problems; TABLE tq_tasks; TABLE tq_results; TABLE tq_events; TABLE tq_schedules;
                      SELECT tq_why(id) FROM t1.tq_task".into()),
    ] {
        let result = site.cluster.try_run_as(who, DB, &format!("{admin} {sql}"));
        assert_eq!(result.map_err(|e| e.to_string()), Ok(()), "{who}: {sql}");
        assert_eq!(sessions(&site), "", "{who}: {sql}");
    }
    // In a session of its own it is asked at once.
    site.run("t1", typed);
    assert_eq!(site.cluster.try_run_as("t1", DB, "SELECT tq_async('typed', '\"unfit\"')").unwrap_err().code, "23514");
    site.run("t1", heard);
    assert_eq!(sessions(&site), "t1 as t1");
    // The rest when they begin, by executors of that role; the scheduler makes tasks of its own meanwhile.
    site.run("t1", "SELECT tq_unschedule('s'); SELECT tq_schedule('now', 'typed', '1 second', '1', repeats => 1)");
    site.cluster.run(DB, "SELECT tq_async_all('typed', '1', '{t1}')");
    site.cluster.append_settings("tenant_q.enabled = on\ntenant_q.sweep_interval = '1s'");
    site.cluster.reload();
    site.cluster.wait_until(
        DB,
        "SELECT (SELECT run_count FROM t1.tq_schedule) = 1 AND NOT EXISTS (SELECT FROM tq_fanouts WHERE finished_at IS NULL)",
    );
    site.wait_idle(&["t1"]);
    assert_eq!(sessions(&site), "t1 as t1");
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_result WHERE state NOT IN ('d', 'c')"), 0);
    assert_eq!(site.number("SELECT count(*) FROM trapped WHERE secret <> ''"), 0);
    site.cluster.assert_log_clean();
}

#[test]
fn who_listens_to_enqueuing_is_asked_about_every_task_and_once() {
    let site = Site::start("tenant_q.sweep_interval = '1s'\n", &["t1", "t2"]);
    site.cluster.run(
        DB,
        "CREATE ROLE low LOGIN; GRANT low TO t1; GRANT USAGE ON SCHEMA t1 TO low, t2;
         CREATE TABLE asked (k text, sess text DEFAULT session_user, who text DEFAULT current_user);
         GRANT SELECT, INSERT ON asked TO PUBLIC",
    );
    site.run(
        "t1",
        "GRANT INSERT (handler, args) ON tq_task TO t2;
         CREATE FUNCTION may(task jsonb) RETURNS boolean LANGUAGE sql AS
             $$ INSERT INTO public.asked (k) VALUES (task #>> '{args,0}') RETURNING k NOT LIKE 'no%' $$;
         SELECT tq_register('may'); SELECT tq_register('low may', 'may(jsonb)', run_as => 'low');
         SELECT tq_on('enqueue', 'may', for_handler => 'ok');",
    );
    let by_admin = |k: &str| site.cluster.value(DB, &format!("SELECT tq_async('ok', '[\"{k}\"]', tenant => 't1')"));
    let asked = |k: &str| site.cluster.value(DB, &format!("SELECT string_agg(sess || ' as ' || who, ', ') FROM asked WHERE k = '{k}'"));
    // In a session of its own at once, and never again.
    assert_eq!(site.cluster.try_run_as("t1", DB, "SELECT tq_async('ok', '[\"no\"]')").unwrap_err().code, "TQ005");
    let own = site.enqueue("t1", "ok", r#"["own"]"#, "");
    site.wait_ended("t1", &own, 'd');
    assert_eq!(asked("own"), "t1 as t1");
    site.run("t1", &format!("SELECT tq_requeue('{own}')"));
    site.cluster.wait_until(DB, "SELECT count(*) = 2 FROM fx WHERE k = 'own'");
    assert_eq!(asked("own"), "t1 as t1");
    // For others at the start.
    let yes = by_admin("yes");
    site.wait_ended("t1", &yes, 'd');
    assert_eq!(asked("yes"), "t1 as t1");
    site.run("t1", &format!("SELECT tq_requeue('{yes}')"));
    site.cluster.wait_until(DB, "SELECT count(*) = 2 FROM fx WHERE k = 'yes'");
    assert_eq!(asked("yes"), "t1 as t1");
    // A no ends the task, and running it again asks again. What the listener wrote is taken back with its no.
    let no = by_admin("no");
    site.cluster.run_as("t2", DB, "INSERT INTO t1.tq_task (handler, args) VALUES ('ok', '[\"no, raw\"]')");
    for _ in 0..2 {
        site.wait_ended("t1", &no, 'c');
        assert!(site.cluster.value(DB, &format!("SELECT error FROM t1.tq_result WHERE id = '{no}'")).contains("TQ005"));
        site.run("t1", &format!("SELECT tq_requeue('{no}')"));
    }
    site.wait_idle(&["t1"]);
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE k LIKE 'no%'"), 0);
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_result WHERE state = 'c'"), 2);
    // One that runs as another role is asked by an executor of that role, before those of the task's.
    site.run("t1", "SELECT tq_on('enqueue', 'low may', for_handler => 'ok')");
    let both = by_admin("both");
    site.wait_ended("t1", &both, 'd');
    assert_eq!(asked("both"), "low as low, t1 as t1");
    assert_eq!(site.cluster.value(DB, "SELECT sess FROM fx WHERE k = 'both'"), "t1");
    let of_owner = site.enqueue("t1", "ok", r#"["no of both"]"#, "");
    site.wait_ended("t1", &of_owner, 'c');
    site.assert_alive("t1");
    assert_eq!(site.number("SELECT queued FROM tq_tenants WHERE tenant = 't1'"), 0);
    site.cluster.assert_log_clean();
}

#[test]
fn an_argument_that_nobody_could_look_at_fails_its_task_under_the_tasks_timeout() {
    let site = Site::start("", &["t1"]);
    trapped(&site);
    site.run(
        "t1",
        "CREATE DOMAIN endless AS text CHECK (pg_sleep(3600) IS NULL);
         CREATE FUNCTION waits(v endless) RETURNS void LANGUAGE sql AS $$ SELECT $$;
         SELECT tq_register('waits', timeout => '200 ms', max_attempts => 1)",
    );
    let by_admin = |sql: &str| site.cluster.value(DB, &format!("SELECT tq_async({sql}, tenant => 't1')"));
    let unfit = by_admin("'typed', '\"unfit\"', max_attempts => 0");
    let waits = by_admin("'waits', '\"x\"'");
    site.wait_ended("t1", &unfit, 'f');
    assert_eq!(site.counts("t1", &unfit), (1, 0));
    let error = site.cluster.value(DB, &format!("SELECT error FROM t1.tq_result WHERE id = '{unfit}'"));
    assert!(error.contains("23514") && error.contains("not tried again"), "{error}");
    site.wait_ended("t1", &waits, 'f');
    let error = site.cluster.value(DB, &format!("SELECT error FROM t1.tq_result WHERE id = '{waits}'"));
    assert!(error.contains("timeout of 200 ms"), "{error}");
    // PostgreSQL's own types are looked at whoever enqueues.
    site.run("t1", "CREATE FUNCTION counts(n integer) RETURNS void LANGUAGE sql AS $$ SELECT $$; SELECT tq_register('counts')");
    let refused = site.cluster.try_run_as("postgres", DB, "SELECT tq_async('counts', '\"many\"', tenant => 't1')").unwrap_err();
    assert_eq!(refused.code, "22P02");
}

#[test]
fn a_cast_of_a_tenants_does_not_run_where_others_change_a_table_that_is_listened_to() {
    let site = Site::start("tenant_q.enabled = off\n", &["t1"]);
    trapped(&site);
    site.run(
        "t1",
        "CREATE TYPE mood AS ENUM ('good');
         CREATE FUNCTION snoop(m mood) RETURNS json LANGUAGE plpgsql AS $$ BEGIN PERFORM t1.trap('{}'); RETURN '\"snooped\"'; END $$;
         CREATE CAST (mood AS json) WITH FUNCTION snoop(mood);
         CREATE TYPE pair AS (n integer, m mood);
         CREATE TABLE moods (id integer, m mood, ms mood[], p pair, gone integer, t timestamptz);
         ALTER TABLE moods DROP COLUMN gone;
         CREATE FUNCTION changed(doc jsonb) RETURNS void LANGUAGE sql AS $$ SELECT $$; SELECT tq_register('changed');
         SELECT tq_register('changed too', 'changed(jsonb)');
         SELECT tq_listen_table('moods', 'changed'), tq_listen_table('moods', 'changed too', each => 'statement')",
    );
    let insert = "INSERT INTO t1.moods VALUES (1, 'good', '{good}', '(1,good)', '2030-01-01 00:00+00')";
    site.cluster.run(DB, &format!("SET timezone = 'UTC'; {insert}"));
    site.cluster.run(DB, &format!("SET timezone = 'UTC'; SET ROLE t1; {insert}"));
    site.cluster.run_as("t1", DB, &format!("SET timezone = 'UTC'; {insert}"));
    assert_eq!(sessions(&site), "");
    let new = r#"{"m": "good", "p": "(1,good)", "t": "2030-01-01T00:00:00+00:00", "id": 1, "ms": "{good}"}"#;
    assert_eq!(site.cluster.rows(DB, "SELECT DISTINCT coalesce(args -> 'new', args #> '{rows,0,new}') FROM t1.tq_task")[0].get(0), new);
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_task"), 6);
}

#[test]
fn a_table_that_changes_under_a_running_task_is_not_written() {
    let site = Site::start("tenant_q.sweep_interval = '1s'\n", &["t1"]);
    site.run(
        "t1",
        "CREATE FUNCTION looks(k text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
            PERFORM public.ok(k);
            WHILE NOT EXISTS (SELECT FROM public.gate) LOOP PERFORM pg_sleep(0.01); END LOOP;
            -- What the registry's caches knew of the change is taken note of here, and so must not be forgotten.
            PERFORM tenant_q.is_attached('t1'); PERFORM tenant_q.is_attached('t1');
            END $$;
         SELECT tq_register('looks', max_attempts => 1);
         CREATE FUNCTION trap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;",
    );
    let id = site.enqueue("t1", "looks", r#"["x"]"#, "");
    site.wait_running(&id);
    site.run("t1", "CREATE TRIGGER z AFTER DELETE ON tq_task FOR EACH ROW EXECUTE FUNCTION trap()");
    site.open_gate();
    site.cluster.wait_until(DB, "SELECT EXISTS (SELECT FROM tq_problems WHERE what LIKE '%t1%')");
    site.cluster.wait_until(DB, "SELECT NOT EXISTS (SELECT FROM tq_running)");
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_result"), 0, "it was completed all the same");
    assert_eq!(site.number("SELECT count(*) FROM fx"), 0);
    site.run("t1", "DROP TRIGGER z ON tq_task");
    site.wait_ended("t1", &id, 'd');
    site.assert_once(1);
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory of the sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// What calls others' code, and SQL beside the registry's own. In `src/postgres` only the calls of PostgreSQL's themselves.
const OUTSIDE: [&str; 11] = [
    "MayRunCode::in_attempt",
    "MayRunCode::at_enqueue",
    "invoke::call(",
    "invoke::call_procedure(",
    "arguments::bind(",
    "condition::is_true",
    "document::convert",
    "fire_deferred(",
    "deferred::fire(",
    "declared.fire(",
    "sandbox::as_owner(",
];
const CALLS: [&str; 9] = [
    "fn_addr",
    "evalfunc",
    "InputFunctionCall(",
    "OutputFunctionCall(",
    "FunctionCall1Coll(",
    "ExecuteCallStmt(",
    "ExecMakeFunctionResultSet(",
    "SPI_execute(",
    "Spi::",
];

/// Files of `src/postgres` that call functions of PostgreSQL's by these ways, and how that can run nobody's code.
const INSIDE: [(&str, &str); 17] = [
    ("src/postgres/call.rs", "InputFunctionCall("),                     // built-in types
    ("src/postgres/condition.rs", "SPI_execute("),                      // with leave
    ("src/postgres/function/execute.rs", "fn_addr"),                    // with leave
    ("src/postgres/function/execute.rs", "evalfunc"),                   // with leave
    ("src/postgres/foreign/run.rs", "evalfunc"),                        // expressions of the statement that reads, as its executor does
    ("src/postgres/function/execute.rs", "FunctionCall1Coll("),         // with leave; of rows without casts, changes.rs
    ("src/postgres/function/execute.rs", "ExecuteCallStmt("),           // with leave
    ("src/postgres/function/execute.rs", "ExecMakeFunctionResultSet("), // with leave
    ("src/postgres/function/document.rs", "fn_addr"),                   // built-in types, or with leave
    ("src/postgres/function/document.rs", "InputFunctionCall("),        // built-in types
    ("src/postgres/function/document.rs", "FunctionCall1Coll("),        // built-in functions
    ("src/postgres/function/changes.rs", "OutputFunctionCall("),        // those of base types are superusers'
    ("src/postgres/types.rs", "FunctionCall1Coll("),                    // jsonb_in
    ("src/postgres/types.rs", "InputFunctionCall("),                    // numeric_in
    ("src/postgres/stand_in.rs", "fn_addr"),                            // our own functions
    ("src/postgres/portals.rs", "Spi::"),                               // catalogs, under a path of nobody's
    ("src/postgres/session.rs", "Spi::"),                               // built-in functions of no arguments, by their schema
];

#[test]
fn every_place_that_can_run_others_code_is_known() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    rust_files(&root.join("src"), &mut files);
    let name = |path: &Path| path.strip_prefix(&root).expect("below the root").to_str().expect("a name").to_owned();
    // The list is the table in the head of the file that everybody has to come to.
    let list = fs::read_to_string(root.join("src/postgres/code.rs")).expect("src/postgres/code.rs");
    let cells =
        |line: &str| line.trim_start_matches("//! |").split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect::<Vec<_>>();
    let known: BTreeSet<(String, String)> =
        list.lines().filter(|l| l.starts_with("//! | src/")).map(cells).map(|c| (c[0].clone(), c[1].clone())).collect();
    let mut found = BTreeSet::new();
    let mut inside = BTreeSet::new();
    for path in &files {
        let (file, text) = (name(path), fs::read_to_string(path).expect("a source"));
        let code: Vec<&str> =
            text.lines().map(str::trim).filter(|l| !l.starts_with("//") && !l.contains(" fn ") && !l.starts_with("fn ")).collect();
        let has = |pattern: &str| code.iter().any(|line| line.contains(pattern));
        if file.starts_with("src/postgres/") {
            inside.extend(CALLS.iter().filter(|p| has(p)).map(|p| (file.clone(), p.to_string())));
        } else {
            found.extend(OUTSIDE.iter().filter(|p| has(p)).map(|p| (file.clone(), p.to_string())));
        }
    }
    assert_eq!(known, found, "the list in src/postgres/code.rs says where others' code can run, and in whose session");
    let expected: BTreeSet<(String, String)> = INSIDE.iter().map(|(file, call)| (file.to_string(), call.to_string())).collect();
    // SET CONSTRAINTS names constraints; it is part of what `declared.fire(` stands for.
    inside.remove(&("src/postgres/deferred.rs".into(), "Spi::".into()));
    assert_eq!(expected, inside, "calls of functions in src/postgres: of PostgreSQL's own, or with leave");
    // With leave: every way to a call takes it.
    for (file, way) in [
        ("src/postgres/function/execute.rs", "pub fn single("),
        ("src/postgres/function/execute.rs", "pub fn rows("),
        ("src/postgres/function/execute.rs", "pub fn procedure("),
        ("src/postgres/function/execute.rs", "pub fn procedure_with_transactions("),
        ("src/postgres/condition.rs", "pub fn is_true("),
        ("src/handler/invoke.rs", "pub fn call("),
        ("src/handler/invoke.rs", "pub fn call_procedure("),
        ("src/handler/arguments.rs", "pub fn bind("),
    ] {
        let text = fs::read_to_string(root.join(file)).expect("a source");
        let line = text.lines().find(|l| l.starts_with(way)).unwrap_or_else(|| panic!("{way} in {file}"));
        assert!(line.contains("code: &MayRunCode"), "{file}: {line}");
    }
}
