//! What went on: counters per tenant and handler, and a ring of the last failed attempts.
//!
//! Both live in shared memory, sized at start. Counters are atomics that executors add to; an
//! executor remembers where its last handler's are. New places, and the ring, are written under
//! `Lock::Announce`: a failure costs a transaction anyway. When all places are taken, share.rs says
//! who gives one up: one tenant's handlers and failures don't displace all others'.

use crate::calls::tasks::time_json;
use crate::calls::views::interval_json;
use crate::calls::{tasks as surface, views as monitor};
use crate::postgres::call::{Args, Ret};
use crate::postgres::caught::Failure;
use crate::postgres::clock::{self, Micros};
use crate::postgres::error::{Error, Result};
use crate::postgres::lwlock::Lock;
use crate::postgres::{catalog, shmem, worker};
use crate::pure::shares::{self, Owner, Says};
use crate::shared::{self, Shared, load_text, share, store_text};
use crate::task::{self, State, col};
use crate::waits::turn::Pick;
use crate::work::run::Outcome;
use crate::{settings, shared_struct, sql_functions, tenant};
use serde_json::{Value as Json, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering::*};

/// Texts in shared memory are cut to this.
const LABEL: usize = 128;
const MESSAGE: usize = 200;
/// Counters that nobody has added to for so long say nothing any more.
const FORGOTTEN: Micros = 7 * 86_400_000_000;
/// Rows that tq_queues reads at most.
const QUEUE_ROWS: usize = 100_000;

shared_struct! {
    /// Counters of one handler of one tenant; times in microseconds.
    pub struct Stat {
        // What each task adds to comes first, in one cache line.
        pub in_use: AtomicU32,
        /// Changes when the place is given to another handler.
        pub stamp: AtomicU32,
        pub used: AtomicI64,
        pub done: AtomicU64,
        pub run_total: AtomicU64,
        pub run_max: AtomicU64,
        pub wait_total: AtomicU64,
        pub wait_max: AtomicU64,
        pub failed: AtomicU64,
        pub retried: AtomicU64,
        pub timeouts: AtomicU64,
        pub database: AtomicU32,
        pub tenant: AtomicU32,
        pub hash: AtomicU64,
        pub since: AtomicI64,
        pub handler: [AtomicU8; LABEL],
    }
}

shared_struct! {
    /// One failed attempt.
    pub struct FailedAttempt {
        pub database: AtomicU32,
        pub tenant: AtomicU32,
        pub role: AtomicU32,
        pub attempt: AtomicI32,
        pub id_high: AtomicU64,
        pub id_low: AtomicU64,
        /// Counts those written before; 0 = none is here.
        pub number: AtomicU64,
        pub at: AtomicI64,
        pub sqlstate: [AtomicU8; 8],
        pub handler: [AtomicU8; LABEL],
        pub schedule: [AtomicU8; LABEL],
        pub message: [AtomicU8; MESSAGE],
    }
}

fn put(target: &[AtomicU8], text: &str) {
    store_text(target, &text[..text.floor_char_boundary(target.len())]);
}

fn hash(database: u32, schema: u32, handler: &str) -> u64 {
    let mut h = 0xcbf2_9ce4_8422_2325u64 ^ ((database as u64) << 32 | schema as u64);
    for b in handler.bytes() {
        h = (h ^ b as u64).wrapping_mul(0x0100_0000_01b3);
    }
    h ^ (h >> 29)
}

