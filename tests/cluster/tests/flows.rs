//! Chains, groups, dependencies, keys and limits: right whatever happens in between.

use std::collections::HashSet;
use std::thread;
use std::time::{Duration, Instant};

use cluster::Stop;

use crate::site::{DB, Site};

const SOON: Duration = Duration::from_secs(90);

/// `hook(task)` leaves the task's name and state; `span(k)` when it began and ended.
fn prepare(site: &Site, tenants: &[&str]) {
    site.cluster.run(
        DB,
        "CREATE FUNCTION public.hook(task jsonb) RETURNS void LANGUAGE sql AS
            $$ SELECT public.ok(concat_ws(' ', 'hook', task->>'name', task->>'state')) $$;
         CREATE TABLE public.span (k text, id text, began timestamptz, ended timestamptz);
         GRANT INSERT, SELECT ON public.span TO PUBLIC;
         CREATE FUNCTION public.span(k text, s float8 DEFAULT 0.001) RETURNS void LANGUAGE plpgsql AS
            $$ DECLARE t timestamptz := clock_timestamp();
               BEGIN PERFORM pg_sleep(s); INSERT INTO public.span VALUES (k, (tq_current()).id::text, t, clock_timestamp()); END $$",
    );
    for t in tenants {
        site.run(t, "SELECT tq_register('hook'), tq_register('span')");
    }
}

#[test]
fn chains_and_groups_go_through_crashes_without_a_stall_or_a_double() {
    let tenants = ["t1", "t2"];
    let site = Site::start("", &tenants);
    prepare(&site, &tenants);
    for t in tenants {
        site.run(
            t,
            "SELECT tq_pause();
             SELECT tq_chain((SELECT jsonb_agg(jsonb_build_object('handler', 'ok', 'args', jsonb_build_array(format('c %s %s', c, s))) ORDER BY s)
                              FROM generate_series(1, 8) s), task => jsonb_build_object('name', format('c%s', c), 'hook', 'hook'))
             FROM generate_series(1, 40) c;
             SELECT tq_group((SELECT jsonb_agg(jsonb_build_object('handler', 'ok', 'args', jsonb_build_array(format('g %s %s', g, s))))
                              FROM generate_series(1, 25) s), jsonb_build_object('name', format('g%s', g), 'on_success', 'hook'))
             FROM generate_series(1, 12) g;
             -- A group of chains whose second step is a group, and whose third has no members.
             SELECT tq_group((SELECT jsonb_agg(jsonb_build_object('chain', jsonb_build_array(
                                  jsonb_build_object('handler', 'ok', 'args', jsonb_build_array(format('n %s %s 1', n, s))),
                                  jsonb_build_object('group', (SELECT jsonb_agg(jsonb_build_object('handler', 'ok', 'args',
                                      jsonb_build_array(format('n %s %s 2 %s', n, s, m)))) FROM generate_series(1, 4) m), 'on_success', 'hook', 'name', format('in %s %s', n, s)),
                                  '{\"group\": []}'::jsonb,
                                  jsonb_build_object('handler', 'ok', 'args', jsonb_build_array(format('n %s %s 3', n, s))))))
                              FROM generate_series(1, 5) s), jsonb_build_object('name', format('n%s', n), 'on_success', 'hook'))
             FROM generate_series(1, 6) n",
        );
    }
    for t in tenants {
        site.run(t, "SELECT tq_resume()");
    }
    for round in 0..5 {
        let before = site.number("SELECT count(*) FROM fx");
        site.cluster.wait_until(DB, &format!("SELECT count(*) >= least(1776, {before} + {}) FROM fx", 40 + round * 61));
        site.cluster.restart(Stop::Immediate);
    }
    site.wait_idle_within(SOON, &tenants);
    // 40 × 8 steps, 12 × 25 members, 52 hooks, and 6 × 5 × 6 tasks and 6 × 5 + 6 hooks of flows in flows, in each tenant.
    site.assert_once(2 * (320 + 300 + 52 + 180 + 36));
    for t in tenants {
        assert_eq!(
            site.number(&format!("SELECT count(*) FROM {t}.tq_result WHERE state <> 'd' AND handler IN ('tq_chain', 'tq_group')")),
            0,
            "flows that did not end well"
        );
        let disorder = format!(
            "SELECT count(*) FROM fx a JOIN fx b ON a.tenant = b.tenant AND a.k LIKE 'c %' AND b.k LIKE 'c %'
               AND split_part(a.k, ' ', 2) = split_part(b.k, ' ', 2) AND split_part(a.k, ' ', 3)::int < split_part(b.k, ' ', 3)::int
             WHERE a.tenant = '{t}' AND a.at >= b.at"
        );
        assert_eq!(site.number(&disorder), 0, "steps out of order");
        let disorder = format!(
            "SELECT count(*) FROM fx a JOIN fx b ON a.tenant = b.tenant AND a.k LIKE 'n %' AND b.k LIKE 'n %'
               AND split_part(a.k, ' ', 2) = split_part(b.k, ' ', 2) AND split_part(a.k, ' ', 3) = split_part(b.k, ' ', 3)
               AND split_part(a.k, ' ', 4)::int < split_part(b.k, ' ', 4)::int
             WHERE a.tenant = '{t}' AND a.at >= b.at"
        );
        assert_eq!(site.number(&disorder), 0, "steps that are flows out of order");
    }
    site.cluster.assert_log_clean();
}

