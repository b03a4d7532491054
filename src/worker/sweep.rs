//! A sweep: a look at the tables of all tenants of a database for work that no commit announced: after the server's
//! start, after a clock or a zone has changed, where the table of entries was full, and now and then.
//!
//! A superuser's session, so it touches tenants' tables by OID only, after the shape check, and waits for no lock of
//! theirs: whose tables somebody holds is looked at again a second later.

use crate::fanout::passed;
use crate::handler;
use crate::postgres::relation::{Access, Table};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{caught, clock, timeout, transaction};
use crate::pure::ids;
use crate::pure::state::Stored;
use crate::pure::time::{At, Span};
use crate::schedules::rezone::{self, Move};
use crate::schedules::setback;
use crate::shared::database::Db;
use crate::shared::entry::tidy;
use crate::shared::role::EXTERNAL;
use crate::shared::{Shared, ready};
use crate::tenant::columns::{Tasks, Tenants};
use crate::tenant::{self, Registry, Tenant, gauge};
use crate::waits::{astray, turn};
use crate::work::{runs, spread, tick};

/// Tenants that one process sweeps: each costs it memory for good.
const TENANTS: usize = 1000;
/// Tenants without room for which a sweep begins there.
const UNPLACED: usize = 100;
/// So many of them at least between two ticks.
const TENANTS_A_TICK: usize = 10;
/// Milliseconds that a lock is waited for.
const LOCK_TIMEOUT: i32 = 5;
/// One whose tables somebody held is looked at again.
const LOCKED_AGAIN: Span = Span::of_secs(1);

/// Tenants whose tables somebody held when it was their turn to be looked at.
pub(super) struct Locked {
    tenants: Vec<u32>,
    pub(super) again: At,
    /// What the sweep was about.
    moved: Option<Move>,
}

