//! Schedules of all tenants: one definition, and in every tenant an ordinary row of its tq_schedule, made
//! from it, with a state of its own.
//!
//! The definition is a row of tenant_q.schedule_all, which has the columns of tq_schedule. A change of it
//! is spread over the tenants like a fan-out; whoever is attached later is visited then. Both do the
//! same: make the tenant's row what the definition says ([`reconcile`]), whatever it was before.

use crate::calls::views as monitor;
use crate::postgres::call::{self, Args, Ret};
use crate::postgres::clock::{self, Micros};
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Compare, Gone, Key, Row, Table, Value};
use crate::postgres::types::Jsonb;
use crate::postgres::{sandbox, transaction};
use crate::pure::schedule::next::Plan;
use crate::pure::schedule::zone::parse_zone;
use crate::schedules::define::{announce, warn_of_delays};
use crate::schedules::definition::Definition;
use crate::schedules::planning::{Change, How, Planned, beginning, within_hours};
use crate::schedules::{author, follow};
use crate::shared::wake;
use crate::tenant::{self, Tenant};
use crate::work::spread::{Adopted, STEP, Served, fcol, kind, note, open, run, spi, state};
use crate::work::tick::{ROW, Schedule, instant, micros, scol};
use crate::{settings, task};
use pgrx::Spi;
use serde_json::{Map, Value as Json, json};
use std::rc::Rc;
use std::time::Instant;

const YEAR: Micros = 365 * 86_400_000_000;
/// Where more lines are kept, only those that are there are counted, not those to come.
const COUNTED_AHEAD: i64 = 1000;
/// Schedules that one step of a visit brings, or takes away.
const NAMES: usize = 100;
/// And rows of the tenant's that it looks at for that.
const LOOKED_AT: usize = 1000;

/// What a tenant's row says of the definition that it was made from; in its options.
#[derive(Clone)]
pub struct OfAll {
    /// The definition.
    pub id: u128,
    /// Its last change that has reached this tenant.
    revision: u128,
    stagger: Micros,
}

impl OfAll {
    /// None: an ordinary schedule, the tenant's own.
    pub fn of(options: &Map<String, Json>) -> Option<OfAll> {
        let all = options.get("all")?;
        let id = |key: &str| all.get(key).and_then(Json::as_str).and_then(|t| uuid::Uuid::parse_str(t).ok()).map(|u| u.as_u128());
        Some(OfAll { id: id("id")?, revision: id("revision")?, stagger: all.get("stagger").and_then(Json::as_i64).unwrap_or(0) })
    }
    fn of_row(row: &Row) -> Option<OfAll> {
        OfAll::of(row.json(scol::OPTIONS)?.as_object()?)
    }
    fn json(&self) -> Json {
        json!({ "id": task::uuid_text(self.id), "revision": task::uuid_text(self.revision), "stagger": self.stagger })
    }
    /// The line of tq_fanouts for one fire time.
    pub fn line(&self, fire_time: Micros) -> u128 {
        task::fire_id(self.id, fire_time)
    }
    /// How much later than its fire time it is to run in this tenant.
    pub fn stagger(&self, tenant: &Tenant) -> Micros {
        crate::work::spread::stagger(&tenant.name, self.stagger)
    }
}

/// Tenants that the definition names; None = all.
fn tenants_of(definition: &Row) -> Option<Vec<String>> {
    let options = definition.json(scol::OPTIONS)?;
    let names = options.get("tenants")?.as_array()?;
    Some(names.iter().filter_map(|n| n.as_str().map(str::to_string)).collect())
}

/// Definitions, locked against others who change them.
fn definitions_to_change() -> Result<Table> {
    open("schedule_all", Access::Exclusive)
}

fn find(table: &Table, name: &str) -> Option<Row> {
    transaction::with_latest_snapshot(|| table.find(&[scol::NAME as i16], Value::Text(name)))
}

