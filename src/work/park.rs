//! Rows that can't run for a reason of their own are parked: their state says `h` (held), which
//! puts them out of the run of rows that picks walk. What held them wakes the tenant again.

use crate::handler::{self, notes};
use crate::postgres::caught::{self, Failure};
use crate::postgres::relation::{Access, Table, Write};
use crate::postgres::row::Row;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{clock, transaction};
use crate::pure::ids::Id;
use crate::pure::state::{Ended, Stored};
use crate::pure::time::{At, Span};
use crate::pure::word::{SlotState, Unpark};
use crate::settings;
use crate::shared::slot::Item;
use crate::shared::{Shared, blocked, ready};
use crate::task::place::{self, Place};
use crate::tenant::columns::Tasks;
use crate::tenant::{self, Tenant};
use crate::waits::depend::{self, Answer};
use crate::waits::{gate, turn};
use crate::work::look::Wait;
use crate::work::{complete, review};
use std::collections::HashSet;
use std::rc::Rc;

/// How often tasks are looked at that wait for a role to be granted.
const ROLE_RECHECK: Span = Span::MINUTE;
/// After that rows are looked at again that somebody is changing.
const IN_FLUX_AGAIN: Span = Span::SECOND;
/// Rows of one transaction.
pub(super) const ROWS: usize = 500;

/// Parks these rows and notes when to look at them again.
///
/// In this order: note first, park then, look once more. Whatever ends the reason either finds the
/// note and wakes the tenant, or came before the last look, which sees that the reason is gone.
pub fn park(shared: &Shared, index: u32, tenant: &Rc<Tenant>, items: &[Item]) -> Result<(), Failure> {
    let now = clock::now();
    let grace = Span::from(settings::handler_grace());
    transaction::run(|| {
        let mut again = At::NEVER;
        for pause in &tenant.pauses {
            again = again.min(pause.until);
        }
        for handler in handler::all(tenant)?.iter().filter(|handler| handler.fault.is_some()) {
            notes::note_missing(tenant, handler)?;
            again = again.min(handler.missing_since.unwrap_or(now) + grace);
            if matches!(handler.fault, Some(handler::Fault::Role { .. })) {
                // No event tells of a role's grants.
                again = again.min(now + ROLE_RECHECK);
            }
        }
        // A name that nobody registered (any more) has no row to note it in: its tasks wait for
        // the grace time from now.
        again = again.min(now + grace);
        look_again(shared, index, again.max(now + Span::of_secs(1)));
        Ok(())
    })?;
    let mut names = Vec::new();
    for chunk in items.chunks(ROWS) {
        names.extend(transaction::run(|| complete::park(tenant, chunk))?);
    }
    names.sort();
    names.dedup();
    transaction::run(|| {
        let tenant = tenant::by_oid(tenant.oid)?;
        for name in &names {
            let callable = handler::find(&tenant, name)?.is_some_and(|handler| handler.fault.is_none() && !handler.quarantined);
            // Queues are paused too: a pause of any part is taken for one of these rows'.
            if callable
                && tenant.pauses.iter().all(|pause| pause.until <= clock::now() || !pause.handler.is_empty() && pause.handler != *name)
            {
                shared.entries[index as usize].unpark.store(Unpark::Asked);
            }
        }
        Ok(())
    })
}

/// Writes down what these due rows wait for, then looks once more whether it has ended meanwhile.
pub fn wait(shared: &Shared, index: u32, tenant: &Rc<Tenant>, rows: &[(Row<Tasks>, Wait)]) -> Result<(), Failure> {
    let entry = &shared.entries[index as usize];
    // If this process goes before its second look, whoever picks next looks at all that wait. A value
    // of its own, so that taking it back takes back nobody else's word.
    entry.unpark.change(Unpark::No, Unpark::Unsure);
    let mut tasks = Vec::new();
    let mut gates = Vec::new();
    let mut moved = HashSet::new();
    for chunk in rows.chunks(ROWS) {
        transaction::run(|| {
            let table = tenant.open(tenant.task, Access::Write)?;
            for (picked, wait) in chunk {
                // Where it lay then another row may lie by now.
                let found = table.find(Tasks::ID.equals(picked.get(Tasks::ID).unwrap_or_default()));
                let same = |row: &Row<Tasks>| {
                    row.get(Tasks::CREATED_AT) == picked.get(Tasks::CREATED_AT) && row.letter(Tasks::STATE).is_runnable()
                };
                let Some(row) = found.filter(same) else { continue };
                match wait {
                    Wait::Tasks(answer) => {
                        match answer {
                            Answer::Wait(on) => tasks.push(*on),
                            Answer::WaitAny(several) => tasks.extend(several),
                            _ => {}
                        }
                        depend::write_waits(&table, &row, answer);
                        no_longer_due(tenant, &table, &row)?;
                    }
                    Wait::Gate(gate, first) => {
                        gates.push((*gate, *first));
                        gate::put_aside(&table, &row, *gate);
                    }
                    Wait::Turn => {
                        // Lost: somebody else has just changed or ended it.
                        moved.extend(move_to_its_place(tenant, &table, &row)?);
                    }
                }
            }
            Ok(())
        })?;
    }
    tasks.sort_unstable();
    tasks.dedup();
    gates.sort_unstable();
    gates.dedup();
    let soon = transaction::run(|| {
        let table = tenant.open(tenant.task, Access::Write)?;
        Ok(depend::look_again(tenant, &table, &tasks)? | gate::look_again(shared, tenant, &table, &gates)?)
    })?;
    entry.unpark.change(Unpark::Unsure, Unpark::No);
    if soon {
        ready::due(shared, index, clock::now() + Span::of_millis(50));
    }
    // There may be more behind them; what was moved is found where looks have passed by already.
    ready::wake(shared, index, if moved.is_empty() { At::NEVER } else { At::LOWEST });
    let entries = transaction::run(|| moved.into_iter().map(|role| Ok(tenant.entry(role)?)).collect::<Result<Vec<_>, Failure>>())?;
    for entry in entries.into_iter().flatten().filter(|entry| entry.index != index) {
        shared.reach(entry, |index| ready::wake(shared, index, At::LOWEST));
    }
    Ok(())
}

