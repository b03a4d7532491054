//! SQL: tasks of all tenants (tq_async_all) and what became of them (tq_fanouts).

use crate::calls::tenants::require_any_handler;
use crate::fanout::lines;
use crate::postgres::call::{self, Args, Ret};
use crate::postgres::error::{Error, Result};
use crate::postgres::relation::{Access, Value};
use crate::postgres::sqlstate::SqlState;
use crate::postgres::{catalog, clock, sandbox, transaction};
use crate::pure::ids;
use crate::shared::wake;
use crate::task::new::{NewTask, task_object};
use crate::tenant::rights::{self, Caller};
use crate::tenant::{self, records};
use crate::{settings, sql_functions};
use pgrx::Spi;
use serde_json::Value as Json;

/// Names of a `tenants =>` parameter, all of them tenants.
pub fn check_tenants(names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Err(Error::invalid("tenants is empty").hint("Leave it out for all tenants."));
    }
    let known = sandbox::as_extension(|| {
        Spi::connect(|c| {
            c.select(
                "SELECT n FROM pg_catalog.unnest($1) n WHERE NOT EXISTS (SELECT FROM tenant_q.tenant t WHERE t.name OPERATOR(pg_catalog.=) n) LIMIT 1",
                None,
                &[names.to_vec().into()],
            )?
            .map(|row| row.get::<String>(1))
            .collect::<std::result::Result<Vec<_>, _>>()
        })
    })
    .map_err(lines::spi)?;
    match known.into_iter().flatten().next() {
        None => Ok(()),
        Some(unknown) => Err(tenant::not_attached(&unknown)).map_err(|e| Error::undefined(format!("tenants: {}", e.message))),
    }
}

/// tq_async_all(handler, args, tenants, stagger, task)
fn async_all(args: &Args) -> Result<Ret> {
    transaction::require_writable(c"SELECT tq_async_all()");
    let handler = args.text(0).filter(|h| !h.is_empty()).ok_or_else(|| {
        Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "handler is null or empty").hint("Pass the name of a registered handler.")
    })?;
    require_any_handler(&handler)?;
    let document = args.json(4);
    let mut base = document.as_ref().map_or(Ok(NewTask::default()), |d| task_object(&d.value()))?;
    if !base.handler.is_empty() || base.args.is_some() || base.id.is_some() {
        return Err(Error::invalid("task says what the call says: handler, args or id")
            .hint("Leave these keys out; every tenant's task gets an id of its own."));
    }
    base.args = args.json(1);
    base.check()?;
    base.refuse_sync("all tenants")?;
    if let Some(names) = args.texts(2) {
        check_tenants(&names)?;
    }
    if args.interval(3).is_some_and(|i| i < 0) {
        return Err(Error::invalid("stagger is negative"));
    }
    let user = sandbox::current_user();
    let caller = Caller { name: catalog::role_name(user.to_u32()).unwrap_or_default(), superuser: sandbox::is_superuser(user) };
    let (id, now) = (ids::new_id(), clock::now());
    let name = base.name.clone().unwrap_or_else(|| handler.clone());
    records::open("fanout", Access::Write)?.insert(&[
        Value::Uuid(id),
        Value::Char(lines::kind::TASKS),
        Value::Text(&name),
        Value::Time(now),
        Value::Text(&handler),
        Value::json(base.args.as_ref()),
        Value::json(document.as_ref()),
        args.value(2),
        args.value(3),
        Value::Text(&caller.name),
        Value::Bool(caller.superuser),
        Value::Time(now),
        Value::Null,
        Value::Time(now),
    ]);
    wake::fan_out();
    if crate::shared::get().is_none() {
        crate::postgres::shmem::warn_not_preloaded();
    }
    Ok(Ret::Uuid(id))
}

/// Names of the tenants that the caller may see; None = all.
pub fn visible() -> Result<Option<Vec<String>>> {
    if rights::sees_all() {
        return Ok(None);
    }
    Ok(Some(rights::visible_tenants()?.into_iter().map(|(name, ..)| name).collect()))
}

/// The state of row `a` of tenant_q.fanout_tenant: nobody waits for what is no tenant any more. (Its row said so,
/// unless it was written while the tenant was on its way out.)
const STATE_NOW: &str = "CASE WHEN a.state OPERATOR(pg_catalog.=) ANY ('{o,q}'::pg_catalog.\"char\"[])
      AND NOT EXISTS (SELECT FROM tenant_q.tenant n WHERE n.name OPERATOR(pg_catalog.=) a.tenant) THEN 's' ELSE a.state END";

