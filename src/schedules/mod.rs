//! tq_schedule and its kin: making schedules, looking ahead. What happens when one is due is in
//! tick.rs, the arithmetic in schedule/.

pub use define::OnConflict;
pub use define::define;
pub use definition::Definition;

pub mod define;
pub mod definition;
pub mod follow;
pub mod planning;
pub mod rezone;
pub mod setback;

use crate::calls::tasks::time_json;
use crate::calls::tenants::require_owner;
use crate::postgres::call::{Args, Ret};
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Row};
use crate::postgres::{catalog, clock, sandbox, transaction};
use crate::pure::schedule::next::Plan;
use crate::pure::schedule::rule::{MonthEnd, Rule};
use crate::pure::schedule::{describe, zone};
use crate::schedules::follow::State;
use crate::tenant::{self, Tenant};
use crate::work::enqueue::Caller;
use crate::work::tick::{Schedule, instant, micros, scol};
use crate::{settings, shared, sql_functions, task};
use serde_json::{Value as Json, json};
use std::rc::Rc;

pub fn may_schedule(tenant: &Tenant) -> Result<()> {
    let user = sandbox::current_user();
    if sandbox::is_superuser(user) || catalog::may_insert(tenant.schedule, scol::NAME as i16, user) {
        return Ok(());
    }
    Err(Error::denied(format!("permission denied to schedule tasks of tenant \"{}\"", tenant.name))
        .detail("A schedule runs its handler for ever: that is its owner's to decide.")
        .hint("Its owner can run SELECT tq_grant('…', '{operate}')."))
}

/// A condition is SQL of one's own, run as the role that the tasks run as: only who could run that anyway may give,
/// change or take away one. The right to operate chooses among registered handlers, and no further.
pub(crate) fn may_set_condition(tenant: &Tenant, old: Option<&str>, new: Option<&str>) -> Result<()> {
    if old == new {
        return Ok(());
    }
    require_owner(tenant.owner, &tenant.name).map_err(|e| {
        e.detail("only_if is SQL that runs as the tenant's own role: the right to operate doesn't reach that far.")
            .hint("Let the schema's owner set it, or ask in the handler.")
    })
}

pub fn may_read(tenant: &Tenant) -> Result<()> {
    let user = sandbox::current_user();
    if sandbox::is_superuser(user) || catalog::may_select(tenant.schedule, user) {
        return Ok(());
    }
    Err(Error::denied(format!("permission denied to read schedules of tenant \"{}\"", tenant.name)))
}

/// The present user, who answers for the schedules they make.
pub fn author() -> Caller {
    let user = sandbox::current_user();
    Caller { name: catalog::role_name(user.to_u32()).unwrap_or_default(), superuser: sandbox::is_superuser(user) }
}

pub fn contended(name: &str) -> Error {
    Error::new("40001", format!("schedule \"{name}\" is being changed by others")).hint("Try again.")
}

/// tq_schedule(name, handler, rule, args, tz, start_at, until, repeats, catch_up, catch_up_limit, deadline, overlap,
/// jitter, month_end, day_and, time_arg, only_if, active_hours, after, after_outcome, task, enabled, tags,
/// description, on_conflict, tenant)
fn schedule(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_schedule()");
    let definition = Definition::of_args(args);
    definition.check_given()?;
    let tenant = tenant::resolve(args.text(25).as_deref())?;
    may_schedule(&tenant)?;
    let conflict = match args.text(24).as_deref() {
        None | Some("error") => OnConflict::Error,
        Some("replace") => OnConflict::Replace,
        Some("nothing") => OnConflict::Keep,
        Some(other) => {
            // What is wrong with the schedule itself comes first.
            definition.check(&tenant, &author(), true)?;
            return Err(Error::invalid(format!("on_conflict \"{other}\" is not known")).hint("Use \"error\", \"replace\" or \"nothing\"."));
        }
    };
    let defined = define(&tenant, &definition, conflict, &author())?;
    if settings::exclude_schemas().contains(&tenant.name) {
        Error::new("01000", format!("no schedule runs in tenant \"{}\"", tenant.name))
            .detail("The schema is one of tenant_q.exclude_schemas.")
            .hint("Take it off that setting, or schedule in another tenant.")
            .warn();
    }
    Ok(Ret::Uuid(defined.id))
}

/// tenant_q.next_runs(rule, tz, after, n, start_at, month_end, day_and): an array of instants.
fn next_runs(args: &Args) -> Result<Ret> {
    let rule = args.text(0).ok_or_else(|| Error::new("22004", "rule is null"))?;
    let rule = Rule::parse(&rule, args.bool(6).unwrap_or(false))?;
    let tz = args.text(1).unwrap_or_else(|| match tenant::resolve(None) {
        Ok(t) => t.zone(),
        Err(_) => tenant::default_zone(),
    });
    let zone = zone::parse_zone(&tz)?;
    let after = args.time(2).unwrap_or_else(clock::now);
    let n = args.int(3).unwrap_or(5);
    if !(0..=10_000).contains(&n) {
        return Err(Error::invalid(format!("n is {n}")).hint("Between 0 and 10,000 fire times are computed."));
    }
    let start_at = args.time(4);
    let month_end = args.text(5).as_deref().map_or(Ok(MonthEnd::Clamp), MonthEnd::parse)?;
    let anchor = start_at.unwrap_or(after);
    let plan = Plan { rule: &rule, zone, anchor: instant(anchor), start_at: start_at.map(instant), until: None, month_end, seed: 0 };
    let mut found = Vec::new();
    let mut from = instant(after);
    while found.len() < n as usize
        && let Some(next) = plan.next_after(from)
    {
        found.push(micros(next));
        from = next;
    }
    Ok(Ret::Times(found))
}

