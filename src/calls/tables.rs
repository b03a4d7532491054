//! Tables that cause tasks: tq_listen_table and its kin.
//!
//! A row of tenant_q.table_listener says what is enqueued, and the triggers on the table name it (`fired`). A task is enqueued
//! for the table's owner, whose right to enqueue is checked each time; `conditions` are the owner's too. `triggers` are made
//! so that a dump of their schema restores anywhere; of those that come from elsewhere `orphans` tells.

pub mod conditions;
mod fired;
pub mod orphans;
mod triggers;

use crate::postgres::call::{Args, Ret};
use crate::postgres::error::{Error, Result};
use crate::postgres::function::changes;
use crate::postgres::relation::{Access, Table};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::trigger::{self, Operation, RowChange};
use crate::postgres::types::Jsonb;
use crate::postgres::{catalog, sandbox, session, transaction};
use crate::pure::choice::Named;
use crate::pure::ids::Id;
use crate::task::new::{self, NewTask};
use crate::tenant::records::{announce_registry, exists, run};
use crate::tenant::rights::{self, Right};
use crate::tenant::{self, Tenant, lock, patience};
use crate::{handler, sql_functions};
use pgrx::{JsonB, Spi, pg_sys};
use serde_json::{Value as Json, json};
use std::collections::HashSet;
use std::ffi::CString;
use triggers::{Definition, Triggers};

/// What tq_listen_table is asked about: a table of the caller's.
struct Target {
    oid: u32,
    /// As SQL names it.
    name: String,
    schema: u32,
    owner: u32,
}

impl Target {
    fn of(relation: Option<u32>) -> Result<Target> {
        let oid = relation.ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "relation is null"))?;
        let table = Table::open_any(oid, Access::Read)
            .ok_or_else(|| Error::new(SqlState::UNDEFINED_TABLE, format!("relation {oid} does not exist")))?;
        let name = qualified_name(oid);
        let owner = catalog::relation_owner(&table);
        let user = sandbox::current_user();
        if !sandbox::is_superuser(user) && !sandbox::has_privs_of(user, pg_sys::Oid::from(owner)) {
            return Err(Error::denied(format!("must be owner of table {name}")));
        }
        if !matches!(trigger::kind(&table), b'r' | b'p') {
            return Err(Error::new(SqlState::WRONG_OBJECT_TYPE, format!("{name} is not a table"))
                .hint("Listen to the tables beneath it: only ordinary and partitioned tables have triggers for changes of rows."));
        }
        let schema = trigger::schema(&table);
        let own = schema == tenant::registry()?.schema
            || tenant::by_oid(schema).is_ok_and(|t| t.tables().contains(&oid))
            || !crate::postgres::function::is_built_in(oid) && catalog::schema_name(schema).as_deref() == Some("tenant_q");
        if own || crate::postgres::function::is_built_in(oid) {
            return Err(Error::new(SqlState::WRONG_OBJECT_TYPE, format!("{name} is not a table to listen to"))
                .hint("For what happens to tasks there is tq_on()."));
        }
        Ok(Target { oid, name, schema, owner })
    }

    /// Runs DDL on the table as its owner, in the sandbox: the text is the caller's, who is the owner or could be.
    fn ddl(&self, path: &str, statement: &str) -> Result<()> {
        ddl(self.owner, path, statement)
    }
}

fn qualified_name(relation: u32) -> String {
    let schema = Table::open_any(relation, Access::Read).map(|t| trigger::schema(&t)).and_then(catalog::schema_name).unwrap_or_default();
    format!("{}.{}", catalog::quote(&schema), catalog::quote(&catalog::relation_name(relation).unwrap_or_default()))
}

/// How the names of a listener's triggers begin.
fn trigger_prefix(id: Id) -> String {
    format!("tq_listen_{:016x}_", id.low())
}

fn trigger_name(id: Id, operation: Operation) -> String {
    format!("{}{}", trigger_prefix(id), operation.name())
}

/// Runs DDL on a table as its owner, in the sandbox.
fn ddl(owner: u32, path: &str, statement: &str) -> Result<()> {
    sandbox::as_owner(pg_sys::Oid::from(owner), || {
        if let Ok(path) = CString::new(path) {
            session::set_local(c"search_path", &path);
        }
        Spi::run(statement).map_err(Error::from)
    })
}

