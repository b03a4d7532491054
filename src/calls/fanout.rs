//! SQL: tasks and schedules of all tenants, and what became of them: tq_async_all, tq_schedule_all, tq_fanouts.

use crate::calls::tenants::pauses::require_any_handler;
use crate::fanout::definitions;
use crate::fanout::lines::{self, run, spi};
use crate::postgres::call::{self, Args, Ret, parameters};
use crate::postgres::column::Set;
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table, Write};
use crate::postgres::row::Row;
use crate::postgres::rows::{Cell, row};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{catalog, clock, sandbox, transaction};
use crate::pure::choice::{Named, OnRedeclared};
use crate::pure::fix;
use crate::pure::ids::Id;
use crate::pure::schedule::next::Plan;
use crate::pure::schedule::zone::parse_zone;
use crate::pure::state::{FanoutCause, FanoutKind, Letter};
use crate::pure::time::{At, Span, instant};
use crate::schedules;
use crate::schedules::define::warn_of_delays;
use crate::schedules::definition::{Alone, Definition, DefinitionArgs, Documents};
use crate::schedules::follow;
use crate::schedules::of_all;
use crate::schedules::options::{OfAll, Options};
use crate::schedules::planning::check_fires;
use crate::shared::wake;
use crate::sql_functions;
use crate::task::new::{NewTask, task_object};
use crate::tenant;
use crate::tenant::columns::{Fanouts, Schedules};
use crate::tenant::records::{self, open};
use crate::tenant::rights::{self, Caller, author};
use pgrx::Spi;
use serde_json::Value as Json;

/// Names of a `tenants =>` parameter, all of them tenants.
pub fn check_tenants(names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Err(Error::invalid("tenants is empty").hint("Leave it out for all tenants."));
    }
    let known = sandbox::as_extension(|| {
        Spi::connect(|c| {
            c.select(
                "SELECT n FROM pg_catalog.unnest($1) n WHERE NOT EXISTS (SELECT FROM tenant_q.tenant t WHERE t.name OPERATOR(pg_catalog.=) n) LIMIT 1",
                None,
                &[names.to_vec().into()],
            )?
            .map(|row| row.get::<String>(1))
            .collect::<std::result::Result<Vec<_>, _>>()
        })
    })
    .map_err(lines::spi)?;
    match known.into_iter().flatten().next() {
        None => Ok(()),
        Some(unknown) => Err(tenant::not_attached(&unknown)).map_err(|e| Error::undefined(format!("tenants: {}", e.message))),
    }
}

/// tq_async_all(handler, args, tenants, stagger, task)
fn async_all(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"SELECT tq_async_all()");
    let handler = args.text(0).filter(|h| !h.is_empty()).ok_or_else(|| {
        Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "handler is null or empty").hint("Pass the name of a registered handler.")
    })?;
    require_any_handler(&handler)?;
    let document = args.json(4);
    let mut base = document.as_ref().map_or(Ok(NewTask::default()), |d| task_object(&d.value()))?;
    if !base.handler.is_empty() || base.args.is_some() || base.id.is_some() {
        return Err(Error::invalid("task says what the call says: handler, args or id")
            .hint("Leave these keys out; every tenant's task gets an id of its own."));
    }
    base.args = args.json(1);
    base.check()?;
    base.refuse_sync("all tenants")?;
    let names = args.texts(2);
    if let Some(names) = &names {
        check_tenants(names)?;
    }
    if args.interval(3).is_some_and(Span::is_negative) {
        return Err(Error::invalid("stagger is negative"));
    }
    let user = sandbox::current_user();
    let caller = Caller { name: catalog::role_name(user.to_u32()).unwrap_or_default(), superuser: sandbox::is_superuser(user) };
    let (id, now) = (Id::fresh(), clock::now());
    let name = base.name.clone().unwrap_or_else(|| handler.clone());
    records::open("fanout", Access::Write)?.insert(&[
        Fanouts::ID.to(id),
        Fanouts::KIND.to(FanoutKind::Tasks),
        Fanouts::NAME.to(name.as_str()),
        Fanouts::FIRE_TIME.to(now),
        Fanouts::HANDLER.to(handler.as_str()),
        Fanouts::ARGS.to(base.args.as_ref()),
        Fanouts::TASK.to(document.as_ref()),
        Fanouts::TENANTS.to(names.as_deref()),
        Fanouts::STAGGER.to(args.interval_in_parts(3)),
        Fanouts::CREATED_BY.to(caller.name.as_str()),
        Fanouts::BY_SUPERUSER.to(caller.superuser),
        Fanouts::CREATED_AT.to(now),
        Fanouts::SPREAD_AGAIN.to(now),
    ]);
    wake::fan_out();
    if crate::shared::get().is_none() {
        crate::postgres::shmem::warn_not_preloaded();
    }
    Ok(Ret::Uuid(id))
}

