//! Putting a task into its tenant's table: in the caller's transaction, with the caller's rights.
//!
//! The caller's privilege is checked here, and then the row is written by OID below the level of
//! SQL: the caller may be a superuser and the table's owner may be anybody, so nothing that the
//! owner could attach to the table may run.

use crate::handler::{self, Handler};
use crate::postgres::clock::{self, Micros};
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table, Value};
use crate::postgres::types::Jsonb;
use crate::postgres::{catalog, sandbox, worker};
use crate::settings;
use crate::shared::{gauge, wake};
use crate::task::{self, col, stored};
use crate::tenant::Tenant;
use crate::waits::depend;
use crate::waits::turn::Place;
use crate::waits::unique::{self, Claim};
use serde_json::{Map, Value as Json};
use std::cell::Cell;
use std::rc::Rc;

/// What tq_async's parameters say; None = inherit.
#[derive(Default, Clone)]
pub struct NewTask {
    pub handler: String,
    pub args: Option<Jsonb>,
    pub name: Option<String>,
    pub group_id: Option<String>,
    pub queue: Option<String>,
    pub priority: Option<i32>,
    pub run_at: Option<Micros>,
    pub delay: Option<Micros>,
    pub timeout: Option<Micros>,
    pub max_attempts: Option<i32>,
    pub retry: Option<Json>,
    pub expires: Option<Micros>,
    pub save: Option<bool>,
    pub result_ttl: Option<Micros>,
    pub meta: Option<Json>,
    pub id: Option<u128>,
    /// It runs at once, in the caller's session.
    pub sync: bool,
    /// One at a time of this key; at most as many as tq_set_limit says of this one.
    pub lock: Option<String>,
    pub limit_key: Option<String>,
    pub unique_key: Option<String>,
    pub unique_until: Option<String>,
    pub on_conflict: Option<String>,
    pub depends_on: Vec<u128>,
    pub depends_mode: Option<String>,
    pub allow_failure: Option<bool>,
    pub on_success: Option<String>,
    pub on_failure: Option<String>,
    pub hook: Option<String>,
    /// The flow that it is a member of, and how it waits there.
    pub parent: Option<u128>,
    pub waits_for: Option<u128>,
    /// Gets the result of this task as its last argument.
    pub pass: Option<u128>,
    /// Not before so long after the end of what it waits for: of a later step of a chain.
    pub delay_after: Option<Micros>,
    /// Its args are many: the handler is called once for each.
    pub each: bool,
    /// Set by schedules.
    pub schedule: Option<String>,
    pub scheduled_for: Option<Micros>,
    /// Not beside another task of its schedule.
    pub alone: bool,
    /// A condition that is asked when it is about to run: where it isn't true the task ends without.
    pub only_if: Option<String>,
    /// Set by fan-outs: the one it belongs to.
    pub fanout: Option<u128>,
    /// Whoever listens to tasks being enqueued has been asked about it, and need not be asked at its start.
    pub asked: bool,
}

/// Nothing is put off beyond the year 9999, where RFC 3339 ends; microseconds since 2000.
pub const TIME_MAX: Micros = 252_455_616_000_000_000;
/// Longest text of a label.
const LABEL: usize = 1024;
/// Among a row's options: whoever listens to tasks being enqueued has been asked. True, or the names of those who have.
pub const ASKED: &str = "asked";

fn check_label(what: &str, text: &Option<String>) -> Result<()> {
    match text {
        Some(t) if t.is_empty() => Err(Error::invalid(format!("{what} is empty")).hint(format!("Leave {what} out, or pass NULL."))),
        Some(t) if t.len() > LABEL => Err(Error::limit(format!("{what} is longer than {LABEL} bytes"))),
        _ => Ok(()),
    }
}

fn one_of(what: &str, value: &Option<String>, choices: &[&str]) -> Result<()> {
    match value {
        Some(v) if !choices.contains(&v.as_str()) => {
            Err(Error::invalid(format!("{what} is \"{v}\"")).hint(format!("It is one of {}.", choices.join(", "))))
        }
        _ => Ok(()),
    }
}

