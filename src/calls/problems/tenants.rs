//! What stops, waits or is skipped of one tenant. What its rows say is told only to those who may read its tables, and to pg_monitor.

use super::{ends_text, full, lower_case, problem, row_of};
use crate::calls::problems::reasons::tenants::of_tenant;
use crate::calls::problems::reasons::{Because, paused};
use crate::calls::tenants::check_settings;
use crate::handler;
use crate::postgres::error::Result;
use crate::postgres::relation::{Access, Table};
use crate::postgres::row::Row;
use crate::postgres::{catalog, clock, definition, sandbox};
use crate::pure::fix;
use crate::pure::reason::Reason;
use crate::pure::shares::Owner;
use crate::pure::state::Stored;
use crate::settings;
use crate::shared::entry::Entry;
use crate::shared::{Shared, cooldown, share};
use crate::task::document::time_json;
use crate::tenant::columns::{Schedules, Tasks};
use crate::tenant::pauses::Pause;
use crate::tenant::{self, Tenant, rights, shape};
use pgrx::spi::quote_literal;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::rc::Rc;

/// One tenant, from the registry's row to what its executors have met.
pub fn tenant_rows(
    s: Option<&Shared>,
    tenant: &rights::Visible,
    entries: &[&Entry],
    pauses: &[&Pause],
    rows: &mut Vec<Json>,
) -> Result<()> {
    let rights::Visible { name, oid, .. } = tenant;
    let oid = *oid;
    let what = format!("tenant {name}");
    let (paused, others): (Vec<_>, Vec<_>) = of_tenant(s, tenant, entries, pauses)
        .into_iter()
        .partition(|because| matches!(because.reason, Reason::Paused | Reason::PausedPart));
    let is_there = !others.iter().any(|because| matches!(because.reason, Reason::NoSchema | Reason::Restored));
    // Told below, with who holds them, or what they lack; of the roles of all tenants beside them.
    let elsewhere = |reason| matches!(reason, Reason::Locked | Reason::Tables | Reason::Starts | Reason::NoPlace);
    for because in others.into_iter().filter(|because| !elsewhere(because.reason)) {
        let text = match because.reason {
            Reason::Blocked => format!("{}; it goes on by itself when that is over", because.text),
            _ => because.text.clone(),
        };
        rows.extend(row_of(what.clone(), Because { text, ..because }));
    }
    if !is_there {
        return Ok(());
    }
    match tenant::by_oid(oid) {
        Ok(t) => {
            paused_rows(s, &t, &what, (entries, pauses), paused, rows);
            limit_rows(&t, &what, entries, rows);
            foreign_key_rows(&t, rows);
            index_rows(&t, &what, rows);
            handler_rows(&t, &what, rows)?;
            own_rows(&t, &what, rows);
            if is_told_of(t.task.oid()) {
                interrupted_rows(&t, &what, entries, rows);
            }
        }
        Err(e) => rows.push(problem(what.clone(), None, e.message, e.hint.unwrap_or_default())),
    }
    rows.extend(s.iter().flat_map(|s| crowded(s, Owner::here(oid), &what)));
    Ok(())
}

/// Pauses that hold something up, with what that is.
fn paused_rows(
    s: Option<&Shared>,
    t: &Rc<Tenant>,
    what: &str,
    (entries, pauses): (&[&Entry], &[&Pause]),
    paused: Vec<Because>,
    rows: &mut Vec<Json>,
) {
    // In the order of its pauses: those of all of it first.
    let in_order = pauses.iter().filter(|pause| pause.is_whole()).chain(pauses.iter().filter(|pause| !pause.is_whole()));
    for (pause, because) in in_order.zip(paused) {
        let waits = if pause.is_whole() { paused::behind_all(s, t, entries) } else { paused::behind_part(t, pause) };
        rows.extend(waits.and_then(|waits| row_of(what.into(), Because { text: format!("{}: {waits}", because.text), ..because })));
    }
}

