//! Events: what else happens when something happens to a task.
//!
//! `enqueue`, `before_run` and `after_run` call the listener there and then. The others enqueue a
//! task of the listener's handler in the very transaction that records the event, by OID like all
//! of the engine's own writing: atomic, retried, visible, and without running anybody's code.
//!
//! A listener is code of the tenant's. So one to `enqueue` is called in the statement that enqueues only
//! where that is a session of the listener's role; about every other task it is asked before the first
//! attempt, by an executor of its role. If that is the task's role too, it is in the attempt's own
//! transaction, and the answer is rolled back with it; else in one of its own, which notes the answer.
//!
//! Tasks of handlers that listen fire no events themselves, so nothing goes round in circles. A
//! tenant without listeners pays a look into this process's memory.

use crate::calls::tables as listen;
use crate::calls::tasks::time_json;
use crate::calls::tenants::{Few, announce_registry, require_owner, run};
use crate::handler::{self, Handler, arguments, invoke};
use crate::postgres::call::{self, Args, Ret};
use crate::postgres::caught::{self, Failure, Own};
use crate::postgres::clock::{self, Micros};
use crate::postgres::code::MayRunCode;
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Compare, Gone, Key, Row, Table, Tid, Value};
use crate::postgres::types::Jsonb;
use crate::postgres::{catalog, sandbox, session, transaction};
use crate::pure::cache::Bounded;
use crate::shared::Item;
use crate::task::{self, col, ended};
use crate::tenant::{self, Tenant};
use crate::work::complete;
use crate::work::enqueue::{ASKED, By, Caller, NewTask, Queue};
use crate::{settings, sql_functions};
use serde_json::{Value as Json, json};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::ffi::CString;
use std::rc::Rc;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    Enqueue,
    BeforeRun,
    AfterRun,
    AttemptFailed,
    Retry,
    Failed,
    Done,
    Cancelled,
    Expired,
    ScheduleFired,
}

impl Event {
    const ALL: [Event; 10] = [
        Event::Enqueue,
        Event::BeforeRun,
        Event::AfterRun,
        Event::AttemptFailed,
        Event::Retry,
        Event::Failed,
        Event::Done,
        Event::Cancelled,
        Event::Expired,
        Event::ScheduleFired,
    ];
    pub fn name(self) -> &'static str {
        match self {
            Event::Enqueue => "enqueue",
            Event::BeforeRun => "before_run",
            Event::AfterRun => "after_run",
            Event::AttemptFailed => "attempt_failed",
            Event::Retry => "retry",
            Event::Failed => "failed",
            Event::Done => "done",
            Event::Cancelled => "cancelled",
            Event::Expired => "expired",
            Event::ScheduleFired => "schedule_fired",
        }
    }
    fn of(name: &str) -> Option<Event> {
        Event::ALL.into_iter().find(|e| e.name() == name)
    }
    /// The listener is called at once, instead of by a task.
    fn calls(self) -> bool {
        matches!(self, Event::Enqueue | Event::BeforeRun | Event::AfterRun)
    }
}

/// The SQLSTATE of a listener's "no" to a task that is being enqueued.
const VETO: &str = "TQ005";

/// Columns of tenant_q.listener (sql/events.sql).
mod lcol {
    pub const EVENT: usize = 2;
    pub const HANDLER: usize = 3;
    pub const FOR_HANDLER: usize = 4;
    pub const BY_SUPERUSER: usize = 6;
    pub const CREATED_BY: usize = 7;
    pub const CREATED_AT: usize = 8;
}

struct Listener {
    event: Event,
    handler: String,
    /// Tasks of this handler only.
    for_handler: Option<String>,
    by_superuser: bool,
    created_by: String,
    created_at: Micros,
}

/// Those of one tenant.
#[derive(Default)]
struct Listeners {
    all: Vec<Rc<Listener>>,
    handlers: HashSet<String>,
}

