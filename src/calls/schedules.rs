//! What one does with schedules that are there: change, remove, fire, look ahead, carry elsewhere.

use crate::fanout::definitions;
use crate::postgres::call::{Args, Ret, parameters};
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table, Write};
use crate::postgres::row::Row;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::types::Jsonb;
use crate::postgres::{catalog, clock, transaction};
use crate::pure::choice::{Named, OnConflict, OnRedeclared};
use crate::pure::nearest::nearest;
use crate::pure::schedule::next::Plan;
use crate::pure::schedule::rule::{MonthEnd, Rule};
use crate::pure::schedule::{describe, zone};
use crate::pure::state;
use crate::pure::time::{At, Span, instant};
use crate::schedules::define::{announce, define, warn_of_delays, write};
use crate::schedules::definition::{Definition, DefinitionArgs};
use crate::schedules::follow::{self, Notes};
use crate::schedules::planning::{self, How, Redefinition};
use crate::schedules::row::Schedule;
use crate::schedules::{self, contended, may_read, may_schedule, may_set_condition, of_all};
use crate::task::document::time_json;
use crate::task::queue::Queue;
use crate::tenant::columns::{Results, Schedules, Tasks};
use crate::tenant::rights::{self, By, Caller, author};
use crate::tenant::{self, Tenant, lock};
use crate::{settings, shared, sql_functions};
use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;

/// Times that a row which a tick keeps changing is looked at again.
const TRIES: usize = 10;
/// Fire times that tq_upcoming computes for one that it shows, where active hours leave most of them out.
const COMPUTED_PER_SHOWN: usize = 1000;

parameters! {
    TqSchedule of tq_schedule behind DefinitionArgs {
        ON_CONFLICT,
        TENANT,
    }
    TqAlterSchedule of tq_alter_schedule behind DefinitionArgs {
        NEXT_RUN,
        RESET,
        TENANT,
    }
}

fn unknown(name: &str, tenant: &tenant::Tenant) -> Error {
    Error::undefined(format!("schedule \"{name}\" does not exist in tenant \"{}\"", tenant.name)).hint("See the view tq_schedules.")
}

fn name_of(args: &Args) -> Result<String> {
    args.text(0).ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "name is null"))
}

/// tq_alter_schedule(name … description as tq_schedule, next_run, reset, tenant)
pub fn alter(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_alter_schedule()");
    let name = name_of(args)?;
    let tenant = tenant::resolve(args.text(TqAlterSchedule::TENANT).as_deref())?;
    may_schedule(&tenant)?;
    let given = Definition::of_args(args);
    let reset = args.texts(TqAlterSchedule::RESET).unwrap_or_default();
    check_reset(args, &reset)?;
    let next_run = args.time(TqAlterSchedule::NEXT_RUN);
    if next_run.is_some_and(At::is_infinite) {
        return Err(Error::invalid("next_run is infinite").hint("enabled => false stops a schedule."));
    }
    let others_given = (DefinitionArgs::HANDLER..=TqAlterSchedule::NEXT_RUN).any(|n| n != DefinitionArgs::ENABLED && args.is_given(n));
    let only_disables = given.enabled == Some(false) && reset.is_empty() && !others_given;
    let author = author();
    let table = tenant.open(tenant.schedule, Access::Write)?;
    for _ in 0..TRIES {
        let Some(row) = follow::find(&table, &name) else { return Err(unknown(&name, &tenant)) };
        of_all::refuse(&row)?;
        let changed = if only_disables {
            disable(&table, &row) == Write::Done
        } else {
            change(&tenant, &table, &row, &given, &reset, next_run, &author)?
        };
        if changed {
            return Ok(Ret::Void);
        }
    }
    Err(contended(&name))
}

