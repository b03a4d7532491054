//! The end of an attempt: done, again later, or final; and everything else that moves a row from
//! "unfinished" to "finished". The fence that makes "nothing runs twice" true is here: exactly the
//! very row (id and incarnation) must go, and its result must be new; otherwise all of the
//! transaction, the handler's effects included, rolls back.

use crate::fanout::lines;
use crate::handler::{self, Handler};
use crate::postgres::caught::{Failure, Own};
use crate::postgres::column::Set;
use crate::postgres::relation::{Access, Table, Write};
use crate::postgres::row::Row;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::types::Jsonb;
use crate::postgres::{clock, row_lock, sandbox, transaction};
use crate::pure::ids::Id;
use crate::pure::state::{AttemptEnd, Ended, FanoutState, Outcome, Stored};
use crate::pure::time::{At, Span};
use crate::schedules::{follow, last};
use crate::shared::slot::Item;
use crate::shared::{waiters, wake};
use crate::task;
use crate::task::current::Another;
use crate::task::document::TaskDocument;
use crate::task::end::{self, End, HISTORY, INTERRUPTIONS, SNOOZES};
use crate::task::insert;
use crate::task::lookup;
use crate::task::new::{NewTask, TIME_MAX};
use crate::task::options::Options;
use crate::task::place::Place;
use crate::task::rules::{self, Rules};
use crate::tenant::Tenant;
use crate::tenant::columns::{Results, Tasks};
use crate::tenant::rights::Caller;
use crate::waits::members::{self, Gathered};
use crate::waits::{depend, gate, unique};
use crate::work::{ask, retention, tell};
use serde_json::{Value as Json, json};

/// The task has ended, and its row has just been deleted in this transaction: writes its result, and
/// does all that its end brings about, which so commits with it.
pub fn end(tenant: &Tenant, tasks: &Table<Tasks>, row: &Row<Tasks>, end: &End, save: bool) -> Result<(), Failure> {
    let flow = end_but_for_its_flow(tenant, tasks, row, end, save)?;
    end_flows(tenant, tasks, flow, 1)
}

/// The same of members of one flow, which so is counted down once, however many they are.
pub fn end_members<'e>(
    tenant: &Tenant,
    tasks: &Table<Tasks>,
    flow: Id,
    rows: &[Row<Tasks>],
    mut end_of: impl FnMut(&Row<Tasks>) -> End<'e>,
) -> Result<(), Failure> {
    for row in rows {
        end_but_for_its_flow(tenant, tasks, row, &end_of(row), true)?;
    }
    end_flows(tenant, tasks, Some(flow).filter(|_| !rows.is_empty()), rows.len())
}

fn end_but_for_its_flow(tenant: &Tenant, tasks: &Table<Tasks>, row: &Row<Tasks>, end: &End, save: bool) -> Result<Option<Id>, Failure> {
    lines::ended(tenant, row, end.state.into(), end.message())?;
    let flow = ended_as(tenant, tasks, row, end, save)?;
    let failed = if end.state == Ended::Quarantined { Ended::Failed } else { end.state };
    follow::ended(tenant, row, failed)?;
    if !save {
        last::unsaved(tenant, row, end.state)?;
    }
    Ok(flow)
}

/// A task that waits for its retry isn't tried again: what its last attempt said is its end. In the transaction of a fire
/// time, which counts it in the schedule's row itself. False: somebody is just changing it.
pub fn give_up(tenant: &Tenant, tasks: &Table<Tasks>, row: &Row<Tasks>) -> Result<bool, Failure> {
    if !row_lock::try_lock(tasks, row) || tasks.delete(row) == Write::Overtaken {
        return Ok(false);
    }
    let error = end::last_error(row.get(Tasks::HISTORY), "It is not tried again: the next fire time of its schedule has come.");
    tell::ended_unrun(tenant, row, Ended::Failed, Some(&error));
    let end = End { state: Ended::Failed, attempts: row.get(Tasks::ATTEMPTS).unwrap_or(0), error: Some(error), ..End::default() };
    lines::ended(tenant, row, end.state.into(), end.message())?;
    let flow = ended_as(tenant, tasks, row, &end, true)?;
    end_flows(tenant, tasks, flow, 1)?;
    Ok(true)
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
    end_flows(tenant, &table, flow, 1)?;
    follow::skipped(tenant, &row)
}

