//! Unique keys: at most one unfinished task of a tenant holds a key.
//!
//! `unique_until`: 'started' frees the key when an attempt begins, 'finished' (default) when the
//! task is final, 'deleted' when its result goes. Until then a row of state `u` keeps the key.

use crate::postgres::caught::{Failure, Own};
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Table, Write};
use crate::postgres::row::Row;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::transaction;
use crate::pure::choice::{OnConflict, UniqueUntil};
use crate::pure::ids::Id;
use crate::pure::state::Stored;
use crate::shared::{self, slot};
use crate::task::new::NewTask;
use crate::task::options::Options;
use crate::task::queue::Queue;
use crate::tenant::columns::Tasks;
use crate::tenant::{Tenant, lock};
use crate::waits::depend;

pub enum Claim {
    Free,
    /// The key's holder stays: its id.
    Theirs(Id),
    /// The key's holder was taken out; the new task takes its id.
    Replaced(Id),
}

/// The row that holds the key, whoever wrote it.
fn holder(tasks: &Table<Tasks>, key: &str) -> Option<Row<Tasks>> {
    transaction::see_own_writes();
    transaction::with_latest_snapshot(|| tasks.find(Tasks::UNIQUE_KEY.equals(key)))
}

fn is_running(tenant: &Tenant, row: &Row<Tasks>) -> bool {
    let (id, created_at) = (row.get(Tasks::ID).unwrap_or_default(), row.get(Tasks::CREATED_AT).unwrap_or_default());
    shared::get().is_some_and(|s| slot::is_running(&s, tenant.oid, id, created_at))
}

/// Before a task with a key is written.
pub fn claim(queue: &Queue, new: &NewTask) -> Result<Claim> {
    let Some(key) = new.unique_key.as_deref() else { return Ok(Claim::Free) };
    lock::unique_key(&queue.tenant, key)?;
    loop {
        let Some(row) = holder(&queue.table, key) else { return Ok(Claim::Free) };
        let id = row.get(Tasks::ID).unwrap_or_default();
        let running = is_running(&queue.tenant, &row);
        if running && Options::of(&row).unique_until() == UniqueUntil::Started {
            if give_up(&queue.table, &row, key) == Write::Done {
                return Ok(Claim::Free);
            }
            continue;
        }
        let finished = matches!(row.letter(Tasks::STATE), Stored::Key | Stored::Quarantined);
        let taken = |detail: &str| {
            Err(Error::new(SqlState::UNIQUE_VIOLATION, format!("unique_key \"{key}\" is taken by task {}", id))
                .detail(detail.to_string())
                .hint("on_conflict => 'skip' returns that task's id, 'replace' takes its place while it waits."))
        };
        // A schedule's next task doesn't pile up on the one before.
        let wanted = new.on_conflict.unwrap_or(if new.schedule.is_some() { OnConflict::Skip } else { OnConflict::Error });
        match wanted {
            OnConflict::Skip => return Ok(Claim::Theirs(id)),
            OnConflict::Replace if running => return taken("It is running, so it can't be replaced."),
            OnConflict::Replace | OnConflict::Error if finished => {
                return taken("It is finished, and keeps the key until its result is deleted.");
            }
            OnConflict::Replace if crate::waits::members::is_flow(row.get(Tasks::HANDLER).unwrap_or("")) => {
                return taken("It is a flow, whose members would be left behind.");
            }
            OnConflict::Replace if row.has(Tasks::PARENT_ID) => return taken("It belongs to a flow, so it can't be replaced."),
            OnConflict::Replace => {
                if queue.table.delete(&row) == Write::Done {
                    depend::forget_links(&queue.tenant, &queue.table, &row, false)?;
                    return Ok(Claim::Replaced(id));
                }
            }
            OnConflict::Error => return taken(if running { "It is running." } else { "It is not finished." }),
        }
    }
}

/// A running task's key goes to a newcomer; it remembers which it was.
fn give_up(tasks: &Table<Tasks>, row: &Row<Tasks>, key: &str) -> Write {
    let options = Options { key_was: Some(key.to_string()), ..Options::of(row) }.column();
    tasks.update(row, &[Tasks::UNIQUE_KEY.null(), Tasks::OPTIONS.to(options.as_ref())])
}

/// A failed attempt is to be tried again. If its key went to a newcomer that is still there, that
/// one does the work: Superseded. Otherwise the key is its own again, and no more of its options: its row's key then;
/// None = it stays as it is.
pub fn reclaim(tenant: &Tenant, tasks: &Table<Tasks>, options: &mut Options) -> std::result::Result<Option<String>, Failure> {
    let Some(key) = options.key_was.take() else { return Ok(None) };
    lock::unique_key(tenant, &key)?;
    match holder(tasks, &key) {
        None => Ok(Some(key)),
        Some(other) => Err(Failure::ours(
            Own::Superseded,
            SqlState::SUPERSEDED,
            format!("task {} of the same unique_key was enqueued meanwhile", other.get(Tasks::ID).unwrap_or_default()),
        )),
    }
}

/// Whether the key stays taken when the task is final.
pub fn keeps(row: &Row<Tasks>) -> bool {
    row.has(Tasks::UNIQUE_KEY) && Options::of(row).unique_until() == UniqueUntil::Deleted
}

/// The task is final; with unique_until 'deleted' its key stays taken.
pub fn keep(tasks: &Table<Tasks>, row: &Row<Tasks>) {
    if !keeps(row) {
        return;
    }
    tasks.insert(&[
        Tasks::ID.as_in(row, Tasks::ID),
        Tasks::HANDLER.as_in(row, Tasks::HANDLER),
        Tasks::STATE.to(Stored::Key),
        Tasks::PRIORITY.as_in(row, Tasks::PRIORITY),
        Tasks::ATTEMPTS.as_in(row, Tasks::ATTEMPTS),
        Tasks::CRASHES.as_in(row, Tasks::CRASHES),
        Tasks::CREATED_AT.as_in(row, Tasks::CREATED_AT),
        Tasks::RUN_AT.as_in(row, Tasks::RUN_AT),
        Tasks::UNIQUE_KEY.as_in(row, Tasks::UNIQUE_KEY),
    ]);
}

/// Whether nobody but the finished task of this id has the key.
pub fn is_free(tasks: &Table<Tasks>, key: &str, id: Id) -> bool {
    holder(tasks, key).is_none_or(|row| row.get(Tasks::ID) == Some(id))
}

/// Before a finished task runs again, under its key's lock: is its key free?
pub fn check_free(tasks: &Table<Tasks>, key: &str, id: Id) -> Result<()> {
    match holder(tasks, key) {
        Some(row) if row.get(Tasks::ID) == Some(id) && row.letter(Tasks::STATE) == Stored::Key => {
            let _: Write = tasks.delete(&row);
            Ok(())
        }
        Some(row) => Err(Error::new(
            SqlState::UNIQUE_VIOLATION,
            format!("unique_key \"{key}\" is taken by task {}", row.get(Tasks::ID).unwrap_or_default()),
        )
        .detail("Another task of this key was enqueued meanwhile.")),
        None => Ok(()),
    }
}
