//! The tenants of the benchmark: one for single drains, 1,000 of one role, 1,000 of a role each; and what idle ones cost.

use std::collections::HashMap;
use std::time::Duration;

use crate::Options;
use crate::report::Report;
use crate::server::{self, Server};

/// How many tenants "many" are.
pub const MANY: i64 = 1000;

/// Tenants attached in one transaction: more would take too many locks.
const A_TRANSACTION: usize = 50;

/// The one tenant and its role.
pub const ONE: &str = "one";

/// Everything but tenants: extension, roles, the handlers, the tables that handlers write into.
pub fn prepare(server: &Server) {
    server.run(
        "CREATE EXTENSION tenant_q;
         CREATE EXTENSION pg_stat_statements;
         CREATE ROLE one LOGIN;
         CREATE ROLE many LOGIN;
         CREATE ROLE flood LOGIN;
         CREATE SCHEMA one AUTHORIZATION one;
         ALTER ROLE one SET search_path = one, public;
         CREATE FUNCTION public.bench_noop() RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
         CREATE TABLE public.bench_started (sent float8 NOT NULL, started float8 NOT NULL);
         GRANT INSERT ON public.bench_started TO PUBLIC;
         CREATE FUNCTION public.bench_start(sent float8) RETURNS void LANGUAGE plpgsql AS
             'BEGIN INSERT INTO public.bench_started VALUES (sent, extract(epoch FROM clock_timestamp())); END';
         CREATE TABLE public.bench_fired (tenant text NOT NULL, at timestamptz NOT NULL);
         GRANT INSERT ON public.bench_fired TO PUBLIC;
         CREATE FUNCTION public.bench_tick() RETURNS void LANGUAGE plpgsql AS
             'BEGIN INSERT INTO public.bench_fired VALUES (current_schema(), clock_timestamp()); END';
         -- Asked of the tenants' own tables: how much there is to do, whether anything is, when results came.
         CREATE FUNCTION public.bench_left(pattern text) RETURNS bigint LANGUAGE plpgsql AS $$
         DECLARE
             tenant name;
             here bigint;
             total bigint := 0;
         BEGIN
             FOR tenant IN SELECT nspname FROM pg_namespace WHERE nspname LIKE pattern LOOP
                 EXECUTE format('SELECT count(*) FROM %I.tq_task', tenant) INTO here;
                 total := total + here;
             END LOOP;
             RETURN total;
         END $$;
         CREATE FUNCTION public.bench_any_left(pattern text) RETURNS int LANGUAGE plpgsql AS $$
         DECLARE
             tenant name;
             here boolean;
         BEGIN
             FOR tenant IN SELECT nspname FROM pg_namespace WHERE nspname LIKE pattern LOOP
                 EXECUTE format('SELECT EXISTS (SELECT FROM %I.tq_task)', tenant) INTO here;
                 IF here THEN
                     RETURN 1;
                 END IF;
             END LOOP;
             RETURN 0;
         END $$;
         CREATE FUNCTION public.bench_span(pattern text, since float8, OUT first float8, OUT last float8)
         LANGUAGE plpgsql AS $$
         DECLARE
             tenant name;
             least_here timestamptz;
             most_here timestamptz;
         BEGIN
             FOR tenant IN SELECT nspname FROM pg_namespace WHERE nspname LIKE pattern LOOP
                 EXECUTE format('SELECT min(finished_at), max(finished_at) FROM %I.tq_result WHERE finished_at > $1', tenant)
                 INTO least_here, most_here USING to_timestamp(since);
                 first := least(first, extract(epoch FROM least_here));
                 last := greatest(last, extract(epoch FROM most_here));
             END LOOP;
         END $$;",
    );
    attach(server, ONE);
    server.run(
        "SELECT tq_register('bench_noop', 'public.bench_noop()', shared => true);
         SELECT tq_register('bench_start', 'public.bench_start(float8)', shared => true);
         SELECT tq_register('bench_tick', 'public.bench_tick()', shared => true);",
    );
}

fn attach(server: &Server, schema: &str) {
    server.run(&format!("SELECT tq_attach('{schema}')"));
}

/// Schemas many1 … many1000 of role many.
pub fn attach_many_of_one_role(server: &Server) {
    attach_all(server, "many", MANY, |_| "many".to_owned());
}