/// The counters of this handler, made if there are none.
fn place(s: &Shared, schema: u32, handler: &str) -> Option<&'static Stat> {
    let n = s.stats.len();
    if n == 0 {
        return None;
    }
    let database = shmem::my_database();
    let hash = hash(database, schema, handler);
    let window = || (0..share::WINDOW.min(n)).map(|i| &s.stats[(hash as usize).wrapping_add(i) % n]);
    let is = |stat: &&Stat| {
        stat.in_use.load(Acquire) == 1
            && stat.hash.load(Relaxed) == hash
            && stat.tenant.load(Relaxed) == schema
            && stat.database.load(Relaxed) == database
    };
    if let Some(found) = window().find(is) {
        return Some(found);
    }
    let now = clock::now();
    let _guard = Lock::Announce.exclusive();
    if let Some(found) = window().find(is) {
        return Some(found);
    }
    let owner = Owner::here(schema);
    let of = |stat: &Stat| Owner::new(stat.database.load(Relaxed), stat.tenant.load(Relaxed));
    let says = |stat: &Stat| match (stat.in_use.load(Relaxed), stat.used.load(Relaxed)) {
        (0, _) => Says::Free,
        (_, used) if used < now - FORGOTTEN => Says::Nothing,
        (_, used) => Says::Something(used),
    };
    let pressure = &s.header.pressure[share::Kind::Stats as usize];
    let chosen = shares::choose(owner, |o| s.stat_tally.held(o), window().map(|stat| (of(stat), says(stat))));
    if chosen.is_none_or(|c| c.displaced.is_some()) {
        pressure.note(chosen.and_then(|c| c.displaced).unwrap_or(owner), now);
    }
    let stat = window().nth(chosen?.place)?;
    if stat.in_use.swap(0, SeqCst) == 1 {
        s.stat_tally.sub(of(stat));
    }
    s.stat_tally.add(owner);
    stat.stamp.fetch_add(1, SeqCst);
    zero(stat, now);
    stat.database.store(database, Relaxed);
    stat.tenant.store(schema, Relaxed);
    stat.hash.store(hash, Relaxed);
    put(&stat.handler, handler);
    stat.in_use.store(1, Release);
    Some(stat)
}

fn zero(stat: &Stat, now: Micros) {
    for counter in
        [&stat.done, &stat.failed, &stat.retried, &stat.timeouts, &stat.run_total, &stat.run_max, &stat.wait_total, &stat.wait_max]
    {
        counter.store(0, Relaxed);
    }
    stat.since.store(now, Relaxed);
    stat.used.store(now, Relaxed);
}

/// Where the counters of the handler last run are.
struct Last {
    schema: u32,
    handler: String,
    stat: &'static Stat,
    stamp: u32,
}

thread_local! {
    static LAST: RefCell<Option<Last>> = const { RefCell::new(None) };
}

fn with_place(s: &Shared, schema: u32, handler: &str, f: impl FnOnce(&Stat)) {
    LAST.with_borrow_mut(|last| {
        if let Some(l) = last
            && l.schema == schema
            && l.handler == handler
            && l.stat.stamp.load(Relaxed) == l.stamp
        {
            return f(l.stat);
        }
        let Some(stat) = place(s, schema, handler) else { return };
        f(stat);
        *last = Some(Last { schema, handler: handler.into(), stat, stamp: stat.stamp.load(Relaxed) });
    });
}

fn raise(max: &AtomicU64, value: u64) {
    if value > max.load(Relaxed) {
        max.fetch_max(value, Relaxed);
    }
}

/// What is counted of one attempt at a task.
pub struct Counted<'a> {
    pub id: u128,
    pub handler: &'a str,
    /// Its number: 1 is the first.
    pub attempt: i32,
    /// The schedule it comes from; "" = none.
    pub schedule: &'a str,
    pub run_at: Option<Micros>,
}

/// An attempt that began at `started_at` has ended like this. On every task's way: a few atomics.
pub fn ended(s: &Shared, schema: u32, task: &Counted, outcome: Outcome, started_at: Micros) {
    if !matches!(outcome, Outcome::Done | Outcome::Failed | Outcome::Retry) || started_at == 0 {
        return;
    }
    let now = clock::now();
    let run = (now - started_at).max(0) as u64;
    let wait = (started_at - task.run_at.unwrap_or(started_at)).max(0) as u64;
    with_place(s, schema, task.handler, |stat| {
        let counter = match outcome {
            Outcome::Done => &stat.done,
            Outcome::Failed => &stat.failed,
            _ => &stat.retried,
        };
        counter.fetch_add(1, Relaxed);
        stat.run_total.fetch_add(run, Relaxed);
        stat.wait_total.fetch_add(wait, Relaxed);
        raise(&stat.run_max, run);
        raise(&stat.wait_max, wait);
        stat.used.store(now, Relaxed);
    });
}

/// An attempt has failed and that was recorded.
pub fn failed(s: &Shared, schema: u32, role: u32, task: &Counted, failure: &Failure, timed_out: bool) {
    if timed_out {
        with_place(s, schema, task.handler, |stat| {
            stat.timeouts.fetch_add(1, Relaxed);
        });
    }
    let n = s.failures.len();
    if n == 0 {
        return;
    }
    let now = clock::now();
    let _guard = Lock::Announce.exclusive();
    let number = s.header.failures.fetch_add(1, Relaxed) + 1;
    let place = failure_place(s, Owner::here(schema), now);
    let f = &s.failures[place];
    f.number.store(number, Relaxed);
    f.database.store(shmem::my_database(), Relaxed);
    f.tenant.store(schema, Relaxed);
    f.role.store(role, Relaxed);
    f.attempt.store(task.attempt, Relaxed);
    f.id_high.store((task.id >> 64) as u64, Relaxed);
    f.id_low.store(task.id as u64, Relaxed);
    f.at.store(now, Relaxed);
    put(&f.sqlstate, &failure.sqlstate);
    put(&f.handler, task.handler);
    put(&f.schedule, task.schedule);
    put(&f.message, &failure.message);
}

