//! tq_schedule and its kin: making schedules, looking ahead. What happens when one is due is in
//! tick.rs, the arithmetic in schedule/.

use crate::error::{Error, Result};
use crate::handler;
use crate::postgres::call::{Args, Ret};
use crate::postgres::clock;
use crate::postgres::relation::{Access, Row, Value};
use crate::postgres::types::Jsonb;
use crate::postgres::{catalog, sandbox, session, transaction};
use crate::schedule::active_hours::ActiveHours;
use crate::schedule::catch_up::CatchUp;
use crate::schedule::describe;
use crate::schedule::next::Plan;
use crate::schedule::rule::{MonthEnd, Rule};
use crate::schedule::zone;
use crate::surface::{task_object, time_json};
use crate::tenant::{self, Tenant};
use crate::tick::{Schedule, instant, micros, scol};
use crate::{settings, shared, sql_functions, task, wake};
use serde_json::{Value as Json, json};
use std::rc::Rc;

fn may_schedule(tenant: &Tenant) -> Result<()> {
    let user = sandbox::current_user();
    if sandbox::is_superuser(user) || catalog::may_insert(tenant.schedule, scol::NAME as i16, user) {
        return Ok(());
    }
    Err(Error::denied(format!("permission denied to schedule tasks of tenant \"{}\"", tenant.name))
        .detail("A schedule runs its handler for ever: that is its owner's to decide.")
        .hint(format!("The owner can run GRANT INSERT, UPDATE, DELETE ON {}.tq_schedule TO …", catalog::quote(&tenant.name))))
}