/// So many members of this flow have ended: perhaps the last one, then the flow has, and perhaps the flow that it is a member
/// of. One after the other, for however deep somebody has nested them.
pub(super) fn end_flows(tenant: &Tenant, tasks: &Table<Tasks>, first: Option<Id>, members: usize) -> Result<(), Failure> {
    let (mut flow, mut members) = (first, members);
    while let Some(id) = flow {
        let Some(gathered) = members::count_down(tenant, tasks, id, members)? else { break };
        members = 1;
        flow = gathered_as(tenant, tasks, gathered)?;
    }
    Ok(())
}

/// The end of one flow; the flow that it is a member of.
fn gathered_as(tenant: &Tenant, tasks: &Table<Tasks>, gathered: Gathered) -> Result<Option<Id>, Failure> {
    let Gathered { row, started_at, result, error, save } = gathered;
    let state = if error.is_some() { Ended::Failed } else { Ended::Done };
    let end = End { state, started_at, result: result.as_ref(), error, ..End::default() };
    tell::flow_ended(tenant, &row, &end);
    lines::ended(tenant, &row, end.state.into(), end.message())?;
    let outer = ended_as(tenant, tasks, &row, &end, save)?;
    follow::ended(tenant, &row, end.state)?;
    let outcome = if state == Ended::Done { Outcome::Done } else { Outcome::Failed };
    let began = started_at.or(row.get(Tasks::RUN_AT)).unwrap_or_default();
    wake::flow_ended(tenant.oid, &task::counted(&row), outcome, began);
    Ok(outer)
}

/// A flow without members: it has waited for others, or for nobody.
pub fn end_empty_flow(tenant: &Tenant, tasks: &Table<Tasks>, id: Id) -> Result<(), Failure> {
    transaction::see_own_writes();
    let Some(row) = transaction::with_latest_snapshot(|| tasks.find(Tasks::ID.equals(id))) else { return Ok(()) };
    let item = lookup::item_of(&row);
    end_flow(tenant, &item)
}

/// What keeps this flow waiting has ended, and it has no members to wait for.
pub fn end_flow(tenant: &Tenant, item: &Item) -> Result<(), Failure> {
    let tasks = tenant.open(tenant.task, Access::Write)?;
    let row = end::remove(&tasks, item)?;
    let outer = gathered_as(tenant, &tasks, members::gather(tenant, &tasks, row)?)?;
    end_flows(tenant, &tasks, outer, 1)
}

/// What the end of one task brings about, but for its line of tq_fanouts, its flow, which is returned, and what follows its
/// schedule.
fn ended_as(tenant: &Tenant, tasks: &Table<Tasks>, row: &Row<Tasks>, end: &End, save: bool) -> Result<Option<Id>, Failure> {
    let options = Options::of(row);
    if save {
        let results = tenant.open(tenant.result, Access::Write)?;
        end::record(&results, row, end);
        if options.result_ttl.is_some() {
            retention::brief(tenant);
        }
    }
    let id = row.get(Tasks::ID).unwrap_or_default();
    waiters::ended(tenant.oid, id, row.get(Tasks::GROUP_ID));
    depend::ended(tenant, tasks, id, end.state, save)?;
    depend::forget_links(tenant, tasks, row, end.state == Ended::Cancelled && depend::is_unmet(end.error.as_ref()))?;
    let handler = handler::find(tenant, row.get(Tasks::HANDLER).unwrap_or(""))?;
    gate::release(tenant, tasks, row, handler.as_deref())?;
    // The note of a quarantined task keeps its key.
    if end.state != Ended::Quarantined {
        unique::keep(tasks, row);
    }
    call_hooks(tenant, tasks, row, options, end)?;
    Ok(row.get(Tasks::PARENT_ID))
}

/// Enqueues the task's hooks: tasks of their own, whose argument is the task as it ended. They are
/// enqueued in the name of who enqueued it.
fn call_hooks(tenant: &Tenant, tasks: &Table<Tasks>, row: &Row<Tasks>, options: Options, end: &End) -> Result<(), Failure> {
    let too_large = end.error.as_ref().filter(|error| members::is_too_large(row, error));
    let of_outcome = match end.state {
        Ended::Done => options.on_success,
        Ended::Failed | Ended::Quarantined => {
            if let (Some(name), Some(error)) = (options.on_success, too_large) {
                // All that it is called for was done, and yet nobody can call it.
                let hook = hook_of(tenant, tasks, row, name, None)?;
                fail_unrun(tenant, tasks, hook, error.clone())?;
            }
            options.on_failure
        }
        _ => None,
    };
    for name in of_outcome.into_iter().chain(options.hook) {
        match TaskDocument::ending(tenant, row, end).into_argument() {
            Ok(argument) => {
                hook_of(tenant, tasks, row, name, Some(argument))?;
            }
            // What the task has done stands all the same.
            Err(error) => {
                let hook = hook_of(tenant, tasks, row, name, None)?;
                fail_unrun(tenant, tasks, hook, end::error_document(&error.into()))?;
            }
        }
    }
    Ok(())
}