impl NewTask {
    /// What can be said without looking at the handler.
    pub fn check(&self) -> Result<()> {
        check_label("name", &self.name)?;
        check_label("group_id", &self.group_id)?;
        check_label("queue", &self.queue)?;
        check_label("lock", &self.lock)?;
        check_label("limit_key", &self.limit_key)?;
        check_label("unique_key", &self.unique_key)?;
        one_of("unique_until", &self.unique_until, &["started", "finished", "deleted"])?;
        one_of("on_conflict", &self.on_conflict, &["error", "skip", "replace"])?;
        one_of("depends_mode", &self.depends_mode, &["all", "any"])?;
        if self.unique_key.is_none() && (self.unique_until.is_some() || self.on_conflict.is_some()) {
            return Err(Error::invalid("unique_until and on_conflict need a unique_key"));
        }
        if self.depends_mode.is_some() && self.depends_on.is_empty() {
            return Err(Error::invalid("depends_mode needs depends_on"));
        }
        if let Some(p) = self.priority
            && i16::try_from(p).is_err()
        {
            return Err(Error::invalid(format!("priority {p} is out of range")).hint("Priorities go from -32768 to 32767, higher first."));
        }
        if self.run_at.is_some() && self.delay.is_some() {
            return Err(Error::invalid("run_at and delay exclude each other"));
        }
        for (what, value) in [("delay", self.delay), ("expires", self.expires), ("result_ttl", self.result_ttl)] {
            if value.is_some_and(|v| v < 0) {
                return Err(Error::invalid(format!("{what} is negative")).hint(format!("Pass {what} as a positive interval.")));
            }
        }
        if self.timeout.is_some_and(|t| t < 0) {
            return Err(Error::invalid("timeout is negative").hint("0 means no timeout."));
        }
        if self.run_at.is_some_and(|t| t == i64::MAX || t == i64::MIN) {
            return Err(Error::invalid("run_at is infinite"));
        }
        if self.max_attempts.is_some_and(|n| n < 0) {
            return Err(Error::invalid("max_attempts is negative").hint("0 means for ever."));
        }
        if let Some(retry) = &self.retry {
            crate::handler::check_retry(retry)?;
        }
        if let Some(args) = &self.args
            && args.size() > settings::max_args_bytes()
        {
            return Err(Error::limit(format!("args take {} bytes", args.size()))
                .detail(format!("tenant_q.max_args allows {} bytes.", settings::max_args_bytes()))
                .hint("Store the data in a table and pass its key."));
        }
        if let Some(meta) = &self.meta {
            let bytes = meta.to_string().len();
            if bytes > settings::max_args_bytes() {
                return Err(Error::limit(format!("meta takes {bytes} bytes"))
                    .detail(format!("tenant_q.max_args allows {} bytes.", settings::max_args_bytes()))
                    .hint("Store the data in a table and pass its key."));
            }
        }
        let now = clock::now();
        for (what, at) in [
            ("run_at", self.run_at),
            ("delay", self.delay.map(|d| now.saturating_add(d))),
            ("timeout", self.timeout.map(|t| now.saturating_add(t))),
            ("expires", self.expires.map(|e| now.saturating_add(e))),
        ] {
            if at.is_some_and(|t| t >= TIME_MAX) {
                return Err(Error::new("22008", format!("{what} points beyond the year 9999")));
            }
        }
        if let Some(id) = self.id
            && id == 0
        {
            return Err(Error::invalid("the nil uuid cannot be a task's id"));
        }
        Ok(())
    }

    /// Where a task is made that runs later or in somebody else's transaction.
    pub fn refuse_sync(&self, whose: &str) -> Result<()> {
        match self.sync {
            false => Ok(()),
            true => Err(Error::invalid(format!("sync makes no sense for tasks of {whose}"))
                .detail("It runs a task at once, in the session and transaction of whoever enqueues it.")
                .hint("Leave sync out; tq_drain() and tq_run_pending() run what is due in your own session.")),
        }
    }

