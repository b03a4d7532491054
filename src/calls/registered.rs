//! What the registry keeps of a schema while it is detached, renamed, dropped, or handed to another owner.
//!
//! Everything there is keyed by the schema's name, so that a dump can be restored; but a name is anybody's as soon as
//! its schema is gone from it. So what is left behind is bound to the schema that it was said of (its row in
//! `tenant_q.tenant` or `tenant_q.detached`) and to that schema's owner, and goes where neither is the same.

use crate::handler::roles::wake_every_tenant;
use crate::postgres::call::{Args, Ret};
use crate::postgres::column::{Bool, Column, Index, Key, Relation};
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table, Write};
use crate::postgres::row::Row;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{catalog, sandbox, transaction};
use crate::sql_functions;
use crate::tenant::columns::{Schedules, Tasks};
use crate::tenant::records::{announce_registry, exists, run};
use crate::tenant::{self, Tenant, patience};
use pgrx::datum::DatumWithOid;
use pgrx::{Spi, pg_sys};

/// Tables of the registry whose rows belong to a tenant by its name.
const BELONGINGS: [&str; 7] = ["handler", "handler_state", "handler_role", "pause", "queue", "limit_key", "listener"];

/// Those that there are: some came with 0.2.0.
fn belongings() -> Result<impl Iterator<Item = &'static str>> {
    let before = tenant::registry()?.handler_state.is_none();
    Ok(BELONGINGS.into_iter().filter(move |table| !(before && matches!(*table, "handler_state" | "handler_role"))))
}
/// What the tenant decides for itself (tq_set_tenant). The rest of its row is the administrator's: quotas stay with a
/// schema for as long as it exists, whoever owns, detaches or attaches it, and afterwards with its name and owner, who could
/// otherwise be rid of them by dropping it.
const OWN: &str = "timezone = NULL, shared_schemas = NULL, settings = NULL, save_limit = NULL, save_limit_per = NULL, result_ttl = NULL, failure_ttl = NULL";

/// Whether there is anything of the administrator's in a row.
const HAS_QUOTA: &str = "(max_running IS NOT NULL OR max_queued IS NOT NULL OR weight IS NOT NULL OR rate IS NOT NULL OR NOT fan_out)";
/// `schema_oid` of a row whose schema has been dropped: only the quotas in it still mean anything.
const DROPPED: &str = "0::pg_catalog.oid";

fn rows<T>(
    sql: &str,
    args: &[DatumWithOid],
    f: impl Fn(&pgrx::spi::SpiHeapTupleData) -> std::result::Result<T, pgrx::spi::Error>,
) -> Result<Vec<T>> {
    sandbox::as_extension(|| Spi::connect(|c| c.select(sql, None, args)?.map(|row| f(&row)).collect::<std::result::Result<Vec<_>, _>>()))
        .map_err(|e: pgrx::spi::Error| Error::new(SqlState::INTERNAL_ERROR, e.to_string()))
}

fn oid(oid: u32) -> DatumWithOid<'static> {
    pg_sys::Oid::from(oid).into()
}

/// Deletes what is registered under this name; true if there was anything.
fn forget(name: &str) -> Result<bool> {
    let mut gone = 0;
    for table in belongings()? {
        gone += run(&format!("DELETE FROM tenant_q.{table} WHERE tenant OPERATOR(pg_catalog.=) $1 RETURNING 1"), &[name.into()])?;
    }
    gone += run(
        "DELETE FROM tenant_q.table_listener l WHERE l.tenant OPERATOR(pg_catalog.=) $1
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) l.relation_oid) RETURNING 1",
        &[name.into()],
    )?;
    // The triggers of other schemas' tables are still there, and find out that their tenant isn't.
    gone += run("UPDATE tenant_q.table_listener SET tenant = '' WHERE tenant OPERATOR(pg_catalog.=) $1 RETURNING 1", &[name.into()])?;
    Ok(gone > 0)
}

