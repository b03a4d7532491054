//! An executor: an ordinary session of the role its tasks run as, pooled and re-used. There is
//! nothing privileged in it to escape to.
//!
//! Loop: whose turn is it (ready) → pick a batch → run each task in its own transaction → charge
//! the time → again; leave when idle for long, or when a waiting role is behind this one.

use crate::handler::Handler;
use crate::postgres::caught::{self, Failure, Own};
use crate::postgres::interrupt::{self, Mark};
use crate::postgres::row::Row;
use crate::postgres::{clock, latch, memory, sandbox, session, shmem, timeout, transaction, worker};
use crate::pure::state::Outcome;
use crate::pure::time::{self, NEVER};
use crate::pure::word::{SlotState, Stop, Unpark, Word};
use crate::settings;
use crate::shared::database::db_state;
use crate::shared::entry::Entry;
use crate::shared::role::Role;
use crate::shared::slot::{self, MY_SLOT, Slot};
use crate::shared::text::store_text;
use crate::shared::wakes::{Reason, Turn, Waiter};
use crate::shared::{self, BATCH, Shared, blocked, culprits, holds, ready, waiters};
use crate::tenant::Tenant;
use crate::tenant::columns::Tasks;
use crate::tenant::reserved::check_reserved;
use crate::work::pick::{self, Batch, Picked};
use crate::work::{park, poison, retention, run};
use std::rc::Rc;

/// Settings that ALTER ROLE or ALTER DATABASE may have changed and that would break us.
const OVERRIDES: &[(&std::ffi::CStr, &str)] = &[
    (c"default_transaction_isolation", "read committed"),
    (c"default_transaction_read_only", "off"),
    (c"default_transaction_deferrable", "off"),
    (c"statement_timeout", "0"),
    (c"lock_timeout", "0"),
    (c"idle_in_transaction_session_timeout", "0"),
    (c"idle_session_timeout", "0"),
    (c"transaction_timeout", "0"),
    (c"jit", "off"),
    (c"plan_cache_mode", "auto"),
    (c"enable_seqscan", "on"),
    (c"enable_indexscan", "on"),
    (c"enable_bitmapscan", "on"),
    (c"enable_nestloop", "on"),
    (c"enable_hashjoin", "on"),
    (c"enable_mergejoin", "on"),
    (c"enable_sort", "on"),
    // A crash in a parallel worker would be blamed on nobody, and the workers are few.
    (c"max_parallel_workers_per_gather", "0"),
    (c"row_security", "on"),
    // A failed attempt is no reason to leave.
    (c"exit_on_error", "off"),
    // Losing the commit loses effects and completion together; the batch is flushed at its end.
    (c"synchronous_commit", "off"),
];

/// How often an executor looks how much memory it holds: the look is three system calls.
const WEIGHED_EVERY: std::time::Duration = std::time::Duration::from_millis(100);
/// And after so many batches: each may be of another tenant, which costs 25 kB.
const WEIGHED_AT_LEAST: u32 = 64;

/// A tenant whose settings can't be set is looked at again after so long.
const UNSETTABLE: time::Micros = 10_000_000;

