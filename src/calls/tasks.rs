//! What one can ask of tasks in SQL: tq_async and its kin.

use crate::calls::changes::id_argument;
use crate::postgres::call::{Args, Ret};
use crate::postgres::clock::{self, Micros};
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Gone, Row, Table, Value};
use crate::postgres::types::{Jsonb, Rows};
use crate::postgres::{catalog, latch, memory, sandbox, shmem, transaction};
use crate::shared::{self, Shared, Word, wake};
use crate::task::{self, State, col, ended, rcol};
use crate::tenant::{self, Tenant};
use crate::waits::depend;
use crate::work::complete::{self, End};
use crate::work::enqueue::{By, Caller, NewTask, Queue};
use crate::work::{flow, own_session, run, tick};
use crate::{handler, settings, sql_functions};
use serde_json::{Map, Value as Json, json};
use std::rc::Rc;
use std::sync::atomic::Ordering::*;
use std::time::{Duration, Instant};

/// Parameters of tq_async in SQL's order; also the keys of a task object.
const PARAMETERS: [&str; 29] = [
    "handler",
    "args",
    "name",
    "group_id",
    "queue",
    "priority",
    "run_at",
    "delay",
    "timeout",
    "max_attempts",
    "retry",
    "expires",
    "lock",
    "limit_key",
    "unique_key",
    "unique_until",
    "on_conflict",
    "depends_on",
    "depends_mode",
    "allow_failure",
    "on_success",
    "on_failure",
    "hook",
    "save",
    "result_ttl",
    "meta",
    "id",
    "sync",
    "tenant",
];
/// tq_async(…)
fn enqueue(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"SELECT tq_async()");
    let new = NewTask {
        handler: args.text(0).ok_or_else(|| Error::new("22004", "handler is null").hint("Pass the name of a registered handler."))?,
        args: args.json(1),
        name: args.text(2),
        group_id: args.text(3),
        queue: args.text(4),
        priority: args.int(5),
        run_at: args.time(6),
        delay: args.interval(7),
        timeout: args.interval(8),
        max_attempts: args.int(9),
        retry: args.setting(10),
        expires: args.interval(11),
        save: args.bool(23),
        result_ttl: args.interval(24),
        meta: args.json(25).map(|j| j.value()),
        id: args.uuid(26),
        lock: args.text(12),
        limit_key: args.text(13),
        unique_key: args.text(14),
        unique_until: args.text(15),
        on_conflict: args.text(16),
        depends_on: args.uuids(17).unwrap_or_default(),
        depends_mode: args.text(18),
        allow_failure: args.bool(19),
        on_success: args.text(20),
        on_failure: args.text(21),
        hook: args.text(22),
        ..NewTask::default()
    };
    let tenant = tenant::resolve(args.text(28).as_deref())?;
    let queue = Queue::open(tenant)?;
    Ok(Ret::Uuid(if args.bool(27) == Some(true) {
        own_session::enqueue_and_run(&queue, &new)?
    } else {
        crate::work::enqueue::add(&queue, &new)?
    }))
}

