//! Gates: what a due task may still have to wait at. A lock (one at a time of a key), a limit key, a
//! handler's and a queue's limit of running tasks, and rates.
//!
//! What passes is counted from the slots, in which everything is that runs or is about to. Two
//! executors that pick for one tenant under different roles are kept apart by a lock of the
//! tenant's for the length of a pick, so the limits are exact.
//!
//! The first rows found at a busy gate stay where they are; those behind them are put aside (state
//! `k`, `waits_for` = the gate), so that picks need not step over them. Each end of a task of the
//! gate lets the best of them back in.

use crate::handler::Handler;
use crate::postgres::caught::Failure;
use crate::postgres::lwlock::Lock;
use crate::postgres::relation::Table;
use crate::postgres::row::{Row, Tid};
use crate::postgres::{clock, shmem, transaction};
use crate::pure::ids::{self, Id};
use crate::pure::rate::{Algorithm, Level, Rate};
use crate::pure::shares::Owner;
use crate::pure::state::Stored;
use crate::pure::time::{At, Span};
use crate::pure::word::SlotState;
use crate::shared::claims::Claim;
use crate::shared::rates::RateFound;
use crate::shared::slot::{GATES, Item, Slot};
use crate::shared::{self, Shared, wake};
use crate::tenant::Tenant;
use crate::tenant::columns::Tasks;
use crate::waits::depend;
use std::collections::HashMap;

/// Rows that stay in place at busy gates; further ones of a pick are put aside.
pub const IN_PLACE: usize = 100;

pub struct Gate {
    pub key: Id,
    pub max: Option<i32>,
    pub rate: Option<Rate>,
    /// Its place among a slot's gates; GATES = only a rate.
    pub place: usize,
}

impl Gate {
    /// What slots name it by.
    fn short(&self) -> u64 {
        self.key.low() | 1
    }
}

/// The gates of a task, usually none.
pub fn of(tenant: &Tenant, row: &Row<Tasks>, handler: Option<&Handler>) -> Vec<Gate> {
    let mut gates = Vec::new();
    let mut add = |kind: &str, name: &str, place: usize, max: Option<i32>, rate: Option<Rate>| {
        gates.push(Gate { key: ids::gate_id(kind, name), max, rate, place });
    };
    if let Some(lock) = row.get(Tasks::LOCK_KEY) {
        add("lock", lock, 0, Some(1), None);
    }
    if let Some(name) = row.get(Tasks::LIMIT_KEY)
        && let Some(limit) = tenant.limits.iter().find(|l| l.key == name)
    {
        add("limit", name, 1, limit.max_running, limit.rate);
    }
    if let Some(h) = handler
        && (h.max_running.is_some() || h.rate.is_some())
    {
        add("handler", &h.name, 2, h.max_running, h.rate);
    }
    if !tenant.queues.is_empty()
        && let Some(queue) = tenant.queue(row.get(Tasks::QUEUE)).filter(|q| q.max_running.is_some() || q.rate.is_some())
    {
        add("queue", &queue.name, 3, queue.max_running, queue.rate);
    }
    if tenant.rate.is_some() {
        add("tenant", "", GATES, None, tenant.rate);
    }
    gates
}

/// Whether a task must start as soon as it has passed these gates: its start is counted then, and no other stretch of time
/// may see it than the one that it was counted in. A bucket looks at no stretch.
pub fn is_timed(gates: &[Gate]) -> bool {
    gates.iter().any(|gate| gate.rate.is_some_and(|rate| rate.algorithm != Algorithm::Bucket))
}

/// What is known of a tenant's gates during one pick.
pub struct Busy<'a> {
    s: &'a Shared,
    tenant: u32,
    running: HashMap<u64, i32>,
    /// The tasks that were counted.
    pub seen: Vec<Id>,
}

/// What other executors have in their slots of a tenant of this database, and what workers have taken of it, or this transaction for
/// itself.
pub fn live_items(s: &Shared, me: usize, tenant: u32) -> impl Iterator<Item = Item> {
    let is_its = move |slot: &Slot| {
        slot.state.load() == SlotState::Working && slot.tenant.load() == tenant && slot.database.load() == shmem::my_database()
    };
    let in_slots = s.slots.iter().enumerate().filter(move |(n, slot)| *n != me && is_its(slot)).flat_map(|(_, slot)| slot.live_items());
    let claimed_here = wake::all_drained().into_iter().filter(move |(drained, is_over)| !is_over && drained.tenant == tenant);
    in_slots.chain(s.claims_of(tenant).map(Claim::item)).chain(claimed_here.map(|(drained, _)| drained.item))
}

