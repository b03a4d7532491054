//! The scheduler of a database: started when something is due there within a minute, gone when
//! nothing is. It finds out whether the extension is there, serves schedules, and sweeps tenants
//! for work that no commit announced.
//!
//! A superuser's session, so it touches tenants' tables by OID only, after the shape check, and
//! waits for no lock of theirs.

use crate::postgres::relation::{Access, Table};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{catalog, caught, clock, interrupt, latch, memory, session, shmem, timeout, transaction, worker};
use crate::pure::state::stored;
use crate::pure::time::{Micros, NEVER};
use crate::pure::word::Scheduler;
use crate::schedules::rezone::{self, Move};
use crate::schedules::setback;
use crate::shared::database::{Db, db_state};
use crate::shared::wakes::{Reason, Turn, Waiter};
use crate::shared::{self, Shared, away, ready};
use crate::tenant::columns::{Tasks, Tenants};
use crate::tenant::{self, Registry, Tenant, gauge, identity};
use crate::waits::turn;
use crate::work::{spread, tick};
use crate::{handler, settings};
use std::time::Duration;

/// Tenants that one process sweeps: each costs it memory for good.
const TENANTS: usize = 1000;
/// Tenants without room for which a sweep begins there.
const UNPLACED: usize = 100;
/// So many of them at least between two ticks.
const TENANTS_A_TICK: usize = 10;
/// Milliseconds that a lock is waited for.
const LOCK_TIMEOUT: i32 = 5;
/// One whose tables somebody held is looked at again.
const LOCKED_AGAIN: Micros = 1_000_000;
/// A scheduler that has lived so long doesn't die of its start.
const STEADY: Duration = Duration::from_secs(5);
/// The role that initdb makes: PostgreSQL's BOOTSTRAP_SUPERUSERID.
const BOOTSTRAP: u32 = 10;
/// It stays while something is due within this time.
const KEEP: Micros = 60_000_000;
/// The next one comes after this, doubled each time it is in vain, but not more often than so many times.
const TROUBLE_AGAIN: Micros = 250_000;
const TROUBLES: u32 = 8;

pub fn main(argument: u64) {
    let database = argument as u32;
    let s = shared::shared();
    worker::set_up_signals();
    worker::connect(database, 0);
    session::report_appname("tenant_q scheduler");
    for (name, value) in [
        (c"synchronous_commit", "local"),
        (c"statement_timeout", "0"),
        (c"lock_timeout", "0"),
        (c"jit", "off"),
        (c"default_transaction_read_only", "off"),
        (c"default_transaction_isolation", "read committed"),
        (c"search_path", "pg_catalog, pg_temp"),
        (c"transaction_timeout", "0"),
        (c"idle_session_timeout", "0"),
        (c"exit_on_error", "off"),
    ] {
        session::set_session(name, value);
    }
    if !session::be_role(BOOTSTRAP) {
        pgrx::log!("tenant_q: the scheduler's session is not its own: see the database's settings (pg_db_role_setting)");
        worker::exit(1);
    }
    let Some(db) = s.db(database) else { return };
    // In this order: a launcher that finds the one looks for the other.
    db.scheduler_pid.store(shmem::my_pid());
    db.scheduler.store(Scheduler::Lives(latch::my_procno()));
    // However it ends: nobody may signal a number that is somebody else's by then.
    worker::on_exit(|| {
        if let Some(db) = shared::get().and_then(|s| s.db(shmem::my_database())) {
            db.scheduler_pid.store(0);
        }
        // A launcher after the one that has started this process hears of its end by no signal.
        if let Some(s) = shared::get() {
            s.call_launcher_now();
        }
    });
    match work(&s, db, database) {
        Left::Done => db.start_failures.store(0),
        Left::InTrouble => {
            // The next one would most likely do no better: later and later.
            let failures = db.start_failures.fetch_add(1).min(TROUBLES);
            db.start_after.store(clock::now() + (TROUBLE_AGAIN << failures));
        }
    }
    // Signed off: the launcher need not think that it was killed.
    db.scheduler_pid.store(0);
    db.scheduler.store(Scheduler::None);
    s.call_launcher_now();
}

/// How a scheduler leaves of its own accord.
enum Left {
    Done,
    /// The database could not be looked into, or its tenants not be read.
    InTrouble,
}

