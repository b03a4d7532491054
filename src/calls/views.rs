//! What can be seen: functions behind the server-wide views, read from shared memory and the
//! registry only, never from tenants' tables; tq_why and tq_health.
//!
//! A row is seen by members of its tenant's owner; all rows by pg_monitor and superusers.

mod all_schedules;
mod columns;
mod results;
mod schedules;
mod tasks;

use crate::calls::problems::reasons::{self, Because};
use crate::postgres::call::{Args, Ret};
use crate::postgres::error::Result;
use crate::postgres::foreign::{self, Served, ServedAs};
use crate::postgres::rows::{Cell, Row, row};
use crate::postgres::{activity, catalog, clock, shmem, worker};
use crate::pure::atomics::{GaugeU8, GaugeU64};
use crate::pure::period::Period;
use crate::pure::time::{At, Span};
use crate::pure::word::{ClaimState, SlotState, Word};
use crate::shared::claims::Claim;
use crate::shared::database::db_state;
use crate::shared::entry::Entry;
use crate::shared::takers::{Taker, waits};
use crate::shared::text::load_text;
use crate::shared::wakes::{self, Wakes};
use crate::shared::{self, Shared};
use crate::sql_functions;
use crate::tenant::columns::Tenants;
use crate::tenant::pauses::Pause;
use crate::tenant::rights;
use serde_json::Value as Json;
use std::collections::HashMap;

pub(crate) fn interval_json(span: Span) -> Json {
    format!("{} microseconds", span.micros()).into()
}

/// The same with months and days apart.
pub(crate) fn period_json(Period { months, days, micros }: Period) -> Json {
    format!("{months} months {days} days {micros} microseconds").into()
}

/// Entries of one tenant of this database.
pub fn entries(s: &Shared, schema: u32) -> Vec<&'static Entry> {
    s.entries.iter().filter(|e| e.in_use.load() == 1 && e.tenant.load() == schema && e.database.load() == shmem::my_database()).collect()
}

pub fn all_entries(s: &Shared) -> HashMap<u32, Vec<&'static Entry>> {
    let mut map: HashMap<u32, Vec<&'static Entry>> = HashMap::new();
    for e in s.entries.iter().filter(|e| e.in_use.load() == 1 && e.database.load() == shmem::my_database()) {
        map.entry(e.tenant.load()).or_default().push(e);
    }
    map
}

/// tenant_q.tenant_rows(): rows of tq_tenants.
fn tenant_rows(_args: &Args) -> Result<Ret> {
    let rows = figures()?.into_iter().map(|figures| {
        row! {
            "tenant": figures.tenant,
            "owner": figures.owner,
            "status": figures.status,
            "reason": figures.reason,
            "queued": figures.queued,
            "running": figures.running,
            "done": figures.done,
            "failed": figures.failed,
            "retried": figures.retried,
            "lag": figures.lag,
            "next_due": figures.next_due,
            "done_1m": figures.done_1m,
            "failed_1m": figures.failed_1m,
            "eta": figures.eta,
            "weight": figures.weight,
            "max_running": figures.max_running,
            "max_queued": figures.max_queued,
        }
    });
    Ok(Ret::Rows(rows.collect()))
}

/// What shared memory and the registry know of a tenant.
pub(crate) struct Figures {
    pub tenant: String,
    owner: Option<String>,
    pub status: &'static str,
    /// What keeps it, or parts of it.
    pub because: Vec<Because>,
    reason: Option<String>,
    pub queued: i64,
    pub running: usize,
    pub done: u64,
    pub failed: u64,
    pub retried: u64,
    pub lag: Option<Span>,
    next_due: Option<At>,
    done_1m: u64,
    failed_1m: u64,
    eta: Option<Span>,
    weight: i32,
    max_running: Option<i32>,
    max_queued: Option<i32>,
}