/// What the registry has under the name of a schema that is to be attached.
struct Known {
    /// It is of this very schema, not of one that had its name.
    same: bool,
    same_owner: bool,
    same_owner_name: bool,
}

fn known(name: &str, schema: u32, owner: u32) -> Result<Option<Known>> {
    let found = rows(
        "SELECT t.schema_oid OPERATOR(pg_catalog.=) $2, t.owner OPERATOR(pg_catalog.=) $3, t.owner_name OPERATOR(pg_catalog.=) $4
           FROM (SELECT * FROM tenant_q.tenant UNION ALL SELECT * FROM tenant_q.detached) t WHERE t.name OPERATOR(pg_catalog.=) $1 LIMIT 1",
        &[name.into(), oid(schema), oid(owner), catalog::role_name(owner).into()],
        |row| {
            let is = |n| Ok::<bool, pgrx::spi::Error>(row.get::<bool>(n)? == Some(true));
            Ok(Known { same: is(1)?, same_owner: is(2)?, same_owner_name: is(3)? })
        },
    )?;
    Ok(found.into_iter().next())
}

/// Who has this name in the registry, and another one by now.
fn let_go(name: &str, schema: u32) -> Result<()> {
    let others = rows(
        "SELECT t.schema_oid FROM (SELECT * FROM tenant_q.tenant UNION ALL SELECT * FROM tenant_q.detached) t
          WHERE t.name OPERATOR(pg_catalog.=) $1 AND t.schema_oid OPERATOR(pg_catalog.<>) $2",
        &[name.into(), oid(schema)],
        |row| Ok(row.get::<pg_sys::Oid>(1)?.map_or(0, |o| o.to_u32())),
    )?;
    others.into_iter().try_for_each(|other| follow(Some(other)))
}

/// Registers the schema, with what is known of it from before.
pub fn attach(name: &str, schema: u32, owner: u32, adopt: bool, ready: bool) -> Result<()> {
    let_go(name, schema)?;
    // A restored dump: the schema is another one, the owner's name tells.
    let kept = known(name, schema, owner)?.is_some_and(|k| if k.same { k.same_owner } else { adopt && k.same_owner_name });
    if !kept && forget(name)? {
        Error::new(SqlState::SUCCESSFUL_COMPLETION, format!("what was registered for a schema \"{name}\" before has been removed"))
            .detail("It was said of another schema of that name, or by another owner.")
            .hint("Register its handlers again.")
            .notice();
    }
    run(
        "WITH back AS (DELETE FROM tenant_q.detached WHERE name OPERATOR(pg_catalog.=) $1 RETURNING *)
         INSERT INTO tenant_q.tenant SELECT * FROM back WHERE NOT EXISTS (SELECT FROM tenant_q.tenant t WHERE t.name OPERATOR(pg_catalog.=) $1)",
        &[name.into()],
    )?;
    // Quotas are of the schema, whoever owns it, and of whoever makes one of that name again.
    run(
        "DELETE FROM tenant_q.tenant WHERE name OPERATOR(pg_catalog.=) $1 AND schema_oid OPERATOR(pg_catalog.<>) $2 AND owner OPERATOR(pg_catalog.<>) $4 AND NOT $3",
        &[name.into(), oid(schema), kept.into(), oid(owner)],
    )?;
    let by = catalog::role_name(sandbox::current_user().to_u32()).unwrap_or_default();
    let values = [name.into(), oid(schema), ready.into(), by.into(), oid(owner), catalog::role_name(owner).into()];
    let own = if kept { "" } else { &format!(", {OWN}") };
    let again = run(
        &format!(
            "UPDATE tenant_q.tenant SET trusted = trusted AND owner OPERATOR(pg_catalog.=) $5 AND schema_oid OPERATOR(pg_catalog.=) $2, schema_oid = $2, ready = $3,
                    attached_by = $4, attached_at = pg_catalog.now(), owner = $5, owner_name = $6 {own} WHERE name OPERATOR(pg_catalog.=) $1 RETURNING 1"
        ),
        &values,
    )?;
    if again == 0 {
        run(
            "INSERT INTO tenant_q.tenant (name, schema_oid, ready, attached_by, attached_at, owner, owner_name, trusted) VALUES ($1, $2, $3, $4, pg_catalog.now(), $5, $6, false)",
            &values,
        )?;
    }
    Ok(())
}

