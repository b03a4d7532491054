//! The launcher: the timer of everything that is due, and the supervisor of all other workers.
//! Static, restarted by the postmaster, connected to no database, so nothing is pinned by it.
//!
//! It sleeps until the next due time or until it is called (shared/wakes.rs). While somebody waits (a role for a
//! place, a list behind a long task) and things change without a call, it looks every 50 ms, and
//! later and later while nothing does; otherwise not at all.

use crate::postgres::lwlock::Lock;
use crate::postgres::worker::{self, Handle, Life};
use crate::postgres::{clock, interrupt, latch, session, shmem, transaction};
use crate::pure::atomics::{Choice, GaugeI64};
use crate::pure::like;
use crate::pure::time::{Micros, NEVER};
use crate::pure::word::{Scheduler, SlotState, Stop, Word};
use crate::shared::database::{Db, db_state};
use crate::shared::slot::{self, Slot};
use crate::shared::wakes::{Reason, Turn, Waiter};
use crate::shared::{self, SLOTS, Shared, ready};
use crate::{settings, tenant};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

const WATCH: Duration = Duration::from_millis(50);
/// Look at the databases at least so often.
const ROUND: Duration = Duration::from_secs(60);
const SECOND: Micros = 1_000_000;
const CANCEL_AGAIN_NS: u64 = 1_000_000_000;
/// A difference between wall clock and real time that is no matter of keeping it right.
const CLOCK_SET: Micros = 5 * SECOND;
/// A scheduler is kept while something is due within this time.
const KEEP_SCHEDULER: Micros = 60 * SECOND;

pub fn main() {
    worker::set_up_signals();
    worker::connect_to_none();
    session::report_appname("tenant_q launcher");
    let s = shared::shared();
    s.header.launcher.store(latch::my_procno() + 1);
    s.header.launcher_pid.store(shmem::my_pid());
    worker::on_exit(|| {
        if let Some(s) = shared::get() {
            s.header.launcher.store(0);
            s.header.launcher_pid.store(0);
        }
    });
    let mut launcher = Launcher {
        s,
        waiter: Waiter::new(s.launcher_wakes()),
        due: BinaryHeap::new(),
        executors: HashMap::new(),
        schedulers: HashMap::new(),
        memory: worker::TurnMemory::new(),
        rescan_at: 0,
        starved: Starved::default(),
        stuck: [0; SLOTS],
        watched: 0,
        seen: (clock::now(), clock::monotonic_ns()),
        planned_by: what_plans_depend_on(),
    };
    s.publish_zone(&session::show(c"TimeZone"));
    let _ = s.header.first_xid.compare_exchange(0, transaction::next_xid());
    launcher.rebuild();
    launcher.run();
}

struct Launcher {
    s: Shared,
    waiter: Waiter,
    /// (due, entry): hints, checked against the entry when they come up.
    due: BinaryHeap<Reverse<(Micros, u32)>>,
    /// Slot → its start, until it has checked in or ended.
    executors: HashMap<usize, Handle>,
    schedulers: HashMap<u32, Handle>,
    memory: worker::TurnMemory,
    rescan_at: Micros,
    starved: Starved,
    /// `Slot::busy_since` of the lists that were found stuck.
    stuck: [u64; SLOTS],
    /// What those who wait wait for, as it was at the last look: a digest.
    watched: u64,
    /// The wall clock and the monotonic one, at the last look.
    seen: (Micros, u64),
    /// As it was when all tenants were last told to look.
    planned_by: (Vec<String>, String),
}

/// The server's background worker slots are all taken.
#[derive(Default)]
struct Starved {
    /// Starts that failed for it, one after the other; 0 = not now.
    failures: u32,
    /// Monotonic, in nanoseconds: of the first and the last of them, and of the last line in the log.
    since: u64,
    last: u64,
    logged: u64,
    /// No further try before.
    until: Micros,
    /// A scheduler waits for one: it goes first.
    scheduler: bool,
}

/// Slots of workers that have just ended are free when the postmaster gets to it: shorter is no shortage.
const SHORTAGE_NS: u64 = 2_000_000_000;
const MINUTE_NS: u64 = 60_000_000_000;

