//! make bench [N=200000] [BENCH="options"], or bench/run options:
//!
//!   --tasks N        no-op tasks in each drain (200000)
//!   --rounds N       how often the drains and their yardstick are measured, in turn; medians are shown (3)
//!   --seconds N      how long latency and enqueue rates are measured (15)
//!   --only A,B       some of: drain, tenants, roles, yardstick, workers, enqueue, bulk, latency, takes, schedules; or none
//!   --idle N         idle CPU with N attached tenants (only when given; 10000 is the promise)
//!   --active N       what tenant_q.executor_memory costs while N tenants have work (only when given; 10000 is the promise)
//!   --waiting N      idle CPU with N schedules, none due (only when given; 100000 is the promise)
//!   --ticking N      CPU in N seconds with a schedule and a sweep every 5 s (only when given)
//!   --noisy N        latency beside another tenant's N queued tasks (only when given; 1000000 is the promise)
//!   --foreign N      takes beside N tasks that the worker doesn't offer (1000000)
//!   --elsewhere N    takes of a worker that may work in 10 of N tenants with work (only when given; 10000 is the promise)
//!   --waiters N      idle CPU with N workers that wait, and 1,000 tenants (only when given; 50 is the promise)
//!   --save           the table to bench/results/<date>.txt, too
//!
//!   drain      one tenant, everything queued while paused; then resumed until its queue is empty: tasks/s, WAL, statements
//!   tenants    the same over 1,000 tenants of one role; roles: over 1,000 tenants of a role each, 20 tasks a tenant
//!   yardstick  a hand-written PL/pgSQL loop: claim (DELETE … SKIP LOCKED), call, insert the result
//!   enqueue    one call a commit from 4 clients; bulk: many calls in one statement; beside bare INSERTs
//!   latency    enqueue → start of the handler at 20 a second, from the call and from the end of its commit
//!   workers    tasks that workers take and end, beside a loop of SELECT … SKIP LOCKED and UPDATE of the same client
//!   takes      enqueue → taken by a worker that waits; a take beside very many tasks that it doesn't offer, and of 300 handlers
//!   schedules  5,000 schedules of 1,000 tenants due at one instant: when the last has run; another tenant's latency meanwhile
//!
//! The handler is a PL/pgSQL function returning void, results are saved, fsync and synchronous_commit are on. A machine
//! drifts: compare what one run says, not two.

mod drain;
mod enqueue;
mod latency;
mod report;
mod schedules;
mod server;
mod tenants;
mod workers;
mod yardstick;

use report::Report;
use server::Server;

/// What --only may name; "none" leaves what has an option of its own.
const PARTS: [&str; 11] = ["drain", "tenants", "roles", "yardstick", "workers", "enqueue", "bulk", "latency", "takes", "schedules", "none"];

/// What was asked for.
pub struct Options {
    pub tasks: i64,
    pub rounds: usize,
    pub seconds: u64,
    pub idle_tenants: i64,
    pub active_tenants: i64,
    pub noisy_tasks: i64,
    pub ticking_seconds: u64,
    pub waiting_schedules: i64,
    pub foreign_tasks: i64,
    pub foreign_tenants: i64,
    pub waiting_workers: i64,
    only: Vec<String>,
    save: bool,
}

