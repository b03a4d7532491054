//! What a tenant has said, as a document, and the same said elsewhere: its schedules, or everything that is not in its schema
//! and so in no dump of it.
//!
//! Each key of such a document is one of our functions, and has a list of calls of it: objects whose keys are its parameters.
//! They are made here as if the caller had made them, one after the other, with all that is checked then. Nothing in a
//! document names a function of anybody else's.

use crate::calls::tenants::{pauses, set_quota, set_tenant};
use crate::calls::{events, handlers, queues, tables};
use crate::postgres::call::{self, Args, Given, Ret};
use crate::postgres::error::{Error, Result};
use crate::postgres::part::Part;
use crate::postgres::relation::Access;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::types::{Jsonb, parse_time};
use crate::postgres::{catalog, clock, sandbox, transaction};
use crate::pure::choice::{Named, OnConflict};
use crate::pure::nearest::nearest;
use crate::pure::time::At;
use crate::schedules::define::{By, define};
use crate::schedules::definition::Definition;
use crate::schedules::follow::Notes;
use crate::schedules::{self, of_all};
use crate::tenant::columns::Schedules;
use crate::tenant::records::exists;
use crate::tenant::rights::{self, author};
use crate::tenant::{Tenant, lock, patience};
use pgrx::{JsonB, Spi, pg_sys};
use serde_json::{Map, Value as Json};
use std::rc::Rc;

/// The key of schedules, which are made in an order of their own.
const SCHEDULES: &str = "tq_schedule";