    /// The rare parameters, kept as one document.
    pub(crate) fn options(&self) -> Option<Json> {
        let mut o = Map::new();
        let mut put = |key: &str, value: Option<Json>| {
            if let Some(v) = value {
                o.insert(key.into(), v);
            }
        };
        put("delay", self.delay_after.map(Json::from));
        put("timeout", self.timeout.map(Json::from));
        put("max_attempts", self.max_attempts.map(Json::from));
        put("retry", self.retry.clone());
        put("save", self.save.map(Json::from));
        put("result_ttl", self.result_ttl.map(Json::from));
        put("alone", self.alone.then_some(Json::Bool(true)));
        put("unique_until", self.unique_until.clone().filter(|u| u != "finished").map(Json::from));
        put("on_success", self.on_success.clone().map(Json::from));
        put("on_failure", self.on_failure.clone().map(Json::from));
        put("hook", self.hook.clone().map(Json::from));
        if !self.depends_on.is_empty() {
            put("depends", Some(self.depends_on.iter().map(|d| Json::from(task::uuid_text(*d))).collect()));
            put("any", (self.depends_mode.as_deref() == Some("any")).then_some(Json::Bool(true)));
        }
        put("allow_failure", self.allow_failure.filter(|a| *a).map(Json::from));
        put("pass", self.pass.map(|p| task::uuid_text(p).into()));
        put("each", self.each.then_some(Json::Bool(true)));
        put("only_if", self.only_if.clone().map(Json::String));
        put("fanout", self.fanout.map(|id| task::uuid_text(id).into()));
        put(ASKED, self.asked.then_some(Json::Bool(true)));
        (!o.is_empty()).then_some(Json::Object(o))
    }
}

/// The right to enqueue is INSERT on `args`: see rights.rs.
pub fn may_enqueue(tenant: &Tenant, user: pgrx::pg_sys::Oid) -> bool {
    catalog::may_insert(tenant.task, col::ARGS as i16, user)
}

/// Who enqueues, and what was checked of them.
pub struct Caller {
    pub name: String,
    pub superuser: bool,
}

impl Caller {
    /// The present user, if they may enqueue for this tenant.
    pub fn check(tenant: &Tenant) -> Result<Caller> {
        let user = sandbox::current_user();
        let superuser = sandbox::is_superuser(user);
        if !(superuser || may_enqueue(tenant, user)) {
            return Err(Error::denied(format!("permission denied to enqueue tasks of tenant \"{}\"", tenant.name)).hint(format!(
                "Its owner can run SELECT tq_grant('…', '{{enqueue}}', tenant => {}).",
                pgrx::spi::quote_literal(&tenant.name)
            )));
        }
        Ok(Caller { name: catalog::role_name(user.to_u32()).unwrap_or_default(), superuser })
    }
}

/// In whose doing a task is enqueued.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// Somebody's statement, in whose session code of their own may run.
    Caller,
    /// The engine: what it enqueues is data, whoever's session it is in.
    Engine,
}

/// A tenant's table, open for enqueuing.
pub struct Queue {
    pub tenant: Rc<Tenant>,
    pub table: Table,
    pub caller: Caller,
    pub by: By,
    /// So many more tasks it has room for.
    room: Cell<i64>,
}

impl Queue {
    pub fn open(tenant: Rc<Tenant>) -> Result<Queue> {
        let caller = Caller::check(&tenant)?;
        let table = tenant.open(tenant.task, Access::Write)?;
        Ok(Queue { tenant, table, caller, by: By::Caller, room: Cell::new(0) })
    }

    /// The same for `caller`, whose right to it is known.
    pub fn of(tenant: Rc<Tenant>, table: Table, caller: Caller, by: By) -> Queue {
        Queue { tenant, table, caller, by, room: Cell::new(0) }
    }

    /// Whether a task of this id is here already: enqueuing an id twice is one task.
    pub(crate) fn known(&self, id: u128) -> Result<bool> {
        // Whoever enqueues the same id just now is waited for; then the newest snapshot tells. Not by the
        // scheduler: it enqueues hundreds at a time, each a lock, and the row of the schedule or fan-out
        // keeps a second one like it out.
        if !worker::is_scheduler() {
            crate::tenant::lock::task_id(&self.tenant, id)?;
        }
        crate::postgres::transaction::with_latest_snapshot(|| self.is_there(id))
    }

    fn is_there(&self, id: u128) -> Result<bool> {
        if self.table.find(&[col::ID as i16], Value::Uuid(id)).is_some() {
            return Ok(true);
        }
        let results = self.tenant.open(self.tenant.result, Access::Read)?.fetch_at_most(0);
        Ok(results.find(&[task::rcol::ID as i16], Value::Uuid(id)).is_some())
    }