#[test]
fn a_lock_lets_one_at_a_time_through_and_holds_up_nobody_else() {
    let site = Site::start("", &["t1"]);
    prepare(&site, &["t1"]);
    // More of one key than stay in place, so that many are put aside.
    site.run(
        "t1",
        "SELECT count(tq_async('span', jsonb_build_array('a'), lock => 'a', priority => i % 3)) FROM generate_series(1, 400) i;
         SELECT count(tq_async('span', jsonb_build_array('l' || i % 5), lock => 'l' || i % 5)) FROM generate_series(1, 300) i;
         SELECT count(tq_async('ok', jsonb_build_array('free ' || i), priority => -1)) FROM generate_series(1, 50) i",
    );
    site.wait_idle_within(SOON, &["t1"]);
    assert_eq!(site.number("SELECT count(*) FROM span"), 700);
    assert_eq!(
        site.number("SELECT count(*) FROM span a JOIN span b ON a.k = b.k AND a.id < b.id AND a.began < b.ended AND b.began < a.ended"),
        0,
        "two of one lock at a time"
    );
    site.assert_once(50);
    // A delayed one doesn't block one that is ready.
    let later = site.enqueue("t1", "span", r#"["b"]"#, ", lock => 'b', delay => '1 hour'");
    let now = site.enqueue("t1", "span", r#"["b"]"#, ", lock => 'b'");
    site.wait_ended("t1", &now, 'd');
    assert_eq!(site.value("t1", &format!("SELECT tq_cancel('{later}')")), "t");
}

#[test]
fn limits_are_exact_across_roles_and_freed_by_every_end() {
    let site = Site::start("", &["t1"]);
    prepare(&site, &["t1"]);
    site.cluster.run(DB, "CREATE ROLE helper LOGIN; GRANT helper TO t1; GRANT USAGE ON SCHEMA t1 TO helper");
    site.run(
        "t1",
        "SELECT tq_register('span2', 'span(text, float8)', run_as => 'helper'); SELECT tq_register('bad', max_attempts => 1);
         SELECT tq_set_limit('two', max_running => 2); SELECT tq_set_queue('narrow', max_running => 1);
         SELECT count(tq_async(CASE i % 2 WHEN 0 THEN 'span' ELSE 'span2' END, '[\"x\", 0.004]', limit_key => 'two')) FROM generate_series(1, 250) i;
         SELECT count(tq_async('span', '[\"q\", 0.002]', queue => 'narrow')) FROM generate_series(1, 150) i;
         SELECT count(tq_async('bad', '[\"no\"]', limit_key => 'two')) FROM generate_series(1, 30) i",
    );
    site.wait_idle_within(SOON, &["t1"]);
    let most = |k: &str| {
        site.number(&format!(
            "SELECT max(n) FROM (SELECT count(*) AS n FROM span a JOIN span b ON a.k = b.k AND b.began <= a.began AND a.began < b.ended
              WHERE a.k = '{k}' GROUP BY a.id) AS x"
        ))
    };
    assert_eq!(most("x"), 2, "of the limit key at a time");
    assert_eq!(most("q"), 1, "of the queue at a time");
    assert_eq!(site.number("SELECT count(*) FROM span"), 400);
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_result WHERE state = 'f'"), 30);
}

#[test]
fn rates_let_through_as_many_as_they_say() {
    let site = Site::start("", &["t1"]);
    prepare(&site, &["t1"]);
    site.run(
        "t1",
        "SELECT tq_set_limit('slow', rate => '20/2s');
         SELECT count(tq_async('span', '[\"r\"]', limit_key => 'slow')) FROM generate_series(1, 60) i",
    );
    site.wait_idle_within(SOON, &["t1"]);
    // A burst of 20, then one each 0.1 s: the last starts 4 s after the first, and no 2 s see more than 40.
    let within =
        "SELECT max(n) FROM (SELECT count(*) AS n FROM span a JOIN span b ON b.began >= a.began AND b.began < a.began + interval '1.9 s'
                   GROUP BY a.id) AS x";
    assert!(site.number(within) <= 40, "{} starts within 2 s", site.number(within));
    assert!(site.number("SELECT (extract(epoch FROM max(began) - min(began)) * 1000)::bigint FROM span") >= 3900);
    assert_eq!(site.number("SELECT count(*) FROM span"), 60);
}