impl Listeners {
    /// About what they take.
    fn bytes(&self) -> usize {
        let of = |l: &Rc<Listener>| size_of::<Listener>() + 100 + 2 * l.handler.len() + l.for_handler.as_ref().map_or(0, String::len);
        size_of::<Listeners>() + self.all.iter().map(of).sum::<usize>()
    }
    fn of(&self, event: Event, handler: &str) -> Vec<Rc<Listener>> {
        if self.all.is_empty() || self.handlers.contains(handler) {
            return Vec::new();
        }
        let wanted = |l: &&Rc<Listener>| l.event == event && l.for_handler.as_deref().is_none_or(|h| h == handler);
        self.all.iter().filter(wanted).cloned().collect()
    }
}

struct Cache {
    epoch: u64,
    /// Whether any tenant has any: usually that is all there is to know.
    any: Option<bool>,
    tenants: Bounded<u32, Rc<Listeners>>,
}

impl Default for Cache {
    fn default() -> Self {
        Cache { epoch: 0, any: None, tenants: Bounded::new(KEPT, KEPT_BYTES) }
    }
}

/// Tenants whose listeners a process remembers, and the bytes that these may take.
const KEPT: usize = 16_384;
const KEPT_BYTES: usize = 8 << 20;

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::default();
    static NONE: Rc<Listeners> = Rc::default();
    /// A listener is being asked: what it enqueues is nobody else's concern.
    static ASKING: Cell<bool> = const { Cell::new(false) };
}

fn listeners(tenant: &Tenant) -> Result<Rc<Listeners>> {
    let epoch = tenant::epoch();
    let known = CACHE.with_borrow_mut(|c| {
        if c.epoch != epoch {
            *c = Cache { epoch, ..Cache::default() };
        }
        match c.any {
            Some(false) => Some(NONE.with(Rc::clone)),
            _ => c.tenants.get(&tenant.oid),
        }
    });
    if let Some(listeners) = known {
        return Ok(listeners);
    }
    // Remembered: not to be older than the last change that was heard of, as the present snapshot may be.
    let (any, listeners) = transaction::with_latest_snapshot(|| read(&tenant.name))?;
    let listeners = Rc::new(listeners);
    if tenant::epoch() == epoch {
        CACHE.with_borrow_mut(|c| {
            c.any = Some(any);
            c.tenants.insert(tenant.oid, listeners.clone(), listeners.bytes());
        });
    }
    Ok(listeners)
}

/// Reads them in the present transaction, which is a short one: a task's own would hold the lock of the
/// registry's tables for as long as its handler runs. Returns whether any of them is asked about tasks being enqueued.
pub fn preload(tenant: &Tenant) -> Result<bool> {
    let listeners = listeners(tenant)?;
    for listener in listeners.all.iter().filter(|l| l.event.calls()) {
        handler::find(tenant, &listener.handler)?;
    }
    Ok(listeners.all.iter().any(|l| l.event == Event::Enqueue))
}

/// Whether anybody is asked about this tenant's tasks being enqueued.
pub fn asks(tenant: &Tenant) -> Result<bool> {
    Ok(listeners(tenant)?.all.iter().any(|l| l.event == Event::Enqueue))
}

fn read(tenant: &str) -> Result<(bool, Listeners)> {
    let mut found = Listeners::default();
    let mut any = false;
    let table = catalog::relation_oid(tenant::registry()?.schema, "listener").and_then(|t| Table::open(t, Access::Read));
    let Some(table) = table else { return Ok((false, found)) };
    let index = table.index_with(&[1, 2, 3, 4]);
    table.scan(index, &[], None, false, |_| {
        any = true;
        false
    });
    table.scan(index, &[Key { column: 1, compare: Compare::Eq, value: Value::Text(tenant) }], None, false, |row| {
        if let Some(event) = Event::of(row.str(lcol::EVENT).unwrap_or("")) {
            let handler = row.text(lcol::HANDLER).unwrap_or_default();
            found.handlers.insert(handler.clone());
            found.all.push(Rc::new(Listener {
                event,
                handler,
                for_handler: row.text(lcol::FOR_HANDLER).filter(|h| !h.is_empty()),
                by_superuser: row.bool(lcol::BY_SUPERUSER).unwrap_or(false),
                created_by: row.text(lcol::CREATED_BY).unwrap_or_default(),
                created_at: row.time(lcol::CREATED_AT).unwrap_or(0),
            }));
        }
        true
    });
    Ok((any, found))
}

// ---- what is called at once

