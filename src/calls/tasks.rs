//! What one can ask of tasks in SQL: tq_async and its kin.

use crate::calls::changes::id_argument;
use crate::postgres::call::{Args, Ret};
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::Access;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::types::Jsonb;
use crate::postgres::{clock, latch, memory, shmem, transaction};
use crate::pure::choice::Named;
use crate::pure::ids::Id;
use crate::pure::state::{Ended, State};
use crate::pure::time::{At, Span};
use crate::shared::waiters::{self, Waiting};
use crate::shared::{self, wake};
use crate::task::current::{self, Another, Current};
use crate::task::document::{TaskDocument, time_json};
use crate::task::lookup::{self, Found};
use crate::task::new::{self, NewTask, TqAsync};
use crate::task::queue::Queue;
use crate::tenant::columns::{Results, Tasks};
use crate::tenant::rights::{self, Right};
use crate::tenant::{self, Tenant};
use crate::waits::idle::{self, Asked};
use crate::waits::why;
use crate::work::again::Again;
use crate::work::cancel::Cancel;
use crate::work::{enqueue, own_session};
use crate::{handler, settings, sql_functions};
use serde_json::{Value as Json, json};
use std::rc::Rc;
use std::time::Instant;

fn choice<C: Named>(args: &Args, n: usize, what: &str) -> Result<Option<C>> {
    Ok(args.text(n).map(|word| C::one_of(what, &word)).transpose()?)
}

/// tq_async(…)
fn enqueue(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"SELECT tq_async()");
    let new = NewTask {
        handler: args.text(TqAsync::HANDLER).ok_or_else(|| {
            Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "handler is null").hint("Pass the name of a registered handler.")
        })?,
        args: args.json(TqAsync::ARGS),
        name: args.text(TqAsync::NAME),
        group_id: args.text(TqAsync::GROUP_ID),
        queue: args.text(TqAsync::QUEUE),
        priority: args.int(TqAsync::PRIORITY),
        run_at: args.time(TqAsync::RUN_AT),
        delay: args.period(TqAsync::DELAY),
        timeout: args.interval(TqAsync::TIMEOUT),
        max_attempts: args.int(TqAsync::MAX_ATTEMPTS),
        retry: args.setting(TqAsync::RETRY),
        expires: args.period(TqAsync::EXPIRES),
        save: args.bool(TqAsync::SAVE),
        result_ttl: args.period(TqAsync::RESULT_TTL),
        meta: args.json(TqAsync::META).map(|j| j.value()),
        id: args.uuid(TqAsync::ID),
        lock: args.text(TqAsync::LOCK),
        limit_key: args.text(TqAsync::LIMIT_KEY),
        unique_key: args.text(TqAsync::UNIQUE_KEY),
        unique_until: choice(args, TqAsync::UNIQUE_UNTIL, "unique_until")?,
        on_conflict: choice(args, TqAsync::ON_CONFLICT, "on_conflict")?,
        depends_on: args.uuids(TqAsync::DEPENDS_ON).unwrap_or_default(),
        depends_mode: choice(args, TqAsync::DEPENDS_MODE, "depends_mode")?,
        allow_failure: args.bool(TqAsync::ALLOW_FAILURE),
        on_success: args.text(TqAsync::ON_SUCCESS),
        on_failure: args.text(TqAsync::ON_FAILURE),
        hook: args.text(TqAsync::HOOK),
        ..NewTask::default()
    };
    let queue = Queue::open(args.text(TqAsync::TENANT).as_deref())?;
    Ok(Ret::Uuid(if args.bool(TqAsync::SYNC) == Some(true) {
        own_session::enqueue_and_run(&queue, &new)?
    } else {
        enqueue::add(&queue, &new)?
    }))
}

/// tq_async_many(tasks, tenant)
fn enqueue_many(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"SELECT tq_async_many()");
    let Some(tasks) = args.json(0) else { return Err(Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "tasks is null")) };
    let Some(tasks) = tasks.elements() else {
        return Err(Error::invalid("tasks is not an array").hint("Pass [{\"handler\": \"…\", \"args\": {…}}, …]."));
    };
    let count = tasks.len();
    let queue = Queue::open(args.text(1).as_deref())?;
    memory::require(count * size_of::<Id>());
    let mut ids = Vec::with_capacity(count);
    let scratch = memory::Scratch::new();
    for (n, object) in tasks.enumerate() {
        let add = || {
            let new = new::task_object(&object)?;
            if new.handler.is_empty() {
                return Err(Error::invalid("the task has no handler"));
            }
            if new.sync { own_session::enqueue_and_run(&queue, &new) } else { enqueue::add(&queue, &new) }
        };
        ids.push(scratch.run(add).map_err(|e| {
            let detail = e.detail.clone().map_or(String::new(), |d| format!(" {d}"));
            e.detail(format!("Task {} of {count}.{detail}", n + 1))
        })?);
        if queue_sees(&object) {
            transaction::see_own_writes();
        }
    }
    Ok(Ret::Uuids(ids))
}

