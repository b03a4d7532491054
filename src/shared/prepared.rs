//! Two-phase commit: what a prepared transaction has noted is told when it is committed, by whichever session.
//!
//! PREPARE TRANSACTION puts the notes aside in shared memory, one place for each prepared transaction that the
//! server can have, under a digest of its identifier; COMMIT PREPARED carries them out, ROLLBACK PREPARED throws
//! them away. What doesn't fit, of a transaction that touched many tenants, is found by a sweep. Shared memory
//! ends with the server's life, prepared transactions don't: one that is older, or has come from a primary, may
//! have noted anything, so its COMMIT PREPARED orders a sweep and a look at the database.

use crate::postgres::{sandbox, shmem};
use crate::pure::atomics::{GaugeAt, GaugeI64, GaugeId, GaugeU32, GaugeU64, HandshakeU32};
use crate::pure::ids::Id;
use crate::pure::time::At;
use crate::shared::database::db_state;
use crate::shared::entry::EntryRef;
use crate::shared::wake::{self, Notes, Pending, Stop, Stopped};
use crate::shared::{self, Shared};
use crate::shared_struct;
use pgrx::Spi;
use std::cell::RefCell;

/// Bits of `Prepared::flags`.
mod flag {
    pub const PROBE: u32 = 1;
    pub const DATABASES: u32 = 2;
    pub const SWEEP: u32 = 4;
    pub const FAN_OUT: u32 = 8;
    /// Somebody may wait for one of its tasks, or of its groups.
    pub const WAITERS: u32 = 16;
    pub const UNPLACED: u32 = 32;
}

/// Not a task but a tenant is limited: the number stands where the task's time would.
const NO_TASK: Id = Id::NIL;

const FREE: u32 = 0;
const WRITING: u32 = 1;
const KEPT: u32 = 2;

thread_local! {
    /// The identifier that this transaction is to be prepared under.
    static GID: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Identifiers are told apart by this; up to 200 bytes of anybody's.
fn digest(gid: &str) -> (u64, u64) {
    uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, gid.as_bytes()).as_u64_pair()
}

/// PREPARE TRANSACTION was given.
pub fn preparing(gid: &str) {
    GID.with_borrow_mut(|g| *g = Some(gid.to_string()));
}
/// The transaction is over.
pub fn forget_gid() {
    GID.with_borrow_mut(|g| *g = None);
}

/// The transaction is prepared, and nobody else can finish it yet. Atomics only.
pub fn put_aside(shared: &Shared, notes: &Notes) {
    let Some((high, low)) = GID.with_borrow(|g| g.as_deref().map(digest)) else {
        // Prepared by no statement: an apply worker. What it has noted is lost.
        shared.header.prepared_lost.store(1);
        return;
    };
    let free = |p: &&Prepared| p.state.compare_exchange(FREE, WRITING).is_ok();
    let Some(place) = shared.prepared.iter().find(free) else {
        shared.header.prepared_lost.store(1);
        return;
    };
    let mut flags = 0;
    let mut set = |bit: u32, when: bool| flags |= if when { bit } else { 0 };
    set(flag::PROBE, notes.probe);
    set(flag::DATABASES, notes.databases);
    set(flag::SWEEP, notes.sweep || notes.wakes.len() > NOTED || notes.detached.len() > NOTED);
    set(flag::FAN_OUT, notes.fan_out);
    set(flag::UNPLACED, notes.unplaced);
    set(flag::WAITERS, !notes.finished.is_empty() || !notes.groups.is_empty());
    place.database.store(shmem::my_database());
    place.gid_high.store(high);
    place.gid_low.store(low);
    place.flags.store(flags);
    let bits = |of: fn(&Pending) -> bool| notes.wakes.iter().take(NOTED).enumerate().map(|(i, p)| u32::from(of(p)) << i).sum::<u32>();
    for (i, p) in notes.wakes.iter().take(NOTED).enumerate() {
        place.entry[i].store(p.entry.index);
        place.stamp[i].store(p.entry.stamp);
        place.low[i].store(p.low);
        place.added[i].store(p.added);
        place.schedule[i].store(p.schedule);
        place.expires[i].store(p.expires);
    }
    place.unpark.store(bits(|p| p.unpark));
    place.found.store(bits(|p| p.found));
    place.schedules.store(bits(|p| p.schedules));
    place.wakes.store(notes.wakes.len().min(NOTED) as u32);
    for (i, stop) in notes.stops.iter().take(NOTED).enumerate() {
        place.stop_tenant[i].store(stop.tenant);
        let (id, number) = match stop.what {
            Stopped::Task { id, created_at } => (id, created_at.micros()),
            Stopped::Beyond(max) => (NO_TASK, max as i64),
        };
        place.stop_id[i].store(id);
        place.stop_number[i].store(number);
    }
    place.stops.store(notes.stops.len().min(NOTED) as u32);
    for (i, d) in place.detached.iter().enumerate() {
        d.store(notes.detached.get(i).copied().unwrap_or(0));
    }
    place.state.store(KEPT);
}

