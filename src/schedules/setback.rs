//! Schedules whose next fire time was computed by a clock that has been set back since. Sweeps look at
//! all rows, so that it doesn't matter who was running when the clock was set; the launcher asks for one
//! when it sees that.

use crate::postgres::caught::Failure;
use crate::postgres::relation::{Access, Gone, Row, Tid, Value};
use crate::postgres::{clock, row_lock};
use crate::pure::schedule::setback::{UNNOTICED, replan};
use crate::pure::time::{instant, micros};
use crate::schedules::follow::State;
use crate::schedules::row::{ROW, Schedule};
use crate::tenant::Tenant;
use crate::tenant::columns::scol;

/// What is wrong with a row after the clock was set back is in its own times; mends it. In a
/// transaction of its own. False: somebody holds the table, or one of its rows.
pub fn mend(tenant: &Tenant) -> Result<bool, Failure> {
    let Some(table) = tenant.try_open(tenant.schedule, Access::Read)? else { return Ok(false) };
    let now = clock::now();
    let to_come = now + UNNOTICED.num_microseconds().expect("seconds");
    let later = |row: &Row, column| row.time(column).is_some_and(|t| t > to_come && t != i64::MAX);
    let is_wrong = |row: &Row| {
        later(row, scol::LAST_RUN) || later(row, scol::ANCHOR) || later(row, scol::NEXT_RUN) && State::of(row).released.is_some()
    };
    // Only their places, and nothing that is stored outside is fetched: there may be very many.
    let mut suspects: Vec<Tid> = Vec::new();
    table.fetching_at_most(0, || {
        table.scan(table.index_with(&[scol::NAME as i16]), &[], None, false, |row| {
            let unknown = row.raw(scol::STATE).is_some() && !row.is_here(scol::STATE) && later(&row, scol::NEXT_RUN);
            if row.outside <= ROW && (unknown || is_wrong(&row)) {
                suspects.push(row.tid);
            }
            true
        })
    });
    let mut all = true;
    if suspects.is_empty() {
        return Ok(all);
    }
    let Some(table) = tenant.try_open(tenant.schedule, Access::Write)? else { return Ok(false) };
    let table = table.fetch_at_most(ROW);
    for tid in suspects {
        let Some(row) = &table.fetch(tid) else { continue };
        if !is_wrong(row) || row.bool(scol::ENABLED) != Some(true) || row.i32(scol::REPEATS) == Some(0) {
            continue;
        }
        // A tick or somebody else is just there.
        if !row_lock::try_lock(&table, row) {
            all = false;
            continue;
        }
        // A broken one waits for whoever mends it.
        let Ok(schedule) = Schedule::of(tenant, row) else { continue };
        let stored = row.time(scol::NEXT_RUN);
        let mut state = schedule.state.clone();
        let released = state.released.is_some();
        let waiting_for = if released { state.planned } else { stored };
        let new = replan(&schedule.plan(), waiting_for.map(instant), row.time(scol::LAST_RUN).map(instant), instant(now));
        if new.is_none() && !(released && stored.is_some_and(|t| t > to_come)) {
            continue;
        }
        let mut next = waiting_for;
        let mut anchor = schedule.anchor;
        if let Some(new) = new {
            next = Some(micros(new.next));
            anchor = micros(new.anchor);
            // The times that come again are other ones than those that were.
            state.clock += 1;
        }
        if released {
            state.planned = next;
            next = Some(now);
        }
        let document = state.document();
        let set = [(scol::NEXT_RUN, Value::time(next)), (scol::ANCHOR, Value::Time(anchor)), (scol::STATE, Value::json(document.as_ref()))];
        // It is locked.
        let _: Gone = table.update(row, &set);
    }
    Ok(all)
}