/// Where the next failure of this tenant is written. Under `Lock::Announce`, exclusive.
///
/// A hand goes round: what it meets first of whoever gives a place up is the oldest of theirs, or nearly so. Each
/// call moves it on, so a long run of others' is passed once, not at each failure.
fn failure_place(s: &Shared, owner: Owner, now: Micros) -> usize {
    let n = s.failures.len();
    let hand = &s.header.failure_hand;
    let of = |place: usize| Owner(s.failure_owners[place].load(Relaxed));
    let mut begin = hand.load(Relaxed) as usize % n;
    let mut chosen = None;
    for _ in 0..n.div_ceil(share::WINDOW) {
        let window = share::WINDOW.min(n);
        let says = |i: usize| match of((begin + i) % n) {
            Owner(0) => (Owner(0), Says::Free),
            of => (of, Says::Something(i as i64)),
        };
        chosen = shares::choose(owner, |o| s.failure_tally.held(o), (0..window).map(says));
        if chosen.is_some() {
            break;
        }
        begin = (begin + window) % n;
    }
    // There always is one: the newcomer's own, or of somebody who holds more; else each holds one.
    let place = (begin + chosen.map_or(0, |c| c.place)) % n;
    hand.store((place + 1) as u64, Relaxed);
    if of(place) != Owner(0) {
        s.header.pressure[share::Kind::Failures as usize].note(of(place), now);
        s.failure_tally.sub(of(place));
    }
    s.failure_tally.add(owner);
    s.failure_owners[place].store(owner.0, Relaxed);
    place
}

/// Whose rows the caller may see, asked once a tenant.
struct Visible {
    all: bool,
    known: BTreeMap<u32, bool>,
}
impl Visible {
    fn new() -> Visible {
        Visible { all: monitor::sees_all(), known: BTreeMap::new() }
    }
    fn sees(&mut self, schema: u32) -> bool {
        self.all || *self.known.entry(schema).or_insert_with(|| catalog::schema_owner(schema).is_some_and(monitor::sees))
    }
}

/// tenant_q.failures(): rows of tq_failures, newest first.
fn failures(_args: &Args) -> Result<Ret> {
    let Some(s) = shared::get() else { return Ok(Ret::Json(json!([]))) };
    // Copied under the lock, looked up without it: look-ups may fail.
    let mut found = Vec::new();
    {
        let _guard = Lock::Announce.shared();
        for f in s.failures {
            if f.number.load(Relaxed) > 0 && f.database.load(Relaxed) == shmem::my_database() {
                found.push((
                    f.number.load(Relaxed),
                    (f.tenant.load(Relaxed), f.role.load(Relaxed), f.attempt.load(Relaxed), f.at.load(Relaxed)),
                    ((f.id_high.load(Relaxed) as u128) << 64) | f.id_low.load(Relaxed) as u128,
                    [load_text(&f.sqlstate), load_text(&f.handler), load_text(&f.schedule), load_text(&f.message)],
                ));
            }
        }
    }
    found.sort_unstable_by_key(|(number, ..)| std::cmp::Reverse(*number));
    let mut visible = Visible::new();
    let rows = found.into_iter().filter(|(_, (schema, ..), ..)| visible.sees(*schema)).map(
        |(_, (schema, role, attempt, at), id, [sqlstate, handler, schedule, message])| {
            json!({
                "at": time_json(Some(at)),
                "tenant": catalog::schema_name(schema),
                "handler": handler,
                "id": task::uuid_text(id),
                "attempt": attempt,
                "sqlstate": sqlstate,
                "message": message,
                "schedule": Some(schedule).filter(|s| !s.is_empty()),
                "role": catalog::role_name(role),
            })
        },
    );
    Ok(Ret::Json(rows.collect::<Vec<Json>>().into()))
}