/// Main function; the argument: slot and its generation.
pub fn main(argument: u64) {
    let (place, generation) = ((argument & 0xFFFF) as usize, (argument >> 16) as u32);
    let s = shared::shared();
    let slot = &s.slots[place];
    if slot.state.load() != SlotState::Starting || slot.generation.load() != generation {
        return;
    }
    MY_SLOT.set(place);
    worker::on_quit(|| {
        // Somebody else's crash: say so before dying of it.
        if let Some(s) = shared::get() {
            s.slots[MY_SLOT.get()].bystander.store(1);
        }
    });
    worker::set_up_signals();
    slot.pid.store(shmem::my_pid());
    worker::connect(slot.database.load(), slot.role.load());
    // Who can't get so far has not started: the launcher tries later and later, and tq_problems shows the role.
    for (name, value) in OVERRIDES {
        session::set_session(name, value);
    }
    if !session::be_role(slot.role.load()) {
        pgrx::log!("tenant_q: an executor's session is not its role's: see the role's and the database's settings (pg_db_role_setting)");
        worker::exit(1);
    }
    slot.proc.store(latch::my_procno() + 1);
    worker::on_exit(leave);
    session::report_appname("tenant_q executor");
    if let Err(error) = timeout::register() {
        caught::log_failure("an executor could not start", &error.into());
        worker::exit(1);
    }
    slot.since.store(clock::now());
    slot.tasks_done.store(0);
    slot.tasks_failed.store(0);
    slot.state.store(SlotState::Working);
    let role_index = slot.role_index.load() as usize;
    ready::join(&s, role_index, place);
    s.roles[role_index].starting.fetch_sub(1);
    s.roles[role_index].start_failures.store(0);

    let mut executor = Executor {
        s,
        place,
        slot,
        role_index,
        tenant: None,
        memory: worker::TurnMemory::new(),
        flushed: clock::tick(),
        weighed: clock::tick(),
        unweighed: 0,
        based: Vec::new(),
    };
    executor.work();
}

/// After the transaction has been aborted: the slot is nobody's.
fn leave() {
    let Some(s) = shared::get() else { return };
    let place = MY_SLOT.get();
    let slot = &s.slots[place];
    if interrupt::is_orphaned() {
        // What is shared ends with the last of us; but who reads the file after the next start must not find a task in it.
        return slot::free_slot(slot);
    }
    let role = &s.roles[slot.role_index.load() as usize];
    role.idle.fetch_and(!(1 << place));
    if slot.state.load() == SlotState::Starting {
        role.starting.fetch_sub(1);
    }
    ready::part(&s, slot.role_index.load() as usize, place);
    let entry = slot.entry.load();
    let had_work = !Word::load(slot).live().is_empty();
    culprits::end_alone(&s, place);
    if had_work {
        answer_for(&s, slot, role, entry);
    }
    slot::free_slot(slot);
    role.executors.fetch_sub(1);
    ready::release_all_of(&s, place);
    park::leave(&s, place);
    if had_work {
        // What it had picked is free again: the cursor may have passed it by now, and others may have been
        // held up by it.
        ready::wake(&s, entry, i64::MIN);
        ready::wake_limited(&s, s.entries[entry as usize].tenant.load());
    }
    // It may have ended between the end of its last task and saying so.
    slot::no_longer_named(&s, place, s.entries[entry as usize].tenant.load());
    s.call_launcher();
}

/// An end in the middle of work costs its tenant and role what it would have cost to go on, at least: who makes its
/// executors end gets no turn for nothing. If nobody asked this one to go, the next start of one waits a while.
fn answer_for(s: &Shared, slot: &Slot, role: &Role, entry: u32) {
    let word = Word::load(slot);
    let ran = if word.running { (clock::now() - slot.started_at.load()).clamp(0, 3_600_000_000) as u64 * 1000 } else { 0 };
    ready::charge(s, entry, ran.max(settings::role_quantum().as_nanos() as u64));
    if timeout::has_terminated() {
        return culprits::timed_out(s, slot);
    }
    if slot.leave.load() != 0 || slot.cancel_reason.load() != Stop::No {
        return;
    }
    if word.running && word.next > 0 {
        let id = slot.item_id(word.next - 1);
        if holds::executor_ended(s, entry, id) >= culprits::ENDS {
            // That is settled, then, and whoever comes next writes it down.
            culprits::interrupted(s, slot);
            holds::forget_ends(s, entry, id);
            return role.ends.store(0);
        }
    }
    let ends = role.ends.fetch_add(1) + 1;
    role.start_after.fetch_max(clock::now() + holds::delay_after_ends(ends));
}

struct Executor {
    s: Shared,
    place: usize,
    slot: &'static Slot,
    role_index: usize,
    /// Whose base settings the session has.
    tenant: Option<(u64, Rc<Tenant>)>,
    memory: worker::TurnMemory,
    flushed: std::time::Instant,
    weighed: std::time::Instant,
    /// Batches since then.
    unweighed: u32,
    /// Settings that the present tenant has set.
    based: Vec<String>,
}