fn operations(events: Option<Vec<String>>) -> Result<Vec<Operation>> {
    let events = events.unwrap_or_else(|| ["insert", "update", "delete"].map(String::from).to_vec());
    let mut found: Vec<Operation> = Vec::new();
    for event in &events {
        let Some(operation) = Operation::of(&event.to_ascii_lowercase()) else {
            return Err(Error::invalid(format!("event \"{event}\" is not known")).hint("Events are insert, update, delete and truncate."));
        };
        if !found.contains(&operation) {
            found.push(operation);
        }
    }
    if found.is_empty() {
        return Err(Error::invalid("events is empty").hint("tq_unlisten_table() ends listening."));
    }
    Ok(found)
}

/// The parameter `task`: what the listener doesn't say itself.
fn check_task(document: Option<&Json>) -> Result<()> {
    let options = document.map_or(Ok(NewTask::default()), new::task_object)?;
    if !options.handler.is_empty() || options.args.is_some() || options.id.is_some() {
        return Err(Error::invalid("task sets handler, args or id").hint("These come from the listener; task is for the other parameters."));
    }
    options.check()?;
    options.refuse_sync("a table's listener")
}

/// Whether the handler takes what the trigger will pass.
fn check_handler(tenant: &Tenant, handler: &handler::Handler, operations: &[Operation], table: &str, by_row: bool) -> Result<()> {
    let samples: Vec<Jsonb> = operations.iter().map(|o| document_for(*o, table, by_row, &[])).collect::<Result<_>>()?;
    for sample in &samples {
        handler.check_args(Some(sample), handler.code_at_enqueue(tenant).as_ref()).map_err(|e| {
            let detail = e.detail.clone().map_or(String::new(), |d| format!("{d} "));
            e.detail(format!("{detail}Its args are {}.", shape(by_row))).hint("Let the handler take one parameter of type jsonb.")
        })?;
    }
    Ok(())
}

/// tq_listen_table(relation, handler, events, only_if, each, task, tenant)
pub fn listen_table(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_listen_table()");
    let name = args
        .text(1)
        .ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "handler is null").hint("Pass the name of a registered handler."))?;
    let operations = operations(args.texts(2))?;
    let only_if = args.text(3);
    let each = args.text(4).unwrap_or_else(|| "row".into());
    let tenant = tenant::resolve(args.text(6).as_deref())?;
    let document = args.setting(5);
    let relation = args.relation(0);
    let is_so = || {
        let known = handler::find(&tenant, &name)?;
        let handler = known.as_ref().map_or(name.as_str(), |h| h.name.as_str());
        is_so(relation, tenant.name.as_str(), handler, &operations, &each, only_if.as_deref(), document.as_ref())
    };
    if is_so()? {
        return Ok(Ret::Void);
    }
    lock_listeners(relation)?;
    if is_so()? {
        return Ok(Ret::Void);
    }
    let target = Target::of(relation)?;
    let wanted = Definition { tenant: tenant.name.clone(), handler: name, operations, each, only_if, task: document, is_whole: true };
    listen(&target, &wanted, &tenant)?;
    Ok(Ret::Void)
}

/// Makes a listener of a table of the caller's, in the place of one that there may be.
fn listen(target: &Target, wanted: &Definition, tenant: &Tenant) -> Result<()> {
    let by_row = match wanted.each.as_str() {
        "row" => true,
        "statement" => false,
        each => return Err(Error::invalid(format!("each is \"{each}\"")).hint("It is 'row' or 'statement'.")),
    };
    if wanted.only_if.is_some() && !by_row {
        return Err(Error::invalid("only_if goes with each => 'row' only").hint("Let the handler look at the rows."));
    }
    check_task(wanted.task.as_ref())?;
    may_enqueue(tenant, target.owner)?;
    if let Some(condition) = &wanted.only_if {
        target.check_condition(condition)?;
    }
    let handler = handler::require(tenant, &wanted.handler)?;
    check_handler(tenant, &handler, &wanted.operations, &target.name, by_row)?;
    handler::listening::keep(tenant, &handler)?;
    let caller = sandbox::current_user();
    let by_superuser = sandbox::is_superuser(caller) && sandbox::is_superuser(pg_sys::Oid::from(target.owner));
    remove(target, &handler.name, tenant)?;
    let id = Id::fresh();
    let path = target.condition_path(tenant)?;
    let definition = &Definition {
        tenant: tenant.name.clone(),
        handler: handler.name.clone(),
        operations: wanted.operations.clone(),
        each: wanted.each.clone(),
        only_if: wanted.only_if.clone(),
        task: wanted.task.clone(),
        is_whole: true,
    };
    Triggers { target, path: &path, id, definition }.make()?;
    run(
        "INSERT INTO tenant_q.table_listener (id, tenant, relation, relation_oid, owner, handler, events, each, only_if, task, by_superuser, created_by, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, pg_catalog.now())",
        &[
            crate::postgres::call::uuid(id).into(),
            tenant.name.as_str().into(),
            target.name.as_str().into(),
            pg_sys::Oid::from(target.oid).into(),
            catalog::role_name(target.owner).into(),
            handler.name.as_str().into(),
            definition.events().into(),
            wanted.each.as_str().into(),
            wanted.only_if.clone().into(),
            wanted.task.clone().map(JsonB).into(),
            by_superuser.into(),
            catalog::role_name(caller.to_u32()).into(),
        ],
    )?;
    announce_registry()
}

