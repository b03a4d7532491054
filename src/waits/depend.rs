//! Tasks that wait for other tasks.
//!
//! A waiting row names one task that it waits for (`waits_for`), the first of its list that isn't
//! final. Whoever ends that one lets it be looked at again, in the same transaction; the next pick
//! runs it, lets it wait for the next of its list, or ends it. So the end of a task costs one look
//! into an index that is usually empty, however long the lists are.
//!
//! Who waits and who ends may cross: the row is written first, then the other one is looked at
//! again. Either the end sees the waiting row, or the second look sees the end.
//!
//! With `depends_mode => 'any'` a row waits for several: one *link* row for each of them stands in.

use crate::handler;
use crate::postgres::caught::Failure;
use crate::postgres::column::Set;
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table, Write};
use crate::postgres::row::Row;
use crate::postgres::scan::Scan;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{clock, transaction};
use crate::pure::choice::DependsMode;
use crate::pure::ids::Id;
use crate::pure::state::{Ended, Stored};
use crate::pure::time::{At, Span};
use crate::shared::wake;
use crate::task::new::{NewTask, TIME_MAX};
use crate::task::options::Options;
use crate::task::place::Place;
use crate::task::queue::Queue;
use crate::tenant::Tenant;
use crate::tenant::columns::{Results, Tasks};

/// Tasks that one task can depend on.
const MAX: usize = 1000;

/// What can be said of a task with dependencies now.
pub enum Answer {
    Ready,
    /// Until this one is final.
    Wait(Id),
    /// Until one of these is.
    WaitAny(Vec<Id>),
    /// Somebody is just changing one of them: look again soon.
    Soon,
    Never(Failure),
}

/// The row of an unfinished task.
fn unfinished(tasks: &Table<Tasks>, id: Id) -> Option<Row<Tasks>> {
    tasks.find(Tasks::ID.equals(id)).filter(|r| r.letter(Tasks::STATE).is_task())
}

/// Before the task is written: are the dependencies there? What the row waits for from the start:
/// only a task that this very transaction has enqueued, for that one can't end before our commit.
pub fn check(queue: &Queue, new: &NewTask, id: Id) -> Result<Option<Id>> {
    if new.depends_on.len() > MAX {
        return Err(Error::limit(format!("depends_on names {} tasks", new.depends_on.len()))
            .detail(format!("A task can depend on {MAX} tasks."))
            .hint("Make them a group with tq_group, and depend on the group."));
    }
    transaction::see_own_writes();
    let results = queue.tenant.open(queue.tenant.result, Access::Read)?;
    transaction::with_latest_snapshot(|| {
        let mut own = None;
        for d in &new.depends_on {
            if *d == id {
                return Err(Error::invalid("a task cannot depend on itself"));
            }
            match unfinished(&queue.table, *d) {
                Some(row) if row.own => own = own.or(Some(*d)),
                Some(_) => {}
                None if results.find(Results::ID.equals(*d)).is_some() => {}
                None => {
                    return Err(Error::new(SqlState::NO_DATA_FOUND, format!("task {} is neither waiting nor kept", d))
                        .detail("A task can depend on tasks of its own tenant that are known.")
                        .hint("Enqueue what it depends on first, in the same tenant."));
                }
            }
        }
        Ok(match new.depends_mode.unwrap_or_default() {
            DependsMode::All => own,
            DependsMode::Any => None,
        })
    })
}

/// Whether a row with conditions can run now; in the pick's transaction.
pub fn evaluate(tasks: &Table<Tasks>, results: &Table<Results>, row: &Row<Tasks>) -> Answer {
    let Options { any, allow_failure, depends, .. } = Options::of(row);
    let mut open = Vec::new();
    let mut failed = None;
    let mut flux = false;
    for d in depends {
        if let Some(other) = unfinished(tasks, d) {
            flux |= other.in_flux;
            open.push(d);
            if !any {
                break;
            }
            continue;
        }
        let state = results.find(Results::ID.equals(d)).map(|r| r.letter(Results::STATE));
        // One that isn't kept any more counts as done: failures are kept longest.
        let met = state.is_none_or(|s| s == Ended::Done) || allow_failure;
        match (met, any) {
            (true, true) => return Answer::Ready,
            (true, false) => {}
            (false, false) => return Answer::Never(unmet(d, state.unwrap_or_default())),
            (false, true) => failed = Some(unmet(d, state.unwrap_or_default())),
        }
    }
    match (open.first(), failed) {
        (Some(_), _) if flux => Answer::Soon,
        (Some(first), _) if !any => Answer::Wait(*first),
        (Some(_), _) => Answer::WaitAny(open),
        (None, Some(failure)) => Answer::Never(failure),
        (None, None) => Answer::Ready,
    }
}

fn unmet(id: Id, state: Ended) -> Failure {
    Failure::new(SqlState::NEVER, format!("task {} that it depends on has {}", id, crate::task::document::ended_how(state)))
}

fn link_id(dependent: Id, of: Id) -> Id {
    dependent.derived(&of.bytes())
}

