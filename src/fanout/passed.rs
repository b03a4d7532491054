//! What a line of tq_fanouts would wait for in vain: a fire time that a tenant won't serve any more, a task that is gone.
//!
//! Whoever passes a fire time over says so at once ([`passed_over`]): a late tick, a change or the end of the definition. What nobody
//! says, because an owner has written into the own rows, is found by a look at those who have been expected for long ([`settle`]).

use crate::fanout::lines::{self, TENANTS, note, spi};
use crate::postgres::error::Result;
use crate::postgres::relation::Access;
use crate::postgres::row::Row;
use crate::postgres::{call, catalog, sandbox};
use crate::pure::ids::Id;
use crate::pure::state::FanoutState;
use crate::pure::time::At;
use crate::schedules::follow::Notes;
use crate::schedules::of_all;
use crate::schedules::row::ROW;
use crate::tenant::columns::{Results, Schedules, Tasks};
use crate::tenant::records::open;
use crate::tenant::{self, Tenant};
use pgrx::Spi;
use pgrx::datum::DatumWithOid;

/// Lines of one name, and of one tenant in them, that one look is about.
const LINES: i64 = 1000;
/// The newest lines of a name that are looked at for those who have been expected for long.
const NEWEST: i64 = 5;

/// Says of the lines of this name that expect the tenant, and whose fire times come before `to`, that it has been passed over.
pub fn passed_over(tenant: &Tenant, name: &str, to: At, reason: impl Fn(At) -> String) -> Result<()> {
    let before = if to == At::NEVER { None } else { call::timestamp(to) };
    let expected = ids(
        "SELECT f.id, f.fire_time FROM tenant_q.fanout f, tenant_q.fanout_tenant o
          WHERE f.kind OPERATOR(pg_catalog.=) 'f' AND f.name OPERATOR(pg_catalog.=) $1 AND f.fire_time OPERATOR(pg_catalog.<) coalesce($2, 'infinity')
            AND o.fanout OPERATOR(pg_catalog.=) f.id AND o.tenant OPERATOR(pg_catalog.=) $3 AND o.state OPERATOR(pg_catalog.=) 'o' LIMIT $4",
        &[name.into(), before.into(), tenant.name.as_str().into(), LINES.into()],
    )?;
    if expected.is_empty() {
        return Ok(());
    }
    let outcomes = open("fanout_tenant", Access::Write)?;
    for (line, fire_time) in expected {
        note(&outcomes, line, &tenant.name, FanoutState::Skipped, None, Some(&reason(fire_time).into()));
    }
    Ok(())
}

/// Two columns, an id and an instant.
fn ids(sql: &str, args: &[DatumWithOid]) -> Result<Vec<(Id, At)>> {
    sandbox::as_extension(|| {
        Spi::connect(|c| {
            c.select(sql, None, args)?
                .map(|row| {
                    let id = row.get::<pgrx::Uuid>(1)?.map_or(Id::NIL, |id| Id::of_bytes(*id.as_bytes()));
                    Ok((id, row.get::<pgrx::datum::TimestampWithTimeZone>(2)?.map_or(At::UNSET, |at| At::of_micros(at.into()))))
                })
                .collect::<std::result::Result<Vec<_>, pgrx::spi::Error>>()
        })
    })
    .map_err(spi)
}

/// One look at the tenants behind `behind` that lines of this name, some time after their beginning, still wait for. Whoever has
/// something to serve or to end is waited for; of the others it is said that they have not. The last one, where there may be more.
pub fn settle(name: &str, behind: &str) -> Result<Option<String>> {
    let awaited: Vec<String> = sandbox::as_extension(|| {
        Spi::connect(|c| {
            c.select(
                "SELECT DISTINCT o.tenant FROM tenant_q.fanout_tenant o, (
                     SELECT f.id FROM tenant_q.fanout f
                      WHERE f.kind OPERATOR(pg_catalog.<>) 'd' AND f.name OPERATOR(pg_catalog.=) $1 AND f.spread_again IS NULL
                        AND f.created_at OPERATOR(pg_catalog.<) (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) '1 minute'::pg_catalog.interval)
                      ORDER BY f.fire_time DESC LIMIT $2) f
                  WHERE o.fanout OPERATOR(pg_catalog.=) f.id AND o.state OPERATOR(pg_catalog.=) ANY ('{o,q}'::pg_catalog.\"char\"[]) AND o.tenant OPERATOR(pg_catalog.>) $3
                  ORDER BY 1 LIMIT $4",
                None,
                &[name.into(), NEWEST.into(), behind.into(), (TENANTS as i64).into()],
            )?
            .map(|row| Ok(row.get::<String>(1)?.unwrap_or_default()))
            .collect::<std::result::Result<Vec<_>, pgrx::spi::Error>>()
        })
    })
    .map_err(spi)?;
    for tenant in &awaited {
        // Of one that is no tenant any more the view says so itself.
        if let Some(Ok(tenant)) = catalog::schema_oid(tenant).map(tenant::by_oid)
            && tenant::keep(&tenant)?
        {
            settle_in(&tenant, name)?;
        }
    }
    Ok(awaited.last().filter(|_| awaited.len() == TENANTS).cloned())
}