fn work(s: &Shared, db: &Db, database: u32) -> Left {
    let turn_memory = worker::TurnMemory::new();
    let mut waiter = Waiter::new(s.scheduler_wakes(db));
    let mut spreader = spread::Spreader::default();
    let mut locked = Locked::default();
    let began = clock::tick();
    let mut weighed = began;
    let planned_by = || (settings::exclude_schemas(), tenant::default_zone());
    let mut known = planned_by();
    loop {
        turn_memory.enter();
        interrupt::heed();
        let mut turn = Turn::begin();
        if worker::take_reload() {
            waiter.start_over();
            turn.did(Reason::Call);
            if planned_by() != known {
                // The launcher orders a sweep as well, but may have heard of it before this process.
                known = planned_by();
                db.order_sweep();
            }
        }
        if began.elapsed() > STEADY {
            db.start_failures.store(0);
        }
        if weighed.elapsed() > STEADY {
            weighed = clock::tick();
            if memory::exceeds(settings::executor_memory()) {
                // A fresh process goes on, as after a sweep of many tenants.
                return Left::Done;
            }
        }
        if db.is_away() || !settings::enabled() && db.state.load() != db_state::UNKNOWN {
            return Left::Done;
        }
        if db.state.load() == db_state::UNKNOWN {
            turn.did(Reason::Call);
            match probe(s, db) {
                Probed::Served => {}
                Probed::Not => return Left::Done,
                Probed::Unknown => return Left::InTrouble,
            }
        }
        if !settings::enabled() || db.state.load() != db_state::SERVED {
            return Left::Done;
        }
        if db.ticks_wanted.swap(0) == 1 {
            session::report_activity(Some("tenant_q: serving schedules"));
            if tick::tick(s, database) {
                turn.did(Reason::Due);
            }
            session::report_statistics(false);
            // However many schedules are due, the others get their turns.
        }
        if db.sweep_wanted.load() == 1 {
            session::report_activity(Some("tenant_q: sweeping"));
            turn.did(Reason::Sweep);
            let swept = sweep(s, db, database, &mut spreader, &mut locked);
            session::report_statistics(true);
            match swept {
                Swept::All => {}
                // A fresh process goes on: memory of a thousand tenants is given back.
                Swept::Some => return Left::Done,
                Swept::Failed => return Left::InTrouble,
            }
        }
        if spreader.due(db) <= clock::now() {
            session::report_activity(Some("tenant_q: spreading work over the tenants"));
            let reached = spreader.reached();
            if spreader.turn(db) {
                if spreader.is_worn() {
                    return Left::Done;
                }
                if spreader.reached() > reached || spreader.due(db) > clock::now() {
                    turn.did(Reason::Spread);
                }
            }
        }
        if locked.look_again(s, database) {
            turn.did(Reason::Locked);
        }
        let next = s
            .entries
            .iter()
            .filter(|e| e.in_use.load() == 1 && e.database.load() == database)
            .map(|e| e.schedule_due.load())
            .min()
            .unwrap_or(NEVER);
        let now = clock::now();
        if next <= now {
            db.ticks_wanted.store(1);
        }
        if db.sweep_wanted.load() == 1 {
            turn.at_once(Reason::Sweep);
        } else if next.min(spreader.due(db)).min(locked.again) > now + KEEP {
            return Left::Done;
        }
        turn.at(Reason::Due, next);
        turn.at(Reason::Spread, spreader.due(db));
        turn.at(Reason::Locked, locked.again);
        // Latches count real time: a clock that was set is noticed by looking at it.
        turn.after(Reason::Clock, clock::LOOK);
        let sleep = waiter.plan(&turn);
        if !sleep.is_none() {
            session::report_activity(None);
            session::report_statistics(false);
        }
        waiter.sleep(sleep);
    }
}

/// What a look at the database found.
enum Probed {
    Served,
    Not,
    Unknown,
}

/// Looks whether this database is to be served.
fn probe(s: &Shared, db: &Db) -> Probed {
    let asked = db.asked.load();
    let state = transaction::run(|| {
        Ok(match catalog::extension_version() {
            None => db_state::WITHOUT,
            Some(version) if version != env!("CARGO_PKG_VERSION") => db_state::SKEWED,
            Some(_) if !identity::confirmed()? => db_state::COPY,
            Some(_) => db_state::SERVED,
        })
    });
    match state {
        Ok(state) => {
            if state == db_state::SERVED {
                db.order_sweep();
            }
            let _ = db.state.compare_exchange(db_state::UNKNOWN, state);
            if db.asked.load() != asked {
                // CREATE EXTENSION, say, committed after our snapshot.
                db.state.store(db_state::UNKNOWN);
                return Probed::Not;
            }
            if state == db_state::WITHOUT {
                // What still runs could not be completed any more.
                away::dismiss(s, shmem::my_database());
            }
            if state == db_state::SKEWED {
                pgrx::log!(
                    "tenant_q: the extension's version is not the library's: run ALTER EXTENSION tenant_q UPDATE, or restart the server"
                );
            }
            if state == db_state::SERVED { Probed::Served } else { Probed::Not }
        }
        Err(failure) => {
            caught::log_failure("the database could not be looked into", &failure);
            Probed::Unknown
        }
    }
}

