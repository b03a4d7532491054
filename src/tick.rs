//! Serving fire times: one transaction enqueues the task and advances the schedule, so each fire
//! time is served exactly once, whoever is killed in between. The task's id is computed from the
//! schedule and the fire time: a second attempt finds the first.

use crate::enqueue::{Caller, NewTask, Queue};
use crate::error::{Error, Result};
use crate::handler;
use crate::postgres::caught::{self, Failure};
use crate::postgres::clock::{self, Micros, NEVER};
use crate::postgres::relation::{Access, Compare, Gone, Key, Row, Table, Value};
use crate::postgres::types::Jsonb;
use crate::postgres::{call, transaction};
use crate::ready;
use crate::schedule::active_hours::ActiveHours;
use crate::schedule::catch_up::{self, CatchUp, Lateness};
use crate::schedule::next::Plan;
use crate::schedule::rule::{MonthEnd, Rule, RuleError};
use crate::schedule::{spread, zone};
use crate::settings;
use crate::shared::{Shared, Word};
use crate::task::{self, col};
use crate::tenant::{self, Tenant};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value as Json, json};
use std::rc::Rc;
use std::sync::atomic::Ordering::*;

/// Schedules of one tenant that one transaction serves.
const SCHEDULES: usize = 200;
const EPOCH_2000: i64 = 946_684_800_000_000;
/// Fire times that catch_up => 'all' serves at a time where no limit is given.
const CATCH_UP_LIMIT: i32 = 1000;

/// Columns of tq_schedule (sql/tenant_tables.sql).
pub mod scol {
    pub const NAME: usize = 1;
    pub const ID: usize = 2;
    pub const HANDLER: usize = 3;
    pub const RULE: usize = 4;
    pub const TZ: usize = 5;
    pub const ARGS: usize = 6;
    pub const NEXT_RUN: usize = 7;
    pub const ENABLED: usize = 8;
    pub const ANCHOR: usize = 9;
    pub const START_AT: usize = 10;
    pub const UNTIL: usize = 11;
    pub const REPEATS: usize = 12;
    pub const CATCH_UP: usize = 13;
    pub const CATCH_UP_LIMIT: usize = 14;
    pub const DEADLINE: usize = 15;
    pub const OVERLAP: usize = 16;
    pub const JITTER: usize = 17;
    pub const MONTH_END: usize = 18;
    pub const DAY_AND: usize = 19;
    pub const TIME_ARG: usize = 20;
    pub const TASK: usize = 21;
    pub const OPTIONS: usize = 22;
    pub const TAGS: usize = 23;
    pub const DESCRIPTION: usize = 24;
    pub const CREATED_BY: usize = 25;
    pub const BY_SUPERUSER: usize = 26;
    pub const CREATED_AT: usize = 27;
    pub const LAST_RUN: usize = 28;
    pub const LAST_TASK: usize = 29;
    pub const RUN_COUNT: usize = 30;
    pub const PROBLEM: usize = 31;
    pub const COUNT: usize = 31;
}

/// A row of tq_schedule, as far as time is concerned.
pub struct Schedule {
    pub name: String,
    pub id: u128,
    pub rule: Rule,
    pub zone: chrono_tz::Tz,
    pub anchor: Micros,
    pub start_at: Option<Micros>,
    pub until: Option<Micros>,
    pub month_end: MonthEnd,
    pub active_hours: Option<ActiveHours>,
}

pub fn instant(t: Micros) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(t.saturating_add(EPOCH_2000)).unwrap_or(DateTime::<Utc>::MAX_UTC)
}
pub fn micros(t: DateTime<Utc>) -> Micros {
    t.timestamp_micros() - EPOCH_2000
}

impl From<RuleError> for Error {
    fn from(e: RuleError) -> Error {
        let mut error = Error::invalid(e.message);
        if let Some(position) = e.position {
            error = error.detail(format!("Parameter {}, at byte {}.", e.field, position + 1));
        } else {
            error = error.detail(format!("Parameter {}.", e.field));
        }
        if let Some(hint) = e.hint {
            error = error.hint(hint);
        }
        error
    }
}