    /// A task may run as a superuser only if a superuser owns the schema and enqueues it.
    pub(crate) fn check_superuser(&self, handler: &Handler) -> Result<()> {
        if !sandbox::is_superuser(pgrx::pg_sys::Oid::from(handler.run_as)) {
            return Ok(());
        }
        if !settings::allow_superuser() {
            return Err(Error::denied(format!("handler \"{}\" would run as a superuser", handler.name))
                .detail("tenant_q.allow_superuser is off.")
                .hint("Let the schema belong to an ordinary role, or register the handler with run_as."));
        }
        if let Some(why) = self.tenant.distrust() {
            return Err(Error::denied(format!("handler \"{}\" would run as a superuser", handler.name))
                .detail(format!("But {why}: what an owner before has written into its tables is not to be believed."))
                .hint(format!(
                    "Look at tq_handlers, then run SELECT tq_attach({}) as a superuser.",
                    pgrx::spi::quote_literal(&self.tenant.name)
                )));
        }
        if !self.caller.superuser {
            return Err(Error::denied(format!("handler \"{}\" runs as a superuser, so only a superuser may enqueue for it", handler.name))
                .hint("Let the schema belong to an ordinary role, or register the handler with run_as."));
        }
        Ok(())
    }

    pub fn check_room(&self) -> Result<()> {
        let Some(limit) = self.tenant.max_queued else { return Ok(()) };
        if self.room.get() == 0 {
            // Whatever roles they run as: the quota is the tenant's.
            self.room.set(gauge::room(&self.tenant, &self.table, limit).map_err(|unfinished| {
                Error::new("53400", format!("tenant \"{}\" has {unfinished} unfinished tasks", self.tenant.name))
                    .detail(format!("Its max_queued is {limit}."))
                    .hint("Wait until some are done, or ask an administrator for tq_set_quota(max_queued => …).")
            })?);
        }
        self.room.set(self.room.get() - 1);
        Ok(())
    }
}

/// Checks and inserts one task; returns its id.
pub fn add(queue: &Queue, new: &NewTask) -> Result<u128> {
    new.check()?;
    let handler = handler::require(&queue.tenant, &new.handler)?;
    queue.check_superuser(&handler)?;
    check_args(queue, &handler, new)?;
    for hook in [&new.on_success, &new.on_failure, &new.hook].into_iter().flatten() {
        let hook = handler::require(&queue.tenant, hook)?;
        queue.check_superuser(&hook)?;
    }
    queue.check_room()?;
    let mut id = new.id.unwrap_or_else(task::new_id);
    // A member's id is its flow's doing, and as new as the flow.
    if new.id.is_some() && new.parent.is_none() && queue.known(id)? {
        return Ok(id);
    }
    let mut waits_for = new.waits_for;
    if !new.depends_on.is_empty() && new.parent.is_none() {
        waits_for = depend::check(queue, new, id)?;
    }
    if new.unique_key.is_some() {
        match unique::claim(queue, new)? {
            Claim::Free => {}
            Claim::Theirs(theirs) => return Ok(theirs),
            Claim::Replaced(theirs) => id = theirs,
        }
    }
    let run_at = new.run_at.or(new.delay.map(|d| clock::now().saturating_add(d))).unwrap_or_else(clock::now);
    let marked;
    let new = match crate::calls::events::enqueue(queue, new, &handler, id, run_at)? {
        true => {
            marked = NewTask { asked: true, ..new.clone() };
            &marked
        }
        false => new,
    };
    insert(&queue.tenant, &queue.table, &queue.caller, new, id, waits_for, Some(&handler))?;
    Ok(id)
}

fn check_args(queue: &Queue, handler: &Handler, new: &NewTask) -> Result<()> {
    let code = if queue.by == By::Caller { handler.code_at_enqueue(&queue.tenant) } else { None };
    let code = code.as_ref();
    if new.each {
        for item in new.args.iter().filter_map(Jsonb::elements).flatten() {
            handler.check_args(Some(&Jsonb::from_value(item)), code)?;
        }
        return Ok(());
    }
    if new.pass.is_some() {
        // What is handed on is known later; null stands for it, which fits every type.
        let args = crate::work::flow::with_result(handler, new.args.as_ref().map(Jsonb::value), Json::Null)?;
        return handler.check_args(Some(&Jsonb::from_value(args)), code);
    }
    handler.check_args(new.args.as_ref(), code)
}