/// tq_schedule_all(the first 25 of tq_schedule's, tenants, stagger)
fn schedule_all(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_schedule_all()");
    let definition = Definition::of_args(args);
    definition.check_given()?;
    let (rule, month_end) = definition.check_alone()?;
    let conflict = args.text(24).unwrap_or_else(|| "error".into());
    if !["error", "replace", "nothing"].contains(&conflict.as_str()) {
        return Err(Error::invalid(format!("on_conflict \"{conflict}\" is not known")).hint("Use \"error\", \"replace\" or \"nothing\"."));
    }
    let tenants = args.texts(25);
    if let Some(names) = &tenants {
        crate::work::spread::check_tenants(names)?;
    }
    let stagger = args.interval(26).unwrap_or(0);
    if stagger < 0 {
        return Err(Error::invalid("stagger is negative"));
    }
    let zone = definition.tz.clone().unwrap_or_else(tenant::default_zone);
    let now = clock::now();
    let table = definitions_to_change()?;
    check_after(&table, &definition)?;
    let before = find(&table, &definition.name);
    if let Some(row) = &before {
        match conflict.as_str() {
            "nothing" => return Ok(Ret::Uuid(row.uuid(scol::ID).unwrap_or(0))),
            "replace" => {}
            _ => {
                return Err(Error::new("42710", format!("schedule \"{}\" of all tenants exists already", definition.name))
                    .hint("on_conflict => 'replace' replaces it."));
            }
        }
    }
    let old = before.as_ref().map(Definition::of_row);
    if old.as_ref().is_none_or(|old| old.until != definition.until) {
        definition.check_until()?;
    }
    // Declared again, it goes on counting from where it did.
    let kept =
        before.as_ref().zip(old.as_ref()).filter(|(_, old)| old.begins_like(&definition)).and_then(|(row, _)| row.time(scol::ANCHOR));
    let anchor = kept.unwrap_or(now);
    let plan = Plan {
        rule: &rule,
        zone: parse_zone(&zone)?,
        anchor: instant(anchor),
        start_at: definition.start_at.map(instant),
        until: definition.until.map(instant),
        month_end,
        seed: 0,
    };
    match plan.first() {
        Some(first) => {
            within_hours(&definition, &plan, first)?;
        }
        None if definition.repeats == Some(0) || kept.is_some() || rule.is_after() => {}
        None => return Err(Error::invalid("the schedule never fires").detail("Its rule has no fire time between start_at and until.")),
    }
    warn_of_delays(&definition, &plan, stagger);
    let author = author();
    let condition = before.as_ref().and_then(|row| Definition::of_row(row).only_if);
    if !author.superuser && condition != definition.only_if {
        return Err(Error::denied("only a superuser may set only_if for all tenants")
            .detail("It is SQL that runs as each tenant's own role.")
            .hint("Leave only_if out, and ask in the handler."));
    }
    // Replaced, it stays the same schedule: fire times that were served are not served again.
    let id = before.as_ref().and_then(|row| row.uuid(scol::ID)).unwrap_or_else(task::new_id);
    let revision = task::new_id();
    let mut held = definition.held();
    let mut options = definition.options().unwrap_or_else(|| json!({}));
    options["all"] = OfAll { id, revision, stagger }.json();
    if let Some(names) = tenants {
        options["tenants"] = names.into();
    }
    held.options = Some(Jsonb::from_value(options));
    let mut values = [Value::Null; scol::COUNT];
    for (column, value) in definition.columns(&held) {
        values[column - 1] = value;
    }
    for (column, value) in [
        (scol::NAME, Value::Text(&definition.name)),
        (scol::ID, Value::Uuid(id)),
        (scol::ANCHOR, Value::Time(anchor)),
        (scol::CREATED_BY, Value::Text(&author.name)),
        (scol::BY_SUPERUSER, Value::Bool(author.superuser)),
        (scol::CREATED_AT, before.as_ref().map_or(Value::Time(now), |row| row.value(scol::CREATED_AT))),
        (scol::RUN_COUNT, Value::I64(0)),
        (scol::FAIL_COUNT, Value::I64(0)),
    ] {
        values[column - 1] = value;
    }
    match &before {
        None => table.insert(&values),
        Some(row) => {
            let changes: Vec<(usize, Value)> = values.into_iter().enumerate().map(|(n, value)| (n + 1, value)).collect();
            if table.update(row, &changes) == Gone::Lost {
                return Err(contended(&definition.name));
            }
        }
    }
    spread_change(revision, &definition.name, Some(&definition.handler), &author, now)?;
    Ok(Ret::Uuid(id))
}