/// Whether the caller owns the table, as SQL over row `c` of pg_class; $1 is the table, $2 the caller.
const OWNS: &str = "c.oid OPERATOR(pg_catalog.=) $1 AND pg_catalog.pg_has_role($2, c.relowner, 'USAGE')";

/// Who else changes what listens to this table is waited for: before it is opened, for whoever drops a trigger needs it
/// for themselves. Only its owners may keep each other waiting.
fn lock_listeners(relation: Option<u32>) -> Result<()> {
    let Some(relation) = relation else { return Ok(()) };
    let caller = sandbox::current_user();
    match exists(&format!("SELECT FROM pg_catalog.pg_class c WHERE {OWNS}"), &[pg_sys::Oid::from(relation).into(), caller.into()])? {
        true => lock::listeners(relation),
        false => Ok(()),
    }
}

/// Whether the handler listens to this table of the caller's already, in just this way.
fn is_so(
    relation: Option<u32>,
    tenant: &str,
    handler: &str,
    operations: &[Operation],
    each: &str,
    only_if: Option<&str>,
    task: Option<&Json>,
) -> Result<bool> {
    let Some(relation) = relation else { return Ok(false) };
    let caller = sandbox::current_user();
    let events: Vec<String> = operations.iter().map(|o| o.name().to_string()).collect();
    exists(
        &format!(
            "SELECT FROM pg_catalog.pg_class c JOIN tenant_q.table_listener l ON l.relation_oid OPERATOR(pg_catalog.=) c.oid
               JOIN pg_catalog.pg_roles o ON o.oid OPERATOR(pg_catalog.=) c.relowner
              WHERE {OWNS} AND pg_catalog.to_regclass(l.relation) OPERATOR(pg_catalog.=) c.oid AND l.owner OPERATOR(pg_catalog.=) o.rolname::pg_catalog.text AND l.tenant OPERATOR(pg_catalog.=) $3
                AND l.handler OPERATOR(pg_catalog.=) $4 AND l.events OPERATOR(pg_catalog.@>) $5 AND l.events OPERATOR(pg_catalog.<@) $5
                AND l.each OPERATOR(pg_catalog.=) $6 AND l.only_if IS NOT DISTINCT FROM $7 AND l.task IS NOT DISTINCT FROM $8
                AND l.by_superuser OPERATOR(pg_catalog.=) ($9 AND o.rolsuper)
                AND pg_catalog.cardinality($5) OPERATOR(pg_catalog.=) (
                    SELECT pg_catalog.count(*) FROM pg_catalog.pg_trigger t
                     WHERE t.tgrelid OPERATOR(pg_catalog.=) c.oid AND t.tgparentid OPERATOR(pg_catalog.=) 0 AND t.tgenabled OPERATOR(pg_catalog.=) 'O'
                       AND pg_catalog.starts_with(t.tgname::pg_catalog.text, 'tq_listen_')
                       AND pg_catalog.strpos(pg_catalog.encode(t.tgargs, 'escape'), l.id::pg_catalog.text) OPERATOR(pg_catalog.=) 1)"
        ),
        &[
            pg_sys::Oid::from(relation).into(),
            caller.into(),
            tenant.into(),
            handler.into(),
            events.into(),
            each.into(),
            only_if.into(),
            task.map(|task| JsonB(task.clone())).into(),
            sandbox::is_superuser(caller).into(),
        ],
    )
}

/// tq_unlisten_table(relation, handler, tenant)
fn unlisten_table(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_unlisten_table()");
    let name = args.text(1).ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "handler is null"))?;
    let tenant = tenant::resolve(args.text(2).as_deref())?;
    lock_listeners(args.relation(0))?;
    let target = Target::of(args.relation(0))?;
    let gone = remove(&target, &name, &tenant)?;
    if gone {
        announce_registry()?;
    }
    Ok(Ret::Bool(gone))
}

