//! Work for all tenants happens once in each, whoever is killed, and holds nobody up.

use std::time::Duration;

use cluster::{PATIENCE, kill9, wait_for};

use crate::site::{DB, Site};

/// `n` tenants m0001, m0002, … of one role, with the handlers of a site.
fn many(site: &Site, n: usize) {
    site.cluster
        .run(DB, "CREATE ROLE many LOGIN; SELECT tq_register(h, 'public.' || h, shared => true) FROM unnest('{ok,bad}'::text[]) AS h");
    for first in (1..=n).step_by(250) {
        site.cluster.run(
            DB,
            &format!(
                "DO $$ BEGIN FOR n IN {first} .. {} LOOP EXECUTE format('CREATE SCHEMA m%s AUTHORIZATION many', to_char(n, 'FM0000')); END LOOP; END $$",
                n.min(first + 249)
            ),
        );
    }
    site.cluster.run(DB, "CALL tq_attach_all('m%')");
}

/// Kills the scheduler when it has written `reached` outcomes of this fan-out. It can't be done by then: somebody is in the
/// place of the next tenant's row; it waits there, and later goes on behind it. Then the server is up again.
fn kill_at(site: &Site, fanout: &str, reached: usize) {
    site.cluster.wait_until(DB, &format!("SELECT count(*) >= {reached} FROM tenant_q.fanout_tenant WHERE fanout = '{fanout}'"));
    let restarts = |site: &Site| site.cluster.log().matches("all server processes terminated").count();
    let before = restarts(site);
    kill9(site.cluster.pids("tenant_q scheduler")[0]);
    wait_for("the server to go down", PATIENCE, || restarts(site) > before);
    site.cluster.wait_ready();
}

#[test]
fn a_thousand_tenants_get_one_task_each_though_the_scheduler_is_killed() {
    let site = Site::start("", &["t1"]);
    many(&site, 1000);
    site.cluster.run(
        DB,
        "SELECT tq_set_tenant('m0003', ready => false); SELECT tq_pause('m0004'); SELECT tq_set_quota('m0005', fan_out => false);
         ALTER TABLE m0006.tq_task ADD COLUMN more int NOT NULL",
    );
    let mut caller = site.cluster.client("postgres", DB);
    caller.batch_execute("BEGIN").expect("it works");
    let id: String =
        caller.query_one("SELECT tq_async_all('ok', '[\"all\"]', stagger => '2 seconds')::text", &[]).expect("it works").get(0);
    // Somebody is in the place of tenant 501's row: the eleventh batch waits.
    let mut other = site.cluster.client("postgres", DB);
    other.batch_execute(&format!("BEGIN; INSERT INTO tenant_q.fanout_tenant VALUES ('{id}', 'm0501', 'x')")).expect("it works");
    caller.batch_execute("COMMIT").expect("it works");
    kill_at(&site, &id, 500);
    // The rest of it is spread without a word from anybody, and somebody else's task isn't late meanwhile.
    site.assert_alive("t1");
    site.cluster.wait_until_within(
        Duration::from_secs(60),
        DB,
        &format!("SELECT spread AND outstanding = 0 FROM tq_fanouts WHERE id = '{id}'"),
    );
    let counts = site.cluster.rows(DB, "SELECT tenants, done, failed, outstanding, skipped FROM tq_fanouts");
    assert_eq!(counts[0].joined(" "), "1001 997 0 0 4");
    let left_out = site.cluster.rows(DB, "SELECT tenant, state, reason FROM tq_fanout_tenants('ok') WHERE state <> 'done'");
    assert_eq!(
        left_out.iter().map(|row| row.joined(" ")).collect::<Vec<_>>(),
        [
            "m0003 skipped not ready",
            "m0004 skipped paused",
            "m0005 skipped fan_out is off",
            "m0006 skipped table tq_task of tenant \"m0006\" is not as tq_attach made it: Its additional column more is NOT NULL, and tenant_q leaves it null.",
        ]
    );
    site.assert_once(997);
}

#[test]
fn a_schedule_of_all_tenants_reaches_each_though_the_scheduler_is_killed_and_those_to_come() {
    let site = Site::start("", &["t1"]);
    many(&site, 300);
    let mut caller = site.cluster.client("postgres", DB);
    caller
        .batch_execute("BEGIN; SELECT tq_schedule_all('tick', 'ok', '5 seconds', '[\"tick\"]', stagger => '1 second')")
        .expect("it works");
    let change: String = caller.query_one("SELECT id::text FROM tenant_q.fanout", &[]).expect("it works").get(0);
    let mut other = site.cluster.client("postgres", DB);
    other.batch_execute(&format!("BEGIN; INSERT INTO tenant_q.fanout_tenant VALUES ('{change}', 'm0151', 'x')")).expect("it works");
    caller.batch_execute("COMMIT").expect("it works");
    kill_at(&site, &change, 150);
    site.cluster.wait_until(DB, "SELECT spread_again IS NULL FROM tenant_q.fanout WHERE kind = 'd'");
    site.cluster.run(DB, "CREATE SCHEMA m9999 AUTHORIZATION many; SELECT tq_attach('m9999')");
    site.assert_alive("t1");
    site.cluster.wait_until_within(
        Duration::from_secs(60),
        DB,
        "SELECT count(*) >= 2 FROM tq_fanouts WHERE name = 'tick' AND outstanding = 0 AND done = 302",
    );
    site.cluster.run(DB, "SELECT tq_unschedule_all('tick')");
    site.cluster.wait_until(DB, "SELECT NOT EXISTS (SELECT FROM tenant_q.fanout WHERE kind = 'd')");
    for tenant in ["m0001", "m0151", "m0300", "m9999", "t1"] {
        assert_eq!(site.number(&format!("SELECT count(*) FROM {tenant}.tq_schedule")), 0, "{tenant}");
        let doubled = format!("SELECT count(*) - count(DISTINCT scheduled_for) FROM {tenant}.tq_result WHERE schedule = 'tick'");
        assert_eq!(site.number(&doubled), 0, "{tenant}");
    }
}
