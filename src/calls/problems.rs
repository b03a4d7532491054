//! SQL: what stops, waits or is skipped, with the call that mends it: tq_problems.
//!
//! Of the database, of each tenant that the caller sees, of all tenants, of the server. What a tenant's rows say is told only
//! to those who may read its tables.

use crate::calls::views;
use crate::postgres::call::{Args, Ret};
use crate::postgres::error::Result;
use crate::postgres::relation::Access;
use crate::postgres::{catalog, clock, definition, sandbox, shmem, worker};
use crate::pure::ids::Id;
use crate::pure::shares::Owner;
use crate::pure::state::Stored;
use crate::pure::time::{At, Span};
use crate::pure::word::{SlotState, Word};
use crate::shared::entry::Entry;
use crate::shared::text::load_text;
use crate::shared::{self, Shared, cooldown, share};
use crate::task::document::time_json;
use crate::tenant::columns::{Schedules, Tasks, Tenants};
use crate::tenant::{self, Tenant, rights};
use crate::{handler, settings, sql_functions};
use pgrx::spi::quote_literal;
use serde_json::{Value as Json, json};
use std::rc::Rc;

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
            format!("the server's log says more; SELECT tq_cancel('{id}', tenant => {}) ends it", quote_literal(&t.name)),
        ));
    }
}

/// Tables of shared memory that were full lately, and who has last lost something by it.
pub fn full(s: &Shared) -> impl Iterator<Item = (share::Kind, Owner)> {
    let now = clock::now();
    share::KINDS.into_iter().filter_map(move |kind| Some((kind, s.header.pressure[kind as usize].told(kind, now)?)))
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

/// A sentence as the end of another one.
pub fn lower_case(sentence: &str) -> String {
    let mut chars = sentence.chars();
    chars.next().map_or(String::new(), |first| first.to_lowercase().chain(chars).collect())
}

fn problem(what: String, since: Option<At>, why: String, fix: String) -> Json {
    json!({ "what": what, "since": time_json(since), "reason": why, "fix": fix })
}

/// tenant_q.problems(): rows of tq_problems: what is skipped, why, and the call that mends it.
fn problems(_args: &Args) -> Result<Ret> {
    let shared = shared::get();
    let mut rows = Vec::new();
    database_rows(shared.is_some(), &mut rows)?;
    let by_tenant = shared.as_ref().map(views::all_entries).unwrap_or_default();
    for tenant in rights::visible_tenants()? {
        let entries = by_tenant.get(&tenant.oid).map_or(&[][..], |entries| entries);
        tenant_rows(shared.as_ref(), &tenant, entries, &mut rows)?;
    }
    let everywhere = rights::sees_all();
    let conditions = if everywhere { crate::calls::tables::conditions::problems()? } else { vec![] };
    for (what, reason, fix) in crate::calls::fanout::problems()?.into_iter().chain(conditions) {
        rows.push(problem(what, None, reason, fix));
    }
    if let Some(s) = &shared {
        rows.extend(held_places(s));
        if everywhere {
            full_tables(s, &mut rows);
            roles(s, &mut rows);
        }
    }
    Ok(Ret::Json(rows.into()))
}

/// What keeps everything in this database.
fn database_rows(preloaded: bool, rows: &mut Vec<Json>) -> Result<()> {
    if !preloaded {
        rows.push(problem(
            "the server".into(),
            None,
            "tenant_q is not in shared_preload_libraries: nothing runs".into(),
            "shared_preload_libraries = 'tenant_q' in postgresql.conf, then restart".into(),
        ));
    }
    if !crate::tenant::identity::confirmed()? {
        rows.push(problem(
            "this database".into(),
            None,
            "it is a copy that nobody has confirmed: nothing runs".into(),
            "SELECT tq_confirm_copy()".into(),
        ));
    }
    Ok(())
}

/// One tenant, from the registry's row to what its executors have met.
fn tenant_rows(s: Option<&Shared>, tenant: &rights::Visible, entries: &[&Entry], rows: &mut Vec<Json>) -> Result<()> {
    let rights::Visible { name, oid, owner, row } = tenant;
    let (oid, owner) = (*oid, *owner);
    let what = format!("tenant {name}");
    if catalog::schema_name(oid).as_deref() != Some(name) {
        rows.push(if catalog::schema_oid(name).is_some() {
            problem(what, None, "the registry's row is a copy's: restored, and not confirmed".into(), "SELECT tq_confirm_copy()".into())
        } else {
            problem(what, None, "its schema does not exist".into(), format!("SELECT tq_detach({})", quote_literal(name)))
        });
        return Ok(());
    }
    if let Some(reason) = row.text(Tenants::SUSPENDED) {
        rows.push(problem(what.clone(), row.get(Tenants::SUSPENDED_AT), reason, format!("SELECT tq_resume({})", quote_literal(name))));
    }
    owner_rows(name, owner, &what, rows);
    match tenant::by_oid(oid) {
        Ok(t) => {
            limit_rows(&t, &what, entries, rows);
            foreign_key_rows(&t, rows);
            handler_rows(&t, &what, rows)?;
            own_rows(&t, &what, rows);
            if may_select(t.task.oid()) {
                interrupted_rows(&t, &what, entries, rows);
            }
        }
        Err(e) => rows.push(problem(what.clone(), None, e.message, e.hint.unwrap_or_default())),
    }
    rows.extend(s.iter().flat_map(|s| crowded(s, Owner::here(oid), &what)));
    for e in entries {
        let since = e.blocked_since.load();
        if since > At::UNSET
            && let Some(text) = e.blocked_reason.load().text()
        {
            rows.push(problem(what.clone(), Some(since), text.into(), "it goes on by itself when the reason is gone".into()));
        }
    }
    Ok(())
}

/// No executor can be a session of its owner.
fn owner_rows(name: &str, owner: u32, what: &str, rows: &mut Vec<Json>) {
    let owner_name = catalog::role_name(owner).unwrap_or_default();
    if !worker::NOLOGIN_WORKS && !catalog::may_login(owner) {
        rows.push(problem(
            what.into(),
            None,
            format!("its owner \"{owner_name}\" may not log in, so no executor can be its session"),
            crate::calls::tenants::let_log_in(name, &owner_name),
        ));
    } else if !catalog::may_connect(shmem::my_database(), owner) {
        rows.push(problem(
            what.into(),
            None,
            format!("its owner \"{owner_name}\" may not connect to this database"),
            format!(
                "GRANT CONNECT ON DATABASE {} TO {}",
                catalog::quote(&worker::database_name(shmem::my_database()).unwrap_or_default()),
                catalog::quote(&owner_name)
            ),
        ));
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
    let over = t.max_queued.map(|max| (max, unfinished_rows(t, max).unwrap_or_else(counted)));
    if let Some((max, _)) = over.filter(|(max, unfinished)| unfinished > max) {
        rows.push(problem(
            what.into(),
            None,
            format!(
                "it has more than {max} unfinished tasks, its max_queued: nothing more can be enqueued until enough are done. \
                 Rows were inserted past tq_async, or hooks and listeners made them"
            ),
            format!("SELECT tq_set_quota({}, max_queued => …), or wait", quote_literal(&t.name)),
        ));
    }
    if let Some(Err(e)) = t.settings.as_ref().map(crate::calls::tenants::check_settings) {
        let fix = format!("SELECT tq_set_tenant({}, reset => '{{settings}}')", quote_literal(&t.name));
        rows.push(problem(what.into(), None, format!("its tasks wait: {}", e.message), fix));
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
            rows.push(problem(format!("handler {} of {what}", h.name), h.missing_since, fault.text().into(), fault.fix(t, &h.name)));
        } else if let Some(why) = h.why_quarantined() {
            rows.push(problem(format!("handler {} of {what}", h.name), None, why.into(), h.how_to_free(t)));
        }
    }
    Ok(())
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
                "the role needs LOGIN (before PostgreSQL 17), CONNECT on this database, and no setting that keeps its sessions from starting (pg_db_role_setting)".into(),
            ));
        }
    }
}