/// What became of a batch.
enum Worked {
    /// Tasks were run, or rows changed.
    Something,
    Nothing,
    /// A procedure was run: this executor goes.
    Procedure,
}

impl Executor {
    fn work(&mut self) {
        let role = &self.s.roles[self.role_index];
        let mut waiter = Waiter::new(self.s.executor_wakes(self.place));
        let mut idle_since = clock::tick();
        loop {
            self.memory.enter();
            interrupt::heed();
            let mut turn = Turn::begin();
            if worker::take_reload() {
                waiter.start_over();
                turn.did(Reason::Call);
            }
            if self.must_leave() {
                return;
            }
            poison::settle(&self.s, shmem::my_database());
            waiters::tell(&self.s);
            if let Some(index) = self.next_entry() {
                waiter.about(index);
                let worked = self.batch(index);
                waiters::tell(&self.s);
                culprits::end_alone(&self.s, self.place);
                match worked {
                    Worked::Something => {
                        turn.did(Reason::More);
                        idle_since = clock::tick();
                    }
                    Worked::Nothing => {}
                    Worked::Procedure => return,
                }
                if self.has_grown() {
                    transaction::flush_commits();
                    return;
                }
                turn.at_once(Reason::More);
                let sleep = waiter.plan(&turn);
                if sleep.is_none() {
                    waiter.sleep(sleep);
                } else {
                    // One entry is looked at again and again, in vain: others' work may call meanwhile.
                    role.idle.fetch_or(1 << self.place);
                    waiter.sleep(sleep);
                    role.idle.fetch_and(!(1 << self.place));
                }
                continue;
            }
            transaction::flush_commits();
            if self.idles_heavy() {
                return;
            }
            let idle = settings::executor_idle();
            let waited = idle_since.elapsed();
            if waited >= idle || (self.s.header.waiting_roles.load() > 0 && role.heap_count.load() == 0) {
                return;
            }
            self.wait_for_lists(&mut turn);
            role.idle.fetch_or(1 << self.place);
            if role.heap_count.load() == 0 && !self.s.any_dirty() {
                turn.after(Reason::Idle, idle - waited);
            } else {
                turn.at_once(Reason::More);
            }
            let sleep = waiter.plan(&turn);
            if !sleep.is_none() {
                session::report_activity(None);
                session::report_statistics(false);
            }
            waiter.sleep(sleep);
            role.idle.fetch_and(!(1 << self.place));
        }
    }

    /// Whether it holds more memory than it may: what its session keeps of every tenant's tables is given back by
    /// leaving. The next one is started as for any role with work.
    fn has_grown(&mut self) -> bool {
        self.unweighed += 1;
        (self.weighed.elapsed() >= WEIGHED_EVERY || self.unweighed >= WEIGHED_AT_LEAST) && self.is_heavy()
    }

    /// The same before it idles: a fast one may have touched many tenants since it was weighed.
    fn idles_heavy(&mut self) -> bool {
        self.unweighed >= WEIGHED_AT_LEAST / 4 && self.is_heavy()
    }

    fn is_heavy(&mut self) -> bool {
        self.weighed = clock::tick();
        self.unweighed = 0;
        memory::exceeds(settings::executor_memory())
    }

    /// Lists behind long tasks: those of this role are taken over when their time has come; for the others' sake
    /// the launcher may want this place.
    fn wait_for_lists(&self, turn: &mut Turn) {
        let mut of_others = false;
        for slot in self.s.slots {
            let (since, word) = (slot.busy_since.load(), Word::load(slot));
            if slot.state.load() != SlotState::Working || since == 0 || word.next >= word.end {
                continue;
            }
            if slot.role_index.load() as usize == self.role_index {
                turn.at_ns(Reason::Stuck, since + slot::TAKE_OVER_AFTER.as_nanos() as u64);
            } else {
                of_others = true;
            }
        }
        if of_others {
            self.s.call_launcher();
        }
    }