/// Settings that decide whether and when schedules fire: the schemas left out, and the zone of those without.
fn what_plans_depend_on() -> (Vec<String>, String) {
    (settings::exclude_schemas(), tenant::default_zone())
}

impl Launcher {
    /// After a restart of the launcher: everything is in shared memory.
    fn rebuild(&mut self) {
        for (i, e) in self.s.entries.iter().enumerate() {
            if e.in_use.load() == 1 {
                self.s.mark_due(i as u32);
                self.s.mark_dirty(i as u32);
            }
        }
        self.s.header.attention.store(1);
    }

    fn run(&mut self) -> ! {
        loop {
            self.memory.enter();
            interrupt::heed();
            let mut turn = Turn::begin();
            if worker::take_reload() {
                self.reload();
                self.waiter.start_over();
                turn.did(Reason::Call);
            }
            self.s.header.sleeping_until.store(NEVER);
            self.s.header.attention.store(0);
            let now = clock::now();
            self.watch_clock(now, &mut turn);
            let unknown = self.s.dbs.iter().any(|d| d.state.load() == db_state::UNKNOWN);
            if self.s.header.rescan.swap(0) == 1 || now >= self.rescan_at || unknown {
                self.find_databases();
                self.rescan_at = now + ROUND.as_micros() as i64;
            }
            turn.at(Reason::Databases, self.rescan_at);
            // Switched off, nothing is served that comes due: what is noted meanwhile keeps.
            let enabled = settings::enabled();
            if enabled {
                self.fire_due(now, &mut turn);
            }
            let mut watch = self.look_after_executors(&mut turn);
            if enabled {
                watch |= self.balance(&mut turn);
            }
            watch |= self.look_after_databases(now, &mut turn);
            self.repeat_cancels(&mut turn);
            if enabled {
                turn.at(Reason::Due, self.next_due());
                turn.at(Reason::Sweep, self.next_sweep());
                if self.next_due() != NEVER {
                    turn.after(Reason::Clock, clock::LOOK);
                }
            }
            if watch {
                self.watch(&mut turn);
            }
            let sleep = self.waiter.plan(&turn);
            let length = sleep.length().unwrap_or(ROUND);
            if watch && length <= WATCH {
                // Calls needn't wake us meanwhile: we look anyway.
                self.s.header.attention.store(1);
            }
            let until = match (enabled, self.next_due()) {
                (false, _) => Micros::MIN,
                // Nothing is known that comes due, so nobody looks at the clock: who notes something wakes us, however late it is
                // due, or it would be missed for as long as we sleep when the clock is set forward meanwhile.
                (true, NEVER) => NEVER,
                (true, _) => clock::now() + length.as_micros() as i64,
            };
            self.s.header.sleeping_until.store(until);
            session::report_activity(None);
            self.waiter.sleep(sleep);
        }
    }

    /// Somebody waits: another look, soon if anything has changed since the last one.
    fn watch(&mut self, turn: &mut Turn) {
        let mut digest = 0xcbf2_9ce4_8422_2325_u64;
        let mut add = |n: u64| digest = (digest ^ n).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        for slot in self.s.slots {
            add(slot.word.load());
            add(u64::from(slot.generation.load()) << 32 | u64::from(slot.state.load().pack()));
        }
        for role in self.s.roles.iter().take_while(|r| r.in_use.load() == 1) {
            add(u64::from(role.heap_count.load()) << 32 | u64::from(role.executors.load()));
            add(role.idle.load());
        }
        if std::mem::replace(&mut self.watched, digest) != digest {
            turn.did(Reason::Watch);
        }
        turn.after(Reason::Watch, WATCH);
    }

    /// Whether the wall clock was set since the last look.
    fn watch_clock(&mut self, now: Micros, turn: &mut Turn) {
        let (wall, monotonic) = self.seen;
        let ticked = clock::monotonic_ns();
        self.seen = (now, ticked);
        let set = (now - wall) - (ticked.saturating_sub(monotonic) / 1000) as Micros;
        if set.abs() >= CLOCK_SET {
            self.clock_was_set(set, now);
            self.waiter.start_over();
            turn.did(Reason::Clock);
        }
    }