impl Schedule {
    pub fn plan(&self) -> Plan<'_> {
        Plan {
            rule: &self.rule,
            zone: self.zone,
            anchor: instant(self.anchor),
            start_at: self.start_at.map(instant),
            until: self.until.map(instant),
            month_end: self.month_end,
            seed: self.id as u64,
        }
    }

    pub fn of(tenant: &Tenant, row: &Row) -> Result<Schedule> {
        let zone_name = row.text(scol::TZ).unwrap_or_else(|| tenant.zone());
        let options = row.json(scol::OPTIONS).unwrap_or(Json::Null);
        Ok(Schedule {
            name: row.text(scol::NAME).unwrap_or_default(),
            id: row.uuid(scol::ID).unwrap_or(0),
            rule: Rule::parse(row.str(scol::RULE).unwrap_or(""), row.bool(scol::DAY_AND).unwrap_or(false))?,
            zone: zone::parse_zone(&zone_name)?,
            anchor: row.time(scol::ANCHOR).unwrap_or(0),
            start_at: row.time(scol::START_AT),
            until: row.time(scol::UNTIL),
            month_end: row.str(scol::MONTH_END).map_or(Ok(MonthEnd::Clamp), MonthEnd::parse)?,
            active_hours: options.get("active_hours").and_then(Json::as_str).map(ActiveHours::parse).transpose()?,
        })
    }
}

/// Serves what is due in every tenant of this database whose time has come.
pub fn tick(s: &Shared, database: u32) {
    let now = clock::now();
    for (index, e) in s.entries.iter().enumerate() {
        if e.in_use.load(Relaxed) == 1 && e.database.load(Relaxed) == database && e.schedule_due.load(SeqCst) <= now {
            // Taken off before the look: whoever sets an earlier one meanwhile is not lost.
            e.schedule_due.store(NEVER, SeqCst);
            loop {
                match transaction::run(|| serve(s, index as u32, e.tenant.load(Relaxed))) {
                    Ok(Step::More) => continue,
                    Ok(Step::Next(at)) => {
                        if at != NEVER {
                            ready::schedule_due(s, index as u32, at);
                        }
                    }
                    // A schedule was changed while it was served: look at it as it is now.
                    Err(failure) if failure.sqlstate == OVERTAKEN => continue,
                    Err(failure) => {
                        if !matches!(failure.sqlstate.as_str(), "55000" | "3F000" | "42704" | "42P01") {
                            caught::log_failure("schedules could not be served", &failure);
                        }
                        ready::schedule_due(s, index as u32, clock::now() + 5_000_000);
                    }
                }
                break;
            }
        }
    }
}

/// Somebody changed the schedule between our look and our write: nothing of this look counts.
const OVERTAKEN: &str = "40001";
fn overtaken() -> Failure {
    Failure::new(OVERTAKEN, "the schedule was changed meanwhile")
}

enum Step {
    More,
    Next(Micros),
}

