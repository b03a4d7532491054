//! Schedules of all tenants: one definition, and in every tenant an ordinary row of its tq_schedule, made
//! from it, with a state of its own.
//!
//! The definition is a row of tenant_q.schedule_all, which has the columns of tq_schedule. A change of it
//! is spread over the tenants like a fan-out; whoever is attached later is visited then. Both do the
//! same: make the tenant's row what the definition says ([`reconcile`]), whatever it was before.

use crate::fanout::lines::{Adopted, STEP, Served, Skipped, note, run, spi};
use crate::fanout::passed::passed_over;
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Table, Write};
use crate::postgres::row::Row;
use crate::postgres::scan::Scan;
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{call, clock, sandbox, transaction};
use crate::pure::ids::{self, Id};
use crate::pure::schedule::next::Plan;
use crate::pure::schedule::zone::parse_zone;
use crate::pure::state::{FanoutCause, FanoutState};
use crate::pure::time::{At, Span, instant};
use crate::schedules::define::announce;
use crate::schedules::definition::Definition;
use crate::schedules::follow;
use crate::schedules::of_all;
use crate::schedules::options::{OfAll, Options};
use crate::schedules::planning::{How, Planned, Redefinition, beginning};
use crate::schedules::row::{ROW, Schedule};
use crate::settings;
use crate::shared::wake;
use crate::tenant::columns::{FanoutTenants, Fanouts, Schedules};
use crate::tenant::records::open;
use crate::tenant::{self, Tenant};
use pgrx::Spi;
use std::rc::Rc;
use std::time::Instant;

const YEAR: Span = Span::of_days(365);
/// Where more lines are kept, only those that are there are counted, not those to come.
const COUNTED_AHEAD: i64 = 1000;
/// Schedules that one step of a visit brings, or takes away.
const NAMES: usize = 100;
/// And rows of the tenant's that it looks at for that.
const LOOKED_AT: usize = 1000;

/// Tenants that the definition names; None = all.
fn tenants_of(definition: &Row<Schedules>) -> Option<Vec<String>> {
    Options::of(definition).tenants
}

/// Definitions, locked against others who change them.
pub fn definitions_to_change() -> Result<Table<Schedules>> {
    open("schedule_all", Access::Exclusive)
}

/// A change reaches one tenant, by the scheduler.
pub fn serve(row: &Row<Fanouts>, tenant: &Rc<Tenant>) -> Result<Served> {
    let table = match open_both(tenant) {
        Ok(table) => table,
        Err(served) => return Ok(served),
    };
    let definitions = open("schedule_all", Access::Read)?;
    let since = Since::Change(row.get(Fanouts::CREATED_AT).unwrap_or_default());
    match reconcile(tenant, &table, &definitions, row.get(Fanouts::NAME).unwrap_or(""), since)? {
        Reconciled::Right => Ok(Served::Defined),
        Reconciled::Problem(reason) => Ok(Served::Skipped(reason)),
    }
}

/// The tenant's schedules to be written, after all of its tables were found right; or why not.
fn open_both(tenant: &Tenant) -> std::result::Result<Table<Schedules>, Served> {
    fn opened<R>(table: Result<Option<Table<R>>>) -> std::result::Result<Table<R>, Served> {
        table.map_err(|e| Served::Skipped(e.message.into()))?.ok_or(Served::Locked)
    }
    opened(tenant.try_open(tenant.task, Access::Read))?;
    Ok(opened(tenant.try_open(tenant.schedule, Access::Write))?.fetch_at_most(ROW))
}

enum Reconciled {
    Right,
    Problem(Skipped),
}

