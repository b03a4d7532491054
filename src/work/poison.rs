//! Tasks that crash the server, tasks whose timeout had to terminate their executor, and tasks whose
//! executors keep ending: attempts whose end nobody was left to record.
//!
//! The slots are in a file mapping that survives the crash. Every executor's SIGQUIT handler marks
//! its slot "bystander" first, so after an unclean restart the one occupied, unmarked slot names
//! the culprit exactly: the others died of its crash. Several unmarked slots (power loss, the
//! postmaster killed, several crashes in the same moment) blame nobody; what was running at two
//! such events runs one at a time from then on, so that the next crash has one culprit.
//!
//! A culprit's crash count is written and flushed before anything of its tenant starts. Crashes of
//! one task are bounded by `tenant_q.max_crashes`, then it is quarantined; a handler whose tasks
//! keep crashing the server (a schedule that mints a poison every second) is quarantined too.

use crate::calls::{events, groups, handlers};
use crate::postgres::caught::{self, Failure};
use crate::postgres::clock::{self, Micros};
use crate::postgres::relation::{Access, Gone, Row, Table, Value};
use crate::postgres::types::Jsonb;
use crate::postgres::{shmem, timeout, transaction, worker};
use crate::pure::shares::{self, Owner, Says};
use crate::shared::share::{self, Pressure};
use crate::shared::{Culprit, Item, Shared, Slot, Suspect, Word, load_text, ready, wake};
use crate::task::{self, col, ended, stored};
use crate::tenant::{self, Tenant};
use crate::waits::unique;
use crate::work::complete::{self, End, Verdict};
use crate::{handler, settings};
use serde_json::json;
use std::sync::atomic::Ordering::*;

/// Crashes of two or more tasks within it quarantine their handler.
const HANDLER_WINDOW: Micros = 86_400_000_000;
/// Whoever holds a lock on the tenant's rows is not waited for longer.
const LOCK_TIMEOUT_MS: i32 = 200;
/// Then it is tried again, and the tenant waits.
const AGAIN: Micros = 500_000;
const AGAIN_LATER: Micros = 5_000_000;

/// `Culprit::kind`.
mod kind {
    pub const FREE: u32 = 0;
    pub const FILLING: u32 = 1;
    pub const CRASHED: u32 = 2;
    pub const TIMED_OUT: u32 = 3;
    pub const INTERRUPTED: u32 = 4;
}

/// In the postmaster, before anything runs: who was it?
pub fn initialise(s: &Shared, crashed: bool) {
    for c in s.culprits {
        c.claim.store(0, Relaxed);
        c.again.store(0, Relaxed);
        if c.kind.load(Relaxed) == kind::FILLING {
            c.kind.store(kind::FREE, Relaxed);
        }
    }
    if crashed {
        read_the_crash(s);
    }
    s.header.culprits.store(s.culprits.iter().filter(|c| c.kind.load(Relaxed) != kind::FREE).count() as u32, Relaxed);
}

fn read_the_crash(s: &Shared) {
    let unmarked: Vec<&Slot> = (s.slots.iter())
        .filter(|slot| slot.state.load(Relaxed) == 2 && Word::load(slot).running && slot.bystander.load(Relaxed) == 0)
        .collect();
    match unmarked[..] {
        [] => {}
        [slot] => {
            // Alone and unmarked while nobody else was marked means just as much: nobody else ran.
            note(s, slot, kind::CRASHED);
        }
        _ => {
            let mut found: Vec<(u64, u64)> = (unmarked.iter())
                .map(|x| {
                    let (database, tenant) = (x.database.load(Relaxed), x.tenant.load(Relaxed));
                    (Owner::new(database, tenant).0, key_of(database, tenant, &load_text(&x.handler)))
                })
                .collect();
            found.sort_unstable();
            found.dedup();
            found.into_iter().for_each(|(owner, key)| suspect(s, Owner(owner), key));
        }
    }
}