/// tenant_q.fanouts(): rows of the view tq_fanouts.
fn fanouts(_args: &Args) -> Result<Ret> {
    let rows = lines::document(
        &format!("SELECT pg_catalog.jsonb_agg(x ORDER BY x.fire_time DESC, x.id DESC) FROM (
             SELECT f.id, f.name, f.handler, f.fire_time, o.tenants OPERATOR(pg_catalog.+) r.n AS tenants, o.done, o.failed,
                    o.outstanding OPERATOR(pg_catalog.+) r.n AS outstanding, o.skipped, f.spread_again IS NULL AS spread,
                    CASE WHEN f.spread_again IS NULL AND o.outstanding OPERATOR(pg_catalog.=) 0 THEN o.finished_at END AS finished_at, f.created_by
               FROM (SELECT * FROM tenant_q.fanout a WHERE a.kind OPERATOR(pg_catalog.<>) 'd' ORDER BY a.fire_time DESC, a.id DESC LIMIT $2) f,
                    LATERAL (SELECT pg_catalog.count(*) AS tenants,
                                    pg_catalog.count(*) FILTER (WHERE t.state OPERATOR(pg_catalog.=) 'd') AS done,
                                    pg_catalog.count(*) FILTER (WHERE t.state OPERATOR(pg_catalog.=) ANY ('{{f,c,e,x}}'::pg_catalog.\"char\"[])) AS failed,
                                    pg_catalog.count(*) FILTER (WHERE t.state OPERATOR(pg_catalog.=) ANY ('{{o,q}}'::pg_catalog.\"char\"[])) AS outstanding,
                                    pg_catalog.count(*) FILTER (WHERE t.state OPERATOR(pg_catalog.=) 's') AS skipped,
                                    pg_catalog.max(t.finished_at) AS finished_at
                               FROM (SELECT a.fanout, a.tenant, a.finished_at, {STATE_NOW} AS state FROM tenant_q.fanout_tenant a) t
                              WHERE t.fanout OPERATOR(pg_catalog.=) f.id AND ($1 IS NULL OR t.tenant OPERATOR(pg_catalog.=) ANY ($1))) o,
                    -- Those that its spreading has yet to reach.
                    LATERAL (SELECT CASE WHEN f.spread_again IS NULL THEN 0 ELSE
                                    (SELECT pg_catalog.count(*) FROM tenant_q.tenant t
                                      WHERE ($1 IS NULL OR t.name OPERATOR(pg_catalog.=) ANY ($1)) AND (f.tenants IS NULL OR t.name OPERATOR(pg_catalog.=) ANY (f.tenants))
                                        AND NOT EXISTS (SELECT FROM tenant_q.fanout_tenant s WHERE s.fanout OPERATOR(pg_catalog.=) f.id AND s.tenant OPERATOR(pg_catalog.=) t.name)) END AS n) r
              WHERE $1 IS NULL OR o.tenants OPERATOR(pg_catalog.+) r.n OPERATOR(pg_catalog.>) 0) x"),
        &[visible()?.into(), (settings::view_rows() as i64).into()],
    )?;
    Ok(Ret::Json(rows.unwrap_or_else(|| Json::Array(vec![]))))
}

/// tenant_q.fanout_tenants(name, fire_time, id): rows of tq_fanout_tenants.
fn fanout_tenants(args: &Args) -> Result<Ret> {
    let (name, fire_time, id) = (args.text(0), args.time(1), args.uuid(2));
    if name.is_none() && id.is_none() {
        return Err(Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "neither name nor id is given").hint("tq_fanouts has both."));
    }
    let found = lines::document(
        "SELECT pg_catalog.to_jsonb(f.id) FROM tenant_q.fanout f
          WHERE f.kind OPERATOR(pg_catalog.<>) 'd' AND ($1 IS NULL OR f.name OPERATOR(pg_catalog.=) $1) AND ($2 IS NULL OR f.fire_time OPERATOR(pg_catalog.=) $2)
            AND ($3 IS NULL OR f.id OPERATOR(pg_catalog.=) $3) ORDER BY f.fire_time DESC, f.id DESC LIMIT 1",
        &[name.into(), fire_time.and_then(call::timestamp).into(), id.map(call::uuid).into()],
    )?;
    let Some(id) = found.as_ref().and_then(Json::as_str).and_then(|t| uuid::Uuid::parse_str(t).ok()) else {
        return Err(Error::new(SqlState::NO_DATA_FOUND, "there is no such fan-out").hint("tq_fanouts shows those that are kept."));
    };
    let rows = lines::document(
        &format!("SELECT pg_catalog.jsonb_agg(x ORDER BY x.tenant) FROM (
             SELECT o.tenant, CASE o.state WHEN 'o' THEN 'expected' WHEN 'q' THEN 'enqueued' WHEN 'd' THEN 'done' WHEN 'f' THEN 'failed' WHEN 'c' THEN 'cancelled'
                                           WHEN 'e' THEN 'expired' WHEN 'x' THEN 'quarantined' ELSE 'skipped' END AS state,
                    CASE WHEN o.state OPERATOR(pg_catalog.=) 's' THEN coalesce(o.reason, 'it is no tenant any more') ELSE o.reason END AS reason, o.task, o.finished_at
               FROM (SELECT a.fanout, a.tenant, {STATE_NOW} AS state, a.task, a.reason, a.finished_at FROM tenant_q.fanout_tenant a) o
              WHERE o.fanout OPERATOR(pg_catalog.=) $1 AND ($2 IS NULL OR o.tenant OPERATOR(pg_catalog.=) ANY ($2))
             UNION ALL
             SELECT t.name, 'expected', NULL, NULL, NULL FROM tenant_q.tenant t, tenant_q.fanout f
              WHERE f.id OPERATOR(pg_catalog.=) $1 AND f.spread_again IS NOT NULL
                AND ($2 IS NULL OR t.name OPERATOR(pg_catalog.=) ANY ($2)) AND (f.tenants IS NULL OR t.name OPERATOR(pg_catalog.=) ANY (f.tenants))
                AND NOT EXISTS (SELECT FROM tenant_q.fanout_tenant s WHERE s.fanout OPERATOR(pg_catalog.=) f.id AND s.tenant OPERATOR(pg_catalog.=) t.name)) x"),
        &[call::uuid(id.as_u128()).into(), visible()?.into()],
    )?;
    Ok(Ret::Json(rows.unwrap_or_else(|| Json::Array(vec![]))))
}

sql_functions! {
    tq_async_all, pg_finfo_tq_async_all => async_all;
    tenant_q_fanouts, pg_finfo_tenant_q_fanouts => fanouts;
    tenant_q_fanout_tenants, pg_finfo_tenant_q_fanout_tenants => fanout_tenants;
}
