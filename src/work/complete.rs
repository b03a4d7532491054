//! The end of an attempt: done, again later, or final; and everything else that moves a row from
//! "unfinished" to "finished". The fence that makes "nothing runs twice" true is here: exactly the
//! very row (id and incarnation) must go, and its result must be new; otherwise all of the
//! transaction, the handler's effects included, rolls back.

use crate::fanout::lines;
use crate::handler::{self, Handler};
use crate::postgres::caught::{Failure, Own};
use crate::postgres::clock;
use crate::postgres::column::Set;
use crate::postgres::relation::{Access, Table, Write};
use crate::postgres::row::Row;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::types::Jsonb;
use crate::pure::ids::Id;
use crate::pure::state::{AttemptEnd, Ended, FanoutState, Outcome, Stored};
use crate::pure::time::{At, Span};
use crate::schedules::follow;
use crate::shared::slot::Item;
use crate::shared::waiters;
use crate::task::document::TaskDocument;
use crate::task::end::{self, End, HISTORY, INTERRUPTIONS};
use crate::task::insert;
use crate::task::lookup;
use crate::task::new::NewTask;
use crate::task::options::Options;
use crate::task::place::Place;
use crate::task::rules::Rules;
use crate::tenant::Tenant;
use crate::tenant::columns::{Results, Tasks};
use crate::tenant::rights::Caller;
use crate::waits::members::{self, Gathered};
use crate::waits::{depend, gate, unique};
use crate::work::tell;
use serde_json::{Value as Json, json};

/// The task has ended, and its row has just been deleted in this transaction: writes its result, and
/// does all that its end brings about, which so commits with it.
pub fn end(tenant: &Tenant, tasks: &Table<Tasks>, row: &Row<Tasks>, end: &End, save: bool) -> Result<(), Failure> {
    lines::ended(tenant, row, end.state.into(), end.message())?;
    let flow = ended_as(tenant, tasks, row, end, save)?;
    end_flows(tenant, tasks, flow)?;
    let failed = if end.state == Ended::Quarantined { Ended::Failed } else { end.state };
    follow::ended(tenant, row, failed)
}

/// The task's condition isn't true: it ends without having run. Kept only where it is asked for,
/// because a schedule that looks every minute would fill the results with nothing.
pub fn skipped(tenant: &Tenant, item: &Item, save: Option<bool>) -> Result<(), Failure> {
    let table = tenant.open(tenant.task, Access::Write)?;
    let row = end::remove(&table, item)?;
    lines::ended(tenant, &row, FanoutState::Skipped, Some("only_if was not true"))?;
    let error = Some(json!({ "message": "only_if was not true" }));
    let end = End { state: Ended::Cancelled, attempts: item.attempts, error, ..End::default() };
    let flow = ended_as(tenant, &table, &row, &end, save == Some(true))?;
    end_flows(tenant, &table, flow)?;
    follow::skipped(tenant, &row)
}

/// The last member of this flow may have ended: then the flow has, and perhaps the flow that it is a member of. One after
/// the other, for however deep somebody has nested them.
fn end_flows(tenant: &Tenant, tasks: &Table<Tasks>, first: Option<Id>) -> Result<(), Failure> {
    let mut flow = first;
    while let Some(id) = flow {
        let Some(Gathered { row, result, error, save }) = members::count_down(tenant, tasks, id)? else { break };
        let state = if error.is_some() { Ended::Failed } else { Ended::Done };
        let end = End { state, result: Some(&result), error, ..End::default() };
        lines::ended(tenant, &row, end.state.into(), end.message())?;
        flow = ended_as(tenant, tasks, &row, &end, save)?;
        follow::ended(tenant, &row, end.state)?;
    }
    Ok(())
}

/// What the end of one task brings about, but for its line of tq_fanouts, its flow, which is returned, and what follows its
/// schedule.
fn ended_as(tenant: &Tenant, tasks: &Table<Tasks>, row: &Row<Tasks>, end: &End, save: bool) -> Result<Option<Id>, Failure> {
    if save {
        let results = tenant.open(tenant.result, Access::Write)?;
        end::record(&results, row, end);
    }
    let id = row.get(Tasks::ID).unwrap_or_default();
    waiters::ended(tenant.oid, id, row.get(Tasks::GROUP_ID));
    depend::release(tenant, tasks, id)?;
    let handler = handler::find(tenant, row.get(Tasks::HANDLER).unwrap_or(""))?;
    gate::release(tenant, tasks, row, handler.as_deref())?;
    // The note of a quarantined task keeps its key.
    if end.state != Ended::Quarantined {
        unique::keep(tasks, row);
    }
    call_hooks(tenant, tasks, row, end)?;
    Ok(row.get(Tasks::PARENT_ID))
}