/// Writes the row and notes the wake. Everything has been checked, or doesn't matter: the engine's
/// own tasks (hooks) are written even if their handler is gone, to be seen waiting for it.
pub fn insert(
    tenant: &Tenant,
    table: &Table,
    caller: &Caller,
    new: &NewTask,
    id: u128,
    waits_for: Option<u128>,
    handler: Option<&Handler>,
) -> Result<()> {
    let entry = tenant.entry(handler.map_or(tenant.owner, |h| h.run_as))?;
    let now = clock::now();
    let run_at = new.run_at.or(new.delay.map(|d| now.saturating_add(d))).unwrap_or(now);
    // From when it may run: what is put off on purpose doesn't grow old meanwhile.
    let expires = new.expires.or(handler.and_then(|h| h.expires)).map(|e| run_at.max(now).saturating_add(e).min(TIME_MAX));
    let options = new.options().map(Jsonb::from_value);
    let meta = match &new.meta {
        Some(meta) => Some(Jsonb::of(meta)),
        None => default_meta()?.map(Jsonb::from_value),
    };
    let queue = new.queue.as_deref().or(handler.and_then(|h| h.queue.as_deref()));
    let set_up = tenant.queue(queue);
    let priority = new.priority.or(handler.and_then(|h| h.priority)).or(set_up.and_then(|q| q.priority)).unwrap_or(0);
    let conditional = waits_for.is_some() || !new.depends_on.is_empty();
    let place = if waits_for.is_some() { Place { state: stored::WAITING, waits_for } } else { Place::of(tenant, queue) };
    table.insert(&[
        Value::Uuid(id),
        Value::Text(handler.map_or(new.handler.as_str(), |h| h.name.as_str())),
        Value::Char(place.state),
        Value::I16(priority as i16),
        Value::I32(0),
        Value::I32(0),
        Value::Time(now),
        Value::Time(run_at),
        Value::json(new.args.as_ref()),
        Value::text(new.name.as_deref()),
        Value::text(new.group_id.as_deref()),
        Value::text(queue),
        Value::text(new.unique_key.as_deref()),
        Value::text(new.lock.as_deref()),
        Value::text(new.limit_key.as_deref()),
        Value::uuid(new.parent),
        if conditional { Value::I32(1) } else { Value::Null },
        Value::text(new.schedule.as_deref()),
        Value::time(new.scheduled_for),
        Value::time(expires),
        Value::Text(&caller.name),
        Value::Bool(caller.superuser),
        Value::json(options.as_ref()),
        Value::json(meta.as_ref()),
        Value::Null,
        Value::uuid(place.waits_for),
    ]);
    match entry {
        Some(entry) => wake::enqueued(entry, if waits_for.is_some() { clock::NEVER } else { run_at }),
        None if crate::shared::get().is_none() => warn_not_preloaded(),
        // No room: a sweep finds it.
        None => {}
    }
    Ok(())
}

/// What the session says that its tasks are about.
pub(crate) fn default_meta() -> Result<Option<Json>> {
    let text = settings::meta();
    if text.is_empty() {
        return Ok(None);
    }
    serde_json::from_str(&text).map(Some).map_err(|e| {
        Error::invalid("tenant_q.meta is not a JSON document")
            .detail(format!("{e}."))
            .hint("SET LOCAL tenant_q.meta = '{\"request\": 42}';")
    })
}

/// Says once a session that nothing will run.
pub fn warn_not_preloaded() {
    thread_local! { static SAID: std::cell::Cell<bool> = const { std::cell::Cell::new(false) }; }
    if !SAID.replace(true) {
        Error::new("01000", "the task is stored, but nothing will run it")
            .detail("tenant_q is not in shared_preload_libraries.")
            .hint("Add tenant_q to shared_preload_libraries and restart the server.")
            .warn();
    }
}