/// The schema is no tenant any more; its row waits. False: it was none.
pub fn detach(name: &str, drop_data: bool) -> Result<bool> {
    run(
        "DELETE FROM tenant_q.detached d USING tenant_q.tenant t WHERE t.name OPERATOR(pg_catalog.=) $1 AND d.name OPERATOR(pg_catalog.=) $1",
        &[name.into()],
    )?;
    let gone = run(
        "WITH gone AS (DELETE FROM tenant_q.tenant WHERE name OPERATOR(pg_catalog.=) $1 RETURNING *) INSERT INTO tenant_q.detached SELECT * FROM gone RETURNING 1",
        &[name.into()],
    )?;
    if drop_data {
        forget(name)?;
        run(&format!("UPDATE tenant_q.detached SET {OWN} WHERE name OPERATOR(pg_catalog.=) $1"), &[name.into()])?;
        // Of one that isn't there only an administrator speaks: with its quotas.
        run(
            "DELETE FROM tenant_q.detached WHERE name OPERATOR(pg_catalog.=) $1
                AND NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE n.nspname::pg_catalog.text OPERATOR(pg_catalog.=) $1)",
            &[name.into()],
        )?;
    }
    run("DELETE FROM tenant_q.pause WHERE tenant OPERATOR(pg_catalog.=) $1", &[name.into()])?;
    Ok(gone > 0)
}

/// Takes down that schemas have other names or owners than the registry says. One schema, or all.
pub fn follow(schema: Option<u32>) -> Result<()> {
    if !crate::tenant::identity::confirmed()? {
        // The OIDs in a copy's registry are the original's: schemas that happen to have them here are others.
        return Ok(());
    }
    let schema = schema.map(pg_sys::Oid::from);
    let moved = rows(
        "SELECT t.name, n.nspname::pg_catalog.text FROM (SELECT * FROM tenant_q.tenant UNION ALL SELECT * FROM tenant_q.detached) t, pg_catalog.pg_namespace n
          WHERE n.oid OPERATOR(pg_catalog.=) t.schema_oid AND n.nspname::pg_catalog.text OPERATOR(pg_catalog.<>) t.name AND ($1 IS NULL OR n.oid OPERATOR(pg_catalog.=) $1)",
        &[schema.into()],
        |row| Ok((row.get::<String>(1)?.unwrap_or_default(), row.get::<String>(2)?.unwrap_or_default())),
    )?;
    for (old, new) in &moved {
        rename(old, new)?;
    }
    let has_another_owner = "SELECT FROM (SELECT t.schema_oid, t.owner, t.trusted, true AS attached FROM tenant_q.tenant t
            UNION ALL SELECT d.schema_oid, d.owner, d.trusted, false FROM tenant_q.detached d) t, pg_catalog.pg_namespace n
          WHERE n.oid OPERATOR(pg_catalog.=) t.schema_oid AND n.nspowner OPERATOR(pg_catalog.<>) t.owner AND (t.attached OR t.trusted)
            AND ($1 IS NULL OR n.oid OPERATOR(pg_catalog.=) $1)";
    if moved.is_empty() && !exists(has_another_owner, &[schema.into()])? {
        return Ok(());
    }
    // What a detached schema's owner has registered stays theirs: attach() compares.
    let handed_on = run(
        "UPDATE tenant_q.tenant t SET trusted = false, owner = n.nspowner, owner_name = pg_catalog.pg_get_userbyid(n.nspowner) FROM pg_catalog.pg_namespace n
          WHERE n.oid OPERATOR(pg_catalog.=) t.schema_oid AND n.nspowner OPERATOR(pg_catalog.<>) t.owner AND ($1 IS NULL OR n.oid OPERATOR(pg_catalog.=) $1) RETURNING 1",
        &[schema.into()],
    )?;
    run(
        "UPDATE tenant_q.detached t SET trusted = false FROM pg_catalog.pg_namespace n
          WHERE n.oid OPERATOR(pg_catalog.=) t.schema_oid AND n.nspowner OPERATOR(pg_catalog.<>) t.owner AND t.trusted AND ($1 IS NULL OR n.oid OPERATOR(pg_catalog.=) $1)",
        &[schema.into()],
    )?;
    if !moved.is_empty() || handed_on > 0 {
        announce_registry()?;
        wake_every_tenant()?;
    }
    Ok(())
}

