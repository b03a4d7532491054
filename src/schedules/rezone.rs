//! Schedules without a zone of their own when the tenant's zone changes, or the server's: what they wait for is
//! a time on other clocks then.

use crate::postgres::caught::Failure;
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table, Write};
use crate::postgres::row::{Row, Tid};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{clock, row_lock, sandbox, transaction};
use crate::pure::schedule::zone::parse_zone;
use crate::pure::time::{At, instant};
use crate::schedules::follow::Notes;
use crate::schedules::row::{ROW, Schedule};
use crate::tenant::columns::Schedules;
use crate::tenant::{self, Tenant, records};
use chrono::TimeDelta;
use chrono_tz::Tz;
use pgrx::Spi;

/// From which zone to which.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Move {
    old: Tz,
    new: Tz,
}

impl Move {
    /// None: there is nothing to plan anew.
    pub fn of(old: &str, new: &str) -> Option<Move> {
        let (old, new) = (parse_zone(old).ok()?, parse_zone(new).ok()?);
        (old != new).then_some(Move { old, new })
    }
}

/// By whoever changes the tenant's zone, in the same transaction.
pub fn tenant_moved(tenant: &Tenant, to: Move) -> Result<()> {
    // Where its tables aren't as they were made nothing fires anyway; what is to be said of the tenant can be said.
    let Ok(table) = tenant.open(tenant.schedule, Access::Write) else { return Ok(()) };
    let table = table.fetch_at_most(ROW);
    for tid in candidates(&table) {
        let Some(name) = table.fetch(tid).and_then(|row| row.text(Schedules::NAME)) else { continue };
        crate::schedules::follow::change(&table, &name, |row| {
            let (next, state) = planned_anew(tenant, row, to)?;
            Some(crate::schedules::follow::Rewrite { state, columns: vec![Schedules::NEXT_RUN.to(next)] })
        })?;
    }
    Ok(())
}

/// By a sweep, in a transaction of its own. False: somebody holds the table, or one of its rows.
pub fn server_moved(tenant: &Tenant, to: Move) -> std::result::Result<bool, Failure> {
    if tenant.timezone.is_some() {
        return Ok(true);
    }
    let Some(table) = tenant.try_open(tenant.schedule, Access::Write)? else { return Ok(false) };
    let table = table.fetch_at_most(ROW);
    let mut all = true;
    for tid in candidates(&table) {
        let Some(row) = table.fetch(tid) else { continue };
        let Some((next, state)) = planned_anew(tenant, &row, to) else { continue };
        if !row_lock::try_lock(&table, &row) {
            all = false;
            continue;
        }
        let document = state.document();
        // It is locked.
        let _: Write = table.update(&row, &[Schedules::NEXT_RUN.to(next), Schedules::STATE.to(document.as_ref())]);
    }
    Ok(all)
}

/// Rows that wait for a fire time and have no zone of their own: only their places, for there may be very many.
fn candidates(table: &Table<Schedules>) -> Vec<Tid> {
    let is_one = |row: &Row<Schedules>| !row.has(Schedules::TZ) && row.outside <= ROW;
    table.fetching_at_most(0, || table.scan(&Schedules::DUE, &[]).filter(is_one).map(|row| row.tid).collect())
}

/// None: it waits for the same instant in both zones, or for one that somebody has chosen by hand; or it is
/// due, and planned anew when it has been served.
fn planned_anew(tenant: &Tenant, row: &Row<Schedules>, to: Move) -> Option<(At, Notes)> {
    if row.get(Schedules::ENABLED) != Some(true) || row.get(Schedules::REPEATS) == Some(0) {
        return None;
    }
    let now = instant(clock::now());
    let mut schedule = Schedule::of(tenant, row).ok()?;
    let mut state = schedule.state.clone();
    let waiting_for = instant(if state.released.is_some() { state.planned? } else { row.get(Schedules::NEXT_RUN)? });
    schedule.zone = to.old;
    if waiting_for <= now || schedule.plan().next_after(waiting_for - TimeDelta::microseconds(1)) != Some(waiting_for) {
        return None;
    }
    schedule.zone = to.new;
    let next = At::from(schedule.plan().next_after(now).filter(|next| *next != waiting_for)?);
    Some(match state.released {
        Some(released) => {
            state.planned = Some(next);
            (released, state)
        }
        None => (next, state),
    })
}

/// The zone that schedules of tenants without one were last planned by; None: nobody has noted it yet.
pub fn noted_zone() -> Result<Option<String>> {
    sandbox::as_extension(|| {
        Spi::connect(|c| {
            let mut rows = c.select("SELECT pg_catalog.max(timezone) FROM tenant_q.identity", Some(1), &[])?;
            rows.next().map_or(Ok(None), |row| row.get::<String>(1))
        })
    })
    .map_err(|e: pgrx::spi::Error| Error::new(SqlState::INTERNAL_ERROR, e.to_string()))
}

/// All tenants' schedules have been planned by this zone.
pub fn note_zone(zone: &str) -> std::result::Result<(), Failure> {
    records::run("UPDATE tenant_q.identity SET timezone = $1 WHERE timezone IS DISTINCT FROM $1", &[zone.into()])?;
    transaction::see_own_writes();
    Ok(())
}

/// How all tenants without a zone of their own have moved since the last sweep; and the zone that it is now.
pub fn since_last_sweep() -> Result<(Option<Move>, String)> {
    let now = tenant::default_zone();
    Ok((noted_zone()?.and_then(|noted| Move::of(&noted, &now)), now))
}