/// FNV-1a: which handler of which tenant. Of the name as much as a slot keeps.
fn key_of(database: u32, tenant: u32, handler: &str) -> u64 {
    let name = &handler.as_bytes()[..handler.len().min(64)];
    let bytes = database.to_le_bytes().into_iter().chain(tenant.to_le_bytes()).chain(name.iter().copied());
    bytes.fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

fn place_of(s: &Shared, key: u64) -> Option<&'static Suspect> {
    s.suspects.iter().find(|x| x.events.load(Relaxed) > 0 && x.key.load(Relaxed) == key)
}

/// One more event at which this handler was running and nobody could be blamed.
fn suspect(s: &Shared, owner: Owner, key: u64) {
    let whose = |x: &Suspect| Owner(x.owner.load(Relaxed));
    let held = |o: Owner| s.suspects.iter().filter(|x| x.events.load(Relaxed) > 0 && whose(x) == o).count() as u32;
    let says = |x: &Suspect| match x.events.load(Relaxed) {
        0 => (Owner(0), Says::Free),
        events => (whose(x), Says::Something(events.into())),
    };
    let place =
        place_of(s, key).or_else(|| shares::choose(owner, held, s.suspects.iter().map(says)).map(|chosen| &s.suspects[chosen.place]));
    if let Some(x) = place {
        if x.key.swap(key, Relaxed) != key {
            x.events.store(0, Relaxed);
            x.owner.store(owner.0, Relaxed);
        }
        x.events.fetch_add(1, Relaxed);
        s.file.suspects.store(1, Relaxed);
    }
}

/// Whether tasks of this handler may run only while no other such task does.
pub fn must_be_alone(s: &Shared, database: u32, tenant: u32, handler: &str) -> bool {
    s.file.suspects.load(Relaxed) != 0 && place_of(s, key_of(database, tenant, handler)).is_some_and(|x| x.events.load(Relaxed) >= 2)
}

/// A task of this handler is done: nothing is held against it any more.
pub fn acquit(s: &Shared, database: u32, tenant: u32, handler: &str) {
    if s.file.suspects.load(Relaxed) != 0 {
        if let Some(x) = place_of(s, key_of(database, tenant, handler)) {
            x.events.store(0, Relaxed);
        }
        if s.suspects.iter().all(|x| x.events.load(Relaxed) == 0) {
            s.file.suspects.store(0, Relaxed);
        }
    }
}

/// Whether the right to run a suspect is to be had.
pub fn may_take_alone(s: &Shared, me: usize) -> bool {
    let taken = s.header.alone.load(SeqCst);
    taken == 0 || taken == me as u32 + 1
}

/// Reserves the right to run a suspect for slot `me`. What is no suspect goes on beside it: at the
/// next crash it marks itself a bystander.
pub fn take_alone(s: &Shared, me: usize) -> bool {
    let mine = me as u32 + 1;
    s.header.alone.compare_exchange(0, mine, SeqCst, SeqCst).is_ok() || s.header.alone.load(SeqCst) == mine
}

/// Gives it back; harmless for who hasn't got it.
pub fn end_alone(s: &Shared, me: usize) {
    let _ = s.header.alone.compare_exchange(me as u32 + 1, 0, SeqCst, SeqCst);
}

/// Remembers the task that this slot runs. Atomics only.
fn note(s: &Shared, slot: &Slot, what: u32) {
    let word = Word::load(slot);
    if !word.running || word.next == 0 {
        return;
    }
    let item = slot.item(word.next - 1);
    let free = |c: &&Culprit| c.kind.compare_exchange(kind::FREE, kind::FILLING, SeqCst, SeqCst).is_ok();
    let owner = Owner::new(slot.database.load(Relaxed), slot.tenant.load(Relaxed));
    // None: the task is simply run again.
    let Some(c) = s.culprits.iter().find(free).or_else(|| {
        let displaced = displace(s.culprits, &s.header.pressure[share::Kind::Culprits as usize], owner);
        if displaced.is_some() {
            s.header.culprits.fetch_sub(1, SeqCst);
        }
        displaced
    }) else {
        return;
    };
    c.database.store(slot.database.load(Relaxed), Relaxed);
    c.tenant.store(slot.tenant.load(Relaxed), Relaxed);
    c.id_high.store((item.id >> 64) as u64, Relaxed);
    c.id_low.store(item.id as u64, Relaxed);
    c.stamp.store(item.stamp, Relaxed);
    c.attempts.store(item.attempts, Relaxed);
    c.started_at.store(slot.started_at.load(Relaxed), Relaxed);
    c.deadline.store(slot.deadline.load(Relaxed), Relaxed);
    c.epoch.store(s.file.epoch.load(Relaxed), Relaxed);
    c.claim.store(0, Relaxed);
    c.again.store(0, Relaxed);
    c.kind.store(what, SeqCst);
    s.header.culprits.fetch_add(1, SeqCst);
}