fn may_select(relation: u32) -> bool {
    let user = sandbox::current_user();
    sandbox::is_superuser(user) || catalog::may_select(relation, user)
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
                    "SELECT * FROM tq_problems in that database".into(),
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

/// Quarantined tasks and broken schedules: the caller's own to see, if they may read the tables.
fn own_rows(t: &Rc<Tenant>, what: &str, rows: &mut Vec<Json>) {
    if may_select(t.task.oid())
        && let Ok(Some(table)) = t.try_open(t.task, Access::Read)
    {
        for row in table.scan(&Tasks::PICK, &[Tasks::STATE.equals(Stored::Quarantined)]) {
            let id = row.get(Tasks::ID).unwrap_or_default().to_string();
            rows.push(problem(
                format!("task {id} ({}) of {what}", row.get(Tasks::HANDLER).unwrap_or("")),
                None,
                format!("quarantined: the server crashed {} times while it ran", row.get(Tasks::CRASHES).unwrap_or(0)),
                format!(
                    "SELECT tq_requeue('{id}', tenant => {0}) once its handler is mended, or tq_delete('{id}', {0})",
                    quote_literal(&t.name)
                ),
            ));
            if rows.len() >= 1000 {
                break;
            }
        }
    }
    if may_select(t.schedule.oid())
        && let Ok(Some(table)) = t.try_open(t.schedule, Access::Read)
    {
        for row in table.scan(&Schedules::BY_NAME, &[]) {
            if let Some((text, fix)) = crate::schedules::trouble::trouble(t, &row) {
                let name = row.text(Schedules::NAME).unwrap_or_default();
                rows.push(problem(format!("schedule {name} of {what}"), None, text, fix));
            }
            if rows.len() >= 1000 {
                break;
            }
        }
    }
}

sql_functions! {
    tenant_q_problems, pg_finfo_tenant_q_problems => problems;
}
