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

use crate::handler::{self, notes};
use crate::postgres::caught::{self, Failure};
use crate::postgres::relation::{Access, Table, Write};
use crate::postgres::row::Row;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::types::Jsonb;
use crate::postgres::{clock, shmem, timeout, transaction, worker};
use crate::pure::ids::Id;
use crate::pure::state::{AttemptEnd, Ended, Stored};
use crate::pure::time::{At, Span};
use crate::settings;
use crate::shared::culprits::{self, Culprit, HANDLER_WINDOW};
use crate::shared::role::EXTERNAL;
use crate::shared::slot::Item;
use crate::shared::{Shared, ready};
use crate::task;
use crate::task::end::{self, End};
use crate::task::place;
use crate::tenant::columns::Tasks;
use crate::tenant::{self, Tenant};
use crate::waits::unique;
use crate::work::complete::{self, Judgement, Verdict};
use crate::work::tell;
use serde_json::json;

/// Whoever holds a lock on the tenant's rows is not waited for longer.
const LOCK_TIMEOUT_MS: i32 = 200;
/// Then it is tried again, and the tenant waits.
const AGAIN: Span = Span::of_millis(500);
const AGAIN_LATER: Span = Span::of_secs(5);

/// Writes down what is known of attempts in this database, before anything else is run there.
/// Called by executors between batches: one look at shared memory when there is nothing.
pub fn settle(shared: &Shared, database: u32) {
    if shared.header.culprits.load() == 0 {
        return;
    }
    for culprit in shared.culprits {
        if culprit.kind.load() < culprits::kind::CRASHED || culprit.database.load() != database || culprit.again.load() > clock::now() {
            continue;
        }
        // One of the executors does it; if it dies meanwhile, another.
        let (me, before) = (shmem::my_pid(), culprit.claim.load());
        if before != 0 && before != me && worker::is_alive(before) || culprit.claim.compare_exchange(before, me).is_err() {
            continue;
        }
        let what = culprit.kind.load();
        if what >= culprits::kind::CRASHED {
            match write_down(shared, culprit, what) {
                Ok(()) => culprits::free(shared, culprit),
                Err(failure) => {
                    let id = culprit.id.load().to_string();
                    caught::log_failure(&format!("the end of task {id} could not be written down"), &failure);
                    match again_after(failure.sqlstate) {
                        Some(delay) => culprit.again.store(clock::now() + delay),
                        None => culprits::free(shared, culprit),
                    }
                }
            }
        }
        culprit.claim.store(0);
    }
}

/// When an end that could not be written down is tried again; None: never, as it would fail each time, and nothing of its
/// tenant starts before. Ours are all the statements that failed.
fn again_after(sqlstate: SqlState) -> Option<Span> {
    match (sqlstate.class(), sqlstate) {
        // A lock, a deadlock, somebody else's change: they pass.
        ("40", _) | (_, SqlState::LOCK_NOT_AVAILABLE | SqlState::INTERNAL_ERROR) => Some(AGAIN),
        // No room, a cancel, tables that are not as they should be: nothing of the tenant could run either, and a crash that
        // isn't counted would come again.
        ("53" | "57" | "58", _) | (_, SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE) => Some(AGAIN_LATER),
        _ => None,
    }
}

fn write_down(shared: &Shared, culprit: &Culprit, what: u32) -> Result<(), Failure> {
    let (oid, created_at) = (culprit.tenant.load(), culprit.created_at.load());
    let woken = transaction::run(|| {
        timeout::limit_locks(LOCK_TIMEOUT_MS);
        // Detached or dropped meanwhile?
        let Ok(tenant) = tenant::by_oid(oid) else { return Ok(None) };
        let table = tenant.open(tenant.task, Access::Write)?;
        let Some(row) = table.find(Tasks::ID.equals(culprit.id.load())) else { return Ok(None) };
        if row.get(Tasks::CREATED_AT) != Some(created_at)
            || row.get(Tasks::ATTEMPTS) != Some(culprit.attempts.load())
            || row.letter(Tasks::STATE) == Stored::Quarantined
        {
            return Ok(None);
        }
        use culprits::kind::{INTERRUPTED, TIMED_OUT, WORKER, WORKER_TIMED_OUT};
        if matches!(what, TIMED_OUT | INTERRUPTED | WORKER_TIMED_OUT) {
            return count_attempt(&tenant, culprit, &row, what != INTERRUPTED).map(Some);
        }
        let died = if what == WORKER { Died::Worker } else { Died::Server };
        blame(&tenant, &table, &row, died, &format!("{:x}", culprit.epoch.load()))?;
        // A worker's task is there for the next one.
        let at = (died == Died::Worker).then(|| row.get(Tasks::RUN_AT).unwrap_or_default());
        Ok(at.map(|at| (EXTERNAL, Some(at))))
    })?;
    transaction::flush_commits();
    if let Some((role, at)) = woken {
        match (at, shared.entry(shmem::my_database(), oid, role), shared.db(shmem::my_database())) {
            (Some(at), Some(entry), _) => shared.reach(entry, |index| ready::wake_at(shared, index, at, u64::MAX)),
            (Some(at), None, Some(db)) => shared.seek_at(db, at),
            _ => {}
        }
    }
    Ok(())
}