/// A task object: a document whose keys are exactly tq_async's parameters.
pub fn task_object(object: &Json) -> Result<NewTask> {
    let Json::Object(map) = object else {
        return Err(Error::invalid("a task is not an object").hint("Write it as {\"handler\": \"…\", \"args\": {…}}."));
    };
    let mut new = NewTask::default();
    for (key, value) in map {
        if value.is_null() && key != "args" {
            continue;
        }
        let wrong = |expected: &str| Error::invalid(format!("task key \"{key}\" is not {expected}"));
        let text = || value.as_str().map(str::to_string).ok_or_else(|| wrong("a text"));
        let int = || value.as_i64().and_then(|n| i32::try_from(n).ok()).ok_or_else(|| wrong("an integer"));
        let interval = || {
            value
                .as_str()
                .and_then(crate::postgres::types::parse_interval)
                .ok_or_else(|| wrong("an interval").hint("Write it as a text: \"5 minutes\"."))
        };
        match key.as_str() {
            "handler" => new.handler = text()?,
            "args" => new.args = Some(Jsonb::of(value)),
            "name" => new.name = Some(text()?),
            "group_id" => new.group_id = Some(text()?),
            "queue" => new.queue = Some(text()?),
            "priority" => new.priority = Some(int()?),
            "run_at" => {
                new.run_at = Some(
                    value
                        .as_str()
                        .and_then(crate::postgres::types::parse_time)
                        .ok_or_else(|| wrong("a timestamp").hint("Write it as a text: \"2030-01-31 12:00+00\"."))?,
                )
            }
            "delay" => new.delay = Some(interval()?),
            "timeout" => new.timeout = Some(interval()?),
            "max_attempts" => new.max_attempts = Some(int()?),
            "retry" => new.retry = Some(value.clone()),
            "expires" => new.expires = Some(interval()?),
            "save" => new.save = Some(value.as_bool().ok_or_else(|| wrong("a boolean"))?),
            "result_ttl" => new.result_ttl = Some(interval()?),
            "meta" => new.meta = Some(value.clone()),
            "lock" => new.lock = Some(text()?),
            "limit_key" => new.limit_key = Some(text()?),
            "unique_key" => new.unique_key = Some(text()?),
            "unique_until" => new.unique_until = Some(text()?),
            "on_conflict" => new.on_conflict = Some(text()?),
            "depends_mode" => new.depends_mode = Some(text()?),
            "allow_failure" => new.allow_failure = Some(value.as_bool().ok_or_else(|| wrong("a boolean"))?),
            "on_success" => new.on_success = Some(text()?),
            "on_failure" => new.on_failure = Some(text()?),
            "hook" => new.hook = Some(text()?),
            "depends_on" => {
                let ids =
                    value.as_array().and_then(|a| a.iter().map(|v| uuid::Uuid::parse_str(v.as_str()?).ok()).collect::<Option<Vec<_>>>());
                new.depends_on = ids.ok_or_else(|| wrong("an array of uuids"))?.into_iter().map(|u| u.as_u128()).collect();
            }
            "id" => new.id = Some(value.as_str().and_then(|t| uuid::Uuid::parse_str(t).ok()).ok_or_else(|| wrong("a uuid"))?.as_u128()),
            "sync" => new.sync = value.as_bool().ok_or_else(|| wrong("a boolean"))?,
            "tenant" => {
                return Err(Error::invalid("task key \"tenant\" is of the whole call").hint("Pass it beside the tasks: tenant => '…'."));
            }
            other => {
                let error = Error::invalid(format!("task key \"{other}\" is not known"));
                return Err(match handler::nearest(other, PARAMETERS.into_iter()) {
                    Some(near) => error.detail(format!("The nearest key is \"{near}\".")),
                    None => error.detail("The keys are tq_async's parameters."),
                });
            }
        }
    }
    Ok(new)
}