fn serve(s: &Shared, _index: u32, schema: u32) -> std::result::Result<Step, Failure> {
    let tenant = match tenant::by_oid(schema) {
        Ok(t) => t,
        // Detached or dropped: whoever attaches it again wakes it.
        Err(_) => return Ok(Step::Next(NEVER)),
    };
    let now = clock::now();
    if !tenant.ready || tenant.suspended.is_some() || settings::exclude_schemas().contains(&tenant.name) {
        return Ok(Step::Next(NEVER));
    }
    if let Some(until) = tenant.paused_until(now) {
        return Ok(Step::Next(until));
    }
    let Some(table) = tenant.try_open(tenant.schedule, Access::Write)? else { return Ok(Step::Next(now + 1_000_000)) };
    let Some(tasks) = tenant.try_open(tenant.task, Access::Write)? else { return Ok(Step::Next(now + 1_000_000)) };
    let by_due = table.index_with(&[scol::NEXT_RUN as i16]);
    let mut due = Vec::new();
    let mut flux = false;
    table.scan(by_due, &[Key { column: 1, compare: Compare::Le, value: Value::Time(now) }], None, false, |row| {
        if row.in_flux {
            flux = true;
        } else {
            due.push(row);
        }
        due.len() < SCHEDULES
    });
    let mut queue = Queue::of(tenant.clone(), tasks, Caller { name: String::new(), superuser: false });
    for row in &due {
        let changes = match fire(s, &tenant, &mut queue, row, now) {
            Ok(changes) => changes,
            // A broken schedule says so and stops nothing else.
            Err(error) => Changes { next: None, problem: Some(error.message), served: None, last_task: None, repeats: None, over: false },
        };
        if changes.over {
            if table.delete(row.tid) == Gone::Lost {
                return Err(overtaken());
            }
            continue;
        }
        let problem = changes.problem.as_deref();
        let mut set = vec![(scol::NEXT_RUN, Value::time(changes.next)), (scol::PROBLEM, Value::text(problem))];
        if let Some((at, count)) = changes.served {
            set.push((scol::LAST_RUN, Value::Time(at)));
            set.push((scol::RUN_COUNT, Value::I64(row.i64(scol::RUN_COUNT).unwrap_or(0) + count)));
        }
        if let Some(id) = changes.last_task {
            set.push((scol::LAST_TASK, Value::Uuid(id)));
        }
        if let Some(n) = changes.repeats {
            set.push((scol::REPEATS, Value::I32(n)));
        }
        if table.update(row, &set) == Gone::Lost {
            return Err(overtaken());
        }
    }
    if due.len() == SCHEDULES {
        return Ok(Step::More);
    }
    transaction::refresh_snapshot();
    let mut next = if flux { now + 1_000_000 } else { NEVER };
    table.scan(by_due, &[Key { column: 1, compare: Compare::Gt, value: Value::Time(now) }], None, false, |row| {
        next = next.min(row.time(scol::NEXT_RUN).unwrap_or(NEVER));
        false
    });
    Ok(Step::Next(next))
}

struct Changes {
    next: Option<Micros>,
    problem: Option<String>,
    served: Option<(Micros, i64)>,
    last_task: Option<u128>,
    repeats: Option<i32>,
    /// A one-time schedule that has fired: its row goes.
    over: bool,
}

fn fire(s: &Shared, tenant: &Rc<Tenant>, queue: &mut Queue, row: &Row, now: Micros) -> Result<Changes> {
    let schedule = Schedule::of(tenant, row)?;
    let plan = schedule.plan();
    let catch_up = row.str(scol::CATCH_UP).map_or(Ok(CatchUp::Once), CatchUp::parse)?;
    let lateness = Lateness {
        catch_up,
        limit: row.i32(scol::CATCH_UP_LIMIT).unwrap_or(CATCH_UP_LIMIT).max(1) as usize,
        deadline: row.interval(scol::DEADLINE).map(|i| TimeDelta::microseconds(call::micros_of(&i))),
        // A tick comes within a second of its time unless the server was down or frozen.
        grace: TimeDelta::seconds(5),
    };
    let waiting_for = row.time(scol::NEXT_RUN).unwrap_or(now);
    let due = catch_up::due(&plan, instant(waiting_for), instant(now), &lateness);
    let mut repeats = row.i32(scol::REPEATS).unwrap_or(-1);
    let mut next = due.next.map(micros);
    let mut last_task = row.uuid(scol::LAST_TASK);
    let mut served = 0;
    let mut problem = None;
    let overlap = row.text(scol::OVERLAP).unwrap_or_else(|| if catch_up == CatchUp::All { "allow".into() } else { "queue".into() });
    queue.caller =
        Caller { name: row.text(scol::CREATED_BY).unwrap_or_default(), superuser: row.bool(scol::BY_SUPERUSER).unwrap_or(false) };
    let base = match row.json(scol::TASK) {
        Some(object) => crate::surface::task_object(&object)?,
        None => NewTask::default(),
    };
    let handler_name = row.text(scol::HANDLER).unwrap_or_default();
    for slot in due.serve {
        if repeats == 0 {
            break;
        }
        let at = micros(slot);
        if schedule.active_hours.as_ref().is_some_and(|h| !h.contain(schedule.zone, slot)) {
            continue;
        }
        if repeats > 0 {
            repeats -= 1;
        }
        if let Some(last) = last_task
            && overlap != "allow"
            && let Some(unfinished) = queue.table.find(&[col::ID as i16], Value::Uuid(last))
        {
            // 'queue': one runs, one waits, the rest coalesce with the one that waits.
            if overlap == "skip" || !is_running(s, last, unfinished.time(col::CREATED_AT).unwrap_or(0)) {
                continue;
            }
        }
        let id = task::fire_id(schedule.id, at);
        let jitter = row.interval(scol::JITTER).map_or(0, |i| call::micros_of(&i));
        let run_at = at + if jitter > 0 { micros_of(spread::jitter(schedule.id as u64, slot, TimeDelta::microseconds(jitter))) } else { 0 };
        // The handler may be gone for a while: the plan goes on.
        let args = match arguments(tenant, &schedule, row, &handler_name, slot) {
            Ok(args) => args,
            Err(error) => {
                problem = Some(error.message);
                continue;
            }
        };
        let new = NewTask {
            handler: handler_name.clone(),
            args,
            id: Some(id),
            name: base.name.clone().or_else(|| Some(schedule.name.clone())),
            run_at: Some(run_at),
            delay: None,
            schedule: Some(schedule.name.clone()),
            scheduled_for: Some(at),
            alone: overlap != "allow",
            ..base.clone()
        };
        match queue.add(&new) {
            Ok(_) => {
                last_task = Some(id);
                served += 1;
                transaction::see_own_writes();
            }
            Err(error) => problem = Some(error.message),
        }
    }
    if repeats == 0 {
        next = None;
    }
    let over = schedule.rule.fires_once() && next.is_none() && repeats < 0 && problem.is_none();
    Ok(Changes { next, problem, served: (served > 0).then_some((now, served)), last_task, repeats: Some(repeats), over })
}

