//! Taking: a worker outside of the server gets tasks of one tenant. The pick's kin (pick.rs): the same order makes a second start
//! impossible, the same walk (scan.rs) decides what is taken; what is taken is named by claims instead of a slot.
//!
//! It happens in the worker's own session, which runs nothing of the tenant's and writes nothing: what is to be done about rows
//! that can't be taken is left to an executor of the schema's owner (tidy.rs).

use crate::handler::Handler;
use crate::postgres::caught::{Failure, Own};
use crate::postgres::relation::{Access, Table};
use crate::postgres::row::Row;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{clock, shmem, transaction};
use crate::pure::ids::{self, Id};
use crate::pure::state::Stored;
use crate::pure::time::{At, Span};
use crate::shared::alone::Alone;
use crate::shared::claims::{Claim, New};
use crate::shared::runs::Known;
use crate::shared::slot::GATES;
use crate::shared::{BATCH, Shared, blocked, culprits, ready, wake};
use crate::task::rules::Rules;
use crate::task::{self, lookup};
use crate::tenant::columns::Tasks;
use crate::tenant::rights::{self, Right};
use crate::tenant::{self, Tenant};
use crate::waits::gate;
use crate::waits::turn::{self, Source};
use crate::work::cursors::lower_cursors;
use crate::work::look::{Company, Found, InSlot, Look, Offers, PickedRow, Purpose};
use crate::work::pick::Picked;
use crate::work::pick::{call_others, first_due, in_slots, in_turn, keeps_off, look_again_behind, note_left, tenant_of};
use crate::work::runs::{self, Walk};
use crate::work::scan::Scan;
use crate::work::tidy;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// A task that was taken.
pub struct Taken {
    pub claim: Id,
    pub tenant: Rc<Tenant>,
    pub handler: Rc<Handler>,
    pub row: Row<Tasks>,
    pub deadline: Option<At>,
    pub max_attempts: i32,
}

/// What a look has come to.
pub enum Outcome {
    /// These, perhaps none. `in_vain`: another look would find the same, until the entry is woken.
    Tasks { taken: Vec<Taken>, in_vain: bool },
    /// There is no place for another claim.
    Full,
}

/// What a worker offers to do, and in whose name.
pub struct Offered {
    /// None: whatever there is. Sorted.
    pub handlers: Option<Vec<String>>,
    pub queues: Option<Vec<String>>,
    /// The role that takes.
    pub role: u32,
    pub taker: u32,
}

/// The same in one tenant, at one moment.
struct Wanted<'a> {
    offered: &'a Offered,
    /// Tasks that this role's workers are to have alone.
    alone: Alone,
    /// This one has tasks already.
    has_others: bool,
}

impl Offers for Wanted<'_> {
    fn has(&self, handler: &Handler, queue: Option<&str>) -> bool {
        let Offered { queues, role, .. } = self.offered;
        self.offered.has_handler(handler)
            && queues.as_ref().is_none_or(|queues| queues.iter().any(|q| q == queue.unwrap_or("default")))
            && handler.external.as_ref().is_some_and(|external| external.may_be_taken_by(*role))
    }
    fn company(&self, id: Id, created_at: At, behind: usize) -> Company {
        match self.alone.get(&(id, created_at)) {
            None => Company::Any,
            Some(_) if !self.has_others && behind == 0 => Company::Alone,
            Some(lone) => Company::Others(*lone),
        }
    }
}

impl Offered {
    fn has_handler(&self, handler: &Handler) -> bool {
        let offers = |name: &str| self.handlers.as_ref().is_none_or(|list| list.binary_search_by(|of| of.as_str().cmp(name)).is_ok());
        offers(&handler.name) || handler.aliases.iter().any(|alias| offers(alias))
    }
}

