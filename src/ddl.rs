//! Commands about whole databases and the extension, noticed as they are given: workers leave a
//! database that is dropped, renamed, moved or copied, and look again where the extension came or
//! went. PostgreSQL itself only ever terminates autovacuum for these.

use crate::postgres::utility::{self, Command};
use crate::postgres::worker;
use crate::postgres::{call, clock};
use crate::shared::{self, Shared, db_state};
use crate::wake;
use pgrx::PgLogLevel;
use std::cell::Cell;
use std::sync::atomic::Ordering::*;
use std::time::{Duration, Instant};

/// PostgreSQL waits five seconds for other sessions to leave.
const LEAVE_WITHIN: Duration = Duration::from_secs(4);
/// Workers stay away this long if the command takes its time.
const AWAY: i64 = 10_000_000;

thread_local! {
    /// The database that workers were asked to leave; 0 = none.
    static LEFT: Cell<u32> = const { Cell::new(0) };
}

/// Hooks in; while preloading.
pub fn register() {
    utility::hook(before, after);
}

fn before(command: &Command) {
    let Some(s) = shared::get() else { return };
    if let Command::Database(name) = command
        && let Some(oid) = crate::postgres::catalog::database_oid(name)
        && let Some(db) = s.db(oid)
    {
        db.away_until.store(clock::now() + AWAY, SeqCst);
        LEFT.set(oid);
        ask_to_leave(&s, oid);
        let begin = Instant::now();
        while begin.elapsed() < LEAVE_WITHIN && present(&s, oid) {
            crate::postgres::latch::wait(Some(Duration::from_millis(10)));
        }
    }
}

fn after(command: &Command) {
    let Some(s) = shared::get() else { return };
    match command {
        Command::Database(_) => {
            // Where the database still is, by whatever name, its work goes on at once.
            if let Some(db) = s.db(LEFT.replace(0)) {
                db.away_until.store(0, SeqCst);
                if db.state.load(SeqCst) == db_state::SERVED {
                    db.look_again();
                }
            }
            wake::databases_changed();
        }
        Command::Extension => wake::probe_database(),
        // Should it fail, nobody's schema has changed hands.
        Command::Reassign => {
            if let Err(error) = crate::tenant::registered::reassigned() {
                call::report(error, PgLogLevel::ERROR);
            }
        }
    }
}

fn ask_to_leave(s: &Shared, database: u32) {
    dismiss(s, database);
    if let Some(db) = s.db(database) {
        worker::signal(db.scheduler_pid.load(SeqCst), libc::SIGTERM);
    }
}

/// Ends the executors of a database, busy ones too: their tasks run again some day, uncounted.
pub fn dismiss(s: &Shared, database: u32) {
    for slot in s.slots {
        if slot.state.load(SeqCst) != 0 && slot.database.load(Relaxed) == database {
            slot.leave.store(1, SeqCst);
            worker::signal(slot.pid.load(SeqCst), libc::SIGTERM);
        }
    }
}

fn present(s: &Shared, database: u32) -> bool {
    s.slots.iter().any(|slot| slot.state.load(SeqCst) == 2 && slot.database.load(Relaxed) == database)
        || s.db(database).is_some_and(|db| {
            let pid = db.scheduler_pid.load(SeqCst);
            pid != 0 && worker::is_alive(pid)
        })
}