/// A task with an id of its own, a key or dependencies must see the ones before it.
pub(crate) fn queue_sees(object: &Json) -> bool {
    ["id", "unique_key", "depends_on"].iter().any(|k| object.get(k).is_some_and(|i| !i.is_null()))
}

/// tq_cancel(id, running, tenant)
fn cancel(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_cancel()");
    let id = id_argument(args)?;
    let tenant = rights::resolve(args.text(2).as_deref(), &[Right::Operate])?;
    let cancel = Cancel::open(tenant, args.bool(1) != Some(false))?;
    Ok(Ret::Bool(cancel.task(id)?))
}

/// tq_requeue(id, run_at, args, reset_attempts, tenant): a finished or quarantined task again.
fn requeue(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_requeue()");
    let id = id_argument(args)?;
    let tenant = rights::resolve(args.text(4).as_deref(), rights::to_change(args.is_given(2)))?;
    let again = Again::open(tenant.clone(), args.time(1), args.json(2), args.bool(3).unwrap_or(true))?;
    let back = again.task(id)?;
    if !back {
        idle::tell(&tenant, id, Asked::Again)?;
    }
    Ok(Ret::Bool(back))
}

/// Whether this session may wait now.
pub(crate) fn check_wait(wait: Span) -> Result<()> {
    if wait.is_negative() {
        return Err(Error::invalid("wait is negative").hint("0 does not wait; the longest wait is tenant_q.max_wait."));
    }
    if wait > Span::ZERO {
        if current::current().is_some() {
            return Err(Error::state("a task cannot wait for another task").hint("Let it end, and the other one enqueue what follows."));
        }
        if transaction::has_frozen_snapshot() {
            return Err(Error::new(
                SqlState::ACTIVE_SQL_TRANSACTION,
                "waiting is not possible in a REPEATABLE READ or SERIALIZABLE transaction",
            )
            .detail("Such a transaction would never see the task end.")
            .hint("Wait in a READ COMMITTED transaction."));
        }
    }
    Ok(())
}

/// Waits until the task is finished or `wait` is over.
fn wait_for(tenant: &Rc<Tenant>, id: Id, wait: Span) -> Result<Found> {
    check_wait(wait)?;
    let tasks = tenant.open(tenant.task, Access::Read)?;
    let results = tenant.open(tenant.result, Access::Read)?;
    let mut found = lookup::look_up(&tasks, &results, id);
    if matches!(found, Found::Nothing) && wake::any_enqueued() {
        // tq_result(tq_async(…)): this very statement's own.
        transaction::see_own_writes();
        found = lookup::look_up(&tasks, &results, id);
    }
    if wait > Span::ZERO
        && let Found::Unfinished(row) = &found
    {
        if row.own {
            return Err(Error::state("the task was enqueued by this very transaction, which has not committed")
                .detail("It starts after the commit, so waiting here would never end.")
                .hint("COMMIT first, then wait."));
        }
        let deadline = Instant::now() + wait.duration().min(settings::max_wait());
        let Some(s) = shared::get() else { return Ok(found) };
        let waiting = Waiting::for_task(s, id);
        loop {
            found = lookup::look_up(&tasks, &results, id);
            let left = deadline.saturating_duration_since(Instant::now());
            if !matches!(found, Found::Unfinished(_)) || left.is_zero() {
                break;
            }
            latch::wait(Some(left.min(waiters::pause(&waiting))));
        }
    }
    if matches!(found, Found::Finished(_)) && shared::get().is_some() && !shmem::in_recovery() {
        // Its commit may have been asynchronous: what is told must not be lost again.
        transaction::flush_all();
    }
    Ok(found)
}

fn unknown(id: Id) -> Error {
    Error::new(SqlState::NO_DATA_FOUND, format!("task {} is neither waiting nor kept", id))
        .detail("It is unknown to this tenant, was not saved, or has been removed by retention.")
}

