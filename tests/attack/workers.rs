//! Workers outside of the server: what they hold, what they learn, and what lies in the tables of tenants that they work for.

use std::time::{Duration, Instant};

use cluster::{Client, SqlError, wait_for};

use crate::site::{DB, Site};

/// What t1 and t2 have, besides a role `worker` that may work for both.
const MAIL: &str = r#"SELECT tq_register('mail', external => true, params => '[{"name": "k", "type": "text"}, {"name": "n", "type": "bigint", "default": 0}]')"#;

fn start(conf: &str) -> Site {
    let site = Site::start(&format!("tenant_q.sweep_interval = 1s\n{conf}"), &["t1", "t2"]);
    site.cluster.run(DB, "CREATE ROLE worker LOGIN");
    for t in ["t1", "t2"] {
        site.run(t, MAIL);
        site.run(t, "SELECT tq_grant('worker', '{work}')");
    }
    site
}

fn error(client: &mut Client, sql: &str) -> SqlError {
    match client.simple_query(sql) {
        Ok(_) => panic!("it succeeds: {sql}"),
        Err(error) => error.into(),
    }
}

/// Takes `n` tasks; their claims.
fn take(client: &mut Client, n: usize) -> Vec<String> {
    let rows = client.query(&format!("SELECT claim::text FROM tq_take({n})"), &[]).unwrap_or_else(|e| panic!("{}", SqlError::from(e)));
    rows.iter().map(|row| row.get(0)).collect()
}

/// Takes the one task that there is, as soon as it can be taken.
fn take_one(client: &mut Client) -> String {
    let rows = client.query("SELECT claim::text FROM tq_take(1, wait => '10 seconds')", &[]);
    rows.unwrap_or_else(|e| panic!("{}", SqlError::from(e))).first().expect("a task").get(0)
}

fn run(client: &mut Client, sql: &str) {
    client.batch_execute(sql).unwrap_or_else(|e| panic!("{}\n{sql}", SqlError::from(e)));
}