/// Those of the tenants that the caller may see.
pub(crate) fn figures() -> Result<Vec<Figures>> {
    let now = clock::now();
    let shared = shared::get();
    let by_tenant = shared.as_ref().map(all_entries).unwrap_or_default();
    let pauses = reasons::pauses()?;
    let of_all = reasons::of_all(&pauses)?;
    let mut of_one: HashMap<&str, Vec<&Pause>> = HashMap::new();
    for pause in pauses.iter().filter(|pause| !pause.is_of_all()) {
        of_one.entry(&pause.tenant).or_default().push(pause);
    }
    let mut rows = Vec::new();
    for tenant in rights::visible_tenants()? {
        let empty = Vec::new();
        let entries = by_tenant.get(&tenant.oid).unwrap_or(&empty);
        let running = shared.as_ref().map_or(0, |shared| reasons::tenants::running(shared, tenant.oid));
        let its = of_one.get(tenant.name.as_str()).map_or(&[][..], |its| its);
        let because = reasons::tenants::of_tenant(shared.as_ref(), &tenant, entries, its);
        let status = reasons::status(of_all.iter().chain(&because));
        let reason = reasons::in_words(of_all.iter().chain(&because));
        let rights::Visible { name, owner, row, .. } = tenant;
        let sum = |f: &dyn Fn(&Entry) -> u64| entries.iter().map(|e| f(e)).sum::<u64>();
        let minute = now.minute();
        let recent = |this: &dyn Fn(&Entry) -> u64, last: &dyn Fn(&Entry) -> u64| {
            entries
                .iter()
                .map(|e| match minute - e.minute.load() {
                    0 => this(e) + last(e),
                    1 => this(e),
                    _ => 0,
                })
                .sum::<u64>()
        };
        let done_1m = recent(&|e| e.done_this_minute.load(), &|e| e.done_last_minute.load());
        let failed_1m = recent(&|e| e.failed_this_minute.load(), &|e| e.failed_last_minute.load());
        let unfinished: i64 = crate::shared::gauge::unfinished(entries);
        let oldest = entries.iter().map(|e| e.oldest_due.load()).filter(|t| *t > At::UNSET).min();
        let ready = entries.iter().any(|e| e.generation.load() != e.seen.load());
        let queued = (unfinished - running as i64).max(0);
        let lag = oldest.filter(|_| ready && queued > 0).map(|t| (now - t).max(Span::ZERO));
        let due = entries.iter().map(|e| e.next_due.load().min(e.schedule_due.load())).min().filter(|t| *t != At::NEVER);
        let eta = (done_1m > 0 && unfinished > 0).then(|| Span::MINUTE * unfinished / done_1m as i64);
        rows.push(Figures {
            tenant: name,
            owner: catalog::role_name(owner),
            status,
            because,
            reason,
            queued,
            running,
            done: sum(&|e| e.done.load()),
            failed: sum(&|e| e.failed.load()),
            retried: sum(&|e| e.retried.load()),
            lag,
            next_due: due,
            done_1m,
            failed_1m,
            eta,
            weight: row.get(Tenants::WEIGHT).unwrap_or(1),
            max_running: row.get(Tenants::MAX_RUNNING),
            max_queued: row.get(Tenants::MAX_QUEUED),
        });
    }
    Ok(rows)
}