/// Enqueues the task's hooks: tasks of their own, whose argument is the task as it ended. They are
/// enqueued in the name of who enqueued it.
fn call_hooks(tenant: &Tenant, tasks: &Table<Tasks>, row: &Row<Tasks>, end: &End) -> Result<(), Failure> {
    let options = Options::of(row);
    let of_outcome = match end.state {
        Ended::Done => options.on_success,
        Ended::Failed | Ended::Quarantined => options.on_failure,
        _ => None,
    };
    for name in of_outcome.into_iter().chain(options.hook) {
        let new = NewTask {
            handler: name.clone(),
            args: Some(TaskDocument::ending(tenant, row, end).into_argument()),
            name: row.text(Tasks::NAME).map(|n| format!("{n}: hook")).filter(|n| n.len() <= 1024),
            ..NewTask::default()
        };
        let caller =
            Caller { name: row.text(Tasks::ENQUEUED_BY).unwrap_or_default(), superuser: row.get(Tasks::BY_SUPERUSER).unwrap_or(false) };
        let handler = handler::find(tenant, &name)?;
        insert::insert(tenant, tasks, &caller, &new, Id::fresh(), None, handler.as_deref())?;
    }
    Ok(())
}

/// The columns of a finished task's row as an unfinished one's: to run again.
pub fn unfinished_again<'a>(tenant: &Tenant, row: &'a Row<Results>) -> Vec<Set<'a, Tasks>> {
    let mut columns = vec![
        Tasks::ID.as_in(row, Results::ID),
        Tasks::HANDLER.as_in(row, Results::HANDLER),
        Tasks::PRIORITY.as_in(row, Results::PRIORITY),
        Tasks::ATTEMPTS.as_in(row, Results::ATTEMPTS),
        Tasks::CREATED_AT.as_in(row, Results::CREATED_AT),
        Tasks::RUN_AT.as_in(row, Results::RUN_AT),
        Tasks::ARGS.as_in(row, Results::ARGS),
        Tasks::NAME.as_in(row, Results::NAME),
        Tasks::GROUP_ID.as_in(row, Results::GROUP_ID),
        Tasks::QUEUE.as_in(row, Results::QUEUE),
        Tasks::UNIQUE_KEY.as_in(row, Results::UNIQUE_KEY),
        Tasks::LOCK_KEY.as_in(row, Results::LOCK_KEY),
        Tasks::LIMIT_KEY.as_in(row, Results::LIMIT_KEY),
        Tasks::PARENT_ID.as_in(row, Results::PARENT_ID),
        Tasks::SCHEDULE.as_in(row, Results::SCHEDULE),
        Tasks::SCHEDULED_FOR.as_in(row, Results::SCHEDULED_FOR),
        Tasks::ENQUEUED_BY.as_in(row, Results::ENQUEUED_BY),
        Tasks::BY_SUPERUSER.as_in(row, Results::BY_SUPERUSER),
        Tasks::OPTIONS.as_in(row, Results::OPTIONS),
        Tasks::META.as_in(row, Results::META),
        Tasks::HISTORY.as_in(row, Results::HISTORY),
        Tasks::CRASHES.to(0),
    ];
    columns.extend(Place::of(tenant, row.get(Results::QUEUE)).changes());
    columns
}

/// A successful attempt: in the handler's transaction, after its deferred work.
pub fn done(tenant: &Tenant, item: &Item, started_at: At, result: &Jsonb, save: bool) -> Result<(), Failure> {
    let table = tenant.open(tenant.task, Access::Write)?;
    let row = end::remove(&table, item)?;
    tell::done(tenant, &row, item.attempts + 1, started_at, result);
    end(
        tenant,
        &table,
        &row,
        &End { state: Ended::Done, attempts: item.attempts + 1, started_at: Some(started_at), result: Some(result), ..End::default() },
        save,
    )
}

/// The failure of an attempt that its timeout ended.
pub fn took_too_long(timeout_ms: i64) -> Failure {
    Failure::new(SqlState::QUERY_CANCELED, format!("the attempt took longer than its timeout of {timeout_ms} ms"))
}

/// What became of a failed attempt.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    RetryAt(At),
    Failed,
    /// The row is gone or another incarnation: nothing to record.
    Overtaken,
}

