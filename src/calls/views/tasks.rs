//! tenant_q.unfinished_task, behind tq_tasks: what a tenant has still to do, and what it is doing.

use super::columns::{ATTEMPT, ERROR, GROUP_ID, ID, MAX_ATTEMPTS, NAME, PRIORITY, QUEUE, REASON, STARTED_AT, STATE, TENANT};
use crate::handler;
use crate::postgres::clock;
use crate::postgres::column::Value;
use crate::postgres::error::Result;
use crate::postgres::foreign::{Holding, INT4, JSONB, Order, Passing, Searched, Shown, Shows, TEXT, TIME, Wanted};
use crate::postgres::relation::Table;
use crate::postgres::types::Jsonb;
use crate::pure::ids::Id;
use crate::pure::state::{self, State, Stored};
use crate::pure::time::At;
use crate::shared::{self, slot};
use crate::task::document::{DEFAULT_QUEUE, last_error};
use crate::task::rules::Rules;
use crate::tenant::Tenant;
use crate::tenant::columns::Tasks;
use crate::tenant::rights::{self, Right};
use crate::waits::why;
use std::collections::HashMap;
use std::rc::Rc;

pub struct UnfinishedTasks {
    tenant: Rc<Tenant>,
    wanted: Wanted,
    now: At,
    running: HashMap<(Id, At), At>,
}

/// What is worked out of a task, as far as it is asked for.
pub struct Seen {
    state: State,
    reason: Option<String>,
    attempt: i32,
    started_at: Option<At>,
    error: Option<Jsonb>,
    max_attempts: Option<i32>,
}

impl UnfinishedTasks {
    fn started_at(&self, row: &Passing<Tasks>) -> Option<At> {
        if self.running.is_empty() {
            return None;
        }
        self.running.get(&(row.uuid(Tasks::ID)?, row.time(Tasks::CREATED_AT)?)).copied()
    }
}

impl Shown for UnfinishedTasks {
    type Rows = Tasks;
    type Seen = Seen;
    const NAME: &'static str = "unfinished_task";
    const COLUMNS: &'static [Shows<Tasks>] = &[
        Shows::own(Tasks::ID),
        Shows::Told(TEXT),
        Shows::own(Tasks::HANDLER),
        Shows::own(Tasks::NAME),
        Shows::Told(TEXT),
        Shows::Told(TEXT),
        Shows::own(Tasks::ARGS),
        Shows::Told(JSONB),
        Shows::Told(JSONB),
        Shows::Told(INT4),
        Shows::Told(INT4),
        Shows::Told(TEXT),
        Shows::Told(INT4),
        Shows::own(Tasks::GROUP_ID),
        Shows::own(Tasks::PARENT_ID),
        Shows::own(Tasks::SCHEDULE),
        Shows::own(Tasks::SCHEDULED_FOR),
        Shows::own(Tasks::CREATED_AT),
        Shows::own(Tasks::RUN_AT),
        Shows::Told(TIME),
        Shows::Told(TIME),
        Shows::own(Tasks::ENQUEUED_BY),
        Shows::own(Tasks::META),
    ];
    const ORDERS: &'static [Order<Tasks>] = &[
        Order { index: &Tasks::BY_ID, searched: &[Searched::As(ID)], holds: Holding::Unique },
        Order { index: &Tasks::BY_NAME, searched: &[Searched::As(NAME)], holds: Holding::Keyed },
        Order { index: &Tasks::BY_GROUP, searched: &[Searched::As(GROUP_ID)], holds: Holding::Keyed },
    ];

    fn begin(wanted: Wanted) -> Result<(UnfinishedTasks, Table<Tasks>)> {
        let tenant = rights::resolve(None, &[Right::Read])?;
        let table = tenant.open_to_look(tenant.task)?;
        let running = shared::get().map(|s| slot::all_running(&s, tenant.oid)).unwrap_or_default();
        Ok((UnfinishedTasks { tenant, wanted, now: clock::now(), running }, table))
    }

    fn see(&self, row: &Passing<Tasks>) -> Option<Seen> {
        let stored = row.letter(Tasks::STATE);
        if !stored.is_task() {
            return None;
        }
        let started_at = self.started_at(row);
        let attempts = row.int4(Tasks::ATTEMPTS).unwrap_or(0);
        let state = state::unfinished(stored, attempts, row.time(Tasks::RUN_AT).unwrap_or_default(), self.now, started_at.is_some());
        let mut seen = Seen {
            state,
            reason: None,
            attempt: attempts + i32::from(started_at.is_some()),
            started_at: started_at.filter(|since| *since > At::UNSET),
            error: None,
            max_attempts: None,
        };
        // The rest is looked up, where there is something to be found.
        let may_wait = state == State::Queued && row.has(Tasks::WAITS);
        let has_reason = matches!(state, State::Held | State::Deferred) || stored == Stored::Gated;
        let explained = (may_wait && self.wanted.any(&[STATE, REASON])) || (has_reason && self.wanted.has(REASON));
        let error = self.wanted.has(ERROR) && row.has(Tasks::HISTORY);
        if !(explained || error || self.wanted.has(MAX_ATTEMPTS)) {
            return Some(seen);
        }
        let row = row.copy_without(&[Tasks::ARGS.number(), Tasks::META.number()]);
        let handler = handler::find(&self.tenant, row.get(Tasks::HANDLER).unwrap_or("")).ok().flatten();
        if explained {
            let standing = why::standing(&self.tenant, &row, handler.as_deref(), self.now, started_at.is_some());
            (seen.state, seen.reason) = (standing.state, standing.reason);
        }
        if error {
            seen.error = Some(last_error(row.get(Tasks::HISTORY))).filter(|error| !error.is_null()).map(Jsonb::from_value);
        }
        seen.max_attempts = Some(Rules::of(&self.tenant, &row, handler.as_deref()).max_attempts);
        Some(seen)
    }

    fn tell<'a>(&'a self, seen: &'a Seen, row: &Passing<'a, Tasks>, place: usize) -> Value<'a> {
        match place {
            TENANT => Value::Text(&self.tenant.name),
            STATE => Value::Text(seen.state.name()),
            REASON => seen.reason.as_deref().map_or(Value::Null, Value::Text),
            ERROR => seen.error.as_ref().map_or(Value::Null, Value::Json),
            ATTEMPT => Value::I32(seen.attempt),
            MAX_ATTEMPTS => seen.max_attempts.map_or(Value::Null, Value::I32),
            QUEUE if !row.has(Tasks::QUEUE) => Value::Text(DEFAULT_QUEUE),
            QUEUE => row.own(Tasks::QUEUE),
            PRIORITY => Value::I32(row.int2(Tasks::PRIORITY).unwrap_or(0).into()),
            STARTED_AT => seen.started_at.map_or(Value::Null, Value::Time),
            _ => Value::Null,
        }
    }
}
