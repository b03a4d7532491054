//! One batch: a few due tasks of one entry, picked together and run one by one, each in a transaction of its own.
//!
//! One executor at a time picks from an entry; while this one works its list off, others may pick there. The list is
//! as long as fits into a batch time, learnt per entry and role; what an executor can't get to, another one takes over
//! (slot.rs: is_stuck), or `give_back` returns.

use super::Executor;
use crate::handler::Handler;
use crate::postgres::caught::{self, Own};
use crate::postgres::interrupt::{self, Mark};
use crate::postgres::row::Row;
use crate::postgres::{clock, sandbox, session, shmem, transaction, worker};
use crate::pure::state::Outcome;
use crate::pure::time::{At, Span};
use crate::pure::word::{Stop, Unpark, Word};
use crate::settings;
use crate::shared::entry::Entry;
use crate::shared::slot;
use crate::shared::{BATCH, blocked, counters, culprits, ready, waiters};
use crate::tenant::Tenant;
use crate::tenant::columns::Tasks;
use crate::waits::gate;
use crate::work::look::PickedRow;
use crate::work::pick::{self, Batch, Picked};
use crate::work::{park, retention, run, tidy};
use std::rc::Rc;

/// A tenant whose settings can't be set is looked at again after so long.
const UNSETTABLE: Span = Span::of_secs(10);

/// What became of a batch.
pub(super) enum Worked {
    /// Tasks were run, or rows changed.
    Something,
    Nothing,
    /// A procedure was run: this executor goes.
    Procedure,
}

impl Executor {
    /// Picks and runs one batch of this entry.
    pub(super) fn batch(&mut self, index: u32) -> Worked {
        let shared = self.shared;
        let entry = &shared.entries[index as usize];
        let began = clock::monotonic_ns();
        let role = &shared.roles[self.role_index];
        // Tenants of one role usually run the same handlers: what fitted the others is a start.
        let limit = entry.batch.load().max(role.batch.load()).clamp(1, BATCH as u32) as usize;
        let Some(batch) = self.pick(index, limit) else { return Worked::Nothing };
        let changed_rows = !batch.park.is_empty() || !batch.wait.is_empty() || batch.unpark;
        self.put_aside(index, &batch);
        let Batch { tenant, rows, .. } = batch;
        let count = rows.len();
        if count > 1 {
            // While a list waits somebody must look after it.
            shared.call_launcher();
        }
        if count > 0
            && let Err(failure) = caught::catch(|| self.prepare(&tenant)).and_then(|prepared| prepared)
        {
            caught::log_failure(&format!("{}: its settings could not be set", caught::one_line(&tenant.name)), &failure);
            self.tenant = None;
            // Whoever sets them otherwise wakes it.
            ready::block_until(&shared, index, clock::now() + UNSETTABLE, blocked::Reason::Settings);
            // An error, unlike a pause.
            entry.blocked_since.store(clock::now());
            self.give_back(index);
            ready::charge(&shared, index, clock::monotonic_ns() - began);
            return Worked::Nothing;
        }
        let one_shot = self.work_off(index, &tenant, &rows);
        self.give_back(index);
        self.flush_if_due();
        let used = clock::monotonic_ns() - began;
        ready::charge(&shared, index, used);
        self.learn_length(entry, limit, count, used);
        if count > 0 {
            // Places are free again, for tasks of the tenant's other roles too. Not after a look that found
            // nothing to run: it would take its own mark for the end of something, and look again for ever.
            ready::wake_limited(&shared, tenant.oid);
        }
        session::report_statistics(false);
        retention::after_batch(&shared, index, &tenant);
        match one_shot {
            true => Worked::Procedure,
            false if count > 0 || changed_rows => Worked::Something,
            false => Worked::Nothing,
        }
    }