/// tenant_q.running_rows(): rows of tq_running.
fn running_rows(_args: &Args) -> Result<Ret> {
    let Some(s) = shared::get() else { return Ok(Ret::Rows(vec![])) };
    let all = rights::sees_all();
    let mut rows = Vec::new();
    for slot in s.slots {
        let word = Word::load(slot);
        if slot.state.load() != SlotState::Working || !word.running || slot.database.load() != shmem::my_database() {
            continue;
        }
        let schema = slot.tenant.load();
        let owner = catalog::schema_owner(schema).unwrap_or(0);
        if !(all || owner != 0 && rights::sees(owner)) {
            continue;
        }
        let (since, deadline) = (slot.started_at.load(), slot.deadline.load());
        let (progress, note) = crate::shared::progress::of(slot);
        let pid = slot.pid.load();
        let activity = activity::of(slot.proc.load().wrapping_sub(1), pid);
        rows.push(row! {
            "tenant": catalog::schema_name(schema),
            "id": slot.item_id(word.next - 1),
            "handler": load_text(&slot.handler),
            "attempt": slot.attempt.load(),
            "pid": pid,
            "role": catalog::role_name(slot.role.load()),
            "since": (since > At::UNSET).then_some(since),
            "deadline": (deadline > At::UNSET).then_some(deadline),
            "progress": progress,
            "note": note,
            "wait_event": activity.wait_event,
            "blocked_by": activity.blocked_by,
            "xmin_age": activity.xmin_age,
            "listed": word.end - word.next,
            "worker": Cell::Null,
            "state": "running",
        });
    }
    for claim in s.used_claims().iter().filter(|claim| claim.is_live() && claim.database.load() == shmem::my_database()) {
        let owner = catalog::schema_owner(claim.tenant.load()).unwrap_or(0);
        if all || owner != 0 && rights::sees(owner) {
            rows.push(claimed(&s, claim));
        }
    }
    Ok(Ret::Rows(rows))
}

/// What a worker outside of the server has taken: its process is the session that it was taken through, or the one that ends it.
fn claimed(s: &Shared, claim: &Claim) -> Row {
    let deadline = claim.deadline.load();
    let (progress, note) = crate::shared::progress::of(claim);
    let finisher = (claim.load().state == ClaimState::Finishing).then(|| claim.finisher.load());
    let taker = &s.takers[claim.taker.load() as usize];
    let pid = finisher.unwrap_or(claim.pid.load());
    let activity = if finisher.is_none() { activity::of(taker.proc.load().wrapping_sub(1), pid) } else { Default::default() };
    row! {
        "tenant": catalog::schema_name(claim.tenant.load()),
        "id": claim.item_id.load(),
        "handler": load_text(&claim.handler),
        "attempt": claim.item_attempts.load() + 1,
        "pid": pid,
        "role": catalog::role_name(claim.role.load()),
        "since": claim.taken_at.load(),
        "deadline": (deadline > At::UNSET).then_some(deadline),
        "progress": progress,
        "note": note,
        "wait_event": activity.wait_event,
        "blocked_by": activity.blocked_by,
        "xmin_age": activity.xmin_age,
        "listed": 0,
        "worker": Some(load_text(&taker.name)).filter(|name| !name.is_empty()),
        "state": if finisher.is_some() { "finishing" } else { "running" },
    }
}

/// What a process woke up for, and in vain: two objects, reason → how often.
fn wake_counts(of: &Wakes) -> (Json, Json) {
    let object = |counts: &[GaugeU64]| -> Json {
        let present = wakes::ALL.iter().map(|r| (r.name(), counts[*r as usize].load())).filter(|(_, n)| *n > 0);
        Json::Object(present.map(|(name, n)| (name.to_string(), n.into())).collect())
    };
    (object(&of.woken), object(&of.vain))
}

/// tenant_q.worker_rows(): rows of tq_workers; of all databases.
fn worker_rows(_args: &Args) -> Result<Ret> {
    let Some(shared) = shared::get() else { return Ok(Ret::Rows(vec![])) };
    let all = rights::sees_all();
    let mut rows = Vec::new();
    let launcher = shared.header.launcher_pid.load();
    if all && launcher > 0 {
        rows.push(process("launcher", launcher, None, "on", shared.launcher_wakes()));
    }
    for db in shared.dbs {
        let pid = db.scheduler_pid.load();
        if all && db.state.load() != db_state::FREE && pid > 0 {
            let state = if db.sweep_wanted.load() == 1 { "sweeping" } else { "on" };
            rows.push(process("scheduler", pid, worker::database_name(db.database.load()), state, shared.scheduler_wakes(db)));
        }
    }
    for (place, slot) in shared.slots.iter().enumerate() {
        let state = slot.state.load();
        let role = slot.role.load();
        if state == SlotState::Free || !(all || rights::sees(role)) {
            continue;
        }
        let word = Word::load(slot);
        let since = slot.since.load();
        let (woken, vain) = if state == SlotState::Working { wake_counts(shared.executor_wakes(place)) } else { (Json::Null, Json::Null) };
        rows.push(row! {
            "kind": "executor",
            "pid": Some(slot.pid.load()).filter(|p| *p > 0),
            "database": worker::database_name(slot.database.load()),
            "role": catalog::role_name(role),
            "state": if state == SlotState::Starting { "starting" } else if word.running { "running" } else { "idle" },
            "since": (since > At::UNSET).then_some(since),
            "tasks_done": slot.tasks_done.load(),
            "tasks_failed": slot.tasks_failed.load(),
            "listed": word.end - word.next,
            "wakes": woken,
            "vain": vain,
            "name": Cell::Null,
            "host": Cell::Null,
            "handlers": Cell::Null,
            "claims": Cell::Null,
        });
    }
    rows.extend(shared.used_takers().iter().filter(|taker| taker.pid.load() != 0).filter_map(|taker| outside(taker, all)));
    Ok(Ret::Rows(rows))
}

