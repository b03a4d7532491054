//! Every `tenant_q.*` setting: default, range, unit, and why.
//!
//! The statics are private; the rest of the code asks the typed getters. Sizes of shared memory
//! are read once, at server start, before anything is allocated from them.

use crate::pure::like;
use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use std::ffi::CString;
use std::time::Duration;

/// Master switch of the server. Off: tasks and schedules can be made, no task is started and no schedule fires: fire
/// times that are missed are made up for as after a stop of the server. For one database:
/// tq_pause_all() there.
static ENABLED: GucSetting<bool> = GucSetting::<bool>::new(true);
/// Executors in the whole server. -1 = half of max_worker_processes less one, at least one: the
/// other half stays for parallel query, logical replication, the launcher and the schedulers.
static MAX_EXECUTORS: GucSetting<i32> = GucSetting::<i32>::new(-1);
/// Places that no role gets that has one already: whoever fills its own with tasks without an end leaves room for
/// the others. One is enough for them to get on; more only where many hold on to theirs. 0 = none.
static RESERVED_PLACES: GucSetting<i32> = GucSetting::<i32>::new(1);
/// Tenant entries in shared memory (one per tenant and role that has had work). 800 bytes each;
/// when full, idle ones are evicted and a sweep is ordered.
static MAX_TENANTS: GucSetting<i32> = GucSetting::<i32>::new(16384);
/// Tasks that workers outside of the server can have taken at a time. 640 bytes each: 2.6 MB.
static MAX_CLAIMS: GucSetting<i32> = GucSetting::<i32>::new(4096);
/// A worker of which nothing is heard for so long has lost its tasks.
static WORKER_LEASE: GucSetting<i32> = GucSetting::<i32>::new(60_000);
/// How long a worker may go on with what it was told to stop.
static WORKER_GRACE: GucSetting<i32> = GucSetting::<i32>::new(10_000);
/// Failed attempts that tq_failures remembers. 600 bytes each: 10 MB. 0 = none, -1 = as many as
/// tenant_q.max_tenants, 10,000 at the least.
static FAILURE_RING: GucSetting<i32> = GucSetting::<i32>::new(-1);
/// Handlers of tenants that tq_stats counts. 256 bytes each: 4 MB; beyond, the one longest
/// unused goes of whoever has most. 0 = none, -1 as above.
static MAX_STATS: GucSetting<i32> = GucSetting::<i32>::new(-1);
/// Places of tables that grow with the tenants, at the least.
const LEAST_PLACES: usize = 10_000;
/// How long an executor works for one tenant before it asks whose turn it is. 10 ms keeps a
/// neighbour's wait far below the promised 100 ms while a pick costs under 1 % of it.
static BATCH_TIME: GucSetting<i32> = GucSetting::<i32>::new(10);
/// Work by which a role may be ahead of a waiting role before its executor leaves. At least ten
/// times the 3 ms that a start costs.
static ROLE_QUANTUM: GucSetting<i32> = GucSetting::<i32>::new(50);
/// An executor without work leaves after this. Long enough to keep a busy site warm, short enough
/// that an idle database isn't pinned against DROP DATABASE.
static EXECUTOR_IDLE: GucSetting<i32> = GucSetting::<i32>::new(20_000);
/// Memory of its own that an executor may come to hold: 20–25 kB for each tenant that it has served, which is what
/// PostgreSQL remembers of the tables. 64 MB are some 2,500 tenants. One that holds more leaves between two batches and
/// is replaced. The scheduler leaves by it too. 0 = no bound; far too small a bound costs a start (3 ms) every 100 ms.
static EXECUTOR_MEMORY: GucSetting<i32> = GucSetting::<i32>::new(64 << 10);
/// Safety net for what no callback sees (raw INSERT, restore). 0.1–0.3 ms a
/// tenant: 10,000 tenants every 15 minutes are below 0.4 % of one core. 0 = never.
static SWEEP_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(900);
/// Retention runs in a tenant after so many of its tasks have finished. One pass costs an index
/// scan of the newest save_limit results: 1,000 makes that noise. 0 = never.
static RETENTION_EVERY: GucSetting<i32> = GucSetting::<i32>::new(1000);
/// Attempts a task gets when neither task nor handler says otherwise. Finite on purpose.
static MAX_ATTEMPTS: GucSetting<i32> = GucSetting::<i32>::new(3);
/// Timeout of an attempt when neither task nor handler says otherwise: 1 h. 0 = none.
static TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(3_600_000);
/// Limit for `args` (and for a result, which counts as a failure above ten times of it). 1 MB:
/// arguments are data to find the data by; documents belong into tables.
static MAX_ARGS: GucSetting<i32> = GucSetting::<i32>::new(1024);
/// Crashes of the server that one task may cause before it is quarantined.
static MAX_CRASHES: GucSetting<i32> = GucSetting::<i32>::new(3);
/// Longest wait of tq_result and its kin: a session that waits holds a connection.
static MAX_WAIT: GucSetting<i32> = GucSetting::<i32>::new(60_000);
/// Lines of tq_fanouts that are kept of each name. A line has a row for every tenant: at 1,000 tenants 100
/// lines are about 15 MB.
static FANOUT_KEEP: GucSetting<i32> = GucSetting::<i32>::new(100);
/// How long tasks of a vanished handler are held before they fail with 42883.
static HANDLER_GRACE: GucSetting<i32> = GucSetting::<i32>::new(3600);
/// Whether tasks may run as a superuser where a superuser owns the schema *and* enqueued the task.
static ALLOW_SUPERUSER: GucSetting<bool> = GucSetting::<bool>::new(true);
/// Log line for tasks that ran longer; -1 = none.
static LOG_MIN_DURATION: GucSetting<i32> = GucSetting::<i32>::new(-1);
/// Zone of schedules and handlers where the tenant sets none; empty = the server's TimeZone.
static TIMEZONE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
/// What tasks get as meta that are enqueued without: a document as text.
static META: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
/// Databases to serve; empty = all that have the extension.
static DATABASES: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
/// Databases never served, as LIKE patterns: test runners create and drop theirs at will.
static EXCLUDE_DATABASES: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"test\\_%"));
/// Schemas left out of schedules and of everything that goes to all tenants.
static EXCLUDE_SCHEMAS: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"public"));
/// Schemas appended to a handler's search_path behind its tenant's.
static SHARED_SCHEMAS: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"public"));