/// Enqueues one of a task's hooks; its id.
fn hook_of(tenant: &Tenant, tasks: &Table<Tasks>, row: &Row<Tasks>, handler: String, args: Option<Jsonb>) -> Result<Id, Failure> {
    let new = NewTask {
        args,
        name: row.text(Tasks::NAME).map(|n| format!("{n}: hook")).filter(|n| n.len() <= 1024),
        handler,
        ..NewTask::default()
    };
    let caller =
        Caller { name: row.text(Tasks::ENQUEUED_BY).unwrap_or_default(), superuser: row.get(Tasks::BY_SUPERUSER).unwrap_or(false) };
    let handler = handler::find(tenant, &new.handler)?;
    let id = Id::fresh();
    insert::insert(tenant, tasks, &caller, &new, id, None, handler.as_deref())?;
    Ok(id)
}

/// A task of this very transaction whose argument can't be made ends with the reason why.
fn fail_unrun(tenant: &Tenant, tasks: &Table<Tasks>, id: Id, error: Json) -> Result<(), Failure> {
    let found = transaction::with_latest_snapshot(|| tasks.find(Tasks::ID.equals(id)));
    let Some(row) = found.filter(|row| tasks.delete(row) == Write::Done) else { return Ok(()) };
    end(tenant, tasks, &row, &End { state: Ended::Failed, error: Some(error), ..End::default() }, true)
}

/// The columns of a finished task's row as an unfinished one's: to run again.
pub fn unfinished_again<'a>(place: Place, row: &'a Row<Results>) -> Vec<Set<'a, Tasks>> {
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
    columns.extend(place.changes());
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
    /// Whether an attempt that was judged so has failed: one that is only put off has not.
    pub fn is_failure_of(&self, judgement: &Judgement) -> bool {
        match self {
            Verdict::RetryAt(_) => judgement.how != AttemptEnd::Snoozed,
            Verdict::Failed => true,
            Verdict::Overtaken => false,
        }
    }
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
    pub again: Option<Another>,
    /// There is no other attempt, whatever the policy says.
    pub last: bool,
}

impl Judgement {
    pub fn of(how: AttemptEnd, failure: Failure) -> Judgement {
        Judgement { failure, how, again: None, last: false }
    }
}

/// When the next attempt is due.
fn due_again(tenant: &Tenant, item: &Item, rules: &Rules, asked: Option<&Another>) -> At {
    let (now, attempt) = (clock::now(), item.attempts + 1);
    match asked.and_then(|again| again.delay) {
        Some(delay) => tenant.after(now, delay).clamp(now, TIME_MAX),
        None => now.saturating_add(rules.policy.delay(attempt as u32, rules.max_attempts as u32, item.id.low() ^ item.id.high())),
    }
}