fn rename(old: &str, new: &str) -> Result<()> {
    // A schema that was dropped had quotas, and its owner comes by its name once more.
    run(
        &format!(
            "UPDATE tenant_q.tenant t SET max_running = d.max_running, max_queued = d.max_queued, weight = d.weight, rate = d.rate, fan_out = d.fan_out
               FROM (SELECT * FROM tenant_q.detached WHERE name OPERATOR(pg_catalog.=) $2 AND schema_oid OPERATOR(pg_catalog.=) {DROPPED}) d
              WHERE t.name OPERATOR(pg_catalog.=) $1 AND t.owner OPERATOR(pg_catalog.=) d.owner
                AND NOT EXISTS (SELECT FROM tenant_q.tenant WHERE name OPERATOR(pg_catalog.=) $1 AND {HAS_QUOTA})"
        ),
        &[old.into(), new.into()],
    )?;
    // What has the new name in the registry has no schema: it was restored without it, or dropped unseen.
    let mut in_the_way = 0;
    for table in ["tenant", "detached"] {
        in_the_way += run(&format!("DELETE FROM tenant_q.{table} WHERE name OPERATOR(pg_catalog.=) $1 RETURNING 1"), &[new.into()])?;
    }
    if forget(new)? || in_the_way > 0 {
        crate::work::spread::detached(new)?;
    }
    rename_in_handlers(old, new)?;
    // What others say of it follows unless they hold it: a tenant that names this schema, and keeps a transaction
    // open, must not keep it from being renamed.
    crate::work::spread::renamed(old, new)?;
    for table in ["tenant", "detached"] {
        run(
            &format!(
                "UPDATE tenant_q.{table} SET shared_schemas = pg_catalog.array_replace(shared_schemas, $1, $2) WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
                     SELECT t.ctid FROM tenant_q.{table} t WHERE $1 OPERATOR(pg_catalog.=) ANY (t.shared_schemas) FOR UPDATE SKIP LOCKED))"
            ),
            &[old.into(), new.into()],
        )?;
        run(&format!("UPDATE tenant_q.{table} SET name = $2 WHERE name OPERATOR(pg_catalog.=) $1"), &[old.into(), new.into()])?;
    }
    for table in belongings()?.chain(["table_listener"]) {
        run(&format!("UPDATE tenant_q.{table} SET tenant = $2 WHERE tenant OPERATOR(pg_catalog.=) $1"), &[old.into(), new.into()])?;
    }
    Ok(())
}

/// `identity` with the schema `old` (quoted as it is there) called `new`, in front of the function
/// and of its types.
fn with_schema(identity: &str, old: &str, new: &str) -> String {
    let (mut out, mut quoted, mut starts) = (String::with_capacity(identity.len()), false, true);
    let mut at = 0;
    while let Some(c) = identity[at..].chars().next() {
        if starts && !quoted && identity[at..].strip_prefix(old).is_some_and(|rest| rest.starts_with('.')) {
            out.push_str(new);
            at += old.len();
            starts = false;
            continue;
        }
        quoted ^= c == '"';
        // A blank may follow a bracket or a comma where a person wrote it.
        starts = !quoted && (matches!(c, '(' | ',') || starts && c == ' ');
        out.push(c);
        at += c.len_utf8();
    }
    out
}