/// tq_schedule(name, handler, rule, args, tz, start_at, until, repeats, catch_up, catch_up_limit, deadline, overlap,
/// jitter, month_end, day_and, time_arg, only_if, active_hours, after, after_outcome, task, enabled, tags,
/// description, on_conflict, tenant)
fn schedule(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_schedule()");
    let need = |n: usize, what: &str| {
        args.text(n).filter(|t| !t.is_empty()).ok_or_else(|| Error::new("22004", format!("{what} is null or empty")))
    };
    let name = need(0, "name")?;
    if name.len() > 200 {
        return Err(Error::limit("name is longer than 200 bytes"));
    }
    let handler_name = need(1, "handler")?;
    let rule_text = need(2, "rule")?;
    if args.is_given(16) {
        return Err(Error::unsupported("only_if"));
    }
    for (what, n) in [("after", 18), ("after_outcome", 19)] {
        if args.is_given(n) {
            return Err(Error::unsupported(what));
        }
    }
    let tenant = tenant::resolve(args.text(25).as_deref())?;
    may_schedule(&tenant)?;
    let day_and = args.bool(14).unwrap_or(false);
    let rule = Rule::parse(&rule_text, day_and)?;
    let tz = args.text(4);
    let zone = zone::parse_zone(&tz.clone().unwrap_or_else(|| tenant.zone()))?;
    let month_end = args.text(13);
    let parsed_month_end = month_end.as_deref().map_or(Ok(MonthEnd::Clamp), MonthEnd::parse)?;
    if let Some(text) = args.text(8) {
        CatchUp::parse(&text)?;
    }
    if args.int(9).is_some_and(|n| n < 1) {
        return Err(Error::invalid("catch_up_limit is below 1"));
    }
    for (what, n) in [("deadline", 10), ("jitter", 12)] {
        if args.interval(n).is_some_and(|i| i < 0) {
            return Err(Error::invalid(format!("{what} is negative")));
        }
    }
    if let Some(overlap) = args.text(11)
        && !["queue", "allow", "skip"].contains(&overlap.as_str())
    {
        return Err(Error::invalid(format!("overlap \"{overlap}\" is not known")).hint("Use \"queue\", \"allow\" or \"skip\"."));
    }
    let active_hours = args.text(17);
    if let Some(text) = &active_hours {
        ActiveHours::parse(text)?;
    }
    let repeats = args.int(7).unwrap_or(-1);
    if repeats < -1 {
        return Err(Error::invalid("repeats is below -1").hint("-1 fires for ever, 0 never, n that many times."));
    }
    let now = clock::now();
    let (start_at, until) = (args.time(5), args.time(6));
    if until.is_some_and(|u| u <= now) {
        return Err(Error::invalid("until lies in the past"));
    }
    if let (Some(start), Some(until)) = (start_at, until)
        && until < start
    {
        return Err(Error::invalid("until lies before start_at"));
    }
    let task = args.json(20).map(|j| j.value());
    if let Some(object) = &task {
        let base = task_object(object)?;
        if !base.handler.is_empty() || base.args.is_some() || base.id.is_some() || base.run_at.is_some() || base.delay.is_some() {
            return Err(Error::invalid("task says what the schedule says: handler, args, id, run_at or delay")
                .hint("Leave these keys out; they come from the schedule."));
        }
        base.check()?;
    }
    let handler = handler::require(&tenant, &handler_name)?;
    let args_document = args.json(3);
    let time_arg = args.text(15);
    check_args(&tenant, &handler, args_document.as_ref(), time_arg.as_deref())?;
    if sandbox::is_superuser(pgrx::pg_sys::Oid::from(handler.run_as)) && !sandbox::is_superuser(sandbox::current_user()) {
        return Err(Error::denied(format!("handler \"{handler_name}\" runs as a superuser, so only a superuser may schedule it")));
    }
    let conflict = args.text(24).unwrap_or_else(|| "error".into());
    if !["error", "replace", "nothing"].contains(&conflict.as_str()) {
        return Err(Error::invalid(format!("on_conflict \"{conflict}\" is not known")).hint("Use \"error\", \"replace\" or \"nothing\"."));
    }
    if settings::exclude_schemas().contains(&tenant.name) {
        Error::new("01000", format!("no schedule runs in tenant \"{}\"", tenant.name))
            .detail("The schema is one of tenant_q.exclude_schemas.")
            .hint("Take it off that setting, or schedule in another tenant.")
            .warn();
    }
    let id = task::new_id();
    let seed = id as u64;
    let plan = Plan {
        rule: &rule,
        zone,
        anchor: instant(now),
        start_at: start_at.map(instant),
        until: until.map(instant),
        month_end: parsed_month_end,
        seed,
    };
    let enabled = args.bool(21).unwrap_or(true);
    let first = plan.first().map(micros).filter(|_| repeats != 0);
    if first.is_none() && repeats != 0 {
        return Err(Error::invalid("the schedule never fires").detail("Its rule has no fire time between start_at and until."));
    }
    let next = first.filter(|_| enabled);
    let table = tenant.open(tenant.schedule, Access::Write)?;
    if let Some(row) = transaction::with_latest_snapshot(|| table.find(&[scol::NAME as i16], Value::Text(&name))) {
        match conflict.as_str() {
            "nothing" => return Ok(Ret::Uuid(row.uuid(scol::ID).unwrap_or(0))),
            "replace" => {
                table.delete(row.tid);
                transaction::see_own_writes();
            }
            _ => {
                return Err(Error::new("42710", format!("schedule \"{name}\" exists already in tenant \"{}\"", tenant.name))
                    .hint("on_conflict => 'replace' replaces it."));
            }
        }
    }
    let user = sandbox::current_user();
    let options = active_hours.map(|a| Jsonb::from_value(json!({ "active_hours": a })));
    let task = task.map(Jsonb::from_value);
    table.insert(&[
        Value::Text(&name),
        Value::Uuid(id),
        Value::Text(&handler.name),
        Value::Text(&rule_text),
        Value::text(tz.as_deref()),
        Value::json(args_document.as_ref()),
        Value::time(next),
        Value::Bool(enabled),
        Value::Time(now),
        Value::time(start_at),
        Value::time(until),
        Value::I32(repeats),
        Value::text(args.text(8).as_deref()),
        args.int(9).map_or(Value::Null, Value::I32),
        args.value(10),
        Value::text(args.text(11).as_deref()),
        args.value(12),
        Value::text(month_end.as_deref()),
        args.bool(14).map_or(Value::Null, Value::Bool),
        Value::text(time_arg.as_deref()),
        Value::json(task.as_ref()),
        Value::json(options.as_ref()),
        args.value(22),
        Value::text(args.text(23).as_deref()),
        Value::text(catalog::role_name(user.to_u32()).as_deref()),
        Value::Bool(sandbox::is_superuser(user)),
        Value::Time(now),
        Value::Null,
        Value::Null,
        Value::I64(0),
        Value::Null,
    ]);
    announce(&tenant, next)?;
    Ok(Ret::Uuid(id))
}

/// Whoever waits for due schedules is told of a new due time.
fn announce(tenant: &Tenant, next: Option<i64>) -> Result<()> {
    if let Some(next) = next {
        match tenant.entry(tenant.owner)? {
            Some(entry) => wake::schedule_changed(entry, next),
            None if shared::get().is_none() => crate::enqueue::warn_not_preloaded(),
            None => {}
        }
    }
    Ok(())
}