/// tq_result(id, wait, propagate, tenant)
fn result(args: &Args) -> Result<Ret> {
    let id = id_argument(args)?;
    let tenant = rights::resolve(args.text(3).as_deref(), &[Right::Read])?;
    let row = match wait_for(&tenant, id, args.interval(1).unwrap_or_default())? {
        Found::Nothing => return Err(unknown(id)),
        Found::Unfinished(_) => return Ok(Ret::Null),
        Found::Finished(row) => row,
    };
    match row.letter(Results::STATE).seen() {
        State::Done => Ok(Ret::Document(row.document(Results::RESULT).unwrap_or_else(Jsonb::null))),
        state => outcome(state, row.get(Results::ERROR), args.bool(2)),
    }
}

/// How a task that didn't end well answers.
fn outcome(state: State, error: Option<Json>, propagate: Option<bool>) -> Result<Ret> {
    let message = error.as_ref().and_then(|e| e.get("message")).and_then(Json::as_str).unwrap_or(state.name()).to_string();
    if propagate == Some(false) {
        return Ok(Ret::Json(Json::String(message)));
    }
    let what = match state {
        State::Failed => "the task has failed",
        State::Cancelled => "the task was cancelled",
        State::Expired => "the task expired before it was started",
        _ => "the task is quarantined",
    };
    let mut raised =
        Error::new(SqlState::TASK_FAILED, what).hint("propagate => false returns the message instead; tq_fetch shows the whole task.");
    if let Some(error) = &error {
        let sqlstate = error.get("sqlstate").and_then(Json::as_str).map_or(String::new(), |s| format!(" ({s})"));
        raised = raised.detail(format!("{message}{sqlstate}"));
    }
    Err(raised)
}

/// tenant_q.fetch(id, wait, tenant): an array of the task's document, or an empty one.
fn fetch(args: &Args) -> Result<Ret> {
    let id = id_argument(args)?;
    let tenant = rights::resolve(args.text(2).as_deref(), &[Right::Read])?;
    let document = match wait_for(&tenant, id, args.interval(1).unwrap_or_default())? {
        Found::Nothing => return Ok(Ret::Json(json!([]))),
        Found::Unfinished(row) => why::describe(&tenant, &row, clock::now()).into_row(),
        Found::Finished(row) => TaskDocument::finished(&tenant, &row).into_row(),
    };
    let too_large = |error: Error| error.hint("tq_tasks and tq_results have each column by itself.");
    Ok(Ret::Document(document.and_then(|document| Jsonb::array(&[document])).map_err(too_large)?))
}

/// tq_find(name, tenant)
fn find(args: &Args) -> Result<Ret> {
    let name = args.text(0).ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "name is null"))?;
    let tenant = rights::resolve(args.text(1).as_deref(), &[Right::Read])?;
    let tasks = tenant.open(tenant.task, Access::Read)?;
    let results = tenant.open(tenant.result, Access::Read)?;
    let newest = transaction::with_latest_snapshot(|| {
        let unfinished = tasks.scan(&Tasks::BY_NAME, &[Tasks::NAME.equals(&name)]);
        let finished = results.scan(&Results::BY_NAME, &[Results::NAME.equals(&name)]);
        let unfinished = unfinished.filter(|row| row.letter(Tasks::STATE).is_task());
        let unfinished = unfinished.map(|row| (row.get(Tasks::CREATED_AT), row.get(Tasks::ID)));
        unfinished.chain(finished.map(|row| (row.get(Results::CREATED_AT), row.get(Results::ID)))).max()
    });
    Ok(newest.and_then(|(_, id)| id).map_or(Ret::Null, Ret::Uuid))
}

/// tenant_q.current(): what runs in this session, as a document; NULL outside of a task.
fn current(_args: &Args) -> Result<Ret> {
    let Some(c) = current::current() else { return Ok(Ret::Null) };
    Ok(Ret::Json(json!({
        "id": c.id,
        "tenant": c.tenant,
        "handler": c.handler,
        "attempt": c.attempt,
        "max_attempts": c.max_attempts,
        "schedule": c.schedule,
        "scheduled_for": time_json(c.scheduled_for),
        "deadline": time_json(c.deadline),
        "meta": c.meta,
    })))
}

fn inside(what: &str) -> Result<Current> {
    current::current().ok_or_else(|| Error::state(format!("{what} is for handlers, and no task runs in this session")))
}

