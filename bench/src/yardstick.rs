//! The yardstick: the same claim, call and record, written by hand as a PL/pgSQL loop, as people do without a queue.

use std::time::{Duration, Instant};

use crate::Options;
use crate::report::Report;
use crate::server::{self, Server, wait_for_none};

pub fn measure(server: &Server, options: &Options, report: &mut Report) {
    prepare(server);
    // A transaction a task is slow: fewer tasks say the same.
    for (batch, tasks) in [(1, options.tasks / 8), (100, options.tasks)] {
        for backends in [1, 2] {
            for commit in ["on", "off"] {
                if batch > 1 && commit == "off" {
                    continue; // a hundredth of the commits: no difference
                }
                let rate = drain(server, tasks.max(1000), batch, backends, commit);
                let how = match (batch, commit) {
                    (1, "off") => "1 task a transaction, asynchronous commit".to_owned(),
                    (1, _) => "1 task a transaction".to_owned(),
                    _ => format!("{batch} tasks a transaction"),
                };
                report.add(format!("yardstick, {how}, {backends} backend{}", ["", "s"][backends - 1]), rate, "tasks/s");
            }
        }
    }
}

fn prepare(server: &Server) {
    if server.value("SELECT to_regnamespace('yard') IS NOT NULL") == "t" {
        return;
    }
    server.run(
        "CREATE SCHEMA yard;
         CREATE FUNCTION yard.noop() RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
         CREATE TABLE yard.task (
             id uuid PRIMARY KEY, handler text NOT NULL, args jsonb, priority smallint NOT NULL DEFAULT 0,
             run_at timestamptz NOT NULL DEFAULT now(), attempts int NOT NULL DEFAULT 0);
         CREATE INDEX ON yard.task (priority DESC, run_at, id);
         CREATE TABLE yard.result (
             id uuid PRIMARY KEY, handler text NOT NULL, args jsonb, result jsonb, error text, attempts int NOT NULL,
             started_at timestamptz NOT NULL, finished_at timestamptz NOT NULL);",
    );
    // The batch is a literal: as a parameter it would be planned anew each time.
    for batch in [1, 100] {
        server.run(&format!(
            "CREATE PROCEDURE yard.work{batch}() LANGUAGE plpgsql AS $$
             DECLARE
                 task record;
                 began timestamptz;
                 failure text;
                 found_any boolean;
             BEGIN
                 LOOP
                     found_any := false;
                     FOR task IN
                         DELETE FROM yard.task WHERE ctid = ANY (ARRAY(
                             SELECT ctid FROM yard.task WHERE run_at <= now()
                             ORDER BY priority DESC, run_at, id LIMIT {batch} FOR UPDATE SKIP LOCKED))
                         RETURNING *
                     LOOP
                         found_any := true;
                         began := clock_timestamp();
                         failure := NULL;
                         BEGIN
                             PERFORM yard.noop();
                         EXCEPTION WHEN OTHERS THEN
                             failure := SQLERRM;
                         END;
                         INSERT INTO yard.result
                         VALUES (task.id, task.handler, task.args, 'null', failure, task.attempts + 1, began, clock_timestamp());
                     END LOOP;
                     COMMIT;
                     EXIT WHEN NOT found_any;
                 END LOOP;
             END $$"
        ));
    }
}

fn drain(server: &Server, tasks: i64, batch: i64, backends: usize, commit: &str) -> f64 {
    server.run("TRUNCATE yard.task, yard.result");
    server.settle();
    server.run(&format!("INSERT INTO yard.task (id, handler) SELECT gen_random_uuid(), 'noop' FROM generate_series(1, {tasks})"));
    server.run("ANALYZE yard.task");
    let mut clients: Vec<_> = (0..backends).map(|_| server.client("postgres")).collect();
    for client in &mut clients {
        server::run(client, &format!("SET synchronous_commit = {commit}; SET plan_cache_mode = force_generic_plan"));
    }
    let began = Instant::now();
    std::thread::scope(|scope| {
        for client in &mut clients {
            scope.spawn(move || server::run(client, &format!("CALL yard.work{batch}()")));
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    wait_for_none("tasks of the yardstick", Duration::from_millis(10), || {
        server.number(&format!("SELECT {tasks} - count(*) FROM yard.result WHERE error IS NULL"))
    });
    tasks as f64 / seconds
}