    /// By so many microseconds. Forward: what was passed over is late. Back: our own delays shrink with
    /// it, else they would last until the clock is where it was; sweeps look at the schedules.
    fn clock_was_set(&mut self, by: Micros, now: Micros) {
        pgrx::log!("tenant_q: the clock was set {} by {} s", if by < 0 { "back" } else { "forward" }, by.abs() / SECOND);
        if by > 0 {
            return;
        }
        self.rescan_at = now;
        self.starved.until = 0;
        let shifted = |t: Micros| (t > 0 && t != NEVER).then(|| t.saturating_add(by).max(1));
        let shift = |t: &GaugeI64| {
            let _ = t.fetch_update(shifted);
        };
        for e in self.s.entries.iter().filter(|e| e.in_use.load() == 1) {
            e.hold_until.iter().for_each(shift);
            let _ = e.unpark_at.fetch_update(shifted);
            if e.blocked_until.load() > now {
                ready::unblock(e);
            }
        }
        self.s.roles.iter().for_each(|r| shift(&r.start_after));
        for db in self.s.dbs {
            shift(&db.start_after);
            let _ = db.swept_at.fetch_update(shifted);
            if db.state.load() == db_state::SERVED {
                db.order_sweep();
            }
        }
        self.rebuild();
    }

    /// The settings may have changed which databases are served.
    fn reload(&mut self) {
        for db in self.s.dbs {
            let _ = db.state.compare_exchange(db_state::WITHOUT, db_state::UNKNOWN);
        }
        self.s.publish_zone(&session::show(c"TimeZone"));
        let planned_by = what_plans_depend_on();
        if planned_by != self.planned_by {
            self.planned_by = planned_by;
            for db in self.s.dbs.iter().filter(|db| db.state.load() == db_state::SERVED) {
                db.order_sweep();
            }
        }
    }

    /// Entries whose time has come are woken.
    fn fire_due(&mut self, now: Micros, turn: &mut Turn) {
        let (s, due) = (self.s, &mut self.due);
        s.take_due(|index| {
            let e = &s.entries[index];
            for t in [e.next_due.load(), e.schedule_due.load()] {
                if t != NEVER {
                    due.push(Reverse((t, index as u32)));
                }
            }
        });
        while let Some(Reverse((at, index))) = self.due.peek().copied() {
            if at > now {
                break;
            }
            self.due.pop();
            // A hint that is over is off the list: that, too, is something.
            turn.did(Reason::Due);
            let e = &s.entries[index as usize];
            if e.in_use.load() != 1 {
                continue;
            }
            // Stale hints fall through: the entry says what is true.
            let next = e.next_due.load();
            if next <= now {
                // First: with neither anything due nor anything to look at it could be given away.
                e.generation.fetch_add(1);
                let _ = e.next_due.compare_exchange(next, NEVER);
                ready::wake(&s, index, NEVER);
            }
            if e.schedule_due.load() <= now
                && let Some(db) = s.db(e.database.load())
            {
                db.ticks_wanted.store(1);
                db.keep_until.fetch_max(now + KEEP_SCHEDULER);
                db.call_scheduler();
            }
        }
        // The heap is of hints only: when stale ones outnumber the entries, make it anew.
        if self.due.len() > 4 * s.entries.len() + 1000 {
            self.due.clear();
            for i in 0..s.entries.len() {
                if s.entries[i].in_use.load() == 1 {
                    s.mark_due(i as u32);
                }
            }
        }
    }

    fn next_due(&self) -> Micros {
        self.due.peek().map_or(NEVER, |Reverse((at, _))| *at)
    }

