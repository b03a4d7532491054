//! Finished tasks out again, in bounded batches, by the executor that has just worked for the
//! tenant: nothing walks all tenants, and a tenant that finishes nothing costs nothing.
//!
//! Kept are the `save_limit` successes that ended last (0 = all) and everything younger than `result_ttl`; failures for
//! `failure_ttl`. With `save_limit` -1 successes aren't saved in the first place, as in Django-Q.
//!
//! A pass looks at nothing that is too young for all of these, and that is most of what there is: results are read in the
//! order of their ends. Only a task that says itself how long its result stays (`result_ttl`) can let it go sooner; its end
//! leaves word of that ([`brief`]).

use crate::postgres::caught::{self, Failure};
use crate::postgres::column::{Column, Text};
use crate::postgres::relation::{Access, Table, Write};
use crate::postgres::row::Row;
use crate::postgres::scan::From;
use crate::postgres::{clock, shmem, transaction};
use crate::pure::choice::SavePer;
use crate::pure::ids::Id;
use crate::pure::period::Period;
use crate::pure::state::Ended;
use crate::pure::time::{At, Span};
use crate::schedules::last::LastTasks;
use crate::settings;
use crate::shared::{self, Shared};
use crate::task::options::Options;
use crate::tenant::Tenant;
use crate::tenant::columns::{Results, Tasks};
use crate::waits::results as kept;
use std::cell::LazyCell;
use std::collections::{HashMap, HashSet};

/// So long after its end a result stays while its group has unfinished members: a label that always has some would keep
/// everything.
const GROUP: Span = Span::of_days(7);
/// The old end of a table.
const START: From = From { time: At::UNSET, id: Id::NIL };
/// Rows that one transaction looks at.
const ROWS: usize = 2000;

/// After a batch: once in a while, a pass.
pub fn after_batch(shared: &Shared, index: u32, tenant: &Tenant) {
    let entry = &shared.entries[index as usize];
    let every = settings::retention_every();
    if every == 0 || entry.finished_since_retention.load() < every {
        return;
    }
    entry.finished_since_retention.store(0);
    let from = From { time: entry.retention_from.load(), id: entry.retention_from_id.load() };
    if entry.brief_until.load() == At::UNSET {
        // What ended before somebody listened for it may have said anything.
        entry.brief_until.fetch_max(clock::now());
    }
    match transaction::run(|| pass(tenant, from, entry.brief_until.load())) {
        Ok(next) => {
            let next = next.unwrap_or(START);
            entry.retention_from.store(next.time);
            entry.retention_from_id.store(next.id);
            if next != START {
                // Not at the end yet: go on after a tenth of the usual.
                entry.finished_since_retention.store(every - every / 10);
            }
        }
        Err(failure) => caught::log_failure(&format!("{}: old results could not be removed", caught::one_line(&tenant.name)), &failure),
    }
}

/// The task of this row ends now, and says itself how long its result stays.
pub fn brief(tenant: &Tenant) {
    let Some(shared) = shared::get() else { return };
    for index in shared.entries_of(shmem::my_database(), tenant.oid) {
        shared.entries[index as usize].brief_until.fetch_max(clock::now());
    }
}

/// What ended after this is too young to go, whatever became of it.
fn horizon(tenant: &Tenant, now: At) -> At {
    let shortest = tenant.result_ttl.at_least().min(tenant.failure_ttl.at_least());
    At::of_micros(now.micros().saturating_sub(shortest.micros().max(0)))
}

/// Groups of which members are unfinished: whoever waits for so many of them, or for all, is to find them together.
#[derive(Default)]
struct OpenGroups(HashMap<String, bool>);

impl OpenGroups {
    /// Where results are kept by group, that says how many of each.
    fn need(&mut self, tenant: &Tenant, tasks: &Table<Tasks>, row: &Row<Results>, now: At) -> bool {
        if tenant.save_limit_per == Some(SavePer::Group) || now - row.get(Results::FINISHED_AT).unwrap_or(now) > GROUP {
            return false;
        }
        let Some(group) = row.text(Results::GROUP_ID) else { return false };
        let is_open = |group: &String| {
            tasks.scan(&Tasks::BY_GROUP, &[Tasks::GROUP_ID.equals(group.as_str())]).any(|row| row.letter(Tasks::STATE).is_task())
        };
        *self.0.entry(group).or_insert_with_key(is_open)
    }
}

/// A table's rows from the one that ended last on. A table that was made before there was an index for that has them by id,
/// which is by time as long as nobody chooses ids.
fn newest_first(results: &Table<Results>) -> impl Iterator<Item = Row<Results>> {
    let index = if results.has(&Results::BY_END) { &Results::BY_END } else { &Results::BY_ID };
    results.scan(index, &[]).backward()
}