/// A prepared transaction that this session finishes.
pub struct Finishing {
    commit: bool,
    /// The place of its notes, and they.
    kept: Option<(usize, Notes)>,
    /// Nobody knows what it has noted.
    unknown: bool,
    /// It is finished.
    pub done: bool,
}

/// Before COMMIT PREPARED or ROLLBACK PREPARED.
pub fn finishing(gid: &str, commit: bool) {
    let Some(s) = shared::get() else { return };
    let (high, low) = digest(gid);
    let is_it = |p: &Prepared| {
        p.state.load() == KEPT && p.gid_high.load() == high && p.gid_low.load() == low && p.database.load() == shmem::my_database()
    };
    let mut kept = s.prepared.iter().position(is_it).map(|i| (i, read(&s.prepared[i])));
    let unknown = commit && kept.is_none() && (s.header.prepared_lost.load() == 1 || is_old(&s, gid));
    if let Some((_, notes)) = kept.as_mut().filter(|_| commit) {
        wake::enter_all(&s, notes);
    }
    if kept.is_some() || unknown {
        wake::finishing(Finishing { commit, kept, unknown, done: false });
    }
}

/// Whether it was prepared in a life of the server before this one, or on another primary. Asked until there is none
/// such any more.
fn is_old(s: &Shared, gid: &str) -> bool {
    if s.header.no_old_prepared.load() == 1 {
        return false;
    }
    let first = s.header.first_xid.load();
    let Ok(all) = all() else { return true };
    // Transaction ids are a circle.
    let old = |xid: u32| first == 0 || (xid.wrapping_sub(first) as i32) < 0;
    if first != 0 && !all.iter().any(|(_, xid)| old(*xid)) {
        s.header.no_old_prepared.store(1);
    }
    all.iter().any(|(other, xid)| other == gid && old(*xid))
}

/// How many prepared transactions this database has, and of how many nobody can know what they have noted.
pub fn unknown(s: &Shared) -> Result<(usize, usize), pgrx::spi::Error> {
    let here: Vec<(String, u32)> = sandbox::as_extension(|| {
        Spi::connect(|c| {
            let of_this_database =
                "SELECT p.gid, p.transaction::pg_catalog.text FROM pg_catalog.pg_prepared_xact() p WHERE p.dbid OPERATOR(pg_catalog.=) $1";
            let rows = c.select(of_this_database, None, &[pgrx::pg_sys::Oid::from(shmem::my_database()).into()])?;
            let one = |row: pgrx::spi::SpiHeapTupleData| Some((row.get(1).ok()??, row.get::<String>(2).ok()??.parse().ok()?));
            Ok::<_, pgrx::spi::Error>(rows.filter_map(one).collect())
        })
    })?;
    let (first, lost) = (s.header.first_xid.load(), s.header.prepared_lost.load() == 1);
    let is_known = |gid: &str| {
        let (high, low) = digest(gid);
        s.prepared.iter().any(|p| p.state.load() == KEPT && (p.gid_high.load(), p.gid_low.load()) == (high, low))
    };
    let is_unknown = |gid: &str, xid: u32| !is_known(gid) && (lost || first == 0 || (xid.wrapping_sub(first) as i32) < 0);
    Ok((here.len(), here.iter().filter(|(gid, xid)| is_unknown(gid, *xid)).count()))
}