    /// Starts that failed, and lists that wait behind a long task. True: somebody waits.
    fn look_after_executors(&mut self, turn: &mut Turn) -> bool {
        let s = self.s;
        let (stuck, starved) = (&mut self.stuck, &mut self.starved);
        let mut busy = false;
        self.executors.retain(|place, handle| {
            let slot = &s.slots[*place];
            match handle.life() {
                Life::Stopped => {
                    if slot.state.load() == SlotState::Starting {
                        failed_start(&s, *place);
                    }
                    turn.did(Reason::Call);
                    // Its worker slot is free.
                    starved.until = 0;
                    handle.forget();
                    false
                }
                _ => {
                    busy |= slot.state.load() == SlotState::Starting;
                    true
                }
            }
        });
        for (place, slot) in s.slots.iter().enumerate() {
            if slot.state.load() == SlotState::Starting && !self.executors.contains_key(&place) {
                // Started by a launcher that is gone: it checks in soon, or never.
                let pid = slot.pid.load();
                let late = slot.since.load() + 10 * SECOND;
                if pid != 0 && !worker::is_alive(pid) || clock::now() > late {
                    failed_start(&s, place);
                    turn.did(Reason::Retry);
                } else {
                    turn.at(Reason::Retry, late + 1);
                }
                busy = true;
            }
            let word = Word::load(slot);
            let since = slot.busy_since.load();
            if slot.state.load() != SlotState::Working || word.next >= word.end {
                continue;
            }
            busy = true;
            if slot::is_stuck(slot) {
                if std::mem::replace(&mut stuck[place], since) != since {
                    turn.did(Reason::Stuck);
                }
                // An idle executor of the role takes it over; balance() may start one.
                let role = slot.role_index.load() as usize;
                if s.roles[role].idle.load() != 0 {
                    ready::poke(&s, role);
                    turn.did(Reason::Stuck);
                }
            } else if since != 0 {
                turn.at_ns(Reason::Stuck, since + slot::TAKE_OVER_AFTER.as_nanos() as u64);
            }
        }
        busy
    }

    /// Gives places to roles that wait. True: somebody waits.
    fn balance(&mut self, turn: &mut Turn) -> bool {
        let s = self.s;
        ready::gather_now(&s);
        let now = clock::now();
        let mut max = settings::max_executors(shmem::max_worker_processes()) as usize;
        let mut waiting: Vec<(u64, usize)> = Vec::new();
        let mut wanting: Vec<(u64, usize)> = Vec::new();
        let mut least = u64::MAX;
        for (i, r) in s.roles.iter().enumerate() {
            if r.in_use.load() == 0 {
                break;
            }
            if r.start_failures.load() > 0 {
                // No executor comes to find out that there is nothing to do any more.
                ready::prune(&s, i);
                if r.heap_count.load() == 0 {
                    r.start_failures.store(0);
                }
            }
            let executors = r.executors.load();
            let ready = r.heap_count.load() > 0;
            if !ready || executors > 0 {
                r.waiting_since.store(0);
            }
            if executors > 0 {
                least = least.min(r.vtime.load());
            }
            if !ready {
                let stuck = executors > 0
                    && r.idle.load() == 0
                    && s.slots.iter().any(|slot| slot.role_index.load() as usize == i && slot::is_stuck(slot));
                if stuck && r.starting.load() == 0 {
                    wanting.push((r.vtime.load(), i));
                }
                continue;
            }
            let Some(db) = s.db(r.database.load()) else { continue };
            if db.state.load() != db_state::SERVED || db.is_away() {
                continue;
            }
            let start_after = r.start_after.load();
            if start_after > now {
                turn.at(Reason::Retry, start_after);
                continue;
            }
            if executors == 0 {
                waiting.push((r.vtime.load(), i));
            } else if r.idle.load() == 0 && r.starting.load() == 0 {
                wanting.push((r.vtime.load(), i));
            } else if r.idle.load() != 0 {
                ready::poke(&s, i);
                turn.did(Reason::Watch);
            }
        }
        waiting.sort();
        wanting.sort();
        if least == u64::MAX {
            least = waiting.first().map_or(0, |w| w.0);
        }
        s.header.role_vtime.store(least);
        let mut used = s.slots.iter().filter(|slot| slot.state.load() != SlotState::Free).count();
        let scheduler = self.starved.scheduler;
        if self.starved.until > now || scheduler {
            // There are no more places than there are slots: who has one goes when it is another's turn.
            max = max.min(used);
            if self.starved.until > now {
                turn.at(Reason::Retry, self.starved.until);
            }
        }
        let mut left = waiting.len();
        for (_, role) in &waiting {
            if used >= max {
                break;
            }
            if !self.start(*role, turn) {
                max = used;
                break;
            }
            used += 1;
            left -= 1;
        }
        for (_, role) in &waiting[waiting.len() - left..] {
            let _ = s.roles[*role].waiting_since.compare_exchange(0, now);
        }
        let first = if scheduler { Some(0) } else { waiting.get(waiting.len() - left).map(|w| w.0) };
        s.header.waiting_vtime.store(first.unwrap_or(u64::MAX));
        s.header.waiting_roles.store(left as u32 + u32::from(scheduler));
        // The last ones are for roles that have none.
        let shared = max.saturating_sub(settings::reserved_places());
        let idle = s.slots.iter().enumerate().filter(|(place, slot)| self.idles_for_nothing(*place, slot)).count();
        let room = if left > 0 || scheduler { max } else { shared };
        if (left > 0 || scheduler || !wanting.is_empty()) && used >= room && used - idle < room && self.dismiss_idle() {
            // One that idles for a role without work makes room at once.
            turn.did(Reason::Watch);
        }
        if left == 0 && !scheduler {
            for (_, role) in wanting.iter() {
                if used >= shared || !self.start(*role, turn) {
                    break;
                }
                used += 1;
            }
        }
        !waiting.is_empty() || !wanting.is_empty()
    }

