//! The launcher: the timer of everything that is due, and the supervisor of all other workers.
//! Static, restarted by the postmaster, connected to no database, so nothing is pinned by it.
//!
//! It sleeps until the next due time or until it is called (shared/wakes.rs). While somebody waits (a role for a
//! place, a list behind a long task) and things change without a call, it looks every 50 ms, and
//! later and later while nothing does; otherwise not at all.
//!
//! Here is the loop; what it does in each turn is in a file each.

mod claims;
mod clock_set;
mod databases;
mod executors;
mod places;
mod shortage;
mod sweeps;
mod timer;

use super::what_plans_depend_on;
use crate::postgres::error::Error;
use crate::postgres::worker::{self, Handle};
use crate::postgres::{clock, interrupt, latch, session, shmem, transaction};
use crate::pure::atomics::Choice;
use crate::pure::server_version::ServerVersion;
use crate::pure::time::{At, Span};
use crate::settings;
use crate::shared::database::db_state;
use crate::shared::wakes::{Reason, Sleeper, Turn};
use crate::shared::{self, SLOTS, Shared};
use clock_set::Clocks;
use shortage::Shortage;
use std::collections::HashMap;
use std::time::Duration;
use timer::Timer;

const WATCH: Duration = Duration::from_millis(50);
/// Look at the databases at least so often.
const ROUND: Duration = Duration::from_secs(60);

pub fn main() {
    worker::set_up_signals();
    worker::connect_to_none();
    session::report_appname("tenant_q launcher");
    let shared = shared::shared();
    shared.header.launcher.store(latch::my_procno() + 1);
    shared.header.launcher_pid.store(shmem::my_pid());
    worker::on_exit(|| {
        if let Some(shared) = shared::get() {
            shared.header.launcher.store(0);
            shared.header.launcher_pid.store(0);
        }
    });
    let mut launcher = Launcher {
        shared,
        sleeper: Sleeper::new(shared.launcher_wakes()),
        timer: Timer::default(),
        executors: HashMap::new(),
        schedulers: HashMap::new(),
        memory: worker::TurnMemory::new(),
        rescan_at: At::UNSET,
        shortage: Shortage::default(),
        stuck: [0; SLOTS],
        watched: 0,
        clocks: Clocks::now(),
        planned_by: what_plans_depend_on(),
    };
    shared.publish_zone(&session::show(c"TimeZone"));
    let _ = shared.header.first_xid.compare_exchange(0, transaction::next_xid());
    launcher.rebuild();
    complain_about_server();
    launcher.run();
}

/// In the server's log, once a start.
fn complain_about_server() {
    if let Some(server) = ServerVersion::of(&session::show(c"server_version_num"))
        && let Some((detail, hint)) = server.complaint()
    {
        Error::state(format!("tenant_q: PostgreSQL {}", server.text())).detail(detail).hint(hint).warn();
    }
}

struct Launcher {
    shared: Shared,
    sleeper: Sleeper,
    timer: Timer,
    /// Slot → its start, until it has checked in or ended.
    executors: HashMap<usize, Handle>,
    /// Database → its scheduler.
    schedulers: HashMap<u32, Handle>,
    memory: worker::TurnMemory,
    rescan_at: At,
    shortage: Shortage,
    /// `Slot::busy_since` of the lists that were found stuck.
    stuck: [u64; SLOTS],
    /// What those who wait wait for, as it was at the last look: a digest.
    watched: u64,
    clocks: Clocks,
    /// As it was when all tenants were last told to look.
    planned_by: (Vec<String>, String),
}

impl Launcher {
    /// After a restart of the launcher: everything is in shared memory.
    fn rebuild(&mut self) {
        for (i, entry) in self.shared.entries.iter().enumerate() {
            if entry.in_use.load() == 1 {
                self.shared.mark_due(i as u32);
                self.shared.mark_dirty(i as u32);
            }
        }
        self.shared.header.attention.store(1);
    }

