//! SQL: why a task does not run, or when it will: tq_why.
//!
//! From the outside in: the tables, the server, the tenant, the handler, the role, what the task waits for, its turn. All
//! that applies is told; what comes first must end first.

use crate::calls::changes::id_argument;
use crate::calls::{health, problems, views};
use crate::handler::{self, Handler};
use crate::postgres::call::{Args, Ret};
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table};
use crate::postgres::row::Row;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{catalog, clock, sandbox, shmem, worker};
use crate::pure::ids::Id;
use crate::pure::state::{self, State};
use crate::pure::time::At;
use crate::pure::word::SlotState;
use crate::shared::database::db_state;
use crate::shared::{self, Shared, cooldown, slot};
use crate::task::document::time_json;
use crate::task::lookup::{self, Found};
use crate::tenant::columns::{Results, Tasks};
use crate::tenant::{self, Tenant};
use crate::{settings, sql_functions};
use serde_json::{Value as Json, json};
use std::rc::Rc;

/// Reasons, in the order in which they are told.
#[derive(Default)]
struct Reasons(Vec<Json>);

impl Reasons {
    fn say(&mut self, reason: &str, detail: impl Into<String>, hint: &str) {
        self.0.push(json!({ "reason": reason, "detail": detail.into(), "hint": hint }));
    }
}

/// An unfinished task, and what is looked up of it once.
struct Waiting<'a> {
    tenant: &'a Rc<Tenant>,
    row: &'a Row<Tasks>,
    id: Id,
    state: State,
    name: &'a str,
    handler: Option<Rc<Handler>>,
    now: At,
}

/// tenant_q.why(id, tenant): every reason, the decisive one first.
fn why(args: &Args) -> Result<Ret> {
    let id = id_argument(args)?;
    let tenant = tenant::resolve(args.text(1).as_deref())?;
    let user = sandbox::current_user();
    if !(sandbox::is_superuser(user) || catalog::may_select(tenant.task.oid(), user) && catalog::may_select(tenant.result.oid(), user)) {
        return Err(Error::denied(format!("permission denied to read tasks of tenant \"{}\"", tenant.name)));
    }
    let mut reasons = Reasons::default();
    if let Some((tasks, results)) = tables(&tenant, &mut reasons)? {
        match lookup::look_up(&tasks, &results, id) {
            Found::Nothing => reasons.say(
                "unknown",
                "no task of this id is waiting or kept in this tenant",
                "It was never enqueued here (or rolled back), was not saved, or retention removed it.",
            ),
            Found::Finished(row) => finished(&row, &mut reasons),
            Found::Unfinished(row) => unfinished(&tenant, &row, id, &mut reasons)?,
        }
    }
    Ok(Ret::Json(reasons.0.into()))
}

/// The tenant's tables. None: what holds the whole tenant is the answer.
fn tables(tenant: &Tenant, reasons: &mut Reasons) -> Result<Option<(Table<Tasks>, Table<Results>)>> {
    let opened = tenant.try_open(tenant.task, Access::Read).and_then(|t| Ok((t, tenant.try_open(tenant.result, Access::Read)?)));
    match opened {
        Ok((Some(tasks), Some(results))) => return Ok(Some((tasks, results))),
        Ok(_) => {
            let (who, hint) = tenant.who_locks();
            reasons.say("locked", format!("the tenant's tables are locked: {}", problems::lower_case(&who)), &hint);
        }
        Err(e) if matches!(e.sqlstate, SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE | SqlState::FEATURE_NOT_SUPPORTED) => {
            let detail = e.detail.map_or(String::new(), |d| format!(": {d}"));
            reasons.0.push(json!({ "reason": "tables", "detail": format!("{}{detail}", e.message), "hint": e.hint }));
        }
        Err(e) => return Err(e),
    }
    Ok(None)
}

fn finished(row: &Row<Results>, reasons: &mut Reasons) {
    let state = row.letter(Results::STATE).seen();
    if state == State::Quarantined {
        reasons.say(
            "quarantined",
            format!("the server crashed {} times while it ran", row.get(Results::CRASHES).unwrap_or(0)),
            "Mend the handler, then tq_requeue.",
        );
    }
    reasons.say(
        "finished",
        format!("it is {} since {}", state.name(), time_json(row.get(Results::FINISHED_AT)).as_str().unwrap_or("")),
        "SELECT * FROM tq_fetch(id) shows it.",
    );
}