/// Takes tasks of the tenant whose entry this is, which the caller has acquired: at most `limit`.
pub fn take(shared: &Shared, index: u32, limit: usize, offered: &Offered) -> Result<Outcome, Failure> {
    let entry = &shared.entries[index as usize];
    let generation = entry.generation.load();
    let low = entry.low_key.swap(At::NEVER);
    lower_cursors(shared, index, low);
    let due_before = entry.next_due.swap(At::NEVER);
    // Slots and claims first, snapshot later: see pick.rs.
    let taken_already = in_slots(shared, usize::MAX, entry.tenant.load());
    let looked = if culprits::is_pending(shared, shmem::my_database(), entry.tenant.load()) {
        Ok(Looked::Blocked(blocked::Reason::Unrecorded, Some(clock::now() + Span::of_millis(200))))
    } else {
        let start = Start { generation, in_slots: taken_already, limit };
        // After the claims: who dies with some notes this first, then lets them go.
        let alone = shared.lone_of(entry.tenant.load(), offered.role);
        let has_others = shared.takers[offered.taker as usize].claims.load() > 0;
        // Whatever the caller's snapshot is.
        transaction::with_latest_snapshot(|| look(shared, index, &start, &Wanted { offered, alone, has_others }))
    };
    let saw_nothing = |looked: &Result<Looked, Failure>| !matches!(looked, Ok(Looked::Found(_)));
    if saw_nothing(&looked) {
        entry.low_key.fetch_min(At::LOWEST);
        entry.next_due.fetch_min(due_before);
        shared.mark_due(index);
    }
    match looked {
        Ok(Looked::Found(look)) => Ok(look),
        Ok(Looked::Blocked(reason, until)) => {
            match until {
                Some(until) => ready::block_until(shared, index, until, reason),
                None => ready::block(shared, index, reason),
            }
            if reason == blocked::Reason::Unrecorded {
                tidy::ask_for(shared, entry.tenant.load());
            }
            Ok(Outcome::Tasks { taken: vec![], in_vain: true })
        }
        // Not attached (any more): whatever attaches it wakes it.
        Err(failure) if failure.is(Own::NoTenant) => {
            entry.seen.store(generation);
            Ok(Outcome::Tasks { taken: vec![], in_vain: true })
        }
        Err(failure) => Err(failure),
    }
}

enum Looked {
    Found(Outcome),
    Blocked(blocked::Reason, Option<At>),
}

/// Tasks of the tenant that somebody has.
type InSlots = HashMap<Id, InSlot>;

struct Start {
    generation: u64,
    in_slots: InSlots,
    limit: usize,
}

fn look(shared: &Shared, index: u32, start: &Start, wanted: &Wanted) -> Result<Looked, Failure> {
    let entry = &shared.entries[index as usize];
    let now = clock::now();
    let tenant = tenant_of(entry)?;
    entry.weight.store(tenant.weight);
    if rights::require(&tenant, &[Right::Work]).is_err() {
        // It was taken away since the session found out: others' tasks they are.
        entry.low_key.fetch_min(At::LOWEST);
        return Ok(Looked::Found(Outcome::Tasks { taken: vec![], in_vain: true }));
    }
    if let Some(Picked::Blocked { reason, until }) = keeps_off(shared, &tenant, now) {
        note_left(entry, start.generation, first_due(&tenant, now)?, now);
        return Ok(Looked::Blocked(reason, until));
    }
    let table = match open(&tenant) {
        Ok(table) => table,
        Err(reason) => return Ok(Looked::Blocked(reason, None)),
    };
    let mut room = start.limit.min(BATCH);
    let mut limited = false;
    let mut seen_running = HashSet::new();
    let mut locked = 0;
    if let Some(max) = tenant.max_running {
        tenant::lock::gates(tenant.oid)?;
        locked += 1;
        seen_running.extend(gate::live_items(shared, usize::MAX, tenant.oid).map(|item| item.id));
        let free = (max as usize).saturating_sub(seen_running.len());
        (room, limited) = (room.min(free), free < room);
    }
    let look = Look {
        purpose: Purpose::Take(wanted),
        shared,
        place: usize::MAX,
        entry,
        role: entry.role.load(),
        tenant: &tenant,
        in_slots: &start.in_slots,
        now,
        asks: false,
    };
    let (scan, marks) = walk(&look, index, &table, wanted, room)?;
    let Scan { found, busy, .. } = scan;
    let sees_all = found.foreign.is_none() && marks.is_empty();
    locked += usize::from(busy.is_some());
    call_others(shared, &tenant, &found)?;
    seen_running.extend(busy.into_iter().flat_map(|busy| busy.seen));
    let (untaken, moves) = (!found.park.is_empty() || !found.wait.is_empty() || found.doomed, found.is_in_vain(entry));
    make_room(shared, wanted, &found.passed);
    let Found { rows, gates, ends, mut due, oldest, moved, runs, foreign, exhausted, awaits_end, outlived, .. } = found;
    let (rows, gates) = if marks.is_empty() { (rows, gates) } else { in_turn(&tenant, entry, &marks, &ends, rows, gates) };
    let left = match (exhausted, foreign) {
        (false, _) => oldest,
        // Others' tasks may wait.
        (true, Some(due)) => due,
        (true, None) if !marks.is_empty() => first_left(&table, &start.in_slots, &rows, now),
        (true, None) => At::UNSET,
    };
    note_left(entry, start.generation, left, now);
    let count = rows.len();
    let taken = claim_all(shared, index, &tenant, rows, &gates, wanted)?;
    // From here on the claims keep others off, not this transaction.
    tenant::lock::let_gates_go(tenant.oid, locked)?;
    let limited = limited && !exhausted;
    // Whatever has come meanwhile: what is behind a cursor then has left its time in `low_key`, for the next look.
    runs.iter().for_each(|run| shared.note_run(index, run));
    moved.iter().for_each(|moved| moved.apply(entry));
    if sees_all && entry.generation.load() == start.generation && (exhausted || limited || moves) {
        entry.seen.store(start.generation);
    }
    if limited || awaits_end {
        entry.limited.store(1);
        let still: HashSet<Id> = gate::live_items(shared, usize::MAX, tenant.oid).map(|item| item.id).collect();
        if start.in_slots.keys().chain(&seen_running).any(|id| !still.contains(id)) {
            entry.generation.fetch_add(1);
            shared.mark_dirty(index);
        }
    }
    look_again_behind(shared, index, &tenant, outlived);
    ready::unblock(entry);
    if untaken || entry.unpark.load() != crate::pure::word::Unpark::No {
        entry.unpark.store(crate::pure::word::Unpark::No);
        tidy::ask_for(shared, tenant.oid);
    }
    due = due.min(At::NEVER);
    if due != At::NEVER {
        ready::due(shared, index, due);
    }
    let in_vain = taken.is_empty() && (exhausted || limited || moves);
    Ok(Looked::Found(if taken.len() < count && taken.is_empty() { Outcome::Full } else { Outcome::Tasks { taken, in_vain } }))
}

