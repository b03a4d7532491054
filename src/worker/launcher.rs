//! The launcher: the timer of everything that is due, and the supervisor of all other workers.
//! Static, restarted by the postmaster, connected to no database, so nothing is pinned by it.
//!
//! It sleeps until the next due time or until it is called. While anything runs that somebody must
//! look after (a list behind a long task, a role without a place, a cancel to repeat) it looks
//! every 50 ms; otherwise not at all.

use crate::pick;
use crate::postgres::clock::{self, Micros, NEVER};
use crate::postgres::lwlock::Lock;
use crate::postgres::worker::{self, Handle, Life};
use crate::postgres::{latch, session, shmem, transaction};
use crate::ready;
use crate::settings;
use crate::shared::{self, Db, Shared, Word, db_state};
use crate::tenant;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::atomic::Ordering::*;
use std::time::Duration;

const WATCH: Duration = Duration::from_millis(50);
/// Look at the databases at least so often.
const ROUND: Duration = Duration::from_secs(60);
const SECOND: Micros = 1_000_000;
/// A difference between wall clock and real time that is no matter of keeping it right.
const CLOCK_SET: Micros = 5 * SECOND;
/// A scheduler is kept while something is due within this time.
const KEEP_SCHEDULER: Micros = 60 * SECOND;

pub fn main() {
    worker::set_up_signals();
    worker::connect_to_none();
    session::report_appname("tenant_q launcher");
    let s = shared::shared();
    s.header.launcher.store(latch::my_procno() + 1, SeqCst);
    s.header.launcher_pid.store(shmem::my_pid(), SeqCst);
    worker::on_exit(|| {
        if let Some(s) = shared::get() {
            s.header.launcher.store(0, SeqCst);
            s.header.launcher_pid.store(0, SeqCst);
        }
    });
    let mut launcher = Launcher {
        s,
        due: BinaryHeap::new(),
        executors: HashMap::new(),
        schedulers: HashMap::new(),
        memory: worker::TurnMemory::new(),
        rescan_at: 0,
        starved_logged: 0,
        seen: (clock::now(), clock::monotonic_ns()),
        planned_by: what_plans_depend_on(),
    };
    s.publish_zone(&session::show(c"TimeZone"));
    launcher.rebuild();
    launcher.run();
}

struct Launcher {
    s: Shared,
    /// (due, entry): hints, checked against the entry when they come up.
    due: BinaryHeap<Reverse<(Micros, u32)>>,
    /// Slot → its start, until it has checked in or ended.
    executors: HashMap<usize, Handle>,
    schedulers: HashMap<u32, Handle>,
    memory: worker::TurnMemory,
    rescan_at: Micros,
    starved_logged: Micros,
    /// The wall clock and the monotonic one, at the last look.
    seen: (Micros, u64),
    /// As it was when all tenants were last told to look.
    planned_by: (Vec<String>, String),
}

/// Settings that decide whether and when schedules fire: the schemas left out, and the zone of those without.
fn what_plans_depend_on() -> (Vec<String>, String) {
    (settings::exclude_schemas(), tenant::default_zone())
}

impl Launcher {
    /// After a restart of the launcher: everything is in shared memory.
    fn rebuild(&mut self) {
        for (i, e) in self.s.entries.iter().enumerate() {
            if e.in_use.load(Relaxed) == 1 {
                self.s.mark_due(i as u32);
                self.s.mark_dirty(i as u32);
            }
        }
        self.s.header.attention.store(1, SeqCst);
    }