/// All places are taken: one of what is known least of goes, of whoever has most (share.rs). Never a crash: its count
/// must be written before anything of its tenant starts.
fn displace(s: &'static [Culprit], pressure: &Pressure, owner: Owner) -> Option<&'static Culprit> {
    let whose = |c: &Culprit| Owner::new(c.database.load(Relaxed), c.tenant.load(Relaxed));
    let ended = |what: u32| matches!(what, kind::TIMED_OUT | kind::INTERRUPTED);
    let held = |o: Owner| s.iter().filter(|c| whose(c) == o).count() as u32;
    let says = |c: &Culprit| {
        let may = ended(c.kind.load(SeqCst)) && c.claim.load(SeqCst) == 0;
        (whose(c), if may { Says::Something(c.started_at.load(Relaxed)) } else { Says::Fixed })
    };
    let chosen = shares::choose(owner, held, s.iter().map(says));
    pressure.note(chosen.and_then(|c| c.displaced).unwrap_or(owner), clock::now());
    let c = &s[chosen?.place];
    let what = c.kind.load(SeqCst);
    (ended(what) && c.kind.compare_exchange(what, kind::FILLING, SeqCst, SeqCst).is_ok()).then_some(c)
}

/// The timeout of the slot's task terminates its executor, which is this process: whoever comes
/// next writes it down. Before the slot lets go of the task.
pub fn timed_out(s: &Shared, slot: &Slot) {
    note(s, slot, kind::TIMED_OUT);
}

/// Ends of executors while they ran one and the same task that count as an attempt. One end is nobody's fault and no
/// attempt; a task that terminates its session each time would otherwise go on for ever.
pub const ENDS: u32 = 10;

/// So many executors have ended while they ran this slot's task, this one too. Before the slot lets go of the task.
pub fn interrupted(s: &Shared, slot: &Slot) {
    note(s, slot, kind::INTERRUPTED);
}

fn free(s: &Shared, c: &Culprit) {
    c.kind.store(kind::FREE, SeqCst);
    s.header.culprits.fetch_sub(1, SeqCst);
}

/// Whether something of this tenant is still to be written down: nothing of it starts before.
pub fn is_pending(s: &Shared, database: u32, tenant: u32) -> bool {
    s.header.culprits.load(SeqCst) > 0
        && s.culprits
            .iter()
            .any(|c| c.kind.load(SeqCst) >= kind::CRASHED && c.database.load(Relaxed) == database && c.tenant.load(Relaxed) == tenant)
}

/// Writes down what is known of attempts in this database, before anything else is run there.
/// Called by executors between batches: one look at shared memory when there is nothing.
pub fn settle(s: &Shared, database: u32) {
    if s.header.culprits.load(SeqCst) == 0 {
        return;
    }
    for c in s.culprits {
        if c.kind.load(SeqCst) < kind::CRASHED || c.database.load(Relaxed) != database || c.again.load(Relaxed) > clock::now() {
            continue;
        }
        // One of the executors does it; if it dies meanwhile, another.
        let (me, before) = (shmem::my_pid(), c.claim.load(SeqCst));
        if before != 0 && before != me && worker::is_alive(before) || c.claim.compare_exchange(before, me, SeqCst, SeqCst).is_err() {
            continue;
        }
        let what = c.kind.load(SeqCst);
        if what >= kind::CRASHED {
            match write_down(s, c, what) {
                Ok(()) => free(s, c),
                Err(failure) => {
                    let id = task::uuid_text(id_of(c));
                    caught::log_failure(&format!("the end of task {id} could not be written down"), &failure);
                    match again_after(&failure.sqlstate) {
                        Some(delay) => c.again.store(clock::now() + delay, Relaxed),
                        None => free(s, c),
                    }
                }
            }
        }
        c.claim.store(0, SeqCst);
    }
}

/// When an end that could not be written down is tried again; None: never, as it would fail each time, and nothing of its
/// tenant starts before. Ours are all the statements that failed.
fn again_after(sqlstate: &str) -> Option<Micros> {
    match (&sqlstate[..sqlstate.len().min(2)], sqlstate) {
        // A lock, a deadlock, somebody else's change: they pass.
        ("40", _) | (_, "55P03" | "XX000") => Some(AGAIN),
        // No room, a cancel, tables that are not as they should be: nothing of the tenant could run either, and a crash that
        // isn't counted would come again.
        ("53" | "57" | "58", _) | (_, "55000") => Some(AGAIN_LATER),
        _ => None,
    }
}

fn id_of(c: &Culprit) -> u128 {
    ((c.id_high.load(Relaxed) as u128) << 64) | c.id_low.load(Relaxed) as u128
}

fn write_down(s: &Shared, c: &Culprit, what: u32) -> Result<(), Failure> {
    let (oid, stamp) = (c.tenant.load(Relaxed), c.stamp.load(Relaxed));
    let woken = transaction::run(|| {
        timeout::limit_locks(LOCK_TIMEOUT_MS);
        // Detached or dropped meanwhile?
        let Ok(tenant) = tenant::by_oid(oid) else { return Ok(None) };
        let table = tenant.open(tenant.task, Access::Write)?;
        let Some(row) = table.find(&[col::ID as i16], Value::Uuid(id_of(c))) else { return Ok(None) };
        if row.time(col::CREATED_AT) != Some(stamp)
            || row.i32(col::ATTEMPTS) != Some(c.attempts.load(Relaxed))
            || row.char(col::STATE) == stored::QUARANTINED
        {
            return Ok(None);
        }
        if matches!(what, kind::TIMED_OUT | kind::INTERRUPTED) {
            return count_attempt(&tenant, c, &row, what == kind::TIMED_OUT).map(Some);
        }
        blame(&tenant, &table, &row, c.epoch.load(Relaxed)).map(|()| None)
    })?;
    transaction::flush_commits();
    if let Some((role, at)) = woken {
        wake::announce(s, id_of(c));
        match (at, s.entry(shmem::my_database(), oid, role), s.db(shmem::my_database())) {
            (Some(at), Some(entry), _) => ready::wake_at(s, entry.index, at),
            (Some(at), None, Some(db)) => s.seek_at(db, at),
            _ => {}
        }
    }
    Ok(())
}

/// A failed attempt like any other that took too long, or that ended with its executor. The role whose entry it is,
/// and when it is to be tried again.
fn count_attempt(tenant: &Tenant, c: &Culprit, row: &Row, timed_out: bool) -> Result<(u32, Option<Micros>), Failure> {
    let (started_at, deadline) = (c.started_at.load(Relaxed), c.deadline.load(Relaxed));
    let item =
        Item { id: id_of(c), tid: row.tid.0, stamp: c.stamp.load(Relaxed), attempts: c.attempts.load(Relaxed), gates: Default::default() };
    let name = row.text(col::HANDLER).unwrap_or_default();
    let handler = handler::find(tenant, &name)?;
    let (failure, outcome) = if timed_out {
        (complete::took_too_long((deadline - started_at) / 1000), "timeout")
    } else {
        (Failure::new("57P01", format!("{ENDS} executors ended while they ran this task")), "interrupted")
    };
    let verdict = complete::failed(tenant, &item, handler.as_deref(), started_at, &failure, outcome, None, false)?;
    caught::log_failure(
        &format!(
            "{} {} {} was terminated at attempt {}",
            caught::one_line(&tenant.name),
            caught::one_line(&name),
            task::uuid_text(item.id),
            item.attempts + 1
        ),
        &failure,
    );
    let role = handler.map_or(tenant.owner, |h| h.run_as);
    if verdict != Verdict::Overtaken {
        crate::calls::stats::failed(&crate::shared::shared(), tenant.oid, role, &task::counted(row), &failure, timed_out);
    }
    let at = if let Verdict::RetryAt(at) = verdict { Some(at) } else { None };
    Ok((role, at))
}

fn blame(tenant: &Tenant, table: &Table, row: &Row, epoch: u64) -> Result<(), Failure> {
    let mut history = match row.json(col::HISTORY) {
        Some(serde_json::Value::Array(h)) => h,
        _ => vec![],
    };
    // The server may go down again between the commit and the word that it is done.
    let life = format!("{epoch:x}");
    if history.iter().any(|entry| entry["life"] == life.as_str()) {
        return Ok(());
    }
    let crashes = row.i32(col::CRASHES).unwrap_or(0) + 1;
    let name = row.text(col::HANDLER).unwrap_or_default();
    let convicted = crashes >= settings::max_crashes();
    let failure = Failure::new("XX000", format!("the server went down while this task ran, for the {} time", ordinal(crashes)));
    history.push(json!({ "life": life, "attempt": row.i32(col::ATTEMPTS).unwrap_or(0) + 1, "outcome": "crashed", "started_at": clock::now(), "sqlstate": "XX000", "message": failure.message }));
    let surplus = history.len().saturating_sub(10);
    history.drain(..surplus);
    let document = Jsonb::from_value(history.clone().into());
    let mut changes = vec![(col::CRASHES, Value::I32(crashes)), (col::HISTORY, Value::Json(&document))];
    if convicted {
        // The row stays behind as a note of it.
        changes.extend([(col::STATE, Value::Char(stored::QUARANTINED)), (col::WAITS_FOR, Value::Null)]);
        if !unique::keeps(row) {
            changes.push((col::UNIQUE_KEY, Value::Null));
        }
    }
    if table.update(row, &changes) == Gone::Lost {
        return Err(Failure::new("40001", "the task was changed meanwhile"));
    }
    if convicted {
        quarantine(tenant, table, row, crashes, history.into(), &failure)?;
    }
    let what = if convicted { "is quarantined" } else { "runs again" };
    let id = row.uuid(col::ID).unwrap_or(0);
    caught::log_failure(
        &format!("{} {} {} {what}", caught::one_line(&tenant.name), caught::one_line(&name), task::uuid_text(id)),
        &failure,
    );
    blame_handler(tenant, &name, id)
}

/// The task is final, with everything that an end brings about.
fn quarantine(
    tenant: &Tenant,
    table: &Table,
    row: &Row,
    crashes: i32,
    history: serde_json::Value,
    failure: &Failure,
) -> Result<(), Failure> {
    events::ended_unrun(tenant, row, ended::QUARANTINED, Some(failure));
    transaction::see_own_writes();
    let end = End {
        state: ended::QUARANTINED,
        attempts: row.i32(col::ATTEMPTS).unwrap_or(0),
        crashes: Some(crashes),
        error: Some(complete::error_document(failure)),
        history: Some(history),
        ..End::default()
    };
    complete::end(tenant, table, row, &end, true)?;
    wake::finished(row.uuid(col::ID).unwrap_or(0));
    groups::finished(tenant.oid, row.str(col::GROUP_ID));
    Ok(())
}

/// Remembers the crash with the handler, and stops the handler in this tenant after three within a
/// day by two or more of its tasks.
fn blame_handler(tenant: &Tenant, name: &str, id: u128) -> Result<(), Failure> {
    let id = task::uuid_text(id);
    handlers::note_crash(tenant, name, &id, HANDLER_WINDOW, settings::max_crashes())
}

fn ordinal(n: i32) -> String {
    match n {
        1 => "first".into(),
        2 => "second".into(),
        3 => "third".into(),
        n => format!("{n}th"),
    }
}
