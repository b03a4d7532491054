//! Pauses that hold something up: what waits behind them.

use super::tenants;
use crate::postgres::error::Result;
use crate::postgres::relation::Access;
use crate::postgres::{catalog, clock, shmem};
use crate::pure::state::Stored;
use crate::settings;
use crate::shared::entry::Entry;
use crate::shared::{self, Shared};
use crate::tenant::columns::{Schedules, Tasks};
use crate::tenant::pauses::Pause;
use crate::tenant::{self, Tenant, rights};
use std::collections::HashMap;

/// Rows of one tenant that are looked at.
const LOOK: usize = 1000;

/// What waits behind a pause, for people; None: nothing does.
fn text(tasks: i64, schedule: bool) -> Option<String> {
    let tasks = match tasks {
        0 => None,
        1 => Some("1 task waits".to_string()),
        n => Some(format!("{n} tasks wait")),
    };
    let schedules = schedule.then(|| "schedules are due".to_string());
    let all: Vec<String> = tasks.into_iter().chain(schedules).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// What waits in this tenant while all of it pauses, or isn't ready.
pub fn behind_all(s: Option<&Shared>, t: &Tenant, entries: &[&Entry]) -> Option<String> {
    // How many is known without counting, but not what somebody has done to the rows by hand.
    let known = s.map_or(0, |s| tenants::waiting(s, t.oid, entries));
    let table = t.try_open(t.task, Access::Read).ok().flatten();
    let is_any = table.is_none_or(|table| table.scan(&Tasks::PICK, &[]).take(LOOK).any(|row| row.letter(Tasks::STATE).is_task()));
    text(if is_any { known } else { 0 }, schedule_is_due(t))
}

fn schedule_is_due(t: &Tenant) -> bool {
    let due = [Schedules::NEXT_RUN.at_most(clock::now())];
    !settings::exclude_schemas().contains(&t.name)
        && t.try_open(t.schedule, Access::Read)
            .ok()
            .flatten()
            .is_some_and(|table| table.scan(&Schedules::DUE, &due).any(|row| row.get(Schedules::ENABLED) != Some(false)))
}

/// What waits in this tenant while this part of it pauses: tasks that picks have found and put aside.
pub fn behind_part(t: &Tenant, pause: &Pause) -> Option<String> {
    let table = t.try_open(t.task, Access::Read).ok()??;
    let held = table.scan(&Tasks::PICK, &[Tasks::STATE.equals(Stored::Held)]).take(LOOK);
    let tasks = held.filter(|row| pause.holds(row.get(Tasks::HANDLER).unwrap_or(""), row.get(Tasks::QUEUE))).count();
    text(tasks as i64, false)
}

/// Tenants that are looked into by whoever asks about all pauses.
const TENANTS: usize = 100;

/// Pauses of tenants that the caller may see, with what waits behind them; and how many there are of tenants beyond those
/// that were looked into.
pub fn with_work(pauses: &[Pause]) -> Result<(Vec<(Pause, String)>, usize)> {
    let s = shared::get();
    let (mut found, mut not_looked) = (Vec::new(), 0);
    let mut looked: HashMap<&str, Option<u32>> = HashMap::new();
    let all = rights::sees_all();
    for pause in pauses.iter().filter(|pause| !pause.is_of_all()) {
        if looked.len() >= TENANTS && !looked.contains_key(pause.tenant.as_str()) {
            not_looked += 1;
            continue;
        }
        let visible = || {
            let oid = catalog::schema_oid(&pause.tenant)?;
            (all || catalog::schema_owner(oid).is_some_and(rights::sees)).then_some(oid)
        };
        let Some(oid) = *looked.entry(pause.tenant.as_str()).or_insert_with(visible) else { continue };
        let Ok(t) = tenant::by_oid(oid) else { continue };
        let waits = if pause.is_whole() {
            let entries: Vec<&Entry> =
                s.iter().flat_map(|s| s.entries_of(shmem::my_database(), oid).map(|index| &s.entries[index as usize])).collect();
            behind_all(s.as_ref(), &t, &entries)
        } else {
            behind_part(&t, pause)
        };
        found.extend(waits.map(|waits| (pause.clone(), waits)));
    }
    Ok((found, not_looked))
}