/// A function that a document may have calls of.
struct Carried {
    name: &'static str,
    call: fn(&Args) -> Result<Ret>,
    /// Rows of the registry that become calls of it, of tenant $1: parameters are columns.
    rows: &'static str,
    /// The table and the column of the registry that a call would replace a row of, and the parameter that says which.
    replaces: Option<(&'static str, &'static str, &'static str)>,
}

/// In the order in which they are called: handlers are there before whoever listens.
const CARRIED: &[Carried] = &[
    Carried {
        name: "tq_set_tenant",
        call: set_tenant,
        rows: "SELECT NULLIF(t.ready, true) AS ready, t.timezone, t.shared_schemas, t.settings, t.save_limit, t.save_limit_per, t.result_ttl, t.failure_ttl
                 FROM tenant_q.tenant t WHERE t.name OPERATOR(pg_catalog.=) $1",
        replaces: None,
    },
    Carried {
        name: "tq_set_quota",
        call: set_quota,
        rows: "SELECT t.max_running, t.max_queued, t.weight, t.rate, NULLIF(t.fan_out, true) AS fan_out FROM tenant_q.tenant t WHERE t.name OPERATOR(pg_catalog.=) $1",
        replaces: None,
    },
    Carried {
        name: "tq_register",
        call: handlers::register,
        rows: "SELECT h.name AS handler, CASE WHEN NOT h.external THEN h.function END AS function, h.queue, h.priority, h.timeout, h.max_attempts, h.retry, h.expires,
                      h.max_running, h.rate, h.run_as, CASE WHEN NOT h.external THEN h.settings END AS settings, h.save, h.result_ttl, h.aliases,
                      NULLIF(h.external, false) AS external, CASE WHEN h.external THEN h.settings END AS params FROM tenant_q.handler h WHERE h.tenant OPERATOR(pg_catalog.=) $1 ORDER BY h.name",
        replaces: Some(("handler", "name", "handler")),
    },
    Carried {
        name: "tq_set_queue",
        call: queues::set_queue,
        rows: "SELECT q.name AS queue, q.max_running, q.rate, q.priority, q.timeout, q.max_attempts, q.pick FROM tenant_q.queue q
                WHERE q.tenant OPERATOR(pg_catalog.=) $1 ORDER BY q.name",
        replaces: Some(("queue", "name", "queue")),
    },
    Carried {
        name: "tq_set_limit",
        call: queues::set_limit,
        rows: "SELECT l.key AS limit_key, l.max_running, l.rate, l.algorithm FROM tenant_q.limit_key l WHERE l.tenant OPERATOR(pg_catalog.=) $1 ORDER BY l.key",
        replaces: Some(("limit_key", "key", "limit_key")),
    },
    Carried {
        name: "tq_on",
        call: events::on,
        rows: "SELECT l.event, l.handler, NULLIF(l.for_handler, '') AS for_handler FROM tenant_q.listener l WHERE l.tenant OPERATOR(pg_catalog.=) $1
                ORDER BY l.event, l.handler, l.for_handler",
        replaces: None,
    },
    Carried {
        name: "tq_listen_table",
        call: tables::listen_table,
        rows: "SELECT l.relation, l.handler, l.events, l.only_if, l.each, l.task FROM tenant_q.table_listener l WHERE l.tenant OPERATOR(pg_catalog.=) $1
                ORDER BY l.relation, l.handler",
        replaces: None,
    },
    Carried {
        name: "tq_pause",
        call: pauses::pause,
        rows: "SELECT NULLIF(p.queue, '') AS queue, NULLIF(p.handler, '') AS handler, CASE WHEN pg_catalog.isfinite(p.until) THEN p.until END AS until
                 FROM tenant_q.pause p WHERE p.tenant OPERATOR(pg_catalog.=) $1 AND p.until OPERATOR(pg_catalog.>) pg_catalog.now() ORDER BY p.queue, p.handler",
        replaces: None,
    },
];

/// tq_export(tenant), as 0.1.0 declares it.
pub fn export_schedules(args: &Args) -> Result<Ret> {
    Ok(Ret::Document(schedules_of(&schedules::resolve_to_read(args.text(0).as_deref())?)?))
}

/// tq_export(everything, tenant)
pub fn export(args: &Args) -> Result<Ret> {
    if args.bool(0) != Some(true) {
        return Ok(Ret::Document(schedules_of(&schedules::resolve_to_read(args.text(1).as_deref())?)?));
    }
    let tenant = rights::resolve_owned(args.text(1).as_deref())?;
    let said = said_of(&tenant)?;
    let schedules = schedules_of(&tenant)?;
    Ok(Ret::Document(Jsonb::object(&said, &[(SCHEDULES, &schedules)])?))
}

/// All schedules, each as a document whose keys are tq_schedule's parameters.
fn schedules_of(tenant: &Rc<Tenant>) -> Result<Jsonb> {
    let table = tenant.open(tenant.schedule, Access::Read)?;
    let mut documents = Vec::new();
    // Those of all tenants are nobody's to carry.
    for row in table.scan(&Schedules::BY_NAME, &[]).filter(|row| !of_all::is_of_all(row)) {
        let granted = Notes::of(&row).granted;
        let definition = Definition::of_row(&row);
        // What it has been granted, not what is left: how often it has fired stays here.
        let definition = Definition { repeats: granted.or(definition.repeats), ..definition };
        let document = definition.document(row.document(Schedules::TASK).as_ref());
        documents.push(document.map_err(|e| e.detail(format!("Schedule \"{}\".", definition.name)))?);
    }
    Jsonb::array(&documents).map_err(|e| {
        e.detail(format!("They are {} schedules.", documents.len()))
            .hint("Have fewer, or smaller args: what is large belongs into a table.")
    })
}

/// What the registry says of the tenant, by the functions that say it.
fn said_of(tenant: &Tenant) -> Result<Map<String, Json>> {
    let mut said = Map::new();
    for carried in CARRIED {
        let sql = format!("SELECT pg_catalog.to_jsonb(x) FROM ({}) x", carried.rows);
        let rows = || {
            Spi::connect(|c| {
                let rows = c.select(&sql, None, &[tenant.name.as_str().into()])?;
                rows.map(|row| row.get::<JsonB>(1)).collect::<std::result::Result<Vec<_>, pgrx::spi::Error>>()
            })
        };
        let rows = sandbox::as_extension(rows).map_err(|e: pgrx::spi::Error| Error::internal(e.to_string()))?;
        // What is NULL is not said.
        let given = |row: JsonB| match row.0 {
            Json::Object(row) => row.into_iter().filter(|(_, value)| !value.is_null()).collect(),
            _ => Map::new(),
        };
        let calls: Vec<Json> =
            rows.into_iter().flatten().map(given).filter(|call| !call.is_empty() || carried.name == "tq_pause").map(Json::Object).collect();
        if !calls.is_empty() {
            said.insert(carried.name.into(), calls.into());
        }
    }
    Ok(said)
}

/// tq_import(doc, on_conflict, tenant): how many documents of it were taken up.
pub fn import(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"SELECT tq_import()");
    let document = args.json(0).ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "doc is null"))?;
    let conflict = || args.text(1).map_or(Ok(OnConflict::default()), |word| OnConflict::known("on_conflict", &word));
    let part = Part::of(&document);
    if part.is_object() {
        let tenant = rights::resolve_owned(args.text(2).as_deref())?;
        let conflict = conflict()?;
        return patience::bounded("tq_import()", || take_up(&tenant, part, conflict));
    }
    let tenant = schedules::resolve_to_change(args.text(2).as_deref())?;
    Ok(Ret::Int(take_up_schedules(&tenant, part, conflict()?, By::Hand)?.made))
}