/// Those that it comes after are each tenant's own matter, unless they are of all tenants themselves.
fn check_after(table: &Table, definition: &Definition) -> Result<()> {
    let after_of = |name: &str| find(table, name).map(|row| follow::after_of(&row).0);
    if let Some(circle) = follow::circle(&definition.name, definition.after(), after_of) {
        return Err(Error::invalid("after makes a circle").detail(format!("{circle}.")));
    }
    for name in definition.after().iter().filter(|name| find(table, name).is_none()) {
        Error::new("00000", format!("schedule \"{name}\", which is named in after, is not one of all tenants"))
            .detail("It fires in tenants that have a schedule of that name, and waits in the others.")
            .notice();
    }
    Ok(())
}

fn contended(name: &str) -> Error {
    Error::new("40001", format!("schedule \"{name}\" of all tenants is being changed by others")).hint("Try again.")
}

/// The change is to reach the tenants; it takes the place of an earlier one of this name.
fn spread_change(revision: u128, name: &str, handler: Option<&str>, author: &crate::work::enqueue::Caller, now: Micros) -> Result<()> {
    // Whoever is spreading it is waited for; then all that it has written is seen.
    run(
        "SELECT FROM tenant_q.fanout f WHERE f.kind OPERATOR(pg_catalog.=) 'd' AND f.name OPERATOR(pg_catalog.=) $1 FOR UPDATE",
        &[name.into()],
    )?;
    run(
        "WITH gone AS (DELETE FROM tenant_q.fanout f WHERE f.kind OPERATOR(pg_catalog.=) 'd' AND f.name OPERATOR(pg_catalog.=) $1 RETURNING f.id)
         DELETE FROM tenant_q.fanout_tenant o USING gone g WHERE o.fanout OPERATOR(pg_catalog.=) g.id",
        &[name.into()],
    )?;
    open("fanout", Access::Write)?.insert(&[
        Value::Uuid(revision),
        Value::Char(kind::DEFINITION),
        Value::Text(name),
        Value::Time(now),
        Value::text(handler),
        Value::Null,
        Value::Null,
        Value::Null,
        Value::Null,
        Value::Text(&author.name),
        Value::Bool(author.superuser),
        Value::Time(now),
        Value::Null,
        Value::Time(now),
    ]);
    wake::fan_out();
    if crate::shared::get().is_none() {
        crate::work::enqueue::warn_not_preloaded();
    }
    Ok(())
}

/// tq_unschedule_all(name)
fn unschedule_all(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"tq_unschedule_all()");
    let name = args.text(0).ok_or_else(|| Error::new("22004", "name is null"))?;
    let table = definitions_to_change()?;
    let Some(row) = find(&table, &name) else { return Ok(Ret::Bool(false)) };
    let followers = names_after(&table, &name);
    if let Some(first) = followers.first() {
        return Err(Error::new("2BP01", format!("schedule \"{name}\" of all tenants can't go while others come after it"))
            .detail(format!("They are \"{}\".", followers.join("\", \"")))
            .hint(format!("Remove {} first, or replace it with another after.", pgrx::spi::quote_literal(first))));
    }
    if table.delete(&row) == Gone::Lost {
        return Err(contended(&name));
    }
    spread_change(task::new_id(), &name, row.str(scol::HANDLER), &author(), clock::now())?;
    Ok(Ret::Bool(true))
}

/// Definitions that come after this name.
fn names_after(definitions: &Table, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    definitions.scan(definitions.index_with(&[scol::NAME as i16]), &[], None, false, |row| {
        if row.raw(scol::OPTIONS).is_some() && follow::after_of(&row).0.iter().any(|a| a == name) {
            found.extend(row.text(scol::NAME));
        }
        true
    });
    found
}

/// A tenant has made a schedule of its own: one of all tenants may have waited for it to come after.
pub fn followed(table: &Table, name: &str) -> Result<()> {
    for follower in names_after(&open("schedule_all", Access::Read)?, name) {
        if find(table, &follower).is_some_and(|row| is_of_all(&row)) {
            follow::link_present(table, &follower, &[], &[name.to_string()])?;
        }
    }
    Ok(())
}

/// Whether there is a definition of this name.
pub fn is_defined(name: &str) -> Result<bool> {
    Ok(find(&open("schedule_all", Access::Read)?, name).is_some())
}

