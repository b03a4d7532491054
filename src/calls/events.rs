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

use crate::calls::tables;
use crate::handler;
use crate::handler::listeners::{self, Event};
use crate::postgres::call::{self, Args, Ret};
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::Access;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::types::Jsonb;
use crate::postgres::{catalog, clock, sandbox, transaction};
use crate::pure::choice::Named;
use crate::pure::ids::Id;
use crate::pure::nearest::nearest;
use crate::sql_functions;
use crate::tenant::columns::EventListeners;
use crate::tenant::records::{self, Declared, Few, announce_registry, cell, declare, exists, run};
use crate::tenant::rights::{self, Right};
use crate::tenant::{self, lock, patience};
use crate::waits::members;
use serde_json::{Value as Json, json};

fn event_of(args: &Args) -> Result<Event> {
    let name = args.text(0).ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "event is null"))?;
    Event::of(&name).ok_or_else(|| {
        let names: Vec<&str> = Event::ALL.iter().map(|e| e.name()).collect();
        let error = Error::invalid(format!("event \"{name}\" is not known")).detail(format!("Events are {}.", names.join(", ")));
        match nearest(&name, names) {
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
pub fn on(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_on()");
    let event = event_of(args)?;
    let name = args
        .text(1)
        .ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "handler is null").hint("Pass the name of a registered handler."))?;
    let tenant = rights::resolve_owned(args.text(3).as_deref())?;
    let handler = handler::require(&tenant, &name)?;
    if event.calls() && handler.is_external() {
        return Err(handler::listening::outside(format!("handler \"{name}\" is external and can't listen to {}", event.name()))
            .hint("Let a function listen; or listen to done, failed, retry and the like, of which workers get tasks."));
    }
    let for_handler = match args.text(2) {
        Some(flow) if members::is_flow(&flow) => Some(flow),
        Some(name) => {
            let of = handler::require(&tenant, &name)?;
            if of.is_external() && matches!(event, Event::BeforeRun | Event::AfterRun) {
                return Err(handler::listening::outside(format!("nobody is called at {} of external handler \"{name}\"", event.name()))
                    .hint("Listen to enqueue, done, failed or retry; what is to be done around the call is the worker's."));
            }
            Some(of.name.clone())
        }
        None => None,
    };
    if for_handler.as_ref() == Some(&handler.name) {
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
    let caller = sandbox::current_user();
    let of = for_handler.as_deref().unwrap_or("");
    let key = [tenant.name.as_str(), event.name(), handler.name.as_str(), of];
    LISTENERS.check_room(key[0], &key[1..].join(" "))?;
    let cells = vec![
        cell("by_superuser", sandbox::is_superuser(caller)),
        cell("created_by", catalog::role_name(caller.to_u32())),
        cell("id", call::uuid(Id::fresh())).once(),
        cell("created_at", call::timestamp(clock::now())).once(),
    ];
    let hold = || {
        lock::declarations(tenant.oid)?;
        handler::listening::keep(&tenant, &handler)
    };
    let columns = [("tenant", key[0]), ("event", key[1]), ("handler", key[2]), ("for_handler", key[3])];
    if declare("listener", &columns, cells, hold)? != Declared::Same {
        announce_registry()?;
    }
    let table = records::open::<EventListeners>("listener", Access::Read)?;
    let names = [EventListeners::TENANT, EventListeners::EVENT, EventListeners::HANDLER, EventListeners::FOR_HANDLER];
    let is_it: Vec<_> = names.iter().zip(key).map(|(column, value)| column.equals(value)).collect();
    let id =
        transaction::with_latest_snapshot(|| table.scan(&EventListeners::ALL, &is_it).next()).and_then(|row| row.get(EventListeners::ID));
    Ok(id.map_or(Ret::Null, Ret::Uuid))
}

/// tq_off(event, handler, tenant)
fn off(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_off()");
    let event = event_of(args)?;
    let name = args.text(1).ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "handler is null"))?;
    let tenant = rights::resolve_owned(args.text(2).as_deref())?;
    let are_they = "FROM tenant_q.listener WHERE tenant OPERATOR(pg_catalog.=) $1 AND event OPERATOR(pg_catalog.=) $2 AND handler OPERATOR(pg_catalog.=) $3";
    let key = [tenant.name.as_str().into(), event.name().into(), name.as_str().into()];
    if !exists(&format!("SELECT {are_they}"), &key)? {
        return Ok(Ret::Bool(false));
    }
    lock::declarations(tenant.oid)?;
    let gone = run(&format!("DELETE {are_they} RETURNING 1"), &key)?;
    announce_registry()?;
    Ok(Ret::Bool(gone > 0))
}

/// tenant_q.events(tenant): behind the view tq_events.
fn events(args: &Args) -> Result<Ret> {
    let tenant = tenant::resolve(args.text(0).as_deref())?;
    let mut shown: Vec<Json> = listeners::listeners(&tenant)?
        .all
        .iter()
        .map(|l| {
            json!({ "events": [l.event.name()], "handler": l.handler, "for_handler": l.for_handler, "how": if l.event.calls() { "call" } else { "task" },
                    "created_by": l.created_by })
        })
        .collect();
    shown.extend(tables::shown(&tenant)?);
    // What they are about, and what their tasks are given, is no more anybody's to see than the tasks.
    let insider = rights::require(&tenant, &[Right::Read]).is_ok();
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
    tq_on, pg_finfo_tq_on => |args| patience::bounded("tq_on()", || on(args));
    tq_off, pg_finfo_tq_off => |args| patience::bounded("tq_off()", || off(args));
    tenant_q_events, pg_finfo_tenant_q_events => events;
}