/// The listener's function, called in the present transaction as the present user.
fn ask(handler: &Handler, document: &Jsonb, code: &MayRunCode) -> std::result::Result<Jsonb, Failure> {
    let signature = match (&handler.signature, &handler.fault) {
        (Some(signature), None) if !handler.is_procedure() => signature,
        (_, Some(fault)) => return Err(Failure::new("42883", format!("listener \"{}\": {}", handler.name, fault.text()))),
        _ => return Err(Failure::new("42883", format!("listener \"{}\" is not a function", handler.name))),
    };
    let was = ASKING.replace(true);
    let answer = caught::catch(|| {
        let bound = arguments::bind(signature, Some(document), code)?;
        invoke::call(signature, &bound, code)
    });
    ASKING.set(was);
    answer.and_then(|r| r)
}

fn is_no(answer: &Jsonb) -> bool {
    answer.value() == Json::Bool(false)
}

fn listening_handler(tenant: &Tenant, listener: &Listener) -> Result<Rc<Handler>> {
    handler::find(tenant, &listener.handler)?.ok_or_else(|| {
        Error::undefined(format!("listener \"{}\" of event {} is not registered", listener.handler, listener.event.name()))
            .hint("Register the handler again, or end its listening with tq_off().")
    })
}

/// A listener runs as a superuser only if one let it listen and one has enqueued the task.
fn check_superuser(tenant: &Tenant, listener: &Listener, role: u32, by_superuser: bool) -> Result<()> {
    let trusted = || by_superuser && listener.by_superuser && settings::allow_superuser() && tenant.distrust().is_none();
    if sandbox::is_superuser(pgrx::pg_sys::Oid::from(role)) && !trusted() {
        return Err(Error::denied(format!("listener \"{}\" would run as a superuser", listener.handler))
            .hint("Register the handler with run_as, or let the schema belong to an ordinary role."));
    }
    Ok(())
}

/// A task is being enqueued: a listener's false refuses it, as its error does. Returns whether nobody need be asked any
/// more: in any session but that of all the listeners' role they are asked before the first attempt.
///
/// In the sandbox: who enqueues may not know what it would leave behind in their session.
pub fn enqueue(queue: &Queue, new: &NewTask, handler: &Handler, id: u128, run_at: Micros) -> Result<bool> {
    let tenant = &queue.tenant;
    let listening = listeners(tenant)?.of(Event::Enqueue, &handler.name);
    if listening.is_empty() {
        return Ok(false);
    }
    if ASKING.get() {
        return Ok(true);
    }
    if queue.by == By::Engine {
        return Ok(false);
    }
    let mut able = Vec::with_capacity(listening.len());
    for listener in listening {
        let listening_handler = listening_handler(tenant, &listener)?;
        check_superuser(tenant, &listener, listening_handler.run_as, queue.caller.superuser)?;
        let Some(code) = listening_handler.code_at_enqueue(tenant) else { return Ok(false) };
        able.push((listener, listening_handler, code));
    }
    let document = Jsonb::from_value(new_document(tenant, new, &handler.name, id, run_at, &queue.caller.name, Event::Enqueue));
    for (listener, listening_handler, code) in able {
        let answer = sandbox::as_owner(pgrx::pg_sys::Oid::from(code.role()), || {
            for (name, value) in [("search_path", tenant.search_path()), ("TimeZone", tenant.zone())] {
                if let (Ok(name), Ok(value)) = (CString::new(name), CString::new(value)) {
                    session::set_local(&name, &value);
                }
            }
            ask(&listening_handler, &document, &code)
        })?;
        if is_no(&answer) {
            return Err(Error::new(VETO, format!("listener \"{}\" refused a task of handler \"{}\"", listener.handler, handler.name))
                .hint("tq_events shows who listens; tq_off() ends it."));
        }
    }
    // What listeners have written is to be seen by what follows.
    transaction::see_own_writes();
    Ok(true)
}