/// A change reaches one tenant, by the scheduler.
pub fn serve(row: &Row, tenant: &Rc<Tenant>) -> Result<Served> {
    let table = match open_both(tenant) {
        Ok(table) => table,
        Err(served) => return Ok(served),
    };
    let definitions = open("schedule_all", Access::Read)?;
    let since = Since::Change(row.time(fcol::CREATED_AT).unwrap_or(0));
    match reconcile(tenant, &table, &definitions, row.str(fcol::NAME).unwrap_or(""), since)? {
        Reconciled::Right => Ok(Served::Defined),
        Reconciled::Problem(reason) => Ok(Served::Skipped(reason)),
    }
}

/// The tenant's schedules to be written, after all of its tables were found right; or why not.
fn open_both(tenant: &Tenant) -> std::result::Result<Table, Served> {
    let open = |relation, access| match tenant.try_open(relation, access) {
        Ok(Some(table)) => Ok(table),
        Ok(None) => Err(Served::Locked),
        Err(e) => Err(Served::Skipped(e.message)),
    };
    open(tenant.task, Access::Read)?;
    Ok(open(tenant.schedule, Access::Write)?.fetch_at_most(ROW))
}

enum Reconciled {
    Right,
    Problem(String),
}

/// From when on a tenant that hasn't had the schedule yet has it.
#[derive(Clone, Copy)]
enum Since {
    /// It comes later than the schedule.
    Visit(Micros),
    /// The schedule was made, or changed, at that time.
    Change(Micros),
}

impl Since {
    /// The first fire time there. A schedule declared again doesn't fire for what is past, but a one-time
    /// schedule that hasn't reached a tenant is still to run there.
    fn first(self, tenant: &Tenant, plan: &Plan) -> Option<chrono::DateTime<chrono::Utc>> {
        match self {
            Since::Visit(at) => plan.next_after(instant(at)),
            Since::Change(at) if plan.anchor == instant(at) => plan.first(),
            Since::Change(_) if plan.rule.fires_once() && instant(tenant.attached_at) <= plan.anchor => plan.first(),
            Since::Change(at) => plan.next_after(instant(at)),
        }
    }
}

/// Makes the tenant's row of this name what the definition says.
fn reconcile(tenant: &Rc<Tenant>, table: &Table, definitions: &Table, name: &str, since: Since) -> Result<Reconciled> {
    let definition = find(definitions, name).filter(|d| tenants_of(d).is_none_or(|names| names.contains(&tenant.name)));
    let row = find(table, name);
    if let Some(row) = row.as_ref().filter(|row| row.outside > ROW) {
        return Ok(Reconciled::Problem(format!("its row takes {} MB, more than {}", row.outside >> 20, ROW >> 20)));
    }
    let of_all = row.as_ref().and_then(OfAll::of_row);
    let old_after = row.as_ref().filter(|_| of_all.is_some()).map_or(vec![], |row| follow::after_of(row).0);
    let lost = || Error::new("40001", format!("schedule \"{name}\" of tenant \"{}\" is being changed by others", tenant.name));
    let Some(definition) = definition else {
        if let (Some(row), Some(_)) = (&row, of_all)
            && table.delete(row) == Gone::Lost
        {
            return Err(lost());
        }
        transaction::see_own_writes();
        follow::link_present(table, name, &old_after, &[])?;
        return Ok(Reconciled::Right);
    };
    let Some(all) = OfAll::of_row(&definition) else { return Ok(Reconciled::Right) };
    if row.is_some() && of_all.is_none() {
        return Ok(Reconciled::Problem("the tenant has a schedule of its own of this name".into()));
    }
    let after = follow::after_of(&definition).0;
    if of_all.is_some_and(|here| here.id == all.id && here.revision == all.revision) {
        // What somebody has written into their rows by hand.
        follow::link_present(table, name, &[], &after)?;
        return Ok(Reconciled::Right);
    }
    if let Some(circle) = follow::circle(name, &after, |other| find(table, other).map(|row| follow::after_of(&row).0)) {
        return Ok(Reconciled::Problem(format!("after makes a circle: {circle}")));
    }
    let schedule = Schedule::of(tenant, &definition)?;
    let Some(mut planned) = plan_here(tenant, &definition, row.as_ref(), schedule.plan(), since)? else { return Ok(Reconciled::Right) };
    if row.is_none() {
        planned.state.before = follow::comers_after(table, name);
    }
    let state = planned.state.document();
    let mut options = definition.json(scol::OPTIONS).unwrap_or_else(|| json!({}));
    if let Some(map) = options.as_object_mut() {
        map.remove("tenants");
    }
    let options = Jsonb::from_value(options);
    let kept = |column: usize| row.as_ref().map(|r| r.value(column));
    let mut changes: Vec<(usize, Value)> = (1..=scol::COUNT).map(|n| (n, definition.value(n))).collect();
    for (column, value) in [
        (scol::ID, kept(scol::ID).unwrap_or(Value::Uuid(task::fan_id(all.id, &tenant.name)))),
        (scol::NEXT_RUN, Value::time(planned.next)),
        (scol::ANCHOR, Value::Time(planned.anchor)),
        (scol::REPEATS, Value::I32(planned.repeats)),
        (scol::OPTIONS, Value::Json(&options)),
        (scol::LAST_RUN, kept(scol::LAST_RUN).unwrap_or(Value::Null)),
        (scol::LAST_TASK, kept(scol::LAST_TASK).unwrap_or(Value::Null)),
        (scol::RUN_COUNT, kept(scol::RUN_COUNT).unwrap_or(Value::I64(0))),
        (scol::FAIL_COUNT, kept(scol::FAIL_COUNT).unwrap_or(Value::I64(0))),
        (scol::STATE, Value::json(state.as_ref())),
        (scol::PROBLEM, Value::Null),
    ] {
        changes[column - 1].1 = value;
    }
    match &row {
        Some(row) => {
            if table.update(row, &changes) == Gone::Lost {
                return Err(lost());
            }
        }
        None => table.insert(&changes.iter().map(|c| c.1).collect::<Vec<_>>()),
    }
    transaction::see_own_writes();
    // Those that the tenant lacks are told when it has them.
    follow::link_present(table, name, &old_after, &after)?;
    announce(tenant, planned.next)?;
    Ok(Reconciled::Right)
}