/// Its tables, its quota, and settings that no task can have.
fn limit_rows(t: &Rc<Tenant>, what: &str, entries: &[&Entry], rows: &mut Vec<Json>) {
    match t.try_open(t.task, Access::Read) {
        Ok(Some(_)) => {}
        Ok(None) => {
            let (who, fix) = t.who_locks();
            rows.push(problem(what.into(), None, format!("its tables are locked: {}", lower_case(&who)), fix));
        }
        Err(e) => {
            rows.push(problem(what.into(), None, format!("{}: {}", e.message, e.detail.unwrap_or_default()), e.hint.unwrap_or_default()))
        }
    }
    let counted = || entries.iter().map(|e| e.unfinished.load().max(0)).sum();
    let over = t
        .max_queued
        .map(|max| (max, unfinished_rows(t, max).map_or_else(counted, |rows| if rows > max { rows.max(counted()) } else { rows })));
    if let Some((max, unfinished)) = over.filter(|(max, unfinished)| unfinished > max) {
        rows.push(problem(
            what.into(),
            None,
            format!(
                "it has more than {max} unfinished tasks, its max_queued: nothing more can be enqueued until enough are done. \
                 Rows were inserted past tq_async, or hooks and listeners made them"
            ),
            fix::noted(&format!("SELECT tq_set_quota({}, max_queued => {unfinished})", quote_literal(&t.name)), "or wait"),
        ));
    }
    if let Some(Err(e)) = t.settings.as_ref().map(check_settings) {
        // Those that can be had stay.
        let mut rest = t.settings.clone().unwrap_or_default();
        if let Some(map) = rest.as_object_mut() {
            map.retain(|name, value| check_settings(&serde_json::json!({ name: value })).is_ok());
        }
        let what_then = match rest.as_object().is_some_and(|map| !map.is_empty()) {
            true => format!("settings => {}", quote_literal(rest.to_string())),
            false => "reset => '{settings}'".into(),
        };
        let fix = format!("SELECT tq_set_tenant({}, {what_then})", quote_literal(&t.name));
        rows.push(problem(what.into(), None, format!("its tasks wait: {}", e.message), fix));
    }
}

/// Indexes that its results lack: they were made by an older version, or somebody has dropped them.
fn index_rows(t: &Rc<Tenant>, what: &str, rows: &mut Vec<Json>) {
    let Ok(Some(table)) = Table::try_open_any(t.result.oid(), Access::Read) else { return };
    for statement in shape::missing(t, &table).unwrap_or_default() {
        rows.push(problem(what.into(), None, "an index on its tq_result is missing: what asks for it reads all rows".into(), statement));
    }
}

fn foreign_key_rows(t: &Tenant, rows: &mut Vec<Json>) {
    let foreign_keys = [
        t.try_open(t.task, Access::Read).map(|table| table.map(|table| definition::referring(&table))),
        t.try_open(t.result, Access::Read).map(|table| table.map(|table| definition::referring(&table))),
        t.try_open(t.schedule, Access::Read).map(|table| table.map(|table| definition::referring(&table))),
    ];
    for (relation, found) in t.tables().into_iter().zip(foreign_keys) {
        for (constraint, of) in found.ok().flatten().unwrap_or_default() {
            rows.push(problem(
                format!("foreign key {constraint} of {of}"),
                None,
                format!(
                    "it refers to {}, whose rows tenant_q deletes without regard to it: it may not hold",
                    catalog::qualified_name(relation)
                ),
                format!("ALTER TABLE {of} DROP CONSTRAINT {}", catalog::quote(&constraint)),
            ));
        }
    }
}

fn handler_rows(t: &Rc<Tenant>, what: &str, rows: &mut Vec<Json>) -> Result<()> {
    for h in handler::all(t)? {
        if let Some(fault) = &h.fault {
            rows.push(problem(format!("handler {} of {what}", h.name), h.missing_since, fault.text().into(), h.mend(t, fault)));
        } else if let Some(why) = h.why_quarantined() {
            rows.push(problem(format!("handler {} of {what}", h.name), None, why.into(), h.how_to_free(t)));
        }
    }
    Ok(())
}