/// Whatever is wrong with it, it can be stopped.
fn disable(table: &Table<Schedules>, row: &Row<Schedules>) -> Write {
    let mut state = Notes::of(row);
    state.start_over();
    let document = state.document();
    let set = [Schedules::ENABLED.to(false), Schedules::NEXT_RUN.null(), Schedules::PROBLEM.null(), Schedules::STATE.to(document.as_ref())];
    let gone = table.update(row, &set);
    if gone == Write::Done {
        transaction::see_own_writes();
    }
    gone
}

/// False: the row was changed meanwhile.
fn change(
    tenant: &Rc<Tenant>,
    table: &Table<Schedules>,
    row: &Row<Schedules>,
    given: &Definition,
    reset: &[String],
    next_run: Option<At>,
    author: &Caller,
) -> Result<bool> {
    let old = Definition::of_row(row);
    let new = merged(&old, given, reset);
    may_set_condition(tenant, old.only_if.as_deref(), new.only_if.as_deref())?;
    let enabled = new.enabled.unwrap_or(true);
    let call_given = !given.handler.is_empty() || given.args.is_some() || given.time_arg.is_some();
    let checked = new.check(tenant, author, enabled || call_given)?;
    if given.until.is_some() {
        new.check_until()?;
    }
    if new.after() != old.after() && !new.after().is_empty() {
        follow::check(tenant, table, &new.name, new.after())?;
    }
    let now = clock::now();
    let plan = checked.plan(&new, now, row.get(Schedules::ID).unwrap_or_default().low());
    let mut planned = Redefinition::new(row, &old, &new, How::Altered, plan, now).planned()?;
    if let Some(at) = next_run {
        if !enabled || planned.repeats == 0 {
            let why = if enabled { "Its repeats are used up." } else { "It is disabled." };
            return Err(Error::invalid("next_run is given for a schedule that does not fire").detail(why));
        }
        planning::run_at(&mut planned, &new, &plan, at, now)?;
    }
    if given.jitter.is_some() || given.overlap.is_some() || new.rule != old.rule {
        warn_of_delays(&new, &plan, Span::ZERO);
    }
    if write(table, row, &new, &checked, &planned, author) == Write::Overtaken {
        return Ok(false);
    }
    if given.after.is_some() {
        // Also those that it named before: it mends what somebody's DELETE took.
        follow::link(table, &new.name, &[], new.after())?;
    }
    follow::link(table, &new.name, old.after(), new.after())?;
    announce(tenant, planned.next)?;
    Ok(true)
}

/// Parameters that can go back to what is inherited, and aren't given at the same time.
fn check_reset(args: &Args, reset: &[String]) -> Result<()> {
    for parameter in reset {
        match DefinitionArgs::NAMES.iter().position(|p| p == parameter) {
            Some(DefinitionArgs::NAME..=DefinitionArgs::RULE) => {
                return Err(Error::invalid(format!("reset names \"{parameter}\", which a schedule can not be without")));
            }
            Some(n) if args.is_given(n) => {
                return Err(Error::invalid(format!("{parameter} is given, and reset names it too")));
            }
            Some(_) => {}
            None => {
                let error = Error::invalid(format!("reset names \"{parameter}\", which is no parameter of a schedule"));
                return Err(match nearest(parameter, DefinitionArgs::NAMES.iter().copied()) {
                    Some(near) => error.detail(format!("The nearest is \"{near}\".")),
                    None => error,
                });
            }
        }
    }
    Ok(())
}

fn merged(old: &Definition, given: &Definition, reset: &[String]) -> Definition {
    let text = |given: &String, old: &String| if given.is_empty() { old.clone() } else { given.clone() };
    macro_rules! pick {
        ($($field:ident),*) => {
            Definition {
                name: old.name.clone(),
                handler: text(&given.handler, &old.handler),
                rule: text(&given.rule, &old.rule),
                $($field: if reset.iter().any(|r| r == stringify!($field)) {
                    None
                } else {
                    given.$field.clone().or_else(|| old.$field.clone())
                },)*
            }
        };
    }
    let mut new = pick!(
        args,
        tz,
        start_at,
        until,
        repeats,
        catch_up,
        catch_up_limit,
        deadline,
        overlap,
        jitter,
        month_end,
        day_and,
        time_arg,
        only_if,
        active_hours,
        after,
        after_outcome,
        task,
        enabled,
        tags,
        description
    );
    if new.after().is_empty() {
        // An empty list is none; what counts after nobody is nothing.
        new.after = None;
        if given.after_outcome.is_none() {
            new.after_outcome = None;
        }
    }
    new
}