/// When it fires in this tenant. None: it was for once, before the tenant's time.
fn plan_here(tenant: &Tenant, definition: &Row, row: Option<&Row>, plan: Plan, since: Since) -> Result<Option<Planned>> {
    let new = Definition::of_row(definition);
    if let Some(row) = row {
        let old = Definition::of_row(row);
        return Change::new(row, &old, &new, How::Declared, plan, clock::now()).planned().map(Some);
    }
    match since.first(tenant, &plan) {
        None if !plan.rule.is_after() => Ok(None),
        first => beginning(&new, &plan, first).map(Some),
    }
}

/// A tenant is new, ready, or has given up a schedule of its own: after the commit the scheduler brings it
/// what all tenants have. Not in this transaction, which may stay open for as long as it likes: whoever
/// defines something meanwhile would have to wait for it, or be missed.
pub fn visit(tenant: &str) -> Result<()> {
    // A visit that is under way, and can't see this transaction yet, loses its row to it and begins anew.
    run(
        "INSERT INTO tenant_q.fanout_tenant (fanout, tenant, state) VALUES ($1, $2, 'o')
         ON CONFLICT (fanout, tenant) DO UPDATE SET finished_at = NULL, reason = NULL",
        &[call::uuid(crate::work::spread::VISIT).into(), tenant.into()],
    )?;
    wake::fan_out();
    Ok(())
}

