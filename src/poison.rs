//! Tasks that crash the server.
//!
//! The slots are in a file mapping that survives the crash. Every executor's SIGQUIT handler marks
//! its slot "bystander" first, so after an unclean restart the one occupied, unmarked slot names
//! the culprit exactly: the others died of its crash. Several unmarked slots (power loss, the
//! postmaster killed) blame nobody.
//!
//! A culprit's crash count is written and flushed before anything of its tenant starts. Crashes of
//! one task are bounded by `tenant_q.max_crashes`, then it is quarantined; a handler whose tasks
//! keep crashing the server (a schedule that mints a poison every second) is quarantined too.

use crate::handler;
use crate::postgres::caught::{self, Failure};
use crate::postgres::clock;
use crate::postgres::relation::{Access, Value};
use crate::postgres::types::Jsonb;
use crate::postgres::{sandbox, transaction};
use crate::settings;
use crate::shared::{Culprit, Shared, Suspect, Word};
use crate::task::{self, col, stored};
use crate::tenant::{self, Tenant};
use serde_json::json;
use std::sync::atomic::Ordering::*;

/// Crashes of two or more tasks within it quarantine their handler.
const HANDLER_WINDOW: i64 = 86_400_000_000;

/// In the postmaster, before anything runs: who was it?
pub fn read_the_crash(s: &Shared) {
    let mut unmarked = Vec::new();
    for slot in s.slots {
        let word = Word::load(slot);
        if slot.state.load(Relaxed) == 2 && word.running && word.next >= 1 {
            if slot.bystander.load(Relaxed) == 0 {
                unmarked.push((slot, word.next - 1));
            }
        }
    }
    if let [(slot, n)] = unmarked[..] {
        // Alone and unmarked while nobody else was marked means just as much: nobody else ran.
        if let Some(c) = s.culprits.iter().find(|c| c.database.load(Relaxed) == 0) {
            c.tenant.store(slot.tenant.load(Relaxed), Relaxed);
            c.id_high.store(slot.item_high[n].load(Relaxed), Relaxed);
            c.id_low.store(slot.item_low[n].load(Relaxed), Relaxed);
            c.stamp.store(slot.item_stamp[n].load(Relaxed), Relaxed);
            c.database.store(slot.database.load(Relaxed), SeqCst);
        }
        clear_suspects(s);
    } else {
        for (slot, n) in unmarked {
            suspect(s, slot.item_id(n));
        }
    }
}

fn clear_suspects(s: &Shared) {
    for x in s.suspects {
        x.events.store(0, Relaxed);
    }
    s.file.suspects.store(0, Relaxed);
}

fn place_of(s: &Shared, id: u128) -> Option<&'static Suspect> {
    s.suspects.iter().find(|x| x.events.load(Relaxed) > 0 && x.id_high.load(Relaxed) == (id >> 64) as u64 && x.id_low.load(Relaxed) == id as u64)
}

/// One more event at which this task was running and nobody could be blamed.
fn suspect(s: &Shared, id: u128) {
    let place = place_of(s, id).or_else(|| s.suspects.iter().find(|x| x.events.load(Relaxed) == 0));
    if let Some(x) = place {
        x.id_high.store((id >> 64) as u64, Relaxed);
        x.id_low.store(id as u64, Relaxed);
        x.events.fetch_add(1, Relaxed);
        s.file.suspects.store(1, Relaxed);
    }
}

/// Whether this task may run only while nothing else does.
pub fn must_be_alone(s: &Shared, id: u128) -> bool {
    s.file.suspects.load(Relaxed) != 0 && place_of(s, id).is_some_and(|x| x.events.load(Relaxed) >= 2)
}

/// Takes the server for slot `me` alone, once everybody else is done with what they have.
pub fn take_alone(s: &Shared, me: usize) -> bool {
    let mine = me as u32 + 1;
    if s.header.alone.compare_exchange(0, mine, SeqCst, SeqCst).is_ok() {
        s.header.alone_since.store(clock::monotonic_ns(), SeqCst);
    } else if s.header.alone.load(SeqCst) != mine {
        return false;
    }
    s.slots.iter().enumerate().all(|(n, slot)| n == me || slot.state.load(SeqCst) != 2 || Word::load(slot).live().is_empty())
}

/// Somebody else is to be alone just now.
pub fn must_wait(s: &Shared, me: usize) -> bool {
    let alone = s.header.alone.load(SeqCst);
    alone != 0 && alone != me as u32 + 1
}