/// Who is still to be asked about a task that is in the table. Not those who came to listen after it was enqueued.
fn pending(tenant: &Tenant, row: &Row, handler: &Handler) -> Result<Vec<Rc<Listener>>> {
    let mut listening = listeners(tenant)?.of(Event::Enqueue, &handler.name);
    if !listening.is_empty() {
        let options = if row.raw(col::OPTIONS).is_some() { row.json(col::OPTIONS) } else { None };
        let asked = options.as_ref().and_then(|o| o.get(ASKED));
        let was_asked = |name: &str| match asked {
            Some(Json::Bool(all)) => *all,
            Some(Json::Array(names)) => names.iter().any(|n| n.as_str() == Some(name)),
            _ => false,
        };
        let created_at = row.time(col::CREATED_AT).unwrap_or(0);
        listening.retain(|l| l.created_at <= created_at && !was_asked(&l.handler));
    }
    Ok(listening)
}

/// Before the task is run an executor of this role asks who runs as it; None: those of the task's own role do.
pub fn asked_next(tenant: &Tenant, row: &Row, handler: &Handler) -> Result<Option<u32>> {
    for listener in pending(tenant, row, handler)? {
        if let Some(asked) = handler::find(tenant, &listener.handler)?.filter(|h| h.run_as != handler.run_as) {
            return Ok(Some(asked.run_as));
        }
    }
    Ok(None)
}

/// Asks those about a task's being enqueued who run as the present role, which is `code`'s; returns their names, and
/// those who run as others.
fn ask_pending(
    tenant: &Tenant,
    row: &Row,
    handler: &Handler,
    item: &Item,
    started_at: Micros,
    code: &MayRunCode,
) -> std::result::Result<(Vec<String>, Vec<String>), Failure> {
    let (mut names, mut others) = (Vec::new(), Vec::new());
    let mut made = None;
    for listener in pending(tenant, row, handler)? {
        let listening_handler = listening_handler(tenant, &listener)?;
        if listening_handler.run_as != code.role() {
            others.push(listener.handler.clone());
            continue;
        }
        check_superuser(tenant, &listener, code.role(), row.bool(col::BY_SUPERUSER) == Some(true))?;
        let document = made.get_or_insert_with(|| running_document(tenant, row, Event::Enqueue, item, started_at));
        if is_no(&ask(&listening_handler, document, code)?) {
            return Err(Failure::ours(Own::Skipped, VETO, format!("listener \"{}\" refused it", listener.handler)));
        }
        names.push(listener.handler.clone());
    }
    Ok((names, others))
}

/// The same in an executor that isn't the task's own. Whom it has asked is to be noted by `note_asked`.
pub fn ask_for_others(
    tenant: &Tenant,
    row: &Row,
    handler: &Handler,
    item: &Item,
    started_at: Micros,
    code: &MayRunCode,
) -> std::result::Result<Vec<String>, Failure> {
    ask_pending(tenant, row, handler, item, started_at, code).map(|(names, _)| names)
}

/// These need not be asked about the task any more.
pub fn note_asked(tenant: &Tenant, item: &Item, names: Vec<String>) -> std::result::Result<(), Failure> {
    let table = tenant.open(tenant.task, Access::Write)?;
    let is_it = |r: &Row| {
        r.uuid(col::ID) == Some(item.id) && r.time(col::CREATED_AT) == Some(item.stamp) && r.i32(col::ATTEMPTS) == Some(item.attempts)
    };
    let row = table.fetch(Tid(item.tid)).filter(is_it).or_else(|| table.find(&[col::ID as i16], Value::Uuid(item.id)).filter(is_it));
    let overtaken = || Failure::ours(Own::Fenced, "TQF00", "the task was changed, cancelled or finished meanwhile");
    let row = row.ok_or_else(overtaken)?;
    let mut options = row.json(col::OPTIONS).filter(Json::is_object).unwrap_or_else(|| json!({}));
    if !options[ASKED].is_array() {
        options[ASKED] = json!([]);
    }
    if let Some(asked) = options[ASKED].as_array_mut() {
        asked.extend(names.into_iter().map(Json::String));
    }
    match table.update(&row, &[(col::OPTIONS, Value::Json(&Jsonb::from_value(options)))]) {
        Gone::Done => Ok(()),
        Gone::Lost => Err(overtaken()),
    }
}

