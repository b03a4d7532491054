//! What grows, and what happens when there is no memory.

use std::time::{Duration, Instant};

use cluster::private_memory;

use crate::site::{DB, Site};

/// Tasks of every kind, a few dozen each, whose documents are large and full of numbers: whatever of them stays adds up soon.
const EVERY_KIND: &[&str] = &[
    "SELECT tq_async('nop', '[1]', meta => (SELECT jsonb_agg(n) FROM generate_series(1, 200) AS n), max_attempts => 5, timeout => '1 minute',
        retry => tq_backoff('fixed', '0.01 seconds')) FROM generate_series(1, 300)",
    "SELECT tq_async('bad', '[\"x\"]', meta => (SELECT jsonb_agg(n) FROM generate_series(1, 200) AS n), max_attempts => 2,
        retry => tq_backoff('fixed', '0.001 seconds'), on_failure => 'told') FROM generate_series(1, 40)",
    "SELECT tq_async('nop', '[1]', on_success => 'told', hook => 'told', meta => (SELECT jsonb_agg(n) FROM generate_series(1, 200) AS n))
        FROM generate_series(1, 30)",
    "SELECT tq_chain('[{\"handler\": \"echo\", \"args\": [1]}, \"echo\", \"echo\"]', pass_result => true) FROM generate_series(1, 20)",
    "SELECT tq_group('[{\"handler\": \"echo\", \"args\": [1]}, {\"handler\": \"echo\", \"args\": [2]}]') FROM generate_series(1, 20)",
    "SELECT tq_async_iter('echo', ARRAY['[1]', '[2]', '[3]', '[4]']::jsonb[], chunk => 2) FROM generate_series(1, 20)",
    "SELECT tq_async('nop', '[1]', expires => '0.001 seconds', delay => '0.01 seconds') FROM generate_series(1, 20)",
    "SELECT tq_cancel(tq_async('nop', '[1]')) FROM generate_series(1, 20)",
    "SELECT tq_async('nop', '[1]', limit_key => 'l', lock => 'k' || n % 3) FROM generate_series(1, 10) AS n",
    "SELECT tq_async('nop', '[1]', depends_on => ARRAY[tq_async('nop', '[1]')]) FROM generate_series(1, 20)",
];

#[test]
fn an_executor_does_not_grow_with_what_it_has_run() {
    let site = Site::start("tenant_q.max_executors = 1\ntenant_q.retention_every = 100\nlog_min_messages = fatal\n", &["t1"]);
    site.run(
        "t1",
        "CREATE FUNCTION nop(i int) RETURNS void LANGUAGE sql AS 'SELECT NULL::void';
         CREATE FUNCTION echo(i jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
         CREATE FUNCTION told(task jsonb) RETURNS boolean LANGUAGE sql AS 'SELECT true';
         CREATE FUNCTION listens(task jsonb) RETURNS boolean LANGUAGE sql AS 'SELECT true';
         SELECT tq_register(h) FROM unnest('{nop,echo,told,listens}'::text[]) AS h;
         SELECT tq_on(e, 'listens', for_handler => 'echo') FROM unnest('{before_run,after_run,done}'::text[]) AS e;
         SELECT tq_set_limit('l', max_running => 1);
         SELECT tq_schedule('s' || n, 'nop', 'every 1 second', args => '[1]') FROM generate_series(1, 20) AS n;
         SELECT tq_set_tenant(save_limit => 100, failure_ttl => '0 seconds', result_ttl => '0 seconds')",
    );
    let mut client = site.client("t1");
    let began = Instant::now();
    let (mut tasks, mut settled, mut executor) = (0, None, 0);
    // A third of the time for the caches to fill, two thirds in which nothing may come to stay.
    let (warm, whole) = (Duration::from_secs(6), Duration::from_secs(18));
    while began.elapsed() < whole {
        for sql in EVERY_KIND {
            tasks += client.query(*sql, &[]).unwrap_or_else(|error| panic!("{error:?}: {sql}")).len();
        }
        site.cluster.wait_until(DB, "SELECT NOT EXISTS (SELECT FROM t1.tq_task WHERE run_at <= now())");
        let pids = site.cluster.pids("tenant_q executor");
        assert!(pids.len() == 1 && (executor == 0 || executor == pids[0]), "the same one runs all: {pids:?}");
        executor = pids[0];
        if settled.is_none() && began.elapsed() > warm {
            settled = Some((private_memory(executor), tasks));
        }
    }
    let (before, early) = settled.expect("more than one round");
    let grown = private_memory(executor) - before;
    assert!(grown <= 1024, "{grown} kB came to stay of {} tasks", tasks - early);
    site.cluster.assert_log_clean();
}