#[test]
fn a_claim_is_of_no_use_to_another_role_and_tells_it_nothing() {
    let site = start("");
    let id = site.enqueue("t1", "mail", r#"["one"]"#, "");
    let mut worker = site.client("worker");
    let claim = take_one(&mut worker);
    let lost = "00000000-0000-4000-8000-000000000001";
    site.enqueue("t2", "mail", r#"["gone"]"#, "");
    let gone = {
        let mut other = site.client("worker");
        take_one(&mut other)
    };
    cluster::wait_for("the claim's end", Duration::from_secs(10), || site.number("SELECT count(*) FROM tq_running") == 1);
    for who in ["t1", "t2", "postgres"] {
        let mut client = site.client(who);
        for (what, claim) in [("foreign", &claim[..]), ("unknown", lost), ("lost", &gone)] {
            for call in [
                format!("tq_finish('{claim}')"),
                format!("tq_finish_many(ARRAY['{claim}']::uuid[])"),
                format!(r#"tq_give_up('{claim}', '{{"message": "no"}}')"#),
                format!("tq_release('{claim}')"),
            ] {
                let error = error(&mut client, &format!("SELECT {call}"));
                assert_eq!(error.code, "TQ007", "{who} {what}: {error}");
                assert_eq!(error.message, format!("claim {claim} is gone, or never was yours"), "{who} {what}");
                assert!(!error.detail.is_empty() && !error.hint.is_empty(), "{who} {what}: {error}");
            }
            let rows = client.query(&format!("SELECT what FROM tq_watch('0', ARRAY['{claim}']::uuid[])"), &[]).expect("tq_watch");
            assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<String>>(), ["lost"], "{who} {what}");
        }
    }
    // Nothing has changed: it is the worker's, in another session of its role, too.
    assert_eq!(site.number("SELECT count(*) FROM tq_running WHERE tenant = 't1'"), 1);
    run(&mut site.client("worker"), &format!("SELECT tq_finish('{claim}')"));
    site.wait_ended("t1", &id, 'd');
    site.cluster.assert_log_clean();
}

#[test]
fn rights_are_asked_when_a_task_is_ended() {
    let site = start("");
    let id = site.enqueue("t1", "mail", r#"["one"]"#, "");
    let mut worker = site.client("worker");
    let claim = take_one(&mut worker);
    site.run("t1", "SELECT tq_revoke('worker', '{work}')");
    for call in [
        format!("SELECT tq_finish('{claim}')"),
        format!(r#"SELECT tq_give_up('{claim}', '{{"message": "no"}}')"#),
        format!("SELECT tq_release('{claim}')"),
    ] {
        assert_eq!(error(&mut worker, &call).code, "42501", "{call}");
        assert_eq!(site.number("SELECT count(*) FROM t1.tq_task"), 1);
        assert_eq!(site.number("SELECT count(*) FROM t1.tq_result"), 0);
        assert_eq!(site.number("SELECT count(*) FROM tq_running WHERE state = 'running'"), 1);
    }
    assert!(take(&mut worker, 10).is_empty());
    site.run("t1", "SELECT tq_grant('worker', '{work}')");
    run(&mut worker, &format!("SELECT tq_finish('{claim}')"));
    site.wait_ended("t1", &id, 'd');
}

#[test]
fn no_view_shows_a_claim() {
    let site = start("");
    site.enqueue("t1", "mail", r#"["one"]"#, "");
    let mut worker = site.client("worker");
    let claim = take_one(&mut worker);
    // Whatever is ours and has no arguments, or only optional ones: to the superuser, who sees most.
    let shown = site.cluster.rows(
        DB,
        "SELECT format('SELECT v::text FROM %s AS v', c.oid::regclass) FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
             AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' WHERE c.relkind IN ('v', 'r')
         UNION ALL SELECT 'SELECT query FROM pg_stat_activity AS v' UNION ALL SELECT 'SELECT v::text FROM pg_locks AS v'
         UNION ALL SELECT 'SELECT v::text FROM t1.tq_task AS v' UNION ALL SELECT 'SELECT v::text FROM tq_health() AS v'
         UNION ALL SELECT format('SELECT tq_why(%L, tenant => ''t1'')::text', id) FROM t1.tq_task",
    );
    assert!(shown.len() > 20, "{shown:?}");
    for of in &shown {
        let rows = site.cluster.try_rows_as("postgres", DB, &format!("SET search_path = t1, public; {}", of.get(0)));
        let rows = rows.unwrap_or_else(|error| panic!("{}: {error}", of.get(0)));
        assert!(!rows.iter().any(|row| row.joined("").contains(&claim)), "{} shows the claim", of.get(0));
    }
    // Nor what its own session has said, until it says it.
    run(&mut worker, &format!("SELECT tq_finish('{claim}')"));
    assert!(!site.cluster.log_contains(&claim));
}

/// Raw rows: any handler, any arguments, anywhere. None comes into a worker's hands that doesn't fit, none keeps another tenant's
/// from it, and nobody is kept busy.
#[test]
fn what_an_owner_writes_into_its_table_is_handed_out_only_where_it_fits() {
    let site = start("tenant_q.worker_lease = 1h\n");
    site.cluster.run(
        DB,
        r#"SELECT tq_register('shared_mail', external => true, shared => true, params => '[{"name": "k", "type": "text"}]');
           SELECT tq_register('plain', external => true, tenant => 't1')"#,
    );
    site.run(
        "t1",
        "CREATE FUNCTION made_up(n int) RETURNS uuid LANGUAGE sql AS $$ SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
         CREATE TABLE key AS SELECT h, tq_async(h, CASE h WHEN 'plain' THEN '{}' ELSE '[\"good\"]' END::jsonb) AS id, NULL::uuid AS run
             FROM unnest('{mail,shared_mail,plain}'::text[]) h;
         UPDATE key SET run = waits_for FROM tq_task t WHERE t.id = key.id",
    );
    assert_eq!(site.number("SELECT count(DISTINCT run) FROM t1.key"), 3);
    site.run(
        "t1",
        r#"-- Of no handler, of a function, of an external one under another's key, under none, under one that is no key of a run.
           INSERT INTO tq_task (id, handler, state, waits_for, args)
               SELECT made_up(row_number() OVER ()::int), h, 'e', run, '["stray"]'
               FROM unnest('{nobody,ok,mail,shared_mail,plain}'::text[]) AS h, (SELECT run FROM key UNION ALL SELECT made_up(1) UNION ALL SELECT gen_random_uuid() UNION ALL SELECT NULL) AS k,
                    generate_series(1, 20);
           -- What doesn't fit, under the right key.
           INSERT INTO tq_task (id, handler, state, waits_for, args, name)
               SELECT made_up(10000 + row_number() OVER ()::int), 'mail', 'e', run, a, 'unfit'
               FROM (SELECT run FROM key WHERE h = 'mail') AS k,
                    unnest(ARRAY['{"k": 1, "n": "x"}', '[]', '{"z": 1}', '["a", 1, 2]', '{"k": "a", "n": 1e400}', '{"k": "a", "n": 9999999999999999999999}', '{"k": {"a": []}, "n": []}']::jsonb[]) AS a;
           -- Megabytes, and documents as deep as they can be.
           INSERT INTO tq_task (id, handler, state, waits_for, args, name)
               SELECT made_up(20000 + row_number() OVER ()::int), h, 'e', run, jsonb_build_object('k', repeat('x', 8000000)), 'large' FROM key, generate_series(1, 2) n WHERE h IN ('mail', 'shared_mail');
           INSERT INTO tq_task (id, handler, state, waits_for, args, name)
               SELECT made_up(30000), 'plain', 'e', run, (repeat('[', 3000) || repeat(']', 3000))::jsonb, 'deep' FROM key WHERE h = 'plain';
           -- Columns that nobody has thought of.
           INSERT INTO tq_task (id, handler, state, waits_for, args, name, options, meta, waits, attempts, crashes, parent_id, queue)
               SELECT made_up(40000 + n), 'mail', 'e', run, '["odd"]', 'odd', (ARRAY['[]', '{"depends": [7]}', '{"each": true}', '{"pass": "nobody"}', '{"only_if": "trap()"}', '{"flow": 7}', '"x"', '{"timeout": "much"}'])[n % 8 + 1]::jsonb,
                      '{"a": 1}', n % 3 - 1, n % 2 * 2000000000, n % 2, CASE WHEN n % 5 = 0 THEN made_up(1) END, CASE WHEN n % 7 = 0 THEN '' END
               FROM key, generate_series(1, 200) n WHERE h = 'mail'"#,
    );
    let mut worker = site.client("worker");
    run(&mut worker, "SET statement_timeout = '20s'");
    let mut slowest = Duration::ZERO;
    let mut handed_out = 0;
    for n in 0..60 {
        let mine = site.enqueue("t2", "mail", &format!(r#"["mine {n}"]"#), "");
        let began = Instant::now();
        wait_for("the neighbour's task", Duration::from_secs(10), || {
            let rows = worker.query("SELECT claim::text, tenant, handler, args::text, name FROM tq_take(10)", &[]);
            let mut found = false;
            for row in rows.unwrap_or_else(|e| panic!("{}", SqlError::from(e))) {
                let of = |n: usize| row.get::<_, Option<String>>(n).unwrap_or_default();
                found |= of(1) == "t2";
                if of(1) == "t1" {
                    handed_out += 1;
                    assert!(["mail", "shared_mail", "plain"].contains(&&of(2)[..]), "{row:?}");
                    assert!(!["unfit", "large", "deep"].contains(&&of(4)[..]), "{} was handed out", of(4));
                    if of(2) != "plain" && !of(3).starts_with('[') {
                        assert!(serde_json::from_str::<serde_json::Value>(&of(3)).expect("a document")["k"].is_string(), "{row:?}");
                    }
                }
                // Some of these can't be finished, for their columns make no sense: they go no further.
                if let Err(error) = worker.batch_execute(&format!("SELECT tq_finish('{}')", of(0))) {
                    assert_eq!(of(1), "t1", "{}", SqlError::from(error));
                }
            }
            found
        });
        slowest = slowest.max(began.elapsed());
        site.wait_ended("t2", &mine, 'd');
    }
    assert!(handed_out > 60, "{handed_out}");
    assert!(slowest < Duration::from_secs(2), "the neighbour waited {slowest:?}");
    // Those that don't fit have failed, and say why; what the server's processes do about the rest comes to an end.
    site.cluster.wait_until(DB, "SELECT count(*) = 0 FROM t1.tq_task WHERE name IN ('unfit', 'large', 'deep')");
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_result WHERE name IN ('unfit', 'large', 'deep') AND state <> 'f'"), 0);
    assert_eq!(
        site.number("SELECT count(*) FROM t1.tq_result WHERE handler IN ('nobody', 'ok') AND state = 'd' AND started_at IS NULL"),
        0
    );
    assert_calm(&site);
    drop(worker);
    site.assert_alive("t1");
    site.cluster.assert_log_clean();
}

/// Nobody is kept busy: what the server's processes and the workers' sessions use of the CPU within three seconds.
fn assert_calm(site: &Site) {
    let pids = "SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'tenant_q%' OR backend_type = 'client backend' AND pid <> pg_backend_pid()";
    let ticks = || -> u64 {
        let of = |pid: &str| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let fields: Vec<u64> = stat.rsplit(')').next().unwrap_or("").split_whitespace().map(|f| f.parse().unwrap_or(0)).collect();
            fields.get(11).unwrap_or(&0) + fields.get(12).unwrap_or(&0)
        };
        site.cluster.rows(DB, pids).iter().map(|row| of(row.get(0))).sum()
    };
    wait_for("calm: 3 s in which a twentieth of a CPU is used at most", Duration::from_secs(30), || {
        let before = ticks();
        std::thread::sleep(Duration::from_secs(3));
        ticks().saturating_sub(before) <= 15
    });
}

#[test]
fn a_role_that_holds_all_it_can_get_leaves_room_for_the_others() {
    let site = start("tenant_q.max_claims = 64\n");
    site.run("t1", "SELECT tq_async('mail', '[\"all\"]') FROM generate_series(1, 500)");
    let mut hostile: Vec<Client> = (0..10).map(|_| site.client("t1")).collect();
    let held: usize =
        hostile.iter_mut().map(|client| client.query("SELECT claim FROM tq_take(1000)", &[]).map_or(0, |rows| rows.len())).sum();
    assert_eq!(held, 32, "half of all");
    let full = error(&mut hostile[0], "SELECT * FROM tq_take(1)");
    assert_eq!(full.code, "53400", "{full}");
    assert!(full.detail.contains("32") && full.detail.contains("max_claims = 64") && !full.hint.is_empty(), "{full}");
    // Another role's worker, of another tenant and of the same one.
    let mut other = site.client("t2");
    for n in 0..50 {
        let id = site.enqueue("t2", "mail", &format!(r#"["mine {n}"]"#), "");
        let claim = take_one(&mut other);
        run(&mut other, &format!("SELECT tq_finish('{claim}')"));
        site.wait_ended("t2", &id, 'd');
    }
    assert_eq!(take(&mut site.client("worker"), 1000).len(), 16, "half of what is left");
    // What is given back may be taken again.
    hostile.truncate(1);
    wait_for("room", Duration::from_secs(10), || take(&mut site.client("worker"), 1000).len() >= 16);
    site.cluster.assert_log_clean();
}

#[test]
fn workers_that_wait_and_never_take_keep_no_call_from_the_others() {
    let site = start("max_connections = 100\n");
    // They are in front: whoever came first is called first.
    let wait = |who: &'static str| {
        let mut client = site.client(who);
        std::thread::spawn(move || {
            let waited = client.batch_execute("CALL tq_await('30 seconds')").map_err(|e| SqlError::from(e).to_string());
            (client, waited)
        })
    };
    let waiting = |n: i64| {
        site.cluster.wait_until(
            DB,
            &format!("SELECT count(*) = {n} FROM pg_stat_activity WHERE wait_event = 'Extension' AND backend_type = 'client backend'"),
        );
    };
    let hostile: Vec<_> = (0..30).map(|_| wait("t1")).collect();
    waiting(30);
    let mut other = site.client("t2");
    for n in 0..20 {
        let enqueuer = {
            let site = &site;
            std::thread::scope(|scope| {
                let waited = scope.spawn(|| {
                    run(&mut other, "CALL tq_await('10 seconds')");
                    Instant::now()
                });
                waiting(31);
                site.enqueue("t2", "mail", &format!(r#"["{n}"]"#), "");
                let began = Instant::now();
                waited.join().expect("a wait").saturating_duration_since(began)
            })
        };
        assert!(enqueuer < Duration::from_millis(400), "called only after {enqueuer:?}");
        let claim = take_one(&mut other);
        run(&mut other, &format!("SELECT tq_finish('{claim}')"));
    }
    // None of them has come back for what isn't its own; and they cost nothing, not even while a task waits that nobody takes.
    site.enqueue("t2", "mail", r#"["nobody"]"#, "");
    assert!(hostile.iter().all(|thread| !thread.is_finished()));
    assert_calm(&site);
    // One that is called for its own and takes nothing: after half a second the next one is.
    site.enqueue("t1", "mail", r#"["own"]"#, "");
    wait_for("the calls to go round", Duration::from_secs(40), || hostile.iter().all(|thread| thread.is_finished()));
    for thread in hostile {
        assert_eq!(thread.join().expect("a wait").1, Ok(()));
    }
    site.cluster.assert_log_clean();
}

#[test]
fn no_code_of_a_tenant_runs_in_a_workers_session() {
    let site = start("");
    site.run(
        "t1",
        "CREATE FUNCTION trap(v text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.fx (tenant, k) VALUES ('t1', 'trap ' || v); RETURN true; END $$;
         CREATE DOMAIN checked AS text CHECK (trap(VALUE));
         CREATE TYPE pair AS (a text, b checked);
         CREATE TYPE mood AS ENUM ('good', 'bad');
         CREATE FUNCTION heard(event jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM t1.trap('heard'); END $$",
    );
    for of in ["checked", "checked[]", "pair", "pair[]"] {
        let params = format!(r#"[{{"name": "k", "type": "{of}"}}]"#);
        let refused =
            site.cluster.try_run_as("t1", DB, &format!("SELECT tq_register('bad_params', external => true, params => '{params}')"));
        assert_eq!(refused.expect_err(of).code, "0A000", "{of}");
    }
    site.run(
        "t1",
        r#"SELECT tq_register('mood', external => true, params => '[{"name": "m", "type": "mood"}]');
           SELECT tq_schedule('s', 'mood', '1 second', '["good"]', only_if => 'trap(''condition'')', repeats => 1)"#,
    );
    let mut worker = site.client("worker");
    let pid: i32 = worker.query_one("SELECT pg_backend_pid()", &[]).expect("a pid").get(0);
    // An operator of the tenant's, first on its path, is nobody either.
    site.run(
        "t1",
        "CREATE FUNCTION eq(a mood, b mood) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN t1.trap('operator'); END $$;
         CREATE OPERATOR = (LEFTARG = mood, RIGHTARG = mood, FUNCTION = eq)",
    );
    let claim = take_one(&mut worker);
    run(&mut worker, &format!("SELECT tq_finish('{claim}', '\"done\"')"));
    site.wait_idle(&["t1"]);
    assert_eq!(
        site.number("SELECT count(*) FROM fx WHERE k = 'trap condition' AND who = 't1' AND sess = 't1'"),
        1,
        "asked once, as the owner"
    );
    assert_eq!(site.number(&format!("SELECT count(*) FROM fx WHERE pid = {pid}")), 0, "nothing ran in the worker's session");
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE k LIKE 'trap%' AND (who <> 't1' OR sess <> 't1' OR su = 'on')"), 0);
}

#[test]
fn arguments_are_checked_where_they_are_enqueued() {
    let site = start("");
    for (args, code) in [
        (r#"{"k": "a", "n": "x"}"#, "22P02"),
        (r#"{"k": "a", "n": 9999999999999999999999}"#, "22003"),
        (r#"{"k": "a", "z": 1}"#, "42P02"),
        (r#"["a", 1, 2]"#, "54023"),
        ("[]", "22023"),
    ] {
        let refused = site.cluster.try_run_as("t1", DB, &format!("SELECT tq_async('mail', '{args}')")).expect_err(args);
        assert_eq!(refused.code, code, "{args}: {refused}");
    }
    let deep = site.cluster.try_run_as(
        "t1",
        DB,
        "SELECT tq_register('any', external => true); SELECT tq_async('any', (repeat('[', 200) || repeat(']', 200))::jsonb)",
    );
    assert_eq!(deep.expect_err("deep").code, "54000");
    let large = site.cluster.try_run_as("t1", DB, "SELECT tq_async('mail', jsonb_build_array(repeat('x', 2000000)))").expect_err("large");
    assert!(large.code.starts_with("54") || large.code.starts_with("22"), "{large}");
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_task"), 0);
    let mut worker = site.client("worker");
    site.enqueue("t1", "mail", r#"["a"]"#, "");
    let args: String = worker.query_one("SELECT args::text FROM tq_take(1, wait => '10 seconds')", &[]).expect("a task").get(0);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&args).expect("a document"), serde_json::json!({"k": "a", "n": 0}));
}

#[test]
fn handlers_of_all_tenants_are_registered_by_who_may_and_shadowed_by_nobody() {
    let site = start("");
    let register = r#"SELECT tq_register('pay', external => true, shared => true, aliases => '{pay_old}', params => '[{"name": "k", "type": "text"}]')"#;
    let refused = site.cluster.try_run_as("t1", DB, register).expect_err("a right");
    assert_eq!(refused.code, "42501");
    assert!(refused.hint.contains("tenant_q.register_external()"), "{refused}");
    site.cluster.run(DB, "CREATE ROLE app LOGIN; GRANT EXECUTE ON FUNCTION tenant_q.register_external() TO app");
    site.cluster.run_as("app", DB, register);
    // It is no right to register functions for all, nor in anybody's schema.
    assert_eq!(
        site.cluster.try_run_as("app", DB, "SELECT tq_register('public.ok', shared => true)").expect_err("a function").code,
        "42501"
    );
    assert!(site.cluster.try_run_as("app", DB, "SELECT tq_register('own', external => true, tenant => 't1')").is_err());
    for shadow in [
        "tq_register('pay', external => true)",
        "tq_register('pay_old', external => true)",
        "tq_register('other', external => true, aliases => '{pay}')",
        "tq_register('other', external => true, aliases => '{pay_old}')",
    ] {
        let refused = site.cluster.try_run_as("t1", DB, &format!("SELECT {shadow}")).expect_err(shadow);
        assert_eq!(refused.code, "42710", "{shadow}: {refused}");
        assert!(!refused.hint.is_empty(), "{refused}");
    }
    // By a function of that name, too.
    site.run("t1", "CREATE FUNCTION pay(k text) RETURNS void LANGUAGE sql AS ''");
    assert_eq!(site.cluster.try_run_as("t1", DB, "SELECT tq_register('pay')").expect_err("a function").code, "42710");
    site.enqueue("t1", "pay_old", r#"["x"]"#, "");
    let mut worker = site.client("worker");
    let row = worker.query_one("SELECT handler, shared, tenant FROM tq_take(1, '{pay}', wait => '10 seconds')", &[]).expect("a task");
    assert_eq!((row.get::<_, String>(0), row.get::<_, bool>(1), row.get::<_, String>(2)), ("pay".into(), true, "t1".into()));
}