/// One of those that run no tasks.
fn process(kind: &str, pid: u32, database: Option<String>, state: &str, wakes: &Wakes) -> Row {
    let (woken, vain) = wake_counts(wakes);
    row! {
        "kind": kind,
        "pid": pid,
        "database": database,
        "role": Cell::Null,
        "state": state,
        "since": Cell::Null,
        "tasks_done": Cell::Null,
        "tasks_failed": Cell::Null,
        "listed": Cell::Null,
        "wakes": woken,
        "vain": vain,
        "name": Cell::Null,
        "host": Cell::Null,
        "handlers": Cell::Null,
        "claims": Cell::Null,
    }
}

/// A session through which a worker outside of the server takes tasks.
fn outside(taker: &Taker, all: bool) -> Option<Row> {
    let (role, claims, since) = (taker.role.load(), taker.claims.load(), taker.since.load());
    let said = |text: &[GaugeU8]| Some(load_text(text)).filter(|text| !text.is_empty());
    (all || rights::sees(role)).then(|| {
        row! {
            "kind": "external",
            "pid": taker.pid.load(),
            "database": worker::database_name(taker.database.load()),
            "role": catalog::role_name(role),
            "state": if claims > 0 { "running" } else if matches!(taker.waits.load(), waits::WAITS | waits::FULL) { "waiting" } else { "idle" },
            "since": since,
            "tasks_done": Cell::Null,
            "tasks_failed": Cell::Null,
            "listed": Cell::Null,
            "wakes": Cell::Null,
            "vain": Cell::Null,
            "name": said(&taker.name),
            "host": said(&taker.host),
            "handlers": said(&taker.offers),
            "claims": claims,
        }
    })
}

/// tenant_q.all_schedule_rows(): rows of tq_all_schedules.
fn all_schedule_rows(_args: &Args) -> Result<Ret> {
    Ok(Ret::Each(Box::new(all_schedules::rows()?)))
}

sql_functions! {
    tenant_q_all_schedule_rows, pg_finfo_tenant_q_all_schedule_rows => all_schedule_rows;
    tenant_q_foreign_tables, pg_finfo_tenant_q_foreign_tables => foreign_tables;
    tenant_q_tenant_rows, pg_finfo_tenant_q_tenant_rows => tenant_rows;
    tenant_q_running_rows, pg_finfo_tenant_q_running_rows => running_rows;
    tenant_q_worker_rows, pg_finfo_tenant_q_worker_rows => worker_rows;
}

/// The tables behind tq_tasks, tq_results and tq_schedules.
pub(crate) const FOREIGN_TABLES: &[&dyn Served] = &[
    &ServedAs::<tasks::UnfinishedTasks>::new(),
    &ServedAs::<results::FinishedTasks>::new(),
    &ServedAs::<schedules::ShownSchedules>::new(),
];

/// tenant_q.foreign_tables(): how PostgreSQL calls us for them.
fn foreign_tables(_args: &Args) -> Result<Ret> {
    Ok(Ret::Routine(foreign::routine()))
}
