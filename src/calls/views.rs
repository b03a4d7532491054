//! What can be seen: functions behind the server-wide views, read from shared memory and the
//! registry only, never from tenants' tables; tq_why and tq_health.
//!
//! A row is seen by members of its tenant's owner; all rows by pg_monitor and superusers.

use crate::calls::changes::id_argument;
use crate::postgres::call::{Args, Ret};
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Row, Table, Value};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{activity, catalog, clock, sandbox, shmem, worker};
use crate::pure::atomics::GaugeU64;
use crate::pure::ids;
use crate::pure::shares::Owner;
use crate::pure::state::{self, State};
use crate::pure::time::{Micros, NEVER};
use crate::shared::blocked::reason;
use crate::shared::{self, Entry, Shared, Wakes, Word, db_state, holds, load_text, share, slot, wakes};
use crate::task::document::time_json;
use crate::task::lookup::{self, Found};
use crate::tenant::columns::{self, col};
use crate::tenant::{self, Tenant, rights};
use crate::{handler, settings, sql_functions};
use serde_json::{Value as Json, json};
use std::collections::HashMap;
use std::rc::Rc;

pub(crate) fn interval_json(micros: i64) -> Json {
    format!("{micros} microseconds").into()
}

/// Entries of one tenant of this database.
fn entries(s: &Shared, schema: u32) -> Vec<&'static Entry> {
    s.entries.iter().filter(|e| e.in_use.load() == 1 && e.tenant.load() == schema && e.database.load() == shmem::my_database()).collect()
}

