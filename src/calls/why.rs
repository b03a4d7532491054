//! SQL: why a task does not run, or when it will: tq_why.
//!
//! From the outside in: the tables, the server, the tenant, the handler, the role, what the task waits for, its turn. All
//! that applies is told; what comes first must end first.

use crate::calls::changes::id_argument;
use crate::calls::problems::reasons::tenants::{blocked, no_place, not_ready};
use crate::calls::problems::reasons::{self, Because};
use crate::calls::problems::workers;
use crate::calls::{problems, views};
use crate::handler::{self, Handler};
use crate::postgres::call::{Args, Ret};
use crate::postgres::error::Result;
use crate::postgres::relation::{Access, Table};
use crate::postgres::row::Row;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{catalog, clock, shmem, transaction};
use crate::pure::fix;
use crate::pure::ids::Id;
use crate::pure::reason::Reason;
use crate::pure::state::{self, State, Stored};
use crate::pure::time::At;
use crate::pure::word::{ClaimState, SlotState};
use crate::shared::role::EXTERNAL;
use crate::shared::{self, Shared, cooldown, share, slot};
use crate::task::document::time_json;
use crate::task::lookup::{self, Found};
use crate::task::place;
use crate::tenant::Tenant;
use crate::tenant::columns::{Results, Tasks};
use crate::tenant::identity;
use crate::tenant::pauses::Pause;
use crate::tenant::rights::{self, Right};
use crate::waits::{astray, members};
use crate::{settings, sql_functions};
use pgrx::spi::quote_literal;
use serde_json::{Value as Json, json};
use std::rc::Rc;

/// Reasons, in the order in which they are told.
#[derive(Default)]
struct Reasons(Vec<Json>);