/// Tenants whose tables somebody held when it was their turn to be looked at.
struct Locked {
    tenants: Vec<u32>,
    again: Micros,
    /// What the sweep was about.
    moved: Option<Move>,
}

impl Default for Locked {
    fn default() -> Self {
        Locked { tenants: Vec::new(), again: NEVER, moved: None }
    }
}

impl Locked {
    fn note(&mut self, tenant: u32) {
        if self.tenants.len() < TENANTS && !self.tenants.contains(&tenant) {
            self.tenants.push(tenant);
            self.again = self.again.min(clock::now() + LOCKED_AGAIN);
        }
    }
    /// True: one of them was let go.
    fn look_again(&mut self, s: &Shared, database: u32) -> bool {
        if clock::now() < self.again {
            return false;
        }
        self.again = NEVER;
        let before = self.tenants.len();
        for tenant in std::mem::take(&mut self.tenants) {
            if is_locked(s, database, tenant, self.moved) {
                self.note(tenant);
            }
        }
        self.tenants.len() < before
    }
}

/// What came of a sweep.
enum Swept {
    All,
    /// There are more tenants than one process does, or the database is to be left.
    Some,
    /// Which tenants there are could not be read.
    Failed,
}

/// Looks at tenants' tables for work.
fn sweep(s: &Shared, db: &Db, database: u32, spreader: &mut spread::Spreader, locked: &mut Locked) -> Swept {
    let from = db.sweep_from.load();
    if from == 0 {
        db.sweep_seen.store(db.sweep_orders.load());
        db.sweep_missed.store(0);
        db.sweep_started.store(clock::now());
        db.swept_tenants.store(0);
        // Fan-outs that no commit announced, too: of the server's life before this one, say.
        db.fanouts.fetch_add(1);
        // Noted anew by those that find no room.
        db.unplaced_due.store(NEVER);
    }
    let tenants = transaction::run(|| {
        let registry = tenant::registry()?;
        Ok((attached(&registry), rezone::since_last_sweep()?))
    });
    let (mut tenants, (moved, zone)) = match tenants {
        Ok(t) => t,
        Err(_) => {
            // The extension went away, most likely.
            db.look_again();
            return Swept::Failed;
        }
    };
    tenants.retain(|t| *t > from);
    tenants.sort();
    let chunk = &tenants[..tenants.len().min(TENANTS)];
    if from == 0 {
        // Those that found no room come first, else the same ones would have it each time.
        let first = db.unplaced_first.swap(0);
        if first != 0 {
            for tenant in tenants.iter().filter(|t| **t >= first).take(UNPLACED) {
                is_locked(s, database, *tenant, moved);
            }
        }
    }
    locked.moved = moved.or(locked.moved);
    let mut ticked = 0;
    for (n, tenant) in chunk.iter().enumerate() {
        if db.is_away() {
            return Swept::Some;
        }
        // A broken tenant is shown in tq_problems; the sweep goes on.
        if is_locked(s, database, *tenant, moved) {
            locked.note(*tenant);
        }
        db.sweep_from.store(*tenant);
        db.swept_tenants.fetch_add(1);
        pgrx::check_for_interrupts!();
        // Ticks take their time where much is due: the sweep gets on all the same.
        if n >= ticked + TENANTS_A_TICK && db.ticks_wanted.swap(0) == 1 {
            tick::tick(s, database);
            ticked = n;
        }
        if n % 50 == 49 {
            spreader.turn(db);
        }
    }
    if tenants.len() > chunk.len() {
        if !locked.tenants.is_empty() {
            // The list goes with this process: the next sweep is to find them as this one has.
            db.sweep_missed.store(1);
        }
        return Swept::Some;
    }
    let seen = db.sweep_seen.load();
    if db.sweep_orders.load() == seen
        && db.sweep_missed.load() == 0
        && let Err(failure) = transaction::run(|| rezone::note_zone(&zone))
    {
        caught::log_failure("the zone that schedules were planned by could not be noted", &failure);
    }
    db.sweep_from.store(0);
    db.swept_at.store(clock::now());
    db.sweep_wanted.store(0);
    // In this order: an order that this doesn't see says itself that a sweep is wanted.
    if db.sweep_orders.load() != seen {
        db.sweep_wanted.store(1);
    }
    Swept::All
}

/// Schema OIDs of all attached tenants.
fn attached(registry: &Registry) -> Vec<u32> {
    let oids = |table: Table<Tenants>| table.scan(&Tenants::BY_SCHEMA, &[]).filter_map(|row| row.get(Tenants::SCHEMA_OID)).collect();
    Table::open(registry.tenant, Access::Read).map_or_else(Vec::new, oids)
}

enum Looked {
    Done,
    /// Somebody holds its tables.
    Locked,
}

