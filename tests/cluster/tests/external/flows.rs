//! Flows, dependencies, hooks, schedules, fan-outs and listeners, in which tasks of the server and of workers take turns.

use super::{Worker, enqueue, start};
use crate::site::{DB, Site};

/// Two tenants with `step(x)`, a worker's; and `double(x)`, and `tell(task)`, which leaves a trace of a task that it is told of.
fn site() -> Site {
    let site = start("", &["t1", "t2"]);
    site.cluster.run(
        DB,
        "CREATE FUNCTION public.double(x int) RETURNS int LANGUAGE sql AS 'SELECT 2 * x';
         CREATE FUNCTION public.tell(task jsonb) RETURNS void LANGUAGE sql AS
            $$ SELECT public.ok(concat_ws(' ', task ->> 'handler', task ->> 'state')) $$",
    );
    for t in ["t1", "t2"] {
        site.run(
            t,
            r#"SELECT tq_register('step', external => true, params => '[{"name": "x", "type": "int"}]', max_attempts => 1),
                      tq_register('double'), tq_register('tell')"#,
        );
    }
    site
}

fn result_of(site: &Site, id: &str) -> String {
    site.value("t1", &format!("SELECT tq_result('{id}', wait => '20 s')"))
}

#[test]
fn a_chain_goes_back_and_forth_and_passes_results() {
    let site = site();
    let id = site.value("t1", r#"SELECT tq_chain('[{"handler": "step", "args": [1]}, "double", "step", "double"]', pass_result => true)"#);
    let mut worker = Worker::of(&site);
    let first = worker.take();
    assert_eq!(first.args, r#"{"x": 1}"#);
    assert!(worker.take_now().is_empty(), "one step after the other");
    worker.finish_with(&first, "10");
    let third = worker.take();
    assert_eq!(third.args, r#"{"x": 20}"#);
    worker.finish_with(&third, "21");
    assert_eq!(result_of(&site, &id), "[10, 20, 21, 42]");
    site.cluster.assert_log_clean();
}

#[test]
fn a_result_is_passed_on_that_came_while_the_worker_waited() {
    let site = site();
    let mut worker = Worker::of(&site);
    let task = std::thread::scope(|threads| {
        let taking = threads.spawn(|| worker.take());
        site.cluster.wait_until(DB, "SELECT EXISTS (SELECT FROM tq_workers WHERE kind = 'external' AND state = 'waiting')");
        site.run("t1", r#"SELECT tq_chain('[{"handler": "double", "args": [4]}, "step"]', pass_result => true)"#);
        taking.join().expect("the take")
    });
    assert_eq!(task.args, r#"{"x": 8}"#);
}

#[test]
fn a_step_that_fails_for_good_ends_the_chain() {
    let site = site();
    let id = site.value(
        "t1",
        r#"SELECT tq_chain('[{"handler": "step", "args": [1]}, "double", "step"]', pass_result => true, task => '{"on_failure": "tell"}')"#,
    );
    let mut worker = Worker::of(&site);
    let first = worker.take();
    assert_eq!(worker.give_up(&first, ""), "failed");
    site.wait_ended("t1", &id, 'f');
    site.wait_idle(&["t1"]);
    assert!(worker.take_now().is_empty());
    assert_eq!(site.value("postgres", "SELECT string_agg(k, ',') FROM fx"), "tq_chain failed");
}

#[test]
fn a_result_that_does_not_fit_the_next_step_fails_that_step() {
    let site = site();
    let id = site.value("t1", r#"SELECT tq_chain('[{"handler": "double", "args": [1]}, "step", "step"]', pass_result => true)"#);
    let mut worker = Worker::of(&site);
    let second = worker.take();
    worker.finish_with(&second, "\"no number\"");
    assert!(worker.take_now().is_empty(), "it never gets what it doesn't take");
    site.wait_ended("t1", &id, 'f');
}

#[test]
fn a_group_of_both_kinds_has_all_results_and_passes_them_on() {
    let site = site();
    site.run("t1", r#"SELECT tq_register('sum', external => true, params => '[{"name": "all", "type": "jsonb"}]')"#);
    let id = site.value(
        "t1",
        r#"SELECT tq_chain('[{"group": [{"handler": "step", "args": [1]}, {"handler": "double", "args": [2]}, {"handler": "step", "args": [3]}]},
                             "sum"]', pass_result => true)"#,
    );
    let mut worker = Worker::of(&site);
    let steps = worker.take_all(2);
    for step in &steps {
        worker.finish_with(step, &format!("[{}]", step.args));
    }
    let sum = worker.take();
    assert_eq!(sum.handler, "sum");
    assert_eq!(sum.args, r#"{"all": [[{"x": 1}], 4, [{"x": 3}]]}"#);
    worker.finish_with(&sum, "6");
    assert_eq!(result_of(&site, &id), r#"[[[{"x": 1}], 4, [{"x": 3}]], 6]"#);
}

#[test]
fn an_iteration_hands_out_chunks() {
    let site = site();
    let id = site.value("t1", "SELECT tq_async_iter('step', ARRAY['1', '[2]', '{\"x\": 3}']::jsonb[], chunk => 2)");
    let mut worker = Worker::of(&site);
    let mut chunks = worker.take_all(2);
    chunks.sort_by_key(|chunk| chunk.args.clone());
    assert_eq!([&chunks[0].args, &chunks[1].args], [r#"[{"x": 1}, {"x": 2}]"#, r#"[{"x": 3}]"#]);
    worker.finish_with(&chunks[1], "[30]");
    worker.finish_with(&chunks[0], "[10, 20]");
    assert_eq!(result_of(&site, &id), "[10, 20, 30]");
}

#[test]
fn the_death_of_a_worker_leaves_a_flow_as_it_is() {
    let site = site();
    let id = site.value("t1", r#"SELECT tq_group('[{"handler": "step", "args": [1]}, {"handler": "step", "args": [2]}]')"#);
    drop(Worker::of(&site).take());
    let mut worker = Worker::of(&site);
    for task in worker.take_all(2) {
        worker.finish_with(&task, "0");
    }
    assert_eq!(result_of(&site, &id), "[0, 0]");
}

#[test]
fn each_kind_waits_for_the_other() {
    let site = site();
    let outside = enqueue(&site);
    let inside = site.enqueue("t1", "ok", r#"["inside"]"#, &format!(", depends_on => '{{{outside}}}'"));
    let last = site.enqueue("t1", "ext", "[]", &format!(", depends_on => '{{{inside}}}'"));
    let mut worker = Worker::of(&site);
    let task = worker.take();
    assert_eq!(task.id, outside);
    assert!(worker.take_now().is_empty());
    worker.begin_to_finish(&task, "outside");
    assert_eq!(site.number("SELECT count(*) FROM fx"), 0, "not before the commit");
    worker.run("COMMIT");
    let task = worker.take();
    assert_eq!(task.id, last);
    site.wait_ended("t1", &inside, 'd');
    worker.finish(&task);
    site.assert_once(2);
}

#[test]
fn what_depends_on_a_failure_is_cancelled_of_either_kind() {
    let site = site();
    let first = site.enqueue("t1", "ext", "[]", ", max_attempts => 1");
    let ids = ["ok", "ext"].map(|handler| site.enqueue("t1", handler, r#"["x"]"#, &format!(", depends_on => '{{{first}}}'")));
    let last = site.enqueue("t1", "ext", "[]", &format!(", depends_on => '{{{}}}'", ids[1]));
    let mut worker = Worker::of(&site);
    let task = worker.take();
    worker.give_up(&task, "");
    // Whether or not a worker looks.
    drop(worker);
    for id in ids.iter().chain([&last]) {
        site.wait_ended("t1", id, 'c');
    }
    site.assert_once(0);
}

#[test]
fn hooks_are_of_either_kind() {
    let site = site();
    site.enqueue("t1", "ok", r#"["x"]"#, ", hook => 'ext'");
    let mut worker = Worker::of(&site);
    let told = worker.take();
    let task = format!("'{}'::jsonb", told.args.replace('\'', "''"));
    let about = worker.value(&format!("SELECT concat_ws(' ', {task} ->> 'handler', {task} ->> 'state')"));
    assert_eq!(about, "ok done", "{}", told.args);
    worker.finish(&told);
    site.enqueue("t1", "ext", "[]", ", on_success => 'tell'");
    let task = worker.take();
    worker.finish(&task);
    site.cluster.wait_until(DB, "SELECT EXISTS (SELECT FROM fx WHERE k = 'ext done')");
}

#[test]
fn a_schedule_s_tasks_are_taken_once_each() {
    let site = site();
    site.run("t1", r#"SELECT tq_schedule('s', 'step', '1 second', args => '{"x": 7}', overlap => 'allow', repeats => 3)"#);
    let mut worker = Worker::of(&site);
    let mut times = Vec::new();
    for _ in 0..3 {
        let rows = worker.rows("SELECT claim, schedule, scheduled_for, args FROM tq_take(wait => '20 s')");
        assert_eq!((rows[0].get(1), rows[0].get(3)), ("s", r#"{"x": 7}"#));
        times.push(rows[0].get(2).to_owned());
        worker.run(&format!("SELECT tq_finish('{}')", rows[0].get(0)));
    }
    assert!(times.is_sorted() && times[0] < times[1] && times[1] < times[2], "{times:?}");
    site.cluster.wait_until(DB, "SELECT count(*) = 3 FROM t1.tq_result WHERE schedule = 's' AND state = 'd'");
    assert!(worker.take_now().is_empty());
}

#[test]
fn a_condition_is_asked_in_the_server_before_a_worker_gets_the_task() {
    let site = site();
    site.run("t1", "CREATE TABLE may (yes bool); INSERT INTO may VALUES (false)");
    let condition = "(SELECT yes AND current_user = ''t1'' FROM may)";
    site.run("t1", &format!("SELECT tq_schedule('s', 'step', '1 second', args => '[1]', only_if => '{condition}')"));
    let mut worker = Worker::of(&site);
    site.cluster.wait_until(DB, "SELECT run_count >= 2 FROM tq_all_schedules WHERE name = 's'");
    assert!(worker.take_now().is_empty());
    site.run("t1", "UPDATE may SET yes = true");
    let task = worker.take();
    assert_eq!((task.handler.as_str(), task.args.as_str()), ("step", r#"{"x": 1}"#));
    worker.finish(&task);
    site.wait_ended("t1", &task.id, 'd');
}

#[test]
fn a_fan_out_reaches_workers_in_each_tenant_once() {
    let site = site();
    site.cluster.run(DB, "SELECT tq_async_all('step', '[5]')");
    let mut worker = Worker::of(&site);
    let mut tenants: Vec<String> = (0..2)
        .map(|_| {
            let task = worker.take();
            assert_eq!(task.args, r#"{"x": 5}"#);
            worker.finish(&task);
            task.tenant
        })
        .collect();
    tenants.sort();
    assert_eq!(tenants, ["t1", "t2"]);
    for t in tenants {
        site.cluster.wait_until(DB, &format!("SELECT count(*) = 1 FROM {t}.tq_result WHERE state = 'd'"));
    }
    assert!(worker.take_now().is_empty());
}

#[test]
fn a_schedule_of_all_tenants_reaches_workers_in_each() {
    let site = site();
    site.cluster.run(DB, "SELECT tq_schedule_all('s', 'step', '1 second', args => '[5]', repeats => 2)");
    let mut worker = Worker::of(&site);
    let mut got = Vec::new();
    while got.len() < 4 {
        let rows = worker.rows("SELECT claim, tenant, scheduled_for FROM tq_take(4, wait => '20 s')");
        assert!(!rows.is_empty(), "{got:?}");
        for row in rows {
            worker.run(&format!("SELECT tq_finish('{}')", row.get(0)));
            got.push((row.get(1).to_owned(), row.get(2).to_owned()));
        }
    }
    got.sort();
    got.dedup();
    assert_eq!(got.len(), 4, "each tenant at each time once");
    assert!(worker.take_now().is_empty());
}

#[test]
fn a_listener_to_enqueue_is_asked_before_a_worker_gets_the_task() {
    let site = site();
    site.run(
        "t1",
        "CREATE FUNCTION allow(task jsonb) RETURNS bool LANGUAGE sql AS $$ SELECT task -> 'args' <> '[0]' $$;
         SELECT tq_register('allow'), tq_on('enqueue', 'allow', for_handler => 'step'), tq_grant('worker', '{enqueue}')",
    );
    // At once, in a session of its role.
    let refused = site.cluster.try_run_as("t1", DB, "SELECT tq_async('step', '[0]')").expect_err("it is refused");
    assert_eq!(refused.code, "TQ005");
    let allowed = site.enqueue("t1", "step", "[1]", "");
    let mut worker = Worker::of(&site);
    let task = worker.take();
    assert_eq!(task.id, allowed);
    worker.finish(&task);
    // In the server, where somebody else has enqueued it.
    let refused = worker.value("SELECT tq_async('step', '[0]', tenant => 't1')");
    let allowed = worker.value("SELECT tq_async('step', '[2]', tenant => 't1')");
    let task = worker.take();
    assert_eq!(task.id, allowed);
    site.wait_ended("t1", &refused, 'c');
    worker.finish(&task);
    site.wait_ended("t1", &allowed, 'd');
}

#[test]
fn listeners_hear_of_workers_ends_and_are_of_either_kind() {
    let site = site();
    site.run(
        "t1",
        "SELECT tq_on('done', 'tell', for_handler => 'step'), tq_on('failed', 'tell', for_handler => 'step'), tq_on('done', 'ext', for_handler => 'ok')",
    );
    let mut worker = Worker::of(&site);
    for end in ["done", "failed"] {
        site.enqueue("t1", "step", "[1]", "");
        let task = worker.take();
        match end {
            "done" => worker.finish(&task),
            _ => assert_eq!(worker.give_up(&task, ", final => true"), "failed"),
        }
        site.cluster.wait_until(DB, &format!("SELECT EXISTS (SELECT FROM fx WHERE k = 'step {end}')"));
    }
    site.enqueue("t1", "ok", r#"["x"]"#, "");
    let told = worker.take();
    assert!(told.args.contains(r#""event": "done""#), "{}", told.args);
    worker.finish(&told);
}

#[test]
fn what_would_run_in_an_attempt_in_the_server_is_refused() {
    let site = site();
    site.run("t1", "CREATE FUNCTION allow(task jsonb) RETURNS bool LANGUAGE sql AS 'SELECT true'; SELECT tq_register('allow')");
    for call in [
        "tq_on('before_run', 'allow', for_handler => 'step')",
        "tq_on('after_run', 'allow', for_handler => 'step')",
        "tq_async('step', '[1]', sync => true)",
    ] {
        assert_eq!(site.cluster.try_run_as("t1", DB, &format!("SELECT {call}")).expect_err(call).code, "0A000", "{call}");
    }
}