/// What a finished or changed task's options say of it if it is run again: who was asked has said yes to what was done
/// then, and is asked anew about other arguments.
pub fn options_again(tenant: &Tenant, options: Option<Json>, was_done: bool, other_args: bool) -> Result<Option<Json>> {
    if !asks(tenant)? {
        return Ok(options);
    }
    let mut options = options.filter(Json::is_object).unwrap_or_else(|| json!({}));
    if let Some(map) = options.as_object_mut() {
        match (other_args, was_done) {
            (true, _) => drop(map.remove(ASKED)),
            (_, true) => drop(map.insert(ASKED.into(), true.into())),
            _ => {}
        }
    }
    Ok(Some(options).filter(|o| o.as_object().is_some_and(|map| !map.is_empty())))
}

/// One who listens to runs of tasks runs as the task's role: not one that was registered to run as a third.
fn listening_to_run(tenant: &Tenant, listener: &Listener, row: &Row, code: &MayRunCode) -> std::result::Result<Rc<Handler>, Failure> {
    let handler = listening_handler(tenant, listener)?;
    if handler.run_as != code.role() && handler.run_as != tenant.owner {
        let role = catalog::role_name(handler.run_as).unwrap_or_default();
        let failure = Failure::new("42501", format!("listener \"{}\" runs as role \"{role}\", the task does not", listener.handler));
        return Err(Failure { hint: Some("Register the listener without run_as: it then runs as the task's role.".into()), ..failure });
    }
    check_superuser(tenant, listener, code.role(), row.bool(col::BY_SUPERUSER) == Some(true))?;
    Ok(handler)
}

/// A task is about to run: in its transaction, as its role, in its search_path. A listener's false
/// ends it: Skipped. First those who listen to tasks being enqueued and could not be asked then.
pub fn before_run(
    tenant: &Tenant,
    row: &Row,
    handler: &Handler,
    item: &Item,
    started_at: Micros,
    code: &MayRunCode,
) -> std::result::Result<(), Failure> {
    if listeners(tenant)?.all.is_empty() {
        return Ok(());
    }
    let (_, others) = ask_pending(tenant, row, handler, item, started_at, code)?;
    if let Some(other) = others.first() {
        let failure = Failure::new("55000", format!("listener \"{other}\" is to be asked first, as another role than the task's"));
        return Err(Failure { hint: Some("An executor of its role asks it: leave the task to the workers.".into()), ..failure });
    }
    let listening = listeners(tenant)?.of(Event::BeforeRun, &handler.name);
    if listening.is_empty() {
        return Ok(());
    }
    let document = running_document(tenant, row, Event::BeforeRun, item, started_at);
    for listener in listening {
        if is_no(&ask(&*listening_to_run(tenant, &listener, row, code)?, &document, code)?) {
            return Err(Failure::ours(Own::Skipped, VETO, format!("listener \"{}\" skipped it", listener.handler)));
        }
    }
    Ok(())
}

fn running_document(tenant: &Tenant, row: &Row, event: Event, item: &Item, started_at: Micros) -> Jsonb {
    let seen = Seen { state: "running", attempt: item.attempts + 1, started_at: Some(started_at), ..Seen::default() };
    Jsonb::from_value(document(tenant, row, event, &seen))
}

/// A handler has returned: in its transaction, as its role, in its search_path. An error fails the
/// attempt.
pub fn after_run(
    tenant: &Tenant,
    row: &Row,
    handler: &Handler,
    item: &Item,
    started_at: Micros,
    result: &Jsonb,
    code: &MayRunCode,
) -> std::result::Result<(), Failure> {
    let listening = listeners(tenant)?.of(Event::AfterRun, &handler.name);
    if listening.is_empty() {
        return Ok(());
    }
    let seen = Seen { state: "done", attempt: item.attempts + 1, started_at: Some(started_at), result: Some(result.value()), error: None };
    let document = Jsonb::from_value(document(tenant, row, Event::AfterRun, &seen));
    for listener in listening {
        ask(&*listening_to_run(tenant, &listener, row, code)?, &document, code)?;
    }
    Ok(())
}

// ---- what a task is enqueued for

/// What is known of a task beside its row.
#[derive(Default)]
pub struct Seen<'a> {
    pub state: &'a str,
    pub attempt: i32,
    pub started_at: Option<Micros>,
    pub result: Option<Json>,
    pub error: Option<Json>,
}