/// Counters that are in use here and that the caller may see, with their tenants' names.
fn visible_stats(s: &Shared) -> Vec<(String, &'static Stat)> {
    let mut visible = Visible::new();
    let here = |stat: &&'static Stat| stat.in_use.load(Acquire) == 1 && stat.database.load(Relaxed) == shmem::my_database();
    s.stats
        .iter()
        .filter(here)
        .filter(|stat| visible.sees(stat.tenant.load(Relaxed)))
        .filter_map(|stat| Some((catalog::schema_name(stat.tenant.load(Relaxed))?, stat)))
        .collect()
}

/// tenant_q.stats(): rows of tq_stats.
fn stats(_args: &Args) -> Result<Ret> {
    let Some(s) = shared::get() else { return Ok(Ret::Json(json!([]))) };
    let rows = visible_stats(&s).into_iter().map(|(tenant, stat)| {
        let get = |counter: &AtomicU64| counter.load(Relaxed) as i64;
        let (done, failed, retried) = (get(&stat.done), get(&stat.failed), get(&stat.retried));
        let attempts = (done + failed + retried).max(1);
        json!({
            "tenant": tenant,
            "handler": load_text(&stat.handler),
            "done": done,
            "failed": failed,
            "retried": retried,
            "timeouts": get(&stat.timeouts),
            "total_run_time": interval_json(get(&stat.run_total)),
            "mean_run_time": interval_json(get(&stat.run_total) / attempts),
            "max_run_time": interval_json(get(&stat.run_max)),
            "total_wait_time": interval_json(get(&stat.wait_total)),
            "mean_wait_time": interval_json(get(&stat.wait_total) / attempts),
            "max_wait_time": interval_json(get(&stat.wait_max)),
            "since": time_json(Some(stat.since.load(Relaxed))),
        })
    });
    Ok(Ret::Json(rows.collect::<Vec<Json>>().into()))
}

/// tq_stats_reset(): counters of this database begin anew.
fn stats_reset(_args: &Args) -> Result<Ret> {
    if let Some(s) = shared::get() {
        let _guard = Lock::Announce.exclusive();
        for stat in s.stats.iter().filter(|stat| stat.database.load(Relaxed) == shmem::my_database()) {
            if stat.in_use.swap(0, SeqCst) == 1 {
                s.stat_tally.sub(Owner::new(stat.database.load(Relaxed), stat.tenant.load(Relaxed)));
            }
            stat.stamp.fetch_add(1, SeqCst);
        }
    }
    Ok(Ret::Void)
}

/// tenant_q.queues(tenant): rows of tq_queues.
fn queues(args: &Args) -> Result<Ret> {
    #[derive(Default)]
    struct Counts {
        queued: i64,
        running: i64,
        delayed: i64,
        retrying: i64,
        waiting: i64,
        oldest: Option<Micros>,
    }
    let tenant = tenant::resolve(args.text(0).as_deref())?;
    surface::may_read(&tenant)?;
    let running = crate::calls::groups::running_ids(tenant.oid);
    let table = tenant.open_to_look(tenant.task)?;
    let now = clock::now();
    let mut found: BTreeMap<String, Counts> = BTreeMap::new();
    let (mut seen, mut more) = (0, false);
    table.scan(table.index_with(&task::PICK_INDEX), &[], None, false, |row| {
        if seen == QUEUE_ROWS {
            more = true;
            return false;
        }
        seen += 1;
        if !task::is_task(row.char(col::STATE)) {
            return true;
        }
        let queue = row.str(col::QUEUE).unwrap_or("default");
        if !found.contains_key(queue) {
            found.insert(queue.into(), Counts::default());
        }
        let c = found.get_mut(queue).expect("just made");
        let (attempts, run_at) = (row.i32(col::ATTEMPTS).unwrap_or(0), row.time(col::RUN_AT).unwrap_or(0));
        let runs = running.contains(&row.uuid(col::ID).unwrap_or(0));
        let state = task::unfinished(row.char(col::STATE), attempts, run_at, now, runs);
        let counter = match state {
            State::Running => &mut c.running,
            State::Queued => &mut c.queued,
            State::Delayed => &mut c.delayed,
            State::Retrying => &mut c.retrying,
            _ => &mut c.waiting,
        };
        *counter += 1;
        if matches!(state, State::Queued | State::Retrying) && run_at <= now {
            c.oldest = Some(c.oldest.map_or(run_at, |o| o.min(run_at)));
        }
        true
    });
    if more {
        Error::new("00000", format!("only the first {QUEUE_ROWS} unfinished tasks are counted"))
            .hint("tq_tenants has the tenant's whole count.")
            .notice();
    }
    for queue in &tenant.queues {
        found.entry(queue.name.clone()).or_default();
    }
    let rows = found.iter().map(|(queue, c)| {
        let set_up = tenant.queue(Some(queue));
        let paused = tenant.pauses.iter().any(|p| p.until > now && p.handler.is_empty() && (p.queue.is_empty() || p.queue == *queue));
        json!({
            "queue": queue,
            "queued": c.queued,
            "running": c.running,
            "delayed": c.delayed,
            "retrying": c.retrying,
            "waiting": c.waiting,
            "lag": c.oldest.map(|t| interval_json(now - t)),
            "paused": paused,
            "max_running": set_up.and_then(|q| q.max_running),
            "rate": set_up.and_then(|q| q.rate).map(|r| r.to_string()),
            "priority": set_up.and_then(|q| q.priority),
            "pick": set_up.and_then(|q| q.pick).unwrap_or(Pick::Priority).name(),
        })
    });
    Ok(Ret::Json(rows.collect::<Vec<Json>>().into()))
}

