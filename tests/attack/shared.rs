//! What tenants share: locks, and the tables of fixed size. One tenant can hold or fill what is its own, and nobody else's.

use std::time::{Duration, Instant};

use crate::site::{DB, Site};

/// Everything that takes a lock by a name that somebody else could guess.
const GUESSABLE: &str = "
    SELECT tq_async('ok', '[\"unique\"]', unique_key => 'invoice-42', delay => '1 hour');
    SELECT tq_async('ok', '[\"id\"]', id => '01900000-0000-7000-8000-000000000042', delay => '1 hour');
    SELECT tq_schedule('nightly', 'ok', '1 hour', args => '[\"nightly\"]');
    SELECT tq_schedule('morning', 'ok', 'after', after => '{nightly}', args => '[\"morning\"]');";

/// The locks that everybody sees of everybody: class and key.
const LOCKS: &str = "SELECT objsubid || ' ' || classid || ' ' || objid FROM pg_locks
     WHERE locktype = 'advisory' AND objsubid > 2 AND (pid IS NULL OR pid <> pg_backend_pid()) ORDER BY 1";

#[test]
fn what_a_tenant_holds_is_waited_for_by_no_other_and_tells_it_nothing() {
    let site = Site::start("max_prepared_transactions = 5\n", &["t1", "t2"]);
    let mut open = site.client("t1");
    let mut prepared = site.client("t1");
    for (hostage, how, release) in [(&mut open, "", "ROLLBACK"), (&mut prepared, "PREPARE TRANSACTION 'mine'", "ROLLBACK PREPARED 'mine'")]
    {
        hostage.batch_execute(&format!("BEGIN; {GUESSABLE} {how}")).expect("hold");
        let held: Vec<_> = site.cluster.rows_as("t2", DB, LOCKS).iter().map(|row| row.joined("")).collect();
        assert!(held.len() >= 5, "{held:?}");
        // The same of its own: at once, and by other keys.
        let mut other = site.client("t2");
        let began = Instant::now();
        other.batch_execute(&format!("SET statement_timeout = '5s'; BEGIN; {GUESSABLE}")).expect("nobody waits");
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        let both: Vec<_> = site.cluster.rows_as("t2", DB, LOCKS).iter().map(|row| row.joined("")).collect();
        assert_eq!(both.len(), 2 * held.len(), "{both:?}");
        let distinct: std::collections::HashSet<_> = both.iter().collect();
        assert_eq!(distinct.len(), both.len(), "a lock is of one tenant only");
        other.batch_execute("ROLLBACK").expect("rollback");
        // A second session of the same tenant waits, as it should.
        let refused =
            site.cluster.try_run_as("t1", DB, "SET lock_timeout = '200ms'; SELECT tq_async('ok', '[\"x\"]', unique_key => 'invoice-42')");
        assert_eq!(refused.expect_err("it waits").code, "55P03");
        hostage.batch_execute(release).expect("release");
    }
    // Nobody but the extension's owner can read what they are hashed with.
    let refused = site.cluster.try_rows_as("t1", DB, "SELECT * FROM tenant_q.secret");
    assert_eq!(refused.expect_err("refused").code, "42501");
    site.cluster.assert_log_clean();
}

#[test]
fn schedules_of_others_fire_while_a_tenant_holds_everything_it_can() {
    let site = Site::start("max_prepared_transactions = 5\n", &["t1", "t2"]);
    for t in ["t1", "t2"] {
        site.run(t, "SELECT tq_schedule('tick', 'ok', '1 second', args => '[\"tick\"]', task => '{\"unique_key\": \"tick\"}')");
    }
    let fired = |n: i64| format!("SELECT count(*) >= {n} FROM fx WHERE tenant = 't2'");
    site.cluster.wait_until(DB, &fired(1));
    // Its own schedule's key, name, order and rows.
    let mut hostage = site.client("t1");
    hostage
        .batch_execute(&format!(
            "BEGIN; SELECT tq_async('ok', '[\"x\"]', unique_key => 'tick', delay => '1 hour'); {GUESSABLE}
             SELECT FROM tq_schedule FOR UPDATE; PREPARE TRANSACTION 'mine'"
        ))
        .expect("hold");
    let so_far = site.number("SELECT count(*) FROM fx WHERE tenant = 't2'");
    let took = site.cluster.wait_until_within(Duration::from_secs(15), DB, &fired(so_far + 4));
    assert!(took < Duration::from_secs(10), "{took:?}");
    site.assert_alive("t2");
    hostage.batch_execute("ROLLBACK PREPARED 'mine'").expect("release");
    let before = site.number("SELECT count(*) FROM fx WHERE tenant = 't1'");
    site.cluster.wait_until(DB, &format!("SELECT count(*) > {before} FROM fx WHERE tenant = 't1'"));
    site.cluster.assert_log_clean();
}

#[test]
fn a_dump_has_no_secret_and_a_restored_database_has_one_of_its_own() {
    let site = Site::start("", &["t1"]);
    let secret = "SELECT first || ' ' || second FROM tenant_q.secret";
    let original = site.cluster.value(DB, secret);
    let dump = std::process::Command::output(site.cluster.program("pg_dump").args(["-d", DB])).expect("pg_dump");
    let dump = String::from_utf8_lossy(&dump.stdout).into_owned();
    assert!(dump.contains("CREATE EXTENSION") && dump.contains("COPY tenant_q.tenant "), "it is a dump");
    assert!(!dump.contains("tenant_q.secret") && original.split(' ').all(|half| !dump.contains(half)));
    site.cluster.run(DB, "CREATE DATABASE other");
    site.cluster.run("other", "CREATE EXTENSION tenant_q");
    assert_ne!(site.cluster.value("other", secret), original);
    // Without its row it says so.
    site.cluster.run(
        "other",
        "DELETE FROM tenant_q.secret; CREATE SCHEMA s; SELECT tq_attach('s'); CREATE FUNCTION s.f() RETURNS int LANGUAGE sql RETURN 1;
                               SELECT tq_register('f', tenant => 's')",
    );
    let refused =
        site.cluster.try_run_as("postgres", "other", "SELECT tq_async('f', unique_key => 'k', tenant => 's')").expect_err("refused");
    assert_eq!(refused.code, "55000");
    site.cluster.run("other", "INSERT INTO tenant_q.secret VALUES (1, gen_random_uuid(), gen_random_uuid())");
    site.cluster.run("other", "SELECT tq_async('f', unique_key => 'k', tenant => 's')");
}