/// tq_unschedule(name, tenant)
pub fn unschedule(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_unschedule()");
    let name = name_of(args)?;
    let tenant = tenant::resolve(args.text(1).as_deref())?;
    may_schedule(&tenant)?;
    let table = tenant.open(tenant.schedule, Access::Write)?;
    // A tick may be advancing the row just now: what it makes of it goes too.
    for _ in 0..TRIES {
        let Some(row) = follow::find(&table, &name) else { return Ok(Ret::Bool(false)) };
        of_all::refuse(&row)?;
        let followers = follow::followers(&table, &row);
        if let Some(first) = followers.first() {
            return Err(Error::new(
                SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
                format!("schedule \"{name}\" can't go while others come after it"),
            )
            .detail(format!("They are \"{}\".", followers.join("\", \"")))
            .hint(format!("Run tq_alter_schedule({}, after => …) first, or remove it.", pgrx::spi::quote_literal(first))));
        }
        if table.delete(&row) == Write::Done {
            transaction::see_own_writes();
            follow::link(&table, &name, &follow::after_of(&row), &[])?;
            // It may have stood in the way of one of all tenants.
            definitions::visit(&tenant.name)?;
            return Ok(Ret::Bool(true));
        }
    }
    Err(contended(&name))
}

/// tq_fire(name, tenant): one task of the schedule now. The plan is not touched, and nothing that belongs
/// to it is asked: neither its hours nor its condition nor how often it may still fire.
pub fn fire(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"SELECT tq_fire()");
    let name = name_of(args)?;
    let tenant = tenant::resolve(args.text(1).as_deref())?;
    may_schedule(&tenant)?;
    let table = tenant.open(tenant.schedule, Access::Write)?;
    let Some(row) = follow::find(&table, &name) else { return Err(unknown(&name, &tenant)) };
    let schedule = Schedule::of(&tenant, &row)?;
    let tasks = tenant.open(tenant.task, Access::Write)?;
    // Who fires it answers for the task.
    let queue = Queue::of(tenant.clone(), tasks, author(), By::Caller);
    let now = clock::now();
    let handler_name = row.text(Schedules::HANDLER).unwrap_or_default();
    let id = crate::work::enqueue::add(&queue, &crate::work::fire::task_of(&schedule, &tenant, &row, &handler_name, now)?)?;
    follow::change(&table, &name, |row| {
        let runs = row.get(Schedules::RUN_COUNT).unwrap_or(0).saturating_add(1);
        let columns = vec![Schedules::LAST_RUN.to(now), Schedules::LAST_TASK.to(id), Schedules::RUN_COUNT.to(runs)];
        Some(follow::Rewrite { state: Notes::of(row), columns })
    })?;
    Ok(Ret::Uuid(id))
}

/// A schedule on its way through the coming fire times.
struct Ahead {
    schedule: Schedule,
    left: i32,
    /// A fire time of the rule's to come back to, after the one of a release.
    planned: Option<At>,
}