/// tq_async_many(tasks, tenant)
fn enqueue_many(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"SELECT tq_async_many()");
    let Some(tasks) = args.json(0) else { return Err(Error::new("22004", "tasks is null")) };
    let Some(tasks) = tasks.elements() else {
        return Err(Error::invalid("tasks is not an array").hint("Pass [{\"handler\": \"…\", \"args\": {…}}, …]."));
    };
    let count = tasks.len();
    let queue = Queue::open(tenant::resolve(args.text(1).as_deref())?)?;
    memory::require(count * size_of::<u128>());
    let mut ids = Vec::with_capacity(count);
    let scratch = memory::Scratch::new();
    for (n, object) in tasks.enumerate() {
        let add = || {
            let new = task_object(&object)?;
            if new.handler.is_empty() {
                return Err(Error::invalid("the task has no handler"));
            }
            if new.sync { own_session::enqueue_and_run(&queue, &new) } else { crate::work::enqueue::add(&queue, &new) }
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

/// What the caller needs in order to see results: SELECT on the table.
pub(crate) fn may_read(tenant: &Tenant) -> Result<()> {
    let user = sandbox::current_user();
    if sandbox::is_superuser(user) || catalog::may_select(tenant.result, user) && catalog::may_select(tenant.task, user) {
        return Ok(());
    }
    Err(Error::denied(format!("permission denied to read tasks of tenant \"{}\"", tenant.name))
        .hint(format!("Its owner can run GRANT SELECT ON {0}.tq_task, {0}.tq_result TO …", catalog::quote(&tenant.name))))
}
/// What the caller needs in order to change tasks: UPDATE and DELETE on the table.
pub(crate) fn may_operate(tenant: &Tenant) -> Result<()> {
    let user = sandbox::current_user();
    if sandbox::is_superuser(user) || catalog::may_delete(tenant.task, user) {
        return Ok(());
    }
    Err(Error::denied(format!("permission denied to operate on tasks of tenant \"{}\"", tenant.name))
        .hint(format!("Its owner can run GRANT DELETE ON {}.tq_task TO …", catalog::quote(&tenant.name))))
}

/// tq_cancel(id, running, tenant)
fn cancel(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_cancel()");
    let id = id_argument(args)?;
    let tenant = tenant::resolve(args.text(2).as_deref())?;
    may_operate(&tenant)?;
    let table = tenant.open(tenant.task, Access::Write)?;
    let found = transaction::with_latest_snapshot(|| table.find(&[col::ID as i16], Value::Uuid(id)));
    let Some(row) = found else { return Ok(Ret::Bool(false)) };
    let even_running = args.bool(1) != Some(false);
    // Who cancels from within, to stop the others, ends by itself.
    let own = run::current().map(|c| c.id);
    if own == Some(id) {
        return Err(Error::state("a task cannot cancel itself").hint("tq_fail() ends it for good."));
    }
    let mut members: Vec<u128> =
        if row.raw(col::OPTIONS).is_some() { flow::members_of(id, row.json(col::OPTIONS)).collect() } else { vec![] };
    members.retain(|m| own != Some(*m));
    // In the order in which ends lock rows, members before their flow; all rows go before any end takes
    // effect, so that the members' ends find no flow to count down and no next step to let go.
    let mut gone = Vec::new();
    for member in members {
        let found = transaction::with_latest_snapshot(|| table.find(&[col::ID as i16], Value::Uuid(member)));
        if let Some(row) = found
            && take_out(&tenant, &table, &row, even_running)
        {
            gone.push(row);
        }
    }
    let mut flow = Some(row);
    let cancelled = loop {
        let Some(row) = flow.take() else { break false };
        if take_out(&tenant, &table, &row, even_running) {
            gone.push(row);
            break true;
        }
        if gone.is_empty() {
            break false;
        }
        // A member that ended meanwhile has counted it down: as it is now.
        flow = transaction::with_latest_snapshot(|| table.find(&[col::ID as i16], Value::Uuid(id)));
    };
    for row in gone {
        cancelled_one(&tenant, &table, &row)?;
    }
    Ok(Ret::Bool(cancelled))
}

/// Deletes an unfinished task's row, if it may be cancelled and nobody was first.
fn take_out(tenant: &Tenant, table: &Table, row: &Row, even_running: bool) -> bool {
    let (id, stamp) = (row.uuid(col::ID).unwrap_or(0), row.time(col::CREATED_AT).unwrap_or(0));
    let runs = || shared::get().is_some_and(|s| running(&s, tenant.oid, id, stamp).is_some());
    task::is_task(row.char(col::STATE)) && (even_running || !runs()) && table.delete(row) == Gone::Done
}

fn cancelled_one(tenant: &Rc<Tenant>, table: &Table, row: &Row) -> Result<()> {
    let (id, stamp) = (row.uuid(col::ID).unwrap_or(0), row.time(col::CREATED_AT).unwrap_or(0));
    crate::calls::events::ended_unrun(tenant, row, ended::CANCELLED, None);
    let end = End { state: ended::CANCELLED, attempts: row.i32(col::ATTEMPTS).unwrap_or(0), ..End::default() };
    complete::end(tenant, table, row, &end, true)?;
    wake::cancelled(tenant.oid, id, stamp);
    wake::finished(id);
    crate::calls::groups::finished(tenant.oid, row.str(col::GROUP_ID));
    Ok(())
}

/// The entry of the role that an unfinished task runs as.
pub(crate) fn entry_of(tenant: &Tenant, row: &Row) -> Result<Option<shared::EntryRef>> {
    let handler = handler::find(tenant, row.str(col::HANDLER).unwrap_or(""))?;
    tenant.entry(handler.map_or(tenant.owner, |h| h.run_as))
}

/// tq_requeue(id, run_at, args, reset_attempts, tenant): a finished or quarantined task again.
fn requeue(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_requeue()");
    let id = id_argument(args)?;
    let tenant = tenant::resolve(args.text(4).as_deref())?;
    may_operate(&tenant)?;
    let now = clock::now();
    let run_at = args.time(1).unwrap_or(now);
    // Who runs a task again answers for it: other arguments need the right to enqueue, and a
    // superuser's task stays one only in a superuser's hands.
    let user = sandbox::current_user();
    let superuser = sandbox::is_superuser(user);
    let caller = catalog::role_name(user.to_u32());
    if args.is_given(2) {
        Caller::check(&tenant)?;
    }
    let new_args = args.json(2);
    let reset = args.bool(3).unwrap_or(true);
    let tasks = tenant.open(tenant.task, Access::Write)?;
    let results = tenant.open(tenant.result, Access::Write)?;
    let check = |name: &str| -> Result<Rc<handler::Handler>> {
        let handler = handler::require(&tenant, name)?;
        if let Some(a) = &new_args {
            handler.check_args(Some(a), handler.code_at_enqueue(&tenant).as_ref())?;
        }
        if !superuser && sandbox::is_superuser(pgrx::pg_sys::Oid::from(handler.run_as)) {
            return Err(Error::denied(format!("handler \"{name}\" runs as a superuser, so only a superuser may run its tasks again")));
        }
        Ok(handler)
    };
    let author = Caller { name: caller.clone().unwrap_or_default(), superuser };
    let room = Queue::of(tenant.clone(), tenant.open(tenant.task, Access::Write)?, author, By::Caller);
    // A finished one goes back among the unfinished, to wait for `wait` first if there is one.
    let again = |row: &Row, wait: Option<u128>| -> Result<bool> {
        let handler = check(row.str(rcol::HANDLER).unwrap_or(""))?;
        room.check_room()?;
        let id = row.uuid(rcol::ID).unwrap_or(0);
        if row.char(rcol::STATE) == ended::QUARANTINED {
            transaction::with_latest_snapshot(|| crate::calls::changes::forget_note(&tasks, id));
        }
        if let Some(key) = row.text(rcol::UNIQUE_KEY) {
            crate::waits::unique::check_free(&tenant, &tasks, &key, id)?;
        }
        if results.delete(row) == Gone::Lost {
            return Ok(false);
        }
        crate::work::spread::reopened(&tenant, id, row.json(rcol::OPTIONS))?;
        let mut values = complete::unfinished_again(&tenant, row);
        let mut set = |column: usize, value| values[column - 1] = value;
        if reset {
            set(col::ATTEMPTS, Value::I32(0));
        }
        set(col::CREATED_AT, Value::Time(now));
        set(col::RUN_AT, Value::Time(run_at));
        set(col::ENQUEUED_BY, Value::text(caller.as_deref()));
        set(col::BY_SUPERUSER, Value::Bool(superuser));
        if let Some(args) = &new_args {
            set(col::ARGS, Value::Json(args));
        }
        let was_done = row.char(rcol::STATE) == ended::DONE;
        let options =
            crate::calls::events::options_again(&tenant, row.json(rcol::OPTIONS), was_done, new_args.is_some())?.map(Jsonb::from_value);
        set(col::OPTIONS, Value::json(options.as_ref()));
        if let Some(on) = wait {
            set(col::STATE, Value::Char(task::stored::WAITING));
            set(col::WAITS, Value::I32(1));
            set(col::WAITS_FOR, Value::Uuid(on));
        }
        tasks.insert(&values);
        if let Some(entry) = tenant.entry(handler.run_as)? {
            wake::enqueued(entry, if wait.is_some() { clock::NEVER } else { run_at });
        }
        Ok(true)
    };
    Ok(Ret::Bool(match look_up(&tasks, &results, id) {
        Found::Finished(row) if flow::HANDLERS.contains(&row.str(rcol::HANDLER).unwrap_or("")) => {
            flow::requeue(&tenant, &tasks, &results, id, None, |row, wait| again(row, wait))?
        }
        Found::Finished(row) => match row.uuid(rcol::PARENT_ID) {
            Some(flow) if !matches!(look_up(&tasks, &results, flow), Found::Nothing) => {
                flow::requeue(&tenant, &tasks, &results, flow, Some(id), |row, wait| again(row, wait))?
            }
            _ => again(&row, None)?,
        },
        // Unfinished tasks run by themselves; unknown ones can't.
        _ => false,
    }))
}

/// The slot that runs this incarnation of the tenant's task.
pub fn running(s: &Shared, schema: u32, id: u128, stamp: Micros) -> Option<usize> {
    s.slots.iter().position(|slot| slot.runs(&Word::load(slot), schema, id, stamp))
}

/// A place among those who wait for tasks; free again when dropped.
pub(crate) struct Waiting {
    place: &'static shared::Waiter,
    s: Shared,
}
impl Waiting {
    fn for_task(s: Shared, id: u128) -> Option<Waiting> {
        Self::for_any(s, id, 0)
    }
    /// For a task, or with `group` for the next end of a member of that group.
    pub(crate) fn for_any(s: Shared, id: u128, group: u64) -> Option<Waiting> {
        let me = latch::my_procno() + 1;
        // A place for every session that there can be: only who died in it is in the way.
        for clean in [false, true] {
            for (n, place) in s.waiters.iter().enumerate() {
                let holder = place.pid.load(SeqCst);
                if clean && holder != 0 && !crate::postgres::worker::is_alive(holder) {
                    if place.proc.swap(0, SeqCst) != 0 {
                        s.header.waiters.fetch_sub(1, SeqCst);
                    }
                    let _ = place.pid.compare_exchange(holder, 0, SeqCst, SeqCst);
                }
                if place.pid.compare_exchange(0, shmem::my_pid(), SeqCst, SeqCst).is_err() {
                    continue;
                }
                s.header.waiters_end.fetch_max(n as u32 + 1, SeqCst);
                place.id_high.store((id >> 64) as u64, SeqCst);
                place.id_low.store(id as u64, SeqCst);
                place.group.store(group, SeqCst);
                place.proc.store(me, SeqCst);
                s.header.waiters.fetch_add(1, SeqCst);
                return Some(Waiting { place, s });
            }
        }
        None
    }
}
impl Drop for Waiting {
    fn drop(&mut self) {
        self.place.proc.store(0, SeqCst);
        self.s.header.waiters.fetch_sub(1, SeqCst);
        self.place.pid.store(0, SeqCst);
    }
}

/// What is known of a task.
pub enum Found {
    Unfinished(Row),
    Finished(Row),
    Nothing,
}

pub fn look_up(tasks: &Table, results: &Table, id: u128) -> Found {
    transaction::with_latest_snapshot(|| {
        // Finished last: a task that ends between the two looks is found by the second.
        if let Some(row) = results.find(&[rcol::ID as i16], Value::Uuid(id)) {
            return Found::Finished(row);
        }
        match tasks.find(&[col::ID as i16], Value::Uuid(id)) {
            Some(row) if task::is_task(row.char(col::STATE)) => Found::Unfinished(row),
            _ => Found::Nothing,
        }
    })
}

/// Whether this session may wait now.
pub(crate) fn check_wait(wait: Micros) -> Result<()> {
    if wait < 0 {
        return Err(Error::invalid("wait is negative").hint("0 does not wait; the longest wait is tenant_q.max_wait."));
    }
    if wait > 0 {
        if run::current().is_some() {
            return Err(Error::state("a task cannot wait for another task").hint("Let it end, and the other one enqueue what follows."));
        }
        if transaction::has_frozen_snapshot() {
            return Err(Error::new("25001", "waiting is not possible in a REPEATABLE READ or SERIALIZABLE transaction")
                .detail("Such a transaction would never see the task end.")
                .hint("Wait in a READ COMMITTED transaction."));
        }
    }
    Ok(())
}

/// Waits until the task is finished or `wait` is over.
fn wait_for(tenant: &Rc<Tenant>, id: u128, wait: Micros) -> Result<Found> {
    check_wait(wait)?;
    let tasks = tenant.open(tenant.task, Access::Read)?;
    let results = tenant.open(tenant.result, Access::Read)?;
    let mut found = look_up(&tasks, &results, id);
    if matches!(found, Found::Nothing) && wake::any_enqueued() {
        // tq_result(tq_async(…)): this very statement's own.
        transaction::see_own_writes();
        found = look_up(&tasks, &results, id);
    }
    if wait > 0
        && let Found::Unfinished(row) = &found
    {
        if row.own {
            return Err(Error::state("the task was enqueued by this very transaction, which has not committed")
                .detail("It starts after the commit, so waiting here would never end.")
                .hint("COMMIT first, then wait."));
        }
        let deadline = Instant::now() + Duration::from_micros(wait as u64).min(settings::max_wait());
        let Some(s) = shared::get() else { return Ok(found) };
        let waiting = Waiting::for_task(s, id);
        loop {
            found = look_up(&tasks, &results, id);
            let left = deadline.saturating_duration_since(Instant::now());
            if !matches!(found, Found::Unfinished(_)) || left.is_zero() {
                break;
            }
            // Without a place nobody wakes us: look again now and then.
            latch::wait(Some(if waiting.is_some() { left } else { left.min(Duration::from_millis(200)) }));
        }
    }
    if matches!(found, Found::Finished(_)) && shared::get().is_some() && !shmem::in_recovery() {
        // Its commit may have been asynchronous: what is told must not be lost again.
        transaction::flush_all();
    }
    Ok(found)
}

fn unknown(id: u128) -> Error {
    Error::new("P0002", format!("task {} is neither waiting nor kept", task::uuid_text(id)))
        .detail("It is unknown to this tenant, was not saved, or has been removed by retention.")
}

/// tq_result(id, wait, propagate, tenant)
fn result(args: &Args) -> Result<Ret> {
    let id = id_argument(args)?;
    let tenant = tenant::resolve(args.text(3).as_deref())?;
    may_read(&tenant)?;
    let row = match wait_for(&tenant, id, args.interval(1).unwrap_or(0))? {
        Found::Nothing => return Err(unknown(id)),
        Found::Unfinished(_) => return Ok(Ret::Null),
        Found::Finished(row) => row,
    };
    match task::finished(row.char(rcol::STATE)) {
        State::Done => Ok(row.raw(rcol::RESULT).map_or(Ret::Document(Jsonb::null()), |d| Ret::Document(Jsonb::from_datum(d)))),
        state => outcome(state, row.json(rcol::ERROR), args.bool(2)),
    }
}

/// For messages: "has …".
pub fn ended_how(state: u8) -> &'static str {
    match task::finished(state) {
        State::Cancelled => "been cancelled",
        State::Expired => "expired",
        State::Quarantined => "been quarantined",
        State::Done => "ended",
        _ => "failed",
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
    let mut raised = Error::new("TQ002", what).hint("propagate => false returns the message instead; tq_fetch shows the whole task.");
    if let Some(error) = &error {
        let sqlstate = error.get("sqlstate").and_then(Json::as_str).map_or(String::new(), |s| format!(" ({s})"));
        raised = raised.detail(format!("{message}{sqlstate}"));
    }
    Err(raised)
}

/// tenant_q.fetch(id, wait, tenant): an array of the task's document, or an empty one.
fn fetch(args: &Args) -> Result<Ret> {
    let id = id_argument(args)?;
    let tenant = tenant::resolve(args.text(2).as_deref())?;
    may_read(&tenant)?;
    Ok(match wait_for(&tenant, id, args.interval(1).unwrap_or(0))? {
        Found::Nothing => Ret::Json(json!([])),
        Found::Unfinished(row) => Ret::Json(json!([describe_task(&tenant, &row, clock::now())])),
        Found::Finished(row) => Ret::Json(json!([describe_result(&tenant, &row)])),
    })
}

/// tq_find(name, tenant)
fn find(args: &Args) -> Result<Ret> {
    let name = args.text(0).ok_or_else(|| Error::new("22004", "name is null"))?;
    let tenant = tenant::resolve(args.text(1).as_deref())?;
    may_read(&tenant)?;
    let tasks = tenant.open(tenant.task, Access::Read)?;
    let results = tenant.open(tenant.result, Access::Read)?;
    let mut newest: Option<(Micros, u128)> = None;
    transaction::with_latest_snapshot(|| {
        for (table, column) in [(&tasks, col::NAME), (&results, rcol::NAME)] {
            use crate::postgres::relation::{Compare, Key};
            table.scan(
                table.index_with(&[column as i16]),
                &[Key { column: 1, compare: Compare::Eq, value: Value::Text(&name) }],
                None,
                false,
                |row| {
                    newest = newest.max(Some((row.time(col::CREATED_AT).unwrap_or(0), row.uuid(col::ID).unwrap_or(0))));
                    true
                },
            );
        }
    });
    Ok(newest.map_or(Ret::Null, |(_, id)| Ret::Uuid(id)))
}

/// A timestamp as JSON has it.
pub fn time_json(t: Option<Micros>) -> Json {
    match t {
        Some(i64::MAX) => "infinity".into(),
        Some(i64::MIN) => "-infinity".into(),
        Some(t) => {
            // RFC 3339 ends with the year 9999; PostgreSQL writes later ones without a sign, and BC behind.
            use chrono::Datelike;
            let t = tick::instant(t);
            let (year, era) = if t.year() > 0 { (t.year(), "") } else { (1 - t.year(), " BC") };
            format!("{year:04}-{}{era}", t.format("%m-%dT%H:%M:%S%.6fZ")).into()
        }
        None => Json::Null,
    }
}

/// The row shape `tenant_q.task` of an unfinished task. `result` and `args` are wrapped in arrays,
/// so that JSON null and SQL NULL stay apart.
pub fn describe_task(tenant: &Rc<Tenant>, row: &Row, now: Micros) -> Json {
    let (id, stamp) = (row.uuid(col::ID).unwrap_or(0), row.time(col::CREATED_AT).unwrap_or(0));
    let slot = shared::get().and_then(|s| running(&s, tenant.oid, id, stamp).map(|n| &s.slots[n]));
    let state = task::unfinished(
        row.char(col::STATE),
        row.i32(col::ATTEMPTS).unwrap_or(0),
        row.time(col::RUN_AT).unwrap_or(0),
        now,
        slot.is_some(),
    );
    // Due, and no pick has looked yet whether what it depends on is final.
    let waits = if state == State::Queued && row.raw(col::WAITS).is_some() { still_depends(tenant, row) } else { None };
    let state = if waits.is_some() { State::Deferred } else { state };
    let handler = handler::find(tenant, row.str(col::HANDLER).unwrap_or("")).ok().flatten();
    let rules = complete::Rules::of(tenant, row, handler.as_deref());
    let reason = match (state, &handler) {
        (State::Held, None) => Some("handler is not registered".to_string()),
        (State::Held, Some(h)) => Some(
            h.fault
                .as_ref()
                .map_or_else(|| if h.quarantined { "handler is quarantined".into() } else { "paused".into() }, |f| f.text().to_string()),
        ),
        (State::Deferred, _) => waits.or_else(|| flow::describe_wait(row)),
        (State::Queued, _) if row.char(col::STATE) == task::stored::GATED => Some("a lock or limit is busy".to_string()),
        _ => None,
    };
    let attempts = row.i32(col::ATTEMPTS).unwrap_or(0);
    json!({
        "id": task::uuid_text(id),
        "tenant": tenant.name,
        "handler": row.str(col::HANDLER),
        "name": row.str(col::NAME),
        "state": state.name(),
        "reason": reason,
        "args": row.json(col::ARGS).map(|v| json!([v])),
        "result": null,
        "error": last_error(row.json(col::HISTORY)),
        "attempt": attempts + i32::from(slot.is_some()),
        "max_attempts": rules.max_attempts,
        "queue": row.str(col::QUEUE).unwrap_or("default"),
        "priority": row.i16(col::PRIORITY),
        "group_id": row.str(col::GROUP_ID),
        "parent_id": row.uuid(col::PARENT_ID).map(task::uuid_text),
        "schedule": row.str(col::SCHEDULE),
        "scheduled_for": time_json(row.time(col::SCHEDULED_FOR)),
        "created_at": time_json(Some(stamp)),
        "run_at": time_json(row.time(col::RUN_AT)),
        "started_at": time_json(slot.map(|s| s.started_at.load(Relaxed)).filter(|t| *t > 0)),
        "finished_at": null,
        "enqueued_by": row.str(col::ENQUEUED_BY),
        "meta": row.json(col::META),
    })
}

/// What a row that no pick has looked at yet has to wait for, for people.
fn still_depends(tenant: &Tenant, row: &Row) -> Option<String> {
    let (tasks, results) = (tenant.try_open(tenant.task, Access::Read).ok()??, tenant.try_open(tenant.result, Access::Read).ok()??);
    match transaction::with_latest_snapshot(|| depend::evaluate(&tasks, &results, row)) {
        depend::Answer::Wait(id) => Some(format!("waits for task {}", task::uuid_text(id))),
        depend::Answer::WaitAny(_) | depend::Answer::Soon => Some("waits for one of several tasks".into()),
        depend::Answer::Ready | depend::Answer::Never(_) => None,
    }
}

fn last_error(history: Option<Json>) -> Json {
    let Some(Json::Array(entries)) = history else { return Json::Null };
    let Some(Json::Object(last)) = entries.last() else { return Json::Null };
    let mut error = Map::new();
    for key in ["sqlstate", "message", "detail", "hint", "context"] {
        if let Some(v) = last.get(key).filter(|v| !v.is_null()) {
            error.insert(key.into(), v.clone());
        }
    }
    Json::Object(error)
}

/// The same of a finished one.
pub fn describe_result(tenant: &Rc<Tenant>, row: &Row) -> Json {
    let max_attempts = row.json(rcol::OPTIONS).and_then(|o| o.get("max_attempts").and_then(Json::as_i64));
    let handler = if max_attempts.is_none() { handler::find(tenant, row.str(rcol::HANDLER).unwrap_or("")).ok().flatten() } else { None };
    let max_attempts = max_attempts.map(|n| n as i32).or(handler.and_then(|h| h.max_attempts)).unwrap_or_else(settings::max_attempts);
    json!({
        "id": task::uuid_text(row.uuid(rcol::ID).unwrap_or(0)),
        "tenant": tenant.name,
        "handler": row.str(rcol::HANDLER),
        "name": row.str(rcol::NAME),
        "state": task::finished(row.char(rcol::STATE)).name(),
        "reason": null,
        "args": row.json(rcol::ARGS).map(|v| json!([v])),
        "result": row.json(rcol::RESULT).map(|v| json!([v])),
        "error": row.json(rcol::ERROR),
        "attempt": row.i32(rcol::ATTEMPTS),
        "max_attempts": max_attempts,
        "queue": row.str(rcol::QUEUE).unwrap_or("default"),
        "priority": row.i16(rcol::PRIORITY),
        "group_id": row.str(rcol::GROUP_ID),
        "parent_id": row.uuid(rcol::PARENT_ID).map(task::uuid_text),
        "schedule": row.str(rcol::SCHEDULE),
        "scheduled_for": time_json(row.time(rcol::SCHEDULED_FOR)),
        "created_at": time_json(row.time(rcol::CREATED_AT)),
        "run_at": time_json(row.time(rcol::RUN_AT)),
        "started_at": time_json(row.time(rcol::STARTED_AT)),
        "finished_at": time_json(row.time(rcol::FINISHED_AT)),
        "enqueued_by": row.str(rcol::ENQUEUED_BY),
        "meta": row.json(rcol::META),
    })
}

/// A task that has just ended, as its hooks get it.
pub fn describe_end(tenant: &Tenant, row: &Row, end: &End) -> Json {
    let handler = handler::find(tenant, row.str(col::HANDLER).unwrap_or("")).ok().flatten();
    let max_attempts = complete::Rules::of(tenant, row, handler.as_deref()).max_attempts;
    json!({
        "id": row.uuid(col::ID).map(task::uuid_text),
        "tenant": tenant.name,
        "handler": row.str(col::HANDLER),
        "name": row.str(col::NAME),
        "state": task::finished(end.state).name(),
        "reason": null,
        "args": row.json(col::ARGS),
        "result": end.result.map(Jsonb::value),
        "error": end.error,
        "attempt": end.attempts,
        "max_attempts": max_attempts,
        "queue": row.str(col::QUEUE).unwrap_or("default"),
        "priority": row.i16(col::PRIORITY),
        "group_id": row.str(col::GROUP_ID),
        "parent_id": row.uuid(col::PARENT_ID).map(task::uuid_text),
        "schedule": row.str(col::SCHEDULE),
        "scheduled_for": time_json(row.time(col::SCHEDULED_FOR)),
        "created_at": time_json(row.time(col::CREATED_AT)),
        "run_at": time_json(row.time(col::RUN_AT)),
        "started_at": time_json(end.started_at),
        "finished_at": time_json(Some(clock::now())),
        "enqueued_by": row.str(col::ENQUEUED_BY),
        "meta": row.json(col::META),
    })
}

/// Bytes of the rows that a view shows: they are unpacked several times on their way.
const VIEW_BYTES: usize = 64 << 20;

/// tenant_q.tasks(finished, tenant): rows of tq_tasks or tq_results, as documents, at most
/// tenant_q.view_rows of them.
fn tasks(args: &Args) -> Result<Ret> {
    let finished = args.bool(0).unwrap_or(false);
    let tenant = tenant::resolve(args.text(1).as_deref())?;
    may_read(&tenant)?;
    let table = tenant.open_to_look(if finished { tenant.result } else { tenant.task })?;
    let limit = settings::view_rows();
    let now = clock::now();
    let mut rows = Rows::default();
    let mut more = false;
    let index = if finished { table.index_with(&[rcol::ID as i16]) } else { table.index_with(&task::PICK_INDEX) };
    table.scan(index, &[], None, finished, |row| {
        if !finished && !task::is_task(row.char(col::STATE)) {
            return true;
        }
        if rows.len() >= limit {
            more = true;
            return false;
        }
        rows.push(if finished { describe_result(&tenant, &row) } else { describe_task(&tenant, &row, now) });
        // The next one might be too much.
        more = rows.bytes() > VIEW_BYTES;
        !more
    });
    if more {
        let which = if finished { "newest" } else { "first" };
        let shown =
            if rows.len() < limit { format!("{} rows, of {} MB,", rows.len(), rows.bytes() >> 20) } else { format!("{limit} rows") };
        let table = format!("{}.{}", catalog::quote(&tenant.name), if finished { "tq_result" } else { "tq_task" });
        let hint = if rows.len() < limit {
            format!("Read {table} directly.")
        } else {
            format!("Raise tenant_q.view_rows, or read {table} directly.")
        };
        Error::new("00000", format!("only the {which} {shown} are shown")).hint(hint).notice();
    }
    Ok(Ret::Rows(rows))
}

/// tenant_q.current(): what runs in this session, as a document; NULL outside of a task.
fn current(_args: &Args) -> Result<Ret> {
    let Some(c) = run::current() else { return Ok(Ret::Null) };
    Ok(Ret::Json(json!({
        "id": task::uuid_text(c.id),
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

fn inside(what: &str) -> Result<()> {
    if run::current().is_none() {
        return Err(Error::state(format!("{what} is for handlers, and no task runs in this session")));
    }
    Ok(())
}

/// tq_retry(delay, message): doesn't return.
fn retry(args: &Args) -> Result<Ret> {
    inside("tq_retry")?;
    let delay = args.interval(0);
    if delay.is_some_and(|d| d < 0) {
        return Err(Error::invalid("delay is negative"));
    }
    let call = run::Call::Retry(delay);
    run::ask(call);
    Err(Error::new(call.sqlstate(), args.message(1).unwrap_or_else(|| "the handler asked for another attempt".into())))
}

/// tq_fail(message): doesn't return.
fn fail(args: &Args) -> Result<Ret> {
    inside("tq_fail")?;
    run::ask(run::Call::Fail);
    Err(Error::new(run::Call::Fail.sqlstate(), args.message(0).unwrap_or_else(|| "the handler gave up".into())))
}

/// tenant_q.attempts(id, tenant): what is remembered of each attempt.
fn attempts(args: &Args) -> Result<Ret> {
    let id = id_argument(args)?;
    let tenant = tenant::resolve(args.text(1).as_deref())?;
    may_read(&tenant)?;
    let history = match wait_for(&tenant, id, 0)? {
        Found::Nothing => return Err(unknown(id)),
        Found::Unfinished(row) => {
            let mut entries = match row.json(col::HISTORY) {
                Some(Json::Array(h)) => h,
                _ => vec![],
            };
            // Who ended with it wrote nothing down.
            let ends = crate::calls::views::ends_of(&tenant, id);
            if ends > 0 {
                let message = crate::calls::views::ends_text(ends);
                entries.push(json!({ "attempt": row.i32(col::ATTEMPTS).unwrap_or(0) + 1, "outcome": "interrupted", "message": message }));
            }
            Some(entries.into())
        }
        Found::Finished(row) => {
            let mut entries = match row.json(rcol::HISTORY) {
                Some(Json::Array(h)) => h,
                _ => vec![],
            };
            if row.char(rcol::STATE) == ended::DONE {
                let (from, to) = (row.time(rcol::STARTED_AT).unwrap_or(0), row.time(rcol::FINISHED_AT).unwrap_or(0));
                entries.push(
                    json!({ "attempt": row.i32(rcol::ATTEMPTS), "outcome": "done", "started_at": from, "duration": to.saturating_sub(from) }),
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
        "started_at": time_json(number("started_at").filter(|t| TIMES.contains(t))),
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
    tenant_q_tasks, pg_finfo_tenant_q_tasks => tasks;
    tenant_q_current, pg_finfo_tenant_q_current => current;
    tq_retry, pg_finfo_tq_retry => retry;
    tq_fail, pg_finfo_tq_fail => fail;
    tenant_q_attempts, pg_finfo_tenant_q_attempts => attempts;
}