/// Looks at one tenant. True: somebody holds what is to be looked at; whoever drops its schema, say, holds one
/// table and waits for another that this process has.
fn is_locked(s: &Shared, database: u32, tenant: u32, moved: Option<Move>) -> bool {
    let looked = transaction::run(|| {
        timeout::limit_locks(LOCK_TIMEOUT);
        look(s, database, tenant, moved)
    });
    match looked {
        Ok(looked) => matches!(looked, Looked::Locked),
        Err(failure) => failure.sqlstate == SqlState::LOCK_NOT_AVAILABLE,
    }
}

/// One tenant: what is ready, what comes due, which schedules.
fn look(s: &Shared, database: u32, schema: u32, moved: Option<Move>) -> Result<Looked, caught::Failure> {
    let tenant = tenant::by_oid(schema)?;
    let Some(table) = tenant.try_open(tenant.task, Access::Read)? else {
        return Ok(look_later(s, database, &tenant));
    };
    // Only when they are to run is asked.
    let table = table.fetch_at_most(0);
    let now = clock::now();
    let mut due = NEVER;
    for state in [stored::QUEUED, stored::TURN] {
        let mut below: Option<i16> = None;
        while due > now {
            let mut keys = vec![Tasks::STATE.equals(state)];
            keys.extend(below.map(|below| Tasks::PRIORITY.below(below)));
            let Some(first) = table.scan(&Tasks::PICK, &keys).next() else { break };
            due = due.min(first.get(Tasks::RUN_AT).unwrap_or(0));
            below = Some(first.get(Tasks::PRIORITY).unwrap_or(0));
        }
    }
    let there_is = |state: u8| table.scan(&Tasks::PICK, &[Tasks::STATE.equals(state)]).pass();
    // No queue takes turns (any more), but rows wait for theirs: from a restore into another database.
    let forgotten = !turn::any(&tenant) && there_is(stored::TURN);
    // Whoever wrote these may have gone down with the server before it looked a second time (work/park.rs).
    let first_since_start = s.db(database).is_some_and(|db| db.swept_at.load() == 0);
    let unsure = first_since_start && (there_is(stored::WAITING) || there_is(stored::GATED));
    let held = there_is(stored::HELD) || forgotten || unsure;
    let moved = moved.map_or(Ok(true), |to| rezone::server_moved(&tenant, to))?;
    transaction::refresh_snapshot();
    if !setback::mend(&tenant)? || !moved {
        return Ok(look_later(s, database, &tenant));
    }
    transaction::refresh_snapshot();
    let Some(schedules) = tenant.try_open(tenant.schedule, Access::Read)? else {
        return Ok(look_later(s, database, &tenant));
    };
    let schedule_due = tick::first_due(&schedules.fetch_at_most(0));
    // Whatever its owner has done to the rows. While others keep committing, the next sweep has another look.
    gauge::sweep(s, &tenant, &table);
    if due == NEVER && !held && schedule_due.is_none() {
        // Nothing to do: no entry either, unless it has one.
        return Ok(Looked::Done);
    }
    let mut roles = handler::roles(&tenant)?;
    roles.push(tenant.owner);
    roles.sort();
    roles.dedup();
    let first = due.min(schedule_due.unwrap_or(NEVER));
    for role in roles {
        let now_or_never = held || first <= now;
        let entry = if now_or_never { s.entry(database, schema, role) } else { s.entry_if_room(database, schema, role) };
        let Some(entry) = entry else {
            if let Some(db) = s.db(database) {
                s.seek_at(db, if held { now } else { first });
                if now_or_never {
                    let _ = db.unplaced_first.compare_exchange(0, schema);
                }
            }
            continue;
        };
        s.reach(entry, |index| {
            let e = &s.entries[index as usize];
            e.weight.store(tenant.weight);
            // What blocked it is looked at anew: the change that lifts it may have gone unannounced.
            ready::unblock(e);
            if held {
                ready::unpark(e);
            }
            if due <= now || held {
                ready::wake(s, index, i64::MIN);
            } else if due != NEVER {
                ready::due(s, index, due);
            }
            if role == tenant.owner
                && let Some(at) = schedule_due
            {
                ready::schedule_due(s, index, at);
            }
        });
    }
    Ok(Looked::Done)
}

/// Whatever there may be is due in a moment: this process may be gone by then, and its list with it.
fn look_later(s: &Shared, database: u32, tenant: &Tenant) -> Looked {
    let at = clock::now() + LOCKED_AGAIN;
    if let Some(entry) = s.entry_if_room(database, tenant.oid, tenant.owner) {
        s.reach(entry, |index| {
            ready::due(s, index, at);
            ready::schedule_due(s, index, at);
        });
    } else if let Some(db) = s.db(database) {
        s.seek_at(db, at);
    }
    Looked::Locked
}