impl Options {
    fn from_arguments() -> Result<Options, String> {
        let mut options = Options {
            tasks: 200_000,
            rounds: 3,
            seconds: 15,
            idle_tenants: 0,
            active_tenants: 0,
            noisy_tasks: 0,
            ticking_seconds: 0,
            waiting_schedules: 0,
            foreign_tasks: 1_000_000,
            foreign_tenants: 0,
            waiting_workers: 0,
            only: Vec::new(),
            save: false,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            if argument == "--save" {
                options.save = true;
                continue;
            }
            let value = arguments.next().ok_or(format!("{argument} wants a value (--help lists the options)"))?;
            let number = || value.parse::<i64>().ok().filter(|n| *n > 0).ok_or(format!("{argument} {value}: not a number"));
            match argument.as_str() {
                "--tasks" => options.tasks = number()?,
                "--rounds" => options.rounds = number()? as usize,
                "--seconds" => options.seconds = number()? as u64,
                "--idle" => options.idle_tenants = number()?,
                "--active" => options.active_tenants = number()?,
                "--noisy" => options.noisy_tasks = number()?,
                "--ticking" => options.ticking_seconds = number()? as u64,
                "--foreign" => options.foreign_tasks = number()?,
                "--elsewhere" => options.foreign_tenants = number()?,
                "--waiters" => options.waiting_workers = number()?,
                "--waiting" => options.waiting_schedules = number()?,
                "--only" => {
                    options.only = value.split(',').map(str::to_owned).collect();
                    if let Some(unknown) = options.only.iter().find(|name| !PARTS.contains(&name.as_str())) {
                        return Err(format!("--only {unknown}: no such part, there are {}", PARTS.join(", ")));
                    }
                }
                _ => return Err(format!("no such option: {argument} (--help lists them)")),
            }
        }
        Ok(options)
    }

    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == part)
    }
}

fn main() {
    let options = Options::from_arguments().unwrap_or_else(|problem| {
        eprintln!("bench: {problem}");
        std::process::exit(2);
    });
    let server = Server::from_environment();
    let mut report = Report::new(&server);

    tenants::prepare(&server);
    let needs_many =
        ["tenants", "schedules"].iter().any(|part| options.wants(part)) || options.waiting_schedules > 0 || options.waiting_workers > 0;
    if needs_many {
        report.part("set-up", |_| tenants::attach_many_of_one_role(&server));
    }
    if options.wants("roles") {
        report.part("set-up", |_| tenants::attach_many_of_many_roles(&server));
    }
    // In turn, so that a machine that drifts does so for all alike.
    for round in 1..=options.rounds {
        report.round(round, options.rounds);
        if options.wants("drain") {
            report.part("drain", |report| drain::one_tenant(&server, &options, report));
        }
        if options.wants("yardstick") {
            report.part("yardstick", |report| yardstick::measure(&server, &options, report));
        }
        if options.wants("workers") {
            report.part("workers", |report| workers::rates(&server, &options, report));
        }
        if options.wants("tenants") {
            report.part("tenants", |report| drain::many_tenants(&server, &options, report));
        }
        if options.wants("roles") {
            report.part("roles", |report| drain::many_roles(&server, report));
        }
    }
    if options.wants("drain") {
        report.part("statements", |report| drain::statements(&server, report));
    }
    if options.wants("enqueue") {
        report.part("enqueue", |report| enqueue::one_a_commit(&server, &options, report));
    }
    if options.wants("bulk") {
        report.part("bulk", |report| enqueue::bulk(&server, &options, report));
    }
    if options.wants("latency") {
        report.part("latency", |report| latency::light_load(&server, &options, report));
    }
    if options.wants("takes") {
        report.part("latency of workers", |report| workers::latency(&server, &options, report));
        report.part("takes", |report| workers::beside_foreign(&server, &options, report));
    }
    if options.wants("schedules") {
        report.part("schedules", |report| schedules::due_at_once(&server, report));
    }
    if options.waiting_schedules > 0 {
        report.part("waiting", |report| schedules::not_due(&server, &options, report));
    }
    if options.noisy_tasks > 0 {
        report.part("noisy", |report| latency::beside_a_flood(&server, &options, report));
    }
    if options.ticking_seconds > 0 {
        report.part("ticking", |report| tenants::ticking_cpu(&server, &options, report));
    }
    if options.active_tenants > 0 {
        report.part("active", |report| drain::active_tenants(&server, &options, report));
    }
    if options.waiting_workers > 0 {
        report.part("waiters", |report| workers::waiting(&server, &options, report));
    }
    if options.foreign_tenants > 0 {
        report.part("elsewhere", |report| workers::beside_tenants(&server, &options, report));
    }
    if options.idle_tenants > 0 {
        report.part("idle", |report| tenants::idle_cpu(&server, &options, report));
    }

    let table = report.table();
    println!("\n{table}");
    if options.save {
        println!("saved: {}", report.save(&table));
    }
    if report.has_failures() {
        std::process::exit(1);
    }
}