    fn run(&mut self) -> ! {
        loop {
            self.memory.enter();
            if worker::take_reload() {
                self.reload();
            }
            self.s.header.sleeping_until.store(NEVER, SeqCst);
            self.s.header.attention.store(0, SeqCst);
            let now = clock::now();
            self.watch_clock(now);
            let unknown = self.s.dbs.iter().any(|d| d.state.load(SeqCst) == db_state::UNKNOWN);
            if self.s.header.rescan.swap(0, SeqCst) == 1 || now >= self.rescan_at || unknown {
                self.find_databases();
                self.rescan_at = now + ROUND.as_micros() as i64;
            }
            self.fire_due(now);
            let mut busy = self.look_after_executors();
            if settings::enabled() {
                busy |= self.balance();
            }
            busy |= self.look_after_databases(now);
            busy |= self.repeat_cancels();
            let next = self.next_due().min(self.rescan_at).min(self.next_sweep());
            let mut sleep = Duration::from_micros((next - clock::now()).max(0) as u64);
            if self.next_due() != NEVER {
                sleep = sleep.min(clock::LOOK);
            }
            if busy {
                // Calls needn't wake us meanwhile: we look anyway.
                sleep = sleep.min(WATCH);
                self.s.header.attention.store(1, SeqCst);
            }
            let until = clock::now() + sleep.as_micros() as i64;
            self.s.header.sleeping_until.store(until, SeqCst);
            session::report_activity(None);
            latch::wait(Some(sleep));
        }
    }