/// Puts a row into the run that it belongs in; the role whose business it is there. None: somebody else has just changed or
/// ended it.
fn move_to_its_place(tenant: &Tenant, table: &Table<Tasks>, row: &Row<Tasks>) -> Result<Option<u32>, Failure> {
    let handler = handler::find(tenant, row.get(Tasks::HANDLER).unwrap_or(""))?;
    let place = Place::of_row(tenant, row, row.get(Tasks::QUEUE), handler.as_deref())?;
    let done = table.update(row, &place.changes()) == Write::Done;
    Ok(done.then(|| place::role(tenant, place.state, handler.as_deref())))
}

/// The row stood in place at its gates, perhaps for others who were put aside behind it.
fn no_longer_due(tenant: &Tenant, table: &Table<Tasks>, row: &Row<Tasks>) -> Result<(), Failure> {
    let handler = handler::find(tenant, row.get(Tasks::HANDLER).unwrap_or(""))?;
    gate::release(tenant, table, row, handler.as_deref())
}

fn look_again(shared: &Shared, index: u32, at: At) {
    let entry = &shared.entries[index as usize];
    let before = entry.unpark_at.load();
    // One that is past is about to be taken up.
    if before <= clock::now() || at < before {
        entry.unpark_at.store(at);
    }
    ready::due(shared, index, at);
}

/// Whether held rows are to be looked at, by this slot's executor: it has taken that on.
pub fn take_unpark(shared: &Shared, place: usize, index: u32) -> bool {
    let unpark = &shared.entries[index as usize].unpark;
    let asked = unpark.load();
    let is_at_it = match asked {
        Unpark::No => return false,
        Unpark::TakenBy(slot) => slot as usize != place && shared.slots[slot as usize].state.load() == SlotState::Working,
        Unpark::Asked | Unpark::Unsure => false,
    };
    !is_at_it && unpark.change(asked, Unpark::TakenBy(place as u32))
}

/// The slot's executor ends: what it had taken on is asked for again.
pub fn leave(shared: &Shared, slot: usize) {
    for (index, entry) in shared.entries.iter().enumerate() {
        if entry.unpark.change(Unpark::TakenBy(slot as u32), Unpark::Asked) {
            ready::wake(shared, index as u32, At::LOWEST);
        }
    }
}

/// Lets go of the held rows that can run again, and ends those held for too long.
pub fn unpark(shared: &Shared, place: usize, index: u32, tenant: &Rc<Tenant>) {
    let role = shared.entries[index as usize].role.load();
    // While some queues take turns, picks find what is in the wrong run; once none does nobody looks there.
    let states: &[Stored] =
        if turn::any(tenant) { &[Stored::Waiting, Stored::Gated] } else { &[Stored::Waiting, Stored::Gated, Stored::Turn] };
    let reviews = states.iter().map(|state| review::let_go(tenant, *state)).chain(std::iter::once_with(|| review::flows(tenant)));
    for reviewed in reviews {
        match reviewed {
            Ok(true) => look_again(shared, index, clock::now() + IN_FLUX_AGAIN),
            Ok(false) => {}
            Err(failure) => {
                caught::log_failure(&format!("{}: waiting tasks could not be looked at", caught::one_line(&tenant.name)), &failure);
                shared.entries[index as usize].unpark.store(Unpark::Asked);
                return ready::block(shared, index, blocked::Reason::Error);
            }
        }
    }
    let mut from: Option<(i16, At, Id)> = None;
    loop {
        let step = transaction::run(|| step(shared, index, tenant, role, from));
        // After the commit: a look before it would find nothing and pass the rows by.
        ready::wake(shared, index, At::LOWEST);
        match step {
            Ok(Some(last)) => from = Some(last),
            Ok(None) => {
                // Unless it was asked for once more meanwhile.
                shared.entries[index as usize].unpark.change(Unpark::TakenBy(place as u32), Unpark::No);
                return;
            }
            Err(failure) => {
                caught::log_failure(&format!("{}: held tasks could not be looked at", caught::one_line(&tenant.name)), &failure);
                shared.entries[index as usize].unpark.store(Unpark::Asked);
                return ready::block(shared, index, blocked::Reason::Error);
            }
        }
    }
}