/// tq_retry(delay, message, count, args): doesn't return.
fn retry(args: &Args) -> Result<Ret> {
    let current = inside("tq_retry")?;
    let new = NewTask {
        delay: args.period(0),
        args: if args.declares(3) { args.json(3) } else { None },
        pass: current.pass,
        ..NewTask::default()
    };
    new.check()?;
    if new.args.is_some() {
        if current.each {
            return Err(Error::state("args can't be given for a task that has several arguments to work on")
                .detail("It is a chunk of an iteration, whose handler is called once for each.")
                .hint("Leave args out, or iterate without chunk."));
        }
        let tenant = tenant::resolve(Some(&current.tenant))?;
        let handler = handler::require(&tenant, &current.handler)?;
        enqueue::fit(&handler, &new, handler.code_at_enqueue(&tenant).as_ref())?;
    }
    let counts = if args.declares(2) { args.bool(2) } else { None };
    let call = current::Call::Retry(Another { delay: new.delay, counts: counts.unwrap_or(true), args: new.args.map(|args| args.value()) });
    let sqlstate = call.sqlstate();
    current::note_call(call);
    Err(Error::new(sqlstate, args.message(1).unwrap_or_else(|| "the handler asked for another attempt".into())))
}

/// tq_fail(message): doesn't return.
fn fail(args: &Args) -> Result<Ret> {
    inside("tq_fail")?;
    current::note_call(current::Call::Fail);
    Err(Error::new(current::Call::Fail.sqlstate(), args.message(0).unwrap_or_else(|| "the handler gave up".into())))
}

/// tenant_q.attempts(id, tenant): what is remembered of each attempt.
fn attempts(args: &Args) -> Result<Ret> {
    let id = id_argument(args)?;
    let tenant = rights::resolve(args.text(1).as_deref(), &[Right::Read])?;
    let history = match wait_for(&tenant, id, Span::ZERO)? {
        Found::Nothing => return Err(unknown(id)),
        Found::Unfinished(row) => {
            let mut entries = match row.get(Tasks::HISTORY) {
                Some(Json::Array(h)) => h,
                _ => vec![],
            };
            // Who ended with it wrote nothing down.
            let ends = crate::calls::problems::ends_of(&tenant, id);
            if ends > 0 {
                let message = crate::calls::problems::ends_text(ends);
                entries.push(json!({ "attempt": row.get(Tasks::ATTEMPTS).unwrap_or(0) + 1, "outcome": "interrupted", "message": message }));
            }
            Some(entries.into())
        }
        Found::Finished(row) => {
            let mut entries = match row.get(Results::HISTORY) {
                Some(Json::Array(h)) => h,
                _ => vec![],
            };
            if row.letter(Results::STATE) == Ended::Done {
                let (from, to) = (row.get(Results::STARTED_AT).unwrap_or_default(), row.get(Results::FINISHED_AT).unwrap_or_default());
                entries.push(
                    json!({ "attempt": row.get(Results::ATTEMPTS), "outcome": "done", "started_at": from, "duration": to.saturating_since(from) }),
                );
            }
            Some(entries.into())
        }
    };
    let entries = match history {
        Some(Json::Array(h)) => h,
        _ => vec![],
    };
    Ok(Ret::Json(entries.iter().filter_map(described_attempt).collect::<Vec<Json>>().into()))
}

/// An entry of a task's history for the columns of tq_attempts. Owners write into their tables what they like: what isn't of
/// our making is left out.
fn described_attempt(entry: &Json) -> Option<Json> {
    // What a timestamptz can hold.
    const TIMES: std::ops::Range<i64> = -211_813_488_000_000_000..9_223_371_331_200_000_000;
    let entry = entry.as_object()?;
    let number = |key: &str| entry.get(key).and_then(Json::as_i64);
    let int = |key: &str| number(key).and_then(|n| i32::try_from(n).ok());
    let mut shown = json!({
        "attempt": int("attempt"),
        "started_at": time_json(number("started_at").filter(|t| TIMES.contains(t)).map(At::of_micros).filter(|at| *at != At::UNSET)),
        "duration": number("duration").map(|d| format!("{d} microseconds")),
        "pid": int("pid"),
    });
    for key in ["outcome", "sqlstate", "message", "detail", "context"] {
        shown[key] = entry.get(key).and_then(Json::as_str).into();
    }
    Some(shown)
}

sql_functions! {
    tq_async, pg_finfo_tq_async => enqueue;
    tenant_q_async_many, pg_finfo_tenant_q_async_many => enqueue_many;
    tq_cancel, pg_finfo_tq_cancel => cancel;
    tq_requeue, pg_finfo_tq_requeue => requeue;
    tq_result, pg_finfo_tq_result => result;
    tenant_q_fetch, pg_finfo_tenant_q_fetch => fetch;
    tq_find, pg_finfo_tq_find => find;
    tenant_q_current, pg_finfo_tenant_q_current => current;
    tq_retry, pg_finfo_tq_retry => retry;
    tq_fail, pg_finfo_tq_fail => fail;
    tenant_q_attempts, pg_finfo_tenant_q_attempts => attempts;
}