/// Successes beyond the newest `limit` of each handler, name or group.
fn surplus_of(results: &Table<Results>, column: Column<Results, Text>, limit: i32) -> HashSet<Id> {
    let mut kept: HashMap<Option<String>, i32> = HashMap::new();
    let mut surplus = HashSet::new();
    for row in newest_first(results).filter(|row| row.letter(Results::STATE) == Ended::Done) {
        let n = kept.entry(row.text(column)).or_default();
        *n += 1;
        if *n > limit {
            surplus.extend(row.get(Results::ID));
        }
        if surplus.len() >= ROWS {
            break;
        }
    }
    surplus
}

fn place(row: &Row<Results>) -> From {
    From { time: row.get(Results::FINISHED_AT).unwrap_or_default(), id: row.get(Results::ID).unwrap_or_default() }
}

fn handler_ttl(tenant: &Tenant, row: &Row<Results>) -> Option<Period> {
    crate::handler::find(tenant, row.get(Results::HANDLER).unwrap_or("")).ok().flatten().and_then(|h| h.result_ttl)
}

/// Removes what nobody wants any more among the next rows after `from`; where to go on, None = from the old end again. After
/// `brief_until` nothing has ended that says itself how long it stays.
fn pass(tenant: &Tenant, from: From, brief_until: At) -> Result<Option<From>, Failure> {
    // Never wait for a lock here: retention is nobody's hurry.
    let Some(results) = tenant.try_open(tenant.result, Access::Write)? else { return Ok(Some(from)) };
    let Some(tasks) = tenant.try_open(tenant.task, Access::Write)? else { return Ok(Some(from)) };
    let now = clock::now();
    let per = match tenant.save_limit_per {
        None | Some(SavePer::None) => None,
        Some(SavePer::Group) => Some(Results::GROUP_ID),
        Some(SavePer::Name) => Some(Results::NAME),
        Some(SavePer::Handler) => Some(Results::HANDLER),
    };
    // The last of the newest `save_limit` successes; what ended before it may go. None: all are kept, or `surplus` says. Both
    // are looked for when something is old enough.
    let boundary = LazyCell::new(|| match tenant.save_limit {
        limit if limit > 0 && per.is_none() => {
            let newest = newest_first(&results).filter(|row| row.letter(Results::STATE) == Ended::Done);
            newest.skip(limit as usize - 1).map(|row| place(&row)).next()
        }
        limit if limit < 0 => Some(From { time: At::NEVER, id: Id::LAST }),
        _ => None,
    });
    let surplus = LazyCell::new(|| match per.filter(|_| tenant.save_limit > 0) {
        Some(per) => surplus_of(&results, per, tenant.save_limit),
        None => HashSet::new(),
    });
    let by_end = results.has(&Results::BY_END);
    let is_before = |a: &From, b: &From| if by_end { a.time < b.time } else { a.id < b.id };
    let is_surplus = |row: &Row<Results>| {
        boundary.as_ref().is_some_and(|boundary| is_before(&place(row), boundary))
            || surplus.contains(&row.get(Results::ID).unwrap_or_default())
    };
    let old = |row: &Row<Results>| {
        let finished_at = row.get(Results::FINISHED_AT).unwrap_or(now);
        let is_over = |ttl: Period| tenant.after(finished_at, ttl) < now;
        match row.letter(Results::STATE) {
            Ended::Done => match Options::of_result(row).result_ttl {
                // The task said itself how long.
                Some(ttl) => is_over(ttl),
                // Its handler says at least how long.
                None => is_over(tenant.result_ttl) && handler_ttl(tenant, row).is_none_or(is_over) && is_surplus(row),
            },
            _ => is_over(tenant.failure_ttl),
        }
    };
    let mut seen = 0;
    let mut last = START;
    let mut victims = Vec::new();
    let mut open = OpenGroups::default();
    let next = match by_end {
        true => results.scan(&Results::BY_END, &[Results::FINISHED_AT.above(from.time)]),
        false => results.scan(&Results::BY_ID, &[Results::ID.above(from.id)]),
    };
    // By id they are in no order of age.
    let until = if by_end { horizon(tenant, now).max(brief_until) } else { At::NEVER };
    let is_young = |row: &Row<Results>| row.get(Results::FINISHED_AT).is_some_and(|end| end > until);
    for row in next.take_while(|row| !is_young(row)).take(ROWS) {
        seen += 1;
        last = place(&row);
        let needed = |open: &mut OpenGroups| {
            kept::may_be_needed(&tasks, &results, &row) || kept::is_busy(&tasks, &row) || open.need(tenant, &tasks, &row, now)
        };
        if old(&row) && !needed(&mut open) {
            victims.push(row);
        }
    }
    let mut last_tasks = LastTasks::of(tenant);
    for row in victims {
        // Lost: somebody has just deleted it, or lets it run again.
        if last_tasks.keep(&row, &results)? {
            let _: Write = kept::delete(tenant, &tasks, &results, &row)?;
        }
    }
    Ok((seen == ROWS).then_some(last))
}