impl Default for Locked {
    fn default() -> Self {
        Locked { tenants: Vec::new(), again: At::NEVER, moved: None }
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
    pub(super) fn look_again(&mut self, shared: &Shared, database: u32) -> bool {
        if clock::now() < self.again {
            return false;
        }
        self.again = At::NEVER;
        let before = self.tenants.len();
        for tenant in std::mem::take(&mut self.tenants) {
            if is_locked(shared, database, tenant, self.moved) {
                self.note(tenant);
            }
        }
        self.tenants.len() < before
    }
}

/// What came of a sweep.
pub(super) enum Swept {
    All,
    /// There are more tenants than one process does, or the database is to be left.
    Some,
    /// Which tenants there are could not be read.
    Failed,
}

/// Looks at tenants' tables for work.
pub(super) fn sweep(shared: &Shared, db: &Db, database: u32, spreader: &mut spread::Spreader, locked: &mut Locked) -> Swept {
    let from = db.sweep_from.load();
    if from == 0 {
        begin(db);
    }
    let tenants = transaction::run(|| {
        if from == 0 {
            passed::look_at_all()?;
        }
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
                is_locked(shared, database, *tenant, moved);
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
        if is_locked(shared, database, *tenant, moved) {
            locked.note(*tenant);
        }
        db.sweep_from.store(*tenant);
        db.swept_tenants.fetch_add(1);
        pgrx::check_for_interrupts!();
        // Ticks take their time where much is due: the sweep gets on all the same.
        if n >= ticked + TENANTS_A_TICK && db.ticks_wanted.swap(0) == 1 {
            tick::tick(shared, database);
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
    end(db, &zone);
    Swept::All
}

/// From the first tenant on.
fn begin(db: &Db) {
    db.sweep_seen.store(db.sweep_orders.load());
    db.sweep_missed.store(0);
    db.sweep_started.store(clock::now());
    db.swept_tenants.store(0);
    // Fan-outs that no commit announced, too: of the server's life before this one, say.
    db.fanouts.fetch_add(1);
    // Noted anew by those that find no room.
    db.unplaced_due.store(At::NEVER);
}

/// All tenants have been looked at. `zone`: the one that schedules were planned by.
fn end(db: &Db, zone: &str) {
    let seen = db.sweep_seen.load();
    if db.sweep_orders.load() == seen
        && db.sweep_missed.load() == 0
        && let Err(failure) = transaction::run(|| rezone::note_zone(zone))
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
fn is_locked(shared: &Shared, database: u32, tenant: u32, moved: Option<Move>) -> bool {
    let looked = transaction::run(|| {
        timeout::limit_locks(LOCK_TIMEOUT);
        look(shared, database, tenant, moved)
    });
    match looked {
        Ok(looked) => matches!(looked, Looked::Locked),
        Err(failure) => failure.sqlstate == SqlState::LOCK_NOT_AVAILABLE,
    }
}

/// One tenant: what is ready, what comes due, which schedules.
fn look(shared: &Shared, database: u32, schema: u32, moved: Option<Move>) -> Result<Looked, caught::Failure> {
    let tenant = tenant::by_oid(schema)?;
    let Some(table) = tenant.try_open(tenant.task, Access::Read)? else {
        return Ok(look_later(shared, database, &tenant));
    };
    // Only when they are to run is asked.
    let table = table.fetch_at_most(0);
    let now = clock::now();
    let due = first_due(&table, &[Stored::Queued, Stored::Turn], now);
    let external_due = first_due(&table, &[Stored::External], now);
    let there_is = |state: Stored| table.scan(&Tasks::PICK, &[Tasks::STATE.equals(state)]).pass();
    // No queue takes turns (any more), but rows wait for theirs: from a restore into another database.
    let forgotten = !turn::any(&tenant) && there_is(Stored::Turn);
    // Whoever wrote these may have gone down with the server before it looked a second time (work/park.rs).
    let first_since_start = shared.db(database).is_some_and(|db| db.swept_at.load() == At::UNSET);
    let mut unsure = first_since_start && there_is(Stored::Waiting);
    if !unsure && there_is(Stored::Waiting) {
        let Some(results) = tenant.try_open(tenant.result, Access::Read)? else { return Ok(look_later(shared, database, &tenant)) };
        unsure = astray::may_be(&table, &results.fetch_at_most(0));
    }
    // They are let in by what stays in place before them at their gate, unless that was deleted by hand.
    unsure |= there_is(Stored::Gated);
    let astray = external_due != At::NEVER && !runs_are_workers(&tenant, &table)?;
    let look_anyway = there_is(Stored::Held) || forgotten || unsure || astray;
    let moved = moved.map_or(Ok(true), |to| rezone::server_moved(&tenant, to))?;
    transaction::refresh_snapshot();
    if !setback::mend(&tenant)? || !moved {
        return Ok(look_later(shared, database, &tenant));
    }
    transaction::refresh_snapshot();
    let Some(schedules) = tenant.try_open(tenant.schedule, Access::Read)? else {
        return Ok(look_later(shared, database, &tenant));
    };
    let schedule_due = tick::first_due(&schedules.fetch_at_most(0));
    // Whatever its owner has done to the rows. While others keep committing, the next sweep has another look.
    gauge::sweep(shared, &tenant, &table);
    if external_due != At::NEVER {
        // Workers' tasks are no executor's.
        Seen { due: external_due, look_anyway: false, schedule_due: None }.tell(shared, database, &tenant, now, &[EXTERNAL])?;
        let expires = runs::first_expiry(&table, At::UNSET);
        if expires != At::NEVER
            && let Some(entry) = tenant.entry(tenant.owner)?
        {
            shared.reach(entry, |index| ready::tidy_at(shared, index, expires));
        }
    }
    if due == At::NEVER && !look_anyway && schedule_due.is_none() {
        // Nothing to do: no entry either, unless it has one.
        return Ok(Looked::Done);
    }
    let mut roles = handler::roles(&tenant)?;
    roles.push(tenant.owner);
    roles.retain(|role| *role != EXTERNAL);
    roles.sort();
    roles.dedup();
    Seen { due, look_anyway, schedule_due }.tell(shared, database, &tenant, now, &roles)?;
    if astray && let Some(entry) = tenant.entry(tenant.owner)? {
        shared.reach(entry, |index| _ = shared.entries[index as usize].tidy.fetch_or(tidy::ROWS));
    }
    Ok(Looked::Done)
}

/// When the first row of these states is due; what is due by now is enough.
fn first_due(table: &Table<Tasks>, states: &[Stored], now: At) -> At {
    let mut due = At::NEVER;
    for state in states {
        let mut below: Option<i16> = None;
        while due > now {
            let mut keys = vec![Tasks::STATE.equals(*state)];
            keys.extend(below.map(|below| Tasks::PRIORITY.below(below)));
            let Some(first) = table.scan(&Tasks::PICK, &keys).next() else { break };
            due = due.min(first.get(Tasks::RUN_AT).unwrap_or_default());
            below = Some(first.get(Tasks::PRIORITY).unwrap_or(0));
        }
    }
    due
}

/// Whether the rows that are for workers still are: their handlers may be functions by now, or gone.
fn runs_are_workers(tenant: &Tenant, table: &Table<Tasks>) -> Result<bool, caught::Failure> {
    for (_, row) in runs::first_rows(table, ids::RUNS) {
        if !handler::find(tenant, row.get(Tasks::HANDLER).unwrap_or(""))?.is_some_and(|handler| handler.is_external()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What a look has found of a tenant's work.
struct Seen {
    /// When the first task is due.
    due: At,
    /// There are rows to be looked at whatever their time is.
    look_anyway: bool,
    /// When the first schedule is due.
    schedule_due: Option<At>,
}

impl Seen {
    /// Tells the tenant's entries of these roles: whose of them the work is isn't known.
    fn tell(&self, shared: &Shared, database: u32, tenant: &Tenant, now: At, roles: &[u32]) -> Result<(), caught::Failure> {
        let first = self.due.min(self.schedule_due.unwrap_or(At::NEVER));
        for role in roles.iter().copied() {
            let now_or_never = self.look_anyway || first <= now;
            let entry =
                if now_or_never { shared.entry(database, tenant.oid, role) } else { shared.entry_if_room(database, tenant.oid, role) };
            let Some(entry) = entry else {
                if let Some(db) = shared.db(database) {
                    shared.seek_at(db, if self.look_anyway { now } else { first });
                    if now_or_never {
                        let _ = db.unplaced_first.compare_exchange(0, tenant.oid);
                    }
                }
                continue;
            };
            shared.reach(entry, |index| {
                let e = &shared.entries[index as usize];
                e.weight.store(tenant.weight);
                // What blocked it is looked at anew: the change that lifts it may have gone unannounced.
                ready::unblock(e);
                if self.look_anyway {
                    ready::unpark(e);
                }
                if self.due <= now || self.look_anyway {
                    ready::wake(shared, index, At::LOWEST);
                } else {
                    if e.oldest_due.load() > At::UNSET {
                        // What it was about is gone.
                        ready::wake(shared, index, At::NEVER);
                    }
                    if self.due != At::NEVER {
                        ready::due(shared, index, self.due);
                    }
                }
                if role == tenant.owner
                    && let Some(at) = self.schedule_due
                {
                    ready::schedule_due(shared, index, at);
                }
            });
        }
        Ok(())
    }
}

/// Whatever there may be is due in a moment: this process may be gone by then, and its list with it.
fn look_later(shared: &Shared, database: u32, tenant: &Tenant) -> Looked {
    let at = clock::now() + LOCKED_AGAIN;
    if let Some(entry) = shared.entry_if_room(database, tenant.oid, tenant.owner) {
        shared.reach(entry, |index| {
            ready::due(shared, index, at);
            ready::schedule_due(shared, index, at);
        });
    } else if let Some(db) = shared.db(database) {
        shared.seek_at(db, at);
    }
    Looked::Locked
}
