//! What a schedule makes when its time has come: which fire times are served, a task for each, and what the row says afterwards.
//!
//! In the transaction that advances the schedule; nothing here writes its row. A fire time that makes no task (its
//! handler is gone, its arguments don't fit) is a problem that the row tells of, and the plan goes on: an error would
//! bring the same fire time again.

use crate::fanout::{definitions, lines, passed};
use crate::handler;
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::Access;
use crate::postgres::row::Row;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::transaction;
use crate::postgres::types::Jsonb;
use crate::pure::ids::{self, Id};
use crate::pure::schedule::catch_up::Overlap;
use crate::pure::schedule::spread;
use crate::pure::state::Ended;
use crate::pure::time::{self, At, Span};
use crate::schedules::follow::{self, Notes};
use crate::schedules::options::OfAll;
use crate::schedules::row::{ROW, Schedule};
use crate::shared::{Shared, slot};
use crate::task::new::NewTask;
use crate::task::options::Options;
use crate::task::queue::Queue;
use crate::tenant::Tenant;
use crate::tenant::columns::{Schedules, Tasks};
use crate::tenant::rights::Caller;
use crate::work::complete;
use crate::work::enqueue::{self, Added};
use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};
use std::rc::Rc;

/// A line of tq_fanouts, which has a row for each tenant, counts as so many fire times.
const LINE: usize = 100;

/// What a schedule's row is to say.
pub struct Changes {
    pub next: Option<At>,
    pub problem: Option<String>,
    /// When, and how many tasks were made.
    pub served: Option<(At, i64)>,
    pub last_task: Option<Id>,
    /// Tasks before that have failed for good by it.
    pub failed: i64,
    pub repeats: Option<i32>,
    pub state: Notes,
    /// A one-time schedule that has fired: its row goes.
    pub over: bool,
}

impl Changes {
    /// Not again until somebody mends it.
    pub fn broken(row: &Row<Schedules>, error: Error) -> Changes {
        let state = if row.outside <= ROW { Notes::of(row) } else { Notes::default() };
        Changes { problem: Some(error.message), ..Changes::not_again(state) }
    }

    fn not_again(state: Notes) -> Changes {
        Changes { next: None, problem: None, served: None, last_task: None, failed: 0, repeats: None, state, over: false }
    }
}

/// A schedule that is due, and what its tasks are enqueued with.
pub struct Firing<'a> {
    pub shared: &'a Shared,
    pub tenant: &'a Rc<Tenant>,
    pub queue: &'a mut Queue,
    pub row: &'a Row<Schedules>,
    pub schedule: &'a Schedule,
    pub now: At,
    /// Fire times that this transaction may still serve.
    pub left: &'a mut usize,
    /// Tasks of earlier fire times that are given up.
    pub given_up: i64,
}

/// What came of one fire time.
enum Fired {
    Task(Id),
    /// The task before has not finished, or somebody else's has its unique key.
    LeftOut,
    /// Why there is no task of it.
    Problem(String),
}