/// Executors' slots are bits of one atomic word per role: that many at most.
pub const EXECUTORS_LIMIT: i32 = 64;

/// Registers the settings; long because it is a table, a setting an entry. The sizes of shared memory can be set only at the
/// server's start.
pub fn register() {
    let flags = GucFlags::default();
    let switch = |name, short, long, value: &'static GucSetting<bool>, context| {
        GucRegistry::define_bool_guc(name, short, long, value, context, flags)
    };
    let number = |name, short, long, value: &'static GucSetting<i32>, least, most, context, flags| {
        GucRegistry::define_int_guc(name, short, long, value, least, most, context, flags)
    };
    let words = |name, short, long, value: &'static GucSetting<Option<CString>>, context| {
        GucRegistry::define_string_guc(name, short, long, value, context, flags)
    };
    use GucContext::*;
    switch(
        c"tenant_q.enabled",
        c"Whether tasks and schedules run.",
        c"Off: tasks can be enqueued, none is started, and no schedule fires. For one database there is tq_pause_all().",
        &ENABLED,
        Sighup,
    );
    number(
        c"tenant_q.max_executors",
        c"Executors in the whole server.",
        c"-1 = max_worker_processes / 2 - 1, at least 1.",
        &MAX_EXECUTORS,
        -1,
        EXECUTORS_LIMIT,
        Sighup,
        flags,
    );
    number(
        c"tenant_q.reserved_places",
        c"Places of executors that no role gets that has one already.",
        c"So that one role's tasks never keep all others from running. 0 = none.",
        &RESERVED_PLACES,
        0,
        EXECUTORS_LIMIT,
        Sighup,
        flags,
    );
    // What only a server's start can set can't even be defined later: that is FATAL for the session.
    if crate::postgres::shmem::is_preloading() {
        number(
            c"tenant_q.max_tenants",
            c"Entries of tenants with work that shared memory holds.",
            c"About 800 bytes each. When full, idle tenants are evicted and found again by a sweep.",
            &MAX_TENANTS,
            64,
            1_000_000,
            Postmaster,
            flags,
        );
        number(
            c"tenant_q.max_claims",
            c"Tasks that workers outside of the server can have taken at a time.",
            c"About 640 bytes each.",
            &MAX_CLAIMS,
            16,
            100_000,
            Postmaster,
            flags,
        );
        number(
            c"tenant_q.failure_ring",
            c"Failed attempts that tq_failures remembers.",
            c"About 600 bytes each. 0 = none, -1 = as many as tenant_q.max_tenants, at least 10000.",
            &FAILURE_RING,
            -1,
            1_000_000,
            Postmaster,
            flags,
        );
        number(
            c"tenant_q.max_stats",
            c"Handlers of tenants that tq_stats counts.",
            c"About 256 bytes each. When full, the one longest unused goes of whoever has most. 0 = none, -1 = as many as tenant_q.max_tenants, at least 10000.",
            &MAX_STATS,
            -1,
            1_000_000,
            Postmaster,
            flags,
        );
    }
    number(
        c"tenant_q.batch_time",
        c"How long an executor works for one tenant before it asks whose turn it is.",
        c"",
        &BATCH_TIME,
        1,
        1000,
        Sighup,
        GucFlags::UNIT_MS,
    );
    number(
        c"tenant_q.role_quantum",
        c"Work by which a role may be ahead of a waiting role before it gives its place up.",
        c"",
        &ROLE_QUANTUM,
        1,
        60_000,
        Sighup,
        GucFlags::UNIT_MS,
    );
    number(
        c"tenant_q.executor_idle",
        c"An executor without work leaves after this.",
        c"",
        &EXECUTOR_IDLE,
        100,
        3_600_000,
        Sighup,
        GucFlags::UNIT_MS,
    );
    number(
        c"tenant_q.executor_memory",
        c"Memory of its own beyond which an executor leaves between two batches and is replaced.",
        c"What PostgreSQL remembers of each tenant's tables is given back so; by the scheduler too. 0 = no bound.",
        &EXECUTOR_MEMORY,
        0,
        i32::MAX,
        Sighup,
        GucFlags::UNIT_KB,
    );
    number(
        c"tenant_q.sweep_interval",
        c"How often all attached tenants are looked at for work that no commit announced.",
        c"Raw INSERT, restores and what two-phase commit left out are found by it. 0 = never.",
        &SWEEP_INTERVAL,
        0,
        86_400,
        Sighup,
        GucFlags::UNIT_S,
    );
    number(
        c"tenant_q.retention_every",
        c"Finished tasks of a tenant after which its old results are removed.",
        c"0 = never.",
        &RETENTION_EVERY,
        0,
        1_000_000,
        Sighup,
        flags,
    );
    number(
        c"tenant_q.max_attempts",
        c"Attempts of a task where neither task nor handler says otherwise.",
        c"0 = for ever.",
        &MAX_ATTEMPTS,
        0,
        1_000_000,
        Userset,
        flags,
    );
    number(
        c"tenant_q.timeout",
        c"Timeout of an attempt where neither task nor handler says otherwise.",
        c"0 = none.",
        &TIMEOUT,
        0,
        i32::MAX,
        Userset,
        GucFlags::UNIT_MS,
    );
    number(c"tenant_q.max_args", c"Largest args of a task.", c"", &MAX_ARGS, 1, 1_000_000, Suset, GucFlags::UNIT_KB);
    number(c"tenant_q.max_crashes", c"Server crashes a task may cause before it is quarantined.", c"", &MAX_CRASHES, 1, 100, Sighup, flags);
    number(
        c"tenant_q.worker_lease",
        c"How long nothing may be heard of a worker that has taken tasks.",
        c"Then its session is ended, and what it had taken runs again: tq_take, tq_await and tq_watch are signs of life.",
        &WORKER_LEASE,
        1000,
        i32::MAX,
        Sighup,
        GucFlags::UNIT_MS,
    );
    number(
        c"tenant_q.worker_grace",
        c"How long a worker may go on with a task that is over its timeout, or cancelled.",
        c"Then its session is ended.",
        &WORKER_GRACE,
        0,
        i32::MAX,
        Sighup,
        GucFlags::UNIT_MS,
    );
    number(c"tenant_q.max_wait", c"Longest wait of tq_result and its kin.", c"", &MAX_WAIT, 0, i32::MAX, Userset, GucFlags::UNIT_MS);
    number(
        c"tenant_q.fanout_keep",
        c"Lines of each name that tq_fanouts keeps.",
        c"Each has a row for every tenant.",
        &FANOUT_KEEP,
        1,
        100_000,
        Sighup,
        flags,
    );
    number(
        c"tenant_q.handler_grace",
        c"How long tasks of a vanished handler are held before they fail.",
        c"",
        &HANDLER_GRACE,
        0,
        31_536_000,
        Sighup,
        GucFlags::UNIT_S,
    );
    switch(
        c"tenant_q.allow_superuser",
        c"Whether tasks may run as a superuser.",
        c"Only where a superuser owns the schema and enqueued or scheduled the task.",
        &ALLOW_SUPERUSER,
        Sighup,
    );
    number(
        c"tenant_q.log_min_duration",
        c"Log tasks that ran longer than this.",
        c"-1 = none, 0 = all.",
        &LOG_MIN_DURATION,
        -1,
        i32::MAX,
        Suset,
        GucFlags::UNIT_MS,
    );
    words(
        c"tenant_q.timezone",
        c"Time zone of schedules and handlers where the tenant sets none.",
        c"Empty = TimeZone.",
        &TIMEZONE,
        Sighup,
    );
    words(
        c"tenant_q.meta",
        c"What tasks get as meta that are enqueued without: a JSON document.",
        c"For what belongs to a request, as SET LOCAL. Empty = nothing.",
        &META,
        Userset,
    );
    words(c"tenant_q.databases", c"Databases to serve, separated by commas.", c"Empty = all that have the extension.", &DATABASES, Sighup);
    words(c"tenant_q.exclude_databases", c"Databases never served: LIKE patterns separated by commas.", c"", &EXCLUDE_DATABASES, Sighup);
    words(
        c"tenant_q.exclude_schemas",
        c"Schemas without schedules and left out of what goes to all tenants.",
        c"",
        &EXCLUDE_SCHEMAS,
        Sighup,
    );
    words(c"tenant_q.shared_schemas", c"Schemas behind the tenant's on a handler's search_path.", c"", &SHARED_SCHEMAS, Sighup);
}