/// tq_describe(rule)
fn describe_rule(args: &Args) -> Result<Ret> {
    let text = args.text(0).ok_or_else(|| Error::new("22004", "rule is null"))?;
    Ok(Ret::Text(describe::describe(&Rule::parse(&text, false)?)))
}

/// tenant_q.schedules(tenant): rows of the view tq_schedules, as documents.
fn schedules(args: &Args) -> Result<Ret> {
    let tenant = tenant::resolve(args.text(0).as_deref())?;
    may_read(&tenant)?;
    let table = tenant.open_to_look(tenant.schedule)?;
    let limit = settings::view_rows();
    let mut rows = Vec::new();
    let mut more = false;
    table.scan(table.index_with(&[scol::NAME as i16]), &[], None, false, |row| {
        more = rows.len() >= limit;
        if !more {
            rows.push(describe_schedule(&tenant, &row));
        }
        !more
    });
    if more {
        Error::new("00000", format!("only the first {limit} schedules are shown"))
            .hint(format!("Raise tenant_q.view_rows, or read {}.tq_schedule.", catalog::quote(&tenant.name)))
            .notice();
    }
    Ok(Ret::Json(rows.into()))
}

fn describe_schedule(tenant: &Rc<Tenant>, row: &Row) -> Json {
    let parsed = Schedule::of(tenant, row);
    let last_status = row.uuid(scol::LAST_TASK).and_then(|id| {
        let tasks = tenant.try_open(tenant.task, Access::Read).ok()??;
        let results = tenant.try_open(tenant.result, Access::Read).ok()??;
        match crate::calls::tasks::look_up(&tasks, &results, id) {
            crate::calls::tasks::Found::Finished(r) => Some(task::finished(r.char(task::rcol::STATE)).name()),
            crate::calls::tasks::Found::Unfinished(r) => {
                let running = shared::get().is_some_and(|s| {
                    crate::calls::tasks::running(&s, tenant.oid, id, r.time(task::col::CREATED_AT).unwrap_or(0)).is_some()
                });
                Some(
                    task::unfinished(
                        r.char(task::col::STATE),
                        r.i32(task::col::ATTEMPTS).unwrap_or(0),
                        r.time(task::col::RUN_AT).unwrap_or(0),
                        clock::now(),
                        running,
                    )
                    .name(),
                )
            }
            crate::calls::tasks::Found::Nothing => {
                let skipped = State::of(row).skipped;
                (skipped.is_some() && skipped == Some(task::uuid_text(id))).then_some("skipped")
            }
        }
    });
    json!({
        "name": row.str(scol::NAME),
        "handler": row.str(scol::HANDLER),
        "rule": row.str(scol::RULE),
        "kind": parsed.as_ref().ok().map(|p| p.rule.kind()),
        "tz": row.text(scol::TZ).unwrap_or_else(|| tenant.zone()),
        "args": row.json(scol::ARGS).map(|v| json!([v])),
        "enabled": row.bool(scol::ENABLED),
        "next_run": time_json(row.time(scol::NEXT_RUN)),
        "repeats": row.i32(scol::REPEATS),
        "last_run": time_json(row.time(scol::LAST_RUN)),
        "last_task": row.uuid(scol::LAST_TASK).map(task::uuid_text),
        "last_status": last_status,
        "run_count": row.i64(scol::RUN_COUNT),
        "fail_count": row.i64(scol::FAIL_COUNT),
        "after": parsed.as_ref().ok().map(|p| p.after.clone()).filter(|a| !a.is_empty()),
        "problem": row.text(scol::PROBLEM).or_else(|| parsed.as_ref().err().map(|b| b.error.message.clone())),
        "tags": row.texts(scol::TAGS),
        "description": row.str(scol::DESCRIPTION),
        "created_by": row.str(scol::CREATED_BY),
        "of_all": parsed.as_ref().is_ok_and(|p| p.of_all.is_some()),
    })
}

/// tenant_q.tzdata_version()
fn tzdata(_args: &Args) -> Result<Ret> {
    Ok(Ret::Text(zone::TZDATA_VERSION.to_string()))
}

sql_functions! {
    tq_schedule, pg_finfo_tq_schedule => schedule;
    tq_alter_schedule, pg_finfo_tq_alter_schedule => crate::calls::schedules::alter;
    tq_unschedule, pg_finfo_tq_unschedule => crate::calls::schedules::unschedule;
    tq_fire, pg_finfo_tq_fire => crate::calls::schedules::fire;
    tenant_q_upcoming, pg_finfo_tenant_q_upcoming => crate::calls::schedules::upcoming;
    tq_export, pg_finfo_tq_export => crate::calls::schedules::export;
    tq_import, pg_finfo_tq_import => crate::calls::schedules::import;
    tenant_q_next_runs, pg_finfo_tenant_q_next_runs => next_runs;
    tq_describe, pg_finfo_tq_describe => describe_rule;
    tenant_q_schedules, pg_finfo_tenant_q_schedules => schedules;
    tenant_q_tzdata_version, pg_finfo_tenant_q_tzdata_version => tzdata;
}
