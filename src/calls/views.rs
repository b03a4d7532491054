//! What can be seen: functions behind the server-wide views, read from shared memory and the
//! registry only, never from tenants' tables; tq_why and tq_health.
//!
//! A row is seen by members of its tenant's owner; all rows by pg_monitor and superusers.

use crate::postgres::call::{Args, Ret};
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::types::Rows;
use crate::postgres::{activity, catalog, clock, shmem, worker};
use crate::pure::atomics::GaugeU64;
use crate::pure::time::{At, Span};
use crate::pure::word::{SlotState, Word};
use crate::shared::database::db_state;
use crate::shared::entry::Entry;
use crate::shared::text::load_text;
use crate::shared::wakes::{self, Wakes};
use crate::shared::{self, Shared};
use crate::task::document::{TaskDocument, time_json};
use crate::tenant::columns::{Pauses, Results, Tasks, Tenants};
use crate::tenant::{self, rights};
use crate::waits::why;
use crate::{settings, sql_functions};
use serde_json::{Value as Json, json};
use std::collections::HashMap;

pub(crate) fn interval_json(span: Span) -> Json {
    format!("{} microseconds", span.micros()).into()
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

/// tenant_q.tenants(): rows of tq_tenants.
fn tenants(_args: &Args) -> Result<Ret> {
    Ok(Ret::Json(tenant_rows()?.into()))
}

pub(crate) fn tenant_rows() -> Result<Vec<Json>> {
    let now = clock::now();
    let shared = shared::get();
    let by_tenant = shared.as_ref().map(all_entries).unwrap_or_default();
    let registry = tenant::registry()?;
    let mut pauses: HashMap<String, At> = HashMap::new();
    if let Some(table) = Table::open(registry.pause, Access::Read) {
        for row in table.scan(&Pauses::BY_WHAT, &[]) {
            if row.get(Pauses::QUEUE) == Some("") && row.get(Pauses::HANDLER) == Some("") {
                pauses.insert(row.text(Pauses::TENANT).unwrap_or_default(), row.get(Pauses::UNTIL).unwrap_or(At::NEVER));
            }
        }
    }
    let mut rows = Vec::new();
    for rights::Visible { name, oid, owner, row } in rights::visible_tenants()? {
        let empty = Vec::new();
        let entries = by_tenant.get(&oid).unwrap_or(&empty);
        let running = shared.as_ref().map_or(0, |shared| {
            shared
                .slots
                .iter()
                .filter(|slot| {
                    slot.state.load() == SlotState::Working
                        && slot.tenant.load() == oid
                        && slot.database.load() == shmem::my_database()
                        && Word::load(slot).running
                })
                .count()
        });
        let paused = [name.as_str(), ""].iter().filter_map(|n| pauses.get(*n)).any(|until| *until > now);
        let blocked = entries.iter().find(|e| e.blocked_since.load() > At::UNSET);
        let (status, why) = if let Some(text) = row.text(Tenants::SUSPENDED) {
            ("suspended", Some(text))
        } else if paused {
            ("paused", None)
        } else if row.get(Tenants::READY) == Some(false) {
            ("not_ready", None)
        } else {
            ("on", blocked.and_then(|e| e.blocked_reason.load().text()).map(str::to_string))
        };
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
        let lag = oldest.filter(|_| ready).map(|t| (now - t).max(Span::ZERO));
        let due = entries.iter().map(|e| e.next_due.load().min(e.schedule_due.load())).min().filter(|t| *t != At::NEVER);
        let eta = (done_1m > 0 && unfinished > 0).then(|| Span::MINUTE * unfinished / done_1m as i64);
        rows.push(json!({
            "tenant": name,
            "owner": catalog::role_name(owner),
            "status": status,
            "reason": why,
            "queued": (unfinished - running as i64).max(0),
            "running": running,
            "done": sum(&|e| e.done.load()),
            "failed": sum(&|e| e.failed.load()),
            "retried": sum(&|e| e.retried.load()),
            "lag": lag.map(interval_json),
            "lag_us": lag,
            "next_due": time_json(due),
            "done_1m": done_1m,
            "failed_1m": failed_1m,
            "eta": eta.map(interval_json),
            "weight": row.get(Tenants::WEIGHT).unwrap_or(1),
            "max_running": row.get(Tenants::MAX_RUNNING),
            "max_queued": row.get(Tenants::MAX_QUEUED),
        }));
    }
    Ok(rows)
}

/// tenant_q.running(): rows of tq_running.
fn running(_args: &Args) -> Result<Ret> {
    let Some(s) = shared::get() else { return Ok(Ret::Json(json!([]))) };
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
        rows.push(json!({
            "progress": progress,
            "note": note,
            "wait_event": activity.wait_event,
            "blocked_by": activity.blocked_by,
            "xmin_age": activity.xmin_age,
            "tenant": catalog::schema_name(schema),
            "id": slot.item_id(word.next - 1),
            "handler": load_text(&slot.handler),
            "attempt": slot.attempt.load(),
            "pid": pid,
            "role": catalog::role_name(slot.role.load()),
            "since": time_json((since > At::UNSET).then_some(since)),
            "deadline": time_json((deadline > At::UNSET).then_some(deadline)),
            "listed": word.end - word.next,
        }));
    }
    Ok(Ret::Json(rows.into()))
}