    fn idles_for_nothing(&self, place: usize, slot: &Slot) -> bool {
        let role = &self.s.roles[slot.role_index.load() as usize];
        slot.state.load() == SlotState::Working && role.idle.load() & (1 << place) != 0 && role.heap_count.load() == 0
    }

    /// False: nobody idles for nothing.
    fn dismiss_idle(&self) -> bool {
        let Some((_, slot)) = self.s.slots.iter().enumerate().find(|(place, slot)| self.idles_for_nothing(*place, slot)) else {
            return false;
        };
        slot.leave.store(1);
        let proc = slot.proc.load();
        if proc > 0 {
            latch::wake(proc - 1);
        }
        true
    }

    /// Starts an executor of this role; false: there is no worker slot.
    fn start(&mut self, role_index: usize, turn: &mut Turn) -> bool {
        let s = self.s;
        let Some(place) = s.slots.iter().position(|slot| slot.state.load() == SlotState::Free) else { return false };
        if let Some(handle) = self.executors.remove(&place) {
            handle.forget();
        }
        let r = &s.roles[role_index];
        let slot = &s.slots[place];
        let generation = slot.generation.fetch_add(1).wrapping_add(1);
        slot.database.store(r.database.load());
        slot.role.store(r.role.load());
        slot.role_index.store(role_index as u32);
        slot.tenant.store(0);
        slot.since.store(clock::now());
        slot.state.store(SlotState::Starting);
        r.executors.fetch_add(1);
        r.starting.fetch_add(1);
        let argument = ((generation as u64) << 16) | place as u64;
        turn.did(Reason::Retry);
        match worker::start("tenant_q executor", "tenant_q executor", "tenant_q_executor_main", argument) {
            Some(handle) => {
                self.executors.insert(place, handle);
                self.fed();
                true
            }
            None => {
                r.executors.fetch_sub(1);
                r.starting.fetch_sub(1);
                slot::free_slot(slot);
                self.starved(turn);
                false
            }
        }
    }

    /// A start that found no background worker slot. Said when it lasts, and once a minute.
    fn starved(&mut self, turn: &mut Turn) {
        let (now, ticked) = (clock::now(), clock::monotonic_ns());
        let starved = &mut self.starved;
        if starved.failures == 0 || ticked - starved.last > SHORTAGE_NS {
            (starved.failures, starved.since) = (0, ticked);
        }
        starved.failures += 1;
        starved.last = ticked;
        // Where there can't be enough there is no need to see whether it lasts.
        let too_few = settings::slots_needed(shmem::max_worker_processes()) > shmem::max_worker_processes();
        if too_few || ticked - starved.since >= SHORTAGE_NS {
            self.s.header.last_no_slot.store(now);
            if starved.logged == 0 || ticked - starved.logged >= MINUTE_NS {
                starved.logged = ticked;
                pgrx::log!(
                    "tenant_q: no background worker slot is free, tasks wait; raise max_worker_processes or lower tenant_q.max_executors"
                );
            }
        }
        starved.until = now + (10_000 << starved.failures.min(10)).min(SECOND);
        turn.at(Reason::Retry, starved.until);
    }

