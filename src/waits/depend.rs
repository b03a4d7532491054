//! Tasks that wait for other tasks.
//!
//! A waiting row names one task that it waits for (`waits_for`), the first of its list that isn't final. Whoever ends
//! that one lets it be looked at again, in the same transaction; the next pick runs it, lets it wait for the next of its
//! list, or ends it. What it knows of each of the others is in a link (link.rs), which is there from the beginning. A
//! task that the same transaction has enqueued just before needs none: it can't end unseen.
//!
//! Who waits and who ends may cross: the row is written first, then the other one is looked at again. Either the end sees
//! the waiting row, or the second look sees the end; and how it ended, its link or its result says.
//!
//! With `depends_mode => 'any'` a row waits for several: it is the links that the end of each of them finds it by.

use crate::handler::{self, Handler};
use crate::postgres::caught::Failure;
use crate::postgres::column::Set;
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table, Write};
use crate::postgres::row::Row;
use crate::postgres::scan::Scan;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{clock, transaction};
use crate::pure::choice::{DependsMode, Settled};
use crate::pure::ids::Id;
use crate::pure::state::{Ended, Stored};
use crate::pure::time::At;
use crate::shared::{endings, wake};
use crate::task::new::{NewTask, TIME_MAX};
use crate::task::options::Options;
use crate::task::place::{self, Place};
use crate::task::queue::Queue;
use crate::task::rules;
use crate::tenant::Tenant;
use crate::tenant::columns::{Results, Tasks};
use crate::waits::link::{self, Link};
use std::collections::HashSet;

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

/// What a new task's row waits for from the start, and the links that are written with it.
#[derive(Default)]
pub struct Waits {
    /// A task that this very transaction has enqueued: that one can't end before our commit.
    pub on: Option<Id>,
    pub links: Vec<Link>,
}

/// The row of an unfinished task.
fn unfinished(tasks: &Table<Tasks>, id: Id) -> Option<Row<Tasks>> {
    tasks.find(Tasks::ID.equals(id)).filter(|r| r.letter(Tasks::STATE).is_task())
}

/// Before the task is written: are the dependencies there?
pub fn check(queue: &Queue, new: &NewTask, id: Id) -> Result<Waits> {
    if new.depends_on.len() > MAX {
        return Err(Error::limit(format!("depends_on names {} tasks", new.depends_on.len()))
            .detail(format!("A task can depend on {MAX} tasks."))
            .hint("Make them a group with tq_group, and depend on the group."));
    }
    transaction::see_own_writes();
    let results = queue.tenant.open(queue.tenant.result, Access::Read)?;
    let all = new.depends_mode.unwrap_or_default() == DependsMode::All;
    let mut seen = HashSet::new();
    let mut waits = Waits::default();
    transaction::with_latest_snapshot(|| {
        for d in new.depends_on.iter().copied().filter(|d| seen.insert(*d)) {
            if d == id {
                return Err(Error::invalid("a task cannot depend on itself"));
            }
            match unfinished(&queue.table, d) {
                Some(row) if row.own && all && waits.on.is_none() => waits.on = Some(d),
                Some(row) => waits.links.push(Link { of: d, unsaved: is_unsaved(&queue.tenant, &row)? }),
                None => {
                    let Some(row) = results.find(Results::ID.equals(d)) else { return Err(unknown(d)) };
                    if row.letter(Results::STATE) != Ended::Done && new.allow_failure != Some(true) {
                        waits.links.push(Link { of: d, unsaved: false });
                    }
                }
            }
        }
        Ok(())
    })?;
    Ok(waits)
}

fn unknown(id: Id) -> Error {
    Error::new(SqlState::NO_DATA_FOUND, format!("task {id} is neither waiting nor kept"))
        .detail("A task can depend on tasks of its own tenant that are known.")
        .hint("Enqueue what it depends on first, in the same tenant.")
}

/// Whether a task leaves no result if it ends well, and does if it doesn't.
fn is_unsaved(tenant: &Tenant, row: &Row<Tasks>) -> Result<bool> {
    let options = Options::of(row);
    if row.has(Tasks::PARENT_ID) || options.only_if.is_some() {
        return Ok(false);
    }
    let of_handler = || Ok::<_, Failure>(handler::find(tenant, row.get(Tasks::HANDLER).unwrap_or(""))?.and_then(|h| h.save));
    let save = match options.save {
        Some(save) => Some(save),
        None => of_handler()?,
    };
    Ok(!save.unwrap_or(tenant.save_limit >= 0))
}

/// What a dependent knows of one of its tasks.
enum Known {
    /// Not final. True: somebody is just changing it.
    Open(bool),
    Is(Settled),
}