/// The suspect has been through: it is one no more, and the others go on.
pub fn end_alone(s: &Shared, me: usize, finished: Option<u128>) {
    if let Some(id) = finished
        && let Some(x) = place_of(s, id)
    {
        x.events.store(0, Relaxed);
    }
    let _ = s.header.alone.compare_exchange(me as u32 + 1, 0, SeqCst, SeqCst);
}

/// A suspect that never came to its turn (cancelled, or the others don't end): nobody waits for it
/// longer than five seconds.
pub fn give_up_alone(s: &Shared, me: usize) {
    if s.header.alone.load(SeqCst) == me as u32 + 1 && clock::monotonic_ns().saturating_sub(s.header.alone_since.load(SeqCst)) > 5_000_000_000 {
        for x in s.suspects.iter().filter(|x| x.events.load(Relaxed) > 1) {
            x.events.store(1, Relaxed);
        }
        end_alone(s, me, None);
    }
}

/// Whether a crash of this tenant is still to be written down.
fn pending(s: &Shared, database: u32) -> Option<&'static Culprit> {
    s.culprits.iter().find(|c| c.database.load(SeqCst) == database)
}

/// Writes down what is known of crashes in this database, before anything else is run there.
/// Called by executors between batches: one look at shared memory when there is nothing.
pub fn settle(s: &Shared, database: u32) {
    while let Some(c) = pending(s, database) {
        // One of the executors does it; the others wait their turn at the lock of the row.
        let id = ((c.id_high.load(Relaxed) as u128) << 64) | c.id_low.load(Relaxed) as u128;
        let (tenant, stamp) = (c.tenant.load(Relaxed), c.stamp.load(Relaxed));
        let outcome = transaction::run(|| blame(tenant, id, stamp));
        transaction::flush_commits();
        if let Err(failure) = outcome {
            caught::log_failure(&format!("the crash by task {} could not be written down", task::uuid_text(id)), &failure);
            if failure.sqlstate.starts_with("40") || failure.sqlstate == "55P03" || failure.sqlstate == "XX000" {
                // Somebody else is at it; or try again with the next batch.
                return;
            }
        }
        if ((c.id_high.load(Relaxed) as u128) << 64) | c.id_low.load(Relaxed) as u128 == id {
            c.database.store(0, SeqCst);
        }
    }
}

fn blame(tenant: u32, id: u128, stamp: i64) -> Result<(), Failure> {
    let tenant = match tenant::by_oid(tenant) {
        Ok(t) => t,
        // Detached or dropped meanwhile.
        Err(_) => return Ok(()),
    };
    let table = tenant.open(tenant.task, Access::Exclusive)?;
    let Some(row) = table.find(&[col::ID as i16], Value::Uuid(id)) else { return Ok(()) };
    if row.time(col::CREATED_AT) != Some(stamp) || row.char(col::STATE) == stored::QUARANTINED {
        return Ok(());
    }
    let crashes = row.i32(col::CRASHES).unwrap_or(0) + 1;
    let name = row.text(col::HANDLER).unwrap_or_default();
    let convicted = crashes >= settings::max_crashes();
    let failure = Failure::new("XX000", format!("the server went down while this task ran, for the {} time", ordinal(crashes)));
    let mut history = match row.json(col::HISTORY) {
        Some(serde_json::Value::Array(h)) => h,
        _ => vec![],
    };
    history.push(json!({ "attempt": row.i32(col::ATTEMPTS).unwrap_or(0) + 1, "outcome": "crashed", "started_at": clock::now(), "sqlstate": "XX000", "message": failure.message }));
    let surplus = history.len().saturating_sub(10);
    history.drain(..surplus);
    let history = Jsonb::from_value(history.into());
    let state = if convicted { stored::QUARANTINED } else { row.char(col::STATE) };
    table.update(&row, &[(col::CRASHES, Value::I32(crashes)), (col::STATE, Value::Char(state)), (col::HISTORY, Value::Json(&history))]);
    let what = if convicted { "is quarantined" } else { "runs again" };
    caught::log_failure(&format!("{} {} {} {what}", caught::one_line(&tenant.name), caught::one_line(&name), task::uuid_text(id)), &failure);
    blame_handler(&tenant, &name, id)
}

/// Remembers the crash with the handler, and stops the handler in this tenant after three within a
/// day by two or more of its tasks.
fn blame_handler(tenant: &Tenant, name: &str, id: u128) -> Result<(), Failure> {
    let id = task::uuid_text(id);
    sandbox::as_extension(|| {
        handler::admin::note_crash(tenant, name, &id, HANDLER_WINDOW, settings::max_crashes())
    })?;
    Ok(())
}

fn ordinal(n: i32) -> String {
    match n {
        1 => "first".into(),
        2 => "second".into(),
        3 => "third".into(),
        n => format!("{n}th"),
    }
}