/// The arguments as they will be at a fire time.
fn check_args(tenant: &Tenant, handler: &handler::Handler, args: Option<&Jsonb>, time_arg: Option<&str>) -> Result<()> {
    let Some(time_arg) = time_arg else { return handler.check_args(tenant, args) };
    let mut object = match args.map(|a| a.value()) {
        None | Some(Json::Null) => json!({}),
        Some(Json::Object(o)) => Json::Object(o),
        Some(_) => return Err(Error::invalid("time_arg needs args to be an object").hint("Pass args by name: {\"parameter\": value}.")),
    };
    if let Some(sig) = &handler.signature
        && !sig.params.iter().any(|p| p.name.as_deref() == Some(time_arg))
    {
        return Err(Error::invalid(format!("handler \"{}\" has no parameter \"{time_arg}\"", handler.name))
            .detail(format!("Its function is {}.", sig.identity)));
    }
    object[time_arg] = "2020-02-29".into();
    let check = Jsonb::from_value(object);
    handler.check_args(tenant, Some(&check))
}

/// tq_unschedule(name, tenant)
fn unschedule(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_unschedule()");
    let name = args.text(0).ok_or_else(|| Error::new("22004", "name is null"))?;
    let tenant = tenant::resolve(args.text(1).as_deref())?;
    may_schedule(&tenant)?;
    let table = tenant.open(tenant.schedule, Access::Write)?;
    // A tick may be advancing the row just now: what it makes of it goes too.
    for _ in 0..10 {
        let Some(row) = transaction::with_latest_snapshot(|| table.find(&[scol::NAME as i16], Value::Text(&name))) else {
            return Ok(Ret::Bool(false));
        };
        if table.delete(row.tid) == crate::postgres::relation::Gone::Done {
            return Ok(Ret::Bool(true));
        }
    }
    Err(Error::new("40001", format!("schedule \"{name}\" is being changed by others")).hint("Try again."))
}

/// tenant_q.next_runs(rule, tz, after, n, start_at, month_end, day_and): an array of instants.
fn next_runs(args: &Args) -> Result<Ret> {
    let rule = args.text(0).ok_or_else(|| Error::new("22004", "rule is null"))?;
    let rule = Rule::parse(&rule, args.bool(6).unwrap_or(false))?;
    let tz = args.text(1).unwrap_or_else(|| match tenant::resolve(None) {
        Ok(t) => t.zone(),
        Err(_) => Some(settings::timezone()).filter(|z| !z.is_empty()).unwrap_or_else(|| session::show(c"TimeZone")),
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
    let user = sandbox::current_user();
    if !(sandbox::is_superuser(user) || catalog::may_select(tenant.schedule, user)) {
        return Err(Error::denied(format!("permission denied to read schedules of tenant \"{}\"", tenant.name)));
    }
    let table = tenant.open(tenant.schedule, Access::Read)?;
    let limit = settings::view_rows();
    let mut rows = Vec::new();
    table.scan(table.index_with(&[scol::NAME as i16]), &[], None, false, |row| {
        rows.push(describe_schedule(&tenant, &row));
        rows.len() < limit
    });
    Ok(Ret::Json(rows.into()))
}

fn describe_schedule(tenant: &Rc<Tenant>, row: &Row) -> Json {
    let parsed = Schedule::of(tenant, row);
    let last_status = row.uuid(scol::LAST_TASK).and_then(|id| {
        let tasks = tenant.open(tenant.task, Access::Read).ok()?;
        let results = tenant.open(tenant.result, Access::Read).ok()?;
        match crate::surface::look_up(&tasks, &results, id) {
            crate::surface::Found::Finished(r) => Some(task::finished(r.char(task::rcol::STATE)).name()),
            crate::surface::Found::Unfinished(r) => {
                let running =
                    shared::get().is_some_and(|s| crate::surface::running(&s, id, r.time(task::col::CREATED_AT).unwrap_or(0)).is_some());
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
            crate::surface::Found::Nothing => None,
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
        "problem": row.text(scol::PROBLEM).or_else(|| parsed.as_ref().err().map(|e| e.message.clone())),
        "description": row.str(24),
        "created_by": row.str(scol::CREATED_BY),
    })
}

/// tenant_q.tzdata_version()
fn tzdata(_args: &Args) -> Result<Ret> {
    Ok(Ret::Text(zone::TZDATA_VERSION.to_string()))
}

sql_functions! {
    tq_schedule, pg_finfo_tq_schedule => schedule;
    tq_unschedule, pg_finfo_tq_unschedule => unschedule;
    tenant_q_next_runs, pg_finfo_tenant_q_next_runs => next_runs;
    tq_describe, pg_finfo_tq_describe => describe_rule;
    tenant_q_schedules, pg_finfo_tenant_q_schedules => schedules;
    tenant_q_tzdata_version, pg_finfo_tenant_q_tzdata_version => tzdata;
}
