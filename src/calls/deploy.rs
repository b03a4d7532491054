//! SQL: what a deploy declares: tq_register_many.
//!
//! A deploy runs in several processes at once, and again and again, as a rule with nothing new to say. So what is the same already
//! isn't written, and all is declared in one order: who declares the same schedules, or has something to write, waits in line.
//!
//! What it has made carries a mark (`declared`, in the registry's row of a handler and among a schedule's notes), which any change
//! by hand takes off. Only what has the mark, and was last declared by the same role, is pruned: never what somebody else has made.

use crate::calls::handlers;
use crate::calls::schedules::{self, carry};
use crate::postgres::call::{Args, Ret};
use crate::postgres::error::{Error, Result};
use crate::postgres::part::Part;
use crate::postgres::relation::Access;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{sandbox, transaction};
use crate::pure::choice::OnConflict;
use crate::pure::nearest::nearest;
use crate::schedules::define::By;
use crate::schedules::follow::{self, Notes};
use crate::schedules::{of_all, resolve_to_change};
use crate::sql_functions;
use crate::tenant::columns::Schedules;
use crate::tenant::rights::{self, author};
use crate::tenant::{Tenant, patience};
use pgrx::Spi;
use serde_json::{Map, Value as Json};
use std::rc::Rc;

const HANDLERS: &str = "handlers";
const SCHEDULES: &str = "schedules";

/// tq_register_many(doc, prune, tenant): how many were new, changed or pruned.
fn register_many(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"SELECT tq_register_many()");
    let document = args.json(0).ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "doc is null"))?;
    let (prune, tenant) = (args.bool(1).unwrap_or(false), args.text(2));
    let document = Part::of(&document);
    let malformed = |what: String| {
        Error::invalid(what).hint(r#"Pass {"handlers": [{"handler": "app.tasks.mail", "external": true}], "schedules": [{"name": …}]}."#)
    };
    if !document.is_object() {
        return Err(malformed("doc is not an object".into()));
    }
    let said = document.without(&[SCHEDULES]);
    if let Some(unknown) = said.keys().find(|key| *key != HANDLERS) {
        let error = malformed(format!("doc has the key \"{unknown}\", which is neither handlers nor schedules"));
        return Err(match nearest(unknown, [HANDLERS, SCHEDULES]) {
            Some(near) => error.hint(format!("Did you mean \"{near}\"?")),
            None => error,
        });
    }
    let entries = match said.get(HANDLERS) {
        None => None,
        Some(Json::Array(entries)) => Some(entries_of(entries)?),
        Some(_) => return Err(malformed("handlers in doc is not an array".into())),
    };
    patience::bounded("tq_register_many()", || {
        let mut changed = 0;
        if let Some(entries) = entries {
            changed += take_up_handlers(entries, prune, tenant.as_deref())?;
        }
        if let Some(schedules) = document.get(SCHEDULES) {
            let tenant = resolve_to_change(tenant.as_deref())?;
            let taken_up = carry::take_up_schedules(&tenant, schedules, OnConflict::Replace, By::Deploy)?;
            changed += taken_up.changed;
            if prune {
                changed += prune_schedules(&tenant, &taken_up.names)?;
            }
        }
        Ok(Ret::Int(changed))
    })
}

/// A handler, as the document has it.
struct Entry {
    name: String,
    shared: bool,
    call: Map<String, Json>,
    /// For people.
    place: String,
}

impl Entry {
    fn err(&self, e: Error) -> Error {
        let detail = e.detail.clone().map_or(String::new(), |d| format!(" {d}"));
        e.detail(format!("{}{detail}", self.place))
    }
}

