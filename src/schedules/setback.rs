//! Schedules whose next fire time was computed by a clock that has been set back since. Sweeps look at
//! all rows, so that it doesn't matter who was running when the clock was set; the launcher asks for one
//! when it sees that.

use crate::postgres::caught::Failure;
use crate::postgres::column::{Column, Time};
use crate::postgres::relation::{Access, Write};
use crate::postgres::row::{Row, Tid};
use crate::postgres::{clock, row_lock};
use crate::pure::schedule::setback::{UNNOTICED, replan};
use crate::pure::time::{At, Span, instant};
use crate::schedules::follow::Notes;
use crate::schedules::row::{ROW, Schedule};
use crate::tenant::Tenant;
use crate::tenant::columns::Schedules;

/// What is wrong with a row after the clock was set back is in its own times; mends it. In a
/// transaction of its own. False: somebody holds the table, or one of its rows.
pub fn mend(tenant: &Tenant) -> Result<bool, Failure> {
    let Some(table) = tenant.try_open(tenant.schedule, Access::Read)? else { return Ok(false) };
    let now = clock::now();
    let to_come = now + Span::from(UNNOTICED);
    let later = |row: &Row<Schedules>, column: Column<Schedules, Time>| row.get(column).is_some_and(|t| t > to_come && t != At::NEVER);
    let is_wrong = |row: &Row<Schedules>| {
        later(row, Schedules::LAST_RUN)
            || later(row, Schedules::ANCHOR)
            || later(row, Schedules::NEXT_RUN) && Notes::of(row).released.is_some()
    };
    // Only their places, and nothing that is stored outside is fetched: there may be very many.
    let mut suspects: Vec<Tid> = Vec::new();
    table.fetching_at_most(0, || {
        for row in table.scan(&Schedules::BY_NAME, &[]) {
            let unknown = row.has(Schedules::STATE) && !row.is_here(Schedules::STATE) && later(&row, Schedules::NEXT_RUN);
            if row.outside <= ROW && (unknown || is_wrong(&row)) {
                suspects.push(row.tid);
            }
        }
    });
    let mut all = true;
    if suspects.is_empty() {
        return Ok(all);
    }
    let Some(table) = tenant.try_open(tenant.schedule, Access::Write)? else { return Ok(false) };
    let table = table.fetch_at_most(ROW);
    for tid in suspects {
        let Some(row) = &table.fetch(tid) else { continue };
        if !is_wrong(row) || row.get(Schedules::ENABLED) != Some(true) || row.get(Schedules::REPEATS) == Some(0) {
            continue;
        }
        // A tick or somebody else is just there.
        if !row_lock::try_lock(&table, row) {
            all = false;
            continue;
        }
        // A broken one waits for whoever mends it.
        let Ok(schedule) = Schedule::of(tenant, row) else { continue };
        let stored = row.get(Schedules::NEXT_RUN);
        let mut state = schedule.state.clone();
        let released = state.released.is_some();
        let waiting_for = if released { state.planned } else { stored };
        let new = replan(&schedule.plan(), waiting_for.map(instant), row.get(Schedules::LAST_RUN).map(instant), instant(now));
        if new.is_none() && !(released && stored.is_some_and(|t| t > to_come)) {
            continue;
        }
        let mut next = waiting_for;
        let mut anchor = schedule.anchor;
        if let Some(new) = new {
            next = Some(At::from(new.next));
            anchor = At::from(new.anchor);
            // The times that come again are other ones than those that were.
            state.clock += 1;
        }
        if released {
            state.planned = next;
            next = Some(now);
        }
        let document = state.document();
        let set = [Schedules::NEXT_RUN.to(next), Schedules::ANCHOR.to(anchor), Schedules::STATE.to(document.as_ref())];
        // It is locked.
        let _: Write = table.update(row, &set);
    }
    Ok(all)
}