fn known(tasks: &Table<Tasks>, results: &Table<Results>, dependent: Id, of: Id) -> Known {
    let link = link::find(tasks, dependent, of);
    if let Some(ended) = link.as_ref().and_then(link::ended) {
        return Known::Is(ended);
    }
    if let Some(row) = unfinished(tasks, of) {
        return Known::Open(row.in_flux);
    }
    if let Some(row) = results.find(Results::ID.equals(of)) {
        return Known::Is(row.letter(Results::STATE).into());
    }
    match link {
        Some(link) if !link::is_unsaved(&link) => Known::Is(Settled::Gone),
        // Its end has let the dependent go, or would have left a result.
        _ => Known::Is(Settled::Done),
    }
}

/// Whether a row with conditions can run now; in the pick's transaction.
pub fn evaluate(tasks: &Table<Tasks>, results: &Table<Results>, row: &Row<Tasks>) -> Answer {
    let Options { any, allow_failure, depends, .. } = Options::of(row);
    let id = row.get(Tasks::ID).unwrap_or_default();
    let mut open = Vec::new();
    let mut failed = None;
    let mut flux = false;
    for d in depends {
        match known(tasks, results, id, d) {
            Known::Open(changing) => {
                flux |= changing;
                open.push(d);
            }
            Known::Is(ended) if ended == Settled::Done || allow_failure => {
                if any {
                    return Answer::Ready;
                }
            }
            Known::Is(ended) if !any => return Answer::Never(unmet(d, ended)),
            Known::Is(ended) => failed = Some(unmet(d, ended)),
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

/// The same for whoever decides what becomes of the row: that it can never run is not said while one of the others is just
/// ending, who doesn't see its link yet.
pub fn look(tasks: &Table<Tasks>, results: &Table<Results>, row: &Row<Tasks>) -> Answer {
    let answer = evaluate(tasks, results, row);
    let in_flux = |id: &Id| unfinished(tasks, *id).is_some_and(|row| row.in_flux);
    match answer {
        Answer::Never(_) if Options::of(row).depends.iter().any(in_flux) => Answer::Soon,
        answer => answer,
    }
}

fn unmet(id: Id, ended: Settled) -> Failure {
    let how = match ended {
        Settled::Done => "ended",
        Settled::Failed => "failed",
        Settled::Cancelled => "been cancelled",
        Settled::Expired => "expired",
        Settled::Quarantined => "been quarantined",
        Settled::Gone => "vanished: its record is gone",
    };
    Failure::new(SqlState::NEVER, format!("task {id} that it depends on has {how}"))
}

/// Whether a task was cancelled because of another that it depends on: by the error of its result.
pub fn is_unmet(error: Option<&serde_json::Value>) -> bool {
    error.and_then(|error| error["sqlstate"].as_str()) == Some(SqlState::NEVER.as_str())
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
            for on in list {
                link::write_if_missing(tasks, row, *on, None);
            }
        }
        _ => {}
    }
}

/// After the rows are written and committed: those whose end was missed are let go again.
pub fn look_again(tenant: &Tenant, tasks: &Table<Tasks>, waits: &[Id]) -> std::result::Result<bool, Failure> {
    let mut soon = false;
    for on in waits {
        let flux = match unfinished(tasks, *on) {
            Some(row) if !row.in_flux => continue,
            row => row.is_some(),
        };
        soon |= flux;
        for row in collect(tasks, *on) {
            if row.letter(Tasks::STATE) != Stored::Link {
                let_go(tenant, tasks, row, Some(*on))?;
                continue;
            }
            let one_of_several = |row: &Row<Tasks>| row.letter(Tasks::STATE) == Stored::Waiting && !row.has(Tasks::WAITS_FOR);
            if let Some(row) = dependent(tasks, &row).filter(one_of_several) {
                let_go(tenant, tasks, row, None)?;
            }
        }
    }
    Ok(soon)
}

/// Rows that wait for `key` now.
pub fn waiting_for(tasks: &Table<Tasks>, key: Id) -> Scan<'_, Tasks> {
    tasks.scan(&Tasks::WAITING, &[Tasks::WAITS_FOR.equals(key)])
}

/// The same, links last: what is done about one may change its dependent, which waits itself.
fn collect(tasks: &Table<Tasks>, key: Id) -> Vec<Row<Tasks>> {
    let mut rows: Vec<_> = transaction::with_latest_snapshot(|| waiting_for(tasks, key).collect());
    rows.sort_by_key(|row| row.letter(Tasks::STATE) == Stored::Link);
    rows
}