/// Whether the caller is told what rows of this table say.
fn is_told_of(relation: u32) -> bool {
    rights::sees_all() || catalog::may_select(relation, sandbox::current_user())
}

/// The same as it concerns one tenant: it has lost something, or holds so much that others might.
fn crowded(s: &Shared, owner: Owner, what: &str) -> Vec<Json> {
    let concerned = full(s).filter_map(|(kind, last)| {
        let (held, places) = match kind {
            share::Kind::Rates => (s.rate_tally.count(owner) as usize, s.rates.len()),
            share::Kind::Stats => (s.stat_tally.count(owner) as usize, s.stats.len()),
            _ => (0, usize::MAX),
        };
        let share = if held > 0 { format!(", of whose {places} places it has {held}") } else { String::new() };
        (last == owner || held > places / 4).then(|| {
            problem(
                what.into(),
                Some(s.header.pressure[kind as usize].at.load()),
                format!("the server's table of {} is full{share}: {}", kind.name(), kind.consequence()),
                kind.remedy(),
            )
        })
    });
    concerned.collect()
}

/// Interruptions in a row of one attempt that are worth a line in tq_problems: one or two are an administrator's doing.
const INTERRUPTIONS_SHOWN: i64 = 3;

/// Tasks whose attempts come to no end, by what entries know of them and their rows say.
fn interrupted_rows(t: &Rc<Tenant>, what: &str, es: &[&Entry], rows: &mut Vec<Json>) {
    let now = clock::now();
    let held: Vec<_> = es.iter().flat_map(|e| cooldown::of(e)).collect();
    let Some(table) = (!held.is_empty()).then(|| t.try_open(t.task, Access::Read).ok().flatten()).flatten() else { return };
    for h in held {
        let Some(row) = table.find(Tasks::ID.equals(h.id)) else { continue };
        let times = crate::work::complete::interruptions_of(&row);
        let reason = if times >= INTERRUPTIONS_SHOWN {
            format!("its attempts were interrupted {times} times in a row, by cancels from outside")
        } else if i64::from(h.ends) >= INTERRUPTIONS_SHOWN {
            ends_text(h.ends)
        } else if h.until > now && h.ends == 0 && times == 0 {
            format!(
                "the end of its last attempt could not be recorded; it runs again at {}",
                time_json(Some(h.until)).as_str().unwrap_or("")
            )
        } else {
            continue;
        };
        let id = h.id.to_string();
        rows.push(problem(
            format!("task {id} ({}) of {what}", row.get(Tasks::HANDLER).unwrap_or("")),
            None,
            reason,
            fix::noted(&format!("SELECT tq_cancel('{id}', tenant => {})", quote_literal(&t.name)), "ends it; the server's log says more"),
        ));
    }
}

/// How many unfinished tasks the table has, by looking: one more than `max` at most. None: that would be too long a look.
fn unfinished_rows(t: &Rc<Tenant>, max: i64) -> Option<i64> {
    const LOOK: i64 = 10_000;
    if max > LOOK {
        return None;
    }
    let table = t.try_open(t.task, Access::Read).ok()??.fetch_at_most(0);
    let (mut count, mut seen) = (0, 0);
    for row in table.scan(&Tasks::PICK, &[]) {
        count += i64::from(row.letter(Tasks::STATE).is_task());
        seen += 1;
        if count > max || seen > 2 * LOOK {
            break;
        }
    }
    Some(count)
}

/// Tasks that are held because nobody has registered their handler.
fn unregistered_rows(t: &Rc<Tenant>, what: &str, table: &Table<Tasks>, rows: &mut Vec<Json>) {
    const LOOK: usize = 1000;
    let mut held: BTreeMap<String, usize> = BTreeMap::new();
    let scan = table.scan(&Tasks::PICK, &[Tasks::STATE.equals(Stored::Held)]);
    for row in scan.take(LOOK) {
        if let Some(name) = row.text(Tasks::HANDLER)
            && !crate::waits::members::is_flow(&name)
        {
            *held.entry(name).or_default() += 1;
        }
    }
    for (name, count) in held {
        if matches!(handler::find(t, &name), Ok(None)) {
            rows.push(problem(
                format!("handler {name} of {what}"),
                None,
                format!("it is not registered, and {count} of its tasks are held (of the first {LOOK} that are)"),
                handler::register(t, &name),
            ));
        }
    }
}