    fn must_leave(&self) -> bool {
        if !settings::enabled() || self.slot.leave.load() != 0 {
            return true;
        }
        let db = self.s.db(self.slot.database.load());
        db.is_none_or(|d| d.state.load() != db_state::SERVED || d.is_away()) || ready::should_leave(&self.s, self.role_index)
    }

    /// Whose turn it is; else a list that is stuck behind a long task.
    fn next_entry(&self) -> Option<u32> {
        // The stuck list first: it has waited 100 ms already.
        for other in self.s.slots {
            if slot::is_stuck(other) && other.role_index.load() as usize == self.role_index {
                let index = other.entry.load();
                if ready::hold(&self.s, index, self.place) {
                    return Some(index);
                }
            }
        }
        ready::acquire(&self.s, self.role_index, self.place)
    }

    /// Picks and runs one batch of this entry.
    fn batch(&mut self, index: u32) -> Worked {
        let shared = self.s;
        let s = &shared;
        let e = &s.entries[index as usize];
        let began = clock::monotonic_ns();
        let role = &s.roles[self.role_index];
        // Tenants of one role usually run the same handlers: what fitted the others is a start.
        let limit = e.batch.load().max(role.batch.load()).clamp(1, BATCH as u32) as usize;
        let (generation, unparks) = (e.generation.load(), e.unparks.load());
        let picked = pick::pick(s, self.place, index, limit);
        let batch = match picked {
            Ok(Picked::Batch(batch)) => batch,
            Ok(Picked::Blocked { reason, until }) => {
                match until {
                    Some(until) => ready::block_until(s, index, until, reason),
                    None => ready::block(s, index, reason),
                }
                if e.unparks.load() != unparks {
                    // What it was blocked for may have ended while we looked.
                    ready::unblock(e);
                }
                ready::release(s, index);
                return Worked::Nothing;
            }
            Err(failure) => {
                if failure.is(Own::NoTenant) {
                    // Not attached (any more), or the extension is gone: nothing to come back
                    // for. Whatever attaches or confirms it wakes it, meanwhile perhaps.
                    e.seen.store(generation);
                } else {
                    caught::log_failure("tasks could not be picked", &failure);
                    ready::block(s, index, blocked::Reason::Error);
                }
                ready::release(s, index);
                return Worked::Nothing;
            }
        };
        let Batch { tenant, rows, park, wait, unpark, unparks } = batch;
        let mut worked = if rows.is_empty() && park.is_empty() && wait.is_empty() && !unpark { Worked::Nothing } else { Worked::Something };
        // While the entry is held: nobody else may pick these rows meanwhile.
        if !wait.is_empty()
            && let Err(failure) = crate::work::park::wait(s, index, &tenant, &wait)
        {
            caught::log_failure(&format!("{}: tasks could not be made to wait", caught::one_line(&tenant.name)), &failure);
            ready::block(s, index, blocked::Reason::Error);
        }
        ready::release(s, index);
        if !park.is_empty() {
            self.park(index, &tenant, &park, unparks);
        }
        if unpark {
            crate::work::park::unpark(s, self.place, index, &tenant);
        }
        let count = rows.len();
        if count > 1 {
            // While a list waits somebody must look after it.
            s.call_launcher();
        }
        if count > 0
            && let Err(failure) = caught::catch(|| self.prepare(&tenant)).and_then(|prepared| prepared)
        {
            caught::log_failure(&format!("{}: its settings could not be set", caught::one_line(&tenant.name)), &failure);
            self.tenant = None;
            // Whoever sets them otherwise wakes it.
            ready::block_until(s, index, clock::now() + UNSETTABLE, blocked::Reason::Settings);
            // An error, unlike a pause.
            e.blocked_since.store(clock::now());
            self.give_back(index);
            ready::charge(s, index, clock::monotonic_ns() - began);
            return Worked::Nothing;
        }
        let mut one_shot = false;
        let mut outdated = false;
        loop {
            interrupt::heed();
            let Some(n) = run::start_next(self.slot) else { break };
            // In this order: what comes in between is forgotten, and was not for this attempt.
            let since = Mark::now();
            interrupt::forget_cancel();
            // Rows are Rust's; what was converted for the task before is not needed any more.
            self.memory.enter();
            match rows.get(n) {
                Some(Some((row, handler))) => {
                    let outcome = self.one(index, e, &tenant, row, handler.as_ref(), since);
                    one_shot |= handler.as_ref().is_some_and(|h| h.is_procedure() && h.run_as == sandbox::session_user().to_u32());
                    outdated = outcome == Outcome::Outdated;
                }
                _ => {
                    run::ended_one(self.slot);
                    slot::no_longer_named(s, self.place, tenant.oid);
                    ready::wake(s, index, NEVER);
                }
            }
            // What holds no more for one of the list may hold for none; where too many run, the rest is not for this one.
            let too_many = self.slot.cancel_reason.load() == Stop::Room;
            if one_shot || outdated || too_many || self.slot.leave.load() != 0 {
                break;
            }
        }
        self.give_back(index);
        self.flush_if_due();
        let used = clock::monotonic_ns() - began;
        ready::charge(s, index, used);
        let budget = settings::batch_time().as_nanos() as u64;
        let next = if used > budget {
            ((count as u64 * budget) / used).max(1) as usize
        } else if count >= limit {
            (limit * 2).min(BATCH)
        } else {
            limit
        };
        e.batch.store(next as u32);
        if used > budget {
            role.batch.fetch_min(next as u32);
        } else if count >= limit {
            role.batch.fetch_max(next as u32);
        }
        if count > 0 {
            // Places are free again, for tasks of the tenant's other roles too. Not after a look that found
            // nothing to run: it would take its own mark for the end of something, and look again for ever.
            ready::wake_limited(s, tenant.oid);
        }
        session::report_statistics(false);
        retention::after_batch(s, index, &tenant);
        if one_shot {
            worked = Worked::Procedure;
        }
        worked
    }