impl Verdict {
    /// As it is counted; None: it isn't.
    pub fn outcome(&self) -> Option<Outcome> {
        match self {
            Verdict::RetryAt(_) => Some(Outcome::Retry),
            Verdict::Failed => Some(Outcome::Failed),
            Verdict::Overtaken => None,
        }
    }
}

/// What is made of an attempt that was not done: whoever runs attempts makes one, and nothing else decides how it goes on.
pub struct Judgement {
    pub failure: Failure,
    pub how: AttemptEnd,
    /// What tq_retry asked for; None: as the policy says.
    pub delay: Option<Span>,
    /// There is no other attempt, whatever the policy says.
    pub last: bool,
}

impl Judgement {
    pub fn of(how: AttemptEnd, failure: Failure) -> Judgement {
        Judgement { failure, how, delay: None, last: false }
    }
}

/// A failed attempt: in a transaction of its own.
pub fn failed(tenant: &Tenant, item: &Item, handler: Option<&Handler>, started_at: At, judgement: &Judgement) -> Result<Verdict, Failure> {
    let Judgement { failure, how, delay, last } = judgement;
    let table = tenant.open(tenant.task, Access::Write)?;
    let Some(row) = lookup::find(&table, item) else { return Ok(Verdict::Overtaken) };
    let rules = Rules::of(tenant, &row, handler);
    let attempts = item.attempts + 1;
    let now = clock::now();
    let history = with_entry(row.get(Tasks::HISTORY), end::attempt_document(attempts, *how, started_at, failure));
    let exhausted = rules.max_attempts > 0 && attempts >= rules.max_attempts;
    let mut superseded = None;
    let mut reclaimed = None;
    let mut again = !last && !exhausted && rules.policy.retries(failure.sqlstate.as_str());
    if again {
        match unique::reclaim(tenant, &table, &row) {
            Ok(own) => reclaimed = own,
            Err(failure) if failure.is(Own::Superseded) => superseded = Some(failure),
            Err(failure) => return Err(failure),
        }
        again = superseded.is_none();
    }
    if again {
        let wait = delay.unwrap_or_else(|| rules.policy.delay(attempts as u32, item.id.low() ^ item.id.high()));
        let at = now.saturating_add(wait.max(Span::ZERO));
        let history = Jsonb::from_value(history);
        let mut changes = vec![Tasks::ATTEMPTS.to(attempts), Tasks::RUN_AT.to(at), Tasks::HISTORY.to(&history)];
        if let Some((key, options)) = &reclaimed {
            changes.extend([Tasks::UNIQUE_KEY.to(key.as_str()), Tasks::OPTIONS.to(options.as_ref())]);
        }
        if table.update(&row, &changes) == Write::Overtaken {
            return Ok(Verdict::Overtaken);
        }
        tell::attempt_failed(tenant, &row, attempts, started_at, failure, false);
        // Until then others may pass its gates.
        gate::release(tenant, &table, &row, handler)?;
        return Ok(Verdict::RetryAt(at));
    }
    if table.delete(&row) == Write::Overtaken {
        return Ok(Verdict::Overtaken);
    }
    tell::attempt_failed(tenant, &row, attempts, started_at, failure, true);
    let mut error = end::error_document(failure);
    if let Some(why) = &superseded {
        error["hint"] = format!("It is not tried again: {}.", why.message).into();
    }
    end(
        tenant,
        &table,
        &row,
        &End { state: Ended::Failed, attempts, started_at: Some(started_at), error: Some(error), history: Some(history), ..End::default() },
        true,
    )?;
    Ok(Verdict::Failed)
}

/// What became of an interrupted attempt.
pub enum Interrupted {
    /// So many in a row by now: noted with the task, not counted.
    Again(i64),
    /// Once too often: a failed attempt, with what was said of it.
    Counted(Failure, Verdict),
    Overtaken,
}