/// Names of the tenants that the caller may see; None = all.
pub fn visible() -> Result<Option<Vec<String>>> {
    if rights::sees_all() {
        return Ok(None);
    }
    Ok(Some(rights::visible_tenants()?.into_iter().map(|tenant| tenant.name).collect()))
}

/// The state of row `a` of tenant_q.fanout_tenant: nobody waits for what is no tenant any more. (Its row said so,
/// unless it was written while the tenant was on its way out.)
const STATE_NOW: &str = "CASE WHEN a.state OPERATOR(pg_catalog.=) ANY ('{o,q}'::pg_catalog.\"char\"[])
      AND NOT EXISTS (SELECT FROM tenant_q.tenant n WHERE n.name OPERATOR(pg_catalog.=) a.tenant) THEN 's' ELSE a.state END";

/// tenant_q.visible_tenants(): their names; one that is NULL: all.
fn visible_tenants(_args: &Args) -> Result<Ret> {
    let rows = match visible()? {
        None => vec![row! { "tenant": Cell::Null }],
        Some(names) => names.into_iter().map(|name| row! { "tenant": name }).collect(),
    };
    Ok(Ret::Rows(rows))
}

/// tenant_q.fanout_tenants(name, fire_time, id): rows of tq_fanout_tenants.
fn fanout_tenants(args: &Args) -> Result<Ret> {
    let (name, fire_time, id) = (args.text(0), args.time(1), args.uuid(2));
    if name.is_none() && id.is_none() {
        return Err(Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "neither name nor id is given").hint("tq_fanouts has both."));
    }
    let found = lines::document(
        "SELECT pg_catalog.to_jsonb(f.id) FROM tenant_q.fanout f
          WHERE f.kind OPERATOR(pg_catalog.<>) 'd' AND ($1 IS NULL OR f.name OPERATOR(pg_catalog.=) $1) AND ($2 IS NULL OR f.fire_time OPERATOR(pg_catalog.=) $2)
            AND ($3 IS NULL OR f.id OPERATOR(pg_catalog.=) $3) ORDER BY f.fire_time DESC, f.id DESC LIMIT 1",
        &[name.into(), fire_time.and_then(call::timestamp).into(), id.map(call::uuid).into()],
    )?;
    let Some(id) = found.as_ref().and_then(Json::as_str).and_then(Id::parse) else {
        return Err(Error::new(SqlState::NO_DATA_FOUND, "there is no such fan-out").hint("tq_fanouts shows those that are kept."));
    };
    let rows = lines::document(
        &format!("SELECT pg_catalog.jsonb_agg(x ORDER BY x.tenant) FROM (
             SELECT o.tenant, CASE o.state WHEN 'o' THEN 'expected' WHEN 'q' THEN 'enqueued' WHEN 'd' THEN 'done' WHEN 'f' THEN 'failed' WHEN 'c' THEN 'cancelled'
                                           WHEN 'e' THEN 'expired' WHEN 'x' THEN 'quarantined' ELSE 'skipped' END AS state,
                    CASE WHEN o.state OPERATOR(pg_catalog.=) 's' THEN coalesce(o.reason, 'it is no tenant any more') ELSE o.reason END AS reason, o.task, o.finished_at
               FROM (SELECT a.fanout, a.tenant, {STATE_NOW} AS state, a.task, a.reason, a.finished_at FROM tenant_q.fanout_tenant a) o
              WHERE o.fanout OPERATOR(pg_catalog.=) $1 AND ($2 IS NULL OR o.tenant OPERATOR(pg_catalog.=) ANY ($2))
             UNION ALL
             SELECT t.name, 'expected', NULL, NULL, NULL FROM tenant_q.tenant t, tenant_q.fanout f
              WHERE f.id OPERATOR(pg_catalog.=) $1 AND f.spread_again IS NOT NULL
                AND ($2 IS NULL OR t.name OPERATOR(pg_catalog.=) ANY ($2)) AND (f.tenants IS NULL OR t.name OPERATOR(pg_catalog.=) ANY (f.tenants))
                AND NOT EXISTS (SELECT FROM tenant_q.fanout_tenant s WHERE s.fanout OPERATOR(pg_catalog.=) f.id AND s.tenant OPERATOR(pg_catalog.=) t.name)) x"),
        &[call::uuid(id).into(), visible()?.into()],
    )?;
    Ok(Ret::Json(rows.unwrap_or_else(|| Json::Array(vec![]))))
}

