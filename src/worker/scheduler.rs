//! The scheduler of a database: started when something is due there within a minute, gone when
//! nothing is. It finds out whether the extension is there, serves schedules (work/tick.rs), spreads work over all tenants
//! (work/spread.rs), and sweeps them for work that no commit announced (sweep.rs).
//!
//! A superuser's session, so it touches tenants' tables by OID only, after the shape check, and
//! waits for no lock of theirs.

use super::sweep::{self, Locked, Swept};
use super::what_plans_depend_on;
use crate::postgres::{catalog, caught, clock, interrupt, latch, memory, session, shmem, transaction, worker};
use crate::pure::time::{At, Span};
use crate::pure::word::Scheduler;
use crate::settings;
use crate::shared::database::{Db, db_state};
use crate::shared::wakes::{Reason, Sleeper, Turn};
use crate::shared::{self, Shared, away};
use crate::tenant::identity;
use crate::work::{spread, tick};
use std::time::{Duration, Instant};

/// A scheduler that has lived so long doesn't die of its start.
const STEADY: Duration = Duration::from_secs(5);
/// The role that initdb makes: PostgreSQL's BOOTSTRAP_SUPERUSERID.
const BOOTSTRAP: u32 = 10;
/// It stays while something is due within this time.
const KEEP: Span = Span::MINUTE;
/// The next one comes after this, doubled each time it is in vain, but not more often than so many times.
const TROUBLE_AGAIN: Span = Span::of_millis(250);
const TROUBLES: u32 = 8;

pub fn main(argument: u64) {
    let database = argument as u32;
    let shared = shared::shared();
    worker::set_up_signals();
    worker::connect(database, 0);
    session::report_appname("tenant_q scheduler");
    for (name, value) in [
        (c"synchronous_commit", "local"),
        (c"statement_timeout", "0"),
        (c"lock_timeout", "0"),
        (c"jit", "off"),
        (c"default_transaction_read_only", "off"),
        (c"default_transaction_isolation", "read committed"),
        (c"search_path", "pg_catalog, pg_temp"),
        (c"transaction_timeout", "0"),
        (c"idle_session_timeout", "0"),
        (c"exit_on_error", "off"),
    ] {
        session::set_session(name, value);
    }
    if !session::be_role(BOOTSTRAP) {
        pgrx::log!("tenant_q: the scheduler's session is not its own: see the database's settings (pg_db_role_setting)");
        worker::exit(1);
    }
    let Some(db) = shared.db(database) else { return };
    // In this order: a launcher that finds the one looks for the other.
    db.scheduler_pid.store(shmem::my_pid());
    db.scheduler.store(Scheduler::Lives(latch::my_procno()));
    // However it ends: nobody may signal a number that is somebody else's by then.
    worker::on_exit(|| {
        if let Some(db) = shared::get().and_then(|shared| shared.db(shmem::my_database())) {
            db.scheduler_pid.store(0);
        }
        // A launcher after the one that has started this process hears of its end by no signal.
        if let Some(shared) = shared::get() {
            shared.call_launcher_now();
        }
    });
    match Serving::new(shared, db, database).work() {
        Left::Done => db.start_failures.store(0),
        Left::InTrouble => {
            // The next one would most likely do no better: later and later.
            let failures = db.start_failures.fetch_add(1).min(TROUBLES);
            db.start_after.store(clock::now() + (TROUBLE_AGAIN << failures));
        }
    }
    // Signed off: the launcher need not think that it was killed.
    db.scheduler_pid.store(0);
    db.scheduler.store(Scheduler::None);
    shared.call_launcher_now();
}

/// How a scheduler leaves of its own accord.
enum Left {
    Done,
    /// The database could not be looked into, or its tenants not be read.
    InTrouble,
}

/// What a scheduler has at hand while it serves its database.
struct Serving {
    shared: Shared,
    db: &'static Db,
    database: u32,
    spreader: spread::Spreader,
    locked: Locked,
    began: Instant,
    weighed: Instant,
    /// What plans depended on when all tenants were last told to look.
    planned_by: (Vec<String>, String),
}

impl Serving {
    fn new(shared: Shared, db: &'static Db, database: u32) -> Serving {
        let began = clock::steady();
        Serving {
            shared,
            db,
            database,
            spreader: spread::Spreader::default(),
            locked: Locked::default(),
            began,
            weighed: began,
            planned_by: what_plans_depend_on(),
        }
    }

    fn work(&mut self) -> Left {
        let turn_memory = worker::TurnMemory::new();
        let mut sleeper = Sleeper::new(self.shared.scheduler_wakes(self.db));
        loop {
            turn_memory.enter();
            interrupt::heed();
            let mut turn = Turn::begin();
            if worker::take_reload() {
                sleeper.start_over();
                self.reload(&mut turn);
            }
            let left = self.stay(&mut turn).and_then(|()| {
                self.serve_schedules(&mut turn);
                self.sweep(&mut turn)?;
                self.spread(&mut turn)?;
                if self.locked.look_again(&self.shared, self.database) {
                    turn.did(Reason::Locked);
                }
                self.plan(&mut turn)
            });
            if let Err(left) = left {
                return left;
            }
            let sleep = sleeper.plan(&turn);
            if !sleep.is_none() {
                session::report_activity(None);
                session::report_statistics(false);
            }
            sleeper.sleep(sleep);
        }
    }