/// tenant_q.upcoming(until, tenant): fire times of all schedules in order, at most tenant_q.view_rows.
pub fn upcoming(args: &Args) -> Result<Ret> {
    let until = args.time(0).ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "until is null"))?;
    let tenant = tenant::resolve(args.text(1).as_deref())?;
    may_read(&tenant)?;
    let table = tenant.open_to_look(tenant.schedule)?;
    let limit = settings::view_rows();
    let mut ahead: Vec<Ahead> = Vec::new();
    let mut heap: BinaryHeap<Reverse<(At, usize)>> = BinaryHeap::new();
    for row in table.scan(&Schedules::DUE, &[Schedules::NEXT_RUN.at_most(until)]) {
        if row.get(Schedules::ENABLED) == Some(true)
            && let Some(next) = row.get(Schedules::NEXT_RUN)
            && let Ok(schedule) = Schedule::of(&tenant, &row)
        {
            heap.push(Reverse((next, ahead.len())));
            let planned = schedule.state.released.and(schedule.state.planned);
            ahead.push(Ahead { left: schedule.repeats, schedule, planned });
        }
    }
    let (mut rows, mut more, mut computed) = (Vec::new(), false, 0);
    while let Some(Reverse((at, place))) = heap.pop() {
        if at > until {
            break;
        }
        if rows.len() >= limit || computed > limit.saturating_mul(COMPUTED_PER_SHOWN) {
            more = true;
            break;
        }
        computed += 1;
        pgrx::check_for_interrupts!();
        let coming = &mut ahead[place];
        if coming.left == 0 {
            continue;
        }
        let slot: DateTime<Utc> = instant(at);
        if coming.schedule.active_hours.as_ref().is_none_or(|h| h.contain(coming.schedule.zone, slot)) {
            coming.left -= i32::from(coming.left > 0);
            rows.push(json!({ "schedule": coming.schedule.name, "fire_time": time_json(Some(at)) }));
        }
        let next = match coming.planned.take() {
            Some(planned) => Some(planned),
            None if coming.schedule.state.released.is_some_and(|r| r == at) => None,
            None => coming.schedule.plan().next_after(slot).map(At::from),
        };
        heap.extend(next.map(|t| Reverse((t, place))));
    }
    if more {
        Error::new(SqlState::SUCCESSFUL_COMPLETION, format!("only the first {limit} fire times are shown"))
            .hint("Raise tenant_q.view_rows, or look less far.")
            .notice();
    }
    Ok(Ret::Json(rows.into()))
}

/// tq_export(tenant): all schedules, each as a document whose keys are tq_schedule's parameters.
pub fn export(args: &Args) -> Result<Ret> {
    let tenant = tenant::resolve(args.text(0).as_deref())?;
    may_read(&tenant)?;
    let table = tenant.open(tenant.schedule, Access::Read)?;
    let mut definitions = Vec::new();
    // Those of all tenants are nobody's to carry.
    for row in table.scan(&Schedules::BY_NAME, &[]).filter(|row| !of_all::is_of_all(row)) {
        let granted = Notes::of(&row).granted;
        let definition = Definition::of_row(&row);
        // What it has been granted, not what is left: how often it has fired stays here.
        definitions.push(Definition { repeats: granted.or(definition.repeats), ..definition });
    }
    let documents = definitions.iter().map(Definition::document).collect::<Result<Vec<Json>>>()?;
    Ok(Ret::Document(Jsonb::from_value(documents.into())))
}