/// An attempt that somebody cancelled without a word for its task: in a transaction of its own. It isn't counted, so that
/// an administrator's pg_cancel_backend costs a task nothing; but a task that makes that happen each time would go on for ever.
pub fn interrupted(
    tenant: &Tenant,
    item: &Item,
    handler: Option<&Handler>,
    started_at: At,
    failure: &Failure,
) -> Result<Interrupted, Failure> {
    let table = tenant.open(tenant.task, Access::Write)?;
    let Some(row) = lookup::find(&table, item) else { return Ok(Interrupted::Overtaken) };
    let attempt = item.attempts + 1;
    let mut entries = match row.get(Tasks::HISTORY) {
        Some(Json::Array(entries)) => entries,
        _ => vec![],
    };
    let before = entries.last().and_then(|last| interruptions(last, attempt)).unwrap_or(0);
    let times = before + 1;
    if times >= INTERRUPTIONS {
        let failure = Failure {
            hint: Some("What is cancelled from outside ends earlier than its task; tq_cancel() ends the task.".into()),
            ..Failure::new(
                SqlState::QUERY_CANCELED,
                format!("{times} attempts were interrupted one after the other, the last one at: {}", failure.message),
            )
        };
        let judgement = Judgement::of(AttemptEnd::Interrupted, failure);
        let verdict = failed(tenant, item, handler, started_at, &judgement)?;
        return Ok(Interrupted::Counted(judgement.failure, verdict));
    }
    if before > 0 {
        // One entry for all of them: the attempts before are not to be pushed out of the history.
        entries.pop();
    }
    let noted = Failure {
        detail: Some(format!("Interrupted {times} times in a row; it is not counted, and runs again.")),
        hint: Some(format!("At {INTERRUPTIONS} in a row it counts as a failed attempt.")),
        ..failure.clone()
    };
    let mut entry = end::attempt_document(attempt, AttemptEnd::Interrupted, started_at, &noted);
    entry["times"] = times.into();
    let history = Jsonb::from_value(with_entry(Some(entries.into()), entry));
    match table.update(&row, &[Tasks::HISTORY.to(&history)]) {
        Write::Done => Ok(Interrupted::Again(times)),
        Write::Overtaken => Ok(Interrupted::Overtaken),
    }
}

/// How often in a row this attempt was interrupted, if that is what the entry of a task's history says.
pub fn interruptions(entry: &Json, attempt: i32) -> Option<i64> {
    (entry["attempt"].as_i64() == Some(attempt.into())).then(|| entry["times"].as_i64()).flatten()
}

/// How often in a row the present attempt of this task was interrupted, by what its row says.
pub fn interruptions_of(row: &Row<Tasks>) -> i64 {
    let attempt = row.get(Tasks::ATTEMPTS).unwrap_or(0) + 1;
    match row.get(Tasks::HISTORY) {
        Some(Json::Array(entries)) => entries.last().and_then(|last| interruptions(last, attempt)).unwrap_or(0),
        _ => 0,
    }
}

/// Whether this very incarnation is there, now that what its attempt did is rolled back. If it was gone for
/// the attempt, the handler itself had deleted it.
pub fn is_unchanged(tenant: &Tenant, item: &Item) -> Result<bool, Failure> {
    let table = tenant.open(tenant.task, Access::Read)?;
    Ok(lookup::find(&table, item).is_some())
}

/// What is said of that.
pub fn deleted_itself() -> Failure {
    Failure {
        hint: Some("tq_fail() ends a task from within.".into()),
        ..Failure::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, "the handler has deleted or cancelled its own task")
    }
}

/// An unfinished task becomes final without an attempt: cancelled, expired, or failed for good.
pub fn finish_unrun(tenant: &Tenant, item: &Item, state: Ended, failure: Option<&Failure>) -> Result<(), Failure> {
    let table = tenant.open(tenant.task, Access::Write)?;
    let row = end::remove(&table, item)?;
    tell::ended_unrun(tenant, &row, state, failure);
    end(tenant, &table, &row, &End { state, attempts: item.attempts, error: failure.map(end::error_document), ..End::default() }, true)
}

/// Parks rows whose handler can't be called now; back to `q` by `unpark`. Their handlers' names.
pub fn park(tenant: &Tenant, items: &[Item]) -> Result<Vec<String>, Failure> {
    let table = tenant.open(tenant.task, Access::Write)?;
    let mut names = Vec::new();
    for item in items {
        if let Some(row) = lookup::find(&table, item).filter(|row| row.letter(Tasks::STATE).is_runnable()) {
            // Lost: another executor of the tenant came upon it too, or it has ended.
            if table.update(&row, &[Tasks::STATE.to(Stored::Held), Tasks::WAITS_FOR.null()]) == Write::Done {
                let name = row.get(Tasks::HANDLER).unwrap_or("");
                // It stood in place at its gates, perhaps for others who were put aside behind it.
                gate::release(tenant, &table, &row, handler::find(tenant, name)?.as_deref())?;
                names.push(name.to_string());
            }
        }
    }
    Ok(names)
}

fn with_entry(history: Option<Json>, entry: Json) -> Json {
    let mut entries = match history {
        Some(Json::Array(entries)) => entries,
        _ => vec![],
    };
    entries.push(entry);
    let surplus = entries.len().saturating_sub(HISTORY);
    entries.drain(..surplus);
    Json::Array(entries)
}