/// Everything that is defined for all tenants reaches one of them, by the scheduler: a part of it, for the
/// tenant's table is the tenant's own, with whatever rows, and so the others wait for no tenant. `place`: as the
/// part before has returned it.
pub fn adopt(tenant: &Rc<Tenant>, outcomes: &Table, place: Option<&str>, now: Micros) -> Result<Adopted> {
    let table = match open_both(tenant) {
        Ok(table) => table,
        Err(Served::Locked) => return Ok(Adopted::Locked),
        Err(_) => return Ok(Adopted::Whole),
    };
    let definitions = open("schedule_all", Access::Read)?;
    let began = clock::tick();
    // First what it brings from before, and is defined no more; then what is defined.
    let behind = match place.and_then(|place| place.split_at_checked(PRESENT.len())) {
        Some((DEFINED, name)) => name,
        present => {
            let name = present.filter(|(kind, _)| *kind == PRESENT).map_or("", |(_, name)| name);
            if let Some(last) = remove_undefined(tenant, &table, &definitions, name, began)? {
                return Ok(Adopted::Part(format!("{PRESENT}{last}")));
            }
            ""
        }
    };
    let mut names = Vec::new();
    rows_behind(&definitions, behind, |row| {
        names.extend(row.text(scol::NAME));
        names.len() < NAMES
    });
    for (n, name) in names.iter().enumerate() {
        let definition = find(&definitions, name);
        let revision = definition.as_ref().and_then(OfAll::of_row).map(|all| all.revision);
        // The visit may be faster than the spreading of the definition, which finds the tenant there already.
        let begins = definition.as_ref().and_then(|d| d.time(scol::ANCHOR));
        let expected = begins.filter(|t| {
            tenant.attached_at <= *t && revision.is_some_and(|r| crate::work::spread::outcome(outcomes, r, &tenant.name).is_none())
        });
        let reconciled = reconcile(tenant, &table, &definitions, name, expected.map_or(Since::Visit(now), Since::Change))?;
        if let Some(revision) = revision {
            match &reconciled {
                Reconciled::Right => note(outcomes, revision, &tenant.name, state::DEFINED, None, None),
                Reconciled::Problem(reason) => note(outcomes, revision, &tenant.name, state::SKIPPED, None, Some(reason)),
            }
        }
        if n + 1 == NAMES || began.elapsed() > STEP {
            return Ok(Adopted::Part(format!("{DEFINED}{name}")));
        }
    }
    Ok(Adopted::Whole)
}

/// How the place of a visit begins, before the last name: among the tenant's rows, or among the definitions.
const PRESENT: &str = "p";
const DEFINED: &str = "d";

/// Takes rows away that claim to be of definitions which aren't there, from those behind a name on. The last one
/// looked at, where that wasn't the end.
fn remove_undefined(tenant: &Rc<Tenant>, table: &Table, definitions: &Table, behind: &str, began: Instant) -> Result<Option<String>> {
    let (mut looked_at, mut undefined, mut last) = (0, Vec::new(), None);
    rows_behind(table, behind, |row| {
        // One without a name that can be read is nobody's definition.
        let Some(name) = row.text(scol::NAME) else { return true };
        looked_at += 1;
        if row.outside <= ROW && is_of_all(&row) && find(definitions, &name).is_none() {
            undefined.push(name.clone());
        }
        if looked_at == LOOKED_AT || undefined.len() == NAMES || began.elapsed() > STEP {
            last = Some(name);
        }
        last.is_none()
    });
    for (n, name) in undefined.iter().enumerate() {
        // The first one at least, so that it gets on.
        if n > 0 && began.elapsed() > 2 * STEP {
            return Ok(Some(undefined[n - 1].clone()));
        }
        reconcile(tenant, table, definitions, name, Since::Visit(clock::now()))?;
    }
    Ok(last)
}

/// The rows behind a name, as the index over names has them.
fn rows_behind(table: &Table, name: &str, f: impl FnMut(Row) -> bool) {
    let key = Key { column: 1, compare: Compare::Gt, value: Value::Text(name) };
    table.scan(table.index_with(&[scol::NAME as i16]), &[key], None, false, f);
}

/// Whether a tenant's row was made from a definition for all tenants.
pub fn is_of_all(row: &Row) -> bool {
    row.raw(scol::OPTIONS).is_some() && OfAll::of_row(row).is_some()
}

/// A tenant's row of a schedule of all tenants is not the tenant's to change.
pub fn refuse(row: &Row) -> Result<()> {
    if !is_of_all(row) {
        return Ok(());
    }
    let name = row.str(scol::NAME).unwrap_or("");
    Err(Error::state(format!("schedule \"{name}\" is one of all tenants")).hint(format!(
        "An administrator changes it with tq_schedule_all, removes it with tq_unschedule_all({}), or leaves this tenant out with tq_set_quota(fan_out => false).",
        pgrx::spi::quote_literal(name)
    )))
}

/// What came of a fire time in one tenant: a line of tq_fanouts, made by the first tenant that gets there,
/// with everybody who is expected to follow. True: that was this one. Nothing is written about a line that
/// isn't there (any more).
pub fn fired(tenant: &Tenant, all: &OfAll, row: &Row, fire_time: Micros, result: std::result::Result<u128, String>) -> Result<bool> {
    let line = all.line(fire_time);
    let fanouts = open("fanout", Access::Write)?;
    let mut begun = false;
    if fanouts.find(&[fcol::ID as i16], Value::Uuid(line)).is_none() {
        if !begin_line(tenant, all, row, line, fire_time)? {
            return Ok(false);
        }
        transaction::see_own_writes();
        begun = true;
    }
    let outcomes = open("fanout_tenant", Access::Write)?;
    match result {
        Ok(id) => note(&outcomes, line, &tenant.name, state::ENQUEUED, Some(id), None),
        Err(reason) => note(&outcomes, line, &tenant.name, state::SKIPPED, None, Some(&reason)),
    }
    Ok(begun)
}

