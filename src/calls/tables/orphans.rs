//! Triggers of listeners that nobody knows here: of a dump of one schema, of a copy, of an extension that was dropped.
//!
//! Such a table works as any other, and whoever writes it is told once that nobody else is (`fired`). What was declared
//! stands in the trigger: tq_attach declares it again where its handler is registered, and else says with which call.

use super::triggers::{self, Definition, Made, Triggers};
use super::{Target, listen};
use crate::handler;
use crate::postgres::error::{Error, Result};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{catalog, sandbox, session, subtransaction};
use crate::pure::ids::Id;
use crate::tenant::records::{announce_registry, exists};
use crate::tenant::{self, Tenant};
use pgrx::{Spi, pg_sys};
use std::collections::HashSet;

/// Tables with such triggers, as SQL from `condition` about pg_class `c`; $1 is an OID, or null.
fn tables(condition: &str, one: Option<u32>) -> Result<Vec<u32>> {
    let sql = format!(
        "SELECT c.oid FROM pg_catalog.pg_class c WHERE {condition} AND c.relhastriggers AND EXISTS (
             SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgparentid = 0 AND starts_with(t.tgname::text, 'tq_listen_'))
          ORDER BY c.relname"
    );
    let read = || {
        Spi::connect(|c| {
            c.select(&sql, None, &[one.map(pg_sys::Oid::from).into()])?
                .map(|row| row.get::<pg_sys::Oid>(1).map(|oid| oid.map_or(0, |oid| oid.to_u32())))
                .collect::<std::result::Result<Vec<_>, pgrx::spi::Error>>()
        })
    };
    sandbox::as_extension(read).map_err(Error::from)
}

/// Declares again what triggers on tables of a schema tell that has just been attached, or says how.
pub fn adopt(tenant: &Tenant) -> Result<()> {
    let (mut calls, mut all_told): (Vec<String>, bool) = (Vec::new(), true);
    for relation in tables("c.relnamespace = $1", Some(tenant.oid))? {
        // Not the caller's: somebody else's business.
        let Ok(target) = Target::of(Some(relation)) else { continue };
        let mut seen = HashSet::new();
        let made = triggers::made(relation)?;
        for one in made.iter().filter(|one| one.listener.is_none()) {
            let Some(definition) = one.definition.clone().filter(|_| seen.insert(one.id)) else { continue };
            // Another schema's listener, if there is one of that name; else the schema has another name here.
            if definition.tenant != tenant.name && catalog::schema_oid(&definition.tenant).is_some() {
                continue;
            }
            let definition = Definition { tenant: tenant.name.clone(), ..definition };
            let is_known = definition.is_whole && handler::find(tenant, &definition.handler)?.is_some();
            let names: Vec<&str> = made.iter().filter(|other| other.id == one.id).map(|other| other.name.as_str()).collect();
            let declare_again = || {
                triggers::drop(&target, &names)?;
                Ok(listen(&target, &definition, tenant)?)
            };
            if !is_known || subtransaction::run(declare_again).is_err() {
                calls.push(definition.call(&target.name));
                all_told &= definition.is_whole;
            }
        }
    }
    if !calls.is_empty() {
        Error::new(SqlState::WARNING, format!("tables of schema \"{}\" have triggers of listeners that are not known here", tenant.name))
            .detail(format!(
                "Nothing is enqueued by them. They were declared in another database, or before the extension was dropped.{}",
                if all_told { "" } else { " What meta their tasks had no trigger tells." }
            ))
            .hint(format!("Register the handlers, then: {};", calls.join("; ")))
            .warn();
    }
    Ok(())
}

/// For the update from a version whose triggers called the extension's function: dumps of a schema couldn't be restored
/// without the extension. How many listeners have got others.
pub fn renew() -> Result<i32> {
    let mut renewed = 0;
    let known = "(c.oid IN (SELECT l.relation_oid FROM tenant_q.table_listener l) OR c.oid IN (SELECT to_regclass(l.relation) FROM tenant_q.table_listener l)) AND $1 IS NULL";
    for relation in tables(known, None)? {
        let target = Target::of(Some(relation))?;
        let made = triggers::made(relation)?;
        let ids: HashSet<Id> =
            made.iter().filter(|one| one.listener.is_some() && one.is_direct && one.is_enabled).filter_map(|one| one.id).collect();
        for id in ids {
            let of_it: Vec<&Made> = made.iter().filter(|one| one.id == Some(id)).collect();
            match subtransaction::run(|| Ok(renew_one(&target, id, &of_it)?)) {
                Ok(()) => renewed += 1,
                Err(failure) => Error::new(SqlState::WARNING, format!("the triggers of a listener of {} stay as they are", target.name))
                    .detail(format!("{}. A dump of its schema can't be restored without the extension.", failure.message))
                    .hint("Call tq_unlisten_table() and tq_listen_table().")
                    .warn(),
            }
        }
    }
    if renewed > 0 {
        announce_registry()?;
    }
    Ok(renewed)
}

/// As it is in the registry.
fn renew_one(target: &Target, id: Id, made: &[&Made]) -> Result<()> {
    session::set_local(c"lock_timeout", c"2s");
    let read = || {
        Spi::get_one_with_args::<pgrx::JsonB>(
            "SELECT jsonb_build_object('tenant', l.tenant, 'handler', l.handler, 'events', l.events, 'each', l.each, 'only_if', l.only_if, 'task', l.task)
               FROM tenant_q.table_listener l WHERE l.id = $1",
            &[crate::postgres::call::uuid(id).into()],
        )
    };
    let document = sandbox::as_extension(read).map_err(Error::from)?.ok_or_else(|| Error::state("it is gone"))?;
    let definition = Definition::of(&document.0).ok_or_else(|| Error::state("its row is not as it should be"))?;
    let tenant = tenant::resolve(Some(&definition.tenant))?;
    let names: Vec<&str> = made.iter().map(|one| one.name.as_str()).collect();
    triggers::drop(target, &names)?;
    let path = target.condition_path(&tenant)?;
    Triggers { target, path: &path, id, definition: &definition }.make()
}

/// What DROP EXTENSION leaves behind: schemas with our tables, and tables with triggers.
pub fn left_behind() -> Result<(i64, i64)> {
    let count =
        |sql: &str| sandbox::as_extension(|| Spi::connect(|c| c.select(sql, None, &[])?.first().get_one::<i64>())).map_err(Error::from);
    if !exists("SELECT FROM pg_catalog.pg_extension WHERE extname OPERATOR(pg_catalog.=) 'tenant_q'", &[])? {
        return Ok((0, 0));
    }
    let tenants = count("SELECT count(*) FROM tenant_q.tenant")?.unwrap_or(0);
    let listened = count(
        "SELECT count(DISTINCT t.tgrelid) FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
          WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND starts_with(t.tgname::text, 'tq_listen_') AND starts_with(p.proname::text, 'tq_listen_')",
    )?;
    Ok((tenants, listened.unwrap_or(0)))
}