/// From when on a tenant that hasn't had the schedule yet has it.
#[derive(Clone, Copy)]
enum Since {
    /// It comes later than the schedule.
    Visit(At),
    /// The schedule was made, or changed, at that time.
    Change(At),
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
fn reconcile(
    tenant: &Rc<Tenant>,
    table: &Table<Schedules>,
    definitions: &Table<Schedules>,
    name: &str,
    since: Since,
) -> Result<Reconciled> {
    let definition = of_all::find(definitions, name).filter(|d| tenants_of(d).is_none_or(|names| names.contains(&tenant.name)));
    let row = of_all::find(table, name);
    if let Some(row) = row.as_ref().filter(|row| row.outside > ROW) {
        return Ok(Reconciled::Problem(format!("its row takes {} MB, more than {}", row.outside >> 20, ROW >> 20).into()));
    }
    let of_all = row.as_ref().and_then(OfAll::of_row);
    let old_after = row.as_ref().filter(|_| of_all.is_some()).map_or(vec![], follow::after_of);
    let lost = || {
        Error::new(SqlState::SERIALIZATION_FAILURE, format!("schedule \"{name}\" of tenant \"{}\" is being changed by others", tenant.name))
    };
    let Some(definition) = definition else {
        if let (Some(row), Some(_)) = (&row, of_all)
            && table.delete(row) == Write::Overtaken
        {
            return Err(lost());
        }
        transaction::see_own_writes();
        follow::link_present(table, name, &old_after, &[])?;
        passed_over(tenant, name, At::NEVER, |_| "the schedule was removed before the tenant had served it".into())?;
        return Ok(Reconciled::Right);
    };
    let Some(all) = OfAll::of_row(&definition) else { return Ok(Reconciled::Right) };
    if row.is_some() && of_all.is_none() {
        return Ok(Reconciled::Problem(Skipped {
            cause: Some(FanoutCause::OwnSchedule),
            reason: "the tenant has a schedule of its own of this name".into(),
        }));
    }
    let after = follow::after_of(&definition);
    // One that has a problem may not be served until it is made anew.
    let is_well = row.as_ref().is_some_and(|row| !row.has(Schedules::PROBLEM));
    if is_well && of_all.is_some_and(|here| here.id == all.id && here.revision == all.revision) {
        // What somebody has written into their rows by hand.
        follow::link_present(table, name, &[], &after)?;
        return Ok(Reconciled::Right);
    }
    if let Some(circle) = follow::circle(name, &after, |other| of_all::find(table, other).map(|row| follow::after_of(&row))) {
        return Ok(Reconciled::Problem(format!("after makes a circle: {circle}").into()));
    }
    let schedule = Schedule::of(tenant, &definition)?;
    let Some(mut planned) = plan_here(tenant, &definition, row.as_ref(), schedule.plan(), since)? else { return Ok(Reconciled::Right) };
    if row.is_none() {
        planned.state.before = follow::names_after(table, name);
    }
    let state = planned.state.document();
    let options = Options { tenants: None, ..Options::of(&definition) }.column();
    let mut changes = definition.as_it_is();
    changes.extend([
        Schedules::NEXT_RUN.to(planned.next),
        Schedules::ANCHOR.to(planned.anchor),
        Schedules::REPEATS.to(planned.repeats),
        Schedules::OPTIONS.to(options.as_ref()),
        Schedules::STATE.to(state.as_ref()),
        Schedules::PROBLEM.null(),
    ]);
    // What only this tenant knows.
    changes.extend(match &row {
        Some(row) => [
            Schedules::ID.as_in(row, Schedules::ID),
            Schedules::LAST_RUN.as_in(row, Schedules::LAST_RUN),
            Schedules::LAST_TASK.as_in(row, Schedules::LAST_TASK),
            Schedules::RUN_COUNT.as_in(row, Schedules::RUN_COUNT),
            Schedules::FAIL_COUNT.as_in(row, Schedules::FAIL_COUNT),
        ],
        None => [
            Schedules::ID.to(ids::fan_id(all.id, &tenant.name)),
            Schedules::LAST_RUN.null(),
            Schedules::LAST_TASK.null(),
            Schedules::RUN_COUNT.to(0),
            Schedules::FAIL_COUNT.to(0),
        ],
    });
    match &row {
        Some(row) => {
            if table.update(row, &changes) == Write::Overtaken {
                return Err(lost());
            }
        }
        None => table.insert(&changes),
    }
    transaction::see_own_writes();
    // Those that the tenant lacks are told when it has them.
    follow::link_present(table, name, &old_after, &after)?;
    announce(tenant, planned.next)?;
    if row.is_some() {
        let to = planned.next.unwrap_or(At::NEVER);
        passed_over(tenant, name, to, |_| "the schedule was changed before the tenant had served it".into())?;
    }
    Ok(Reconciled::Right)
}

/// When it fires in this tenant. None: it was for once, before the tenant's time.
fn plan_here(
    tenant: &Tenant,
    definition: &Row<Schedules>,
    row: Option<&Row<Schedules>>,
    plan: Plan,
    since: Since,
) -> Result<Option<Planned>> {
    let new = Definition::of_row(definition);
    if let Some(row) = row {
        let old = Definition::of_row(row);
        return Redefinition::new(row, &old, &new, How::Declared, plan, clock::now()).planned().map(Some);
    }
    match since.first(tenant, &plan) {
        None if !plan.rule.is_after() => Ok(None),
        first => Ok(Some(beginning(&new, &plan, first))),
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
        &[call::uuid(crate::fanout::lines::VISIT).into(), tenant.into()],
    )?;
    wake::fan_out();
    Ok(())
}

/// Everything that is defined for all tenants reaches one of them, by the scheduler: a part of it, for the
/// tenant's table is the tenant's own, with whatever rows, and so the others wait for no tenant. `place`: as the
/// part before has returned it.
pub fn adopt(tenant: &Rc<Tenant>, outcomes: &Table<FanoutTenants>, place: Option<&str>, now: At) -> Result<Adopted> {
    let table = match open_both(tenant) {
        Ok(table) => table,
        Err(Served::Locked) => return Ok(Adopted::Locked),
        Err(_) => return Ok(Adopted::Whole),
    };
    let definitions = open("schedule_all", Access::Read)?;
    let began = clock::steady();
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
    let names: Vec<String> = rows_behind(&definitions, behind).filter_map(|row| row.text(Schedules::NAME)).take(NAMES).collect();
    for (n, name) in names.iter().enumerate() {
        let definition = of_all::find(&definitions, name);
        let revision = definition.as_ref().and_then(OfAll::of_row).map(|all| all.revision);
        // The visit may be faster than the spreading of the definition, which finds the tenant there already.
        let begins = definition.as_ref().and_then(|d| d.get(Schedules::ANCHOR));
        let expected = begins.filter(|t| {
            tenant.attached_at <= *t && revision.is_some_and(|r| crate::fanout::lines::outcome(outcomes, r, &tenant.name).is_none())
        });
        let reconciled = reconcile(tenant, &table, &definitions, name, expected.map_or(Since::Visit(now), Since::Change))?;
        if let Some(revision) = revision {
            match &reconciled {
                Reconciled::Right => note(outcomes, revision, &tenant.name, FanoutState::Done, None, None),
                Reconciled::Problem(skipped) => note(outcomes, revision, &tenant.name, FanoutState::Skipped, None, Some(skipped)),
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
fn remove_undefined(
    tenant: &Rc<Tenant>,
    table: &Table<Schedules>,
    definitions: &Table<Schedules>,
    behind: &str,
    began: Instant,
) -> Result<Option<String>> {
    let (mut looked_at, mut undefined, mut last) = (0, Vec::new(), None);
    for row in rows_behind(table, behind) {
        // One without a name that can be read is nobody's definition.
        let Some(name) = row.text(Schedules::NAME) else { continue };
        looked_at += 1;
        if row.outside <= ROW && of_all::is_of_all(&row) && of_all::find(definitions, &name).is_none() {
            undefined.push(name.clone());
        }
        if looked_at == LOOKED_AT || undefined.len() == NAMES || began.elapsed() > STEP {
            last = Some(name);
            break;
        }
    }
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
fn rows_behind<'t>(table: &'t Table<Schedules>, name: &str) -> Scan<'t, Schedules> {
    table.scan(&Schedules::BY_NAME, &[Schedules::NAME.above(name)])
}

/// What came of a fire time in one tenant: a line of tq_fanouts, made by the first tenant that gets there,
/// with everybody who is expected to follow. True: that was this one. Nothing is written about a line that
/// isn't there (any more).
pub fn fired(tenant: &Tenant, all: &OfAll, row: &Row<Schedules>, fire_time: At, result: std::result::Result<Id, String>) -> Result<bool> {
    let line = all.line(fire_time);
    let fanouts = open("fanout", Access::Write)?;
    let mut begun = false;
    if fanouts.find(Fanouts::ID.equals(line)).is_none() {
        if !begin_line(tenant, all, row, line, fire_time)? {
            return Ok(false);
        }
        transaction::see_own_writes();
        begun = true;
    }
    let outcomes = open("fanout_tenant", Access::Write)?;
    match result {
        Ok(id) => note(&outcomes, line, &tenant.name, FanoutState::Enqueued, Some(id), None),
        Err(reason) => note(&outcomes, line, &tenant.name, FanoutState::Skipped, None, Some(&reason.into())),
    }
    Ok(begun)
}

/// False: there is no such line to begin. A tenant may write what it likes into its own rows, but what
/// others see of a definition is the definition's.
fn begin_line(tenant: &Tenant, all: &OfAll, row: &Row<Schedules>, line: Id, fire_time: At) -> Result<bool> {
    let name = row.get(Schedules::NAME).unwrap_or("");
    let definitions = open("schedule_all", Access::Read)?;
    let Some(definition) = of_all::find(&definitions, name) else { return Ok(false) };
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
            definition.text(Schedules::HANDLER).into(),
            definition.text(Schedules::CREATED_BY).unwrap_or_default().into(),
            definition.get(Schedules::BY_SUPERUSER).unwrap_or(false).into(),
        ],
    )?;
    let names = tenants_of(&definition);
    // Where the rule is of each tenant's own zone, some fire at other times.
    let zones = if !definition.has(Schedules::TZ) { Some(zones_that_fire(&schedule, fire_time)?) } else { None };
    run(
        &format!(
            "INSERT INTO tenant_q.fanout_tenant (fanout, tenant, state, reason)
             SELECT $1, x.name, CASE WHEN x.reason IS NULL THEN 'o' ELSE 's' END::pg_catalog.\"char\", x.reason FROM (
                 SELECT t.name, coalesce({}, (SELECT o.reason FROM tenant_q.fanout_tenant o WHERE o.fanout OPERATOR(pg_catalog.=) $6
                                                AND o.tenant OPERATOR(pg_catalog.=) t.name AND o.state OPERATOR(pg_catalog.=) 's')) AS reason
                   FROM tenant_q.tenant t
                  WHERE ($3 IS NULL OR t.name OPERATOR(pg_catalog.=) ANY ($3)) AND ($4 IS NULL OR coalesce(t.timezone, $7) OPERATOR(pg_catalog.=) ANY ($4))
                    AND t.attached_at OPERATOR(pg_catalog.<=) $5) x",
            crate::fanout::lines::LEFT_OUT
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
    crate::fanout::lines::prune_later(name);
    Ok(true)
}

fn fires_at(plan: &Plan, fire_time: At) -> bool {
    plan.next_after(instant(fire_time) - chrono::TimeDelta::microseconds(1)).map(At::from) == Some(fire_time)
}

/// Whether there are so many later lines, or will be, that this one would be pruned at once: a tenant that
/// makes up for a long time would write a row for every tenant and fire time.
fn is_outdated(schedule: &Schedule, name: &str, fire_time: At) -> Result<bool> {
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
    let later = crate::fanout::lines::document(
        "SELECT pg_catalog.to_jsonb(pg_catalog.count(*)) FROM (SELECT FROM tenant_q.fanout f WHERE f.kind OPERATOR(pg_catalog.<>) 'd'
            AND f.name OPERATOR(pg_catalog.=) $1 AND f.fire_time OPERATOR(pg_catalog.>) $2 ORDER BY f.fire_time LIMIT $3) x",
        &[name.into(), call::timestamp(fire_time).into(), keep.into()],
    )?;
    Ok(later.and_then(|n| n.as_i64()).is_some_and(|n| n >= keep))
}

/// Of the zones that tenants have, those in which the schedule fires at this very instant.
fn zones_that_fire(schedule: &Schedule, fire_time: At) -> Result<Vec<String>> {
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