/// False: there is no such line to begin. A tenant may write what it likes into its own rows, but what
/// others see of a definition is the definition's.
fn begin_line(tenant: &Tenant, all: &OfAll, row: &Row, line: u128, fire_time: Micros) -> Result<bool> {
    let name = row.str(scol::NAME).unwrap_or("");
    let definitions = open("schedule_all", Access::Read)?;
    let Some(definition) = find(&definitions, name) else { return Ok(false) };
    let Some(defined) = OfAll::of_row(&definition).filter(|defined| defined.id == all.id) else { return Ok(false) };
    let schedule = Schedule::of(tenant, &definition)?;
    if !fires_at(&schedule.plan(), fire_time) || is_outdated(&schedule, name, fire_time)? {
        return Ok(false);
    }
    let at = call::timestamp(fire_time);
    run(
        "INSERT INTO tenant_q.fanout (id, kind, name, fire_time, handler, created_by, by_superuser, created_at)
         VALUES ($1, 'f', $2, $3, $4, $5, $6, pg_catalog.now())",
        &[
            call::uuid(line).into(),
            name.into(),
            at.into(),
            definition.text(scol::HANDLER).into(),
            definition.text(scol::CREATED_BY).unwrap_or_default().into(),
            definition.bool(scol::BY_SUPERUSER).unwrap_or(false).into(),
        ],
    )?;
    let names = tenants_of(&definition);
    // Where the rule is of each tenant's own zone, some fire at other times.
    let zones = if definition.raw(scol::TZ).is_none() { Some(zones_that_fire(&schedule, fire_time)?) } else { None };
    run(
        &format!(
            "INSERT INTO tenant_q.fanout_tenant (fanout, tenant, state, reason)
             SELECT $1, x.name, CASE WHEN x.reason IS NULL THEN 'o' ELSE 's' END::pg_catalog.\"char\", x.reason FROM (
                 SELECT t.name, coalesce({}, (SELECT o.reason FROM tenant_q.fanout_tenant o WHERE o.fanout OPERATOR(pg_catalog.=) $6
                                                AND o.tenant OPERATOR(pg_catalog.=) t.name AND o.state OPERATOR(pg_catalog.=) 's')) AS reason
                   FROM tenant_q.tenant t
                  WHERE ($3 IS NULL OR t.name OPERATOR(pg_catalog.=) ANY ($3)) AND ($4 IS NULL OR coalesce(t.timezone, $7) OPERATOR(pg_catalog.=) ANY ($4))
                    AND t.attached_at OPERATOR(pg_catalog.<=) $5) x",
            crate::work::spread::LEFT_OUT
        ),
        &[
            call::uuid(line).into(),
            settings::exclude_schemas().into(),
            names.into(),
            zones.into(),
            at.into(),
            call::uuid(defined.revision).into(),
            tenant::default_zone().into(),
        ],
    )?;
    crate::work::spread::prune_later(name);
    Ok(true)
}

fn fires_at(plan: &Plan, fire_time: Micros) -> bool {
    plan.next_after(instant(fire_time) - chrono::TimeDelta::microseconds(1)).map(micros) == Some(fire_time)
}

/// Whether there are so many later lines, or will be, that this one would be pruned at once: a tenant that
/// makes up for a long time would write a row for every tenant and fire time.
fn is_outdated(schedule: &Schedule, name: &str, fire_time: Micros) -> Result<bool> {
    let now = clock::now();
    let keep = settings::fanout_keep();
    if fire_time < now - YEAR {
        return Ok(true);
    }
    if schedule.makes_up_for_all() && keep <= COUNTED_AHEAD {
        let plan = schedule.plan();
        let later = std::iter::successors(plan.next_after(instant(fire_time)), |at| plan.next_after(*at));
        if later.take_while(|at| *at <= instant(now)).take(keep as usize).count() == keep as usize {
            return Ok(true);
        }
    }
    let later = crate::work::spread::document(
        "SELECT pg_catalog.to_jsonb(pg_catalog.count(*)) FROM (SELECT FROM tenant_q.fanout f WHERE f.kind OPERATOR(pg_catalog.<>) 'd'
            AND f.name OPERATOR(pg_catalog.=) $1 AND f.fire_time OPERATOR(pg_catalog.>) $2 ORDER BY f.fire_time LIMIT $3) x",
        &[name.into(), call::timestamp(fire_time).into(), keep.into()],
    )?;
    Ok(later.and_then(|n| n.as_i64()).is_some_and(|n| n >= keep))
}