#[test]
fn a_key_is_held_by_one_unfinished_task() {
    let site = Site::start("", &["t1"]);
    prepare(&site, &["t1"]);
    // Freed when an attempt begins: the retry of the first merges with the second.
    let first = site.enqueue("t1", "gate", r#"["first"]"#, ", unique_key => 'k', unique_until => 'started'");
    site.wait_running(&first);
    let second = site.enqueue("t1", "ok", r#"["second"]"#, ", unique_key => 'k', unique_until => 'started', delay => '1 hour'");
    assert_eq!(
        site.value("t1", "SELECT tq_async('ok', '[\"third\"]', unique_key => 'k', on_conflict => 'skip')"),
        second,
        "the one that waits holds the key"
    );
    let pid = site.running(&first).expect("it runs");
    site.cluster.run(DB, &format!("SELECT pg_cancel_backend({pid})"));
    site.open_gate();
    site.wait_ended("t1", &first, 'd');
    // Replaced in place, under its id.
    assert_eq!(
        site.value("t1", "SELECT tq_async('ok', '[\"fourth\"]', unique_key => 'k', on_conflict => 'replace')"),
        second,
        "the new one takes the old one's id"
    );
    site.wait_ended("t1", &second, 'd');
    // Many sessions at once: one task.
    let ids: Vec<String> = thread::scope(|scope| {
        let all: Vec<_> = (0..6)
            .map(|_| {
                let site = &site;
                scope.spawn(move || {
                    site.enqueue("t1", "ok", r#"["once"]"#, ", unique_key => 'm', unique_until => 'deleted', on_conflict => 'skip'")
                })
            })
            .collect();
        all.into_iter().map(|h| h.join().expect("an id")).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    site.wait_ended("t1", &ids[0], 'd');
    assert_eq!(site.enqueue("t1", "ok", r#"["once"]"#, ", unique_key => 'm', on_conflict => 'skip'"), ids[0], "its result is kept");
    assert_eq!(site.value("t1", &format!("SELECT tq_delete('{}')", ids[0])), "t");
    assert_ne!(site.enqueue("t1", "ok", r#"["again"]"#, ", unique_key => 'm'"), ids[0]);
    site.wait_idle(&["t1"]);
    site.assert_once(4);
}

/// A small generator: the same numbers for the same seed, printed when the test fails.
struct Dice(u64);
impl Dice {
    fn roll(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
}

#[test]
fn whatever_is_asked_in_whatever_order_flows_keys_and_dependencies_end_right() {
    let site = Site::start("", &["t1"]);
    prepare(&site, &["t1"]);
    site.run("t1", "SELECT tq_register('bad', max_attempts => 2, retry => tq_backoff('fixed', base => '20 ms', jitter => 0))");
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
    println!("seed {seed}");
    let mut dice = Dice(seed);
    let mut ids: Vec<String> = Vec::new();
    let mut client = None;
    let mut n = 0;
    while n < 2500 {
        n += 1;
        let Some(c) = client.as_mut() else {
            site.cluster.wait_ready();
            client = site.cluster.try_client("t1", DB).ok();
            continue;
        };
        if n % 500 == 0 {
            site.cluster.restart(Stop::Immediate);
            client = None;
            continue;
        }
        let some = |dice: &mut Dice, ids: &[String]| ids.get(ids.len().saturating_sub(1 + dice.roll(40) as usize)).cloned();
        let task = |dice: &mut Dice, name: String| {
            let handler = if dice.roll(6) == 0 { "bad" } else { "ok" };
            format!(r#"{{"handler": "{handler}", "args": ["{name}"]}}"#)
        };
        let sql = match dice.roll(10) {
            0 | 1 => format!("SELECT tq_async('ok', '[\"{n}\"]', lock => 'l{}')", dice.roll(3)),
            2 => format!("SELECT tq_async('{}', '[\"{n}\"]')", if dice.roll(2) == 0 { "bad" } else { "ok" }),
            3 => {
                let (Some(a), Some(b)) = (some(&mut dice, &ids), some(&mut dice, &ids)) else { continue };
                let mode = if dice.roll(3) == 0 { "any" } else { "all" };
                let allow = dice.roll(2) == 0;
                format!(
                    "SELECT tq_async('ok', '[\"{n}\"]', depends_on => '{{{a},{b}}}', depends_mode => '{mode}', allow_failure => {allow}, name => 'dependent')"
                )
            }
            4 | 5 => {
                let steps: Vec<String> = (0..=dice.roll(5)).map(|s| task(&mut dice, format!("{n} {s}"))).collect();
                let how = if dice.roll(2) == 0 { "stop" } else { "continue" };
                format!("SELECT tq_chain('[{}]', on_step_failure => '{how}')", steps.join(","))
            }
            6 => {
                // Some of its members are flows themselves, and some of theirs.
                let mut member = String::new();
                for s in 0..=dice.roll(8) {
                    let inner = match dice.roll(5) {
                        0 if !member.is_empty() => format!(r#"{{"chain": [{}, {member}]}}"#, task(&mut dice, format!("{n} {s} before"))),
                        1 if !member.is_empty() => format!(r#"{{"group": [{member}, {{"group": []}}]}}"#),
                        2 if !member.is_empty() => {
                            format!(r#"{{"chain": [{member}, {{"group": []}}, {}]}}"#, task(&mut dice, format!("{n} {s} after")))
                        }
                        _ if member.is_empty() => task(&mut dice, format!("{n} {s}")),
                        _ => format!("{member}, {}", task(&mut dice, format!("{n} {s}"))),
                    };
                    member = inner;
                }
                format!("SELECT tq_group('[{member}]')")
            }
            7 => format!("SELECT tq_async('ok', '[\"{n}\"]', unique_key => 'u{}', on_conflict => 'skip')", dice.roll(4)),
            8 => {
                let Some(id) = some(&mut dice, &ids) else { continue };
                format!("SELECT tq_cancel('{id}')::text")
            }
            _ => {
                let Some(id) = some(&mut dice, &ids) else { continue };
                format!("SELECT tq_requeue(id)::text FROM tq_results WHERE id = '{id}' AND state IN ('failed', 'cancelled')")
            }
        };
        match c.simple_query(&sql) {
            Ok(rows) => {
                for row in rows {
                    if let postgres::SimpleQueryMessage::Row(row) = row
                        && let Some(id) = row.get(0).filter(|v| v.len() == 36)
                    {
                        ids.push(id.to_string());
                    }
                }
            }
            Err(e) if e.is_closed() => client = None,
            // Pruned, its key another's by now, or of the server that just went down.
            Err(e) if e.code().is_some_and(|c| matches!(c.code(), "P0002" | "23505" | "57P01" | "57P02" | "57P03")) => {}
            Err(e) => panic!("{sql}: {e:?}"),
        }
    }
    let left = || {
        let rows = "SELECT t::text, (SELECT r::text FROM t1.tq_result r WHERE r.id = t.waits_for),
                           (SELECT string_agg(l::text, '; ') FROM t1.tq_task l WHERE l.name = t.id::text) FROM t1.tq_task t WHERE state <> 'l'";
        site.cluster.rows(DB, rows).iter().map(|row| row.joined("\n")).collect::<Vec<_>>()
    };
    let begun = Instant::now();
    while !left().is_empty() && begun.elapsed() < SOON {
        thread::sleep(Duration::from_millis(100));
    }
    assert!(left().is_empty(), "left, with what they wait for and their links (seed {seed}): {:#?}", left());
    let none = |what: &str, sql: &str| {
        let found: Vec<String> = site.cluster.rows(DB, &format!("SELECT {sql} LIMIT 20")).iter().map(|row| row.joined("\n")).collect();
        assert!(found.is_empty(), "{what} (seed {seed}): {found:#?}");
    };
    none("effects twice", "k, count(*) FROM fx GROUP BY k HAVING count(*) <> 1");
    none(
        "done without its effect",
        "r::text FROM t1.tq_result r WHERE handler = 'ok' AND state = 'd' AND NOT EXISTS (SELECT FROM fx WHERE k = r.args->>0)",
    );
    none(
        "an effect without being done",
        "fx.k, (SELECT string_agg(r::text, '; ') FROM t1.tq_result r WHERE r.args->>0 = fx.k)
          FROM fx WHERE NOT EXISTS (SELECT FROM t1.tq_result r WHERE r.args->>0 = fx.k AND state = 'd' AND handler = 'ok')",
    );
    none(
        "a flow that ended well with a member that didn't",
        "f::text, m::text FROM t1.tq_result f JOIN t1.tq_result m ON m.parent_id = f.id
          WHERE f.state = 'd' AND m.state <> 'd' AND NOT coalesce((f.options->>'allow_failure')::boolean, false)",
    );
    none(
        "a flow that failed though its members ended well",
        "f::text FROM t1.tq_result f WHERE f.state = 'f' AND f.handler LIKE 'tq_%'
          AND NOT EXISTS (SELECT FROM t1.tq_result m WHERE m.parent_id = f.id AND m.state <> 'd')",
    );
    none(
        "flows that lost members",
        "f::text FROM t1.tq_result f WHERE f.handler LIKE 'tq_%'
          AND (f.options->'flow'->>'members')::int <> (SELECT count(*) FROM t1.tq_result m WHERE m.parent_id = f.id)",
    );
    none(
        "a step done after one that failed",
        "f::text, a::text, b::text FROM t1.tq_result f JOIN t1.tq_result a ON a.parent_id = f.id
            JOIN t1.tq_result b ON b.parent_id = f.id AND b.id > a.id
          WHERE f.handler = 'tq_chain' AND a.state <> 'd' AND b.state = 'd' AND NOT coalesce((f.options->>'allow_failure')::boolean, false)",
    );
    none(
        "links of others than cancelled tasks, to others than those that did not end well",
        "l::text, (SELECT r::text FROM t1.tq_result r WHERE r.id = l.name::uuid), (SELECT r::text FROM t1.tq_result r WHERE r.id = l.waits_for)
          FROM t1.tq_task l WHERE NOT EXISTS (SELECT FROM t1.tq_result r WHERE r.id = l.name::uuid AND r.state = 'c')
            OR NOT EXISTS (SELECT FROM t1.tq_result r WHERE r.id = l.waits_for AND r.state <> 'd')",
    );
    site.assert_alive("t1");
}

/// Picked to be ended, because what it depends on has failed, and by the time its turn comes that one is to run again: so it
/// waits again, and isn't begun before it, not even to be taken back.
#[test]
fn what_was_picked_waits_again_when_what_it_depends_on_is_to_run_again() {
    let site = Site::start("tenant_q.max_executors = 1\n", &["t1"]);
    site.run(
        "t1",
        "CREATE SEQUENCE begun; CREATE FUNCTION begins() RETURNS bigint LANGUAGE sql AS $$ SELECT nextval('begun') $$;
         SELECT tq_register('begins'), tq_register('bad', max_attempts => 1)",
    );
    let first = site.enqueue("t1", "bad", r#"["first"]"#, "");
    site.wait_ended("t1", &first, 'f');
    // Lists grow with tasks that take no time.
    site.run("t1", "SELECT count(tq_async('ok', jsonb_build_array('many ' || n))) FROM generate_series(1, 500) AS n");
    site.wait_idle(&["t1"]);
    let ids = site.value(
        "t1",
        &format!(
            "WITH g AS (SELECT tq_async('gate', '[\"gate\"]') AS id), d AS (SELECT tq_async('begins', depends_on => '{{{first}}}') AS id FROM g)
             SELECT g.id || ' ' || d.id FROM g, d"
        ),
    );
    let (gate, after) = ids.split_once(' ').expect("two ids");
    site.wait_running(gate);
    site.run("t1", &format!("SELECT tq_requeue('{first}')"));
    site.open_gate();
    site.wait_idle(&["t1"]);
    site.wait_ended("t1", &first, 'f');
    site.wait_ended("t1", after, 'c');
    assert_eq!(site.value("t1", "SELECT is_called FROM begun"), "f", "it was begun before what it depends on had ended");
    site.assert_alive("t1");
}

/// What an executor of this role has used of a core so far.
fn cpu_of(site: &Site, role: &str) -> Duration {
    let pids =
        site.cluster.rows(DB, &format!("SELECT pid FROM pg_stat_activity WHERE usename = '{role}' AND backend_type = 'tenant_q executor'"));
    let used = |row: &cluster::Row| {
        let stat = std::fs::read_to_string(format!("/proc/{}/schedstat", row.get(0))).unwrap_or_default();
        stat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
    };
    Duration::from_nanos(pids.iter().map(used).sum())
}

/// Nothing is tried again and again while nothing can run: at the tenant's limit, behind a used up rate, and where
/// somebody has locked more rows than one pick looks at.
#[test]
fn who_can_run_nothing_does_nothing() {
    let site = Site::start("", &["t1", "t2", "t3", "t4"]);
    site.run("t4", "SELECT tq_pause(); SELECT count(tq_async('ok', jsonb_build_array('locked ' || i))) FROM generate_series(1, 1500) i");
    let mut other = site.client("t4");
    other.batch_execute("BEGIN; SELECT id FROM t4.tq_task FOR UPDATE").expect("lock");
    site.run("t4", "SELECT tq_resume()");
    site.cluster.run(DB, "SELECT tq_set_quota('t1', max_running => 1)");
    let long = site.enqueue("t1", "gate", r#"["long"]"#, "");
    site.wait_running(&long);
    site.run("t1", "SELECT count(tq_async('ok', jsonb_build_array('behind ' || i))) FROM generate_series(1, 20) i");
    site.run(
        "t3",
        "SELECT tq_set_limit('mail', rate => '1/h');
         SELECT count(tq_async('ok', jsonb_build_array('mail ' || i), limit_key => 'mail')) FROM generate_series(1, 250) i",
    );
    // One has passed, a hundred stay in place, the rest is put aside.
    site.cluster.wait_until(DB, "SELECT count(*) FILTER (WHERE state = 'k') = 149 AND count(*) = 249 FROM t3.tq_task");
    let rows = "SELECT md5(string_agg(id::text || xmin || ctid, ' ' ORDER BY id)) FROM t3.tq_task";
    let (before, began) = (site.value("t3", rows), std::time::Instant::now());
    let used = |role: &str| cpu_of(&site, role);
    let cpu = [used("t1"), used("t3")];
    let mut starts = HashSet::new();
    while began.elapsed() < Duration::from_secs(2) {
        site.assert_alive("t2");
        let pids = "SELECT pid FROM pg_stat_activity WHERE usename = 't4' AND backend_type = 'tenant_q executor'";
        starts.extend(site.cluster.rows(DB, pids).iter().map(|row| row.get(0).to_string()));
    }
    // One look a second.
    assert!(starts.len() < 8, "executors of t4 came and went: {starts:?}");
    for (role, before) in ["t1", "t3"].into_iter().zip(cpu) {
        let used = used(role).saturating_sub(before);
        assert!(used < began.elapsed() / 4, "{role} used {used:?} for nothing");
    }
    assert_eq!(site.value("t3", rows), before, "rows were moved for nothing");
    site.run("t3", "SELECT tq_set_limit('mail', rate => '1000/s')");
    site.open_gate();
    other.batch_execute("ROLLBACK").expect("unlock");
    site.wait_idle_within(SOON, &["t1", "t3", "t4"]);
    site.assert_once(1 + 20 + 250 + 1500);
    site.cluster.assert_log_clean();
}

#[test]
fn a_tenants_limit_is_exact_across_roles() {
    let site = Site::start("", &["t1"]);
    prepare(&site, &["t1"]);
    site.cluster.run(
        DB,
        "CREATE ROLE helper LOGIN; GRANT helper TO t1; GRANT USAGE ON SCHEMA t1 TO helper; SELECT tq_set_quota('t1', max_running => 1)",
    );
    site.run(
        "t1",
        "SELECT tq_register('span2', 'span(text, float8)', run_as => 'helper');
         SELECT count(tq_async(CASE i % 2 WHEN 0 THEN 'span' ELSE 'span2' END, '[\"x\", 0.002]')) FROM generate_series(1, 300) i",
    );
    site.wait_idle_within(SOON, &["t1"]);
    assert_eq!(site.number("SELECT count(*) FROM span"), 300);
    assert_eq!(site.number("SELECT count(*) FROM span a JOIN span b ON a.id < b.id AND a.began < b.ended AND b.began < a.ended"), 0);
}

/// A procedure runs alone; a batch that has other tasks leaves it, and its rate is not used up by that.
#[test]
fn a_rate_is_used_by_what_runs_only() {
    let site = Site::start("tenant_q.max_executors = 1\n", &["t1"]);
    site.run(
        "t1",
        "SELECT tq_pause();
         CREATE PROCEDURE step(k text) LANGUAGE sql AS $$ SELECT public.ok(k) $$;
         SELECT tq_register('step', rate => '1/h');
         SELECT count(tq_async('ok', jsonb_build_array('before ' || i), priority => 5)) FROM generate_series(1, 5) i;
         SELECT tq_async('step', '[\"procedure\"]');
         SELECT tq_resume()",
    );
    site.wait_idle_within(SOON, &["t1"]);
    site.assert_once(6);
}

/// Written as waiting, and the server went down before anybody looked a second time.
#[test]
fn what_waits_for_nothing_any_more_is_found_after_a_crash() {
    let site = Site::start("", &["t1"]);
    let done = site.enqueue("t1", "ok", r#"["done"]"#, "");
    site.wait_ended("t1", &done, 'd');
    site.run(
        "t1",
        &format!(
            "SELECT tq_pause();
             SELECT tq_async('ok', '[\"waits\"]'), tq_async('ok', '[\"aside\"]', lock => 'l');
             UPDATE tq_task SET state = 'w', waits_for = '{done}' WHERE lock_key IS NULL;
             UPDATE tq_task SET state = 'k', waits_for = gen_random_uuid() WHERE lock_key IS NOT NULL"
        ),
    );
    site.cluster.restart(Stop::Immediate);
    site.run("t1", "SELECT tq_resume()");
    site.cluster.restart(Stop::Immediate);
    site.wait_idle_within(SOON, &["t1"]);
    site.assert_once(3);
}

/// One queue's urgent flood doesn't keep the others from running, whatever happens meanwhile.
#[test]
fn queues_that_take_turns_all_get_theirs() {
    let site = Site::start("tenant_q.max_executors = 1\n", &["t1"]);
    site.run(
        "t1",
        "SELECT tq_pause();
         SELECT tq_set_queue('reports', pick => 'round_robin'), tq_set_queue('mails', pick => 'random');
         SELECT count(tq_async('ok', jsonb_build_array('urgent ' || i), priority => 9)) FROM generate_series(1, 6000) i;
         SELECT count(tq_async('ok', jsonb_build_array('report ' || i), queue => 'reports')) FROM generate_series(1, 300) i;
         SELECT count(tq_async('ok', jsonb_build_array('mail ' || i), queue => 'mails', priority => -9)) FROM generate_series(1, 300) i;
         SELECT count(tq_async('bad', jsonb_build_array('bad ' || i), queue => 'mails', max_attempts => 2, retry => tq_backoff('fixed', '0 s'))) FROM generate_series(1, 20) i;
         SELECT tq_resume()",
    );
    site.cluster.wait_until(DB, "SELECT count(*) > 500 FROM fx");
    site.cluster.restart(Stop::Immediate);
    site.wait_idle_within(SOON, &["t1"]);
    site.assert_once(6600);
    for queue in ["report", "mail"] {
        let last = site.number(&format!("SELECT count(*) FROM fx WHERE at <= (SELECT max(at) FROM fx WHERE k LIKE '{queue} %')"));
        assert!(last < 3000, "the last {queue} came {last}th");
    }
    site.cluster.assert_log_clean();
}

/// Rows deleted by hand are announced by nobody.
#[test]
fn what_waits_for_rows_that_were_deleted_by_hand_is_settled_by_the_sweep() {
    let site = Site::start("tenant_q.sweep_interval = 1s\n", &["t1", "t2"]);
    prepare(&site, &["t1", "t2"]);
    for t in ["t1", "t2"] {
        site.run(
            t,
            "SELECT tq_async('gate', '[\"one\"]', name => 'one');
             SELECT tq_async('ok', '[\"two\"]', name => 'two', delay => '1 hour');
             SELECT tq_async('ok', '[\"after two\"]', name => 'after two', depends_on => ARRAY[tq_find('two')]);
             SELECT tq_async('ok', '[\"after both\"]', name => 'after both', depends_on => ARRAY[tq_find('one'), tq_find('two')]);
             SELECT tq_async('ok', '[\"after any\"]', name => 'after any', depends_on => ARRAY[tq_find('two'), tq_find('one')], depends_mode => 'any');
             SELECT tq_chain('[{\"handler\": \"ok\", \"args\": [\"chain 1\"], \"delay\": \"1 hour\", \"name\": \"step\"}, {\"handler\": \"ok\", \"args\": [\"chain 2\"]}]',
                             task => '{\"name\": \"chain\", \"hook\": \"hook\"}');
             SELECT tq_group('[{\"handler\": \"ok\", \"args\": [\"group 1\"]}, {\"handler\": \"ok\", \"args\": [\"group 2\"], \"delay\": \"1 hour\", \"name\": \"member\"}]',
                             '{\"name\": \"group\", \"hook\": \"hook\"}')",
        );
        // All but what is due in an hour, and what waits for it, has had its look.
        site.cluster.wait_until(DB, &format!("SELECT count(*) = 3 FROM {t}.tq_task WHERE name LIKE 'after %' AND state = 'w'"));
    }
    site.cluster.wait_until(DB, "SELECT count(*) = 2 FROM fx WHERE k = 'group 1'");
    // What the tenant's owner does in t1, a superuser does in t2 by emptying the table but for what waits.
    site.run("t1", "DELETE FROM tq_task WHERE name IN ('two', 'step', 'member')");
    site.cluster.run(DB, "DELETE FROM t2.tq_task WHERE state IN ('q', 't') AND run_at > now()");
    for t in ["t1", "t2"] {
        let states = format!(
            "SELECT string_agg(concat_ws(' ', name, state, substr(error->>'message', greatest(length(error->>'message') - 7, 1))), ', ' ORDER BY name)
               FROM {t}.tq_result WHERE name IN ('after two', 'after both', 'chain', 'group')"
        );
        site.cluster
            .wait_until(DB, &format!("SELECT count(*) = 4 FROM {t}.tq_result WHERE name IN ('after two', 'after both', 'chain', 'group')"));
        let expected = "after both c  is gone, after two c  is gone, chain f  is gone, group f  is gone";
        assert_eq!(site.cluster.value(DB, &states), expected);
    }
    site.cluster.wait_until(DB, "SELECT count(*) = 4 FROM fx WHERE k IN ('hook chain failed', 'hook group failed')");
    site.open_gate();
    site.wait_idle(&["t1", "t2"]);
    assert_eq!(site.number("SELECT count(*) FROM fx WHERE k = 'after any'"), 2, "the other one has ended well");
    assert_eq!(
        site.number("SELECT count(*) FROM fx WHERE k IN ('after two', 'after both', 'chain 2')"),
        0,
        "nothing runs for what is gone"
    );
    site.cluster.assert_log_clean();
}

/// Whoever waits for the result in a session is told that there will be none.
#[test]
fn who_waits_for_a_task_that_is_deleted_by_hand_is_told_so() {
    let site = Site::start("", &["t1"]);
    let id = site.enqueue("t1", "ok", r#"["later"]"#, ", delay => '1 hour', group_id => 'g'");
    thread::scope(|scope| {
        let waits = |sql: String| {
            let site = &site;
            scope.spawn(move || site.cluster.try_rows_as("t1", DB, &sql).map(|rows| rows.len()).map_err(|e| e.code))
        };
        let of_task = waits(format!("SELECT tq_result('{id}', wait => '10 minutes')"));
        let of_group = waits("SELECT tq_result_group('g', wait => '10 minutes')".into());
        site.cluster
            .wait_until(DB, "SELECT count(*) = 2 FROM pg_stat_activity WHERE wait_event = 'Extension' AND query LIKE 'SELECT tq_result%'");
        site.run("t1", "DELETE FROM tq_task");
        assert_eq!(of_task.join().expect("no panic"), Err("P0002".to_string()));
        assert_eq!(of_group.join().expect("no panic"), Ok(1));
    });
    site.cluster.assert_log_clean();
}

/// Those that stay in place at a gate bring those in that were put aside behind them: also when they were deleted by hand.
#[test]
fn who_was_put_aside_behind_rows_that_were_deleted_by_hand_goes_on() {
    let site = Site::start("tenant_q.sweep_interval = 1s\n", &["t1"]);
    site.run("t1", "SELECT tq_set_limit('mail', rate => '1/2s')");
    site.run("t1", "SELECT count(tq_async('ok', jsonb_build_array('mail ' || i), limit_key => 'mail')) FROM generate_series(1, 110) i");
    site.cluster.wait_until(DB, "SELECT count(*) FILTER (WHERE state = 'k') > 0 AND count(*) > 100 FROM t1.tq_task");
    site.cluster.run(
        DB,
        "DELETE FROM t1.tq_task WHERE state = 'q';
         DELETE FROM t1.tq_task WHERE id NOT IN (SELECT id FROM t1.tq_task WHERE state = 'k' ORDER BY run_at LIMIT 2)",
    );
    site.wait_idle(&["t1"]);
    site.assert_alive("t1");
    site.cluster.assert_log_clean();
}

/// Whoever enqueues can't be seen before the commit: what has ended meanwhile, without a result to tell, has ended well.
#[test]
fn what_ends_unsaved_while_a_dependent_is_being_enqueued_has_ended_well() {
    let site = Site::start("", &["t1"]);
    site.run("t1", "SELECT tq_register('ok', save => true)");
    let parent = site.enqueue("t1", "gate", r#"["parent"]"#, ", save => false");
    site.wait_running(&parent);
    let mut client = site.client("t1");
    let enqueue = format!("BEGIN; SELECT tq_async('ok', '[\"dependent\"]', depends_on => ARRAY['{parent}'::uuid])");
    client.batch_execute(&enqueue).expect("enqueue");
    site.open_gate();
    site.cluster.wait_until(DB, &format!("SELECT NOT EXISTS (SELECT FROM t1.tq_task WHERE id = '{parent}')"));
    client.batch_execute("COMMIT").expect("commit");
    site.wait_idle(&["t1"]);
    site.assert_once(2);
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_task"), 0, "links without anybody");
    site.cluster.assert_log_clean();
}

/// A window counts starts by stretches of the clock, and a task starts in the one that it was counted in: also where those
/// before it in the same batch take their time.
#[test]
fn a_window_lets_so_many_start_in_each_stretch_of_the_clock() {
    let site = Site::start("", &["t1"]);
    site.run(
        "t1",
        "SELECT tq_set_queue('mail', rate => '3/2s window');
         SELECT count(tq_async('slow', jsonb_build_array(n::text, 0.4), queue => 'mail')) FROM generate_series(1, 10) n",
    );
    site.wait_idle_within(SOON, &["t1"]);
    let most = "SELECT max(n) FROM (SELECT count(*) AS n FROM t1.tq_result GROUP BY floor(extract(epoch FROM started_at) / 2)) x";
    assert_eq!(site.number(most), 3);
    site.cluster.assert_log_clean();
}
