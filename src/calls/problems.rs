//! SQL: what stops, waits or is skipped, with the call that mends it: tq_problems.
//!
//! Of the database, of each tenant that the caller sees, of all tenants, of the server. What a tenant's rows say is told only
//! to those who may read its tables, and to pg_monitor: names, ids and messages, never arguments or results.

pub mod reasons;
mod tenants;
pub(crate) mod workers;

use crate::calls::views;
use crate::handler::listening;
use crate::postgres::call::{Args, Ret};
use crate::postgres::error::Result;
use crate::postgres::{catalog, clock, shmem, worker};
use crate::pure::fix;
use crate::pure::ids::Id;
use crate::pure::shares::Owner;
use crate::pure::time::{At, Span};
use crate::pure::word::{SlotState, Word};
use crate::shared::slot::{self, Slot};
use crate::shared::text::load_text;
use crate::shared::{self, Shared, cooldown, share};
use crate::task::document::time_json;
use crate::tenant::{Tenant, rights};
use crate::{settings, sql_functions};
use pgrx::spi::quote_literal;
use reasons::Because;
use serde_json::{Value as Json, json};

/// Executors in a row that have ended while they ran this task, by what the entries of its tenant know.
pub(crate) fn ends_of(tenant: &Tenant, id: Id) -> u32 {
    let Some(s) = shared::get() else { return 0 };
    views::entries(&s, tenant.oid).iter().flat_map(|e| cooldown::of(e)).filter(|h| h.id == id).map(|h| h.ends).max().unwrap_or(0)
}

/// What is said of that.
pub(crate) fn ends_text(ends: u32) -> String {
    let what = if ends == 1 { "1 executor ended while it".into() } else { format!("{ends} executors in a row ended while they") };
    format!("{what} ran this task: not counted, it runs again; {} in a row count as a failed attempt", crate::shared::culprits::ENDS)
}

/// Tables of shared memory that were full lately, and who has last lost something by it.
pub fn full(s: &Shared) -> impl Iterator<Item = (share::Kind, Owner)> {
    let now = clock::now();
    share::KINDS.into_iter().filter_map(move |kind| Some((kind, s.header.pressure[kind as usize].told(kind, now)?)))
}

/// A sentence as the end of another one; SQL stays as it is.
pub fn lower_case(sentence: &str) -> String {
    let mut chars = sentence.chars();
    if sentence.chars().nth(1).is_some_and(char::is_uppercase) {
        return sentence.into();
    }
    chars.next().map_or(String::new(), |first| first.to_lowercase().chain(chars).collect())
}

fn problem(what: String, since: Option<At>, mut why: String, fix: impl Into<Option<String>>) -> Json {
    let fix = fix.into().unwrap_or_default();
    let (fix, words) = fix::parts(&fix);
    if let Some(words) = words {
        why = format!("{why}; {}", lower_case(words.trim_end_matches('.')));
    }
    json!({ "what": what, "since": time_json(since), "reason": why, "fix": fix })
}

/// The row of a reason, if it is one that something is to be done about.
fn row_of(what: String, because: Because) -> Option<Json> {
    because.reason.told().is_problem.then(|| problem(what, because.since, because.text, because.fix))
}

/// tenant_q.problems(): rows of tq_problems: what is skipped, why, and the call that mends it.
fn problems(_args: &Args) -> Result<Ret> {
    let shared = shared::get();
    let mut rows = Vec::new();
    let pauses = reasons::pauses()?;
    rows.extend(reasons::of_all(&pauses)?.into_iter().filter_map(|because| row_of(because.what(), because)));
    let by_tenant = shared.as_ref().map(views::all_entries).unwrap_or_default();
    let tenants = rights::visible_tenants()?;
    for l in listening::unregistered(tenants.iter().map(|t| t.name.clone()).collect())? {
        let why = format!("it listens to {}, and is not registered", l.to);
        let what = format!("listener {} of tenant {}", l.handler, l.tenant);
        rows.push(problem(what, None, why, fix::noted(&l.end, "or register it again")));
    }
    for tenant in tenants {
        let entries = by_tenant.get(&tenant.oid).map_or(&[][..], |entries| entries);
        let its: Vec<_> = pauses.iter().filter(|pause| pause.tenant == tenant.name).collect();
        tenants::tenant_rows(shared.as_ref(), &tenant, entries, &its, &mut rows)?;
        if let Some(s) = &shared {
            workers::rows(s, tenant.oid, &mut rows);
        }
    }
    let everywhere = rights::sees_all();
    let conditions = if everywhere { crate::calls::tables::conditions::problems()? } else { vec![] };
    for (what, reason, fix) in crate::calls::fanout::problems()?.into_iter().chain(conditions) {
        rows.push(problem(what, None, reason, fix));
    }
    if let Some(s) = &shared {
        rows.extend(held_places(s));
        rows.extend(unstoppable(s));
        if everywhere {
            full_tables(s, &mut rows);
            roles(s, &mut rows);
        }
    }
    Ok(Ret::Json(rows.into()))
}