sql_functions! {
    tq_async_all, pg_finfo_tq_async_all => async_all;
    tenant_q_visible_tenants, pg_finfo_tenant_q_visible_tenants => visible_tenants;
    tenant_q_fanout_tenants, pg_finfo_tenant_q_fanout_tenants => fanout_tenants;
}

parameters! {
    TqScheduleAll of tq_schedule_all behind DefinitionArgs {
        ON_CONFLICT,
        TENANTS,
        STAGGER,
    }
}

/// tq_schedule_all(the first 25 of tq_schedule's, tenants, stagger)
fn schedule_all(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_schedule_all()");
    let definition = Definition::of_args(args);
    definition.check_given()?;
    let Alone { rule, month_end, active_hours } = definition.check_alone()?;
    let conflict =
        args.text(TqScheduleAll::ON_CONFLICT).map_or(Ok(OnRedeclared::default()), |word| OnRedeclared::known("on_conflict", &word))?;
    let tenants = args.texts(TqScheduleAll::TENANTS);
    if let Some(names) = &tenants {
        check_tenants(names)?;
    }
    let stagger = args.interval(TqScheduleAll::STAGGER).unwrap_or_default();
    if stagger.is_negative() {
        return Err(Error::invalid("stagger is negative"));
    }
    let zone = definition.tz.as_deref().map_or_else(schedules::zone::default, |tz| Ok(parse_zone(tz)?))?;
    let now = clock::now();
    let table = definitions::definitions_to_change()?;
    check_after(&table, &definition)?;
    let before = of_all::find(&table, &definition.name);
    if let Some(row) = &before {
        match conflict {
            OnRedeclared::Nothing => return Ok(Ret::Uuid(row.get(Schedules::ID).unwrap_or_default())),
            OnRedeclared::Replace => {}
            OnRedeclared::Error => {
                return Err(Error::new(
                    SqlState::DUPLICATE_OBJECT,
                    format!("schedule \"{}\" of all tenants exists already", definition.name),
                )
                .hint("on_conflict => 'replace' replaces it."));
            }
        }
    }
    let old = before.as_ref().map(Definition::of_row);
    if old.as_ref().is_none_or(|old| old.until != definition.until) {
        definition.check_until()?;
    }
    // Declared again, it goes on counting from where it did.
    let kept =
        before.as_ref().zip(old.as_ref()).filter(|(_, old)| old.begins_like(&definition)).and_then(|(row, _)| row.get(Schedules::ANCHOR));
    let anchor = kept.unwrap_or(now);
    let plan = Plan {
        rule: &rule,
        zone,
        anchor: instant(anchor),
        start_at: definition.start_at.map(instant),
        until: definition.until.map(instant),
        active_hours: active_hours.as_ref(),
        back_to: None,
        month_end,
        seed: 0,
    };
    if plan.first().is_none() && definition.repeats != Some(0) && kept.is_none() {
        check_fires(&definition, &plan)?;
    }
    warn_of_delays(&definition, &plan, stagger);
    let author = author();
    let condition = before.as_ref().and_then(|row| Definition::of_row(row).only_if);
    if !author.superuser && condition != definition.only_if {
        return Err(Error::denied("only a superuser may set only_if for all tenants")
            .detail("It is SQL that runs as each tenant's own role.")
            .hint("Leave only_if out, and ask in the handler."));
    }
    // Replaced, it stays the same schedule: fire times that were served are not served again.
    let id = before.as_ref().and_then(|row| row.get(Schedules::ID)).unwrap_or_else(Id::fresh);
    let revision = Id::fresh();
    let mut documents = definition.documents();
    let mut options = Options { all: Some(OfAll { id, revision, stagger }), tenants, ..definition.options() };
    if let Some((row, present)) = before.as_ref().and_then(|row| Some((row, OfAll::of_row(row)?))) {
        options.all = Some(OfAll { id, revision: present.revision, stagger });
        documents.options = options.column();
        if table.is_so(row, &columns_of(&definition, &documents, id, anchor, &author)) {
            return Ok(Ret::Uuid(id));
        }
        options.all = Some(OfAll { id, revision, stagger });
    }
    documents.options = options.column();
    let columns = columns_of(&definition, &documents, id, anchor, &author);
    write(&table, before.as_ref(), columns, &definition.name, now)?;
    spread_change(revision, &definition.name, Some(&definition.handler), &author, now)?;
    Ok(Ret::Uuid(id))
}