/// Schedules that never fire, since nobody looks for any in this schema.
fn excluded_row(t: &Tenant, what: &str, table: &Table<Schedules>, rows: &mut Vec<Json>) {
    let excluded = settings::exclude_schemas();
    if excluded.contains(&t.name) && table.scan(&Schedules::BY_NAME, &[]).any(|row| row.get(Schedules::ENABLED) == Some(true)) {
        let rest: Vec<String> = excluded.into_iter().filter(|name| *name != t.name).collect();
        rows.push(problem(
            what.into(),
            None,
            "its schedules never fire: the schema is one of tenant_q.exclude_schemas".into(),
            fix::noted(
                &format!("ALTER SYSTEM SET tenant_q.exclude_schemas = {}", quote_literal(rest.join(", "))),
                "then SELECT pg_reload_conf(); or SELECT tq_unschedule(name) FROM tq_schedules",
            ),
        ));
    }
}

/// Quarantined tasks and broken schedules.
fn own_rows(t: &Rc<Tenant>, what: &str, rows: &mut Vec<Json>) {
    if is_told_of(t.task.oid())
        && let Ok(Some(table)) = t.try_open(t.task, Access::Read)
    {
        unregistered_rows(t, what, &table, rows);
        let mut quarantined = table.scan(&Tasks::PICK, &[Tasks::STATE.equals(Stored::Quarantined)]).fuse();
        for row in quarantined.by_ref().take(SHOWN) {
            let id = row.get(Tasks::ID).unwrap_or_default().to_string();
            rows.push(problem(
                format!("task {id} ({}) of {what}", row.get(Tasks::HANDLER).unwrap_or("")),
                None,
                format!("quarantined: the server crashed {} times while it ran", row.get(Tasks::CRASHES).unwrap_or(0)),
                fix::noted(
                    &format!("SELECT tq_requeue('{id}', tenant => {})", quote_literal(&t.name)),
                    &format!("once its handler is mended; or SELECT tq_delete('{id}', {})", quote_literal(&t.name)),
                ),
            ));
        }
        let fix = format!("SELECT * FROM tq_requeue_all(states => '{{quarantined}}', tenant => {})", quote_literal(&t.name));
        rows.extend(and_more(quarantined.count(), "tasks", what, "quarantined".into(), fix));
    }
    if is_told_of(t.schedule.oid())
        && let Ok(Some(table)) = t.try_open(t.schedule, Access::Read)
    {
        excluded_row(t, what, &table, rows);
        let of_row = |row: Row<Schedules>| crate::schedules::trouble::trouble(t, &row).map(|found| (row.text(Schedules::NAME), found));
        let mut broken = table.scan(&Schedules::BY_NAME, &[]).fuse().filter_map(of_row);
        for (name, (text, fix)) in broken.by_ref().take(SHOWN) {
            rows.push(problem(format!("schedule {} of {what}", name.unwrap_or_default()), None, text, fix));
        }
        let fix = fix::by_hand(&format!(
            "they follow here as those before them are mended; {}.tq_schedule has them all",
            catalog::quote(&t.name)
        ));
        rows.extend(and_more(broken.count(), "schedules", what, "they don't fire".into(), fix));
    }
}

/// Tasks, and schedules, of one tenant that have a line each: its owner can make any number of them.
const SHOWN: usize = 1000;

/// The line that counts the rest.
fn and_more(count: usize, of: &str, what: &str, why: String, fix: String) -> Option<Json> {
    (count > 0).then(|| problem(format!("{count} more {of} of {what}"), None, why, fix))
}
