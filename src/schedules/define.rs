//! Making a schedule, or putting a definition in the place of one that is there: what tq_schedule and
//! tq_import do, and tq_alter_schedule writes.

use crate::postgres::error::{Error, Result};
use crate::postgres::interval::span_of;
use crate::postgres::relation::{Access, Table, Write};
use crate::postgres::row::Row;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{clock, transaction};
use crate::pure::choice::OnConflict;
use crate::pure::ids::Id;
use crate::pure::schedule::next::Plan;
use crate::pure::time::{At, Span};
use crate::schedules::definition::{Checked, Definition};
use crate::schedules::planning::{self, How, Planned, Redefinition};
use crate::schedules::{follow, of_all};
use crate::shared::{self, wake};
use crate::tenant::columns::Schedules;
use crate::tenant::rights::Caller;
use crate::tenant::{Tenant, lock};
use chrono::TimeDelta;
use std::rc::Rc;

/// Times that a row which a tick keeps changing is looked at again.
const TRIES: usize = 10;

/// tq_schedule's answer: the schedule's id, whether the definition is its one now, and whether it wasn't before.
pub struct Defined {
    pub id: Id,
    pub made: bool,
    pub changed: bool,
}

/// Who defines it: what a deploy has made (tq_register_many), and nobody has changed by hand, a deploy may take away.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum By {
    Hand,
    Deploy,
}

/// What became of a row that was to be written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It was so already.
    Same,
    Changed,
    /// Somebody else has changed it meanwhile.
    Overtaken,
}

/// Makes the schedule in this tenant. `author` must have been checked: they may, and they answer for it.
pub fn define(tenant: &Rc<Tenant>, definition: &Definition, conflict: OnConflict, author: &Caller, by: By) -> Result<Defined> {
    let checked = definition.check(tenant, author, true)?;
    crate::schedules::may_set_condition(tenant, None, definition.only_if.as_deref())?;
    let table = tenant.open(tenant.schedule, Access::Write)?;
    lock::schedule_name(tenant, &definition.name)?;
    // A tick may be advancing the row just now: it is looked at again then.
    for _ in 0..TRIES {
        let Some(row) = follow::find(&table, &definition.name) else {
            return Ok(Defined { id: make(tenant, &table, definition, &checked, author, by)?, made: true, changed: true });
        };
        let id = row.get(Schedules::ID).unwrap_or_default();
        match conflict {
            OnConflict::Skip => return Ok(Defined { id, made: false, changed: false }),
            OnConflict::Error => {
                return Err(Error::new(
                    SqlState::DUPLICATE_OBJECT,
                    format!("schedule \"{}\" exists already in tenant \"{}\"", definition.name, tenant.name),
                )
                .hint("on_conflict => 'replace' replaces it."));
            }
            OnConflict::Replace => match replace(tenant, &table, &row, definition, &checked, author, by)? {
                Written::Overtaken => {}
                written => return Ok(Defined { id, made: true, changed: written == Written::Changed }),
            },
        }
    }
    Err(crate::schedules::contended(&definition.name))
}

fn make(tenant: &Rc<Tenant>, table: &Table<Schedules>, definition: &Definition, checked: &Checked, author: &Caller, by: By) -> Result<Id> {
    definition.check_until()?;
    if !definition.after().is_empty() {
        follow::check(tenant, table, &definition.name, definition.after())?;
    }
    let now = clock::now();
    let id = Id::fresh();
    let plan = checked.plan(definition, now, id.low());
    let mut planned = planning::anew(definition, &plan)?;
    planned.state.declared = by == By::Deploy;
    warn_of_delays(definition, &plan, Span::ZERO);
    let documents = definition.documents();
    let state = planned.state.document();
    let mut row = definition.columns(&documents);
    row.extend([
        Schedules::NAME.to(definition.name.as_str()),
        Schedules::ID.to(id),
        Schedules::HANDLER.to(checked.handler_name(definition)),
        Schedules::NEXT_RUN.to(planned.next),
        Schedules::ANCHOR.to(now),
        Schedules::CREATED_BY.to(author.name.as_str()),
        Schedules::BY_SUPERUSER.to(author.superuser),
        Schedules::CREATED_AT.to(now),
        Schedules::RUN_COUNT.to(0),
        Schedules::FAIL_COUNT.to(0),
        Schedules::STATE.to(state.as_ref()),
    ]);
    table.insert(&row);
    transaction::see_own_writes();
    follow::link(table, &definition.name, &[], definition.after())?;
    of_all::followed(table, &definition.name)?;
    announce(tenant, planned.next)?;
    Ok(id)
}