/// Of the whole server.
fn full_tables(s: &Shared, rows: &mut Vec<Json>) {
    for (kind, whose) in full(s) {
        let pressure = &s.header.pressure[kind as usize];
        let whose = Some(whose).filter(|o| o.is_here()).and_then(|o| catalog::schema_name(o.tenant()));
        rows.push(problem(
            "the server".into(),
            Some(pressure.at.load()),
            format!(
                "the table of {} is full: {}; {} places were missing so far, last for tenant {}",
                kind.name(),
                kind.consequence(),
                pressure.lost.load(),
                whose.as_deref().unwrap_or("of another database")
            ),
            kind.remedy(),
        ));
    }
}

/// Roles whose executors don't start.
fn roles(s: &Shared, rows: &mut Vec<Json>) {
    for r in s.roles.iter().take_while(|r| r.in_use.load() == 1) {
        let failures = r.start_failures.load();
        if failures > 0 && r.database.load() == shmem::my_database() {
            let name = catalog::role_name(r.role.load()).unwrap_or_else(|| r.role.load().to_string());
            rows.push(problem(
                format!("role {name}"),
                Some(r.failing_since.load()),
                format!("its executors could not start, {failures} times; the server's log says why"),
                fix::by_hand("the role needs LOGIN (before PostgreSQL 17), CONNECT on this database, and no setting that keeps its sessions from starting (pg_db_role_setting)"),
            ));
        }
    }
}

/// Somebody waits for so long that it isn't only for his turn.
const WAITS_LONG: Span = Span::of_secs(3);

/// Who holds the places that a role has been waiting for.
fn held_places(shared: &Shared) -> Vec<Json> {
    let now = clock::now();
    let waiting: Vec<At> = (shared.roles.iter().take_while(|r| r.in_use.load() == 1))
        .map(|r| r.waiting_since.load())
        .filter(|since| *since > At::UNSET && now - *since > WAITS_LONG)
        .collect();
    let Some(first) = waiting.iter().min() else { return vec![] };
    let (max, seconds) = (settings::max_executors(shmem::max_worker_processes()), (now - *first) / Span::SECOND);
    let why = match waiting.len() {
        1 => format!("of {max} places, while a role has waited for one for {seconds} s"),
        n => format!("of {max} places, while {n} roles wait for one, the first for {seconds} s"),
    };
    let all = rights::sees_all();
    let mut rows = Vec::new();
    for slot in shared.slots {
        let (word, since) = (Word::load(slot), slot.started_at.load());
        if slot.state.load() != SlotState::Working || !word.running || since == At::UNSET || now - since < WAITS_LONG {
            continue;
        }
        if slot.database.load() != shmem::my_database() {
            if let Some(name) = worker::database_name(slot.database.load()).filter(|_| all) {
                rows.push(problem(
                    format!("database {name}"),
                    Some(since),
                    format!("a task of it holds one {why}"),
                    fix::by_hand("SELECT * FROM tq_problems, in that database"),
                ));
            }
            continue;
        }
        let schema = slot.tenant.load();
        let Some(name) = catalog::schema_name(schema) else { continue };
        if !(all || catalog::schema_owner(schema).is_some_and(rights::sees)) {
            continue;
        }
        rows.push(problem(
            format!("tenant {name}"),
            Some(since),
            format!("a task of its handler {} holds one {why}", load_text(&slot.handler)),
            format!("SELECT tq_cancel('{}', tenant => {})", slot.item_id(word.next - 1), quote_literal(&name)),
        ));
    }
    rows
}

/// Tasks that are over their time, or cancelled, in calls that heed nothing.
fn unstoppable(shared: &Shared) -> Vec<Json> {
    let all = rights::sees_all();
    let of_this_database = |slot: &&Slot| slot::is_lost(slot) && slot.database.load() == shmem::my_database();
    let row = |slot: &Slot| {
        let (word, schema) = (Word::load(slot), slot.tenant.load());
        let name = catalog::schema_name(schema).filter(|_| all || catalog::schema_owner(schema).is_some_and(rights::sees))?;
        let handler = load_text(&slot.handler);
        let id = slot.item_id(word.next.checked_sub(1)?);
        Some(problem(
            format!("task {id} ({handler}) of tenant {name}"),
            Some(slot.started_at.load()),
            format!(
                "process {} was told to end and doesn't: it is in a call that heeds no interrupt. Its place is another one's \
                 meanwhile; nothing the attempt has done will stay",
                slot.pid.load()
            ),
            fix::noted(
                &format!("SELECT tq_pause({}, handler => {})", quote_literal(&name), quote_literal(&handler)),
                "keeps more of them from starting; this one ends when its call returns, or with the server",
            ),
        ))
    };
    shared.slots.iter().filter(of_this_database).filter_map(row).collect()
}

sql_functions! {
    tenant_q_problems, pg_finfo_tenant_q_problems => problems;
}