    fn reload(&mut self, turn: &mut Turn) {
        turn.did(Reason::Call);
        let planned_by = what_plans_depend_on();
        if planned_by != self.planned_by {
            // The launcher orders a sweep as well, but may have heard of it before this process.
            self.planned_by = planned_by;
            self.db.order_sweep();
        }
    }

    /// Whether this process is to go on at all.
    fn stay(&mut self, turn: &mut Turn) -> Result<(), Left> {
        let db = self.db;
        if self.began.elapsed() > STEADY {
            db.start_failures.store(0);
        }
        if self.weighed.elapsed() > STEADY {
            self.weighed = clock::steady();
            if memory::exceeds(settings::executor_memory()) {
                // A fresh process goes on, as after a sweep of many tenants.
                return Err(Left::Done);
            }
        }
        if db.is_away() || !settings::enabled() && db.state.load() != db_state::UNKNOWN {
            return Err(Left::Done);
        }
        if db.state.load() == db_state::UNKNOWN {
            turn.did(Reason::Call);
            match probe(&self.shared, db) {
                Probed::Served => {}
                Probed::Not => return Err(Left::Done),
                Probed::Unknown => return Err(Left::InTrouble),
            }
        }
        if !settings::enabled() || db.state.load() != db_state::SERVED {
            return Err(Left::Done);
        }
        Ok(())
    }

    /// One tick: however many schedules are due, the others get their turns.
    fn serve_schedules(&mut self, turn: &mut Turn) {
        if self.db.ticks_wanted.swap(0) == 1 {
            session::report_activity(Some("tenant_q: serving schedules"));
            if tick::tick(&self.shared, self.database) {
                turn.did(Reason::Due);
            }
            session::report_statistics(false);
        }
    }

    fn sweep(&mut self, turn: &mut Turn) -> Result<(), Left> {
        if self.db.sweep_wanted.load() != 1 {
            return Ok(());
        }
        session::report_activity(Some("tenant_q: sweeping"));
        turn.did(Reason::Sweep);
        let swept = sweep::sweep(&self.shared, self.db, self.database, &mut self.spreader, &mut self.locked);
        session::report_statistics(true);
        match swept {
            Swept::All => Ok(()),
            // A fresh process goes on: memory of a thousand tenants is given back.
            Swept::Some => Err(Left::Done),
            Swept::Failed => Err(Left::InTrouble),
        }
    }

    /// A turn of what is to be spread over the tenants.
    fn spread(&mut self, turn: &mut Turn) -> Result<(), Left> {
        let (db, spreader) = (self.db, &mut self.spreader);
        if spreader.due(db) > clock::now() {
            return Ok(());
        }
        session::report_activity(Some("tenant_q: spreading work over the tenants"));
        let reached = spreader.reached();
        if spreader.turn(db) {
            if spreader.is_worn() {
                return Err(Left::Done);
            }
            if spreader.reached() > reached || spreader.due(db) > clock::now() {
                turn.did(Reason::Spread);
            }
        }
        Ok(())
    }

    /// When there is to be another turn; or there is nothing to stay for.
    fn plan(&self, turn: &mut Turn) -> Result<(), Left> {
        let (db, spreader) = (self.db, &self.spreader);
        let its = self.shared.entries.iter().filter(|e| e.in_use.load() == 1 && e.database.load() == self.database);
        let next = its.map(|e| e.schedule_due.load()).min().unwrap_or(At::NEVER);
        let now = clock::now();
        if next <= now {
            db.ticks_wanted.store(1);
        }
        if db.sweep_wanted.load() == 1 {
            turn.at_once(Reason::Sweep);
        } else if next.min(spreader.due(db)).min(self.locked.again) > now + KEEP {
            return Err(Left::Done);
        }
        turn.at(Reason::Due, next);
        turn.at(Reason::Spread, spreader.due(db));
        turn.at(Reason::Locked, self.locked.again);
        // Latches count real time: a clock that was set is noticed by looking at it.
        turn.after(Reason::Clock, clock::LOOK);
        Ok(())
    }
}

/// What a look at the database found.
enum Probed {
    Served,
    Not,
    Unknown,
}

/// Looks whether this database is to be served.
fn probe(shared: &Shared, db: &Db) -> Probed {
    let asked = db.asked.load();
    let state = transaction::run(|| {
        Ok(match catalog::extension_version() {
            None => db_state::WITHOUT,
            Some(version) if version != env!("CARGO_PKG_VERSION") => db_state::SKEWED,
            Some(_) if !identity::confirmed()? => db_state::COPY,
            Some(_) => db_state::SERVED,
        })
    });
    match state {
        Ok(state) => {
            if state == db_state::SERVED {
                db.order_sweep();
            }
            let _ = db.state.compare_exchange(db_state::UNKNOWN, state);
            if db.asked.load() != asked {
                // CREATE EXTENSION, say, committed after our snapshot.
                db.state.store(db_state::UNKNOWN);
                return Probed::Not;
            }
            if state == db_state::WITHOUT {
                // What still runs could not be completed any more.
                away::dismiss(shared, shmem::my_database());
            }
            if state == db_state::SKEWED {
                pgrx::log!(
                    "tenant_q: the extension's version is not the library's: run ALTER EXTENSION tenant_q UPDATE, or restart the server"
                );
            }
            if state == db_state::SERVED { Probed::Served } else { Probed::Not }
        }
        Err(failure) => {
            caught::log_failure("the database could not be looked into", &failure);
            Probed::Unknown
        }
    }
}