/// A failed attempt like any other that took too long, or that ended with its executor. The role whose entry it is,
/// and when it is to be tried again.
fn count_attempt(tenant: &Tenant, culprit: &Culprit, row: &Row<Tasks>, timed_out: bool) -> Result<(u32, Option<At>), Failure> {
    let (started_at, deadline) = (culprit.started_at.load(), culprit.deadline.load());
    let item = Item {
        id: culprit.id.load(),
        tid: row.tid.word(),
        created_at: culprit.created_at.load(),
        attempts: culprit.attempts.load(),
        gates: Default::default(),
    };
    let name = row.text(Tasks::HANDLER).unwrap_or_default();
    let handler = handler::find(tenant, &name)?;
    let judgement = if timed_out {
        Judgement::of(AttemptEnd::TimedOut, complete::took_too_long((deadline - started_at).millis()))
    } else {
        let ends = format!("{} executors ended while they ran this task", culprits::ENDS);
        Judgement::of(AttemptEnd::Interrupted, Failure::new(SqlState::ADMIN_SHUTDOWN, ends))
    };
    let verdict = complete::failed(tenant, &item, handler.as_deref(), started_at, &judgement)?;
    let failure = &judgement.failure;
    caught::log_failure(
        &format!(
            "{} {} {} was terminated at attempt {}",
            caught::one_line(&tenant.name),
            caught::one_line(&name),
            item.id,
            item.attempts + 1
        ),
        failure,
    );
    let role = place::role(tenant, row.letter(Tasks::STATE), handler.as_deref());
    if verdict != Verdict::Overtaken {
        crate::shared::counters::failed(&crate::shared::shared(), tenant.oid, role, &task::counted(row), failure, timed_out);
    }
    let at = if let Verdict::RetryAt(at) = verdict { Some(at) } else { None };
    Ok((role, at))
}

/// What went down while a task ran.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Died {
    Server,
    /// The process outside of the server that ran it.
    Worker,
}

/// One crash more. `life`: of what has died, of which one task is blamed once.
pub fn blame(tenant: &Tenant, table: &Table<Tasks>, row: &Row<Tasks>, died: Died, life: &str) -> Result<(), Failure> {
    let mut history = match row.get(Tasks::HISTORY) {
        Some(serde_json::Value::Array(h)) => h,
        _ => vec![],
    };
    // The server may go down again between the commit and the word that it is done.
    if history.iter().any(|entry| entry["life"] == life) {
        return Ok(());
    }
    let crashes = row.get(Tasks::CRASHES).unwrap_or(0) + 1;
    let name = row.text(Tasks::HANDLER).unwrap_or_default();
    let convicted = crashes >= settings::max_crashes();
    let what = if died == Died::Server { "the server went down" } else { "the worker died" };
    let failure = Failure::new(SqlState::INTERNAL_ERROR, format!("{what} while this task ran, for the {} time", ordinal(crashes)));
    history.push(json!({ "life": life, "attempt": row.get(Tasks::ATTEMPTS).unwrap_or(0) + 1, "outcome": "crashed", "started_at": clock::now(), "sqlstate": SqlState::INTERNAL_ERROR, "message": failure.message }));
    let surplus = history.len().saturating_sub(10);
    history.drain(..surplus);
    let document = Jsonb::from_value(history.clone().into());
    let mut changes = vec![Tasks::CRASHES.to(crashes), Tasks::HISTORY.to(&document)];
    if convicted {
        // The row stays behind as a note of it.
        changes.extend([Tasks::STATE.to(Stored::Quarantined), Tasks::WAITS_FOR.null()]);
        if !unique::keeps(row) {
            changes.push(Tasks::UNIQUE_KEY.null());
        }
    }
    if table.update(row, &changes) == Write::Overtaken {
        return Err(Failure::new(SqlState::SERIALIZATION_FAILURE, "the task was changed meanwhile"));
    }
    if convicted {
        quarantine(tenant, table, row, crashes, history.into(), &failure)?;
    }
    let what = if convicted { "is quarantined" } else { "runs again" };
    let id = row.get(Tasks::ID).unwrap_or_default();
    caught::log_failure(&format!("{} {} {} {what}", caught::one_line(&tenant.name), caught::one_line(&name), id), &failure);
    // A handler is stopped that takes the server with it, not one whose workers are at an end.
    if died == Died::Worker { Ok(()) } else { blame_handler(tenant, &name, id) }
}

/// The task is final, with everything that an end brings about.
fn quarantine(
    tenant: &Tenant,
    table: &Table<Tasks>,
    row: &Row<Tasks>,
    crashes: i32,
    history: serde_json::Value,
    failure: &Failure,
) -> Result<(), Failure> {
    tell::ended_unrun(tenant, row, Ended::Quarantined, Some(&end::error_document(failure)));
    transaction::see_own_writes();
    let end = End {
        state: Ended::Quarantined,
        attempts: row.get(Tasks::ATTEMPTS).unwrap_or(0),
        crashes: Some(crashes),
        error: Some(end::error_document(failure)),
        history: Some(history),
        ..End::default()
    };
    complete::end(tenant, table, row, &end, true)?;
    Ok(())
}

/// Remembers the crash with the handler, and stops the handler in this tenant after three within a
/// day by two or more of its tasks.
fn blame_handler(tenant: &Tenant, name: &str, id: Id) -> Result<(), Failure> {
    let id = id.to_string();
    notes::note_crash(tenant, name, &id, HANDLER_WINDOW, settings::max_crashes())
}

fn ordinal(n: i32) -> String {
    match n {
        1 => "first".into(),
        2 => "second".into(),
        3 => "third".into(),
        n => format!("{n}th"),
    }
}