/// Lets rows wait: `(row, what for)`. Lost ones were changed meanwhile and are looked at again.
pub fn write_waits(tasks: &Table<Tasks>, row: &Row<Tasks>, answer: &Answer) {
    match answer {
        Answer::Wait(on) => {
            let _: Write = tasks.update(row, &[Tasks::STATE.to(Stored::Waiting), Tasks::WAITS_FOR.to(*on)]);
        }
        Answer::WaitAny(list) => {
            if tasks.update(row, &[Tasks::STATE.to(Stored::Waiting), Tasks::WAITS_FOR.null()]) == Write::Overtaken {
                return;
            }
            let id = row.get(Tasks::ID).unwrap_or_default();
            let id_text = id.to_string();
            for on in list {
                let link = link_id(id, *on);
                if tasks.find(Tasks::ID.equals(link)).is_some() {
                    continue;
                }
                let now = clock::now();
                tasks.insert(&[
                    Tasks::ID.to(link),
                    Tasks::HANDLER.to(row.get(Tasks::HANDLER).unwrap_or("")),
                    Tasks::STATE.to(Stored::Link),
                    Tasks::PRIORITY.to(0),
                    Tasks::ATTEMPTS.to(0),
                    Tasks::CRASHES.to(0),
                    Tasks::CREATED_AT.to(now),
                    Tasks::RUN_AT.to(now),
                    Tasks::NAME.to(id_text.as_str()),
                    Tasks::WAITS_FOR.to(*on),
                ]);
            }
        }
        _ => {}
    }
}

/// After the rows are written and committed: those whose end was missed are let go again.
pub fn look_again(tenant: &Tenant, tasks: &Table<Tasks>, waits: &[Id]) -> std::result::Result<bool, Failure> {
    let mut soon = false;
    for on in waits {
        match unfinished(tasks, *on) {
            Some(row) if row.in_flux => {
                release(tenant, tasks, *on)?;
                soon = true;
            }
            Some(_) => {}
            None => release(tenant, tasks, *on)?,
        }
    }
    Ok(soon)
}

/// Rows that wait for `key` now.
pub fn waiting_for(tasks: &Table<Tasks>, key: Id) -> Scan<'_, Tasks> {
    tasks.scan(&Tasks::WAITING, &[Tasks::WAITS_FOR.equals(key)])
}

/// The task `id` is final (its row is gone in this transaction): all that wait for it are looked at
/// by the next pick.
pub fn release(tenant: &Tenant, tasks: &Table<Tasks>, id: Id) -> std::result::Result<(), Failure> {
    let found: Vec<_> = transaction::with_latest_snapshot(|| waiting_for(tasks, id).collect());
    for row in found {
        if row.letter(Tasks::STATE) != Stored::Link {
            let_go(tenant, tasks, row, Some(id))?;
            continue;
        }
        let _: Write = tasks.delete(&row);
        let dependent = row.get(Tasks::NAME).and_then(Id::parse).unwrap_or_default();
        if let Some(row) = transaction::with_latest_snapshot(|| tasks.find(Tasks::ID.equals(dependent)))
            && row.letter(Tasks::STATE) == Stored::Waiting
        {
            let_go(tenant, tasks, row, None)?;
        }
    }
    Ok(())
}

/// When a row that is let go may run: a step of a chain can be asked to keep a distance from the one before.
fn due_again(tenant: &Tenant, tasks: &Table<Tasks>, row: &Row<Tasks>) -> std::result::Result<At, Failure> {
    let run_at = row.get(Tasks::RUN_AT).unwrap_or_default();
    if row.letter(Tasks::STATE) != Stored::Waiting {
        return Ok(run_at);
    }
    let Some(delay) = Options::of(row).delay else { return Ok(run_at) };
    let results = tenant.open(tenant.result, Access::Read)?;
    if matches!(transaction::with_latest_snapshot(|| evaluate(tasks, &results, row)), Answer::Never(_)) {
        // That it can't run any more is said at once.
        return Ok(run_at);
    }
    Ok(run_at.max(clock::now().saturating_add(delay).min(TIME_MAX)))
}

/// What puts it back among the rows that picks walk.
fn back<'a>(tenant: &Tenant, row: &Row<Tasks>, run_at: At) -> Vec<Set<'a, Tasks>> {
    let mut changes = Place::of(tenant, row.get(Tasks::QUEUE)).changes().to_vec();
    let later = run_at - row.get(Tasks::RUN_AT).unwrap_or_default();
    if later > Span::ZERO {
        changes.push(Tasks::RUN_AT.to(run_at));
        // Until when it may start counts from when it may run.
        changes.extend(row.get(Tasks::EXPIRES_AT).map(|e| Tasks::EXPIRES_AT.to(e.saturating_add(later).min(TIME_MAX))));
    }
    changes
}

/// Back among the rows that picks walk, whoever else is changing it. False: it doesn't wait for that any more.
pub fn let_go(tenant: &Tenant, tasks: &Table<Tasks>, mut row: Row<Tasks>, from: Option<Id>) -> std::result::Result<bool, Failure> {
    loop {
        let run_at = due_again(tenant, tasks, &row)?;
        if tasks.update(&row, &back(tenant, &row, run_at)) == Write::Done {
            let role = handler::find(tenant, row.get(Tasks::HANDLER).unwrap_or(""))?.map_or(tenant.owner, |h| h.run_as);
            if let Some(entry) = tenant.entry(role)? {
                wake::changed_row(entry, run_at);
            }
            return Ok(true);
        }
        let id = row.get(Tasks::ID).unwrap_or_default();
        match transaction::with_latest_snapshot(|| tasks.find(Tasks::ID.equals(id))) {
            Some(now) if matches!(now.letter(Tasks::STATE), Stored::Waiting | Stored::Gated) && now.get(Tasks::WAITS_FOR) == from => {
                row = now
            }
            _ => return Ok(false),
        }
    }
}