    /// Runs one task. After a procedure this session may not run another.
    fn one(&self, index: u32, e: &Entry, tenant: &Rc<Tenant>, row: &Row<Tasks>, handler: Option<&Rc<Handler>>, since: Mark) -> Outcome {
        let s = &self.s;
        if sandbox::current_user() != sandbox::session_user() {
            // Whatever did this: don't repair, leave.
            worker::exit(1);
        }
        // Another role's is in this executor only for its listeners to be asked.
        let theirs = handler.map(|h| h.run_as).filter(|role| *role != sandbox::session_user().to_u32());
        let theirs = theirs.and_then(|role| tenant.entry(role).ok().flatten()).map(|r| r.index);
        let procedure = theirs.is_none() && handler.is_some_and(|h| h.is_procedure());
        if procedure {
            self.slot.one_shot.store(1);
        }
        let outcome = run::attempt(s, self.slot, index, tenant, row, handler, since);
        crate::shared::counters::ended(s, tenant.oid, &crate::task::counted(row), outcome, self.slot.started_at.load());
        run::ended_one(self.slot);
        slot::no_longer_named(s, self.place, tenant.oid);
        if !matches!(outcome, Outcome::Done | Outcome::Failed) {
            // Its row is still there: a pick since it was announced has passed it over, for it was
            // in this slot.
            ready::wake(s, index, NEVER);
            if let Some(theirs) = theirs {
                ready::wake(s, theirs, i64::MIN);
            }
        }
        self.count(e, outcome);
        if !matches!(outcome, Outcome::Unrecorded | Outcome::Outdated) && self.s.roles[self.role_index].ends.load() != 0 {
            self.s.roles[self.role_index].ends.store(0);
        }
        if row.has(Tasks::SCHEDULE) && e.limited.swap(0) == 1 {
            // The next of its schedule may have waited for this one.
            ready::wake(s, index, i64::MIN);
        }
        if !crate::waits::gate::of(tenant, row, handler.map(|h| &**h)).is_empty() {
            ready::wake_limited(s, tenant.oid);
        }
        if outcome == Outcome::Done {
            culprits::acquit(s, shmem::my_database(), tenant.oid, row.get(Tasks::HANDLER).unwrap_or(""));
        }
        waiters::tell(s);
        transaction::drop_session_state();
        if transaction::has_temp_tables() {
            let _ = transaction::run(|| {
                transaction::drop_temp_tables();
                Ok(())
            });
        }
        outcome
    }