fn columns_of<'a>(definition: &'a Definition, documents: &'a Documents, id: Id, anchor: At, author: &'a Caller) -> Vec<Set<'a, Schedules>> {
    let mut columns = definition.columns(documents);
    columns.extend([
        Schedules::NAME.to(definition.name.as_str()),
        Schedules::ID.to(id),
        Schedules::ANCHOR.to(anchor),
        Schedules::CREATED_BY.to(author.name.as_str()),
        Schedules::BY_SUPERUSER.to(author.superuser),
        Schedules::RUN_COUNT.to(0),
        Schedules::FAIL_COUNT.to(0),
    ]);
    columns
}

/// A new row, or the one that was there.
fn write(table: &Table<Schedules>, before: Option<&Row<Schedules>>, mut columns: Vec<Set<Schedules>>, name: &str, now: At) -> Result<()> {
    match before {
        None => {
            columns.push(Schedules::CREATED_AT.to(now));
            table.insert(&columns);
        }
        Some(row) => {
            // What it doesn't say is what the new one doesn't have.
            columns.extend([
                Schedules::NEXT_RUN.null(),
                Schedules::LAST_RUN.null(),
                Schedules::LAST_TASK.null(),
                Schedules::PROBLEM.null(),
                Schedules::STATE.null(),
            ]);
            if table.update(row, &columns) == Write::Overtaken {
                return Err(contended(name));
            }
        }
    }
    Ok(())
}

/// Those that it comes after are each tenant's own matter, unless they are of all tenants themselves.
fn check_after(table: &Table<Schedules>, definition: &Definition) -> Result<()> {
    let after_of = |name: &str| of_all::find(table, name).map(|row| follow::after_of(&row));
    if let Some(circle) = follow::circle(&definition.name, definition.after(), after_of) {
        return Err(Error::invalid("after makes a circle").detail(format!("{circle}.")));
    }
    for name in definition.after().iter().filter(|name| of_all::find(table, name).is_none()) {
        Error::new(SqlState::SUCCESSFUL_COMPLETION, format!("schedule \"{name}\", which is named in after, is not one of all tenants"))
            .detail("It fires in tenants that have a schedule of that name, and waits in the others.")
            .notice();
    }
    Ok(())
}

fn contended(name: &str) -> Error {
    Error::new(SqlState::SERIALIZATION_FAILURE, format!("schedule \"{name}\" of all tenants is being changed by others")).hint("Try again.")
}