/// The unfinished task that a link is of.
fn dependent(tasks: &Table<Tasks>, link: &Row<Tasks>) -> Option<Row<Tasks>> {
    transaction::with_latest_snapshot(|| unfinished(tasks, link::dependent_of(link)))
}

/// Notes in a link how the task has ended; its dependent may have ended while that was waited for.
fn settle(tasks: &Table<Tasks>, link: &Row<Tasks>, ended: Settled) {
    link::settle(tasks, link, ended);
    if dependent(tasks, link).is_none() {
        link::drop(tasks, link);
    }
}

/// The task `id` is final (its row is gone in this transaction): all that wait for it are looked at by the next pick.
/// `kept`: its result says how it ended.
pub fn ended(tenant: &Tenant, tasks: &Table<Tasks>, id: Id, how: Ended, kept: bool) -> std::result::Result<(), Failure> {
    for row in collect(tasks, id) {
        if row.letter(Tasks::STATE) == Stored::Link {
            link_ended(tenant, tasks, row, how, kept)?;
        } else {
            waiting_ended(tenant, tasks, row, id, how, kept)?;
        }
    }
    Ok(())
}

/// What the row waits for has ended.
fn waiting_ended(
    tenant: &Tenant,
    tasks: &Table<Tasks>,
    row: Row<Tasks>,
    id: Id,
    how: Ended,
    kept: bool,
) -> std::result::Result<(), Failure> {
    // A step's result stays as long as its chain is unfinished.
    if how != Ended::Done && !row.has(Tasks::PARENT_ID) && !Options::of(&row).allow_failure {
        link::write_if_missing(tasks, &row, id, (!kept).then(|| how.into()));
    }
    let handler = row.text(Tasks::HANDLER);
    let_go(tenant, tasks, row, Some(id))?;
    tell_executors(tenant, handler.as_deref(), how)
}

/// What never may run is ended by an executor, and none looks at workers' tasks unasked.
fn tell_executors(tenant: &Tenant, handler: Option<&str>, how: Ended) -> std::result::Result<(), Failure> {
    if how != Ended::Done
        && handler::find(tenant, handler.unwrap_or(""))?.is_some_and(|handler| handler.is_external())
        && let Some(entry) = tenant.entry(tenant.owner)?
    {
        endings::untakeable(entry);
    }
    Ok(())
}

/// One of several that a row depends on has ended.
fn link_ended(tenant: &Tenant, tasks: &Table<Tasks>, link: Row<Tasks>, how: Ended, kept: bool) -> std::result::Result<(), Failure> {
    let Some(row) = dependent(tasks, &link) else {
        // Over already. Where it was cancelled because of this one it can be found again by the link.
        if how == Ended::Done || !kept {
            let _: Write = tasks.delete(&link);
        }
        return Ok(());
    };
    let Options { any, allow_failure, .. } = Options::of(&row);
    let met = how == Ended::Done || allow_failure;
    if met || !kept {
        settle(tasks, &link, if met { Settled::Done } else { how.into() });
    }
    // One that ended well changes nothing for a row that waits for another one as well.
    if row.letter(Tasks::STATE) != Stored::Waiting || met && !any {
        return if met { Ok(()) } else { tell_executors(tenant, row.text(Tasks::HANDLER).as_deref(), how) };
    }
    let waits_for = row.get(Tasks::WAITS_FOR);
    if let Some(on) = waits_for {
        // Nothing tells it any more of how that one ends.
        link::write_if_missing(tasks, &row, on, None);
    }
    let handler = row.text(Tasks::HANDLER);
    let_go(tenant, tasks, row, waits_for)?;
    tell_executors(tenant, handler.as_deref(), how)
}

/// The result of the task `id` goes, or has gone: how it ended is noted with all that depend on it.
pub fn forgotten(tenant: &Tenant, tasks: &Table<Tasks>, id: Id, how: Settled) -> std::result::Result<(), Failure> {
    for row in collect(tasks, id) {
        if row.letter(Tasks::STATE) == Stored::Link {
            match dependent(tasks, &row) {
                Some(_) => settle(tasks, &row, how),
                None => {
                    let _: Write = tasks.delete(&row);
                }
            }
        } else if row.letter(Tasks::STATE) == Stored::Waiting {
            link::write_if_missing(tasks, &row, id, Some(how));
            let_go(tenant, tasks, row, Some(id))?;
        }
    }
    Ok(())
}

/// Tasks that depend on this one and have not been told that it ended well.
pub fn dependents(tasks: &Table<Tasks>, of: Id) -> Vec<Id> {
    collect(tasks, of).iter().filter(|row| row.letter(Tasks::STATE) == Stored::Link).map(link::dependent_of).collect()
}