    /// Picks at most `limit` tasks into the slot. None: nothing came of it, and others may pick there again.
    fn pick(&self, index: u32, limit: usize) -> Option<Batch> {
        let shared = &self.shared;
        let entry = &shared.entries[index as usize];
        let (generation, unparks) = (entry.generation.load(), entry.unparks.load());
        match pick::pick(shared, self.place, index, limit) {
            Ok(Picked::Batch(batch)) => return Some(batch),
            Ok(Picked::Blocked { reason, until }) => {
                match until {
                    Some(until) => ready::block_until(shared, index, until, reason),
                    None => ready::block(shared, index, reason),
                }
                if entry.unparks.load() != unparks {
                    // What it was blocked for may have ended while we looked.
                    ready::unblock(entry);
                }
            }
            Err(failure) if failure.is(Own::NoTenant) => {
                // Not attached (any more), or the extension is gone: nothing to come back
                // for. Whatever attaches or confirms it wakes it, meanwhile perhaps.
                entry.seen.store(generation);
            }
            Err(failure) => {
                caught::log_failure("tasks could not be picked", &failure);
                ready::block(shared, index, blocked::Reason::Error);
            }
        }
        ready::release(shared, index);
        None
    }

    /// Writes down what the pick found that can't run now, and what may again; in between the entry is let go.
    fn put_aside(&self, index: u32, batch: &Batch) {
        let shared = &self.shared;
        // Before others may pick there: not these rows.
        if !batch.wait.is_empty()
            && let Err(failure) = park::wait(shared, index, &batch.tenant, &batch.wait)
        {
            caught::log_failure(&format!("{}: tasks could not be made to wait", caught::one_line(&batch.tenant.name)), &failure);
            ready::block(shared, index, blocked::Reason::Error);
        }
        ready::release(shared, index);
        if !batch.park.is_empty() {
            self.park(index, &batch.tenant, &batch.park, batch.unparks);
        }
        if batch.unpark {
            park::unpark(shared, self.place, index, &batch.tenant);
        }
        tidy::tidy(shared, self.place, index, &batch.tenant);
    }

    fn park(&self, index: u32, tenant: &Rc<Tenant>, items: &[slot::Item], unparks: u64) {
        if let Err(failure) = park::park(&self.shared, index, tenant, items) {
            caught::log_failure(&format!("{}: tasks could not be held", caught::one_line(&tenant.name)), &failure);
            ready::block(&self.shared, index, blocked::Reason::Error);
        } else {
            let entry = &self.shared.entries[index as usize];
            if entry.unparks.load() != unparks {
                // What held them ended while they were being parked, and whoever looked for held rows may
                // have looked too early.
                entry.unpark.store(Unpark::Asked);
            }
            // There may be more behind them.
            ready::wake(&self.shared, index, At::NEVER);
        }
    }