/// Schemas apart1 … apart1000 of the roles of the same names.
pub fn attach_many_of_many_roles(server: &Server) {
    let mut client = server.client("postgres");
    for number in 1..=MANY {
        server::run(&mut client, &format!("CREATE ROLE apart{number} LOGIN"));
    }
    attach_all(server, "apart", MANY, |number| format!("apart{number}"));
}

pub fn attach_all(server: &Server, name: &str, count: i64, owner: impl Fn(i64) -> String) {
    let mut client = server.client("postgres");
    let began = std::time::Instant::now();
    for first in (1..=count).step_by(A_TRANSACTION) {
        let last = count.min(first + A_TRANSACTION as i64 - 1);
        let statements: String = (first..=last)
            .map(|number| {
                let (schema, role) = (format!("{name}{number}"), owner(number));
                format!("CREATE SCHEMA {schema} AUTHORIZATION {role}; SELECT tq_attach('{schema}');")
            })
            .collect();
        server::run(&mut client, &statements);
    }
    let each = began.elapsed().as_secs_f64() * 1000.0 / count as f64;
    println!("   {count} tenants {name}1 … attached, {each:.1} ms each");
}

/// What all processes of the extension and the postmaster use while nothing is due.
pub fn idle_cpu(server: &Server, options: &Options, report: &mut Report) {
    let have = server.number("SELECT count(*) FROM public.tq_tenants") as i64;
    server.run("CREATE ROLE idle LOGIN");
    attach_all(server, "idle", (options.idle_tenants - have).max(0), |_| "idle".to_owned());
    let tenants = server.number("SELECT count(*) FROM public.tq_tenants");
    let used = idle_share(server);
    report.add(format!("idle CPU, {tenants:.0} tenants, % of one core"), used, "%");
}

/// How much of one core is used while there is nothing to do, in percent.
pub fn idle_share(server: &Server) -> f64 {
    const SECONDS: u64 = 60;
    // What was done before has to be over: autovacuum's work, executors that wait for more.
    server.settle();
    std::thread::sleep(Duration::from_secs(30));
    cpu_share(server, SECONDS)
}

/// What all processes of the extension and the postmaster use while a schedule keeps the scheduler alive and sweeps
/// come as often: a process that spins takes most of a core.
pub fn ticking_cpu(server: &Server, options: &Options, report: &mut Report) {
    server.run("ALTER SYSTEM SET tenant_q.sweep_interval = '5s'");
    server.run("SELECT pg_reload_conf()");
    server.run("SELECT tq_schedule('ticking', 'bench_noop', 'every 5 seconds', tenant => 'one')");
    std::thread::sleep(Duration::from_secs(10));
    let used = cpu_share(server, options.ticking_seconds);
    server.run("SELECT tq_unschedule('ticking', tenant => 'one')");
    server.run("ALTER SYSTEM RESET tenant_q.sweep_interval");
    server.run("SELECT pg_reload_conf()");
    report.add("CPU, a schedule and a sweep every 5 s, % of one core".to_owned(), used, "%");
}

/// How much of one core is used in the next so many seconds, in percent.
fn cpu_share(server: &Server, seconds: u64) -> f64 {
    let before = cpu_ticks(server);
    std::thread::sleep(Duration::from_secs(seconds));
    let after = cpu_ticks(server);
    let used: u64 = after.iter().map(|(pid, ticks)| ticks - before.get(pid).copied().unwrap_or(0).min(*ticks)).sum();
    // A tick is a hundredth of a second on every Linux that matters.
    used as f64 / seconds as f64
}

/// Clock ticks used so far by each process of the extension, by sessions of workers, and by the postmaster.
fn cpu_ticks(server: &Server) -> HashMap<i32, u64> {
    let mut client = server.client("postgres");
    let pids = server::value(
        &mut client,
        "SELECT coalesce(string_agg(pid::text, ','), '') FROM pg_stat_activity
         WHERE backend_type LIKE 'tenant_q%' OR usename = 'worker'",
    );
    let postmaster = std::env::var("BENCH_DATA")
        .ok()
        .and_then(|data| std::fs::read_to_string(format!("{data}/postmaster.pid")).ok())
        .and_then(|text| text.lines().next().and_then(|line| line.parse::<i32>().ok()));
    let mut ticks = HashMap::new();
    for pid in pids.split(',').filter_map(|pid| pid.parse().ok()).chain(postmaster) {
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        // Fields 14 and 15, counted from behind the program's name, which may have blanks.
        let fields: Vec<_> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        ticks.insert(pid, field(14) + field(15));
    }
    ticks
}