/// A failed attempt, or one that is put off: in a transaction of its own.
pub fn failed(tenant: &Tenant, item: &Item, handler: Option<&Handler>, started_at: At, judgement: &Judgement) -> Result<Verdict, Failure> {
    let Judgement { failure, how, again, last } = judgement;
    let table = tenant.open(tenant.task, Access::Write)?;
    let Some(row) = lookup::find(&table, item) else { return Ok(Verdict::Overtaken) };
    let rules = Rules::of(tenant, &row, handler);
    let mut options = Options::of(&row);
    let snoozes = options.snoozes.unwrap_or(0);
    let snoozed = *how == AttemptEnd::Snoozed && snoozes < SNOOZES;
    let attempt = item.attempts + 1;
    let history = Jsonb::from_value(match snoozed {
        true => with_snooze(row.get(Tasks::HISTORY), end::attempt_document(attempt, *how, started_at, failure)),
        // Once too often.
        false if *how == AttemptEnd::Snoozed => {
            let detail = Some(format!("It has been put off {SNOOZES} times without an attempt; from then on each one counts."));
            let failure = Failure { detail, ..failure.clone() };
            with_entry(row.get(Tasks::HISTORY), end::attempt_document(attempt, AttemptEnd::Retry, started_at, &failure))
        }
        false => with_entry(row.get(Tasks::HISTORY), end::attempt_document(attempt, *how, started_at, failure)),
    });
    let exhausted = rules.max_attempts > 0 && attempt >= rules.max_attempts;
    let retries =
        snoozed || !last && !exhausted && (again.is_some() || rules.policy.retries(failure.sqlstate.as_str(), failure.class.as_deref()));
    let reclaim = || last::refuse_behind(tenant, &table, &row).and_then(|()| unique::reclaim(tenant, &table, &mut options));
    let superseded = match retries.then(reclaim) {
        Some(Ok(key)) => {
            let at = due_again(tenant, item, &rules, again.as_ref());
            let mut changes = vec![Tasks::RUN_AT.to(at), Tasks::HISTORY.to(&history)];
            let args = again.as_ref().and_then(|again| again.args.as_ref()).map(Jsonb::of);
            if let Some(args) = &args {
                // No other code than a superuser's gives a superuser's task its arguments.
                let superuser = row.get(Tasks::BY_SUPERUSER) == Some(true) && sandbox::is_superuser(sandbox::current_user());
                changes.extend([Tasks::ARGS.to(args), Tasks::BY_SUPERUSER.to(superuser)]);
                options = ask::options_again(tenant, options, false, true)?;
            }
            if snoozed {
                options.snoozes = Some(snoozes + 1);
                // Another incarnation, though hardly another time.
                changes.push(Tasks::CREATED_AT.to(item.created_at + Span::MICROSECOND));
                changes.extend(rules::expires(&row, handler).map(|e| Tasks::EXPIRES_AT.to(rules::expires_at(tenant, at, e))));
            } else {
                changes.push(Tasks::ATTEMPTS.to(attempt));
            }
            let options = (key.is_some() || args.is_some() || snoozed).then(|| options.column());
            changes.extend(key.as_deref().map(|key| Tasks::UNIQUE_KEY.to(key)));
            changes.extend(options.as_ref().map(|options| Tasks::OPTIONS.to(options.as_ref())));
            if table.update(&row, &changes) == Write::Overtaken {
                return Ok(Verdict::Overtaken);
            }
            if !snoozed {
                tell::attempt_failed(tenant, &row, attempt, started_at, failure, false);
            }
            // Until then others may pass its gates.
            gate::release(tenant, &table, &row, handler)?;
            return Ok(Verdict::RetryAt(at));
        }
        Some(Err(failure)) if failure.is(Own::Superseded) => Some(failure),
        Some(Err(failure)) => return Err(failure),
        None => None,
    };
    if table.delete(&row) == Write::Overtaken {
        return Ok(Verdict::Overtaken);
    }
    tell::attempt_failed(tenant, &row, attempt, started_at, failure, true);
    let mut error = end::error_document(failure);
    if let Some(why) = &superseded {
        error["hint"] = format!("It is not tried again: {}.", why.message).into();
    }
    end(
        tenant,
        &table,
        &row,
        &End {
            state: Ended::Failed,
            attempts: attempt,
            started_at: Some(started_at),
            error: Some(error),
            history: Some(history.value()),
            ..End::default()
        },
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
    tell::ended_unrun(tenant, &row, state, failure.map(end::error_document).as_ref());
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

/// The history of a task that its worker gives back, with why.
pub fn with_release(row: &Row<Tasks>, item: &Item, started_at: At, reason: &str) -> Json {
    let failure = Failure::new(SqlState::SUCCESSFUL_COMPLETION, reason);
    with_snooze(row.get(Tasks::HISTORY), end::attempt_document(item.attempts + 1, AttemptEnd::Snoozed, started_at, &failure))
}

/// One entry for all snoozes of an attempt: the attempts before are not to be pushed out of the history.
fn with_snooze(history: Option<Json>, mut entry: Json) -> Json {
    let mut entries = match history {
        Some(Json::Array(entries)) => entries,
        _ => vec![],
    };
    let is_same = |last: &Json| last["outcome"] == entry["outcome"] && last["attempt"] == entry["attempt"];
    if let Some(last) = entries.pop_if(|last| is_same(last)) {
        let times = last["times"].as_i64().unwrap_or(1) + 1;
        entry["times"] = times.into();
        entry["detail"] = format!("Put off {times} times in a row.").into();
    }
    with_entry(Some(entries.into()), entry)
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
