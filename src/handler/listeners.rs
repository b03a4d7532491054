//! Who listens to a tenant's tasks: what tq_on has written, remembered by each process.
//!
//! Asking them is work/ask.rs, telling them work/tell.rs.

use crate::handler::{self, Handler};
use crate::postgres::caught::Failure;
use crate::postgres::code::MayRunCode;
use crate::postgres::column::TableId;
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table};
use crate::postgres::row::Row;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{catalog, sandbox, transaction};
use crate::pure::cache::Bounded;
use crate::pure::choice::{Named, choices};
use crate::pure::time::At;
use crate::settings;
use crate::tenant::columns::{EventListeners, Tasks};
use crate::tenant::{self, Tenant};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;

choices! {
    /// What one can listen to.
    pub enum Event {
        Enqueue = "enqueue",
        BeforeRun = "before_run",
        AfterRun = "after_run",
        AttemptFailed = "attempt_failed",
        Retry = "retry",
        Failed = "failed",
        Done = "done",
        Cancelled = "cancelled",
        Expired = "expired",
        ScheduleFired = "schedule_fired",
    }
}

impl Event {
    /// The listener is called at once, instead of by a task.
    pub fn calls(self) -> bool {
        matches!(self, Event::Enqueue | Event::BeforeRun | Event::AfterRun)
    }
}

pub struct Listener {
    pub event: Event,
    pub handler: String,
    /// Tasks of this handler only.
    pub for_handler: Option<String>,
    pub by_superuser: bool,
    pub created_by: String,
    pub created_at: At,
}

/// Those of one tenant.
#[derive(Default)]
pub struct Listeners {
    pub all: Vec<Rc<Listener>>,
    handlers: HashSet<String>,
}

impl Listeners {
    /// About what they take.
    fn bytes(&self) -> usize {
        let of = |l: &Rc<Listener>| size_of::<Listener>() + 100 + 2 * l.handler.len() + l.for_handler.as_ref().map_or(0, String::len);
        size_of::<Listeners>() + self.all.iter().map(of).sum::<usize>()
    }
    pub fn of(&self, event: Event, handler: &str) -> Vec<Rc<Listener>> {
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
    pub static ASKING: Cell<bool> = const { Cell::new(false) };
}

pub fn listeners(tenant: &Tenant) -> Result<Rc<Listeners>> {
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
    let table = catalog::relation_oid(tenant::registry()?.schema, "listener").and_then(|t| Table::open(TableId::of(t), Access::Read));
    let Some(table) = table else { return Ok((false, found)) };
    let any = table.scan(&EventListeners::ALL, &[]).pass();
    for row in table.scan(&EventListeners::ALL, &[EventListeners::TENANT.equals(tenant)]) {
        let Some(event) = Event::of(row.get(EventListeners::EVENT).unwrap_or("")) else { continue };
        let handler = row.text(EventListeners::HANDLER).unwrap_or_default();
        found.handlers.insert(handler.clone());
        found.all.push(Rc::new(Listener {
            event,
            handler,
            for_handler: row.text(EventListeners::FOR_HANDLER).filter(|h| !h.is_empty()),
            by_superuser: row.get(EventListeners::BY_SUPERUSER).unwrap_or(false),
            created_by: row.text(EventListeners::CREATED_BY).unwrap_or_default(),
            created_at: row.get(EventListeners::CREATED_AT).unwrap_or_default(),
        }));
    }
    Ok((any, found))
}

pub fn listening_handler(tenant: &Tenant, listener: &Listener) -> Result<Rc<Handler>> {
    handler::find(tenant, &listener.handler)?.ok_or_else(|| {
        Error::undefined(format!("listener \"{}\" of event {} is not registered", listener.handler, listener.event.name()))
            .hint("Register the handler again, or end its listening with tq_off().")
    })
}

/// A listener runs as a superuser only if one let it listen and one has enqueued the task.
pub fn check_superuser(tenant: &Tenant, listener: &Listener, role: u32, by_superuser: bool) -> Result<()> {
    let trusted = || by_superuser && listener.by_superuser && settings::allow_superuser() && tenant.distrust().is_none();
    if sandbox::is_superuser(pgrx::pg_sys::Oid::from(role)) && !trusted() {
        return Err(Error::denied(format!("listener \"{}\" would run as a superuser", listener.handler))
            .hint("Register the handler with run_as, or let the schema belong to an ordinary role."));
    }
    Ok(())
}

/// One who listens to runs of tasks runs as the task's role: not one that was registered to run as a third.
pub fn listening_to_run(
    tenant: &Tenant,
    listener: &Listener,
    row: &Row<Tasks>,
    code: &MayRunCode,
) -> std::result::Result<Rc<Handler>, Failure> {
    let handler = listening_handler(tenant, listener)?;
    if handler.run_as != code.role() && handler.run_as != tenant.owner {
        let role = catalog::role_name(handler.run_as).unwrap_or_default();
        let failure = Failure::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            format!("listener \"{}\" runs as role \"{role}\", the task does not", listener.handler),
        );
        return Err(Failure { hint: Some("Register the listener without run_as: it then runs as the task's role.".into()), ..failure });
    }
    check_superuser(tenant, listener, code.role(), row.get(Tasks::BY_SUPERUSER) == Some(true))?;
    Ok(handler)
}
