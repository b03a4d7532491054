//! What is noted of a handler that is missing, back, or crashes the server.

use crate::handler::Handler;
use crate::postgres::caught::Failure;
use crate::postgres::error::Result;
use crate::postgres::sandbox;
use crate::postgres::sqlstate::SqlState;
use crate::pure::time::{At, Span};
use crate::tenant::records::{announce_registry, run};
use crate::tenant::{Tenant, registry};
use pgrx::{JsonB, Spi};
use serde_json::{Value as Json, json};

/// Nothing that was noted of this shared handler in single tenants holds any more; or, in one tenant, because it has
/// its own of that name now.
pub fn forget_states(tenant: Option<&str>, name: &str) -> Result<()> {
    if registry()?.handler_state.is_none() {
        return Ok(());
    }
    let sql =
        "DELETE FROM tenant_q.handler_state WHERE name OPERATOR(pg_catalog.=) $2 AND ($1 IS NULL OR tenant OPERATOR(pg_catalog.=) $1)";
    run(sql, &[tenant.into(), name.into()]).map(|_| ())
}

/// Remembers since when the handler can't be called in this tenant.
pub fn note_missing(tenant: &Tenant, handler: &Handler) -> std::result::Result<(), Failure> {
    if handler.missing_since.is_some() {
        return Ok(());
    }
    let sql = if handler.shared {
        "INSERT INTO tenant_q.handler_state AS s (tenant, name, missing_since) VALUES ($1, $2, pg_catalog.clock_timestamp())
         ON CONFLICT (tenant, name) DO UPDATE SET missing_since = coalesce(s.missing_since, EXCLUDED.missing_since)"
    } else {
        "UPDATE tenant_q.handler SET missing_since = pg_catalog.clock_timestamp()
          WHERE tenant OPERATOR(pg_catalog.=) $1 AND name OPERATOR(pg_catalog.=) $2 AND missing_since IS NULL"
    };
    run(sql, &[tenant.name.as_str().into(), handler.name.as_str().into()])?;
    announce_registry()?;
    Ok(())
}

/// The handler can be called again: when it vanishes once more, its time counts anew.
pub fn note_back(tenant: &Tenant, handler: &Handler) -> std::result::Result<(), Failure> {
    if handler.missing_since.is_none() {
        return Ok(());
    }
    let table = if handler.shared { "handler_state" } else { "handler" };
    run(
        &format!(
            "UPDATE tenant_q.{table} SET missing_since = NULL WHERE tenant OPERATOR(pg_catalog.=) $1 AND name OPERATOR(pg_catalog.=) $2 RETURNING 1"
        ),
        &[tenant.name.as_str().into(), handler.name.as_str().into()],
    )?;
    announce_registry()?;
    Ok(())
}

/// Tenants that one CREATE FUNCTION looks into; where a shared handler is missing in more of them, a sweep does.
pub const LOOKED_INTO: usize = 50;

/// So many tenants, of as many owners, in which a shared handler was stopped within a day: then it is the function's own
/// fault and not what one of them gives it, and it is stopped for all.
const TENANTS_CONVICT: i64 = 3;

/// Remembers a crash of the server by a task of this handler, and quarantines the handler in this
/// tenant after `limit` crashes within `window` by two or more tasks.
pub fn note_crash(tenant: &Tenant, name: &str, id: &str, window: Span, limit: i32) -> std::result::Result<(), Failure> {
    let Some(handler) = crate::handler::find(tenant, name)? else { return Ok(()) };
    sandbox::as_extension(|| write_crash(tenant, &handler, id, window, limit))
}

fn write_crash(tenant: &Tenant, handler: &Handler, id: &str, window: Span, limit: i32) -> std::result::Result<(), Failure> {
    let now = crate::postgres::clock::now();
    let fail = |e: pgrx::spi::Error| Failure::new(SqlState::INTERNAL_ERROR, e.to_string());
    let (who, name) = (tenant.name.as_str(), handler.name.as_str());
    let table = if handler.shared { "handler_state" } else { "handler" };
    let known: Option<Option<JsonB>> = Spi::connect(|c| {
        c.select(
            &format!("SELECT crashes FROM tenant_q.{table} WHERE tenant OPERATOR(pg_catalog.=) $1 AND name OPERATOR(pg_catalog.=) $2"),
            Some(1),
            &[who.into(), name.into()],
        )?
        .map(|row| row.get::<JsonB>(1))
        .next()
        .transpose()
    })
    .map_err(fail)?;
    let mut crashes: Vec<Json> = match known.flatten() {
        Some(JsonB(Json::Array(c))) => c,
        _ => vec![],
    };
    crashes.retain(|c| c[0].as_i64().is_some_and(|t| now - At::of_micros(t) < window));
    crashes.push(json!([now, id]));
    let mut ids: Vec<&str> = crashes.iter().filter_map(|c| c[1].as_str()).collect();
    ids.sort();
    ids.dedup();
    let convicted = crashes.len() >= limit as usize && ids.len() >= 2;
    let values = [who.into(), name.into(), JsonB(Json::Array(crashes)).into(), convicted.into()];
    const STOPPED: &str = "CASE WHEN $4 THEN pg_catalog.clock_timestamp() END";
    if handler.shared {
        Spi::run_with_args(
            &format!(
                "INSERT INTO tenant_q.handler_state AS s (tenant, name, crashes, quarantined) VALUES ($1, $2, $3, {STOPPED})
                 ON CONFLICT (tenant, name) DO UPDATE SET crashes = EXCLUDED.crashes, quarantined = coalesce(s.quarantined, EXCLUDED.quarantined)"
            ),
            &values,
        )
        .map_err(fail)?;
    } else {
        Spi::run_with_args(
            &format!(
                "UPDATE tenant_q.handler SET crashes = $3, quarantined = coalesce(quarantined, {STOPPED})
                  WHERE tenant OPERATOR(pg_catalog.=) $1 AND name OPERATOR(pg_catalog.=) $2"
            ),
            &values,
        )
        .map_err(fail)?;
    }
    // Where nothing is pinned it is another function in each tenant.
    if handler.shared && convicted {
        Spi::run_with_args(
            "UPDATE tenant_q.handler SET quarantined = pg_catalog.clock_timestamp()
              WHERE tenant OPERATOR(pg_catalog.=) '' AND name OPERATOR(pg_catalog.=) $1 AND identity IS NOT NULL AND quarantined IS NULL
                AND $2 OPERATOR(pg_catalog.<=) (SELECT pg_catalog.count(DISTINCT t.owner) FROM tenant_q.handler_state s JOIN tenant_q.tenant t ON t.name OPERATOR(pg_catalog.=) s.tenant
                     WHERE s.name OPERATOR(pg_catalog.=) $1 AND s.quarantined OPERATOR(pg_catalog.>) (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) pg_catalog.make_interval(secs => $3)))",
            &[name.into(), TENANTS_CONVICT.into(), window.seconds().into()],
        )
        .map_err(fail)?;
    }
    announce_registry()?;
    Ok(())
}