/// What slots and claims name these gates by.
pub fn named(gates: &[Gate]) -> [u64; GATES] {
    let mut names = [0; GATES];
    for gate in gates.iter().filter(|g| g.place < GATES) {
        names[gate.place] = gate.short();
    }
    names
}

pub enum Pass {
    /// With what the slot is to say.
    Yes([u64; GATES]),
    /// This gate is full, or lets nothing through before then.
    No(Id, Option<At>),
}

impl<'a> Busy<'a> {
    /// Locks the tenant's gates until the end of the transaction, then looks.
    pub fn look(s: &'a Shared, me: usize, tenant: u32) -> Result<Busy<'a>, Failure> {
        crate::tenant::lock::gates(tenant)?;
        let mut running: HashMap<u64, i32> = HashMap::new();
        let mut seen = Vec::new();
        for item in live_items(s, me, tenant) {
            seen.push(item.id);
            for gate in item.gates.into_iter().filter(|g| *g != 0) {
                *running.entry(gate).or_default() += 1;
            }
        }
        Ok(Busy { s, tenant, running, seen })
    }

    /// One start of each of the rates, if all of them allow it; else which doesn't, until when.
    fn use_rates(&self, gates: &[Gate], now: At) -> Result<(), (Id, At)> {
        let owner = Owner::here(self.tenant);
        let (mut places, mut after) = ([0; GATES + 1], [(Level::UNUSED, At::UNSET); GATES + 1]);
        let mut n = 0;
        // Places change hands when all are taken: from the look to the note nobody else is at them.
        let _guard = Lock::Rates.exclusive();
        for gate in gates {
            let Some(rate) = gate.rate else { continue };
            let Some(place) = self.s.rate(owner, gate.key, gate.place == GATES, &places[..n]) else {
                // No place to count in: soon there will be one.
                return Err((gate.key, now + Span::of_secs(1)));
            };
            let r = &self.s.rates[place];
            let state = rate.bounded(r.level(), now);
            r.at.store(state.at);
            let level = rate.admit(state, now).map_err(|at| (gate.key, at))?;
            (places[n], after[n]) = (place, (level, rate.over_at(level)));
            n += 1;
        }
        for (place, (level, until)) in places.iter().zip(after).take(n) {
            let r = &self.s.rates[*place];
            r.note(level);
            r.until.store(until);
        }
        Ok(())
    }

    /// The gate that keeps a task waiting, if one does, and until when: nothing is used up.
    pub fn shut(&self, gates: &[Gate], now: At) -> Option<(Id, Option<At>)> {
        let is_full = |g: &&Gate| g.max.is_some_and(|max| self.running.get(&g.short()).copied().unwrap_or(0) >= max);
        if let Some(full) = gates.iter().find(is_full) {
            return Some((full.key, None));
        }
        gates.iter().find_map(|gate| match self.s.rate_used(Owner::here(self.tenant), gate.key) {
            RateFound::Used(level) => gate.rate?.admit(level, now).err().map(|at| (gate.key, Some(at))),
            _ => None,
        })
    }

    /// Whether a task may pass all of its gates; if so it has.
    pub fn pass(&mut self, gates: &[Gate], now: At) -> Pass {
        if let Some(full) = gates.iter().find(|g| g.max.is_some_and(|max| self.running.get(&g.short()).copied().unwrap_or(0) >= max)) {
            return Pass::No(full.key, None);
        }
        if gates.iter().any(|g| g.rate.is_some())
            && let Err((gate, at)) = self.use_rates(gates, now)
        {
            return Pass::No(gate, Some(at));
        }
        for gate in gates.iter().filter(|g| g.place < GATES) {
            *self.running.entry(gate.short()).or_default() += 1;
        }
        Pass::Yes(named(gates))
    }
}

/// A task of these gates has ended, or won't go on for now: the best that was put aside at each of
/// them comes back.
pub fn release(tenant: &Tenant, tasks: &Table<Tasks>, row: &Row<Tasks>, handler: Option<&Handler>) -> Result<(), Failure> {
    for gate in of(tenant, row, handler) {
        let_one_in(tenant, tasks, gate.key)?;
    }
    Ok(())
}

fn let_one_in(tenant: &Tenant, tasks: &Table<Tasks>, gate: Id) -> Result<(), Failure> {
    let now = clock::now();
    loop {
        // Others that end now may be letting in the same ones: those are left to them, if there are more.
        let (mut best, mut taken) = (None, None);
        transaction::with_latest_snapshot(|| {
            for row in depend::waiting_for(tasks, gate) {
                let due = row.get(Tasks::RUN_AT).unwrap_or_default() <= now;
                let place = if row.in_flux { &mut taken } else { &mut best };
                let stop = due && !row.in_flux;
                if place.is_none() || stop {
                    *place = Some(row);
                }
                if stop {
                    break;
                }
            }
        });
        let Some(row) = best.or(taken) else { return Ok(()) };
        if depend::let_go(tenant, tasks, row, Some(gate))? {
            return Ok(());
        }
    }
}

/// After rows were put aside and committed: is there still something at each gate whose end will let
/// one in? A task that has passed it, or the one that has stayed in place before them. True: look again
/// soon.
pub fn look_again(s: &Shared, tenant: &Tenant, tasks: &Table<Tasks>, gates: &[(Id, Option<Id>)]) -> Result<bool, Failure> {
    let mut soon = false;
    for (gate, first) in gates {
        let name = gate.low() | 1;
        let passed = live_items(s, usize::MAX, tenant.oid).filter(|item| item.gates.contains(&name));
        let sure = match first {
            Some(id) => is_there(tasks, *id, None, None),
            None => passed.into_iter().any(|item| is_there(tasks, item.id, Some(item.tid), Some(item.attempts))),
        };
        if !sure {
            let_one_in(tenant, tasks, *gate)?;
            soon = true;
        }
    }
    Ok(soon)
}

/// Whether this task is unfinished, and nobody is just ending it.
fn is_there(tasks: &Table<Tasks>, id: Id, tid: Option<u64>, attempts: Option<i32>) -> bool {
    let row = tid.and_then(|tid| tasks.fetch(Tid::of_word(tid))).filter(|r| r.get(Tasks::ID) == Some(id));
    let row = row.or_else(|| tasks.find(Tasks::ID.equals(id)));
    row.is_some_and(|r| !r.in_flux && attempts.is_none_or(|n| r.get(Tasks::ATTEMPTS) == Some(n)))
}

/// The row is put aside at this gate.
pub fn put_aside(tasks: &Table<Tasks>, row: &Row<Tasks>, gate: Id) {
    let _: crate::postgres::relation::Write = tasks.update(row, &[Tasks::STATE.to(Stored::Gated), Tasks::WAITS_FOR.to(gate)]);
}

/// What of a waiting task is busy, for people.
pub struct Shut {
    /// 'limit' or 'rate'.
    pub reason: &'static str,
    pub what: String,
    pub detail: String,
    pub hint: &'static str,
}

pub fn why(tenant: &Tenant, row: &Row<Tasks>, handler: Option<&Handler>) -> Vec<Shut> {
    let Some(s) = shared::get() else { return vec![] };
    let mut found = Vec::new();
    for gate in of(tenant, row, handler) {
        let running = live_items(&s, usize::MAX, tenant.oid).filter(|item| item.gates.contains(&gate.short())).count() as i32;
        let what = match gate.place {
            0 => format!("lock \"{}\"", row.get(Tasks::LOCK_KEY).unwrap_or("")),
            1 => format!("limit \"{}\"", row.get(Tasks::LIMIT_KEY).unwrap_or("")),
            2 => format!("handler \"{}\"", row.get(Tasks::HANDLER).unwrap_or("")),
            3 => format!("queue \"{}\"", row.get(Tasks::QUEUE).unwrap_or("default")),
            _ => "the tenant".to_string(),
        };
        if let Some(max) = gate.max.filter(|max| running >= *max) {
            found.push(Shut {
                reason: "limit",
                what: format!("{what} is at its limit"),
                detail: format!("{running} running, {max} allowed"),
                hint: "It goes on when one of those that run ends, or the limit is raised.",
            });
            continue;
        }
        let Some(rate) = gate.rate else { continue };
        match s.rate_used(Owner::here(tenant.oid), gate.key) {
            RateFound::Used(state) => {
                if let Err(at) = rate.admit(state, clock::now()) {
                    let at = crate::task::document::time_json(Some(at));
                    found.push(Shut {
                        reason: "rate",
                        what: format!("{what} is at its rate of {rate}"),
                        detail: format!("the next may start at {}", at.as_str().unwrap_or("")),
                        hint: rate.hint(),
                    });
                }
            }
            RateFound::Unused => {}
            RateFound::NoPlace => found.push(Shut {
                reason: "rate",
                what: format!("{what} has a rate of {rate}, and there is no place to count it in"),
                detail: format!("{} rates are in use", s.rates.len()),
                hint: "It goes on as soon as one of them is over. Raise tenant_q.max_tenants (restart): places grow with it.",
            }),
        }
    }
    found
}