/// tenant_q.metrics(): rows of tq_metrics.
fn metrics(_args: &Args) -> Result<Ret> {
    let mut rows = Vec::new();
    let mut say =
        |name: &str, labels: Json, value: f64| rows.push(json!({ "name": format!("tenant_q_{name}"), "labels": labels, "value": value }));
    for t in monitor::tenant_rows()? {
        let number = |key: &str| t[key].as_f64().unwrap_or(0.0);
        let labels = json!({ "tenant": t["tenant"] });
        for key in ["queued", "running"] {
            say(key, labels.clone(), number(key));
        }
        for key in ["done", "failed", "retried"] {
            say(&format!("{key}_total"), labels.clone(), number(key));
        }
        say("lag_seconds", labels, number("lag_us") / 1e6);
    }
    if let Some(s) = shared::get() {
        for (tenant, stat) in visible_stats(&s) {
            let labels = json!({ "tenant": tenant, "handler": load_text(&stat.handler) });
            let get = |counter: &AtomicU64| counter.load(Relaxed) as f64;
            say("handler_done_total", labels.clone(), get(&stat.done));
            say("handler_failed_total", labels.clone(), get(&stat.failed));
            say("handler_retried_total", labels.clone(), get(&stat.retried));
            say("handler_timeouts_total", labels.clone(), get(&stat.timeouts));
            say("handler_run_seconds_total", labels.clone(), get(&stat.run_total) / 1e6);
            say("handler_run_seconds_max", labels.clone(), get(&stat.run_max) / 1e6);
            say("handler_wait_seconds_total", labels.clone(), get(&stat.wait_total) / 1e6);
            say("handler_wait_seconds_max", labels, get(&stat.wait_max) / 1e6);
        }
        if monitor::sees_all() {
            let launcher = s.header.launcher_pid.load(SeqCst);
            say("up", json!({}), f64::from(u8::from(launcher > 0 && worker::is_alive(launcher))));
            let mut states = [("starting", 0), ("idle", 0), ("running", 0)];
            for slot in s.slots {
                match slot.state.load(SeqCst) {
                    0 => {}
                    1 => states[0].1 += 1,
                    _ => states[1 + usize::from(shared::Word::load(slot).running)].1 += 1,
                }
            }
            for (state, n) in states {
                say("executors", json!({ "state": state }), f64::from(n));
            }
            say("max_executors", json!({}), f64::from(settings::max_executors(shmem::max_worker_processes())));
            say("waiting_roles", json!({}), f64::from(s.header.waiting_roles.load(SeqCst)));
            say("entries", json!({}), s.entries.iter().filter(|e| e.in_use.load(Relaxed) == 1).count() as f64);
            say("evictions_total", json!({}), s.header.evictions.load(Relaxed) as f64);
            say("failed_attempts_total", json!({}), s.header.failures.load(Relaxed) as f64);
        }
    }
    Ok(Ret::Json(rows.into()))
}

sql_functions! {
    tenant_q_failures, pg_finfo_tenant_q_failures => failures;
    tenant_q_stats, pg_finfo_tenant_q_stats => stats;
    tq_stats_reset, pg_finfo_tq_stats_reset => stats_reset;
    tenant_q_queues, pg_finfo_tenant_q_queues => queues;
    tenant_q_metrics, pg_finfo_tenant_q_metrics => metrics;
}