/// What became of a list of schedules.
#[derive(Default)]
pub struct TakenUp {
    /// All of these names.
    pub names: Vec<String>,
    /// How many are as the list has them now; how many weren't before.
    pub made: i32,
    pub changed: i32,
}

/// Makes schedules, all or none.
pub fn take_up_schedules(tenant: &Rc<Tenant>, documents: Part, conflict: OnConflict, by: By) -> Result<TakenUp> {
    let Some(count) = documents.len() else {
        return Err(Error::invalid("doc is not an array").hint("Pass what tq_export() returns: [{\"name\": …}, …]."));
    };
    let place = |n: usize, name: &str, e: Error| {
        let detail = e.detail.clone().map_or(String::new(), |d| format!(" {d}"));
        let name = if name.is_empty() { String::new() } else { format!(" (\"{name}\")") };
        e.detail(format!("Schedule {} of {count}{name}.{detail}", n + 1))
    };
    let mut waiting: Vec<(usize, Definition)> = Vec::with_capacity(count);
    for n in 0..count {
        let d = documents.at(n);
        let name = d.get("name").and_then(|name| name.value().as_str().map(str::to_owned)).unwrap_or_default();
        let definition = Definition::of_document(d).map_err(|e| place(n, &name, e))?;
        if waiting.iter().any(|(_, other)| other.name == definition.name) {
            return Err(place(n, &name, Error::invalid(format!("doc has schedule \"{name}\" twice"))));
        }
        waiting.push((n, definition));
    }
    // In one order, so that two imports wait for each other in line.
    let mut names: Vec<&str> = waiting.iter().map(|(_, d)| d.name.as_str()).collect();
    names.sort_unstable();
    names.iter().try_for_each(|name| lock::schedule_name(tenant, name))?;
    let author = author();
    let mut taken_up = TakenUp { names: names.iter().map(|name| name.to_string()).collect(), ..TakenUp::default() };
    // Whoever comes after others comes after them here too. What is left waits for each other, or for
    // one that isn't there: then define() says so.
    while !waiting.is_empty() {
        let names: std::collections::HashSet<String> = waiting.iter().map(|(_, d)| d.name.clone()).collect();
        let (mut now, later): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(_, d)| d.after().iter().all(|a| !names.contains(a)));
        waiting = later;
        if now.is_empty() {
            let (n, d) = waiting.remove(0);
            return Err(place(n, &d.name, Error::invalid("after makes a circle")));
        }
        for (n, definition) in now.drain(..) {
            let defined = define(tenant, &definition, conflict, &author, by).map_err(|e| place(n, &definition.name, e))?;
            taken_up.made += i32::from(defined.made);
            taken_up.changed += i32::from(defined.changed);
        }
    }
    Ok(taken_up)
}

/// A function of ours as SQL declares it.
pub struct Declared {
    name: String,
    oid: u32,
    parameters: Vec<String>,
}

/// The function of this name, if the caller may call it.
pub fn declared(name: &str) -> Result<Declared> {
    let sql = "SELECT p.oid, p.proargnames FROM pg_catalog.pg_proc p, pg_catalog.pg_depend d, pg_catalog.pg_extension e
        WHERE e.extname OPERATOR(pg_catalog.=) 'tenant_q' AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
          AND d.refobjid OPERATOR(pg_catalog.=) e.oid AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
          AND d.objid OPERATOR(pg_catalog.=) p.oid AND d.deptype OPERATOR(pg_catalog.=) 'e' AND p.proname OPERATOR(pg_catalog.=) $1";
    let found = sandbox::as_extension(|| {
        Spi::connect(|c| {
            let row = c.select(sql, Some(1), &[name.into()])?.first();
            Ok(row.get::<pg_sys::Oid>(1)?.zip(row.get::<Vec<Option<String>>>(2)?))
        })
    });
    let found = found.map_err(|e: pgrx::spi::Error| Error::internal(e.to_string()))?;
    let (oid, parameters) = found.ok_or_else(|| Error::state(format!("function {name} is gone")))?;
    if !catalog::may_execute(oid.to_u32(), sandbox::current_user()) {
        return Err(Error::denied(format!("permission denied for function {name}"))
            .hint(format!("Let an administrator import, or leave it out: tq_import(doc - '{name}').")));
    }
    Ok(Declared { name: name.into(), oid: oid.to_u32(), parameters: parameters.into_iter().flatten().collect() })
}

