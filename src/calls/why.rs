//! SQL: why a task does not run, or when it will: tq_why.

use crate::calls::changes::id_argument;
use crate::calls::{health, problems, views};
use crate::postgres::call::{Args, Ret};
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::Access;
use crate::postgres::row::Row;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{catalog, clock, sandbox, shmem, worker};
use crate::pure::ids::Id;
use crate::pure::state::{self, State};
use crate::pure::time::At;
use crate::pure::word::SlotState;
use crate::shared::database::db_state;
use crate::shared::{self, cooldown, slot};
use crate::task::document::time_json;
use crate::task::lookup::{self, Found};
use crate::tenant::columns::{Results, Tasks};
use crate::tenant::{self, Tenant};
use crate::{handler, settings, sql_functions};
use serde_json::{Value as Json, json};

/// tenant_q.why(id, tenant): every reason, the decisive one first.
fn why(args: &Args) -> Result<Ret> {
    let id = id_argument(args)?;
    let tenant = tenant::resolve(args.text(1).as_deref())?;
    let user = sandbox::current_user();
    if !(sandbox::is_superuser(user) || catalog::may_select(tenant.task.oid(), user) && catalog::may_select(tenant.result.oid(), user)) {
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
                json!({ "reason": "locked", "detail": format!("the tenant's tables are locked: {}", problems::lower_case(&who)), "hint": hint }),
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
            let state = state::finished(row.char(Results::STATE));
            if state == State::Quarantined {
                say(
                    "quarantined",
                    format!("the server crashed {} times while it ran", row.get(Results::CRASHES).unwrap_or(0)),
                    "Mend the handler, then tq_requeue.",
                );
            }
            say(
                "finished",
                format!("it is {} since {}", state.name(), time_json(row.get(Results::FINISHED_AT)).as_str().unwrap_or("")),
                "SELECT * FROM tq_fetch(id) shows it.",
            );
            return Ok(Ret::Json(rows.into()));
        }
        Found::Unfinished(row) => row,
    };
    let now = clock::now();
    let created_at = row.get(Tasks::CREATED_AT).unwrap_or_default();
    let s = shared::get();
    let slot = s.and_then(|s| slot::running(&s, tenant.oid, id, created_at).map(|n| &s.slots[n]));
    let state = state::unfinished(
        row.char(Tasks::STATE),
        row.get(Tasks::ATTEMPTS).unwrap_or(0),
        row.get(Tasks::RUN_AT).unwrap_or_default(),
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
    let name = row.get(Tasks::HANDLER).unwrap_or("").to_string();
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
    if tenant.part_paused_until(&name, row.get(Tasks::QUEUE), now).is_some() {
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
    if matches!(state, State::Delayed | State::Retrying) && row.get(Tasks::RUN_AT).is_some_and(|t| t > now) {
        let text = format!("it is due at {}", time_json(row.get(Tasks::RUN_AT)).as_str().unwrap_or(""));
        say(if state == State::Retrying { "retrying" } else { "delayed" }, text, "");
    }
    for e in views::entries(&s, tenant.oid) {
        if let Some(text) = e.blocked_reason.load().text().filter(|_| e.blocked_since.load() > At::UNSET) {
            say("blocked", text.into(), "SELECT * FROM tq_problems.");
        }
        if let Some(held) = cooldown::of(e).find(|h| h.id == id && h.until > now) {
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
        let used = s.slots.iter().filter(|slot| slot.state.load() != SlotState::Free).count();
        let role_waits = s.roles.iter().find(|r| r.role.load() == role && r.database.load() == shmem::my_database());
        if role_waits.is_some_and(|r| r.start_failures.load() > 0) {
            rows.push(json!({ "reason": "role", "detail": "executors of its role could not start", "hint": "SELECT * FROM tq_problems; the server's log has the error." }));
        } else if health::no_slot(&s) {
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
fn say_interrupted(tenant: &Tenant, row: &Row<Tasks>, id: Id, rows: &mut Vec<Json>) {
    let times = crate::work::complete::interruptions_of(row);
    let ends = problems::ends_of(tenant, id);
    let cancelled = (times > 0).then(|| format!("its attempt was interrupted {times} times in a row by cancels from outside: not counted"));
    for detail in cancelled.into_iter().chain((ends > 0).then(|| problems::ends_text(ends))) {
        rows.push(json!({ "reason": "interrupted", "detail": detail, "hint": "SELECT * FROM tq_attempts(id)." }));
    }
}

sql_functions! {
    tenant_q_why, pg_finfo_tenant_q_why => why;
}