fn unfinished(tenant: &Rc<Tenant>, row: &Row<Tasks>, id: Id, reasons: &mut Reasons) -> Result<()> {
    let now = clock::now();
    let created_at = row.get(Tasks::CREATED_AT).unwrap_or_default();
    let s = shared::get();
    let slot = s.and_then(|s| slot::running(&s, tenant.oid, id, created_at).map(|n| &s.slots[n]));
    let state = state::unfinished(
        row.letter(Tasks::STATE),
        row.get(Tasks::ATTEMPTS).unwrap_or(0),
        row.get(Tasks::RUN_AT).unwrap_or_default(),
        now,
        slot.is_some(),
    );
    if let Some(slot) = slot {
        reasons.say(
            "running",
            format!("since {} in process {}", time_json(Some(slot.started_at.load())).as_str().unwrap_or(""), slot.pid.load()),
            "SELECT * FROM tq_running.",
        );
        interrupted(tenant, row, id, reasons);
        return Ok(());
    }
    let Some(s) = s else {
        reasons.say("not_preloaded", "tenant_q is not in shared_preload_libraries: nothing runs", "Add it there and restart the server.");
        return Ok(());
    };
    let name = row.get(Tasks::HANDLER).unwrap_or("");
    let task = Waiting { tenant, row, id, state, name, handler: handler::find(tenant, name)?, now };
    of_the_server(&s, reasons);
    task.of_the_tenant(reasons);
    task.of_the_handler(reasons);
    let role = task.of_the_role(reasons);
    task.of_what_it_waits_for(reasons);
    task.of_its_entries(&s, reasons);
    task.of_its_turn(&s, role, reasons);
    interrupted(tenant, row, id, reasons);
    Ok(())
}

/// What keeps every task of the server or of this database.
fn of_the_server(s: &Shared, reasons: &mut Reasons) {
    if !settings::enabled() {
        reasons.say("disabled", "tenant_q.enabled is off", "Switch it on and reload the configuration.");
    }
    if let Some(db) = s.db(shmem::my_database()) {
        match db.state.load() {
            db_state::COPY => reasons.say("copy", "this database is a copy that nobody has confirmed", "SELECT tq_confirm_copy()."),
            db_state::SKEWED => reasons.say(
                "version",
                "the extension's version is not the library's",
                "ALTER EXTENSION tenant_q UPDATE, or restart the server.",
            ),
            db_state::WITHOUT => {
                reasons.say("excluded", "this database is not served", "See tenant_q.databases and tenant_q.exclude_databases.")
            }
            _ => {}
        }
    } else {
        reasons.say("not_served", "the launcher has not looked at this database yet", "It does within a minute.");
    }
}