/// Drops the triggers and the rows of these listeners, and rows whose table is gone; so triggers that come from elsewhere and
/// were declared for the same, or don't say for what.
fn remove(target: &Target, handler: &str, tenant: &Tenant) -> Result<bool> {
    let is_same = |of: &str, name: &str| (of == tenant.name || of.is_empty()) && name == handler;
    // The triggers tell which listeners are of this table: after a restore its OID is another one.
    let mut made = triggers::made(target.oid)?;
    made.retain(|one| match (&one.listener, &one.definition) {
        (Some((of, name)), _) => is_same(of, name),
        (None, Some(definition)) => is_same(&definition.tenant, &definition.handler),
        (None, None) => true,
    });
    triggers::drop(target, &made.iter().map(|one| one.name.as_str()).collect::<Vec<_>>())?;
    let ids: HashSet<Id> = made.iter().filter(|one| one.listener.is_some()).filter_map(|one| one.id).collect();
    for id in &ids {
        run(
            "DELETE FROM tenant_q.table_listener WHERE id OPERATOR(pg_catalog.=) $1 RETURNING 1",
            &[crate::postgres::call::uuid(*id).into()],
        )?;
    }
    let of_no_table = "FROM tenant_q.table_listener l WHERE l.tenant OPERATOR(pg_catalog.=) ANY (ARRAY[$1, ''])
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) l.relation_oid)
            AND pg_catalog.to_regclass(l.relation) IS NULL";
    if exists(&format!("SELECT {of_no_table}"), &[tenant.name.as_str().into()])? {
        run(&format!("DELETE {of_no_table}"), &[tenant.name.as_str().into()])?;
    }
    Ok(!made.is_empty())
}

fn shape(by_row: bool) -> &'static str {
    if by_row { "{\"event\", \"table\", \"old\", \"new\"}" } else { "{\"event\", \"table\", \"rows\": [{\"old\", \"new\"}]}" }
}

fn document_for(operation: Operation, table: &str, by_row: bool, rows: &[RowChange]) -> Result<Jsonb> {
    Ok(match (operation, by_row) {
        (Operation::Truncate, _) => changes::none(operation.name(), table)?,
        (_, true) => changes::one(operation.name(), table, rows.first().unwrap_or(&(None, None)))?,
        (_, false) => changes::many(operation.name(), table, rows)?,
    })
}

/// The table's owner enqueues, so they must be allowed to.
fn may_enqueue(tenant: &Tenant, owner: u32) -> Result<()> {
    let owner = pg_sys::Oid::from(owner);
    if sandbox::is_superuser(owner) || crate::tenant::rights::may_enqueue(tenant, owner) {
        return Ok(());
    }
    let role = catalog::role_name(owner.to_u32()).unwrap_or_default();
    Err(Error::denied(format!("the table's owner \"{role}\" may not enqueue tasks of tenant \"{}\"", tenant.name)).hint(rights::ask_for(
        &tenant.name,
        owner,
        &[Right::Enqueue],
    )))
}

/// Listeners of this tenant's tables, for tq_events.
pub fn shown(tenant: &Tenant) -> Result<Vec<Json>> {
    let fail = |e: pgrx::spi::Error| Error::new(SqlState::INTERNAL_ERROR, e.to_string());
    sandbox::as_extension(|| {
        Spi::connect(|c| {
            c.select(
                "SELECT pg_catalog.to_jsonb(l) OPERATOR(pg_catalog.||) '{\"how\": \"task\"}'::pg_catalog.jsonb FROM tenant_q.table_listener l WHERE l.tenant OPERATOR(pg_catalog.=) $1 ORDER BY l.relation, l.handler",
                None,
                &[tenant.name.as_str().into()],
            )?
            .map(|row| Ok(row.get::<JsonB>(1)?.map_or(json!({}), |j| j.0)))
            .collect::<std::result::Result<Vec<_>, pgrx::spi::Error>>()
        })
    })
    .map_err(fail)
}

sql_functions! {
    tq_listen_table, pg_finfo_tq_listen_table => |args| patience::bounded("tq_listen_table()", || listen_table(args));
    tq_unlisten_table, pg_finfo_tq_unlisten_table => |args| patience::bounded("tq_unlisten_table()", || unlisten_table(args));
    tenant_q_condition_is_trusted, pg_finfo_tenant_q_condition_is_trusted => conditions::condition_is_trusted;
    tenant_q_disable_untrusted_conditions, pg_finfo_tenant_q_disable_untrusted_conditions => conditions::disable_untrusted_conditions;
    tenant_q_renew_table_listeners, pg_finfo_tenant_q_renew_table_listeners => |_| sandbox::outside_of_script(orphans::renew).map(Ret::Int);
    tenant_q_table_changed, pg_finfo_tenant_q_table_changed => fired::table_changed;
}