/// tq_import(doc, on_conflict, tenant): how many schedules were made.
pub fn import(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"SELECT tq_import()");
    let document = args.json(0).ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "doc is null"))?;
    let tenant = tenant::resolve(args.text(2).as_deref())?;
    may_schedule(&tenant)?;
    let conflict = args.text(1).map_or(Ok(OnConflict::default()), |word| OnConflict::known("on_conflict", &word))?;
    let Json::Array(documents) = document.value() else {
        return Err(Error::invalid("doc is not an array").hint("Pass what tq_export() returns: [{\"name\": …}, …]."));
    };
    let count = documents.len();
    let place = |n: usize, name: &str, e: Error| {
        let detail = e.detail.clone().map_or(String::new(), |d| format!(" {d}"));
        let name = if name.is_empty() { String::new() } else { format!(" (\"{name}\")") };
        e.detail(format!("Schedule {} of {count}{name}.{detail}", n + 1))
    };
    let mut waiting: Vec<(usize, Definition)> = Vec::with_capacity(count);
    for (n, d) in documents.iter().enumerate() {
        let name = d.get("name").and_then(Json::as_str).unwrap_or("").to_string();
        let definition = Definition::of_document(d).map_err(|e| place(n, &name, e))?;
        if waiting.iter().any(|(_, other)| other.name == definition.name) {
            return Err(place(n, &name, Error::invalid(format!("doc has schedule \"{name}\" twice"))));
        }
        waiting.push((n, definition));
    }
    // In one order, so that two imports wait for each other in line.
    let mut names: Vec<&str> = waiting.iter().map(|(_, d)| d.name.as_str()).collect();
    names.sort_unstable();
    names.iter().try_for_each(|name| lock::schedule_name(&tenant, name))?;
    let author = author();
    let mut made = 0;
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
            let defined = define(&tenant, &definition, conflict, &author).map_err(|e| place(n, &definition.name, e))?;
            made += i32::from(defined.made);
        }
    }
    Ok(Ret::Int(made))
}

/// tq_schedule(name, handler, rule, args, tz, start_at, until, repeats, catch_up, catch_up_limit, deadline, overlap,
/// jitter, month_end, day_and, time_arg, only_if, active_hours, after, after_outcome, task, enabled, tags,
/// description, on_conflict, tenant)
fn schedule(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_schedule()");
    let definition = Definition::of_args(args);
    definition.check_given()?;
    let tenant = tenant::resolve(args.text(TqSchedule::TENANT).as_deref())?;
    schedules::may_schedule(&tenant)?;
    let conflict = args.text(TqSchedule::ON_CONFLICT).map_or(Ok(OnRedeclared::default()), |word| OnRedeclared::known("on_conflict", &word));
    if conflict.is_err() {
        // What is wrong with the schedule itself comes first.
        definition.check(&tenant, &rights::author(), true)?;
    }
    let defined = define(&tenant, &definition, conflict?.into(), &rights::author())?;
    if settings::exclude_schemas().contains(&tenant.name) {
        Error::new(SqlState::WARNING, format!("no schedule runs in tenant \"{}\"", tenant.name))
            .detail("The schema is one of tenant_q.exclude_schemas.")
            .hint("Take it off that setting, or schedule in another tenant.")
            .warn();
    }
    Ok(Ret::Uuid(defined.id))
}

/// tenant_q.next_runs(rule, tz, after, n, start_at, month_end, day_and): an array of instants.
fn next_runs(args: &Args) -> Result<Ret> {
    let rule = args.text(0).ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "rule is null"))?;
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
        found.push(At::from(next));
        from = next;
    }
    Ok(Ret::Times(found))
}

/// tq_describe(rule)
fn describe_rule(args: &Args) -> Result<Ret> {
    let text = args.text(0).ok_or_else(|| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "rule is null"))?;
    Ok(Ret::Text(describe::describe(&Rule::parse(&text, false)?)))
}

/// tenant_q.schedules(tenant): rows of the view tq_schedules, as documents.
fn schedules(args: &Args) -> Result<Ret> {
    let tenant = tenant::resolve(args.text(0).as_deref())?;
    schedules::may_read(&tenant)?;
    let table = tenant.open_to_look(tenant.schedule)?;
    let limit = settings::view_rows();
    let mut rows = Vec::new();
    let mut more = false;
    for row in table.scan(&Schedules::BY_NAME, &[]) {
        more = rows.len() >= limit;
        if more {
            break;
        }
        rows.push(describe_schedule(&tenant, &row));
    }
    if more {
        Error::new(SqlState::SUCCESSFUL_COMPLETION, format!("only the first {limit} schedules are shown"))
            .hint(format!("Raise tenant_q.view_rows, or read {}.tq_schedule.", catalog::quote(&tenant.name)))
            .notice();
    }
    Ok(Ret::Json(rows.into()))
}