/// Whether nothing that is known by now keeps a task from running that was cancelled because of those that it depends on.
pub fn may_come_back(tasks: &Table<Tasks>, results: &Table<Results>, row: &Row<Results>) -> bool {
    let Options { any, depends, .. } = Options::of_result(row);
    let id = row.get(Results::ID).unwrap_or_default();
    let hopeful = |d: &Id| matches!(known(tasks, results, id, *d), Known::Open(_) | Known::Is(Settled::Done));
    transaction::with_latest_snapshot(|| if any { depends.iter().any(hopeful) } else { depends.iter().all(hopeful) })
}

/// The task is over, or another one takes its id: what it knew of those that it depends on goes. `unmet`: it was
/// cancelled because of one of them.
pub fn forget_links(tenant: &Tenant, tasks: &Table<Tasks>, row: &Row<Tasks>, unmet: bool) -> Result<()> {
    if row.has(Tasks::WAITS) && !Options::of(row).depends.is_empty() {
        let results = if unmet { Some(tenant.open(tenant.result, Access::Read)?) } else { None };
        link::forget(tasks, row.get(Tasks::ID).unwrap_or_default(), results.as_ref());
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
    Ok(run_at.max(tenant.after(clock::now(), delay).min(TIME_MAX)))
}

/// What puts it back among the rows that picks walk.
fn back<'a>(tenant: &Tenant, row: &Row<Tasks>, place: Place, run_at: At, handler: Option<&Handler>) -> Vec<Set<'a, Tasks>> {
    let mut changes = place.changes().to_vec();
    if run_at > row.get(Tasks::RUN_AT).unwrap_or_default() {
        changes.push(Tasks::RUN_AT.to(run_at));
    }
    if row.letter(Tasks::STATE) == Stored::Waiting
        && let Some(expires) = rules::expires(row, handler)
    {
        changes.push(Tasks::EXPIRES_AT.to(rules::expires_at(tenant, run_at.max(clock::now()), expires)));
    }
    changes
}

/// When what the row has waited for was over, as far as results say so.
pub fn met(results: &Table<Results>, row: &Row<Tasks>) -> Option<At> {
    let Options { any, allow_failure, depends, .. } = Options::of(row);
    let ended = depends.iter().filter_map(|d| results.find(Results::ID.equals(*d)));
    let met =
        ended.filter(|r| !any || allow_failure || r.letter(Results::STATE) == Ended::Done).filter_map(|r| r.get(Results::FINISHED_AT));
    if any { met.min() } else { met.max() }
}

/// Whether it is too late to start it. What waits for others may run from when they are over; until then it is not too late.
pub fn is_expired(tenant: &Tenant, tasks: &Table<Tasks>, row: &Row<Tasks>, at: At) -> std::result::Result<bool, Failure> {
    if row.get(Tasks::EXPIRES_AT).is_none_or(|until| until > at) {
        return Ok(false);
    }
    if !row.has(Tasks::WAITS) {
        return Ok(true);
    }
    let results = tenant.open(tenant.result, Access::Read)?;
    if !matches!(evaluate(tasks, &results, row), Answer::Ready) {
        return Ok(false);
    }
    // It may have been let go without a note of when: nobody had looked at it while it waited.
    let since = met(&results, row).max(row.get(Tasks::RUN_AT)).max(row.get(Tasks::CREATED_AT)).unwrap_or_default();
    let handler = handler::find(tenant, row.get(Tasks::HANDLER).unwrap_or(""))?;
    Ok(rules::expires(row, handler.as_deref()).is_some_and(|expires| rules::expires_at(tenant, since, expires) <= at))
}

/// Back among the rows that picks walk, whoever else is changing it. False: it doesn't wait for that any more.
pub fn let_go(tenant: &Tenant, tasks: &Table<Tasks>, mut row: Row<Tasks>, from: Option<Id>) -> std::result::Result<bool, Failure> {
    loop {
        let run_at = due_again(tenant, tasks, &row)?;
        let handler = handler::find(tenant, row.get(Tasks::HANDLER).unwrap_or(""))?;
        let place = Place::of_row(tenant, &row, row.get(Tasks::QUEUE), handler.as_deref())?;
        let changes = back(tenant, &row, place, run_at, handler.as_deref());
        if tasks.update(&row, &changes) == Write::Done {
            let until = if row.letter(Tasks::STATE) == Stored::Waiting { rules::expires(&row, handler.as_deref()) } else { None };
            place::expires(tenant, place.state, until.map(|expires| rules::expires_at(tenant, run_at.max(clock::now()), expires)))?;
            if let Some(entry) = tenant.entry(place::role(tenant, place.state, handler.as_deref()))? {
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