impl Reasons {
    fn say(&mut self, reason: &str, detail: impl Into<String>, hint: &str) {
        self.0.push(json!({ "reason": reason, "detail": detail.into(), "hint": hint }));
    }
    fn because(&mut self, because: Because) {
        self.0.push(json!({ "reason": because.reason.word(), "detail": because.text, "hint": because.fix }));
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
    /// What it waits for though nothing is left of it.
    gone: Option<String>,
}

/// tenant_q.why(id, tenant): every reason, the decisive one first.
fn why(args: &Args) -> Result<Ret> {
    let id = id_argument(args)?;
    let mut reasons = Reasons::default();
    let tenant = match rights::resolve(args.text(1).as_deref(), &[Right::Read]) {
        // Of a restored database: there is no tenant until it is confirmed.
        Err(e) if e.sqlstate == SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE && !identity::confirmed()? => {
            reasons.0.push(json!({ "reason": Reason::Copy.word(), "detail": e.message, "hint": "SELECT tq_confirm_copy()" }));
            return Ok(Ret::Json(reasons.0.into()));
        }
        resolved => resolved?,
    };
    if let Some((tasks, results)) = tables(&tenant, &mut reasons)? {
        match lookup::look_up(&tasks, &results, id) {
            Found::Nothing => reasons.say(
                "unknown",
                "no task of this id is waiting or kept in this tenant",
                "It was never enqueued here (or rolled back), was not saved, or retention removed it.",
            ),
            Found::Finished(row) => finished(&row, &mut reasons),
            Found::Unfinished(row) => {
                let gone = transaction::with_latest_snapshot(|| gone(&tasks, &results, &row));
                if gone.is_some() {
                    handler::roles::wake_all(&tenant)?;
                }
                unfinished(&tenant, &row, id, gone, &mut reasons)?;
            }
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
    let error = row.get(Results::ERROR).unwrap_or(Json::Null);
    let why = error["message"].as_str().map_or(String::new(), |message| {
        format!(": {message}{}", error["sqlstate"].as_str().map_or(String::new(), |sqlstate| format!(" ({sqlstate})")))
    });
    reasons.say(
        "finished",
        format!("it is {} since {}{why}", state.name(), time_json(row.get(Results::FINISHED_AT)).as_str().unwrap_or("")),
        "SELECT * FROM tq_fetch(id) shows it.",
    );
}

/// What a task waits for though nothing is left of it, for people.
fn gone(tasks: &Table<Tasks>, results: &Table<Results>, row: &Row<Tasks>) -> Option<String> {
    if row.letter(Tasks::STATE) != Stored::Waiting {
        return None;
    }
    if astray::is_flow(row) {
        let mut looks = usize::MAX;
        let lost = astray::lost_members(tasks, row, &mut looks);
        return (lost > 0).then(|| format!("{lost} of its members have no record any more"));
    }
    astray::gone(tasks, results, row).map(|id| format!("task {id} that it waits for has no record any more"))
}

fn unfinished(tenant: &Rc<Tenant>, row: &Row<Tasks>, id: Id, gone: Option<String>, reasons: &mut Reasons) -> Result<()> {
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
    if let Some(claim) = s.and_then(|s| s.claim_on(tenant.oid, id, created_at)) {
        let finishing = if claim.load().state == ClaimState::Finishing { ", whose end a transaction is writing" } else { "" };
        let since = time_json(Some(claim.taken_at.load()));
        let session = claim.pid.load();
        reasons.say(
            "running",
            format!("since {} in a worker that took it through session {session}{finishing}", since.as_str().unwrap_or("")),
            &format!("SELECT * FROM tq_running WHERE id = '{id}'"),
        );
        interrupted(tenant, row, id, reasons);
        return Ok(());
    }
    if let Some(slot) = slot {
        reasons.say(
            "running",
            format!("since {} in process {}", time_json(Some(slot.started_at.load())).as_str().unwrap_or(""), slot.pid.load()),
            &format!("SELECT * FROM tq_running WHERE id = '{id}'"),
        );
        interrupted(tenant, row, id, reasons);
        return Ok(());
    }
    for because in reasons::of_server()? {
        reasons.because(because);
    }
    let name = row.get(Tasks::HANDLER).unwrap_or("");
    let task = Waiting { tenant, row, id, state, name, handler: handler::find(tenant, name)?, now, gone };
    task.of_the_tenant(reasons);
    task.of_the_handler(reasons);
    let role = task.of_the_role(reasons);
    task.of_what_it_waits_for(reasons);
    if let Some(s) = s {
        task.of_its_entries(&s, reasons);
        task.of_its_turn(&s, role, reasons);
    }
    interrupted(tenant, row, id, reasons);
    Ok(())
}

impl Waiting<'_> {
    /// What holds the whole tenant, or a part of it that this task is of.
    fn of_the_tenant(&self, reasons: &mut Reasons) {
        let Waiting { tenant, now, .. } = *self;
        let kept_by = |pause: &Pause| match (pause.is_of_all(), pause.is_whole()) {
            (true, true) => Reason::PausedAll,
            (false, true) => Reason::Paused,
            (_, false) => Reason::PausedPart,
        };
        if let Some(text) = &tenant.suspended {
            let fix = format!("SELECT tq_resume({})", quote_literal(&tenant.name));
            reasons.because(Because::new(Reason::Suspended, text, Some(fix)));
        }
        if !tenant.ready {
            reasons.because(not_ready(&tenant.name));
        }
        for pause in tenant.whole_pauses(now).chain(tenant.part_pauses(self.name, self.row.get(Tasks::QUEUE), now)) {
            reasons.because(Because::paused(kept_by(pause), pause));
        }
    }

    /// Whether it can be called.
    fn of_the_handler(&self, reasons: &mut Reasons) {
        match &self.handler {
            None if members::is_flow(self.name) => {}
            None => reasons.say(
                "handler",
                format!("handler \"{}\" is not registered: its tasks wait for tenant_q.handler_grace", self.name),
                &handler::register(self.tenant, self.name),
            ),
            Some(h) => {
                if let Some(fault) = &h.fault {
                    let hint = match fault {
                        handler::Fault::Role { .. } => h.mend(self.tenant, fault),
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
        let role = asked_by.unwrap_or_else(|| place::role(self.tenant, self.row.letter(Tasks::STATE), self.handler.as_deref()));
        if role == EXTERNAL {
            return role;
        }
        if let Some((text, fix)) = reasons::role_fault(role, "role") {
            reasons.because(Because::new(Reason::Role, text, fix));
        }
        role
    }

    /// A time, other tasks, locks and limits.
    fn of_what_it_waits_for(&self, reasons: &mut Reasons) {
        if let Some(what) = self.gone.as_ref().filter(|_| self.state == State::Deferred) {
            reasons.say(
                "gone",
                format!("{what}, deleted by hand or missing from a restored dump"),
                "That counts as failed: what waits for it is looked at again at once.",
            );
        } else if self.state == State::Deferred {
            let for_members = members::is_flow(self.name) && !self.row.has(Tasks::WAITS_FOR);
            reasons.say("waits", members::describe_wait(self.row).unwrap_or_default(), &self.how_the_others_stand(for_members));
        } else {
            for shut in crate::waits::gate::why(self.tenant, self.row, self.handler.as_deref()) {
                reasons.say(shut.reason, format!("{}: {}", shut.what, shut.detail), shut.hint);
            }
        }
        if matches!(self.state, State::Delayed | State::Retrying) && self.row.get(Tasks::RUN_AT).is_some_and(|t| t > self.now) {
            let text = format!("it is due at {}", time_json(self.row.get(Tasks::RUN_AT)).as_str().unwrap_or(""));
            let holds_back = crate::schedules::last::holds_back(self.tenant, self.row).ok().flatten();
            match (self.state == State::Retrying, holds_back) {
                (true, None) => reasons.say("retrying", text, ""),
                (true, Some(schedule)) => reasons.say(
                    "retrying",
                    format!("{text}; until it has ended, fire times of schedule \"{schedule}\" make no other task"),
                    &format!(
                        "SELECT tq_alter_schedule({}, overlap => 'renew') lets the next fire time take the place of a retry.",
                        pgrx::spi::quote_literal(&schedule)
                    ),
                ),
                (false, _) => reasons.say("delayed", text, ""),
            }
        }
    }

    /// What it waits for, to be looked at.
    fn how_the_others_stand(&self, for_members: bool) -> String {
        let (id, tenant) = (self.id, quote_literal(&self.tenant.name));
        match self.row.get(Tasks::WAITS_FOR) {
            _ if for_members => format!("SELECT * FROM tq_tasks WHERE parent_id = '{id}'"),
            Some(other) => format!("SELECT * FROM tq_why('{other}', tenant => {tenant})"),
            None => String::new(),
        }
    }

    /// What executors have noted of the tenant, or of this task.
    fn of_its_entries(&self, s: &Shared, reasons: &mut Reasons) {
        let entries = views::entries(s, self.tenant.oid);
        if entries.is_empty() && problems::full(s).any(|(kind, _)| kind == share::Kind::Entries) {
            reasons.because(no_place());
        }
        for entry in entries {
            if let Some(because) = blocked(entry) {
                reasons.because(because);
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

    /// Who might take it, outside of the server.
    fn of_its_workers(&self, s: &Shared, reasons: &mut Reasons) {
        let Some(handler) = &self.handler else { return };
        let takers = workers::offering(s, self.tenant, handler);
        let offering = takers.len();
        let due = self.row.get(Tasks::RUN_AT).unwrap_or_default();
        if offering == 0 && workers::is_long_ago(due) {
            let text = format!("no worker offers \"{}\"", handler.name);
            reasons.say(Reason::NoWorker.word(), text, &workers::how_to_offer(&handler.name));
        } else if reasons.0.is_empty() {
            let most = settings::max_claims();
            let taken = s.header.claims.load() as usize;
            let is_room = takers.iter().any(|taker| s.claims_left(taker.role.load()) > 0);
            match (offering, is_room) {
                (0, _) => {
                    reasons.say("queued", "it is ready, and no worker has offered to do it yet", &workers::how_to_offer(&handler.name))
                }
                (_, false) => reasons.say(
                    "busy",
                    format!("workers have taken {taken} tasks of {most}, and those that offer it may take no more"),
                    "A role may have as many as are left for all others; tenant_q.max_claims sets how many there are (restart).",
                ),
                (1, _) => reasons.say("queued", "it is ready, and 1 worker offers to do it: it starts in its turn", ""),
                (n, _) => reasons.say("queued", format!("it is ready, and {n} workers offer to do it: it starts in its turn"), ""),
            }
        }
    }

    /// Where it stands, and if nothing else was said, why that is.
    fn of_its_turn(&self, s: &Shared, role: u32, reasons: &mut Reasons) {
        let running = crate::waits::gate::live_items(s, usize::MAX, self.tenant.oid).count();
        if let Some(max) = self.tenant.max_running.filter(|max| running >= *max as usize) {
            let fix = format!("SELECT tq_set_quota({}, max_running => {})", quote_literal(&self.tenant.name), running + 1);
            let text = format!("{running} tasks of the tenant run, and its quota allows {max} (max_running)");
            let reason = if max == 0 { Reason::NoneAllowed } else { Reason::Limit };
            reasons.because(Because::new(reason, text, Some(fix::noted(&fix, "takes an administrator"))));
        }
        if crate::waits::gate::live_items(s, usize::MAX, self.tenant.oid).any(|item| item.id == self.id) {
            reasons.say("next", "an executor has picked it and runs the ones before it first", "");
        } else if role == EXTERNAL {
            self.of_its_workers(s, reasons);
        } else if reasons.0.is_empty() {
            let max = settings::max_executors(shmem::max_worker_processes()) as usize;
            let used = s.slots.iter().filter(|slot| slot.state.load() != SlotState::Free).count();
            let role_waits = s.roles.iter().find(|r| r.role.load() == role && r.database.load() == shmem::my_database());
            if role_waits.is_some_and(|r| r.start_failures.load() > 0) {
                let text = "executors of its role could not start; the server's log says why";
                reasons.because(Because::new(Reason::Starts, text, None));
            } else if reasons::no_slot(s) {
                let text = "no background worker slot is free";
                reasons.because(Because::new(Reason::WorkerSlots, text, Some(reasons::more_slots())));
            } else if used >= max {
                let fix = fix::noted("SELECT * FROM tq_running", "says with what; tenant_q.max_executors sets how many there are");
                reasons.because(Because::new(Reason::Busy, format!("all {max} executors are busy"), Some(fix)));
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
        reasons.say("interrupted", detail, &format!("SELECT * FROM tq_attempts('{id}', tenant => {})", quote_literal(&tenant.name)));
    }
}

sql_functions! {
    tenant_q_why, pg_finfo_tenant_q_why => why;
}
