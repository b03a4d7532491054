//! What keeps one tenant, by the registry and shared memory alone: nobody's tables are opened.

use super::{Because, role_fault};
use crate::calls::problems;
use crate::postgres::{catalog, clock, shmem};
use crate::pure::rate::{Algorithm, Rate};
use crate::pure::reason::Reason;
use crate::pure::shares::Owner;
use crate::pure::time::At;
use crate::pure::word::{SlotState, Word};
use crate::shared::blocked;
use crate::shared::entry::Entry;
use crate::shared::gauge;
use crate::shared::rates::RateFound;
use crate::shared::{Shared, share};
use crate::task::document::time_json;
use crate::tenant::columns::Tenants;
use crate::tenant::pauses::Pause;
use crate::tenant::rights::Visible;
use pgrx::spi::quote_literal;

/// Tasks of the tenant that run.
pub fn running(s: &Shared, schema: u32) -> usize {
    let its = |slot: &&crate::shared::slot::Slot| {
        slot.state.load() == SlotState::Working
            && slot.tenant.load() == schema
            && slot.database.load() == shmem::my_database()
            && Word::load(slot).running
    };
    s.slots.iter().filter(its).count() + s.claims_of(schema).count()
}

/// Unfinished tasks that don't run, as far as is known.
pub fn waiting(s: &Shared, schema: u32, entries: &[&Entry]) -> i64 {
    (gauge::unfinished(entries) - running(s, schema) as i64).max(0)
}

/// What keeps this tenant, or parts of it, beside what keeps everybody; the decisive one first. `pauses`: its own.
pub fn of_tenant(s: Option<&Shared>, tenant: &Visible, entries: &[&Entry], pauses: &[&Pause]) -> Vec<Because> {
    let Visible { name, oid, owner, row } = tenant;
    let quoted = quote_literal(name);
    if catalog::schema_name(*oid).as_deref() != Some(name) {
        return vec![if catalog::schema_oid(name).is_some() {
            let text = "the registry's row is a copy's: restored, and not confirmed";
            Because::new(Reason::Restored, text, Some("SELECT tq_confirm_copy()".into()))
        } else {
            Because::new(Reason::NoSchema, "its schema does not exist", Some(format!("SELECT tq_detach({quoted})")))
        }];
    }
    let mut found = Vec::new();
    if let Some(text) = row.text(Tenants::SUSPENDED) {
        let because = Because::new(Reason::Suspended, text, Some(format!("SELECT tq_resume({quoted})")));
        found.push(Because { since: row.get(Tenants::SUSPENDED_AT), ..because });
    }
    if row.get(Tenants::READY) == Some(false) {
        found.push(not_ready(name));
    }
    for pause in pauses.iter().filter(|pause| pause.is_whole()) {
        found.push(Because::paused(Reason::Paused, pause));
    }
    let fault = role_fault(*owner, "its owner").map(|(text, fix)| Because::new(Reason::Role, text, fix));
    let fails = || entries.iter().find_map(|entry| starts(s?, entry, *owner));
    found.extend(fault.or_else(fails));
    found.extend(entries.iter().find_map(|entry| blocked(entry)));
    if let Some(s) = s {
        limits(s, tenant, entries, &mut found);
    }
    for pause in pauses.iter().filter(|pause| !pause.is_whole()) {
        found.push(Because::paused(Reason::PausedPart, pause));
    }
    found
}

pub fn not_ready(name: &str) -> Because {
    let fix = format!("SELECT tq_set_tenant({}, ready => true)", quote_literal(name));
    Because::new(Reason::NotReady, "it is not ready: its tasks and schedules wait until its migrations are done", Some(fix))
}

/// What executors have met, and nothing else says.
pub fn blocked(entry: &Entry) -> Option<Because> {
    let since = entry.blocked_since.load();
    let reason = entry.blocked_reason.load();
    let text = reason.text().filter(|_| since > At::UNSET)?;
    let reason = match reason {
        blocked::Reason::Paused | blocked::Reason::NotReady | blocked::Reason::Suspended => return None,
        blocked::Reason::Locked => Reason::Locked,
        blocked::Reason::Broken => Reason::Tables,
        _ => Reason::Blocked,
    };
    Some(Because { since: Some(since), ..Because::new(reason, text, None) })
}

/// Executors of an entry's role don't start.
fn starts(s: &Shared, entry: &Entry, owner: u32) -> Option<Because> {
    let role = s.roles.get(entry.role_index.load() as usize)?;
    let is_its = role.role.load() == entry.role.load() && role.database.load() == shmem::my_database();
    if !is_its || role.start_failures.load() == 0 {
        return None;
    }
    let reason = if entry.role.load() == owner { Reason::Role } else { Reason::Starts };
    let name = catalog::role_name(entry.role.load()).unwrap_or_default();
    let text = format!("executors of role \"{name}\" could not start; the server's log says why");
    Some(Because { since: Some(role.failing_since.load()), ..Because::new(reason, text, None) })
}

/// Its quota, and its place in shared memory.
fn limits(s: &Shared, tenant: &Visible, entries: &[&Entry], found: &mut Vec<Because>) {
    let Visible { name, oid, row, .. } = tenant;
    let waits = || waiting(s, *oid, entries) > 0;
    match row.get(Tenants::MAX_RUNNING) {
        Some(0) => {
            let fix = format!("SELECT tq_set_quota({}, reset => '{{max_running}}')", quote_literal(name));
            found.push(Because::new(Reason::NoneAllowed, "its quota lets none of its tasks run: max_running is 0", Some(fix)));
        }
        Some(max) if running(s, *oid) >= max as usize && waits() => {
            found.push(Because::new(Reason::Limit, format!("{max} of its tasks run, as many as its quota allows (max_running)"), None));
        }
        _ => {}
    }
    if let Some(rate) = row.get(Tenants::RATE).and_then(|rate| Rate::parse(rate, Algorithm::Bucket).ok())
        && let RateFound::Used(level) = s.rate_used(Owner::here(*oid), crate::pure::ids::gate_id("tenant", ""))
        && let Err(at) = rate.admit(level, clock::now())
        && waits()
    {
        let at = time_json(Some(at));
        let text = format!("it is at its quota's rate of {rate}: the next task may start at {}", at.as_str().unwrap_or(""));
        found.push(Because::new(Reason::Rate, text, None));
    }
    if entries.is_empty() && problems::full(s).any(|(kind, _)| kind == share::Kind::Entries) {
        found.push(no_place());
    }
}

pub fn no_place() -> Because {
    let text = "there is no place for the tenant in shared memory: what it has to do waits for sweeps";
    Because::new(Reason::NoPlace, text, Some(share::Kind::Entries.remedy()))
}