fn micros_of(d: TimeDelta) -> i64 {
    d.num_microseconds().unwrap_or(i64::MAX / 4)
}

fn is_running(s: &Shared, id: u128, stamp: Micros) -> bool {
    s.slots.iter().any(|slot| {
        let word = Word::load(slot);
        slot.state.load(SeqCst) == 2
            && word.running
            && slot.item_id(word.next - 1) == id
            && slot.item_stamp[word.next - 1].load(Relaxed) == stamp
    })
}

/// The schedule's arguments, with the intended time where `time_arg` asks for it: as the
/// parameter's type has it, in the schedule's zone.
fn arguments(tenant: &Tenant, schedule: &Schedule, row: &Row, handler_name: &str, slot: DateTime<Utc>) -> Result<Option<Jsonb>> {
    let args = row.raw(scol::ARGS).map(Jsonb::from_datum);
    let Some(name) = row.text(scol::TIME_ARG) else { return Ok(args) };
    let mut object = match args.map(|a| a.value()) {
        None | Some(Json::Null) => json!({}),
        Some(Json::Object(o)) => Json::Object(o),
        Some(_) => return Err(Error::invalid("time_arg needs args to be an object")),
    };
    let handler = handler::require(tenant, handler_name)?;
    let kind = handler.signature.as_ref().and_then(|sig| sig.params.iter().find(|p| p.name.as_deref() == Some(&name))).map(|p| p.type_oid);
    object[&name] = time_text(slot, schedule.zone, kind).into();
    Ok(Some(Jsonb::from_value(object)))
}

fn time_text(slot: DateTime<Utc>, zone: chrono_tz::Tz, kind: Option<u32>) -> String {
    let local = slot.with_timezone(&zone);
    match kind {
        Some(1082) => local.format("%Y-%m-%d").to_string(),
        Some(1083) => local.format("%H:%M:%S%.6f").to_string(),
        Some(1114) => local.format("%Y-%m-%dT%H:%M:%S%.6f").to_string(),
        _ => local.format("%Y-%m-%dT%H:%M:%S%.6f%:z").to_string(),
    }
}

/// When the tenant's next schedule comes due; for sweeps.
pub fn first_due(table: &Table) -> Option<Micros> {
    let mut first = None;
    table.scan(table.index_with(&[scol::NEXT_RUN as i16]), &[], None, false, |row| {
        first = row.time(scol::NEXT_RUN);
        false
    });
    first
}