impl Firing<'_> {
    pub fn fire(mut self) -> Result<Changes> {
        let (row, schedule) = (self.row, self.schedule);
        let mut state = schedule.state.clone();
        if row.get(Schedules::ENABLED) != Some(true) {
            state.start_over();
            return Ok(Changes::not_again(state));
        }
        let released = state.released;
        let waited_for = schedule.waiting_for(row.get(Schedules::NEXT_RUN), &state);
        let (mut fire_times, mut next) = schedule.due(row.get(Schedules::NEXT_RUN), &mut state, self.now, *self.left);
        if schedule.of_all.is_some() {
            if !self.tenant.fan_out {
                // What all tenants are to do, this one isn't: its plan goes on.
                fire_times.clear();
            }
            let first = fire_times.iter().map(|at| At::from(*at)).find(|at| released != Some(*at));
            if waited_for.is_some_and(|at| at <= self.now) && first != waited_for {
                self.pass_over(first.or(next).unwrap_or(At::NEVER))?;
            }
        }
        *self.left = self.left.saturating_sub(fire_times.len());
        self.queue.caller = Caller {
            name: row.text(Schedules::CREATED_BY).unwrap_or_default(),
            superuser: row.get(Schedules::BY_SUPERUSER).unwrap_or(false),
        };
        if released.is_some() || !fire_times.is_empty() {
            state.start_over();
        }
        let mut repeats = schedule.repeats;
        let mut last_task = row.get(Schedules::LAST_TASK);
        let mut made = 0;
        let mut problem = None;
        for fire_time in fire_times {
            if repeats == 0 {
                break;
            }
            if schedule.active_hours.as_ref().is_some_and(|hours| !hours.contain(schedule.zone, fire_time)) {
                continue;
            }
            // After others it fires at a time of this tenant's own: there is no line of all tenants for it.
            let of_line = schedule.of_all.as_ref().filter(|_| released != Some(At::from(fire_time)));
            match self.fire_at(fire_time, of_line, last_task)? {
                Fired::Task(id) => {
                    last_task = Some(id);
                    made += 1;
                    repeats -= i32::from(repeats > 0);
                    state.gone = None;
                }
                Fired::LeftOut => {}
                Fired::Problem(what) => problem = Some(what),
            }
        }
        if repeats == 0 {
            next = None;
            if schedule.of_all.is_some() {
                let reason = || "it has run as often in the tenant as repeats says".into();
                passed::passed_over(self.tenant, &schedule.name, At::NEVER, |_| reason())?;
            }
        } else if next.is_none()
            && problem.is_none()
            && !schedule.rule.fires_once()
            && !schedule.rule.is_after()
            && schedule.until.is_none_or(|until| until > self.now)
        {
            problem = Some("its rule has no further fire time".into());
        }
        // One that others come after stays: their names for it would mean nothing.
        let over = schedule.rule.fires_once()
            && next.is_none()
            && repeats < 0
            && problem.is_none()
            && schedule.after.is_empty()
            // That it has run is remembered for as long as it is defined.
            && schedule.of_all.is_none()
            && follow::is_last(&state);
        let served = (made > 0).then_some((self.now, made));
        Ok(Changes { next, problem, served, last_task, failed: self.given_up, repeats: Some(repeats), state, over })
    }

    /// Serves one fire time. `of_line`: what all tenants have, where this fire time has a line of tq_fanouts.
    fn fire_at(&mut self, fire_time: DateTime<Utc>, of_line: Option<&OfAll>, last_task: Option<Id>) -> Result<Fired> {
        let (tenant, row, schedule) = (self.tenant, self.row, self.schedule);
        let at = At::from(fire_time);
        if let Some(last) = last_task
            && self.is_left_out(last)?
        {
            if let Some(all) = of_line {
                self.note_in_line(all, at, Err("the task of an earlier fire time has not finished".into()))?;
            }
            return Ok(Fired::LeftOut);
        }
        let id = ids::fire_id(Id::of(schedule.id.number() ^ u128::from(schedule.state.clock) << 64), at);
        let jitter = if schedule.jitter > Span::ZERO {
            Span::from(spread::jitter(schedule.id.low(), fire_time, schedule.jitter.into()))
        } else {
            Span::ZERO
        };
        let later = jitter + schedule.of_all.as_ref().map_or(Span::ZERO, |all| all.stagger(tenant));
        let handler_name = row.get(Schedules::HANDLER).unwrap_or("");
        // The handler may be gone for a while: the plan goes on.
        let made = task_of(schedule, tenant, row, handler_name, at).and_then(|new| {
            let fanout = of_line.map(|all| all.line(at));
            let new = NewTask { id: Some(id), run_at: Some(at.saturating_add(later)), only_if: schedule.only_if.clone(), fanout, ..new };
            enqueue::add_unless_taken(self.queue, &new).map(|added| (new, added))
        });
        let made = match made {
            // Somebody enqueues or defines the same just now: that says nothing of the schedule, whose turn comes again.
            Err(error) if error.sqlstate == SqlState::LOCK_NOT_AVAILABLE => return Err(error),
            made => made,
        };
        if let Some(all) = of_line {
            let result = match &made {
                Ok((_, Added::Theirs(_))) => Err(lines::TAKEN.into()),
                Ok((_, Added::Task(id))) => Ok(*id),
                Err(error) => Err(error.message.clone()),
            };
            self.note_in_line(all, at, result)?;
        }
        match made {
            // What fires once would be over without having run.
            Ok((_, Added::Theirs(_))) if schedule.rule.fires_once() => Ok(Fired::Problem(lines::TAKEN.into())),
            Ok((_, Added::Theirs(_))) => Ok(Fired::LeftOut),
            Ok((new, Added::Task(id))) => {
                crate::work::tell::schedule_fired(self.queue, &new, id);
                transaction::see_own_writes();
                Ok(Fired::Task(id))
            }
            Err(error) => Ok(Fired::Problem(error.message)),
        }
    }

    /// Whether the schedule's last task is unfinished, and so there is to be no other one.
    fn is_left_out(&mut self, last: Id) -> Result<bool> {
        let overlap = self.schedule.overlap;
        if overlap == Overlap::Allow {
            return Ok(false);
        }
        let found = self.queue.table.find(Tasks::ID.equals(last)).filter(|row| row.letter(Tasks::STATE).is_task());
        let Some(unfinished) = found else { return Ok(false) };
        let waits = || {
            let created_at = unfinished.get(Tasks::CREATED_AT).unwrap_or_default();
            !slot::is_running(self.shared, self.tenant.oid, last, created_at)
        };
        match overlap {
            Overlap::Allow => Ok(false),
            Overlap::Queue => Ok(waits()),
            Overlap::Skip => Ok(true),
            Overlap::Renew => {
                let has_to_wait = unfinished.get(Tasks::RUN_AT).is_some_and(|at| at > self.now);
                let tried = unfinished.get(Tasks::ATTEMPTS).unwrap_or(0) > 0 || Options::of(&unfinished).snoozes.is_some();
                let is_retry = has_to_wait && tried;
                if !is_retry || !waits() {
                    return Ok(waits());
                }
                let given_up = complete::give_up(self.tenant, &self.queue.table, &unfinished)?;
                self.given_up += i64::from(given_up);
                if given_up {
                    let table = self.tenant.open(self.tenant.schedule, Access::Write)?;
                    follow::tell_followers(self.tenant, &table, self.row, Ended::Failed)?;
                }
                Ok(!given_up)
            }
        }
    }

    /// Fire times that others have served, before this one, aren't this tenant's any more.
    fn pass_over(&self, before: At) -> Result<()> {
        let reason = |at| match self.tenant.fan_out {
            true => self.schedule.why_passed_over(at, self.now),
            false => "fan_out is off".into(),
        };
        passed::passed_over(self.tenant, &self.schedule.name, before, reason)
    }

    fn note_in_line(&mut self, all: &OfAll, at: At, result: std::result::Result<Id, String>) -> Result<()> {
        let begun = definitions::fired(self.tenant, all, self.row, at, result)?;
        *self.left = self.left.saturating_sub(if begun { LINE } else { 0 });
        Ok(())
    }
}