impl Waiting<'_> {
    /// What holds the whole tenant, or a part of it that this task is of.
    fn of_the_tenant(&self, reasons: &mut Reasons) {
        if let Some(text) = &self.tenant.suspended {
            reasons.say("suspended", text, "SELECT tq_resume(…).");
        }
        if !self.tenant.ready {
            reasons.say("not_ready", "the tenant is marked not ready", "SELECT tq_set_tenant(ready => true).");
        }
        if self.tenant.paused_until(self.now).is_some() {
            reasons.say("paused", "the tenant is paused, or all are", "SELECT tq_resume(), or tq_resume_all().");
        }
        if self.tenant.part_paused_until(self.name, self.row.get(Tasks::QUEUE), self.now).is_some() {
            reasons.say("paused", format!("handler \"{}\" or its queue is paused", self.name), "SELECT tq_resume(handler => …).");
        }
    }

    /// Whether it can be called.
    fn of_the_handler(&self, reasons: &mut Reasons) {
        match &self.handler {
            None if crate::waits::members::HANDLERS.contains(&self.name) => {}
            None => reasons.say(
                "handler",
                format!("handler \"{}\" is not registered", self.name),
                "SELECT tq_register(…): its tasks wait for tenant_q.handler_grace.",
            ),
            Some(h) => {
                if let Some(fault) = &h.fault {
                    let hint = match fault {
                        handler::Fault::Role { .. } => fault.fix(self.tenant, self.name),
                        _ => "Bring the function back or register it again.".into(),
                    };
                    reasons.say("handler", fault.text(), &hint);
                }
                if let Some(why) = h.why_quarantined() {
                    reasons.say("handler", format!("handler \"{}\" is quarantined: {why}", self.name), &h.how_to_free(self.tenant));
                }
            }
        }
    }

    /// Who runs it next, a listener that is asked first or its handler's role; returned.
    fn of_the_role(&self, reasons: &mut Reasons) -> u32 {
        let asked_by = self.handler.as_ref().and_then(|h| crate::work::ask::asked_next(self.tenant, self.row, h).ok().flatten());
        if let Some(role) = asked_by {
            let role = catalog::role_name(role).unwrap_or_default();
            reasons.say("listener", format!("a listener who runs as role \"{role}\" is asked about it first"), "SELECT * FROM tq_events.");
        }
        let role = asked_by.unwrap_or(self.handler.as_ref().map_or(self.tenant.owner, |h| h.run_as));
        if !worker::NOLOGIN_WORKS && !catalog::may_login(role) {
            reasons.say(
                "role",
                format!("role \"{}\" may not log in, so no executor can be its session", catalog::role_name(role).unwrap_or_default()),
                "ALTER ROLE … LOGIN.",
            );
        }
        role
    }

    /// A time, other tasks, locks and limits.
    fn of_what_it_waits_for(&self, reasons: &mut Reasons) {
        if self.state == State::Deferred {
            let flow = crate::waits::members::HANDLERS.contains(&self.name);
            reasons.say(
                "waits",
                crate::waits::members::describe_wait(self.row).unwrap_or_default(),
                if flow { "SELECT * FROM tq_tasks WHERE parent_id = id." } else { "SELECT * FROM tq_why(…) of that task." },
            );
        } else {
            for shut in crate::waits::gate::why(self.tenant, self.row, self.handler.as_deref()) {
                reasons.say(shut.reason, format!("{}: {}", shut.what, shut.detail), shut.hint);
            }
        }
        if matches!(self.state, State::Delayed | State::Retrying) && self.row.get(Tasks::RUN_AT).is_some_and(|t| t > self.now) {
            let text = format!("it is due at {}", time_json(self.row.get(Tasks::RUN_AT)).as_str().unwrap_or(""));
            reasons.say(if self.state == State::Retrying { "retrying" } else { "delayed" }, text, "");
        }
    }

    /// What executors have noted of the tenant, or of this task.
    fn of_its_entries(&self, s: &Shared, reasons: &mut Reasons) {
        for entry in views::entries(s, self.tenant.oid) {
            if let Some(text) = entry.blocked_reason.load().text().filter(|_| entry.blocked_since.load() > At::UNSET) {
                reasons.say("blocked", text, "SELECT * FROM tq_problems.");
            }
            if let Some(held) = cooldown::of(entry).find(|h| h.id == self.id && h.until > self.now) {
                reasons.say(
                    "held",
                    format!(
                        "its last attempt was interrupted, or its end could not be recorded: it runs again at {}",
                        time_json(Some(held.until)).as_str().unwrap_or("")
                    ),
                    "The server's log says why.",
                );
            }
        }
    }

    /// Where it stands, and if nothing else was said, why that is.
    fn of_its_turn(&self, s: &Shared, role: u32, reasons: &mut Reasons) {
        let of_tenant = s.slots.iter().filter(|slot| slot.tenant.load() == self.tenant.oid);
        let running: usize = of_tenant.map(|slot| slot.live_items().len()).sum();
        if self.tenant.max_running.is_some_and(|max| running >= max as usize) {
            reasons.say(
                "limit",
                format!("{} tasks of the tenant run, as many as its max_running allows", self.tenant.max_running.unwrap_or(0)),
                "An administrator can raise it with tq_set_quota.",
            );
        }
        if crate::waits::gate::live_items(s, usize::MAX, self.tenant.oid).any(|item| item.id == self.id) {
            reasons.say("next", "an executor has picked it and runs the ones before it first", "");
        } else if reasons.0.is_empty() {
            let max = settings::max_executors(shmem::max_worker_processes()) as usize;
            let used = s.slots.iter().filter(|slot| slot.state.load() != SlotState::Free).count();
            let role_waits = s.roles.iter().find(|r| r.role.load() == role && r.database.load() == shmem::my_database());
            if role_waits.is_some_and(|r| r.start_failures.load() > 0) {
                reasons.say("role", "executors of its role could not start", "SELECT * FROM tq_problems; the server's log has the error.");
            } else if health::no_slot(s) {
                reasons.say(
                    "worker_slots",
                    "no background worker slot is free",
                    "Raise max_worker_processes (restart), or lower tenant_q.max_executors.",
                );
            } else if used >= max {
                reasons.say("busy", format!("all {max} executors are busy"), "Raise tenant_q.max_executors, or see tq_running.");
            } else {
                reasons.say("queued", "it is ready and starts in its turn", "");
            }
        }
    }
}

/// That attempts of the task came to no end, from the first one on.
fn interrupted(tenant: &Tenant, row: &Row<Tasks>, id: Id, reasons: &mut Reasons) {
    let times = crate::work::complete::interruptions_of(row);
    let ends = problems::ends_of(tenant, id);
    let cancelled = (times > 0).then(|| format!("its attempt was interrupted {times} times in a row by cancels from outside: not counted"));
    for detail in cancelled.into_iter().chain((ends > 0).then(|| problems::ends_text(ends))) {
        reasons.say("interrupted", detail, "SELECT * FROM tq_attempts(id).");
    }
}

sql_functions! {
    tenant_q_why, pg_finfo_tenant_q_why => why;
}