/// What a process woke up for, and in vain: two objects, reason → how often.
fn wake_counts(of: &Wakes) -> (Json, Json) {
    let object = |counts: &[GaugeU64]| -> Json {
        let present = wakes::ALL.iter().map(|r| (r.name(), counts[*r as usize].load())).filter(|(_, n)| *n > 0);
        Json::Object(present.map(|(name, n)| (name.to_string(), n.into())).collect())
    };
    (object(&of.woken), object(&of.vain))
}

/// tenant_q.workers(): rows of tq_workers; of all databases.
fn workers(_args: &Args) -> Result<Ret> {
    let Some(shared) = shared::get() else { return Ok(Ret::Json(json!([]))) };
    let all = rights::sees_all();
    let mut rows = Vec::new();
    let launcher = shared.header.launcher_pid.load();
    if all && launcher > 0 {
        let (woken, vain) = wake_counts(shared.launcher_wakes());
        rows.push(json!({ "kind": "launcher", "pid": launcher, "state": "on", "wakes": woken, "vain": vain }));
    }
    for db in shared.dbs {
        let pid = db.scheduler_pid.load();
        if all && db.state.load() != db_state::FREE && pid > 0 {
            let (woken, vain) = wake_counts(shared.scheduler_wakes(db));
            rows.push(json!({ "kind": "scheduler", "pid": pid, "database": worker::database_name(db.database.load()),
                              "wakes": woken, "vain": vain,
                              "state": if db.sweep_wanted.load() == 1 { "sweeping" } else { "on" } }));
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
        rows.push(json!({
            "wakes": woken,
            "vain": vain,
            "kind": "executor",
            "pid": Some(slot.pid.load()).filter(|p| *p > 0),
            "database": worker::database_name(slot.database.load()),
            "role": catalog::role_name(role),
            "state": if state == SlotState::Starting { "starting" } else if word.running { "running" } else { "idle" },
            "since": time_json((since > At::UNSET).then_some(since)),
            "tasks_done": slot.tasks_done.load(),
            "tasks_failed": slot.tasks_failed.load(),
            "listed": word.end - word.next,
        }));
    }
    Ok(Ret::Json(rows.into()))
}

sql_functions! {
    tenant_q_tasks, pg_finfo_tenant_q_tasks => tasks;
    tenant_q_tenants, pg_finfo_tenant_q_tenants => tenants;
    tenant_q_running, pg_finfo_tenant_q_running => running;
    tenant_q_workers, pg_finfo_tenant_q_workers => workers;
}

/// Bytes of the rows that a view shows: they are unpacked several times on their way.
const VIEW_BYTES: usize = 64 << 20;

/// tenant_q.tasks(finished, tenant): rows of tq_tasks or tq_results, as documents, at most
/// tenant_q.view_rows of them.
fn tasks(args: &Args) -> Result<Ret> {
    let finished = args.bool(0).unwrap_or(false);
    let tenant = tenant::resolve(args.text(1).as_deref())?;
    rights::may_read(&tenant)?;
    let limit = settings::view_rows();
    let now = clock::now();
    let mut rows = Rows::default();
    let mut more = false;
    // Whether there is room for another one.
    let mut show = |describe: &dyn Fn() -> Json| {
        more = rows.len() >= limit;
        if !more {
            rows.push(describe());
            // The next one might be too much.
            more = rows.bytes() > VIEW_BYTES;
        }
        !more
    };
    if finished {
        let table = tenant.open_to_look(tenant.result)?;
        table.scan(&Results::BY_ID, &[]).backward().all(|row| show(&|| TaskDocument::finished(&tenant, &row).into_row()));
    } else {
        let table = tenant.open_to_look(tenant.task)?;
        let unfinished = table.scan(&Tasks::PICK, &[]).filter(|row| row.letter(Tasks::STATE).is_task());
        { unfinished }.all(|row| show(&|| why::describe(&tenant, &row, now).into_row()));
    }
    if more {
        let which = if finished { "newest" } else { "first" };
        let shown =
            if rows.len() < limit { format!("{} rows, of {} MB,", rows.len(), rows.bytes() >> 20) } else { format!("{limit} rows") };
        let table = format!("{}.{}", catalog::quote(&tenant.name), if finished { "tq_result" } else { "tq_task" });
        let hint = if rows.len() < limit {
            format!("Read {table} directly.")
        } else {
            format!("Raise tenant_q.view_rows, or read {table} directly.")
        };
        Error::new(SqlState::SUCCESSFUL_COMPLETION, format!("only the {which} {shown} are shown")).hint(hint).notice();
    }
    Ok(Ret::Rows(rows))
}