    /// Whether the wall clock was set since the last look.
    fn watch_clock(&mut self, now: Micros) {
        let (wall, monotonic) = self.seen;
        let ticked = clock::monotonic_ns();
        self.seen = (now, ticked);
        let set = (now - wall) - (ticked.saturating_sub(monotonic) / 1000) as Micros;
        if set.abs() >= CLOCK_SET {
            self.clock_was_set(set, now);
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
        self.starved_logged = self.starved_logged.min(now);
        let shift = |t: &std::sync::atomic::AtomicI64| {
            let _ = t.fetch_update(SeqCst, SeqCst, |t| (t > 0 && t != NEVER).then(|| t.saturating_add(by).max(1)));
        };
        for e in self.s.entries.iter().filter(|e| e.in_use.load(Relaxed) == 1) {
            e.hold_until.iter().for_each(shift);
            shift(&e.unpark_at);
            if e.blocked_until.load(Relaxed) > now {
                ready::unblock(e);
            }
        }
        self.s.roles.iter().for_each(|r| shift(&r.start_after));
        for db in self.s.dbs {
            shift(&db.start_after);
            shift(&db.away_until);
            shift(&db.swept_at);
            if db.state.load(SeqCst) == db_state::SERVED {
                db.order_sweep();
                let scheduler = db.scheduler.load(SeqCst);
                if scheduler > 1 {
                    latch::wake(scheduler - 1);
                }
            }
        }
        self.rebuild();
    }

    /// The settings may have changed which databases are served.
    fn reload(&mut self) {
        for db in self.s.dbs {
            let _ = db.state.compare_exchange(db_state::WITHOUT, db_state::UNKNOWN, SeqCst, SeqCst);
        }
        self.s.publish_zone(&session::show(c"TimeZone"));
        let planned_by = what_plans_depend_on();
        if planned_by != self.planned_by {
            self.planned_by = planned_by;
            for db in self.s.dbs.iter().filter(|db| db.state.load(SeqCst) == db_state::SERVED) {
                db.order_sweep();
                let scheduler = db.scheduler.load(SeqCst);
                if scheduler > 1 {
                    latch::wake(scheduler - 1);
                }
            }
        }
    }

    /// Entries whose time has come are woken.
    fn fire_due(&mut self, now: Micros) {
        let (s, due) = (self.s, &mut self.due);
        s.take_due(|index| {
            let e = &s.entries[index];
            for t in [e.next_due.load(SeqCst), e.schedule_due.load(SeqCst)] {
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
            let e = &s.entries[index as usize];
            if e.in_use.load(Relaxed) != 1 {
                continue;
            }
            // Stale hints fall through: the entry says what is true.
            let next = e.next_due.load(SeqCst);
            if next <= now {
                // First: with neither anything due nor anything to look at it could be given away.
                e.generation.fetch_add(1, SeqCst);
                let _ = e.next_due.compare_exchange(next, NEVER, SeqCst, SeqCst);
                ready::wake(&s, index, NEVER);
            }
            if e.schedule_due.load(SeqCst) <= now
                && let Some(db) = s.db(e.database.load(Relaxed))
            {
                db.ticks_wanted.store(1, SeqCst);
                db.keep_until.fetch_max(now + KEEP_SCHEDULER, SeqCst);
                let scheduler = db.scheduler.load(SeqCst);
                if scheduler > 0 {
                    latch::wake(scheduler - 1);
                }
            }
        }
        // The heap is of hints only: when stale ones outnumber the entries, make it anew.
        if self.due.len() > 4 * s.entries.len() + 1000 {
            self.due.clear();
            for i in 0..s.entries.len() {
                if s.entries[i].in_use.load(Relaxed) == 1 {
                    s.mark_due(i as u32);
                }
            }
        }
    }

    fn next_due(&self) -> Micros {
        self.due.peek().map_or(NEVER, |Reverse((at, _))| *at)
    }

    /// Starts that failed, and lists that wait behind a long task. True: look again soon.
    fn look_after_executors(&mut self) -> bool {
        let s = self.s;
        let mut busy = false;
        self.executors.retain(|place, handle| {
            let slot = &s.slots[*place];
            match handle.life() {
                Life::Stopped => {
                    if slot.state.load(SeqCst) == 1 {
                        failed_start(&s, *place);
                    }
                    handle.forget();
                    false
                }
                _ => {
                    busy |= slot.state.load(SeqCst) == 1;
                    true
                }
            }
        });
        for (place, slot) in s.slots.iter().enumerate() {
            if slot.state.load(SeqCst) == 1 && !self.executors.contains_key(&place) {
                // Started by a launcher that is gone: it checks in soon, or never.
                let pid = slot.pid.load(SeqCst);
                if pid != 0 && !worker::is_alive(pid) || clock::now() - slot.since.load(Relaxed) > 10 * SECOND {
                    failed_start(&s, place);
                }
                busy = true;
            }
            let word = Word::load(slot);
            if slot.state.load(SeqCst) == 2 && word.next < word.end {
                busy = true;
                if pick::is_stuck(slot) {
                    // An idle executor of the role takes it over; balance() may start one.
                    let role = &s.roles[slot.role_index.load(Relaxed) as usize];
                    if role.idle.load(SeqCst) != 0 {
                        ready::poke(&s, slot.role_index.load(Relaxed) as usize);
                    }
                }
            }
        }
        busy
    }

    /// Gives places to roles that wait. True: somebody waits.
    fn balance(&mut self) -> bool {
        let s = self.s;
        ready::gather_now(&s);
        let now = clock::now();
        let max = settings::max_executors(shmem::max_worker_processes()) as usize;
        let mut waiting: Vec<(u64, usize)> = Vec::new();
        let mut wanting: Vec<(u64, usize)> = Vec::new();
        let mut least = u64::MAX;
        let mut blocked = false;
        for (i, r) in s.roles.iter().enumerate() {
            if r.in_use.load(Relaxed) == 0 {
                break;
            }
            if r.start_failures.load(Relaxed) > 0 {
                // No executor comes to find out that there is nothing to do any more.
                ready::prune(&s, i);
                if r.heap_count.load(SeqCst) == 0 {
                    r.start_failures.store(0, Relaxed);
                }
            }
            let executors = r.executors.load(SeqCst);
            let ready = r.heap_count.load(SeqCst) > 0;
            if executors > 0 {
                least = least.min(r.vtime.load(Relaxed));
            }
            if !ready {
                let stuck = executors > 0
                    && r.idle.load(SeqCst) == 0
                    && s.slots.iter().any(|slot| slot.role_index.load(Relaxed) as usize == i && pick::is_stuck(slot));
                if stuck && r.starting.load(SeqCst) == 0 {
                    wanting.push((r.vtime.load(Relaxed), i));
                }
                continue;
            }
            let Some(db) = s.db(r.database.load(Relaxed)) else { continue };
            if db.state.load(SeqCst) != db_state::SERVED || db.away_until.load(SeqCst) > now {
                continue;
            }
            if r.start_after.load(Relaxed) > now {
                blocked = true;
                continue;
            }
            if executors == 0 {
                waiting.push((r.vtime.load(Relaxed), i));
            } else if r.idle.load(SeqCst) == 0 && r.starting.load(SeqCst) == 0 {
                wanting.push((r.vtime.load(Relaxed), i));
            } else if r.idle.load(SeqCst) != 0 {
                ready::poke(&s, i);
            }
        }
        waiting.sort();
        wanting.sort();
        if least == u64::MAX {
            least = waiting.first().map_or(0, |w| w.0);
        }
        s.header.role_vtime.store(least, Relaxed);
        let mut used = s.slots.iter().filter(|slot| slot.state.load(SeqCst) != 0).count();
        let mut left = waiting.len();
        for (_, role) in &waiting {
            if used >= max || !self.start(*role) {
                break;
            }
            used += 1;
            left -= 1;
        }
        s.header.waiting_vtime.store(waiting.get(waiting.len() - left).map_or(u64::MAX, |w| w.0), SeqCst);
        s.header.waiting_roles.store(left as u32, SeqCst);
        if used >= max && (left > 0 || !wanting.is_empty()) {
            // One that idles for a role without work makes room at once.
            self.dismiss_idle();
        }
        if left == 0 {
            for (_, role) in wanting.iter() {
                if used >= max || !self.start(*role) {
                    break;
                }
                used += 1;
            }
        }
        !waiting.is_empty() || !wanting.is_empty() || blocked
    }

    fn dismiss_idle(&self) {
        let s = self.s;
        for (place, slot) in s.slots.iter().enumerate() {
            let role = &s.roles[slot.role_index.load(Relaxed) as usize];
            if slot.state.load(SeqCst) == 2 && role.idle.load(SeqCst) & (1 << place) != 0 && role.heap_count.load(SeqCst) == 0 {
                slot.leave.store(1, SeqCst);
                let proc = slot.proc.load(SeqCst);
                if proc > 0 {
                    latch::wake(proc - 1);
                }
                return;
            }
        }
    }

    /// Starts an executor of this role; false: there is no worker slot.
    fn start(&mut self, role_index: usize) -> bool {
        let s = self.s;
        let Some(place) = s.slots.iter().position(|slot| slot.state.load(SeqCst) == 0) else { return false };
        if let Some(handle) = self.executors.remove(&place) {
            handle.forget();
        }
        let r = &s.roles[role_index];
        let slot = &s.slots[place];
        let generation = slot.generation.fetch_add(1, SeqCst).wrapping_add(1);
        slot.database.store(r.database.load(Relaxed), Relaxed);
        slot.role.store(r.role.load(Relaxed), Relaxed);
        slot.role_index.store(role_index as u32, Relaxed);
        slot.tenant.store(0, Relaxed);
        slot.since.store(clock::now(), Relaxed);
        slot.state.store(1, SeqCst);
        r.executors.fetch_add(1, SeqCst);
        r.starting.fetch_add(1, SeqCst);
        let argument = ((generation as u64) << 16) | place as u64;
        match worker::start("tenant_q executor", "tenant_q executor", "tenant_q_executor_main", argument) {
            Some(handle) => {
                self.executors.insert(place, handle);
                s.header.last_no_slot.store(0, Relaxed);
                true
            }
            None => {
                r.executors.fetch_sub(1, SeqCst);
                r.starting.fetch_sub(1, SeqCst);
                shared::free_slot(slot);
                r.start_after.store(clock::now() + SECOND, Relaxed);
                self.starved();
                false
            }
        }
    }

    /// The server's background worker slots are all taken: said once a minute.
    fn starved(&mut self) {
        let now = clock::now();
        self.s.header.last_no_slot.store(now, Relaxed);
        if now - self.starved_logged > 60 * SECOND {
            self.starved_logged = now;
            pgrx::log!(
                "tenant_q: no background worker slot is free, tasks wait; raise max_worker_processes or lower tenant_q.max_executors"
            );
        }
    }

    /// Databases that could have the extension.
    fn find_databases(&mut self) {
        let found = transaction::run(|| Ok(worker::databases()));
        let Ok(found) = found else { return };
        let only = settings::databases();
        let exclude = settings::exclude_databases();
        for (oid, name) in &found {
            let wanted = (only.is_empty() || only.contains(name)) && !exclude.iter().any(|p| like(name, p));
            match (wanted, self.s.db(*oid)) {
                (true, None) => {
                    self.s.make_db(*oid, db_state::UNKNOWN);
                }
                (true, Some(db)) => db.excluded.store(0, SeqCst),
                (false, Some(db)) => {
                    db.excluded.store(1, SeqCst);
                    db.state.store(db_state::WITHOUT, SeqCst);
                }
                (false, None) => {}
            }
        }
        let _guard = Lock::Registry.exclusive();
        for db in self.s.dbs {
            let oid = db.database.load(Relaxed);
            if db.state.load(Relaxed) != db_state::FREE && !found.iter().any(|(o, _)| *o == oid) {
                db.state.store(db_state::FREE, SeqCst);
                // Its tenants' entries are nobody's any more: let them be evicted.
                for e in self.s.entries.iter().filter(|e| e.database.load(Relaxed) == oid) {
                    ready::put_to_rest(e);
                }
            }
        }
    }

    /// A scheduler for each database that needs one. True: look again soon.
    fn look_after_databases(&mut self, now: Micros) -> bool {
        let mut busy = false;
        for db in self.s.dbs {
            let state = db.state.load(SeqCst);
            let oid = db.database.load(Relaxed);
            if state == db_state::FREE {
                continue;
            }
            if let Some(handle) = self.schedulers.get(&oid) {
                match handle.life() {
                    Life::Stopped => {
                        self.schedulers.remove(&oid).expect("just seen").forget();
                        if db.scheduler.swap(0, SeqCst) != 0 {
                            // It left without signing off: killed. Not at once again.
                            self.go_on_without(db, now);
                            let failures = db.start_failures.fetch_add(1, Relaxed).min(6);
                            db.start_after.store(now + (SECOND << failures) / 4, Relaxed);
                        }
                    }
                    life => {
                        let scheduler = db.scheduler.load(SeqCst);
                        if state == db_state::UNKNOWN && scheduler > 1 {
                            // It may sleep until the next schedule is due.
                            latch::wake(scheduler - 1);
                            busy = true;
                        }
                        busy |= life == Life::NotYet || db.away_until.load(SeqCst) > now;
                        continue;
                    }
                }
            } else if let (scheduler @ 2.., pid @ 1..) = (db.scheduler.load(SeqCst), db.scheduler_pid.load(SeqCst))
                && latch::is_process(scheduler - 1, pid)
            {
                // A launcher before this one has started it; it calls us when it leaves, or we find out.
                if state == db_state::UNKNOWN {
                    latch::wake(scheduler - 1);
                }
                busy |= state == db_state::UNKNOWN
                    || db.ticks_wanted.load(SeqCst) == 1
                    || db.sweep_wanted.load(SeqCst) == 1
                    || db.fanouts.load(SeqCst) != 0;
                continue;
            }
            if db.scheduler.load(SeqCst) > 1 && db.scheduler.swap(0, SeqCst) > 1 {
                // The same of one that a launcher before this one had started.
                self.go_on_without(db, now);
            }
            let sweep = self.sweep_due(db, now);
            let wanted = match state {
                db_state::UNKNOWN => db.excluded.load(SeqCst) == 0,
                db_state::SERVED => settings::enabled() && (db.ticks_wanted.load(SeqCst) == 1 || db.fanouts.load(SeqCst) != 0 || sweep),
                _ => false,
            };
            if !wanted || db.away_until.load(SeqCst) > now {
                continue;
            }
            if db.start_after.load(Relaxed) > now {
                busy = true;
                continue;
            }
            match worker::start("tenant_q scheduler", "tenant_q scheduler", "tenant_q_scheduler_main", oid as u64) {
                Some(handle) => {
                    db.scheduler.store(1, SeqCst);
                    self.schedulers.insert(oid, handle);
                }
                None => {
                    db.start_after.store(now + SECOND, Relaxed);
                    self.starved();
                }
            }
            busy = true;
        }
        busy
    }

    /// What a scheduler that was killed had in hand is due again.
    fn go_on_without(&self, db: &Db, now: Micros) {
        let entry = db.ticking.swap(0, SeqCst);
        if entry > 0 {
            ready::schedule_due(&self.s, entry - 1, now);
        }
        if db.state.load(SeqCst) == db_state::SERVED {
            db.ticks_wanted.store(1, SeqCst);
            if db.sweep_wanted.load(SeqCst) == 0 {
                db.order_sweep();
            }
        }
    }

    fn sweep_due(&self, db: &Db, now: Micros) -> bool {
        if db.sweep_wanted.load(SeqCst) == 1 {
            return true;
        }
        match settings::sweep_interval() {
            Some(interval)
                if db.state.load(SeqCst) == db_state::SERVED && now - db.swept_at.load(Relaxed) > interval.as_micros() as i64 =>
            {
                db.sweep_wanted.store(1, SeqCst);
                true
            }
            _ => false,
        }
    }

    /// When the first database is to be swept again.
    fn next_sweep(&self) -> Micros {
        let Some(interval) = settings::sweep_interval().filter(|_| settings::enabled()) else { return NEVER };
        let swept = |db: &Db| {
            // One that is wanted already has its scheduler, or `busy` looks after it.
            let idle = db.state.load(SeqCst) == db_state::SERVED && db.sweep_wanted.load(SeqCst) == 0;
            idle.then(|| db.swept_at.load(Relaxed))
        };
        self.s.dbs.iter().filter_map(swept).min().map_or(NEVER, |at| at + interval.as_micros() as i64 + 1)
    }

    /// Cancel, cancel again, terminate. True: one is on its way.
    fn repeat_cancels(&mut self) -> bool {
        let mut busy = false;
        for slot in self.s.slots {
            if slot.state.load(SeqCst) != 2 || slot.cancel_reason.load(SeqCst) == 0 {
                continue;
            }
            let word = Word::load(slot);
            let same = word.running
                && slot.item_high[word.next - 1].load(Relaxed) == slot.cancel_high.load(Relaxed)
                && slot.item_low[word.next - 1].load(Relaxed) == slot.cancel_low.load(Relaxed);
            if !same {
                continue;
            }
            busy = true;
            let waited = clock::monotonic_ns().saturating_sub(slot.cancel_at.load(Relaxed));
            let signals = slot.cancel_signals.load(Relaxed);
            if waited > 1_000_000_000 * signals as u64 {
                slot.cancel_signals.store(signals + 1, Relaxed);
                worker::signal(slot.pid.load(SeqCst), if signals < 2 { libc::SIGINT } else { libc::SIGTERM });
            }
        }
        busy
    }
}

/// The postmaster could not start it, or it could not connect: dropped role, no LOGIN, no CONNECT.
fn failed_start(s: &Shared, place: usize) {
    let slot = &s.slots[place];
    let r = &s.roles[slot.role_index.load(Relaxed) as usize];
    r.executors.fetch_sub(1, SeqCst);
    r.starting.fetch_sub(1, SeqCst);
    shared::free_slot(slot);
    let now = clock::now();
    let failures = r.start_failures.fetch_add(1, Relaxed).min(6);
    if failures == 0 {
        r.failing_since.store(now, Relaxed);
    }
    r.start_after.store(now + (SECOND << failures), Relaxed);
}

/// LIKE with %, _ and backslash.
fn like(text: &str, pattern: &str) -> bool {
    fn go(t: &[char], p: &[char]) -> bool {
        match p {
            [] => t.is_empty(),
            ['%', rest @ ..] => (0..=t.len()).any(|n| go(&t[n..], rest)),
            ['\\', c, rest @ ..] => t.first() == Some(c) && go(&t[1..], rest),
            ['_', rest @ ..] => !t.is_empty() && go(&t[1..], rest),
            [c, rest @ ..] => t.first() == Some(c) && go(&t[1..], rest),
        }
    }
    go(&text.chars().collect::<Vec<_>>(), &pattern.chars().collect::<Vec<_>>())
}