/// There are tasks that the worker can't have beside its others: it takes no more for the sake of one, for which nobody does so yet.
fn make_room(shared: &Shared, wanted: &Wanted, passed: &[u32]) {
    let place = wanted.offered.taker;
    if !passed.is_empty() {
        shared.takers[place as usize].passed.store(1);
    }
    if !shared.keeps_one(place) {
        passed.iter().any(|lone| shared.keep(*lone, place));
    }
}

/// Rows of one priority that are looked at for one that nobody has.
const LOOKED_AT: usize = 100;

/// Since when the first of all workers' tasks that nobody has could run, of the highest priority; UNSET: none is due.
fn first_left(table: &Table<Tasks>, in_slots: &InSlots, picked: &[PickedRow], now: At) -> At {
    let is_taken = |id: &Id| in_slots.contains_key(id) || picked.iter().any(|(row, ..)| row.get(Tasks::ID) == Some(*id));
    let rows = table.scan(&Tasks::PICK, &[Tasks::STATE.equals(Stored::External)]).take(LOOKED_AT);
    let mut due =
        rows.filter(|row| row.get(Tasks::RUN_AT).is_some_and(|at| at <= now) && !row.get(Tasks::ID).is_some_and(|id| is_taken(&id)));
    due.next().map_or(At::UNSET, |row| task::due(&row))
}

/// The tenant's tasks, and its results, from which is read what rows have waited for: no worker waits for a tenant's lock.
fn open(tenant: &Tenant) -> Result<Table<Tasks>, blocked::Reason> {
    match (tenant.try_open(tenant.task, Access::Read), tenant.try_open(tenant.result, Access::Read)) {
        (Ok(Some(table)), Ok(Some(_))) => Ok(table),
        (Ok(_), Ok(_)) => Err(blocked::Reason::Locked),
        _ => Err(blocked::Reason::Broken),
    }
}

/// Of each handler that is offered so many tasks of others are passed by, and at least so many, before they count as very many.
const OTHERS_OF_EACH: usize = 4;
const OTHERS: usize = 32;

/// Looks for tasks that are offered to be done. Where few others lie between them that is one look at all, in their order; else one
/// at each run of rows that is offered. Which orders these had in the second case, or none.
fn walk<'a>(
    look: &'a Look<'a>,
    index: u32,
    table: &Table<Tasks>,
    wanted: &Wanted,
    room: usize,
) -> Result<(Scan<'a>, Vec<Source>), Failure> {
    let known = || look.shared.known_runs(index);
    if turn::any(look.tenant) {
        let (marks, mut walks) = runs_offered(look, table, &known(), wanted)?;
        return Ok((Scan::walk_runs(look, table, &mut walks, room)?, marks));
    }
    let others = wanted.offered.handlers.as_ref().map_or(OTHERS, |handlers| (handlers.len() * OTHERS_OF_EACH).max(OTHERS));
    let mut scan = Scan::walk_workers(look, table, room, others)?;
    if !(scan.found.crowded && scan.found.rows.is_empty()) {
        return Ok((scan, vec![]));
    }
    let (marks, mut walks) = runs_offered(look, table, &known(), wanted)?;
    scan.go_along(table, &mut walks)?;
    Ok((scan, marks))
}

