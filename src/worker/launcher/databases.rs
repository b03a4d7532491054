//! The databases of the server: which may have the extension, and a scheduler for each that has something for it to do.
//!
//! Schedulers come and go, and the launcher may be a later one than has started them: the handle of its own children
//! tells of their end, of the others a pid in shared memory does.

use super::{Launcher, sweeps};
use crate::postgres::lwlock::Lock;
use crate::postgres::worker::{self, Life};
use crate::postgres::{latch, transaction};
use crate::pure::time::{At, Span};
use crate::pure::word::Scheduler;
use crate::settings;
use crate::shared::database::{Db, db_state};
use crate::shared::ready;
use crate::shared::wakes::{Reason, Turn};

impl Launcher {
    /// Databases that could have the extension.
    pub(super) fn find_databases(&mut self) {
        let found = transaction::run(|| Ok(worker::databases()));
        let Ok(found) = found else { return };
        for (oid, name) in &found {
            let wanted = settings::left_out(name).is_none();
            match (wanted, self.shared.db(*oid)) {
                (true, None) => {
                    self.shared.make_db(*oid, db_state::UNKNOWN);
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
        for db in self.shared.dbs {
            let oid = db.database.load();
            if db.state.load() != db_state::FREE && !found.iter().any(|(o, _)| *o == oid) {
                db.state.store(db_state::FREE);
                // Its tenants' entries are nobody's any more: let them be evicted.
                for e in self.shared.entries.iter().filter(|e| e.database.load() == oid) {
                    ready::put_to_rest(e);
                }
            }
        }
    }

    /// A scheduler for each database that needs one. True: somebody waits.
    pub(super) fn look_after_databases(&mut self, now: At, turn: &mut Turn) -> bool {
        let mut busy = false;
        self.shortage.scheduler = false;
        for db in self.shared.dbs {
            let state = db.state.load();
            if state == db_state::FREE {
                continue;
            }
            // Whoever serves it now is told: a scheduler that lives is no reason not to.
            let sweep = sweeps::is_wanted(db, now, turn);
            busy |= match self.its_scheduler(db, state, now, turn) {
                Present::Yes { waits } => waits,
                Present::No => self.start_where_needed(db, state, sweep, now, turn),
            };
        }
        busy
    }

    /// Whether the database, which is in this state, has a scheduler.
    fn its_scheduler(&mut self, db: &Db, state: u32, now: At, turn: &mut Turn) -> Present {
        let oid = db.database.load();
        if let Some(handle) = self.schedulers.get(&oid) {
            match handle.life() {
                Life::Stopped => {
                    self.schedulers.remove(&oid).expect("just seen").forget();
                    turn.did(Reason::Call);
                    if db.scheduler.swap(Scheduler::None) != Scheduler::None {
                        // It left without signing off: killed. Not at once again.
                        self.go_on_without(db, now);
                        let failures = db.start_failures.fetch_add(1).min(6);
                        db.start_after.store(now + (Span::SECOND << failures) / 4);
                    }
                }
                life => {
                    let mut waits = life == Life::NotYet;
                    if state == db_state::UNKNOWN
                        && let Scheduler::Lives(number) = db.scheduler.load()
                    {
                        // It may sleep until the next schedule is due.
                        latch::wake(number);
                        waits = true;
                    }
                    return Present::Yes { waits };
                }
            }
        } else if let (Scheduler::Lives(number), pid @ 1..) = (db.scheduler.load(), db.scheduler_pid.load())
            && latch::is_process(number, pid)
        {
            // A launcher before this one has started it; it calls us when it leaves, or we find out.
            if state == db_state::UNKNOWN {
                latch::wake(number);
            }
            let has_work = db.ticks_wanted.load() == 1 || db.sweep_wanted.load() == 1 || db.fanouts.load() != 0;
            return Present::Yes { waits: state == db_state::UNKNOWN || has_work };
        }
        if matches!(db.scheduler.load(), Scheduler::Lives(_)) && matches!(db.scheduler.swap(Scheduler::None), Scheduler::Lives(_)) {
            // The same of one that a launcher before this one had started.
            self.go_on_without(db, now);
        }
        Present::No
    }

    /// Starts a scheduler if the database, which has none, is to have one now. True: somebody waits for it.
    fn start_where_needed(&mut self, db: &Db, state: u32, sweep: bool, now: At, turn: &mut Turn) -> bool {
        let wanted = match state {
            db_state::UNKNOWN => db.excluded.load() == 0,
            db_state::SERVED => settings::enabled() && (db.ticks_wanted.load() == 1 || db.fanouts.load() != 0 || sweep),
            _ => false,
        };
        if !wanted || db.is_away() {
            return false;
        }
        let start_after = db.start_after.load();
        if start_after > now {
            turn.at(Reason::Retry, start_after);
            return false;
        }
        if let Some(until) = self.shortage.lasts_until(now) {
            turn.at(Reason::Retry, until);
            self.shortage.scheduler = true;
            return false;
        }
        turn.did(Reason::Retry);
        let oid = db.database.load();
        // Before it is asked for: it may have signed on, and off again, before this process goes on.
        db.scheduler.store(Scheduler::Starting);
        match worker::start("tenant_q scheduler", "tenant_q scheduler", "tenant_q_scheduler_main", oid as u64) {
            Some(handle) => {
                self.schedulers.insert(oid, handle);
                self.shortage.ended(&self.shared);
            }
            None => {
                db.scheduler.store(Scheduler::None);
                self.shortage.note(&self.shared, turn);
                self.shortage.scheduler = true;
            }
        }
        true
    }

    /// What a scheduler that was killed had in hand is due again.
    fn go_on_without(&self, db: &Db, now: At) {
        let entry = db.ticking.swap(0);
        if entry > 0 {
            ready::schedule_due(&self.shared, entry - 1, now);
        }
        if db.state.load() == db_state::SERVED {
            db.ticks_wanted.store(1);
            if db.sweep_wanted.load() == 0 {
                db.order_sweep();
            }
        }
    }
}

/// Whether a database has a scheduler.
enum Present {
    /// It lives, or is being started. `waits`: something is left for it to do, or to be heard of it.
    Yes {
        waits: bool,
    },
    No,
}