/// Rows of one state, in the index's order, behind `from`.
pub(super) fn rows_after(table: &Table<Tasks>, state: Stored, from: Option<(i16, At, Id)>) -> Vec<Row<Tasks>> {
    let mut keys = vec![Tasks::STATE.equals(state)];
    // Rows of this priority that were looked at are left out below.
    keys.extend(from.map(|(priority, _, _)| Tasks::PRIORITY.at_most(priority)));
    let is_behind = |row: &Row<Tasks>| {
        let key = key_of(row);
        from.is_none_or(|f| (std::cmp::Reverse(key.0), key.1, key.2) > (std::cmp::Reverse(f.0), f.1, f.2))
    };
    table.scan(&Tasks::PICK, &keys).filter(is_behind).take(ROWS).collect()
}

/// One transaction's worth; where the next one goes on.
fn step(
    shared: &Shared,
    index: u32,
    tenant: &Rc<Tenant>,
    role: u32,
    from: Option<(i16, At, Id)>,
) -> Result<Option<(i16, At, Id)>, Failure> {
    // As it is now: the pick that was asked to do this may have begun before what it is asked for.
    let Ok(tenant) = &tenant::by_oid(tenant.oid) else { return Ok(None) };
    let now = clock::now();
    let table = tenant.open(tenant.task, Access::Write)?;
    let rows = rows_after(&table, Stored::Held, from);
    let grace = Span::from(settings::handler_grace());
    let mut again = At::NEVER;
    let mut others = HashSet::new();
    for row in &rows {
        let name = row.get(Tasks::HANDLER).unwrap_or("");
        let handler = handler::find(tenant, name)?;
        let whose = place::role(tenant, Stored::Held, handler.as_deref());
        if whose != role {
            // Held while its own role could not be had: then it was the owner's, and nobody else has noted when to look.
            let callable = handler.is_some_and(|handler| handler.fault.is_none() && !handler.quarantined);
            if role == tenant.owner && callable && !row.in_flux && tenant.part_paused_until(name, row.get(Tasks::QUEUE), now).is_none() {
                others.insert(whose);
            }
            continue;
        }
        if row.in_flux {
            // Whoever is changing it wakes nobody if that is rolled back.
            again = again.min(now + IN_FLUX_AGAIN);
            continue;
        }
        if let Some(until) = tenant.part_paused_until(name, row.get(Tasks::QUEUE), now) {
            again = again.min(until);
            continue;
        }
        match &handler {
            Some(handler) if handler.quarantined => {}
            Some(handler) if handler.fault.is_none() => {
                notes::note_back(tenant, handler)?;
                others.extend(move_to_its_place(tenant, &table, row)?.filter(|role| *role != whose));
            }
            other => {
                let since =
                    other.as_ref().and_then(|handler| handler.missing_since).unwrap_or_else(|| row.get(Tasks::RUN_AT).unwrap_or(now));
                if now >= since + grace {
                    let why = other
                        .as_ref()
                        .and_then(|handler| handler.fault.as_ref())
                        .map_or("it is not registered".to_string(), |fault| fault.text().to_string());
                    let failure = Failure {
                        detail: Some(why),
                        ..Failure::new(SqlState::UNDEFINED_FUNCTION, format!("handler \"{name}\" can not be called"))
                    };
                    let item = crate::task::lookup::item_of(row);
                    complete::finish_unrun(tenant, &item, Ended::Failed, Some(&failure))?;
                } else {
                    again = again.min(since + grace);
                    if other.as_ref().is_some_and(|handler| matches!(handler.fault, Some(handler::Fault::Role { .. }))) {
                        again = again.min(now + ROLE_RECHECK);
                    }
                }
            }
        }
    }
    if again != At::NEVER {
        look_again(shared, index, again.max(now + Span::of_secs(1)));
    }
    for other in others {
        if let Some(entry) = tenant.entry(other)? {
            shared.reach(entry, |index| {
                shared.entries[index as usize].unpark.store(Unpark::Asked);
                ready::wake(shared, index, At::LOWEST);
            });
        }
    }
    Ok((rows.len() == ROWS).then(|| key_of(&rows[ROWS - 1])))
}

pub(super) fn key_of(row: &Row<Tasks>) -> (i16, At, Id) {
    (row.get(Tasks::PRIORITY).unwrap_or(0), row.get(Tasks::RUN_AT).unwrap_or_default(), row.get(Tasks::ID).unwrap_or_default())
}