fn replace(
    tenant: &Rc<Tenant>,
    table: &Table<Schedules>,
    row: &Row<Schedules>,
    definition: &Definition,
    checked: &Checked,
    author: &Caller,
    by: By,
) -> Result<Written> {
    of_all::refuse(row)?;
    let old = Definition::of_row(row);
    crate::schedules::may_set_condition(tenant, old.only_if.as_deref(), definition.only_if.as_deref())?;
    if definition.until != old.until {
        definition.check_until()?;
    }
    if !definition.after().is_empty() {
        follow::check(tenant, table, &definition.name, definition.after())?;
    }
    let now = clock::now();
    let plan = checked.plan(definition, now, row.get(Schedules::ID).unwrap_or_default().low());
    let planned = Redefinition::new(row, &old, definition, How::Declared, plan, now).planned()?;
    warn_of_delays(definition, &plan, Span::ZERO);
    let written = write(table, row, definition, checked, &planned, author, by);
    if written != Written::Overtaken {
        follow::link(table, &definition.name, old.after(), definition.after())?;
        announce(tenant, planned.next)?;
    }
    Ok(written)
}

/// The definition and its times into a row that is there. Who changes it answers for all of it.
pub fn write(
    table: &Table<Schedules>,
    row: &Row<Schedules>,
    definition: &Definition,
    checked: &Checked,
    planned: &Planned,
    author: &Caller,
    by: By,
) -> Written {
    let documents = definition.documents();
    let state = planned.state.document();
    let mut set = definition.columns(&documents);
    set.extend([
        Schedules::HANDLER.to(checked.handler_name(definition)),
        Schedules::NEXT_RUN.to(planned.next),
        Schedules::ANCHOR.to(planned.anchor),
        Schedules::REPEATS.to(planned.repeats),
        Schedules::CREATED_BY.to(author.name.as_str()),
        Schedules::BY_SUPERUSER.to(author.superuser),
        Schedules::PROBLEM.null(),
        Schedules::STATE.to(state.as_ref()),
    ]);
    if table.is_so(row, &set) {
        return Written::Same;
    }
    let mut notes = planned.state.clone();
    notes.declared &= by == By::Deploy;
    let state = notes.document();
    set.push(Schedules::STATE.to(state.as_ref()));
    match table.update(row, &set) {
        Write::Overtaken => Written::Overtaken,
        Write::Done => {
            transaction::see_own_writes();
            Written::Changed
        }
    }
}

/// Tasks that start later than the next fire time wait for each other, and coalesce: that may be meant.
pub fn warn_of_delays(definition: &Definition, plan: &Plan, stagger: Span) {
    let delay = definition.jitter.map_or(Span::ZERO, |j| span_of(&j)).saturating_add(stagger);
    if delay == Span::ZERO || definition.overlaps() {
        return;
    }
    let Some((first, second)) = plan.first().and_then(|first| Some((first, plan.next_after(first)?))) else { return };
    let gap = second - first;
    if TimeDelta::from(delay) <= gap {
        return;
    }
    let what = if stagger == Span::ZERO { "jitter is" } else { "jitter and stagger are" };
    Error::new(SqlState::WARNING, format!("{what} longer than the time between two fire times of schedule \"{}\"", definition.name))
        .detail(format!(
            "The first two are {} seconds apart. A task that still waits takes the next fire times with it.",
            gap.num_seconds()
        ))
        .hint("Pass overlap => 'allow' to have a task for each of them.")
        .warn();
}

/// Whoever waits for due schedules is told of a new due time.
pub fn announce(tenant: &Tenant, next: Option<At>) -> Result<()> {
    if let Some(next) = next {
        match tenant.entry(tenant.owner)? {
            Some(entry) => wake::schedule_changed(entry, next),
            None if shared::get().is_none() => crate::postgres::shmem::warn_not_preloaded(),
            None => {}
        }
    }
    Ok(())
}