/// In the order in which they are declared, the same in all processes: of all tenants first, then by name.
fn entries_of(list: &[Json]) -> Result<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::with_capacity(list.len());
    for (n, call) in list.iter().enumerate() {
        let nth = format!("Handler {} of {}", n + 1, list.len());
        let Json::Object(call) = call else {
            return Err(Error::invalid("a handler is not an object")
                .detail(format!("{nth}."))
                .hint("Its keys are parameters of tq_register."));
        };
        let Some(name) = call.get("handler").and_then(Json::as_str) else {
            return Err(Error::invalid("a handler has no name")
                .detail(format!("{nth}."))
                .hint(r#"Write {"handler": "app.tasks.mail", …}."#));
        };
        let shared = call.get("shared") == Some(&Json::Bool(true));
        let entry = Entry { name: name.into(), shared, call: call.clone(), place: format!("{nth} (\"{name}\").") };
        if entries.iter().any(|other| other.name == entry.name && other.shared == shared) {
            return Err(entry.err(Error::invalid(format!("doc has handler \"{name}\" twice"))));
        }
        if call.contains_key("tenant") {
            let error = Error::invalid("a handler in doc names its tenant").hint("Pass it beside: tq_register_many(…, tenant => '…').");
            return Err(entry.err(error));
        }
        entries.push(entry);
    }
    entries.sort_by(|a, b| (b.shared, &a.name).cmp(&(a.shared, &b.name)));
    Ok(entries)
}

fn take_up_handlers(entries: Vec<Entry>, prune: bool, tenant: Option<&str>) -> Result<i32> {
    let of_all = entries.iter().any(|entry| entry.shared);
    let tenant = match entries.is_empty() || entries.iter().any(|entry| !entry.shared) {
        true => Some(rights::resolve_owned(tenant)?),
        false => None,
    };
    let mut changed = 0;
    let register = carry::declared("tq_register")?;
    for entry in &entries {
        let mut call = entry.call.clone();
        if let Some(tenant) = tenant.as_ref().filter(|_| !entry.shared) {
            call.insert("tenant".into(), tenant.name.as_str().into());
        }
        let answer = register.call(handlers::deploy, call).map_err(|e| entry.err(e))?;
        changed += i32::from(matches!(answer, Ret::Bool(true)));
    }
    if prune {
        let kept = |shared: bool| entries.iter().filter(|entry| entry.shared == shared).map(|entry| entry.name.clone()).collect();
        if of_all {
            changed += prune_handlers(None, kept(true))?;
        }
        if let Some(tenant) = &tenant {
            changed += prune_handlers(Some(tenant), kept(false))?;
        }
    }
    Ok(changed)
}

/// Those that a deploy of this role has made, and that are none of these any more.
fn prune_handlers(tenant: Option<&Tenant>, kept: Vec<String>) -> Result<i32> {
    let sql = "SELECT h.name FROM tenant_q.handler h WHERE h.tenant OPERATOR(pg_catalog.=) $1 AND h.declared AND h.registered_by OPERATOR(pg_catalog.=) $2
                  AND h.name OPERATOR(pg_catalog.<>) ALL ($3) ORDER BY h.name";
    let who = tenant.map_or("", |tenant| tenant.name.as_str());
    let role = author().name;
    let found = || {
        Spi::connect(|c| {
            let rows = c.select(sql, None, &[who.into(), role.as_str().into(), kept.into()])?;
            rows.map(|row| row.get::<String>(1).map(Option::unwrap_or_default)).collect::<std::result::Result<Vec<_>, pgrx::spi::Error>>()
        })
    };
    let names = transaction::with_latest_snapshot(|| sandbox::as_extension(found)).map_err(Error::from)?;
    let mut pruned = 0;
    for name in names {
        pruned += i32::from(handlers::forget(tenant, &name)?);
    }
    Ok(pruned)
}

/// The same of schedules. Whoever comes after others goes before them.
fn prune_schedules(tenant: &Rc<Tenant>, kept: &[String]) -> Result<i32> {
    let role = author().name;
    let mut pruned = 0;
    loop {
        let table = tenant.open(tenant.schedule, Access::Read)?;
        let is_over = |name: &str| !kept.iter().any(|kept| kept == name);
        let mut over: Vec<(bool, String)> = transaction::with_latest_snapshot(|| {
            let rows = table.scan(&Schedules::BY_NAME, &[]).filter(|row| !of_all::is_of_all(row) && Notes::of(row).declared);
            let mine = rows.filter(|row| row.get(Schedules::CREATED_BY) == Some(role.as_str()));
            mine.filter_map(|row| Some((!follow::followers(&table, &row).is_empty(), row.text(Schedules::NAME)?)))
                .filter(|(_, name)| is_over(name))
                .collect()
        });
        drop(table);
        over.sort();
        let Some((_, name)) = over.into_iter().next() else { return Ok(pruned) };
        pruned += i32::from(schedules::remove(tenant, &name)?);
    }
}

sql_functions! {
    tq_register_many, pg_finfo_tq_register_many => register_many;
}