    fn fed(&mut self) {
        self.starved.failures = 0;
        self.starved.until = 0;
        self.s.header.last_no_slot.store(0);
    }

    /// Databases that could have the extension.
    fn find_databases(&mut self) {
        let found = transaction::run(|| Ok(worker::databases()));
        let Ok(found) = found else { return };
        let only = settings::databases();
        let exclude = settings::exclude_databases();
        for (oid, name) in &found {
            let wanted = (only.is_empty() || only.contains(name)) && !exclude.iter().any(|p| like::matches(name, p));
            match (wanted, self.s.db(*oid)) {
                (true, None) => {
                    self.s.make_db(*oid, db_state::UNKNOWN);
                }
                (true, Some(db)) => db.excluded.store(0),
                (false, Some(db)) => {
                    db.excluded.store(1);
                    db.state.store(db_state::WITHOUT);
                }
                (false, None) => {}
            }
        }
        let _guard = Lock::Registry.exclusive();
        for db in self.s.dbs {
            let oid = db.database.load();
            if db.state.load() != db_state::FREE && !found.iter().any(|(o, _)| *o == oid) {
                db.state.store(db_state::FREE);
                // Its tenants' entries are nobody's any more: let them be evicted.
                for e in self.s.entries.iter().filter(|e| e.database.load() == oid) {
                    ready::put_to_rest(e);
                }
            }
        }
    }

    /// A scheduler for each database that needs one. True: somebody waits.
    fn look_after_databases(&mut self, now: Micros, turn: &mut Turn) -> bool {
        let mut busy = false;
        self.starved.scheduler = false;
        for db in self.s.dbs {
            let state = db.state.load();
            let oid = db.database.load();
            if state == db_state::FREE {
                continue;
            }
            // Whoever serves it now is told: a scheduler that lives is no reason not to.
            let sweep = self.sweep_due(db, now, turn);
            if let Some(handle) = self.schedulers.get(&oid) {
                match handle.life() {
                    Life::Stopped => {
                        self.schedulers.remove(&oid).expect("just seen").forget();
                        turn.did(Reason::Call);
                        if db.scheduler.swap(Scheduler::None) != Scheduler::None {
                            // It left without signing off: killed. Not at once again.
                            self.go_on_without(db, now);
                            let failures = db.start_failures.fetch_add(1).min(6);
                            db.start_after.store(now + (SECOND << failures) / 4);
                        }
                    }
                    life => {
                        if state == db_state::UNKNOWN
                            && let Scheduler::Lives(number) = db.scheduler.load()
                        {
                            // It may sleep until the next schedule is due.
                            latch::wake(number);
                            busy = true;
                        }
                        busy |= life == Life::NotYet;
                        continue;
                    }
                }
            } else if let (Scheduler::Lives(number), pid @ 1..) = (db.scheduler.load(), db.scheduler_pid.load())
                && latch::is_process(number, pid)
            {
                // A launcher before this one has started it; it calls us when it leaves, or we find out.
                if state == db_state::UNKNOWN {
                    latch::wake(number);
                }
                busy |= state == db_state::UNKNOWN || db.ticks_wanted.load() == 1 || db.sweep_wanted.load() == 1 || db.fanouts.load() != 0;
                continue;
            }
            if matches!(db.scheduler.load(), Scheduler::Lives(_)) && matches!(db.scheduler.swap(Scheduler::None), Scheduler::Lives(_)) {
                // The same of one that a launcher before this one had started.
                self.go_on_without(db, now);
            }
            let wanted = match state {
                db_state::UNKNOWN => db.excluded.load() == 0,
                db_state::SERVED => settings::enabled() && (db.ticks_wanted.load() == 1 || db.fanouts.load() != 0 || sweep),
                _ => false,
            };
            if !wanted || db.is_away() {
                continue;
            }
            let start_after = db.start_after.load();
            if start_after > now {
                turn.at(Reason::Retry, start_after);
                continue;
            }
            if self.starved.until > now {
                turn.at(Reason::Retry, self.starved.until);
                self.starved.scheduler = true;
                continue;
            }
            turn.did(Reason::Retry);
            match worker::start("tenant_q scheduler", "tenant_q scheduler", "tenant_q_scheduler_main", oid as u64) {
                Some(handle) => {
                    db.scheduler.store(Scheduler::Starting);
                    self.schedulers.insert(oid, handle);
                    self.fed();
                }
                None => {
                    self.starved(turn);
                    self.starved.scheduler = true;
                }
            }
            busy = true;
        }
        busy
    }