    /// Runs the tasks of the list, as long as nothing speaks against it. True: one was a procedure, and this session may
    /// run no other.
    fn work_off(&self, index: u32, tenant: &Rc<Tenant>, rows: &[Option<PickedRow>]) -> bool {
        let shared = &self.shared;
        let entry = &shared.entries[index as usize];
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
                Some(Some((row, handler, met))) => {
                    let outcome = self.one(index, entry, tenant, (row, handler.as_ref()), *met, since);
                    one_shot |= handler.as_ref().is_some_and(|h| h.is_procedure() && h.run_as == sandbox::session_user().to_u32());
                    outdated = outcome == Outcome::Outdated;
                }
                _ => {
                    run::ended_one(self.slot);
                    slot::no_longer_named(shared, self.place, tenant.oid);
                    ready::wake(shared, index, At::NEVER);
                }
            }
            // What is not so any more for one of the list may be so for none; where too many run, the rest is not for this one.
            let too_many = self.slot.cancel_reason.load() == Stop::Room;
            if one_shot || outdated || too_many || self.slot.leave.load() != 0 {
                break;
            }
        }
        one_shot
    }

    /// How many tasks fit into a batch time, after `count` of at most `limit` took `used` nanoseconds.
    fn learn_length(&self, entry: &Entry, limit: usize, count: usize, used: u64) {
        let role = &self.shared.roles[self.role_index];
        let budget = settings::batch_time().as_nanos() as u64;
        let next = if used > budget {
            ((count as u64 * budget) / used).max(1) as usize
        } else if count >= limit {
            (limit * 2).min(BATCH)
        } else {
            limit
        };
        entry.batch.store(next as u32);
        if used > budget {
            role.batch.fetch_min(next as u32);
        } else if count >= limit {
            role.batch.fetch_max(next as u32);
        }
    }

    /// Runs one task. After a procedure this session may not run another.
    /// `met`: since when nothing that it depends on is left to wait for.
    fn one(
        &self,
        index: u32,
        entry: &Entry,
        tenant: &Rc<Tenant>,
        (row, handler): (&Row<Tasks>, Option<&Rc<Handler>>),
        met: Option<At>,
        since: Mark,
    ) -> Outcome {
        let shared = &self.shared;
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
        let outcome = run::attempt(shared, self.slot, index, tenant, row, handler, since);
        let mut counted = crate::task::counted(row);
        counted.due = counted.due.max(met);
        counters::ended(shared, tenant.oid, &counted, outcome, self.slot.started_at.load());
        run::ended_one(self.slot);
        slot::no_longer_named(shared, self.place, tenant.oid);
        if !matches!(outcome, Outcome::Done | Outcome::Failed) {
            // Its row is still there: a pick since it was announced has passed it over, for it was
            // in this slot.
            ready::wake(shared, index, At::NEVER);
            if let Some(theirs) = theirs {
                ready::wake(shared, theirs, At::LOWEST);
            }
        }
        self.count(entry, outcome);
        let role = &shared.roles[self.role_index];
        if !matches!(outcome, Outcome::Unrecorded | Outcome::Outdated) && role.ends.load() != 0 {
            role.ends.store(0);
        }
        if row.has(Tasks::SCHEDULE) && entry.limited.swap(0) == 1 {
            // The next of its schedule may have waited for this one.
            ready::wake(shared, index, At::LOWEST);
        }
        if !gate::of(tenant, row, handler.map(|h| &**h)).is_empty() {
            ready::wake_limited(shared, tenant.oid);
        }
        if outcome == Outcome::Done {
            culprits::acquit(shared, shmem::my_database(), tenant.oid, row.get(Tasks::HANDLER).unwrap_or(""));
        }
        waiters::tell(shared);
        transaction::drop_session_state();
        if transaction::has_temp_tables() {
            let _ = transaction::run(|| {
                transaction::drop_temp_tables();
                Ok(())
            });
        }
        outcome
    }

    fn count(&self, entry: &Entry, outcome: Outcome) {
        entry.count(Some(outcome));
        match outcome {
            Outcome::Done => _ = self.slot.tasks_done.fetch_add(1),
            Outcome::Failed => _ = self.slot.tasks_failed.fetch_add(1),
            _ => {}
        }
    }

    /// Losing an unflushed commit loses effects and completion together, so it need not be after
    /// every batch: after a batch time's worth of work, and before idling.
    fn flush_if_due(&mut self) {
        if self.flushed.elapsed() >= settings::batch_time() {
            transaction::flush_commits();
            self.flushed = clock::steady();
        }
    }

    /// What was picked and not started goes back: the cursor is lowered before it leaves the slot.
    fn give_back(&self, index: u32) {
        let word = Word::load(self.slot);
        if word.next < word.end {
            ready::wake(&self.shared, index, At::LOWEST);
            loop {
                let word = Word::load(self.slot);
                if word.replace(self.slot, Word { end: word.next, ..word }) {
                    break;
                }
            }
            ready::wake(&self.shared, index, At::LOWEST);
        }
        self.slot.busy_since.store(0);
    }
}