/// The runs of rows that are offered to be done, those of each order by themselves.
fn runs_offered<'t>(
    look: &Look,
    table: &'t Table<Tasks>,
    known: &[Known],
    wanted: &Wanted,
) -> Result<(Vec<Source>, Vec<Vec<Walk<'t>>>), Failure> {
    let Look { tenant, entry, .. } = *look;
    // Queues that take turns, each by itself; the others share the common order.
    let marks = turn::sources(tenant, entry.turn.load());
    let mut walks: Vec<Vec<Walk>> = marks.iter().map(|_| Vec::new()).collect();
    let mut add = |range: (Id, Id)| -> Result<(), Failure> {
        for walk in runs::present(table, known, range, look.now) {
            let Some(row) = walk.any() else { continue };
            let handler = crate::handler::find(tenant, row.get(Tasks::HANDLER).unwrap_or(""))?;
            let queue = row.get(Tasks::QUEUE);
            // What is no external handler's any more is found by whoever tidies up.
            if handler.is_none_or(|handler| !handler.is_external() || wanted.has(&handler, queue)) {
                let own = tenant.queue(queue).filter(|q| q.pick.is_some()).map(|q| Source::Queue(ids::turn_id(&q.name)));
                if let Some(nth) = marks.iter().position(|mark| *mark == own.unwrap_or(Source::Common)) {
                    walks[nth].push(walk);
                }
            }
        }
        Ok(())
    };
    match &wanted.offered.handlers {
        Some(handlers) => {
            let mut names = HashSet::new();
            for name in handlers {
                if let Some(handler) = crate::handler::find(tenant, name)?.filter(|h| h.is_external())
                    && names.insert(handler.name.clone())
                {
                    add(ids::runs_of(&handler.name))?;
                }
            }
        }
        None => add(ids::RUNS)?,
    }
    Ok((marks, walks))
}

/// Names what was picked by claims, as many as there is room for.
fn claim_all(
    shared: &Shared,
    index: u32,
    tenant: &Rc<Tenant>,
    rows: Vec<PickedRow>,
    gates: &[[u64; GATES]],
    wanted: &Wanted,
) -> Result<Vec<Taken>, Failure> {
    let offered = wanted.offered;
    let owners = if rows.is_empty() { None } else { tenant.entry(tenant.owner)? };
    let mut taken = Vec::with_capacity(rows.len());
    for ((row, handler, _), gates) in rows.into_iter().zip(gates) {
        let Some(handler) = handler else { continue };
        let rules = Rules::of(tenant, &row, Some(&handler));
        let id = Id::of(uuid::Uuid::new_v4().as_u128()); // 122 bits that nobody can guess
        let item = crate::shared::slot::Item { gates: *gates, ..lookup::item_of(&row) };
        let lone = wanted.alone.get(&(item.id, item.created_at)).copied();
        let new = New {
            taker: offered.taker,
            tenant: tenant.oid,
            tenant_name: &tenant.name,
            handler: &handler.name,
            role: offered.role,
            entry: index,
            owners: owners.map_or(u32::MAX, |entry| entry.index),
            item,
            timeout_ms: rules.timeout_ms,
            lone,
        };
        let Some(claim) = shared.make_claim(id, &new) else {
            // What has no place stays where it is.
            shared.entries[index as usize].low_key.fetch_min(At::LOWEST);
            shared.entries[index as usize].generation.fetch_add(1);
            shared.mark_dirty(index);
            break;
        };
        wake::taken(place_of(shared, claim), claim.load());
        let deadline = Some(claim.deadline.load()).filter(|at| *at > At::UNSET);
        taken.push(Taken { claim: id, tenant: tenant.clone(), handler, row, deadline, max_attempts: rules.max_attempts });
    }
    Ok(taken)
}

/// Where among the claims it is.
pub fn place_of(shared: &Shared, claim: &Claim) -> u32 {
    shared.claims.iter().position(|c| std::ptr::eq(c, claim)).expect("one of ours") as u32
}

/// What is said to a worker whose role has taken as much as it may.
pub fn full(shared: &Shared, role: u32) -> Failure {
    let (held, most) = (shared.claims_held(role), shared.claims.len());
    let others = (shared.header.claims.load() as usize).saturating_sub(held);
    let failure = Failure::new(SqlState::CONFIGURATION_LIMIT_EXCEEDED, "workers of this role may take no more tasks now");
    Failure {
        detail: Some(format!(
            "They have taken {held}, others {others}, of tenant_q.max_claims = {most}; a role may have as many as are left for all others."
        )),
        hint: Some("End or release some of them, or raise tenant_q.max_claims (restart).".into()),
        ..failure
    }
}