/// Of the zones that tenants have, those in which the schedule fires at this very instant.
fn zones_that_fire(schedule: &Schedule, fire_time: Micros) -> Result<Vec<String>> {
    let zones: Vec<String> = sandbox::as_extension(|| {
        Spi::connect(|c| {
            c.select("SELECT DISTINCT coalesce(t.timezone, $1) FROM tenant_q.tenant t", None, &[tenant::default_zone().into()])?
                .map(|row| Ok(row.get::<String>(1)?.unwrap_or_default()))
                .collect::<std::result::Result<Vec<_>, pgrx::spi::Error>>()
        })
    })
    .map_err(spi)?;
    let fires = |zone: &String| parse_zone(zone).is_ok_and(|zone| fires_at(&Plan { zone, ..schedule.plan() }, fire_time));
    Ok(zones.into_iter().filter(fires).collect())
}

/// A tenant has another name: lists of names follow.
pub fn renamed(old: &str, new: &str) -> Result<()> {
    run(
        "UPDATE tenant_q.schedule_all SET options = pg_catalog.jsonb_set(options, '{tenants}',
                (SELECT pg_catalog.jsonb_agg(CASE WHEN n OPERATOR(pg_catalog.=) $1 THEN $2 ELSE n END) FROM pg_catalog.jsonb_array_elements_text(options OPERATOR(pg_catalog.->) 'tenants') n))
          WHERE options OPERATOR(pg_catalog.->) 'tenants' OPERATOR(pg_catalog.?) $1",
        &[old.into(), new.into()],
    )
}

/// Tenants that a definition could not reach: (what, reason, fix).
pub fn problems() -> Result<Vec<(String, String, String)>> {
    let visible = if monitor::sees_all() { None } else { Some(crate::work::spread::visible()?.unwrap_or_default()) };
    let rows: Vec<(String, String, String, bool)> = sandbox::as_extension(|| {
        Spi::connect(|c| {
            c.select(
                "SELECT f.name, o.tenant, o.reason, o.reason OPERATOR(pg_catalog.~~) '%of its own%' FROM tenant_q.fanout f, tenant_q.fanout_tenant o
                  WHERE f.kind OPERATOR(pg_catalog.=) 'd' AND o.fanout OPERATOR(pg_catalog.=) f.id AND o.state OPERATOR(pg_catalog.=) 's'
                    AND ($1 IS NULL OR o.tenant OPERATOR(pg_catalog.=) ANY ($1)) ORDER BY 1, 2 LIMIT 1000",
                None,
                &[visible.into()],
            )?
            .map(|row| {
                Ok((
                    row.get::<String>(1)?.unwrap_or_default(),
                    row.get::<String>(2)?.unwrap_or_default(),
                    row.get::<String>(3)?.unwrap_or_default(),
                    row.get::<bool>(4)?.unwrap_or(false),
                ))
            })
            .collect::<std::result::Result<Vec<_>, pgrx::spi::Error>>()
        })
    })
    .map_err(spi)?;
    let quote = |text: &str| pgrx::spi::quote_literal(text);
    Ok(rows
        .into_iter()
        .map(|(name, tenant, reason, own)| {
            let fix = if own {
                format!("SELECT tq_unschedule({}, tenant => {})", quote(&name), quote(&tenant))
            } else {
                format!("SELECT tq_set_tenant({}, ready => true), when it is mended", quote(&tenant))
            };
            (format!("schedule {name} of all tenants in tenant {tenant}"), reason, fix)
        })
        .collect())
}

crate::sql_functions! {
    tq_schedule_all, pg_finfo_tq_schedule_all => schedule_all;
    tq_unschedule_all, pg_finfo_tq_unschedule_all => unschedule_all;
}
