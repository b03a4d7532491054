//! Waiting rows that nobody has let go: after a crash between the two steps of `park::wait`, a restore, a change of limits, or
//! where rows were deleted by hand that they wait for. Looked at when a sweep, or whoever has changed something, asks for it.

use crate::handler;
use crate::postgres::caught::Failure;
use crate::postgres::relation::{Access, Table, Write};
use crate::postgres::row::Row;
use crate::postgres::{row_lock, transaction};
use crate::pure::ids::Id;
use crate::pure::state::Stored;
use crate::pure::time::At;
use crate::task::options::Options;
use crate::tenant::columns::Tasks;
use crate::tenant::{self, Tenant};
use crate::waits::{astray, depend, gate, link};
use crate::work::complete;
use crate::work::park::{ROWS, key_of, rows_after};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// After so long of mending flows whoever else waits for this executor has a turn before the next ones.
const STEP: Duration = Duration::from_millis(100);

/// Goes over all rows of a state, in transactions of their own; `f` says whether somebody is just changing one. Nothing of
/// theirs is fetched that takes more than `bytes` out of line.
fn each(
    tenant: &Rc<Tenant>,
    state: Stored,
    bytes: usize,
    mut f: impl FnMut(&Rc<Tenant>, &Table<Tasks>, Row<Tasks>) -> Result<bool, Failure>,
) -> Result<bool, Failure> {
    let mut in_flux = false;
    let mut from: Option<(i16, At, Id)> = None;
    loop {
        let next = transaction::run(|| {
            let Ok(tenant) = &tenant::by_oid(tenant.oid) else { return Ok(None) };
            let table = tenant.open(tenant.task, Access::Write)?;
            pgrx::check_for_interrupts!();
            let rows = table.fetching_at_most(bytes, || rows_after(&table, state, from));
            let last = (rows.len() == ROWS).then(|| key_of(&rows[ROWS - 1]));
            for row in rows {
                in_flux |= f(tenant, &table, row)?;
            }
            Ok(last)
        })?;
        match next {
            Some(_) => from = next,
            None => return Ok(in_flux),
        }
    }
}

/// Lets go of rows of this state whose wait is over. True: somebody is just changing one of them.
pub fn let_go(tenant: &Rc<Tenant>, state: Stored) -> Result<bool, Failure> {
    // As many at each gate as would have stayed in place: the end of each lets another one in.
    let mut let_in: HashMap<Id, usize> = HashMap::new();
    each(tenant, state, usize::MAX, |tenant, table, row| {
        let over = match row.get(Tasks::WAITS_FOR) {
            Some(gate) if state == Stored::Gated => {
                let handler = handler::find(tenant, row.get(Tasks::HANDLER).unwrap_or(""))?;
                let there_is = gate::of(tenant, &row, handler.as_deref()).iter().any(|other| other.key == gate);
                // Where the gate has gone nobody ends a task of it any more.
                let count = let_in.entry(gate).or_default();
                *count += 1;
                !there_is || *count <= gate::IN_PLACE
            }
            _ if state != Stored::Waiting => true,
            // One of several: its conditions tell.
            None if Options::of(&row).any => true,
            _ => astray::is_over(table, &tenant.open(tenant.result, Access::Read)?, &row),
        };
        if over && !row.in_flux {
            if state == Stored::Waiting {
                astray::note_gone(table, &tenant.open(tenant.result, Access::Read)?, &row);
            }
            // Wakes the entry of its handler's role, which may be another one.
            let waits_for = row.get(Tasks::WAITS_FOR);
            depend::let_go(tenant, table, row, waits_for)?;
            return Ok(false);
        }
        Ok(over)
    })
}

/// Ends flows that wait for members of which no row is left, or lets them wait for fewer; and takes links away that nobody
/// asks any more.
pub fn flows(tenant: &Rc<Tenant>) -> Result<bool, Failure> {
    let lacking = transaction::run(|| {
        let Ok(tenant) = tenant::by_oid(tenant.oid) else { return Ok(vec![]) };
        Ok(astray::lacking_members(&tenant.open(tenant.task, Access::Read)?.fetch_at_most(0)))
    })?;
    let began = Instant::now();
    let mut in_flux = false;
    for flow in lacking {
        in_flux |= began.elapsed() > STEP || transaction::run(|| mend(tenant, flow))?;
    }
    each(tenant, Stored::Link, 0, |tenant, table, row| {
        let of = row.get(Tasks::WAITS_FOR);
        if table.find(Tasks::ID.equals(link::dependent_of(&row))).is_none()
            && of.is_none_or(|of| tenant.open(tenant.result, Access::Read).is_ok_and(|results| astray::is_gone(table, &results, of)))
        {
            // Lost: somebody else has just done it.
            let _: Write = table.delete(&row);
        }
        Ok(false)
    })?;
    Ok(in_flux)
}

/// Counts a flow's members anew. True: somebody is just changing it.
fn mend(tenant: &Rc<Tenant>, flow: Id) -> Result<bool, Failure> {
    let table = tenant.open(tenant.task, Access::Write)?;
    let found = transaction::with_latest_snapshot(|| table.find(Tasks::ID.equals(flow)));
    let Some(row) = found.filter(|row| row.letter(Tasks::STATE) == Stored::Waiting) else { return Ok(false) };
    // From here on no member's end counts it down: those that have are committed, and seen as such.
    if row.in_flux || !row_lock::try_lock(&table, &row) {
        return Ok(true);
    }
    let awaited = row.get(Tasks::WAITS).unwrap_or(0);
    let mut looks = usize::MAX;
    let lost = transaction::with_latest_snapshot(|| astray::lost_members(&table, &row, &mut looks)) as i32;
    if lost == 0 {
        return Ok(false);
    }
    // The last of them is counted down as if it had ended just now.
    let left = (awaited - lost).max(0);
    if table.update(&row, &[Tasks::WAITS.to(left.max(1))]) == Write::Done && left == 0 {
        complete::end_flows(tenant, &table, Some(flow), 1)?;
    }
    Ok(false)
}