fn all_entries(s: &Shared) -> HashMap<u32, Vec<&'static Entry>> {
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
    let s = shared::get();
    let by_tenant = s.as_ref().map(all_entries).unwrap_or_default();
    let registry = tenant::registry()?;
    let mut pauses: HashMap<String, Micros> = HashMap::new();
    if let Some(table) = Table::open(registry.pause, Access::Read) {
        table.scan(table.index_with(&[1, 2, 3]), &[], None, false, |row| {
            if row.str(2) == Some("") && row.str(3) == Some("") {
                pauses.insert(row.text(1).unwrap_or_default(), row.time(4).unwrap_or(NEVER));
            }
            true
        });
    }
    let mut rows = Vec::new();
    for (name, oid, owner, row) in rights::visible_tenants()? {
        let empty = Vec::new();
        let es = by_tenant.get(&oid).unwrap_or(&empty);
        let running = s.as_ref().map_or(0, |s| {
            s.slots
                .iter()
                .filter(|slot| {
                    slot.state.load() == 2
                        && slot.tenant.load() == oid
                        && slot.database.load() == shmem::my_database()
                        && Word::load(slot).running
                })
                .count()
        });
        let paused = [name.as_str(), ""].iter().filter_map(|n| pauses.get(*n)).any(|until| *until > now);
        let blocked = es.iter().find(|e| e.blocked_since.load() > 0);
        let (status, why) = if let Some(text) = row.text(16) {
            ("suspended", Some(text))
        } else if paused {
            ("paused", None)
        } else if row.bool(3) == Some(false) {
            ("not_ready", None)
        } else {
            ("on", blocked.and_then(|e| reason::text(e.blocked_reason.load())).map(str::to_string))
        };
        let sum = |f: &dyn Fn(&Entry) -> u64| es.iter().map(|e| f(e)).sum::<u64>();
        let minute = now / 60_000_000;
        let recent = |this: &dyn Fn(&Entry) -> u64, last: &dyn Fn(&Entry) -> u64| {
            es.iter()
                .map(|e| match minute - e.minute.load() {
                    0 => this(e) + last(e),
                    1 => this(e),
                    _ => 0,
                })
                .sum::<u64>()
        };
        let done_1m = recent(&|e| e.done_this_minute.load(), &|e| e.done_last_minute.load());
        let failed_1m = recent(&|e| e.failed_this_minute.load(), &|e| e.failed_last_minute.load());
        let unfinished: i64 = crate::shared::gauge::unfinished(es);
        let oldest = es.iter().map(|e| e.oldest_due.load()).filter(|t| *t > 0).min();
        let ready = es.iter().any(|e| e.generation.load() != e.seen.load());
        let lag = oldest.filter(|_| ready).map(|t| (now - t).max(0));
        let due = es.iter().map(|e| e.next_due.load().min(e.schedule_due.load())).min().filter(|t| *t != NEVER);
        let eta = (done_1m > 0 && unfinished > 0).then(|| unfinished * 60_000_000 / done_1m as i64);
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
            "weight": row.i32(11).unwrap_or(1),
            "max_running": row.i32(12),
            "max_queued": row.i32(13),
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
        if slot.state.load() != 2 || !word.running || slot.database.load() != shmem::my_database() {
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
            "id": ids::uuid_text(slot.item_id(word.next - 1)),
            "handler": load_text(&slot.handler),
            "attempt": slot.attempt.load(),
            "pid": pid,
            "role": catalog::role_name(slot.role.load()),
            "since": time_json((since > 0).then_some(since)),
            "deadline": time_json((deadline > 0).then_some(deadline)),
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

/// The reasons for which a process wakes in vain again and again, through a fault of ours.
fn vain_reasons(of: &Wakes) -> Vec<&'static str> {
    let fault = |r: &&wakes::Reason| r.is_fault() && of.in_a_row[**r as usize].load() >= wakes::FAULT;
    wakes::ALL.iter().filter(fault).map(|r| r.name()).collect()
}

/// tenant_q.workers(): rows of tq_workers; of all databases.
fn workers(_args: &Args) -> Result<Ret> {
    let Some(s) = shared::get() else { return Ok(Ret::Json(json!([]))) };
    let all = rights::sees_all();
    let mut rows = Vec::new();
    let launcher = s.header.launcher_pid.load();
    if all && launcher > 0 {
        let (woken, vain) = wake_counts(s.launcher_wakes());
        rows.push(json!({ "kind": "launcher", "pid": launcher, "state": "on", "wakes": woken, "vain": vain }));
    }
    for db in s.dbs {
        let pid = db.scheduler_pid.load();
        if all && db.state.load() != db_state::FREE && pid > 0 {
            let (woken, vain) = wake_counts(s.scheduler_wakes(db));
            rows.push(json!({ "kind": "scheduler", "pid": pid, "database": worker::database_name(db.database.load()),
                              "wakes": woken, "vain": vain,
                              "state": if db.sweep_wanted.load() == 1 { "sweeping" } else { "on" } }));
        }
    }
    for (place, slot) in s.slots.iter().enumerate() {
        let state = slot.state.load();
        let role = slot.role.load();
        if state == 0 || !(all || rights::sees(role)) {
            continue;
        }
        let word = Word::load(slot);
        let since = slot.since.load();
        let (woken, vain) = if state == 2 { wake_counts(s.executor_wakes(place)) } else { (Json::Null, Json::Null) };
        rows.push(json!({
            "wakes": woken,
            "vain": vain,
            "kind": "executor",
            "pid": Some(slot.pid.load()).filter(|p| *p > 0),
            "database": worker::database_name(slot.database.load()),
            "role": catalog::role_name(role),
            "state": if state == 1 { "starting" } else if word.running { "running" } else { "idle" },
            "since": time_json((since > 0).then_some(since)),
            "tasks_done": slot.tasks_done.load(),
            "tasks_failed": slot.tasks_failed.load(),
            "listed": word.end - word.next,
        }));
    }
    Ok(Ret::Json(rows.into()))
}

/// Whether starts fail for want of a background worker slot: they are tried once a second, so the last one was lately.
fn no_slot(s: &Shared) -> bool {
    let last = s.header.last_no_slot.load();
    last != 0 && (clock::now() - last).abs() < 10_000_000
}

/// Executors in a row that have ended while they ran this task, by what the entries of its tenant know.
pub(crate) fn ends_of(tenant: &Tenant, id: u128) -> u32 {
    let Some(s) = shared::get() else { return 0 };
    entries(&s, tenant.oid).iter().flat_map(|e| holds::held(e)).filter(|h| h.id == id).map(|h| h.ends).max().unwrap_or(0)
}

/// What is said of that.
pub(crate) fn ends_text(ends: u32) -> String {
    let what = if ends == 1 { "1 executor ended while it".into() } else { format!("{ends} executors in a row ended while they") };
    format!("{what} ran this task: not counted, it runs again; {} in a row count as a failed attempt", crate::shared::culprits::ENDS)
}

/// Interruptions in a row of one attempt that are worth a line in tq_problems: one or two are an administrator's doing.
const INTERRUPTIONS_SHOWN: i64 = 3;

/// Tasks whose attempts come to no end, by what entries know of them and their rows say.
fn interrupted_rows(t: &Rc<Tenant>, what: &str, es: &[&Entry], rows: &mut Vec<Json>) {
    let now = clock::now();
    let held: Vec<_> = es.iter().flat_map(|e| holds::held(e)).collect();
    let Some(table) = (!held.is_empty()).then(|| t.try_open(t.task, Access::Read).ok().flatten()).flatten() else { return };
    for h in held {
        let Some(row) = table.find(&[col::ID as i16], Value::Uuid(h.id)) else { continue };
        let times = crate::work::complete::interruptions_of(&row);
        let reason = if times >= INTERRUPTIONS_SHOWN {
            format!("its attempts were interrupted {times} times in a row, by cancels from outside")
        } else if i64::from(h.ends) >= INTERRUPTIONS_SHOWN {
            ends_text(h.ends)
        } else if h.until > now && h.ends == 0 && times == 0 {
            format!(
                "the end of its last attempt could not be recorded; it runs again at {}",
                time_json(Some(h.until)).as_str().unwrap_or("")
            )
        } else {
            continue;
        };
        let id = ids::uuid_text(h.id);
        rows.push(problem(
            format!("task {id} ({}) of {what}", row.str(col::HANDLER).unwrap_or("")),
            None,
            reason,
            format!("the server's log says more; SELECT tq_cancel('{id}', tenant => {}) ends it", pgrx::spi::quote_literal(&t.name)),
        ));
    }
}

/// Tables of shared memory that were full lately, and who has last lost something by it.
fn full(s: &Shared) -> impl Iterator<Item = (share::Kind, Owner)> {
    let now = clock::now();
    share::KINDS.into_iter().filter_map(move |kind| Some((kind, s.header.pressure[kind as usize].told(kind, now)?)))
}

/// The same as it concerns one tenant: it has lost something, or holds so much that others might.
fn crowded(s: &Shared, owner: Owner, what: &str) -> Vec<Json> {
    let concerned = full(s).filter_map(|(kind, last)| {
        let (held, places) = match kind {
            share::Kind::Rates => (s.rate_tally.held(owner) as usize, s.rates.len()),
            share::Kind::Stats => (s.stat_tally.held(owner) as usize, s.stats.len()),
            _ => (0, usize::MAX),
        };
        let share = if held > 0 { format!(", of whose {places} places it has {held}") } else { String::new() };
        (last == owner || held > places / 4).then(|| {
            problem(
                what.into(),
                Some(s.header.pressure[kind as usize].at.load()),
                format!("the server's table of {} is full{share}: {}", kind.name(), kind.consequence()),
                kind.remedy(),
            )
        })
    });
    concerned.collect()
}

/// A sentence as the end of another one.
fn lower_case(sentence: &str) -> String {
    let mut chars = sentence.chars();
    chars.next().map_or(String::new(), |first| first.to_lowercase().chain(chars).collect())
}

fn problem(what: String, since: Option<Micros>, why: String, fix: String) -> Json {
    json!({ "what": what, "since": time_json(since), "reason": why, "fix": fix })
}

/// tenant_q.problems(): rows of tq_problems: what is skipped, why, and the call that mends it.
fn problems(_args: &Args) -> Result<Ret> {
    let s = shared::get();
    let mut rows = Vec::new();
    let quote = |text: &str| pgrx::spi::quote_literal(text);
    if s.is_none() {
        rows.push(problem(
            "the server".into(),
            None,
            "tenant_q is not in shared_preload_libraries: nothing runs".into(),
            "shared_preload_libraries = 'tenant_q' in postgresql.conf, then restart".into(),
        ));
    }
    if !crate::tenant::identity::confirmed()? {
        rows.push(problem(
            "this database".into(),
            None,
            "it is a copy that nobody has confirmed: nothing runs".into(),
            "SELECT tq_confirm_copy()".into(),
        ));
    }
    let by_tenant = s.as_ref().map(all_entries).unwrap_or_default();
    for (name, oid, owner, row) in rights::visible_tenants()? {
        let what = format!("tenant {name}");
        if catalog::schema_name(oid).as_deref() != Some(&name) {
            rows.push(if catalog::schema_oid(&name).is_some() {
                problem(what, None, "the registry's row is a copy's: restored, and not confirmed".into(), "SELECT tq_confirm_copy()".into())
            } else {
                problem(what, None, "its schema does not exist".into(), format!("SELECT tq_detach({})", quote(&name)))
            });
            continue;
        }
        if let Some(reason) = row.text(16) {
            rows.push(problem(what.clone(), row.time(17), reason, format!("SELECT tq_resume({})", quote(&name))));
        }
        let owner_name = catalog::role_name(owner).unwrap_or_default();
        if !worker::NOLOGIN_WORKS && !catalog::may_login(owner) {
            rows.push(problem(
                what.clone(),
                None,
                format!("its owner \"{owner_name}\" may not log in, so no executor can be its session"),
                crate::calls::tenants::let_log_in(&name, &owner_name),
            ));
        } else if !catalog::may_connect(shmem::my_database(), owner) {
            rows.push(problem(
                what.clone(),
                None,
                format!("its owner \"{owner_name}\" may not connect to this database"),
                format!(
                    "GRANT CONNECT ON DATABASE {} TO {}",
                    catalog::quote(&worker::database_name(shmem::my_database()).unwrap_or_default()),
                    catalog::quote(&owner_name)
                ),
            ));
        }
        let t = tenant::by_oid(oid);
        match &t {
            Ok(t) => {
                match t.try_open(t.task, Access::Read) {
                    Ok(Some(_)) => {}
                    Ok(None) => {
                        let (who, fix) = t.who_locks();
                        rows.push(problem(what.clone(), None, format!("its tables are locked: {}", lower_case(&who)), fix));
                    }
                    Err(e) => rows.push(problem(
                        what.clone(),
                        None,
                        format!("{}: {}", e.message, e.detail.unwrap_or_default()),
                        e.hint.unwrap_or_default(),
                    )),
                }
                let counted = || by_tenant.get(&oid).map_or(0, |es| es.iter().map(|e| e.unfinished.load().max(0)).sum());
                let over = t.max_queued.map(|max| (max, unfinished_rows(t, max).unwrap_or_else(counted)));
                if let Some((max, _)) = over.filter(|(max, unfinished)| unfinished > max) {
                    rows.push(problem(
                        what.clone(),
                        None,
                        format!(
                            "it has more than {max} unfinished tasks, its max_queued: nothing more can be enqueued until enough are done. \
                             Rows were inserted past tq_async, or hooks and listeners made them"
                        ),
                        format!("SELECT tq_set_quota({}, max_queued => …), or wait", quote(&name)),
                    ));
                }
                if let Some(Err(e)) = t.settings.as_ref().map(crate::calls::tenants::check_settings) {
                    let fix = format!("SELECT tq_set_tenant({}, reset => '{{settings}}')", quote(&name));
                    rows.push(problem(what.clone(), None, format!("its tasks wait: {}", e.message), fix));
                }
                for relation in [t.task, t.result, t.schedule] {
                    let Ok(Some(table)) = t.try_open(relation, Access::Read) else { continue };
                    for (constraint, of) in catalog::referring(&table) {
                        rows.push(problem(
                            format!("foreign key {constraint} of {of}"),
                            None,
                            format!(
                                "it refers to {}, whose rows tenant_q deletes without regard to it: it may not hold",
                                catalog::qualified_name(relation)
                            ),
                            format!("ALTER TABLE {of} DROP CONSTRAINT {}", catalog::quote(&constraint)),
                        ));
                    }
                }
                for h in handler::all(t)? {
                    if let Some(fault) = &h.fault {
                        rows.push(problem(
                            format!("handler {} of {what}", h.name),
                            h.missing_since,
                            fault.text().into(),
                            fault.fix(t, &h.name),
                        ));
                    } else if let Some(why) = h.why_quarantined() {
                        rows.push(problem(format!("handler {} of {what}", h.name), None, why.into(), h.how_to_free(t)));
                    }
                }
                own_rows(t, &what, &mut rows);
                if may_select(t.task) {
                    interrupted_rows(t, &what, by_tenant.get(&oid).map_or(&[][..], |v| v), &mut rows);
                }
            }
            Err(e) => rows.push(problem(what.clone(), None, e.message.clone(), e.hint.clone().unwrap_or_default())),
        }
        rows.extend(s.iter().flat_map(|s| crowded(s, Owner::here(oid), &what)));
        for e in by_tenant.get(&oid).map_or(&[][..], |v| v) {
            let since = e.blocked_since.load();
            if since > 0
                && let Some(text) = reason::text(e.blocked_reason.load())
            {
                rows.push(problem(what.clone(), Some(since), text.into(), "it goes on by itself when the reason is gone".into()));
            }
        }
    }
    for (what, reason, fix) in crate::calls::schedule_all::problems()? {
        rows.push(problem(what, None, reason, fix));
    }
    if rights::sees_all() {
        for (what, reason, fix) in crate::calls::tables::problems()? {
            rows.push(problem(what, None, reason, fix));
        }
    }
    if let Some(s) = &s {
        rows.extend(held_places(s));
    }
    if rights::sees_all()
        && let Some(s) = &s
    {
        for (kind, whose) in full(s) {
            let pressure = &s.header.pressure[kind as usize];
            let whose = Some(whose).filter(|o| o.is_here()).and_then(|o| catalog::schema_name(o.tenant()));
            rows.push(problem(
                "the server".into(),
                Some(pressure.at.load()),
                format!(
                    "the table of {} is full: {}; {} places were missing so far, last for tenant {}",
                    kind.name(),
                    kind.consequence(),
                    pressure.lost.load(),
                    whose.as_deref().unwrap_or("of another database")
                ),
                kind.remedy(),
            ));
        }
        for r in s.roles.iter().take_while(|r| r.in_use.load() == 1) {
            let failures = r.start_failures.load();
            if failures > 0 && r.database.load() == shmem::my_database() {
                let name = catalog::role_name(r.role.load()).unwrap_or_else(|| r.role.load().to_string());
                rows.push(problem(
                    format!("role {name}"),
                    Some(r.failing_since.load()),
                    format!("its executors could not start, {failures} times; the server's log says why"),
                    "the role needs LOGIN (before PostgreSQL 17), CONNECT on this database, and no setting that keeps its sessions from starting (pg_db_role_setting)".into(),
                ));
            }
        }
    }
    Ok(Ret::Json(rows.into()))
}

fn may_select(relation: u32) -> bool {
    let user = sandbox::current_user();
    sandbox::is_superuser(user) || catalog::may_select(relation, user)
}

/// Somebody waits for so long that it isn't only for his turn.
const WAITS_LONG: Micros = 3_000_000;

/// Who holds the places that a role has been waiting for.
fn held_places(s: &Shared) -> Vec<Json> {
    let now = clock::now();
    let waiting: Vec<Micros> = (s.roles.iter().take_while(|r| r.in_use.load() == 1))
        .map(|r| r.waiting_since.load())
        .filter(|since| *since > 0 && now - since > WAITS_LONG)
        .collect();
    let Some(first) = waiting.iter().min() else { return vec![] };
    let (max, seconds) = (settings::max_executors(shmem::max_worker_processes()), (now - first) / 1_000_000);
    let why = match waiting.len() {
        1 => format!("of {max} places, while a role has waited for one for {seconds} s"),
        n => format!("of {max} places, while {n} roles wait for one, the first for {seconds} s"),
    };
    let all = rights::sees_all();
    let mut rows = Vec::new();
    for slot in s.slots {
        let (word, since) = (Word::load(slot), slot.started_at.load());
        if slot.state.load() != 2 || !word.running || since == 0 || now - since < WAITS_LONG {
            continue;
        }
        if slot.database.load() != shmem::my_database() {
            if let Some(name) = worker::database_name(slot.database.load()).filter(|_| all) {
                rows.push(problem(
                    format!("database {name}"),
                    Some(since),
                    format!("a task of it holds one {why}"),
                    "SELECT * FROM tq_problems in that database".into(),
                ));
            }
            continue;
        }
        let schema = slot.tenant.load();
        let Some(name) = catalog::schema_name(schema) else { continue };
        if !(all || catalog::schema_owner(schema).is_some_and(rights::sees)) {
            continue;
        }
        rows.push(problem(
            format!("tenant {name}"),
            Some(since),
            format!("a task of its handler {} holds one {why}", load_text(&slot.handler)),
            format!("SELECT tq_cancel('{}', tenant => {})", ids::uuid_text(slot.item_id(word.next - 1)), pgrx::spi::quote_literal(&name)),
        ));
    }
    rows
}

/// How many unfinished tasks the table has, by looking: one more than `max` at most. None: that would be too long a look.
fn unfinished_rows(t: &Rc<Tenant>, max: i64) -> Option<i64> {
    const LOOK: i64 = 10_000;
    if max > LOOK {
        return None;
    }
    let table = t.try_open(t.task, Access::Read).ok()??.fetch_at_most(0);
    let (mut count, mut seen) = (0, 0);
    table.scan(table.index_with(&columns::PICK_INDEX), &[], None, false, |row| {
        count += i64::from(state::is_task(row.char(col::STATE)));
        seen += 1;
        count <= max && seen <= 2 * LOOK
    });
    Some(count)
}

/// Quarantined tasks and broken schedules: the caller's own to see, if they may read the tables.
fn own_rows(t: &Rc<Tenant>, what: &str, rows: &mut Vec<Json>) {
    use crate::postgres::relation::{Compare, Key};
    if may_select(t.task)
        && let Ok(Some(table)) = t.try_open(t.task, Access::Read)
    {
        table.scan(
            table.index_with(&columns::PICK_INDEX),
            &[Key { column: 1, compare: Compare::Eq, value: Value::Char(state::stored::QUARANTINED) }],
            None,
            false,
            |row| {
                let id = ids::uuid_text(row.uuid(col::ID).unwrap_or(0));
                rows.push(problem(
                    format!("task {id} ({}) of {what}", row.str(col::HANDLER).unwrap_or("")),
                    None,
                    format!("quarantined: the server crashed {} times while it ran", row.i32(col::CRASHES).unwrap_or(0)),
                    format!(
                        "SELECT tq_requeue('{id}', tenant => {0}) once its handler is mended, or tq_delete('{id}', {0})",
                        pgrx::spi::quote_literal(&t.name)
                    ),
                ));
                rows.len() < 1000
            },
        );
    }
    if may_select(t.schedule)
        && let Ok(Some(table)) = t.try_open(t.schedule, Access::Read)
    {
        table.scan(table.index_with(&[columns::scol::NAME as i16]), &[], None, false, |row| {
            if let Some((text, fix)) = crate::calls::schedules::trouble(t, &row) {
                let name = row.text(columns::scol::NAME).unwrap_or_default();
                rows.push(problem(format!("schedule {name} of {what}"), None, text, fix));
            }
            rows.len() < 1000
        });
    }
}

/// tenant_q.why(id, tenant): every reason, the decisive one first.
fn why(args: &Args) -> Result<Ret> {
    let id = id_argument(args)?;
    let tenant = tenant::resolve(args.text(1).as_deref())?;
    let user = sandbox::current_user();
    if !(sandbox::is_superuser(user) || catalog::may_select(tenant.task, user) && catalog::may_select(tenant.result, user)) {
        return Err(Error::denied(format!("permission denied to read tasks of tenant \"{}\"", tenant.name)));
    }
    let mut rows = Vec::new();
    let opened = tenant.try_open(tenant.task, Access::Read).and_then(|t| Ok((t, tenant.try_open(tenant.result, Access::Read)?)));
    let (tasks, results) = match opened {
        // What holds the whole tenant is an answer.
        Err(e) if matches!(e.sqlstate, SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE | SqlState::FEATURE_NOT_SUPPORTED) => {
            let detail = e.detail.map_or(String::new(), |d| format!(": {d}"));
            rows.push(json!({ "reason": "tables", "detail": format!("{}{detail}", e.message), "hint": e.hint }));
            return Ok(Ret::Json(rows.into()));
        }
        Err(e) => return Err(e),
        Ok(opened) => opened,
    };
    let (tasks, results) = match (tasks, results) {
        (Some(tasks), Some(results)) => (tasks, results),
        _ => {
            let (who, hint) = tenant.who_locks();
            rows.push(
                json!({ "reason": "locked", "detail": format!("the tenant's tables are locked: {}", lower_case(&who)), "hint": hint }),
            );
            return Ok(Ret::Json(rows.into()));
        }
    };
    let mut say = |reason: &str, detail: String, hint: &str| rows.push(json!({ "reason": reason, "detail": detail, "hint": hint }));
    let row = match lookup::look_up(&tasks, &results, id) {
        Found::Nothing => {
            say(
                "unknown",
                "no task of this id is waiting or kept in this tenant".into(),
                "It was never enqueued here (or rolled back), was not saved, or retention removed it.",
            );
            return Ok(Ret::Json(rows.into()));
        }
        Found::Finished(row) => {
            let state = state::finished(row.char(columns::rcol::STATE));
            if state == State::Quarantined {
                say(
                    "quarantined",
                    format!("the server crashed {} times while it ran", row.i32(columns::rcol::CRASHES).unwrap_or(0)),
                    "Mend the handler, then tq_requeue.",
                );
            }
            say(
                "finished",
                format!("it is {} since {}", state.name(), time_json(row.time(columns::rcol::FINISHED_AT)).as_str().unwrap_or("")),
                "SELECT * FROM tq_fetch(id) shows it.",
            );
            return Ok(Ret::Json(rows.into()));
        }
        Found::Unfinished(row) => row,
    };
    let now = clock::now();
    let stamp = row.time(col::CREATED_AT).unwrap_or(0);
    let s = shared::get();
    let slot = s.and_then(|s| slot::running(&s, tenant.oid, id, stamp).map(|n| &s.slots[n]));
    let state = state::unfinished(
        row.char(col::STATE),
        row.i32(col::ATTEMPTS).unwrap_or(0),
        row.time(col::RUN_AT).unwrap_or(0),
        now,
        slot.is_some(),
    );
    if let Some(slot) = slot {
        say(
            "running",
            format!("since {} in process {}", time_json(Some(slot.started_at.load())).as_str().unwrap_or(""), slot.pid.load()),
            "SELECT * FROM tq_running.",
        );
        say_interrupted(&tenant, &row, id, &mut rows);
        return Ok(Ret::Json(rows.into()));
    }
    let Some(s) = s else {
        say("not_preloaded", "tenant_q is not in shared_preload_libraries: nothing runs".into(), "Add it there and restart the server.");
        return Ok(Ret::Json(rows.into()));
    };
    let name = row.str(col::HANDLER).unwrap_or("").to_string();
    let handler = handler::find(&tenant, &name)?;
    if !settings::enabled() {
        say("disabled", "tenant_q.enabled is off".into(), "Switch it on and reload the configuration.");
    }
    if let Some(db) = s.db(shmem::my_database()) {
        match db.state.load() {
            db_state::COPY => say("copy", "this database is a copy that nobody has confirmed".into(), "SELECT tq_confirm_copy()."),
            db_state::SKEWED => say(
                "version",
                "the extension's version is not the library's".into(),
                "ALTER EXTENSION tenant_q UPDATE, or restart the server.",
            ),
            db_state::WITHOUT => {
                say("excluded", "this database is not served".into(), "See tenant_q.databases and tenant_q.exclude_databases.")
            }
            _ => {}
        }
    } else {
        say("not_served", "the launcher has not looked at this database yet".into(), "It does within a minute.");
    }
    if let Some(text) = &tenant.suspended {
        say("suspended", text.clone(), "SELECT tq_resume(…).");
    }
    if !tenant.ready {
        say("not_ready", "the tenant is marked not ready".into(), "SELECT tq_set_tenant(ready => true).");
    }
    if tenant.paused_until(now).is_some() {
        say("paused", "the tenant is paused, or all are".into(), "SELECT tq_resume(), or tq_resume_all().");
    }
    if tenant.part_paused_until(&name, row.str(col::QUEUE), now).is_some() {
        say("paused", format!("handler \"{name}\" or its queue is paused"), "SELECT tq_resume(handler => …).");
    }
    match &handler {
        None if crate::waits::members::HANDLERS.contains(&name.as_str()) => {}
        None => say(
            "handler",
            format!("handler \"{name}\" is not registered"),
            "SELECT tq_register(…): its tasks wait for tenant_q.handler_grace.",
        ),
        Some(h) => {
            if let Some(fault) = &h.fault {
                let hint = match fault {
                    handler::Fault::Role { .. } => fault.fix(&tenant, &name),
                    _ => "Bring the function back or register it again.".into(),
                };
                say("handler", fault.text().to_string(), &hint);
            }
            if let Some(why) = h.why_quarantined() {
                say("handler", format!("handler \"{name}\" is quarantined: {why}"), &h.how_to_free(&tenant));
            }
        }
    }
    let asked_by = handler.as_ref().and_then(|h| crate::work::ask::asked_next(&tenant, &row, h).ok().flatten());
    if let Some(role) = asked_by {
        let role = catalog::role_name(role).unwrap_or_default();
        say("listener", format!("a listener who runs as role \"{role}\" is asked about it first"), "SELECT * FROM tq_events.");
    }
    let role = asked_by.unwrap_or(handler.as_ref().map_or(tenant.owner, |h| h.run_as));
    if !worker::NOLOGIN_WORKS && !catalog::may_login(role) {
        say(
            "role",
            format!("role \"{}\" may not log in, so no executor can be its session", catalog::role_name(role).unwrap_or_default()),
            "ALTER ROLE … LOGIN.",
        );
    }
    if state == State::Deferred {
        let flow = crate::waits::members::HANDLERS.contains(&name.as_str());
        say(
            "waits",
            crate::waits::members::describe_wait(&row).unwrap_or_default(),
            if flow { "SELECT * FROM tq_tasks WHERE parent_id = id." } else { "SELECT * FROM tq_why(…) of that task." },
        );
    } else {
        for shut in crate::waits::gate::why(&tenant, &row, handler.as_deref()) {
            say(shut.reason, format!("{}: {}", shut.what, shut.detail), shut.hint);
        }
    }
    if matches!(state, State::Delayed | State::Retrying) && row.time(col::RUN_AT).is_some_and(|t| t > now) {
        let text = format!("it is due at {}", time_json(row.time(col::RUN_AT)).as_str().unwrap_or(""));
        say(if state == State::Retrying { "retrying" } else { "delayed" }, text, "");
    }
    for e in entries(&s, tenant.oid) {
        if let Some(text) = reason::text(e.blocked_reason.load()).filter(|_| e.blocked_since.load() > 0) {
            say("blocked", text.into(), "SELECT * FROM tq_problems.");
        }
        if let Some(held) = holds::held(e).find(|h| h.id == id && h.until > now) {
            say(
                "held",
                format!(
                    "its last attempt was interrupted, or its end could not be recorded: it runs again at {}",
                    time_json(Some(held.until)).as_str().unwrap_or("")
                ),
                "The server's log says why.",
            );
        }
    }
    if tenant.max_running.is_some_and(|max| {
        s.slots.iter().filter(|slot| slot.tenant.load() == tenant.oid).map(|slot| slot.live_items().len()).sum::<usize>() >= max as usize
    }) {
        say(
            "limit",
            format!("{} tasks of the tenant run, as many as its max_running allows", tenant.max_running.unwrap_or(0)),
            "An administrator can raise it with tq_set_quota.",
        );
    }
    if crate::waits::gate::live_items(&s, usize::MAX, tenant.oid).any(|item| item.id == id) {
        say("next", "an executor has picked it and runs the ones before it first".into(), "");
    } else if rows.is_empty() {
        let max = settings::max_executors(shmem::max_worker_processes()) as usize;
        let used = s.slots.iter().filter(|slot| slot.state.load() != 0).count();
        let role_waits = s.roles.iter().find(|r| r.role.load() == role && r.database.load() == shmem::my_database());
        if role_waits.is_some_and(|r| r.start_failures.load() > 0) {
            rows.push(json!({ "reason": "role", "detail": "executors of its role could not start", "hint": "SELECT * FROM tq_problems; the server's log has the error." }));
        } else if no_slot(&s) {
            rows.push(json!({ "reason": "worker_slots", "detail": "no background worker slot is free", "hint": "Raise max_worker_processes (restart), or lower tenant_q.max_executors." }));
        } else if used >= max {
            rows.push(json!({ "reason": "busy", "detail": format!("all {max} executors are busy"), "hint": "Raise tenant_q.max_executors, or see tq_running." }));
        } else {
            rows.push(json!({ "reason": "queued", "detail": "it is ready and starts in its turn", "hint": "" }));
        }
    }
    say_interrupted(&tenant, &row, id, &mut rows);
    Ok(Ret::Json(rows.into()))
}

/// That attempts of the task came to no end, from the first one on.
fn say_interrupted(tenant: &Tenant, row: &Row, id: u128, rows: &mut Vec<Json>) {
    let times = crate::work::complete::interruptions_of(row);
    let ends = ends_of(tenant, id);
    let cancelled = (times > 0).then(|| format!("its attempt was interrupted {times} times in a row by cancels from outside: not counted"));
    for detail in cancelled.into_iter().chain((ends > 0).then(|| ends_text(ends))) {
        rows.push(json!({ "reason": "interrupted", "detail": detail, "hint": "SELECT * FROM tq_attempts(id)." }));
    }
}

/// tq_health(): checks.
fn health(_args: &Args) -> Result<Ret> {
    let mut rows = Vec::new();
    let mut check = |name: &str, ok: bool, value: String, detail: &str, hint: &str| {
        rows.push(json!({ "check_name": name, "ok": ok, "value": value, "detail": if ok { Json::Null } else { detail.into() }, "hint": if ok { Json::Null } else { hint.into() } }));
    };
    let s = shared::get();
    check(
        "preloaded",
        s.is_some(),
        s.is_some().to_string(),
        "tenant_q is not in shared_preload_libraries: tasks are stored, nothing runs.",
        "Add tenant_q to shared_preload_libraries and restart the server.",
    );
    let version = catalog::extension_version().unwrap_or_default();
    check(
        "version",
        version == env!("CARGO_PKG_VERSION"),
        format!("extension {version}, library {}", env!("CARGO_PKG_VERSION")),
        "The extension's objects and the library are of different versions: nothing runs.",
        "ALTER EXTENSION tenant_q UPDATE; and restart the server if it still runs the older library.",
    );
    check(
        "enabled",
        settings::enabled(),
        settings::enabled().to_string(),
        "tenant_q.enabled is off: no task is started and no schedule fires.",
        "ALTER SYSTEM SET tenant_q.enabled = on; SELECT pg_reload_conf();",
    );
    if let Some(s) = s {
        let launcher = s.header.launcher_pid.load();
        let alive = launcher > 0 && worker::is_alive(launcher);
        check(
            "launcher",
            alive || shmem::in_recovery(),
            launcher.to_string(),
            "There is no launcher: nothing is started.",
            "It is restarted within seconds; otherwise see the server's log.",
        );
        let state = s.db(shmem::my_database()).map(|d| d.state.load());
        let (text, detail, hint) = match state {
            Some(db_state::SERVED) => ("served", "", ""),
            Some(db_state::COPY) => {
                ("copy", "This database is a copy that nobody has confirmed: nothing runs.", "SELECT tq_confirm_copy();")
            }
            Some(db_state::SKEWED) => ("version", "Extension and library differ in version.", "ALTER EXTENSION tenant_q UPDATE;"),
            Some(db_state::UNKNOWN) => {
                ("being looked into", "The scheduler has not looked into this database yet.", "It does within seconds.")
            }
            _ => ("not served", "This database is not one of those served.", "See tenant_q.databases and tenant_q.exclude_databases."),
        };
        check("database", text == "served", text.into(), detail, hint);
        if let Some(db) = s.db(shmem::my_database()) {
            let (pid, failures) = (db.scheduler_pid.load(), db.start_failures.load());
            check(
                "scheduler",
                failures == 0,
                if pid > 0 { pid.to_string() } else { "none is needed now".into() },
                &format!("The database's scheduler could not start or died, {failures} times in a row: no schedule fires."),
                "It is tried again with growing pauses; the server's log says why.",
            );
        }
        if rights::sees_all()
            && let Some((free, size)) = shmem::disk_of_data()
        {
            let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
            check(
                "disk",
                free >= size / 20,
                format!("{:.1} of {:.1} GiB free", gib(free), gib(size)),
                "The file system of the data directory is nearly full: without room nothing can be enqueued or ended.",
                "Make room; tq_purge removes results, and retention is set by tq_set_tenant.",
            );
        }
        let max = settings::max_executors(shmem::max_worker_processes());
        let needed = settings::slots_needed(shmem::max_worker_processes());
        check(
            "worker_slots",
            !no_slot(&s) && needed <= shmem::max_worker_processes(),
            format!(
                "{} of {max} executors, max_worker_processes {}",
                s.slots.iter().filter(|x| x.state.load() != 0).count(),
                shmem::max_worker_processes()
            ),
            "Background worker slots are short: one launcher, one scheduler a database and the executors share them with parallel query and logical replication.",
            &format!("Set max_worker_processes to {} or more (restart).", needed + 8),
        );
        let launcher = [("launcher", s.launcher_wakes())].into_iter().filter(|_| alive);
        let schedulers = s.dbs.iter().filter(|db| db.scheduler_pid.load() > 0).map(|db| ("a scheduler", s.scheduler_wakes(db)));
        let live = s.slots.iter().enumerate().filter(|(_, slot)| slot.state.load() == 2);
        let executors = live.map(|(place, _)| ("an executor", s.executor_wakes(place)));
        let in_vain: Vec<String> = (launcher.chain(schedulers).chain(executors))
            .map(|(who, of)| (who, vain_reasons(of)))
            .filter(|(_, reasons)| !reasons.is_empty())
            .map(|(who, reasons)| format!("{who}: {}", reasons.join(", ")))
            .collect();
        check(
            "wakes",
            in_vain.is_empty(),
            if in_vain.is_empty() { "none in vain again and again".into() } else { in_vain.join("; ") },
            "Processes wake up for these reasons again and again, and nothing comes of it: a fault of tenant_q's. They do so less and less often, so it costs little; what they wake for is late.",
            "SELECT kind, pid, wakes, vain FROM tq_workers; please report it.",
        );
        let failing = s.roles.iter().filter(|r| r.in_use.load() == 1 && r.start_failures.load() > 0).count();
        check(
            "roles",
            failing == 0,
            format!("{failing} failing"),
            "Executors of some roles could not start.",
            "SELECT * FROM tq_problems;",
        );
        let waiting = s.header.waiting_roles.load();
        check(
            "places",
            waiting == 0,
            format!("{waiting} roles waiting"),
            "More roles have work than there are executors: they take turns.",
            "Raise tenant_q.max_executors if that is usual.",
        );
        let entries = s.entries.iter().filter(|e| e.in_use.load() == 1).count();
        let evictions = s.header.evictions.load();
        let tables: Vec<_> = full(&s).map(|(kind, _)| kind).collect();
        let names = tables.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ");
        check(
            "shared_memory",
            evictions == 0 && tables.is_empty(),
            format!("{entries} of {} entries", settings::max_tenants()),
            &if tables.is_empty() {
                "Entries had to be evicted; idle tenants are found again by sweeps.".to_string()
            } else {
                format!("Tables were full within the last hour: {names}. SELECT * FROM tq_problems says what comes of it.")
            },
            &tables.first().map_or("Raise tenant_q.max_tenants (restart).".to_string(), |kind| format!("{};", kind.remedy())),
        );
        if let Some(db) = s.db(shmem::my_database()) {
            let swept = db.swept_at.load();
            check(
                "sweep",
                swept > 0 || db.state.load() != db_state::SERVED,
                if db.sweep_wanted.load() == 1 {
                    format!("at tenant {}", db.swept_tenants.load())
                } else {
                    time_json((swept > 0).then_some(swept)).as_str().unwrap_or("never").to_string()
                },
                "The first look at all tenants since the start is not over yet.",
                "It goes on; what is enqueued meanwhile runs.",
            );
        }
    }
    Ok(Ret::Json(rows.into()))
}

sql_functions! {
    tenant_q_tenants, pg_finfo_tenant_q_tenants => tenants;
    tenant_q_running, pg_finfo_tenant_q_running => running;
    tenant_q_workers, pg_finfo_tenant_q_workers => workers;
    tenant_q_problems, pg_finfo_tenant_q_problems => problems;
    tenant_q_why, pg_finfo_tenant_q_why => why;
    tenant_q_health, pg_finfo_tenant_q_health => health;
}