    fn count(&self, e: &Entry, outcome: Outcome) {
        let minute = clock::now() / 60_000_000;
        if e.minute.swap(minute) != minute {
            e.done_last_minute.store(e.done_this_minute.swap(0));
            e.failed_last_minute.store(e.failed_this_minute.swap(0));
        }
        match outcome {
            Outcome::Done => {
                e.done.fetch_add(1);
                e.done_this_minute.fetch_add(1);
                e.finished_since_retention.fetch_add(1);
                self.slot.tasks_done.fetch_add(1);
            }
            Outcome::Failed => {
                e.failed.fetch_add(1);
                e.failed_this_minute.fetch_add(1);
                e.finished_since_retention.fetch_add(1);
                self.slot.tasks_failed.fetch_add(1);
            }
            _ => {}
        }
    }

    /// Losing an unflushed commit loses effects and completion together, so it need not be after
    /// every batch: after a batch time's worth of work, and before idling.
    fn flush_if_due(&mut self) {
        if self.flushed.elapsed() >= settings::batch_time() {
            transaction::flush_commits();
            self.flushed = clock::tick();
        }
    }

    /// What was picked and not started goes back: the cursor is lowered before it leaves the slot.
    fn give_back(&self, index: u32) {
        let word = Word::load(self.slot);
        if word.next < word.end {
            ready::wake(&self.s, index, i64::MIN);
            loop {
                let word = Word::load(self.slot);
                if word.replace(self.slot, Word { end: word.next, ..word }) {
                    break;
                }
            }
            ready::wake(&self.s, index, i64::MIN);
        }
        self.slot.busy_since.store(0);
    }

    /// The session's base settings for this tenant's tasks.
    fn prepare(&mut self, tenant: &Rc<Tenant>) -> Result<(), Failure> {
        let epoch = crate::tenant::epoch();
        if self.tenant.as_ref().is_some_and(|(seen, t)| *seen == epoch && Rc::ptr_eq(t, tenant)) {
            return Ok(());
        }
        check_reserved(tenant.settings.as_ref())?;
        let other = self.tenant.as_ref().is_some_and(|(_, t)| t.oid != tenant.oid);
        if other && worker::has_interpreter() {
            // Its globals would reach the next tenant: a fresh process takes over.
            self.slot.leave.store(1);
            worker::exit(0);
        }
        for name in self.based.drain(..) {
            session::reset_base(&name);
        }
        session::forget_random_state();
        session::set_base("search_path", &tenant.search_path());
        session::set_base("TimeZone", &tenant.zone());
        if let Some(serde_json::Value::Object(settings)) = &tenant.settings {
            for (name, value) in settings {
                session::set_base(name, &value.as_str().map_or_else(|| value.to_string(), str::to_string));
                self.based.push(name.clone());
            }
        }
        store_text(&self.slot.tenant_name, &tenant.name);
        self.tenant = Some((epoch, tenant.clone()));
        Ok(())
    }

    fn park(&self, index: u32, tenant: &Rc<Tenant>, items: &[slot::Item], unparks: u64) {
        if let Err(failure) = crate::work::park::park(&self.s, index, tenant, items) {
            caught::log_failure(&format!("{}: tasks could not be held", caught::one_line(&tenant.name)), &failure);
            ready::block(&self.s, index, blocked::Reason::Error);
        } else {
            let e = &self.s.entries[index as usize];
            if e.unparks.load() != unparks {
                // What held them ended while they were being parked, and whoever looked for held rows may
                // have looked too early.
                e.unpark.store(Unpark::Asked);
            }
            // There may be more behind them.
            ready::wake(&self.s, index, NEVER);
        }
    }
}