/// A task of this schedule for the fire time `at`, but for its id and when it may run.
pub fn task_of(schedule: &Schedule, tenant: &Tenant, row: &Row<Schedules>, handler_name: &str, at: At) -> Result<NewTask> {
    Ok(NewTask {
        handler: handler_name.to_string(),
        args: arguments(tenant, schedule, row, handler_name, time::instant(at))?,
        name: schedule.base.name.clone().or_else(|| Some(schedule.name.clone())),
        delay: None,
        schedule: Some(schedule.name.clone()),
        scheduled_for: Some(at),
        alone: schedule.overlap != Overlap::Allow,
        ..schedule.base.clone()
    })
}

/// The schedule's arguments, with the intended time where `time_arg` asks for it: as the
/// parameter's type has it, in the schedule's zone.
fn arguments(tenant: &Tenant, schedule: &Schedule, row: &Row<Schedules>, handler_name: &str, slot: DateTime<Utc>) -> Result<Option<Jsonb>> {
    let Some(name) = row.text(Schedules::TIME_ARG) else { return Ok(row.document(Schedules::ARGS)) };
    let mut object = match row.get(Schedules::ARGS) {
        None if row.has(Schedules::ARGS) => return Err(Error::invalid("args can not be read")),
        None | Some(Json::Null) => json!({}),
        Some(Json::Object(o)) => Json::Object(o),
        Some(_) => return Err(Error::invalid("time_arg needs args to be an object")),
    };
    let handler = handler::require(tenant, handler_name)?;
    let kind = handler.signature.as_ref().and_then(|sig| sig.params.iter().find(|p| p.name.as_deref() == Some(&name))).map(|p| p.type_oid);
    object[&name] = time::time_text(slot, schedule.zone, kind).into();
    Ok(Some(Jsonb::from_value(object)))
}