/// A task was done, in the transaction that records it.
pub fn done(tenant: &Tenant, row: &Row, attempt: i32, started_at: Micros, result: &Jsonb) {
    let Some(listening) = listening(tenant, Event::Done, row) else { return };
    let seen = Seen { state: "done", attempt, started_at: Some(started_at), result: Some(result.value()), error: None };
    record(tenant, &listening, || document(tenant, row, Event::Done, &seen));
}

/// An attempt has failed, for good (`last`) or to be tried again, in the transaction that records it.
pub fn attempt_failed(tenant: &Tenant, row: &Row, attempt: i32, started_at: Micros, failure: &Failure, last: bool) {
    let (event, state) = if last { (Event::Failed, "failed") } else { (Event::Retry, "retrying") };
    for event in [Event::AttemptFailed, event] {
        let Some(listening) = listening(tenant, event, row) else { continue };
        let error = Some(complete::error_document(failure));
        let seen = Seen { state, attempt, started_at: Some(started_at), result: None, error };
        record(tenant, &listening, || document(tenant, row, event, &seen));
    }
}

/// A task became final without an attempt (`state` as in tq_result), in the transaction that records it.
pub fn ended_unrun(tenant: &Tenant, row: &Row, state: u8, failure: Option<&Failure>) {
    let event = match state {
        ended::CANCELLED => Event::Cancelled,
        ended::EXPIRED => Event::Expired,
        _ => Event::Failed,
    };
    let Some(listening) = listening(tenant, event, row) else { return };
    let error = failure.map(complete::error_document);
    let seen = Seen { state: event.name(), attempt: row.i32(col::ATTEMPTS).unwrap_or(0), error, ..Seen::default() };
    record(tenant, &listening, || document(tenant, row, event, &seen));
}

/// A schedule has enqueued a task, in the transaction of its tick.
pub fn schedule_fired(queue: &Queue, new: &NewTask, id: u128) {
    let tenant = &queue.tenant;
    let listening = listeners(tenant).map(|l| l.of(Event::ScheduleFired, &new.handler)).unwrap_or_default();
    if listening.is_empty() {
        return;
    }
    let run_at = new.run_at.unwrap_or_else(clock::now);
    record(tenant, &listening, || new_document(tenant, new, &new.handler, id, run_at, &queue.caller.name, Event::ScheduleFired));
}

fn listening(tenant: &Tenant, event: Event, row: &Row) -> Option<Vec<Rc<Listener>>> {
    let listeners = listeners(tenant).ok()?;
    if listeners.all.is_empty() {
        return None;
    }
    Some(listeners.of(event, row.str(col::HANDLER).unwrap_or(""))).filter(|l| !l.is_empty())
}

/// Enqueues the listeners' tasks. One that can't be is left out and said in the log: a broken
/// listener must not keep tasks from ending.
fn record(tenant: &Tenant, listening: &[Rc<Listener>], document: impl FnOnce() -> Json) {
    let args = Jsonb::from_value(document());
    for listener in listening {
        let add = || -> Result<u128> {
            let tenant = tenant::by_oid(tenant.oid)?;
            let table = tenant.open(tenant.task, Access::Write)?;
            let caller = Caller { name: listener.created_by.clone(), superuser: listener.by_superuser };
            let new = NewTask {
                handler: listener.handler.clone(),
                args: Some(args.clone()),
                meta: Some(json!({ "event": listener.event.name() })),
                ..NewTask::default()
            };
            crate::work::enqueue::add(&Queue::of(tenant, table, caller, By::Engine), &new)
        };
        if let Err(error) = add() {
            let what = format!(
                "{}: listener {} missed an event {}",
                caught::one_line(&tenant.name),
                caught::one_line(&listener.handler),
                listener.event.name()
            );
            caught::log_failure(&what, &error.into());
        }
    }
}

