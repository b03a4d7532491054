//! Schedules whose next fire time was computed by a clock that has been set back since. Sweeps look at
//! all rows, so that it doesn't matter who was running when the clock was set; the launcher asks for one
//! when it sees that.

use super::follow::State;
use crate::postgres::caught::Failure;
use crate::postgres::clock;
use crate::postgres::relation::{Access, Gone, Row, Value};
use crate::postgres::row_lock;
use crate::schedule::setback::{UNNOTICED, replan};
use crate::tenant::Tenant;
use crate::tick::{ROW, Schedule, instant, micros, scol};

/// What is wrong with a row after the clock was set back is in its own times; mends it. In a
/// transaction of its own. False: somebody holds the table, or one of its rows.
pub fn mend(tenant: &Tenant) -> Result<bool, Failure> {
    let Some(table) = tenant.try_open(tenant.schedule, Access::Read)? else { return Ok(false) };
    let table = table.fetch_at_most(ROW);
    let now = clock::now();
    let to_come = now + UNNOTICED.num_microseconds().expect("seconds");
    let mut rows: Vec<Row> = Vec::new();
    let mut all = true;
    table.scan(table.index_with(&[scol::NAME as i16]), &[], None, false, |row| {
        if row.outside > ROW {
            return true;
        }
        let later = |column| row.time(column).is_some_and(|t| t > to_come && t != i64::MAX);
        if later(scol::LAST_RUN) || later(scol::ANCHOR) || later(scol::NEXT_RUN) && State::of(&row).released.is_some() {
            rows.push(row);
        }
        true
    });
    if rows.is_empty() {
        return Ok(all);
    }
    let Some(table) = tenant.try_open(tenant.schedule, Access::Write)? else { return Ok(false) };
    for row in rows.iter().filter(|row| row.bool(scol::ENABLED) == Some(true) && row.i32(scol::REPEATS) != Some(0)) {
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