/// Handlers' functions and types follow their schema's new name.
fn rename_in_handlers(old: &str, new: &str) -> Result<()> {
    let schema = old;
    let (old, new) = (catalog::quote(old), catalog::quote(new));
    let fail = |e: pgrx::spi::Error| Error::new(SqlState::INTERNAL_ERROR, e.to_string());
    let rows: Vec<(String, String, String, Option<String>)> = sandbox::as_extension(|| {
        Spi::connect(|c| {
            c.select("SELECT tenant, name, function, identity FROM tenant_q.handler WHERE pg_catalog.strpos(pg_catalog.concat(function, ' ', identity), $1) OPERATOR(pg_catalog.>) 0",
                None, &[format!("{old}.").into()])?
            .map(|row| Ok((row.get::<String>(1)?.unwrap_or_default(), row.get::<String>(2)?.unwrap_or_default(), row.get::<String>(3)?.unwrap_or_default(), row.get::<String>(4)?)))
            .collect::<std::result::Result<Vec<_>, pgrx::spi::Error>>()
        })
    })
    .map_err(fail)?;
    for (tenant, name, function, identity) in rows {
        let theirs = if tenant == schema { "" } else { " SKIP LOCKED" };
        run(
            &format!(
                "UPDATE tenant_q.handler SET function = $3, identity = $4 WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
                     SELECT h.ctid FROM tenant_q.handler h WHERE h.tenant OPERATOR(pg_catalog.=) $1 AND h.name OPERATOR(pg_catalog.=) $2 FOR UPDATE{theirs})) RETURNING 1"
            ),
            &[tenant.into(), name.into(), with_schema(&function, &old, &new).into(), identity.map(|i| with_schema(&i, &old, &new)).into()],
        )?;
    }
    Ok(())
}

/// Called by the event trigger on ALTER SCHEMA: names and owners follow.
fn altered(_args: &Args) -> Result<Ret> {
    follow(None)?;
    Ok(Ret::Void)
}

/// After REASSIGN OWNED, for which there is no event trigger.
pub fn reassigned() -> Result<()> {
    if catalog::extension_version().is_none() {
        return Ok(());
    }
    transaction::balanced(|| {
        transaction::see_own_writes();
        follow(None)
    })
}

/// Called by the event trigger on drops: schemas that are gone are no tenants, and have left nothing but the administrator's
/// word about whoever makes one of that name again.
fn dropped(_args: &Args) -> Result<Ret> {
    let mut gone: Vec<String> = Vec::new();
    for table in ["tenant", "detached"] {
        gone.extend(rows(
            &format!(
                "SELECT t.name FROM tenant_q.{table} t WHERE t.schema_oid OPERATOR(pg_catalog.<>) {DROPPED}
                    AND NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE n.oid OPERATOR(pg_catalog.=) t.schema_oid)
                    AND NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE n.nspname::pg_catalog.text OPERATOR(pg_catalog.=) t.name)"
            ),
            &[],
            |row| Ok(row.get::<String>(1)?.unwrap_or_default()),
        )?);
    }
    for name in &gone {
        for sql in [
            "DELETE FROM tenant_q.detached d USING tenant_q.tenant t WHERE d.name OPERATOR(pg_catalog.=) $1 AND t.name OPERATOR(pg_catalog.=) $1",
            "WITH gone AS (DELETE FROM tenant_q.tenant WHERE name OPERATOR(pg_catalog.=) $1 RETURNING *) INSERT INTO tenant_q.detached SELECT * FROM gone",
            &format!("DELETE FROM tenant_q.detached WHERE name OPERATOR(pg_catalog.=) $1 AND NOT {HAS_QUOTA}"),
            &format!(
                "UPDATE tenant_q.detached SET schema_oid = {DROPPED}, ready = true, trusted = false, suspended = NULL, suspended_at = NULL, {OWN}
                  WHERE name OPERATOR(pg_catalog.=) $1"
            ),
        ] {
            run(sql, &[name.as_str().into()])?;
        }
    }
    let schemas = rows(
        "SELECT d.object_name FROM pg_catalog.pg_event_trigger_dropped_objects() d WHERE d.object_type OPERATOR(pg_catalog.=) 'schema'
            AND NOT EXISTS (SELECT FROM tenant_q.tenant t WHERE t.name OPERATOR(pg_catalog.=) d.object_name)",
        &[],
        |row| Ok(row.get::<String>(1)?.unwrap_or_default()),
    )?;
    gone.extend(schemas);
    gone.sort();
    gone.dedup();
    let mut left = false;
    for name in &gone {
        left |= forget(name)?;
        crate::work::spread::detached(name)?;
    }
    if left || !gone.is_empty() {
        announce_registry()?;
    }
    Ok(Ret::Void)
}