fn list(setting: &GucSetting<Option<CString>>) -> Vec<String> {
    text(setting).split(',').map(|s| s.trim().to_string()).filter(|s| !s.is_empty()).collect()
}
fn text(setting: &GucSetting<Option<CString>>) -> String {
    setting.get().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default()
}
fn millis(setting: &GucSetting<i32>) -> Duration {
    Duration::from_millis(setting.get().max(0) as u64)
}

pub fn enabled() -> bool {
    ENABLED.get()
}
/// Executors allowed now; `worker_processes` is the server's max_worker_processes.
pub fn max_executors(worker_processes: i32) -> u32 {
    let set = MAX_EXECUTORS.get();
    let auto = (worker_processes / 2 - 1).max(1);
    (if set < 0 { auto } else { set }).min(EXECUTORS_LIMIT) as u32
}
pub fn reserved_places() -> usize {
    RESERVED_PLACES.get() as usize
}
/// Background worker slots that executors, the launcher and one scheduler take.
pub fn slots_needed(worker_processes: i32) -> i32 {
    max_executors(worker_processes) as i32 + 2
}
pub fn max_tenants() -> usize {
    MAX_TENANTS.get() as usize
}
pub fn max_claims() -> usize {
    MAX_CLAIMS.get() as usize
}
pub fn worker_lease() -> Duration {
    millis(&WORKER_LEASE)
}
pub fn worker_grace() -> Duration {
    millis(&WORKER_GRACE)
}
/// As it was set, or with the tenants.
fn places(setting: &GucSetting<i32>) -> usize {
    usize::try_from(setting.get()).unwrap_or_else(|_| max_tenants().max(LEAST_PLACES))
}
pub fn failure_ring() -> usize {
    places(&FAILURE_RING)
}
pub fn max_stats() -> usize {
    places(&MAX_STATS)
}
pub fn batch_time() -> Duration {
    millis(&BATCH_TIME)
}
pub fn role_quantum() -> Duration {
    millis(&ROLE_QUANTUM)
}
pub fn executor_idle() -> Duration {
    millis(&EXECUTOR_IDLE)
}
/// In bytes; None = no bound.
pub fn executor_memory() -> Option<usize> {
    Some(EXECUTOR_MEMORY.get() as usize * 1024).filter(|bound| *bound > 0)
}
pub fn sweep_interval() -> Option<Duration> {
    Some(Duration::from_secs(SWEEP_INTERVAL.get() as u64)).filter(|d| !d.is_zero())
}
pub fn retention_every() -> u64 {
    RETENTION_EVERY.get() as u64
}
pub fn max_attempts() -> i32 {
    MAX_ATTEMPTS.get()
}
pub fn timeout_ms() -> i64 {
    TIMEOUT.get() as i64
}
pub fn max_args_bytes() -> usize {
    MAX_ARGS.get() as usize * 1024
}
pub fn max_crashes() -> i32 {
    MAX_CRASHES.get()
}
pub fn max_wait() -> Duration {
    millis(&MAX_WAIT)
}
pub fn fanout_keep() -> i64 {
    FANOUT_KEEP.get().into()
}
pub fn handler_grace() -> Duration {
    Duration::from_secs(HANDLER_GRACE.get() as u64)
}
pub fn allow_superuser() -> bool {
    ALLOW_SUPERUSER.get()
}
pub fn log_min_duration() -> Option<Duration> {
    let ms = LOG_MIN_DURATION.get();
    (ms >= 0).then(|| Duration::from_millis(ms as u64))
}
pub fn timezone() -> String {
    text(&TIMEZONE)
}
pub fn meta() -> String {
    text(&META)
}
pub fn databases() -> Vec<String> {
    list(&DATABASES)
}
pub fn exclude_databases() -> Vec<String> {
    list(&EXCLUDE_DATABASES)
}
/// The setting that keeps a database from being served, and what it would have to be.
pub fn left_out(database: &str) -> Option<(&'static str, Vec<String>)> {
    let (mut only, exclude) = (databases(), exclude_databases());
    if !only.is_empty() && !only.iter().any(|name| name == database) {
        only.push(database.into());
        return Some(("tenant_q.databases", only));
    }
    let (excluding, rest): (Vec<_>, Vec<_>) = exclude.into_iter().partition(|pattern| like::matches(database, pattern));
    (!excluding.is_empty()).then_some(("tenant_q.exclude_databases", rest))
}
pub fn exclude_schemas() -> Vec<String> {
    list(&EXCLUDE_SCHEMAS)
}
pub fn shared_schemas() -> Vec<String> {
    list(&SHARED_SCHEMAS)
}
