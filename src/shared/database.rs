//! A database that is or may be served.

use crate::postgres::latch;
use crate::postgres::lwlock::Lock;
use crate::pure::atomics::Reset;
use crate::pure::atomics::{GaugeAt, GaugeU32, HandshakeAt, HandshakeU32, HandshakeU64, One};
use crate::pure::time::At;
use crate::pure::word::Scheduler;
use crate::shared::Shared;
use crate::shared_struct;

/// Sessions that may drop, rename or copy one database at a time.
pub const AWAY: usize = 4;

shared_struct! {
    /// A database that is or may be served.
    pub struct Db {
        pub database: HandshakeU32,
        /// See `db_state`.
        pub state: HandshakeU32,
        /// A `Scheduler`, packed; and its pid.
        pub scheduler: One<Scheduler>,
        pub scheduler_pid: HandshakeU32,
        pub sweep_wanted: HandshakeU32,
        /// Counts the orders for a sweep; and how many there had been when the present one began.
        pub sweep_orders: HandshakeU32,
        pub sweep_seen: HandshakeU32,
        /// The present sweep has left tenants out whose tables somebody held.
        pub sweep_missed: HandshakeU32,
        /// Where the sweep goes on: the OID of the last tenant looked at.
        pub sweep_from: HandshakeU32,
        pub sweep_started: GaugeAt,
        pub swept_at: HandshakeAt,
        pub swept_tenants: GaugeU32,
        pub ticks_wanted: HandshakeU32,
        /// The entry + 1 whose schedules are being served: not noted as due meanwhile.
        pub ticking: HandshakeU32,
        /// Something is to be spread over the tenants; counts the calls, so that none is taken for an older one.
        pub fanouts: HandshakeU32,
        /// When work of tenants comes due for which there was no entry: then a sweep finds it. NEVER = there is none.
        pub unplaced_due: HandshakeAt,
        /// The first tenant for which the last sweep found no room: the next one begins there.
        pub unplaced_first: HandshakeU32,
        pub keep_until: HandshakeAt,
        /// Workers leave and stay away: process number + 1 and pid of sessions that drop or copy the database.
        pub away: [HandshakeU64; AWAY],
        pub problem: GaugeU32,
        pub start_after: GaugeAt,
        pub start_failures: GaugeU32,
        /// The settings leave it out.
        pub excluded: HandshakeU32,
        /// Counts the calls to look into it again: an answer to an older one is none.
        pub asked: HandshakeU32,
    }
}

impl Db {
    /// All its tenants are to be looked at, from the first one on.
    pub fn order_sweep(&self) {
        // One that is under way goes on, and begins once more.
        self.sweep_orders.fetch_add(1);
        self.sweep_wanted.store(1);
        self.call_scheduler();
    }
    /// Its scheduler, if there is one, looks what there is to do. It may just be leaving: the launcher sees to that.
    pub fn call_scheduler(&self) {
        if let Scheduler::Lives(number) = self.scheduler.load() {
            latch::wake(number);
        }
    }
    /// Whether somebody drops or copies it, or the like, for which no worker may be there.
    pub fn is_away(&self) -> bool {
        let is_alive = |by: &HandshakeU64| {
            let by = by.load();
            by != 0 && crate::postgres::latch::is_process((by >> 32) as u32 - 1, by as u32)
        };
        self.away.iter().any(is_alive)
    }
    /// The extension came, went or changed there, or might have.
    pub fn look_again(&self) {
        self.asked.fetch_add(1);
        self.state.store(db_state::UNKNOWN);
    }
}

/// What `Db::state` says.
pub mod db_state {
    pub const FREE: u32 = 0;
    /// To be looked into: does it have the extension?
    pub const UNKNOWN: u32 = 1;
    pub const SERVED: u32 = 2;
    pub const WITHOUT: u32 = 3;
    /// The extension's version is not the library's.
    pub const SKEWED: u32 = 4;
    /// A copy that nobody has confirmed.
    pub const COPY: u32 = 5;
}

impl Shared {
    pub fn db(&self, database: u32) -> Option<&'static Db> {
        self.dbs.iter().find(|d| d.database.load() == database && d.state.load() != db_state::FREE)
    }
    /// The database's place, made if there is none; `state` only if it is new.
    pub fn make_db(&self, database: u32, state: u32) -> Option<&'static Db> {
        let _guard = Lock::Registry.exclusive();
        if let Some(db) = self.db(database) {
            return Some(db);
        }
        let db = self.dbs.iter().find(|d| d.state.load() == db_state::FREE)?;
        db.reset();
        db.unplaced_due.store(At::NEVER);
        db.database.store(database);
        db.state.store(state);
        Some(db)
    }
}