/// The task as tq_tasks and tq_results show it, and which event.
fn document(tenant: &Tenant, row: &Row, event: Event, seen: &Seen) -> Json {
    let handler = handler::find(tenant, row.str(col::HANDLER).unwrap_or("")).ok().flatten();
    let finished = matches!(event, Event::Done | Event::Failed | Event::Cancelled | Event::Expired);
    json!({
        "event": event.name(),
        "id": task::uuid_text(row.uuid(col::ID).unwrap_or(0)),
        "tenant": tenant.name,
        "handler": row.str(col::HANDLER),
        "name": row.str(col::NAME),
        "state": seen.state,
        "reason": null,
        "args": row.json(col::ARGS),
        "result": seen.result,
        "error": seen.error,
        "attempt": seen.attempt,
        "max_attempts": complete::Rules::of(tenant, row, handler.as_deref()).max_attempts,
        "queue": row.str(col::QUEUE).unwrap_or("default"),
        "priority": row.i16(col::PRIORITY),
        "group_id": row.str(col::GROUP_ID),
        "parent_id": row.uuid(col::PARENT_ID).map(task::uuid_text),
        "schedule": row.str(col::SCHEDULE),
        "scheduled_for": time_json(row.time(col::SCHEDULED_FOR)),
        "created_at": time_json(row.time(col::CREATED_AT)),
        "run_at": time_json(row.time(col::RUN_AT)),
        "started_at": time_json(seen.started_at),
        "finished_at": time_json(finished.then(clock::now)),
        "enqueued_by": row.str(col::ENQUEUED_BY),
        "meta": row.json(col::META),
    })
}

/// The same of a task that is being enqueued.
fn new_document(tenant: &Tenant, new: &NewTask, handler: &str, id: u128, run_at: Micros, by: &str, event: Event) -> Json {
    let now = clock::now();
    json!({
        "event": event.name(),
        "id": task::uuid_text(id),
        "tenant": tenant.name,
        "handler": handler,
        "name": new.name,
        "state": if run_at > now { "delayed" } else { "queued" },
        "reason": null,
        "args": new.args.as_ref().map(Jsonb::value),
        "result": null,
        "error": null,
        "attempt": 0,
        "max_attempts": new.max_attempts,
        "queue": new.queue.as_deref().unwrap_or("default"),
        "priority": new.priority.unwrap_or(0),
        "group_id": new.group_id,
        "parent_id": null,
        "schedule": new.schedule,
        "scheduled_for": time_json(new.scheduled_for),
        "created_at": time_json(Some(now)),
        "run_at": time_json(Some(run_at)),
        "started_at": null,
        "finished_at": null,
        "enqueued_by": by,
        "meta": new.meta,
    })
}

// ---- in SQL

fn event_of(args: &Args) -> Result<Event> {
    let name = args.text(0).ok_or_else(|| Error::new("22004", "event is null"))?;
    Event::of(&name).ok_or_else(|| {
        let names: Vec<&str> = Event::ALL.iter().map(|e| e.name()).collect();
        let error = Error::invalid(format!("event \"{name}\" is not known")).detail(format!("Events are {}.", names.join(", ")));
        match handler::nearest(&name, names.into_iter()) {
            Some(near) => error.hint(format!("Did you mean \"{near}\"?")),
            None => error,
        }
    })
}

const LISTENERS: Few = Few {
    table: "listener",
    key: "pg_catalog.format('%s %s %s', event, handler, for_handler)",
    name: "listeners",
    most: 1000,
    hint: "Let one handler listen to all handlers' tasks and look at the document, or end some with tq_off().",
};