    fn run(&mut self) -> ! {
        loop {
            self.memory.enter();
            interrupt::heed();
            let mut turn = Turn::begin();
            if worker::take_reload() {
                self.reload();
                self.sleeper.start_over();
                turn.did(Reason::Call);
            }
            self.shared.header.sleeping_until.store(At::NEVER);
            self.shared.header.attention.store(0);
            let now = clock::now();
            self.watch_clock(now, &mut turn);
            let unknown = self.shared.dbs.iter().any(|d| d.state.load() == db_state::UNKNOWN);
            if self.shared.header.rescan.swap(0) == 1 || now >= self.rescan_at || unknown {
                self.find_databases();
                self.rescan_at = now + Span::from(ROUND);
            }
            turn.at(Reason::Databases, self.rescan_at);
            // Switched off, nothing is served that comes due: what is noted meanwhile keeps.
            let enabled = settings::enabled();
            if enabled {
                self.timer.fire_due(&self.shared, now, &mut turn);
            }
            let mut watch = self.look_after_executors(&mut turn) | self.look_for_lost(&mut turn);
            if enabled {
                watch |= self.balance(&mut turn);
            }
            watch |= self.look_after_databases(now, &mut turn);
            self.repeat_cancels(&mut turn);
            self.look_after_claims(&mut turn);
            if enabled {
                turn.at(Reason::Due, self.timer.next());
                turn.at(Reason::Sweep, self.next_sweep());
                if self.timer.next() != At::NEVER {
                    turn.after(Reason::Clock, clock::LOOK);
                }
            }
            if watch {
                self.watch(&mut turn);
            }
            self.sleep(&turn, enabled, watch);
        }
    }

    fn sleep(&mut self, turn: &Turn, enabled: bool, watch: bool) {
        let sleep = self.sleeper.plan(turn);
        let length = sleep.length().unwrap_or(ROUND);
        if watch && length <= WATCH {
            // Calls needn't wake us meanwhile: we look anyway.
            self.shared.header.attention.store(1);
        }
        let until = match (enabled, self.timer.next()) {
            (false, _) => At::LOWEST,
            // Nothing is known that comes due, so nobody looks at the clock: who notes something wakes us, however late it is
            // due, or it would be missed for as long as we sleep when the clock is set forward meanwhile.
            (true, At::NEVER) => At::NEVER,
            (true, _) => clock::now() + Span::from(length),
        };
        self.shared.header.sleeping_until.store(until);
        session::report_activity(None);
        self.sleeper.sleep(sleep);
    }

    /// Somebody waits: another look, soon if anything has changed since the last one.
    fn watch(&mut self, turn: &mut Turn) {
        let mut digest = 0xcbf2_9ce4_8422_2325_u64;
        let mut add = |n: u64| digest = (digest ^ n).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        for slot in self.shared.slots {
            add(slot.word.load());
            add(u64::from(slot.generation.load()) << 32 | u64::from(slot.state.load().pack()));
        }
        for role in self.shared.roles.iter().take_while(|r| r.in_use.load() == 1) {
            add(u64::from(role.heap_count.load()) << 32 | u64::from(role.executors.load()));
            add(role.idle.load());
        }
        if std::mem::replace(&mut self.watched, digest) != digest {
            turn.did(Reason::Watch);
        }
        turn.after(Reason::Watch, WATCH);
    }

    /// The settings may have changed which databases are served: one that was may be left out, too.
    fn reload(&mut self) {
        self.shared.header.rescan.store(1);
        for db in self.shared.dbs {
            let _ = db.state.compare_exchange(db_state::WITHOUT, db_state::UNKNOWN);
        }
        self.shared.publish_zone(&session::show(c"TimeZone"));
        let planned_by = what_plans_depend_on();
        if planned_by != self.planned_by {
            self.planned_by = planned_by;
            for db in self.shared.dbs.iter().filter(|db| db.state.load() == db_state::SERVED) {
                db.order_sweep();
            }
        }
    }
}