impl Declared {
    /// Calls it: what is behind it, with these values of its parameters by name.
    pub fn call(&self, behind: fn(&Args) -> Result<Ret>, mut call: Map<String, Json>) -> Result<Ret> {
        if let Some(unknown) = call.keys().find(|key| !self.parameters.contains(key)) {
            let error = Error::invalid(format!("{} has no parameter \"{unknown}\"", self.name));
            return Err(match nearest(unknown, self.parameters.iter().map(String::as_str)) {
                Some(near) => error.hint(format!("Did you mean \"{near}\"?")),
                None => error,
            });
        }
        let given: Vec<Given> = self.parameters.iter().map(|name| Given::of(call.remove(name).unwrap_or(Json::Null))).collect();
        let answer = call::with_values(self.oid, behind, &given)?;
        transaction::see_own_writes();
        Ok(answer)
    }
}

/// All that a document says, all or none; how many calls that were.
fn take_up(tenant: &Rc<Tenant>, document: Part, conflict: OnConflict) -> Result<Ret> {
    let said = document.without(&[SCHEDULES]);
    let names = || CARRIED.iter().map(|carried| carried.name).chain([SCHEDULES]);
    if let Some(unknown) = said.keys().find(|key| !names().any(|name| name == key.as_str())) {
        let error = Error::invalid(format!("doc has the key \"{unknown}\", which is none of its functions"));
        return Err(match nearest(unknown, names()) {
            Some(near) => error.hint(format!("Did you mean \"{near}\"?")),
            None => error.hint(format!("They are {}.", names().collect::<Vec<_>>().join(", "))),
        });
    }
    let mut made = 0;
    for carried in CARRIED {
        let Some(calls) = said.get(carried.name) else { continue };
        let Json::Array(calls) = calls else {
            return Err(Error::invalid(format!("{} in doc is not an array", carried.name))
                .hint("Write a list of its calls: [{\"parameter\": …}, …]."));
        };
        let declared = declared(carried.name)?;
        for (n, call) in calls.iter().enumerate() {
            let done = carried.call(tenant, &declared, call, conflict).map_err(|e| {
                let detail = e.detail.clone().map_or(String::new(), |d| format!(" {d}"));
                e.detail(format!("{} {} of {}{}.{detail}", carried.name, n + 1, calls.len(), carried.called(call)))
            })?;
            made += i32::from(done);
        }
    }
    if let Some(schedules) = document.get(SCHEDULES) {
        made += take_up_schedules(tenant, schedules, conflict, By::Hand)?.made;
    }
    Ok(Ret::Int(made))
}

impl Carried {
    /// What a call is about, for people; the rest of it may hold a password.
    fn called(&self, call: &Json) -> String {
        let name = self.replaces.and_then(|(_, _, parameter)| call.get(parameter)?.as_str());
        name.map_or(String::new(), |name| format!(" (\"{name}\")"))
    }

    /// False: it is there already, or over.
    fn call(&self, tenant: &Tenant, declared: &Declared, call: &Json, conflict: OnConflict) -> Result<bool> {
        let Json::Object(call) = call else {
            return Err(Error::invalid("a call is not an object").hint("Its keys are parameters: {\"parameter\": …}."));
        };
        let mut call = call.clone();
        if let Some((table, column, parameter)) = self.replaces
            && conflict != OnConflict::Replace
            && let Some(name) = call.get(parameter).and_then(Json::as_str)
        {
            let is_there =
                format!("SELECT FROM tenant_q.{table} WHERE tenant OPERATOR(pg_catalog.=) $1 AND {column} OPERATOR(pg_catalog.=) $2");
            if exists(&is_there, &[tenant.name.as_str().into(), name.into()])? {
                if conflict == OnConflict::Skip {
                    return Ok(false);
                }
                return Err(Error::new(
                    SqlState::DUPLICATE_OBJECT,
                    format!("{parameter} \"{name}\" is there already in tenant \"{}\"", tenant.name),
                )
                .hint("on_conflict => 'replace' says it again, 'skip' leaves what is there."));
            }
        }
        if self.name == "tq_pause"
            && let Some(until) = call.remove("until")
        {
            // What is left of it; as a length of time it is none of the calendar's.
            let until = until.as_str().and_then(parse_time).ok_or_else(|| Error::invalid("until is not a timestamp"))?;
            let now: At = clock::now();
            if until <= now {
                return Ok(false);
            }
            call.insert("duration".into(), format!("{} microseconds", (until - now).micros()).into());
        }
        if call.contains_key("tenant") {
            return Err(Error::invalid("a call in doc names its tenant").hint("Pass it beside: tq_import(…, tenant => '…')."));
        }
        call.insert("tenant".into(), tenant.name.as_str().into());
        declared.call(self.call, call)?;
        Ok(true)
    }
}