/// The change is to reach the tenants; it takes the place of an earlier one of this name.
fn spread_change(revision: Id, name: &str, handler: Option<&str>, author: &crate::tenant::rights::Caller, now: At) -> Result<()> {
    // Whoever is spreading it is waited for; then all that it has written is seen.
    run(
        "SELECT FROM tenant_q.fanout f WHERE f.kind OPERATOR(pg_catalog.=) 'd' AND f.name OPERATOR(pg_catalog.=) $1 FOR UPDATE",
        &[name.into()],
    )?;
    run(
        "WITH gone AS (DELETE FROM tenant_q.fanout f WHERE f.kind OPERATOR(pg_catalog.=) 'd' AND f.name OPERATOR(pg_catalog.=) $1 RETURNING f.id)
         DELETE FROM tenant_q.fanout_tenant o USING gone g WHERE o.fanout OPERATOR(pg_catalog.=) g.id",
        &[name.into()],
    )?;
    open("fanout", Access::Write)?.insert(&[
        Fanouts::ID.to(revision),
        Fanouts::KIND.to(FanoutKind::Definition),
        Fanouts::NAME.to(name),
        Fanouts::FIRE_TIME.to(now),
        Fanouts::HANDLER.to(handler),
        Fanouts::CREATED_BY.to(author.name.as_str()),
        Fanouts::BY_SUPERUSER.to(author.superuser),
        Fanouts::CREATED_AT.to(now),
        Fanouts::SPREAD_AGAIN.to(now),
    ]);
    wake::fan_out();
    if crate::shared::get().is_none() {
        crate::postgres::shmem::warn_not_preloaded();
    }
    Ok(())
}

/// tq_unschedule_all(name)
fn unschedule_all(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_unschedule_all()");
    let name = args.text(0).ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "name is null"))?;
    let table = definitions::definitions_to_change()?;
    let Some(row) = of_all::find(&table, &name) else { return Ok(Ret::Bool(false)) };
    let followers = follow::names_after(&table, &name);
    if let Some(first) = followers.first() {
        return Err(Error::new(
            SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
            format!("schedule \"{name}\" of all tenants can't go while others come after it"),
        )
        .detail(format!("They are \"{}\".", followers.join("\", \"")))
        .hint(format!("Remove {} first, or replace it with another after.", pgrx::spi::quote_literal(first))));
    }
    if table.delete(&row) == Write::Overtaken {
        return Err(contended(&name));
    }
    spread_change(Id::fresh(), &name, row.get(Schedules::HANDLER), &author(), clock::now())?;
    Ok(Ret::Bool(true))
}

/// Tenants that a definition could not reach: (what, reason, fix).
pub fn problems() -> Result<Vec<(String, String, String)>> {
    let visible = if rights::sees_all() { None } else { Some(visible()?.unwrap_or_default()) };
    let rows: Vec<(String, String, String, Option<u8>)> = sandbox::as_extension(|| {
        Spi::connect(|c| {
            c.select(
                "SELECT f.name, o.tenant, o.reason, o.cause FROM tenant_q.fanout f, tenant_q.fanout_tenant o
                  WHERE f.kind OPERATOR(pg_catalog.=) 'd' AND o.fanout OPERATOR(pg_catalog.=) f.id AND o.state OPERATOR(pg_catalog.=) 's'
                    AND EXISTS (SELECT FROM tenant_q.tenant t WHERE t.name OPERATOR(pg_catalog.=) o.tenant) AND ($1 IS NULL OR o.tenant OPERATOR(pg_catalog.=) ANY ($1)) ORDER BY 1, 2 LIMIT 1000",
                None,
                &[visible.into()],
            )?
            .map(|row| {
                Ok((
                    row.get::<String>(1)?.unwrap_or_default(),
                    row.get::<String>(2)?.unwrap_or_default(),
                    row.get::<String>(3)?.unwrap_or_default(),
                    row.get::<i8>(4)?.map(|c| c as u8),
                ))
            })
            .collect::<std::result::Result<Vec<_>, pgrx::spi::Error>>()
        })
    })
    .map_err(spi)?;
    let quote = |text: &str| pgrx::spi::quote_literal(text);
    Ok(rows
        .into_iter()
        .map(|(name, tenant, reason, cause)| {
            let fix = if cause == Some(FanoutCause::OwnSchedule.letter()) {
                format!("SELECT tq_unschedule({}, tenant => {})", quote(&name), quote(&tenant))
            } else {
                fix::noted(&format!("SELECT tq_set_tenant({}, ready => true)", quote(&tenant)), "when it is mended")
            };
            (format!("schedule {name} of all tenants in tenant {tenant}"), reason, fix)
        })
        .collect())
}

crate::sql_functions! {
    tq_schedule_all, pg_finfo_tq_schedule_all => schedule_all;
    tq_unschedule_all, pg_finfo_tq_unschedule_all => unschedule_all;
}