/// All prepared transactions of the server: identifier and transaction id.
fn all() -> Result<Vec<(String, u32)>, pgrx::spi::Error> {
    sandbox::as_extension(|| {
        Spi::connect(|c| {
            let rows = c.select("SELECT gid, transaction::pg_catalog.text FROM pg_catalog.pg_prepared_xact()", None, &[])?;
            let one = |row: pgrx::spi::SpiHeapTupleData| Some((row.get(1).ok()??, row.get::<String>(2).ok()??.parse().ok()?));
            Ok(rows.filter_map(one).collect())
        })
    })
}

fn read(place: &Prepared) -> Notes {
    let flags = place.flags.load();
    let is = |bit: u32| flags & bit != 0;
    let pending = |i: usize| Pending {
        low: place.low[i].load(),
        added: place.added[i].load(),
        schedule: place.schedule[i].load(),
        expires: place.expires[i].load(),
        unpark: place.unpark.load() & 1 << i != 0,
        found: place.found.load() & 1 << i != 0,
        schedules: place.schedules.load() & 1 << i != 0,
        ..Pending::new(EntryRef { index: place.entry[i].load(), stamp: place.stamp[i].load() })
    };
    let stop = |i: usize| {
        let id = place.stop_id[i].load();
        let number = place.stop_number[i].load();
        let what = if id == NO_TASK { Stopped::Beyond(number as usize) } else { Stopped::Task { id, created_at: At::of_micros(number) } };
        Stop { tenant: place.stop_tenant[i].load(), what }
    };
    Notes {
        wakes: (0..place.wakes.load() as usize).map(pending).collect(),
        stops: (0..place.stops.load() as usize).map(stop).collect(),
        probe: is(flag::PROBE),
        databases: is(flag::DATABASES),
        sweep: is(flag::SWEEP),
        fan_out: is(flag::FAN_OUT),
        unplaced: is(flag::UNPLACED),
        detached: place.detached.iter().map(|d| d.load()).filter(|d| *d != 0).collect(),
        all_waiters: is(flag::WAITERS),
        ..Notes::default()
    }
}

impl Finishing {
    /// The transaction around it has ended, whichever way. Atomics and latches only.
    pub fn over(&self, s: &Shared) {
        let told = self.done && self.commit;
        if let Some((i, notes)) = &self.kept {
            if told {
                wake::carry_out(s, notes);
            }
            wake::leave_all(s, notes);
            if self.done {
                s.prepared[*i].state.store(FREE);
            }
        }
        if told
            && self.unknown
            && let Some(db) = s.db(shmem::my_database())
        {
            match db.state.load() {
                db_state::SERVED => db.order_sweep(),
                _ => db.look_again(),
            }
            s.call_launcher_now();
        }
    }
}

/// Tenants, and cancelled tasks, whose notes of one prepared transaction are kept; a sweep finds the others.
pub const NOTED: usize = 8;

shared_struct! {
    /// What a prepared transaction has noted, for whoever finishes it: see prepared.rs.
    pub struct Prepared {
        /// 0 = free.
        pub state: HandshakeU32,
        pub database: HandshakeU32,
        /// A digest of its identifier.
        pub gid_high: GaugeU64,
        pub gid_low: GaugeU64,
        pub flags: GaugeU32,
        pub wakes: GaugeU32,
        pub entry: [GaugeU32; NOTED],
        pub stamp: [HandshakeU32; NOTED],
        pub low: [GaugeAt; NOTED],
        pub added: [GaugeI64; NOTED],
        pub schedule: [GaugeAt; NOTED],
        pub expires: [GaugeAt; NOTED],
        /// Bits: which of them are to be looked at anew, for what, and with their schedules.
        pub unpark: HandshakeU32,
        pub found: GaugeU32,
        pub schedules: GaugeU32,
        pub stops: GaugeU32,
        pub stop_tenant: [GaugeU32; NOTED],
        pub stop_id: [GaugeId; NOTED],
        /// When the task was created; or how many may run.
        pub stop_number: [GaugeI64; NOTED],
        pub detached: [GaugeU32; NOTED],
    }
}