    /// What a scheduler that was killed had in hand is due again.
    fn go_on_without(&self, db: &Db, now: Micros) {
        let entry = db.ticking.swap(0);
        if entry > 0 {
            ready::schedule_due(&self.s, entry - 1, now);
        }
        if db.state.load() == db_state::SERVED {
            db.ticks_wanted.store(1);
            if db.sweep_wanted.load() == 0 {
                db.order_sweep();
            }
        }
    }

    /// Whether a sweep is wanted there; one whose time has come is ordered, and told to the scheduler that lives.
    fn sweep_due(&self, db: &Db, now: Micros, turn: &mut Turn) -> bool {
        if db.sweep_wanted.load() == 1 {
            return true;
        }
        if self.sweep_at(db) > now {
            return false;
        }
        db.sweep_wanted.store(1);
        turn.did(Reason::Sweep);
        db.call_scheduler();
        true
    }

    /// When this database is to be swept again, if that is to be and isn't wanted already.
    fn sweep_at(&self, db: &Db) -> Micros {
        if !settings::enabled() || db.state.load() != db_state::SERVED || db.sweep_wanted.load() == 1 {
            return NEVER;
        }
        let (began, swept) = (db.sweep_started.load(), db.swept_at.load());
        // Where there is no room for all, sweeps take turns with everything else.
        let unplaced = match db.unplaced_due.load() {
            NEVER => NEVER,
            at => at.max(swept + SECOND.max(4 * (swept - began))),
        };
        settings::sweep_interval().map_or(NEVER, |interval| swept + interval.as_micros() as i64).min(unplaced)
    }

    /// When the first database is. One that is wanted already has its scheduler, or is waited for.
    fn next_sweep(&self) -> Micros {
        self.s.dbs.iter().map(|db| self.sweep_at(db)).min().unwrap_or(NEVER)
    }

    /// Cancel, cancel again, terminate.
    fn repeat_cancels(&mut self, turn: &mut Turn) {
        for slot in self.s.slots {
            if slot.state.load() != SlotState::Working || slot.cancel_reason.load() == Stop::No {
                continue;
            }
            let word = Word::load(slot);
            let same = word.running
                && slot.item_high[word.next - 1].load() == slot.cancel_high.load()
                && slot.item_low[word.next - 1].load() == slot.cancel_low.load();
            if !same {
                continue;
            }
            let (at, signals) = (slot.cancel_at.load(), slot.cancel_signals.load());
            let mut next = at + CANCEL_AGAIN_NS * u64::from(signals);
            if clock::monotonic_ns() >= next {
                slot.cancel_signals.store(signals + 1);
                worker::signal(slot.pid.load(), if signals < 2 { libc::SIGINT } else { libc::SIGTERM });
                turn.did(Reason::Cancel);
                next += CANCEL_AGAIN_NS;
            }
            turn.at_ns(Reason::Cancel, next);
        }
    }
}

/// The postmaster could not start it, or it could not connect: dropped role, no LOGIN, no CONNECT.
fn failed_start(s: &Shared, place: usize) {
    let slot = &s.slots[place];
    let r = &s.roles[slot.role_index.load() as usize];
    r.executors.fetch_sub(1);
    r.starting.fetch_sub(1);
    slot::free_slot(slot);
    let now = clock::now();
    let failures = r.start_failures.fetch_add(1).min(6);
    if failures == 0 {
        r.failing_since.store(now);
    }
    r.start_after.store(now + (SECOND << failures));
}
