//! tenant_q.shown_schedule, behind tq_schedules: a tenant's schedules.

use crate::postgres::clock;
use crate::postgres::column::Value;
use crate::postgres::error::Result;
use crate::postgres::foreign::{BOOL, Holding, Order, Passing, Searched, Shown, Shows, TEXT, TEXTS, Wanted};
use crate::postgres::relation::{Access, Table};
use crate::postgres::row::Row;
use crate::pure::state;
use crate::schedules;
use crate::schedules::follow::Notes;
use crate::schedules::row::Schedule;
use crate::shared::{self, slot};
use crate::task::lookup::{Found, look_up};
use crate::tenant::Tenant;
use crate::tenant::columns::{Results, Schedules, Tasks};
use std::rc::Rc;

pub struct ShownSchedules {
    tenant: Rc<Tenant>,
    wanted: Wanted,
    zone: String,
}

/// What is worked out of a schedule, as far as it is asked for.
#[derive(Default)]
pub struct Seen {
    kind: Option<&'static str>,
    last_status: Option<&'static str>,
    after: Option<Vec<String>>,
    problem: Option<String>,
    of_all: bool,
}

// Places of its columns, from 0.
const NAME: usize = 0;
const KIND: usize = 3;
const TZ: usize = 4;
const NEXT_RUN: usize = 7;
const LAST_STATUS: usize = 11;
const AFTER: usize = 14;
const PROBLEM: usize = 15;
const OF_ALL: usize = 19;

impl Shown for ShownSchedules {
    type Rows = Schedules;
    type Seen = Seen;
    const NAME: &'static str = "shown_schedule";
    const COLUMNS: &'static [Shows<Schedules>] = &[
        Shows::own(Schedules::NAME),
        Shows::own(Schedules::HANDLER),
        Shows::own(Schedules::RULE),
        Shows::Told(TEXT),
        Shows::Told(TEXT),
        Shows::own(Schedules::ARGS),
        Shows::own(Schedules::ENABLED),
        Shows::own(Schedules::NEXT_RUN),
        Shows::own(Schedules::REPEATS),
        Shows::own(Schedules::LAST_RUN),
        Shows::own(Schedules::LAST_TASK),
        Shows::Told(TEXT),
        Shows::own(Schedules::RUN_COUNT),
        Shows::own(Schedules::FAIL_COUNT),
        Shows::Told(TEXTS),
        Shows::Told(TEXT),
        Shows::own(Schedules::TAGS),
        Shows::own(Schedules::DESCRIPTION),
        Shows::own(Schedules::CREATED_BY),
        Shows::Told(BOOL),
    ];
    const ORDERS: &'static [Order<Schedules>] = &[
        Order { index: &Schedules::BY_NAME, searched: &[Searched::As(NAME)], holds: Holding::Unique },
        Order { index: &Schedules::DUE, searched: &[Searched::As(NEXT_RUN)], holds: Holding::Keyed },
    ];

    fn begin(wanted: Wanted) -> Result<(ShownSchedules, Table<Schedules>)> {
        let tenant = schedules::resolve_to_read(None)?;
        let table = tenant.open_to_look(tenant.schedule)?;
        let zone = tenant.zone();
        Ok((ShownSchedules { tenant, wanted, zone }, table))
    }

    fn see(&self, row: &Passing<Schedules>) -> Option<Seen> {
        if !self.wanted.any(&[KIND, LAST_STATUS, AFTER, PROBLEM, OF_ALL]) {
            return Some(Seen::default());
        }
        let row = row.copy_without(&[]);
        let parsed = Schedule::of(&self.tenant, &row);
        let (parsed, broken) = match parsed {
            Ok(schedule) => (Some(schedule), None),
            Err(broken) => (None, Some(broken.error.message)),
        };
        Some(Seen {
            kind: parsed.as_ref().map(|s| s.rule.kind()),
            last_status: self.wanted.has(LAST_STATUS).then(|| self.last_status(&row)).flatten(),
            of_all: parsed.as_ref().is_some_and(|s| s.of_all.is_some()),
            after: parsed.map(|s| s.after).filter(|after| !after.is_empty()),
            problem: row.text(Schedules::PROBLEM).or(broken),
        })
    }

    fn tell<'a>(&'a self, seen: &'a Seen, row: &Passing<'a, Schedules>, place: usize) -> Value<'a> {
        let text = |text: Option<&'a str>| text.map_or(Value::Null, Value::Text);
        match place {
            KIND => text(seen.kind),
            TZ if !row.has(Schedules::TZ) => Value::Text(&self.zone),
            TZ => row.own(Schedules::TZ),
            LAST_STATUS => text(seen.last_status),
            AFTER => seen.after.as_deref().map_or(Value::Null, Value::Texts),
            PROBLEM => text(seen.problem.as_deref()),
            OF_ALL => Value::Bool(seen.of_all),
            _ => Value::Null,
        }
    }
}

impl ShownSchedules {
    fn last_status(&self, row: &Row<Schedules>) -> Option<&'static str> {
        let tasks = self.tenant.try_open(self.tenant.task, Access::Read).ok()??;
        let results = self.tenant.try_open(self.tenant.result, Access::Read).ok()??;
        last_status(&self.tenant, row, &tasks, &results)
    }
}

/// What has become of the task that it has made last.
pub fn last_status(tenant: &Tenant, row: &Row<Schedules>, tasks: &Table<Tasks>, results: &Table<Results>) -> Option<&'static str> {
    let id = row.get(Schedules::LAST_TASK)?;
    match look_up(tasks, results, id) {
        Found::Finished(result) => Some(result.letter(Results::STATE).seen().name()),
        Found::Unfinished(task) => {
            let created_at = task.get(Tasks::CREATED_AT).unwrap_or_default();
            let running = shared::get().is_some_and(|s| slot::is_running(&s, tenant.oid, id, created_at));
            let (attempts, run_at) = (task.get(Tasks::ATTEMPTS).unwrap_or(0), task.get(Tasks::RUN_AT).unwrap_or_default());
            Some(state::unfinished(task.letter(Tasks::STATE), attempts, run_at, clock::now(), running).name())
        }
        Found::Nothing => Notes::of(row).status_of(id),
    }
}