/// tq_on(event, handler, for_handler, tenant)
fn on(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_on()");
    let event = event_of(args)?;
    let name = args.text(1).ok_or_else(|| Error::new("22004", "handler is null").hint("Pass the name of a registered handler."))?;
    let tenant = tenant::resolve(args.text(3).as_deref())?;
    require_owner(tenant.owner, &tenant.name)?;
    let handler = handler::require(&tenant, &name)?;
    let for_handler = args.text(2).map(|h| handler::require(&tenant, &h)).transpose()?;
    if for_handler.as_ref().is_some_and(|h| h.name == handler.name) {
        return Err(Error::invalid(format!("handler \"{name}\" listens to itself"))
            .detail("Tasks of a handler that listens fire no events.")
            .hint("Let another handler listen."));
    }
    if event.calls() && handler.is_procedure() {
        return Err(Error::invalid(format!("handler \"{name}\" is a procedure"))
            .detail(format!("Event {} calls the listener inside another transaction, where it can't COMMIT.", event.name()))
            .hint("Register a function."));
    }
    let sample = Jsonb::from_value(json!({ "event": event.name() }));
    handler.check_args(Some(&sample), handler.code_at_enqueue(&tenant).as_ref()).map_err(|e| {
        let detail = e.detail.clone().map_or(String::new(), |d| format!("{d} "));
        e.detail(format!("{detail}It gets the task as one document.")).hint("Let the handler take one parameter of type jsonb.")
    })?;
    let id = task::new_id();
    let caller = sandbox::current_user();
    let of = for_handler.as_ref().map_or("", |h| h.name.as_str());
    let key = [tenant.name.as_str(), event.name(), handler.name.as_str(), of];
    LISTENERS.check_room(key[0], &key[1..].join(" "))?;
    let known = sandbox::as_extension(|| {
        pgrx::Spi::connect_mut(|c| -> std::result::Result<Option<pgrx::Uuid>, pgrx::spi::Error> {
            let rows = c.update(
                "INSERT INTO tenant_q.listener (tenant, event, handler, for_handler, id, by_superuser, created_by, created_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, pg_catalog.now())
                 ON CONFLICT (tenant, event, handler, for_handler) DO UPDATE SET by_superuser = excluded.by_superuser, created_by = excluded.created_by
                 RETURNING id",
                None,
                &[
                    key[0].into(),
                    key[1].into(),
                    key[2].into(),
                    key[3].into(),
                    call::uuid(id).into(),
                    sandbox::is_superuser(caller).into(),
                    catalog::role_name(caller.to_u32()).into(),
                ],
            )?;
            rows.first().get::<pgrx::Uuid>(1)
        })
    })
    .map_err(|e| Error::new("XX000", e.to_string()))?;
    announce_registry()?;
    Ok(known.map_or(Ret::Null, |u| Ret::Uuid(u128::from_be_bytes(*u.as_bytes()))))
}

/// tq_off(event, handler, tenant)
fn off(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_off()");
    let event = event_of(args)?;
    let name = args.text(1).ok_or_else(|| Error::new("22004", "handler is null"))?;
    let tenant = tenant::resolve(args.text(2).as_deref())?;
    require_owner(tenant.owner, &tenant.name)?;
    let gone = run(
        "DELETE FROM tenant_q.listener WHERE tenant OPERATOR(pg_catalog.=) $1 AND event OPERATOR(pg_catalog.=) $2 AND handler OPERATOR(pg_catalog.=) $3 RETURNING 1",
        &[tenant.name.as_str().into(), event.name().into(), name.as_str().into()],
    )?;
    announce_registry()?;
    Ok(Ret::Bool(gone > 0))
}

/// tenant_q.events(tenant): behind the view tq_events.
fn events(args: &Args) -> Result<Ret> {
    let tenant = tenant::resolve(args.text(0).as_deref())?;
    let mut shown: Vec<Json> = listeners(&tenant)?
        .all
        .iter()
        .map(|l| {
            json!({ "events": [l.event.name()], "handler": l.handler, "for_handler": l.for_handler, "how": if l.event.calls() { "call" } else { "task" },
                    "created_by": l.created_by })
        })
        .collect();
    shown.extend(listen::shown(&tenant)?);
    // What they are about, and what their tasks are given, is no more anybody's to see than the tasks.
    let insider = crate::calls::tasks::may_read(&tenant).is_ok();
    for entry in &mut shown {
        if !insider && let Some(entry) = entry.as_object_mut() {
            entry.retain(|key, _| !matches!(key.as_str(), "only_if" | "task"));
        }
        let name = entry["handler"].as_str().unwrap_or("").to_string();
        let status = match handler::find(&tenant, &name)? {
            None => "missing",
            Some(h) => h.fault.as_ref().map_or("ok", |f| f.status()),
        };
        entry["status"] = status.into();
    }
    Ok(Ret::Json(shown.into()))
}

sql_functions! {
    tq_on, pg_finfo_tq_on => on;
    tq_off, pg_finfo_tq_off => off;
    tenant_q_events, pg_finfo_tenant_q_events => events;
}