fn describe_schedule(tenant: &Rc<Tenant>, row: &Row<Schedules>) -> Json {
    let parsed = Schedule::of(tenant, row);
    let last_status = row.get(Schedules::LAST_TASK).and_then(|id| {
        let tasks = tenant.try_open(tenant.task, Access::Read).ok()??;
        let results = tenant.try_open(tenant.result, Access::Read).ok()??;
        match crate::task::lookup::look_up(&tasks, &results, id) {
            crate::task::lookup::Found::Finished(r) => Some(r.letter(Results::STATE).seen().name()),
            crate::task::lookup::Found::Unfinished(r) => {
                let running = shared::get().is_some_and(|s| {
                    crate::shared::slot::running(&s, tenant.oid, id, r.get(Tasks::CREATED_AT).unwrap_or_default()).is_some()
                });
                Some(
                    state::unfinished(
                        r.letter(Tasks::STATE),
                        r.get(Tasks::ATTEMPTS).unwrap_or(0),
                        r.get(Tasks::RUN_AT).unwrap_or_default(),
                        clock::now(),
                        running,
                    )
                    .name(),
                )
            }
            crate::task::lookup::Found::Nothing => {
                let skipped = Notes::of(row).skipped;
                (skipped.is_some() && skipped == Some(id.to_string())).then_some("skipped")
            }
        }
    });
    json!({
        "name": row.get(Schedules::NAME),
        "handler": row.get(Schedules::HANDLER),
        "rule": row.get(Schedules::RULE),
        "kind": parsed.as_ref().ok().map(|p| p.rule.kind()),
        "tz": row.text(Schedules::TZ).unwrap_or_else(|| tenant.zone()),
        "args": row.get(Schedules::ARGS).map(|v| json!([v])),
        "enabled": row.get(Schedules::ENABLED),
        "next_run": time_json(row.get(Schedules::NEXT_RUN)),
        "repeats": row.get(Schedules::REPEATS),
        "last_run": time_json(row.get(Schedules::LAST_RUN)),
        "last_task": row.get(Schedules::LAST_TASK),
        "last_status": last_status,
        "run_count": row.get(Schedules::RUN_COUNT),
        "fail_count": row.get(Schedules::FAIL_COUNT),
        "after": parsed.as_ref().ok().map(|p| p.after.clone()).filter(|a| !a.is_empty()),
        "problem": row.text(Schedules::PROBLEM).or_else(|| parsed.as_ref().err().map(|b| b.error.message.clone())),
        "tags": row.get(Schedules::TAGS),
        "description": row.get(Schedules::DESCRIPTION),
        "created_by": row.get(Schedules::CREATED_BY),
        "of_all": parsed.as_ref().is_ok_and(|p| p.of_all.is_some()),
    })
}

/// tenant_q.tzdata_version()
fn tzdata(_args: &Args) -> Result<Ret> {
    Ok(Ret::Text(zone::TZDATA_VERSION.to_string()))
}

sql_functions! {
    tq_schedule, pg_finfo_tq_schedule => schedule;
    tq_alter_schedule, pg_finfo_tq_alter_schedule => alter;
    tq_unschedule, pg_finfo_tq_unschedule => unschedule;
    tq_fire, pg_finfo_tq_fire => fire;
    tenant_q_upcoming, pg_finfo_tenant_q_upcoming => upcoming;
    tq_export, pg_finfo_tq_export => export;
    tq_import, pg_finfo_tq_import => import;
    tenant_q_next_runs, pg_finfo_tenant_q_next_runs => next_runs;
    tq_describe, pg_finfo_tq_describe => describe_rule;
    tenant_q_schedules, pg_finfo_tenant_q_schedules => schedules;
    tenant_q_tzdata_version, pg_finfo_tenant_q_tzdata_version => tzdata;
}