fn settle_in(tenant: &Tenant, name: &str) -> Result<()> {
    // Tables that can't be opened now are looked at another time.
    let open_now = || Some((tenant.try_open(tenant.schedule, Access::Read).ok()??, tenant.try_open(tenant.task, Access::Read).ok()??));
    let Some((schedules, tasks)) = open_now() else { return Ok(()) };
    let Some(results) = tenant.try_open(tenant.result, Access::Read).ok().flatten() else { return Ok(()) };
    if let Some((to, reason)) = serves_from(of_all::find(&schedules.fetch_at_most(ROW), name)) {
        passed_over(tenant, name, to, |_| reason.clone())?;
    }
    let enqueued = ids(
        "SELECT o.task, f.created_at FROM tenant_q.fanout f, tenant_q.fanout_tenant o
          WHERE f.kind OPERATOR(pg_catalog.<>) 'd' AND f.name OPERATOR(pg_catalog.=) $1 AND o.fanout OPERATOR(pg_catalog.=) f.id
            AND o.tenant OPERATOR(pg_catalog.=) $2 AND o.state OPERATOR(pg_catalog.=) 'q' LIMIT $3",
        &[name.into(), tenant.name.as_str().into(), LINES.into()],
    )?;
    // In the snapshot that has shown the rows: a task that ends meanwhile changes its row, and this update is the one that is lost.
    let (tasks, results) = (tasks.fetch_at_most(0), results.fetch_at_most(0));
    let is_gone = |id: Id| tasks.find(Tasks::ID.equals(id)).is_none() && results.find(Results::ID.equals(id)).is_none();
    for (task, _) in enqueued.into_iter().filter(|(task, _)| is_gone(*task)) {
        lines::run(
            "UPDATE tenant_q.fanout_tenant SET state = 's', reason = 'its task is gone: somebody has deleted its row'
              WHERE tenant OPERATOR(pg_catalog.=) $1 AND task OPERATOR(pg_catalog.=) $2 AND state OPERATOR(pg_catalog.=) 'q'",
            &[tenant.name.as_str().into(), call::uuid(task).into()],
        )?;
    }
    Ok(())
}

/// What comes before this time the tenant's schedule won't serve, and why. None: nobody can say.
fn serves_from(row: Option<Row<Schedules>>) -> Option<(At, String)> {
    let Some(row) = row else { return Some((At::NEVER, "the tenant has no such schedule any more".into())) };
    if row.outside > ROW {
        return None;
    }
    if !of_all::is_of_all(&row) {
        return Some((At::NEVER, "the tenant has a schedule of its own of this name".into()));
    }
    if row.get(Schedules::ENABLED) != Some(true) {
        return Some((At::NEVER, "the tenant's schedule is disabled".into()));
    }
    let notes = Notes::of(&row);
    let next = if notes.released.is_some() { notes.planned } else { row.get(Schedules::NEXT_RUN) };
    Some(match (next, row.text(Schedules::PROBLEM)) {
        (Some(next), _) => (next, "the tenant's schedule is past this time".into()),
        (None, Some(problem)) => (At::NEVER, format!("the tenant's schedule doesn't fire: {problem}")),
        (None, None) => (At::NEVER, "the tenant's schedule has no further fire time".into()),
    })
}

/// Names of which there are lines: all are to be looked at.
pub fn look_at_all() -> Result<()> {
    let names: Vec<String> = sandbox::as_extension(|| {
        Spi::connect(|c| {
            c.select(
                "SELECT DISTINCT f.name FROM tenant_q.fanout f WHERE f.kind OPERATOR(pg_catalog.<>) 'd' ORDER BY 1 LIMIT 1000",
                None,
                &[],
            )?
            .map(|row| Ok(row.get::<String>(1)?.unwrap_or_default()))
            .collect::<std::result::Result<Vec<_>, pgrx::spi::Error>>()
        })
    })
    .map_err(spi)?;
    names.iter().for_each(|name| lines::prune_later(name));
    Ok(())
}