/// A superuser attaches, once more perhaps, a schema that a superuser owns: from now on its tasks may run as one. What its
/// rows say about who enqueued them was an earlier owner's to write, and counts no more.
pub fn confirm_superuser(schema: u32, owner: u32) -> Result<()> {
    if !sandbox::is_superuser(sandbox::current_user()) || !sandbox::is_superuser(pg_sys::Oid::from(owner)) {
        return Ok(());
    }
    let Ok(tenant) = tenant::by_oid(schema) else { return Ok(()) };
    if tenant.distrust().is_none() {
        return Ok(());
    }
    let tasks = tenant.open(tenant.task, Access::Write)?;
    let schedules = tenant.open(tenant.schedule, Access::Write)?;
    let cleared = disown(&tasks, &Tasks::BY_ID, Tasks::BY_SUPERUSER, |row| row.get(Tasks::ID), |id| Tasks::ID.equals(*id))
        + disown(
            &schedules,
            &Schedules::BY_NAME,
            Schedules::BY_SUPERUSER,
            |row| row.text(Schedules::NAME),
            |name| Schedules::NAME.equals(name),
        );
    for table in ["listener", "table_listener"] {
        run(
            &format!("UPDATE tenant_q.{table} SET by_superuser = false WHERE tenant OPERATOR(pg_catalog.=) $1"),
            &[tenant.name.as_str().into()],
        )?;
    }
    run(
        "UPDATE tenant_q.tenant SET trusted = true, owner = $2, owner_name = $3 WHERE name OPERATOR(pg_catalog.=) $1",
        &[tenant.name.as_str().into(), oid(owner), catalog::role_name(owner).into()],
    )?;
    announce_registry()?;
    say_confirmed(&tenant, cleared);
    Ok(())
}

fn say_confirmed(tenant: &Tenant, cleared: usize) {
    if cleared > 0 {
        Error::new(
            SqlState::SUCCESSFUL_COMPLETION,
            format!("{cleared} unfinished tasks and schedules of tenant \"{}\" count as no superuser's", tenant.name),
        )
        .detail("They were written when others could write what they like there.")
        .hint("Look at them, then enqueue or change again what is to run as a superuser.")
        .notice();
    }
}

/// Takes back that a superuser made these rows; how many.
fn disown<R: Relation, K>(
    table: &Table<R>,
    index: &Index<R>,
    by_superuser: Column<R, Bool>,
    name: impl Fn(&Row<R>) -> Option<K>,
    key: impl Fn(&K) -> Key<'_, R>,
) -> usize {
    let found: Vec<K> = transaction::with_latest_snapshot(|| {
        table.scan(index, &[]).filter(|row| row.get(by_superuser) == Some(true)).filter_map(|row| name(&row)).collect()
    });
    for name in &found {
        // Whoever changes or ends it just now is waited for, and looked at again.
        while let Some(row) = transaction::with_latest_snapshot(|| table.find(key(name))) {
            if table.update(&row, &[by_superuser.to(false)]) == Write::Done {
                break;
            }
            pgrx::check_for_interrupts!();
        }
    }
    found.len()
}

sql_functions! {
    tenant_q_renamed, pg_finfo_tenant_q_renamed => |args| patience::bounded("following ALTER SCHEMA in the registry", || altered(args));
    tenant_q_dropped, pg_finfo_tenant_q_dropped => |args| patience::bounded("following DROP in the registry", || dropped(args));
}
